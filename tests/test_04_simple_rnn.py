"""Lesson 04: what is made by hand equals PyTorch, splits do not leak, padding is nothing."""

import re
from argparse import Namespace
from itertools import product

import numpy as np
import pytest
import torch
from conftest import load_lesson, metrics, one_sentence, run_main
from torch import nn
from torch.nn import functional as F

import rnn_utils as utils

lesson = load_lesson("04_simple_rnn")


@pytest.fixture(autouse=True)
def seeded():
    utils.set_seed(0)


def make_model(cell="rnn", **changes):
    config = {"letters": 9, "classes": 4, "embedding": 5, "cell": cell, "hidden": 7}
    return lesson.new_network(**{**config, **changes}).eval()


def flags(**changes):
    """Flags of a training run, as parse_flags would leave them."""
    args = lesson.make_flags().parse_args([])
    return Namespace(**{**vars(args), "device": "cpu", **changes})


def toy_data(args, lines=None):
    lines = lines or [
        (f"{a}{b}{c}", "upper" if a < b else "lower")
        for a, b, c in product("abcdefg", "abcdefg", ("", "x", "yz"))
    ]
    parts = lesson.split_without_leak(lines)
    source = utils.Source("sample", None, real=False)
    config, feeds = lesson.new_model(source, parts, args)
    return lesson.load_names(source, parts, feeds, args), config


# --- by hand against PyTorch -----------------------------------------------------------


def test_the_layer_by_hand_equals_torch_outputs_and_gradients():
    layer = nn.RNN(5, 7, batch_first=True).double()
    x = torch.randn(4, 6, 5, dtype=torch.double)
    h = torch.randn(4, 7, dtype=torch.double)
    goal = torch.randn(4, 6, 7, dtype=torch.double)
    ours = lesson.rnn_by_hand(x, h, *layer.parameters())
    theirs = layer(x, h.unsqueeze(0))[0]
    torch.testing.assert_close(ours, theirs)
    weights = list(layer.parameters())
    by_hand = torch.autograd.grad((ours * goal).sum(), weights)
    by_torch = torch.autograd.grad((theirs * goal).sum(), weights)
    torch.testing.assert_close(by_hand, by_torch)


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_back_propagation_through_time_equals_autograd(steps):
    x = torch.randn(steps, 3, dtype=torch.double)
    w_ih = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    w_hh = torch.randn(4, 4, dtype=torch.double, requires_grad=True)
    bias = torch.randn(4, dtype=torch.double, requires_grad=True)
    d_last = torch.randn(4, dtype=torch.double)
    states = [torch.zeros(4, dtype=torch.double)]
    for x_t in x:
        states.append(torch.tanh(w_ih @ x_t + w_hh @ states[-1] + bias))
        states[-1].retain_grad()
    (states[-1] @ d_last).backward()
    with torch.no_grad():
        d_ih, d_hh, d_bias, back = lesson.bptt_by_hand(x, w_ih, w_hh, bias, d_last)
    torch.testing.assert_close(d_ih, w_ih.grad)
    torch.testing.assert_close(d_hh, w_hh.grad)
    torch.testing.assert_close(d_bias, bias.grad)
    torch.testing.assert_close(
        [step.d_h for step in back], [state.grad for state in states[1:]]
    )
    torch.testing.assert_close(sum(step.contribution for step in back), w_hh.grad)


def test_a_product_of_equal_factors_dies_out_or_explodes():
    nothing = torch.zeros(11, 2, dtype=torch.double)
    for factor in (0.5, 1.0, 1.5):
        found = lesson.growth_of_gradient(factor, nothing)
        assert found == pytest.approx([factor**k for k in range(11)])


def test_the_plain_network_equals_the_fast_one():
    plain = lesson.NameRNN(9, 4, embedding=5, hidden=7)
    fast = make_model()
    weights = zip(fast.state_dict(), plain.state_dict().values(), strict=True)
    fast.load_state_dict(dict(weights))
    names, lengths = utils.pad([[1, 2, 3], [4], [5, 6, 7, 8, 1]])
    torch.testing.assert_close(plain(names, lengths), fast(names, lengths))


def test_the_loop_by_hand_equals_fit_over_several_epochs(tmp_path):
    args = flags(epochs=3, batch_size=16, hidden_size=8, clip=0.5, out_dir=tmp_path)
    data, config = toy_data(args)
    models = []
    for train in (
        lesson.train_by_hand,
        lambda m, *rest: utils.fit(m, lesson.measure, *rest),
    ):
        utils.set_seed(1)
        model = lesson.NameClassifier(**config)
        train(model, data.train, data.val, args)
        models.append(model.state_dict())
    torch.testing.assert_close(models[0], models[1], rtol=0, atol=0)


def test_mean_loss_counts_names_not_batches():
    args = flags(batch_size=16)
    data, config = toy_data(args)
    model = lesson.NameClassifier(**config)
    small = utils.Batches({**data.val.data, **data.val.lengths}, 4, bucket="name")
    assert lesson.mean_loss(model, small) == pytest.approx(
        lesson.mean_loss(model, data.val), rel=1e-6
    )


# --- the model ---------------------------------------------------------------------------


def test_start_is_orthogonal_matrix_by_matrix():
    for cell in lesson.CELLS:
        rnn = make_model(cell, gain=4.0, layers=2, bidirectional=True).rnn
        found = 0
        for name, weight in rnn.named_parameters():
            if "weight_hh" in name:
                for gate in weight.data.split(7):
                    found += 1
                    torch.testing.assert_close(gate @ gate.T, 16 * torch.eye(7))
        assert found >= 4


@pytest.mark.parametrize(
    ("cell", "both"), list(product(["rnn", "lstm", "gru"], [False, True]))
)
def test_padding_changes_neither_scores_nor_gradients(cell, both):
    model = make_model(cell, bidirectional=both, layers=2)
    names, lengths = utils.pad([[1, 2, 3], [4], [5, 6, 7, 8, 1]])
    together = model(names, lengths)
    together.pow(2).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    alone = [
        model(names[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(lengths)
    ]
    alone = torch.cat(alone)
    alone.pow(2).sum().backward()
    torch.testing.assert_close(together, alone)
    for one, other in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, rtol=1e-4, atol=1e-6)


def test_both_directions_end_where_each_has_read_all():
    """Forwards at the last letter, backwards at the first."""
    model = make_model(bidirectional=True)
    x = model.embed(torch.tensor([[1, 2, 3, 4, 5]]))  # (1, T, E)
    states, _ = model.rnn(x)  # (1, T, 2H)
    hidden = states.shape[2] // 2
    expected = torch.cat([states[:, -1, :hidden], states[:, 0, hidden:]], dim=1)
    found = lesson.last_of_both(model.rnn, x, torch.tensor([5]))
    torch.testing.assert_close(found, expected)


def test_one_direction_does_not_see_what_follows_the_length():
    model = make_model()
    names, lengths = utils.pad([[1, 2, 3, 4, 5]])
    other = names.clone()
    other[0, 3:] = 8
    torch.testing.assert_close(model(names, lengths - 2), model(other, lengths - 2))


def test_dropout_acts_on_letters_and_on_the_last_state():
    model = make_model(dropout=0.5).train()
    seen = []
    model.dropout.register_forward_hook(lambda *found: seen.append(found[2].shape))
    model(*utils.pad([[1, 2, 3], [4, 5]]))
    assert seen == [(2, 3, 5), (2, 7)]


def test_loss_and_accuracy_are_one_value_a_name():
    model = make_model()
    names, lengths = utils.pad([[1, 2, 3], [4]])
    labels = torch.tensor([3, 0])
    batch = {"name": names, "name_length": lengths, "label": labels}
    found = lesson.measure(model, batch)
    scores = model(names, lengths)
    for i in range(2):
        chances = scores[i].exp() / scores[i].exp().sum()
        torch.testing.assert_close(found["loss"][i], -chances[labels[i]].log())
        assert found["accuracy"][i] == (scores[i].argmax() == labels[i])


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_tiny_batch_is_learned_by_heart(cell, capsys):
    args = flags(cell=cell, hidden_size=32, lr=0.01, dropout=0.5)
    data, config = toy_data(args)
    lesson.overfit_one_batch(config, data, args, steps=61)
    last = capsys.readouterr().out.splitlines()[-2]
    assert "64/64 right" in last, last


def test_reading_letter_by_letter_equals_reading_each_beginning(capsys):
    args = flags(bidirectional=True, hidden_size=8)
    data, config = toy_data(args)
    model = lesson.NameClassifier(**config).eval()
    lesson.show_letter_by_letter(model, "Abx", data, args)
    lines = capsys.readouterr().out.splitlines()[1:4]
    for line, beginning in zip(lines, ("a", "ab", "abx"), strict=True):
        scores = model(*utils.pad([data.vocabulary.encode(beginning)]))
        assert lesson.likeliest(scores[0].softmax(0), data.labels) in line


# --- the data ------------------------------------------------------------------------------


def test_split_keeps_each_pair_once_and_each_spelling_in_one_part():
    letters = [a + b for a, b in product("abcdefghij", "klmnopqrst")]
    lines = [(name, "X") for name in letters] * 2 + [(n, "Y") for n in letters[::3]]
    parts = lesson.split_without_leak(lines)
    together = [pair for part in parts for pair in part]
    assert sorted(together) == sorted(set(lines))
    spellings = [{name for name, _ in part} for part in parts]
    assert not spellings[0] & spellings[1]
    assert not spellings[0] & spellings[2]
    assert not spellings[1] & spellings[2]
    assert [round(len(s) / len(letters), 2) for s in spellings] == [0.8, 0.1, 0.1]
    # The same whatever order the lines come in.
    assert lesson.split_without_leak(lines[::-1]) == parts


def test_the_leaky_split_leaks():
    lines = [(f"name{i % 50}", "X") for i in range(500)]
    parts = lesson.split_with_leak(lines)
    assert sum(map(len, parts)) == 500
    assert {name for name, _ in parts[2]} <= {name for name, _ in parts[0]}


def test_same_spelling_however_it_is_written():
    assert lesson.as_the_model_sees_it(" MU\u0308LLER ") == "müller"


def test_letters_come_from_training_alone():
    args = flags()
    data, _ = toy_data(args)
    assert set(data.vocabulary.tokens[2:]) == {c for n, _ in data.parts[0] for c in n}
    strange = [part + [("ß", "upper")] for part in data.parts]
    names = lesson.to_tensors(strange[2][-1:], data.vocabulary, data.labels)["name"]
    assert names.tolist() == [[utils.UNK_ID]]
    parts = [[("ab", "upper")], [("aß", "upper")], [("bç", "lower")]]
    _, feeds = lesson.new_model(data.source, parts, args)
    assert feeds["vocabulary"][2:] == ["a", "b"]


def test_a_model_is_built_as_the_flags_say():
    given = {"cell": "gru", "bidirectional": True, "dropout": 0.1}
    args = flags(hidden_size=5, num_layers=2, **given)
    _, config = toy_data(args)
    assert given.items() <= config.items()
    assert (config["hidden"], config["layers"]) == (5, 2)


def test_scores_of_test_are_those_of_the_test_names(tmp_path):
    args = flags(out_dir=str(tmp_path / "out"), lesson="04_simple_rnn")
    data, config = toy_data(args)
    # Validation is a part with another score, or it could not be told from test.
    train, _, test = data.parts
    data = data._replace(val=data.train, parts=[train, train, test])
    model = lesson.NameClassifier(**config).eval()
    validation, test = lesson.ask_all(model, config, data, args)
    val_rows = lesson.score_all(validation, data.val)
    rows = lesson.score_all(test, data.test)
    lesson.keep_metrics(val_rows, rows, model, [], data, args)
    found = metrics(tmp_path)["metrics"]
    expected = utils.judge(model, lesson.scores_of, data.test, args)
    assert found["test_accuracy"] == pytest.approx(expected["accuracy"])
    assert found["test_accuracy"] != found["val_accuracy"]


def test_best_possible_accuracy_by_hand():
    pairs = [
        ("lee", "English"),
        ("lee", "Korean"),
        ("ito", "Japanese"),
        ("li", "Chinese"),
    ]
    assert lesson.label_noise_ceiling(pairs) == 0.75


def test_baselines_are_fitted_on_training_and_asked_about_their_own_part():
    args = flags()
    data, _ = toy_data(args)
    asked = [("ab", "upper"), ("ba", "lower")]
    found = lesson.baselines(data, asked)
    assert found["letter_groups"].shape == (2, 2)
    share = np.mean([label == "lower" for _, label in data.parts[0]])
    assert found["majority"][0, data.labels.index("lower")].item() == pytest.approx(
        share
    )
    # What is asked about does not change what was learned.
    more = lesson.baselines(data, asked + [("zz", "upper")] * 50)
    torch.testing.assert_close(found["letter_groups"], more["letter_groups"][:2])


def test_single_letters_know_no_order():
    data, _ = toy_data(flags())
    found = lesson.baselines(data, [("abx", "upper"), ("bxa", "lower")])
    single = found["single_letters"]
    torch.testing.assert_close(single[0], single[1])
    assert not torch.allclose(found["letter_groups"][0], found["letter_groups"][1])


def test_letter_groups_keep_the_columns_of_labels():
    """Also where training lacks a language: nobody is taken for it."""
    train = [("anna", "X"), ("hanna", "X"), ("otto", "Z"), ("lotto", "Z")]
    found = lesson.score_letter_groups(
        train, [("anni", "X"), ("oto", "Z")], list("XYZ")
    )
    assert found.argmax(1).tolist() == [0, 2]
    assert found[:, 1].tolist() == [0, 0]
    torch.testing.assert_close(found.sum(1), torch.ones(2, dtype=torch.double))


@pytest.mark.real_data
def test_real_names_are_as_described(real_data):
    lines = lesson.read_labelled_lines(real_data / "names")
    assert len(lines) == 20_050
    assert len({label for _, label in lines}) == 18
    seen = [(lesson.as_the_model_sees_it(name), label) for name, label in lines]
    parts = lesson.split_without_leak(seen)
    assert [len(part) for part in parts] == [14_406, 1_806, 1_799]


@pytest.mark.parametrize(
    ("ours", "theirs"), [(0, 0), (0, 1), (1, 5), (5, 1), (4, 4), (3, 4), (49, 111)]
)
def test_mcnemar_by_hand_equals_the_shared_one(ours, theirs):
    ours_right = [True] * ours + [False] * theirs + [True, False]
    theirs_right = [False] * ours + [True] * theirs + [True, False]
    expected = utils.mcnemar(ours_right, theirs_right)
    assert expected[:2] == (ours, theirs)
    assert lesson.mcnemar_by_hand(ours, theirs) == pytest.approx(expected[2])


def test_the_gradient_by_hand_can_be_redone_from_what_is_printed(capsys):
    """Every `... = number` of the toy is right to one unit of its last place."""
    lesson.show_gradient_through_time()
    redone = 0
    for line in capsys.readouterr().out.splitlines():
        if not line.strip().startswith("dL/d") or " unit " not in line:
            continue
        # Without what it is: "1.0000 * (1 - 0.7545^2) = 1.0000 * 0.4308 = 0.4308".
        sums = re.sub(r"^ +dL/d\w+ +unit \d", "", line).replace("^", "**").split("=")
        values = [eval(text) for text in sums]
        assert values == pytest.approx([values[-1]] * len(values), abs=1.5e-4), line
        redone += 1
    assert redone == 10


def record(epoch, **values):
    means = {"loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5, "grad_norm": 0.5}
    return {"epoch": epoch, "max_grad_norm": 2.0, **means, **values}


def test_the_training_log_is_read_as_it_is(capsys):
    falling = [record(n, loss=1 - n / 20, val_loss=1 - n / 90) for n in range(1, 11)]
    falling[3].update(grad_norm=1.5)
    lesson.explain_training(falling, flags())
    found = " ".join(capsys.readouterr().out.split())
    assert "epoch 5 to 10 loss changed by -0.250, val_loss only by -0.056" in found
    assert "The lowest val_loss was that of epoch 10." in found
    assert "val_accuracy went from 0.5000 to 0.5000" in found
    assert "was above --clip 1 in 1 of 10 epochs; the largest norm of a step" in found
    lesson.explain_training([record(1), record(2)], flags(clip=0.0))
    found = capsys.readouterr().out
    assert "by heart" not in found and "--clip" not in found


# --- forgetting ------------------------------------------------------------------------------


def test_the_first_letter_is_what_is_asked_for():
    batch = lesson.recall_batch(50, 7, "cpu")
    assert batch["name"].shape == (50, 8)
    assert batch["name_length"].tolist() == [8] * 50
    assert set(batch["name"].unique().tolist()) == {1, 2, 3, 4}
    torch.testing.assert_close(batch["label"], batch["name"][:, 0] - 1)


def test_a_near_letter_is_learned_and_a_far_one_is_not():
    args = flags(quick=False)
    for start in lesson.RECALL_STARTS:
        reach, right = lesson.train_to_recall(start, 1, args)
        assert reach > 0.1 and right > lesson.LEARNED
    reach, right = lesson.train_to_recall(lesson.RECALL_STARTS[0], 30, args)
    assert reach < 1e-6 and right < 0.4


def test_reach_equals_the_gradient_of_each_letters_state():
    model = make_model()
    names = torch.randint(1, 9, (3, 4))
    labels = torch.tensor([0, 1, 2])
    found = lesson.reach_of(model, {"name": names, "label": labels})
    shared = utils.gradient_by_distance(
        model.rnn,
        model.embed(names),
        lambda last: F.cross_entropy(model.output(last), labels),
    )
    assert found == pytest.approx(shared, rel=1e-4)
    weights = [p.detach() for p in model.rnn.parameters()]
    h = torch.zeros(3, 7, requires_grad=True)
    states = []
    for x_t in model.embed(names).detach().unbind(1):
        h = torch.tanh(x_t @ weights[0].T + h @ weights[1].T + weights[2] + weights[3])
        h.retain_grad()
        states.append(h)
    F.cross_entropy(model.output(h), labels).backward()
    lengths = [state.grad.norm(dim=1).mean().item() for state in states[::-1]]
    assert found == pytest.approx([n / lengths[0] for n in lengths], rel=1e-4)


# --- runs ------------------------------------------------------------------------------------


def test_compare_cell_at_equal_size(tmp_path):
    out = ("--out-dir", tmp_path / "out", "--no-plots")
    assert run_main(lesson, "--quick", "--compare", "cell", "--epochs", 1, *out) == 0
    sizes = [model["parameters"] for model in metrics(tmp_path)["models"].values()]
    assert len(sizes) == 3
    assert max(sizes) / min(sizes) < 1.02


def test_compare_clip_clips_where_it_says_so(tmp_path):
    config = {"letters": 9, "classes": 2, "embedding": 4, "cell": "rnn", "hidden": 4}
    found = lesson.variants(config, Namespace(compare="clip", clip=1.0))
    assert [(c["gain"], f["clip"]) for c, f in found.values()] == [
        (1.0, 1.0),
        (1.0, 0.0),
        (4.0, 1.0),
        (4.0, 0.0),
    ]


def test_a_folder_of_the_readers_own_and_a_prediction(tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    for label, letters in (("x", "abc"), ("y", "def")):
        names = ["".join(n) for n in product(letters, letters, letters)]
        (folder / f"{label}.txt").write_text("\n".join(names))
    (folder / "._x.txt").write_bytes(b"\0\5\xff")  # a Mac leaves such files
    more = ("--input", folder, "--epochs", 2, "--predict", "abc", "--no-plots")
    assert run_main(lesson, *more, "--out-dir", tmp_path / "out") == 0
    assert "abc: " in capsys.readouterr().out
    assert metrics(tmp_path)["real"] is False


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "0 .txt files"),
        ({"a.txt": "x"}, "1 .txt files"),
        ({"a.txt": "x", "b.txt": "y"}, "too few"),
    ],
)
def test_a_folder_that_cannot_be_used(tmp_path, capsys, files, words):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    assert run_main(lesson, "--input", folder, "--out-dir", tmp_path / "out") == 2
    assert words in one_sentence(capsys)


def test_a_model_of_other_languages_is_refused(tmp_path, capsys):
    path = tmp_path / "model.pt"
    out = ("--out-dir", tmp_path / "out", "--path", path, "--no-plots")
    folders = []
    for labels in ("xy", "xz"):
        folder = tmp_path / labels
        folder.mkdir()
        folders.append(folder)
        for label in labels:
            names = [label + a + b for a, b in product("abcdef", "ghijkl")]
            (folder / f"{label}.txt").write_text("\n".join(names))
    train = ("--input", folders[0], "--save-model", "--epochs", 1)
    assert run_main(lesson, *train, *out) == 0
    capsys.readouterr()
    assert run_main(lesson, "--input", folders[1], "--eval-only", *out) == 2
    assert "z" in one_sentence(capsys)


# --- --letter-groups -------------------------------------------------------------------


def test_groups_are_those_of_two_names_and_add_their_weights():
    """A group of one name alone is left out; the scores are the network's plus theirs."""
    groups = lesson.known_groups([("ab", "x"), ("abc", "y")])
    assert set(groups) == {"a", "b", "ab", " a", " ab", " "}
    ids = lesson.group_ids(["ab", "zz"], groups)  # zz: its ends alone
    assert sorted(groups[i - 1] for i in ids[0].tolist()) == sorted(groups)
    assert ids[1].tolist() == [groups.index(" ") + 1] + [0] * (len(groups) - 1)
    model = make_model(groups=len(groups))
    names, lengths = torch.tensor([[1, 2], [3, 3]]), torch.tensor([2, 2])
    plain = make_model()
    plain.load_state_dict(model.state_dict(), strict=False)
    nn.init.normal_(model.group_weights.weight)
    model.group_weights.weight.data[0] = 0
    weights = model.group_weights.weight
    added = torch.stack([weights[ids[0]].sum(0), weights[groups.index(" ") + 1]])
    torch.testing.assert_close(
        model(names, lengths, ids), plain(names, lengths) + added
    )


def test_a_network_with_groups_is_saved_asked_and_not_told_the_answer(tmp_path, capsys):
    """It learns the toy, its groups are of training alone, and --eval-only agrees."""
    data, config = toy_data(flags(letter_groups=True))
    assert set(data.groups) == set(lesson.known_groups(data.parts[0]))
    assert config["groups"] == len(data.groups)
    where = [
        "--path",
        tmp_path / "m.pt",
        "--out-dir",
        tmp_path,
        "--quick",
        "--no-plots",
    ]
    asked = ["--predict", "Rossi", "--dataset", "sample"]
    run_main(lesson, "--letter-groups", "--save-model", *where, *asked)
    first = capsys.readouterr().out
    run_main(lesson, "--eval-only", *where, *asked)
    again = capsys.readouterr().out
    line = next(row for row in first.splitlines() if row.startswith("Rossi:"))
    assert line in again
