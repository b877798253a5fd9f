"""03 · How does a series become training examples, and which score may one believe?

A series is one long row of numbers, each with its date: sunspots by month, a price by
day.  From one row a network learns badly.  It learns from many examples, and an example
is a pair: what the network may read (the input) and what it should answer (the target).
This lesson makes the pairs, first by hand on ten numbers, then on a real series:

    dated rows -> repaired -> split by time -> scaled -> windows, each to its part
               -> a fitted line

The last arrow is the proof that the examples are good for something.  The model is no
network yet but the plainest that can read a window, a weighted sum of its values.
Section 4 is about the score.  Is the error small, compared with rules that learn
nothing?  And is it honest?  Four common mistakes are made on purpose and measured.

What you will learn
    - to repair dates that are out of order, written twice, or missing
    - to split by time, to scale by the training part alone, and why
    - to cut a series into windows: T values to read, and one to answer with, h steps
      later (the horizon)
    - to fit a line to the windows: by a formula, and batch by batch as a network learns
    - three simple rules (baselines) that a network has to beat, three measures of error
    - to see memory and a season in a series (autocorrelation)
    - to ask whether a lead is luck, and whether other years have it, too
    - four traps: scaling by the test part, shuffled windows, a smoothed series, and
      prices not judged by their changes; two tests for a leak in your own program

You need lesson 01 (a batch of sequences has the shape (B, T, F)), and arrays in NumPy.

Run it
    python 03_time_series_basics.py
    python 03_time_series_basics.py --dataset stock
    python 03_time_series_basics.py --dataset sine --horizon 12
    python 03_time_series_basics.py --quick --no-plots   a made-up series, no picture

You should see  (sunspots [real], one thread, about 8 seconds in all)
    The line learns from 1,938 windows of 36 months.  On validation, the years after
    those it learned from, it errs by 15.7420 sunspots (RMSE, the typical size of an
    error); trained batch by batch instead, by 15.8049.  On test, the last years, by
    17.9855; persistence, which says the last value again, by 19.7322.  The lead is more
    than luck: two equally good forecasts differ by so much about one time in a thousand
    (p = 0.001).  Learned anew at five times, the line leads in 5 of 5.  Then the traps:
      scaled by everything    the same error reads as 12.8 % less
      shuffled windows        a random price, which nobody can forecast, 12 days ahead:
                              a look-up (it repeats what followed the most similar
                              window) seems to err 3.3 times less than persistence
      smoothed series         an error of 1.6; from what is known by then, 10.0
      prices                  R2 (1 is perfect, 0 no better than saying the mean) of
                              persistence is 0.98 for prices, and 0 for returns, their
                              changes from day to day

Try this  (guess first; docs/exercises.md answers the first three)
    --horizon 60                 five years ahead: which rule is the best then?
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
#     M  forecasts to be compared    F  numbers at each step (here 1)
#     n1, n2  places where validation and test start
#     k  lag: how many steps back    r_k  how alike values k steps apart are
# Words
#     place   where a value stands in the series, counted from 0
#     origin  the place of the last value that a forecast knows; its target is h later

import sys
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import rnn_utils as utils

# utils.heading, .say and .print_table print a title, a paragraph, a table.  [real] or
# [sample] behind a name tells whether the data are real ones or made.


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
#   assign   each window to the part of the data that it may serve
#
# The heart is the window.  Here are those of the numbers 1 to 10, with T = 3 values to
# read, and h = 2: the target lies two steps after the last of them (a dot is the value
# in between, not used).  The window then moves on by one place:
#
#       1  2  3  4  5  6  7  8  9 10
#      [1  2  3] .  5                    input 1 2 3, target 5
#         [2  3  4] .  6
#            and so on, until the targets have run out

# --- repair -------------------------------------------------------------------------
#
# A window trusts that each value lies one step after the one before.  If a month is
# missing, or stands there twice, every window across that place is wrong, and nothing
# says so.  So the dates come first.  These ten rows have all the common faults: April
# before March, May twice, no row for June, an empty cell in August.

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


# The step (day, month, hour ...) is the most frequent distance of two dates.  What such
# a repair cannot do:
#
#   - A filled value is the last value again, so a rule that says just this hits it for
#     nothing.  Leave filled targets out of the test (the sunspots have none), and cut
#     the series at a long gap.
#   - Not every missing date is a fault.  If (nearly) all Saturdays and Sundays are
#     missing, as at a stock market, nothing is filled, not even Christmas.  One step
#     is then one day of trading: Friday to Monday is one.
#   - A wrong value it does not see: -999 for "missing", a negative count, a sensor that
#     stands still.  So look at the smallest, the largest, and the most frequent value,
#     and empty such cells.  An outlier (far from all others) that may be true stays.

# What each data set is.
ABOUT = {
    "sunspots": """Sunspots are dark, cooler patches on the sun.  They have been counted
        every month since 1749 (this file ends in 1983).  Their number rises and falls
        in about eleven years.""",
    "stock": """The S&P 500 is made of the prices of 500 large American companies: one
        value for each day of trading, none for weekends and holidays.""",
    "sine": """Made here: a sine wave of period 50, plus noise with a std (typical size)
        of 0.2.  So we know how good the best possible forecast is.""",
    "simulated": "Made here: the random price of trap 2.  It holds nothing to learn.",
    "input": "Your own data.",
}


def date_at(series, place):
    """The date of a place, such as 1749-01-01; with the time of day, if it has one."""
    return str(series.index[place]).removesuffix(" 00:00:00")


def report_series(series, repairs, source):
    """Print what was read, both ends of it, and what was repaired."""
    print(f"\nThe series, {source.label}: '{series.name}', {len(series):,} values")
    utils.say(ABOUT[source.name])
    print(f"From {date_at(series, 0)}, {series.iloc[0]:g}, ", end="")
    print(f"to {date_at(series, -1)}, {series.iloc[-1]:g}.")
    counts = series.value_counts()  # value -> how often, the most frequent one first
    print(f"Smallest {series.min():g}, largest {series.max():g}, ", end="")
    print(f"most frequent {counts.index[0]:g} (count {counts.iloc[0]}).")
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
# Whatever is learned (a mean, a weight, a season) is learned from train.  (Once all is
# chosen, one may fit again on train and val together.  We do not.)  Do not look at the
# test part until all is chosen.  A lesson has to draw it, below; but it is forecast
# only in section 4, when T is chosen, and no choice is made by it.


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


# Before anything is computed, look at the whole series.  It may climb, or sink (a
# trend).  It may have hills that return after a fixed time, such as a year (a season),
# or not quite a fixed one (a cycle).  What is left, ups and downs of single values, is
# noise.


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
    print(f"One column is {n / width:.0f} values; val starts at", end=" ")
    print(f"{date_at(series, n1)}, test at {date_at(series, n2)}.")
    print("Its parts     mean      std   (the typical distance from the mean)")
    parts = {"train": values[:n1], "val": values[n1:n2], "test": values[n2:]}
    for name, part in parts.items():
        print(f"  {name:<7} {part.mean():8.5g} {part.std():8.5g}")
    higher = "higher" if values[n2:].mean() > values[:n1].mean() else "lower"
    wider = "wider" if values[n2:].std() > values[:n1].std() else "less wide"
    text = f"Reading it: test lies {higher} than train, and spreads {wider}."
    if source.name == "sunspots":
        text += f"""  The hills are the sun's cycles, from 9 to 14 years long and of
        unequal height.  They come back to the ground each time.  (A hill is about
        {132 * width / n:.0f} columns wide here, and a column is a mean: so a valley may
        not look empty.)  A cycle is nearly a season; this lesson takes it for one, to
        see how far that goes."""
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
# The right half leads back: a network's answers are scaled numbers too.  (torch.std and
# pandas divide by one less than the number of values, so theirs is slightly larger.)
#
# Mean and std are learned from data, like weights.  So they come from the training part
# alone.  If they come from the whole series, the test years have been seen: trap 1.


class Scaled(NamedTuple):
    """A series in scaled numbers, and what leads back to its own units."""

    values: np.ndarray  # (n,)
    mean: float  # of train
    std: float  # of train


def scale_by_train(values, n1):
    """The series (n,), scaled by its training part, the values before place n1."""
    mean = float(values[:n1].mean())
    std = float(values[:n1].std())
    return Scaled((values - mean) / std, mean, std)


def show_scaling():
    """Scale the numbers 1 to 10 by hand."""
    squares = [(value - 4) ** 2 for value in (1, 2, 3, 4, 5, 6, 7)]
    scaled, mean, std = scale_by_train(np.arange(1.0, 11.0), n1=7)
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


# What helps against a climb?  To learn the changes from value to value: late ones are
# often like early ones.  Lesson 06 does so for prices.  The sunspots come back to 0.


# --- windows ------------------------------------------------------------------------
#
# How many are there?  A window and its target cover T + h values, and there are
# n - (T + h) + 1 places where so many can be laid down: 10 - 5 + 1 = 6.
# On the real series T is 36, three years of months, and h is 1; section 3 tries others.


def windows_by_loop(values, length, horizon):
    """A list of values -> list of inputs, list of targets: the plain way."""
    inputs = []
    targets = []
    for first in range(len(values) - length - horizon + 1):
        last = first + length - 1  # the place of the window's last value
        inputs.append(values[first : last + 1])
        targets.append(values[last + horizon])
    return inputs, targets


# The fast way: `values.unfold(0, T, 1)` gives, along axis 0, windows of T values, each
# 1 place after the one before.  It copies nothing.  It is a view, another way to look
# at the same memory.  For the values 1 2 3 4 5, T = 3, h = 1:
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
    same = "the same" if equal else "something else"
    print(f"The fast way finds {same}: inputs {tuple(inputs.shape)}, 6 windows of 3")
    print(f"steps with 1 number each, and targets {tuple(targets.shape)}.")

    # A second column is cut in the same way, and laid beside the first.  (Each column
    # is scaled by the mean and std of its own training part.)
    warmth = torch.tensor([20.0, 18, 21, 19, 22, 20, 23, 21, 24, 22])  # (10,)
    second, _ = make_windows(warmth, 3, 2)  # (6, 3, 1)
    both = torch.cat([inputs, second], dim=2)  # (6, 3, 2)
    utils.say(
        f"""With a second column, say a temperature 20 18 21 ..., inputs are
        {tuple(both.shape)}: 2 numbers each step.  Window 0 is then
        {both[0].int().tolist()}, and its target still 5: only the column that is to be
        forecast gives targets."""
    )


# What may a second column tell?  What is known at the origin.  A forecast of Tuesday's
# sales, made on Monday, may read Monday's temperature, but not Tuesday's.  It may read
# that Tuesday is a holiday, since calendars are known.
#
# And all of the next 12 values?  Either ask for each directly, by a line of its own for
# every h (section 4 does so for some; a network can answer all at once, with targets
# (N, 12)).  Or feed the forecast of a line for h = 1 back as if it were known, 11 times
# (section 3 does so on the toy): it then reads its own errors.  Lesson 06 does both.


# --- each window to its part --------------------------------------------------------
#
# To which part does a window belong that lies across a border?  Two rules settle it:
#
#   1. Inputs may reach back over a border.  When the forecast is made they are past.
#   2. Everything that is forecast must lie in one part: all h values from the one after
#      the origin to the target.  A window for which it does not belongs to no part.
#
# Why rule 2?  A model that is asked about val has learned from targets up to the last
# value of train.  So it can be asked from the day of that value on; before that day
# there was no such model.  With h = 1 nothing is lost.  With a larger h, h - 1 windows
# at each border are left out.  (scikit-learn calls this a gap.)


def part_of(origin, target, n1, n2):
    """The part of a window, by the places of its origin and target; None for neither.

    What is forecast lies at the places origin + 1 ... target.
    """
    if target < n1:
        return "train"
    if origin + 1 >= n1 and target < n2:
        return "val"
    if origin + 1 >= n2:
        return "test"
    return None


def split_windows(n, length, horizon):
    """Part -> slice of the windows that belong to it.

    Window i starts at place i, has its origin at i + T - 1, and its target h later.  So
    the window whose origin is n1 - 1, the last place of train, has the number n1 - T.
    """
    n1, n2 = utils.split_by_time(n)
    offset = length + horizon - 1  # from a window's number to the place of its target
    return {
        "train": slice(0, n1 - offset),
        "val": slice(n1 - length, n2 - offset),
        "test": slice(n2 - length, n - offset),
    }


def targets_by_part(values, length, horizon):
    """Part -> the true values (M,) that its windows ask for.

    Given the places 0, 1, 2, ... for values, it says at which places they lie.
    """
    targets = values[length + horizon - 1 :]  # (N,), as in make_windows
    parts = split_windows(len(values), length, horizon)
    return {part: targets[windows] for part, windows in parts.items()}


def show_parts():
    """Put each window of the numbers 1 to 10 into its part, by rule and by slices."""
    n1, n2 = utils.split_by_time(10)
    print("\nEach window to its part: train is 1 to 7, val 8, test 9 and 10")
    print("(The number v stands at place v - 1.  So n1 = 7 is the place of the 8.)")
    inputs, targets = windows_by_loop(list(range(1, 11)), 3, 2)
    for i in range(len(inputs)):
        origin = i + 3 - 1  # the place of the newest value that is read
        part = part_of(origin, origin + 2, n1, n2) or "none"
        forecast = f"{targets[i] - 1} and {targets[i]}"
        print(f"  window {i}  {inputs[i]} -> {targets[i]:>2}   {part:<5}", end="   ")
        print(f"{forecast} are forecast" if part != "none" else f"{forecast} lie apart")
    for horizon in (2, 1):
        slices = split_windows(10, 3, horizon).items()
        by_slice = [f"{part} {piece.start}:{piece.stop}" for part, piece in slices]
        text = ", ".join(by_slice)
        print(f"split_windows, h = {horizon}, slices of window numbers: {text}")
    utils.say(
        """Window 3 stands at the 6 and forecasts 7 and 8; the 7 still belongs to train.
        At the 6 the 7 is not known yet; but a model that has learned from window 2
        knows it.  Window 3 belongs to no part; nor does window 4.  Nothing is left for
        val: a part of one value is too short for two steps (4:4 is empty).  With h = 1,
        this lesson's default, all 7 windows find a part."""
    )


# Why not draw the test windows at random, as one does with photographs?  Neighbours
# overlap.  Draw [2 3 4] -> 6 for test, and [4 5 6] -> 8 stays in train: the answer, 6,
# stands among its inputs.  When answers of the test reach the training, that is called
# a leak.  Trap 2 measures this one.


def report_windows(series, length, horizon):
    """Print how many windows the series gives, and how many go to each part."""
    n = len(series)
    print(f"\nWindows of the series, T = {length}, h = {horizon}")
    count = n - length - horizon + 1
    print(f"  {n:,} - {length} - {horizon} + 1 = {count:,} of them")
    for part, places in targets_by_part(np.arange(n), length, horizon).items():
        first = date_at(series, places[0])
        last = date_at(series, places[-1])
        print(f"  {part:<5}  {len(places):>6,} windows, targets {first} to {last}")


# --- batches ------------------------------------------------------------------------
#
# A network reads several windows at once, a batch.  PyTorch's DataLoader hands them
# out: a TensorDataset keeps inputs and targets side by side, and shuffle=True mixes
# their order.  Why mix?  Neighbouring windows are almost the same.  64 neighbours would
# show one stretch of one cycle, and the network would take a step that suits just that.
# This is no leak: training windows are mixed only among themselves.  The later lessons
# use `utils.Batches`: the same, but faster.


def batches_of(inputs, targets, seed, size=64):
    """A DataLoader over inputs (N, T, 1) and targets (N,), in batches of `size`."""
    pairs = TensorDataset(inputs, targets)
    order = torch.Generator().manual_seed(seed)  # decides the order in which they come
    return DataLoader(pairs, batch_size=size, shuffle=True, generator=order)


def report_example(series, scaled, length, horizon, seed):
    """Print the first window on its way from dates to numbers, and the first batch."""
    print("\nThe first example on its way from the file to the network")
    target = length + horizon - 1  # its place
    places = {"first input": 0, "last input": length - 1, "target": target}
    for name, place in places.items():
        value = series.iloc[place]
        working = f"({value:g} - {scaled.mean:.5g}) / {scaled.std:.5g}"
        result = f"{scaled.values[place]:.4f}"
        print(f"  {name:<11} {date_at(series, place)}   {working} = {result}")

    numbers = torch.tensor(scaled.values, dtype=torch.float32)  # (n,)
    inputs, targets = make_windows(numbers, length, horizon)  # (N, T, 1), (N,)
    train = split_windows(len(numbers), length, horizon)["train"]
    loader = batches_of(inputs[train], targets[train], seed)
    batch, answers = next(iter(loader))
    utils.say(
        f"""The first batch: inputs {tuple(batch.shape)}, that is (B, T, 1); targets
        {tuple(answers.shape)}, that is (B,).  One pass through the
        {len(targets[train]):,} training windows, an epoch, takes {len(loader)}
        batches."""
    )


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
    nn.init.zeros_(layer.weight)  # start at 0: then step 1 can be followed by hand
    nn.init.zeros_(layer.bias)
    for _ in range(epochs):
        for batch, answers in loader:  # (B, T, 1), (B,)
            forecasts = layer(batch[:, :, 0])[:, 0]  # (B,)
            loss = ((forecasts - answers) ** 2).mean()
            layer.zero_grad()  # or the new gradient would be added to the old one
            loss.backward()
            # What torch.optim.SGD does: a step against the gradient, for each weight.
            with torch.no_grad():  # the step itself is not to be learned from
                for weight in layer.parameters():  # the weights, then the bias
                    weight -= learning_rate * weight.grad
    return layer


def show_search():
    """Search for the line of the toy: it comes to the weight 0.5."""
    mean = 4.0  # of the inputs
    std = 2.0  # a round number near theirs, so that the scaled ones stay short
    values = (torch.tensor(TOY) - mean) / std  # (9,)
    inputs, targets = make_windows(values, 1, 1)  # (8, 1, 1), (8,)
    print(f"\nThe line of {as_row(TOY)} again, searched for step by step,")
    print("learning rate 0.2, in scaled numbers (value - 4) / 2.  All 8 examples fit")
    print("in one batch, so an epoch is one step.")
    print("  steps   weight     bias   after the 9, back in the toy's units")
    asked = torch.tensor([[(TOY[-1] - mean) / std]])  # (1, 1)
    for steps in (0, 1, 5, 20, 200):
        layer = train_by_batches(inputs, targets, steps, 0.2, seed=0)
        after = layer(asked).item() * std + mean
        print(f"  {steps:>5}   {layer.weight.item():6.3f}", end="")
        print(f"   {layer.bias.item():6.3f}   {after:6.3f}")
    utils.say(
        """Step 1 by hand: the loss is the mean of (weight * x + bias - y)^2.  Its
        derivative by the weight is the mean of 2 * (forecast - y) * x, by the bias that
        of 2 * (forecast - y).  At 0 steps every forecast is 0.  The 8 scaled x * y add
        up to 3, and the scaled y have the mean 0.5.  A step goes against it, so:"""
    )
    print("  weight  -2 * 3 / 8 = -0.75   moves by 0.2 * 0.75 = 0.15")
    print("  bias    -2 * 0.5 = -1        moves by 0.2 * 1 = 0.2")
    print("  the 9   2.5 when scaled: 0.15 * 2.5 + 0.2 = 0.575; 0.575 * 2 + 4 = 5.15")
    utils.say(
        """The search ends where the formula stands at once, at weight 0.5 and 7.5 after
        the 9.  The bias is not 3 but 0.5, as it counts in scaled numbers: back in the
        toy's, (0.5 * (x - 4) / 2 + 0.5) * 2 + 4 is 0.5 * x + 3."""
    )


# --- the series ---------------------------------------------------------------------
#
# In both ways the line learns from the training windows alone, and in scaled numbers;
# its answers, times std plus mean, are sunspots again.  Test waits for section 4.


def rmse(errors):
    """Typical size of errors (M,): root mean squared error.

    Square them, take the mean, take the root: of 3 and -4, the root of 12.5, or 3.54.
    """
    return float(np.sqrt(np.mean(errors**2)))


def line_on_series(values, length, horizon, border):
    """Fit the line to values[:border]: weights (T,), a forecast for each window (N,).

    The whole arrow of this lesson in eight lines: take these for data of your own.
    values: (n,), in 64-bit numbers, as the formula needs many digits.
    """
    scaled = scale_by_train(values, border)
    numbers = torch.from_numpy(scaled.values)  # (n,)
    inputs, targets = make_windows(numbers, length, horizon)  # (N, T, 1), (N,)
    inputs = inputs[:, :, 0]  # (N, T)
    train = slice(0, border - (length + horizon - 1))  # as in split_windows
    weights, bias = fit_line(inputs[train], targets[train])
    answers = inputs @ weights + bias  # (N,), scaled
    return weights, answers.numpy() * scaled.std + scaled.mean  # (N,), back in units


def line_by_part(values, length, horizon):
    """The line fitted on train: part -> its forecasts (M,)."""
    n1, _ = utils.split_by_time(len(values))
    _, made = line_on_series(values, length, horizon, n1)
    parts = split_windows(len(values), length, horizon)
    return {part: made[windows] for part, windows in parts.items()}


def search_on_series(scaled, length, horizon, epochs, args):
    """The same, batch by batch: part -> forecasts in the series' units."""
    numbers = torch.tensor(scaled.values, dtype=torch.float32, device=args.device)
    inputs, targets = make_windows(numbers, length, horizon)  # (N, T, 1), (N,)
    parts = split_windows(len(numbers), length, horizon)
    train = parts["train"]
    # The more values are added up, the farther a step moves the sum: so smaller steps.
    # 0.36 is tried out, at T = 36: a tenth of it is too slow, ten times it overshoots.
    rate = 0.36 / length
    layer = train_by_batches(inputs[train], targets[train], epochs, rate, args.seed)
    with torch.no_grad():
        answers = layer(inputs[:, :, 0])[:, 0].cpu().double()  # (N,), scaled
    made = answers.numpy() * scaled.std + scaled.mean  # (N,), back in units
    return {part: made[windows] for part, windows in parts.items()}


def report_line(series, length, horizon):
    """Print the line's weights, and some forecasts beside the truth."""
    values = series.to_numpy()
    n1, _ = utils.split_by_time(len(values))
    weights, _ = line_on_series(values, length, horizon, n1)
    newest = weights.flip(0)[:5]  # the weight of the last value comes first
    print("\nThe line fitted to the windows of the series")
    print(f"Its weights, that of the last value first: {as_row(newest, '.2f')} ...")
    if length > 4 and newest.min() > 0 and newest.argmax() == 0:
        print("(The last value again would be 1 0 0 ..., the mean of all", end=" ")
        print(f"{1 / length:.2f} each;\nthe line lies between.)")
    made = line_by_part(values, length, horizon)["val"]  # (M,)
    places = targets_by_part(np.arange(len(values)), length, horizon)["val"]  # (M,)
    print("Four of its forecasts on validation, beside the last known value:")
    print("  date         last known    truth   forecast   off by   last value off by")
    for row in np.linspace(0, len(places) - 1, 4).astype(int):  # evenly spread
        truth = values[places[row]]
        known = values[places[row] - horizon]
        print(f"  {date_at(series, places[row])}   {known:10.4g} {truth:8.4g}", end="")
        print(f" {made[row]:10.4g} {abs(made[row] - truth):8.3g}", end="")
        print(f" {abs(known - truth):19.3g}")
    print("Four rows prove nothing; section 4 compares all of them.")


def report_search(values, length, horizon, args):
    """Print errors by batches and by least squares; return those on val by batches."""
    n1, _ = utils.split_by_time(len(values))
    truth = targets_by_part(values, length, horizon)
    count = len(truth["train"])
    most = max(2, min(30, 60_000 // count))  # fewer epochs for a long series
    last = f"{most} epochs"
    scaled = scale_by_train(values, n1)
    unscaled = Scaled(values, mean=0.0, std=1.0)  # which changes nothing
    found = {
        "1 epoch": search_on_series(scaled, length, horizon, 1, args),
        last: search_on_series(scaled, length, horizon, most, args),
        f"{last}, not scaled": search_on_series(unscaled, length, horizon, most, args),
        "least squares": line_by_part(values, length, horizon),
    }
    rows = {}
    for name, made in found.items():
        rows[name] = {
            "train RMSE": rmse(made["train"] - truth["train"]),
            "val RMSE": rmse(made["val"] - truth["val"]),
        }
    utils.print_table("The line of the series, batch by batch", rows, corner="after")
    more = rows[last]["train RMSE"] - rows["least squares"]["train RMSE"]
    utils.say(
        f"""Reading it: on train no other weights for {length} values can go below
        least squares; {last} come to {more:.4f} above it."""
    )
    if np.isnan(rows[f"{last}, not scaled"]["train RMSE"]):
        utils.say(
            """nan is "not a number": without scaling the same learning rate is far too
            large.  Each step overshoots, the next more, until the numbers are too large
            to be written.  A far smaller rate would not; but each series would need its
            own.  That is why one scales."""
        )
    return rows[last]["val RMSE"]


# --- how long a window? -------------------------------------------------------------
#
# Longer ones show more, but each value more is one weight more to learn from the same
# examples, and a line with many weights begins to fit the noise: the error on train
# goes on falling, and the error on validation rises again.  This is called overfitting.
# So T is chosen on validation, and before test is asked for anything.


def can_be_judged(n, length, horizon):
    """Are there more windows to learn from than weights, and some in each part?"""
    parts = split_windows(n, length, horizon)
    counts = {part: piece.stop - piece.start for part, piece in parts.items()}
    return counts["train"] > length + 1 and min(counts.values()) > 0


def report_lengths(values, chosen, horizon):
    """Print RMSE of lines that read 1, 3, 9 ... and up to 4 T values."""
    rows = {}
    for length in sorted({1, 3, 9, 27, chosen, 2 * chosen, 4 * chosen}):
        # A line of its own for each length; on train and validation, not on test.
        if can_be_judged(len(values), length, horizon):
            made = line_by_part(values, length, horizon)
            truth = targets_by_part(values, length, horizon)
            rows[length] = {
                "train RMSE": rmse(made["train"] - truth["train"]),
                "val RMSE": rmse(made["val"] - truth["val"]),
            }
    utils.print_table("How long should a window be?", rows, corner="values read")
    # A difference of a hundredth is no reason to choose.
    least = min(row["val RMSE"] for row in rows.values())
    near = [T for T, row in rows.items() if row["val RMSE"] <= 1.01 * least]
    utils.say(
        f"""Reading it: within 1 % of the smallest on validation are windows of
        {", ".join(map(str, near))} values.  Where the error on train goes on falling,
        and that on validation rises again, the line begins to learn noise.  (A longer
        window leaves fewer examples; validation asks for the same values each time.)"""
    )
    count = len(targets_by_part(values, chosen, horizon)["train"])
    utils.say(
        f"""This run takes T = {chosen}, {"" if chosen in near else "not "}one of these,
        and keeps it, whatever test will say.  So of {len(values):,} values came
        {count:,} training examples, and of these {chosen + 1} numbers, weights and
        bias.  Is the error small, and honest?"""
    )


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
#         from one to the next, on average.  1 is as good as saying the last value again
#         was in train, below 1 is better.
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
    errors = [1.0, -2.0, 6.0]
    found = scores_by_hand(errors, train=[10.0, 13.0, 9.0, 14.0])
    print("Three measures by hand: the errors 1, -2 and 6; train is 10 13 9 14")
    print(f"  RMSE   root of (1 + 4 + 36) / 3    = {found['RMSE']:.2f}")
    print(f"  MAE    (1 + 2 + 6) / 3             = {found['MAE']:.2f}")
    print(f"  MASE   3 / mean of changes 3 4 5   = {found['MASE']:.2f}")
    print("The 6 makes 36 of 41 in RMSE, and 6 of 9 in MAE: large errors stand out.")


# --- simple rules: baselines --------------------------------------------------------
#
# Now somebody to beat: rules that learn nothing, or a single number.  Such a rival is
# called a baseline.  A network has to do better, or it is not worth its while.  All
# answer the same question: standing at the origin, what is the value h steps later?
#
# The toy of section 3 has nine known values, something like a season of 3 (every third
# is high).  The origin is place 8; the target is place 9.
#
#     place             0   1   2   3   4   5   6   7   8   9
#     value             1   2   5   4   5   6   3   6   9   ?


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
    print("  the fitted line  0.5 * 9 + 3         7.5")
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
# low.  In pure noise r_k strays around 0 by about 1 / sqrt(n), and the highest of
# hundreds of them by 3 times that or so.  A peak has to rise above 4 / sqrt(n).  And a
# season has to fit three times into train, or one slow rise and fall would pass for it.


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
        f"""r_k first falls below 0 at lag 2.  The highest after that, up to a third of
        the values, is {max(r[2:]):g} at lag {r.index(max(r[2:]))}, above 4 / root of 32
        = {4 / 32**0.5:.2f}: the season.  utils.find_season says
        {utils.find_season(np.array(wave))}."""
    )


class Fitted(NamedTuple):
    """What the baselines and MASE learn from train."""

    season: int | None  # steps of one season, None if no season shows
    width: int  # of the moving average: of 2, 3, ... T the best on train
    naive_mae: float  # mean |value - value before|, the unit of MASE


def fit_on(train, length, horizon):
    """Season, width and the unit of MASE, from the training values (n1,) alone."""
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
        sign = "#" if r[lag] > 0 else "-"
        bar = sign * round(40 * abs(r[lag]))
        line = f"  lag {lag:>4}   {r[lag]:6.2f}   {bar:<40}"
        print(f"{line}  {names.get(lag, '')}".rstrip())
    utils.say(
        f"""Reading it (- is below 0): r_1 near 1 is memory: the next value is like this
        one.  A high r_k alone does not say that the value k back adds anything: if each
        value were like the one before and no other, r_2 would be r_1 * r_1, and so on.
        Here that is {r[1] ** 2:.2f}, and r_2 is {r[2]:.2f}: as far as they differ, the
        value two back adds something.  If r_k sinks below 0 and rises to a second peak,
        the series has a season.  If it sinks slowly and no second peak comes, the
        series climbs, or wanders like a price."""
    )
    found = f"a season of {season} steps" if season else "no season"
    print(f"Found: {found}.  (A peak must rise above {4 / len(train) ** 0.5:.2f}.)")
    if source.name == "sunspots" and season:
        print(f"{season} months are {season / 12:.1f} years, about a cycle of the sun.")


# --- the comparison -----------------------------------------------------------------
#
# Now the three rules and the line are asked for each value of val and test.
# utils.persistence, .moving_average, .seasonal_naive and .forecast_scores are the
# functions above, for many origins at once and several steps; here there is one step,
# h, so column 0 is it.  utils.best_width tries each width on train.


def all_forecasts(values, length, horizon, fitted):
    """The rules and the line, on val and test: targets (M,), name -> (M,)."""
    places = targets_by_part(np.arange(len(values)), length, horizon)
    targets = np.concatenate([places["val"], places["test"]])  # (M,) places
    origins = targets - horizon  # (M,)
    steps = [horizon]
    made = {}
    made["persistence"] = utils.persistence(values, origins, steps)[:, 0]
    average = utils.moving_average(values, origins, steps, fitted.width)
    made["moving average"] = average[:, 0]
    if fitted.season:
        seasonal = utils.seasonal_naive(values, origins, steps, fitted.season)
        made["seasonal naive"] = seasonal[:, 0]
    line = line_by_part(values, length, horizon)
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
        rows[name] = {"val RMSE": val["RMSE"]}
        for measure in ("RMSE", "MAE", "MASE"):
            rows[name][f"test {measure}"] = test[measure]
    return rows


def best_and_rival(rows):
    """The best one on validation, and its strongest rival there, the next best."""
    ranked = sorted(rows, key=lambda name: rows[name]["val RMSE"])
    return ranked[0], ranked[1]


def ahead(horizon):
    """1 step ahead, 2 steps ahead."""
    return "1 step ahead" if horizon == 1 else f"{horizon} steps ahead"


def report_comparison(values, length, horizon, fitted, source):
    """Score the rivals and print the table.  Returns targets, forecasts and rows."""
    targets, made = all_forecasts(values, length, horizon, fitted)
    rows = score_all(values, targets, made, fitted)
    utils.print_table(f"All rivals on {source.label}, {ahead(horizon)}", rows)
    growth = {
        name: quotient(row["test RMSE"], row["val RMSE"]) - 1
        for name, row in rows.items()
    }
    text = f"""Reading it: the moving average takes {fitted.width} values, the best
    width on train.  The unit of MASE is {fitted.naive_mae:.4g}.  Above 1 need not be
    bad, since test may be rougher than train was, or h larger than 1.  Is the line
    overfitted?  From val to test its error changes by {growth["fitted line"]:+.0%}, but
    that of persistence, which has learned nothing, by {growth["persistence"]:+.0%}: as
    far as both change alike, it is the years."""
    worst = max(rows, key=lambda name: rows[name]["val RMSE"])
    if source.name == "sunspots" and worst == "seasonal naive":
        text += f"""  Seasonal naive is the worst: cycles last 9 to 14 years, so the
        value {fitted.season} months ago often stands on another slope of its hill."""
    utils.say(text)
    if source.name == "sine":  # what nobody can foresee
        _, n2 = utils.split_by_time(len(values))
        noise = utils.sine_series()[1].to_numpy()[targets[targets >= n2]]
        print(f"The noise of test alone has RMSE {rmse(noise):.4f}; without a leak and")
        print("without luck nobody errs less.")
    return targets, made, rows


# --- luck ---------------------------------------------------------------------------
#
# Who has won?  A smaller RMSE may still be luck, as a fair coin shows heads 12 times of
# 20 now and then.  For each target take the difference of the two squared errors, ours
# minus theirs.  If both forecasts are equally good, these lie around 0.  So look how
# far their mean is from 0, in units of how far it would stray by chance: their spread
# (std) over the root of their number.
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


def quotient(error, other):
    """error / other.  If other is 0: 1 if error is 0, too, or else infinity."""
    if other:
        return error / other
    return np.inf if error else 1.0


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
    change = quotient(rows[best]["test RMSE"], rows[rival]["test RMSE"]) - 1
    side = "above" if change > 0 else "below"
    verdict = "more than luck" if p < 0.05 else "it may be luck"
    utils.say(
        f"""Best on validation: {best}.  On the {len(truth):,} values of test its RMSE
        is {abs(change):.1%} {side} that of {rival}.  t = {t:.2f}, {as_text_p(p)}:
        {verdict}."""
    )
    if horizon == 1:
        _, r1 = utils.autocorrelation(errors**2 - others**2, 1)
        print(f"r_1 of the differences: {r1:.2f} (far above 0 the true p is larger).")
    return p


# --- other years --------------------------------------------------------------------
#
# p speaks of these test years alone; other years may be unlike them.  So the line is
# learned anew at five places of the second half.  Each time it knows all that lies
# before, and is asked from there up to the next place:
#
#     |--- learned from ---|- asked -|
#     |------- learned from ---------|- asked -|          and so on
#
# This is called walk-forward, and it is how a model is used in life, where one fits
# anew as time goes by.  The borders of train, val and test play no part in it.


def report_walk_forward(series, length, horizon, source):
    """Print the RMSE of persistence and of the line in five stretches of time."""
    values = series.to_numpy()
    n = len(values)
    targets = values[length + horizon - 1 :]  # (N,), as in make_windows
    last_known = values[length - 1 : n - horizon]  # (N,): at the origin of each window
    rows = {}
    shares = []
    borders = np.linspace(n // 2, n - horizon + 1, 6).round().astype(int)
    for border, following in pairwise(borders):
        _, made = line_on_series(values, length, horizon, border)
        # Window i has its origin at i + T - 1.  The first one that is asked has its
        # origin at border - 1, the newest value that the line has learned from.
        asked = slice(border - length, following - length)
        lazy = rmse(last_known[asked] - targets[asked])
        line = rmse(made[asked] - targets[asked])
        shares.append(quotient(line, lazy))
        row = {"persistence": lazy, "fitted line": line, "quotient": shares[-1]}
        rows[date_at(series, border)] = row
    title = f"Learned anew at five places, {source.label}: RMSE"
    utils.print_table(title, rows, corner="asked from")
    utils.say(
        f"""Reading it: where the quotient is below 1, the line errs less than
        persistence.  It does so in {sum(share < 1 for share in shares)} of 5 stretches;
        the quotient lies between {min(shares):.2f} and {max(shares):.2f}.  A lead that
        comes again in other years is more to go by than one p.  (Not all is new here:
        validation, by which T was chosen, is among these years.)"""
    )


# --- how far?  (Not chosen but asked for: the farther, the larger the error.) -------


def report_distances(values, length, fitted, source):
    """Print RMSE on validation of three forecasters, several steps ahead."""
    rows = {}
    for horizon in (1, 3, 6, 12):
        # Everything anew: the windows, the line, and the rivals' forecasts.
        if can_be_judged(len(values), length, horizon):
            targets, made = all_forecasts(values, length, horizon, fitted)
            scores = score_all(values, targets, made, fitted)
            rows[horizon] = {
                name: scores[name]["val RMSE"]
                for name in ("persistence", "seasonal naive", "fitted line")
                if name in scores
            }
    title = f"How far ahead?  {source.label}, RMSE on validation"
    utils.print_table(title, rows, corner="h")
    far = max(rows)
    text = f"""Reading it: each row has a line of its own, fitted on windows with that
    h.  {far} steps ahead the best is {min(rows[far], key=rows[far].get)}."""
    if fitted.season and fitted.season >= far:
        text += f"""  Seasonal naive takes the value {fitted.season} steps before the
        target, whatever h is; its rows differ only because the first h - 1 values of
        validation are not asked for."""
        lead = [row["seasonal naive"] < row["persistence"] for row in rows.values()]
        if lead[-1] and not lead[0]:
            text += (
                f"  It loses to persistence near by, and beats it {far} steps ahead."
            )
    utils.say(text)


# A second place for a pause.  May one believe such a number?  Four common mistakes make
# it look better than it is.  The first is the mildest.
#
# --- trap 1: a ruler that has seen the test -----------------------------------------
#
# Many programs scale the whole series first and split afterwards.  Then mean and std
# have seen the test years.  The std is a ruler: an error in scaled units is the error
# divided by it.  If the test years spread wider than train, the std of everything is
# larger, a longer ruler, and the same error reads as less.


def report_scaling(values, horizon, source):
    """Print an error by two rulers; return the change and both quotients RMSE / std."""
    n1, _ = utils.split_by_time(len(values))
    places = targets_by_part(np.arange(len(values)), 1, horizon)["test"]  # (M,)
    error = rmse(values[places - horizon] - values[places])
    rows = {}
    for name, part in (("train alone", values[:n1]), ("everything", values)):
        std = float(part.std())
        rows[name] = {"std": std, "RMSE": error, "RMSE / std": error / std}
    title = f"{source.label}: persistence in test"
    utils.print_table(title, rows, corner="scaled by")
    by_everything = rows["everything"]["RMSE / std"]
    by_train = rows["train alone"]["RMSE / std"]
    lie = quotient(by_everything, by_train) - 1
    utils.say(
        f"""Reading it: the forecasts are the same, and so is their error in the series'
        own units.  In scaled units it seems to change by {lie:+.1%}.  If you report
        in the series' units, this mistake changes nothing for persistence and the line:
        least squares finds the same line in any units.  A network is another matter:
        what it learns depends on the size of its inputs.  Scaled by everything it has
        learned something from the test years; how much that flatters nobody can say."""
    )
    return lie, by_everything, by_train


# --- trap 2: shuffled windows -------------------------------------------------------
#
# Test windows drawn at random have neighbours in train.  How much can one cheat with
# that?  Take a series in which nothing can be learned, a price whose daily changes are
# drawn by lot.


def random_price():
    """A price of 2,500 days, from no market: today's says all there is to know."""
    rng = np.random.default_rng(20240102)
    # About 1 % a day, up or down, and 0.02 % up on average; exp(0.01) is about 1.01.
    changes = 0.0002 + 0.01 * rng.standard_normal(2500)
    return 100 * np.exp(np.cumsum(changes))  # (2500,): a product of daily factors


# Nobody can do much better than to say today's price again.  A forecast that seems to
# do much better has seen the answers.
#
# Three forecasters are asked for the price 12 days ahead: persistence, the fitted line,
# and a look-up, which learns by heart.  It takes the training window that is most like
# the asked one, and repeats its target.  (Statisticians say nearest neighbour.)  In
# shuffled windows it finds one that lies a day beside the asked one:
#
#     asked    [day 100 ... day 135] . . . . . . . . . . . day 147
#     found      [day 101 ... day 136] . . . . . . . . . . . day 148   its target is
#                                                                      one day from ours
#
# So it has to guess one day's change where everybody else has to guess twelve.  Of
# twelve changes drawn by lot some go up and some go down.  Together they are typically
# as large as one change times the root of 12, which is 3.5.  So expect it to err 3.5
# times less.  (One day ahead all have one change to guess: the look-up gains nothing.)


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


def leaking(places, targets, train, test):
    """How many asked windows forecast what was known in training, or is in the window.

    places (N, T), targets (N,): windows cut from 0, 1, 2, ... in place of the values,
    so that each number says where it stands.  train, test: numbers of windows.
    """
    newest = targets[train].max()  # the newest value that training has seen
    origins = places[test].max(dim=1).values  # (M,)
    leaks = (origins < newest) | (origins >= targets[test])  # (M,); | is "or"
    return int(leaks.sum())


def report_shuffled(values, length, horizon):
    """Split the windows of values (n,) by time, and at random: split -> its row."""
    inputs, targets = make_windows(torch.tensor(values), length, horizon)
    inputs = inputs[:, :, 0]  # (N, T)
    places, at = make_windows(torch.arange(len(values)), length, horizon)
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
        rows[name]["leaking"] = leaking(places[:, :, 0], at, train, test)
        rows[name]["asked"] = len(test)
    title = f"A random price, {ahead(horizon)}: RMSE on test windows, and leaks"
    utils.print_table(title, rows, corner="windows split")
    return rows


def report_leak():
    """Measure trap 2, where nothing can be learned.  Returns the table's rows."""
    rows = report_shuffled(random_price(), 36, 12)
    shuffled = rows["at random"]
    ratio = shuffled["persistence"] / shuffled["look-up"]
    # The series and the draw are fixed, so the following holds in every run.
    print("Reading it (compare within a row: each asks about windows of its own):")
    utils.say(
        """- By time: the line is about as good as persistence.  The look-up is worse.
        It finds a window from another year, and what followed then has nothing to do
        with now."""
    )
    utils.say(
        f"""- At random: persistence errs {ratio:.1f} times as much as the look-up.  (A
        little less than 3.5 times: now and then both neighbours went to val or test.)
        It forecasts what nobody can forecast.  That is the leak.  Tomorrow, when the
        neighbours of the asked window are not known yet, nothing of it is left."""
    )
    utils.say(
        """- The line gains nothing by it: with 37 numbers it cannot learn so many
        windows by heart.  A large network can."""
    )
    print("So there are two tests for a program of your own.")
    utils.say(
        """- Give it `random_price()`, some 12 steps ahead.  If it clearly beats
        persistence, it leaks.  If it does not, that proves little: the line passed,
        too, with shuffled windows, and one step ahead the look-up would pass as well.
        Traps 1 and 4 never show in this test."""
    )
    utils.say(
        f"""- Count, as `report_shuffled` does by `leaking`: give it 0, 1, 2, ... for a
        series, with scaling switched off, so that each number in a window is a place.
        No asked window may have its origin before the
        newest target of training, nor at its own target or later.  Leaking by time:
        {rows["by time"]["leaking"]} of {rows["by time"]["asked"]}; at random:
        {shuffled["leaking"]} of {shuffled["asked"]}.  This finds shuffled windows with
        any model and any h, but nothing wrong with the values (traps 1 and 3)."""
    )
    return rows


# --- trap 3: smoothed series --------------------------------------------------------
#
# Many series are published smoothed: each value is replaced by the mean of itself and
# its neighbours on both sides, a centred mean (for sunspots it spans 13 months).  A
# forecast of the smoothed series is then brilliant.  But:
#
#     raw       y1  y2  y3  y4  y5
#     smoothed      s2  s3  s4            s3 = (y2 + y3 + y4) / 3
#
# s3 holds y4: the value of today knows tomorrow.
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
    print("Today is the 6.  Its smoothed value is (7 + 6 + 11) / 3 = 8.  From that 8")
    print(f"one can compute tomorrow: 3 * 8 - 7 - 6 = {tomorrow:.0f}.")


def report_smoothing(series, source, length, horizon):
    """Forecast the series raw, smoothed, and smoothed but honestly: name -> row."""
    values = series.to_numpy()
    # Six neighbours on each side, as is usual for sunspots; fewer in a short series.
    half = max(1, min(6, len(values) // 50))
    smooth = centred_mean(values, half)  # (n - 2 half,)
    # The newest smoothed value that is known lies `half` steps before the origin.
    rows = {}
    for name, numbers, step in (
        ("raw", values, horizon),
        ("smoothed", smooth, horizon),
        ("smoothed, honest", smooth, horizon + half),
    ):
        places = targets_by_part(np.arange(len(numbers)), length, step)["test"]  # (M,)
        truth = numbers[places]
        line = line_by_part(numbers, length, step)["test"]
        rows[name] = {
            "persistence RMSE": rmse(numbers[places - step] - truth),
            "line RMSE": rmse(line - truth),
        }
    title = f"{source.label}, raw, and smoothed by a centred mean of {2 * half + 1}"
    utils.print_table(f"{title}: test", rows, corner="series")
    text = "Reading it: the second row is what a careless report would say.  "
    if horizon == 1:
        text += f"""Two neighbouring means share {2 * half} of {2 * half + 1} values, so
        even persistence finds it easy.  """
    utils.say(
        f"""{text}The third row forecasts such means from those that were known, {half}
        steps older.  (It cannot be compared with the first: it asks for a mean, which
        is easier to hit, but {horizon + half} steps ahead, which is harder.  And
        whoever reads the newest raw values as well can do somewhat better.)"""
    )
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
# can know beforehand); below 0 is worse.  For the truth 2 4 6, forecast as 3 4 5, it is
# 1 - (1 + 0 + 1) / (4 + 0 + 4) = 0.75.
# A price wanders far from its mean, so whatever is a day late is still close, beside
# those distances: R2 is near 1 for the laziest rule.  Returns do not wander.


def r_squared(truth, forecast):
    """R2 = 1 - sum of (truth - forecast)^2 / sum of (truth - mean)^2."""
    distances = ((truth - truth.mean()) ** 2).sum()
    return float(1 - ((truth - forecast) ** 2).sum() / distances) if distances else 0.0


def report_prices(prices, label):
    """Print how good forecasts of prices (n,) look as prices, and as returns."""
    _, n2 = utils.split_by_time(len(prices))
    before = prices[n2 - 1 : -1]  # (M,)
    truth = prices[n2:]  # (M,)
    line = line_by_part(prices, 36, 1)["test"]  # (M,)
    print(f"\nFour days of the test part of {label}")
    print("  day before   price   return   line: price   line: return")
    for row in range(4):
        # Rounded first, so that the returns are those of the prices as printed.
        old = round(before[row], 2)
        new = round(truth[row], 2)
        said = round(line[row], 2)
        print(f"  {old:10.2f} {new:7.2f} {new / old - 1:8.2%}", end="")
        print(f" {said:13.2f} {said / old - 1:14.2%}")
    print("The line's prices look good.  But compare the two returns.")
    rows = {}
    for name, forecast in (("persistence", before), ("fitted line", line)):
        rows[name] = {
            "R2 of price": r_squared(truth, forecast),
            "R2 of return": r_squared(truth / before - 1, forecast / before - 1),
        }
    utils.print_table("The whole test part", rows)
    utils.say(
        """Reading it: persistence forecasts a return of 0 each time, which is a
        constant; so its R2 of return cannot be above 0.  A model of prices has
        something to say only if its own R2 of return is clearly above 0.  So let it
        learn returns, and report their error (lesson 06)."""
    )
    return rows


# --- pictures [machinery] -----------------------------------------------------------


def plot_forecasts(args, source, series, targets, made, best):
    """The last 60 values of test: truth, persistence, and the best forecast."""
    # In a drawing of all of test a copy that comes late would look like the truth.
    recent = targets[-60:]  # (60,), or all of a shorter series
    lines = {"truth": series.to_numpy()[recent]}
    for name in ("persistence", best):  # if these are the same, it is drawn once
        lines[name] = made[name][-60:]
    title = f"{source.label}: the end of the test part, {ahead(args.horizon)}"
    dates = {"x": series.index[recent], "dashed": ["persistence"]}
    utils.plot_lines(args, "forecasts", title, lines, "date", "value", **dates)
    if not args.no_plots:
        print("  Reading it: persistence is the truth once more, but late.")


# --- the answer ---------------------------------------------------------------------


def report_answer(windows, rows, p, scaled_errors, leak, smoothed, priced, args):
    """Print the answer to the lesson's title, with the figures of this run."""
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
    # Each mistake: the figure that a careless report prints, and an honest one.
    look_up = [
        leak[split]["look-up"] / leak[split]["persistence"]
        for split in ("at random", "by time")
    ]
    smooth = [smoothed[kind]["line RMSE"] for kind in ("smoothed", "smoothed, honest")]
    r2 = [priced["R2 of price"], priced["R2 of return"]]
    table = [
        ("scaled by everything", scaled_errors, "RMSE / std of persistence"),
        ("shuffled windows", look_up, "RMSE of look-up / persistence"),
        ("a smoothed series", smooth, "RMSE of the line"),
        ("prices, not returns", r2, "R2 of persistence (larger is better)"),
    ]
    print("                         careless    honest")
    for name, (careless, honest), measure in table:
        print(f"  {name:<22} {careless:8.4f} {honest:9.4f}   {measure}")
    print("Your own program: do the two tests of trap 2; look for the rest by reading.")


def metrics_of(rows, p, val_by_batches, lie, leak, smoothed):  # [machinery]
    """What goes into metrics.json."""
    best, _ = best_and_rival(rows)
    metrics = {name.lower().replace(" ", "_"): rows[best][name] for name in rows[best]}
    metrics |= {
        "p_of_lead": p,
        "line_test_rmse": rows["fitted line"]["test RMSE"],
        "scaling_lie": lie,
        "look_up_rmse": leak["by time"]["look-up"],
        "look_up_shuffled_rmse": leak["at random"]["look-up"],
        "smoothed_line_rmse": smoothed["smoothed"]["line RMSE"],
        "smoothed_honest_line_rmse": smoothed["smoothed, honest"]["line RMSE"],
    }
    if np.isfinite(val_by_batches):
        metrics["line_by_batches_val_rmse"] = val_by_batches
    return metrics


# ====================================================================================
# 5. Command line
# ====================================================================================


def make_flags():  # [machinery]
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
    scaled = scale_by_train(values, n1)
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
    report_lengths(values, length, horizon)

    # 4. Evaluation: measures, rivals, the season; who wins, and is it luck?
    utils.heading("4. Evaluation: is the line good?")
    show_scores()
    show_baselines()
    show_autocorrelation()
    fitted = fit_on(values[:n1], length, horizon)
    report_autocorrelation(values[:n1], fitted.season, source)
    targets, made, rows = report_comparison(values, length, horizon, fitted, source)
    show_luck()
    p = report_luck(rows, made, targets, values, horizon)
    plot_forecasts(args, source, series, targets, made, best_and_rival(rows)[0])
    report_walk_forward(series, length, horizon, source)
    report_distances(values, length, fitted, source)

    # The four traps: may one believe such a score?
    utils.heading("4. Trap 1: a ruler that has seen the test")
    lie, careless, honest = report_scaling(values, horizon, source)
    utils.heading("4. Trap 2: shuffled windows")
    leak = report_leak()
    utils.heading("4. Trap 3: a smoothed series")
    show_smoothing()
    smoothed = report_smoothing(series, source, length, horizon)
    utils.heading("4. Trap 4: prices against returns")
    prices = values
    label = source.label
    if source.name != "stock" or series.name == "volume":  # this part needs prices
        prices = random_price()
        label = "the random price of trap 2 [sample: made here]"
    priced = report_prices(prices, label)["persistence"]

    # The answer.
    windows = split_windows(len(values), length, horizon)["train"].stop
    report_answer(windows, rows, p, (careless, honest), leak, smoothed, priced, args)
    metrics = metrics_of(rows, p, val_by_batches, lie, leak, smoothed)
    if source.name == "sine":
        noise = utils.sine_series()[1].to_numpy()[targets[targets >= n2]]
        metrics["test_noise_variance"] = rmse(noise) ** 2
    baselines = {name: row["test RMSE"] for name, row in rows.items()}
    utils.write_metrics(args, source, metrics, baselines)


if __name__ == "__main__":
    sys.exit(utils.run(main))
