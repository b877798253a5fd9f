"""What our training loop costs beyond the network itself, for each training lesson.

    python benchmarks/overhead.py                 every lesson that is listed
    python benchmarks/overhead.py 04 --pairs 21

Two epochs, or their first 100 batches, are timed in turn, and the median of their
ratios is printed:

    ours   as the lesson trains: batches drawn and built, the loop of rnn_utils, its sums
           and gradient norms, the schedule, the training state written to disk
    bare   zero_grad, forward, loss, backward, clip and optimiser step over batches that
           were built beforehand, and nothing else

In turn, because a machine's speed drifts; a ratio of neighbours does not.  The state is
written after 100 batches as after a whole epoch: so the ratio is rather too large.
First come the seconds from the command to the first batch: cold, and with caches.
"""

import contextlib
import importlib.util
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import rnn_utils as utils


def load_lesson(name):
    """A lesson as a module: its file name starts with a digit, so import cannot name it."""
    spec = importlib.util.spec_from_file_location("lesson_" + name, ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Captured(Exception):
    """Stops a lesson where its training would begin; carries what `fit` was given."""


def capture(script, flags):
    """(lesson, model, train, step, args, about) of a lesson that was about to train."""
    lesson, fit = load_lesson(script), utils.fit

    def stop(model, step, train, val, args, about=None, **options):
        raise Captured(model, train, step, args, about)

    utils.fit = stop
    try:
        lesson.main(flags)
    except Captured as caught:
        return lesson, *caught.args
    finally:
        utils.fit = fit
    raise utils.UserError(f"{script} did not train")


# What a lesson's network must compute, and no more: loss(lesson, model, batch, memory).


def of_labels(lesson, model, batch, memory):
    return F.cross_entropy(lesson.forward(model, batch), batch["label"])


def of_forecasts(lesson, model, batch, memory):
    sums, count = lesson.step(model, batch)
    return sums["loss"] / count


def of_words(lesson, model, batch, memory):
    scores, truth = model(batch).flatten(0, 1), batch["label"].flatten()
    return F.cross_entropy(scores, truth, ignore_index=lesson.NO_TAG)


def of_pairs(lesson, model, batch, memory):
    scores = model(batch["source"], batch["source_length"], batch["target"])
    truth = batch["target"].flatten()
    return F.cross_entropy(scores.flatten(0, 1), truth, ignore_index=lesson.PAD)


def of_translations(lesson, model, batch, memory):
    truth = batch["target"][batch["target"] != lesson.PAD]
    return F.cross_entropy(model(batch), truth, label_smoothing=0.1)


def of_streams(lesson, model, batch, memory):
    state = None if batch["first"] else memory["state"]
    scores, state = model(batch["input"], state)
    memory["state"] = lesson.detach(state)
    return F.cross_entropy(scores.flatten(0, 1), batch["target"].flatten())


class Part:
    """The first `most` batches of an epoch, the same ones and dropout at every pass."""

    def __init__(self, train, most):
        self.train, self.most = train, most

    def __len__(self):
        return min(len(self.train), self.most)

    def __iter__(self):
        torch.manual_seed(0)
        return islice(iter(self.train), self.most)


class Lesson(NamedTuple):
    script: str
    loss: Callable
    flags: tuple = ()


READER, ATTENTION = "07_bidirectional_rnn", "09_attention_mechanism"
LESSONS = {
    "04": Lesson("04_simple_rnn", of_labels),
    "05": Lesson("05_lstm_sentiment", of_labels),
    "06": Lesson("06_gru_time_series", of_forecasts),
    "07-classify": Lesson(READER, of_words),
    "07-tag": Lesson(READER, of_words, ("--task", "tag")),
    "08-reverse": Lesson("08_seq2seq_basic", of_pairs),
    "08-translate": Lesson("08_seq2seq_basic", of_pairs, ("--task", "translate")),
    "10": Lesson("10_text_generation", of_streams),
}
for kind in ("none", "dot", "general", "scaled-dot-product", "additive"):
    flags = ("--attention-type", kind)
    LESSONS[f"09-{kind}"] = Lesson(ATTENTION, of_translations, flags)


def bare_epoch(model, batches, loss_of, optimizer, scheduler, args):
    """Nothing but the network, on batches already in memory."""
    model.train()
    parameters = list(model.parameters())
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        loss_of(model=model, batch=batch).backward()
        nn.utils.clip_grad_norm_(parameters, args.clip)
        optimizer.step()


def our_epoch(model, train, step, optimizer, scheduler, args, about):
    """One epoch as `fit` runs it, without validation."""
    record = utils.train_epoch(model, step, train, optimizer, scheduler, args)
    run = {"records": [record], "best": record, "best_weights": model.state_dict()}
    state = utils.random_state()
    where = Path(args.out_dir) / "last.pt"
    utils.write_progress(where, model, optimizer, scheduler, run, state, args, about)


def measure(name, pairs, most, flags):
    """Seconds of (ours, bare) for each pair of epochs; the order alternates."""
    script, loss_of, own = LESSONS[name]
    lesson, model, train, step, args, about = capture(script, [*own, *flags])
    train = Part(train, most)
    optimizer = utils.OPTIMIZERS[args.optimizer](model.parameters(), args)
    steps = (pairs + 1) * len(train)
    scheduler = utils.make_scheduler(optimizer, steps, args)
    ready, memory = list(train), {}

    def ours():
        our_epoch(model, train, step, optimizer, scheduler, args, about)

    def bare():
        torch.manual_seed(0)
        loss = partial(loss_of, lesson, memory=memory)
        bare_epoch(model, ready, loss, optimizer, scheduler, args)

    seconds = []
    for pair in tqdm(range(pairs + 1), name, leave=False, disable=None):
        took = {}
        for epoch in (ours, bare) if pair % 2 else (bare, ours):
            start = time.perf_counter()
            epoch()
            took[epoch] = time.perf_counter() - start
        seconds.append((took[ours], took[bare]))
    return seconds[1:]  # the first pair warms up


# Run as a lesson would be, in a process of its own, up to the first batch.
STARTER = """
import runpy, sys
import rnn_utils as utils
def fit(model, step, train, *rest, **options):
    next(iter(train))
    print("first batch")
    sys.exit(0)
utils.fit, sys.argv = fit, sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start_up(name, flags, data_dir):
    """Seconds from the command to the first batch: without caches, and with them.

    The caches are those that a lesson makes; files that the system holds in memory stay.
    """
    script, _, own = LESSONS[name]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        data.mkdir()
        for file in Path(data_dir).iterdir() if Path(data_dir).is_dir() else ():
            if file.suffix != ".npz":
                (data / file.name).symlink_to(file.resolve())
        command = [sys.executable, "-c", STARTER, str(ROOT / f"{script}.py"), *own]
        command += [*flags, "--data-dir", str(data)]
        clean = {"XDG_CACHE_HOME": folder, "LOCALAPPDATA": folder, "HOME": folder}
        took = []
        for _ in range(2):
            start, env = time.perf_counter(), {**os.environ, **clean}
            options = {"cwd": ROOT, "env": env, "capture_output": True, "text": True}
            done = subprocess.run(command, check=False, **options)
            took.append(time.perf_counter() - start)
            if not done.stdout.endswith("first batch\n"):
                raise utils.UserError(f"{name} did not start: {done.stderr[-500:]}")
    return took


def main(argv=None):
    parser = utils.make_parser(__doc__)
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="such as 04")
    parser.add_argument("--pairs", type=utils.whole(1, 1000), default=5)
    most = "of an epoch, at most (default 100)"
    parser.add_argument("--batches", type=utils.whole(1), default=100, help=most)
    default = os.environ.get("RNN_DATA_DIR") or "data"
    parser.add_argument("--data-dir", default=default, help="default: $RNN_DATA_DIR")
    parser.add_argument("--dataset", default="auto")
    parser.add_argument("--start-up", action="store_true", help="only the start-up")
    args = parser.parse_args(argv)
    for name in args.lessons or LESSONS:
        if name not in LESSONS:
            raise utils.UserError(f"no lesson {name}; there are: {', '.join(LESSONS)}")
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--out-dir", folder]
            if name != "08-reverse":
                flags += ["--dataset", args.dataset]
            cold, cached = start_up(name, flags, args.data_dir)
            print(f"{name}: first batch after {cold:.1f} s, cached {cached:.1f} s")
            if args.start_up:
                continue
            flags += ["--data-dir", args.data_dir]
            with contextlib.redirect_stdout(io.StringIO()):
                seconds = measure(name, args.pairs, args.batches, flags)
        ratios = sorted(ours / bare for ours, bare in seconds)
        print(
            f"{name}: ours / bare {statistics.median(ratios):.3f} "
            f"(from {ratios[0]:.3f} to {ratios[-1]:.3f}, {len(ratios)} pairs); "
            f"bare epoch {statistics.median(b for _, b in seconds):.3f} s, "
            f"{torch.get_num_threads()} threads",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(utils.run(main))
