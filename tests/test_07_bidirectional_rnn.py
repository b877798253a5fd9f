"""Lesson 07: two directions equal PyTorch's, padding is nothing, tags count real words."""

import json
import random
import re
from argparse import Namespace
from collections import Counter
from itertools import pairwise, product

import pytest
import torch
from conftest import (
    ROOT,
    load_lesson,
    metrics,
    one_sentence,
    refusal,
    run_main,
    written,
)
from sklearn.metrics import f1_score
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnn_utils as utils

lesson = load_lesson("07_bidirectional_rnn")
TASKS = ("classify", "tag")
BOTH, FORWARDS = lesson.BOTH, lesson.FORWARDS


@pytest.fixture(autouse=True)
def seeded():
    utils.set_seed(0)


def make_config(task, **changes):
    shape = {"words": 11, "classes": 3, "cell": f"lstm, {BOTH}", "hidden": 7}
    shape |= {"layers": 1, "dropout": 0.0}
    own = {"first_rare": 9, "letters": True} if task == "tag" else {"pairs": []}
    shape |= own
    return {**shape, **changes}


def make_model(task, **changes):
    return lesson.NETWORKS[task](**make_config(task, **changes)).double().eval()


def make_batch(task, n=6, width=8):
    """Texts of different lengths; the padding of words, letters and tags is as usual."""
    lengths = torch.randint(1, width + 1, (n,))
    lengths[0] = width
    real = utils.length_mask(lengths, width)
    text = torch.randint(2, 11, (n, width)).masked_fill(~real, 0)
    batch = {"text": text, "text_length": lengths}
    if task == "classify":
        return batch | {"label": torch.randint(0, 3, (n,))}
    table = torch.randint(3, 200, (11, 5))  # how each word is spelled
    table[:6, 3:] = 0
    labels = torch.randint(0, 3, (n, width)).masked_fill(~real, lesson.NO_TAG)
    return batch | {"letters": table[text], "label": labels}


def wider(batch, more=3):
    """The same texts in a wider batch, with rubbish in the padding of words and letters."""
    width = batch["text"].shape[1] + more
    real = utils.length_mask(batch["text_length"], width)
    wide = dict(batch)
    text = nn.functional.pad(batch["text"], (0, more))
    wide["text"] = text.masked_fill(~real, 4)
    if "letters" in batch:
        letters = nn.functional.pad(batch["letters"], (0, more, 0, more))
        rubbish = torch.randint(3, 200, letters.shape)
        wide["letters"] = torch.where(real.unsqueeze(2), letters, rubbish)
        labels = nn.functional.pad(batch["label"], (0, more))
        wide["label"] = labels.masked_fill(~real, lesson.NO_TAG)
    return wide


def outcome(model, batch):
    """Scores where there is something to answer, losses, hits, all gradients."""
    model.zero_grad()
    values = lesson.measure(model, batch)
    values["loss"].mean().backward()
    scores = model(batch)[batch["label"] != lesson.NO_TAG]
    gradients = [weight.grad.clone() for weight in model.parameters()]
    return [scores, values["loss"], values["accuracy"], *gradients]


# --- two directions, against PyTorch ------------------------------------------------------


@pytest.mark.parametrize("cell, layers", [*product(lesson.CELLS, (1, 3))])
def test_the_reader_equals_the_packed_layer_outputs_and_gradients(cell, layers):
    """On a padded batch, in no order of length; gradients of the input too."""
    options = {"batch_first": True, "bidirectional": True}
    theirs = lesson.CELLS[cell](5, 4, layers, **options).double()
    ours = lesson.Reader(5, cell, True, 4, layers, 0.0).double()
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        mine.data.copy_(yours.data)
    x = torch.randn(3, 6, 5, dtype=torch.double, requires_grad=True)
    lengths = torch.tensor([2, 6, 3])
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]
    states = ours(x, lengths) * utils.length_mask(lengths, 6).unsqueeze(2)
    torch.testing.assert_close(states, expected)
    goal = torch.randn(3, 6, 8, dtype=torch.double)
    mine = torch.autograd.grad((states * goal).sum(), [x, *ours.parameters()])
    yours = torch.autograd.grad((expected * goal).sum(), [x, *theirs.parameters()])
    torch.testing.assert_close(mine, yours)


def test_two_cells_by_hand_equal_the_layer_and_the_reader():
    """Each row of a padded batch as if it stood alone."""
    layer = nn.LSTM(5, 4, batch_first=True, bidirectional=True).double()
    reader = lesson.Reader(5, "lstm", True, 4, 1, 0.0).double()
    for mine, yours in zip(reader.parameters(), layer.parameters(), strict=True):
        mine.data.copy_(yours.data)
    x = torch.randn(3, 6, 5, dtype=torch.double)
    lengths = torch.tensor([4, 6, 1])
    states = reader(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = x[row, :length]
        by_hand = lesson.two_directions_by_hand(alone, *lesson.cells_of(layer))
        torch.testing.assert_close(by_hand, layer(alone)[0])
        torch.testing.assert_close(by_hand, states[row, :length])


def test_words_are_turned_round_within_the_padding(capsys):
    """By hand for each length, and as rnn_utils turns rows of numbers."""
    lengths = torch.arange(7)
    x = torch.arange(6).expand(7, 6)
    ours = [[*reversed(range(n)), *range(n, 6)] for n in lengths.tolist()]
    assert utils.reverse_padded(x, lengths).tolist() == ours
    vectors = x.unsqueeze(2).expand(7, 6, 3)
    assert lesson.turn_words_round(vectors, lengths)[:, :, 2].tolist() == ours
    lesson.show_reading_backwards()
    assert "places [2, 1, 0, 3, 4]" in capsys.readouterr().out


def test_padding_harms_what_the_demonstration_says(capsys):
    """Packed equals alone; unpacked, only the left reader's state at the word does."""
    lesson.show_what_padding_does()
    lines = capsys.readouterr().out.splitlines()
    rows = [
        line.split()[-6:] for line in lines if line.startswith(("  alone", "  beside"))
    ]
    alone, packed, unpacked = [[float(cell) for cell in row] for row in rows]
    assert alone == packed
    assert alone[:2] == unpacked[:2]
    for place in (2, 4):  # b_1, h_n[0]
        pairs = zip(alone[place:][:2], unpacked[place:][:2], strict=True)
        assert max(abs(a - b) for a, b in pairs) > 0.05


def test_the_demonstrations_show_what_they_say(capsys):
    """Every gap is nothing, but for the one that is to be seen; a coin stays a coin."""
    lesson.show_two_directions_in_pytorch()
    said = capsys.readouterr().out
    assert said.count("equal") == 3 and "f_3: equal; b_3: 0.12 apart" in said
    lesson.show_two_cells()
    lesson.show_reader_equals_packing()
    words = capsys.readouterr().out.replace(",", "").split()
    gaps = [float(words[k - 1]) for k, word in enumerate(words) if word == "apart"]
    assert len(gaps) + words.count("equal") == 2 and max(gaps) < 1e-12
    forwards, not_looked = lesson.forecast_a_coin(both=False)
    both, looked = lesson.forecast_a_coin(both=True)
    assert not_looked == "equal" and float(looked.split()[0]) > 1
    assert both[:7].min() > 0.99
    assert 0.489 < both[7] < 0.511
    assert 0.489 < forwards[7] < 0.511 and 0.489 < forwards[:7].mean() < 0.511


def test_the_loss_with_padding_is_another(capsys):
    """The mean over real words, against the mean with a sixth word that is none."""
    lesson.show_loss_of_real_words()
    said = capsys.readouterr().out
    extra = -torch.tensor([1.2, 0.3, 0.9]).log_softmax(0)[0].item()
    assert said.count(" 0.4142") == 2
    assert f" {(2.071 + extra) / 6:.4f}" in said


# --- the networks -------------------------------------------------------------------------


@pytest.mark.parametrize("task, layers", [*product(TASKS, (1, 2))])
def test_padding_changes_neither_scores_nor_loss_nor_gradients(task, layers):
    """More of it, and rubbish in it."""
    model = make_model(task, layers=layers)
    batch = make_batch(task)
    torch.testing.assert_close(outcome(model, batch), outcome(model, wider(batch)))


@pytest.mark.parametrize("task", TASKS)
def test_without_packing_padding_comes_through_backwards_only(task):
    """What the flag is there to show."""
    batch = make_batch(task)
    for direction, same in ((BOTH, False), (FORWARDS, True)):
        model = make_model(task, cell=f"lstm, {direction}")
        model.reader.knows_lengths = False
        narrow = outcome(model, batch)[0]
        wide = outcome(model, wider(batch))[0]
        assert torch.allclose(narrow, wide) == same


@pytest.mark.parametrize("task, direction", [*product(TASKS, (BOTH, FORWARDS))])
def test_an_answer_does_not_depend_on_the_neighbours(task, direction):
    """Each text alone, cut to its length; and rows in another order."""
    model = make_model(task, cell=f"rnn, {direction}")
    batch = make_batch(task)
    together = model(batch)
    for row, length in enumerate(batch["text_length"].tolist()):
        one = {name: value[row : row + 1] for name, value in batch.items()}
        one["text"] = one["text"][:, :length]
        if task == "tag":
            one["letters"] = one["letters"][:, :length]
        alone = model(one)[0]
        expected = together[row, :length] if task == "tag" else together[row]
        torch.testing.assert_close(alone, expected)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    mixed = {name: value[order] for name, value in batch.items()}
    torch.testing.assert_close(model(mixed), together[order])
    gradients = outcome(model, batch)[3:]
    torch.testing.assert_close(outcome(model, mixed)[3:], gradients)


@pytest.mark.parametrize("direction", [BOTH, FORWARDS])
def test_who_sees_the_future(direction):
    """A changed word changes no forward state before it, and every backward one."""
    reader = lesson.make_reader(5, f"lstm, {direction}", 4, 1, 0.0).double()
    x = torch.randn(1, 8, 5, dtype=torch.double)
    changed = x.clone()
    changed[0, 5] += 1
    lengths = torch.tensor([8])
    moved = (reader(x, lengths) != reader(changed, lengths))[0]  # (8, D)
    assert moved[:, :4].any(1).tolist() == [False] * 5 + [True] * 3
    if direction == BOTH:
        assert moved[:, 4:].any(1).tolist() == [True] * 6 + [False] * 2


def test_pooling_takes_the_largest_value_at_a_real_word():
    model = make_model("classify")
    batch = make_batch("classify")
    states = model.reader(model.embed(batch["text"]), batch["text_length"])
    rows = []
    for row, length in enumerate(batch["text_length"].tolist()):
        rows.append(states[row, :length].max(0).values)
    expected = model.output(torch.stack(rows)).float()
    torch.testing.assert_close(model(batch), expected)


@pytest.mark.parametrize("layers, shapes", [(1, []), (2, [(3, 6, 8)])])
def test_dropout_acts_between_layers(layers, shapes):
    """Once for two layers, on what the first one hands up; never for one."""
    reader = lesson.Reader(5, "gru", True, 4, layers, 0.5)
    seen = []
    reader.dropout.register_forward_hook(lambda *a: seen.append(tuple(a[2].shape)))
    reader(torch.randn(3, 6, 5), torch.tensor([4, 6, 1]))
    assert seen == shapes


def filters_by_hand(x, filters):
    """The best fit of each filter of an nn.Conv1d on one word x (W, 32): (size,)."""
    width = filters.kernel_size[0]
    beyond = x.new_zeros(width // 2, x.shape[1])
    x = torch.cat([beyond, x, beyond])
    found = []
    for weight, bias in zip(filters.weight, filters.bias, strict=True):  # (32, width)
        windows = [x[place : place + width] for place in range(len(x) - width + 1)]
        fits = [(weight.T * window).sum() + bias for window in windows]
        found.append(max(fits).relu())
    return torch.stack(found)


def test_letter_filters_equal_a_loop_whatever_stands_beside_a_word():
    """By hand, alone, among longer words, in a wider table, in sentences."""
    filters = lesson.LetterFilters(6).double()
    letters = torch.tensor([[1, 70, 71, 2, 0, 0], [1, 72, 73, 74, 75, 2]])
    together = filters(letters)
    for row, length in ((0, 4), (1, 6)):
        x = filters.embed(letters[row, :length])
        both = [filters.three, filters.five]
        by_hand = torch.cat([filters_by_hand(x, some) for some in both])
        torch.testing.assert_close(together[row], by_hand)
        torch.testing.assert_close(filters(letters[row, :length]), by_hand)
    torch.testing.assert_close(filters(nn.functional.pad(letters, (0, 9))), together)
    sentences = letters[torch.tensor([[0, 1, 1], [1, 0, 0]])]  # (B, T, W)
    expected = together[torch.tensor([[0, 1, 1], [1, 0, 0]])]
    torch.testing.assert_close(filters(sentences), expected)


def test_only_words_seen_once_are_hidden_and_only_in_training():
    """About half of them become <unk>; frequent words never."""
    model = make_model("tag", words=40, first_rare=20, letters=False)
    nn.init.zeros_(model.embed.weight)
    model.embed.weight.data[utils.UNK_ID] = 1.0  # so that an <unk> can be seen
    words = torch.arange(2, 40).repeat(200, 1)
    model.train()
    hidden = model.vectors({"text": words})[:, :, 0] == 1.0
    assert not hidden[words < 20].any()
    assert 0.45 < hidden[words >= 20].float().mean() < 0.55
    model.eval()
    assert not model.vectors({"text": words}).any()


def test_one_word_in_five_of_a_review_is_hidden_in_training():
    """Any word, never padding; when it is asked, none."""
    model = make_model("classify", words=40)
    nn.init.zeros_(model.embed.weight)
    model.embed.weight.data[utils.UNK_ID] = 1.0  # so that an <unk> can be seen
    words = torch.arange(2, 40).repeat(200, 1)
    words[:, 30:] = 0
    model.train()
    hidden = model.vectors({"text": words})[:, :, 0] == 1.0
    assert not hidden[:, 30:].any()
    assert 0.17 < hidden[:, :30].float().mean() < 0.23
    assert 0.1 < hidden[:, :30].float().mean(0).min()
    model.eval()
    assert not model.vectors({"text": words}).any()


def test_pairs_are_those_that_a_plain_loop_finds():
    """The commonest pairs in order of their keys; none with <unk> or padding in it."""
    text = torch.randint(0, 8, (300, 9))
    text[0, :3] = torch.tensor([2, 1, 3])
    uses = Counter()
    for row in text.tolist():
        for first, second in pairwise(row):
            if first > utils.UNK_ID and second > utils.UNK_ID:
                uses[first * 8 + second] += 1
    assert lesson.common_pairs(text, 8) == sorted(uses)  # all of them are common
    chosen = sorted(uses)[::2]
    pairs = lesson.PairVectors(8, chosen)
    numbers = pairs.numbers(text).tolist()
    for row, found in zip(text.tolist(), numbers, strict=True):
        assert found[0] == 0
        for place, (first, second) in enumerate(pairwise(row)):
            key = first * 8 + second
            known = first > utils.UNK_ID and second > utils.UNK_ID and key in chosen
            assert found[place + 1] == (chosen.index(key) + 1 if known else 0)


def test_rare_pairs_have_no_vector(monkeypatch):
    """Those in training twice are left out, and of the others the commonest stay."""
    text = torch.tensor([[2, 3, 2, 3, 2, 3], [4, 5, 4, 5, 0, 0], [6, 7, 0, 0, 0, 0]])
    text = torch.cat([text, text[:1]])
    assert lesson.common_pairs(text, 8) == [2 * 8 + 3, 3 * 8 + 2]
    monkeypatch.setattr(lesson, "MOST_PAIRS", 1)
    assert lesson.common_pairs(text, 8) == [2 * 8 + 3]


def test_a_hidden_word_hides_its_pairs():
    """In training, a pair vector is there only where both of its words are."""
    model = make_model("classify", words=40, pairs=[20 * 40 + 21])
    nn.init.zeros_(model.embed.weight)
    model.embed.weight.data[utils.UNK_ID] = 1.0
    model.pairs.embed.weight.data[1] = 10.0
    words = torch.tensor([[20, 21]]).repeat(500, 1)
    assert (model.vectors({"text": words})[:, 1] == 10.0).all()
    model.train()
    x = model.vectors({"text": words})[:, :, 0]
    hidden = x[:, 0] == 1.0  # the first word; the second may be as well
    assert hidden.any()
    assert (x[hidden, 1] < 10.0).all()
    assert set(x[~hidden, 1].tolist()) == {1.0, 10.0}


@pytest.mark.parametrize("task", TASKS)
def test_overfits_a_tiny_batch(task):
    """Gradients reach every weight, and the labels belong to their texts."""
    more = {"first_rare": 11} if task == "tag" else {}
    model = lesson.NETWORKS[task](**make_config(task, hidden=24, **more))
    model.eval()  # no words hidden
    batch = make_batch(task)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        values = lesson.measure(model, batch)
        optimizer.zero_grad()
        values["loss"].mean().backward()
        optimizer.step()
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())
    assert values["accuracy"].all()
    assert values["loss"].mean() < 0.05


# --- the file of tagged words -------------------------------------------------------------

FILLER = "\t_\t_\t_\t_\t_\t_"
CONLLU = f"""\
# newdoc id = a
# sent_id = 1
# text = ten words follow here so that columns could be mistaken
1-2\tdon't\t_\t_{FILLER}
1\tdo\tdo\tAUX{FILLER}
2\tn't\tnot\tPART{FILLER}
3\tNew York\tNew York\tPROPN{FILLER}
3.1\tgone\tgo\tVERB{FILLER}

# sent_id = 2
1\t#\t#\tSYM{FILLER}
2\t_\t_\tPUNCT{FILLER}
"""


@pytest.mark.parametrize("newline, end", [("\n", ""), ("\r\n", "\n \n\n")])
def test_conllu(tmp_path, newline, end):
    """Comments, multiword tokens and empty nodes are no words; the last sentence counts."""
    text = (CONLLU + end).replace("\n", newline)
    assert lesson.read_tagged(written(tmp_path, "x.conllu", text)) == [
        [("do", "AUX"), ("n't", "PART"), ("New York", "PROPN")],
        [("#", "SYM"), ("_", "PUNCT")],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "EU\tORG\nrejects\tO\n\n#\tSYM\n",
        "EU ORG\nrejects   O\n\n# SYM\n",
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP ORG\nrejects VB B-VP O\n\n# S S SYM",
        "# a comment of ours\nEU\tORG\n# another\nrejects\tO\n\n#\tSYM\n",
        "-DOCSTART-\n\nEU ORG\nrejects O\n\n# SYM",
        "# sent_id = s1\nEU x y ORG\nrejects x y O\n\n# sent_id = s2\n# x y SYM\n",
    ],
)
def test_word_and_tag(tmp_path, text):
    """Two columns or more: the first and the last; "#" may be a word."""
    found = lesson.read_tagged(written(tmp_path, "x.txt", text))
    assert found == [[("EU", "ORG"), ("rejects", "O")], [("#", "SYM")]]


def test_whole_names_by_hand():
    """Begun, gone on with, cut short, of another kind, begun without B, at the end."""
    tags = ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-PER", "I-PER", "O", "I-ORG"]
    wanted = {("PER", 0, 2), ("LOC", 3, 4), ("LOC", 4, 5), ("PER", 5, 7), ("ORG", 8, 9)}
    assert lesson.names_in(tags) == wanted
    assert lesson.names_in(["O", "O"]) == set()
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]]
    data = tiny_data([], [[("x", tag) for tag in tags] for tags in true])
    found = {}
    for name, tags in (("some", "B-PER O O B-LOC O O"), ("none", "O O O O O O")):
        places = torch.tensor([data.labels.index(tag) for tag in tags.split()])
        scores = nn.functional.one_hot(places, len(data.labels))
        found[name] = lesson.name_scores(scores, data)
    assert found["some"] == {"precision": 0.5, "recall": 1 / 3, "f1": 0.4}
    assert found["none"] == {"precision": 0, "recall": 0, "f1": 0}
    plain = tiny_data([], [[("x", "NOUN")]])
    assert lesson.report_names("ours", {"ours": None}, plain) == {}


def test_names_of_a_numbered_file_are_scored(tmp_path, capsys):
    """A file of IOB tags, its words numbered: whole names are counted beside words."""
    rows = []
    for k in range(120):
        who = f"{'ABCDEFGHIJ'[k % 10]}nna{k}"
        words = [(who, "B-PER"), ("Berg", "I-PER"), ("saw", "O"), (f"x{k}", "O")]
        rows += [f"{n}\t{w}\t{t}\tO" for n, (w, t) in enumerate(words, start=1)]
        rows.append("")
    path = written(tmp_path, "own.tsv", "\n".join(rows))
    flags = ("--task", "tag", "--quick", "--no-plots", "--input", path)
    assert run_main(lesson, *flags, "--out-dir", tmp_path / "out") == 0
    assert "whole names counted" in capsys.readouterr().out
    assert 0 <= metrics(tmp_path)["metrics"]["test_name_f1"] <= 1


def test_numbered_words(tmp_path, capsys):
    """A first column that counts is no word; the tag after the word counts."""
    text = "#\ta source\n1\tKim\tB-PER\tO\n2\tsaw\tO\tO\n\n1\t1\tO\tO\n"
    found = lesson.read_tagged(written(tmp_path, "x.tsv", text))
    assert found == [[("Kim", "B-PER"), ("saw", "O")], [("1", "O")]]
    assert "numbers the words" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, line",
    [
        (CONLLU + "3\tone\tone\tNUM\n", 13),
        (CONLLU + f"3\tone\tone\tNUM{FILLER}\t_\n", 13),
        (CONLLU + f"x\tone\tone\tNUM{FILLER}\n", 13),
        (CONLLU + f"3\t\tone\tNUM{FILLER}\n", 13),
        (CONLLU + f"3\tone\tone\t_{FILLER}\n", 13),
        (CONLLU + "3 one one NUM _ _ _ _ _ _\n", 13),
        ("EU\tORG\nrejects\n", 2),
        ("EU\tORG\nrejects\t\n", 2),
        ("EU\tORG\n\tO\n", 2),
        ("EU ORG\nrejects O O\n", 2),
        ("EU ORG\nrejects\tO\n", 2),
        ("just\none\nword\n", 1),
    ],
)
def test_a_malformed_line_is_named(tmp_path, text, line):
    path = written(tmp_path, "x.conllu", text)
    assert f"line {line}:" in refusal(lesson.read_tagged, path)


def test_a_file_without_words(tmp_path):
    """Comments alone are no sentences; a folder is no file."""
    path = written(tmp_path, "x.conllu", "# nothing here\n\n")
    assert "no tagged words" in refusal(lesson.read_tagged, path)
    assert "cannot be read" in refusal(lesson.read_tagged, tmp_path)


def test_a_sentence_stands_in_one_part(tmp_path):
    """The same words, however tagged, stay together; 80/10/10 of the distinct ones."""
    args = Namespace(quick=False)
    lines = [f"w{k % 50}\tA{k // 50}\nend\tB\n" for k in range(150)]
    path = written(tmp_path, "x.txt", "\n".join(lines))
    parts = lesson.load_tagged(args, utils.Source("input", path, False))
    words = [{sentence[0][0] for sentence in part} for part in parts]
    assert [len(part) for part in words] == [40, 5, 5]
    assert [len(part) for part in parts] == [120, 15, 15]
    assert len(words[0] | words[1] | words[2]) == 50
    few = utils.Source("input", written(tmp_path, "y.txt", lines[0]), False)
    assert "10 or more" in refusal(lesson.load_tagged, args, few)


def test_ewt_takes_its_own_parts(tmp_path, monkeypatch):
    """Training, validation and test are the three files, capped by --quick."""
    monkeypatch.setattr(utils, "QUICK_PARTS", (2, 1, 1))
    for name, count in (("train", 5), ("dev", 3), ("test", 4)):
        text = f"1\t{name}\t_\tNOUN{FILLER}\n\n" * count
        written(tmp_path, f"en_ewt-ud-{name}.conllu", text)
    source = utils.Source("ewt", tmp_path, True)
    for quick, sizes in ((False, [5, 3, 4]), (True, [2, 1, 1])):
        parts = lesson.load_tagged(Namespace(quick=quick), source)
        assert [len(part) for part in parts] == sizes
        assert [part[0][0][0] for part in parts] == ["train", "dev", "test"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("Don't they know it's 3.5?", "Do n't they know it 's 3.5 ?"),
        ("well-known U.S. can’t", "well-known U.S . ca n’t"),
        ("She isn’t (we'll see)…", "She is n’t ( we 'll see ) …"),
    ],
)
def test_texts_are_cut_as_ewt_cuts_them(text, words):
    assert lesson.CUT.findall(text) == words.split()


# --- from the file to the tensors, and back -----------------------------------------------

TAGS = {"they": "PRON", "we": "PRON", "you": "PRON", "run": "VERB", "swim": "VERB"}
TAGS |= {"play": "VERB", "fast": "ADV", "now": "ADV", ".": "PUNCT"}
NAMES = ["".join(name) for name in product("BCDFGHJK", "aeiou", "lmnrt")]


def tagged_file(folder):
    """200 sentences, a word and its tag a line; most end in a name."""
    who = ["They", "We", "You"]
    lines = product(who, ["run", "swim", "play"], ["fast", "now", ""], ["", *NAMES])
    rows = []
    for line in random.Random(0).sample(list(lines), 200):
        words = [*filter(None, line), "."]
        rows += [f"{word}\t{TAGS.get(word.lower(), 'PROPN')}" for word in words]
        rows.append("")
    return written(folder, "own.tsv", "\n".join(rows))


def reviews_file(folder):
    """200 texts whose last word decides."""
    rows = product(["film", "plot"], NAMES, [("fine", "pos"), ("dull", "neg")])
    texts = [f'"The {a}, {b} says, is {c}.",{label}' for a, b, (c, label) in rows]
    return written(folder, "own.csv", "\n".join(["text,label", *texts[:200]]))


WRITE = {"classify": reviews_file, "tag": tagged_file}


def load(task, folder, *more):
    """Parsed flags, and the data of a small file."""
    argv = ["--task", task, "--input", str(WRITE[task](folder)), *more]
    argv += ["--out-dir", str(folder / "out"), "--no-plots"]
    args = utils.parse_flags(
        lesson.make_flags(),
        argv,
        "07_bidirectional_rnn.py",
        defaults=lambda args: lesson.DEFAULTS[args.task],
    )
    source = utils.Source("input", WRITE[task](folder), real=False)
    read = lesson.load_sentences if task == "tag" else lesson.load_reviews
    return args, read(args, source)


def test_batches_of_sentences_say_what_the_file_says(tmp_path):
    """Each word's id, letters and tag, wherever shuffling put its sentence."""
    _, data = load("tag", tmp_path, "--batch-size", "7")
    seen = 0
    for batch in data.train:
        for row, index in enumerate(batch["index"].tolist()):
            sentence = data.parts[0][index]
            assert batch["text_length"][row] == len(sentence)
            for place, (word, tag) in enumerate(sentence):
                token = data.vocabulary.tokens[batch["text"][row, place]]
                letters = batch["letters"][row, place].tolist()
                assert token == word.lower()
                assert [i for i in letters if i] == [1, *word.encode(), 2]
                assert data.labels[batch["label"][row, place]] == tag
                seen += 1
            assert (batch["label"][row, len(sentence) :] == lesson.NO_TAG).all()
    assert seen == sum(map(len, data.parts[0]))


def test_spelling_is_cut_after_twenty_bytes():
    assert lesson.spell("né") == [1, 110, 195, 169, 2]
    assert lesson.spell("n" * 30) == [1, *[110] * 20, 2]


def test_words_seen_once_are_the_last_of_the_vocabulary(tmp_path):
    """Counted in training alone."""
    _, data = load("tag", tmp_path)
    counts = Counter(
        word.lower() for line in data.parts[0] for word in lesson.words_of(line)
    )
    assert set(data.vocabulary.tokens[2:]) == set(counts)
    for word in data.vocabulary.tokens[2:]:
        assert (counts[word] == 1) == (data.vocabulary[word] >= data.first_rare)


def test_scores_count_real_words_only_in_the_order_of_the_file(tmp_path):
    """Against words picked sentence by sentence, each alone."""
    args, data = load("tag", tmp_path)
    config, _ = lesson.new_model(data, args)
    model = lesson.Tagger(**config).eval()
    answers = lesson.answer_all(model, data, lesson.TEST, args)
    truth = []
    alone = []
    new = []
    known = lesson.count_tags(data.parts[0])
    for sentence in data.parts[lesson.TEST]:
        words = lesson.words_of(sentence)
        alone.append(model(lesson.batch_of(words, data, args))[0])
        truth += [data.labels.index(tag) for _, tag in sentence]
        new += [word.lower() not in known for word in words]
    torch.testing.assert_close(answers, torch.cat(alone))
    assert lesson.truth_of(data, lesson.TEST, args).tolist() == truth
    said = answers.argmax(1).tolist()
    right = [a == b for a, b in zip(said, truth, strict=True)]
    found = lesson.score(answers, data, lesson.TEST, args)
    assert found["accuracy"] == pytest.approx(sum(right) / len(right))
    macro = f1_score(truth, said, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(macro)
    of_new = [hit for hit, is_new in zip(right, new, strict=True) if is_new]
    assert found["unseen_accuracy"] == pytest.approx(sum(of_new) / len(of_new))
    # And training: the mean over words, not over sentences or batches.
    scores = utils.evaluate(model, lesson.measure, data.test, args)
    assert scores["accuracy"] == pytest.approx(found["accuracy"])
    loss = nn.functional.cross_entropy(answers, torch.tensor(truth)).item()
    assert scores["loss"] == pytest.approx(loss, rel=1e-5)


def tiny_data(train, asked):
    labels = sorted({tag for line in [*train, *asked] for tag in lesson.tags_of(line)})
    source = utils.Source("sample", None, real=False)
    parts = [train, asked, asked]
    return lesson.Texts(source, parts, None, 0, labels, None, None, None)


def test_most_frequent_tag_by_hand():
    """The usual tag; the commonest of all for a new word, and where two are even."""
    train = [
        [("can", "AUX"), ("fish", "N")],
        [("Can", "AUX"), ("can", "N"), ("even", "V")],
        [("even", "N"), ("cat", "N")],
    ]
    asked = [[("can", "AUX"), ("even", "N")], [("dog", "N"), ("can", "N"), ("x", "V")]]
    data = tiny_data(train, asked)
    args = Namespace(task="tag")
    scores = lesson.most_frequent_tag(data, lesson.TEST)
    said = [data.labels[number] for number in scores.argmax(1).tolist()]
    assert said == ["AUX", "N", "N", "AUX", "N"]  # wrong: the second can, and x
    found = lesson.score(scores, data, lesson.TEST, args)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["ambiguous_accuracy"] == pytest.approx(2 / 3)
    assert found["unseen_accuracy"] == pytest.approx(1 / 2)
    counts = {word: dict(tags) for word, tags in lesson.count_tags(train).items()}
    assert counts["can"] == {"AUX": 2, "N": 1}
    assert counts["even"] == {"V": 1, "N": 1}


def test_the_linear_model_sees_the_next_word_if_it_may():
    """Before "the" a verb, else a noun; a tag of the test part alone gets no score."""
    train = []
    for name in NAMES:
        train.append([(name, "V"), ("the", "D"), ("x", "N")])
        train.append([(name, "N"), ("was", "V")])
    asked = [[("Zed", "V"), ("the", "D"), ("x", "N")], [("Zed", "N"), ("was", "Q")]]
    data = tiny_data(train, asked)
    args = Namespace(task="tag")
    answers = {}
    for after in (True, False):
        scores = lesson.linear_tagger(data, lesson.TEST, args, after)
        assert scores.shape == (5, 4) and not scores[:, data.labels.index("Q")].any()
        answers[after] = [data.labels[number] for number in scores.argmax(1).tolist()]
    assert answers[True] == ["V", "D", "N", "N", "V"]
    assert answers[False][0] == answers[False][3]
    (clues,) = lesson.clues_about([[("Time", "N")]], after=True)
    assert clues == [
        *("word time", "ending ime", "before <start>", "capital", "after <end>")
    ]
    clues = lesson.clues_about([[("a", "N"), ("b", "N"), ("c", "N")]], after=True)
    assert clues[1] == ["word b", "ending b", "before a", "after c"]
    alike = tiny_data([[("a", "N")]], [[("b", "N"), ("c", "V")]])
    rivals = lesson.tag_rivals(alike, lesson.TEST, args)
    assert all(scores.argmax(1).tolist() == [0, 0] for scores in rivals.values())
    rivals = lesson.tag_rivals(data, lesson.TEST, args)
    after = [data.labels[k] for k in rivals["linear_before_after"].argmax(1).tolist()]
    assert after == answers[True] and len(rivals) == 3


def test_what_helps_hides_letters_and_neighbours(tmp_path, monkeypatch, capsys):
    """All, then nothing after a word, nothing before it, it alone; then no letters."""
    args, data = load("tag", tmp_path)
    config, _ = lesson.new_model(data, args)
    model = lesson.Tagger(**config).eval()
    seen = []
    rated = []
    real, score = lesson.tag_scores, lesson.score

    def look(model, batches, args):
        seen.append(batches)
        return real(model, batches, args)

    def keep(scores, data, part, args):
        rated.append(scores)
        return score(scores, data, part, args)

    monkeypatch.setattr(lesson, "tag_scores", look)
    monkeypatch.setattr(lesson, "score", keep)
    lesson.show_what_helps(model, config, data, args)
    words = [lesson.words_of(line) for line in data.parts[lesson.TEST]]
    whole = torch.cat([model(lesson.batch_of(line, data, args))[0] for line in words])
    until, since, alone = [], [], []
    for line in words:
        for t in range(len(line)):
            pieces = (line[: t + 1], line[t:], line[t : t + 1])
            said = [model(lesson.batch_of(piece, data, args))[0] for piece in pieces]
            until.append(said[0][-1])
            since.append(said[1][0])
            alone.append(said[2][0])
    expected = [whole, *map(torch.stack, (until, since, alone))]
    assert len(rated) == 5
    for found, wanted in zip(rated, expected, strict=False):
        torch.testing.assert_close(found, wanted)
    assert not torch.allclose(rated[1], rated[0]) and len(rated[4]) == len(whole)
    blank = next(iter(seen[-1]))
    assert blank["letters"].unique().tolist() == [1, 2]
    assert next(iter(seen[0]))["letters"].max() > 2
    rows = capsys.readouterr().out.splitlines()
    assert any(row.split()[:3] == ["without", "what", "follows"] for row in rows)
    lesson.show_what_helps(model, config | {"letters": False}, data, args)
    assert len(rated) == 9 and "without letters" not in capsys.readouterr().out


def test_left_to_right_ceiling_by_hand():
    """After "they can" AUX is as frequent as V; "fish" then depends on "can" no more."""
    rest = [("in", "P"), ("cans", "N")]
    sentences = [
        [("they", "PRON"), ("can", "AUX"), ("fish", "V")],
        [("they", "PRON"), ("can", "V"), ("fish", "N"), *rest],
        [("they", "PRON"), ("can", "V"), ("fish", "N")],
    ]
    assert lesson.left_to_right_ceiling(sentences) == pytest.approx(9 / 11)
    # The word itself counts among what has been read.
    assert lesson.left_to_right_ceiling([[("a", "X")], [("b", "Y")]]) == 1


def test_the_winner_is_the_one_that_is_right_more_often(capsys):
    """Named by hand; 5 to 0 is what a coin does once in 16."""
    ours = torch.tensor([True] * 6 + [False] * 20)
    assert lesson.compare_right("ours", ours, "theirs", ~ours) == "theirs"
    assert lesson.compare_right("theirs", ~ours, "ours", ours) == "theirs"
    assert lesson.compare_right("a", ours[1:6], "b", ~ours[1:6]) is None
    said = capsys.readouterr().out.splitlines()
    assert "ours 6 times, theirs 20 times" in said[0]
    assert said[1].endswith("theirs wins.") and said[3].endswith("theirs wins.")
    assert "p = 0.062" in said[5] and "no winner" in said[5]
    many = torch.tensor([True] * 60)
    lesson.compare_right("a", many, "b", ~many)
    assert "p below 1e-12, more than chance: a wins." in capsys.readouterr().out
    assert lesson.marked(["A", "B"], ["A", "C"]) == ["✔ A", "✘ B"]


def test_the_small_trial_answers_the_title(tmp_path, capsys):
    """Both directions pass what no reader from left to right can; one does not.

    And the two readings of the opening differ only for who has read on.
    """
    argv = ["--out-dir", str(tmp_path), "--no-plots"]
    defaults = lambda args: lesson.DEFAULTS[args.task]
    args = utils.parse_flags(lesson.make_flags(), argv, "07.py", defaults=defaults)
    seen = {}
    show = lesson.show_opening

    def look(models, data, args):
        for name, model in models.items():
            batches = [
                lesson.batch_of(lesson.words_of(sentence), data, args)
                for sentence in lesson.OPENING
            ]
            seen[name] = [model(b)[0, lesson.RIDDLE].softmax(0) for b in batches]
        show(models, data, args)

    lesson.show_opening = look
    try:
        trial = lesson.run_small_trial(args)
    finally:
        lesson.show_opening = show
    ceiling = trial["ceiling, all sentences"]
    assert trial[BOTH] > 0.99 > ceiling
    assert trial[FORWARDS] < ceiling + 0.01
    torch.testing.assert_close(*seen[FORWARDS])
    assert (seen[BOTH][0] - seen[BOTH][1]).abs().max() > 0.9
    said = capsys.readouterr().out
    line = next(row for row in said.splitlines() if "most_frequent_tag" in row)
    assert line.split()[-4:-2] == ["0.8998", "0.4777"]
    assert f"{FORWARDS}: twice the same" in said
    assert "watches is 14 times VERB, 14 times NOUN." in said
    assert "1 - 0.5 * 337 / 1,757 = 0.9041" in " ".join(said.split())
    assert trial[BOTH] > trial["linear_before_after"] > ceiling


def test_the_answer_holds_recorded_figures(capsys):
    """Both networks, and for reviews each figure as the record has it."""
    for task in ("tag", "classify"):
        lesson.explain(task, {BOTH: 1.0, FORWARDS: 0.9})
        said = " ".join(capsys.readouterr().out.split()).split("90.0%.", 1)[1]
        assert "both directions" in said.lower() and "orwards only" in said
        assert len(re.findall(r"0\.\d{4}", said)) >= 2
    kept = []
    for name in ("results", "exercises"):
        lines = (ROOT / "benchmarks" / f"{name}.jsonl").read_text().splitlines()
        kept += [json.loads(line) for line in lines]
    rows = ("07-classify", "07-forwards", "07-tag", "07-tag-one")
    runs = [run for run in kept if run["row"] in rows]
    recorded = {f"{run['metrics']['test_accuracy']:.4f}" for run in runs}
    recorded |= {f"{rival:.4f}" for run in runs for rival in run["baselines"].values()}
    quoted = re.findall(r"0\.\d{4}", said)
    assert set(quoted) <= recorded


# --- two judges made into one -------------------------------------------------------------


def log_p(rows):
    return torch.tensor(rows, dtype=torch.double).log()


def test_two_judges_by_hand():
    """The example of the comment; then three classes, uneven w."""
    p = lesson.weigh(log_p([[0.1, 0.9]]), log_p([[0.6, 0.4]]), 0.5).exp()
    expected = torch.tensor([[0.290, 0.710]]).double()
    torch.testing.assert_close(p, expected, atol=5e-4, rtol=0)
    found = lesson.weigh(log_p([[0.2, 0.3, 0.5]]), log_p([[0.6, 0.3, 0.1]]), 0.2).exp()
    raw = [0.2**0.2 * 0.6**0.8, 0.3, 0.5**0.2 * 0.1**0.8]
    expected = torch.tensor([[share / sum(raw) for share in raw]]).double()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("classes", [2, 3])
def test_at_the_ends_one_judge_is_alone(classes):
    """w = 0 is the bag, w = 1 the network; scores that do not sum to 1 are made to."""
    network = torch.randn(50, classes).double().log_softmax(1)
    bag = torch.rand(50, classes)
    bag[0, 0] = 0.0  # a class that it rules out
    log_bag = lesson.log_chances(bag)
    assert log_bag.isfinite().all() and (log_bag.argmax(1) == bag.argmax(1)).all()
    torch.testing.assert_close(lesson.weigh(network, log_bag, 0.0), log_bag)
    torch.testing.assert_close(lesson.weigh(network, log_bag, 1.0), network)
    torch.testing.assert_close(
        log_bag[1:].exp().float(), bag[1:] / bag[1:].sum(1, True)
    )


def test_the_weight_has_the_lowest_loss():
    """A judge that knows nothing, or the reverse, counts nothing; halves share."""
    truth = torch.randint(0, 2, (400,))
    knows = torch.where(truth.unsqueeze(1) == torch.arange(2), 0.9, 0.1).double()
    wrong = (1 - knows).log()
    assert lesson.choose_weight(knows.log(), wrong, truth)[0] == 1.0
    w, losses = lesson.choose_weight(wrong, knows.log(), truth)
    assert w == 0.0 and len(losses) == 11
    loss = -torch.tensor([0.9, 0.1]).log()
    assert [losses[0], losses[10]] == pytest.approx(loss.tolist(), abs=1e-6)
    flat = torch.full((400, 2), 0.5).double().log()
    half = torch.arange(400).unsqueeze(1) < 200
    first = torch.where(half, knows.log(), flat)
    second = torch.where(half, flat, knows.log())
    assert lesson.choose_weight(first, second, truth)[0] == 0.5


def test_rivals_are_the_same_for_each_part_alone(tmp_path):
    """Fitted once, cut where the parts end."""
    _, data = load("classify", tmp_path)
    both = lesson.review_rivals(data, [lesson.VAL, lesson.TEST])
    for part, found in zip((lesson.VAL, lesson.TEST), both, strict=True):
        rows = (data.parts[0], data.parts[part], data.labels)
        expected = utils.review_baselines(*rows)
        assert found.keys() == expected.keys()
        for name, scores in expected.items():
            torch.testing.assert_close(found[name], scores)


def test_three_labels_are_judged_together(tmp_path, short):
    """Own data with three labels: network, bag and both to the end."""
    words = {"fine": "pos", "dull": "neg", "long": "other"}
    rows = product(["film", "plot"], NAMES, words.items())
    lines = [f'"The {a}, {b} says, is {c}.",{label}' for a, b, (c, label) in rows]
    path = written(tmp_path, "own.csv", "\n".join(["text,label", *lines[:300]]))
    assert run_small(tmp_path, "classify", "--input", path) == 0
    found = metrics(tmp_path)["metrics"]
    assert 0 <= found["weight_of_network"] <= 1
    assert found["val_loss_together"] <= found["val_loss"] + 1e-9
    assert 0 <= found["test_accuracy_together"] <= 1


# --- the program --------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch):
    """Leave out the two experiments that every run begins with."""
    trial = {BOTH: 1.0, FORWARDS: 0.9}
    monkeypatch.setattr(lesson, "run_small_trial", lambda args: trial)
    monkeypatch.setattr(lesson, "show_cheating", lambda: None)


def run_small(folder, task, *flags):
    """A run in this process on 200 short texts; returns the exit status."""
    fixed = ["--task", task, "--hidden-size", 16, "--quick", "--no-plots"]
    if "--input" not in flags and "--dataset" not in flags:
        fixed += ["--input", WRITE[task](folder)]
    return run_main(lesson, *fixed, "--out-dir", folder / "out", *flags)


def test_a_tagger_of_own_sentences_tags_new_ones(tmp_path, capsys, short):
    """On sentences this easy every word comes out right, a new name too."""
    flags = ["--task", "tag", "--input", tagged_file(tmp_path), "--epochs", 6]
    flags += ["--hidden-size", 16, "--batch-size", 8, "--no-plots"]
    flags += ["--out-dir", tmp_path / "out", "--predict", "We swim fast Hozo."]
    assert run_main(lesson, *flags) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "We/PRON swim/VERB fast/ADV Hozo/PROPN ./PUNCT"


def test_named_entities_in_columns(tmp_path, short):
    """Tags of the reader's own, between spaces, as in CoNLL-2003; another cell and way."""
    lines = [f"{name} NNP B-PER\nsleeps VBZ O\n. . O\n" for name in NAMES[:60]]
    text = "-DOCSTART- -X- O\n\n" + "\n".join(lines)
    path = written(tmp_path, "ner.txt", text)
    flags = ["--input", path, "--cell", "gru", "--unidirectional"]
    flags += ["--char-features", "none", "--predict", "Ba sleeps."]
    assert run_small(tmp_path, "tag", *flags) == 0
    found = metrics(tmp_path)
    assert (found["dataset"], found["real"]) == ("input", False)
    linear = {"linear_before", "linear_before_after"}
    assert set(found["baselines"]) == {"most_frequent_tag", *linear}
    config = torch.load(tmp_path / "out" / "last.pt", weights_only=True)["config"]
    assert config["cell"] == f"gru, {FORWARDS}"
    assert config["letters"] is False


@pytest.mark.parametrize("task", TASKS)
def test_no_packing_reaches_training_and_the_loaded_model(
    tmp_path, monkeypatch, task, short
):
    """The flag is no part of a model: what counts is how it is read now."""
    seen = []
    fit, report = utils.fit, lesson.report
    note = lambda kind, model: seen.append((kind, model.reader.knows_lengths))

    def fit_noted(model, *rest, **more):
        note("fit", model)
        return fit(model, *rest, **more)

    def report_noted(model, *rest):
        note("report", model)
        report(model, *rest)

    monkeypatch.setattr(utils, "fit", fit_noted)
    monkeypatch.setattr(lesson, "report", report_noted)
    path = ["--path", tmp_path / "model.pt"]
    assert run_small(tmp_path, task, "--no-packing", "--save-model", *path) == 0
    assert run_small(tmp_path, task, "--eval-only", *path) == 0
    assert run_small(tmp_path, task, "--eval-only", "--no-packing", *path) == 0
    expected = [("fit", False), ("report", False), ("report", True), ("report", False)]
    assert seen == expected


def test_the_best_epoch_is_that_of_most_right_answers(monkeypatch):
    """The lowest loss may be of another epoch: there, it is less sure where it errs."""
    seen = []
    monkeypatch.setattr(utils, "fit", lambda *rest, **more: seen.append(more))
    data = Namespace(train=None, val=None)
    args = Namespace(seed=0, task="tag", device="cpu", no_packing=False)
    lesson.train_model(make_config("tag"), data, args)
    assert seen == [{"monitor": "val_accuracy"}]


@pytest.mark.parametrize("task", TASKS)
def test_compare_direction_at_equal_weights(tmp_path, capsys, task):
    """Two networks within two percent of each other's size, in one table, with a test."""
    assert run_small(tmp_path, task, "--compare", "direction", "--unidirectional") == 0
    models = metrics(tmp_path)["models"]
    names = [name.rpartition(", ")[0] for name in models]
    assert names == [f"lstm, {BOTH}", f"lstm, {FORWARDS}"]
    assert "hidden 16" in next(iter(models))
    sizes = [model["parameters"] for model in models.values()]
    assert max(sizes) / min(sizes) < 1.02
    assert "McNemar" in capsys.readouterr().out


def test_a_model_of_other_texts_is_refused(tmp_path, capsys, short):
    """Its numbers of words mean other words, and its training may be this test."""
    path = ["--path", tmp_path / "model.pt"]
    assert run_small(tmp_path, "tag", "--save-model", *path) == 0
    own = tagged_file(tmp_path).read_text(encoding="utf-8")
    other = written(tmp_path, "other.tsv", own.replace("swim", "walk"))
    capsys.readouterr()
    assert run_small(tmp_path, "tag", "--input", other, "--eval-only", *path) == 2
    assert "trained on other texts" in one_sentence(capsys)
    assert run_small(tmp_path, "classify", "--eval-only", *path) == 2
    assert "was trained on task 'tag'" in one_sentence(capsys)


def test_a_data_set_of_the_other_task_is_refused(tmp_path, capsys):
    assert run_small(tmp_path, "tag", "--dataset", "imdb") == 2
    assert "--dataset ewt or sample" in one_sentence(capsys)
    assert run_small(tmp_path, "classify", "--dataset", "ewt") == 2
    assert "--dataset imdb or sample" in one_sentence(capsys)


def test_a_flag_that_is_given_wins_over_the_defaults_of_the_task(tmp_path):
    for task, wanted in lesson.DEFAULTS.items():
        args, _ = load(task, tmp_path)
        assert {name: getattr(args, name) for name in wanted} == wanted
        args, _ = load(task, tmp_path, "--epochs", "77")
        assert args.epochs == 77
        assert args.hidden_size == wanted["hidden_size"]


# --- the real sentences -------------------------------------------------------------------


@pytest.mark.real_data
def test_real_sentences_are_as_described(real_data):
    """Facts about EWT; and the baseline against a dict of dicts."""
    args = Namespace(quick=False, task="tag", no_packing=False, batch_size=32)
    args.device = "cpu"
    source = utils.Source("ewt", real_data / "ud-english-ewt", True)
    data = lesson.load_sentences(args, source)
    assert [len(part) for part in data.parts] == [12544, 2001, 2077]
    assert [sum(map(len, part)) for part in data.parts][::2] == [204577, 25094]
    assert set(data.labels) == set(lesson.TAG_MEANINGS)
    counts = {}
    for sentence in data.parts[0]:
        for word, tag in sentence:
            tags = counts.setdefault(word.lower(), dict.fromkeys(data.labels, 0))
            tags[tag] += 1
    right = 0
    unseen = 0
    for sentence in data.parts[lesson.TEST]:
        for word, tag in sentence:
            tags = counts.get(word.lower())
            unseen += tags is None
            most = max(tags.values()) if tags else 1
            best = [
                name for name in data.labels if (tags or {"NOUN": 1}).get(name) == most
            ]
            right += (best[0] if len(best) == 1 else "NOUN") == tag
    scores = lesson.most_frequent_tag(data, lesson.TEST)
    found = lesson.score(scores, data, lesson.TEST, args)
    assert unseen == int(lesson.kinds_of_words(data, lesson.TEST)[1].sum()) == 1882
    assert found["accuracy"] == pytest.approx(0.8615, abs=1e-4)
    assert found["accuracy"] == pytest.approx(right / 25094, abs=2e-4)
