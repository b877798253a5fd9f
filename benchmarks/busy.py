"""What a busy core does to a lesson's training: seconds idle, and beside other programs.

    python benchmarks/busy.py                     every training lesson
    python benchmarks/busy.py 04 10 --batches 30

Each figure is the time of the first batches of an epoch in a process of its own, which
chooses its threads when it starts, as every lesson does (`utils.pick_threads`):

    idle       nothing else runs
    loop       beside a plain loop that keeps one core busy
    training   beside another training, that of lesson 04

The ratio that counts is busy / idle: with one of two cores taken it should be near 2 at
most.  Run it on a machine that is otherwise idle.
"""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time

import torch
from overhead import LESSONS, ROOT, capture

import rnn_utils as utils

LOOP = "while True: pass"


def time_here(name, flags, most, threads):
    """Print the seconds of the first `most` batches, and the threads that were chosen."""
    with contextlib.redirect_stdout(io.StringIO()):
        model, measure, train, args, _, _ = capture(name, flags, most)
    if threads:
        torch.set_num_threads(threads)
    took = []
    for _ in range(3):
        optimizer = utils.make_optimizer(model.parameters(), args)
        scheduler = utils.make_scheduler(optimizer, len(train), args)
        start = time.perf_counter()
        utils.train_epoch(model, measure, train, optimizer, scheduler, args, 1)
        took.append(time.perf_counter() - start)
    print(min(took), torch.get_num_threads())


def time_apart(name, args, threads=0):
    """(seconds, threads) of `time_here` in a process of its own."""
    command = [sys.executable, __file__, name, "--here", "--data-dir", args.data_dir]
    command += ["--batches", str(args.batches), "--fixed-threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise utils.UserError(f"{name} failed: {done.stderr[-500:]}")
    seconds, chosen = done.stdout.split()
    return float(seconds), int(chosen)


@contextlib.contextmanager
def beside(command):
    """While another program runs; None: nothing."""
    if command is None:
        yield
        return
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    other = subprocess.Popen(command, **quiet)
    time.sleep(12)  # until it trains
    try:
        yield
    finally:
        other.kill()
        other.wait()


def main(argv=None):
    parser = utils.make_parser(__doc__)
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="such as 04")
    parser.add_argument("--batches", type=utils.whole(1), default=30)
    default = os.environ.get("RNN_DATA_DIR") or "data"
    parser.add_argument("--data-dir", default=default, help="default: $RNN_DATA_DIR")
    parser.add_argument("--here", action="store_true", help="measure one, in here")
    parser.add_argument("--fixed-threads", type=int, default=0, help="instead of ours")
    args = parser.parse_args(argv)
    if args.here:
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--out-dir", folder, "--data-dir", args.data_dir]
            time_here(args.lessons[0], flags, args.batches, args.fixed_threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        training = [sys.executable, str(ROOT / "04_simple_rnn.py"), "--no-plots"]
        training += ["--epochs", "9999", "--out-dir", folder]
        training += ["--data-dir", args.data_dir]
        others = {"idle": None, "loop": [sys.executable, "-c", LOOP]}
        others["training"] = training
        rows = {}
        for name in args.lessons or LESSONS:
            rows[name] = {}
            for what, command in others.items():
                with beside(command):
                    seconds, threads = time_apart(name, args)
                rows[name][what] = seconds
                rows[name][f"{what}, threads"] = threads
            all_cores, _ = time_apart(name, args, os.cpu_count())
            rows[name]["idle, all cores"] = all_cores
            worst = max(rows[name]["loop"], rows[name]["training"])
            rows[name]["worst / idle"] = worst / rows[name]["idle"]
            rows[name]["idle / all cores"] = rows[name]["idle"] / all_cores
            print(name, rows[name], flush=True)
        title = f"Seconds of {args.batches} batches, {os.cpu_count()} cores"
        utils.print_table(title, rows, corner="lesson")


if __name__ == "__main__":
    sys.exit(utils.run(main))
