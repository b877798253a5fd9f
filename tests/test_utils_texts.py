"""rnn_utils: reviews, tagged sentences, pairs (section 2), their encoding (3), BLEU (5)."""

import argparse
import gzip
import io
import os
import random
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import sacrebleu

import rnn_utils
from rnn_utils import (
    PAD,
    UNK,
    Source,
    TextPart,
    UserError,
    bleu_scores,
    encode_reviews,
    encode_texts,
    load_pairs,
    load_reviews,
    load_tagged,
    pair_baselines,
    read_imdb,
    read_pairs,
    read_reviews,
    read_tagged,
    review_vocabulary,
    split_words,
    word_dictionary,
)

FULL = argparse.Namespace(quick=False)
QUICK = argparse.Namespace(quick=True)


def refusal(function, *given):
    """The one sentence of the UserError that `function` raises."""
    with pytest.raises(UserError) as caught:
        function(*given)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def written(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


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
    path = folder / "aclImdb_v1.tar.gz"
    path.write_bytes(gzip.compress(tar_bytes(members, extra), 1))
    return path


@pytest.fixture
def user_cache(tmp_path, monkeypatch):
    """The user's cache folder, in a place of the test's own; it is not there yet."""
    folder = tmp_path / "user" / "cache"
    monkeypatch.setattr(rnn_utils.pooch, "os_cache", lambda name: folder)
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
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_array_equal(a.starts, b.starts)
        assert (a.ids.dtype, a.starts.dtype) == (b.ids.dtype, b.starts.dtype)
    return True


# ------------------------------------------------------------------ the archive's reader


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
    everything = {content.decode() for _, content in MEMBERS}
    assert {text for part in (train, val, test) for text, _ in part} == everything
    for text, label in train + val:
        assert ("good" in text) == (label == "pos")
        assert "of train" in text


def test_imdb_does_not_depend_on_archive_order(data):
    """The same reviews in any order in the archive are the same data set."""
    first = read_imdb(archive(data))
    shuffled = random.Random(0).sample(MEMBERS, len(MEMBERS))
    assert shuffled != MEMBERS
    assert read_imdb(archive(data, shuffled)) == first


def test_a_text_is_never_in_training_and_validation(data):
    """Copies of a review under several names stand on one side of the split."""
    copies = [
        (f"aclImdb/train/pos/{100 + k}_9.txt", MEMBERS[k % 5][1]) for k in range(60)
    ]
    train, val, _ = read_imdb(archive(data, [*MEMBERS, *copies]))
    assert len(train) + len(val) == 100
    assert val
    assert not {text for text, _ in train} & {text for text, _ in val}


HOSTILE = {
    "parent folder": member("../../x", b"evil"),
    "parent folder, labelled": member("aclImdb/train/pos/../../../../x.txt", b"evil"),
    "absolute": member("/tmp/x.txt", b"evil"),
    "absolute, labelled": member("/aclImdb/train/pos/1_9.txt", b"evil"),
    "prefix": member("x/aclImdb/train/pos/1_9.txt", b"evil"),
    "symlink": member(
        "aclImdb/train/pos/x.txt", type=tarfile.SYMTYPE, linkname="/etc/passwd"
    ),
    "hard link": member(
        "aclImdb/train/pos/x.txt", type=tarfile.LNKTYPE, linkname=MEMBERS[3][0]
    ),
    "device": member("aclImdb/train/pos/x.txt", type=tarfile.CHRTYPE),
    "fifo": member("aclImdb/train/pos/x.txt", type=tarfile.FIFOTYPE),
    "folder": member("aclImdb/train/pos/x.txt", type=tarfile.DIRTYPE),
    "unlabelled": member("aclImdb/train/unsup/1_0.txt", b"evil"),
    "other half": member("aclImdb/val/pos/1_9.txt", b"evil"),
    "no text": member("aclImdb/train/pos/1_9.csv", b"evil"),
    "foreign file": member("aclImdb/README", b"\xff\xfe evil"),
    "line end": member("aclImdb/train/pos/1_9.txt\n", b"evil"),
    "too large": member("aclImdb/train/pos/x.txt", b"evil" * 250_001),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_members_are_passed_over(tmp_path, data, kind):
    """What is no labelled review is neither read nor written anywhere."""
    clean = read_imdb(archive(data))
    path = archive(data, extra=[HOSTILE[kind]])
    before = sorted(tmp_path.rglob("*"))
    assert read_imdb(path) == clean
    assert sorted(tmp_path.rglob("*")) == before, "nothing may be unpacked"


def damage(kind):
    whole = gzip.compress(tar_bytes(), 1)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x55
    digest = bytearray(whole)
    digest[-6] ^= 0x55  # gzip's own check sum of the whole
    latin = [*MEMBERS, ("aclImdb/test/neg/99_1.txt", "café".encode("latin-1"))]
    return {
        "empty": b"",
        "cut in the middle": whole[: len(whole) // 2],
        "last byte cut": whole[:-1],
        "a byte changed": bytes(flipped),
        "check sum changed": bytes(digest),
        "a tar without gzip": tar_bytes(),
        "a web page": b"<!DOCTYPE html><html>404</html>" * 40,
        "gzip, no tar": gzip.compress(b"no tar at all " * 900),
        "tar cut, gzip whole": gzip.compress(tar_bytes()[: 512 * 5 + 10]),
        "no labelled members": gzip.compress(tar_bytes([("aclImdb/README", b"x")])),
        "no members": gzip.compress(tar_bytes([])),
        "only one class": gzip.compress(
            tar_bytes([pair for pair in MEMBERS if "/pos/" in pair[0]])
        ),
        "no test half": gzip.compress(
            tar_bytes([pair for pair in MEMBERS if "/train/" in pair[0]])
        ),
        "not UTF-8": gzip.compress(tar_bytes(latin)),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        *("empty", "cut in the middle", "last byte cut", "a byte changed"),
        *("check sum changed", "a tar without gzip", "a web page", "gzip, no tar"),
        *("tar cut, gzip whole", "no labelled members", "no members"),
        *("only one class", "no test half", "not UTF-8"),
    ],
)
def test_damaged_archive(data, user_cache, kind):
    """One sentence that names the file and says to delete it; no cache is left."""
    path = data / "aclImdb_v1.tar.gz"
    path.write_bytes(damage(kind))
    sentence = refusal(imdb, path)
    assert str(path) in sentence
    assert "delete it" in sentence
    assert list(data.iterdir()) == [path]
    assert not user_cache.exists()


def test_reader_forgets_members_as_it_goes(data, monkeypatch):
    """tarfile keeps every member it saw: 100,000 of them in the full archive."""
    most, read = [], tarfile.TarFile.next

    def counted(self):
        most.append(len(self.members))
        return read(self)

    monkeypatch.setattr(tarfile.TarFile, "next", counted)
    read_imdb(archive(data))
    assert len(most) > len(MEMBERS)
    assert max(most) <= 1


# ------------------------------------------------------------------------- its cache


def caches(folder):
    return sorted(folder.glob("*.npz")) if folder.exists() else []


@pytest.fixture
def no_reading(monkeypatch):
    """From here on the archive may not be read."""

    def refuse():
        def fail(path):
            raise AssertionError("the archive was read again")

        monkeypatch.setattr(rnn_utils, "read_imdb", fail)

    return refuse


def test_second_start_takes_the_cache(data, user_cache, no_reading, capsys):
    """Everything, texts included, comes from the cache, which lies beside the archive."""
    path = archive(data)
    first = imdb(path)
    assert "first time" in capsys.readouterr().out
    assert len(caches(data)) == 1
    assert not user_cache.exists()
    no_reading()
    assert same(imdb(path), first)
    assert capsys.readouterr().out == ""
    assert len(list(data.iterdir())) == 2, "no temporary file may stay"


def test_cache_is_right(data, user_cache):
    """Ids, decoded with the words, are the tokens of the texts; both ways of getting them."""
    path = archive(data)
    for reviews in (imdb(path), imdb(path)):
        words = [*reviews.words, None]
        known = set(reviews.words)
        assert reviews.labels == ["neg", "pos"]
        for part in reviews.parts:
            assert len(part.starts) == len(part.texts) + 1 == len(part.labels) + 1
            for i, text in enumerate(part.texts):
                ids = part.ids[part.starts[i] : part.starts[i + 1]]
                expected = [w if w in known else None for w in split_words(text)]
                assert [words[k] for k in ids] == expected
        assert len(reviews.words) in reviews.parts[2].ids, "n7 may lack in training"


def test_another_archive_has_another_cache(data, user_cache, monkeypatch):
    """The name of the cache tells the archive's content, the tokeniser and the format."""
    imdb(archive(data))
    smaller = imdb(archive(data, MEMBERS[:15] + MEMBERS[20:]))
    assert len(smaller.parts[0].texts) + len(smaller.parts[1].texts) == 35
    assert len(caches(data)) == 2
    monkeypatch.setattr(rnn_utils, "CACHE_FORMAT", -1)
    imdb(archive(data))
    assert len(caches(data)) == 3


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def spoil(path, kind):
    content = bytearray(path.read_bytes())
    if kind == "a byte changed":
        content[content.index(b"Number n")] ^= 1
    if kind == "pickle":
        found = dict(np.load(path))
        found["words"] = np.array([Trap(str(path.with_name("sprung")))], dtype=object)
        buffer = io.BytesIO()
        np.savez(buffer, **found)
        content = buffer.getvalue()
    if kind == "other arrays":
        buffer = io.BytesIO()
        np.savez(buffer, words=np.arange(3))
        content = buffer.getvalue()
    if kind == "parts that do not fit":
        found = dict(np.load(path))
        found["sizes"] = found["sizes"] - 1
        buffer = io.BytesIO()
        np.savez(buffer, **found)
        content = buffer.getvalue()
    cut = {"empty": 0, "cut": len(content) // 2, "last byte cut": -1}
    path.write_bytes(content[: cut[kind]] if kind in cut else content)


SPOILT = ["empty", "cut", "last byte cut", "a byte changed", "pickle", "other arrays"]


@pytest.mark.parametrize("kind", [*SPOILT, "parts that do not fit"])
def test_damaged_cache_is_made_anew(data, user_cache, capsys, no_reading, kind):
    """A damaged cache costs one line and one reading, not the run."""
    path = archive(data)
    first = imdb(path)
    capsys.readouterr()
    spoil(caches(data)[0], kind)
    assert same(imdb(path), first)
    assert "damaged" in capsys.readouterr().out
    assert not (data / "sprung").exists(), "no code of a cache may run"
    no_reading()
    assert same(imdb(path), first)
    assert "damaged" not in capsys.readouterr().out


def test_read_only_folder(data, user_cache, no_reading):
    """Where the archive's folder is read-only (even for root), the user's cache serves."""
    path = archive(data)
    data.chmod(0o555)
    try:
        first = imdb(path)
        assert not caches(data)
        assert len(caches(user_cache)) == 1
        no_reading()
        assert same(imdb(path), first)
    finally:
        data.chmod(0o755)


def test_no_place_for_a_cache(data, tmp_path, monkeypatch):
    """Without any place that can be written to, the run goes on all the same."""
    blocked = written(tmp_path, "file", "no folder")
    monkeypatch.setattr(rnn_utils.pooch, "os_cache", lambda name: blocked / "x")
    path = archive(data)
    data.chmod(0o555)
    try:
        first = imdb(path)
        assert same(imdb(path), first)
        assert list(data.iterdir()) == [path]
    finally:
        data.chmod(0o755)


def test_concurrent_runs(data, user_cache):
    """Runs that start together all get the data, and leave one whole cache."""
    path = archive(data)
    found, threads = [], []
    for _ in range(4):
        threads.append(threading.Thread(target=lambda: found.append(imdb(path))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(same(reviews, found[0]) for reviews in found)
    assert len(caches(data)) == 1
    assert same(rnn_utils._read_cache(caches(data)[0]), found[0])


def test_imdb_quick(data, user_cache, monkeypatch):
    """--quick leaves few reviews of both classes, the same from archive and cache."""
    monkeypatch.setattr(rnn_utils, "QUICK_PARTS", (12, 3, 7))
    path = archive(data)
    first = imdb(path, QUICK)
    assert [len(part.texts) for part in first.parts] == [12, 3, 7]
    assert set(first.parts[0].labels) == {"neg", "pos"}
    assert len(first.words) < len(imdb(path).words), "words of what is left alone"
    assert same(imdb(path, QUICK), first)


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


def csv_rows(n=40):
    return [(f"the word{k} is {'good' if k % 2 else 'bad'}", k % 2) for k in range(n)]


def csv_file(folder, rows, header="text,label"):
    lines = [header, *(f'"{text}",{label}' for text, label in rows)]
    return written(folder, "reviews.csv", "\n".join(lines) + "\n")


def test_reviews_of_a_csv_file(tmp_path):
    """Numeric labels, NA and null are texts like any other; no text is in two parts."""
    rows = [*csv_rows(), ("NA", 1), ("null", 0), ('a ""quoted"", text', 1)]
    rows += rows[:7]  # repeats
    path = csv_file(tmp_path, rows)
    reviews = load_reviews(FULL, Source("input", path, False))
    assert reviews.labels == ["0", "1"]
    texts = [set(part.texts) for part in reviews.parts]
    assert sum(map(len, texts)) == 43
    assert not (texts[0] & texts[1] or texts[0] & texts[2] or texts[1] & texts[2])
    assert sum(len(part.texts) for part in reviews.parts) == 50
    assert {"NA", "null", 'a "quoted", text'} <= texts[0] | texts[1] | texts[2]
    pairs = [
        (text, label)
        for part in reviews.parts
        for text, label in zip(part.texts, part.labels, strict=True)
    ]
    expected = [(text.replace('""', '"'), str(label)) for text, label in rows]
    assert sorted(pairs) == sorted(expected)


def test_words_are_of_training_by_count(tmp_path):
    """Most frequent first, equal counts alphabetically, nothing from validation and test."""
    path = csv_file(tmp_path, csv_rows())
    reviews = load_reviews(FULL, Source("sample", path, False))
    counts = {}
    for text in reviews.parts[0].texts:
        for word in split_words(text):
            counts[word] = counts.get(word, 0) + 1
    assert reviews.words == sorted(counts, key=lambda word: (-counts[word], word))
    assert reviews.words[:2] == ["is", "the"]
    assert len(reviews.words) == 32 + 4, "32 of 40 texts train"
    assert reviews.parts[0].ids.max() == len(reviews.words) - 1
    assert reviews.parts[1].ids.max() == len(reviews.words), (
        "a word of validation alone"
    )


def test_quick_reviews_are_of_all_classes(tmp_path, monkeypatch):
    """A file may hold one class after the other: the first rows would be one class."""
    monkeypatch.setattr(rnn_utils, "QUICK_PARTS", (20, 5, 6))
    rows = sorted(csv_rows(200), key=lambda row: row[1])
    reviews = load_reviews(
        QUICK, Source("sample", csv_file(tmp_path, rows), real=False)
    )
    assert [len(part.texts) for part in reviews.parts] == [20, 5, 6]
    assert set(reviews.parts[0].labels) == {"0", "1"}


@pytest.mark.parametrize(
    "text, says",
    [
        ("text,label\ngood,1\n,0\n", "row 2"),
        ('text,label\ngood,1\nbad,0\n"   ",0\n', "row 3"),
        ("text,label\ngood,\nbad,0\n", "row 1"),
        ("text,label\ngood\nbad,0\n", "row 1"),
        ("text,label\ngood,1\nfine,1\n", "one label"),
        ("text,mark\ngood,1\n", "no column 'label'"),
        ("good,1\nbad,0\n", "no column 'text'"),
        ("text,label\n", "no rows"),
        ("text,label\ngood, really,1\nbad,no,0\n", "more cells"),
        ('text,label\n"good,1\nbad,0\n', "cannot be read as a CSV"),
        ("", "is empty"),
    ],
)
def test_malformed_csv(tmp_path, text, says):
    """One sentence, with the row where there is one."""
    assert says in refusal(read_reviews, written(tmp_path, "x.csv", text))


def test_csv_that_cannot_be_split(tmp_path):
    """Too few texts, or a training part of one class, is no surprise in scikit-learn."""
    few = csv_file(tmp_path, csv_rows(7))
    assert "10 or more" in refusal(load_reviews, FULL, Source("input", few, False))
    rows = csv_rows(40)
    part = rnn_utils.split_by_hash(text for text, _ in rows)
    rows = [(text, part[text] == 2) for text, _ in rows]
    one = csv_file(tmp_path, rows)
    assert "some label" in refusal(load_reviews, FULL, Source("input", one, False))
    latin = tmp_path / "latin.csv"
    latin.write_bytes("text,label\ncafé,1\nbad,0\n".encode("latin-1"))
    assert "UTF-8" in refusal(load_reviews, FULL, Source("input", latin, False))


# ------------------------------------------------------------------------- encoding


def made_part(lengths, words, seed=0):
    """A TextPart of these lengths, its ids drawn from 0 ... words."""
    starts = np.cumsum([0, *lengths])
    ids = np.random.default_rng(seed).integers(0, words + 1, starts[-1])
    return TextPart([""] * len(lengths), [""] * len(lengths), ids.astype("i4"), starts)


def encode_by_loops(part, size, most, keep):
    """What encode_reviews does, one token at a time."""
    rows = []
    for first, last in zip(part.starts[:-1], part.starts[1:], strict=True):
        row = [k + 2 if k + 2 < size else 1 for k in part.ids[first:last].tolist()]
        if len(row) > most:
            front = {"start": most, "end": 0, "both": (most + 1) // 2}[keep]
            row = row[:front] + row[len(row) - (most - front) :]
        rows.append(row or [1])
    width = max(map(len, rows))
    return [row + [0] * (width - len(row)) for row in rows], [len(row) for row in rows]


@pytest.mark.parametrize("keep", ["both", "start", "end"])
@pytest.mark.parametrize("most", [1, 2, 5, 6, 9, 13, 1000])
def test_encoding_equals_a_loop(keep, most):
    """Cut, shifted by PAD and UNK, rare words as UNK, padded; lengths around the limit."""
    part = made_part([3, 0, 14, 5, 6, 1, 7, 0, 13, 4, 12], words=29)
    data = encode_reviews(part, 23, most, keep)
    rows, lengths = encode_by_loops(part, 23, most, keep)
    assert data["text"].tolist() == rows
    assert data["text_length"].tolist() == lengths
    assert str(data["text"].dtype) == str(data["text_length"].dtype) == "torch.int64"


def test_encoding_keeps_halves_by_default():
    """A known answer: 7 words, 5 kept, the middle two left out."""
    part = TextPart(["x"], ["y"], np.arange(7, dtype=np.int32), np.array([0, 7]))
    assert encode_reviews(part, 99, 5)["text"].tolist() == [[2, 3, 4, 7, 8]]


@pytest.mark.parametrize("lengths", [[0], [0, 0, 0], []])
def test_encoding_of_no_words(lengths):
    """No length is 0: packing would refuse it."""
    data = encode_reviews(made_part(lengths, 3), 5, 4)
    assert data["text"].tolist() == [[1]] * len(lengths)
    assert data["text_length"].tolist() == [1] * len(lengths)


def test_new_texts_are_encoded_like_old_ones(tmp_path):
    """--predict must see the ids that training saw, for every --max-vocab."""
    path = csv_file(tmp_path, csv_rows())
    reviews = load_reviews(FULL, Source("sample", path, False))
    for most in (2, 5, 10, 10_000):
        vocabulary = review_vocabulary(reviews, most)
        assert vocabulary.tokens[:2] == [PAD, UNK]
        assert len(vocabulary) == min(most, len(reviews.words) + 2)
        for part in reviews.parts:
            for keep in ("both", "end"):
                old = encode_reviews(part, len(vocabulary), 3, keep)
                new = encode_texts(part.texts, vocabulary, 3, keep)
                assert old["text"].tolist() == new["text"].tolist()
                assert old["text_length"].tolist() == new["text_length"].tolist()
    vocabulary = review_vocabulary(reviews, 4)
    known = encode_texts(["The zebra is", ""], vocabulary, 9)
    assert known["text"].tolist() == [[3, 1, 2], [1, 0, 0]]


# ------------------------------------------------------------------ tagged sentences

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
ANSWER = [
    [("do", "AUX"), ("n't", "PART"), ("New York", "PROPN")],
    [("#", "SYM"), ("_", "PUNCT")],
]


@pytest.mark.parametrize("end", ["", "\n", "\n\n\n", "\n \n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_conllu(tmp_path, end, newline):
    """Comments, multiword tokens and empty nodes are no words; the last sentence counts."""
    path = tmp_path / "x.conllu"
    path.write_bytes((CONLLU + end).replace("\n", newline).encode())
    assert read_tagged(path) == ANSWER


WORD_TAG = {
    "tab": "EU\tORG\nrejects\tO\n\n#\tSYM\n",
    "spaces": "EU ORG\nrejects   O\n\n# SYM\n",
    "CoNLL-2003": "-DOCSTART- -X- -X- O\n\nEU NNP B-NP ORG\nrejects VB B-VP O\n\n# S S SYM",
    "comments": "# a comment of ours\nEU\tORG\n# another\nrejects\tO\n\n#\tSYM\n",
    "short DOCSTART": "-DOCSTART-\n\nEU ORG\nrejects O\n\n# SYM",
}


@pytest.mark.parametrize("kind", WORD_TAG)
def test_word_and_tag(tmp_path, kind):
    """Two columns or more: the first and the last; "#" may be a word."""
    path = written(tmp_path, "x.txt", WORD_TAG[kind])
    assert read_tagged(path) == [[("EU", "ORG"), ("rejects", "O")], [("#", "SYM")]]


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
def test_malformed_tagged_file(tmp_path, text, line):
    """The sentence names the line that is wrong."""
    path = written(tmp_path, "x.conllu", text)
    assert f"line {line}:" in refusal(read_tagged, path)


def test_tagged_file_without_words(tmp_path):
    """Comments alone are no sentences; a folder is no file."""
    path = written(tmp_path, "x.conllu", "# nothing here\n\n")
    assert "no tagged words" in refusal(read_tagged, path)
    assert "cannot be read" in refusal(read_tagged, tmp_path)


def test_tagged_split_keeps_a_sentence_in_one_part(tmp_path):
    """The same words, however tagged, stand in one part; 80/10/10 of the distinct ones."""
    lines = [f"w{k % 50}\tA{k // 50}\nend\tB\n" for k in range(150)]
    path = written(tmp_path, "x.txt", "\n".join(lines))
    parts = load_tagged(FULL, Source("input", path, False))
    words = [{sentence[0][0] for sentence in part} for part in parts]
    assert [len(w) for w in words] == [40, 5, 5]
    assert [len(part) for part in parts] == [120, 15, 15]
    assert len(words[0] | words[1] | words[2]) == 50
    assert "10 or more" in refusal(
        load_tagged,
        FULL,
        Source("input", written(tmp_path, "y.txt", lines[0]), False),
    )


def test_ewt_takes_its_own_parts(tmp_path, monkeypatch):
    """Training, validation and test are the three files, in that order, capped by --quick."""
    monkeypatch.setattr(rnn_utils, "QUICK_PARTS", (2, 1, 1))
    for name, n in (("train", 5), ("dev", 3), ("test", 4)):
        text = f"1\t{name}\t_\tNOUN{FILLER}\n\n" * n
        written(tmp_path, f"en_ewt-ud-{name}.conllu", text)
    source = Source("ewt", tmp_path, True)
    for args, sizes in ((FULL, [5, 3, 4]), (QUICK, [2, 1, 1])):
        parts = load_tagged(args, source)
        assert [len(part) for part in parts] == sizes
        first = [part[0][0] for part in parts]
        assert first == [("train", "NOUN"), ("dev", "NOUN"), ("test", "NOUN")]


# ----------------------------------------------------------------------------- pairs


def test_read_pairs(tmp_path):
    """Two columns; outer spaces and empty lines do not count; a long line is read."""
    long = " ".join(["word"] * 10_000)
    text = f"a man\tun homme\n\n  hi \t salut  \n{long}\tlong\n"
    pairs = read_pairs(written(tmp_path, "x.tsv", text))
    assert pairs == [("a man", "un homme"), ("hi", "salut"), (long, "long")]


@pytest.mark.parametrize(
    "text, says",
    [
        ("a\tb\nc\td\te\n", "line 2 has 3 column(s)"),
        ("a\tb\n\nc d\n", "line 3 has 1 column(s)"),
        ("a\tb\nc\t\n", "line 2 has an empty side"),
        ("\tb\n", "line 1 has an empty side"),
        ("a\t \n", "line 1 has an empty side"),
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
    one = Source("input", written(tmp_path, "y.tsv", "a\tb\n"), False)
    assert "10 or more" in refusal(load_pairs, FULL, one)


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
    """Line k of the one file belongs to line k of the other."""
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
        (b"", "together"),
        (gzip.compress(b"caf\xe9\n" * 5), "damaged"),
        (gzip.compress(b"a\nb\nc\nd\n"), "together"),
        (gzip.compress(b"a\n\nc\nd\ne\n"), "together"),
    ],
)
def test_damaged_multi30k(tmp_path, content, says):
    """One sentence that names the file and says to delete it."""
    sentence = refusal(load_pairs, FULL, multi30k(tmp_path, train_fr=content))
    assert says in sentence
    assert "train.fr.gz" in sentence
    assert "delete" in sentence


# -------------------------------------------------------------------------- real data


@pytest.mark.real_data
def test_real_texts(real_data, tmp_path, monkeypatch):
    """The real sets have the sizes that they are known for."""
    monkeypatch.setattr(rnn_utils.pooch, "os_cache", lambda name: tmp_path)
    ewt = load_tagged(FULL, Source("ewt", real_data / "ud-english-ewt", True))
    assert [len(part) for part in ewt] == [12_544, 2_001, 2_077]
    assert len({tag for part in ewt for line in part for _, tag in line}) == 17
    pairs = load_pairs(FULL, Source("multi30k", real_data / "multi30k", True))
    assert [len(part) for part in pairs] == [29_000, 1_014, 1_000]


@pytest.mark.slow
@pytest.mark.real_data
def test_real_reviews(real_data, tmp_path):
    """Sizes, balance, and the bounds: a second start under 2 s, memory under 1 GiB."""
    code = (
        "import argparse, sys, time; from pathlib import Path; import rnn_utils as u\n"
        "u.pooch.os_cache = lambda name: Path(sys.argv[2])\n"
        "start = time.perf_counter()\n"
        "source = u.Source('imdb', Path(sys.argv[1]), True)\n"
        "r = u.load_reviews(argparse.Namespace(quick=False), source)\n"
        "print(time.perf_counter() - start)\n"
        # Not ru_maxrss: a child inherits that of pytest, which has trained networks.
        "peak = next(x for x in open('/proc/self/status') if x.startswith('VmHWM'))\n"
        "print(int(peak.split()[1]) / 2**20)\n"
        "print([len(p.texts) for p in r.parts], r.parts[2].labels.count('pos'))\n"
    )
    link = tmp_path / "data" / "aclImdb_v1.tar.gz"
    link.parent.mkdir()
    link.symlink_to(real_data / "aclImdb_v1.tar.gz")
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code, str(link), str(tmp_path)],
            cwd=Path(rnn_utils.__file__).parent,
            env={**os.environ},
            capture_output=True,
            text=True,
            check=True,
        )
        seconds, gib, sizes = done.stdout.splitlines()[-3:]
        assert float(gib) < 1, "GiB, of which importing PyTorch takes a third"
        assert sizes == "[22499, 2501, 25000] 12500"
    assert float(seconds) < 2


# --------------------------------------------------------------------- BLEU, baselines

ANSWERS = ["Un homme court dans le parc.", "Une femme rit.", "The dog, it runs fast!"]
TRUTH = [
    "Un homme court dans un parc.",
    "une femme rit.",
    "The dog, it runs very fast!",
]


def test_bleu_equals_sacrebleu():
    """Both figures and signatures are sacrebleu's own, called directly."""
    found = bleu_scores(ANSWERS, TRUTH)
    lower = sacrebleu.corpus_bleu(ANSWERS, [TRUTH], lowercase=True, tokenize="13a")
    cased = sacrebleu.corpus_bleu(ANSWERS, [TRUTH])
    assert found["bleu"] == pytest.approx(lower.score, abs=1e-9)
    assert found["bleu_13a"] == pytest.approx(cased.score, abs=1e-9)
    assert found["bleu_13a"] < found["bleu"] < 100
    assert "case:lc" in found["signature"]
    assert "case:mixed" in found["signature_13a"]
    for signature in (found["signature"], found["signature_13a"]):
        assert "tok:13a" in signature
        assert f"version:{sacrebleu.__version__}" in signature


def test_bleu_known_answers():
    """Equal is 100, nothing in common 0; a brevity penalty worked by hand."""
    same_words = bleu_scores(TRUTH, TRUTH)
    assert same_words["bleu"] == same_words["bleu_13a"] == pytest.approx(100)
    assert bleu_scores(["w x y z"], ["a b c d"])["bleu"] < 10  # smoothed, so not 0
    assert bleu_scores([""], ["a b c d"])["bleu"] == 0
    upper = bleu_scores([TRUTH[0].upper()], [TRUTH[0]])
    assert upper["bleu"] == pytest.approx(100)
    assert upper["bleu_13a"] < 50
    # Every n-gram of 5 words is right, but the reference has 6: exp(1 - 6 / 5).
    short = bleu_scores(["a b c d e"], ["a b c d e f"])
    assert short["bleu"] == pytest.approx(100 * np.exp(1 - 6 / 5))


def test_bleu_says_nothing_on_stderr(caplog, capfd):
    """sacrebleu warns of spaces before full stops: noise for a learner."""
    bleu_scores(["a b ."] * 200, ["a b."] * 200)
    assert capfd.readouterr().err == ""
    assert not caplog.records


@pytest.mark.parametrize("answers, truth", [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_bleu_of_unequal_lists(answers, truth):
    """A forgotten answer must not become a score."""
    assert "BLEU" in refusal(bleu_scores, answers, truth)


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


def test_dictionary_first_round_by_hand():
    """After one round from uniform: p(x|a) = 1/3 + 1/2 of a's 1/3 + 1/3 + 1/2."""
    # "a b" -> "x y": with "no word" 1/3 each.  "a" -> "x": 1/2.  So of a's total 7/6, x has
    # 5/6 and y 1/3; b has x and y alike, and the first met is taken.
    pairs = [("a b", "x y"), ("a", "x")]
    assert word_dictionary(pairs, rounds=1) == {"a": "x", "b": "x"}
    # In later rounds a and "no word" claim x, so that y is left for b.
    assert word_dictionary(pairs, rounds=5) == {"a": "x", "b": "y"}


def test_dictionary_knows_words_that_stand_for_nothing():
    """ "de" goes with every word alike, so it belongs to none."""
    pairs = [(f"e{k}", f"de f{k}") for k in range(9)]
    assert word_dictionary(pairs) == {f"e{k}": f"f{k}" for k in range(9)}


def test_pair_baselines():
    """Copy repeats; the dictionary keeps order, copies unknown words, sets full stops."""
    asked = [("a red house.", "?"), ("the zebra", "?")]
    answers = pair_baselines(TOY, asked)
    assert answers["copy"] == ["a red house.", "the zebra"]
    first, second = answers["dictionary"]
    assert first.endswith(" rouge maison.")
    assert second.endswith(" zebra")
    assert pair_baselines(TOY, asked) == answers


def test_dictionary_of_a_very_long_pair():
    """10,000 words a side would be a hundred million links."""
    long = " ".join(f"w{k}" for k in range(10_000))
    found = word_dictionary([*TOY, (long, long)])
    assert found["house"] == "maison"
    assert "w199" in found
    assert "w200" not in found


def test_baselines_with_nothing_to_learn_from():
    """One class, or 2,500 texts that share no word, must not end in a traceback."""
    one_class = [("good film", "a"), ("bad film", "a")]
    found = rnn_utils.review_baselines(one_class, [("good", "a")], ["a", "b"])
    assert found["tfidf_unigram"] == found["majority"]
    alone = [(f"word{i}", "ab"[i % 2]) for i in range(2600)]
    found = rnn_utils.review_baselines(alone, alone[:10], ["a", "b"])
    assert found["tfidf_bigram"]["accuracy"] == 0.5


def test_comments_as_wide_as_the_data(tmp_path):
    """`# sent_id = s1` has four columns too, where words have four."""
    path = tmp_path / "four.txt"
    path.write_text("# sent_id = s1\na x y N\n\n# sent_id = s2\nb x y V\n# x y SYM\n")
    assert rnn_utils.read_tagged(path) == [[("a", "N")], [("b", "V"), ("#", "SYM")]]


@pytest.mark.parametrize("text", ["<br />", " ", "\ud800 a"])
def test_texts_without_a_word_are_refused(text):
    with pytest.raises(rnn_utils.UserError):
        rnn_utils.check_texts([text])
    rnn_utils.check_texts(["loved it \N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET}"])
