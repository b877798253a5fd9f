"""01 · What is a sequence, and why does its order need a network of its own?

A sequence is a row of items in which it matters who stands where: the letters of a
name, the words of a sentence, the temperatures of a year.  "Dog bites man" and "man
bites dog" are the same three words; only their order tells who was bitten.

Here the items are letters, and the question is the plainest that order can decide: does
A come before B?  Two models that you could have thought of yourself try it first.  You
see where each of them stops.  Then comes a recurrent neural network (RNN): it reads one
item at a time and keeps a few numbers in mind, its hidden state.

What you will learn
    - what a sequence looks like, and how it becomes a table of numbers
    - why adding the items up cannot know their order, and what a linear layer over all
      of them pays for knowing it
    - one step of a recurrent network with pencil and numbers: two weight matrices, the
      hidden state, why tanh; then many steps, and what PyTorch's nn.RNN returns
    - how sequences of unequal length share one table (padding, mask, packing), how that
      spoils a mean and a last state, and how both are mended
    - a training loop, every line with its reason
    - how sure one can be that one model is better than another
    - why something 90 steps back is not learned: the door to lessons 04 and 05

You need Python, and what a linear layer is: y = W x + b, each output a weighted sum of
all inputs plus a number of its own.  A tensor is PyTorch's table of numbers; its shape
says how many there are in each direction: (2, 3) is two rows of three.

Run it
    python 01_sequence_basics.py
    python 01_sequence_basics.py --quick
    python 01_sequence_basics.py --sequence-length 20 --batch-size 16

You should see  (generated [sample] data, seed 0, one thread, about 10 seconds in all)
    model      parameters   train_loss   test_accuracy   6 steps   18 steps   24 steps
    guessing            0       0.6931          0.5000         -          -          -
    sum               130       0.6939          0.5000    0.5000     0.5000     0.5000
    linear            122       0.1124          1.0000    cannot     cannot     cannot
    rnn               138       0.0006          1.0000    1.0000     0.9700     0.6900
    by hand            12            -          1.0000    1.0000     1.0000     1.0000
    parameters are the numbers that training may change; train_loss says how wrong the
    model still was at the end of training (0.6931 is guessing, 0 is sure and right).
    The other columns are shares of right answers: on 400 sequences of 12 letters that
    were held back from training, then on shorter and longer ones.  "by hand" is a
    recurrent network whose weights you will have worked out yourself.  From 40
    sequences instead of 1,600, linear reaches 0.9450 and rnn 1.0000; and with 88
    letters behind those that matter, rnn learns nothing: 0.5000.

Try this  (guess first, then run)
    --sequence-length 40    does the linear layer keep up?  How far does the recurrent
                            network now reach beyond the length of its training?  Are
                            40 sequences still enough for it?
    --sequence-length 100   A and B may stand anywhere in 100 letters.  Is that learned?
                            Part 12 also has 100 letters: what is different there?
    --batch-size 1600       all training sequences in every step: are 12 steps enough?
    --seed 1                which accuracy could change, and which one cannot?
"""

# Sizes
#     B  batch (sequences computed together)     T  time (steps of a sequence)
#     F  features (numbers that describe a step; here 5, one for each letter A to E)
#     H  hidden state (numbers that the network remembers; here 8)
#     N  sequences of one part of the data

import math
import random
import sys
import time
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import rnn_utils as utils

LETTERS = ".ABCDE"  # a letter's place is its id: A 1, B 2, ...; 0, the dot, is padding
FEATURES = 5  # A, B, C, D, E; padding is no letter, so it gets no feature
HIDDEN = 8
PAIRS = 1000  # pairs of twins; see section 1
QUICK_PAIRS = 200
WAIT = 88  # fillers that follow the 12 letters in part 12: 100 steps in all
EPOCHS = 12  # passes over the training sequences
FEW = 40  # sequences, for the training with few examples in part 11
FEW_EPOCHS = 300  # 600 steps of 32 sequences, as many as in 12 epochs of 1,600
LEARNING_RATE = 0.01


def heading(text):
    """Print the title of one part of the lesson."""
    print(f"\n--- {text} ---")


# ====================================================================================
# 1. Data
# ====================================================================================
#
# Every sequence holds one A, one B, and fillers drawn from C, D and E.  Its label is 1
# if A comes before B, else 0.  So that nothing but the order can tell, each sequence
# has a twin, in which A and B have changed places:
#
#     CEADCB   label 1
#     CEBDCA   label 0
#
# Twins hold the same letters, each as often.  Whoever tells them apart must have looked
# at the order.  The data are made up for that reason: in real texts many things hint at
# the answer, and one never knows which of them a model has used.
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
#
# And the data are split: four fifths are for training, the rest is held back, to ask
# afterwards what the model makes of sequences that it has never seen.  Twins go to the
# same side.  Else the network could have learned a held-out sequence's twin by heart.


def make_words(length, pairs):
    """Sequences as text, twins side by side: ["CEADCB", "CEBDCA", ...].

    A seed of its own: --seed changes how the networks start, never the data.
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
        # A short sequence may be drawn twice.  Kept twice, it could stand in training
        # and among the held-out ones, and would only have to be remembered.
        if word in seen:
            continue
        seen.add(word)
        words.append(word)
        words.append(word.translate(str.maketrans("AB", "BA")))  # CEADCB -> CEBDCA
    return words


def split(words):
    """Training and held-out words, 80 : 20, cut between two pairs of twins."""
    pairs = len(words) // 2
    cut = 2 * round(0.8 * pairs)  # an even number: no pair is torn apart
    return words[:cut], words[cut:]


def encode(word):
    """A word as a list of ids: "CAB" -> [3, 1, 2]."""
    return [LETTERS.index(letter) for letter in word]


def one_hot(ids):
    """Ids (..., T) -> one-hot (..., T, F).  Padding, id 0, becomes a step of zeros."""
    with_padding = nn.functional.one_hot(ids, len(LETTERS))  # (..., T, 6)
    return with_padding[..., 1:].float()  # (..., T, F): the column of id 0 goes


class Examples(NamedTuple):
    """Sequences of equal length, as text and as tensors."""

    words: list  # N texts
    x: torch.Tensor  # (N, T, F)
    labels: torch.Tensor  # (N,): 1 where A comes first, else 0


def first_letter(label):
    """Which of A and B comes first, by the label."""
    return "A" if label == 1 else "B"


def to_examples(words, device="cpu"):
    """Words of equal length -> Examples, with the tensors on the device."""
    ids = torch.tensor([encode(word) for word in words])  # (N, T)
    labels = []
    for word in words:
        a_is_first = word.index("A") < word.index("B")
        labels.append(1 if a_is_first else 0)
    return Examples(words, one_hot(ids).to(device), torch.tensor(labels).to(device))


def show_a_sequence():
    """Print one word on its way from text to tensor, the one-hot table made by hand."""
    heading("1. What a sequence looks like")
    word = "CADB"
    ids = encode(word)
    print(f"  as text          {word}")
    print(f"  as ids           {ids}   (A 1, B 2, C 3, D 4, E 5)")
    print("  as a table       is it A  B  C  D  E ?")
    table = []
    for letter in word:
        row = []
        for question in "ABCDE":
            row.append(1 if letter == question else 0)
        table.append(row)
        step = len(table)
        print(f"    step {step}, {letter}           {'  '.join(map(str, row))}")
    x = one_hot(torch.tensor([ids]))  # (1, 4, 5)
    difference = (x[0] - torch.tensor(table)).abs().max()
    print(f"  as a batch of one sequence: a tensor (B, T, F) = {tuple(x.shape)}")
    print(f"  largest difference between that tensor and our table: {difference:.0f}")


def print_data(train, test):
    """Print the first twins of the real data, and how many there are."""
    heading("2. The data of this run")
    print("Two twins.  The same letters, each as often, in another order:")
    for number in range(2):
        word = train.words[number]
        label = train.labels[number].item()
        counts = "  ".join(f"{letter} {word.count(letter)}" for letter in "ABCDE")
        print(f"  {word}   {counts}   label {label}: {first_letter(label)} first")
    print(f"{len(train.words)} sequences to learn from: x {tuple(train.x.shape)}.")
    print(f"{len(test.words)} held out, to be asked about at the end.")
    share = test.labels.float().mean().item()
    print(f"Always answering 1 is right for {share:.4f} of them: that is guessing.")


# ====================================================================================
# 2. Model
# ====================================================================================
#
# Each model turns a sequence x (T, F) into two scores: one for the answer 0, "B comes
# first", and one for 1, "A comes first".  The higher score is its answer.
#
# --- two rivals: what you could try without knowing of recurrent networks -------------
#
# The first idea: a linear layer takes a fixed number of inputs, and a sequence has T
# steps, so make one row of all T: add them up.  The sum of one-hot steps says how often
# each letter occurs.  It fits any length.  But twins have equal sums, and whatever is
# computed from equal things is equal: both twins get the same answer, which is right
# for one of them and wrong for the other.  Half of the answers are right, whatever the
# weights.


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
        return self.second(torch.relu(self.first(total)))  # (B, 2)


def show_the_sum():
    """Print the sums of two twins, and what an untrained SumClassifier says of them."""
    heading("3. First rival: add the steps up")
    for word in ("CAB", "CBA"):
        total = [0, 0, 0, 0, 0]  # how many A, B, C, D, E
        for letter in word:
            total["ABCDE".index(letter)] += 1
        print(f"  {word}: the rows of its table, added up: {total}")
    twins = to_examples(["CAB", "CBA"])
    torch.manual_seed(1)
    with torch.no_grad():
        scores = SumClassifier()(twins.x)  # (2, 2)
    for word, pair in zip(twins.words, scores.tolist(), strict=True):
        print(f"  {word}: two scores, untrained model: {pair[0]:.3f}, {pair[1]:.3f}")
    print("Reading it: equal sums, so equal scores, so equal answers.  One of the two")
    print("is wrong, before training and after it.")


# The second idea: keep all T * F numbers, write them one after the other, and give them
# to one linear layer.  Now each letter at each place has a weight of its own, and order
# can be learned.  With a weight of minus the place for an A, and of plus the place for
# a B, the weighted sum is (place of B) - (place of A): above 0 where A comes first.
#
# So a linear layer *can* know the order.  What it pays:
#     - The number of inputs is built in.  A layer for 3 steps cannot take 4.
#     - The weights grow with the length: 2 scores * T * F.
#     - "A at place 2" and "A at place 3" are strangers to it, with a weight each.  What
#       it has learned about one says nothing about the other, so it needs examples of
#       a letter at every place.  Part 11 tries it with few examples.


class LinearClassifier(nn.Module):
    """One linear layer over all T * F numbers: x (B, T, F) -> scores (B, 2)."""

    def __init__(self, length):
        super().__init__()
        self.output = nn.Linear(length * FEATURES, 2)

    def forward(self, x):
        return self.output(x.flatten(start_dim=1))  # (B, T * F) -> (B, 2)


def show_the_linear_layer():
    """Print a linear layer with weights set by hand: that it works, and its price."""
    heading("4. Second rival: one linear layer on all T x F numbers")
    layer = nn.Linear(3 * FEATURES, 1)  # one score is enough to see it
    with torch.no_grad():  # we set weights, so there is no gradient to keep book of
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
    print("And the number of weights, for two scores:")
    for length in (12, 100):
        size = utils.count_parameters(LinearClassifier(length))
        print(f"  T = {length:<4} F = 5     2 * {length} * 5 + 2 = {size:,}")
    size = 2 * 500 * 300 + 2
    print(f"  T = 500  F = 300   2 * 500 * 300 + 2 = {size:,}  (a review in words)")
    size = utils.count_parameters(RNNClassifier())
    print(f"The recurrent network that comes next has {size}, for any T.")


# --- the recurrent network ------------------------------------------------------------
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
# b_ih and b_hh, (H,), are the two biases.  One would do; NVIDIA's library for GPUs has
# two, and PyTorch follows.
#
# Nothing else is kept.  After step 3 the letters are gone; whatever the answer needs
# must be in h_3.
#
# Weights by hand.  Our note for "which came first" needs one number, H = 1: above 0 if
# A came first, below 0 if B did, 0 as long as neither came.
#     W_ih = [2, -2, 0, 0, 0]   an A pushes h up, a B pushes it down, fillers do nothing
#     W_hh = [4]                what h says already counts more than the next letter
# Whoever comes first settles the sign, and the other cannot overturn it: it pushes with
# 2, and h, once near 1 or -1, pushes back with nearly 4.  Follow it with a pencil:

HAND_W_IH = [2.0, -2.0, 0.0, 0.0, 0.0]  # (H, F) with H = 1: A, B, C, D, E
HAND_W_HH = 4.0  # (H, H) = (1, 1)


def show_one_step():
    """Print the step with weights set by hand, letter by letter, for two twins."""
    heading("5. One recurrent step, with numbers")
    print("h_t = tanh(W_ih x_t + W_hh h_(t-1)), W_ih = [2, -2, 0, 0, 0], W_hh = [4],")
    print("biases 0.  x_t is one-hot, so W_ih x_t picks the letter's weight.")
    for word in ("CAB", "CBA"):
        print("  letter   W_ih x_t   W_hh h_(t-1)          tanh of the sum = h_t")
        h = 0.0
        for letter in word:
            # x_t is 1 at this letter and 0 elsewhere: of W_ih x_t one weight is left.
            from_input = HAND_W_IH["ABCDE".index(letter)]
            from_hidden = HAND_W_HH * h
            new_h = math.tanh(from_input + from_hidden)
            print(
                f"    {letter}       {from_input:>4.1f}     "
                f"4 * {h:>6.3f} = {from_hidden:>6.3f}   "
                f"tanh({from_input + from_hidden:>6.3f}) = {new_h:>6.3f}"
            )
            h = new_h  # the old state is gone
        first = "A" if h > 0 else "B"
        print(f"  {word}: h_3 = {h:.3f}, so {first} came first.")
    print("Reading it: the last letter pushes against h, and loses: h remembers.")


# Why tanh?  It squeezes any number into -1 ... 1: tanh(0) = 0, tanh(1) = 0.762,
# tanh(10) = 1.000.  Without it, the state would be multiplied by W_hh at each step and
# nothing would stop it; with W_hh = 4 it grows without end, with 0.5 it dies out.  And
# many linear steps in a row are one linear step: the last state would be a weighted sum
# of all inputs, which the linear rival has already.


def show_why_tanh():
    """Print the state of CABCCC with and without tanh."""
    heading("6. Why tanh")
    h_with = 0.0
    h_without = 0.0
    print("  letter   h with tanh   h without")
    for letter in "CABCCC":
        from_input = HAND_W_IH["ABCDE".index(letter)]
        h_with = math.tanh(from_input + HAND_W_HH * h_with)
        h_without = from_input + HAND_W_HH * h_without
        print(f"    {letter}      {h_with:>11.3f}   {h_without:>9.0f}")
    print(
        "Reading it: without tanh, from B on four times as much at each step.  The sign"
    )
    print("is still right here, but after 100 letters the state has 60 digits, and no")
    print("training works with that.  With tanh the note stays between -1 and 1.")


# Several units.  With H = 2, each unit has its own row of W_ih and its own row of W_hh,
# and each sees the whole old state.  Written with matrices it is the formula above; `@`
# is the product of a matrix and a vector.


def rnn_step(x, h, w_ih, w_hh, b_ih, b_hh):
    """One recurrent step: input x (F,), old state h (H,) -> new state (H,)."""
    return torch.tanh(w_ih @ x + b_ih + w_hh @ h + b_hh)  # (H,)


def rnn_by_hand(x, w_ih, w_hh, b_ih, b_hh):
    """Read one sequence x (T, F) from left to right -> every state (T, H).

    Time needs a loop: step t waits for the state of step t - 1.
    """
    h = torch.zeros_like(b_hh)  # (H,): h_0, nothing has been read
    states = []
    for x_t in x:
        h = rnn_step(x_t, h, w_ih, w_hh, b_ih, b_hh)  # (H,), the same weights each time
        states.append(h)
    return torch.stack(states)  # (T, H)


def show_two_units():
    """Print one step with two units, every number substituted; compare nn.RNNCell."""
    heading("7. The same step with two hidden units")
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
        # The parameters of a cell come in the order W_ih, W_hh, b_ih, b_hh.
        ours = rnn_step(x, h, *cell.parameters())  # (2,)
        theirs = cell(x, h)  # (2,)
    print(f"  rnn_step says {ours[0]:.3f} and {ours[1]:.3f};", end=" ")
    print(f"nn.RNNCell differs by {(ours - theirs).abs().max():.0e}.")


# nn.RNN is the whole loop, in fast code.  It takes a batch x (B, T, F) and returns two
# tensors, and mixing them up is the commonest mistake with it:
#
#     states  (B, T, H)   the state after *every* step
#     h_n     (1, B, H)   the *last* state of each sequence; the 1 counts layers
#
# So states[:, -1] and h_n[0] are the same numbers, as long as no sequence is padded.
# batch_first=True says that the batch comes first; without it nn.RNN wants (T, B, F).
# Its weights are called weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: W_ih and
# W_hh, the biases, of layer 0.


class RNNClassifier(nn.Module):
    """Reads step by step, then a linear layer on h_T: x (B, T, F) -> scores (B, 2)."""

    def __init__(self, hidden=HIDDEN):
        super().__init__()
        self.rnn = nn.RNN(FEATURES, hidden, batch_first=True)
        self.output = nn.Linear(hidden, 2)

    def forward(self, x):
        states, _ = self.rnn(x)  # (B, T, H)
        # The last column is right here, because no sequence of this task is padded.
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
    heading("8. Many steps: what nn.RNN returns")
    model = classifier_by_hand()
    twins = to_examples(["CAB", "CBA"])
    with torch.no_grad():
        states, h_n = model.rnn(twins.x)  # (2, 3, 1) and (1, 2, 1)
        scores = model.output(h_n[0])  # (2, 2)
    print(f"states, h_n = nn.RNN(5, 1, batch_first=True)(x), x {tuple(twins.x.shape)}")
    print(f"  states, {tuple(states.shape)}: the state after every step")
    for word, values in zip(twins.words, states[:, :, 0].tolist(), strict=True):
        print(f"    {word}   {'  '.join(f'{value:>6.3f}' for value in values)}")
    print(f"  h_n, {tuple(h_n.shape)}: the last state of each sequence")
    for word, value in zip(twins.words, h_n[0, :, 0].tolist(), strict=True):
        print(f"    {word}   {value:>6.3f}")
    gap = (states[:, -1] - h_n[0]).abs().max()
    print(f"  states[:, -1] and h_n[0] differ by {gap:.0f}.")
    print("  two scores from h_n: -h for 'B comes first', +h for 'A comes first'")
    for word, pair in zip(twins.words, scores.tolist(), strict=True):
        answer = first_letter(1 if pair[1] > pair[0] else 0)
        print(f"    {word}   {pair[0]:>6.3f} {pair[1]:>6.3f}   answer: {answer} first")


def show_many_steps():
    """Print how far our loop is from nn.RNN, with the same random weights."""
    torch.manual_seed(2)
    x = torch.randn(32, 12, FEATURES)  # (B, T, F)
    rnn = nn.RNN(FEATURES, HIDDEN, batch_first=True)
    largest = 0.0
    with torch.no_grad():
        states, _ = rnn(x)  # (B, T, H)
        for number in range(len(x)):
            # rnn.parameters() come in the order W_ih, W_hh, b_ih, b_hh.
            ours = rnn_by_hand(x[number], *rnn.parameters())  # (T, H)
            largest = max(largest, (ours - states[number]).abs().max().item())
    print(
        f"rnn_by_hand against nn.RNN, x {tuple(x.shape)}, H = {HIDDEN}, random weights:"
    )
    print(f"  largest difference {largest:.1e}")
    print("Reading it: below 1e-6 is rounding.  nn.RNN is our loop, in fast code.")


# --- sequences of unequal length ------------------------------------------------------
#
# The sequences of our task have T letters each.  Real ones do not: names have 3 letters
# or 19, sentences 4 words or 60.  A recurrent network does not mind, but a tensor does:
# all its rows have the same length.  The way out is padding: fill the short rows up
# with something that is no letter (id 0, a dot in print) until all are as long as the
# longest.  Now there are numbers in the tensor that mean nothing, and the program must
# know which.  A mask is a second grid that says so: True on real items, False on
# padding.  From the lengths it is one comparison: place t of a row, counting from 0, is
# real if t is less than its length.  Length 3: 0 1 2 3 4 < 3 is 1 1 1 0 0.
#
#     rows       padded          mask            lengths
#     BADEC      B A D E C       1 1 1 1 1       5
#     CAB        C A B . .       1 1 1 0 0       3
#     EA         E A . . .       1 1 0 0 0       2
#
# From here on, three mistakes wait: to average over padding, to read the last state in
# the padding, and to pay for computing it.

TOY_WORDS = ["BADEC", "CAB", "EA"]


def pad_by_hand(rows):
    """Lists of ids of unequal length -> ids (B, T) filled up with 0, mask (B, T)."""
    longest = max(len(row) for row in rows)
    padded = []
    mask = []
    for row in rows:
        missing = longest - len(row)
        padded.append(row + [0] * missing)
        mask.append([True] * len(row) + [False] * missing)
    return torch.tensor(padded), torch.tensor(mask)


def spell(ids):
    """Ids as text, a dot for padding: [3, 1, 0] -> "C A ."."""
    return " ".join(LETTERS[i] for i in ids)


def show_padding():
    """Print the grid and the mask of three words, and that utils has the same."""
    heading("9. Sequences of unequal length: padding, mask, packing")
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
    of_ids = (ids - their_ids).abs().max()
    of_mask = (mask.int() - their_mask.int()).abs().max()
    unused = (~mask).sum()  # ~ turns True into False and False into True
    print(f"  lengths {lengths.tolist()}; {unused} of {mask.numel()} cells are padding")
    print("  largest difference from utils.pad and utils.length_mask, which later")
    print(f"  lessons use: {of_ids} and {of_mask}")


# First mistake: the mean.  Let a layer give each cell a number, say y = id + 0.5.  At a
# letter that is a value; at padding it is 0.5, the layer's bias, for nothing.  Zeros in
# do not mean zeros out!  A plain mean adds those and divides by 5 in each row.  The
# masked mean multiplies by the mask, which makes padding 0, and divides by the number
# of real items.  (For states (B, T, H), as in lesson 05, the mask first gets a third
# direction, mask.unsqueeze(-1), so that it fits each of the H numbers.)


def masked_mean(values, mask):
    """Mean over the real items of each row: values (B, T), mask (B, T) -> (B,)."""
    total = (values * mask).sum(dim=1)  # (B,): True counts as 1, False as 0
    return total / mask.sum(dim=1)  # (B,): and here as well


def show_masked_mean():
    """Print a mean spoilt by padding and the masked mean, with every number."""
    ids, mask = pad_by_hand([encode(word) for word in TOY_WORDS])  # (3, 5), (3, 5)
    values = ids + 0.5  # (3, 5)
    plain = values.mean(dim=1)  # (3,)
    ours = masked_mean(values, mask)  # (3,)
    print("\nA mean, spoilt and mended.  A layer's output for each cell: id + 0.5")
    print("  word     output                   plain mean   masked mean")
    largest = 0.0
    for number, word in enumerate(TOY_WORDS):
        every = values[number].tolist()
        real = every[: len(word)]  # what the mask keeps
        alone = sum(real) / len(real)  # the word by itself, without any padding
        largest = max(largest, abs(ours[number].item() - alone))
        shown = " ".join(f"{value:.1f}" for value in every)
        sum_of_real = " + ".join(f"{value:.1f}" for value in real)
        print(
            f"  {word:<6}   {shown:<22}   {plain[number]:>10.2f}   "
            f"({sum_of_real}) / {len(real)} = {ours[number]:.2f}"
        )
    print(f"  The masked mean differs from that of the word alone by {largest:.0f}.")


# Second mistake: the last state.  The network does not know that a dot means nothing.
# It takes a step there as anywhere: x is 0, but W_hh and the biases go on changing h.
# So the last column of `states` is the right one for the longest row only.  Mended: of
# each row, take the state after its own last item, at place length - 1 (counting from
# 0).  The steps after that one were computed for nothing, but they do no harm: the
# network reads from left to right, so they cannot change what came before.


def last_real_state(states, lengths):
    """The state after each row's last real item: (B, T, H), (B,) -> (B, H)."""
    numbers = torch.arange(len(lengths), device=states.device)  # (B,): 0 1 2 ...
    places = lengths.to(states.device) - 1  # (B,)
    # Two index tensors side by side pick one place a row: with lengths 5 3 2 these are
    # states[0, 4], states[1, 2], states[2, 1].
    return states[numbers, places]  # (B, H)


def fading_rnn():
    """nn.RNN of one feature and one unit: h_t = tanh(0.5 x_t + 0.8 h_(t-1))."""
    rnn = nn.RNN(1, 1, bias=False, batch_first=True)
    with torch.no_grad():
        rnn.weight_ih_l0.fill_(0.5)
        rnn.weight_hh_l0.fill_(0.8)
    return rnn


def show_last_state():
    """Print the states of three rows of numbers, and which of them is the last one."""
    x = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])  # (B, T)
    lengths = torch.tensor([3, 2, 1])
    rnn = fading_rnn()
    with torch.no_grad():
        states, _ = rnn(x.unsqueeze(-1))  # (3, 3, 1)
    last = last_real_state(states, lengths)  # (3, 1)
    print("\nA last state, spoilt and mended.  h_t = tanh(0.5 x_t + 0.8 h_(t-1)):")
    print("  row         padded      states                last column   at length - 1")
    largest = 0.0
    for number in range(3):
        real = x[number, : lengths[number]]  # (length,): the row without its padding
        with torch.no_grad():
            _, alone = rnn(real.reshape(1, -1, 1))  # (1, 1, 1)
        largest = max(largest, (alone[0, 0] - last[number]).abs().max().item())
        shown = " ".join(f"{value:.0f}" for value in real.tolist())
        filled = " ".join(f"{value:.0f}" for value in x[number].tolist())
        of_row = "  ".join(f"{value:.3f}" for value in states[number, :, 0].tolist())
        last_column = states[number, -1, 0]
        print(
            f"  {shown:<9}   {filled:<9}   {of_row}   {last_column:>11.3f}   "
            f"{last[number, 0]:>13.3f}"
        )
    print("  In the last row: tanh(0.5) = 0.462 is right.  Two steps of padding make")
    print("  tanh(0.8 * 0.462) = 0.354 of it, then tanh(0.8 * 0.354) = 0.276.")
    print(f"  At length - 1, the difference from the row run alone is {largest:.0e}.")


# Third: packing.  A packed batch holds the real items alone, step by step: first the
# first item of all rows, then the second of all rows that have one, and so on.
#
#     B A D E C         step          1        2        3      4    5
#     C A B . .         data          B C E    A A A    D B    E    C
#     E A . . .         batch_sizes   3        3        2      1    1
#
# batch_sizes says how many rows still run at each step.  The rows must come longest
# first, or a finished row would lie between running ones; enforce_sorted=False lets
# PyTorch sort them and put the results back.  nn.RNN then takes no step on padding, and
# its h_n holds each row's true last state.
#
# Which remedy when?
#     a mask          whenever you average, add, or compare: losses (08), attention (09)
#     length - 1      you want one last state, and the network reads forwards: plainest
#     packing         the network reads backwards too (07): from the right it would meet
#                     the padding first, and no index can undo that; or you want h_n


def pack_by_hand(ids, lengths):
    """A padded batch (B, T), longest row first -> data (items,), batch_sizes (T,).

    data holds the real items; batch_sizes, how many rows still run at each step.
    """
    data = []
    batch_sizes = []
    for t in range(ids.shape[1]):
        running = 0  # rows that have an item at this step
        for number in range(ids.shape[0]):
            if t < lengths[number]:
                data.append(ids[number, t].item())
                running += 1
        batch_sizes.append(running)
    return torch.tensor(data), torch.tensor(batch_sizes)


def show_packing():
    """Print what a packed batch stores, by hand and by PyTorch."""
    ids, lengths = utils.pad([encode(word) for word in TOY_WORDS])  # (3, 5), (3,)
    data, batch_sizes = pack_by_hand(ids, lengths)  # (10,), (5,)
    theirs = pack_padded_sequence(ids, lengths, batch_first=True)
    steps = [spell(step) for step in data.split(batch_sizes.tolist())]
    print("\nPacking: the real items of BADEC, CAB, EA, step by step")
    print(f"  data          {' | '.join(steps)}")
    print(f"  batch_sizes   {batch_sizes.tolist()}")
    print(f"  stored: {len(data)} items instead of {ids.numel()} cells")
    of_data = (data - theirs.data).abs().max()
    of_sizes = (batch_sizes - theirs.batch_sizes).abs().max()
    print("  largest difference from pack_padded_sequence:", end=" ")
    print(f"{of_data} (data), {of_sizes} (batch_sizes)")


# The same on a batch of this run: the sequences, cut to different lengths.


def cut_words(words):
    """Cut words of T letters to random lengths from 2 to T; the first stays whole."""
    generator = random.Random(20240107)
    length = len(words[0])
    cut = []
    for word in words:
        cut.append(word[: generator.randint(2, length)])
    cut[0] = words[0]
    cut[1] = words[1][: length // 2]  # so that any batch has something to pad
    return cut


def last_states(rnn, words):
    """The last state of each word in four ways: name -> (B, H).  Longest word first.

    "alone" runs each word by itself, without any padding: so it is right.
    """
    device = rnn.weight_ih_l0.device
    ids, lengths = utils.pad([encode(word) for word in words])  # (B, T), (B,)
    x = one_hot(ids).to(device)  # (B, T, F)
    alone = []
    with torch.no_grad():
        for number, length in enumerate(lengths.tolist()):
            _, h_n = rnn(x[number : number + 1, :length])  # (1, 1, H)
            alone.append(h_n[0, 0])
        states, _ = rnn(x)  # (B, T, H)
        # Lengths stay on the CPU, which plans the steps of a packed batch.
        packed = pack_padded_sequence(x, lengths, batch_first=True)
        _, h_n = rnn(packed)  # (1, B, H)
    return {
        "alone": torch.stack(alone),
        "last column": states[:, -1],
        "length - 1": last_real_state(states, lengths),
        "h_n of packed": h_n[0],
    }


def print_unequal_lengths(words, device):
    """Print what padding does to a batch of this run, and to six of its rows."""
    cut = cut_words(words)
    lengths = torch.tensor([len(word) for word in cut])  # (B,)
    mask = utils.length_mask(lengths, int(lengths.max()))  # (B, T)
    unused = (~mask).float().mean().item()
    print(f"\nA batch of this run: {len(cut)} rows, cut to lengths from 2 to", end=" ")
    print(f"{len(words[0])}.  Padding is {unused:.0%} of")
    print(f"the grid.  An untrained nn.RNN, H = {HIDDEN}, on some of the rows: largest")
    print("difference of the last state from that of the word run alone")
    some = sorted(cut[:6], key=len, reverse=True)
    rnn = nn.RNN(FEATURES, HIDDEN, batch_first=True).to(device)
    found = last_states(rnn, some)
    alone = found.pop("alone")  # (6, H)
    print("  length   last column   length - 1   h_n of packed")
    for number, word in enumerate(some):
        shown = f"  {len(word):>6}"
        for name, state in found.items():
            gap = (state[number] - alone[number]).abs().max().item()
            shown += f"   {gap:>{len(name)}.3f}"
        print(shown)
    print("Reading it: the last column is wrong for each padded row, by much: a state")
    print("lies between -1 and 1.  Both remedies are right.")


# ====================================================================================
# 3. Training
# ====================================================================================
#
# The weights start as small random numbers; training changes them until the answers are
# right.  Four words before the loop.
#
# Loss: one number that says how wrong the model is.  Two scores become probabilities
# (e to the power of each, divided by their sum: softmax), and the loss of one sequence
# is minus the logarithm of the probability of its *right* label, called cross-entropy:
# sure and right costs 0, a guess costs -ln 0.5 = 0.693, sure and wrong costs much.
# (The unit of the natural logarithm is the nat.)
#
# Gradient: for each weight, how the loss changes if the weight grows a little.  PyTorch
# computes it, working from the loss back to the weights: `backward`.
#
# Learning rate: how far a weight moves against its gradient.
#
# Epoch: one pass over all training sequences, batch by batch, one step a batch.


def show_loss():
    """Print two scores, their probabilities and the loss, for both possible labels."""
    heading("10. Training")
    scores = torch.tensor([0.2, 1.2])
    powers = scores.exp()  # (2,): e to the power of each score
    chances = powers / powers.sum()  # (2,)
    print("The loss of one sequence, from its two scores:")
    print("  answer          score   e^score   probability   loss if this is right")
    for label, answer in enumerate(("B first", "A first")):
        print(
            f"  {label}, {answer:<10}   {scores[label]:>5.1f}   "
            f"{powers[label]:>7.3f}   {chances[label]:>11.3f}   "
            f"{-chances[label].log():>8.3f}"
        )
    theirs = nn.functional.cross_entropy(scores.unsqueeze(0), torch.tensor([1]))
    print(f"  nn.functional.cross_entropy for label 1: {theirs:.3f}")


def show_one_update():
    """Print a step of training for a model of one weight, and a forgotten zero_grad."""
    weight = torch.tensor(1.0, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)  # the plainest rule of a step
    print("One step of training, a model of one weight w = 1: w * 2 should become 3")
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
    print(f"  without zero_grad, backward leaves the old gradient in: {both:.1f}")
    optimizer.zero_grad()  # and how it should be: clear first
    loss = (weight * 2 - 3) ** 2
    loss.backward()
    print(f"  with it, that of this step alone: {weight.grad.item():.1f}")


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
        # a step would follow the sum of all gradients since the start.
        optimizer.zero_grad()
        # Backward: how does the loss change if a weight grows a little?  In a recurrent
        # network the answer travels back through all T steps.
        loss.backward()
        # Step: change each weight a little, against its gradient: the loss falls.
        optimizer.step()
        # The loss is a batch's mean, and the last batch may be smaller: weigh it.
        total += loss.item() * len(chosen)
    return total / len(x)


def train(model, x, y, batch_size, epochs=EPOCHS):
    """So many epochs with Adam; returns a record of each: number, loss, seconds."""
    # Adam (Kingma and Ba, 2015) gives each weight a step size of its own.
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    records = []
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        loss = train_epoch(model, optimizer, x, y, batch_size)
        spent = time.perf_counter() - start
        record = {"epoch": epoch, "loss": loss, "loop_seconds": spent, "seconds": spent}
        records.append(record)
    return records


def new_model(name, length):
    """An untrained model by its name."""
    if name == "sum":
        return SumClassifier()
    if name == "linear":
        return LinearClassifier(length)
    return RNNClassifier()


def train_from_seed(name, examples, args, epochs=EPOCHS):
    """Build and train one model; returns it with its records."""
    # Seeded here and not once for all, so that a model's result does not depend on
    # which others were trained before it.
    utils.set_seed(args.seed)
    length = examples.x.shape[1]
    model = new_model(name, length).to(args.device)
    records = train(model, examples.x, examples.labels, args.batch_size, epochs)
    return model, records


def train_all(examples, args):
    """Train the two rivals and the recurrent network: two dicts, models and records."""
    steps = math.ceil(len(examples.words) / args.batch_size)
    print(f"\nTraining three models, {EPOCHS} epochs of {steps} steps.  Mean loss:")
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
    return models, all_records


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# Accuracy is the share of right answers, on sequences that were held back.  Guessing
# has 0.5, since half of all sequences have label 1.


def answers(model, x):
    """The answers (N,) of a model to x (N, T, F): 1 where it says "A comes first"."""
    with torch.no_grad():  # nothing is trained here, so no gradients need be prepared
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


def right_and_wrong(model, examples):
    """Numbers of two sequences that the model gets right, and of two it gets wrong."""
    right = answers(model, examples.x) == examples.labels  # (N,)
    some_right = torch.nonzero(right).flatten()[:2].tolist()
    some_wrong = torch.nonzero(~right).flatten()[:2].tolist()
    return some_right + some_wrong


def other_lengths(length):
    """Lengths that no model was trained on: half, one and a half, twice as long."""
    return [length // 2, length + length // 2, 2 * length]


def score_lengths(model, length, device):
    """Accuracies on other lengths: {"6 steps": 1.0, ...}, or "cannot"."""
    accuracies = {}
    for steps in other_lengths(length):
        examples = to_examples(make_words(steps, QUICK_PAIRS), device)
        if isinstance(model, LinearClassifier):
            accuracies[f"{steps} steps"] = "cannot"  # it raises an error, see part 4
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


# How sure are we?  Two models answer the same held-out sequences.  Those that both get
# right, or both wrong, say nothing about which is better.  Count the others: only the
# first is right, only the second is.  Were the two equally good, each of these would be
# the toss of a coin.  McNemar's test says how probable tosses so uneven are: p.  Below
# 0.05 one stops believing in luck.


def compare_models(models, test, ours, theirs):
    """Print McNemar's test of two models; returns it as a sentence for the ending."""
    truth = test.labels.cpu()  # (N,)
    ours_right = answers(models[ours], test.x).cpu() == truth  # (N,)
    theirs_right = answers(models[theirs], test.x).cpu() == truth  # (N,)
    only_ours, only_theirs, p = utils.mcnemar(ours_right, theirs_right)
    print(f"  {ours} and {theirs}: only {ours} is right {only_ours} times,", end=" ")
    print(f"only {theirs} {only_theirs} times: p = {p:.1g}")
    if p >= 0.05:
        return f"{ours} and {theirs} cannot be told apart (p = {p:.1g})"
    verb = "beats" if only_ours > only_theirs else "loses to"
    return f"{ours} {verb} {theirs} (p = {p:.1g})"


def report(models, all_records, test, source, args):
    """Print answers, the result table and the tests: (table, sentences on tests)."""
    heading("11. Does the order matter?")
    # Twins stand side by side, so the first six are three pairs.
    print_answers(
        "Held-out sequences, three pairs of twins.  Which comes first, A or B?",
        test,
        models,
        range(min(6, len(test.words))),
    )
    print("Reading it: the sum model answers twins alike, once right and once wrong.")
    table = score_all(models, all_records, test, args)
    count = len(test.words)
    title = f"{source.label}: {count} held-out sequences, then other lengths"
    utils.print_table(title, table)
    print("Could that be luck?  McNemar's test on the held-out sequences:")
    sentences = []
    for rival in ("sum", "linear"):
        sentences.append(compare_models(models, test, "rnn", rival))
    print("Other lengths: the linear layer has no weights for them.  The recurrent")
    print("network can always take one more step; whether it *answers* well there is")
    print("another matter: it has learned to remember for as long as training asked.")
    # Where all held-out answers are right, wrong ones are found on longer sequences.
    steps = 2 * args.sequence_length
    longer = to_examples(make_words(steps, QUICK_PAIRS), args.device)
    numbers = right_and_wrong(models["rnn"], longer)
    both = {"rnn": models["rnn"], "by hand": classifier_by_hand().to(args.device)}
    print_answers(f"Some sequences of {steps} letters:", longer, both, numbers)
    return table, sentences


# Few examples.  Of 1,600 sequences of 12 letters, about 130 have their A at any given
# place, so the linear layer can learn every place.  Of 40 sequences, about 3 have.  The
# recurrent network has one step to learn, and every example is about that step.  (This
# is no law: from 40 sequences of 40 letters neither learns much, and the network less.)


def compare_on_few(train_words, test, args):
    """Train linear and rnn on few sequences: their accuracies, and McNemar's test."""
    few = to_examples(train_words[:FEW], args.device)
    epochs = FEW_EPOCHS // 5 if args.quick else FEW_EPOCHS
    print(f"\nTrained on {FEW} sequences only, {epochs} epochs; same held-out ones:")
    models = {}
    accuracies = {}
    for name in ("linear", "rnn"):
        models[name], _ = train_from_seed(name, few, args, epochs)
        accuracies[name] = accuracy(models[name], test)
        print(f"  {name:<6}   accuracy {accuracies[name]:.4f}")
    sentence = compare_models(models, test, "rnn", "linear")
    return accuracies, sentence


# What does the hidden state look like on its way?  Twins whose fillers are all C, so
# that only A and B can change the picture.


def show_states(rnn, source, args):
    """Print and draw the trained network's states for two twins."""
    length = args.sequence_length
    a_place = length // 3
    b_place = 2 * a_place
    letters = ["C"] * length
    letters[a_place] = "A"
    letters[b_place] = "B"
    word = "".join(letters)
    twins = to_examples([word, word.translate(str.maketrans("AB", "BA"))], args.device)
    with torch.no_grad():
        states, _ = rnn(twins.x)  # (2, T, H)
    states = states.cpu()
    gap = (states[0] - states[1]).abs().amax(dim=1)  # (T,): the largest over H units
    print(f"\nThe trained network's states for {twins.words[0]} and {twins.words[1]}:")
    for step in (a_place, a_place + 1, b_place + 1, length):
        print(f"  after step {step:>3} they differ by {gap[step - 1]:.3f}")
    print("Reading it: the same until the first of A and B has been read.  The answer")
    print("is made from the last state alone: the difference left there is all it has.")
    print(
        "In the two pictures compare the last columns.  Unlike our note by hand, most"
    )
    print(
        "units may turn over when the second letter comes: training found its own way."
    )
    for number, letter in enumerate("AB"):
        utils.plot_matrix(
            args,
            f"hidden_{letter.lower()}_first",
            f"Hidden state, {letter} first: {source.label}",
            states[number].T,  # (H, T)
            rows=range(1, HIDDEN + 1),
            columns=list(twins.words[number]),
            xlabel="letter read",
            ylabel="hidden unit",
            bar="h_t, between -1 and 1",
            centred=True,
        )


# --- why 100 steps are not learned ----------------------------------------------------
#
# The same sequences of 12 letters, and behind them 88 fillers.  Question and answer are
# the same, but the answer has to be kept for 88 steps more.  Nothing else changes.
#
# First with a pencil.  h_t = tanh(0.5 x_t + 0.8 h_(t-1)): a 1 comes in, then zeros.  At
# each step h becomes about 0.8 times as large, so after k steps there is about 0.8^k of
# it: 0.8^10 = 0.107, 0.8^99 = 0.00000000025.  A network that starts with small random
# weights is like that: each step keeps a part of the state and loses the rest.
#
# And the same product stands in the way back.  The gradient says how the loss would
# change if something at step t were a little different.  If a change at step 1 is
# multiplied by 0.8 ninety-nine times before it arrives at the loss, the loss hardly
# changes, so the gradient is hardly there, so training has no reason to move the
# weights in the direction of remembering.  This is called the vanishing gradient.
#
# It is not that no weights could do it.  Those that we set by hand can: W_hh = 4 keeps
# the sign for any number of steps.  But they keep it by pressing h against the flat end
# of tanh, and where a curve is flat no gradient passes either: its slope there is
# 1 - h^2 = 0.0013, times W_hh = 0.005 a step.  In a plain RNN, what forgets lets
# little gradient through, and what remembers lets less (Bengio and others, 1994).
#
# It is the long way that is not learned, not the long sequence.  With
# `--sequence-length 100`, A and B stand anywhere, and in a fifth of the sequences one
# of them is among the last ten letters.  Of the seeds 0 to 5, five learned that, with
# an accuracy of 1.0000 (seed 5: 0.5625).  Presumably the near letters teach the network
# to keep a sign, and what keeps it for ten steps keeps it for ninety.  Here, no
# sequence offers a short way to begin with.


def show_fading():
    """Print how one unit forgets a 1, and where it matters when the 1 came."""
    heading("12. Why 100 steps are not learned")
    rnn = fading_rnn()
    print("One unit, h_t = tanh(0.5 x_t + 0.8 h_(t-1)), three steps:")
    for inputs in ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0]):
        with torch.no_grad():
            states, _ = rnn(torch.tensor(inputs).reshape(1, 3, 1))  # (1, 3, 1)
        shown = ", ".join(f"{value:.3f}" for value in states.flatten().tolist())
        print(f"  x = {inputs}   h = {shown}")
    print("Equal sums, but the last h differs: it knows when the 1 came.  And it")
    print("forgets.  A 1, then zeros:")
    x = torch.zeros(1, 100, 1)  # (B, T, F)
    x[0, 0, 0] = 1.0
    with torch.no_grad():
        states, _ = rnn(x)  # (1, 100, 1)
    for step in (1, 2, 12, 100):
        print(f"  after step {step:>3}   h = {states[0, step - 1, 0]:.2g}")


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

    In 64-bit numbers, because both become very small.
    """
    model = model.double()
    x = examples.x.double().requires_grad_()  # (N, T, F): ask for its gradient too
    states, _ = model.rnn(x)  # (N, T, H)
    loss = nn.functional.cross_entropy(model.output(states[:, -1]), examples.labels)
    loss.backward()
    # Twins stand side by side: 0 and 1, 2 and 3, ...
    apart = (states[0::2] - states[1::2]).abs().amax(dim=2)  # (N / 2, T)
    gradient = x.grad.norm(dim=2)  # (N, T): the length over F features
    return apart.mean(dim=0).detach(), gradient.mean(dim=0)


def print_vanishing(examples, seed):
    """Print what is left of letters and gradient in an untrained network."""
    utils.set_seed(seed)
    apart, gradient = trace_and_gradient(RNNClassifier(), examples)  # (100,), (100,)
    gradient = gradient / gradient[-1]  # as multiples of the last step's
    last = examples.x.shape[1]
    print(f"An untrained network, twins of 12 letters and {WAIT} fillers:")
    print("          how far the states    how large the gradient is at")
    print("  step    of twins differ       that step (last step: 1)")
    for step in (12, 20, 30, 50, last):
        there = f"{apart[step - 1]:.0e}"
        print(f"  {step:>4}    {there:<20}  {gradient[step - 1]:.0e}")
    print("Reading it: downwards, what is left of the letters on their way to the")
    print("answer; upwards, what is left of the gradient on its way to the letters.")
    print("(0e+00: smaller than 64-bit numbers near 1 can tell apart.)")


def train_waiting(args, pairs):
    """Train the network on 100 steps; print and return its accuracy and its losses."""
    train_words, test_words = split(add_fillers(make_words(12, pairs), WAIT))
    train_part = to_examples(train_words, args.device)
    test_part = to_examples(test_words, args.device)
    print_vanishing(to_examples(train_words[:64]), args.seed)  # on the CPU
    model, records = train_from_seed("rnn", train_part, args)
    losses = [record["loss"] for record in records]
    trained = accuracy(model, test_part)
    by_hand = accuracy(classifier_by_hand().to(args.device), test_part)
    print(f"After the same {EPOCHS} epochs of training, 12 letters and {WAIT} fillers:")
    print(f"  trained   loss {losses[0]:.4f} -> {losses[-1]:.4f}", end="")
    print(f"   accuracy on {len(test_words)} held-out sequences {trained:.4f}")
    print(f"  by hand   weights of part 5, nothing trained   accuracy {by_hand:.4f}")
    print("Reading it: weights that remember exist.  Training does not find them,")
    print("because nothing tells it where they are.  Lesson 04 follows the gradient")
    print("back step by step; lesson 05 builds a cell that it can pass through.")
    return trained, losses


def draw_losses(all_records, waiting_losses, source, args):
    """One picture: the loss of each model over the epochs."""
    guess = math.log(2)
    curves = {"guessing, ln 2": [guess] * EPOCHS}
    for name, records in all_records.items():
        curves[name] = [record["loss"] for record in records]
    # On the line of guessing, so that one is dashed: else it would hide it.
    curves[f"rnn, 12 letters and {WAIT} fillers"] = waiting_losses
    title = f"Training loss, T = {args.sequence_length}: {source.label}"
    utils.plot_lines(
        args,
        "training",
        title,
        curves,
        "epoch",
        "mean cross-entropy (nats)",
        x=range(1, EPOCHS + 1),
        dashed=("guessing, ln 2",),
    )


def write_results(table, models, all_records, waiting, examples, source, args):
    """metrics.json: the recurrent network's scores, its rivals beside it."""
    metrics = {"test_accuracy": table["rnn"]["test_accuracy"]}
    # The same three lengths for every T, so that runs can be compared by name.
    names = ("half_length", "longer_by_half", "double_length")
    for name, steps in zip(names, other_lengths(args.sequence_length), strict=True):
        metrics[f"{name}_accuracy"] = table["rnn"][f"{steps} steps"]
    metrics["waiting_accuracy"] = waiting
    each = {}
    for name in models:
        each[name] = {"test_accuracy": table[name]["test_accuracy"]}
    utils.write_metrics(
        args,
        source,
        metrics,
        {"majority": 0.5},
        utils.count_parameters(models["rnn"]),
        all_records["rnn"],
        len(examples.words),
        "sequences",
        each,
    )


def answer_the_title(table, sentences, of_few, few_sentence, waiting, args):
    """The answer to the title, in plain words."""
    of_sum = table["sum"]["test_accuracy"]
    of_linear = table["linear"]["test_accuracy"]
    of_rnn = table["rnn"]["test_accuracy"]
    length = args.sequence_length
    longest = other_lengths(length)[-1]
    at_longest = table["rnn"][f"{longest} steps"]
    heading("What this lesson found")
    print("What is a sequence?  Items whose order matters: a table of T steps by F")
    print("features.  Twins hold the same items; only their order differs.")
    print("Why does its order need a network of its own?")
    print(f"  - Adding up loses the order: {of_sum:.4f} right, and guessing is 0.5.")
    print(f"    {sentences[0]}.")
    print(
        f"  - One linear layer can know it: {of_linear:.4f}, the network {of_rnn:.4f}."
    )
    print(f"    {sentences[1]}.")
    print(
        f"    But it is built for {length} steps and no others, its weights grow with"
    )
    print("    the length, and it learns each place by itself.  From few examples it")
    print(f"    has {of_few['linear']:.4f}, the network {of_few['rnn']:.4f}.")
    print(f"    {few_sentence}.")
    print("  - The recurrent network uses one step again and again.  What it keeps of")
    print("    the order is in its hidden state, and nowhere else.")
    print("How far does it reach?  It can take any number of steps, but it does not")
    print("learn to remember over any number:")
    print(f"    {longest} steps, twice those of its training   {at_longest:.4f} right")
    print(f"    trained with {WAIT} fillers behind the letters   {waiting:.4f} right")


# ====================================================================================
# 5. Command line
# ====================================================================================


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    add = parser.add_argument_group("this lesson").add_argument
    add(
        "--sequence-length",
        type=utils.whole(5, 100),
        default=12,
        metavar="T",
        help="steps of a sequence, 5 to 100 (default 12)",
    )
    add(
        "--batch-size",
        type=utils.whole(2),
        default=32,
        metavar="B",
        help="sequences in one step, 2 or more (default 32)",
    )
    return parser


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__, small=True)
    source = utils.Source("generated", None, False)

    # 1. The data: one sequence as a tensor, then the twins of this run.
    pairs = QUICK_PAIRS if args.quick else PAIRS
    train_words, test_words = split(make_words(args.sequence_length, pairs))
    if args.batch_size > len(train_words) and not args.quick:
        raise utils.UserError(
            f"--batch-size {args.batch_size} is more than the {len(train_words)} "
            f"training sequences of this run; give {len(train_words)} or less"
        )
    train_part = to_examples(train_words, args.device)
    test_part = to_examples(test_words, args.device)
    show_a_sequence()
    print_data(train_part, test_part)

    # 2. The models: two rivals, the recurrent step, what nn.RNN returns; then what to
    #    do with sequences of unequal length.
    show_the_sum()
    show_the_linear_layer()
    show_one_step()
    show_why_tanh()
    show_two_units()
    show_what_rnn_returns()
    show_many_steps()
    show_padding()
    show_masked_mean()
    show_last_state()
    show_packing()
    utils.set_seed(args.seed)
    print_unequal_lengths(train_words[: args.batch_size], args.device)

    # 3. Training: the loss, one step with numbers, then all three models.
    show_loss()
    show_one_update()
    models, all_records = train_all(train_part, args)

    # 4. Evaluation: answers, the table, how sure; the hidden state; 100 steps; the end.
    table, sentences = report(models, all_records, test_part, source, args)
    of_few, few_sentence = compare_on_few(train_words, test_part, args)
    show_states(models["rnn"].rnn, source, args)
    show_fading()
    waiting, waiting_losses = train_waiting(args, pairs)
    draw_losses(all_records, waiting_losses, source, args)
    write_results(table, models, all_records, waiting, train_part, source, args)
    answer_the_title(table, sentences, of_few, few_sentence, waiting, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
