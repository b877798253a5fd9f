"""03 · How does a series become training examples?

A series is one long row of numbers, each with its date: sunspots by month, a price by
day.  A network cannot learn from one row.  It learns from many examples, and an example
is a pair: what the network may read (the input) and what it should answer (the target).
This lesson makes the pairs, first by hand on ten numbers, then on a real series:

    dated rows -> repaired -> split by time -> scaled -> windows -> a fitted line

The last arrow is the proof that the examples are good for something.  No network is
trained yet: the model is the plainest that can read a window, a weighted sum of its
values.  By then the title is answered (sections 1 to 3).  Section 4 asks two more
questions.  Is the error small, beside rules that learn nothing?  And may one believe
it?  Four common mistakes are made on purpose, and what each hides is measured.

What you will learn
    - to repair dates that are out of order, written twice, or missing
    - to split by time, to scale by the training part alone, and why
    - to cut a series into windows: T values to read, and one to answer with, h steps
      later (the horizon); and to hand them out in batches
    - to fit a line to the windows, and to bring its answers back to sunspots
    - four rules of one line that a network has to beat, and three measures of error
    - to see memory and a season in a series (autocorrelation)
    - four traps: a ruler that has seen the test, shuffled windows, a smoothed series,
      and prices that are not judged by their returns

You need lesson 01 (a batch of sequences has the shape (B, T, F)), and arrays in NumPy.

Run it
    python 03_time_series_basics.py
    python 03_time_series_basics.py --dataset stock
    python 03_time_series_basics.py --dataset sine --horizon 12

You should see  (sunspots [real], one thread, about 6 seconds in all)
    The line, fitted to 1,938 windows of 36 months, errs by 17.9855 sunspots (RMSE) on
    the test years.  Then the same years by rules of one line:
                         test RMSE   test MASE
      persistence          19.7322      1.2750     the last value again
      moving average       19.4889      1.2541     the mean of the last 2
      drift                19.7319      1.2749     on along a straight line
      seasonal naive       44.8352      2.9008     the value 127 months ago
      autoregression       17.9852      1.1599     the line once more (see section 4)
    RMSE is the typical size of an error; MASE is 1 for as good as persistence was in
    the training years.  The line's lead over persistence is more than luck (p = 0.001).
    Then the traps:
      scaled by everything    the same forecast seems 12.8 % better
      shuffled windows        a look-up seems to err by 22.39; split by time, by 29.06
      smoothed series         an error of 1.6 that is honestly 10.0
      prices                  good as prices, worthless as returns

Try this  (guess first, then run; docs/exercises.md answers two of them)
    --horizon 60                 on the sunspots: which rule is the best then?
    --dataset sine --horizon 25  half a period: which one is the worst, and why?
    --sequence-length 6          which lines of the output change, and which cannot?
    --input my.csv --column NAME
                                 does a season show in your own data?
"""

# Sizes
#     n  values in the series        T  values in one window (--sequence-length)
#     N  windows, that is examples   h  steps from a window's last value to its target
#     B  batch (windows)                (--horizon; 1 is the very next value)
#     M  forecasts of one part       n1, n2  places where validation and test start
# Words
#     place   where a value stands in the series, counted from 0
#     origin  the place of the last value that a forecast knows; its target is h later

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================
#
# Five things happen to a series before a model sees it, in this order:
#
#   repair   one value for each date, dates in order, none left out
#   split    two borders in time: early years to learn from, the last ones to test
#   scale    numbers of a size that a network can learn from
#   window   many short pieces, each with the value that came after it: the examples
#   deal     each window to the part of the data in which its target lies
#
# Each is done by hand on a toy first (the functions called show_...), then on the
# series that --dataset names (report_...).

# --- repair -------------------------------------------------------------------------
#
# A window takes T values that stand one below the other, and trusts that each lies one
# step after the one before.  If a month is missing, or stands there twice, every window
# across that place is wrong, and nothing says so.  So the dates come first.
#
# These ten rows have all the common faults: April before March, May twice, no row for
# June, an empty cell in August.

TEN_ROWS = """\
date,value
2001-01,10
2001-02,14
2001-04,13
2001-03,12
2001-05,15
2001-05,16
2001-07,18
2001-08,
2001-09,17
2001-10,19
"""


def read_rows(text):
    """Lines of a CSV file -> list of (date, value); an empty cell gives None."""
    rows = []
    for line in text.splitlines()[1:]:  # the first line is the header
        date, cell = line.split(",")
        value = float(cell) if cell else None
        rows.append((date, value))
    return rows


def sort_rows(rows):
    """By date.  Rows of the same date stay in the order of the file.

    The dates are texts, and texts are sorted letter by letter.  That is the order in
    time only because the year comes first and May is 05: "2001-05", never "2001-5".
    """
    return sorted(rows, key=lambda row: row[0])


def merge_repeats(rows):
    """One row for each date: the last one counts, unless its cell is empty.

    Why the last?  A second row is mostly a correction of the first.
    """
    merged = {}
    for date, value in rows:
        if value is not None or date not in merged:
            merged[date] = value
    return list(merged.items())


def next_month(date):
    """2001-05 -> 2001-06, and 2001-12 -> 2002-01."""
    year = int(date[:4])
    month = int(date[5:])
    if month == 12:
        return f"{year + 1}-01"
    return f"{year}-{month + 1:02d}"


def fill_gaps(rows):
    """Walk from the first month to the last; one without a value takes the last known.

    Why not a value half way to the next one, which would look smoother?  Because then
    the value of June is made with the help of July's: the past would know the future,
    and a forecast from June would be better than it can be in life.
    """
    values = dict(rows)
    date = rows[0][0]
    known = None
    filled = []
    while date <= rows[-1][0]:  # texts again; see sort_rows
        value = values.get(date)  # None for an empty cell, and for a missing row
        if value is not None:
            known = value
        if known is not None:  # before the first value there is nothing to say
            filled.append((date, known))
        date = next_month(date)
    return filled


# Two limits of this repair.  A long gap becomes a flat line, which is easy to forecast;
# so look for long gaps before you believe a score.  And not each
# missing date is a fault: markets are closed at weekends.  `utils.load_series` takes
# the most common step between two dates as the step of the series.  If that is one day,
# and Saturdays and Sundays are (nearly) all missing, it fills nothing: the step is then
# one day of trading, and Monday follows Friday.


def as_text(rows):
    """Rows as month:value, such as 01:10 02:-- where -- is an empty cell."""
    cells = []
    for date, value in rows:
        shown = "--" if value is None else f"{value:g}"
        cells.append(f"{date[5:]}:{shown}")
    return " ".join(cells)


def repair_by_utils(text):
    """The same rows through the two functions that make up `utils.load_series`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ten_rows.csv"
        path.write_text(text)
        series = utils.read_series(path)
    return utils.repair_series(series)


def show_repair():
    """Repair the ten rows in three steps, and compare with utils.load_series."""
    rows = read_rows(TEN_ROWS)
    in_order = sort_rows(rows)
    merged = merge_repeats(in_order)
    filled = fill_gaps(merged)
    print("Repair by hand: ten rows of a file, as month:value")
    print(f"  in the file  {as_text(rows)}")
    print(f"  1. sorted    {as_text(in_order)}")
    print(f"  2. merged    {as_text(merged)}")
    print(f"  3. filled    {as_text(filled)}")
    print("Sorted: March now stands before April.  Merged: of the two rows of May the")
    print("last counts.  Filled: June (no row) and August (empty) take the value")
    print("before.  Half way between May and July would be 17 for June; but in June")
    print("nobody knew July.")
    series, said = repair_by_utils(TEN_ROWS)
    ours = np.array([value for _, value in filled])  # (10,)
    gap = np.abs(series.to_numpy() - ours).max()
    print(f"utils.load_series finds the same: largest difference {gap:g}.  It says:")
    for sentence in said:
        print(f"  - {sentence}")


# What each data set is.
ABOUT = {
    "sunspots": """\
Sunspots are dark, cooler patches on the sun.  They have been counted every
month since 1749.  Their number rises and falls in about eleven years.""",
    "stock": """\
The S&P 500 is made of the prices of 500 large American companies: one value
for each day of trading, none for weekends and holidays.""",
    "sine": """\
Made here: a sine wave of period 50, plus noise of variance 0.04.  So we know
how good the best possible forecast is, which nobody knows of real data.""",
    "simulated": """\
Made here: a price whose daily changes are drawn at random.  There is nothing
in it to be learned, and that is what it is for.""",
    "input": "Your own data.",
}


def date_at(series, place):
    """The date of a place, such as 1749-01-01; with the time of day, if it has one."""
    return str(series.index[place]).removesuffix(" 00:00:00")


def report_series(series, repairs, source):
    """Print what was read, both ends of it, and what was repaired."""
    print(f"\nThe series, {source.label}: '{series.name}', {len(series):,} values")
    print(ABOUT[source.name])
    last = len(series) - 1
    for place in (0, 1, 2, last):
        if place == last:
            print("  ...")
        print(f"  place {place:>5}   {date_at(series, place)}   {series.iloc[place]:g}")
    for sentence in repairs:
        print(f"  - {sentence}")
    if not repairs:
        print("Nothing to repair: one value for each date, in order.")


# --- split --------------------------------------------------------------------------
#
# A model is fitted on one part of the data (train), choices are made by a second (val,
# for validation), and the third is opened once, to tell how good it all is (test).  A
# forecast is used on days that come after all that we know.  So test comes last:
#
#     |------------- train 70 % -------------|-- val 15 % --|-- test 15 % --|
#     0                                      n1             n2              n   places
#
# The borders come before anything is learned from the data: whatever is learned (a
# mean, a weight, a season) is learned from train.  Here it is learned once, and stays
# as it is while the test years go by.  In use one would fit anew every year, with all
# that is known by then, and score each year's forecasts; that is called walk-forward.


def show_split():
    """Where utils.split_by_time puts the borders among the numbers 1 to 10."""
    numbers = list(range(1, 11))
    n1, n2 = utils.split_by_time(len(numbers))
    print("\nSplit by hand: the numbers 1 to 10")
    print(f"  utils.split_by_time puts the borders at n1 = {n1} and n2 = {n2}")
    print(f"  train  {numbers[:n1]}")
    print(f"  val    {numbers[n1:n2]}")
    print(f"  test   {numbers[n2:]}")


# --- scale --------------------------------------------------------------------------
#
# A recurrent network squeezes its sums by tanh, which is nearly 1 for everything above
# 3.  Its weights start small, and one learning rate serves them all.  So inputs should
# be numbers around 0, about as large as 1.  We subtract the mean and divide by the
# standard deviation (std), which is the typical distance from the mean:
#
#     std = square root of the mean of (value - mean)^2
#     scaled = (value - mean) / std            value = scaled * std + mean
#
# The right half leads back: a network's answers are scaled numbers too.  (This is the
# std of NumPy, which divides by the number of values.  torch.std and pandas divide by
# one less, and give a slightly larger number.)
#
# Mean and std are learned from data, like weights.  So they come from the training part
# alone.  Whoever takes them from the whole series has looked at the test years; section
# 4 measures by how much that flatters.


def show_scaling():
    """Scale the numbers 1 to 10 by hand; show what tanh makes of large numbers."""
    print("\nScaling by hand.  Why at all?  Of 20, 80 and 150 sunspots tanh makes")
    counts = torch.tensor([20.0, 80.0, 150.0])  # (3,)
    scaled = (counts - 45) / 38  # (3,), about the mean and std of the sunspots
    print("  tanh(x)              ", as_row(torch.tanh(counts), "6.3f"))
    print("  tanh((x - 45) / 38)  ", as_row(torch.tanh(scaled), "6.3f"))
    print("Without scaling, few and many look the same to it.")

    numbers = np.arange(1.0, 11.0)  # (10,)
    train = numbers[:7]  # (7,)
    mean = sum(train) / 7
    squares = [(value - mean) ** 2 for value in train]
    std = (sum(squares) / 7) ** 0.5
    scaled = (numbers - mean) / std  # (10,)
    back = 1.5 * std + mean
    print("The numbers 1 to 10, scaled by their training part 1 to 7")
    print(f"  mean of 1 to 7          {mean:g}")
    print(f"  squared distances       {as_row(squares)}")
    print(f"  std                     root of their mean, {std**2:g}, is {std:g}")
    print(f"  scaled                  {as_row(scaled)}")
    print(f"  back: an answer of 1.5  1.5 * {std:g} + {mean:g} = {back:g}")
    print("The values of val and test, 2 to 3, lie above all of train: the series")
    print("climbs, and a network would be asked about numbers it has never met.")


def as_row(numbers, form="g"):
    """Numbers as one text, such as 1 2.5 3."""
    return " ".join(f"{float(number):{form}}" for number in numbers)


# What can be done about a climb?  Learn the changes instead of the values.  A series
# whose mean and spread stay the same all along is called stationary.  A climbing series
# is not, but its changes often are.  (Sunspots rise and fall and do not climb away, so
# this lesson keeps their values.  Prices do climb away: lesson 06 offers to learn their
# changes, with --target return.)


def show_differences():
    """A climbing series as changes from step to step, and the way back."""
    climb = np.array([2.0, 3.0, 5.0, 6.0, 8.0, 9.0, 11.0, 12.0])  # (8,)
    changes = np.diff(climb)  # (7,): each value minus the one before
    back = climb[0] + np.cumsum(changes)  # (7,): add the changes up again
    print("\nA climb by hand: take the changes")
    print(f"  values    {as_row(climb)}   the late ones are not like the early ones")
    print(f"  changes     {as_row(changes)}     late ones and early ones are alike")
    print(f"  back      2 + 1 = 3, 3 + 2 = 5, ...: {as_row(back)}")


# --- windows ------------------------------------------------------------------------
#
# A window of T values is laid on the series; the value h steps after its last one is
# the target.  Then the window moves on by one place: the next example.  With T = 3 and
# h = 2 on the numbers 1 to 10 (a dot is a value in between, not used):
#
#       1  2  3  4  5  6  7  8  9 10
#      [1  2  3] .  5                    input 1 2 3, target 5
#         [2  3  4] .  6
#            [3  4  5] .  7
#               [4  5  6] .  8
#                  [5  6  7] .  9
#                     [6  7  8] . 10     then the targets have run out
#
# How many?  A window and its target cover T + h values, and there are n - (T + h) + 1
# places where so many can be laid down: 10 - 5 + 1 = 6.


def windows_by_loop(values, length, horizon):
    """A list of values -> list of inputs, list of targets: the plain way."""
    inputs = []
    targets = []
    for first in range(len(values) - length - horizon + 1):
        last = first + length - 1  # the place of the window's last value
        inputs.append(values[first : last + 1])
        targets.append(values[last + horizon])
    return inputs, targets


# The fast way copies nothing.  `unfold(0, T, 1)` describes windows of length T, each
# one place further on, over the numbers that lie in memory already; such a description
# is called a view.  For the values 1 2 3 4 5, T = 3, h = 1:
#
#     without the last h values, which can be no input      1 2 3 4
#     unfold(0, 3, 1)                                       1 2 3  |  2 3 4
#     targets: without the first T + h - 1 values           4 5
#
# A recurrent network reads (B, T, F): batch, time, features.  A feature is a number
# that belongs to one step.  We have one, so an axis of size 1 is added at the end.
# (With two numbers a month, say sunspots and radio noise, F is 2.  All else stays.)
#
# One target or several?  Here each window has one, h steps ahead.  Lesson 06 asks for
# all of the next h at once; then a target is a row of h values, and an example may only
# be used where the whole row lies in one part.


def make_windows(values, length, horizon):
    """The same as windows_by_loop for a tensor (n,): inputs (N, T, 1), targets (N,).

    Both are views of `values`: never write into them.
    """
    inputs = values[: len(values) - horizon].unfold(0, length, 1)  # (N, T)
    targets = values[length + horizon - 1 :]  # (N,)
    return inputs.unsqueeze(-1), targets  # (N, T, 1), (N,)


def show_windows():
    """Cut the numbers 1 to 10 by the loop and by unfold; show what a view is."""
    print("\nWindows by hand: the numbers 1 to 10, T = 3, h = 2")
    numbers = [float(number) for number in range(1, 11)]
    loop_inputs, loop_targets = windows_by_loop(numbers, 3, 2)
    for i in range(len(loop_inputs)):
        window = as_row(loop_inputs[i], "2g")
        print(f"  window {i}   {'   ' * i}[{window}]  . {loop_targets[i]:2g}")
    print("n - T - h + 1 = 10 - 3 - 2 + 1 = 6 windows.")

    values = torch.tensor(numbers)  # (10,)
    inputs, targets = make_windows(values, 3, 2)  # (6, 3, 1), (6,)
    input_gap = (inputs[:, :, 0] - torch.tensor(loop_inputs)).abs().max()
    target_gap = (targets - torch.tensor(loop_targets)).abs().max()
    print(f"The fast way gives inputs {tuple(inputs.shape)}, 6 windows of 3 steps with")
    print(f"1 number each, and targets {tuple(targets.shape)}; largest difference from")
    print(f"the loop {max(input_gap, target_gap):g}.")

    # A view has no numbers of its own, so a change of one value is seen in each window
    # that covers it.  Good for memory; a disaster for whoever writes into a window.
    values[3] = 40.0
    touched = int((inputs == 40).any(dim=1).sum())
    print(f"Make the 4 of the series a 40, and {touched} windows show it at once: they")
    print("are the same numbers in memory.  So never write into a window.")


# --- each window to its part --------------------------------------------------------
#
# Windows do not care about the two borders.  To which part does one belong that lies
# across one?  Two rules settle it:
#
#   1. The target decides.  A window belongs to the part in which its target lies.  So
#      every value of val and of test is asked for exactly once, and no target stands
#      in two parts.
#   2. Inputs may reach back over a border.  When that forecast is made they are past,
#      and everyone knows them.  They never reach forward: they end before the target.


def part_of(place, n1, n2):
    """The part in which a target lies, by its place."""
    if place < n1:
        return "train"
    if place < n2:
        return "val"
    return "test"


def split_windows(n, length, horizon):
    """Part -> slice of the windows whose target lies in that part.

    Window 0 has its target at place T + h - 1, and each next one a place further on.
    So the window whose target is at place n1 has the number n1 - (T + h - 1).
    """
    n1, n2 = utils.split_by_time(n)
    offset = length + horizon - 1
    return {
        "train": slice(0, n1 - offset),
        "val": slice(n1 - offset, n2 - offset),
        "test": slice(n2 - offset, n - offset),
    }


def show_parts():
    """Put each window of the numbers 1 to 10 into its part, by rule and by slices."""
    n1, n2 = utils.split_by_time(10)
    print("\nEach window to its part: train is 1 to 7, val 8, test 9 and 10")
    inputs, targets = windows_by_loop(list(range(1, 11)), 3, 2)
    by_rule = {"train": [], "val": [], "test": []}
    for i in range(len(inputs)):
        place = i + 3 + 2 - 1  # of the target
        part = part_of(place, n1, n2)
        by_rule[part].append(i)
        reason = "lies in train as a whole"
        if part != "train":
            reason = f"{targets[i]} is a value of {part}; {inputs[i]} is past by then"
        print(f"  {inputs[i]} -> {targets[i]:>2}   {part:<5}   {reason}")
    by_slice = {}
    for part, windows in split_windows(10, 3, 2).items():
        by_slice[part] = list(range(6))[windows]
    print(f"split_windows, by three slices, finds the same: {by_slice == by_rule}.")
    print("Training on [4, 5, 6] -> 8 would show the 8, which validation asks for.  So")
    print("this window belongs to val, although its inputs lie in train.")


# Why not shuffle all windows and draw the test windows at random, as one does with
# photographs?  Neighbours overlap.  Draw the second window as a test window:
#
#     [2  3  4] -> 6    test
#     [4  5  6] -> 8    train      the answer, 6, stands among its inputs
#     [5  6  7] -> 9    train      and here
#
# Section 4 measures what that does to a score.


def report_windows(series, length, horizon):
    """Print how many windows the series gives, and how many go to each part."""
    n = len(series)
    inputs, places = make_windows(torch.arange(n), length, horizon)  # places of targets
    print(f"\nWindows of the series, T = {length}, h = {horizon}")
    print(f"  {n:,} - {length} - {horizon} + 1 = {len(places):,} of them")
    total = 0
    for part, windows in split_windows(n, length, horizon).items():
        of_part = places[windows]
        first = date_at(series, int(of_part[0]))
        last = date_at(series, int(of_part[-1]))
        print(f"  {part:<5}  {len(of_part):>6,} windows, targets {first} to {last}")
        total += len(of_part)
    print(f"Together {total:,} of {len(places):,}: none dropped, none counted twice.")
    # A 32-bit number takes 4 bytes.
    print(f"Copied they would take {4 * inputs.numel():,} bytes; views take none.")


# --- an example, a batch ------------------------------------------------------------


def report_example(series, scaled, mean, std, length, horizon):
    """Print the first window on its way from dates to a tensor.

    scaled (n,): the whole series, by the mean and std of the training part.
    """
    print("\nOne example on its way from the file to the network: the first window")
    inputs, targets = make_windows(scaled, length, horizon)  # (N, T, 1), (N,)
    steps = [step for step in (0, 1, 2) if step < length - 1]
    for step in [*steps, length - 1]:
        number = inputs[0, step, 0].item()
        print(f"  input, step {step:>4}   {on_its_way(series, step, number)}")
    number = targets[0].item()
    print(f"  target             {on_its_way(series, length + horizon - 1, number)}")
    first = series.iloc[0]
    number = (first - mean) / std
    print(f"Worked, by train: ({first:g} - {mean:.5g}) / {std:.5g} = {number:.4f}")


def on_its_way(series, place, number):
    """Date, value and scaled value of one place, as a text."""
    return f"{date_at(series, place)}   {series.iloc[place]:9.5g}  ->  {number:7.4f}"


# A network reads several windows at once, a batch.  PyTorch's DataLoader hands them
# out: a TensorDataset keeps inputs and targets side by side, and shuffle=True mixes
# their order.  That is no leak: training windows are mixed only among themselves.
# (The later lessons use `utils.Batches`, which does the same faster.)


def report_batches(inputs, targets):
    """Go once through the training windows in batches of 64, as a training would."""
    pairs = TensorDataset(inputs, targets)  # (N, T, 1), (N,)
    order = torch.Generator().manual_seed(0)  # decides the order in which they come
    loader = DataLoader(pairs, batch_size=64, shuffle=True, generator=order)
    sizes = []
    for batch, answers in loader:  # (B, T, 1), (B,)
        if not sizes:
            print(f"The first batch: inputs {tuple(batch.shape)}, that is (B, T, 1);")
            print(f"targets {tuple(answers.shape)}, that is (B,).")
        sizes.append(len(answers))
    print(f"One pass through the {len(targets):,} training windows, an epoch, takes")
    print(f"{len(sizes)} batches; the last has {sizes[-1]}.")


# ====================================================================================
# 2. Model
# ====================================================================================
#
# The plainest model that can read a window is one linear layer.  It gives each of the T
# values a weight, adds the products up, and adds one number more, the bias:
#
#     window           [ x1       x2       x3 ]        T = 3
#     weights            w1       w2       w3
#     forecast    =   w1 * x1 + w2 * x2 + w3 * x3 + bias
#
# nn.Linear(T, 1) is just that.  Statisticians call it an autoregression: a line
# (regression) through the series' own (auto) past.  How many values it reads is its
# order.


def line_forecast(inputs, weights, bias):
    """inputs (N, T), weights (T,), one bias -> forecasts (N,)."""
    return inputs @ weights + bias


def show_line():
    """Three choices of weights for the window 4 5 6; compare with nn.Linear."""
    window = torch.tensor([[4.0, 5.0, 6.0]])  # (1, 3)
    third = 1 / 3
    choices = [
        ("0 * 4 + 0 * 5 + 1 * 6", [0.0, 0.0, 1.0], "the last value again"),
        ("1/3 * 4 + 1/3 * 5 + 1/3 * 6", [third, third, third], "the mean"),
        ("0 * 4 - 1 * 5 + 2 * 6", [0.0, -1.0, 2.0], "on as from 5 to 6"),
    ]
    print("\nA line by hand: the window 4 5 6, bias 0, three choices of weights")
    layer = nn.Linear(3, 1, bias=False)
    gap = 0.0
    for working, chosen, meaning in choices:
        weights = torch.tensor(chosen)  # (3,)
        forecast = line_forecast(window, weights, 0.0)  # (1,)
        layer.weight.data[0] = weights
        gap = max(gap, (layer(window)[:, 0] - forecast).abs().max().item())
        print(f"  {working:<28} = {forecast.item():g}   {meaning}")
    print(f"nn.Linear: largest difference {gap:.0e}.  Which weights are the best for a")
    print("series?  To find that out is called fitting, or training.")


# ====================================================================================
# 3. Training
# ====================================================================================
#
# The best weights are those with the smallest sum of squared errors on the training
# examples.  For a network one has to search for them, step by step (lesson 04).  For a
# line there is a formula, called least squares.  With T = 1 the examples are points in
# a plane, x the value and y the next one, and a pencil is enough:
#
#     weight = sum of (x - mean x)(y - mean y)  /  sum of (x - mean x)^2
#     bias = mean y - weight * mean x
#
# With more values to read the computer solves for all weights at once: the same idea.

TOY = [1.0, 2.0, 5.0, 4.0, 5.0, 6.0, 3.0, 6.0, 9.0]
TOY_LATER = [5.0, 7.0, 11.0]  # what came after it; no forecast may read it


def line_by_hand(pairs):
    """Fit y = weight * x + bias to a list of pairs (x, y): weight, bias."""
    mean_x = sum(x for x, _ in pairs) / len(pairs)
    mean_y = sum(y for _, y in pairs) / len(pairs)
    products = sum((x - mean_x) * (y - mean_y) for x, y in pairs)
    squares = sum((x - mean_x) ** 2 for x, _ in pairs)
    weight = products / squares
    bias = mean_y - weight * mean_x
    return weight, bias


def fit_line(inputs, targets):
    """Least squares for any T: inputs (N, T), targets (N,) -> weights (T,), bias.

    A column of ones is put beside the inputs: what it is multiplied by is the bias.
    In 64-bit numbers, since neighbours in a window are so alike that many digits of
    the sums cancel.
    """
    inputs = inputs.cpu().double()
    targets = targets.cpu().double()
    ones = torch.ones(len(inputs), 1, dtype=torch.double)  # (N, 1)
    columns = torch.cat([inputs, ones], dim=1)  # (N, T + 1)
    found = torch.linalg.lstsq(columns, targets.unsqueeze(1)).solution  # (T + 1, 1)
    return found[:-1, 0], found[-1, 0]


def show_fit():
    """Fit a line to the toy by hand, by lstsq and by utils; then one that reads two."""
    values = torch.tensor(TOY)  # (9,)
    inputs, targets = make_windows(values, 1, 1)  # (8, 1, 1), (8,)
    pairs = list(zip(inputs[:, 0, 0].tolist(), targets.tolist(), strict=True))
    weight, bias = line_by_hand(pairs)
    forecast = weight * TOY[-1] + bias
    print(f"\nA line fitted by hand: the windows of {as_row(TOY)}, T = 1, h = 1")
    print("  input > target   ", "  ".join(f"{x:g} > {y:g}" for x, y in pairs))
    print("  means            4 and 5")
    print("  x - 4           ", " ".join(f"{x - 4:2g}" for x, _ in pairs))
    print("  y - 5           ", " ".join(f"{y - 5:2g}" for _, y in pairs))
    print("  products         9 + 0 - 1 + 0 + 1 - 4 - 1 + 8 = 12")
    print("  (x - 4) squared  9 + 4 + 1 + 0 + 1 + 4 + 1 + 4 = 24")
    print(f"  weight           12 / 24 = {weight:g}")
    print(f"  bias             5 - 0.5 * 4 = {bias:g}")
    print(f"  after the 9      0.5 * 9 + 3 = {forecast:g}")
    weights, start = fit_line(inputs[:, :, 0], targets)
    gap = max(abs(weights[0].item() - weight), abs(start.item() - bias))
    print(f"torch.linalg.lstsq finds the same: largest difference {gap:.0e}.")
    # utils.autoregression leaves out the first value: lesson 06 keeps one more value in
    # front of its windows.  A 0 in front lets both learn from the same eight pairs.
    whole = np.array([0.0, *TOY, *TOY_LATER])
    n1 = 1 + len(TOY)
    shared, _ = utils.autoregression(whole, n1=n1, n2=n1 + 2, longest=1, horizon=1)
    print(f"utils.autoregression: difference {abs(shared[0, 0] - forecast):.0e}.")

    fibonacci = torch.tensor([1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0])  # (7,)
    inputs, targets = make_windows(fibonacci, 2, 1)  # (5, 2, 1), (5,)
    weights, bias = fit_line(inputs[:, :, 0], targets)
    newest = torch.tensor([[13.0, 21.0]], dtype=torch.double)
    after = line_forecast(newest, weights, bias).item()
    print("A line that reads two values, T = 2: the windows of 1 2 3 5 8 13 21")
    print("  [1 2] > 3   [2 3] > 5   [3 5] > 8   [5 8] > 13   [8 13] > 21")
    print(f"  weights {weights[0]:.3f} and {weights[1]:.3f}, bias {abs(bias):.3f}")
    print(f"  after 13 and 21 comes {after:.1f}")
    print("Nobody told it the rule, to add the last two.  It stood in the examples.")


def rmse(errors):
    """Typical size of errors (M,): root mean squared error.

    Square them, take the mean, take the root: of 3 and -4, the root of 12.5, or 3.54.
    """
    return float(np.sqrt(np.mean(errors**2)))


# Now the real series, all the way.  The line learns from the training windows alone,
# in scaled numbers, and answers in scaled numbers; times std plus mean, these are
# sunspots again.


def line_on_series(scaled, mean, std, length, horizon):
    """Fit the line on train: weights (T,), part -> forecasts in the series' units."""
    inputs, targets = make_windows(scaled, length, horizon)  # (N, T, 1), (N,)
    inputs = inputs[:, :, 0]  # (N, T)
    parts = split_windows(len(scaled), length, horizon)
    weights, bias = fit_line(inputs[parts["train"]], targets[parts["train"]])
    made = {}
    for part, windows in parts.items():
        asked = inputs[windows].cpu().double()  # (M, T)
        answers = line_forecast(asked, weights, bias)  # (M,), scaled
        made[part] = answers.numpy() * std + mean  # (M,), back in units
    return weights, made


def report_line(series, scaled, mean, std, length, horizon):
    """Fit the line on the series; print errors, weights, and forecasts beside truths.

    Returns part -> RMSE.
    """
    values = series.to_numpy()
    n1, n2 = utils.split_by_time(len(values))
    weights, made = line_on_series(scaled, mean, std, length, horizon)
    truths = {
        "train": values[length + horizon - 1 : n1],
        "val": values[n1:n2],
        "test": values[n2:],
    }
    print("\nThe line fitted to the windows of the series: RMSE in its own units")
    errors = {}
    for part, truth in truths.items():
        errors[part] = rmse(made[part] - truth)
        print(f"  {part:<5}  {len(truth):>6,} windows   {errors[part]:.4f}")
    newest = weights.flip(0)[:5]  # the last value of the window comes first
    print(f"Its weights, the one of the last value first: {as_row(newest, '.2f')} ...")
    print("Some of its forecasts of the test years:")
    print("  date         last known      truth   forecast      error")
    near = float(np.abs(np.diff(values[:n1])).mean())
    evenly = np.linspace(0, len(truths["test"]) - 1, 9).astype(int)
    for row in evenly:
        target = n2 + row
        error = made["test"][row] - values[target]
        mark = "✔" if abs(error) <= near else "✘"
        known = values[target - horizon]
        truth = values[target]
        numbers = f"{known:10.4g} {truth:10.4g} {truth + error:10.4g} {error:10.3g}"
        print(f"  {date_at(series, target)}   {numbers}  {mark}")
    share = np.mean(np.abs(made["test"] - truths["test"]) <= near)
    print(f"✔: off by at most {near:.3g}, the mean change of one step in train.")
    print(f"Of all {len(truths['test']):,} forecasts {share:.0%} are so near.")

    examples = len(values) - length - horizon + 1
    print("\nThe title's question, answered:")
    train = len(truths["train"])
    test = len(truths["test"])
    print(f"  {len(values):,} values, scaled by the first {n1:,} of them")
    print(f"  -> {examples:,} windows, of which {train:,} are training examples")
    print(f"  -> {length + 1} numbers learned from these: the weights and the bias")
    print(f"  -> an RMSE of {errors['test']:.4g} on the last {test:,} values.")
    print("Is that good?  And may one believe it?  The rest of the lesson asks that.")
    return errors


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# The title is answered; here is a good place for a pause.  Is the line good?  To say
# so takes a measure of error, and somebody to beat.
#
# --- measures -----------------------------------------------------------------------
#
# An error is forecast minus truth.  Hundreds of errors become one number in three ways:
#
#   RMSE  root mean squared error: square them, take the mean, take the root.  One large
#         error weighs more than several small ones.  In the series' own units.
#   MAE   mean absolute error: drop the signs, take the mean.  In the same units.
#   MASE  mean absolute scaled error: MAE divided by how much the training values change
#         from one to the next, on average.  That change is the error of whoever says
#         the last value again.  MASE has no units, so that series can be compared.  1
#         is as good as that was in train, below 1 is better.  Above 1 need not be bad:
#         the test years may be rougher than train was.


def scores_by_hand(errors, train):
    """RMSE, MAE and MASE of a list of errors; train: the list of training values."""
    squares = 0.0
    sizes = 0.0
    for error in errors:
        squares += error**2
        sizes += abs(error)
    mae = sizes / len(errors)
    # The unit of MASE: how far, on average, a training value lies from the one before.
    changes = 0.0
    for place in range(1, len(train)):
        changes += abs(train[place] - train[place - 1])
    naive_mae = changes / (len(train) - 1)
    return {
        "RMSE": (squares / len(errors)) ** 0.5,
        "MAE": mae,
        "MASE": mae / naive_mae,
    }


def show_scores():
    """RMSE, MAE and MASE of three errors; compare with utils.forecast_scores."""
    errors = [1.0, -2.0, 6.0]
    found = scores_by_hand(errors, train=[10.0, 13.0, 9.0, 14.0])
    print("\nThree measures by hand: the errors 1, -2 and 6")
    print(f"  RMSE   root of (1 + 4 + 36) / 3   = {found['RMSE']:.2f}")
    print(f"  MAE    (1 + 2 + 6) / 3            = {found['MAE']:.2f}")
    print("  MASE   the training values 10 13 9 14 change by 3, 4, 5: 4 on average")
    print(f"         3 / 4                      = {found['MASE']:.2f}")
    print("RMSE is above MAE, because one large error stands out.")
    shared = utils.forecast_scores(np.array(errors), naive_mae=4.0)
    gap = max(abs(shared[name] - found[name]) for name in found)
    print(f"utils.forecast_scores: largest difference {gap:.0e}.")


# --- rules of one line --------------------------------------------------------------
#
# Now somebody to beat: rules that learn nothing, or a single number.  Such a rival is
# called a baseline.  Whoever builds a network has to do better, or the network is not
# worth its while.  All answer the same question: standing at the origin, what is the
# value h steps later?
#
# The toy of section 3 has nine known values, something like a season of 3 (every third
# is high) and a climb.  The origin is place 8; the target is place 9.
#
#     place             0   1   2   3   4   5   6   7   8   9
#     value             1   2   5   4   5   6   3   6   9   ?     answer
#     persistence                                      [9]        9
#     seasonal naive                           [3]                3
#     moving average                           [3] [6] [9]        6
#     drift            [1] - - - - - - - - - - - - - - [9]        10
#     the fitted line                                  [9]        7.5


def persistence_by_hand(values, origin):
    """The last value again: it assumes that nothing changes.  (Also called naive.)"""
    return values[origin]


def seasonal_naive_by_hand(values, origin, horizon, season):
    """The value one season before the target; one more, if that is not known yet."""
    place = origin + horizon
    while place > origin:
        place -= season
    return values[place]


def moving_average_by_hand(values, origin, width):
    """The mean of the last `width` values: noise cancels, but news arrives late."""
    total = 0.0
    for place in range(origin - width + 1, origin + 1):
        total += values[place]
    return total / width


def drift_by_hand(values, origin, horizon, train):
    """The last value, and on along the straight line from train's first to its last."""
    slope = (train[-1] - train[0]) / (len(train) - 1)
    return values[origin] + horizon * slope


def show_baselines():
    """Work the four rules on the toy, and compare with the shared ones."""
    origin = len(TOY) - 1  # place 8
    by_hand = {
        "persistence": persistence_by_hand(TOY, origin),
        "seasonal naive": seasonal_naive_by_hand(TOY, origin, 1, season=3),
        "moving average": moving_average_by_hand(TOY, origin, width=3),
        "drift": drift_by_hand(TOY, origin, 1, train=TOY),
    }
    workings = {
        "persistence": "the last value",
        "seasonal naive": "place 9 - 3 = 6",
        "moving average": "(3 + 6 + 9) / 3",
        "drift": "9 + 1 * (9 - 1) / 8",
    }
    print(f"\nFour baselines by hand: what comes after {as_row(TOY)}?")
    for name, working in workings.items():
        print(f"  {name:<16} {working:<20} = {by_hand[name]:g}")
    farther = seasonal_naive_by_hand(TOY, origin, 5, season=3)
    print(f"Then {TOY_LATER[0]:g} came.  On one value luck decides.")
    print("Five steps ahead is place 13; one season before it, place 10, is not known")
    print(f"yet.  So the rule goes back one season more, to place 7: {farther:g}.")

    # The shared functions take arrays, many origins, and several steps ahead.
    values = np.array(TOY + TOY_LATER)  # (12,)
    origins = np.array([origin])  # (1,)
    shared = {
        "persistence": utils.persistence(values, origins, steps=[1]),
        "seasonal naive": utils.seasonal_naive(values, origins, steps=[1], season=3),
        "moving average": utils.moving_average(values, origins, steps=[1], width=3),
    }
    gaps = [abs(shared[name][0, 0] - by_hand[name]) for name in shared]
    print(f"The shared functions in rnn_utils: largest difference {max(gaps):.0e}.")
    print("(Drift has none: it is persistence plus h times one number, the slope.)")


# --- the season: autocorrelation ----------------------------------------------------
#
# How long is a season, if nobody tells us?  Lay the series beside itself, k steps
# later, and see how alike the two are.  k is called the lag:
#
#     value             1   2   3   2   1   2   3   2  ...
#     2 steps later     3   2   1   2   3   2   1   2  ...    high meets low
#     4 steps later     1   2   3   2   1   2   3   2  ...    high meets high:
#                       |<- season -->|                       a season of 4
#
# In numbers: subtract the mean, multiply each value by the one k later, and add up.
# High times high and low times low are above zero, high times low is below.  Divided by
# the same sum at lag 0, this is the autocorrelation r_k.  It is near 1 for the same
# again (a little less, since k values at the end have no partner), 0 where the one says
# nothing about the other, and below 0 for the opposite.
#
# utils.find_season takes the highest peak after r_k first fell below 0, where high met
# low.  The season must fit three times into train, and the peak must not be chance.  Of
# pure noise, r_k at one given lag lies within 1.96 / sqrt(n1) of 0 in 95 cases of 100;
# but the highest of hundreds of lags is often above that.  So 4 / sqrt(n1) is asked.


def autocorrelation_by_hand(values, lag):
    """r_k of a list of values at one lag k."""
    mean = sum(values) / len(values)
    products = 0.0
    for place in range(len(values) - lag):
        products += (values[place] - mean) * (values[place + lag] - mean)
    squares = sum((value - mean) ** 2 for value in values)
    return products / squares


def show_autocorrelation():
    """Work r_0, r_2 and r_4 of a wave of period 4; compare with the shared function."""
    wave = [1.0, 2.0, 3.0, 2.0] * 8
    print("\nAutocorrelation by hand: 1 2 3 2, eight times")
    print("  minus the mean, 2:   -1 0 1 0 -1 0 1 0 -1 0 1 0 ...")
    print("  lag 0   each meets itself, 1 * 1 or -1 * -1, 16 times   16 / 16 = 1")
    print("  lag 2   -1 meets 1, 15 times                           -15 / 16 = -0.9375")
    print("  lag 4   -1 meets -1 and 1 meets 1, 14 times             14 / 16 = 0.875")
    found = [autocorrelation_by_hand(wave, lag) for lag in range(6)]
    print("  computed, lags 0 to 5:  ", "  ".join(f"{r:g}" for r in found))
    shared = utils.autocorrelation(np.array(wave), 5)  # (6,)
    gap = np.abs(shared - found).max()
    print(f"utils.autocorrelation: largest difference {gap:.0e}.")
    season = utils.find_season(np.array(wave))
    print(f"utils.find_season says {season}.")


class Fitted(NamedTuple):
    """What the baselines and MASE learn from train."""

    season: int | None  # steps of one season, None if no season shows
    width: int  # how many last values the moving average takes
    slope: float  # the mean change in one step
    naive_mae: float  # mean |value - value before|, the unit of MASE


def fit_on(train, length, horizon):
    """All of it from the training values (n1,) alone.

    utils.best_width tries 2, 3, ... T values, and keeps the width with the smallest
    RMSE h steps ahead on train.  (Width 1 would be persistence.)
    """
    return Fitted(
        season=utils.find_season(train),
        width=utils.best_width(train, length, horizon),
        slope=float((train[-1] - train[0]) / (len(train) - 1)),
        naive_mae=float(np.abs(np.diff(train)).mean()),
    )


def report_autocorrelation(train, fitted, source):
    """Print r_k of train at some lags as bars, and how to read them."""
    season = fitted.season
    most = min(len(train) // 3, int(1.3 * (season or 40)))
    r = utils.autocorrelation(train, most)  # (most + 1,)
    lags = {1, 2, 3, 6, 12}
    lags |= set(np.linspace(1, most, 8).astype(int).tolist())
    if season:
        lags = {lag for lag in lags if abs(lag - season) > 2}
        lags |= {season // 2, season}
    print("\nAutocorrelation of the training values")
    for lag in sorted(lags - {0}):
        if lag > most:
            continue
        bar = "#" * round(20 * abs(r[lag]))
        left = bar if r[lag] < 0 else ""
        right = bar if r[lag] > 0 else ""
        print(f"  lag {lag:>4}   {r[lag]:6.2f}   {left:>20}|{right}")
    print("Reading it: far from 0, a value tells much about the one k steps later.")
    print("High at lag 1 is memory: the next value is like this one.  A fall below 0")
    print("and a second peak is a season.  A slow fall without one is a climb, or the")
    print("wandering of a price.")
    if season is None:
        print("Found: no season.")
    else:
        print(f"Found: a season of {season} steps.")
    if season and source.name == "sunspots":
        print(f"{season} months are {season / 12:.1f} years: the sun's cycle.")
    # The second curve of the picture.
    change = utils.autocorrelation(np.diff(train), 1)[1]
    meaning = "on average, a step goes on in the same direction"
    if change < 0:
        meaning = "on average, a part of a step is undone by the next"
    if abs(change) < 1.96 / np.sqrt(len(train)):
        meaning = "so little that it may be chance"
    print(f"The changes from step to step have r_1 = {change:.2f}:")
    print(f"{meaning}.")


def plot_autocorrelation(args, source, train, season):
    """Autocorrelation of train and of its changes, lags 0, 1, 2, ..."""
    most = min(len(train) // 3, int(2.5 * (season or 40)))
    # The same height at every lag: pure noise has no lag that is better than another.
    noise = np.full(most + 1, 1.96 / np.sqrt(len(train)))
    lines = {
        "the series": utils.autocorrelation(train, most),
        "its changes from step to step": utils.autocorrelation(np.diff(train), most),
    }
    title = f"Autocorrelation of {source.label}, training values"
    utils.plot_lines(
        args,
        "autocorrelation",
        title,
        lines,
        xlabel="lag k (steps)",
        ylabel="r_k",
        band=[-noise, noise],
    )
    if not args.no_plots:
        print("  Reading it: the grey band holds 95 % of pure noise.  A curve inside")
        print("  it tells nothing that chance could not tell.")


# --- the comparison -----------------------------------------------------------------
#
# The table has one more row, "autoregression": the line of section 3 once more, as
# lesson 06 uses it.  The only difference is that it may read fewer than T values.  How
# many is chosen on validation.


def all_forecasts(values, length, horizon, fitted):
    """Every baseline on val and test: targets (M,), name -> forecasts (M,), the order.

    values (n,).  The order is how many values the autoregression reads one step ahead.
    The first origin is the last training value, as in lesson 06.  So for h > 1 the
    first h - 1 values of val are no targets here, though they are in split_windows.
    """
    n1, n2 = utils.split_by_time(len(values))
    targets = np.arange(n1 + horizon - 1, len(values))  # (M,) places
    origins = targets - horizon  # (M,)
    steps = [horizon]  # the shared functions answer for several steps; we want one
    made = {}
    made["persistence"] = utils.persistence(values, origins, steps)[:, 0]
    average = utils.moving_average(values, origins, steps, fitted.width)  # (M, 1)
    made["moving average"] = average[:, 0]
    made["drift"] = made["persistence"] + horizon * fitted.slope
    if fitted.season:
        seasonal = utils.seasonal_naive(values, origins, steps, fitted.season)  # (M, 1)
        made["seasonal naive"] = seasonal[:, 0]
    # Row 0 is the forecast from the last training value, row 1 from the value after it.
    # Column h - 1 is the one h steps ahead.  Each distance has a line of its own.
    lines, order = utils.autoregression(values, n1, n2, length, horizon)  # (n - n1, h)
    made["autoregression"] = lines[: len(targets), horizon - 1]
    return targets, made, order


# Who has won?  A smaller RMSE on hundreds of forecasts may still be luck, as a fair
# coin shows heads 12 times of 20 now and then.  For each target take the difference of
# the two squared errors, ours minus theirs.  If both forecasts are equally good, these
# differences lie around 0.  So look how far from 0 their mean is.  And divide it by how
# far it would stray by chance: their spread (std) over the root of their number.
#
#     t = mean / (std / sqrt(M))
#
# The p-value says how often two *equally good* forecasts would give a t at least so far
# from 0.  With hundreds of errors, t beyond 2 or -2 has p below 0.05, and one stops
# believing in luck.  (This is a t test; on forecasts it is the test of Diebold and
# Mariano, 1995.  It takes the differences as independent.)
#
# For h > 1 neighbouring forecasts share most of their fate, as if one coin were counted
# several times.  So h neighbours are averaged to one difference.  Lesson 06 has a way
# that uses all of them.


def differences_of(errors, others, horizon):
    """Differences of squared errors (M,), averaged over h neighbours: (M // h,)."""
    differences = errors**2 - others**2  # (M,)
    count = len(differences) // horizon
    return differences[: count * horizon].reshape(count, horizon).mean(axis=1)


def by_chance(errors, others, horizon):
    """The p-value of a difference in squared errors; both (M,), of the same targets."""
    from scipy.stats import ttest_1samp

    differences = differences_of(errors, others, horizon)  # (M // h,)
    if len(differences) < 2:
        return 1.0  # too few to tell
    largest = np.abs(differences).max()
    if differences.max() - differences.min() <= 1e-9 * largest:
        # No spread, nothing to test: all are 0, or one is always better by as much.
        return 1.0 if largest < 1e-12 else 0.0
    return float(ttest_1samp(differences, 0.0).pvalue)


def show_chance():
    """Is it luck?  Worked on four errors of two forecasts."""
    ours = np.array([1.0, -2.0, 1.0, 2.0])  # (4,)
    theirs = np.array([2.0, 3.0, -1.0, 2.0])  # (4,)
    differences = differences_of(ours, theirs, 1)  # (4,)
    std = differences.std(ddof=1)  # ddof=1: divided by M - 1, as a t test wants it
    t = differences.mean() / (std / 2)
    print("\nLuck by hand: our errors 1 -2 1 2, theirs 2 3 -1 2")
    print(f"  squares, ours minus theirs   {as_row(differences)}")
    print(f"  mean -2, std {std:.2f}, root of M = 4 is 2")
    print(f"  t = -2 / ({std:.2f} / 2) = {t:.2f}")
    p = by_chance(ours, theirs, 1)
    print(f"  {as_text_p(p)}: on four errors, so much is no surprise")


def as_text_p(p):
    """p as a text; what is smaller than a thousandth says just that."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def ahead(horizon):
    """1 step ahead, 2 steps ahead."""
    return "1 step ahead" if horizon == 1 else f"{horizon} steps ahead"


def score_all(values, targets, made, fitted):
    """Name -> RMSE on validation; RMSE, MAE and MASE on test."""
    _, n2 = utils.split_by_time(len(values))
    in_test = targets >= n2  # (M,)
    rows = {}
    for name, forecast in made.items():
        errors = forecast - values[targets]  # (M,)
        val = utils.forecast_scores(errors[~in_test], fitted.naive_mae)
        test = utils.forecast_scores(errors[in_test], fitted.naive_mae)
        rows[name] = {
            "val RMSE": val["RMSE"],
            "test RMSE": test["RMSE"],
            "test MAE": test["MAE"],
            "test MASE": test["MASE"],
        }
    return rows


def best_and_rival(rows):
    """The best baseline, and the one to measure it by: persistence, or the next best.

    By validation: a choice made on test would flatter the test score.
    """
    ranked = sorted(rows, key=lambda name: rows[name]["val RMSE"])
    best = ranked[0]
    rival = "persistence" if best != "persistence" else ranked[1]
    return best, rival


def report_baselines(rows, order, line_errors, source, length, horizon):
    """Print the table, with a sentence for what may puzzle in it."""
    utils.print_table(f"Baselines on {source.label}, {ahead(horizon)}", rows)
    print(f"Reading it: the line of section 3 has {line_errors['test']:.4f} on test.")
    if horizon == 1:
        print(f"The autoregression is such a line, of {order} values (up to {length}).")
    print("How many it reads was chosen on validation, so its val RMSE flatters it.")
    average = rows["moving average"]
    last = rows["persistence"]
    if horizon > 1:
        print("MASE compares with persistence one step ahead, whatever h is.")
    elif last["test MASE"] > 1.05:
        mase = last["test MASE"]
        print(f"Persistence has MASE {mase:.2f} here, and 1 in train: the test span is")
        print("rougher.  So compare within the column, not with 1.")
    better_on_val = average["val RMSE"] < last["val RMSE"]
    better_on_test = average["test RMSE"] < last["test RMSE"]
    if better_on_val != better_on_test:
        print("Persistence and moving average change places between val and test.  A")
        print("lead on one span may be lost on the next: so do not choose on test.")


def report_season(rows, train, fitted, horizon):
    """Why the season's rule wins or loses: r_k of values h and a season apart."""
    if not fitted.season:
        return
    r = utils.autocorrelation(train, max(fitted.season, horizon))
    near = r[horizon]
    far = r[fitted.season]
    lost = rows["seasonal naive"]["test RMSE"] > rows["persistence"]["test RMSE"]
    if lost and near > far:
        print("The season is real, yet its rule loses to persistence.  r_k of values a")
        print(f"season apart is {far:.2f}, of values {horizon} apart {near:.2f}.")
    if not lost and near < far:
        print("The season's rule beats persistence.  r_k of values a season apart is")
        print(f"{far:.2f}, of values {horizon} apart {near:.2f}.")


def report_luck(rows, made, targets, values, horizon):
    """Print whether the best one's lead may be luck.  Returns p."""
    best, rival = best_and_rival(rows)
    _, n2 = utils.split_by_time(len(values))
    in_test = targets >= n2  # (M,)
    truth = values[targets[in_test]]
    ours = made[best][in_test] - truth
    theirs = made[rival][in_test] - truth
    p = by_chance(ours, theirs, horizon)
    change = rows[best]["test RMSE"] / (rows[rival]["test RMSE"] or 1.0) - 1
    print(f"Best on validation: {best}.  On the {len(truth):,} values of test its")
    print(f"RMSE is {change:+.1%} against {rival}.  Luck?", end=" ")
    differences = differences_of(ours, theirs, horizon)
    if len(differences) > 1 and differences.std() > 0:
        mean = differences.mean()
        std = differences.std(ddof=1)
        root = len(differences) ** 0.5
        print(f"t = {mean:.4g} / ({std:.4g} / {root:.4g})")
        print(f"= {mean / (std / root):.2f};", end=" ")
    print(f"{as_text_p(p)}: {'more than luck' if p < 0.05 else 'it may be luck'}.")
    return p


def plot_forecasts(args, source, series, targets, made, best):
    """The last 60 values of test: truth, persistence, and the best of the baselines."""
    recent = targets[-60:]
    lines = {"truth": series.to_numpy()[recent]}
    for name in ("persistence", best):
        lines[name] = made[name][-60:]
    title = f"{source.label}: the end of the test span, {ahead(args.horizon)}"
    dates = series.index[recent]
    dashed = ["persistence"]
    utils.plot_lines(
        args, "forecasts", title, lines, "date", "value", x=dates, dashed=dashed
    )
    if not args.no_plots:
        late = ahead(args.horizon).removesuffix(" ahead")
        print(f"  Reading it: persistence is the truth once more, {late} too late.")


# How long should a window be?  Longer ones show more, but each value more is one weight
# more to learn from the same examples, and a line with many weights begins to fit the
# noise.  So it is tried out, on validation.


def report_lengths(scaled, mean, std, values, longest, horizon):
    """Print RMSE on validation of lines that read 1, 3, 9 ... and up to 4 T values."""
    n1, n2 = utils.split_by_time(len(values))
    lengths = {1, 3, 9, 27, longest, 2 * longest, 4 * longest}
    errors = {}
    for length in sorted(lengths):
        examples = n1 - length - horizon + 1
        if examples < 4 * length:
            continue  # too few examples to settle so many weights
        _, made = line_on_series(scaled, mean, std, length, horizon)
        errors[length] = rmse(made["val"] - values[n1:n2])
    print("\nHow long should a window be?  RMSE on validation of lines that read")
    for length, error in errors.items():
        print(f"  {length:>5} values   {error:#.4g}")
    best = min(errors, key=errors.get)
    print(f"Reading it: the smallest stands at {best}.  Look at the whole column: it")
    print("may stall, and then fall again.")
    if best == max(errors):
        print("It is the longest that was tried, so a longer one may be better still.")


def report_noise(noise, test_rmse):
    """For the sine: print the error that no forecast can avoid; returns its square."""
    floor = float(np.mean(noise**2))
    print("\nHow good could any forecast be?  The noise has variance 0.04; in the test")
    print(f"span its mean square is {floor:.4f}.  The past knows nothing of it, so but")
    print("for luck nobody does better than the sine without noise:")
    print(f"  RMSE {floor**0.5:.4f}; the best baseline has {test_rmse:.4f}.")
    print("An error well below the first would mean that answers have leaked in.")
    return floor


# May one believe such a number?  Four common mistakes make it look better than it is.
#
# --- trap 1: a ruler that has seen the test -----------------------------------------
#
# Many programs scale the whole series first and split afterwards.  Then mean and std
# have seen the test years.  Say the numbers 1 to 10 are dollars, and a forecast is
# wrong by 2 of them.  In scaled units, is that a large error?


def show_ruler():
    """One error of 2, in units of two different standard deviations."""
    numbers = np.arange(1.0, 11.0)  # (10,)
    train_std = numbers[:7].std()
    whole_std = numbers.std()
    honest = 2 / train_std
    flattering = 2 / whole_std
    better = 1 - flattering / honest
    print("\nTrap 1, scaling by everything.  The numbers 1 to 10 are dollars.  An")
    print("error of 2 is, in units of")
    print(f"  the std of train, 1 to 7         2 / {train_std:.2f} = {honest:.2f}")
    print(f"  the std of everything, 1 to 10   2 / {whole_std:.2f} = {flattering:.2f}")
    print(f"The second looks {better:.0%} better, and is the same error in dollars.")
    print("Only the ruler grew, because it has seen 8, 9 and 10.")


def report_scaling(values, horizon, source):
    """Print persistence's error, scaled by train and by everything.

    Returns by what share the second way changes it.
    """
    n1, n2 = utils.split_by_time(len(values))
    test = values[n2:]  # (M,)
    last_known = values[n2 - horizon : len(values) - horizon]  # (M,)
    error = rmse(last_known - test)
    rows = {}
    for name, span in (("train alone", values[:n1]), ("everything", values)):
        std = float(span.std())
        rows[name] = {"std": std, "RMSE": error, "RMSE / std": error / std}
    title = f"{source.label}: persistence in test"
    utils.print_table(title, rows, corner="scaled by")
    lie = 0.0  # without an error there is none to change
    if error:
        lie = rows["everything"]["RMSE / std"] / rows["train alone"]["RMSE / std"] - 1
    print("Reading it: the forecasts are the same, and so is their error.  In scaled")
    print(f"units it seems to change by {lie:+.1%}.")
    return lie


# --- trap 2: shuffled windows -------------------------------------------------------
#
# Test windows drawn at random have neighbours in train.  Does that help to cheat?  We
# need somebody who learns by heart: look up the training window that is most like the
# asked one, and repeat its target.  (If the series has climbed since, no training
# window is like the asked ones, and the rule fails.  That is the honest result, and
# shuffling hides it.)


def leaked_share(n, length, horizon, train, test):
    """Share of the test targets that some training window holds, as input or target.

    train, test: which windows (a slice, or their numbers).  We cut 0, 1, 2, ... instead
    of the series.  Then each number is a place, and one sees whether it turns up twice.
    """
    inputs, targets = make_windows(torch.arange(n), length, horizon)  # (N, T, 1), (N,)
    seen = torch.cat([inputs[train].flatten(), targets[train]])  # (N_train * (T + 1),)
    return torch.isin(targets[test], seen).double().mean().item()


def most_similar(asked, inputs, forbidden):
    """For each asked window, (M, T), which of inputs (N, T) is most similar: (M,).

    forbidden (M, N): True where this window may not be taken for that one.
    """
    found = []
    for row, window in enumerate(asked):
        distances = ((inputs - window) ** 2).sum(dim=1)  # (N,)
        distances[forbidden[row]] = float("inf")
        found.append(distances.argmin())
    return torch.stack(found)  # (M,)


def report_shuffled(values, length, horizon, seed=0):
    """Look answers up in windows split by time, and in shuffled ones: name -> RMSE.

    values: a tensor (n,).
    """
    draw = torch.Generator().manual_seed(seed)
    inputs, targets = make_windows(values, length, horizon)  # (N, T, 1), (N,)
    inputs = inputs[:, :, 0]  # (N, T)
    parts = split_windows(len(values), length, horizon)
    numbers = torch.arange(len(targets))  # of all windows
    train = numbers[parts["train"]]
    test = numbers[parts["test"]]
    print("\nTrap 2, shuffled windows.  How many of the test targets stand in some")
    print("training window as well?")
    mixed = torch.randperm(len(targets), generator=draw)
    drawn = mixed[: len(test)]
    rest = mixed[len(test) :]
    by_time = leaked_share(len(values), length, horizon, train, test)
    at_random = leaked_share(len(values), length, horizon, rest, drawn)
    print(f"  split by time                      {by_time:6.1%}")
    print(f"  test windows drawn at random       {at_random:6.1%}")

    # Half of the windows of the test span are asked, 200 at most, each time the same.
    most = min(200, len(test) // 2)
    test = test[torch.randperm(len(test), generator=draw)[:most]].sort().values
    # As many training windows as before, but drawn from all others, late ones too.
    others = numbers[~torch.isin(numbers, test)]
    shuffled = others[torch.randperm(len(others), generator=draw)[: len(train)]]
    # The target of window i lies h places after its last value.  So window i holds a
    # value from after the origin of the asked window q if i > q - h: (M, N).
    future = shuffled > (test - horizon).unsqueeze(1)
    nothing = torch.zeros(most, len(train), dtype=torch.bool)  # (M, N)
    by_time = most_similar(inputs[test], inputs[train], forbidden=nothing)  # (M,)
    mixed = most_similar(inputs[test], inputs[shuffled], forbidden=nothing)
    past = most_similar(inputs[test], inputs[shuffled], forbidden=future)
    answers = {
        "by time": targets[train[by_time]],
        "shuffled": targets[shuffled[mixed]],
        "past": targets[shuffled[past]],
        "persistence": inputs[test][:, -1],
    }
    errors = {}
    for name, answer in answers.items():
        errors[name] = (answer - targets[test]).double().numpy()  # (M,)
    rmses = {name: rmse(error) for name, error in errors.items()}
    print("Look up the most similar training window, and repeat its target: RMSE")
    print(f"on {most} test windows")
    print(f"  in windows split by time       {rmses['by time']:#10.4g}")
    print(f"  in shuffled windows            {rmses['shuffled']:#10.4g}")
    print(f"  in those of them that are past {rmses['past']:#10.4g}")
    print(f"  persistence, to compare        {rmses['persistence']:#10.4g}")
    p = by_chance(errors["by time"], errors["shuffled"], horizon)
    if p < 0.05:
        peeked = future[torch.arange(most), mixed].double().mean().item()
        again = by_chance(errors["past"], errors["shuffled"], horizon)
        print(
            f"{as_text_p(p)}, not luck: shuffling reports a smaller error, for the same"
        )
        print("rule with as many windows to look into.  Two things help it.")
        print("  - Windows newer than train.  Those of the third line were past when")
        print("    the forecast was made; but what is learned from train lacks them.")
        print(
            f"  - Values from after the origin: {peeked:.0%} of the finds hold some, and"
        )
        print("    nobody has these.  They make the third line into the second")
        print(
            f"    ({as_text_p(again)}{'' if again < 0.05 else ': that part may be luck'})."
        )
        print("It is not 0, since the rule repeats the target of a similar window.")
    else:
        print(f"{as_text_p(p)}: here the difference may be luck.")
    return rmses


# --- trap 3: smoothed series --------------------------------------------------------
#
# Measured series are rough, and smoothed ones look better.  So many are published
# smoothed: each value is replaced by the mean of itself and its neighbours on both
# sides, a centred mean (for sunspots it spans 13 months).  Then somebody forecasts the
# smoothed series, and the forecast is brilliant.  But:
#
#     raw       y1  y2  y3  y4  y5
#     smoothed      s2  s3  s4            s3 = (y2 + y3 + y4) / 3
#
# s3 holds y4: the value of today knows tomorrow.  (A mean of past values alone has no
# such fault.  It is the moving average from above.)
#
# What would an honest forecast of s4 be, made on day 3?  On day 3 the raw values are
# known up to y3.  So the newest smoothed value one can have is s2.  From s2 to s4 is a
# forecast two steps ahead, not one.
#
# Raw and smoothed values differ in size, so a score without units is wanted.  R2 (R
# squared) is 1 minus the squared errors as a share of the squared distances from the
# mean of the true values.  1 is perfect; 0 is no better than always saying that mean
# (which nobody can know beforehand); below 0 is worse.


def r_squared(truth, forecast):
    """R2 = 1 - sum of (truth - forecast)^2 / sum of (truth - mean)^2."""
    spread = ((truth - truth.mean()) ** 2).sum()
    if spread == 0:
        return 0.0  # nothing changes, so there is nothing to explain
    return float(1 - ((truth - forecast) ** 2).sum() / spread)


def centred_mean(values, half):
    """Mean of each value, `half` before it and `half` after: (n,) -> (n - 2 half,)."""
    width = 2 * half + 1
    return np.convolve(values, np.full(width, 1 / width), "valid")


def show_smoothing():
    """Smooth six numbers, and read tomorrow out of today's smoothed value."""
    raw = np.array([2.0, 7.0, 6.0, 11.0, 10.0, 15.0])  # (6,)
    smooth = centred_mean(raw, 1)  # (4,)
    tomorrow = 3 * smooth[1] - raw[1] - raw[2]
    print("\nTrap 3, smoothing, by hand: a centred mean of 3")
    print(f"  raw       {as_row(raw, '3g')}")
    print(f"  smoothed      {as_row(smooth, '3.0f')}")
    print("Today is the 6.  Its smoothed value is (7 + 6 + 11) / 3 = 8, and whoever is")
    print(f"told that 8 can compute tomorrow: 3 * 8 - 7 - 6 = {tomorrow:.0f}.")


def ask(values, length, step):
    """Forecast the test span `step` steps ahead: (row of scores, errors (M,)).

    values (n,).  The errors are those of the autoregression.
    """
    n1, n2 = utils.split_by_time(len(values))
    targets = np.arange(n2, len(values))  # (M,)
    origins = targets - step  # (M,)
    truth = values[targets]
    copied = values[origins]
    lines, _ = utils.autoregression(values, n1, n2, length, step)  # (n - n1, step)
    first_origin = n1 - 1  # that of the first row
    forecast = lines[origins - first_origin, step - 1]  # (M,)
    row = {
        "persistence RMSE": rmse(copied - truth),
        "autoregression RMSE": rmse(forecast - truth),
        "autoregression R2": r_squared(truth, forecast),
    }
    return row, forecast - truth


def report_smoothing(args, series, source):
    """Forecast the series raw, smoothed, and smoothed but honestly: name -> row."""
    values = series.to_numpy()
    length = args.sequence_length
    horizon = args.horizon
    # Six neighbours on each side, as is usual for sunspots; fewer in a short series.
    half = min(6, (length + horizon) // 3, len(values) // 50)
    if half < 1:
        print("The series is too short to be smoothed.")
        return {}
    smooth = centred_mean(values, half)  # (n - 2 half,)
    # The smoothed value of a date is known `half` steps later.  So at any origin the
    # newest one lies `half` steps back, and the target h + half steps ahead of it.
    raw, _ = ask(values, length, horizon)
    careless, careless_errors = ask(smooth, length, horizon)
    honest, honest_errors = ask(smooth, length, horizon + half)
    rows = {"raw": raw, "smoothed": careless, "smoothed, honest": honest}
    width = 2 * half + 1
    title = f"{source.label}, raw, and smoothed by a centred mean of {width}: test"
    utils.print_table(title, rows, corner="series")
    print("Reading it: smoothed is what a careless report would say.  honest forecasts")
    print(f"the same values from smoothed ones that were known: {half} steps older.")
    if careless["autoregression RMSE"]:
        ratio = honest["autoregression RMSE"] / careless["autoregression RMSE"]
        p = as_text_p(by_chance(careless_errors, honest_errors, horizon + half))
        print(f"The honest error is {ratio:.1f} times the careless one ({p}).")
    return rows


# --- trap 4: prices against returns -------------------------------------------------
#
# The other brilliant forecast is that of a share price, a curve right on the truth.
# Look closer, and it is the truth, one day late.  A price is close to the price of the
# day before, so persistence scores high.  But it says nothing that one could use: what
# one wants to know is the change.  As a share of the price before, it is the return:
#
#     return = truth / price before - 1       100 -> 110 is a return of 10 %


def agreement(truth, forecast, of):
    """R2, and the correlation, which a forecast that never changes does not have.

    The correlation asks only whether both go up and down together, from -1 over 0 to 1;
    it forgives any shift and any scale.
    """
    found = {f"R2 of {of}": r_squared(truth, forecast)}
    if np.std(forecast) > 1e-9 * np.std(truth):  # else it is rounding
        found[f"corr of {of}"] = float(np.corrcoef(truth, forecast)[0, 1])
    return found


UPS_AND_DOWNS = "++++-+++++-++++----+-----+----"  # of a price: 10 up, or 10 down


def show_returns():
    """A price that goes 10 up or down a day, by persistence: as prices, as returns."""
    prices = [100.0]
    for sign in UPS_AND_DOWNS:
        prices.append(prices[-1] + (10 if sign == "+" else -10))
    prices = np.array(prices)  # (31,)
    before = prices[:-1]  # (30,)
    truth = prices[1:]  # (30,)
    forecast = before  # persistence: tomorrow is like today
    true_returns = truth / before - 1  # (30,)
    said_returns = forecast / before - 1  # (30,), all 0
    print("\nTrap 4, prices, by hand: 100, then 10 up or down a day, by persistence")
    print(f"  {UPS_AND_DOWNS}")
    for day in (3, 4, 5):
        numbers = f"{before[day]:g}, then {truth[day]:g}, forecast {forecast[day]:g}"
        returns = f"return {true_returns[day]:5.1%}, forecast {said_returns[day]:.1%}"
        print(f"  {numbers}:   {returns}")
    squares = ((truth - forecast) ** 2).sum()
    spread = ((truth - truth.mean()) ** 2).sum()
    print(f"  as prices    sum of squared errors: 30 * 10^2 = {squares:g}")
    print(f"               of squared distances from the mean: {spread:g}")
    r2 = r_squared(truth, forecast)
    print(f"               R2 = 1 - {squares:g} / {spread:g} = {r2:.2f}")
    r2 = r_squared(true_returns, said_returns)
    print(f"  as returns   R2 = {r2:.3f}: no better than a constant")
    print("It never said up or down, and as prices it looks good.")


def report_prices(prices, source, length, horizon):
    """Print how good two forecasts of a price look as prices, and how good as returns.

    prices: a pandas.Series.  Returns price before (M,), truth (M,), name -> forecast
    (M,), the table's rows.
    """
    values = prices.to_numpy()
    n1, n2 = utils.split_by_time(len(values))
    targets = np.arange(n2, len(values))  # (M,)
    origins = targets - horizon  # (M,)
    before = values[origins]
    truth = values[targets]
    width = utils.best_width(values[:n1], length, horizon)
    average = utils.moving_average(values, origins, [horizon], width)[:, 0]  # (M,)
    forecasts = {"moving average": average, "persistence": before}
    true_returns = truth / before - 1  # (M,)
    rows = {}
    for name, forecast in forecasts.items():
        rows[name] = agreement(truth, forecast, "price")
        rows[name] |= agreement(true_returns, forecast / before - 1, "return")
    if source.name == "stock":
        # A few wild weeks can make a correlation.  So once more without them.
        calm = prices.index[targets] < "2020-02-20"  # (M,), True before the crash
        name = "moving average before the crash"
        calm_returns = average[calm] / before[calm] - 1
        rows[name] = agreement(truth[calm], average[calm], "price")
        rows[name] |= agreement(true_returns[calm], calm_returns, "return")
    utils.print_table(f"Test span of {source.label}, {ahead(horizon)}", rows)
    print("Reading it: compare the left half with the right one.  persistence says")
    print("a return of 0 each time; an R2 of about 0 or less is no better than a")
    print("constant.  corr, correlation, is 1 if forecast and truth go up and down")
    print("together, and 0 if they have nothing to do with each other; a forecast")
    print("that never changes has none (-).")
    print(f"The moving average takes the last {width} prices (chosen on train).")
    if width == 2:
        print("So it says that half of the last change will be undone.")
    if source.name == "stock":
        corr = rows["moving average"]["corr of return"]
        crash = int((~calm).sum())
        print(f"Its correlation {corr:.2f} comes from the last {crash} days, the crash")
        print("from 20 February 2020 on: see what is left without them.")
    return before, truth, forecasts, rows


# --- pictures -----------------------------------------------------------------------
#
# Drawing only; skip it at a first reading.


def plot_split(args, source, series):
    """The three parts in three colours."""
    if args.no_plots:
        return
    n1, n2 = utils.split_by_time(len(series))
    figure, axes = utils.pyplot().subplots(figsize=(8, 3.4))
    for name, start, end in (
        ("train", 0, n1),
        ("val", n1, n2),
        ("test", n2, len(series)),
    ):
        part = series.iloc[start:end]
        axes.plot(part.index, part, linewidth=0.8, label=f"{name} ({end - start:,})")
    axes.set_title(f"Split by time: {source.label}", **utils.PLAIN)
    axes.set_ylabel(series.name, **utils.PLAIN)  # a name may hold dollar signs
    axes.set_xlabel("date")
    axes.legend(fontsize=8)
    utils.save_picture(figure, args, "split")
    print("  Reading it: is test like train?  If it reaches higher, such values were")
    print("  never seen in training.")


def plot_prices(args, source, before, truth, forecasts):
    """The same forecasts against the truth, as prices and as returns."""
    if args.no_plots:
        return
    figure, (left, right) = utils.pyplot().subplots(1, 2, figsize=(9.5, 4.4))
    true_returns = 100 * (truth / before - 1)
    for name, forecast in forecasts.items():
        returns = 100 * (forecast / before - 1)
        left.plot(truth, forecast, ".", markersize=3, label=name)
        right.plot(true_returns, returns, ".", markersize=3, label=name)
    # A perfect forecast equals the truth: a line of slope 1 through any such point.
    left.axline((truth[0], truth[0]), slope=1, color="grey", label="perfect forecast")
    right.axline((0, 0), slope=1, color="grey", label="perfect forecast")
    left.set(xlabel="true price", ylabel="forecast price")
    right.set(xlabel="true return (%)", ylabel="forecast return (%)")
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    figure.suptitle(f"{source.label}: the same forecasts of the test span, seen twice")
    utils.save_picture(figure, args, "prices_and_returns")
    if r_squared(truth, forecasts["persistence"]) > 0.9:
        print("  Reading it: on the left the dots lie near the line of perfection;")
        print("  on the right the same forecasts do not follow it.")
    else:
        print("  Reading it: a good forecast follows the line of perfect forecasts.")


# ====================================================================================
# 5. Command line
# ====================================================================================


def report_answer(series, line_errors, rows, p, lie, looked_up, smoothed, args):
    """Print the answer to the lesson's title, with the figures of this run."""
    best, rival = best_and_rival(rows)
    length = args.sequence_length
    # Windows are numbered from 0, so where a part stops is how many came before.
    parts = split_windows(len(series), length, args.horizon)
    train = parts["train"].stop
    test_rmse = rows[best]["test RMSE"]
    test_mase = rows[best]["test MASE"]
    verdict = "not surely better than"
    if p < 0.05:
        worse = test_rmse > rows[rival]["test RMSE"]
        verdict = "but on test worse than" if worse else "better than"
    print("\nHow does a series become training examples?")
    print("  1. Repair the dates: one value for each, in order; a gap takes the value")
    print("     before it, never one that comes later.")
    print("  2. Set two borders in time.  Scale by the mean and std of train alone.")
    print(f"  3. Cut windows of {length} values, with a target {ahead(args.horizon)}.")
    print(f"     The target decides the part: {train:,} windows are training examples.")
    error = line_errors["test"]
    print(f"  4. Fit.  A line learned from them errs by {error:.4g} on test.")
    print("  5. Compare with rules of one line.  Best of the baselines on validation:")
    print(f"     {best}, {verdict} {rival} ({as_text_p(p)}),")
    print(f"     RMSE {test_rmse:.4g} and MASE {test_mase:.2f} on test.")
    print("  6. Mistrust what looks too good.  RMSE with the mistake, and without it:")
    print(f"     scaled by everything     {lie:+.1%} for the very same forecasts")
    flattered = looked_up["shuffled"]
    honest = looked_up["by time"]
    print(f"     shuffled windows         {flattered:#.4g}, honestly {honest:#.4g}")
    if smoothed:
        careless = smoothed["smoothed"]["autoregression RMSE"]
        honest = smoothed["smoothed, honest"]["autoregression RMSE"]
        print(f"     a smoothed series        {careless:#.4g}, honestly {honest:#.4g}")
    print("     a price                  judge it by its returns")


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(
        parser,
        ["sunspots", "stock", "sine", "simulated"],
        "CSV: a column of dates, one or more of numbers",
    )
    add = parser.add_argument_group("this lesson").add_argument
    size = utils.whole(1, 100_000)
    add("--column", help="what to forecast (default: the obvious one)")
    add("--sequence-length", type=size, default=36, help="T (default 36)")
    add("--horizon", type=size, default=1, help="steps ahead (default 1)")
    return parser


def main(argv=None):
    # small=True: one thread is the fastest for tensors as small as these.
    args = utils.parse_flags(make_flags(), argv, __file__, small=True)
    length = args.sequence_length
    horizon = args.horizon

    # 1. Data: repair, split, scale, windows, each to its part.
    offline = {"sine": None, "simulated": None}  # made here, so they have no file
    source = utils.choose_dataset(args, real=["sunspots", "stock"], offline=offline)
    series, repairs = utils.load_series(args, source)
    series = utils.capped(args, series, 1000)  # under --quick, the first 1000 values
    values = series.to_numpy()  # (n,)
    utils.check_series(values, length, horizon)  # long enough for windows and parts?
    show_repair()
    report_series(series, repairs, source)
    show_split()
    n1, n2 = utils.split_by_time(len(values))
    show_scaling()
    mean = float(values[:n1].mean())  # of train, nothing else
    std = float(values[:n1].std())
    raw = torch.tensor(values, dtype=torch.float32, device=args.device)  # (n,)
    scaled = (raw - mean) / std  # (n,)
    show_differences()
    show_windows()
    show_parts()
    report_windows(series, length, horizon)
    plot_split(args, source, series)
    report_example(series, scaled, mean, std, length, horizon)
    inputs, targets = make_windows(scaled, length, horizon)  # (N, T, 1), (N,)
    train = split_windows(len(values), length, horizon)["train"]
    report_batches(inputs[train], targets[train])

    # 2. Model: a line.
    show_line()

    # 3. Training: its weights, by hand, and from the training windows.
    show_fit()
    line_errors = report_line(series, scaled, mean, std, length, horizon)

    # 4. Evaluation: is that good?  Measures, four rules to beat, the season, luck.
    show_scores()
    show_baselines()
    show_autocorrelation()
    fitted = fit_on(values[:n1], length, horizon)
    report_autocorrelation(values[:n1], fitted, source)
    plot_autocorrelation(args, source, values[:n1], fitted.season)
    targets, made, order = all_forecasts(values, length, horizon, fitted)
    rows = score_all(values, targets, made, fitted)
    report_baselines(rows, order, line_errors, source, length, horizon)
    report_season(rows, values[:n1], fitted, horizon)
    show_chance()
    p = report_luck(rows, made, targets, values, horizon)
    best, _ = best_and_rival(rows)
    plot_forecasts(args, source, series, targets, made, best)
    report_lengths(scaled, mean, std, values, length, horizon)
    metrics = {
        "val_rmse": rows[best]["val RMSE"],
        "test_rmse": rows[best]["test RMSE"],
        "test_mae": rows[best]["test MAE"],
        "test_mase": rows[best]["test MASE"],
        "p_of_lead": p,
        "line_test_rmse": line_errors["test"],
    }
    if source.name == "sine":
        noise = utils.sine_series()[1].to_numpy()[n2 : len(values)]
        metrics["test_noise_variance"] = report_noise(noise, metrics["test_rmse"])

    #    May one believe it?  Four traps.
    show_ruler()
    lie = report_scaling(values, horizon, source)
    looked_up = report_shuffled(raw.cpu(), length, horizon, args.seed)
    show_smoothing()
    smoothed = report_smoothing(args, series, source)
    show_returns()
    prices = series
    market = source
    if source.name != "stock" or series.name == "volume":  # this part needs prices
        prices = utils.simulated_prices(max(2500, len(series)))
        market = utils.Source("simulated", None, False)
        print("\nNow a longer price, made here: its changes are drawn at random, and")
        print("nothing in it can be learned.  (For a real one: --dataset stock.)")
    before, truth, forecasts, _ = report_prices(prices, market, length, horizon)
    plot_prices(args, market, before, truth, forecasts)

    # The answer.
    report_answer(series, line_errors, rows, p, lie, looked_up, smoothed, args)
    metrics["scaling_lie"] = lie
    metrics["look_up_rmse"] = looked_up["by time"]
    metrics["look_up_shuffled_rmse"] = looked_up["shuffled"]
    for name, row in smoothed.items():
        key = name.replace(", ", "_")  # raw, smoothed, smoothed_honest
        metrics[f"{key}_autoregression_rmse"] = row["autoregression RMSE"]
    baselines = {name: row["test RMSE"] for name, row in rows.items()}
    utils.write_metrics(args, source, metrics, baselines)


if __name__ == "__main__":
    sys.exit(utils.run(main))
