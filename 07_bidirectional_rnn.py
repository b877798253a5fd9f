"""07 · What does the future of a sentence tell?

    The team watches the boat        here "watches" is what the team does: a verb
    The team watches were cheap      here "watches" are worn on the wrist: a noun

Up to "watches" both sentences are the same, so whoever reads from left to right cannot
know which of the two it is.  What decides comes later: it is the future of the
sentence.  A bidirectional network has two readers, one from each end, and asks both.

What you will learn
    - what each reader has seen at each word, and where PyTorch keeps what it found
    - what nn.LSTM(bidirectional=True) does inside: two cells, one of which is fed the
      words backwards
    - what padding does to the two readers, with numbers, and the cure
    - one answer for a whole text (does the reviewer like the film?), and one for every
      word (which part of speech is it?), with letters to help where a word is new
    - what the future is worth, measured: at equal weights, with a test, and against the
      most that any reader from left to right can know
    - when reading backwards is cheating

You need lessons 01 (padding, lengths, mask), 02 (vocabulary, embedding, <unk>), 04 (a
recurrent step, the training loop, McNemar's test) and 05 (LSTM, pooling over time).

Run it
    python 07_bidirectional_rnn.py
    python 07_bidirectional_rnn.py --predict "I expected little, but it was a joy."
    python 07_bidirectional_rnn.py --task tag --predict "Time flies like an arrow"
    python 07_bidirectional_rnn.py --compare direction

The two tasks ask two things.  --task classify, the default, gives one answer for a
whole review: are two directions better than one that has as many weights?  --task tag
gives one answer for each word: there the future matters more.  A small trial on made-up
sentences is part of both, and shows within seconds what the title asks.

You should see, within seconds once the data are read  (seed 0, one thread)
    The small trial: 2,700 made-up sentences, 1,757 words to test
      model                         accuracy   ambiguous_accuracy   hidden   weights
      both directions                 1.0000               1.0000       32    52,219
      forwards only                   0.9027               0.4926       55    52,356
      linear, a word on each side     0.9590               0.7864        -         -
      commonest tag of a word         0.8998               0.4777        -         -
      ceiling, left to right          0.9077                    -        -         -
    accuracy is the share of words whose tag is right, ambiguous_accuracy that share
    among words which have several tags.  hidden is the size of one direction's state.
    linear is no network: logistic regression, told the word and its two neighbours.
    The ceiling is the most that any reader from left to right can reach.

And on the real data  (seed 0, one thread, one layer; 3 to 15 minutes a task)
    IMDB, film reviews, 84 MB to download: share of test reviews judged rightly
      both directions   0.8979       tfidf_bigram   0.9096      ratio_trigram   0.9173
    EWT, sentences from the web, 18 MB: share of test words tagged rightly
                                    all words   of several tags   new words
      both directions                  0.9532            0.9611      0.7949
      linear, words before and after   0.9353            0.9428      0.7455
      linear, word before alone        0.9154            0.9120      0.7226
      commonest tag of each word       0.8615            0.8754      0.2859
    On reviews the network (100 numbers each way, 1,662,002 weights) loses to two of
    lesson 05's rivals, which only count words and runs of words.  On tags it (128 each
    way, 2,028,981 weights) wins.  The two linear rivals differ in one thing: whether
    they are told the next word.  Another processor, or another seed, moves the
    network's third decimal: with three seeds on one, EWT had 0.9522 to 0.9530.

Try this  (guess first, then run; each line is a training, the first one is two)
    --compare direction              what is the second direction worth, in each task?
    --no-packing                     what if the right reader starts in the padding?
    --task tag --char-features none  which words need their letters?
    --task tag --unidirectional      can the tagger do without the future?  (With fewer
                                     weights; --compare direction is the fair one.)
"""

# Sizes
#     B  batch (texts)            T  time (words of the longest text in the batch)
#     E  vector of a word         H  hidden state of one direction
#     V  vocabulary (words)       C  classes: labels of texts, or tags of words
#     D  the states at a word: 2 H with both directions, H with one
#     W  letters of the longest word in the batch

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
# it: its part of speech, the kind of work that it does in this sentence.  DET is an
# article (the, a), AUX a helping verb or a form of be, ADJ an adjective; NOUN and VERB
# say themselves.


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
# Side by side, f_t and b_t know the whole sentence, seen from word t.  Both have read
# word t itself.  What lies to the right of word t is what we call its future.


def show_what_has_been_read():
    """Print what the states at each word of the opening sentences have read."""
    print("What has been read at each word?")
    print(f"  {'':<10}{'f_t, from the left':<30}b_t, from the right")
    words = words_of(OPENING[0])
    # Both readers have read word t itself: at t = 1, left: The team; right, which began
    # at the end: boat the watches team.
    for t in range(len(words)):
        left = " ".join(words[: t + 1])
        right = " ".join(reversed(words[t:]))
        print(f"  {words[t]:<10}{left:<30}{right}")
    print("And at the word watches, in the two sentences?")
    # One place, two sentences: compare the two lines column by column.
    for sentence in OPENING:
        word, tag = sentence[RIDDLE]
        words = words_of(sentence)
        left = " ".join(words[: RIDDLE + 1])
        right = " ".join(reversed(words[RIDDLE:]))
        print(f"  {word:<10}{left:<30}{right:<22}{tag}")
    print("From the left the two are the same: a verb or a noun, who can tell?")
    print("The words after it can.  That is what the future of a sentence tells.")


# These two sentences are all the data that section 2 needs.  The data to learn from,
# film reviews and tagged sentences, are looked at in section 3, where training begins.


# ====================================================================================
# 2. Model
# ====================================================================================
#
# How does one build two readers?  First as one would write it with PyTorch, then what
# it does inside.  The numbers of the examples are random: they are about where things
# stand, not about what is learned.  They are in double precision (.double()), so that
# "equal" can be checked closely.


def opening_vectors(size):
    """The words of the two opening sentences as random vectors: (2, 5, size).

    One vector for each different word, so "watches" has the same in both.
    """
    lines = []
    for sentence in OPENING:
        lines.append([word.lower() for word, _ in sentence])
    vocabulary = utils.Vocabulary.build(lines)
    ids = torch.tensor([vocabulary.encode(line) for line in lines])  # (2, 5)
    vectors = torch.randn(len(vocabulary), size, dtype=torch.double)  # (V, size)
    return vectors[ids]  # (2, 5, size)


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
    torch.manual_seed(7)
    x = opening_vectors(4)  # (B, T, E) = (2, 5, 4)
    layer = nn.LSTM(4, 3, batch_first=True, bidirectional=True).double()  # H = 3
    with torch.no_grad():
        output, (h_n, c_n) = layer(x)  # (2, 5, 6), (2, 2, 3), (2, 2, 3)
    forwards = output[:, :, :3]  # (B, T, H): f_t, the first half
    backwards = output[:, :, 3:]  # (B, T, H): b_t, the second half
    print("\nTwo directions as one would write them, on the two opening sentences:")
    print("  layer = nn.LSTM(4, 3, batch_first=True, bidirectional=True)")
    print("  output, (h_n, c_n) = layer(x)")
    print(f"  x       {tuple(x.shape)}  B = 2 sentences, T = 5 words, E = 4")
    print(f"  output  {tuple(output.shape)}  at each word f_t, then b_t; H = 3 each")
    print(f"  h_n     {tuple(h_n.shape)}  2 directions, B = 2, H = 3: where each ended")
    print(f"  c_n     {tuple(c_n.shape)}  the same of the LSTM's memory")
    print("output of the first sentence:")
    print(f"  {'':<9}{'f_t':<21}b_t")
    words = words_of(OPENING[0])
    notes = [""] * len(words)
    notes[0] = "   <- b_1 is h_n[1]: here b ends"
    notes[-1] = "   <- f_5 is h_n[0]: here f ends"
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
# are put side by side.  (One could also add the two, or take their mean.  Side by side
# nothing is lost, and what comes next can weigh each number by itself.)  The idea is by
# Schuster and Paliwal (1997).
#
# How do they learn?  Say the tag of watches was wrong.  The error goes back through f_3
# to the words on its left, and through b_3 to the words on its right.  It is
# back-propagation through time (lesson 04), once in each direction.


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
    for weights in layer.all_weights:  # of each direction: W_ih, W_hh, b_ih, b_hh
        cell = nn.LSTMCell(layer.input_size, layer.hidden_size)
        for ours, theirs in zip(cell.parameters(), weights, strict=True):
            ours.data = theirs.data  # the same numbers, and in the same precision
        cells.append(cell)
    return cells


def show_two_cells():
    """Print that two cells, one fed backwards, are nn.LSTM(bidirectional=True)."""
    torch.manual_seed(7)
    x = opening_vectors(3)[0]  # (T, E) = (5, 3): the first sentence
    one = nn.LSTM(3, 2, batch_first=True)
    both = nn.LSTM(3, 2, batch_first=True, bidirectional=True).double()
    forward_cell, backward_cell = cells_of(both)
    with torch.no_grad():
        ours = two_directions_by_hand(x, forward_cell, backward_cell)  # (5, 4)
        theirs, _ = both(x.unsqueeze(0))  # (1, 5, 4)
    print("\nInside: two cells, one fed the words, one fed the words turned round")
    print(f"  our states and those of nn.LSTM: {apart(ours, theirs[0])}")
    print(f"  weights: {utils.count_parameters(one)} in one direction,", end=" ")
    print(f"{utils.count_parameters(both)} in two: twice as many, and twice the steps")


# With several layers (--num-layers), each layer has its two readers.  From the second
# layer on, both of them are fed the pairs (f_t, b_t) of the layer below, so there each
# knows something of the whole text at every word.  A pair has 2 H numbers: the weights
# of such a layer more than double.  output is that of the last layer alone.  h_n and
# c_n hold all of them, (2 L, B, H) for L layers, in this order:
#
#     h_n[0]  layer 1 forwards        h_n[2]  layer 2 forwards
#     h_n[1]  layer 1 backwards       h_n[3]  layer 2 backwards        and so on
#
# So h_n[-2] and h_n[-1] are the last layer's.  The networks below have one layer unless
# told otherwise.


# So far no sentence had padding.  In a batch, shorter texts are filled up at the end
# (lesson 01).  The reader from the left comes to the padding last, when the states at
# the words have already been made.  The reader from the right comes to it first!  Every
# state b_t at a word would depend on how much padding there was, that is on the longest
# text that happens to stand in the same batch.
#
# So we must not turn round the row, but the words in the row, and leave padding where
# it is.  Of a text of 3 words in a row 5 wide:
#
#     places                    0     1     2     3     4
#     words                     We    swim  .     -     -       - is padding
#     the row turned round      -     -     .     swim  We      wrong: padding first
#     its words turned round    .     swim  We    -     -       right: places 2 1 0 3 4


def reversed_places(length, width):
    """From which place each place of a row takes its word.  3 of 5: 2 1 0 3 4."""
    words = list(range(length))  # 0 1 2
    padding = list(range(length, width))  # 3 4: these stay where they are
    return words[::-1] + padding


# The same for a whole batch at once, without a loop.  In the comments: a row of 3 words
# in a batch 5 wide.


def turn_words_round(x, lengths):
    """x (B, T, E), lengths (B,): each row's words in reverse, padding where it was."""
    steps = torch.arange(x.shape[1], device=x.device)  # (T,): 0 1 2 3 4
    lengths = lengths.to(x.device).unsqueeze(1)  # (B, 1): 3
    from_end = lengths - 1 - steps  # (B, T): 2 1 0 -1 -2
    places = torch.where(from_end < 0, steps, from_end)  # (B, T): 2 1 0 3 4
    # Row i, place t of the result is x[i, places[i, t]].
    return torch.take_along_dim(x, places.unsqueeze(2), dim=1)  # (B, T, E)


def show_reading_backwards():
    """Print a padded row with its words turned round, row by row and as a batch."""
    row = ["We", "swim", ".", "-", "-"]
    places = reversed_places(length=3, width=5)
    print("\nTurning round the words of a padded row:")
    print(f"  {' '.join(row)}   becomes   {' '.join(row[place] for place in places)}")
    print(f"  a text of 3 in a row of 5 is read from places {places}")
    x = torch.randn(2, 5, 3)  # (B, T, E): a row of 3 words, and a row of 5
    first = x[0, reversed_places(length=3, width=5)]  # (T, E)
    second = x[1, reversed_places(length=5, width=5)]
    by_rows = torch.stack([first, second])  # (B, T, E)
    at_once = turn_words_round(x, torch.tensor([3, 5]))  # (B, T, E)
    print(f"  a batch, turned row by row and all at once: {apart(by_rows, at_once)}")


# PyTorch's own cure is packing (lesson 01): pack_padded_sequence takes the padding out
# and tells the layer how long each text is.  Then the reader from the right begins at
# each text's own last word, and the reader from the left stops there.  What happens
# without it?


def read_packed(layer, x, lengths):
    """A bidirectional nn.LSTM on a padded batch, packed: output (B, T, 2 H), h_n."""
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    output, (h_n, _) = layer(packed)
    output, _ = pad_packed_sequence(output, batch_first=True)  # 0 on padding
    return output, h_n


def show_what_padding_does():
    """Print states of a short text: alone, then in a batch, packed and unpacked."""
    torch.manual_seed(7)
    layer = nn.LSTM(3, 2, batch_first=True, bidirectional=True).double()  # H = 2
    x = torch.randn(2, 6, 3, dtype=torch.double)  # (B, T, E)
    # The second text has two words; the rest of its row is padding, here zeros.  In a
    # network it is row 0 of the embedding, which may be anything.
    x[1, 2:] = 0.0
    lengths = torch.tensor([6, 2])
    with torch.no_grad():
        alone, (last_alone, _) = layer(x[1:, :2])  # (1, 2, 4): no padding at all
        packed, last_packed = read_packed(layer, x, lengths)  # (2, 6, 4)
        unpacked, (last_unpacked, _) = layer(x)  # (2, 6, 4): as if padding were words
    states = {
        "alone": (alone[0, 0], last_alone[0, 0]),  # (2 H,), (H,)
        "beside a text of 6, packed": (packed[1, 0], last_packed[0, 1]),
        "beside a text of 6, unpacked": (unpacked[1, 0], last_unpacked[0, 1]),
    }
    print("\nThe damage of padding: a text of 2 words")
    print(f"  {'':<30}{'f_1':<15}{'b_1':<15}h_n[0], where f ended")
    for name, (first_word, last) in states.items():
        f_1 = as_text(first_word[:2])
        b_1 = as_text(first_word[2:])
        print(f"  {name:<30}{f_1:<15}{b_1:<15}{as_text(last)}")
    print("Reading it: unpacked, b_1 is not what it is alone, since b began in the")
    print("padding.  h_n[0] is not either: f has read on, through the padding.  Only")
    print("f_1 is safe.  A text's answer would change with the company it keeps.")


# How much does that harm the answers?  Two networks that had learned with the lengths,
# asked on test with and without them, short texts beside long ones:
#
#     EWT, tags        0.9532 with    0.9525 without    (McNemar's test: p = 0.06)
#     IMDB, reviews    0.8979 with    0.8762 without
#
# Sentences are short, and so is their padding.  Reviews may have hundreds of places of
# it.  (To see it: train with --save-model, then ask with --eval-only --no-packing.)  A
# network may get used to padding, if it learns with it: --no-packing alone tries that.
#
# Turning the words round does the same as packing.  Which one to take?  On a CPU,
# PyTorch goes through a packed batch step by step in slow code: for 64 reviews of 300
# words, forwards and back, packing took 4.3 s, turning round 0.5 s (one thread).  So
# this lesson turns round, and what it does can be seen.
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}  # GRU: lesson 06
BOTH = "both directions"
FORWARDS = "forwards only"


class Reader(nn.Module):
    """Recurrent layers, each with one cell reading forwards and one reading backwards.

    cell: "lstm, both directions", "gru, forwards only" and so on.  It names the network
    in tables, and says how to build it.
    """

    def __init__(self, size, cell, hidden, layers, dropout):
        super().__init__()
        kind, direction = cell.split(", ")
        directions = 2 if direction == BOTH else 1
        self.hidden = hidden  # H
        self.size = directions * hidden  # D
        # Whether the reader is told where each text ends.  --no-packing (the flag has
        # the name of the usual cure) says False: it reads through the padding.
        self.knows_lengths = True
        self.layers = nn.ModuleList()
        for _ in range(layers):
            cells = nn.ModuleList()
            for _ in range(directions):
                cells.append(CELLS[kind](size, hidden, batch_first=True))
            self.layers.append(cells)
            size = self.size  # what the next layer is fed
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
    """Print how far our Reader is from nn.LSTM, packed: states and gradients."""
    torch.manual_seed(7)
    packed = nn.LSTM(3, 4, num_layers=2, batch_first=True, bidirectional=True).double()
    reader = Reader(3, f"lstm, {BOTH}", 4, layers=2, dropout=0.0).double()
    # Both keep their weights in the order of h_n.
    for ours, theirs in zip(reader.parameters(), packed.parameters(), strict=True):
        ours.data.copy_(theirs.data)
    x = torch.randn(3, 6, 3, dtype=torch.double)  # (B, T, E)
    lengths = torch.tensor([2, 6, 3])
    theirs, _ = read_packed(packed, x, lengths)  # (3, 6, 8), 0 on padding
    real = utils.length_mask(lengths, 6).unsqueeze(2)  # (3, 6, 1)
    ours = reader(x, lengths) * real  # (3, 6, 8)
    # Some loss or other, the same for both: its gradients must be the same as well.
    weights = torch.randn_like(theirs)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    pairs = zip(reader.parameters(), packed.parameters(), strict=True)
    gaps = [(mine.grad - other.grad).abs().max().item() for mine, other in pairs]
    print("\nOur Reader, which turns words round, against nn.LSTM, packed; two layers:")
    print(f"  states {apart(ours, theirs)}, gradients {max(gaps):.0e} apart")


# Now there is a Reader, and it is the heart of two networks:
#
#     words         The        team       watches    the        boat
#     vectors       x_1        x_2        x_3        x_4        x_5
#     the Reader    f_1 b_1    f_2 b_2    f_3 b_3    f_4 b_4    f_5 b_5
#                    |          |          |          |          |
#                    v          v          v          v          v
#     tags          DET        NOUN       VERB       DET        NOUN
#
# For tags, each pair of states gives the answer for its word.  For a review, all pairs
# together must give one answer.  How?
#
# --- one answer a text --------------------------------------------------------------
#
# At each word of a review there are D numbers, f_t and b_t side by side.  Of each
# number we take the largest value that it has at any real word (max pooling, lesson
# 05).  With three words and D = 4:
#
#                word 1     word 2     word 3     the largest
#     f_t        0.1        0.7        0.2        0.7
#               -0.3       -0.6       -0.1       -0.1
#     b_t        0.4       -0.2        0.0        0.4
#                0.5        0.6        0.8        0.8
#                                                 these four --> scores --> pos
#
# Each number may be seen as a question, "was there a word of praise?", and the largest
# value says whether the answer was yes anywhere.
#
# Many programs take the two last states instead (packed, see above):
#
#     torch.cat([h_n[-2], h_n[-1]], dim=1)    # (B, 2 H)
#
# Then f must carry what it found at the first words over all the words that follow, and
# b what it found at the last ones.  The largest value is fetched from where it was
# found.  (Lesson 05 measures several ways: --compare pooling.)
WORD_SIZE = 100  # numbers for each word


class ReviewNetwork(nn.Module):
    """Vectors of words, the Reader, the largest of each state number, one answer."""

    def __init__(self, words, classes, cell, hidden, layers, dropout):
        super().__init__()
        # Row 0 is padding.  It need not be zeros: nobody uses what is made of it.
        self.embed = nn.Embedding(words, WORD_SIZE)
        # Small at the start (PyTorch's own numbers are ten times as large), so that a
        # word whose vector is long later is one that training has made so.
        nn.init.normal_(self.embed.weight, std=0.1)
        self.reader = Reader(WORD_SIZE, cell, hidden, layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.reader.size, classes)

    def vectors(self, batch):
        """The vectors of a batch's words (B, T, E)."""
        return self.embed(batch["text"])

    # What follows stands apart, so that the picture of section 4 can ask how the answer
    # changes with a word's vector.

    def answer(self, x, lengths):
        """Vectors (B, T, E), lengths (B,) -> scores (B, C)."""
        states = self.reader(self.dropout(x), lengths)  # (B, T, D)
        real = utils.length_mask(lengths, x.shape[1], x.device)  # (B, T)
        # Padding becomes -inf, which is never the largest.
        states = states.masked_fill(~real.unsqueeze(2), -torch.inf)
        largest = states.amax(1)  # (B, D)
        scores = self.output(self.dropout(largest))  # (B, C)
        return scores.float()  # full precision, if --precision bf16 took less

    def forward(self, batch):
        """text (B, T), text_length (B,) -> scores (B, C)."""
        return self.answer(self.vectors(batch), batch["text_length"])


# --- a room of their own: the letters of a word ---------------------------------------
#
# For a tag the network needs more than which word it is.  Of the 25,094 words of EWT's
# test sentences, 1,882 do not occur in training.  As words these are all the same,
# <unk>.  But "googling" ends like a verb, and "Ashburn" begins like a name: the letters
# still tell.  (--task tag alone needs this room.)
#
# Every word becomes a row of numbers: the bytes of its letters, between a mark for the
# beginning and one for the end.  So "begins with M" and "ends in ing" can be seen.

MAX_LETTERS = 20  # bytes kept of a word
BEGIN = 1  # the two marks; no text holds the bytes 1 and 2
END = 2


def spell(word):
    """A word as numbers: the bytes of its letters between two marks.

    "is" -> 1 105 115 2.  é has two bytes; so 256 numbers are enough for all scripts.
    """
    return [BEGIN, *word.encode()[:MAX_LETTERS], END]


# How do these numbers become a vector?  By filters.  A filter is a small pattern of,
# say, three letters.  It is laid upon the word at every place, and each time tells how
# well the letters fit.  Of all places only the best counts: "is there an -ing
# anywhere?"
#
#     ^ s i n g i n g $          ^ and $ are the marks of beginning and end
#     [...]                      how well does ^si fit?
#       [...]                    how well does sin fit?
#         [...]                  ing: very well
#           ...
#
# That is a convolutional network over letters (CNN).  We do not write the patterns: a
# filter's numbers are weights, and training finds the ones that help to tag.  Before
# the filters, every letter becomes a vector of 32 numbers, so that a pattern can say
# "a vowel, then an n" and not only "exactly in".  Half of the filters are three letters
# wide, as -ing or un- are, half five, for -able or -tion with what stands beside them.


def show_one_filter():
    """Print one filter of three letters, made by hand, on its way over two words."""
    wanted = "ing"
    print('\nA filter of three letters that looks for "ing": how many letters fit?')
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
        # Why not the sum?  In ^signs$ three windows fit by one letter each: together 3,
        # as much as one whole ing, and yet there is none.
        print(f"  {word:<10} {'  '.join(shown)}   largest {max(values)}")
    print("The filter's answer for the word is the largest.  A filter of the network")
    print("does not count: it multiplies the letters' vectors with weights, adds up,")
    print("and learns the weights.")


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
        rows = letters.reshape(-1, letters.shape[-1])  # (R, W): a row for each word
        x = self.embed(rows).transpose(1, 2)  # (R, 32, W): Conv1d wants places last
        fits = torch.cat([self.three(x), self.five(x)], dim=1)  # (R, size, W)
        # How far a row is filled up depends on the batch's longest word: leave it out.
        fits = fits.masked_fill((rows == 0).unsqueeze(1), -torch.inf)
        best = fits.amax(2).relu()  # (R, size): a filter that fits nowhere says 0
        return best.view(*letters.shape[:-1], -1)  # (..., size)


def filters_by_hand(x, filters):
    """The best fit of each filter of an nn.Conv1d on one word x (W, 32): (size,)."""
    width = filters.kernel_size[0]
    beyond = x.new_zeros(width // 2, x.shape[1])  # what hangs over counts as zeros
    x = torch.cat([beyond, x, beyond])
    found = []
    for weight, bias in zip(filters.weight, filters.bias, strict=True):  # (32, width)
        fits = []
        for place in range(len(x) - width + 1):
            window = x[place : place + width]  # (width, 32)
            fits.append((weight.T * window).sum() + bias)
        found.append(max(fits).relu())
    return torch.stack(found)


def show_filters_by_hand():
    """Print how far the loop is from LetterFilters, on a word with padding after it."""
    torch.manual_seed(7)
    filters = LetterFilters(8).double()
    table, lengths = utils.pad([spell("singing"), spell("multiplication")])  # (2, W)
    with torch.no_grad():
        theirs = filters(table)[0]  # (8,): singing, beside a longer word
        x = filters.embed(table[0, : lengths[0]])  # (9, 32)
        both = [filters_by_hand(x, filters.three), filters_by_hand(x, filters.five)]
    print("With vectors and weights, by a loop and by LetterFilters, beside a longer")
    print(f"word: {len(theirs)} filters, {apart(torch.cat(both), theirs)}")


# The tagger puts side by side, for every word, the vector of the word and what the
# filters found in its letters.  The Reader reads these.  (Ma and Hovy, 2016, did the
# same for tags and names, with one layer more: see "What came of it?".)  The tagger at
# the head of this script is right at 0.7949 of the new words of EWT's test part.  The
# same weights, shown no letters, are right at 0.4501 of them; shown the letters but not
# the neighbours, at 0.6472 (section 4 measures that).


class Tagger(nn.Module):
    """Vectors of words and of their letters, the Reader, an answer for every word."""

    def __init__(self, words, once, classes, letters, cell, hidden, layers, dropout):
        super().__init__()
        # Words are numbered by frequency.  From this number on they came only once.
        self.once = once
        self.embed = nn.Embedding(words, WORD_SIZE)
        # PyTorch's own start is ten times as large: words then drown out the letters.
        nn.init.normal_(self.embed.weight, std=0.1)
        self.filters = LetterFilters(WORD_SIZE) if letters else None
        size = 2 * WORD_SIZE if letters else WORD_SIZE  # E
        self.reader = Reader(size, cell, hidden, layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.reader.size, classes)

    def vectors(self, batch):
        """The vectors of a batch's words (B, T, E)."""
        words = batch["text"]  # (B, T)
        if self.training:
            # In training no word is unknown, so nothing would be learned about <unk>.
            # Therefore words that training has only once are hidden every other time:
            # the network must make do with their letters and their neighbours, as it
            # will have to with new words.
            coin = torch.rand(words.shape, device=words.device)
            hide = (words >= self.once) & (coin < 0.5)
            words = words.masked_fill(hide, utils.UNK_ID)
        x = self.embed(words)  # (B, T, 100)
        if self.filters:
            spelled = self.filters(batch["letters"])  # (B, T, 100)
            x = torch.cat([x, spelled], dim=2)  # (B, T, 200)
        return x

    def answer(self, x, lengths):
        """Vectors (B, T, E), lengths (B,) -> scores of every tag (B, T, C)."""
        states = self.reader(self.dropout(x), lengths)  # (B, T, D)
        return self.output(self.dropout(states)).float()

    def forward(self, batch):
        """text (B, T), letters (B, T, W), text_length (B,) -> scores (B, T, C)."""
        return self.answer(self.vectors(batch), batch["text_length"])


NETWORKS = {"classify": ReviewNetwork, "tag": Tagger}


# ====================================================================================
# 3. Training
# ====================================================================================
#
# What do the networks learn from?
#
#     --task classify   film reviews, each with a label, neg or pos (lesson 05)
#     --task tag        sentences in which people have given every word its tag: UD
#                       English EWT, texts from the web, that is mails, reviews and
#                       questions
#
# Without the real data, made-up samples take their place.  How files are read and
# batches made of them stands in section 5: the story does not need it.  Here the data
# are only looked at.

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


# A network needs numbers in a rectangle.  Of the sentences of a batch, T the words of
# the longest, these are made:
#
#     text      (B, T)      which word it is, in lower case: "The" and "the" are one
#     letters   (B, T, W)   how it is spelled, capital letters and all
#     label     (B, T)      which tag it has
#
# Shorter sentences are filled up (lesson 01).  On the filling there is no tag, and it
# must be told from every real one: NO_TAG.


def show_one_sentence(data):
    """Print one training sentence on its way from the file to the tensors."""
    sentences = data.parts[TRAIN]
    rows = range(len(sentences))
    short = [row for row in rows if 4 <= len(sentences[row]) <= 6]
    chosen = short[0] if short else 0
    # Beside a sentence of two words more, so that padding can be seen.
    wanted = len(sentences[chosen]) + 2
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
    print(f"  letters  {shape}: 2 sentences, T words, W letters, marks included")


def show_one_review(data):
    """Print one training review on its way from the file to the tensors."""
    text, label = data.parts[TRAIN][0]
    words = utils.split_words(text)
    ids = data.train.data["text"][0].tolist()
    length = int(data.train.lengths["text_length"][0])
    print("\nOne review on its way from the file to the network (see lesson 05):")
    print(f"  text     {text[:60]!r} ...")
    print(f"  words    {' '.join(words[:10])} ... {len(words)} in all")
    print(f"  ids      {ids[:10]} ...; 1 is <unk>, a rare word")
    print(f"  length   {length}; of more than {MAX_LENGTH}, half from each end stay")
    print(f"  label    {label} = {data.labels.index(label)}")


# --- what counts in training ----------------------------------------------------------
#
# The loop is `utils.fit`, opened in lesson 04.  It wants one function from us, which
# returns the loss of every real item.  For reviews an item is a review.  For tags it is
# a word; and the (B, T) places of a batch hold padding too.  There is no right answer
# there, so nothing can be learned there, and it must not count, neither in the loss nor
# in the accuracy: a sentence would get other marks beside a longer one.


def show_loss_of_real_words():
    """Print the loss of each word of two sentences, and their mean over real words."""
    sentences = [["We", "swim", "."], ["Stop", "!"]]
    # The network's scores for three tags, PRON VERB PUNCT, at every place: (B, T, C).
    scores = torch.tensor(
        [
            [[2.0, 0.5, 0.1], [0.3, 1.5, 0.2], [0.0, 0.1, 3.0]],
            [[1.0, 0.8, 0.1], [0.2, 0.4, 2.5], [1.2, 0.3, 0.9]],
        ]
    )
    label = torch.tensor([[0, 1, 2], [1, 2, NO_TAG]])  # (B, T)
    print("\nThe loss where every word has an answer, as in the small trial below:")
    print("minus the log of the probability of the word's right tag.")
    losses = []
    for row, sentence in enumerate(sentences):
        shown = []
        for place, word in enumerate(sentence):
            chances = scores[row, place].softmax(0)  # (C,)
            losses.append(-chances[label[row, place]].log().item())
            shown.append(f"{word} {losses[-1]:.3f}")
        if len(sentence) < label.shape[1]:
            shown.append("(padding does not count)")
        print(f"  sentence {row + 1}   {'   '.join(shown)}")
    total = sum(losses)
    words = len(losses)
    print(f"  the batch    {total:.3f} over {words} real words = {total / words:.4f}")
    real = label != NO_TAG  # (B, T)
    theirs = F.cross_entropy(scores[real], label[real])
    print(f"  F.cross_entropy over the real words alone = {theirs:.4f}")
    # As many programs have it: PyTorch wants classes second, (B, C, T).
    same = F.cross_entropy(scores.transpose(1, 2), label, ignore_index=NO_TAG)
    print(f"  F.cross_entropy with ignore_index={NO_TAG} = {same:.4f}")
    filled = label.masked_fill(~real, 0)  # as if padding were a word, its tag PRON
    wrong = F.cross_entropy(scores.flatten(0, 1), filled.flatten())
    print(f"  wrong: with the padding as a sixth word, a PRON = {wrong:.4f}")


# M are the answers of a batch: its B reviews, or its real words.


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


def train_model(config, data, args, feeds=None):
    """A new model from --seed, trained: (model, records).

    feeds: what a saved file needs beside the weights.  Without it this is a side
    experiment, which prints nothing and leaves no file.
    """
    utils.set_seed(args.seed)
    model = NETWORKS[args.task](**config).to(args.device)
    model.reader.knows_lengths = not args.no_packing
    kept = config if feeds else None
    # The best epoch is the one with the most right answers on validation; of equal
    # ones, the first.  fit hands the model back in eval mode: without dropout, and
    # without hiding words.
    records = utils.fit(
        model, measure, data.train, data.val, args, kept, feeds, monitor="val_accuracy"
    )
    return model, records


# --- the small trial: what is the future worth? ---------------------------------------
#
# Now the title's question can be put to a test.  samples/tagged.conllu has 2,700
# made-up sentences.  They come in pairs which begin alike and go on differently, as the
# opening sentences do.  Often the next word decides, sometimes only a later one:
#
#     Then glue is new .                    glue is a NOUN
#     Then glue the train .                 a VERB
#     They ate until the film there .       until is an ADP (adposition)
#     They ate until the film stopped .     an SCONJ (it begins a clause)
#
# Two small taggers learn from them in seconds.  One has two directions.  The other
# reads forwards only, but has a larger state, so that both have as many weights
# (`utils.cells_of_equal_size` tries sizes until the weights agree).  Everything else is
# equal.
#
# A score alone says little, so there are rivals.  The first asks for no neighbour: give
# each word the tag that it has most often in training.  Ties, and new words, go to the
# tag that is commoner over all.


def most_frequent_tag(data, part):
    """The baseline's scores (M, C): how often training gives each word each tag."""
    counts = count_tags(data.parts[TRAIN])
    overall = Counter()
    for tags in counts.values():
        overall.update(tags)
    # Half of each tag's share on top is less than one count: it only settles ties.
    extra = {tag: overall[tag] / (2 * overall.total()) for tag in data.labels}
    rows = []
    for sentence in data.parts[part]:
        for word, _ in sentence:
            tags = counts.get(word.lower(), Counter())
            rows.append([tags[tag] + extra[tag] for tag in data.labels])
    return torch.tensor(rows)


# The second is the one that a sceptic would pick.  Does one need a recurrent network to
# see the future, or is the next word enough?  A linear model (lesson 04's last layer,
# on features that we choose) is told the word, its last three letters, whether it
# begins with a capital, the word before, and the word after.  The same without the
# word after shows what one word of the future is worth.


def clues_about(sentences, after):
    """What the linear model is told about each word: a list of clues for every word."""
    found = []
    for sentence in sentences:
        words = [word.lower() for word in words_of(sentence)]
        around = ["<start>", *words, "<end>"]
        for place, word in enumerate(words):
            clues = [f"word {word}", f"ending {word[-3:]}", f"before {around[place]}"]
            if sentence[place][0][0].isupper():
                clues.append("capital")
            if after:
                clues.append(f"after {around[place + 2]}")
            found.append(clues)
    return found


def linear_tagger(data, part, args, after):
    """Scores (M, C) of logistic regression on the neighbours of each word."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import SGDClassifier

    truth = truth_of(data, TRAIN, args)  # (words of training,)
    if len(truth.unique()) == 1:  # nothing to tell apart
        return most_frequent_tag(data, part)
    # A column for each different clue: 1 where a word has it, else 0.
    columns = CountVectorizer(analyzer=lambda clues: clues)
    known = columns.fit_transform(clues_about(data.parts[TRAIN], after))
    asked = columns.transform(clues_about(data.parts[part], after))
    model = SGDClassifier(
        loss="log_loss", alpha=1e-6, max_iter=10, tol=None, random_state=0
    )
    model.fit(known, truth.numpy())
    scores = torch.zeros(asked.shape[0], len(data.labels), dtype=torch.double)
    scores[:, model.classes_] = torch.from_numpy(model.predict_proba(asked)).double()
    return scores


# And a bound: what is the most that any reader from left to right can reach, however
# large, however long trained?  Where two sentences begin alike, it has the same state,
# and must give the same tag.  The best that it can do is the commonest tag after that
# beginning:
#
#     The team watches the boat      after "The team watches" it is VERB here
#     The team watches were cheap    and NOUN here: one of the two must be wrong
#
# So count, for every beginning, how often its last word has each tag.  For the made-up
# sentences, of which many begin alike, that is a true ceiling.  Real sentences hardly
# ever begin alike, and counting them would say nothing.


def left_to_right_ceiling(sentences):
    """The best accuracy over the words of `sentences` for who sees no later word."""
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


# Fixed, so that the trial is the same whatever flags the run has.
TRIAL = {
    "task": "tag",
    "quick": False,
    "epochs": 4,
    "batch_size": 64,
    "lr": 0.02,
    "clip": 1.0,
    "weight_decay": 0.0,
    "patience": 0,
    "optimizer": "adam",
    "accumulate": 1,
    "precision": "fp32",
    "no_packing": False,
}


def run_small_trial(args):
    """Train and compare the two small taggers: their accuracies, name -> number.

    Used here and written later: `answer_all`, `truth_of`, `score`, `compare_right` and
    `print_columns` (section 4), `load_sentences` and `batch_of` (5).  Their names say
    what they do.
    """
    small = Namespace(**{**vars(args), **TRIAL})
    source = utils.Source("sample", utils.SAMPLES / "tagged.conllu", real=False)
    data = load_sentences(small, source)
    config = {
        "words": len(data.vocabulary),
        "once": data.once,
        "classes": len(data.labels),
        "letters": False,  # no word of the test part is new
        "cell": f"lstm, {BOTH}",
        "hidden": 32,
        "layers": 1,
        "dropout": 0.2,
    }
    # The same with one direction, and with the hidden size that makes up for it.
    cells = [f"lstm, {BOTH}", f"lstm, {FORWARDS}"]
    shapes = utils.cells_of_equal_size(Tagger, config, cells)
    truth = truth_of(data, TEST, small)  # (M,)
    models = {}
    sizes = {}
    answers = {}  # name -> scores (M, C)
    for name, shape in zip((BOTH, FORWARDS), shapes.values(), strict=True):
        models[name], _ = train_model(shape, data, small)
        weights = utils.count_parameters(models[name])
        sizes[name] = {"hidden": shape["hidden"], "weights": weights}
        answers[name] = answer_all(models[name], data, TEST, small)
    answers["linear, a word on each side"] = linear_tagger(
        data, TEST, small, after=True
    )
    answers["commonest tag of a word"] = most_frequent_tag(data, TEST)
    rows = {}
    for name, scores in answers.items():
        found = score(scores, data, TEST, small)
        kept = {key: found[key] for key in ("accuracy", "ambiguous_accuracy")}
        rows[name] = kept | sizes.get(name, {})
    sentences = [*data.parts[TRAIN], *data.parts[VAL], *data.parts[TEST]]
    rows["ceiling, left to right"] = {"accuracy": left_to_right_ceiling(sentences)}
    title = f"The small trial: {len(sentences):,} made-up sentences"
    utils.print_table(f"{title}, {len(truth):,} words to test", rows)
    print("The ceiling is the most that any reader from left to right can reach, over")
    print("all the sentences; on a part of them luck may lift it a little.  The linear")
    print("model sees one word of the future: that is much, and not always enough.")
    right = {name: scores.argmax(1) == truth for name, scores in answers.items()}
    compare_right(BOTH, right[BOTH], FORWARDS, right[FORWARDS])
    ambiguous, _ = kinds_of_words(data, TEST)  # (M,)
    wrong = ~right[FORWARDS]
    print(f"{FORWARDS} is wrong {wrong.sum():,} times,", end=" ")
    print(f"{(wrong & ambiguous).sum():,} of them at words that have several tags.")
    print("These sentences are made so that what stands before such a word tells")
    print("nothing about its tag.  Real text is kinder to a reader from the left.")
    show_opening(models, data, small)
    return {name: row["accuracy"] for name, row in rows.items()}


@torch.no_grad()
def show_opening(models, data, args):
    """Print how the models (name -> model) tag the two sentences of the opening."""
    known = set(data.labels)
    if not all(known.issuperset(tags_of(sentence)) for sentence in OPENING):
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
    for name, (first, second) in chances_of.items():
        if FORWARDS in name and first == second:
            print(f"{name}: twice the same, since up to watches it has read the same.")
            print("Which of the two it leans to is a guess.")
    # Has training shown them this, or must they find it out?
    uses = count_tags(data.parts[TRAIN])["watches"]
    print(f"In training watches is {uses['VERB']:,} times VERB,", end=" ")
    print(f"{uses['NOUN']:,} times NOUN.")
    if not uses:
        print(
            "So it is a new word, <unk>: only its letters and its neighbours can tell."
        )


# --- when reading backwards is cheating -----------------------------------------------
#
# The rule is not about the task, it is about the answer.  What is there in full before
# the answer is due may be read from both ends: a review, a sentence that is to be
# translated, the finished weeks before a forecast.  What is still to be answered may
# not be read:
#
#     forecasting    at day t, the value of day t + 1: it is what b_t has just read
#     streaming      speech while it is spoken, a text while it is typed: what comes
#                    later is not there yet
#     writing        each word of a text that is being made (lessons 08 to 10)
#
# Reading it there is a leak.  It does not show in training, where all is known and the
# scores look wonderful.  It does not show on validation or test either, if these are
# cut from the same finished series.  It shows on the day when one really has to
# forecast.
#
# There is a test that any network can be put to, trained or not.  Change a later input:
# if an earlier answer changes, the network has looked ahead.  (The opening sentences
# did that to f_3 and b_3.)
#
# To see the leak, let two networks forecast what nobody can: a coin.  Each is fed
# tosses 1 to 8, and at toss t has to name toss t + 1.

JUDGED = 20_000  # series of tosses that the forecasts are judged by


def forecast_a_coin(cell):
    """Train a network to forecast the next toss of a coin.

    It is fed eight tosses of nine, and after toss t has to say toss t + 1.  Returns its
    accuracy at each toss (8,), and by how much its answers after tosses 1 to 7 change
    if toss 8 is another.
    """
    torch.manual_seed(7)
    reader = Reader(1, cell, 8, layers=1, dropout=0.0)
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
    tosses = torch.randint(2, (JUDGED, 9))  # new ones
    x = tosses[:, :8].unsqueeze(2).float()  # (JUDGED, T, 1)
    lengths = torch.full((JUDGED,), 8)
    changed = x.clone()
    changed[:, 7] = 1 - x[:, 7]  # toss 8 is the other side of the coin
    with torch.no_grad():
        scores = output(reader(x, lengths))  # (JUDGED, T, 2)
        others = output(reader(changed, lengths))
    right = (scores.argmax(2) == tosses[:, 1:]).float().mean(0)  # (T,)
    return right, apart(scores[:, :7], others[:, :7])


def show_cheating():
    """Print how well each kind of reader "forecasts" the toss of a coin."""
    print("\nWhen is reading backwards cheating?  Two networks forecast a coin.  Fed")
    print("eight tosses, they must name the next one at each.  How often right?")
    print(f"  {'':<18}tosses 2 to 8   toss 9, not fed   earlier scores, toss 8 changed")
    for direction in (FORWARDS, BOTH):
        right, looked = forecast_a_coin(f"gru, {direction}")  # any cell would do
        first = right[:7].mean()
        print(f"  {direction:<18}{first:>9.3f}{right[7]:>16.3f}             {looked}")
    spread = 3 * 0.5 / JUDGED**0.5  # three standard deviations of a share of guesses
    print(f"  (Guessing {JUDGED:,} times gives {0.5 - spread:.3f} to", end=" ")
    print(f"{0.5 + spread:.3f}, nearly always.)")
    print(
        "Nobody can forecast a coin: whoever does has looked.  b_t, the state from the"
    )
    print(
        "right, has read the next toss.  Where it is the future, at toss 9, nothing is"
    )
    print("left of that.  The last column is a test for any network: equal, or a leak.")


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# Which figures?  accuracy and macro_f1 as in lesson 04: the share of right answers, and
# the mean of F1 over all classes.  For tags, every real word is an answer, and accuracy
# is also taken on two kinds of words apart:
#
#     ambiguous    words that have several tags in training: context must decide
#     unseen       words that training does not have: letters and context must decide
#
# Not every word with several tags is a riddle; one odd use in training makes it one of
# them.  Of EWT's 15,241, 10,234 have the same tag in nine uses of ten, or in more.
#
# Which rivals?  For tags those of section 3: the commonest tag of each word, and linear
# models told of the word before, or of the words before and after.  For reviews those
# of lesson 05, linear models that count words and runs of words.


def tag_scores(model, batches, args):
    """The scores at every real word, sentence after sentence as in the file: (M, C)."""
    found = [None] * batches.n
    with torch.no_grad(), utils.autocast(args):
        for batch in batches:  # its sentences may come in any order
            scores = model(batch).cpu()  # (B, T, C)
            for row, sentence in enumerate(batch["index"].tolist()):
                length = int(batch["text_length"][row])
                found[sentence] = scores[row, :length]  # padding left out
    return torch.cat(found)


def answer_all(model, data, part, args):
    """The model's scores for all M answers of a part: (M, C)."""
    batches = data.val if part == VAL else data.test
    if args.task == "tag":
        return tag_scores(model, batches, args)
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
        ambiguous, unseen = kinds_of_words(data, part)
        if ambiguous.any():
            found["ambiguous_accuracy"] = right[ambiguous].mean().item()
        if unseen.any():
            found["unseen_accuracy"] = right[unseen].mean().item()
    return found


def baselines(data, part, args):
    """The rivals' scores on a part: name -> (M, C)."""
    if args.task == "classify":
        return utils.review_baselines(data.parts[TRAIN], data.parts[part], data.labels)
    return {
        "most_frequent_tag": most_frequent_tag(data, part),
        "linear_before": linear_tagger(data, part, args, after=False),
        "linear_before_after": linear_tagger(data, part, args, after=True),
    }


def compare_right(ours, our_right, theirs, their_right):
    """Print McNemar's test (lesson 04) of two models on the same items, in words.

    It takes items for independent.  Words of one sentence are not quite that, so for
    tags a p just below 0.05 should convince nobody.
    """
    # our_right, their_right (N,): bool.  Where both are right, or both wrong, nothing
    # is learned of who is better: only the two counts of the rest go into the test.
    only_ours, only_theirs, p = utils.mcnemar(our_right, their_right)
    print(f"Right where the other is wrong: {ours} {only_ours:,} times,", end=" ")
    print(f"{theirs} {only_theirs:,} times.")
    # p comes first: if it is not small, the larger count has not won.
    if p >= 0.05:
        verdict = "chance may well do that: the two cannot be told apart"
    elif only_ours > only_theirs:
        verdict = f"more than chance: {ours} wins"
    else:
        verdict = f"more than chance: {theirs} wins"
    # When p is as small as that, its digits tell nothing more.
    shown = "below 1e-12" if p < 1e-12 else f"= {p:.2g}"
    print(f"McNemar's test: p {shown}, {verdict}.")


# --- answers beside the truth ---------------------------------------------------------


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


def marked(answers, truth):
    """Each answer with a tick or a cross before it."""
    found = []
    for answer, right in zip(answers, truth, strict=True):
        mark = "✔" if answer == right else "✘"
        found.append(f"{mark} {answer}")
    return found


def show_sentences(scores, data):
    """Print six short test sentences, tagged: three all right, three with a mistake."""
    _, unseen = kinds_of_words(data, TEST)  # (M,)
    answers = scores.argmax(1).tolist()
    right = []
    wrong = []
    place = 0  # of a word among all words of the part
    for sentence in data.parts[TEST]:
        words = []
        said = []
        for word, _ in sentence:
            words.append(f"  {word}*" if unseen[place] else f"  {word}")
            said.append(data.labels[answers[place]])
            place += 1
        truth = tags_of(sentence)
        if 4 <= len(sentence) <= 6 and max(map(len, words)) <= 14:
            rows = {"": words, "truth": [f"  {tag}" for tag in truth]}
            rows["answer"] = marked(said, truth)
            if said == truth:
                right.append(rows)
            else:
                wrong.append(rows)
    print(f"\n{data.source.label}: test sentences (* training does not have this word)")
    for kind in (right, wrong):
        for rows in kind[:: max(1, len(kind) // 3)][:3]:
            print_columns(rows)
    print(f"Of the sentences as short as these {len(right):,} are all right,", end=" ")
    print(f"{len(wrong):,} have a mistake.")


def show_reviews(scores, data):
    """Print ten test reviews from all over the part: the answer, the truth."""
    rows = data.parts[TEST]
    chances = scores.softmax(1)  # (N, C)
    print(f"\n{data.source.label}: ten test reviews, the answer, the truth")
    for place in range(0, len(rows), max(1, len(rows) // 10)):
        text, truth = rows[place]
        answer = data.labels[int(chances[place].argmax())]
        mark = "✔" if answer == truth else "✘"
        said = f"{answer} ({chances[place].max():.0%})"
        start = " ".join(text.split())[:48]
        print(f"  {mark} {said:<12} {truth:<6} {start} ...")


# --- the report -----------------------------------------------------------------------


# Names of people and places are often tagged in the form called IOB: B-PER begins the
# name of a person, I-PER goes on with it, O is no name.  Most words are O, so accuracy
# flatters: who finds half of every name has found none.  So whole names are counted:
#
#     truth    Anna/B-PER Berg/I-PER is/O in/O Rome/B-LOC
#     answer   Anna/B-PER Berg/O     is/O in/O Rome/B-LOC
#
# Two names are there, two were given, one is right.  Precision is the share of the
# given names that are right, 1 / 2; recall the share of the true ones that were found,
# 1 / 2; and F1 is 2 * precision * recall / (precision + recall).


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


def name_scores(true_tags, given_tags):
    """Precision, recall and F1 of whole names.

    true_tags, given_tags: a list of tags for each sentence.
    """
    true = 0  # names that are there
    given = 0  # names that were answered
    right = 0  # names that are both: the same words, the same kind
    for tags, answered in zip(true_tags, given_tags, strict=True):
        wanted = names_in(tags)
        said = names_in(answered)
        true += len(wanted)
        given += len(said)
        right += len(wanted & said)
    # Sums over all sentences first, then one division: not a mean of means.
    precision = right / given if given else 0.0
    recall = right / true if true else 0.0
    f1 = 2 * right / (true + given) if true + given else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}


def score_names(answers, data):
    """Scores of whole names in the test part, {model: scores}; {} if tags are not IOB.

    answers: name of a model -> scores of each tag for each test word, (M, C).
    """
    if not any(label.startswith("B-") for label in data.labels):
        return {}
    true_tags = [tags_of(sentence) for sentence in data.parts[TEST]]
    rows = {}
    for name, scores in answers.items():
        # The M answers stand in one row; each sentence takes as many as it has words.
        said = iter(data.labels[number] for number in scores.argmax(1).tolist())
        given_tags = [[next(said) for _ in tags] for tags in true_tags]
        rows[name] = name_scores(true_tags, given_tags)
    utils.print_table("The same answers, whole names counted", rows)
    return rows


def report(model, config, records, data, args, trial):
    """The table on test beside its rivals, the answer in words, and metrics.json."""
    ours = config["cell"]
    scores = answer_all(model, data, TEST, args)  # (M, C)
    if args.task == "tag":
        show_sentences(scores, data)
        show_opening({ours: model}, data, args)
    else:
        show_reviews(scores, data)

    # The table: our model, its rivals, and for the made-up sentences the ceiling.
    answers = {ours: scores} | baselines(data, TEST, args)  # name -> (M, C)
    rows = {name: score(said, data, TEST, args) for name, said in answers.items()}
    known = {name: row["accuracy"] for name, row in rows.items() if name != ours}
    best_rival = max(known, key=known.get)
    made_up = data.source.name == "sample"
    if args.task == "tag" and made_up:
        sentences = [*data.parts[TRAIN], *data.parts[VAL], *data.parts[TEST]]
        known["left_to_right_ceiling"] = left_to_right_ceiling(sentences)
        rows["ceiling, left to right"] = {"accuracy": known["left_to_right_ceiling"]}
    unit = "words" if args.task == "tag" else "reviews"
    truth = truth_of(data, TEST, args)  # (M,)
    utils.print_table(f"{data.source.label}: test, {len(truth):,} {unit}", rows)
    metrics = {f"test_{name}": value for name, value in rows[ours].items()}
    if args.task == "tag" and (whole := score_names(answers, data)):
        for name, value in whole[ours].items():
            metrics[f"test_name_{name}"] = value
    our_right = scores.argmax(1) == truth
    compare_right(ours, our_right, best_rival, answers[best_rival].argmax(1) == truth)
    if args.task == "tag":
        ambiguous, unseen = kinds_of_words(data, TEST)
        metrics["test_ambiguous_words"] = int(ambiguous.sum())
        metrics["test_unseen_words"] = int(unseen.sum())
        print(f"{ambiguous.sum():,} of them have several tags in training,", end=" ")
        print(f"{unseen.sum():,} do not occur in it.")
        before = known["linear_before"]
        after = known["linear_before_after"]
        print(f"One word of the future: without it the linear model has {before:.4f},")
        print(f"with it {after:.4f}.")
        show_what_helps(model, config, data, args)
    if made_up:
        print("These texts are made up.  On real ones the table looks otherwise: see")
        print('"on the real data" at the head of this script.')
    explain(args.task, trial)

    checked = score(answer_all(model, data, VAL, args), data, VAL, args)
    metrics["val_accuracy"] = checked["accuracy"]
    metrics["trial_both_accuracy"] = trial[BOTH]
    metrics["trial_forwards_accuracy"] = trial[FORWARDS]
    words = int(data.train.lengths["text_length"].sum())
    size = utils.count_parameters(model)
    utils.write_metrics(
        args, data.source, metrics, known, size, records, words, "tokens"
    )


def show_what_helps(model, config, data, args):
    """Print how well the same weights tag without letters, and without neighbours."""
    sentences = data.parts[TEST]
    alone = [[pair] for sentence in sentences for pair in sentence]  # one word each
    taken = {"all that there is": (sentences, True)}
    if config["letters"]:
        taken["without letters"] = (sentences, False)
    taken["without neighbours"] = (alone, True)
    rows = {}
    for name, (asked, letters) in taken.items():
        batches = Sentences(asked, data.vocabulary, data.labels, args, train=False)
        if not letters:
            batches.letter_table[:] = batches.letter_table[0]  # the two marks alone
        rows[name] = score(tag_scores(model, batches, args), data, TEST, args)
    utils.print_table("What tells?  The same weights on test, asked", rows, "asked")
    print("Trained without letters, the network would lean more on neighbours; that is")
    print("what --char-features none tries.")


# Two directions against one with as many weights on the real data, as recorded on
# another processor.  Two trainings take many minutes, so they are no part of this run.
#
#     classify   --seed 0, 1 and 2, and the same with --unidirectional --hidden-size 156
#     tag        --task tag --compare direction, which judges on validation

RECORDED = {
    "classify": [
        "IMDB, test, three seeds: 0.8998 to 0.9015 in both directions, against 0.8935",
        "to 0.8939 forwards only.  It is little, and not settled: by chance alone, three",
        "runs all beat three others once in 20 times, and the run at the head of this",
        "script, on its processor and with a later version, has 0.8979.",
    ],
    "tag": [
        "EWT, validation, seed 0: 0.9503 in both directions, against 0.9258 forwards",
        "only.  Right where the other is wrong: 950 words against 335, p below 1e-12.",
        "(With three seeds, both directions were between 0.9487 and 0.9503.)  A linear",
        "model that is told the next word has 0.9345 there: more than the network that",
        "never sees it.",
    ],
}


def explain(task, trial):
    """Print the answer to the title, in words."""
    print("\nWhat does the future of a sentence tell?")
    # First the trial of this very run: made so that what comes later decides, and with
    # as many weights forwards as in both directions.
    print("Where only a later word decides, it tells what no look to the left can.  In")
    print(f"the small trial, with as many weights, {trial[BOTH]:.1%} of the tags were")
    print(f"right in both directions, {trial[FORWARDS]:.1%} forwards only.")
    # Then real text.  The tasks differ: a tag is given at word t, when a reader from
    # the left has seen t words; a verdict on a review, when it has seen all.
    if task == "tag":
        print("In real text many words are settled by themselves and by the words")
        print("before them, so there is less to gain.  Still a third of the mistakes")
        print("went, as recorded at equal weights on another processor:")
    else:
        print("For one answer a text it tells little: whoever reads from left to right")
        print("has read all of it, too, before the answer is due.  The second")
        print("direction only lets each word be seen in the light of what follows.")
        print("As recorded at equal weights on another processor:")
    # Not measured in this run: two trainings would take too long.
    for line in RECORDED[task]:
        print(f"  {line}")
    print("And where the future is not there yet, nobody may ask it.")


# What came of it?  Taggers like this one got one layer more on top, a conditional
# random field (CRF), which also knows which tag may follow which.  ELMo (Peters and
# others, 2018) trained two readers on a great deal of text first, one from each side,
# and lent their states to other tasks.  BERT (Devlin and others, 2019) has no readers
# any more: each word looks at all words on both sides at once, by the attention of
# lesson 09.  Where text or speech comes as a stream, one waits for a few words and
# reads only those backwards.


# --- pictures -------------------------------------------------------------------------
#
# On which words does an answer rest?  How much would its score change if the vector of
# this or that word changed a little?  That is the length of a gradient, as in lesson
# 04.  A row of the picture is an answer: a tag, or the class of a review.  Of a tagger
# that reads forwards only, everything to the right of the diagonal is empty.


def what_answers_rest_on(model, batch):
    """Of a batch of one: how much each answer rests on each word, rows sum to 1."""
    x = model.vectors(batch).detach().requires_grad_()  # (1, T, E)
    # On a GPU, cuDNN keeps no gradient in eval mode; without it there is one.
    with torch.backends.cudnn.flags(enabled=False):
        scores = model.answer(x, batch["text_length"])[0]  # (C,), for tags (T, C)
    rows = []
    for best in scores.amax(-1).reshape(-1):  # the score of each answer given
        (gradient,) = torch.autograd.grad(best, x, retain_graph=True)  # (1, T, E)
        rows.append(gradient[0].norm(dim=1))  # (T,)
    pulls = torch.stack(rows)  # (1, T), for tags (T, T)
    return (pulls / pulls.sum(1, keepdim=True)).cpu()


# What the picture is of, without --predict.
EXAMPLES = {
    "classify": "They can watch it, but it is no joy to watch.",
    "tag": " ".join(words_of(OPENING[1])),
}


def draw(model, config, records, data, args):
    """Pictures: training, and what answers rest on."""
    about = f"{data.source.label}, {config['cell']}"
    panels = {"loss": ["loss", "val_loss"], "accuracy": ["accuracy", "val_accuracy"]}
    title = f"Training, {about}"
    utils.plot_records(args, "training", title, {about: records}, panels)
    text = args.predict[0] if args.predict else EXAMPLES[args.task]
    words, batch = encode_text(text, data, args)
    words = words[:40]  # more could not be read
    utils.plot_matrix(
        args,
        "what_matters",
        f"What answers rest on, {about}",
        what_answers_rest_on(model, batch)[:40, :40],
        rows=words if args.task == "tag" else ["the answer"],
        columns=words,
        xlabel="word",
        ylabel="tag of" if args.task == "tag" else "",
        bar="share",
    )
    print("  Reading it: a row shows on which words an answer rests.")


# --- texts of the reader (--predict) --------------------------------------------------
#
# EWT cuts words in its own way: don't is two, do and n't; it's is two, it and 's.  Text
# that a reader gives for tagging is cut likewise, by the first of these that fits:
#
#     \w+?(?=n['’]t\b)        the do of don't
#     n['’]t\b                the n't
#     ['’]\w+                 's, 're, 'll
#     \w+(?:[.-]\w+)*         a word: Time, well-known, 3.5
#     [^\w\s]                 one mark

LETTER = r"[\w\p{M}]"  # \p{M}: marks on letters, as in Hindi
CUT = regex.compile(
    rf"{LETTER}+?(?=n['’]t\b)|n['’]t\b|['’]{LETTER}+|{LETTER}+(?:[.-]{LETTER}+)*|[^\w\s]"
)


def batch_of(words, data, args):
    """A batch of one sentence, given as a list of words."""
    sentence = [(word, data.labels[0]) for word in words]  # any tag: nobody looks at it
    batches = Sentences([sentence], data.vocabulary, data.labels, args, train=False)
    return batches.take(torch.tensor([0]))


def encode_text(text, data, args):
    """A reader's text -> (its words, a batch of one)."""
    if args.task == "tag":
        words = CUT.findall(text)
        return words, batch_of(words, data, args)
    tensors = utils.encode_texts([text], data.vocabulary, MAX_LENGTH)
    words = data.vocabulary.decode(tensors["text"][0].tolist())
    batches = utils.Batches(tensors, 1, args.device)
    return words, batches.take(torch.tensor([0]))


@torch.no_grad()
def print_predictions(model, data, args):
    """--predict: the class of each text, or the tag of each of its words."""
    print()
    for text in args.predict:
        words, batch = encode_text(text, data, args)
        cut = words if args.task == "tag" else utils.split_words(text)
        utils.say_unknown([word.lower() for word in cut], data.vocabulary)
        chances = model(batch)[0].softmax(-1)  # (C,), or (T, C)
        if args.task == "tag":
            tags = [data.labels[number] for number in chances.argmax(1).tolist()]
            pairs = zip(words, tags, strict=True)
            print(" ".join(f"{word}/{tag}" for word, tag in pairs))
        else:
            answer = data.labels[int(chances.argmax())]
            print(f"{answer} {chances.max():.1%}: {text}")


# ====================================================================================
# 5. Command line
# ====================================================================================
#
# From here on it is machinery: files, batches, flags.  The lesson itself is over;
# `main` at the end is its table of contents.
#
# --- files of tagged words ------------------------------------------------------------
#
# The form of EWT's files is called CoNLL-U: a line for each word, ten columns with a
# tab between them, an empty line after each sentence.  Two of the columns matter here:
#
#     # text = They can't wait.                 a comment: passed over
#     1     They   they   PRON   ...            column 2 the word, column 4 its tag
#     2-3   can't  _      _      ...            how 2 and 3 are written: passed over
#     2     ca     can    AUX    ...
#
# Data of your own (--input) may also have two columns or more, of which the first is
# the word and the last its tag.
CONLLU = (10, True)  # how many columns, and whether tabs stand between them
COMMENT = re.compile(r"#\s*(sent_id|text|newdoc|newpar|global\.columns)\b")


def is_no_data(line, shape, first_shape):
    """Whether a line is a comment, or the -DOCSTART- that some files have.

    A word may be "#".  So a line that begins with # is a comment if it says what
    comments of CoNLL-U say, or if its columns are not those of the lines before.
    """
    if line.startswith("-DOCSTART-") or COMMENT.match(line):
        return True
    return line.startswith("#") and shape != first_shape


def find_columns(sentences, shape):
    """Which cells of a line hold the word and the tag: two places, from 0.

    sentences: lists of lines, each a list of cells.  Some files number the words of a
    sentence in their first column; then the word is second, and its tag third.
    """
    if shape == CONLLU:
        return 1, 3
    # With two columns there is no room for a number beside word and tag.
    if shape[0] > 2:
        # Is the first column "1", "2", "3", ... in each sentence?  In all of them: the
        # only word of a short one may be a 1 by chance.  Cells are text, hence str.
        numbered = True
        for sentence in sentences:
            numbers = [cells[0] for cells in sentence]
            counted = [str(k + 1) for k in range(len(sentence))]
            if numbers != counted:
                numbered = False
        if numbered:
            print("  found: the first column numbers the words; tags are in the third")
            return 1, 2
    return 0, -1  # -1: the last, however many columns there are


def read_tagged(path):
    """Sentences of a file of tagged words: each a list of (word, tag).

    Raises UserError, which names the line, if one is neither a word and its tag nor a
    line of CoNLL-U.
    """
    sentences = []
    sentence = []  # of lines, each a list of cells
    first_shape = None  # (columns, tabs?) of the first word's line: all must be like it
    for number, line in enumerate(utils.read_text(path).split("\n"), start=1):
        if not line.strip():  # an empty line ends a sentence
            sentences.append(sentence)
            sentence = []
            continue
        has_tabs = "\t" in line
        cells = line.split("\t") if has_tabs else line.split()
        cells = [cell.strip() for cell in cells]
        shape = (len(cells), has_tabs)
        if is_no_data(line, shape, first_shape):
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
        sentence.append(cells)
    sentences.append(sentence)  # the last one, if no empty line follows it
    sentences = [sentence for sentence in sentences if sentence]
    if not sentences:
        raise utils.UserError(f"{path} holds no tagged words")
    word, tag = find_columns(sentences, first_shape)
    return [[(cells[word], cells[tag]) for cells in sentence] for sentence in sentences]


def load_tagged(args, source):
    """Training, validation, test: three lists of sentences, each a list of (word, tag).

    EWT comes in three parts.  Everything else is split 80/10/10 by the words of a
    sentence, so that the same sentence never stands in two parts (lesson 04: a leak).
    """
    if source.name == "ewt":
        names = ("train", "dev", "test")
        files = [source.path / f"en_ewt-ud-{name}.conllu" for name in names]
        parts = [read_tagged(path) for path in files]
    else:
        sentences = read_tagged(source.path)
        keys = [" ".join(words_of(sentence)) for sentence in sentences]
        parts = utils.three_parts(sentences, keys, source.path)
    return [
        utils.capped(args, part, most)  # fewer under --quick
        for part, most in zip(parts, utils.QUICK_PARTS, strict=True)
    ]


# --- from texts to batches ------------------------------------------------------------

MAX_VOCAB = 15_000  # words of reviews that are known; rarer ones are <unk>


def choose_bucket(args, train):
    """By which tensor's lengths texts are sorted into batches, to save padding.

    None under --no-packing, on validation and test: there padding is to be seen.
    """
    return None if args.no_packing and not train else "text"


class Sentences(utils.Batches):
    """Batches of tagged sentences that also hold the letters of each word.

    The letters of each different word are kept once, as a row of `letter_table`.  A
    sentence holds the numbers of its rows, "spelling" (B, T), and `take` fetches them.
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
        bucket = choose_bucket(args, train)
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
    once: int  # words from this id on stand in training only once
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
    # Frequent words come first; so those that came once are the last of the list.
    once = len(utils.Vocabulary.build(lines, min_freq=2))
    labels = set()
    for part in parts:
        for sentence in part:
            labels.update(tags_of(sentence))
    labels = sorted(labels)
    return Texts(
        source,
        parts,
        vocabulary,
        once,
        labels,
        train=Sentences(parts[0], vocabulary, labels, args, train=True),
        val=Sentences(parts[1], vocabulary, labels, args, train=False),
        test=Sentences(parts[2], vocabulary, labels, args, train=False),
    )


def load_reviews(args, source):
    """Reviews with a label each, cut into words as in lesson 05, as Texts."""
    reviews = utils.load_reviews(args, source)
    vocabulary = utils.review_vocabulary(reviews, MAX_VOCAB)
    parts = []
    batches = []
    for part in reviews.parts:  # training comes first
        parts.append(list(zip(part.texts, part.labels, strict=True)))
        tensors = utils.encode_reviews(part, len(vocabulary), MAX_LENGTH)
        classes = [reviews.labels.index(label) for label in part.labels]
        tensors["label"] = torch.tensor(classes)  # (N,)
        train = len(batches) == 0
        bucket = choose_bucket(args, train)
        batches.append(
            utils.Batches(tensors, args.batch_size, args.device, train, bucket)
        )
    once = len(vocabulary)  # none: with so many texts, rare words are <unk> already
    return Texts(source, parts, vocabulary, once, reviews.labels, *batches)


# --- flags ----------------------------------------------------------------------------

REAL = {"classify": "imdb", "tag": "ewt"}
SAMPLE = {"classify": "reviews.csv", "tag": "tagged.conllu"}
# What a flag is if the reader does not give it.
DEFAULTS = {
    "classify": {
        "epochs": 3,
        "batch_size": 64,
        "hidden_size": 100,
        "lr": 0.005,
        "dropout": 0.5,
    },
    "tag": {
        "epochs": 9,
        "batch_size": 32,
        "hidden_size": 128,
        "lr": 0.005,
        "dropout": 0.4,
    },
}


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    own = "CSV with text,label; for --task tag CoNLL-U, or lines of a word and its tag"
    utils.add_data_flags(parser, [*REAL.values(), "sample"], own, ("text", "label"))
    utils.add_training_flags(  # None: by task, from DEFAULTS
        parser, epochs=None, batch_size=None, hidden_size=None, lr=None, dropout=None
    )
    add = parser.add_argument_group("this lesson").add_argument
    add(
        "--task",
        choices=list(DEFAULTS),
        default="classify",
        help="one answer a review (default), or a tag for each word",
    )
    add("--cell", choices=list(CELLS), default="lstm", help="default lstm")
    add("--unidirectional", action="store_true", help="read forwards only")
    add(
        "--no-packing",
        action="store_true",
        help="do not tell the reader where texts end: it reads through the padding",
    )
    add(
        "--char-features",
        choices=["cnn", "none"],
        default="cnn",
        help="filters over the letters of words to tag (default), or words alone",
    )
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
    return utils.choose_dataset(
        args, [real], {"sample": utils.SAMPLES / SAMPLE[args.task]}
    )


def new_model(data, args):
    """(config, feeds) of a new model: how to build it, and what feeds it."""
    # Cell and direction are one entry, "lstm, both directions": so --compare direction
    # can change it as other lessons change the cell.
    direction = FORWARDS if args.unidirectional else BOTH
    config = {
        "words": len(data.vocabulary),
        "classes": len(data.labels),
        "cell": f"{args.cell}, {direction}",
        "hidden": args.hidden_size,
        "layers": args.num_layers,
        "dropout": args.dropout,
    }
    # Only the Tagger takes these two: from which id on words came only once, and
    # whether it reads letters.
    if args.task == "tag":
        config["once"] = data.once
        config["letters"] = args.char_features == "cnn"
    # Saved beside the weights, which mean nothing for other words, labels or task:
    # `load_model` refuses a model whose feeds are not these.
    feeds = {
        "dataset": data.source.name,
        "task": args.task,
        "vocabulary": data.vocabulary.tokens,
        "labels": data.labels,
    }
    return config, feeds


def load_model(feeds, data, args):
    """(model, config) of --path, for `--eval-only`."""
    model, config, saved = utils.load(
        args, NETWORKS[args.task], dataset=data.source.name, task=args.task
    )
    # Words are numbered by the training part.  Other texts: other numbers, and what is
    # test here may have been training there.
    if saved != feeds:
        raise utils.UserError(
            f"{args.path} was trained on other texts; give the data and flags of that "
            "training"
        )
    model.reader.knows_lengths = not args.no_packing
    return model, config


def compare_directions(config, data, args):
    """`--compare direction`: two directions against one that has as many weights."""
    truth = truth_of(data, VAL, args)  # (M,)
    models = {}
    right = {}

    def train(shape):
        model, records = train_model(shape, data, args)
        scores = answer_all(model, data, VAL, args)  # (M, C)
        models[shape["cell"]] = model
        right[shape["cell"]] = scores.argmax(1) == truth
        return model, records, score(scores, data, VAL, args)

    both = f"{args.cell}, {BOTH}"
    forwards = f"{args.cell}, {FORWARDS}"
    shapes = utils.cells_of_equal_size(
        NETWORKS[args.task], {**config, "cell": both}, [both, forwards]
    )
    others = {
        name: score(scores, data, VAL, args)
        for name, scores in baselines(data, VAL, args).items()
    }
    utils.compare_variants(args, data.source, shapes, train, others)
    if len(right) == 2:  # neither diverged
        compare_right(both, right[both], forwards, right[forwards])
        if args.task == "tag":
            show_opening(models, data, args)
    print("Reading it: one seed; try others before you trust a small difference.")


def show_data(data, args):
    """Print how much there is to learn from, and one example of it."""
    sizes = " / ".join(f"{len(part):,}" for part in data.parts)
    print(f"\n{data.source.label}: {sizes} texts to train, validate, test;", end=" ")
    words = len(data.vocabulary) - 2  # <pad> and <unk> are no words
    print(f"{words:,} different words known")
    if data.source.name == "sample":
        print("(These texts are made up, so that the order of their words decides.)")
    if args.task == "tag":
        show_tags(data)
        show_one_sentence(data)
    else:
        show_one_review(data)


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
    config, feeds = new_model(data, args)
    if args.compare:
        return compare_directions(config, data, args)

    # 1. Data: the question, on five words.
    show_what_has_been_read()

    # 2. The model: as one would write it, what it does inside, padding, letters.
    show_two_directions_in_pytorch()
    show_two_cells()
    show_reading_backwards()
    show_what_padding_does()
    show_reader_equals_packing()
    if args.task == "tag":
        show_one_filter()
        show_filters_by_hand()

    # 3. Training: what from, what counts, a trial in seconds, where two directions are
    #    cheating; then the real thing.
    show_data(data, args)
    show_loss_of_real_words()
    trial = run_small_trial(args)
    show_cheating()
    records = []
    if args.eval_only:
        model, config = load_model(feeds, data, args)
    else:
        print(f"\nTraining on {source.label}: one line an epoch")
        model, records = train_model(config, data, args, feeds)

    # 4. Evaluation: what does it say, how good is it, what does it rest on?
    report(model, config, records, data, args, trial)
    if not args.no_plots:
        draw(model, config, records, data, args)
    if args.predict:
        print_predictions(model, data, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
