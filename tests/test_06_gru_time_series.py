"""06: the cell, windows, scaling, tests and bands, against oracles."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import load_lesson, run_main, run_script
from torch import nn

import rnn_utils as utils

NAME = "06_gru_time_series"
lesson = load_lesson(NAME)


def walk(n=320, seed=1):
    """A made-up series with a wave and a walk in it."""
    rng = np.random.default_rng(seed)
    return 50 + np.cumsum(rng.standard_normal(n)) + 5 * np.sin(np.arange(n) / 4)


def csv(tmp_path, values, start="2020-01-01"):
    """The values as a CSV file of days; its path."""
    frame = pd.DataFrame({"date": pd.date_range(start, periods=len(values))})
    frame["value"] = values
    path = tmp_path / "series.csv"
    frame.to_csv(path, index=False)
    return path


def flags_of(tmp_path, *flags):
    """args as main would have them, for a small network."""
    small = ("--hidden-size", "6", "--epochs", "2", "--out-dir", str(tmp_path / "out"))
    script = lesson.__file__
    return utils.parse_flags(lesson.make_flags(), [*small, *map(str, flags)], script)


CONFIG = {"hidden": 6, "layers": 1, "dropout": 0.0, "horizon": 3}
SMALL = ("--epochs", 2, "--hidden-size", 5, "--sequence-length", 7, "--horizon", 3)


# --------------------------------------------------------------------------- the cell


def test_cell_by_hand_equals_torch():
    """States and the gradients of every input and weight, in float64."""
    torch.manual_seed(3)
    layer = nn.GRU(3, 7, batch_first=True).double()
    x = torch.randn(4, 5, 3, dtype=torch.double, requires_grad=True)
    h = torch.randn(4, 7, dtype=torch.double, requires_grad=True)
    ours, theirs = lesson.gru_by_hand(x, h, *layer.parameters()), layer(x, h[None])[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
    weights, goal = [x, h, *layer.parameters()], torch.randn(4, 5, 7).double()
    grads = [torch.autograd.grad((s * goal).sum(), weights) for s in (ours, theirs)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_original_variant_worked_out():
    """One unit, one step, by hand; both variants agree where the reset gate is open."""
    w_ih, w_hh = (
        torch.tensor([[0.5], [1.0], [2.0]]),
        torch.tensor([[0.2], [0.1], [3.0]]),
    )
    b_ih, b_hh = torch.zeros(3), torch.tensor([0.0, 0.0, 0.7])
    x, h = torch.tensor([[[1.0]]]), torch.tensor([[0.4]])
    sigmoid = lambda a: 1 / (1 + math.exp(-a))
    r, z = sigmoid(0.5 + 0.2 * 0.4), sigmoid(1.0 + 0.1 * 0.4)
    for original, inner in ((True, 3 * r * 0.4 + 0.7), (False, r * (3 * 0.4 + 0.7))):
        n = math.tanh(2.0 + inner)
        made = lesson.gru_by_hand(x, h, w_ih, w_hh, b_ih, b_hh, original)
        assert made.item() == pytest.approx((1 - z) * n + z * 0.4, rel=1e-5)
    open_reset = b_ih + torch.tensor([50.0, 0, 0])  # r = 1: nothing is left out
    both = [
        lesson.gru_by_hand(x, h, w_ih, w_hh, open_reset, b_hh, original)
        for original in (False, True)
    ]
    torch.testing.assert_close(*both)


def test_the_two_networks_share_nothing():
    """The next step's forecast depends on the first GRU alone; shapes are right."""
    torch.manual_seed(0)
    model = lesson.Forecaster(5, 2, 0.3, 4).eval()
    x = torch.randn(3, 9, 1)
    assert model(x).shape == (3, 4, 3)
    assert lesson.Forecaster(5, 1, 0.0, 1)(x).shape == (3, 1, 3)
    model(x)[:, 0].sum().backward()
    touched = {
        k.split(".")[1]
        for k, p in model.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert touched == {"0"}


def test_a_forecast_does_not_depend_on_its_batch():
    """One row alone, and the same row among others in another order."""
    torch.manual_seed(0)
    model, x = lesson.Forecaster(5, 2, 0.3, 4).eval(), torch.randn(6, 9, 1)
    order = torch.tensor([4, 1, 5, 0, 3, 2])
    torch.testing.assert_close(model(x)[order], model(x[order]))
    torch.testing.assert_close(model(x)[2:3], model(x[2:3]))


# ------------------------------------------------------- windows, split and scaling


@pytest.mark.parametrize("target", ["price", "return"])
def test_windows_against_a_loop(target):
    """Each input and each answer, from the definition, by plain indexing."""
    values, T, h = walk(), 6, 3
    fold = lesson.make_fold(values, T, h, target)
    levels = np.log(values) if target == "return" else values
    read = np.diff(levels, prepend=np.nan) if target == "return" else levels
    mean, std = np.nanmean(read[: fold.n1]), np.nanstd(read[: fold.n1])
    windows = lesson.make_windows(fold, 0, fold.n1)
    assert windows["x"].shape == (fold.n1 - T - h, T, 1)
    for row, origin in ((0, T), (17, T + 17), (-1, fold.n1 - 1 - h)):
        expected = (read[origin - T + 1 : origin + 1] - mean) / std
        np.testing.assert_allclose(windows["x"][row, :, 0], expected, atol=1e-5)
        for k in range(1, h + 1):
            changes = levels[k : fold.n1] - levels[: fold.n1 - k]
            change = (levels[origin + k] - levels[origin]) / np.mean(changes**2) ** 0.5
            assert windows["y"][row, k - 1].item() == pytest.approx(change, abs=1e-5)


def test_no_window_straddles_the_split():
    """Cut from 0, 1, 2, ...: targets stay in their part, inputs before them."""
    positions, T, h = np.arange(200.0), 5, 4
    plain = {"mean": 0.0, "std": 1.0, "steps": [1.0] * h}
    fold = lesson.make_fold(positions, T, h, "price", plain)
    for start, end in ((0, fold.n1), (fold.n1, fold.n2), (fold.n2, 200)):
        windows = lesson.make_windows(fold, start, end)
        origin = windows["x"][:, -1, 0]
        targets = origin[:, None] + windows["y"]
        assert targets.min() == max(start, T + 1) and targets.max() == end - 1
        assert (targets > windows["x"][:, :, 0].amax(1, keepdim=True)).all()
    pasts = lesson.pasts(fold, fold.n2, 200)
    assert pasts.shape == (30, T + 1)
    assert pasts[:, -1].tolist() == list(range(fold.n2 - 1, 199))
    truth = utils.truth_ahead(positions, fold.n2, 200, h)
    assert truth[0].tolist() == [fold.n2 + k for k in range(h)]
    assert truth[-1, 0] == 199 and np.isnan(truth[-1, 1:]).all()


@pytest.mark.parametrize("target", ["price", "return"])
def test_training_never_sees_the_test_span(target, tmp_path):
    """Another test span: training, validation, margins the same to the bit."""
    args, values = flags_of(tmp_path), walk()
    other = values.copy()
    other[272:] = 1000 + walk(48, 9)
    made = []
    for series in (values, other):
        fold = lesson.make_fold(series, 7, 3, target)
        model, records = lesson.train_model(fold, CONFIG, args)
        losses = [(r["loss"], r["val_loss"]) for r in records]
        state = [p.tolist() for p in model.parameters()]
        margins = lesson.calibrate(model, fold, args).tolist()
        made.append((fold.scaling, losses, state, margins))
    assert fold.n2 == 272 and made[0] == made[1]
    leaky = [lesson.make_fold(v, 7, 3, target, leaky=True) for v in (values, other)]
    assert leaky[0].scaling != leaky[1].scaling  # the leak that the flag measures


def test_scaling_never_sees_validation():
    """The scaling is that of the first 70 % alone, worked by hand."""
    values = np.r_[np.tile([1.0, 3.0], 70), np.full(60, 500.0)]
    scaling = lesson.make_fold(values, 4, 2, "price").scaling
    assert scaling["mean"] == 2 and scaling["std"] == 1
    assert scaling["steps"] == pytest.approx([2, 2e-6])  # two steps later: no change


def test_forecasts_use_no_future(tmp_path):
    """Changing every value from position 290 on changes no forecast made before it."""
    args, values = flags_of(tmp_path), walk()
    other = values.copy()
    other[290:] += 100
    made = []
    for series in (values, other):
        fold = lesson.make_fold(series, 7, 3, "price")
        model = lesson.train_model(fold, CONFIG, args)[0]
        past = lesson.pasts(fold, 272, 320)
        errors = lesson.judge(model, fold, args).errors
        first = {name: e[0][: 290 - 272].tolist() for name, e in errors.items()}
        direct = lesson.answers(model, fold, past, args)[:19]
        fed_back = lesson.feed_back(model, fold, past, 3, args)[:19]
        made.append((first, direct.tolist(), fed_back.tolist()))
    assert made[0] == made[1]
    assert set(made[0][0]) >= {"persistence", "autoregression", "GRU", "GRU fed back"}


# ------------------------------------------------------------- losses, tests and bands


def test_model_learns_a_tiny_batch(tmp_path):
    """Eight windows by heart, or the model has a bug."""
    torch.manual_seed(0)
    batch = {"x": torch.randn(8, 6, 1), "y": torch.randn(8, 3)}
    model = lesson.Forecaster(32, 1, 0.0, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(600):
        sums, count = lesson.step(model, batch)
        optimizer.zero_grad()
        (sums["loss"] / count).backward()
        optimizer.step()
    assert count == 8 and sums["one_step"].item() / count < 0.002
    assert sums["loss"].item() / count < 0.06  # Adam wobbles around the pinball's kink


def test_each_loss_is_least_at_what_it_stands_for():
    """Squared error at the mean, pinball at the quantiles, of 1, 2, ..., 100."""
    y, grid = torch.arange(1.0, 101), torch.arange(0.25, 101, 0.25)
    for level in (lesson.LOW, lesson.HIGH):
        losses = torch.stack([lesson.pinball(y, q, level).mean() for q in grid])
        assert (y <= grid[losses.argmin()]).double().mean().item() == pytest.approx(
            level
        )
    assert lesson.pinball(torch.tensor(5.0), torch.tensor(3.0), 0.9).item() == (
        pytest.approx(1.8)
    )
    assert lesson.pinball(torch.tensor(3.0), torch.tensor(5.0), 0.9).item() == (
        pytest.approx(0.2)
    )


def test_step_sums_by_hand():
    """Answers 0 throughout: near step counts once, the far ones by their mean."""
    model = lesson.Forecaster(4, 1, 0.0, 3)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    y = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.0, 3.0]])
    sums, count = lesson.step(model, {"x": torch.zeros(2, 5, 1), "y": y})
    # one value: y^2 + pinball(0.1) + pinball(0.9) = y^2 + |y| for both signs
    assert count == 2 and sums["one_step"].item() == 1
    assert sums["loss"].item() == pytest.approx(2 + (6 + 2 + 0 + 12) / 2)


def test_diebold_mariano_by_hand():
    """d = 3, -1, 2, 0: mean 1, autocovariances 2.5 and -1.75, worked on paper."""
    ours, theirs = np.array([2.0, 0, 2**0.5, 1]), np.array([1.0, 1, 0, 1])
    statistic, p = lesson.diebold_mariano(ours, theirs)
    # HLN: sqrt((4 + 1 - 2) / 4) / sqrt(2.5 / 4)
    assert statistic == pytest.approx((3 / 4) ** 0.5 / (2.5 / 4) ** 0.5)
    # Student's t, 3 degrees, a = atan(x / sqrt 3):
    # P(|t| > x) = 1 - 2/pi (a + sin a cos a)
    a = math.atan(statistic / 3**0.5)
    assert p == pytest.approx(1 - 2 / math.pi * (a + math.sin(a) * math.cos(a)))
    other = lesson.diebold_mariano(theirs, ours)
    assert other[0] == pytest.approx(-statistic) and other[1] == pytest.approx(p)
    # h = 2: 2.5 - 2 * 1.75 < 0, so the variance is 2.5; sqrt((5 - 4 + 2/4) / 4)
    second, _ = lesson.diebold_mariano(ours, theirs, 2)
    assert second == pytest.approx((1.5 / 4) ** 0.5 / (2.5 / 4) ** 0.5)
    assert lesson.diebold_mariano(ours, ours) == (0.0, 1.0)


def test_diebold_mariano_counts_overlap():
    """h = 2 where neighbours are alike, d = 1, 3, 5, 7: g_0 5, g_1 1.25, so 7.5 / 4."""
    d = np.array([1.0, 3, 5, 7])
    statistic, _ = lesson.diebold_mariano(d**0.5, np.zeros(4), 2)
    assert statistic == pytest.approx((1.5 / 4) ** 0.5 * 4 / (7.5 / 4) ** 0.5)


def test_diebold_mariano_rejects_at_its_level():
    """Equal forecasts: about 5 % of p below 0.05.  A clearly better one: nearly all."""
    rng, rejected, found = np.random.default_rng(0), 0, 0
    for _ in range(400):
        a, b = rng.standard_normal((2, 60))
        rejected += lesson.diebold_mariano(a, b)[1] < 0.05
        found += lesson.diebold_mariano(a, 3 * b)[1] < 0.05
    assert 6 <= rejected <= 36 and found > 380


def test_calibration_by_hand(monkeypatch, tmp_path):
    """A band at the last value: the margin is a known one of the sorted changes."""
    args, values = flags_of(tmp_path), walk()
    fold = lesson.make_fold(values, 7, 2, "price")
    flat = lambda model, fold, past, args: np.repeat(past[:, -1:, None], 6, 1).reshape(
        -1, 2, 3
    )
    monkeypatch.setattr(lesson, "answers", flat)
    margins = lesson.calibrate(None, fold, args)
    for k, margin in ((1, margins[0]), (2, margins[1])):
        targets = np.arange(fold.n1 + k - 1, fold.n2)
        moves = np.sort(np.abs(values[targets] - values[targets - k]))
        rank = math.ceil(0.8 * (len(moves) + 1))
        assert margin.tolist() == pytest.approx([-moves[rank - 1], 0, moves[rank - 1]])
        assert (moves <= margin[2]).mean() >= 0.8


def test_scores_by_hand():
    """Errors 3 and -4: MSE 12.5, MAE 3.5, MASE 3.5 / 2."""
    found = utils.forecast_scores(np.array([3.0, -4]), 2.0)
    assert found == pytest.approx(
        {"MSE": 12.5, "RMSE": 12.5**0.5, "MAE": 3.5, "MASE": 1.75}
    )


# ------------------------------------------------------------------------- baselines


@pytest.mark.parametrize("horizon", [1, 4, 60])
def test_baselines_are_those_of_lesson_03(horizon):
    """Same season, same width, same forecasts, one step and four steps ahead."""
    other, values = load_lesson("03_time_series_basics"), utils.sine_series(700)[0]
    values = values.to_numpy()
    fitted = other.fit_on(values[:490], 12, 1)
    assert utils.find_season(values[:490]) == fitted.season == 50
    made = utils.series_baselines(values, 490, 595, 700, 12, horizon)
    for k in range(1, horizon + 1):
        targets = np.arange(594 + k, 700)
        expected = other.baseline_forecasts(values, targets, k, fitted)
        for name, forecast in made.items():
            ours = forecast[: len(targets), k - 1]
            np.testing.assert_allclose(ours, expected[name], atol=1e-9, err_msg=name)
    assert utils.find_season(np.arange(300.0)) is None


def test_autoregression_finds_a_known_one():
    """y_t = 1.2 y_(t-1) - 0.5 y_(t-2) + noise: its own forecast, one and two ahead."""
    rng, y = np.random.default_rng(5), np.zeros(6000)
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
    values, later = walk(), walk()
    later[250:] += 40  # within validation; at order 1 there is nothing to choose
    made = [utils.autoregression(v, 224, 272, 1, 2)[0][:27] for v in (values, later)]
    np.testing.assert_array_equal(*made)
    later = np.r_[values[:272], 60 + 30 * np.sin(np.arange(48) / 4)]
    made = [utils.autoregression(v, 224, 272, 12, 2) for v in (values, later)]
    assert made[0][1] == made[1][1]
    np.testing.assert_array_equal(made[0][0][:49], made[1][0][:49])


def test_moving_average_is_chosen_on_training():
    """Its width, too, must not know what comes after the training span."""
    values, later = walk(), walk()
    later[224:] = 50 + 30 * np.random.default_rng(2).standard_normal(96)
    made = [
        utils.series_baselines(v, 224, 224, 320, 9, 2)["moving average"][0]
        for v in (values, later)
    ]
    assert made[0].tolist() == made[1].tolist()


def test_the_best_baseline_is_chosen_on_validation(tmp_path, monkeypatch):
    """Chosen on test, the strongest rival would be one that nobody could have known."""
    args, values = flags_of(tmp_path), walk()
    fold = lesson.make_fold(values, 7, 3, "price")
    wrong = 9.0 * (np.arange(fold.n1, 320) < fold.n2)[:, None]  # on validation
    right = np.repeat(values[fold.n1 :, None], 3, 1)
    made = {"right on test": right + wrong, "right on validation": right + 9 - wrong}
    monkeypatch.setattr(utils, "series_baselines", lambda *a: dict(made))
    monkeypatch.setattr(utils, "autoregression", lambda *a: (right + 99, 1))
    found = lesson.judge(lesson.Forecaster(**CONFIG), fold, args)
    assert found.best == "right on validation"


def test_side_experiments_train_on_what_they_say(tmp_path, monkeypatch):
    """walk_forward on beginnings of the series, --leaky-scaling on a leak."""
    args, values, folds = flags_of(tmp_path), walk(), []
    fold = lesson.make_fold(values, 7, 3, "price")
    monkeypatch.setattr(lesson, "train_model", lambda f, *a: (folds.append(f), None))
    row = {"RMSE": 2.0, "p": 0.5}
    rows = dict.fromkeys(("GRU", "persistence", "autoregression"), row)
    monkeypatch.setattr(lesson, "judge", lambda *a: lesson.Namespace(rows=rows))
    source, index = (
        utils.Source("input", tmp_path, False),
        pd.date_range("2020", None, 320),
    )
    lesson.walk_forward(fold, index, CONFIG, source, args)
    assert [len(f.values) for f in folds] == [176, 224, 272]
    assert all(f.n2 == round(0.85 * len(f.values)) for f in folds)
    lesson.report_leak(fold, CONFIG, row, args)
    assert folds[-1].scaling == lesson.fit_scaling(values, 3, "price") != fold.scaling


def test_feeding_back_is_iterating(tmp_path):
    """Three steps at once are one step, three times, on its own answers."""
    args, values = flags_of(tmp_path), walk()
    fold = lesson.make_fold(values, 7, 3, "return")
    torch.manual_seed(0)
    model, past = lesson.Forecaster(**CONFIG), lesson.pasts(fold, 272, 280)
    at_once = lesson.feed_back(model, fold, past, 3, args)
    for k in range(3):
        mean = lesson.answers(model, fold, past, args)[:, 0, 1]
        np.testing.assert_allclose(at_once[:, k], mean, atol=1e-6)
        past = np.c_[past[:, 1:], mean]
    assert lesson.feed_back(model, fold, past, 1, args).shape == (8, 1)


# ------------------------------------------------------------------------- whole runs


def test_quick_run_offline(tmp_path):
    """What a learner without a network gets: status 0, metrics, the pictures."""
    done = run_script(NAME, "--quick", "--forecast", 15, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "sine [sample]" in done.stdout and "walk-forward" in done.stdout
    out = tmp_path / "outputs" / NAME
    result = json.loads((out / "metrics.json").read_text())
    assert result["dataset"] == "sine" and result["real"] is False
    assert result["epochs_run"] == 2 and result["args"]["horizon"] == 12
    metrics, known = result["metrics"], result["baselines"]
    assert {"test_mse", "test_rmse", "test_mae", "test_mase"} <= metrics.keys()
    assert {"GRU_rmse", "GRU fed back_rmse"}.isdisjoint(known)
    assert None not in metrics.values() and "gru_rmse_at_horizon" in metrics
    assert {"noise_variance", "persistence_rmse", "autoregression_rmse"} <= known.keys()
    assert known["noise_variance"] == pytest.approx(0.04, rel=0.4)
    assert metrics["test_mse"] == pytest.approx(metrics["test_rmse"] ** 2)
    for picture in ("training", "horizon", "forecast", "lag", "future"):
        assert (out / f"{picture}.png").stat().st_size > 5000


def test_future_band_is_calibrated(tmp_path, capsys, monkeypatch):
    """The margins that validation asked for hold for the future too."""
    fold = lesson.make_fold(np.arange(1.0, 41), 3, 2, "price")
    made = np.array([[[1.0, 2, 3], [4, 5, 6]]])
    monkeypatch.setattr(lesson, "answers", lambda *args: made)
    margins = np.array([[-10.0, 0, 10], [-20, 0, 20]])
    index = pd.date_range("2000-01-01", periods=40)
    args = flags_of(tmp_path, "--forecast", 2, "--no-plots")
    source = utils.Source("sine", None, False)
    lesson.continue_series(None, fold, margins, index, source, args)
    rows = [line.split()[-3:] for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [[float(cell) for cell in row] for row in rows] == [
        [-9, 2, 13],
        [-16, 5, 26],
    ]


def test_checkpoint_forecasts_as_before_saving(tmp_path, capsys):
    """--eval-only: the same metrics and the same forecast, whatever the flags say."""
    path = csv(tmp_path, walk())
    common = ("--input", path, "--path", tmp_path / "m.pt", "--forecast", 5)
    common = (*common, "--no-plots", "--out-dir")
    assert run_main(lesson, *common, tmp_path / "a/o", "--save-model", *SMALL) == 0
    before = capsys.readouterr().out
    assert run_main(lesson, *common, tmp_path / "b/o", "--eval-only") == 0
    after = capsys.readouterr().out
    tail = lambda text: text[text.index(", after 20") :]
    assert tail(before).strip() == tail(after).strip()
    read = lambda x: json.loads((tmp_path / x / "o/metrics.json").read_text())[
        "metrics"
    ]
    saved, loaded = read("a"), read("b")
    assert {k: v for k, v in saved.items() if "walk" not in k} == loaded
    assert "2020-11-16" in after and not list(tmp_path.rglob("*.png"))


def test_resume_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """Interrupted after epoch 1 and resumed: the metrics of a run in one go."""
    path = csv(tmp_path, walk())
    flags = ("--input", path, *SMALL, "--no-plots", "--out-dir")
    assert run_main(lesson, *flags, tmp_path / "a/o") == 0
    epoch = utils.one_epoch

    def stop_in_epoch_2(*args):
        if args[-1] == 2:
            raise KeyboardInterrupt
        return epoch(*args)

    monkeypatch.setattr(utils, "one_epoch", stop_in_epoch_2)
    assert run_main(lesson, *flags, tmp_path / "b/o") == 130
    monkeypatch.setattr(utils, "one_epoch", epoch)
    assert run_main(lesson, *flags, tmp_path / "b/o", "--resume") == 0
    made = [json.loads((tmp_path / x / "o/metrics.json").read_text()) for x in "ab"]
    assert made[0]["metrics"] == made[1]["metrics"]


def test_same_seed_same_output(tmp_path, capsys):
    """Two runs with the leak measured print the same; another seed does not."""
    path, texts = csv(tmp_path, walk()), []
    flags = ("--input", path, *SMALL, "--no-plots", "--leaky-scaling", "--seed")
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        assert run_main(lesson, *flags, seed, "--out-dir", tmp_path / name / "o") == 0
        lines = capsys.readouterr().out.splitlines()
        texts.append([line for line in lines if not line.startswith("epoch")])
    assert texts[0] == texts[1] != texts[2]
    metrics = json.loads((tmp_path / "a/o/metrics.json").read_text())["metrics"]
    ratio = metrics["leaky_rmse"] / metrics["leaky_scaled_rmse"]
    assert ratio == pytest.approx(pd.read_csv(path)["value"].std(ddof=0))


@pytest.mark.parametrize("target", ["price", "return"])
def test_straight_and_still_series_run(target, tmp_path):
    """Constant changes; a test span that never changes: nothing to divide by."""
    line = np.arange(1.0, 301)
    for values in (line, np.r_[walk(255), np.full(45, 60.0)], np.tile([1.0, 3.0], 150)):
        path = csv(tmp_path, values)
        flags = ("--input", path, "--target", target, "--no-plots", *SMALL)
        assert run_main(lesson, *flags, "--out-dir", tmp_path / "out") == 0
        result = json.loads((tmp_path / "out/metrics.json").read_text())
        assert math.isfinite(result["metrics"]["test_rmse"])


def test_unsorted_repeated_and_missing_dates_are_repaired(tmp_path, capsys):
    """Each repair is said; the run is that of the clean series."""
    path, out = csv(tmp_path, walk()), tmp_path / "x/out"
    flags = ("--input", path, *SMALL, "--no-plots", "--out-dir", out)
    assert run_main(lesson, *flags) == 0
    clean = json.loads((out / "metrics.json").read_text())["metrics"]
    frame = pd.read_csv(path)
    tidy = pd.Series(frame["value"].to_numpy(), pd.to_datetime(frame["date"]))
    frame = pd.concat([frame.iloc[::-1], frame.iloc[[5]]])
    mixed = pd.Series(frame["value"].to_numpy(), pd.to_datetime(frame["date"]))
    mended, _ = utils.repair_series(mixed)
    assert mended.to_dict() == tidy.to_dict()  # to the last digit
    frame.to_csv(path, index=False)
    capsys.readouterr()
    assert run_main(lesson, *flags) == 0
    said = capsys.readouterr().out
    assert "not in order: sorted" in said and "repeat a date: 1" in said
    found = json.loads((out / "metrics.json").read_text())["metrics"]
    assert found == pytest.approx(clean, rel=1e-9)  # sums may run in another order
    frame.loc[frame.index[3], "value"] = np.nan
    frame.to_csv(path, index=False)
    assert run_main(lesson, *flags) == 0
    assert "without a value: 1" in capsys.readouterr().out


BROKEN = {
    "constant": (np.ones(300), (), "never changes"),
    "all empty": (np.full(300, np.nan), (), "never changes"),
    "short": (walk(40), (), "takes 173 or more"),
    "short for the horizon": (walk(150), ("--sequence-length", 5), "takes 194 or more"),
    "return of a zero": (np.r_[walk(299), 0], ("--target", "return"), "above zero"),
    "no such column": (walk(), ("--column", "moon"), "no column 'moon'"),
    "no checkpoint": (walk(), ("--eval-only",), "there is no checkpoint"),
    "window too long": (walk(), ("--sequence-length", 150), "lower them"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_series_is_one_sentence(kind, tmp_path, capfd, monkeypatch):
    """Status 2, one line on stderr, no traceback."""
    values, flags, expected = BROKEN[kind]
    monkeypatch.chdir(tmp_path)
    path = csv(tmp_path, values)
    assert run_main(lesson, "--input", path, *flags, "--out-dir", "out") == 2
    error = capfd.readouterr().err
    assert expected in error and error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--horizon", 0), "not between"),
        (("--forecast", "x"), "not a whole number"),
        (("--target", "moon"), "invalid choice"),
        (("--dataset", "moon"), "invalid choice"),
        (("--eval-only", "--resume"), "--eval-only trains nothing"),
        (("--eval-only", "--leaky-scaling"), "drop --eval-only"),
        (("--leaky",), "unrecognized"),
    ],
)
def test_wrong_flags_are_one_sentence(flags, expected, tmp_path, capfd):
    """A wrong flag ends with status 2 and says what is wrong."""
    flags = ("--dataset", "sine", *flags, "--out-dir", tmp_path)
    assert run_main(lesson, *flags) == 2
    error = capfd.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_checkpoint_of_another_series_is_refused(tmp_path, capfd):
    """A network scaled for one series must not forecast another."""
    flags = ("--no-plots", "--path", tmp_path / "m.pt", "--out-dir", tmp_path / "out")
    path = csv(tmp_path, walk())
    assert run_main(lesson, "--input", path, *SMALL, "--save-model", *flags) == 0
    capfd.readouterr()
    assert run_main(lesson, "--dataset", "sine", "--eval-only", *flags) == 2
    assert "was trained on dataset 'input', not on 'sine'" in capfd.readouterr().err


def test_commands_of_the_docstring_parse():
    """The lesson takes every command and every experiment that it shows."""
    lines = [line.strip() for line in lesson.__doc__.splitlines()]
    commands = [line.split()[2:] for line in lines if f"{NAME}.py" in line]
    tries = [re.split(r"  | \[|,", line)[0] for line in lines if line[:2] == "--"]
    tries = [line.split() for line in tries]
    assert len(commands) == 3 and len(tries) == 6
    assert ["--dataset", "stock", "--target", "return"] in tries
    for flags in commands + tries:
        lesson.make_flags().parse_args(flags)


# ----------------------------------------------------------------- must-show figures


def figures(tmp_path, *flags):
    """metrics and baselines of one full run."""
    flags = (*flags, "--no-plots", "--out-dir", tmp_path / "out")
    assert run_main(lesson, *flags) == 0
    result = json.loads((tmp_path / "out" / "metrics.json").read_text())
    return result["metrics"], result["baselines"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sine_is_forecast_down_to_its_noise(seed, tmp_path):
    """Test MSE at most 1.15 times the noise's own."""
    metrics, known = figures(tmp_path, "--dataset", "sine", "--seed", seed)
    assert 0.95 * known["noise_variance"] < metrics["test_mse"]
    assert metrics["test_mse"] <= 1.15 * known["noise_variance"]


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sunspots_beat_persistence(seed, real_data, tmp_path):
    """RMSE at least 8 % below persistence, which is that of lesson 03."""
    metrics, known = figures(tmp_path, "--data-dir", real_data, "--seed", seed)
    assert known["persistence_rmse"] == pytest.approx(19.73, abs=0.005)
    assert metrics["test_rmse"] <= 0.92 * known["persistence_rmse"]
    assert known["autoregression_rmse"] < 18.1 and 0 <= metrics["p_autoregression"] <= 1


@pytest.mark.slow
@pytest.mark.real_data
def test_stock_claims_no_more_than_it_measured(real_data, tmp_path, capsys):
    """Yesterday's price is not beaten, and the script says so."""
    flags = ("--data-dir", real_data, "--dataset", "stock")
    metrics, known = figures(tmp_path, *flags)
    said = capsys.readouterr().out
    assert metrics["p_persistence"] > 0.05
    assert "not better than yesterday's price" in said
    assert metrics["test_rmse"] == pytest.approx(known["persistence_rmse"], rel=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_quick_on_cuda(tmp_path):
    """The whole lesson on a GPU."""
    flags = ("--quick", "--device", "cuda", "--no-plots", "--out-dir", tmp_path / "out")
    assert run_main(lesson, *flags) == 0
