"""Lesson 10: sampling, carried state, resume, n-grams, units, hostile input, the flags."""

import json
import math

import pytest
import torch
from conftest import load_lesson, metrics, one_sentence, run_main, run_script
from scipy.stats import chisquare
from torch.nn import functional as F

import rnn_utils as utils

lesson = load_lesson("10_text_generation")
CONFIG = {
    "tokens": 7,
    "embedding": 5,
    "cell": "lstm",
    "hidden": 6,
    "layers": 2,
    "dropout": 0.0,
    "tied": False,
}


def model_of(**changes):
    torch.manual_seed(3)
    return lesson.NextToken(**{**CONFIG, **changes}).eval()


def small(tmp_path, *flags):
    """A run in this process on the sample, in a second or two."""
    fixed = ("--quick", "--no-plots", "--hidden-size", 12, "--max-length", 30)
    return run_main(lesson, *fixed, "--out-dir", tmp_path / "out", *flags)


# Sampling

SCORES = torch.tensor([0.3, 2.0, -1.0, 1.4, 0.0, 1.1, -3.0], dtype=torch.double)


def test_temperature_is_the_softmax_of_scaled_scores():
    """Against the exponential written out."""
    for t in (0.5, 1.0, 2.5):
        exact = (SCORES / t).exp() / (SCORES / t).exp().sum()
        found = lesson.next_distribution(SCORES, t)
        torch.testing.assert_close(found, exact)


def test_temperature_to_zero_is_greedy():
    """0 exactly, and the limit, without an overflow."""
    greedy = lesson.next_distribution(SCORES, 0)
    assert greedy.tolist() == [0, 1, 0, 0, 0, 0, 0]
    for t in (1e-3, 1e-30):
        torch.testing.assert_close(lesson.next_distribution(SCORES, t), greedy)


@pytest.mark.parametrize("k", [1, 2, 5, 7, 100])
def test_top_k_keeps_the_k_likeliest(k):
    """Ties included: k, not more."""
    for scores in (SCORES, torch.zeros(7, dtype=torch.double)):
        p = lesson.next_distribution(scores, 1.0, top_k=k)
        assert (p > 0).sum() == min(k, 7)
        assert p.sum() == pytest.approx(1)
        assert scores[p > 0].min() >= scores[p == 0].max() if k < 7 else True


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    """One token fewer must fall short of p; the rest keep their proportions."""
    full = lesson.next_distribution(SCORES, 1.0)
    for p in (0.05, 0.3, 0.5, 0.8, 0.95, 1.0):
        kept = lesson.next_distribution(SCORES, 1.0, top_p=p)
        chosen = full[kept > 0]
        assert chosen.sum() >= p - 1e-12
        assert chosen.sum() - chosen.min() < p
        torch.testing.assert_close(kept[kept > 0], chosen / chosen.sum())


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.7}]
)
def test_drawn_tokens_follow_the_exact_probabilities(how):
    """Chi-squared of 4,000 tokens of a model whose scores never change; fixed seed."""
    model = model_of()
    torch.nn.init.zeros_(model.output.weight)
    model.output.bias.data = SCORES.float()
    ids = lesson.generate(model, torch.tensor([1]), 4000, 11, **how)
    allowed = SCORES.clone()
    allowed[0] = -math.inf  # <unk>
    exact = lesson.next_distribution(allowed, **{"temperature": 1.0, **how})
    seen = torch.bincount(torch.tensor(ids), minlength=7)
    assert seen[exact == 0].sum() == 0
    kept = exact > 0
    assert chisquare(seen[kept].numpy(), exact[kept].numpy() * 4000).pvalue > 0.01


def test_generation_carries_the_state():
    """One step a token must equal reading everything again; same seed, same text."""
    for cell in lesson.CELLS:
        model = model_of(cell=cell)
        prompt = torch.tensor([3, 1, 4])
        ids = lesson.generate(model, prompt, 30, 5, temperature=0)
        known = prompt.tolist()
        for token in ids:
            with torch.no_grad():
                scores = model(torch.tensor([known]))[0][0, -1]
            assert token == scores[1:].argmax() + 1
            known.append(token)
        draws = [lesson.generate(model, prompt, 30, seed) for seed in (5, 5, 6)]
        assert draws[0] == draws[1] != draws[2]


def test_writing_between_epochs_has_no_dropout():
    """`fit` hands the model out in training mode; text is written without it."""
    model, prompt = model_of(dropout=0.8), torch.tensor([3, 1])
    expected = lesson.generate(model.eval(), prompt, 30, 5)
    for seed in (1, 2):
        torch.manual_seed(seed)
        assert lesson.generate(model.train(), prompt, 30, 5) == expected


# State, streams, truncated back-propagation


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_state_carried_in_chunks_equals_one_long_call(cell):
    """Three layers, float64; without the carried state they must differ."""
    model = model_of(cell=cell, layers=3).double()
    ids = torch.randint(7, (4, 23))
    whole, _ = model(ids)
    state, parts = None, []
    for chunk in ids.split(5, dim=1):
        scores, state = model(chunk, state)
        parts.append(scores)
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    assert not torch.allclose(model(ids[:, 5:])[0], whole[:, 5:])


def test_step_carries_and_detaches():
    """Second window: the loss of a long call, the gradient of the window alone."""
    model, step = model_of().double(), lesson.make_step()
    ids = torch.randint(7, (3, 13))
    batches = [
        {"input": ids[:, :6], "target": ids[:, 1:7], "first": True},
        {"input": ids[:, 6:12], "target": ids[:, 7:], "first": False},
    ]
    for batch in batches:
        model.zero_grad()
        sums, count = step(model, batch)
        sums["loss"].backward()  # must not run into the freed window before
    assert count == 18
    ours = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    with torch.no_grad():
        state = model(ids[:, :6])[1]
    scores = model(ids[:, 6:12], state)[0].flatten(0, 1).float()
    loss = F.cross_entropy(scores, ids[:, 7:].flatten(), reduction="sum")
    loss.backward()
    torch.testing.assert_close(sums["loss"], loss)
    torch.testing.assert_close(ours, [p.grad for p in model.parameters()])


def test_streams_go_on_where_they_stopped():
    """Targets are the next tokens; batches join to B long passages; none is lost."""
    ids = torch.arange(1000)
    for shuffle in (False, True):
        streams = lesson.Streams(ids, 4, 16, "cpu", shuffle)
        batches = list(streams)
        assert len(batches) == len(streams)
        assert [batch["first"] for batch in batches] == [True] + [False] * (
            len(batches) - 1
        )
        x = torch.cat([batch["input"] for batch in batches], 1)
        assert all((batch["target"] == batch["input"] + 1).all() for batch in batches)
        assert (x[:, 1:] == x[:, :-1] + 1).all()
        assert len(x) == 4
        assert x.numel() >= 1000 - (4 if not shuffle else 4 + 16 + 4 * 16)


def test_random_start_differs_and_repeats_with_the_seed():
    """The offset comes from torch's global generator, which --resume restores."""
    streams = lesson.Streams(torch.arange(1000), 4, 16, "cpu", True)
    torch.manual_seed(1)
    starts = [next(iter(streams))["input"][0, 0].item() for _ in range(8)]
    torch.manual_seed(1)
    again = [next(iter(streams))["input"][0, 0].item() for _ in range(8)]
    assert starts == again
    assert len(set(starts)) > 1


def test_tied_weights_are_the_same_weights():
    """One matrix for words in and words out, not two that start alike."""
    model = model_of(tied=True)
    assert model.output.weight is model.embed.weight
    free = model_of(tied=False, embedding=5, hidden=5)
    assert free.output.weight is not free.embed.weight


@pytest.mark.parametrize("level", ["char", "word"])
def test_vocabulary_is_of_the_training_part(level):
    """What stands in the last tenth only is unknown."""
    flags = ["--level", level]
    args = lesson.make_flags(flags).parse_args(flags)
    args.lesson, source = "10_text_generation", utils.Source("input", None, False)
    card = lesson.new_card(source, "a b " * 45 + "z z z z z z z z z z ", args)
    assert set(card["vocabulary"]) == {utils.UNK, "a", "b"} | set(
        " " * (level == "char")
    )


def test_model_overfits_a_tiny_text():
    """Gradients reach every weight, tied or not."""
    ids = torch.tensor([1, 2, 3, 1, 4, 5, 6, 2] * 8)
    for tied in (False, True):
        model, step = model_of(tied=tied, hidden=24).train(), lesson.make_step()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
        for _ in range(60):
            for batch in lesson.Streams(ids, 2, 16, "cpu"):
                sums, count = step(model, batch)
                optimizer.zero_grad()
                (sums["loss"] / count).backward()
                optimizer.step()
        assert lesson.score(model, ids) < 0.3


# Scores


def test_score_equals_a_one_pass_oracle_in_float64():
    """In one stream, past the width of a chunk; and reset every 256."""
    model = model_of().double()
    ids = torch.randint(7, (2600,), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        log_p = model(ids[None, :-1])[0][0].log_softmax(1)
        exact = -log_p[range(2599), ids[1:]].mean().item()
        total = 0.0
        for i in range(0, 2599, 256):
            x, y = ids[i : i + 256], ids[i + 1 : i + 257]
            log_p = model(x[None, : len(y)])[0][0].log_softmax(1)
            total -= log_p[range(len(y)), y].sum().item()
    assert lesson.score(model, ids) == pytest.approx(exact, rel=1e-12)
    assert lesson.score(model, ids, 256) == pytest.approx(total / 2599, rel=1e-12)


def test_units_agree():
    """nats, bits and perplexity are one figure."""
    found = lesson.units(1.45, "char")
    assert 2 ** found["bits_per_char"] == pytest.approx(found["perplexity"])
    assert math.log(found["perplexity"]) == pytest.approx(found["nats"]) == 1.45
    assert "bits_per_char" not in lesson.units(4.0, "word")


# N-grams


def test_kneser_ney_by_hand():
    """Bigrams of 1 2 1 2 1 3, vocabulary of 4.

    Bigram counts 12:2 21:2 13:1; n1 = 1, n2 = 2, so Y = 1/5; D1 = 1 - 2/5 * 2 = 1/5,
    D2 = 2 (no count is 3).  Continuations 2:1 1:1 3:1; n1 = 3, Y = 1, D1 = 1: all of it
    goes to 1/4 each.  p(3 | 1) = (1 - 1/5 + (2 + 1/5) / 4) / 3 = 0.45.
    """
    grams = utils.KneserNey(torch.tensor([1, 2, 1, 2, 1, 3]), 2, 4)
    found = [grams.probability(chr(1), chr(i)) for i in range(4)]
    assert found == pytest.approx([0.55 / 3, 0.55 / 3, 0.55 / 3, 1.35 / 3])
    assert grams.probability("", chr(2)) == pytest.approx(0.25)


def test_kneser_ney_discounts_of_frequent_tokens_by_hand():
    """Counts 1, 1, 2, 3, 4 of 7 tokens: Y = 1/2, D1 = D2 = 1/2, D3 = 3 - 4 Y = 1.

    What was taken, 1/2 + 1/2 + 1/2 + 1 + 1, goes to all 7 alike: 1/2 each, of 11.
    """
    ids = torch.tensor([1, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5])
    grams = utils.KneserNey(ids, 1, 7)
    found = [11 * grams.probability("", chr(i)) for i in range(7)]
    assert found == pytest.approx([0.5, 1, 1, 2, 2.5, 3.5, 0.5])


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_n_gram_probabilities_sum_to_one(order):
    """After every history, seen, unseen or too short."""
    ids = torch.randint(6, (300,), generator=torch.Generator().manual_seed(1)) ** 2 // 5
    grams = utils.KneserNey(ids, order, 7)
    text = utils.text_of_ids(ids)
    for history in ["", text[:1], text[50:54], text[90:100], chr(6) * 4]:
        p = [grams.probability(history, chr(i)) for i in range(7)]
        assert sum(p) == pytest.approx(1)
        assert min(p) > 0


def test_n_gram_score_is_the_mean_over_all_but_the_first():
    """The same items as the network is scored on."""
    ids = torch.tensor([1, 2, 1, 3, 2, 1, 2, 2, 3, 1])
    grams = utils.KneserNey(ids, 3, 4)
    text = utils.text_of_ids(ids)
    logs = [math.log(grams.probability(text[:i], text[i])) for i in range(1, 10)]
    assert grams.score(ids) == pytest.approx(-sum(logs) / 9)


def small_corpus():
    """Two parts that differ; words 1, 2, ... are the letters a, b, ..."""
    texts, words = ["abcabcabdabc" * 9, "dcbadcab"], [utils.UNK, *"abcd"]
    vocabulary = utils.Vocabulary(words)
    ids = [torch.tensor(vocabulary.encode(text)) for text in texts]
    source = utils.Source("input", None, False)
    return lesson.Corpus(source, "char", vocabulary, texts, ids)


def test_n_grams_learn_from_training_and_are_asked_about_the_rest():
    """Scored on what they were counted on, they would look far too good."""
    corpus = small_corpus()
    found = lesson.baselines(corpus)
    assert list(found) == ["1-gram", "3-gram", "5-gram", "7-gram"]
    for name, nats in found.items():
        grams = utils.KneserNey(corpus.ids[0], int(name[0]), 5)
        assert nats == pytest.approx(grams.score(corpus.ids[1]))


# Quality


def test_longest_copy_against_all_substrings():
    """Brute force over every passage."""
    text, source = "to be or not to bee", "a bee, or not two, to be sure"
    passages = {text[i:j] for i in range(len(text)) for j in range(i, len(text) + 1)}
    longest = max(len(p) for p in passages if p in source)
    found = lesson.longest_copy(text, source)
    assert len(found) == longest
    assert found in text
    assert found in source
    assert lesson.longest_copy("xyz", "abc") == ""


def test_quality_compares_with_the_training_part():
    """Known words and copies are those of what the model has read."""
    corpus = small_corpus()._replace(texts=["the cat sat", "a dog ran"])
    found = lesson.quality("the cat, the dog", corpus)
    assert found["words in training"] == 3 / 4
    assert found["distinct 3-grams"] == 2 / 2
    assert found["longest copy"] == len("the cat")


def test_share_parsed():
    """Ends cut off; broken blocks do not count and do not crash."""
    text = "ut off\n\nx = 1\n\ndef f(:\n    pass\n\ndef g():\n    pass\n\nda\0\n\ncut o"
    assert lesson.share_parsed(text) == pytest.approx(2 / 4)
    assert lesson.share_parsed("") == 0


def test_words_come_back():
    """Tokens of words lose spaces only."""
    text = "First Citizen:\nWe're here, sir.\n\nSpeak!"
    assert lesson.join(lesson.tokenize(text, "word"), "word") == text
    assert lesson.join(lesson.tokenize(text, "char"), "char") == text


# The program


def test_quick_run_without_network(tmp_path):
    """The default run of a newcomer who is offline."""
    done = run_script("10_text_generation", "--quick", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "code [sample]" in done.stdout
    folder = tmp_path / "outputs" / "10_text_generation"
    found = json.loads((folder / "metrics.json").read_text())
    assert found["real"] is False
    names = {"val_loss", "bits_per_char", "val_perplexity", "val_loss_reset256"}
    assert names | {"chars_per_second"} == set(found["metrics"])
    assert set(found["baselines"]) == {"1-gram", "3-gram", "5-gram", "7-gram"}
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {"training.png", "next_token.png"}


def test_resume_is_bit_for_bit(tmp_path, capsys, monkeypatch):
    """Interrupted in epoch 2 and resumed: the same weights as without interruption."""
    flags = ("--save-model", "--dropout", 0.3)
    assert small(tmp_path, *flags, "--path", tmp_path / "whole.pt") == 0
    whole = torch.load(tmp_path / "whole.pt", weights_only=True)["model"]
    calls, real_make = [], lesson.make_step

    def interrupted_make():
        step = real_make()

        def interrupted(model, batch):
            calls.append(1)
            if len(calls) == 14:  # 8 training and 1 validation batches an epoch
                raise KeyboardInterrupt
            return step(model, batch)

        return interrupted

    again = (*flags, "--out-dir", tmp_path / "again", "--path", tmp_path / "again.pt")
    monkeypatch.setattr(lesson, "make_step", interrupted_make)
    assert small(tmp_path, *again) == 130
    monkeypatch.setattr(lesson, "make_step", real_make)
    assert small(tmp_path, *again, "--resume") == 0
    resumed = torch.load(tmp_path / "again.pt", weights_only=True)["model"]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    first, second = metrics(tmp_path)["metrics"], metrics(tmp_path, "again")["metrics"]
    assert first["val_loss"] == second["val_loss"]


@pytest.mark.parametrize("level", ["char", "word"])
def test_a_saved_model_writes_the_same_text(tmp_path, capsys, level):
    """--save-model, then --eval-only without the flags that shaped it."""
    path = ["--path", tmp_path / "model.pt", "--prompt", "def "]
    assert small(tmp_path, "--save-model", "--level", level, *path) == 0
    before, first = metrics(tmp_path)["metrics"], capsys.readouterr().out
    assert small(tmp_path, "--eval-only", *path) == 0
    after, second = metrics(tmp_path)["metrics"], capsys.readouterr().out
    before.pop("chars_per_second"), after.pop("chars_per_second")
    assert before == after
    written = first.split("written at")[1].split("Reading it")[0]
    assert written in second


@pytest.mark.parametrize(
    "flags",
    [
        ["--cell", "gru", "--num-layers", "3"],
        ["--cell", "rnn", "--accumulate", "2", "--optimizer", "sgd"],
        ["--level", "word", "--max-vocab", "50", "--temperature", "0"],
        ["--prompt", "snowman \u2603", "--top-k", "3", "--top-p", "0.5"],
        ["--prompt", "", "--temperature", "0.8", "--max-length", "500"],
        ["--precision", "bf16", "--batch-size", "1000000"],
    ],
)
def test_flags_do_run(tmp_path, flags):
    """Cells, layers, levels, unknown characters and an empty prompt."""
    assert small(tmp_path, *flags) == 0


def test_prompt_with_unknown_characters_is_said(tmp_path, capsys):
    """Read as <unk>, in one line; it cannot be written."""
    assert small(tmp_path, "--prompt", "\u2603") == 0
    assert "never saw" in capsys.readouterr().out


@pytest.mark.parametrize("level", ["char", "word"])
def test_a_text_of_one_symbol(tmp_path, level):
    """Nothing to learn and nothing to divide by; it runs."""
    path = tmp_path / "a.txt"
    path.write_text("a" * 400 if level == "char" else "a " * 400)
    flags = ("--level", level, "--sequence-length", 16)
    assert small(tmp_path, "--input", path, *flags) == 0
    assert metrics(tmp_path)["metrics"]["val_loss"] < 1.5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"short", "too short"),
        (b"", "empty"),
        (b" \n \n", "empty"),
        ("M\u00fcller".encode("latin-1") * 99, "not UTF-8"),
    ],
)
def test_a_bad_text_is_one_sentence(tmp_path, capsys, content, words):
    """Shorter than one window, empty, blank, Latin-1."""
    path = tmp_path / "in.txt"
    path.write_bytes(content)
    assert small(tmp_path, "--input", path) == 2
    assert words in one_sentence(capsys)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--level", "byte"], "invalid choice"),
        (["--cell", "transformer"], "invalid choice"),
        (["--temperature", "-1"], "--temperature"),
        (["--top-p", "0"], "--top-p"),
        (["--top-k", "-1"], "--top-k"),
        (["--max-length", "0"], "--max-length"),
        (["--sequence-length", "99999"], "too short"),
        (["--input", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--input", "/"], "cannot be read"),
        (["--eval-only", "--path", "/nowhere/model.pt"], "no checkpoint"),
        (["--resume"], "nothing to resume"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_a_wrong_flag_is_one_sentence(tmp_path, capsys, flags, words):
    """Exit status 2 and a sentence that names the flag or file."""
    assert small(tmp_path, *flags) == 2
    assert words in one_sentence(capsys)


def test_word_level_has_defaults_of_its_own():
    """Both spellings of the flag; a flag given outright wins."""
    for argv in (["--level", "word"], ["--level=word"]):
        args = lesson.make_flags(argv).parse_args(argv)
        assert args.epochs == lesson.WORD_DEFAULTS["epochs"]
    argv = ["--level", "word", "--epochs", "3"]
    assert lesson.make_flags(argv).parse_args(argv).epochs == 3
    argv = ["--epochs", "50"]
    assert lesson.make_flags(argv).parse_args(argv).epochs == 50


def test_the_standard_library_is_found(tmp_path):
    """Python source of the size asked for; a folder without any is one sentence."""
    text = utils.read_standard_library(utils.standard_library_folder(), 30_000)
    assert len(text) == 30_000
    assert "def " in text
    with pytest.raises(utils.UserError, match="--input"):
        utils.read_standard_library(tmp_path, 100)


@pytest.mark.real_data
def test_baselines_of_the_real_text(real_data):
    """The n-gram figure of the docstring, on the standard split."""
    text = utils.read_text(real_data / "tinyshakespeare" / "input.txt")
    parts = lesson.split(text)
    assert [len(part) for part in parts] == [1003854, 111540]
    words = utils.Vocabulary.build(parts[:1], (utils.UNK,))
    ids = [torch.tensor(words.encode(part)) for part in parts]
    assert len(words) == 66
    grams = utils.KneserNey(ids[0], 5, len(words))
    assert grams.score(ids[1]) == pytest.approx(1.561, abs=0.002)
