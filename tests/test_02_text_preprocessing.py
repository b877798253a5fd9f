"""Lesson 02: tokenisers, byte-pair encoding, vocabulary, embedding, word vectors."""

import io
import random
import re
import shlex
import sys
import types
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import load_lesson, run_main, run_script

import rnn_utils as utils
from rnn_utils import BOS, EOS, PAD, UNK, Vocabulary

NAME = "02_text_preprocessing"
lesson = load_lesson(NAME)

HARD_TEXTS = [
    "",
    " ",
    "  two  spaces,\ttab\r\nand line ends\n\n",
    'It\'s "quoted" (twice)!?',
    "naïve café Łódź 東京 Ελλάδα ☕👩‍👩‍👧",
    "<pad><unk><bos> <eos>",
    "nul \x00 byte, \x1c separator, \x85 next line, \xa0 hard space, _underscore_",
    "unseen €1,000.00 zzzzqqqq",
]


# Tokenisers


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
    """Three steps must do what the twelve rules in turn do, on hostile text too."""
    rng = random.Random(0)
    parts = ["<br />", "<br", " />", "/>", *"'\".,()!?;: \t\n\xa0\x1cabÉß", "İ"]
    for _ in range(5000):
        text = "".join(rng.choices(parts, k=rng.randint(0, 12)))
        expected = text.lower()
        for pattern, replacement in RULES:
            expected = re.sub(pattern, replacement, expected)
        assert lesson.basic_english(text) == expected.split()


def test_words_keep_case_and_punctuation():
    """A word tokeniser that lower-cased or dropped marks would lose what it must keep."""
    text = "Don't panic, O'Brien: it’s 2-1 (now)..."
    assert lesson.words(text) == (
        ["Don't", "panic", ",", "O'Brien", ":", "it’s", "2", "-", "1"]
        + ["(", "now", ")", ".", ".", "."]
    )


def test_words_lose_nothing_but_white_space():
    """Every character that is not white space stands in exactly one token."""
    for text in HARD_TEXTS:
        assert "".join(lesson.words(text)) == "".join(text.split())


# Byte-pair encoding


def naive_bpe(texts, merges, min_freq):
    """The procedure as written: recount everything at each step."""
    chunks = [c for text in texts for c in re.findall(r" ?\w+| ?[^\w\s]+|\s+", text)]
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


def test_bpe_on_the_papers_words_by_hand():
    """low 5, lower 2, newest 6, widest 3: the counts of Sennrich et al., worked by hand."""
    texts = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    assert lesson.learn_bpe(texts, 4) == [
        ((b"e", b"s"), 9),  # as often as (s, t), and alphabetically before it
        ((b"es", b"t"), 9),
        ((b"l", b"o"), 7),
        ((b"lo", b"w"), 7),
    ]
    split, join = lesson.make_tokenizers(lesson.learn_bpe(texts, 4))["bpe"]
    assert split("lowest") == [b"low", b"est"]  # a word that never occurred
    assert join([b"low", b"est"]) == "lowest"


@pytest.mark.parametrize("min_freq", [1, 2, 7])
def test_bpe_learns_what_the_naive_procedure_learns(min_freq):
    """The incremental counts must never drift from a full recount."""
    texts = [*lesson.own_texts(25), "aaaa aaaaa aaa", "banana ababab", *HARD_TEXTS]
    expected = naive_bpe(texts, 150, min_freq)
    assert lesson.learn_bpe(texts, 150, min_freq) == expected
    assert len(expected) > 20


def test_bpe_applies_merges_in_the_order_of_learning():
    """abc holds (a, b) and (b, c); the one learnt first wins, not the one further left."""
    merges = [((b"b", b"c"), 9), ((b"a", b"b"), 8)]
    assert lesson.make_bpe(merges)("abc abx") == [b"a", b"bc", b" ", b"ab", b"x"]


def test_bpe_pair_learnt_twice_keeps_its_first_place():
    """A later merge may make a pair again; its rank must stay the earliest one."""
    merges = [((b"b", b"c"), 9), ((b"a", b"b"), 8), ((b"b", b"c"), 2)]
    assert lesson.make_bpe(merges)("abc") == [b"a", b"bc"]
    vocabulary = lesson.fit_vocabulary("bpe", [], merges, None)
    assert vocabulary.tokens[260:] == [b"bc", b"ab"]


def test_bpe_merges_overlapping_pairs_from_the_left():
    """aaa holds (a, a) twice, yet only one merge fits into it."""
    a, b = b"a", b"b"
    assert lesson.merge_pair([a, a, a], (a, a)) == [b"aa", a]
    assert lesson.merge_pair([a, b, a, b], (a, b)) == [b"ab", b"ab"]
    assert lesson.merge_pair([a, b], (b, a)) == [a, b]


@pytest.mark.parametrize("merges", [0, 30, 200])
def test_bpe_and_char_give_every_text_back(merges):
    """The round trip must be exact for unseen characters, white space and non-ASCII."""
    learnt = lesson.learn_bpe(lesson.own_texts(300), merges)
    assert len(learnt) == merges
    for name in ("bpe", "char"):
        split, join = lesson.make_tokenizers(learnt)[name]
        for text in HARD_TEXTS:
            assert join(split(text)) == text


def test_bpe_ids_know_every_text():
    """With all bytes numbered nothing is unknown, and ids lead back to the exact text."""
    learnt = lesson.learn_bpe(lesson.own_texts(60), 50)
    vocabulary = lesson.fit_vocabulary("bpe", [], learnt, None)
    assert len(vocabulary) == 4 + 256 + 50
    split, join = lesson.make_tokenizers(learnt)["bpe"]
    for text in HARD_TEXTS:
        ids = lesson.encode(split(text), vocabulary, 1000)
        assert vocabulary[UNK] not in ids
        assert lesson.decode(ids, vocabulary, join) == text


def test_bpe_pieces_never_look_like_a_special():
    """However often <pad> stands in a text, no merge may build a piece of that name."""
    learnt = lesson.learn_bpe(["<pad> <unk> x<bos><eos>"] * 50, 1000, 1)
    assert not {a + b for (a, b), _ in learnt} & set(lesson.SPECIALS)


def test_merges_are_shown_as_they_are(capsys):
    """Pairs, what they make and how often; the word as cut after so many merges."""
    text = "aa strengthen strengthen"
    merges = [((b"t", b"h"), 5), ((b"th", b"e"), 4), ((b" ", b"s"), 3)]
    source = utils.Source("sample", None, False)
    lesson.show_merges(merges, [text], source)
    printed = capsys.readouterr().out
    assert "merge 2: th + e -> the   seen 4 times" in printed
    assert "merge 3: _ + s -> _s   seen 3 times" in printed
    shown = re.findall(r"after +(\d+) merges: (.*)", printed)
    assert shown[0] == ("0", "_ s t r e n g t h e n")
    assert shown[-1] == ("3", "_s t r e n g the n")
    assert len(shown) == 2


def test_bpe_half_a_character_does_not_raise():
    """--max-length may cut between two bytes of one character."""
    split, join = lesson.make_tokenizers([])["bpe"]
    assert split("aé") == [b"a", b"\xc3", b"\xa9"]
    assert join([b"a", b"\xc3"]) == "a\ufffd"
    assert lesson.visible([b"\xc3", b" a", " é\n"]) == ["\\xc3", "_a", "_é\\n"]


# Vocabulary, encoding, coverage


def options(**flags):
    return types.SimpleNamespace(**{"min_freq": 1, "max_vocab": 1000, **flags})


def test_vocabulary_order_by_hand():
    """Specials, then falling count, ties alphabetical: the order of torchtext."""
    rows = [["b", "a", "c"], ["b", "a", "Z"], ["b"]]
    order = [PAD, UNK, BOS, EOS, "b", "a", "Z", "c"]
    fit = lesson.fit_vocabulary
    assert fit("word", rows, [], options()).tokens == order
    assert fit("word", rows, [], options(min_freq=2)).tokens == order[:6]
    assert fit("word", rows, [], options(max_vocab=7)).tokens == order[:7]


def test_encode_frames_cuts_and_guards():
    """Ids by hand; a text that contains <pad> must not produce the id of padding."""
    vocabulary = Vocabulary([PAD, UNK, BOS, EOS, "a", "b"])
    assert lesson.encode(["a", "x", "b"], vocabulary, 10) == [2, 4, 1, 5, 3]
    assert lesson.encode(["a", "x", "b"], vocabulary, 4) == [2, 4, 1, 3]
    assert lesson.encode([PAD, EOS, BOS, "a"], vocabulary, 9) == [2, 1, 1, 1, 4, 3]
    assert lesson.decode([2, 4, 1, 5, 3, 0, 0], vocabulary, " ".join) == "a <unk> b"


def test_coverage_by_hand():
    """Shares of the held-out tokens that the k most frequent training tokens know."""
    train, held = [["a", "a", "b", "b", "b", "c"]], [["a", "b", "x", "a"], ["c"]]
    assert lesson.coverage(train, held) == pytest.approx([0.2, 0.6, 0.8])
    assert lesson.coverage(train, train) == pytest.approx([3 / 6, 5 / 6, 1])
    assert lesson.counts_by_rank(train, train).tolist() == [3, 2, 1]
    assert lesson.counts_by_rank([["b", "a"]], [["a", "c", "a"]]).tolist() == [2, 0]
    vocabulary = Vocabulary([PAD, UNK, "a", "b"])
    assert lesson.share_known(held, vocabulary) == pytest.approx(3 / 5)


def test_nothing_is_fitted_to_the_held_out_part(tmp_path, capsys):
    """A word that stands in the held-out tenth only must be unknown."""
    path = tmp_path / "text.txt"
    path.write_text("alpha beta beta\n" * 9 + "secret secret secret beta\n")
    assert (
        run_main(
            lesson,
            "--input",
            path,
            "--min-freq",
            1,
            "--no-plots",
            "--out-dir",
            tmp_path,
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert re.search(r"basic_english +6 +4\.0 +75\.00%", printed)  # 4 specials, 2 words


# Embedding


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_one_hot_product_is_the_lookup(kind):
    """Values and gradients equal to the bit; rows that did not occur get none."""
    weight = torch.randn(11, 5, dtype=kind, requires_grad=True)
    ids = torch.tensor([[1, 7, 7, 2], [7, 1, 10, 10], [1, 1, 1, 1]])
    incoming = torch.randint(1, 9, (3, 4, 5)).to(kind)
    product = lesson.embed_by_one_hot(ids, weight)
    lookup = torch.nn.functional.embedding(ids, weight)
    assert torch.equal(product, lookup)
    assert product.shape == (3, 4, 5)
    (by_product,) = torch.autograd.grad(product, weight, incoming)
    (by_lookup,) = torch.autograd.grad(lookup, weight, incoming)
    assert torch.equal(by_product, by_lookup)
    assert by_product.abs().sum(1).nonzero().flatten().tolist() == [1, 2, 7, 10]


# Word vectors


def test_cooccurrences_by_hand():
    """Neighbours up to two places apart, both ways, never across documents."""
    rows = [[0, 1, 2, 0], [1, 3, 2]]  # 3 is out of the vocabulary: nobody's neighbour
    expected = np.array([[0, 2, 2], [2, 0, 2], [2, 2, 0]])
    counted = lesson.cooccurrences(rows, size=3, window=2)
    assert counted.tolist() == expected.tolist()


def test_word_vectors_against_the_equation():
    """Written out cell by cell: log of count over chance, never below 0, length 1."""
    counts = np.random.default_rng(0).poisson([1, 1, 1, 9, 9, 9], (6, 6)) * 1.0
    counts += counts.T
    share = counts.sum(0) ** 0.75 / (counts.sum(0) ** 0.75).sum()
    ppmi = np.zeros((6, 6))
    for a in range(6):
        for b in range(6):
            if counts[a, b]:
                chance = counts[a].sum() * share[b]
                ppmi[a, b] = max(0, np.log(counts[a, b] / chance))
    assert ((ppmi > 0).sum(1) > 1).all() and (ppmi == 0).any()
    np.testing.assert_allclose(lesson.pointwise_information(counts), ppmi, atol=1e-12)
    # With as many directions as words nothing is lost: the same cosines as before.
    unit = ppmi / np.sqrt((ppmi**2).sum(1, keepdims=True))
    found = lesson.word_vectors(ppmi)
    np.testing.assert_allclose(found @ found.T, unit @ unit.T, atol=1e-9)


def test_word_vectors_keep_the_strongest_directions():
    """With more words than 50, the cosines are those of the best matrix of rank 50."""
    ppmi = np.abs(np.random.default_rng(1).standard_normal((60, 60)))
    left, strength, _ = np.linalg.svd(ppmi)
    best = left[:, :50] * strength[:50]
    best /= np.linalg.norm(best, axis=1, keepdims=True)
    found = lesson.word_vectors(ppmi)
    assert found.shape == (60, 50)
    np.testing.assert_allclose(found @ found.T, best @ best.T, atol=0.02)


def test_word_vectors_of_words_without_neighbours():
    """Documents of one word each: zeros, without a division by zero."""
    with np.errstate(all="raise"):
        counts = lesson.cooccurrences([[0], [1], [2]], size=3)
        assert not counts.any()
        assert not lesson.word_vectors(lesson.pointwise_information(counts)).any()


def test_word_vectors_find_the_words_of_one_place():
    """The nearest known word must be one that the generator puts in the same place."""
    places = re.findall(r"\{([\w|]*[a-z])\}", lesson.OWN_TEXT)
    kinds = {word: i for i, place in enumerate(places) for word in place.split("|")}
    rows = [lesson.words(text) for text in lesson.own_texts()]
    vocabulary = Vocabulary.build(rows, (), 20)
    size = len(vocabulary)
    ids = [[vocabulary.ids.get(token, size) for token in row] for row in rows]
    ppmi = lesson.pointwise_information(lesson.cooccurrences(ids, size))
    vectors = lesson.word_vectors(ppmi)
    known = [i for i, token in enumerate(vocabulary.tokens) if token in kinds]
    close = vectors[known] @ vectors[known].T
    np.fill_diagonal(close, -np.inf)
    kind = np.array([kinds[vocabulary.tokens[i]] for i in known])
    assert len(known) > 25
    assert (kind[close.argmax(1)] == kind).mean() > 0.9


# torchtext


def fake_torchtext(monkeypatch, order=lambda tokens: tokens):
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


def compare(texts, args):
    """The comparison on these texts, as main calls it."""
    tokens = [lesson.basic_english(text) for text in texts]
    vocabulary = lesson.fit_vocabulary("basic_english", tokens, [], args)
    lesson.compare_with_torchtext(texts, tokens, vocabulary, args)


def test_torchtext_agreement_is_reported(monkeypatch, capsys):
    """Where torchtext loads and agrees, the run says so."""
    fake_torchtext(monkeypatch)
    compare(lesson.own_texts(50), options(max_vocab=40))
    assert "torchtext agrees: the same tokens, the same 40" in capsys.readouterr().out


def test_torchtext_disagreement_is_not_passed_over(monkeypatch):
    """Other ids or tokens than torchtext's must stop the run."""
    fake_torchtext(monkeypatch, order=lambda tokens: tokens[::-1])
    with pytest.raises(AssertionError, match="numbers them differently"):
        compare(lesson.own_texts(50), options())
    vocabulary = Vocabulary(lesson.SPECIALS)
    with pytest.raises(AssertionError, match="cuts the text differently"):
        lesson.compare_with_torchtext(["a b"], [["a"]], vocabulary, options())


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError, AttributeError])
def test_torchtext_that_does_not_load_is_said(monkeypatch, capsys, error):
    """Beside a newer torch, importing torchtext raises one thing or another."""

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "torchtext":
                raise error("undefined symbol")

    for name in [name for name in sys.modules if name.split(".")[0] == "torchtext"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    compare(["a text"], options())
    assert f"does not load: {error.__name__}\n" in capsys.readouterr().out


def test_real_torchtext_agrees(capsys):
    """The one comparison that counts; see tests/requirements-torchtext.txt."""
    pytest.importorskip("torchtext", exc_type=Exception)
    for flags in ({}, {"max_vocab": 60}, {"min_freq": 3}):
        compare([*lesson.own_texts(200), *HARD_TEXTS], options(**flags))
        assert "agrees" in capsys.readouterr().out


# The run


def figures(tmp_path, capsys, *flags):
    """What a run on a part of the grammar's text prints."""
    common = [
        "--dataset",
        "sample",
        "--quick",
        "--no-plots",
        "--out-dir",
        tmp_path / "out",
    ]
    assert run_main(lesson, *common, *flags) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "pattern"),
    [
        (["--tokenizer", "char"], r"Share of tokens known, char, sample \[sample\]"),
        (["--tokenizer", "word"], r"Share of tokens known, word, sample \[sample\]"),
        (["--tokenizer", "bpe"], r"exact for [1-3]\d\d of 360 documents"),
        (["--max-vocab", "40"], r"basic_english +40 "),
        (["--max-vocab", "300"], r"bpe +300 "),
        (["--max-vocab", "100"], r"bpe +260 "),
        (["--merges", "7"], r"bpe +267 "),
        (["--min-freq", "100000"], r"basic_english +4 .* 100\.00%"),
        (["--min-freq", "100000", "--tokenizer", "bpe"], r"bpe +260 "),
        (["--min-freq", "100000", "--tokenizer", "bpe"], r"word +4 "),
        (["--max-length", "6"], r"batch \(4, 6\), .* lengths \[6, 6, 6, 6\]"),
        (["--max-length", "3"], r"--max-length 3 cuts off 9\d\.\d% of the tokens"),
    ],
)
def test_each_flag_acts(tmp_path, capsys, flags, pattern):
    """A flag that changed nothing would teach nothing."""
    changed = figures(tmp_path, capsys, *flags)
    assert re.search(pattern, changed)
    assert not re.search(pattern, figures(tmp_path / "b", capsys))


def test_claims_of_equality_hold_in_the_run(tmp_path, capsys):
    """The lines about the embedding are computed; with padding too they must be True."""
    path = tmp_path / "text.txt"
    path.write_text("a a b\na\nb c a b a a\nc c\n" * 3)
    flags = ["--input", path, "--no-plots", "--out-dir", tmp_path / "out"]
    assert run_main(lesson, *flags) == 0
    printed = capsys.readouterr().out
    assert re.search(r"batch \(4, 8\), .* lengths \[5, 3, 8, 4\]", printed)
    assert "padding in this batch: 37.5%" in printed
    assert "largest difference of values and gradients: 0.0\n" in printed
    assert "exactly the rows that occurred: True" in printed


def test_what_no_token_reaches_is_said(tmp_path, capsys):
    """Nothing frequent enough: an empty table and unknown tokens, not a wrong row."""
    printed = figures(tmp_path, capsys, "--min-freq", "100000")
    assert re.search(r"most frequent *\nRead down", printed)
    assert "Nearest of 0 tokens" in printed
    assert "<unk> <unk>" in printed


def test_nearest_words_are_others(tmp_path, capsys):
    """A word is its own nearest neighbour, which says nothing: it is left out."""
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lesson.own_texts(800)))
    flags = ["--input", path, "--no-plots", "--out-dir", tmp_path / "out"]
    assert run_main(lesson, *flags) == 0
    part = capsys.readouterr().out.split("Nearest of")[1].split("No network")[0]
    lines = [line.split(": ") for line in part.splitlines()[1:]]
    assert [word.strip() for word, _ in lines][:3] == ["dog", "bread", "monday"]
    for word, near in lines:
        assert word.strip() not in near.split(", ")
    near = {word.strip(): set(near.split(", ")) for word, near in lines}
    assert {"tuesday", "thursday", "friday"} <= near["monday"]


def test_same_seed_same_output(tmp_path, capsys):
    """Two runs of one command print the same, to the letter."""
    first = figures(tmp_path / "a", capsys)
    assert first == figures(tmp_path / "b", capsys)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00\x01", "is not UTF-8"),
        (b"only one line", "two lines of text or more"),
        (b'"\n";\n""\n', "two lines of text or more"),
    ],
)
def test_hostile_input_ends_in_one_sentence(tmp_path, capsys, content, message):
    """A bad file: status 2, one sentence, no traceback."""
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    assert run_main(lesson, "--input", path, "--out-dir", tmp_path) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1
    assert "Traceback" not in complaint


@pytest.mark.parametrize(
    "flags",
    [
        ["--tokenizer", "spacy"],
        ["--max-vocab", "4"],
        ["--max-length", "2"],
        ["--min-freq", "0"],
        ["--merges", "-1"],
        ["--input", "no/such/file.txt"],
        ["--input", "."],
        ["--tokenizer", "bpe", "--max-vocab", "259"],
        ["--dataset", "imdb"],
    ],
)
def test_wrong_flags_end_in_one_sentence(tmp_path, capsys, flags):
    """A wrong flag: status 2, one sentence, no traceback."""
    assert run_main(lesson, *flags, "--out-dir", tmp_path) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("tokenizer", ["basic_english", "word", "bpe", "char"])
def test_odd_but_legal_text_runs_through(tmp_path, capsys, tokenizer):
    """A tiny text with special names, rare signs and very short lines must not crash."""
    path = tmp_path / "text.txt"
    lines = [t.replace("\n", " ").replace("\r", " ") for t in HARD_TEXTS]
    path.write_text("\n".join(["<pad> <pad> a", *lines, "?", "a"]), encoding="utf-8")
    flags = ["--input", path, "--tokenizer", tokenizer, "--min-freq", 1]
    assert run_main(lesson, *flags, "--out-dir", tmp_path) == 0
    assert "text.txt [sample: your own data]" in capsys.readouterr().out


def test_csv_input_takes_the_text_column(tmp_path):
    """In the sample's format only the column `text` is text; a gap in it is left out."""
    path = tmp_path / "reviews.csv"
    path.write_text('text,label\n"good, very good",positive\n,negative\nbad,negative\n')
    assert lesson.read_documents(path) == ["good, very good", "bad"]
    path.write_text("a\nb\n")
    with pytest.raises(utils.UserError, match="no column 'text'"):
        lesson.read_documents(path)


def test_other_input_is_cut_at_empty_lines_or_line_ends(tmp_path):
    """Ten paragraphs or more are documents; a file of fewer is taken line by line."""
    path = tmp_path / "text.txt"
    path.write_text("a b\nc\n \n" * 10)
    assert lesson.read_documents(path)[:2] == ["a b\nc", "a b\nc"]
    path.write_text("a b\nc\n\n" * 8)
    assert lesson.read_documents(path)[:3] == ["a b", "c", ""]


def test_sample_reviews_are_used_where_they_exist(tmp_path, monkeypatch, capsys):
    """--dataset sample means samples/reviews.csv, once it is there."""
    monkeypatch.setattr(utils, "SAMPLES", tmp_path)
    rows = "".join(f'"the film number {i} was long",negative\n' for i in range(50))
    (tmp_path / "reviews.csv").write_text("text,label\n" + rows)
    flags = ["--dataset", "sample", "--no-plots", "--out-dir", tmp_path / "out"]
    assert run_main(lesson, *flags) == 0
    assert "45 documents to learn from, 5 held out" in capsys.readouterr().out


def test_quick_run_offline_writes_what_it_promises(tmp_path):
    """As a learner runs it: a process of its own, no network, no data."""
    done = run_script(NAME, "--quick", "--out-dir", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for name in ("coverage_and_zipf.png", "metrics.json"):
        assert (tmp_path / "out" / name).stat().st_size > 100


def test_docstring_commands_parse():
    """Every command under `Run it` must be one that the parser accepts."""
    commands = re.findall(rf"python {NAME}\.py(.*)", lesson.__doc__)
    assert len(commands) >= 4
    for flags in commands:
        lesson.build_parser().parse_args(shlex.split(flags))


def test_help_prints_in_a_terminal(capsys):
    """A % in the docstring must not break --help."""
    with pytest.raises(SystemExit) as stop:
        utils.run(lesson.main, ["--help"])
    assert stop.value.code == 0
    assert "--tokenizer" in capsys.readouterr().out


@pytest.mark.real_data
def test_shakespeare_figures(real_data, tmp_path, capsys):
    """The docstring's table must be what a run prints."""
    flags = ["--dataset", "shakespeare", "--data-dir", real_data, "--no-plots"]
    assert run_main(lesson, *flags, "--out-dir", tmp_path) == 0
    printed = [line.split() for line in io.StringIO(capsys.readouterr().out)]
    for word in ("king", "father"):
        near = re.search(rf"to {word}: ([\w, ]+)", lesson.__doc__)[1].split()
        line = next(line for line in printed if line[:1] == [word + ":"])
        assert [w.strip(",") for w in near] == [w.strip(",") for w in line[1:]][
            : len(near)
        ]
    table = lesson.__doc__.split("line comes back\n")[1].split("    The 1,000")[0]
    assert len(table.splitlines()) == 4
    for line in table.splitlines():
        assert line.split() in printed
    assert ["1,000", "85.92%", "83.08%"] in printed
