"""03 · How does a series become training examples, and which score may one believe?

A series is one long row of numbers, each with its date: sunspots by month, a price by
day.  From one row a network learns badly.  It learns from many examples, and an example
is a pair: what the network may read (the input) and what it should answer (the target).
This lesson makes the pairs, first by hand on ten numbers, then on a real series:

    dated rows -> repaired -> split by time -> scaled -> windows -> a fitted line

The last arrow is the proof that the examples are good for something.  No network is
trained yet: the model is the plainest that can read a window, a weighted sum of its
values.  With it the first half of the title is answered (sections 1 to 3).  Section 4
is about the second half.  Is the error small, beside rules that learn nothing?  And is
it true?  Four common mistakes are made on purpose, and what each hides is measured.

What you will learn
    - to repair dates that are out of order, written twice, or missing
    - to split by time, to scale by the training part alone, and why
    - to cut a series into windows: T values to read, and one to answer with, h steps
      later (the horizon)
    - to fit a line to the windows: by a formula, and batch by batch as a network learns
    - three rules of one line that a network has to beat, and three measures of error
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
    the test years.  Trained batch by batch instead, it comes to 17.9875.  Beside it, on
    the same years, rules of one line:
                         test RMSE   test MASE
      persistence          19.7322      1.2750     the last value again
      moving average       19.4889      1.2541     the mean of the last 2
      seasonal naive       44.8352      2.9008     the value 127 months ago
      fitted line          17.9855      1.1599     a weighted sum of the last 36
    RMSE is the typical size of an error; MASE is 1 for as good as persistence was in
    the training years.  The line's lead over persistence is more than luck (p = 0.001).
    Then the traps:
      scaled by everything    the same forecast seems 12.8 % better
      shuffled windows        on a random price, which nobody can forecast, a look-up
                              seems to err 3.3 times less than persistence
      smoothed series         an error of 1.6 that is honestly 10.0
      prices                  R2 = 0.98 as prices, 0 as returns

Try this  (guess first, then run; docs/exercises.md answers the first two)
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
#     M  forecasts to be compared    n1, n2  places where validation and test start
# Words
#     place   where a value stands in the series, counted from 0
#     origin  the place of the last value that a forecast knows; its target is h later

import math
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


def same(gap):
    """How far two ways of computing one thing differ, in words."""
    return "the same" if abs(gap) < 1e-5 else f"not the same, but {gap:g} off"


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
#   assign   each window to the part of the data in which its target lies
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


def show_repair():
    """Repair the ten rows in three steps; the shared function does the same."""
    import pandas as pd  # here and not above: it takes long to load

    in_order = sort_rows(TEN_ROWS)
    merged = merge_repeats(in_order)
    filled = fill_gaps(merged)
    print("Repair by hand: ten rows of a file, as month:value")
    print(f"  in the file  {as_text(TEN_ROWS)}")
    print(f"  1. sorted    {as_text(in_order)}")
    print(f"  2. merged    {as_text(merged)}")
    print(f"  3. filled    {as_text(filled)}")
    dates = pd.DatetimeIndex([date for date, _ in TEN_ROWS])
    values = [value for _, value in TEN_ROWS]
    shared, _ = utils.repair_series(pd.Series(values, dates, dtype=float))
    gap = np.abs(shared.to_numpy() - [value for _, value in filled]).max()
    utils.say(
        f"""Sorted: March now stands before April.  Merged: of the two rows of May the
        last counts.  Filled: June (no row) and August (empty) take the value before.
        Half way between May and July would be 17 for June; but in June nobody knew
        July.  utils.repair_series, which repairs the real series, finds
        {same(gap)}."""
    )


# Four limits of this repair.  A long gap becomes a flat line, which is easy to
# forecast: better cut the series there, and make windows of each piece.  Not every
# missing date is a fault: if the step is a day, and (nearly) all Saturdays and Sundays
# are missing, as at a stock market, load_series fills nothing, and Monday follows
# Friday.  A value that cannot be, such as -1 sunspots or 999 for "not measured", is an
# empty cell in disguise: empty it by hand.  And one that is only very large (an
# outlier) stays.  It may be true, and in the test years nobody takes it away for you.
#
# Your own file (--input) comes the same way.  utils.load_series reads the CSV file as a
# table.  One column holds the dates (found, or named by --date-column) and one the
# numbers (--column).  Then it calls utils.repair_series.  How long is one step?  The
# commonest distance between neighbouring dates, such as one hour or seven days.
# Months, quarters and years are not equally long, so these are recognised by the
# calendar.

# What each data set is.
ABOUT = {
    "sunspots": """Sunspots are dark, cooler patches on the sun.  They have been counted
        every month since 1749.  Their number rises and falls in about eleven years.""",
    "stock": """The S&P 500 is made of the prices of 500 large American companies: one
        value for each day of trading, none for weekends and holidays.""",
    "sine": """Made here: a sine wave of period 50, plus noise of variance 0.04.  So we
        know how good the best possible forecast is, which nobody knows of real
        data.""",
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
# (utils.split_by_time gives n1 and n2 for any n.)
#
# The borders come before anything is learned from the data: whatever is learned (a
# mean, a weight, a season) is learned from train.  Here it is learned once, and stays
# as it is while the test years go by.  In use one would fit anew every year, with all
# that is known by then, and score each year's forecasts: that is called walk-forward.


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


# --- scale --------------------------------------------------------------------------
#
# A network learns well from numbers around 0, about as large as 1.  It squeezes its
# sums by tanh, and tanh makes 1.000 of a sum of 20, of 80 and of 150.  And one step
# size has to serve all of its weights (section 3 shows what happens without scaling).
# So we subtract the mean and divide by the standard deviation (std), which is the
# typical distance from the mean:
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


def scale_by_train(values):
    """The series (n,), scaled by its training part: scaled (n,), mean, std."""
    n1, _ = utils.split_by_time(len(values))
    mean = float(values[:n1].mean())
    std = float(values[:n1].std()) or 1.0  # nothing is divided by 0
    return (values - mean) / std, mean, std


def show_scaling():
    """Scale the numbers 1 to 10 by hand."""
    squares = [(value - 4) ** 2 for value in (1, 2, 3, 4, 5, 6, 7)]
    scaled, mean, std = scale_by_train(np.arange(1.0, 11.0))  # (10,)
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


# What can be done about a climb?  Learn the changes instead of the values.  A series
# whose mean and spread stay the same all along is called stationary.  A climbing series
# is not, but its changes often are.
#
# Three variants.  What grows by so many per cent a year changes by ever larger steps;
# take the logarithms first, then their changes.  (Nearly the same is the return of trap
# 4: the change as a share of the value before.)  If January is always low, take the
# change from January to January; this is called a seasonal difference.  And for h steps
# ahead, take the change over h steps, or add up h forecast changes.
#
# The sunspots are not quite stationary: the late cycles are higher.  But they come back
# to 0 each time, so this lesson keeps their values.  A price need not come back; lesson
# 06 offers to learn its changes, with --target return.


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
# On the real series T is 36, three years of months, and h is 1.  Why not more or less?
# Section 4 tries other lengths, on validation, and other distances.


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
    input_gap = (inputs[:, :, 0] - torch.tensor(loop_inputs)).abs().max()
    target_gap = (targets - torch.tensor(loop_targets)).abs().max()
    utils.say(
        f"""The fast way finds {same(max(input_gap, target_gap))}: inputs
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


# Three rules for a second column.  Each column is scaled by its own mean and std, of
# train.  Of a column that is measured, such as the temperature, only what is known at
# the origin may be read: today's, never tomorrow's.  What is known long before, such as
# the month of the target's date, may be read of the target's date as well.
#
# How does one forecast several steps ahead?  There are three ways:
#
#   - one model for each distance h, each with windows of its own: this lesson
#   - one model that answers the next h values at once.  Its target is a row of h
#     values, and an example may only be used where the whole row lies in one part:
#     lesson 06
#   - one model for one step, whose forecast is fed back as if it were a known value.
#     Then errors add up; lesson 06 compares
#
# And a recurrent network can be asked after every step of its window, not only after
# the last.  Then a window has T targets instead of one.  Lesson 10 does so with text.


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
    found = "the same" if by_slice == by_rule else "something else"
    utils.say(
        f"""split_windows, by three slices, finds {found}.  Training on [4, 5, 6] -> 8
        would show the 8, which validation asks for.  So this window belongs to val,
        although its inputs lie in train."""
    )


# Why not shuffle all windows and draw the test windows at random, as one does with
# photographs?  Neighbours overlap.  Draw the second window as a test window; these
# three, among others, stay in train:
#
#     [2  3  4] -> 6    test
#     [3  4  5] -> 7    train      almost the same question, almost the same answer
#     [4  5  6] -> 8    train      the answer, 6, stands among its inputs
#     [6  7  8] -> 10   train      and here
#
# A line with few weights can hardly make use of that.  A network that is large enough
# to learn windows by heart can.  Trap 2 measures it.


def report_windows(series, length, horizon):
    """Print how many windows the series gives, and how many go to each part."""
    n = len(series)
    # Windows of 0, 1, 2, ... instead of the values: so each number is a place.
    _, places = make_windows(torch.arange(n), length, horizon)  # (N,)
    print(f"\nWindows of the series, T = {length}, h = {horizon}")
    print(f"  {n:,} - {length} - {horizon} + 1 = {len(places):,} of them")
    total = 0
    for part, windows in split_windows(n, length, horizon).items():
        of_part = places[windows]
        first = date_at(series, int(of_part[0]))
        last = date_at(series, int(of_part[-1]))
        most = series.iloc[of_part.numpy()].max()
        print(
            f"  {part:<5}  {len(of_part):>6,} windows, targets {first} to {last}, "
            f"the largest {most:.5g}"
        )
        total += len(of_part)
    print(f"Together {total:,} of {len(places):,}: none dropped, none counted twice.")
    print("Where test reaches higher than train, such values were never seen before.")


def report_example(series, scaled, mean, std, length, horizon):
    """Print the first window on its way from dates to a tensor.

    scaled (n,): the whole series, by the mean and std of the training part.
    """
    print("\nOne example on its way from the file to the network: the first window")
    inputs, targets = make_windows(scaled, length, horizon)  # (N, T, 1), (N,)
    shown = {0, 1, length - 1}  # the first two steps and the last
    for step in range(length):
        if step not in shown:
            continue
        if step > 2:
            print("  ...")
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
# their order.  Why mix?  Neighbouring windows are almost the same.  64 neighbours would
# show one stretch of one cycle, and the network would take a step that suits just that.
# It is no leak: training windows are mixed only among themselves.  (The later lessons
# use `utils.Batches`, which does the same faster.)
#
# For the same reason 1,938 overlapping windows teach far less than 1,938 windows that
# have nothing in common.


def batches_of(inputs, targets, seed, size=64):
    """A DataLoader over inputs (N, T, 1) and targets (N,), in batches of `size`."""
    pairs = TensorDataset(inputs, targets)
    order = torch.Generator().manual_seed(seed)  # decides the order in which they come
    return DataLoader(pairs, batch_size=size, shuffle=True, generator=order)


def report_batches(inputs, targets, seed):
    """Go once through the training windows in batches, as section 3 will."""
    sizes = []
    for batch, answers in batches_of(inputs, targets, seed):  # (B, T, 1), (B,)
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
# nn.Linear(T, 1) is just that.  It reads (N, T), so the feature axis comes off again; a
# recurrent network keeps it.  Statisticians call this model an autoregression: a line
# (regression) through the series' own (auto) past.


def show_line():
    """Three choices of weights for the window 4 5 6, by nn.Linear."""
    choices = [
        ("0 * 4 + 0 * 5 + 1 * 6", [0.0, 0.0, 1.0], "the last value again"),
        ("1/3 * 4 + 1/3 * 5 + 1/3 * 6", [1 / 3, 1 / 3, 1 / 3], "the mean"),
        ("0 * 4 - 1 * 5 + 2 * 6", [0.0, -1.0, 2.0], "on as from 5 to 6"),
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
# is also a formula, called least squares.  With T = 1 the examples are points in a
# plane, x the value and y the next one, and a pencil is enough:
#
#     weight = sum of (x - mean x)(y - mean y)  /  sum of (x - mean x)^2
#     bias = mean y - weight * mean x
#
# (Where from?  Take the sum of (weight * x + bias - y)^2.  At its smallest value both
# of its derivatives, by weight and by bias, are zero: two equations, and this solves
# them.)
#
# With more values to read the computer solves for all weights at once: the same idea.
# (Lesson 06 has this line among its rivals, as utils.autoregression.)

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
    """Fit a line to the toy by hand, by lstsq and by utils; then one that reads two."""
    values = torch.tensor(TOY, dtype=torch.double)  # (9,)
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
    weights, constant = fit_line(inputs[:, :, 0], targets)
    gap = max(abs(weights[0].item() - weight), abs(constant.item() - bias))
    print(f"torch.linalg.lstsq finds {same(gap)}.")

    fibonacci = torch.tensor([1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0])  # (7,)
    inputs, targets = make_windows(fibonacci, 2, 1)  # (5, 2, 1), (5,)
    weights, bias = fit_line(inputs[:, :, 0], targets)
    after = torch.tensor([13.0, 21.0]) @ weights + bias
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


def line_on_series(values, length, horizon):
    """Fit the line on train: weights (T,), part -> forecasts in the series' units.

    values: an array (n,), in 64-bit numbers, as the formula needs many digits.
    """
    scaled, mean, std = scale_by_train(values)  # (n,)
    scaled = torch.from_numpy(scaled)
    inputs, targets = make_windows(scaled, length, horizon)  # (N, T, 1), (N,)
    inputs = inputs[:, :, 0]  # (N, T)
    parts = split_windows(len(values), length, horizon)
    weights, bias = fit_line(inputs[parts["train"]], targets[parts["train"]])
    made = {}
    for part, windows in parts.items():
        answers = inputs[windows] @ weights + bias  # (M,), scaled
        made[part] = answers.numpy() * std + mean  # (M,), back in units
    return weights, made


def report_line(series, length, horizon):
    """Print errors of the line, its weights, and forecasts beside the last value's.

    Returns part -> RMSE.
    """
    values = series.to_numpy()
    n1, n2 = utils.split_by_time(len(values))
    weights, made = line_on_series(values, length, horizon)
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
    newest = weights.flip(0)[:5]  # the weight of the last value comes first
    print(f"Its weights, that of the last value first: {as_row(newest, '.2f')} ...")
    if length > 1:
        below = int((weights < 0).sum())
        text = f"All {length} add up to {weights.sum():.2f}; below 0: {below} of them."
        if 0.3 < newest[0] < 0.7 and newest[1:].min() > 0:
            text += f"""  So the line trusts the last value by {newest[0]:.0%}, and asks
            the ones before it too.  One value alone is noisy."""
        utils.say(text)

    truth = values[n2:]  # (M,)
    known = values[n2 - horizon : len(values) - horizon]  # (M,): the last known value
    off_by_line = np.abs(made["test"] - truth)  # (M,)
    off_by_last = np.abs(known - truth)  # (M,)
    rows = np.linspace(0, len(truth) - 1, 7).astype(int)  # seven, evenly spread
    print("Seven of its forecasts, and how far off the last value would have been:")
    print("  date         last known      truth   forecast    off by   last off by")
    for row in rows:
        numbers = f"{known[row]:10.4g} {truth[row]:10.4g} {made['test'][row]:10.4g}"
        off = f"{off_by_line[row]:9.3g} {off_by_last[row]:13.3g}"
        print(f"  {date_at(series, n2 + row)}   {numbers} {off}")
    nearer = off_by_last < off_by_line  # (M,)
    share = nearer.mean()
    text = f"""Reading it: the last value itself is nearer in {nearer[rows].sum()} rows of
    7.  But seven rows prove nothing: in the whole test part it is nearer in
    {nearer.sum()} of {len(nearer):,}, {share:.0%}."""
    lead = off_by_line.mean() < off_by_last.mean()
    if lead and 0.4 < share < 0.6:
        text += f"""  So whoever counts sees little between the two.  The line's lead is in
        the size of its errors, on average {off_by_line.mean():.4g} against
        {off_by_last.mean():.4g}.  Section 4 compares with care."""
    utils.say(text)
    return errors


# --- batch by batch -----------------------------------------------------------------
#
# A network has no formula.  It starts somewhere, looks at one batch of examples, and
# moves each weight a small step in the direction that makes the error on this batch
# smaller.  Then comes the next batch.  PyTorch finds the direction: `loss.backward()`
# leaves in `weight.grad` how the loss grows with that weight, so the step goes against
# it.  (How it does that is the matter of lesson 04.)
#
# A line can learn in that way, too.  So here one sees the examples at work, and knows
# where the search must end: at least squares.


def train_by_batches(inputs, targets, epochs, step_size, seed):
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
                    weight -= step_size * weight.grad
    return layer


def show_search():
    """Search for the line of the toy: it comes to the weight 0.5 and the bias 3."""
    mean = 4.0  # of the inputs
    std = 2.0  # a round number near theirs
    values = (torch.tensor(TOY) - mean) / std  # (9,)
    inputs, targets = make_windows(values, 1, 1)  # (8, 1, 1), (8,)
    print("\nThe same toy line, searched for step by step (all 8 examples a batch),")
    print("in scaled numbers, (value - 4) / 2; the table is back in the toy's units")
    print("  steps   weight    bias   after the 9")
    for steps in (0, 1, 5, 20, 200):
        layer = train_by_batches(inputs, targets, steps, 0.2, seed=0)
        weight = layer.weight.item()
        # Scaled, the line is y' = weight * x' + bias'.  In the units of the toy its
        # bias is another: put x' = (x - mean) / std and y' = (y - mean) / std.
        bias = layer.bias.item() * std + mean - weight * mean
        after = weight * TOY[-1] + bias
        print(f"  {steps:>5}   {weight:6.3f}  {bias:6.3f}   {after:6.3f}")
    utils.say(
        """Reading it: at 0 steps weight and bias are 0 in scaled numbers, and a scaled 0
        is 4 in the toy's units: whatever comes in, the answer is 4.  The search ends
        where the formula stands at once: 0.5, 3 and 7.5."""
    )


def search_on_series(scaled, mean, std, length, horizon, epochs, step_size, args):
    """As line_on_series, but batch by batch: weights, part -> forecasts in units."""
    series = torch.tensor(scaled, dtype=torch.float32, device=args.device)  # (n,)
    inputs, targets = make_windows(series, length, horizon)  # (N, T, 1), (N,)
    parts = split_windows(len(series), length, horizon)
    train = parts["train"]
    layer = train_by_batches(
        inputs[train], targets[train], epochs, step_size, args.seed
    )
    made = {}
    for part, windows in parts.items():
        with torch.no_grad():
            answers = layer(inputs[windows][:, :, 0])[:, 0]  # (M,), scaled
        made[part] = answers.cpu().numpy().astype(float) * std + mean  # (M,)
    return layer.weight[0].detach().cpu().double(), made


# Is scaling needed?  Two trainings on unscaled values try to do without.  The first
# takes the same step size.  The second takes one that is smaller by the mean square of
# the values, because that is by how much the gradients of the weights are larger.  On
# the sunspots it loses little by that.  On the prices of --dataset stock it loses much:
# 39.7 on train, where scaled values have 20.4 after as many epochs.


def report_search(values, length, horizon, errors, args):
    """Print the errors of the line that learned by batches, and least squares'.

    errors: part -> RMSE of least squares.  Returns the row of the longest training.
    """
    n1, n2 = utils.split_by_time(len(values))
    truths = {"train": values[length + horizon - 1 : n1], "test": values[n2:]}
    most = max(2, min(30, 60_000 // len(truths["train"])))  # fewer for a long series
    by_train = scale_by_train(values)
    not_scaled = (values, 0.0, 1.0)  # mean 0 and std 1 change nothing
    # The more values are added up, the farther a step moves the sum: so smaller steps.
    step_size = 0.36 / length  # 0.01 for T = 36
    smaller = step_size / np.mean(values[:n1] ** 2)
    last = f"{most} epochs"
    same_step = f"{last}, not scaled"
    small_step = f"{last}, not scaled, smaller steps"
    found = {
        "1 epoch": search_on_series(*by_train, length, horizon, 1, step_size, args),
        last: search_on_series(*by_train, length, horizon, most, step_size, args),
        same_step: search_on_series(
            *not_scaled, length, horizon, most, step_size, args
        ),
        small_step: search_on_series(*not_scaled, length, horizon, most, smaller, args),
        "least squares": line_on_series(values, length, horizon),
    }
    rows = {}
    for name, (weights, made) in found.items():
        # In units, a forecast is weights * values + bias.  So the bias is what is left.
        products = weights.numpy() @ values[:length]
        rows[name] = {
            "train RMSE": rmse(made["train"] - truths["train"]),
            "test RMSE": rmse(made["test"] - truths["test"]),
            "bias": float(made["train"][0] - products),
        }
    utils.print_table("The line of the series, batch by batch", rows, corner="after")
    more = rows[last]["train RMSE"] - errors["train"]
    text = "Reading it: on train nothing can go below least squares.  "
    if more < 0.05 * errors["train"]:
        text += f"""{last} come within {more / errors["train"]:.1%} of it: two ways, one
        line.  (On test either may be ahead by a little.)"""
    else:
        text += "The search has not arrived there yet; more epochs go on with it."
    utils.say(text)
    if np.isnan(rows[same_step]["train RMSE"]):
        utils.say(
            """nan is "not a number": without scaling the same step size is far too
            large.  Each step overshoots, the next overshoots more, until the numbers are
            too large to be written."""
        )
    if rows[small_step]["train RMSE"] > 1.01 * rows[last]["train RMSE"]:
        text = """Smaller steps do not overshoot.  But after as many epochs they are
        farther from least squares than with scaling: one step size serves all weights,
        and it does not suit all.  """
        bias = rows[small_step]["bias"]
        goal = rows["least squares"]["bias"]
        if abs(bias) < 0.1 * abs(goal):
            text += f"""See the bias.  It is multiplied by 1, the weights by values of
            {np.abs(values[:n1]).mean():.4g} on average.  So for the bias the step is far
            too small: it has come to {bias:.2g} of {goal:.3g}.  """
        text += """And every series would need a step size of its own.  That is why one
        scales."""
        utils.say(text)
    utils.say(
        f"""That answers the first half of the title: of {len(values):,} values came
        {len(truths["train"]):,} training examples, and of these {length + 1} numbers,
        the weights and the bias.  Is an RMSE of {errors["test"]:.4g} on test good?  And
        may one believe it?"""
    )
    return rows[last]


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
#   RMSE  as above.  One large error weighs more than several small ones.
#   MAE   mean absolute error: drop the signs, take the mean.
#   MASE  mean absolute scaled error: MAE divided by how much the training values change
#         from one to the next, on average.  That change is the error of whoever says
#         the last value again.  MASE has no units, so that series can be compared.  1
#         is as good as that was in train, below 1 is better.  Above 1 need not be bad:
#         the test years may be rougher than train was.  And the unit is the change of
#         one step also where h is larger; there a MASE above 1 is the rule.


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
    # One large error among small ones.  In the squares the 6 makes 36 of 41, in the
    # sizes only 6 of 9: so RMSE tells of it more loudly than MAE.
    errors = [1.0, -2.0, 6.0]
    found = scores_by_hand(errors, train=[10.0, 13.0, 9.0, 14.0])
    print("Three measures by hand: the errors 1, -2 and 6")
    print(f"  RMSE   root of (1 + 4 + 36) / 3   = {found['RMSE']:.2f}")
    print(f"  MAE    (1 + 2 + 6) / 3            = {found['MAE']:.2f}")
    print("  MASE   the training values 10 13 9 14 change by 3, 4, 5: 4 on average")
    print(f"         3 / 4                      = {found['MASE']:.2f}")
    # The shared function is not given train: its mean change, 4, is handed in.  Thus
    # one number, found once, serves for every rival.
    shared = utils.forecast_scores(np.array(errors), naive_mae=4.0)
    gap = max(abs(shared[name] - found[name]) for name in found)
    utils.say(
        f"""RMSE is above MAE, because one large error stands out.
        utils.forecast_scores finds {same(gap)}."""
    )


# --- rules of one line --------------------------------------------------------------
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
    """Work the three rules on the toy, and compare with the shared ones."""
    origin = len(TOY) - 1  # place 8
    by_hand = {
        "persistence": persistence_by_hand(TOY, origin),
        "seasonal naive": seasonal_naive_by_hand(TOY, origin, 1, season=3),
        "moving average": moving_average_by_hand(TOY, origin, width=3),
    }
    print(f"\nThree baselines by hand: what comes after {as_row(TOY)}?")
    print(f"  persistence      the last value         = {by_hand['persistence']:g}")
    print(f"  seasonal naive   place 9 - 3 = 6        = {by_hand['seasonal naive']:g}")
    print(f"  moving average   (3 + 6 + 9) / 3        = {by_hand['moving average']:g}")
    farther = seasonal_naive_by_hand(TOY, origin, 5, season=3)

    # The shared functions take arrays, many origins, and several steps ahead.
    values = np.array(TOY)  # (9,)
    origins = np.array([origin])  # (1,)
    shared = {
        "persistence": utils.persistence(values, origins, steps=[1]),
        "seasonal naive": utils.seasonal_naive(values, origins, steps=[1], season=3),
        "moving average": utils.moving_average(values, origins, steps=[1], width=3),
    }
    gaps = [abs(shared[name][0, 0] - by_hand[name]) for name in shared]
    utils.say(
        f"""Five steps ahead is place 13; one season before it, place 10, is not known
        yet.  So seasonal naive goes back one season more, to place 7: {farther:g}.  The
        shared functions find {same(max(gaps))}."""
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
# the same sum at lag 0, this is the autocorrelation r_k.  It is near 1 for the same
# again (a little less, since k values at the end have no partner), 0 where the one says
# nothing about the other, and below 0 for the opposite.
#
# utils.find_season takes the highest peak after r_k first fell below 0, where high met
# low, if it is too high for chance, and if the season fits three times into train.


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
    season = utils.find_season(np.array(wave))
    print(f"utils.autocorrelation finds {same(gap)}; utils.find_season says {season}.")


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
    if season:
        lags |= {season // 2, season}
    lags = sorted(lag for lag in lags if lag <= most)
    r = utils.autocorrelation(train, most)  # (most + 1,)
    print("\nAutocorrelation of the training values")
    for lag in lags:
        bar = "#" * round(20 * abs(r[lag]))
        left = bar if r[lag] < 0 else ""
        right = bar if r[lag] > 0 else ""
        shown = round(r[lag], 2) + 0.0  # + 0.0 makes a plain zero of -0.00
        print(f"  lag {lag:>4}   {shown:6.2f}   {left:>20}|{right}")
    utils.say(
        """Reading it: where r_k is far from 0, a value tells much about the one k steps
        later.  r_1 near 1 is memory: the next value is like this one.  If r_k sinks
        below 0 and rises to a second peak, the series has a season.  If it sinks slowly
        and no second peak comes, the series climbs, or wanders like a price."""
    )
    print(f"Found: {'no season' if season is None else f'a season of {season} steps'}.")
    if season and source.name == "sunspots":
        print(f"{season} months are {season / 12:.1f} years: the sun's cycle.")


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


def report_comparison(rows, fitted, train, source, length, horizon):
    """Print the table, with a sentence for what may puzzle in it."""
    utils.print_table(f"All rivals on {source.label}, {ahead(horizon)}", rows)
    print("Reading it, row by row:")
    # Each sentence waits for what it speaks of: with T = 1 there is no width to choose,
    # and without a season no row of seasonal naive.
    if length > 1:
        utils.say(
            f"""- The moving average takes the last {fitted.width} values: of 2 to
            {length}, that many erred least on train."""
        )
    if fitted.season:
        # Each of these two rules repeats one old value.  r_k at its distance k from the
        # target tells how much to expect of it: the larger r_k should have the smaller
        # error.  Farther ahead than a season, the newest value of the same phase lies two
        # seasons before the target, or more:   # season 50, h 60: 100 steps apart
        distance = fitted.season * math.ceil(horizon / fitted.season)
        r = utils.autocorrelation(train, max(distance, horizon))  # r_0, r_1, ...
        text = f"""- Seasonal naive relies on values {distance} steps apart, whose
        r_k is {r[distance]:.2f}; persistence on values {horizon} apart, whose r_k
        is {r[horizon]:.2f}."""
        if source.name == "sunspots" and r[distance] < r[horizon]:
            text += """  The cycles are real, but unequal in length and height, so one
            season ago was often another phase."""
        utils.say(text)
    # Only one step ahead: that is the distance at which MASE has its unit.  Farther
    # ahead persistence mostly has more than 1 in train, too.
    mase = rows["persistence"]["test MASE"]
    if horizon == 1 and mase > 1.05:
        utils.say(
            f"""- Persistence has MASE {mase:.2f}, and by definition 1 in train: the test
            part is rougher.  So compare within the column, not with 1."""
        )


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
# It takes the differences as independent.  One step ahead that is nearly so at best:
# calm and rough times come in spells.  So take a p near 0.05 for a hint.  For h > 1
# neighbouring forecasts share most of their fate, as if one coin were counted several
# times.  So h neighbours are averaged to one difference.  Lesson 06 has a way that uses
# all of them.


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
    # The std is an estimate from M differences; so t is compared with a t distribution
    # of M - 1.  sf gives the share of it that lies beyond t; we count both sides.
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
    t, p = luck(made[best][in_test] - truth, made[rival][in_test] - truth, horizon)
    change = rows[best]["test RMSE"] / (rows[rival]["test RMSE"] or 1.0) - 1
    side = "above" if change > 0 else "below"
    verdict = "more than luck" if p < 0.05 else "it may be luck"
    utils.say(
        f"""Best on validation: {best}.  On the {len(truth):,} values of test its RMSE
        is {abs(change):.1%} {side} that of {rival}.  t = {t:.2f}, {as_text_p(p)}:
        {verdict}."""
    )
    return p


# --- how long, how far --------------------------------------------------------------
#
# How long should a window be?  Longer ones show more, but each value more is one weight
# more to learn from the same examples, and a line with many weights begins to fit the
# noise.  So it is tried out, on validation.
#
# That noise is learned shows where train and validation part: the error on train goes
# on falling, and the error on validation rises again.
#
# And how far ahead?  That is what you want to know, so it is not tried but asked for.
# But whoever asks for more should expect less.  Each distance takes windows of its own,
# and a line of its own.


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
            rows[str(length)] = {
                "train RMSE": rmse(made["train"] - truth),
                "val RMSE": rmse(made["val"] - values[n1:n2]),
            }
    if not rows:
        return
    utils.print_table("How long should a window be?", rows, corner="values read")
    errors = {int(length): row["val RMSE"] for length, row in rows.items()}
    best = min(errors, key=errors.get)
    near = [length for length in errors if errors[length] <= 1.01 * errors[best]]
    most = max(errors)
    text = f"Reading it: on validation the smallest stands at {best}.  "
    if len(near) > 1:
        text += f"""At most 1 % above it: {as_row(near)}; any of these would do.  """
    if best == most:
        text += "It is the longest that was tried, so a longer one may be better still."
    elif (
        most not in near
        and rows[str(most)]["train RMSE"] < rows[str(best)]["train RMSE"]
    ):
        text += f"""From {best} to {most} the error goes on falling on train, but it is
        larger on validation.  There {most + 1} numbers are learned from
        {n1 - most - horizon + 1:,} examples, and what they learn more is noise: this is
        called overfitting.  (A longer window leaves out the first few examples of
        train.)"""
    utils.say(text)


def report_distances(values, length, fitted, source):
    """Print RMSE on validation of three forecasters, several steps ahead."""
    n1, _ = utils.split_by_time(len(values))
    rows = {}
    season_wins = []  # the distances at which seasonal naive is the best of the three
    for horizon in (1, 3, 12, 60):
        if not enough_windows(n1, length, horizon):
            continue
        targets, made = all_forecasts(values, length, horizon, fitted)
        scores = score_all(values, targets, made, fitted)
        rows[ahead(horizon)] = {
            name: scores[name]["val RMSE"]
            for name in ("persistence", "seasonal naive", "fitted line")
            if name in scores
        }
        if min(rows[ahead(horizon)], key=rows[ahead(horizon)].get) == "seasonal naive":
            season_wins.append(horizon)
    if not rows:
        return
    utils.print_table(f"How far ahead?  {source.label}, RMSE on validation", rows, "")
    text = """Reading it: a row is a question, and each has a line of its own, fitted on
    windows with that h."""
    line = [row["fitted line"] for row in rows.values()]
    if line == sorted(line):
        text += "  Whoever asks for more steps gets a larger error."
    if fitted.season and fitted.season > 60:
        text += "  Seasonal naive reads the same old value in every row, so it stays."
    utils.say(text)
    if season_wins:
        far = season_wins[-1]
        r = utils.autocorrelation(values[:n1], far)[far]
        text = f"{far} steps ahead the season wins.  "
        if r < 0:
            text += f"""So far ahead the last value points the wrong way (r_{far} is
            {r:.2f}): high now means low then.  """
        text += """The value of one season ago still says something.  (This is
        validation.  What of test?  See Try this.)"""
        utils.say(text)


def report_noise(noise, test_rmse):
    """For the sine: print the error that no forecast can avoid; returns its square."""
    floor = float(np.mean(noise**2))
    print("\nHow good could any forecast be?  The noise has variance 0.04; in the test")
    print(f"part its mean square is {floor:.4f}.  The past knows nothing of it, so but")
    print("for luck nobody does better than the sine without noise:")
    print(f"  RMSE {floor**0.5:.4f}; the best on validation has {test_rmse:.4f}.")
    print("An error well below the first would mean that answers have leaked in.")
    return floor


# A second place for a pause.  May one believe such a number?  Four common mistakes make
# it look better than it is.  The first is the mildest.
#
# --- trap 1: a ruler that has seen the test -----------------------------------------
#
# Many programs scale the whole series first and split afterwards.  Then mean and std
# have seen the test years.  If these are rougher than train, the std comes out larger:
# a longer ruler.  And an error that is measured with a longer ruler looks smaller.


def report_scaling(values, horizon, source):
    """Print persistence's error, scaled by train and by everything.

    Returns by what share the second way changes it, and the two quotients RMSE / std.
    """
    n1, n2 = utils.split_by_time(len(values))
    test = values[n2:]  # (M,)
    last_known = values[n2 - horizon : len(values) - horizon]  # (M,)
    error = rmse(last_known - test)
    rows = {}
    for name, part in (("train alone", values[:n1]), ("everything", values)):
        std = float(part.std())
        rows[name] = {"std": std, "RMSE": error, "RMSE / std": error / std}
    title = f"{source.label}: persistence in test"
    utils.print_table(title, rows, corner="scaled by")
    by_everything = rows["everything"]["RMSE / std"]
    by_train = rows["train alone"]["RMSE / std"]
    lie = 0.0  # without an error there is none to change
    if error:
        lie = by_everything / by_train - 1
    utils.say(
        f"""Reading it: the forecasts are the same, and so is their error.  In scaled
        units, in which many report it, it seems to change by {lie:+.1%}.  (Where train is
        the rougher part, the mistake makes it look larger.)  In the series' own units
        persistence and a line gain nothing.  A network may: the numbers that it reads
        have then seen the test part."""
    )
    return lie, by_everything, by_train


# --- trap 2: shuffled windows -------------------------------------------------------
#
# Test windows drawn at random have neighbours in train.  How much can one cheat with
# that?  To see it clearly, take a series in which nothing can be learned: a price whose
# daily changes are drawn by lot (`utils.simulated_prices`).  Nobody knows whether it
# will go up or down.  So nobody can do much better than to say today's price again.
# Whoever seems to, has seen the answers.
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
# times less.


def most_similar(asked, inputs):
    """For each asked window, (M, T), which of inputs (N, T) is most similar: (M,)."""
    found = []
    for window in asked:
        distances = ((inputs - window) ** 2).sum(dim=1)  # (N,)
        found.append(distances.argmin())
    return torch.stack(found)  # (M,)


def leaked_share(n, length, horizon, train, test):
    """Share of the test targets that some training window holds, as input or target.

    train, test: which windows (a slice, or their numbers).  We cut 0, 1, 2, ... instead
    of the series.  Then each number is a place, and one sees whether it turns up twice.
    """
    inputs, targets = make_windows(torch.arange(n), length, horizon)  # (N, T, 1), (N,)
    seen = torch.cat([inputs[train].flatten(), targets[train]])  # (N_train * (T + 1),)
    return torch.isin(targets[test], seen).double().mean().item()


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
        share = leaked_share(len(values), length, horizon, train, test)
        rows[name]["targets seen in train"] = f"{share:.0%}"
    title = f"A random price, {ahead(horizon)}: RMSE on test windows"
    utils.print_table(title, rows, corner="windows split")
    return rows


def report_leak():
    """Measure trap 2, where nothing can be learned.  Returns the table's rows."""
    rows = report_shuffled(utils.simulated_prices().to_numpy(), 36, 12)
    ratio = rows["at random"]["persistence"] / rows["at random"]["look-up"]
    # The series and the draw are fixed, so the following holds in every run.
    utils.say(
        """Reading it: the last column says how many test targets stand in some training
        window, as input or as target.  The two rows ask about different windows, so
        compare within a row.  By time, no target was seen.  The line is about as good as
        persistence, and nobody can be much better.  The look-up is worse: it repeats an
        old price.  To the luck of our twelve days it adds the luck of the old twelve
        days, and the difference in height between the two windows."""
    )
    utils.say(
        f"""At random, nearly all targets were seen, and the error of persistence is
        {ratio:.1f} times that of the look-up: near the 3.5 that we expected.  It
        forecasts what nobody can forecast.  That is the leak.  Nothing of it will be
        left tomorrow, when the neighbours of the asked window are not known yet.  The
        line gains nothing: with 37 numbers it cannot learn so many windows by heart.  A
        large network can."""
    )
    return rows


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
# forecast two steps ahead, not one.  (One might also use the raw values up to y3.  They
# are left out here, so that both forecasts read the same kind of number.)


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
    half = min(6, (length + horizon) // 3, len(values) // 50)
    if half < 1:
        print("The series is too short to be smoothed.")
        return {}
    smooth = centred_mean(values, half)  # (n - 2 half,)
    # The smoothed value of a date is known `half` steps later.  So at any origin the
    # newest one lies `half` steps back, and the target h + half steps ahead of it.
    asked = {
        "raw": (values, horizon),
        "smoothed": (smooth, horizon),
        "smoothed, honest": (smooth, horizon + half),
    }
    rows = {}
    for name, (numbers, step) in asked.items():
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
    careless = rows["smoothed"]["line RMSE"]
    honest = rows["smoothed, honest"]["line RMSE"]
    text = f"""Reading it: smoothed is what a careless report would say.  honest forecasts
    the same values from smoothed ones that were known: {half} steps older.  """
    if careless:
        text += f"Its error is {honest / careless:.1f} times the careless one.  "
    if honest < rows["raw"]["line RMSE"]:
        text += f"""That the line's error is still below raw is no trick: the target is
        a mean of {2 * half + 1} values, and a mean is easier to hit than one value.  """
    if rows["smoothed, honest"]["persistence RMSE"] > rows["raw"]["persistence RMSE"]:
        text += f"""Persistence gains nothing by that: its value is {half + horizon} steps
        old now, not {horizon}."""
    utils.say(text)
    return rows


# --- trap 4: prices against returns -------------------------------------------------
#
# The other brilliant forecast is that of a share price, a curve right on the truth.
# Look closer, and it is the truth, one day late.  A price is close to the price of the
# day before, so persistence scores high.  But it says nothing that one could use: what
# one wants to know is the change.  As a share of the price before, it is the return:
#
#     return = truth / price before - 1       100 -> 110 is a return of 10 %
#
# Prices and returns differ in size, so a score without units is wanted.  R2 (R squared)
# is 1 minus the squared errors as a share of the squared distances from the mean of the
# true values.  1 is perfect; 0 is no better than always saying that mean (which nobody
# can know beforehand); below 0 is worse.


def r_squared(truth, forecast):
    """R2 = 1 - sum of (truth - forecast)^2 / sum of (truth - mean)^2."""
    distances = ((truth - truth.mean()) ** 2).sum()
    if distances == 0:
        return 0.0  # nothing changes, so there is nothing to explain
    return float(1 - ((truth - forecast) ** 2).sum() / distances)


def show_r_squared():
    """R2 of three forecasts."""
    r2 = r_squared(np.array([2.0, 4.0, 6.0]), np.array([3.0, 4.0, 5.0]))
    print("R2 by hand: the truth is 2 4 6, forecast as 3 4 5")
    print("  squared errors                     1 + 0 + 1 = 2")
    print("  squared distances from the mean 4  4 + 0 + 4 = 8")
    print(f"  R2                                 1 - 2 / 8 = {r2:g}")


def report_prices(prices, source):
    """Print how good forecasts of a price look as prices, and how good as returns.

    One day ahead, T = 36.  prices (n,).  Returns the table's rows.
    """
    _, n2 = utils.split_by_time(len(prices))
    before = prices[n2 - 1 : -1]  # (M,)
    truth = prices[n2:]  # (M,)
    _, made = line_on_series(prices, 36, 1)
    forecasts = {"persistence": before, "fitted line": made["test"]}
    true_returns = truth / before - 1  # (M,)
    print(f"\nFour days of the test part of {source.label}")
    print("  day before   price   return   line: price   line: return")
    said_returns = np.round(made["test"] / before - 1, 4) + 0.0  # no -0.00% in print
    for row in range(4):
        print(
            f"  {before[row]:10.2f} {truth[row]:7.2f} {true_returns[row]:8.2%} "
            f"{made['test'][row]:13.2f} {said_returns[row]:14.2%}"
        )
    off = abs(made["test"][0] / truth[0] - 1)
    utils.say(
        f"""Reading it: on the first of them the line's price is wrong by {off:.2%} of the
        price, which sounds like little.  But the price moved by {true_returns[0]:.2%},
        and the line had said {said_returns[0]:.2%}."""
    )
    rows = {}
    for name, forecast in forecasts.items():
        rows[name] = {
            "R2 of price": r_squared(truth, forecast),
            "R2 of return": r_squared(true_returns, forecast / before - 1),
        }
    utils.print_table("The whole test part", rows)
    utils.say(
        """Reading it: compare the left column with the right one.  Persistence forecasts
        a return of 0 each time, which is a constant; so its R2 of return cannot be above
        0.  A model of prices has something to say only if its own R2 of return is
        clearly above 0."""
    )
    return rows


# --- a picture ----------------------------------------------------------------------
#
# Drawing only; skip it at a first reading.


def plot_forecasts(args, source, series, targets, made, best):
    """The last 60 values of test: truth, persistence, and the best forecast."""
    # Why not all of test?  Then one step is about as thin as the pen, and a copy that
    # comes late looks like the truth.  The targets are places in order of time, so
    # the last 60 of them, and of each forecast, are the end of test.
    recent = targets[-60:]  # (60,), or all of a shorter series
    lines = {"truth": series.to_numpy()[recent]}
    # If the best one is persistence itself, the second round replaces it by the same.
    for name in ("persistence", best):
        lines[name] = made[name][-60:]
    utils.plot_lines(
        args,
        "forecasts",
        f"{source.label}: the end of the test part, {ahead(args.horizon)}",
        lines,
        xlabel="date",
        ylabel="value",
        x=series.index[recent],
        dashed=["persistence"],
    )
    if not args.no_plots:
        late = ahead(args.horizon).removesuffix(" ahead")
        print(f"  Reading it: persistence is the truth once more, {late} too late.")


# --- the answer ---------------------------------------------------------------------


def report_answer(series, line_errors, rows, p, scaled, leak, smoothed, priced, args):
    """Print the answer to the lesson's title, with the figures of this run.

    scaled: RMSE / std by everything, and by train alone.
    """
    best, rival = best_and_rival(rows)
    n1, _ = utils.split_by_time(len(series))
    length = args.sequence_length
    # The windows whose target lies below n1.  n1 = 10, T = 3, h = 1: the targets are
    # the places 3 ... 9, which are 10 - 3 - 1 + 1 = 7.
    train = n1 - length - args.horizon + 1
    test_rmse = rows[best]["test RMSE"]
    test_mase = rows[best]["test MASE"]
    # p alone says only that the two differ; which one is better is asked separately.
    # The one that was best on validation may be the worse one on test.
    verdict = "not surely better than"
    if p < 0.05:
        verdict = "better than"
        if test_rmse > rows[rival]["test RMSE"]:
            verdict = "but on test worse than"
    utils.heading("How does a series become training examples?")
    for sentence in (
        """1. Repair the dates: one value for each, in order; a gap takes the value before
        it, never one that comes later.""",
        "2. Set two borders in time.  Scale by the mean and std of train alone.",
        f"""3. Cut windows, T = {length}, with targets {ahead(args.horizon)}.  The target
        decides the part: {train:,} windows are training examples.  A network gets them
        in batches: inputs (64, {length}, 1), targets (64,).""",
        f"4. Fit.  A line learned from them errs by {line_errors['test']:.4g} on test.",
    ):
        utils.say(sentence)
    utils.heading("And which score may one believe?")
    for sentence in (
        f"""5. One that was compared with rules of one line.  Best on validation: {best},
        {verdict} {rival} ({as_text_p(p)}); on test RMSE {test_rmse:.4g}, MASE
        {test_mase:.2f}.""",
        "6. One that is free of four mistakes:",
    ):
        utils.say(sentence)
    # One row a trap.  Of an error the smaller is the better, of R2 (last row) the
    # larger: so a mistake flatters where its error is below the honest one, or its R2
    # above it.
    print("                           with the mistake    without")
    print(
        f"  scaled by everything     {scaled[0]:16.4f} {scaled[1]:10.4f}    RMSE / std of persistence"
    )
    flattered = leak["at random"]["look-up"]
    honest = leak["by time"]["look-up"]
    print(
        f"  shuffled windows         {flattered:16.4g} {honest:10.4g}    RMSE of a look-up"
    )
    if smoothed:
        flattered = smoothed["smoothed"]["line RMSE"]
        honest = smoothed["smoothed, honest"]["line RMSE"]
        print(
            f"  a smoothed series        {flattered:16.4g} {honest:10.4g}    RMSE of the line"
        )
    flattered = priced["R2 of price"]
    honest = priced["R2 of return"]
    print(
        f"  prices, not returns      {flattered:16.4f} {honest:10.4f}    R2 of persistence"
    )


# ====================================================================================
# 5. Command line
# ====================================================================================


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    # Two real series and two invented ones: of the sine we know how good a forecast can
    # be, and in the simulated price there is nothing to learn.
    utils.add_data_flags(
        parser,
        ["sunspots", "stock", "sine", "simulated"],
        "CSV: a column of dates, one or more of numbers",
        columns=["date"],
    )
    add = parser.add_argument_group("this lesson").add_argument
    size = utils.whole(1, 100_000)
    add("--column", help="what to forecast (default: the obvious one)")
    # T is three years of months; section 4 tries shorter and longer windows.  h = 1 is
    # the plainest question: the very next value.
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

    utils.heading("1. Data: repair, split, scale")
    show_repair()
    report_series(series, repairs, source)
    show_split()
    show_scaling()
    scaled, mean, std = scale_by_train(values)  # (n,)
    show_differences()

    utils.heading("1. Data: windows, each to its part")
    show_windows()
    show_parts()
    report_windows(series, length, horizon)
    tensor = torch.tensor(scaled, dtype=torch.float32, device=args.device)  # (n,)
    report_example(series, tensor, mean, std, length, horizon)
    inputs, targets = make_windows(tensor, length, horizon)  # (N, T, 1), (N,)
    train = split_windows(len(values), length, horizon)["train"]
    report_batches(inputs[train], targets[train], args.seed)

    utils.heading("2. Model: a line")
    show_line()

    utils.heading("3. Training: by a formula, and batch by batch")
    show_fit()
    line_errors = report_line(series, length, horizon)
    show_search()
    searched = report_search(values, length, horizon, line_errors, args)

    utils.heading("4. Evaluation: is the line good?")
    n1, n2 = utils.split_by_time(len(values))
    show_scores()
    show_baselines()
    show_autocorrelation()
    fitted = fit_on(values[:n1], length, horizon)
    report_autocorrelation(values[:n1], fitted.season, source)
    targets, made = all_forecasts(values, length, horizon, fitted)
    rows = score_all(values, targets, made, fitted)
    report_comparison(rows, fitted, values[:n1], source, length, horizon)
    show_luck()
    p = report_luck(rows, made, targets, values, horizon)
    best, _ = best_and_rival(rows)
    plot_forecasts(args, source, series, targets, made, best)
    report_lengths(values, length, horizon)
    report_distances(values, length, fitted, source)
    metrics = {
        "val_rmse": rows[best]["val RMSE"],
        "test_rmse": rows[best]["test RMSE"],
        "test_mae": rows[best]["test MAE"],
        "test_mase": rows[best]["test MASE"],
        "p_of_lead": p,
        "line_test_rmse": line_errors["test"],
    }
    if np.isfinite(searched["test RMSE"]):
        metrics["line_by_batches_test_rmse"] = searched["test RMSE"]
    if source.name == "sine":
        noise = utils.sine_series()[1].to_numpy()[n2 : len(values)]
        metrics["test_noise_variance"] = report_noise(noise, metrics["test_rmse"])

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
    market = source
    if source.name != "stock" or series.name == "volume":  # this part needs prices
        prices = utils.simulated_prices().to_numpy()
        market = utils.Source("simulated", None, False)
        utils.say(
            """The random price of trap 2 again, one day ahead.  (For a real one: --dataset
            stock.)"""
        )
    priced = report_prices(prices, market)["persistence"]

    report_answer(
        series, line_errors, rows, p, scaled_errors, leak, smoothed, priced, args
    )
    metrics["scaling_lie"] = lie
    metrics["look_up_rmse"] = leak["by time"]["look-up"]
    metrics["look_up_shuffled_rmse"] = leak["at random"]["look-up"]
    for name, row in smoothed.items():
        key = name.replace(", ", "_")  # raw, smoothed, smoothed_honest
        metrics[f"{key}_line_rmse"] = row["line RMSE"]
    baselines = {name: row["test RMSE"] for name, row in rows.items()}
    utils.write_metrics(args, source, metrics, baselines)


if __name__ == "__main__":
    sys.exit(utils.run(main))
