"""03 · How does a series become training examples, and which score may one believe?

A series is one long row of numbers, each with its date: sunspots by month, a price by
day.  From one row a network learns badly.  It learns from many examples, and an example
is a pair: what the network may read (the input) and what it should answer (the target).
This lesson makes the pairs, first by hand on ten numbers, then on a real series:

    dated rows -> repaired -> split by time -> scaled -> windows, each to its part
               -> a fitted line

The last arrow is the proof that the examples are good for something.  The model is no
network yet but the plainest that can read a window, a weighted sum of its values.  That
is the first half of the title (sections 1 to 3).  Section 4 is about the second.  Is
the error small, beside rules that learn nothing?  And is it true?  Four common mistakes
are made on purpose, and what each hides is measured.

What you will learn
    - to repair dates that are out of order, written twice, or missing
    - to split by time, to scale by the training part alone, and why
    - to cut a series into windows: T values to read, and one to answer with, h steps
      later (the horizon)
    - to fit a line to the windows: by a formula, and batch by batch as a network learns
    - three simple rules (baselines) that a network has to beat, three measures of error
    - to see memory and a season in a series (autocorrelation)
    - four traps: numbers scaled with the help of the test part, shuffled windows, a
      smoothed series, and prices that are not judged by their changes
    - to test a program of your own for a leak

You need lesson 01 (a batch of sequences has the shape (B, T, F)), and arrays in NumPy.

Run it
    python 03_time_series_basics.py
    python 03_time_series_basics.py --dataset stock
    python 03_time_series_basics.py --dataset sine --horizon 12

You should see  (sunspots [real], one thread, about 8 seconds in all)
    The line learns from 1,938 windows of 36 months.  On validation, the years after
    those it learned from, it errs by 15.7420 sunspots (RMSE, the typical size of an
    error); trained batch by batch instead, by 15.8049.  On test, the last years:
                         test RMSE   test MASE
      persistence          19.7322      1.2750     the last value again
      moving average       19.4889      1.2541     the mean of the last 2
      seasonal naive       44.8352      2.9008     the value 127 months ago
      fitted line          17.9855      1.1599     a weighted sum of the last 36
    MASE is 1 for as good as persistence was in the training years.  The line's lead is
    more than luck: two equally good forecasts differ by so much about one time in a
    thousand (p = 0.001).  Then the traps:
      scaled by everything    the same error reads as 12.8 % less
      shuffled windows        on a random price, which nobody can forecast, a look-up
                              (it repeats what followed the most similar window) seems
                              to err 3.3 times less than persistence
      smoothed series         an error of 1.6 that is honestly 10.0
      prices                  R2 (1 is perfect, 0 worthless) is 0.98 for prices, and 0
                              for returns, their changes from day to day

Try this  (guess first; docs/exercises.md answers the first three)
    --horizon 60                 on the sunspots: which rule is the best then?
    --dataset sine --horizon 25  half a period: which one is the worst, and why?
    --sequence-length 6          which lines of the output change, and which cannot?
    --input my.csv --column NAME  does a season show in your own data?

Functions named show_ work an example by hand, report_ ones print what became of the
series that --dataset names.  What is marked [machinery] may be skipped.
"""

# Sizes
#     n  values in the series        T  values in one window (--sequence-length)
#     N  windows, that is examples   h  steps from a window's last value to its target
#     B  batch (windows)                (--horizon; 1 is the very next value)
#     M  forecasts to be compared    n1, n2  places where validation and test start
# Words
#     place   where a value stands in the series, counted from 0
#     origin  the place of the last value that a forecast knows; its target is h later

import sys
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import rnn_utils as utils


def as_row(numbers, form="g"):
    """Numbers as one text, such as 1 2.5 3."""
    return " ".join(f"{float(number):{form}}" for number in numbers)


# ====================================================================================
# 1. Data
# ====================================================================================
#
# Five things happen to a series before a model sees it, in this order:
#
#   repair   one value for each date, dates in order, none left out
#   split    two borders in time make three parts: early years to learn from, a middle
#            part to choose by, the last years to test
#   scale    numbers of a size that a network can learn from
#   window   many short pieces, each with the value that came after it: the examples
#   assign   each window to the part of the data in which its target lies

# --- repair -------------------------------------------------------------------------
#
# A window takes T values that stand one below the other, and trusts that each lies one
# step after the one before.  If a month is missing, or stands there twice, every window
# across that place is wrong, and nothing says so.  So the dates come first.  These ten
# rows have all the common faults: April before March, May twice, no row for June, an
# empty cell in August.

TEN_ROWS = [
    ("2001-01", 10.0),
    ("2001-02", 14.0),
    ("2001-04", 13.0),
    ("2001-03", 12.0),
    ("2001-05", 15.0),
    ("2001-05", 16.0),
    ("2001-07", 18.0),
    ("2001-08", None),  # an empty cell
    ("2001-09", 17.0),
    ("2001-10", 19.0),
]


def sort_rows(rows):
    """By date.  Rows of the same date stay in the order of the file.

    The dates are texts, and texts are sorted letter by letter.  That is the order in
    time only because the year comes first and May is 05: "2001-05", never "2001-5".
    """
    return sorted(rows, key=lambda row: row[0])


def merge_repeats(rows):
    """One row for each date: the last one counts, unless its cell is empty.

    Why the last?  A second row is mostly a correction of the first.  An empty cell
    never replaces a number; but it keeps its date, so that the gap can be seen.
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


def as_text(rows):
    """Rows as month:value, such as 01:10 02:-- where -- is an empty cell."""
    cells = []
    for date, value in rows:
        shown = "--" if value is None else f"{value:g}"
        cells.append(f"{date[5:]}:{shown}")
    return " ".join(cells)


# The shared functions take a pandas Series, an array with a date beside each value:
# .iloc[3] is the value at place 3, .index[3] its date, .to_numpy() the bare array.


def show_repair():
    """Repair the ten rows in three steps; the shared function does the same."""
    import pandas as pd  # here and not above: it takes long to load

    in_order = sort_rows(TEN_ROWS)
    merged = merge_repeats(in_order)
    filled = fill_gaps(merged)
    dates = pd.DatetimeIndex([date for date, _ in TEN_ROWS])
    values = [value for _, value in TEN_ROWS]
    shared, _ = utils.repair_series(pd.Series(values, dates, dtype=float))
    print("Repair by hand: ten rows of a file, as month:value")
    print(f"  in the file  {as_text(TEN_ROWS)}")
    print(f"  1. sorted    {as_text(in_order)}")
    print(f"  2. merged    {as_text(merged)}")
    print(f"  3. filled    {as_text(filled)}")
    print(f"  rnn_utils    {' '.join(f'   {value:g}' for value in shared)}")
    utils.say(
        """Sorted: March now stands before April.  Merged: of the two rows of May the
        last counts.  Filled: June (no row) and August (empty) take the value before.
        Half way between May and July would be 17 for June; but in June nobody knew
        July.  The last line is utils.repair_series, which repairs the real series."""
    )


# What such a repair cannot do:
#
#   - A filled value is the last value again, so a rule that says just this hits it for
#     nothing.  Leave filled targets out of the test (the sunspots have none), and cut
#     the series at a long gap.
#   - Not every missing date is a fault.  If (nearly) all Saturdays and Sundays are
#     missing, as at a stock market, nothing is filled, not even Christmas.
#   - A value that cannot be, such as -1 sunspots, is an empty cell in disguise: put nan
#     ("not a number") there first.  One that is only very large (an outlier) may be
#     true, and in the test years nobody takes it away for you.
#   - Hours in local time lack one in spring and have one twice in autumn, when clocks
#     change.  Keep times in UTC, which knows no summer time.

# What each data set is.
ABOUT = {
    "sunspots": """Sunspots are dark, cooler patches on the sun.  They have been counted
        every month since 1749 (this file ends in 1983).  Their number rises and falls
        in about eleven years.""",
    "stock": """The S&P 500 is made of the prices of 500 large American companies: one
        value for each day of trading, none for weekends and holidays.""",
    "sine": """Made here: a sine wave of period 50, plus noise with a std (typical size)
        of 0.2.  So we know how good the best possible forecast is, which nobody knows
        of real data.""",
    "simulated": """Made here: a price whose daily changes are drawn at random.  There
        is nothing in it to be learned, and that is what it is for.""",
    "input": "Your own data.",
}


def date_at(series, place):
    """The date of a place, such as 1749-01-01; with the time of day, if it has one."""
    return str(series.index[place]).removesuffix(" 00:00:00")


def report_series(series, repairs, source):
    """Print what was read, both ends of it, and what was repaired."""
    print(f"\nThe series, {source.label}: '{series.name}', {len(series):,} values")
    utils.say(ABOUT[source.name])
    print(f"The first: {date_at(series, 0)}   {series.iloc[0]:g}")
    print(f"The last:  {date_at(series, -1)}   {series.iloc[-1]:g}")
    for sentence in repairs:
        print(f"  - {sentence}")
    if not repairs:
        print("Nothing to repair: one value for each date, in order.")


# --- split --------------------------------------------------------------------------
#
# A model is fitted on one part of the data (train), choices are made by a second (val,
# for validation), and the third is kept to tell how good it all is (test).  A forecast
# is used on days that come after all that we know.  So test comes last:
#
#     |------------- train 70 % -------------|-- val 15 % --|-- test 15 % --|
#     0                                      n1             n2              n   places
#
# (utils.split_by_time gives n1 and n2 for any n.)
#
# The borders come before anything is learned from the data: whatever is learned (a
# mean, a weight, a season) is learned from train.  In your own work you would not look
# at the test part until all is chosen.  A lesson has to show it, in the drawing below
# and in section 4; but no choice is made by it.
#
# Here a model is learned once, and stays as it is while the test years go by.  In use
# one would fit anew every year, with all that is known by then, and score each year's
# forecasts: that is called walk-forward.


def show_split():
    """Where the borders lie among the numbers 1 to 10."""
    numbers = list(range(1, 11))
    n = len(numbers)
    n1 = round(0.70 * n)  # round(7.0)
    n2 = round(0.85 * n)  # round(8.5) is 8: of a half Python takes the even side
    print("\nSplit by hand: the numbers 1 to 10")
    print(f"  n1 = 0.70 * 10 = {0.70 * n:g}")
    print(f"  n2 = 0.85 * 10 = {0.85 * n:g}, rounded to {n2}")
    print(f"  train  {numbers[:n1]}")
    print(f"  val    {numbers[n1:n2]}")
    print(f"  test   {numbers[n2:]}")


# Before anything is computed, look at the whole series.  Four things may show:
#
#   trend    a level that goes on rising, or falling
#   season   hills that return after a fixed time, such as a year or a week
#   cycle    hills that return, but not after a fixed time
#   noise    what is left: ups and downs of single values


def print_skyline(values, width=68, height=8):
    """Print values (n,) as a drawing: each column is the mean of a short stretch.

    A column is filled up to its mean; the number before a line is where it begins.
    """
    means = np.array([piece.mean() for piece in np.array_split(values, width)])
    step = (means.max() - means.min()) / height
    for level in reversed(range(height)):
        floor = means.min() + level * step
        columns = "".join("#" if mean > floor else " " for mean in means)
        print(f" {floor:8.4g} |{columns}".rstrip())


def report_split(series, source):
    """Draw the whole series and its two borders; print how the three parts differ."""
    values = series.to_numpy()  # (n,)
    n = len(values)
    n1, n2 = utils.split_by_time(n)
    print(f"\nThe whole series, {source.label}, from {date_at(series, 0)} on")
    width = min(68, n)
    print_skyline(values, width)  # a column is the mean of a stretch
    first = round(width * n1 / n)  # the columns at which val and test start
    second = round(width * n2 / n)
    val = f"{'val':-<{second - first - 1}}"
    print(f"{' ' * 11}{'train':-<{first}}|{val}|{'test':-<{width - second - 1}}")
    print("Its parts     mean      std   (the typical distance from the mean)")
    parts = {"train": values[:n1], "val": values[n1:n2], "test": values[n2:]}
    for name, part in parts.items():
        print(f"  {name:<7} {part.mean():8.5g} {part.std():8.5g}")
    higher = "higher" if values[n2:].mean() > values[:n1].mean() else "lower"
    wider = "wider" if values[n2:].std() > values[:n1].std() else "less wide"
    text = f"Reading it: test lies {higher} than train, and spreads {wider}."
    if source.name == "sunspots":
        text += """  The hills are the sun's cycles, from 9 to 14 years long and of
        unequal height.  They come back to the ground each time.  A cycle is nearly a
        season; this lesson takes it for one, to see how far that goes."""
    utils.say(text)


# --- scale --------------------------------------------------------------------------
#
# A network learns well from numbers around 0, about as large as 1.  It squeezes its
# sums by tanh, and tanh makes 1.000 of a sum of 20, of 80 and of 150.  And one step
# size has to serve all of its weights (section 3 shows what happens without scaling).
# So we subtract the mean and divide by the standard deviation (std):
#
#     std = square root of the mean of (value - mean)^2
#     scaled = (value - mean) / std            value = scaled * std + mean
#
# The right half leads back: a network's answers are scaled numbers too.  (This is the
# std of NumPy, which divides by the number of values.  torch.std and pandas divide by
# one less, and give a slightly larger number.)
#
# Mean and std are learned from data, like weights.  So they come from the training part
# alone.  Whoever takes them from the whole series has looked at the test years: trap 1.


class Scaled(NamedTuple):
    """A series in scaled numbers, and what leads back to its own units."""

    values: np.ndarray  # (n,)
    mean: float  # of train
    std: float  # of train


def scale_by_train(values):
    """The series (n,), scaled by its training part."""
    n1, _ = utils.split_by_time(len(values))
    mean = float(values[:n1].mean())
    std = float(values[:n1].std()) or 1.0  # 0.0 counts as false; then divide by 1
    return Scaled((values - mean) / std, mean, std)


def show_scaling():
    """Scale the numbers 1 to 10 by hand."""
    squares = [(value - 4) ** 2 for value in (1, 2, 3, 4, 5, 6, 7)]
    scaled, mean, std = scale_by_train(np.arange(1.0, 11.0))
    print("\nScaling by hand: the numbers 1 to 10, by their training part 1 to 7")
    print(f"  mean of 1 to 7          {mean:g}")
    print(f"  squared distances       {as_row(squares)}")
    print(f"  std                     root of their mean, {std**2:g}, is {std:g}")
    print(f"  scaled                  {as_row(scaled)}")
    print(f"  back: an answer of 1.5  1.5 * {std:g} + {mean:g} = {1.5 * std + mean:g}")
    utils.say(
        """The scaled values of val and test, 2 2.5 3, lie above all of train: the
        series climbs, and a network would be asked about numbers it has never met."""
    )


# What can be done about a climb?  Learn the changes instead of the values.  A series is
# called stationary if its mean, its spread and the way neighbours hang together stay
# the same all along.  A climbing series is not, but its changes often are.  The sunspots are not quite stationary: the late
# cycles are higher.  But they come back to 0 each time, so this lesson keeps their
# values.  A price need not come back; lesson 06 offers to learn its changes.


def show_differences():
    """A climbing series as changes from step to step, and the way back."""
    climb = np.array([2.0, 3.0, 5.0, 6.0, 8.0, 9.0, 11.0, 12.0])  # (8,)
    changes = np.diff(climb)  # (7,): each value minus the one before
    print("\nA climb by hand: take the changes")
    print(f"  values    {as_row(climb)}   the late ones are not like the early ones")
    print(f"  changes     {as_row(changes)}     late ones and early ones are alike")
    print("  back      a model that says 1.5, about the mean change, has forecast")
    print(f"            {climb[-1]:g} + 1.5 = {climb[-1] + 1.5:g} for the next value")


# --- windows ------------------------------------------------------------------------
#
# A window of T values is laid on the series; the value h steps after its last one is
# the target.  Then the window moves on by one place: the next example.  With T = 3 and
# h = 2 on the numbers 1 to 10 (a dot is a value in between, not used):
#
#       1  2  3  4  5  6  7  8  9 10
#      [1  2  3] .  5                    input 1 2 3, target 5
#         [2  3  4] .  6
#            and so on, until the targets have run out
#
# How many?  A window and its target cover T + h values, and there are n - (T + h) + 1
# places where so many can be laid down: 10 - 5 + 1 = 6.
#
# On the real series T is 36, three years of months, and h is 1.  Section 4 tries other
# lengths, on validation (of those tried none does better), and other distances.


def windows_by_loop(values, length, horizon):
    """A list of values -> list of inputs, list of targets: the plain way."""
    inputs = []
    targets = []
    for first in range(len(values) - length - horizon + 1):
        last = first + length - 1  # the place of the window's last value
        inputs.append(values[first : last + 1])
        targets.append(values[last + horizon])
    return inputs, targets


# The fast way copies nothing.  `unfold(0, T, 1)` describes windows along axis 0 (the
# only one here), of length T, each 1 place further on, over the numbers that lie in
# memory already; such a description is called a view.  For the values 1 2 3 4 5, T = 3, h = 1:
#
#     without the last h values, which can be no input      1 2 3 4
#     unfold(0, 3, 1)                                       1 2 3  |  2 3 4
#     targets: without the first T + h - 1 values           4 5
#
# A recurrent network reads (B, T, F): batch, time, features.  A feature is a number
# that belongs to one step.  We have one, so an axis of size 1 is added at the end.


def make_windows(values, length, horizon):
    """The same as windows_by_loop for a tensor (n,): inputs (N, T, 1), targets (N,).

    Both are views of `values`.  A value stands in memory once, whatever the number of
    windows that hold it; so never write into a window.
    """
    inputs = values[: len(values) - horizon].unfold(0, length, 1)  # (N, T)
    targets = values[length + horizon - 1 :]  # (N,)
    return inputs.unsqueeze(-1), targets  # (N, T, 1), (N,)


def show_windows():
    """Cut the numbers 1 to 10 by the loop and by unfold; then two columns."""
    print("\nWindows by hand: the numbers 1 to 10, T = 3, h = 2")
    numbers = [float(number) for number in range(1, 11)]
    loop_inputs, loop_targets = windows_by_loop(numbers, 3, 2)
    for i in range(len(loop_inputs)):
        window = as_row(loop_inputs[i], "2g")
        print(f"  window {i}   {'   ' * i}[{window}]  . {loop_targets[i]:2g}")
    print("n - T - h + 1 = 10 - 3 - 2 + 1 = 6 windows.")

    values = torch.tensor(numbers)  # (10,)
    inputs, targets = make_windows(values, 3, 2)  # (6, 3, 1), (6,)
    equal = inputs[:, :, 0].tolist() == loop_inputs and targets.tolist() == loop_targets
    utils.say(
        f"""The fast way finds {"the same" if equal else "something else"}: inputs
        {tuple(inputs.shape)}, 6 windows of 3 steps with 1 number each, and targets
        {tuple(targets.shape)}."""
    )

    # A second column is cut in the same way, and laid beside the first.
    second, _ = make_windows(10 * values, 3, 2)  # (6, 3, 1)
    both = torch.cat([inputs, second], dim=2)  # (6, 3, 2)
    window = [[int(number) for number in step] for step in both[0]]
    utils.say(
        f"""With a second column, say 10 20 30 ..., inputs are {tuple(both.shape)}: 2
        numbers each step.  Window 0 is then {window}, and its target is still 5."""
    )


# What may a second column tell?  What is known at the origin.  Whoever forecasts
# Tuesday's sales on Monday may read Monday's temperature, but not Tuesday's; that
# Tuesday is a holiday he may read, since calendars are known.
#
# Several steps ahead there are three ways.  This lesson has one model for each h, with
# windows of its own.  One may also feed each forecast back as if it were a known value:
# section 3 does so on the toy.  Or one model answers the next h values at once; its
# target is a row of h values.  Lesson 06 compares.


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
    for i in range(len(inputs)):
        place = i + (3 + 2 - 1)  # of the target: T + h - 1 after the window's start
        part = part_of(place, n1, n2)
        reason = "lies in train as a whole"
        if part != "train":
            reason = f"{targets[i]} is a value of {part}; {inputs[i]} is past by then"
        print(f"  window {i}  {inputs[i]} -> {targets[i]:>2}   {part:<5}   {reason}")
    slices = split_windows(10, 3, 2).items()
    by_slice = [f"{part} {piece.start}:{piece.stop}" for part, piece in slices]
    utils.say(
        f"""split_windows says it by slices of windows: {", ".join(by_slice)}.  Training
        on [4, 5, 6] -> 8 would show the 8, which validation asks for.  So this window
        belongs to val, although its inputs lie in train."""
    )


# Why not draw the test windows at random, as one does with photographs?  Neighbours
# overlap.  Draw the second window as a test window; these, among others, stay in train:
#
#     [2  3  4] -> 6    test
#     [3  4  5] -> 7    train      almost the same question, almost the same answer
#     [4  5  6] -> 8    train      the answer, 6, stands among its inputs
#     [6  7  8] -> 10   train      and here
#
# When answers of the test reach the training, that is called a leak.  Trap 2 measures
# this one.


def report_windows(series, length, horizon):
    """Print how many windows the series gives, and how many go to each part."""
    n = len(series)
    # Windows of 0, 1, 2, ... instead of the values: so each number is a place.
    _, places = make_windows(torch.arange(n), length, horizon)  # (N,)
    print(f"\nWindows of the series, T = {length}, h = {horizon}")
    print(f"  {n:,} - {length} - {horizon} + 1 = {len(places):,} of them")
    for part, windows in split_windows(n, length, horizon).items():
        of_part = places[windows]
        first = date_at(series, int(of_part[0]))
        last = date_at(series, int(of_part[-1]))
        print(f"  {part:<5}  {len(of_part):>6,} windows, targets {first} to {last}")


def on_its_way(series, place, number):
    """Date, value and scaled value of one place, as a text."""
    return f"{date_at(series, place)}   {series.iloc[place]:9.5g}  ->  {number:7.4f}"


# A network reads several windows at once, a batch.  PyTorch's DataLoader hands them
# out: a TensorDataset keeps inputs and targets side by side, and shuffle=True mixes
# their order.  Why mix?  Neighbouring windows are almost the same.  64 neighbours would
# show one stretch of one cycle, and the network would take a step that suits just that.
# This is no leak: training windows are mixed only among themselves.  (And because
# neighbours are so alike, 1,938 overlapping windows teach far less than 1,938 that have
# nothing in common.)  The later lessons use `utils.Batches`: the same, but faster.


def batches_of(inputs, targets, seed, size=64):
    """A DataLoader over inputs (N, T, 1) and targets (N,), in batches of `size`."""
    pairs = TensorDataset(inputs, targets)
    order = torch.Generator().manual_seed(seed)  # decides the order in which they come
    return DataLoader(pairs, batch_size=size, shuffle=True, generator=order)


def report_example(series, scaled, length, horizon, seed):
    """Print the first window on its way from dates to a tensor, and the first batch."""
    print("\nOne example on its way from the file to the network: the first window")
    numbers = torch.tensor(scaled.values, dtype=torch.float32)  # (n,)
    inputs, targets = make_windows(numbers, length, horizon)  # (N, T, 1), (N,)
    for step in sorted({0, min(1, length - 1), length - 1}):  # two steps and the last
        if step > 2:
            print("  ...")
        number = inputs[0, step, 0].item()
        print(f"  input, step {step:>4}   {on_its_way(series, step, number)}")
    number = targets[0].item()
    print(f"  target             {on_its_way(series, length + horizon - 1, number)}")
    first = series.iloc[0]
    working = f"({first:g} - {scaled.mean:.5g}) / {scaled.std:.5g}"
    print(f"Worked, by train: {working} = {(first - scaled.mean) / scaled.std:.4f}")

    train = split_windows(len(numbers), length, horizon)["train"]
    loader = batches_of(inputs[train], targets[train], seed)
    batch, answers = next(iter(loader))
    print(f"The first batch: inputs {tuple(batch.shape)}, that is (B, T, 1);")
    print(f"targets {tuple(answers.shape)}, that is (B,).")
    print(f"One pass through the {len(targets[train]):,} training windows, an epoch,")
    print(f"takes {len(loader)} batches.")


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
# nn.Linear(T, 1) is just that.  It reads (N, T), so the feature axis comes off again; a
# recurrent network keeps it.  Statisticians call this model an autoregression: a line
# (regression) through the series' own (auto) past.


def show_line():
    """Three choices of weights for the window 4 5 6, by nn.Linear."""
    choices = [
        ("0 * 4 + 0 * 5 + 1 * 6", [0.0, 0.0, 1.0], "the last value again"),
        ("1/3 * 4 + 1/3 * 5 + 1/3 * 6", [1 / 3, 1 / 3, 1 / 3], "the mean"),
        ("0 * 4 - 1 * 5 + 2 * 6", [0.0, -1.0, 2.0], "goes on as from 5 to 6"),
    ]
    window = torch.tensor([[4.0, 5.0, 6.0]])  # (1, 3)
    layer = nn.Linear(3, 1)
    layer.bias.data[0] = 0.0  # .data: the number itself, to be set by hand
    print("nn.Linear(3, 1) on the window 4 5 6, bias 0, three choices of weights")
    for working, chosen, meaning in choices:
        layer.weight.data[0] = torch.tensor(chosen)
        forecast = layer(window)[0, 0].item()
        print(f"  {working:<28} = {forecast:g}   {meaning}")
    print("Which weights are the best for a series?  To find out is called fitting.")


# ====================================================================================
# 3. Training
# ====================================================================================
#
# The best weights are those with the smallest sum of squared errors on the training
# examples.  For a network one has to search for them, step by step.  For a line there
# is also a formula, called least squares.  Both come here: on a toy, then on the data.
#
# --- by a formula -------------------------------------------------------------------
#
# With T = 1 the examples are points in a plane, x the value and y the next one, and a
# pencil is enough:
#
#     weight = sum of (x - mean x)(y - mean y)  /  sum of (x - mean x)^2
#     bias = mean y - weight * mean x
#
# (Where from?  Take the sum of (weight * x + bias - y)^2.  At its smallest value both
# of its derivatives, by weight and by bias, are zero: two equations, and this solves
# them.)  With more values to read the computer solves for all weights at once.

# The working that is printed below is typed for these nine numbers.  Change them, and
# only the results follow.
TOY = [1.0, 2.0, 5.0, 4.0, 5.0, 6.0, 3.0, 6.0, 9.0]


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
    """
    ones = torch.ones(len(inputs), 1, dtype=inputs.dtype)  # (N, 1)
    columns = torch.cat([inputs, ones], dim=1)  # (N, T + 1)
    found = torch.linalg.lstsq(columns, targets.unsqueeze(1)).solution  # (T + 1, 1)
    return found[:-1, 0], found[-1, 0]


def show_fit():
    """Fit a line to the toy by hand and by lstsq; then feed its forecasts back."""
    values = torch.tensor(TOY, dtype=torch.double)  # (9,)
    inputs, targets = make_windows(values, 1, 1)  # (8, 1, 1), (8,)
    pairs = list(zip(inputs[:, 0, 0].tolist(), targets.tolist(), strict=True))
    weight, bias = line_by_hand(pairs)
    next_one = weight * TOY[-1] + bias
    print(f"A line fitted by hand: the windows of {as_row(TOY)}, T = 1, h = 1")
    print("  input > target   ", "  ".join(f"{x:g} > {y:g}" for x, y in pairs))
    print("  means            4 and 5")
    print("  x - 4           ", " ".join(f"{x - 4:2g}" for x, _ in pairs))
    print("  y - 5           ", " ".join(f"{y - 5:2g}" for _, y in pairs))
    print("  products         9 + 0 - 1 + 0 + 1 - 4 - 1 + 8 = 12")
    print("  (x - 4) squared  9 + 4 + 1 + 0 + 1 + 4 + 1 + 4 = 24")
    print(f"  weight           12 / 24 = {weight:g}")
    print(f"  bias             5 - 0.5 * 4 = {bias:g}")
    print(f"  after the 9      0.5 * 9 + 3 = {next_one:g}")
    weights, constant = fit_line(inputs[:, :, 0], targets)
    print(f"torch.linalg.lstsq: weight {weights[0]:.4f}, bias {constant:.4f}")
    # Several steps ahead: each forecast is read as if it were known.
    second = weight * next_one + bias
    third = weight * second + bias
    print(f"  fed back         0.5 * 7.5 + 3 = {second:g}; 0.5 * 6.75 + 3 = {third:g}")
    print("Each step builds on the one before, and on its error.")


# --- batch by batch -----------------------------------------------------------------
#
# A network has no formula.  It starts somewhere, looks at one batch of examples, and
# moves each weight a small step in the direction that makes the error on this batch
# smaller.  How small is set by the learning rate (`lr` in torch.optim).  Then comes the
# next batch.  PyTorch finds the direction: `loss.backward()` leaves in `weight.grad`
# how the loss grows with that weight, so the step goes against it (how, lesson 04
# shows).  A line can learn in that way, too, and we know where the search must end: at
# least squares.


def train_by_batches(inputs, targets, epochs, learning_rate, seed):
    """Search for the line's weights: inputs (N, T, 1), targets (N,) -> nn.Linear."""
    loader = batches_of(inputs, targets, seed)
    layer = nn.Linear(inputs.shape[1], 1, device=inputs.device)
    nn.init.zeros_(layer.weight)  # a line may start anywhere
    nn.init.zeros_(layer.bias)
    for _ in range(epochs):
        for batch, answers in loader:  # (B, T, 1), (B,)
            forecasts = layer(batch[:, :, 0])[:, 0]  # (B,)
            loss = ((forecasts - answers) ** 2).mean()
            layer.zero_grad()  # or the new gradient would be added to the old one
            loss.backward()
            # What torch.optim.SGD does: a step against the gradient, for each weight.
            with torch.no_grad():  # the step itself is not to be learned from
                for weight in layer.parameters():
                    weight -= learning_rate * weight.grad
    return layer


def show_search():
    """Search for the line of the toy: it comes to the weight 0.5."""
    mean = 4.0  # of the inputs
    std = 2.0  # a round number near theirs
    values = (torch.tensor(TOY) - mean) / std  # (9,)
    inputs, targets = make_windows(values, 1, 1)  # (8, 1, 1), (8,)
    print(f"\nThe line of {as_row(TOY)} again, searched for step by step,")
    print(
        "learning rate 0.2, in scaled numbers (value - 4) / 2.  All 8 examples fit in"
    )
    print("one batch, so an epoch is one step.")
    print("  steps   weight   after the 9, back in the toy's units")
    asked = torch.tensor([[(TOY[-1] - mean) / std]])  # (1, 1)
    for steps in (0, 1, 5, 20, 200):
        layer = train_by_batches(inputs, targets, steps, 0.2, seed=0)
        after = layer(asked).item() * std + mean
        print(f"  {steps:>5}   {layer.weight.item():6.3f}   {after:6.3f}")
    products = (inputs[:, 0, 0] * targets).sum().item()
    slope = 2 * products / len(targets)
    utils.say(
        f"""Reading it: at 0 steps weight and bias are 0, so the answer is a scaled 0,
        which is 4 in the toy's units.  There the mean of (weight * x + bias - y)^2
        falls by the mean of 2 * x * y for each unit of weight.  The 8 scaled x * y add
        up to {products:g}, and 2 * {products:g} / 8 = {slope:g}.  So step 1 moves the
        weight by 0.2 * {slope:g} = {0.2 * slope:g}.  The search ends where the formula
        stands at once: 0.5 and 7.5."""
    )


# --- the series ---------------------------------------------------------------------
#
# Now the real series, in both ways.  The line learns from the training windows alone,
# in scaled numbers, and answers in scaled numbers; times std plus mean, these are
# sunspots again.  Here we look at train and validation; test waits for section 4.


def rmse(errors):
    """Typical size of errors (M,): root mean squared error.

    Square them, take the mean, take the root: of 3 and -4, the root of 12.5, or 3.54.
    """
    return float(np.sqrt(np.mean(errors**2)))


def line_on_series(values, length, horizon):
    """Fit the line on train: weights (T,), part -> forecasts in the series' units.

    values: an array (n,), in 64-bit numbers, as the formula needs many digits.
    """
    scaled = scale_by_train(values)
    numbers = torch.from_numpy(scaled.values)  # (n,)
    inputs, targets = make_windows(numbers, length, horizon)  # (N, T, 1), (N,)
    inputs = inputs[:, :, 0]  # (N, T)
    parts = split_windows(len(values), length, horizon)
    weights, bias = fit_line(inputs[parts["train"]], targets[parts["train"]])
    made = {}
    for part, windows in parts.items():
        answers = inputs[windows] @ weights + bias  # (M,), scaled
        made[part] = answers.numpy() * scaled.std + scaled.mean  # (M,), back in units
    return weights, made


def search_on_series(scaled, length, horizon, epochs, args):
    """The same, batch by batch: part -> forecasts in the series' units."""
    numbers = torch.tensor(scaled.values, dtype=torch.float32, device=args.device)
    inputs, targets = make_windows(numbers, length, horizon)  # (N, T, 1), (N,)
    parts = split_windows(len(numbers), length, horizon)
    train = parts["train"]
    # The more values are added up, the farther a step moves the sum: so smaller steps.
    learning_rate = 0.36 / length  # 0.01 for T = 36
    layer = train_by_batches(
        inputs[train], targets[train], epochs, learning_rate, args.seed
    )
    made = {}
    for part, windows in parts.items():
        with torch.no_grad():
            answers = layer(inputs[windows][:, :, 0])[:, 0]  # (M,), scaled
        # Back to NumPy, in 64-bit numbers, and back in units.
        made[part] = answers.cpu().numpy().astype(float) * scaled.std + scaled.mean
    return made


def report_line(series, length, horizon):
    """Print the line's weights, and some forecasts beside the truth."""
    values = series.to_numpy()
    n1, n2 = utils.split_by_time(len(values))
    weights, made = line_on_series(values, length, horizon)
    newest = weights.flip(0)[:5]  # the weight of the last value comes first
    print("\nThe line fitted to the windows of the series")
    print(f"Its weights, that of the last value first: {as_row(newest, '.2f')} ...")
    total = weights.sum().item()
    text = f"""All {length} add up to {total:.2f}: if all values of a window rose by
    100, the forecast would rise by {100 * total:.0f}."""
    if 0 < total < 1:
        text += "  So from a high window it sinks a little, back towards the mean."
    utils.say(text)
    truth = values[n1:n2]  # (M,)
    known = values[n1 - horizon : n2 - horizon]  # (M,): the last value that is known
    print("Four of its forecasts on validation, beside the last known value:")
    print(
        "  date         last known      truth   forecast     off by   last value off by"
    )
    for row in np.linspace(0, len(truth) - 1, 4).astype(int):  # evenly spread
        forecast = made["val"][row]
        off = abs(forecast - truth[row])
        last_off = abs(known[row] - truth[row])
        print(
            f"  {date_at(series, n1 + row)}   {known[row]:10.4g} {truth[row]:10.4g} "
            f"{forecast:10.4g} {off:10.3g} {last_off:19.3g}"
        )
    print("Four rows prove nothing; section 4 compares all of them.")


def report_search(values, length, horizon, args):
    """Print the errors of the line by batches beside least squares'.

    Returns the validation RMSE of the longest training.
    """
    n1, n2 = utils.split_by_time(len(values))
    truth = values[length + horizon - 1 : n1]  # of train
    most = max(2, min(30, 60_000 // len(truth)))  # fewer epochs for a long series
    last = f"{most} epochs"
    scaled = scale_by_train(values)
    unscaled = Scaled(values, mean=0.0, std=1.0)  # which changes nothing
    found = {
        "1 epoch": search_on_series(scaled, length, horizon, 1, args),
        last: search_on_series(scaled, length, horizon, most, args),
        f"{last}, not scaled": search_on_series(unscaled, length, horizon, most, args),
        "least squares": line_on_series(values, length, horizon)[1],
    }
    rows = {}
    for name, made in found.items():
        rows[name] = {
            "train RMSE": rmse(made["train"] - truth),
            "val RMSE": rmse(made["val"] - values[n1:n2]),
        }
    utils.print_table("The line of the series, batch by batch", rows, corner="after")
    more = rows[last]["train RMSE"] - rows["least squares"]["train RMSE"]
    utils.say(
        f"""Reading it: on train no other weights for {length} values can go below
        least squares; {last} come to {more:.4f} above it.  (On validation either may be
        ahead by a little.)"""
    )
    if np.isnan(rows[f"{last}, not scaled"]["train RMSE"]):
        utils.say(
            """nan is "not a number": without scaling the same learning rate is far too
            large.  Each step overshoots, the next more, until the numbers are too large
            to be written.  A far smaller rate would not; but each series would need its
            own.  That is why one scales."""
        )
    utils.say(
        f"""That answers the first half of the title: of {len(values):,} values came
        {len(truth):,} training examples, and of these {length + 1} numbers, weights and
        bias.  Is the error small?  And may one believe it?"""
    )
    return rows[last]["val RMSE"]


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# Here is a good place for a pause.  Is the line good?  To say so takes a measure of
# error, somebody to beat, and a test of luck.  Then come the four traps.

# --- measures -----------------------------------------------------------------------
#
# An error is forecast minus truth.  Hundreds of errors become one number in three ways:
#
#   RMSE  root mean squared error, the function `rmse` of section 3.  One large error
#         weighs more than several small ones.
#   MAE   mean absolute error: drop the signs, take the mean.
#   MASE  mean absolute scaled error: MAE divided by how much the training values change
#         from one to the next, on average.  That change is the error of whoever says
#         the last value again.  1 is as good as that was in train, below 1 is better.
#
# Which one?  RMSE, if an error twice as large does more than twice the harm (least
# squares aims at it); MAE, if just twice; MASE, which has no units, to compare series.
# A percentage of the truth cannot be computed where the truth is 0, as on a quiet sun.


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
    """RMSE, MAE and MASE of three errors."""
    # One large error among small ones.  In the squares the 6 makes 36 of 41, in the
    # sizes only 6 of 9: so RMSE tells of it more loudly than MAE.
    errors = [1.0, -2.0, 6.0]
    found = scores_by_hand(errors, train=[10.0, 13.0, 9.0, 14.0])
    print("Three measures by hand: the errors 1, -2 and 6; train is 10 13 9 14")
    print(f"  RMSE   root of (1 + 4 + 36) / 3    = {found['RMSE']:.2f}")
    print(f"  MAE    (1 + 2 + 6) / 3             = {found['MAE']:.2f}")
    print(f"  MASE   3 / mean of changes 3 4 5   = {found['MASE']:.2f}")
    print("RMSE is above MAE, because one large error stands out.")


# --- simple rules: baselines --------------------------------------------------------
#
# Now somebody to beat: rules that learn nothing, or a single number.  Such a rival is
# called a baseline.  Whoever builds a network has to do better, or the network is not
# worth its while.  All answer the same question: standing at the origin, what is the
# value h steps later?
#
# The toy of section 3 has nine known values, something like a season of 3 (every third
# is high).  The origin is place 8; the target is place 9.
#
#     place             0   1   2   3   4   5   6   7   8   9
#     value             1   2   5   4   5   6   3   6   9   ?     answer
#     persistence                                      [9]        9
#     seasonal naive                           [3]                3
#     moving average                           [3] [6] [9]        6
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


def show_baselines():
    """Work the three rules on the toy."""
    print(f"\nThree baselines: what comes after {as_row(TOY)}?")
    print(f"  persistence      the last value      {persistence_by_hand(TOY, 8):g}")
    seasonal = seasonal_naive_by_hand(TOY, 8, 1, season=3)
    print(f"  seasonal naive   at place 9 - 3 = 6  {seasonal:g}")
    average = moving_average_by_hand(TOY, 8, width=3)
    print(f"  moving average   (3 + 6 + 9) / 3     {average:g}")
    farther = seasonal_naive_by_hand(TOY, 8, 5, season=3)
    utils.say(
        f"""Five steps ahead is place 13; one season before it, place 10, is not known
        yet.  So seasonal naive goes back one season more, to place 7: {farther:g}."""
    )


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
# the same sum at lag 0, this is the autocorrelation r_k.  It is near 1 where the series
# repeats itself (a little less, since k values at the end have no partner), 0 where one
# value would not help a line to guess the other, and below 0 where high meets low.


def autocorrelation_by_hand(values, lag):
    """r_k of a list of values at one lag k."""
    mean = sum(values) / len(values)
    products = 0.0
    for place in range(len(values) - lag):
        products += (values[place] - mean) * (values[place + lag] - mean)
    squares = sum((value - mean) ** 2 for value in values)
    return products / squares


# The season is the lag of the highest peak after r_k first fell below 0, where high met
# low.  In pure noise the highest of hundreds of r_k may come to 3 / sqrt(n) or so; a
# peak has to rise above 4 / sqrt(n).  And a season has to fit three times into train,
# or one slow rise and fall would pass for it.


def season_by_hand(r, n):
    """The season of n values, or None.  r: r_0, r_1, ... up to a third of n."""
    first_below = 0
    while first_below < len(r) and r[first_below] >= 0:
        first_below += 1
    if first_below == len(r):
        return None  # no high ever met a low
    peak = first_below
    for lag in range(first_below, len(r)):
        if r[lag] > r[peak]:
            peak = lag
    if peak in (first_below, len(r) - 1):
        return None  # the highest at an end is no peak: it may go on rising there
    return peak if r[peak] > 4 / n**0.5 else None


def show_autocorrelation():
    """Work r_0, r_2 and r_4 of a wave of period 4, and its season."""
    wave = [1.0, 2.0, 3.0, 2.0] * 8  # 32 values, so 8 seasons of 4
    # To a third of the values: at longer lags too few pairs are left to judge by.
    r = [autocorrelation_by_hand(wave, lag) for lag in range(len(wave) // 3 + 1)]
    shared = utils.autocorrelation(np.array(wave), 5)
    print("\nAutocorrelation by hand: 1 2 3 2, eight times")
    print("  minus the mean, 2:   -1 0 1 0 -1 0 1 0 -1 0 1 0 ...")
    print("  lag 0   each meets itself, 1 * 1 or -1 * -1, 16 times   16 / 16 = 1")
    print("  lag 2   -1 meets 1, 15 times                           -15 / 16 = -0.9375")
    print("  lag 4   -1 meets -1 and 1 meets 1, 14 times             14 / 16 = 0.875")
    print("  by hand, lags 0 to 5 ", as_row(r[:6], "8.4f"))
    print("  utils.autocorrelation", as_row(shared, "8.4f"))
    utils.say(
        f"""r_k first falls below 0 at lag 2.  The highest after that is at lag
        {season_by_hand(r, len(wave))}, above 4 / root of 32 = {4 / 32**0.5:.2f}: the
        season.  utils.find_season says {utils.find_season(np.array(wave))}."""
    )


class Fitted(NamedTuple):
    """What the baselines and MASE learn from train."""

    season: int | None  # steps of one season, None if no season shows
    width: int  # how many last values the moving average takes
    naive_mae: float  # mean |value - value before|, the unit of MASE


def fit_on(train, length, horizon):
    """Season, width and the unit of MASE, from the training values (n1,) alone.

    utils.best_width tries 2, 3, ... T values, and keeps the width with the smallest
    RMSE h steps ahead on train.  (Width 1 would be persistence.)
    """
    return Fitted(
        season=utils.find_season(train),
        width=utils.best_width(train, length, horizon),
        naive_mae=float(np.abs(np.diff(train)).mean()),
    )


def report_autocorrelation(train, season, source):
    """Print r_k of train at some lags as bars, and how to read them."""
    most = len(train) // 3
    lags = {1, 2, 3, 6, 12, 24, 48, 96}
    names = {}
    if season:
        names[season // 2] = "half a season"
        names[season] = "the season"
    lags = sorted(lag for lag in lags | set(names) if lag <= most)
    r = utils.autocorrelation(train, most)  # (most + 1,)
    print("\nAutocorrelation of the training values, at some lags (not evenly spaced)")
    for lag in lags:
        bar = "#" * round(20 * abs(r[lag]))
        left = bar if r[lag] < 0 else ""
        right = bar if r[lag] > 0 else ""
        shown = round(r[lag], 2) + 0.0  # + 0.0 makes a plain zero of -0.00
        line = f"  lag {lag:>4}   {shown:6.2f}   {left:>20}|{right:<20}"
        print(f"{line}  {names.get(lag, '')}".rstrip())
    utils.say(
        """Reading it: r_1 near 1 is memory: the next value is like this one.  As long
        as r_k stays high, older values may help, so T may be as long; the table of
        lengths below tries it.  If r_k sinks below 0 and rises to a second peak, the series has
        a season.  If it sinks slowly and no second peak comes, the series climbs, or
        wanders like a price."""
    )
    if season is None:
        print("Found: no season.")
        return
    limit = 4 / len(train) ** 0.5
    print(
        f"Found: a season of {season} steps.  (Its peak had to be above {limit:.2f}.)"
    )
    if source.name == "sunspots":
        print(
            f"{season} months are {season / 12:.1f} years: about one cycle of the sun."
        )


# --- the comparison -----------------------------------------------------------------


def all_forecasts(values, length, horizon, fitted):
    """The rules and the line, on val and test: targets (M,), name -> (M,)."""
    n1, _ = utils.split_by_time(len(values))
    targets = np.arange(n1, len(values))  # (M,) places: all of val, all of test
    origins = targets - horizon  # (M,)
    steps = [horizon]  # the shared functions answer for several steps; we want one
    made = {}
    made["persistence"] = utils.persistence(values, origins, steps)[:, 0]
    average = utils.moving_average(values, origins, steps, fitted.width)  # (M, 1)
    made["moving average"] = average[:, 0]
    if fitted.season:
        seasonal = utils.seasonal_naive(values, origins, steps, fitted.season)  # (M, 1)
        made["seasonal naive"] = seasonal[:, 0]
    _, line = line_on_series(values, length, horizon)
    made["fitted line"] = np.concatenate([line["val"], line["test"]])
    return targets, made


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
    """The best one, and the one to measure it by: persistence, or the next best.

    By validation: a choice made on test would flatter the test score.
    """
    ranked = sorted(rows, key=lambda name: rows[name]["val RMSE"])
    best = ranked[0]
    rival = "persistence" if best != "persistence" else ranked[1]
    return best, rival


def ahead(horizon):
    """1 step ahead, 2 steps ahead."""
    return "1 step ahead" if horizon == 1 else f"{horizon} steps ahead"


def report_comparison(values, length, horizon, fitted, source):
    """Score the rivals and print the table.  Returns targets, forecasts and rows."""
    targets, made = all_forecasts(values, length, horizon, fitted)
    rows = score_all(values, targets, made, fitted)
    utils.print_table(f"All rivals on {source.label}, {ahead(horizon)}", rows)
    print("Reading it:")
    print(f"- Width of the moving average, the best on train: {fitted.width}.")
    n1, n2 = utils.split_by_time(len(values))
    season = fitted.season
    if season and season >= horizon:
        r = utils.autocorrelation(values[:n1], season)  # r_0, r_1, ...
        by_r = values[:n1].std() * (2 * (1 - r)) ** 0.5  # (season + 1,)
        utils.say(
            f"""- Whoever says the value k steps back again should have an RMSE of about
            std * root of 2 * (1 - r_k), by train.  Persistence, k = {horizon}:
            {by_r[horizon]:.3g}.  Seasonal naive, k = {season}: {by_r[season]:.3g}."""
        )
        if source.name == "sunspots":
            utils.say(
                f"""r_{season} is only {r[season]:.2f}, as the hills are of unequal
                length.  See what --dataset sine, where it is fixed, makes of this
                rule."""
            )
    truth = values[n2:]
    by_line = np.abs(made["fitted line"][-len(truth) :] - truth)  # the end is test
    by_last = np.abs(made["persistence"][-len(truth) :] - truth)
    utils.say(
        f"""- The line is nearer than persistence in {(by_line < by_last).mean():.0%} of
        the test.  That counts how often; the scores count how much, too."""
    )
    utils.say(
        f"""- The unit of MASE: in train a value differs from the one before by
        {fitted.naive_mae:.4g} on average.  Above 1 need not be bad, since test may be
        rougher than train was, or h larger than 1.  So compare within the column."""
    )
    return targets, made, rows


# --- luck ---------------------------------------------------------------------------
#
# Who has won?  A smaller RMSE on hundreds of forecasts may still be luck, as a fair
# coin shows heads 12 times of 20 now and then.  For each target take the difference of
# the two squared errors, ours minus theirs.  If both forecasts are equally good, these
# lie around 0.  So look how far their mean is from 0, in units of how far it would
# stray by chance: their spread (std) over the root of their number.
#
#     t = mean / (std / sqrt(M))
#
# The p-value says how often two *equally good* forecasts would give a t at least so far
# from 0.  With hundreds of errors, t beyond 2 or -2 has p below 0.05, and one stops
# believing in luck.  (A t test; on forecasts, that of Diebold and Mariano, 1995.)
#
# The formula takes the differences as independent.  If calm and rough times come in
# spells, neighbours are alike: r_1 of the differences is above 0, and the true p is
# larger than the printed one.  For h > 1 neighbouring forecasts share most of their
# fate, so h neighbours are averaged to one difference.  (Lesson 06 uses all of them.)


def luck(errors, others, horizon):
    """t and p of the difference in squared errors; both (M,), of the same targets."""
    from scipy import stats  # here and not above: it takes long to load

    differences = errors**2 - others**2  # (M,)
    count = len(differences) // horizon
    differences = differences[: count * horizon]
    differences = differences.reshape(count, horizon).mean(axis=1)  # (M // h,)
    mean = differences.mean()
    if count < 2 or mean == 0:
        return 0.0, 1.0  # too few to tell, or no lead
    std = differences.std(ddof=1)  # the std of a t test divides by M - 1
    if std <= 1e-9 * abs(mean):
        return float(np.copysign(np.inf, mean)), 0.0  # the same lead every time
    t = mean / (std / count**0.5)
    # How t strays by chance is known, and called the t distribution.  sf is the share
    # of it that lies beyond t; we count both sides.
    p = 2 * stats.t.sf(abs(t), count - 1)
    return float(t), float(p)


def as_text_p(p):
    """p as a text; what is smaller than a thousandth says just that."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def show_luck():
    """Is it luck?  Worked on four errors of two forecasts."""
    ours = np.array([1.0, -2.0, 1.0, 2.0])  # (4,)
    theirs = np.array([2.0, 3.0, -1.0, 2.0])  # (4,)
    t, p = luck(ours, theirs, horizon=1)
    print("\nLuck by hand: our errors 1 -2 1 2, theirs 2 3 -1 2")
    print(f"  squares, ours minus theirs   {as_row(ours**2 - theirs**2)}")
    print("  mean                         -8 / 4 = -2")
    print("  distances from it, squared   1 9 4 4, together 18")
    print("  std (here by M - 1)          root of 18 / 3 = 2.45")
    print(f"  t                            -2 / (2.45 / root of 4) = {t:.2f}")
    print(f"  {as_text_p(p)}: on four errors, so much is no surprise")


def report_luck(rows, made, targets, values, horizon):
    """Print whether the best one's lead may be luck.  Returns p."""
    best, rival = best_and_rival(rows)
    _, n2 = utils.split_by_time(len(values))
    in_test = targets >= n2  # (M,)
    truth = values[targets[in_test]]
    errors = made[best][in_test] - truth  # (M,)
    others = made[rival][in_test] - truth  # (M,)
    t, p = luck(errors, others, horizon)
    change = rows[best]["test RMSE"] / (rows[rival]["test RMSE"] or 1.0) - 1
    side = "above" if change > 0 else "below"
    verdict = "more than luck" if p < 0.05 else "it may be luck"
    utils.say(
        f"""Best on validation: {best}.  On the {len(truth):,} values of test its RMSE
        is {abs(change):.1%} {side} that of {rival}.  t = {t:.2f}, {as_text_p(p)}:
        {verdict}."""
    )
    if horizon == 1:
        r = utils.autocorrelation(errors**2 - others**2, 1)  # r_0, r_1
        print(f"r_1 of the differences: {r[1]:.2f}.  (If far above 0, p is too small.)")
    return p


# --- how long, how far --------------------------------------------------------------
#
# How long should a window be?  Longer ones show more, but each value more is one weight
# more to learn from the same examples, and a line with many weights begins to fit the
# noise: the error on train goes on falling, and the error on validation rises again.
# This is called overfitting.  So T is chosen on validation.  (The width of the moving
# average is chosen on train: a rule with a single number can hardly fit noise.)
#
# How far ahead is not chosen but asked for.  Whoever asks for more should expect less.


def enough_windows(n1, length, horizon):
    """Whether n1 training values hold windows enough to settle `length` weights."""
    return n1 - length - horizon + 1 >= 4 * length


def report_lengths(values, longest, horizon):
    """Print RMSE of lines that read 1, 3, 9 ... and up to 4 T values."""
    n1, n2 = utils.split_by_time(len(values))
    rows = {}
    for length in sorted({1, 3, 9, 27, longest, 2 * longest, 4 * longest}):
        if enough_windows(n1, length, horizon):
            _, made = line_on_series(values, length, horizon)
            truth = values[length + horizon - 1 : n1]  # of train
            rows[length] = {
                "train RMSE": rmse(made["train"] - truth),
                "val RMSE": rmse(made["val"] - values[n1:n2]),
            }
    if rows:
        utils.print_table("How long should a window be?", rows, corner="values read")
        errors = {length: row["val RMSE"] for length, row in rows.items()}
        least = min(errors.values())
        near = [str(T) for T, error in errors.items() if error <= 1.01 * least]
        near = ", ".join(near)
        utils.say(
            f"""Reading it: the smallest on validation is {least:.4f}.  Within 1 % of it
            are windows of {near} values.  Where the error on train goes on falling, and that on
            validation rises again, the line begins to learn noise.  (A long window has
            fewer targets in train: the first values can only be read.)"""
        )


def report_distances(values, length, fitted, source):
    """Print RMSE on validation of three forecasters, several steps ahead."""
    n1, n2 = utils.split_by_time(len(values))
    rows = {}
    for horizon in (1, 3, 12, 60):
        if enough_windows(n1, length, horizon):  # short series end before 60
            targets, made = all_forecasts(values, length, horizon, fitted)
            scores = score_all(values, targets, made, fitted)
            rows[horizon] = {
                name: scores[name]["val RMSE"]
                for name in ("persistence", "seasonal naive", "fitted line")
                if name in scores
            }
    if not rows:
        return
    title = f"How far ahead?  {source.label}, RMSE on validation"
    utils.print_table(title, rows, corner="h")
    text = "Reading it: each row has a line of its own, fitted on windows with that h."
    far = max(rows)
    text += f"  {far} steps ahead the best is {min(rows[far], key=rows[far].get)}."
    season = fitted.season
    if season and season >= far:
        text += f"""  Seasonal naive is the same in each row: it always takes the value
        {season} steps before the target.  Validation is {(n2 - n1) / season:.1f}
        seasons long, so take the ranking for a hint."""
    utils.say(text)


# A second place for a pause.  May one believe such a number?  Four common mistakes make
# it look better than it is.  The first is the mildest.
#
# --- trap 1: a ruler that has seen the test -----------------------------------------
#
# Many programs scale the whole series first and split afterwards.  Then mean and std
# have seen the test years.  The std is a ruler: an error in scaled units is the error
# divided by it.  If the test years spread wider than train, the std of everything is
# larger, a longer ruler, and the same error reads as less.  No forecast gets better;
# only the number does, and misleads whoever compares two reports.  (The line is the
# same too: least squares finds the same one in any units.  A network is not: how it
# trains depends on the size of its inputs, and so it has learned from test years.)


def report_scaling(values, horizon, source):
    """Print persistence's error, scaled by train and by everything.

    Returns by what share the second way changes it, and the two quotients RMSE / std.
    """
    n1, n2 = utils.split_by_time(len(values))
    last_known = values[n2 - horizon : len(values) - horizon]  # (M,)
    error = rmse(last_known - values[n2:])
    rows = {}
    for name, part in (("train alone", values[:n1]), ("everything", values)):
        std = float(part.std())
        rows[name] = {"std": std, "RMSE": error, "RMSE / std": error / std}
    title = f"{source.label}: persistence in test"
    utils.print_table(title, rows, corner="scaled by")
    by_everything = rows["everything"]["RMSE / std"]
    by_train = rows["train alone"]["RMSE / std"]
    lie = by_everything / by_train - 1 if error else 0.0  # no error, none to change
    utils.say(
        f"""Reading it: the forecasts are the same, and so is their error in the series'
        own units.  In scaled units it seems to change by {lie:+.1%}.  (Where train
        spreads wider than test, the mistake makes it look larger.)"""
    )
    return lie, by_everything, by_train


# --- trap 2: shuffled windows -------------------------------------------------------
#
# Test windows drawn at random have neighbours in train.  How much can one cheat with
# that?  Take a series in which nothing can be learned: a price whose daily changes are
# drawn by lot (`utils.simulated_prices`).  So nobody can do much better than to say
# today's price again.  Whoever seems to, has seen the answers.
#
# Three forecasters are asked for the price 12 days ahead: persistence, the fitted line,
# and one who learns by heart.  That one looks up the training window that is most like
# the asked one, and repeats its target.  In shuffled windows it finds a neighbour:
#
#     asked    [day 100 ... day 135] . . . . . . . . . . . day 147
#     found      [day 101 ... day 136] . . . . . . . . . . . day 148   its target is
#                                                                      one day from ours
#
# So it has to guess one day's change where everybody else has to guess twelve.  Of
# twelve changes drawn by lot some go up and some go down.  Together they are typically
# as large as one change times the root of 12, which is 3.5.  So expect it to err 3.5
# times less.  (One day ahead everybody has one change to guess, and this look-up gains
# nothing.)


def most_similar(asked, inputs):
    """For each asked window, (M, T), which of inputs (N, T) is most similar: (M,)."""
    found = []
    for window in asked:
        distances = ((inputs - window) ** 2).sum(dim=1)  # (N,)
        found.append(distances.argmin())
    return torch.stack(found)  # (M,)


def three_forecasters(inputs, targets, train, test):
    """Fit on the windows `train`, ask for `test`: name -> RMSE.  inputs (N, T)."""
    asked = inputs[test]  # (M, T)
    weights, bias = fit_line(inputs[train], targets[train])
    found = most_similar(asked, inputs[train])  # (M,)
    answers = {
        "persistence": asked[:, -1],
        "fitted line": asked @ weights + bias,
        "look-up": targets[train][found],
    }
    return {
        name: rmse((answer - targets[test]).numpy()) for name, answer in answers.items()
    }


def report_shuffled(values, length, horizon):
    """Split the windows of values (n,) by time, and at random: split -> its row."""
    inputs, targets = make_windows(torch.tensor(values), length, horizon)
    inputs = inputs[:, :, 0]  # (N, T)
    parts = split_windows(len(values), length, horizon)
    order = torch.arange(len(targets))  # the numbers of all windows
    draw = torch.Generator().manual_seed(0)
    shuffled = order[torch.randperm(len(order), generator=draw)]
    # The same slices of both: so many windows for train, so many for test.
    rows = {}
    for name, numbers in (("by time", order), ("at random", shuffled)):
        train = numbers[parts["train"]]
        test = numbers[parts["test"]]
        rows[name] = three_forecasters(inputs, targets, train, test)
    title = f"A random price, {ahead(horizon)}: RMSE on test windows"
    utils.print_table(title, rows, corner="windows split")
    return rows


def report_leak():
    """Measure trap 2, where nothing can be learned.  Returns the table's rows."""
    rows = report_shuffled(utils.simulated_prices().to_numpy(), 36, 12)
    ratio = rows["at random"]["persistence"] / rows["at random"]["look-up"]
    # The series and the draw are fixed, so the following holds in every run.
    utils.say(
        f"""Reading it: the two rows ask about different windows, so compare within a
        row.  By time, the line is about as good as persistence, and nobody can be much
        better.  The look-up is worse: the old price that it starts from is not ours,
        and it adds the luck of the old twelve days to that of ours.  At random, the
        error of persistence is {ratio:.1f} times that of the look-up: a little below
        3.5, since now and then both nearest neighbours went to val or test.  It
        forecasts what nobody can forecast.  That is the leak.  Nothing of it will be
        left tomorrow, when the neighbours of the asked window are not known yet.  The
        line gains nothing: with 37 numbers it cannot learn so many windows by heart.  A
        large network can."""
    )
    utils.say(
        """So test a program of your own: give it such a random price.  If it clearly
        beats persistence, it has a leak."""
    )
    return rows


# --- trap 3: smoothed series --------------------------------------------------------
#
# Many series are published smoothed: each value is replaced by the mean of itself and
# its neighbours on both sides, a centred mean (for sunspots it spans 13 months).  Then
# somebody forecasts the smoothed series, and the forecast is brilliant.  But:
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


def centred_mean(values, half):
    """Mean of each value, `half` before it and `half` after: (n,) -> (n - 2 half,)."""
    width = 2 * half + 1
    return np.convolve(values, np.full(width, 1 / width), "valid")


def show_smoothing():
    """Smooth six numbers, and read tomorrow out of today's smoothed value."""
    raw = np.array([2.0, 7.0, 6.0, 11.0, 10.0, 15.0])  # (6,)
    smooth = centred_mean(raw, 1)  # (4,)
    tomorrow = 3 * smooth[1] - raw[1] - raw[2]
    print("Smoothing by hand: a centred mean of 3")
    print(f"  raw       {as_row(raw, '3g')}")
    print(f"  smoothed      {as_row(smooth, '3.0f')}")
    print("Today is the 6.  Its smoothed value is (7 + 6 + 11) / 3 = 8, and whoever is")
    print(f"told that 8 can compute tomorrow: 3 * 8 - 7 - 6 = {tomorrow:.0f}.")


def report_smoothing(series, source, length, horizon):
    """Forecast the series raw, smoothed, and smoothed but honestly: name -> row."""
    values = series.to_numpy()
    # Six neighbours on each side, as is usual for sunspots; fewer in a short series.
    half = max(1, min(6, len(values) // 50))
    smooth = centred_mean(values, half)  # (n - 2 half,)
    # The smoothed value of a date is known `half` steps later.  So at any origin the
    # newest one lies `half` steps back, and the target h + half steps ahead of it.
    rows = {}
    for name, numbers, step in (
        ("raw", values, horizon),
        ("smoothed", smooth, horizon),
        ("smoothed, honest", smooth, horizon + half),
    ):
        _, n2 = utils.split_by_time(len(numbers))
        truth = numbers[n2:]  # (M,)
        last_known = numbers[n2 - step : len(numbers) - step]  # (M,)
        _, made = line_on_series(numbers, length, step)
        rows[name] = {
            "persistence RMSE": rmse(last_known - truth),
            "line RMSE": rmse(made["test"] - truth),
        }
    title = f"{source.label}, raw, and smoothed by a centred mean of {2 * half + 1}"
    utils.print_table(f"{title}: test", rows, corner="series")
    past = max(0, half + 1 - horizon)  # values of the target's mean known at the origin
    text = f"""Reading it: the second row is what a careless report would say.  Two
    neighbouring means share {2 * half} of {2 * half + 1} values, so even persistence
    seems good there.  The third row forecasts the same values from smoothed ones that
    were known: {half} steps older."""
    if rows["smoothed, honest"]["line RMSE"] < rows["raw"]["line RMSE"]:
        text += "  Its line errs less than that of the first, which is no trick: "
        if past:
            text += f"of the {2 * half + 1} values in its target {past} are past, and "
        text += "a mean is easier to hit than one value."
    utils.say(text)
    return rows


# --- trap 4: prices against returns -------------------------------------------------
#
# The other brilliant forecast is that of a share price, a curve right on the truth.
# Look closer, and it is the truth, one day late.  That says nothing that one could use:
# what one wants to know is the change, as a share of the price before, the return:
#
#     return = truth / price before - 1       100 -> 110 is a return of 10 %
#
# Prices and returns differ in size, so a score without units is wanted.  R2 (R squared)
# is 1 minus the squared errors as a share of the squared distances from the mean of the
# true values.  1 is perfect; 0 is no better than always saying that mean (which nobody
# can know beforehand); below 0 is worse.
# A price wanders far from its mean, so whatever is a day late is still close, beside
# those distances: R2 is near 1 for the laziest rule.  Returns do not wander.


def r_squared(truth, forecast):
    """R2 = 1 - sum of (truth - forecast)^2 / sum of (truth - mean)^2."""
    distances = ((truth - truth.mean()) ** 2).sum()
    if distances == 0:
        return 0.0  # nothing changes, so there is nothing to explain
    return float(1 - ((truth - forecast) ** 2).sum() / distances)


def show_r_squared():
    """R2 of one forecast of three values."""
    r2 = r_squared(np.array([2.0, 4.0, 6.0]), np.array([3.0, 4.0, 5.0]))
    print("R2 by hand: the truth is 2 4 6, forecast as 3 4 5")
    print("  squared errors                     1 + 0 + 1 = 2")
    print("  squared distances from the mean 4  4 + 0 + 4 = 8")
    print(f"  R2                                 1 - 2 / 8 = {r2:g}")


def report_prices(prices, label):
    """Print how good forecasts of a price look as prices, and how good as returns.

    One day ahead, T = 36.  prices (n,).  Returns the table's rows.
    """
    _, n2 = utils.split_by_time(len(prices))
    before = prices[n2 - 1 : -1]  # (M,)
    truth = prices[n2:]  # (M,)
    _, made = line_on_series(prices, 36, 1)
    print(f"\nFour days of the test part of {label}")
    print("  day before   price   return   line: price   line: return")
    for row in range(4):
        # Rounded first, so that the returns are those of the prices as printed.
        old = round(before[row], 2)
        new = round(truth[row], 2)
        said = round(made["test"][row], 2)
        print(
            f"  {old:10.2f} {new:7.2f} {new / old - 1:8.2%} "
            f"{said:13.2f} {said / old - 1:14.2%}"
        )
    print("The line's prices look good.  But compare the two returns.")
    rows = {}
    for name, forecast in (("persistence", before), ("fitted line", made["test"])):
        rows[name] = {
            "R2 of price": r_squared(truth, forecast),
            "R2 of return": r_squared(truth / before - 1, forecast / before - 1),
        }
    utils.print_table("The whole test part", rows)
    utils.say(
        """Reading it: persistence forecasts a return of 0 each time, which is a
        constant; so its R2 of return cannot be above 0.  A model of prices has
        something to say only if its own R2 of return is clearly above 0."""
    )
    return rows


# --- pictures [machinery] -----------------------------------------------------------


def plot_forecasts(args, source, series, targets, made, best):
    """The last 60 values of test: truth, persistence, and the best forecast."""
    # Why not all of test?  Then one step is about as thin as the pen, and a copy that
    # comes late looks like the truth.
    recent = targets[-60:]  # (60,), or all of a shorter series
    lines = {"truth": series.to_numpy()[recent]}
    for name in ("persistence", best):  # if these are the same, it is drawn once
        lines[name] = made[name][-60:]
    title = f"{source.label}: the end of the test part, {ahead(args.horizon)}"
    dates = series.index[recent]
    dashed = ["persistence"]
    utils.plot_lines(
        args, "forecasts", title, lines, "date", "value", x=dates, dashed=dashed
    )
    if not args.no_plots:
        late = ahead(args.horizon).removesuffix(" ahead")
        print(f"  Reading it: persistence is the truth once more, {late} too late.")


# --- the answer ---------------------------------------------------------------------


def report_answer(windows, rows, p, scaled, leak, smoothed, priced, args):
    """Print the answer to the lesson's title, with the figures of this run.

    windows: of train.  scaled: RMSE / std by everything, and by train alone.
    """
    best, rival = best_and_rival(rows)
    score = rows[best]
    utils.heading("Training examples, and which score may one believe?")
    utils.say(
        f"""Repaired, split by time, scaled by train alone, and cut into windows: that
        made {windows:,} training examples, T = {args.sequence_length} values to read,
        and the value {ahead(args.horizon)} to answer with."""
    )
    utils.say(
        f"""Believe a score, first, that stands beside those of simple rules.  Best on
        validation: {best}.  On test its RMSE is {score["test RMSE"]:.4g} (MASE
        {score["test MASE"]:.2f}), that of {rival} {rows[rival]["test RMSE"]:.4g};
        {as_text_p(p)}.  Believe it, second, if it is free of these four mistakes:"""
    )
    # Each mistake: what the same forecast scored with it, and what without.
    splits = ("at random", "by time")
    look_up = [leak[name]["look-up"] / leak[name]["persistence"] for name in splits]
    kinds = ("smoothed", "smoothed, honest")
    smooth = [smoothed[name]["line RMSE"] for name in kinds]
    table = [
        ("scaled by everything", scaled, "RMSE / std of persistence"),
        ("shuffled windows", look_up, "RMSE of look-up / persistence"),
        ("a smoothed series", smooth, "RMSE of the line"),
        ("prices, not returns", priced.values(), "R2 of persistence"),
    ]
    print("                         with the mistake   without")
    for name, (flattered, honest), measure in table:
        print(f"  {name:<22} {flattered:16.4f} {honest:9.4f}   {measure}")
    print("Of R2 the larger looks better, of the others the smaller.")
    print("Your own program: does it clearly beat persistence on a random price?")
    print("Then it leaks.")


def metrics_of(rows, p, val_by_batches, lie, leak, smoothed):  # [machinery]
    """What goes into metrics.json."""
    best, _ = best_and_rival(rows)
    # "test RMSE" becomes test_rmse.
    metrics = {name.lower().replace(" ", "_"): rows[best][name] for name in rows[best]}
    metrics |= {
        "p_of_lead": p,
        "line_test_rmse": rows["fitted line"]["test RMSE"],
        "scaling_lie": lie,
        "look_up_rmse": leak["by time"]["look-up"],
        "look_up_shuffled_rmse": leak["at random"]["look-up"],
    }
    if np.isfinite(val_by_batches):
        metrics["line_by_batches_val_rmse"] = val_by_batches
    for name, row in smoothed.items():
        key = name.replace(", ", "_")  # raw, smoothed, smoothed_honest
        metrics[f"{key}_line_rmse"] = row["line RMSE"]
    return metrics


# ====================================================================================
# 5. Command line
# ====================================================================================


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(
        parser,
        ["sunspots", "stock", "sine", "simulated"],
        "CSV: a column of dates, one or more of numbers",
        columns=["date"],
    )
    add = parser.add_argument_group("this lesson").add_argument
    size = utils.whole(1, 100_000)  # a whole number of steps
    add("--column", help="what to forecast (default: the obvious one)")
    add("--sequence-length", type=size, default=36, help="T (default 36)")
    add("--horizon", type=size, default=1, help="steps ahead (default 1)")
    return parser


def main(argv=None):
    # small=True: one thread is the fastest for tensors as small as these.
    args = utils.parse_flags(make_flags(), argv, __file__, small=True)
    length = args.sequence_length
    horizon = args.horizon
    offline = {"sine": None, "simulated": None}  # made here, so they have no file
    source = utils.choose_dataset(args, real=["sunspots", "stock"], offline=offline)
    series, repairs = utils.load_series(args, source)
    series = utils.capped(args, series, 1000)  # under --quick, the first 1000 values
    values = series.to_numpy()  # (n,)
    utils.check_series(values, length, horizon)  # long enough for windows and parts?
    n1, n2 = utils.split_by_time(len(values))

    # 1. Data: one value for each date; three parts; scaled; windows, each to its part.
    utils.heading("1. Data: repair, split, scale")
    show_repair()
    report_series(series, repairs, source)
    show_split()
    report_split(series, source)
    show_scaling()
    scaled = scale_by_train(values)
    show_differences()
    utils.heading("1. Data: windows, each to its part")
    show_windows()
    show_parts()
    report_windows(series, length, horizon)
    report_example(series, scaled, length, horizon, args.seed)

    # 2. Model: a line.
    utils.heading("2. Model: a line")
    show_line()

    # 3. Training: by a formula, and batch by batch; on the toy, then on the series.
    utils.heading("3. Training: by a formula, and batch by batch")
    show_fit()
    show_search()
    report_line(series, length, horizon)
    val_by_batches = report_search(values, length, horizon, args)

    # 4. Evaluation: measures, rivals, the season; who wins, and is it luck?
    utils.heading("4. Evaluation: is the line good?")
    show_scores()
    show_baselines()
    show_autocorrelation()
    fitted = fit_on(values[:n1], length, horizon)
    report_autocorrelation(values[:n1], fitted.season, source)
    targets, made, rows = report_comparison(values, length, horizon, fitted, source)
    if source.name == "sine":  # what nobody can foresee
        noise = utils.sine_series()[1].to_numpy()[n2 : len(values)]
        print(f"The noise of test alone has RMSE {rmse(noise):.4f}; without a leak and")
        print("without luck nobody errs less.")
    show_luck()
    p = report_luck(rows, made, targets, values, horizon)
    plot_forecasts(args, source, series, targets, made, best_and_rival(rows)[0])
    report_lengths(values, length, horizon)
    report_distances(values, length, fitted, source)

    # The four traps: may one believe such a score?
    utils.heading("4. Trap 1: a ruler that has seen the test")
    lie, *scaled_errors = report_scaling(values, horizon, source)
    utils.heading("4. Trap 2: shuffled windows")
    leak = report_leak()
    utils.heading("4. Trap 3: a smoothed series")
    show_smoothing()
    smoothed = report_smoothing(series, source, length, horizon)
    utils.heading("4. Trap 4: prices against returns")
    show_r_squared()
    prices = values
    label = source.label
    if source.name != "stock" or series.name == "volume":  # this part needs prices
        prices = utils.simulated_prices().to_numpy()
        label = "the random price of trap 2 [sample: made here]"
    priced = report_prices(prices, label)["persistence"]

    # The answer.
    windows = n1 - (length + horizon - 1)  # of train: see split_windows
    report_answer(windows, rows, p, scaled_errors, leak, smoothed, priced, args)
    metrics = metrics_of(rows, p, val_by_batches, lie, leak, smoothed)
    if source.name == "sine":
        metrics["test_noise_variance"] = rmse(noise) ** 2
    baselines = {name: row["test RMSE"] for name, row in rows.items()}
    utils.write_metrics(args, source, metrics, baselines)


if __name__ == "__main__":
    sys.exit(utils.run(main))
