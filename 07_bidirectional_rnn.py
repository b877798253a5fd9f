"""07 · What does the future of a sentence tell?

    The team watches the boat        here "watches" is what the team does: a verb
    The team watches were cheap      here "watches" are worn on the wrist: a noun

Up to "watches" both sentences are the same, so whoever reads from left to right cannot
know which of the two it is.  What decides comes later: it is the future of the
sentence.  A bidirectional network has two readers, one from each end, and asks both.

What you will learn
    - what each reader has seen at each word, and where PyTorch keeps what it found
    - what nn.LSTM(bidirectional=True) does inside: two cells, one fed backwards
    - what padding does to the two readers, and the cure
    - when reading backwards is cheating, and a test that finds it out
    - one answer for every word (which part of speech is it?), with letters to help
      where a word is new, and one for a whole text (does the reviewer like the film?)
    - what the future is worth, measured: at equal weights, with a test, and against the
      most that any reader from left to right can know; and what it costs

You need lessons 01 (padding, lengths, mask), 02 (vocabulary, embedding, <unk>), 04 (a
recurrent step, the training loop, McNemar's test) and 05 (LSTM, pooling over time).

Run it  (minutes with one thread)
    python 07_bidirectional_rnn.py --task tag                      the title: 7 minutes
    python 07_bidirectional_rnn.py --task tag --dataset sample     a minute: a look
    python 07_bidirectional_rnn.py --task tag --predict "Time flies like an arrow"
    python 07_bidirectional_rnn.py                     film reviews: 9 to 11 minutes
    python 07_bidirectional_rnn.py --compare direction                twice as long
The third line ends with Time/NOUN flies/VERB like/ADP an/DET arrow/NOUN.  (ADP: in, of,
like.  DET: a, an, the.)

--task tag gives one answer for each word: there the future matters most, and it is the
title's own task.  --task classify, the default, gives one answer for a whole review:
there it matters little.  A small trial on made-up sentences is part of both: it answers
the title within seconds.  (`main`, the last function, is this script's table of contents.)

You should see, within seconds once the data are read  (seed 0, one thread)
    The small trial: 2,700 made-up sentences, 1,757 words to test
      model                    accuracy   ambiguous_accuracy   hidden   weights
      both directions            1.0000               1.0000       32    52,219
      forwards only              0.9027               0.4926       55    52,356
      linear_before_after        0.9590               0.7864        -         -
      most_frequent_tag          0.8998               0.4777        -         -
      ceiling, all sentences     0.9077                    -        -         -
    accuracy is the share of words whose tag is right, ambiguous_accuracy that share
    among words which have several tags.  hidden is the size of one direction's state.
    linear_before_after is logistic regression, told the word, its ending, whether it
    has a capital, and the words before and after.  The ceiling is the most that any
    reader from left to right can reach on all 2,700 sentences.

And on real texts, as many weights each  (seed 0, one layer; more in section 4)
    tags of words, EWT (18 MB)       0.9532 in both directions, 0.9318 forwards only
    film reviews, IMDB (84 MB)       0.9098 in both directions, 0.9052 forwards only

Try this  (guess first, then run; what came out stands at the end of section 4)
    --compare direction                            what is the second direction worth?
    --task tag --dataset sample --unidirectional   can a tagger do without the future?
    --task tag --dataset ewt --quick               who wins after 30 updates?
    the same with --char-features none             what are the letters worth there?
"""

# Sizes
#     B  batch (texts)            T  time (words of the longest text in the batch)
#     E  vector of a word: 100, and with letters 200     H  hidden state of one direction
#     D  the states at a word: 2 H with both directions, H with one
#     V  vocabulary (words)       C  classes: labels of texts, or tags of words
#     L  layers                   W  letters of the longest word in the batch
#     M  answers: the reviews of a batch or a part, or its real words
#     P  pairs of words that have a vector (in the aside at the end of section 2)

import re
import sys
from argparse import Namespace
from collections import Counter, defaultdict
from typing import NamedTuple

import regex
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================
#
# First the question itself, on two sentences of five words.  Each word has a tag beside
# it: its part of speech, the kind of work that it does in this sentence.  DET is here
# an article (the, a), AUX a helping verb or a form of be, ADJ an adjective; NOUN and
# VERB say themselves.  (The sentences that the networks learn from are looked at in
# section 3, just before training: until there these two are enough.)


def tagged(line):
    """ "a/DET team/NOUN" -> [("a", "DET"), ("team", "NOUN")]."""
    return [tuple(pair.split("/")) for pair in line.split()]


OPENING = [
    tagged("The/DET team/NOUN watches/VERB the/DET boat/NOUN"),
    tagged("The/DET team/NOUN watches/NOUN were/AUX cheap/ADJ"),
]
RIDDLE = 2  # the place of "watches", counting from 0


def words_of(sentence):
    """The words of a sentence that is a list of (word, tag)."""
    return [word for word, _ in sentence]


def tags_of(sentence):
    """The tags of a sentence that is a list of (word, tag)."""
    return [tag for _, tag in sentence]


# A recurrent network hands a state from word to word.  After word t it knows words 1 to
# t, and nothing else: call that state f_t, f for forwards.  A second network that
# starts at the last word and goes to the left has a state b_t at the same word, b for
# backwards, and knows words T, T - 1, ..., t.
#
#     f_1 ---> f_2 ---> f_3 ---> f_4 ---> f_5     knows word t, and what is to the left
#      |        |        |        |        |
#     The     team    watches    the     boat
#      |        |        |        |        |
#     b_1 <--- b_2 <--- b_3 <--- b_4 <--- b_5     knows word t, and what is to the right
#
# Side by side, f_t and b_t know the whole sentence, seen from word t.  What lies to the
# right of word t is what we call its future.  With x_t for the vector of word t:
#
#     f_t = cell_f(x_t, f_(t-1))          b_t = cell_b(x_t, b_(t+1))
#     scores_t = A [f_t ; b_t] + bias
#
# A cell is a recurrent step (lessons 04, 05); each of the two has weights of its own.
# f_0 and b_(T+1) are zeros: nothing has been read.  [f_t ; b_t] is one vector, the
# numbers of f_t and then those of b_t.  A is the matrix of a linear layer, and scores_t
# has a number for each answer.  (One could also add f_t and b_t; side by side, A can give
# each its own weights.)  Each tag is chosen by itself: no answer sees its neighbour's.  A
# conditional random field (CRF) on top would score the whole row of tags at once, so that
# DET VERB may cost more than DET NOUN (Lample and others, 2016); this lesson has none.


def show_what_has_been_read():
    """Print what the states at each word of the opening sentences have read."""
    print("What has been read at each word?")
    print(f"  {'':<10}{'f_t, from the left':<30}b_t, from the right")
    words = words_of(OPENING[0])
    for t in range(len(words)):
        # Both have read word t itself; the reader from the right met it last.
        left = " ".join(words[: t + 1])
        right = " ".join(reversed(words[t:]))
        print(f"  {words[t]:<10}{left:<30}{right}")
    print("And at the word watches, in the two sentences?")
    # They differ only after it: the same on the left, another thing on the right.
    for sentence in OPENING:
        word, tag = sentence[RIDDLE]
        words = words_of(sentence)
        left = " ".join(words[: RIDDLE + 1])
        right = " ".join(reversed(words[RIDDLE:]))
        print(f"  {word:<10}{left:<30}{right:<22}{tag}")
    print("From the left the two are the same: a verb or a noun, who can tell?")
    print("The words after it can.  That is what the future of a sentence tells.")


# ====================================================================================
# 2. Model
# ====================================================================================
#
# How does one build two readers?  First as one would write it with PyTorch, then what
# it does inside.  The numbers of the examples are random, and in double precision
# (.double()), so that "equal" can be checked closely.


def opening_vectors(size):
    """The opening sentences, and one more of five words, as random vectors: (3, 5, size).

    The third is there only so that B = 3 is not mistaken for the two directions.
    """
    x = torch.randn(3, 5, size, dtype=torch.double)
    x[1, : RIDDLE + 1] = x[0, : RIDDLE + 1]  # they begin with the same three words
    return x


def as_text(numbers):
    """A row of numbers as a text of equal width."""
    return " ".join(f"{number:+.2f}" for number in numbers.tolist())


def apart(ours, theirs):
    """The largest difference between two tensors of one shape, as a text."""
    gap = (ours - theirs).abs().max().item()
    if gap == 0:
        return "equal"
    if gap < 0.001:
        return f"{gap:.0e} apart"
    return f"{gap:.2f} apart"


def show_two_directions_in_pytorch():
    """Print what nn.LSTM(bidirectional=True) returns, and which half is which."""
    torch.manual_seed(9)
    x = opening_vectors(6)  # (B, T, E) = (3, 5, 6)
    layer = nn.LSTM(6, 4, batch_first=True, bidirectional=True).double()  # H = 4
    with torch.no_grad():
        output, (h_n, c_n) = layer(x)  # (3, 5, 8), (2, 3, 4), (2, 3, 4)
    forwards = output[:, :, :4]  # (B, T, H): f_t, the first half
    backwards = output[:, :, 4:]  # (B, T, H): b_t, the second half
    print(
        "\nTwo directions as one would write them, on the opening and a third sentence:"
    )
    print("  layer = nn.LSTM(6, 4, batch_first=True, bidirectional=True)")
    print("  output, (h_n, c_n) = layer(x)")
    print(f"  x       {tuple(x.shape)}  B = 3 sentences, T = 5 words, E = 6")
    print(f"  output  {tuple(output.shape)}  at each word f_t, then b_t; H = 4 each")
    print(f"  h_n     {tuple(h_n.shape)}  2 directions, B = 3, H = 4: where each ended")
    print(f"  c_n     {tuple(c_n.shape)}  the same of the LSTM's memory")
    print("output of the first sentence:")
    print(f"  {'':<9}{'f_t':<27}b_t")
    words = words_of(OPENING[0])
    notes = [""] * len(words)
    notes[0] = "  <- b_1 is h_n[1]"
    notes[-1] = "  <- f_5 is h_n[0]"
    for t in range(len(words)):
        left = as_text(forwards[0, t])
        right = as_text(backwards[0, t])
        print(f"  {words[t]:<8} {left}    {right}{notes[t]}")
    print(f"  f_5 and h_n[0]: {apart(forwards[:, -1], h_n[0])};", end=" ")
    print(f"b_1 and h_n[1]: {apart(backwards[:, 0], h_n[1])}")
    print("A trap: output[:, -1], the row of boat, is not the last state of both:")
    print("its b_5 has read one word.  The last states of both are h_n[0] and h_n[1].")
    print("(Where texts have padding, that holds only if they are packed: see below.)")
    print("At watches, the first sentence against the second:")
    print(f"  f_3: {apart(forwards[0, RIDDLE], forwards[1, RIDDLE])};", end=" ")
    print(f"b_3: {apart(backwards[0, RIDDLE], backwards[1, RIDDLE])}")
    print("Whatever one trains on f_3 alone must give both words the same tag.")


# What happens inside?  There are two cells, each with weights of its own.  One is fed
# the words in their order.  The other is fed the words turned round, last word first;
# its states are turned round once more, so that b_t stands at word t:
#
#     words              The      team     watches  the      boat
#     turned round       boat     the      watches  team     The
#     its states         b_5      b_4      b_3      b_2      b_1
#     turned back        b_1      b_2      b_3      b_4      b_5
#
# Within a layer the two never speak to each other.  They only meet where f_t and b_t
# are put side by side (Schuster and Paliwal, 1997).  How do they learn?  Say the tag of
# watches was wrong.  The error goes back through f_3 to the words on its left, and
# through b_3 to those on its right: back-propagation through time (lesson 04) twice.


def read_in_order(cell, x):
    """Feed x (T, E) to an nn.LSTMCell step by step: every state (T, H)."""
    h = x.new_zeros(cell.hidden_size)  # nothing has been read
    c = x.new_zeros(cell.hidden_size)  # the LSTM's memory (lesson 05)
    states = []
    for x_t in x:
        h, c = cell(x_t, (h, c))
        states.append(h)
    return torch.stack(states)


def two_directions_by_hand(x, forward_cell, backward_cell):
    """x (T, E) of one sentence without padding -> f_t and b_t side by side (T, 2 H)."""
    forwards = read_in_order(forward_cell, x)  # (T, H): f_1 ... f_T
    turned = x.flip(0)  # (T, E): the last word first
    backwards = read_in_order(backward_cell, turned)  # (T, H): b_T ... b_1
    backwards = backwards.flip(0)  # (T, H): b_1 ... b_T, each at its word
    return torch.cat([forwards, backwards], dim=1)  # (T, 2 H)


def cells_of(layer):
    """The two nn.LSTMCell inside a bidirectional nn.LSTM of one layer, same weights."""
    cells = []
    # For each direction W_ih, W_hh, b_ih, b_hh; a cell has its own in the same order.
    for weights in layer.all_weights:
        cell = nn.LSTMCell(layer.input_size, layer.hidden_size).double()
        for ours, theirs in zip(cell.parameters(), weights, strict=True):
            ours.data.copy_(theirs.data)  # the same numbers
        cells.append(cell)
    return cells


def show_two_cells():
    """Print that two cells, one fed backwards, are nn.LSTM(bidirectional=True)."""
    torch.manual_seed(7)
    x = opening_vectors(3)[0]  # (T, E) = (5, 3): the first sentence
    both = nn.LSTM(3, 2, batch_first=True, bidirectional=True).double()
    forward_cell, backward_cell = cells_of(both)
    with torch.no_grad():
        ours = two_directions_by_hand(x, forward_cell, backward_cell)  # (5, 4)
        theirs, _ = both(x.unsqueeze(0))  # (1, 5, 4)
    print("\nInside: two cells, one fed the words, one fed the words turned round")
    print(f"  our states and those of nn.LSTM: {apart(ours, theirs[0])}")
    one = utils.count_parameters(nn.LSTM(3, 2, batch_first=True))
    two = utils.count_parameters(both)
    print(f"  weights: {one} in one direction, {two} in two.  There are twice as many")
    print("  weights, and twice the recurrent steps.")
    print("  (one direction: 4 gates x H x (E + H + 2 biases) = 4 * 2 * (3 + 2 + 2))")


# So far no sentence had padding.  In a batch, shorter texts are filled up at the end
# (lesson 01).  The reader from the left comes to the padding last, when the states at
# the words have been made.  The reader from the right comes to it first!  Every state b_t
# at a word would depend on the longest text in the batch.  So we must not turn round the
# row, but the words in the row.  Of a text of 3 words in a row 5 wide:
#
#     places                    0     1     2     3     4
#     words                     We    swim  .     -     -       - is padding
#     the row turned round      -     -     .     swim  We      wrong: padding first
#     its words turned round    .     swim  We    -     -       right: places 2 1 0 3 4


def turn_words_round(x, lengths):
    """x (B, T, E), lengths (B,): each row's words in reverse, padding where it was."""
    steps = torch.arange(x.shape[1], device=x.device)  # (T,), say 0 1 2 3 4
    lengths = lengths.to(x.device).unsqueeze(1)  # (B, 1): 3
    from_end = lengths - 1 - steps  # (B, T): 2 1 0 -1 -2
    places = torch.where(from_end < 0, steps, from_end)  # (B, T): 2 1 0 3 4
    # Row i, place t of the result is x[i, places[i, t]], for each of its E numbers:
    # unsqueeze makes (B, T, 1), which is spread over E.
    return torch.take_along_dim(x, places.unsqueeze(2), dim=1)  # (B, T, E)


def show_reading_backwards():
    """Print from which places a padded row is read backwards."""
    row = torch.arange(5).view(1, 5, 1)  # (B, T, E): 0 1 2 3 4
    places = turn_words_round(row, torch.tensor([3])).flatten().tolist()
    print(f"\nTurned round, a text of 3 in a row of 5 comes from places {places}:")
    print("its words in reverse; padding, places 3 and 4, stays where it is")


# PyTorch's own cure is packing (lesson 01): it takes the padding out and tells the layer
# how long each text is.  Then the reader from the right begins at each text's own last
# word, and the reader from the left stops there.  What happens without it?


def read_packed(layer, x, lengths):
    """A bidirectional nn.LSTM on a padded batch, packed: output (B, T, 2 H), h_n."""
    # The lengths must lie on the CPU, even where x is on a GPU.
    options = {"batch_first": True, "enforce_sorted": False}
    packed = pack_padded_sequence(x, lengths.cpu(), **options)
    output, (h_n, _) = layer(packed)
    # 0 on padding.  Without total_length it would be as wide as the longest text here,
    # which may be less than T.
    output, _ = pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
    return output, h_n


def show_what_padding_does():
    """Print states of a short text: alone, then in a batch, packed and unpacked."""
    torch.manual_seed(7)
    layer = nn.LSTM(3, 2, batch_first=True, bidirectional=True).double()  # H = 2
    x = torch.randn(2, 6, 3, dtype=torch.double)  # (B, T, E)
    x[1, 2:] = 0.0  # the second text has two words; the rest of its row is padding
    lengths = torch.tensor([6, 2])
    with torch.no_grad():
        alone, (last_alone, _) = layer(x[1:, :2])  # (1, 2, 4): no padding at all
        packed, last_packed = read_packed(layer, x, lengths)  # (2, 6, 4)
        unpacked, (last_unpacked, _) = layer(x)  # (2, 6, 4): as if padding were words
    # States at the first word are [text, word]; last ones are [direction, text].
    states = {
        "alone": (alone[0, 0], last_alone[0, 0]),  # (2 H,), (H,)
        "beside a text of 6, packed": (packed[1, 0], last_packed[0, 1]),
        "beside a text of 6, unpacked": (unpacked[1, 0], last_unpacked[0, 1]),
    }
    print("\nThe damage of padding: a text of 2 words")
    print(f"  {'':<30}{'f_1':<15}{'b_1 = h_n[1]':<15}h_n[0], where f ended")
    for name, (first_word, last) in states.items():
        f_1 = as_text(first_word[:2])
        b_1 = as_text(first_word[2:])
        print(f"  {name:<30}{f_1:<15}{b_1:<15}{as_text(last)}")
    print("Reading it: unpacked, b_1 is not what it is alone, since b began in the")
    print("padding, and b_1 is h_n[1], where b ends.  h_n[0] is not either: f has read")
    print(
        "on, through the padding.  f at the words is safe.  But a text's answer would"
    )
    print("change with the company it keeps.")


# How much does that harm the answers?  Two networks that had been trained with the
# lengths were asked on test with and without them, short texts beside long ones (with
# --save-model, then --eval-only --no-packing):
#
#     EWT, tags        0.9532 with    0.9525 without    (McNemar's test: p = 0.06)
#     IMDB, reviews    0.9098 with    0.8936 without    (p below 1e-8)
#
# The whole harm is b's: of f these networks use only the states at the words.  Reviews may
# have hundreds of places of padding: 0.8936 is less than forwards only has, 0.9052.
# (Trained without the lengths, too, as --no-packing alone does: not measured.)
#
# Turning the words round does the same as packing.  In a program of your own write
# packing, as most do: it is short, and everybody knows it.
#
#     self.layer = nn.LSTM(E, H, batch_first=True, bidirectional=True)
#     self.output = nn.Linear(2 * H, C)
#     ...
#     states, h_n = read_packed(self.layer, self.embed(words), lengths)
#     scores = self.output(states)                      for a tag at each word
#     summary = torch.cat([h_n[0], h_n[1]], dim=1)      for one answer a text, (B, 2 H)
#     scores = self.output(summary)
#
# This lesson turns round, since PyTorch's code for packed batches is slow on a CPU: for 64
# reviews of up to 300 words (E = H = 100), read in both directions, answers and gradients
# took about 3 s with packing, 0.5 s turned round (one thread).  On a GPU, measure it.
#
# With several layers (--num-layers), each has its two readers.  From the second on, both
# are fed the pairs (f_t, b_t) of the layer below, so there each knows something of the
# whole text at every word.  nn.LSTM's output is that of the last layer alone.  Its h_n
# and c_n hold all, (2 L, B, H): layer 1 forwards, layer 1 backwards, layer 2 forwards, and
# so on; h_n[-2] and h_n[-1] are the last layer's.  The networks below have one layer unless
# told otherwise.  With two, a training step on EWT takes 1.3 times as long; whether it
# brings anything was not measured.

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}  # what --cell may name
BOTH = "both directions"
FORWARDS = "forwards only"


class Reader(nn.Module):
    """Recurrent layers, each with one cell reading forwards and one reading backwards.

    kind: "rnn", "lstm" or "gru".  both: True for two directions, False for forwards only.
    """

    def __init__(self, width, kind, both, hidden, layers, dropout):
        super().__init__()
        directions = 2 if both else 1
        self.size = directions * hidden  # D
        # Is it told where each text ends?  Under --no-packing not.
        self.knows_lengths = True
        self.layers = nn.ModuleList()
        for _ in range(layers):
            cells = nn.ModuleList()
            for _ in range(directions):
                cells.append(CELLS[kind](width, hidden, batch_first=True))
            self.layers.append(cells)
            width = self.size  # what the next layer is fed
        self.dropout = nn.Dropout(dropout)  # between layers

    def forward(self, x, lengths):
        """x (B, T, E), lengths (B,) -> the states at every word (B, T, D)."""
        if not self.knows_lengths:  # as if every text filled its row
            lengths = torch.full_like(lengths, x.shape[1])
        for number, cells in enumerate(self.layers):
            if number > 0:
                x = self.dropout(x)
            states, _ = cells[0](x)  # (B, T, H): f_1 ... f_T
            if len(cells) == 2:
                turned = turn_words_round(x, lengths)  # (B, T, E)
                backwards, _ = cells[1](turned)  # (B, T, H): b_T ... b_1
                backwards = turn_words_round(backwards, lengths)  # b_1 ... b_T
                states = torch.cat([states, backwards], dim=2)  # (B, T, 2 H)
            x = states
        return x  # the states at padding mean nothing: nobody may use them


def show_reader_equals_packing():
    """Print what two layers return, and how far our Reader is from them, packed."""
    torch.manual_seed(7)
    packed = nn.LSTM(4, 5, num_layers=2, batch_first=True, bidirectional=True).double()
    reader = Reader(4, "lstm", True, 5, layers=2, dropout=0.0).double()
    # Both keep their weights layer by layer, forwards and then backwards, each with W_ih,
    # W_hh, b_ih, b_hh.
    for ours, theirs in zip(reader.parameters(), packed.parameters(), strict=True):
        ours.data.copy_(theirs.data)
    x = torch.randn(3, 6, 4, dtype=torch.double)  # (B, T, E)
    lengths = torch.tensor([2, 6, 3])
    theirs, h_n = read_packed(packed, x, lengths)  # (3, 6, 10), 0 on padding; (4, 3, 5)
    ended = torch.cat([h_n[-2], h_n[-1]], dim=1)  # (B, 2 H)
    real = utils.length_mask(lengths, 6).unsqueeze(2)  # (3, 6, 1)
    ours = reader(x, lengths) * real  # (3, 6, 10)
    print("\nTwo layers, nn.LSTM, packed: B = 3, T = 6, H = 5")
    print(f"  output  {tuple(theirs.shape)}  of the last layer, f_t and b_t")
    print(f"  h_n     {tuple(h_n.shape)}  two layers, each with two directions")
    print(f"  torch.cat([h_n[-2], h_n[-1]], dim=1)  {tuple(ended.shape)}", end="  ")
    print("where the last layer ended")
    print(f"Our Reader, which turns words round: states at words {apart(ours, theirs)}")


# --- when reading backwards is cheating -----------------------------------------------
#
# The Reader is ready.  May it always be used?  What is there in full before the answer
# is due may be read from both ends: a review, a sentence that is to be translated, a
# finished window of weeks before one forecast (lesson 06).  What is still to be answered
# may not be read:
#
#     forecasting    at each day t of a series, day t + 1: b_t has just read it
#     streaming      speech while it is spoken, a text while it is typed
#     writing        each word of a text that is being made (lessons 08 to 10)
#
# Reading it there is a leak.  If validation and test are cut from the same finished
# series, the scores look wonderful; the leak shows on the day when one has to forecast.
# A test for any network, in eval mode (dropout changes answers by itself): change a later
# input.  If an earlier answer changes, the network has looked ahead, as b_3 did above.  To
# see it, let two networks forecast what nobody can: a coin.


def forecast_a_coin(both):
    """Train a network to forecast a coin: of nine tosses it is fed the first eight.

    After each of these it must say the next one, so after the eighth the ninth.  Returns
    its accuracy at each toss (8,), and the largest change of its scores after
    tosses 1 to 7 if toss 8 is another.
    """
    torch.manual_seed(7)
    # Without dropout: so eval mode, which turns dropout off, is not needed here.
    reader = Reader(1, "gru", both, 8, layers=1, dropout=0.0)  # any cell would do
    output = nn.Linear(reader.size, 2)
    parameters = [*reader.parameters(), *output.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.05)
    for _ in range(50):
        tosses = torch.randint(2, (32, 9))  # (B, T + 1)
        x = tosses[:, :8].unsqueeze(2).float()  # (B, T, 1)
        scores = output(reader(x, torch.full((32,), 8)))  # (B, T, 2)
        next_toss = tosses[:, 1:]  # (B, T)
        loss = F.cross_entropy(scores.flatten(0, 1), next_toss.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tosses = torch.randint(2, (20_000, 9))  # new ones
    x = tosses[:, :8].unsqueeze(2).float()  # (20000, T, 1)
    lengths = torch.full((20_000,), 8)
    changed = x.clone()
    changed[:, 7] = 1 - x[:, 7]  # toss 8 is the other side of the coin
    with torch.no_grad():
        scores = output(reader(x, lengths))  # (20000, T, 2)
        others = output(reader(changed, lengths))
    right = (scores.argmax(2) == tosses[:, 1:]).float().mean(0)  # (T,)
    return right, apart(scores[:, :7], others[:, :7])


def show_cheating():
    """Print how well each kind of reader "forecasts" the toss of a coin."""
    print("\nWhen is reading backwards cheating?  Two networks forecast a coin.  Fed")
    print("eight tosses, they must name the next one at each.  How often right?")
    print("Last column: toss 8 is turned over; how far does an earlier score move?")
    print(f"  {'':<18}tosses 2 to 8   toss 9, not fed   earlier scores")
    for direction in (FORWARDS, BOTH):
        right, looked = forecast_a_coin(direction == BOTH)
        first = right[:7].mean()
        print(f"  {direction:<18}{first:>9.3f}{right[7]:>16.3f}         {looked}")
    # 0.5 and three standard deviations to both sides; one is 0.5 / sqrt(tosses), of
    # which there are 140,000 and 20,000.
    print("  (Guessing gives 0.496 to 0.504, and in the second column 0.489 to 0.511,")
    print("  nearly always.)")
    print("Nobody can forecast a coin: whoever does has looked.  b_t, the state from")
    print("the right, has read the next toss.  At toss 9, which is not fed, nothing is")
    print("left of that.  The last column is a test for any network: equal, or a leak.")


# --- two networks: one answer a word, one answer a text -------------------------------
#
# The Reader is the heart of both:
#
#     words         The        team       watches    the        boat
#     vectors       x_1        x_2        x_3        x_4        x_5
#     the Reader    f_1 b_1    f_2 b_2    f_3 b_3    f_4 b_4    f_5 b_5
#                    |          |          |          |          |
#                    v          v          v          v          v
#     tags          DET        NOUN       VERB       DET        NOUN
#
# For tags, each pair of states gives the answer for its word.  For a review, all pairs
# must give one.  How?  Of each of the D numbers in f_t and b_t we take the largest value
# that it has at any real word (max pooling, lesson 05).  With three words and D = 4:
#
#                word 1     word 2     word 3     the largest
#     f_t        0.1        0.7        0.2        0.7
#               -0.3       -0.6       -0.1       -0.1
#     b_t        0.4       -0.2        0.0        0.4
#                0.5        0.6        0.8        0.8     these four --> scores --> pos
#
# Many programs take the two last states instead, torch.cat([h_n[-2], h_n[-1]], dim=1),
# (B, 2 H) (packed, see above).  Then f must carry what it found at the first words over
# all that follow, and b what it found at the last ones.  The largest value is fetched
# from where it was found.
#
# (Which of the two ways is better here was not measured.)
#
# The review network has two tricks more, which have nothing to do with direction.  In
# training, each word of a review becomes <unk> with probability 0.2, other words each time
# (word dropout): "it was a joy" -> "it was a <unk>".  So no single word can be relied
# upon, and a review, which looks different in each epoch, takes longer to learn by heart.
# When the network is asked, no word is hidden.  The second trick are vectors for pairs of
# words, such as "not good": see the aside at the end of this section, or skip it.
WORD_SIZE = 100  # numbers for each word
HIDDEN_SHARE = 0.2  # of the words of reviews, in training


def hide_words(words, which, chance):
    """words (B, T): each of those that `which` (B, T) allows becomes <unk> by chance."""
    coin = torch.rand(words.shape, device=words.device)  # from 0 to 1
    return words.masked_fill(which & (coin < chance), utils.UNK_ID)


def make_reader(width, cell, hidden, layers, dropout):
    """A Reader.  cell: kind and direction in one text, as tables and saved files have it."""
    kind, direction = cell.split(", ")  # "lstm, both directions"
    return Reader(width, kind, direction == BOTH, hidden, layers, dropout)


class ReviewNetwork(nn.Module):
    """Vectors of words and pairs, the Reader, the largest of each number, one answer."""

    def __init__(self, words, pairs, classes, cell, hidden, layers, dropout):
        super().__init__()
        self.embed = nn.Embedding(words, WORD_SIZE)
        # pairs: which have a vector, [] for none.  PairVectors: in the aside below.
        self.pairs = PairVectors(words, pairs) if pairs else None
        # PyTorch's own start is ten times as large; words that training seldom meets
        # would keep that noise.
        nn.init.normal_(self.embed.weight, std=0.1)
        self.reader = make_reader(WORD_SIZE, cell, hidden, layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.reader.size, classes)

    def vectors(self, batch):
        """The vectors of a batch's words (B, T, E)."""
        words = batch["text"]  # (B, T)
        if self.training:
            words = hide_words(words, words != utils.PAD_ID, HIDDEN_SHARE)
        x = self.embed(words)  # (B, T, E)
        if self.pairs:
            x = x + self.pairs(words)  # a hidden word makes no pair
        return x

    def forward(self, batch):
        """text (B, T), text_length (B,) -> scores (B, C)."""
        x = self.vectors(batch)  # (B, T, E)
        lengths = batch["text_length"]
        states = self.reader(self.dropout(x), lengths)  # (B, T, D)
        real = utils.length_mask(lengths, x.shape[1], x.device)  # (B, T)
        # Padding becomes -inf, which is never the largest.
        states = states.masked_fill(~real.unsqueeze(2), -torch.inf)
        largest = states.amax(1)  # (B, D)
        scores = self.output(self.dropout(largest))  # (B, C)
        return scores.float()  # full precision, also under --precision bf16


# --- the letters of a word (--task tag alone) -----------------------------------------
#
# Of the 25,094 words of EWT's test sentences, 1,882 do not occur in training.  As words
# these are all the same, <unk>.  But "googling" ends like a verb, and "Ashburn" begins
# like a name: the letters still tell.  So every word also becomes a row of numbers: the
# bytes of its letters, between a mark for the beginning and one for the end.

MAX_LETTERS = 20  # bytes kept of a word; of the few longer ones the end is lost
BEGIN = 1  # the two marks; no text holds the bytes 1 and 2
END = 2


def spell(word):
    """A word as numbers: the bytes of its letters between two marks.

    "is" -> 1 105 115 2.  é has two bytes; so 256 numbers are enough for all scripts.
    """
    return [BEGIN, *word.encode()[:MAX_LETTERS], END]


# How do these numbers become a vector?  By filters.  A filter is a small pattern of,
# say, three letters.  It is laid upon the word at every place, and tells how well the
# letters fit.  Of all places only the best counts: "is there an -ing anywhere?"
#
# That is a convolutional network over letters (CNN).  We do not write the patterns:
# training finds the ones that help to tag.  Before the filters, every letter becomes a
# vector of 32 numbers, so that a pattern can say "a vowel, then an n" and not only
# "exactly in".  Half of the filters are three letters wide, as -ing or un- are, half
# five, so that -able or -tion fits with its end mark.
#
# In PyTorch 50 such filters are nn.Conv1d(32, 50, 3): 32 numbers a letter, 50 answers, 3
# letters a filter.  A filter learns 3 x 32 weights and a bias.  At each place it
# multiplies, adds up, and so gives one number.  (A second recurrent network would do, too;
# but what tells is mostly a short run of letters, and filters look everywhere at once.)
#
# The example only counts the letters that fit.  That is multiplying and adding up, too, if
# a letter's vector is zeros with a single 1, at a place of its own, and the filter's
# weights are the vectors of i, n and g.  Training finds other weights.


def show_one_filter():
    """Print one filter of three letters, made by hand, on its way over two words."""
    wanted = "ing"
    print('\nA filter of three letters that looks for "ing": how many letters fit?')
    print("(^ and $ are the marks of beginning and end)")
    for word in ("^singing$", "^signs$"):
        values = []
        shown = []
        # A window of three signs has 9 - 2 = 7 places on the 9 signs of ^singing$.
        for place in range(len(word) - 2):
            window = word[place : place + 3]
            # Sign by sign: of ign only the i is where ing has it, so 1.
            pairs = zip(window, wanted, strict=True)
            fitting = [letter for letter, other in pairs if letter == other]
            values.append(len(fitting))
            shown.append(f"{window} {len(fitting)}")
        print(f"  {word:<10} {'  '.join(shown)}   largest {max(values)}")
    print("The filter's answer for the word is the largest.")


class LetterFilters(nn.Module):
    """For each word, how well each filter of 3 or 5 letters fits at its best place.

    Unlike in the example, a filter may hang over the word's ends (padding="same"): its
    middle comes to lie upon every sign, 9 places for the 9 signs of ^singing$.
    """

    def __init__(self, size):
        super().__init__()
        # Here row 0, what follows a word, must be zeros: a filter that hangs over the
        # end of a word reads it.
        self.embed = nn.Embedding(256, 32, padding_idx=0)
        self.three = nn.Conv1d(32, size // 2, 3, padding="same")
        self.five = nn.Conv1d(32, size // 2, 5, padding="same")

    def forward(self, letters):
        """letters (..., W), ids of bytes, 0 after the word -> (..., size)."""
        rows = letters.reshape(-1, letters.shape[-1])  # (B * T, W): a row for each word
        x = self.embed(rows).transpose(1, 2)  # (B * T, 32, W): Conv1d wants places last
        fits = torch.cat([self.three(x), self.five(x)], dim=1)  # (B * T, size, W)
        # How far a row is filled up depends on the batch's longest word: leave it out.
        fits = fits.masked_fill((rows == 0).unsqueeze(1), -torch.inf)
        best = fits.amax(2).relu()  # (B * T, size): a filter that fits nowhere: 0
        return best.view(*letters.shape[:-1], -1)  # (..., size)


# The tagger puts side by side, for every word, the vector of the word and what the
# filters found in its letters (Ma and Hovy, 2016).  Trained so, it is right at 0.7949 of
# EWT's new test words; trained without letters, at 0.6079, and then it is only level with
# linear_before_after, which is told the ends of words (0.9339 and 0.9353, p = 0.38).


class Tagger(nn.Module):
    """Vectors of words and of their letters, the Reader, an answer for every word."""

    def __init__(
        self, words, first_rare, classes, letters, cell, hidden, layers, dropout
    ):
        super().__init__()
        # Words are numbered by frequency: from this id on they came only once.
        self.first_rare = first_rare
        self.embed = nn.Embedding(words, WORD_SIZE)
        # Small, as in ReviewNetwork; else words drown out the letters.
        nn.init.normal_(self.embed.weight, std=0.1)
        self.filters = LetterFilters(WORD_SIZE) if letters else None
        width = 2 * WORD_SIZE if letters else WORD_SIZE  # E
        self.reader = make_reader(width, cell, hidden, layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.reader.size, classes)

    def vectors(self, batch):
        """The vectors of a batch's words (B, T, E)."""
        words = batch["text"]  # (B, T)
        if self.training:
            # In training no word is unknown.  So words that it has only once are hidden
            # every other time: letters and neighbours must do, as with new words.
            words = hide_words(words, words >= self.first_rare, 0.5)
        x = self.embed(words)  # (B, T, 100)
        if self.filters:
            spelled = self.filters(batch["letters"])  # (B, T, 100)
            x = torch.cat([x, spelled], dim=2)  # (B, T, 200)
        return x

    def forward(self, batch):
        """text (B, T), letters (B, T, W), text_length (B,) -> scores (B, T, C)."""
        x = self.vectors(batch)  # (B, T, E)
        states = self.reader(self.dropout(x), batch["text_length"])  # (B, T, D)
        return self.output(self.dropout(states)).float()  # as in ReviewNetwork


NETWORKS = {"classify": ReviewNetwork, "tag": Tagger}


# --- an aside, may be skipped: pairs of words (--task classify alone) -----------------
#
# "not good" is not "not" and "good".  A recurrent cell can learn what a pair means, but it
# must work that out for each pair by itself.  So the commonest pairs of neighbours in
# training get a vector of their own, zeros at first, and what is fed at word t is
#
#     x_t = vector of word t + vector of the pair (word t - 1, word t)
#
#     it         was             not             good
#                + it was        + was not       + not good
#
# A pair that is not among them adds nothing, nor does one with an unknown or a hidden
# word.  On 18,000 reviews to learn from and 7,001 others, none of them of test, the network
# had 0.8967 right without pairs and 0.9184 with them (seed 0, the best of four epochs).
#
# How is a pair found?  It becomes one number, its key: a * V + b for words a and b of V, as
# two digits make one number (V = 10: 4 and 7 make 47).  The keys are sorted, so that
# torch.searchsorted can halve its way to one.  With V = 8 and the keys 19, 28 and 37
# known, a review of ids 2 3 4 7 has the keys 0 19 28 39, so the pairs 0 1 2 0.
MOST_PAIRS = 60_000  # pairs that get a vector
LEAST_USES = 3  # of a pair in training; a rarer one would be learned by heart


def pair_keys(words, size):
    """Ids (B, T) of `size` words -> key of each word's pair with the one before; or 0.

    Size 10: 4 7 1 5 8 0 -> 0 47 0 0 58 0.  The first word has none before it, 1 is
    <unk>, and 0 is padding.
    """
    before = F.pad(words, (1, 0))[:, :-1]  # (B, T): each row moved one to the right
    known = (before > utils.UNK_ID) & (words > utils.UNK_ID)
    keys = before.long() * size + words
    return keys.masked_fill(~known, 0)


def common_pairs(text, size):
    """Keys of the commonest pairs in all the training texts, ids (texts, T); sorted."""
    keys = pair_keys(text, size)
    found, uses = keys[keys > 0].unique(return_counts=True)
    found = found[uses >= LEAST_USES]
    uses = uses[uses >= LEAST_USES]
    chosen = uses.argsort(descending=True, stable=True)[:MOST_PAIRS]
    return found[chosen].sort().values.tolist()


class PairVectors(nn.Module):
    """For every word the vector of its pair with the word before; zeros if unknown."""

    def __init__(self, words, keys):
        super().__init__()
        self.words = words  # V
        # A buffer is no weight, but moves to the GPU with the weights.  Not persistent:
        # the saved file has the keys among the network's arguments.
        self.register_buffer("keys", torch.tensor(keys), persistent=False)  # (P,)
        rows = len(keys) + 1  # row 0: none of them
        # sparse: utils.fit takes SparseAdam, which moves only the pairs that a batch has.
        # (After two epochs: 0.9081 right; with Adam, which moves all, 0.9016.)
        self.embed = nn.Embedding(rows, WORD_SIZE, padding_idx=0, sparse=True)
        nn.init.zeros_(self.embed.weight)

    def numbers(self, words):
        """Ids (B, T) -> which pair: 1 to P, or 0 for none of them, (B, T)."""
        keys = pair_keys(words, self.words)
        places = torch.searchsorted(self.keys, keys)  # where each key would stand
        places = places.clamp(max=len(self.keys) - 1)  # (that may be behind the last)
        found = self.keys[places] == keys  # does it stand there?
        return torch.where(found, places + 1, 0)

    def forward(self, words):
        """Ids (B, T) -> (B, T, E)."""
        return self.embed(self.numbers(words))


# ====================================================================================
# 3. Training
# ====================================================================================
#
# What do the networks learn from?
#
#     --task tag        sentences in which people have given every word its tag: the
#                       English Web Treebank (EWT), that is mails, reviews, questions
#     --task classify   film reviews, each with a label, neg or pos (IMDB, lesson 05)
#
# Without these, made-up samples take their place.  (Reading files: section 5.)

TAG_MEANINGS = {
    "ADJ": "adjective: what something is like",
    "ADP": "adposition: in, of, with",
    "ADV": "adverb: how, when, where",
    "AUX": "helps a verb (can, will), or is a form of be",
    "CCONJ": "joins equals: and, or, but",
    "DET": "determiner: which one, how many",
    "INTJ": "interjection: a call",
    "NOUN": "noun: a thing, a person, an idea",
    "NUM": "number",
    "PART": "particle: not, 's, to as in to go",
    "PRON": "pronoun: stands for a noun",
    "PROPN": "name of a person, a place, a firm",
    "PUNCT": "punctuation",
    "SCONJ": "begins a clause: that, if, because",
    "SYM": "symbol: $, %, a smiley",
    "VERB": "verb: what somebody does",
    "X": "none of these, such as a web address",
}
MAX_LENGTH = 400  # words kept of a review: of a longer one, half from each end
NO_TAG = -1  # on padding: a class that does not exist
TRAIN = 0  # the parts of the data, as places in data.parts
VAL = 1
TEST = 2


def count_tags(sentences):
    """word in lower case -> Counter of the tags that it has in these sentences."""
    counts = defaultdict(Counter)
    for sentence in sentences:
        for word, tag in sentence:
            counts[word.lower()][tag] += 1
    return counts


def show_tags(data):
    """Print the list of tags with examples, and words that have several."""
    counts = count_tags(data.parts[TRAIN])
    words_with = defaultdict(Counter)  # the same the other way round: tag -> words
    besides = Counter()  # word -> its uses with any tag but its commonest
    for word, tags in counts.items():
        besides[word] = tags.total() - max(tags.values())
        for tag, count in tags.items():
            words_with[tag][word] += count
    total = sum(words.total() for words in words_with.values())
    print(f"\nThe tags of {data.source.label}, in training:")
    print(f"  {'tag':<7}{'share':>6}  {'commonest words':<24}meaning")
    for tag in data.labels:
        share = words_with[tag].total() / total
        common = " ".join(word for word, _ in words_with[tag].most_common(3))
        meaning = TAG_MEANINGS.get(tag, "")
        print(f"  {tag:<7}{share:>6.1%}  {common[:22]:<24}{meaning}")
    several = [word for word in counts if len(counts[word]) > 1]
    print(f"{len(several):,} words have several tags: their neighbours must decide.")
    for word, _ in besides.most_common(min(4, len(several))):
        uses = [f"{tag} {count:,}" for tag, count in counts[word].most_common(4)]
        print(f"  {word:<10}{', '.join(uses)}")


# Of the sentences of a batch, T the words of the longest, these are made:
#
#     text      (B, T)      which word it is, in lower case: "The" and "the" are one
#     letters   (B, T, W)   how it is spelled, capital letters and all
#     label     (B, T)      which tag it has; on padding there is none: NO_TAG


def show_one_sentence(data):
    """Print one training sentence on its way from the file to the tensors."""
    sentences = data.parts[TRAIN]
    rows = range(len(sentences))
    short = [row for row in rows if 4 <= len(sentences[row]) <= 6]
    chosen = short[0] if short else 0
    # Beside a sentence of three words more, so that padding can be seen.
    wanted = len(sentences[chosen]) + 3
    longer = min(rows, key=lambda row: abs(len(sentences[row]) - wanted))
    batch = data.train.take(torch.tensor([chosen, longer]))
    print("\nOne sentence on its way from the file to the network:")
    print("  word            its id  its tag      its letters, between the two marks")
    for place, (word, tag) in enumerate(sentences[chosen]):
        number = int(batch["text"][0, place])
        label = f"{tag} = {int(batch['label'][0, place])}"
        letters = " ".join(map(str, spell(word)[:12]))
        print(f"  {word[:14]:<14}{number:>8}  {label:<12} {letters}")
    print(f"Beside a sentence of {len(sentences[longer])} words it is filled up:")
    print(f"  text     {batch['text'][0].tolist()}: 0 is padding")
    print(f"  label    {batch['label'][0].tolist()}: {NO_TAG}, there is no tag")
    print(f"  length   {batch['text_length'][0]}")
    shape = tuple(batch["letters"].shape)
    print(f"  letters  {shape}: B sentences, T words, W letters, marks included")


# --- what counts in training ----------------------------------------------------------
#
# The loop is `utils.fit`, opened in lesson 04.  It wants one function from us, which
# returns the loss of every real item: of each review, or of each word.  The padding among
# the (B, T) places must count neither in the loss nor in the accuracy.


def show_loss_of_real_words():
    """Print the loss of each word of two sentences, and their mean over real words."""
    # The network's scores for three tags, PRON VERB PUNCT, at every place: (B, T, C).
    scores = torch.tensor(
        [
            [[2.0, 0.5, 0.1], [0.3, 1.5, 0.2], [0.0, 0.1, 3.0]],
            [[1.0, 0.8, 0.1], [0.2, 0.4, 2.5], [1.2, 0.3, 0.9]],
        ]
    )
    label = torch.tensor([[0, 1, 2], [1, 2, NO_TAG]])  # (B, T)
    print("\nThe loss of each word: minus the log of the probability of its right tag.")
    losses = []
    for row, sentence in enumerate([["We", "swim", "."], ["Stop", "!"]]):
        shown = []
        for place, word in enumerate(sentence):
            chances = scores[row, place].softmax(0)  # (C,)
            losses.append(-chances[label[row, place]].log().item())
            shown.append(f"{word} {losses[-1]:.3f}")
        print(f"  sentence {row + 1}   {'   '.join(shown)}")
    mean = sum(losses) / len(losses)
    print(f"  their mean, over {len(losses)} real words   {mean:.4f}")
    real = label != NO_TAG  # (B, T)
    # scores[real] (M, C) are the scores at the real words.  With classes second, (B, C,
    # T), F.cross_entropy(..., ignore_index=NO_TAG) does the same.
    theirs = F.cross_entropy(scores[real], label[real])
    print(f"  F.cross_entropy over the same   {theirs:.4f}")
    filled = label.masked_fill(~real, 0)  # as if padding were a word, its tag PRON
    wrong = F.cross_entropy(scores.flatten(0, 1), filled.flatten())
    print(f"  wrong: padding as a sixth word, its tag PRON   {wrong:.4f}")
    print("  (So trained, a network would learn to call padding PRON.)")


def measure(model, batch):
    """Loss and accuracy of every review, or of every real word: (M,) each."""
    scores = model(batch)  # (B, C); for tags (B, T, C)
    label = batch["label"]  # (B,); for tags (B, T)
    # A mask of label's shape picks places and strings them together.  B 2, T 3:
    # real [[1, 1, 1], [1, 1, 0]], scores (2, 3, C): scores[real] is (5, C).
    real = label != NO_TAG
    scores = scores[real]  # (M, C)
    truth = label[real]  # (M,)
    return {
        "loss": F.cross_entropy(scores, truth, reduction="none"),  # (M,)
        "accuracy": scores.argmax(1) == truth,  # (M,), True or False
    }


def train_model(config, data, args, saved_with=None):
    """A new model from --seed, trained: (model, records).

    saved_with: the words and labels that a saved file keeps beside the weights
    (`new_model`).  Without them this is a side experiment, which leaves no file.
    """
    utils.set_seed(args.seed)
    model = NETWORKS[args.task](**config).to(args.device)
    model.reader.knows_lengths = not args.no_packing
    if args.task == "classify" and model.pairs:
        # Apple's GPUs know no sparse gradients (see the aside).
        model.pairs.embed.sparse = torch.device(args.device).type != "mps"
    # Without a config, utils.fit prints nothing and leaves no file.
    kept = config if saved_with else None
    # The best epoch is the one with the most right answers on validation, not the one of
    # lowest loss: on EWT that is epoch 5 (loss 0.1889, accuracy 0.9463), but in epoch 7 more
    # tags are right (0.1891, 0.9490).
    # fit hands the model back in eval mode: no dropout, and no words hidden.
    parts = (data.train, data.val)
    records = utils.fit(
        model, measure, *parts, args, kept, saved_with, monitor="val_accuracy"
    )
    return model, records


# --- what is measured -----------------------------------------------------------------
#
# accuracy and macro_f1 are those of lesson 04: the share of right answers, and the mean
# of F1 over all classes.  For tags, every real word is an answer, and accuracy is also
# taken on two kinds of words apart: ambiguous words, which have several tags in
# training, and unseen ones, new words, which training does not have.


def tag_scores(model, batches, args):
    """The scores at the real words of each sentence, in order: a list of (words, C)."""
    found = [None] * batches.n
    with torch.no_grad(), utils.autocast(args):  # autocast: for --precision bf16
        for batch in batches:  # its sentences may come in any order
            scores = model(batch).cpu()  # (B, T, C)
            for row, sentence in enumerate(batch["index"].tolist()):
                length = int(batch["text_length"][row])
                found[sentence] = scores[row, :length]  # padding left out
    return found


def answer_all(model, data, part, args):
    """The model's scores for all M answers of a part: (M, C)."""
    batches = data.val if part == VAL else data.test
    if args.task == "tag":
        return torch.cat(tag_scores(model, batches, args))
    return utils.collect(model, lambda model, batch: model(batch), batches, args)


def truth_of(data, part, args):
    """The right classes of a part, in the order of `answer_all`: (M,)."""
    place = {label: number for number, label in enumerate(data.labels)}
    said = []
    for row in data.parts[part]:
        if args.task == "tag":
            said.extend(tags_of(row))
        else:
            said.append(row[1])
    return torch.tensor([place[label] for label in said])


def kinds_of_words(data, part):
    """Which words of a part are ambiguous, and which are unseen: (M,) each, bool."""
    counts = count_tags(data.parts[TRAIN])
    ambiguous = []
    unseen = []
    for sentence in data.parts[part]:
        for word, _ in sentence:
            tags = counts.get(word.lower(), {})
            ambiguous.append(len(tags) > 1)
            unseen.append(len(tags) == 0)
    return torch.tensor(ambiguous), torch.tensor(unseen)


def score(scores, data, part, args):
    """name -> figure, for the scores (M, C) of a part."""
    truth = truth_of(data, part, args)
    found = utils.classification_scores(scores, truth)
    found.pop("top3_accuracy", None)  # of no use here: there are few classes
    if args.task == "tag":
        right = (scores.argmax(1) == truth).double()  # (M,)
        kinds = zip(("ambiguous", "unseen"), kinds_of_words(data, part), strict=True)
        for name, of_kind in kinds:
            if of_kind.any():
                found[f"{name}_accuracy"] = right[of_kind].mean().item()
    return found


def compare_right(ours, our_right, theirs, their_right):
    """Print McNemar's test (lesson 04) of two models on the same items; winner or None.

    our_right, their_right (M,): bool.  The test takes items for independent, which words
    of one sentence are not quite; and another seed would give two other networks.
    """
    # Where both are right, or both wrong, nothing is learned of who is better.
    only_ours, only_theirs, p = utils.mcnemar(our_right, their_right)
    print(f"Right where the other is wrong: {ours} {only_ours:,} times,", end=" ")
    print(f"{theirs} {only_theirs:,} times.")
    # When p is as small as that, its digits tell nothing more.
    shown = "below 1e-12" if p < 1e-12 else f"= {p:.2g}"
    if p >= 0.05:  # then the larger count has not won
        print(f"McNemar's test: p {shown}, chance may well do that: no winner.")
        return None
    winner = ours if only_ours > only_theirs else theirs
    if p > 0.01:
        print(f"McNemar's test: p {shown}, a hint that {winner} is better, no more.")
        return None
    print(f"McNemar's test: p {shown}, more than chance: {winner} wins.")
    return winner


# ====================================================================================
# The small trial
# ====================================================================================
#
# What is the future worth?  First a trial that takes seconds, with sections 3 and 4 once
# through.  samples/tagged.conllu has 2,700 made-up sentences, in pairs which begin alike
# and go on differently, as the opening sentences do:
#
#     Then glue is new .                       glue is a NOUN: the next word decides
#     Then glue the train .                    a VERB
#     They talked after the storm again .      after is an ADP (adposition)
#     They talked after the storm stopped .    an SCONJ (it begins a clause): a later word
#
# Two small taggers learn from them.  One has two directions.  The other reads forwards
# only, but has a larger state, so that both have as many weights: else the second
# direction might win only by being larger.  No letters: no word of the test part is new.
SMALL_TRIAL = """--task tag --epochs 4 --batch-size 64 --lr 0.02 --hidden-size 32
    --dropout 0.2 --char-features none"""

# A score alone says little, so there are rivals.  The first asks for no neighbour: give
# each word the tag that it has most often in training.  Ties, and new words, go to the
# tag that is commoner over all.


def most_frequent_tag(data, part):
    """The baseline's scores (M, C): how often training gives each word each tag."""
    counts = count_tags(data.parts[TRAIN])
    overall = Counter()
    for tags in counts.values():
        overall.update(tags)
    # Less than one count on top for the commoner tag: it only settles ties.
    extra = {tag: overall[tag] / (2 * overall.total()) for tag in data.labels}
    rows = []
    for sentence in data.parts[part]:
        for word, _ in sentence:
            tags = counts.get(word.lower(), Counter())
            rows.append([tags[tag] + extra[tag] for tag in data.labels])
    return torch.tensor(rows)


# The second is the one that a sceptic would pick.  Does one need a recurrent network to
# see the future, or is the next word enough?  A linear model is told the word, its last
# three letters, whether it begins with a capital, the word before, and the word after.
# The same without the word after shows what one word of the future is worth.


def clues_about(sentences, after):
    """What the linear model is told about each word: a list of clues for every word."""
    found = []
    for sentence in sentences:
        words = [word.lower() for word in words_of(sentence)]
        around = ["<start>", *words, "<end>"]
        for place, word in enumerate(words):
            clues = [f"word {word}", f"ending {word[-3:]}", f"before {around[place]}"]
            written = sentence[place][0]
            if written[0].isupper():
                clues.append("capital")
            if after:  # `around` has one more in front: its place + 2 is the word after
                clues.append(f"after {around[place + 2]}")
            found.append(clues)
    return found


def linear_tagger(data, part, args, after):
    """Scores (M, C) of logistic regression on the neighbours of each word."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import SGDClassifier

    # A column for each different clue (list: take them as they are), 1 or 0.
    columns = CountVectorizer(analyzer=list)
    known = columns.fit_transform(clues_about(data.parts[TRAIN], after))
    asked = columns.transform(clues_about(data.parts[part], after))
    # Gradient descent, ten times through the words, with hardly any weight decay.
    model = SGDClassifier(
        loss="log_loss", alpha=1e-6, max_iter=10, tol=None, random_state=0
    )
    model.fit(known, truth_of(data, TRAIN, args).numpy())
    scores = torch.zeros(asked.shape[0], len(data.labels), dtype=torch.double)
    # A tag that training does not have keeps 0.
    scores[:, model.classes_] = torch.from_numpy(model.predict_proba(asked)).double()
    return scores


# And a bound: what is the most that any reader from left to right can reach, however
# large?  Where two sentences begin alike, it has the same state, and must give the same
# tag: at best the commonest one after that beginning.  So count for every beginning:
#
#     They            PRON 282 times                   at best 282 of 282 are right
#     They can        VERB 37 times, AUX 37 times      at best  37 of  74
#
# All 2,700 sentences are counted, since in test alone 1,004 of the 1,192 beginnings come
# only once, and there one tag is always right.  (As real sentences mostly do.)


def left_to_right_ceiling(sentences):
    """The best accuracy that a reader who sees no later word can reach."""
    tags_after = defaultdict(Counter)  # beginning -> tags of its last word
    words = 0
    for sentence in sentences:
        beginning = ()
        for word, tag in sentence:
            beginning += (word,)
            tags_after[beginning][tag] += 1
            words += 1
    best = sum(max(counts.values()) for counts in tags_after.values())
    return best / words


def train_small_taggers(data, config, args):
    """Two taggers with as many weights: name -> model, and name -> hidden, weights."""
    # Hidden sizes are tried until the weights agree best.  An LSTM has 4 H (E + H + 2) a
    # direction: 2 * 4 * 32 * (100 + 32 + 2) = 34,304; 4 * 55 * (100 + 55 + 2) = 34,540.
    cells = [f"lstm, {BOTH}", f"lstm, {FORWARDS}"]
    shapes = utils.cells_of_equal_size(Tagger, config, cells)
    models = {}
    sizes = {}
    for name, shape in zip((BOTH, FORWARDS), shapes.values(), strict=True):
        models[name], _ = train_model(shape, data, args)
        weights = utils.count_parameters(models[name])
        sizes[name] = {"hidden": shape["hidden"], "weights": weights}
    return models, sizes


def print_trial(answers, sizes, data, args):
    """The table of the trial, and how to read it: its accuracies, name -> number.

    answers: name -> scores (M, C) on test.
    """
    rows = {}
    for name, scores in answers.items():
        found = score(scores, data, TEST, args)
        kept = {key: found[key] for key in ("accuracy", "ambiguous_accuracy")}
        rows[name] = kept | sizes.get(name, {})
    sentences = [*data.parts[TRAIN], *data.parts[VAL], *data.parts[TEST]]
    rows["ceiling, all sentences"] = {"accuracy": left_to_right_ceiling(sentences)}
    truth = truth_of(data, TEST, args)  # (M,)
    title = f"The small trial: {len(sentences):,} made-up sentences"
    utils.print_table(f"{title}, {len(truth):,} words to test", rows)
    ambiguous, unseen = kinds_of_words(data, TEST)  # (M,) each
    riddles = int(ambiguous.sum())
    guessed = 1 - 0.5 * riddles / len(truth)
    counted = rows["most_frequent_tag"]["ambiguous_accuracy"]
    read = rows[FORWARDS]["ambiguous_accuracy"]
    utils.say(
        f"""{riddles:,} of the words have several tags.  Who knows all others, and guesses
        half of these, has 1 - 0.5 * {riddles:,} / {len(truth):,} = {guessed:.4f}.  (The
        ceiling is higher: a beginning that comes only once counts as right.)
        most_frequent_tag has {counted:.4f} of them, forwards only {read:.4f}: it may be
        below one half, since the twin of a sentence in test is mostly in training, and
        speaks there for the wrong tag.  The linear model sees one word of the future:
        that is much, and not always enough.  {int(unseen.sum())} of the words are new."""
    )
    right = {name: scores.argmax(1) == truth for name, scores in answers.items()}
    compare_right(BOTH, right[BOTH], FORWARDS, right[FORWARDS])
    print("Here what stands before such a word tells nothing.  Real text is kinder.")
    return {name: row["accuracy"] for name, row in rows.items()}


def run_small_trial(args):
    """The two small taggers and their rivals: their accuracies, name -> number."""
    small, data, config = small_trial_data(args)  # section 5
    models, sizes = train_small_taggers(data, config, small)
    answers = {name: answer_all(models[name], data, TEST, small) for name in models}
    answers["linear_before_after"] = linear_tagger(data, TEST, small, after=True)
    answers["most_frequent_tag"] = most_frequent_tag(data, TEST)
    reached = print_trial(answers, sizes, data, small)
    show_opening(models, data, small)
    return reached


def marked(answers, truth):
    """Each answer with a tick or a cross before it."""
    pairs = zip(answers, truth, strict=True)
    return [f"✔ {said}" if said == tag else f"✘ {said}" for said, tag in pairs]


@torch.no_grad()
def show_opening(models, data, args):
    """Print how the models (name -> model) tag the two sentences of the opening."""
    if not {"DET", "NOUN", "VERB", "AUX", "ADJ"}.issubset(data.labels):
        return  # data with tags of their own
    print("\nThe two sentences of the opening, tagged:")
    chances_of = {name: [] for name in models}  # of watches being a verb or a noun
    for sentence in OPENING:
        words = words_of(sentence)
        truth = tags_of(sentence)
        rows = {"": [f"  {word}" for word in words]}
        rows["truth"] = [f"  {tag}" for tag in truth]
        for name, model in models.items():
            scores = model(batch_of(words, data, args))[0]  # (5, C)
            chances = scores.softmax(1)
            answers = [data.labels[number] for number in chances.argmax(1).tolist()]
            rows[name] = marked(answers, truth)
            verb = chances[RIDDLE, data.labels.index("VERB")]
            noun = chances[RIDDLE, data.labels.index("NOUN")]
            chances_of[name].append(f"VERB {verb:.0%} NOUN {noun:.0%}")
        print_columns(rows)
    print("How likely is each for watches, in the first sentence, and in the second?")
    print_columns(chances_of)
    uses = count_tags(data.parts[TRAIN])["watches"]
    told = f"{uses['VERB']} times VERB, {uses['NOUN']} times NOUN"
    print(f"In training watches is {told}.")
    for name, (first, second) in chances_of.items():
        if FORWARDS in name and first == second:
            print(f"{name}: twice the same, since up to watches it has read the same.")
            print("That is the point; which of the two tags it leans to says little.")
    lines = [words_of(sentence) for sentence in data.parts[TRAIN]]
    seen = sum(words_of(sentence) in lines for sentence in OPENING)
    print(f"(Of these two sentences {seen} stand in training.)")


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# Which rivals?  For tags those of the small trial, and linear_before, which is not told
# the next word.  For reviews linear models of lesson 05, which count words
# (tfidf_unigram), words and pairs (tfidf_bigram), or words, pairs and triples, each
# weighted by how much more often it stands in one kind of review (ratio_trigram).


def tag_rivals(data, part, args):
    """The rivals' scores on a part, for tags: name -> (M, C)."""
    usual = most_frequent_tag(data, part)
    if len(truth_of(data, TRAIN, args).unique()) == 1:  # nothing to tell apart
        names = ("most_frequent_tag", "linear_before", "linear_before_after")
        return dict.fromkeys(names, usual)
    return {
        "most_frequent_tag": usual,
        "linear_before": linear_tagger(data, part, args, after=False),
        "linear_before_after": linear_tagger(data, part, args, after=True),
    }


def review_rivals(data, parts):
    """The rivals' probabilities, for reviews: for each part a dict name -> (M, C)."""
    asked = []
    for part in parts:
        asked.extend(data.parts[part])
    # Fitted once for all parts, since it takes a while.
    found = utils.review_baselines(data.parts[TRAIN], asked, data.labels)
    sizes = [len(data.parts[part]) for part in parts]
    cut = {name: scores.split(sizes) for name, scores in found.items()}
    return [{name: cut[name][k] for name in cut} for k in range(len(parts))]


# --- answers beside the truth ---------------------------------------------------------


def tags_said(scores, data):
    """The tags that scores (M, C) mean for the test part: a list for each sentence."""
    said = iter([data.labels[number] for number in scores.argmax(1).tolist()])
    return [[next(said) for _ in sentence] for sentence in data.parts[TEST]]


def show_sentences(scores, data):
    """Print short test sentences, tagged: two that are all right, three with a mistake."""
    known = count_tags(data.parts[TRAIN])
    right = []
    wrong = []
    for sentence, said in zip(data.parts[TEST], tags_said(scores, data), strict=True):
        if not 4 <= len(sentence) <= 6:  # short ones, which fit into a line
            continue
        words = []
        for word, _ in sentence:
            words.append(f"  {word}" if word.lower() in known else f"  {word}*")
        truth = tags_of(sentence)
        rows = {"": words, "truth": [f"  {tag}" for tag in truth]}
        rows["answer"] = marked(said, truth)
        kind = right if said == truth else wrong
        kind.append(rows)
    print(f"\n{data.source.label}: test sentences (* training does not have this word)")
    for rows in [*right[:2], *wrong[:3]]:
        print_columns(rows)
    print(f"Of the sentences of 4 to 6 words {len(right):,} are all right,", end=" ")
    print(f"{len(wrong):,} have a mistake.")


def print_scores(ours, answers, data, args):
    """The table on test and a test against the best rival: name -> figures.

    ours: the network's name.  answers: name -> scores (M, C), of the network and rivals.
    """
    rows = {name: score(said, data, TEST, args) for name, said in answers.items()}
    rivals = {name: rows[name]["accuracy"] for name in rows if name != ours}
    best_rival = max(rivals, key=rivals.get)
    made_up = data.source.name == "sample"
    if args.task == "tag" and made_up:
        sentences = [*data.parts[TRAIN], *data.parts[VAL], *data.parts[TEST]]
        rows["ceiling, all sentences"] = {"accuracy": left_to_right_ceiling(sentences)}
    unit = "words" if args.task == "tag" else "reviews"
    truth = truth_of(data, TEST, args)  # (M,)
    utils.print_table(f"{data.source.label}: test, {len(truth):,} {unit}", rows)
    our_right = answers[ours].argmax(1) == truth
    compare_right(ours, our_right, best_rival, answers[best_rival].argmax(1) == truth)
    if made_up:
        print("These texts are made up; how it is with real ones is told below.")
    return rows


def report(model, config, records, data, args, trial):
    """Table on test beside its rivals, answer in words, metrics.json; scores (M, C)."""
    ours = config["cell"]
    scores = answer_all(model, data, TEST, args)  # (M, C)
    checked = answer_all(model, data, VAL, args)
    if args.task == "tag":
        show_sentences(scores, data)
        if data.source.name != "sample":  # there the small trial has shown it
            show_opening({ours: model}, data, args)
        rivals = tag_rivals(data, TEST, args)
    else:
        checked_rivals, rivals = review_rivals(data, [VAL, TEST])
    answers = {ours: scores} | rivals  # name -> (M, C)
    rows = print_scores(ours, answers, data, args)
    metrics = {f"test_{name}": value for name, value in rows[ours].items()}
    if args.task == "tag":
        metrics |= report_names(ours, answers, data)  # only where tags are of names
        ambiguous, unseen = kinds_of_words(data, TEST)
        metrics["test_ambiguous_words"] = int(ambiguous.sum())
        metrics["test_unseen_words"] = int(unseen.sum())
        print(f"{ambiguous.sum():,} of them have several tags in training,", end=" ")
        print(f"{unseen.sum():,} do not occur in it.")
        show_what_helps(model, config, data, args)
    explain(args.task, trial)
    if args.task == "classify":
        metrics |= report_together(ours, answers, checked, checked_rivals, data, args)
    metrics["val_accuracy"] = score(checked, data, VAL, args)["accuracy"]
    metrics["trial_both_accuracy"] = trial[BOTH]
    metrics["trial_forwards_accuracy"] = trial[FORWARDS]
    reached = {name: row["accuracy"] for name, row in rows.items() if name != ours}
    if "ceiling, all sentences" in reached:
        reached["left_to_right_ceiling"] = reached.pop("ceiling, all sentences")
    words = int(data.train.lengths["text_length"].sum())
    counts = (utils.count_parameters(model), records, words, "tokens")
    utils.write_metrics(args, data.source, metrics, reached, *counts)
    return scores


# The title once more, put to this very network: what is the rest of the sentence worth to
# it?  It is asked about each word of the test part with the sentence cut off after the
# word, so that b_t has read word t alone; and with all cut off before the word.  Recorded
# on all of EWT's test words, seed 0: whole 0.9532, without what follows 0.9174, without
# what precedes 0.9259, without neighbours 0.8671 (most_frequent_tag: 0.8615), without
# letters 0.9087.  So what follows is worth a little more to these weights than what
# precedes.  (The run asks some 400 sentences: it may differ by some thousandths.)


def show_what_helps(model, config, data, args):
    """Print how well the same weights tag when they are shown less."""
    whole = data.parts[TEST]
    whole = whole[:: max(1, len(whole) // 400)]  # some 400 are enough, and soon done
    data = data._replace(parts=[data.parts[TRAIN], data.parts[VAL], whole])
    places = [(line, t) for line in whole for t in range(len(line))]

    def ask(sentences, letters=True):
        """For each sentence the scores at its words, (words, C)."""
        batches = Sentences(sentences, data.vocabulary, data.labels, args, train=False)
        if not letters:
            batches.letter_table[:] = batches.letter_table[0]  # the two marks alone
        return tag_scores(model, batches, args)

    until = ask([line[: t + 1] for line, t in places])  # of each the last word counts
    since = ask([line[t:] for line, t in places])  # of each the first
    taken = {"all that there is": torch.cat(ask(whole))}
    taken["without what follows"] = torch.stack([said[-1] for said in until])
    taken["without what precedes"] = torch.stack([said[0] for said in since])
    taken["without neighbours"] = torch.cat(ask([[line[t]] for line, t in places]))
    if config["letters"]:
        taken["without letters"] = torch.cat(ask(whole, letters=False))
    rows = {name: score(scores, data, TEST, args) for name, scores in taken.items()}
    title = f"What tells?  The same weights, asked on {len(whole):,} test sentences"
    utils.print_table(title, rows, corner="shown")
    print("Weights trained without a part would miss it less than these do.")
    if data.source.name == "sample":
        riddles = int(kinds_of_words(data, TEST)[0].sum())
        share = rows["without what follows"].get("ambiguous_accuracy", 0)
        utils.say(
            f"""Without what follows it is a reader from left to right, too.  Of the
            {riddles} words with several tags it has {share * riddles:.0f} right; guessing
            gives {riddles / 2:.0f}, give or take {riddles**0.5:.0f} (two standard
            deviations).  The ceiling is over all 2,700 sentences: on test alone luck may
            pass it."""
        )


# Recorded on test, seed 0, one layer; forwards only with --hidden-size 207 for tags, 156
# for reviews, so that it has as many weights (2.03 and 7.66 million).
#
#     EWT, 25,094 words         accuracy    ambiguous    unseen (7.5% of all)
#     lstm, both directions     0.9532      0.9611       0.7949
#     linear_before_after       0.9353      0.9428       0.7455
#     both, without letters     0.9339      0.9543       0.6079
#     lstm, forwards only       0.9318      0.9272       0.7885
#     linear_before             0.9154      0.9120       0.7226
#     most_frequent_tag         0.8615      0.8754       0.2859
#
# Why are ambiguous words above the average?  They are not new, and one odd use makes a
# word one of them: of EWT's 15,241, 10,234 have one tag in nine uses of ten or more.  The
# other 5,007 are the hard ones.
#
# The costs: processor time of 36 training steps on EWT, the networks by turns.
TAG_MISTAKES = """
EWT, test: mistakes of 25,094 words, with as many weights, seed 0
  kind of word in training         words   forwards only    both   McNemar's p
  several tags                    15,241           1,109     593   below 1e-12
    no tag in 9 uses of 10         5,007             869     448   below 1e-12
  new                              1,882             398     386          0.47
  one tag only                     7,971             205     195          0.33
  all                             25,094           1,712   1,174   below 1e-12
Which mistakes go?  Truth, what was said instead, how often forwards only and both:
  SCONJ for ADP   98 -> 31     AUX for VERB    68 ->   8     VERB for AUX    70 ->  14
  PRON for DET    51 ->  8     PROPN for NOUN 185 -> 176     NOUN for PROPN 178 -> 163
Five of the 870 words where only both are right (332 times it is the other way round)
  what has been read                    what follows        forwards only   both, truth
  Santa Claus has                       the right idea .    AUX             VERB
  she said that                         was ok .            SCONJ           PRON
  Sounds simple enough to               me .                PART            ADP
  did anyone have this                  issue ?             PRON            DET
  Finally , a boy in the back raises    his hand .          NOUN            VERB"""
RECORDED = {
    "tag": [
        """So the gain is where the title looks for it: at words with several tags, most
        of all where no tag is usual, 0.9105 right against 0.8264.  It hardly tells names
        (PROPN) from nouns, and at new words and words of one tag it may be chance.  Words
        of one sentence depend on each other, so count sentences, too: 525 have more right
        words in both directions, 153 forwards only, p below 1e-12.  With seeds 1 and 2 it
        was 0.9524 and 0.9522 in both directions, 0.9305 and 0.9316 forwards only.""",
        """Does it take a recurrent network?  In both directions it has 0.9532, 1.8 points
        more than a linear model that sees one word ahead, 0.9353.  That word alone lifted
        the linear model by 2.0 points, from 0.9154; all that follows lifts the network by
        2.1.  And 0.9353 beats the network forwards only (its seeds 0, 1, 2: p = 0.025,
        0.0021, 0.018).""",
        """And the cost?  A step of training takes 1.2 to 1.3 times as long as forwards
        only with the same hidden size, 128.  Why not twice?  Only the recurrent steps
        double: they are 30% of a step's time (18% forwards only), words and letters 45%,
        and the update of all weights 20%.  There are 4 * 128 * (200 + 128 + 2) +
        128 * 17 = 171,136 weights more.  With as many weights in both, a step takes about 1.1 times as long.""",
    ],
    "classify": [
        """For one answer a text it tells little: whoever reads from left to right has
        read all of it, too, before the answer is due.  The second direction only lets
        each word be seen in the light of what follows.  As recorded with as many weights
        (IMDB, test, seeds 0, 1, 2): 0.9098, 0.9117 and 0.9122 in both directions, 0.9052,
        0.9009 and 0.9030 forwards only.  So it is worth 0.8 of a point, the mean of three
        (0.5, 1.1, 0.9).  ratio_trigram, which counts, has 0.9173, tfidf_bigram 0.9096.
        Training took 437 s in both directions, 359 s forwards only, side by side: 1.2
        times as long."""
    ],
}


def explain(task, trial):
    """Print the answer to the title, in words."""
    print("\nWhat does the future of a sentence tell?")
    # First what this run has shown itself; then what takes longer, from recorded runs.
    utils.say(
        f"""Where only a later word decides, it tells what no look to the left can.  In
        the small trial, made for that, both directions had {trial[BOTH]:.1%} of the words
        right, forwards only, with as many weights, {trial[FORWARDS]:.1%}.  The title's
        answer is that of real sentences (EWT, a tag for each word; recorded).  There many
        words are settled by themselves and by the words before them.  Still almost a
        third of the mistakes went: 0.9532 right in both directions, 0.9318 forwards
        only."""
    )
    if task == "tag":
        print(TAG_MISTAKES)
    for paragraph in RECORDED[task]:
        utils.say(paragraph)
    # The rule to take home, that of section 2.
    utils.say(
        """When may one read from both ends?  What is there in full before the answer is
        due may be read so, also a finished window of weeks before one forecast.  What is
        still to be answered may not be read: a forecast at each day of a series, a live
        stream, a text being written.  And where one may, does it pay?  If every word gets
        an answer: yes, take both.  For one answer a text, or a window: try it, and expect
        little."""
    )


# The tries at the head.  --compare direction trains the two networks of RECORDED, but
# prints their validation: for tags (--task tag) 0.9490 in both directions and 0.9248
# forwards only, for reviews 0.9188 and 0.9092 (seed 0).  On the sample, forwards only
# tags 0.9050 of the words rightly (the smaller network of the small trial 0.9027; the
# ceiling is 0.9077), both directions all of them.  With --quick on EWT (480 sentences, two
# epochs) the network has 0.5420, without letters 0.3541, linear_before_after 0.8653: after
# 30 updates it has hardly begun, which says little about small data.
#
# What came of it?  ELMo (Peters and others, 2018) trained two readers on a great deal of
# text and lent their states to other tasks.  BERT (Devlin and others, 2019) has no
# readers any more: each word looks at all others, by the attention of lesson 09.


def draw(scores, config, records, data, args):
    """Pictures: training, and for tags what the test scores (M, C) mistake for what."""
    about = f"{data.source.label}, {config['cell']}"
    panels = {"loss": ["loss", "val_loss"], "accuracy": ["accuracy", "val_accuracy"]}
    utils.plot_records(args, "training", f"Training, {about}", {about: records}, panels)
    if args.task == "classify":
        return
    from sklearn.metrics import confusion_matrix

    truth = truth_of(data, TEST, args)
    tags = range(len(data.labels))
    share = confusion_matrix(truth, scores.argmax(1), labels=tags, normalize="true")
    share[tags, tags] = 0  # right answers are left out, so that mistakes can be seen
    axes = {"xlabel": "answer", "ylabel": "truth", "bar": "share of the row"}
    title = f"Mistakes on test, {about}"
    utils.plot_matrix(args, "confusion", title, share, data.labels, data.labels, **axes)


# --- an outlook, may be skipped: two judges made into one (--task classify alone) -----
#
# ratio_trigram, which does not know where its words stand, beats the network on real
# reviews.  If the network knows other things, the two together should beat both.
#
# Each judge gives every class a probability p.  Of their two log p we take the mean, in
# which the network counts w and the bag (of words) 1 - w, and make the probabilities sum
# to 1 again.  Who is sure outvotes who is not.  With w = 0.5, and 0.1 and 0.9 from one
# judge, 0.6 and 0.4 from the other: the roots of 0.1 * 0.6 and 0.9 * 0.4 are 0.245 and
# 0.600; divided by their sum, 0.290 and 0.710.
#
# Two opinions are mostly better than one, so there is a control: two bags made into one.
# Recorded (IMDB, test, seeds 0, 1, 2): together 0.9220, 0.9230, 0.9242, two bags 0.9197,
# p = 0.032 (a hint), 0.0042 and 0.00012.  With the network that reads forwards only it is
# 0.9210, 0.9189 and 0.9193: so of this the second direction is 0.003 on average.
BAG = "ratio_trigram"


def log_chances(probabilities):
    """Log p (M, C); where p is 0, a billionth, so that no judge has a veto."""
    return probabilities.double().clamp(min=1e-9).log().log_softmax(1)


def weigh(first, second, w):
    """Two judges' log p (M, C), the first counting w, the other 1 - w -> one (M, C)."""
    mean = w * first + (1 - w) * second
    return mean.log_softmax(1)  # the probabilities sum to 1


def choose_weight(first, second, truth):
    """The w of lowest mean loss for two judges' log p (M, C); the losses at 0, 0.1 ... 1."""
    losses = []
    for tenth in range(11):
        both = weigh(first, second, tenth / 10)
        losses.append(F.nll_loss(both, truth).item())
    return losses.index(min(losses)) / 10, losses


def report_together(ours, answers, checked, checked_rivals, data, args):
    """Network and bag as one: w chosen on validation, then asked on test; metrics.

    answers: name -> scores on test, (M, C); checked, checked_rivals: on validation.
    """
    network = checked.double().log_softmax(1)  # (M, C), on validation
    bag = log_chances(checked_rivals[BAG])
    other_bag = log_chances(checked_rivals["tfidf_bigram"])
    truth = truth_of(data, VAL, args)
    w, losses = choose_weight(network, bag, truth)
    w_bags, _ = choose_weight(other_bag, bag, truth)
    network = answers[ours].double().log_softmax(1)  # from here on test
    bag = log_chances(answers[BAG])
    other_bag = log_chances(answers["tfidf_bigram"])
    truth = truth_of(data, TEST, args)
    judges = {ours: network, BAG: bag, "two bags": weigh(other_bag, bag, w_bags)}
    judges["together"] = weigh(network, bag, w)
    right = {name: judge.argmax(1) == truth for name, judge in judges.items()}
    rows = {}
    for name, judge in judges.items():
        accuracy = right[name].double().mean().item()
        rows[name] = {"accuracy": accuracy, "loss": F.nll_loss(judge, truth).item()}
        if name != "together":
            _, _, p = utils.mcnemar(right["together"], right[name])
            rows[name]["p"] = f"{p:.2g}"  # of McNemar's test against "together"
    title = f"An outlook: the network, with weight {w}, and {BAG} as one judge"
    utils.print_table(f"{title}, on test", rows)
    print(f"(two bags: {BAG} and tfidf_bigram.  p: McNemar's test against together)")
    return {
        "weight_of_network": w,
        "val_loss_together": min(losses),
        "val_loss": losses[10],  # at w = 1, the network alone
        "test_accuracy_together": rows["together"]["accuracy"],
        "test_accuracy_two_bags": rows["two bags"]["accuracy"],
    }


# ====================================================================================
# 5. Command line
# ====================================================================================
#
# The lesson itself is over; from here on it is machinery.


def print_columns(rows):
    """rows: name -> list of texts.  One line a row, the texts below each other."""
    margin = max(len(name) for name in rows)
    widths = []
    for column in zip(*rows.values(), strict=True):
        widths.append(max(len(text) for text in column))
    for name, texts in rows.items():
        pairs = zip(texts, widths, strict=True)
        cells = "  ".join(f"{text:<{width}}" for text, width in pairs)
        print(f"  {name:<{margin}}  {cells}".rstrip())


# --- from texts to batches ------------------------------------------------------------

MAX_VOCAB = 15_000  # words of reviews that are known; rarer ones are <unk>


class Sentences(utils.Batches):
    """Batches of tagged sentences that also hold the letters of each word.

    Each different word is kept once, as a row of `letter_table`.  A sentence holds the
    numbers of its rows, "spelling" (B, T), and `take` fetches them.
    """

    def __init__(self, sentences, vocabulary, labels, args, train):
        different = set()
        for sentence in sentences:
            different.update(words_of(sentence))
        spellings = ["", *sorted(different)]  # row 0, for padding: marks, no letter
        row_of = {word: row for row, word in enumerate(spellings)}
        text = []
        spelling = []
        label = []
        for sentence in sentences:
            text.append([vocabulary[word.lower()] for word, _ in sentence])
            spelling.append([row_of[word] for word, _ in sentence])
            label.append([labels.index(tag) for _, tag in sentence])
        tensors = {}
        tensors["text"], tensors["text_length"] = utils.pad(text)
        tensors["spelling"], tensors["spelling_length"] = utils.pad(spelling)
        tensors["label"], tensors["label_length"] = utils.pad(label, NO_TAG)
        # Texts of like length stand together, to save padding; on validation and test
        # not under --no-packing, where padding is to be seen.
        bucket = None if args.no_packing and not train else "text"
        super().__init__(tensors, args.batch_size, args.device, train, bucket)
        table, _ = utils.pad([spell(word) for word in spellings])
        self.letter_table = table.to(args.device)  # (spellings, W)

    def take(self, index):
        """The batch of these rows, with "letters" (B, T, W): 0 after each word."""
        batch = super().take(index)
        letters = self.letter_table[batch["spelling"]]  # (B, T, W)
        longest = int((letters > 0).sum(2).max())
        batch["letters"] = letters[:, :, :longest]
        return batch


class Texts(NamedTuple):
    """All that this lesson knows of its data."""

    source: utils.Source  # which data set, and whether it is real
    parts: list  # training, validation, test: lists of (text, label), or of sentences
    vocabulary: utils.Vocabulary  # words of training; frequent ones first
    first_rare: int  # words from this id on stand in training only once
    labels: list  # the classes of texts, or the tags of words, sorted
    train: utils.Batches
    val: utils.Batches
    test: utils.Batches


def load_sentences(args, source):
    """Tagged sentences, as Texts."""
    parts = load_tagged(args, source)
    lines = []
    for sentence in parts[0]:
        lines.append([word.lower() for word, _ in sentence])
    vocabulary = utils.Vocabulary.build(lines)
    # Frequent words come first.  So the words that occur twice or more have the smaller
    # ids, and the first id behind them is that of a word that occurs only once.
    first_rare = len(utils.Vocabulary.build(lines, min_freq=2))
    # Tags of all parts: each needs a number, also one that training does not have.
    labels = set()
    for part in parts:
        for sentence in part:
            labels.update(tags_of(sentence))
    labels = sorted(labels)
    batches = []
    for number, part in enumerate(parts):
        train = number == TRAIN
        batches.append(Sentences(part, vocabulary, labels, args, train))
    return Texts(source, parts, vocabulary, first_rare, labels, *batches)


def small_trial_data(args):
    """The flags, the sentences and the config of the small trial."""
    # Fixed flags, so that the trial is the same whatever flags the run has.
    small = make_flags().parse_args(SMALL_TRIAL.split())
    for name in ("seed", "device", "out_dir", "lesson"):
        setattr(small, name, getattr(args, name))
    source = utils.Source("sample", utils.SAMPLES / "tagged.conllu", real=False)
    data = load_sentences(small, source)
    config, _ = new_model(data, small)
    return small, data, config


def load_reviews(args, source):
    """Reviews with a label each, cut into words as in lesson 05, as Texts."""
    reviews = utils.load_reviews(args, source)
    vocabulary = utils.review_vocabulary(reviews, MAX_VOCAB)
    parts = []
    batches = []
    for number, part in enumerate(reviews.parts):
        parts.append(list(zip(part.texts, part.labels, strict=True)))
        tensors = utils.encode_reviews(part, len(vocabulary), MAX_LENGTH)
        classes = [reviews.labels.index(label) for label in part.labels]
        tensors["label"] = torch.tensor(classes)  # (texts,)
        train = number == TRAIN
        bucket = None if args.no_packing and not train else "text"  # as above
        made = utils.Batches(tensors, args.batch_size, args.device, train, bucket)
        batches.append(made)
    # No id is rare: with so many texts, rare words are <unk> already.
    rare = len(vocabulary)
    return Texts(source, parts, vocabulary, rare, reviews.labels, *batches)


# --- flags ----------------------------------------------------------------------------

REAL = {"classify": "imdb", "tag": "ewt"}
SAMPLE = {"classify": "reviews.csv", "tag": "tagged.conllu"}
# What a flag is if the reader does not give it.
DEFAULTS = {
    "classify": {"epochs": 3, "batch_size": 64, "hidden_size": 100, "dropout": 0.5},
    "tag": {"epochs": 9, "batch_size": 32, "hidden_size": 128, "dropout": 0.4},
}


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    own = "CSV with text,label; for --task tag CoNLL-U, or lines of a word and its tag"
    utils.add_data_flags(parser, [*REAL.values(), "sample"], own, ("text", "label"))
    utils.add_training_flags(  # None: by task, from DEFAULTS
        parser, epochs=None, batch_size=None, hidden_size=None, lr=0.005, dropout=None
    )
    add = parser.add_argument_group("this lesson").add_argument
    tasks = "one answer a review (default), or a tag for each word"
    add("--task", choices=list(DEFAULTS), default="classify", help=tasks)
    add("--cell", choices=list(CELLS), default="lstm", help="default lstm")
    add("--unidirectional", action="store_true", help="read forwards only")
    through = "do not tell where texts end: the reader goes through the padding"
    add("--no-packing", action="store_true", help=through)
    letters = "filters over the letters of words to tag (default), or words alone"
    add("--char-features", choices=["cnn", "none"], default="cnn", help=letters)
    add("--compare", choices=["direction"], help="two models of one size, one table")
    add("--predict", nargs="+", metavar="TEXT", default=[], help="texts to ask about")
    return parser


def choose_source(args):
    """The data set of the task, as a Source."""
    real = REAL[args.task]
    if args.dataset not in ("auto", "sample", real):
        raise utils.UserError(
            f"--task {args.task} reads --dataset {real} or sample, not {args.dataset}"
        )
    offline = {"sample": utils.SAMPLES / SAMPLE[args.task]}
    return utils.choose_dataset(args, [real], offline)


def name_of_cell(args):
    """Kind and direction in one, as `make_reader` takes them."""
    direction = FORWARDS if args.unidirectional else BOTH
    return f"{args.cell}, {direction}"


def new_model(data, args):
    """(config, saved_with) of a new model: how to build it; its words and labels."""
    config = {
        "words": len(data.vocabulary),
        "classes": len(data.labels),
        "cell": name_of_cell(args),
        "hidden": args.hidden_size,
        "layers": args.num_layers,
        "dropout": args.dropout,
    }
    if args.task == "tag":
        config["first_rare"] = data.first_rare  # words from this id on came only once
        config["letters"] = args.char_features == "cnn"
    else:
        config["pairs"] = common_pairs(data.train.data["text"], len(data.vocabulary))
    # Saved beside the weights, which mean nothing for other words, labels or task.
    saved_with = {
        "dataset": data.source.name,
        "task": args.task,
        "vocabulary": data.vocabulary.tokens,
        "labels": data.labels,
    }
    return config, saved_with


def load_model(saved_with, data, args):
    """(model, config) of --path, for `--eval-only`."""
    asked = Namespace(**{**vars(args), "cell": name_of_cell(args)})
    model, config, saved = utils.load(
        asked, NETWORKS[args.task], dataset=data.source.name, task=args.task
    )
    # With other texts, words have other numbers, and what is test here may have been
    # training there.
    if saved != saved_with:
        raise utils.UserError(
            f"{args.path} was trained on other texts; give the data and flags of that "
            "training"
        )
    model.reader.knows_lengths = not args.no_packing
    return model, config


def compare_directions(config, data, args):
    """`--compare direction`: two directions against one that has as many weights."""
    truth = truth_of(data, VAL, args)  # (M,)
    right = {}

    def train(shape):
        model, records = train_model(shape, data, args)
        scores = answer_all(model, data, VAL, args)  # (M, C)
        right[shape["cell"]] = scores.argmax(1) == truth
        return model, records, score(scores, data, VAL, args)

    both = f"{args.cell}, {BOTH}"
    forwards = f"{args.cell}, {FORWARDS}"
    config["cell"] = both
    network = NETWORKS[args.task]
    shapes = utils.cells_of_equal_size(network, config, [both, forwards])
    if args.task == "tag":
        rivals = tag_rivals(data, VAL, args)
    else:
        (rivals,) = review_rivals(data, [VAL])
    others = {name: score(said, data, VAL, args) for name, said in rivals.items()}
    utils.compare_variants(args, data.source, shapes, train, others)
    if len(right) == 2:  # neither diverged
        compare_right(both, right[both], forwards, right[forwards])
    print("Reading it: one seed; try others before you trust a small difference.")


def show_data(data, args):
    """Print how much there is to learn from, and one example of it."""
    sizes = " / ".join(f"{len(part):,}" for part in data.parts)
    print(f"\n{data.source.label}: {sizes} texts to train, validate, test;", end=" ")
    words = len(data.vocabulary) - 2  # <pad> and <unk> are no words
    print(f"{words:,} different words known")
    if args.task == "tag":
        show_tags(data)
        show_one_sentence(data)
        return
    text, label = data.parts[TRAIN][0]
    ids = data.train.data["text"][0, :10].tolist()
    print(f"One review, {label} = {data.labels.index(label)}: {text[:50]!r} ...")
    print(f"  becomes  {ids} ..." + ("; 1 is <unk>, a rare word" if 1 in ids else ""))
    print(f"  of more than {MAX_LENGTH} words half from each end stay")


# --- texts of the reader (--predict) --------------------------------------------------
#
# EWT cuts don't into do and n't, it's into it and 's.  So does this, by the first that fits:
# do of don't; its n't; 's; a word (Time, 3.5); a mark.
LETTER = r"[\w\p{M}]"  # \p{M}: marks on letters, as in Hindi
CUT = regex.compile(
    rf"{LETTER}+?(?=n['’]t\b)|n['’]t\b|['’]{LETTER}+|{LETTER}+(?:[.-]{LETTER}+)*|[^\w\s]"
)


def batch_of(words, data, args):
    """A batch of one sentence, given as a list of words."""
    sentence = [(word, data.labels[0]) for word in words]  # any tag: nobody looks at it
    batches = Sentences([sentence], data.vocabulary, data.labels, args, train=False)
    return batches.take(torch.tensor([0]))


@torch.no_grad()
def print_predictions(model, data, args):
    """--predict: the class of each text, or the tag of each of its words."""
    print()
    for text in args.predict:
        tags_wanted = args.task == "tag"
        words = CUT.findall(text) if tags_wanted else utils.split_words(text)
        utils.say_unknown([word.lower() for word in words], data.vocabulary)
        if tags_wanted:
            answers = model(batch_of(words, data, args))[0].argmax(1)  # (T,)
            tags = [data.labels[number] for number in answers.tolist()]
            pairs = zip(words, tags, strict=True)
            print(" ".join(f"{word}/{tag}" for word, tag in pairs))
            continue
        tensors = utils.encode_texts([text], data.vocabulary, MAX_LENGTH)
        batch = utils.Batches(tensors, 1, args.device).take(torch.tensor([0]))
        chances = model(batch)[0].softmax(0)  # (C,)
        answer = data.labels[int(chances.argmax())]
        print(f"{answer} {chances.max():.1%}: {text}")


# --- files of tagged words ------------------------------------------------------------
#
# EWT's files are CoNLL-U: a line a word, ten columns with a tab between them (word in the
# second, tag in the fourth), an empty line after each sentence.  Passed over are comments
# (#) and lines numbered 2-3, which say how words 2 and 3 are written together.  Data of
# your own (--input) may have two columns or more: first the word, last its tag.
CONLLU = (10, True)  # how many columns, and whether tabs stand between them
COMMENT = re.compile(r"#\s*(sent_id|text|newdoc|newpar|global\.columns)\b")


def find_columns(sentences, shape):
    """Which cells of a line hold the word and the tag: two places, from 0."""
    if shape == CONLLU:
        return 1, 3
    # Some files number each sentence's words in a column of its own, the first.
    numbered = shape[0] > 2
    for sentence in sentences:
        for number, cells in enumerate(sentence, start=1):
            numbered = numbered and cells[0] == str(number)
    if numbered:
        print("  found: the first column numbers the words; tags are in the third")
        return 1, 2
    return 0, -1  # -1: the last, however many columns there are


def read_tagged(path):
    """Sentences of a file of tagged words: each a list of (word, tag)."""
    sentences = [[]]  # of lines, each a list of cells
    first_shape = None  # (columns, tabs?) of the first word's line: all must be like it
    for number, line in enumerate(utils.read_text(path).split("\n"), start=1):
        if not line.strip():  # an empty line ends a sentence
            sentences.append([])
            continue
        has_tabs = "\t" in line
        cells = line.split("\t") if has_tabs else line.split()
        cells = [cell.strip() for cell in cells]
        shape = (len(cells), has_tabs)
        if line.startswith("-DOCSTART-") or COMMENT.match(line):
            continue
        # A word may be "#": such a line is a comment only if its columns are others.
        if line.startswith("#") and shape != first_shape:
            continue
        if first_shape is None:
            first_shape = shape
        wrong = shape != first_shape or len(cells) < 2
        wrong = wrong or not (cells[0] and cells[1] and cells[-1])
        if not wrong and shape == CONLLU:
            if re.fullmatch(r"\d+[-.]\d+", cells[0]):  # 2-3 and 2.1 are no words
                continue
            wrong = cells[3] in ("", "_") or not cells[0].isdecimal()
        if wrong:
            raise utils.UserError(
                f"{path}, line {number}: '{line[:60]}' is neither a word and its tag "
                "nor a line of CoNLL-U; every line takes the columns of the first, "
                "with the same separator"
            )
        sentences[-1].append(cells)
    sentences = [sentence for sentence in sentences if sentence]
    if not sentences:
        raise utils.UserError(f"{path} holds no tagged words")
    word, tag = find_columns(sentences, first_shape)
    return [[(cells[word], cells[tag]) for cells in sentence] for sentence in sentences]


def load_tagged(args, source):
    """Training, validation, test: three lists of sentences, each a list of (word, tag).

    EWT comes in three parts.  All else is split 80/10/10, so that the same words never
    stand in two parts (lesson 04: a leak).
    """
    if source.name == "ewt":
        names = ("train", "dev", "test")
        files = [source.path / f"en_ewt-ud-{name}.conllu" for name in names]
        parts = [read_tagged(path) for path in files]
    else:
        sentences = read_tagged(source.path)
        keys = [" ".join(words_of(sentence)) for sentence in sentences]
        parts = utils.three_parts(sentences, keys, source.path)
    sizes = zip(parts, utils.QUICK_PARTS, strict=True)  # fewer under --quick
    return [utils.capped(args, part, most) for part, most in sizes]


# --- whole names, if tags are in the form IOB -----------------------------------------
#
# B-PER begins the name of a person, I-PER goes on with it, O is no name.  Most words are
# O, so accuracy flatters, and whole names are counted.


def names_in(tags):
    """Whole names of a sentence: a set of (kind, first place, place after the last)."""
    found = set()
    kind = None  # of the name that we are in, if any
    start = 0  # where it began
    # The O that is added ends a name at the sentence's end.
    for place, tag in enumerate([*tags, "O"]):
        mark, _, its_kind = tag.partition("-")  # "B-PER" -> "B", "-", "PER"
        goes_on = mark == "I" and its_kind == kind
        if kind is not None and not goes_on:
            found.add((kind, start, place))
            kind = None
        if kind is None and mark in ("B", "I"):  # an I without its B begins one, too
            kind = its_kind
            start = place
    return found


def name_scores(scores, data):
    """Scores of whole names in the test part, from (M, C)."""
    wanted = set()  # names that are there: (sentence, kind, first place, end)
    found = set()  # names that were answered
    said = tags_said(scores, data)
    for row, sentence in enumerate(data.parts[TEST]):
        wanted.update((row, *name) for name in names_in(tags_of(sentence)))
        found.update((row, *name) for name in names_in(said[row]))
    right = len(wanted & found)
    return {
        "precision": right / max(len(found), 1),
        "recall": right / max(len(wanted), 1),
        "f1": 2 * right / max(len(wanted) + len(found), 1),
    }


def report_names(ours, answers, data):
    """Print the scores of whole names; those of `ours` as metrics.  {} if not IOB."""
    if not any(label.startswith("B-") for label in data.labels):
        return {}
    rows = {name: name_scores(said, data) for name, said in answers.items()}
    utils.print_table("The same answers, whole names counted", rows)
    return {f"test_name_{key}": value for key, value in rows[ours].items()}


def main(argv=None):
    args = utils.parse_flags(
        make_flags(), argv, __file__, defaults=lambda args: DEFAULTS[args.task]
    )
    utils.check_texts(args.predict)
    # The data are read first, so that a wrong flag or file is told at once.
    source = choose_source(args)
    if args.task == "tag":
        data = load_sentences(args, source)
    else:
        data = load_reviews(args, source)
    config, saved_with = new_model(data, args)
    if args.compare:
        return compare_directions(config, data, args)

    # 1. Data: the question, on five words.
    show_what_has_been_read()

    # 2. The model: as one would write it, inside, padding, layers; cheating; letters.
    show_two_directions_in_pytorch()
    show_two_cells()
    show_reading_backwards()
    show_what_padding_does()
    show_reader_equals_packing()
    show_cheating()
    if args.task == "tag":
        show_one_filter()

    # 3. Training: what from, what counts.
    show_data(data, args)
    show_loss_of_real_words()

    # The small trial, in seconds; then the real thing.
    trial = run_small_trial(args)
    records = []
    if args.eval_only:
        model, config = load_model(saved_with, data, args)
    else:
        print(f"\nTraining on {source.label}: one line an epoch")
        if args.task == "tag" and source.name == "sample":
            print(
                "(The small trial's sentences again, now for the tagger that EWT gets.)"
            )
        model, records = train_model(config, data, args, saved_with)

    # 4. Evaluation: what does it say, how good is it, what does it rest on?  An outlook.
    scores = report(model, config, records, data, args, trial)
    if not args.no_plots:
        draw(scores, config, records, data, args)
    if args.predict:
        print_predictions(model, data, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
