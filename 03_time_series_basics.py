"""03 · How does a series become training examples?

A network learns from pairs (input sequence, answer).  A series is one long row of
numbers on dates.  Between the two stand four steps, and each can spoil all results
without an error message: repairing the dates, cutting windows, splitting by time,
scaling.  This lesson measures what goes wrong.  It trains no network; it ends with
forecasts that need none, which lesson 06 has to beat.

What you will learn
    1. to repair missing, repeated and unsorted dates, and to say what was repaired
    2. to cut windows (N, T, 1) without copying, and to split them by time
    3. to fit scaling on the training span only, and how large the lie is otherwise
    4. to see memory and seasons in an autocorrelation
    5. why a forecast of prices looks excellent and knows nothing
    6. the baselines any forecast must beat, and RMSE, MAE and MASE

Run it
    python 03_time_series_basics.py
    python 03_time_series_basics.py --dataset stock
    python 03_time_series_basics.py --dataset sine --horizon 12

You should see (two cores, about 3 seconds)
    On the sunspots [real] a season of 127 months; best baseline on validation:
    persistence, test RMSE 19.73, MASE 1.28.  On the sine [sample]: seasonal naive,
    0.297, where the noise alone is 0.204.  On --dataset stock [real] scaling fitted on
    everything makes persistence seem 63 % better; prices have R2 0.98, but returns 0.00
    (persistence) and 0.04 (moving average, correlation 0.29; without the 41 days from
    20 February 2020 on, the crash, that becomes -0.22 and 0.04).

Try this (guess first, then run)
    - --horizon 12, then 60, on the sunspots: which baseline is the best then?
    - --dataset sine --horizon 25, half a period: which one is the worst, and why?
    - --sequence-length 200: which lines of the output change, and which cannot?
    - --input my.csv --column NAME: does a season show in your own data?
"""

# Sizes
#   n   values in the series         T   values in one window (--sequence-length)
#   N   windows (examples)           h   steps from its end to its target (--horizon)
#   M   forecasts of one part        n1, n2   where validation and test start

import sys
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================


def show_repair():
    """Repair seven rows with every common fault; one month has no row at all."""
    months = pd.DatetimeIndex([f"2001-0{month}" for month in (3, 1, 2, 2, 5, 6, 7)])
    broken = pd.Series([30, 10, 20, 21, np.nan, 60, 70], months, name="broken")
    repaired, said = utils.repair_series(broken)
    print("\nA broken series (made up for this lesson), as month:value, and its repair")
    for name, series in (("broken", broken), ("repaired", repaired)):
        print(f"  {name:<8} ", " ".join(f"{d:%m}:{v:g}" for d, v in series.items()))
    print("\n".join(f"  - {sentence}" for sentence in said))
    print("A line from March to June would look better, but tell April what June is.")


def make_windows(values, length, horizon):
    """Cut a series into examples: `length` values, and the one `horizon` steps later.

    values (n,) -> inputs (N, T, 1), targets (N,) with N = n - T - h + 1.  Window k
    holds the values k ... k+T-1; its target is value k+T-1+h.  Both results are views.
    """
    inputs = values[: len(values) - horizon].unfold(0, length, 1)  # (N, T)
    targets = values[length + horizon - 1 :]  # (N,)
    return inputs.unsqueeze(-1), targets  # (N, T, 1), (N,)


def show_windows(values, length, horizon):
    """Print what the windows cost: their strides and the memory behind them."""
    inputs, targets = make_windows(values, length, horizon)  # (N, T, 1), (N,)
    memory = inputs.untyped_storage()
    shared = memory.data_ptr() == values.untyped_storage().data_ptr()
    batch = inputs[torch.tensor([2, 0, 1], device=values.device)]  # (3, T, 1), a copy
    print(f"\nWindows: inputs {tuple(inputs.shape)}, targets {tuple(targets.shape)}")
    print(f"  strides {inputs.stride()}: the next window begins one value further on")
    print(f"  {memory.nbytes():,} bytes in all, shared with the series: {shared}")
    print(
        f"  copies would take {inputs.nbytes:,}; a batch of 3 is a copy: {batch.nbytes}"
    )
    print("Never write into a window: each value stands in T of them.")


def split_ends(n):
    """Where validation and test start, n1 and n2: 70 %, 15 %, 15 % by time."""
    return round(0.70 * n), round(0.85 * n)


def split_windows(n, length, horizon):
    """Part -> slice of the windows whose target lies in that part.

    The target decides, so no target stands in two parts.  Inputs may reach back into
    the part before: that is the past, known when the forecast is made.  So every value
    of validation and test is a target exactly once, whatever T is, and all models and
    baselines are scored on the same targets.  Nothing in a training window, target
    included, reaches n1.
    """
    n1, n2 = split_ends(n)
    offset = length + horizon - 1  # window k has the target k + offset
    return {
        "train": slice(0, n1 - offset),
        "val": slice(n1 - offset, n2 - offset),
        "test": slice(n2 - offset, None),
    }


def leaked_share(n, length, horizon, train, test):
    """Share of the test targets that some training window holds (inputs or target).

    Windows cut from the numbers 0 ... n-1 hold their own positions in the series.
    """
    inputs, targets = make_windows(torch.arange(n), length, horizon)  # (N, T, 1), (N,)
    seen = torch.cat([inputs[train].flatten(), targets[train]])  # (N_train * (T + 1),)
    return torch.isin(targets[test], seen).double().mean().item()


def show_split(series, length, horizon):
    """Print the three parts, and what a random split of the same windows gives away."""
    n = len(series)
    parts = split_windows(n, length, horizon)
    _, targets = make_windows(torch.arange(n), length, horizon)  # (N,) positions
    print("\nSplit by time: the target's date decides")
    for name, part in parts.items():
        places = targets[part]
        first, last = (series.index[int(places[i])].date() for i in (0, -1))
        print(f"  {name:<5}  {len(places):>6,} windows, targets {first} to {last}")
    shuffled, count = torch.randperm(len(targets)), len(targets[parts["test"]])
    by_time = leaked_share(n, length, horizon, parts["train"], parts["test"])
    at_random = leaked_share(n, length, horizon, shuffled[count:], shuffled[:count])
    print(f"  test targets that stand in a training window: {by_time:.1%}; had windows")
    print(f"  been drawn at random: {at_random:.1%}, so the answers would be known")


# ====================================================================================
# 2. Model
# ====================================================================================


class Fitted(NamedTuple):
    """What the training span tells."""

    mean: float  # of the values
    std: float
    season: int | None  # steps of one season, None if no season shows
    average: int  # how many last values the moving average takes
    slope: float  # the mean change in one step
    naive_mae: float  # mean |y_t - y_(t-1)|, the yardstick of MASE


def moving_average(values, origins, width):
    """Mean of the last `width` values up to each origin: (n,), (M,) -> (M,)."""
    total = np.concatenate([[0.0], np.cumsum(values)])  # (n + 1,)
    return (total[origins + 1] - total[origins + 1 - width]) / width


def baseline_forecasts(values, targets, horizon, fitted):
    """Forecast values[targets] from what is known h steps earlier: name -> (M,).

    values (n,); targets (M,) positions.  With o = target - h, the origin:
        persistence      y_o
        moving average   mean of the last `average` values up to y_o
        drift            y_o + h * slope
        seasonal naive   the newest known value whole seasons before the target
    """
    origins = targets - horizon
    forecasts = {
        "persistence": values[origins],
        "moving average": moving_average(values, origins, fitted.average),
        "drift": values[origins] + horizon * fitted.slope,
    }
    if fitted.season:
        seasons = 1 + (horizon - 1) // fitted.season  # so many that the value is known
        forecasts["seasonal naive"] = values[targets - seasons * fitted.season]
    return forecasts


# ====================================================================================
# 3. Training
# ====================================================================================

# No gradient, but fitting all the same: whatever is chosen by looking at data (a mean,
# a season, a width) is chosen by looking at the training span.


def autocorrelation(values, max_lag):
    """How alike a series is to itself k steps later: (n,) -> r (max_lag + 1,).

    r_k = sum_t (y_t - m)(y_(t+k) - m) / sum_t (y_t - m)^2, m the mean of all values.
    Of white noise, 95 % of r_1, r_2, ... lie within 1.96 / sqrt(n) of zero.
    A constant, which has no spread to divide by, gives zeros.
    """
    centred, n = values - values.mean(), len(values)
    products = [centred[: n - k] @ centred[k:] for k in range(max_lag + 1)]
    return np.array(products) / (products[0] or 1.0)


def find_season(train):
    """Lag of the highest peak of the autocorrelation after it first fell below zero.

    None if no peak rises above the white-noise band.  A season must fit three times
    into the training span, or a slow rise and fall (stock prices!) would pass for one.
    """
    r = autocorrelation(train, len(train) // 3)
    below = np.flatnonzero(r < 0)
    if not len(below):
        return None
    lag = int(below[0] + np.argmax(r[below[0] :]))
    is_peak = below[0] < lag < len(r) - 1  # an end of the range is no peak
    return lag if is_peak and r[lag] > 1.96 / np.sqrt(len(train)) else None


def fit_on(train, length, horizon):
    """What scaling and the baselines need, from the training values (n1,) alone."""
    truth = train[length + horizon - 1 :]  # the targets of whole windows
    origins = np.arange(length - 1, len(train) - horizon)
    errors = {
        width: np.mean((moving_average(train, origins, width) - truth) ** 2)
        for width in range(min(2, length), length + 1)
    }
    return Fitted(
        mean=train.mean(),
        std=train.std(),
        season=find_season(train),
        average=min(errors, key=errors.get),
        slope=(train[-1] - train[0]) / (len(train) - 1),
        naive_mae=np.abs(np.diff(train)).mean(),
    )


def show_scaling(values, horizon, source):
    """Print two forecasts' errors, scaled honestly and with the test span's help.

    Returns name -> change of the error by the dishonest scaling, as a share.
    """
    n1, n2 = split_ends(len(values))
    test, last_known = values[n2:], values[n2 - horizon : len(values) - horizon]
    rows = {}
    for name, span in (("train only", values[:n1]), ("everything", values)):
        mean, std = span.mean(), span.std()
        rows[name] = {"mean": mean, "std": std}
        rows[name]["scaled test mean"] = (test.mean() - mean) / std
        rows[name]["persistence"] = np.sqrt(np.mean((test - last_known) ** 2)) / std
        rows[name]["constant"] = np.sqrt(np.mean((test - mean) ** 2))
    honest, leaky = rows.values()
    lie = {  # without an error there is none to change
        key: leaky[key] / honest[key] - 1 if honest[key] else 0.0
        for key in ("persistence", "constant")
    }
    title = f"{source.label}: scaled, minus a mean, divided by a std"
    utils.print_table(title, rows, corner="fitted on")
    print("persistence: test RMSE in scaled units of saying 'the last value again'.")
    print("constant: test RMSE in the series' units of always saying the mean.")
    print(
        f"On everything, the very same persistence: {lie['persistence']:+.1%}; and the"
    )
    print(f"constant, whose mean has now seen the test span: {lie['constant']:+.1%}.")
    return lie


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================


def scores(truth, forecast, naive_mae):
    """RMSE and MAE in the series' units, and MASE = MAE / naive_mae, which has none.

    naive_mae is persistence's mean absolute error, one step ahead, on the training span
    (Hyndman and Koehler, 2006).  Below 1: smaller errors than that.
    """
    error = forecast - truth
    mae = np.abs(error).mean()
    return {"RMSE": np.sqrt(np.mean(error**2)), "MAE": mae, "MASE": mae / naive_mae}


def score_baselines(values, start, end, horizon, fitted):
    """Baseline -> scores of its forecasts of values[start:end]."""
    targets = np.arange(start, end)  # (M,) positions
    forecasts = baseline_forecasts(values, targets, horizon, fitted)
    return {
        name: scores(values[targets], forecast, fitted.naive_mae)
        for name, forecast in forecasts.items()
    }


def show_baselines(val, test, source, horizon, fitted):
    """Print the table of baselines; returns the name of the one validation chooses."""
    best = min(val, key=lambda name: val[name]["RMSE"])
    rows = {name: {"val RMSE": val[name]["RMSE"]} for name in val}
    for name, row in test.items():
        rows[name] |= {f"test {k}": v for k, v in row.items()}
    utils.print_table(f"Baselines on {source.label}, {horizon} step(s) ahead", rows)
    season = f"a season of {fitted.season} steps" if fitted.season else "no season"
    print(f"Found on train: {season}; the best moving average is of {fitted.average}.")
    print(f"Best on validation: {best}.  MASE below 1: smaller errors than persistence")
    print("made, one step ahead, on the training span.")
    return best


def show_noise(noise, test_rmse):
    """For the sine: print the error that no forecast can avoid; returns its square."""
    floor = np.mean(noise**2)
    print(
        f"\nThe noise has variance 0.04; its mean square in the test span: {floor:.4f}."
    )
    print("The past does not know it, so but for luck no forecast has a smaller mean")
    print(
        f"squared error.  RMSE of the noiseless sine: {np.sqrt(floor):.4f}, of the best"
    )
    print(f"baseline: {test_rmse:.4f}.  Well below the first, answers have leaked in.")
    return floor


def agreement(truth, forecast, of):
    """R2, and the correlation, which a forecast that never changes does not have."""
    spread = ((truth - truth.mean()) ** 2).sum()
    found = {f"R2 of {of}": 1 - ((truth - forecast) ** 2).sum() / spread}
    if np.std(forecast) > 1e-9 * np.std(truth):  # else it is rounding
        found[f"corr of {of}"] = np.corrcoef(truth, forecast)[0, 1]
    return found


def show_prices(prices, source, length, horizon):
    """Print how good two forecasts of a price look as prices, and how good as returns.

    Returns price before (M,), true price (M,), name -> forecast (M,), the table's rows.
    """
    n1, n2 = split_ends(len(prices))
    targets = np.arange(n2, len(prices))
    before, truth = prices[targets - horizon], prices[targets]
    fitted = fit_on(prices[:n1], length, horizon)
    forecasts = baseline_forecasts(prices, targets, horizon, fitted)
    forecasts = {name: forecasts[name] for name in ("moving average", "persistence")}
    rows = {}
    for name, forecast in forecasts.items():
        rows[name] = agreement(truth, forecast, "price")
        rows[name] |= agreement(truth / before - 1, forecast / before - 1, "return")
    utils.print_table(f"Test span of {source.label}, {horizon} step(s) ahead", rows)
    print(
        "A price is close to the one before it, so copying that one scores high.  The"
    )
    print(
        "question was the return, the change as a share of the price before, and there"
    )
    print(
        "persistence always says 0.  R2 of about 0 or less: no better than a constant."
    )
    return before, truth, forecasts, rows


def plot_split(args, source, series):
    """The parts in colour; below, four windows at the border of train and val."""
    if args.no_plots:
        return
    n, length, horizon = len(series), args.sequence_length, args.horizon
    n1, n2 = split_ends(n)
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 6.4), layout="constrained")
    for name, start, end in (("train", 0, n1), ("val", n1, n2), ("test", n2, n)):
        part = series.iloc[start:end]
        top.plot(part.index, part, linewidth=0.8, label=f"{name} ({end - start:,})")
    top.set_title(f"Split by time: {source.label}", parse_math=False)
    top.set_ylabel(series.name, parse_math=False)  # a name may hold dollar signs
    top.set_xlabel("date")
    top.legend(fontsize=8)
    for row, target in enumerate((-2, -1, 0, 1)):  # positions, counted from the border
        end, colour = target - horizon + 1, "C0" if target < 0 else "C1"
        inputs = np.arange(end - length, end)
        bottom.plot(inputs, np.full(length, -row), ".-", color=colour, markersize=3)
        bottom.plot(target, -row, "D", color=colour)
    bottom.axvline(-0.5, color="grey", linestyle="--")
    names = ["train, last but one", "train, last", "val, first", "val, second"]
    bottom.set_yticks([0, -1, -2, -3], names)
    bottom.set_title("Dots: inputs, may reach back.  Diamond: target, decides the part")
    bottom.set_xlabel("steps from the first value of validation (dashed: the border)")
    utils.save_picture(figure, args, "split")


def plot_autocorrelation(args, source, train, season):
    """Autocorrelation of the training span and its changes, lags 1, 2, ..."""
    most = min(len(train) // 3, int(2.5 * (season or 40)))
    band = np.full(most, 1.96 / np.sqrt(len(train)))
    lines = {
        "the series": autocorrelation(train, most)[1:],
        "its changes from step to step": autocorrelation(np.diff(train), most)[1:],
        "95 % of white noise lie below": band,
        "and above": -band,
    }
    title, x = f"Autocorrelation of {source.label}, training span", range(1, most + 1)
    utils.plot_lines(args, "autocorrelation", title, lines, "lag k (steps)", "r_k", x)


def plot_prices(args, source, before, truth, forecasts):
    """The same forecasts against the truth, as prices and as returns."""
    if args.no_plots:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.4))
    returns = 100 * (truth / before - 1)
    for name, forecast in forecasts.items():
        left.plot(truth, forecast, ".", markersize=3, label=name)
        change = 100 * (forecast / before - 1)
        right.plot(returns, change, ".", markersize=3, label=name)
    for axes, unit, point in ((left, "price", truth[0]), (right, "return (%)", 0.0)):
        axes.axline((point, point), slope=1, color="grey", label="perfect forecast")
        axes.set(xlabel=f"true {unit}", ylabel=f"forecast {unit}")
        axes.legend(fontsize=8)
    figure.suptitle(f"{source.label}: the same forecasts of the test span, seen twice")
    utils.save_picture(figure, args, "prices_and_returns")


# ====================================================================================
# 5. Command line
# ====================================================================================


def make_flags():
    """The flags of this lesson."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    names = ["sunspots", "stock", "sine", "simulated"]
    utils.add_data_flags(
        parser, names, "CSV: a column of dates, one or more of numbers"
    )
    add, size = parser.add_argument, utils.whole(1, 100_000)
    add("--column", help="what to forecast (default: the obvious one)")
    add("--sequence-length", type=size, default=36, help="T (default 36)")
    add("--horizon", type=size, default=1, help="steps ahead (default 1)")
    return parser


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__)
    length, horizon = args.sequence_length, args.horizon
    offline = {"sine": None, "simulated": None}
    source = utils.choose_dataset(args, real=["sunspots", "stock"], offline=offline)
    series, repairs = utils.load_series(args, source)
    series = utils.capped(args, series, 1000)
    values = series.to_numpy()  # (n,)
    utils.check_series(values, length, horizon)
    n1, n2 = split_ends(len(values))
    print(f"{source.label}: '{series.name}', {len(series):,} values")
    print("\n".join(f"  - {said}" for said in repairs or ["nothing to repair"]))
    show_repair()

    fitted = fit_on(values[:n1], length, horizon)
    scaled = (values - fitted.mean) / fitted.std
    scaled = torch.tensor(scaled, dtype=torch.float32, device=args.device)  # (n,)
    show_windows(scaled, length, horizon)
    show_split(series, length, horizon)
    plot_split(args, source, series)
    show_scaling(values, horizon, source)
    plot_autocorrelation(args, source, values[:n1], fitted.season)
    prices, market = values, source
    if source.name != "stock" or series.name == "volume":  # the next part needs prices
        prices = utils.simulated_prices(max(2500, len(values))).to_numpy()
        market = utils.Source("simulated", None, False)
    *seen, _ = show_prices(prices, market, length, horizon)
    plot_prices(args, market, *seen)

    val = score_baselines(values, n1, n2, horizon, fitted)
    test = score_baselines(values, n2, len(values), horizon, fitted)
    best = show_baselines(val, test, source, horizon, fitted)
    metrics = {f"test_{name.lower()}": score for name, score in test[best].items()}
    metrics["val_rmse"] = val[best]["RMSE"]
    if source.name == "sine":
        noise = utils.sine_series()[1].to_numpy()[n2 : len(values)]
        metrics["test_noise_variance"] = show_noise(noise, metrics["test_rmse"])
    baselines = {name: row["RMSE"] for name, row in test.items()}
    utils.write_metrics(args, source, metrics, baselines)


if __name__ == "__main__":
    sys.exit(utils.run(main))
