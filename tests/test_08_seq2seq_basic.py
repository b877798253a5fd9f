"""Lesson 08: the hand-over, teacher forcing, both searches, scores, pairs, the flags."""

import json
import math
import shlex
from argparse import Namespace
from functools import cache
from itertools import product

import pytest
import torch
from conftest import load_lesson, metrics, one_sentence, run_main, run_script
from torch import nn
from torch.nn import functional as F

import rnn_utils as utils

lesson = load_lesson("08_seq2seq_basic")
PAD, UNK, BOS, EOS = lesson.PAD, lesson.UNK, lesson.BOS, lesson.EOS
CONFIG = {
    "words": [11, 9],
    "embedding": 5,
    "cell": "lstm",
    "hidden": 6,
    "layers": 2,
    "dropout": 0.0,
    "backwards": False,
}


def model_of(seed=3, **changes):
    torch.manual_seed(seed)
    return lesson.Seq2Seq(**{**CONFIG, **changes}).double().eval()


def random_batch(n=7, seed=0, targets=9):
    """Padded pairs of different lengths; every target ends in EOS."""
    draw = torch.Generator().manual_seed(seed)
    batch = {}
    for side, words in (("source", 11), ("target", targets)):
        lengths = torch.randint(2, 8, (n,), generator=draw)
        ids = torch.randint(4, words, (n, int(lengths.max())), generator=draw)
        ids[~utils.length_mask(lengths, ids.shape[1])] = PAD
        if side == "target":
            ids[torch.arange(n), lengths - 1] = EOS
        batch |= {side: ids, f"{side}_length": lengths}
    return batch


def inputs(batch):
    return batch["source"], batch["source_length"], batch["target"]


def parts_of(state):
    return state if isinstance(state, tuple) else (state,)


# The model


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("backwards", [False, True])
def test_state_is_that_after_the_last_real_word(cell, backwards):
    """h and c of every layer, against each sentence alone and unpadded."""
    model, batch = model_of(cell=cell, backwards=backwards), random_batch()
    states = parts_of(model.encode(*inputs(batch)[:2]))
    assert len(states) == (2 if cell == "lstm" else 1)
    for i, n in enumerate(batch["source_length"].tolist()):
        row = batch["source"][i, :n].tolist()
        ids = torch.tensor([row[::-1] if backwards else row])
        alone = parts_of(model.encoder(model.embed_source(ids))[1])
        for ours, theirs in zip(states, alone, strict=True):
            torch.testing.assert_close(ours[:, i], theirs[:, 0])


def test_forward_equals_cells_written_out():
    """Encoder and decoder as loops of LSTMCell, with the state handed over."""
    model, batch = model_of(layers=1), random_batch()
    cells = []
    for layer in (model.encoder, model.decoder):
        cell = nn.LSTMCell(5, 6).double()
        for mine, theirs in zip(cell.parameters(), layer.parameters(), strict=True):
            mine.data = theirs.data
        cells.append(cell)
    scores = model(*inputs(batch))
    for i, (n, m) in enumerate(
        zip(batch["source_length"], batch["target_length"], strict=True)
    ):
        state = None
        for word in batch["source"][i, :n]:
            state = cells[0](model.embed_source(word[None]), state)
        given = [BOS, *batch["target"][i, : m - 1].tolist()]
        for t, word in enumerate(given):
            state = cells[1](model.embed_target(torch.tensor([word])), state)
            torch.testing.assert_close(scores[i, t], model.output(state[0])[0])


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_forced_in_one_call_equals_step_by_step(cell):
    """What makes training fast must not change a number."""
    model, batch = model_of(cell=cell), random_batch()
    whole = model(*inputs(batch))
    state = model.encode(*inputs(batch)[:2])
    given = F.pad(batch["target"], (1, 0), value=BOS)
    for t in range(whole.shape[1]):
        scores, state = model.decode(given[:, t : t + 1], state)
        torch.testing.assert_close(scores[:, 0], whole[:, t])


def test_unforced_feeds_its_own_answers():
    """The true target must not leak in; its answers are greedy ones."""
    model, batch = model_of(), random_batch()
    scores = model(*inputs(batch), forced=False)
    other = {**batch, "target": torch.full_like(batch["target"], 5)}
    torch.testing.assert_close(model(*inputs(other), forced=False), scores)
    assert not torch.allclose(model(*inputs(batch)), scores)
    given = F.pad(scores.argmax(-1)[:, :-1], (1, 0), value=BOS)
    state = model.encode(*inputs(batch)[:2])
    torch.testing.assert_close(model.decode(given, state)[0], scores)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("forcing", [1.0, 0.0])
def test_padding_changes_nothing(backwards, forcing):
    """Loss, every gradient and every answer, with rubbish in the source's padding."""
    model, batch = model_of(backwards=backwards), random_batch()
    wide = {**batch, "target": F.pad(batch["target"], (0, 4), value=PAD)}
    real = utils.length_mask(batch["source_length"], batch["source"].shape[1] + 3)
    wide["source"] = torch.where(real, F.pad(batch["source"], (0, 3)), 7)
    step, found = lesson.make_step(forcing), []
    for version in (batch, wide):
        model.train().zero_grad()
        sums, count = step(model, version)
        sums["loss"].backward()
        grads = [p.grad.clone() for p in model.parameters()]
        greedy = lesson.greedy(model, *inputs(version)[:2], 9)
        beam = lesson.beam_search(model, *inputs(version)[:2], 9, 3)
        found.append([sums["loss"], torch.tensor(count), *grads, *greedy, *beam])
    for narrow, padded in zip(*found, strict=True):
        torch.testing.assert_close(narrow, padded)


def test_loss_equals_a_loop_over_real_words():
    """PAD is neither learned nor counted; EOS is."""
    model, batch = model_of(), random_batch()
    sums, count = lesson.make_step(1.0)(model, batch)
    logp = model(*inputs(batch)).log_softmax(-1)
    total, words = 0.0, 0
    for i, row in enumerate(batch["target"].tolist()):
        for t, word in enumerate(row):
            if word != PAD:
                total, words = total - logp[i, t, word].item(), words + 1
    assert sums["loss"].item() == pytest.approx(total)
    assert count == words == batch["target_length"].sum()


def test_teacher_forcing_is_a_share_of_batches(monkeypatch):
    """0, 1 and a half; in evaluation always forced."""
    model, batch, seen = model_of(), random_batch(2), []
    real = model.forward
    monkeypatch.setattr(model, "forward", lambda *a: seen.append(a[3]) or real(*a))
    for training, forcing, low, high in (
        (True, 1.0, 60, 60),
        (True, 0.0, 0, 0),
        (True, 0.5, 15, 45),
        (False, 0.0, 60, 60),
    ):
        model.train(training)
        step = lesson.make_step(forcing)
        seen.clear()
        for _ in range(60):
            step(model, batch)
        assert low <= sum(seen) <= high


def test_reverse_rows_by_hand():
    """Words turn round, padding stays behind."""
    ids = torch.tensor([[5, 6, 7, 0], [8, 9, 0, 0], [4, 5, 6, 7]])
    found = lesson.reverse_rows(ids, torch.tensor([3, 2, 4]))
    assert found.tolist() == [[7, 6, 5, 0], [9, 8, 0, 0], [7, 6, 5, 4]]


@pytest.mark.parametrize("backwards", [False, True])
def test_overfits_a_tiny_batch(backwards):
    """Gradients reach every weight: eight pairs by heart, by both searches."""
    torch.manual_seed(1)
    model = lesson.Seq2Seq(**{**CONFIG, "hidden": 32, "backwards": backwards})
    batch, step = random_batch(8), lesson.make_step(1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        step(model, batch)[0]["loss"].backward()
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    model.eval()
    given = inputs(batch)[:2]
    for ids, _ in (
        lesson.greedy(model, *given, 9),
        lesson.beam_search(model, *given, 9, 4),
    ):
        assert [*map(stripped, ids)] == [*map(stripped, batch["target"])]


# The searches


@cache
def half_trained(seed, words=9, cell="lstm"):
    """Unsure still; its answers depend on the source and end early, late or never."""
    model = model_of(seed, words=[11, words], hidden=8, cell=cell)
    batch, step = random_batch(30, seed, words), lesson.make_step(1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    for _ in range(40):
        optimizer.zero_grad()
        step(model, batch)[0]["loss"].backward()
        optimizer.step()
    return model


def log_p_of(model, source, answer):
    """Mean log p of an answer's words, a call of its own; `answer` without padding."""
    n = torch.tensor([len(source)])
    scores = model(source[None], n, torch.tensor([answer]))[0]
    logp = scores.log_softmax(-1)
    return sum(logp[t, word].item() for t, word in enumerate(answer)) / len(answer)


def stripped(row):
    """Ids of an answer without the padding behind it."""
    row = row.tolist()
    return row[: row.index(PAD)] if PAD in row else row


def best_of_all(model, source, limit):
    """The best answer among all that there are: up to EOS, or `limit` words without."""
    usable = range(EOS + 1, model.output.out_features)
    candidates = [[*a, EOS] for n in range(limit) for a in product(usable, repeat=n)]
    candidates += map(list, product(usable, repeat=limit))
    return max((log_p_of(model, source, c), c) for c in candidates)


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_best_of_all_answers(seed):
    """Exhaustive search over 3 words and EOS, answers of up to 4: 40 + 81 of them."""
    model = half_trained(seed, 7)
    batch = random_batch(3, seed)
    ids, log_p = lesson.beam_search(model, *inputs(batch)[:2], 4, 130)
    for i, n in enumerate(batch["source_length"]):
        value, best = best_of_all(model, batch["source"][i, :n], 4)
        assert stripped(ids[i]) == best
        assert log_p[i].item() == pytest.approx(value, abs=1e-5)


def beam_written_plainly(model, source, limit, size):
    """Beam search for one source with lists: the K best beginnings by mean log p."""
    beam, n = [([], 0.0)], torch.tensor([len(source)])
    for _ in range(limit):
        grown = [(words, total) for words, total in beam if EOS in words]
        for words, total in beam:
            if EOS not in words:
                target = torch.tensor([[*words, PAD]])
                logp = model(source[None], n, target)[0, -1].log_softmax(-1)
                for word in range(EOS, len(logp)):
                    grown.append(([*words, word], total + logp[word].item()))
        beam = sorted(grown, key=lambda a: a[1] / len(a[0]), reverse=True)[:size]
    return beam[0][0]


@pytest.mark.parametrize("size", [2, 3, 6])
def test_beam_search_equals_one_written_plainly(size):
    """What is kept at each step, and what an answer that has ended takes up."""
    model, batch = half_trained(4), random_batch(25)
    ids, _ = lesson.beam_search(model, *inputs(batch)[:2], 8, size)
    for i, n in enumerate(batch["source_length"]):
        plain = beam_written_plainly(model, batch["source"][i, :n], 8, size)
        assert stripped(ids[i]) == plain


def test_an_answer_that_has_ended_has_one_free_continuation():
    """Else copies of it would fill the beam; C is at most the vocabulary."""
    logp = torch.randn(3, 6).log_softmax(-1)
    done = torch.tensor([[False], [True], [False]])
    best, words = lesson.extend(logp.clone(), done, 3)
    assert best[1].tolist() == [0.0, -math.inf, -math.inf]
    assert words[1].tolist() == [PAD] * 3
    for row in (0, 2):
        top = logp[row].topk(3)
        assert torch.equal(best[row], top.values)
        assert torch.equal(words[row], top.indices)
    assert lesson.extend(logp, done, 50)[0].shape == (3, 6)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_beam_of_one_is_greedy(cell):
    """Ids, log p and width, also where answers end at different steps."""
    model, batch = half_trained(4, cell=cell), random_batch(40)
    greedy = lesson.greedy(model, *inputs(batch)[:2], 12)
    beam = lesson.beam_search(model, *inputs(batch)[:2], 12, 1)
    assert torch.equal(greedy[0], beam[0])
    torch.testing.assert_close(greedy[1], beam[1])
    assert len({len(stripped(row)) for row in greedy[0]}) > 2


def test_greedy_equals_a_loop_for_each_sentence():
    """The likeliest word that may be written, until EOS."""
    model, batch = half_trained(4), random_batch(20)
    ids, _ = lesson.greedy(model, *inputs(batch)[:2], 8)
    for i, n in enumerate(batch["source_length"]):
        written = []
        while len(written) < 8 and EOS not in written:
            target = torch.tensor([[*written, 0]])
            scores = model(batch["source"][i : i + 1, :n], n[None], target)[0, -1]
            scores[[PAD, UNK, BOS]] = -math.inf
            written.append(scores.argmax().item())
        assert stripped(ids[i]) == written


@pytest.mark.parametrize("size", [1, 2, 5])
def test_log_p_is_that_of_the_answer(size):
    """The value that a search reports, against a forced call on its answer."""
    model, batch = half_trained(4), random_batch(15)
    ids, log_p = lesson.beam_search(model, *inputs(batch)[:2], 7, size)
    for i, n in enumerate(batch["source_length"]):
        exact = log_p_of(model, batch["source"][i, :n], stripped(ids[i]))
        assert log_p[i].item() == pytest.approx(exact, abs=1e-5)


def test_a_beam_is_on_average_not_below_greedy():
    """Under what both try to raise; and it does find better answers."""
    model, batch = half_trained(4), random_batch(150)
    means = [lesson.greedy(model, *inputs(batch)[:2], 8)[1]]
    means += [lesson.beam_search(model, *inputs(batch)[:2], 8, k)[1] for k in (2, 6)]
    greedy, two, six = (mean.mean().item() for mean in means)
    assert greedy < two <= six


@pytest.mark.parametrize("size", [1, 4])
def test_one_sentence_alone_is_answered_as_in_a_batch(size):
    """Neighbours, their length and their end must not matter."""
    model, batch = half_trained(4), random_batch(25)
    together = lesson.beam_search(model, *inputs(batch)[:2], 9, size)
    for i, n in enumerate(batch["source_length"]):
        ids, log_p = lesson.beam_search(
            model, batch["source"][i : i + 1, :n], n[None], 9, size
        )
        assert stripped(ids[0]) == stripped(together[0][i])
        torch.testing.assert_close(log_p[0], together[1][i])


@pytest.mark.parametrize("size", [1, 3, 30])
def test_ends(size):
    """EOS at once; EOS never; more rows than there are beginnings."""
    batch = random_batch(4)
    for bias, expected in ((50.0, [EOS]), (-50.0, None)):
        model = model_of()
        model.output.bias.data[EOS] = bias
        model.output.bias.data[UNK] = 40.0  # may not be written
        ids, log_p = lesson.beam_search(model, *inputs(batch)[:2], 3, size)
        for row in map(stripped, ids):
            assert row == expected if expected else len(row) == 3
            assert not {PAD, UNK, BOS} & set(row)
        assert log_p.isfinite().all()


def test_nothing_is_written_after_the_end():
    """Behind EOS there is padding alone."""
    model, batch = half_trained(4), random_batch(60)
    found = lesson.greedy(model, *inputs(batch)[:2], 12)
    for ids, _ in (found, lesson.beam_search(model, *inputs(batch)[:2], 12, 4)):
        for row in ids.tolist():
            if EOS in row:
                assert set(row[row.index(EOS) + 1 :]) <= {PAD}
            else:
                assert PAD not in row
                assert len(row) == 12
        assert (ids == EOS).any()
        assert (ids == PAD).any()


# Data and scores


def test_digits_are_split_by_themselves():
    """No sequence in two parts, whatever --max-length says; targets are turned round."""
    found = {}
    for longest in (6, 10):
        args = Namespace(max_length=longest, quick=False)
        parts = lesson.make_digits(args)
        for k, part in enumerate(parts):
            for source, target in part:
                assert source.split() == target.split()[::-1]
                assert found.setdefault(source, k) == k
        lengths = {len(source.split()) for part in parts for source, _ in part}
        assert lengths == set(range(3, longest + 1))
        sources = [source for part in parts for source, _ in part]
        assert len(set(sources)) == len(sources)
    assert len(parts[0]) > 30_000
    assert min(map(len, parts)) > 1500


def test_scores_by_hand():
    """Whole answers; digits at their place, with too long and too short an answer."""
    answers, truth = ["1 2 3", "4 5", "", "7 8 9"], ["1 2 3", "4 5 6", "1", "7 8"]
    found = lesson.score("reverse", answers, truth)
    assert found == {"exact_match": 1 / 4, "token_accuracy": 7 / 10}
    found = lesson.score("translate", ["Un chien noir.", "x"], ["un chien noir.", "y"])
    assert found["exact_match"] == 1 / 2  # case and spaces are no matter
    assert 0 < found["bleu_13a"] < found["bleu"] < 100


def test_baselines_by_hand():
    """A palindrome is its own reverse; chance is told the length."""
    test = [("1 2 1", "1 2 1"), ("1 2 3", "3 2 1"), ("4 5", "5 4"), ("6 7", "7 6")]
    found = lesson.baselines("reverse", [], test)
    assert found["copy"] == {"exact_match": 1 / 4, "token_accuracy": 4 / 10}
    assert found["chance"]["exact_match"] == pytest.approx((2e-3 + 2e-2) / 4)
    train = [("the dog", "le chien"), ("the cat", "le chat"), ("dog", "chien")]
    found = lesson.baselines("translate", train, [("the cat", "le chat")])
    assert list(found) == ["copy", "dictionary"]
    assert found["dictionary"]["exact_match"] == 1
    assert found["copy"]["exact_match"] == 0


def test_figures_are_of_their_own_part_and_search(tmp_path, monkeypatch):
    """Greedy answers that are right, by beam wrong; perplexity 5 on test, else 3."""
    flags = ["--task", "translate", "--out-dir", str(tmp_path / "out"), "--no-plots"]
    args = utils.parse_flags(lesson.make_flags(flags), flags, lesson.__file__)
    parts = [[("a b", "x y")], [("b c", "y z")], [("a d", "x w"), ("d", "w")]]
    source = utils.Source("input", tmp_path, False)
    about = lesson.new_card(source, parts, args)
    # words of training alone; in each vocabulary four specials come first
    assert [about[side][4:] for side in lesson.BOTH] == [["a", "b"], ["x", "y"]]
    data = lesson.batch_pairs(source, parts, about, args)

    def answer(model, words, texts, size, limit, args):
        return (["X w", "W"] if size == 1 else ["y", "y"]), torch.zeros(2)

    def evaluate(model, step, batches, args):
        return {"loss": math.log(5 if batches is data.batches[2] else 3)}

    monkeypatch.setattr(lesson, "answer", answer)
    monkeypatch.setattr(utils, "evaluate", evaluate)
    assert lesson.report(model_of(), [], data, args) == ["X w", "W"]
    found = metrics(tmp_path)["metrics"]
    assert found["test_perplexity"] == pytest.approx(5)
    assert (found["test_exact_match"], found["test_exact_match_beam"]) == (1, 0)


TRICKY = [
    "L'homme qui court, c'est l'ami d'Anne !",
    "Un arrière-plan (gris) : 50% de blanc/noir.",
    "Qu'est-ce que c'est ? Aujourd'hui, rien...",
    "A man's dog isn't here; it's gone.",
]


def test_words_and_back():
    """What BLEU splits, it must split the same in a text that went through words."""
    assert utils.split_pair("L’homme d'Anne.") == ["l'", "homme", "d'", "anne", "."]
    for text in TRICKY:
        again = utils.join_words(utils.split_pair(text))
        assert utils.bleu_scores([again], [text])["bleu"] == pytest.approx(100)
    assert utils.join_words(["l'", "homme", "."]) == "L'homme."
    assert utils.join_words([]) == ""


def test_pairs_become_ids():
    """Specials in their places, train's words alone, the cut, EOS always there."""
    train = [("a b a", "x y"), ("b c", "y z z")]
    words = utils.pair_vocabularies(train, 2)
    assert words[0].tokens == [utils.PAD, utils.UNK, utils.BOS, utils.EOS, "a", "b"]
    assert words[1].tokens[4:] == ["y", "z"]
    found = utils.encode_pairs([("a new b", "z"), ("b", "y y y y")], words, 2)
    assert found["source"].tolist() == [[4, 1], [5, 0]]
    assert found["source_length"].tolist() == [2, 1]
    assert found["target"].tolist() == [[5, 3, 0], [4, 4, 3]]
    assert found["target_length"].tolist() == [2, 3]
    empty = utils.encode_pairs([("", "")], words, 2)
    assert empty["source"].tolist() == [[UNK]]
    assert empty["target"].tolist() == [[EOS]]


@pytest.mark.real_data
def test_real_captions_come_back_whole(real_data):
    """The references as the model would write them at best: BLEU 100 without case."""
    args = Namespace(input=None, dataset="multi30k", data_dir=real_data, quick=False)
    args.task = "translate"
    source, parts = lesson.choose_pairs(args)
    assert source.label == "multi30k [real]"
    assert [len(part) for part in parts] == [29_000, 1_014, 1_000]
    truth = [target for _, target in parts[2]]
    again = [utils.join_words(utils.split_pair(text)) for text in truth]
    assert utils.bleu_scores(again, truth)["bleu"] == pytest.approx(100)


# The program

NOUNS = {"dog": "chien", "cat": "chat", "bird": "oiseau", "bear": "ours"}
NOUNS |= {"fox": "renard", "wolf": "loup", "ox": "boeuf", "duck": "canard"}
VERBS = {"sleeps": "dort", "runs": "court", "eats": "mange", "sings": "chante"}
COLOURS = {"black": "noir", "white": "blanc", "red": "rouge", "grey": "gris"}


def pairs_file(path, *more):
    """A TSV of 128 pairs; `more` are further lines, as they are."""
    lines = [
        f"the {c} {n} {v}.\tle {NOUNS[n]} {COLOURS[c]} {VERBS[v]}."
        for n, c, v in product(NOUNS, COLOURS, VERBS)
    ]
    path.write_text("\n".join([*lines, *more]) + "\n", encoding="utf-8")
    return path


def small(tmp_path, *flags):
    """A run in this process, in a second or two."""
    fixed = ("--quick", "--no-plots", "--hidden-size", 12, "--beam-size", 3)
    return run_main(lesson, *fixed, "--out-dir", tmp_path / "out", *flags)


@pytest.mark.parametrize("task", ["reverse", "translate"])
def test_quick_run_without_network(tmp_path, task):
    """The run of a newcomer who is offline; and that it says what data it used."""
    done = run_script("08_seq2seq_basic", "--quick", "--task", task, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "08_seq2seq_basic"
    result = json.loads((folder / "metrics.json").read_text())
    assert result["real"] is False
    assert result["epochs_run"] == 2
    name = {"reverse": "reverse", "translate": "sample"}[task]
    assert f"{name} [sample]" in done.stdout
    assert result["dataset"] == name
    assert {"test_exact_match", "test_exact_match_beam"} <= result["metrics"].keys()
    assert result["metrics"]["test_log_p_beam"] >= result["metrics"]["test_log_p"]
    pictures = {path.name for path in folder.glob("*.png")}
    if task == "reverse":
        assert pictures == {"training.png", "length.png"}
        assert set(result["baselines"]) == {"copy", "chance"}
    else:
        assert pictures == {"training.png"}
        assert set(result["baselines"]) == {"copy", "dictionary"}
        assert "|tok:13a|" in done.stdout


def test_same_seed_same_numbers(tmp_path):
    """Two runs agree to the last digit, coins and dropout included; another seed not."""
    found = []
    for seed in (7, 7, 8):
        flags = ("--seed", seed, "--teacher-forcing", 0.5, "--dropout", 0.2)
        assert small(tmp_path, *flags) == 0
        found.append(metrics(tmp_path)["metrics"])
    assert found[0] == found[1] != found[2]


def test_own_pairs_are_learned(tmp_path, capsys):
    """--input implies translate; held-out combinations are mostly answered right."""
    data, out = pairs_file(tmp_path / "own.tsv"), tmp_path / "out"
    flags = ("--no-plots", "--hidden-size", 64, "--epochs", 30, "--batch-size", 16)
    flags += ("--lr", 0.01, "--out-dir", out, "--predict", "The red wolf sings.")
    assert run_main(lesson, "--input", data, *flags) == 0
    found = metrics(tmp_path)
    assert found["dataset"] == "input"
    assert found["args"]["task"] == "translate"
    assert found["metrics"]["test_exact_match"] >= 0.5
    text = capsys.readouterr().out
    assert "own.tsv [sample: your own data]" in text
    assert "Le loup rouge chante." in text


@pytest.mark.parametrize("reverse", [[], ["--reverse-source", "--cell", "gru"]])
@pytest.mark.parametrize("task", ["reverse", "own"])
def test_a_saved_model_gives_the_same_answers(tmp_path, capsys, task, reverse):
    """--save-model, then --eval-only without repeating the flags that shaped it."""
    path = ["--path", tmp_path / "model.pt", "--predict", "3 1 4", "27"]
    if task == "own":
        path += ["--input", pairs_file(tmp_path / "own.tsv")]
    assert small(tmp_path, "--save-model", *path, *reverse) == 0
    first, before = capsys.readouterr().out, metrics(tmp_path)
    assert small(tmp_path, "--eval-only", *path) == 0
    second, after = capsys.readouterr().out, metrics(tmp_path)
    assert after["metrics"] == before["metrics"]
    assert after["epochs_run"] == 0
    answers = [text[text.rindex("3 1 4") :] for text in (first, second)]
    assert answers[0] == answers[1]


def test_resume_ends_where_an_uninterrupted_run_does(tmp_path, capsys, monkeypatch):
    """Interrupted in epoch 2 and resumed: the same metrics, to the last digit."""
    flags = ("--teacher-forcing", 0.5, "--dropout", 0.2)
    assert small(tmp_path, *flags) == 0
    whole = metrics(tmp_path)["metrics"]
    calls, real = [], lesson.make_step

    def interrupted(forcing):
        step = real(forcing)

        def counted(model, batch):
            calls.append(1)
            if len(calls) == 12:  # 8 batches an epoch, and one of validation
                raise KeyboardInterrupt
            return step(model, batch)

        return counted

    monkeypatch.setattr(lesson, "make_step", interrupted)
    flags += ("--out-dir", tmp_path / "again")
    assert small(tmp_path, *flags) == 130
    assert "--resume" in capsys.readouterr().err
    monkeypatch.setattr(lesson, "make_step", real)
    assert small(tmp_path, *flags, "--resume") == 0
    assert metrics(tmp_path, "again")["metrics"] == whole
    assert small(tmp_path, *flags, "--resume", "--reverse-source") == 2
    assert "--reverse-source" in one_sentence(capsys)


@pytest.mark.parametrize(
    "flags",
    [
        ["--cell", "rnn", "--num-layers", "2", "--dropout", "0.3"],
        ["--precision", "bf16", "--teacher-forcing", "0.5"],
        ["--beam-size", "1", "--teacher-forcing", "0", "--predict", "12"],
        ["--max-length", "4", "--batch-size", "7", "--accumulate", "3"],
        ["--predict", "1234567890" * 4, "5 x"],
        ["--beam-size", "100"],
    ],
)
def test_flags_do_run(tmp_path, flags):
    """Flags in combinations that a reader would try."""
    assert small(tmp_path, *flags) == 0


def test_every_command_of_the_docstring_parses():
    """A flag that is not there would send the reader away."""
    lines = [line.strip() for line in lesson.__doc__.splitlines()]
    commands = [line for line in lines if line.startswith("python 08_")]
    commands += [f"python x {line}" for line in lines if line.startswith("--")]
    assert len(commands) >= 8
    for command in commands:
        words = shlex.split(command.split("  ")[0])[2:]
        args = lesson.make_flags(words).parse_args(words)
        own = "--input" in words or "translate" in words
        assert args.task == ("translate" if own else "reverse")
        assert args.max_length == (50 if own else 16 if "16" in words else 10)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--task", "sort"], "invalid choice"),
        (["--teacher-forcing", "1.5"], "--teacher-forcing"),
        (["--beam-size", "0"], "--beam-size"),
        (["--max-length", "3"], "--max-length"),
        (["--max-length", "500"], "--max-length"),
        (["--predict", " "], "--predict"),
        (["--predict"], "--predict"),
        (["--task", "reverse", "--input", "README.md"], "drop --task"),
        (["--task", "reverse", "--dataset", "sample"], "drop --task"),
        (["--input", "/nowhere/pairs.tsv"], "/nowhere/pairs.tsv"),
        (["--input", "README.md", "--dataset", "sample"], "exclude"),
        (["--dataset", "imdb"], "invalid choice"),
        (["--eval-only", "--path", "/nowhere/model.pt"], "no checkpoint"),
        (["--resume"], "nothing to resume"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_a_wrong_flag_is_one_sentence(tmp_path, capsys, flags, words):
    """Exit status 2 and a sentence that names the flag or file."""
    assert small(tmp_path, *flags) == 2
    assert words in one_sentence(capsys)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"hello there\n", "line 1 has 1 column"),
        (b"a\tb\n\nc\td\te\n", "line 3 has 3 column"),
        (b"a\tb\nc\t \n", "line 2 has an empty side"),
        (b"\tb\n", "line 1 has an empty side"),
        (b"a dog\tun chien\n", "too few"),
        (b"a\tb\n" * 50, "too few"),
        ("é\tè\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_malformed_file_is_one_sentence(tmp_path, capsys, content, words):
    """Columns, empty sides, one pair only, encodings."""
    path = tmp_path / "pairs.tsv"
    path.write_bytes(content)
    assert small(tmp_path, "--input", path) == 2
    text = one_sentence(capsys)
    assert words in text
    assert "pairs.tsv" in text


def test_very_long_lines_are_cut(tmp_path, capsys):
    """10,000 words on either side, in training or to predict, are no problem."""
    long = " ".join(["dog"] * 10_000)
    lines = [f"{long} {i}\tle chien {i}" for i in range(4)] + [f"a cat\t{long}"]
    path = pairs_file(tmp_path / "own.tsv", *lines)
    assert small(tmp_path, "--input", path, "--predict", long) == 0
    assert "The first 50 words of dog dog" in capsys.readouterr().out


def test_hostile_words_are_only_words(tmp_path):
    """Markers, tags, emoji and numbers in a text must not act as specials."""
    lines = [f"<pad> <eos> {i} 😀 <bos>\t<unk> {i} \u202e{{}} %s" for i in range(30)]
    path = pairs_file(tmp_path / "own.tsv", *lines)
    assert small(tmp_path, "--input", path, "--predict", "<eos> 😀") == 0


def test_a_model_of_other_data_is_refused(tmp_path, capsys):
    """A translator cannot be asked to reverse digits."""
    path = ["--path", tmp_path / "model.pt"]
    data = pairs_file(tmp_path / "own.tsv")
    assert small(tmp_path, "--input", data, "--save-model", *path) == 0
    capsys.readouterr()
    assert small(tmp_path, "--eval-only", *path) == 2
    assert "was trained on dataset 'input'" in one_sentence(capsys)


@pytest.mark.parametrize("content", [None, 5, [1, 2]])
@pytest.mark.parametrize("name", lesson.BOTH)
def test_a_model_without_its_words_is_refused(tmp_path, capsys, name, content):
    """A checkpoint made by hand, with a part missing or of the wrong kind."""
    path = tmp_path / "model.pt"
    card = {"lesson": "08_seq2seq_basic", "dataset": "reverse", "model": {}}
    card |= {"config": {}, "source_words": ["a"], "target_words": ["a"], name: content}
    torch.save(card, path)
    assert small(tmp_path, "--eval-only", "--path", path) == 2
    assert f"no {name}" in one_sentence(capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_no_such_device(tmp_path, capsys):
    """--device cuda where there is none."""
    assert small(tmp_path, "--device", "cuda") == 2
    assert "cuda is not available" in one_sentence(capsys)


@pytest.mark.slow
def test_must_show(tmp_path):
    """The default run: exact match at least 0.99 on held-out sequences."""
    assert run_main(lesson, "--no-plots", "--out-dir", tmp_path / "out") == 0
    assert metrics(tmp_path)["metrics"]["test_exact_match"] >= 0.99
