"""rnn_utils: reviews and pairs (section 2), their encoding (3), text scores, baselines (5)."""

import argparse
import gzip
import io
import random
import tarfile
from collections import Counter

import numpy as np
import pytest
import sacrebleu
import torch
from conftest import refusal, written
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score

import rnn_utils
from rnn_utils import (
    PAD,
    UNK,
    Source,
    TextPart,
    bleu_scores,
    encode_pairs,
    encode_reviews,
    encode_texts,
    load_pairs,
    load_reviews,
    pair_baselines,
    read_imdb,
    read_pairs,
    read_reviews,
    review_vocabulary,
    split_words,
    word_dictionary,
)

FULL = argparse.Namespace(quick=False)
QUICK = argparse.Namespace(quick=True)


# ------------------------------------------------------------- an archive of our own


def review(half, label, k):
    """Name and content of a member; each content is distinct."""
    word = {"pos": "good", "neg": "bad"}[label]
    text = f"A {word} film.<br /><br />Number n{k} of {half}: it wasn't long."
    return f"aclImdb/{half}/{label}/{k}_{9 if label == 'pos' else 2}.txt", text.encode()


MEMBERS = [
    review(half, label, k)
    for half in ("train", "test")
    for label in ("pos", "neg")
    for k in range(20)
]


def member(name, content=b"", **changes):
    """A (TarInfo, bytes) with any attribute changed."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def tar_bytes(members=MEMBERS, extra=()):
    """A .tar of (name, content), then of whole (TarInfo, bytes)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, content in [*(member(*pair) for pair in members), *extra]:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive(folder, members=MEMBERS, extra=()):
    packed = gzip.compress(tar_bytes(members, extra), 1)
    return written(folder, "aclImdb_v1.tar.gz", packed)


@pytest.fixture
def user_cache(tmp_path, monkeypatch):
    """The user's cache folder, in a place of the test's own; it is not there yet."""
    import pooch

    folder = tmp_path / "user" / "cache"
    monkeypatch.setattr(pooch, "os_cache", lambda name: folder)
    return folder


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def imdb(path, args=FULL):
    return load_reviews(args, Source("imdb", path, True))


def same(one, two):
    """Whether two Reviews are alike in everything."""
    assert one.words == two.words
    assert one.labels == two.labels
    for a, b in zip(one.parts, two.parts, strict=True):
        assert (a.texts, a.labels) == (b.texts, b.labels)
        for row, other in zip(a.ids, b.ids, strict=True):
            np.testing.assert_array_equal(row, other)
    return True


def test_imdb_parts_and_order(data):
    """Halves, a tenth for validation, labels by folder, sorted by file name."""
    train, val, test = read_imdb(archive(data))
    assert [len(part) for part in (train, val, test)] == [36, 4, 40]
    expected = [
        (content.decode(), label)
        for k in sorted(range(20), key=lambda k: f"{k}_")
        for label in ("neg", "pos")
        for _, content in [review("test", label, k)]
    ]
    assert test == expected
    for text, label in train + val:
        assert ("good" in text) == (label == "pos")
        assert "of train" in text
    shuffled = random.Random(0).sample(MEMBERS, len(MEMBERS))
    assert read_imdb(archive(data, shuffled)) == [train, val, test]


def test_a_text_is_never_in_training_and_validation(data):
    """Copies of a review under several names stand on one side of the split."""
    copies = [
        (f"aclImdb/train/pos/{100 + k}_9.txt", MEMBERS[k % 5][1]) for k in range(60)
    ]
    train, val, _ = read_imdb(archive(data, [*MEMBERS, *copies]))
    assert len(train) + len(val) == 100
    assert val
    assert not {text for text, _ in train} & {text for text, _ in val}


HOSTILE = [
    member("aclImdb/train/pos/../../../../x.txt", b"evil"),
    member("/aclImdb/train/pos/1_9.txt", b"evil"),
    member("x/aclImdb/train/pos/1_9.txt", b"evil"),
    member("aclImdb/train/pos/x.txt", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    member("aclImdb/train/pos/x.txt", type=tarfile.CHRTYPE),
    member("aclImdb/train/unsup/1_0.txt", b"evil"),
    member("aclImdb/README", b"\xff\xfe evil"),
    member("aclImdb/train/pos/1_9.txt\n", b"evil"),
    member("aclImdb/train/pos/x.txt", b"evil" * 250_001),
]


def test_hostile_members_are_passed_over(tmp_path, data, monkeypatch):
    """What is no labelled review is neither read, nor unpacked, nor kept in memory."""
    clean = read_imdb(archive(data))
    path = archive(data, extra=HOSTILE)
    before = sorted(tmp_path.rglob("*"))
    kept = []
    read = tarfile.TarFile.next

    def counted(self):
        kept.append(len(self.members))
        return read(self)

    monkeypatch.setattr(tarfile.TarFile, "next", counted)
    assert read_imdb(path) == clean
    assert sorted(tmp_path.rglob("*")) == before
    assert len(kept) > len(MEMBERS) and max(kept) <= 1, "the full archive has 100,000"


def damaged_archives():
    whole = gzip.compress(tar_bytes(), 1)
    check_sum = bytearray(whole)
    check_sum[-6] ^= 0x55  # gzip's own check sum of the whole
    latin = [*MEMBERS, ("aclImdb/test/neg/99_1.txt", "café".encode("latin-1"))]
    train = [pair for pair in MEMBERS if "/train/" in pair[0]]
    return {
        "empty": b"",
        "cut in the middle": whole[: len(whole) // 2],
        "check sum changed": bytes(check_sum),
        "a web page": b"<!DOCTYPE html><html>404</html>" * 40,
        "gzip, no tar": gzip.compress(b"no tar at all " * 900),
        "no test half": gzip.compress(tar_bytes(train)),
        "not UTF-8": gzip.compress(tar_bytes(latin)),
    }


@pytest.mark.parametrize("kind", damaged_archives())
def test_damaged_archive(data, user_cache, kind):
    """One sentence that names the file and says to delete it."""
    path = written(data, "aclImdb_v1.tar.gz", damaged_archives()[kind])
    sentence = refusal(imdb, path)
    assert str(path) in sentence and "delete it" in sentence
    assert list(data.iterdir()) == [path]


def test_second_start_takes_the_cache(data, user_cache, monkeypatch, capsys):
    """Known texts are not read again; another archive is; a lost cache only costs time."""
    path = archive(data)
    first = imdb(path)
    assert "first time" in capsys.readouterr().out
    reading = rnn_utils.read_imdb
    monkeypatch.setattr(rnn_utils, "read_imdb", lambda path: pytest.fail("read again"))
    assert same(imdb(path), first)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(rnn_utils, "read_imdb", reading)
    smaller = imdb(archive(data, MEMBERS[:15] + MEMBERS[20:]))
    assert len(smaller.parts[0].texts) + len(smaller.parts[1].texts) == 35
    archive(data)
    for file in user_cache.rglob("*.pkl"):
        file.write_bytes(file.read_bytes()[:100])
    assert same(imdb(path), first)
    assert list(data.iterdir()) == [path], "nothing is written beside the archive"


def test_no_place_for_a_cache(data, user_cache):
    """Without any place that can be written to, the run goes on all the same."""
    user_cache.parent.parent.mkdir(exist_ok=True)
    user_cache.parent.write_text("I am a file")
    path = archive(data)
    assert same(imdb(path), imdb(path))


def test_numbers_are_those_of_the_words(data, user_cache):
    """Ids, decoded with the words, are the words of the texts; unknown ones one past."""
    reviews = imdb(archive(data))
    words = [*reviews.words, None]
    known = set(reviews.words)
    assert reviews.labels == ["neg", "pos"]
    for part in reviews.parts:
        for text, ids in zip(part.texts, part.ids, strict=True):
            expected = [w if w in known else None for w in split_words(text)]
            assert [words[k] for k in ids] == expected
    counts = Counter(w for text in reviews.parts[0].texts for w in split_words(text))
    assert reviews.words == sorted(counts, key=lambda word: (-counts[word], word))
    assert any(len(words) - 1 in ids for ids in reviews.parts[2].ids)


def test_imdb_quick(data, user_cache, monkeypatch):
    """--quick leaves few reviews of both classes, the same every time."""
    monkeypatch.setattr(rnn_utils, "QUICK_PARTS", (12, 3, 7))
    path = archive(data)
    first = imdb(path, QUICK)
    assert [len(part.texts) for part in first.parts] == [12, 3, 7]
    assert set(first.parts[0].labels) == {"neg", "pos"}
    assert len(first.words) < len(imdb(path).words), "words of what is left alone"
    assert same(imdb(path, QUICK), first)


@pytest.mark.real_data
def test_real_reviews(real_data):
    """The real archive, 50,000 reviews, has the sizes that it is known for."""
    parts = read_imdb(real_data / "aclImdb_v1.tar.gz")
    assert [len(part) for part in parts] == [22_499, 2_501, 25_000]
    assert sum(label == "pos" for _, label in parts[2]) == 12_500


# ---------------------------------------------------------------------- words and CSV


@pytest.mark.parametrize(
    "text, words",
    [
        ("It isn't BAD.<br /><br />Ok!?", ["it", "isn't", "bad", ".", "ok", "!", "?"]),
        ("don’t", ["don't"]),
        ("'quoted' rock'n'roll", ["'", "quoted", "'", "rock'n'roll"]),
        ("Ça coûte 3,50 €", ["ça", "coûte", "3", ",", "50", "€"]),
        ("<pad> <unk>", ["<", "pad", ">", "<", "unk", ">"]),
        (" \t\n", []),
    ],
)
def test_split_words(text, words):
    """Known answers; no text can produce a special token."""
    assert split_words(text) == words


def test_plain_words_are_cut_alike_by_both_patterns():
    """English text takes a faster pattern; an accent further on changes nothing before."""
    rng = random.Random(1)
    for _ in range(2000):
        text = "".join(rng.choices("ab_1 '.,-()!<\n\t", k=20))
        assert split_words(text) == split_words(text + " é")[:-1]


def csv_rows(n=40):
    return [(f"the word{k} is {'good' if k % 2 else 'bad'}", k % 2) for k in range(n)]


def csv_file(folder, rows):
    lines = ["text,label", *(f'"{text}",{label}' for text, label in rows)]
    return written(folder, "reviews.csv", "\n".join(lines) + "\n")


def test_reviews_of_a_csv_file(tmp_path):
    """Numeric labels, NA and null are texts like any other; no text is in two parts."""
    rows = [*csv_rows(), ("NA", 1), ("null", 0), ('a ""quoted"", text', 1)]
    rows += rows[:7]  # repeats
    path = csv_file(tmp_path, rows)
    reviews = load_reviews(FULL, Source("input", path, False))
    assert reviews.labels == ["0", "1"]
    texts = [set(part.texts) for part in reviews.parts]
    assert sum(map(len, texts)) == len(texts[0] | texts[1] | texts[2]) == 43
    pairs = [
        (text, label)
        for part in reviews.parts
        for text, label in zip(part.texts, part.labels, strict=True)
    ]
    expected = [(text.replace('""', '"'), str(label)) for text, label in rows]
    assert sorted(pairs) == sorted(expected)


def test_quick_reviews_are_of_all_classes(tmp_path, monkeypatch):
    """A file may hold one class after the other: the first rows would be one class."""
    monkeypatch.setattr(rnn_utils, "QUICK_PARTS", (20, 5, 6))
    rows = sorted(csv_rows(200), key=lambda row: row[1])
    source = Source("sample", csv_file(tmp_path, rows), real=False)
    reviews = load_reviews(QUICK, source)
    assert [len(part.texts) for part in reviews.parts] == [20, 5, 6]
    assert set(reviews.parts[0].labels) == {"0", "1"}


@pytest.mark.parametrize(
    "text, says",
    [
        ('text,label\ngood,1\n"",0\n"   ",0\n,1\n', "row 2"),
        ("text,label\ngood,1\nfine,1\n", "one label"),
        ("text,mark\ngood,1\n", "no column of labels"),
    ],
)
def test_malformed_reviews(tmp_path, text, says):
    """One sentence, with the row where there is one."""
    assert says in refusal(read_reviews, written(tmp_path, "x.csv", text))


def test_reviews_that_cannot_be_split(tmp_path):
    """Too few texts, or a training part of one class, is no surprise in scikit-learn."""
    few = csv_file(tmp_path, csv_rows(7))
    assert "10 or more" in refusal(load_reviews, FULL, Source("input", few, False))
    rows = csv_rows(40)
    part = rnn_utils.split_by_hash(text for text, _ in rows)
    one = csv_file(tmp_path, [(text, part[text] == 2) for text, _ in rows])
    assert "some label" in refusal(load_reviews, FULL, Source("input", one, False))


# ------------------------------------------------------------------------- encoding


def made_part(lengths, words, seed=0):
    """A TextPart of these lengths, its ids drawn from 0 ... words."""
    draw = np.random.default_rng(seed)
    ids = [draw.integers(0, words + 1, n).astype(np.int32) for n in lengths]
    return TextPart([""] * len(lengths), [""] * len(lengths), ids)


def encode_by_loops(part, size, most, keep):
    """What encode_reviews does, one token at a time."""
    rows = []
    for ids in part.ids:
        row = [k + 2 if k + 2 < size else 1 for k in ids.tolist()]
        if len(row) > most:
            front = {"start": most, "end": 0, "both": (most + 1) // 2}[keep]
            row = row[:front] + row[len(row) - (most - front) :]
        rows.append(row or [1])
    width = max(map(len, rows))
    return [row + [0] * (width - len(row)) for row in rows], [len(row) for row in rows]


@pytest.mark.parametrize("keep", ["both", "start", "end"])
@pytest.mark.parametrize("most", [1, 2, 5, 6, 13, 1000])
def test_encoding_equals_a_loop(keep, most):
    """Cut, shifted by PAD and UNK, rare words as UNK, padded; lengths around the limit."""
    part = made_part([3, 0, 14, 5, 6, 1, 7, 0, 13, 4, 12], words=29)
    data = encode_reviews(part, 23, most, keep)
    rows, lengths = encode_by_loops(part, 23, most, keep)
    assert data["text"].tolist() == rows
    assert data["text_length"].tolist() == lengths
    assert data["text"].dtype == data["text_length"].dtype == torch.int64


def test_new_texts_are_encoded_like_old_ones(tmp_path):
    """--predict must see the ids that training saw, for every --max-vocab."""
    path = csv_file(tmp_path, csv_rows())
    reviews = load_reviews(FULL, Source("sample", path, False))
    for most in (2, 5, 10, 10_000):
        vocabulary = review_vocabulary(reviews, most)
        assert vocabulary.tokens[:2] == [PAD, UNK]
        assert len(vocabulary) == min(most, len(reviews.words) + 2)
        for part in reviews.parts:
            old = encode_reviews(part, len(vocabulary), 3)
            new = encode_texts(part.texts, vocabulary, 3)
            assert old["text"].tolist() == new["text"].tolist()
            assert old["text_length"].tolist() == new["text_length"].tolist()
    vocabulary = review_vocabulary(reviews, 4)
    known = encode_texts(["The zebra is", ""], vocabulary, 9)
    assert known["text"].tolist() == [[3, 1, 2], [1, 0, 0]]


@pytest.mark.parametrize("text", ["<br />", " ", "\ud800 a"])
def test_texts_without_a_word_are_refused(text):
    """--predict "": there is nothing to judge; an emoji beside a word is no obstacle."""
    assert "--predict" in refusal(rnn_utils.check_texts, [text])
    rnn_utils.check_texts(["loved it \N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET}"])


# ----------------------------------------------------------------------------- pairs


def test_read_pairs(tmp_path):
    """Two columns; outer spaces and empty lines do not count; a long line is read."""
    long = " ".join(["word"] * 10_000)
    text = f"a man\tun homme\n\n  hi \t salut  \n{long}\tlong\n"
    pairs, said = read_pairs(written(tmp_path, "x.tsv", text))
    assert said == []
    assert pairs == [("a man", "un homme"), ("hi", "salut"), (long, "long")]


@pytest.mark.parametrize(
    "text, says",
    [
        ("a\tb\nc\td\te\n", "line 2 has 3 column(s)"),
        ("a\tb\n\nc d\n", "line 3 has 1 column(s)"),
        ("a\t\n\tc\n", "no line with a source and a target"),
        ("\n\n", "is empty"),
    ],
)
def test_malformed_pairs(tmp_path, text, says):
    """The sentence names the line that is wrong."""
    assert says in refusal(read_pairs, written(tmp_path, "x.tsv", text))


def test_pairs_are_split(tmp_path):
    """The sample by its order; the reader's own by the source side, never in two parts."""
    rows = [(f"s{k % 40}", f"t{k}") for k in range(60)]
    path = written(tmp_path, "x.tsv", "\n".join("\t".join(row) for row in rows))
    parts = load_pairs(FULL, Source("sample", path, False))
    assert parts == [rows[:48], rows[48:54], rows[54:]]
    parts = load_pairs(FULL, Source("input", path, False))
    sources = [{given for given, _ in part} for part in parts]
    assert [len(s) for s in sources] == [32, 4, 4]
    assert len(sources[0] | sources[1] | sources[2]) == 40
    assert sorted(pair for part in parts for pair in part) == sorted(rows)


def multi30k(folder, **changes):
    """The six files, `changes` replacing the bytes of train_en and the like."""
    for part, n in (("train", 5), ("val", 2), ("test_2016_flickr", 3)):
        for side in ("en", "fr"):
            lines = "".join(f"{side} {part} {k}\n" for k in range(n))
            content = gzip.compress(lines.encode())
            content = changes.get(f"{part}_{side}", content)
            (folder / f"{part}.{side}.gz").write_bytes(content)
    return Source("multi30k", folder, True)


def test_multi30k_takes_its_own_parts(tmp_path, monkeypatch):
    """Line k of the one file belongs to line k of the other; --quick leaves a few."""
    parts = load_pairs(FULL, multi30k(tmp_path))
    assert [len(part) for part in parts] == [5, 2, 3]
    assert parts[0][1] == ("en train 1", "fr train 1")
    assert parts[2][2] == ("en test_2016_flickr 2", "fr test_2016_flickr 2")
    monkeypatch.setattr(rnn_utils, "QUICK_PARTS", (2, 1, 1))
    quick = load_pairs(QUICK, multi30k(tmp_path))
    assert quick == [parts[0][:2], parts[1][:1], parts[2][:1]]


@pytest.mark.parametrize(
    "content, says",
    [
        (gzip.compress(b"a\nb\n" * 90)[:-9], "damaged"),
        (b"not gzip", "damaged"),
        (gzip.compress(b"a\nb\nc\nd\n"), "together"),
        (gzip.compress(b"a\n\nc\nd\ne\n"), "together"),
    ],
    ids=["cut", "not gzip", "a line too few", "an empty line"],
)
def test_damaged_multi30k(tmp_path, content, says):
    """One sentence that names the file and says to delete it."""
    sentence = refusal(load_pairs, FULL, multi30k(tmp_path, train_fr=content))
    assert says in sentence and "delete" in sentence
    assert "train" in sentence and ".fr.gz" in sentence


@pytest.mark.real_data
def test_real_pairs(real_data):
    """The real set has the sizes that it is known for."""
    parts = load_pairs(FULL, Source("multi30k", real_data / "multi30k", True))
    assert [len(part) for part in parts] == [29_000, 1_014, 1_000]
    for _, wanted in parts[1] + parts[2]:  # a perfect answer comes back as it was
        joined = rnn_utils.join_words(rnn_utils.split_pair(wanted)).lower()
        assert joined == " ".join(wanted.lower().replace("’", "'").split())


# Marks of ten languages, with and without the spaces that the usual rules expect.
PAGE = (
    "L'homme d'anne (le grand) sourit, et s'en va.",
    "L'arrière-plan coûte 30 % de plus ?  Oui : « c'est ça » !",
    "¿El viejo quiere una casa hoy? ¡Sí!",
    'Er sagte: „Nein“, und ging; "so" etwas...',
    "It costs $3.50, not 1,000 (or 1/2) - and/or x-ray e-mails.",
    "Où est-il ?Là-bas.",
    "Он сказал: «да» — и ушёл.",
    "वह घर जाता है।",
    "هذا كِتَابٌ، وذلك قلم؟",
    "他说：「你好」。我有3本book 。",
    "彼は学校へ行きます。",
    "ฉันไปโรงเรียน วันนี้",
    "a , b .c - d 's' ' t",
    "don't  'quote' rock'n'roll'",
)


def test_words_of_pairs_and_back():
    """A right answer, split and joined, has to be the text that it is compared with."""
    split, join = rnn_utils.split_pair, rnn_utils.join_words
    assert split("L’homme d'Anne.") == ["l'", "homme", "d'", "anne", "."]
    assert split("3.5 % ?") == ["3.5", rnn_utils.SPACE, "%", rnn_utils.SPACE, "?"]
    assert split("वह घर है।")[:3] == ["वह", "घर", "है"]
    assert split("我有书。") == ["我", "有", "书", "。"]
    rng = random.Random(0)
    noise = ["".join(rng.choices("ab l'.,-/?!\"()«» 3é我", k=12)) for _ in range(500)]
    for text in (*PAGE, *noise):
        text = " ".join(text.split())
        assert join(split(text)).lower() == text.lower()
    wanted = [" ".join(text.split()) for text in PAGE]
    made = [join(split(text)) for text in wanted]
    assert rnn_utils.bleu_scores(made, wanted)["bleu"] == pytest.approx(100)


def test_bleu_of_writing_without_spaces():
    """Split by character, as sacrebleu does it: 13a would see one word a sentence."""
    wanted, made = ["我有三本书在家里。"] * 2, ["我有三本书在学校。"] * 2
    found = rnn_utils.bleu_scores(made, wanted)
    assert "tok:zh" in found["signature"]
    assert 40 < found["bleu"] < 80


def test_words_seen_once_are_left_out_of_large_sets_alone():
    source = rnn_utils.Source("own", None, real=False)
    few = [("once often", "often")] + [("often", "often")] * 8
    feeds = rnn_utils.pair_feeds(source, few)
    assert feeds["dataset"] == "own" and "once" in feeds["source_words"]
    many = few + [("often", "often")] * 9991  # 10,000 in all
    feeds = rnn_utils.pair_feeds(source, many)
    assert "once" not in feeds["source_words"] and "often" in feeds["source_words"]
    assert "once" in rnn_utils.pair_feeds(source, many[:-1])["source_words"]


def test_pairs_by_hand():
    """Cut to --max-length, <eos> after the target, rare words as <unk>, no length 0."""
    words = rnn_utils.pair_vocabularies([("a a b", "x x"), ("b c", "y y z")])
    assert (
        words[0].tokens[:4]
        == words[1].tokens[:4]
        == ["<pad>", "<unk>", "<bos>", "<eos>"]
    )
    assert words[0].tokens[4:] == ["a", "b"] and words[1].tokens[4:] == ["x", "y"]
    found = encode_pairs([("a new b", "z"), ("b", "y y y y"), ("", "")], words, 2)
    assert found["source"].tolist() == [[4, 1], [5, 0], [1, 0]]
    assert found["source_length"].tolist() == [2, 1, 1]
    assert found["target"].tolist() == [[1, 3, 0], [5, 5, 3], [3, 0, 0]]
    assert found["target_length"].tolist() == [2, 3, 1]


# ------------------------------------------------------------------- scores of classifiers


def test_classification_scores_are_those_of_scikit_learn():
    """Accuracy, macro-F1 and top-3; no top-3 of three classes."""
    torch.manual_seed(6)
    scores, truth = torch.randn(200, 5), torch.randint(0, 5, (200,))
    found = rnn_utils.classification_scores(scores, truth)
    answers = scores.argmax(1)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, answers))
    macro = f1_score(truth, answers, average="macro")
    assert found["macro_f1"] == pytest.approx(macro)
    top3 = top_k_accuracy_score(truth, scores, k=3)
    assert found["top3_accuracy"] == pytest.approx(top3)
    few = rnn_utils.classification_scores(scores[:, :3], truth % 3)
    assert "top3_accuracy" not in few


def test_mcnemar_by_hand():
    """9 to 1: twice (C(10,0) + C(10,1)) / 2^10; ties do not count; equal ones give 1."""
    ours = [True] * 9 + [False] + [True] * 50 + [False] * 7
    theirs = [False] * 9 + [True] + [True] * 50 + [False] * 7
    only_ours, only_theirs, p = rnn_utils.mcnemar(torch.tensor(ours), theirs)
    assert (only_ours, only_theirs) == (9, 1)
    assert p == pytest.approx(22 / 1024)
    assert rnn_utils.mcnemar(ours, ours) == (0, 0, 1.0)


LABELS = ["A", "B", "C"]
TRAIN = [(f"{a}{b}a", "A") for a in "xyz" for b in "uvw"]
TRAIN += [(f"{a}{b}b", "B") for a in "xyz" for b in "uv"]


def test_linear_baselines_equal_scikit_learn():
    """The columns are those of `labels`, also where training lacks a class."""
    asked = [("xub", "B"), ("aaa", "A"), ("ccc", "C")]
    texts, labels = zip(*TRAIN, strict=True)
    majority = rnn_utils.majority_scores(labels, len(asked), LABELS)
    np.testing.assert_allclose(majority, [[9 / 15, 6 / 15, 0]] * 3)
    vectorizer = TfidfVectorizer(analyzer="char")
    known = vectorizer.fit_transform(texts)
    new = vectorizer.transform([text for text, _ in asked])
    scores = rnn_utils.linear_scores(known, labels, new, LABELS, C=10)
    plain = TfidfVectorizer(analyzer="char")
    line = LogisticRegression(C=10, max_iter=300).fit(
        plain.fit_transform(texts), labels
    )
    chances = line.predict_proba(plain.transform([text for text, _ in asked]))
    np.testing.assert_allclose(scores[:, :2], chances, atol=1e-6)
    assert scores[:, 2].tolist() == [0, 0, 0]
    assert scores.argmax(1).tolist()[:2] == [1, 0]


MANY = [
    f"{'not ' * (k % 3 == 0)}{'good' if k % 2 else 'bad'} w{k % 7} w{k % 5}, it's w{k % 3}"
    for k in range(60)
]


def test_runs_of_words_are_those_of_scikit_learn():
    """The same counts of the same runs, in the texts that taught them and in new ones."""
    asked = ["good good w1, it's new", "", "new", "bad w3 w3 not bad w1"]
    texts = (split_words(text) for text in [*MANY, *asked])
    counts, length = rnn_utils.count_runs(texts, len(MANY), longest=3, least=2)
    plain = CountVectorizer(
        tokenizer=split_words,
        token_pattern=None,
        lowercase=False,
        ngram_range=(1, 3),
        min_df=2,
    )
    wanted = plain.fit_transform(MANY)
    lengths = [len(name.split()) for name in plain.get_feature_names_out()]
    assert sorted(length.tolist()) == sorted(lengths)
    mine = counts.toarray()
    theirs = np.vstack([wanted.toarray(), plain.transform(asked).toarray()])
    # The runs stand in another order: as sets of columns they are alike.
    assert sorted(map(tuple, mine.T)) == sorted(map(tuple, theirs.T))


def test_log_count_ratio_by_hand():
    """Three features in 2 texts of the class and 1 other: p = 3 2 1, q = 1 2 1."""
    present = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0]])
    found = rnn_utils.log_count_ratio(present, np.array([True, True, False]))
    p = np.array([3, 2, 1]) / 6
    q = np.array([1, 2, 1]) / 4
    np.testing.assert_allclose(found, np.log(p / q))


@pytest.mark.parametrize("labels", [["A", "B"], ["A", "B", "C"]])
def test_review_baselines_equal_scikit_learn(labels):
    """TF-IDF by its own vectorizer; the ratio by a plain loop over classes."""
    train = [(text, labels[k % len(labels)]) for k, text in enumerate(MANY)]
    asked = [("not good w1", "A"), ("bad w3 w2", "B")]
    found = rnn_utils.review_baselines(train, asked, labels)
    texts, classes = zip(*train, strict=True)
    queries = [text for text, _ in asked]
    options = {"tokenizer": split_words, "token_pattern": None, "lowercase": False}
    for name, longest in (("tfidf_unigram", 1), ("tfidf_bigram", 2)):
        words = TfidfVectorizer(
            ngram_range=(1, longest), sublinear_tf=True, min_df=1, **options
        )
        line = LogisticRegression(C=10, max_iter=300)
        line.fit(words.fit_transform(texts), classes)
        chances = line.predict_proba(words.transform(queries))
        np.testing.assert_allclose(found[name], chances, atol=1e-3)
    words = CountVectorizer(binary=True, ngram_range=(1, 3), min_df=2, **options)
    known = words.fit_transform(texts).toarray()
    new = words.transform(queries).toarray()
    for column, label in enumerate(labels):
        mine = np.array(classes) == label
        p = known[mine].sum(0) + 1
        q = known[~mine].sum(0) + 1
        ratio = np.log((p / p.sum()) / (q / q.sum()))
        line = LogisticRegression(max_iter=300).fit(known * ratio, mine)
        chances = line.predict_proba(new * ratio)[:, 1]
        np.testing.assert_allclose(
            found["ratio_trigram"][:, column], chances, atol=1e-3
        )


def test_baselines_with_nothing_to_learn_from():
    """One class, or texts that share no word, must not end in a traceback."""
    one_class = [("good film", "A"), ("bad film", "A")]
    found = rnn_utils.review_baselines(one_class, [("good", "A")], ["A", "B"])
    for scores in found.values():
        assert torch.equal(scores, found["majority"])
    alone = [(f"word{i}", "AB"[i % 2]) for i in range(2600)]
    found = rnn_utils.review_baselines(alone, alone[:10], ["A", "B"])
    assert len(found) == 4
    for scores in found.values():
        assert torch.equal(scores, found["majority"])


# --------------------------------------------------------------------- BLEU, dictionary

ANSWERS = ["Un homme court dans le parc.", "Une femme rit.", "The dog, it runs fast!"]
TRUTH = [
    "Un homme court dans un parc.",
    "une femme rit.",
    "The dog, it runs very fast!",
]


def test_bleu_equals_sacrebleu(capfd, caplog):
    """Both figures and signatures are sacrebleu's own; it warns of nothing."""
    found = bleu_scores(ANSWERS, TRUTH)
    lower = sacrebleu.corpus_bleu(ANSWERS, [TRUTH], lowercase=True, tokenize="13a")
    cased = sacrebleu.corpus_bleu(ANSWERS, [TRUTH])
    assert found["bleu"] == pytest.approx(lower.score, abs=1e-9)
    assert found["bleu_13a"] == pytest.approx(cased.score, abs=1e-9)
    assert found["bleu_13a"] < found["bleu"] < 100
    assert "case:lc" in found["signature"] and "tok:13a" in found["signature"]
    assert "case:mixed" in found["signature_13a"]
    bleu_scores(["a b ."] * 200, ["a b."] * 200)
    assert capfd.readouterr().err == "" and not caplog.records


def test_bleu_known_answers():
    """Equal is 100, nothing said 0; a brevity penalty worked by hand."""
    assert bleu_scores(TRUTH, TRUTH)["bleu_13a"] == pytest.approx(100)
    assert bleu_scores([""], ["a b c d"])["bleu"] == 0
    # Every n-gram of 5 words is right, but the reference has 6: exp(1 - 6 / 5).
    short = bleu_scores(["a b c d e"], ["a b c d e f"])
    assert short["bleu"] == pytest.approx(100 * np.exp(1 - 6 / 5))


def test_bleu_p_value_knows_luck_from_merit():
    """Alike: 1; equally good by turns: large; clearly better: small; the same each time."""
    truth = [f"the man {k} sees a red house near the park ." for k in range(60)]
    wrong = [text.replace("red house", "cat") for text in truth]
    by_turns = [[truth, wrong][k % 2][k] for k in range(60)]
    other_turns = [[wrong, truth][k % 2][k] for k in range(60)]
    p_value = rnn_utils.bleu_p_value
    assert p_value(by_turns, by_turns, truth) == 1.0
    assert p_value(by_turns, other_turns, truth) > 0.2
    assert p_value(truth, wrong, truth) < 0.01
    assert p_value(by_turns, wrong, truth) == p_value(by_turns, wrong, truth) < 0.01


TOY = [
    ("the house", "la maison"),
    ("the book", "le livre"),
    ("a book", "un livre"),
    ("a house", "une maison"),
    ("the red house", "la maison rouge"),
    ("a red book", "un livre rouge"),
    ("red .", "rouge ."),
]


def test_dictionary_of_a_toy_corpus():
    """IBM model 1 finds what stands for what, though no pair of words stands alone."""
    found = word_dictionary(TOY, rounds=20)
    assert set(found) == {"the", "house", "book", "a", "red", "."}
    known = {"house": "maison", "book": "livre", "red": "rouge", ".": "."}
    assert {word: found[word] for word in known} == known
    assert found["the"] in ("la", "le")
    # "de" goes with every word alike, so it belongs to none.
    pairs = [(f"e{k}", f"de f{k}") for k in range(9)]
    assert word_dictionary(pairs) == {f"e{k}": f"f{k}" for k in range(9)}


def test_dictionary_first_round_by_hand():
    """After one round from uniform: p(x|a) = 1/3 + 1/2 of a's 1/3 + 1/3 + 1/2."""
    # "a b" -> "x y": with "no word" 1/3 each.  "a" -> "x": 1/2.  So of a's total 7/6, x has
    # 5/6 and y 1/3; b has x and y alike, and the first met is taken.
    pairs = [("a b", "x y"), ("a", "x")]
    assert word_dictionary(pairs, rounds=1) == {"a": "x", "b": "x"}
    # In later rounds a and "no word" claim x, so that y is left for b.
    assert word_dictionary(pairs, rounds=5) == {"a": "x", "b": "y"}


def test_dictionary_of_a_very_long_pair():
    """10,000 words a side would be a hundred million links."""
    long = " ".join(f"w{k}" for k in range(10_000))
    found = word_dictionary([*TOY, (long, long)])
    assert found["house"] == "maison"
    assert "w199" in found and "w200" not in found


def test_pair_baselines():
    """Copy repeats; the dictionary keeps order, copies unknown words, sets full stops."""
    asked = [("a red house.", "?"), ("the zebra", "?")]
    answers = pair_baselines(TOY, asked)
    assert answers["copy"] == ["a red house.", "the zebra"]
    first, second = answers["dictionary"]
    assert first.endswith(" rouge maison.")
    assert second.endswith(" zebra")
