"""Lesson 03: by hand equals shared, splits keep the future out, the traps are real."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import load_lesson, metrics, run_main, written
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.neighbors import KNeighborsRegressor

import rnn_utils as utils

lesson = load_lesson("03_time_series_basics")
SINE = utils.Source("sine", None, real=False)


def noise(n, seed=0):
    return np.random.default_rng(seed).standard_normal(n)


def walk(n=320, seed=1):
    """A random walk with a wave of twelve steps."""
    return np.cumsum(noise(n, seed)) + 3 * np.sin(2 * np.pi * np.arange(n) / 12)


def file_of(folder, values, name="value", file="series.csv"):
    """A CSV file of daily values."""
    dates = pd.date_range("2020-01-01", periods=len(values)).strftime("%Y-%m-%d")
    rows = [f"{date},{value:.4f}" for date, value in zip(dates, values, strict=True)]
    return written(folder, file, "\n".join([f"date,{name}", *rows]) + "\n")


# --- repair ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_repair_by_hand_equals_utils_on_random_rows(seed):
    """Months in any order, written twice, missing, empty, across the years' ends."""
    rng = np.random.default_rng(seed)
    months = pd.period_range("1999-09", periods=40, freq="M").strftime("%Y-%m")
    months = rng.choice(months, size=60)  # with repeats; about a fifth is left out
    rows = []
    for month in months:
        empty = rng.random() < 0.2
        rows.append((month, None if empty else float(rng.integers(100))))
    merged = lesson.merge_repeats(lesson.sort_rows(rows))
    filled = lesson.fill_gaps(merged)

    dates = pd.DatetimeIndex([f"{month}-01" for month in months])
    values = [np.nan if value is None else value for _, value in rows]
    series, _ = utils.repair_series(pd.Series(values, dates))
    assert [month for month, _ in filled] == series.index.strftime("%Y-%m").tolist()
    assert [value for _, value in filled] == series.tolist()


def test_the_ten_rows_show_every_fault():
    """Out of order, a date twice, a date missing, a cell empty: utils says all four."""
    rows = lesson.TEN_ROWS
    filled = lesson.fill_gaps(lesson.merge_repeats(lesson.sort_rows(rows)))
    dates = pd.DatetimeIndex([date for date, _ in rows])
    values = pd.Series([value for _, value in rows], dates, dtype=float)
    series, said = utils.repair_series(values)
    assert [value for _, value in filled] == series.tolist()
    assert len(said) == 4


def test_filling_never_looks_ahead():
    """Without its last row, a series is repaired to the same values before it."""
    rows = lesson.merge_repeats(lesson.sort_rows(lesson.TEN_ROWS))
    whole = lesson.fill_gaps(rows)
    for cut in range(1, len(rows)):
        part = lesson.fill_gaps(rows[:cut])
        assert part == whole[: len(part)]


# --- windows and splits ------------------------------------------------------------------

SHAPES = [(40, 5, 1), (40, 1, 1), (40, 4, 3), (41, 7, 12), (9, 3, 2)]


@pytest.mark.parametrize(("n", "length", "horizon"), SHAPES)
def test_windows_by_loop_and_by_unfold_equal_numpy(n, length, horizon):
    values = noise(n)
    whole = np.lib.stride_tricks.sliding_window_view(values, length + horizon)
    inputs, targets = lesson.windows_by_loop(values.tolist(), length, horizon)
    assert inputs == whole[:, :length].tolist()
    assert targets == whole[:, -1].tolist()
    inputs, targets = lesson.make_windows(torch.from_numpy(values), length, horizon)
    assert inputs.shape == (n - length - horizon + 1, length, 1)
    assert inputs[:, :, 0].tolist() == whole[:, :length].tolist()
    assert targets.tolist() == whole[:, -1].tolist()


def test_windows_are_views_of_the_series():
    values = torch.arange(30.0)
    inputs, targets = lesson.make_windows(values, 6, 2)
    values[10] = -1.0
    assert (inputs == -1).sum() == 6
    assert (targets == -1).sum() == 1


@pytest.mark.parametrize(
    ("n", "length", "horizon"), [(10, 3, 2), (100, 7, 1), (211, 1, 5), (333, 40, 3)]
)
def test_split_keeps_the_future_out(n, length, horizon):
    """All that a window forecasts lies in its part; h - 1 windows at a border in none."""
    n1, n2 = utils.split_by_time(n)
    parts = lesson.split_windows(n, length, horizon)
    inputs, targets = lesson.make_windows(torch.arange(n), length, horizon)  # places
    spans = {"train": (0, n1), "val": (n1, n2), "test": (n2, n)}
    by_target = {}
    for part, (start, end) in spans.items():
        first = start + (length + horizon - 1 if part == "train" else horizon - 1)
        by_target |= {place: part for place in range(first, end)}
        assert targets[parts[part]].tolist() == list(range(first, end))
        assert (inputs[parts[part]][:, -1] + 1 >= start).all()
    assert torch.equal(inputs[:, -1, 0] + horizon, targets)  # nothing after the origin
    assert parts["val"].start - parts["train"].stop == horizon - 1
    assert parts["test"].start - parts["val"].stop == horizon - 1
    for target in targets.tolist():
        part = lesson.part_of(target - horizon, target, n1, n2)
        assert part == by_target.get(target)
    places = lesson.targets_by_part(np.arange(n), length, horizon)
    for part, of_part in places.items():
        assert of_part.tolist() == targets[parts[part]].tolist()


def test_the_toy_windows_by_rule_and_by_slices(capsys):
    """The slices that are printed are those of the windows named after each part."""
    lesson.show_parts()
    said = capsys.readouterr().out
    parts = [line.split()[7] for line in said.splitlines() if line.startswith("  win")]
    assert parts == ["train"] * 3 + ["none"] * 2 + ["test"]
    assert "h = 2, slices of window numbers: train 0:3, val 4:4, test 5:6" in said
    assert "h = 1, slices of window numbers: train 0:4, val 4:5, test 5:7" in said


def test_the_drawing_of_a_series(capsys):
    """Ten times 0, 10 ... 70: each column is filled from the ground up to its value."""
    lesson.print_skyline(np.repeat(np.arange(0.0, 80, 10), 10), width=8, height=7)
    lines = capsys.readouterr().out.splitlines()
    floors = [float(line.split("|")[0]) for line in lines]
    assert floors == [60, 50, 40, 30, 20, 10, 0]
    heights = [
        sum(line.ljust(19)[11 + column] == "#" for line in lines) for column in range(8)
    ]
    assert heights == list(range(8))


# --- scaling -----------------------------------------------------------------------------


def test_scaling_and_fitting_see_the_training_span_alone(tmp_path, monkeypatch):
    """In the whole run: scaled, the first 70 % have mean 0 and std 1, and no others."""
    seen = []
    monkeypatch.setattr(
        lesson, "report_example", lambda *given: seen.append(given[1].values)
    )
    flags = ("--no-plots", "--out-dir", tmp_path / "out")
    assert run_main(lesson, "--input", file_of(tmp_path, walk(300)), *flags) == 0
    train = seen[0][:210]
    assert train.mean() == pytest.approx(0, abs=1e-6)
    assert train.std() == pytest.approx(1, abs=1e-6)


def test_fit_on_a_line():
    """Of 0, 2, 4, ...: the unit of MASE, no season."""
    values = np.arange(0.0, 80, 2)
    line = lesson.fit_on(values, 4, 1)
    assert (line.naive_mae, line.season) == (2, None)
    assert lesson.fit_on(values, 4, 3).naive_mae == 2  # one step, whatever is asked
    assert line.width == 2


def test_the_lie_of_scaling_is_the_ruler_and_nothing_else():
    """14 values of +-1 and 6 far away: each change, by numpy from its words."""
    values = np.array([1.0, -1] * 7 + [9, 11] * 3)
    lie, by_everything, by_train = lesson.report_scaling(values, 1, SINE)
    assert lie == pytest.approx(1 / values.std() - 1)
    assert by_train == pytest.approx(2)  # from -1 to 1, or 9 to 11; the std is 1
    assert by_everything == pytest.approx(2 / values.std())
    # Two steps back stands the same value: no error, so none that could change.
    assert lesson.report_scaling(values, 2, SINE) == (0, 0, 0)


# --- baselines ---------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [1, 2, 5, 6, 11])
def test_baselines_by_hand_equal_the_shared_ones(horizon):
    values = walk(80)
    origins = np.arange(30, 60)
    shared = {
        "persistence": utils.persistence(values, origins, [horizon]),
        "seasonal": utils.seasonal_naive(values, origins, [horizon], 5),
        "average": utils.moving_average(values, origins, [horizon], 7),
    }
    for row, origin in enumerate(origins):
        known = values[: origin + 1]  # whoever looks past the origin fails here
        by_hand = {
            "persistence": lesson.persistence_by_hand(known, origin),
            "seasonal": lesson.seasonal_naive_by_hand(known, origin, horizon, 5),
            "average": lesson.moving_average_by_hand(known, origin, 7),
        }
        for name, forecast in by_hand.items():
            assert shared[name][row, 0] == pytest.approx(forecast)


def test_autoregression_by_hand_equals_lstsq_and_the_shared_one():
    values = walk(90)
    pairs = list(pairwise(values[1:60].tolist()))
    weight, bias = lesson.line_by_hand(pairs)
    design = np.stack([values[1:59], np.ones(58)], axis=1)
    found = np.linalg.lstsq(design, values[2:60], rcond=None)[0]
    assert [weight, bias] == pytest.approx(found.tolist())
    inputs, targets = lesson.make_windows(torch.from_numpy(values[1:60]), 1, 1)
    weights, start = lesson.fit_line(inputs[:, :, 0], targets)
    assert [weights.item(), start.item()] == pytest.approx(found.tolist())
    forecast = weight * values[59] + bias
    shared, order = utils.autoregression(values, 60, 75, 1, 1)
    assert order == 1
    assert shared[0, 0] == pytest.approx(forecast)


def test_shared_autoregression_equals_lstsq_at_every_order():
    """Two steps ahead; its order is the one that does best on validation."""
    values = walk(200)
    n1, n2 = utils.split_by_time(200)
    made = {}
    for order in range(1, 5):
        targets = np.arange(5 + 1, n1)  # of two steps, after the first T + 1 = 5 values
        reads = np.array([[*values[t - 1 - order : t - 1], 1.0] for t in targets])
        weights = np.linalg.lstsq(reads, values[targets], rcond=None)[0]
        asked = np.array(
            [[*values[o - order + 1 : o + 1], 1.0] for o in range(200)[4:]]
        )
        made[order] = np.r_[np.zeros(4), asked @ weights]  # by origin
    val_origins = np.arange(n1 - 1, n2 - 2)
    errors = {
        order: np.mean((made[order][val_origins] - values[val_origins + 2]) ** 2)
        for order in made
    }
    best = min(errors, key=errors.get)
    shared, _ = utils.autoregression(values, n1, n2, 4, 2)
    np.testing.assert_allclose(shared[:, 1], made[best][n1 - 1 : 199])


@pytest.mark.parametrize(("length", "horizon"), [(3, 1), (7, 4)])
def test_the_line_on_windows_equals_linear_regression(length, horizon):
    """Fitted on the windows of train alone, in scaled numbers; answers in units."""
    values = walk(200)
    n1, _ = utils.split_by_time(200)
    _, made = lesson.line_on_series(values, length, horizon, n1)
    whole = np.lib.stride_tricks.sliding_window_view(values, length + horizon)
    inputs, targets = whole[:, :length], whole[:, -1]
    last = n1 - length - horizon + 1
    line = LinearRegression().fit(inputs[:last], targets[:last])
    np.testing.assert_allclose(made, line.predict(inputs))
    by_part = lesson.line_by_part(values, length, horizon)
    for part, truth in lesson.targets_by_part(values, length, horizon).items():
        windows = np.isin(targets, truth)  # no value comes twice
        np.testing.assert_allclose(by_part[part], line.predict(inputs[windows]))
    changed = values.copy()
    changed[n1:] += 100  # nothing after train may move what is learned from it
    _, again = lesson.line_on_series(changed, length, horizon, n1)
    np.testing.assert_allclose(made[:last], again[:last])


def test_batches_come_to_least_squares():
    """On an autoregression of order 2: the same weights, the same bias."""
    values = noise(66)  # 64 windows: each step sees all of them
    for t in range(2, 66):
        values[t] += 0.3 * values[t - 1] - 0.4 * values[t - 2] + 1
    series = torch.from_numpy(values)
    inputs, targets = lesson.make_windows(series, 2, 1)
    weights, bias = lesson.fit_line(inputs[:, :, 0], targets)
    layer = lesson.train_by_batches(inputs.float(), targets.float(), 800, 0.1, seed=0)
    assert layer.weight[0].tolist() == pytest.approx(weights.tolist(), abs=1e-4)
    assert layer.bias.item() == pytest.approx(bias.item(), abs=1e-4)


def test_the_table_of_the_search_shows_errors_of_both_ways(capsys, monkeypatch):
    """Unscaled values far from 0: the same learning rate overflows."""
    shown = {}
    monkeypatch.setattr(
        utils, "print_table", lambda title, rows, corner: shown.update(rows)
    )
    values = walk(400) + 100
    n1, n2 = utils.split_by_time(400)
    args = SimpleNamespace(device="cpu", seed=0)
    found = lesson.report_search(values, 5, 1, args)
    whole = np.lib.stride_tricks.sliding_window_view(values[:n2], 6)
    train, val = whole[: n1 - 5], whole[n1 - 5 :]
    line = LinearRegression().fit(train[:, :5], train[:, 5])
    for part, rows in (("train", train), ("val", val)):
        expected = root_mean_squared_error(rows[:, 5], line.predict(rows[:, :5]))
        assert shown["least squares"][f"{part} RMSE"] == pytest.approx(expected)
    assert found == shown["30 epochs"]["val RMSE"]
    errors = [shown[name]["train RMSE"] for name in ("1 epoch", "30 epochs")]
    assert errors[0] > errors[1] > shown["least squares"]["train RMSE"]
    assert np.isnan(shown["30 epochs, not scaled"]["train RMSE"])
    assert "That is why one scales." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("horizon", [1, 4])
def test_walking_forward_learns_from_what_is_known(monkeypatch, horizon):
    """Each stretch: a line of the targets before it, asked at each origin of it."""
    shown = {}
    monkeypatch.setattr(
        utils, "print_table", lambda title, rows, corner: shown.update(rows)
    )
    values = walk(400)
    dates = pd.date_range("2020-01-01", periods=400)
    lesson.report_walk_forward(pd.Series(values, dates), 5, horizon, SINE)
    borders = [dates.get_loc(date) for date in shown]
    assert borders[0] == 200
    asked = 0
    for border, end, row in zip(
        borders, [*borders[1:], 401 - horizon], shown.values(), strict=True
    ):
        known = [t for t in range(5 + horizon - 1, border)]
        reads = np.array([values[t - horizon - 4 : t - horizon + 1] for t in known])
        line = LinearRegression().fit(reads, values[known])
        origins = np.arange(border - 1, end - 1)
        forecast = line.predict(np.array([values[o - 4 : o + 1] for o in origins]))
        truth = values[origins + horizon]
        expected = root_mean_squared_error(truth, forecast)
        lazy = root_mean_squared_error(truth, values[origins])
        assert row["fitted line"] == pytest.approx(expected)
        assert row["persistence"] == pytest.approx(lazy)
        assert row["quotient"] == pytest.approx(expected / lazy)
        asked += len(origins)
    assert asked == 201 - horizon  # each origin of the second half once


def test_the_printed_weights_and_forecasts_are_the_lines(capsys):
    """The weights, that of the last value first, and the first forecast of validation."""
    values = walk(400)
    n1, _ = utils.split_by_time(400)
    dates = pd.date_range("2020-01-01", periods=400)
    lesson.report_line(pd.Series(values, dates), 5, 2)
    said = " ".join(capsys.readouterr().out.split())
    whole = np.lib.stride_tricks.sliding_window_view(values[:n1], 7)
    line = LinearRegression().fit(whole[:, :5], whole[:, 6])
    known = values[n1 - 5 : n1]  # two steps ahead: the first origin is n1 - 1
    forecast = line.predict(known[None])[0]
    assert " ".join(f"{weight:.2f}" for weight in line.coef_[::-1]) in said
    assert f"{known[-1]:.4g} {values[n1 + 1]:.4g} {forecast:.4g}" in said


def test_an_epoch_shows_each_window_once_in_another_order_each_time():
    inputs, targets = lesson.make_windows(torch.arange(150.0), 3, 1)
    loader = lesson.batches_of(inputs, targets, seed=0)
    epochs = []
    for _ in range(2):
        batches = list(loader)
        assert [len(answers) for _, answers in batches] == [64, 64, 19]
        for batch, answers in batches:
            assert torch.equal(batch[:, -1, 0] + 1, answers)
        epochs.append(torch.cat([answers for _, answers in batches]))
    assert torch.equal(epochs[0].sort().values, targets)
    assert torch.equal(epochs[1].sort().values, targets)
    assert not torch.equal(epochs[0], epochs[1])


@pytest.mark.parametrize("horizon", [1, 3, 14])
def test_no_forecast_of_test_sees_past_its_origin(horizon):
    values = walk()
    n1, n2 = utils.split_by_time(len(values))
    fitted = lesson.fit_on(values[:n1], 24, horizon)._replace(season=12)
    targets, before = lesson.all_forecasts(values, 24, horizon, fitted)
    val = range(n1 + horizon - 1, n2)
    assert targets.tolist() == [*val, *range(n2 + horizon - 1, len(values))]
    for row in (-1, -20):
        changed = values.copy()
        changed[targets[row] - horizon + 1 :] += 100
        _, after = lesson.all_forecasts(changed, 24, horizon, fitted)
        for name in before:
            assert before[name][row] == pytest.approx(after[name][row]), name
    assert len(before) == 4


@pytest.mark.parametrize("horizon", [1, 4, 13])
def test_forecasts_stand_at_their_targets(horizon):
    """A pure sine is a line of its last two values, and its own seasonal naive."""
    values = np.sin(2 * np.pi * np.arange(300) / 12) + 5
    fitted = lesson.fit_on(values[:210], 8, horizon)
    assert fitted.season == 12
    targets, made = lesson.all_forecasts(values, 8, horizon, fitted)
    for name in ("fitted line", "seasonal naive"):
        np.testing.assert_allclose(made[name], values[targets], atol=1e-6)
    np.testing.assert_array_equal(made["persistence"], values[targets - horizon])
    rows = lesson.score_all(values, targets, made, fitted)
    expected = root_mean_squared_error(
        values[255 + horizon - 1 :], values[254:-horizon]
    )
    assert rows["persistence"]["test RMSE"] == pytest.approx(expected)


def test_the_best_baseline_is_chosen_on_validation():
    def rows(**val_and_test):
        return {
            name.replace("_", " "): {"val RMSE": val, "test RMSE": test}
            for name, (val, test) in val_and_test.items()
        }

    found = lesson.best_and_rival(rows(line=(2, 1), persistence=(1, 2), x=(3, 0)))
    assert found == ("persistence", "line")
    found = lesson.best_and_rival(rows(line=(1, 2), persistence=(3, 1), x=(2, 0)))
    assert found == ("line", "x")


# --- season ------------------------------------------------------------------------------


def test_autocorrelation_by_hand_equals_the_shared_one_and_numpy():
    values = walk(60)
    centred = values - values.mean()
    full = np.correlate(centred, centred, "full")[59:]
    found = [lesson.autocorrelation_by_hand(values.tolist(), k) for k in range(20)]
    np.testing.assert_allclose(found, full[:20] / full[0])
    np.testing.assert_allclose(found, utils.autocorrelation(values, 19))


def test_a_season_is_found_in_a_sine_and_not_in_walks_or_noise():
    assert utils.find_season(utils.sine_series()[0].to_numpy()[:1400]) == 50
    walks = [utils.find_season(np.cumsum(noise(300, seed))) for seed in range(100)]
    pure = [utils.find_season(noise(300, seed)) for seed in range(100)]
    assert sum(found is not None for found in walks) <= 5
    assert sum(found is not None for found in pure) <= 2


# --- scores and chance -------------------------------------------------------------------


def test_scores_by_hand_equal_the_shared_ones_and_sklearn():
    truth, forecast, train = noise(150).reshape(3, 50)
    errors = forecast - truth
    found = lesson.scores_by_hand(errors.tolist(), train.tolist())
    naive_mae = mean_absolute_error(train[1:], train[:-1])
    assert found["RMSE"] == pytest.approx(root_mean_squared_error(truth, forecast))
    assert found["MAE"] == pytest.approx(mean_absolute_error(truth, forecast))
    assert found["MASE"] == pytest.approx(found["MAE"] / naive_mae)
    shared = utils.forecast_scores(errors, naive_mae)
    assert found == pytest.approx({name: shared[name] for name in found})


def test_copying_one_step_ahead_in_train_has_mase_one():
    train = walk(100)
    fitted = lesson.fit_on(train, 4, 1)
    scores = utils.forecast_scores(np.diff(train), fitted.naive_mae)
    assert scores["MASE"] == pytest.approx(1)


def test_r2_equals_sklearn():
    truth, forecast = noise(100).reshape(2, 50)
    found = lesson.r_squared(truth, forecast)
    assert found == pytest.approx(r2_score(truth, forecast))
    assert lesson.r_squared(np.ones(5), np.zeros(5)) == 0  # nothing to explain


def test_chance_one_step_ahead_is_the_test_of_diebold_and_mariano():
    """With the small-sample correction of Harvey, Leybourne and Newbold."""
    ours, theirs = noise(160).reshape(2, 80)
    theirs = theirs * 1.3
    d = ours**2 - theirs**2
    statistic = d.mean() / np.sqrt(d.var() / 80) * np.sqrt((80 + 1 - 2) / 80)
    expected = 2 * stats.t.sf(abs(statistic), 79)
    assert lesson.luck(ours, theirs, 1)[1] == pytest.approx(expected)
    assert lesson.luck(ours, theirs, 1)[0] == pytest.approx(
        stats.ttest_1samp(d, 0).statistic
    )
    assert lesson.luck(ours, ours, 1) == (0.0, 1.0)
    assert lesson.luck(ours[:7], theirs[:7], 4) == (0.0, 1.0)  # one block tells nothing
    t, p = lesson.luck(np.zeros(9), np.ones(9), 1)  # always better, by as much
    assert t < -1e6
    assert p < 1e-6


def test_chance_farther_ahead_raises_few_false_alarms():
    """Errors 6 steps ahead go up and down together; taken singly they alarm often."""
    alarms = {1: 0, 6: 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        ours, theirs = (
            np.convolve(rng.standard_normal(305), np.ones(6), "valid") for _ in "ab"
        )
        for horizon in alarms:
            alarms[horizon] += lesson.luck(ours, theirs, horizon)[1] < 0.05
    assert alarms[6] <= 24
    assert alarms[1] >= 40


# --- the traps ---------------------------------------------------------------------------


def test_look_up_is_the_nearest_neighbour():
    known, targets, asked = noise(400).reshape(80, 5), noise(80), noise(60, 2)
    asked = asked.reshape(12, 5)
    found = lesson.most_similar(torch.from_numpy(asked), torch.from_numpy(known))
    nearest = KNeighborsRegressor(1).fit(known, targets)
    np.testing.assert_array_equal(targets[found], nearest.predict(asked))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shuffled_windows_forecast_what_nobody_can(seed):
    """A walk drawn by lot: by time the look-up loses, shuffled it beats persistence."""
    rows = lesson.report_shuffled(np.cumsum(noise(1500, seed)), 30, 10)
    assert rows["by time"]["look-up"] > rows["by time"]["persistence"]
    assert rows["at random"]["look-up"] < 0.6 * rows["at random"]["persistence"]
    # The line learns nothing by heart: it stays where it was.
    line = rows["at random"]["fitted line"] / rows["at random"]["persistence"]
    assert line == pytest.approx(1, abs=0.1)


def test_the_random_price_is_the_shared_one():
    np.testing.assert_allclose(
        lesson.random_price(), utils.simulated_prices().to_numpy()
    )


def test_leaking_finds_windows_that_know_their_answer():
    places, targets = lesson.make_windows(torch.arange(100), 5, 4)
    places = places[:, :, 0]
    train = torch.arange(50)  # the newest target is 49 + 8 = 57
    later = torch.arange(53, 92)  # the first origin is 53 + 4 = 57
    assert lesson.leaking(places, targets, train, later) == 0
    earlier = torch.arange(50, 92)  # as if the target alone decided: h - 1 leak
    assert lesson.leaking(places, targets, train, earlier) == 3
    # A program that puts the target into the window.
    within = torch.cat([places, targets[:, None]], dim=1)
    assert lesson.leaking(within, targets, train, later) == len(later)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_leaks_are_counted_in_the_table_of_both_splits(seed):
    rows = lesson.report_shuffled(np.cumsum(noise(700, seed)), 12, 5)
    assert rows["by time"]["leaking"] == 0
    assert rows["at random"]["leaking"] > 0.9 * rows["at random"]["asked"]


@pytest.mark.parametrize("half", [1, 6])
def test_centred_mean_equals_pandas(half):
    values = walk(50)
    rolling = pd.Series(values).rolling(2 * half + 1, center=True).mean().dropna()
    np.testing.assert_allclose(lesson.centred_mean(values, half), rolling)


def test_a_smoothed_series_knows_its_future():
    """Noise cannot be forecast; smoothed, it seems to be, and honestly half at most.

    Of the 13 values that a target averages, 6 are past at the origin.
    """
    dates = pd.date_range("2020-01-01", periods=3000)
    series = pd.Series(noise(3000), dates, name="noise")
    rows = lesson.report_smoothing(series, SINE, 36, 1)
    smooth = lesson.centred_mean(series.to_numpy(), 6)
    spread = {"raw": 1.0, "smoothed": smooth.std(), "smoothed, honest": smooth.std()}
    r2 = {
        name: 1 - (row["line RMSE"] / spread[name]) ** 2 for name, row in rows.items()
    }
    assert r2["raw"] < 0.05
    assert r2["smoothed"] > 0.85
    assert r2["smoothed, honest"] < 6 / 13 + 0.05


def test_prices_look_good_and_returns_do_not():
    rows = lesson.report_prices(utils.simulated_prices().to_numpy(), "simulated")
    for row in rows.values():
        assert row["R2 of price"] > 0.95
        assert -0.05 < row["R2 of return"] <= 0


# --- whole runs --------------------------------------------------------------------------


def test_quick_run_leaves_metrics(tmp_path):
    flags = ("--quick", "--no-plots", "--out-dir", tmp_path / "out")
    assert run_main(lesson, *flags) == 0
    found = metrics(tmp_path)
    assert found["real"] is False
    scores = found["metrics"]
    assert scores["test_rmse"] in found["baselines"].values()
    assert scores["line_test_rmse"] < found["baselines"]["persistence"]
    assert scores["test_rmse"] ** 2 > scores["test_noise_variance"]
    assert np.isfinite(list(scores.values())).all()


def test_same_seed_same_output(tmp_path, capsys):
    texts = []
    for name in ("a", "b"):
        flags = ("--quick", "--seed", 3, "--no-plots", "--out-dir", tmp_path / name)
        assert run_main(lesson, *flags) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(("length", "horizon"), [(1, 1), (36, 1), (2, 30), (9, 9)])
def test_the_shortest_series_that_is_taken_also_runs(tmp_path, length, horizon):
    """check_series lets nothing through that a later step cannot use."""
    need = next(n for n in range(20, 500) if not refused(n, length, horizon))
    path = file_of(tmp_path, walk(need))
    flags = ("--sequence-length", length, "--horizon", horizon, "--no-plots")
    out = ("--out-dir", tmp_path / "out")
    assert run_main(lesson, "--input", path, *flags, *out) == 0
    assert np.isfinite(list(metrics(tmp_path)["metrics"].values())).all()


def refused(n, length, horizon):
    try:
        utils.check_series(walk(n), length, horizon)
    except utils.UserError:
        return True
    return False


def test_a_straight_line_runs_without_warnings(tmp_path, recwarn):
    """Its changes are constant: no spread to divide by, and nothing may turn to NaN."""
    path = file_of(tmp_path, np.arange(200.0))
    flags = ("--no-plots", "--out-dir", tmp_path / "out")
    assert run_main(lesson, "--input", path, *flags) == 0
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]
    found = metrics(tmp_path)["metrics"]
    assert found["test_rmse"] == pytest.approx(0, abs=1e-9)  # the fitted line is exact
    assert np.isfinite(list(found.values())).all()


def test_a_picture_whatever_the_names(tmp_path):
    """Names of files and columns are no formulas; drawn as such they would fail."""
    path = file_of(tmp_path, walk(200), name="p$^$", file="m$^$.csv")
    assert run_main(lesson, "--input", path, "--out-dir", tmp_path / "out") == 0
    pictures = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {"forecasts"}


@pytest.mark.real_data
def test_figures_of_the_docstring(real_data, tmp_path):
    flags = ("--data-dir", real_data, "--no-plots", "--out-dir")
    assert run_main(lesson, *flags, tmp_path / "out") == 0
    spots = metrics(tmp_path)
    assert spots["dataset"] == "sunspots"
    assert spots["real"] is True
    expected = {"test_rmse": 17.985, "test_mase": 1.160, "p_of_lead": 0.001}
    expected |= {"line_test_rmse": 17.9855}
    expected |= {"scaling_lie": -0.128, "smoothed_line_rmse": 1.615}
    expected |= {"smoothed_honest_line_rmse": 9.968}
    expected |= {"look_up_rmse": 7.5302, "look_up_shuffled_rmse": 1.3316}
    expected |= {"line_by_batches_val_rmse": 15.8049}
    for name, value in expected.items():
        assert spots["metrics"][name] == pytest.approx(value, abs=6e-4, rel=5e-4), name
    assert spots["baselines"]["persistence"] == pytest.approx(19.7322, abs=6e-5)
    assert spots["baselines"]["seasonal naive"] == pytest.approx(44.8352, abs=6e-5)
    assert run_main(lesson, "--dataset", "sine", *flags, tmp_path / "sine") == 0
    assert metrics(tmp_path, "sine")["metrics"]["test_rmse"] == pytest.approx(
        0.2094, abs=6e-5
    )


@pytest.mark.real_data
def test_figures_of_the_docstring_for_prices(real_data):
    prices = utils.read_series(real_data / "sp500-2000.csv", "close")
    prices, _ = utils.repair_series(prices)
    lie, _, _ = lesson.report_scaling(prices.to_numpy(), 1, SINE)
    assert lie == pytest.approx(-0.633, abs=6e-4)
    rows = lesson.report_prices(prices.to_numpy(), "stock [real]")
    assert rows["persistence"]["R2 of price"] == pytest.approx(0.9765, abs=6e-5)
    for row in rows.values():
        assert -0.03 < row["R2 of return"] <= 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_quick_run_on_cuda(tmp_path):
    flags = ("--quick", "--device", "cuda", "--no-plots", "--out-dir", tmp_path / "out")
    assert run_main(lesson, *flags) == 0
