"""09 · Where should the decoder look?

Lesson 08's decoder knows the source through one state, however long the sentence is.
A human translator does not work like that: she reads the sentence, and while she writes
she looks back, now at this word, now at that.  Attention gives the decoder the same.
At each word that it writes, it weighs all the words that the encoder has read, and
takes their weighted mean.  Nobody tells it where to look; it learns that with the rest.

What you will learn
    - attention worked with three keys and one query: score, mask, softmax, context
    - how a network learns where to look, although nobody tells it
    - four ways to score, a line or two each, and which one to take
    - why padding is masked with minus infinity, and before the softmax
    - where attention stands in the decoder: after the recurrence or before it
    - how to read where a network looked, also when it went wrong
    - how much attention is worth, on which sentences, and whether it could be luck
    - self-attention, the step to Transformers, and what it has lost

You need lesson 08 (encoder, decoder, teacher forcing, beam search, BLEU) and 07 (two
directions).

Run it
    python 09_attention_mechanism.py --dataset sample
    python 09_attention_mechanism.py --predict "a man in a red shirt"
    python 09_attention_mechanism.py --attention-type all

You should see
    BLEU compares translations with references, 0 to 100 (lesson 08).  "none" is the
    same network without attention; "dictionary" translates word by word; a line "copy"
    writes the source again.

    The first line trains with attention and without, two minutes on two threads
    (sample [sample]: made-up sentences; seed 0, one thread):
                                  BLEU by words of the source, five fifths of test
      model         bleu  exact_match    6.8    8.9   10.5   11.4   12.6
      additive      99.4       0.9783  100.0   99.1   99.8   99.0   99.3
      none          77.3       0.4650   83.3   81.6   80.6   75.2   70.4
      dictionary    18.1       0.0017   22.5   20.5   16.4   16.0   17.4
    exact_match is the share of answers that are right word for word.  Without attention
    the longer sentences suffer most.  (On two threads sums are rounded otherwise, and
    exact_match was 0.9917 and 0.4783: so much is luck.)

    The second takes real sentences, and trains additive attention alone: 9 minutes.
    The third trains all five kinds: 41 minutes  (multi30k [real], seed 0, two threads):
      BLEU      none   additive   dot    general   scaled-dot-product   dictionary
      greedy    32.5   54.7       55.5   55.1      54.8                 17.4
      beam 5    34.9   56.9       57.4   57.3      57.0
    The gaps to none are no luck: p = 0.001 each (section 4 says what p is).  The four
    differ by less than one BLEU, from one seed: take the simplest, dot.

Try this  (guess first, then run)
    --attention-type none       on which lengths does it still translate well?
    --input-feeding             what does it cost, and is the gain worth it?
    --seed 1                    how far does mere luck of the start move BLEU?
    --eval-only --beam-size 20  (after --save-model) does a wider search find better?
"""

# Sizes
#     B  batch (sentences)   Ts  words of the longest source   Tt  of the longest target
#     H  state, embedding     L   layers    A  inside the additive score    K  beam size
#     V  target vocabulary    M   real words of a batch's targets, <eos> counted
#     R  rows of the decoder in a search: B * K        N  sentences of one part
#     i  counts the words that are written, up to Tt;  j  those that are read, up to Ts

import itertools
import math
import re
import sys
import time
from argparse import Namespace
from collections import Counter
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
#
# The sample is made up: short sentences of few words, so that two minutes are enough.
# It has what French is known for: adjectives that follow their noun, and words that
# change with the noun beside them (le chat noir, la souris noire).

MAX_LENGTH = 80  # words that are read of a text
ROOM = 10  # an answer has at most twice as many words as its source, and ten more
EPOCHS = 6  # so often is the training set read,
UPDATES = 800  # or more often, if it is small: until there were so many updates


class Pairs(NamedTuple):
    """All that this lesson knows of its data."""

    source: utils.Source  # which data set, and whether it is real
    parts: list  # training, validation, test: lists of (source, target)
    vocabularies: list  # of sources, of targets: words of training alone
    train: utils.Batches  # the three parts as batches of tensors
    val: utils.Batches
    test: utils.Batches


def load_data(source, parts, feeds, args):
    """The parts as batches of tensors.  feeds: both lists of words that are known."""
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
# In this lesson keys and values are the same vectors: each is made from the encoder's
# state at one word.  (One linear layer halves its length; see `encode` below.)  That
# state has read the whole sentence in both directions.  So a key stands at a word, but
# it knows of its neighbours too.  Keep that in mind for section 4.
#
# Now four steps.  A word is written at place i, and the words read have places j:
#
#   1. score     how well does the query fit each key?       e_ij = score(q_i, k_j)
#   2. mask      padding must not be found                   e_ij = -infinity there
#   3. softmax   weights, above 0, that sum to 1             a_ij = exp(e_ij) / sum
#   4. context   the weighted mean of the values             c_i = sum_j a_ij v_j
#
# The simplest score is the dot product, q . k: large where both vectors point the same
# way.  `show_attention` takes one query and three keys through all four steps.


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
    context = weights @ keys  # (2,): the keys are the values
    print(f"  context: {weights[0]:.3f} * [1, 0] + {weights[1]:.3f} * [0, 1]", end=" ")
    print(f"= [{context[0]:.3f}, {context[1]:.3f}]")

    # Three ways to treat the padding; only the first is right.
    zero_before = scores.masked_fill(~mask, 0.0).softmax(0)
    zero_after = scores.softmax(0) * mask
    print("Why minus infinity, and why before the softmax?  The weights are")
    for how, found in (
        ("-infinity before", weights),
        ("0 before", zero_before),
        ("0 after", zero_after),
    ):
        shown = "  ".join(f"{weight:.3f}" for weight in found.tolist())
        print(f"  {how:<18} {shown}   sum {found.sum():.3f}")
    print("With 0 before, exp(0) = 1: padding is looked at.  With 0 after, padding had")
    print("taken its share already, and too little is left for the real words.")


# How can it learn where to look, if nobody tells it?  It does not choose a word: it
# weighs all of them.  Push a score up a little, and its weight grows a little, the
# others shrink, the context moves, the loss changes.  So there is a gradient, from the
# loss back to the weights, the scores, the query and the keys.  A choice ("word 3")
# would have none: it does not change a little.
#
# How much does a weight move when a score does?  For the softmax, the derivative of a_2
# by its own score e_2 is a_2 (1 - a_2), and that of another weight, a_1, is -a_1 a_2.


def show_learning_to_look():
    """Gradient descent on a query alone: the weights move to where the answer is."""
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])  # (Ts, H), values too
    wanted = keys[1]  # the loss is small if the context is the second value
    query = torch.zeros(2, requires_grad=True)
    print("\nLearning where to look: three keys, and the context should be [0, 1], the")
    print("second value.  Only the loss (context - wanted)^2 says so.")
    even = torch.zeros(3)  # the scores of a query that is 0
    moves = torch.autograd.functional.jacobian(lambda e: e.softmax(0), even)[:, 1]
    shown = "  ".join(f"{move:+.3f}" for move in moves.tolist())
    print("Each weight is 1/3 at first.  By the score e_2 they have the derivatives")
    print(f"  -1/3 * 1/3,  1/3 * (1 - 1/3),  -1/3 * 1/3;  by autograd  {shown}")
    print("  step   query            weights                loss")
    for step in range(41):
        weights = (keys @ query).softmax(0)  # (3,)
        loss = ((weights @ keys - wanted) ** 2).sum()
        if step in (0, 1, 5, 40):
            shown = "  ".join(f"{weight:.3f}" for weight in weights.tolist())
            first, second = query.tolist()
            print(f"  {step:>4}   [{first:+.2f}, {second:+.2f}]   {shown}   {loss:.3f}")
        (gradient,) = torch.autograd.grad(loss, query)
        query = (query - gradient).detach().requires_grad_()  # learning rate 1
    print("At first it looks everywhere alike.  That is enough: the gradient says how")
    print("to get more of the second value, and step by step the weights get sharp.")
    print("In the network the keys learn too: to be found by those that need them.")


# Now the same for a whole batch, B sentences at once, for every word that is written.


def dot(query, keys):
    """e_ij = q_i . k_j (Luong et al., 2015): (B, Tt, H), (B, Ts, H) -> (B, Tt, Ts).

    Large where the two vectors point the same way.  No weights to learn.
    """
    return query @ keys.transpose(1, 2)


def attend(scores, values, mask):
    """scores (B, Tt, Ts), values (B, Ts, H), mask (B, Ts), True at real words.

    Returns contexts (B, Tt, H) and weights (B, Tt, Ts), which sum to 1 over real words.
    In this lesson the keys are given as values.
    """
    # exp(-infinity) = 0: padding gets no weight, and takes none away from the others.
    scores = scores.masked_fill(~mask.unsqueeze(1), -math.inf)
    weights = scores.softmax(2)  # (B, Tt, Ts)
    return weights @ values, weights  # c_i = sum_j a_ij v_j


# Are there better scores than the dot product?  Three more have become known.  They are
# all of the same form, a query and a key in, a number out.


def scaled_dot_product(query, keys):
    """e_ij = q_i . k_j / sqrt(H) (Vaswani et al., 2017).  `show_scaling` says why."""
    return dot(query, keys) / math.sqrt(query.shape[2])


def general(query, keys, w):
    """e_ij = q_i . W k_j (Luong et al., 2015): W (H, H) says which numbers to compare.

    w is sqrt(H) W: that is what is learned (see draw_score_weights).
    """
    true_w = w / math.sqrt(query.shape[2])
    return dot(query, keys @ true_w.T)  # keys @ W.T: each row is W k_j


def additive(query, keys, w_q, w_k, v):
    """e_ij = v . tanh(W_q q_i + W_k k_j) (Bahdanau et al., 2015): a small network.

    w_q, w_k (A, H), v (A,).  The only one that needs a vector for every pair (i, j):
    B * Tt * Ts * A numbers.
    """
    from_query = (query @ w_q.T).unsqueeze(2)  # (B, Tt, 1, A)
    from_keys = (keys @ w_k.T).unsqueeze(1)  # (B, 1, Ts, A)
    return torch.tanh(from_query + from_keys) @ v  # (B, Tt, Ts)


# The fifth kind is the opponent: `none`.  For it `encode` returns one key instead of
# Ts: the summary of the whole sentence.  The softmax of a single number is 1, whatever
# its score.  So the decoder is handed the same summary at every word, and has nothing
# to choose.  It is the same network, with as many weights as with `dot`.  And it is a
# stronger one than lesson 08's, which read in one direction and saw the summary only
# at the start: on multi30k 32.5 BLEU instead of 17.5.
SCORES = {
    "additive": additive,
    "dot": dot,
    "general": general,
    "scaled-dot-product": scaled_dot_product,
    "none": dot,
}


def show_four_scores():
    """The four scores of one query and two keys; `attend` against PyTorch's own."""
    query = torch.tensor([[[1.0, 0.5]]])  # (1, 1, 2)
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])  # (1, 2, 2)
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # swaps a vector's two numbers
    ones = torch.tensor([1.0, 1.0])
    found = {
        "dot": dot(query, keys),
        "scaled-dot-product": scaled_dot_product(query, keys),
        "general": general(query, keys, math.sqrt(2) * swap),  # so W is `swap`
        "additive": additive(query, keys, w_q=swap, w_k=torch.eye(2), v=ones),
    }
    print("\nThe same query, the keys [1, 0] and [0, 1], by the four scores")
    for name, scores in found.items():
        first, second = scores[0, 0].tolist()
        weights = scores.softmax(2)[0, 0].tolist()
        print(
            f"  {name:<20} scores {first:.3f} {second:.3f}   "
            f"weights {weights[0]:.3f} {weights[1]:.3f}"
        )
    print("By hand: scaled, 1 / sqrt(2) and 0.5 / sqrt(2).  general: this W swaps the")
    print("numbers of a key, so the query finds the other key.  additive, first key:")
    print("tanh([0.5, 1.0] + [1, 0]) = tanh([1.5, 1.0]), and its numbers added up.")

    # A batch, some of it padding, against PyTorch's own.  Its mask says what ours says:
    # True may be looked at.  (A trap: nn.MultiheadAttention means the opposite.)
    torch.manual_seed(9)
    queries = torch.randn(3, 4, 6, dtype=torch.double)  # (B, Tt, H)
    memory = torch.randn(3, 5, 6, dtype=torch.double)  # (B, Ts, H)
    real = utils.length_mask(torch.tensor([5, 2, 3]), 5)  # (B, Ts)
    ours, _ = attend(scaled_dot_product(queries, memory), memory, real)
    theirs = F.scaled_dot_product_attention(queries, memory, memory, real.unsqueeze(1))
    gap = (ours - theirs).abs().max()
    print(f"A batch by PyTorch's F.scaled_dot_product_attention: {gap:.0e} apart, and")
    print("that is rounding: it is the same.")


# Why divide by sqrt(H)?  A dot product is a sum of H products.  If the numbers of q and
# k are random, with mean 0 and variance 1, each product has variance 1 too, and the sum
# has variance H: its standard deviation is sqrt(H).  So the longer the vectors, the
# larger the scores.  Of large scores a softmax makes one weight near 1 and the others
# near 0.  There a (1 - a), the derivative from above, is near 0: it hardly learns.


def show_scaling():
    """The largest of five weights, for longer and longer random vectors."""
    torch.manual_seed(9)
    print("\nFive random keys, vectors of H numbers of variance 1; 200 queries, mean")
    print("      H   deviation of q . k   largest weight: dot   scaled")
    for size in (4, 64, 1024):
        query = torch.randn(200, 1, size)
        keys = torch.randn(200, 5, size)
        scores = dot(query, keys)  # (200, 1, 5)
        plain = scores.softmax(2).amax(2).mean()
        scaled = scaled_dot_product(query, keys).softmax(2).amax(2).mean()
        print(f"  {size:>5}   {scores.std():>18.1f}   {plain:>19.2f}   {scaled:>6.2f}")
    print("With H = 1024, plain dot looks at one key alone before it has learned")
    print("anything.  Scaled, all lengths begin alike.")


# Must dot then be bad in our network, with H = 256?  No: its numbers are not of
# variance 1.  Before training, the standard deviation of the q's and the k's is about
# 0.03, and that of their dot products below 0.01 (sample, three seeds).  So it starts
# by looking everywhere alike, as in show_learning_to_look, and lets vectors grow as far
# as is of use.  In the docstring's table plain dot loses nothing.
#
# So which score should you take?  These four differ by less than one BLEU.  Dot is the
# simplest and the cheapest.  Scaled is the safe choice where vectors are long and of
# variance 1, as in Transformers.  Additive and general can compare a query and keys of
# different lengths (W is then not square), where a dot product cannot be taken at all.


# --- Attention in a decoder -----------------------------------------------------------
#
# Where does it stand?  In this lesson after the recurrence (Luong et al., 2015):
#
#     word before
#         |
#         v
#     [ LSTM ] ----> q_i ---- score with k_1 k_2 k_3 ----> e_i1  e_i2  e_i3
#         |           |                                          |
#         v           |                                          |  mask, softmax
#     to the next     |                                          v
#     word's LSTM     |                                    a_i1  a_i2  a_i3
#                     |                                          |
#                     |                                          |  mean of k_1 k_2 k_3
#                     v                                          v
#                [c_i; q_i] <----------------------------------- c_i
#                     |
#                     |  tanh(W_c [c_i; q_i] + b)
#                     v
#                   ~h_i ----> output layer ----> a number for every word of French
#
# [c_i; q_i] is the context and the state side by side, 2H numbers.  ~h_i is the state
# after it has looked, H numbers.  The output layer reads ~h_i; in lesson 08 it read
# q_i.  Here the encoder reads both ways (lesson 07); the rest is as in lesson 08.
#
# The LSTM's states depend on its first state and on the words before, not on what was
# looked at.  So in training, where the words are known, one call computes all states,
# and one matrix product all scores.
#
# What does it cost?  Every word written is compared with every word read: Tt * Ts
# scores a sentence.  If both sentences are twice as long, that is four times the work.
# Captions are short: six epochs on multi30k took 449 s with none, 465 s with dot and
# 507 s with additive (two threads).
#
# Bahdanau et al. (2015), who invented attention, put it before the recurrence: the
# context is found with the state of the word *before*, and helps to make the new state.
# Thus the state remembers what was looked at.  The price: every word has to wait for the
# one before, also in training.


def bahdanau_step(x, state, keys, mask, cell, score_weights):
    """One step with attention before the recurrence, for comparison: (state, weights).

    x (B, H) the word before, state (B, H), cell an nn.GRUCell(2 * H, H).
    """
    query = state.unsqueeze(1)  # (B, 1, H): the state before this word
    scores = additive(query, keys, *score_weights)  # (B, 1, Ts)
    context, weights = attend(scores, keys, mask)  # (B, 1, H), (B, 1, Ts)
    # The context is part of the input of the recurrence.
    state = cell(torch.cat([x, context[:, 0]], dim=1), state)  # (B, H)
    return state, weights


@torch.no_grad()
def show_attention_before():
    """Two words by `bahdanau_step`: what was looked at decides where it looks next."""
    torch.manual_seed(9)
    cell = nn.GRUCell(2 * 2, 2)  # H = 2
    score_weights = (torch.eye(2), torch.eye(2), torch.tensor([2.0, 2.0]))
    mask = torch.tensor([[True, True, False]])
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]]])  # (1, 3, 2)
    words = torch.randn(2, 1, 2)  # two words, x (1, 2) each
    print("\nAttention before the recurrence: two words by bahdanau_step, untrained")
    for name, first_key in (("these keys", [1.0, 0.0]), ("another k_1", [-3.0, 3.0])):
        keys[0, 0] = torch.tensor(first_key)
        state = torch.zeros(1, 2)
        for number, x in enumerate(words, start=1):
            query = "  ".join(f"{value:+.3f}" for value in state[0].tolist())
            state, weights = bahdanau_step(x, state, keys, mask, cell, score_weights)
            shown = "  ".join(f"{weight:.3f}" for weight in weights[0, 0].tolist())
            print(f"  {name:<12} word {number}   query {query}   weights {shown}")
    print("The query is the state before the word.  Another k_1 changes the query of")
    print("word 2 too: what was looked at for word 1 is in the state that looks for")
    print("word 2.  With attention after the recurrence it would not be.")


# There is a third way, between the two: attention after the recurrence, and ~h_i goes
# into the LSTM with the next word.  Luong et al. call it input feeding; here it is
# `--input-feeding`.  It waits too.  On multi30k, after two epochs on one thread, it
# took 390 s instead of 267 and gained nothing to speak of: BLEU 37.1 instead of 36.9
# greedy, 39.6 instead of 39.8 by beam search.


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
        self.combine = nn.Linear(2 * hidden, hidden)  # W_c and b of the drawing
        self.output = nn.Linear(hidden, targets)
        # One matrix reads target words and writes them (Press and Wolf, 2017).  That
        # saves weights; and words that are alike when read are alike when written.
        self.output.weight = self.embed_target.weight
        # Small at the start: PyTorch's own start, of variance 1, suits a matrix that
        # reads, but as the output layer it would give huge numbers.
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
            # W = identity: it starts as dot.  What is learned is w = sqrt(H) W.  Adam
            # moves every weight by about the learning rate; so W moves sqrt(H) times
            # less than that.  A score sums H * H of its weights, and moved by the full
            # rate they change it too much: 47.1 BLEU instead of 55.8 when both were
            # tried on multi30k (in another run than that of the docstring).
            return [torch.eye(hidden) * hidden**0.5]
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
        # A key is a linear image of the two states at its word, there and back.
        keys = self.shrink(self.dropout(states))  # (B, Ts, H)
        # An LSTM's h always lies in -1 ... 1, so tanh; its memory c may be larger.
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
        context, weights = attend(scores, keys, mask)  # (B, Tt, H), (B, Tt, Ts)
        both = torch.cat([context, query], dim=2)  # [c_i; q_i]: (B, Tt, 2H)
        return torch.tanh(self.combine(both)), weights

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
        """`--input-feeding`: ~h of one word is joined to the next word's input."""
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
        """A number for every word (M, V) at each of the M real target words.

        Each is computed from the true words before it (teacher forcing, lesson 08).
        """
        keys, mask, state = self.encode(source, lengths)
        # One step behind the target (B, Tt).  A target that has ended is filled up, so
        # its <eos> and padding are given too; the last line drops what comes of it.
        given = F.pad(target[:, :-1], (1, 0), value=BOS)  # (B, Tt)
        combined, _, _ = self.decode(given, state, keys, mask)  # (B, Tt, H)
        # The output layer is most of the work: spare it the padding.
        return self.output(self.dropout(combined[target != PAD]))  # (M, V)


# ====================================================================================
# 3. Training
# ====================================================================================
#
# As in lesson 08: teacher forcing, and the cross-entropy of each real word, in nats.
# No loss speaks of the weights: where to look is learned on the way.
#
# One thing is new, label smoothing (Szegedy et al., 2016).  The goal is not probability
# 1 for the true word, but 1 - s for it, and s shared alike by all V words (the true one
# among them).  With log p for the network's log probabilities, the loss of a word is
#
#     loss = -(1 - s) log p(true word) - s * (mean of log p over all words)
#
# A network that is never quite sure keeps some alternatives alive for beam search.
# What that gains here has not been measured: `--label-smoothing 0` will tell.


def smoothed_loss(log_p, truth, smoothing):
    """log_p (M, V), truth (M,) -> the loss above and the plain one, nats, (M,) each."""
    nats = -log_p.gather(1, truth.unsqueeze(1)).squeeze(1)  # (M,)
    return (1 - smoothing) * nats - smoothing * log_p.mean(1), nats


def least_loss(words, smoothing):
    """The loss of a network that gives exactly the smoothed goal: none is less."""
    others = smoothing / words  # the goal for each word that is not the true one
    true_word = 1 - smoothing + others
    loss = -true_word * math.log(true_word)
    if others:
        loss -= (words - 1) * others * math.log(others)
    return loss


def show_label_smoothing():
    """Three guesses over four words, the first being true: s = 0.1."""
    guesses = {
        "unsure": [0.25, 0.25, 0.25, 0.25],
        "the goal itself": [0.925, 0.025, 0.025, 0.025],
        "too sure": [0.9997, 0.0001, 0.0001, 0.0001],
    }
    print("\nLabel smoothing, s = 0.1, four words, the first is true: its goal is")
    print("1 - 0.1 + 0.1 / 4 = 0.925, that of each other 0.1 / 4 = 0.025")
    print("  guess             p of the four words              nats    loss")
    for name, p in guesses.items():
        log_p = torch.tensor([p]).log()  # (1, 4)
        loss, nats = smoothed_loss(log_p, torch.tensor([0]), 0.1)
        shown = "  ".join(f"{value:.4f}" for value in p)
        print(f"  {name:<16}  {shown}   {nats.item():.4f}  {loss.item():.4f}")
    print(f"The loss is least at the goal, {least_loss(4, 0.1):.4f} and not 0: it is")
    print("more for who is too sure.  `nats`, the plain loss, would like that best.")


def make_measure(smoothing=0.0):
    """The function `measure` for `fit`: values of each real word, (M,) each."""

    def measure(model, batch):
        scores = model(batch["source"], batch["source_length"], batch["target"])
        # float(): with --precision bf16 the scores come in half precision.
        log_p = scores.float().log_softmax(1)  # (M, V)
        truth = batch["target"][batch["target"] != PAD]  # (M,)
        loss, nats = smoothed_loss(log_p, truth, smoothing)
        if not model.training:
            return {"loss": nats}  # validation and test: always the plain one
        return {"loss": loss, "nats": nats}

    return measure


def train_model(kind, config, data, args, feeds):
    """A new model of this kind, always from the same seed: (model, records)."""
    config = {**config, "kind": kind}
    utils.set_seed(args.seed)
    model = Translator(**config).to(args.device)
    measure = make_measure(args.label_smoothing)
    records = utils.fit(model, measure, data.train, data.val, args, config, feeds)
    return model, records


def read_training(data, args):
    """Print how the columns of the training are to be read."""
    words = len(data.vocabularies[1])
    least = least_loss(words, args.label_smoothing)
    print("Reading it: `loss` is that of the smoothed goal.  It cannot fall below")
    print(f"{least:.2f} here (V = {words:,} words, s = {args.label_smoothing:g}).")
    print("`nats` and `val_loss` are both the plain loss: compare these two.  nats is")
    print("the mean over an epoch in which the weights still improve, with dropout on:")
    print("so it may well be the higher one.  grad_norm: the gradient's length before")
    print("clipping (lesson 04).")


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# Three questions.  Where did it look?  How much is it worth?  What comes of it?
#
# First it has to write: greedily and by beam search, with lesson 08's shared search.


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
    with utils.autocast(args):  # half precision with --precision bf16, else nothing
        for batch in utils.Batches(tensors, 100, args.device, bucket="source"):
            keys, mask, state = model.encode(batch["source"], batch["source_length"])
            limits = (2 * batch["source_length"] + ROOM).to(args.device)
            advance = make_advance(model, keys, mask, beam_size)
            found = utils.beam_search(advance, state, limits, beam_size)
            # A batch has rows from all over the data: each answer to its own place.
            for place, (ids, _) in zip(batch["index"].tolist(), found, strict=True):
                answers[place] = data.vocabularies[1].decode(ids)
    return answers


# --- Where did it look? ---------------------------------------------------------------
#
# The weights of all words of an answer make a grid: a row for each word written, a
# column for each word of the source.  It is called an alignment.  How to read it:
#
#   - a bright field: while it wrote the word of this row, it looked at that column
#   - fields along the diagonal: both languages go in the same order; a crossing: the
#     order changes (a red ball, une balle rouge)
#   - a row without one bright field: no single source word stands for this word, such
#     as the "de" that French puts between two nouns, or "ne", half of its "not"
#   - a bright field at an odd place, often the full stop: k_j is not a word.  It is a
#     state of a network that has read all the other words as well, so that the state at
#     the full stop can know of "she" too.  What is needed to write "elle" may be had in
#     several places, and nothing makes the network prefer the one that we would.
#
# It shows where the network looked, not why it wrote: the decoder's state has a say.


@torch.no_grad()
def where_it_looked(model, text, words, data, args):
    """The weights (Tt, Ts) of each word of an answer on each word of its source.

    The answer is given to the decoder as if it were the truth: so every word sees the
    same words before it as when it was written, and looks where it looked then.
    """
    source_words = utils.split_pair(text)[:MAX_LENGTH] or [utils.UNK]
    source, lengths = utils.pad([data.vocabularies[0].encode(source_words)])
    given = torch.tensor([[BOS, *data.vocabularies[1].encode(words)[:-1]]])  # (1, Tt)
    keys, mask, state = model.eval().encode(source.to(args.device), lengths)
    _, _, weights = model.decode(given.to(args.device), state, keys, mask)
    return weights[0].float().cpu()


def print_looks(words, source, weights):
    """A line for each word written: where it looked most; if unsure, the second too."""
    for word, row in zip(words, weights, strict=True):
        order = row.argsort(descending=True).tolist()
        line = f"     {word:<14} {row[order[0]]:4.0%}  {source[order[0]]:<12}"
        if row[order[0]] < 0.7 and len(order) > 1:
            line += f" {row[order[1]]:4.0%}  {source[order[1]]}"
        print(line.rstrip())


def print_crossing(words, source, weights):
    """The first two words that looked, clearly, at words in the other order."""
    looks = weights.argmax(1).tolist()  # (Tt,)
    clear = (weights.amax(1) >= 0.7).tolist()
    for i in range(len(words) - 1):
        later = source[looks[i]]
        earlier = source[looks[i + 1]]
        if clear[i] and clear[i + 1] and looks[i + 1] < looks[i]:
            print(f'     A crossing: "{words[i]}" looks at "{later}", the next word,')
            print(f'     "{words[i + 1]}", goes back to "{earlier}".')
            return


def print_odd_looks(words, source, weights):
    """A word that looked mostly at the full stop, if there is one."""
    for word, row in zip(words, weights, strict=True):
        place = int(row.argmax())
        if source[place] == "." and word != "." and row[place] > 0.5:
            print(f'     "{word}" looks at the full stop: the state there has read the')
            print("     whole sentence, so a key is more than its word.")
            return


def show_alignments(model, texts, data, args):
    """Translations by beam search, and where each word looked, also as pictures."""
    truth = dict(data.parts[2])
    answers = translate(model, texts, data, args, args.beam_size)
    if model.kind == "none":
        print("\nSome answers.  (With `none` there are no places to choose from.)")
    else:
        print(
            f"\nWhere did it look?  ({model.kind}.  Each word written, the source word"
        )
        print("with the largest weight, and if that is below 70 % also the second.)")
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
        print_looks(words, source, weights)
        print_crossing(words, source, weights)
        print_odd_looks(words, source, weights)
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


def examples(data):
    """Up to three short test sources with a colour: French puts it after the noun."""
    colour = r"(?i)\b(red|blue|black)\b"
    texts = [source for source, _ in data.parts[2]]
    good = [text for text in texts if len(text) < 60 and re.search(colour, text)]
    return (good or texts)[:3]


# And when it went wrong?  Then the weights help to find out which half is to blame.  If
# it looked at the word that should have been translated, the looking was right, and the
# decoder chose the wrong word for what it saw.  If it looked elsewhere, or nowhere in
# particular, the looking was wrong.
#
# An example (sample, one thread): "my strange plate" became "ma assiette étrange" instead
# of "mon assiette étrange".  While it wrote "ma" it looked at "my", with weight 99 %.  So
# it looked right and wrote wrong.  Why was that word hard?  "ma" stands before feminine
# nouns, and "assiette" is one; but before a vowel it is "mon" all the same.  Which noun
# will follow must be known one word ahead.  Looking right is not yet writing right.


def pieces(words):
    """Each word and each pair of neighbours, counted: lesson 08's runs of 1 and 2."""
    return Counter(words) + Counter(itertools.pairwise(words))


def worst_answer(answers, data):
    """The short test pair whose answer shares least with its reference, or None.

    answers: N texts.  None if every short answer is right word for word.
    """
    worst = None
    lowest = 1.0
    for said, (text, truth) in zip(answers, data.parts[2], strict=True):
        wanted = pieces(utils.split_pair(truth))
        shared = wanted & pieces(utils.split_pair(said))  # of each the smaller count
        share = shared.total() / max(1, wanted.total())
        if share < lowest and 5 <= len(utils.split_pair(text)) <= 12:
            lowest = share
            worst = (text, truth)
    return worst


def show_worst(model, answers, data, args):
    """The worst of the short answers: what is wrong in it, and where that looked."""
    worst = worst_answer(answers, data)
    if worst is None:
        print("\nOf the short test sentences all are right, word for word.")
        return
    text, reference = worst
    (words,) = translate(model, [text], data, args, args.beam_size)
    truth = utils.split_pair(reference)
    source = utils.split_pair(text)[:MAX_LENGTH]
    print("\nThe worst answer to a short test sentence (5 to 12 words):")
    print(f"  source     {text}")
    print(f"  reference  {' '.join(truth)}")
    print(f"  answer     {' '.join(words)}")
    left = Counter(truth)
    wrong = []  # the places of words that the reference does not have (so often)
    for place, word in enumerate(words):
        if left[word] == 0:
            wrong.append(place)
        left[word] -= 1
    if model.kind == "none":
        return
    if not wrong:
        print("  It has no word too many: some are missing, or the order is another.")
        return
    print("  The words that the reference lacks, and where they looked:")
    weights = where_it_looked(model, text, words, data, args)  # (Tt, Ts)
    print_looks([words[place] for place in wrong], source, weights[wrong])
    print("Reading it: if that is the word which should have been translated, the")
    print("looking was right, and the decoder wrote the wrong word for it; if not, it")
    print("was wrong.")


# --- How much is it worth? ------------------------------------------------------------
#
# BLEU on the test set, once for greedy answers and once for those of beam search.  But
# a gap between two models may be luck: other test sentences, another gap.  How large a
# gap can the mere choice of sentences make?  We have only these N.  The trick, the
# bootstrap, is to draw from them: N sentences, with repeats, so that some come twice
# and some not at all.  Both models are scored on the sentences drawn (so it is called
# paired), and the size of the gap is noted.  Do that a thousand times, and see how far
# these gaps scatter around their mean.  If chance often lifts a gap above the mean by
# more than the gap that was measured, then so much can be luck.  The share of draws in
# which it does is called p.  Below 0.05 one stops believing in luck.  (It is the luck
# of the sentences.  The luck of the seed takes several seeds.)


def right_words(counts):
    """counts (N, 2), right words and all words of each sentence -> per cent right."""
    right, words = counts.sum(0).tolist()
    return 100 * right / words


def paired_bootstrap(ours, others, score, draws=1000):
    """The gap of two models' scores, its size in each draw (draws,), and p.

    ours, others (N, F): what was counted in each sentence.  score(counts) -> a number.
    """
    generator = torch.Generator().manual_seed(9)
    gap = score(ours) - score(others)
    sizes = torch.zeros(draws)
    for draw in range(draws):
        drawn = torch.randint(len(ours), (len(ours),), generator=generator)  # (N,)
        sizes[draw] = abs(score(ours[drawn]) - score(others[drawn]))
    strayed = sizes - sizes.mean() > abs(gap)  # (draws,)
    # The measured one counts as a draw too, so p is never 0.
    p = (strayed.sum().item() + 1) / (draws + 1)
    return gap, sizes, p


def show_bootstrap():
    """Eight sentences, two models, right words counted; some draws, and p."""
    words = torch.tensor([7, 6, 9, 8, 6, 10, 7, 8])
    ours = torch.tensor([6, 5, 9, 7, 4, 9, 6, 7])
    others = torch.tensor([5, 5, 6, 7, 5, 7, 6, 5])
    ours_counts = torch.stack([ours, words], dim=1)  # (8, 2)
    others_counts = torch.stack([others, words], dim=1)
    print("\nCould a gap be luck?  Eight sentences, right words of two models:")
    print(f"  words   {words.tolist()}")
    print(f"  ours    {ours.tolist()}   {right_words(ours_counts):.1f} % right")
    print(f"  others  {others.tolist()}   {right_words(others_counts):.1f} % right")
    gap, sizes, p = paired_bootstrap(ours_counts, others_counts, right_words)
    mean = sizes.mean().item()
    above = (sizes > mean + gap).sum().item()
    first, second, third = sizes[:3].tolist()
    print(
        f"  The gap is {gap:.1f}.  Eight sentences drawn with repeats, many times: it"
    )
    print(f"  is {first:.1f}, {second:.1f}, {third:.1f}, ...; its mean is {mean:.1f}.")
    print(f"  It was above {mean:.1f} + {gap:.1f} in {above} of {len(sizes):,} draws.")
    print(f"  So p = ({above} + 1) / {len(sizes) + 1:,} = {p:.3f}.")
    print("utils.bleu_p_value does the same with BLEU: a thousand draws, so that p is")
    print("at least 1 / 1,001 = 0.001.")


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
    """A trained model on test: answers, greedy and by beam; its scores; its costs."""
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
    return greedy, beam, scores, costs


def print_scores(rows, data):
    """The table of all models, and what its columns mean."""
    count = len(data.parts[2])
    utils.print_table(f"{data.source.label}: test, {count:,} sentences", rows)
    print("bleu: greedy answers, without case; bleu_13a: with case (an answer is given")
    print("a capital at its start, so only names and the like lack theirs); bleu_beam:")
    print("by beam search; perplexity: of the true words; greedy_s, train_s: seconds.")
    if any("p" in row for row in rows.values()):
        print("p: how often luck alone makes such a gap to `none` in bleu.")


def print_choice(models, answers, rows, truth):
    """`all`: the best kind of attention by validation, and whether it stands out."""
    kinds = [kind for kind in models if kind != "none"]
    if len(kinds) < 2:
        return
    lowest = {}
    for kind in kinds:
        lowest[kind] = min(record["val_loss"] for record in models[kind][1])
    # Chosen by validation: who chooses by test, flatters the winner.
    best = min(kinds, key=lambda kind: lowest[kind])
    print(f"\nWhich score?  {best} has the lowest val_loss.  Against it the others")
    print("have, in BLEU on test:")
    told_apart = 0
    for kind in kinds:
        if kind != best:
            gap = rows[kind]["bleu"] - rows[best]["bleu"]
            p = utils.bleu_p_value(answers[kind], answers[best], truth)
            told_apart += p < 0.05
            print(f"  {kind:<20} {gap:+.1f}   p = {p:.3f}")
    if told_apart:
        print("Where p is below 0.05 it is not the luck of the sentences.  It may")
        print("still be that of the seed: another seed may turn it around.")
    else:
        print("None can be told apart from it: take the simplest, dot.")


def print_lengths(answers, data):
    """BLEU on each fifth of the test set by length; returns mean lengths and lines."""
    lengths = data.test.lengths["source_length"]  # (N,)
    groups = lengths.argsort(stable=True).chunk(5)  # shortest sentences first
    means = [lengths[group].float().mean().item() for group in groups]
    lines = {}
    rows = {}
    for name, texts in answers.items():
        if name == "copy":
            continue
        lines[name] = []
        for group in groups:
            some_texts = [texts[place] for place in group]
            some_pairs = [data.parts[2][place] for place in group]
            lines[name].append(text_scores(some_texts, some_pairs)["bleu"])
        columns = [f"{mean:.1f} words" for mean in means]
        cells = [f"{value:.1f}" for value in lines[name]]
        rows[name] = dict(zip(columns, cells, strict=True))
    utils.print_table(
        f"{data.source.label}: BLEU on the shortest fifth of test ... the longest", rows
    )
    return means, lines


def explain(models, answers, rows, lines, truth):
    """What was found, and the answer to the title."""
    kind = next(iter(models))
    for name in models:
        change = lines[name][-1] - lines[name][0]
        print(f"{name}: {change:+.1f} BLEU from the shortest fifth to the longest.")
    if "none" in models and len(models) > 1:
        short = lines[kind][0] - lines["none"][0]
        long = lines[kind][-1] - lines["none"][-1]
        print(f"Looking back ({kind}) is worth {short:+.1f} on the shortest sentences,")
        print(f"{long:+.1f} on the longest.")
        if long > short and lines["none"][-1] < lines["none"][0]:
            print("One summary is short of room, the more so the longer the sentence.")
    print("\nWhere should the decoder look?")
    p = utils.bleu_p_value(answers[kind], answers["dictionary"], truth)
    gap = rows[kind]["bleu"] - rows["dictionary"]["bleu"]
    if kind == "none":
        print("Here it cannot look anywhere: it has one summary of the whole source.")
    else:
        print("At the words that matter for the word it is about to write.  Nobody")
        print("tells it which these are; it can learn that: weights have a gradient.")
        if gap <= 0 or p >= 0.05:
            print("(This network has not: it is no better than a dictionary.)")
    print(f"BLEU with {kind} is {rows[kind]['bleu']:.1f}; word by word from a", end=" ")
    print(f"dictionary {rows['dictionary']['bleu']:.1f} ({gap:+.1f}, p = {p:.3f}).")
    if "none" in models and len(models) > 1:
        gap = rows[kind]["bleu"] - rows["none"]["bleu"]
        p = rows[kind]["p"]
        without = rows["none"]["bleu"]
        print(f"Without attention the same network has {without:.1f}.  Looking back is")
        print(f"worth {gap:+.1f} (p = {p:.3f}), in this run, with this seed.")
    elif kind != "none":
        print("How much of that is due to attention?  Only a run without it can tell:")
        print("--attention-type all trains both, and so does --dataset sample.")


def report(models, judged, data, args):
    """Tables, what they say, metrics.json; returns the lengths and lines to draw.

    models: kind -> (model, records).  judged: kind -> what `judge` returned.
    """
    pairs = data.parts[2]
    truth = [target for _, target in pairs]
    answers = {}
    rows = {}
    metrics = {}
    for kind, (greedy, _, scores, costs) in judged.items():
        answers[kind] = greedy
        rows[kind] = {**scores, **costs}
        metrics[kind] = {f"test_{name}": value for name, value in scores.items()}
        metrics[kind] |= costs
    if "none" in answers:
        for kind in models:
            if kind != "none":
                p = utils.bleu_p_value(answers[kind], answers["none"], truth)
                rows[kind]["p"] = p
                metrics[kind]["p"] = p
    known = {}
    for name, texts in utils.pair_baselines(data.parts[0], pairs).items():
        answers[name] = texts
        rows[name] = text_scores(texts, pairs)
        known[name] = rows[name]["bleu"]
    print_scores(rows, data)
    print_choice(models, answers, rows, truth)
    means, lines = print_lengths(answers, data)
    explain(models, answers, rows, lines, truth)
    about = utils.bleu_scores(truth, truth)
    print("(Signatures of bleu and bleu_13a, so that others can compare:")
    print(f" {about['signature']}\n {about['signature_13a']})")
    kind = next(iter(models))
    utils.write_metrics(
        args,
        data.source,
        metrics=metrics[kind],
        baselines=known,
        parameters=rows[kind]["parameters"],
        records=models[kind][1],
        units=int(data.train.lengths["target_length"].sum()),
        unit="target words",
        models=metrics if len(models) > 1 else None,
    )
    return means, lines


def draw(models, means, lines, data, args):
    """BLEU by the length of the source, and losses: a curve for each model."""
    utils.plot_lines(
        args,
        "bleu_by_length",
        f"Test, {data.source.label}",
        lines,
        "words of the source: mean of each fifth of test",
        "BLEU, greedy",
        x=means,
    )
    runs = {kind: records for kind, (_, records) in models.items()}
    panels = {
        "nats a word, training": ["nats"],
        "nats a word, validation": ["val_loss"],
    }
    utils.plot_records(args, "training", data.source.label, runs, panels)


# --- What comes of it?  Self-attention, the bridge to Transformers --------------------
#
# So far the queries came from the decoder and the keys from the encoder.  They may as
# well come from the same sentence: each word asks all words of its own sentence, itself
# included, and takes home a mean of them.  That is self-attention.  Each word has one
# vector x_j.  Were query and key both x_j, each word would mostly find itself, for
# nothing is as like it as itself.  So a Transformer learns three matrices:
#
#     q_j = W_q x_j   what it looks for        k_j = W_k x_j   what it is to be found by
#     v_j = W_v x_j   what it gives
#
# and a word can look for something else than itself, an adjective for its noun.  The
# example has made-up vectors of three numbers (adjective, noun, verb) and a W_q by
# hand; it takes x_j itself as key and value.
#
# No word waits for another: all is one matrix product, and the first word is as near to
# the last as to the second.  The price is a table of T * T scores.  And one thing is
# lost: see what "black" finds.

SELF_WORDS = ["black", "cat", "sees", "white", "dog"]
SELF_X = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]]  # (T, 3)
SELF_W_Q = [
    [0, 6, 0],  # an adjective is sought by nouns,
    [6, 0, 6],  # a noun by adjectives and by verbs,
    [0, 0, 0],  # a verb by none
]


@torch.no_grad()
def show_self_attention():
    """Five words look at each other; then once more with the words reversed."""
    x = torch.tensor([SELF_X], dtype=torch.float)  # (1, T, 3)
    w_q = torch.tensor(SELF_W_Q, dtype=torch.float)
    mask = torch.ones(1, len(SELF_WORDS), dtype=torch.bool)

    def self_attention(x):
        return attend(scaled_dot_product(x @ w_q.T, x), x, mask)

    outputs, weights = self_attention(x)  # (1, T, 3), (1, T, T)
    print("\nSelf-attention: a row for each word that looks.  Adjectives and verbs")
    print("look for nouns, nouns for adjectives.")
    print("           " + "".join(f"{word:>8}" for word in SELF_WORDS))
    for word, row in zip(SELF_WORDS, weights[0].tolist(), strict=True):
        print(f"  {word:<9}" + "".join(f"{weight:>8.2f}" for weight in row))
    torch.manual_seed(9)
    layer = nn.LSTM(3, 4, batch_first=True)
    states, _ = layer(x)
    backwards, _ = self_attention(x.flip(1))
    other_states, _ = layer(x.flip(1))
    print("The words reversed, and the outputs reversed back, they change by up to")
    print(f"  self-attention   {(backwards.flip(1) - outputs).abs().max():.3f}")
    print(f"  an LSTM          {(other_states.flip(1) - states).abs().max():.3f}")
    print("Reading it: each finds what it looks for, at any distance.  But black finds")
    print("cat and dog alike: to attention a sentence is a bag of words.  It has lost")
    print("the order, which recurrence knew.  So Transformers add to each x_j a vector")
    print("that tells its place (Vaswani et al., 2017, section 3.5: read on there).")
    print("And where one writes with self-attention, a word must not see those after")
    print("it: their scores are masked, by minus infinity, before the softmax.")


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


def epochs_of(data, args):
    """How many epochs, where --epochs does not say it."""
    if args.quick:
        return 2
    return max(EPOCHS, math.ceil(UPDATES / len(data.train)))


def kinds_to_train(source, args):
    """The kinds of attention that this run trains, the one asked for first."""
    if args.attention_type == "all":
        return list(SCORES)
    kinds = [args.attention_type]
    # On the sample there is time to train its opponent too.
    if source.name == "sample" and args.attention_type != "none":
        kinds.append("none")
    return kinds


def flags_for(kind, args):
    """The flags with which this kind is trained.

    What was asked for has --out-dir to itself.  Every other kind has a folder of its
    own in there, so that --resume finds how far each of them had come.
    """
    if kind == args.attention_type:
        return args
    folder = Path(args.out_dir, kind)
    flags = Namespace(**vars(args))
    flags.out_dir = str(folder)
    flags.resume = args.resume and (folder / "last.pt").exists()
    flags.save_model = False
    return flags


def train_kinds(kinds, config, data, args, feeds):
    """One model of each kind, from the same seed: kind -> (model, records)."""
    models = {}
    for kind in kinds:
        print(f"\nTraining on {data.source.label}, attention {kind}: one line an epoch")
        flags = flags_for(kind, args)
        models[kind] = train_model(kind, config, data, flags, feeds)
    read_training(data, args)
    return models


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

    # 2. Attention: with numbers; how it learns; four scores; where it may stand.
    show_attention()
    show_learning_to_look()
    show_four_scores()
    show_scaling()
    show_attention_before()

    # 3. Training: one model, or several of different kinds.
    show_label_smoothing()
    if args.eval_only:
        models = {config["kind"]: (model, [])}
    else:
        if args.epochs is None:
            args.epochs = epochs_of(data, args)
        kinds = kinds_to_train(source, args)
        models = train_kinds(kinds, config, data, args, feeds)

    # 4. Where did it look, when right and when wrong?  How much is it worth, and could
    #    that be luck?  What comes of it?
    judged = {kind: judge(*models[kind], data, args) for kind in models}
    kind = next(iter(models))
    model, _ = models[kind]
    show_alignments(model, args.predict or examples(data), data, args)
    if not args.predict:
        _, beam_answers, _, _ = judged[kind]
        show_worst(model, beam_answers, data, args)
    show_bootstrap()
    means, lines = report(models, judged, data, args)
    if not args.no_plots:
        draw(models, means, lines, data, args)
    show_self_attention()


if __name__ == "__main__":
    sys.exit(utils.run(main))
