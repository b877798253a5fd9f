"""Lesson 09: scores, masks, search, padding, input feeding, hostile input, flags."""

import itertools
import json
import math
import shlex

import pytest
import torch
from conftest import load_lesson, metrics, one_sentence, run_main, run_script
from torch.nn import functional as F

import rnn_utils as utils

lesson = load_lesson("09_attention_mechanism")
KINDS = list(lesson.SCORES)
CONFIG = {"sources": 11, "targets": 9, "hidden": 6, "layers": 2, "dropout": 0.0}
CONFIG |= {"kind": "additive", "inner": 5, "feeding": False}


def model_of(**changes):
    """A tiny model, float64, its weights large enough that words matter."""
    torch.manual_seed(3)
    model = lesson.Translator(**{**CONFIG, **changes}).double().eval()
    for parameter in model.parameters():
        parameter.data.mul_(2.0)
    return mix(model, 3)


def mix(model, seed, std=1.5):
    """Other target words and outputs, so that one answer is not like the next."""
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(model.embed_target.weight, std=std, generator=generator)
    return model


def batch_of(*lengths, wide=0, targets=9, seed=0):
    """Sources of these lengths, targets ending in EOS; `wide` more padded columns."""
    torch.manual_seed(seed)
    source, given = utils.pad([torch.randint(4, 11, (n,)) for n in lengths])
    rows = [[*torch.randint(4, targets, (n % 3 + 1,)).tolist(), 3] for n in lengths]
    target, wanted = utils.pad(rows)
    batch = {"source": F.pad(source, (0, wide)), "source_length": given}
    return batch | {"target": F.pad(target, (0, wide)), "target_length": wanted}


def row_of(batch, i):
    """A batch of one: row i without its padding."""
    made = {}
    for side in ("source", "target"):
        n = batch[f"{side}_length"][i : i + 1]
        made |= {side: batch[side][i : i + 1, : int(n)], f"{side}_length": n}
    return made


PHRASES = [
    (f"the {a} {n} {v} .", f"le {n}f {a}f {v}f .")
    for a in ("red", "old", "big", "sad", "shy")
    for n in ("cat", "dog", "man", "car", "bus", "hen")
    for v in ("runs", "sits", "stops")
]


@pytest.fixture
def pairs(tmp_path):
    """A file of 90 pairs in which the adjective follows its noun."""
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in PHRASES), encoding="utf-8")
    return path


def small(tmp_path, *flags):
    """A run in this process, in a second or two."""
    fixed = ("--quick", "--no-plots", "--hidden-size", 12)
    return run_main(lesson, *fixed, "--out-dir", tmp_path / "out", *flags)


# Scores and masks


def naive_score(kind, q, k, weights):
    """One query, one key, number by number."""
    size = range(len(q))
    if kind == "additive":
        w_q, w_k, v = weights
        return sum(
            v[a] * torch.tanh(sum(w_q[a, i] * q[i] + w_k[a, i] * k[i] for i in size))
            for a in range(len(v))
        )
    if kind == "general":
        w = weights[0] / len(q) ** 0.5  # the W of the equation
        return sum(q[i] * w[i, j] * k[j] for i in size for j in size)
    product = sum(q[i] * k[i] for i in size)
    return product / len(q) ** 0.5 if kind == "scaled-dot-product" else product


def test_general_starts_as_dot():
    """W is the identity at first; what is learned is sqrt(H) W."""
    model = lesson.Translator(**{**CONFIG, "kind": "general", "hidden": 9}).double()
    w = model.score_weights[0].data
    q, k = (torch.randn(2, n, 9).double() for n in (3, 5))
    torch.testing.assert_close(lesson.general(q, k, w), lesson.dot(q, k))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
def test_scores_and_contexts_against_loops(kind):
    """Scores, the softmax over real words, the weighted mean, all by loops."""
    torch.manual_seed(1)
    q, k, v = (torch.randn(3, n, 4).double() for n in (2, 5, 5))
    weights = [p.data for p in model_of(kind=kind, hidden=4, inner=7).score_weights]
    scores = lesson.SCORES[kind](q, k, *weights)
    lengths = torch.tensor([5, 1, 3])
    contexts, found = lesson.attend(scores, v, utils.length_mask(lengths, 5))
    assert scores.shape == (3, 2, 5)
    for b, i in itertools.product(range(3), range(2)):
        real = range(int(lengths[b]))
        row = [naive_score(kind, q[b, i], k[b, j], weights) for j in range(5)]
        torch.testing.assert_close(scores[b, i], torch.stack(row))
        total = sum(math.exp(row[j]) for j in real)
        shares = [math.exp(row[j]) / total for j in real]
        exact = torch.tensor(shares + [0.0] * (5 - len(shares))).double()
        torch.testing.assert_close(found[b, i], exact, atol=1e-7, rtol=1e-6)
        mean = sum(share * v[b, j] for j, share in enumerate(shares))
        torch.testing.assert_close(contexts[b, i], mean)


def test_scaled_dot_product_equals_pytorch():
    """Outputs and the gradients of queries, keys and values, with padding."""
    torch.manual_seed(2)
    ours = [torch.randn(3, n, 4).double().requires_grad_() for n in (2, 5, 5)]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    mask = utils.length_mask(torch.tensor([5, 1, 3]), 5)
    scores = lesson.scaled_dot_product(*ours[:2])
    found = lesson.attend(scores, ours[2], mask)[0]
    exact = F.scaled_dot_product_attention(*theirs, attn_mask=mask.unsqueeze(1))
    torch.testing.assert_close(found, exact)
    goal = torch.randn(3, 2, 4).double()
    (found * goal).sum().backward()
    (exact * goal).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_sum_to_one_over_real_words(kind):
    """And are zero on padding, exactly, in the whole model."""
    model, batch = model_of(kind=kind), batch_of(5, 2, 4, wide=2)
    memory, mask, start = model.encode(batch["source"], batch["source_length"])
    weights = model.decode(batch["target"], start, memory, mask)[2]
    assert weights.shape[2] == (1 if kind == "none" else 7)
    torch.testing.assert_close(weights.sum(2), torch.ones_like(weights[..., 0]))
    if kind != "none":
        assert torch.equal(mask, utils.length_mask(batch["source_length"], 7))
        padding = ~mask.unsqueeze(1).expand_as(weights)
        assert (weights[padding] == 0).all()
        assert (weights[~padding] > 0).all()


def test_none_sees_the_same_summary_at_every_word():
    """The same weights as dot; one key for the whole sentence; no look back."""
    none, dot = model_of(kind="none"), model_of(kind="dot")
    assert utils.count_parameters(none) == utils.count_parameters(dot)
    batch = batch_of(5, 2, 4)
    memory, mask, _ = none.encode(batch["source"], batch["source_length"])
    assert memory.shape == (3, 1, 6)
    assert mask.all()


def test_all_kinds_start_from_the_same_weights():
    """`--attention-type all`: equal seed is equal start, where weights are shared."""
    base = model_of(kind="none").state_dict()
    for kind in KINDS:
        other = model_of(kind=kind).state_dict()
        assert all(torch.equal(base[name], other[name]) for name in base)
    assert any("score_weights" in name for name in model_of().state_dict())


def test_one_matrix_reads_and_writes_target_words():
    """Tied, not two that start alike: else training would part them."""
    model = lesson.Translator(**CONFIG)
    assert model.output.weight is model.embed_target.weight


def test_self_attention_knows_no_order():
    """Permuted words give permuted outputs; an LSTM's do not."""
    torch.manual_seed(4)
    x, order = torch.randn(2, 5, 6).double(), torch.tensor([3, 0, 4, 1, 2])
    mask = torch.ones(2, 5, dtype=torch.bool)

    def look(x):
        return lesson.attend(lesson.scaled_dot_product(x, x), x, mask)[0]

    torch.testing.assert_close(look(x[:, order]), look(x)[:, order])
    lstm = model_of().encoder
    assert not torch.allclose(lstm(x[:, order])[0], lstm(x)[0][:, order], atol=1e-3)


# The decoder, the loss


@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_one_call_equals_step_by_step(kind, feeding):
    """What training computes at once is what the search computes word by word."""
    model, batch = model_of(kind=kind, feeding=feeding), batch_of(5, 2, 4)
    memory, mask, state = model.encode(batch["source"], batch["source_length"])
    words = torch.randint(3, 9, (3, 7))
    whole, last, weights = model.decode(words, state, memory, mask)
    steps, looks = [], []
    for word in words.split(1, dim=1):
        one, state, look = model.decode(word, state, memory, mask)
        steps.append(one)
        looks.append(look)
    torch.testing.assert_close(torch.cat(steps, 1), whole)
    torch.testing.assert_close(torch.cat(looks, 1), weights)
    torch.testing.assert_close(state, last)


def test_forward_predicts_each_word_from_those_before():
    """Real words only, in the order of the target; a later word changes nothing."""
    model, batch = model_of(), batch_of(5, 2, 4)
    scores, n = model(batch), batch["target_length"].tolist()
    assert scores.shape == (sum(n), 9)
    memory, mask, state = model.encode(batch["source"], batch["source_length"])
    k = 0
    for b in range(3):
        known = [lesson.BOS, *batch["target"][b, : n[b] - 1].tolist()]
        for t in range(n[b]):
            words = torch.tensor([known[: t + 1]])
            one = tuple(part[:, b : b + 1] for part in state)
            rest = memory[b : b + 1], mask[b : b + 1]
            combined = model.decode(words, one, *rest)[0][0, -1]
            torch.testing.assert_close(scores[k], model.output(combined).float())
            k += 1


def test_input_feeding_against_a_loop_by_hand():
    """LSTM gates, attention and the combination written out for one layer."""
    model, batch = model_of(feeding=True, layers=1), batch_of(5, 2, 4)
    memory, mask, (h, c, fed) = model.encode(batch["source"], batch["source_length"])
    words = torch.randint(3, 9, (3, 4))
    found = model.decode(words, (h, c, fed), memory, mask)[0]
    w_ih, w_hh, b_ih, b_hh = model.decoder.parameters()
    h, c, fed = h[0], c[0], torch.zeros(3, 6).double()
    for t in range(4):
        x = torch.cat([model.embed_target(words[:, t]), fed], 1)
        gates = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, 1)
        i, f, o = (gates[k].sigmoid() for k in (0, 1, 3))
        c = f * c + i * gates[2].tanh()
        h = o * c.tanh()
        score = lesson.additive(h.unsqueeze(1), memory, *model.score_weights)
        context = lesson.attend(score, memory, mask)[0][:, 0]
        fed = torch.tanh(model.combine(torch.cat([context, h], 1)))
        torch.testing.assert_close(found[:, t], fed)


def test_label_smoothing_against_a_loop():
    """-(1 - s) log p(truth) - s mean log p over real words; none when not training."""
    model, batch = model_of(), batch_of(5, 2, 4, wide=2)
    log_p = model(batch).log_softmax(1).tolist()
    truth = [x for row in batch["target"].tolist() for x in row if x != 0]
    nats = -sum(row[x] for row, x in zip(log_p, truth, strict=True))
    flat = -sum(sum(row) / 9 for row in log_p)
    sums, count = lesson.step(model, batch, 0.2)
    assert count == len(truth) == int(batch["target_length"].sum())
    assert sums["loss"].item() == pytest.approx(nats, rel=1e-5)
    sums = lesson.step(model.train(), batch, 0.2)[0]
    assert sums["nats"].item() == pytest.approx(nats, rel=1e-5)
    assert sums["loss"].item() == pytest.approx(0.8 * nats + 0.2 * flat, rel=1e-5)
    options = {"reduction": "sum", "label_smoothing": 0.2}
    exact = F.cross_entropy(model(batch), torch.tensor(truth), **options)
    torch.testing.assert_close(sums["loss"], exact)


# Padding


def gradients(model, batch):
    model.zero_grad()
    sums, count = lesson.step(model.train(), batch, 0.1)
    (sums["loss"] / count).backward()
    return sums["loss"].item(), [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_neither_loss_nor_gradient(kind):
    """Three more columns of padding on both sides; and the sum over batches of one."""
    model, batch = model_of(kind=kind), batch_of(5, 2, 4)
    loss, grads = gradients(model, batch)
    wide, wide_grads = gradients(model, batch_of(5, 2, 4, wide=3))
    assert wide == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(grads, wide_grads, atol=1e-6, rtol=1e-5)
    alone = sum(gradients(model, row_of(batch, i))[0] for i in range(3))
    assert alone == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_translations_do_not_depend_on_the_batch(kind, size):
    """A batch of one, a batch of many, more padding: the same answers and weights."""
    model, lengths = model_of(kind=kind), (5, 2, 4, 7, 1)
    batch, wide = batch_of(*lengths), batch_of(*lengths, wide=3)
    many = lesson.search(model, batch, size)
    assert len({tuple(ids) for ids, _ in many}) > 1
    for i, (ids, weights) in enumerate(many):
        assert len(ids) == len(weights) <= 2 * lengths[i] + lesson.ROOM
        for other in (row_of(batch, i), wide):
            again, looked = lesson.search(model, other, size)[i if other is wide else 0]
            assert again == ids
            torch.testing.assert_close(looked, weights)


# Search


def log_p_of(model, batch, ids):
    """log p of each next word after the words `ids`, of a batch of one: (V,)."""
    memory, mask, state = model.encode(batch["source"], batch["source_length"])
    words = torch.tensor([[lesson.BOS, *ids]])
    scores = model.output(model.decode(words, state, memory, mask)[0][0, -1])
    scores[:3] = -math.inf
    return scores.log_softmax(0).tolist()


def mean_log_p(model, batch, ids, limit, known):
    """What the search maximises; EOS counted unless the limit cut it off.

    known: what was computed before for this sentence, by the words so far.
    """
    whole, parts = [*ids, lesson.EOS][:limit], []
    for t, x in enumerate(whole):
        begun = tuple(whole[:t])
        if begun not in known:
            known[begun] = log_p_of(model, batch, begun)
        parts.append(known[begun][x])
    return sum(parts) / len(parts)


@torch.no_grad()
@pytest.mark.parametrize("feeding", [False, True])
def test_one_beam_is_greedy_search(feeding):
    """Against the plainest loop: one sentence, the argmax, again from the start."""
    model, batch = model_of(feeding=feeding), batch_of(5, 2, 4, 1, 3)
    for i, (ids, _) in enumerate(lesson.search(model, batch, 1)):
        row, known = row_of(batch, i), []
        while len(known) < 2 * int(row["source_length"]) + lesson.ROOM:
            log_p = log_p_of(model, row, known)
            best = log_p.index(max(log_p))
            if best == lesson.EOS:
                break
            known.append(best)
        assert ids == known


@torch.no_grad()
@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_finds_what_exhaustive_search_finds(seed, monkeypatch):
    """Two words and EOS, at most 4 or 6 long: with 150 beams none may be overlooked."""
    monkeypatch.setattr(lesson, "ROOM", 2)
    batch, model = batch_of(1, 2, targets=6, seed=seed), mix(model_of(targets=6), seed)
    for i, limit in enumerate((4, 6)):
        row, scores, known = row_of(batch, i), {}, {}
        for n in range(limit + 1):
            for ids in itertools.product((4, 5), repeat=n):
                scores[ids] = mean_log_p(model, row, ids, limit, known)
        best = max(scores, key=scores.get)
        assert tuple(lesson.search(model, batch, 150)[i][0]) == best
        few = tuple(lesson.search(model, batch, 2)[i][0])
        assert scores[few] <= scores[best]


@torch.no_grad()
def test_a_beam_is_on_average_not_worse_than_greedy():
    """Under what both search for: log p a word; six models, six sentences each."""
    lengths, means = [1, 2, 3, 4, 5, 6], {1: 0.0, 4: 0.0}
    for seed, size in itertools.product(range(6), means):
        batch, model = batch_of(*lengths, seed=seed), mix(model_of(), seed, std=0.7)
        for i, (ids, _) in enumerate(lesson.search(model, batch, size)):
            limit = 2 * lengths[i] + lesson.ROOM
            means[size] += mean_log_p(model, row_of(batch, i), ids, limit, {})
    assert means[4] > means[1] + 1e-3


def beams_by_hand(model, row, size, limit):
    """Beam search of one sentence with lists: the best beam's words."""
    beams = [(0.0, [])]  # log p in all, words

    def ended(words):
        return len(words) == limit or words[-1:] == [lesson.EOS]

    while not all(ended(words) for _, words in beams):
        longer = [beam for beam in beams if ended(beam[1])]
        for total, words in beams:
            if not ended(words):
                row_of_p = enumerate(log_p_of(model, row, words))
                longer += [(total + p, [*words, x]) for x, p in row_of_p]
        longer.sort(key=lambda beam: beam[0] / len(beam[1]), reverse=True)
        beams = longer[:size]
    return [x for x in beams[0][1] if x != lesson.EOS]


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
def test_beams_equal_those_kept_by_hand(seed):
    """The same answers, and the weights of that answer, not of another beam."""
    batch, model = batch_of(1, 2, 3, 4, seed=seed), mix(model_of(), seed, std=0.7)
    for i, (ids, weights) in enumerate(lesson.search(model, batch, 3)):
        row = row_of(batch, i)
        limit = 2 * int(row["source_length"]) + lesson.ROOM
        assert ids == beams_by_hand(model, row, 3, limit)
        memory, mask, state = model.encode(row["source"], row["source_length"])
        words = torch.tensor([[lesson.BOS, *ids]])
        looked = model.decode(words, state, memory, mask)[2][0, : len(ids)]
        torch.testing.assert_close(weights, looked.float(), check_dtype=False)


def test_special_words_are_never_written():
    """Though UNK is the likeliest by far."""
    model = model_of()
    model.output.bias.data[: lesson.EOS] = 50.0
    for size in (1, 3):
        for ids, _ in lesson.search(model, batch_of(3, 2), size):
            assert all(x > lesson.EOS for x in ids)


@pytest.mark.parametrize(
    ("kind", "feeding"), [*((k, False) for k in KINDS), ("dot", 1)]
)
def test_model_overfits_a_tiny_batch(kind, feeding):
    """Gradients reach every weight; then the search writes the targets."""
    batch = batch_of(5, 2, 4, 6)
    config = {
        **CONFIG,
        "hidden": 24,
        "layers": 1,
        "kind": kind,
        "feeding": bool(feeding),
    }
    torch.manual_seed(0)
    model = lesson.Translator(**config)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        sums, count = lesson.step(model, batch)
        optimizer.zero_grad()
        (model.train() and sums["loss"] / count).backward()
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    wanted = [[x for x in row if x > 3] for row in batch["target"].tolist()]
    for size in (1, 3):
        assert [ids for ids, _ in lesson.search(model, batch, size)] == wanted


# Figures


def test_text_scores_by_hand():
    """Exact match ignores case and spaces; BLEU is 100 for the reference itself."""
    pairs = [("a", "Un homme dort sur l'herbe."), ("b", "Une femme court dans la rue.")]
    same = lesson.text_scores([target for _, target in pairs], pairs)
    assert same == pytest.approx({"bleu": 100, "bleu_13a": 100, "exact_match": 1})
    lower = lesson.text_scores(["un homme dort sur l'herbe .", "Non."], pairs)
    assert lower["exact_match"] == 0.5
    assert lower["bleu_13a"] < lower["bleu"] < 100


def test_figures_are_of_their_own_part_and_search(monkeypatch):
    """Greedy answers that are right, by beam wrong; perplexity 5 on test, else 3."""
    data = lesson.Namespace(
        parts=[[], [], [("a", "u v w x"), ("b", "w")]], batches=[3, 3, 5]
    )

    def translate(model, texts, data, args, size):
        return [(words if size == 1 else ["y"], None) for words in ([*"uvwx"], ["w"])]

    monkeypatch.setattr(lesson, "translate", translate)
    monkeypatch.setattr(
        utils, "evaluate", lambda *a: {"loss": math.log(a[2]), "nats": 0.0}
    )
    args = lesson.Namespace(beam_size=4)
    answers, scores, _ = lesson.judge(model_of(), [], data, args)
    assert answers == ["U v w x", "W"]
    assert scores["exact_match"] == 1
    assert scores["bleu_beam"] < scores["bleu"]
    assert scores["perplexity"] == pytest.approx(5)


def test_words_are_those_of_training():
    """A word of validation or test only is unknown, on both sides."""
    args = lesson.make_flags().parse_args([])
    args.lesson, source = "09_attention_mechanism", utils.Source("input", None, False)
    parts = [[("a b", "x y")], [("b c", "y z")], [("a d", "x w")]]
    about = lesson.new_card(source, parts, args)
    assert about["source_words"][4:] == ["a", "b"]
    assert about["target_words"][4:] == ["x", "y"]


def test_luck_tells_a_gap_from_none():
    """Nothing between equal answers, much between good and bad ones."""
    pairs = [
        ("", f"un {a} et deux {b} dans la rue {a} {b}") for a in "xyz" for b in "uvw"
    ]
    good, bad = [target for _, target in pairs], ["un chat dort ici ."] * 9
    odd, even = ([bad[i] if i % 2 == k else good[i] for i in range(8)] for k in (0, 1))
    answers = dict.fromkeys(KINDS, good[:8]) | {
        "none": odd,
        "dot": even,
        "general": odd,
    }
    found = lesson.luck(answers, pairs[:8])
    assert set(found) == set(KINDS) - {"none"}
    assert found["dot"] > 0.1
    assert found["additive"] < 0.05
    assert found["general"] == 1  # the very same answers


# The program


def test_quick_run_without_network(tmp_path):
    """The default run of a newcomer who is offline."""
    flags = ("--quick", "--predict", "a man in a red shirt")
    done = run_script("09_attention_mechanism", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sample [sample]" in done.stdout
    assert "-> " in done.stdout
    folder = tmp_path / "outputs" / "09_attention_mechanism"
    found = json.loads((folder / "metrics.json").read_text())
    assert found["real"] is False
    names = "bleu", "bleu_13a", "exact_match", "bleu_beam", "perplexity"
    assert {f"test_{name}" for name in names} <= set(found["metrics"])
    assert set(found["baselines"]) == {"copy", "dictionary"}
    pictures = {path.name for path in folder.glob("*.png")}
    assert {"bleu_by_length.png", "loss.png", "alignment_1.png"} <= pictures


def test_predict_prints_the_alignment(tmp_path, pairs, capsys):
    """Each word of the answer with its source word of greatest weight; none: none."""
    text = "the red dog runs ."
    assert small(tmp_path, "--input", pairs, "--epochs", 2, "--predict", text) == 0
    lines = capsys.readouterr().out.split("-> ")[1].split("Reading it")[0].splitlines()
    rows = [line.split() for line in lines[1:]]
    assert rows
    assert utils.join_words([row[0] for row in rows]) == lines[0]
    assert all(row[1].endswith("%") and row[2] in text.split() for row in rows)
    flags = ("--attention-type", "none", "--predict", text)
    assert small(tmp_path, "--input", pairs, *flags) == 0
    assert "%  " not in capsys.readouterr().out.split("-> ")[1]


@pytest.mark.slow
def test_the_sample_is_learned_with_attention_and_less_without(tmp_path):
    """What the docstring says of the default run without network."""
    found = []
    for kind in ("additive", "none"):
        flags = ("--dataset", "sample", "--attention-type", kind, "--no-plots")
        assert run_main(lesson, *flags, "--out-dir", tmp_path / kind) == 0
        found.append(metrics(tmp_path, kind)["metrics"]["test_exact_match"])
    assert found[0] >= 0.95
    assert found[1] < found[0] - 0.1


def test_all_kinds_in_one_table(tmp_path, pairs, capsys):
    """Every kind with its scores, its p, its own state; --resume goes on from those."""
    flags = ("--attention-type", "all", "--input", pairs)
    assert small(tmp_path, *flags) == 0
    first, out = metrics(tmp_path), capsys.readouterr().out
    assert list(first["models"]) == KINDS
    assert first["metrics"] == {
        k: v for k, v in first["models"]["additive"].items() if k in first["metrics"]
    }
    for kind, found in first["models"].items():
        assert ("p" in found) == (kind != "none")
        assert "test_bleu_beam" in found
        assert (tmp_path / "out" / kind / "last.pt").exists()
        assert kind in out
    (tmp_path / "out" / "dot" / "last.pt").unlink()  # as if interrupted before it
    assert small(tmp_path, *flags, "--resume") == 0
    again = metrics(tmp_path)
    for kind in KINDS:
        name = "test_perplexity"
        assert again["models"][kind][name] == first["models"][kind][name]
    assert capsys.readouterr().out.count("Resuming") == len(KINDS) - 1


def scores_of(tmp_path, folder="out"):
    found = metrics(tmp_path, folder)["metrics"]
    return {name: x for name, x in found.items() if name.startswith("test_")}


def test_same_seed_same_numbers(tmp_path, pairs):
    """And another seed, others."""
    found = []
    for seed in (0, 0, 1):
        assert small(tmp_path, "--input", pairs, "--seed", seed, "--dropout", 0.2) == 0
        found.append(scores_of(tmp_path))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("kind", ["general", "none"])
def test_a_saved_model_answers_the_same(tmp_path, pairs, capsys, kind):
    """--save-model, then --eval-only without the flags that shaped the model."""
    flags = ["--path", tmp_path / "model.pt", "--predict", "the old bus stops ."]
    flags += ["--input", pairs]
    shape = ("--attention-type", kind, "--input-feeding", "--num-layers", 2)
    assert small(tmp_path, "--save-model", *shape, *flags) == 0
    before, first = scores_of(tmp_path), capsys.readouterr().out
    assert small(tmp_path, "--eval-only", *flags) == 0
    assert scores_of(tmp_path) == before
    answer = first.split("-> ")[1].split("Reading it")[0]
    assert answer in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags",
    [
        ["--attention-type", "scaled-dot-product", "--num-layers", "3"],
        ["--attention-type", "dot", "--accumulate", "2", "--optimizer", "sgd"],
        ["--input-feeding", "--beam-size", "1", "--dropout", "0.5"],
        ["--precision", "bf16", "--batch-size", "1000000", "--beam-size", "20"],
        ["--attention-type", "none", "--precision", "bf16", "--label-smoothing", "0"],
        ["--predict", "Snowman \u2603 \u4f60\u597d", "?", "the cat " * 5000],
    ],
)
def test_flags_do_run(tmp_path, pairs, flags):
    """Kinds, layers, precision, more beams than words, odd and very long texts."""
    assert small(tmp_path, "--input", pairs, *flags) == 0


def test_words_that_training_lacks_are_said(tmp_path, pairs, capsys):
    """A learner should know why an answer is odd."""
    assert small(tmp_path, "--input", pairs, "--predict", "the zebra runs .") == 0
    assert "training lacks: zebra" in capsys.readouterr().out


def test_a_line_of_ten_thousand_words(tmp_path):
    """Read up to MAX_LENGTH; neither the memory nor the search runs away."""
    long = "\n".join(f"{'word ' * 10_000}{i}\t{'mot ' * 10_000}{i}" for i in range(2))
    rest = "\n".join(f"a{i} b\tc{i} d" for i in range(20))
    path = tmp_path / "long.tsv"
    path.write_text(f"{long}\n{rest}\n")
    assert small(tmp_path, "--input", path) == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"one column only\n" * 20, "line 1"),
        (b"a\tb\n" * 3 + b"a\tb\tc\n", "line 4"),
        (b"a\tb\na\t\n", "line 2"),
        (b"\tb\n", "line 1"),
        (b"a\tb\n", "too few"),
        (b"", "empty"),
        ("M\u00fcller\tmeunier\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, capsys, content, words):
    """Malformed lines are named; one pair only, no text, Latin-1."""
    path = tmp_path / "in.tsv"
    path.write_bytes(content)
    assert small(tmp_path, "--input", path) == 2
    assert words in one_sentence(capsys)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--attention-type", "cosine"], "invalid choice"),
        (["--attention-type", "all", "--save-model"], "--save-model"),
        (["--attention-type", "all", "--predict", "a"], "--predict"),
        (["--beam-size", "0"], "--beam-size"),
        (["--label-smoothing", "1"], "--label-smoothing"),
        (["--predict", " "], "--predict"),
        (["--dataset", "imdb"], "invalid choice"),
        (["--input", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--eval-only", "--path", "/nowhere/model.pt"], "no checkpoint"),
        (["--resume"], "nothing to resume"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_a_wrong_flag_is_one_sentence(tmp_path, capsys, pairs, flags, words):
    """Exit status 2 and a sentence that names the flag or file."""
    own = () if {"--input", "--dataset"} & set(flags) else ("--input", pairs)
    assert small(tmp_path, *own, *flags) == 2
    assert words in one_sentence(capsys)


def test_a_checkpoint_of_another_shape_is_one_sentence(tmp_path, capsys, pairs):
    """A kind that does not exist, weights that do not fit."""
    path = tmp_path / "model.pt"
    flags = ("--input", pairs, "--path", path, "--attention-type", "dot")
    assert small(tmp_path, "--save-model", *flags) == 0
    good = torch.load(path, weights_only=True)
    for change in ({"kind": "cosine"}, {"hidden": 13}):
        torch.save({**good, "config": good["config"] | change}, path)
        capsys.readouterr()
        assert small(tmp_path, "--eval-only", *flags) == 2
        assert "does not fit" in one_sentence(capsys)


def test_a_small_set_is_read_more_often(tmp_path, pairs, monkeypatch):
    """Unless --epochs says how often."""
    monkeypatch.setattr(lesson, "UPDATES", 16)
    fixed = ("--no-plots", "--hidden-size", 8, "--input", pairs, "--out-dir")
    run_main(lesson, *fixed, tmp_path / "a")  # 72 pairs, 2 batches an epoch
    assert metrics(tmp_path, "a")["epochs_run"] == 8
    run_main(lesson, *fixed, tmp_path / "b", "--epochs=1")
    assert metrics(tmp_path, "b")["epochs_run"] == 1


def test_commands_in_the_docstring_parse():
    """What the lesson tells its reader to type."""
    lines = [line.split("#")[0].split() for line in lesson.__doc__.splitlines()]
    commands = [line[2:] for line in lines if line[:1] == ["python"]]
    assert len(commands) >= 3
    for words in commands:
        lesson.make_flags().parse_args(shlex.split(" ".join(words)))


@pytest.mark.real_data
def test_words_of_the_real_data(real_data, tmp_path):
    """The vocabularies that the docstring's figures stand on."""
    flags = ["--data-dir", str(real_data), "--out-dir", str(tmp_path)]
    args = utils.parse_flags(lesson.make_flags(), flags, lesson.__file__)
    source = utils.choose_dataset(args, ["multi30k"], {"sample": None})
    parts = utils.load_pairs(args, source)
    assert [len(part) for part in parts] == [29000, 1014, 1000]
    about = lesson.new_card(source, parts, args)
    assert len(about["source_words"]) == 5949
    assert len(about["target_words"]) == 6437
    texts = lesson.examples(lesson.load_data(source, parts, about, args))
    assert len(texts) == 4
