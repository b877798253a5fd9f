"""03: series, windows, splits, scaling and baselines, against known answers."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, load_lesson, run_main, run_script

import rnn_utils
from rnn_utils import UserError, check_series, read_series, repair_series

NAME = "03_time_series_basics"
lesson = load_lesson(NAME)


def series_of(tmp_path, text, column=None):
    """Write a CSV file, read it and repair it."""
    path = tmp_path / "series.csv"
    path.write_text(text)
    return repair_series(read_series(path, column))


def daily(n, seed=1):
    """A random walk with a weekly wave, as a CSV file's text."""
    dates = pd.date_range("2020-01-01", periods=n)
    values = np.cumsum(np.random.default_rng(seed).standard_normal(n))
    rows = [f"{d:%Y-%m-%d},{v:.4f}" for d, v in zip(dates, values, strict=True)]
    return "\n".join(["date,value", *rows]) + "\n"


# ------------------------------------------------------------------- reading and repair


def test_repair_of_months_by_hand(tmp_path):
    """Sorting, the last of two rows, an added month, a filled cell, all by hand."""
    text = "Month,v\n2000-04,4\n2000-01,1\n2000-01,9\n2000-02,\n2000-05,5\n2000-06,6\n"
    series, said = series_of(tmp_path, text)
    assert series.tolist() == [9, 9, 9, 4, 5, 6]
    assert [f"{d:%Y-%m-%d}" for d in series.index][:3] == [
        "2000-01-01",
        "2000-02-01",
        "2000-03-01",
    ]
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


def test_month_ends_are_months(tmp_path):
    """Month ends have no even step in days, and yet a month is missing here."""
    text = "date,v\n2000-01-31,1\n2000-02-29,2\n2000-04-30,3\n2000-05-31,4\n"
    series, said = series_of(tmp_path, text)
    assert series.tolist() == [1, 2, 2, 3, 4]
    assert "first 2000-03-01" in said[0]


def test_years_and_hours(tmp_path):
    """A year is 365 or 366 days; an hour missing among hours is found as well."""
    years, _ = series_of(tmp_path, "year,v\n1749,1\n1750,2\n1752,3\n1753,9\n")
    assert years.tolist() == [1, 2, 2, 3, 9]
    hours = "".join(f"2000-01-01T0{h}:00:00Z,{h}\n" for h in (0, 1, 2, 4))
    series, said = series_of(tmp_path, "time,v\n" + hours)
    assert series.tolist() == [0, 1, 2, 2, 4]
    assert "2000-01-01 03:00:00" in said[0]


def test_weekends_are_not_missing(tmp_path):
    """Trading days get no made-up prices at weekends; holidays are reported."""
    days = pd.bdate_range("2000-01-03", periods=30).delete(9)
    text = "date,v\n" + "".join(f"{d:%Y-%m-%d},{i}\n" for i, d in enumerate(days))
    series, said = series_of(tmp_path, text)
    assert series.tolist() == list(range(29))
    assert said[0].startswith("weekdays without a row: 1,")
    _, said = series_of(tmp_path, text.replace("2000-01-13,8\n2000-01-17,9\n", ""))
    assert said[0].startswith("weekdays without a row: 3,")


def test_uneven_dates_are_reported(tmp_path):
    """Dates on no grid are taken in order; nothing is invented between them."""
    text = "date,v\n2000-01-01,1\n2000-01-02,2\n2000-03-09,3\n2004-07-05,4\n"
    series, said = series_of(tmp_path, text)
    assert series.tolist() == [1, 2, 3, 4]
    assert said == ["the dates are not evenly spaced: taken one after another"]


def test_a_gap_of_centuries_costs_no_memory(tmp_path):
    """Filling by seconds over centuries would take all memory: not a grid."""
    text = "date,v\n1900-01-01,1\n1900-01-01T00:00:01,2\n2300-01-01,5\n"
    assert len(series_of(tmp_path, text)[0]) == 3


def test_leading_gap_and_infinity(tmp_path):
    """Nothing stands before the first value, so there is nothing to carry forward."""
    text = "date,v\n2000-01-01,\n2000-01-02,1\n2000-01-03,inf\n2000-01-04,3\n"
    series, said = series_of(tmp_path, text)
    assert series.tolist() == [1, 1, 3]
    assert said[-1] == "dates before the first value: 1; left out"


def test_ancient_months(tmp_path):
    """1600 lies before what nanosecond timestamps can hold."""
    series, _ = series_of(tmp_path, "Month,v\n1600-01,1\n1600-02,2\n1600-03,3\n")
    assert series.index[0].year == 1600


BROKEN = {
    "text": ("date,v\n2000-01-01,1\n2000-01-02,abc\n", "row 2 below the header: 'abc'"),
    "date": ("date,v\n1/2/2000,1\n", "'1/2/2000' is not a date"),
    "no date": ("date,v\n2000-01-01,1\n,2\n", "row 2 below the header: ''"),
    "no year": ("year,v\n1900,1\n,2\n1902,3\n", "row 2 below the header: ''"),
    "impossible date": ("date,v\n2000-02-30,1\n", "'2000-02-30' is not a date"),
    "constant": ("date,v\n2000-01-01,4\n2000-01-02,4\n", "never changes"),
    "no values": ("date,v\n2000-01-01,\n2000-01-02,\n", "never changes"),
    "one row": ("date,v\n2000-01-01,1\n", "never changes"),
    "short": (daily(30), "takes 107 or more"),
    "still at first": (
        "date,v\n"
        + "".join(f"{2000 + i},{0.1 if i < 180 else i}\n" for i in range(200)),
        "cannot be scaled",
    ),
    "huge": (
        "date,v\n" + "".join(f"{1000 + i},{i}e305\n" for i in range(150)),
        "cannot be scaled",
    ),
    "two columns": (
        daily(200).replace(",", ",7,").replace("e,7,v", "e,a,v"),
        "a, value",
    ),
    "only dates": ("date\n2000-01-01\n", "choose one with --column"),
    "no dates": ("a,b\n1,2\n3,4\n", "has no column of dates"),
    "semicolons": ("date;v\n2000-01-01;1\n2000-01-02;2\n", "choose one with --column"),
    "wide rows": ("date,v\n2000-01-01,1,2\n2000-01-02,1,3\n", "more cells"),
    "empty": ("", "empty"),
    "header only": ("date,v\n", "no rows"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_input_is_one_sentence(kind, tmp_path, capfd):
    """Whatever is wrong with the file: status 2, one line on stderr, no traceback."""
    text, expected = BROKEN[kind]
    path = tmp_path / "broken.csv"
    path.write_text(text)
    flags = ("--input", path, "--out-dir", tmp_path / "out", "--no-plots")
    assert run_main(lesson, *flags) == 2
    error = capfd.readouterr().err
    assert expected in error and error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--input", "nowhere.csv"), "no such file"),
        (("--input", str(ROOT / "samples")), "cannot be read"),
        (("--dataset", "sine", "--column", "close"), "one column, 'sine'"),
        (("--dataset", "moon"), "invalid choice"),
        (("--dataset", "sine", "--horizon", "0"), "not between"),
        (("--dataset", "sine", "--sequence-length", "x"), "not a whole number"),
        (("--dataset", "sine", "--sequence-length", "700"), "lower them"),
        (("--colum", "v"), "unrecognized"),
    ],
)
def test_wrong_flags_are_one_sentence(flags, expected, tmp_path, capfd):
    """A wrong flag ends with status 2 and says what is wrong."""
    assert run_main(lesson, *flags, "--out-dir", tmp_path) == 2
    error = capfd.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_column_is_chosen_and_refused(tmp_path):
    """--column picks one; a wrong name and the dates' own name are refused."""
    path = tmp_path / "two.csv"
    path.write_text("date,a,b\n2000-01-01,1,5\n2000-01-02,2,6\n")
    assert read_series(path, "b").tolist() == [5, 6]
    with pytest.raises(UserError, match="it has: date, a, b"):
        read_series(path, "c")
    with pytest.raises(UserError, match="holds the dates"):
        read_series(path, "date")


# ------------------------------------------------------------------ windows and splits


@pytest.mark.parametrize(("length", "horizon"), [(5, 1), (1, 1), (4, 3), (7, 12)])
def test_windows_against_a_loop(length, horizon):
    """Each window and target, against plain slices."""
    values = torch.randn(40, dtype=torch.float64)
    inputs, targets = lesson.make_windows(values, length, horizon)
    count = 40 - length - horizon + 1
    assert inputs.shape == (count, length, 1) and targets.shape == (count,)
    for k in range(count):
        assert torch.equal(inputs[k, :, 0], values[k : k + length])
        assert targets[k] == values[k + length - 1 + horizon]


def test_windows_copy_no_memory():
    """Windows and targets are views: writing to the series shows in both."""
    values = torch.arange(30.0)
    inputs, targets = lesson.make_windows(values, 6, 2)
    for view in (inputs, targets):
        assert view.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()
    values[10] = -1.0
    assert (inputs == -1).sum() == 6 and (targets == -1).sum() == 1


@pytest.mark.parametrize(
    ("n", "length", "horizon"), [(100, 7, 1), (211, 1, 5), (333, 40, 3)]
)
def test_split_keeps_the_future_out(n, length, horizon):
    """Targets: each of val and test exactly once, none twice; train ends before n1."""
    n1, n2 = lesson.split_ends(n)
    parts = lesson.split_windows(n, length, horizon)
    inputs, targets = lesson.make_windows(torch.arange(n), length, horizon)
    assert targets[parts["val"]].tolist() == list(range(n1, n2))
    assert targets[parts["test"]].tolist() == list(range(n2, n))
    assert targets[parts["train"]].tolist() == list(range(length + horizon - 1, n1))
    assert inputs[parts["train"]].max() < n1 and inputs[parts["val"]].max() < n2
    latest = inputs[:, -1, 0]
    assert torch.equal(latest + horizon, targets)  # no input after the forecast is made


def test_leaked_share_by_hand():
    """n = 6, T = 2, h = 1: the windows' positions are 01>2, 12>3, 23>4, 34>5."""
    share = lesson.leaked_share
    assert share(6, 2, 1, [0, 1], [2, 3]) == 0.0
    assert share(6, 2, 1, [0, 2], [1, 3]) == 0.5  # 3 is an input of 23>4; 5 is unseen
    assert share(6, 2, 1, [0, 3], [1, 2]) == 1.0


# ------------------------------------------------------------------ fitting and scores


def test_autocorrelation_against_numpy_and_pandas():
    """np.correlate gives the same sums; pandas' estimator differs only at the ends."""
    rng = np.random.default_rng(3)
    values = np.convolve(rng.standard_normal(5000), np.ones(4), "valid") + 7
    r = lesson.autocorrelation(values, 12)
    centred = values - values.mean()
    full = np.correlate(centred, centred, "full")[len(values) - 1 :]
    np.testing.assert_allclose(r, full[:13] / full[0], atol=1e-12)
    series = pd.Series(values)
    for lag in range(1, 13):
        assert r[lag] == pytest.approx(series.autocorr(lag), abs=3e-3)
    np.testing.assert_allclose(r[1:4], [0.75, 0.5, 0.25], atol=0.05)  # of this average


def test_autocorrelation_by_hand_and_of_a_constant():
    """1, 2, 3: centred -1, 0, 1, so r = 1, 0, -1/2.  A constant gives zeros."""
    np.testing.assert_allclose(
        lesson.autocorrelation(np.array([1.0, 2, 3]), 2), [1, 0, -0.5]
    )
    assert lesson.autocorrelation(np.ones(9), 3).tolist() == [0, 0, 0, 0]


def test_white_noise_band():
    """About 95 % of white noise's r_k lie in the band, not 80 and not 100."""
    r = lesson.autocorrelation(np.random.default_rng(5).standard_normal(4000), 1000)
    share = (np.abs(r[1:]) < 1.96 / np.sqrt(4000)).mean()
    assert 0.92 < share < 0.99


def test_season_is_found_and_not_invented():
    """The sine's 50 and no other; a straight line and a random walk have none."""
    sine = rnn_utils.sine_series()[0].to_numpy()
    assert lesson.find_season(sine[:1400]) == 50
    assert lesson.find_season(np.arange(300.0)) is None
    assert lesson.find_season(sine[:130]) is None  # 50 must fit three times


def fitted(**changes):
    """A Fitted with numbers that cannot be mistaken for each other."""
    base = {
        "mean": 0,
        "std": 1,
        "season": 5,
        "average": 3,
        "slope": 0.25,
        "naive_mae": 2,
    }
    return lesson.Fitted(**(base | changes))


def test_baselines_by_hand():
    """y_t = t^2, target 12, h = 2: the origin is 10, the season 5 leads to 7."""
    values = np.arange(20.0) ** 2
    made = lesson.baseline_forecasts(values, np.array([12]), 2, fitted())
    assert made["persistence"] == [100]
    assert made["drift"] == [100.5]
    assert made["moving average"] == pytest.approx([(64 + 81 + 100) / 3])
    assert made["seasonal naive"] == [49]
    assert "seasonal naive" not in lesson.baseline_forecasts(
        values, np.array([12]), 2, fitted(season=None)
    )


@pytest.mark.parametrize("horizon", [1, 4, 5, 6, 11])
def test_no_baseline_sees_the_future(horizon):
    """Changing every value after the origin changes no forecast."""
    values = np.random.default_rng(2).standard_normal(60)
    changed = values.copy()
    changed[40 - horizon + 1 :] += 100
    target = np.array([40])
    before = lesson.baseline_forecasts(values, target, horizon, fitted())
    after = lesson.baseline_forecasts(changed, target, horizon, fitted())
    for name in before:
        assert before[name] == pytest.approx(after[name]), name


def test_fit_sees_only_what_it_is_given():
    """Mean, slope and yardstick of 0, 2, 4, ...; the width by brute force."""
    line = lesson.fit_on(np.arange(0.0, 80, 2), 4, 1)
    assert (line.mean, line.slope, line.naive_mae, line.season) == (39, 2, 2, None)
    assert line.average == 2 and line.std == np.arange(0.0, 80, 2).std()
    train = np.random.default_rng(8).standard_normal(200) + np.sin(np.arange(200) / 9)
    errors = {}
    for width in range(2, 13):
        pairs = [
            (train[o - width + 1 : o + 1].mean(), train[o + 3])
            for o in range(11, 197)  # T = 12, h = 3
        ]
        errors[width] = np.mean([(a - b) ** 2 for a, b in pairs])
    assert lesson.fit_on(train, 12, 3).average == min(errors, key=errors.get)


def test_scores_by_hand():
    """Errors 3 and -4: RMSE sqrt(12.5), MAE 3.5, MASE 3.5 / 2."""
    found = lesson.scores(np.array([1.0, 9]), np.array([4.0, 5]), 2.0)
    assert found == pytest.approx({"RMSE": 12.5**0.5, "MAE": 3.5, "MASE": 1.75})


def test_the_best_baseline_is_chosen_on_validation(capsys):
    """Chosen on test, its test score would be flattered."""
    val = {name: {"RMSE": x} for name, x in (("drift", 2.0), ("persistence", 1.0))}
    test = {name: {"RMSE": x} for name, x in (("drift", 1.0), ("persistence", 2.0))}
    fitted = lesson.Fitted(0.0, 1.0, None, 3, 0.0, 1.0)
    source = rnn_utils.Source("sine", None, False)
    assert lesson.show_baselines(val, test, source, 1, fitted) == "persistence"
    assert "Best on validation: persistence" in capsys.readouterr().out


def test_persistence_has_mase_one_on_train():
    """By definition: one step ahead, on the span that the yardstick was taken from."""
    values = np.random.default_rng(4).standard_normal(100)
    found = lesson.score_baselines(values, 1, 100, 1, lesson.fit_on(values, 1, 1))
    assert found["persistence"]["MASE"] == pytest.approx(1.0)


def test_agreement_against_sklearn_and_numpy():
    """R2 as scikit-learn has it; a forecast that never changes has no correlation."""
    from sklearn.metrics import r2_score

    truth, forecast = np.random.default_rng(6).standard_normal((2, 50))
    found = lesson.agreement(truth, forecast, "x")
    assert found["R2 of x"] == pytest.approx(r2_score(truth, forecast))
    assert found["corr of x"] == pytest.approx(np.corrcoef(truth, forecast)[0, 1])
    rounded = np.full(50, 0.3) + 1e-14 * forecast
    assert "corr of x" not in lesson.agreement(truth, rounded, "x")


def test_scaling_lie_by_hand(capsys):
    """14 values of +-1 and 6 far away: each change, by numpy from its words."""
    values = np.array([1.0, -1] * 7 + [9, 11] * 3)
    lie = lesson.show_scaling(values, 1, rnn_utils.Source("sine", None, False))
    assert lie["persistence"] == pytest.approx(1 / values.std() - 1)
    error = lambda mean: np.sqrt(np.mean((values[17:] - mean) ** 2))
    assert lie["constant"] == pytest.approx(error(values.mean()) / error(0.0) - 1)
    assert f"{lie['persistence']:+.1%}" in capsys.readouterr().out


def test_prices_look_good_and_returns_do_not():
    """The lesson's point: on prices R2 is near 1, on returns near 0 or below."""
    prices = rnn_utils.simulated_prices().to_numpy()
    source = rnn_utils.Source("simulated", None, False)
    _, _, _, rows = lesson.show_prices(prices, source, 20, 1)
    row = rows["persistence"]
    assert row["R2 of price"] > 0.95 and row["corr of price"] > 0.95
    assert -0.05 < row["R2 of return"] <= 0 and "corr of return" not in row


def test_noise_is_what_the_lesson_says():
    """The lesson prints 0.04; the sine's noise must really have that variance."""
    series, noise = rnn_utils.sine_series(100_000)
    assert np.mean(noise**2) == pytest.approx(0.04, rel=0.02)
    wave = np.sin(2 * np.pi * np.arange(100_000) / 50)
    np.testing.assert_allclose(series - noise, wave, atol=1e-9)


def test_shortest_series_that_passes_also_runs(tmp_path):
    """check_series lets nothing through that a later step cannot use."""
    for length, horizon in ((1, 1), (36, 1), (2, 30), (9, 9)):
        with pytest.raises(UserError, match=r"takes ([\d,]+) or more") as caught:
            check_series(np.arange(3.0), length, horizon)
        need = int(str(caught.value).split(" takes ")[1].split()[0].replace(",", ""))
        path = tmp_path / "series.csv"
        path.write_text(daily(need))
        flags = ("--input", path, "--sequence-length", length, "--horizon", horizon)
        assert run_main(lesson, *flags, "--out-dir", tmp_path / "out") == 0
        path.write_text(daily(need - 1))
        assert run_main(lesson, *flags, "--out-dir", tmp_path / "out") == 2


# ------------------------------------------------------------------------- whole runs


def test_seasons_and_widths_are_fitted_on_train(tmp_path, monkeypatch):
    """What was fitted on everything has seen the test span."""
    seen, fit_on = [], lesson.fit_on

    def watched(train, *rest):
        seen.append(len(train))
        return fit_on(train, *rest)

    monkeypatch.setattr(lesson, "fit_on", watched)
    (tmp_path / "a.csv").write_text(daily(300))
    flags = ("--input", tmp_path / "a.csv", "--no-plots", "--out-dir", tmp_path)
    assert run_main(lesson, *flags) == 0
    assert 210 in seen and 300 not in seen  # 70 % of 300; the other is of prices


def test_dollar_signs_in_names(tmp_path):
    """Names of files and columns are no formulas; drawing them as such would fail."""
    path = tmp_path / "m$^$.csv"
    path.write_text(daily(200).replace("value", "p$^$"))
    assert run_main(lesson, "--input", path, "--out-dir", tmp_path / "out") == 0


def test_a_straight_line_runs_without_warnings(tmp_path, recwarn):
    """Its changes are constant: no spread to divide by, and nothing may turn to NaN."""
    path = tmp_path / "line.csv"
    path.write_text("year,v\n" + "".join(f"{1000 + i},{i}\n" for i in range(200)))
    assert run_main(lesson, "--input", path, "--out-dir", tmp_path / "out") == 0
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]
    assert metrics["test_rmse"] == pytest.approx(0, abs=1e-9)  # drift is exact
    assert np.isfinite(list(metrics.values())).all()


def test_quick_run_offline(tmp_path):
    """Without a network: status 0, metrics, three pictures, the label."""
    done = run_script(NAME, "--quick", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert "sine [sample]" in done.stdout and "simulated [sample]" in done.stdout
    assert "shared with the series: True" in done.stdout
    assert "'sine', 1,000 values" in done.stdout  # --quick caps the amount
    out = tmp_path / "outputs" / NAME
    result = json.loads((out / "metrics.json").read_text())
    assert result["dataset"] == "sine" and result["real"] is False
    assert set(result["metrics"]) == {
        "test_rmse",
        "test_mae",
        "test_mase",
        "val_rmse",
        "test_noise_variance",
    }
    assert result["metrics"]["test_rmse"] in result["baselines"].values()
    assert (
        result["metrics"]["test_rmse"] ** 2 > result["metrics"]["test_noise_variance"]
    )
    for picture in ("split", "autocorrelation", "prices_and_returns"):
        assert (out / f"{picture}.png").stat().st_size > 5000


def test_same_seed_same_output(tmp_path, capsys):
    """Two runs print the same; --no-plots draws nothing."""
    flags = ("--dataset", "simulated", "--seed", 3, "--no-plots", "--out-dir")
    texts = []
    for name in ("a", "b"):
        assert run_main(lesson, *flags, tmp_path / name / "out") == 0
        texts.append(capsys.readouterr().out)
        assert not list((tmp_path / name).rglob("*.png"))
    assert texts[0] == texts[1]


def test_commands_of_the_docstring_parse():
    """Every command that the lesson shows is one that it takes."""
    commands = [line.split() for line in lesson.__doc__.splitlines() if ".py" in line]
    assert len(commands) == 3
    for _, script, *flags in commands:
        assert script == f"{NAME}.py"
        lesson.make_flags().parse_args(flags)


@pytest.mark.real_data
def test_figures_of_the_docstring(real_data, tmp_path):
    """The docstring's figures for the real series, as the lesson computes them."""
    flags = ("--data-dir", real_data, "--no-plots", "--out-dir", tmp_path / "out")
    assert run_main(lesson, *flags) == 0
    spots = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert spots["dataset"] == "sunspots" and spots["real"] is True
    assert spots["metrics"]["test_rmse"] == pytest.approx(19.73, abs=0.005)
    assert spots["metrics"]["test_mase"] == pytest.approx(1.28, abs=0.006)
    prices = read_series(real_data / "sp500-2000.csv", "close")
    values = repair_series(prices)[0].to_numpy()
    assert lesson.show_scaling(values, 1, rnn_utils.Source("sine", None, False))[
        "persistence"
    ] == pytest.approx(-0.63, abs=0.005)
    source = rnn_utils.Source("stock", real_data, True)
    before, truth, made, rows = lesson.show_prices(values, source, 36, 1)
    assert rows["moving average"]["corr of return"] == pytest.approx(0.29, abs=0.005)
    calm = prices.index[-len(truth) :] < "2020-02-20"
    made = (made["moving average"] / before - 1)[calm]
    found = lesson.agreement((truth / before - 1)[calm], made, "return")
    assert found["R2 of return"] == pytest.approx(-0.22, abs=0.005)
    assert found["corr of return"] == pytest.approx(0.04, abs=0.005)
    assert (~calm).sum() == 41


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_windows_on_cuda(tmp_path):
    """Windows are views on the GPU as well."""
    flags = ("--quick", "--device", "cuda", "--no-plots", "--out-dir", tmp_path / "out")
    assert run_main(lesson, *flags) == 0
