"""Lesson 02: tokenizers, byte-pair encoding, vocabulary, embedding, counted vectors."""

import random
import re
import sys
import types
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import regex
import torch
from conftest import (
    load_lesson,
    metrics,
    one_sentence,
    refusal,
    run_main,
    written,
)

from rnn_utils import BOS, EOS, PAD, UNK, Vocabulary, length_mask, pad

lesson = load_lesson("02_text_preprocessing")

HARD_TEXTS = [
    "",
    " ",
    "  two  spaces,\ttab\r\nand line ends\n\n",
    'It\'s "quoted" (twice)!?',
    "naïve café Łódź 東京 Ελλάδα ☕👩‍👩‍👧",
    "<pad><unk><bos> <eos>",
    "bell \x07 byte, \x1c separator, \x85 next line, \xa0 hard space, _underscore_",
    "unseen €1,000.00 zzzzqqqq",
]
SIGNS = "aab  c.'’_-\n\t\xa0<>é東☕\u0301"


def random_texts(seed, count=30, signs=SIGNS, longest=30):
    rng = random.Random(seed)
    return [
        "".join(rng.choices(signs, k=rng.randint(0, longest))) for _ in range(count)
    ]


def random_rows(seed, words="the a cat dog saw Ran , . <pad> <unk>"):
    rng = random.Random(seed)
    return [rng.choices(words.split(), k=rng.randint(0, 8)) for _ in range(12)]


def learn(texts, how_many, min_freq=2):
    """The merges alone, without their counts."""
    learnt = lesson.learn_bpe(lesson.count_chunks(texts), how_many, min_freq)
    return [pair for pair, _ in learnt]


# ---------------------------------------------------------------- words and characters


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("You CAN install it!", ["you", "can", "install", "it", "!"]),
        ("don't", ["don", "'", "t"]),
        ('He said "no".', ["he", "said", "no", "."]),
        ("3.14, (a;b): ok?", ["3", ".", "14", ",", "(", "a", "b", ")", "ok", "?"]),
        ("end.<br /><br />Next", ["end", ".", "next"]),
        ("A<BR />b <br/> c", ["a", "b", "<br/>", "c"]),
        ("well-known -- e@mail\u00a0x\t\ny", ["well-known", "--", "e@mail", "x", "y"]),
        ("ÉTÉ", ["été"]),
        ("", []),
        ('";:', []),
    ],
)
def test_basic_english_by_hand(text, tokens):
    """Every rule of torchtext's documented normalisation, worked out by hand."""
    assert lesson.basic_english(text) == tokens


# torchtext's documented rules, each applied to the whole text before the next one is.
RULES = [("'", " '  "), ('"', ""), (r"\.", " . "), (r"<br \/>", " "), (",", " , ")]
RULES += [(r"\(", " ( "), (r"\)", " ) "), (r"\!", " ! "), (r"\?", " ? ")]
RULES += [(r"\;", " "), (r"\:", " "), (r"\s+", " ")]


def test_basic_english_equals_torchtexts_rules_one_by_one():
    """Another order of the rules must do no harm, on hostile text too."""
    rng = random.Random(0)
    parts = ["<br />", "<br", " />", "/>", *"'\".,()!?;: \t\n\xa0\x1cabÉß", "İ"]
    for _ in range(3000):
        text = "".join(rng.choices(parts, k=rng.randint(0, 12)))
        expected = text.lower()
        for pattern, replacement in RULES:
            expected = re.sub(pattern, replacement, expected)
        assert lesson.basic_english(text) == expected.split()


def test_words_keep_case_apostrophes_and_marks():
    text = "Don't panic, O'Brien: it’s 2-1 (now)... 'tis"
    expected = "Don't panic , O'Brien : it’s 2 - 1 ( now ) . . . ' tis"
    assert lesson.words(text) == expected.split()


@pytest.mark.parametrize(
    "text", ["नमस्ते दुनिया", "cafe\u0301 e\u0301te\u0301", "ഹിന്ദി", "می\u200cروم"]
)
def test_marks_stay_on_their_letters(text):
    """Vowel signs, accents by themselves and joiners do not cut a word to pieces."""
    assert lesson.words(text) == text.split()
    assert len(lesson.CHUNK.findall(text)) == len(text.split())


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_by_cutting(seed):
    """Words lose white space alone; characters and chunks lose nothing."""
    for text in [*HARD_TEXTS, *random_texts(seed)]:
        assert "".join(lesson.words(text)) == regex.sub(r"\s", "", text)
        tokens = lesson.make_tokenizers([])["char"](text)
        assert "".join(tokens) == text and len(tokens) == len(text)
        assert "".join(lesson.CHUNK.findall(text)) == text


# ---------------------------------------------------------------- vocabulary and ids


@pytest.mark.parametrize("seed", range(40))
def test_twelve_lines_equal_the_shared_vocabulary(seed):
    """Counted, sorted, numbered and looked up alike; a text's own <pad> is left out."""
    rows = random_rows(seed)
    for min_freq, max_size in ((1, 1000), (2, 1000), (9, 1000), (1, 6), (1, 4)):
        ids = lesson.number_tokens(lesson.count_tokens(rows), min_freq, max_size)
        shared = Vocabulary.build(rows, lesson.SPECIALS, min_freq, max_size)
        assert ids == shared.ids
        asked = ["the", "dog", "unseen", "."]
        assert lesson.look_up(asked, ids) == shared.encode(asked)


def test_vocabulary_order_by_hand():
    """Specials, then falling count, ties alphabetical: the order of torchtext."""
    rows = [["b", "a", "c"], ["b", "a", "Z"], ["b"]]
    order = [PAD, UNK, BOS, EOS, "b", "a", "Z", "c"]
    for min_freq, max_size, expected in (
        (1, 1000, order),
        (2, 1000, order[:6]),
        (1, 7, order[:7]),
    ):
        counts = lesson.count_tokens(rows)
        assert list(lesson.number_tokens(counts, min_freq, max_size)) == expected


def test_encode_frames_cuts_and_guards():
    """Ids by hand; a text that contains <pad> must not produce the id of padding."""
    vocabulary = Vocabulary([PAD, UNK, BOS, EOS, "a", "b"])
    assert lesson.to_row(["a", "x", "b"], vocabulary, 10) == [2, 4, 1, 5, 3]
    assert lesson.to_row(["a", "x", "b"], vocabulary, 4) == [2, 4, 1, 3]
    assert lesson.to_row([PAD, EOS, BOS, "a"], vocabulary, 9) == [2, 1, 1, 1, 4, 3]
    assert lesson.from_row([2, 4, 1, 5, 3, 0, 0], vocabulary, " ".join) == "a <unk> b"


@pytest.mark.parametrize("seed", range(10))
def test_known_tokens_come_back_from_a_padded_batch(seed):
    rows = random_rows(seed, "the a cat dog saw")
    vocabulary = Vocabulary.build(rows, lesson.SPECIALS)
    ids, lengths = pad([lesson.to_row(row, vocabulary, 100) for row in rows])
    mask = length_mask(lengths, ids.shape[1])
    for row, numbers, real in zip(rows, ids, mask, strict=True):
        assert lesson.from_row(numbers.tolist(), vocabulary, list) == row
        assert numbers[~real].sum() == 0 and real.sum() == len(row) + 2


# ---------------------------------------------------------------- byte-pair encoding


def naive_bpe(texts, merges, min_freq):
    """The procedure as written, on every occurrence of every chunk, nothing shared."""
    pattern = r" ?\w+| ?[^\w\s]+|\s+"
    chunks = [c for text in texts for c in regex.findall(pattern, text)]
    chunks = [[bytes([byte]) for byte in chunk.encode()] for chunk in chunks]
    learnt = []
    while len(learnt) < merges:
        pairs = Counter(pair for c in chunks for pair in pairwise(c))
        if not pairs or max(pairs.values()) < min_freq:
            break
        most = max(pairs.values())
        best = min(pair for pair, n in pairs.items() if n == most)
        learnt.append((best, most))
        for c in chunks:
            i = 0
            while i + 1 < len(c):
                if (c[i], c[i + 1]) == best:
                    c[i : i + 2] = [b"".join(best)]
                i += 1
    return learnt


@pytest.mark.parametrize("seed", range(24))
def test_plain_fast_and_naive_byte_pairs_are_equal(seed):
    """Counts that are kept up to date must never drift from a full recount."""
    signs = ["ab", "abc ", "aab  é.\n", SIGNS][seed % 4]  # "ab": overlaps galore
    texts = random_texts(seed, 25, signs)
    counts = lesson.count_chunks(texts)
    for min_freq in (1, 2, 6):
        plain = lesson.learn_bpe_plainly(counts, 60, min_freq)
        assert plain == naive_bpe(texts, 60, min_freq)
        assert lesson.learn_bpe(counts, 60, min_freq) == plain
    assert lesson.learn_bpe(counts, 3) == lesson.learn_bpe_plainly(counts, 3)
    assert lesson.learn_bpe(counts, 0) == lesson.learn_bpe_plainly(counts, 0) == []


def test_byte_pairs_by_hand():
    """low 5, lower 2, newest 6, widest 3, by hand; then a word not among them."""
    texts = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    assert lesson.learn_bpe(lesson.count_chunks(texts), 4) == [
        ((b"e", b"s"), 9),  # as often as (s, t), and alphabetically before it
        ((b"es", b"t"), 9),
        ((b"l", b"o"), 7),
        ((b"lo", b"w"), 7),
    ]
    cut = lesson.make_tokenizers(learn(texts, 4))["bpe"]
    assert cut("lowest") == [b"low", b"est"]
    assert lesson.JOIN["bpe"]([b"low", b"est"]) == "lowest"


def test_overlapping_pairs_merge_from_the_left():
    """aaa holds (a, a) twice, yet only one merge fits into it."""
    a, b = b"a", b"b"
    assert lesson.merge_pair([a, a, a], (a, a)) == [b"aa", a]
    assert lesson.merge_pair([a, b, a, b], (a, b)) == [b"ab", b"ab"]
    assert lesson.merge_pair([a, b], (b, a)) == [a, b]
    assert lesson.merge_pair([], (a, b)) == []


def test_the_earliest_merge_goes_first():
    """Of (a, b) and (b, c) in abc the one learnt first wins, not the one further left.

    And a pair that was learnt once more keeps its first rank.
    """
    merges = [(b"b", b"c"), (b"a", b"b")]
    assert lesson.BytePairs(merges).cut("abc abx") == [b"a", b"bc", b" ", b"ab", b"x"]
    twice = [*merges, (b"b", b"c")]
    assert lesson.BytePairs(twice).cut("abc") == [b"a", b"bc"]
    assert lesson.bpe_vocabulary(twice).tokens[260:] == [b"bc", b"ab"]


@pytest.mark.parametrize("merges", [0, 30, 200])
def test_byte_pairs_know_every_text_and_give_it_back(merges):
    """Text -> ids -> text is exact for unseen characters, white space and non-ASCII."""
    learnt = learn([*random_texts(0, 200), "the cat and the hat " * 5], merges)
    assert len(learnt) <= merges and bool(learnt) == bool(merges)
    vocabulary = lesson.bpe_vocabulary(learnt)
    made = {left + right for left, right in learnt}
    assert len(vocabulary) == 4 + 256 + len(made)
    cut = lesson.make_tokenizers(learnt)["bpe"]
    join = lesson.JOIN["bpe"]
    for text in [*HARD_TEXTS, *random_texts(1, 100)]:
        tokens = cut(text)
        ids = lesson.to_row(tokens, vocabulary, 1000)
        assert vocabulary[UNK] not in ids
        assert lesson.from_row(ids, vocabulary, join) == text


def test_no_piece_looks_like_a_special():
    """However often <pad> stands in a text, no merge may build a piece of that name."""
    learnt = learn(["<pad> <unk> x<bos><eos>"] * 50, 1000, 1)
    assert not {a + b for a, b in learnt} & {t.encode() for t in lesson.SPECIALS}


def test_half_a_character_does_not_raise():
    """--max-length may cut between two bytes of one character."""
    assert lesson.make_tokenizers([])["bpe"]("aé") == [b"a", b"\xc3", b"\xa9"]
    assert lesson.JOIN["bpe"]([b"a", b"\xc3"]) == "a\ufffd"
    assert lesson.visible([b"\xc3", b" a", " é\n"]) == ["\\xc3", "_a", "_é\\n"]


# ---------------------------------------------------------------- embedding


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_one_hot_product_is_the_lookup(kind):
    """Values and gradients equal to the bit; rows that did not occur get none."""
    torch.manual_seed(0)
    weight = torch.randn(11, 5, dtype=kind, requires_grad=True)
    ids = torch.tensor([[1, 7, 7, 2], [7, 1, 10, 10], [1, 1, 1, 1]])
    incoming = torch.randint(1, 9, (3, 4, 5)).to(
        kind
    )  # sums of whole numbers are exact
    product = lesson.embed_by_one_hot(ids, weight)
    lookup = torch.nn.functional.embedding(ids, weight)
    assert torch.equal(product, lookup)
    (by_product,) = torch.autograd.grad(product, weight, incoming)
    (by_lookup,) = torch.autograd.grad(lookup, weight, incoming)
    assert torch.equal(by_product, by_lookup)
    assert by_product.abs().sum(1).nonzero().flatten().tolist() == [1, 2, 7, 10]


@pytest.mark.parametrize("seed", range(10))
def test_one_step_changes_the_rows_that_occurred_and_no_padding(seed):
    """W - rate x (W - 1), once for each time that a row was looked up."""
    torch.manual_seed(seed)
    table = torch.nn.Embedding(12, 3, padding_idx=0)
    before = table.weight.detach().clone()
    ids = torch.randint(0, 12, (2, 4))
    lesson.one_step(table, ids, learning_rate=0.1)
    times = torch.bincount(ids.flatten(), minlength=12).unsqueeze(1)
    times[0] = 0
    expected = before - 0.1 * times * (before - 1)
    torch.testing.assert_close(table.weight.detach(), expected)
    changed = (table.weight != before).any(1).nonzero().flatten().tolist()
    assert changed == sorted(set(ids.flatten().tolist()) - {0})


# ---------------------------------------------------------------- counted vectors


@pytest.mark.parametrize("seed", range(10))
def test_counts_of_neighbours_equal_a_naive_count(seed):
    """Every two places of a row, both ways, never across rows; None has no count."""
    rng = random.Random(seed)
    choices = [0, 1, 2, 3, None]
    rows = [rng.choices(choices, k=rng.randint(0, 9)) for _ in range(8)]
    for window in (1, 3):
        expected = np.zeros((4, 4))
        for row in rows:
            for i, a in enumerate(row):
                for j, b in enumerate(row):
                    if i != j and abs(i - j) <= window and None not in (a, b):
                        expected[a, b] += 1
        assert (lesson.count_neighbours(rows, 4, window) == expected).all()


@pytest.mark.parametrize("power", [1.0, 0.75])
def test_scores_and_cosines_against_their_equations(power):
    """Cell by cell: log of count over chance, never below 0; dot over lengths."""
    counts = np.random.default_rng(0).poisson([1, 1, 1, 9, 9, 9], (6, 6)) * 1.0
    counts += counts.T
    share = counts.sum(0) ** power / (counts.sum(0) ** power).sum()
    expected = np.zeros((6, 6))
    for a in range(6):
        for b in range(6):
            if counts[a, b]:
                chance = counts[a].sum() * share[b]
                expected[a, b] = max(0, np.log(counts[a, b] / chance))
    assert (expected == 0).any() and (expected > 0).any(1).all()
    scores = lesson.score(counts, power)
    np.testing.assert_allclose(scores, expected, atol=1e-12)
    for a in range(6):
        for b in range(6):
            lengths = np.sqrt(expected[a] @ expected[a] * (expected[b] @ expected[b]))
            found = lesson.cosines(scores)[a, b]
            assert found == pytest.approx(expected[a] @ expected[b] / lengths)


@pytest.mark.parametrize("rows", [[], [[0], [1], [2]]])
def test_words_without_neighbours(rows):
    """Zeros, without a division by zero, even if there is no word at all."""
    with np.errstate(all="raise"):
        counts = lesson.count_neighbours(rows, size=len(rows), window=2)
        scores = lesson.score(counts, 0.75)
        assert not lesson.cosines(scores).any()
        assert not lesson.cosines(lesson.shorten(scores, 2)).any()


def test_short_rows_keep_as_much_of_the_table_as_can_be_kept():
    """All numbers: the same cosines; a few: the error that is left over at least."""
    table = np.random.default_rng(0).random((9, 9))
    whole = lesson.shorten(table, 9)
    np.testing.assert_allclose(whole @ whole.T, table @ table.T)
    assert lesson.shorten(table, 100).shape == (9, 9)
    short = lesson.shorten(table, 3)
    assert short.shape == (9, 3)
    # The best table of rank 3 lies as far off as the roots left out of the eigenvalues.
    left_out = np.sort(np.linalg.eigvalsh(table @ table.T))[:-3].sum()
    found = (table**2).sum() - (short**2).sum()
    assert found == pytest.approx(left_out)


def test_counted_vectors_find_the_words_of_one_place():
    """The nearest word must be one that the generator puts in the same place."""
    places = ["dog cat horse cow", "ran slept hid", "Monday Friday Sunday", "at in by"]
    kinds = {word: k for k, place in enumerate(places) for word in place.split()}
    rng = random.Random(0)
    rows = []
    for _ in range(800):
        dog, ran, day, at = (rng.choice(place.split()) for place in places)
        rows.append(f"on {day} the {dog} {ran} {at} home".split())
    vocabulary = Vocabulary.build(rows, ())
    ids = [vocabulary.encode(row) for row in rows]
    counts = lesson.count_neighbours(ids, len(vocabulary), window=3)
    alike = lesson.cosines(lesson.score(counts, 0.75))
    np.fill_diagonal(alike, -1)
    for word, kind in kinds.items():
        nearest = vocabulary.tokens[alike[vocabulary[word]].argmax()]
        assert kinds.get(nearest) == kind, (word, nearest)


# ---------------------------------------------------------------- measures


def test_coverage_by_hand():
    """Shares of the held-out tokens that the k most frequent training tokens know."""
    train, held = [["a", "a", "b", "b", "b", "c"]], [["a", "b", "x", "a"], ["c"]]
    assert lesson.coverage(train, held) == pytest.approx([0.2, 0.6, 0.8])
    assert lesson.coverage(train, train) == pytest.approx([3 / 6, 5 / 6, 1])
    assert lesson.counts_by_rank(train, train).tolist() == [3, 2, 1]
    assert lesson.counts_by_rank([["b", "a"]], [["a", "c", "a"]]).tolist() == [2, 0]
    vocabulary = Vocabulary([PAD, UNK, "a", "b"])
    assert lesson.share_known(held, vocabulary) == pytest.approx(3 / 5)


def test_leakage_by_hand(capsys):
    """b stands in the last tenth alone, and twice: known once it was counted there."""
    train = [["a", "a"]] * 19
    held = [["a", "b", "b", "c"]]
    args = types.SimpleNamespace(min_freq=2, max_vocab=100)
    vocabulary = Vocabulary.build(train, lesson.SPECIALS, 2, 100)
    lesson.print_leakage(train, held, vocabulary, args)
    said = capsys.readouterr().out.splitlines()
    shares = [line.split()[0] for line in said if line.strip()[:1].isdigit()]
    assert shares == ["75.00%", "25.00%"]
    assert "tenth: b 2, c 1." in said[-1]


def test_why_tokens_are_unknown_by_hand(capsys):
    """Never seen, seen too seldom; one document beside it."""
    train = [["a", "a", "b"], ["b", "c"]]
    held = [["a", "c", "x", "a"]]
    args = types.SimpleNamespace(min_freq=2, max_vocab=100)
    vocabulary = Vocabulary.build(train, lesson.SPECIALS, 2, 100)
    told = lesson.about_unknown(train, held, vocabulary, args)
    assert "50.00% of the tokens are unknown.  25.00% never" in told
    assert "25.00% did, but have no id (--min-freq 2)." in told
    assert "In training 20.00% are <unk>" in told  # c of a a b b c
    args.max_vocab = len(vocabulary)
    told = lesson.about_unknown(train, held, vocabulary, args)
    assert "(--min-freq 2, --max-vocab 6)" in told
    told = lesson.about_unknown(train, [["a"]], vocabulary, args)
    assert "Held out, 0.00%" in told
    lesson.print_what_remains(["a", "b"], [["x"], ["b", "x", "a"] * 3], used=2)
    said = capsys.readouterr().out.splitlines()
    assert said[-2].split() == ["2", *["b", "<unk>", "a"] * 3]
    assert said[-1].split() == ["the", "text", *["b", "x", "a"] * 3]
    lesson.print_what_remains(["a", "b"], [["a"] * 9], used=2)
    assert capsys.readouterr().out == ""


def test_lengths_by_hand(capsys):
    """Lengths 1 to 10; room for 8 tokens beside <bos> and <eos>: 1 + 2 of 55 are lost."""
    args = types.SimpleNamespace(max_length=10)
    lesson.print_lengths([["a"] * n for n in range(1, 11)], [["a"] * 3, ["a"]], args)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "50% of them have at most 5 tokens, 90% 9, 99% 10; the longest has 10" in said
    )
    assert "the average 5.5 (held-out documents, which are other texts: 2.0)" in said
    assert "shortens 2 of 10 documents, and cuts off 5.5%" in said


def test_padding_by_hand():
    """Batches 1 5, 1 5 hold 20 places for 12 tokens; sorted 1 1, 5 5 none too many."""
    assert lesson.padding_share([1, 5, 1, 5], 2) == pytest.approx(8 / 20)
    assert lesson.padding_share([1, 1, 5, 5], 2) == 0
    assert lesson.padding_share([1, 4, 2], 2) == pytest.approx(3 / 10)


def test_the_embedding_of_counted_vectors_can_be_trained():
    """Its rows stand at the vocabulary's ids, in a network's kind of numbers."""
    torch.manual_seed(0)
    train = [["a", "b", "<pad>"], ["c", "b"]] * 30 + [["rare", "a"]] * 2
    vocabulary = Vocabulary.build(train, lesson.SPECIALS)
    frequent = Vocabulary.build(train, (), 20)
    _, short = lesson.neighbour_vectors(train, frequent)
    table = lesson.start_embedding(vocabulary, frequent, short)
    assert set(frequent.tokens) == {"a", "b", "c", "<pad>"} and len(table.weight) == 8
    for token in "abc":
        row = table.weight[vocabulary[token]].detach().numpy()
        np.testing.assert_allclose(row, short[frequent[token]], rtol=1e-6)
    assert not table.weight[0].any() and table.weight[vocabulary["rare"]].any()
    torch.nn.Linear(4, 2)(table(torch.tensor([4, 5]))).sum().backward()
    assert table.weight.grad[4].any() and not table.weight.grad[6:].any()


def test_sentences_that_lost_their_mark():
    """The speaker goes, other marks are no sentence's end that counts, sizes agree."""
    texts = ["KING:\nWho is there? I am.", "Go! Why not?\nSo it is.  It is 3.50 here."]
    questions, statements = lesson.questions_and_statements(texts)
    assert sorted(questions) == ["Who is there", "Why not"] and len(statements) == 2
    assert set(statements) < {"I am", "So it is", "It is 3.50 here"}
    assert lesson.questions_and_statements(texts) == (questions, statements)


def test_the_trial_by_hand():
    """Weights are logs of shares that begin at 1; 0 is no question."""
    vocabulary = Vocabulary([PAD, UNK, BOS, EOS, "a", "b"])
    train = (["a a b"], ["b b a"])
    held = (["a", "a b", "b x"], ["b", "a", ""])
    weights, right = lesson.judge(str.split, vocabulary, train, held)
    np.testing.assert_allclose(np.exp(weights), [1, 1, 1, 1, 3 / 2, 2 / 3])
    assert right.tolist() == [1, 0, 0, 1, 0, 1]
    found = lesson.difference(right, np.array([1, 0, 0, 0, 0, 0]))  # gains 1 twice
    assert found == pytest.approx((2 / 6, 2 * (2 / 9) ** 0.5 / 6**0.5))


def test_the_trial_is_run_or_left_out(tmp_path, capsys):
    """Questions that begin with Who: each token tells it; a text without any says so."""
    lines = [f"Who came {i}? He came {i}." for i in range(300)]
    path = written(tmp_path, "text.txt", "\n".join(lines))
    run(tmp_path, "--input", path)
    said = capsys.readouterr().out
    rows = dict(re.findall(r"\n  (word|basic_english) .*% +([\d.]+) +[+-]", said))
    assert rows == {"word": "1.0000", "basic_english": "1.0000"}
    assert "the share of 60 held-out sentences" in " ".join(said.split())
    run(tmp_path, "--quick")
    said = capsys.readouterr().out
    assert "too few questions" in said and "Right in ours" not in said


def run(folder, *flags):
    """A finished run without pictures: its metrics.json."""
    flags = ["--no-plots", "--out-dir", folder / "out", *flags]
    assert run_main(lesson, *flags) == 0
    return metrics(folder)


def test_nothing_is_learnt_from_the_held_out_part(tmp_path):
    """A word that stands in the held-out tenth only is unknown; the table by hand."""
    text = "alpha beta beta\n" * 9 + "secret secret secret beta\n"
    path = written(tmp_path, "text.txt", text)
    found = run(tmp_path, "--input", path, "--min-freq", 1)
    expected = {"vocabulary_size": 4 + 2, "held_out_tokens": 4}
    expected |= {"tokens_per_document": 4, "held_out_coverage": 0.25, "exactly_back": 0}
    expected |= {"documents_hit": 1}
    assert found["models"]["basic_english"] == expected
    assert found["metrics"] == {"held_out_coverage": 0.25}
    assert found["models"]["char"]["vocabulary_size"] == 4 + len(set("alpha beta"))
    assert found["models"]["char"]["held_out_coverage"] < 1  # the s, c and r of secret
    assert found["models"]["bpe"]["exactly_back"] == 1
    assert found["models"]["bpe"]["held_out_coverage"] == 1
    assert found["models"]["bpe"]["documents_hit"] == 0
    # Merges of the whole text would make one piece of secret.
    merges = learn(["alpha beta beta"] * 9, 500, 1)
    pieces = lesson.BytePairs(merges).cut("secret secret secret beta")
    assert found["models"]["bpe"]["held_out_tokens"] == len(pieces) > 4
    found = run(tmp_path, "--input", path, "--tokenizer", "bpe")
    assert found["metrics"] == {"held_out_coverage": 1}


# ---------------------------------------------------------------- files


def test_csv_files(tmp_path):
    """Only the text column is text; "null" is one; a wrong column names its flag."""
    rows = 'text,label\n"good, very good",positive\n,negative\nnull,negative\n'
    path = written(tmp_path, "reviews.csv", rows)
    assert lesson.read_documents(path) == ["good, very good", "", "null"]
    assert lesson.read_documents(path, "Label")[0] == "positive"
    assert "--text-column" in refusal(lesson.read_documents, path, "title")


def test_plain_files_are_cut_at_empty_lines_or_line_ends(tmp_path):
    """Ten paragraphs or more are documents; a file of fewer is taken line by line."""
    path = written(tmp_path, "text.txt", "a b\nc\n \n" * 10)
    assert lesson.read_documents(path)[:2] == ["a b\nc", "a b\nc"]
    path = written(tmp_path, "text.txt", "a b\nc\n\n" * 8)
    assert lesson.read_documents(path)[:3] == ["a b", "c", ""]
    path = written(tmp_path, "text.txt", "One.  Two! It costs 3.50? So... 四。五！六")
    cut = ["One.", "Two!", "It costs 3.50?", "So...", "四。", "五！", "六"]
    assert lesson.read_documents(path) == cut


def test_documents_are_normalised_and_empty_ones_left_out(tmp_path):
    """é as e and an accent becomes one sign, so that a word has one spelling."""
    apart = unicodedata.normalize("NFD", "café")
    path = written(tmp_path, "text.txt", f'{apart}\n\n \n\'"\n"\nb\n')
    args = types.SimpleNamespace(
        input=path, dataset="auto", text_column=None, quick=False
    )
    _, train, held = lesson.load_documents(args)
    assert [*train, *held] == ["café", "'\"", "b"]
    assert len(held) == 1


def test_the_sample_is_the_reviews(tmp_path, monkeypatch):
    rows = "".join(f'"the film number {i} was long",negative\n' for i in range(50))
    written(tmp_path, "reviews.csv", "text,label\n" + rows)
    monkeypatch.setattr(lesson.utils, "SAMPLES", tmp_path)
    args = types.SimpleNamespace(
        input=None, dataset="sample", text_column=None, quick=False
    )
    source, train, held = lesson.load_documents(args)
    assert (len(train), len(held)) == (45, 5)
    assert held[-1].startswith("the film number 49") and not source.real


@pytest.mark.parametrize("content", [b"", b"only one line", b'"\n";\n""\n'])
def test_too_little_text_is_refused(tmp_path, capsys, content):
    path = written(tmp_path, "text.txt", content)
    assert run_main(lesson, "--input", path, "--out-dir", tmp_path) == 2
    one_sentence(capsys)


def test_bytes_need_room(tmp_path, capsys):
    """--max-vocab below the 256 bytes: refused if bpe was asked for, else no merges."""
    flags = ["--quick", "--max-vocab", 259]
    bpe = ["--tokenizer", "bpe", "--out-dir", tmp_path]
    assert run_main(lesson, *flags, *bpe) == 2
    assert "--max-vocab" in one_sentence(capsys)
    assert run(tmp_path, *flags)["models"]["bpe"]["vocabulary_size"] == 260


# ---------------------------------------------------------------- the run


@pytest.mark.parametrize("tokenizer", ["basic_english", "word", "bpe", "char"])
def test_odd_but_legal_text_runs_through(tmp_path, capsys, tokenizer):
    """Special names, rare signs, short lines; and all that it claims to be equal is."""
    lines = [text.replace("\n", " ").replace("\r", " ") for text in HARD_TEXTS]
    text = "\n".join(["<pad> <pad> a", *lines, "?", "a"])
    path = written(tmp_path, "text.txt", text)
    run(tmp_path, "--input", path, "--tokenizer", tokenizer, "--min-freq", 1)
    printed = capsys.readouterr().out
    assert "False" not in printed and printed.count("True") >= 4
    said = " ".join(line for line in printed.splitlines() if "difference" in line)
    gaps = [float(gap) for gap in re.findall(r": ([\d.e+-]*\d)", said)]
    assert len(gaps) == 3 and max(gaps) < 1e-6


def test_each_flag_acts_and_the_rest_stays(tmp_path):
    """Sizes of the vocabularies under each flag; those that cut none leave them."""

    def sizes(*flags):
        models = run(tmp_path, "--quick", *flags)["models"]
        return {name: model["vocabulary_size"] for name, model in models.items()}

    usual = sizes()
    assert usual == sizes("--tokenizer", "word", "--max-length", 6)
    assert sizes("--max-vocab", 40)["basic_english"] == 40 < usual["basic_english"]
    assert sizes("--max-vocab", 300)["bpe"] == 300 < usual["bpe"] == 760
    assert sizes("--merges", 7) == {**usual, "bpe": 267}
    nothing = sizes("--min-freq", 100_000)
    assert nothing == {"basic_english": 4, "word": 4, "char": 4, "bpe": 260}


def test_same_command_same_output(tmp_path, capsys):
    """To the letter, but for the clock."""
    printed = []
    for _ in range(2):
        run(tmp_path, "--quick", "--tokenizer", "bpe", "--max-length", 12)
        printed.append(re.sub(r".*timed.*", "", capsys.readouterr().out))
    assert printed[0] == printed[1]
    assert re.search(r"\(4, 12\).*\[12, 12, 12, 12\]", printed[0])


# ---------------------------------------------------------------- torchtext


def fake_torchtext(monkeypatch, order):
    """Stand-ins for the torchtext modules, which do as its documentation says."""

    def build(rows, min_freq, specials, max_tokens):
        counts = Counter(token for row in rows for token in row)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [token for token, n in ranked if n >= min_freq]
        tokens = order([*specials, *kept[: max_tokens - len(specials)]])
        return types.SimpleNamespace(get_itos=lambda: tokens)

    top = types.ModuleType("torchtext")
    top.disable_torchtext_deprecation_warning = lambda: None
    tools = types.ModuleType("torchtext.data.utils")
    tools.get_tokenizer = lambda name: {"basic_english": lesson.basic_english}[name]
    vocab = types.ModuleType("torchtext.vocab")
    vocab.build_vocab_from_iterator = build
    data = types.ModuleType("torchtext.data")
    for module in (top, data, tools, vocab):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def beside_torchtext(texts, rows=None, **flags):
    """What compare_with_torchtext says of these texts."""
    args = types.SimpleNamespace(**{"min_freq": 1, "max_vocab": 1000, **flags})
    rows = rows or [lesson.basic_english(text) for text in texts]
    vocabulary = Vocabulary.build(rows, lesson.SPECIALS, args.min_freq, args.max_vocab)
    return lesson.compare_with_torchtext(texts, rows, vocabulary, args)


def test_torchtext_agreement_and_disagreement_are_told_apart(monkeypatch):
    texts = random_texts(0)
    fake_torchtext(monkeypatch, order=list)
    assert beside_torchtext(texts, min_freq=2, max_vocab=12) == (True, True)
    assert beside_torchtext(["a b"], rows=[["a"]]) == (False, False)
    fake_torchtext(monkeypatch, order=lambda tokens: tokens[::-1])
    assert beside_torchtext(texts) == (True, False)


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError, AttributeError])
def test_torchtext_that_does_not_load(monkeypatch, error):
    """Beside a newer torch, importing torchtext raises one thing or another."""

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "torchtext":
                raise error("undefined symbol")

    for name in [name for name in sys.modules if name.split(".")[0] == "torchtext"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    assert beside_torchtext(["a text"]) is None


def test_real_torchtext_agrees():
    """Tokens, order and ids; see tests/requirements-torchtext.txt.

    torchtext is archived; beside a newer torch its import raises almost anything.
    """
    torchtext = pytest.importorskip("torchtext", exc_type=Exception)
    torchtext.disable_torchtext_deprecation_warning()
    from torchtext.data.utils import get_tokenizer
    from torchtext.vocab import build_vocab_from_iterator

    texts = [*random_texts(0, 200), *HARD_TEXTS]
    rows = [lesson.basic_english(text) for text in texts]
    assert rows == [get_tokenizer("basic_english")(text) for text in texts]
    for min_freq, most in ((1, 1000), (1, 60), (3, 1000)):
        built = build_vocab_from_iterator(
            rows, min_freq, lesson.SPECIALS, max_tokens=most
        )
        ours = Vocabulary.build(rows, lesson.SPECIALS, min_freq, most)
        assert ours.tokens == built.get_itos()


# ---------------------------------------------------------------- the docstring


@pytest.mark.real_data
def test_figures_of_the_docstring(real_data, tmp_path, capsys):
    """What it says that you should see is what a run prints."""
    found = run(tmp_path, "--dataset", "shakespeare", "--data-dir", real_data)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    table = re.findall(r"\n      (\w+ +[\d,]+ .*)", lesson.__doc__)
    assert len(table) == 4
    for line in table:
        assert line.split() in printed, line
    assert ["1,000", "85.92%", "83.08%"] in printed
    assert found["metrics"]["held_out_coverage"] == pytest.approx(0.9356, abs=1e-4)
    args = ["--dataset", "shakespeare", "--data-dir", str(real_data)]
    train = lesson.load_documents(lesson.make_flags().parse_args(args))[1]
    pieces = lesson.BytePairs(learn(train, 500)).cut("Good morrow, Kate")
    told = "|".join(lesson.visible(pieces))
    assert f" {told}\n" in Path(lesson.__file__).read_text()
    assert ["2.55%", "vocabulary", "from", "both"] in [line[:4] for line in printed]
    head = " ".join(lesson.__doc__.split())
    for name, told in re.findall(r"(word|bpe) (?:is right )?for (0\.\d+)", head):
        assert [name, told] in [[line[0], line[3]] for line in printed if line[3:]]
    assert len(re.findall(r"for 0\.\d{4}", head)) == 2
    alone = next(line[4] for line in printed if line[:2] == ["length", "alone"])
    assert f"the length alone {float(alone):.2f}" in head
    told = re.search(r"to father: ([\w, ]+)", head)[1].split(", ")
    line = next(row for row in printed if row[:1] == ["father:"])
    assert line[1 : 1 + 2 * len(told) : 2] == told
