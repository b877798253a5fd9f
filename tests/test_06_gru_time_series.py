"""Lesson 06: the cell, windows, scaling, the rivals, the test, the band, whole runs."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, load_lesson, metrics, one_sentence, refusal, run_main
from scipy.stats import ttest_1samp
from torch import nn

import rnn_utils as utils

lesson = load_lesson("06_gru_time_series")
SOURCE = utils.Source("input", ROOT / "made.csv", real=False)
CONFIG = {"cell": "gru", "hidden": 6, "layers": 1, "dropout": 0.0, "horizon": 3}
SMALL = ("--epochs", 2, "--hidden-size", 5, "--sequence-length", 7, "--horizon", 3)


def walk(count=320, seed=1):
    """A made-up series with a wave and a walk in it, above zero."""
    steps = np.random.default_rng(seed).standard_normal(count)
    return 50 + np.cumsum(steps) + 5 * np.sin(np.arange(count) / 4)


def data_of(values, length=7, horizon=3, target="value", scaling=None, source=SOURCE):
    dates = pd.date_range("2020-01-01", periods=len(values))
    series = pd.Series(values, dates, dtype=float)
    return lesson.make_data(source, series, length, horizon, target, scaling)


def args_of(folder, *flags):
    given = ["--epochs", "2", "--no-plots", "--out-dir", folder / "out", *flags]
    given = [str(flag) for flag in given]
    return utils.parse_flags(lesson.make_flags(), given, lesson.__file__, small=True)


def untrained(seed=0, **changes):
    torch.manual_seed(seed)
    return lesson.Forecaster(**{**CONFIG, **changes}).eval()


def csv(folder, values):
    frame = pd.DataFrame({"date": pd.date_range("2020-01-01", periods=len(values))})
    frame["value"] = values
    path = folder / "series.csv"
    frame.to_csv(path, index=False)
    return path


# ---------------------------------------------------------------- the cell


def random_layer(features=3, hidden=7):
    """nn.GRU in float64, its input and a first state."""
    torch.manual_seed(3)
    layer = nn.GRU(features, hidden, batch_first=True).double()
    x = torch.randn(4, 5, features, dtype=torch.double, requires_grad=True)
    h = torch.randn(4, hidden, dtype=torch.double, requires_grad=True)
    return layer, x, h


def test_cell_by_hand_equals_torch():
    """States, and the gradients of every input and weight."""
    layer, x, h = random_layer()
    ours = lesson.gru_by_hand(x, h, *layer.parameters())
    theirs, _ = layer(x, h.unsqueeze(0))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
    inputs = [x, h, *layer.parameters()]
    goal = torch.randn_like(ours)
    for mine, other in zip(
        torch.autograd.grad((ours * goal).sum(), inputs),
        torch.autograd.grad((theirs * goal).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("r", [0, 1])
@pytest.mark.parametrize("z", [0, 1])
def test_gates_at_their_limits(r, z):
    """z = 1 keeps the state; z = 0 writes n, which sees the state only where r = 1."""
    layer, x, h = random_layer()
    w_ih, w_hh, b_ih, b_hh = (weight.detach().clone() for weight in layer.parameters())
    b_ih[:7] = 5000 * (2 * r - 1)  # sigmoid: 0 or 1 exactly
    b_ih[7:14] = 5000 * (2 * z - 1)
    new = lesson.gru_step(x[:, 0], h, w_ih, w_hh, b_ih, b_hh)
    n = torch.tanh(
        x[:, 0] @ w_ih[14:].T + b_ih[14:] + r * (h @ w_hh[14:].T + b_hh[14:])
    )
    torch.testing.assert_close(new, h if z else n)


def test_the_three_ways_sum_to_autograds_gradient(capsys):
    """What the lesson prints: z, through n, through z; and what PyTorch finds."""
    lesson.show_gradient()
    lines = capsys.readouterr().out.splitlines()
    table = {}
    for line in lines:
        for name in ("kept", "through n", "through z", "sum", "PyTorch"):
            if line.startswith(f"  {name}"):
                table[name] = [float(cell) for cell in line.split()[-4:]]
    for column in (0, 1, 2, 3):
        ways = [table[name][column] for name in ("kept", "through n", "through z")]
        assert sum(ways) == pytest.approx(table["sum"][column], abs=0.00016)
        assert table["PyTorch"][column] == table["sum"][column]
    # The first column is a plain RNN: h = tanh(0.9 * 1 + 1.2 * 0.5 + 0.1).
    new = math.tanh(1.6)
    assert table["sum"][0] == pytest.approx((1 - new**2) * 1.2, abs=0.00006)
    # The second: its tanh at 0.9 * -0.8 + 0.7, near 0, hands on nearly all of 1.2.
    new = math.tanh(-0.02)
    assert table["sum"][1] == pytest.approx((1 - new**2) * 1.2, abs=0.00006)


def test_gates_of_against_a_loop():
    """r and z step by step from the states that PyTorch's cell makes."""
    torch.manual_seed(2)
    rnn = nn.GRU(2, 5, batch_first=True)
    x = torch.randn(6, 7, 2)
    w_ih, w_hh, b_ih, b_hh = (weight.detach() for weight in rnn.parameters())
    states, _ = rnn(x)
    first, second = lesson.gates_of(rnn, x)
    assert first.shape == second.shape == (6, 7, 5)
    h = torch.zeros(6, 5)
    for t in range(7):
        for gate, rows in ((first, slice(0, 5)), (second, slice(5, 10))):
            from_input = x[:, t] @ w_ih[rows].T + b_ih[rows]
            expected = torch.sigmoid(from_input + h @ w_hh[rows].T + b_hh[rows])
            torch.testing.assert_close(gate[:, t], expected)
        h = states[:, t].detach()


def test_the_toy_windows_are_those_of_make_windows(capsys):
    """The printed rows: what is read, the targets, and the part."""
    lesson.show_windows()
    printed = {"training": [], "validation": [], "neither": []}
    for line in capsys.readouterr().out.splitlines():
        for part, rows in printed.items():
            if line.startswith("  [") and f" {part}" in line:
                lists = [piece.split("]")[0] for piece in line.split("[")[1:]]
                rows.append([[int(cell) for cell in row.split(",")] for row in lists])
    assert len(printed["neither"]) == 1
    plain = lesson.Scaling(0.0, 1.0, [1.0, 1.0])
    # The 4: the first origin is place T.  The zeros: fewer values would be refused.
    values = [4, 6, 5, 8, 7, 9, 6, 8, 5, 7] + [0] * 60
    data = data_of(values, length=3, horizon=2, scaling=plain)
    for part, start, end in (("training", 0, 7), ("validation", 7, 10)):
        windows = lesson.make_windows(data, start, end)
        assert [row[0] for row in printed[part]] == windows["x"][:, :, 0].tolist()
        assert [row[2] for row in printed[part]] == windows["y"].tolist()


def test_what_is_to_say_is_the_last_marked_value():
    """By a plain loop over each series; the first step is always marked."""
    torch.manual_seed(4)
    x, to_say = lesson.marked_series(50)
    assert x.shape == (50, 31, 2)
    for row in range(50):
        for t in range(31):
            value, mark = x[row, t]
            if t == 0:
                assert mark == 1
            if mark == 1:
                last = value
            assert to_say[row, t] == last
    assert 0.05 < x[:, 1:, 1].mean() < 0.15


def test_the_gate_opens_at_a_mark(capsys):
    """The gated cells learn it, the plain RNN does not; z is low at marks alone."""
    lesson.show_marks()
    out = capsys.readouterr().out
    found = {}
    for line in out.split("The GRU on a new series")[0].splitlines():
        for name in lesson.MARK_CELLS:
            if line.startswith(f"  {name:<18}"):  # the second and third are recorded
                found[name], seed_1, seed_2 = map(float, line[20:].split())
                assert (seed_1, seed_2) == lesson.MARK_CELLS[name][1:]
    assert found.keys() == lesson.MARK_CELLS.keys()
    for name, error in found.items():
        assert error > 0.2 if name == "plain RNN" else error < 0.03
    table = out.split("it says\n")[1].split("Reading it")[0]
    rows = [line.split() for line in table.splitlines()]
    assert len(rows) == 12
    assert sum("<-" in row for row in rows) == 3
    for row in rows:
        z, to_say, said = map(float, row[-3:])
        assert abs(said - to_say) < 0.25
        assert z < 0.5 if "<-" in row else z > 0.5


def test_r_held_at_one_stays_there():
    """After training every r is 1, and the other weights have learned."""
    gru, _, _ = lesson.train_on_marks("GRU, r held at 1")
    free, _, _ = lesson.train_on_marks("GRU")
    x, _ = lesson.marked_series(20)
    assert (lesson.gates_of(gru, x)[0] == 1).all()
    assert (lesson.gates_of(free, x)[0] < 0.999).all()
    assert not torch.equal(gru.weight_ih_l0[8:], free.weight_ih_l0[8:])


def test_a_layer_without_recurrence():
    """All eight values reach it at once, and it has about the weights of a small GRU."""
    layer = lesson.AllAtOnce()
    x = torch.randn(4, 8, 1)
    states, rest = layer(x)
    assert rest is None
    expected = torch.tanh(x[:, :, 0] @ layer.linear.weight.T + layer.linear.bias)
    torch.testing.assert_close(states[:, -1], expected)
    head = nn.Linear(27, 1)
    plain = utils.count_parameters(layer) + utils.count_parameters(head)
    gru = utils.count_parameters(nn.GRU(1, 8)) + utils.count_parameters(nn.Linear(8, 1))
    assert (plain, gru) == (271, 273)


def test_the_lines_of_training_are_read(capsys):
    """The RMSE of the best epoch."""
    data = data_of(walk())
    records = []
    for epoch, (val, total) in enumerate([(3, 9), (1, 8), (2, 7)], start=1):
        record = {"epoch": epoch, "val_loss": float(total), "val_one_step": 0.25}
        records.append(record | {"val_further": float(val)})
    lesson.read_the_lines(records, 0.5, data)
    out = capsys.readouterr().out
    assert "50% of what persistence" in out
    usual = data.scaling.step_sizes[0]
    assert f", is {lesson.as_text(0.5 * usual, data)}:" in " ".join(out.split())


def test_the_small_gru_learns_the_rule(capsys):
    """The loop in the open: better than a weighted sum, and it goes the way of the rule."""
    lesson.train_in_the_open()
    out = capsys.readouterr().out
    _, table = out.split("RMSE on test")
    names = ("the noise itself", "GRU ", "plain RNN", "no recurrence")
    names = (*names, "autoregression", "persistence")
    found = {}
    for line in table.splitlines():
        for name in names:
            if line.startswith(f"  {name}"):
                found[name] = float(line.split()[-1])
    for name in ("GRU ", "plain RNN", "no recurrence"):
        assert found["the noise itself"] < found[name] < 0.8 * found["autoregression"]
    assert found["autoregression"] < found["persistence"]
    assert float(out.split("or down, in ")[1].split("%")[0].split()[-1]) > 95


# ---------------------------------------------------------------- the network


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_two_readers_share_nothing(cell):
    """The next step depends on one of them, all further steps on the other."""
    model = untrained(cell=cell, layers=2, horizon=4)
    x = torch.randn(3, 9, 1)
    for steps, alone in ((slice(0, 1), "near"), (slice(1, 4), "far")):
        model.zero_grad()
        model(x)[:, steps].sum().backward()
        for name, weight in model.named_parameters():
            moved = weight.grad is not None and weight.grad.abs().sum() > 0
            assert moved == name.startswith(alone)


def test_shapes_with_one_step_and_with_four():
    x = torch.randn(3, 9, 1)
    assert untrained(horizon=1)(x).shape == (3, 1, 3)
    assert untrained(horizon=4)(x).shape == (3, 4, 3)


def test_a_forecast_does_not_depend_on_its_batch():
    """One row alone, and the same row among others in another order."""
    model = untrained(layers=2, dropout=0.3)
    x = torch.randn(6, 9, 1)
    order = torch.tensor([4, 1, 5, 0, 3, 2])
    torch.testing.assert_close(model(x)[order], model(x[order]))
    torch.testing.assert_close(model(x)[2:3], model(x[2:3]))


# ---------------------------------------------------------------- windows and scaling


@pytest.mark.parametrize("target", ["value", "return"])
def test_windows_against_a_loop(target):
    """Every input and every answer, from the definition, by plain indexing."""
    values = walk()
    data = data_of(values, length=6, target=target)
    levels = np.log(values) if target == "return" else values
    read = np.diff(levels, prepend=np.nan) if target == "return" else levels
    mean = np.nanmean(read[: data.train_end])
    std = np.nanstd(read[: data.train_end])
    windows = lesson.make_windows(data, 0, data.train_end)
    origins = range(6, data.train_end - 3)
    count = 5 if target == "return" else 6  # six levels have five changes
    assert windows["x"].shape == (len(origins), count, 1)
    usual = []
    for ahead in (1, 2, 3):
        changes = [
            levels[place + ahead] - levels[place]
            for place in range(data.train_end - ahead)
        ]
        usual.append(np.mean(np.square(changes)) ** 0.5)
    for row, origin in enumerate(origins):
        x = [(read[origin - k] - mean) / std for k in reversed(range(count))]
        y = [(levels[origin + k] - levels[origin]) / usual[k - 1] for k in (1, 2, 3)]
        np.testing.assert_allclose(windows["x"][row, :, 0], x, atol=1e-5)
        np.testing.assert_allclose(windows["y"][row], y, atol=1e-5)


def test_no_window_straddles_the_split():
    """Cut from 0, 1, 2, ...: what is asked stays in its part, after what is known."""
    plain = lesson.Scaling(0.0, 1.0, [1.0] * 4)
    data = data_of(np.arange(200.0), length=5, horizon=4, scaling=plain)
    for start, end in ((0, 140), (140, 170), (170, 200)):
        windows = lesson.make_windows(data, start, end)
        origins = windows["x"][:, -1]
        asked = origins + windows["y"]
        assert asked.min() == max(start, 6)
        assert asked.max() == end - 1
        assert (asked > windows["x"].amax(1)).all()
    known = lesson.known_before(data, 170, 200)
    assert known[:, -1].tolist() == list(range(169, 199))
    assert known[0].tolist() == list(range(165, 170))  # T of them
    returns = data_of(walk(), length=5, target="return")
    known = lesson.known_before(returns, 170, 200)
    assert lesson.network_input(known, returns).shape == (30, 4, 1)


def test_scaling_by_hand():
    """Of the first 70 % alone; two steps later nothing changes: never divide by 0."""
    values = np.r_[np.tile([1.0, 3.0], 70), np.full(60, 500.0)]
    scaling = data_of(values, length=4, horizon=2).scaling
    assert scaling.mean == 2
    assert scaling.std == 1
    assert scaling.step_sizes == pytest.approx([2, 2e-6])


@pytest.mark.parametrize("target", ["value", "return"])
def test_training_never_sees_the_test_part(target, tmp_path):
    """Another test part: scaling, losses, weights and margins the same to the bit."""
    values = walk()
    other = values.copy()
    other[272:] = 1000 + walk(48, 9)
    made = []
    for series in (values, other):
        data = data_of(series, target=target)
        args = args_of(tmp_path)
        model, records = lesson.train_model(data, CONFIG, args)
        losses = [(record["loss"], record["val_loss"]) for record in records]
        weights = [weight.tolist() for weight in model.parameters()]
        margins = lesson.calibrate(model, data, args).tolist()
        made.append((data.scaling, losses, weights, margins))
    assert data.val_end == 272
    assert made[0] == made[1]


def test_training_and_validation_are_their_own_parts(tmp_path, monkeypatch):
    """The first 70 % to learn from, shuffled; the next 15 % to choose the epoch by."""
    given = []
    monkeypatch.setattr(utils, "fit", lambda *args: given.extend(args))
    data = data_of(walk())
    lesson.train_model(data, CONFIG, args_of(tmp_path))
    _, _, train, val, *_ = given
    for batches, start, end in ((train, 0, 224), (val, 224, 272)):
        windows = lesson.make_windows(data, start, end)
        torch.testing.assert_close(batches.data, windows)
    assert train.shuffle


def test_leaky_scaling_is_fitted_on_everything(tmp_path, monkeypatch):
    """What the flag measures; and the honest data stay honest."""
    data = data_of(walk())
    honest = data.scaling
    seen = []
    model = untrained()
    monkeypatch.setattr(
        lesson, "train_model", lambda data, *rest: (seen.append(data), (model, []))[1]
    )
    args = args_of(tmp_path)
    found = lesson.judge(model, data, args)
    extra = lesson.report_leak(found, data, CONFIG, args)
    assert seen[0].scaling == lesson.fit_scaling(data.values, 3, "value") != honest
    assert data.scaling == honest
    std = data.values.std()
    assert extra["leaky_scaled_rmse"] == pytest.approx(extra["leaky_rmse"] / std)


def test_forecasts_use_no_future(tmp_path):
    """Changing every value from place 290 on changes no forecast made before it."""
    values = walk()
    other = values.copy()
    other[290:] += 100
    made = []
    for series in (values, other):
        data = data_of(series)
        found = lesson.judge(untrained(), data, args_of(tmp_path))
        first = {name: rows[:19].tolist() for name, rows in found.forecasts.items()}
        made.append(first)
    assert made[0] == made[1]
    assert {"persistence", "autoregression", "GRU", "GRU fed back"} <= made[0].keys()


@pytest.mark.parametrize("target", ["value", "return"])
def test_the_way_is_chosen_on_validation(target, tmp_path):
    """For each step the way of the lower RMSE there, whatever test would say."""
    data = data_of(walk(), target=target)
    model = untrained()
    args = args_of(tmp_path)
    found = lesson.judge(model, data, args)
    made = lesson.both_ways(model, data, data.train_end, data.val_end, args)
    for ahead in (1, 2, 3):
        sizes = {}
        for name, rows in made.items():
            squares = []
            for row in range(data.val_end - data.train_end - (ahead - 1)):
                truth = data.values[data.train_end + row + ahead - 1]
                squares.append((rows[row, ahead - 1] - truth) ** 2)
            sizes[name] = np.mean(squares) ** 0.5
        assert found.ways[ahead - 1] == min(sizes, key=sizes.get)
        on_validation = found.before_test["RMSE on validation"]
        assert on_validation["GRU"][ahead - 1] == pytest.approx(sizes["GRU"])
        later = data.values[data.train_end + ahead - 1 : data.val_end]
        last = data.values[data.train_end - 1 : data.val_end - ahead]
        expected = np.mean((last - later) ** 2) ** 0.5
        assert on_validation["persistence"][ahead - 1] == pytest.approx(expected)
    for ahead, row in enumerate(lesson.score_all_steps(found, data), start=1):
        ours = lesson.errors_of(found, found.ways[ahead - 1], ahead)
        last = lesson.errors_of(found, "persistence", ahead)
        assert row["chosen"] == found.ways[ahead - 1]
        assert row["p to last"] == lesson.diebold_mariano(ours**2 - last**2, ahead)[1]
        assert row["careless"] == lesson.compare_one_step(ours, last)[1]


def test_a_copy_foretells_nothing(capsys):
    """A perfect forecast foretells all of the change, a copy and one half-way less."""
    data = data_of(walk())
    truth = data.values[data.val_end :, None]
    last = data.values[data.val_end - 1 : -1, None]
    choices = {"width": 2, "order": 3, "season": None}
    for percent, made in {
        "100.0%": truth,
        "0.0%": last,
        "75.0%": (truth + last) / 2,
    }.items():
        forecasts = {"persistence": last, "autoregression": last, "GRU": made}
        found = lesson.Findings(truth, forecasts, "GRU", "GRU fed back", choices)
        lesson.report_one_step(found, data)
        rows = {}
        for line in capsys.readouterr().out.splitlines():
            cells = line.split()
            if len(cells) in (7, 8) and cells[4].endswith("%"):
                rows[cells[0]] = cells[4]
        assert rows == {"persistence": "0.0%", "autoregression": "0.0%", "GRU": percent}


def test_numbers_have_as_many_decimals_as_the_series_needs():
    for size, text in ((100, "12.35"), (1, "12.346"), (0.01, "12.34568")):
        assert lesson.as_text(12.3456789, data_of(size * walk())) == text


def test_rivals_stand_at_their_places():
    """A repeated wave is known to the seasonal naive, a line to the autoregression."""
    wave = np.tile([1.0, 5.0, 2.0, 8.0, 4.0], 60)
    data = data_of(wave, horizon=7)
    forecasts, _ = lesson.rivals_forecasts(data)
    truth = utils.values_ahead(wave, data.val_end, 300, 7)
    known = np.isfinite(truth)
    np.testing.assert_allclose(forecasts["seasonal naive"][known], truth[known])
    assert (
        forecasts["persistence"][:, 3].tolist() == wave[data.val_end - 1 : -1].tolist()
    )
    line = np.arange(300.0)
    forecasts, _ = lesson.rivals_forecasts(data_of(line, horizon=7))
    truth = utils.values_ahead(line, 255, 300, 7)
    known = np.isfinite(truth)
    np.testing.assert_allclose(forecasts["autoregression"][known], truth[known])


def test_season_and_width_are_found_on_training(monkeypatch):
    """Both are choices: made on later values, they would know them."""
    seen = []

    def find_season(values):
        seen.append(values)

    def best_width(values, longest, step):
        seen.append(values)
        return 2

    monkeypatch.setattr(utils, "find_season", find_season)
    monkeypatch.setattr(utils, "best_width", best_width)
    data = data_of(walk())
    lesson.rivals_forecasts(data)
    assert [values.tolist() for values in seen] == [data.values[:224].tolist()] * 2


# ---------------------------------------------------------------- losses


def test_pinball_is_least_at_its_level():
    """Of 1, 2, ... 100; and the two prices of one error."""
    truth = torch.arange(1.0, 101)
    grid = torch.arange(0.25, 101, 0.25)
    for level in (lesson.BELOW_LOW, lesson.BELOW_HIGH):
        losses = [lesson.pinball(truth, edge, level).mean() for edge in grid]
        best = grid[torch.stack(losses).argmin()]
        assert (truth <= best).double().mean().item() == pytest.approx(level)
    costs = lesson.pinball(torch.tensor([5.0, 5.0]), torch.tensor([4.0, 6.0]), 0.9)
    assert costs.tolist() == pytest.approx([0.9, 0.1])


def test_measure_by_hand():
    """Answers of 0: the next step counts once, the further ones by their mean."""
    model = untrained()
    for weight in model.parameters():
        nn.init.zeros_(weight)
    y = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.0, 3.0]])
    values = lesson.measure(model, {"x": torch.zeros(2, 5, 1), "y": y})
    # One answer of 0 costs y^2 + pinball(0.1) + pinball(0.9) = y^2 + |y|.
    assert values["loss"].tolist() == pytest.approx([2 + (6 + 2) / 2, 0 + (0 + 12) / 2])
    assert values["one_step"].tolist() == [1, 0]
    assert values["further"].tolist() == pytest.approx([4, 6])


def test_each_answer_learns_what_its_loss_stands_for():
    """One input, many truths: the edges go to a tenth and to nine tenths."""
    draw = torch.Generator().manual_seed(0)
    y = -torch.rand(60, 2, generator=draw).log()  # skewed, so that all three differ
    model = untrained(horizon=2)
    batch = {"x": torch.zeros(60, 1, 1), "y": y}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / 300)
        optimizer.zero_grad()
        lesson.measure(model, batch)["loss"].mean().backward()
        optimizer.step()
    low, mean, high = model(batch["x"])[0].T
    torch.testing.assert_close(mean, y.mean(0), atol=0.02, rtol=0)
    for edge, share in ((low, 0.1), (high, 0.9)):
        below = (y < edge).double().mean(0)  # 6 or 54 of 60, or one beside it
        assert below.tolist() == pytest.approx([share, share], abs=1.5 / 60)


def test_model_overfits_a_tiny_batch():
    """Eight windows by heart, or the model has a bug."""
    torch.manual_seed(0)
    batch = {"x": torch.randn(8, 6, 1), "y": torch.randn(8, 3)}
    model = untrained(hidden=24).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(250):
        values = lesson.measure(model, batch)
        optimizer.zero_grad()
        values["loss"].mean().backward()
        optimizer.step()
    assert values["loss"].shape == (8,)
    assert values["one_step"].mean().item() < 0.005


# ---------------------------------------------------------------- errors and the test


def test_errors_end_where_the_truth_ends():
    """Truth 2 3 | 3 4 | 4 ?, forecasts 0: one error fewer for each step further."""
    truth = utils.values_ahead(np.array([1.0, 2.0, 3.0, 4.0]), 1, 4, 2)
    found = lesson.Findings(truth, {"zero": np.zeros((3, 2))}, "GRU", "fed", {})
    assert lesson.errors_of(found, "zero", 1).tolist() == [-2, -3, -4]
    assert lesson.errors_of(found, "zero", 2).tolist() == [-3, -4]
    assert lesson.rmse_of(found, "zero", 2) == pytest.approx(12.5**0.5)


def test_one_step_test_is_a_t_test():
    """Of d against 0; the general form says the same one step ahead."""
    rng = np.random.default_rng(0)
    ours, theirs = rng.standard_normal((2, 50))
    expected = ttest_1samp(ours**2 - theirs**2, 0)
    for found in (
        lesson.compare_one_step(ours, theirs),
        lesson.diebold_mariano(ours**2 - theirs**2, 1),
    ):
        assert found == pytest.approx((expected.statistic, expected.pvalue))
    d = ours**2 - theirs**2
    alike = np.correlate(d - d.mean(), d - d.mean(), "full")[49:] / 50
    assert [lesson.likeness(d, lag) for lag in range(50)] == pytest.approx(alike)
    assert lesson.compare_one_step(ours, ours) == (0.0, 1.0)
    assert lesson.diebold_mariano(np.zeros(50), 3) == (0.0, 1.0)


def test_diebold_mariano_against_its_formula():
    """The papers' sums, written out term by term."""
    rng = np.random.default_rng(1)
    ours, theirs = np.cumsum(rng.standard_normal((2, 40)), axis=1) / 3
    d = ours**2 - theirs**2
    mean = sum(d) / 40
    for ahead in (2, 5):
        variance = 0.0
        for lag in range(-ahead + 1, ahead):
            pairs = range(max(0, lag), min(40, 40 + lag))
            variance += sum((d[t] - mean) * (d[t - lag] - mean) for t in pairs) / 40
        assert variance > 0
        factor = (40 + 1 - 2 * ahead + ahead * (ahead - 1) / 40) / 40
        expected = mean / (variance / 40) ** 0.5 * factor**0.5
        assert lesson.diebold_mariano(d, ahead)[0] == pytest.approx(expected)


def test_diebold_mariano_where_the_variance_falls_below_zero():
    """d = 3 -1 2 0, two ahead: 2.5 - 2 * 1.75 < 0, so it is 2.5."""
    statistic, _ = lesson.diebold_mariano(np.array([3.0, -1, 2, 0]), 2)
    assert statistic == pytest.approx((1.5 / 4) ** 0.5 / (2.5 / 4) ** 0.5)


def test_overlap_must_be_counted():
    """Equal forecasts six ahead: seldom told apart, carelessly far too often."""
    rng = np.random.default_rng(0)
    honest = 0
    careless = 0
    for _ in range(200):
        surprises = rng.standard_normal((2, 155))
        window = np.lib.stride_tricks.sliding_window_view(surprises, 6, axis=1)
        ours, theirs = window.sum(2)
        honest += lesson.diebold_mariano(ours**2 - theirs**2, 6)[1] < 0.05
        careless += lesson.compare_one_step(ours, theirs)[1] < 0.05
    assert honest < 30
    assert careless > 50


@pytest.mark.parametrize("kind", ["ours", "linear", "none"])
def test_the_answer_follows_the_test(kind):
    """Yes only where network or rival beats the last value by more than luck."""
    rng = np.random.default_rng(0)
    truth, one, two, three = rng.standard_normal((4, 80, 1))
    one /= one.std()
    size = {"ours": 0.97, "linear": 0.97, kind: 0.3}  # 0.97: a little better, by luck
    forecasts = {
        "persistence": truth + one,
        "autoregression": truth + size["linear"] * two / two.std(),
        "GRU": truth + size["ours"] * three / three.std(),
    }
    forecasts["GRU fed back"] = forecasts["GRU"]
    data = data_of(walk())
    found = lesson.Findings(truth, forecasts, "GRU", "GRU fed back", {})
    rows = lesson.score_one_step(found, data)
    word = {"ours": lesson.YES, "linear": lesson.OTHERS, "none": lesson.NO}[kind]
    assert lesson.answer_to_title(found, rows) == word


@pytest.mark.parametrize("kind", ["better", "like one rival"])
def test_worth_its_cost_where_it_beats_every_rival(kind, capsys):
    """And not where one of them cannot be told from it."""
    rng = np.random.default_rng(0)
    truth, one, two, three = rng.standard_normal((4, 80, 1))
    forecasts = {
        "persistence": truth + one,
        "autoregression": truth + (two if kind == "better" else 0.3 * two),
        "GRU": truth + 0.3 * three,
    }
    found = lesson.Findings(truth, forecasts, "GRU", "GRU fed back", {"order": 4})
    data = data_of(walk())
    rows = lesson.score_one_step(found, data)
    extra = {"test_coverage": 0.8, "coverage_at_horizon": 0.7}
    extra |= {"band_cost": 1.0, "constant_band_cost": 1.0, "p_band": 0.5}
    lesson.conclude(found, rows, extra, untrained(), data)
    said = " ".join(capsys.readouterr().out.split())  # its lines are broken anywhere
    names = "persistence, autoregression" if kind == "better" else "persistence"
    assert f"One step ahead the GRU beats {names}." in said
    assert ("cannot be told from autoregression." in said) == (kind != "better")
    near = sum(weight.numel() for weight in untrained().near.parameters())
    assert f"{near} weights, edges included, the autoregression 5." in said


# ---------------------------------------------------------------- the band


def test_margin_is_the_ninth_of_ten():
    """Not the eighth; and never past the last."""
    outside = np.array([3.0, 1, 7, 9, 2, 10, 5, 4, 8, 6])
    assert lesson.margin_of(outside) == 9
    assert lesson.margin_of(outside[:4]) == 9  # 0.8 * 5: the last of four
    assert lesson.margin_of(outside[:3]) == 7  # 0.8 * 4 is past the third
    assert lesson.margin_of(np.arange(1.0, 100)) == 80  # 0.8 * 100, not rounded up


@pytest.mark.parametrize("target", ["value", "return"])
def test_corrected_band_holds_80_percent_of_validation(target, tmp_path):
    """For every step ahead, and hardly more; the mean is not moved."""
    args = args_of(tmp_path)
    data = data_of(walk(600), target=target)
    model = untrained()
    margins = lesson.calibrate(model, data, args)
    known = lesson.known_before(data, data.train_end, data.val_end)
    band = lesson.corrected_band(model, data, margins, known, args)
    truth = utils.values_ahead(data.values, data.train_end, data.val_end, 3)
    for place in range(3):
        there = np.isfinite(truth[:, place])
        low, _, high = band[there, place].T
        # The outermost value kept lies on the band's edge, up to rounding.
        slack = 1e-6 * np.abs(truth[there, place])
        inside = truth[there, place] >= low - slack
        inside &= truth[there, place] <= high + slack
        assert 0.8 <= inside.mean() < 0.84
    means = lesson.network_forecasts(model, data, known, args)[:, :, lesson.MEAN]
    expected = np.exp(means) if target == "return" else means
    np.testing.assert_allclose(band[:, :, lesson.MEAN], expected)


def test_how_much_past_is_used(tmp_path, capsys):
    """With all values the errors of validation; with 24 those of windows of 24."""
    data = data_of(walk(), length=30)
    model = untrained()
    lesson.show_past(model, data, args_of(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    enough = [line for line in lines if "within 1 %" in line]
    assert [line.split(":")[0] for line in enough] == ["one_step", "further"]
    rows = [line.split() for line in lines if line[:8].strip().isdigit()]
    assert [row[0] for row in rows] == ["24", "30"]
    windows = lesson.make_windows(data, data.train_end, data.val_end)
    for count, one_step, further in rows:
        last = {"x": windows["x"][:, -int(count) :], "y": windows["y"]}
        found = lesson.measure(model, last)
        assert float(one_step) == pytest.approx(
            found["one_step"].mean().item(), abs=6e-4
        )
        assert float(further) == pytest.approx(found["further"].mean().item(), abs=6e-4)


def test_coverage_is_of_the_next_step_in_the_test_part(capsys):
    """A band of the whole range for 3 of 4 forecasts: three quarters."""
    data = data_of(walk())
    count = len(data.values) - data.val_end
    forecasts, before_test = lesson.rivals_forecasts(data)
    forecasts["GRU"] = forecasts["persistence"]
    truth = utils.values_ahead(data.values, data.val_end, len(data.values), 3)
    before_test["RMSE on validation"] = {"GRU": [1.0, 2.0, 3.0]}
    ways = ["GRU", "GRU", "GRU"]
    found = lesson.Findings(truth, forecasts, "GRU", "GRU fed back", before_test, ways)
    band = np.zeros((count, 3, 3))
    band[:, 0, lesson.LOW] = -1e9
    band[:, 0, lesson.HIGH] = np.where(np.arange(count) % 4 == 0, -1e8, 1e9)
    extra = lesson.report_bands(band, band, found, data)
    assert extra["test_coverage"] == 0.75
    assert extra["coverage_at_horizon"] == 0  # the walk is nowhere 0
    out = " ".join(capsys.readouterr().out.split())
    # 48 values of test, 48 of validation: 2 * sqrt(0.16 / 24) is 16 points.
    assert "by up to about 16 points from 80 %; 1 ahead ours holds 75.0%, which" in out
    assert "which may be chance." in out
    assert "ours is further from its promise" in out


def test_the_rival_band_against_a_loop():
    """A constant for low last values, one for high; the costs are those of both edges."""
    data = data_of(walk())
    forecasts, choices = lesson.rivals_forecasts(data)
    end = len(data.values)
    truth = utils.values_ahead(data.values, data.val_end, end, 3)
    forecasts["GRU"] = forecasts["persistence"]
    choices["RMSE on validation"] = {"GRU": [1.0, 2.0, 3.0]}
    ways = ["GRU", "GRU", "GRU"]
    found = lesson.Findings(truth, forecasts, "GRU", "GRU fed back", choices, ways)
    middle = forecasts["persistence"]
    band = np.stack([middle - 1, middle, middle + 2], axis=2)
    extra = lesson.report_bands(band, band, found, data)
    linear = choices["linear on validation"][:, 0]
    missed = np.abs(linear - data.values[data.train_end : data.val_end])
    before = data.values[data.train_end - 1 : data.val_end - 1]
    bound = np.median(before)
    constants = []
    for half in (missed[before <= bound], missed[before > bound]):
        constants.append(np.sort(half)[lesson.rank_of(len(half)) - 1])
    assert constants[0] != constants[1]

    def cost(low, high, happened):
        below = max(0.1 * (happened - low), -0.9 * (happened - low))
        above = max(0.9 * (happened - high), -0.1 * (happened - high))
        return below + above

    ours = []
    theirs = []
    for row, happened in enumerate(data.values[data.val_end :]):
        ours.append(cost(middle[row, 0] - 1, middle[row, 0] + 2, happened))
        guess = forecasts["autoregression"][row, 0]
        constant = constants[int(data.values[data.val_end + row - 1] > bound)]
        theirs.append(cost(guess - constant, guess + constant, happened))
    assert extra["band_cost"] == pytest.approx(np.mean(ours))
    assert extra["constant_band_cost"] == pytest.approx(np.mean(theirs))
    expected = ttest_1samp(np.subtract(ours, theirs), 0).pvalue
    assert extra["p_band"] == pytest.approx(expected)


# ---------------------------------------------------------------- several steps


@pytest.mark.parametrize("target", ["value", "return"])
def test_feeding_back_is_iterating(target, tmp_path):
    """Three steps at once are one step, three times, on its own answers."""
    args = args_of(tmp_path)
    data = data_of(walk(), target=target)
    model = untrained()
    known = lesson.known_before(data, 272, 280)
    at_once = lesson.feed_back(model, data, known, 3, args)
    for step in range(3):
        mean = lesson.network_forecasts(model, data, known, args)[:, 0, lesson.MEAN]
        np.testing.assert_allclose(at_once[:, step], mean, atol=1e-6)
        known = np.c_[known[:, 1:], mean]
    assert at_once.shape == (8, 3)


def test_network_forecasts_invert_the_scaling(tmp_path):
    """A model that answers the scaled truth forecasts the truth itself."""
    data = data_of(walk(), target="return")
    windows = lesson.make_windows(data, data.val_end, len(data.values))

    class Oracle(nn.Module):
        def forward(self, x):
            return windows["y"].unsqueeze(2).expand(-1, -1, 3)

    known = lesson.known_before(data, data.val_end, len(data.values))[
        : len(windows["y"])
    ]
    made = lesson.network_forecasts(Oracle(), data, known, args_of(tmp_path))
    truth = utils.values_ahead(data.levels, data.val_end, len(data.values), 3)
    np.testing.assert_allclose(made[:, :, lesson.MEAN], truth[: len(made)], atol=1e-5)


@pytest.mark.parametrize("target", ["value", "return"])
def test_the_future_goes_on_from_the_end(target, tmp_path, monkeypatch):
    """A corrected band for three steps, the mean by the ways chosen, then fed back."""
    data = data_of(walk(), target=target)
    model = untrained()
    args = args_of(tmp_path, "--forecast", 5)
    drawn = {}
    monkeypatch.setattr(
        utils, "plot_lines", lambda *given, **more: drawn.update(more, given=given)
    )
    margins = np.array([0.1, 0.2, 0.3])
    ways = ["GRU", "GRU fed back", "GRU"]
    lesson.continue_series(model, data, ways, margins, args)
    known = data.levels[None, -7:]
    direct = lesson.network_forecasts(model, data, known, args)[0]
    three = direct[:, lesson.MEAN].copy()
    three[1] = lesson.feed_back(model, data, known, 2, args)[0, 1]
    fourth = np.r_[data.levels, three][None, -7:]
    then = lesson.feed_back(model, data, fourth, 2, args)[0]
    back = np.exp if target == "return" else np.asarray
    expected = back(np.r_[three, then])
    np.testing.assert_allclose(drawn["given"][3]["forecast"], expected, rtol=1e-5)
    low, high = drawn["band"]
    at = [0, 2]  # asked directly: the learned edges, corrected
    edges = (
        back(direct[:, lesson.LOW] - margins),
        back(direct[:, lesson.HIGH] + margins),
    )
    np.testing.assert_allclose(low[at], edges[0][at])
    np.testing.assert_allclose(high[at], edges[1][at])
    assert np.isnan([low[1], high[1]]).all()  # fed back: no band
    assert np.isnan([low[3:], high[3:]]).all()


# Nine years in whole seconds: pandas 2 knows the year 9498 in no other unit.
FAR = np.arange("9498", "9507", dtype="datetime64[Y]").astype("datetime64[s]")
DATES = {
    "months": (pd.date_range("2000-01-01", periods=9, freq="MS"), "2000-11-01"),
    "weekdays": (pd.bdate_range("2000-01-03", periods=10), "2000-01-18"),
    "uneven": (pd.DatetimeIndex(["2000-01-01", "2000-01-02", "2000-02-05"]), 2),
    "the end of time": (pd.DatetimeIndex(FAR), 2),
}


@pytest.mark.parametrize("kind", DATES)
def test_next_dates(kind):
    """Regular dates go on; others, and those past what can be drawn, are counted."""
    dates, second = DATES[kind]
    found = lesson.next_dates(dates, 2)
    assert len(found) == 2
    assert found[1] == (second if isinstance(second, int) else pd.Timestamp(second))


# ---------------------------------------------------------------- whole runs


def test_noise_floor_is_that_of_the_test_part():
    """What is left of the sine's test part without the wave, shortened or not."""
    series, _ = utils.sine_series()
    clean = np.sin(2 * np.pi * np.arange(2000) / 50)
    source = utils.Source("sine", None, real=False)
    for count in (800, 2000):
        data = data_of(series.to_numpy()[:count], source=source)
        left = (data.values - clean[:count])[data.val_end :]
        assert lesson.noise_floor(data) == pytest.approx(np.mean(left**2))


def test_heating_follows_its_rule():
    """Each move is 0.5 down where four steps ago it was above 20, else up, and noise."""
    series, noise = lesson.heating_series()
    values = series.to_numpy()
    assert len(values) == len(noise) == 2000
    for t in range(4, 2000):
        move = -0.5 if values[t - 4] > 20 else 0.5
        assert values[t] - values[t - 1] == pytest.approx(move + noise[t])
    source = utils.Source("heating", None, real=False)
    for count in (800, 2000):
        data = data_of(values[:count], source=source)
        floor = np.mean(noise[data.val_end : count] ** 2)
        assert lesson.noise_floor(data) == pytest.approx(floor)


@pytest.mark.parametrize("target", ["price", "return"])
def test_straight_and_still_series_run(target, tmp_path):
    """Constant changes; a test part that never changes: nothing to divide by."""
    line = np.arange(1.0, 301)
    still = np.r_[walk(255), np.full(45, 60.0)]
    for values in (line, still, np.tile([1.0, 3.0], 150)):
        path = csv(tmp_path, values)
        flags = ("--input", path, "--target", target, "--no-plots", *SMALL)
        assert run_main(lesson, *flags, "--out-dir", tmp_path / "out") == 0
        found = metrics(tmp_path)
        assert math.isfinite(found["metrics"]["test_rmse"])
        assert None not in found["metrics"].values()


def test_eval_only_takes_sizes_and_scaling_from_the_file(tmp_path, monkeypatch):
    """No flag of shape is given again, and other values bring no other scaling."""
    values = walk()
    path = csv(tmp_path, values)
    common = ("--input", path, "--path", tmp_path / "m.pt", "--no-plots")
    common = (*common, "--out-dir", tmp_path / "out")
    assert run_main(lesson, *common, *SMALL, "--target", "return", "--save-model") == 0
    before = metrics(tmp_path)["metrics"]
    assert run_main(lesson, *common, "--eval-only") == 0
    assert metrics(tmp_path)["metrics"] == before
    make_data = lesson.make_data
    made = []

    def remembered(*given, **named):
        made.append(make_data(*given, **named))
        return made[-1]

    monkeypatch.setattr(lesson, "make_data", remembered)
    csv(tmp_path, values**2)
    assert run_main(lesson, *common, "--eval-only") == 0
    assert (made[0].length, made[0].horizon) == (7, 3)
    assert made[0].scaling == lesson.fit_scaling(np.log(values[:224]), 3, "return")


def test_a_model_of_another_series_is_refused(tmp_path, capsys):
    """A network scaled for one series must not forecast another."""
    flags = ("--no-plots", "--path", tmp_path / "m.pt", "--out-dir", tmp_path / "out")
    path = csv(tmp_path, walk())
    assert run_main(lesson, "--input", path, *SMALL, "--save-model", *flags) == 0
    capsys.readouterr()
    assert run_main(lesson, "--dataset", "sine", "--eval-only", *flags) == 2
    assert "trained on dataset" in one_sentence(capsys)
    renamed = pd.read_csv(path).rename(columns={"value": "moon"})
    renamed.to_csv(path, index=False)
    assert run_main(lesson, "--input", path, "--eval-only", *flags) == 2
    assert "trained on column" in one_sentence(capsys)


BROKEN = {
    "too short": (walk(40), (), "lower them"),
    "a zero as return": (np.r_[walk(299), 0], ("--target", "return"), "above zero"),
    "a leak of a saved model": (walk(), ("--eval-only", "--leaky-scaling"), "drop"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_is_one_sentence(kind, tmp_path, capsys):
    values, flags, says = BROKEN[kind]
    path = csv(tmp_path, values)
    assert run_main(lesson, "--input", path, *flags, "--out-dir", tmp_path) == 2
    assert says in one_sentence(capsys)


def test_levels_refuse_what_has_no_logarithm():
    assert "above zero" in refusal(lesson.to_levels, np.array([1.0, 0.0]), "return")


# ---------------------------------------------------------------- recorded figures


def recorded():
    """What the scoreboard has of this lesson, one run a line."""
    lines = (ROOT / "benchmarks" / "results.jsonl").read_text().splitlines()
    runs = [json.loads(line) for line in lines]
    return [run for run in runs if run["script"] == "06_gru_time_series"]


@pytest.mark.parametrize("dataset", ["sine", "sunspots", "stock"])
def test_recorded_figures(dataset):
    """Down to the sine's noise; below persistence on sunspots; prices claim nothing."""
    runs = [run for run in recorded() if run["dataset"] == dataset]
    if not runs:
        pytest.skip(f"no run on {dataset} is recorded")
    for run in runs:
        found = run["metrics"]
        known = run["baselines"]
        if dataset == "sine":
            assert 0.95 < found["test_mse"] / known["noise_variance"] <= 1.10
        elif dataset == "sunspots":
            assert known["persistence_rmse"] == pytest.approx(19.73, abs=0.005)
            assert found["test_rmse"] <= 0.92 * known["persistence_rmse"]
            assert found["p_persistence"] < 0.05
        else:
            assert found["p_persistence"] > 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_quick_on_cuda(tmp_path):
    flags = ("--quick", "--device", "cuda", "--no-plots", "--out-dir", tmp_path / "out")
    assert run_main(lesson, *flags) == 0
