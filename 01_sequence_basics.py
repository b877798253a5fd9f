"""01 · What is a sequence, and why does its order need a network of its own?

A sequence is a row of items in which the places matter: the letters of a
name, the words of a sentence, the temperatures of a year.  "Dog bites man" and "man
bites dog" are the same three words; only their order tells who was bitten.

Here the items are letters, and the first question is the plainest that order can
decide: does A come before B?  Two models that you could have thought of yourself try it
first.  You see where each of them stops.  Then comes a recurrent neural network (RNN):
it reads one item at a time and keeps a few numbers in mind, its hidden state.  A second
question shows what such a network is needed for.

What you will learn
    - what a sequence looks like, and how it becomes a table of numbers
    - what adding the items up, and a linear layer over all of them, can know of order,
      and what neither can know
    - one step of a recurrent network with pencil and numbers: two weight matrices, the
      hidden state, why tanh; then many steps, and what PyTorch's nn.RNN returns
    - a training loop, every line with its reason
    - what a trained network really notes down: not what you would expect
    - how far back the network remembers, and why not further: the door to lessons 04
      and 05
    - how sequences of different length share one table (padding, mask, packing), how
      that spoils a mean and a last state, and how both are mended

You need Python, and what a linear layer is: y = W x + b, each output a sum of all
inputs, each times a weight, plus a number of its own, the bias.  A tensor is PyTorch's
table of numbers; its shape says how many there are in each direction: (2, 3) is two
rows of three.

How to read it: run it once, and lay file and output side by side.  What the output
calls 2.3 stands in the file below "--- 2.3".  Read the comment there, then the output,
then the code.  Functions called show_... or print_... mostly print; where you are short
of time, skip their code, but not that of show_why_tanh.

Run it
    python 01_sequence_basics.py
    python 01_sequence_basics.py --quick     fewer data, for a first look; other numbers
    python 01_sequence_basics.py --sequence-length 20 --batch-size 16
    (Parts 4.2, 4.3 and 4.7 stay at 12 letters, whatever that flag says.)

You should see  (seed 0, one thread, about 10 seconds in all; two lines of a table)
    model      parameters   train_loss   test_accuracy   6 steps   18 steps   24 steps
    rnn               138       0.0006          1.0000    1.0000     0.9700     0.6900
    by hand            12            -          1.0000    1.0000     1.0000     1.0000
    parameters are the numbers that training may change; train_loss says how wrong the
    model still was at the end of training (0.6931 is guessing, 0 is sure and right).
    The other columns are shares of right answers to the first question: on 400
    sequences of 12 letters that were held out from training, then on shorter and longer
    ones.  "by hand" is a recurrent network whose weights you will have worked out
    yourself.  The table's title says "generated [sample]": the data are made up by the
    program.

Try this  (guess first, then run; answers at the end of section 4)
    HAND_W_HH = 1.0         change that line in section 2.  Which words of part 2.3 go
                            wrong, and why?  What becomes of "by hand"?
    --sequence-length 40    does the linear layer keep up?  How far does the recurrent
                            network now reach beyond the length of its training?
    --sequence-length 100   A and B may stand anywhere in 100 letters.  Is that learned?
                            Part 4.7 also has 100 letters: what is different there?
    --batch-size 1600       all training sequences in every update: are 12 updates
                            enough?
    --seed 1                which accuracies could change, and which cannot?
"""

# Sizes
#     B  batch (sequences computed together)     T  time (steps of a sequence)
#     F  features (numbers that describe a step; here 5, one for each letter A to E)
#     H  hidden state (numbers that the network remembers; here 8)
#     N  sequences of one part of the data
#
# A step is always one letter of a sequence.  One change of the weights in training is
# called an update.

import math
import random
import sys
import time
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import rnn_utils as utils

LETTERS = ".ABCDE"  # a letter's place here is its id: A 1, B 2, ...; the dot: part 4.9
FEATURES = 5  # A, B, C, D, E
HIDDEN = 8
PAIRS = 1000  # pairs of twins; see part 1.1
OTHER_PAIRS = 200  # for tests on other lengths; and all that --quick has
EPOCHS = 12  # passes over the training sequences
FEW = 160  # sequences, for the training with few examples in part 4.3
FEW_EPOCHS = 75
WAIT = 88  # fillers that follow the 12 letters in part 4.7: 100 steps in all
WAIT_EPOCHS = 3  # more change nothing: part 4.7 names recorded runs
LEARNING_RATE = 0.01


def yes_or_no(fact):
    """For comparisons of what we wrote by hand with PyTorch's or utils' own."""
    return "yes" if fact else "NO"


def listed(numbers):
    """Numbers side by side, with three places: "0.000  0.462"."""
    # + 0.0 turns a zero with a minus sign, which is a zero too, into a plain one.
    return "  ".join(f"{number + 0.0:>6.3f}" for number in numbers)


# ====================================================================================
# 1. Data
# ====================================================================================
#
# --- 1.1 twins ------------------------------------------------------------------------
#
# Every sequence holds one A, one B, and fillers drawn from C, D and E.  Its label, the
# right answer, is 1 if A comes before B, else 0.  Nothing but the order shall give the
# answer away.  So each sequence has a twin, in which A and B have changed places:
#
#     CEADCB   label 1
#     CEBDCA   label 0
#
# Twins hold the same letters, each as often.  Whoever tells them apart must have looked
# at the order.  There are two ways to answer: remember which of the two came first, or
# remember which came last.  (If the last one is a B, the A must have stood before it.)
#
# The data are made up for that reason: in real texts many things hint at the answer,
# and one never knows which of them a model has used.
#
# A sequence of letters, as text, is called a word in this file.


def make_words(length, pairs):
    """Sequences as text, twins side by side: ["CEADCB", "CEBDCA", ...].

    The random numbers have a seed, a number to start from, of their own: the same
    numbers in each run.  --seed changes how the networks start, never the data.
    """
    generator = random.Random(20240103)
    words = []
    seen = set()
    for _ in range(pairs):
        letters = generator.choices("CDE", k=length)
        places = sorted(generator.sample(range(length), 2))  # two places, left first
        letters[places[0]] = "A"
        letters[places[1]] = "B"
        word = "".join(letters)
        # A short word may be drawn twice.  (Of 200 pairs of six letters, 14 are.)  Kept
        # twice, it could stand in training and among the held-out ones, and would only
        # have to be remembered.
        if word in seen:
            continue
        seen.add(word)
        words.append(word)
        words.append(twin_of(word))
    return words


def twin_of(word):
    """The word with A and B exchanged: "CEADCB" -> "CEBDCA"."""
    return word.translate(str.maketrans("AB", "BA"))


def print_twins(words):
    """Print the first two twins of this run, and how often each letter occurs."""
    utils.heading("1.1 Two twins: what a sequence looks like")
    for word in words[:2]:
        counts = "  ".join(f"{letter} {word.count(letter)}" for letter in "ABCDE")
        label = label_of(word)
        print(f"  {word}   {counts}   label {label}: {first_letter(label)} first")
    print("Reading it: the same letters, each as often.  Only the order differs.")


# --- 1.2 from letters to numbers ------------------------------------------------------
#
# A network computes with numbers, so letters must become numbers.  An id (A 1, B 2, ...
# E 5) would be the shortest way, but it says that E is five times as much as A, and
# that B lies between A and C.  Letters have no such order.  So each letter becomes five
# numbers, one for each question "is it an A?", "is it a B?", ...: a 1 for yes, a 0 for
# no.  That is called one-hot.  The numbers that describe one step are its features.
# Other sequences have other features: a day's temperature is F = 1; its temperature,
# rain and wind are F = 3; a word of a text may have 300 (lesson 02).
#
# A sequence is then a table with one row a step and one column a feature, (T, F).  B
# sequences of equal length, computed together, are a batch: a tensor (B, T, F).


def encode(word):
    """A word as a list of ids: "CAB" -> [3, 1, 2]."""
    return [LETTERS.index(letter) for letter in word]


def one_hot(ids):
    """Ids (B, T) -> one-hot (B, T, F).  A dot, id 0, becomes a step of five zeros."""
    # nn.functional.one_hot makes six columns, one for each id from 0 to 5.  Column 0 is
    # that of the dot (padding, part 4.9); we drop it.
    with_dot = nn.functional.one_hot(ids, len(LETTERS))  # (B, T, 6)
    # The three dots in the index mean: all of B and T.  1: means: from column 1 on.
    return with_dot[..., 1:].float()  # (B, T, F)


def show_a_table():
    """Print two twins on their way from text to tensor, the one-hot table by hand."""
    utils.heading("1.2 From letters to numbers")
    words = ["CAB", "CBA"]
    print(f"  as text        {words[0]:<22}{words[1]}")
    print(f"  as ids         {encode(words[0])!s:<22}{encode(words[1])}")
    print("  one-hot        is it A  B  C  D  E   is it A  B  C  D  E ?")
    tables = []  # of each word: a list of rows
    for word in words:
        table = []
        for letter in word:
            row = []
            for question in "ABCDE":
                row.append(1 if letter == question else 0)
            table.append(row)
        tables.append(table)
    for step in range(3):
        shown = f"    step {step + 1}       "
        for word, table in zip(words, tables, strict=True):
            numbers = "  ".join(str(number) for number in table[step])
            shown += f"{word[step]}     {numbers}   "
        print(shown.rstrip())
    print("Reading it: the same three rows, in another order.")
    x = one_hot(torch.tensor([encode(word) for word in words]))  # (2, 3, 5)
    same = torch.equal(x, torch.tensor(tables, dtype=torch.float))
    print(f"As a batch they are a tensor (B, T, F) = {tuple(x.shape)}.")
    print(f"one_hot, which does it fast, makes the same tables: {yes_or_no(same)}.")


# --- 1.3 what is learned from, and what is asked about --------------------------------
#
# The data are split: four fifths are for training; the rest, the test set, is held out.
# At the end the model is asked about these sequences, which it has never seen.  Twins
# go to the same side.  Else the network could have learned a held-out sequence's twin
# by heart.  (Later lessons choose among settings by what a run scores, and need a third
# part of the data for that.  No run of this lesson chooses anything.)


def split(words):
    """Training and held-out words, 80 : 20, cut between two pairs of twins."""
    pairs = len(words) // 2
    cut = 2 * round(0.8 * pairs)  # an even number: no pair is torn apart
    return words[:cut], words[cut:]


class Examples(NamedTuple):
    """Sequences of equal length, as text and as tensors."""

    words: list  # N texts
    x: torch.Tensor  # (N, T, F)
    labels: torch.Tensor  # (N,): 1 where A comes first, else 0


def label_of(word):
    """The right answer: 1 if A comes before B, else 0."""
    a_is_first = word.index("A") < word.index("B")
    return 1 if a_is_first else 0


def first_letter(label):
    """Which of A and B comes first, by the label."""
    return "A" if label == 1 else "B"


def to_examples(words, device="cpu"):
    """Words of equal length -> Examples.

    The device is what holds the tensors and computes: "cpu", the processor, or a
    graphics card.
    """
    ids = torch.tensor([encode(word) for word in words])  # (N, T)
    labels = torch.tensor([label_of(word) for word in words])  # (N,)
    return Examples(words, one_hot(ids).to(device), labels.to(device))


def print_parts(train, test):
    """Print how many sequences there are to learn from and to be asked about."""
    utils.heading("1.3 The data of this run")
    print(f"{len(train.words)} sequences to learn from: x {tuple(train.x.shape)}.")
    print(f"{len(test.words)} held out, to be asked about at the end.")
    share = test.labels.float().mean().item()
    print(f"Always answering 1 is right for {share:.4f} of them: that is guessing.")


# ====================================================================================
# 2. Model
# ====================================================================================
#
# Each model turns a sequence x (T, F) into two scores: one for the answer 0, "B comes
# first", and one for 1, "A comes first".  The higher score is its answer.  (With two
# answers one score would do.  One score for each answer also works for the 18 languages
# of lesson 04.)
#
# --- 2.1 first rival: add the steps up ------------------------------------------------
#
# What could you try without knowing of recurrent networks?  A linear layer takes a
# fixed number of inputs, and a sequence has T steps.  So make one row of all T: add
# them up.  The sum of one-hot steps says how often each letter occurs.  It fits any
# length.  But twins have equal sums, and whatever is computed from equal things is
# equal: both twins get the same answer, which is right for one of them and wrong for
# the other.  Half of the answers are right, whatever the weights.
#
# The model below has two linear layers and a ReLU between them: ReLU turns every number
# below 0 into 0.  Without such a bend, two linear layers would be no more than one.


class SumClassifier(nn.Module):
    """Adds the steps up, then two linear layers: x (B, T, F) -> scores (B, 2)."""

    def __init__(self):
        super().__init__()  # from here on nn.Module collects the weights of our layers
        # Sixteen units in between, so that it has about as many weights as the others:
        # it shall not lose for being small.
        self.first = nn.Linear(FEATURES, 16)
        self.second = nn.Linear(16, 2)

    def forward(self, x):
        total = x.sum(dim=1)  # (B, F): time is gone, and with it the order
        middle = torch.relu(self.first(total))  # (B, 16)
        return self.second(middle)  # (B, 2)


def show_the_sum():
    """Print the sums of two twins, and what an untrained SumClassifier says of them."""
    utils.heading("2.1 First rival: add the steps up")
    twins = to_examples(["CAB", "CBA"])
    for word, table in zip(twins.words, twins.x, strict=True):
        total = table.sum(dim=0).int().tolist()  # how many A, B, C, D, E
        print(f"  {word}: the rows of its table, added up: {total}")
    torch.manual_seed(1)
    # no_grad: nothing is trained here, so PyTorch need not note down what training
    # would need (section 3 says what that is).
    with torch.no_grad():
        scores = SumClassifier()(twins.x)  # (2, 2)
    for word, pair in zip(twins.words, scores.tolist(), strict=True):
        print(f"  {word}: two scores, untrained model: {pair[0]:.3f}, {pair[1]:.3f}")
    print("Reading it: equal sums, so equal scores, so equal answers.  One of the two")
    print("is wrong, before training and after it.")


# --- 2.2 second rival: one linear layer on all T x F numbers --------------------------
#
# The second idea: keep all T * F numbers, write them one after the other, and give them
# to one linear layer.  Now each letter at each place has a weight of its own, and order
# can be learned.  With a weight of minus the place for an A, and of plus the place for
# a B, the weighted sum is (place of B) - (place of A): above 0 where A comes first.
#
# So a linear layer *can* answer this question.  What it pays:
#     - The number of inputs is built in.  A layer for 3 steps cannot take 4.  (You
#       could fill short sequences up with zeros to a greatest length.  Then it takes
#       them.  But that length must be fixed beforehand, and the weights of places that
#       few examples reach stay nearly untrained.)
#     - The weights grow with the length: 2 scores * T * F.
#     - "A at place 2" and "A at place 3" are strangers to it, with a weight each.  What
#       it has learned about one says nothing about the other, so it needs examples of
#       a letter at every place.
#     - It can only add.  A letter adds the same number whatever stands beside it.  Part
#       4.2 asks a question for which that is not enough.


class LinearClassifier(nn.Module):
    """One linear layer over all T * F numbers: x (B, T, F) -> scores (B, 2)."""

    def __init__(self, length):
        super().__init__()
        self.output = nn.Linear(length * FEATURES, 2)

    def forward(self, x):
        return self.output(x.flatten(start_dim=1))  # (B, T * F) -> (B, 2)


def show_the_linear_layer():
    """Print a linear layer with weights set by hand: that it works, and its price."""
    utils.heading("2.2 Second rival: one linear layer on all T x F numbers")
    layer = nn.Linear(3 * FEATURES, 1)  # one score is enough to see it
    with torch.no_grad():  # again: we set the weights ourselves
        # A method whose name ends in _ changes the tensor itself: zero_ fills it with
        # zeros; fill_ and copy_, further down, with other numbers.
        layer.weight.zero_()
        layer.bias.zero_()
        for place in (1, 2, 3):
            start = (place - 1) * FEATURES  # where the five inputs of this place begin
            layer.weight[0, start] = -place  # the first of the five: is it an A?
            layer.weight[0, start + 1] = place  # the second: is it a B?
    print("Weights set by hand, for T = 3 (one row a place, one column a letter):")
    print("             A    B    C    D    E")
    for place in (1, 2, 3):
        start = (place - 1) * FEATURES
        weights = layer.weight[0, start : start + FEATURES].tolist()  # five numbers
        print(f"  place {place}  {'  '.join(f'{weight:>3.0f}' for weight in weights)}")
    twins = to_examples(["CAB", "CBA"])
    scores = layer(twins.x.flatten(start_dim=1)).flatten().tolist()  # two numbers
    print(f"  CAB: A at 2, B at 3: -2 + 3 = {scores[0]:+.0f}, above 0: A comes first")
    print(f"  CBA: B at 2, A at 3: +2 - 3 = {scores[1]:+.0f}, below 0: B comes first")
    print("So it can know the order.  But a fourth letter, CABD:")
    try:
        layer(to_examples(["CABD"]).x.flatten(start_dim=1))
    except RuntimeError as error:
        print(f"  PyTorch: {error}")
    print("  (it got 4 * 5 = 20 numbers and has weights for 15)")


# --- 2.3 the recurrent step -----------------------------------------------------------
#
# What would you do with a long row of letters and little paper?  Read from left to
# right, and keep a short note: "A was first".  At each letter you look at two things,
# the letter and your note, and you write the new note.  That is a recurrent network.
# The note is a list of H numbers, the hidden state h; each of the H is called a hidden
# unit.
#
#        C             A             B             the letters, one a step
#        |             |             |
#       x_1           x_2           x_3            F numbers each
#        | W_ih        | W_ih        | W_ih        W_ih: input to hidden
#        v             v             v
#      +----+  W_hh  +----+  W_hh  +----+          W_hh: hidden to hidden
# h_0 -|step|--h_1-->|step|--h_2-->|step|-- h_3 --> linear layer --> 2 scores
#      +----+        +----+        +----+
#      (h_0 is all zeros: nothing has been read yet)
#
# There is one step, with one set of weights, used three times; it is drawn three times
# only because there are three points in time.  The drawing is called the network
# "unrolled".  Three things follow.  The sequence may have any length: use the step once
# more.  The number of weights does not depend on T.  And every example teaches the one
# step, wherever in the sequence its A and B stand, so fewer examples can be enough.
#
# The step itself (Elman, 1990):
#
#     h_t = tanh(W_ih x_t + b_ih  +  W_hh h_(t-1) + b_hh)
#
# W_ih, (H, F), says what each feature of the input does to each number of the state;
# W_hh, (H, H), what each number of the old state does to each number of the new one.
# b_ih and b_hh, (H,), are the two biases.  One would do; PyTorch has two. tanh is a
# curve that squeezes any number into -1 ... 1: tanh(0) = 0, tanh(1) = 0.762, tanh(10) =
# 1.000.  Part 2.4 says what it is for.
#
# Nothing else is kept.  After step 3 the letters are gone; whatever the answer needs
# must be in h_3.
#
# Weights by hand.  Our note for "which came first" needs one number, H = 1: above 0 if
# A came first, below 0 if B did, 0 as long as neither came.
#     W_ih = [2, -2, 0, 0, 0]   an A pushes h up, a B pushes it down, fillers do nothing
#     W_hh = [4]                what h says already counts more than the next letter
# Whoever comes first settles the sign, and the other cannot overturn it: it pushes with
# 2, and h, once near 1 or -1, pushes back with nearly 4.  (After an A, h is 0.964.  So
# anything above 2 / 0.964 = 2.1 would do.)  Follow it with a pencil:

HAND_W_IH = [2.0, -2.0, 0.0, 0.0, 0.0]  # (H, F) with H = 1: A, B, C, D, E
HAND_W_HH = 4.0  # (H, H) = (1, 1)


def step_by_hand(letter, h):
    """One step with the weights by hand: what the letter and the old state push, and
    the new state."""
    # x_t is 1 at this letter and 0 elsewhere, so one weight is left of W_ih x_t.  (To
    # pick one column of a matrix is what lesson 02 calls an embedding.)
    from_input = HAND_W_IH["ABCDE".index(letter)]
    from_hidden = HAND_W_HH * h
    new_h = math.tanh(from_input + from_hidden)  # this line is the network
    return from_input, from_hidden, new_h


def show_one_step():
    """Print the step with weights set by hand, letter by letter, for two twins."""
    utils.heading("2.3 One recurrent step, with numbers")
    w_ih = ", ".join(f"{weight:g}" for weight in HAND_W_IH)
    print("h_t = tanh(W_ih x_t + W_hh h_(t-1)), biases 0,")
    print(f"W_ih = [{w_ih}], W_hh = [{HAND_W_HH:g}].")
    print("x_t is one-hot, so W_ih x_t picks the weight of its letter.")
    all_right = True
    for word in ("CAB", "CBA"):
        print("  letter   W_ih x_t   W_hh h_(t-1)          tanh of the sum = h_t")
        h = 0.0
        for letter in word:
            from_input, from_hidden, new_h = step_by_hand(letter, h)
            print(
                f"    {letter}       {from_input:>4.1f}     "
                f"{HAND_W_HH:g} * {h:>6.3f} = {from_hidden:>6.3f}   "
                f"tanh({from_input + from_hidden:>6.3f}) = {new_h:>6.3f}"
            )
            h = new_h  # the old state is gone
        answer = 1 if h > 0 else 0
        right = answer == label_of(word)
        all_right = all_right and right
        verdict = "right" if right else "WRONG"
        print(
            f"  {word}: h_3 = {h:.3f}, so {first_letter(answer)} came first: {verdict}"
        )
    if all_right:
        print("Reading it: the last letter pushes against h, and loses: h remembers.")
    else:
        print("Reading it: the last letter pushes against h, and wins: h now says")
        print("which came last, and we read it as if it said which came first.")


# --- 2.4 why tanh ---------------------------------------------------------------------
#
# Why not simply h_t = W_ih x_t + W_hh h_(t-1)?  Three things are asked of the curve in
# between, and tanh has them all.
#
#   An end above and below.  Without a curve the state is multiplied by W_hh at each
#   step, and nothing stops it: with W_hh = 4 it grows without end.  A ReLU has no upper
#   end either.
#
#   0 where nothing was read, and both signs.  tanh(0) = 0, so fillers leave an empty
#   note empty.  A ReLU cannot go below 0: "B was first" is lost.  The sigmoid, another
#   curve, lies between 0 and 1 and would make 0.5 of an empty note.
#
#   A bend.  Without a curve, and without biases, three steps are
#       h_3 = W_ih x_3  +  W_hh W_ih x_2  +  W_hh W_hh W_ih x_1
#   That is a weighted sum of all letters, no more than the linear rival has.  For our
#   first question that is enough.  It is not enough where one item changes what another
#   means, as "not" does before "good".  Part 4.2 has such a question.
#
# What tanh does not mend is forgetting: with W_hh below 1 a note fades, with tanh or
# without it.  That is part 4.6.


def show_why_tanh():
    """Print the state of CBACCC with tanh, with nothing, with a ReLU in its place."""
    utils.heading("2.4 Why tanh")
    # Three notes, kept side by side.  0: nothing was read yet.
    h_tanh = 0.0
    h_nothing = 0.0
    h_relu = 0.0
    print("The weights of 2.3.  B comes first, so h should be below 0.")
    print("  letter   h with tanh   with nothing   with a ReLU")
    # One filler first: it leaves all three at 0.  At the B they part.
    for letter in "CBACCC":
        # What the letter pushes with is the same for all three: A 2, B -2, C 0.
        from_input = HAND_W_IH["ABCDE".index(letter)]
        _, _, h_tanh = step_by_hand(letter, h_tanh)
        h_nothing = from_input + HAND_W_HH * h_nothing  # the sum, with no end
        # At the B the sum is -2, and the ReLU makes 0 of it: as if no B had come.  The
        # A that follows then looks like the first.
        h_relu = max(0.0, from_input + HAND_W_HH * h_relu)
        print(f"    {letter}      {h_tanh:>11.3f}   {h_nothing:>12g}   {h_relu:>11g}")
    print("Reading it: the ReLU could not note the B.  With nothing, each filler")
    print("multiplies the state by W_hh.  With tanh it stays between -1 and 1.")


# --- 2.5 several units ----------------------------------------------------------------
#
# Now any input of two features; no letters for once.  With H = 2, each unit has its own
# row of W_ih and its own row of W_hh, and each sees the whole old state.  Written with
# matrices it is the formula above; `@` is the product of a matrix and a vector.


def rnn_step(x, h, w_ih, w_hh, b_ih, b_hh):
    """One recurrent step: input x (F,), old state h (H,) -> new state (H,)."""
    return torch.tanh(w_ih @ x + b_ih + w_hh @ h + b_hh)  # (H,)


def show_two_units():
    """Print one step with two units, every number substituted; compare nn.RNNCell."""
    utils.heading("2.5 The same step with two hidden units")
    x = torch.tensor([1.0, 0.5])  # (F,), F = 2
    h = torch.tensor([0.4, -0.2])  # (H,), H = 2
    cell = nn.RNNCell(2, 2)  # PyTorch's step; we give it our weights
    with torch.no_grad():
        cell.weight_ih.copy_(torch.tensor([[1.0, -1.0], [0.5, 0.2]]))  # (H, F)
        cell.weight_hh.copy_(torch.tensor([[0.5, 0.2], [-0.3, 0.8]]))  # (H, H)
        cell.bias_ih.copy_(torch.tensor([0.1, 0.0]))
        cell.bias_hh.zero_()
    print("  x_t = [1.0, 0.5], h_(t-1) = [0.4, -0.2]")
    for unit in (0, 1):
        w_ih = cell.weight_ih[unit].tolist()  # this unit's row of W_ih
        w_hh = cell.weight_hh[unit].tolist()  # and of W_hh
        bias = cell.bias_ih[unit].item()
        from_input = w_ih[0] * 1.0 + w_ih[1] * 0.5
        from_hidden = w_hh[0] * 0.4 + w_hh[1] * -0.2
        total = from_input + from_hidden + bias
        print(f"  unit {unit + 1}")
        products = f"{w_ih[0]:.1f} * 1.0 + {w_ih[1]:.1f} * 0.5"
        print(f"    W_ih x   {products} = {from_input:.2f}")
        products = f"{w_hh[0]:.1f} * 0.4 + {w_hh[1]:.1f} * -0.2"
        print(f"    W_hh h   {products} = {from_hidden:.2f}")
        print(f"    bias     {bias:.1f}")
        print(f"    tanh of their sum, {total:.2f}: {math.tanh(total):.3f}")
    with torch.no_grad():
        # The parameters of a cell come in the order W_ih, W_hh, b_ih, b_hh.  The star
        # hands them over one by one.
        ours = rnn_step(x, h, *cell.parameters())  # (2,)
        theirs = cell(x, h)  # (2,)
    same = torch.allclose(ours, theirs, rtol=0, atol=1e-6)
    print(f"  rnn_step says {ours[0]:.3f} and {ours[1]:.3f}.", end="  ")
    print(f"nn.RNNCell says the same: {yes_or_no(same)}.")


# --- 2.6 many steps: nn.RNN -----------------------------------------------------------
#
# Time needs a loop: step t waits for the state of step t - 1.


def rnn_by_hand(x, w_ih, w_hh, b_ih, b_hh):
    """Read one sequence x (T, F) from left to right -> every state (T, H)."""
    h = torch.zeros_like(b_hh)  # (H,): h_0, nothing has been read
    states = []
    for x_t in x:
        h = rnn_step(x_t, h, w_ih, w_hh, b_ih, b_hh)  # (H,), the same weights each time
        states.append(h)
    return torch.stack(states)  # (T, H)


# nn.RNN is that loop, in fast code and for a whole batch.  It takes x (B, T, F) and
# returns two tensors, and it is easy to mix them up:
#
#     states  (B, T, H)   the state after *every* step
#     h_n     (1, B, H)   the state after the *last* step of each sequence
#
#                 step 1    step 2    step 3
#     CAB          h_1       h_2      [h_3]      states: all of them
#     CBA          h_1       h_2      [h_3]      h_n: those in brackets
#
# The 1 in h_n counts layers: several recurrent layers may be stacked, each reading the
# states of the one below (lesson 04).  We have one.  PyTorch counts it from 0 and calls
# its weights weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: W_ih, W_hh and the
# biases of layer 0.  batch_first=True says that the batch comes first; without it
# nn.RNN wants (T, B, F).  A first state of your own may be given: rnn(x, h_0); without
# it h_0 is zeros.
#
# To answer one question about a whole sequence, take the last state: states[:, -1] and
# h_n[0] are the same numbers.  (In a batch of sequences of different length they are,
# for the short ones, the same *wrong* numbers.  Part 4.10 mends that.)


class RNNClassifier(nn.Module):
    """Reads step by step, then a linear layer on h_T: x (B, T, F) -> scores (B, 2)."""

    def __init__(self, hidden=HIDDEN, features=FEATURES):
        super().__init__()
        self.rnn = nn.RNN(features, hidden, batch_first=True)
        self.output = nn.Linear(hidden, 2)

    def forward(self, x):
        states, _ = self.rnn(x)  # (B, T, H)
        # The last column is right here: all sequences of a batch are equally long.
        return self.output(states[:, -1])  # (B, H) -> (B, 2)


def classifier_by_hand():
    """An RNNClassifier of one hidden unit, with the weights that we worked out."""
    model = RNNClassifier(hidden=1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.rnn.weight_ih_l0.copy_(torch.tensor([HAND_W_IH]))  # (1, 5)
        model.rnn.weight_hh_l0.fill_(HAND_W_HH)  # (1, 1)
        model.output.weight[0, 0] = -1.0  # the score of "B comes first" is -h_T,
        model.output.weight[1, 0] = 1.0  # that of "A comes first" is +h_T
    return model


def show_what_rnn_returns():
    """Print both outputs of nn.RNN for two twins, with the weights set by hand."""
    utils.heading("2.6 Many steps: what nn.RNN returns")
    model = classifier_by_hand()
    twins = to_examples(["CAB", "CBA"])
    with torch.no_grad():
        states, h_n = model.rnn(twins.x)  # (2, 3, 1) and (1, 2, 1)
        scores = model.output(h_n[0])  # (2, 2)
    print(f"states, h_n = nn.RNN(5, 1, batch_first=True)(x), x {tuple(twins.x.shape)}")
    print(f"  states, {tuple(states.shape)}: the state after every step")
    for word, values in zip(twins.words, states[:, :, 0].tolist(), strict=True):
        print(f"    {word}   {listed(values)}")
    print(f"  h_n, {tuple(h_n.shape)}: the last state of each sequence")
    for word, value in zip(twins.words, h_n[0, :, 0].tolist(), strict=True):
        print(f"    {word}   {value:>6.3f}")
    print("  two scores from h_n: -h for 'B comes first', +h for 'A comes first'")
    for word, pair in zip(twins.words, scores.tolist(), strict=True):
        answer = first_letter(1 if pair[1] > pair[0] else 0)
        print(f"    {word}   {pair[0]:>6.3f} {pair[1]:>6.3f}   answer: {answer} first")
    print("Reading it: the numbers of part 2.3.  h_n is the last column of states.")
    with torch.no_grad():
        # rnn.parameters() come in the order W_ih, W_hh, b_ih, b_hh.
        ours = rnn_by_hand(twins.x[0], *model.rnn.parameters())  # (3, 1)
    same = torch.allclose(ours, states[0], rtol=0, atol=1e-6)
    print(f"rnn_by_hand, our own loop, has the same states for CAB: {yes_or_no(same)}.")


# --- 2.7 how many numbers each model has to learn -------------------------------------
#
# Weights and biases together are a model's parameters.  For T = 12 the models have
# about equally many, so none of them wins by size.  Count them with a pencil, here the
# recurrent one with H = 8: W_ih is H * F = 8 * 5 = 40, W_hh is H * H = 8 * 8 = 64, each
# of the two biases H = 8; the output layer, from 8 to 2, has 16 weights and 2 biases.


def show_sizes():
    """Print the parameters of each model, counted with a pencil and by PyTorch."""
    utils.heading("2.7 How many numbers each model has to learn")
    rows = (
        ("sum, any T", "80 + 16 + 32 + 2", SumClassifier()),
        ("linear, T = 12", "2 * 12 * 5 + 2", LinearClassifier(12)),
        ("linear, T = 100", "2 * 100 * 5 + 2", LinearClassifier(100)),
        ("rnn, any T", "40 + 64 + 8 + 8 + 16 + 2", RNNClassifier()),
        ("by hand, any T", "5 + 1 + 1 + 1 + 2 + 2", classifier_by_hand()),
    )
    print(f"  {'model':<15}   {'with a pencil':<24}   PyTorch counts")
    for name, terms, model in rows:
        print(f"  {name:<15}   {terms:<24}   {utils.count_parameters(model):>14,}")


# ====================================================================================
# 3. Training
# ====================================================================================
#
# The weights start as small random numbers; training changes them until the answers are
# right.
#
# Whoever has trained a network in PyTorch before may go on with 3.3.
#
# --- 3.1 how wrong is an answer?  The loss --------------------------------------------
#
# The loss is one number that says how wrong the model is.  Two scores become
# probabilities: take e to the power of each, and divide by their sum (softmax).  The
# loss of one sequence is minus the logarithm of the probability of its *right* label,
# called cross-entropy: sure and right costs 0, a guess costs -ln 0.5 = 0.693, sure and
# wrong costs much.


def show_loss():
    """Print two scores, their probabilities and the loss, for both possible labels."""
    utils.heading("3.1 How wrong is an answer?  The loss")
    scores = torch.tensor([0.2, 1.2])
    powers = scores.exp()  # (2,): e to the power of each score
    chances = powers / powers.sum()  # (2,)
    print("One sequence, its two scores, and what they cost:")
    print("  answer          score   e^score   probability   loss if this is right")
    for label, answer in enumerate(("B first", "A first")):
        print(
            f"  {label}, {answer:<10}   {scores[label]:>5.1f}   "
            f"{powers[label]:>7.3f}   {chances[label]:>11.3f}   "
            f"{-chances[label].log():>8.3f}"
        )
    # cross_entropy wants a batch, here of one: scores (1, 2), labels (1,).
    theirs = nn.functional.cross_entropy(scores.unsqueeze(0), torch.tensor([1]))
    print(f"  nn.functional.cross_entropy for label 1: {theirs:.3f}")


# --- 3.2 one update -------------------------------------------------------------------
#
# The gradient says, for each weight, how the loss changes if the weight grows a little.
# PyTorch computes it, working from the loss back to the weights: `backward`.  An update
# then moves each weight a little *against* its gradient, so that the loss falls.  The
# learning rate says how far.


def show_one_update():
    """Print an update of a model of one weight, and a forgotten zero_grad."""
    utils.heading("3.2 One update of a model of one weight")
    weight = torch.tensor(1.0, requires_grad=True)  # requires_grad: it shall be trained
    optimizer = torch.optim.SGD([weight], lr=0.1)  # the plainest rule of an update
    print("The model says w * 2, w = 1; it should say 3.  Learning rate 0.1.")
    loss = (weight * 2 - 3) ** 2  # the square of what is missing: 0 where w = 1.5
    print(f"  forward     1 * 2 = 2, loss (2 - 3)^2 = {loss.item():.0f}")
    loss.backward()
    # The chain rule: 2 * (what is missing) * (what w is multiplied by).
    print(f"  backward    gradient 2 * (2 - 3) * 2 = {weight.grad.item():.0f}")
    optimizer.step()
    print(f"  step        w = 1 - 0.1 * (-4) = {weight.item():.1f}")
    loss = (weight * 2 - 3) ** 2
    print(f"  forward     1.4 * 2 = 2.8, loss (2.8 - 3)^2 = {loss.item():.2f}: lower")
    # Now the mistake: backward once more, with the old gradient still in place.
    loss.backward()
    both = weight.grad.item()
    utils.say(
        """The gradient there is 2 * (2.8 - 3) * 2 = -0.8.  But `backward` adds to what
        is there already:"""
    )
    print(f"  without zero_grad    {both:.1f}, that is -4 + -0.8")
    optimizer.zero_grad()  # and how it should be: clear first
    loss = (weight * 2 - 3) ** 2  # once more, for backward has used up the first one
    loss.backward()
    print(f"  with zero_grad       {weight.grad.item():.1f}")


# --- 3.3 the training loop ------------------------------------------------------------
#
# One pass over all training sequences is called an epoch.  It goes batch by batch, with
# one update for each.


def train_epoch(model, optimizer, x, y, batch_size):
    """One pass over x (N, T, F) and y (N,) in random batches; returns the mean loss."""
    total = 0.0
    # A new order each pass, or every batch would hold the same sequences again.
    for chosen in torch.randperm(len(x)).split(batch_size):
        # Forward: what does the model say now?  Calling it calls its `forward`.
        scores = model(x[chosen])  # (B, 2): one for "B is first", one for "A is first"
        # Loss: one number, low where the right label has the higher score.  This one is
        # -ln(probability of the right label), averaged: ln 2 = 0.693 for a guess.
        loss = nn.functional.cross_entropy(scores, y[chosen])
        # zero_grad: `backward` adds to the gradients that are there.  Without this line
        # an update would follow the sum of all gradients since the start.
        optimizer.zero_grad()
        # Backward: how does the loss change if a weight grows a little?  In a recurrent
        # network the answer travels back through all T steps.
        loss.backward()
        # Step: change each weight a little, against its gradient: the loss falls.
        optimizer.step()
        # The loss is a batch's mean, and the last batch may be smaller: weigh it.
        # .item() makes a plain number of it, which no longer holds on to the
        # computation behind it.
        total += loss.item() * len(chosen)
    return total / len(x)


def train(model, x, y, batch_size, epochs=EPOCHS):
    """So many epochs with Adam; returns a record of each: number, loss, seconds."""
    # Adam (Kingma and Ba, 2015) is a rule of update that gives each weight a learning
    # rate of its own.
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    records = []
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        loss = train_epoch(model, optimizer, x, y, batch_size)
        spent = time.perf_counter() - start
        records.append({"epoch": epoch, "loss": loss, "seconds": spent})
    return records


def new_model(name, length):
    """An untrained model by its name."""
    if name == "sum":
        return SumClassifier()
    if name == "linear":
        return LinearClassifier(length)
    if name == "two layers":  # part 4.2
        return TwoLayerClassifier(length)
    return RNNClassifier()


def train_from_seed(name, examples, args, epochs=EPOCHS):
    """Build and train one model; returns it with its records."""
    # The seed is the number from which the random starting weights are made.  Seeded
    # here and not once for all, so that a model's result does not depend on which
    # others were trained before it.
    utils.set_seed(args.seed)
    length = examples.x.shape[1]
    model = new_model(name, length).to(args.device)
    records = train(model, examples.x, examples.labels, args.batch_size, epochs)
    return model, records


def train_all(examples, args):
    """Train the two rivals and the recurrent network: two dicts, models and records."""
    utils.heading("3.3 Training the three models")
    updates = math.ceil(len(examples.words) / args.batch_size)
    print(f"{EPOCHS} epochs of {updates} updates.  Mean loss:")
    print("  model     epoch 1    epoch 2    epoch 4    epoch 8    the last")
    models = {}
    all_records = {}
    for name in ("sum", "linear", "rnn"):
        model, records = train_from_seed(name, examples, args)
        models[name] = model
        all_records[name] = records
        losses = [record["loss"] for record in records]
        # Some epochs are enough to see the course; it is drawn in training.png.
        shown = [losses[0], losses[1], losses[3], losses[7], losses[-1]]
        print(f"  {name:<7}" + "".join(f"   {loss:>8.4f}" for loss in shown))
    utils.say(
        """Reading it: a guess costs 0.6931.  With any weights, the sum gives twins
        equal scores, so that on average over both it cannot pay less than a guess."""
    )
    return models, all_records


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# This section is long.  Its parts:
#     4.1          the result for the first question
#     4.2, 4.3     a second question, and few examples
#     4.4 to 4.7   what the network remembers, how far back, and why not further
#     4.8          the answer to the title
#     4.9, 4.10    tools for the next lessons: sequences of different length
#
# --- 4.1 the result -------------------------------------------------------------------
#
# Accuracy is the share of right answers, on sequences that were held out.  Guessing has
# 0.5, since half of all sequences have label 1.


def answers(model, x):
    """The answers (N,) of a model to x (N, T, F): 1 where it says "A comes first"."""
    with torch.no_grad():
        return model(x).argmax(dim=1)  # (N,): the place of the higher of two scores


def accuracy(model, examples):
    """Share of right answers: their number divided by N."""
    right = answers(model, examples.x) == examples.labels  # (N,)
    return right.sum().item() / len(right)


def print_answers(title, examples, models, numbers):
    """Print answers beside the truth, right ones ✔ and wrong ones ✘."""
    print(title)
    width = max(8, len(examples.words[0]))
    names = "   ".join(f"{name:<7}" for name in models)
    print(f"  {'sequence':<{width}}   truth   {names}".rstrip())
    for number in numbers:
        truth = examples.labels[number].item()
        shown = f"  {examples.words[number]:<{width}}   {first_letter(truth)}    "
        for model in models.values():
            answer = answers(model, examples.x[number : number + 1]).item()
            mark = "✔" if answer == truth else "✘"
            shown += f"   {first_letter(answer)} {mark}    "
        print(shown.rstrip())


def other_lengths(length):
    """Lengths that no model was trained on: half, one and a half, twice as long."""
    return [length // 2, length + length // 2, 2 * length]


def score_lengths(model, length, device):
    """Accuracies on other lengths: {"6 steps": 1.0, ...}, or "cannot"."""
    accuracies = {}
    for steps in other_lengths(length):
        examples = to_examples(make_words(steps, OTHER_PAIRS), device)
        if isinstance(model, LinearClassifier):
            accuracies[f"{steps} steps"] = "cannot"  # it raises an error, see part 2.2
        else:
            accuracies[f"{steps} steps"] = accuracy(model, examples)
    return accuracies


def score_all(models, all_records, test, args):
    """The result table: name of the model -> {name of the column: number}."""
    table = {"guessing": {"parameters": 0, "train_loss": math.log(2)}}
    table["guessing"]["test_accuracy"] = 0.5
    by_hand = classifier_by_hand().to(args.device)
    for name, model in {**models, "by hand": by_hand}.items():
        line = {"parameters": utils.count_parameters(model)}
        line["train_loss"] = "-"
        if name in all_records:  # "by hand" has not been trained
            line["train_loss"] = all_records[name][-1]["loss"]
        line["test_accuracy"] = accuracy(model, test)
        line.update(score_lengths(model, args.sequence_length, args.device))
        table[name] = line
    return table


def report(models, all_records, test, source, args):
    """Print answers and the result table; returns the table."""
    utils.heading("4.1 The result: does the order matter?")
    # Twins stand side by side, so the first six are three pairs.
    print_answers(
        "Held-out sequences, three pairs of twins.  Which comes first, A or B?",
        test,
        models,
        range(min(6, len(test.words))),
    )
    print("Reading it: the sum answers twins alike, once right and once wrong.")
    table = score_all(models, all_records, test, args)
    title = f"{source.label}: {len(test.words)} held-out sequences, then other lengths"
    utils.print_table(title, table)
    of_linear = table["linear"]["test_accuracy"]
    of_rnn = table["rnn"]["test_accuracy"]
    utils.say(
        f"""Reading it: first test_accuracy.  The sum is where guessing is.  The linear
        layer has {of_linear:.4f}, the recurrent network {of_rnn:.4f}."""
    )
    if of_linear >= of_rnn:
        print("So far nobody needs a recurrent network!")
    longest = f"{other_lengths(args.sequence_length)[-1]} steps"
    utils.say(
        f"""Then the other lengths.  The linear layer has no weights for them.  The
        recurrent network can always take one more step.  Whether it *answers* well
        there is another matter: at {longest}, {table["rnn"][longest]:.4f} with the
        weights that training found, {table["by hand"][longest]:.4f} with those by hand.
        Part 4.5 comes back to that."""
    )
    return table


# --- 4.2 a question that no weighted sum can answer -----------------------------------
#
# In the first question an A means the same wherever it stands and whatever stands
# beside it.  In a language it is otherwise.  "Not" turns the next word round: "not bad"
# praises, "not good" does not.  One item changes what another means.
#
# The second question is of that kind: is the letter right behind the A a C, or is it a
# D?  A C counts only where an A stands before it.  So that nothing else can tell, there
# is a B as well, followed by the other of the two letters, and each sequence has three
# twins:
#
#     E A C E B D    label 1         E A D E B C    label 0
#     E B D E A C    label 1         E B C E A D    label 0
#
# Take the four shortest such words, and a linear layer with any weights you like.
# Write a2 for its weight of an A at place 2.  (All scores also get the same bias.)
#
#     label 1    ACBD    a1 + c2 + b3 + d4          label 0    ADBC    a1 + d2 + b3 + c4
#                BDAC    b1 + d2 + a3 + c4                     BCAD    b1 + c2 + a3 + d4
#
# Look at the eight weights on the left, and at those on the right: they are the same
# eight.  So both sides have equal sums.  To be right four times, the layer would need
# two scores above 0 on the left and two below 0 on the right.  No weights can do that.
# (The smallest example of this kind is known as XOR.  One score means here: that of
# label 1 minus that of label 0, which is a weighted sum as well.)
#
# Three of the four it could get.  But then the fourth is so wrong that the mean loss of
# the four is above that of guessing: what the left side gains, the right side pays
# back.  Training lowers the loss, so it stays near guessing: loss about 0.7, accuracy
# about 0.5.  The sum of 2.1 is out at once: all four words hold the same letters.


def make_fours(length, groups):
    """Words for the second question, four twins side by side.

    A group that is drawn twice is kept once: of 500 drawn for 12 letters, 499 are left.
    """
    generator = random.Random(20240104)
    words = []
    seen = set()
    for _ in range(groups):
        fillers = generator.choices("CDE", k=length)
        # Where the two pairs of letters begin.  Drawn one place closer, then moved
        # apart, so that they never overlap.
        one, other = sorted(generator.sample(range(length - 2), 2))
        other += 1
        four = []
        for front, back in (("AC", "BD"), ("AD", "BC"), ("BD", "AC"), ("BC", "AD")):
            letters = list(fillers)
            letters[one : one + 2] = front
            letters[other : other + 2] = back
            four.append("".join(letters))
        if four[0] not in seen:
            seen.update(four)
            words += four
    return words


def behind_the_a(words, device="cpu"):
    """Words -> Examples of the second question: label 1 where a C follows the A."""
    labels = [1 if word[word.index("A") + 1] == "C" else 0 for word in words]
    ids = torch.tensor([encode(word) for word in words])  # (N, T)
    return Examples(words, one_hot(ids).to(device), torch.tensor(labels).to(device))


def show_four_words():
    """Print the scores of a linear layer with random weights for the four words."""
    utils.heading("4.2 A question that no weighted sum can answer")
    print("Is the letter right behind the A a C?  One score, random weights:")
    torch.manual_seed(3)
    layer = nn.Linear(4 * FEATURES, 1)
    sums = []
    for answer, words in (("yes", ["ACBD", "BDAC"]), ("no", ["ADBC", "BCAD"])):
        x = behind_the_a(words).x  # (2, 4, 5)
        with torch.no_grad():
            scores = layer(x.flatten(start_dim=1)).flatten().tolist()  # two numbers
        terms = " + ".join(f"({score:.3f})" for score in scores)
        sums.append(sum(scores))
        print(f"  {answer:<3}   {words[0]}, {words[1]}   {terms} = {sums[-1]:.3f}")
    print(f"Equal sums, but for rounding: {yes_or_no(abs(sums[0] - sums[1]) < 1e-5)}.")


# A third rival can answer it: two linear layers with a ReLU between them.  A unit in
# the middle can look at two places at once: "an A at place 2 *and* a C at place 3".  It
# has to learn that for each pair of neighbours, and it needs more weights.
#
# (You may think of a fourth: count pairs of neighbours, "AC", "AD", ..., in place of
# single letters.  A linear layer on these counts can answer this question at any
# length.  It has a memory of exactly one letter, built in by us.  Put a filler between
# the A and the C, and the counts no longer tell.)
#
# The recurrent network needs no pairs of places.  Its new state is made of the old one
# and the letter together, and bent by tanh, at every step in the same way.  "I have
# just read an A" is a thing that a state can say.


class TwoLayerClassifier(nn.Module):
    """Two linear layers over all T * F numbers: x (B, T, F) -> scores (B, 2)."""

    def __init__(self, length):
        super().__init__()
        self.first = nn.Linear(length * FEATURES, 16)
        self.second = nn.Linear(16, 2)

    def forward(self, x):
        middle = torch.relu(self.first(x.flatten(start_dim=1)))  # (B, 16)
        return self.second(middle)  # (B, 2)


def ask_second_question(args, pairs):
    """Train linear, two layers and rnn on the second question; print their scores.

    Returns the scores by name and both parts of the data, for part 4.3.
    """
    show_four_words()
    words = make_fours(12, pairs // 2)
    cut = 4 * round(0.8 * len(words) / 4)  # no group of four is torn apart
    train_part = behind_the_a(words[:cut], args.device)
    test_part = behind_the_a(words[cut:], args.device)
    longer = behind_the_a(make_fours(24, OTHER_PAIRS // 2), args.device)
    print(f"\nTrained on {cut} sequences of 12 letters, {EPOCHS} epochs; then asked")
    print(f"about {len(words) - cut} others, and {len(longer.words)} of 24 letters:")
    print("  model        parameters   train loss   12 letters   24 letters")
    scores = {}
    for name in ("linear", "two layers", "rnn"):
        model, records = train_from_seed(name, train_part, args)
        scores[name] = accuracy(model, test_part)
        at_longer = "cannot"
        if name == "rnn":
            scores["rnn, longer"] = accuracy(model, longer)
            at_longer = f"{scores['rnn, longer']:.4f}"
        print(
            f"  {name:<10}   {utils.count_parameters(model):>10,}   "
            f"{records[-1]['loss']:>10.4f}   {scores[name]:>10.4f}   {at_longer:>10}"
        )
    utils.say(
        f"""Reading it: a guess is right in 0.5000, with loss 0.6931.  The linear layer
        has {scores["linear"]:.4f}."""
    )
    if scores["linear"] < 0.6 and scores["rnn"] > 0.9:
        utils.say(
            """The recurrent network answers what the linear layer cannot.  A second
            layer answers it too, but with seven times as many weights, and only for 12
            letters."""
        )
    if scores["rnn"] < 0.6:
        print("This run was too short for the network to find its step.")
    utils.say(
        """Recorded with the default flags and seeds 0 to 4: linear 0.4950
        to 0.5075, two layers 0.9700 to 0.9975, rnn 1.0000 each time, and 0.9925 to
        1.0000 on 24 letters."""
    )
    return scores, train_part, test_part


# --- 4.3 few examples -----------------------------------------------------------------
#
# Two layers learn each place by itself.  The recurrent network has one step to learn,
# and every example is about that step.  So with few examples it should be ahead.


def compare_on_few(train_part, test, args):
    """Train two layers and rnn on few sequences of the second question: accuracies."""
    utils.heading("4.3 From few examples")
    # The first 160, with no need to draw: four twins stand side by side, so these are
    # 40 whole groups, and each label has 80.
    few = Examples(
        train_part.words[:FEW],
        train_part.x[:FEW],  # (160, 12, F)
        train_part.labels[:FEW],  # (160,)
    )
    # With batches of 32 an epoch is only 5 updates here, hence more epochs than in 4.2.
    epochs = FEW_EPOCHS // 5 if args.quick else FEW_EPOCHS
    print(f"The second question, {len(few.words)} sequences, {epochs} epochs:")
    accuracies = {}
    # Without the linear layer: more examples did not help it, so fewer will not.
    for name in ("two layers", "rnn"):
        model, records = train_from_seed(name, few, args, epochs)
        accuracies[name] = accuracy(model, test)  # asked the same sequences as in 4.2
        print(f"  {name:<10}   train loss {records[-1]['loss']:.4f}", end="")
        print(f"   accuracy on held-out sequences {accuracies[name]:.4f}")
    utils.say(
        """Reading it: that is one start.  Recorded with the default flags and seeds 0
        to 4, the network was ahead each time: 0.9575 to 1.0000, and two layers 0.8125
        to 0.8625."""
    )
    utils.say(
        """It is no law.  Recorded with 40 sequences and 300 epochs, the network was
        behind in four of five starts: there it had not found its step."""
    )
    return accuracies


# --- 4.4 what does the network note down? ---------------------------------------------
#
# Back to the first question: A before B?  By hand, the note was "which came first".
# Does the trained network keep the same note?
#
# Its 8 units are hard to read.  But there is a way to ask it.  The output layer makes
# two scores of the last state.  It can be applied to *every* state: what would the
# network answer if the sequence ended here?  Take the score of "A comes first" minus
# that of "B comes first".  Above 0 it would say A, below 0 B.  (Before the first A or B
# that score means nothing: training never asked there.)  The picture note.png draws it.


def lead_of_a(model, x):
    """Score of "A first" minus score of "B first", after each step: (N, T)."""
    with torch.no_grad():
        states, _ = model.rnn(x)  # (N, T, H)
        scores = model.output(states)  # (N, T, 2): the layer applied to every state
    return scores[:, :, 1] - scores[:, :, 0]


def without(words, which):
    """Words whose first (or second) of A and B is replaced by the filler C."""
    changed = []
    for word in words:
        places = sorted([word.index("A"), word.index("B")])
        place = places[0] if which == "first" else places[1]
        changed.append(word[:place] + "C" + word[place + 1 :])
    return changed


def first_and_second(words):
    """The places, counted from 0, of the first and of the second of A and B: (N,)."""
    places = [sorted([word.index("A"), word.index("B")]) for word in words]
    first, second = torch.tensor(places).T  # (N,), (N,)
    return first, second


def right_after(leads, labels, places):
    """Share of sequences whose lead has the right sign after the step at `places`."""
    numbers = torch.arange(len(places))
    says_a = leads[numbers, places] > 0  # (N,)
    return (says_a == (labels == 1)).float().mean().item()


def show_the_note(model, test, source, args):
    """Print and draw what the trained network would answer after each step."""
    utils.heading("4.4 What does the network note down?")
    length = args.sequence_length
    stride = max(1, length // 12)  # of a long sequence, print only some steps
    first_place = length // 3 // stride * stride  # counted from 0; is printed
    second_place = 2 * first_place
    letters = ["C"] * length
    letters[first_place] = "A"
    letters[second_place] = "B"
    word = "".join(letters)
    twins = to_examples([word, twin_of(word)], args.device)
    leads = lead_of_a(model, twins.x).tolist()  # two rows of T numbers
    steps = range(1, length + 1, stride)
    print('Score of "A first" minus score of "B first", if the sequence ended here:')
    print("  step   letter    score   letter    score")
    for step in steps:
        shown = f"  {step:>4}"
        for number in (0, 1):
            letter = twins.words[number][step - 1]
            shown += f"     {letter}    {leads[number][step - 1]:>7.1f}"
        print(shown)
    utils.plot_lines(
        args,
        "note",
        f"The network's note, T = {length}: {source.label}",
        {"A, then B": leads[0], "B, then A": leads[1]},
        "letter read",
        'score of "A first" minus "B first"',
        x=range(1, length + 1),
    )
    # The same question for all held-out sequences.
    first, second = first_and_second(test.words)
    leads = lead_of_a(model, test.x).cpu()  # (N, T)
    labels = test.labels.cpu()
    after_first = right_after(leads, labels, first)
    after_second = right_after(leads, labels, second)
    print(f"\nAll {len(test.words)} held-out sequences, share of right signs:")
    print(f"  right after the first of A and B     {after_first:.4f}")
    print(f"  right after the second of them       {after_second:.4f}")
    print("And at the end, if one of the two is replaced by a C.  All of them, then")
    near = length // 2 - 1
    print(
        f"those with at most {near} letters behind the one that is left, and the rest:"
    )
    shares = {}
    few_behind = {}
    for which in ("first", "second"):
        changed = without(test.words, which)
        ids = torch.tensor([encode(word) for word in changed])
        x = one_hot(ids).to(args.device)
        right = (answers(model, x) == test.labels).float().cpu()  # (N,)
        shares[which] = right.mean().item()
        left = "second" if which == "first" else "first"
        place = second if left == "second" else first
        behind = length - 1 - place  # (N,)
        few_behind[which] = right[behind <= near].mean().item()
        print(f"  the {which} replaced, the {left} left  {shares[which]:.4f}", end="")
        for group in (behind <= near, behind > near):
            share = f"{right[group].mean():.4f}" if group.any() else "-"
            print(f"   {share:>6}", end="")
        print()
    last_is_enough = shares["first"] > 0.8 and shares["second"] < 0.6
    if after_first < 0.2 and after_second > 0.8 and last_is_enough:
        utils.say(
            """Reading it: having read only an A, the network would say "B first", and
            having read only a B, "A first".  That looks wrong, but it is not.  Its note
            is not "which came first".  It is "which came *last*".  The second letter
            overwrites the first, and if the last one is a B, then A came first.  Both
            notes answer the question, and nothing in training preferred ours."""
        )
        utils.say(
            f"""The last two lines: a pure note of the last letter would have 1.0000 and
            0.0000 in all columns.  The network has {few_behind["first"]:.4f} and
            {few_behind["second"]:.4f} where few letters stand behind."""
        )
        if shares["second"] > few_behind["second"] + 0.05:
            utils.say(
                """Farther from the end the answers change: the note does not stay as it
                was written.  That is part 4.5."""
            )
    elif after_first > 0.8:
        print('Reading it: its note is "which came first", like ours by hand.')
    else:
        print("Reading it: this note is neither of the two, or it fades too soon.")
    utils.say(
        """Recorded with the default flags and seeds 0 to 4: after the first letter no
        sign was right (0.0000) in any of the five; after the second, 0.9250 to 1.0000
        were.  All five networks note the last letter."""
    )


# --- 4.5 where are the mistakes? ------------------------------------------------------
#
# Back to the table of 4.1.  Trained on 12 steps, the network can be asked about 24, and
# makes mistakes there.  Where are they?  Once the second of A and B has been read, the
# note is written; from there on it must be kept.  So sort the sequences by how many
# letters stand behind the second of A and B.  In training at most T - 2 do.
#
# There are two ways to lose a note.  It *fades*: the states of twins become alike, both
# get one answer, and half of the answers are right.  Or it *drifts*: the states of
# twins stay apart, but both wander across the border between the two answers.  Then
# both answers are wrong, and hardly any is right.
#
# Two numbers tell which of them it is.  The lead: how far is the right answer ahead of
# the wrong one, a certain number of letters after the note was written?  And the
# distance: how far are the states of twins apart there?


def letters_behind(word):
    """How many letters follow the second of A and B: "CAEBCC" -> 2."""
    return len(word) - 1 - max(word.index("A"), word.index("B"))


def score_by_distance(model, examples, length):
    """Accuracy by letters behind: list of (fewest, most, how many, accuracy)."""
    right = (answers(model, examples.x) == examples.labels).tolist()
    behind = [letters_behind(word) for word in examples.words]
    half = (length - 2) // 2
    # For T = 12: 0 to 5, 6 to 10, 11 to 16, 17 to 22.  The first two occur in training.
    limits = [-1, half, length - 2, length - 2 + length // 2, 2 * length - 2]
    scores = []
    for group in range(4):
        below = limits[group]
        most = limits[group + 1]
        here = []
        for is_right, count in zip(right, behind, strict=True):
            if below < count <= most:
                here.append(is_right)
        if here:
            scores.append((below + 1, most, len(here), sum(here) / len(here)))
    return scores


def lead_and_distance(model, examples, count):
    """`count` letters after the second of A and B: how far the right answer is ahead,
    and how far the states of twins are apart.

    Means over all sequences that have so many letters there.
    """
    leads = lead_of_a(model, examples.x).cpu()  # (N, T)
    with torch.no_grad():
        states = model.rnn(examples.x)[0].cpu()  # (N, T, H)
    # Twins stand side by side.  Of the H differences the largest.
    apart = (states[0::2] - states[1::2]).abs().amax(dim=2)  # (N / 2, T)
    _, second = first_and_second(examples.words)
    total_lead = 0.0
    total_apart = 0.0
    long_enough = 0
    for number, place in enumerate(second.tolist()):
        if place + count < leads.shape[1]:
            lead = leads[number, place + count].item()
            total_lead += lead if examples.labels[number] == 1 else -lead
            total_apart += apart[number // 2, place + count].item()
            long_enough += 1
    return total_lead / long_enough, total_apart / long_enough


def print_by_distance(model, test, args):
    """Print where the trained network's mistakes are in sequences twice as long."""
    utils.heading("4.5 Where are the mistakes?")
    length = args.sequence_length
    examples = to_examples(make_words(2 * length, OTHER_PAIRS), args.device)
    utils.say(
        f"""Accuracy, sorted by how many letters stand behind the second of A and B: on
        the test set ({length} letters), and on {2 * length} letters, a length that
        training never had.  The last column counts those of {2 * length}."""
    )
    of_test = {}  # fewest letters -> accuracy
    for fewest, _, _, share in score_by_distance(model, test, length):
        of_test[fewest] = share
    print(
        f"  letters behind   {length:>3} letters   {2 * length:>3} letters   sequences"
    )
    scores = score_by_distance(model, examples, length)
    for fewest, most, count, share in scores:
        shown = f"{of_test[fewest]:.4f}" if fewest in of_test else "-"
        print(f"  {fewest:>5} to {most:<6}   {shown:>11}   {share:>11.4f}   {count:>9}")
    print("\nSo many letters after the second of A and B, in the longer sequences:")
    print("                lead of the right answer   twins' states apart")
    counts = [0, length // 2, length - 2, length, length + length // 3]
    leads = []
    distances = []
    for count in counts:
        lead, distance = lead_and_distance(model, examples, count)
        leads.append(lead)
        distances.append(distance)
        print(f"  {count:>3} letters   {lead:>24.1f}   {distance:>19.2f}")
    near = scores[0][-1]
    far = scores[-1][-1]
    if near - far > 0.05:
        utils.say(
            """Reading it: what is near the end is answered better than what is far.
            Training asked the network to keep its note for a while; nothing made it
            keep it longer."""
        )
        if far < 0.4 and leads[-1] < 0 and distances[-1] > 0.5 * distances[0]:
            utils.say(
                """The lead shrinks and changes its sign, while the twins' states stay
                apart.  So the note does not fade: it drifts across the border, and what
                is far from the end is answered wrongly, not guessed.  Training only saw
                to it that the note was on the right side for the waits that it had."""
            )
    else:
        print("Reading it: hardly worse far from the end than near it, if at all.")
    fewest, most, _, share = scores[min(1, len(scores) - 1)]
    if fewest in of_test and of_test[fewest] - share > 0.05:
        utils.say(
            f"""In the row {fewest} to {most} the same wait goes well in {length}
            letters and less well in {2 * length}.  So that wait is not all that counts:
            the longer sequences also have more letters before and between the two."""
        )
    utils.say(
        """Another start makes other weights.  Recorded with the default flags and seeds
        0 to 4: 1.0000 at 12 steps each time, but 0.5575 to 0.9000 at 24, and each time
        worse where more than 10 letters stand behind.  In part 4.2 a network of this
        kind, trained on 12 letters as well, had 0.9925 to 1.0000 on 24.  Nothing in
        training asked for that either.  What training does not ask for may come out
        well or badly."""
    )


# --- 4.6 the other way to fail: a note fades ------------------------------------------
#
# Part 4.5 looked for drift.  This is fading, and it decides whether a network can learn
# to remember at all.
#
# Take a pencil and one unit: h_t = tanh(0.5 a_t + 0.8 h_(t-1)), where the number a_t is
# 1 at an A and 0 elsewhere.  Its state tells how long ago the A was: tanh(0.5) = 0.462
# right after it, tanh(0.8 * 0.462) = 0.354 one letter later, then 0.276, then 0.217.
#
# At each step h becomes about 0.8 times as large.  So k steps later there is about
# 0.8^k of it: 0.46 * 0.8^11 = 0.040 (0.035 with tanh, which takes a little more away),
# 0.46 * 0.8^99 = 0.00000000012.
#
# A network that starts with small random weights is like that: each step keeps a part
# of the state and loses the rest.


def fading_rnn():
    """nn.RNN of one unit, W_ih = [0.5, 0, 0, 0, 0], W_hh = [0.8], no biases."""
    rnn = nn.RNN(FEATURES, 1, bias=False, batch_first=True)
    with torch.no_grad():
        rnn.weight_ih_l0.zero_()
        rnn.weight_ih_l0[0, 0] = 0.5  # the first feature: is it an A?
        rnn.weight_hh_l0.fill_(0.8)
    return rnn


def show_fading():
    """Print how one unit forgets an A over 99 fillers."""
    utils.heading("4.6 The other way to fail: a note fades")
    print("The unit reads an A, then fillers:")
    x = torch.zeros(1, 100, FEATURES)  # (B, T, F)
    x[0, 0, 0] = 1.0  # step 1 is an A
    with torch.no_grad():
        states, _ = fading_rnn()(x)  # (1, 100, 1)
    for step in (1, 2, 3, 12, 100):
        print(f"  after step {step:>3}   h = {states[0, step - 1, 0]:.2g}")


# --- 4.7 can it learn to wait? --------------------------------------------------------
#
# Can the network keep a note for longer, if training asks for it?  Take the sequences
# of 12 letters and put 88 fillers behind them.  Question and answer are the same, but
# the answer has to be kept for 88 steps more.  Nothing else changes.
#
# First look at the untrained network.  The letters have to reach the answer, and the
# gradient has to come back.  The same 0.8 * 0.8 * ... stands in its way.  The gradient
# says how the loss would change if something at step t were a little different.  If a
# change at step 1 is multiplied by 0.8 ninety-nine times before it arrives at the loss,
# the loss hardly changes, so the gradient is hardly there.  What does that mean for a
# weight, which is used at every step?  Its gradient is a sum with one term for each
# step.  The terms of the early steps, where the A and the B are, have shrunk to
# nothing; what is left comes from the last steps, and those are fillers.  So training
# has no reason to move the weights in the direction of remembering.  This is called the
# vanishing gradient.
#
# Below, the gradient is taken at the inputs, because there every step has one of its
# own.  What a step adds to the gradient of the weights comes back the same way.


def add_fillers(words, count):
    """Words with `count` fillers behind them, the same for both twins of a pair."""
    generator = random.Random(20240108)
    longer = []
    for number in range(0, len(words), 2):
        fillers = "".join(generator.choices("CDE", k=count))
        longer.append(words[number] + fillers)
        longer.append(words[number + 1] + fillers)
    return longer


def trace_and_gradient(model, examples):
    """How far apart the states of twins are after each step, (T,), and how long the
    gradient of the loss is at each step's input, (T,).

    In 64-bit numbers (double), because both become very small.
    """
    model = model.double()
    x = examples.x.double().requires_grad_()  # (N, T, F): ask for its gradient too
    states, _ = model.rnn(x)  # (N, T, H)
    loss = nn.functional.cross_entropy(model.output(states[:, -1]), examples.labels)
    loss.backward()
    # Twins stand side by side: 0 and 1, 2 and 3, ...
    apart = (states[0::2] - states[1::2]).abs().amax(dim=2)  # (N / 2, T)
    # Of each step's F numbers the length: the root of the sum of their squares.
    gradient = x.grad.norm(dim=2)  # (N, T)
    return apart.mean(dim=0).detach(), gradient.mean(dim=0)


def print_vanishing(examples, seed):
    """Print what is left of letters and gradient in an untrained network."""
    utils.set_seed(seed)
    apart, gradient = trace_and_gradient(RNNClassifier(), examples)  # (100,), (100,)
    gradient = gradient / gradient[-1]  # as multiples of the last step's
    last = examples.x.shape[1]
    print(f"An untrained network; twins of 12 letters and {WAIT} fillers:")
    print("          how far the states    how large the gradient is at")
    print("  step    of twins differ       that step (last step: 1)")
    for step in (12, 20, 30, 50, last):
        # Of two numbers near 1, even 64 bits cannot show a smaller difference.
        there = apart[step - 1]
        shown = "below 1e-15" if there < 1e-15 else f"{there:.0e}"
        print(f"  {step:>4}    {shown:<20}  {gradient[step - 1]:.0e}")
    print("Reading it: downwards, what is left of the letters on their way to the")
    print("answer; upwards, what is left of the gradient on its way to the letters.")
    ten = gradient[19] / gradient[29]  # what ten steps, from 30 back to 20, leave
    utils.say(
        f"""From step 30 back to step 20 the gradient shrinks to {ten:.0e} of itself:
        each step leaves about {ten**0.1:.1f}.  Without the fillers at most 10 letters
        follow, in most sequences fewer, so there was always something to learn from.
        Over 88 steps more nothing is left."""
    )


# Then train it, and set beside it the network with the weights by hand of part 2.3.
# Weights that remember do exist: W_hh = 4 keeps the sign for any number of steps.  But
# look how: h settles at 0.9993, where tanh is nearly flat.  Its slope is 1 - h^2, here
# 0.0013.  Times W_hh, which is 4, each step back leaves 0.005 of the gradient.
#
#     a note that fades       about half is left at each step (the untrained network of
#                             the output; for the unit of 4.6 it was 0.8)
#     a note that is held     0.005 of it is left
#
# Either way nothing arrives (Bengio and others, 1994).


def train_waiting(args, pairs):
    """Train the network on 100 steps; print and return its accuracy."""
    utils.heading("4.7 Can it learn to wait?")
    train_words, test_words = split(add_fillers(make_words(12, pairs), WAIT))
    train_part = to_examples(train_words, args.device)
    test_part = to_examples(test_words, args.device)
    print_vanishing(to_examples(train_words[:64]), args.seed)  # on the CPU
    model, records = train_from_seed("rnn", train_part, args, WAIT_EPOCHS)
    losses = [record["loss"] for record in records]
    trained = accuracy(model, test_part)
    by_hand = accuracy(classifier_by_hand().to(args.device), test_part)
    print(f"\nAfter {WAIT_EPOCHS} epochs of training, 12 letters and {WAIT} fillers:")
    print(f"  trained   loss {losses[0]:.4f} -> {losses[-1]:.4f}", end="")
    print(f"   accuracy on {len(test_words)} held-out sequences {trained:.4f}")
    print(f"  by hand   weights of part 2.3, nothing trained   accuracy {by_hand:.4f}")
    utils.say(
        """Recorded with the default flags, seeds 0 to 4 had 0.5000, after 12 epochs as
        well, and seed 0 after 60."""
    )
    utils.say(
        """Reading it: training has to find the weights, and where the gradient has
        vanished, nothing tells it where they are.  Lesson 04 follows the gradient back
        step by step; lesson 05 builds a cell that it can pass through."""
    )
    if by_hand == 1.0:
        print("Weights that remember exist: those by hand do.")
    return trained


# Long sequences can be learned, if some of them have a short way.  With
# `--sequence-length 100`, A and B stand anywhere, and in a fifth of the sequences one
# of them is among the last ten letters.  That one is enough, for the last of the two
# tells the answer.  Of the seeds 0 to 5, five learned that, with an accuracy of 1.0000
# (seed 5: 0.5625).  Presumably the near letters teach the network to keep a sign, and
# what keeps it for ten steps keeps it for ninety.  Behind 88 fillers no sequence offers
# a short way to begin with.


# --- 4.8 the answer to the title ------------------------------------------------------


def answer_the_title(table, second, of_few, waiting, args):
    """The answer to the title, in plain words."""
    # Nothing is trained or tested here: the numbers come from 4.1, 4.2, 4.3 and 4.7.
    of_sum = table["sum"]["test_accuracy"]
    of_linear = table["linear"]["test_accuracy"]
    of_rnn = table["rnn"]["test_accuracy"]
    length = args.sequence_length
    longest = other_lengths(length)[-1]  # T = 12: 24, so the column is "24 steps"
    at_longest = table["rnn"][f"{longest} steps"]
    utils.heading("4.8 What this lesson found")
    print("What is a sequence?  Items whose order matters: a table of T steps by F")
    print("features.  Twins hold the same items; only their order differs.")
    print("Why does its order need a network of its own?")
    utils.say(
        """In one sentence: because what an item means depends on what stood before it,
        and a sequence may have any length."""
    )
    print("                                         sum   linear   two layers      rnn")
    print(
        f"  does A come before B?               {of_sum:.4f}   {of_linear:.4f}"
        f"            -   {of_rnn:.4f}"
    )
    # 0.5000 is no measurement.  Four twins hold the same letters, so with any weights
    # the sum gives all four one answer: two right, two wrong.
    print(
        f"  does a C follow the A?              0.5000   {second['linear']:.4f}"
        f"       {second['two layers']:.4f}   {second['rnn']:.4f}"
    )
    print(
        f"  the same, from {FEW} sequences            -        -"
        f"       {of_few['two layers']:.4f}   {of_few['rnn']:.4f}"
    )
    # Nor is this measured: it follows from how each is built (2.1, 2.2, 4.2, 2.6).
    print("  takes another length                   yes       no           no      yes")
    print("  (-: not asked)")
    utils.say(
        """The first question does not need a recurrent network: there each letter means
        the same wherever it stands, and a linear layer can add that up.  It
        takes more where one item changes what another means: a second layer at least.
        And where the length varies too, it takes a network made for sequences.  The
        recurrent network learns one step and uses it again and again.  So it fits any
        length, and it can do with fewer examples, if training finds the step.  All that
        it knows of the past is in its hidden state.  It is not the only such network:
        lessons 07 and 09 have others, convolution and attention."""
    )
    print("How far does it reach?  It can take any number of steps, but it does not")
    print("always learn to remember over them:")
    print(f"    {longest} steps, twice those of its training   {at_longest:.4f} right")
    print(f"    trained with {WAIT} fillers behind the letters   {waiting:.4f} right")
    print("Where to go on: here a sequence gets one answer, as in lessons 04 to 06.")
    print("In 07 each step gets one; in 08 to 10 a new sequence is written.")


# --- 4.9 sequences of different length in one batch: padding and mask -----------------
#
# The title's question is answered.  This part and the next are tools for lessons 04 to
# 10.
#
# So far all sequences of a batch were equally long.  Real ones are not: names have 3
# letters or 19, sentences 4 words or 60.  A recurrent network does not mind, but a
# tensor does: all its rows have the same length.  The way out is padding: fill the
# short rows up with something that is no letter (id 0, a dot in print) until all are as
# long as the longest.
#
# Now there are numbers in the tensor that mean nothing, and the program must know
# which.  A mask is a second grid that says so: True on real items, False on padding.
# From the lengths it is one comparison: place t of a row, counting from 0, is real if t
# is less than its length.
#
#     rows       padded          mask            lengths
#     BADEC      B A D E C       1 1 1 1 1       5
#     CAB        C A B . .       1 1 1 0 0       3
#     EA         E A . . .       1 1 0 0 0       2

TOY_WORDS = ["BADEC", "CAB", "EA"]


def pad_by_hand(rows):
    """Lists of ids of unequal length -> ids (B, T) filled up with 0, mask (B, T)."""
    longest = max(len(row) for row in rows)
    padded = []
    for row in rows:
        padded.append(row + [0] * (longest - len(row)))
    lengths = torch.tensor([len(row) for row in rows])  # (B,)
    # The places 0 1 2 ... side by side, the lengths one below the other: PyTorch
    # compares each with each.
    mask = torch.arange(longest) < lengths.unsqueeze(1)  # (T,) < (B, 1) -> (B, T)
    return torch.tensor(padded), mask


def spell(ids):
    """Ids as text, a dot for padding: [3, 1, 0] -> "C A ."."""
    return " ".join(LETTERS[i] for i in ids)


def show_padding():
    """Print the grid and the mask of three words, and that utils has the same."""
    utils.heading("4.9 Sequences of different length in one batch: padding and mask")
    rows = [encode(word) for word in TOY_WORDS]
    ids, mask = pad_by_hand(rows)  # (3, 5), (3, 5)
    print("  word     ids, padded with 0    the same as letters    mask")
    for number, word in enumerate(TOY_WORDS):
        ones = " ".join(str(int(real)) for real in mask[number])
        print(
            f"  {word:<6}   {ids[number].tolist()!s:<19}   "
            f"{spell(ids[number]):<20}   {ones}"
        )
    their_ids, lengths = utils.pad(rows)  # (3, 5), (3,)
    their_mask = utils.length_mask(lengths, width=5)  # (3, 5)
    same = torch.equal(ids, their_ids) and torch.equal(mask, their_mask)
    unused = (~mask).sum()
    print(f"  lengths {lengths.tolist()}; {unused} of {mask.numel()} cells are padding")
    print("Later lessons use utils.pad and utils.length_mask.", end="  ")
    print(f"They give the same: {yes_or_no(same)}.")


# --- 4.10 a last state and a mean, spoilt and mended ----------------------------------
#
# The network does not know that a dot means nothing.  It takes a step there as
# anywhere: the dot is a row of zeros, but W_hh and the biases go on changing h.
#
# Look at the unit of part 4.6, whose state tells how long ago the A was.  At a dot it
# fades just as at a letter.  Two mistakes follow.
#
# The last state.  The last column of `states` is the right one for the longest row
# only.  So is h_n, which is the same column.  Mended: of each row, take the state after
# its own last item, at place length - 1 (counting from 0).  The steps behind it were
# computed for nothing, but they do no harm: the network reads from left to right, so
# they cannot change what came before.
#
# Or take no steps on padding at all.  pack_padded_sequence makes a packed batch, which
# holds the real items alone; nn.RNN takes it in place of x, and its h_n is each row's
# true last state.  That is needed where a network reads backwards too (lesson 07): from
# the right it would meet the padding first, and no index can undo that.  The lengths
# must lie on the CPU, and the longest row comes first (or enforce_sorted=False is set).
#
# The mean.  Some networks answer from the mean of all states (lesson 05), and a plain
# mean counts the states at the dots as well.  The masked mean multiplies each state by
# the mask, so that those at the dots become 0, and divides by the number of real items.
# A state has H numbers, and the mask must fit each of them: (B, T) becomes (B, T, 1).


def last_real_state(states, lengths):
    """The state after each row's last real item: (B, T, H), (B,) -> (B, H)."""
    numbers = torch.arange(len(lengths), device=states.device)  # (B,): 0 1 2 ...
    places = lengths.to(states.device) - 1  # (B,)
    # Two index tensors side by side pick one place a row: with lengths 5 3 2 these are
    # states[0, 4], states[1, 2], states[2, 1].
    return states[numbers, places]  # (B, H)


def masked_mean(states, mask):
    """Mean over each row's real items: states (B, T, H), mask (B, T) -> (B, H)."""
    real = mask.unsqueeze(-1)  # (B, T, 1)
    total = (states * real).sum(dim=1)  # (B, H): True counts as 1, False as 0
    return total / real.sum(dim=1)  # (B, H) / (B, 1) -> (B, H)


def last_states(rnn, words):
    """The last state of each word in five ways: name -> (B, H).  Longest word first.

    "alone" runs each word by itself, without any padding: so it is right.
    """
    ids, lengths = utils.pad([encode(word) for word in words])  # (B, T), (B,)
    x = one_hot(ids)  # (B, T, F)
    alone = []
    with torch.no_grad():
        for number, length in enumerate(lengths.tolist()):
            _, own = rnn(x[number : number + 1, :length])  # (1, 1, H)
            alone.append(own[0, 0])
        states, h_n = rnn(x)  # (B, T, H), (1, B, H)
        packed = pack_padded_sequence(x, lengths, batch_first=True)
        _, h_n_of_packed = rnn(packed)  # (1, B, H)
    return {
        "last column": states[:, -1],
        "h_n": h_n[0],
        "length - 1": last_real_state(states, lengths),
        "h_n, packed": h_n_of_packed[0],
        "alone": torch.stack(alone),
    }


def show_spoilt_states():
    """Print states of a padded batch, its last states and means, wrong and right."""
    utils.heading("4.10 A last state and a mean, spoilt and mended")
    ids, lengths = utils.pad([encode(word) for word in TOY_WORDS])  # (3, 5), (3,)
    mask = utils.length_mask(lengths, width=5)  # (3, 5)
    rnn = fading_rnn()
    with torch.no_grad():
        states, _ = rnn(one_hot(ids))  # (3, 5, 1)
    states = states.squeeze(-1)  # (3, 5): there is one unit
    print("One unit that tells how long ago the A was.  The state after each step:")
    for number, word in enumerate(TOY_WORDS):
        print(f"  {word:<6}  {spell(ids[number])}   {listed(states[number].tolist())}")
    utils.say(
        """Reading it: 3 letters, 1 letter and none stand behind the A.  Yet all rows
        end alike, because the state fades at a dot as at a letter."""
    )
    found = last_states(rnn, TOY_WORDS)
    print("\nThe last state, in five ways:")
    names = ("last column", "h_n", "length - 1", "h_n, packed", "alone")
    print("  word  " + "".join(f"{name:>13}" for name in names))
    for number, word in enumerate(TOY_WORDS):
        shown = "".join(f"{found[name][number].item():>13.3f}" for name in names)
        print(f"  {word:<6}{shown}")
    utils.say(
        """Reading it: "alone" is the word run by itself, so it is right.  Last column
        and h_n are wrong for both short words."""
    )
    plain = states.mean(dim=1)  # (3,)
    masked = masked_mean(states.unsqueeze(-1), mask).squeeze(-1)  # (3,), H = 1
    print("\nThe mean of the states:")
    print("  word    plain mean   masked mean")
    for number, word in enumerate(TOY_WORDS):
        real = states[number, : len(word)].tolist()  # what the mask keeps
        terms = " + ".join(f"{value:.3f}" for value in real)
        print(f"  {word:<6}  {plain[number]:>10.3f}   ", end="")
        print(f"({terms}) / {len(word)} = {masked[number]:.3f}")
    print("Reading it: the plain mean takes the three words for the same.")


def print_cost_of_padding(model, length, device):
    """Print what the mistake costs the trained network on short, padded sequences."""
    short, _, longest = other_lengths(length)
    examples = to_examples(make_words(short, OTHER_PAIRS), device)  # x (N, T / 2, F)
    count = len(examples.words)
    x = torch.zeros(count, longest, FEATURES, device=device)  # (N, 2 T, F): all dots
    x[:, :short] = examples.x
    lengths = torch.full((count,), short)  # (N,)
    with torch.no_grad():
        states, _ = model.rnn(x)  # (N, 2 T, H)
        from_last_column = model.output(states[:, -1]).argmax(dim=1)  # (N,)
        from_own_end = model.output(last_real_state(states, lengths)).argmax(dim=1)
    spoilt = (from_last_column == examples.labels).float().mean().item()
    mended = (from_own_end == examples.labels).float().mean().item()
    print("\nAnd what the mistake costs in our task:")
    utils.say(
        f"""The trained network reads {count} sequences of {short} letters, padded to
        {longest} as if they shared a batch with longer ones."""
    )
    print(f"  answer from the last column    accuracy {spoilt:.4f}")
    print(f"  answer from length - 1         accuracy {mended:.4f}")
    if spoilt < mended:
        print("Reading it: no error is raised.  Only the answers are worse.")
    if spoilt < 0.4:
        utils.say(
            """Far below 0.5 is worse than a coin: the dots turn the note over, as the
            letters did in part 4.5."""
        )


# --- 4.11 the title once more ---------------------------------------------------------


def repeat_the_answer(table, second):
    """The answer of part 4.8 in two sentences, with its numbers."""
    utils.heading("4.11 The title once more")
    utils.say(
        f"""The order needs a network of its own because what an item means depends on
        what stood before it, and a sequence may have any length.  Which of two letters
        comes first, a linear layer can add up ({table["linear"]["test_accuracy"]:.4f}
        right, the recurrent network {table["rnn"]["test_accuracy"]:.4f}); what follows
        the A, it cannot ({second["linear"]:.4f}, the recurrent network
        {second["rnn"]:.4f})."""
    )


# --- answers to "Try this" ------------------------------------------------------------
#
# (Figures from recorded runs, seed 0; yours may differ in the last digits.)
#
# HAND_W_HH = 1.0: both words go wrong.  After CA, h is 0.964, and the B pushes with -2:
# tanh(-2 + 1 * 0.964) is below 0.  The second letter always overturns the first, so "by
# hand" is wrong about every single sequence: 0.0000, at all lengths.  That is not
# ignorance.  It remembers the last letter perfectly, as the trained network of 4.4
# does, and only reads its note the wrong way round: exchange the two output weights,
# and it has 1.0000.
#
# --sequence-length 40: linear 0.9525, rnn 0.9975 (one sequence of 400 is wrong); on 80
# letters, with other test sequences, rnn still has 1.0000.  It had to keep its note
# longer, and found one that holds.
#
# --sequence-length 100: linear 0.9150, rnn 1.0000.  In 4.7 it stays at 0.5000 all the
# same: there the A and the B are *always* far from the end.  The comment at the end of
# 4.7 says what near ones do.
#
# --batch-size 1600: rnn 0.7850, linear 0.8575.  Weights change once an update, so what
# counts is updates, not epochs.
#
# --seed 1: those of guessing, of the sum (0.5 with any weights) and of "by hand" (not
# trained) cannot change; the others can.  At 24 letters rnn then has 0.8400.


# From here on only pictures, files and flags: nothing about sequences.


def draw_losses(all_records, source, args):
    """One picture: the loss of each model over the epochs."""
    guess = math.log(2)
    curves = {"guessing, ln 2": [guess] * EPOCHS}
    for name, records in all_records.items():
        curves[name] = [record["loss"] for record in records]
    # The sum lies on the line of guessing: dashed, that one does not hide it.
    utils.plot_lines(
        args,
        "training",
        f"Training loss, T = {args.sequence_length}: {source.label}",
        curves,
        "epoch",
        "mean cross-entropy",
        x=range(1, EPOCHS + 1),
        dashed=("guessing, ln 2",),
    )


def write_results(table, models, all_records, waiting, examples, source, args):
    """metrics.json: the recurrent network's scores, its rivals beside it."""
    metrics = {"test_accuracy": table["rnn"]["test_accuracy"]}
    # The same three names for every T, so that runs can be compared by name.
    names = ("half_length", "longer_by_half", "double_length")
    for name, steps in zip(names, other_lengths(args.sequence_length), strict=True):
        metrics[f"{name}_accuracy"] = table["rnn"][f"{steps} steps"]
    metrics["waiting_accuracy"] = waiting
    # utils asks for the time of the training loop too.  Here it is all of the time.
    records = []
    for record in all_records["rnn"]:
        records.append({**record, "loop_seconds": record["seconds"]})
    each = {}
    for name in models:
        each[name] = {"test_accuracy": table[name]["test_accuracy"]}
    utils.write_metrics(
        args,
        source,
        metrics,
        baselines={"majority": 0.5},
        parameters=utils.count_parameters(models["rnn"]),
        records=records,
        units=len(examples.words),
        unit="sequences",
        models=each,
    )


# ====================================================================================
# 5. Command line
# ====================================================================================


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)  # those of all lessons: --seed, --quick, ...
    add = parser.add_argument_group("this lesson").add_argument
    # 12, as in 4.2, 4.3 and 4.7, which do not look at this flag.  100 is also what 4.7
    # has in all: 12 letters and 88 fillers.  Half of 5 is 2, room for the A and the B.
    add(
        "--sequence-length",
        type=utils.whole(5, 100),
        default=12,
        metavar="T",
        help="steps of a sequence, 5 to 100 (default 12)",
    )
    # 1600 training sequences in batches of 32 are 50 updates an epoch; larger batches
    # make fewer.  How large is too large depends on the data, so `main` looks at that.
    add(
        "--batch-size",
        type=utils.whole(2),
        default=32,
        metavar="B",
        help="sequences in one update, 2 or more (default 32)",
    )
    return parser


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__, small=True)
    source = utils.Source(name="generated", path=None, real=False)  # no file is read
    length = args.sequence_length
    pairs = OTHER_PAIRS if args.quick else PAIRS
    train_words, test_words = split(make_words(length, pairs))
    if args.batch_size > len(train_words) and not args.quick:
        raise utils.UserError(
            f"--batch-size {args.batch_size} is more than the {len(train_words)} "
            f"training sequences of this run; give {len(train_words)} or less"
        )

    # 1. The data: twins, from letters to numbers, training and test set.
    train_part = to_examples(train_words, args.device)
    test_part = to_examples(test_words, args.device)
    print_twins(train_words)
    show_a_table()
    print_parts(train_part, test_part)

    # 2. The models: two rivals, the recurrent step, many steps, the sizes of all.
    show_the_sum()
    show_the_linear_layer()
    show_one_step()
    show_why_tanh()
    show_two_units()
    show_what_rnn_returns()
    show_sizes()

    # 3. Training: the loss, one update with numbers, then all three models.
    show_loss()
    show_one_update()
    models, all_records = train_all(train_part, args)

    # 4. Evaluation: the result, a second question, the same with few examples ...
    table = report(models, all_records, test_part, source, args)
    second, fours, other_fours = ask_second_question(args, pairs)
    of_few = compare_on_few(fours, other_fours, args)
    # ... what the network notes down, and how far back it remembers ...
    show_the_note(models["rnn"], test_part, source, args)
    print_by_distance(models["rnn"], test_part, args)
    show_fading()
    waiting = train_waiting(args, pairs)
    # ... the answer; sequences of different length in one batch; files.
    answer_the_title(table, second, of_few, waiting, args)
    show_padding()
    show_spoilt_states()
    print_cost_of_padding(models["rnn"], length, args.device)
    draw_losses(all_records, source, args)
    write_results(table, models, all_records, waiting, train_part, source, args)
    repeat_the_answer(table, second)


if __name__ == "__main__":
    sys.exit(utils.run(main))
