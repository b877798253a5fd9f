"""05 · Can a network read a review?

"The music is superb, but the story is dull and weak."  You know at once what its writer
thinks of the film, and the order of the words helps you: "dull, but good" is not "good,
but dull".  Here a network reads film reviews word by word and says whether the writer
liked the film.  A review has hundreds of words, and a plain RNN, the cell of lesson 04,
learns with difficulty from what stands so far back (section 2 shows it on letters).  So
this lesson opens another cell, the LSTM (long short-term memory).  It has a memory, and
gates that decide what is kept in it.  Whether film reviews need that is asked as well.

What you will learn
    - what a gate is, and the LSTM cell with every number of four words printed
    - why its memory can learn to reach further back than the state of a plain RNN, and
      how far: two kinds of cell must recall the first of many letters
    - how the states of all words become one vector: four kinds of pooling, by hand
    - the loss of a yes or no; overfitting, the brakes against it, and what they were
      worth in recorded runs
    - what the network thinks after each word, what its gates do meanwhile, and what is
      left of its answers when the words are shuffled
    - what the strongest simple rivals do: they only count words and their neighbours

You need lesson 01 (padding and mask), 02 (vocabulary, embedding) and 04 (the recurrent
step, the gradient through time, the training loop with Adam and clipping, McNemar's
test).

Run it
    python 05_lstm_sentiment.py                       (four minutes on two idle threads)
    python 05_lstm_sentiment.py --threads 1           (about twice that; recorded below)
    python 05_lstm_sentiment.py --save-model
    python 05_lstm_sentiment.py --eval-only --predict "Slow, but I loved it."
    python 05_lstm_sentiment.py --input FILE.csv      (columns text and label)

You should see  (imdb [real], seed 0, --threads 1)
      model                accuracy   macro_f1
      lstm (this lesson)     0.8926     0.8925
      rnn                    0.8643     0.8641      another run, --cell rnn
      majority               0.5000     0.3333
      tfidf_unigram          0.8855     0.8855
      tfidf_bigram           0.9096     0.9096
      ratio_trigram          0.9173     0.9173
    (Two threads add in another order: so lstm had 0.8874 there.  Believe no gap below a
    point from one training.)
    [real]: reviews that people wrote.  [sample]: made by a program for this course.
    accuracy is the share of test reviews judged rightly; macro_f1 is explained in
    lesson 04.  "majority" gives every review the same answer.  The other three count
    words (unigrams), pairs of neighbours (bigrams), and triples (trigrams): section 4.

    Can it read a review?  Judge it, yes: it is right for nine of ten, about as often as
    a count of single words, and less often than counts of pairs.  Read it, hardly: it
    loses one or two points when the words of each review are shuffled.  And its memory
    is needed where order decides and the last state must hold all, in made-up reviews;
    on real ones the plain RNN of lesson 04 is 1.2 to 2.8 points behind, and a network
    without any recurrence half a point.
    Pictures: gradient.png (section 2), training.png, gates.png, in --out-dir.

Try this  (guess first, then run.  Times on one thread; results: end of section 4)
    --dataset sample                here the order of words decides: who wins?  (2 min)
    --dataset sample --cell rnn     the same with the plain RNN  (2 min)
    --dataset sample --pooling last
    --dataset sample --pooling last --cell rnn --lr 0.001
                                    and if the last state must hold all?  (2 min each)
    --compare regularization --epochs 8
                                    dropout, weight decay, layer norm?  (15 min)
    --compare pooling               four ways to make one vector of all states  (11 min)
    --compare cell                  three cells with equally many weights  (20 min)
"""

# Sizes
#     B  batch (reviews)           T  time (words of the longest review in the batch)
#     E  embedding                 H  hidden state, and as many numbers of memory
#     V  vocabulary (words)        C  classes (the labels: neg, pos)
#     N  reviews of one part       L  letters of a sequence, in an experiment

import math
import sys
import textwrap
from argparse import Namespace
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================
#
# 50,000 film reviews were collected from a web site where viewers give one to ten stars
# (Maas et al., 2011).  A review with up to four stars has the label neg, one with seven
# or more pos.  Half of the reviews are for training, half for the test, and no film
# stands in both halves.  A tenth of the training half is set aside for validation:
# there films do come again.  That is one reason why scores on validation are a little
# better than on test.  (The other: the epoch that is kept is chosen by validation.)
#
# Beside these there is a sample, 8,800 reviews made up by a program (`--dataset
# sample`).  In it the order of the words decides.  This one is pos:
#
#     The music is, whatever my uncle may say about it, very weak, yet the story was
#     truly excellent.
#
# Of "weak, yet excellent" the clause after "yet" (or "but") counts.  "not" turns what
# follows it round: "not dull" is pos.  What others say ("my brother calls it dull")
# does not count.  Between these stand asides that say nothing, so what decides may
# stand far from what it decides about.
#
# A network takes numbers, and a batch must be a rectangle.  Six steps lead there:
#
#   words     lower case; a punctuation mark is a word of its own ("!" says something)
#   ids       the place of each word in the vocabulary.  This is made by counting all
#             words of training (lesson 02): "<pad>" has place 0, "<unk>" 1, and then
#             come the commonest, --max-vocab in all.  Any other word becomes <unk>
#   kept      of a long review only --max-length words, half of them from its beginning
#             and half from its end.  Why not all?  The cell works through a batch word
#             by word, so its longest review sets the time that all take.  Why not the
#             first 400?  The end often tells more (figures: end of section 4)
#   bucketed  reviews of similar length share a batch: so less of it is padding.  Four
#             of 3, 6, 2 and 5 words, two in a batch, take 2 * 6 + 2 * 5 = 22 places as
#             they come; with neighbours in length together 2 * 3 + 2 * 6 = 18
#   padded    shorter reviews of the batch are filled up with 0
#   mask      which places hold real words: padding must not count (lesson 01)


# `utils.encode_texts` and `utils.Batches` do this with tensors, and deal out the
# training reviews anew in every epoch.  What is kept, in plain Python:


def keep_ends(ids, room):
    """What is kept of a list of ids: at most `room`, half from each end."""
    if len(ids) <= room:
        return ids
    last = room // 2
    first = room - last  # one more, if room is odd
    return ids[:first] + ids[len(ids) - last :]


def show_one_review(data, max_length):
    """Print one short training review on its way from the file to the tensors."""
    # The first that fits into a line; in data without such a one, the first of all.
    text, label = data.parts[0][0]
    for pair in data.parts[0]:
        if 12 <= len(utils.split_words(pair[0])) <= 24:
            text, label = pair
            break
    words = utils.split_words(text)
    ids = data.vocabulary.encode(words)
    print("\nOne review on its way from the file to the network:")
    print(f"  text     {textwrap.shorten(text, 240)}")
    print(f"  label    {label}, class {data.labels.index(label)}")
    print(f"  words    {' '.join(words[:24])}")
    print(f"  ids      {' '.join(map(str, ids[:24]))}")
    # (utils.say prints a text with its lines broken anew.)
    utils.say(
        """If there were room for 8 words only, these would be kept, half of them
        from the beginning and half from the end.  A row that is shorter than its
        neighbours is filled up with padding, here by two places for show, and the mask
        says so:"""
    )
    kept = keep_ends(ids, room=8)
    empty = 10 - len(kept)
    print(f"  kept     {' '.join(data.vocabulary.decode(kept))}")
    print(f"  row      {' '.join(map(str, kept + [0] * empty))}")
    print(f"  mask     {' '.join(map(str, [1] * len(kept) + [0] * empty))}")
    print("What stood in the middle is lost.  So --max-length is far above 8:")
    lengths = data.train.lengths["text_length"]  # (N,)
    print(f"  half of the training reviews have {int(lengths.median())} words or more")
    full = (lengths == max_length).float().mean()
    if full > 0:
        print(f"  {full:.0%} had {max_length} words or more, and keep {max_length}")


# ====================================================================================
# 2. Model
# ====================================================================================
#
# Why not the cell of lesson 04?  To remember takes two things, and they are not the
# same:
#
#   to hold    forwards: a number of the state stays what it is, word after word
#   to learn   backwards: the gradient must come from the answer to the word that is
#              worth holding, however far back it stands
#
# A plain RNN can do the first.  It pushes a number of its state towards -1 or 1, and
# lets W_hh push it there again at every word.  Take a state of one number and W_hh = 3:
# 0.995 stays what it is, tanh(3 * 0.995) = 0.995.  But that spoils the second.  On its
# way back the gradient is multiplied at every word:
#
#     h_0 --W_hh, tanh--> h_1 --W_hh, tanh--> h_2 -- ... --W_hh, tanh--> h_T
#
#     dh_T/dh_0 = product over all words of (tanh' times W_hh)
#
# (With H numbers W_hh is a matrix: lesson 04.)  tanh', the slope of tanh, is 1 at 0
# only; near -1 and 1, where things are held, it is close to 0.  What many such factors
# leave of a gradient is printed below.  In books this is the vanishing gradient.
#
# The LSTM (Hochreiter and Schmidhuber, 1997; its gate f: Gers et al., 2000) keeps what
# it knows in a second set of numbers, the memory c, and changes c in one way only: it
# keeps a part of it, and adds something.
#
#     c_t = f_t * c_(t-1) + i_t * g_t                     (* number by number)
#
# i, f and a third one, o, are gates.  A gate is a number between 0 and 1 that is
# multiplied with something: 0 lets nothing through, 1 all, 0.5 half.  It is computed
# anew for every word, from that word and from the state: so the network can learn when
# to open it.  A sigmoid makes a gate of any number: sigmoid(a) = 1 / (1 + e^-a) is 0.5
# at a = 0, near 1 for large a, near 0 for very negative a.
#
#   i  input gate     how much of the new is written
#   f  forget gate    how much of the memory is kept.  In spite of its name 1 keeps all
#   g  no gate        the new: a proposal between -1 and 1, made of word and state
#   o  output gate    how much of the memory is shown.  So the cell can know something
#                     and keep it to itself until it is needed
#   c  memory         what the cell knows; only it sees it (elsewhere: cell state)
#   h  hidden state   what it shows: to the layers above, and to its own next gates
#
#                  keep         add
#    c_(t-1) ------(*)----------(+)--------------.---------------> c_t
#                   ^            ^               |
#                   |           (*)            tanh
#                   |           ^ ^              |
#                   f           i g       o --->(*) show
#                   |           | |       |      |
#    h_(t-1) --.----.-----------.-.-------'      '---------------> h_t
#    x_t ------'    f, i, g and o alike, each with its own two W and its own two b:
#                   sigmoid, or tanh for g, of W x_t + b + W h_(t-1) + b
#
#    (*) multiplies, (+) adds; where a line bends or branches stands . or '
#
# PyTorch keeps the weights of the four one below another, H rows each:
#
#             w_ih (4H, E)    w_hh (4H, H)    b_ih, b_hh (4H,)
#     i           W_ii            W_hi           b_ii, b_hi
#     f           W_if            W_hf           b_if, b_hf
#     g           W_ig            W_hg           b_ig, b_hg
#     o           W_io            W_ho           b_io, b_ho
#
# w_ih is multiplied with the input x, w_hh with the state h; one b would do.
# In such a name the first letter says where from (i: the input, h: the state), the
# second where to: W_if leads from the input to gate f.


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

    w_ih (4H, E), w_hh (4H, H), b_ih and b_hh (4H,), as nn.LSTM keeps them.
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
    # h_t = o_t * tanh(c_t)                    tanh brings c, which may grow, back to
    # -1 ... 1, and the gate decides how much of it is seen.
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


# A toy to follow with a pencil: E = 3, H = 1.  The first number of a word says what it
# thinks of the film, the second whether it thinks anything, the third whether it turns
# the sentence round.  The weights are chosen so that each gate has one task:
#
#   i  opens for words with an opinion    weight 6 of the second number; the bias -3
#                                         shuts it at all others: sigmoid(-3) = 0.05
#   f  shuts for "but": that was that     weight -6 of the third; the bias 3 opens it
#                                         at all others: sigmoid(3) = 0.95
#   g  is the opinion                     weight 2 of the first
#   o  opens for words with an opinion    weight 4 of the second; bias -2
#
# All other weights of x are 0.  The state has a small weight in each, 0.5, so that you
# see its term.  A trained network has to find such weights by itself.

TOY_WORDS = {  # in the order in which they are read: "good film but dull"
    "good": [1.0, 1.0, 0.0],
    "film": [0.0, 0.0, 0.0],
    "but": [0.0, 0.0, 1.0],
    "dull": [-1.0, 1.0, 0.0],
}
TOY_W_IH = [  # (4H, E)
    [0.0, 6.0, 0.0],  # i
    [0.0, 0.0, -6.0],  # f
    [2.0, 0.0, 0.0],  # g
    [0.0, 4.0, 0.0],  # o
]
TOY_W_HH = [[0.5], [0.5], [0.5], [0.5]]  # (4H, H)
TOY_BIAS = [-3.0, 3.0, 0.0, -2.0]  # (4H,), b_ih and b_hh in one


def toy_weights():
    """The toy's weights as lstm_step wants them: W_ih, W_hh, b_ih, b_hh."""
    # In 64 bits (double), so that no rounding hides or feigns a difference.
    bias = torch.tensor(TOY_BIAS, dtype=torch.double)
    return [
        torch.tensor(TOY_W_IH, dtype=torch.double),
        torch.tensor(TOY_W_HH, dtype=torch.double),
        bias,
        torch.zeros_like(bias),
    ]


def toy_input():
    """The four words of the toy: (B, T, E) = (1, 4, 3)."""
    return torch.tensor([list(TOY_WORDS.values())], dtype=torch.double)


def sigmoid(number):
    """1 / (1 + e^-number), for one number."""
    return 1 / (1 + math.exp(-number))


def distance_by_hand(layer, x):
    """How far lstm_by_hand is from an nn.LSTM, in c and its gradients; x (B, T, E)."""
    _, (_, last_c) = layer(x)  # (1, B, H)
    zero = x.new_zeros(len(x), layer.hidden_size)  # (B, H)
    weights = list(layer.parameters())
    our_c = lstm_by_hand(x, zero, zero, *weights)[-1].c  # (B, H)
    gaps = [(our_c - last_c[0]).abs().max().item()]
    # Training needs equal gradients as well.
    ours = torch.autograd.grad(our_c.sum(), weights)
    theirs = torch.autograd.grad(last_c.sum(), weights)
    for one, other in zip(ours, theirs, strict=True):
        gaps.append((one - other).abs().max().item())
    return max(gaps)


def show_one_cell():
    """Print all that one LSTM cell computes for four words, and nn.LSTM's results."""
    print("\nOne LSTM cell reads four words; x has three numbers, h and c one each.")
    print("(Of x, only what is multiplied by a weight other than 0 is written.)")
    h = 0.0  # nothing is shown and nothing known before the first word
    c = 0.0
    for word, x in TOY_WORDS.items():
        print(f"  {word:<5} x = {x}, before it h = {h:.3f} and c = {c:.3f}")
        # The four sums, of word, state and bias, and what sigmoid or tanh makes of
        # them.
        value = {}
        for row, name in enumerate("ifgo"):
            bias = TOY_BIAS[row]
            from_h = TOY_W_HH[row][0]
            total = from_h * h + bias
            written = ""
            for weight, number in zip(TOY_W_IH[row], x, strict=True):
                if weight != 0:
                    total = total + weight * number
                    written = f"{weight} * {number}"
            if name == "g":
                squash = "tanh"
                value[name] = math.tanh(total)
            else:
                squash = "sigmoid"
                value[name] = sigmoid(total)
            print(
                f"    {name} = {squash:<7} of {written} + {from_h} * {h:.3f}"
                f" + {bias} = {total:.2f}:  {value[name]:.3f}"
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
    # PyTorch's own layer with the same weights:
    #     states, (last_h, last_c) = layer(x, (h_0, c_0))    left out, h_0 and c_0 are 0
    #     states  (B, T, H)       h after every word, of the topmost layer
    #     last_h  (layers, B, H)  h after the last place, last_h[-1] that of the topmost
    #     last_c  (layers, B, H)  c after the last place; of all words it does not give c
    # Whoever hands in (last_h, last_c) of one text reads on where it ended (lesson 10).
    # Careful: in a padded batch the last place of a short review is padding.
    layer = nn.LSTM(3, 1, batch_first=True).double()
    # parameters() lists them in this order: W_ih, W_hh, b_ih, b_hh.
    for parameter, weights in zip(layer.parameters(), toy_weights(), strict=True):
        parameter.data = weights
    states, (last_h, last_c) = layer(toy_input())  # (1, 4, 1), (1, 1, 1), (1, 1, 1)
    print(
        f"  nn.LSTM with these weights: last_c = {last_c[0, 0, 0].item():.3f}, "
        f"states[:, -1] = {states[0, -1, 0].item():.3f}, "
        f"last_h = {last_h[0, 0, 0].item():.3f}"
    )
    # Is lstm_by_hand the same?  With H = 1 a mistake in the size of the four blocks would
    # not be seen: so a second layer has more, and random weights.
    gap = distance_by_hand(layer, toy_input())
    print(f"  lstm_by_hand is {gap:.1g} away from that", end="; ")
    layer = nn.LSTM(4, 3, batch_first=True).double()
    x = torch.randn(2, 5, 4).double()  # (B, T, E)
    close = distance_by_hand(layer, x) < 1e-12
    print(f"with random weights and H = 3 it is {'equal' if close else 'NOT equal'}")
    print("  (in c and in its gradients for W and b, to 12 digits)")
    utils.say(
        """Reading it: at "good" the input gate opens, and the memory is written.  At
        "film" it is nearly shut, and the memory is kept (f near 1).  The output gate is
        nearly shut too: the cell still knows (c = 0.906) and hardly shows it (h =
        0.113).  At "but" the forget gate shuts, and what was known is gone.  So
        "dull" finds an empty memory, and alone decides."""
    )


# (From here on nn.LSTM, which is faster, may stand in place of our loop.)  What does
# the memory change for learning?  Hold the gates as they are, and c_t depends on
# c_(t-1) through f_t alone:
#
#     dc_t/dc_(t-1) = f_t,        dc_T/dc_0 = f_1 * f_2 * ... * f_T
#
# This is the first path of the gradient, from c to c.  A product again!  But its
# factors are no fixed matrix: the network sets them word by word, near 1 where
# something is worth keeping.  (In truth the gates are not held: c shows itself in h,
# and h moves the next gates and proposals.  That second path leads through W and tanh
# at every word, as in lesson 04.)  Along the first path nothing can explode, since no f
# is above 1.  Along the second it can: so gradients are clipped.
#
# At which f does a network start?  Its weights are small at first, so the sum inside
# the sigmoid of the forget gate is near its bias.  With a bias of 0, f would be near
# sigmoid(0) = 0.5, and after ten words 0.1 % would be left.  We start it with a bias of
# 1 (Jozefowicz et al., 2015), so near 0.73: `start_well` does that.  (Why not 5?  There
# the sigmoid is flat, and a gate that hardly moves is slow to learn what to forget.
# What the bias was worth: end of section 4.)

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}  # gru: lesson 06


def start_well(rnn):
    """Set what matters at the start; the rest keeps PyTorch's own: small, uniform."""
    size = rnn.hidden_size
    for name, weight in rnn.named_parameters():
        if "weight_hh" in name:
            # Orthogonal, each gate's matrix by itself: it keeps the length of a vector,
            # so that nothing dies out or explodes by W_hh alone (lesson 04).
            for matrix in weight.data.split(size):
                nn.init.orthogonal_(matrix)
        elif rnn.mode == "LSTM" and "bias" in name:  # mode: which kind of cell
            # The rows are those of i, f, g, o: the second block is f.  Its bias is to
            # be 1.  nn.LSTM adds two, so b_ih becomes 1 there and b_hh 0.
            weight.data[size : 2 * size] = 0.0
            if "bias_ih" in name:
                weight.data[size : 2 * size] = 1.0


def memory_path(hold_gates):
    """dc_T/dc_0 of the toy by autograd, gates and proposals held or not: a number."""
    weights = toy_weights()
    x = toy_input()  # (1, 4, 3)
    start = torch.zeros(1, 1, dtype=torch.double, requires_grad=True)  # c_0: (B, H)
    h = torch.zeros(1, 1, dtype=torch.double)
    c = start
    for t in range(x.shape[1]):
        if hold_gates:
            # The gates see c only through h.  This h is the same number, but no
            # gradient passes: so they count as held.
            h = h.detach()
        step = lstm_step(x[:, t], h, c, *weights)
        h = step.h
        c = step.c
    return torch.autograd.grad(c.sum(), start)[0].item()


def show_memory_path():
    """Print that the memory's gradient is a product of forget gates; and its reach."""
    zero = torch.zeros(1, 1, dtype=torch.double)
    steps = lstm_by_hand(toy_input(), zero, zero, *toy_weights())
    gates = [step.f.item() for step in steps]
    product = gates[0] * gates[1] * gates[2] * gates[3]
    held = memory_path(hold_gates=True)
    print("\nHow far does a change of the memory reach?  In the four words above:")
    factors = " * ".join(f"{gate:.3f}" for gate in gates)
    print(f"  f_1 * f_2 * f_3 * f_4 = {factors} = {product:.4f}")
    print(f"  autograd, dc_4/dc_0 with f, i, g held: {held:.4f}")
    moving = memory_path(hold_gates=False)
    print(f"  with them free to move, through h:     {moving:.4f}", end=", ")
    print(f"of which {moving - held:.4f} came by the second path")
    # A power is left.  0.03 is the slope of tanh at 0.995, times W_hh = 3, as above:
    # (1 - 0.995^2) * 3.
    print("\nWhat is left of a change of size 1 after so many words, if every word")
    print("multiplies it by the same factor:")
    print("  words" + " " * 33 + "       1       10       50      200")
    for name, factor in (
        ("plain RNN that holds, h = tanh(3 h)", 0.03),
        ("plain RNN, if tanh' times W_hh is 0.9", 0.9),
        ("forget gate, sum 1: f = 0.73 (start)", sigmoid(1)),
        ("forget gate, sum 5: f = 0.993", sigmoid(5)),
    ):
        left = "".join(f"{factor**words:>9.2g}" for words in (1, 10, 50, 200))
        print(f"  {name:<37}{left}")
    utils.say(
        """Reading it: sum is what stands inside the sigmoid.  A plain RNN that holds a
        number has nothing left after ten words.  One with the factor 0.9 lets more
        through, even more than a new LSTM does.  But it holds nothing: what is in its
        state fades by the same factor.  What differs is what training can do.  A gate that
        opens holds and lets the gradient through, both at once.  It may stay shut; but
        the plain RNN has nothing to open: the same W_hh and tanh must hold the old, read
        the new and let the gradient through."""
    )


# Do the gates learn it?  An experiment: what can a cell learn to keep?  A film review
# cannot tell, since it says what it thinks more than once.  So here is a task in which
# nothing else counts.  Letters at random; the answer is the first of them.  All others
# are noise that must be kept out:
#
#     c a h f b ... (L letters) ... e        answer: c
#
# The network for it is as small as can be: an embedding, one cell with 32 hidden
# numbers, and a linear layer on the state after the last letter.  Each cell learns from
# 1,000 batches of sequences of 1 to 50 letters, every length as likely as any other.
# Then it is asked about new ones of up to 100.  No letter but the first gives the
# answer away: chance is 1 in 8.  (All this takes about a minute.)
#
# A third row, "rnn, more short", asks what the plain RNN lacks.  It is the same cell,
# and it gets as many batches.  But short sequences are more common in them: half of its
# batches have up to 7 letters, the longest 50 as before.  Guess before you run: which
# of the three can name the first of 50 letters, and of 100?

RECALL_LETTERS = "abcdefgh"
RECALL_LONGEST = 50  # letters of the longest sequence in training
RECALL_ASKED = (1, 3, 5, 10, 20, 50, 100)
# Learning rates.  Which were tried is told below the tables.
RECALL_RATES = {"rnn": 0.003, "lstm": 0.01}
RECALL_TRIALS = (  # name, cell, batches: of all lengths evenly, or more short ones
    ("rnn", "rnn", "even"),
    ("lstm", "lstm", "even"),
    ("rnn, more short", "rnn", "short"),
)


class LetterNetwork(nn.Module):
    """An embedding, a recurrent layer, a linear layer on its last state: no more."""

    def __init__(self, cell):
        super().__init__()
        # One row more than letters: number 0 is padding, in all our data.  (Here it does
        # not occur: a batch has one length.)  The letters are 1 to 8, the labels 0 to 7.
        self.embed = nn.Embedding(len(RECALL_LETTERS) + 1, 16)
        nn.init.normal_(self.embed.weight, std=16**-0.5)  # vectors of length about 1
        self.rnn = CELLS[cell](16, 32, batch_first=True)
        self.output = nn.Linear(32, len(RECALL_LETTERS))
        start_well(self.rnn)

    def forward(self, letters):
        """letters (B, T), numbers 1 to 8 -> scores (B, 8)."""
        states, _ = self.rnn(self.embed(letters))  # (B, T, H)
        return self.output(states[:, -1])  # (B, 8)


def recall_batch(rows, length, device):
    """Random letters (B, T), numbers 1 to 8; the label (B,) is the first, as 0 to 7."""
    letters = torch.randint(1, 9, (rows, length), device=device)  # (B, T)
    return {"letters": letters, "label": letters[:, 0] - 1}


def recall_data(args):
    """What the cells learn from, {kind: batches}; a batch to look at; {length: batch}.

    The last two are drawn anew: what is asked was not seen in training.
    """
    utils.set_seed(args.seed)
    count = 10 if args.quick else 1000
    even = []
    for length in torch.randint(1, RECALL_LONGEST + 1, (count,)).tolist():
        even.append(recall_batch(64, length, args.device))
    looked_at = recall_batch(500, RECALL_LONGEST, args.device)
    tests = {}
    for length in RECALL_ASKED:
        tests[length] = recall_batch(500, length, args.device)
    # 50 to the power of a number between 0 and 1: 50^0 = 1, 50^0.5 = 7, 50^1 = 50.
    short = []
    for power in torch.rand(count).tolist():
        short.append(recall_batch(64, round(RECALL_LONGEST**power), args.device))
    return {"even": even, "short": short}, looked_at, tests


def train_to_recall(model, batches, rate):
    """One pass over the batches: the six steps of the training loop of lesson 04."""
    # AdamW is Adam with a weight decay (section 3).  Without one it is Adam.
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    # The learning rate climbs for a quarter of the steps, then falls to nearly 0.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, len(batches), pct_start=0.25, cycle_momentum=False
    )
    for batch in tqdm(batches, leave=False, disable=None):
        optimizer.zero_grad()  # forget the gradient of the step before
        loss = F.cross_entropy(model(batch["letters"]), batch["label"])
        loss.backward()  # the gradient of every weight
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()  # move every weight
        schedule.step()  # on to the next learning rate


def share_right(scores, batch):
    """The share of the sequences whose first letter has the highest score (B, 8)."""
    return (scores.argmax(1) == batch["label"]).float().mean().item()


def recall_reach(model, batch):
    """How long is the gradient of the loss in the state after t letters?  t = T ... 1.

    Divided by that at T, so a list of T numbers that begins with 1.  The state is all
    that the cell hands on: h; for an LSTM h and c joined to one vector, so that both of
    its paths are in it.
    """

    def loss_of(last_state):  # (B, H)
        return F.cross_entropy(model.output(last_state), batch["label"])

    # As `reach_of` of lesson 04, in short:
    #     for each letter t:   _, state = rnn(x[:, t : t + 1], state);  keep state
    #     loss_of(the last h).backward()
    #     of each state kept:  the length of its gradient, that of h and c joined
    x = model.embed(batch["letters"])  # (B, T, E)
    return utils.gradient_by_distance(model.rnn, x, loss_of)


def show_recall(args):
    """Train each cell to recall the first letter, print, draw: {cell: score at 50}."""
    trainings, looked_at, tests = recall_data(args)
    numbers = tests[20]["letters"][0].tolist()  # of one sequence, 1 to 8 each
    letters = [RECALL_LETTERS[number - 1] for number in numbers]
    print("\nHow far back does a cell remember?  Letters in; the first is asked for:")
    print(f"  {' '.join(letters)}   answer: {letters[0]}")
    rows = {}
    reach = {}
    for name, cell, kind in RECALL_TRIALS:
        utils.set_seed(args.seed)
        model = LetterNetwork(cell).to(args.device)
        if kind == "even":  # the third row starts with the weights of the first
            reach[f"{name}, before training"] = recall_reach(model, looked_at)
        rate = RECALL_RATES[cell]
        train_to_recall(model, trainings[kind], rate)
        reach[f"{name}, trained"] = recall_reach(model, looked_at)
        rows[name] = {}
        for length, batch in tests.items():
            with torch.no_grad():
                scores = model(batch["letters"])  # (B, 8)
            rows[name][f"L={length}"] = share_right(scores, batch)
    title = "Accuracy on the first of L random letters [sample: generated]"
    utils.print_table(title, rows, corner="cell")
    utils.say(
        f"""Chance is 0.125; the longest in training had {RECALL_LONGEST} letters.  With
        L=1 the first letter is also the last: nothing has to be remembered."""
    )
    print("\nHow much of the gradient arrives, of 1 at the last letter:")
    print("  letters before the last           1        5       20       49")
    for name, curve in reach.items():
        shown = "".join(f"{curve[distance]:>9.2g}" for distance in (1, 5, 20, 49))
        print(f"  {name:<26}{shown}")
    utils.say(
        """(0: less than 32 bits can hold.  Above 1: it can also grow for a while.  In
        the trained LSTM look at the fall from one column to the next.  What arrives one
        letter back has gone through o, which lets a part of c out; from there on it goes
        along c.)"""
    )
    read_recall(rows, {name: curve[-1] for name, curve in reach.items()})
    axes = ("letters before the last", "gradient, last letter = 1")
    title = "Gradient along 50 random letters [sample: generated]"
    dashed = [name for name in reach if "before" in name]
    utils.plot_lines(args, "gradient", title, reach, *axes, log=True, dashed=dashed)
    return {cell: rows[cell][f"L={RECALL_LONGEST}"] for cell in RECALL_RATES}


def read_recall(rows, arrives):
    """Print what the tables say; arrives: name -> gradient from 49 letters back."""
    at_50 = {name: row[f"L={RECALL_LONGEST}"] for name, row in rows.items()}
    # To hold: who still knows the first of 50 letters?
    utils.say(
        f"""Reading it: of {RECALL_LONGEST} letters the LSTM names the first in
        {at_50["lstm"]:.0%} of the sequences, the plain RNN in {at_50["rnn"]:.0%}, and
        with more short sequences in training in {at_50["rnn, more short"]:.0%}.  (How
        far the plain RNN comes is luck: recorded with three seeds, 23%, 58% and 52%.)"""
    )
    # To learn: how much of the gradient comes back over all these letters?
    open_way = arrives["lstm, trained"]
    shut_way = arrives["rnn, trained"]
    third_way = arrives["rnn, more short, trained"]
    if at_50["lstm"] > max(0.9, at_50["rnn"]) and open_way > 100 * shut_way:
        utils.say(
            f"""What the LSTM has learned leaves the way open ({open_way:.2g} comes from 49
            letters back): long sequences can teach it.  What the plain RNN has learned
            shuts the way ({shut_way:.2g}): the long ones teach it next to nothing, and it
            lives on what the short ones teach."""
        )
    # Is one there without the other?
    if at_50["rnn, more short"] > 0.9 and third_way < 1e-4:
        utils.say(
            f"""The third row holds, and hardly any gradient comes back from 49 letters
            ({third_way:.2g}): it learned to hold where the way was short.  So to hold
            and to learn are two things."""
        )


# More about the two tables (seed 0, one thread; three seeds are recorded at the end of
# section 4: how well the plain RNN does is a matter of luck, and 0 is its worst).
#
# Learning rates.  The plain RNN was tried at 0.01, 0.003, 0.001 and 0.0003 (seed 0, all
# lengths alike).  At none does it learn the task; with 0.003 it is best at L=1.  The
# LSTM has 1.00 at L=50 with 0.03 and with 0.01.
#
# Accuracy.  The plain RNN falls at once, from 0.74 at L=1 to 0.25 at L=5, and then
# hardly further: it has 0.20 after 100 (of 500 sequences: 4 points more or less are
# luck).  So what little it learned, it holds.  And 0.74 at L=1 is no lack of memory,
# for none is needed there.  It fails at learning.
#
# Gradient.  Before training hardly anything comes 49 letters back, in the LSTM 0.004
# and in the plain RNN 0.0025.  (In the LSTM nearly all of it comes through h: the first
# path leaves 0.73^49 = 2e-07.)  They part in training.  In the LSTM the gradient drops
# within the last letters, to 0.036, and what has arrived in c goes far.  In the trained
# plain RNN 2e-18 is left after 20.  Who opens the gates, if so little arrives at first?
# A guess: the shorter sequences.  A push to keep a letter through three others is a
# push on the same weights that must keep it through forty.
#
# "rnn, more short" is no plain case.  Up to 20 letters its way is open, wider than the
# LSTM's (0.092 to 0.033): so it does not hold as the one number of section 2 did, with
# everything pressed to the wall.  With 32 numbers there are other ways to hold; which it
# found, we did not follow up.  But of 49 letters only 3e-07 is left.
#
# What to take along?  At the start both cells are about equally blind.  Short sequences
# can open the LSTM's gates, and with them the way for long ones.  They can teach a plain
# RNN to hold, too; but its way stays open for some twenty letters only, and longer
# sequences teach it nothing.  An LSTM needs fewer short ones.


# Back to reviews.  The cell gives a state after each word, (B, T, H).  The answer needs
# one vector a review, (B, H).  To make one of many is called pooling.  Four ways:
#
#   last        the state after the last word.  All has to be carried there
#   mean        the mean of the states of all words
#   max         of each of the H numbers the largest that it had at any word: it can
#               learn to shoot up at one kind of remark, and wherever in the review that
#               was, it is seen at the end
#   attention   a weighted mean.  A layer with one vector v gives every state h the score
#               v . h (multiplied number by number and summed), and softmax makes
#               weights of the scores: e to the power of each, divided by the sum of
#               all.  v is learned like any weight.  (In lesson 09 the state of another
#               network stands in its place)
#
# Each must leave the padding out.  Padding comes after the words and cannot change
# their states: so no packing (lesson 01) is needed here.  But its own states would
# count in a mean, win a maximum, or be taken for the last.


def pool(states, lengths, how, attend=None):
    """States (B, T, H), lengths (B,) -> one vector for each review (B, H).

    how: last, mean, max or attention; attend: for attention, the layer that holds v.
    """
    real = utils.length_mask(lengths, states.shape[1], states.device)  # (B, T)
    real = real.unsqueeze(2)  # (B, T, 1): the same for all H numbers of a state
    if how == "last":
        # Of row i the state at its own last word.  Reviews of 3 and 1 words have it at
        # places 2 and 0.
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
    attend = nn.Linear(2, 1, bias=False)
    attend.weight.data = torch.tensor([[0.5, 0.0]])  # v
    # Attention by hand: v . h is 0.5 * 1 and 0.5 * 3; softmax makes weights of them.
    powers = torch.tensor([0.5 * 1, 0.5 * 3]).exp()
    weights = powers / powers.sum()
    by_hand = {
        "last": "h_2",
        "mean": "[(1 + 3) / 2, (-2 - 4) / 2]",
        "max": "[larger of 1, 3; larger of -2, -4]",
        "attention": f"{weights[0]:.2f} h_1 + {weights[1]:.2f} h_2",
    }
    print("\nThree states; the third is padding and must not count:")
    print("  h_1 = [1, -2]   h_2 = [3, -4]   padding: [9, 9]")
    for how in POOLINGS:
        shown = []
        # Two words; and careless, three: then the padding counts as a word.
        for length in (2, 3):
            with torch.no_grad():
                pooled = pool(states, torch.tensor([length]), how, attend)[0]  # (H,)
            shown.append(f"[{pooled[0]:.2f}, {pooled[1]:.2f}]")
        print(f"  {how:<10} {by_hand[how]:<35} = {shown[0]:<15} careless: {shown[1]}")
    utils.say(
        f"""attention: with v = [0.5, 0] the scores v . h are 0.5 and 1.5; e to their
        power is {powers[0]:.2f} and {powers[1]:.2f}; divided by their sum, these are
        the weights.  careless: what comes out if the padding counts."""
    )


# Which is best?  Recorded on IMDB with all reviews, accuracy on validation:
#
#                 seed 0    seed 1    seed 2
#     attention   0.9052    0.9044    0.9028
#     mean        0.9076    0.8912    0.8976
#     last        0.8880         -         -
#     max         0.8888         -         -
#
# Attention and the mean cannot be told apart by three seeds.  Attention is the default
# because its weights can be looked at.  (With v = 0 it is the mean.)  The last state
# and the maximum are behind, in one training each.  (From 6,000 reviews, --compare
# pooling: mean 0.8641, max 0.8413, attention 0.8377, last 0.8357.)
#
# The whole network, with V = 15,000, E = 100, H = 128 and C = 2 here:
#
#     words -> embedding -> dropout -> LSTM -> pooling -> dropout -> linear -> scores
#     (B, T)   (B, T, E)              (B, T, H)  (B, H)              (B, C)
#
# `--num-layers 2` puts a second LSTM above the first: it reads the states of the first
# as if they were words.  (It did not help: loss on validation 0.2593 instead of 0.2345,
# accuracy on test 0.8757 instead of 0.8926; seed 0.)  Dropout sets numbers to 0 at
# random while the network trains; section 3 says what for.


class ReviewClassifier(nn.Module):
    """Embedding, recurrent layers, pooling over time, a linear layer."""

    def __init__(
        self, words, classes, embedding, cell, hidden, layers, pooling, norm, dropout
    ):
        super().__init__()
        # Number 0 is padding: padding_idx means that nothing is learned for it.  (Its
        # vector is random and stays so; it is the mask that keeps it out.)
        self.embed = nn.Embedding(words, embedding, padding_idx=0)
        # Vectors of length about 1.  PyTorch's own start has length sqrt(E), 10 here:
        # small steps would take long to change that.
        nn.init.normal_(self.embed.weight, std=embedding**-0.5)
        between = dropout if layers > 1 else 0.0  # dropout from layer to layer
        self.rnn = CELLS[cell](
            embedding, hidden, layers, batch_first=True, dropout=between
        )
        # --layer-norm: the H numbers of each state get mean 0 and variance 1.
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
        states, _ = self.rnn(x)  # (B, T, H): h after every word
        states = self.norm(states)  # (B, T, H)
        lengths = lengths.to(texts.device)
        pooled = pool(states, lengths, self.pooling, self.attend)  # (B, H)
        return self.output(self.dropout(pooled))  # (B, C)


def show_weights(config, data):
    """Print how many numbers each part of the network has to learn."""
    model = ReviewClassifier(**config)  # made to be counted, and thrown away
    print("\nHow many numbers does the network learn?")
    # An LSTM has two W and two b for each of i, f, g, o: 4 * (E * H + H * H + 2 * H),
    # here 4 * (100 * 128 + 128 * 128 + 2 * 128) = 117,760.
    for name, part in model.named_children():
        count = utils.count_parameters(part)
        if count:
            shown = config["cell"] if name == "rnn" else name
            print(f"  {shown:<8} {count:>10,}")
    total = utils.count_parameters(model)
    print(f"  in all   {total:>10,}")
    reviews = len(data.parts[0])
    print(f"That is {total / reviews:,.0f} for each of {reviews:,} training reviews.")


# ====================================================================================
# 3. Training
# ====================================================================================
#
# The loop is that of lesson 04, `utils.fit`.  In short (an epoch is a pass over all
# batches of 64 reviews):
#
#     for each epoch, at most --epochs (6):
#         for each batch of training:       the six steps of `train_to_recall`
#         the mean loss on validation;      the lowest so far?  Copy all weights
#         not lower for --patience (2) epochs?  End
#     put the last copy back
#
# The learning rate climbs over a quarter of all steps that are planned, up to --lr, and
# then falls to nearly 0.  So another number of --epochs is another training, from the
# first step on.  Of six planned epochs the second is the best here, when the rate has
# just begun to fall: most of the fall is planned, and not used.  (With --epochs 3 the
# loss on validation is 0.2327 instead of 0.2345, on test 0.8884 are right instead of
# 0.8926; seed 0: no gain to speak of.)
#
# Two things are said here: what the loss asks for, and what to do against overfitting.
#
# The loss.  Our network makes two scores of a review, one for neg and one for pos.
# softmax makes probabilities of them, and the loss, cross-entropy, is minus the
# logarithm of that of the right class.  Only the difference z of the two scores counts:
# softmax of the scores -0.3 and 0.5 is 0.31 and 0.69, and sigmoid(0.5 - (-0.3)) is 0.69
# as well.
#
# So books make one number z of a yes or no, a logit: above 0 for pos, p = sigmoid(z)
# the probability of pos, and binary cross-entropy (nn.BCEWithLogitsLoss) the loss of
# ours:
#
#     -log(p) if the review is pos         its slope dloss/dz is p - 1
#     -log(1 - p) if it is neg             its slope is p
#
# (We keep the scores: they do for three labels as well.)  For a review that is pos:
#
#     logit z   p = sigmoid(z)   loss = -log(p)   dloss/dz = p - 1
#        -3.0            0.047            3.049             -0.953
#         0.0            0.500            0.693             -0.500
#         0.8            0.690            0.371             -0.310
#         3.0            0.953            0.049             -0.047
#
# Sure and right costs little, sure and wrong much.  The last column is the gradient of
# z.  A step goes against it, so z rises: the more wrong the answer, the harder the
# push.
#
# Now the danger.  The network has 72 numbers to learn for each training review of IMDB,
# most of them in the vectors of rare words.  So it can learn those reviews by heart:
# "the one with the submarine and the nun is neg".  That lowers the loss on training,
# and helps with no other review.  It is called overfitting.  It is seen where the loss
# on training falls on, while that on validation, which nothing is learned from, turns
# and rises.  The default run prints both.
#
# There are brakes (books: regularization).  Three are flags of this lesson:
#
#   --patience        early stopping: end when the loss on validation has not become
#                     lower for so many epochs (default 2), and go back to the weights
#                     of the best one.  The loss gains much by that, the accuracy
#                     little: after its best epoch a network is hardly wrong more often,
#                     but surer where it is wrong (section 4 counts it)
#   --dropout         in training, each number of a word's vector and of the pooled
#                     vector is set to 0 with this probability (default 0.5).  No single
#                     number can be relied on, so what is learned must rest on several.
#                     nn.Dropout(0.5) made of 0.2 -1.0 0.5 0.8 once 0 -2.0 1.0 1.6, and
#                     once 0 0 0 1.6.  What stays is divided by 1 - 0.5, so sums stay the
#                     same on average.  model.eval() turns dropout off.  Whoever forgets
#                     to call it gets another answer each time
#   --weight-decay    every step also draws all weights, biases and word vectors towards
#                     0: only what many reviews ask for again and again stays large.
#                     w becomes w - lr * decay * w: with lr 0.1 and decay 0.5 it goes
#                     from 2.0 to 1.9 to 1.805 (default 0: off; this is the W of AdamW)
#
# Why is there no dropout on h and c, from word to word?  Drawn anew at each word, it
# would leave 0.5^10 = 0.1 % of the numbers after ten words: hardly anything could be
# held.
#
# Which of them helps?  With 6,000 reviews (--compare regularization --epochs 8, seed
# 0), each at its best epoch, accuracy on validation:
#
#     none 0.8605    dropout 0.5 0.8601    weight decay 1 0.8501    layer norm 0.8325
#
# No brake was seen to help.  (Nor could a small help be seen: with 6,000 reviews
# another seed moves an accuracy by up to 3.6 points.)  All reviews, then, with seeds 0
# and 1 (--dropout 0): without dropout the loss on validation is 0.2381 and 0.2395, with
# it 0.2345 and 0.2410.  No difference that the seed does not make, too.  What to do?
# Always put the best epoch back: it costs nothing.  Try dropout, and keep it only if
# the loss on validation gets lower with several seeds.  (Ours is on by habit.)
#
# The learning rate, too, is chosen by the loss on validation, never by the test.  With
# 0.002, 0.004 and 0.008 it is 0.2404, 0.2345 and 0.2319 (seed 0): so 0.008, by a hair.
# But three seeds at 0.004 lie further apart, 0.2345, 0.2410 and 0.2443; so 0.004 is
# good enough.  (On test the three rates have 0.8855, 0.8926 and 0.8928.)


def early_stopping_by_hand(val_losses, patience):
    """From the validation losses of all epochs: (epochs trained, epoch that is kept).

    patience: end after so many epochs without gain; 0: never.
    """
    best = 1
    for epoch, loss in enumerate(val_losses, start=1):
        if loss < val_losses[best - 1]:
            best = epoch
        if epoch - best == patience and patience > 0:
            return epoch, best
    return len(val_losses), best


def measure(model, batch):
    """Loss and accuracy of every review of the batch: (B,) each."""
    scores = model(batch["text"], batch["text_length"]).float()  # (B, C), 32 bits
    return {
        "loss": F.cross_entropy(scores, batch["label"], reduction="none"),  # (B,)
        "accuracy": scores.argmax(1) == batch["label"],  # (B,)
    }


def train_model(config, data, args, feeds=None):
    """A new model, trained: (model, records)."""
    utils.set_seed(args.seed)
    model = ReviewClassifier(**config).to(args.device)
    # feeds come from `main`; --compare gives none, and fit then writes no file.
    saved = config if feeds else None
    records = utils.fit(model, measure, data.train, data.val, args, saved, feeds)
    return model, records


def show_early_stopping():
    """Print what patience does with five invented losses."""
    losses = [0.5, 0.3, 0.4, 0.35, 0.2]
    ended, best = early_stopping_by_hand(losses, patience=2)
    shown = " ".join(str(loss) for loss in losses)
    print(f"\nEarly stopping, if val_loss were {shown} and --patience 2:")
    print(
        f"  it ends after epoch {ended} and keeps epoch {best}.  The {losses[-1]} of",
        end=" ",
    )
    print(f"epoch {len(losses)} is missed.")


def show_overfitting(records, config, data, args):
    """Print where the two losses part, and what was kept; draw them."""
    losses = [record["val_loss"] for record in records]
    _, best = early_stopping_by_hand(losses, args.patience)  # an epoch, from 1
    print("\nDid it learn to read, or these reviews by heart?")
    print(
        "(loss, above: a mean over an epoch, while the weights still change, and under"
    )
    print("dropout, if any.  So it may lie above val_loss.)")
    last = records[-1]
    kept = records[best - 1]  # epoch 1 is at place 0
    if last["loss"] < kept["loss"] and last["val_loss"] > kept["val_loss"]:
        utils.say(
            f"""After epoch {best}, whose weights are kept, the two losses part: on
            training {kept["loss"]:.3f} then, {last["loss"]:.3f} at the end; on validation
            {kept["val_loss"]:.3f} and {last["val_loss"]:.3f}.  Accuracy on validation:
            {kept["val_accuracy"]:.4f} then, {last["val_accuracy"]:.4f} at the end.
            Measured by the loss, the epochs after it made it worse on other reviews."""
        )
    else:
        print("The two losses did not part: no overfitting so far.")
    about = f"{data.source.label}, {config['cell']}"
    panels = {"loss": ["loss", "val_loss"], "accuracy": ["accuracy", "val_accuracy"]}
    utils.plot_records(args, "training", f"Training, {about}", {about: records}, panels)


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# What does the network think after each word?  Does it use their order?  Is it right
# about reviews that it never saw, and is that good, beside models that only count?
# (Dropout is off here: utils.fit and utils.load end with model.eval().)


def forward(model, batch):
    """Scores (B, C) of a batch, for `utils.collect`."""
    return model(batch["text"], batch["text_length"])


# The running verdict: let the review end after its first word, its second, and so on,
# and ask each time.  Beside it stand forget gates, by our own lstm_step with the
# trained weights.  There are H of them.  Their mean is shown; and since a mean of many
# hides what each does, also the one that moves most along this text.  The picture
# gates.png has the means of i and o as well.  On imdb (seed 0) both open somewhat more
# at words with an opinion, as in the toy, and o is lowest at "but".

VERDICT = "The music is superb, but the story is dull and weak."
PAIRS = (
    ("The film is good, but dull.", "The film is dull, but good."),  # the order
    ("The film is good.", "The film is not good."),  # a negation
    ("The film is dull.", "The film is not dull."),
)


def running_verdict(model, ids):
    """Probabilities (T, C) after 1, 2, ... T words of one review: ids (1, T)."""
    lengths = torch.arange(1, ids.shape[1] + 1)  # (T,)
    with torch.no_grad():
        # The same review T times, but of row t only the first t words count.
        scores = model(ids.expand(len(lengths), -1), lengths)  # (T, C)
    return scores.softmax(1).cpu()


def steps_of_first_layer(model, ids):
    """All that the first LSTM layer computes for ids (B, T): a list of T Steps."""
    weights = list(model.rnn.parameters())[:4]  # W_ih, W_hh, b_ih, b_hh of the first
    with torch.no_grad():
        x = model.embed(ids)  # (B, T, E)
        zero = x.new_zeros(len(x), model.rnn.hidden_size)  # (B, H)
        return lstm_by_hand(x, zero, zero, *weights)


def gates_along(model, ids):
    """How far gates of the first layer are open at each word: name -> (T,).

    i, f, o: means of all H.  f_7, say: of the forget gates the one that moves most.
    """
    steps = steps_of_first_layer(model, ids)
    forget = torch.cat([step.f for step in steps]).cpu()  # (T, H)
    columns = {
        "i": torch.cat([step.i for step in steps]).cpu().mean(1),  # (T,)
        "f": forget.mean(1),
        "o": torch.cat([step.o for step in steps]).cpu().mean(1),
    }
    widest = int((forget.amax(0) - forget.amin(0)).argmax())
    columns[f"f_{widest}"] = forget[:, widest]
    return columns


def weights_along(model, ids):
    """The weight that attention pooling gives each word of one review (1, T): (T,)."""
    real = torch.ones_like(ids, dtype=torch.bool).unsqueeze(2)  # (1, T, 1): all
    with torch.no_grad():
        states, _ = model.rnn(model.embed(ids))  # (1, T, H)
        weights = attention_weights(model.norm(states), real, model.attend)  # (1, T, 1)
    return weights[0, :, 0].cpu()


def show_running_verdict(model, config, data, args):
    """Print, draw the verdict after each word of the first --predict, or of VERDICT."""
    text = args.predict[0] if args.predict else VERDICT
    words = utils.split_words(text)[:60]
    ids = torch.tensor([data.vocabulary.encode(words)], device=args.device)  # (1, T)
    label = len(data.labels) - 1  # of neg and pos: pos
    everything = running_verdict(model, ids)  # (T, C)
    chances = everything[:, label]  # (T,)
    # Beside the verdict, what can be seen of this cell and this pooling.
    columns = {}
    if config["cell"] == "lstm":
        columns = gates_along(model, ids)
    if config["pooling"] == "attention":
        columns["weight"] = weights_along(model, ids)
    shown = {name: columns[name] for name in columns if name not in ("i", "o")}
    name = f"p({data.labels[label]})"
    print(f"\nThe running verdict: {name}, if the review ended after this word")
    print(f"  {'word':<12} {'p':>4} {'':<20}", "".join(f"{c:>8}" for c in shown))
    for t, word in enumerate(words):
        bar = "#" * round(20 * chances[t].item())
        rest = "".join(f"{column[t]:>8.2f}" for column in shown.values())
        print(f"  {word[:12]:<12} {chances[t]:.2f} {bar:<20} {rest}")
    answer = data.labels[int(everything[-1].argmax())]
    print(f"Reading it.  At the end {name} is {chances[-1]:.2f}: it says {answer}.")
    utils.say(
        """p belongs to the text cut after this word.  In the middle of a sentence it
        means little: training has hardly a review that ends there, so what to say then
        was never taught."""
    )
    if "f" in columns:
        single = list(columns)[3]  # after i, f and o: the gate that moves most
        one = columns[single]  # (T,)
        utils.say(
            f"""f: the part of the memory that is kept, a mean of {config["hidden"]} forget
            gates.  It was near 0.73 as training began, and is {columns["f"].mean():.2f} on
            average here.  {single} is the one that moves most: it keeps {one.max():.2f} at
            "{words[one.argmax()]}", and {one.min():.2f} at "{words[one.argmin()]}"."""
        )
        show_gates_at("but", model, data)
    if "weight" in columns:
        weight = columns["weight"]  # (T,)
        utils.say(
            f"""weight (sums to 1): how much of the pooled vector of the whole text is the
            state at this word.  It is largest at "{words[weight.argmax()]}": for what the
            cell knew when it had read so far, not for that word alone."""
        )
    rows = {name: chances, **columns}
    matrix = torch.stack(list(rows.values()))  # (rows, T)
    title = f"Verdict and gates along a review, {data.source.label}"
    axes = ("word just read", "")
    utils.plot_matrix(args, "gates", title, matrix, [*rows], words, *axes, bar="value")


def show_gates_at(word, model, data, most=300):
    """Print the mean forget gate at this word and elsewhere, in reviews that have it."""
    number = data.vocabulary.encode([word])[0]
    texts = data.val.data["text"].cpu()  # (N, T)
    rows = (texts == number).any(1)  # (N,): those that have the word
    if number == utils.UNK_ID or not rows.any():
        return
    ids = texts[rows][:most]  # (B, T)
    real = utils.length_mask(data.val.lengths["text_length"][rows][:most], ids.shape[1])
    steps = steps_of_first_layer(model, ids.to(model.embed.weight.device))
    f = torch.stack([step.f.mean(1).cpu() for step in steps], dim=1)  # (B, T)
    here = ids == number  # (B, T)
    utils.say(
        f"""The toy of section 2 shut its forget gate at "{word}".  Here, at
        {here.sum():,} times "{word}" in {len(ids):,} reviews of validation, f is
        {f[here].mean():.2f} on average, at all other words
        {f[real & ~here].mean():.2f}.  (Whether that makes it understand "{word}", the
        pairs below tell.)"""
    )


# The cell can hold a letter for 100 letters, if that is what it is trained for (section
# 2).  Does it hold anything here, where attention sees every state anyway?  Take some
# reviews from their 11th word on, with nothing known before (h = c = 0).  How far are h
# and c from those of a network that has read the first ten words as well?  Where the
# two are alike, these are forgotten.  A network learns to hold as much as it is asked
# for: 30 words later c differed by 0.02 after training with attention, by 0.27 with the
# maximum, by 0.53 with the last state (imdb, seed 0, recorded).


def last_state(model, x):
    """x (B, T, E) -> h, and of an LSTM c, after the last word: name -> (B, H)."""
    _, state = model.rnn(x)  # (layers, B, H), of an LSTM two such
    if isinstance(state, tuple):
        return {"h": state[0][-1], "c": state[1][-1]}  # of the topmost layer
    return {"h": state[-1]}


def show_how_long_it_holds(model, data, cut=10):
    """Print how much the states depend on what stood before the last 1 to 30 words."""
    # The first 100 reviews of validation that are long enough.
    is_long = data.val.lengths["text_length"] >= cut + 30  # (N,)
    ids = data.val.data["text"].cpu()[is_long][:100, : cut + 30]  # (B, 40)
    if len(ids) < 2:
        return
    gaps = {}  # name of the state -> a number for each of `after`
    after = (1, 5, 10, 20, 30)
    for count in after:
        with torch.no_grad():
            x = model.embed(ids[:, : cut + count].to(model.embed.weight.device))
            knowing = last_state(model, x)
            blind = last_state(model, x[:, cut:])
        for name, state in knowing.items():
            change = state - blind[name]  # (B, H)
            # Lengths of the differences, as parts of the lengths of the states.
            gap = change.norm(dim=1).mean() / state.norm(dim=1).mean()
            gaps.setdefault(name, []).append(gap.item())
    print(f"\nHow much do its states depend on the first {cut} words of a review?  Of")
    print(f"{len(ids)} reviews of validation:")
    print("  words later        " + "".join(f"{count:>7}" for count in after))
    for name, row in gaps.items():
        print(f"  difference of {name}    " + "".join(f"{gap:>7.2f}" for gap in row))
    left = max(row[-1] for row in gaps.values())
    utils.say(
        f"""(The length of the difference, as a part of the state's own.  0: forgotten.
        1.41, the root of 2: two states of equal length at right angles, which have
        nothing in common.)  So 30 words later the states differ by {left:.0%}."""
    )


# Now the opening example: does it hear the order of the words, and a negation?


def show_pairs(model, data, args):
    """Print what the network says of sentences that differ in little."""
    label = len(data.labels) - 1  # of neg and pos: pos
    print(f"\nPairs of sentences that should be judged unlike: p({data.labels[label]})")
    for pair in PAIRS:
        found = []
        for text in pair:
            ids = data.vocabulary.encode(utils.split_words(text))
            row = torch.tensor([ids], device=args.device)  # (1, T)
            with torch.no_grad():
                scores = model(row, torch.tensor([len(ids)]))  # (1, C)
            found.append(scores[0].softmax(0))  # (C,)
            print(f"  {found[-1][label]:.2f}  {text}")
        answers = [int(chances.argmax()) for chances in found]
        chances = [round(chances[label].item(), 2) for chances in found]
        turns = "stays" if answers[0] == answers[1] else "turns"
        print(f"        p moves by {chances[1] - chances[0]:+.2f}, the answer {turns}.")
    if set(data.labels) == {"neg", "pos"}:
        print("If it read as you do, p would move up, down and up, by nearly 1.")


# These are single sentences.  How much does it use the order in whole reviews?
# Shuffle the words of each one of validation, and ask again: a model that counts single
# words would not notice.
#
# What it then loses is what order is worth to this network, which learned from words in
# their order.  The fair test of what order is worth at all is another network, trained
# on shuffled words too.  There is no flag for that: a changed script shuffled the words
# of every review once, in all three parts, and trained as ever (seed 0, one thread).
#
#     trained and asked on     loss on validation   accuracy there   on test
#     words in their order                 0.2345           0.9052    0.8926
#     shuffled words                       0.2614           0.8960    0.8768
#
# So order brings 1.58 points on test (p = 1e-22, McNemar), in one training of each;
# with another seed the LSTM alone moves by up to 1.2.  And the second one's forget gate
# does not shut at "but": f is 0.69 there, 0.68 elsewhere.  So it was from the order
# that the first had learned to shut it.
#
# The plain RNN (--cell rnn) makes no use of order here: on validation it has 0.8900 as
# written, and 0.8960 shuffled.


def p_text(p):
    """p of a test, to be printed."""
    return f"= {p:.2g}" if p > 1e-99 else "< 1e-99"


def shuffle_words(batches, args):
    """The same reviews, the words of each in random order: Batches."""
    draw = torch.Generator().manual_seed(args.seed)
    data = {name: values.clone() for name, values in batches.data.items()}
    lengths = batches.lengths["text_length"]  # (N,)
    for row, length in zip(data["text"], lengths.tolist(), strict=True):
        # Places 0 to length - 1 in a new order; padding stays behind.
        order = torch.randperm(length, generator=draw).to(row.device)  # (length,)
        row[:length] = row[order]
    data["text_length"] = lengths  # Batches keeps it apart from `data`
    return utils.Batches(data, args.batch_size, args.device, bucket="text")


def show_shuffled(model, data, args):
    """Validation, words real and shuffled: print, test; return what the report needs."""
    truth = data.val.data["label"].cpu()  # (N,)
    scores = utils.collect(model, forward, data.val, args)  # (N, C)
    mixed = utils.collect(model, forward, shuffle_words(data.val, args), args)  # (N, C)
    real_right = scores.argmax(1) == truth  # (N,)
    mixed_right = mixed.argmax(1) == truth  # (N,)
    real = real_right.float().mean().item()
    other = mixed_right.float().mean().item()
    only_real, only_mixed, p = utils.mcnemar(real_right, mixed_right)
    print(f"\n{data.source.label}: validation, {data.val.n:,} reviews")
    print(f"  as written  accuracy {real:.4f}, right only as written {only_real}")
    print(f"  shuffled    accuracy {other:.4f}, right only shuffled {only_mixed}")
    print(f"  p {p_text(p)} (McNemar)")
    if p >= 0.05:
        print("  Chance alone could make such a gap: order may be worth nothing to it.")
    loss = F.cross_entropy(scores, truth).item()
    return {"val_accuracy": real, "val_accuracy_shuffled": other, "val_loss": loss}


def show_what_p_is_worth(scores, data):
    """Print how often answers of one probability are right, on test."""
    surest, answers = scores.softmax(1).max(1)  # (N,) each
    is_right = answers == data.test.data["label"].cpu()  # (N,)
    print(f"\n{data.source.label}: what its probability is worth, on test")
    print("  probability of the answer   answers    mean    right")
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 0.99), (0.99, 1.01)):
        group = (surest >= low) & (surest < high)  # (N,)
        if group.any():
            mean = surest[group].mean()
            right = is_right[group].float().mean()
            span = f"{low:.2f} to {min(high, 1):.2f}"
            print(f"  {span:<25} {group.sum():>9,}  {mean:>6.1%}   {right:>6.1%}")
    print("(mean: of the probabilities.  Where it is above right, it is too sure.)")


# Can p be believed?  On IMDB (seed 0) yes: in each row mean and right are at most 3.5
# points apart.  Here one sees the worth of early stopping.  With the weights of epoch 4
# (the file last.pt has them) 16,138 answers are above 0.99, with a mean of 99.9 %; 96.2
# % of them are right.  So it had become far too sure.


def show_answers(scores, data, count=2, most=4):
    """Print test reviews with the answers: `count` of all, and the `most` wrong ones."""
    chances = scores.softmax(1)  # (N, C)
    answers = chances.argmax(1)  # (N,)
    truth = data.test.data["label"].cpu()  # (N,)
    some = list(range(0, len(truth), max(1, len(truth) // count)))[:count]
    # The worst first: those whose true label had the least probability.
    of_truth = chances.gather(1, truth.unsqueeze(1)).squeeze(1)  # (N,)
    worst = [k for k in of_truth.argsort().tolist() if answers[k] != truth[k]][:most]
    print(f"\n{data.source.label}: {count} test reviews, the answer, the truth")
    for row, place in enumerate(some + worst):
        if row == len(some):
            print(f"\n{data.source.label}: wrong, the surest first.  What misled it?")
        text, label = data.parts[2][place]
        mark = "✔" if answers[place] == truth[place] else "✘"
        said = data.labels[int(answers[place])]
        print(f"  {mark} said {said} {chances[place].max():.1%}, truth {label}:")
        text = " ".join(text.replace("<br />", " ").split())
        if len(text) > 320:  # of a long one the beginning and the end
            text = f"{text[:160]} [...] {text[-160:]}"
        print(textwrap.indent(textwrap.fill(text, 74), "      "))


# Look at your four wrong ones.  On IMDB one label is surely wrong: "pure genius",
# 9.5/10, and labelled neg.  In another, single words mislead: "badly acted and
# directed, poorly scripted", from one who liked the film for something else.  On the
# sample all four were a negation cut off from its word: "is not, if you ask our teacher
# or me, weak".  It must be held across the aside.
#
# The table on test has four rivals, and none of them is a network.  "majority" gives
# all reviews the answer that is commonest in training.  The other three count n-grams:
# runs of n neighbouring words.  An n-gram of one word is a unigram, of two a bigram, of
# three a trigram.  So a little of the order counts, too.  Logistic regression gives
# each count a weight: it is the last layer of our network, put on counts.
#
#   tfidf_unigram   words, by TF-IDF (term frequency, inverse document frequency)
#   tfidf_bigram    words and pairs, by TF-IDF
#   ratio_trigram   words, pairs and triples, times their log-count ratio (Wang and
#                   Manning, 2012; books: NB features, from naive Bayes)
#
# TF-IDF.  An n-gram that stands n times in a review, and in m of the N reviews of
# training, counts there
#
#     (1 + log n) * (1 + log((1 + N) / (1 + m)))
#
# The second factor: the fewer reviews hold it, the more it counts.  On IMDB N is
# 22,499.  "dull" stands in 636 of them, 1 + log(22,500 / 637) = 4.56; "the" in 22,313,
# 1 + log(22,500 / 22,314) = 1.01.  Then all numbers of a review are divided by the
# length of its vector, so that a long review is no louder than a short one.
#
# The log-count ratio r of an n-gram says how much commoner it is in one class than in
# the other.  Let n_pos be the number of pos reviews that hold it, n_neg that of neg
# ones (the 1 is there so that no logarithm of 0 is taken):
#
#     share_pos = (n_pos + 1) / sum of (n_pos + 1) over all n-grams;  share_neg likewise
#     r = log(share_pos / share_neg)          0: says nothing; above 0: praise
#
# Take four reviews, pos "good film" and "a good film", neg "not good" and "film is not
# good".  Five n-grams stand in two or more of them, and the sums are 11 and 12:
#
#     film          n_pos 2   n_neg 1   log((3 / 11) / (2 / 12)) = +0.492
#     good                2         2   log((3 / 11) / (3 / 12)) = +0.087
#     good film           2         0   log((3 / 11) / (1 / 12)) = +1.186
#     not                 0         2   log((1 / 11) / (3 / 12)) = -1.012
#     not good            0         2   log((1 / 11) / (3 / 12)) = -1.012
#
# "good" alone says little, "good film" and "not good" much: so order counts, within an
# n-gram.  ("not a good film" sums to +0.753, praise: its "not a good" was not met.)
#
# Why does it help to multiply by r?  Logistic regression has a weight decay of its own,
# which pulls all weights to 0.  An n-gram that tells the classes apart has an r far
# from 0: a small weight is enough, and the pull costs it little.  One as common on both
# sides would need a large one.  In IMDB 956,285 n-grams stand in two training reviews
# or more, among them "waste of time" (r = -2.8) and "highly recommended" (+3.1).
#
# In scikit-learn, with texts and labels of training (lists), and new_texts:
#
#     import numpy as np
#     from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
#     from sklearn.linear_model import LogisticRegression
#
#     split = {"tokenizer": utils.split_words, "token_pattern": None}
#     tfidf = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True, **split)
#     model = LogisticRegression(C=10).fit(tfidf.fit_transform(texts), labels)
#     tfidf_answers = model.predict(tfidf.transform(new_texts))
#
#     counter = CountVectorizer(ngram_range=(1, 3), min_df=2, binary=True, **split)
#     known = counter.fit_transform(texts).tocsr()   # (N, n-grams): 1 where it stands
#     is_pos = np.array(labels) == "pos"             # (N,)
#     n_pos = known[is_pos].sum(axis=0) + 1          # one for each n-gram
#     n_neg = known[~is_pos].sum(axis=0) + 1
#     r = np.asarray(np.log((n_pos / n_pos.sum()) / (n_neg / n_neg.sum()))).ravel()
#     model = LogisticRegression().fit(known.multiply(r), labels)
#     answers = model.predict(counter.transform(new_texts).multiply(r))
#
# sublinear_tf is the 1 + log n.  min_df: in so many training reviews at least an n-gram
# must stand.  C says how much the reviews count against the pull: the larger C, the
# less weight decay; 1 if nothing is said.  TF-IDF has 10, for its numbers are small, so
# it needs larger weights.  On validation, with C = 1, 10 and 100, words have 0.8972,
# 0.8976 and 0.8888, words and pairs 0.8996, 0.9148 and 0.9152.  The counts see the
# whole review.


def report(model, config, order, data, args):
    """The table on test, the answer; order: accuracy as written, shuffled -> rows."""
    ours = f"{config['cell']} (this lesson)"
    truth = data.test.data["label"].cpu()  # (N,)
    answers = {ours: utils.collect(model, forward, data.test, args)}  # (N, C)
    show_what_p_is_worth(answers[ours], data)
    show_answers(answers[ours], data)
    answers.update(utils.review_baselines(data.parts[0], data.parts[2], data.labels))
    rows = {}
    for name, scores in answers.items():
        rows[name] = utils.classification_scores(scores, truth)
    utils.print_table(f"{data.source.label}: test, {len(truth):,} reviews", rows)
    verdicts = compare_with_rivals(answers, ours, truth)
    answer_the_title(rows, ours, verdicts, order)
    return rows


def compare_with_rivals(answers, ours, truth):
    """Print McNemar's test against each rival: rival -> beats, loses to, ..."""
    right = {name: scores.argmax(1) == truth for name, scores in answers.items()}
    print("Luck?  McNemar's test (lesson 04) on the reviews that only one gets right.")
    utils.say(
        """It tells of luck in which reviews were asked.  Luck in training it does not
        see: on imdb another --seed moves the score by a point, so a smaller gap may
        turn round."""
    )
    verdicts = {}
    for name in [rival for rival in answers if rival != ours]:
        only_ours, only_theirs, p = utils.mcnemar(right[ours], right[name])
        if p >= 0.05:  # below that a difference counts as real
            verdicts[name] = "cannot be told apart from"
        elif only_ours > only_theirs:
            verdicts[name] = "beats"
        else:
            verdicts[name] = "loses to"
        print(
            f"  {name:<14} only we {only_ours:>6,}   only it {only_theirs:>6,}   "
            f"p {p_text(p):<10} our network {verdicts[name]} it"
        )
    return verdicts


# Why do the counts win on IMDB?  Reviewers say what they think in set phrases ("waste
# of time", "7 / 10").  The network has to find these by itself, and it knows 15,000
# words, the counts 956,285 n-grams.  (A guess.  It is behind by 1.8 points on the
# shortest quarter of the test reviews, by 3.6 on the longest: seed 0, recorded.)
#
# And what is order worth, on IMDB?  To counts, 2.41 points on test: so much do pairs
# add to single words.  To the LSTM, 1.58: so much it has less when trained on shuffled
# words (above).  With another seed it may not even beat single words: of three, two do.
#
# When should one take an LSTM, then?  Where order decides, and what decides may stand
# far back, as in the sample: there the counts have 0.8409, and with the last state
# alone the LSTM 1.0000, the plain RNN 0.6352 (end of section 4).  And where there is
# more text to learn from: networks that first learned to guess the next word (lesson
# 10) of millions of sentences reach 95 % (Howard and Ruder, 2018).
#
# And if your own reviews (--input) do badly?  With few reviews counts are hard to beat:
# take them, or collect more.  If the loss on training hardly falls, try more --epochs
# or another --lr; if the losses part at once, a smaller --max-vocab and --hidden-size.
# And read the wrong answers: is what decides cut away (--max-length, --keep)?


def answer_the_title(rows, ours, verdicts, order):
    """The ending: what was found, who won, and what order was worth."""
    accuracy = {name: row["accuracy"] for name, row in rows.items()}
    print("\nCan a network read a review?")
    # What has learned nothing has nothing to say of order and of rivals.
    if verdicts["majority"] != "beats":
        utils.say(
            """Not in this run: it is not better than the same answer for all.  A
            training as short as that of --quick is for trying only."""
        )
        return
    utils.say(
        f"""Judge it?  Of reviews that it never saw it judges {accuracy[ours]:.2%}
        rightly; the same answer for all, {accuracy["majority"]:.2%}.  It
        {verdicts["tfidf_unigram"]} counts of single words
        ({accuracy["tfidf_unigram"]:.2%}), {verdicts["tfidf_bigram"]} counts of words and
        pairs ({accuracy["tfidf_bigram"]:.2%}), and {verdicts["ratio_trigram"]} n-grams of
        one to three words ({accuracy["ratio_trigram"]:.2%})."""
    )
    real, mixed = order
    points = 100 * (real - mixed)
    # Our own lines.  From 100 % down to a guess between two classes it is 50 points.
    if points < 5:
        read = "Hardly"
    elif points < 20:
        read = "In part"
    else:
        read = "Yes"
    utils.say(
        f"""Read it, if that means to use the order of its words?  {read}.
        With the words of each review shuffled it is right for {mixed:.2%} on validation,
        unshuffled for {real:.2%}.  So to this network order is worth {points:.2f}
        points."""
    )
    # The strongest rival knows order within three words only.
    if verdicts["ratio_trigram"] == "loses to":
        print("So which words and short phrases occur says most here, and counting")
        print("finds that out better.")
    elif verdicts["ratio_trigram"] == "beats":
        print("So there is something to read that n-grams of three words do not hold.")


# What came out here (seed 0 where none is said; on another machine the digits differ)
#
#   --compare regularization and --dropout 0: section 3.  --compare pooling: section 2.
#
#   The default run, imdb [real], --threads 1.  The rows "p" are p(pos) of the pairs:
#
#                                         seed 0        seed 1        seed 2
#       test                              0.8926        0.8942        0.8820
#       validation                        0.9052        0.9044        0.9028
#         words shuffled                  0.8916        0.8828        0.8876
#       h differs 30 words later            0.01          0.01          0.02
#       p good, but dull / dull, but good  0.01 / 0.00   0.03 / 0.00   0.00 / 0.00
#       p good / not good                  0.97 / 0.48   0.99 / 0.64   0.93 / 0.48
#
#     With each seed the forget gates keep least at "but", of 175 common words: f is
#     0.51, 0.56 and 0.51 there.  Yet "dull" decides wherever it stands.  It hears "not"
#     before "good" and lowers p by 0.35 to 0.49, but "not dull" keeps p 0.00.
#     Shuffling: p < 0.002 each time.  "Slow, but I loved it." is pos, 87.1%.
#
#   What is kept of a long review (--max-length 64 --keep start, end, both): on validation
#   0.8049, 0.8353, 0.8321.  both is the default, lest a verdict that stands first is lost.
#
#   --cell and --pooling, seed 0 (loss: on validation; accuracy: on test; -: no record):
#
#                                           imdb [real]       sample [sample]
#       cell        pooling       --lr     loss  accuracy      loss  accuracy
#       LSTM        attention    0.004   0.2345    0.8926    0.0153    0.9920
#       plain RNN   attention    0.004   0.2732    0.8643    0.1159    0.9477
#                                0.001   0.2823    0.8711    0.1542    0.9386
#       LSTM        last         0.004   0.2980    0.8708    0.0020    1.0000
#                                0.001   0.2787    0.8790         -         -
#       plain RNN   last         0.004   0.5984    0.7146    0.6791    0.5716
#                                0.001   0.3132    0.8666         -    0.6352
#       LSTM        max          0.004   0.2634    0.8836         -         -
#       none        attention    0.004   0.2703    0.8649         -         -
#                                0.001   0.2576    0.8873         -         -
#       ratio_trigram                              0.9173              0.8409
#
#     Who compares two cells at the learning rate of one of them compares little.  On
#     imdb with the last state the plain RNN is 15.6 points behind at 0.004, which looks
#     like a lack of memory; at 0.001, which both would choose by their loss, 1.2.  With
#     attention the plain RNN would choose 0.004: 2.8.  (Three seeds of the LSTM lie 1.2
#     apart.)
#
#     "none" has no recurrence (a changed script): tanh of a linear layer in place of the
#     cell, word by word, so that no word knows of another; then attention.  At 0.001,
#     which its loss chooses, it is half a point behind the LSTM on test, less than a seed
#     moves.  Its loss on validation is higher: 0.2576, three seeds of the LSTM have
#     0.2345, 0.2410 and 0.2443.  So on imdb the cell brings a little, no more.
#
#     On the sample order decides: with the words shuffled the LSTM (attention) falls from
#     0.9920 on validation to 0.5102, and it tells all three pairs of sentences apart.  The
#     plain RNN learns little with the last state, at any of four learning rates.  The LSTM
#     does better with it than with attention.  One explanation: who may look at every
#     state need not learn to hold, and what attention gets wrong must be held.
#
#   The first of L letters (every default run; chance is 0.125), and the gradient from
#   49 letters back:
#
#                              L=1     L=10     L=50    L=100   gradient
#       plain RNN           0.7420   0.2140   0.2320   0.2020   0
#       plain RNN, seed 1   1.0000   0.6240   0.5760   0.5820   3.7e-08
#       plain RNN, seed 2   1.0000   0.5120   0.5240   0.4680   6.8e-21
#       LSTM                1.0000   1.0000   1.0000   1.0000   0.03
#       LSTM, f bias 0      0.8700   0.7900   0.7860   0.6940
#       rnn, more short     1.0000   1.0000   1.0000   1.0000   3.1e-07
#
#     With seeds 1 and 2 LSTM and "more short" have 1.0000 as well (one number: 0.9960).
#     f bias 0 (`start_well` without its last line), one training: it learned less.  It
#     misses letters at L=1 already, where nothing is to be kept; from 10 to 50 letters it
#     loses next to nothing, at 100, longer than any in training, 9 points.
#
#   --compare cell, 6,000 of imdb [real], on validation: two seeds disagree about LSTM and
#   plain RNN (0.8377 and 0.8465; 0.8733 and 0.8397).  The GRU opens lesson 06.


# ====================================================================================
# 5. Command line
# ====================================================================================
#
# From here on nothing new is taught.  `main` is the lesson's table of contents.


class ReviewData(NamedTuple):
    """All that this lesson knows of its data (`load_data` in section 5 makes it).

    Batches keep `.data["text"]`, ids (N, T), `.data["label"]`, classes (N,), and
    `.lengths["text_length"]`, words of each review (N,).
    """

    source: utils.Source  # which data set, and whether it is real
    parts: list  # training, validation, test: lists of (text, label)
    vocabulary: utils.Vocabulary  # the commonest words of training
    labels: list  # a label's place in this list is its class
    train: utils.Batches  # the three parts as batches of tensors
    val: utils.Batches
    test: utils.Batches


def load_data(source, reviews, feeds, args):
    """The reviews as batches; feeds: what `new_model` saves beside the weights."""
    labels = feeds["labels"]
    tokens = feeds["vocabulary"]
    room = (feeds["max_length"], feeds["keep"])
    # The words are numbered already; but those of a saved model may be others.
    numbered = tokens == utils.review_vocabulary(reviews, len(tokens)).tokens
    vocabulary = utils.Vocabulary(tokens)
    pairs = []
    batches = []
    for part in reviews.parts:
        unknown = set(part.labels) - set(labels)
        if unknown:
            name = min(unknown)
            raise utils.UserError(f"the model was not trained on label '{name}'")
        if numbered:
            tensors = utils.encode_reviews(part, len(tokens), *room)
        else:
            tensors = utils.encode_texts(part.texts, vocabulary, *room)
        classes = [labels.index(label) for label in part.labels]
        tensors["label"] = torch.tensor(classes)  # (N,)
        # Bucketed by the lengths of "text".  Only training is shuffled, in every epoch.
        shuffled = part is reviews.parts[0]
        size = args.batch_size
        batches.append(utils.Batches(tensors, size, args.device, shuffled, "text"))
        pairs.append(list(zip(part.texts, part.labels, strict=True)))
    train, val, test = batches
    return ReviewData(source, pairs, vocabulary, labels, train, val, test)


def fewer_reviews(reviews, count):
    """The same reviews, but only `count` for training, whatever --seed says."""
    train = reviews.parts[0]
    draw = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(train.texts), generator=draw)[:count].tolist()
    columns = [[column[i] for i in chosen] for column in train]  # texts, labels, ids
    return reviews._replace(parts=[utils.TextPart(*columns), *reviews.parts[1:]])


def variants(config, args):
    """What --compare trains: name -> (config, flags); the default comes first."""
    # {**config, "pooling": how} is a copy of config with that one entry new.
    if args.compare == "cell":
        # Equal numbers of weights, so the hidden sizes differ: four blocks against one.
        shapes = utils.cells_of_equal_size(ReviewClassifier, config, CELLS)
        return {name: (shape, {}) for name, shape in shapes.items()}
    if args.compare == "pooling":
        kinds = dict.fromkeys([args.pooling, *POOLINGS])  # each once, this one first
        return {how: ({**config, "pooling": how}, {}) for how in kinds}
    # One brake at a time, so `plain` has none.  `or`: --dropout 0 would be it again.
    plain = {**config, "dropout": 0.0, "norm": False}
    dropout = args.dropout or 0.5
    decay = args.weight_decay or 1.0
    off = {"weight_decay": 0.0}
    return {
        f"dropout {dropout:g}": ({**plain, "dropout": dropout}, off),
        "none": (plain, off),
        f"weight decay {decay:g}": (plain, {"weight_decay": decay}),
        "layer norm": ({**plain, "norm": True}, off),
    }


def compare(config, data, args):
    """`--compare`: every variant on the same data and seed; one table of validation."""
    print(f"Each on {data.train.n:,} training reviews, without early stopping")

    def train(settings):
        shape, changed = settings  # a pair of `variants`
        # The reader's flags, but all train equally long: of equal names the last
        # counts.
        flags = {**vars(args), "patience": 0, **changed}
        model, records = train_model(shape, data, Namespace(**flags))
        return model, records, utils.judge(model, forward, data.val, args)

    # Rivals that count.  All are judged on validation: one chooses by this table.
    truth = data.val.data["label"].cpu()
    rivals = utils.review_baselines(data.parts[0], data.parts[1], data.labels)
    rows = {}
    for name, scores in rivals.items():
        rows[name] = utils.classification_scores(scores, truth)
    kinds = variants(config, args)
    utils.compare_variants(args, data.source, kinds, train, rows)
    print("One seed: gaps of some points can be luck.  A row is of its best epoch.")


def print_predictions(model, feeds, data, args):
    """`--predict`: the likeliest labels of each text."""
    print()
    for text in args.predict:
        utils.say_unknown(utils.split_words(text), data.vocabulary)
        room = (feeds["max_length"], feeds["keep"])
        batch = utils.encode_texts([text], data.vocabulary, *room)
        ids = batch["text"].to(args.device)  # (1, T)
        with torch.no_grad():
            scores = model(ids, batch["text_length"])  # (1, C)
        chances = scores[0].softmax(0)  # (C,)
        best = chances.argsort(descending=True)[:3].tolist()
        said = ", ".join(f"{data.labels[k]} {chances[k]:.1%}" for k in best)
        print(f"{textwrap.shorten(text, 60)}: {said}")


def save_results(rows, metrics, recalled, model, records, data, args):
    """metrics.json; rows: those of the table on test, ours first."""
    ours, *rivals = rows
    metrics |= {f"test_{name}": value for name, value in rows[ours].items()}
    metrics |= {f"memory_{cell}": value for cell, value in recalled.items()}
    known = {name: rows[name]["accuracy"] for name in rivals}
    words = int(data.train.lengths["text_length"].sum())
    size = utils.count_parameters(model)
    utils.write_metrics(
        args, data.source, metrics, known, size, records, words, "tokens"
    )


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    help_text = "a CSV file: text,label"
    utils.add_data_flags(parser, ["imdb", "sample"], help_text, ("text", "label"))
    # Another number of --epochs is another training: the learning rate rises and falls
    # over all that are planned, even if patience ends it sooner.
    defaults = {"epochs": 6, "lr": 0.004, "batch_size": 64, "hidden_size": 128}
    utils.add_training_flags(parser, **defaults, dropout=0.5, patience=2)
    add = parser.add_argument_group("this lesson").add_argument
    add("--cell", choices=list(CELLS), default="lstm", help="default lstm")
    add("--pooling", choices=POOLINGS, default="attention", help="default attention")
    add("--layer-norm", action="store_true", help="on the states")
    text = "words kept of a review (default 400)"
    add("--max-length", type=utils.whole(1, 100_000), default=400, help=text)
    text = "which words of a longer one (default both: half of each)"
    add("--keep", choices=["both", "start", "end"], default="both", help=text)
    text = "words known (default 15000)"
    add("--max-vocab", type=utils.whole(3), default=15_000, help=text)
    kinds = ["cell", "pooling", "regularization"]
    add("--compare", choices=kinds, help="several models, one table")
    add("--predict", nargs="+", metavar="TEXT", default=[], help="texts to judge")
    return parser


def new_model(source, reviews, args):
    """(config, feeds) of a new model: how to build it, and what feeds it."""
    vocabulary = utils.review_vocabulary(reviews, args.max_vocab)
    # config builds the network: the arguments of its class.
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
    # Saved beside the weights, which mean nothing for other words, labels or cuts.
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
        reviews = fewer_reviews(reviews, 6000)  # for several models, so less for each
    data = load_data(source, reviews, feeds, args)
    sizes = " / ".join(f"{len(part):,}" for part in data.parts)
    print(f"{source.label}: {sizes} reviews to train, validate, test;", end=" ")
    print(f"{len(data.vocabulary):,} words known")
    if args.compare:
        return compare(config, data, args)
    show_one_review(data, feeds["max_length"])

    # 2. The model: one cell, its memory, its recall, pooling, sizes.
    show_one_cell()
    show_memory_path()
    recalled = {}
    if args.eval_only:
        print("\n(How far back a cell recalls is left out: the file has it recorded.)")
    else:
        recalled = show_recall(args)
    show_poolings()
    show_weights(config, data)

    # 3. Training, and where it turns into learning by heart.
    show_early_stopping()
    records = []
    if not args.eval_only:
        print(f"\nTraining on {source.label}: one line an epoch")
        model, records = train_model(config, data, args, feeds)
        show_overfitting(records, config, data, args)

    # 4. Evaluation: word by word; what is order worth; new reviews; who is better?
    show_running_verdict(model, config, data, args)
    show_how_long_it_holds(model, data)
    show_pairs(model, data, args)
    metrics = show_shuffled(model, data, args)
    order = (metrics["val_accuracy"], metrics["val_accuracy_shuffled"])
    rows = report(model, config, order, data, args)
    save_results(rows, metrics, recalled, model, records, data, args)
    if args.predict:
        print_predictions(model, feeds, data, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
