"""06 · Does the past tell the future?

Many a forecast on the web looks perfect.  Often it copies yesterday's value, in a
picture so wide that nobody sees that it comes one day late; or its numbers were scaled
with the help of the very days that it was to forecast (data leakage).  This lesson does
it honestly.  A GRU (gated recurrent unit, a simpler cousin of the LSTM) reads the last
132 values of a series and forecasts the next 12.  Beside it stand rivals that need no
network, a test of whether a difference could be luck, and a band that says how sure the
forecast is.

What you will learn
    - how one long row of numbers becomes examples, with no look into the future
    - the GRU cell by hand, beside the LSTM of lesson 05, and why it can learn from far
      back; its gate at work, step by step
    - four rivals, which a network must beat to be worth its cost (books: baselines)
    - how to tell a better forecast from a lucky one (the Diebold-Mariano test)
    - several steps ahead: asked for directly, or by feeding forecasts back
    - a band that should hold 80 % of what comes, checked against a simple one
    - what the cell and the length of the past change, measured

You need lesson 03 (why a series is split by time, and what the rivals are), lesson 04
(the recurrent network and its training loop) and lesson 05 (the LSTM).

Run it
    python 06_gru_time_series.py
    python 06_gru_time_series.py --dataset sine
    python 06_gru_time_series.py --save-model --forecast 24
    python 06_gru_time_series.py --eval-only --forecast 24
    python 06_gru_time_series.py --input my.csv --column sales

You should see  (sunspots [real], seed 0, one thread, a minute or two)
      one month ahead          RMSE    p, the GRU against it
      GRU (this lesson)       17.78
      persistence             19.73    0.001
      autoregression          18.00    0.564
    RMSE is the size of a usual error (the root of the mean squared error).  Persistence
    says the last value again; autoregression is a weighted sum of the last values.  p
    is how often two equally good forecasts would differ at least so much by chance:
    below 0.05, we call a difference more than luck.
    What another choice would have given is printed at the end.  What went badly: two
    and three months ahead it loses to the autoregression and cannot be told from
    persistence; at 12 months its band promises 80 % and holds 63 %.

Try this  (guess before your first run)
    --dataset sine                   how close to the noise can any forecast come?
    --dataset stock                  is tomorrow's price in the prices until today?
      with --leaky-scaling             a leak: in which units does it flatter?
      with --target return             the change in per cent: error and band?
    --dataset simulated              a made-up price, from chance alone: any answer?
    --sequence-length 6, then 150    who gains from more past, GRU or rival?
    --cell rnn, then --cell lstm     does the cell matter here?
    --seed 1, then 2                 how much of the result is the seed's luck?
    Each run prints its own answer.  Section 4.6 has those of the last three.

Your own series  (--input my.csv)
    A CSV file with a header, a column of dates (2000-12-31) and one of numbers; of
    several, name one (--column).  Repairs are printed: rows are sorted, of a date that
    stands twice the last counts, a missing date or an empty cell takes the value before
    it.  With the default flags it takes 194 rows or more.

How to read it: the lesson is in the comments, and in what it prints.  Functions named
show_ are small examples: read them.  Skip what stands below `main` (tables, pictures,
flags, files).  Pause after section 3.  The sections 2.3, 4.1 and 4.2 print nothing.
"""

# Sizes, and what they are in the default run
#     T  values that a network reads (--sequence-length): 132
#     S  steps ahead that are asked for: 1, 2, ... S (--horizon): 12
#     B  batch (windows): 64
#     H  hidden state (numbers the network remembers): 48
#     F  numbers in one step: 1, the value
#     L  values of the whole series: 2,820
#     N  windows, examples to learn from: 1,830
#     M  forecasts made in a part, one before each of its values: 423 in test
#
# And a unit: the usual change is the root mean square change of the training values, up
# or down, over so many steps: 16.61 spots over one month.

import itertools
import math
import sys
import warnings
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================
#
# A series is one long row of numbers, one for each month or day.  A network learns from
# examples, so the row is cut into windows: some values that are known, and the values
# that followed.  The last known value is called the origin of the forecast.
#
# Our series: sunspots are dark spots on the sun, counted since 1749.  One value is the
# mean count of one month, from 0 to about 250.  The counts rise and fall in cycles of
# about eleven years.  The 132 months that we read are eleven years, so about one cycle;
# of other series we read 48 values.
#
# The split is by time: the first 70 % of the series are for training, the next 15 % for
# validation, the last 15 % for test.  Beware: these parts need not be alike.  The run
# prints the mean of each and a small drawing: in the test part, 1948 to 1983, the
# cycles were high.  Dealt out at random, a test value would stand between two training
# values: forecasting it would be joining the dots (lesson 03).  A window belongs to a
# part if all that is asked lies in it.  What it reads may reach back into the part
# before: that is the past, known when the forecast is made.
#
# Scaling is fitted on the training part alone: what is read becomes (value - mean) /
# std, with std the standard deviation, for networks learn best from small numbers.
# Mean and std of the whole series would tell the network how high it will rise: a leak.
# (`--leaky-scaling` measures what it does.)
#
# What the network should say is called its targets, what it does say its outputs.  The
# targets are changes since the origin: origin 4, asked 5 and 6, targets +1 and +2.  So
# an output of 0 repeats the last value; that forecast is called persistence.  Each
# target is divided by the usual change over so many steps; else the far steps, whose
# changes are large, would make up most of the loss.
#
# What is forecast is called levels in the code: by default the values themselves.  (If
# your series rises for years, `--target return` forecasts changes in per cent.  For it
# alone are what_is_read, to_levels and to_units: by default they hand back what they
# get.)
#
# Choices are made on validation (which cell, how long a past, which epoch).  Test is
# looked at once, with what was chosen (we did not quite keep that: see 4.6).  Else the
# choice is fitted to the test part.

VALUES = "value"  # the values as they are; the flag says --target price


class Scaling(NamedTuple):
    """By what we divide, and what we subtract, so that the numbers get small."""

    mean: float  # of what the network reads
    std: float
    step_sizes: list  # the usual change over 1, 2, ... S steps


def fit_scaling(levels, horizon, target=VALUES):
    """Scaling from `levels` alone: hand in the training part, and nothing else."""
    read = what_is_read(levels, target)
    step_sizes = []
    for ahead in range(1, horizon + 1):
        changes = levels[ahead:] - levels[:-ahead]
        step_sizes.append(float(np.mean(changes**2) ** 0.5))
    # We divide by these.  The first is not 0: check_series refuses what never moves.
    least = 1e-6 * step_sizes[0]
    return Scaling(
        mean=float(read.mean()),
        std=max(float(read.std()), least),
        step_sizes=[max(size, least) for size in step_sizes],
    )


class Data(NamedTuple):
    """All that this lesson knows of its series of L values."""

    source: utils.Source  # which data set, and whether it is real
    dates: object  # (L,), a pandas.DatetimeIndex
    values: np.ndarray  # (L,), in the units of the series
    levels: np.ndarray  # (L,), what is forecast: the values
    train_end: int  # place where training ends and validation begins
    val_end: int  # place where validation ends and test begins
    length: int  # T
    horizon: int  # S
    target: str  # --target
    scaling: Scaling


def make_data(source, series, length, horizon, target=VALUES, scaling=None):
    """The series split and scaled.  scaling: a saved model's, else fitted here."""
    values = series.to_numpy()
    utils.check_series(values, length, horizon)  # is it long enough?
    levels = to_levels(values, target)
    train_end, val_end = utils.split_by_time(len(values))
    if scaling is None:
        scaling = fit_scaling(levels[:train_end], horizon, target)
    return Data(
        source=source,
        dates=series.index,
        values=values,
        levels=levels,
        train_end=train_end,
        val_end=val_end,
        length=length,
        horizon=horizon,
        target=target,
        scaling=scaling,
    )


def network_input(known, data):
    """N rows of known levels (N, T), the origin last -> what is read (N, T, 1)."""
    read = what_is_read(known, data.target)  # (N, T)
    read = (read - data.scaling.mean) / data.scaling.std
    return torch.tensor(read, dtype=torch.float32).unsqueeze(-1)  # (N, T, 1)


def make_windows(data, start, end):
    """The windows whose asked values all lie in the places start ... end - 1.

    Returns {"x": (N, T, 1), "y": (N, S)}, N windows: what is read, the scaled targets.
    """
    # The first asked value lies at `start`, so the first origin is the place before it.
    # In training nothing comes before the series, so it is place T there.  (The first
    # window would fit at place T - 1.  The recorded runs were made without it.)
    first_origin = max(start - 1, data.length)
    first = first_origin - (data.length - 1)  # the first known value
    # Of 1 2 3 4 and width 3, sliding_window_view makes the rows 1 2 3 and 2 3 4.
    width = data.length + data.horizon
    rows = sliding_window_view(data.levels[first:end], width)  # (N, T + S)
    known = rows[:, : data.length]  # (N, T)
    asked = rows[:, data.length :]  # (N, S)
    origin = known[:, -1:]  # (N, 1)
    targets = (asked - origin) / data.scaling.step_sizes  # (N, S)
    y = torch.tensor(targets, dtype=torch.float32)
    return {"x": network_input(known, data), "y": y}


def known_before(data, start, end):
    """What is known one step before each of the M places start ... end - 1: (M, T).

    Start 6, end 8, T 3: the places 3 4 5, then 4 5 6.  Test has 423 of them, but only
    412 windows: after the last 11 not all 12 answers lie in it.  A forecast needs none.
    """
    before = data.levels[start - data.length : end - 1]
    return sliding_window_view(before, data.length)


def show_windows():
    """Print all windows of nine values, by a plain loop, and their parts."""
    values = [6, 5, 8, 7, 9, 6, 8, 5, 7]
    print("\nWindows of the series 6 5 8 7 9 6 | 8 5 7: T = 3 values are read, two")
    print("steps ahead are asked for.  Training ends at the bar, validation follows.")
    print("  read       origin  asked   targets   part")
    # The first origin has T - 1 values before it, the last one two after it.
    for origin in range(2, 7):
        read = values[origin - 2 : origin + 1]
        asked = values[origin + 1 : origin + 3]
        targets = [value - values[origin] for value in asked]
        part = "neither: what is asked lies on both sides"
        if origin + 2 < 6:  # the last asked value comes before the bar
            part = "training"
        elif origin + 1 >= 6:  # the first one comes after it
            part = "validation"
        print(f"  {read}  {values[origin]}       {asked}  {targets!s:<8}  {part}")
    utils.say(
        """Reading it: no target stands in two parts.  The last windows read values of
        training; that is no leak: they are the past."""
    )


def show_one_window(data):
    """Print one training window on its way from the file to the network's numbers."""
    windows = make_windows(data, 0, data.train_end)
    row = len(windows["x"]) // 2
    origin = row + data.length  # window 0 has its origin at place T
    shown = min(4, windows["x"].shape[1])
    title = f"One window of {data.source.label}"
    print(f"\n{title}, the last {shown} of its {data.length} values")
    print("  date              value    as the network reads it")
    read = windows["x"][row, -shown:, 0].tolist()  # the last is the origin
    for place, number in zip(range(origin - shown + 1, origin + 1), read, strict=True):
        value = as_text(data.values[place], data)
        mark = "  <- the origin" if place == origin else ""
        print(f"  {data.dates[place]:%Y-%m-%d}  {value:>11}    {number:>+6.2f}{mark}")
    print("  asked for         value    change  usual change   target = change / usual")
    for ahead in range(1, min(3, data.horizon) + 1):
        place = origin + ahead
        change = data.levels[place] - data.levels[origin]
        usual = data.scaling.step_sizes[ahead - 1]
        target = windows["y"][row, ahead - 1]
        numbers = f"{change:>+8.4g}   {usual:>11.4g}   {target:>+6.2f}"
        value = as_text(data.values[place], data)
        print(f"  {data.dates[place]:%Y-%m-%d}  {value:>11}  {numbers}")
    mean = data.scaling.mean
    print(f"It reads (number - {mean:.4g}) / {data.scaling.std:.4g}: mean and standard")
    print("deviation of the training part alone.")


# ====================================================================================
# 2. Model
# ====================================================================================
#
# --- 2.1 The cell ---------------------------------------------------------------------
# A plain RNN (lesson 04) writes its whole state anew at every step, and so it forgets.
# An LSTM (05) keeps a memory c beside its state h, and three gates rule over it.  The
# GRU (Cho et al., 2014) asks: could it be had with fewer weights?  (Not always in less
# time: on our CPU PyTorch's LSTM took 0.55 of the time of its GRU.  That speaks of the
# two programs, not of the cells; we did not look into why.)  Here are both, line beside
# line (the biases b are left out here):
#
#     LSTM                                         GRU
#     two things handed on: h and c                one: h
#     (nothing like it)                            r = sigmoid(W_ir x + W_hr h)  reset
#     i = sigmoid(W_ii x + W_hi h)  input gate     z = sigmoid(W_iz x + W_hz h)  update
#     f = sigmoid(W_if x + W_hf h)  forget gate    (z does the work of i and of f)
#     g = tanh(W_ig x + W_hg h)     candidate      n = tanh(W_in x + r * (W_hn h))
#     c = f * c + i * g                            h = z * h + (1 - z) * n
#     o = sigmoid(W_io x + W_ho h)  output gate    gone: all of the state is shown
#     h = o * tanh(c)                              gone
#
# The GRU once more, as a drawing; the gates r and z are made of x and h as well:
#
#     h ----+------------------ z * h ------------------+
#           |                                           |
#           +--> W_hn h --> r * --+                     + --> new h
#                                 |                     |
#     x --------> W_in x -------- + --> tanh --> n --> (1 - z) * n
#
# Which one to take?  The one that validation prefers.  To begin with: a GRU where
# weights are dear, an LSTM where they are not, a plain RNN where the steps are few.
#
# The two letters below a W say from where to where: W_in leads from the input x into n,
# W_hn from the state h into n, W_ii from the input x into the gate i.  A gate is a
# number between 0 and 1 for every unit of the state; "*" multiplies unit by unit.  n is
# the candidate: what could be written.
#
# PyTorch gives every W a bias of its own, such as b_ir and b_hr.  Only in n do the two
# differ in what they do: b_hn stands inside r * (W_hn h + b_hn).  In the first paper r
# acts before the product, W_hn (r * h) + b_hn.  PyTorch's form is faster: one product
# with h serves r, z and n.
#
# What became one gate: an LSTM decides twice, how much to keep (f) and how much to
# write (i).  With f = 0.88, i = 0.73 and g = 0.66 its c goes from 0.6 to 1.01.  A GRU
# decides once: what it does not keep it writes.  With z = 0.88 and n = 0.66 its h goes
# from 0.6 to 0.61: a weighted mean of old state and candidate, between -1 and 1, that
# needs no second tanh.  What disappeared: the memory c and the gate o.  What is new: r,
# the reset gate, says how much of the old state the candidate may see.
#
# A warning.  Here z = 1 keeps and z = 0 writes, as in the first paper and in PyTorch.
# Other texts (Chung et al., 2014, for one) swap the two: h = (1 - z) * h + z * n.


def sigmoid(number):
    """Any number -> one between 0 and 1."""
    return 1 / (1 + math.exp(-number))


TOY_WEIGHTS = {  # of a GRU with one input and one unit: (W_i, b_i, W_h, b_h)
    "r": (0.8, 0.1, -0.4, 0.0),
    "z": (-0.5, 0.4, 0.6, 0.0),
    "n": (0.9, 0.0, 1.2, 0.1),
}


def toy_cell():
    """PyTorch's cell with these twelve numbers: a row for r, one for z, one for n."""
    table = torch.tensor(list(TOY_WEIGHTS.values()))  # (3, 4)
    cell = nn.GRUCell(1, 1)
    cell.weight_ih.data = table[:, 0:1]  # (3, 1)
    cell.bias_ih.data = table[:, 1]  # (3,)
    cell.weight_hh.data = table[:, 2:3]  # (3, 1)
    cell.bias_hh.data = table[:, 3]  # (3,)
    return cell


def show_one_step():
    """Print one step of a GRU with one input and one unit, every number substituted."""
    x = 1.0
    h = 0.5
    print("\nOne step of a GRU with one input and one unit:")
    print(f"  x = {x}, the value just read; h = {h}, the state before")
    # The gates first, for n needs r.  Both are made alike, of x and h, and differ in
    # their weights alone.
    gates = {}
    for gate in ("r", "z"):
        w_i, b_i, w_h, b_h = TOY_WEIGHTS[gate]
        total = w_i * x + b_i + w_h * h + b_h
        gates[gate] = sigmoid(total)
        made = f"{w_i} * {x} + {b_i} + {w_h} * {h} + {b_h}"
        print(f"  {gate} = sigmoid({made})")
        print(f"    = sigmoid({total:.2f}) = {gates[gate]:.3f}")
    # The candidate keeps its two halves apart, because r weighs one of them only: what
    # comes from the state, its bias included.
    w_i, b_i, w_h, b_h = TOY_WEIGHTS["n"]
    from_input = w_i * x + b_i
    from_state = w_h * h + b_h
    n = math.tanh(from_input + gates["r"] * from_state)
    print(f"  n = tanh({w_i} * {x} + {b_i} + {gates['r']:.3f} * ({w_h} * {h} + {b_h}))")
    z = gates["z"]
    r = gates["r"]
    print(f"    = tanh({from_input:.2f} + {r:.3f} * {from_state:.2f}) = {n:.3f}")
    new = z * h + (1 - z) * n
    print(f"  h = {z:.3f} * {h} + {1 - z:.3f} * {n:.3f} = {new:.3f}")
    # PyTorch reads batches: the value as (B, F), the state as (B, H), here (1, 1) both.
    theirs = toy_cell()(torch.tensor([[x]]), torch.tensor([[h]])).item()
    print(f"  PyTorch's nn.GRUCell with these weights: {theirs:.3f}")


def show_limits():
    """Print what the state becomes at the limits of r and z, and half-way."""
    print("\nThe gates at their limits.  W_in x + b_in = 0.8, W_hn h + b_hn = -0.5,")
    print("and h = 0.6 before the step:")
    print("    r    z   n = tanh(0.8 + r * -0.5)   h = z * 0.6 + (1 - z) * n")
    cases = [
        (1.0, 0.0, "a plain RNN's step (lesson 04)"),
        (0.0, 0.0, "the past is forgotten"),
        (0.0, 1.0, "nothing is written: h stays"),
        (1.0, 0.9, "a tenth of the way to n"),
        (1.0, 0.5, "half of an n that the past holds down"),
        (0.0, 0.5, "half of an n that starts afresh"),
    ]
    # Gates come out of a sigmoid, so they get close to 0 and 1 but never quite there.
    for r, z, meaning in cases:
        n = math.tanh(0.8 + r * -0.5)
        new = z * 0.6 + (1 - z) * n
        print(f"  {r:.1f}  {z:.1f}   {n:>24.3f}   {new:>7.3f}   {meaning}")
    utils.say(
        """z = 1: all is kept, whatever r is; z = 0: all is written anew.  What is r
        good for?  In the last two rows both take half of the candidate.  With r = 1 the
        old state has its say in it; with r = 0 the input alone decides.  Cho and his
        colleagues wanted a unit to be able to drop what proves irrelevant: when a new
        sentence begins, say, the last one need not count."""
    )


def gru_step(x_t, h, w_ih, w_hh, b_ih, b_hh):
    """One step of PyTorch's GRU: x_t (B, F), h (B, H) -> the new h (B, H).

    w_ih (3H, F), w_hh (3H, H), b_ih and b_hh (3H,): the blocks of r, z and n, one below
    the other.
    """
    # One product serves all three blocks; chunk cuts the result into them.
    input_r, input_z, input_n = (x_t @ w_ih.T + b_ih).chunk(3, dim=1)  # (B, H) each
    state_r, state_z, state_n = (h @ w_hh.T + b_hh).chunk(3, dim=1)  # (B, H) each
    # r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)    how much of the past n may see
    r = torch.sigmoid(input_r + state_r)  # (B, H)
    # z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)    how much of the state to keep
    z = torch.sigmoid(input_z + state_z)  # (B, H)
    # n = tanh(W_in x + b_in + r * (W_hn h + b_hn))    the candidate
    n = torch.tanh(input_n + r * state_n)  # (B, H)
    # h_t = z * h_(t-1) + (1 - z) * n
    return z * h + (1 - z) * n  # (B, H)


def gru_by_hand(x, h, w_ih, w_hh, b_ih, b_hh):
    """The whole layer: x (B, T, F), h (B, H) -> every state (B, T, H)."""
    states = []
    for t in range(x.shape[1]):
        h = gru_step(x[:, t], h, w_ih, w_hh, b_ih, b_hh)  # (B, H)
        states.append(h)
    return torch.stack(states, dim=1)  # (B, T, H)


def show_by_hand():
    """Print the largest differences between our layer and nn.GRU in 64-bit numbers."""
    torch.manual_seed(6)
    layer = nn.GRU(3, 7, batch_first=True).double()
    weights = list(layer.parameters())  # in the order W_ih, W_hh, b_ih, b_hh
    x = torch.randn(4, 9, 3, dtype=torch.double)  # (B, T, F)
    h = torch.zeros(4, 7, dtype=torch.double)  # (B, H): nothing is known yet
    ours = gru_by_hand(x, h, *weights)  # (4, 9, 7)
    theirs, _ = layer(x)  # (4, 9, 7)
    our_gradients = torch.autograd.grad(ours.sum(), weights)
    their_gradients = torch.autograd.grad(theirs.sum(), weights)
    gaps = [
        (mine - other).abs().max().item()
        for mine, other in zip(our_gradients, their_gradients, strict=True)
    ]
    print("\nThe same step in a loop, against PyTorch's nn.GRU:")
    print(f"  largest difference of states {(ours - theirs).abs().max():.0e},", end=" ")
    print(f"of gradients {max(gaps):.0e}")
    print("That is the rounding of 64-bit numbers: the two are one layer.")
    lstm = utils.count_parameters(nn.LSTM(1, 48))
    gru = utils.count_parameters(nn.GRU(1, 48))
    print(f"Weights with one input and 48 units: GRU {gru:,}, LSTM {lstm:,}: 3 to 4,")
    print("as r, z, n are three blocks and i, f, g, o four.")


# --- 2.2 Why it can learn from far back -----------------------------------------------
# Learning needs the gradient (lesson 04): how much h_t changes if h_(t-1) does.  Over
# many steps these numbers are multiplied.  In the plain RNN, h_t = tanh(W_ih x + W_hh
# h_(t-1)), there is one path from the old state to the new one, through W_hh and tanh,
# and the product dies out or blows up.  In a GRU, h_t = z * h_(t-1) + (1 - z) * n,
# there are three:
#
#     kept         h_(t-1) stands in the line itself    slope z
#     through n    the candidate n sees h_(t-1)         slope (1 - z) * dn/dh
#     through z    the gate z sees h_(t-1)              slope (h_(t-1) - n) * dz/dh
#
# (dn/dh is how much n changes if h_(t-1) does.  For the third write the same line as
# h_t = n + z * (h_(t-1) - n): what z moves is weighed by h_(t-1) - n.)  The table that
# show_gradient prints has a row for each.  When z comes close to 1, the second path
# closes, for 1 - z goes to 0.  So does the third: the slope of a sigmoid is z * (1 -
# z).  What is left is about 1, at every step.  (With H units each is a matrix.)


def show_gradient():
    """Print the three paths of the gradient for four cells, and their sum."""
    columns = {
        # A large bias opens a gate, one far below 0 shuts it: here r is 1 and z is 0.
        "RNN, x = 1": paths_of_gradient(r_bias=40.0, z_bias=-40.0),
        "RNN, x = -0.8": paths_of_gradient(r_bias=40.0, z_bias=-40.0, x=-0.8),
        "GRU": paths_of_gradient(r_bias=0.1, z_bias=0.4),  # the step of show_one_step
        "larger z": paths_of_gradient(r_bias=0.1, z_bias=5.4),
    }
    rows = {}
    for path in columns["GRU"]:
        rows[path] = {}
        for name, numbers in columns.items():
            rows[path][name] = f"{numbers[path]:z.4f}"  # z: never "-0.0000"
    # The product of 30 such slopes is far too small, or too large, for four decimals.
    rows["if 30 steps were like this"] = {}
    for name, numbers in columns.items():
        product = numbers["sum          dh_t / dh_(t-1)"] ** 30
        rows["if 30 steps were like this"][name] = f"{product:.2g}"
    utils.print_table("How much does h_t change if h_(t-1) does?", rows, "")
    utils.say(
        """RNN: the same cell with r near 1 and z near 0, which makes a GRU a plain RNN.
        GRU: the step from above.  larger z: b_iz larger by 5.  Reading it: the plain
        RNN has one path only.  Where its tanh is flat (x = 1) the gradient dies out;
        where it is steep (x = -0.8), its weight of 1.2 makes it blow up.  In the GRU a
        z near 1 lets the gradient pass nearly whole; with a middling z it dies out here
        as well.  (In truth no two of 30 steps are alike.)  And the LSTM?  The slope
        along its memory c is f (lesson 05), so an f near 1 does the same there.
        Training brings z near 1 where it pays to hold, if some gradient passes at all;
        nothing guarantees it (3.2)."""
    )


def slope(of, h):
    """By how much `of` changes if h does, found by autograd."""
    return torch.autograd.grad(of, h, retain_graph=True)[0].item()


def paths_of_gradient(r_bias, z_bias, x=1.0):
    """The toy cell's step again, b_ir and b_iz replaced: the paths of the gradient."""
    h = torch.tensor(0.5, dtype=torch.double, requires_grad=True)  # h_(t-1)
    w_ir, _, w_hr, _ = TOY_WEIGHTS["r"]
    w_iz, _, w_hz, _ = TOY_WEIGHTS["z"]
    w_in, b_in, w_hn, b_hn = TOY_WEIGHTS["n"]
    r = torch.sigmoid(w_ir * x + r_bias + w_hr * h)
    z = torch.sigmoid(w_iz * x + z_bias + w_hz * h)
    n = torch.tanh(w_in * x + b_in + r * (w_hn * h + b_hn))  # by W_hn, and by r
    kept = z.item()
    through_n = (1 - z).item() * slope(n, h)
    through_z = (h - n).item() * slope(z, h)
    total = kept + through_n + through_z
    # PyTorch's answer: the same cell, and the gradient of its whole step.
    cell = toy_cell()
    cell.bias_ih.data[0:2] = torch.tensor([r_bias, z_bias])  # the order is r, z, n
    before = torch.tensor([[0.5]], requires_grad=True)  # (1, 1)
    new = cell(torch.tensor([[x]]), before)  # (1, 1)
    return {
        "kept         z": kept,
        "through n    (1 - z) * dn/dh": through_n,
        "through z    (h - n) * dz/dh": through_z,
        "sum          dh_t / dh_(t-1)": total,
        "PyTorch's nn.GRUCell": slope(new.sum(), before),
    }


# --- 2.3 The network ------------------------------------------------------------------
# A recurrent layer reads the T values, and a linear layer makes the outputs of its last
# state.  For each step ahead there are three: the forecast, and the low and the high
# edge of a band around it, which should hold 80 % of what comes.
#
#     x_1 ... x_T --> [ GRU ] --> last state --> Linear --> low, mean, high   1 ahead
#     x_1 ... x_T --> [ GRU ] --> last state --> Linear --> the same for 2 ... S ahead
#
# These are two networks, here called readers (the class Reader), which share no weight.
# With one for all, 48 numbers must serve the next step and eleven further ones alike;
# by val_loss two did better with each of three seeds (4.6).  The price: the forecasts
# of 1 and of 2 steps ahead come from two networks, and need not fit together.
#
# With more columns it would be x (B, T, F) and nn.GRU(F, H), each scaled by its own
# mean and std.

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
LOW = 0  # the places of the three outputs
MEAN = 1
HIGH = 2


class Reader(nn.Module):
    """A recurrent layer, and a linear one that makes outputs of its last state."""

    def __init__(self, cell, hidden, layers, dropout, steps):
        super().__init__()
        self.rnn = CELLS[cell](
            1,
            hidden,
            num_layers=layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,  # this one acts between layers
        )
        self.dropout = nn.Dropout(dropout)  # off unless --dropout is given
        self.head = nn.Linear(hidden, 3 * steps)  # head: the layer that answers

    def forward(self, x):
        """x (B, T, 1) -> (B, steps, 3)."""
        # No first state is handed in: h starts at 0, each window stands for itself.
        states, _ = self.rnn(x)  # (B, T, H)
        last = self.dropout(states[:, -1])  # (B, H): it has read the whole window
        # Eleven steps: 33 numbers become 11 rows of low, mean, high.
        return self.head(last).unflatten(1, (-1, 3))  # (B, steps, 3)


class Forecaster(nn.Module):
    """One reader for the next step, another one for all further steps."""

    def __init__(self, cell, hidden, layers, dropout, horizon):
        super().__init__()
        self.name = cell.upper()
        self.near = Reader(cell, hidden, layers, dropout, steps=1)
        self.far = None
        if horizon > 1:
            self.far = Reader(cell, hidden, layers, dropout, steps=horizon - 1)

    def forward(self, x):
        """x (B, T, 1) -> (B, S, 3): low edge, mean, high edge for each step ahead."""
        outputs = self.near(x)  # (B, 1, 3)
        if self.far is not None:
            outputs = torch.cat([outputs, self.far(x)], dim=1)  # (B, S, 3)
        return outputs


# ====================================================================================
# 3. Training
# ====================================================================================
#
# --- 3.1 A small GRU in the open ------------------------------------------------------
# First a small GRU, and the loop of lesson 04 without its refinements: eight values
# read, eight units, one step ahead.  It has to find a rule that no weighted sum can
# write.  Does that take gates, or recurrence?  So we train a plain RNN as well, and a
# network that gets the eight values all at once.  (3.2 has a task for a gate.)
#
# A series with a rule, invented.  A room has a slow thermometer: what it shows is four
# steps old.  Where it shows more than 20 degrees the heating goes off and the room
# cools by 0.5; else it warms by 0.5.  A draught adds a little noise.  No weighted sum
# of past values can write such an "if".


def heating_series(count=2000):
    """(series, noise): pandas.Series of degrees; and the noise in each, (count,)."""
    import pandas as pd

    noise = 0.1 * np.random.default_rng(20240103).standard_normal(count)
    degrees = [20.0, 20.0, 20.0, 20.0]  # before the series begins
    for surprise in noise:
        shown = degrees[-4]  # the value four steps before the next one
        move = -0.5 if shown > 20 else 0.5
        degrees.append(degrees[-1] + move + surprise)
    dates = pd.date_range("2000-01-01", periods=count, freq="h", name="date")
    return pd.Series(degrees[4:], dates, name="degrees"), noise


def one_epoch(rnn, head, optimizer, x, y, size):
    """The bare loop: one pass over x (N, T, 1) and y (N, 1); returns the mean loss."""
    losses = []
    # All examples in a new order, `size` at a time.
    for rows in torch.randperm(len(x)).split(size):
        states, _ = rnn(x[rows])  # (B, T, H); h starts at 0
        outputs = head(states[:, -1])  # (B, 1): made of the last state
        loss = ((outputs - y[rows]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.mean(losses)


@torch.no_grad()
def squared_error(rnn, head, x, y):
    """The mean squared error on examples that are not learned from."""
    states, _ = rnn(x)  # (N, T, H)
    return ((head(states[:, -1]) - y) ** 2).mean().item()


class AllAtOnce(nn.Module):
    """A layer without recurrence: eight values -> Linear, tanh."""

    def __init__(self):
        super().__init__()
        # 27 units: with the head 271 weights, where a GRU of eight units has 273.
        self.linear = nn.Linear(8, 27)

    def forward(self, x):
        """x (B, 8, 1) -> (B, 1, 27) in place of the states, which it has not."""
        return torch.tanh(self.linear(x[:, :, 0])).unsqueeze(1), None


def train_small(data, epochs, kind):
    """Train a small network by the plain loop; its moves on test, in degrees (M,)."""
    train = make_windows(data, 0, data.train_end)  # x (N, T, 1), y (N, 1)
    val = make_windows(data, data.train_end, data.val_end)
    test = make_windows(data, data.val_end, len(data.values))
    torch.manual_seed(0)
    if kind == "no recurrence":
        rnn = AllAtOnce()
        head = nn.Linear(27, 1)
    else:
        cell = nn.RNN if kind == "plain RNN" else nn.GRU
        rnn = cell(1, 8, batch_first=True)  # F = 1 number in, H = 8 units
        head = nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=0.01)
    for epoch in range(1, epochs + 1):
        loss = one_epoch(rnn, head, optimizer, train["x"], train["y"], size=64)
        if kind == "GRU" and epoch in (1, 5, 10, 15):
            val_loss = squared_error(rnn, head, val["x"], val["y"])
            print(f"    epoch {epoch:>2}  loss {loss:.4f}  val_loss {val_loss:.4f}")
    states, _ = rnn(test["x"])  # (M, T, H)
    outputs = head(states[:, -1]).detach().numpy()  # (M, 1), in usual changes
    return outputs[:, 0] * data.scaling.step_sizes[0]


def train_in_the_open(epochs=15):
    """Train three small networks on the heating; compare their errors on test."""
    series, noise = heating_series()
    source = utils.Source(name="heating", path=None, real=False)  # made here, no file
    data = make_data(source, series, length=8, horizon=1)
    truth = data.values[data.val_end :]  # (M,)
    last = data.values[data.val_end - 1 : -1]  # (M,)
    print(f"\nA GRU trained in the open on the heating, {epochs} epochs (not tuned):")
    moves = {}
    errors = {"the noise itself": noise[data.val_end :]}
    for kind in ("GRU", "plain RNN", "no recurrence"):
        moves[kind] = train_small(data, epochs, kind)  # (M,)
        errors[kind] = last + moves[kind] - truth
    # Beside them a weighted sum of the same eight values, the autoregression of lesson
    # 03: 4.1 shows how it is made.
    rivals, _ = rivals_forecasts(data)
    errors["autoregression"] = rivals["autoregression"][:, 0] - truth
    errors["persistence"] = last - truth
    usual = data.scaling.step_sizes[0]
    print(f"(Losses are in usual changes, here {usual:.2f} degrees, squared.  loss is")
    print("a mean over an epoch, while the weights still change.)")
    print("RMSE on test, in degrees (one seed):")
    for name, error in errors.items():
        print(f"  {name:<17}{np.mean(error**2) ** 0.5:.3f}")
    # What the thermometer shows at the next step is the value four steps before it.
    x = make_windows(data, data.val_end, len(series))["x"]  # (M, T, 1)
    shown = x[:, -4, 0].numpy() * data.scaling.std + data.scaling.mean  # (M,)
    right = np.mean((moves["GRU"] < 0) == (shown > 20))
    utils.say(
        f"""Reading it: the GRU's forecast goes the way of the rule, up or down, in
        {right:.1%} of all test hours.  Each wrong one costs up to one degree, so a few
        of them raise the RMSE.  After 15 epochs (the default) the three networks are
        alike, also the one that reads nothing in turn: this rule takes a tanh, neither
        gates nor recurrence."""
    )


# --- 3.2 A task for a gate ------------------------------------------------------------
# That needed no gate.  Here is a task that does.  A series has 31 steps.  Each brings
# two numbers: a value between -1 and 1, and a mark, which is 1 at a few steps and 0 at
# all others.  At the end the network has to say the value that came with the last mark.
# So at a mark it must write, and between marks keep what it has.  Which of the two is
# right, only the input tells:
#
#     value     0.4  -0.7   0.1   0.9  -0.2
#     mark        1     0     0     1     0
#     to say    0.4   0.4   0.4   0.9   0.9


def marked_series(count):
    """Values and marks x (N, 31, 2), and what is to say at each step (N, 31)."""
    values = torch.rand(count, 31) * 2 - 1  # (N, T), from -1 to 1
    marks = (torch.rand(count, 31) < 0.1).float()  # (N, T), about three of 31
    marks[:, 0] = 1  # so that no series is without one
    # The place of the last mark so far: of marks 1 0 0 1 0 it is 0 0 0 3 3.
    last = (torch.arange(31) * marks).cummax(dim=1).values.long()  # (N, T)
    return torch.stack([values, marks], dim=2), values.gather(1, last)


@torch.no_grad()
def gates_of(rnn, x):
    """r and z of an nn.GRU that reads x (N, T, F): (N, T, H) each.

    These are the first two blocks of its weights.  Once the layer has read, all states
    are known, so all gates can be made at once.
    """
    w_ih, w_hh, b_ih, b_hh = rnn.all_weights[0]  # those of the first layer
    states, _ = rnn(x)  # (N, T, H)
    # Before the first step h is 0, before each other step it is what the last one left.
    before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
    sums = x @ w_ih.T + b_ih + before @ w_hh.T + b_hh  # (N, T, 3H)
    return torch.sigmoid(sums).split(rnn.hidden_size, dim=2)[:2]


MARK_CELLS = {  # the cell; the errors of the seeds 1 and 2, recorded
    "plain RNN": (nn.RNN, 0.301, 0.305),
    "LSTM": (nn.LSTM, 0.010, 0.005),
    "GRU, r held at 1": (nn.GRU, 0.003, 0.004),
    "GRU": (nn.GRU, 0.002, 0.004),
}


def train_on_marks(name, seed=0):
    """Learn the task by the loop of 3.1: the layer, its head, the error on others."""
    torch.manual_seed(seed)
    x, to_say = marked_series(3060)  # (N, T, 2), (N, T)
    y = to_say[:, -1:]  # (N, 1): asked for at the end alone
    rnn = MARK_CELLS[name][0](2, 8, batch_first=True)  # F = 2 numbers in, H = 8 units
    head = nn.Linear(8, 1)
    if name == "GRU, r held at 1":
        # Rows 0 ... 7 belong to r.  In 32 bits sigmoid(20) is 1 and its slope 0: so r
        # is 1, and training cannot move it.  Then n always sees the whole state.
        rnn.bias_ih_l0.data[:8] = 20.0
    optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=0.03)
    for _ in range(5):
        one_epoch(rnn, head, optimizer, x[:2560], y[:2560], size=64)
    return rnn, head, squared_error(rnn, head, x[2560:], y[2560:])


def show_marks():
    """Print which cell learns the task, and one series as the trained GRU reads it."""
    print("\n31 steps of value and mark: say the value that came with the last mark.")
    print("2,560 examples, five passes; squared error on 500 others.  (Always to say 0")
    print("has about 0.333.)  Errors of the seeds 1 and 2 are recorded:")
    print("                      seed 0   seed 1   seed 2")
    for name, (_, seed_1, seed_2) in MARK_CELLS.items():
        rnn, head, error = train_on_marks(name)
        print(f"  {name:<18}{error:>8.3f}{seed_1:>9.3f}{seed_2:>9.3f}")
    # The last of the four is the GRU.  Other series, of the same kind:
    x, to_say = marked_series(500)  # (N, T, 2), (N, T)
    r, z = gates_of(rnn, x)  # (N, T, H)
    with torch.no_grad():
        said = head(rnn(x)[0])[:, :, 0]  # (N, T): what it would say at each step
    unit = int(head.weight[0].abs().argmax())
    marked = x[:, :, 1] == 1  # (N, T)
    row = int((marked[:, 1:12].sum(1) == 2).int().argmax())  # the first with two more
    print("\nThe GRU on a new series, twelve steps of it; r and z of the unit that")
    print("counts most in what it says:")
    print("  value   mark    r      z    to say    it says")
    for t in range(12):
        mark = "1  <-" if marked[row, t] else "0"
        gates = f"{r[row, t, unit]:>4.2f}   {z[row, t, unit]:>4.2f}"
        line = f"  {x[row, t, 0]:>+5.2f}   {mark:<5}  {gates}"
        print(f"{line}   {to_say[row, t]:>+6.2f}   {said[row, t]:>+8.2f}")
    at_marks = z[:, :, unit][marked].mean()
    between = z[:, :, unit][~marked].mean()
    kept = z[~marked].mean(0)  # (H,), of each unit between marks
    utils.say(
        f"""Reading it: z of this unit is {at_marks:.2f} on average at a mark, and
        {between:.2f} between marks (all 500 series).  So it writes at a mark and mostly
        keeps elsewhere, and the input alone tells it which.  What it says changes at
        the marks and hardly in between.  (By itself this z would keep a value for about
        {1 / (1 - between):.0f} steps.  All 8 units hold it together, with z from
        {kept.min():.2f} to {kept.max():.2f} between marks; how, we did not follow up.)
        The plain RNN writes at every step; it has learned little more than to say 0.
        With r held at 1 the task is learned as well: z is what counts here.  (In one
        task; the minimal GRU of lesson 10 has no r at all.)"""
    )
    utils.say(
        """Here z found its way alone: often the last mark lies a few steps back only.
        If what counts always lies far back, that is harder.  Recorded: say the first of
        31 values, the others ten times smaller, one pass.  The errors of three seeds
        are 0.328 0.342 0.331 as PyTorch begins z, and 0.024 0.014 0.017 if it begins
        near 0.95.  For that, of an nn.GRU with H units, rnn.bias_ih_l0.data[H : 2 * H]
        = 3.0, as sigmoid(3) is 0.95.  (A z keeps about 1 / (1 - z) steps: 0.5 two, 0.95
        twenty.)"""
    )


# --- 3.3 The loss of a forecast and of a band -----------------------------------------
# Now the network of section 2.  What makes one of its outputs the forecast and another
# the edge of a band?  Only the loss.  The squared error is least, on average, at the
# mean of all that may come: that is the forecast.  Say that 1 and 9 are equally likely.
# To forecast 5, their mean, costs 16 or 16, on average 16; to forecast 4 costs 9 or 25,
# on average 17.
#
# The edges should be such that 10 % of the truths fall below the low one and 90 % below
# the high one, so that 80 % fall between (quantile regression).  For that there is the
# pinball loss.  For the high edge, each truth above it costs 0.9 for every 1 that it is
# away, each truth below it costs 0.1.
#
# Why does that put the edge where 90 % lie below?  Move it up by a little.  Each truth
# below it now costs 0.1 of that little more, each truth above it 0.9 less.  With nine
# below and one above that is 9 * 0.1 more and 1 * 0.9 less: so here the loss is least.
# With fewer below, moving up pays; with all ten below, moving down does.  For the low
# edge the prices are swapped.

BELOW_LOW = 0.1  # the share of the truth that should lie below the low edge
BELOW_HIGH = 0.9
SHARE = BELOW_HIGH - BELOW_LOW  # of the truth that the band should hold


def pinball(truth, edge, below):
    """The loss that is least where a share `below` of the truth lies below the edge."""
    lack = truth - edge  # above 0: the edge lies too low
    too_low = below * lack
    too_high = (below - 1) * lack
    # Of the two, the one above 0: lack 1 gives 0.9 and -0.1, lack -1 gives -0.9, 0.1.
    return torch.maximum(too_low, too_high)


def show_pinball():
    """Print where the pinball loss is least for ten values."""
    truth = torch.arange(1.0, 11.0)  # 1, 2, ... 10
    print("\nPinball loss.  Ten truths, 1, 2, ... 10, and one high edge:")
    for edge in (5.5, 8.5, 9.5, 10.5):
        costs = pinball(truth, torch.tensor(edge), BELOW_HIGH)  # (10,)
        lie_below = int((truth < edge).sum())
        line = f"  edge {edge:>4.1f}: {lie_below:>2} of 10 below,"
        print(f"{line} cost {costs.sum():>4.1f}")
    print("Least where nine of ten lie below, anywhere between 9 and 10.")


# Each step ahead has a loss, the sum of three: of its forecast and of both its edges.
# The whole loss is that of the next step plus the mean of those of the further steps.
# As the two readers share no weight, adding their losses changes the gradient of
# neither, but for clipping.  One epoch is kept for both, the best by the sum on
# validation.


def measure(model, batch):
    """One number a window, (B,), of each kind; utils.fit makes the means of them."""
    y = batch["y"]  # (B, S)
    # float: 32 bits, also where --precision asks for 16: too few for a loss.
    outputs = model(batch["x"]).float()  # (B, S, 3)
    square = (y - outputs[:, :, MEAN]) ** 2  # (B, S)
    low = pinball(y, outputs[:, :, LOW], BELOW_LOW)  # (B, S)
    high = pinball(y, outputs[:, :, HIGH], BELOW_HIGH)  # (B, S)
    loss = square + low + high  # (B, S)
    if loss.shape[1] == 1:
        return {"loss": loss[:, 0], "one_step": square[:, 0]}
    further = loss[:, 1:].mean(1)  # (B,)
    total = loss[:, 0] + further  # (B,)
    return {"loss": total, "one_step": square[:, 0], "further": further}


# --- 3.4 The loop ---------------------------------------------------------------------
# The loop is `utils.fit`, which lesson 04 wrote by hand.  To the plain loop above it
# adds: gradients clipped to the length 1; validation after each epoch, and at the end
# the weights of the best one; a learning rate that rises to --lr over the first quarter
# of the run and then falls to nothing (PyTorch: OneCycleLR); and AdamW, which with a
# weight decay of 0, as here, is Adam.  So 30 epochs are another run from the start, not
# 15 continued; and that the last epochs are often the best is no sign that more would
# help.  A network overfits where validation grows worse while training gets better.


def train_model(data, config, args, saved_with_it=None):
    """A new model from --seed, trained: (model, records).

    saved_with_it: what is written to disk with the weights (--save-model).  Without it
    nothing is saved, and no line of training printed.
    """
    utils.set_seed(args.seed)
    model = Forecaster(**config).to(args.device)
    windows = make_windows(data, 0, data.train_end)
    later = make_windows(data, data.train_end, data.val_end)
    # Shuffled: in order of time, every epoch would end with the newest years.  It leaks
    # nothing: only windows of training are dealt, and inside each time keeps its order.
    train = utils.Batches(windows, args.batch_size, args.device, shuffle=True)
    val = utils.Batches(later, 1024, args.device)
    kept = config if saved_with_it else None  # on disk, to build the model again
    records = utils.fit(model, measure, train, val, args, kept, saved_with_it)
    return model, records


def show_past(model, data, args):
    """How much past does it use?  Errors when only the last values are handed in."""
    windows = make_windows(data, data.train_end, data.val_end)
    print("\nHow much past does it use?  Validation, when the trained network gets the")
    print("last values of each window alone.  (It never trained on so short ones.)")
    print("  values   one_step   further")
    counts = [count for count in (24, 48, 96) if count < data.length] + [data.length]
    found = {}  # how many values -> the errors
    for count in counts:
        last = {"x": windows["x"][:, -count:], "y": windows["y"]}  # (N, count, 1)
        batches = utils.Batches(last, 1024, args.device)
        scores = utils.evaluate(model, measure, batches, args)
        found[count] = scores
        further = f"{scores['further']:>10.3f}" if "further" in scores else ""
        print(f"  {count:>6}{scores['one_step']:>11.3f}{further}")
    for name in ("one_step", "further"):
        if name in scores:  # those of the whole window
            enough = [n for n in counts if found[n][name] <= 1.01 * scores[name]]
            print(f"{name}: {min(enough)} values come within 1 % of the whole window")


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# --- 4.1 The rivals -------------------------------------------------------------------
# They are those of lesson 03, which tells how each is made, all fitted before the test
# part begins.


def rivals_forecasts(data):
    """Forecasts of the test part, name -> (M, S); and what was found before test."""
    values = data.values
    train = values[: data.train_end]
    origins = np.arange(data.val_end - 1, len(values) - 1)  # (M,)
    steps = np.arange(1, data.horizon + 1)  # (S,)
    made = {}
    made["persistence"] = utils.persistence(values, origins, steps)  # the last value
    # Seasonal naive: the value one season before, if training shows a season.
    # (Sunspots: 127 months.  But its cycles differ in length: a poor rival there.)
    season = utils.find_season(train)
    if season:
        made["seasonal naive"] = utils.seasonal_naive(values, origins, steps, season)
    # Moving average: the mean of the last values, as many as served best on training.
    width = utils.best_width(train, data.length, step=1)  # best for the next step
    made["moving average"] = utils.moving_average(values, origins, steps, width)
    # Autoregression: a weighted sum of the last values, such as 2 + 0.9 * 6 - 0.2 * 10
    # = 5.4, with weights of its own for each step ahead: least squares on training.
    # For two values and one step that would be
    #     known = np.column_stack([np.ones(len(train) - 2), train[1:-1], train[:-2]])
    #     weights = np.linalg.lstsq(known, train[2:])[0]
    # Which number of values it reads, its order, is chosen on validation, for each step
    # ahead anew: at most T.
    linear, order = utils.autoregression(
        values, data.train_end, data.val_end, data.length, data.horizon
    )
    # Its forecasts begin with validation: those serve its band, and to compare there.
    validation = data.val_end - data.train_end
    made["autoregression"] = linear[validation:]
    # order: that of one step ahead.
    before_test = {"order": order, "width": width, "season": season}
    before_test["linear on validation"] = linear[:validation]  # (M, S)
    return made, before_test


# --- 4.2 The forecasts and their errors -----------------------------------------------
# The network forecasts all S steps at once: directly.  Or one lets it forecast one
# step, takes that for a known value, and asks again: to feed back (books: recursive or
# iterated forecasting).
#
#     known 4 5 6          -> 7.1
#     known 5 6 7.1        -> 8.3
#     known 6 7.1 8.3      -> 9.4    three steps ahead, two of which were made up
#
# Both are made here.  For each step ahead validation chooses one; 4.4 compares them.


def network_forecasts(model, data, known, args):
    """known (M, T) -> low edge, mean, high edge as levels (M, S, 3)."""
    batches = utils.Batches({"x": network_input(known, data)}, 1024, args.device)
    # collect runs the batches without gradient and puts the outputs in one tensor.
    outputs = utils.collect(model, lambda net, batch: net(batch["x"]), batches, args)
    outputs = outputs.double().numpy()  # (M, S, 3), in 64 bits as the levels
    # make_windows undone: times the usual size, plus the origin.
    step_sizes = np.array(data.scaling.step_sizes)[:, None]  # (S, 1)
    origin = known[:, -1, None, None]  # (M, 1, 1)
    return origin + outputs * step_sizes  # (M, S, 3)


def feed_back(model, data, known, count, args):
    """Forecast one step, take it for known, go on: (M, T) -> levels (M, count)."""
    made = []
    for _ in range(count):
        next_step = network_forecasts(model, data, known, args)[:, 0, MEAN]  # (M,)
        made.append(next_step)
        # The oldest value goes, the forecast comes: still T.
        known = np.column_stack([known[:, 1:], next_step])  # (M, T)
    return np.stack(made, axis=1)  # (M, count)


class Findings(NamedTuple):
    """What was forecast for the test part, and what happened: in the series' units."""

    truth: np.ndarray  # (M, S), not a number where it lies past the end
    forecasts: dict  # name -> (M, S), of the network and its rivals
    ours: str  # the network's name among them
    fed_back: str  # and its name where it reads its own forecasts
    # What was found without test: "order", "width", "season" of the rivals; "linear on
    # validation" (M, S), the autoregression's forecasts there; "RMSE on validation" and
    # "errors on validation", name -> (S,) and (M, S).
    before_test: dict
    ways: tuple | list = ()  # (S,), direct or fed back, chosen on validation


def both_ways(model, data, start, end, args):
    """Direct and fed back, before each of start ... end - 1: name -> (M, S)."""
    known = known_before(data, start, end)  # (M, T)
    direct = network_forecasts(model, data, known, args)[:, :, MEAN]  # (M, S)
    made = feed_back(model, data, known, data.horizon, args)  # (M, S)
    return {
        model.name: to_units(direct, data.target),
        f"{model.name} fed back": to_units(made, data.target),
    }


def judge(model, data, args):
    """All forecasts of the test part; direct or fed back is chosen on validation."""
    end = len(data.values)
    forecasts, before_test = rivals_forecasts(data)
    forecasts |= both_ways(model, data, data.val_end, end, args)
    ours = model.name
    fed_back = f"{model.name} fed back"
    # The same on validation, where the way is chosen.
    earlier = both_ways(model, data, data.train_end, data.val_end, args)
    earlier["autoregression"] = before_test["linear on validation"]
    last = data.values[data.train_end - 1 : data.val_end - 1]  # (M,)
    earlier["persistence"] = last[:, None]  # (M, 1): the same for all steps
    start = data.train_end
    happened = utils.values_ahead(data.values, start, data.val_end, data.horizon)
    errors = {}  # name -> (M, S)
    on_validation = {}  # name -> RMSE (S,)
    for name, made in earlier.items():
        errors[name] = made - happened
        # Answers past the end of validation are nan (not a number): nanmean skips them.
        on_validation[name] = np.nanmean(errors[name] ** 2, axis=0) ** 0.5
    before_test["RMSE on validation"] = on_validation
    before_test["errors on validation"] = errors
    is_fed = on_validation[fed_back] < on_validation[ours]  # (S,)
    return Findings(
        truth=utils.values_ahead(data.values, data.val_end, end, data.horizon),
        forecasts=forecasts,
        ours=ours,
        fed_back=fed_back,
        before_test=before_test,
        ways=np.where(is_fed, fed_back, ours).tolist(),
    )


# An error is forecast minus truth.  RMSE is the root of the mean square, MAE the mean
# absolute error, MASE the MAE divided by that of persistence on training (lesson 03).


def errors_of(found, name, ahead):
    """Forecast minus truth, so many steps ahead, where the truth is known."""
    errors = found.forecasts[name][:, ahead - 1] - found.truth[:, ahead - 1]  # (M,)
    # Two steps ahead, the truth of the last origin lies past the end, and so on.
    return errors[: len(errors) - (ahead - 1)]


def rmse_of(found, name, ahead):
    """The root of the mean squared error, so many steps ahead."""
    return float(np.mean(errors_of(found, name, ahead) ** 2) ** 0.5)


# --- 4.3 One step ahead: is a smaller error more than luck? ---------------------------
# Take, for each test month, by how much the squared errors of two forecasts differ:
#
#     d = our error ^ 2 - their error ^ 2         below 0: we were closer
#
# If both forecasts are equally good, d is 0 on average, and its mean over M months
# strays from 0 only by chance.  How far does a mean of M numbers usually stray?  By its
# standard error, the standard deviation of d divided by the root of M.  So we ask how
# many standard errors the mean lies from 0:
#
#     statistic = mean(d) / (std(d) / sqrt(M))
#
# p is how often two equally good forecasts would bring a statistic at least so far from
# 0, by chance.  Below 0.05, once in twenty, we call a difference more than luck.
# show_test counts it for ten months.  Swap the names of two equally good forecasts in
# any month, and d changes its sign; so each d could as well have the other one.  Of
# many months the signs are too many to count, and Student's t distribution is the short
# cut.  (It asks for a statistic beyond about 2, above or below; for ten months 2.26.)
# This is the test of Diebold and Mariano (1995), one step ahead.  With a larger p the
# two cannot be told apart by these months; that does not prove them equally good.
#
# The table has a column foretold (books: skill score): 1 - MSE / MSE of persistence,
# 0 % for persistence itself, 100 % for a perfect forecast.
#
# The formula takes the M numbers for unrelated: one d must not foretell the next.  So a
# figure is printed under the table: how alike each d and the next are, 0 for not at
# all, 1 for wholly.  And the formula knows of chance in the months alone, not of that
# in the seed.  So one asks several seeds: all five that we trained beat persistence.


def chance_of(statistic, count):
    """p of a statistic made of `count` numbers."""
    from scipy.stats import t as students_t  # takes a second to load: only where needed

    # sf: the share of the curve beyond the statistic; both ends count, so 2 *.
    return float(2 * students_t.sf(abs(statistic), count - 1))


def compare_one_step(ours, theirs):
    """Errors (M,) one step ahead of two forecasts -> (statistic, p)."""
    d = ours**2 - theirs**2  # (M,)
    # ddof=1: divided by M - 1, as the numbers lie a little too close to their own mean.
    standard_error = d.std(ddof=1) / len(d) ** 0.5
    if standard_error == 0:
        return 0.0, 1.0  # both make the same errors
    statistic = float(d.mean() / standard_error)
    return statistic, chance_of(statistic, len(d))


def verdict(ours, theirs, p):
    """Two RMSE and the p of their difference -> beats, loses to, or neither."""
    if p >= 0.05:
        return "cannot be told from"
    if ours < theirs:
        return "beats"
    return "loses to"


def show_test():
    """Print the test of two forecasts on ten errors each."""
    ours = np.array([1.0, -2, 0, 3, -1, 2, -1, 0, 2, -2])
    theirs = np.array([2.0, -3, 1, 3, -2, 1, -3, 1, 2, -4])
    # In the first month 1 - 4 = -3: we were closer.  In the fourth 9 - 9 = 0: a draw.
    d = ours**2 - theirs**2  # (10,)
    print("\nIs it luck?  The errors of two forecasts of the same ten months:")
    for name, row in (("ours", ours), ("theirs", theirs), ("d", d)):
        print(f"  {name:<7}" + "".join(f"{value:>5.0f}" for value in row))
    # The formula piece by piece, to be printed; compare_one_step has it in one.
    mean = d.mean()
    std = d.std(ddof=1)
    error = std / 10**0.5
    statistic, p = compare_one_step(ours, theirs)
    print(f"  mean of d {mean:.2f}, standard error {std:.2f} / sqrt(10) = {error:.2f}")
    print(f"  statistic {mean:.2f} / {error:.2f} = {statistic:.2f}, p = {p:.3f}")
    # Of two equally good forecasts each d could as well have the other sign.
    hits = 0
    for signs in itertools.product([-1, 1], repeat=10):
        hits += abs(np.mean(d * signs)) >= abs(mean)
    print(f"p counted: of 1,024 ways to give the ten d signs, {hits} have a mean so")
    print(f"far from 0, or {hits / 2**10:.3f}: Student's t is the short cut to that.")
    closer = int((d < 0).sum())
    print(f"We were closer in {closer} of 10 months; ten months are too few.")
    many = mean / (std / 40**0.5)
    print(f"40 such months: {mean:.2f} / ({std:.2f} / sqrt(40)) = {many:.2f},", end=" ")
    print(f"p = {chance_of(many, 40):.5f}.")


# --- 4.4 Several steps ahead: direct or fed back, and errors that are alike -----------
# Fed back, each forecast is built on the errors of those before it.  Say each value is
# in truth 1.10 times the one before, and the network has learned 1.08.  Then it is too
# low by 1.8 % one step ahead, by 19.8 % twelve steps ahead: 1 - (1.08 / 1.10)^12.
# Asked directly, one reader must serve eleven steps.  Which harm is the larger one,
# validation tells for each step.  (Fed back, the reader of the next step answers all of
# them; directly, from 2 on, the other one does.)
#
# Two tables are to be laid side by side: the same errors on validation and on test.
# Validation flatters the network, for there its epoch, T, H and learning rate were
# chosen; of the autoregression only its order.  So a lead there is a hope; test tells
# what it was worth.  (Of twenty tests of equals one has p below 0.05 on average: look
# at a whole column, not at its smallest p.)
#
# And the test of 4.3 needs more care.  A forecast three months ahead errs by what all
# three months bring; the one made a month later has two of the same before it:
#
#     made in May      [ June   July   August ]
#     made in June            [ July   August   September ]
#
# A surprise in July hits both.  So their errors are alike, and so is d: they are hardly
# two pieces of evidence.  The standard error above counts two, and is too small.
#
# The cure is to measure how alike neighbours are, and to add it.  How many steps lie
# between two d is their lag.  Let g_lag be the sum of the products of each (d - mean of
# d) with the one `lag` steps later, divided by M.  (These are autocovariances.)  g_0 is
# the mean square, the variance; g_1 is near g_0 if each d is like the next.  `ahead` is
# how many steps ahead the forecasts look: those `ahead` or more steps apart share no
# month, so there the sum stops.
#
#     standard error ^ 2 = (g_0 + 2 * (g_1 + ... + g_(ahead-1))) / M
#
# Why 2 *?  The mean of d is its sum, divided by M.  Square the sum: each pair stands in
# it twice, as (d_1 + d_2)^2 is d_1^2 + d_2^2 + 2 * d_1 * d_2.


def likeness(d, lag):
    """g_lag of d (M,): how alike are two that lie `lag` steps apart?"""
    centred = d - d.mean()  # (M,)
    later = centred[lag:]  # the first `lag` have nothing that many steps before them
    earlier = centred[: len(d) - lag]
    # Always by M, though there are fewer products: a g from few of them weighs less.
    return float(earlier @ later) / len(d)


def diebold_mariano(d, ahead):
    """Differences d (M,) of two costs, so many steps ahead -> (statistic, p)."""
    count = len(d)
    variance = likeness(d, 0)
    for lag in range(1, ahead):
        variance += 2 * likeness(d, lag)
    if variance <= 0:  # by chance the sum can fall below 0: leave the neighbours out
        variance = likeness(d, 0)
    if variance <= 0:
        return 0.0, 1.0  # both make the same errors
    statistic = d.mean() / (variance / count) ** 0.5
    # From few forecasts the g come out too small.  Harvey, Leybourne and Newbold (1997)
    # mend that by this factor, copied from their paper; of 400 forecasts it is near 1.
    # For ahead = 1 it does what ddof=1 did above.
    correction = (count + 1 - 2 * ahead + ahead * (ahead - 1) / count) / count
    statistic = float(statistic * correction**0.5)
    return statistic, chance_of(statistic, count)


def show_overlap():
    """Print errors three steps ahead that share surprises, and what the test does."""
    surprises = [-1, 3, 2, -2, 2, -1, -1, 0]
    # The error of three steps ahead is the sum of the next three surprises, which the
    # forecast could not know.  Neighbouring sums share two of them.
    errors = []
    for origin in range(len(surprises) - 2):
        errors.append(sum(surprises[origin : origin + 3]))
    print("\nWhy errors of overlapping forecasts are alike.  Months have surprises;")
    print("the error of a forecast three months ahead is the sum of three:")
    print("  surprises" + "".join(f"{value:>4}" for value in surprises))
    print("  errors   " + "".join(f"{value:>4}" for value in errors), end="")
    print("   -1 + 3 + 2, then 3 + 2 - 2, ...")
    row = np.array(errors, dtype=float)
    g_0 = likeness(row, 0)
    g_1 = likeness(row, 1)
    g_2 = likeness(row, 2)
    print("How alike are they?  (The test takes d, not errors.)  Their mean is 1; with")
    print("it subtracted they are 3 2 1 -2 -1 -3:")
    print(f"  g_0 = (3*3 + 2*2 + 1*1 + 2*2 + 1*1 + 3*3) / 6 = {g_0:.2f}")
    print(f"  g_1 = (3*2 + 2*1 - 1*2 + 2*1 + 1*3) / 6       = {g_1:.2f}")
    print(f"  g_2 = (3*1 - 2*2 - 1*1 + 2*3) / 6             = {g_2:.2f}")
    honest = (g_0 + 2 * (g_1 + g_2)) / 6
    made = f"({g_0:.2f} + 2 * ({g_1:.2f} + {g_2:.2f})) / 6 = {honest:.2f}"
    print(f"  standard error ^ 2 = {made}, not {g_0:.2f} / 6 = {g_0 / 6:.2f}")
    print(f"  so a statistic is {(g_0 / 6 / honest) ** 0.5:.2f} times what it was")


RIVALS = {"persistence": "p to last", "autoregression": "p to AR"}  # -> their columns


def score_all_steps(found, data):
    """For each step ahead: RMSE of four forecasts, and the p of the tests."""
    rows = []
    for ahead in range(1, data.horizon + 1):
        row = {}
        for name in ("persistence", "autoregression", found.ours, found.fed_back):
            row[name] = rmse_of(found, name, ahead)
        # `ahead` counts twice: it picks the errors, and it tells the test over how many
        # steps neighbours overlap.
        row["chosen"] = found.ways[ahead - 1]
        ours = errors_of(found, row["chosen"], ahead)  # (M - ahead + 1,)
        for name, column in RIVALS.items():
            theirs = errors_of(found, name, ahead)
            row[column] = diebold_mariano(ours**2 - theirs**2, ahead)[1]
        last = errors_of(found, "persistence", ahead)
        row["careless"] = compare_one_step(ours, last)[1]  # as if nothing overlapped
        rows.append(row)
    return rows


# --- 4.5 The band ---------------------------------------------------------------------
# The network has learned its band on training, where it has seen the answers, so on new
# data it may be too narrow.  (Books: it is a prediction interval, the share that it
# holds its coverage.)  Validation says by how much.  For each validation forecast, take
# how far the truth lies outside the band (below 0 if inside), sort these numbers, and
# widen the band by the one below which 80 % of them lie: the margin.  If it is below 0,
# the band was too wide and becomes narrower.  `show_calibration` does it for ten
# numbers.  So the band is fitted to validation: it fits test as far as test is alike.
# (This is conformalized quantile regression; Romano et al., 2019.)
#
# Which number is that, of ten?  Where among the sorted ten would an eleventh fall?
# There are eleven gaps, all equally likely if the eleven are of one kind and in no
# order (the books' word: exchangeable).  The eighth has 8 of the 11 gaps below it, 73
# %: too few; the ninth 82 %.  Of M numbers, that is number 0.8 * (M + 1), rounded up.
# For a series "of one kind" is an assumption: later years may differ.  And validation
# has chosen the epoch, too, so the errors there are a little too small.


def rank_of(count):
    """Which of so many sorted numbers widens the band: the ninth of ten."""
    rank = math.ceil(round(SHARE * (count + 1), 9))  # 0.9 - 0.1 is not quite 0.8: round
    return min(rank, count)


def margin_of(outside):
    """By how much to widen a band, from how far the truth lies outside it (M,)."""
    return np.sort(outside)[rank_of(len(outside)) - 1]  # places count from 0


def show_calibration():
    """Print the correction of a band from ten numbers."""
    # Six of the ten are below 0: the band held 60 %, so expect it to be widened.
    outside = [-0.9, 1.4, -3.1, 0.3, -0.2, 2.6, -1.5, -2.0, 0.8, -0.6]
    ordered = sorted(outside)
    print("\nCorrecting a band.  Ten times, how far did the truth lie outside it")
    print("(below 0: inside)?  Sorted:")
    print("  " + "  ".join(f"{value:+.1f}" for value in ordered))
    print(f"  the eighth, {ordered[7]}: the next lies below with 8 / 11 = {8 / 11:.0%}")
    print(f"  the ninth,  {ordered[8]}: the next lies below with 9 / 11 = {9 / 11:.0%}")
    print(f"  so both edges move outwards by {margin_of(outside):.1f}")


def calibrate(model, data, args):
    """The margins of the S bands, one for each step ahead: (S,)."""
    known = known_before(data, data.train_end, data.val_end)  # (M, T)
    bands = network_forecasts(model, data, known, args)  # (M, S, 3)
    start = data.train_end
    truth = utils.values_ahead(data.levels, start, data.val_end, data.horizon)  # (M, S)
    under = bands[:, :, LOW] - truth  # (M, S), above 0: the truth lies under the band
    over = truth - bands[:, :, HIGH]  # (M, S), above 0: over it
    outside = np.maximum(under, over)
    # From the last origins the truth lies beyond validation: not a number, left out.
    return np.array([margin_of(column[np.isfinite(column)]) for column in outside.T])


def corrected_band(model, data, margins, known, args):
    """known (M, T) -> low edge, mean, high edge in the series' units (M, S, 3)."""
    band = network_forecasts(model, data, known, args)  # (M, S, 3)
    band[:, :, LOW] -= margins
    band[:, :, HIGH] += margins
    return to_units(band, data.target)


# This is the band of the direct forecast.  Fed back, a network hands on its mean and no
# edges: where validation chose that, there is a forecast without a band.
#
# The rival of our band: the autoregression +- a constant that holds 80 % of its errors
# on validation.  As high months err more than low ones, it has two: one for a low last
# value, one for a high one (above the median).  A wide band holds much, a narrow one
# little: the pinball losses of both edges count both.  Their sum is called cost (books:
# quantile score).  Cost and share are two questions: a narrow band around a better
# forecast may cost less and yet break its promise.


def rival_band(found, data):
    """The autoregression +- a constant for low, one for high last values: (M, S, 3)."""
    truth = utils.values_ahead(data.values, data.train_end, data.val_end, data.horizon)
    # (M, S), not a number past the end of validation:
    missed = np.abs(found.before_test["linear on validation"] - truth)
    before = data.values[data.train_end - 1 : data.val_end - 1]  # (M,), of validation
    last = data.values[data.val_end - 1 : -1]  # (M,), of test
    bound = np.median(before)
    made = found.forecasts["autoregression"]  # (M, S)
    margins = np.zeros(made.shape)
    for learned_on, used_on in (
        (before <= bound, last <= bound),
        (before > bound, last > bound),
    ):
        for step, column in enumerate(missed.T):
            rows = np.isfinite(column)
            if (rows & learned_on).any():  # if not, both halves together
                rows &= learned_on
            margins[used_on, step] = margin_of(column[rows])
    return np.stack([made - margins, made, made + margins], axis=2)


def band_cost(band, truth):
    """The pinball losses of both edges of a band (M, 3): (M,) in the series' units."""
    low, _, high = torch.as_tensor(band).T
    truth = torch.as_tensor(truth)
    costs = pinball(truth, low, BELOW_LOW) + pinball(truth, high, BELOW_HIGH)
    return costs.numpy()


def share_held(band, truth):
    """The share of the known truth (M, S) that lies in a band (M, S, 3): (S,)."""
    inside = (band[:, :, LOW] <= truth) & (truth <= band[:, :, HIGH])  # (M, S)
    return inside.sum(0) / np.isfinite(truth).sum(0)


# --- 4.6 Trials and the answer --------------------------------------------------------
# What would another choice have changed?  RECORDED has the answers, of recorded runs.
# Some have no flag; the edits, in section 2:
#     one reader       in Forecaster `steps=horizon` for near, and far stays None
#     z begins high    in Reader: self.rnn.bias_ih_l0.data[hidden : 2 * hidden] = 3.0
#     no recurrence    AllAtOnce of 3.1 as the rnn: 132 values, 55 units (far: 54)
# One chooses by val_loss; test shows how far that is to be trusted.  (Nobody here was
# blind: we had seen test figures of 48 months before we tried 132.)
# ADVICE says how to choose for a series of yours.  Last, `conclude` answers the title.

RECORDED = """
Recorded on sunspots: another choice (seeds 0, 1, 2; test, asked directly)
                     val_loss             RMSE 1 ahead         12 ahead
  default            2.016 2.000 2.016    17.78 17.80 17.79    29.69 29.93 28.44
  --cell lstm        2.150 2.093 2.206    18.34 17.94 18.68    30.04 29.69 30.92
  --cell rnn         2.267 2.187 2.186    19.02 18.79 18.89    32.38 31.64 31.24
  no recurrence      2.152 2.181 2.172    18.21 18.31 18.17    30.10 30.55 31.93
  one reader         2.071 2.081 2.020    18.79 18.85 18.85    (not recorded)
By val_loss the GRU is ahead of LSTM and plain RNN with every seed; but its learning
rate was chosen for it, and theirs was not, so this proves little about cells.
Recurrence helps by val_loss, yet a network without it beats persistence, too (p 0.003
to 0.005).  One reader would have been chosen for the next step (RMSE on validation
15.59 15.54 15.51, the default 15.85 15.76 15.68), and on test it cannot be told from
persistence, p 0.18 to 0.22.

--sequence-length (seed 0)
             val_loss   GRU 1 ahead   12 ahead   autoregression 1   12 ahead
    6           2.634         18.78      39.24              18.36      38.58
    48          2.104         17.83      28.45              17.98      31.76
    132         2.016         17.78      29.69              18.00      28.81
    150         2.042         17.78      29.67              18.06      28.61
Both gain from more past.  One ahead the GRU gains more: with 6 values it is behind the
rival, with 132 ahead (of one seed each).  12 ahead both go down by ten from 6 to 132;
from 48 to 132 the rival alone gains.  More than 132 brings nothing.

Above 16 units, which are too few (val_loss 2.603), size, rate and epochs matter little:
32 or 96 units, --lr 0.0125, --epochs 30 and a z that begins high have 2.035 to 2.057,
where five seeds of the default reach up to 2.038.
From 1 to 2 ahead the direct GRU jumps from 17.78 to 23.48 on test, from one reader to
the other; why so far, we cannot explain (without recurrence 19.98)."""

ADVICE = """
For a series of yours: how to choose, in this order, on validation alone
  rivals    their RMSE there is the mark (first table of 4.4).  If no network is ahead
            of persistence and the autoregression with all three seeds, take none.
  T         one cycle, if the series has one; else 12, 48 and 150, by val_loss
  cell      first none: the window at once into Linear, tanh, Linear.  Then a plain
            RNN for a short T, a GRU for a long one; an LSTM if val_loss asks for it
  H, --lr   8, 16, 48, 96 units; 2.5 times the rate, and 2.5 times less
  --epochs  twice as many, another run: stay where val_loss falls no more
  seeds     three of the choice and three of its nearest neighbour: a gap that is
            smaller than what the seed changes is none
  direct    or fed back, for each step; then test, last, once"""


# ====================================================================================
# 5. Command line
# ====================================================================================


def make_flags():
    """The parser of this lesson's flags."""
    size = utils.whole(1, 100_000)
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(
        parser,
        ["sunspots", "stock", "sine", "heating", "simulated"],
        "CSV with a column of dates",
        columns=["date"],
    )
    # What is not named here, such as --clip, has the default of all lessons.
    utils.add_training_flags(parser, epochs=15, lr=0.005, batch_size=64, hidden_size=48)
    add = parser.add_argument_group("this lesson").add_argument
    add("--cell", choices=list(CELLS), default="gru", help="default gru")
    add("--column", help="what to forecast (default: the obvious one)")
    text = "T (default 132 for sunspots, else 48)"
    add("--sequence-length", type=size, help=text)
    add("--horizon", type=size, default=12, help="steps ahead (default 12)")
    text = "values, changes in %%, roots"
    add("--target", choices=["price", "return", "root"], default="price", help=text)
    add("--forecast", type=size, metavar="N", help="continue the series by N steps")
    add("--leaky-scaling", action="store_true", help="measure what a leak flatters")
    return parser


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__, small=True)
    if args.eval_only and args.leaky_scaling:
        raise utils.UserError("--leaky-scaling trains a network; drop --eval-only")

    # 1. The data: read and repaired, split by time and scaled; windows.
    offline = {"sine": None, "heating": None, "simulated": None}
    source = utils.choose_dataset(args, ["sunspots", "stock"], offline)
    series, repairs = read_series(args, source)
    series = utils.capped(args, series, 800)  # --quick reads the first 800 alone
    if args.eval_only:  # sizes and scaling are those that the model was trained with
        model, config, saved_with_it = utils.load(
            args, Forecaster, dataset=source.name, column=series.name
        )
        shape = [saved_with_it[name] for name in ("length", "horizon", "target")]
        scaling = Scaling(**saved_with_it["scaling"])
        data = make_data(source, series, *shape, scaling)
    else:
        length = args.sequence_length or (132 if source.name == "sunspots" else 48)
        target = VALUES if args.target == "price" else args.target
        shape = [length, args.horizon, target]
        data = make_data(source, series, *shape)
        config, saved_with_it = new_model(data, series.name, args)
    say_what_was_read(data, series.name, repairs)
    utils.heading("1. Windows")
    show_windows()
    show_one_window(data)

    # 2. The model: the cell by pencil, and against PyTorch's.
    utils.heading("2.1 The cell")
    show_one_step()
    show_limits()
    show_by_hand()
    utils.heading("2.2 Why it can learn from far back")
    show_gradient()

    # 3. Training: small networks in the open; a gate; an edge's loss; the network.
    utils.heading("3.1 A small GRU in the open")
    train_in_the_open(min(args.epochs, 15))
    utils.heading("3.2 A task for a gate")
    show_marks()
    utils.heading("3.3 The loss of a forecast and of a band")
    show_pinball()
    utils.heading("3.4 The loop")
    records = []
    if not args.eval_only:
        copied = explain_the_lines(data)
        model, records = train_model(data, config, args, saved_with_it)
        read_the_lines(records, copied, data)
    show_past(model, data, args)

    # 4. Evaluation: one step ahead, further ahead, the band and its rival, pictures.
    found = judge(model, data, args)
    utils.heading("4.3 One step ahead: is a smaller error more than luck?")
    show_test()
    rows = report_one_step(found, data)
    by_step = score_all_steps(found, data)
    if data.horizon > 1:
        utils.heading("4.4 Several steps ahead")
        show_overlap()
        report_all_steps(found, by_step, data)
    utils.heading("4.5 The band")
    show_calibration()
    margins = calibrate(model, data, args)
    known = known_before(data, data.val_end, len(data.values))
    no_margins = np.zeros(data.horizon)
    learned = corrected_band(model, data, no_margins, known, args)  # as it was before
    band = corrected_band(model, data, margins, known, args)
    show_forecasts(band, data)
    extra = report_bands(learned, band, found, data)
    if not args.no_plots:
        draw(found, band, data, records, args)
    if args.leaky_scaling:
        extra |= report_leak(found, data, config, args)
    write_results(found, rows, by_step, extra, model, data, records, args)
    utils.heading("4.6 Trials and the answer")
    if source.name == "sunspots":
        print(RECORDED)
    print(ADVICE)
    conclude(found, rows, extra, model, data)
    if args.forecast:
        continue_series(model, data, found.ways, margins, args)


# --- What serves a table, a picture, a flag or a file alone ---------------------------


def as_text(number, data):
    """A number to be printed: two decimals, or more if the whole series is small."""
    size = math.log10(data.values[: data.train_end].std())
    decimals = min(max(2, 3 - math.floor(size)), 12)
    return f"{number:.{decimals}f}"


def say_what_was_read(data, column, repairs):
    """Print how long the series is, where its parts begin, and what was repaired."""
    print(f"{data.source.label}: '{column}', {len(data.values):,} values")
    bounds = [0, data.train_end, data.val_end, len(data.values)]
    for place, name in enumerate(("training", "validation", "test")):
        mean = data.values[bounds[place] : bounds[place + 1]].mean()
        start = data.dates[bounds[place]]
        print(f"  {name:<11} from {start:%Y-%m-%d}, mean {as_text(mean, data)}")
    # A drawing: for each twentieth of the series a column as high as its mean.
    means = [piece.mean() for piece in np.array_split(data.values, 20)]
    height = max(means) - min(means) or 1
    drawn = "".join("▁▂▃▄▅▆▇█"[round(7 * (m - min(means)) / height)] for m in means)
    print(f"  {drawn[:14]}|{drawn[14:17]}|{drawn[17:]}  the mean of each twentieth")
    for sentence in repairs or ["nothing to repair"]:
        print(f"  - {sentence}")


def p_text(p):
    """p for a table: three digits are enough, and none is 0."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def read_series(args, source):
    """The series of --dataset or --input, and sentences on what was repaired."""
    if source.name != "heating":
        return utils.load_series(args, source)
    if args.column not in (None, "degrees"):
        raise utils.UserError("data set 'heating' has one column, 'degrees'")
    return heating_series()[0], []


def new_model(data, column, args):
    """(config, saved_with_it) of a new model: how to build it, and what feeds it."""
    config = {"cell": args.cell, "hidden": args.hidden_size, "layers": args.num_layers}
    config |= {"dropout": args.dropout, "horizon": data.horizon}
    # Without these the weights mean nothing: another scaling would be another language.
    saved = {"dataset": data.source.name, "column": column, "length": data.length}
    saved |= {"horizon": data.horizon, "target": data.target}
    return config, saved | {"scaling": data.scaling._asdict()}


def explain_the_lines(data):
    """Print what the figures in the lines of training mean."""
    later = make_windows(data, data.train_end, data.val_end)
    # Persistence is an output of 0: its error is the target itself.
    copied = float((later["y"][:, 0] ** 2).mean())
    print(f"\nTraining on {data.source.label}: one line an epoch, val_ on validation")
    print("  loss       step 1 + further; of a step: squared error and pinball losses")
    print("  one_step   the squared error of step 1 alone; on validation persistence,")
    print(f"             an output of 0, has {copied:.4f}")
    print("  further    the mean of the losses of steps 2, 3, ... S")
    print("  grad_norm  the length of the gradient before clipping to 1 (lesson 04)")
    return copied


def read_the_lines(records, copied, data):
    """Print what the best epoch has; copied: persistence's one_step on validation."""
    best = min(records, key=lambda record: record["val_loss"])
    count = data.val_end - data.train_end
    usual = data.scaling.step_sizes[0]
    rmse = best["val_one_step"] ** 0.5 * usual
    utils.say(
        f"""Reading it: in the best epoch val_one_step is {best["val_one_step"]:.4f},
        {best["val_one_step"] / copied:.0%} of what persistence has.  Its root times
        the usual change, {usual:.4g}, is {as_text(rmse, data)}: the RMSE over the
        {count - data.horizon + 1:,} windows whose answers all lie in validation.  (4.4
        counts all {count:,} forecasts of one step, and says what that changes.)"""
    )


def score_one_step(found, data):
    """name -> scores one step ahead; of a rival also the network's test against it."""
    # MASE needs persistence's mean absolute error on the training part (lesson 03).
    naive_mae = np.abs(np.diff(data.values[: data.train_end])).mean()
    ours = errors_of(found, found.ours, 1)
    rows = {found.ours: utils.forecast_scores(ours, naive_mae)}
    for name in found.forecasts:
        if name in (found.ours, found.fed_back):  # one step ahead they are the same
            continue
        theirs = errors_of(found, name, 1)
        rows[name] = utils.forecast_scores(theirs, naive_mae)
        statistic, p = compare_one_step(ours, theirs)
        rows[name]["statistic"] = statistic
        rows[name]["p"] = p
    # The autoregression against persistence: for the answer to the title.
    last = errors_of(found, "persistence", 1)
    _, p = compare_one_step(errors_of(found, "autoregression", 1), last)
    rows["autoregression"]["p to last"] = p
    return rows


def noise_floor(data):
    """The mean squared noise in an invented test part: no forecast can know it."""
    make = utils.sine_series if data.source.name == "sine" else heating_series
    noise = np.asarray(make()[1])[data.val_end : len(data.values)]
    return float(np.mean(noise**2))


def verdicts(found, rows):
    """What the network does, and to which rivals: {"beats": [names], ...}."""
    said = {}
    for name, row in rows.items():
        if name != found.ours:
            word = verdict(rows[found.ours]["RMSE"], row["RMSE"], row["p"])
            said.setdefault(word, []).append(name)
    return said


def report_one_step(found, data):
    """Print the table one step ahead and what it says; returns its rows."""
    rows = score_one_step(found, data)
    whole = rows["persistence"]["MSE"]  # 0 where nothing ever moves
    shown = {}
    for name, row in rows.items():
        shown[name] = {key: as_text(row[key], data) for key in ("RMSE", "MAE")}
        shown[name]["MASE"] = f"{row['MASE']:.2f}"
        shown[name]["foretold"] = f"{1 - row['MSE'] / whole:.1%}" if whole > 0 else "-"
        if name != found.ours:  # the network is not tested against itself
            shown[name]["statistic"] = f"{row['statistic']:.2f}"
            shown[name]["p"] = p_text(row["p"])
    chosen = found.before_test
    title = f"{data.source.label}: test, one step ahead, {len(found.truth):,} forecasts"
    utils.print_table(title, shown)
    season = chosen["season"] or "none that training shows"
    utils.say(
        f"""statistic, p (Diebold-Mariano): the {found.ours} against this rival, below 0
        where the {found.ours} errs less; foretold: how much of persistence's squared
        error is gone (4.3).  The moving average takes {chosen["width"]} values, the
        autoregression {chosen["order"]} (further ahead another number); the season is
        {season}.  Persistence has MASE 1 on training; where it has more here, test is
        the harder part."""
    )
    print(f"Reading it: the {found.ours}")
    for said, names in verdicts(found, rows).items():
        print(f"  {said} {', '.join(names)}")
    last = errors_of(found, "persistence", 1)
    d = errors_of(found, found.ours, 1) ** 2 - last**2  # (M,)
    alike = likeness(d, 1) / (likeness(d, 0) or 1)
    chance = 2 / len(d) ** 0.5  # as for any mean: two standard errors
    said = "p may be taken as it is"
    if abs(alike) > chance:  # neighbours of one sign add up, those of two cancel
        said = "p is too small" if alike > 0 else "p is too large, the safe side"
    utils.say(
        f"""How alike are each d and the next, against persistence (4.4 has the
        formula)?  {alike:z.2f}; chance alone stays within {chance:.2f} of 0.  So
        {said}."""
    )
    if data.source.name in ("sine", "heating"):
        # But for luck no forecast comes below the noise: 1 times as much is the best.
        times = rows[found.ours]["MSE"] / noise_floor(data)
        print(f"{found.ours}: mean squared error {times:.3f} times that of the noise.")
    return rows


SHOWN_STEPS = (1, 2, 3, 6, 12, 24, 48)  # in the tables


def report_all_steps(found, rows, data):
    """Print direct, fed back and two rivals on validation and test, and p on test."""
    on_validation = found.before_test["RMSE on validation"]  # name -> (S,)
    tables = {"RMSE on validation": {}, "RMSE on test": {}, "p on test": {}}
    for ahead, row in enumerate(rows, start=1):
        if ahead not in (*SHOWN_STEPS, data.horizon):
            continue
        before = {name: errors[ahead - 1] for name, errors in on_validation.items()}
        for part, errors in (("validation", before), ("test", row)):
            linear = errors["autoregression"]
            ratio = errors[found.ours] / linear if linear > 0 else math.nan
            tables[f"RMSE on {part}"][f"{ahead} ahead"] = {
                "direct": as_text(errors[found.ours], data),
                "autoregression": as_text(linear, data),
                "direct / AR": f"{ratio:.2f}",
                "fed back": as_text(errors[found.fed_back], data),
                "persistence": as_text(errors["persistence"], data),
            }
        tables["p on test"][f"{ahead} ahead"] = {
            "chosen": "direct" if row["chosen"] == found.ours else "fed back",
            "to AR": p_text(row["p to AR"]),
            "to persistence": p_text(row["p to last"]),
            "careless": p_text(row["careless"]),
        }
    print(f"\nThe {found.ours} asked directly and fed back.  direct / AR: the RMSE of")
    print("direct divided by that of the autoregression; below 1 direct errs less.")
    for title, table in tables.items():
        utils.print_table(f"{data.source.label}: {title}", table, "steps")
    utils.say(
        """chosen: what errs less on validation.  to AR, to persistence: p of the chosen
        against these.  careless: the p to persistence by the formula of 4.3, as if errors
        did not overlap; where it alone is below 0.05, it mistakes luck for a lead."""
    )
    utils.say(
        """Reading it: lay the two tables of RMSE side by side, column direct / AR.
        Where it is below 1 on validation and above 1 on test, the lead is gone where it
        counts.  The choice of direct or fed back, too, is right only as far as test
        resembles validation.  (To choose by test now would be to fit the choice to
        it.)"""
    )
    rest = data.horizon - 1  # the months that are in this table, but not in val_loss
    squares = found.before_test["errors on validation"][found.ours][:, 0] ** 2  # (M,)
    others = as_text(squares[:-rest].mean() ** 0.5, data)
    utils.say(
        f"""One step ahead on validation: the last {rest} of its {len(squares):,}
        forecasts have an RMSE of {as_text(squares[-rest:].mean() ** 0.5, data)}, the
        others {others}.  These {rest} carry {squares[-rest:].sum() / squares.sum():.0%}
        of the squared error, and val_loss (3.4) does not know of them.  So few can move
        a comparison."""
    )


def show_forecasts(band, data):
    """Print eight forecasts of the test part, one step ahead, beside the truth."""
    count = len(band)
    print(f"\n{data.source.label}: eight forecasts of the test part, one step ahead")
    print("    date        last known  forecast      80 % band         width     truth")
    # Eight, equally far apart, so that calm and wild times are among them.
    for row in range(0, count, max(1, count // 8))[:8]:
        place = data.val_end + row  # of the value that was asked for
        low, mean, high = band[row, 0]  # 0: one step ahead
        truth = data.values[place]
        mark = "✔" if low <= truth <= high else "✘"
        numbers = [data.values[place - 1], mean, low, high, high - low, truth]
        texts = [f"{as_text(number, data):>8}" for number in numbers]
        texts.insert(3, "to")  # between the two edges
        print(f"  {mark} {data.dates[place]:%Y-%m-%d}  " + "  ".join(texts))
    print("✔: the truth lies in the band.  Look at width beside last known: a band")
    print("should know when to be unsure.")


def report_bands(learned, band, found, data):
    """Print the bands by steps ahead, beside their rival; returns metrics.

    learned: as the network made it; band: corrected, (M, S, 3) each.
    """
    rival = rival_band(found, data)
    before = share_held(learned, found.truth)
    ours = share_held(band, found.truth)
    theirs = share_held(rival, found.truth)
    rows = {}
    costs = {}
    tests = []  # mean cost of ours, of the rival, and p, for each step shown
    for place in range(data.horizon):
        if place + 1 not in (*SHOWN_STEPS, data.horizon):
            continue
        # Where it is known: the last origins have no answer so far ahead.
        count = len(band) - place
        truth = np.array(found.truth[:count, place])  # (M - place,)
        cost = band_cost(band[:count, place], truth)
        rival_cost = band_cost(rival[:count, place], truth)
        p = diebold_mariano(cost - rival_cost, place + 1)[1]
        tests.append((float(cost.mean()), float(rival_cost.mean()), p))
        width = band[:count, place, HIGH] - band[:count, place, LOW]
        rows[f"{place + 1}"] = {
            "width": as_text(np.median(width), data),
            "as learned": f"{before[place]:.1%}",
            "corrected": f"{ours[place]:.1%}",
            "rival": f"{theirs[place]:.1%}",
        }
        costs[f"{place + 1}"] = {
            "ours": as_text(cost.mean(), data),
            "rival": as_text(rival_cost.mean(), data),
            "p": p_text(p),
        }
    print("\nThe share of test that a band holds, and what it costs:")
    print("  width        the median width of ours, corrected")
    print("  as learned   the share that ours held before the correction")
    print("  corrected    and after it, with the margin of validation")
    print("  rival        the share that the autoregression +- a constant holds")
    title = f"{data.source.label}: the 80 % band on test"
    utils.print_table(f"{title}: what it holds", rows, "ahead")
    utils.print_table(f"{title}: its cost", costs, "ahead")
    # A share is a mean of ones and zeros: its standard error is the root of share * (1
    # - share) / M.  Once for test, once for validation, which gave the margin.
    count = len(band)
    found_on = data.val_end - data.train_end
    slack = 2 * (0.8 * 0.2 * (1 / count + 1 / found_on)) ** 0.5
    may_be = "may be chance" if abs(ours[0] - 0.8) <= slack else "is more than chance"
    worse = "ours" if abs(ours[-1] - 0.8) > abs(theirs[-1] - 0.8) else "the rival"
    ps = [p for _, _, p in tests]
    told = sum(p < 0.05 for p in ps)
    said = f"by more than luck at {told} of the {len(ps)} steps shown"
    if told == 0:
        said = f"at no step shown by more than luck (p {min(ps):.2f} to {max(ps):.2f})"
        said += ": here the learned band is not worth its network"
    utils.say(
        f"""Reading it: chance moves the share of a good band by up to about
        {100 * slack:.0f} points from 80 %; 1 ahead ours holds {ours[0]:.1%}, which
        {may_be}.  (If a miss does not foretell another; further ahead chance is
        larger.)  At {data.horizon} ahead ours holds {ours[-1]:.1%}, the rival
        {theirs[-1]:.1%}: {worse} is further from its promise.  Where errors are larger
        on test than on validation (4.4), a band is too narrow.  In cost the two differ
        {said}."""
    )
    return {
        "coverage_at_horizon": float(ours[-1]),
        "test_coverage": float(ours[0]),
        "band_cost": tests[0][0],
        "constant_band_cost": tests[0][1],
        "p_band": tests[0][2],
    }


YES = "yes"
OTHERS = "yes, though this network has not learned it"
NO = "no"


def answer_to_title(found, rows):
    """Does the past tell more than its last value?  YES, OTHERS or NO."""
    last = rows["persistence"]
    linear = rows["autoregression"]
    if verdict(rows[found.ours]["RMSE"], last["RMSE"], last["p"]) == "beats":
        return YES
    if verdict(linear["RMSE"], last["RMSE"], linear["p to last"]) == "beats":
        return OTHERS
    return NO


def conclude(found, rows, extra, model, data):
    """Print the answer to the title."""
    print("\n=== The answer to the title ===")
    print("Does the past tell the future, more than the last value alone tells it?")
    print(f"  {data.source.label}: {answer_to_title(found, rows)}.")
    for said, names in verdicts(found, rows).items():
        print(f"  One step ahead the {found.ours} {said} {', '.join(names)}.")
    linear = rows["autoregression"]
    said = verdict(linear["RMSE"], rows["persistence"]["RMSE"], linear["p to last"])
    print(f"  The autoregression {said} persistence, p {p_text(linear['p to last'])}.")
    near = f"{extra['test_coverage']:.1%}"
    print(f"  The 80 % band holds {near} of the next step,", end=" ")
    print(f"{extra['coverage_at_horizon']:.1%} at {data.horizon} ahead.")
    p = extra["p_band"]
    said = verdict(extra["band_cost"], extra["constant_band_cost"], p)
    print(f"  In cost the band {said} its rival one step ahead, p {p_text(p)}.")
    weights = utils.count_parameters(model.near)
    utils.say(
        f"""Worth its cost here?  For the next step the network has {weights:,} weights,
        edges included, the autoregression {found.before_test["order"] + 1}.  A network
        that does not beat the autoregression is not worth them.  It pays where a
        weighted sum cannot follow, as on the heating of 3.1."""
    )
    if data.source.name == "sunspots":  # it was chosen on these
        utils.say(
            """What the recorded runs add.  The past does tell more than the last value:
            the autoregression shows it, a network without recurrence, and the GRU as it
            was chosen.  Yet for the next step GRU and autoregression are not to be told
            apart on validation, either (15.85 15.76 15.68 with three seeds, and 15.74):
            take the simpler one.  One reader had 15.59 15.54 15.51 there, so it would
            have been chosen, and had 18.8 on test: that is what a choice on validation
            is worth.  At 12 ahead the GRU had a lead of 12 % there; on test nothing of
            it is left."""
        )
    utils.say(
        """Other series (recorded, seed 0).  The sine: yes, all but the noise; the
        squared error is 1.05 times that of the noise.  Prices of the S&P 500: no;
        36.30, the last price 36.18, p 0.27."""
    )
    utils.say(
        """In use one would train once more on all values, with what was chosen, and
        again every year.  Here the weights have seen training alone, so that test stays
        a test.  And before you believe a network, ask what the last value and a
        weighted sum can do, how sure it is, and on what its makers chose it."""
    )


def draw(found, band, data, records, args):
    """Pictures: the course of training, the forecast with its band."""
    about = data.source.label
    panels = {"loss": ["loss", "val_loss"], "next step": ["one_step", "val_one_step"]}
    curves = {found.ours: records}
    utils.plot_records(args, "training", f"Training, {about}", curves, panels)
    last = slice(-100, None)  # in a wider picture a copy and a forecast look the same
    late = "the truth, one step late"
    lines = {
        "truth": found.truth[last, 0],
        f"{found.ours}, one step ahead": found.forecasts[found.ours][last, 0],
        late: found.forecasts["persistence"][last, 0],
    }
    title = f"One step ahead, {about}"
    dates = data.dates[data.val_end :][last]
    more = {"width": 11, "dashed": [late]}
    more["band"] = (band[last, 0, LOW], band[last, 0, HIGH])
    utils.plot_lines(args, "forecast", title, lines, "date", "value", dates, **more)
    print("  Reading it: persistence turns one step late.  And the forecast?")


# What --target does.  Levels are what is forecast: the values themselves (price), their
# roots (root), or their logarithms (return).  A change of a logarithm is a change in
# per cent: from 100 to 110 and from 1000 to 1100 is alike, log 110 - log 100 = log 1100
# - log 1000 = 0.095.  With `return` the network reads such changes, not the levels: T
# levels have T - 1 changes between them.


def to_levels(values, target):
    """What is forecast, from the values of the series."""
    if target == "root":
        if values.min() < 0:
            raise utils.UserError("--target root takes a series without minus; drop it")
        return np.sqrt(values)
    if target == "return":
        if values.min() <= 0:
            raise utils.UserError("--target return takes a series above zero; drop it")
        return np.log(values)
    return values


def to_units(levels, target):
    """Back from levels to the units of the series."""
    # The mean of logarithms or roots is not that of the values: such forecasts lie a
    # little low.
    if target == "root":
        return np.maximum(levels, 0) ** 2  # a count is not negative
    return np.exp(levels) if target == "return" else levels


def what_is_read(levels, target):
    """What the network reads of levels: them, or the changes between neighbours."""
    if target == "return" and levels.shape[-1] < 2:
        raise utils.UserError("--target return takes --sequence-length 2 or more")
    return np.diff(levels) if target == "return" else levels


def report_leak(found, data, config, args):
    """`--leaky-scaling`: train again, scaled with everything: metrics."""
    print("\nOnce more, the scaling fitted on everything, the test part included")
    scaling = fit_scaling(data.levels, data.horizon, data.target)
    leaky_data = data._replace(scaling=scaling)
    model, _ = train_model(leaky_data, config, args)
    honest = errors_of(found, found.ours, 1)
    leaky = errors_of(judge(model, leaky_data, args), found.ours, 1)
    _, p = compare_one_step(leaky, honest)
    rmse = float(np.mean(leaky**2) ** 0.5)
    honest_rmse = float(np.mean(honest**2) ** 0.5)
    print(f"  RMSE: leaky {as_text(rmse, data)}, honest {as_text(honest_rmse, data)}")
    # A careless report prints the RMSE of scaled values: only the ruler is another.
    scaled = rmse / float(data.values.std())
    print(f"  p = {p:.2g}; the leaky one divided by that std: {scaled:.4f}")
    return {"leaky_rmse": rmse, "leaky_scaled_rmse": scaled, "p_leaky": p}


def next_dates(dates, count):
    """The `count` dates after `dates` if they are regular, else 1, 2, ..."""
    import pandas as pd

    with warnings.catch_warnings(action="ignore"):  # about what pandas 4 will return
        step = pd.infer_freq(dates) if len(dates) > 2 else None
    try:
        found = pd.date_range(dates[-1], periods=count + 1, freq=step or "D")[1:]
    except (ValueError, OverflowError):  # pandas' dates have an end
        step = None
    if step is None or found[-1].year >= 9500:  # matplotlib ends with the year 9999
        return pd.RangeIndex(1, count + 1)
    return found


# `--forecast 24` on sunspots ends with 24 months; four of them (seed 0):
#                 10 %  forecast  90 %
#     1984-01-01 32.18     46.05 60.89    the next step, by the reader of its own
#     1984-02-01  34.2     56.98  69.9    the further steps, by the other one
#     1984-12-01 25.16     39.96 60.12    the last of the 12 that are asked for directly
#     1985-01-01     -     37.95     -    made of our own forecasts: no band


def continue_series(model, data, ways, margins, args):
    """`--forecast N`: what may come after the end, direct or fed back as chosen."""
    import pandas as pd

    known = data.levels[None, -data.length :]  # (1, T)
    band = corrected_band(model, data, margins, known, args)[0]  # (S, 3)
    made = to_units(feed_back(model, data, known, data.horizon, args), data.target)[0]
    is_fed = np.array([way != model.name for way in ways])  # (S,)
    band[is_fed] = np.nan  # there is no band for it
    band[is_fed, MEAN] = made[is_fed]
    # Past the horizon: what is known now ends with our own forecasts; they are fed
    # back.
    made = np.append(data.levels, to_levels(band[:, MEAN], data.target))
    known = made[None, -data.length :]  # (1, T)
    further = feed_back(model, data, known, max(args.forecast - data.horizon, 1), args)
    rows = np.full((data.horizon + further.shape[1], 3), np.nan)  # no band past S
    rows[: data.horizon] = band
    rows[data.horizon :, MEAN] = to_units(further[0], data.target)
    rows = rows[: args.forecast]
    dates = next_dates(data.dates, args.forecast)
    low, mean, high = rows.T
    names = {"10 %": low, "forecast": mean, "90 %": high}
    about = f"{data.source.label}, after {data.dates[-1].date()}"
    print(f"\n{about}.  Each step direct or fed back, as validation")
    print(
        f"chose, and fed back after {data.horizon} steps (--horizon).  What is fed back"
    )
    print(
        "has no band.  Steps 1 and 2 come from two readers: a jump between them is no"
    )
    print("forecast of a jump.")
    print(pd.DataFrame(names, dates).to_string(float_format="%.4g", na_rep="-"))
    lines = {"forecast": mean}
    edges = (low, high)
    utils.plot_lines(
        args, "future", about, lines, "date", "value", dates, band=edges, width=9
    )


def write_results(found, rows, by_step, extra, model, data, records, args):
    """metrics.json: what the tables said."""
    farthest = by_step[-1]  # the row of the horizon
    metrics = {f"test_{name.lower()}": x for name, x in rows[found.ours].items()}
    metrics |= {
        "p_persistence": rows["persistence"]["p"],
        "p_autoregression": rows["autoregression"]["p"],
        "rmse_at_horizon": farthest[found.ours],
        "p_autoregression_at_horizon": farthest["p to AR"],
    }
    known = {f"{name}_rmse_at_horizon": farthest[name] for name in RIVALS}
    for name in rows.keys() - {found.ours}:
        known[f"{name.replace(' ', '_')}_rmse"] = rows[name]["RMSE"]
    if data.source.name == "sine":
        known["noise_variance"] = noise_floor(data)
    size = utils.count_parameters(model)
    windows = data.train_end - data.length - data.horizon
    utils.write_metrics(
        args, data.source, metrics | extra, known, size, records, windows, "windows"
    )


if __name__ == "__main__":
    sys.exit(utils.run(main))
