"""Lesson 04: the cell, its gradient, the split, the table, the flags."""

import json
from argparse import Namespace

import pytest
import torch
from conftest import ROOT, load_lesson, metrics, one_sentence, run_main, run_script
from sklearn.metrics import f1_score
from torch import nn

import rnn_utils as utils

lesson = load_lesson("04_simple_rnn")
CONFIG = {
    "letters": 11,
    "classes": 5,
    "embedding": 6,
    "cell": "rnn",
    "hidden": 7,
    "layers": 1,
    "both": False,
    "dropout": 0.0,
}


def config(**changes):
    return {**CONFIG, **changes}


def random_batch(n=9, seed=0):
    """Names of different lengths, their padding filled with nothing but zeros."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 8, (n,), generator=draw)
    names = torch.randint(1, 11, (n, 8), generator=draw)
    names[~utils.length_mask(lengths, 8)] = 0
    labels = torch.randint(0, 5, (n,), generator=draw)
    return {"name": names, "name_length": lengths, "label": labels}


def make_folder(path, **languages):
    for language, names in languages.items():
        (path / f"{language}.txt").write_text("\n".join(names), encoding="utf-8")
    return path


def many(prefix, n=40):
    return [prefix + chr(97 + i % 26) + chr(97 + i // 26) for i in range(n)]


# The cell


def test_cell_by_hand_equals_torch_outputs_and_gradients():
    """A wrong sign, bias or transpose in the equation would show here."""
    torch.manual_seed(1)
    layer = nn.RNN(5, 7, batch_first=True).double()
    x = torch.randn(3, 4, 5).double().requires_grad_()
    h0 = torch.randn(3, 7).double().requires_grad_()
    ours = lesson.rnn_by_hand(x, h0, *layer.parameters())
    theirs = layer(x, h0.unsqueeze(0))[0]
    torch.testing.assert_close(ours, theirs)
    goal = torch.randn_like(theirs)
    inputs = [x, h0, *layer.parameters()]
    for mine, yours in zip(
        torch.autograd.grad((ours * goal).sum(), inputs),
        torch.autograd.grad((theirs * goal).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, yours)


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_bptt_by_hand_equals_autograd(steps):
    """Weights' gradients, and the gradient with respect to each hidden state."""
    torch.manual_seed(2)
    x, goal = torch.randn(steps, 5).double(), torch.randn(7).double()
    w_ih = torch.randn(7, 5).double().requires_grad_()
    w_hh = torch.randn(7, 7).double().requires_grad_()
    bias = torch.randn(7).double()
    states, h = [], torch.zeros(7).double()
    for x_t in x:
        h = torch.tanh(w_ih @ x_t + w_hh @ h + bias)
        h.retain_grad()
        states.append(h)
    (goal @ h).backward()
    d_ih, d_hh, norms = lesson.bptt_by_hand(x, w_ih.data, w_hh.data, bias, goal)
    torch.testing.assert_close(d_ih, w_ih.grad)
    torch.testing.assert_close(d_hh, w_hh.grad)
    assert norms == pytest.approx([h.grad.norm().item() for h in states])


def test_gradient_by_distance_equals_a_loop_of_cells():
    """The curve of the picture, against an RNNCell written out step by step."""
    torch.manual_seed(3)
    model = lesson.NameClassifier(**config()).double().eval()
    names = torch.randint(1, 11, (4, 6))
    cell = nn.RNNCell(6, 7).double()
    for mine, theirs in zip(cell.parameters(), model.rnn.parameters(), strict=True):
        mine.data = theirs.data
    states, h = [], torch.zeros(4, 7).double()
    for t in range(6):
        h = cell(model.embed(names)[:, t], h)
        h.retain_grad()
        states.append(h)
    scores = model.output(h)
    labels = torch.tensor([0, 4, 2, 2])
    nn.functional.cross_entropy(scores, labels).backward()
    norms = [h.grad.norm(dim=1).mean().item() for h in reversed(states)]
    expected = [norm / norms[0] for norm in norms]
    assert lesson.gradient_by_distance(model, names, labels) == pytest.approx(expected)


def test_start_is_orthogonal_gate_by_gate():
    """Each gate's recurrent matrix keeps lengths; the whole stacked one could not."""
    for cell, gates in (("rnn", 1), ("gru", 3), ("lstm", 4)):
        model = lesson.NameClassifier(**config(cell=cell, layers=2, both=True))
        weights = [w for n, w in model.rnn.named_parameters() if "weight_hh" in n]
        assert len(weights) == 4  # two layers, two directions
        for weight in weights:
            for gate in weight.split(7):
                torch.testing.assert_close(gate @ gate.T, torch.eye(7))
            assert len(weight.split(7)) == gates


# The model


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_padding_changes_neither_scores_nor_gradients(cell, both, layers):
    """Extra columns of padding, even of rubbish ids, must not reach the answer."""
    torch.manual_seed(4)
    shape = config(cell=cell, both=both, layers=layers)
    model = lesson.NameClassifier(**shape).double()
    batch = random_batch()
    wider = torch.cat([batch["name"], torch.full((9, 3), 4)], dim=1)
    wide = torch.where(utils.length_mask(batch["name_length"], 11), wider, 5)
    outcomes = []
    for names in (batch["name"], wide):
        model.zero_grad()
        scores = model(names, batch["name_length"])
        nn.functional.cross_entropy(scores, batch["label"]).backward()
        outcomes.append([scores, *(p.grad.clone() for p in model.parameters())])
    for narrow, padded in zip(*outcomes, strict=True):
        torch.testing.assert_close(narrow, padded)


@pytest.mark.parametrize("both", [False, True])
def test_one_name_alone_equals_the_same_name_in_a_batch(both):
    """A name's scores must not depend on its neighbours."""
    model = lesson.NameClassifier(**config(both=both)).double().eval()
    batch = random_batch()
    together = model(batch["name"], batch["name_length"])
    for i, length in enumerate(batch["name_length"].tolist()):
        alone = model(batch["name"][i : i + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(alone[0], together[i])


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_model_overfits_a_tiny_batch(cell):
    """What --overfit-one-batch promises: gradients reach every weight."""
    torch.manual_seed(5)
    model = lesson.NameClassifier(**config(cell=cell, hidden=32))
    batch = random_batch(6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(150):
        sums, count = lesson.one_step(model, batch, optimizer, 1.0)
    assert sums["accuracy"] == count == 6
    assert sums["loss"].item() / count < 0.05


def test_one_step_clips_the_gradient():
    """With SGD at rate 1, a step is as long as the (clipped) gradient."""
    model = lesson.NameClassifier(**config())
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    lesson.one_step(model, random_batch(), optimizer, 0.01)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_one_step_starts_from_no_gradient():
    """What an earlier step left must not be added to the new gradient."""
    ends = []
    for stale in (0.0, 1e3):
        torch.manual_seed(5)
        model = lesson.NameClassifier(**config())
        for p in model.parameters():
            p.grad = torch.full_like(p, stale)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        lesson.one_step(model, random_batch(), optimizer, 0)
        ends.append([p.detach() for p in model.parameters()])
    torch.testing.assert_close(*ends)


def test_dropout_acts_on_letters_and_on_the_last_state():
    """The two places that --dropout is for in a network of one layer."""
    model, batch, seen = (
        lesson.NameClassifier(**config(dropout=0.5)),
        random_batch(),
        [],
    )
    model.dropout.register_forward_hook(lambda *a: seen.append(tuple(a[2].shape)))
    model(batch["name"], batch["name_length"])
    assert seen == [(9, 8, 6), (9, 7)]


def test_one_batch_is_learned_without_dropout(capsys):
    """At rate 0 the loss stays what it is: with dropout it could never reach 0."""
    batches = utils.Batches(random_batch(), 4)
    args = Namespace(device="cpu", lr=0.0, clip=1.0)
    lesson.learn_one_batch(config(dropout=0.9), batches, args, 2)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == 2
    assert lines[0].split("loss")[1] == lines[1].split("loss")[1]


def test_forgetting_is_measured_on_the_last_ten_letters(monkeypatch):
    """Of longer names alone, so that nothing is padding and the end is the end."""
    names, lengths = utils.pad([range(1, 13), range(1, 6), range(1, 12)])
    data = {"name": names, "name_length": lengths, "label": torch.tensor([1, 2, 3])}
    seen = []
    monkeypatch.setattr(
        lesson, "gradient_by_distance", lambda *a: seen.append(a[1:]) or [1.0]
    )
    args = Namespace(seed=0, device="cpu")
    lesson.forgetting_curves(config(letters=13), utils.Batches(data, 2), None, args)
    assert len(seen) == 5
    for names, labels in seen:
        assert names.tolist() == [[*range(3, 13)], [*range(2, 12)]]
        assert labels.tolist() == [1, 3]


# The split


def test_split_keeps_each_pair_once_and_each_spelling_in_one_part():
    """Repeats, ambiguous spellings, case and accents must not leak into test."""
    lines = [(name, "A") for name in many("x", 60)] * 3
    lines += [(name, "B") for name in many("x", 60)[:20]]
    parts = lesson.split_without_leak(lines)
    flat = [pair for part in parts for pair in part]
    assert sorted(flat) == sorted(set(lines))
    spellings = [{name for name, _ in part} for part in parts]
    assert not (spellings[0] & spellings[1] or spellings[0] & spellings[2])
    assert not spellings[1] & spellings[2]
    composed, decomposed = "Dvořák", "Dvor\u030ca\u0301k"
    assert lesson.as_the_model_sees_it(composed) == "dvořák"
    assert lesson.as_the_model_sees_it(decomposed) == "dvořák"


def test_leaky_split_leaks():
    """The flattering split must do what it is shown for."""
    lines = [(name, "A") for name in many("x", 60)] * 3
    parts = lesson.split_with_leak(lines)
    assert sum(map(len, parts)) == len(lines)
    train = {name for name, _ in parts[0]}
    assert sum(name in train for name, _ in parts[2]) > len(parts[2]) / 2


def test_label_noise_ceiling_by_hand():
    """Two spellings, one of them under two languages: two of three can be right."""
    pairs = [("lee", "English"), ("lee", "Chinese"), ("kim", "Korean")]
    assert lesson.label_noise_ceiling(pairs) == pytest.approx(2 / 3)


@pytest.mark.real_data
def test_real_names_are_as_described(real_data):
    """The README's and the docstring's facts about the data."""
    args = Namespace(input=None, dataset="names", data_dir=real_data, quick=False)
    source, lines = lesson.read_names(args)
    assert source.real
    assert source.label == "names [real]"
    assert len(lines) == 20050
    assert len({language for _, language in lines}) == 18
    parts = lesson.split_without_leak(lines)
    assert [len(part) for part in parts] == [14406, 1806, 1799]
    seen = {name for name, _ in parts[0] + parts[1]}
    assert not any(name in seen for name, _ in parts[2])


def test_letters_are_those_of_training():
    """A letter of validation or test only is unknown to the model."""
    args = lesson.make_flags().parse_args([])
    args.lesson, source = "04_simple_rnn", utils.Source("input", None, False)
    parts = [[("anna", "A"), ("bob", "B")], [("cecil", "A")], [("dave", "B")]]
    card = lesson.new_card(source, parts, args)
    assert card["vocabulary"] == [utils.PAD, utils.UNK, *"abno"]


# Metrics and baselines


def test_scores_agree_with_scikit_learn():
    """Accuracy, macro-F1 and top-3, on scores with a known answer."""
    torch.manual_seed(6)
    scores, truth = torch.randn(200, 5), torch.randint(0, 5, (200,))
    found = utils.classification_scores(scores, truth)
    answers = scores.argmax(1)
    assert found["accuracy"] == pytest.approx((answers == truth).float().mean().item())
    assert found["macro_f1"] == pytest.approx(f1_score(truth, answers, average="macro"))
    ranks = (scores > scores.gather(1, truth.unsqueeze(1))).sum(1)
    assert found["top3_accuracy"] == pytest.approx((ranks < 3).float().mean().item())


def test_baselines_see_training_only():
    """A majority and a language that exist only in test must not be known."""
    train = [(name, "A") for name in many("a")] + [(n, "B") for n in many("b", 20)]
    asked = [("bbb", "B"), ("aaa", "A"), ("ccc", "C"), ("ccd", "C"), ("cce", "C")]
    vectorizer = lesson.TfidfVectorizer(analyzer="char")
    found = utils.text_baselines(vectorizer, train, asked, ["A", "B", "C"])
    assert found["majority"]["accuracy"] == pytest.approx(1 / 5)
    assert found["linear"]["accuracy"] == pytest.approx(2 / 5)


def test_baselines_are_asked_about_their_own_part():
    """Fitted on training and scored there, they would be hard to beat."""
    train = [(name, "A") for name in many("x")] + [(n, "B") for n in many("y", 20)]
    asked = [("yba", "B"), ("yca", "B"), ("xba", "A")]
    data = Namespace(parts=[train, asked[:2], asked], labels=["A", "B"])
    for k, majority in ((1, 0), (2, 1 / 3)):
        found = lesson.baselines(data, k)
        assert found["majority"]["accuracy"] == pytest.approx(majority)
        assert found["letter_groups"]["accuracy"] == 1


# The program


def test_quick_run_without_network(tmp_path):
    """The default run of a newcomer who is offline; and that it says it is the sample."""
    done = run_script("04_simple_rnn", "--quick", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sample [sample]" in done.stdout
    folder = tmp_path / "outputs" / "04_simple_rnn"
    result = json.loads((folder / "metrics.json").read_text())
    assert result["real"] is False
    assert result["dataset"] == "sample"
    assert result["epochs_run"] == 2
    assert {"majority", "letter_groups", "label_noise_ceiling"} == set(
        result["baselines"]
    )
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {
        *("training.png", "confusion.png", "hidden_state.png", "forgetting.png")
    }


def test_auto_falls_back_in_one_line(tmp_path):
    """No network, no data: one line says what it goes on with, and why."""
    flags = ("--epochs", 1, "--hidden-size", 8, "--no-plots")
    done = run_script("04_simple_rnn", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "Going on" in line]
    assert len(lines) == 1
    assert "sample" in lines[0]
    assert not list(tmp_path.glob("outputs/**/*.png"))


def small(tmp_path, *flags):
    """A run in this process on the sample, in a second or two."""
    fixed = (
        "--quick",
        "--no-plots",
        "--hidden-size",
        16,
        "--out-dir",
        tmp_path / "out",
    )
    return run_main(lesson, *fixed, *flags)


def test_same_seed_same_numbers(tmp_path):
    """Two runs agree to the last digit; another seed does not."""
    found = []
    for seed in (7, 7, 8):
        assert small(tmp_path, "--seed", seed) == 0
        found.append(metrics(tmp_path)["metrics"])
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("flags", [[], ["--cell", "lstm", "--bidirectional"]])
def test_a_saved_model_gives_the_same_answers(tmp_path, capsys, flags):
    """--save-model, then --eval-only without repeating the flags that shaped it."""
    path = ["--path", tmp_path / "model.pt"]
    names = ["--predict", "Schmidhuber", "Satoshi"]
    assert small(tmp_path, "--save-model", *path, *names, *flags) == 0
    first, before = capsys.readouterr().out, metrics(tmp_path)
    assert small(tmp_path, "--eval-only", *path, *names) == 0
    second, after = capsys.readouterr().out, metrics(tmp_path)
    assert after["metrics"] == before["metrics"]
    assert after["epochs_run"] == 0
    for name in ("Schmidhuber", "Satoshi"):
        line = [line for line in first.splitlines() if line.startswith(name)]
        assert line
        assert line[0] in second


def test_compare_cell_at_equal_parameters(tmp_path):
    """Three cells, sizes within two percent, one table."""
    assert small(tmp_path, "--compare", "cell", "--hidden-size", 48) == 0
    models = metrics(tmp_path)["models"]
    assert [name.split(",")[0] for name in models] == ["rnn", "lstm", "gru"]
    sizes = [model["parameters"] for model in models.values()]
    assert max(sizes) / min(sizes) < 1.02
    assert all(0 <= model["val_accuracy"] <= 1 for model in models.values())


def test_compare_clip(tmp_path, capsys):
    """With and without clipping, at two rates; a diverged one is a row, not a crash."""
    assert small(tmp_path, "--compare", "clip", "--lr", 90, "--optimizer", "sgd") == 0
    assert capsys.readouterr().out.count(", clip 0") >= 4


@pytest.mark.parametrize(
    "flags",
    [
        ["--leaky-split"],
        ["--overfit-one-batch"],
        ["--cell", "gru", "--bidirectional", "--num-layers", "2"],
        ["--optimizer", "sgd", "--lr", "0.1", "--accumulate", "3", "--clip", "0"],
        ["--precision", "bf16", "--weight-decay", "0.1", "--patience", "1"],
        ["--device", "cpu", "--batch-size", "7", "--dropout", "0"],
    ],
)
def test_flags_do_run(tmp_path, flags):
    """Every flag of the lesson, in combinations a reader would try."""
    assert small(tmp_path, *flags) == 0


def test_resume_ends_where_an_uninterrupted_run_does(tmp_path, capsys, monkeypatch):
    """Interrupted in epoch 2 and resumed: the same metrics, to the last digit."""
    assert small(tmp_path, "--dropout", 0.4) == 0
    whole = metrics(tmp_path)["metrics"]
    calls, real_step = [], lesson.step

    def interrupted(model, batch):
        calls.append(1)
        if len(calls) == 8:  # 5 batches an epoch: in the middle of the second
            raise KeyboardInterrupt
        return real_step(model, batch)

    monkeypatch.setattr(lesson, "step", interrupted)
    flags = ("--dropout", 0.4, "--out-dir", tmp_path / "again")
    assert small(tmp_path, *flags) == 130
    assert "--resume" in capsys.readouterr().err
    monkeypatch.setattr(lesson, "step", real_step)
    assert small(tmp_path, *flags, "--resume") == 0
    resumed = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert resumed["metrics"] == whole
    assert resumed["epochs_run"] == 2


def test_own_folder_of_names(tmp_path):
    """--input with the reader's own languages."""
    folder = make_folder(tmp_path, Elvish=many("el"), Orkish=many("gr"))
    assert small(tmp_path, "--input", folder, "--epochs", 2) == 0
    found = metrics(tmp_path)
    assert found["dataset"] == "input"
    assert found["real"] is False


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--cell", "transformer"], "invalid choice"),
        (["--epochs", "0"], "--epochs"),
        (["--epochs", "many"], "whole number"),
        (["--lr", "-1"], "--lr"),
        (["--lr", "nan"], "--lr"),
        (["--dropout", "1"], "--dropout"),
        (["--nonsense"], "--nonsense"),
        (["--epoch", "3"], "--epoch"),
        (["--dataset", "imdb"], "invalid choice"),
        (["--input", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--input", "README.md", "--dataset", "sample"], "exclude"),
        (["--eval-only", "--path", "/nowhere/model.pt"], "no checkpoint"),
        (["--eval-only", "--resume"], "--resume"),
        (["--resume"], "nothing to resume"),
        (["--compare", "cell", "--resume"], "--compare"),
        (["--overfit-one-batch", "--predict", "Li"], "--overfit-one-batch"),
        (["--predict", " "], "--predict"),
        (["--predict", "\udcff"], "--predict"),
        (["--predict"], "--predict"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_a_wrong_flag_is_one_sentence(tmp_path, capsys, flags, words):
    """Exit status 2 and a sentence that names the flag or file."""
    assert small(tmp_path, *flags) == 2
    assert words in one_sentence(capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_no_such_device(tmp_path, capsys):
    """--device cuda where there is none."""
    assert small(tmp_path, "--device", "cuda") == 2
    assert "cuda is not available" in one_sentence(capsys)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "two"),
        ({"A": many("a")}, "two"),
        ({"A": many("a"), "B": []}, "empty"),
        ({"A": ["one"], "B": ["two"]}, "too few"),
    ],
)
def test_a_broken_folder_is_one_sentence(tmp_path, capsys, files, words):
    """Empty folder, one language, an empty file, too few names."""
    (tmp_path / "in").mkdir()
    folder = make_folder(tmp_path / "in", **files)
    assert small(tmp_path, "--input", folder) == 2
    assert words in one_sentence(capsys)


def test_not_utf8_is_one_sentence(tmp_path, capsys):
    """A Latin-1 file names itself in the error."""
    (tmp_path / "A.txt").write_bytes("Müller\n".encode("latin-1"))
    make_folder(tmp_path, B=many("b"))
    assert small(tmp_path, "--input", tmp_path) == 2
    assert "A.txt is not UTF-8" in one_sentence(capsys)


def test_a_language_with_one_name_is_no_crash(tmp_path):
    """It lands in one part only; the others must do without it."""
    folder = make_folder(tmp_path, A=many("a"), B=many("b"), C=["solo"])
    assert small(tmp_path, "--input", folder) == 0


def test_a_model_of_other_languages_is_refused(tmp_path, capsys):
    """A checkpoint cannot judge languages it has never heard of."""
    path = ["--path", tmp_path / "model.pt"]
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    one = make_folder(tmp_path / "one", A=many("a"), B=many("b"))
    two = make_folder(tmp_path / "two", A=many("a"), C=many("c"))
    assert small(tmp_path, "--input", one, "--save-model", *path) == 0
    capsys.readouterr()
    assert small(tmp_path, "--input", two, "--eval-only", *path) == 2
    assert "not trained on C" in one_sentence(capsys)


@pytest.mark.parametrize("name", ["vocabulary", "labels"])
@pytest.mark.parametrize("content", [None, 5, [1, 2]])
def test_a_model_without_its_letters_is_refused(tmp_path, capsys, name, content):
    """A checkpoint made by hand, with a part missing or of the wrong kind."""
    path = tmp_path / "model.pt"
    card = {"lesson": "04_simple_rnn", "dataset": "sample", "model": {}, "config": {}}
    card |= {"vocabulary": ["a"], "labels": ["A"], name: content}
    torch.save(card, path)
    assert small(tmp_path, "--eval-only", "--path", path) == 2
    assert f"no {name}" in one_sentence(capsys)


def test_a_model_of_another_data_set_is_refused(tmp_path, capsys):
    """Its training names may stand in this data set's test part."""
    path = ["--path", tmp_path / "model.pt"]
    assert small(tmp_path, "--save-model", *path) == 0
    capsys.readouterr()
    (tmp_path / "in").mkdir()
    folder = make_folder(tmp_path / "in", A=many("a"), B=many("b"))
    assert small(tmp_path, "--input", folder, "--eval-only", *path) == 2
    assert "was trained on dataset 'sample'" in one_sentence(capsys)


def test_every_sample_language_is_well_formed():
    """18 files, at least 60 distinct names each, letters only, sorted."""
    files = sorted((ROOT / "samples" / "names").glob("*.txt"))
    assert len(files) == 18
    for file in files:
        names = file.read_text(encoding="utf-8").splitlines()
        assert len(names) >= 60
        assert names == sorted(set(names))
        for name in names:
            assert all(c.isalpha() or c in "' -" for c in name), (file.name, name)


@pytest.mark.real_data
@pytest.mark.slow
def test_must_show_on_the_real_names(real_data, tmp_path):
    """Mean test accuracy of three seeds at least 0.81."""
    scores = []
    for seed in range(3):
        flags = ("--no-plots", "--seed", seed, "--out-dir", tmp_path / "out")
        assert run_main(lesson, "--data-dir", real_data, *flags) == 0
        found = metrics(tmp_path)
        assert found["real"] is True
        scores.append(found["metrics"]["test_accuracy"])
    assert sum(scores) / 3 >= 0.81, scores
