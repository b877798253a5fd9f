"""09 · Where should the decoder look?

Lesson 08's decoder knows the source through one state, however long the sentence is:
a bottleneck.  A human translator does not work like that.  She reads the sentence, and
while she writes she looks back, now at this word, now at that.  Attention gives the
decoder the same.  At each word that it writes, it weighs all the words that the encoder
has read, and takes their weighted mean.  Nobody tells it where to look; it learns that
together with everything else.

What you will learn
    - attention worked with three keys and one query: score, mask, softmax, context
    - how a network learns where to look, although nobody tells it
    - four ways to score, a line or two each, and which one to take
    - why padding is masked with minus infinity, and before the softmax
    - where attention stands in the decoder, and what it costs
    - how to read where a network looked, and a test of whether that matters
    - how much attention is worth, on which sentences, and whether it could be luck
    - self-attention, the step to Transformers: what it loses, and how it gets it back

You need lesson 08 (encoder, decoder, teacher forcing, beam search, BLEU) and 07 (two
directions).

Run it
    python 09_attention_mechanism.py --dataset sample
    python 09_attention_mechanism.py --save-model
    python 09_attention_mechanism.py --eval-only --predict "a man in a red shirt"
    python 09_attention_mechanism.py --attention-type all
    The first is "the sample run" of the comments: with attention and without, and the
    whole story.  Read it beside this file.  The second is "the multi30k run": real
    sentences, attention alone.  The third uses its model.  The last trains five kinds
    on them: four ways to score (section 2), and "none".

You should see
    BLEU compares translations with references, 0 to 100 (lesson 08); exact_match is the
    share that is right word for word.  "additive" is the network with attention (by the
    first of four scores), "none" the same without.  "dictionary" translates word by word,
    by a count of the training pairs.

    The sample run (sample [sample]: made-up sentences; seed 0; one thread of a busy
    machine, five to nine minutes; with more threads the last digits differ):
                                  BLEU by words of the source, five fifths of test
      model         bleu  exact_match    6.8    8.9   10.5   11.4   12.6
      additive      99.4       0.9783  100.0   99.1   99.8   99.0   99.3
      none          77.3       0.4650   83.3   81.6   80.6   75.2   70.4
      dictionary    18.1       0.0017   22.5   20.5   16.4   16.0   17.4
    Most of the gap is there for the shortest sentences already, and it grows with the
    length.  With 22 epochs instead of 11, none has 93.7 (98.5 for the shortest, 90.6
    for the longest): much of what attention gains here is time.  The dictionary can
    judge 714 of 991 words written.  For 96.1 % of them the largest weight is at the
    word that it names.

    The multi30k run and the other kinds (multi30k [real]; seed 0; one thread; on two
    threads of an idle machine the multi30k run takes 9 minutes).  "scaled" is
    scaled-dot-product, "08" lesson 08's network, which has no attention:
      BLEU       none   additive    dot   general   scaled     08   dictionary
      greedy     32.2       54.8   55.0      55.5     54.2   18.6         17.4
      beam 5     34.6       57.0   56.9      56.8     56.3   18.6
    With 12 epochs instead of 6, none has 38.4 greedy, 41.4 by beam search.
    By fifths of length (8.5, 10.6, 12.4, 14.5, 19.4 words on average):
      additive   60.4   58.6   58.9   54.6   48.2
      none       47.5   41.1   34.0   31.8   20.1
    The third command, with its model.  Each word written, and where it looked most:
      writes      un   homme     en       t      -   shirt   rouge   <eos>
      looks at     a     man     in   shirt      a   shirt     red     red
                 82%    100%    98%     99%    37%     95%    100%     38%
    After "shirt" it goes back to "red": French puts the colour last.

Try this  (guess first, then run; with --dataset sample a few minutes each;
docs/exercises.md has measured answers to some)
    --label-smoothing 0         section 3 says what it is; is the network surer then?
    --attention-type dot        the cheapest score: does its grid look different?
    --eval-only --beam-size 20  (after --save-model) is a wider search better?
    And in `attend`, leave out the masked_fill: what do the last numbers of section 2
    say then, and what does covering a word change?
"""

# To look up, not to read now.  Sizes:
#     B  batch (sentences)   Ts  words of the longest source   Tt  of the longest target
#     H  numbers in a state, a key, an embedding    A  inside the additive score
#     L  layers    V  target vocabulary    M  real target words of a batch    N  test
#     sentences    R  rows of a search, B * beam size    T  words (self-attention)
#     i  counts the words that are written, up to Tt;  j  those that are read, up to Ts
# Letters:
#     s_j  the encoder's states at a word, 2 H numbers   q_i query   k_j key   v_j value
#     e_ij  score   a_ij  attention weight   c_i  context   h_att  state that has looked
#     h, c  an LSTM's state and its memory (lesson 05); that c is no context
#     W_s, W_c, W, W_query ...  matrices that are learned; u  a vector that is
#     g_j  derivative of the loss with respect to weight j   x_j  a word (self-attention)
# "Weight" is always a_ij.  What is learned is a parameter.  (But PyTorch's .weight, and
# "its weights are kept", which the training prints, mean parameters.)

import math
import re
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnn_utils as utils

# These four are ids.  The words themselves are utils.BOS, "<bos>", and so on.
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
# French words mostly stand in the same order as the English ones, but not everywhere.
# "a red shirt" is "une chemise rouge": whoever looks at the right word has to cross
# over.
#
# The sample is made up of few words: minutes are enough.  It has what French is known
# for, adjectives that follow their noun, and change with it (chat noir, souris noire).

MAX_LENGTH = 80  # words that are read of a text
ROOM = 10  # an answer has at most twice as many words as its source, and ten more
EPOCHS = 6  # a choice of time: in the multi30k run val_loss still fell in the last
UPDATES = 800  # a small data set gets more epochs: as many as make 800 updates


class Pairs(NamedTuple):
    """All that this lesson knows of its data."""

    dataset: utils.Source  # which data set, and whether it is real
    parts: list  # training, validation, test: lists of (source, target)
    vocabularies: list  # of sources, of targets: words of training alone
    train: utils.Batches  # the three parts as batches of tensors
    val: utils.Batches
    test: utils.Batches
    cut: Callable  # text -> a list of words
    join: Callable  # such a list -> text


def load_data(dataset, parts, feeds, args):
    """The parts as batches of tensors.

    feeds: the words that the model knows, of both languages, saved beside it.
    """
    cut = utils.split_pair
    join = utils.join_words
    if "merges" in feeds:  # these lines serve the flag --pieces alone: section 5
        pieces = Pieces(feeds["merges"])
        cut = pieces.cut
        join = pieces.join
    vocabularies = [
        utils.Vocabulary(feeds["source_words"]),
        utils.Vocabulary(feeds["target_words"]),
    ]
    batches = []
    for part in parts:
        training = part is parts[0]
        tensors = utils.encode_pairs(part, vocabularies, MAX_LENGTH, cut)
        size = args.batch_size if training else 100
        # bucket: sources of like length come into one batch: little padding.
        options = {"shuffle": training, "bucket": "source"}
        batches.append(utils.Batches(tensors, size, args.device, **options))
    return Pairs(dataset, parts, vocabularies, *batches, cut, join)


def describe(data):
    """Print how much data there is, and what share of the test words is unknown."""
    sizes = " / ".join(f"{len(part):,}" for part in data.parts)
    print(f"{data.dataset.label}: {sizes} pairs to train, validate, test")
    for name, vocabulary in zip(("source", "target"), data.vocabularies, strict=True):
        ids = data.test.data[name]
        unknown = (ids == UNK).sum() / (ids != PAD).sum()
        print(f"  {name}: {len(vocabulary):,} words; in test {unknown:.1%} are unknown")


def show_one_pair(data):
    """Print a short training pair on its way to the tensors."""
    pair = min(data.parts[0][:200], key=lambda pair: len(pair[0]))
    tensors = utils.encode_pairs([pair], data.vocabularies, MAX_LENGTH, data.cut)
    given = [utils.BOS, *data.cut(pair[1])]
    print("\nOne pair on its way to the network:")
    print(f"  source        {pair[0]}")
    print(f"  words         {' '.join(data.cut(pair[0]))}")
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
# Why three?  What a book is found by (its title) is not what one takes home (its text).
# Below, keys and values differ.  In this lesson's network they are the same vectors,
# each made from the encoder's state s_j at one word:
#
#     k_j = v_j = W_s s_j + b_s        (a linear layer, `shrink`)
#
# s_j is the state of the way there and that of the way back, side by side: 2 H numbers.
# The query has H, so W_s makes H of them.
#
# In self-attention, the outlook after section 4, all three differ.
#
# The encoder reads in both directions.  So a key stands at a word, but it knows of the
# whole sentence too.  Keep that in mind for section 4.
#
# Now four steps.  A word is written at place i, and the words read have places j:
#
#   1. score     how well does the query fit each key?       e_ij = score(q_i, k_j)
#   2. mask      padding must not be found                   e_ij = -infinity there
#   3. softmax   weights, 0 or more, that sum to 1           a_ij = exp(e_ij) / their sum
#                                                                   over all j
#   4. context   the weighted mean of the values             c_i = sum_j a_ij v_j
#
# The simplest score is the dot product, q . k: large where both vectors point the same
# way.  `show_attention` takes one query and three keys through all four steps.
#
# Two names: queries from the decoder and keys from the encoder make it cross-attention.
# It is soft, for every real word gets some weight.  (Hard attention chooses one word.)


def show_attention():
    """One query, three keys, the third of them padding: every number."""
    query = torch.tensor([1.0, 0.5])
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]])  # (Ts, H) = (3, 2)
    values = torch.tensor([[10.0, 0.0], [0.0, 10.0], [50.0, 50.0]])
    mask = torch.tensor([True, True, False])
    print("\nAttention with numbers: query [1.0, 0.5]; three keys, the third of them")
    print("padding; their values are [10, 0], [0, 10] and [50, 50]")
    print("  key          score q . k             masked   exp     weight")
    scores = keys @ query  # (3,)
    masked = scores.masked_fill(~mask, -math.inf)
    powers = masked.exp()
    weights = powers / powers.sum()
    for j in range(3):
        first, second = keys[j].tolist()
        line = f"  [{first:.1f}, {second:.1f}]   1.0*{first:.1f} + 0.5*{second:.1f}"
        line += f" = {scores[j]:.1f}   {masked[j]:>4.1f}"
        print(f"{line}   {powers[j]:.3f}   {weights[j]:.3f}")
    context = weights @ values  # (2,)
    parts = f"{weights[0]:.3f} * [10, 0] + {weights[1]:.3f} * [0, 10]"
    print(f"  context: {parts} = [{context[0]:.2f}, {context[1]:.2f}]")

    # Three ways to treat the padding; only the first is right.
    zero_before = scores.masked_fill(~mask, 0.0).softmax(0)
    zero_after = scores.softmax(0) * mask
    print("Why minus infinity, and why before the softmax?  The weights are")
    for how, three in (
        ("-infinity before", weights),
        ("0 before", zero_before),
        ("0 after", zero_after),
    ):
        shown = "  ".join(f"{weight:.3f}" for weight in three.tolist())
        print(f"  {how:<18} {shown}   sum {three.sum():.3f}")
    print("With 0 before, exp(0) = 1: padding is looked at.  With 0 after, padding had")
    print("taken its share already, and too little is left for the real words.")


# How can it learn where to look, if nobody tells it?  It does not choose a word: it
# weighs all of them.  Push a score up a little, and its weight grows a little, the
# others shrink, the context moves, the loss changes.  So there is a gradient, from the
# loss back to the weights, the scores, the query and the keys.  A choice ("word 3")
# would have none: it does not change a little.  (Section 3 watches a network's
# weights.)
#
# How much does a weight move when a score does?  (You may skip to the numbers of
# `show_learning_to_look`; take the last line along.)  Of one word written, a_j is
# exp(e_j) / S, S the sum of all exp.  By the quotient rule, its derivative with respect
# to its own score e_j is (exp(e_j) S - exp(e_j)^2) / S^2 = a_j - a_j^2 = a_j (1 - a_j).
# That of another weight a_m is -a_j a_m: what one gains the others lose.  Now let g_j
# be the derivative of the loss with respect to a_j.  The context is the sum of all a_j
# v_j, so g_j is v_j . (the derivative with respect to the context).  The chain rule
# adds up what e_j does to the loss through every weight, its own and the others:
#
#       a_j (1 - a_j) g_j       - a_j (sum of a_m g_m over the others)
#     = a_j g_j - a_j (a_j g_j) - a_j (sum of a_m g_m over the others)
#     = a_j g_j                 - a_j (sum of a_m g_m over all, j too)
#     = a_j (g_j - mean)        where mean, weighted by a, is that sum over all
#
# Training steps down the slope.  So a score rises if its g_j is below the mean: if more
# weight there lowers the loss more than elsewhere.


def show_learning_to_look():
    """Gradient descent on a query alone: the weights move to where the answer is."""
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])  # (Ts, H), values too
    wanted = keys[1]  # the loss is small if the context is the second value
    query = torch.zeros(2, requires_grad=True)
    print("\nLearning where to look: three keys [1, 0], [0, 1], [-1, -1], values too.")
    print("The context should be [0, 1], the second value.  Only the loss, the sum of")
    print("(context - wanted)^2, says so.  The query starts as [0, 0]: each weight is")
    print("1/3, the context [0, 0].  Derivatives of the loss, from the back:")
    scores = keys @ query  # (3,)
    weights = scores.softmax(0)
    context = weights @ keys  # (2,)
    loss = ((context - wanted) ** 2).sum()
    chain = torch.autograd.grad(loss, (context, weights, scores, query))
    rules = {
        "context": "2 (context - wanted)",
        "weights": "g: each value . [0, -2]",
        "scores": "weighted mean of g: 0; second: 1/3 (-2 - 0)",
        "query": "-0.67 * [0, 1] + 0.67 * [-1, -1]",
    }
    for (name, rule), gradient in zip(rules.items(), chain, strict=True):
        # + 0.0 makes a plain 0 of -0.
        shown = ", ".join(f"{value + 0.0:.2f}" for value in gradient.tolist())
        shown = f"[{shown}]"
        print(f"  by {name:<8} {shown:<22} {rule}")
    print("Training steps down the slope.  So score 2 rises, score 3 falls, and the")
    print("query moves so that they do:")
    print("  step   query            weights                loss")
    for step in range(41):
        scores = keys @ query  # (3,)
        weights = scores.softmax(0)
        loss = ((weights @ keys - wanted) ** 2).sum()
        if step in (0, 1, 5, 40):
            shown = "  ".join(f"{weight:.3f}" for weight in weights.tolist())
            first, second = query.tolist()
            print(f"  {step:>4}   [{first:+.2f}, {second:+.2f}]   {shown}   {loss:.3f}")
        g, by_scores, by_query = torch.autograd.grad(loss, (weights, scores, query))
        if step == 1:
            mean = weights @ g
            all_g = ", ".join(f"{value:.3f}" for value in g.tolist())
            rule = f"{weights[1]:.3f} ({g[1]:.3f} - ({mean:.3f}))"
            by_hand = f"{rule} = {weights[1] * (g[1] - mean):.3f}"
            print(f"         (here g is [{all_g}], its weighted mean {mean:.3f};")
            print(f"         by score 2: {by_hand}; autograd: {by_scores[1]:.3f})")
        query = (query - by_query).detach().requires_grad_()  # learning rate 1
    print("At first it looks everywhere alike.  That is enough: the weights get sharp.")
    print("In the network the keys learn too: query and key move towards each other.")


# Now the same for a whole batch, B sentences at once, for every word that is written.


def dot(query, keys):
    """e_ij = q_i . k_j (Luong et al., 2015): (B, Tt, H), (B, Ts, H) -> (B, Tt, Ts).

    Large where the two vectors point the same way.  It has nothing of its own to learn.
    """
    return query @ keys.transpose(1, 2)


def attend(scores, values, mask):
    """scores (B, Tt, Ts), values (B, Ts, H), mask (B, Ts), True at real words.

    Returns contexts (B, Tt, H) and weights (B, Tt, Ts), which sum to 1 over real words.
    """
    # exp(-infinity) = 0: padding gets no weight, and takes none away from the others.
    # The mask becomes (B, 1, Ts): the same for every word that is written.  It needs
    # one True in each row: if all were masked, the softmax would be 0 / 0, nan.
    scores = scores.masked_fill(~mask.unsqueeze(1), -math.inf)
    weights = scores.softmax(2)  # (B, Tt, Ts)
    return weights @ values, weights  # c_i = sum_j a_ij v_j


# Three more scores have become known: a query and a key in, a number out, as with dot.


def scaled_dot_product(query, keys):
    """e_ij = q_i . k_j / sqrt(H) (Vaswani et al., 2017).  `show_scaling` says why."""
    return dot(query, keys) / math.sqrt(query.shape[2])


def general(query, keys, w):
    """e_ij = q_i . W k_j (Luong et al., 2015): W (H, H) says what to compare."""
    return dot(query, keys @ w.T)  # row j of keys @ W.T is W k_j


def additive(query, keys, w_query, w_key, u):
    """e_ij = u . tanh(W_query q_i + W_key k_j) (Bahdanau et al., 2015).

    A small network with A numbers inside: w_query, w_key (A, H), u (A,).  It alone needs
    a vector for every pair (i, j): for a batch of 64 pairs of 15 words, and A = 128,
    64 * 15 * 15 * 128 * 4 bytes = 7.4 MB.  The scores alone take 58 KB.
    """
    from_query = (query @ w_query.T).unsqueeze(2)  # (B, Tt, 1, A)
    # The same for every word written: a fast search would compute it once a sentence.
    from_keys = (keys @ w_key.T).unsqueeze(1)  # (B, 1, Ts, A)
    return torch.tanh(from_query + from_keys) @ u  # (B, Tt, Ts, A) -> (B, Tt, Ts)


def show_four_scores():
    """The four scores of one query and two keys; `attend` against PyTorch's own."""
    query = torch.tensor([[[1.0, 0.5]]])  # (1, 1, 2)
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])  # (1, 2, 2)
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # swaps a vector's two numbers
    ones = torch.tensor([1.0, 1.0])
    four = {
        "dot": dot(query, keys),
        "scaled-dot-product": scaled_dot_product(query, keys),
        "general": general(query, keys, w=swap),
        "additive": additive(query, keys, w_query=swap, w_key=torch.eye(2), u=ones),
    }
    print("\nThe same query, the keys [1, 0] and [0, 1], by the four scores")
    for name, scores in four.items():
        first, second = scores[0, 0].tolist()
        weights = scores.softmax(2)[0, 0].tolist()
        line = f"  {name:<20} scores {first:.3f} {second:.3f}"
        print(f"{line}   weights {weights[0]:.3f} {weights[1]:.3f}")
    print("By hand: scaled, 1 / sqrt(2) and 0.5 / sqrt(2).  general: this W swaps the")
    print("numbers of a key, so the query finds the other key.  additive, first key:")
    print("tanh([0.5, 1.0] + [1, 0]) = tanh([1.5, 1.0]), and its numbers added up.")

    # A batch, some of it padding, against PyTorch's own.  There too True in a mask means:
    # may be looked at.  (A trap: in nn.MultiheadAttention it means the opposite.)
    torch.manual_seed(9)
    queries = torch.randn(3, 4, 6, dtype=torch.double)  # (B, Tt, H)
    memory = torch.randn(3, 5, 6, dtype=torch.double)  # (B, Ts, H)
    real = utils.length_mask(torch.tensor([5, 2, 3]), 5)  # (B, Ts)
    ours, _ = attend(scaled_dot_product(queries, memory), memory, real)
    theirs = F.scaled_dot_product_attention(queries, memory, memory, real.unsqueeze(1))
    gap = (ours - theirs).abs().max()
    print(f"A batch by PyTorch's F.scaled_dot_product_attention: {gap:.0e} apart, and")
    print("that is rounding: it is the same.")


# Why divide by sqrt(H)?  The reason is one of Transformers.  A dot product is a sum of
# H products.  If the numbers of q and k are random, with mean 0 and variance 1, each
# product has variance 1 too, and the sum has variance H: its standard deviation is
# sqrt(H).  So the longer the vectors, the larger the scores.  Of large scores a softmax
# makes one weight near 1 and the others near 0.  There a (1 - a), the derivative from
# above, is near 0: it hardly learns.


def show_scaling():
    """The largest of five weights, and a (1 - a), for longer and longer vectors."""
    torch.manual_seed(9)
    print("\nFive random keys, vectors of H numbers of variance 1; 200 queries, means.")
    print("deviation: of q . k; largest: the largest weight; a(1-a): its mean.")
    print("                                  dot                scaled")
    print("      H   sqrt(H)   deviation   largest   a(1-a)   largest   a(1-a)")
    for size in (4, 64, 1024):
        query = torch.randn(200, 1, size)
        keys = torch.randn(200, 5, size)
        scores = dot(query, keys)  # (200, 1, 5)
        line = f"  {size:>5}   {math.sqrt(size):>7.1f}   {scores.std():>9.1f}"
        scaled = scaled_dot_product(query, keys)
        for weights in (scores.softmax(2), scaled.softmax(2)):
            slope = (weights * (1 - weights)).mean()
            line += f"   {weights.amax(2).mean():>7.2f}   {slope:>6.3f}"
        print(line)
    print("With H = 1024, plain dot looks at one key alone before it has learned")
    print("anything, and a (1 - a) is small.  (Five equal weights: 0.2 * 0.8 = 0.160.)")
    print("Scaled, all sizes H begin alike.")


# In our network the reason does not apply.  Its numbers are far smaller than 1: before
# training the dot products have a standard deviation of 0.005 (on the sample, seeds 0,
# 1 and 2; H = 256).  So it starts by looking everywhere alike, as in
# `show_learning_to_look`, and lets the vectors grow as far as they need to.
#
# Which score should you take?  These four came out close together (section 4).  A
# likely reason: `shrink` puts a learned matrix between the encoder's state s_j and the
# key, so our dot, q . (W_s s_j + b_s), is nearly Luong's general.  Take dot, the
# simplest and cheapest; scaled, where vectors are long and of variance 1; general or
# `shrink`, if query and states have different lengths.  (The runs here take additive
# only because attention began with it.)

# --- Attention in a decoder -----------------------------------------------------------
#
# Where does it stand?  In this lesson after the recurrence (Luong et al., 2015):
#
#     encoder, both ways:           s_1  s_2  s_3 ---- last state of each way
#                                    |    |    |             |
#     word before                    |    |    |  shrink     |  bridge
#         |                          v    v    v             v
#         v                         k_1  k_2  k_3      the LSTM's first state
#     [ LSTM ] ----> q_i ---- score with k_1 k_2 k_3 ----> e_i1  e_i2  e_i3
#         |           |                                          |
#         v           |                                          |  mask, softmax
#     to the next     |                                          v
#     word's LSTM     |                                    a_i1  a_i2  a_i3
#                     |                                          |
#                     |                                          |  weighted mean of k_j
#                     v                                          v
#                [c_i; q_i] <----------------------------------- c_i
#                     |
#                     |  tanh(W_c [c_i; q_i] + b_c)
#                     v
#                   h_att ----> output layer ----> a number for every word of French
#
# q_i is the LSTM's state, of the top layer if there are several.  [c_i; q_i] is the
# context and the state side by side, 2H numbers.  The output layer reads H numbers, for
# it shares its matrix with the embedding (below).  So W_c makes H of 2H, and learns how
# much to take of either; tanh keeps them in -1 ... 1, like an LSTM's state.  That is
# h_att, the state after it has looked; in lesson 08 the output layer read q_i.  The
# bridge are two linear layers: they make the decoder's first h and c of the last state
# of the encoder's way there and that of its way back (lesson 07).
#
# The LSTM's states depend on its first state and on the words before, not on what was
# looked at.  So in training, where the words are known, one call computes all states,
# and one matrix product all scores.
#
# What does it cost?  Every word written is compared with every word read: Tt * Ts
# scores a sentence, in time and in memory.  Both sentences twice as long: four times as
# much.  Captions are short, and most of the work is the output layer, over all words of
# French.  On multi30k, with two threads of an idle machine, six epochs take 449 s with
# none, 465 s with dot, 507 s with additive (5.28, 5.28, 5.35 million parameters).
#
# Bahdanau et al. (2015), who invented attention, put it before the recurrence.  The
# query is the state before this word, q_(i-1), and the cell reads the context with the
# word.  Thus the state remembers what was looked at.  The price: every word has to wait
# for the one before, also in training.


def bahdanau_step(x, state, keys, mask, cell, score_parameters):
    """Attention before the recurrence, one step, for comparison: called nowhere here.

    x (B, H) the word before, state (B, H), cell an nn.GRUCell(2 * H, H) (lesson 06),
    score_parameters (w_query, w_key, u) of `additive`.  Returns state and weights.
    """
    query = state.unsqueeze(1)  # (B, 1, H): q_(i-1), the state before this word
    scores = additive(query, keys, *score_parameters)  # (B, 1, Ts)
    context, weights = attend(scores, keys, mask)  # (B, 1, H), (B, 1, Ts)
    state = cell(torch.cat([x, context[:, 0]], dim=1), state)  # (B, H): q_i
    return state, weights


# Which is better is not measured.  Input feeding, between the two, is in section 5.

# --- The network ----------------------------------------------------------------------
#
# It takes one of five kinds of attention.  Four are the scores from above.  The fifth
# is the opponent, `none`: the same network with one key instead of Ts.  That key is the
# summary of the whole sentence, the encoder's two ends side by side, through `shrink`.
# The softmax of a single number is 1, whatever its score.  So the decoder is handed the
# same summary at every word, and has nothing to choose.  Its parameters are as many as
# with `dot`.  Lesson 08's network is weaker (18.6 BLEU on multi30k against 32.2): among
# others, it sees its summary only at the start, and reads in one direction.


def general_as_learned(query, keys, learned):
    """`general` as the network has it: what it learns is sqrt(H) * W.

    Adam moves any number by about the learning rate, so W by a sixteenth of it (H = 256).
    Learning W itself had 47.1 BLEU in an early trial, this 55.8.
    """
    return general(query, keys, learned / math.sqrt(query.shape[2]))


SCORES = {
    "additive": additive,
    "dot": dot,
    "general": general_as_learned,
    "scaled-dot-product": scaled_dot_product,
    "none": dot,
}


def draw_score_parameters(kind, hidden, inner):
    """What the score itself learns, as it starts: a list of tensors."""
    if kind == "additive":
        shapes = [(inner, hidden), (inner, hidden), (inner,)]  # W_query, W_key, u
        # Small, so that tanh starts where it is steep.
        return [torch.randn(shape) / hidden**0.5 for shape in shapes]
    if kind == "general":
        # sqrt(H) times the identity, so W is the identity: it starts as dot.
        return [torch.eye(hidden) * hidden**0.5]
    return []


class Translator(nn.Module):
    """An encoder that reads both ways, attention, a decoder.

    A state is a tuple of the decoder's h and c, (B, L, H) each.  PyTorch's LSTM wants
    (L, B, H); here the sentences come first, because the search (section 4) picks rows
    of every part of a state, and a row must be a sentence.
    """

    # Vectors of H numbers that the LSTM reads at each step: the word before, no more.
    decoder_reads = 1

    def __init__(
        self,
        sources,
        targets,
        hidden,
        layers=1,
        dropout=0.0,
        kind="additive",
        inner=128,
    ):
        super().__init__()
        self.kind = kind
        self.score = SCORES[kind]
        options = {"batch_first": True, "dropout": dropout if layers > 1 else 0.0}
        self.embed_source = nn.Embedding(sources, hidden)
        self.encoder = nn.LSTM(hidden, hidden, layers, bidirectional=True, **options)
        self.shrink = nn.Linear(2 * hidden, hidden)  # both directions -> a key
        self.bridge_h = nn.Linear(2 * hidden, hidden)  # their ends -> the first state
        self.bridge_c = nn.Linear(2 * hidden, hidden)
        self.embed_target = nn.Embedding(targets, hidden)
        size = self.decoder_reads * hidden
        self.decoder = nn.LSTM(size, hidden, layers, **options)
        self.combine = nn.Linear(2 * hidden, hidden)  # W_c and b_c of the drawing
        self.output = nn.Linear(hidden, targets)
        # One matrix reads target words and writes them (Press and Wolf, 2017).  That
        # saves parameters; and words that are alike when read are alike when written.
        self.output.weight = self.embed_target.weight
        # Small at the start: PyTorch's own start, of variance 1, suits a matrix that
        # reads, but as the output layer it would give huge numbers.
        for embedding in (self.embed_source, self.embed_target):
            nn.init.uniform_(embedding.weight, -0.1, 0.1)
        self.dropout = nn.Dropout(dropout)
        # The score's own parameters are drawn last, so that all others start alike.
        drawn = draw_score_parameters(kind, hidden, inner)
        self.score_parameters = nn.ParameterList(drawn)

    def encode(self, ids, lengths):
        """ids (B, Ts) -> keys (B, Ts, H), mask (B, Ts), the decoder's first state.

        lengths (B,) stay on the CPU, where pack_padded_sequence wants them.
        """
        x = self.dropout(self.embed_source(ids))  # (B, Ts, H)
        # Packed, so that the way back starts at the last word and not in the padding.
        packed = pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        packed_states, (h, c) = self.encoder(packed)  # h and c: (2L, B, H)
        options = {"batch_first": True, "total_length": ids.shape[1]}
        states, _ = pad_packed_sequence(packed_states, **options)  # (B, Ts, 2H)
        mask = utils.length_mask(lengths, ids.shape[1], ids.device)  # (B, Ts)
        # PyTorch's order in h and c: there, back, there, back, a pair for each layer.
        # There and back side by side, for each layer: (B, L, 2H).
        h = torch.cat([h[0::2], h[1::2]], dim=2).transpose(0, 1)
        c = torch.cat([c[0::2], c[1::2]], dim=2).transpose(0, 1)
        if self.kind == "none":  # one key: the summary, of the top layer
            states = h[:, -1:]  # (B, 1, 2H)
            mask = mask[:, :1]  # (B, 1)
        # A key is a linear image of the two states at its word, there and back.
        keys = self.shrink(self.dropout(states))  # (B, Ts, H)
        # An LSTM's h always lies in -1 ... 1, so tanh; its memory c may be larger.
        first_h = torch.tanh(self.bridge_h(h))  # (B, L, H)
        first_c = self.bridge_c(c)  # (B, L, H)
        return keys, mask, (first_h, first_c)

    def run_lstm(self, x, h, c):
        """x (B, Tt, ...), h and c (B, L, H) -> states (B, Tt, H), the new h and c."""
        # nn.LSTM insists on numbers that lie in order in memory: contiguous.
        before = (h.transpose(0, 1).contiguous(), c.transpose(0, 1).contiguous())
        states, (h, c) = self.decoder(x, before)
        return states, h.transpose(0, 1), c.transpose(0, 1)

    def look(self, query, keys, mask):
        """query (B, Tt, H) -> h_att (B, Tt, H), weights (B, Tt, Ts)."""
        scores = self.score(query, keys, *self.score_parameters)  # (B, Tt, Ts)
        context, weights = attend(scores, keys, mask)  # the keys are the values
        both = torch.cat([context, query], dim=2)  # [c_i; q_i]: (B, Tt, 2H)
        return torch.tanh(self.combine(both)), weights

    def decode(self, words, state, keys, mask):
        """words (B, Tt) -> h_att (B, Tt, H), the state after the last, weights."""
        x = self.dropout(self.embed_target(words))  # (B, Tt, H)
        query, h, c = self.run_lstm(x, *state)  # (B, Tt, H): all steps in one call
        h_att, weights = self.look(query, keys, mask)
        return h_att, (h, c), weights

    def follow(self, source, lengths, target):
        """Read, and follow the true words (teacher forcing): h_att and the weights."""
        keys, mask, state = self.encode(source, lengths)
        #     target   le      chat   .      <eos>   <pad>
        #     given    <bos>   le     chat   .       <eos>     one step behind
        # What it makes of the last one is at a <pad>, and dropped by whoever calls.
        given = F.pad(target[:, :-1], (1, 0), value=BOS)  # (B, Tt)
        h_att, _, weights = self.decode(given, state, keys, mask)
        return h_att, weights  # (B, Tt, H), (B, Tt, Ts)

    def forward(self, source, lengths, target):
        """A number for every word (M, V) at each of the M real target words."""
        h_att, _ = self.follow(source, lengths, target)
        # The output layer is most of the work: spare it the padding.
        return self.output(self.dropout(h_att[target != PAD]))  # (M, V)


@torch.no_grad()
def show_shapes(model, data):
    """Two training pairs as one batch through an untrained network: every shape."""
    pairs = sorted(data.parts[0][:200], key=lambda pair: len(pair[0]))
    two = [pairs[0], pairs[len(pairs) // 2]]  # a short one and a longer one
    batch = utils.encode_pairs(two, data.vocabularies, MAX_LENGTH, data.cut)
    source = batch["source"]
    lengths = batch["source_length"]
    target = batch["target"]
    model.eval()  # no dropout
    keys, mask, state = model.encode(source, lengths)
    given = F.pad(target[:, :-1], (1, 0), value=BOS)
    query, _, _ = model.run_lstm(model.embed_target(given), *state)
    scores = model.score(query, keys, *model.score_parameters)
    context, _ = attend(scores, keys, mask)
    # look() does these two by itself; here they stand apart, to print their shapes.
    h_att, weights = model.look(query, keys, mask)
    output = model.output(h_att[target != PAD])
    real = batch["target_length"].tolist()
    print("\nTwo pairs in one batch, every shape (the network is not trained yet):")
    for name, tensor, meaning in (
        ("source", source, f"ids; {lengths.tolist()} words, then <pad>"),
        ("target", target, f"ids; {real} words with <eos>, then <pad>"),
        ("keys", keys, "k_j, and v_j: they are the same"),
        ("query", query, "q_i, one for each word written"),
        ("scores", scores, "e_ij, each query with each key"),
        ("weights", weights, "a_ij, after mask and softmax: 0 at <pad>"),
        ("context", context, "c_i"),
        ("h_att", h_att, "the state that has looked"),
        (
            "output",
            output,
            f"{' + '.join(map(str, real))} real words; V numbers for each",
        ),
    ):
        print(f"  {name:<8} {tuple(tensor.shape)!s:<15} {meaning}")
    first = " ".join(f"{weight:.2f}" for weight in weights[0, 0].tolist())
    print(f"  weights of the first query: {first}")


# ====================================================================================
# 3. Training
# ====================================================================================
#
# As in lesson 08: teacher forcing, and the cross-entropy of each real word, in nats.
# No loss speaks of the attention weights: where to look is learned on the way.  The
# learning rate rises in the first quarter of the run and then falls to 0 (lesson 04):
# so that the curves flatten says nothing of what more epochs would bring.
#
# One detail is new, label smoothing (Szegedy et al., 2016).  Without it the true word
# should get probability 1.  Now a share of that, 0.1, is spread evenly over all V
# words, so that the network is not pushed to be entirely sure.  With V = 197, as in the
# sample, the true word is asked for 0.9 + 0.1 / 197 = 0.9005, each other for 0.0005.
#
#     loss = (1 - share) * nats - share * mean of log p over all words
#
# That cannot fall to 0.  Its floor, 0.849 in the sample run, is that of a network that
# answers exactly as it is asked to, with nats of -ln 0.9005 = 0.105.  nats itself can
# fall below 0.105: then the network is surer than asked, and pays for it in the
# smoothed loss.  The sample run ends at a val_loss of 0.090.  What smoothing gains has
# not been measured.
#
# Below each epoch stands the mean largest weight: how sure the network is where to
# look.  In the sample run it is 0.10 before training (a source has about ten words),
# then 0.11 and 0.16: for two epochs it looks almost everywhere alike, as in
# `show_learning_to_look`.  That is no better than a summary: val_loss falls to 3.00,
# that of `none` to 2.90.  In epochs 3 and 4 it finds where to look: 0.36, then 0.75
# (0.91 at the end).  There val_loss falls to 0.32, that of `none` to 1.29.


def make_measure(smoothing=0.0):
    """The function `measure` for `fit`: values of each real word, (M,) each."""

    def measure(model, batch):
        scores = model(batch["source"], batch["source_length"], batch["target"])
        # float(): with --precision bf16 the scores come in half precision.
        log_p = scores.float().log_softmax(1)  # (M, V)
        truth = batch["target"][batch["target"] != PAD]  # (M,)
        nats = -log_p.gather(1, truth.unsqueeze(1)).squeeze(1)  # (M,)
        if not model.training:
            return {"loss": nats}  # validation and test: always the plain one
        # As F.cross_entropy(..., label_smoothing=smoothing).
        loss = (1 - smoothing) * nats - smoothing * log_p.mean(1)
        return {"loss": loss, "nats": nats}

    return measure


@torch.no_grad()
def mean_largest_weight(model, batches, args):
    """How sure the network is where to look: a mean over all real target words."""
    largest = []
    model.eval()  # no dropout: no random number is drawn
    with utils.autocast(args):
        for batch in batches:
            target = batch["target"]
            _, weights = model.follow(batch["source"], batch["source_length"], target)
            largest.append(weights.amax(2)[target != PAD])  # (M,)
    return torch.cat(largest).float().mean().item()


def train_model(kind, config, data, args, feeds):
    """A new model of this kind, always from the same seed: (model, records)."""
    config = {**config, "kind": kind}
    utils.set_seed(args.seed)
    model = build(**config).to(args.device)  # a Translator
    measure = make_measure(args.label_smoothing)

    def look_sure(record=None):
        if kind != "none":  # its one weight is always 1
            sure = mean_largest_weight(model, data.val, args)
            print(f"             mean largest weight {sure:.2f}")

    look_sure()  # before training; then after each epoch
    records = utils.fit(
        model, measure, data.train, data.val, args, config, feeds, after_epoch=look_sure
    )
    return model, records


def read_training():
    """Print how the columns of the training are to be read."""
    print("Each line: `loss` is the smoothed one.  `nats` and `val_loss` are the plain")
    print("loss, on sentences of training and on new ones: compare these.  nats may be")
    print("the higher one: it is taken with dropout on, while the network improves.")
    print("grad_norm: the gradient's length before clipping (lesson 04).  Seconds: of")
    print("this machine, busy or not; do not compare the kinds by them (section 2 has")
    print("times of an idle one).  mean largest weight: over all words of validation,")
    print("how sure it is where to look; the first is before training.")


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# First it has to write: greedily and by beam search, with lesson 08's shared search.


def make_advance(model, keys, mask, beam_size):
    """The decoder's step for `utils.beam_search` (lesson 08).

    Words (R,) and a state -> log p (R, V) and the new state; R is B * beam size.
    """
    # A sentence's rows stand one below the other, one for each beginning in its beam,
    # and all see its keys.
    keys = keys.repeat_interleave(beam_size, 0)  # (R, Ts, H)
    mask = mask.repeat_interleave(beam_size, 0)  # (R, Ts)

    def advance(words, state):
        h_att, state, _ = model.decode(words.unsqueeze(1), state, keys, mask)
        return model.output(h_att[:, 0]).float().log_softmax(1), state  # (R, V)

    return advance


@torch.no_grad()
def translate(model, texts, data, args, beam_size):
    """The best answer to each of N texts: a list of lists of words."""
    pairs = [(text, "") for text in texts]
    tensors = utils.encode_pairs(pairs, data.vocabularies, MAX_LENGTH, data.cut)
    answers = [None] * len(texts)
    model.eval()
    with utils.autocast(args):  # half precision with --precision bf16, else nothing
        for batch in utils.Batches(tensors, 100, args.device, bucket="source"):
            keys, mask, state = model.encode(batch["source"], batch["source_length"])
            limits = (2 * batch["source_length"] + ROOM).to(args.device)
            advance = make_advance(model, keys, mask, beam_size)
            best = utils.beam_search(advance, state, limits, beam_size)
            # A batch has rows from all over the data: each answer to its own place.
            for place, (ids, _) in zip(batch["index"].tolist(), best, strict=True):
                answers[place] = data.vocabularies[1].decode(ids)
    return answers


# --- Where did it look? ---------------------------------------------------------------
#
# The weights of all words of an answer make a grid: a row for each word written, a
# column for each word of the source.  It is called an alignment.  How to read it, with
# what the sample run prints:
#   - a large weight: while it wrote the word of this row, it looked at that column
#   - large weights along the diagonal: the order is the same.  A crossing: it changes, as
#     "souris noires" looks at "mice", then back at "black"
#   - a row without one large weight: no single source word stands for this word.
#     "cherche" is "looks for": 61 % at "looks", 36 % at "for"
#   - a large weight at an odd place: k_j is the state of a network that has read all the
#     other words too.  "elle" looked at the full stop with 64 % and at "she" with 22 %:
#     that state *can* know of "she", and nothing makes it prefer the place we would
#   - the last row, <eos>: where it looks when it stops.  Here that is the full stop
#
# The sentences shown are chosen (`examples` and `first_wrong`, in section 5): up to
# three short ones of test with a colour, for there the order crosses, and the first
# short one that went wrong.  Then the weights are a first clue, no more.  "an old man"
# became "de vieux homme"; before a vowel sound it is "vieil".  While it wrote "vieux"
# it looked at "old", with 97 %: the right place.  So what failed is the choice of the
# word.


def read_source(model, text, data, args):
    """What `encode` makes of one text: keys (1, Ts, H), mask (1, Ts), state."""
    words = data.cut(text)[:MAX_LENGTH] or [utils.UNK]  # an empty text
    source, lengths = utils.pad([data.vocabularies[0].encode(words)])
    return model.eval().encode(source.to(args.device), lengths)


def given_words(words, data, args):
    """What the decoder is given to write these words: the one before each, (1, Tt)."""
    ids = data.vocabularies[1].encode(words)
    return torch.tensor([[BOS, *ids[:-1]]], device=args.device)


@torch.no_grad()
def where_it_looked(model, text, words, data, args):
    """The weights (Tt, Ts) of each word of an answer on each word of its source.

    The answer is given as if it were the truth, so each word looks as when it was written.
    """
    keys, mask, state = read_source(model, text, data, args)
    _, _, weights = model.decode(given_words(words, data, args), state, keys, mask)
    return weights[0].float().cpu()


def print_looks(words, source, weights):
    """A line for each word written: where it looked most; if unsure, the second too."""
    for word, row in zip(words, weights, strict=True):
        order = row.argsort(descending=True).tolist()
        line = f"     {word:<14} {row[order[0]]:4.0%}  {source[order[0]]:<12}"
        if row[order[0]] < 0.7 and len(order) > 1:
            line += f" {row[order[1]]:4.0%}  {source[order[1]]}"
        print(line.rstrip())


def print_grid(rows, columns, weights, least=0.0):
    """Every weight: a row for each word that looks.  Below `least`: a dot."""
    print("  " + " " * 8 + "".join(f"{word[:6]:>7}" for word in columns))
    for word, row in zip(rows, weights.tolist(), strict=True):
        cells = [f"{weight:.2f}" if weight >= least else "." for weight in row]
        print(f"  {word[:8]:<8}" + "".join(f"{cell:>7}" for cell in cells))


def show_alignments(model, texts, data, args):
    """Translations by beam search, and where each word looked; the first is returned."""
    truth = dict(data.parts[2])
    answers = translate(model, texts, data, args, args.beam_size)
    grid = None  # the first that is narrow enough to be printed whole
    if model.kind == "none":
        print("\nSome answers.  (With `none` there are no places to choose from.)")
    else:
        print(f"\nWhere did it look?  ({model.kind})  Each word written, and the word")
        print("read with the largest weight; if that is below 70 %, also the second.")
    for number, (text, words) in enumerate(zip(texts, answers, strict=True), start=1):
        source = data.cut(text)[:MAX_LENGTH]
        print(f"\n  source     {text[:200]}")
        if text in truth:
            print(f"  reference  {truth[text]}")
        print(f"  answer     {data.join(words)}")
        unknown = [word for word in source if word not in data.vocabularies[0]]
        if unknown:
            print(f"  (words that training lacks: {' '.join(unknown[:9])})")
        if model.kind == "none" or not words or not source:
            continue
        written = [*words, utils.EOS]
        weights = where_it_looked(model, text, written, data, args)  # (Tt, Ts)
        rows = mark_ends(written)  # without --pieces, mark_ends changes nothing
        columns = mark_ends(source)
        print_looks(rows, columns, weights)
        if grid is None and len(columns) <= 10:
            grid = (rows, columns, weights)
        name = f"alignment_{number}"
        title = f"{data.dataset.label}, {model.kind}"
        utils.plot_matrix(
            args, name, title, weights, rows, columns, "source", "answer", bar="weight"
        )
    if grid:
        print("\nThe whole grid of one of them.  A row sums to 1; a dot: below 0.05.")
        print_grid(*grid, least=0.05)
    return texts[0], answers[0]


# How often is it the right place?  Lesson 08's dictionary was counted from the training
# pairs.  For each English word it names the French word that likeliest goes with it,
# its entry.  It can judge a word of the answer that is the entry of exactly one word of
# the source.  With "the" twice in a source, "la" could come from either: not judged.
# The rest may well be the harder ones.  (On multi30k: 736 of 1,442 words, 90.4 %
# right.)


def first_hundred(answers, data):
    """(source text, words of the answer) of up to 100 test sentences, none empty."""
    pairs = zip(data.parts[2][:100], answers, strict=False)
    both = [(text, data.cut(said)) for (text, _), said in pairs]
    return [(text, words) for text, words in both if words and data.cut(text)]


def show_right_places(model, answers, dictionary, data, args):
    """How often the largest weight is at the word that a dictionary expects; or None."""
    written = 0
    known = 0  # words for which exactly one word of the source is expected
    right = 0
    by_place = 0  # right if word i of the answer always took word i of the source
    for text, words in first_hundred(answers, data):
        source = data.cut(text)[:MAX_LENGTH]
        written += len(words)
        looks = where_it_looked(model, text, words, data, args).argmax(1).tolist()
        expected = [dictionary.get(word) for word in source]
        for i, word in enumerate(words):
            if expected.count(word) == 1:
                known += 1
                right += looks[i] == expected.index(word)
                by_place += i == expected.index(word)
    if not known:
        return None
    share = f"{known / written:.0%}"
    print("\nHow often is it the right place?  The dictionary names one source word")
    print(f"for {known:,} of {written:,} words ({share}) of up to 100 answers.")
    print(f"There the largest weight is at that word for {right / known:.1%}.")
    print(f"(Word i always at word i would be right for {by_place / known:.1%}.)")
    return right / known


# --- Does it matter where it looked? --------------------------------------------------
#
# The picture is a claim: "noir" was written because of what stood at "black".  Three
# tests, what each shows, and what it cannot show:
#
#   1. `show_covering`.  Cover one word of a source (mask it, so that nothing looks there)
#      and translate again.  It shows what hangs on that word.  It cannot show that
#      nothing does: the states of the other words have read it, too.
#   2. `show_many_covered`.  For each word of 100 answers, cover what it looked at most,
#      keep the words before, and ask for this one again.  It shows whether a word depends
#      on its context.  It cannot show that the word is taken from there: the softmax runs
#      again, and without a weight of 95 % the other 5 % are multiplied by twenty.
#   3. `show_pointing`.  Set all weight by hand on another source word, one whose entry is
#      not the word written.  It shows whether the decoder writes what stands there.  It
#      cannot show that the place chosen by itself was right: the dictionary shows that.
#
# The sample run's answers:
#
#   1. Without "black" only "noir" goes.  But eight of thirteen coverings change nothing,
#      though at six of these eight (a, looks, her, not, it, the full stop) some word had
#      looked with more than half its weight.  "son" looked at "her" with 99 %; cover
#      "her", and it is "son" all the same.  What is needed was to be had elsewhere: in
#      the words before, the decoder's state, or a key that knows its neighbours.
#   2. Here five of twelve words change, fewer than on average: of the words of all answers
#      three in four do, and hardly any if the second place is covered instead.
#   3. More than half become the entry; seven in ten with those that only begin like it.
#      So the decoder takes words from where it looks.  But not blindly: one in fourteen
#      stays what it was, as "un" pointed at "baker".  A likely reason: q_i goes into
#      h_att too, and an article comes first.
#
# On multi30k all is less clear.  Of 1,442 words 63.9 % change if the first place is
# covered, 6.0 % if the second; pointed elsewhere, 31.6 % are the entry.  Cover "red" in
# the docstring's sentence, and it writes "Un homme en t-shirt dans un t-shirt".  Cover
# "man", where "homme" looked with 100 %, and it is "homme" all the same: a good guess,
# for of 14,007 training captions that begin with "un" 6,074 go on with "homme".
#
# Whether such a picture is the reason for a word is disputed.  Jain and Wallace (2019)
# found quite other weights that lead to the same answer; Wiegreffe and Pinter (2019)
# reply that such weights have to be sought on purpose.


@torch.no_grad()
def translate_covered(model, text, place, data, args):
    """The words of an answer that could not look at this place of its source."""
    keys, mask, state = read_source(model, text, data, args)
    mask[0, place] = False
    limits = torch.tensor([2 * mask.shape[1] + ROOM], device=args.device)
    advance = make_advance(model, keys, mask, args.beam_size)
    ((ids, _),) = utils.beam_search(advance, state, limits, args.beam_size)
    return data.vocabularies[1].decode(ids)


def show_covering(model, text, words, data, args):
    """Each word of a source covered in turn, and what is written then."""
    source = data.cut(text)[:MAX_LENGTH]
    if len(source) < 2:
        return
    weights = where_it_looked(model, text, words, data, args)  # (Tt, Ts)
    print("\nDoes it matter where it looked?  Each word of a source is covered in")
    print("turn, so that nothing looks there.  Then the source is translated again.")
    print("The per cent: the largest weight that a word of the answer had given it.")
    print(f"  source                {text[:200]}")
    print(f"  nothing covered       {data.join(words)}")
    for place, word in enumerate(mark_ends(source[:20])):
        covered = translate_covered(model, text, place, data, args)
        largest = weights[:, place].max()
        said = "the same" if covered == words else data.join(covered)
        print(f"  {word:<15} {largest:4.0%}  {said}")
    if words:
        changed, _ = changed_by_covering(model, text, words, data, args)
        print(
            f"Asked for one at a time, the words before kept: {changed[0].sum()} of its"
        )
        print(f"{len(words)} words change if what they looked at most is covered.")


@torch.no_grad()
def ask_again(model, given, state, keys, masks):
    """Word i of an answer, written anew with row i of masks (Tt, Ts): ids (Tt,).

    given (1, Tt): the words before it stay (with --input-feeding, what they looked at
    changes too).  There are Tt copies of the sentence; of copy i word i is read off.
    """
    many = len(masks)
    states = tuple(part.repeat_interleave(many, 0) for part in state)
    all_keys = keys.repeat(many, 1, 1)  # (Tt, Ts, H)
    h_att, _, _ = model.decode(given.repeat(many, 1), states, all_keys, masks)
    rows = torch.arange(many, device=masks.device)
    return model.output(h_att[rows, rows]).argmax(1)  # h_att is (Tt, Tt, H)


@torch.no_grad()
def changed_by_covering(model, text, words, data, args):
    """Does each word of an answer change if one place of the source is covered?

    Two places are tried: that of its largest weight, that of its second largest.
    Returns True where it does, and the weights, both (2, Tt).
    """
    keys, mask, state = read_source(model, text, data, args)
    given = given_words(words, data, args)  # (1, Tt)
    h_att, _, weights = model.decode(given, state, keys, mask)
    written = model.output(h_att[0]).argmax(1)  # (Tt,)
    largest, places = weights[0].float().topk(2)  # (Tt, 2) each
    rows = torch.arange(len(words), device=mask.device)
    changed = []
    for covered in places.T:  # (Tt,)
        masks = mask.repeat(len(words), 1)  # (Tt, Ts)
        masks[rows, covered] = False
        changed.append(ask_again(model, given, state, keys, masks) != written)
    return torch.stack(changed), largest.T


def show_many_covered(model, answers, data, args):
    """What share of 100 answers' words changes, for the two places."""
    tests = []
    for text, words in first_hundred(answers, data):
        if len(data.cut(text)) > 1:
            tests.append(changed_by_covering(model, text, words, data, args))
    if not tests:
        return
    changed = torch.cat([part for part, _ in tests], dim=1)  # (2, words of all answers)
    weights = torch.cat([part for _, part in tests], dim=1)  # (2, words of all answers)
    shares = changed.float().mean(1).tolist()
    means = weights.mean(1).tolist()
    many = changed.shape[1]
    print(f"\nNow {many:,} words of up to 100 answers, one at a time: those before it")
    print("stay.  Covered is                              mean weight   other answer")
    for place, mean, share in zip(("", "second "), means, shares, strict=True):
        name = f"the word with the {place}largest weight"
        print(f"  {name:<44} {mean:>13.1%} {share:>14.1%}")
    print("(Not at equal weight: a large one covered moves the context further.)")


@torch.no_grad()
def point_elsewhere(model, text, words, dictionary, data, args):
    """Each word of an answer, written anew with all weight on another source word.

    Returns (word, where it looked, where it is pointed to, entry, word now) for each.
    """
    source = data.cut(text)[:MAX_LENGTH]
    french = data.vocabularies[1]
    keys, mask, state = read_source(model, text, data, args)
    given = given_words(words, data, args)  # (1, Tt)
    _, _, weights = model.decode(given, state, keys, mask)
    looks = weights[0].argmax(1).tolist()
    masks = mask.repeat(len(words), 1)  # (Tt, Ts)
    trials = {}  # which word of the answer -> what is tried
    for i, word in enumerate(words):
        for step in range(1, len(source)):
            place = (looks[i] + step) % len(source)  # after the last comes the first
            entry = dictionary.get(source[place])
            if entry in french and entry != word:
                masks[i] = False
                masks[i, place] = True  # the only one left: its weight is 1
                trials[i] = (word, source[looks[i]], source[place], entry)
                break
    again = ask_again(model, given, state, keys, masks).tolist()
    return [(*trial, french.tokens[again[i]]) for i, trial in trials.items()]


def show_pointing(model, text, words, answers, dictionary, data, args):
    """All weight on another word: one text's trials; many texts' share, or None."""
    print("\nAnd made to look elsewhere?  For each word all weight is set by hand on")
    print("the next source word whose entry in the dictionary is another word.")
    print("  written        looked at      now all on     its entry      written now")
    # One text, so that each trial can be read.
    for trial in point_elsewhere(model, text, words, dictionary, data, args):
        print("  " + "".join(f"{word:<15}" for word in mark_ends(trial)).rstrip())
    # Then a hundred, so that it can be counted.
    trials = []
    for source, said in first_hundred(answers, data):
        trials += point_elsewhere(model, source, said, dictionary, data, args)
    if not trials:
        return None
    many = len(trials)
    # With the entry's first three letters it may be another form of it: noir, noire.
    moved = sum(now == entry for _, _, _, entry, now in trials) / many
    alike = sum(now[:3] == entry[:3] for _, _, _, entry, now in trials) / many
    same = sum(now == word for word, _, _, _, now in trials) / many
    print(f"Of {many:,} words of up to 100 answers {moved:.1%} are now that entry,")
    print(f"{alike:.1%} (these too) have its first three letters, {same:.1%} are what")
    print("they were.")
    return moved


# --- How much is it worth? ------------------------------------------------------------
#
# What does the same network do if it cannot look back?  That is `none`: at every word
# one and the same summary.  In the sample run the gap is 16.7 BLEU for the shortest
# fifth and 28.9 for the longest; on multi30k it grows with the length too, though not
# at each step (docstring).  That is the story of the bottleneck.  (On multi30k additive
# falls with the length, too, by 12.2 BLEU from the shortest fifth to the longest: such
# captions are harder for other reasons as well.  none falls by 27.4.)
#
# But much of it is there for the shortest already.  What goes wrong there?  Of the 120
# shortest test sentences of the sample `none` gets 40 wrong.  All 40 answers have as
# many words as they should.  In 27 a single word is another one: 14 times another
# adjective ("vieille" for "nouvelle"), 8 times another noun ("Son livre jaune" for "His
# yellow bag"), once another verb, and 4 times only the form is wrong ("chers" for
# "chères").  So the sentence's plan mostly came through the summary; which thing it is
# about, and what that is like, did not.  Of the 120 longest 89 are wrong, 19 too short.
#
# On real captions "a man cutting branches of trees" becomes "Un homme coupant des
# ballons".  Rarer things are lost first.  Of the words of multi30k's references that
# fewer than 10 training sentences have, additive writes 18 % and none 1 %; of those
# that 1,000 or more have, 87 % and 80 %.  (No network writes all: there are many good
# translations.)
#
# Can a summary not hold these things, or has it not been trained for long enough?  With
# 22 epochs instead of 11 none has 93.7 BLEU: 98.5 for the shortest fifth, 90.6 for the
# longest (seed 0).  So a summary can hold a short sentence; it only takes longer to
# learn.  One reason may be the way of the gradient.  With attention the error at a word
# written reaches the state of the word looked at in one step, through its value; with
# none it must go through the summary, and back along the encoder.  What is left grows
# with the length, as a bottleneck would make it.  Whether still more epochs would close
# that too has not been measured.
#
# On multi30k none has 38.4 BLEU after 12 epochs instead of 32.2 after 6 (by beam search
# 41.4 instead of 34.6).  additive has 54.8 after 6: about a quarter of the gap was
# time, at most: additive may gain by more epochs, too.  Longer still was not tried.
#
# Could it be luck?  The paired bootstrap (lesson 08) draws N of these N sentences with
# repeats, a thousand times.  Its p is how often chance alone would make so large a gap;
# the least it can be is 1 / 1,001.  So p speaks of the luck of the sentences, and of no
# other.  Below 0.05 one stops believing in luck.
#
# The luck of the seed takes several seeds.  On the sample, with seeds 0, 1 and 2,
# additive has 99.4, 99.9 and 99.9 BLEU, none 77.3, 80.5 and 80.3, dot 99.8, 99.7 and
# 99.8.  So the gap to none is far larger than what the seed moves; that between
# additive and dot is not.
#
# On multi30k (one seed) p = 0.001 for the gap of each kind to none.  The four kinds of
# attention are not to be told apart, but for scaled, which is behind general: p = 0.002
# greedy, of six pairs compared, and 0.11 by beam search.  More dropout, 0.3, did not
# help none (30.6 BLEU, greedy).


def same_words(said, wanted):
    """Whether two texts have the same words in the same order, whatever their case."""
    return utils.split_pair(said) == utils.split_pair(wanted)


def show_with_and_without(judged, data):
    """Two short test sentences that only `none` gets wrong, and a longest: each model."""
    pairs = data.parts[2]
    sizes = [len(utils.split_pair(source)) for source, _ in pairs]
    answers = {kind: greedy for kind, (greedy, _, _, _) in judged.items()}
    first = next(iter(answers))  # the kind asked for
    places = []
    for place in sorted(range(len(pairs)), key=lambda place: sizes[place]):
        truth = pairs[place][1]
        wrong = not same_words(answers["none"][place], truth)
        if wrong and same_words(answers[first][place], truth):
            places.append(place)
    print("\nWith attention and without (none), greedy: up to two short test sentences")
    print(f"that {first} gets right and none does not, and one of the longest.")
    for place in [*places[:2], sizes.index(max(sizes))]:
        source, truth = pairs[place]
        texts = {"source": source, "reference": truth}
        for kind in answers:
            texts[kind] = answers[kind][place]
        for name, text in texts.items():
            print(f"  {name:<18}  {text[:200]}")


# ====================================================================================
# Outlook: self-attention, the step to Transformers
# ====================================================================================
#
# So far the queries came from the decoder and the keys from the encoder.  They may as
# well come from the same sentence: each word asks all words of its own sentence, itself
# included, and takes home a mean.  That is self-attention.  Each word has one vector
# x_j.  Were query, key and value all x_j, each word would mostly find itself, for
# nothing is as like it as itself.  So three matrices are learned:
#
#     q_j = W_q x_j   what it looks for        k_j = W_k x_j   what it is to be found by
#     v_j = W_v x_j   what it gives
#
# Below they are by hand.  Adjectives and verbs look for nouns, nouns for adjectives.
# What a word gives is which animal it is.
#
# No word waits for another: all is one matrix product, and the first word is as near to
# the last as to the second.  The price is a table of T * T scores.  And something is
# lost.  Compare what "black" takes home in these two sentences:
#
#     black cat sees white dog            white cat sees black dog
#
# Each has the same five words, and attention is a mean over a bag of words: nothing in
# it says which stands where.  The remedy is to add to each x_j a vector that tells the
# place j: here the sine and the cosine of 0.6 j, the tip of a clock's hand that moves
# on by 0.6 with each word.  A W_q that turns it on by 0.6 asks for "the place after
# mine".

SELF_X = {  # adjective, noun, verb; cat, dog; sine, cosine of the place, still 0
    "black": [1, 0, 0, 0, 0, 0, 0],
    "white": [1, 0, 0, 0, 0, 0, 0],
    "cat": [0, 1, 0, 1, 0, 0, 0],
    "dog": [0, 1, 0, 0, 1, 0, 0],
    "sees": [0, 0, 1, 0, 0, 0, 0],
}
TURN = 0.6
# x has the seven numbers named above.  A query and a key have five: how much of
# adjective, noun, verb is wanted or is there, and sine and cosine of a place.
#
# Take "black" by hand.  It looks for nouns, so its query is to be [0, 9, 0, 0, 0].  Its
# x is [1, 0, 0, ...]: W_q x is the first column of W_q, so that column is this query.
# The key of "cat" is [0, 1, 0, 0, 0]: the score is 9 / sqrt(5) = 4.0, and 0 for all but
# the two nouns.  The weight of "cat" is e^4.0 / (2 e^4.0 + 3) = 0.49.
#
# With places, the last two rows turn the hand on by 0.6 (the addition theorem), and
# make it 5 long.  The dot product of two hands is the cosine of the angle between them.
# So the score of "black", the first, at "cat", the next, grows by 5 / sqrt(5) = 2.24,
# and at "dog", three places after that, by 5 cos(0.6 * 3) / sqrt(5) = -0.51.  (9 and 5
# are chosen: large enough that the softmax is nearly sure.)
SELF_W_Q = [
    # columns, who looks: adjective, noun, verb, cat, dog, sine, cosine
    [0, 9, 0, 0, 0, 0, 0],  # how much an adjective is wanted: by nouns, 9
    [9, 0, 9, 0, 0, 0, 0],  # how much a noun is: by adjectives and verbs
    [0, 0, 0, 0, 0, 0, 0],  # how much a verb is: by nobody
    [0, 0, 0, 0, 0, 5 * math.cos(TURN), 5 * math.sin(TURN)],  # sine of the next place
    [0, 0, 0, 0, 0, -5 * math.sin(TURN), 5 * math.cos(TURN)],  # and its cosine
]
SELF_W_K = torch.eye(7)[[0, 1, 2, 5, 6]]  # (5, 7): a key is the kind of word, the place
SELF_W_V = torch.eye(7)[[3, 4]]  # (2, 7): a value is the animal, [cat, dog]


def self_vectors(sentence, with_places):
    """The vectors of a sentence's words, (1, T, 7)."""
    x = torch.tensor([[SELF_X[word] for word in sentence.split()]], dtype=torch.float)
    if with_places:
        angles = TURN * torch.arange(x.shape[1])  # (T,)
        x[0, :, 5] = angles.sin()
        x[0, :, 6] = angles.cos()
    return x


# Last, the causal mask: no word may look at those after it.  Why?  While a decoder
# writes there are none.  But in training it is given the whole true sentence at once
# (teacher forcing).  An LSTM cannot look ahead in it.  Self-attention can: it would
# copy the very word that it should guess.  With the mask all places are trained in one
# product, and each sees only what it will see when it writes.


def self_attention(x, w_q, w_k, w_v, causal=False):
    """x (1, T, 7) -> what each word takes home, and the weights (1, T, T)."""
    scores = scaled_dot_product(x @ w_q.T, x @ w_k.T)  # (1, T, T)
    if causal:
        later = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()  # above the diagonal
        scores = scores.masked_fill(later, -math.inf)
    no_padding = torch.ones(1, x.shape[1], dtype=torch.bool)
    return attend(scores, x @ w_v.T, no_padding)


def show_self_attention():
    """Five words look at each other: without places, with places, and causal."""
    matrices = (torch.tensor(SELF_W_Q, dtype=torch.float), SELF_W_K, SELF_W_V)
    first = "black cat sees white dog"
    second = "white cat sees black dog"
    words = first.split()
    print("A row for each word that looks, without places:")
    _, weights = self_attention(self_vectors(first, False), *matrices)
    print_grid(words, words, weights[0])
    print("Each finds what it looks for, at any distance.  But in which order?  What")
    print('"black" takes home, [cat, dog]:    without places    with places')
    for sentence in (first, second):
        line = f"  {sentence:<33}"
        for with_places in (False, True):
            x = self_vectors(sentence, with_places)
            home, _ = self_attention(x, *matrices)  # (1, T, 2)
            cat, dog = home[0, sentence.split().index("black")].tolist()
            line += f"[{cat:.2f}, {dog:.2f}]      "
        print(line.rstrip())
    print("Without places both sentences are the same to it.  With them, it finds")
    print("the noun that comes next: the order is back.  All looks, with places:")
    _, weights = self_attention(self_vectors(first, True), *matrices)
    print_grid(words, words, weights[0])
    print('"black" and "white" find their nouns.  But the cat now finds "white", the')
    print("wrong adjective: this W_q asks for the next place on behalf of every word.")
    print("A decoder in training has the whole true sentence before it.  It must not")
    print("read off the word that it should guess.  So words to come are masked:")
    _, weights = self_attention(self_vectors(first, True), *matrices, causal=True)
    print_grid(words, words, weights[0])
    print("Above the diagonal all is 0: minus infinity before the softmax, as with")
    print('padding.  "black" sees only itself.  "white" looks at the cat: its own noun')
    print("has not been written yet.")


# From here to a Transformer (Vaswani et al., 2017) it is a few steps, with their names:
#
#   - The matrices and vectors are learned.  The place is told by many such hands of
#     different speeds, so that no two places look alike (positional encoding).
#   - Our W_q asks the same about the place for every word: it cannot ask "next" for an
#     adjective and "before" for a noun.  So n looks are taken side by side (heads), each
#     with its own three matrices, for H / n numbers each.  What they bring home is joined
#     to H numbers, and one more learned matrix (W_o) mixes them.  All this is multi-head
#     attention, nn.MultiheadAttention.
#   - Many layers of it, with a small network at each word in between (feed-forward), and
#     no recurrence.  What a layer finds is added to what it was given, so that nothing is
#     lost (residual connection).  Then each vector is shifted and scaled to mean 0 and
#     variance 1, so that the numbers do not grow (layer normalization).
#   - The encoder looks at itself.  The decoder looks at itself, with the causal mask, and
#     at the encoder, as in this lesson (cross-attention).  The whole is nn.Transformer.


# ====================================================================================
# 5. Command line
# ====================================================================================
#
# First bookkeeping, nothing about attention: skip it on a first reading.

COLOUR = r"(?i)\b(red|blue|black)\b"


def examples(data):
    """Up to three short test sources with a colour: French puts it after the noun."""
    texts = [source for source, _ in data.parts[2]]
    good = [text for text in texts if len(text) < 60 and re.search(COLOUR, text)]
    return (good or texts)[:3]


def first_wrong(answers, data):
    """The first test source of 5 to 12 words with a wrong answer, as a list, or []."""
    for said, (text, truth) in zip(answers, data.parts[2], strict=True):
        if not same_words(said, truth) and 5 <= len(utils.split_pair(text)) <= 12:
            return [text]
    return []


def text_scores(answers, pairs):
    """BLEU without case, BLEU with case, share of answers right word by word."""
    truth = [target for _, target in pairs]
    bleu = utils.bleu_scores(answers, truth)
    right = sum(map(same_words, answers, truth))
    scores = {"bleu": bleu["bleu"], "bleu_13a": bleu["bleu_13a"]}
    return {**scores, "exact_match": right / len(truth)}


def judge(model, records, data, args):
    """A trained model on test: answers, greedy and by beam; its scores; its costs."""
    texts = [source for source, _ in data.parts[2]]
    # A beam of 1 is greedy.  It alone is timed.
    start = time.perf_counter()
    greedy = [data.join(words) for words in translate(model, texts, data, args, 1)]
    seconds = time.perf_counter() - start
    beam = translate(model, texts, data, args, args.beam_size)
    beam = [data.join(words) for words in beam]
    scores = text_scores(greedy, data.parts[2])
    scores["bleu_beam"] = text_scores(beam, data.parts[2])["bleu"]
    # Perplexity: how surprised it is by the true words, each after the true ones before.
    nats = utils.evaluate(model, make_measure(), data.test, args)["loss"]
    scores["perplexity"] = math.exp(min(nats, 700))  # math.exp(710) is an error
    costs = {
        "greedy_s": seconds,
        "train_s": sum(record["seconds"] for record in records),
        "parameters": utils.count_parameters(model),
    }
    return greedy, beam, scores, costs


def print_lengths(answers, data):
    """BLEU on each fifth of the test set by length; returns mean lengths and lines."""
    pairs = data.parts[2]
    lengths = torch.tensor([len(utils.split_pair(source)) for source, _ in pairs])
    groups = lengths.argsort(stable=True).chunk(5)  # shortest sentences first
    means = [lengths[group].float().mean().item() for group in groups]
    lines = {}
    for name, texts in answers.items():
        if name == "copy":
            continue
        lines[name] = []
        for group in groups:
            said = [texts[place] for place in group]
            truth = [pairs[place][1] for place in group]
            lines[name].append(round(utils.bleu_scores(said, truth)["bleu"], 1))
    heads = [f"{mean:.1f} words" for mean in means]
    rows = {n: dict(zip(heads, map(str, row), strict=True)) for n, row in lines.items()}
    title = f"{data.dataset.label}: BLEU on the shortest fifth of test ... the longest"
    utils.print_table(title, rows)
    return means, lines


def explain(kind, rows, lines, right, pointed):
    """The answer to the title, as far as this run has it."""
    print("\nWhere should the decoder look?")
    if kind == "none":
        print("Here it cannot look anywhere: it has one summary of the whole source.")
        return
    if right is not None:
        where = "At" if right > 0.5 else "Not yet at"
        print(f"{where} the word that it translates: {right:.1%}, by the dictionary.")
    if pointed:
        print(f"It takes words from there: pointed elsewhere, {pointed:.1%} became the")
        print("word for that place.")
    print("Nobody told it where to look: weights have a gradient.")
    if "none" not in rows:
        print("What attention adds, a run without it tells (--attention-type none).")
        return
    # Rounded first, so that the difference fits the figures printed.
    gap = round(rows[kind]["bleu"], 1) - round(rows["none"]["bleu"], 1)
    short = lines[kind][0] - lines["none"][0]
    long = lines[kind][-1] - lines["none"][-1]
    worth = f"{gap:+.1f} BLEU (p = {rows[kind]['p']:.3f})"
    print(f"After equally many epochs looking back is worth {worth}:")
    print(f"{short:+.1f} on the shortest sentences, {long:+.1f} on the longest.")


# Of the table; metrics.json has more: BLEU with case, seconds.
COLUMNS = ("bleu", "exact_match", "bleu_beam", "perplexity", "parameters", "p")


def report(models, judged, rivals, right, pointed, data, args):
    """Tables, what they say, metrics.json, pictures."""
    pairs = data.parts[2]
    truth = [target for _, target in pairs]
    answers = {kind: greedy for kind, (greedy, _, _, _) in judged.items()} | rivals
    rows = {}  # for the table
    metrics = {}  # the same, with longer names, for metrics.json
    for kind, (greedy, _, scores, costs) in judged.items():
        if "none" in judged and kind != "none":
            costs = {**costs, "p": utils.bleu_p_value(greedy, judged["none"][0], truth)}
        rows[kind] = {**scores, **costs}
        metrics[kind] = {f"test_{name}": value for name, value in scores.items()}
        metrics[kind] |= costs
    for name, texts in rivals.items():
        rows[name] = text_scores(texts, pairs)
    table = {}
    for name, row in rows.items():
        table[name] = {key: row[key] for key in COLUMNS if key in row}
        for key in ("bleu", "bleu_beam"):
            if key in row:
                table[name][key] = f"{row[key]:.1f}"
    utils.print_table(f"{data.dataset.label}: test, {len(pairs):,} sentences", table)
    print("bleu: greedy answers, without case; bleu_beam: by beam search; perplexity:")
    print("of the true words; copy: the source again.")
    if "none" in answers and len(models) > 1:
        print("p: of the gap to `none` in bleu (the paired bootstrap).")
    means, lines = print_lengths(answers, data)
    kind = next(iter(models))  # the run counts as one of the kind asked for
    explain(kind, rows, lines, right, pointed)
    utils.write_metrics(
        args,
        data.dataset,
        metrics=metrics[kind],
        baselines={name: rows[name]["bleu"] for name in rivals},
        parameters=rows[kind]["parameters"],
        records=models[kind][1],
        units=int(data.train.lengths["target_length"].sum()),
        unit="target words" if data.cut is utils.split_pair else "target pieces",
        models=metrics if len(models) > 1 else None,
    )
    title = f"Test, {data.dataset.label}"
    axis = "words of the source: mean of each fifth of test"
    bleu = "BLEU, greedy"
    utils.plot_lines(args, "bleu_by_length", title, lines, axis, bleu, x=means)
    # `nats` and not `loss`: the smoothed one could not be compared with val_loss.
    runs = {kind: records for kind, (_, records) in models.items()}
    panels = {"nats, training": ["nats"], "nats, validation": ["val_loss"]}
    utils.plot_records(args, "training", data.dataset.label, runs, panels)


# --- Two flags that build other networks: skip them, too ------------------------------
#
# --input-feeding.  Look after the recurrence, but give h_att to the LSTM with the next
# word (Luong et al.): the state remembers what was looked at, and every word waits for
# the one before.  Two epochs on multi30k took 592 s instead of 412 (one thread of a
# busy machine); BLEU was 37.6 instead of 35.9 greedy, 40.2 instead of 39.6 by beam
# search: one seed, and far from done.


class FeedingTranslator(Translator):
    """h_att of one word is joined to the next word's input.

    A state is h, c and the h_att (B, H) of the word before.
    """

    decoder_reads = 2  # vectors of H numbers: the word before, and h_att

    def encode(self, ids, lengths):
        keys, mask, (h, c) = super().encode(ids, lengths)
        nothing_yet = torch.zeros_like(h[:, 0])  # (B, H)
        return keys, mask, (h, c, nothing_yet)

    def decode(self, words, state, keys, mask):
        x = self.dropout(self.embed_target(words))  # (B, Tt, H)
        h, c, h_att = state
        all_h_att = []
        all_weights = []
        for x_t in x.split(1, dim=1):  # (B, 1, H)
            joined = torch.cat([x_t, h_att.unsqueeze(1)], dim=2)  # (B, 1, 2H)
            query, h, c = self.run_lstm(joined, h, c)  # (B, 1, H)
            looked, weights = self.look(query, keys, mask)
            h_att = looked[:, 0]
            all_h_att.append(looked)
            all_weights.append(weights)
        return torch.cat(all_h_att, dim=1), (h, c, h_att), torch.cat(all_weights, dim=1)


def build(feeding=False, shared=False, **config):
    """A new network: a Translator, or with --input-feeding its relative."""
    model = FeedingTranslator(**config) if feeding else Translator(**config)
    if shared:  # --pieces: one vocabulary for both languages, one matrix reads both
        model.embed_source.weight = model.embed_target.weight
    return model


# --pieces.  All words outside the vocabulary are one <unk>, which has no translation.
# The remedy is lesson 02's byte-pair encoding, for both languages at once.  The last
# piece of a word ends in a space, printed "_".  With --pieces 4000 --dropout 0.3
# --epochs 16 multi30k has 57.2 BLEU, by beam search 59.1 (seed 0; but dropout and epochs
# changed too).  A known piece is no known word: "harpsichord", har p si ch or d_, got
# "harporge".


def mark_ends(pieces):
    """Pieces as they are printed: "_" where a word ends.  Words stay as they are."""
    return [piece.replace(" ", "_") for piece in pieces]


class Pieces:
    """Cuts texts into pieces of words, and puts them together again."""

    def __init__(self, merges):
        self.merges = utils.Merges(merges, letters)

    def cut(self, text):
        return self.merges.cut(utils.split_pair(text))

    @staticmethod
    def join(pieces):
        return utils.join_words("".join(pieces).split())


def letters(word):
    """The smallest pieces: "red" -> ["r", "e", "d "]."""
    return [*word[:-1], word[-1] + " "]


def learn_pieces(pairs, how_many):
    """(merges, vocabulary of pieces) of the training pairs, of both languages.

    how_many: letters and merges together.  A piece that stands there once is left out.
    """
    texts = [text for pair in pairs for text in pair]
    counts = Counter(word for text in texts for word in utils.split_pair(text))
    cut = {word: letters(word) for word in counts}
    alphabet = {letter for pieces in cut.values() for letter in pieces}
    learnt = utils.learn_merges(cut, counts, how_many - len(alphabet))
    merges = [list(pair) for pair, _ in learnt]  # as plain lists they can be saved
    pieces = Pieces(merges)
    specials = (utils.PAD, utils.UNK, utils.BOS, utils.EOS)
    rows = [pieces.cut(text) for text in texts]
    return merges, utils.Vocabulary.build(rows, specials, min_freq=2)


# --- Flags and main --------------------------------------------------------------------


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(parser, ["multi30k", "sample"], "tab-separated pairs")
    # No number of epochs: it depends on how much data there is, see `main`.
    sizes = {"batch_size": 64, "hidden_size": 256}
    utils.add_training_flags(parser, lr=0.003, dropout=0.2, **sizes)
    add = parser.add_argument_group("this lesson").add_argument
    kinds = [*SCORES, "all"]
    add("--attention-type", choices=kinds, default="additive", help="default additive")
    add("--pieces", type=utils.whole(0), default=0, help="how many; 0: whole words")
    add("--input-feeding", action="store_true", help="remember where one has looked")
    add("--label-smoothing", type=utils.real(0, 0.9), default=0.1, help="default 0.1")
    add("--beam-size", type=utils.whole(1, 100), default=5, help="1: greedy")
    add("--predict", nargs="+", metavar="TEXT", default=[], help="texts to translate")
    return parser


def new_model(dataset, parts, args):
    """(config, feeds) of a new model: how to build it, and the words it knows."""
    feeds = utils.pair_feeds(dataset, parts[0])
    if args.pieces:  # one list for both languages, and how words are cut
        merges, vocabulary = learn_pieces(parts[0], args.pieces)
        feeds["merges"] = merges
        feeds["source_words"] = vocabulary.tokens
        feeds["target_words"] = vocabulary.tokens
    config = {
        "sources": len(feeds["source_words"]),
        "targets": len(feeds["target_words"]),
        "hidden": args.hidden_size,
        "layers": args.num_layers,
        "dropout": args.dropout,
        "kind": args.attention_type,
        "inner": min(args.hidden_size, 128),  # A, for additive
        "feeding": args.input_feeding,
        "shared": args.pieces > 0,
    }
    return config, feeds


def kinds_to_train(dataset, args):
    """The kinds of attention that this run trains, the one asked for first."""
    if args.attention_type == "all":
        return list(SCORES)
    kinds = [args.attention_type]
    # On the sample there is time to train its opponent too.
    if dataset.name == "sample" and args.attention_type != "none":
        kinds.append("none")
    return kinds


def flags_for(kind, args):
    """The flags of this training: its own folder, so that --resume finds its state."""
    if kind == args.attention_type:
        return args
    folder = Path(args.out_dir, kind)
    flags = Namespace(**vars(args))
    flags.out_dir = str(folder)
    flags.resume = args.resume and (folder / "last.pt").exists()
    flags.save_model = False
    return flags


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__)
    one_model = args.save_model or args.eval_only or args.predict
    if args.attention_type == "all" and one_model:
        what = "--save-model, --eval-only and --predict"
        raise utils.UserError(f"--attention-type all compares models; drop {what}")
    if not all(utils.split_pair(text) for text in args.predict):
        raise utils.UserError("--predict takes texts of one word or more")

    # 1. The data.
    offline = {"sample": utils.SAMPLES / "en-fr.tsv"}
    dataset = utils.choose_dataset(args, ["multi30k"], offline)
    parts = utils.load_pairs(args, dataset)
    if args.eval_only:
        model, config, feeds = utils.load(args, build, dataset=dataset.name)
        args.attention_type = config["kind"]
        args.input_feeding = config["feeding"]
    else:
        config, feeds = new_model(dataset, parts, args)
    data = load_data(dataset, parts, feeds, args)
    if "merges" in feeds:
        print('--pieces: each "word" below is a piece.  "_" stands where a word ends.')
        print("Losses and perplexity are per piece: do not compare them with others.")
    if args.eval_only and args.predict:  # translate these texts, and no more
        text, words = show_alignments(model, args.predict, data, args)
        if model.kind != "none":
            show_covering(model, text, words, data, args)
        return
    utils.heading("1. Data")
    describe(data)
    show_one_pair(data)

    # 2. Attention: with numbers; how it learns; four scores; every shape.
    utils.heading("2. Attention")
    show_attention()
    show_learning_to_look()
    show_four_scores()
    show_scaling()
    kinds = kinds_to_train(dataset, args)
    # Input feeding has no query of all words at once, so its shapes are not shown.
    if not args.input_feeding:
        show_shapes(build(**{**config, "kind": kinds[0]}), data)

    # 3. Training: one model, or several of different kinds.
    if args.eval_only:
        models = {config["kind"]: (model, [])}
    else:
        if args.epochs is None:
            enough = max(EPOCHS, math.ceil(UPDATES / len(data.train)))
            args.epochs = 2 if args.quick else enough
        utils.heading("3. Training")
        read_training()
        models = {}  # kind -> (model, records); each from the same seed
        for kind in kinds:
            print(f"\nTraining on {data.dataset.label}, {kind}: one line an epoch")
            flags = flags_for(kind, args)
            models[kind] = train_model(kind, config, data, flags, feeds)

    # 4. Where did it look?  Is that right, does it matter, and how much is it worth?
    utils.heading("4. Evaluation")
    judged = {kind: judge(*models[kind], data, args) for kind in models}
    # Rivals without a network (lesson 08): copy, and word by word from a dictionary.
    dictionary = utils.word_dictionary(data.parts[0])
    rivals = utils.pair_baselines(data.parts[0], data.parts[2], dictionary)
    kind = next(iter(models))
    model, _ = models[kind]
    greedy, beam, _, _ = judged[kind]
    texts = args.predict or [*examples(data), *first_wrong(beam, data)]
    text, words = show_alignments(model, texts, data, args)
    right = None
    pointed = None
    if kind != "none":
        expected = dictionary
        if "merges" in feeds:  # its words as pieces: a whole word ends in a space
            expected = {f"{word} ": f"{other} " for word, other in dictionary.items()}
        right = show_right_places(model, greedy, expected, data, args)
        show_covering(model, text, words, data, args)
        show_many_covered(model, greedy, data, args)
        pointed = show_pointing(model, text, words, greedy, expected, data, args)
    if "none" in models and kind != "none":
        show_with_and_without(judged, data)
    report(models, judged, rivals, right, pointed, data, args)

    utils.heading("Outlook: self-attention")
    show_self_attention()


if __name__ == "__main__":
    sys.exit(utils.run(main))
