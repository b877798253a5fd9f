"""Lesson 01: what it writes by hand equals PyTorch's, and what it claims is so."""

import contextlib
import io
import itertools
import json
import math
import re
from argparse import Namespace

import pytest
import torch
from conftest import load_lesson, run_main
from torch import nn

import rnn_utils

lesson = load_lesson("01_sequence_basics")

B, T, F, H = 3, 7, 5, 4  # all distinct, so that a transposed shape cannot pass
ARGS = Namespace(seed=0, device="cpu", batch_size=32, quick=False, sequence_length=12)
LENGTHS = [5, 3, 3, 1]


@pytest.fixture(scope="module")
def parts():
    """The default data: training and held-out Examples."""
    train_words, test_words = lesson.split(lesson.make_words(12, lesson.PAIRS))
    return lesson.to_examples(train_words), lesson.to_examples(test_words)


@pytest.fixture(scope="module")
def trained(parts):
    """The models of the default run."""
    models = {"sum": lesson.SumClassifier()}  # 0.5 with any weights
    for name in ("linear", "rnn"):
        models[name], _ = lesson.train_from_seed(name, parts[0], ARGS)
    return models


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    """What one --quick run printed, and the folder that it wrote to."""
    folder = tmp_path_factory.mktemp("quick") / "out"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        flags = ("--quick", "--out-dir", folder, "--batch-size", 1600)
        assert run_main(lesson, *flags) == 0
    return printed.getvalue(), folder


# Data


@pytest.mark.parametrize("length", [2, 5, 12, 100])
def test_words_and_labels(length):
    """One A, one B, else fillers; the label says which comes first; half and half."""
    words = lesson.make_words(length, 200)
    assert len(words) == len(set(words)) > 0
    for word in words:
        assert len(word) == length and word.count("A") == word.count("B") == 1
        assert set(word) <= set("ABCDE")
    examples = lesson.to_examples(words)
    assert examples.labels.tolist() == [int(w.index("A") < w.index("B")) for w in words]
    assert examples.labels.sum() * 2 == len(words)


@pytest.mark.parametrize("length", [5, 12])
def test_twins_stay_together_and_nothing_held_out_is_trained_on(length):
    """A twin on the other side, or a repeat, would only have to be remembered."""
    train_words, test_words = lesson.split(lesson.make_words(length, lesson.PAIRS))
    assert not set(train_words) & set(test_words)
    assert len(test_words) == pytest.approx(0.2 * len(train_words + test_words), abs=2)
    for words in (train_words, test_words):
        for one, twin in zip(words[0::2], words[1::2], strict=True):
            assert twin == one.translate(str.maketrans("AB", "BA"))


def test_main_trains_on_one_part_and_asks_about_the_other(monkeypatch, tmp_path):
    """Asked about what it was trained on, a network would look better than it is."""
    seen = {}

    def stop(models, all_records, test, source, args):
        seen["test"] = test
        raise rnn_utils.UserError("enough")

    monkeypatch.setattr(
        lesson, "train_all", lambda part, *_: (seen.update(train=part), None)
    )
    monkeypatch.setattr(lesson, "report", stop)
    assert run_main(lesson, "--seed", 7, "--out-dir", tmp_path) == 2
    # And --seed changes neither the data nor the split.
    train_words, test_words = lesson.split(lesson.make_words(12, lesson.PAIRS))
    assert seen["train"].words == train_words and seen["test"].words == test_words


def test_one_hot_by_hand():
    """A is the first feature, and padding is a step of zeros."""
    expected = [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert lesson.one_hot(torch.tensor([[1, 0, 5]])).tolist() == [expected]
    assert lesson.encode("CABED") == [3, 1, 2, 5, 4]


# The two rivals


def test_sum_model_cannot_tell_twins_apart(parts):
    """Whatever its weights: equal scores for twins, so exactly half is right."""
    for seed in range(3):
        torch.manual_seed(seed)
        model = lesson.SumClassifier()
        scores = model(parts[1].x)
        assert torch.equal(scores[0::2], scores[1::2])
        assert lesson.accuracy(model, parts[1]) == 0.5


def test_linear_layer_has_weights_for_one_length():
    """2 T F + 2 of them, and no other length fits."""
    model = lesson.LinearClassifier(T)
    assert rnn_utils.count_parameters(model) == 2 * T * F + 2
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.zeros(B, T + 1, F))


# The recurrent step


def test_step_equals_rnn_cell():
    """Output and all gradients, in float64: an exchanged weight or lost bias shows."""
    torch.manual_seed(1)
    cell = nn.RNNCell(F, H).double()
    x = torch.randn(F, dtype=torch.double)
    h = torch.randn(H, dtype=torch.double)
    ours = lesson.rnn_step(x, h, *cell.parameters())
    theirs = cell(x, h)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)
    weights = list(cell.parameters())
    goal = torch.randn(H, dtype=torch.double)
    for a, b in zip(
        torch.autograd.grad(ours @ goal, weights),
        torch.autograd.grad(theirs @ goal, weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_loop_equals_rnn():
    """Every state and all gradients: h starts at 0 and is carried from step to step."""
    torch.manual_seed(2)
    rnn = nn.RNN(F, H, batch_first=True).double()
    x = torch.randn(B, T, F, dtype=torch.double)
    goal = torch.randn(B, T, H, dtype=torch.double)
    weights = list(rnn.parameters())
    ours = torch.stack([lesson.rnn_by_hand(row, *weights) for row in x])
    theirs, _ = rnn(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
    for a, b in zip(
        torch.autograd.grad((ours * goal).sum(), weights),
        torch.autograd.grad((theirs * goal).sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [2, 12, 100, 200])
def test_weights_by_hand_know_the_order_at_any_length(length):
    """The lesson says so of lengths that no model of it is trained on."""
    examples = lesson.to_examples(lesson.make_words(length, 100))
    assert lesson.accuracy(lesson.classifier_by_hand(), examples) == 1.0


def test_printed_step_by_hand(capsys):
    """The numbers that a reader follows with a pencil, against tanh worked out here."""
    lesson.show_one_step()
    out = capsys.readouterr().out
    after_a = math.tanh(2)
    after_b = math.tanh(-2 + 4 * after_a)
    assert f"tanh( 2.000) = {after_a:>6.3f}" in out
    assert f"CAB: h_3 = {after_b:.3f}, so A came first: right" in out
    assert f"CBA: h_3 = {-after_b:.3f}, so B came first: right" in out


def test_the_first_exercise(monkeypatch, capsys):
    """With W_hh = 1 both words go wrong, as its answer says, and so does every other."""
    monkeypatch.setattr(lesson, "HAND_W_HH", 1.0)
    lesson.show_one_step()
    out = capsys.readouterr().out
    assert out.count("WRONG") == 2
    for length in (6, 12, 24):
        examples = lesson.to_examples(lesson.make_words(length, 100))
        assert lesson.accuracy(lesson.classifier_by_hand(), examples) == 0.0


# Sequences of unequal length


def test_padding_equals_utils_and_paper():
    """Grid and mask of three rows by hand, and of random rows as in rnn_utils."""
    ids, mask = lesson.pad_by_hand([[3, 4], [1, 2, 5], [2]])
    assert ids.tolist() == [[3, 4, 0], [1, 2, 5], [2, 0, 0]]
    assert mask.int().tolist() == [[1, 1, 0], [1, 1, 1], [1, 0, 0]]
    rows = [torch.randint(1, 6, (n,)).tolist() for n in LENGTHS]
    ids, mask = lesson.pad_by_hand(rows)
    theirs, lengths = rnn_utils.pad(rows)
    assert torch.equal(ids, theirs)
    assert torch.equal(mask, rnn_utils.length_mask(lengths, 5))


def test_masked_mean_does_not_see_padding():
    """Of each row and unit the mean over real items, whatever stands behind them."""
    torch.manual_seed(3)
    states = torch.randn(4, 8, H, dtype=torch.double)
    mask = rnn_utils.length_mask(torch.tensor(LENGTHS), 8)
    means = lesson.masked_mean(states, mask)
    assert means.shape == (4, H)
    for row, length, mean in zip(states, LENGTHS, means, strict=True):
        torch.testing.assert_close(mean, row[:length].mean(dim=0))
    other = torch.where(mask[:, :, None], states, 1e6)
    torch.testing.assert_close(lesson.masked_mean(other, mask), means)
    # The loss has one number a step: all real ones of the batch weigh the same.
    real = [loss for row, n in zip(states, LENGTHS, strict=True) for loss in row[:n, 0]]
    loss = lesson.masked_loss(states[:, :, 0], mask)
    torch.testing.assert_close(loss, torch.stack(real).mean())


def test_last_state_is_mended_twice_and_spoilt_twice():
    """Row by row: both remedies equal the word run alone, the others do not."""
    torch.manual_seed(5)
    rnn = nn.RNN(F, H, batch_first=True)
    found = lesson.last_states(rnn, ["BADEC", "CAB", "EDA", "A"])
    for way in ("length - 1", "h_n, packed"):
        torch.testing.assert_close(found[way], found["alone"], rtol=0, atol=1e-6)
    for way in ("last column", "h_n"):
        wrong = (found[way] - found["alone"]).abs().amax(1)
        assert wrong[0] < 1e-6
        assert (wrong[1:] > 0.01).all()


@pytest.mark.parametrize(
    "function, wanted",
    [
        (lesson.show_a_table, ["step 2       A     1  0  0  0  0   B     0  1  0"]),
        (lesson.show_the_linear_layer, ["-2 + 3 = +1", "+2 - 3 = -1"]),
        (lesson.show_what_rnn_returns, ["CAB    0.000   0.964   0.952", "CAB: yes"]),
        (lesson.show_why_tanh, ["-0.999           -384           128"]),
        (
            lesson.show_two_units,
            [
                "tanh(6 + 18 * 0.995 + 12 * -1.000 - 9 =   2.911) =  0.994",
                "states: yes",
            ],
        ),
        (
            lesson.show_padding,
            [
                "CAB      C A B . .   [3, 1, 2, 0, 0]   1 1 1 0 0        3",
                "5 of 15 cells",
            ],
        ),
        (lesson.show_padding, ["utils.length_mask give the same: yes"]),
        (lesson.show_spoilt_states, ["0.262   (0.000 + 0.462) / 2 = 0.231"]),
        (
            lesson.show_spoilt_states,
            ["0.217        0.217        0.354        0.354        0.354"],
        ),
        (
            lesson.show_spoilt_states,
            ["(0.2 + 0.4 + 3.0) / 3 = 1.200", "(0.2 + 0.4) / 2 = 0.300"],
        ),
        (lesson.show_loss, ["0.731      0.313", "for label 1: 0.313"]),
        (lesson.show_spoilt_states, ["has 10 items", "[3, 3, 2, 1, 1]"]),
        (lesson.show_spoilt_states, ["EA                   0.000   0.462   0.000"]),
    ],
)
def test_worked_examples_print_what_paper_says(function, wanted, capsys):
    """Numbers worked out on paper, and no difference from PyTorch or rnn_utils."""
    function()
    out = capsys.readouterr().out
    for text in wanted:
        assert text in out
    assert not re.search(r"\bNO\b", out)


# Training


def test_train_epoch_is_plain_gradient_descent():
    """One step of SGD by the loop, against the gradient itself; stale ones are gone."""
    torch.manual_seed(5)
    x = torch.randn(6, T, F, dtype=torch.double)
    y = torch.tensor([0, 1, 1, 0, 1, 0])
    model = lesson.RNNClassifier(H).double()
    before = [weight.detach().clone() for weight in model.parameters()]
    loss = nn.functional.cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 1e3)
    mean = lesson.train_epoch(model, optimizer, x, y, batch_size=6)
    assert mean == pytest.approx(loss.item(), abs=1e-12)
    for weight, old, gradient in zip(
        model.parameters(), before, gradients, strict=True
    ):
        torch.testing.assert_close(weight.detach(), old - 0.1 * gradient)


def test_train_epoch_goes_once_through_all_and_weighs_the_last_batch():
    """With batches of 4, 4 and 1, a mean of means would be another number."""
    torch.manual_seed(6)
    x = torch.randn(9, T, F)
    y = torch.randint(0, 2, (9,))
    model = lesson.RNNClassifier(H)
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    mean = lesson.train_epoch(model, frozen, x, y, batch_size=4)
    expected = nn.functional.cross_entropy(model(x), y).item()
    assert mean == pytest.approx(expected, abs=1e-6)


def test_same_seed_same_numbers(parts):
    """Whatever was drawn before; and another seed starts from other weights."""
    few = lesson.to_examples(parts[0].words[:40])
    runs = []
    for seed in (3, 3, 4):
        args = Namespace(**{**vars(ARGS), "seed": seed})
        _, records = lesson.train_from_seed("rnn", few, args, epochs=2)
        runs.append([record["loss"] for record in records])
        torch.rand(5)
    assert runs[0] == runs[1] != runs[2]


def test_what_the_default_run_claims(parts, trained):
    """Order is learned by the layer and by the network, not by the sum; lengths too."""
    test = parts[1]
    table = lesson.score_all(trained, {}, test, ARGS)
    assert table["sum"]["test_accuracy"] == 0.5
    assert table["linear"]["test_accuracy"] > 0.99 < table["rnn"]["test_accuracy"]
    assert table["linear"]["24 steps"] == "cannot" and table["rnn"]["6 steps"] > 0.99
    assert table["rnn"]["24 steps"] < 0.9 < table["by hand"]["24 steps"] == 1.0
    sizes = {name: line["parameters"] for name, line in table.items()}
    assert sizes["rnn"] == 5 * 8 + 8 * 8 + 8 + 8 + 2 * 8 + 2
    assert sizes["sum"] == 130 and sizes["linear"] == 122 and sizes["by hand"] == 12
    assert rnn_utils.count_parameters(lesson.LinearClassifier(100)) == 1002


def test_recorded_figures_are_those_of_the_default_run(parts, trained):
    """The docstring's table, but for what another processor rounds differently."""
    table = lesson.score_all({"rnn": trained["rnn"]}, {}, parts[1], ARGS)
    for name in ("rnn", "by hand"):
        line = re.search(rf"^ +{name} +(\d.*)$", lesson.__doc__, re.MULTILINE)
        size, _, *recorded = line.group(1).split()
        line = table[name]
        assert int(size) == line["parameters"]
        columns = ("test_accuracy", "6 steps", "18 steps", "24 steps")
        for column, shown in zip(columns, recorded, strict=True):
            assert float(shown) == pytest.approx(line[column], abs=0.03), column


# Evaluation


def test_accuracy_counts():
    """Three of four right is 0.75; and which ones they are."""
    scores = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 5.0]])
    examples = lesson.Examples(["a", "b", "c", "d"], scores, torch.tensor([0, 1, 1, 1]))
    assert lesson.accuracy(lambda x: x, examples) == 0.75


def test_few_are_few_and_of_the_training_part(monkeypatch):
    """The column of few examples: only they are learned from, all are asked."""
    seen = []
    monkeypatch.setattr(
        lesson,
        "train_from_seed",
        lambda name, examples, *_: (
            seen.append(examples) or lesson.new_model(name, 12),
            [{"loss": 0.0}],
        ),
    )
    monkeypatch.setattr(lesson, "train", lambda model, x, *_: seen.append(x))
    lesson.ask_second_question(ARGS, 200)
    train_part, _ = lesson.split_fours(lesson.make_fours(12, 100), "cpu")
    gaps, held_out = lesson.split_fours(lesson.make_fours(12, 100, 3), "cpu")
    assert len(seen) == 10  # the linear layer learns once, the others three times
    for first, gap_x, few in (seen[1:4], seen[4:7], seen[7:10]):
        assert first.words == train_part.words and torch.equal(gap_x, gaps.x)
        assert few.words == first.words[: lesson.FEW] and len(few.words) == 160
        assert torch.equal(few.x, first.x[:160]) and few.labels.sum() == 80
    assert not set(gaps.words) & set(held_out.words)


# The second question


@pytest.mark.parametrize(
    "length, longest_gap", [(5, 0), (6, 0), (12, 0), (24, 0), (12, 3), (24, 3)]
)
def test_fours_differ_in_nothing_but_the_answer(length, longest_gap):
    """A group holds the same letters; at each place, yes and no hold the same ones."""
    words = lesson.make_fours(length, 500, longest_gap)
    assert len(words) == len(set(words)) > 0
    examples = lesson.behind_the_a(words)
    gaps = set()
    for word, label in zip(words, examples.labels.tolist(), strict=True):
        assert len(word) == length
        assert word.count("A") == word.count("B") == 1
        gap, behind = re.search("A(E*)(.)", word).groups()
        assert behind == ("C" if label else "D") and len(gap) <= longest_gap
        assert f"B{gap}{'D' if label else 'C'}" in word
        gaps.add(gap)
        # A filler at least stands between the two: their pairs never mix.
        middle = re.search("[AB]E*[CD](.*)[AB]", word).group(1)
        assert middle and set(middle) <= set("CDE")
    assert len(gaps) == longest_gap + 1
    for start in range(0, len(words), 4):
        assert examples.labels[start : start + 4].tolist() == [1, 0, 1, 0]
        group = words[start : start + 4]
        assert len({"".join(sorted(word)) for word in group}) == 1
        for place in range(length):
            yes, also_no, also_yes, no = (word[place] for word in group)
            assert sorted([yes, also_yes]) == sorted([also_no, no])


def test_with_a_gap_counts_of_pairs_add_up_too():
    """The proof of part 4.2 holds for them: yes and no have the same pairs in all."""
    words = lesson.make_fours(12, 500, 3)
    met = 0
    for start in range(0, len(words), 4):
        if re.search("A[CD]", words[start]):
            continue
        met += 1
        pairs = [[a + b for a, b in itertools.pairwise(w)] for w in words[start:][:4]]
        assert sorted(pairs[0] + pairs[2]) == sorted(pairs[1] + pairs[3])
    assert met > 100
    # Held out are words of each gap, those with three E too.
    _, held_out = lesson.split_fours(words, "cpu")
    gaps = {re.search("A(E*)", word).group(1) for word in held_out.words}
    assert gaps == {"", "E", "EE", "EEE"}


def test_second_question_needs_more_than_a_weighted_sum(capsys, monkeypatch):
    """The networks learn it, the linear layer cannot; no group is on both sides."""
    parts = []
    split = lesson.split_fours
    monkeypatch.setattr(
        lesson, "split_fours", lambda *given: parts.append(split(*given)) or parts[-1]
    )
    table = lesson.ask_second_question(ARGS, lesson.PAIRS)
    train_part, test = parts[0]
    out = " ".join(capsys.readouterr().out.split())
    right = {name: line["12 letters"] for name, line in table.items()}
    assert right["linear"] < 0.6 and right["two layers"] > 0.9
    assert right["rnn"] > 0.98 and right["pair counts"] == right["by hand"] == 1.0
    # With a gap, what knows only neighbours guesses where it is not 0.
    for name in ("pair counts", "by hand"):
        assert 0.55 < table[name]["gaps"] < 0.7 and 0.55 < table[name]["gaps, 24"] < 0.7
    assert table["rnn"]["gaps"] > 0.99 > table["two layers"]["gaps"] > 0.9
    assert table["rnn"]["gaps, 24"] > 0.9
    assert table["rnn"]["few"] > 0.95 > table["two layers"]["few"]
    sizes = [table[name]["parameters"] for name in ("two layers", "pair counts", "rnn")]
    assert sizes == [1010, 52, 138]
    assert not set(train_part.words) & set(test.words)
    assert train_part.labels.sum() * 2 == len(train_part.words)
    assert test.labels.sum() * 2 == len(test.words)
    assert "the network alone is left" in out and "seven times as many" in out


@pytest.mark.parametrize("length", [5, 6, 12, 100])
def test_weights_by_hand_answer_the_second_question_at_any_length(length):
    """The note of part 2.5, at lengths that nothing was trained on."""
    examples = lesson.behind_the_a(lesson.make_fours(length, 100))
    assert lesson.accuracy(lesson.second_by_hand(), examples) == 1.0


def test_pair_counts_count_pairs():
    """Row: the left letter, column: the right one; weights one at a time."""
    model = lesson.PairCountClassifier()
    words = ["ACBD", "CCCA", "EDED"]
    x = lesson.to_examples(["ACBD", "CBAC"]).x.new_zeros(3, 4, 5)
    for number, word in enumerate(words):
        x[number] = lesson.one_hot(torch.tensor(lesson.encode(word)))
    with torch.no_grad():
        model.output.bias.zero_()
        for one, other in itertools.product("ABCDE", repeat=2):
            model.output.weight.zero_()
            place = 5 * "ABCDE".index(one) + "ABCDE".index(other)
            model.output.weight[1, place] = 1.0
            pairs = [[a + b for a, b in itertools.pairwise(word)] for word in words]
            expected = [float(row.count(one + other)) for row in pairs]
            assert model(x)[:, 1].tolist() == expected


# What the network notes down


def test_note_by_hand_is_the_first_letter(parts, capsys):
    """The lead's last column is the answer; with weights by hand the first counts."""
    test = parts[1]
    model = lesson.classifier_by_hand()
    leads = lesson.lead_of_a(model, test.x)
    assert torch.equal(leads[:, -1] > 0, lesson.answers(model, test.x) == 1)
    first, second = lesson.first_and_second(["CAEBCC", "BCCA"])
    assert first.tolist() == [1, 0] and second.tolist() == [3, 3]
    lesson.show_the_note(model, test, Namespace(**vars(ARGS), no_plots=True))
    out = capsys.readouterr().out
    assert "the first of A and B     1.0000" in out
    assert "which came *last*" not in out


def test_trained_note_is_the_last_letter(parts, trained, capsys):
    """What part 4.3 says of the default run."""
    args = Namespace(**vars(ARGS), no_plots=True)
    lesson.show_the_note(trained["rnn"], parts[1], args)
    out = capsys.readouterr().out
    assert '"which came *last*"' in out
    assert re.search(r"right after the first of A and B +0\.0", out)


# How far back


def test_follow_the_note(parts):
    """Its last row is what the model answers; the weights by hand hold their note."""
    words = lesson.add_fillers(parts[1].words[:40], 30)
    examples = lesson.to_examples(words)
    by_hand = lesson.classifier_by_hand()
    right, of_a, of_b, apart = lesson.follow_the_note(by_hand, examples)
    assert right.shape == of_a.shape == of_b.shape == apart.shape == (42,)
    assert right[-1] == 1.0 and of_a[-1] > 1.9 < apart[-1] and of_b[-1] < -1.9
    torch.manual_seed(8)
    model = lesson.RNNClassifier()
    right, of_a, of_b, apart = lesson.follow_the_note(model, examples)
    assert right[-1].item() == pytest.approx(lesson.accuracy(model, examples))
    scores = model(examples.x).detach()
    lead = scores[:, 1] - scores[:, 0]
    torch.testing.assert_close(of_a[-1], lead[examples.labels == 1].mean())
    torch.testing.assert_close(of_b[-1], lead[examples.labels == 0].mean())
    states = model.rnn(examples.x)[0].detach()
    expected = [(states[n] - states[n + 1]).abs().amax(1) for n in range(0, 40, 2)]
    torch.testing.assert_close(apart, torch.stack(expected).mean(dim=0))


@pytest.mark.parametrize("length", [5, 12, 100])
def test_print_how_long(length, capsys):
    """Counted are the mistakes; at no fillers it is the accuracy; dots are read."""
    torch.manual_seed(8)
    model = lesson.RNNClassifier()
    test = lesson.to_examples(lesson.make_words(length, 50))
    args = Namespace(**{**vars(ARGS), "sequence_length": length})
    lesson.print_how_long(model, test, args)
    out = " ".join(capsys.readouterr().out.split())
    longer = lesson.to_examples(lesson.make_words(2 * length, lesson.OTHER_PAIRS))
    counts = {True: [0, 0], False: [0, 0]}  # is the wait known: wrong, all
    said = lesson.answers(model, longer.x)
    for word, answer, label in zip(longer.words, said, longer.labels, strict=True):
        wait = len(word.replace("B", "A").split("A")[-1])
        counts[wait <= length - 2][0] += int(answer != label)
        counts[wait <= length - 2][1] += 1
    assert "as in training: {} of {} are wrong".format(*counts[True]) in out
    assert "more: {} of {} are wrong".format(*counts[False]) in out
    assert f" 0 {lesson.accuracy(model, test):.4f} " in out
    dots = nn.functional.pad(test.x, (0, 0, 0, length))
    spoilt = (lesson.answers(model, dots) == test.labels).float().mean()
    assert f"{spoilt:.4f} are right in the last column of states" in out
    mended = lesson.accuracy(model, test)  # at length - 1 no dot has been read
    assert f"(part 2.7), {mended:.4f} are right" in out


@pytest.mark.parametrize(
    "a, b, apart, said",
    [
        (-0.5, -0.5, 0.05, "the note fades"),
        (3.0, 2.0, 1.2, "on one side"),
        (-3.0, -2.0, 1.2, "on one side"),
        (-3.0, 2.0, 1.2, "changed sides"),
        (3.0, -2.0, 1.2, "the note is kept"),
    ],
)
def test_the_ways_to_lose_a_note_are_told_apart(
    a, b, apart, said, parts, monkeypatch, capsys
):
    """What is printed of them follows from the last row of the table."""
    rows = [torch.full((24,), value) for value in (0.5, a, b, apart)]
    monkeypatch.setattr(lesson, "follow_the_note", lambda *_: rows)
    lesson.print_how_long(lesson.RNNClassifier(), parts[1], ARGS)
    case = capsys.readouterr().out.split("Reading it:")[-1].splitlines()[0]
    assert said in case


def test_fillers_change_neither_the_question_nor_the_twins():
    """Else the network might fail, or be right, for another reason."""
    words = lesson.make_words(12, 20)
    longer = lesson.add_fillers(words, 88)
    assert [word[:12] for word in longer] == words
    assert {len(word) for word in longer} == {100}
    ends = [word[12:] for word in longer]
    assert ends[0::2] == ends[1::2] and len(set(ends)) == 20
    assert set("".join(ends)) == set("CDE")


def test_trace_and_gradient_against_their_definitions():
    """The states' difference by running each twin; the gradient by a small change."""
    torch.manual_seed(7)
    model = lesson.RNNClassifier().double()
    examples = lesson.to_examples(["CADBC", "CBDAC"])
    apart, gradient = lesson.trace_and_gradient(model, examples)
    x = examples.x.double()
    with torch.no_grad():
        one, twin = (model.rnn(row[None])[0][0] for row in x)
        torch.testing.assert_close(apart, (one - twin).abs().max(dim=1).values)
        assert apart[0] == 0 < apart[1]
        by_change = torch.zeros_like(x)
        for place in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
            losses = []
            for change in (1e-5, -1e-5):
                moved = x.clone()
                moved[tuple(place)] += change
                losses.append(
                    nn.functional.cross_entropy(model(moved), examples.labels)
                )
            by_change[tuple(place)] = (losses[0] - losses[1]) / 2e-5
    expected = by_change.norm(dim=2).mean(dim=0)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-8)


def test_100_steps_vanish():
    """What stops the learning: no trace of the letters arrives, and no gradient."""
    torch.manual_seed(0)
    words = lesson.add_fillers(lesson.make_words(12, 10), 88)
    model = lesson.RNNClassifier()
    apart, gradient = lesson.trace_and_gradient(model, lesson.to_examples(words))
    assert apart[11] > 1e-3
    assert apart[-1] < 1e-9
    assert gradient[11] < 1e-15 * gradient[-1]


# Runs


def test_quick_run_writes_what_the_scoreboard_reads(quick_run):
    """Names of the metrics; --quick caps a batch; pictures, one for each claim."""
    printed, folder = quick_run
    assert {path.name for path in folder.iterdir()} == {
        *("training.png", "note.png", "metrics.json")
    }
    result = json.loads((folder / "metrics.json").read_text())
    assert result["dataset"] == "generated" and result["real"] is False
    assert set(result["models"]) == {"sum", "linear", "rnn"}
    assert result["models"]["sum"] == {"test_accuracy": 0.5}
    assert result["baselines"] == {"majority": 0.5}
    metrics = result["metrics"]
    assert metrics["test_accuracy"] == result["models"]["rnn"]["test_accuracy"]
    # What is written is what was printed: the table's row, then part 4.6.
    row = re.search(
        r"^ +rnn +138 +\S+ +(\S+) +(\S+) +(\S+) +(\S+)$", printed, re.MULTILINE
    )
    names = ("test", "half_length", "longer_by_half", "double_length")
    for name, shown in zip(names, row.groups(), strict=True):
        assert f"{metrics[f'{name}_accuracy']:.4f}" == shown
    waiting = re.search(
        r"loss .* -> .* held-out sequences (\S+)$", printed, re.MULTILINE
    )
    assert f"{metrics['waiting_accuracy']:.4f}" == waiting.group(1)
    assert result["parameters"] == 138 and result["epochs_run"] == lesson.EPOCHS
    assert "12 epochs of 1 updates" in printed
    assert "same states for CAB: yes" in printed


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--sequence-length", 4], "no whole number from 5 to 100"),
        (["--batch-size", 1], "no whole number from 2 to"),
        (["--batch-size", 1601], "give 1600 or less"),
    ],
)
def test_limits_of_the_flags(flags, words, tmp_path, capsys):
    """Refused in one sentence before anything is printed."""
    assert run_main(lesson, *flags, "--out-dir", tmp_path) == 2
    out, err = capsys.readouterr()
    assert words in err and len(err.splitlines()) == 1 and not out
