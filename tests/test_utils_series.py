"""rnn_utils: series read and repaired (section 2), baselines and scores of forecasts (5)."""

import argparse
import random

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import refusal, written

import rnn_utils as utils
from rnn_utils import Source, check_series, read_series, repair_series


def series_of(tmp_path, text, column=None):
    """Write a CSV file, read it and repair it."""
    return repair_series(read_series(written(tmp_path, "series.csv", text), column))


# ---------------------------------------------------------------- made-up series


def test_sine_series_noise_is_what_was_added():
    """The best possible forecast is quoted from this noise."""
    series, noise = utils.sine_series(n=4000, period=40, noise_std=0.3)
    clean = np.sin(2 * np.pi * np.arange(4000) / 40)
    np.testing.assert_array_equal(clean + noise.to_numpy(), series.to_numpy())
    assert abs(noise.std() - 0.3) < 0.3 * 0.05  # the estimate's own error is near 1 %
    assert abs(noise.mean()) < 3 * 0.3 / 4000**0.5
    assert series.index.equals(noise.index)


def test_simulated_prices_look_like_prices():
    """A price is positive, and its returns have the volatility that was asked for."""
    prices = utils.simulated_prices(n=3000, volatility=0.02)
    assert (prices > 0).all()
    assert abs(np.log(prices).diff().std() - 0.02) < 0.001


@pytest.mark.parametrize(
    "make", [lambda: utils.sine_series()[0], utils.simulated_prices]
)
def test_made_up_series_are_fixed(make):
    """They depend on no seed, and drawing them shifts nobody else's random numbers."""

    def draws():
        return random.random(), np.random.rand(), torch.rand(1).item()

    utils.set_seed(123)
    expected = draws()
    first = make()
    utils.set_seed(123)
    assert make().equals(first)
    assert draws() == expected


# ---------------------------------------------------------------- reading and repair


def test_repair_of_months_by_hand(tmp_path):
    """Sorting, the last of two rows, an added month, a filled cell, all by hand."""
    text = "Month,v\n2000-04,4\n2000-01,1\n2000-01,9\n2000-02,\n2000-05,5\n2000-06,6\n"
    series, said = series_of(tmp_path, text)
    assert series.tolist() == [9, 9, 9, 4, 5, 6]
    assert [f"{d:%Y-%m}" for d in series.index][:3] == ["2000-01", "2000-02", "2000-03"]
    assert series.name == "v"
    assert [sentence.split(";")[0] for sentence in said] == [
        "the dates were not in order: sorted",
        "rows that repeat a date: 1 (dates with different values: 1)",
        "missing dates: 1, the first 2000-03-01",
        "dates without a value: 1",
    ]


def test_repair_never_uses_the_future():
    """Repairing a prefix gives the prefix of the repair: filling looks only back."""
    dates = pd.date_range("2001-01-01", periods=40).delete([5, 6, 17, 30])
    values = np.random.default_rng(0).standard_normal(len(dates))
    values[[2, 11, 25]] = np.nan
    series = pd.Series(values, dates)
    whole, _ = repair_series(series)
    for cut in (20, 27, 34):  # with weekends: days, not trading days
        part, _ = repair_series(series.iloc[:cut])
        pd.testing.assert_series_equal(part, whole.iloc[: len(part)], check_freq=False)


HOURS = "".join(f"2000-01-01T0{h}:00:00Z,{h}\n" for h in (0, 1, 2, 4))
GRIDS = {
    "month ends": (
        "date,v\n2000-01-31,1\n2000-02-29,2\n2000-04-30,3\n2000-05-31,4\n",
        [1, 2, 2, 3, 4],
        "missing dates: 1, the first 2000-03-01",
    ),
    "years": (
        "year,v\n1749,1\n1750,2\n1752,3\n1753,9\n",
        [1, 2, 2, 3, 9],
        "missing dates: 1, the first 1751",
    ),
    "hours": (
        "time,v\n" + HOURS,
        [0, 1, 2, 2, 4],
        "missing dates: 1, the first 2000-01-01 03:00:00",
    ),
    "uneven": (
        "date,v\n2000-01-01,1\n2000-01-02,2\n2000-03-09,3\n2004-07-05,4\n",
        [1, 2, 3, 4],
        "the dates are not evenly spaced",
    ),
    "a gap of centuries": (  # filling it by seconds would take all memory
        "date,v\n1900-01-01,1\n1900-01-01T00:00:01,2\n2300-01-01,5\n",
        [1, 2, 5],
        "the dates are not evenly spaced",
    ),
    "infinity": (
        "date,v\n2000-01-01,1\n2000-01-02,inf\n2000-01-03,3\n",
        [1, 1, 3],
        "dates without a value: 1",
    ),
    "a gap at the start": (
        "date,v\n2000-01-01,\n2000-01-02,1\n2000-01-03,3\n",
        [1, 3],
        "dates without a value: 1",
    ),
    "long ago": ("Month,v\n1600-01,1\n1600-02,2\n1600-03,3\n", [1, 2, 3], None),
}


# Before version 3, pandas counted nanoseconds: it knew no year before 1678 or after 2261,
# and such dates are refused.
FAR = {"a gap of centuries", "long ago", "far date"}


def needs_far_dates(kind):
    if kind in FAR and pd.__version__ < "3":
        pytest.skip("this pandas has no such dates")


@pytest.mark.parametrize("kind", GRIDS)
def test_dates_of_all_kinds(tmp_path, kind):
    """What is missing on an even grid is added; elsewhere nothing is invented."""
    needs_far_dates(kind)
    text, values, says = GRIDS[kind]
    series, said = series_of(tmp_path, text)
    assert series.tolist() == values
    assert said[0].startswith(says) if says else said == []


def test_weekends_are_not_missing(tmp_path):
    """Trading days get no made-up prices at weekends; holidays are reported."""
    days = pd.bdate_range("2000-01-03", periods=30).delete(9)
    text = "date,v\n" + "".join(f"{d:%Y-%m-%d},{i}\n" for i, d in enumerate(days))
    series, said = series_of(tmp_path, text)
    assert series.tolist() == list(range(29))
    assert said[0].startswith("weekdays without a row: 1,")


def test_a_repaired_series_equals_the_clean_one(tmp_path):
    """To the last digit: shuffled rows, repeats and all."""
    values = np.random.default_rng(1).normal(size=90)
    dates = pd.date_range("2001-01-01", periods=90)
    rows = [f"{d:%Y-%m-%d},{v!r}" for d, v in zip(dates, values.tolist(), strict=True)]
    shuffled = random.Random(0).sample(rows, len(rows)) + rows[5:6]
    series, said = series_of(tmp_path, "\n".join(["date,v", *shuffled]))
    assert series.tolist() == values.tolist()
    assert len(said) == 2


def daily(values):
    dates = pd.date_range("2000-01-01", periods=len(values))
    rows = [f"{d:%Y-%m-%d},{v}" for d, v in zip(dates, values, strict=True)]
    return "\n".join(["date,v", *rows]) + "\n"


BROKEN = {
    "text": ("date,v\n2000-01-01,1\n2000-01-02,abc\n", "row 2 below the header: 'abc'"),
    "date": ("date,v\n1/2/2000,1\n", "'1/2/2000' is not a date"),
    "no date": ("date,v\n2000-01-01,1\n,2\n", "row 2 below the header: ''"),
    "no year": ("year,v\n1900,1\n,2\n1902,3\n", "row 2 below the header: ''"),
    "far date": ("date,v\n9999-01-01,1\n", "years 1000 to 9000"),
    "constant": ("date,v\n2000-01-01,4\n2000-01-02,4\n", "never changes"),
    "no values": ("date,v\n2000-01-01,\n2000-01-02,\n", "never changes"),
    "two columns": (
        "date,a,v\n2000-01-01,1,2\n",
        "choose one with --column (there are: a, v;",
    ),
    "only dates": ("date\n2000-01-01\n", "choose one with --column"),
    "no dates": ("a,b\n1,2\n3,4\n", "has no column of dates"),
    "wide rows": ("date,v\n2000-01-01,1,2\n2000-01-02,1,3\n", "more cells"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_series_that_cannot_be_read(tmp_path, kind):
    """One sentence that names the file or the series, and the row where there is one."""
    needs_far_dates(kind)
    text, says = BROKEN[kind]
    assert says in refusal(series_of, tmp_path, text)


def test_column_is_chosen_and_refused(tmp_path):
    """--column picks one; a wrong name and the dates' own name are refused."""
    path = written(tmp_path, "two.csv", "date,a,b\n2000-01-01,1,5\n2000-01-02,2,6\n")
    assert read_series(path, "b").tolist() == [5, 6]
    assert "there are: date, a, b;" in refusal(read_series, path, "c")
    assert "holds the dates" in refusal(read_series, path, "date")
    made = argparse.Namespace(column="close")
    assert "one column, 'sine'" in refusal(
        utils.load_series, made, Source("sine", None, False)
    )


NOISE = np.random.default_rng(1).normal(size=300)
ODD = {
    "constant test span": (np.r_[NOISE[:240], np.full(60, 2.0)], True),
    "a single step": (np.r_[np.zeros(100), np.ones(200)], True),
    "1e59": (1e59 * NOISE, True),
    "1e9 and a little": (1e9 + 1e-5 * NOISE, True),
    "constant training span": (np.r_[np.full(210, 0.1), NOISE[:90]], False),
    "1e99": (1e99 * NOISE, False),
    "1e-99": (1e-99 * NOISE, False),
    "one of 1e20": (np.r_[NOISE[:260], 1e20, NOISE[261:]], False),
}


@pytest.mark.parametrize("kind", ODD)
def test_series_that_cannot_be_scaled(kind):
    """What passes can be standardised by its training span without a warning."""
    values, passes = ODD[kind]
    if not passes:
        assert "cannot be scaled" in refusal(check_series, values, 8, 2)
        return
    check_series(values, 8, 2)
    train = values[: utils.split_by_time(300)[0]]
    with np.errstate(all="raise"):
        assert np.isfinite((values - train.mean()) / train.std()).all()


@pytest.mark.parametrize(("length", "horizon"), [(1, 1), (36, 1), (2, 30), (9, 9)])
def test_shortest_series_has_windows_in_every_part(length, horizon):
    """check_series lets nothing through that could not be trained or judged."""
    values = np.random.default_rng(1).normal(size=500)
    said = refusal(check_series, values[:3], length, horizon)
    need = int(said.split(" takes ")[1].split()[0].replace(",", ""))
    check_series(values[:need], length, horizon)
    assert "lower them" in refusal(check_series, values[: need - 1], length, horizon)
    first, second = utils.split_by_time(need)
    assert first >= 2 * (length + horizon)
    assert min(second - first, need - second) > 2 * horizon


@pytest.mark.real_data
def test_real_series(real_data):
    """The real sets have the sizes that they are known for."""
    args = argparse.Namespace(column=None)
    path = real_data / "monthly-sunspots.csv"
    series, said = utils.load_series(args, Source("sunspots", path, True))
    assert (len(series), said, series.name) == (2820, [], "Sunspots")
    path = real_data / "sp500-2000.csv"
    series, said = utils.load_series(args, Source("stock", path, True))
    assert (len(series), series.name) == (5105, "close")
    assert "weekdays without a row" in said[0]


# ---------------------------------------------------------------- autocorrelation, season


def test_autocorrelation_against_numpy():
    """np.correlate gives the same sums; of a constant all is 0."""
    values = np.convolve(NOISE, np.ones(4), "valid") + 7
    r = utils.autocorrelation(values, 12)
    centred = values - values.mean()
    full = np.correlate(centred, centred, "full")[len(values) - 1 :]
    np.testing.assert_allclose(r, full[:13] / full[0], atol=1e-12)
    hand = utils.autocorrelation(np.array([1.0, 2, 3]), 2)  # centred -1, 0, 1
    np.testing.assert_allclose(hand, [1, 0, -0.5])
    assert utils.autocorrelation(np.ones(9), 3).tolist() == [0, 0, 0, 0]


def test_season_is_found_and_not_invented():
    """The sine's 50 and no other; a straight line has none; it must fit three times."""
    sine = utils.sine_series()[0].to_numpy()
    assert utils.find_season(sine[:1400]) == 50
    assert utils.find_season(np.arange(300.0)) is None
    assert utils.find_season(sine[:130]) is None
    # Still rising at the last lag, 46 of 50: an end of the range is no peak.
    assert utils.find_season(np.sin(2 * np.pi * np.arange(140) / 50)) is None
    draws = np.random.default_rng(0).standard_normal((100, 300))
    assert sum(utils.find_season(noise) is not None for noise in draws) <= 5


# ---------------------------------------------------------------- baselines


def walk(n=320, seed=1):
    """A random walk with a wave of twelve steps."""
    steps = np.random.default_rng(seed).standard_normal(n)
    return np.cumsum(steps) + 3 * np.sin(2 * np.pi * np.arange(n) / 12)


def test_baselines_by_hand():
    """y_t = t^2, known up to 10, asked for 11, 12 and 17; a season of 5."""
    values = np.arange(20.0) ** 2
    origins = np.array([10])
    steps = [1, 2, 7]
    assert utils.persistence(values, origins, steps).tolist() == [[100, 100, 100]]
    # 11 - 5 = 6, 12 - 5 = 7; 17 - 5 = 12 is not known yet, so 17 - 10 = 7.
    assert utils.seasonal_naive(values, origins, steps, 5).tolist() == [[36, 49, 49]]
    mean = (64 + 81 + 100) / 3
    found = utils.moving_average(values, origins, steps, 3)
    np.testing.assert_allclose(found, [[mean, mean, mean]])


@pytest.mark.parametrize("horizon", [1, 5, 11])
def test_no_baseline_sees_the_future(horizon):
    """Changing every value after the origin changes no forecast."""
    values = walk(60)
    changed = values.copy()
    changed[41:] += 100
    origins = np.array([40])
    steps = np.arange(1, horizon + 1)
    for forecast, more in (
        (utils.persistence, ()),
        (utils.seasonal_naive, (5,)),
        (utils.moving_average, (7,)),
    ):
        one = forecast(values, origins, steps, *more)
        other = forecast(changed, origins, steps, *more)
        assert one.shape == (1, horizon)
        np.testing.assert_array_equal(one, other)


def test_best_width_by_brute_force():
    """The width that errs least on the training span, three steps ahead."""
    train = walk(200)
    errors = {}
    for width in range(2, 13):
        pairs = [
            (train[o - width + 1 : o + 1].mean(), train[o + 3]) for o in range(11, 197)
        ]
        errors[width] = np.mean([(a - b) ** 2 for a, b in pairs])
    assert utils.best_width(train, 12, 3) == min(errors, key=errors.get)


def test_autoregression_finds_a_known_one():
    """y_t = 1.2 y_(t-1) - 0.5 y_(t-2) + noise: its own forecast, one and two ahead."""
    rng = np.random.default_rng(5)
    y = np.zeros(6000)
    for t in range(2, len(y)):
        y[t] = 1.2 * y[t - 1] - 0.5 * y[t - 2] + 0.1 * rng.standard_normal()
    made, order = utils.autoregression(y, 4200, 5100, 8, 2)
    one = 1.2 * y[4199:-1] - 0.5 * y[4198:-2]
    two = 1.2 * one - 0.5 * y[4199:-1]
    assert 2 <= order <= 8 and made.shape == (1800, 2)
    np.testing.assert_allclose(made[:, 0], one, atol=0.03)
    np.testing.assert_allclose(made[:, 1], two, atol=0.03)


def test_autoregression_knows_neither_validation_nor_test():
    """Fitted on training; its order is chosen on validation, never on test."""
    values = walk()
    later = walk()
    later[250:] += 40  # within validation; at order 1 there is nothing to choose
    made = [utils.autoregression(v, 224, 272, 1, 2)[0][:27] for v in (values, later)]
    np.testing.assert_array_equal(*made)
    later = np.r_[values[:272], 60 + 30 * np.sin(np.arange(48) / 4)]
    made = [utils.autoregression(v, 224, 272, 12, 2) for v in (values, later)]
    assert made[0][1] == made[1][1]
    np.testing.assert_array_equal(made[0][0][:49], made[1][0][:49])


def test_values_ahead_by_hand():
    """The docstring's example, and NaN only past the end."""
    found = utils.values_ahead(np.array([1.0, 2, 3, 4]), 1, 4, 2)
    np.testing.assert_array_equal(found, [[2, 3], [3, 4], [4, np.nan]])


def test_forecast_scores_by_hand():
    """Errors 3 and -4: MSE 12.5, MAE 3.5, MASE 3.5 / 2."""
    found = utils.forecast_scores(np.array([3.0, -4.0]), 2.0)
    expected = {"MSE": 12.5, "RMSE": 12.5**0.5, "MAE": 3.5, "MASE": 1.75}
    assert found == pytest.approx(expected)
