"""Lesson 09: attention against PyTorch's and plain loops; one call equals many."""

import itertools
import math
from argparse import Namespace

import pytest
import torch
from conftest import load_lesson, metrics, one_sentence, run_main
from torch import nn
from torch.nn import functional as F

import rnn_utils as utils

lesson = load_lesson("09_attention_mechanism")
PAD, UNK, BOS, EOS = range(4)
KINDS = list(lesson.SCORES)


@pytest.fixture(autouse=True)
def seeded():
    utils.set_seed(0)


def make_model(kind="additive", **changes):
    config = {"sources": 9, "targets": 8, "hidden": 6, "inner": 5, "kind": kind}
    return lesson.build(**{**config, **changes}).double().eval()


SOURCE = [[4, 5, 6, 7], [8, 4], [5]]
TARGET = [[4, 5, EOS], [6, EOS], [7, 7, 4, EOS]]


def make_batch():
    source, source_length = utils.pad(SOURCE)
    target, target_length = utils.pad(TARGET)
    batch = {"source": source, "source_length": source_length}
    return batch | {"target": target, "target_length": target_length}


# --- attention on its own ------------------------------------------------------------------


def test_attention_equals_torch_outputs_and_gradients():
    query = torch.randn(3, 4, 6, dtype=torch.double, requires_grad=True)
    keys = torch.randn(3, 5, 6, dtype=torch.double, requires_grad=True)
    values = torch.randn(3, 5, 6, dtype=torch.double, requires_grad=True)
    mask = utils.length_mask(torch.tensor([5, 2, 3]), 5)
    goal = torch.randn(3, 4, 6, dtype=torch.double)
    inputs = (query, keys, values)
    ours, weights = lesson.attend(lesson.scaled_dot_product(query, keys), values, mask)
    theirs = F.scaled_dot_product_attention(*inputs, mask.unsqueeze(1))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad((ours * goal).sum(), inputs, retain_graph=True),
        torch.autograd.grad((theirs * goal).sum(), inputs),
    )
    torch.testing.assert_close(weights.sum(2), torch.ones(3, 4).double())
    assert (weights[1, :, 2:] == 0).all() and (weights[1, :, :2] > 0).all()


def test_scores_by_loops():
    query = torch.randn(2, 3, 4)
    keys = torch.randn(2, 5, 4)
    w = torch.randn(4, 4)
    w_q, w_k, v = torch.randn(6, 4), torch.randn(6, 4), torch.randn(6)
    found = {
        "dot": lesson.dot(query, keys),
        "scaled": lesson.scaled_dot_product(query, keys),
        "general": lesson.general(query, keys, w),
        "additive": lesson.additive(query, keys, w_q, w_k, v),
    }
    for b, i, j in itertools.product(range(2), range(3), range(5)):
        q, k = query[b, i], keys[b, j]
        expected = {
            "dot": q @ k,
            "scaled": q @ k / 2,
            "general": q @ (w @ k),
            "additive": v @ torch.tanh(w_q @ q + w_k @ k),
        }
        for name, value in expected.items():
            torch.testing.assert_close(
                found[name][b, i, j], value, rtol=1e-4, atol=1e-5
            )


def test_general_starts_as_dot():
    query = torch.randn(1, 3, 6).double()
    keys = torch.randn(1, 4, 6).double()
    model = make_model("general")
    found = model.score(query, keys, *model.score_parameters)
    torch.testing.assert_close(found, lesson.dot(query, keys))
    # What is learned is sqrt(H) W.
    w = torch.randn(6, 6).double()
    found = lesson.general_as_learned(query, keys, w * math.sqrt(6))
    torch.testing.assert_close(found, lesson.general(query, keys, w))


def test_bahdanau_step_by_its_equations():
    cell = nn.GRUCell(4 + 6, 6)
    keys = torch.randn(2, 3, 6)
    mask = utils.length_mask(torch.tensor([3, 2]), 3)
    x, state = torch.randn(2, 4), torch.randn(2, 6)
    w_q, w_k, v = torch.randn(5, 6), torch.randn(5, 6), torch.randn(5)
    found, weights = lesson.bahdanau_step(x, state, keys, mask, cell, (w_q, w_k, v))
    for b in range(2):
        real = keys[b, : 3 - b]
        scores = torch.stack([v @ torch.tanh(w_q @ state[b] + w_k @ k) for k in real])
        context = scores.softmax(0) @ real
        expected = cell(torch.cat([x[b], context])[None], state[b][None])[0]
        torch.testing.assert_close(found[b], expected, rtol=1e-4, atol=1e-5)
    assert weights[1, 0, 2] == 0
    # The state knows what was looked at: it is another one if a key is covered.
    seen = mask.clone()
    seen[:, 1] = False
    other, weights = lesson.bahdanau_step(x, state, keys, seen, cell, (w_q, w_k, v))
    assert (weights[:, 0, 1] == 0).all()
    assert (other - found).abs().amax(1).min() > 1e-4


# --- the network ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "feeding"), list(itertools.product(KINDS, [False, True]))
)
def test_one_call_equals_word_by_word(kind, feeding):
    model = make_model(kind, feeding=feeding, layers=2)
    batch = make_batch()
    keys, mask, state = model.encode(batch["source"], batch["source_length"])
    given = F.pad(batch["target"][:, :-1], (1, 0), value=BOS)
    combined, _, weights = model.decode(given, state, keys, mask)
    for t in range(given.shape[1]):
        found, state, where = model.decode(given[:, t : t + 1], state, keys, mask)
        torch.testing.assert_close(combined[:, t : t + 1], found)
        torch.testing.assert_close(weights[:, t : t + 1], where)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_neither_loss_nor_gradient(kind):
    model = make_model(kind)
    measure = lesson.make_measure()
    losses = measure(model, make_batch())["loss"]
    assert len(losses) == sum(map(len, TARGET))
    together = torch.autograd.grad(losses.sum(), model.parameters())
    alone = []
    for source, target in zip(SOURCE, TARGET, strict=True):
        batch = {"source": torch.tensor([source]), "target": torch.tensor([target])}
        batch |= {"source_length": torch.tensor([len(source)])}
        alone.append(measure(model, batch)["loss"])
    alone = torch.cat(alone)
    torch.testing.assert_close(losses, alone)
    apart = torch.autograd.grad(alone.sum(), model.parameters())
    torch.testing.assert_close(together, apart)


def test_the_combined_state_is_fed_back_only_with_input_feeding():
    batch = make_batch()
    assert len(make_model().encode(batch["source"], batch["source_length"])[2]) == 2
    model = make_model(feeding=True)
    keys, mask, (h, c, fed) = model.encode(batch["source"], batch["source_length"])
    word = torch.full((3, 1), BOS)
    first, (_, _, kept), _ = model.decode(word, (h, c, fed), keys, mask)
    torch.testing.assert_close(kept, first[:, 0])
    other, _, _ = model.decode(word, (h, c, fed + 1), keys, mask)
    assert not torch.allclose(first, other)


def test_the_keys_are_of_both_directions():
    """The last word changes the first key, the first word the last one."""
    model = make_model()
    lengths = torch.tensor([3])
    keys = model.encode(torch.tensor([[4, 5, 6]]), lengths)[0]
    for changed, place in (([4, 5, 7], 0), ([7, 5, 6], 2)):
        other = model.encode(torch.tensor([changed]), lengths)[0]
        assert not torch.allclose(keys[0, place], other[0, place])


@pytest.mark.parametrize("layers", [1, 2])
def test_the_first_state_is_made_of_both_ends(layers):
    """Of each layer the ends of the two directions, side by side."""
    model = make_model(layers=layers)
    ids = torch.tensor([[4, 5, 6]])
    state = model.encode(ids, torch.tensor([3]))[2]
    _, (h, c) = model.encoder(model.embed_source(ids))  # (2L, 1, H)
    for layer in range(layers):
        there, back = 2 * layer, 2 * layer + 1
        first_h = torch.tanh(model.bridge_h(torch.cat([h[there], h[back]], dim=1)))
        first_c = model.bridge_c(torch.cat([c[there], c[back]], dim=1))
        torch.testing.assert_close(state[0][:, layer], first_h)
        torch.testing.assert_close(state[1][:, layer], first_c)


def test_none_sees_one_key_and_the_rest_start_alike():
    models = {}
    for kind in KINDS:
        torch.manual_seed(3)
        models[kind] = make_model(kind)
    batch = make_batch()
    keys, _, _ = models["none"].encode(batch["source"], batch["source_length"])
    assert keys.shape[1] == 1
    for kind in KINDS:
        for name, weight in models["dot"].named_parameters():
            assert torch.equal(weight, models[kind].get_parameter(name)), (kind, name)


def test_label_smoothing_by_its_equation_and_in_training_only():
    model = make_model(dropout=0.0)
    batch = make_batch()
    measure = lesson.make_measure(0.2)
    plain = measure(model, batch)
    assert plain.keys() == {"loss"}
    smooth = measure(model.train(), batch)
    inputs = (batch["source"], batch["source_length"], batch["target"])
    log_p = model(*inputs).float().log_softmax(1)
    expected = 0.8 * plain["loss"] - 0.2 * log_p.mean(1)
    torch.testing.assert_close(smooth["loss"], expected)
    torch.testing.assert_close(smooth["nats"], plain["loss"])
    truth = batch["target"][batch["target"] != PAD]
    options = {"label_smoothing": 0.2, "reduction": "none"}
    theirs = F.cross_entropy(model(*inputs).float(), truth, **options)
    torch.testing.assert_close(smooth["loss"], theirs)


@pytest.mark.parametrize("kind", ["additive", "general"])
def test_a_tiny_batch_is_learned_by_heart_and_aligned(kind):
    model = make_model(kind, hidden=32).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    measure = lesson.make_measure()
    for _ in range(100):
        optimizer.zero_grad()
        loss = measure(model, make_batch())["loss"].mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    batch = make_batch()
    keys, mask, state = model.eval().encode(batch["source"], batch["source_length"])
    for beam_size in (1, 3):
        advance = lesson.make_advance(model, keys, mask, beam_size)
        found = utils.beam_search(advance, state, torch.tensor([9, 9, 9]), beam_size)
        assert [[*ids, EOS] for ids, _ in found] == TARGET


# --- searching and looking ---------------------------------------------------------------------


def make_data():
    pairs = [("a b c .", "d e ."), ("b", "e"), ("c a", "f d"), ("a", "d . e")]
    return whole_words(pairs, [[], [], pairs])


def whole_words(train, parts):
    """The fields of `Pairs` that these tests read, for words."""
    return Namespace(
        vocabularies=utils.pair_vocabularies(train, 1),
        parts=parts,
        cut=utils.split_pair,
        join=utils.join_words,
    )


def small_translator(data, **changes):
    sources, targets = [len(vocabulary) for vocabulary in data.vocabularies]
    sizes = {"sources": sources, "targets": targets, "hidden": 8, "inner": 4}
    model = lesson.build(**sizes, **changes).eval()
    with torch.no_grad():
        model.output.weight *= 20
    return model


@pytest.mark.parametrize("feeding", [False, True])
def test_translations_do_not_depend_on_the_batch(feeding):
    data = make_data()
    args = Namespace(device="cpu", precision="fp32")
    model = small_translator(data, feeding=feeding)
    texts = [source for source, _ in data.parts[2]]
    for beam_size in (1, 3):
        together = lesson.translate(model, texts, data, args, beam_size)
        alone = [lesson.translate(model, [t], data, args, beam_size)[0] for t in texts]
        assert together == alone
        for text, words in zip(texts, together, strict=True):
            assert len(words) <= 2 * len(utils.split_pair(text)) + lesson.ROOM


def test_where_it_looked_is_where_it_looked_when_it_wrote():
    data = make_data()
    args = Namespace(device="cpu", precision="fp32")
    model = small_translator(data, feeding=True)
    (words,) = lesson.translate(model, ["a b c ."], data, args, 1)
    weights = lesson.where_it_looked(model, "a b c .", words, data, args)
    source = data.vocabularies[0].encode(["a", "b", "c", "."])
    keys, mask, state = model.encode(torch.tensor([source]), torch.tensor([4]))
    word = BOS
    for t, written in enumerate(words):
        step, state, where = model.decode(torch.tensor([[word]]), state, keys, mask)
        torch.testing.assert_close(weights[t], where[0, 0])
        scores = model.output(step[0, 0])
        scores[:EOS] = -math.inf
        word = int(scores.argmax())
        assert data.vocabularies[1].tokens[word] == written


def test_the_first_wrong_answer_to_a_short_source():
    pairs = [
        ("one two three four five", "a b c d"),
        ("q", "z"),  # too short to be asked about
        ("v w x y z", "e f g h"),
    ]
    data = Namespace(parts=[[], [], pairs])
    assert lesson.first_wrong(["a b c d", "no", "e x"], data) == ["v w x y z"]
    # The right words in a wrong order are not right.
    assert lesson.first_wrong(["a c b d", "z", "no"], data) == [pairs[0][0]]
    assert lesson.first_wrong(["a b c d", "no", "e f g h"], data) == []


@torch.no_grad()
@pytest.mark.parametrize("feeding", [False, True])
def test_a_covered_word_gets_no_weight_and_is_the_only_change(feeding, capsys):
    data = make_data()
    args = Namespace(device="cpu", precision="fp32", beam_size=2)
    model = small_translator(data, feeding=feeding)
    (words,) = lesson.translate(model, ["a b c ."], data, args, 1)
    found, places = lesson.changed_by_covering(model, "a b c .", words, data, args)
    looked, second = found
    weights = lesson.where_it_looked(model, "a b c .", words, data, args)
    ordered = weights.sort(1, descending=True)
    torch.testing.assert_close(places, ordered.values[:, :2].T)
    keys, mask, state = lesson.read_source(model, "a b c .", data, args)
    given = lesson.given_words(words, data, args)
    before = model.output(model.decode(given, state, keys, mask)[0][0]).argmax(1)
    for i in range(len(words)):
        place = int(weights[i].argmax())
        for changed, covered in (
            (looked, place),
            (second, int(ordered.indices[i, 1])),
        ):
            seen = mask.clone()
            seen[0, covered] = False
            combined, _, again = model.decode(given, state, keys, seen)
            assert (again[0, :, covered] == 0).all()
            word = model.output(combined[0, i]).argmax()
            assert bool(changed[i]) == bool(word != before[i])
    # Covering takes part in the search too: the same as a search with that mask.
    for place in range(mask.shape[1]):
        found = lesson.translate_covered(model, "a b c .", place, data, args)
        seen = mask.clone()
        seen[0, place] = False
        advance = lesson.make_advance(model, keys, seen, 2)
        limits = torch.tensor([2 * mask.shape[1] + lesson.ROOM])
        ((ids, _),) = utils.beam_search(advance, state, limits, 2)
        assert found == data.vocabularies[1].decode(ids)
    lesson.show_covering(model, "a b c .", words, data, args)
    counted = f"before kept: {int(looked.sum())} of its\n{len(words)} words"
    assert (counted in capsys.readouterr().out) == bool(words)


@torch.no_grad()
@pytest.mark.parametrize("feeding", [False, True])
def test_pointed_elsewhere_all_weight_is_there(feeding, capsys):
    """Each trial is a decoding whose mask leaves one word, the next with another entry."""
    data = make_data()
    args = Namespace(device="cpu", precision="fp32", beam_size=2)
    model = small_translator(data, feeding=feeding)
    text, words = "a b c.", ["d", "e", "."]
    dictionary = {"a": "d", "b": "e", "c": "nowhere", ".": "."}  # "nowhere": no word
    keys, mask, state = lesson.read_source(model, text, data, args)
    given = lesson.given_words(words, data, args)
    looks = lesson.where_it_looked(model, text, words, data, args).argmax(1).tolist()
    source = ["a", "b", "c", "."]
    expected = []
    for i, word in enumerate(words):
        order = [(looks[i] + step) % 4 for step in (1, 2, 3)]
        place = next(j for j in order if j != 2 and dictionary[source[j]] != word)
        only = torch.zeros_like(mask)
        only[0, place] = True
        combined, _, again = model.decode(given, state, keys, only)
        assert (again[0, :, place] == 1).all()
        now = data.vocabularies[1].tokens[int(model.output(combined[0, i]).argmax())]
        entry = dictionary[source[place]]
        expected.append((word, source[looks[i]], source[place], entry, now))
    inputs = (model, text, words)
    assert lesson.point_elsewhere(*inputs, dictionary, data, args) == expected
    data.parts[2] = [(text, "d e.")]
    share = lesson.show_pointing(*inputs, ["D e."], dictionary, data, args)
    assert share == sum(now == entry for *_, entry, now in expected) / 3
    assert "Of 3 words of up to 100 answers" in capsys.readouterr().out


def test_sentences_that_none_alone_gets_wrong(capsys):
    pairs = [("a b c d", "e"), ("a b", "f"), ("a", "g"), ("b", "h"), ("c", "i")]
    data = Namespace(parts=[[], [], pairs])
    ours = ["e", "f", "wrong", "H", "i"]
    others = ["no", "no", "no", "no", "i"]
    rest = (None, None, None)
    lesson.show_with_and_without({"dot": (ours, *rest), "none": (others, *rest)}, data)
    said = capsys.readouterr().out
    sources = [line.split()[1:] for line in said.splitlines() if "source" in line]
    assert sources == [["b"], ["a", "b"], ["a", "b", "c", "d"]]


def test_the_floor_of_the_smoothed_loss():
    """The comment's 0.849: no answer has a smaller loss than the one that is asked for."""
    asked = torch.full((1, 197), 0.1 / 197, dtype=torch.double)
    asked[0, 2] += 0.9
    # The oracle: PyTorch's own smoothed loss, and that its slope is 0 there.
    scores = asked.log().requires_grad_()
    floor = F.cross_entropy(scores, torch.tensor([2]), label_smoothing=0.1)
    (slope,) = torch.autograd.grad(floor, scores)
    assert slope.abs().max() < 1e-6
    assert f"{floor:.3f}" == "0.849"
    assert f"{-asked[0, 2].log():.3f}" == "0.105"


def test_the_mean_largest_weight_by_loops():
    """Over real words alone, without dropout, and without a random number drawn."""
    model = make_model(dropout=0.5).train()
    args = Namespace(device="cpu", precision="fp32")
    state = torch.get_rng_state()
    found = lesson.mean_largest_weight(model, [make_batch(), make_batch()], args)
    assert torch.equal(state, torch.get_rng_state())
    largest = []
    for source, target in zip(SOURCE, TARGET, strict=True):
        inputs = (torch.tensor([source]), torch.tensor([len(source)]))
        _, weights = model.follow(*inputs, torch.tensor([target]))
        largest += [max(row) for row in weights[0].tolist()]
    assert found == pytest.approx(sum(largest) / len(largest))


def test_an_unsure_look_shows_the_second_word_too(capsys):
    weights = torch.tensor([[0.6, 0.1, 0.3], [0.0, 0.9, 0.1]])
    lesson.print_looks(["ne", "va"], ["does", "go", "not"], weights)
    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["ne", "60%", "does", "30%", "not"]
    assert second.split() == ["va", "90%", "go"]


def test_the_whole_grid_with_dots_for_small_weights(capsys):
    weights = torch.tensor([[0.96, 0.04], [0.05, 0.95]])
    lesson.print_grid(["souris", "noires"], ["black", "beautiful"], weights, least=0.05)
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.split() == ["black", "beauti"]
    assert second.split() == ["souris", "0.96", "."]
    assert third.split() == ["noires", "0.05", "0.95"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_shape_of_two_pairs(kind, capsys):
    train = [("a cat", "un chat"), ("a dog and the cat", "un chien")] * 2
    data = whole_words(train, [train, [], []])
    sizes = [len(vocabulary) for vocabulary in data.vocabularies]
    model = lesson.Translator(*sizes, hidden=8, inner=4, kind=kind)
    lesson.show_shapes(model, data)
    said = " ".join(capsys.readouterr().out.split())
    places = 1 if kind == "none" else 5
    for words in (
        "source (2, 5) ids; [2, 5] words",
        f"keys (2, {places}, 8)",
        "query (2, 3, 8)",  # un chat <eos>
        f"weights (2, 3, {places})",
        "h_att (2, 3, 8)",
        f"output (6, {sizes[1]})",
    ):
        assert words in said
    if kind != "none":
        assert said.endswith("0.00 0.00 0.00")  # two words, then padding


def test_the_dictionary_is_that_of_the_baseline(capsys):
    """Where it looks at the word that the dictionary expects, and where it does not."""
    train = [("a cat", "un chat"), ("a dog", "un chien"), ("the cat", "le chat")] * 3
    test = [("the dog", "le chien"), ("a cat", "un chat")]
    data = whole_words(train, [train, [], test])
    dictionary = utils.word_dictionary(train)
    rivals = utils.pair_baselines(train, test, dictionary)
    assert rivals == utils.pair_baselines(train, test)
    assert dictionary["dog"] == "chien"
    # "chat" and "xyz" are expected nowhere; "le" looks right, "chien" and "un" do not.
    looks = {"le chien": [0, 0], "un xyz": [1, 1]}

    def where(model, text, words, data, args):
        return torch.eye(2)[looks[" ".join(words)]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lesson, "where_it_looked", where)
        answers = ["Le chien", "Un xyz"]
        share = lesson.show_right_places(None, answers, dictionary, data, None)
    assert share == 1 / 3
    said = capsys.readouterr().out
    assert "one source word\nfor 3 of 4 words (75%) of up to 100" in said
    assert "at that word for 33.3%." in said
    assert "(Word i always at word i would be right for 100.0%.)" in said


# --- how much it is worth ------------------------------------------------------------------------


def paired_bootstrap(ours, others, score, draws=1000):
    """The recipe of the lesson, with any score of what was counted (N, F): gap, p."""
    generator = torch.Generator().manual_seed(9)
    gap = score(ours) - score(others)
    sizes = torch.zeros(draws)
    for draw in range(draws):
        drawn = torch.randint(len(ours), (len(ours),), generator=generator)
        sizes[draw] = abs(score(ours[drawn]) - score(others[drawn]))
    above = (sizes - sizes.mean() > abs(gap)).sum().item()
    return gap, (above + 1) / (draws + 1)


def test_paired_bootstrap_with_bleu_is_the_shared_one():
    """Given what sacrebleu counts in each sentence, p is sacrebleu's but for the draws."""
    from sacrebleu.metrics import BLEU

    bleu = BLEU(lowercase=True, force=True)
    generator = torch.Generator().manual_seed(5)
    words = "le chat noir voit un petit chien et deux souris".split()  # noqa: SIM905
    truth, texts = [], ([], [])
    for _ in range(40):
        order = torch.randperm(len(words), generator=generator).tolist()
        line = [words[k] for k in order]
        truth.append(" ".join(line))
        for text, mistakes in zip(texts, (0.2, 0.22), strict=True):
            wrong = torch.rand(len(line), generator=generator) < mistakes
            said = ["x" if w else t for w, t in zip(wrong, line, strict=True)]
            text.append(" ".join(said))

    def counts(said):
        return torch.tensor(bleu._extract_corpus_statistics(said, [truth]))

    def score(rows):
        return bleu._compute_score_from_stats(rows.sum(0).tolist()).score

    gap, p = paired_bootstrap(counts(texts[0]), counts(texts[1]), score)
    scores = [utils.bleu_scores(text, truth)["bleu"] for text in texts]
    assert gap == pytest.approx(scores[0] - scores[1])
    assert 0.01 < p < 0.9
    assert p == pytest.approx(utils.bleu_p_value(*texts, truth), abs=0.05)


# --- the outlook -----------------------------------------------------------------------------------


def test_self_attention_equals_torch_and_places_bring_the_order_back():
    w_q = torch.tensor(lesson.SELF_W_Q, dtype=torch.float)
    w_k, w_v = lesson.SELF_W_K, lesson.SELF_W_V
    x = lesson.self_vectors("black cat sees white dog", True)
    for causal in (False, True):
        ours, weights = lesson.self_attention(x, w_q, w_k, w_v, causal)
        theirs = F.scaled_dot_product_attention(
            x @ w_q.T, x @ w_k.T, x @ w_v.T, is_causal=causal
        )
        torch.testing.assert_close(ours, theirs)
        assert (weights[0].triu(1) == 0).all() == causal
    # Without places: the words in another order, the outputs in that order.
    x = lesson.self_vectors("black cat sees white dog", False)
    order = [3, 1, 2, 0, 4]
    ours, _ = lesson.self_attention(x, w_q, w_k, w_v)
    again, _ = lesson.self_attention(x[:, order], w_q, w_k, w_v)
    torch.testing.assert_close(again, ours[:, order])


def test_what_black_takes_home(capsys):
    lesson.show_self_attention()
    said = capsys.readouterr().out
    assert "black cat sees white dog         [0.49, 0.49]      [0.92, 0.06]" in said
    assert "white cat sees black dog         [0.49, 0.49]      [0.06, 0.93]" in said
    # With places the cat finds the adjective after it, which is not its own.
    assert "cat        0.25   0.01   0.02   0.71   0.00" in said


# --- runs -----------------------------------------------------------------------------------------


def test_all_kinds_in_one_run(tmp_path):
    flags = ["--quick", "--attention-type", "all", "--epochs", 1, "--no-plots"]
    flags += ["--hidden-size", 16, "--out-dir", tmp_path / "out"]
    assert run_main(lesson, *flags) == 0
    models = metrics(tmp_path)["models"]
    assert set(models) == set(KINDS)
    assert all(0 <= models[kind]["p"] <= 1 for kind in KINDS if kind != "none")
    assert models["none"]["parameters"] == models["dot"]["parameters"]
    # A run that was cut off goes on with each kind where it stopped.
    assert run_main(lesson, *flags, "--resume") == 0
    again = metrics(tmp_path)["models"]
    for kind in KINDS:
        assert again[kind]["test_perplexity"] == models[kind]["test_perplexity"]


def test_on_the_sample_its_opponent_is_trained_too(tmp_path, capsys):
    """`none` beside the kind that was asked for, which alone is kept and resumed."""
    path = tmp_path / "model.pt"
    flags = ["--quick", "--attention-type", "dot", "--epochs", 1, "--no-plots"]
    flags += ["--hidden-size", 16, "--out-dir", tmp_path / "out"]
    assert run_main(lesson, *flags, "--save-model", "--path", path) == 0
    result = metrics(tmp_path)
    assert list(result["models"]) == ["dot", "none"]
    assert result["metrics"] == result["models"]["dot"]
    assert torch.load(path, weights_only=True)["config"]["kind"] == "dot"
    assert (tmp_path / "out" / "none" / "last.pt").exists()
    capsys.readouterr()
    assert run_main(lesson, *flags, "--resume") == 0
    assert capsys.readouterr().out.count("Resuming after epoch 1") == 2
    again = metrics(tmp_path)
    assert again["models"]["none"]["test_bleu"] == result["models"]["none"]["test_bleu"]


def test_a_saved_model_only_translates_what_it_is_asked(tmp_path, capsys):
    path = tmp_path / "model.pt"
    flags = ["--quick", "--no-plots", "--hidden-size", 16, "--path", path]
    flags += ["--attention-type", "none", "--out-dir", tmp_path / "out"]
    assert run_main(lesson, *flags, "--epochs", 1, "--save-model") == 0
    capsys.readouterr()
    assert run_main(lesson, *flags, "--eval-only", "--predict", "A red hat.") == 0
    said = capsys.readouterr().out
    assert "source     A red hat." in said and "answer" in said
    assert "bleu" not in said and "Attention with numbers" not in said


def test_real_data_train_what_was_asked_for():
    real = utils.Source("multi30k", None, real=True)
    sample = utils.Source("sample", None, real=False)
    for kind in KINDS:
        args = Namespace(attention_type=kind)
        assert lesson.kinds_to_train(real, args) == [kind]
        expected = [kind] if kind == "none" else [kind, "none"]
        assert lesson.kinds_to_train(sample, args) == expected
    assert lesson.kinds_to_train(real, Namespace(attention_type="all")) == KINDS


def test_all_takes_no_model(tmp_path, capsys):
    flags = ["--attention-type", "all", "--save-model", "--out-dir", tmp_path / "out"]
    assert run_main(lesson, *flags) == 2
    assert "--save-model" in one_sentence(capsys)


def test_a_small_data_set_is_read_more_often(tmp_path, monkeypatch):
    seen = []

    def stop(kind, config, data, args, feeds):
        seen.append(args.epochs * len(data.train))
        raise KeyboardInterrupt

    monkeypatch.setattr(lesson, "train_model", stop)
    flags = ["--dataset", "sample", "--out-dir", tmp_path / "out"]
    assert run_main(lesson, *flags) == 130
    assert run_main(lesson, *flags, "--epochs", 2) == 130
    assert seen[0] >= lesson.UPDATES > seen[1]


# --- pieces of words ----------------------------------------------------------------------------


def test_pieces_give_every_text_back_and_are_learnt_from_training():
    pairs = [("the red cat .", "le chat rouge ."), ("a red hat", "l'homme rouge")] * 3
    merges, vocabulary = lesson.learn_pieces(pairs, 60)
    pieces = lesson.Pieces(merges)
    assert pieces.cut("red") == ["red "]  # common: one piece
    for text in ("Le chat d'un homme.", "Here-there , l' hat", "red cat"):
        words = utils.split_pair(text)
        found = pieces.cut(text)
        assert "".join(found).split() == words
        assert pieces.join(found) == utils.join_words(words)
    # The end of a word is known: "redhat" is not "red" and "hat".
    assert pieces.cut("redhat") != pieces.cut("red hat")
    assert len(vocabulary) <= 64
    for row in (pieces.cut(text) for pair in pairs for text in pair):
        assert utils.UNK_ID not in vocabulary.encode(row)
    # No room for merges: every word falls into its letters.
    few, _ = lesson.learn_pieces(pairs, 1)
    assert few == [] and lesson.Pieces(few).cut("red") == ["r", "e", "d "]


def test_shared_pieces_have_one_matrix():
    sizes = {"sources": 9, "targets": 9, "hidden": 8, "inner": 4}
    model = lesson.build(**sizes, shared=True)
    assert model.embed_source.weight is model.embed_target.weight
    assert model.output.weight is model.embed_target.weight
    assert (
        utils.count_parameters(model)
        == utils.count_parameters(lesson.build(**sizes)) - 9 * 8
    )


def test_a_model_of_pieces_is_saved_with_its_merges(tmp_path, capsys):
    path = tmp_path / "model.pt"
    flags = ["--quick", "--no-plots", "--hidden-size", 16, "--path", path]
    flags += ["--attention-type", "dot", "--out-dir", tmp_path / "out"]
    trained = ["--epochs", 1, "--pieces", 200, "--save-model"]
    assert run_main(lesson, *flags, *trained) == 0
    said = capsys.readouterr().out
    assert 'each "word" below is a piece' in said and "are per piece" in said
    assert run_main(lesson, *flags, "--eval-only", "--predict", "A red snowman.") == 0
    said = capsys.readouterr().out
    assert "answer" in said
    assert "training lacks" not in said  # "snowman" is new, its pieces are not
