"""What our training loop costs beyond the network itself, for each training lesson.

    python benchmarks/overhead.py                 every lesson that is listed
    python benchmarks/overhead.py 04 --pairs 21

Two epochs are timed in turn, and the median of their ratios is printed:

    ours   as the lesson trains: batches drawn and built, the loop of rnn_utils, its sums
           and gradient norms, the schedule, the training state written to disk
    bare   zero_grad, forward, loss, backward, clip and optimiser step over batches that
           were built beforehand, and nothing else

In turn, because a machine's speed drifts; a ratio of neighbours does not.
"""

import importlib.util
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import rnn_utils as utils


def load_lesson(name):
    """A lesson as a module: its file name starts with a digit, so import cannot name it."""
    spec = importlib.util.spec_from_file_location("lesson_" + name, ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lesson_04(flags):
    """(model, train Batches, step, bare loss, args, model card) of the default run."""
    lesson = load_lesson("04_simple_rnn")
    args = utils.parse_flags(lesson.make_flags(), flags, lesson.__file__)
    source, lines = lesson.read_names(args)
    parts = lesson.split_without_leak(lines)
    about = lesson.new_card(source, parts, args)
    data = lesson.load_names(source, parts, about, args)
    model = lesson.NameClassifier(**about["config"]).to(args.device)

    def bare_loss(model, batch):
        return F.cross_entropy(lesson.forward(model, batch), batch["label"])

    return model, data.batches[0], lesson.step, bare_loss, args, about


def lesson_05(flags):
    lesson = load_lesson("05_lstm_sentiment")
    args = utils.parse_flags(lesson.make_flags(), flags, lesson.__file__)
    offline = {"sample": utils.SAMPLES / "reviews.csv"}
    source = utils.choose_dataset(args, ["imdb"], offline)
    reviews = utils.load_reviews(args, source)
    about = lesson.new_card(source, reviews, args)
    data = lesson.load_data(source, reviews, about, args)
    model = lesson.Classifier(**about["config"]).to(args.device)

    def bare_loss(model, batch):
        return F.cross_entropy(lesson.forward(model, batch), batch["label"])

    return model, data.batches[0], lesson.step, bare_loss, args, about


def lesson_07(flags):
    lesson = load_lesson("07_bidirectional_rnn")
    args = utils.parse_flags(lesson.make_flags(flags), flags, lesson.__file__)
    real, sample = lesson.DATASETS[args.task]
    offline = {"sample": utils.SAMPLES / sample}
    source = utils.choose_dataset(args, [real], offline)
    data = lesson.load_data(source, args)
    about = lesson.new_card(data, args)
    model = lesson.Network(**about["config"]).to(args.device)

    def bare_loss(model, batch):
        truth = batch["label"].flatten()
        scores = model(batch).flatten(0, 1)
        return F.cross_entropy(scores, truth, ignore_index=lesson.NO_TAG)

    return model, data.batches[0], lesson.step, bare_loss, args, about


def lesson_10(flags):
    lesson = load_lesson("10_text_generation")
    args = utils.parse_flags(lesson.make_flags(flags), flags, lesson.__file__)
    source, text = lesson.read_corpus(args)
    about = lesson.new_card(source, text, args)
    corpus = lesson.load_corpus(source, text, args.level, about["vocabulary"], args)
    shape = args.batch_size, args.sequence_length
    train = lesson.Streams(corpus.ids[0], *shape, args.device, shuffle=True)
    model, carried = lesson.NextToken(**about["config"]).to(args.device), {}

    def bare_loss(model, batch):
        state = None if batch["first"] else carried["state"]
        scores, state = model(batch["input"], state)
        carried["state"] = lesson.detach(state)
        return F.cross_entropy(scores.flatten(0, 1), batch["target"].flatten())

    return model, train, lesson.make_step(), bare_loss, args, about


LESSONS = {
    "04": (lesson_04, []),
    "05": (lesson_05, []),
    "07-classify": (lesson_07, []),
    "07-tag": (lesson_07, ["--task", "tag"]),
    "10": (lesson_10, []),
}


def bare_epoch(model, batches, loss_of, optimizer, scheduler, args):
    """Nothing but the network, on batches already in memory."""
    model.train()
    parameters = list(model.parameters())
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        loss_of(model, batch).backward()
        nn.utils.clip_grad_norm_(parameters, args.clip)
        optimizer.step()


def our_epoch(model, train, step, optimizer, scheduler, args, about):
    """One epoch as `fit` runs it, without validation."""
    record = utils.train_epoch(model, step, train, optimizer, scheduler, args)
    run = {"records": [record], "best": record, "best_weights": model.state_dict()}
    state = utils.random_state()
    where = Path(args.out_dir) / "last.pt"
    utils.write_progress(where, model, optimizer, scheduler, run, state, args, about)


def measure(name, pairs, flags):
    """Seconds of (ours, bare) for each pair of epochs; the order alternates."""
    build, own = LESSONS[name]
    model, train, step, loss_of, args, about = build([*own, *flags])
    optimizer = utils.OPTIMIZERS[args.optimizer](model.parameters(), args)
    steps = (pairs + 1) * len(train)
    scheduler = utils.make_scheduler(optimizer, steps, args, "one-cycle")
    ready = list(train)

    def ours():
        our_epoch(model, train, step, optimizer, scheduler, args, about)

    def bare():
        bare_epoch(model, ready, loss_of, optimizer, scheduler, args)

    seconds = []
    for pair in range(pairs + 1):
        took = {}
        for epoch in (ours, bare) if pair % 2 else (bare, ours):
            start = time.perf_counter()
            epoch()
            took[epoch] = time.perf_counter() - start
        seconds.append((took[ours], took[bare]))
    return seconds[1:]  # the first pair warms up


def main(argv=None):
    parser = utils.make_parser(__doc__)
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="such as 04")
    parser.add_argument("--pairs", type=utils.whole(1, 1000), default=11)
    parser.add_argument("--data-dir", help="default: $RNN_DATA_DIR, else data")
    parser.add_argument("--dataset", default="auto")
    args = parser.parse_args(argv)
    for name in args.lessons or LESSONS:
        if name not in LESSONS:
            raise utils.UserError(f"no lesson {name}; there are: {', '.join(LESSONS)}")
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--out-dir", folder, "--dataset", args.dataset]
            flags += ["--data-dir", args.data_dir] if args.data_dir else []
            seconds = measure(name, args.pairs, flags)
        ratios = sorted(ours / bare for ours, bare in seconds)
        print(
            f"{name}: ours / bare {statistics.median(ratios):.3f} "
            f"(from {ratios[0]:.3f} to {ratios[-1]:.3f}, {len(ratios)} pairs); "
            f"bare epoch {statistics.median(b for _, b in seconds):.3f} s, "
            f"{torch.get_num_threads()} threads"
        )


if __name__ == "__main__":
    sys.exit(utils.run(main))
