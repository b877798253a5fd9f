"""rnn_utils sections 1 and 4: seeds, devices, fit, checkpoints, resuming, beam search."""

import argparse
import errno
import io
import itertools
import math
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refusal
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from toy import CONFIG, FEEDS, LESSON, Toy, flags, make_data, measure, train

import rnn_utils
from rnn_utils import Batches, Diverged, evaluate, fit, load, set_seed, train_epoch


def same_weights(one, two):
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def scores(records):
    """What must not differ between two runs: everything but the clock."""
    clock = {"seconds", "loop_seconds"}
    return [{k: v for k, v in r.items() if k not in clock} for r in records]


def flat(model):
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


# ---------------------------------------------------------------- seeds and devices


def draw():
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.randn(3).tolist(),
        torch.randn(3).tolist(),
    )


def test_seeds_fix_every_generator():
    """Same seed and epoch, same numbers; another seed or epoch, other numbers."""
    found = []
    for seed, epoch in ((0, 1), (0, 1), (1, 1), (0, 2), (2**32 - 1, 1)):
        draw()  # an odd number of gauss() leaves one half-used
        rnn_utils.seed_epoch(seed, epoch)
        found.append(draw())
    assert found[0] == found[1]
    for one, other in itertools.combinations(found[1:], 2):
        assert all(a != b for a, b in zip(one, other, strict=True))
    set_seed(1)
    first = draw()
    set_seed(1)
    assert draw() == first


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_device_that_is_not_there(monkeypatch, name):
    """Absent, or there and too old for this PyTorch: the sentence says what is there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(rnn_utils, "_computes", lambda kind: kind == "cpu")
    said = refusal(rnn_utils.pick_device, name)
    assert f"--device {name} is not available" in said and "has: cpu" in said
    assert rnn_utils.pick_device("auto") == torch.device("cpu")


def test_a_device_is_asked_by_computing():
    """No tensor of `meta` has a value."""
    assert rnn_utils._computes("cpu")
    assert not rnn_utils._computes("meta")


@pytest.mark.parametrize(
    "wanted, small, busy, threads",
    [
        (None, False, 0, 4),
        (None, False, 2, 4),  # percent of 4 cores: less than a third of one
        (None, False, 25, 3),
        (None, False, 100, 1),
        (None, True, 0, 1),
        (3, False, 100, 3),
        (8, True, 0, 8),
    ],
)
def test_threads_by_idle_cores(monkeypatch, capsys, wanted, small, busy, threads):
    """--threads wins; small tensors take one; else as many as other programs leave."""
    import psutil

    found = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: busy)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    assert rnn_utils.pick_threads(wanted, small) == threads
    assert found == [threads]
    said = capsys.readouterr().out
    assert ("--threads 4" in said) == (threads < 4 and not wanted and not small)


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
            if other > 0:
                assert gap <= abs(size({**shape, "hidden": other}) - size(config))


def test_count_parameters_leaves_out_the_frozen():
    """Comparisons at equal parameters count what training changes."""
    model = Toy()
    assert rnn_utils.count_parameters(model) == 3 * 5 + 5 + 5 + 1
    model.layers[0].weight.requires_grad_(False)
    assert rnn_utils.count_parameters(model) == 5 + 5 + 1


# ---------------------------------------------------------------- evaluation


def known(model, batch):
    return {"loss": batch["v"]}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_evaluate_weights_by_items(tmp_path, precision):
    """The mean of batch means would be 5; the mean over items is 2."""
    batches = [{"v": torch.zeros(4)}, {"v": torch.tensor([10.0])}]
    args = flags(tmp_path, precision=precision)
    assert evaluate(nn.Linear(1, 1), known, batches, args) == {"loss": 2.0}


def test_evaluate_sums_exactly(tmp_path):
    """A hundred thousand batches summed in float32 would lose digits."""
    batches = [{"v": torch.tensor([1e8])}] + [{"v": torch.tensor([1.0])}] * 999
    found = evaluate(nn.Linear(1, 1), known, batches, flags(tmp_path))
    assert found["loss"] == (1e8 + 999) / 1000


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_leaves_the_model_as_it_was(tmp_path, training):
    """Dropout off inside, the mode put back after; no gradient, no random draw."""
    model = Toy().train(training)
    modes = []

    def watching(model, batch):
        modes.append((model.training, torch.is_grad_enabled()))
        return measure(model, batch)

    before = flat(model)
    state = torch.get_rng_state()
    found = [evaluate(model, watching, make_data(), flags(tmp_path)) for _ in "ab"]
    assert found[0] == found[1]
    assert set(modes) == {(False, False)}
    assert model.training is training
    assert torch.equal(flat(model), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_collect_keeps_each_answer_with_its_row(tmp_path):
    """Bucketed batches come by length; dropout must be off, --precision in force."""
    data = {"x": torch.randn(5, 3), "x_length": torch.tensor([3, 1, 2, 3, 1])}
    batches = Batches({**data, "row": torch.arange(5)}, 2, bucket="x")
    seen = []

    def forward(model, batch):
        seen.append((model.training, model(torch.ones(1, 3)).dtype))
        return batch["row"]

    model = Toy().train()
    args = flags(tmp_path, precision="bf16")
    found = rnn_utils.collect(model, forward, batches, args)
    assert found.tolist() == [0, 1, 2, 3, 4]
    assert set(seen) == {(False, torch.bfloat16)}
    assert model.training


def test_judge_scores_against_the_labels(tmp_path):
    """In the order of the data, whatever the order of the batches."""
    data = {"x": torch.eye(4), "x_length": torch.tensor([4, 4, 4, 3])}
    data["label"] = torch.tensor([0, 1, 2, 0])
    batches = Batches(data, 3, bucket="x")
    found = rnn_utils.judge(
        nn.Linear(1, 1), lambda model, batch: batch["x"], batches, flags(tmp_path)
    )
    assert found["accuracy"] == 0.75


# ---------------------------------------------------------------- accumulation, clipping

STILL = argparse.Namespace(step=lambda: None)  # a schedule that leaves the rate alone


def epoch_of(args, size=4, n=22, dropout=0.0):
    """One epoch without dropout, in float64: (model, the epoch's record)."""
    set_seed(0)
    model = Toy(dropout=dropout).double()
    data = make_data(n, double=True, size=size)
    optimizer = rnn_utils.make_optimizer(model.parameters(), args)
    return model, train_epoch(model, measure, data, optimizer, STILL, args, 1)


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_accumulated_epoch_equals_that_of_larger_batches(tmp_path, clip):
    """An epoch at --accumulate 2 --batch-size 4 is one at --batch-size 8, clipping included.

    21 rows, of 1 to 4 items each: the last batch and the last group are short.
    """
    ended = []
    for size, accumulate in ((8, 1), (4, 2), (2, 4)):
        args = flags(tmp_path, accumulate=accumulate, clip=clip, optimizer="sgd")
        model, record = epoch_of(args, size, n=21)
        ended.append((flat(model), record))
    for weights, record in ended[1:]:
        torch.testing.assert_close(weights, ended[0][0], rtol=1e-10, atol=1e-12)
        assert record == pytest.approx(ended[0][1], rel=1e-6)


def test_an_epoch_by_hand(tmp_path):
    """Plain SGD: the weights, the mean loss over items, the mean and the largest norm."""
    args = flags(tmp_path, optimizer="sgd", weight_decay=0.0, clip=2.0, lr=0.1)
    model, record = epoch_of(args)
    set_seed(0)
    plain = Toy(dropout=0.0).double()
    velocity = [torch.zeros_like(p) for p in plain.parameters()]
    losses = []
    norms = []
    for batch in make_data(double=True):
        error = (plain(batch["x"]) - batch["y"])[batch["real"]].square()
        grads = torch.autograd.grad(error.mean(), list(plain.parameters()))
        norm = torch.cat([g.flatten() for g in grads]).norm().item()
        factor = min(1.0, 2.0 / norm)
        losses.append(error.detach())
        norms.append(norm)
        with torch.no_grad():
            for p, v, g in zip(plain.parameters(), velocity, grads, strict=True):
                v.mul_(0.9).add_(factor * g)  # momentum
                p.sub_(0.1 * v)
    assert min(norms) < 2 < max(norms), "the test needs one of each"
    # PyTorch clips by 2 / (norm + 0.000001).
    torch.testing.assert_close(flat(model), flat(plain), rtol=1e-5, atol=1e-6)
    assert record["loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-6)
    assert record["grad_norm"] == pytest.approx(np.mean(norms), rel=1e-6)
    assert record["max_grad_norm"] == pytest.approx(max(norms), rel=1e-6)


def test_no_tensor_of_a_step_is_kept():
    """On a CPU: a small one between large blocks of memory makes the process grow."""
    averages = rnn_utils.Averages()
    averages.add(
        {"loss": torch.tensor([0.5, 0.25]), "right": torch.tensor([True, True])}
    )
    assert all(type(value) in (int, float) for value in averages.sums.values())
    assert averages.means() == {"loss": 0.375, "right": 1.0}


def test_bf16_trains(tmp_path):
    """--precision bf16 computes products in bfloat16; weights and losses stay float32."""
    kinds = set()

    def watching(model, batch):
        values = measure(model, batch)
        kinds.add((model.layers[0](batch["x"]).dtype, values["loss"].dtype))
        return values

    model = Toy(dropout=0.0)
    data = make_data()
    records = fit(model, watching, data, data, flags(tmp_path, precision="bf16"))
    assert kinds == {(torch.bfloat16, torch.float32)}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert records[-1]["val_loss"] < records[0]["val_loss"]


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
    args = flags(tmp_path, lr=0.1, weight_decay=0.5, optimizer=name)
    optimizer = rnn_utils.make_optimizer([weight], args)
    for _ in range(2):
        weight.grad = torch.tensor(0.25, dtype=torch.double)
        optimizer.step()
    assert weight.item() == pytest.approx(expected)


@pytest.mark.parametrize("steps", [*range(1, 8), 40])
def test_one_cycle_takes_any_number_of_steps(tmp_path, steps):
    """A quick run has few steps; none may crash, and the rate stays within (0, --lr]."""
    args = flags(tmp_path, lr=0.5)
    optimizer = rnn_utils.make_optimizer(Toy().parameters(), args)
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
        assert 8 <= top <= 11, "a quarter of the steps upwards"
        assert rates == [*sorted(rates[:top]), *sorted(rates[top:], reverse=True)]
        assert rates[-1] < 0.5 / 100


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_schedule_is_as_long_as_the_training(tmp_path, monkeypatch, accumulate):
    """6 batches an epoch make 6 steps, or 2 groups of at most 4."""
    seen = []
    real = rnn_utils.make_scheduler

    def noted(optimizer, steps, args):
        scheduler = real(optimizer, steps, args)
        seen.append((steps, scheduler))
        return scheduler

    monkeypatch.setattr(rnn_utils, "make_scheduler", noted)
    train(flags(tmp_path, accumulate=accumulate), None)
    ((steps, scheduler),) = seen
    assert steps == scheduler.last_epoch == 5 * (6 if accumulate == 1 else 2)


# ---------------------------------------------------------------- fit


def scripted(losses):
    """Validation in epoch n gives losses[n - 1]; each step moves the weight by 1."""
    passes = itertools.count()

    def one(model, batch):
        if model.training:
            return {"loss": -model.weight.flatten()}
        value = losses[min(next(passes), len(losses) - 1)]
        return {"loss": torch.tensor([value]), "accuracy": torch.tensor([value])}

    return one


def run_scripted(folder, losses, monitor="val_loss", config=None, **changes):
    """Train one weight that counts the epochs; returns (best epoch, records)."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    changes = {"epochs": len(losses), "lr": 1.0, "optimizer": "sgd", **changes}
    args = flags(folder, weight_decay=0.0, clip=0.0, **changes)
    weights = []
    records = fit(
        model,
        scripted(losses),
        [{}],
        [{}],
        args,
        config,
        FEEDS,
        monitor,
        after_epoch=lambda record: weights.append(model.weight.item()),
    )
    assert weights == sorted(set(weights)), "every epoch must move the weight"
    assert not model.training
    return weights.index(model.weight.item()) + 1, records


@pytest.mark.parametrize(
    "losses, best",
    [([3.0, 2.0, 1.0], 3), ([3.0, 1.0, 2.0, 4.0], 2), ([2.0, 2.0], 1)],
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


@pytest.mark.parametrize("patience, epochs", [(0, 6), (1, 3), (2, 4), (3, 6), (9, 6)])
def test_early_stopping(tmp_path, patience, epochs):
    """Training ends after `patience` epochs in a row without a better score; 0 means never."""
    losses = [3.0, 2.0, 2.5, 2.0, 1.0, 1.5]
    found, records = run_scripted(tmp_path, losses, patience=patience)
    assert len(records) == epochs
    assert found == (2 if epochs < 5 else 5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("when", ["training", "validation"])
def test_divergence(tmp_path, bad, when):
    """A loss that is no number ends training in one sentence that says what to change."""
    args = flags(tmp_path)
    epochs = []

    def breaking(model, batch):
        values = measure(model, batch)
        if len(epochs) == 3 and model.training == (when == "training"):
            values["loss"] = values["loss"] * bad
        return values

    data = make_data()
    with pytest.raises(Diverged, match="no longer a number in epoch 4.*--lr"):
        fit(Toy(), breaking, data, data, args, CONFIG, FEEDS, after_epoch=epochs.append)
    kept = torch.load(tmp_path / "last.pt", weights_only=True)
    assert len(kept["training"]["records"]) == 3, "the last good state must stay"


def test_last_step_that_ruins_the_weights_is_noticed(tmp_path):
    """The training loss is taken before each step, so only validation can tell."""

    def ruin(model, batch):
        return {"loss": measure(model, batch)["loss"] * (1e38 if model.training else 1)}

    data = make_data(n=4)
    args = flags(tmp_path, epochs=1, lr=50.0, clip=0.0, optimizer="sgd")
    with pytest.raises(Diverged):
        fit(Toy(), ruin, data, data, args)


def meddle(record):
    """What a lesson may do between epochs: draw, sample, change the mode."""
    random.random()
    np.random.rand()
    torch.rand(3)


def test_same_seed_same_weights(tmp_path):
    """Bit for bit, whatever happens between epochs or before; another seed, another model."""
    one, records = train(flags(tmp_path, seed=3), None)
    after = draw()
    torch.rand(7)
    two, again = train(flags(tmp_path, seed=3), None, after_epoch=meddle)
    assert draw() == after, "what follows a training is the same too"
    other, _ = train(flags(tmp_path, seed=4), None)
    assert same_weights(one, two)
    assert scores(records) == scores(again)
    assert not same_weights(one, other)


def test_side_experiments_are_silent(tmp_path, capsys):
    """Without a config nothing is printed or written, whatever flags are set."""
    args = flags(tmp_path / "out", save_model=True, resume=True)
    train(args, config=None)
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_one_line_an_epoch(tmp_path, capsys):
    """The reader sees training beside validation, once an epoch."""
    _, records = train(flags(tmp_path, epochs=3))
    lines = capsys.readouterr().out.splitlines()
    starts = ["epoch  1/3", "epoch  2/3", "epoch  3/3", "Best val_l"]
    assert [line[:10] for line in lines] == starts
    assert f" loss {records[1]['loss']:.4f}" in lines[1]
    assert f"val_loss {records[1]['val_loss']:.4f}" in lines[1]


# ---------------------------------------------------------------- resuming


def interrupted(args, epochs, **more):
    """Train until Ctrl-C in the middle of the epoch after so many."""
    done = []

    def stop(model, batch):
        if len(done) == epochs and not model.training:
            raise KeyboardInterrupt
        return measure(model, batch)

    set_seed(args.seed)
    data = make_data(shuffle=True), make_data(n=9, seed=8)
    with pytest.raises(KeyboardInterrupt):
        fit(Toy(**CONFIG), stop, *data, args, CONFIG, FEEDS, after_epoch=done.append)


@pytest.mark.parametrize(
    "shape",
    [{}, {"optimizer": "sgd"}, {"accumulate": 2, "precision": "bf16"}],
    ids=["adam", "sgd", "accumulated bf16"],
)
@pytest.mark.parametrize("after", [1, 4])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, shape, after):
    """Weights and losses bit for bit; Ctrl-C in an epoch costs that epoch alone."""
    whole, records = train(flags(tmp_path / "a", save_model=True, **shape))
    follows = draw()
    interrupted(flags(tmp_path / "b", save_model=True, **shape), after)
    kept = torch.load(tmp_path / "b" / "last.pt", weights_only=True)["training"]
    assert len(kept["records"]) == after
    again = flags(tmp_path / "b", resume=True, save_model=True, **shape)
    resumed, others = train(again, after_epoch=meddle)
    assert draw() == follows
    assert same_weights(whole, resumed)
    assert scores(records) == scores(others)
    names = sorted(path.name for path in (tmp_path / "b").iterdir())
    assert names == ["best.pt", "last.pt"]
    models = [torch.load(tmp_path / d / "best.pt", weights_only=True) for d in "ab"]
    for name, weights in models[0]["model"].items():
        assert torch.equal(weights, models[1]["model"][name])


def test_resume_keeps_best_and_patience(tmp_path):
    """The best epoch of before the interruption still counts afterwards."""
    shape = {"patience": 3, "epochs": 6, "save_model": True}
    losses = [3.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    wanted = run_scripted(tmp_path / "a", losses, config=CONFIG, **shape)
    broken = [3.0, 1.0, 2.0, math.nan]
    with pytest.raises(Diverged):
        run_scripted(tmp_path / "b", broken, config=CONFIG, **{**shape, "epochs": 6})
    (tmp_path / "b" / "best.pt").unlink()
    model = nn.Linear(1, 1, bias=False)
    args = flags(
        tmp_path / "b", lr=1.0, clip=0.0, optimizer="sgd", resume=True, **shape
    )
    args.weight_decay = 0.0
    records = fit(model, scripted(losses[3:]), [{}], [{}], args, CONFIG, FEEDS)
    assert scores(records) == scores(wanted[1])
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5]
    best = torch.load(tmp_path / "a" / "best.pt", weights_only=True)["model"]["weight"]
    assert torch.equal(model.weight, best)
    saved = torch.load(tmp_path / "b" / "best.pt", weights_only=True)["model"]
    assert torch.equal(saved["weight"], best), (
        "--save-model with --resume writes it too"
    )


def test_resuming_a_finished_run_trains_no_more(tmp_path):
    """It gives back the records and the best weights; free flags do not hinder."""
    model, records = train(flags(tmp_path))
    written = (tmp_path / "last.pt").read_bytes()
    changed = flags(tmp_path, resume=True, no_plots=False, path=str(tmp_path / "p.pt"))
    again, replayed = train(changed)
    assert same_weights(model, again)
    assert replayed == records
    assert (tmp_path / "last.pt").read_bytes() == written


REFUSED = {
    "a flag": ({"lr": 0.06}, {}, "--lr was 0.05 and is now 0.06"),
    "--epochs": ({"epochs": 6}, {}, "--epochs was 5 and is now 6"),
    "a newer flag": ({"newer_flag": 1}, {}, "--newer-flag was None"),
    "another vocabulary": ({}, {"feeds": {**FEEDS, "words": ["a"]}}, "other data"),
    "another model": ({}, {"config": {**CONFIG, "hidden": 6}}, "other data"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_resume_refuses_what_differs(tmp_path, kind):
    """A run that changes its flags or data midway could never be repeated."""
    interrupted(flags(tmp_path), 2)
    written = (tmp_path / "last.pt").read_bytes()
    changes, given, says = REFUSED[kind]
    said = refusal(train, flags(tmp_path, resume=True, **changes), **given)
    assert says in said and "--resume" in said
    assert (tmp_path / "last.pt").read_bytes() == written


def test_resume_without_a_state(tmp_path):
    """Nothing there, or a model of --save-model: it is said, and how to go on."""
    args = flags(tmp_path, resume=True)
    assert "drop --resume" in refusal(train, args)
    train(flags(tmp_path, save_model=True))
    (tmp_path / "best.pt").replace(tmp_path / "last.pt")
    assert "no training state" in refusal(train, args)


# ---------------------------------------------------------------- models on disk


def test_a_saved_model_answers_as_before(tmp_path, capsys):
    """--path holds the best weights, and all it takes to build the model and feed it."""
    model, _ = train(flags(tmp_path, save_model=True))
    loaded, config, feeds = load(flags(tmp_path), Toy, dataset="made")
    assert same_weights(model, loaded)
    assert not loaded.training
    assert (config, feeds) == (CONFIG, FEEDS)
    assert f"The model is that of {tmp_path / 'best.pt'}" in capsys.readouterr().out


def fail_with(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("owner, call", [(os, "replace"), (Path, "write_bytes")])
@pytest.mark.parametrize("old", [None, b"old content"])
def test_failed_write_leaves_the_old_content(tmp_path, monkeypatch, owner, call, old):
    """A full disk must not cost the checkpoint that was there."""
    path = tmp_path / "file"
    if old:
        path.write_bytes(old)
    monkeypatch.setattr(owner, call, fail_with(errno.ENOSPC))
    said = refusal(rnn_utils.write_atomically, path, b"new content")
    assert str(path) in said and os.strerror(errno.ENOSPC) in said
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([old] if old else [])


def test_interrupted_write_leaves_the_old_content(tmp_path, monkeypatch):
    """Ctrl-C in the middle of a write, too."""
    (tmp_path / "file").write_bytes(b"old")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        rnn_utils.write_atomically(tmp_path / "file", b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_write_atomically(tmp_path):
    """The folder is made, the content replaced, the file as readable as any other."""
    path = tmp_path / "new" / "folder" / "file"
    for content in (b"one", memoryview(b"two"), b""):
        rnn_utils.write_atomically(path, content)
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
    rnn_utils.write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "file").read_bytes() == b"new"


@pytest.mark.parametrize("obstacle", ["file above", "folder"])
def test_unwritable_place(tmp_path, obstacle):
    """A path that cannot be written to ends in one sentence that names it."""
    path = tmp_path / "there" / "file"
    if obstacle == "file above":
        (tmp_path / "there").write_text("I am a file")
    else:
        path.mkdir(parents=True)
    assert str(path) in refusal(rnn_utils.write_atomically, path, b"content")
    assert not list(tmp_path.rglob("tmp*"))


class Evil:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def content_of(**changes):
    """What `save` writes, with some entries changed; ... leaves one out."""
    content = {"lesson": LESSON, "config": CONFIG, "feeds": FEEDS, "training": None}
    content |= {"model": Toy().state_dict(), **changes}
    return {name: value for name, value in content.items() if value is not ...}


def bytes_of(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def strangers(ran):
    """Name -> bytes of a file that is no checkpoint of this lesson."""
    good = bytes_of(content_of())
    return {
        "empty": b"",
        "cut off": good[: len(good) // 2],
        "text": b"I am no checkpoint\n",
        "a pickle that runs code": pickle.dumps(content_of(model=Evil(ran))),
        "a checkpoint that runs code": bytes_of(content_of(model=Evil(ran))),
        "a list": bytes_of([1, 2]),
        "weights alone": bytes_of(Toy().state_dict()),
        "another lesson's": bytes_of(content_of(lesson="98_other")),
    }


@pytest.mark.filterwarnings("error")  # a warning is one more line on stderr
@pytest.mark.parametrize("kind", strangers("nowhere"))
@pytest.mark.parametrize("flag", ["eval_only", "resume"])
def test_foreign_and_damaged_files(tmp_path, kind, flag):
    """One sentence that names the file, and no code in it is run."""
    name = "best.pt" if flag == "eval_only" else "last.pt"
    (tmp_path / name).write_bytes(strangers(tmp_path / "ran")[kind])
    args = flags(tmp_path, **{flag: True})
    said = refusal(load, args, Toy) if flag == "eval_only" else refusal(train, args)
    assert name in said
    assert not (tmp_path / "ran").exists(), "code in the file was run"


def test_the_evil_pickle_would_run_code(tmp_path):
    """Otherwise the test above could not fail."""
    pickle.loads(strangers(tmp_path / "ran")["a pickle that runs code"])
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"hidden": 6}},  # weights of another size
        {"config": {"hiden": 5}},  # a flag of an older version
        {"model": {}},
    ],
    ids=["another size", "another name", "no weights"],
)
def test_model_that_does_not_fit(tmp_path, changes):
    """Weights of another version end in one sentence."""
    (tmp_path / "best.pt").write_bytes(bytes_of(content_of(**changes)))
    assert "does not fit this version" in refusal(load, flags(tmp_path), Toy)


def test_model_of_other_data(tmp_path):
    """A model must not answer for data that it was not made for."""
    (tmp_path / "best.pt").write_bytes(bytes_of(content_of()))
    said = refusal(load, flags(tmp_path), Toy, dataset="imdb")
    assert "trained on dataset 'made', not on 'imdb'" in said


def test_model_that_is_not_there(tmp_path):
    """The sentence says how to make one."""
    assert "--save-model --path" in refusal(load, flags(tmp_path), Toy)


STATE = {"file": None}


@given(
    st.lists(
        st.tuples(st.floats(0, 0.999), st.sampled_from([0, 1, 9, 10**6]), st.binary()),
        min_size=1,
        max_size=3,
    )
)
def test_random_damage(tmp_path_factory, splices):
    """Pieces of last.pt taken out or put in: refused in a sentence, or PyTorch saw no harm."""
    if STATE["file"] is None:
        folder = tmp_path_factory.mktemp("state")
        train(flags(folder))
        STATE["file"] = folder / "last.pt"
        STATE["good"] = STATE["file"].read_bytes()
    content = STATE["good"]
    for where, length, piece in splices:
        start = int(where * len(content))
        content = content[:start] + piece + content[start + length :]
    STATE["file"].write_bytes(content)
    try:
        train(flags(STATE["file"].parent, resume=True))
    except rnn_utils.UserError as error:
        assert "last.pt" in str(error) and "\n" not in str(error)


# ---------------------------------------------------------------- what lessons share


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
def test_gradient_by_distance_equals_a_loop_of_cells(kind):
    """The curve of the picture, against a cell written out step by step.

    Copies, because it is about what is handed on: h and c each by itself.
    """
    torch.manual_seed(3)
    layer = getattr(nn, kind)(6, 7, batch_first=True).double()
    cell = getattr(nn, kind + "Cell")(6, 7).double()
    for mine, theirs in zip(cell.parameters(), layer.parameters(), strict=True):
        mine.data = theirs.data
    x = torch.randn(4, 5, 6, dtype=torch.double)

    def loss_of(last):
        return last.square().sum(1).mean()

    state = None
    states = []
    for t in range(5):
        found = cell(x[:, t], state)
        parts = found if kind == "LSTM" else (found,)
        parts = tuple(part.clone() for part in parts)
        state = parts if kind == "LSTM" else parts[0]
        for part in parts:
            part.retain_grad()
        states.append(parts)
    loss_of(states[-1][0]).backward()
    norms = []
    for parts in reversed(states):
        grads = [torch.zeros(4, 7) if p.grad is None else p.grad for p in parts]
        norms.append(torch.cat(grads, 1).norm(dim=1).mean().item())
    expected = [norm / norms[0] for norm in norms]
    assert rnn_utils.gradient_by_distance(layer, x, loss_of) == pytest.approx(expected)


WORDS = 4  # that may be written, beside <eos>


def decoder(seed, batch):
    """A random language: log p of the next word by the last two words and the row."""
    torch.manual_seed(seed)
    size = rnn_utils.EOS_ID + 1 + WORDS
    table = torch.randn(batch, size, size, size, dtype=torch.double) * 1.5
    table = table.log_softmax(-1)

    def advance(words, state):
        rows, before = state
        return table[rows, before, words].clone(), (rows, words)

    start = torch.arange(batch), torch.full((batch,), rnn_utils.BOS_ID)
    return table, advance, start


def log_p_of(table, row, words):
    """Mean log p of an answer, <eos> as its last word if it has one."""
    before = word = rnn_utils.BOS_ID
    total = 0.0
    for following in words:
        total += table[row, before, word, following].item()
        before, word = word, following
    return total / len(words)


def every_answer(limit):
    """All that could be written within `limit` words, <eos> included."""
    end = rnn_utils.EOS_ID
    words = range(end + 1, end + 1 + WORDS)
    for n in range(limit):
        for answer in itertools.product(words, repeat=n):
            yield [*answer, end]
    for answer in itertools.product(words, repeat=limit):
        yield list(answer)


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_is_an_exhaustive_search(seed):
    """Rows of limits 2, 4 and 3: the best of all answers, and its mean log p."""
    table, advance, start = decoder(seed, 3)
    limits = [2, 4, 3]
    found = rnn_utils.beam_search(advance, start, torch.tensor(limits), beam_size=400)
    for row, (ids, log_p) in enumerate(found):
        best = max(every_answer(limits[row]), key=lambda a: log_p_of(table, row, a))
        assert ids == [word for word in best if word != rnn_utils.EOS_ID]
        assert log_p == pytest.approx(log_p_of(table, row, best), abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_is_greedy(seed):
    """The likeliest word again and again, never <pad>, <unk> or <bos>."""
    table, advance, start = decoder(seed, 4)
    found = rnn_utils.beam_search(advance, start, torch.full((4,), 6), beam_size=1)
    for row, (ids, log_p) in enumerate(found):
        before = word = rnn_utils.BOS_ID
        answer = []
        while len(answer) < 6 and word != rnn_utils.EOS_ID:
            scores = table[row, before, word].clone()
            scores[: rnn_utils.EOS_ID] = -math.inf
            before, word = word, int(scores.argmax())
            answer.append(word)
        assert ids == [word for word in answer if word != rnn_utils.EOS_ID]
        assert log_p == pytest.approx(log_p_of(table, row, answer), abs=1e-5)


def plain_beam(table, row, limit, size):
    """Beam search of one sentence with lists."""
    beams = [[]]
    for _ in range(limit):
        grown = [words for words in beams if words and words[-1] == rnn_utils.EOS_ID]
        for words in beams:
            if not words or words[-1] != rnn_utils.EOS_ID:
                for word in range(rnn_utils.EOS_ID, rnn_utils.EOS_ID + 1 + WORDS):
                    grown.append([*words, word])
        grown.sort(key=lambda words: log_p_of(table, row, words), reverse=True)
        beams = grown[:size]
    return [word for word in beams[0] if word != rnn_utils.EOS_ID]


@pytest.mark.parametrize("size", [2, 3])
def test_beams_equal_those_kept_by_hand(size):
    """The same answers as with lists; a sentence does not depend on its neighbours."""
    table, advance, start = decoder(9, 8)
    limits = torch.full((8,), 5)
    found = rnn_utils.beam_search(advance, start, limits, size)
    for row, (ids, log_p) in enumerate(found):
        assert ids == plain_beam(table, row, 5, size)
        alone = tuple(part[row : row + 1] for part in start)
        ((same, also),) = rnn_utils.beam_search(advance, alone, limits[:1], size)
        assert same == ids and also == pytest.approx(log_p)


def test_a_sparse_table_moves_only_the_rows_used():
    """Its other rows stay, even those used a step before; the schedule holds for both."""
    table = nn.Embedding(5, 3, sparse=True)
    layer = nn.Linear(3, 2)
    model = nn.Sequential(table, layer)
    args = argparse.Namespace(lr=0.1, weight_decay=0.5, optimizer="adam")
    sparse = rnn_utils.sparse_weights(model)
    assert len(sparse) == 1 and sparse[0] is table.weight
    optimizer = rnn_utils.make_optimizer(model.parameters(), args, sparse)
    scheduler = rnn_utils.make_scheduler(optimizer, 8, args)
    for used in ([0, 1], [2, 2]):
        before = table.weight.detach().clone()
        weights = layer.weight.detach().clone()
        optimizer.zero_grad()
        model(torch.tensor(used)).square().sum().backward()
        optimizer.step()
        scheduler.step()
        moved = (table.weight != before).any(1).nonzero().flatten().tolist()
        assert moved == sorted(set(used))
        assert (layer.weight != weights).all()
    rates = {group["lr"] for group in optimizer.param_groups}
    assert len(rates) == 1 and rates != {0.1}
