"""Lesson 05: the cell, pooling, padding, memory, the verdict, the table, the flags."""

import json
import random
import re
import shlex
from argparse import Namespace
from itertools import product

import pytest
import torch
from conftest import ROOT, load_lesson, metrics, one_sentence, run_main, run_script
from torch import nn

import rnn_utils as utils

lesson = load_lesson("05_lstm_sentiment")
REAL_MEMORY = lesson.long_memory
POOLINGS = ("last", "mean", "max", "attention")
CELLS = ("rnn", "lstm", "gru")
GOOD, BAD = ["good", "fine", "superb", "lovely"], ["bad", "dull", "poor", "weak"]


@pytest.fixture(autouse=True)
def no_memory(monkeypatch):
    """The long-memory experiment has tests of its own; elsewhere it only takes time."""
    monkeypatch.setattr(lesson, "long_memory", lambda args: {})


def config(**changes):
    shape = {"words": 11, "classes": 3, "embedding": 5, "cell": "lstm", "hidden": 7}
    shape |= {"layers": 1, "pooling": "max", "norm": False, "dropout": 0.0}
    return {**shape, **changes}


def make_model(seed=0, **changes):
    torch.manual_seed(seed)
    return lesson.Classifier(**config(**changes)).double()


def make_batch(n=6, width=8, seed=0):
    """Texts of different lengths, one of them of a single word."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, width + 1, (n,), generator=draw)
    lengths[0], lengths[1] = width, 1
    text = torch.randint(1, 11, (n, width), generator=draw)
    text[~utils.length_mask(lengths, width)] = 0
    labels = torch.randint(0, 3, (n,), generator=draw)
    return {"text": text, "text_length": lengths, "label": labels}


def outcome(model, batch):
    """Scores, mean loss and all gradients."""
    model.zero_grad()
    sums, count = lesson.step(model, batch)
    (sums["loss"] / count).backward()
    scores = model(batch["text"], batch["text_length"])
    return [scores, sums["loss"], *(p.grad.clone() for p in model.parameters())]


def make_rows(n=120, seed=0):
    """The texts "X, but Y" and "Y, but X": only the order tells."""
    draw, rows = random.Random(seed), []
    for i in range(n):
        good, bad = draw.choice(GOOD), draw.choice(BAD)
        first, last = (bad, good) if i % 2 else (good, bad)
        text = f"Film {i} of {draw.randrange(9)} is {first}, but I say it is {last}."
        rows.append((text, "pos" if i % 2 else "neg"))
    return rows


def make_csv(path, rows):
    lines = ["text,label", *(f'"{text}",{label}' for text, label in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# The cell


def test_cell_by_hand_equals_torch_outputs_and_gradients():
    """A wrong sign, gate order, bias or transpose would show here."""
    torch.manual_seed(1)
    layer = nn.LSTM(5, 7, batch_first=True).double()
    x = torch.randn(3, 4, 5).double().requires_grad_()
    h0, c0 = (torch.randn(3, 7).double().requires_grad_() for _ in "hc")
    inputs = [x, h0, c0, *layer.parameters()]
    ours = lesson.lstm_by_hand(*inputs)
    states, (h, c) = layer(x, (h0.unsqueeze(0), c0.unsqueeze(0)))
    goals = [torch.randn(3, 4, 7), torch.randn(3, 7), torch.randn(3, 7)]
    gradients = []
    for found in (ours, (states, h[0], c[0])):
        loss = sum((a * goal).sum() for a, goal in zip(found, goals, strict=True))
        gradients.append(torch.autograd.grad(loss, inputs))
    pairs = [*zip(ours, (states, h[0], c[0]), strict=True)]
    for mine, theirs in pairs + [*zip(*gradients, strict=True)]:
        torch.testing.assert_close(mine, theirs)


def test_the_run_prints_how_far_the_cell_is_from_torch(capsys):
    """The printed proof: three differences, none above rounding."""
    lesson.by_hand_gaps()
    gaps = re.findall(r"(\w+) +(\d\S*)\n", capsys.readouterr().out)
    assert [name for name, _ in gaps] == ["states", "memory", "gradients"]
    assert all(float(gap) < 1e-12 for _, gap in gaps)


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


# Pooling and padding


def pool_by_loop(model, states, lengths):
    """The four poolings, one review at a time, over its real words alone."""
    rows = []
    for row, n in zip(states, lengths.tolist(), strict=True):
        real = row[:n]  # (n, H)
        if model.pooling == "last":
            rows.append(real[-1])
        elif model.pooling == "mean":
            rows.append(sum(real) / n)
        elif model.pooling == "max":
            rows.append(torch.stack([max(column) for column in real.T]))
        else:
            powers = [torch.exp(model.attend.weight[0] @ h) for h in real]
            rows.append(sum(p * h for p, h in zip(powers, real)) / sum(powers))
    return torch.stack(rows)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_equals_a_loop(pooling):
    """States below zero everywhere, so that a padded 0 would win the maximum."""
    model, lengths = make_model(pooling=pooling), torch.tensor([6, 1, 3, 5])
    for states in (torch.randn(4, 6, 7).double(), -torch.rand(4, 6, 7).double() - 1):
        expected = pool_by_loop(model, states, lengths)
        torch.testing.assert_close(model.pool(states, lengths), expected)


def test_attention_weights_sum_to_one_over_real_words():
    """Above zero on real words, exactly zero on padding."""
    model, lengths = make_model(pooling="attention"), torch.tensor([6, 1, 3, 5])
    real = utils.length_mask(lengths, 6).unsqueeze(2)
    weights = model.attention(9 * torch.randn(4, 6, 7).double(), real)
    torch.testing.assert_close(weights.sum(1), torch.ones(4, 1).double())
    assert (weights[real] > 0).all()
    assert (weights[~real] == 0).all()


SHAPES = [*product(POOLINGS, CELLS, [(1, False)]), ("max", "lstm", (2, True))]


@pytest.mark.parametrize(("pooling", "cell", "more"), SHAPES)
def test_padding_and_order_change_nothing(pooling, cell, more):
    """Wider rubbish padding, other neighbours: same scores, loss and gradients."""
    layers, norm = more
    shape = {"pooling": pooling, "cell": cell, "layers": layers, "norm": norm}
    model, batch = make_model(**shape), make_batch()
    narrow = outcome(model, batch)
    wide = nn.functional.pad(batch["text"], (0, 3))
    rubbish = torch.where(utils.length_mask(batch["text_length"], 11), wide, 4)
    for mine, other in zip(
        narrow, outcome(model, {**batch, "text": rubbish}), strict=True
    ):
        torch.testing.assert_close(mine, other)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    mixed = outcome(model, {name: rows[order] for name, rows in batch.items()})
    torch.testing.assert_close(mixed[0], narrow[0][order])
    for mine, other in zip(mixed[1:], narrow[1:], strict=True):
        torch.testing.assert_close(mine, other)
    for i, length in enumerate(batch["text_length"].tolist()):
        alone = model(batch["text"][i : i + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(alone[0], narrow[0][i])


def test_dropout_acts_on_words_and_on_what_is_pooled():
    """The two places that --dropout is for in a network of one layer."""
    model, batch, seen = make_model(dropout=0.5), make_batch(), []
    model.dropout.register_forward_hook(lambda *a: seen.append(tuple(a[2].shape)))
    model(batch["text"], batch["text_length"])
    assert seen == [(6, 8, 5), (6, 7)]


def test_layer_norm_acts_on_every_state():
    """With --layer-norm, what is pooled has mean 0 and variance 1 over H."""
    model, seen = make_model(norm=True, pooling="mean"), []
    model.pool = lambda states, lengths: seen.append(states) or states[:, 0]
    model(make_batch()["text"], make_batch()["text_length"])
    torch.testing.assert_close(seen[0].mean(2), torch.zeros(6, 8).double())
    torch.testing.assert_close(
        seen[0].var(2, unbiased=False), torch.ones(6, 8).double(), atol=0.02, rtol=0
    )


@pytest.mark.parametrize(
    ("cell", "pooling"), [*product(["lstm"], POOLINGS), ("rnn", "max"), ("gru", "max")]
)
def test_model_overfits_a_tiny_batch(cell, pooling):
    """Gradients reach every weight that matters."""
    torch.manual_seed(4)
    shape = config(cell=cell, pooling=pooling, hidden=24, norm=pooling == "mean")
    model, batch = lesson.Classifier(**shape), make_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(120):
        sums, count = lesson.step(model, batch)
        optimizer.zero_grad()
        (sums["loss"] / count).backward()
        optimizer.step()
    assert sums["accuracy"] == count == 6
    assert sums["loss"].item() / count < 0.05


# Memory


def test_gradient_by_distance_equals_a_loop_of_cells():
    """The curve of the picture, against cells written out step by step."""
    batch = {"text": torch.randint(1, 11, (4, 6)), "label": torch.tensor([0, 2, 1, 1])}
    model = make_model(cell="lstm", pooling="last")
    x, h, c = model.embed(batch["text"]), *torch.zeros(2, 4, 7).double()
    states = []
    for t in range(6):
        # A copy each: c reaches the loss as what is handed on, not within its step.
        _, h, c = lesson.lstm_by_hand(x[:, t : t + 1], h, c, *model.rnn.parameters())
        h, c = h.clone(), c.clone()
        states.append((h, c))
        h.retain_grad(), c.retain_grad()
    nn.functional.cross_entropy(model.output(h), batch["label"]).backward()
    pairs = [torch.cat([h.grad, c.grad], dim=1) for h, c in states[-2::-1]]
    norms = [pair.norm(dim=1).mean().item() for pair in pairs]
    found = lesson.gradient_by_distance(model, batch)
    assert found == pytest.approx([norm / norms[0] for norm in norms])
    assert len(found) == 5

    model, cell = make_model(cell="gru", pooling="last"), nn.GRUCell(5, 7).double()
    for mine, theirs in zip(cell.parameters(), model.rnn.parameters(), strict=True):
        mine.data = theirs.data
    h, states = None, []
    for t in range(6):
        h = cell(model.embed(batch["text"])[:, t], h)
        states.append(h)
        h.retain_grad()
    nn.functional.cross_entropy(model.output(h), batch["label"]).backward()
    norms = [h.grad.norm(dim=1).mean().item() for h in states[-2::-1]]
    found = lesson.gradient_by_distance(model, batch)
    assert found == pytest.approx([norm / norms[0] for norm in norms])


def test_first_letter_batch():
    """The answer is the first letter, of LETTERS that all occur; 0 is for padding."""
    batch = lesson.first_letter_batch(400, 9, "cpu")
    assert batch["text"].shape == (400, 9)
    assert set(batch["text"].unique().tolist()) == set(range(1, lesson.LETTERS + 1))
    assert torch.equal(batch["label"] + 1, batch["text"][:, 0])
    assert batch["text_length"].tolist() == [9] * 400


def memory_args(folder, **changes):
    parser = lesson.make_flags()
    args = parser.parse_args(["--out-dir", str(folder)])
    args.device = "cpu"
    return Namespace(**{**vars(args), **changes})


def test_long_memory_in_small(tmp_path, capsys):
    """A table of three cells, two pictures, one metric a cell; flags do not matter."""
    found = REAL_MEMORY(memory_args(tmp_path, quick=True))
    again = REAL_MEMORY(
        memory_args(tmp_path, quick=True, lr=9.0, dropout=0.9, epochs=7)
    )
    assert found == again
    assert list(found) == ["memory_rnn", "memory_lstm", "memory_gru"]
    assert all(0 <= value <= 1 for value in found.values())
    assert "[sample: generated]" in capsys.readouterr().out
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {"memory.png", "gradient.png"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_long_memory_tells_the_cells_apart(tmp_path, seed):
    """What the experiment is for: the plain RNN fails, the gated cells hold."""
    found = REAL_MEMORY(memory_args(tmp_path, seed=seed, no_plots=True))
    assert found["memory_lstm"] > 0.95
    assert found["memory_gru"] > 0.95
    assert found["memory_rnn"] < 0.75


# Verdict, table, data


@pytest.mark.parametrize("pooling", POOLINGS)
def test_running_verdict_is_the_model_on_each_beginning(pooling):
    """Its last value is the model's own answer; an earlier one knows no later word."""
    model, text = make_model(pooling=pooling).eval(), torch.randint(1, 11, (1, 9))
    with torch.no_grad():
        found = lesson.running_verdict(model, text)
        assert found.shape == (9, 3)
        for t in (1, 4, 9):
            alone = model(text[:, :t], torch.tensor([t])).softmax(1)[0]
            torch.testing.assert_close(found[t - 1], alone.float())


def load(path, *flags):
    """What main has in hand before it trains."""
    flags = ["--input", str(path), *map(str, flags)]
    args = lesson.make_flags().parse_args(flags)
    args.device, args.lesson = "cpu", "05_lstm_sentiment"
    source = utils.choose_dataset(args, ["imdb"], {"sample": None})
    reviews = utils.load_reviews(args, source)
    about = lesson.new_card(source, reviews, args)
    return args, source, reviews, about


def test_words_are_those_of_training(tmp_path):
    """Each film has a number: those of validation and test must be unknown."""
    args, source, reviews, about = load(make_csv(tmp_path / "a.csv", make_rows()))
    data = lesson.load_data(source, reviews, about, args)
    train = {word for text, _ in data.parts[0] for word in utils.split_words(text)}
    assert set(data.vocabulary) - {utils.PAD, utils.UNK} == train
    assert [len(part) for part in data.parts] == [96, 12, 12]
    for part, batches in zip(data.parts, data.batches, strict=True):
        for (text, label), ids, k in zip(
            part, batches.data["text"], batches.data["label"], strict=True
        ):
            words = utils.split_words(text)
            assert ids[: len(words)].tolist() == data.vocabulary.encode(words)
            assert data.labels[k] == label


def test_words_of_a_saved_model_are_looked_up(tmp_path):
    """Numbers of another file's words would mean other words."""
    path = make_csv(tmp_path / "a.csv", make_rows())
    args, source, reviews, about = load(path, "--max-length", 6, "--keep", "end")
    plain = lesson.load_data(source, reviews, about, args)
    tokens = [utils.PAD, utils.UNK, *reversed(about["vocabulary"][2:])]
    turned = lesson.load_data(source, reviews, about | {"vocabulary": tokens}, args)
    for one, two in zip(plain.batches, turned.batches, strict=True):
        pairs = [(one.data["text"], plain), (two.data["text"], turned)]
        words = [[d.vocabulary.decode(row) for row in t.tolist()] for t, d in pairs]
        assert words[0] == words[1]


def test_keep_start_end_or_both(tmp_path):
    """Of a long review its beginning, its end, or half of each."""
    path = make_csv(tmp_path / "a.csv", make_rows())
    for keep, wanted in (("start", [0, 1, 2, 3]), ("end", [-4, -3, -2, -1])):
        args, source, reviews, about = load(path, "--max-length", 4, "--keep", keep)
        data = lesson.load_data(source, reviews, about, args)
        words = utils.split_words(data.parts[0][0][0])
        expected = data.vocabulary.encode([words[i] for i in wanted])
        assert data.batches[0].data["text"][0].tolist() == expected
    args, source, reviews, about = load(path, "--max-length", 4)
    data = lesson.load_data(source, reviews, about, args)
    expected = data.vocabulary.encode(words[:2] + words[-2:])
    assert data.batches[0].data["text"][0].tolist() == expected


def test_compare_trains_on_a_fixed_draw(tmp_path, monkeypatch):
    """The same reviews whatever the seed; texts, ids and labels of the same rows."""
    monkeypatch.setattr(lesson, "COMPARED", 20)
    path, found = make_csv(tmp_path / "a.csv", make_rows()), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        args, source, reviews, about = load(path, "--compare", "cell")
        data = lesson.load_data(source, reviews, about, args)
        found.append(data.parts[0])
        assert data.batches[0].n == len(data.parts[0]) == 20
        assert [len(part) for part in data.parts[1:]] == [12, 12]
        for (text, label), ids, k in zip(
            data.parts[0],
            data.batches[0].data["text"].tolist(),
            data.batches[0].data["label"].tolist(),
            strict=True,
        ):
            words = data.vocabulary.encode(utils.split_words(text))
            assert ids[: len(words)] == words
            assert data.labels[k] == label
    assert found[0] == found[1]
    assert {label for _, label in found[0]} == {"neg", "pos"}


def test_baselines_do_not_know_the_order():
    """Texts "bad but good" against "good but bad": words tell nothing, pairs everything."""
    parts = [[("bad but good", "pos"), ("good but bad", "neg")] * 20] * 3
    data = Namespace(parts=parts, labels=["neg", "pos"])
    found = lesson.baselines(data, 2)
    assert list(found) == ["majority", "tfidf_unigram", "tfidf_bigram"]
    assert found["majority"]["accuracy"] == 0.5
    assert found["tfidf_unigram"]["accuracy"] == 0.5
    assert found["tfidf_bigram"]["accuracy"] == 1.0


def test_baselines_are_asked_about_their_own_part():
    """Fitted on training and scored there, they would be hard to beat."""
    train = [("good film", "pos"), ("good plot", "pos"), ("bad film", "neg")] * 4
    asked = [("bad plot", "neg"), ("bad", "neg"), ("good", "pos")]
    data = Namespace(parts=[train, asked[:2], asked], labels=["neg", "pos"])
    for k, majority in ((1, 0), (2, 1 / 3)):
        found = lesson.baselines(data, k)
        assert found["majority"]["accuracy"] == pytest.approx(majority)
        assert found["tfidf_unigram"]["accuracy"] == 1


def test_validation_and_test_are_not_mixed_up(tmp_path):
    """Labels such that the model is right on all of validation, on nothing of test."""
    args, source, reviews, about = load(make_csv(tmp_path / "a.csv", make_rows(60)))
    data = lesson.load_data(source, reviews, about, args)
    model = lesson.Classifier(**about["config"]).eval()
    for k in (1, 2):
        part = data.batches[k]
        scores = model(part.data["text"], part.lengths["text_length"])
        part.data["label"] = scores.argmax(1) if k == 1 else 1 - scores.argmax(1)
    found, _ = lesson.report(model, "lstm", data, args)
    assert (found["val_accuracy"], found["test_accuracy"]) == (1, 0)


def test_most_wrong_reviews(capsys):
    """The worst first, right ones never, the middle of a long one cut out."""
    long = "start " + "middle " * 200 + "end"
    part = [("it was <br /> so so", "pos"), (long, "neg"), ("right", "pos")]
    data = Namespace(
        parts=[[], [], part],
        labels=["neg", "pos"],
        source=utils.Source("sample", None, False),
    )
    answers = torch.tensor([[1.0, 0.0], [0.0, 9.0], [0.0, 1.0]])
    lesson.show_most_wrong(answers, torch.tensor([1, 0, 1]), data)
    out = capsys.readouterr().out
    assert out.index("start") < out.index("it was so so")
    assert "26.9%" in out
    assert "[...]" in out
    assert out.count("middle") < 60
    assert "      right" not in out
    assert max(map(len, out.splitlines())) <= 88


# The program


@pytest.fixture(scope="session")
def reviews_csv(tmp_path_factory):
    return make_csv(tmp_path_factory.mktemp("data") / "reviews.csv", make_rows())


@pytest.fixture
def small(tmp_path, reviews_csv):
    """A run in this process on 120 made-up reviews, in about a second."""

    def run(*flags):
        fixed = ("--quick", "--no-plots", "--hidden-size", 8)
        data = () if "--input" in flags or "--dataset" in flags else (reviews_csv,)
        data = ("--input", *data) if data else ()
        return run_main(lesson, *fixed, "--out-dir", tmp_path / "out", *data, *flags)

    return run


def test_quick_run_without_network(tmp_path):
    """The default run of a newcomer who is offline; and that it says it is the sample."""
    done = run_script("05_lstm_sentiment", "--quick", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sample [sample]" in done.stdout
    folder = tmp_path / "outputs" / "05_lstm_sentiment"
    result = json.loads((folder / "metrics.json").read_text())
    assert result["real"] is False
    assert result["dataset"] == "sample"
    assert result["epochs_run"] == 2
    assert result["unit"] == "tokens"
    assert set(result["baselines"]) == {"majority", "tfidf_unigram", "tfidf_bigram"}
    wanted = {"test_accuracy", "test_macro_f1", "val_accuracy", "memory_lstm"}
    assert wanted <= set(result["metrics"])
    assert {path.name for path in folder.glob("*.png")} == {
        *("training.png", "running_verdict.png", "memory.png", "gradient.png")
    }


def test_the_lstm_learns_what_counts_cannot(tmp_path, reviews_csv):
    """The whole way from file to table: order decides, so words alone are at chance."""
    flags = ("--input", make_csv(tmp_path / "more.csv", make_rows(600)), "--no-plots")
    flags += ("--out-dir", tmp_path / "out", "--hidden-size", 24, "--epochs", 12)
    assert run_main(lesson, *flags, "--batch-size", 32, "--dropout", 0.1) == 0
    found = metrics(tmp_path)
    assert found["metrics"]["test_accuracy"] > 0.95
    assert found["baselines"]["tfidf_unigram"] < 0.75


def test_same_seed_same_numbers(tmp_path, small):
    """Two runs agree to the last digit; another seed trains another model."""
    found = []
    for seed in (7, 7, 8):
        assert small("--seed", seed) == 0
        last = torch.load(tmp_path / "out" / "last.pt", weights_only=True)
        found.append((metrics(tmp_path)["metrics"], last["records"][-1]["loss"]))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--pooling", "attention", "--layer-norm", "--max-length", 5, "--cell", "gru"],
    ],
)
def test_a_saved_model_gives_the_same_answers(tmp_path, capsys, small, flags):
    """--save-model, then --eval-only without repeating the flags that shaped it."""
    path = ["--path", tmp_path / "model.pth"]
    texts = ["--predict", "It is good, but I say it is bad.", "superb " * 40]
    assert small("--save-model", *path, *texts, *flags) == 0
    first, before = capsys.readouterr().out, metrics(tmp_path)
    assert small("--eval-only", *path, *texts) == 0
    second, after = capsys.readouterr().out, metrics(tmp_path)
    assert after["metrics"] == before["metrics"]
    assert after["epochs_run"] == 0
    lines = [line for line in first.splitlines() if re.search(r": (neg|pos) \d", line)]
    assert len(lines) == 2
    assert all(line in second for line in lines)


def test_predictions_are_the_models_probabilities(tmp_path, capsys):
    """The printed figures, against softmax of the scores."""
    args, source, reviews, about = load(make_csv(tmp_path / "a.csv", make_rows()))
    data = lesson.load_data(source, reviews, about, args)
    torch.manual_seed(0)
    model, args.predict = lesson.Classifier(**about["config"]).eval(), ["so good"]
    lesson.print_predictions(model, data, args)
    ids = torch.tensor([data.vocabulary.encode(["so", "good"])])
    chances = model(ids, torch.tensor([2])).softmax(1)[0]
    assert f"pos {chances[1].item():.1%}" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["cell", "pooling", "regularization"])
def test_compare_at_equal_parameters(tmp_path, small, what):
    """All variants in one table, sizes within two percent, one picture."""
    plots = ("--hidden-size", 48, "--epochs", 1)
    assert small("--compare", what, *plots) == 0
    models = metrics(tmp_path)["models"]
    names = {
        "cell": ["lstm", "rnn", "gru"],  # the default first: `metrics` is its own
        "pooling": ["max", "last", "mean", "attention"],
        "regularization": [
            *("dropout 0.5", "none", "weight decay 1", "layer norm", "no clipping")
        ],
    }[what]
    assert [name.split(",")[0] for name in models] == names
    sizes = [model["parameters"] for model in models.values()]
    assert max(sizes) / min(sizes) < 1.02
    assert all(0 <= model["val_accuracy"] <= 1 for model in models.values())


def test_variants_differ_in_what_they_are_named_for(tmp_path):
    """`none` has no regularisation left; each other variant adds or drops one thing."""
    args = lesson.make_flags().parse_args(["--compare", "regularization"])
    kinds = lesson.variants(config(dropout=0.4, norm=True), args)
    none, flags = kinds.pop("none")
    assert (none["dropout"], none["norm"], flags["weight_decay"]) == (0, False, 0)
    assert flags["clip"] > 0
    for name, (shape, changed) in kinds.items():
        here, there = {**none, **flags}, {**shape, **changed}
        assert sum(here[key] != there[key] for key in here) == 1, name


def test_compare_trains_every_variant_to_the_end(small, monkeypatch):
    """It says "without early stopping": one that stopped would not show overfitting."""
    kept, train = [], lesson.train_model

    def watched(shape, batches, args, *rest):
        kept.append(args.patience)
        return train(shape, batches, args, *rest)

    monkeypatch.setattr(lesson, "train_model", watched)
    assert small("--compare", "pooling", "--patience", 1, "--epochs", 1) == 0
    assert kept == [0] * len(POOLINGS)


def test_compare_draws_both_losses(tmp_path, small):
    """Training beside validation, so that overfitting is seen."""
    out = tmp_path / "out"
    fixed = ("--quick", "--hidden-size", 8, "--out-dir", out, "--compare", "pooling")
    data = make_csv(tmp_path / "a.csv", make_rows())
    assert run_main(lesson, *fixed, "--input", data) == 0
    assert (out / "compare_pooling.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "flags",
    [
        ["--cell", "gru", "--num-layers", "2", "--pooling", "mean", "--layer-norm"],
        ["--cell", "rnn", "--pooling", "last", "--max-length", "1"],
        ["--optimizer", "sgd", "--lr", "0.1", "--accumulate", "3", "--clip", "0"],
        ["--precision", "bf16", "--pooling", "attention", "--weight-decay", "0.1"],
        ["--device", "cpu", "--batch-size", "7", "--dropout", "0", "--max-vocab", "3"],
        ["--max-length", "3", "--keep", "end", "--patience", "1"],
    ],
)
def test_flags_do_run(small, flags):
    """Every flag of the lesson, in combinations a reader would try."""
    assert small(*flags) == 0


def test_resume_ends_where_an_uninterrupted_run_does(
    tmp_path, capsys, monkeypatch, small
):
    """Interrupted in epoch 2 and resumed: the same metrics, to the last digit."""
    assert small("--batch-size", 16) == 0
    whole = metrics(tmp_path)["metrics"]
    calls, real_step = [], lesson.step

    def interrupted(model, batch):
        calls.append(1)
        if len(calls) == 10:  # 6 batches an epoch and 1 of validation
            raise KeyboardInterrupt
        return real_step(model, batch)

    monkeypatch.setattr(lesson, "step", interrupted)
    again = ("--batch-size", 16, "--out-dir", tmp_path / "again")
    assert small(*again) == 130
    assert "--resume" in capsys.readouterr().err
    monkeypatch.setattr(lesson, "step", real_step)
    assert small(*again, "--resume") == 0
    resumed = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert resumed["metrics"] == whole
    assert resumed["epochs_run"] == 2


def test_three_labels_and_pictures(tmp_path):
    """The reader's own CSV need not be neg and pos, nor free of $ and emoji."""
    rows = [(f"$x$ {i} {'abc'[i % 3]} 🙂", f"$L_{i % 3}") for i in range(90)]
    data = make_csv(tmp_path / "a.csv", rows)
    flags = ("--quick", "--hidden-size", 8, "--out-dir", tmp_path / "out")
    more = ("--input", data, "--predict", "$x$ 1 ^b^ 🙂", "\n\tword\n")
    assert run_main(lesson, *flags, *more) == 0
    assert metrics(tmp_path)["dataset"] == "input"
    assert (tmp_path / "out" / "running_verdict.png").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--cell", "transformer"], "invalid choice"),
        (["--pooling", "min"], "invalid choice"),
        (["--compare", "clip"], "invalid choice"),
        (["--keep", "middle"], "invalid choice"),
        (["--max-length", "0"], "--max-length"),
        (["--max-vocab", "2"], "--max-vocab"),
        (["--epochs", "0"], "--epochs"),
        (["--lr", "nan"], "--lr"),
        (["--nonsense"], "--nonsense"),
        (["--dataset", "names"], "invalid choice"),
        (["--input", "/nowhere/at/all.csv"], "/nowhere/at/all.csv"),
        (["--eval-only", "--path", "/nowhere/model.pt"], "no checkpoint"),
        (["--eval-only", "--save-model"], "--save-model"),
        (["--resume"], "nothing to resume"),
        (["--compare", "pooling", "--predict", "good"], "--compare"),
        (["--predict", " "], "--predict"),
        (["--predict", "\udcff"], "--predict"),
        (["--predict"], "--predict"),
    ],
)
def test_a_wrong_flag_is_one_sentence(small, capsys, flags, words):
    """Exit status 2 and a sentence that names the flag or file."""
    assert small(*flags) == 2
    assert words in one_sentence(capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_no_such_device(small, capsys):
    """--device cuda where there is none."""
    assert small("--device", "cuda") == 2
    assert "cuda is not available" in one_sentence(capsys)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("text,label\n", "no rows"),
        ("words,label\na,b\n", "no column 'text'"),
        ("text,label\ngood,pos\nbad\n", "label"),
        ("text,label\n,pos\nbad,neg\n", "text"),
        ("text,label\n" + "fine film,pos\n" * 30, "one label"),
        ("text,label\ngood,pos\nbad,neg\n", "too few"),
        ('text,label\n"never closed,pos\n', "CSV"),
        ("text,label\na, b, c,pos\n", "quotes"),
    ],
)
def test_a_broken_csv_is_one_sentence(tmp_path, capsys, small, content, words):
    """Whatever is wrong with the reader's file, one sentence says so."""
    path = tmp_path / "broken.csv"
    path.write_text(content, encoding="utf-8")
    assert small("--input", path) == 2
    assert words in one_sentence(capsys)


def test_a_csv_that_is_not_utf8(tmp_path, capsys, small):
    """A Latin-1 file names itself in the error."""
    path = tmp_path / "latin.csv"
    path.write_bytes("text,label\nMüller,pos\n".encode("latin-1"))
    assert small("--input", path) == 2
    assert "latin.csv is not UTF-8" in one_sentence(capsys)


def test_a_model_of_other_labels_is_refused(tmp_path, capsys, small):
    """A checkpoint cannot judge a label that it has never seen."""
    path = ["--path", tmp_path / "model.pt"]
    rows = [(text, label.upper()) for text, label in make_rows()]
    assert small("--save-model", *path) == 0
    capsys.readouterr()
    other = make_csv(tmp_path / "other.csv", rows)
    assert small("--input", other, "--eval-only", *path) == 2
    assert "not trained on label 'NEG'" in one_sentence(capsys)


@pytest.mark.parametrize("name", ["vocabulary", "labels", "cut"])
@pytest.mark.parametrize("content", [None, 5, [1, 2]])
def test_a_model_without_its_words_is_refused(tmp_path, capsys, small, name, content):
    """A checkpoint made by hand, with a part missing or of the wrong kind."""
    path = tmp_path / "model.pt"
    card = {"lesson": "05_lstm_sentiment", "dataset": "input", "model": {}}
    card |= {"config": {}, "vocabulary": ["a"], "labels": ["A"], "cut": ["9", "both"]}
    torch.save(card | {name: content}, path)
    assert small("--eval-only", "--path", path) == 2
    assert f"no {name}" in one_sentence(capsys)


def test_commands_parse(tmp_path, monkeypatch):
    """Every command and flag that the docstring and the contract name."""
    monkeypatch.chdir(tmp_path)
    commands = re.findall(
        r"^    python 05_lstm_sentiment.py(.*)$", lesson.__doc__, re.MULTILINE
    )
    commands = [re.sub(r"\(.*\)", "", command) for command in commands]
    tries = lesson.__doc__.split("Try this")[1]
    commands += re.findall(r"^    (--.*?)(?:,|  )", tries, re.MULTILINE)
    contract = ["--epochs 10", "--epochs 20 --lr 0.001 --batch-size 64"]
    contract += ["--dropout 0.5", "--save-model --path ./models/sentiment.pth"]
    contract += ["--eval-only --path ./models/sentiment.pth"]
    assert len(commands) >= 8
    for command in commands + contract:
        lesson.make_flags().parse_args(shlex.split(command))


def test_form_of_the_script():
    """300 to 500 lines, five rooms."""
    text = (ROOT / "05_lstm_sentiment.py").read_text(encoding="utf-8")
    assert 300 <= len(text.splitlines()) <= 500
    rooms = re.findall(r"^# ={84}\n# \d\. (.*)\n# ={84}$", text, re.MULTILINE)
    assert rooms == [
        *("Data", "Model", "Training", "Evaluation and pictures", "Command line")
    ]


@pytest.mark.real_data
@pytest.mark.slow
def test_must_show_on_the_real_reviews(real_data, tmp_path):
    """Mean test accuracy of three seeds at least 0.885."""
    scores = []
    for seed in range(3):
        flags = ("--no-plots", "--seed", seed, "--out-dir", tmp_path / "out")
        assert run_main(lesson, "--data-dir", real_data, *flags) == 0
        found = metrics(tmp_path)
        assert found["real"] is True
        scores.append(found["metrics"]["test_accuracy"])
    assert sum(scores) / 3 >= 0.885, scores
