"""05 · Can a network read a review?

"The music is superb, but the story is dull and weak."  You know at once what its writer
thinks of the film, and you know it from the order of the words: "dull, but good" is not
"good, but dull".  Here a network reads film reviews word by word and says whether the
writer liked the film.  The plain RNN of lesson 04 forgets too soon for that: a review
has hundreds of words.  So this lesson opens another cell, the LSTM (long short-term
memory).  It has a memory, and gates that decide what is kept in it.

What you will learn
    - what a gate is, and the LSTM cell with every number of three words printed
    - why its memory reaches further back than the state of a plain RNN, and how far:
      three kinds of cell must recall a letter after N steps
    - how the states of all words become one vector: four kinds of pooling, by hand
    - overfitting, seen in this run, and the brakes against it: dropout, weight decay,
      early stopping
    - what the strongest simple rival does, by hand: it only counts runs of words
    - what the network thinks after each word, and what its gates do meanwhile

You need lesson 01 (padding and mask), 02 (vocabulary, embedding) and 04 (the recurrent
step, the gradient through time, the training loop, McNemar's test).

Run it
    python 05_lstm_sentiment.py
    python 05_lstm_sentiment.py --save-model
    python 05_lstm_sentiment.py --eval-only --predict "Slow, but I loved it."
    python 05_lstm_sentiment.py --input FILE.csv      (columns text and label)

You should see  (imdb [real], seed 0, a few minutes in all)
      model                accuracy   macro_f1
      lstm (this lesson)     0.8885     0.8883
      majority               0.5000     0.3333
      tfidf_unigram          0.8855     0.8855
      tfidf_bigram           0.9096     0.9096
      ratio_trigram          0.9173     0.9173
    accuracy is the share of test reviews judged rightly; macro_f1 is explained in
    lesson 04.  "majority" gives every review the same answer.  The other three count:
    words, pairs of words, runs of one to three words (section 4).
    The network loses to the counts here, and wins where order decides: with --dataset
    sample [sample] it is right about 1.0000, ratio_trigram about 0.8114.
    The first of 50 letters is recalled by the plain RNN with accuracy 0.200, by LSTM
    and GRU with 1.000 each (chance: 0.125).

Try this  (guess first, then run)
    --dataset sample                here the order of words decides: who wins now?
    --dataset sample --cell rnn     the same with the plain RNN
    --patience 0 --epochs 10        let it go on learning by heart
    --compare regularization        dropout, weight decay, layer norm: which helps?
    --compare pooling               which pooling learns most from 6,000 reviews?
    --compare cell                  plain RNN, LSTM and GRU of equal size
    --max-length 64 --keep start    where does the verdict stand: at the start,
    --max-length 64 --keep end      or at the end?
"""

# Sizes
#     B  batch (reviews)           T  time (words of the longest review in the batch)
#     E  embedding                 H  hidden state, and as many numbers of memory
#     V  vocabulary (words)        C  classes (the labels: neg, pos)
#     N  reviews of one part of the data

import math
import sys
import textwrap
from argparse import Namespace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================
#
# 50,000 film reviews were collected from a web site where viewers give one to ten stars
# (Maas et al., 2011).  A review with up to four stars has the label neg, one with seven
# or more pos.  Half of the reviews are for training, half for the test, and no film
# stands in both halves.  A tenth of the training half is set aside for validation:
# there films do come again, so scores on validation are a little better than on test.
#
# A network takes numbers, and a batch must be a rectangle.  Five steps lead there:
#
#   words     lower case; a punctuation mark is a word of its own ("!" says something)
#   ids       the place of each word in the vocabulary: the --max-vocab words that are
#             commonest in training; any other word becomes <unk>, id 1
#   kept      of a long review only --max-length words, half of them from its beginning
#             and half from its end.  Why not all?  The cell works through a batch word
#             by word, so its longest review sets the time that all take.  Why not the
#             first 400?  Reviewers tell the story first and their verdict last
#   padded    shorter reviews of the batch are filled up with 0
#   mask      which places hold real words: padding must not count (lesson 01)


class ReviewData(NamedTuple):
    """All that this lesson knows of its data."""

    source: utils.Source  # which data set, and whether it is real
    parts: list  # training, validation, test: lists of (text, label)
    vocabulary: utils.Vocabulary  # the commonest words of training
    labels: list  # a label's place in this list is its class
    train: utils.Batches  # the three parts as batches of tensors
    val: utils.Batches
    test: utils.Batches


def to_tensors(part, vocabulary, labels, numbered, feeds):
    """A part (texts, labels) as ids (N, T), lengths (N,) and classes (N,).

    numbered: whether the ids that came with the file are those of the vocabulary.
    """
    if numbered:
        tensors = utils.encode_reviews(
            part, len(vocabulary), feeds["max_length"], feeds["keep"]
        )
    else:  # a saved model may have learned its words from another file: look each up
        tensors = utils.encode_texts(
            part.texts, vocabulary, feeds["max_length"], feeds["keep"]
        )
    classes = [labels.index(label) for label in part.labels]
    tensors["label"] = torch.tensor(classes)  # (N,)
    return tensors


def load_data(source, reviews, feeds, args):
    """The reviews as batches, in the words and labels of `feeds`."""
    vocabulary = utils.Vocabulary(feeds["vocabulary"])
    labels = feeds["labels"]
    unknown = set(reviews.labels) - set(labels)
    if unknown:
        raise utils.UserError(f"the model was not trained on label '{min(unknown)}'")
    usual = utils.review_vocabulary(reviews, len(vocabulary))
    numbered = vocabulary.tokens == usual.tokens
    parts = []
    tensors = []
    for part in reviews.parts:
        parts.append(list(zip(part.texts, part.labels, strict=True)))
        tensors.append(to_tensors(part, vocabulary, labels, numbered, feeds))
    train, val, test = tensors
    # Reviews of similar length share a batch (bucket="text"), so that little of it is
    # padding.  Only training is shuffled: anew in every epoch.
    return ReviewData(
        source,
        parts,
        vocabulary,
        labels,
        utils.Batches(train, args.batch_size, args.device, shuffle=True, bucket="text"),
        utils.Batches(val, args.batch_size, args.device, bucket="text"),
        utils.Batches(test, args.batch_size, args.device, bucket="text"),
    )


def say(text):
    """Print a paragraph, its lines broken at 80 signs."""
    print(textwrap.fill(" ".join(text.split()), 80))


def one_line(text, width):
    """A text on one line, shortened to `width` signs: its beginning [...] its end."""
    text = " ".join(text.replace("<br />", " ").split())
    if len(text) <= width:
        return text
    half = (width - 7) // 2
    beginning = text[:half].rsplit(" ", 1)[0]  # up to the last whole word
    end = text[-half:].split(" ", 1)[-1]  # from the first whole word
    return f"{beginning} [...] {end}"


def show_one_review(data):
    """Print one short training review on its way from the file to the tensors."""
    # The first that fits into a line; in data without such a one, the first of all.
    text, label = next(
        (pair for pair in data.parts[0] if 12 <= len(utils.split_words(pair[0])) <= 24),
        data.parts[0][0],
    )
    words = utils.split_words(text)
    ids = data.vocabulary.encode(words)
    print("\nOne review on its way from the file to the network:")
    print(f"  text     {one_line(text, 240)}")
    print(f"  label    {label}, class {data.labels.index(label)}")
    print(f"  words    {' '.join(words[:24])}")
    print(f"  ids      {' '.join(map(str, ids[:24]))}")
    say(
        """If there were room for 8 words only, these would be kept, half of them
        from the beginning and half from the end.  Beside a review of 10 words, two
        places of its row are padding, and the mask says so:"""
    )
    kept = utils.shorten(np.array(ids), 8, "both")  # (8,)
    # The other row, of ten words, only makes the batch ten places wide.
    row, _ = utils.pad([kept, [1] * 10])  # (2, 10)
    mask = utils.length_mask(torch.tensor([len(kept)]), 10)[0]  # (10,)
    print(f"  kept     {' '.join(data.vocabulary.decode(kept.tolist()))}")
    print(f"  row      {' '.join(map(str, row[0].tolist()))}")
    print(f"  mask     {' '.join(map(str, mask.int().tolist()))}")
    lengths = data.train.lengths["text_length"]  # (N,)
    longest = int(lengths.max())
    full = (lengths == longest).float().mean()
    say(
        f"""Half of the training reviews have {int(lengths.median())} words or more.
        The longest that are kept have {longest}; {full:.0%} of all reviews fill such
        a row."""
    )


# ====================================================================================
# 2. Model
# ====================================================================================
#
# Why not the cell of lesson 04?  Its state goes through W_hh and tanh at every word, so
# a change of the first state reaches the last one as a product of as many factors:
#
#     h_0 --W_hh, tanh--> h_1 --W_hh, tanh--> h_2 -- ... --W_hh, tanh--> h_T
#
#     dh_T/dh_0 = product over all words of (W_hh times tanh', and tanh' is below 1)
#
# If each factor shrinks by a tenth only, 0.9 to the power of 200 words is 0.0000000007:
# the network cannot learn from the beginning of a review.
#
# The LSTM (Hochreiter and Schmidhuber, 1997; Gers et al., 2000) keeps what it knows in
# a second set of numbers, the memory c, and changes c in one way only: it keeps a part
# of it, and adds something.
#
#     c_t = f_t * c_(t-1) + i_t * g_t                     * : number by number
#
# f, i and a third one, o, are gates.  A gate is a number between 0 and 1 that is
# multiplied with something: 0 lets nothing through, 1 all, 0.5 half.  It is computed
# anew for every word, from that word and from the state: so the network can learn when
# to open it.
#
#   f  forget gate    how much of the memory is kept (in spite of its name: 1 keeps all)
#   i  input gate     how much of the new is written
#   g  no gate        the new: a proposal between -1 and 1, made of word and state
#   o  output gate    how much of the memory is shown
#   c  memory         what the cell knows; only the cell itself sees it
#   h  hidden state   what it shows: to the layers above, and to its own next gates
#
#                  keep         add
#    c_(t-1) ------(*)----------(+)--------------+---------------> c_t
#                   ^            ^               |
#                   |           (*)            tanh
#                   |           ^ ^              |
#                   f           i g       o --->(*) show
#                   |           | |       |      |
#    h_(t-1) --+----+-----------+-+-------+      +---------------> h_t
#    x_t ------+    sigmoid, or tanh for g, of W x_t + W h_(t-1) + b:
#                   each of the four has its own W and b
#
# A sigmoid makes a gate of any number: sigmoid(a) = 1 / (1 + e^-a) is 0.5 at a = 0,
# near 1 for large a, near 0 for very negative a.


class Step(NamedTuple):
    """What an LSTM computes at one word: (B, H) each."""

    i: torch.Tensor
    f: torch.Tensor
    g: torch.Tensor
    o: torch.Tensor
    c: torch.Tensor
    h: torch.Tensor


def lstm_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    """One word: x (B, E), and h and c (B, H) from the word before -> Step.

    w_ih (4H, E), w_hh (4H, H), b_ih and b_hh (4H,): as nn.LSTM keeps them, the weights
    of i, f, g and o one below the other.
    """
    sums = x @ w_ih.T + b_ih + h @ w_hh.T + b_hh  # (B, 4H): all four at once
    sum_i, sum_f, sum_g, sum_o = sums.chunk(4, dim=1)  # (B, H) each
    # i_t = sigmoid(W_ii x_t + b_ii + W_hi h_(t-1) + b_hi)         how much to write
    i = torch.sigmoid(sum_i)  # (B, H)
    # f_t = sigmoid(W_if x_t + b_if + W_hf h_(t-1) + b_hf)         how much to keep
    f = torch.sigmoid(sum_f)  # (B, H)
    # g_t = tanh(W_ig x_t + b_ig + W_hg h_(t-1) + b_hg)            what to write
    g = torch.tanh(sum_g)  # (B, H)
    # o_t = sigmoid(W_io x_t + b_io + W_ho h_(t-1) + b_ho)         how much to show
    o = torch.sigmoid(sum_o)  # (B, H)
    # c_t = f_t * c_(t-1) + i_t * g_t          No matrix and no tanh stands in its way:
    # where f is 1 and i is 0, the memory goes on unchanged.
    c = f * c + i * g  # (B, H)
    # h_t = o_t * tanh(c_t)                    tanh, since sums may grow beyond 1
    h = o * torch.tanh(c)  # (B, H)
    return Step(i, f, g, o, c, h)


def lstm_by_hand(x, h, c, w_ih, w_hh, b_ih, b_hh):
    """The whole layer: x (B, T, E), h and c (B, H) -> list of T Steps."""
    steps = []
    for t in range(x.shape[1]):
        step = lstm_step(x[:, t], h, c, w_ih, w_hh, b_ih, b_hh)
        steps.append(step)
        h = step.h  # (B, H)
        c = step.c  # (B, H)
    return steps


# A toy to follow with a pencil: E = 2, H = 1.  The first number of a word says what it
# thinks of the film, the second whether it thinks anything.  The weights are chosen so
# that the gates do what good gates would: the input gate opens for words with an
# opinion, and the forget gate closes a little to make room for it.

TOY_WORDS = {"good": [1.0, 1.0], "the": [0.0, 0.0], "dull": [-1.0, 1.0]}
TOY_W_IH = [[0.0, 6.0], [0.0, -2.0], [2.0, 0.0], [0.0, 1.0]]  # (4H, E): i, f, g, o
TOY_W_HH = [[0.5], [0.5], [0.5], [0.5]]  # (4H, H)
TOY_BIAS = [-3.0, 3.0, 0.0, 1.0]  # (4H,), b_ih and b_hh in one


def toy_weights():
    """The toy's weights as lstm_step wants them: W_ih, W_hh, b_ih, b_hh, in float64."""
    bias = torch.tensor(TOY_BIAS, dtype=torch.double)
    return [
        torch.tensor(TOY_W_IH, dtype=torch.double),
        torch.tensor(TOY_W_HH, dtype=torch.double),
        bias,
        torch.zeros_like(bias),
    ]


def toy_input():
    """The three words of the toy: (B, T, E) = (1, 3, 2)."""
    return torch.tensor([list(TOY_WORDS.values())], dtype=torch.double)


def show_one_cell():
    """Print all that one LSTM cell computes for three words, and nn.LSTM's results."""
    print("\nOne LSTM cell reads three words; x has two numbers, h and c one each.")
    h = 0.0  # nothing is shown and nothing known before the first word
    c = 0.0
    for word, x in TOY_WORDS.items():
        print(f"  {word:<5} x = {x}, before it h = {h:.3f} and c = {c:.3f}")
        # The four sums, of word, state and bias, and what sigmoid or tanh makes of
        # them.
        value = {}
        for row, name in enumerate("ifgo"):
            from_x = TOY_W_IH[row]
            from_h = TOY_W_HH[row][0]
            bias = TOY_BIAS[row]
            total = from_x[0] * x[0] + from_x[1] * x[1] + from_h * h + bias
            if name == "g":
                squash = "tanh"
                value[name] = math.tanh(total)
            else:
                squash = "sigmoid"
                value[name] = 1 / (1 + math.exp(-total))
            print(
                f"    {name} = {squash} of {from_x[0]} * {x[0]} + {from_x[1]} * {x[1]}"
                f" + {from_h} * {h:.3f} + {bias} = {total:.2f}:  {value[name]:.3f}"
            )
        # What was known is kept in part, the new is added in part.
        before = c
        c = value["f"] * before + value["i"] * value["g"]
        h = value["o"] * math.tanh(c)
        print(
            f"    c = f * c + i * g = {value['f']:.3f} * {before:.3f} + "
            f"{value['i']:.3f} * {value['g']:.3f} = {c:.3f}"
        )
        print(f"    h = o * tanh(c)   = {value['o']:.3f} * tanh({c:.3f}) = {h:.3f}")
    # PyTorch's own layer with the same weights.
    layer = nn.LSTM(2, 1, batch_first=True).double()
    for parameter, weights in zip(layer.parameters(), toy_weights(), strict=True):
        parameter.data = weights
    states, (_, memory) = layer(toy_input())  # (1, 3, 1), and of h and c the last
    c_theirs = memory[0, 0, 0].item()
    h_theirs = states[0, -1, 0].item()
    print(
        f"  nn.LSTM with these weights ends with c = {c_theirs:.3f}, h = {h_theirs:.3f}"
    )
    say(
        """Reading it: "the" is hardly written (i near 0), and the memory is kept (f
        near 1).  "dull" has an opinion: i opens, and the memory turns below zero."""
    )


# What does that change for learning?  Hold the gates as they are, and c_t depends on
# c_(t-1) through f_t alone:
#
#     dc_t/dc_(t-1) = f_t,        dc_T/dc_0 = f_1 * f_2 * ... * f_T
#
# A product again!  But its factors are no fixed matrix: the network sets them word by
# word, and near 1 where something is worth keeping.  (In truth the gates are not held:
# c shows itself in h, and h moves the next gates and proposals.  That second path leads
# through W and tanh at every word, as in lesson 04.  The first one is what is new.)


def memory_path(hold_gates):
    """dc_3/dc_0 of the toy by autograd, its gates held as they are or not: a number."""
    weights = toy_weights()
    x = toy_input()  # (1, 3, 2)
    start = torch.zeros(1, 1, dtype=torch.double, requires_grad=True)  # c_0: (B, H)
    h = torch.zeros(1, 1, dtype=torch.double)
    c = start
    for t in range(x.shape[1]):
        if hold_gates:
            h = h.detach()  # the same number, but no gradient passes
        step = lstm_step(x[:, t], h, c, *weights)
        h = step.h
        c = step.c
    return torch.autograd.grad(c.sum(), start)[0].item()


def show_memory_path():
    """Print that the memory's gradient is a product of forget gates; and its reach."""
    zero = torch.zeros(1, 1, dtype=torch.double)
    steps = lstm_by_hand(toy_input(), zero, zero, *toy_weights())
    gates = [step.f.item() for step in steps]
    product = gates[0] * gates[1] * gates[2]
    held = memory_path(hold_gates=True)
    print("\nHow far does a change of the memory reach?  In the three words above:")
    factors = " * ".join(f"{gate:.3f}" for gate in gates)
    print(f"  f_1 * f_2 * f_3 = {factors} = {product:.2f}")
    print(f"  autograd, dc_3/dc_0 with the gates held: {held:.2f}", end=", ")
    print(f"{abs(held - product):.0e} apart")
    print(f"  with gates that move along:              {memory_path(False):.2f}")
    # What is left of a change if every word has the same factor: its power.
    print("Of 1, so much is left after so many words, if each has the same factor:")
    print("  words                             1       10       50      200")
    for name, factor in (
        ("plain RNN, W_hh tanh' = 0.9", 0.9),
        ("forget gate half open, 0.5", 0.5),
        ("forget gate at our start, 0.73", 0.73),
        ("forget gate nearly open, 0.99", 0.99),
        ("forget gate open, 0.999", 0.999),
    ):
        left = "".join(f"{factor**words:>9.2g}" for words in (1, 10, 50, 200))
        print(f"  {name:<30}{left}")
    say(
        """A gate can learn to stay open.  The plain RNN cannot do that: even if W_hh
        keeps the length of every vector, the tanh that follows shortens it."""
    )


def show_lstm_is_nn_lstm():
    """Print our largest differences from nn.LSTM in 64-bit numbers, gradients too."""
    torch.manual_seed(5)
    layer = nn.LSTM(5, 7, batch_first=True).double()
    x = torch.randn(4, 9, 5, dtype=torch.double)  # (B, T, E)
    zero = torch.zeros(4, 7, dtype=torch.double)  # (B, H)
    weights = list(layer.parameters())  # W_ih, W_hh, b_ih, b_hh
    steps = lstm_by_hand(x, zero, zero, *weights)
    ours = torch.stack([step.h for step in steps], dim=1)  # (4, 9, 7)
    theirs, (_, memory) = layer(x)  # (4, 9, 7), and of h and c the last: (1, 4, 7)
    # Equal states are half the proof: training needs equal gradients.
    our_gradients = torch.autograd.grad(ours.sum(), weights)
    their_gradients = torch.autograd.grad(theirs.sum(), weights)
    gaps = [
        (one - other).abs().max().item()
        for one, other in zip(our_gradients, their_gradients, strict=True)
    ]
    print("\nThe same step in a loop, against nn.LSTM, largest differences:")
    print(f"  states {tuple(theirs.shape)}   {(ours - theirs).abs().max():.0e}")
    print(f"  last memory (4, 7)  {(steps[-1].c - memory[0]).abs().max():.0e}")
    print(f"  gradients of W, b   {max(gaps):.0e}")


# The cell gives a state after each word: T of them, (B, T, H).  The answer needs one
# vector for each review, (B, H).  To make one of many is called pooling.  Four ways:
#
#   last        the state after the last word.  All has to be carried there
#   mean        the mean of the states of all words
#   max         of each of the H numbers the largest that it had at any word: it can
#               learn to shoot up at one kind of remark, and wherever in the review that
#               was, it is seen at the end
#   attention   a weighted mean; a small layer gives every state a score, and softmax
#               (lesson 04) makes weights of the scores (lesson 09 has more of this)
#
# Each must leave the padding out.  Reading forwards, padding comes after the words and
# cannot change their states; but its own states would count in a mean, or win a
# maximum.


def pool(states, lengths, how, attend=None):
    """States (B, T, H), lengths (B,) -> one vector for each review (B, H).

    how: last, mean, max or attention; attend: for attention, the layer of the scores.
    """
    real = utils.length_mask(lengths, states.shape[1], states.device)  # (B, T)
    real = real.unsqueeze(2)  # (B, T, 1): the same for all H numbers of a state
    if how == "last":
        # Of row i the state at its own last word: lengths 3 1, places 2 0.
        rows = torch.arange(len(states), device=states.device)
        return states[rows, lengths - 1]  # (B, H)
    if how == "mean":
        total = states.masked_fill(~real, 0.0).sum(1)  # (B, H)
        return total / lengths.unsqueeze(1)  # by the number of words, not by T
    if how == "max":
        # Minus infinity never wins.  (0 could: all real numbers may be negative.)
        return states.masked_fill(~real, -torch.inf).amax(1)  # (B, H)
    weights = attention_weights(states, real, attend)  # (B, T, 1)
    return (weights * states).sum(1)  # (B, H)


def attention_weights(states, real, attend):
    """Weights (B, T, 1): above 0 on real words, where they sum to 1; 0 on padding."""
    # weight_t = e^(v . h_t) / sum over all real words s of e^(v . h_s)
    scores = attend(states)  # (B, T, 1): v . h_t, a number for each word
    return scores.masked_fill(~real, -torch.inf).softmax(1)  # e^(-infinity) is 0


POOLINGS = ("last", "mean", "max", "attention")


def show_poolings():
    """Print the four poolings of two words and one place of padding, H = 2."""
    states = torch.tensor([[[1.0, -2.0], [3.0, -4.0], [9.0, 9.0]]])  # (B, T, H)
    lengths = torch.tensor([2])  # (B,)
    attend = nn.Linear(2, 1, bias=False)
    attend.weight.data = torch.tensor([[0.5, 0.0]])  # v
    print("\nThree states; the third is padding and must not count:")
    print("  h_1 = [1, -2]   h_2 = [3, -4]   padding: [9, 9]")
    # Attention by hand: v . h is 0.5 * 1 and 0.5 * 3; softmax makes weights of them.
    powers = torch.tensor([0.5 * 1, 0.5 * 3]).exp()
    weights = powers / powers.sum()
    by_hand = {
        "last": "h_2",
        "mean": "[(1 + 3) / 2, (-2 - 4) / 2]",
        "max": "[larger of 1, 3; larger of -2, -4]",
        "attention": f"{weights[0]:.2f} h_1 + {weights[1]:.2f} h_2",
    }
    for how in POOLINGS:
        with torch.no_grad():
            found = pool(states, lengths, how, attend)[0].tolist()
            # The length of 3 makes the padding count as a word.
            careless = pool(states, torch.tensor([3]), how, attend)[0].tolist()
        ours = f"[{found[0]:.2f}, {found[1]:.2f}]"
        wrong = f"[{careless[0]:.2f}, {careless[1]:.2f}]"
        print(f"  {how:<10} {by_hand[how]:<35} = {ours:<15} careless: {wrong}")
    say(
        f"""attention: with v = [0.5, 0] the scores v . h are 0.5 and 1.5; e to their
        power is {powers[0]:.2f} and {powers[1]:.2f}; divided by their sum, these are
        the weights. careless: what comes out if the padding counts."""
    )


# Which is the default?  The one with the lowest loss on validation.  On all reviews of
# IMDB (seed 0, up to six epochs, the best kept) these were
#
#     attention   loss 0.2502   accuracy 0.9000
#     mean        loss 0.2522   accuracy 0.9008
#     max         loss 0.2776   accuracy 0.8888
#     last        loss 0.2956   accuracy 0.8952
#
# The first two are as good as equal: another seed moves an accuracy by 0.005.
# Attention it is, because its weights also show which words the answer was made of.
#
# The whole network:
#
#     words -> embedding -> dropout -> LSTM -> pooling -> dropout -> linear -> scores
#     (B, T)   (B, T, E)              (B, T, H)  (B, H)              (B, C)
#
# `--cell` puts another cell in the LSTM's place, nn.RNN of lesson 04 or nn.GRU of
# lesson 06.  Dropout is explained in section 3.

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def start_well(rnn):
    """Set what matters at the start; the rest keeps PyTorch's own: small, uniform."""
    size = rnn.hidden_size
    for name, weight in rnn.named_parameters():
        if "weight_hh" in name:
            # Orthogonal, each gate's matrix by itself: it keeps the length of a vector,
            # so that nothing dies out or explodes by W_hh alone (lesson 04).
            for matrix in weight.data.split(size):
                nn.init.orthogonal_(matrix)
        elif rnn.mode == "LSTM" and "bias" in name:
            # With a bias of 0 the forget gate starts near sigmoid(0) = 0.5, and after
            # ten words 0.1 % of the memory is left.  With 1 it starts near 0.73: 4 %
            # (Jozefowicz et al., 2015).  nn.LSTM adds two biases: one is 1, one 0.
            # The rows are those of i, f, g, o: the second block is f.
            weight.data[size : 2 * size] = 1.0 if "bias_ih" in name else 0.0


class ReviewClassifier(nn.Module):
    """Embedding, recurrent layers, pooling over time, a linear layer."""

    def __init__(
        self,
        words,
        classes,
        embedding,
        cell,
        hidden,
        layers=1,
        pooling="attention",
        norm=False,
        dropout=0.0,
    ):
        super().__init__()
        self.embed = nn.Embedding(words, embedding, padding_idx=0)
        # Vectors of length about 1.  PyTorch's own start has length sqrt(E), 10 here:
        # small steps would take long to change that.
        nn.init.normal_(self.embed.weight, std=embedding**-0.5)
        self.rnn = CELLS[cell](
            embedding,
            hidden,
            num_layers=layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,  # this one acts between layers
        )
        # --layer-norm (Ba et al., 2016): shift and stretch the H numbers of each state
        # to mean 0 and variance 1, then by a learned amount: all stay of one size.
        self.norm = nn.LayerNorm(hidden) if norm else nn.Identity()
        self.pooling = pooling
        self.attend = None
        if pooling == "attention":
            self.attend = nn.Linear(hidden, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, classes)
        start_well(self.rnn)

    def forward(self, texts, lengths):
        """texts (B, T) ids, lengths (B,) -> scores before softmax (B, C)."""
        x = self.dropout(self.embed(texts))  # (B, T, E)
        states, _ = self.rnn(x)  # (B, T, H); of h and c the last is not needed
        states = self.norm(states)  # (B, T, H)
        lengths = lengths.to(texts.device)
        pooled = pool(states, lengths, self.pooling, self.attend)  # (B, H)
        return self.output(self.dropout(pooled))  # (B, C)


# ====================================================================================
# 3. Training
# ====================================================================================
#
# The training loop is that of lesson 04, `utils.fit`.  What is new is a danger.  This
# network has far more weights than there are training reviews, so it can learn those
# reviews by heart: "the one with the misspelt director is neg".  That lowers the loss
# on training, and helps with no other review.  It is called overfitting.  It is seen by
# two curves: the training loss falls on, while the loss on validation, which nothing is
# learned from, turns and rises.
#
# There are brakes.  Three are flags of this lesson:
#
#   --dropout         in training, each number is set to 0 with this probability.  No
#                     single one can be relied on, so a name or a rare word alone must
#                     not settle the answer
#   --weight-decay    every step also draws all weights a little towards 0: only what
#                     many reviews ask for again and again stays large
#   --patience        early stopping: end when validation has not become better for so
#                     many epochs, and go back to the weights of the best one
#
# Clipping (lesson 04) is not one of them.  It keeps a step from being too long, whether
# what it learns is a rule or a review by heart.


def show_dropout():
    """Print six numbers before and after dropout, in training and afterwards."""
    torch.manual_seed(5)
    dropout = nn.Dropout(0.5)
    numbers = torch.tensor([0.2, -1.0, 0.5, 0.8, -0.3, 0.6])
    print("\nDropout with probability 0.5 on six numbers:")
    print(f"  before        {as_line(numbers)}")
    print(f"  in training   {as_line(dropout(numbers))}")
    print(f"  once more     {as_line(dropout(numbers))}")
    dropout.eval()
    print(f"  afterwards    {as_line(dropout(numbers))}")
    say(
        """What stays is doubled in training, so that sums are on average the same as
        afterwards, when nothing is left out."""
    )


def as_line(numbers):
    """The numbers of a tensor (N,) beside each other."""
    return " ".join(f"{number + 0.0:>6.2f}" for number in numbers.tolist())


def show_weight_decay():
    """Print what weight decay alone does to a weight, by hand and by AdamW."""
    rate = 0.1
    decay = 0.5
    by_hand = 2.0
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = torch.optim.AdamW([weight], lr=rate, weight_decay=decay)
    print("\nWeight decay: a weight of 2.0 that no review asks for (gradient 0):")
    print(
        f"  learning rate {rate}, --weight-decay {decay}: w becomes "
        f"w - {rate * decay} w"
    )
    for step in range(1, 4):
        by_hand = by_hand - rate * decay * by_hand
        weight.grad = torch.zeros(1)
        optimizer.step()
        print(f"  step {step}   by hand {by_hand:.4f}   AdamW {weight.item():.4f}")


# Early stopping needs no more than a memory for the best loss so far, and a count of
# the epochs since then.


def early_stopping_by_hand(val_losses, patience):
    """From the validation losses of all epochs: (epochs trained, epoch that is kept).

    patience: end after so many epochs without gain; 0: never.
    """
    best_loss = float("inf")
    best_epoch = 0
    waited = 0  # epochs since the best
    for epoch, loss in enumerate(val_losses, start=1):
        if loss < best_loss:
            best_loss = loss
            best_epoch = epoch
            waited = 0
        else:
            waited += 1
        if waited == patience and patience > 0:
            return epoch, best_epoch
    return len(val_losses), best_epoch


def train_a_toy(patience):
    """A linear model on 24 random examples of 20 numbers: (records, weights, model).

    Only the first number says something about the answer; the other 19 it can but learn
    by heart.  weights: a copy after each epoch.
    """
    torch.manual_seed(5)
    x = torch.randn(48, 20)  # 24 examples for training, 24 for validation
    y = (x[:, 0] + 0.4 * torch.randn(48) > 0).long()  # (48,): class 0 or 1
    train = utils.Batches({"x": x[:24], "y": y[:24]}, 24)
    val = utils.Batches({"x": x[24:], "y": y[24:]}, 24)
    model = nn.Linear(20, 2)
    nn.init.zeros_(model.bias)
    nn.init.zeros_(model.weight)
    settings = {"epochs": 8, "lr": 0.12, "weight_decay": 0.0, "optimizer": "adam"}
    settings |= {"clip": 1.0, "accumulate": 1, "precision": "fp32", "device": "cpu"}
    settings |= {"seed": 0, "out_dir": "", "resume": False, "save_model": False}

    def measure_toy(model, batch):
        loss = F.cross_entropy(model(batch["x"]), batch["y"], reduction="none")
        return {"loss": loss}  # (B,)

    weights = []
    records = utils.fit(
        model,
        measure_toy,
        train,
        val,
        Namespace(**settings, patience=patience),
        after_epoch=lambda record: weights.append(model.weight.detach().clone()),
    )
    return records, weights, model


def show_early_stopping():
    """Print early stopping epoch by epoch, and that `--patience` does the same."""
    patience = 2
    records, weights, _ = train_a_toy(patience=0)  # to the end, all 8 epochs
    losses = [record["val_loss"] for record in records]
    last, best = early_stopping_by_hand(losses, patience)
    print(f"\nEarly stopping with patience {patience}, on a toy that learns by heart:")
    # What would be known, and decided, at the end of each epoch?
    for epoch in range(1, len(losses) + 1):
        note = "not trained any more"
        if epoch < last:
            _, best_so_far = early_stopping_by_hand(losses[:epoch], 0)
            note = f"best so far: epoch {best_so_far}"
        elif epoch == last:
            note = f"no gain for {patience} epochs: stop, back to epoch {best}"
        record = records[epoch - 1]
        print(
            f"  epoch {epoch}   loss {record['loss']:.3f}   val_loss "
            f"{record['val_loss']:.3f}   {note}"
        )
    # The same training once more, and now `fit` itself stops it.
    stopped, _, model = train_a_toy(patience)
    gap = (model.weight - weights[best - 1]).abs().max()
    say(
        f"""utils.fit with --patience {patience} trained {len(stopped)} epochs; its
        weights and those of epoch {best} are {gap:.0e} apart."""
    )


def measure(model, batch):
    """Loss and accuracy of every review of the batch: (B,) each."""
    scores = model(batch["text"], batch["text_length"]).float()  # (B, C), also in bf16
    return {
        "loss": F.cross_entropy(scores, batch["label"], reduction="none"),  # (B,)
        "accuracy": scores.argmax(1) == batch["label"],  # (B,)
    }


def train_model(config, data, args, feeds=None):
    """A new model from --seed, trained: (model, records).  No `feeds`: no files."""
    utils.set_seed(args.seed)
    model = ReviewClassifier(**config).to(args.device)
    kept = config if feeds else None
    records = utils.fit(model, measure, data.train, data.val, args, kept, feeds)
    return model, records


def show_overfitting(records, args):
    """Print both losses of every epoch, where they part, and what was kept."""
    losses = [record["val_loss"] for record in records]
    _, best = early_stopping_by_hand(losses, 0)
    print("\nDid it learn to read, or these reviews by heart?")
    print("  epoch   loss on training                 loss on validation")
    for record in records:
        bar = "#" * round(30 * min(record["loss"], 0.8))
        val_bar = "#" * round(30 * min(record["val_loss"], 0.8))
        note = "  kept" if record["epoch"] == best else ""
        print(
            f"  {record['epoch']:>5}   {record['loss']:.3f} {bar:<24}   "
            f"{record['val_loss']:.3f} {val_bar:<24}{note}"
        )
    say(
        """(The loss on training is taken while dropout hinders the network and the
        weights still change: so it starts higher.)"""
    )
    last = records[-1]
    kept = records[best - 1]
    if best == len(records):
        say(
            """The loss on validation was lowest at the end: no overfitting in so
            many epochs."""
        )
    elif (
        last["loss"] < kept["loss"] - 0.02
        and last["val_loss"] > kept["val_loss"] + 0.02
    ):
        say(
            f"""They part after epoch {best}.  From there to epoch {last["epoch"]}
            the loss on training fell from {kept["loss"]:.3f} to {last["loss"]:.3f};
            on validation it rose from {kept["val_loss"]:.3f} to
            {last["val_loss"]:.3f}.  What was learned last, was learned by heart.
            Accuracy on validation went from {kept["val_accuracy"]:.4f} to
            {last["val_accuracy"]:.4f}; the loss also sees that wrong answers are
            given more and more surely."""
        )
    else:
        print(f"After epoch {best} the loss on validation moved little: no clear sign.")
    if len(records) < args.epochs:
        say(
            f"""Early stopping (--patience {args.patience}) ended it after
            {len(records)} of {args.epochs} epochs."""
        )
    print(f"The weights of epoch {best} were put back; all that follows uses them.")


def draw_training(config, records, data, args):
    """Picture of the course of training: loss, accuracy, gradient."""
    about = f"{data.source.label}, {config['cell']}"
    panels = {
        "loss": ["loss", "val_loss"],
        "accuracy": ["accuracy", "val_accuracy"],
        "length of the gradient": ["grad_norm", "max_grad_norm"],
    }
    title = f"Training, {about}"
    utils.plot_records(args, "training", title, {about: records}, panels)


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# Four questions to the trained network, and one to its cell: what does it think after
# each word, and what do its gates do meanwhile?  How far back does a cell remember?
# What does it say about reviews that it never saw?  And how good is that, beside models
# that only count?


def forward(model, batch):
    """Scores (B, C) of a batch, for `utils.collect`."""
    return model(batch["text"], batch["text_length"])


def show_answers(scores, data):
    """Print ten test reviews from all over the test set, right and wrong."""
    pairs = data.parts[2]
    chances = scores.softmax(1)  # (N, C)
    print(f"\n{data.source.label}: ten test reviews, the answer, the truth")
    for place in range(0, len(pairs), max(1, len(pairs) // 10))[:10]:
        text, truth = pairs[place]
        answer = data.labels[int(chances[place].argmax())]
        mark = "✔" if answer == truth else "✘"
        said = f"{answer} {chances[place].max():.0%}"
        print(f"  {mark} said {said:<10} truth {truth:<5} {one_line(text, 58)}")


def show_most_wrong(scores, data, most=4):
    """Print the test reviews whose true label had the least probability."""
    chances = scores.softmax(1)  # (N, C)
    truth = data.test.data["label"].cpu()  # (N,)
    of_truth = chances.gather(1, truth.unsqueeze(1)).squeeze(1)  # (N,): p of the truth
    wrong = scores.argmax(1) != truth  # (N,)
    if not wrong.any():
        return
    print(f"\n{data.source.label}: where it is surest, and wrong")
    for place in of_truth.argsort()[:most].tolist():
        if not wrong[place]:  # fewer than `most` are wrong
            continue
        text, label = data.parts[2][place]
        answer = data.labels[int(chances[place].argmax())]
        print(f"  ✘ said {answer} {chances[place].max():.1%}, truth {label}:")
        print(textwrap.indent(textwrap.fill(one_line(text, 330), 78), "      "))
    say(
        """Reading it: irony, the plot taken for the opinion, a turn in the last line, or
        a label that you would not have given either?"""
    )


# The running verdict: let the review end after its first word, its second, and so on,
# and ask each time.  Beside it stand the gates, which our own lstm_step computes with
# the trained weights: each gate is H numbers, so their mean is shown.

VERDICT = "We saw it last week. The music is superb, but the story is dull and weak."


def running_verdict(model, ids):
    """Probabilities (T, C) after 1, 2, ... T words of one review: ids (1, T)."""
    lengths = torch.arange(1, ids.shape[1] + 1)  # (T,)
    with torch.no_grad():
        # The same review T times, but of row t only the first t words count.
        scores = model(ids.expand(len(lengths), -1), lengths)  # (T, C)
    return scores.float().softmax(1)


def gates_along(model, ids):
    """Gates i, f and o at each word of one review (1, T): name -> (T,); and a check.

    Each is the mean over the H numbers of the first layer, computed by our own cell
    with the trained weights.  The check: how far our states are from those of nn.LSTM.
    """
    weights = [
        model.rnn.weight_ih_l0,
        model.rnn.weight_hh_l0,
        model.rnn.bias_ih_l0,
        model.rnn.bias_hh_l0,
    ]
    # Of several layers only the first reads words: it is rebuilt alone, to compare
    # with.
    first_layer = nn.LSTM(
        model.rnn.input_size, model.rnn.hidden_size, batch_first=True, device=ids.device
    )
    for parameter, trained in zip(first_layer.parameters(), weights, strict=True):
        parameter.data = trained.data
    with torch.no_grad():
        x = model.embed(ids)  # (1, T, E)
        zero = x.new_zeros(1, model.rnn.hidden_size)  # (1, H)
        steps = lstm_by_hand(x, zero, zero, *weights)
        theirs, _ = first_layer(x)  # (1, T, H)
    ours = torch.stack([step.h for step in steps], dim=1)  # (1, T, H)
    gates = {
        "i": torch.stack([step.i.mean() for step in steps]).cpu(),  # (T,)
        "f": torch.stack([step.f.mean() for step in steps]).cpu(),
        "o": torch.stack([step.o.mean() for step in steps]).cpu(),
    }
    return gates, (ours - theirs).abs().max().item()


def taken_from(model, ids):
    """Of the H numbers, the share that has its largest value at each word of ids: (T,).

    That is what max pooling takes over from that word.
    """
    with torch.no_grad():
        states, _ = model.rnn(model.embed(ids))  # (1, T, H)
        states = model.norm(states)[0]  # (T, H)
    winners = states.argmax(0)  # (H,): the word at which each number is largest
    counts = torch.bincount(winners, minlength=len(states)).cpu()  # (T,)
    return counts / states.shape[1]


def weights_along(model, ids):
    """The weight that attention pooling gives to each word of one review (1, T): (T,)."""
    with torch.no_grad():
        states, _ = model.rnn(model.embed(ids))  # (1, T, H)
        states = model.norm(states)
        real = torch.ones_like(ids, dtype=torch.bool).unsqueeze(2)  # (1, T, 1): all
        weights = attention_weights(states, real, model.attend)  # (1, T, 1)
    return weights[0, :, 0].float().cpu()


def show_running_verdict(model, config, data, args):
    """Print and draw what the network would say after each word, and why.

    The text is the first of --predict, or VERDICT.
    """
    text = args.predict[0] if args.predict else VERDICT
    words = utils.split_words(text)[:60]
    ids = torch.tensor([data.vocabulary.encode(words)], device=args.device)  # (1, T)
    chances = running_verdict(model, ids).cpu()  # (T, C)
    label = int(chances[-1].argmax())
    if len(data.labels) == 2:
        label = 1  # of two labels, one will do
    # Beside the verdict, what can be seen of this cell and this pooling.
    columns = {}
    if config["cell"] == "lstm":
        columns, gap = gates_along(model, ids)
    if config["pooling"] == "attention":
        columns["weight"] = weights_along(model, ids)
    if config["pooling"] == "max":
        columns["taken"] = taken_from(model, ids)
    name = data.labels[label]
    print(f"\nThe running verdict: p({name}), if the review ended after this word")
    print(f"  {'word':<12} {'p':>4} {'':<20}", "".join(f"{c:>7}" for c in columns))
    for t, word in enumerate(words):
        chance = chances[t, label].item()
        bar = "#" * round(20 * chance)
        rest = "".join(f"{column[t]:>7.2f}" for column in columns.values())
        print(f"  {word[:12]:<12} {chance:.2f} {bar:<20} {rest}")
    if config["cell"] == "lstm":
        most_written = int(columns["i"].argmax())
        least_kept = int(columns["f"].argmin())
        say(
            f"""i, f, o: how far the gates are open, means over the hidden numbers,
            by our own cell with the trained weights (its states are {gap:.0e} apart
            from nn.LSTM's).  Most is written at "{words[most_written]}", and least of
            the memory is kept at "{words[least_kept]}"."""
        )
    if "weight" in columns:
        say(
            """weight: how much of the pooled vector is made of the state at this word;
            all weights of the review sum to 1."""
        )
    if "taken" in columns:
        say(
            """taken: max pooling looks at nothing but the largest value of each
            hidden number; this is the share of them that have it at this word."""
        )
    if not args.no_plots:
        draw_verdict(words, chances, data, args)
    if columns:
        title = f"Gates of the trained network, {data.source.label}"
        matrix = torch.stack(list(columns.values()))  # (rows, T)
        axes = ("word just read", "gate")
        utils.plot_matrix(
            args, "gates", title, matrix, list(columns), words, *axes, bar="mean"
        )


def draw_verdict(words, chances, data, args):
    """Picture of the running verdict: probabilities (T, C) over the words."""
    figure, axes = utils.pyplot().subplots(figsize=(max(5, 0.35 * len(words)), 4))
    shown = range(len(data.labels))[:20]
    if len(data.labels) == 2:
        shown = [1]
    for label in shown:
        axes.plot(range(len(words)), chances[:, label], "o-", label=data.labels[label])
    axes.set_xticks(range(len(words)), words, rotation=90, **utils.PLAIN)
    axes.axhline(1 / len(data.labels), color="grey", linewidth=0.8)
    axes.set(xlabel="word just read", ylabel="probability", ylim=(-0.03, 1.03))
    axes.set_title(f"Running verdict, {data.source.label}", **utils.PLAIN)
    for text in axes.legend().get_texts():
        text.set_parse_math(False)  # a label may hold dollar signs
    utils.save_picture(figure, args, "running_verdict")


# How far back does a cell remember?  A film review cannot tell: "superb" comes again
# and again.  So here is a task in which nothing else counts.  Letters at random; the
# answer is the first of them.  All others are noise that must be kept out:
#
#     c a h f b ... (N letters) ... e        answer: c
#
# Each of three cells is trained on sequences of 1 to 50 letters, and then asked about
# new ones of up to 100.  No word can be guessed here: chance is 1 in 8.

RECALL_LETTERS = 8
RECALL_LONGEST = 50  # letters of the longest sequence in training
RECALL_ASKED = (1, 2, 3, 5, 10, 20, 50, 100)


def recall_batch(rows, length, device):
    """Sequences as a batch for `measure`: text (B, T) of letters 1 to 8, no padding."""
    text = torch.randint(1, RECALL_LETTERS + 1, (rows, length), device=device)  # (B, T)
    return {
        "text": text,
        "text_length": torch.full((rows,), length),  # (B,)
        "label": text[:, 0] - 1,  # (B,): the first letter, as a class 0 to 7
    }


def recall_config(cell):
    """A small network that must carry all in its state: pooling takes the last one."""
    return {
        "words": RECALL_LETTERS + 1,  # and padding, which is never used
        "classes": RECALL_LETTERS,
        "embedding": 16,
        "cell": cell,
        "hidden": 32,
        "pooling": "last",
    }


def recall_reach(model, batch):
    """|dL/d state| at each letter, the last one first, whose own is 1: (T,)."""

    def loss_of(last_state):  # (B, H)
        return F.cross_entropy(model.output(last_state), batch["label"])

    return utils.gradient_by_distance(model.rnn, model.embed(batch["text"]), loss_of)


def show_recall(args):
    """Train each cell to recall the first letter, print, draw: {cell: accuracy at 50}.

    Its flags are its own, so that those of the reader do not change the experiment.
    """
    settings = {"epochs": 1, "lr": 0.01, "optimizer": "adam", "clip": 1.0}
    settings |= {"weight_decay": 0.0, "patience": 0, "accumulate": 1}
    flags = Namespace(**{**vars(args), **settings, "precision": "fp32"})
    # The same sequences for all cells.  Validation and test are drawn anew: what is
    # asked was not seen in training.
    utils.set_seed(args.seed)
    count = 10 if args.quick else 1000
    train = []
    for length in torch.randint(1, RECALL_LONGEST + 1, (count,)).tolist():
        train.append(recall_batch(64, length, args.device))
    val = [recall_batch(500, RECALL_LONGEST, args.device)]
    tests = {}
    for length in RECALL_ASKED:
        tests[length] = [recall_batch(500, length, args.device)]
    first = "".join("abcdefgh"[letter - 1] for letter in tests[20][0]["text"][0])
    print("\nHow far back does a cell remember?  Letters in; the first is asked for:")
    print(f"  {' '.join(first)}   answer: {first[0]}")
    # How often is each cell right, and how much of the gradient reaches each letter?
    rows = {}
    reach = {}
    for cell in CELLS:
        utils.set_seed(args.seed)
        model = ReviewClassifier(**recall_config(cell)).to(args.device)
        reach[f"{cell}, before training"] = recall_reach(model, val[0])
        utils.fit(model, measure, train, val, flags)
        reach[f"{cell}, trained"] = recall_reach(model, val[0])
        if cell == "lstm":
            trained_lstm = model
        rows[cell] = {}
        for length in RECALL_ASKED:
            scores = utils.evaluate(model, measure, tests[length], flags)
            rows[cell][f"N={length}"] = scores["accuracy"]
    title = "Accuracy on the first of N random letters [sample: generated]"
    utils.print_table(title, rows, corner="cell")
    explain_recall(rows, reach)
    if rows["lstm"][f"N={RECALL_LONGEST}"] > 0.95:
        show_recalled_memory(trained_lstm, val[0])
    lines = {cell: list(row.values()) for cell, row in rows.items()}
    lines["chance"] = [1 / RECALL_LETTERS] * len(RECALL_ASKED)
    title = "The first of N random letters [sample: generated]"
    utils.plot_lines(
        args, "memory", title, lines, "N", "accuracy", RECALL_ASKED, dashed=["gru"]
    )
    utils.plot_lines(
        args,
        "gradient",
        title,
        reach,
        "letters before the last",
        "gradient, last letter = 1",
        log=True,
        dashed=[name for name in reach if "before" in name],
    )
    return {cell: row[f"N={RECALL_LONGEST}"] for cell, row in rows.items()}


def explain_recall(rows, reach):
    """What the accuracies and the gradients say, in words."""
    say(
        f"""Chance is {1 / RECALL_LETTERS:.3f}; the longest in training had
        {RECALL_LONGEST} letters."""
    )
    if all(row["N=3"] < 0.95 for row in rows.values()):
        print("No cell has learned it: so short a training (--quick) is a trial only.")
        return
    for cell, row in rows.items():
        if row["N=100"] > 0.95:
            said = "recalls it, even of 100 letters, twice as many as in training."
        elif row[f"N={RECALL_LONGEST}"] > 0.95:
            said = "recalls it as far as it was trained, but not of 100."
        elif row["N=3"] > 0.95:
            said = "recalls it over a few letters, and loses it on the way."
        else:
            said = "does not: even of 3 letters it often misses the first."
        print(f"  {cell:<5} {said}")
    print("Why?  How much of the gradient arrives, of 1 at the last letter:")
    print("  letters before the last         1       10       49")
    for name, curve in reach.items():
        shown = "".join(f"{curve[distance]:>9.2g}" for distance in (1, 10, 49))
        print(f"  {name:<24}{shown}")
    if rows["rnn"]["N=3"] < 0.95:
        say(
            """Before training, little comes through for any cell: the short
            sequences have to teach the beginning.  Then the gated cells open the
            path: at 49 letters hardly less arrives than at 10, so the long sequences
            teach as well.  The plain RNN goes the other way.  To hold a thing
            against the noise it must push its numbers to the ends of tanh, near -1
            and 1.  There tanh is flat and its gradient near 0: the more firmly it
            holds the little that it has, the less it can learn to hold more (Bengio
            et al., 1994).  (The GRU is lesson 06.)"""
        )


def show_recalled_memory(model, batch):
    """Print one number of the trained LSTM's memory along the letters: what it keeps.

    The number whose value after the last letter differs most between first letters.
    """
    with torch.no_grad():
        x = model.embed(batch["text"])  # (B, T, E)
        zero = x.new_zeros(len(x), model.rnn.hidden_size)  # (B, H)
        steps = lstm_by_hand(x, zero, zero, *model.rnn.parameters())
    memory = torch.stack([step.c for step in steps], dim=1).cpu()  # (B, T, H)
    # Sequences that begin alike differ in their noise alone: their mean is what the
    # first letter left, their standard deviation what the noise does.
    first = batch["label"].cpu()  # (B,)
    by_letter = []
    spread = []
    for letter in range(RECALL_LETTERS):
        some = memory[first == letter]  # the sequences that begin so: (n, T, H)
        by_letter.append(some.mean(0))  # (T, H)
        spread.append(some[:, -1].std(0))  # (H,)
    by_letter = torch.stack(by_letter)  # (letters, T, H)
    spread = torch.stack(spread)  # (letters, H)
    number = int(by_letter[:, -1].std(0).argmax())
    print()
    say(
        """What the trained LSTM keeps: one of its 32 numbers c, a mean for each
        first letter, after N letters"""
    )
    print("  first letter  " + "".join(f"{letter:>7}" for letter in "abcdefgh"))
    for length in (1, 5, 20, RECALL_LONGEST):
        values = by_letter[:, length - 1, number].tolist()
        print(f"  N = {length:<10}" + "".join(f"{value:>7.1f}" for value in values))
    values = spread[:, number].tolist()
    print("  moved by noise" + "".join(f"{value:>7.1f}" for value in values))
    sizes = by_letter[:, :, number].abs().amax(0)  # (T,)
    if sizes[-1] > 2 * sizes[4]:
        say(
            """It does not write the letter once and then shut its gates, as one
            might think.  In h it shows what it holds, so that it can write the same
            once more at every step: c grows, and no letter of noise can turn it
            (last row: the standard deviation after 50).  So 100 letters are no
            harder than 50."""
        )
    else:
        say(
            """It is written near the start and then kept; the noise of all later
            letters moves it little (last row: the standard deviation after 50)."""
        )


# The table on test has four rivals, and none of them is a network.  "majority" gives
# all reviews the answer that is commonest in training.  The other three count words,
# and a linear model (logistic regression) gives each count a weight.  Where a word
# stands, they do not know; but neighbours can be counted together:
#
#   tfidf_unigram   words.  A word that stands in most reviews ("the") counts less
#                   (TF-IDF, as in lesson 04)
#   tfidf_bigram    words and pairs of neighbours: "not good" is a thing of its own
#   ratio_trigram   words, pairs and triples that stand in two reviews or more, each
#                   multiplied by its log-count ratio (Wang and Manning, 2012)
#
# The log-count ratio of a run of words says how much commoner it is in one class than
# in the other.  With p the number of pos reviews that hold it, and q of neg ones,
#
#     r = log( (p + 1) / sum of all (p + 1)  :  (q + 1) / sum of all (q + 1) )
#
# (Of more than two labels, each has its own r, against all others.)  r is 0 for a run
# that says nothing, above 0 for praise, below 0 for blame; the 1 is there so that no
# logarithm of 0 is taken.  So what counting alone knows to tell much is made large, and
# the linear model can use it with a small weight, that is, cheaply: large weights are
# what logistic regression is charged for.
#
# In IMDB 956,285 runs stand in two training reviews or more.  Among the strongest, with
# r and the number of reviews that hold them:
#
#     of the worst     -3.3   518        of the best           +1.8   773
#     waste of time    -2.8   306        highly recommended    +3.1   186
#     3 / 10           -3.7   161        7 / 10                +3.2   183

TOY_REVIEWS = (
    ("good film", True),
    ("a good film", True),
    ("not good", False),
    ("film is not good", False),
)


def log_count_ratios_by_hand(reviews, least=2):
    """run -> (p, q, r), for runs of one to three words in `least` reviews or more.

    reviews: pairs (text, whether it is pos).
    """
    in_pos = {}
    in_neg = {}
    for text, is_pos in reviews:
        # All runs of one to three words, each once, even if the review says it twice.
        words = text.split()
        runs = set()
        for start in range(len(words)):
            for end in range(start + 1, min(start + 3, len(words)) + 1):
                runs.add(" ".join(words[start:end]))
        for run in runs:
            in_pos[run] = in_pos.get(run, 0) + int(is_pos)
            in_neg[run] = in_neg.get(run, 0) + int(not is_pos)
    # What stands in one review only tells of that review, not of others.
    known = [run for run in in_pos if in_pos[run] + in_neg[run] >= least]
    all_pos = sum(in_pos[run] + 1 for run in known)
    all_neg = sum(in_neg[run] + 1 for run in known)
    found = {}
    for run in sorted(known):
        share_pos = (in_pos[run] + 1) / all_pos
        share_neg = (in_neg[run] + 1) / all_neg
        found[run] = (in_pos[run], in_neg[run], float(np.log(share_pos / share_neg)))
    return found


def show_log_count_ratio():
    """Print the log-count ratios of four tiny reviews, and utils' own."""
    print("\nThe log-count ratio of four tiny reviews:")
    for text, is_pos in TOY_REVIEWS:
        print(f"  {'pos' if is_pos else 'neg'}  {text}")
    found = log_count_ratios_by_hand(TOY_REVIEWS)
    all_pos = sum(p + 1 for p, _, _ in found.values())
    all_neg = sum(q + 1 for _, q, _ in found.values())
    print("  in two reviews or more   pos  neg   ratio")
    for run, (p, q, r) in found.items():
        print(
            f"  {run:<23} {p:>4} {q:>4}   log({p + 1}/{all_pos} : {q + 1}/{all_neg}) = "
            f"{r:+.3f}"
        )
    # The shared one, which counts hundreds of thousands of runs in seconds.  It puts
    # them in another order, so both are sorted before they are compared.
    counts = utils.WordRuns(longest=3, least=2)
    present = counts.fit_transform([text.split() for text, _ in TOY_REVIEWS]) > 0
    is_pos = np.array([is_pos for _, is_pos in TOY_REVIEWS])
    theirs = sorted(utils.log_count_ratio(present, is_pos))
    ours = sorted(r for _, _, r in found.values())
    gap = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    print(f"  utils.log_count_ratio finds the same {len(ours)}: {gap:.0e} apart")
    say(
        """Reading it: "good" alone says nearly nothing here; "good film" and "not
        good" tell the classes apart, and no order beyond the pair was needed."""
    )


def score_all(answers, truth):
    """name -> scores of each of `answers` (name -> (N, C)) against truth (N,)."""
    return {
        name: utils.classification_scores(scores, truth)
        for name, scores in answers.items()
    }


def report(model, config, records, recalled, data, args):
    """The table on test beside its baselines, the answer to the title, metrics.json."""
    # The test reviews are looked at here, once, after all choices were made.
    ours = f"{config['cell']} (this lesson)"
    truth = data.test.data["label"].cpu()  # (N,)
    answers = {ours: utils.collect(model, forward, data.test, args)}  # (N, C)
    show_answers(answers[ours], data)
    show_most_wrong(answers[ours], data)
    show_log_count_ratio()
    answers |= utils.review_baselines(data.parts[0], data.parts[2], data.labels)
    rows = score_all(answers, truth)
    utils.print_table(f"{data.source.label}: test, {len(truth):,} reviews", rows)
    explain(answers, rows, ours, truth, data)
    # The same for metrics.json.
    metrics = {f"test_{name}": value for name, value in rows[ours].items()}
    checked = utils.evaluate(model, measure, data.val, args)
    metrics["val_accuracy"] = checked["accuracy"]
    metrics["val_loss"] = checked["loss"]
    for cell, accuracy in recalled.items():
        metrics[f"memory_{cell}"] = accuracy
    known = {name: row["accuracy"] for name, row in rows.items() if name != ours}
    words = int(data.train.lengths["text_length"].sum())
    size = utils.count_parameters(model)
    utils.write_metrics(
        args, data.source, metrics, known, size, records, words, "tokens"
    )


def explain(answers, rows, ours, truth, data):
    """The answer to the title, in words, with tests of whether it could be luck."""
    right = {name: scores.argmax(1) == truth for name, scores in answers.items()}
    say(
        """Luck?  Count the test reviews that only one of two gets right.  Were both
        equally good, these would fall like tosses of a coin (McNemar's test, lesson
        04)."""
    )
    # Below p = 0.05 a difference counts as one.
    verdicts = {}
    for name in answers:
        if name == ours:
            continue
        only_ours, only_theirs, p = utils.mcnemar(right[ours], right[name])
        if p >= 0.05:
            verdicts[name] = "cannot be told apart from"
        elif only_ours > only_theirs:
            verdicts[name] = "beats"
        else:
            verdicts[name] = "loses to"
        shown = f"= {p:.2g}" if p > 1e-99 else "< 1e-99"
        print(
            f"  {name:<14} only we {only_ours:>6,}   only it {only_theirs:>6,}   "
            f"p {shown:<10} our network {verdicts[name]} it"
        )
    show_split_opinions(right[ours], right["ratio_trigram"], data)
    answer_the_title(rows, ours, verdicts)


def answer_the_title(rows, ours, verdicts):
    """The ending: what was found, who won, and why."""
    accuracy = {name: row["accuracy"] for name, row in rows.items()}
    gap = accuracy[ours] - accuracy["ratio_trigram"]
    print("\nCan a network read a review?")
    if verdicts["majority"] != "beats":
        say(
            """Not in this run: it is not better than the same answer for all.  A
            training as short as that of --quick is for trying only."""
        )
        return
    say(
        f"""Yes, well enough to judge it.  Of reviews that it never saw it is right
        about {accuracy[ours]:.1%}; the same answer for all is right about
        {accuracy["majority"]:.1%}.  Beside runs of one to three words, only counted,
        it stands {gap:+.4f}: it {verdicts["ratio_trigram"]} them."""
    )
    if verdicts["ratio_trigram"] == "loses to":
        say(
            f"""Why?  Reviewers say what they think in set phrases ("waste of time",
            "highly recommended", "7 / 10"), and which of them occur is nearly all
            that one needs to know: words alone are right about
            {accuracy["tfidf_unigram"]:.1%}, with pairs
            {accuracy["tfidf_bigram"]:.1%}, with triples and their ratio
            {accuracy["ratio_trigram"]:.1%}.  The counting models are handed every
            phrase ready made, and its ratio says from the start what it is worth.
            The network has to find words, phrases and their worth all at once, in
            the same reviews; and it can learn those by heart before it has found
            enough."""
        )
        say(
            """Does it pay, then, to read in order?  Where order decides it does:
            --dataset sample turns the table round.  And where there is more text to
            learn from: networks that first learned to guess the next word (lesson
            10) of millions of sentences, and only then these labels, reach 95 %
            (Howard and Ruder, 2018)."""
        )
    elif verdicts["ratio_trigram"] == "beats":
        say(
            """Why?  Here order decides: "good, although dull" and "dull, although
            good" hold the same words, and what decides stands further away than
            three words reach.  The memory carries it there."""
        )
    else:
        print("So small a difference may be luck.")


def show_split_opinions(ours_right, theirs_right, data):
    """Print the shortest test review that only one of the two gets right."""
    kinds = {
        "only the network is right": ours_right & ~theirs_right,  # (N,)
        "only ratio_trigram is right": theirs_right & ~ours_right,
    }
    for name, rows in kinds.items():
        places = torch.nonzero(rows).flatten().tolist()
        if not places:
            continue
        shortest = min(places, key=lambda place: len(data.parts[2][place][0]))
        text, label = data.parts[2][shortest]
        print(f"  {name}, truth {label}:")
        print(textwrap.indent(textwrap.fill(one_line(text, 240), 78), "      "))


# ====================================================================================
# 5. Command line
# ====================================================================================

COMPARED = 6000  # --compare trains several models, so each on so many reviews


def fewer_reviews(reviews, count):
    """The same reviews, but only `count` for training, whatever --seed says."""
    train = reviews.parts[0]
    order = torch.randperm(
        len(train.texts), generator=torch.Generator().manual_seed(0)
    ).tolist()
    chosen = order[:count]
    part = utils.TextPart(
        texts=[train.texts[i] for i in chosen],
        labels=[train.labels[i] for i in chosen],
        ids=[train.ids[i] for i in chosen],
    )
    return reviews._replace(parts=[part, *reviews.parts[1:]])


def variants(config, args):
    """What --compare trains: name -> (config, flags); the default comes first."""
    if args.compare == "cell":
        shapes = utils.cells_of_equal_size(ReviewClassifier, config, CELLS)
        return {name: (shape, {}) for name, shape in shapes.items()}
    if args.compare == "pooling":
        kinds = sorted(POOLINGS, key=lambda how: how != args.pooling)
        return {how: ({**config, "pooling": how}, {}) for how in kinds}
    plain = {**config, "dropout": 0.0, "norm": False}
    dropout = args.dropout or 0.5
    decay = args.weight_decay or 1.0
    return {
        f"dropout {dropout:g}": ({**plain, "dropout": dropout}, {"weight_decay": 0.0}),
        "none": (plain, {"weight_decay": 0.0}),
        f"weight decay {decay:g}": (plain, {"weight_decay": decay}),
        "layer norm": ({**plain, "norm": True}, {"weight_decay": 0.0}),
    }


def compare(config, data, args):
    """`--compare`: every variant on the same data and seed; one table of validation."""
    print(f"Each on {data.train.n:,} training reviews, without early stopping")

    def train(settings):
        shape, flags = settings
        flags = Namespace(**{**vars(args), "patience": 0, **flags})
        model, records = train_model(shape, data, flags)
        return model, records, utils.judge(model, forward, data.val, args)

    truth = data.val.data["label"].cpu()
    rivals = utils.review_baselines(data.parts[0], data.parts[1], data.labels)
    kinds = variants(config, args)
    utils.compare_variants(args, data.source, kinds, train, score_all(rivals, truth))
    say(
        """Reading it: one seed, so small gaps mean nothing.  Each row is scored at
        its best epoch; the picture shows where its two losses part."""
    )


def print_predictions(model, feeds, data, args):
    """`--predict`: the likeliest labels of each text."""
    print()
    for text in args.predict:
        batch = utils.encode_texts(
            [text], data.vocabulary, feeds["max_length"], feeds["keep"]
        )
        with torch.no_grad():
            scores = model(
                batch["text"].to(args.device), batch["text_length"]
            )  # (1, C)
        chances = scores[0].float().softmax(0)  # (C,)
        best = chances.argsort(descending=True)[:3].tolist()
        said = ", ".join(f"{data.labels[k]} {chances[k]:.1%}" for k in best)
        print(f"{one_line(text, 60)}: {said}")


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(parser, ["imdb", "sample"], "a CSV file: text,label")
    utils.add_training_flags(
        parser,
        epochs=6,
        lr=0.004,
        batch_size=64,
        hidden_size=128,
        dropout=0.5,
        patience=2,
    )
    add = parser.add_argument_group("this lesson").add_argument
    add("--cell", choices=list(CELLS), default="lstm", help="default lstm")
    add(
        "--pooling",
        choices=POOLINGS,
        default="attention",
        help="over time (default attention)",
    )
    add("--layer-norm", action="store_true", help="on the states")
    add(
        "--max-length",
        type=utils.whole(1, 100_000),
        default=400,
        help="words kept of a review (default 400)",
    )
    add(
        "--keep",
        choices=["both", "start", "end"],
        default="both",
        help="which words of a longer one (default both: half of each)",
    )
    add(
        "--max-vocab",
        type=utils.whole(3),
        default=15_000,
        help="words known (default 15000)",
    )
    add(
        "--compare",
        choices=["cell", "pooling", "regularization"],
        help="several models, one table",
    )
    add("--predict", nargs="+", metavar="TEXT", default=[], help="texts to judge")
    return parser


def new_model(source, reviews, args):
    """(config, feeds) of a new model: how to build it, and what feeds it."""
    vocabulary = utils.review_vocabulary(reviews, args.max_vocab)
    config = {
        "words": len(vocabulary),
        "classes": len(reviews.labels),
        "embedding": 100,
        "cell": args.cell,
        "hidden": args.hidden_size,
        "layers": args.num_layers,
        "pooling": args.pooling,
        "norm": args.layer_norm,
        "dropout": args.dropout,
    }
    feeds = {
        "dataset": source.name,
        "vocabulary": vocabulary.tokens,
        "labels": reviews.labels,
        "max_length": args.max_length,
        "keep": args.keep,
    }
    return config, feeds


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__)
    utils.check_texts(args.predict)

    # 1. The data: read, numbered, padded; one review looked at.
    offline = {"sample": utils.SAMPLES / "reviews.csv"}
    source = utils.choose_dataset(args, ["imdb"], offline)
    reviews = utils.load_reviews(args, source)
    if args.eval_only:
        model, config, feeds = utils.load(args, ReviewClassifier, dataset=source.name)
    else:
        config, feeds = new_model(source, reviews, args)
    if args.compare:
        reviews = fewer_reviews(reviews, COMPARED)
    data = load_data(source, reviews, feeds, args)
    sizes = " / ".join(f"{len(part):,}" for part in data.parts)
    print(f"{source.label}: {sizes} reviews to train, validate, test;", end=" ")
    print(f"{len(data.vocabulary):,} words known")
    if args.compare:
        return compare(config, data, args)
    show_one_review(data)

    # 2. The model: one cell with numbers, the path of its memory, the layer, pooling.
    show_one_cell()
    show_memory_path()
    show_lstm_is_nn_lstm()
    show_poolings()

    # 3. Training: the brakes against learning by heart; then the real thing.
    show_dropout()
    show_weight_decay()
    show_early_stopping()
    records = []
    if not args.eval_only:
        print(f"\nTraining on {source.label}: one line an epoch")
        model, records = train_model(config, data, args, feeds)
        show_overfitting(records, args)
        draw_training(config, records, data, args)

    # 4. Evaluation: what does it think word by word, how far back does a cell remember,
    #    how good is it, and who is better?
    show_running_verdict(model, config, data, args)
    recalled = {}
    if not args.eval_only:
        recalled = show_recall(args)
    report(model, config, records, recalled, data, args)
    if args.predict:
        print_predictions(model, feeds, data, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
