"""Lesson 05: the LSTM cell, pooling, early stopping, recall, the ratio, the verdict."""

import random
import re
from argparse import Namespace
from itertools import product

import numpy as np
import pytest
import torch
from conftest import load_lesson, metrics, one_sentence, run_main
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from torch import nn

import rnn_utils as utils

lesson = load_lesson("05_lstm_sentiment")
CELLS = ("rnn", "lstm", "gru")
GOOD = ["good", "fine", "superb", "lovely"]
BAD = ["bad", "dull", "poor", "weak"]


@pytest.fixture(autouse=True)
def short_recall(monkeypatch):
    """The recall experiment has tests of its own; elsewhere it only takes time."""
    monkeypatch.setattr(lesson, "show_recall", lambda args: {})


def shape(**changes):
    found = {"words": 11, "classes": 3, "embedding": 5, "cell": "lstm", "hidden": 7}
    found |= {"layers": 1, "pooling": "attention", "norm": False, "dropout": 0.0}
    return {**found, **changes}


def make_model(**changes):
    torch.manual_seed(0)
    return lesson.ReviewClassifier(**shape(**changes)).double()


def make_batch(rows=6, width=8):
    """Texts of different lengths, one of them of a single word."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, width + 1, (rows,), generator=draw)
    lengths[0] = width
    lengths[1] = 1
    text = torch.randint(1, 11, (rows, width), generator=draw)
    text[~utils.length_mask(lengths, width)] = 0
    labels = torch.randint(0, 3, (rows,), generator=draw)
    return {"text": text, "text_length": lengths, "label": labels}


def outcome(model, batch):
    """Scores, mean loss and all gradients."""
    model.zero_grad()
    loss = lesson.measure(model, batch)["loss"].mean()
    loss.backward()
    return [lesson.forward(model, batch), loss, *(p.grad for p in model.parameters())]


def make_rows(count=120, seed=0):
    """The texts "X, but Y" and "Y, but X": only the order tells."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        good = draw.choice(GOOD)
        bad = draw.choice(BAD)
        first, last = (bad, good) if i % 2 else (good, bad)
        text = f"Film {i} of {draw.randrange(9)} is {first}, but I say it is {last}."
        rows.append((text, "pos" if i % 2 else "neg"))
    return rows


def make_csv(path, rows):
    lines = ["text,label", *(f'"{text}",{label}' for text, label in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# ---------------------------------------------------------------- the cell


def test_cell_by_hand_equals_torch_outputs_and_gradients():
    """A wrong sign, gate order, bias or transpose would show here."""
    torch.manual_seed(1)
    layer = nn.LSTM(5, 7, batch_first=True).double()
    x = torch.randn(3, 4, 5).double().requires_grad_()
    h0 = torch.randn(3, 7).double().requires_grad_()
    c0 = torch.randn(3, 7).double().requires_grad_()
    inputs = [x, h0, c0, *layer.parameters()]
    steps = lesson.lstm_by_hand(*inputs)
    ours = [torch.stack([step.h for step in steps], dim=1), steps[-1].c]
    states, (_, c) = layer(x, (h0.unsqueeze(0), c0.unsqueeze(0)))
    theirs = [states, c[0]]
    goals = [torch.randn(3, 4, 7), torch.randn(3, 7)]
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)
    gradients = []
    for found in (ours, theirs):
        loss = sum((a * goal).sum() for a, goal in zip(found, goals, strict=True))
        gradients.append(torch.autograd.grad(loss, inputs))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other)


def test_the_memory_path_is_the_product_of_forget_gates():
    """dc_3/dc_0 with the gates held; and moving gates do change it (finite difference)."""
    steps = lesson.lstm_by_hand(
        lesson.toy_input(), *torch.zeros(2, 1, 1).double(), *lesson.toy_weights()
    )
    product = np.prod([step.f.item() for step in steps])
    assert lesson.memory_path(hold_gates=True) == pytest.approx(product)
    ends = []
    for start in (-1e-5, 1e-5):
        zero = torch.zeros(1, 1).double()
        moved = lesson.lstm_by_hand(
            lesson.toy_input(), zero, zero + start, *lesson.toy_weights()
        )
        ends.append(moved[-1].c.item())
    slope = (ends[1] - ends[0]) / 2e-5
    assert lesson.memory_path(hold_gates=False) == pytest.approx(slope, rel=1e-4)
    assert slope != pytest.approx(product, rel=1e-3)


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_the_start(cell, gates):
    """Each gate's matrix is orthogonal; the forget gate's two biases make 1."""
    torch.manual_seed(2)
    rnn = lesson.CELLS[cell](5, 7, 2)
    before = {name: weight.clone() for name, weight in rnn.named_parameters()}
    lesson.start_well(rnn)
    for name, weight in rnn.named_parameters():
        if "weight_hh" in name:
            parts = weight.split(7)
            assert len(parts) == gates
            for gate in parts:
                torch.testing.assert_close(gate @ gate.T, torch.eye(7))
        elif cell == "lstm" and "bias" in name:
            rest = [k for k in range(28) if not 7 <= k < 14]  # i, f, g, o: f is second
            assert (weight[7:14] == float("ih" in name)).all()
            assert torch.equal(weight[rest], before[name][rest])
        else:
            assert torch.equal(weight, before[name])


@pytest.mark.parametrize("layers", [1, 2])
def test_gates_of_the_trained_network(layers):
    """Those of the first layer, which reads the words: at each word a mean."""
    model = make_model(layers=layers).eval().float()
    ids = torch.randint(1, 11, (1, 6))
    with torch.no_grad():
        gates = lesson.gates_along(model, ids)
        step = lesson.lstm_step(
            model.embed(ids[:, 0]),
            *torch.zeros(2, 1, 7),
            *(
                model.rnn.get_parameter(f"{name}_l0")
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ),
        )
        steps = lesson.lstm_by_hand(
            model.embed(ids), *torch.zeros(2, 1, 7), *list(model.rnn.parameters())[:4]
        )
    *means, single = gates
    assert means == ["i", "f", "o"]
    for name in means:
        assert gates[name].shape == (6,)
        torch.testing.assert_close(gates[name][0], getattr(step, name).mean())
    # Of the single forget gates the one with the widest range.
    forget = torch.cat([step.f for step in steps])  # (T, H)
    ranges = forget.max(0).values - forget.min(0).values
    place = int(single.removeprefix("f_"))
    assert ranges[place] == ranges.max()
    torch.testing.assert_close(gates[single], forget[:, place])


def test_gates_at_a_word_against_a_loop(capsys):
    """Means over the places of the word, and over all other real words."""
    model = make_model().eval().float()
    model.rnn.weight_ih_l0.data[7:14] *= 9  # so that some gates shut
    texts = torch.tensor([[2, 3, 4, 0], [5, 2, 2, 6], [7, 8, 0, 0]])
    lengths = torch.tensor([3, 4, 2])
    batches = utils.Batches({"text": texts, "text_length": lengths}, 3)
    words = [utils.PAD, utils.UNK, "but", *"abcdefgh"]
    data = Namespace(vocabulary=utils.Vocabulary(words), val=batches)
    lesson.show_gates_at("but", model, data)
    here = []
    elsewhere = []
    weights = list(model.rnn.parameters())[:4]
    for row, length in zip(texts[:2], lengths, strict=False):  # the third has none
        with torch.no_grad():
            x = model.embed(row[:length]).unsqueeze(0)
            steps = lesson.lstm_by_hand(x, *torch.zeros(2, 1, 7), *weights)
        for number, step in zip(row.tolist(), steps, strict=False):
            (here if number == 2 else elsewhere).append(step.f[0])
    at = torch.stack(here).mean(0)
    rest = torch.stack(elsewhere).mean(0)
    said = " ".join(capsys.readouterr().out.split())
    assert f'at 3 times "but" in 2 reviews of validation, f is {at.mean():.2f}' in said
    assert f"all other words {rest.mean():.2f}" in said
    lesson.show_gates_at("unheard", model, data)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_how_long_it_holds(capsys, cell):
    """A memory of a window of four words: what h and c know, and for how long.

    h is the mean of the last four words; c, of an LSTM, all that was read, by a half less
    at each word, in one of its two numbers.
    """

    def read(x):  # (B, T, 1), all ones, as if 0 stood before the first word
        count = x.shape[1]
        h = torch.full((1, len(x), 2), min(count, 4) / 4)
        if cell == "rnn":
            return None, h
        c = torch.ones(1, len(x), 2)
        c[..., 1] = 2 - 0.5 ** (count - 1)
        return None, (h, c)

    embed = nn.Embedding(9, 1, _weight=torch.ones(9, 1))
    model = Namespace(embed=embed, rnn=read, pooling="mean")
    lengths = torch.tensor([45, 41])
    texts = {"text": torch.ones(2, 45, dtype=torch.long), "text_length": lengths}
    lesson.show_how_long_it_holds(model, Namespace(val=utils.Batches(texts, 2)))
    printed = capsys.readouterr().out
    # One word later 3 of 4 words of the window stood before it, five later none.
    assert "of h       0.75   0.00   0.00" in printed
    # Of c one number of two is 1 where it would be 2: 1 of the root of 5; 0.5 of 2.
    assert ("of c       0.45   0.03   0.00" in printed) == (cell == "lstm")
    assert "30 words later the states differ by 0%" in " ".join(printed.split())


# ---------------------------------------------------------------- pooling and padding


def pool_by_loop(states, lengths, how, attend):
    """The four poolings, one review at a time, over its real words alone."""
    rows = []
    for row, length in zip(states, lengths.tolist(), strict=True):
        real = row[:length]  # (length, H)
        if how == "last":
            rows.append(real[-1])
        elif how == "mean":
            rows.append(sum(real) / length)
        elif how == "max":
            rows.append(torch.stack([max(column) for column in real.T]))
        else:
            powers = [torch.exp(attend.weight[0] @ h) for h in real]
            total = sum(power * h for power, h in zip(powers, real, strict=True))
            rows.append(total / sum(powers))
    return torch.stack(rows)


@pytest.mark.parametrize("how", lesson.POOLINGS)
def test_pooling_equals_a_loop(how):
    """States below zero everywhere, so that a padded 0 would win the maximum."""
    torch.manual_seed(3)
    attend = nn.Linear(7, 1, bias=False).double()
    lengths = torch.tensor([6, 1, 3, 5])
    for states in (torch.randn(4, 6, 7).double(), -torch.rand(4, 6, 7).double() - 1):
        expected = pool_by_loop(states, lengths, how, attend)
        found = lesson.pool(states, lengths, how, attend)
        torch.testing.assert_close(found, expected)


CASES = [*product(lesson.POOLINGS, CELLS, [1], [False]), ("max", "lstm", 2, True)]


@pytest.mark.parametrize(("pooling", "cell", "layers", "norm"), CASES)
def test_padding_and_neighbours_change_nothing(pooling, cell, layers, norm):
    """Wider padding full of rubbish, another order: same scores, loss and gradients."""
    model = make_model(pooling=pooling, cell=cell, layers=layers, norm=norm)
    batch = make_batch()
    narrow = outcome(model, batch)
    wide = nn.functional.pad(batch["text"], (0, 3))
    rubbish = torch.where(utils.length_mask(batch["text_length"], 11), wide, 4)
    for one, other in zip(
        narrow, outcome(model, {**batch, "text": rubbish}), strict=True
    ):
        torch.testing.assert_close(one, other)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    mixed = outcome(model, {name: rows[order] for name, rows in batch.items()})
    torch.testing.assert_close(mixed[0], narrow[0][order])
    for one, other in zip(mixed[1:], narrow[1:], strict=True):
        torch.testing.assert_close(one, other)
    for i, length in enumerate(batch["text_length"].tolist()):
        alone = model(batch["text"][i : i + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(alone[0], narrow[0][i])


def test_dropout_acts_on_words_and_on_what_is_pooled():
    """The two places that --dropout is for in a network of one layer."""
    model = make_model(dropout=0.5)
    seen = []
    model.dropout.register_forward_hook(lambda *a: seen.append(tuple(a[2].shape)))
    lesson.forward(model, make_batch())
    assert seen == [(6, 8, 5), (6, 7)]


def test_layer_norm_acts_on_every_state(monkeypatch):
    """With --layer-norm, what is pooled has mean 0 and variance 1 over H."""
    seen = []
    monkeypatch.setattr(lesson, "pool", lambda x, *rest: seen.append(x) or x[:, 0])
    lesson.forward(make_model(norm=True), make_batch())
    torch.testing.assert_close(seen[0].mean(2), torch.zeros(6, 8).double())
    variance = seen[0].var(2, unbiased=False)
    torch.testing.assert_close(variance, torch.ones(6, 8).double(), atol=0.02, rtol=0)


OVERFIT = [*product(["lstm"], lesson.POOLINGS), ("rnn", "max"), ("gru", "max")]


@pytest.mark.parametrize(("cell", "pooling"), OVERFIT)
def test_model_overfits_a_tiny_batch(cell, pooling):
    """Gradients reach every weight that matters."""
    torch.manual_seed(4)
    config = shape(cell=cell, pooling=pooling, hidden=24, norm=pooling == "mean")
    model = lesson.ReviewClassifier(**config)
    batch = make_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(120):
        values = lesson.measure(model, batch)
        optimizer.zero_grad()
        values["loss"].mean().backward()
        optimizer.step()
    assert values["accuracy"].all()
    assert values["loss"].mean().item() < 0.05


# ---------------------------------------------------------------- training by hand


def test_the_loss_is_binary_cross_entropy():
    """The table of section 3 against PyTorch's own loss, of a logit and of two scores."""
    with open(lesson.__file__, encoding="utf-8") as file:
        _, _, part = file.read().partition("logit z   p = sigmoid(z)")
    rows = [line.strip("# ").split() for line in part.splitlines()[1:5]]
    for row in rows:
        z = torch.tensor(float(row[0]), requires_grad=True)
        loss = nn.functional.binary_cross_entropy_with_logits(z, torch.tensor(1.0))
        loss.backward()
        p = torch.sigmoid(z)
        assert row[1:] == [f"{p:.3f}", f"{loss:.3f}", f"{z.grad:.3f}"]
        scores = torch.stack([torch.tensor(0.0), z])  # their difference is z
        both = nn.functional.cross_entropy(scores, torch.tensor(1))
        torch.testing.assert_close(both, loss)
    assert len(rows) == 4


def test_steps_by_hand_are_those_of_fit(tmp_path):
    """One pass over batches of several lengths: the same weights at the end."""
    for cell in ("rnn", "lstm"):
        torch.manual_seed(8)
        batches = [lesson.recall_batch(8, 3 + k % 5, "cpu") for k in range(12)]
        looked_at = lesson.recall_batch(8, 5, "cpu")
        ours = lesson.LetterNetwork(cell)
        theirs = lesson.LetterNetwork(cell)
        for weight in ours.parameters():
            weight.data *= 4  # so that some gradients are clipped
        theirs.load_state_dict(ours.state_dict())

        def measure(model, batch):
            scores = model(batch["letters"])
            losses = nn.functional.cross_entropy(
                scores, batch["label"], reduction="none"
            )
            return {"loss": losses}

        lesson.train_to_recall(ours, batches, 0.02)
        args = recall_args(tmp_path, epochs=1, lr=0.02)
        records = utils.fit(theirs, measure, batches, [looked_at], args)
        assert records[0]["max_grad_norm"] > 1
        for name, value in ours.state_dict().items():
            torch.testing.assert_close(value, theirs.state_dict()[name])


# ---------------------------------------------------------------- early stopping


STOPS = [
    ([3.0, 2.0, 2.5, 2.4, 1.0], 0, (5, 5)),
    ([3.0, 2.0, 2.5, 2.4, 1.0], 1, (3, 2)),
    ([3.0, 2.0, 2.5, 2.4, 1.0], 2, (4, 2)),
    ([3.0, 2.0, 2.5, 1.9, 2.0, 2.1, 0.1], 2, (6, 4)),
    ([2.0, 2.0, 2.0], 2, (3, 1)),
    ([1.0], 1, (1, 1)),
]


@pytest.mark.parametrize(("losses", "patience", "expected"), STOPS)
def test_early_stopping_by_hand(losses, patience, expected):
    assert lesson.early_stopping_by_hand(losses, patience) == expected


def train_a_toy(folder, patience):
    """24 examples of 20 numbers, of which one tells: (records, weights, model).

    weights: a copy after each epoch.
    """
    torch.manual_seed(5)
    x = torch.randn(48, 20)  # 24 examples for training, 24 for validation
    y = (x[:, 0] + 0.4 * torch.randn(48) > 0).long()
    train = utils.Batches({"x": x[:24], "y": y[:24]}, 24)
    val = utils.Batches({"x": x[24:], "y": y[24:]}, 24)
    model = nn.Linear(20, 2)
    nn.init.zeros_(model.bias)
    nn.init.zeros_(model.weight)

    def measure(model, batch):
        scores = model(batch["x"])
        return {
            "loss": nn.functional.cross_entropy(scores, batch["y"], reduction="none")
        }

    args = recall_args(folder, epochs=8, lr=0.12, patience=patience, dropout=0.0)
    weights = []
    records = utils.fit(
        model,
        measure,
        train,
        val,
        args,
        after_epoch=lambda record: weights.append(model.weight.detach().clone()),
    )
    return records, weights, model


@pytest.mark.parametrize(("val_loss", "parts"), [(0.4, True), (0.2, False)])
def test_overfitting_is_told_by_its_own_figures(capsys, tmp_path, val_loss, parts):
    """It is said only where the loss on validation rose while that on training fell."""
    records = []
    for epoch, values in enumerate([(0.5, 0.3, 0.8), (0.1, val_loss, 0.7)], start=1):
        keys = ("loss", "val_loss", "val_accuracy")
        records.append({"epoch": epoch, **dict(zip(keys, values, strict=True))})
    args = recall_args(tmp_path, epochs=2)
    lesson.show_overfitting(records, {"cell": "lstm"}, fake_data([]), args)
    printed = " ".join(capsys.readouterr().out.split())
    assert ("0.8000 then, 0.7000 at the end" in printed) == parts
    assert (
        "After epoch 1, whose weights are kept, the two losses part" in printed
    ) == (parts)
    assert (
        "0.500 then, 0.100 at the end; on validation 0.300 and 0.400" in printed
    ) == (parts)
    assert ("no overfitting so far" in printed) != parts


@pytest.mark.parametrize("patience", [0, 1, 2, 3, 9])
def test_early_stopping_is_that_of_fit(tmp_path, patience):
    """As many epochs, and the weights of the same one."""
    all_records, weights, _ = train_a_toy(tmp_path, 0)
    losses = [record["val_loss"] for record in all_records]
    last, best = lesson.early_stopping_by_hand(losses, patience)
    assert best < len(losses), "a toy that does not overfit shows nothing"
    records, _, model = train_a_toy(tmp_path, patience)
    assert len(records) == last
    assert torch.equal(model.weight, weights[best - 1])


# ---------------------------------------------------------------- recall


REAL_RECALL = lesson.show_recall


def recall_args(folder, **changes):
    args = lesson.make_flags().parse_args(
        ["--out-dir", str(folder), "--quick", "--no-plots"]
    )
    return Namespace(**{**vars(args), "device": "cpu", **changes})


def test_recall_batch():
    """The answer is the first letter, of eight that all occur; 0 is for padding."""
    torch.manual_seed(0)
    batch = lesson.recall_batch(400, 9, "cpu")
    assert batch["letters"].shape == (400, 9)
    assert batch["letters"].unique().tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert torch.equal(batch["label"] + 1, batch["letters"][:, 0])


@pytest.mark.parametrize("flags", [{}, {"lr": 9.0, "dropout": 0.9, "epochs": 7}])
def test_recall_is_a_fair_experiment(tmp_path, monkeypatch, capsys, flags):
    """The same letters for each cell, other ones in each part, and none of our flags."""
    trained = []
    asked = []
    looked_at = []

    def train(model, batches, rate):
        trained.append((model.rnn.mode, batches, rate))

    def share_right(scores, batch):
        asked.append(batch)
        return len(asked) / 100

    def reach(model, batch):
        looked_at.append(batch)
        return [1.0] * batch["letters"].shape[1]

    monkeypatch.setattr(lesson, "train_to_recall", train)
    monkeypatch.setattr(lesson, "recall_reach", reach)
    monkeypatch.setattr(lesson, "share_right", share_right)
    found = REAL_RECALL(recall_args(tmp_path, **flags))
    assert found == {"rnn": 0.06, "lstm": 0.13}, "those of 50 letters"
    assert "[sample: generated]" in capsys.readouterr().out
    lengths = [batch["letters"].shape[1] for batch in asked]
    assert lengths == 3 * list(lesson.RECALL_ASKED)
    kinds = [(mode, rate) for mode, _, rate in trained]
    assert kinds == [("RNN_TANH", 0.003), ("LSTM", 0.01), ("RNN_TANH", 0.003)]
    batches = [batches for _, batches, _ in trained]
    assert batches[1] is batches[0] and len(batches[2]) == len(batches[0])
    assert all(look is looked_at[0] for look in looked_at)
    rows = []
    parts = [*batches[0], *batches[2], looked_at[0], *asked[: len(lesson.RECALL_ASKED)]]
    for batch in parts:
        rows += [tuple(row) for row in batch["letters"].tolist() if len(row) >= 20]
    assert len(rows) > 2000
    assert len(set(rows)) == len(rows)


def test_short_sequences_are_more_common(tmp_path):
    """In the third training half of the batches have up to about 7 letters, none over 50."""
    trainings, _, _ = lesson.recall_data(recall_args(tmp_path, quick=False))
    even = [batch["letters"].shape[1] for batch in trainings["even"]]
    short = [batch["letters"].shape[1] for batch in trainings["short"]]
    assert min(even) == min(short) == 1 and max(even) == max(short) == 50
    assert 23 <= np.median(even) <= 28 and 6 <= np.median(short) <= 8


def recalled(lstm, rnn, third, lstm_way, rnn_way, third_way):
    """What `read_recall` is given: accuracies at 50, gradients from 49 letters back."""
    names = ("lstm", "rnn", "rnn, more short")
    accuracies = zip(names, (lstm, rnn, third), strict=True)
    ways = zip(names, (lstm_way, rnn_way, third_way), strict=True)
    rows = {name: {"L=50": accuracy} for name, accuracy in accuracies}
    return rows, {f"{name}, trained": way for name, way in ways}


def test_recall_is_read_only_as_far_as_it_goes(capsys):
    """The recorded run; one where nothing was learned; an LSTM whose way is shut."""
    for figures, is_open, holds in (
        ((1.0, 0.232, 1.0, 0.03, 0.0, 3e-7), True, True),
        ((0.13, 0.12, 0.14, 0.03, 0.0, 0.1), False, False),
        ((1.0, 0.5, 1.0, 0.03, 0.02, 0.1), False, False),
    ):
        lesson.read_recall(*recalled(*figures))
        printed = " ".join(capsys.readouterr().out.split())
        assert f"the first in {figures[0]:.0%} of" in printed
        assert f"the plain RNN in {figures[1]:.0%}" in printed
        assert ("leaves the way open" in printed) == is_open
        assert ("hardly any gradient comes back" in printed) == holds


# ---------------------------------------------------------------- the rivals


def test_ratio_by_hand_and_shared():
    """The table of section 4, four reviews on paper, against the shared ratio."""
    with open(lesson.__file__, encoding="utf-8") as file:
        _, _, part = file.read().partition("sums are 11 and 12:\n#\n")
    table = part.partition("\n#\n")[0].splitlines()
    ratios = {}
    for line in table:
        head, _, ratio = line.partition(" = ")
        run = head.strip("# ").split("  ")[0]
        inside = head[head.index("log(") + 4 : -1]  # (3 / 11) / (2 / 12)
        p, p_sum, q, q_sum = map(int, re.findall(r"\d+", inside))
        assert (p_sum, q_sum) == (11, 12)
        assert np.log((p / 11) / (q / 12)) == pytest.approx(float(ratio), abs=6e-4)
        ratios[run] = float(ratio)
    texts = [text.split() for text in ("good film", "a good film")]
    texts += [text.split() for text in ("not good", "film is not good")]
    counts, _ = utils.count_runs(texts, len(texts), longest=3, least=2)
    theirs = utils.log_count_ratio(counts > 0, np.array([True, True, False, False]))
    assert sorted(theirs) == pytest.approx(sorted(ratios.values()), abs=6e-4)
    # "not a good film": four of the five runs, and praise.
    assert list(ratios) == ["film", "good", "good film", "not", "not good"]
    total = sum(ratios[run] for run in ("not", "good", "film", "good film"))
    assert total == pytest.approx(0.753, abs=6e-4)


def test_the_rivals_in_scikit_learn_run_as_printed():
    """The lines of section 4 on the four reviews on paper."""
    with open(lesson.__file__, encoding="utf-8") as file:
        _, _, part = file.read().partition("and new_texts:\n#\n")
    lines = []
    for line in part.partition("\n# sublinear_tf")[0].splitlines():
        lines.append(line.removeprefix("#").removeprefix("     "))
    assert len(lines) > 15
    texts = ["good film", "a good film", "not good", "film is not good"]
    labels = ["pos", "pos", "neg", "neg"]
    asked = ["good film", "not good", "a film"]
    known = {"utils": utils, "texts": texts, "labels": labels, "new_texts": asked}
    exec("\n".join(lines), known)  # noqa: S102
    assert known["answers"].tolist()[:2] == ["pos", "neg"]
    assert len(known["tfidf_answers"]) == 3
    split = (text.split() for text in texts)
    counted, _ = utils.count_runs(split, len(texts), longest=3, least=2)
    ratios = utils.log_count_ratio(counted > 0, np.array([True, True, False, False]))
    assert sorted(known["r"]) == pytest.approx(sorted(ratios))
    # By the formula: "film" in 3 of 4 reviews, "good" in 4; divided by the length.
    counts = np.array([1 + np.log(5 / 4), 1 + np.log(5 / 5)])
    names = known["tfidf"].get_feature_names_out().tolist()
    assert names == ["film", "good"]
    row = known["tfidf"].transform(["good film"]).toarray()[0]
    assert row == pytest.approx(counts / np.linalg.norm(counts))
    twice = np.array([(1 + np.log(2)) * counts[0], counts[1]])
    row = known["tfidf"].transform(["film film good"]).toarray()[0]
    assert row == pytest.approx(twice / np.linalg.norm(twice))


def test_idf_worked_on_paper():
    """The numbers of "dull" and "the" in section 4."""
    with open(lesson.__file__, encoding="utf-8") as file:
        part = " ".join(file.read().replace("#", " ").split())
    for above, below, value in (
        ("22,500", "637", "4.56"),
        ("22,500", "22,314", "1.01"),
    ):
        assert f"1 + log({above} / {below}) = {value}" in part
        ratio = float(above.replace(",", "")) / float(below.replace(",", ""))
        assert f"{1 + np.log(ratio):.2f}" == value


def ratio_by_sklearn(train, asked, label):
    """p of `label` for each text of `asked`, with scikit-learn's own counts."""
    counts = CountVectorizer(
        tokenizer=str.split,
        token_pattern=None,
        ngram_range=(1, 3),
        min_df=2,
        binary=True,
    )
    known = counts.fit_transform([text for text, _ in train]).toarray()
    is_label = np.array([found == label for _, found in train])
    p = known[is_label].sum(0) + 1
    q = known[~is_label].sum(0) + 1
    r = np.log((p / p.sum()) / (q / q.sum()))
    linear = LogisticRegression(max_iter=300).fit(known * r, is_label)
    wanted = counts.transform([text for text, _ in asked]).toarray()
    return linear.predict_proba(wanted * r)[:, 1]


@pytest.mark.parametrize("labels", [["neg", "pos"], ["a", "b", "c"]])
def test_ratio_baseline_equals_scikit_learn(labels):
    """Counted by numbers instead of strings: the same runs, the same probabilities."""
    draw = random.Random(1)
    rows = []
    for _ in range(120):
        text = " ".join(draw.choices("uvwxyz", k=draw.randrange(1, 9)))
        rows.append((text, draw.choice(labels)))
    train = rows[:90]
    asked = [*rows[90:], ("unseen u unseen v w", labels[0])]
    found = utils.review_baselines(train, asked, labels)["ratio_trigram"]
    for k, label in enumerate(labels):
        expected = torch.from_numpy(ratio_by_sklearn(train, asked, label))
        torch.testing.assert_close(found[:, k], expected, atol=1e-3, rtol=0)


def test_baselines_know_pairs_but_not_the_order_of_words():
    """Texts "bad but good" against "good but bad": words tell nothing, pairs everything."""
    texts = [("bad but good", "pos"), ("good but bad", "neg")] * 20
    found = utils.review_baselines(texts, texts[:2], ["neg", "pos"])
    answers = {name: scores.argmax(1).tolist() for name, scores in found.items()}
    assert answers["tfidf_bigram"] == answers["ratio_trigram"] == [1, 0]
    assert found["tfidf_unigram"].tolist() == [[0.5, 0.5]] * 2


# ---------------------------------------------------------------- verdict and reports


@pytest.mark.parametrize("pooling", lesson.POOLINGS)
def test_running_verdict_is_the_model_on_each_beginning(pooling):
    """Its last value is the model's own answer; an earlier one knows no later word."""
    model = make_model(pooling=pooling).eval()
    text = torch.randint(1, 11, (1, 9))
    found = lesson.running_verdict(model, text)
    assert found.shape == (9, 3)
    for t in range(1, 10):
        with torch.no_grad():
            alone = model(text[:, :t], torch.tensor([t])).softmax(1)[0]
        torch.testing.assert_close(found[t - 1], alone)


def test_the_weights_of_attention_make_the_answer():
    """Shown weights times states is what the model pools."""
    model = make_model(pooling="attention", norm=True).eval()
    ids = torch.randint(1, 11, (1, 6))
    weights = lesson.weights_along(model, ids)
    with torch.no_grad():
        states = model.norm(model.rnn(model.embed(ids))[0])
        pooled = lesson.pool(states, torch.tensor([6]), "attention", model.attend)[0]
    assert weights.sum().item() == pytest.approx(1)
    torch.testing.assert_close(weights @ states[0], pooled)


def fake_data(pairs):
    labels = torch.tensor([["neg", "pos"].index(label) for _, label in pairs])
    return Namespace(
        parts=[pairs, [], pairs],
        labels=["neg", "pos"],
        source=utils.Source("sample", None, False),
        test=Namespace(data={"label": labels}),
    )


def test_answers_and_the_most_wrong(capsys):
    """Some of all; then the wrong ones, the worst first; of a long one both ends."""
    long = "start " + "middle " * 200 + "end"
    data = fake_data([("it was <br /> so so", "pos"), (long, "neg"), ("fine", "pos")])
    scores = torch.tensor([[1.0, 0.0], [0.0, 9.0], [0.0, 1.0]])
    lesson.show_answers(scores, data, count=3)
    some, wrong = capsys.readouterr().out.split("wrong, the surest first")
    assert "✘ said neg 73.1%" in some and "✘ said pos 100.0%" in some
    assert "✔ said pos 73.1%, truth pos:\n      fine" in some
    assert wrong.index("start") < wrong.index("it was so so")
    assert "[...]" in wrong and "end\n" in wrong and "fine" not in wrong
    assert wrong.count("middle") < 60


def test_pairs_are_judged(capsys):
    """A network that only asks for "dull" at the end tells the first pair apart."""

    def network(ids, lengths):
        is_dull = ids[0, int(lengths[0]) - 2] == 2
        return torch.tensor([[4.0, 0.0]]) if is_dull else torch.tensor([[0.0, 4.0]])

    vocabulary = utils.Vocabulary([utils.PAD, utils.UNK, "dull"])
    data = Namespace(labels=["neg", "pos"], vocabulary=vocabulary)
    lesson.show_pairs(network, data, Namespace(device="cpu"))
    printed = capsys.readouterr().out
    lines = printed.splitlines()[2:]
    shown = [line[2:6] for line in lines if line[2] == "0"]
    assert shown == ["0.02", "0.98", "0.98", "0.98", "0.02", "0.02"]
    moves = [line.strip() for line in lines if "moves by" in line]
    still = "p moves by +0.00, the answer stays."
    assert moves == ["p moves by +0.96, the answer turns.", still, still]
    assert "up, down and up" in printed


def test_order_is_tested_on_the_same_reviews(monkeypatch, capsys):
    """Of ten reviews six are right only as written, one only shuffled: p by binomial."""
    truth = torch.ones(10, dtype=torch.long)
    right = {"real": [1] * 9 + [0], "mixed": [1] * 3 + [0] * 6 + [1]}
    monkeypatch.setattr(lesson, "shuffle_words", lambda batches, args: "mixed")

    def collect(model, forward, batches, args):
        ones = right["mixed" if batches == "mixed" else "real"]
        return nn.functional.one_hot(torch.tensor(ones), 2).float()

    monkeypatch.setattr(utils, "collect", collect)
    data = fake_data([])
    data.val = Namespace(data={"label": truth}, n=10)
    found = lesson.show_shuffled(None, data, None)
    assert found["val_accuracy"] == pytest.approx(0.9)
    assert found["val_accuracy_shuffled"] == pytest.approx(0.4)
    printed = capsys.readouterr().out
    assert "0.9000, right only as written 6" in printed
    assert "0.4000, right only shuffled 1" in printed
    assert "p = 0.12 " in printed and "Chance alone" in printed  # 16 of 128


def test_shuffled_words(tmp_path):
    """The same words, labels and lengths in each row, padding behind; the order differs."""
    batch = make_batch(rows=40, width=30)
    before = {name: values.clone() for name, values in batch.items()}
    batches = utils.Batches(batch, 7, bucket="text")
    mixed = lesson.shuffle_words(batches, recall_args(tmp_path, batch_size=7))
    for name, values in batch.items():
        assert torch.equal(values, before[name]), "the real ones must stay as they are"
    assert torch.equal(mixed.data["label"], batch["label"])
    assert torch.equal(mixed.lengths["text_length"], batch["text_length"])
    moved = 0
    for old, new, length in zip(
        batch["text"], mixed.data["text"], batch["text_length"], strict=True
    ):
        assert torch.equal(old[:length].sort().values, new[:length].sort().values)
        assert (new[length:] == 0).all()
        moved += not torch.equal(old, new)
    assert moved > 20


def test_order_is_worth_what_shuffling_costs(capsys):
    """The ending names both accuracies and their difference."""
    names = ("lstm (this lesson)", "majority", "tfidf_unigram", "tfidf_bigram")
    rows = {name: {"accuracy": 0.8} for name in (*names, "ratio_trigram")}
    verdicts = {"majority": "beats", "tfidf_unigram": "beats"}
    verdicts |= {"tfidf_bigram": "loses to", "ratio_trigram": "loses to"}
    lesson.answer_the_title(rows, names[0], verdicts, (0.9, 0.87))
    printed = " ".join(capsys.readouterr().out.split())
    assert "right for 87.00% on validation, unshuffled for 90.00%" in printed
    assert "worth 3.00 points" in printed
    assert (
        "It beats counts of single words (80.00%), loses to counts of words" in printed
    )


@pytest.mark.parametrize(
    "config", [{"layers": 1}, {"cell": "gru", "layers": 2, "norm": True}]
)
def test_weights_are_counted(capsys, config):
    """The parts that are printed sum to the whole, and the cell's is that of its formula."""
    config = shape(**config)
    lesson.show_weights(config, fake_data([("a", "pos")]))
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line[:2] == "  "]
    counts = [row.split()[-1].replace(",", "") for row in rows]
    *parts, total = map(int, counts)
    assert sum(parts) == total
    model = lesson.ReviewClassifier(**config)
    assert total == utils.count_parameters(model)
    if config["cell"] == "lstm":
        (line,) = [line for line in lines if line.startswith("  lstm")]
        assert line.endswith(str(4 * (5 * 7 + 7 * 7 + 2 * 7)))


# ---------------------------------------------------------------- data


@pytest.mark.parametrize("room", [4, 5])
def test_keeping_by_hand(room):
    """What is kept is that of the shared code."""
    draw = random.Random(2)
    rows = [[draw.randrange(2, 9) for _ in range(k)] for k in (3, 9, 1, 6, 7)]
    kept = [lesson.keep_ends(row, room) for row in rows]
    part = utils.TextPart([], [], [np.array(row) - 2 for row in rows])
    theirs = utils.encode_reviews(part, 20, room)
    for row, other, length in zip(
        kept, theirs["text"], theirs["text_length"], strict=True
    ):
        assert row == other[:length].tolist()


def load(path, *flags):
    """What main has in hand before it trains: args, source, reviews, config, feeds."""
    flags = ["--input", str(path), *map(str, flags)]
    args = lesson.make_flags().parse_args(flags)
    args.device = "cpu"
    source = utils.choose_dataset(args, ["imdb"], {"sample": None})
    reviews = utils.load_reviews(args, source)
    config, feeds = lesson.new_model(source, reviews, args)
    return args, source, reviews, config, feeds


def parts_of(data):
    return zip(data.parts, (data.train, data.val, data.test), strict=True)


def test_words_are_those_of_training(tmp_path):
    """Each film has a number: those of validation and test must be unknown."""
    args, source, reviews, _, feeds = load(make_csv(tmp_path / "a.csv", make_rows()))
    data = lesson.load_data(source, reviews, feeds, args)
    train = {word for text, _ in data.parts[0] for word in utils.split_words(text)}
    assert set(data.vocabulary) - {utils.PAD, utils.UNK} == train
    assert [len(part) for part in data.parts] == [96, 12, 12]
    for part, batches in parts_of(data):
        for (text, label), ids, k in zip(
            part, batches.data["text"], batches.data["label"], strict=True
        ):
            words = utils.split_words(text)
            assert ids[: len(words)].tolist() == data.vocabulary.encode(words)
            assert data.labels[k] == label


def test_only_training_is_shuffled(tmp_path):
    args, source, reviews, _, feeds = load(make_csv(tmp_path / "a.csv", make_rows()))
    data = lesson.load_data(source, reviews, feeds, args)
    shuffled = [batches.shuffle for batches in (data.train, data.val, data.test)]
    assert shuffled == [True, False, False]


def test_words_of_a_saved_model_are_looked_up(tmp_path):
    """Numbers of another file's words would mean other words; its room is kept too."""
    path = make_csv(tmp_path / "a.csv", make_rows())
    args, source, reviews, _, feeds = load(path, "--max-length", 6, "--keep", "end")
    plain = lesson.load_data(source, reviews, feeds, args)
    tokens = [utils.PAD, utils.UNK, *reversed(feeds["vocabulary"][2:])]
    args.max_length = 99  # what counts is what the model was fed in training
    turned = lesson.load_data(source, reviews, {**feeds, "vocabulary": tokens}, args)
    for one, two in ((plain.train, turned.train), (plain.test, turned.test)):
        words = [plain.vocabulary.decode(row) for row in one.data["text"].tolist()]
        again = [turned.vocabulary.decode(row) for row in two.data["text"].tolist()]
        assert words == again
        assert {len(row) for row in words} == {6}


@pytest.mark.parametrize(
    ("keep", "places"),
    [("start", [0, 1, 2, 3]), ("end", [-4, -3, -2, -1]), ("both", [0, 1, -2, -1])],
)
def test_which_words_are_kept(tmp_path, keep, places):
    path = make_csv(tmp_path / "a.csv", make_rows())
    args, source, reviews, _, feeds = load(path, "--max-length", 4, "--keep", keep)
    data = lesson.load_data(source, reviews, feeds, args)
    words = utils.split_words(data.parts[0][0][0])
    expected = data.vocabulary.encode([words[place] for place in places])
    assert data.train.data["text"][0].tolist() == expected


def test_compare_trains_on_a_fixed_draw(tmp_path):
    """The same reviews whatever the seed; texts, ids and labels of the same rows."""
    _, _, reviews, _, _ = load(make_csv(tmp_path / "a.csv", make_rows()))
    torch.manual_seed(1)
    some = lesson.fewer_reviews(reviews, 20)
    torch.manual_seed(2)
    again = lesson.fewer_reviews(reviews, 20)
    assert some.parts[0].texts == again.parts[0].texts
    assert some.parts[1:] == reviews.parts[1:]
    assert set(some.parts[0].labels) == {"neg", "pos"}
    for text, label, ids in zip(*some.parts[0], strict=True):
        place = reviews.parts[0].texts.index(text)
        assert reviews.parts[0].labels[place] == label
        assert reviews.parts[0].ids[place] is ids


def test_a_model_is_built_as_the_flags_say():
    """That another --pooling than the default arrives shows nowhere else."""
    line = "--pooling mean --layer-norm --cell gru --num-layers 2 --hidden-size 7"
    args = lesson.make_flags().parse_args([*line.split(), "--dropout", "0.1"])
    reviews = utils.Reviews(["good", "bad"], ["neg", "pos"], [])
    config, feeds = lesson.new_model(utils.Source("made", None, False), reviews, args)
    given = shape(words=4, classes=2, cell="gru", hidden=7, layers=2, pooling="mean")
    given |= {"norm": True, "dropout": 0.1, "embedding": config["embedding"]}
    assert config == given
    assert feeds["keep"] == args.keep


def test_variants_differ_in_what_they_are_named_for():
    """`none` has no brake left; each other variant adds one thing."""
    args = lesson.make_flags().parse_args(["--compare", "regularization"])
    kinds = lesson.variants(shape(dropout=0.4, norm=True), args)
    none, flags = kinds.pop("none")
    assert (none["dropout"], none["norm"], flags["weight_decay"]) == (0, False, 0)
    for name, (config, changed) in kinds.items():
        plain = {**none, **flags}
        other = {**config, **changed}
        assert sum(plain[key] != other[key] for key in plain) == 1, name


# ---------------------------------------------------------------- the program


@pytest.fixture
def small(tmp_path):
    """A run in this process on made-up reviews, in about a second."""

    def run(*flags, rows=None):
        path = make_csv(tmp_path / "reviews.csv", rows or make_rows())
        fixed = ("--no-plots", "--hidden-size", 8, "--out-dir", tmp_path / "out")
        return run_main(lesson, *fixed, "--input", path, *flags)

    return run


def test_the_lstm_learns_what_counts_of_words_cannot(tmp_path, small):
    """The whole way from file to table: order decides, so words alone are at chance."""
    flags = ("--hidden-size", 24, "--epochs", 12, "--batch-size", 32, "--dropout", 0.1)
    assert small(*flags, "--patience", 0, rows=make_rows(600)) == 0
    found = metrics(tmp_path)
    assert found["metrics"]["test_accuracy"] > 0.95
    assert found["baselines"]["tfidf_unigram"] < 0.75
    names = ["majority", "tfidf_unigram", "tfidf_bigram", "ratio_trigram"]
    assert list(found["baselines"]) == names
    assert found["unit"] == "tokens"


def test_predictions_are_the_models_probabilities(tmp_path, capsys):
    """The printed figures, against softmax of the scores."""
    loaded = load(make_csv(tmp_path / "a.csv", make_rows()), "--predict", "so good")
    args, source, reviews, config, feeds = loaded
    data = lesson.load_data(source, reviews, feeds, args)
    torch.manual_seed(0)
    model = lesson.ReviewClassifier(**config).eval()
    lesson.print_predictions(model, feeds, data, args)
    ids = torch.tensor([data.vocabulary.encode(["so", "good"])])
    chances = model(ids, torch.tensor([2])).softmax(1)[0]
    assert f"pos {chances[1].item():.1%}" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["cell", "pooling", "regularization"])
def test_compare_at_equal_size_without_early_stopping(
    tmp_path, small, monkeypatch, what
):
    """All variants in one table, the default first, sizes within two percent."""
    patience = []
    train_model = lesson.train_model

    def watched(config, data, args, *rest):
        patience.append(args.patience)
        return train_model(config, data, args, *rest)

    monkeypatch.setattr(lesson, "train_model", watched)
    flags = ("--quick", "--hidden-size", 48, "--epochs", 1, "--patience", 1)
    assert small("--compare", what, *flags) == 0
    models = metrics(tmp_path)["models"]
    names = {
        "cell": ["lstm", "rnn", "gru"],
        "pooling": ["attention", "last", "mean", "max"],
        "regularization": ["dropout 0.5", "none", "weight decay 1", "layer norm"],
    }[what]
    assert [name.split(",")[0] for name in models] == names
    sizes = [model["parameters"] for model in models.values()]
    assert max(sizes) / min(sizes) < 1.02
    assert patience == [0] * len(names)


def test_three_labels_and_pictures(tmp_path):
    """The reader's own CSV need not be neg and pos, nor free of $ and emoji."""
    rows = [(f"$x$ {i} {'abc'[i % 3]} 🙂", f"$L_{i % 3}") for i in range(90)]
    path = make_csv(tmp_path / "a.csv", rows)
    flags = ("--quick", "--hidden-size", 8, "--out-dir", tmp_path / "out")
    more = ("--input", path, "--predict", "$x$ 1 ^b^ 🙂", "\n\tword\n")
    assert run_main(lesson, *flags, *more) == 0
    assert metrics(tmp_path)["dataset"] == "input"
    pictures = {picture.name for picture in (tmp_path / "out").glob("*.png")}
    assert pictures == {"training.png", "gates.png"}


FLAGS = [
    "--cell gru --num-layers 2 --pooling mean --layer-norm",
    "--cell rnn --pooling last --max-length 1",
    "--device cpu --batch-size 7 --dropout 0 --max-vocab 3 --keep end",
]


@pytest.mark.parametrize("flags", FLAGS)
def test_flags_do_run(small, flags):
    """Flags that shape the model or its input, in combinations a reader would try."""
    assert small("--quick", *flags.split()) == 0


def test_a_saved_model_keeps_its_shape_and_its_room(tmp_path, capsys, small):
    """--eval-only without repeating the flags; other labels are refused."""
    path = ("--path", tmp_path / "model.pt", "--predict", "It is good, but " * 5)
    flags = "--quick --pooling attention --layer-norm --max-length 5 --cell gru"
    assert small("--save-model", *path, *flags.split()) == 0
    before = metrics(tmp_path)["metrics"]
    said = capsys.readouterr().out.splitlines()[-1]
    assert small("--quick", "--eval-only", *path) == 0
    assert metrics(tmp_path)["metrics"] == pytest.approx(before)
    assert capsys.readouterr().out.splitlines()[-1] == said
    rows = [(text, label.upper()) for text, label in make_rows()]
    assert small("--quick", "--eval-only", *path, rows=rows) == 2
    assert "not trained on label 'NEG'" in one_sentence(capsys)


@pytest.mark.parametrize("text", [" ", "\udcff", "..."])
def test_predict_takes_words(small, capsys, text):
    assert small("--quick", "--predict", text) == 2
    assert "--predict" in one_sentence(capsys)
