"""Lesson 10: streams, carried states, drawing and counting against plain loops."""

import math
import re
from argparse import Namespace
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import load_lesson, metrics, one_sentence, run_main
from torch.nn import functional as F

import rnn_utils as utils

lesson = load_lesson("10_text_generation")
CELLS = ["rnn", "lstm", "gru", "mingru"]


@pytest.fixture(autouse=True)
def seeded():
    utils.set_seed(0)


def make_model(cell="lstm", tokens=7, **changes):
    config = {"embedding": 4, "hidden": 6, "layers": 2, "dropout": 0.0, "tied": False}
    return lesson.NextToken(tokens, **{**config, "cell": cell, **changes}).eval()


# --- streams -------------------------------------------------------------------------


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("n", [50, 97, 128])
def test_streams_go_on_where_they_stopped_and_targets_follow(n, random_start):
    ids = torch.arange(n)
    batches = list(lesson.Streams(ids, 3, 5, random_start=random_start))
    assert [batch["first"] for batch in batches] == [True] + [False] * (
        len(batches) - 1
    )
    read = torch.cat([batch["input"] for batch in batches], dim=1)  # (B, width)
    for batch in batches:
        assert torch.equal(batch["target"], batch["input"] + 1)
    assert torch.equal(read[:, 1:], read[:, :-1] + 1)  # without a gap
    assert len(read.flatten().unique()) == read.numel()  # nothing twice
    if not random_start:
        assert read[0, 0] == 0
        assert read.numel() > n - 1 - 3  # all but what does not fill a stream


def test_a_random_start_is_drawn_each_epoch():
    streams = lesson.Streams(torch.arange(500), 4, 16, random_start=True)
    starts = {int(next(iter(streams))["input"][0, 0]) for _ in range(50)}
    assert len(starts) > 8
    assert max(starts) < 16


# --- carrying and cutting --------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_carried_state_makes_windows_equal_one_long_text(cell):
    model = make_model(cell)
    ids = torch.randint(7, (1, 31))
    batches = list(lesson.Streams(ids[0], 1, 8))
    measure = lesson.Measure()
    losses = torch.cat([measure(model, batch)["loss"] for batch in batches])
    scores, _ = model(ids[:, :-1])
    expected = F.cross_entropy(scores[0], ids[0, 1:], reduction="none")
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)


def test_a_new_pass_starts_from_nothing_and_no_gradient_crosses_a_window():
    model = make_model()
    batches = list(lesson.Streams(torch.randint(7, (41,)), 2, 5))
    measure = lesson.Measure()
    first = measure(model, batches[0])["loss"]
    measure(model, batches[1])["loss"].mean().backward()  # alone: no error
    torch.testing.assert_close(measure(model, batches[0])["loss"], first)


def test_steps_by_hand_equal_fit():
    args = Namespace(
        seed=3, epochs=1, lr=0.01, weight_decay=0.1, clip=0.5, accumulate=1
    )
    args = Namespace(**vars(args), optimizer="adam", precision="fp32", patience=0)
    args = Namespace(**vars(args), device="cpu", resume=False, out_dir="none")
    train = lesson.Streams(torch.randint(7, (300,)), 4, 8, random_start=True)
    ours = lesson.small_model(7)
    theirs = lesson.small_model(7)
    lesson.train_by_hand(ours, train, args)
    utils.fit(theirs, lesson.Measure(), train, train, args)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_mean_nats_carries_or_resets():
    model = make_model()
    ids = torch.randint(7, (600,))
    whole, _ = model(ids[None, :-1])
    expected = F.cross_entropy(whole[0].double(), ids[1:]).item()
    assert lesson.mean_nats(model, ids) == pytest.approx(expected, rel=1e-5)
    parts = []
    for start in range(0, 599, 50):
        scores, _ = model(ids[None, start : min(start + 50, 599)])
        wanted = ids[start + 1 : start + 51]
        parts.append(F.cross_entropy(scores[0].double(), wanted, reduction="sum"))
    assert lesson.mean_nats(model, ids, reset=50) == pytest.approx(
        (sum(parts) / 599).item(), rel=1e-5
    )


def test_a_short_text_is_learned_by_heart():
    model = make_model(tokens=5, hidden=32, embedding=16).train()
    ids = torch.tensor([0, 1, 2, 3, 4, 2, 1, 4, 0, 3, 3, 1, 0])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    measure = lesson.Measure()
    for _ in range(120):
        for batch in lesson.Streams(ids, 1, 12):
            optimizer.zero_grad()
            measure(model, batch)["loss"].mean().backward()
            optimizer.step()
    assert lesson.mean_nats(model, ids) < 0.05


# --- minGRU ------------------------------------------------------------------------------


def test_scan_equals_the_loop_outputs_and_gradients():
    log_keep = F.logsigmoid(torch.randn(3, 40, 5, dtype=torch.double)).requires_grad_()
    log_new = torch.randn(3, 40, 5, dtype=torch.double).requires_grad_()
    log_start = torch.randn(3, 5, dtype=torch.double).requires_grad_()
    goal = torch.randn(3, 40, 5, dtype=torch.double)
    inputs = (log_keep, log_new, log_start)
    at_once = lesson.scan(*inputs)
    one_by_one = lesson.step_by_step(*inputs)
    torch.testing.assert_close(at_once, one_by_one)
    torch.testing.assert_close(
        torch.autograd.grad((at_once * goal).sum(), inputs),
        torch.autograd.grad((one_by_one * goal).sum(), inputs),
    )


def test_mingru_layer_equals_its_equations():
    layer = lesson.MinGRU(3, 4)
    x = torch.randn(2, 9, 3)
    y, state = layer(x)
    renew, candidate = layer.gates[0](x).chunk(2, dim=-1)
    z = renew.sigmoid()
    c = torch.where(candidate >= 0, candidate + 0.5, candidate.sigmoid())
    h = torch.full((2, 4), 0.5)
    for t in range(9):
        h = (1 - z[:, t]) * h + z[:, t] * c[:, t]
        torch.testing.assert_close(y[:, t], h, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state[0], h, rtol=1e-4, atol=1e-5)


def test_mingru_has_the_same_states_by_loop_and_scan():
    layer = lesson.MinGRU(3, 4, layers=2)
    x = torch.randn(2, 9, 3)
    found = {}
    for function in (lesson.step_by_step, lesson.scan):
        layer.all_states = function
        found[function.__name__] = layer(x)
    torch.testing.assert_close(
        found["step_by_step"], found["scan"], rtol=1e-4, atol=1e-5
    )


# --- drawing --------------------------------------------------------------------------------


def test_temperature_by_its_equation_and_its_limit():
    scores = torch.randn(20) * 3
    for temperature in (0.5, 1.0, 2.0):
        expected = (scores / temperature).softmax(0)
        found = lesson.next_distribution(scores, temperature)
        torch.testing.assert_close(found, expected)
    greedy = lesson.next_distribution(scores, 0)
    assert greedy.argmax() == scores.argmax() and greedy.sum() == 1
    cold = lesson.next_distribution(scores, 1e-6)
    torch.testing.assert_close(cold, greedy)


def test_top_k_and_top_p_against_a_loop():
    for seed in range(20):
        torch.manual_seed(seed)
        scores = torch.randn(12) * 2
        p = scores.softmax(0).tolist()
        order = sorted(range(12), key=lambda i: -p[i])
        for top_k, top_p in ((3, 1.0), (0, 0.7), (1, 1.0), (0, 1e-9), (5, 0.5)):
            kept = order[:top_k] if top_k else order
            total = sum(p[i] for i in kept)
            fewest, reached = [], 0.0
            for i in kept:
                if reached < top_p:
                    fewest.append(i)
                reached += p[i] / total
            expected = torch.zeros(12)
            for i in fewest:
                expected[i] = p[i] / sum(p[j] for j in fewest)
            found = lesson.next_distribution(scores, 1.0, top_k, top_p)
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("cell", CELLS)
def test_generating_step_by_step_equals_reading_all_anew(cell):
    model = make_model(cell, tokens=9)
    prompt = torch.tensor([3, 4])
    ids = lesson.generate(model, prompt, 12, seed=0, temperature=0)
    read = prompt.tolist()
    for token in ids:
        scores, _ = model(torch.tensor([read]))
        last = scores[0, -1]
        last[0] = -math.inf
        assert token == last.argmax()
        read.append(token)


def test_seen_probabilities_are_those_drawn_from():
    model = make_model(tokens=9)
    prompt = torch.tensor([3, 4])
    seen = []
    ids = lesson.generate(model, prompt, 5, seed=0, seen=seen)
    assert ids == lesson.generate(model, prompt, 5, seed=0)
    read = prompt.tolist()
    for token, p in zip(ids, seen, strict=True):
        scores, _ = model(torch.tensor([read]))
        expected = scores[0, -1, 1:].softmax(0)  # without <unk>
        torch.testing.assert_close(p[1:], expected, rtol=1e-4, atol=1e-6)
        assert p[0] == 0
        read.append(token)


def test_even_a_tiny_top_p_leaves_the_likeliest():
    p = lesson.next_distribution(torch.tensor([1.0, 3.0, 2.0]), top_p=1e-60)
    assert p.tolist() == [0, 1, 0]


def test_same_seed_same_text_and_unknown_is_never_written():
    model = make_model()
    texts = [lesson.generate(model, torch.tensor([1]), 200, seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert 0 not in texts[0]


def test_nothing_is_dropped_while_writing_and_scoring():
    model = make_model(tokens=9, dropout=0.5)
    prompt = torch.tensor([3, 4])
    ids = torch.randint(1, 9, (40,))
    written = lesson.generate(model, prompt, 40, seed=0)
    nats = lesson.mean_nats(model, ids)
    assert lesson.generate(model.train(), prompt, 40, seed=0) == written
    assert lesson.mean_nats(model.train(), ids) == pytest.approx(nats, abs=1e-9)


# --- counting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [2, 3])
def test_plus_one_by_a_loop(order):
    train = torch.randint(5, (400,)).tolist()
    held_out = torch.randint(5, (60,)).tolist()
    runs = Counter(tuple(train[i : i + order]) for i in range(400 - order + 1))
    histories = Counter()
    for run, count in runs.items():
        histories[run[:-1]] += count
    total = (order - 2) * math.log(5)  # the first places: no full history
    for i in range(order - 1, 60):
        run = tuple(held_out[i - order + 1 : i + 1])
        total -= math.log((runs[run] + 1) / (histories[run[:-1]] + 5))
    found = lesson.plus_one_nats(torch.tensor(train), torch.tensor(held_out), order, 5)
    assert found == pytest.approx(total / 59)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_kneser_ney_is_a_probability_and_prefers_what_it_saw(order):
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(np.minimum(rng.geometric(0.4, 600), 8) - 1)
    grams = lesson.KneserNey(ids, order, 9)
    for history in ("", chr(0), chr(1) + chr(0), chr(7) * 3, chr(8)):
        total = sum(grams.probability(history, chr(i)) for i in range(9))
        assert total == pytest.approx(1)
        assert grams.probability(history, chr(8)) > 0  # never seen
    assert grams.losses(ids).mean() < math.log(9)
    text = "".join(chr(i) for i in ids[:40].tolist())
    nats = [-math.log(grams.probability(text[:i], text[i])) for i in range(1, 40)]
    assert grams.losses(ids[:40]).tolist() == pytest.approx(nats)


def test_kneser_ney_counts_histories_not_occurrences():
    """c is frequent but only after b: as a word that may follow anything it is rare."""
    text = "ab" * 3 + "bc" * 30 + "a" + "ba" * 3
    ids = torch.tensor(["abc".index(letter) for letter in text])
    grams = lesson.KneserNey(ids, 2, 3)
    unseen = chr(2)
    after_b = grams.probability(chr(1), unseen)
    lower = grams.levels[0].counts
    assert after_b > 0.5
    assert lower[unseen] == 1  # one different history
    assert lower[chr(1)] == len(
        {text[i - 1] for i in range(1, len(text)) if text[i] == "b"}
    )


def test_units_and_quality_by_hand():
    found = lesson.units(math.log(8), "char")
    assert found["bits_per_char"] == pytest.approx(3)
    assert found["perplexity"] == pytest.approx(8)
    assert lesson.longest_copy("xxabcdyyab", "zabcdab") == "abcd"


def test_fixed_discounts_by_hand():
    """hello_hello, after l: (2 - 0.5 + 1.0 * p(l)) / 4, with p(l) = 1 / 3 of all kinds."""
    ids = torch.tensor(["_ehlo".index(letter) for letter in "hello_hello"])
    grams = lesson.KneserNey(ids, 2, 5, discounts=[0.0, 0.5, 0.5, 0.5])
    p = [grams.probability(chr(3), chr(i)) for i in range(5)]
    rest = 1 / 24
    assert p == pytest.approx([rest, rest, rest, (1.5 + 1 / 3) / 4, (1.5 + 1 / 6) / 4])
    # Nothing ever followed this history: the shorter one decides.
    assert grams.probability(chr(9), chr(3)) == pytest.approx(1 / 3)


def test_counting_writes_what_it_counted():
    ids = torch.tensor([1, 2, 3, 4] * 200)
    grams = lesson.KneserNey(ids, 3, 6)
    start = torch.tensor([1, 2])
    written = lesson.write_by_counting(grams, start, 300, seed=0)
    assert written == lesson.write_by_counting(grams, start, 300, seed=0)
    assert len(written) == 300 and 0 not in written
    pairs = Counter(pairwise(written))
    usual = sum(pairs[pair] for pair in ((1, 2), (2, 3), (3, 4), (4, 1)))
    assert usual > 0.9 * 299
    # The first draw has the probabilities of the model.
    chances = [0.0] + [grams.probability(chr(1) + chr(2), chr(i)) for i in range(1, 6)]
    firsts = [lesson.write_by_counting(grams, start, 1, seed)[0] for seed in range(300)]
    share = firsts.count(3) / 300
    assert share == pytest.approx(chances[3] / sum(chances), abs=0.05)


def test_where_val_loss_turned_is_said(capsys):
    losses = [(2.0, 1.9), (1.5, 1.7), (1.4, 1.75)]
    records = []
    for number, (loss, val_loss) in enumerate(losses, start=1):
        records.append({"epoch": number, "loss": loss, "val_loss": val_loss})
    lesson.read_training(records)
    out = " ".join(capsys.readouterr().out.split())
    assert "lowest in epoch 2, 1.7000." in out
    assert "loss moved by -0.1000, val_loss by +0.0500" in out
    assert "0.20 nats more" in out
    lesson.read_training(records[:1])
    out = " ".join(capsys.readouterr().out.split())
    assert "it had not turned" in out and "with dropout" in out


def test_the_ways_near_to_the_author_are_named_by_column(capsys):
    def row(unlikely, known):
        return {"unlikely": unlikely, "known words": known, "known speakers": 1.0}

    names = ("temperature 1", "cold", lesson.AUTHOR)
    rows = dict(zip(names, [row(0.03, 0.80), row(0.0, 0.97), row(0.031, 0.96)]))
    number = {"unlikely": 2000, "known words": 400, "known speakers": 19}
    numbers = {key: dict(number) for key in names}

    def read(fair):
        lesson.read_ways(rows, numbers, fair)
        return " ".join(capsys.readouterr().out.split())

    out = read(["temperature 1", "cold"])
    assert "unlikely nearest temperature 1, 0.1% away; near: temperature 1 known" in out
    assert "known words nearest cold, 1.0% away; near: cold Near" in out
    assert "every line: none." in out
    assert "known speakers" not in out  # 19 tell too little
    rows["cold"] = row(0.03, 0.955)
    out = read(["temperature 1", "cold"])
    assert "near: temperature 1, cold" in out and "every line: cold." in out
    rows["cold"] = row(0.5, 0.5)
    assert "nearest cold, 46.9% away; near: none" in read(["cold"])
    assert "nearest" not in read([])


def test_luck_is_smaller_in_longer_texts():
    short = lesson.luck(0.9, 400, 0.9, 400)
    p = 721 / 802  # one more right, one more wrong
    assert short == pytest.approx(2 * math.sqrt(2 * p * (1 - p) / 400))
    assert lesson.luck(0.9, 2000, 0.9, 2000) < short
    assert 0 < lesson.luck(1.0, 10, 1.0, 10) < 0.25


def test_a_short_text_is_learned_by_heart_as_the_lesson_says(capsys):
    lesson.show_learned_by_heart()
    rows = re.findall(
        r"(\d+)-gram +([\d.]+) +([\d.]+) +(\d+)\n", capsys.readouterr().out
    )
    order, own, new, copy = zip(*[[float(x) for x in row] for row in rows], strict=True)
    assert order == (2, 4, 10)
    assert own[1] > own[2] and new[1] < new[2] and copy[1] < copy[2]


def test_the_answer_says_who_is_nearer_to_the_author(capsys):
    number = {"unlikely": 10000, "known words": 1800, "usual lines": 200}
    number["known speakers"] = 0
    numbers = {key: number for key in ("temperature 1", "7-gram", lesson.AUTHOR)}
    none = {"known speakers": "-"}
    rows = {
        "temperature 1": {"known words": 0.90, "usual lines": 0.84, **none},
        "7-gram": {"known words": 0.89, "usual lines": 0.23, **none},
        lesson.AUTHOR: {"known words": 0.96, "usual lines": 0.85, "copy": 23, **none},
    }
    rows |= {way: {"copy": 9} for way in lesson.WAYS if way not in rows}
    rows["temperature 1"]["copy"] = 9
    rows["top-k 5"]["copy"] = 23
    ours = torch.full((2000,), 1.4)
    counted = {"7-gram": torch.full((2000,), 1.5)}
    corpus = Namespace(level="char")

    def answered(ours, late_saved):
        lesson.answer(corpus, ours, counted, late_saved, rows, numbers)
        return " ".join(capsys.readouterr().out.split())

    out = answered(ours, 0.0)
    assert "author 96.0%, luck 2.0%: may be luck" in out
    assert "84.0% of 200, 7-gram 23.0%, author 85.0%, luck 10.0%: the network " in out
    assert "in 2 of 2 stretches" in out.lower()
    assert "its text shows that: usual lines." in out
    assert "known speakers" not in out
    assert (
        "passage from training has 9 characters, the author's own 23: no longer, so no "
        "sign of copying"
        in out
        and "at most 23 (top-k 5)" in out
    )
    assert "sees 6 characters" in out and "more than one window" in out
    for late_saved in (0.01, None):
        assert "more than one window" not in answered(ours, late_saved)
    rows["temperature 1"]["usual lines"] = 0.01
    rows["temperature 1"]["copy"] = 24
    out = answered(ours + 1, 0.0)
    assert "luck 6.5%: the 7-gram" in out and "not learned enough" in out
    assert "Why the lines" not in out and "no sign" not in out
    rows["temperature 1"] |= {"known words": 0.955, "usual lines": 0.84}
    assert "shows that: usual lines, known words." in answered(ours, None)


def test_the_parts_of_a_play():
    speech = "\n\nROMEO:\n" + "a verse of thirty characters ok\n"
    text = "x" * 31 + speech * 10
    assert lesson.speakers_of(text) == ["ROMEO"] * 10
    assert lesson.lines_of(text)[1] == "a verse of thirty characters ok"
    corpus = Namespace(texts=[text, ""], level="char")
    known = lesson.what_is_known(corpus)
    assert known.speakers == {"ROMEO"} and list(known.usual) == [31]
    written = "\n\nROMEO:\nverse\n\nTOM:\n" + "of" * 16 + "\n"
    row, numbers, _ = lesson.quality(written, written, known)
    assert row["known speakers"] == 0.5 and numbers["known speakers"] == 2
    assert row["known words"] == 2 / 4
    assert row["usual lines"] == 0 and numbers["usual lines"] == 2
    row, numbers, _ = lesson.quality("no speech\n", "no speech\n", known)
    assert row["known speakers"] == "-" and numbers["known speakers"] == 0
    corpus = Namespace(texts=["\n\nonce:\nand no play\n", ""], level="word")
    known = lesson.what_is_known(corpus)
    assert not known.speakers and not known.words


def test_stretches():
    ours = torch.tensor([1.0, 1.0, 3.0, 3.0, 1.0])
    assert lesson.stretches_won(ours, torch.full((5,), 2.0), length=2) == (2, 3)


def test_a_run_of_blanks_is_no_copy(tmp_path):
    source = utils.Source("code", tmp_path, real=False)
    corpus = lesson.Corpus(source, "char", None, ["a = 1" + " " * 99, ""], None)
    known = lesson.what_is_known(corpus)
    text = "b" + " " * 50 + "= 1\n\nc"
    found, _, copy = lesson.quality(text, text, known)
    assert copy == " = 1 "
    assert found["copy"] == 5


def test_words_and_back():
    text = "No, I don't: 'tis he!\nGo."
    tokens = lesson.tokenize(text, "word")
    assert tokens[:4] == ["No", ",", "I", "don't"]
    assert lesson.join(lesson.tokenize("ab c\n", "char"), "char") == "ab c\n"
    assert lesson.join(["No", ",", "I", "go", "\n", "Now"], "word") == "No, I go\nNow"


# --- runs ---------------------------------------------------------------------------------------


def test_vocabulary_is_that_of_training(tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_text("abcde " * 300 + "\u00df" * 100)
    flags = ("--quick", "--input", path, "--hidden-size", 8, "--no-plots")
    more = ("--prompt", "abß", "--max-length", 20, "--out-dir", tmp_path / "out")
    assert run_main(lesson, *flags, *more) == 0
    assert "tokens that training never saw" in capsys.readouterr().out
    state = torch.load(tmp_path / "out" / "last.pt", weights_only=True)
    assert "ß" not in state["feeds"]["vocabulary"]
    assert metrics(tmp_path)["metrics"]["bits_per_char"] > 0


def test_write_only_writes_the_text_and_nothing_else(tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_text("abcde " * 300)
    out = tmp_path / "out"
    flags = ("--quick", "--input", path, "--hidden-size", 8, "--no-plots")
    flags += ("--path", tmp_path / "m.pt", "--out-dir", out, "--max-length", 30)
    assert run_main(lesson, *flags, "--save-model", "--write-only") == 0
    capsys.readouterr()
    assert run_main(lesson, *flags, "--eval-only", "--write-only") == 0
    said = capsys.readouterr().out
    text = said.split("written at --temperature 0.8\n")[1]
    assert len(text) == 31  # with its line end
    assert not (out / "metrics.json").exists()


def test_a_text_that_is_too_short(tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_text("too short for this")
    assert run_main(lesson, "--input", path, "--out-dir", tmp_path / "out") == 2
    assert "too short" in one_sentence(capsys)


def test_a_library_without_source(tmp_path):
    with pytest.raises(utils.UserError, match="--input"):
        lesson.read_standard_library(tmp_path)
