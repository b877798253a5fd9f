"""Lesson 07: both directions, padding, letters, tags, the ceiling, the flags."""

import json
import random
import re
import shlex
from argparse import Namespace
from itertools import product

import pytest
import torch
from conftest import ROOT, load_lesson, metrics, one_sentence, run_main, run_script
from sklearn.metrics import accuracy_score, f1_score
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnn_utils as utils

lesson = load_lesson("07_bidirectional_rnn")
TASKS = ("classify", "tag")
LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def config(task="classify", **changes):
    shape = {"words": 11, "once": 9, "classes": 3, "per_word": task == "tag"}
    shape |= {"spelled": task == "tag", "cell": "bidirectional lstm", "hidden": 7}
    return {**shape, "layers": 1, "dropout": 0.0, **changes}


def make_batch(task="classify", n=6, width=8, seed=0):
    """Texts of different lengths; the padding of words, letters and tags is as usual."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, width + 1, (n,), generator=draw)
    lengths[0] = width
    real = utils.length_mask(lengths, width)
    text = torch.randint(2, 11, (n, width), generator=draw).masked_fill(~real, 0)
    batch = {"text": text, "text_length": lengths}
    if task == "classify":
        return batch | {"label": torch.randint(0, 3, (n, 1), generator=draw)}
    labels = torch.randint(0, 3, (n, width), generator=draw)
    letters = torch.randint(3, 200, (11, 5), generator=draw)  # of each different word
    letters[:6, 3:] = 0
    which = text.clone()  # word k is spelled as row k says
    batch |= {"letters": letters, "which": which}
    return batch | {"label": labels.masked_fill(~real, lesson.NO_TAG)}


def wider(batch, more=3):
    """The same texts in a wider batch, with rubbish where the padding is."""
    width = batch["text"].shape[1] + more
    real = utils.length_mask(batch["text_length"], width)
    wide = dict(batch)
    for name in {"text", "which", "label"} & batch.keys():
        if batch[name].shape[1] > 1:
            rubbish = lesson.NO_TAG if name == "label" else 4
            padded = nn.functional.pad(batch[name], (0, more))
            wide[name] = padded.masked_fill(~real, rubbish)
    return wide


def outcome(model, batch):
    """Scores where there is something to answer, the loss, all gradients."""
    model.zero_grad()
    sums, count = lesson.step(model, batch)
    sums["loss"].backward()
    scores = model(batch)[batch["label"] != lesson.NO_TAG]
    gradients = [p.grad.clone() for p in model.parameters()]
    return [scores, sums["loss"], torch.tensor(count), *gradients]


# Both directions


@pytest.mark.parametrize(("cell", "layers"), list(product(LAYERS, (1, 2, 3))))
def test_reader_equals_the_packed_layer_of_pytorch(cell, layers):
    """Outputs and gradients, of inputs too, on a padded batch in no order of length."""
    torch.manual_seed(1)
    options = {"batch_first": True, "bidirectional": True}
    theirs = LAYERS[cell](5, 4, layers, **options).double()
    ours = lesson.Reader(5, f"bidirectional {cell}", 4, layers, 0.0).double()
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        mine.data.copy_(yours.data)
    x = torch.randn(3, 6, 5).double().requires_grad_()
    lengths = torch.tensor([2, 6, 3])
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]
    real = utils.length_mask(lengths, 6).unsqueeze(2)
    states = ours(x, lengths) * real
    torch.testing.assert_close(states, expected)
    goal = torch.randn(3, 6, 8).double()
    mine = torch.autograd.grad((states * goal).sum(), [x, *ours.parameters()])
    yours = torch.autograd.grad((expected * goal).sum(), [x, *theirs.parameters()])
    for a, b in zip(mine, yours, strict=True):
        torch.testing.assert_close(a, b)


def test_reader_equals_two_cells_in_a_loop():
    """One LSTMCell over the words, another over the words in reverse, row by row."""
    torch.manual_seed(2)
    reader = lesson.Reader(5, "bidirectional lstm", 4, 1, 0.0).double()
    x, lengths = torch.randn(3, 6, 5).double(), torch.tensor([4, 6, 1])
    cells = []
    for layer in reader.layers[0]:
        cell = nn.LSTMCell(5, 4).double()
        for mine, theirs in zip(cell.parameters(), layer.parameters(), strict=True):
            mine.data = theirs.data
        cells.append(cell)
    states = reader(x, lengths)
    for row, length in zip(range(3), lengths.tolist(), strict=True):
        for way, cell in enumerate(cells):
            h = c = torch.zeros(4).double()
            for t in range(length) if way == 0 else reversed(range(length)):
                h, c = cell(x[row, t], (h, c))
                found = states[row, t, 4 * way : 4 * way + 4]
                torch.testing.assert_close(found, h)


def test_reverse_words_by_hand():
    """Only the real words turn round, and twice is not at all."""
    x = torch.tensor([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 7, 8]]).unsqueeze(2)
    lengths = torch.tensor([3, 1, 4])
    turned = lesson.reverse_words(x, lengths)
    assert turned.squeeze(2).tolist() == [[3, 2, 1, 0], [4, 0, 0, 0], [8, 7, 6, 5]]
    assert torch.equal(lesson.reverse_words(turned, lengths), x)


def test_the_demonstration_shows_what_it_says(capsys):
    """With lengths the backward state is that of the text alone; without it is not."""
    torch.manual_seed(0)
    lesson.show_directions()
    lines = capsys.readouterr().out.splitlines()
    rows = [re.findall(r"[+-]\d\.\d{3}", line) for line in lines]
    rows = [row for row in rows if row]
    assert len(rows) == 3  # alone; in a batch with lengths; without
    assert rows[0] == rows[1]
    assert max(abs(float(a) - float(b)) for a, b in zip(*rows[1:], strict=True)) > 0.01
    assert all(len(row) == 4 for row in rows)
    gaps = re.findall(
        r"(?:states|gradients) (\S+?)(?:,| |$)", "\n".join(lines), re.MULTILINE
    )
    assert len(gaps) == 2
    assert all(float(gap) < 1e-12 for gap in gaps)


# The network


@pytest.mark.parametrize(
    ("task", "cell"), list(product(TASKS, ("bidirectional lstm", "bidirectional gru")))
)
@pytest.mark.parametrize("layers", [1, 2])
def test_padding_changes_neither_scores_nor_loss_nor_gradients(task, cell, layers):
    """More padding, and rubbish in it, must not reach an answer."""
    torch.manual_seed(3)
    model = lesson.Network(**config(task, cell=cell, layers=layers)).double().eval()
    batch = make_batch(task)
    for narrow, wide in zip(
        outcome(model, batch), outcome(model, wider(batch)), strict=True
    ):
        torch.testing.assert_close(narrow, wide)


@pytest.mark.parametrize("task", TASKS)
def test_no_packing_lets_padding_through(task):
    """What the flag is there to show: backwards it matters, forwards it cannot."""
    batch = make_batch(task)
    for cell, same in (("bidirectional lstm", False), ("unidirectional lstm", True)):
        torch.manual_seed(4)
        model = lesson.Network(**config(task, cell=cell)).double().eval()
        model.reader.packing = False
        narrow, wide = outcome(model, batch)[0], outcome(model, wider(batch))[0]
        assert torch.allclose(narrow, wide) == same


@pytest.mark.parametrize("task", TASKS)
def test_order_of_the_batch_does_not_matter(task):
    """Rows shuffled: scores shuffled, the same loss and gradients."""
    torch.manual_seed(5)
    model = lesson.Network(**config(task)).double().eval()
    batch, order = make_batch(task), torch.tensor([3, 0, 5, 1, 4, 2])
    mixed = {k: v if k == "letters" else v[order] for k, v in batch.items()}
    torch.testing.assert_close(model(batch)[order], model(mixed))
    for a, b in zip(outcome(model, batch)[1:], outcome(model, mixed)[1:], strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("way", ["bidirectional", "unidirectional"])
def test_a_text_alone_equals_the_same_text_in_a_batch(task, way):
    """An answer must not depend on the neighbours."""
    model = lesson.Network(**config(task, cell=f"{way} rnn")).double().eval()
    batch = make_batch(task)
    together = model(batch)
    for i, length in enumerate(batch["text_length"].tolist()):
        one = {k: v if k == "letters" else v[i : i + 1] for k, v in batch.items()}
        one |= {k: one[k][:, :length] for k in {"text", "which"} & one.keys()}
        alone = model(one)[0]
        torch.testing.assert_close(alone, together[i, : len(alone)])


def test_unidirectional_scores_do_not_know_the_future():
    """Changing a word changes no tag before it; bidirectional, it does."""
    batch = make_batch("tag", n=1)
    changed = {**batch, "text": batch["text"].clone()}
    changed["text"][0, 5] = 2 if batch["text"][0, 5] != 2 else 3
    for way, same in (("unidirectional", True), ("bidirectional", False)):
        model = lesson.Network(**config("tag", cell=f"{way} lstm")).double().eval()
        before, after = model(batch)[0], model(changed)[0]
        assert torch.equal(before[:5], after[:5]) == same
        assert not torch.equal(before[5], after[5])


@pytest.mark.parametrize("way", ["bidirectional", "unidirectional"])
def test_pooling_takes_the_largest_value_at_a_real_word(way):
    """Max pooling against a loop over rows."""
    model = lesson.Network(**config(cell=f"{way} lstm")).double().eval()
    batch = make_batch()
    states = model.reader(model.vectors(batch), batch["text_length"])
    rows = [s[:n].max(0).values for s, n in zip(states, batch["text_length"])]
    expected = model.output(torch.stack(rows)).unsqueeze(1).float()
    torch.testing.assert_close(model(batch), expected)


def test_letter_filters_know_nothing_of_other_words_or_padding():
    """A word's vector alone, among longer words, and in a wider table."""
    torch.manual_seed(6)
    filters = lesson.LetterFilters(6).double()
    letters = torch.tensor([[1, 70, 71, 2, 0, 0], [1, 72, 73, 74, 75, 2]])
    together = filters(letters)
    torch.testing.assert_close(filters(letters[:1, :4])[0], together[0])
    torch.testing.assert_close(filters(letters[1:])[0], together[1])
    wide = nn.functional.pad(letters, (0, 9))
    torch.testing.assert_close(filters(wide), together)
    assert not torch.allclose(together[0], together[1])


def test_only_words_seen_once_are_hidden_and_only_in_training():
    """About half of them become UNK; frequent words never."""
    model = lesson.Network(**config("tag", words=40, once=20, spelled=False))
    nn.init.zeros_(model.embed.weight)
    model.embed.weight.data[lesson.UNK_ID] = 1.0  # so that an UNK can be seen
    words = torch.arange(2, 40).repeat(200, 1)  # (B, T)
    model.train()
    hidden = model.vectors({"text": words})[:, :, 0] == 1.0
    assert not hidden[words < 20].any()
    assert 0.45 < hidden[words >= 20].float().mean() < 0.55
    model.eval()
    assert not model.vectors({"text": words}).any()


@pytest.mark.parametrize("task", TASKS)
def test_overfits_a_tiny_batch(task):
    """Gradients reach every weight, and the labels belong to their texts."""
    torch.manual_seed(7)
    model = lesson.Network(**config(task, hidden=24, once=11))
    batch = make_batch(task)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        sums, count = lesson.step(model, batch)
        optimizer.zero_grad()
        (sums["loss"] / count).backward()
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    assert sums["accuracy"] == count
    assert sums["loss"] / count < 0.05


@pytest.mark.parametrize(("layers", "shapes"), [(1, []), (2, [(3, 6, 8)])])
def test_dropout_acts_between_layers(layers, shapes):
    """Once for two layers, on what the first one hands up; never for one."""
    reader, seen = lesson.Reader(5, "bidirectional gru", 4, layers, 0.5), []
    reader.dropout.register_forward_hook(lambda *a: seen.append(tuple(a[2].shape)))
    reader(torch.randn(3, 6, 5), torch.tensor([4, 6, 1]))
    assert seen == shapes


# Data

TAGS = {"they": "PRON", "we": "PRON", "run": "VERB", "home": "ADV", ".": "PUNCT"}
TAGS |= {"fast": "ADV", "now": "ADV", "swim": "VERB", "you": "PRON", "play": "VERB"}
NAMES = ["".join(name) for name in product("BCDFGHJK", "aeiou", "lmnrt")]


def tagged(path, columns="\t"):
    """200 sentences of a word and a tag a line; some end in a name."""
    who, what, how = ["They", "We", "You"], ["run", "swim", "play"], ["fast", "now", ""]
    lines = list(product(who, what, how, ["", *NAMES]))
    lines = random.Random(0).sample(lines, 200)
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            for word in [*filter(None, line), "."]:
                tag = TAGS.get(word.lower(), "PROPN")
                file.write(f"{word}{columns}{tag}\n")
            file.write("\n")
    return path


def reviews(path):
    """200 texts whose last word decides."""
    words = product(["film", "plot", "cast"], NAMES, [("fine", "pos"), ("dull", "neg")])
    rows = [f'"The {a}, {b} says, is {c}.",{label}' for a, b, (c, label) in words]
    path.write_text("\n".join(["text,label", *rows[:200]]), encoding="utf-8")
    return path


WRITE = {"classify": lambda folder: reviews(folder / "own.csv")}
WRITE["tag"] = lambda folder: tagged(folder / "own.tsv")


def load(task, folder, *more):
    """Parsed flags, and the data of a small file."""
    flags = ["--task", task, "--input", str(WRITE[task](folder)), *more]
    flags += ["--out-dir", str(folder / "out"), "--no-plots"]
    args = utils.parse_flags(lesson.make_flags(flags), flags, "07_bidirectional_rnn.py")
    source = utils.choose_dataset(args, ["ewt"], {"sample": None})
    return args, lesson.load_data(source, args)


def test_batches_of_sentences_say_what_the_file_says(tmp_path):
    """Each word's id, letters and tag, wherever bucketing put its sentence."""
    _, data = load("tag", tmp_path, "--batch-size", "7")
    seen = 0
    for batch in data.batches[0]:
        assert len(batch["letters"]) == len(batch["which"].unique())
        for row, index in enumerate(batch["index"].tolist()):
            line = data.parts[0][index]
            assert batch["text_length"][row] == len(line)
            for t, (word, tag) in enumerate(line):
                assert data.vocabulary.tokens[batch["text"][row, t]] == word.lower()
                letters = batch["letters"][batch["which"][row, t]].tolist()
                assert [i for i in letters if i] == [1, *word.encode(), 2]
                assert data.labels[batch["label"][row, t]] == tag
                seen += 1
            assert (batch["label"][row, len(line) :] == lesson.NO_TAG).all()
    assert seen == sum(map(len, data.parts[0]))


def test_words_seen_once_are_the_last_of_the_vocabulary(tmp_path):
    """From `once` on every word has count one, before it none has; training only."""
    _, data = load("tag", tmp_path)
    words = [word.lower() for line in data.parts[0] for word, _ in line]
    for word in data.vocabulary.tokens[2:]:
        is_once = data.vocabulary[word] >= data.once
        assert (words.count(word) == 1) == is_once
    assert set(data.vocabulary.tokens[2:]) == set(words)


def test_accuracy_counts_real_words_only(tmp_path):
    """judge against scikit-learn on words picked sentence by sentence."""
    args, data = load("tag", tmp_path)
    torch.manual_seed(8)
    shape = lesson.new_card(data, args)["config"]
    model = lesson.Network(**shape).eval()
    found = lesson.judge(model, data, 2, args)
    truth, answers, new = [], [], []
    known = {word.lower() for line in data.parts[0] for word, _ in line}
    for line in data.parts[2]:
        batch = lesson.tag_batches([line], data.vocabulary, data.labels, False, args)
        scores = model(batch.take(torch.arange(1)))[0]
        answers += [data.labels[i] for i in scores.argmax(1)]
        truth += [tag for _, tag in line]
        new += [word.lower() not in known for word, _ in line]
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, answers))
    expected = f1_score(truth, answers, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(expected)
    assert found["unseen_words"] == sum(new)
    right = [a == b for a, b, n in zip(truth, answers, new, strict=True) if n]
    assert found["unseen_accuracy"] == pytest.approx(sum(right) / len(right))


def tiny_data(train, asked, labels):
    """Data made of two lists of sentences."""
    args = Namespace(task="tag", batch_size=2, device="cpu", precision="fp32")
    args.no_packing = False
    lines = [[word.lower() for word, _ in line] for line in train]
    vocabulary = utils.Vocabulary.build(lines)
    parts = [train, asked, asked]
    batches = [
        lesson.tag_batches(part, vocabulary, labels, k == 0, args)
        for k, part in enumerate(parts)
    ]
    source = utils.Source("sample", None, False)
    known = {"source": source, "parts": parts, "vocabulary": vocabulary}
    return args, Namespace(**known, labels=labels, batches=batches)


def test_most_frequent_tag_by_hand():
    """The usual tag; the commonest of all for a new word, and where two are even."""
    train = [
        [("can", "AUX"), ("fish", "N")],
        [("Can", "AUX"), ("can", "N"), ("even", "V")],
        [("even", "N"), ("cat", "N")],
    ]
    asked = [[("can", "AUX"), ("even", "N")], [("dog", "N"), ("can", "N"), ("x", "V")]]
    args, data = tiny_data(train, asked, ["AUX", "N", "V"])
    found = lesson.baselines(data, 2, args)["most_frequent_tag"]
    assert found["accuracy"] == pytest.approx(3 / 5)  # wrong: the second can, and x
    assert found["ambiguous_words"] == 3
    assert found["ambiguous_accuracy"] == pytest.approx(2 / 3)
    assert found["unseen_words"] == 2
    assert found["unseen_accuracy"] == pytest.approx(1 / 2)


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
    args, data = tiny_data(sentences, sentences, ["AUX", "N", "P", "PRON", "V"])
    found = lesson.baselines(data, 1, args)["left_to_right_ceiling"]
    assert found["accuracy"] == pytest.approx(27 / 33)


def test_who_matters_adds_up_and_respects_the_direction():
    """Shares of each row sum to 1; forwards only, a later word has none."""
    batch = make_batch("tag", n=1)
    for way, later in (("unidirectional", 0.0), ("bidirectional", 1e-6)):
        model = lesson.Network(**config("tag", cell=f"{way} gru")).eval()
        shares = lesson.who_matters(model, batch)
        assert shares.shape == (8, 8)
        torch.testing.assert_close(shares.sum(1), torch.ones(8))
        future = shares.triu(1)
        assert future.max() == 0 if later == 0.0 else future.max() > later


@pytest.mark.parametrize(("way", "rows"), [("bidirectional", 2), ("unidirectional", 1)])
def test_who_matters_takes_a_verdict_apart(way, rows):
    """The parts of all words sum to the score, but for the biases and their mean."""
    torch.manual_seed(9)
    model = lesson.Network(**config(cell=f"{way} lstm")).eval()
    batch = make_batch(n=1)
    parts = lesson.who_matters(model, batch)
    assert parts.shape == (rows, 8)
    scores = model(batch)[0, 0] - model.output.bias
    best = model(batch)[0, 0].argmax()
    torch.testing.assert_close(parts.sum(), (scores[best] - scores.mean()).detach())
    states = model.reader(model.vectors(batch), batch["text_length"])[0]
    taken = states[:, -7:].argmax(0).unique().tolist()  # by the last direction
    assert parts[-1].nonzero().flatten().tolist() == taken


# The program


@pytest.mark.parametrize(
    ("task", "pictures", "baselines"),
    [
        ("classify", set(), {"majority", "tfidf_unigram", "tfidf_bigram"}),
        ("tag", {"confusion.png"}, {"most_frequent_tag", "left_to_right_ceiling"}),
    ],
)
def test_quick_run_without_network(tmp_path, task, pictures, baselines):
    """A newcomer who is offline: ends well, says sample, leaves table and pictures."""
    done = run_script("07_bidirectional_rnn", "--quick", "--task", task, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sample [sample]" in done.stdout
    folder = tmp_path / "outputs" / "07_bidirectional_rnn"
    result = json.loads((folder / "metrics.json").read_text())
    assert result["real"] is False
    assert result["epochs_run"] == 2
    assert set(result["baselines"]) == baselines
    assert all(row in done.stdout for row in baselines)
    drawn = {path.name for path in folder.glob("*.png")}
    assert drawn == {"training.png", "what_matters.png"} | pictures


def small(folder, task, *flags):
    """A run in this process on 200 short texts; returns the exit status."""
    fixed = ("--task", task, "--hidden-size", 16, "--quick", "--no-plots")
    if "--input" not in flags and "--dataset" not in flags:
        fixed += ("--input", WRITE[task](folder))
    return run_main(lesson, *fixed, "--out-dir", folder / "out", *flags)


@pytest.mark.parametrize("task", TASKS)
def test_same_seed_same_numbers(tmp_path, task):
    """Two runs agree to the last digit; another seed does not."""
    found = []
    for seed in (7, 7, 8):
        assert small(tmp_path, task, "--seed", seed) == 0
        found.append(metrics(tmp_path)["metrics"] | {"test_unseen_accuracy": None})
        weights = torch.load(tmp_path / "out" / "last.pt", weights_only=True)["model"]
        found[-1] = (found[-1], weights["output.weight"].tolist())
    assert found[0] == found[1]
    assert found[0][1] != found[2][1]


@pytest.mark.parametrize("task", TASKS)
def test_a_saved_model_gives_the_same_answers(tmp_path, capsys, task):
    """--save-model, then --eval-only without repeating the flags that shaped it."""
    path, texts = tmp_path / "model.pt", ["The plot is fine.", "They swim now ."]
    shape = ("--num-layers", 2, "--cell", "gru", "--unidirectional")
    more = ("--path", path, "--predict", *texts)
    assert small(tmp_path, task, "--save-model", *shape, *more) == 0
    first, before = capsys.readouterr().out, metrics(tmp_path)
    assert small(tmp_path, task, "--eval-only", *more) == 0
    second, after = capsys.readouterr().out, metrics(tmp_path)
    assert after["epochs_run"] == 0
    assert str(after["metrics"]) == str(before["metrics"])  # as text: NaN equals NaN
    lines = first.splitlines()[-2:]
    assert lines == second.splitlines()[-2:]
    kind = r"(\S+/[A-Z]+ ?)+" if task == "tag" else r"(pos|neg) \d+\.\d%: .*\."
    assert all(re.fullmatch(kind, line) for line in lines), lines


def test_a_trained_tagger_tags(tmp_path, capsys):
    """On sentences this easy, every word of a new one comes out right."""
    flags = ("--task", "tag", "--input", tagged(tmp_path / "own.tsv"), "--epochs", 6)
    flags += ("--hidden-size", 16, "--batch-size", 8, "--no-plots")
    sentence = ("--predict", "We swim fast Hozo.")
    assert run_main(lesson, *flags, *sentence, "--out-dir", tmp_path / "out") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "We/PRON swim/VERB fast/ADV Hozo/PROPN ./PUNCT"


@pytest.mark.parametrize("task", TASKS)
def test_compare_direction_at_equal_parameters(tmp_path, task):
    """Two networks within two percent of each other's size, in one table."""
    assert small(tmp_path, task, "--compare", "direction", "--unidirectional") == 0
    models = metrics(tmp_path)["models"]
    names = [name.split()[0] for name in models]
    assert names == ["bidirectional", "unidirectional"]
    sizes = [model["parameters"] for model in models.values()]
    assert max(sizes) / min(sizes) < 1.02
    assert "hidden 16" in next(iter(models))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "flags",
    [
        ["--num-layers", "2", "--hidden-size", "256"],
        ["--unidirectional", "--cell", "rnn", "--clip", "0"],
        ["--no-packing", "--precision", "bf16"],
        ["--char-features", "none", "--accumulate", "2", "--optimizer", "sgd"],
    ],
)
def test_flags_do_run(tmp_path, capsys, task, flags):
    """Every flag of the lesson, for both tasks."""
    assert small(tmp_path, task, "--epochs", 1, *flags) == 0
    said = "same weights, with lengths" in capsys.readouterr().out
    assert said == ("--no-packing" in flags)


@pytest.mark.parametrize("task", TASKS)
def test_no_packing_reaches_training_and_the_loaded_model(tmp_path, monkeypatch, task):
    """The flag is no part of a checkpoint: what counts is how it is read now."""
    flags = ("--hidden-size", "4", "--epochs", "1")
    for more in ((), ("--no-packing",)):
        args, data = load(task, tmp_path, *flags, *more)
        model, _ = lesson.train_model(lesson.new_card(data, args)["config"], data, args)
        assert model.reader.packing == (not more)
    seen, path = [], ("--path", tmp_path / "model.pt")
    assert small(tmp_path, task, "--save-model", *path) == 0
    look = lambda model, *rest: seen.append(model.reader.packing)
    monkeypatch.setattr(lesson, "report", look)
    for more in ((), ("--no-packing",)):
        assert small(tmp_path, task, "--eval-only", *path, *more) == 0
    assert seen == [True, False]


def test_each_task_has_defaults_of_its_own(capsys):
    """A flag that is given counts for both; --help says both."""
    for task, row in lesson.DEFAULTS.items():
        argv = ["--task", task]
        args = vars(lesson.make_flags(argv).parse_args(argv))
        assert tuple(args[name] for name in lesson.FLAGS) == row
        argv += ["--epochs", "77"]
        assert lesson.make_flags(argv).parse_args(argv).epochs == 77
    assert lesson.make_flags([]).parse_args([]).task == "classify"
    with pytest.raises(SystemExit):
        lesson.make_flags(["--help"]).parse_args(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for task, row in lesson.DEFAULTS.items():
        assert f"'{task}': {row}" in said


@pytest.mark.parametrize("task", TASKS)
def test_resume_ends_where_an_uninterrupted_run_does(tmp_path, monkeypatch, task):
    """Interrupted in epoch 2 and resumed: the same metrics, to the last digit."""
    assert small(tmp_path, task) == 0
    whole = str(metrics(tmp_path)["metrics"])
    calls, real_step = [], lesson.step

    def interrupted(model, batch):
        calls.append(model.training)
        if sum(calls) == per_epoch + 2:
            raise KeyboardInterrupt
        return real_step(model, batch)

    per_epoch = -(-160 // lesson.DEFAULTS[task][1])
    monkeypatch.setattr(lesson, "step", interrupted)
    assert small(tmp_path, task) == 130
    monkeypatch.setattr(lesson, "step", real_step)
    assert small(tmp_path, task, "--resume") == 0
    assert str(metrics(tmp_path)["metrics"]) == whole


def test_named_entities_in_two_columns(tmp_path):
    """The reader's own tags, between spaces, several columns, as in CoNLL-2003."""
    path = tmp_path / "ner.txt"
    lines = [f"{name} NNP B-PER\nsleeps VBZ O\n. . O\n" for name in NAMES[:60]]
    path.write_text("-DOCSTART- -X- O\n\n" + "\n".join(lines), encoding="utf-8")
    assert small(tmp_path, "tag", "--input", path, "--predict", "Ba sleeps .") == 0
    found = metrics(tmp_path)
    assert found["dataset"] == "input"
    assert found["real"] is False
    assert "left_to_right_ceiling" not in found["baselines"]


@pytest.mark.parametrize(
    ("task", "flags", "words"),
    [
        ("classify", ["--cell", "transformer"], "invalid choice"),
        ("classify", ["--task", "parse"], "invalid choice: 'parse'"),
        ("classify", ["--task"], "--task"),
        ("classify", ["--tas", "tag"], "--tas"),
        ("classify", ["--dataset", "ewt"], "invalid choice"),
        ("tag", ["--dataset", "imdb"], "invalid choice"),
        ("tag", ["--compare", "cell"], "invalid choice"),
        ("tag", ["--compare", "direction", "--predict", "x"], "--compare"),
        ("tag", ["--char-features", "rnn"], "invalid choice"),
        ("tag", ["--predict", " . "], "--predict"),
        ("classify", ["--predict", "\udcff"], "--predict"),
        ("classify", ["--predict"], "--predict"),
        ("tag", ["--resume"], "nothing to resume"),
        ("tag", ["--eval-only", "--path", "/nowhere/m.pt"], "no checkpoint"),
        ("tag", ["--input", "/nowhere/at/all"], "/nowhere/at/all"),
        ("classify", ["--epochs", "0"], "--epochs"),
    ],
)
def test_a_wrong_flag_is_one_sentence(tmp_path, capsys, task, flags, words):
    """Exit status 2 and a sentence that names the flag or file."""
    assert small(tmp_path, task, *flags) == 2
    assert words in one_sentence(capsys)


ROW = "1\tThey\tthey\tPRON\t_\t_\t_\t_\t_\t_\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("# only a comment\n", "no tagged words"),
        ("They\n\nswim\n", "line 1"),
        (ROW + "2\tswim\tswim\tVERB\n", "line 2"),
        (ROW + "two" + ROW[1:], "line 2"),
        (ROW + ROW.replace("PRON", "_"), "line 2"),
        (ROW + ROW.replace("They", ""), "line 2"),
        (ROW + "\n" + ROW, "few"),
        ("They PRON\nswim VERB\n\n", "few"),
    ],
)
def test_a_broken_file_of_tags_is_one_sentence(tmp_path, capsys, content, words):
    """Malformed CoNLL-U or columns: status 2, and the line that is wrong."""
    path = tmp_path / "broken.conllu"
    path.write_text(content, encoding="utf-8")
    assert small(tmp_path, "tag", "--input", path) == 2
    assert words in one_sentence(capsys)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text\nfine\n", "label"),
        ("text,label\nfine,pos\ndull,pos\n", "one label"),
        ("text,label\nfine,pos\n,neg\n", "row 2"),
        ("text,label\nfine,pos\ndull,neg\n", "few"),
    ],
)
def test_a_broken_file_of_reviews_is_one_sentence(tmp_path, capsys, content, words):
    """A missing column, one class, an empty text, too few rows."""
    path = tmp_path / "broken.csv"
    path.write_text(content, encoding="utf-8")
    assert small(tmp_path, "classify", "--input", path) == 2
    assert words in one_sentence(capsys)


def test_a_model_of_other_texts_is_refused(tmp_path, capsys):
    """Its numbers of words mean other words, and its training may be this test."""
    path, other = ("--path", tmp_path / "model.pt"), tmp_path / "other.tsv"
    assert small(tmp_path, "tag", "--save-model", *path) == 0
    own = tagged(other).read_text(encoding="utf-8").replace("swim", "walk")
    other.write_text(own, encoding="utf-8")
    capsys.readouterr()
    assert small(tmp_path, "tag", "--input", other, "--eval-only", *path) == 2
    assert "was trained on texts" in one_sentence(capsys)
    assert small(tmp_path, "classify", "--eval-only", *path) == 2
    assert "was trained on task 'tag'" in one_sentence(capsys)


@pytest.mark.parametrize("change", [{"config": {}}, {"config": 5}, {"model": {}}])
def test_a_damaged_model_is_refused(tmp_path, capsys, change):
    """A checkpoint made by hand, with a part missing or of the wrong kind."""
    path = tmp_path / "model.pt"
    assert small(tmp_path, "tag", "--save-model", "--path", path) == 0
    card = torch.load(path, weights_only=True) | change
    torch.save(card, path)
    capsys.readouterr()
    assert small(tmp_path, "tag", "--eval-only", "--path", path) == 2
    assert "model.pt" in one_sentence(capsys)


def test_length_and_commands_of_the_lesson():
    """At most 500 lines; every command of the docstring parses."""
    text = (ROOT / "07_bidirectional_rnn.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    commands = re.findall(
        r"^    python 07_bidirectional_rnn.py(.*)$", text, re.MULTILINE
    )
    assert len(commands) >= 2
    for command in commands:
        argv = shlex.split(command, comments=True)
        lesson.make_flags(argv).parse_args(argv)


@pytest.mark.real_data
def test_real_sentences_are_as_described(real_data, tmp_path):
    """Facts about EWT, and the baseline that the issue names: 0.862."""
    flags = ["--task", "tag", "--data-dir", str(real_data), "--out-dir", str(tmp_path)]
    args = utils.parse_flags(lesson.make_flags(flags), flags, "07_bidirectional_rnn.py")
    source = utils.choose_dataset(args, ["ewt"], {"sample": None})
    data = lesson.load_data(source, args)
    assert source.label == "ewt [real]"
    assert [len(part) for part in data.parts] == [12544, 2001, 2077]
    assert [sum(map(len, part)) for part in data.parts][::2] == [204577, 25094]
    found = lesson.baselines(data, 2, args)
    assert set(found) == {"most_frequent_tag"}
    assert found["most_frequent_tag"]["accuracy"] == pytest.approx(0.862, abs=0.001)
    assert found["most_frequent_tag"]["unseen_words"] == 1882


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize(("task", "least"), [("classify", 0.893), ("tag", 0.945)])
def test_must_show_on_the_real_data(real_data, tmp_path, task, least):
    """Test accuracy of the default run."""
    flags = ("--task", task, "--data-dir", real_data, "--no-plots")
    assert run_main(lesson, *flags, "--out-dir", tmp_path / "out") == 0
    found = metrics(tmp_path)
    assert found["real"] is True
    assert found["metrics"]["test_accuracy"] >= least
