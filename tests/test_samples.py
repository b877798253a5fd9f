"""samples/reviews.csv and tagged.conllu; en-fr.tsv has a test file of its own."""

import csv
import io
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict

import pytest
from conftest import ROOT
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import rnn_utils as utils

SAMPLES = ROOT / "samples"


@pytest.fixture(scope="module")
def reviews():
    """The (text, label) of reviews.csv."""
    text = (SAMPLES / "reviews.csv").read_text(encoding="utf-8")
    return [(row["text"], row["label"]) for row in csv.DictReader(io.StringIO(text))]


@pytest.fixture(scope="module")
def tagged():
    """The sentences of tagged.conllu: lists of (word, tag)."""
    text = (SAMPLES / "tagged.conllu").read_text(encoding="utf-8")
    found = []
    for block in text.strip().split("\n\n"):
        rows = [line.split("\t") for line in block.split("\n") if line[0] != "#"]
        found.append([(row[1], row[3]) for row in rows])
    return found


# The script


def test_generator_writes_the_files(tmp_path):
    """Byte for byte, in another process with another order of sets and dicts."""
    (tmp_path / "generate.py").write_bytes((SAMPLES / "generate.py").read_bytes())
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(tmp_path / "generate.py")]
    subprocess.run(command, env=env, check=True)
    for name in ("reviews.csv", "tagged.conllu", "en-fr.tsv"):
        assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes(), name


def test_check_tells_a_changed_file_and_a_missing_one(
    generator, tmp_path, monkeypatch, capsys
):
    """Status 1, their names, and nothing is written; status 0 where all is well."""
    monkeypatch.setattr(generator, "HERE", tmp_path)
    made = {name: (SAMPLES / name).read_text("utf-8") for name in generator.FILES}
    monkeypatch.setattr(
        generator,
        "FILES",
        {name: lambda text=text: text for name, text in made.items()},
    )
    for name, text in made.items():
        (tmp_path / name).write_bytes(text.encode())
    assert generator.main(["--check"]) == 0
    assert re.search(r"at most 0\.\d{4} of the words", capsys.readouterr().out)
    (tmp_path / "en-fr.tsv").unlink()
    (tmp_path / "reviews.csv").write_text("changed")
    assert generator.main(["--check"]) == 1
    told = capsys.readouterr().out
    told = [line.split()[0] for line in told.splitlines() if " is not " in line]
    assert told == ["reviews.csv", "en-fr.tsv"]
    assert (tmp_path / "reviews.csv").read_text() == "changed"


# reviews.csv: a reader of the rule that shares no list and no code with the generator

PLUS = """good great brilliant wonderful superb excellent splendid delightful impressive
remarkable lovely marvellous fine"""
MINUS = """bad poor dreadful terrible awful dull weak clumsy lifeless tedious tiresome
feeble dismal"""
SIGN = {**dict.fromkeys(PLUS.split(), 1), **dict.fromkeys(MINUS.split(), -1)}
OTHERS_SAY = re.compile(r"\b(expected|told me that|according to|calls?)\b")
TURNS = re.compile(r"\b(not|hardly|far from)\b")


def verdicts(sentence):
    """What each clause of a sentence says, +1 or -1: one sign for each adjective."""
    found, start = [], 0
    for match in re.finditer(r"[a-z]+", sentence):
        if match[0] in SIGN:
            turned = len(TURNS.findall(sentence[start : match.start()]))
            found.append(SIGN[match[0]] * (-1) ** turned)
            start = match.end()
    return found


def label_of(text):
    """The label by the rule in generate.py, read off the text alone."""
    sentences = [s for s in text.lower().split(".") if not OTHERS_SAY.search(s)]
    told = [(s.strip(), verdicts(s)) for s in sentences if verdicts(s)]
    assert len(told) == 1, text
    sentence, signs = told[0]
    if re.match(r"although|even though", sentence) or re.search(
        r", (but|yet) ", sentence
    ):
        side, main = signs
        assert side == -main, text
    elif ", although " in sentence:
        main, side = signs
        assert side == -main, text
    else:
        main = signs[0]
        assert set(signs) == {main}, text
    return "pos" if main == 1 else "neg"


BY_HAND = [
    ("The cast is superb. We went there last Monday, my aunt and I.", "pos"),
    ("The cast is not superb. We went there last Monday, my aunt and I.", "neg"),
    ("It runs for two hours and ten minutes. The sound was hardly dull.", "pos"),
    ("The opening is far from, if you ask my aunt or me, truly fine.", "neg"),
    ("The acting is awful, but the music is lovely.", "pos"),
    ("The music is lovely, but the acting is awful.", "neg"),
    ("The music is lovely, yet the acting is not good.", "neg"),
    ("Although the acting is awful, the music is far from bad.", "pos"),
    ("The acting is awful, although the music is lovely.", "neg"),
    ("Even though the film is not poor, the script is dull.", "neg"),
    ("The film is great, and the script is hardly weak.", "pos"),
    ("I expected something dismal. The film was brilliant.", "pos"),
    ("The film was feeble. The critics call it brilliant.", "neg"),
    ("My uncle had told me that it was dreadful. The ending is not bad.", "pos"),
]


@pytest.mark.parametrize(("text", "label"), BY_HAND)
def test_the_rule_by_hand(text, label):
    """Labelled by a person: a reader that fails these would prove nothing below."""
    assert label_of(text) == label


def test_every_label_follows_from_the_rule(reviews):
    """A wrong label anywhere would cap what a perfect network can reach."""
    wrong = [text for text, label in reviews if label_of(text) != label]
    assert not wrong


def test_reviews_are_many_distinct_and_balanced(reviews):
    """At least 6,000, none twice, half of them pos, 10 to 80 words, a small file."""
    assert len({text for text, _ in reviews}) == len(reviews) >= 6000
    assert Counter(label for _, label in reviews) == {
        "pos": len(reviews) / 2,
        "neg": len(reviews) / 2,
    }
    lengths = [len(text.split()) for text, _ in reviews]
    assert 10 <= min(lengths) <= 12
    assert 65 <= max(lengths) <= 80
    data = (SAMPLES / "reviews.csv").read_bytes()
    assert len(data) < 1_500_000
    assert b"\r" not in data and data.isascii()


def test_labels_are_mixed_along_the_file(reviews):
    """Who takes the file's beginning, as --quick does, gets both labels."""
    for start in range(0, len(reviews), 400):
        some = [label for _, label in reviews[start : start + 400]]
        assert 0.38 < some.count("pos") / len(some) < 0.62


def test_reviews_show_every_construction(reviews):
    """Negation, contrast, distance and hearsay all occur often, in either label."""
    shown = {
        "negation": r"\b(not|hardly|far from)\b",
        "but": r", (but|yet) ",
        "although first": r"(Although|Even though) ",
        "although last": r", although ",
        "hearsay": r"expected|told me that|According|calls? (it|the)",
        "negator far from its adjective": r"(not|hardly|far from), .{15,}?, \w+",
    }
    for name, pattern in shown.items():
        counts = Counter(label for text, label in reviews if re.search(pattern, text))
        assert min(counts["pos"], counts["neg"]) > 80, (name, counts)


def test_verdict_stands_far_from_the_end_in_many_reviews(reviews):
    """Else the last state of a plain RNN would do, and nothing would ask for memory."""

    def after(text):
        sentences = [s for s in re.split(r"(?<=\.) ", text) if s]
        judged = [
            k
            for k, s in enumerate(sentences)
            if verdicts(s.lower()) and not OTHERS_SAY.search(s.lower())
        ]
        return sum(len(s.split()) for s in sentences[judged[0] + 1 :])

    distances = sorted(after(text) for text, _ in reviews)
    assert distances[len(distances) // 2] >= 8
    assert distances[-len(distances) // 10] >= 20


def tfidf_accuracy(reviews, longest):
    """Test accuracy of TF-IDF of 1 to `longest` words with logistic regression."""
    part = utils.split_by_hash([text for text, _ in reviews])
    train = [row for row in reviews if part[row[0]] == 0]
    test = [row for row in reviews if part[row[0]] == 2]
    vectorizer = TfidfVectorizer(ngram_range=(1, longest), sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=1000)
    (texts, labels), (test_texts, test_labels) = zip(*train), zip(*test)
    model.fit(vectorizer.fit_transform(texts), labels)
    return model.score(vectorizer.transform(test_texts), test_labels)


def test_a_bag_of_words_stays_under_85_percent(reviews):
    """Were the order of words not needed, the sample would teach nothing about it."""
    single, pairs = tfidf_accuracy(reviews, 1), tfidf_accuracy(reviews, 2)
    assert 0.55 < single < 0.75  # measured 0.648
    assert single < pairs < 0.85  # measured 0.744


# tagged.conllu

UNIVERSAL = """ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM
VERB X""".split()  # noqa: SIM905
TINY = [
    [("they", "P"), ("can", "A"), ("fish", "V")],
    [("they", "P"), ("can", "V"), ("fish", "N"), (".", "S")],
    [("they", "P"), ("can", "A"), ("swim", "V")],
    [("can", "N")],
]


def beginnings(sentences):
    """Words up to and including one -> Counter of that word's tags."""
    tags = defaultdict(Counter)
    for sentence in sentences:
        words = tuple(word for word, _ in sentence)
        for k, (_, tag) in enumerate(sentence):
            tags[words[: k + 1]][tag] += 1
    return tags


def test_ceiling_by_hand(generator):
    """they 3, they can 2 of 3, they can fish 1 of 2, its "." 1, ... swim 1, can 1."""
    assert generator.left_to_right_ceiling(TINY) == pytest.approx(9 / 11)
    assert generator.left_to_right_ceiling(TINY[:1]) == 1
    assert generator.left_to_right_ceiling(TINY[:2]) == pytest.approx(5 / 7)


def test_ceiling_of_the_file(generator, tagged):
    """Clearly below 1, and the same from the file as from the generator's own list."""
    ceiling = generator.left_to_right_ceiling(tagged)
    assert 0.85 < ceiling < 0.92  # 0.9077
    assert ceiling == generator.left_to_right_ceiling(generator.tagged_sentences())


def test_words_to_the_left_tell_nothing_of_an_ambiguous_word(tagged):
    """After each beginning either tag stands equally often, or there is but one tag."""
    ambiguous = set()
    for words, counts in beginnings(tagged).items():
        assert len(counts) == 1 or len(set(counts.values())) == 1, (words, counts)
        assert len(counts) <= 2
        if len(counts) == 2:
            ambiguous.add(words[-1].lower())
    assert {"can", "light", "watch", "fish", "play", "plays", "that"} <= ambiguous


def test_words_to_both_sides_tell_everything(tagged):
    """No sentence stands twice: who sees the whole of it is left no doubt."""
    texts = [" ".join(word for word, _ in sentence) for sentence in tagged]
    assert len(set(texts)) == len(texts) == 2700


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("They can fish and read/VERB", "They can fish and soup/NOUN"),
        ("The young guide and doctor the/DET", "The young guide and doctor were/AUX"),
        ("I slept before the match again/ADV", "I slept before the match began/VERB"),
    ],
)
def test_minimal_pairs_exist(tagged, one, other):
    """The last word shown, and no earlier one, parts two readings of the same words."""
    found = []
    for line in (one, other):
        words, tag = line.rsplit("/", 1)
        words = words.split()
        fitting = [s for s in tagged if [w for w, _ in s[: len(words)]] == words]
        assert fitting, line
        tags = {tuple(t for _, t in s[: len(words)]) for s in fitting}
        assert len(tags) == 1 and next(iter(tags))[-1] == tag, line
        found.append(next(iter(tags))[:-1])
    assert found[0] != found[1]


def test_words_of_the_test_part_are_trained(tagged):
    """An unknown word would be another difficulty than the one that is meant."""
    keys = [" ".join(word for word, _ in sentence) for sentence in tagged]
    part = utils.split_by_hash(keys)
    words = [set(), set(), set()]
    for key in keys:
        words[part[key]] |= set(key.split())
    assert not (words[1] | words[2]) - words[0]


def test_conllu_is_well_formed():
    """Two comments, then rows of ten columns numbered from 1, then one empty line."""
    data = (SAMPLES / "tagged.conllu").read_bytes()
    assert len(data) < 600_000
    assert b"\r" not in data and data.endswith(b"\n\n")
    blocks = data.decode("ascii").removesuffix("\n\n").split("\n\n")
    for number, block in enumerate(blocks, start=1):
        sent_id, text, *rows = block.split("\n")
        assert sent_id == f"# sent_id = {number}"
        cells = [row.split("\t") for row in rows]
        assert [c[0] for c in cells] == [str(k + 1) for k in range(len(rows))]
        assert text == "# text = " + " ".join(c[1] for c in cells)
        for c in cells:
            assert len(c) == 10
            assert c[3] in UNIVERSAL
            assert set(c[2:3] + c[4:]) == {"_"}
