"""A lesson in small: few weights, milliseconds, and every flag of a lesson that trains.

What `rnn_utils` does in training is tested on it, also in processes of its own:
`python toy.py`, and `torchrun toy.py`.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import rnn_utils as utils

LESSON = "toy"
CONFIG = {"hidden": 5, "dropout": 0.5}
FEEDS = {"dataset": "made", "words": ["a", "b"]}
SOURCE = utils.Source("made", None, real=False)


class Toy(nn.Module):
    """Three numbers in, one out."""

    def __init__(self, hidden=5, dropout=0.5):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, hidden), nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, 1)
        )

    def forward(self, x):
        return self.layers(x).squeeze(-1)


def make_data(n=22, seed=7, double=False, size=4, **options):
    """Batches of rows with 1 to 4 real items each, so that equal batches count unequally."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, 3, generator=draw)
    y = x.sum(2) + torch.randn(n, 4, generator=draw)
    real = torch.arange(4) < torch.randint(1, 5, (n, 1), generator=draw)
    if double:
        x = x.double()
        y = y.double()
    return utils.Batches({"x": x, "y": y, "real": real}, size, **options)


def measure(model, batch):
    """Squared error of each real item, and whether it is small."""
    error = (model(batch["x"]) - batch["y"])[batch["real"]]
    return {"loss": error.square(), "near": (error.abs() < 1).float()}


def flags(folder, **changes):
    """What parse_flags makes of the flags: args with these changes."""
    given = {"lesson": LESSON, "seed": 0, "device": "cpu", "quick": False}
    given |= {"out_dir": str(folder), "path": str(Path(folder) / "best.pt")}
    given |= {"epochs": 5, "lr": 0.05, "batch_size": 4, "clip": 1.0, "patience": 0}
    given |= {"weight_decay": 0.01, "optimizer": "adam", "accumulate": 1}
    given |= {"precision": "fp32", "no_plots": True, "save_model": False}
    given |= {"resume": False, "eval_only": False}
    return argparse.Namespace(**{**given, **changes})


def train(args, config=CONFIG, feeds=FEEDS, **more):
    """Train from scratch, as a lesson does; returns (model, records)."""
    utils.set_seed(args.seed)
    model = Toy(**CONFIG)
    train_data = make_data(shuffle=True, size=args.batch_size)
    val_data = make_data(n=9, seed=8)
    records = utils.fit(
        model, measure, train_data, val_data, args, config, feeds, **more
    )
    return model, records


def make_flags():
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(parser, ["made"], "is not read")
    utils.add_training_flags(parser, epochs=5, batch_size=4, lr=0.05, hidden_size=5)
    return parser


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__, small=True)
    if args.eval_only:
        model, _, _ = utils.load(args, Toy, dataset="made")
        records = []
    else:
        model, records = train(args)
    scores = utils.evaluate(model, measure, make_data(n=9, seed=9), args)
    found = {f"test_{name}": value for name, value in scores.items()}
    utils.write_metrics(args, SOURCE, found, {}, records=records)


if __name__ == "__main__":
    sys.exit(utils.run(main))
