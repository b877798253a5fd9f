"""09 · Where should the decoder look?

Lesson 08's decoder knows the source through one state, however long the sentence is.
A human translator does not work like that: she reads the sentence, and while she writes
she looks back, now at this word, now at that.  Attention gives the decoder the same: at
each word that it writes, it weighs all the words that the encoder has read, and takes
their weighted mean.  Nobody tells it where to look; it learns that with the rest.

What you will learn
    - attention worked with three numbers: scores, mask, softmax, context
    - four scores, a line or two each: additive, dot, general, scaled dot-product
    - why padding is masked with minus infinity, and before the softmax
    - where attention stands in the decoder: after the recurrence or before it
    - how to read where a network looked, also when it went wrong
    - when a gain in BLEU is more than luck
    - self-attention, the step to Transformers, and what it has lost

You need lesson 08 (encoder, decoder, teacher forcing, beam search, BLEU) and 07 (two
directions).

Run it
    python 09_attention_mechanism.py --predict "a man in a red shirt"
    python 09_attention_mechanism.py --attention-type all
    python 09_attention_mechanism.py --input FILE        # a source, a tab and a target

You should see  (multi30k [real], seed 0, two threads, 9 minutes; `all`: five times)
    BLEU       none   additive   dot    general   scaled-dot-product   a dictionary
    greedy     32.5   54.7       55.5   55.1      54.8                 17.4
    beam 5     34.9   56.9       57.4   57.3      57.0
    BLEU compares a translation with a reference, 0 to 100 (lesson 08).  "none" is the
    same network without attention; "a dictionary" translates word by word.  Gaps to
    none: p = 0.001, the least that 1,000 draws can show.  --dataset sample [sample],
    about a minute: exact match 0.9917 with additive attention, 0.4783 with none.

Try this  (guess first, then run)
    --attention-type none       how long are the sentences on which it still works?
    --input-feeding             what does it cost, and is the gain worth it?
    --eval-only --beam-size 20  (after --save-model) does a wider search find better?
"""

# Sizes
#     B  batch (sentences)    Ts  words of the longest source   Tt  of the longest target
#     H  state, embedding     L   layers    A  inside the additive score    K  beam size
#     V  target vocabulary    M   real words of a batch's targets, <eos> counted
#     R  rows of the decoder in a search: B * K

import math
import re
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnn_utils as utils

PAD = utils.PAD_ID  # 0 <pad>, what fills up rows
UNK = utils.UNK_ID  # 1 <unk>, a word that training lacks
BOS = utils.BOS_ID  # 2 <bos>, what the decoder is given first
EOS = utils.EOS_ID  # 3 <eos>, what it writes last

# ====================================================================================
# 1. Data
# ====================================================================================
#
# English captions of photographs and their French translations (Multi30k), prepared as
# in lesson 08: words in lower case, ids, rows filled up, the target shifted by one.
# French is a good choice for this lesson: its words mostly stand in the same order as
# the English ones, but not everywhere.  "a red shirt" is "une chemise rouge": whoever
# looks at the right word has to cross over.

MAX_LENGTH = 80  # words that are read of a text
ROOM = 10  # an answer has at most twice as many words as its source, and ten more
UPDATES = 800  # a small data set is read more often than six times: so many steps


class Pairs(NamedTuple):
    """All that this lesson knows of its data."""

    source: utils.Source  # which data set, and whether it is real
    parts: list  # training, validation, test: lists of (source, target)
    vocabularies: list  # of sources, of targets: words of training alone
    train: utils.Batches  # the three parts as batches of tensors
    val: utils.Batches
    test: utils.Batches


def load_data(source, parts, feeds, args):
    """The parts as batches of tensors, in the words that `feeds` lists."""
    vocabularies = [
        utils.Vocabulary(feeds["source_words"]),
        utils.Vocabulary(feeds["target_words"]),
    ]
    batches = []
    for k, part in enumerate(parts):
        tensors = utils.encode_pairs(part, vocabularies, MAX_LENGTH)
        size = args.batch_size if k == 0 else 100
        batches.append(
            utils.Batches(tensors, size, args.device, shuffle=k == 0, bucket="source")
        )
    return Pairs(source, parts, vocabularies, *batches)


def describe(data):
    """Print how much data there is, and how many words of test are unknown."""
    sizes = " / ".join(f"{len(part):,}" for part in data.parts)
    print(f"{data.source.label}: {sizes} pairs to train, validate, test")
    for name, vocabulary in zip(("source", "target"), data.vocabularies, strict=True):
        ids = data.test.data[name]
        unknown = (ids == UNK).sum() / (ids != PAD).sum()
        print(
            f"  {name}: {len(vocabulary):,} words; of those in test {unknown:.1%} unknown"
        )


def show_one_pair(data):
    """Print a short training pair on its way to the tensors."""
    pair = min(data.parts[0][:200], key=lambda pair: len(pair[0]))
    tensors = utils.encode_pairs([pair], data.vocabularies, MAX_LENGTH)
    words = utils.split_pair(pair[0])
    given = [utils.BOS, *utils.split_pair(pair[1])]
    print("\nOne pair on its way to the network:")
    print(f"  source        {pair[0]}")
    print(f"  words         {' '.join(words)}")
    print(f"  ids           {tensors['source'][0].tolist()}")
    print(f"  given         {' '.join(given)}")
    print(f"  should write  {' '.join([*given[1:], utils.EOS])}")


# ====================================================================================
# 2. Model
# ====================================================================================
#
# --- Attention on its own ------------------------------------------------------------
#
# The encoder has read the source and left one state for each word.  The decoder is
# about to write a word.  Three names, from looking something up in a library:
#
#   query    what the decoder is looking for: its own state, q
#   keys     what each source word offers to be found by: k_1, k_2, ...
#   values   what is taken home from each: v_1, v_2, ...
#
# In this lesson keys and values are the same thing: the encoder's states.  Then
#
#   1. score     how well does the query fit each key?       e_j = score(q, k_j)
#   2. mask      padding must not be found                   e_j = -infinity there
#   3. softmax   weights, above 0, that sum to 1             a_j = exp(e_j) / sum
#   4. context   the weighted mean of the values             c = sum_j a_j v_j
#
# The context goes to the decoder.  No word is chosen outright: a choice has no gradient,
# a weight has.  That is why it can learn where to look.


def dot(query, keys):
    """e_ij = q_i . k_j (Luong et al., 2015): (B, Tt, H), (B, Ts, H) -> (B, Tt, Ts).

    Large where the two vectors point the same way.  No weights to learn.
    """
    return query @ keys.transpose(1, 2)


def scaled_dot_product(query, keys):
    """e_ij = q_i . k_j / sqrt(H) (Vaswani et al., 2017).

    A dot product of H random numbers grows like sqrt(H).  Large scores make a softmax
    that is nearly 0 and 1, through which hardly any gradient comes back.
    """
    return dot(query, keys) / math.sqrt(query.shape[2])


def general(query, keys, w):
    """e_ij = q_i . W k_j (Luong et al., 2015): W (H, H) says which numbers to compare.

    What is learned is w = sqrt(H) W.  Adam moves all weights by like steps, and a score
    sums H * H of them, so that W itself is moved too far: 47.1 BLEU instead of 55.8.
    """
    return scaled_dot_product(query, keys @ w.T)


def additive(query, keys, w_q, w_k, v):
    """e_ij = v . tanh(W_q q_i + W_k k_j) (Bahdanau et al., 2015): a small network.

    w_q, w_k (A, H), v (A,).  The only one that needs a vector for every pair (i, j):
    B * Tt * Ts * A numbers.
    """
    from_query = (query @ w_q.T).unsqueeze(2)  # (B, Tt, 1, A)
    from_keys = (keys @ w_k.T).unsqueeze(1)  # (B, 1, Ts, A)
    return torch.tanh(from_query + from_keys) @ v  # (B, Tt, Ts)


# With `none` there is one key, the summary of the whole sentence, so its weight is
# always 1: the decoder is handed the same summary at every word.  It is the same network
# with as many weights as `dot`, but there is nothing to choose.
SCORES = {"additive": additive, "dot": dot, "general": general}
SCORES |= {"scaled-dot-product": scaled_dot_product, "none": dot}


def attend(scores, values, mask):
    """scores (B, Tt, Ts), values (B, Ts, H), mask (B, Ts), True at real words.

    Returns contexts (B, Tt, H) and weights (B, Tt, Ts), which sum to 1 over real words.
    """
    # exp(-infinity) = 0: padding gets no weight, and takes none away from the others.
    scores = scores.masked_fill(~mask.unsqueeze(1), -math.inf)
    weights = scores.softmax(2)  # (B, Tt, Ts)
    return weights @ values, weights  # c_i = sum_j a_ij v_j


def show_attention():
    """One query, three keys, the third of them padding: every number."""
    query = torch.tensor([1.0, 0.5])
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]])  # (Ts, H) = (3, 2)
    mask = torch.tensor([True, True, False])
    print("\nAttention with numbers: query [1.0, 0.5], three keys, the last is padding")
    print("  key          score q . k     masked   exp      weight")
    scores = keys @ query  # (3,)
    masked = scores.masked_fill(~mask, -math.inf)
    powers = masked.exp()
    weights = powers / powers.sum()
    for j in range(3):
        first, second = keys[j].tolist()
        product = f"1.0*{first:.1f} + 0.5*{second:.1f} = {scores[j]:.1f}"
        print(
            f"  [{first:.1f}, {second:.1f}]   {product}   {masked[j]:>4.1f}   "
            f"{powers[j]:.3f}   {weights[j]:.3f}"
        )
    context = weights @ keys  # (2,)
    print(f"  context: {weights[0]:.3f} * [1, 0] + {weights[1]:.3f} * [0, 1]", end=" ")
    print(f"= [{context[0]:.3f}, {context[1]:.3f}]")
    wrong = scores.masked_fill(~mask, 0.0).softmax(0)
    print(
        f"  Masked with 0 instead, the weights are {wrong[0]:.3f}, {wrong[1]:.3f} and"
    )
    print(f"  {wrong[2]:.3f}: exp(0) = 1, so padding would be looked at.")

    # Many at once, scaled, against PyTorch's own.
    torch.manual_seed(9)
    queries = torch.randn(3, 4, 6, dtype=torch.double)  # (B, Tt, H)
    memory = torch.randn(3, 5, 6, dtype=torch.double)  # (B, Ts, H)
    real = utils.length_mask(torch.tensor([5, 2, 3]), 5)  # (B, Ts)
    ours, _ = attend(scaled_dot_product(queries, memory), memory, real)
    theirs = F.scaled_dot_product_attention(queries, memory, memory, real.unsqueeze(1))
    print(
        f"  PyTorch's scaled_dot_product_attention: {(ours - theirs).abs().max():.0e}",
        end="",
    )
    print(" apart")


def show_four_scores():
    """The four scores of one query and two keys, side by side."""
    query = torch.tensor([[[1.0, 0.5]]])  # (1, 1, 2)
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])  # (1, 2, 2)
    w = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # swaps a key's two numbers
    found = {
        "dot": dot(query, keys),
        "scaled-dot-product": scaled_dot_product(query, keys),
        "general": general(query, keys, math.sqrt(2) * w),
        "additive": additive(query, keys, w, torch.eye(2), torch.tensor([1.0, 1.0])),
    }
    print("\nThe same query, the keys [1, 0] and [0, 1], by the four scores")
    for name, scores in found.items():
        first, second = scores[0, 0].tolist()
        weights = scores.softmax(2)[0, 0].tolist()
        print(
            f"  {name:<20} scores {first:.3f} {second:.3f}   "
            f"weights {weights[0]:.3f} {weights[1]:.3f}"
        )
    print("  (general: W swaps the two numbers of a key, so it finds the other one;")
    print(
        "  additive: tanh([0.5, 1.0] + [1, 0]) = tanh([1.5, 1.0]), its numbers added up)"
    )


# --- Attention in a decoder ------------------------------------------------------------
#
# Where does it stand?  In this lesson after the recurrence (Luong et al., 2015):
#
#     word before        the encoder's states, one a source word
#         |                 k_1    k_2    k_3   ...
#         v                  ^ \   ^ |   ^ /
#     [ LSTM ] --> q_i ------+--\--+-|--/     scores, mask, softmax
#         |         |            \   | /
#     next step     |            context c_i      the weighted mean
#                   |                |
#                   +---> [ tanh(W [c_i; q_i]) ] = ~h_i ---> scores of all words
#
# The LSTM's states depend on the words before alone.  So in training, where these are
# known, one call computes all states, and one matrix product all attention.
#
# Bahdanau et al. (2015), who invented attention, put it before the recurrence: the
# context is found with the state of the word *before*, and helps to make the new state.
# What was looked at is so remembered; but every word has to wait for the one before.


def bahdanau_step(x, state, keys, mask, cell, score_weights):
    """One step with attention before the recurrence, for comparison: (state, weights).

    x (B, E) the word before, state (B, H), keys (B, Ts, H), cell an nn.GRUCell(E + H, H).
    """
    query = state.unsqueeze(1)  # (B, 1, H): the state before this word
    scores = additive(query, keys, *score_weights)  # (B, 1, Ts)
    context, weights = attend(scores, keys, mask)  # (B, 1, H), (B, 1, Ts)
    # The context is part of the input of the recurrence.
    state = cell(torch.cat([x, context[:, 0]], dim=1), state)  # (B, H)
    return state, weights


class Translator(nn.Module):
    """An encoder that reads both ways, attention, a decoder.

    A state is a tuple of the decoder's h and c, (B, L, H) each, and ~h (B, H) of the
    word before, which only input feeding uses.
    """

    def __init__(
        self,
        sources,
        targets,
        hidden,
        layers=1,
        dropout=0.0,
        kind="additive",
        inner=128,
        feeding=False,
    ):
        super().__init__()
        self.kind = kind
        self.score = SCORES[kind]
        self.feeding = feeding
        options = {"batch_first": True, "dropout": dropout if layers > 1 else 0.0}
        self.embed_source = nn.Embedding(sources, hidden)
        self.encoder = nn.LSTM(hidden, hidden, layers, bidirectional=True, **options)
        self.shrink = nn.Linear(2 * hidden, hidden)  # both directions -> a key
        self.bridge_h = nn.Linear(2 * hidden, hidden)  # their ends -> the first state
        self.bridge_c = nn.Linear(2 * hidden, hidden)
        self.embed_target = nn.Embedding(targets, hidden)
        size = 2 * hidden if feeding else hidden
        self.decoder = nn.LSTM(size, hidden, layers, **options)
        self.combine = nn.Linear(2 * hidden, hidden)
        self.output = nn.Linear(hidden, targets)
        # One matrix reads target words and writes them (Press and Wolf, 2017).
        self.output.weight = self.embed_target.weight
        for embedding in (self.embed_source, self.embed_target):
            nn.init.uniform_(embedding.weight, -0.1, 0.1)
        self.dropout = nn.Dropout(dropout)
        # The score's own weights are drawn last, so that all others start alike.
        self.score_weights = nn.ParameterList(self.draw_score_weights(hidden, inner))

    def draw_score_weights(self, hidden, inner):
        """The weights of this kind of score as they start."""
        if self.kind == "additive":
            shapes = [(inner, hidden), (inner, hidden), (inner,)]
            return [torch.randn(shape) / hidden**0.5 for shape in shapes]
        if self.kind == "general":
            return [torch.eye(hidden) * hidden**0.5]  # W = 1: it starts as dot
        return []

    def encode(self, ids, lengths):
        """ids (B, Ts), lengths (B,) on the CPU -> keys (B, Ts, H), mask (B, Ts), state."""
        x = self.dropout(self.embed_source(ids))  # (B, Ts, H)
        # Packed, so that the way back starts at the last word and not in the padding.
        packed = pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        packed_states, (h, c) = self.encoder(packed)  # h and c: (2L, B, H)
        states, _ = pad_packed_sequence(
            packed_states, batch_first=True, total_length=ids.shape[1]
        )  # (B, Ts, 2H)
        mask = utils.length_mask(lengths, ids.shape[1], ids.device)  # (B, Ts)
        # There and back side by side, for each layer: (B, L, 2H).
        h = torch.cat([h[0::2], h[1::2]], dim=2).transpose(0, 1)
        c = torch.cat([c[0::2], c[1::2]], dim=2).transpose(0, 1)
        if self.kind == "none":  # one key: the summary of both directions
            states = h[:, -1:]  # (B, 1, 2H)
            mask = mask[:, :1]  # (B, 1)
        keys = self.shrink(self.dropout(states))  # (B, Ts, H)
        first_h = torch.tanh(self.bridge_h(h))  # (B, L, H)
        first_c = self.bridge_c(c)  # (B, L, H)
        nothing_yet = torch.zeros_like(first_h[:, 0])  # (B, H)
        return keys, mask, (first_h, first_c, nothing_yet)

    def run_lstm(self, x, h, c):
        """x (B, T, ...), h and c (B, L, H) -> states (B, T, H), the new h and c."""
        before = (h.transpose(0, 1).contiguous(), c.transpose(0, 1).contiguous())
        states, (h, c) = self.decoder(x, before)
        return states, h.transpose(0, 1), c.transpose(0, 1)

    def look(self, query, keys, mask):
        """query (B, Tt, H) -> ~h (B, Tt, H), weights (B, Tt, Ts)."""
        scores = self.score(query, keys, *self.score_weights)  # (B, Tt, Ts)
        context, weights = attend(scores, keys, mask)  # (B, Tt, H)
        # ~h_i = tanh(W [c_i; q_i] + b)
        return torch.tanh(self.combine(torch.cat([context, query], dim=2))), weights

    def decode(self, words, state, keys, mask):
        """words (B, Tt) -> ~h (B, Tt, H), the state after the last, weights (B, Tt, Ts)."""
        x = self.dropout(self.embed_target(words))  # (B, Tt, H)
        if self.feeding:
            return self.decode_with_feeding(x, state, keys, mask)
        h, c, _ = state
        query, h, c = self.run_lstm(x, h, c)  # (B, Tt, H): all steps in one call
        combined, weights = self.look(query, keys, mask)
        return combined, (h, c, combined[:, -1]), weights

    def decode_with_feeding(self, x, state, keys, mask):
        """`--input-feeding`: ~h of one word is joined to the next word's input.

        Luong's way to remember where one has looked.  It waits, like Bahdanau's.
        """
        h, c, fed = state
        combined = []
        weights = []
        for x_t in x.split(1, dim=1):  # (B, 1, H)
            joined = torch.cat([x_t, fed.unsqueeze(1)], dim=2)  # (B, 1, 2H)
            query, h, c = self.run_lstm(joined, h, c)  # (B, 1, H)
            found, where = self.look(query, keys, mask)
            fed = found[:, 0]
            combined.append(found)
            weights.append(where)
        return torch.cat(combined, dim=1), (h, c, fed), torch.cat(weights, dim=1)

    def forward(self, source, lengths, target):
        """Scores (M, V) of the real target words, each after the true words before it."""
        keys, mask, state = self.encode(source, lengths)
        given = F.pad(target[:, :-1], (1, 0), value=BOS)  # (B, Tt): one step behind
        combined, _, _ = self.decode(given, state, keys, mask)  # (B, Tt, H)
        # The output layer is most of the work: spare it the padding.
        return self.output(self.dropout(combined[target != PAD]))  # (M, V)


# ====================================================================================
# 3. Training
# ====================================================================================
#
# As in lesson 08: teacher forcing, and the cross-entropy of each real word.  One thing
# is new, label smoothing (Szegedy et al., 2016).  The goal is not probability 1 for the
# true word, but 1 - s, and s shared by all words of the vocabulary.  A network that is
# never quite sure keeps some alternatives alive for the search.  "loss" is that of the
# smoothed goal; "nats" is the plain one, which validation and test are scored by.


def make_measure(smoothing=0.0):
    """The function `measure` for `fit`: values of each real word, (M,) each."""

    def measure(model, batch):
        scores = model(
            batch["source"], batch["source_length"], batch["target"]
        ).float()  # (M, V)
        truth = batch["target"][batch["target"] != PAD]  # (M,)
        log_p = scores.log_softmax(1)
        nats = -log_p.gather(1, truth.unsqueeze(1)).squeeze(1)  # (M,)
        if not model.training:
            return {"loss": nats}
        # loss = -(1 - s) log p(truth) - s mean_v log p(v)
        loss = (1 - smoothing) * nats - smoothing * log_p.mean(1)
        return {"loss": loss, "nats": nats}

    return measure


def train_model(kind, config, data, args, feeds):
    """A new model of this kind, always from the same seed: (model, records)."""
    config = {**config, "kind": kind}
    flags = args
    if args.attention_type == "all":  # a folder each, so that --resume can go on
        print(f"\nTraining with attention: {kind}")
        folder = Path(args.out_dir, kind)
        resume = args.resume and (folder / "last.pt").exists()
        flags = Namespace(**{**vars(args), "out_dir": str(folder), "resume": resume})
    utils.set_seed(args.seed)
    model = Translator(**config).to(args.device)
    measure = make_measure(args.label_smoothing)
    records = utils.fit(model, measure, data.train, data.val, flags, config, feeds)
    return model, records


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================


def make_advance(model, keys, mask, beam_size):
    """The decoder's step for `utils.beam_search` (lesson 08): words (R,), state -> log p."""
    # The K rows of a sentence stand one below the other, and all see its keys.
    keys = keys.repeat_interleave(beam_size, 0)  # (R, Ts, H)
    mask = mask.repeat_interleave(beam_size, 0)  # (R, Ts)

    def advance(words, state):
        combined, state, _ = model.decode(words.unsqueeze(1), state, keys, mask)
        return model.output(combined[:, 0]).float().log_softmax(1), state  # (R, V)

    return advance


@torch.no_grad()
def translate(model, texts, data, args, beam_size):
    """The best answer to each of N texts: a list of lists of words."""
    pairs = [(text, "") for text in texts]
    tensors = utils.encode_pairs(pairs, data.vocabularies, MAX_LENGTH)
    answers = [None] * len(texts)
    model.eval()
    with utils.autocast(args):
        for batch in utils.Batches(tensors, 100, args.device, bucket="source"):
            keys, mask, state = model.encode(batch["source"], batch["source_length"])
            limits = (2 * batch["source_length"] + ROOM).to(args.device)
            advance = make_advance(model, keys, mask, beam_size)
            found = utils.beam_search(advance, state, limits, beam_size)
            # A batch has rows from all over the data: each answer to its own place.
            for place, (ids, _) in zip(batch["index"].tolist(), found, strict=True):
                answers[place] = data.vocabularies[1].decode(ids)
    return answers


@torch.no_grad()
def where_it_looked(model, text, words, data, args):
    """The weights (Tt, Ts) of each word of an answer on each word of its source.

    The answer is given to the decoder as if it were the truth: so every word sees the
    same words before it as when it was written, and looks where it looked then.
    """
    source, lengths = utils.pad(
        [
            data.vocabularies[0].encode(
                utils.split_pair(text)[:MAX_LENGTH] or [utils.UNK]
            )
        ]
    )
    given = torch.tensor([[BOS, *data.vocabularies[1].encode(words)[:-1]]])  # (1, Tt)
    keys, mask, state = model.eval().encode(source.to(args.device), lengths)
    _, _, weights = model.decode(given.to(args.device), state, keys, mask)
    return weights[0].float().cpu()


def text_scores(answers, pairs):
    """BLEU without case, BLEU with case, share of answers right word by word."""
    truth = [target for _, target in pairs]
    found = utils.bleu_scores(answers, truth)
    exact = 0
    for said, wanted in zip(answers, truth, strict=True):
        exact += utils.split_pair(said) == utils.split_pair(wanted)
    return {
        "bleu": found["bleu"],
        "bleu_13a": found["bleu_13a"],
        "exact_match": exact / len(truth),
    }


def judge(model, records, data, args):
    """A trained model on test: its greedy answers, its scores, what it cost."""
    texts = [source for source, _ in data.parts[2]]
    start = time.perf_counter()
    greedy = [utils.join_words(w) for w in translate(model, texts, data, args, 1)]
    seconds = time.perf_counter() - start
    beam = translate(model, texts, data, args, args.beam_size)
    beam = [utils.join_words(words) for words in beam]
    scores = text_scores(greedy, data.parts[2])
    scores["bleu_beam"] = text_scores(beam, data.parts[2])["bleu"]
    nats = utils.evaluate(model, make_measure(), data.test, args)["loss"]
    scores["perplexity"] = math.exp(min(nats, 700))
    costs = {
        "greedy_s": seconds,
        "train_s": sum(record["seconds"] for record in records),
        "parameters": utils.count_parameters(model),
    }
    return greedy, scores, costs


def report(models, data, args):
    """Table, what it says, metrics.json; returns the greedy answers by name.

    models: kind -> (model, records).
    """
    pairs = data.parts[2]
    answers = {}
    rows = {}
    metrics = {}
    for kind, (model, records) in models.items():
        answers[kind], scores, costs = judge(model, records, data, args)
        rows[kind] = {**scores, **costs}
        metrics[kind] = {f"test_{name}": value for name, value in scores.items()}
        metrics[kind] |= costs
    truth = [target for _, target in pairs]
    if "none" in answers and len(answers) > 1:
        for kind in models:
            if kind != "none":
                p = utils.bleu_p_value(answers[kind], answers["none"], truth)
                rows[kind]["p"] = p
                metrics[kind]["p"] = p
    for name, texts in utils.pair_baselines(data.parts[0], pairs).items():
        answers[name] = texts
        rows[name] = text_scores(texts, pairs)
    utils.print_table(f"{data.source.label}: test, {len(pairs):,} sentences", rows)
    explain(models, answers, rows, truth)
    kind = next(iter(models))
    known = {name: row["bleu"] for name, row in rows.items() if name not in models}
    utils.write_metrics(
        args,
        data.source,
        metrics[kind],
        known,
        rows[kind]["parameters"],
        models[kind][1],
        int(data.train.lengths["target_length"].sum()),
        "target words",
        metrics if len(models) > 1 else None,
    )
    return answers


def explain(models, answers, rows, truth):
    """What the table says, and the answer to the title."""
    about = utils.bleu_scores(truth, truth)
    print("bleu, greedy, of plain text in lower case; bleu_beam: by beam search;")
    print("bleu_13a: with case.  Signatures, so that others can compare:")
    print(f"  {about['signature']}\n  {about['signature_13a']}")
    print("perplexity: of the true words.  greedy_s, train_s: seconds.")
    if any("p" in row for row in rows.values()):
        print(
            "p, against none: paired bootstrap.  The test sentences are drawn anew, with"
        )
        print(
            "repeats, a thousand times; p is how often the gap in BLEU then strays from"
        )
        print("its mean by as much as the gap itself.  Below 0.05 it is hardly luck.")
    kind = next(iter(models))
    p = utils.bleu_p_value(answers[kind], answers["dictionary"], truth)
    gap = rows[kind]["bleu"] - rows["dictionary"]["bleu"]
    print("\nWhere should the decoder look?")
    if kind == "none":
        print("Here it cannot look anywhere: it has one summary of the whole source.")
    else:
        print(
            "At the words that matter for the word it is about to write, and it learns"
        )
        print("by itself which these are: see the alignments below.")
    print(f"BLEU {rows[kind]['bleu']:.1f}; word by word from a dictionary", end=" ")
    print(f"{rows['dictionary']['bleu']:.1f} ({gap:+.1f}, p = {p:.3f}).")
    if "none" in models and len(models) > 1:
        best = max(models, key=lambda name: rows[name]["bleu"])
        gap = rows[best]["bleu"] - rows["none"]["bleu"]
        print(
            f"Without attention the same network has {rows['none']['bleu']:.1f}: looking"
        )
        print(f"back is worth {gap:+.1f} ({best}).")


def draw(models, answers, data, args):
    """BLEU by the length of the source, and losses: a curve for each model."""
    lengths = data.test.lengths["source_length"]  # (N,)
    groups = lengths.argsort(stable=True).chunk(5)  # a fifth of test each, by length
    middles = [lengths[group].float().mean().item() for group in groups]
    lines = {}
    for name, texts in answers.items():
        lines[name] = []
        for group in groups:
            some_texts = [texts[i] for i in group]
            some_pairs = [data.parts[2][i] for i in group]
            lines[name].append(text_scores(some_texts, some_pairs)["bleu"])
    utils.plot_lines(
        args,
        "bleu_by_length",
        f"Test, {data.source.label}",
        lines,
        "words of the source: mean of each fifth of test",
        "BLEU, greedy",
        x=middles,
    )
    runs = {kind: records for kind, (_, records) in models.items()}
    panels = {
        "nats a word, training": ["nats"],
        "nats a word, validation": ["val_loss"],
    }
    utils.plot_records(args, "training", data.source.label, runs, panels)


# --- Where it looked ---------------------------------------------------------------------
#
# The weights of all words of an answer make a grid: a row for each word written, a column
# for each word of the source.  How to read it:
#
#   - a bright field: while it wrote the word of this row, it looked at that column
#   - fields along the diagonal: both languages go in the same order; a crossing: the
#     order changes (a red ball, une balle rouge)
#   - a row without a bright field: a word for which no source word stands, such as the
#     "de" that French puts between two nouns; its neighbours on the left decided it
#
# It shows where the network looked, not why it wrote: the decoder's state has a say too.


def examples(data):
    """Up to three short test sources with a colour: French puts it after the noun."""
    colour = r"(?i)\b(red|blue|black)\b"
    texts = [source for source, _ in data.parts[2]]
    good = [text for text in texts if len(text) < 60 and re.search(colour, text)]
    return (good or texts)[:3]


def worst_answer(answers, data):
    """The source of a short test sentence whose greedy answer shares least with its truth."""
    best_text = data.parts[2][0][0]
    lowest = math.inf
    for said, (text, truth) in zip(answers, data.parts[2], strict=True):
        wanted = set(utils.split_pair(truth))
        shared = len(wanted & set(utils.split_pair(said))) / len(wanted)
        if shared < lowest and 5 <= len(utils.split_pair(text)) <= 12:
            lowest = shared
            best_text = text
    return best_text


def show_alignments(model, texts, data, args):
    """Translations by beam search, and where each word looked, also as pictures."""
    truth = dict(data.parts[2])
    answers = translate(model, texts, data, args, args.beam_size)
    for number, (text, words) in enumerate(zip(texts, answers, strict=True), start=1):
        source = utils.split_pair(text)[:MAX_LENGTH]
        print(f"\n  source     {text[:200]}")
        if text in truth:
            print(f"  reference  {truth[text]}")
        print(f"  answer     {utils.join_words(words)}")
        unknown = [word for word in source if word not in data.vocabularies[0]]
        if unknown:
            print(f"  (words that training lacks: {' '.join(unknown[:9])})")
        if model.kind == "none" or not words or not source:
            continue
        weights = where_it_looked(model, text, words, data, args)  # (Tt, Ts)
        for word, row in zip(words, weights, strict=True):
            best = int(row.argmax())
            print(f"     {word:<14} {row[best]:4.0%}  {source[best]}")
        utils.plot_matrix(
            args,
            f"alignment_{number}",
            f"{data.source.label}, {model.kind}",
            weights,
            rows=words,
            columns=source,
            xlabel="source",
            ylabel="answer",
            bar="weight",
        )
    if model.kind != "none":
        print(
            "Reading it: each word written, and the source word that it looked at most."
        )


# --- The bridge to Transformers: self-attention ------------------------------------------
#
# So far the queries came from the decoder and the keys from the encoder.  Nothing forbids
# to take both from the same sentence: each word asks all words of its own sentence, itself
# included, and takes home a mean of them.  That is self-attention.  Of one vector x_t for
# each word,
#
#     queries = keys = values = x        (a Transformer gives each its own matrix: W_q x,
#                                         W_k x and W_v x)
#
# and the weights make a table of T rows and T columns.  No word waits for another, so all
# is computed at once, and the first word is as near to the last as to the second.  What is
# lost is the order: a mean does not know in which order its parts came.  Transformers
# (Vaswani et al., 2017, "Attention is all you need", section 3.5) add each word's place to
# its vector; that is where to read on.


@torch.no_grad()
def show_self_attention(model, text, data):
    """The table of weights of one sentence; and what happens if its words are reversed."""
    words = utils.split_pair(text)[:7]
    ids = torch.tensor([data.vocabularies[0].encode(words)])  # (1, T)
    x = model.embed_source(ids.to(model.output.weight.device)).cpu()  # (1, T, H)
    # All of one length, such that the score of a word with itself is 2.
    x = x / x.norm(dim=2, keepdim=True) * (4 * x.shape[2]) ** 0.25
    mask = torch.ones(1, len(words), dtype=torch.bool)

    def self_attention(x):
        return attend(scaled_dot_product(x, x), x, mask)

    outputs, weights = self_attention(x)
    print("\nSelf-attention of one sentence, embeddings alone: a row for each query")
    print("             " + "".join(f"{word[:8]:>9}" for word in words))
    for word, row in zip(words, weights[0].tolist(), strict=True):
        print(f"  {word[:10]:<11}" + "".join(f"{weight:>9.2f}" for weight in row))
    reversed_outputs, _ = self_attention(x.flip(1))
    gap = (reversed_outputs.flip(1) - outputs).abs().max()
    states, _ = model.encoder.cpu()(x)
    reversed_states, _ = model.encoder(x.flip(1))
    model.encoder.to(model.output.weight.device)
    other = (reversed_states.flip(1) - states).abs().max()
    print("The words reversed, and the outputs reversed back, they change by up to")
    print(f"  self-attention  {gap:.0e}")
    print(f"  recurrence      {other:.0e}")
    print("Reading it: each word finds itself first, since nothing is learned here: a")
    print(
        "Transformer learns W_q and W_k, and so what to look for.  And to attention a"
    )
    print("sentence is a set of words; recurrence knew the order.")


# ====================================================================================
# 5. Command line
# ====================================================================================


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(parser, ["multi30k", "sample"], "tab-separated pairs")
    utils.add_training_flags(
        parser, lr=0.003, batch_size=64, hidden_size=256, dropout=0.2
    )
    add = parser.add_argument_group("this lesson").add_argument
    kinds = [*SCORES, "all"]
    add("--attention-type", choices=kinds, default="additive", help="default additive")
    add("--input-feeding", action="store_true", help="remember where one has looked")
    add("--label-smoothing", type=utils.real(0, 0.9), default=0.1, help="default 0.1")
    add("--beam-size", type=utils.whole(1, 100), default=5, help="1: greedy")
    add("--predict", nargs="+", metavar="TEXT", default=[], help="texts to translate")
    return parser


def new_model(source, parts, args):
    """(config, feeds) of a new model: how to build it, and what feeds it."""
    least = 2 if len(parts[0]) > 10_000 else 1  # of few pairs, keep every word
    source_words, target_words = utils.pair_vocabularies(parts[0], least)
    config = {
        "sources": len(source_words),
        "targets": len(target_words),
        "hidden": args.hidden_size,
        "layers": args.num_layers,
        "dropout": args.dropout,
        "kind": args.attention_type,
        "inner": min(args.hidden_size, 128),
        "feeding": args.input_feeding,
    }
    feeds = {
        "dataset": source.name,
        "source_words": source_words.tokens,
        "target_words": target_words.tokens,
    }
    return config, feeds


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__)
    several = args.attention_type == "all"
    if several and (args.save_model or args.eval_only or args.predict):
        what = "--save-model, --eval-only and --predict"
        raise utils.UserError(f"--attention-type all compares models; drop {what}")
    if not all(utils.split_pair(text) for text in args.predict):
        raise utils.UserError("--predict takes texts of one word or more")

    # 1. The data.
    offline = {"sample": utils.SAMPLES / "en-fr.tsv"}
    source = utils.choose_dataset(args, ["multi30k"], offline)
    parts = utils.load_pairs(args, source)
    if args.eval_only:
        model, config, feeds = utils.load(args, Translator, dataset=source.name)
        args.attention_type = config["kind"]
        args.input_feeding = config["feeding"]
    else:
        config, feeds = new_model(source, parts, args)
    data = load_data(source, parts, feeds, args)
    describe(data)
    show_one_pair(data)

    # 2. Attention: with numbers, then its four scores.
    show_attention()
    show_four_scores()

    # 3. Training: one model, or one of each kind.
    if args.eval_only:
        models = {config["kind"]: (model, [])}
    else:
        if args.epochs is None:
            args.epochs = 2 if args.quick else max(6, -(-UPDATES // len(data.train)))
        print(f"\nTraining on {source.label}: one line an epoch")
        kinds = list(SCORES) if several else [args.attention_type]
        models = {kind: train_model(kind, config, data, args, feeds) for kind in kinds}

    # 4. The results; where it looked, when right and when wrong; self-attention.
    answers = report(models, data, args)
    if not args.no_plots:
        draw(models, answers, data, args)
    kind = next(iter(models))
    model, _ = models[kind]
    print(f"\nWhere it looked ({kind}):")
    texts = args.predict or [*examples(data), worst_answer(answers[kind], data)]
    show_alignments(model, texts, data, args)
    if not args.predict:
        print(
            "(The last one is the worst of the short test sentences: where did it look?)"
        )
    show_self_attention(model, texts[0], data)


if __name__ == "__main__":
    sys.exit(utils.run(main))
