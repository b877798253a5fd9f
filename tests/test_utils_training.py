"""rnn_utils sections 1 and 4: random states, evaluation, accumulation, fit, checkpoints."""

import argparse
import errno
import io
import itertools
import math
import os
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

import rnn_utils
from rnn_utils import (
    Batches,
    Diverged,
    UserError,
    accumulate_gradient,
    evaluate,
    fit,
    load_checkpoint,
    load_model,
    random_state,
    save_checkpoint,
    set_random_state,
    set_seed,
    train_epoch,
    write_atomically,
)

LESSON = "99_test"


def flags(folder, **changes):
    """What parse_flags gives a lesson that trains."""
    given = {"lesson": LESSON, "seed": 0, "device": "cpu", "quick": False}
    given.update(out_dir=str(folder), path=str(folder / "best.pt"), epochs=5, lr=0.05)
    given.update(batch_size=4, clip=1.0, weight_decay=0.01, patience=0)
    given.update(optimizer="adam", accumulate=1, precision="fp32", no_plots=True)
    given.update(save_model=False, resume=False, eval_only=False)
    return argparse.Namespace(**{**given, **changes})


ABOUT = {"lesson": LESSON, "dataset": "tiny", "config": {"hidden": 5}, "words": ["a"]}


def build(hidden=5, dropout=0.5):
    layers = [nn.Linear(3, hidden), nn.Tanh(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(hidden, 1))


def make_data(n=22, seed=7, **options):
    """Rows with 1 to 4 real targets each, so that batches of equal size count unequal items."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, 3, generator=draw)
    y = x.sum(2) + torch.randn(n, 4, generator=draw)
    real = torch.arange(4) < torch.randint(1, 5, (n, 1), generator=draw)
    return Batches({"x": x, "y": y, "real": real}, 4, **options)


def step(model, batch):
    """Squared error over the real items."""
    error = (model(batch["x"]).squeeze(2) - batch["y"])[batch["real"]]
    return {"loss": error.square().sum(), "near": (error.abs() < 1).sum()}, len(error)


def train(args, about=ABOUT, meddle=False, stop_after=None, **more):
    """Train from scratch as a lesson does; returns (model, records)."""
    set_seed(args.seed)
    model = build()
    data = make_data(shuffle=True), make_data(n=9, seed=8)
    records = []
    for record in fit(model, step, *data, args, about, **more):
        records.append(record)
        if meddle:
            random.random(), np.random.rand(), torch.rand(3)
            model.eval()
        if len(records) == stop_after:
            break
    return model, records


def same_weights(one, two):
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def scores(records):
    """What must not differ between two runs: everything but the clock."""
    clock = {"seconds", "loop_seconds", "replayed"}
    return [{k: v for k, v in r.items() if k not in clock} for r in records]


def one_sentence(caught):
    text = str(caught.value)
    assert text and "\n" not in text
    return text


# ---------------------------------------------------------------- random states


def draw():
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.randn(3).tolist(),
        torch.randn(3).tolist(),
    )


@pytest.mark.parametrize("draws", [0, 1, 7])
def test_random_state_round_trip(draws):
    """A resumed run draws what the interrupted one would have drawn, through a file too."""
    set_seed(5)
    for _ in range(draws):
        draw()  # an odd number of gauss() leaves one half-used
    file = io.BytesIO()
    torch.save(random_state(), file)
    expected = [draw(), draw()]
    set_seed(99)
    file.seek(0)
    set_random_state(torch.load(file, weights_only=True))
    assert [draw(), draw()] == expected


def test_set_seed_fixes_every_generator():
    """Same --seed, same numbers; another seed, other numbers."""
    set_seed(1)
    first = draw()
    set_seed(1)
    assert draw() == first
    set_seed(2)
    assert all(a != b for a, b in zip(first, draw(), strict=True))


def test_count_parameters_leaves_out_the_frozen():
    """Comparisons at equal parameters count what training changes."""
    model = build(hidden=5)
    assert rnn_utils.count_parameters(model) == 3 * 5 + 5 + 5 + 1
    model[0].weight.requires_grad_(False)
    assert rnn_utils.count_parameters(model) == 5 + 5 + 1


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_missing_device(monkeypatch, name):
    """The sentence names the flag and what is there instead."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"--device {name} is not available.*has: cpu"):
        rnn_utils.pick_device(name)
    assert rnn_utils.pick_device("auto") == torch.device("cpu")


def test_device_that_cannot_compute(monkeypatch):
    """A GPU may be there and yet be too old for this PyTorch."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(rnn_utils, "_computes", lambda kind: kind == "cpu")
    assert rnn_utils.pick_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="--device cuda is not available"):
        rnn_utils.pick_device("cuda")


def test_computes():
    """It asks by computing: no tensor of `meta` has a value."""
    assert rnn_utils._computes("cpu")
    assert not rnn_utils._computes("meta")


class ByCell(nn.Module):
    """As many weights as a cell of this name and size has on one number."""

    def __init__(self, cell, hidden):
        super().__init__()
        self.layer = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell](1, hidden)


@pytest.mark.parametrize("hidden", [1, 7, 3000])
def test_cells_of_equal_size(hidden):
    """The given one first and unchanged; the others nearest to its number of weights."""
    config = {"cell": "lstm", "hidden": hidden}
    found = rnn_utils.cells_of_equal_size(ByCell, config, ["rnn", "lstm", "gru"])
    assert next(iter(found.items())) == (f"lstm, hidden {hidden}", config)

    def size(shape):
        with torch.device("meta"):
            return rnn_utils.count_parameters(ByCell(**shape))

    for shape in found.values():
        gap = abs(size(shape) - size(config))
        for other in (shape["hidden"] - 1, shape["hidden"] + 1):
            assert other < 1 or gap <= abs(
                size({**shape, "hidden": other}) - size(config)
            )


# ---------------------------------------------------------------- evaluation


def test_memory_is_handed_back_during_a_test_run(monkeypatch):
    """Answers that are kept split the free memory: 25,000 reviews took 3 GiB."""
    calls, data = [], Batches({"x": torch.arange(130)}, 1)
    monkeypatch.setattr(rnn_utils, "release_memory", lambda: calls.append(1))
    assert len(list(data)) == 130 and not calls  # in training once an epoch is enough
    with torch.no_grad():
        assert [int(batch["x"]) for batch in data] == list(range(130))
    assert len(calls) == 2


def known_step(model, batch):
    return {"loss": batch["v"].sum(), "many": torch.tensor(len(batch["v"]))}, len(
        batch["v"]
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_evaluate_weights_by_items(tmp_path, precision):
    """The mean of batch means would be (0 + 10) / 2 here; the mean over items is 2."""
    batches = [{"v": torch.zeros(4)}, {"v": torch.tensor([10.0])}]
    args = flags(tmp_path, precision=precision)
    found = evaluate(nn.Linear(1, 1), known_step, batches, args)
    assert found == {"loss": 2.0, "many": 1.0}


@pytest.mark.parametrize("kind", [int, torch.tensor], ids=["number", "tensor"])
def test_steps_may_return_numbers_or_tensors(tmp_path, kind):
    """`count` is often mask.sum() and a sum often a plain int; records hold plain numbers."""

    def counted(model, batch):
        sums, count = step(model, batch)
        return {**sums, "near": kind(int(sums["near"]))}, kind(count)

    args = flags(tmp_path, accumulate=2, epochs=1)
    results = []
    for function in (step, counted):
        set_seed(0)
        model, data = build(), make_data()
        found = list(fit(model, function, data, data, args))
        results.append((scores(found), evaluate(model, function, data, args)))
    assert results[0] == results[1]
    values = [*results[1][0][0].values(), *results[1][1].values()]
    assert {type(value) for value in values} == {int, float}


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_leaves_the_model_as_it_was(tmp_path, training):
    """Dropout off inside, the mode put back after; no gradient, no random draw."""
    model = build().train(training)
    modes = []

    def watching(model, batch):
        modes.append((model.training, torch.is_grad_enabled()))
        return step(model, batch)

    before, state = rnn_utils.copy_weights(model), torch.get_rng_state()
    found = [evaluate(model, watching, make_data(), flags(tmp_path)) for _ in "ab"]
    assert found[0] == found[1]
    assert set(modes) == {(False, False)}
    assert model.training is training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_evaluate_sums_exactly(tmp_path):
    """A hundred thousand batches summed in float32 would lose digits."""
    batches = [{"v": torch.tensor([1e8])}] + [{"v": torch.tensor([1.0])}] * 999
    found = evaluate(nn.Linear(1, 1), known_step, batches, flags(tmp_path))
    assert found["loss"] == (1e8 + 999) / 1000


def test_collect_keeps_each_answer_with_its_row(tmp_path):
    """Bucketed batches come by length; dropout must be off, --precision in force."""
    data = {"x": torch.randn(5, 3), "x_length": torch.tensor([3, 1, 2, 3, 1])}
    batches, seen = Batches({**data, "row": torch.arange(5)}, 2, bucket="x"), []

    def forward(model, batch):
        seen.append((model.training, model(torch.ones(1, 3)).dtype))
        return batch["row"]

    model = build().train()
    found = rnn_utils.collect(
        model, forward, batches, flags(tmp_path, precision="bf16")
    )
    assert found.tolist() == [0, 1, 2, 3, 4]
    assert set(seen) == {(False, torch.bfloat16)}
    assert model.training


# ---------------------------------------------------------------- accumulation and clipping


CONSTANT = argparse.Namespace(
    step=lambda: None
)  # a schedule that leaves the rate as it is


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_accumulated_gradient_equals_that_of_one_batch(tmp_path, groups):
    """Dividing each batch by its own count would weight items by the batch they fell in."""
    torch.manual_seed(0)
    model = build(dropout=0.0).double()
    data = make_data(n=24)
    data.data = {
        k: v.double() if v.is_floating_point() else v for k, v in data.data.items()
    }
    small = [data.take(rows) for rows in torch.arange(24).split(24 // groups)]
    assert len({int(batch["real"].sum()) for batch in small}) > 1, "counts must differ"
    found = []
    for group in (small, [data.take(torch.arange(24))]):
        model.zero_grad()
        totals, count = accumulate_gradient(model, step, group, flags(tmp_path))
        assert count == int(data.data["real"].sum())
        found.append((gradients(model), rnn_utils.averages(totals, count)))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-12)


def test_no_tensor_of_a_step_is_kept(tmp_path):
    """On a CPU: a small one between large blocks of memory makes the process grow."""
    model, data = build(dropout=0.0), make_data()
    totals, _ = accumulate_gradient(model, step, list(data)[:2], flags(tmp_path))
    kept = [value for sums in totals for value in sums.values()]
    assert kept and all(type(value) in (int, float) for value in kept)
    assert rnn_utils.add_up([0.1] * 10) == 1.0
    assert rnn_utils.add_up([torch.tensor(0.5), torch.tensor(0.25)]) == 0.75


@pytest.mark.parametrize("clip", [0.0, 0.01, 1e9])
def test_accumulated_epoch_equals_that_of_larger_batches(tmp_path, clip):
    """An epoch at --accumulate 2 --batch-size 4 is one at --batch-size 8, clipping included."""
    ended = []
    for size, accumulate in ((8, 1), (4, 2), (2, 4)):
        torch.manual_seed(0)
        model = build(dropout=0.0).double()
        data = make_data(n=21)  # the last group is short
        data.data = {
            k: v.double() if v.is_floating_point() else v for k, v in data.data.items()
        }
        data.batch_size = size
        args = flags(tmp_path, accumulate=accumulate, clip=clip, optimizer="sgd")
        optimizer = rnn_utils.OPTIMIZERS["sgd"](model.parameters(), args)
        record = train_epoch(model, step, data, optimizer, CONSTANT, args)
        ended.append(
            (torch.cat([p.detach().flatten() for p in model.parameters()]), record)
        )
    for weights, record in ended[1:]:
        torch.testing.assert_close(weights, ended[0][0], rtol=1e-10, atol=1e-12)
        assert record == pytest.approx(ended[0][1], rel=1e-10)


def test_clipping_bounds_the_whole_gradient(tmp_path):
    """Plain SGD moves by lr times the gradient, so the first step's length shows the norm."""
    moved = {}
    for clip in (0.0, 0.25):
        torch.manual_seed(0)
        model = build(dropout=0.0)
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        args = flags(tmp_path, clip=clip, optimizer="sgd", weight_decay=0.0, lr=1.0)
        args.accumulate = 9
        optimizer = rnn_utils.OPTIMIZERS["sgd"](model.parameters(), args)
        record = train_epoch(model, step, make_data(), optimizer, CONSTANT, args)
        after = torch.cat([p.detach().flatten() for p in model.parameters()])
        moved[clip] = float((after - before).norm()), record["grad_norm"]
    assert moved[0.0][0] == pytest.approx(moved[0.0][1], rel=1e-4)
    assert moved[0.0][1] > 0.5, "the test needs a gradient worth clipping"
    assert moved[0.25][0] == pytest.approx(0.25, rel=1e-3)
    assert moved[0.25][1] == moved[0.0][1], "the norm is measured before clipping"


def test_bf16_trains(tmp_path):
    """--precision bf16 computes products in bfloat16, weights and sums stay float32."""
    kinds = set()

    def watching(model, batch):
        kinds.add(model[0](batch["x"]).dtype)
        return step(model, batch)

    model, data = build(), make_data()
    records = list(fit(model, watching, data, data, flags(tmp_path, precision="bf16")))
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert records[-1]["val_loss"] < records[0]["val_loss"]


def test_norms_of_an_epoch_by_hand(tmp_path):
    """grad_norm is the mean over steps, max_grad_norm the largest, unclipped."""
    model, data, norms = build(dropout=0.0), make_data(), []
    args = flags(tmp_path, optimizer="sgd", lr=0.0, clip=0.1)
    optimizer = rnn_utils.OPTIMIZERS["sgd"](model.parameters(), args)
    for batch in data:
        model.zero_grad()
        accumulate_gradient(model, step, [batch], args)
        norms.append(torch.cat([g.flatten() for g in gradients(model)]).norm().item())
    record = train_epoch(model, step, data, optimizer, CONSTANT, args)
    assert len(set(norms)) > 1
    assert record["grad_norm"] == pytest.approx(sum(norms) / len(norms))
    assert record["max_grad_norm"] == pytest.approx(max(norms))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # A constant gradient makes Adam's steps --lr; decay acts on the weight alone.
        ("adam", (2.0 * 0.95 - 0.1) * 0.95 - 0.1),
        # v = g + 0.5 w = 1.25, w = 1.875; v = 0.9 * 1.25 + 0.25 + 0.9375 = 2.3125
        ("sgd", 1.875 - 0.1 * 2.3125),
    ],
)
def test_optimizers_by_hand(tmp_path, name, expected):
    """Two steps: decay acts, apart from Adam's moments; sgd has momentum 0.9."""
    weight = nn.Parameter(torch.tensor(2.0, dtype=torch.double))
    args = flags(tmp_path, lr=0.1, weight_decay=0.5)
    optimizer = rnn_utils.OPTIMIZERS[name]([weight], args)
    for _ in range(2):
        weight.grad = torch.tensor(0.25, dtype=torch.double)
        optimizer.step()
    assert weight.item() == pytest.approx(expected)


@pytest.mark.parametrize("steps", [*range(1, 13), 40, 1000])
def test_one_cycle_takes_any_number_of_steps(tmp_path, steps):
    """A quick run has few steps; none may crash, and the rate stays within (0, --lr]."""
    args = flags(tmp_path, lr=0.5)
    optimizer = rnn_utils.OPTIMIZERS["adam"](build().parameters(), args)
    scheduler = rnn_utils.make_scheduler(optimizer, steps, args)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert all(0 < rate <= 0.5 for rate in rates)
    if steps >= 40:
        top = rates.index(max(rates))
        assert rates[top] == pytest.approx(0.5, rel=1e-2)
        assert rates == [*sorted(rates[:top]), *sorted(rates[top:], reverse=True)]
        assert rates[-1] < 0.5 / 100


# ---------------------------------------------------------------- fit


def scripted(losses):
    """A step whose validation loss in epoch n is losses[n - 1]; training moves the weight by 1."""
    passes = itertools.count()

    def scripted_step(model, batch):
        if model.training:
            return {"loss": -model.weight.sum()}, 1
        value = losses[min(next(passes), len(losses) - 1)]
        return {"loss": torch.tensor(value), "accuracy": torch.tensor(value)}, 1

    return scripted_step


def run_scripted(folder, losses, monitor="val_loss", about=None, **changes):
    """Train one weight that counts the epochs; returns (weight at the end, records)."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    changes = {"epochs": len(losses), "lr": 1.0, "optimizer": "sgd", **changes}
    args = flags(folder, weight_decay=0.0, clip=0.0, **changes)
    records, weights = [], []
    for record in fit(model, scripted(losses), [0], [0], args, about, monitor):
        records.append(record)
        weights.append(model.weight.item())
    assert weights == sorted(set(weights)), "every epoch must move the weight"
    return weights.index(model.weight.item()) + 1, records


@pytest.mark.parametrize(
    "losses, best",
    [
        ([3.0, 2.0, 1.0], 3),
        ([3.0, 1.0, 2.0, 4.0], 2),
        ([1.0, 2.0, 3.0], 1),
        ([2.0, 2.0], 1),
    ],
)
def test_best_weights_are_restored(tmp_path, losses, best):
    """Scores are quoted for the best epoch, not for the last; of equals, the first."""
    found, records = run_scripted(tmp_path, losses)
    assert found == best
    assert [record["epoch"] for record in records] == list(range(1, len(losses) + 1))
    assert [record["val_loss"] for record in records] == losses


def test_monitor_of_a_score_looks_for_high(tmp_path):
    """An accuracy is better when higher."""
    values = [0.25, 0.75, 0.5]
    assert run_scripted(tmp_path, values, monitor="val_accuracy")[0] == 2
    assert run_scripted(tmp_path, values)[0] == 1


@pytest.mark.parametrize(
    "patience, epochs", [(0, 6), (1, 3), (2, 4), (3, 6), (4, 6), (9, 6)]
)
def test_early_stopping(tmp_path, patience, epochs):
    """Training ends after `patience` epochs in a row without a better score; 0 means never."""
    losses = [3.0, 2.0, 2.5, 2.0, 1.0, 1.5]
    found, records = run_scripted(tmp_path, losses, patience=patience)
    assert len(records) == epochs
    assert found == (2 if epochs < 5 else 5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("when", ["training", "validation"])
def test_divergence(tmp_path, bad, when):
    """A loss that is no number ends training in one sentence that says what to change."""
    calls = itertools.count(1)

    def breaking(model, batch):
        sums, count = step(model, batch)
        if next(calls) == 3 * 6 + 3 + (2 if when == "training" else 6 + 1):
            sums["loss"] = sums["loss"] * bad
        return sums, count

    data = make_data(), make_data(n=3)  # 6 training batches, 1 for validation
    seen = []
    with pytest.raises(
        Diverged, match=f"the {when} loss .* in epoch 4.*--lr"
    ) as caught:
        seen.extend(fit(build(), breaking, *data, flags(tmp_path), ABOUT))
    one_sentence(caught)
    assert len(seen) == 3
    state = load_checkpoint(tmp_path / "last.pt", LESSON)
    assert len(state["records"]) == 3, "the last good state must stay"


def test_last_step_that_ruins_the_weights_is_noticed(tmp_path):
    """The training loss is measured before each step, so only validation can tell."""

    def ruin(model, batch):
        sums, count = step(model, batch)
        return {"loss": sums["loss"] * (1e38 if model.training else 1)}, count

    data = make_data(n=4)
    args = flags(tmp_path, epochs=1, lr=50.0, clip=0.0, optimizer="sgd")
    with pytest.raises(Diverged):
        list(fit(build(), ruin, data, data, args, None))


def test_what_happens_between_epochs_changes_nothing(tmp_path):
    """A lesson may sample or evaluate in between without changing the training."""
    plain = train(flags(tmp_path), None)
    meddled = train(flags(tmp_path), None, meddle=True)
    assert same_weights(plain[0], meddled[0])
    assert scores(plain[1]) == scores(meddled[1])


def test_same_seed_same_weights(tmp_path):
    """The same command twice gives the same model, bit for bit; another seed another one."""
    models = [train(flags(tmp_path, seed=seed), None)[0] for seed in (3, 3, 4)]
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


def test_side_experiments_are_silent(tmp_path, capsys):
    """about=None must not overwrite the main run's state, whatever flags are set."""
    args = flags(tmp_path / "out", save_model=True, resume=True)
    train(args, about=None)
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_one_line_an_epoch(tmp_path, capsys):
    """The reader sees training beside validation, once an epoch."""
    _, records = train(flags(tmp_path, epochs=3))
    lines = capsys.readouterr().out.splitlines()
    starts = ["epoch  1/3", "epoch  2/3", "epoch  3/3", "Best val_l"]
    assert [line[:10] for line in lines] == starts
    assert f"loss {records[1]['loss']:.4f}" in lines[1]
    assert f"val_loss {records[1]['val_loss']:.4f}" in lines[1]


def test_training_summary():
    """Units a second are counted over the training loop alone."""
    records = [
        {"loop_seconds": 2.0, "seconds": 3.0},
        {"loop_seconds": 2.0, "seconds": 4.5},
    ]
    assert rnn_utils.training_summary(records, 100, "tokens") == {
        "epochs_run": 2,
        "train_seconds": 7.5,
        "units_per_second": 50.0,
        "unit": "tokens",
    }
    assert rnn_utils.training_summary([], 100, "tokens")["units_per_second"] == 0.0


# ---------------------------------------------------------------- resuming


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("after", [1, 2, 5])
def test_resumed_run_equals_an_uninterrupted_one(
    tmp_path, optimizer, accumulate, after
):
    """Weights and losses bit for bit, though the lesson draws random numbers in between."""
    shape = {"optimizer": optimizer, "accumulate": accumulate}
    whole = train(flags(tmp_path / "a", **shape))
    half = flags(tmp_path / "b", **shape)
    train(half, stop_after=after, meddle=True)
    again = flags(tmp_path / "b", resume=True, **shape)
    resumed = train(again, meddle=True)
    assert same_weights(whole[0], resumed[0])
    assert scores(whole[1]) == scores(resumed[1])
    assert [r.get("replayed", False) for r in resumed[1]] == (
        [True] * after + [False] * (5 - after)
    )


def test_resume_keeps_best_and_patience(tmp_path):
    """The best epoch of before the interruption still counts afterwards."""
    losses = [3.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    shape = {"patience": 3, "epochs": 6}
    model = nn.Linear(1, 1, bias=False)
    args = flags(tmp_path, lr=1.0, clip=0.0, optimizer="sgd", **shape)
    for number, _ in enumerate(fit(model, scripted(losses), [0], [0], args, ABOUT), 1):
        if number == 2:
            best = model.weight.item()
        if number == 3:
            break
    args.resume = True
    model = nn.Linear(1, 1, bias=False)
    records = list(fit(model, scripted(losses[3:]), [0], [0], args, ABOUT))
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5]
    assert model.weight.item() == best


def test_resuming_a_finished_run_trains_no_more(tmp_path):
    """It only replays what was, and gives back the best weights."""
    model, records = train(flags(tmp_path))
    written = (tmp_path / "last.pt").read_bytes()
    again, replayed = train(flags(tmp_path, resume=True))
    assert same_weights(model, again)
    assert scores(records) == scores(replayed)
    assert all(record["replayed"] for record in replayed)
    assert (tmp_path / "last.pt").read_bytes() == written


def test_free_flags_do_not_hinder(tmp_path):
    """Where pictures and models go has no bearing on the course of training."""
    train(flags(tmp_path), stop_after=2)
    changed = flags(tmp_path, resume=True, no_plots=False, path=str(tmp_path / "p.pt"))
    assert len(train(changed)[1]) == 5


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"lr": 0.06}, "--lr was 0.05 and is now 0.06"),
        ({"seed": 1}, "--seed was 0 and is now 1"),
        ({"epochs": 6}, "--epochs was 5 and is now 6"),
        ({"batch_size": 8}, "--batch-size was 4"),
        ({"optimizer": "sgd"}, "--optimizer was adam"),
        ({"quick": True}, "--quick was False"),
        ({"newer_flag": 1}, "--newer-flag was None"),
    ],
)
def test_resume_refuses_other_flags(tmp_path, changes, words):
    """A run that changes its flags midway could never be repeated."""
    train(flags(tmp_path), stop_after=2)
    written = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(UserError, match=words) as caught:
        train(flags(tmp_path, resume=True, **changes))
    assert "--resume" in one_sentence(caught)
    assert (tmp_path / "last.pt").read_bytes() == written


@pytest.mark.parametrize("name", ["dataset", "config", "words"])
def test_resume_refuses_other_data(tmp_path, name):
    """Weights fitted to other data or another model are of no use."""
    train(flags(tmp_path), stop_after=2)
    with pytest.raises(UserError, match=f"another {name}") as caught:
        train(flags(tmp_path, resume=True), about={**ABOUT, name: "other"})
    one_sentence(caught)


def damage(folder, **changes):
    """Change entries of last.pt; ... takes one out."""
    state = torch.load(folder / "last.pt", weights_only=True)
    state.update(changes)
    state = {name: value for name, value in state.items() if value is not ...}
    save_checkpoint(folder / "last.pt", state)


DAMAGE = {
    **{
        f"no {name}": {name: ...} for name in ("current", "optimizer", "random", "best")
    },
    **{f"{name} a number": {name: 3} for name in ("current", "scheduler", "model")},
    **{f"{name} a list": {name: [1]} for name in ("flags", "random", "optimizer")},
    **{f"{name} empty": {name: {}} for name in ("current", "random", "optimizer")},
    "records a text": {"records": "abc"},
    "best none": {"best": None},
    "numpy state short": {
        "random": {"python": (3, [1], None), "numpy": (), "torch": 0}
    },
    "other sizes": {"current": build(hidden=6).state_dict()},
    "best of other sizes": {"model": build(hidden=6).state_dict()},
    "other lesson": {"lesson": "98_other"},
    "lesson a list": {"lesson": []},
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_resume_from_a_damaged_state(tmp_path, kind):
    """Whatever last.pt holds, the reader gets one sentence."""
    train(flags(tmp_path), stop_after=2)
    damage(tmp_path, **DAMAGE[kind])
    with pytest.raises(UserError, match="last.pt") as caught:
        train(flags(tmp_path, resume=True))
    one_sentence(caught)


def test_resume_without_a_state(tmp_path):
    """Nothing to resume is said, and how to go on."""
    with pytest.raises(UserError, match="nothing to resume.*drop --resume"):
        train(flags(tmp_path, resume=True))


def test_resume_from_a_model_file(tmp_path):
    """What --save-model wrote holds no training state."""
    train(flags(tmp_path, save_model=True), stop_after=2)
    (tmp_path / "best.pt").replace(tmp_path / "last.pt")
    with pytest.raises(UserError, match="no training state"):
        train(flags(tmp_path, resume=True))


@pytest.mark.parametrize("where", ["training", "validation"])
def test_interruption_leaves_the_last_whole_epoch(tmp_path, where):
    """Ctrl-C in the middle of epoch 3 costs that epoch alone."""
    whole = train(flags(tmp_path / "a"))
    calls = itertools.count(1)

    def interrupted(model, batch):
        if next(calls) == 2 * (6 + 3) + (4 if where == "training" else 6 + 2):
            raise KeyboardInterrupt
        return step(model, batch)

    set_seed(0)
    model = build()
    data = make_data(shuffle=True), make_data(n=9, seed=8)
    with pytest.raises(KeyboardInterrupt):
        list(fit(model, interrupted, *data, flags(tmp_path / "b"), ABOUT))
    state = load_checkpoint(tmp_path / "b" / "last.pt", LESSON)
    assert len(state["records"]) == 2
    resumed = train(flags(tmp_path / "b", resume=True))
    assert same_weights(whole[0], resumed[0])
    assert scores(whole[1]) == scores(resumed[1])
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["last.pt"]


# ---------------------------------------------------------------- models on disk


def test_save_model_writes_the_best(tmp_path):
    """--path holds the best weights and all it takes to build the model."""
    model, records = train(flags(tmp_path, save_model=True))
    content = load_checkpoint(tmp_path / "best.pt", LESSON)
    loaded = load_model(build, content, tmp_path / "best.pt")
    assert same_weights(model, loaded)
    assert content["best"] == min(records, key=lambda record: record["val_loss"])
    assert {k: content[k] for k in ABOUT} == ABOUT


def test_save_model_keeps_the_best_when_later_epochs_are_worse(tmp_path):
    """A worse last epoch must not overwrite the best model."""
    best, _ = run_scripted(tmp_path, [3.0, 1.0, 2.0], about=ABOUT, save_model=True)
    content = load_checkpoint(tmp_path / "best.pt", LESSON)
    assert content["best"]["epoch"] == best == 2


@pytest.mark.parametrize("after", [2, 5])
def test_save_model_with_resume(tmp_path, after):
    """Who asks for the model only on resuming must get it, also if the best epoch is past."""
    losses = [3.0, 1.0, 2.0, 4.0, 5.0]
    args = flags(tmp_path, optimizer="sgd")
    model = nn.Linear(1, 1, bias=False)
    for record in fit(model, scripted(losses), [0], [0], args, ABOUT):
        if record["epoch"] == after:
            break
    args.resume = args.save_model = True
    list(fit(model, scripted(losses[after:]), [0], [0], args, ABOUT))
    content = load_checkpoint(tmp_path / "best.pt", LESSON)
    assert content["best"]["epoch"] == 2
    assert torch.equal(content["model"]["weight"], model.weight)


def fail_with(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["replace", "fsync", "chmod"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("old", [None, b"old content"])
def test_failed_write_leaves_the_old_content(tmp_path, monkeypatch, call, number, old):
    """A full disk must not cost the checkpoint that was there."""
    path = tmp_path / "file"
    if old:
        path.write_bytes(old)
    monkeypatch.setattr(os, call, fail_with(number))
    with pytest.raises(UserError, match=os.strerror(number)) as caught:
        write_atomically(path, b"new content")
    assert str(path) in one_sentence(caught)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([old] if old else [])


def test_interrupted_write_leaves_the_old_content(tmp_path, monkeypatch):
    """Ctrl-C in the middle of a write, too."""
    (tmp_path / "file").write_bytes(b"old")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_write_atomically(tmp_path):
    """The folder is made, the content replaced, the file as readable as any other."""
    path = tmp_path / "new" / "folder" / "file"
    for content in (b"one", memoryview(b"two"), b""):
        write_atomically(path, content)
        assert path.read_bytes() == bytes(content)
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    """Results that lie elsewhere are replaced there."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_bytes(b"old")
    try:
        (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    except OSError:
        pytest.skip("this system makes no links")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "file").read_bytes() == b"new"
    assert len(list(tmp_path.rglob("*"))) == 3


@pytest.mark.parametrize(
    "odd", [torch.eye(2).to_sparse(), torch.empty(2, device="meta")]
)
def test_digest_of_an_odd_tensor(tmp_path, odd):
    """A tensor whose bytes cannot be had is no weight of ours."""
    content = {"lesson": LESSON, "model": {"w": odd}, "digest": 1}
    with pytest.raises(UserError, match="does not fit this version"):
        rnn_utils.check_digest(tmp_path / "file", content)


@pytest.mark.parametrize("obstacle", ["file above", "folder", "long name", "read-only"])
def test_unwritable_place(tmp_path, obstacle):
    """A path that cannot be written to ends in one sentence that names it."""
    path = tmp_path / "there" / "file"
    if obstacle == "file above":
        (tmp_path / "there").write_text("I am a file")
    elif obstacle == "folder":
        path.mkdir(parents=True)
    elif obstacle == "long name":
        path = tmp_path / ("n" * 300) / "file"
    elif os.name == "nt" or os.geteuid() == 0:
        pytest.skip("read-only means nothing to this user")
    else:
        path.parent.mkdir(mode=0o500)
    with pytest.raises(UserError, match="could not be written") as caught:
        write_atomically(path, b"content")
    assert str(path) in one_sentence(caught)
    assert not [p for p in tmp_path.rglob("tmp*")]


class Evil:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def hostile_files(ran):
    """Name -> bytes of a file that is no checkpoint of ours."""
    file = io.BytesIO()
    torch.save({**ABOUT, "model": build().state_dict()}, file)
    good, evil = file.getvalue(), io.BytesIO()
    torch.save({**ABOUT, "model": Evil(ran)}, evil)
    legacy = io.BytesIO()
    torch.save({"model": Evil(ran)}, legacy, _use_new_zipfile_serialization=False)
    return {
        "empty": b"",
        "truncated": good[: len(good) // 2],
        "last byte gone": good[:-1],
        "text": b"I am no checkpoint\n",
        "rubbish": random.Random(0).randbytes(3000),
        "plain pickle": pickle.dumps({**ABOUT, "model": {}, "evil": Evil(ran)}),
        "evil checkpoint": evil.getvalue(),
        "evil legacy checkpoint": legacy.getvalue(),
    }


@pytest.mark.filterwarnings("error")  # a warning is one more line on stderr
@pytest.mark.parametrize("kind", hostile_files("nowhere"))
def test_hostile_checkpoint(tmp_path, kind):
    """One sentence, and no code in the file is run."""
    content = hostile_files(tmp_path / "ran")[kind]
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(UserError, match="file.pt") as caught:
        load_checkpoint(tmp_path / "file.pt", LESSON)
    one_sentence(caught)
    assert not (tmp_path / "ran").exists(), "code in the file was run"


def test_the_evil_pickle_would_run_code(tmp_path):
    """Otherwise the test above could not fail."""
    pickle.loads(hostile_files(tmp_path / "ran")["plain pickle"])
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        None,
        3,
        "text",
        {},
        {"model": {}},
        {**ABOUT, "weights": {}},
        {"lesson": LESSON, "model": {}},
        torch.zeros(3),
        {**ABOUT, "lesson": "98_other", "model": {}},
        {**ABOUT, "lesson": None, "model": {}},
        {**ABOUT, "lesson": torch.zeros(2), "model": {}},
    ],
    ids=range(12),
)
def test_checkpoint_of_the_wrong_kind(tmp_path, content):
    """A file that torch can read but that is not this lesson's."""
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(UserError, match="file.pt") as caught:
        load_checkpoint(tmp_path / "file.pt", LESSON)
    one_sentence(caught)


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_checkpoint_that_is_not_there(tmp_path, kind):
    """The sentence says how to make one."""
    if kind == "folder":
        (tmp_path / "file.pt").mkdir()
    with pytest.raises(UserError, match="--save-model --path"):
        load_checkpoint(tmp_path / "file.pt", LESSON)


GOOD = {**ABOUT, "model": build().state_dict()}


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"hidden": 6}},
        {"config": {"hiden": 5}},
        {"config": {"hidden": "5"}},
        {"config": {"hidden": -5}},
        {"config": {"hidden": 1.5}},
        {"config": {"hidden": 2**62}},
        {"config": {3: 5}},
        {"config": [5]},
        {"config": None},
        {"model": {}},
        {"model": [1]},
        {"model": "text"},
        {"model": None},
        {"model": {1: 2}},
        {"model": {**GOOD["model"], "0.weight": 1.0}},
        {"model": {**GOOD["model"], "more": torch.zeros(1)}},
        {"model": {**GOOD["model"], "0.weight": torch.zeros(3)}},
    ],
    ids=range(17),
)
def test_model_that_does_not_fit(tmp_path, changes):
    """A config or weights of another version end in one sentence."""
    save_checkpoint(tmp_path / "file.pt", {**GOOD, **changes})
    content = load_checkpoint(tmp_path / "file.pt", LESSON)
    with pytest.raises(UserError, match="file.pt does not fit") as caught:
        load_model(build, content, tmp_path / "file.pt")
    one_sentence(caught)


@pytest.mark.parametrize("config", [{"v": 0}, {"v": "a"}, {"v": []}])
def test_embedding_that_does_not_fit(config):
    """PyTorch checks some sizes by assertions, which are no reason for a traceback."""
    content = {**ABOUT, "config": config, "model": {}}
    with pytest.raises(UserError, match="does not fit"):
        load_model(lambda v: nn.Embedding(v, 4, padding_idx=0), content, "file.pt")
