"""Parameters and speed of nn.RNN, nn.LSTM and nn.GRU at equal hidden size.

    python benchmarks/cells.py
    python benchmarks/cells.py --hidden 256 --repeats 21

One training step is forward and backward over a batch (B, T, E); time is a median.  The
cells take turns, because a machine's speed drifts.  Prints the README's table; each run
adds its lines to benchmarks/cells.jsonl.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import scoreboard

import rnn_utils as utils

RECORD = ROOT / "benchmarks" / "cells.jsonl"
CELLS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


def seconds(layer, x):
    """What one training step on x (B, T, E) takes."""
    start = time.perf_counter()
    layer(x)[0].sum().backward()
    return time.perf_counter() - start


def measure(args):
    """One result for each cell."""
    torch.manual_seed(0)
    x = torch.randn(args.batch, args.steps, args.hidden)  # (B, T, E), E = H
    size = (args.hidden, args.hidden)
    layers = {name: cell(*size, batch_first=True) for name, cell in CELLS.items()}
    times = {name: [] for name in CELLS}
    for turn in range(args.repeats + 1):
        for name, layer in layers.items():
            took = seconds(layer, x)
            if turn:  # the first time, memory is still being found
                times[name].append(took)
    rest = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    rest |= {"processor": scoreboard.processor(), "date": time.strftime("%Y-%m-%d")}
    for name, layer in layers.items():
        took = 1000 * statistics.median(times[name])
        own = {"cell": name, "parameters": utils.count_parameters(layer)}
        yield own | {"milliseconds": round(took, 1)} | vars(args) | rest


def main(argv=None):
    parser = utils.make_parser(__doc__)
    sizes = {"hidden": 128, "batch": 64, "steps": 100, "repeats": 51}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=utils.whole(1), default=value)
    results = list(measure(parser.parse_args(argv)))
    base = results[0]
    print("| cell | parameters | a training step, ms | against RNN |")
    print("| --- | --- | --- | --- |")
    for row in results:
        ratio = row["milliseconds"] / base["milliseconds"]
        row["against_rnn"] = round(ratio, 2)
        size, took = f"{row['parameters']:,}", f"{row['milliseconds']:.1f}"
        print(f"| {row['cell']} | {size} | {took} | {ratio:.2f} |")
    with RECORD.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in results)


if __name__ == "__main__":
    sys.exit(utils.run(main))
