"""06 · Does the past tell the future?

DOC
"""

# Sizes
#   n   values in the series         T   values in one window (--sequence-length)
#   N   windows (examples)           h   steps ahead (--horizon)
#   M   forecasts of one part        n1, n2   where validation and test start
#   B   batch                        H   hidden state

import sys
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import t as student
from sklearn.linear_model import LinearRegression
from torch import nn

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================


class Scaling(NamedTuple):
    """From levels to what the network reads and answers; fitted on the training span."""

    mean: float  # of what it reads
    std: float
    step: float  # root mean square of the changes from step to step: its unit of answer


class Fold(NamedTuple):
    """A series, its split and its scaling: all that one training needs."""

    values: np.ndarray  # (n,) in the series' own units
    levels: np.ndarray  # (n,) the values, or their logarithms (--target return)
    n1: int
    n2: int
    scaling: Scaling
    length: int  # T
    horizon: int  # h
    target: str


def fit_scaling(levels, target):
    """Mean and deviation of what the network will read: `levels` or their changes."""
    changes = np.diff(levels)
    seen, step = changes if target == "return" else levels, np.mean(changes**2) ** 0.5
    std = float(seen.std())
    return Scaling(float(seen.mean()), std if std > 1e-6 * step else 1.0, float(step))


def make_fold(values, length, horizon, target, scaling=None, leaky=False):
    """Split by time, 70 % 15 % 15 %; scaling from the first part alone, unless `leaky`."""
    n1, n2 = round(0.70 * len(values)), round(0.85 * len(values))
    levels = np.log(values) if target == "return" else values
    scaling = scaling or fit_scaling(levels if leaky else levels[:n1], target)
    return Fold(values, levels, n1, n2, scaling, length, horizon, target)


def network_input(past, fold):
    """Levels up to the origin (N, T + 1) -> what the network reads (N, T, 1)."""
    s = fold.scaling
    seen = np.diff(past, axis=1) if fold.target == "return" else past[:, 1:]
    return torch.tensor((seen - s.mean) / s.std, dtype=torch.float32).unsqueeze(-1)


def windows(fold, start, end):
    """Examples whose targets all lie in start ... end - 1: x (N, T, 1), y (N, h)."""
    T, h = fold.length, fold.horizon
    first = max(start - 1, T)
    whole = sliding_window_view(fold.levels[first - T : end], T + 1 + h)  # (N, T+1+h)
    past, future = whole[:, : T + 1], whole[:, T + 1 :]
    y = (future - past[:, -1:]) / fold.scaling.step
    return {"x": network_input(past, fold), "y": torch.tensor(y, dtype=torch.float32)}


def past_of(fold, start, end):
    T = fold.length
    return sliding_window_view(fold.levels[start - 1 - T : end - 1], T + 1)  # (M, T+1)


def truth_of(values, start, end, horizon):
    """What happened 1 ... h steps after each origin: (M, h), NaN from `end` on."""
    padded = np.concatenate([values[start:end], np.full(horizon - 1, np.nan)])
    return sliding_window_view(padded, horizon)


# ====================================================================================
# 2. Model
# ====================================================================================


def gru_by_hand(x, h, w_ih, w_hh, b_ih, b_hh, original=False):
    states = []
    w_r, w_z, w_n = w_hh.chunk(3)
    b_r, b_z, b_n = b_hh.chunk(3)
    for t in range(x.shape[1]):
        x_r, x_z, x_n = (x[:, t] @ w_ih.T + b_ih).chunk(3, dim=1)  # each (B, H)
        r = torch.sigmoid(x_r + h @ w_r.T + b_r)
        z = torch.sigmoid(x_z + h @ w_z.T + b_z)
        if original:
            n = torch.tanh(x_n + (r * h) @ w_n.T + b_n)
        else:
            n = torch.tanh(x_n + r * (h @ w_n.T + b_n))
        h = (1 - z) * n + z * h
        states.append(h)
    return torch.stack(states, dim=1)


class Forecaster(nn.Module):
    def __init__(self, hidden, layers, dropout, horizon):
        super().__init__()
        between = dropout if layers > 1 else 0.0
        self.gru = nn.GRU(1, hidden, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, 3 * horizon)

    def forward(self, x):
        last = self.gru(x)[0][:, -1]  # (B, H)
        return self.output(self.dropout(last)).unflatten(1, (-1, 3))  # (B, h, 3)


# ====================================================================================
# 3. Training
# ====================================================================================

LOW, HIGH = 0.1, 0.9


def forward(model, batch):
    return model(batch["x"]).float()


def pinball(y, q, level):
    return torch.maximum(level * (y - q), (level - 1) * (y - q))


def step(model, batch):
    low, mean, high = forward(model, batch).unbind(-1)
    y = batch["y"]
    square = (y - mean) ** 2
    loss = square + pinball(y, low, LOW) + pinball(y, high, HIGH)
    return {"loss": loss.mean(1).sum(), "one_step_loss": square[:, 0].sum()}, len(y)


def train_model(fold, config, args, about=None):
    utils.set_seed(args.seed)
    model = Forecaster(**config).to(args.device)
    parts = windows(fold, 0, fold.n1), windows(fold, fold.n1, fold.n2)
    train = utils.Batches(parts[0], args.batch_size, args.device, shuffle=True)
    val = utils.Batches(parts[1], 1024, args.device)
    return model, list(utils.fit(model, step, train, val, args, about, **FIT))

FIT = {}

def predict(model, fold, past, args):
    batches = utils.Batches({"x": network_input(past, fold)}, 1024, args.device)
    steps = utils.collect(model, forward, batches, args).double().numpy()
    levels = past[:, -1, None, None] + steps * fold.scaling.step  # (M, h, 3)
    return np.exp(levels) if fold.target == "return" else levels


def autoregression(fold):
    v, T, h, n1, n2 = fold.values, fold.length, fold.horizon, fold.n1, fold.n2
    whole = sliding_window_view(v[:n1], T + h)
    out = {}
    for p in [p for p in range(1, T + 1)]:
        m = LinearRegression().fit(whole[:, T - p : T], whole[:, T:])
        f = [m.predict(sliding_window_view(v[a - p : b - 1], p)) for a, b in ((n1, n2), (n2, len(v)))]
        e = np.nanmean((f[0] - truth_of(v, n1, n2, h)) ** 2, axis=0)
        out[p] = e, f[1], f[0]
    best = min(out, key=lambda p: out[p][0][0])
    return best, out[best]
