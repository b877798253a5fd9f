"""What our training loop costs beyond the network itself, for each training lesson.

    python benchmarks/overhead.py                 every lesson that is listed
    python benchmarks/overhead.py 04 --pairs 21

Two epochs, or their first 100 batches, are timed in turn, and the median of their
ratios is printed:

    ours   as the lesson trains: batches drawn and built, the loop of rnn_utils with its
           sums and norms, the schedule, the training state written to disk at the end
    bare   zero_grad, forward, loss, backward, clip and optimiser step over batches that
           were built beforehand, and nothing else

In turn, because a machine's speed drifts; a ratio of neighbours does not.  The state is
written after 100 batches as after a whole epoch: so the ratio is rather too large.
"""

import contextlib
import copy
import importlib.util
import io
import os
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import rnn_utils as utils

LESSONS = {
    "04": ["04_simple_rnn"],
    "05": ["05_lstm_sentiment"],
    "06": ["06_gru_time_series"],
    "07-classify": ["07_bidirectional_rnn"],
    "07-tag": ["07_bidirectional_rnn", "--task", "tag"],
    "08-reverse": ["08_seq2seq_basic"],
    "08-translate": ["08_seq2seq_basic", "--task", "translate"],
    "09": ["09_attention_mechanism"],
    "10": ["10_text_generation"],
}


class Captured(Exception):
    """Carries what a lesson hands to `fit` out of its main."""


class First:
    """The first `most` batches of an epoch."""

    def __init__(self, batches, most):
        self.batches = batches
        self.most = most

    def __len__(self):
        return min(self.most, len(self.batches))

    def __iter__(self):
        return islice(iter(self.batches), self.most)


def capture(name, flags, most):
    """(model, measure, the first `most` batches, args, config, feeds) of a lesson."""
    script, *own = LESSONS[name]
    spec = importlib.util.spec_from_file_location("lesson", ROOT / f"{script}.py")
    lesson = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lesson)
    real_fit = utils.fit

    def fit(model, measure, train, val, args, config=None, feeds=None, **more):
        if config is None:  # a side experiment goes its way
            return real_fit(model, measure, train, val, args, **more)
        train = First(train, most)
        raise Captured(model, measure, train, args, config, feeds)

    utils.fit = fit
    try:
        lesson.main([*own, *flags, "--no-plots"])
    except Captured as found:
        return found.args
    finally:
        utils.fit = real_fit
    raise utils.UserError(f"{name} trained nothing")


def ours(model, measure, train, args, config, feeds):
    """Seconds of one epoch as `fit` has it, the state's file included."""
    optimizer = utils.make_optimizer(model.parameters(), args)
    scheduler = utils.make_scheduler(optimizer, len(train), args)
    path = Path(args.out_dir) / "last.pt"
    start = time.perf_counter()
    utils.train_epoch(model, measure, train, optimizer, scheduler, args, 1)
    utils.release_memory()
    training = {"optimizer": optimizer.state_dict(), "current": model.state_dict()}
    utils.save(path, args, utils.copy_weights(model), config, feeds, training)
    return time.perf_counter() - start


def bare(model, measure, batches, args):
    """Seconds of the same steps, and of nothing else."""
    optimizer = utils.make_optimizer(model.parameters(), args)
    model.train()
    start = time.perf_counter()
    for batch in batches:
        optimizer.zero_grad()
        measure(model, batch)["loss"].mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
    return time.perf_counter() - start


def measure_ratio(name, pairs, most, flags):
    """[(seconds of ours, seconds of bare)], from the same weights each time."""
    model, measure, train, args, config, feeds = capture(name, flags, most)
    weights = copy.deepcopy(model.state_dict())
    found = []
    for _ in range(pairs + 1):  # the first pair warms up
        model.load_state_dict(weights)
        first = ours(model, measure, train, args, config, feeds)
        model.load_state_dict(weights)
        utils.seed_epoch(args.seed, 1)
        built = list(train)
        found.append((first, bare(model, measure, built, args)))
    return found[1:]


def main(argv=None):
    parser = utils.make_parser(__doc__)
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="such as 04")
    parser.add_argument("--pairs", type=utils.whole(1, 1000), default=5)
    most = "of an epoch, at most (default 100)"
    parser.add_argument("--batches", type=utils.whole(1), default=100, help=most)
    parser.add_argument("--threads", type=utils.whole(1), help="as in the lessons")
    default = os.environ.get("RNN_DATA_DIR") or "data"
    parser.add_argument("--data-dir", default=default, help="default: $RNN_DATA_DIR")
    args = parser.parse_args(argv)
    for name in args.lessons or LESSONS:
        if name not in LESSONS:
            raise utils.UserError(f"no lesson {name}; there are: {', '.join(LESSONS)}")
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--out-dir", folder, "--data-dir", args.data_dir]
            if args.threads:
                flags += ["--threads", str(args.threads)]
            with contextlib.redirect_stdout(io.StringIO()):
                seconds = measure_ratio(name, args.pairs, args.batches, flags)
        ratios = sorted(first / second for first, second in seconds)
        print(
            f"{name}: ours / bare {statistics.median(ratios):.3f} "
            f"(from {ratios[0]:.3f} to {ratios[-1]:.3f}, {len(ratios)} pairs); "
            f"bare {statistics.median(second for _, second in seconds):.3f} s, "
            f"{torch.get_num_threads()} thread(s)",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(utils.run(main))
