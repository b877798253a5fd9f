"""Lesson 08: states, teacher forcing and search against plain loops; scores by hand."""

import itertools
import math
from argparse import Namespace

import pytest
import torch
from conftest import load_lesson, metrics, one_sentence, run_main
from torch import nn
from torch.nn import functional as F

import rnn_utils as utils

lesson = load_lesson("08_seq2seq_basic")
PAD, UNK, BOS, EOS = range(4)
CELLS = ["rnn", "lstm", "gru"]


@pytest.fixture(autouse=True)
def seeded():
    utils.set_seed(0)


def make_model(cell="lstm", words=9, sharp=1.0, **changes):
    """A small network in 64-bit numbers.  sharp: makes its answers more decided."""
    config = {"source_words": 9, "target_words": words, "embedding": 4, "hidden": 5}
    model = lesson.Seq2Seq(**{**config, "cell": cell, **changes}).double().eval()
    with torch.no_grad():
        model.output.weight *= sharp
    return model


SOURCE = [[4, 5, 6, 7], [8, 4], [5]]
TARGET = [[4, 5, EOS], [6, EOS], [7, 8, 4, EOS]]


def make_batch():
    source, source_length = utils.pad(SOURCE)
    target, target_length = utils.pad(TARGET)
    batch = {"source": source, "source_length": source_length}
    return batch | {"target": target, "target_length": target_length}


# --- encoder and decoder ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "reverse"), list(itertools.product(CELLS, [False, True]))
)
def test_state_is_that_after_the_last_real_word(cell, reverse):
    model = make_model(cell, reverse_source=reverse, layers=2)
    source, lengths = utils.pad(SOURCE)
    state = model.encode(source, lengths)
    for k, words in enumerate(SOURCE):
        read = words[::-1] if reverse else words
        _, alone = model.encoder(model.embed_source(torch.tensor([read])))
        parts = zip(lesson.rows_first(state), lesson.rows_first(alone), strict=True)
        for part, expected in parts:
            torch.testing.assert_close(part[k], expected[0])


def test_scores_equal_cells_written_out():
    model = make_model()
    source, lengths = utils.pad([[4, 5, 6]])
    target = torch.tensor([[7, 8, EOS]])
    cells = []
    for layer in (model.encoder, model.decoder):
        cell = nn.LSTMCell(4, 5).double()
        weights = zip(cell.state_dict(), layer.state_dict().values(), strict=True)
        cell.load_state_dict(dict(weights))
        cells.append(cell)
    state = None
    for word in source[0]:
        state = cells[0](model.embed_source(word[None]), state)
    expected = []
    for word in (BOS, 7, 8):  # the true words, one step behind
        state = cells[1](model.embed_target(torch.tensor([word])), state)
        expected.append(model.output(state[0]))
    torch.testing.assert_close(model(source, lengths, target)[0], torch.cat(expected))


@pytest.mark.parametrize("cell", CELLS)
def test_forced_in_one_call_equals_step_by_step(cell):
    model = make_model(cell, layers=2)
    batch = make_batch()
    state = model.encode(batch["source"], batch["source_length"])
    at_once = model.teacher_forced(state, batch["target"])
    given = lesson.shift(batch["target"])
    assert given[0].tolist() == [BOS, 4, 5, EOS]
    for t in range(given.shape[1]):
        scores, state = model.decode(given[:, t : t + 1], state)
        torch.testing.assert_close(at_once[:, t : t + 1], scores)


def test_free_running_is_given_its_own_answers():
    model = make_model(sharp=5)
    batch = make_batch()
    inputs = (batch["source"], batch["source_length"], batch["target"])
    free = model(*inputs, forced=False)
    own = free.argmax(-1)
    state = model.encode(*inputs[:2])
    given = F.pad(own[:, :-1], (1, 0), value=BOS)
    torch.testing.assert_close(free, model.decode(given, state)[0])
    other = (batch["target"] + 1) % 9  # the true words do not matter
    torch.testing.assert_close(free, model(*inputs[:2], other, forced=False))


@pytest.mark.parametrize("forcing", [1.0, 0.0])
def test_padding_changes_neither_loss_nor_gradient(forcing):
    model = make_model(reverse_source=True)
    model.train()  # no dropout in it; --teacher-forcing acts in training only
    measure = lesson.make_measure(forcing)
    losses = measure(model, make_batch())["loss"]
    assert len(losses) == sum(map(len, TARGET))
    together = torch.autograd.grad(losses.sum(), model.parameters())
    alone = []
    for source, target in zip(SOURCE, TARGET, strict=True):
        batch = {"source": torch.tensor([source]), "target": torch.tensor([target])}
        batch |= {"source_length": torch.tensor([len(source)])}
        alone.append(measure(model, batch)["loss"])
    alone = torch.cat(alone)
    torch.testing.assert_close(losses, alone)
    apart = torch.autograd.grad(alone.sum(), model.parameters())
    torch.testing.assert_close(together, apart)


def test_loss_and_accuracy_of_each_word_by_hand():
    model = make_model(sharp=3)
    batch = make_batch()
    found = lesson.make_measure(1.0)(model, batch)
    scores = model(batch["source"], batch["source_length"], batch["target"])
    losses = []
    right = []
    for k, words in enumerate(TARGET):
        for t, word in enumerate(words):
            losses.append(-scores[k, t].softmax(0)[word].log())
            right.append(scores[k, t].argmax() == word)
    torch.testing.assert_close(found["loss"], torch.stack(losses), check_dtype=False)
    assert found["accuracy"].tolist() == [bool(r) for r in right]


def test_teacher_forcing_is_a_share_of_training_batches():
    class Spy(nn.Module):
        def forward(self, source, lengths, target, forced):
            seen.append(forced)
            return torch.zeros(*target.shape, 9)

    measure = lesson.make_measure(0.3)
    for training, expected in ((True, 0.3), (False, 1.0)):
        seen = []
        spy = Spy().train(training)
        for _ in range(400):
            measure(spy, make_batch())
        assert sum(seen) / 400 == pytest.approx(expected, abs=0.08)


def test_a_tiny_batch_is_learned_by_heart():
    model = make_model(embedding=16, hidden=32).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    measure = lesson.make_measure(1.0)
    for _ in range(80):
        optimizer.zero_grad()
        values = measure(model, make_batch())
        values["loss"].mean().backward()
        optimizer.step()
    assert values["accuracy"].all()
    batch = make_batch()
    state = model.eval().encode(batch["source"], batch["source_length"])
    state = lesson.rows_first(state)
    limits = torch.full((3,), 9)
    found = utils.beam_search(lesson.make_advance(model), state, limits, 2)
    assert [[*ids, EOS] for ids, _ in found] == TARGET


# --- search ------------------------------------------------------------------------------


def advance_one(model):
    rows = lesson.make_advance(model)

    def advance(word, state):
        log_p, state = rows(torch.tensor([word]), state)
        return log_p[0].tolist(), state

    return advance


def score_of(model, source, words):
    """Mean log p of an answer's words, by one forced call: an oracle for both searches."""
    scores = model(*utils.pad([source]), torch.tensor([words])).log_softmax(-1)
    return scores[0, range(len(words)), words].mean().item()


@pytest.mark.parametrize("beam_size", [1, 2, 3, 6])
def test_search_by_hand_equals_the_shared_one(beam_size):
    model = make_model(sharp=6)
    source, lengths = utils.pad(SOURCE)
    state = lesson.rows_first(model.encode(source, lengths))
    limits = torch.tensor([4, 6, 3])
    shared = utils.beam_search(lesson.make_advance(model), state, limits, beam_size)
    for k in range(3):
        alone = tuple(part[k : k + 1] for part in state)
        limit = int(limits[k])
        best = lesson.beam_search_by_hand(advance_one(model), alone, limit, beam_size)
        words = [word for word in best.words if word != EOS]
        assert (words, best.log_p) == (shared[k][0], pytest.approx(shared[k][1]))
        assert best.log_p == pytest.approx(score_of(model, SOURCE[k], best.words))


@pytest.mark.parametrize("cell", CELLS)
def test_the_greedy_loop_equals_a_search_with_one_beginning(cell):
    model = make_model(cell, sharp=6, layers=2)
    for words in SOURCE:
        source, lengths = utils.pad([words])
        for limit in (1, 3, 7):
            steps = lesson.write_greedily(model, source, lengths, limit)
            state = lesson.rows_first(model.encode(source, lengths))
            ((ids, log_p),) = utils.beam_search(
                lesson.make_advance(model), state, torch.tensor([limit])
            )
            chosen = [word for _, word, _ in steps]
            assert [word for word in chosen if word != EOS] == ids
            assert [word for word, *_ in steps] == [BOS, *chosen[:-1]]
            ours = sum(math.log(chance) for *_, chance in steps) / len(steps)
            assert ours == pytest.approx(log_p, abs=1e-6)
            assert EOS not in chosen[:-1] and len(chosen) <= limit


@pytest.mark.parametrize("cell", CELLS)
def test_a_batch_is_written_as_each_source_alone(cell):
    model = make_model(cell, sharp=6, layers=2)
    source, lengths = utils.pad(SOURCE)
    for limit in (1, 3, 7):
        together = lesson.write_batch(model, source, lengths, limit)
        for words, row in zip(SOURCE, together.tolist(), strict=True):
            steps = lesson.write_greedily(model, *utils.pad([words]), limit)
            alone = [chosen for _, chosen, _ in steps]
            assert row == alone + [PAD] * (len(row) - len(alone))


def test_an_answer_is_right_if_there_is_no_slip():
    """With the true words given each is the likeliest: the same as written greedily."""
    model = make_model(sharp=6)
    source, lengths = utils.pad(SOURCE)
    written = lesson.write_batch(model, source, lengths, 5)
    targets = [[w for w in row if w != PAD] for row in written.tolist()]
    targets[1][0] = 4 if targets[1][0] != 4 else 5
    tensors = dict(zip(("target", "target_length"), utils.pad(targets), strict=True))
    tensors |= {"source": source, "source_length": lengths}
    slips = lesson.count_slips(model, utils.Batches(tensors, 2, "cpu", bucket="source"))
    assert len(slips) == 3
    scores = model(source, lengths, tensors["target"])
    for k, words in enumerate(targets):
        wrong = [int(scores[k, t].argmax()) != word for t, word in enumerate(words)]
        assert slips[k] == sum(wrong)
        allowed = all(int(scores[k, t].argmax()) >= EOS for t in range(len(words)))
        if allowed:
            assert (slips[k] == 0) == (k != 1)


def test_the_state_turned_round_and_back_is_the_same():
    for cell in CELLS:
        model = make_model(cell, layers=2)
        state = model.encode(*utils.pad(SOURCE))
        parts = lesson.rows_first(state)
        assert [part.shape for part in parts] == [(3, 2, 5)] * len(parts)
        torch.testing.assert_close(lesson.layers_first(parts), state)


def test_words_after_the_first_mistake_by_hand():
    """The model is replaced by its answers: with true words given, with its own."""
    target = torch.tensor(
        [
            [4, 5, 6, 6, 7, EOS],
            [7, 8, EOS, PAD, PAD, PAD],
            [4, 5, EOS, PAD, PAD, PAD],
        ]
    )
    answers = {
        True: [
            [4, 7, 6, 6, 8, EOS],
            [7, 8, EOS, PAD, PAD, PAD],
            [5, 5, EOS, PAD, PAD, PAD],
        ],
        False: [[4, 7, 8, 6, 8, EOS], [7, 8, EOS, 4, 4, 4], [5, 6, 4, 4, 4, 4]],
    }

    def model(source, lengths, target, forced):
        return F.one_hot(torch.tensor(answers[forced]), 9)

    batch = {"source": None, "source_length": None, "target": target}
    # After the mistakes: 6 6 7 of the first row, 5 of the third; <eos> is not counted.
    found = lesson.after_first_mistake(model, [batch])
    # Left are first 6 6 7, then 6 7, then 7; in the third row 5.
    counts = {"words": 4, "with_true": 3, "with_own": 1, "late": 0}
    assert {name: found[name] for name in counts} == counts
    assert found["guessed"] == pytest.approx(2 / 3 + 1 / 2 + 1 + 1)
    # 5 is left out, and written one place later.
    answers[False][0] = [4, 6, 5, 6, 7, EOS]
    assert lesson.after_first_mistake(model, [batch])["late"] == 1
    assert not lesson.after_first_mistake(model, [])


def test_a_wide_beam_finds_the_best_of_all_answers():
    for seed in range(4):
        torch.manual_seed(seed)
        model = make_model(words=6, sharp=8)
        state = lesson.rows_first(model.encode(*utils.pad([[4, 5, 6]])))
        best = lesson.beam_search_by_hand(advance_one(model), state, 3, 200)
        answers = []
        for length in range(3):
            for words in itertools.product((4, 5), repeat=length):
                answers.append([*words, EOS])
        answers += [list(words) for words in itertools.product((4, 5), repeat=3)]
        expected = max(score_of(model, [4, 5, 6], words) for words in answers)
        assert best.log_p == pytest.approx(expected)


def test_answers_are_put_in_their_places_whatever_the_batch():
    args = Namespace(device="cpu", max_length=4)
    pairs = [("3 1 4", "x"), ("1", "y"), ("2 7 1 8", "z"), ("5 9", "x")]
    words = utils.pair_vocabularies(pairs, 1)
    data = Namespace(vocabularies=words)
    model = make_model(words=len(words[1]), source_words=len(words[0]), sharp=5).float()
    texts = [source for source, _ in pairs]
    for beam_size in (1, 3):
        together, log_p = lesson.write_answers(model, data, texts, beam_size, args)
        for k, text in enumerate(texts):
            (alone,), (p,) = lesson.write_answers(model, data, [text], beam_size, args)
            assert alone == together[k]
            assert p == pytest.approx(log_p[k], rel=1e-4)


# --- scores and data -----------------------------------------------------------------------


def test_scores_by_hand():
    answers = ["1 2 3", "4 5", "6", "7 8 9 1"]
    truth = ["1 2 3", "4 5 6", "7", "7 8 1 9"]
    found = lesson.grade("reverse", answers, truth)
    # Right places: 3 of 3, 2 of 3, 0 of 1, 2 of 4.
    assert found == {"exact_match": 0.25, "token_accuracy": pytest.approx(7 / 11)}
    assert lesson.grade("translate", truth, truth)["bleu"] == pytest.approx(100)


def test_runs_by_hand():
    found = lesson.runs(["a", "b", "a", "b"], 2)
    assert dict(found) == {("a", "b"): 2, ("b", "a"): 1}


def test_bleu_by_counting_equals_sacrebleu(capsys):
    """Of one sentence, and of two together."""
    lesson.show_bleu()
    lines = [
        line for line in capsys.readouterr().out.splitlines() if "sacrebleu:" in line
    ]
    assert len(lines) == 2
    for line in lines:
        ours = line.split(" = ")[1].split(";")[0]
        assert ours == line.split("sacrebleu: ")[1]


def test_examples_come_from_all_over():
    assert lesson.spread(list(range(10)), 3) == [0, 3, 6]
    assert lesson.spread([4, 5], 3) == [4, 5]
    assert lesson.spread([], 3) == lesson.spread([1, 2], 0) == []


def test_steps_around_a_change_of_the_lead_are_shown():
    def kept(*words):
        return [lesson.Beginning(list(words), 0.0, None, ended=False)]

    history = [kept(5), kept(5, 7), kept(4, 6, 3), kept(4, 6, 3, 8), kept(4, 6, 3, 8)]
    assert lesson.steps_to_show(history) == [1, 2, 3, 5]
    assert lesson.steps_to_show(history[:1]) == [1]


def test_the_clearest_pair_is_short_and_repeats_no_word():
    pairs = [("3 3 5", "x"), ("1 2 3 4", "x"), ("6 1 4", "x")]
    assert lesson.clearest(pairs) == pairs[2]
    assert lesson.clearest(pairs[:1]) == pairs[0]


def test_the_loss_of_the_last_word_reaches_the_first_word_read(capsys):
    """Zero only for the word that was not read."""
    lesson.show_who_teaches_the_encoder()
    lines = capsys.readouterr().out.splitlines()
    norms = [float(line.split()[1]) for line in lines if line.startswith("  ")]
    assert len(norms) == 5 and norms[4] == 0
    assert min(norms[:4]) > 0


def test_twelve_sentences_are_learned_whatever_their_lengths(capsys):
    lesson.show_translating()
    out = capsys.readouterr().out
    known, new = out.split("it has not seen")
    assert known.count("✔") == len(lesson.TOY_PAIRS) == 12 and "✘" not in known
    assert new.count("✔") + new.count("✘") == len(lesson.TOY_NEW)
    lengths = [(len(a.split()), len(b.split())) for a, b in lesson.TOY_PAIRS]
    assert any(a < b for a, b in lengths) and any(a > b for a, b in lengths)
    known = {
        word for pair in lesson.TOY_PAIRS for text in pair for word in text.split()
    }
    new = {word for pair in lesson.TOY_NEW for text in pair for word in text.split()}
    assert new <= known


def test_links_of_the_dictionary_by_hand():
    """Without "no word": homme is the stronger link of "man" after two rounds."""
    pairs = [("a man", "un homme"), ("a dog", "un chien")]
    links = {}
    for source, target in pairs:
        for link in itertools.product(source.split(), target.split()):
            links[link] = 1.0
    after = []
    for _ in range(2):
        shares = dict.fromkeys(links, 0.0)
        for source, target in pairs:
            for word in target.split():
                total = sum(links[e, word] for e in source.split())
                for e in source.split():
                    shares[e, word] += links[e, word] / total
        after.append(shares)
        sums = {e: sum(v for k, v in shares.items() if k[0] == e) for e, _ in shares}
        links = {link: share / sums[link[0]] for link, share in shares.items()}
        after.append(links)
    first = {("a", "un"): 1 / 2, ("a", "homme"): 1 / 4, ("man", "homme"): 1 / 2}
    for link, share in first.items():
        assert after[1][link] == pytest.approx(share)
    assert after[2]["man", "homme"] == pytest.approx(2 / 3)
    assert after[2]["man", "un"] == pytest.approx(1 / 2)
    assert utils.word_dictionary([*pairs])["man"] == "homme"


def test_what_beam_search_gains_on_longer_sources(capsys, monkeypatch):
    """Answers that only the wider search has right: two are no verdict, six are one."""
    pairs = [("2 1", "1 2")] * 9
    monkeypatch.setattr(lesson, "draw_longer", lambda args: pairs)
    args = Namespace(task="reverse", max_length=10, beam_size=5)
    for count, words in (
        (0, "p = 1,"),
        (2, "p = 0.5, it could"),
        (6, "p = 0.031, more"),
    ):

        def write(model, data, texts, beam_size, *rest, count=count):
            wrong = count if beam_size == 1 else 0
            return ["2 1"] * wrong + ["1 2"] * (9 - wrong), [-1.0] * 9

        monkeypatch.setattr(lesson, "write_answers", write)
        lesson.explain_searches(None, None, {}, args)
        out = capsys.readouterr().out
        assert words in out.splitlines()[-1]
        (line,) = [line for line in out.splitlines() if line.split()[:1] == ["5"]]
        assert line.split()[1:5] == ["9", "-1.0000", str(count), "0"]


def test_answers_are_shown_by_kind_with_the_first_mistake_marked(capsys):
    pairs = [("1 2", "2 1"), ("3 4", "4 3"), ("5 6", "6 5")]
    found = {"greedy": ["2 1", "4 4", "5 5"], "beam 5": ["2 1", "4 3", "5 5"]}
    source = utils.Source("reverse", None, real=False)
    lesson.show_answers(Namespace(source=source, parts=[[], [], pairs]), found, {})
    lines = capsys.readouterr().out.splitlines()
    assert "  greedy, beam 5  2 1  ✔" in lines and "  beam 5          4 3  ✔" in lines
    for said, place in (("greedy          4 4", 20), ("greedy, beam 5  5 5", 18)):
        assert lines[lines.index(f"  {said}  ✘") + 1] == " " * place + "^"


def test_causes_of_wrong_lengths_by_hand(capsys, monkeypatch):
    """An answer that ends early, one that is too long, two with other digits."""
    long = [
        ("1 2 3 4 5", "5 4 3 2 1"),
        ("9 8 7 6 5", "5 6 7 8 9"),
        ("1 1 1 1 1 1",) * 2,
        ("1 2 3 4 5 6", "6 5 4 3 2 1"),
    ]
    said = ["5 4 3 2", "5 6 7 8 1", "1 1 1 1 1 1 1", "6 5 3 4 2 1"]
    monkeypatch.setattr(lesson, "draw_longer", lambda args: long)

    def write(model, data, texts, *rest):
        known = dict(zip([source for source, _ in long], said, strict=True))
        return [known.get(text, text[::-1]) for text in texts], None

    monkeypatch.setattr(lesson, "write_answers", write)
    source = utils.Source("reverse", None, real=False)
    data = Namespace(source=source, parts=[[], [], [("1 2 3", "3 2 1")]])
    args = Namespace(task="reverse", max_length=4, cell="lstm", no_plots=True)
    lesson.digits_by_length(None, data, ["3 2 1"], args)
    out = capsys.readouterr().out
    causes = {"too short": 1, "too long": 1, "not the right ones": 2}
    for cause, count in {**causes, "in another order": 1}.items():
        (line,) = [
            line for line in out.splitlines() if line.startswith("  ") and cause in line
        ]
        assert line.split()[-1] == str(count)
    # Places of 5, 5, 6 and 6 digits in thirds of 2 2 1, 2 2 1, 2 2 2 and 2 2 2.
    for third, share in (("first", 8 / 8), ("middle", 6 / 8), ("last", 4 / 6)):
        assert f"{third + ' third':<13} {share:.4f}" in out
    (line,) = [line for line in out.splitlines() if line.split()[:2] == ["5", "2"]]
    assert line.split()[2:] == ["0.0000", "0.8000", "0.5000"]


def test_digits_are_split_by_themselves():
    args = Namespace(max_length=6, quick=False, seed=0)
    parts = lesson.make_digits(args)
    seen = [{source for source, _ in part} for part in parts]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    for source, target in parts[2]:
        assert source.split() == target.split()[::-1]
        assert 3 <= len(source.split()) <= 6
    again = lesson.make_digits(Namespace(max_length=6, quick=False, seed=5))
    assert again == parts
    # Another --max-length does not move a sequence from test to training.
    longer = lesson.make_digits(Namespace(max_length=9, quick=False, seed=0))
    assert not seen[2] & {source for source, _ in longer[0]}


def test_baselines_by_hand():
    test = [("1 2 1", "1 2 1"), ("3 4", "4 3")]
    found = lesson.baselines("reverse", [], test)
    assert found["copy"][1]["exact_match"] == 0.5
    luck = (0.1**3 + 0.1**2) / 2
    assert found["chance"][1]["exact_match"] == pytest.approx(luck)


def test_a_model_is_built_as_the_flags_say():
    flags = ["--task", "reverse", "--reverse-source", "--cell", "rnn"]
    flags += ["--num-layers", "2"]
    args = lesson.make_flags().parse_args([*flags, "--hidden-size", "7"])
    parts = [[("1 2", "2 1")]] * 3
    source = utils.Source("reverse", None, real=False)
    config, _ = lesson.new_model(source, parts, args)
    given = {"reverse_source": True, "cell": "rnn", "layers": 2, "hidden": 7}
    assert given.items() <= config.items()


def test_own_pairs_are_learned_and_beam_is_reported(tmp_path, capsys):
    path = tmp_path / "pairs.tsv"
    lines = []
    for a, b, c in itertools.product(range(10), range(10), range(4)):
        lines.append(f"{a} {b} {c}\t{c} {b} {a}")
    path.write_text("\n".join(lines))
    flags = ["--input", path, "--epochs", 2, "--no-plots", "--hidden-size", 32]
    flags += ["--predict", "1 2 zebra", "--out-dir", tmp_path / "out"]
    assert run_main(lesson, *flags) == 0
    found = metrics(tmp_path)
    assert found["args"]["task"] == "translate"
    assert {"test_bleu", "test_bleu_beam", "test_perplexity"} <= found["metrics"].keys()
    assert "read as <unk>: zebra" in capsys.readouterr().out
    assert math.isfinite(found["metrics"]["test_perplexity"])


@pytest.mark.parametrize(
    ("content", "words"),
    [("a b\n", "line 1"), ("a\tb\n\tc\n", "too few"), ("a\tb\n" * 3, "too few")],
)
def test_a_file_that_holds_no_pairs(tmp_path, capsys, content, words):
    path = tmp_path / "pairs.tsv"
    path.write_text(content)
    assert run_main(lesson, "--input", path, "--out-dir", tmp_path / "out") == 2
    assert words in one_sentence(capsys)
