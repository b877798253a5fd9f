"""04 · Can a plain RNN tell where a name comes from?

"Satoshi" sounds Japanese, "Rossi" Italian, "Schmidhuber" German.  Nobody taught you a
rule for that: you have read many names.  Here a recurrent neural network (RNN) does the
same.  It reads a surname one letter at a time, keeps what it needs in a few numbers,
its hidden state, and after the last letter says which of 18 languages the name is from.

What you will learn
    - the recurrent step by hand, with numbers, and why tanh stands in it
    - how scores become probabilities (softmax), and what the loss is (cross-entropy)
    - how the gradient runs back through the letters, by hand: back-propagation
      through time
    - the training loop, every line with its reason; it is the one that all later
      lessons use as `utils.fit`
    - how to judge a model: three parts of data, a rival that a sceptic would choose,
      and a test of whether the difference is more than luck
    - what a plain RNN forgets, as a measured curve: the door to lessons 05 and 06

You need lessons 01 to 03: a batch of sequences with padding, lengths and mask (01), a
vocabulary and an embedding (02), why data are split before anything is fitted (03).

Run it
    python 04_simple_rnn.py
    python 04_simple_rnn.py --predict Schmidhuber Satoshi
    python 04_simple_rnn.py --epochs 20

You should see  (names [real], seed 0, one thread, half a minute to a minute in all)
      model               accuracy   macro_f1   top3_accuracy
      rnn (this lesson)     0.8271     0.5008          0.9444
      majority              0.5270     0.0383          0.7777
      letter_groups         0.8616     0.5887          0.9483
    accuracy is the share of test names whose language is named rightly, top3_accuracy
    the share whose language is among the three likeliest.  macro_f1 lets a rare
    language count as much as a common one (section 4 says how).  "majority" answers
    Russian to everything; "letter_groups" counts groups of one to four letters and
    knows of their place only whether they begin or end the name.  It wins, and the
    lesson says so, and what may be the reason.

Try this  (guess first, then run)
    --overfit-one-batch    can the model learn 64 names by heart?  It must.
    --compare cell         LSTM and GRU, the cells of the next lessons, at equal size
    --compare clip         what clipping saves when W_hh starts four times too large
    --leaky-split          how much does the usual careless split flatter?
    --cell gru --bidirectional --hidden-size 256 --dropout 0.5 --weight-decay 0.3
                           is that enough to beat the letter groups?
"""

# Sizes
#     B  batch (names)        T  time (letters of the longest name in the batch)
#     E  embedding            H  hidden state (numbers the network remembers)
#     V  vocabulary (letters) C  classes (languages)
#     N  names of one part of the data

import math
import sys
import unicodedata
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================
#
# The data are 18 text files, one for each language: names/Italian.txt holds one Italian
# surname a line.  Three things have to be settled before a network may see them.
#
# What is one example?  A pair (spelling, language).  "lee" stands in three files, so it
# is three examples, and no model can be right about all three: it sees only letters.
#
# Which spellings are the same?  "Müller" and "MÜLLER" should be, so all letters become
# lower case.  And "é" can be stored as one sign or as "e" plus an accent; both look the
# same to us, so they must be the same to the model (that form is called NFC).
#
# How is it split?  In three parts, as in lesson 03: training (80 %), to learn from;
# validation (10 %), to choose by, such as which epoch was the best; test (10 %), which
# is looked at once, at the end.  The files hold many names twice or more.  Were lines
# dealt out at random, a name could stand in training *and* in test, and the network
# would only have to remember it.  That is called a leak.  So the split is by spelling:
# all lines of a spelling go to the same part.  `--leaky-split` measures the difference.


def as_the_model_sees_it(name):
    """Lower case, é as one sign, and 100 letters at most."""
    return unicodedata.normalize("NFC", name.strip()).lower()[:100]


def read_labelled_lines(folder):
    """A folder of <label>.txt files, one example a line: list of (line, label).

    Repeats are kept.  Raises UserError if there are not at least two such files.
    """
    if not Path(folder).is_dir():
        raise utils.UserError(
            f"{folder} is not a folder; it should hold one <label>.txt per class"
        )
    files = sorted(Path(folder).glob("*.txt"))
    if len(files) < 2:
        raise utils.UserError(
            f"{folder} holds {len(files)} .txt files; it takes two or more, one a class"
        )
    found = []
    for path in files:
        for line in utils.read_text(path).splitlines():
            name = " ".join(line.split())
            if name:
                found.append((name, path.stem))
    return found


def read_names(args):
    """(Source, lines): every line as (spelling, language), repeats included."""
    offline = {"sample": utils.SAMPLES / "names"}
    source = utils.choose_dataset(args, ["names"], offline)
    lines = [
        (as_the_model_sees_it(name), language)
        for name, language in read_labelled_lines(source.path)
    ]
    if args.quick:  # every so many lines, so that all languages are there
        lines = lines[:: max(1, len(lines) // 600)]
    return source, lines


def split_without_leak(lines):
    """Training, validation, test: lists of (spelling, language), each pair once.

    If "lee" is English, Chinese and Scottish, all three pairs lie in the same part, so
    that no spelling of validation or test was seen in training.
    """
    pairs = sorted(set(lines))
    # Which part a spelling goes to depends on the spelling alone, not on --seed: so
    # everyone who runs this lesson is scored on the same test names.
    part_of = utils.split_by_hash(spelling for spelling, _ in pairs)
    parts = [[], [], []]
    for spelling, language in pairs:
        parts[part_of[spelling]].append((spelling, language))
    languages = {language for _, language in parts[0]}
    if not all(parts) or len(languages) < 2:
        raise utils.UserError("too few names to split; give at least 20 a language")
    return parts


def split_with_leak(lines):
    """The usual careless split: of lines.  Repeats of a name land on both sides."""
    numbers = [str(number) for number in range(len(lines))]
    part_of = utils.split_by_hash(numbers)
    parts = [[], [], []]
    for number, line in zip(numbers, lines, strict=True):
        parts[part_of[number]].append(line)
    return parts


def to_tensors(pairs, vocabulary, labels):
    """Names as padded ids (N, T), their lengths (N,) and languages (N,)."""
    names, lengths = utils.pad([vocabulary.encode(name) for name, _ in pairs])
    classes = torch.tensor([labels.index(language) for _, language in pairs])
    return {"name": names, "name_length": lengths, "label": classes}


class Names(NamedTuple):
    """All that this lesson knows of its data."""

    source: utils.Source  # which data set, and whether it is real
    parts: list  # training, validation, test: lists of (spelling, language)
    vocabulary: utils.Vocabulary  # letters, counted in training alone
    labels: list  # the languages; a language's place in this list is its class
    train: utils.Batches  # the three parts as batches of tensors
    val: utils.Batches
    test: utils.Batches


def load_names(source, parts, feeds, args):
    """The parts as batches of tensors, in the letters and languages of `feeds`."""
    vocabulary = utils.Vocabulary(feeds["vocabulary"])
    labels = feeds["labels"]
    unknown = {language for part in parts for _, language in part} - set(labels)
    if unknown:
        raise utils.UserError(f"the model was not trained on {min(unknown)} names")
    train, val, test = (to_tensors(part, vocabulary, labels) for part in parts)
    # Names of similar length share a batch (bucket="name"), so that little of it is
    # padding.  Training is shuffled anew every epoch: if all Arabic names came first,
    # the network would learn to say "Arabic", and then unlearn it.
    return Names(
        source,
        parts,
        vocabulary,
        labels,
        utils.Batches(train, args.batch_size, args.device, shuffle=True, bucket="name"),
        utils.Batches(val, 1024, args.device, bucket="name"),
        utils.Batches(test, 1024, args.device, bucket="name"),
    )


def label_noise_ceiling(pairs):
    """The best accuracy any model can have on these pairs.

    It gives one answer to a spelling, though some spellings have several languages.
    """
    return len({name for name, _ in pairs}) / len(pairs)


def show_one_name(data):
    """Print one training name on its way from its file to the tensors."""
    name, language = next(
        (pair for pair in data.parts[0] if pair[1] == "Italian"), data.parts[0][0]
    )
    ids = data.vocabulary.encode(name)
    pairs = [(name, language), ("a" * 12, language)]  # the second: a longer neighbour
    batch = to_tensors(pairs, data.vocabulary, data.labels)
    print("\nOne name on its way from the file to the network:")
    print(f"  a line of {language}.txt   {name}")
    print(f"  its letters           {' '.join(name)}")
    print(f"  their ids             {' '.join(map(str, ids))}")
    print(f"  padded to 12 letters  {batch['name'][0].tolist()}, 0 is padding")
    print(f"  its length            {batch['name_length'][0]}")
    print(f"  its language          {language}, class {batch['label'][0]}")
    place = len(name) - 1
    print(f"The answer is read off after letter {len(name)} (place {place}, counting")
    print("from 0), not at the row's end: what follows there is padding.")


# ====================================================================================
# 2. Model
# ====================================================================================
#
# A name may have 3 letters or 19, and a letter means something only beside those before
# it: "sch" is not "s", "c" and "h".  A recurrent network solves both at once.  It has
# one small machine, the cell, and uses it again for every letter:
#
#      "i"           "t"           "o"
#       |             |             |        letter -> its vector x_t (the embedding)
#      x_1           x_2           x_3
#       | W_ih        | W_ih        | W_ih   input to hidden
#       v             v             v
#     +----+  W_hh  +----+  W_hh  +----+
#  0 -|cell|--h_1-->|cell|--h_2-->|cell|-- h_3 --> scores --> softmax --> "Japanese"
#     +----+        +----+        +----+
#                    hidden to hidden
#
# It is the same cell, with the same weights, three times: the drawing is called the
# network "unrolled" in time.  What the cell hands on, h_t, is the hidden state: H
# numbers, all that the network knows about the letters so far.  One step is (Elman,
# 1990)
#
#     h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)
#
# Why tanh?  It squeezes every number into -1 ... 1.  Without it, two bad things happen.
# First, h_t = W_hh h_(t-1) + ... multiplies the state by W_hh at every letter: if that
# makes it 1.5 times as large, it is 58 times as large after ten letters.  tanh stops
# that growth.  (It does not stop shrinking: that is the subject of section 3.)  Second,
# many linear steps in a row are one linear step: nothing could depend on *two* letters
# together, such as an "s" that counts only before "ki".

TOY_INPUT = [[1.0, 0.5], [0.0, 1.0], [1.0, 0.5]]  # three letters, E = 2: x_1, x_2, x_3
TOY_W_IH = [[0.5, 0.4], [-0.3, 0.8]]  # (H, E), H = 2
TOY_W_HH = [[0.6, -0.5], [0.1, 0.9]]  # (H, H)
TOY_BIAS = [0.1, -0.2]  # (H,), b_ih and b_hh in one


def show_one_step():
    """Print one recurrent step with every number substituted: E = 2, H = 2."""
    x = TOY_INPUT[0]
    h = [0.2, -0.4]
    print("\nOne step of the cell: two inputs x, two hidden units h.")
    print(f"  x_t = {x}, the letter's vector; h_(t-1) = {h}, what was known before")
    new_state = []
    for unit in range(2):
        w_ih = TOY_W_IH[unit]
        w_hh = TOY_W_HH[unit]
        from_input = w_ih[0] * x[0] + w_ih[1] * x[1]
        from_state = w_hh[0] * h[0] + w_hh[1] * h[1]
        total = from_input + from_state + TOY_BIAS[unit]
        new_state.append(torch.tanh(torch.tensor(total)).item())
        print(f"  unit {unit + 1}")
        products = f"{w_ih[0]} * {x[0]} + {w_ih[1]} * {x[1]}"
        print(f"    W_ih x      {products} = {from_input:.2f}")
        products = f"{w_hh[0]} * {h[0]} + {w_hh[1]} * {h[1]}"
        print(f"    W_hh h      {products} = {from_state:.2f}")
        print(f"    with bias   {from_input:.2f} + {from_state:.2f} + {TOY_BIAS[unit]}")
        print(f"    tanh of     {total:.2f} = {new_state[unit]:.3f}")
    shown = f"[{new_state[0]:.3f}, {new_state[1]:.3f}]"
    print(f"  h_t = {shown} goes on to the next letter.")


def rnn_by_hand(x, h, w_ih, w_hh, b_ih, b_hh):
    """The whole recurrent layer: x (B, T, E), h (B, H) -> every state (B, T, H).

    w_ih (H, E), w_hh (H, H), b_ih and b_hh (H,): one set of weights for all steps.
    """
    states = []
    for t in range(x.shape[1]):
        # h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)
        h = torch.tanh(x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)  # (B, H)
        states.append(h)
    return torch.stack(states, dim=1)  # (B, T, H)


def show_many_steps():
    """Print the largest difference between our layer and nn.RNN, in 64-bit numbers."""
    torch.manual_seed(4)
    layer = nn.RNN(5, 7, batch_first=True).double()
    x = torch.randn(4, 3, 5, dtype=torch.double)  # (B, T, E)
    h = torch.zeros(4, 7, dtype=torch.double)  # (B, H): nothing is known yet
    # layer.parameters() come in the order W_ih, W_hh, b_ih, b_hh.
    ours = rnn_by_hand(x, h, *layer.parameters())  # (4, 3, 7)
    theirs, last = layer(x)  # every state (4, 3, 7), and the last one (1, 4, 7)
    gap = (ours - theirs).abs().max()
    print("\nThe same step in a loop, against PyTorch's nn.RNN:")
    print(f"  states {tuple(theirs.shape)}, largest difference {gap:.0e}")
    print(f"  the last state, {tuple(last.shape)}, is the last of them:", end=" ")
    print(f"{(ours[:, -1] - last[0]).abs().max():.0e} apart")


# Now the network for names, in its plainest form: embedding, the cell in a loop, one
# linear layer on the state after each name's own last letter.


class NameRNN(nn.Module):
    """The whole idea in a few lines: it is all that "a plain RNN" means."""

    def __init__(self, letters, classes, embedding, hidden):
        super().__init__()
        self.embed = nn.Embedding(letters, embedding, padding_idx=0)
        self.cell = nn.RNNCell(embedding, hidden)
        self.output = nn.Linear(hidden, classes)

    def forward(self, names, lengths):
        """names (B, T) ids, lengths (B,) -> scores (B, C): one for each language."""
        x = self.embed(names)  # (B, T, E)
        h = x.new_zeros(len(names), self.cell.hidden_size)  # (B, H): nothing known yet
        states = []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)  # (B, H)
            states.append(h)
        states = torch.stack(states, dim=1)  # (B, T, H)
        # Of row i, the state after its last real letter.  Names of 3 and 1 letters: place
        # 2 of row 0 and place 0 of row 1.
        rows = torch.arange(len(names), device=names.device)
        last = states[rows, lengths.to(names.device) - 1]  # (B, H)
        return self.output(last)  # (B, C)


# The same with PyTorch's own layer, which runs the loop in fast code, and with what
# later lessons explain and the flags ask for: other cells (05, 06), several layers,
# reading from both ends (07), and dropout, which in training sets a random share of
# the numbers to 0, so that no single one is relied upon (05).

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class NameClassifier(nn.Module):
    """Embedding, recurrent layers, a linear layer on the state after the last letter."""

    def __init__(
        self,
        letters,
        classes,
        embedding,
        cell,
        hidden,
        layers=1,
        bidirectional=False,
        dropout=0.0,
        gain=1.0,
    ):
        super().__init__()
        self.embed = nn.Embedding(letters, embedding, padding_idx=0)
        self.rnn = CELLS[cell](
            embedding,
            hidden,
            num_layers=layers,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout if layers > 1 else 0.0,  # this one acts between layers
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * hidden if bidirectional else hidden, classes)
        start_orthogonal(self.rnn, gain)

    def forward(self, names, lengths):
        """names (B, T), lengths (B,) on the CPU -> scores before softmax (B, C)."""
        x = self.dropout(self.embed(names))  # (B, T, E)
        if self.rnn.bidirectional:
            last = self.last_states_of_both(x, lengths)  # (B, 2H)
        else:
            # Read forwards, padding comes after the letters and cannot change their
            # states: take the state at the last letter, ignore what follows it.
            states, _ = self.rnn(x)  # (B, T, H)
            rows = torch.arange(len(names), device=names.device)
            last = states[rows, lengths.to(names.device) - 1]  # (B, H)
        return self.output(self.dropout(last))  # (B, C)

    def last_states_of_both(self, x, lengths):
        """The last state read forwards beside the last read backwards: (B, 2H).

        Reading backwards must begin at the last letter, not in the padding.  Packing
        (lesson 01) tells the layer where each name ends.
        """
        packed = pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        _, h = self.rnn(packed)  # (layers * 2, B, H)
        if isinstance(h, tuple):  # an LSTM returns its memory c as well
            h = h[0]
        return torch.cat([h[-2], h[-1]], dim=1)  # (B, 2H)


def start_orthogonal(rnn, gain):
    """Let W_hh start as `gain` times an orthogonal matrix (Saxe et al., 2014).

    An orthogonal matrix turns or mirrors a vector and keeps its length.  So at the
    start, handing the state on for many letters neither blows it up nor wipes it out.
    An LSTM or GRU has several such matrices, one below the other.
    """
    for name, weight in rnn.named_parameters():
        if "weight_hh" in name:
            for matrix in weight.data.split(rnn.hidden_size):
                nn.init.orthogonal_(matrix, gain)


def show_plain_equals_fast(data):
    """Print that NameRNN and NameClassifier with the same weights agree on real names."""
    torch.manual_seed(4)
    plain = NameRNN(len(data.vocabulary), len(data.labels), embedding=8, hidden=16)
    fast = NameClassifier(
        len(data.vocabulary), len(data.labels), embedding=8, cell="rnn", hidden=16
    )
    # Only the names of the weights differ: cell.weight_ih is rnn.weight_ih_l0.
    weights = zip(fast.state_dict(), plain.state_dict().values(), strict=True)
    fast.load_state_dict(dict(weights))
    tensors = to_tensors(data.parts[1][:50], data.vocabulary, data.labels)
    with torch.no_grad():
        ours = plain(tensors["name"], tensors["name_length"])  # (50, C)
        theirs = fast(tensors["name"], tensors["name_length"])  # (50, C)
    print("\nNameRNN, our loop, and NameClassifier, PyTorch's layer, with the same")
    print(f"weights on {len(ours)} names: scores {tuple(ours.shape)},", end=" ")
    print(f"largest difference {(ours - theirs).abs().max():.0e}.")


# ====================================================================================
# 3. Training
# ====================================================================================
#
# The linear layer gives one score for each language, any number at all.  Three steps
# turn scores into something that can be lowered.
#
# Softmax makes probabilities of scores: take e to the power of each, so that all are
# above 0, then divide by their sum, so that they add up to 1.
#
# Cross-entropy is the loss of one name: minus the logarithm of the probability that the
# network gave to the *right* language.  Sure and right costs 0; a probability of 0.5
# costs 0.69, of 0.01 costs 4.6.
#
# The gradient says for every weight how the loss changes if the weight grows a little.
# Training moves each weight a small step the other way.


def show_softmax():
    """Print three scores, their probabilities, and the loss."""
    scores = torch.tensor([2.0, 1.0, 0.1])
    powers = scores.exp()  # e to the power of each
    chances = powers / powers.sum()
    print("\nSoftmax and cross-entropy, on three languages:")
    print("  language    score   e^score   probability   loss if it is the right one")
    for k, language in enumerate(("Italian", "Spanish", "Irish")):
        loss = -chances[k].log()
        print(
            f"  {language:<10}  {scores[k]:>5.1f}   {powers[k]:>7.2f}   "
            f"{chances[k]:>11.3f}   {loss:>8.3f}"
        )
    theirs = F.cross_entropy(scores.unsqueeze(0), torch.tensor([0]))
    print(f"  PyTorch's F.cross_entropy for Italian: {theirs:.3f}")


# How does the gradient get back to the first letter?  The loss depends on h_3 alone.
# But h_3 was made of h_2, and h_2 of h_1, so the chain rule goes back step by step:
#
#      h_1 <---- W_hh^T ---- h_2 <---- W_hh^T ---- h_3 <---- loss
#       |                     |                     |
#     + W_ih, W_hh          + W_ih, W_hh          + W_ih, W_hh      (gradients add up)
#
# (How does the loss get to h_3?  For cross-entropy, its gradient by the scores is simply
# the probabilities, less 1 at the right language; times the weights of the linear layer,
# that is dL/dh_3.  Below the loss is simpler still.)
#
# Each step back does two things.  It multiplies by tanh' (between 0 and 1: tanh is flat
# where its input is far from 0), and by W_hh, transposed.  Ten letters back, that is a
# product of ten such matrices.  If they shrink vectors, the gradient vanishes: the
# first letters get no say in what is learned.  If they stretch, it explodes.  And since
# the same weights act at every letter, their gradients from all letters are added.
# This is back-propagation through time.


def bptt_by_hand(x, w_ih, w_hh, bias, goal):
    """Gradients of L = goal . h_T for one sequence x (T, E), without autograd.

    Returns dL/dW_ih (H, E), dL/dW_hh (H, H) and a list of dL/dh_t (H,), t = 1 ... T.
    """
    # Forwards: keep every state, the way back needs them.
    states = [torch.zeros_like(bias)]  # h_0
    for x_t in x:
        states.append(torch.tanh(w_ih @ x_t + w_hh @ states[-1] + bias))  # (H,)
    # Backwards, from the last letter to the first.
    d_w_ih = torch.zeros_like(w_ih)
    d_w_hh = torch.zeros_like(w_hh)
    d_states = []
    d_h = goal  # dL/dh_T
    for t in range(len(x), 0, -1):
        d_states.insert(0, d_h)
        # With a = W_ih x + W_hh h + b and h = tanh(a): tanh'(a) = 1 - tanh(a)^2, so
        # dL/da_t = dL/dh_t * (1 - h_t^2)
        d_a = d_h * (1 - states[t] ** 2)  # (H,)
        # The same weights act at every step, so their gradients add up.
        d_w_ih += torch.outer(d_a, x[t - 1])  # (H, E)
        d_w_hh += torch.outer(d_a, states[t - 1])  # (H, H)
        # dL/dh_(t-1) = W_hh^T dL/da_t: once more for every step back.
        d_h = w_hh.T @ d_a  # (H,)
    return d_w_ih, d_w_hh, d_states


def show_gradient_through_time():
    """Print the gradient on its way back through three letters, and autograd's."""
    x = torch.tensor(TOY_INPUT, dtype=torch.double)  # (T, E) = (3, 2)
    w_ih = torch.tensor(TOY_W_IH, dtype=torch.double, requires_grad=True)
    w_hh = torch.tensor(TOY_W_HH, dtype=torch.double, requires_grad=True)
    bias = torch.tensor(TOY_BIAS, dtype=torch.double)
    goal = torch.tensor([1.0, 0.0], dtype=torch.double)
    with torch.no_grad():
        d_w_ih, d_w_hh, d_states = bptt_by_hand(x, w_ih, w_hh, bias, goal)
    print("\nThe gradient back through three letters, from h_0 = [0, 0].  The loss is")
    print("simply the first unit of h_3, so dL/dh_3 = [1, 0].  From h_3 back to h_2:")
    h0 = torch.zeros(1, 2, dtype=torch.double)
    nothing = torch.zeros_like(bias)
    states = rnn_by_hand(x.unsqueeze(0), h0, w_ih, w_hh, bias, nothing)  # (1, 3, 2)
    for t in (1, 2):  # needed on the way back from h_2, and for dL/dW_hh
        h = states[0, t - 1].tolist()
        print(f"  h_{t} = [{h[0]:.3f}, {h[1]:.3f}]")
    h_3 = states[0, 2].tolist()
    slope = 1 - h_3[0] ** 2
    print(f"  h_3 = [{h_3[0]:.3f}, {h_3[1]:.3f}], so tanh' of its first unit is")
    print(f"    1 - {h_3[0]:.3f}^2 = {slope:.3f}: dL/da_3 = [1 * {slope:.3f}, 0]")
    products = f"[0.6 * {slope:.3f}, -0.5 * {slope:.3f}]"
    print(f"  W_hh^T times that: {products}, dL/dh_2 below")
    for t in (3, 2, 1):
        d_h = d_states[t - 1]
        length = d_h.norm().item()
        bar = "#" * round(30 * length)
        shown = f"[{d_h[0]:+.3f}, {d_h[1]:+.3f}]"
        print(f"  dL/dh_{t} = {shown}  length {length:.3f} {bar}")
    # Autograd, PyTorch's own way back, on the same numbers.
    (states[0, -1] @ goal).backward()
    gap = max((d_w_ih - w_ih.grad).abs().max(), (d_w_hh - w_hh.grad).abs().max())
    print(f"  dL/dW_hh = {d_w_hh.numpy().round(3).tolist()}")
    print(f"  autograd finds the same gradients of W_ih and W_hh: {gap:.0e} apart.")
    print("Reading it: here each step back shortens it; with other weights it can")
    print("grow instead.  How it is for real names, section 4 measures.")


def show_clipping():
    """Print one gradient before and after clipping, and the step that it would make."""
    weight = nn.Parameter(torch.tensor([0.5, -0.2]))
    weight.grad = torch.tensor([3.0, 4.0])
    print("\nClipping.  One batch may give a huge gradient; the step that follows")
    print("throws away what was learned.  So a gradient longer than --clip is")
    print("shortened to that length; its direction stays.  A step of rate 0.1:")
    for when in ("before", "after "):
        length = weight.grad.norm().item()  # the root of 3 * 3 + 4 * 4 is 5
        gradient = [round(value, 2) for value in weight.grad.tolist()]
        step = [round(-0.1 * value, 2) for value in weight.grad.tolist()]
        print(f"  {when}   gradient {gradient}   length {length:.1f}   step {step}")
        nn.utils.clip_grad_norm_([weight], max_norm=1.0)
    print(
        "Adam, which trains below, adapts the size of its steps by itself, but slowly:"
    )
    print("it would remember one huge gradient for many steps.  So one clips too.")
    print(
        "In the training below nothing explodes: gradients are about as long as --clip"
    )
    print("(grad_norm), so clipping acts often, and gently.")


# That is all that training needs.  A lesson hands out one function, `measure`: what it
# costs and how right it is, one value for each name.  Everything else is the same in
# every lesson, and stands here once in the open.


def measure(model, batch):
    """Loss and accuracy of every name of the batch: (B,) each."""
    scores = model(batch["name"], batch["name_length"]).float()  # (B, C)
    answers = scores.argmax(1)  # (B,): the language of the highest score
    return {
        "loss": F.cross_entropy(scores, batch["label"], reduction="none"),  # (B,)
        "accuracy": answers == batch["label"],  # (B,), True or False
    }


def mean_loss(model, batches):
    """The mean loss over all names of all batches: a sum, divided once, at the end."""
    total = 0.0
    names = 0
    model.eval()  # dropout off: here we ask, we do not teach
    with torch.no_grad():  # no gradient is wanted, so none is prepared: faster
        for batch in batches:
            losses = measure(model, batch)["loss"]  # (B,)
            total += losses.sum().item()
            names += len(losses)
    return total / names


def train_by_hand(model, train, val, args):
    """The training loop of all lessons from here on, in the open.

    train, val: Batches.  Changes the model: afterwards it has the weights of the epoch
    whose loss on validation was the lowest.
    """
    # The rule of a step.  Adam adapts the size of the step for each weight by itself;
    # AdamW is Adam with weight decay, which draws every weight a little to 0 at each
    # step.  Its default here is 0: none.
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.lr, weight_decay=args.weight_decay
    )
    # The learning rate's course: a quarter of all steps up to --lr, then down to almost
    # nothing.  Careful at first, when gradients are wild; fine at the end.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=args.lr,
        total_steps=max(args.epochs * len(train), 5),
        pct_start=0.25,
        cycle_momentum=False,
    )
    best_loss = float("inf")
    for epoch in range(1, args.epochs + 1):  # an epoch is one pass over all names
        model.train()  # dropout on
        # The order of names and dropout are random, but the same at every run.
        utils.seed_epoch(args.seed, epoch)
        for batch in train:  # in a new order every epoch
            # Forget the gradients of the step before: else these would be added.
            optimizer.zero_grad()
            # The mean, so that a step does not depend on how many names the batch has.
            loss = measure(model, batch)["loss"].mean()
            # Back through the linear layer and all letters: fills every weight's .grad.
            loss.backward()
            # One steep place could undo all learning: shorten a gradient that is long.
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
            # Move every weight a little, against its gradient.
            optimizer.step()
            # Move the learning rate along its course, once a step.
            schedule.step()
        # How well does it do on names that it did not learn from?
        val_loss = mean_loss(model, val)
        # From some epoch on a model may learn names by heart, and get worse on others.
        # So keep a copy of the weights of the best epoch ...
        if val_loss < best_loss:
            best_loss = val_loss
            best_weights = utils.copy_weights(model)
    # ... and put them back at the end.
    model.load_state_dict(best_weights)


def show_the_loop_is_fit(config, data, args):
    """One epoch by `train_by_hand`, one by `utils.fit`, from the same start: compare."""
    # What further flags of `fit` ask for is switched off: the loop above has it not.
    fixed = {"epochs": 1, "optimizer": "adam", "clip": 1.0, "accumulate": 1}
    fixed |= {"precision": "fp32", "patience": 0}
    one_epoch = Namespace(**{**vars(args), **fixed})
    utils.set_seed(args.seed)
    ours = NameClassifier(**config).to(args.device)
    theirs = NameClassifier(**config).to(args.device)
    theirs.load_state_dict(ours.state_dict())
    before = mean_loss(ours, data.val)
    train_by_hand(ours, data.train, data.val, one_epoch)
    utils.fit(theirs, measure, data.train, data.val, one_epoch)
    gaps = [
        (weight - other).abs().max().item()
        for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True)
    ]
    print("\nThe loop in the open (train_by_hand) against utils.fit, one epoch each:")
    after = mean_loss(ours, data.val)
    print(f"  validation loss {before:.3f} before, {after:.3f} after")
    print(f"  largest difference between their weights: {max(gaps):.0e}")
    print(f"Guessing evenly would cost log({len(data.labels)}) =", end=" ")
    print(f"{math.log(len(data.labels)):.3f}.  (In the long training below the")
    print(
        "first epoch ends higher: there it is still warming up the learning rate, here"
    )
    print("one epoch is the whole course, up and down.)")
    print(
        "From here on `utils.fit` is known: it adds a progress line, files to go on from"
    )
    print("if a run is cut off, and what further flags ask for.")


def overfit_one_batch(config, data, args, steps=201):
    """`--overfit-one-batch`: learn 64 names by heart.  A model that cannot has a bug.

    The first thing to try when training does not work: it takes seconds, and tells a
    fault in the model from one in the data or the settings.
    """
    # Dropout would disturb what is to be learned by heart, so it is off.
    print("One batch again and again: its loss must fall to 0.")
    utils.set_seed(args.seed)
    model = NameClassifier(**{**config, "dropout": 0.0}).to(args.device)
    batch = data.train.take(torch.arange(min(data.train.n, 64)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    for step in range(steps):
        values = measure(model, batch)
        loss = values["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip or float("inf"))
        optimizer.step()
        if step % 20 == 0:
            right = int(values["accuracy"].sum())
            names = len(values["accuracy"])
            print(f"  step {step:>3}  loss {loss:.4f}  {right}/{names} right")
    print("Reading it: a spelling with two languages cannot be learned by heart; all")
    print("else must be.  If it is not, look for a fault in the model.")


def train_model(config, data, args, feeds=None):
    """A new model from --seed, trained: (model, records).  No `feeds`: no files."""
    utils.set_seed(args.seed)
    model = NameClassifier(**config).to(args.device)
    kept = config if feeds else None
    records = utils.fit(model, measure, data.train, data.val, args, kept, feeds)
    return model, records


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# First we look at what the network says, name by name.  Then one table on the test
# names.  It has three figures:
#
#   accuracy        the share of names whose likeliest language is the right one
#   macro_f1        accuracy hides rare languages: 1 name in 200 is Korean, and whoever
#                   never says Korean loses little.  F1 of a language combines how many
#                   of its names are found (recall) with how many of the answers that
#                   name it are right (precision): F1 = 2 P R / (P + R).  8 of 10 names
#                   found, in 16 answers: R = 0.8, P = 0.5, F1 = 0.62.  Macro-F1 is the
#                   plain mean of the F1 of all languages: a rare one counts like any
#   top3_accuracy   the share of names whose language is among the three likeliest
#
# And it has two rivals.  "majority" always answers with the commonest language: whoever
# is not better has learned nothing.  "letter_groups" is what a sceptic would choose: cut
# a name into groups of one to four letters, count them, and let a linear model
# (logistic regression) weigh the counts.  Its groups know what stands side by side; but
# it is a bag: it does not know where in the name a group stands, beyond its two ends.


def forward(model, batch):
    """Scores (B, C) of a batch, for `utils.collect`."""
    return model(batch["name"], batch["name_length"])


def likeliest(chances, labels, count=3):
    """The `count` languages of highest probability in `chances` (C,), as a text."""
    best = chances.topk(min(count, len(labels)))
    said = []
    for chance, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        said.append(f"{labels[place]} {chance:.0%}")
    return ", ".join(said)


def show_letter_by_letter(model, name, data, args):
    """Print what the network would answer after each letter of a name."""
    name = as_the_model_sees_it(name)
    ids = torch.tensor([data.vocabulary.encode(name)], device=args.device)  # (1, T)
    lengths = torch.arange(1, len(name) + 1)  # (T,): 1, 2, ..., T letters read
    with torch.no_grad():
        # The same name T times, but of row i only the first i + 1 letters count.
        scores = model(ids.expand(len(name), -1), lengths)  # (T, C)
    chances = scores.float().softmax(1).cpu()  # (T, C)
    print(f'\n"{name}" read letter by letter: the three likeliest after each')
    for t in range(len(name)):
        print(f"  {name[: t + 1]:<{len(name)}}  {likeliest(chances[t], data.labels)}")
    print("Reading it: each line is the answer if the name ended there.  A letter can")
    print("turn it round: the state holds what was read, and a new letter changes it.")
    print("(It learned from whole names alone: a lone s is taken for a name in -s.)")


def show_answers(scores, data):
    """Print ten test names from all over the test set, right and wrong."""
    pairs = data.parts[2]
    chances = scores.softmax(1)  # (N, C)
    print(f"\n{data.source.label}: ten test names, the answer, the truth")
    for place in range(0, len(pairs), max(1, len(pairs) // 10))[:10]:
        name, truth = pairs[place]
        answer = data.labels[int(chances[place].argmax())]
        mark = "✔" if answer == truth else "✘"
        said = f"{answer} ({chances[place].max():.0%})"
        print(f"  {mark} {name:<16} {said:<20} {truth}")


def letter_groups():
    """The baseline's way to count: groups of 1 to 4 letters, within a word.

    TF-IDF: a group counts more if the name has it often, and less if most names have
    it.  A space stands for the ends of the name: " mc" is "mc" at the beginning.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)


def show_letter_groups():
    """Print the groups of one short name."""
    groups = letter_groups().build_analyzer()("ito")
    print("\nThe letter groups of the name ito, its ends marked by a space (here _):")
    for size in (1, 2, 3, 4):
        some = [group.replace(" ", "_") for group in groups if len(group) == size]
        print(f"  {size} at a time   {'  '.join(dict.fromkeys(some))}")


def baselines(data, asked):
    """Scores (N, C) of the two rivals for the pairs `asked`, fitted on training."""
    found = utils.text_baselines(letter_groups(), data.parts[0], asked, data.labels)
    return {"majority": found["majority"], "letter_groups": found["linear"]}


def score_all(answers, truth):
    """name -> scores of each of `answers` (name -> (N, C)) against truth (N,)."""
    return {
        name: utils.classification_scores(scores, truth)
        for name, scores in answers.items()
    }


def report(model, config, records, data, args, flattered=None):
    """The table on test beside its baselines, what it means, and metrics.json."""
    ours = f"{config['cell']} (this lesson)"
    truth = data.test.data["label"].cpu()  # (N,)
    answers = {ours: utils.collect(model, forward, data.test, args)}  # (N, C)
    show_answers(answers[ours], data)
    show_letter_groups()
    answers |= baselines(data, data.parts[2])
    rows = score_all(answers, truth)
    if flattered:
        rows["the same, leaky split: flattered"] = flattered
    title = f"{data.source.label}: test, {len(truth):,} names"
    utils.print_table(title, rows)
    explain(answers, rows, ours, truth, data)
    metrics = {f"test_{name}": value for name, value in rows[ours].items()}
    checked = utils.judge(model, forward, data.val, args)
    metrics["val_accuracy"] = checked["accuracy"]
    if flattered:
        metrics["leaky_accuracy"] = flattered["accuracy"]
    known = {name: rows[name]["accuracy"] for name in ("majority", "letter_groups")}
    known["label_noise_ceiling"] = label_noise_ceiling(data.parts[2])
    letters = int(data.train.lengths["name_length"].sum())
    size = utils.count_parameters(model)
    utils.write_metrics(
        args, data.source, metrics, known, size, records, letters, "letters"
    )


def explain(answers, rows, ours, truth, data):
    """The answer to the title, in words, with a test of whether it could be luck."""
    ours_are_right = answers[ours].argmax(1) == truth  # (N,)
    theirs_are_right = answers["letter_groups"].argmax(1) == truth  # (N,)
    only_ours, only_theirs, p = utils.mcnemar(ours_are_right, theirs_are_right)
    gap = rows[ours]["accuracy"] - rows["letter_groups"]["accuracy"]
    best = label_noise_ceiling(data.parts[2])
    print("Could a perfect model reach 1?  No: some spellings have several languages,")
    print(f"so {best:.4f} is the best possible on these names.")
    print("Is the difference to the letter groups luck?  Count the test names that")
    print(
        f"only one of the two gets right: {only_ours} only the network, {only_theirs}"
    )
    print(
        "only the groups.  Were both equally good, each of these would be the toss of"
    )
    print("a coin (McNemar's test); tosses as uneven as this, or more so, then have")
    print(f"probability p = {p:.2g}.  Below 0.05 one stops believing in luck.")
    if p >= 0.05:
        verdict = "The network and the letter groups cannot be told apart here"
    elif gap > 0:
        verdict = "The network beats the letter groups"
    else:
        verdict = "But the network loses to the letter groups"
    ours_right = rows[ours]["accuracy"]
    commonest = rows["majority"]["accuracy"]
    print("\nCan a plain RNN tell where a name comes from?")
    print("Yes." if ours_right > commonest else "Not after so little training.")
    print(
        f"It is right for {ours_right:.1%} of the names, none of which it saw before;"
    )
    print(f"always naming the commonest language is right for {commonest:.1%}.")
    print(f"{verdict} ({gap:+.4f}).")
    print("(Another seed moves the network's accuracy by about 0.01.)")
    if gap < 0:
        print(
            "A likely reason: a few letters at the two ends decide (Mc-, -ov, -ini), and"
        )
        print(
            "the groups know the ends.  The linear model is handed all groups ready made;"
        )
        print(
            "the network must first find them, in a few thousand names.  A task in which"
        )
        print("the order of distant things decides is another matter: see lessons 05")
        print("(made-up reviews) and 07 (tags of words).")


# How far back does learning reach?  Feed a row of letters, and ask how long the gradient
# dL/dh_t is at each of them, as in show_gradient_through_time, as multiples of its length
# at the last letter.  Names are short; what happens over the length of a sentence?  So
# the test names are strung together to rows of 100 letters, and we look back from the
# last one.


def letter_rows(batches, length=100):
    """Test names one after another, cut into rows: letters (R, length), labels (R,).

    The label of a row is the language of the name that its last letter belongs to.
    """
    letters = []
    owners = []  # the language of each letter's name
    for row, count in enumerate(batches.lengths["name_length"].tolist()):
        letters += batches.data["name"][row, :count].tolist()
        owners += [int(batches.data["label"][row])] * count
    rows = min(len(letters) // length, 100)
    letters = torch.tensor(letters[: rows * length]).view(rows, length)  # (R, length)
    labels = torch.tensor(owners[: rows * length]).view(rows, length)[:, -1]  # (R,)
    return letters.to(batches.device), labels.to(batches.device)


def reach_of(model, letters, labels):
    """|dL/dh_t| at each letter, last letter first, as multiples of the first (T,).

    letters (R, T), labels (R,).  utils.gradient_by_distance keeps the gradient of every
    state, takes its length in each row, and the mean over rows.
    """
    x = model.embed(letters)  # (R, T, E)

    def loss_of(last_state):  # (R, H)
        return F.cross_entropy(model.output(last_state), labels)

    return utils.gradient_by_distance(model.rnn, x, loss_of)


def forgetting_curves(config, data, trained, args):
    """name -> `reach_of`: of the trained model, and of two ways to start it."""
    letters, labels = letter_rows(data.test)
    if not len(letters) or config["layers"] > 1 or config["bidirectional"]:
        return {}
    curves = {f"{config['cell']}, trained": reach_of(trained, letters, labels)}
    utils.set_seed(args.seed)
    model = NameClassifier(**config).to(args.device)
    curves["as it started: orthogonal"] = reach_of(model, letters, labels)
    model.rnn.reset_parameters()  # small random numbers
    curves["with PyTorch's own start"] = reach_of(model, letters, labels)
    return curves


def show_forgetting(config, data, model, args):
    """Print and draw how much of the gradient arrives at earlier letters."""
    curves = forgetting_curves(config, data, model, args)
    if not curves:
        print("\nNo curve of forgetting: it takes one layer that reads forwards, and")
        print("a hundred letters.")
        return
    print("\nHow much of the gradient arrives, of 1 at the last letter:")
    print("  letters before the last          1        3        9       30       99")
    for name, reach in curves.items():
        cells = [f"{reach[back]:>8.1g}" for back in (1, 3, 9, 30, 99)]
        print(f"  {name:<26} {' '.join(cells)}")
    near, far = curves[f"{config['cell']}, trained"][9::90]
    print("Reading it: what gets no gradient teaches nothing.  Untrained, it dies out:")
    print("within a name from PyTorch's own start, more slowly from an orthogonal W_hh")
    print(
        f"(tanh' still shrinks it).  Training stretched the reach: {near:.2g} is left nine"
    )
    print(
        "letters back, so forgetting is hardly what names suffer from.  At 99 letters"
    )
    print(
        f"{far:.1g} is left, a rough figure: rows so long are unlike all that it learned"
    )
    print("from.  A review has hundreds of words: LSTM (lesson 05) and GRU (06) change")
    print("the cell itself.")
    title = f"Forgetting, {data.source.label}, {config['cell']}"
    axes = ("letters before the last", "gradient, last letter = 1")
    utils.plot_lines(args, "forgetting", title, curves, *axes, log=True)


def print_mistakes(share, truth, data):
    """The largest shares off the diagonal, of languages with five test names or more."""
    counts = Counter(truth.tolist())
    wrong = []
    for true in range(len(data.labels)):
        for answer in range(len(data.labels)):
            if true != answer and counts[true] >= 5:
                wrong.append((share[true, answer], true, answer))
    for part, true, answer in sorted(wrong, reverse=True)[:3]:
        print(f"    {data.labels[true]} taken for {data.labels[answer]}: {part:.0%}")


def draw(model, config, records, data, args):
    """Pictures: the course of training, and what is mistaken for what."""
    from sklearn.metrics import confusion_matrix

    about = f"{data.source.label}, {config['cell']}"
    panels = {"loss": ["loss", "val_loss"], "accuracy": ["accuracy", "val_accuracy"]}
    panels["length of the gradient"] = ["grad_norm", "max_grad_norm"]
    title = f"Training, {about}"
    utils.plot_records(args, "training", title, {about: records}, panels)
    print("  Reading it: where loss falls on and val_loss does not, names are learned")
    print(
        "  by heart; the weights of the lowest val_loss were kept.  loss is the mean over"
    )
    print("  an epoch in which the weights still improve, with dropout on; val_loss is")
    print("  taken at its end, with dropout off: so at first it may be the lower one.")
    print("  grad_norm: the gradient's length before clipping, mean and largest.")

    answers = utils.collect(model, forward, data.test, args).argmax(1)  # (N,)
    truth = data.test.data["label"].cpu()
    classes = range(len(data.labels))
    share = confusion_matrix(truth, answers, labels=classes, normalize="true")
    utils.plot_matrix(
        args,
        "confusion",
        f"Test, {about}",
        share,
        rows=data.labels,
        columns=data.labels,
        xlabel="answer",
        ylabel="truth",
        bar="share of the row",
    )
    print(
        "  Reading it: a row is a language; a bright field off the diagonal is what it"
    )
    print(
        "  is often taken for.  A language that is rare in training loses most: that is"
    )
    print("  why macro_f1 is so much lower than accuracy.  The three brightest:")
    print_mistakes(share, truth, data)


# ====================================================================================
# 5. Command line
# ====================================================================================


def variants(config, args):
    """What --compare trains: name -> (config, flags), all with as many weights."""
    if args.compare == "cell":
        shapes = utils.cells_of_equal_size(NameClassifier, config, CELLS)
        return {name: (shape, {}) for name, shape in shapes.items()}
    found = {}
    for gain in (1.0, 4.0):
        for clip in (args.clip or 1.0, 0.0):
            name = f"W_hh x {gain:g}, clip {clip:g}"
            found[name] = ({**config, "gain": gain}, {"clip": clip})
    return found


def compare(config, data, args):
    """`--compare`: every variant on the same data and seed; one table, on validation."""

    def train(settings):
        shape, flags = settings
        model, records = train_model(shape, data, Namespace(**vars(args) | flags))
        return model, records, utils.judge(model, forward, data.val, args)

    rivals = score_all(baselines(data, data.parts[1]), data.val.data["label"])
    utils.compare_variants(args, data.source, variants(config, args), train, rivals)
    print("Reading it: one seed; another moves an accuracy by 0.01.")


def print_predictions(model, data, args):
    """`--predict`: the three likeliest languages of each name."""
    print()
    for name in args.predict:
        ids = data.vocabulary.encode(as_the_model_sees_it(name))
        row, length = utils.pad([ids])
        with torch.no_grad():
            scores = model(row.to(args.device), length)  # (1, C)
        print(f"{name}: {likeliest(scores[0].float().softmax(0), data.labels)}")
    print("Reading it: it chooses among the languages it knows, even for nonsense.")


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(parser, ["names", "sample"], "a folder of <label>.txt files")
    utils.add_training_flags(
        parser, epochs=30, lr=0.003, batch_size=128, hidden_size=192, dropout=0.3
    )
    add = parser.add_argument_group("this lesson").add_argument
    add("--cell", choices=list(CELLS), default="rnn", help="default rnn")
    add("--bidirectional", action="store_true", help="read backwards too")
    add("--leaky-split", action="store_true", help="what a careless split flatters")
    add("--overfit-one-batch", action="store_true", help="learn 64 names by heart")
    add("--compare", choices=["cell", "clip"], help="several models, one table")
    add("--predict", nargs="+", metavar="NAME", default=[], help="names to ask about")
    return parser


def new_model(source, parts, args):
    """(config, feeds) of a new model: how to build it, and what feeds it."""
    vocabulary = utils.Vocabulary.build(name for name, _ in parts[0])
    labels = sorted({language for part in parts for _, language in part})
    config = {
        "letters": len(vocabulary),
        "classes": len(labels),
        "embedding": 64,
        "cell": args.cell,
        "hidden": args.hidden_size,
        "layers": args.num_layers,
        "bidirectional": args.bidirectional,
        "dropout": args.dropout,
    }
    feeds = {
        "dataset": source.name,
        "vocabulary": vocabulary.tokens,
        "labels": labels,
    }
    return config, feeds


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__, small=True)
    if not all(name.strip() and name.isprintable() for name in args.predict):
        raise utils.UserError("--predict takes names of one letter or more")

    # 1. The data: read, split without a leak, one name looked at.
    source, lines = read_names(args)
    parts = split_without_leak(lines)
    sizes = " / ".join(f"{len(part):,}" for part in parts)
    print(f"{source.label}: {len(lines):,} lines; by spelling, without repeats:")
    print(f"{sizes} names to train, validate, test")
    if args.eval_only:
        model, config, feeds = utils.load(args, NameClassifier, dataset=source.name)
    else:
        config, feeds = new_model(source, parts, args)
    data = load_names(source, parts, feeds, args)
    if args.compare:
        return compare(config, data, args)
    if args.overfit_one_batch:
        return overfit_one_batch(config, data, args)
    show_one_name(data)

    # 2. The model: one step with numbers, many steps, the whole network.
    show_one_step()
    show_many_steps()
    show_plain_equals_fast(data)

    # 3. Training: the loss, the gradient, clipping, the loop; then the real thing.
    show_softmax()
    show_gradient_through_time()
    show_clipping()
    records = []
    if not args.eval_only:
        show_the_loop_is_fit(config, data, args)
        print(f"\nTraining on {source.label}: one line an epoch")
        model, records = train_model(config, data, args, feeds)

    # 4. Evaluation: how would a careless split have flattered?  What does it say, how
    #    good is it, what does it forget?
    flattered = None
    if args.leaky_split and not args.eval_only:
        print("\nOnce more, on the leaky split")
        leaked = load_names(source, split_with_leak(lines), feeds, args)
        other, _ = train_model(config, leaked, args)
        flattered = utils.judge(other, forward, leaked.test, args)
    first = (args.predict or ["Schmidhuber"])[0]
    show_letter_by_letter(model, first, data, args)
    report(model, config, records, data, args, flattered)
    show_forgetting(config, data, model, args)
    if not args.no_plots:
        draw(model, config, records, data, args)
    if args.predict:
        print_predictions(model, data, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
