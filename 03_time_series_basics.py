"""03 · How does a series become training examples?

A series is one long row of numbers, each with its date: sunspots by month, a price by
day.  A network cannot learn from one row.  It learns from many examples, and an example
is a pair: what the network may read (the input) and what it should answer (the target).
This lesson makes the pairs, first by hand on ten numbers, then fast on a real series:

    dated rows -> repaired -> windows -> split by time -> scaled -> tensors

Each arrow can spoil every later result without an error message, and this lesson
measures by how much.  It trains no network.  It ends with five forecasts that need
none, which the network of lesson 06 has to beat.

What you will learn
    - to repair dates that are out of order, written twice, or missing
    - to cut a series into windows: T values to read, and one to answer with, h steps
      later (the horizon)
    - to split windows by time, and what a shuffled split gives away
    - to scale by the training span alone, and how large the lie is otherwise
    - to see memory and season in a series, by laying it beside itself
    - five baselines (forecasts by a rule of one line), three measures of their errors
    - three traps: shuffled windows know the answers, a smoothed series knows its
      future, and a copied price looks like skill

You need lesson 01 (a batch of sequences has the shape (B, T, F)), and arrays in NumPy.

Run it
    python 03_time_series_basics.py
    python 03_time_series_basics.py --dataset stock
    python 03_time_series_basics.py --dataset sine --horizon 12

You should see  (sunspots [real], one thread, about 5 seconds in all)
      baseline         test RMSE   test MASE
      persistence        19.7322      1.2750     the last value again
      moving average     19.4889      1.2541     the mean of the last 2
      drift              19.7319      1.2749     on along a straight line
      seasonal naive     44.8352      2.9008     the value 127 months ago
      autoregression     17.9852      1.1599     a weighted sum of the last 36
    RMSE is the typical size of an error; MASE is 1 for as good as copying the last
    value was in the training years.  The autoregression is best on validation, the part
    of the data that one chooses by, and on test it is better than persistence by more
    than luck (p = 0.001).  Then the ways to be fooled:
      scaled by everything    the same forecast seems 12.8 % better
      shuffled windows        a mere look-up seems to err by 22.39, not by 29.06
      smoothed series         an error of 1.6 that is honestly 10.0
    --dataset sine [sample]: autoregression 0.2101, where the noise alone is 0.2042.
    --dataset stock [real]: the scaling's lie is 63.3 %.  Prices have R2 0.98 (1 is
    perfect), their returns 0.00 by persistence and 0.04 by the moving average
    (correlation 0.29); before the crash of February 2020, -0.22 and 0.04.

Try this  (guess first, then run)
    --horizon 12, then 60        on the sunspots: which baseline is the best then?
    --dataset sine --horizon 25  half a period: which one is the worst, and why?
    --sequence-length 6          which lines of the output change, and which cannot?
    --input my.csv --column NAME
                                 does a season show in your own data?
"""

# Sizes
#     n  values in the series        T  values in one window (--sequence-length)
#     N  windows, that is examples   h  steps from a window's end to its target
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

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================
#
# Four things happen to a series before a network sees it, in this order:
#
#   repair   one value for each date, dates in order, none left out
#   window   many short pieces, each with the value that came after it: the examples
#   split    training examples from the early years, test examples from the last ones
#   scale    numbers of a size that a network can learn from
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
    """By date.  Rows of the same date stay in the order of the file."""
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
    while date <= rows[-1][0]:
        if values.get(date) is not None:  # get: None too where there is no such row
            known = values[date]
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


# --- windows ------------------------------------------------------------------------
#
# A window of T values is laid on the series; the value h steps behind its end is the
# target.  Then the window moves on by one place, and that is the next example.  With
# T = 3 and h = 2 on the numbers 1 to 10 (a dot is a value in between, not used):
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
    for start in range(len(values) - length - horizon + 1):
        end = start + length  # the first place behind the window
        inputs.append(values[start:end])
        targets.append(values[end - 1 + horizon])  # end - 1: the window's last place
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
# that belongs to one step, and we have one, so an axis of size 1 is added at the end.


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
    for k in range(len(loop_inputs)):
        window = " ".join(f"{value:2g}" for value in loop_inputs[k])
        print(f"  window {k}   {'   ' * k}[{window}]  . {loop_targets[k]:2g}")
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


def report_windows(values, length, horizon):
    """Print how many windows the series gives, and the memory that a view saves."""
    inputs, targets = make_windows(values, length, horizon)  # (N, T, 1), (N,)
    shared = inputs.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()
    print(f"\nWindows of the series, T = {length}, h = {horizon}")
    print(f"  {len(values):,} - {length} - {horizon} + 1 = {len(inputs):,} of them")
    print(f"  inputs {tuple(inputs.shape)}, targets {tuple(targets.shape)}")
    print(f"The series takes {values.nbytes:,} bytes, and the windows lie in the same")
    print(f"memory: {shared}.  Copied, they would take {inputs.nbytes:,} bytes.")


# --- split --------------------------------------------------------------------------
#
# A model is fitted on one part of the data (train), choices are made by a second (val,
# for validation), and the third is opened once, to tell how good it all is (test).  A
# forecast is used on days that come after all that we know.  So test comes last:
#
#     |------------- train 70 % -------------|-- val 15 % --|-- test 15 % --|
#     0                                      n1             n2              n   places
#
# Windows do not care about these borders.  Which part is a window in that lies across
# one?  Two rules settle it:
#
#   1. The target decides.  A window belongs to the part in which its target lies.  So
#      every value of val and of test is asked for exactly once, and no target stands
#      in two parts.
#   2. Inputs may reach back over a border.  When that forecast is made they are past,
#      and everyone knows them.  They never reach forward: they end before the target.
#
# So a window across the border is no training example, for its target is not train's to
# know.  It is an example of the later part, and none is lost.


def part_of(place, n1, n2):
    """The part in which a target lies, by its place."""
    if place < n1:
        return "train"
    if place < n2:
        return "val"
    return "test"


def split_windows(n, length, horizon):
    """Part -> slice of the windows whose target lies in that part.

    Window k has its target at place k + T + h - 1.  So the first window of a part that
    begins at place p is number p - (T + h - 1).
    """
    n1, n2 = utils.split_by_time(n)
    offset = length + horizon - 1
    return {
        "train": slice(0, n1 - offset),
        "val": slice(n1 - offset, n2 - offset),
        "test": slice(n2 - offset, n - offset),
    }


def show_split():
    """Put each window of the numbers 1 to 10 into its part, by rule and by slices."""
    n1, n2 = utils.split_by_time(10)
    print("\nSplit by hand: the same six windows")
    print(f"utils.split_by_time: the first 0.70 * 10 = {n1} values, 1 to 7, are train;")
    print(f"val ends at 0.85 * 10 = 8.5, rounded to {n2}: it is 8.  9 and 10 are test.")
    inputs, targets = windows_by_loop(list(range(1, 11)), 3, 2)
    by_rule = {"train": [], "val": [], "test": []}
    for k in range(len(inputs)):
        place = k + 3 + 2 - 1  # of the target
        part = part_of(place, n1, n2)
        by_rule[part].append(k)
        reason = "lies in train as a whole"
        if part != "train":
            reason = f"{targets[k]} is a value of {part}; {inputs[k]} is past by then"
        print(f"  {inputs[k]} -> {targets[k]:>2}   {part:<5}   {reason}")
    by_slice = {}
    for part, windows in split_windows(10, 3, 2).items():
        by_slice[part] = list(range(6))[windows]
    print(f"split_windows, by three slices, finds the same: {by_slice == by_rule}.")
    print("[4, 5, 6] -> 8 lies across the border and is no training example: it would")
    print("tell the answer to a question of validation.  It is that question itself.")
    print("Some must be dropped only where one window has several targets, as in")
    print("lesson 06: [4, 5, 6] -> 7, 8 has one in train and one in val, so neither")
    print("part can use it.")


# Why not shuffle all windows and draw the test windows at random, as one does with
# photographs?  Neighbours overlap.  Draw the second window as a test window:
#
#     [2  3  4] -> 6    test
#     [4  5  6] -> 8    train      the answer, 6, stands among its inputs
#     [5  6  7] -> 9    train      and here
#
# Section 4 measures what that does to a score.


def leaked_share(n, length, horizon, train, test):
    """Share of the test targets that some training window holds, as input or target.

    train, test: which windows (a slice, or their numbers).  Windows cut from the
    numbers 0 ... n-1 hold their own places, so equal numbers are the same value.
    """
    inputs, targets = make_windows(torch.arange(n), length, horizon)  # (N, T, 1), (N,)
    seen = torch.cat([inputs[train].flatten(), targets[train]])  # (N_train * (T + 1),)
    return torch.isin(targets[test], seen).double().mean().item()


def report_split(series, length, horizon):
    """Print each part of the series, and what a shuffled split would give away."""
    n = len(series)
    _, places = make_windows(torch.arange(n), length, horizon)  # (N,), of the targets
    parts = split_windows(n, length, horizon)
    print("\nSplit of the series by time")
    total = 0
    for part, windows in parts.items():
        of_part = places[windows]
        first = date_at(series, int(of_part[0]))
        last = date_at(series, int(of_part[-1]))
        print(f"  {part:<5}  {len(of_part):>6,} windows, targets {first} to {last}")
        total += len(of_part)
    print(f"Together {total:,} of {len(places):,}: none dropped, none counted twice.")
    shuffled = torch.randperm(len(places))
    count = len(places[parts["test"]])
    by_time = leaked_share(n, length, horizon, parts["train"], parts["test"])
    at_random = leaked_share(n, length, horizon, shuffled[count:], shuffled[:count])
    print("How many test targets stand in some training window as well?")
    print(f"  split by time                     {by_time:6.1%}")
    print(f"  test windows drawn at random      {at_random:6.1%}")


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
# The right half leads back: a network's answers are scaled numbers too.
#
# Mean and std are learned from data, like weights.  So they come from the training span
# alone.  Whoever takes them from the whole series has looked at the test span.


def show_scaling():
    """Scale the numbers 1 to 10 by hand; show what tanh makes of large numbers."""
    print("\nScaling by hand.  Why at all?  tanh of 20, 80 and 150 sunspots is")
    counts = torch.tensor([20.0, 80.0, 150.0])  # (3,)
    scaled = (counts - 45) / 38  # (3,), about the mean and std of the sunspots
    for name, given in (("as they are", counts), ("(x - 45) / 38", scaled)):
        squeezed = torch.tanh(given)  # (3,)
        print(f"  {name:<15}", "  ".join(f"{number:6.3f}" for number in squeezed))
    print("As they are, few and many look the same to a network.")

    numbers = np.arange(1.0, 11.0)  # (10,)
    train = numbers[:7]  # (7,)
    mean = sum(train) / 7
    squares = [(value - mean) ** 2 for value in train]
    std = (sum(squares) / 7) ** 0.5
    scaled = (numbers - mean) / std  # (10,)
    back = 1.5 * std + mean
    print("The numbers 1 to 10, scaled by their training span 1 to 7")
    print(f"  mean of 1 to 7          {mean:g}")
    print("  squared distances      ", " ".join(f"{square:g}" for square in squares))
    print(f"  std                     root of their mean, {std**2:g}, is {std:g}")
    print("  scaled                 ", " ".join(f"{number:g}" for number in scaled))
    print(f"  back: an answer of 1.5  1.5 * {std:g} + {mean:g} = {back:g}")
    print("The values of val and test, 2 to 3, lie above all of train.  That is no")
    print("fault of the scaling: the series climbs, and a network must be told so.")

    # The lie: the same forecast, the same error, another ruler.
    all_std = numbers.std()
    honest = 2 / std
    flattering = 2 / all_std
    better = 1 - flattering / honest
    print("Why by the training span alone?  Say the numbers are dollars, and a")
    print("forecast is wrong by 2 of them.  In scaled units that is")
    print(f"  by the std of train        2 / {std:.2f} = {honest:.2f}")
    print(f"  by the std of everything   2 / {all_std:.2f} = {flattering:.2f}")
    print(f"The second looks {better:.0%} better.  It is the same error in dollars:")
    print("only the ruler grew, because it has seen 8, 9 and 10.")


def rmse(errors):
    """Typical size of errors (M,): the root of their mean square (see section 4)."""
    return float(np.sqrt(np.mean(errors**2)))


def report_scaling(values, horizon, source):
    """Print two forecasts' errors, scaled honestly and with the test span's help.

    Returns name -> by what share the second way changes the error.
    """
    n1, n2 = utils.split_by_time(len(values))
    test = values[n2:]  # (M,)
    last_known = values[n2 - horizon : len(values) - horizon]  # (M,)
    rows = {}
    for name, span in (("train alone", values[:n1]), ("everything", values)):
        mean = float(span.mean())
        std = float(span.std())
        rows[name] = {
            "mean": mean,
            "std": std,
            "copy, scaled": rmse(test - last_known) / std,
            "constant": rmse(test - mean),
        }
    title = f"{source.label}: typical error of two forecasts in test"
    utils.print_table(title, rows, corner="mean, std of")
    lie = {}
    for forecast in ("copy, scaled", "constant"):
        honest = rows["train alone"][forecast]
        lie[forecast] = 0.0  # without an error there is none to change
        if honest:
            lie[forecast] = rows["everything"][forecast] / honest - 1
    changes = {name: f"{share:+.1%}" for name, share in lie.items()}
    print("Reading it: copy says the last known value again.  In scaled units its")
    print(f"error changes by {changes['copy, scaled']}, for the very same forecast.")
    print("constant always says the mean.  Its error, in the series' own units,")
    print(f"changes by {changes['constant']}: this forecast itself has looked at test.")
    return lie


def report_example(series, scaled, fitted, length, horizon):
    """Print the first window on its way from dates to a tensor.

    scaled (n,): the whole series, by the mean and std of the training span, `fitted`.
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
    mean = fitted.mean
    std = fitted.std
    number = (first - mean) / std
    print(f"Worked, by train: ({first:g} - {mean:.5g}) / {std:.5g} = {number:.4f}")
    # To pick rows by their numbers makes a copy: batches are copied, nothing else.
    batch = inputs[[2, 0, 1]]  # (3, T, 1)
    answers = targets[[2, 0, 1]]  # (3,)
    print("A network reads several windows at once, a batch.  Of windows 2, 0 and 1:")
    size = batch.nbytes
    print(f"  inputs   {tuple(batch.shape)}, that is (B, T, 1); a copy of {size} bytes")
    print(f"  targets  {tuple(answers.shape)}, that is (B,)")


def on_its_way(series, place, number):
    """Date, value and scaled value of one place, as a text."""
    return f"{date_at(series, place)}   {series.iloc[place]:9.5g}  ->  {number:7.4f}"


# ====================================================================================
# 2. Model
# ====================================================================================
#
# The models of this lesson are rules of one line.  They are called baselines: whoever
# builds a network has to do better, or the network is not worth its while.  All answer
# the same question: standing at the origin, what is the value h steps later?
#
# The toy has nine known values, something like a season of 3 (every third is high) and
# a climb.  The origin is place 8; the target is place 9.
#
#     place             0   1   2   3   4   5   6   7   8   9
#     value             1   2   6   2   3   7   5   3   9   ?     answer
#     persistence                                      [9]        9
#     seasonal naive                           [5]                5
#     moving average                           [5] [3] [9]        5.67
#     drift            [1] - - - - - - - - - - - - - - [9]        10
#     autoregression                                   [9]        2.5

TOY = [1.0, 2.0, 6.0, 2.0, 3.0, 7.0, 5.0, 3.0, 9.0]
TOY_LATER = [4.0, 5.0, 10.0]  # what came then; no forecast may read it


def persistence_by_hand(values, origin):
    """The last value again: it assumes that nothing changes."""
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


def drift_by_hand(values, origin, horizon):
    """On along the straight line from the first value to the last."""
    slope = (values[origin] - values[0]) / origin
    return values[origin] + horizon * slope


# An autoregression is a line (regression) through the series' own (auto) past: the next
# value is a weighted sum of the last p values, plus a number.  p is called its order.
# With p = 1 the pairs (value, next value) are points in a plane, and the line with the
# smallest squared errors is
#
#     slope = sum of (x - mean x)(y - mean y)  /  sum of (x - mean x)^2
#     start = mean y - slope * mean x
#
# With more values to read the computer solves for all weights at once: the same idea.


def autoregression_by_hand(values, origin):
    """Fit next = slope * value + start on what is known; forecast from the last value.

    Returns the forecast, slope, start, and the pairs (value, next value).  The first
    value makes no pair, as in utils.autoregression: lesson 06 keeps one more value in
    front of its windows, and the two should learn from the same targets.
    """
    pairs = []
    for place in range(1, origin):
        pairs.append((values[place], values[place + 1]))
    mean_x = sum(x for x, _ in pairs) / len(pairs)
    mean_y = sum(y for _, y in pairs) / len(pairs)
    products = sum((x - mean_x) * (y - mean_y) for x, y in pairs)
    squares = sum((x - mean_x) ** 2 for x, _ in pairs)
    slope = products / squares
    start = mean_y - slope * mean_x
    return slope * values[origin] + start, slope, start, pairs


def show_baselines():
    """Work the five baselines on the toy, and compare with the shared ones."""
    origin = len(TOY) - 1  # place 8
    line, slope, start, pairs = autoregression_by_hand(TOY, origin)
    by_hand = {
        "persistence": persistence_by_hand(TOY, origin),
        "seasonal naive": seasonal_naive_by_hand(TOY, origin, 1, season=3),
        "moving average": moving_average_by_hand(TOY, origin, width=3),
        "drift": drift_by_hand(TOY, origin, 1),
        "autoregression": line,
    }
    workings = {
        "persistence": "the last value",
        "seasonal naive": "place 9 - 3 = 6",
        "moving average": "(5 + 3 + 9) / 3",
        "drift": "9 + 1 * (9 - 1) / 8",
        "autoregression": f"{slope:g} * 9 + {start:g}",
    }
    print("\nFive baselines by hand: what comes after 1 2 6 2 3 7 5 3 9?")
    for name, working in workings.items():
        print(f"  {name:<16} {working:<20} = {by_hand[name]:.4g}")
    mean_x = sum(x for x, _ in pairs) / len(pairs)
    mean_y = sum(y for _, y in pairs) / len(pairs)
    print("The line of the autoregression was fitted to the pairs value > next value")
    print(f"  {'  '.join(f'{x:g} > {y:g}' for x, y in pairs)}")
    print(f"  means       {mean_x:g} and {mean_y:g}")
    print(f"  slope       (-2 * 1 + 2 * -3 + ...) / (4 + 4 + ...) = -12 / 24 = {slope}")
    print(f"  start       {mean_y:g} + 0.5 * {mean_x:g} = {start:g}")
    print("Then 4 came.  On one value luck decides; section 4 takes hundreds.")
    farther = seasonal_naive_by_hand(TOY, origin, 5, season=3)
    print("Five steps ahead is place 13; one season before it, place 10, is not known")
    print(f"yet.  So the rule goes back one season more, to place 7: {farther:g}.")

    # The shared functions take arrays, many origins, and several steps ahead.
    values = np.array(TOY + TOY_LATER)  # (12,)
    origins = np.array([origin])  # (1,)
    lines, _ = utils.autoregression(values, len(TOY), len(TOY) + 2, 1, 1)  # (3, 1)
    shared = {
        "persistence": utils.persistence(values, origins, [1]),
        "seasonal naive": utils.seasonal_naive(values, origins, [1], 3),
        "moving average": utils.moving_average(values, origins, [1], 3),
        "autoregression": lines,
    }
    gaps = [abs(shared[name][0, 0] - by_hand[name]) for name in shared]
    print(f"The shared functions in rnn_utils: largest difference {max(gaps):.0e}.")


# ====================================================================================
# 3. Training
# ====================================================================================
#
# There is no gradient in this lesson, but there is fitting.  Whatever is chosen by
# looking at data (a mean, a season, a width) is chosen on the training span.
#
# How long is a season, if nobody tells us?  And how far back is it worth looking?  Lay
# the series beside itself, k steps later, and see how alike the two are.  k is called
# the lag:
#
#     value             1   2   3   2   1   2   3   2  ...
#     2 steps later     3   2   1   2   3   2   1   2  ...    high meets low
#     4 steps later     1   2   3   2   1   2   3   2  ...    high meets high:
#                       |<- season -->|                       a season of 4
#
# In numbers: subtract the mean, multiply each value by the one k later, and add up.
# High times high and low times low are above zero, high times low is below.  Divided by
# the same sum at lag 0, this is the autocorrelation r_k.  It is near 1 for the same again
# (a little less, since k values at the end have no partner), 0 where the one says nothing
# about the other, and below 0 for the opposite.
#
# utils.find_season takes the highest peak after r_k first fell below 0, where high met
# low.  It must be higher than chance would make it (above 4 / sqrt(n1)), and fit three
# times into the training span; else there is no season.


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
    print("The season is the highest peak after r_k first fell below 0, among lags up")
    print(f"to a third of the values: utils.find_season says {season}.")


class Fitted(NamedTuple):
    """What the training span tells."""

    mean: float  # of the values
    std: float
    season: int | None  # steps of one season, None if no season shows
    width: int  # how many last values the moving average takes
    slope: float  # the mean change in one step
    naive_mae: float  # mean |value - value before|, the unit of MASE, see section 4


def fit_on(train, length, horizon):
    """What scaling and the baselines need, from the training values (n1,) alone."""
    return Fitted(
        mean=float(train.mean()),
        std=float(train.std()),
        season=utils.find_season(train),
        width=utils.best_width(train, length, horizon),  # tries 2 to T, keeps the best
        slope=float((train[-1] - train[0]) / (len(train) - 1)),
        naive_mae=float(np.abs(np.diff(train)).mean()),
    )


def report_autocorrelation(train, fitted):
    """Print r_k of the training span at some lags as bars, and how to read them."""
    most = min(len(train) // 3, int(1.3 * (fitted.season or 40)))
    r = utils.autocorrelation(train, most)  # (most + 1,)
    lags = set(np.linspace(1, most, 10).astype(int).tolist())
    if fitted.season:
        lags |= {fitted.season // 2, fitted.season}
    print("\nAutocorrelation of the training span")
    for lag in sorted(lags - {0}):
        bar = "#" * round(20 * abs(r[lag]))
        left = bar if r[lag] < 0 else ""
        right = bar if r[lag] > 0 else ""
        print(f"  lag {lag:>4}   {r[lag]:6.2f}   {left:>20}|{right}")
    print("Reading it: far from 0, a value tells much about the one k steps later.")
    print("High at lag 1 is memory: the next value is like this one.  A fall below 0")
    print("and a second peak is a season.  A slow fall without one is a climb, or the")
    print("wandering of a price.")
    band = 1.96 / np.sqrt(len(train))
    print(f"Of pure noise 95 % of all r_k lie between {-band:.2f} and {band:.2f}.")
    found = f"a season of {fitted.season} steps" if fitted.season else "no season"
    print(f"Found: {found}; a moving average does best over {fitted.width} values.")


def plot_autocorrelation(args, source, train, season):
    """Autocorrelation of the training span and its changes, lags 0, 1, 2, ..."""
    most = min(len(train) // 3, int(2.5 * (season or 40)))
    # The same height at every lag: pure noise has no lag that is better than another.
    noise = np.full(most + 1, 1.96 / np.sqrt(len(train)))
    lines = {
        "the series": utils.autocorrelation(train, most),
        "its changes from step to step": utils.autocorrelation(np.diff(train), most),
    }
    title = f"Autocorrelation of {source.label}, training span"
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


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# An error is forecast minus truth.  Hundreds of errors become one number in three ways:
#
#   RMSE  root mean squared error: square them, take the mean, take the root.  One large
#         error weighs more than several small ones.  In the series' own units.
#   MAE   mean absolute error: drop the signs, take the mean.  In the same units.
#   MASE  mean absolute scaled error: MAE divided by the MAE of persistence, one step
#         ahead, on the training span.  It has no units, so that series can be compared:
#         1 is as good as copying was there, below 1 is better.


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


def all_forecasts(values, length, horizon, fitted):
    """Every baseline on validation and test: targets (M,), name -> forecasts (M,).

    values (n,).  The first origin is the last training value, as in lesson 06, so the
    first target lies h steps behind it.
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
    # One line for each step 1 ... h, fitted on train; how many values it reads, up to
    # T, is chosen on validation.
    lines, _ = utils.autoregression(values, n1, n2, length, horizon)  # (n - n1, h)
    made["autoregression"] = lines[: len(targets), horizon - 1]
    return targets, made


# Who has won?  A smaller RMSE on 423 forecasts may be luck, as with a coin that shows
# heads 12 times of 20.  The p-value says how often two *equally good* forecasts would
# differ at least as much.  Below 0.05 one stops believing in luck.


def by_chance(errors, others, horizon):
    """The p-value of a difference in squared errors; errors, others (M,), same targets.

    The test of Diebold and Mariano (1995), which for one step ahead is a t test of the
    differences.  Farther ahead, neighbouring forecasts share most of their fate, as if
    one coin had been counted several times.  So here h neighbours are averaged to one;
    lesson 06 has the way that uses all of them.
    """
    from scipy.stats import ttest_1samp

    differences = errors**2 - others**2  # (M,)
    count = len(differences) // horizon
    if count < 2:
        return 1.0  # too few to tell
    blocks = differences[: count * horizon].reshape(count, horizon)
    means = blocks.mean(axis=1)  # (count,)
    if np.ptp(means) <= 1e-9 * np.abs(means).max():
        # No spread, nothing to test: all are 0, or one is always better by as much.
        return 1.0 if abs(means.mean()) < 1e-12 else 0.0
    return float(ttest_1samp(means, 0.0).pvalue)


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


def report_baselines(rows, made, targets, values, source, horizon):
    """Print the table, and whether the best one's lead may be luck.  Returns p."""
    utils.print_table(f"Baselines on {source.label}, {ahead(horizon)}", rows)
    best, rival = best_and_rival(rows)
    _, n2 = utils.split_by_time(len(values))
    in_test = targets >= n2  # (M,)
    truth = values[targets[in_test]]
    p = by_chance(made[best][in_test] - truth, made[rival][in_test] - truth, horizon)
    change = rows[best]["test RMSE"] / (rows[rival]["test RMSE"] or 1.0) - 1
    luck = "more than luck" if p < 0.05 else "it may be luck"
    copied = rows["persistence"]["test MASE"]
    print(f"Reading it: copying has MASE {copied:.2f} here; one step ahead, in train,")
    print("it has 1.  How many values the autoregression reads was chosen on")
    print("validation, so its val RMSE flatters it a little; its test RMSE does not.")
    print(f"Best on validation: {best}.  On the {len(truth):,} values of test its")
    print(f"RMSE is {change:+.1%} against {rival}; {as_text_p(p)}: {luck}.")
    return p


def report_lengths(values, longest, horizon):
    """Print RMSE on validation of autoregressions that may read 1, 3, 9 ... values."""
    n1, n2 = utils.split_by_time(len(values))
    targets = np.arange(n1 + horizon - 1, n2)  # (M,)
    print("\nHow long should a window be?  RMSE on validation of autoregressions that")
    print("may read at most so many values")
    length = 1
    lengths = []
    while length < longest:
        lengths.append(length)
        length *= 3
    for length in [*lengths, longest]:
        lines, _ = utils.autoregression(values, n1, n2, length, horizon)
        forecast = lines[: len(targets), horizon - 1]  # (M,)
        print(f"  {length:>5}   {rmse(forecast - values[targets]):.4g}")
    print(
        "Reading it: where it hardly falls any more, a longer window buys nothing.  (It"
    )
    print("cannot rise much: who may read more values may also use fewer.)")


def report_forecasts(series, targets, forecast, best, fitted, horizon):
    """Print some forecasts of the test span beside the truth, right and wrong ones."""
    _, n2 = utils.split_by_time(len(series))
    of_test = np.flatnonzero(targets >= n2)
    evenly = np.linspace(0, len(of_test) - 1, 9).astype(int)
    near = fitted.naive_mae
    print(f"\nForecasts of the test span by {best}, {ahead(horizon)}")
    print("  date         last known      truth   forecast      error")
    for row in of_test[evenly]:
        target = targets[row]
        known = series.iloc[target - horizon]
        truth = series.iloc[target]
        error = forecast[row] - truth
        mark = "✔" if abs(error) <= near else "✘"
        print(
            f"  {date_at(series, target)}   {known:10.4g} {truth:10.4g} "
            f"{forecast[row]:10.4g} {error:10.3g}  {mark}"
        )
    errors = forecast[of_test] - series.to_numpy()[targets[of_test]]  # (M,)
    share = np.mean(np.abs(errors) <= near)
    print(f"✔: off by at most {near:.3g}, the mean change from step to step in train.")
    print(f"Of all {len(errors):,} forecasts {share:.0%} are so near.")


def report_noise(noise, test_rmse):
    """For the sine: print the error that no forecast can avoid; returns its square."""
    floor = float(np.mean(noise**2))
    print("\nHow good could any forecast be?  The noise has variance 0.04; in the test")
    print(f"span its mean square is {floor:.4f}.  The past knows nothing of it, so but")
    print("for luck nobody does better than the sine without noise:")
    print(f"  RMSE {floor**0.5:.4f}; the best baseline has {test_rmse:.4f}.")
    print("An error well below the first would mean that answers have leaked in.")
    return floor


# --- a trap: shuffled windows -------------------------------------------------------
#
# Section 1 found that of shuffled windows nearly every answer stands in some training
# window.  Does that help to cheat?  We need somebody who learns by heart: look up the
# training window that is most like the asked one, and repeat its target.  (If the
# series has climbed since, no training window is like the asked ones, and the rule
# fails.  That is the honest result, and shuffling hides it.)


def look_up(asked, inputs, targets):
    """For each asked window the target of the most similar: (M, T), (K, T) -> (M,)."""
    answers = []
    for window in asked:
        distances = ((inputs - window) ** 2).sum(dim=1)  # (K,)
        answers.append(targets[distances.argmin()])
    return torch.stack(answers)  # (M,)


def report_shuffled(values, length, horizon):
    """Look answers up in windows split by time, and in shuffled ones: name -> RMSE.

    values: a tensor (n,).
    """
    inputs, targets = make_windows(values, length, horizon)  # (N, T, 1), (N,)
    inputs = inputs[:, :, 0]  # (N, T)
    parts = split_windows(len(values), length, horizon)
    numbers = torch.arange(len(targets))  # of all windows
    train = numbers[parts["train"]]
    # Half of the windows of the test span are asked, 200 at most, both times the same.
    test = numbers[parts["test"]]
    most = min(200, len(test) // 2)
    test = test[torch.randperm(len(test))[:most]].sort().values
    # As many training windows as before, but drawn from all others, late ones too.
    others = numbers[~torch.isin(numbers, test)]
    shuffled = others[torch.randperm(len(others))[: len(train)]]
    print("\nTrap 1, shuffled windows: look up the most similar training window, and")
    print(f"repeat its target.  RMSE on the same {len(test)} windows of test")
    errors = {}
    for name, known in (("by time", train), ("shuffled", shuffled)):
        answers = look_up(inputs[test], inputs[known], targets[known])  # (M,)
        errors[name] = (answers - targets[test]).double().numpy()
        print(f"  {name:<9} {rmse(errors[name]):10.4g}")
    p = by_chance(errors["by time"], errors["shuffled"], horizon)
    if p < 0.05:
        print(f"{as_text_p(p)}: the same rule, with as many windows to look into.  But")
        print(
            "the second time there are windows from around each answer, and from later"
        )
        print(
            "years, which nobody has when a forecast is made.  The rule has not become"
        )
        print("better, only its score.")
    else:
        print(f"{as_text_p(p)}: here the difference may be luck.")
    return {name: rmse(error) for name, error in errors.items()}


# --- a trap: smoothed series --------------------------------------------------------
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
# such fault.  It is the moving average of section 2.)
#
# Raw and smoothed values differ in size, so a score without units is wanted.  R2 (R
# squared) is 1 minus the squared errors as a share of the squared distances from the
# mean.  1 is perfect; 0 is no better than always saying the mean; below 0 is worse.


def r_squared(truth, forecast):
    """R2 = 1 - sum of (truth - forecast)^2 / sum of (truth - mean)^2."""
    spread = ((truth - truth.mean()) ** 2).sum()
    if spread == 0:
        return 0.0  # nothing changes, so there is nothing to explain
    return float(1 - ((truth - forecast) ** 2).sum() / spread)


def centred_mean(values, half):
    """Mean of each value, `half` before it and `half` behind: (n,) -> (n - 2 half,)."""
    width = 2 * half + 1
    return np.convolve(values, np.full(width, 1 / width), "valid")


def show_smoothing():
    """Smooth six numbers, and read tomorrow out of today's smoothed value."""
    raw = np.array([2.0, 8.0, 5.0, 11.0, 8.0, 14.0])  # (6,)
    smooth = centred_mean(raw, 1)  # (4,)
    tomorrow = 3 * smooth[1] - raw[1] - raw[2]
    print("\nTrap 2, smoothing, by hand: a centred mean of 3")
    print("  raw        2  8  5 11  8 14")
    print("  smoothed      " + " ".join(f"{value:2.0f}" for value in smooth))
    print("Today is the 5.  Its smoothed value is (8 + 5 + 11) / 3 = 8, and whoever is")
    print(f"told that 8 can compute tomorrow: 3 * 8 - 8 - 5 = {tomorrow:.0f}.")


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
    print("Reading it: R2 is 1 for a perfect forecast, 0 for one no better than a")
    print("constant.  smoothed is what a careless report would say.  honest forecasts")
    print("the same values, but from smoothed ones that were known: the newest lies")
    print(f"{half} steps back.")
    if careless["autoregression RMSE"]:
        ratio = honest["autoregression RMSE"] / careless["autoregression RMSE"]
        p = as_text_p(by_chance(careless_errors, honest_errors, horizon + half))
        print(f"The honest error is {ratio:.1f} times as large ({p}).  Even so it is")
        print("an easier question than raw, since a part of what the target averages")
        print("is past already.")
    plot_smoothing(args, series, smooth, half, source)
    return rows


# --- a trap: prices against returns -------------------------------------------------
#
# The other brilliant forecast is that of a share price, a curve right on the truth.
# Look closer, and it is the truth, one day late.  A price is close to the price of the
# day before, so a copy scores high.  But a copy says nothing that one could use: what
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


def show_returns():
    """A price that climbs by 10 a day, copied one day late: as prices, as returns."""
    prices = np.arange(100.0, 191.0, 10.0)  # (10,)
    before = prices[:-1]  # (9,)
    truth = prices[1:]  # (9,)
    copied = before  # persistence: tomorrow is like today
    true_returns = truth / before - 1  # (9,)
    said_returns = copied / before - 1  # (9,), all 0
    print("\nTrap 3, prices, by hand: 100 110 120 ... 190, copied one day late")
    for k in range(3):
        print(f"  truth {truth[k]:g}, forecast {copied[k]:g};", end="   ")
        print(f"return {true_returns[k]:5.1%}, forecast {said_returns[k]:.1%}")
    print("  price    sum of squared errors: 9 * 10^2 = 900")
    print("           distances from the mean, 150: 2 * (10^2 + ... + 40^2) = 6000")
    print(f"           R2 = 1 - 900 / 6000 = {r_squared(truth, copied):g}")
    r2 = r_squared(true_returns, said_returns)
    print(f"  return   R2 = {r2:.1f}: to say the mean return every day would be better")
    print("This forecast never saw a change coming, and as prices it looks good.")


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
    print("Reading it: as prices all look excellent.  As returns persistence always")
    print("says 0, and an R2 of about 0 or less is no better than a constant.  (corr,")
    print("correlation: do both go up and down together?  1 is always, 0 not at all.)")
    if source.name == "stock":
        corr = rows["moving average"]["corr of return"]
        crash = int((~calm).sum())
        print(f"The moving average's {corr:.2f} comes from the last {crash} days, the")
        print("crash from 20 February 2020 on: see what is left without them.")
    return before, truth, forecasts, rows


# --- pictures -----------------------------------------------------------------------


def plot_split(args, source, series):
    """The parts in colour; below, four windows at the border of train and val."""
    if args.no_plots:
        return
    n = len(series)
    length = args.sequence_length
    n1, n2 = utils.split_by_time(n)
    figure, (top, bottom) = utils.pyplot().subplots(
        2, 1, figsize=(8, 6.4), layout="constrained"
    )
    for name, start, end in (("train", 0, n1), ("val", n1, n2), ("test", n2, n)):
        part = series.iloc[start:end]
        top.plot(part.index, part, linewidth=0.8, label=f"{name} ({end - start:,})")
    top.set_title(f"Split by time: {source.label}", **utils.PLAIN)
    top.set_ylabel(series.name, **utils.PLAIN)  # a name may hold dollar signs
    top.set_xlabel("date")
    top.legend(fontsize=8)
    # Places are counted from the border here: the last target of train stands at -1.
    windows = {
        "train, last but one": -2,
        "train, last": -1,
        "val, first": 0,
        "val, second": 1,
    }
    for row, target in enumerate(windows.values()):
        colour = "C0" if target < 0 else "C1"
        end = target - args.horizon + 1  # the first place behind the inputs
        places = np.arange(end - length, end)
        bottom.plot(places, np.full(length, -row), ".-", color=colour, markersize=3)
        bottom.plot(target, -row, "D", color=colour)
    bottom.axvline(-0.5, color="grey", linestyle="--")
    bottom.set_yticks([0, -1, -2, -3], windows)
    bottom.set_title("Dots: inputs, may reach back.  Diamond: target, decides the part")
    bottom.set_xlabel("steps from the first value of validation (dashed: the border)")
    utils.save_picture(figure, args, "split")
    print("  Reading it: below are the last two windows of train and the first two of")
    print("  val.  Inputs of val reach back over the dashed border; no target does.")


def plot_smoothing(args, series, smooth, half, source):
    """The last 120 values of the series, raw and smoothed."""
    smooth_line = np.full(len(series), np.nan)  # NaN, not a number: nothing is drawn
    smooth_line[half : len(series) - half] = smooth
    lines = {"raw": series.to_numpy()[-120:], "smoothed": smooth_line[-120:]}
    title = f"{source.label}: the end of the series, raw and smoothed"
    dates = series.index[-120:]
    utils.plot_lines(args, "smoothed", title, lines, "date", "value", x=dates)
    if not args.no_plots:
        print(f"  Reading it: the smoothed curve ends {half} steps before the raw one.")
        print("  Its next value takes numbers that are not there yet.")


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
    print("  Reading it: on the left all dots lie near the line of perfect forecasts;")
    print("  on the right the same forecasts do not follow it.")


# ====================================================================================
# 5. Command line
# ====================================================================================


# Why a rule may have won.
WHY = {
    "persistence": "the last value tells more than all that came before it",
    "moving average": "in a mean the noise of single values cancels",
    "drift": "the series goes on as it went",
    "seasonal naive": "the season repeats, and what is near has changed by then",
    "autoregression": "it weighs many values: noise cancels, and direction counts",
}


def report_answer(series, rows, p, lie, looked_up, args):
    """Print the answer to the lesson's title, with the figures of this run."""
    best, rival = best_and_rival(rows)
    # Windows are numbered from 0, so where a part stops is how many came before.
    parts = split_windows(len(series), args.sequence_length, args.horizon)
    train = parts["train"].stop
    total = parts["test"].stop
    length = args.sequence_length
    honest = looked_up["by time"]
    flattered = looked_up["shuffled"]
    test_rmse = rows[best]["test RMSE"]
    test_mase = rows[best]["test MASE"]
    verdict = "not surely better than"
    if p < 0.05:
        worse = test_rmse > rows[rival]["test RMSE"]
        verdict = "but on test worse than" if worse else "better than"
    print("\nHow does a series become training examples?")
    print("  1. Repair the dates: one value for each, in order; a gap takes the value")
    print("     before it, never one that comes later.")
    print(f"  2. Cut windows: {total:,} examples, T = {length}, each with the value")
    print(f"     {ahead(args.horizon)} as its target.")
    print(f"  3. Split by time, as the target says: {train:,} examples to train by.")
    print(f"     A mere look-up errs by {honest:.4g}; with shuffled windows it")
    print(f"     seems to err by {flattered:.4g}.")
    print("  4. Scale by the training span.  By everything, the error of the very same")
    print(f"     forecast seems to change by {lie['copy, scaled']:+.1%}.")
    print("  5. Compare with rules of one line, which a network has to beat.  Best:")
    print(f"     {best}, {verdict} {rival} ({as_text_p(p)}),")
    print(f"     RMSE {test_rmse:.4g} and MASE {test_mase:.2f} on test.")
    if verdict == "better than":
        print(f"     A likely reason: {WHY[best]}.")
    print("  6. Mistrust a brilliant forecast: of a smoothed series, which knows its")
    print("     future, and of prices that are not judged by their returns.")


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
    args = utils.parse_flags(make_flags(), argv, __file__, small=True)
    length = args.sequence_length
    horizon = args.horizon

    # 1. The data: repair, windows, split, scale; by hand, then on the series.
    offline = {"sine": None, "simulated": None}
    source = utils.choose_dataset(args, real=["sunspots", "stock"], offline=offline)
    series, repairs = utils.load_series(args, source)
    series = utils.capped(args, series, 1000)
    values = series.to_numpy()  # (n,)
    utils.check_series(values, length, horizon)
    show_repair()
    report_series(series, repairs, source)
    raw = torch.tensor(values, dtype=torch.float32, device=args.device)  # (n,)
    show_windows()
    report_windows(raw, length, horizon)
    show_split()
    report_split(series, length, horizon)
    plot_split(args, source, series)
    n1, n2 = utils.split_by_time(len(values))
    fitted = fit_on(values[:n1], length, horizon)  # of the training span, nothing else
    show_scaling()
    lie = report_scaling(values, horizon, source)
    scaled = (raw - fitted.mean) / fitted.std  # (n,)
    report_example(series, scaled, fitted, length, horizon)

    # 2. The models: five rules of one line.
    show_baselines()

    # 3. Training: the season, and how far back the past tells something.
    show_autocorrelation()
    report_autocorrelation(values[:n1], fitted)
    plot_autocorrelation(args, source, values[:n1], fitted.season)

    # 4. Evaluation: how large are the errors, and is the best one's lead luck?
    show_scores()
    targets, made = all_forecasts(values, length, horizon, fitted)
    rows = score_all(values, targets, made, fitted)
    p = report_baselines(rows, made, targets, values, source, horizon)
    best, _ = best_and_rival(rows)
    report_forecasts(series, targets, made[best], best, fitted, horizon)
    report_lengths(values, length, horizon)
    metrics = {
        "val_rmse": rows[best]["val RMSE"],
        "test_rmse": rows[best]["test RMSE"],
        "test_mae": rows[best]["test MAE"],
        "test_mase": rows[best]["test MASE"],
        "p_of_lead": p,
    }
    if source.name == "sine":
        noise = utils.sine_series()[1].to_numpy()[n2 : len(values)]
        metrics["test_noise_variance"] = report_noise(noise, metrics["test_rmse"])

    #    Three traps: shuffled windows, smoothed series, prices.
    looked_up = report_shuffled(raw.cpu(), length, horizon)
    show_smoothing()
    smoothed = report_smoothing(args, series, source)
    show_returns()
    prices = series
    market = source
    if source.name != "stock" or series.name == "volume":  # this part needs prices
        prices = utils.simulated_prices(max(2500, len(series)))
        market = utils.Source("simulated", None, False)
    before, truth, forecasts, _ = report_prices(prices, market, length, horizon)
    plot_prices(args, market, before, truth, forecasts)

    # The answer.
    report_answer(series, rows, p, lie, looked_up, args)
    metrics["scaling_lie"] = lie["copy, scaled"]
    metrics["look_up_rmse"] = looked_up["by time"]
    metrics["look_up_shuffled_rmse"] = looked_up["shuffled"]
    for name, row in smoothed.items():
        key = name.replace(", ", "_")  # raw, smoothed, smoothed_honest
        metrics[f"{key}_autoregression_rmse"] = row["autoregression RMSE"]
    baselines = {name: row["test RMSE"] for name, row in rows.items()}
    utils.write_metrics(args, source, metrics, baselines)


if __name__ == "__main__":
    sys.exit(utils.run(main))
