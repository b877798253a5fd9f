"""04 · Can a plain RNN tell where a name comes from?

"Satoshi" sounds Japanese, "Rossi" Italian, "Schmidhuber" German.  Nobody taught you a
rule for that: you have read many names.  Here a recurrent neural network (RNN) does the
same.  It reads a surname one letter at a time and keeps what it needs in a row of
numbers, its hidden state.  After the last letter it says which of 18 languages the name
is from.

What you will learn
    - the recurrent step by hand, with numbers, and why tanh stands in it
    - how scores become probabilities (softmax), what the loss is (cross-entropy), and
      where its gradient begins
    - how the gradient runs back through the letters, by hand: back-propagation
      through time, and how it vanishes or explodes
    - the training loop, every line with its reason; it is the one that all later
      lessons use as `utils.fit`
    - how to judge a model: three parts of data, a rival that a sceptic would choose,
      and a test of whether the difference is more than luck
    - how far back a plain RNN remembers, and how the gradient foretells it: the door
      to lessons 05 and 06

You need lessons 01 to 03: a batch of sequences with padding, lengths and mask (01), a
vocabulary and an embedding (02), why data are split before anything is fitted (03).

Run it
    python 04_simple_rnn.py
    python 04_simple_rnn.py --epochs 20
    python 04_simple_rnn.py --predict Schmidhuber Satoshi   trains, then asks
    python 04_simple_rnn.py --save-model                    trains, keeps the network
    python 04_simple_rnn.py --eval-only --predict Satoshi   asks the one that was kept
    python 04_simple_rnn.py --input FOLDER     your own: a <label>.txt for each class

You should see  (names [real], seed 0, one thread, about a minute in all)
      model               accuracy   macro_f1   top3_accuracy
      rnn (this lesson)     0.8271     0.4914          0.9427
      majority              0.5270     0.0383          0.7777
      letter_groups         0.8616     0.5892          0.9477
    (Another processor may move the last digits of the first row.)  [real] says that the
    names are real ones; without a network the lesson goes on with a smaller collection
    that comes with it, and says [sample].
    accuracy is the share of test names whose language is named rightly, top3_accuracy
    the share whose language is among the three likeliest.  macro_f1 lets a rare
    language count as much as a common one (section 4 says how).  "majority" answers
    Russian to everything; "letter_groups" counts groups of one to four letters and
    knows of their place only whether they begin or end the name.  It wins, and the
    lesson says so, and what may be the reason.

Try this  (guess first, then run; choose by the scores on validation, see section 1)
    --overfit-one-batch    can the model learn 64 names by heart?  It must.
    --compare cell         LSTM and GRU, the cells of the next lessons, at equal size
                           (three trainings, 2 minutes; one table at the end)
    --compare clip         what clipping saves when W_hh starts four times too large
                           (four trainings; look at the column largest_gradient)
    --leaky-split          how much does the usual careless split flatter?  (two
                           trainings; a row more in the table on test)
    --cell gru --bidirectional --hidden-size 256 --dropout 0.5 --weight-decay 0.3
    --epochs 20            is that enough to beat the letter groups on validation?  And
                           on test?  (all in one line; 2 to 5 minutes)
    What came of them in our runs stands at the end of section 4.

How to read 2,000 lines: the lesson itself is in the comments and in rnn_by_hand,
NameRNN, bptt_by_hand, measure and train_by_hand.  Functions named show_, print_ and
explain_ only print: read what they print, not how.  What is marked [flags] or
[machinery] may be skipped.
"""

# Sizes
#     B  batch (names)        T  time (letters of the longest name in the batch; of a
#                                name that is alone, its own)
#     E  embedding            H  hidden state (numbers the network remembers)
#     V  vocabulary (letters) C  classes (languages)
#     N  names of one part of the data
#     k  how many letters back, counted from the last one

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


def listed(numbers):
    """Numbers as a text, with four places: [0.2585, -0.2154]."""
    # + 0.0 turns a zero with a minus sign, which is a zero too, into a plain one.
    return "[" + ", ".join(f"{number + 0.0:.4f}" for number in numbers) + "]"


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
# How is it split?  In three parts: training (80 %), to learn from; validation (10 %),
# to choose by, such as which epoch was the best; test (10 %), which is looked at once,
# at the end.  (Whoever runs the lesson again with other flags has looked twice.  Then
# choose by validation, and take the test of what you chose.)
#
# The parts are not cut by time, as in lesson 03: names have none.  They could be dealt
# out at random, line by line.  But the files hold many names twice or more, so a name
# could stand in training *and* in test, and the network would only have to remember it.
# That is called a leak.  So the split is by spelling: all lines of a spelling go to the
# same part.  `--leaky-split` shows what the careless split pretends: 0.8414 of the test
# right, where three seeds have 0.818 to 0.827 without a leak.  (It is another test set
# then, of lines, so a part of the difference may come from other names.)
#
# The next three functions only read the files. [machinery]


def as_the_model_sees_it(name):
    """Lower case, é as one sign, and 100 letters at most.

    The limit is for a file that holds something else than names: one line of a million
    letters would make its whole batch a million letters wide.
    """
    return unicodedata.normalize("NFC", name.strip()).lower()[:100]


def read_labelled_lines(folder):
    """A folder of <label>.txt files, one example a line: list of (line, label).

    Repeats are kept.  Raises UserError if there are not at least two such files.
    """
    if not Path(folder).is_dir():
        raise utils.UserError(
            f"{folder} is not a folder; it should hold one <label>.txt per class"
        )
    # Names that begin with a dot are hidden: a Mac leaves such files beside the data.
    files = sorted(Path(folder).glob("[!.]*.txt"))
    if len(files) < 2:
        raise utils.UserError(
            f"{folder} holds {len(files)} .txt files; it takes two or more, one a class"
        )
    found = []
    for path in files:
        for line in utils.read_text(path).splitlines():
            name = " ".join(line.split())  # two spaces or a tab become one space
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
    if args.quick:  # some 600, every so many lines, so that all languages are there
        lines = lines[:: max(1, len(lines) // 600)]
    return source, lines


def split_without_leak(lines):
    """Training, validation, test: lists of (spelling, language), each pair once.

    If "lee" is English, Chinese and Scottish, all three pairs lie in the same part, so
    that no spelling of validation or test was seen in training.
    """
    pairs = sorted(set(lines))
    # A hash is a number computed from the spelling: always the same for the same
    # spelling, and otherwise as good as drawn by lot.  So the part depends on the
    # spelling alone, not on --seed: everyone is scored on the same test names.
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
    """The parts as batches of tensors.

    feeds: what the network is fed with, its letters ("vocabulary") and its "labels".
    """
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


def show_languages(data):
    """Print how many names of each language there are to learn from."""
    counts = Counter(language for _, language in data.parts[0])
    print("Names to learn from, by language:")
    cells = [f"{language:<12}{count:>6,}" for language, count in counts.most_common()]
    for start in range(0, len(cells), 3):
        print("  " + "    ".join(cells[start : start + 3]))
    commonest, most = counts.most_common(1)[0]
    rarest, fewest = counts.most_common()[-1]
    utils.say(
        f"""For one {rarest} name it sees {most / fewest:.0f} {commonest} ones.  Keep
        that in mind when you read the scores."""
    )


def show_one_name(data):
    """Print one training name on its way from its file to the tensors."""
    name, language = data.parts[0][0]
    for pair in data.parts[0]:
        if pair[1] == "Italian":
            name, language = pair
            break
    ids = data.vocabulary.encode(name)
    pairs = [(name, language), ("a" * 12, language)]  # the second: a longer neighbour
    batch = to_tensors(pairs, data.vocabulary, data.labels)
    row = batch["name"][0].tolist()
    print("\nOne name on its way from the file to the network:")
    print(f"  a line of {language}.txt   {name}")
    print(f"  its letters           {' '.join(name)}")
    print(f"  their ids             {' '.join(map(str, ids))}")
    print(f"  padded to {len(row)} letters  {row}")
    print(f"  its length            {batch['name_length'][0]}")
    print(f"  its language          {language}, class {batch['label'][0]}")
    utils.say(
        f"""Id 0 is padding.  Id 1 is kept for letters that stand in no training name.
        No training step moves its vector, so to the network such a letter is noise.
        Then come the letters, the commonest first: 2 is "{data.vocabulary.tokens[2]}".
        The languages are numbered in the order of the alphabet, from 0.
        The answer is read off after letter {len(name)} (place {len(name) - 1}, counting
        from 0), not at the row's end: what follows there is padding."""
    )


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
#     a_t = W_ih x_t + b_ih + W_hh h_(t-1) + b_hh        a weighted sum of what it reads
#     h_t = tanh(a_t)                                    and of what it knew before
#
# Before the first letter nothing is known: h_0 is a row of zeros.  (Two biases?  One
# would do, since only their sum matters.  PyTorch keeps two.)  Many letters go in, one
# answer comes out: that is called many-to-one.
#
# Why tanh?  It squeezes every number into -1 ... 1.  Without it, two bad things happen.
# First, h_t = W_hh h_(t-1) + ... multiplies the state by W_hh at every letter: if that
# makes it 1.5 times as large, it is 58 times as large after ten letters.  tanh stops
# that growth of the state.  (It does not bound the gradient: near 0 its slope is 1, so
# there W_hh acts in full; near -1 and 1 the slope is nearly 0.  So one row can explode
# and another vanish, with the same weights: section 3.)
#
# Second, many linear steps in a row are one linear step: nothing could depend on *two*
# letters together, such as an "s" that counts only before "ki".
#
# Why not another bent curve?  The sigmoid would also do, but its slope is at most 1/4
# and that of tanh up to 1.  Section 3 multiplies these slopes, and with the sigmoid
# next to nothing would be left.  ReLU, which only cuts off what is below 0, would not
# stop the growth.

TOY_INPUT = [[1.0, 0.5], [0.0, 1.0], [1.0, 0.5]]  # three letters, E = 2: x_1, x_2, x_3
TOY_W_IH = [[0.5, 0.4], [-0.3, 0.8]]  # (H, E), H = 2
TOY_W_HH = [[0.6, -0.5], [0.1, 0.9]]  # (H, H)
TOY_BIAS = [0.1, -0.2]  # (H,), b_ih and b_hh in one


def toy_unit(unit, x, h):
    """One hidden unit, one step: its two products, their sum with the bias, its state.

    x: two inputs.  h: the two old states.  The unit has a row of W_ih and one of W_hh.
    """
    w_ih = TOY_W_IH[unit]
    w_hh = TOY_W_HH[unit]
    from_input = w_ih[0] * x[0] + w_ih[1] * x[1]
    from_state = w_hh[0] * h[0] + w_hh[1] * h[1]
    total = from_input + from_state + TOY_BIAS[unit]
    return from_input, from_state, total, math.tanh(total)


def show_one_step():
    """Print one recurrent step with every number substituted: E = 2, H = 2."""
    x = TOY_INPUT[0]
    # As if some letters had been read.  At the first letter h is all zeros, and W_hh
    # would have nothing to do.
    h = [0.2, -0.4]
    print("One step of the cell: two inputs x, two hidden units h.")
    print(f"  x_t = {x}, the letter's vector; h_(t-1) = {h}, what was known before")
    # Both units read the same old h.  So what they make is kept apart until both have
    # read: unit 2 must not see the new state of unit 1.
    new_state = []
    for unit in range(2):
        from_input, from_state, total, state = toy_unit(unit, x, h)
        new_state.append(state)
        w_ih = TOY_W_IH[unit]
        w_hh = TOY_W_HH[unit]
        bias = TOY_BIAS[unit]
        print(f"  unit {unit + 1}")
        products = f"{w_ih[0]} * {x[0]} + {w_ih[1]} * {x[1]}"
        print(f"    W_ih x      {products} = {from_input:.2f}")
        products = f"{w_hh[0]} * {h[0]} + {w_hh[1]} * {h[1]}"
        print(f"    W_hh h      {products} = {from_state:.2f}")
        shown = f"{from_input:.2f} + {from_state:.2f} + {bias} (bias) = {total:.2f}"
        print(f"    a_t         {shown}")
        print(f"    tanh(a_t)   tanh({total:.2f}) = {state:.4f}")
    print(f"  h_t = {listed(new_state)} goes on to the next letter.")


def rnn_by_hand(x, h, w_ih, w_hh, b_ih, b_hh):
    """The whole recurrent layer: x (B, T, E), h (B, H) -> every state (B, T, H).

    w_ih (H, E), w_hh (H, H), b_ih and b_hh (H,): one set of weights for all steps.
    """
    states = []
    for t in range(x.shape[1]):
        # h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), for B names at once.  Each
        # name is a row here, so the products are turned round: x_t W_ih^T, that is
        # (B, E) @ (E, H), gives a row of H numbers for each name.
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
    print(f"  states {tuple(theirs.shape)}, largest difference {gap:.1g}")
    print(f"  the last state, {tuple(last.shape)}, is the last of them:", end=" ")
    print(f"{(ours[:, -1] - last[0]).abs().max():.1g} apart")


# Now the network for names, in its plainest form: embedding, the cell in a loop, one
# linear layer on the state after each name's own last letter.


class NameRNN(nn.Module):
    """The whole idea in a few lines: it is all that "a plain RNN" means."""

    def __init__(self, letters, classes, embedding, hidden):
        super().__init__()
        # padding_idx: the vector of id 0, padding, is zeros and is not trained.  Why a
        # vector for each letter (E = 64 below) and not one-hot, a row of V = 55
        # numbers, one of them 1?  Here it could be one-hot: that is no longer, and W_ih
        # would learn a column for each letter.  The later lessons read words, thousands
        # of them, and need the embedding; so it stands here too.
        self.embed = nn.Embedding(letters, embedding, padding_idx=0)
        # One step of rnn_by_hand, with its four weights inside.
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
        # Of row i, the state after its last real letter.  Names of 3 and 1 letters:
        # place 2 of row 0 and place 0 of row 1.  The loop went on over the padding, but
        # that comes after the letters, and no later step changes an earlier state.
        rows = torch.arange(len(names), device=names.device)
        last = states[rows, lengths.to(names.device) - 1]  # (B, H)
        return self.output(last)  # (B, C)


# That is the model, and you could train it.  It is slow, because Python runs its loop.
# The class that we train is the same network with PyTorch's own layer in the loop's
# place, and with two additions:
#
#   dropout     in training it sets a random share of the numbers to 0, so that no
#               single one is relied upon (lesson 05 has more of it)
#   the start   W_hh starts as an orthogonal matrix: one that turns or mirrors a vector
#               and keeps its length (Saxe et al., 2014).  PyTorch's own start is random
#               numbers between -1/sqrt(H) and 1/sqrt(H).  Section 4 compares the two
#
# The other arguments are for the flags: other cells (lessons 05 and 06), several layers
# and both directions (07).  On a first reading skip what is marked [flags].

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class NameClassifier(nn.Module):
    """Embedding, recurrent layer, a linear layer on the state after the last letter."""

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
            dropout=dropout if layers > 1 else 0.0,  # [flags] it acts between layers
        )
        self.dropout = nn.Dropout(dropout)
        directions = 2 if bidirectional else 1
        self.output = nn.Linear(directions * hidden, classes)
        start_orthogonal(self.rnn, gain)

    def forward(self, names, lengths):
        """names (B, T), lengths (B,) -> scores before softmax (B, C)."""
        x = self.dropout(self.embed(names))  # (B, T, E)
        if self.rnn.bidirectional:  # [flags]
            last = last_of_both(self.rnn, x, lengths)  # (B, 2H)
        else:
            states, _ = self.rnn(x)  # (B, T, H)
            rows = torch.arange(len(names), device=names.device)
            last = states[rows, lengths.to(names.device) - 1]  # (B, H)
        return self.output(self.dropout(last))  # (B, C)


def start_orthogonal(rnn, gain):
    """Let W_hh start as `gain` times an orthogonal matrix.

    At gain 1, W_hh alone neither blows the state up nor wipes it out, over however many
    letters.  (tanh still shrinks it a little at each.)  An LSTM or GRU has several such
    matrices, one below the other.
    """
    for name, weight in rnn.named_parameters():
        if "weight_hh" in name:
            for matrix in weight.data.split(rnn.hidden_size):
                nn.init.orthogonal_(matrix, gain)


def last_of_both(rnn, x, lengths):
    """[flags] The last state read forwards beside the last read backwards: (B, 2H).

    Reading backwards must begin at the last letter, not in the padding.  Packing
    (lesson 01) tells the layer where each name ends; it wants the lengths on the CPU.
    """
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    _, h = rnn(packed)  # (layers * 2, B, H)
    if isinstance(h, tuple):  # an LSTM returns its memory c as well
        h = h[0]
    return torch.cat([h[-2], h[-1]], dim=1)  # (B, 2H)


def show_plain_equals_fast(data):
    """Print that NameRNN and NameClassifier with equal weights agree on real names."""
    torch.manual_seed(4)
    plain = NameRNN(len(data.vocabulary), len(data.labels), embedding=8, hidden=16)
    fast = NameClassifier(
        len(data.vocabulary), len(data.labels), embedding=8, cell="rnn", hidden=16
    )
    # Both list their weights in the same order.  Only the names differ: cell.weight_ih
    # is rnn.weight_ih_l0.  So: the names of one, with the weights of the other.
    weights = zip(fast.state_dict(), plain.state_dict().values(), strict=True)
    fast.load_state_dict(dict(weights))
    tensors = to_tensors(data.parts[1][:50], data.vocabulary, data.labels)
    with torch.no_grad():
        ours = plain(tensors["name"], tensors["name_length"])  # (50, C)
        theirs = fast(tensors["name"], tensors["name_length"])  # (50, C)
    print("\nNameRNN, our loop, and NameClassifier, PyTorch's layer, with the same")
    print(f"weights on {len(ours)} names: scores {tuple(ours.shape)},", end=" ")
    print(f"largest difference {(ours - theirs).abs().max():.1g}.")


def show_size(config):
    """Print how many weights the network has, matrix by matrix where it is plain."""
    count = utils.count_parameters(NameClassifier(**config))
    plain = config["cell"] == "rnn" and config["layers"] == 1
    if not plain or config["bidirectional"]:
        print(f"\nThe network that is trained below has {count:,} weights.")
        return
    V = config["letters"]
    E = config["embedding"]
    H = config["hidden"]
    C = config["classes"]
    # What it is, its shape, the product, what it is for.
    rows = (
        ("embedding", "V * E", f"{V} * {E}", V * E, "a vector for each letter"),
        ("W_ih", "H * E", f"{H} * {E}", H * E, "what was read"),
        ("W_hh", "H * H", f"{H} * {H}", H * H, "what was known before"),
        ("b_ih, b_hh", "2 * H", f"2 * {H}", 2 * H, ""),
        ("output", "C * H", f"{C} * {H}", C * H, "a score for each language"),
        ("its bias", "C", f"{C}", C, ""),
    )
    print("\nThe network that is trained below, weight by weight:")
    for name, shape, product, size, purpose in rows:
        print(f"  {name:<11} {shape:<6} {product:>9} = {size:>6,}   {purpose}".rstrip())
    print(f"  together                     {count:>6,}   whatever the length of a name")


# ====================================================================================
# 3. Training
# ====================================================================================
#
# The linear layer gives one score for each language, any number at all.  Two steps turn
# the scores into one number that says how wrong they are.
#
# Softmax makes probabilities of scores: take e to the power of each, so that all are
# above 0, then divide by their sum, so that they add up to 1.
#
# Cross-entropy is the loss of one name: minus the logarithm of the probability that the
# network gave to the *right* language.  Sure and right costs 0; a probability of 0.5
# costs 0.69, of 0.01 costs 4.6.
#
# Training needs the gradient: for every weight, how the loss changes if the weight
# grows a little.  Then it moves each weight a small step the other way.  The gradient
# is found backwards, from the loss to the scores, from the scores to the state, and so
# on.
#
# Its first piece is dL/dscore.  Put softmax into the loss, and it is
#
#     loss = -log(e^(right score) / sum) = -(right score) + log(sum of all e^score)
#
# If a score grows by a little, log(sum) grows by e^score / sum times that, and this is
# its probability.  If it is the right one, the first part falls by just that little.
# So dL/dscore is the probability, less 1 at the right language.  The right score is
# pushed up, the others down, and the more the network was wrong, the harder.


def show_softmax():
    """Print three scores, their probabilities, the loss, the gradient of the scores."""
    languages = ("Italian", "Spanish", "Irish")
    scores = torch.tensor([2.0, 1.0, 0.1])
    powers = scores.exp()  # e to the power of each
    chances = powers / powers.sum()
    losses = -chances.log()  # if this language is the right one
    right = torch.tensor([1.0, 0.0, 0.0])  # here it is Italian
    gradient = chances - right
    print("From scores to the loss, three languages:")
    print("  language  score  e^score  probability  loss if right  dL/dscore (Italian)")
    for row, language in enumerate(languages):
        print(
            f"  {language:<8}  {scores[row]:>5.1f}  {powers[row]:>7.2f}  "
            f"{chances[row]:>11.3f}  {losses[row]:>13.3f}  {gradient[row]:>+19.3f}"
        )
    utils.say(
        """The last column: if Italian is right, its score should grow and the others
        should fall.  Steps go against the gradient, so its -0.341 means up."""
    )
    # The same from PyTorch.
    asked = scores.clone().requires_grad_()
    theirs = F.cross_entropy(asked.unsqueeze(0), torch.tensor([0]))
    theirs.backward()
    gap = (asked.grad - gradient).abs().max()
    print(f"  PyTorch's F.cross_entropy for Italian: {theirs:.3f};", end=" ")
    print(f"its gradient is {gap:.0g} from ours.")


# From the scores the gradient goes on to two places.  The scores are W_out h_T + b_out,
# so, written as in the rules below,
#
#     dL/dh_T   = W_out^T (dL/dscores)         how the last state should have been
#     dL/dW_out = (dL/dscores) h_T^T           how the linear layer learns
#
# with the softmax table's (-0.341, 0.242, 0.099), say, as dL/dscores.  (And at each
# letter dL/dx_t = W_ih^T (dL/da_t) goes to the letter's row of the embedding: so that
# learns, too.)  Below, dL/dh_T is simply set to [1, 0], so that one can follow it with
# a pencil.  Now the part that is special to a recurrent network: how does it get back
# to the first letter?
#
# The loss depends on h_3 alone.  (Where every letter has a loss of its own, as in
# lessons 07 and 10, that letter's piece is added to dL/dh_t on the way.)  But h_3 was
# made of h_2, and h_2 of h_1, so the chain rule goes back step by step:
#
#      h_1 <---- W_hh^T ---- h_2 <---- W_hh^T ---- h_3 <---- loss
#       |                     |                     |
#     + W_ih, W_hh          + W_ih, W_hh          + W_ih, W_hh      (gradients add up)
#
# One step back is a step forward read backwards.  Forward it was: W_hh h_(t-1) into
# a_t, then h_t = tanh(a_t).  Backward:
#
#     dL/da_t     = dL/dh_t * (1 - h_t^2)       back through tanh.  1 - h_t^2 is tanh',
#                                               its slope: 1 in the middle, near 0 where
#                                               h_t is near -1 or 1, where tanh is flat
#     dL/dh_(t-1) = W_hh^T dL/da_t              back through W_hh.  Why transposed (^T)?
#                                               Entry (i, j) carried unit j of h_(t-1)
#                                               to unit i of a_t; now it carries i to j
#
# That is the gradient of the states.  What we want is the gradient of the weights.
# Entry (i, j) of W_hh stands in one product only, in unit i of a_t:
#
#     a_t(i) = ... + W_hh(i, j) * h_(t-1)(j) + ...
#
# If the entry grows by a little, a_t(i) grows by h_(t-1)(j) times that, and the loss by
# dL/da_t(i) times that again.  So the gradient of each weight is
#
#     of W_hh, entry (i, j)      dL/da_t(i) * h_(t-1)(j)
#     of W_ih, entry (i, j)      dL/da_t(i) * x_t(j)          x_t is what it multiplies
#     of the bias, entry i       dL/da_t(i)                   it multiplies nothing
#
# The table of all products of two vectors is called their outer product.
#
# The same weights act at every letter.  So each letter contributes such a table, its
# share (its gradient contribution), and the shares are added.
#
# This is back-propagation through time.  (A text of a million letters is too long to go
# back all the way.  There one cuts the way back after some steps: lesson 10.)


class BackStep(NamedTuple):
    """What the way back finds at letter t."""

    d_h: torch.Tensor  # dL/dh_t (H,)
    d_a: torch.Tensor  # dL/da_t (H,)
    share: torch.Tensor  # of this letter in dL/dW_hh (H, H)


def bptt_by_hand(x, w_ih, w_hh, bias, d_last):
    """Back-propagation through time for one sequence x (T, E), without autograd.

    d_last: dL/dh_T (H,), where the way back begins.  Returns dL/dW_ih (H, E), dL/dW_hh
    (H, H), dL/dbias (H,) and a list of the steps, t = 1 ... T.
    """
    # Forwards: keep every state, the way back needs them.
    states = [torch.zeros_like(bias)]  # h_0
    for x_t in x:
        states.append(torch.tanh(w_ih @ x_t + w_hh @ states[-1] + bias))  # (H,)
    # Backwards, from the last letter to the first.
    d_w_ih = torch.zeros_like(w_ih)
    d_w_hh = torch.zeros_like(w_hh)
    d_bias = torch.zeros_like(bias)
    steps = []
    d_h = d_last
    for t in range(len(x), 0, -1):
        d_a = d_h * (1 - states[t] ** 2)  # (H,): back through tanh
        # The same weights act at every letter, so the shares of all letters add up.
        share = torch.outer(d_a, states[t - 1])  # (H, H)
        d_w_hh += share
        x_t = x[t - 1]  # (E,): x begins at place 0, and letters are counted from 1
        d_w_ih += torch.outer(d_a, x_t)  # (H, E)
        d_bias += d_a  # (H,)
        steps.insert(0, BackStep(d_h, d_a, share))
        d_h = w_hh.T @ d_a  # (H,): dL/dh_(t-1), once more for every step back
    return d_w_ih, d_w_hh, d_bias, steps


def print_step_back(t, step, before, h_t):
    """Print the step from h_t back to h_(t-1), every number substituted.

    step: the BackStep of letter t; before: that of letter t - 1.  H = 2.
    """
    d_h = step.d_h.tolist()
    d_a = step.d_a.tolist()
    print(f"  from h_{t} back to h_{t - 1}")
    for unit in range(2):
        slope = 1 - h_t[unit] ** 2
        shown = f"{d_h[unit]:.4f} * (1 - {h_t[unit]:.4f}^2)"
        print(f"    dL/da_{t}  unit {unit + 1}   {shown} = ", end="")
        print(f"{d_h[unit]:.4f} * {slope:.4f} = {d_a[unit] + 0.0:.4f}")
    for unit in range(2):
        # Unit 1 takes the first *column* of W_hh, which is the first row of W_hh^T.
        first = f"{TOY_W_HH[0][unit]} * {d_a[0]:.4f}"
        second = f"{TOY_W_HH[1][unit]} * {d_a[1]:.4f}"
        shown = f"{first} + {second} = {before.d_h[unit]:.4f}"
        print(f"    dL/dh_{t - 1}  unit {unit + 1}   {shown}")


def show_gradient_through_time():
    """Print the gradient on its way back through three letters, and autograd's."""
    # The computing: by hand, then by autograd, PyTorch's own way back.
    x = torch.tensor(TOY_INPUT, dtype=torch.double)  # (T, E) = (3, 2)
    w_ih = torch.tensor(TOY_W_IH, dtype=torch.double, requires_grad=True)
    w_hh = torch.tensor(TOY_W_HH, dtype=torch.double, requires_grad=True)
    bias = torch.tensor(TOY_BIAS, dtype=torch.double, requires_grad=True)
    d_last = torch.tensor([1.0, 0.0], dtype=torch.double)
    with torch.no_grad():
        ours = bptt_by_hand(x, w_ih, w_hh, bias, d_last)
    steps = ours[3]
    h_0 = torch.zeros(1, 2, dtype=torch.double)
    no_bias = torch.zeros(2, dtype=torch.double)  # `bias` already holds both biases
    states = rnn_by_hand(x.unsqueeze(0), h_0, w_ih, w_hh, bias, no_bias)[0]  # (3, 2)
    (states[-1] @ d_last).backward()  # the loss: the first unit of h_3
    gaps = [
        (by_hand - weight.grad).abs().max().item()
        for by_hand, weight in zip(ours[:3], (w_ih, w_hh, bias), strict=True)
    ]

    # The printing.
    h = states.tolist()
    print("\nForwards and back through three letters, with the weights of section 2:")
    print(f"  W_ih = {TOY_W_IH}   W_hh = {TOY_W_HH}")
    print(f"  bias = {TOY_BIAS}, h_0 = [0, 0]")
    utils.say(
        """(In section 2 the old state was [0.2, -0.4], so h_1 is another one here.  Four
        places are shown, more are computed with: a last place may be off by one.)"""
    )
    print("  forwards: a_t = W_ih x_t + bias + W_hh h_(t-1), and h_t = tanh(a_t)")
    old = [0.0, 0.0]
    for t in (1, 2, 3):
        totals = [toy_unit(unit, TOY_INPUT[t - 1], old)[2] for unit in range(2)]
        print(f"    x_{t} = {TOY_INPUT[t - 1]}   a_{t} = {listed(totals):<17}", end="")
        print(f"   h_{t} = {listed(h[t - 1])}")
        old = h[t - 1]
    print("  The loss is simply the first unit of h_3, so dL/dh_3 = [1, 0].")
    print_step_back(3, steps[2], steps[1], h[2])
    print_step_back(2, steps[1], steps[0], h[1])
    print("  How long is it?  (The length of [a, b] is the root of a^2 + b^2.)")
    for t in (3, 2, 1):
        d_h = steps[t - 1].d_h
        length = d_h.norm().item()
        bar = "#" * round(30 * length)
        print(f"    dL/dh_{t} = {listed(d_h.tolist()):<17}  length {length:.4f} {bar}")
    print(
        "  The share of each letter in dL/dW_hh, dL/da_t times h_(t-1).  Letter 3, first"
    )
    d_a = steps[2].d_a[0].item()
    print(f"  row: {d_a:.4f} * {h[1][0]:.4f} and {d_a:.4f} * {h[1][1]:.4f}.")
    for t in (3, 2, 1):
        rows = ", ".join(listed(row) for row in steps[t - 1].share.tolist())
        print(f"    letter {t}  [{rows}]{'' if t > 1 else '  since h_0 is 0'}")
    rows = ", ".join(listed(row) for row in ours[1].tolist())
    print(f"    added up  [{rows}]")
    print(f"  autograd finds the same for W_ih, W_hh, bias: {max(gaps):.0e} apart.")


# In the toy each step back shortened the gradient.  Ten letters back it has gone
# through ten such steps, a product of ten times W_hh^T and ten times tanh'.  What
# becomes of it?  To see W_hh alone, let the letters be zeros: then every state is 0,
# tanh' is 1, and only W_hh acts.  It is a matrix that turns a vector by 30 degrees and
# keeps its length, times a factor.


def growth_of_gradient(factor, letters):
    """Length of the gradient k steps back, k = 0, 1, ...: T numbers, the first is 1.

    letters (T, 2): what is read.  W_hh turns by 30 degrees and stretches by `factor`.
    """
    turn = math.radians(30)
    cosine = math.cos(turn)
    sine = math.sin(turn)
    w_hh = factor * torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.double)
    w_ih = torch.eye(2, dtype=torch.double)
    bias = torch.zeros(2, dtype=torch.double)
    d_last = torch.tensor([1.0, 0.0], dtype=torch.double)
    _, _, _, steps = bptt_by_hand(letters, w_ih, w_hh, bias, d_last)
    return [step.d_h.norm().item() for step in reversed(steps)]


def show_vanishing_and_exploding():
    """Print how a product of many equal factors dies out or explodes."""
    # Letters of zeros leave the state at 0, where tanh has slope 1.  So in the first
    # three rows nothing but W_hh acts on the gradient; `something` lets tanh' act too.
    # 31 letters: the last one, and 30 before it.
    nothing = torch.zeros(31, 2, dtype=torch.double)
    something = torch.full((31, 2), 0.5, dtype=torch.double)
    print("\nThe gradient k letters back, where the last letter's has length 1:")
    print("  k                                   1        3       10       30")
    for name, factor, letters in (
        ("W_hh stretches by 0.5", 0.5, nothing),
        ("W_hh keeps the length", 1.0, nothing),
        ("W_hh stretches by 1.5", 1.5, nothing),
        ("keeps it, but tanh' is below 1", 1.0, something),
    ):
        # lengths[k] is k letters back.  A factor of 0.5: 1, 0.5, 0.25, 0.125, ...
        lengths = growth_of_gradient(factor, letters)
        cells = "".join(f"{lengths[back]:>9.2g}" for back in (1, 3, 10, 30))
        print(f"  {name:<30}{cells}")
    utils.say(
        """Reading it: 0.5 * 0.5 * ... dies out: the gradient vanishes, and the first
        letters have no say in what is learned.  1.5 * 1.5 * ... grows without end: it
        explodes, and one step of training throws all weights far away.  A matrix that
        keeps the length does neither.  In the last row the letters are not zeros: the
        states leave 0, tanh gets flatter, and its slope shrinks the gradient even so.
        (Not by 0.9 at every step: each unit has a slope of its own, and the gradient
        turns from one to the other.)"""
    )
    utils.say(
        """A real W_hh is no such turning: it stretches a vector in some directions and
        shrinks it in others.  How much, its singular values say (the word to look up);
        the largest of them bounds the growth.  Exploding has a simple remedy, which comes
        next.  Vanishing has none in this cell; section 4 measures what it costs."""
    )


# The remedy for an exploding gradient is clipping: if it is longer than a limit,
# shorten it to the limit.  All weights together count as one vector, and its direction
# stays.
#
# How does one choose the limit?  Look at the lengths in a training that goes well.  The
# limit should stand near the usual length or some times above it: far below, it would
# cut the difference between steep and flat out of every step; far above, it would never
# act.  In the default run of this lesson (names [real], seed 0, 3,390 steps) the
# lengths are
#
#     half of them below 1.10     99 of 100 below 2.48     the largest 3.69
#
# and the limit is 1, a usual value, at the lower end of what is sensible: 62 % of the
# steps are shortened, most of them by little.  So it is no sign of trouble that the
# training log below shows a mean grad_norm somewhat above --clip.  Trouble looks
# otherwise: a length ten or a hundred times the usual one.
#
# Why does it do no harm to shorten more than half of the steps?  Adam divides each
# gradient by the size that gradients usually had of late.  If all are shortened alike,
# it divides by less, and takes the same step.  What clipping takes away is the rare
# long one.
#
# Why, then, can Adam not mend a gradient that vanishes on its way to a far letter?  The
# weights are shared: the shares of all letters are added up into *one* gradient before
# Adam sees it.  The share of the far letter drowns in the sum, and whatever makes the
# sum larger makes all shares larger alike.
#
# And what does it bring?  `--compare clip` trains with and without, from the usual
# start and from a W_hh four times too large, so that gradients explode (names [real],
# seed 0, the scores on validation):
#
#                             val_accuracy   largest gradient
#     W_hh x 1, clip 1              0.8128                3.7
#     W_hh x 1, no clip             0.8056                3.6
#     W_hh x 4, clip 1              0.7414                  374
#     W_hh x 4, no clip             0.6905                  334
#
# From the good start it makes no difference that another seed could not make too (0.01,
# see below): no gradient explodes there.  From the bad start clipping saves 0.05.  It
# does not save all: it shortens a wild gradient, but its direction is no better for it.
# So a good start comes first, and clipping is the insurance, which costs next to
# nothing.


def show_clipping(args):
    """Print one gradient before and after clipping, and the step that it would make."""
    weight = nn.Parameter(torch.tensor([0.5, -0.2]))
    weight.grad = torch.tensor([3.0, 4.0])
    print("\nClipping: a gradient longer than --clip is shortened to that length.  Its")
    print("direction stays.  Here --clip is 1, and a step is -0.1 times the gradient:")
    for when in ("before", "after "):
        length = weight.grad.norm().item()  # the root of 3 * 3 + 4 * 4 is 5
        gradient = [round(value, 2) for value in weight.grad.tolist()]
        step = [round(-0.1 * value, 2) for value in weight.grad.tolist()]
        print(f"  {when}   gradient {gradient}   length {length:.1f}   step {step}")
        nn.utils.clip_grad_norm_([weight], max_norm=1.0)
    utils.say(
        """Adam, which trains below, adapts the size of its steps by itself, but slowly:
        it remembers one huge gradient for many steps, and takes too small ones
        meanwhile.  So one clips too."""
    )
    used = f"{args.clip:g}" if args.clip else "0, which means: no clipping"
    utils.say(
        f"""In this run --clip is {used}.  The training log below has grad_norm, the mean
        length before clipping.  A mean somewhat above the limit is no alarm; one that
        jumps to ten times its usual size is."""
    )


# That is all that training needs.  A lesson hands to `utils.fit` one function,
# `measure`: what each name costs and whether the answer is right.  Everything else is
# the same in every lesson, and stands here once in the open.


def measure(model, batch):
    """Loss and accuracy of every name of the batch: (B,) each."""
    scores = model(batch["name"], batch["name_length"])  # (B, C)
    scores = scores.float()  # 32 bits, also where --precision bf16 computes with 16
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
    whose loss on validation was the lowest, and dropout is off.
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
        total_steps=max(args.epochs * len(train), 5),  # PyTorch fails at fewer than 5
        pct_start=0.25,
        cycle_momentum=False,  # leave the rest of Adam's settings as they are
    )
    # --clip 0 means no clipping: no gradient is longer than infinity.
    longest = args.clip or math.inf
    best_loss = math.inf
    best_weights = utils.copy_weights(model)  # in case val_loss is never a number
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
            # Shorten a gradient that is long: one steep place could undo much learning.
            nn.utils.clip_grad_norm_(model.parameters(), longest)
            # Move every weight a little, against its gradient.
            optimizer.step()
            # Move the learning rate along its course, once a step.
            schedule.step()
        # How well does it do on names that it did not learn from?
        val_loss = mean_loss(model, val)
        # From some epoch on a model may learn names by heart, and get worse on others.
        # So keep a copy of the weights of the best epoch ...  (Best by loss, not by
        # accuracy: the loss sees how sure every answer is, the accuracy only jumps when
        # a name changes sides, so a handful of names can decide it.)
        if val_loss < best_loss:
            best_loss = val_loss
            best_weights = utils.copy_weights(model)
    # ... and put them back at the end.
    model.load_state_dict(best_weights)


def show_the_loop_is_fit(config, data, args):
    """One epoch by `train_by_hand`, one by `utils.fit`, from one start: compare."""
    # Whatever flags the loop above does not have are switched off for both.
    # (accumulate: add the gradients of several batches before a step.  patience: stop
    # early.)
    fixed = {"epochs": 1, "optimizer": "adam", "clip": 1.0, "accumulate": 1}
    fixed |= {"precision": "fp32", "patience": 0}
    one_epoch = Namespace(**vars(args) | fixed)  # all flags of args, these ones changed
    utils.set_seed(args.seed)
    ours = NameClassifier(**config).to(args.device)
    theirs = NameClassifier(**config).to(args.device)
    theirs.load_state_dict(ours.state_dict())
    before = mean_loss(ours, data.val)
    train_by_hand(ours, data.train, data.val, one_epoch)
    after = mean_loss(ours, data.val)
    utils.fit(theirs, measure, data.train, data.val, one_epoch)
    gaps = [
        (weight - other).abs().max().item()
        for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True)
    ]
    classes = len(data.labels)
    print("\nThe loop in the open (train_by_hand) against utils.fit, one epoch each:")
    print(f"  validation loss {before:.3f} before, {after:.3f} after")
    print(f"  largest difference between their weights: {max(gaps):.1g}")
    utils.say(
        f"""Giving each language the same probability would cost log({classes}) =
        {math.log(classes):.3f}.  An untrained network is near that, though not even: by
        chance it prefers some languages.  (Do not compare with the first epoch of the
        long training below.  There the learning rate is still rising; here one epoch is
        its whole course, up and down.)"""
    )
    utils.say(
        """From here on `utils.fit` is known.  It adds a progress line, files to go on
        from if a run is cut off, and what further flags ask for."""
    )


def explain_training(records, args):
    """Print how to read the training log, epoch by epoch."""
    best = min(records, key=lambda record: record["val_loss"])
    last = records[-1]
    print()
    utils.say(
        """Reading it: loss and accuracy are means over an epoch in which the weights
        still improve, with dropout on; val_loss and val_accuracy are taken at its end,
        with dropout off.  So at first val_loss may be the lower one."""
    )
    half = records[(len(records) - 1) // 2]
    falls = last["loss"] - half["loss"]
    val_falls = last["val_loss"] - half["val_loss"]
    # Early on the comparison means nothing: val_loss is taken at an epoch's end.
    if half["epoch"] >= 5 and falls < 0 and falls < val_falls:
        utils.say(
            f"""From epoch {half["epoch"]} to {last["epoch"]} loss changed by
            {falls:+.3f}, val_loss only by {val_falls:+.3f}.  What loss alone gains is
            learned by heart: it helps with these names and with no others."""
        )
    print(f"The lowest val_loss was that of epoch {best['epoch']}.")
    most = max(records, key=lambda record: record["val_accuracy"])
    if most["val_accuracy"] > best["val_accuracy"]:
        utils.say(
            f"""By val_accuracy epoch {most["epoch"]} would have been better
            ({most["val_accuracy"]:.4f} against {best["val_accuracy"]:.4f}).  The epoch is
            chosen by the loss, because it is the finer measure: it sees how sure each
            answer is."""
        )
    if args.clip:
        above = sum(record["grad_norm"] > args.clip for record in records)
        longest = max(record["max_grad_norm"] for record in records)
        utils.say(
            f"""grad_norm, the mean length of the gradient before clipping, was above
            --clip {args.clip:g} in {above} of {len(records)} epochs; the longest gradient
            of all had {longest:.1f}.  If most epochs are above, clipping shortens many
            steps and not only wild ones; with Adam that costs little (see Clipping)."""
        )


# What to do when it does not learn?  The cheapest check first:
#
#   1. Is the loss before training near log(C)?  If it is far above, something is wrong
#      with the scores or the labels.
#   2. Can it learn one batch by heart (`--overfit-one-batch`)?  It takes seconds, and
#      tells a fault in the model from one in the data or the settings.
#   3. Is grad_norm about 0?  Then the gradient does not arrive.  Is it huge?  Lower
#      --lr or --clip.
#   4. Does loss fall and val_loss not?  Then it learns by heart: more dropout or weight
#      decay, fewer weights, more data.
#   5. Do both fall, only slowly?  A higher --lr, more epochs, more hidden units.
#
# How were hidden size, learning rate and dropout chosen?  In the same way: change one,
# compare on validation.  The defaults of this lesson, and four runs in which one of
# them was changed (names [real], seed 0, the best epoch of 30):
#
#                                              val_accuracy   val_loss
#     H 192, --lr 0.003, --dropout 0.3               0.8128     0.6292
#     --lr 0.0015                                    0.8084     0.6241
#     --lr 0.006                                     0.8101     0.6473
#     --hidden-size 96                               0.7984     0.6466
#     --dropout 0                                    0.8007     0.7017
#
# First: how much is luck?  The default was run with three seeds, that is with three
# starts and three orders of the names: 0.8128, 0.8112, 0.8189 on validation and 0.8271,
# 0.8182, 0.8238 on test.  So another seed moves an accuracy by up to 0.01, and a
# smaller difference between two runs says nothing.
#
# Learning rate: half and twice the default are less than 0.01 from it, so it hardly
# matters in between.  0.003 stayed because its accuracy is the highest.  (By val_loss
# half of it would be better, 0.6241.  The epoch is chosen by loss, which is finer; a
# setting by accuracy, which is what we want in the end.)  Hidden size: half the units
# lose 0.0144, more than luck; so 192.  Dropout: without it 0.0121 are lost, and one
# sees why.  The best epoch is the 12th then; after it loss falls to 0.07 while val_loss
# rises to 0.82: names are learned by heart (case 4).


def overfit_one_batch(config, data, args, steps=201):
    """`--overfit-one-batch`: learn 64 names by heart.

    A model that cannot has a bug.
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
        nn.utils.clip_grad_norm_(model.parameters(), args.clip or math.inf)
        optimizer.step()
        if step % 20 == 0:
            right = int(values["accuracy"].sum())
            names = len(values["accuracy"])
            print(f"  step {step:>3}  loss {loss:.4f}  {right}/{names} right")
    print("Reading it: a spelling with two languages cannot be learned by heart; all")
    print("else must be.  If it is not, look for a fault in the model.")


def train_model(config, data, args, feeds=None):
    """A new model from --seed, trained: (model, records), records a line an epoch.

    No `feeds`: `fit` keeps no files, neither to go on from nor of the finished model.
    """
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
# is not better has learned nothing.  "letter_groups" is what a sceptic would choose:
# cut a name into groups of one to four letters, count them, and let a linear model
# (logistic regression: one weight for each group and language, then softmax) weigh the
# counts.  It is a bag: it does not know where in the name a group stands, beyond its
# two ends.


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
    model.eval()  # dropout off: we ask
    with torch.no_grad():
        # The same name T times, but of row i only the first i + 1 letters count.
        scores = model(ids.expand(len(name), -1), lengths)  # (T, C)
    chances = scores.float().softmax(1).cpu()  # (T, C)
    print(f'"{name}" read letter by letter: the three likeliest after each')
    for t in range(len(name)):
        print(f"  {name[: t + 1]:<{len(name)}}  {likeliest(chances[t], data.labels)}")
    learned = any(name == spelling for spelling, _ in data.parts[0])
    utils.say(
        f"""Reading it: each line is the answer if the name ended there.  A letter can
        turn it round: the state holds what was read, and a new letter changes it.  (It
        learned from whole names alone: a lone first letter is taken for a name that
        ends so.)  This name was {"" if learned else "not "}among the names to learn
        from."""
    )


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
    """The rival's way to count: groups of 1 to 4 letters, within a word.

    TF-IDF: a group counts more if the name has it often (by the logarithm: that is
    sublinear_tf), and less if most names have it.  A space stands for the ends of the
    name: " mc" is "mc" at the beginning.
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


def score_letter_groups(train, asked, labels):
    """The rival's probabilities (N, C) for the pairs `asked`, learned from `train`."""
    from sklearn.linear_model import LogisticRegression

    counter = letter_groups()
    # Tables of counts: a row for each name, a column for each group.
    known = counter.fit_transform([name for name, _ in train])
    wanted = counter.transform([name for name, _ in asked])  # (N, groups)
    # C (sklearn's letter, not our number of classes) says how freely the weights may
    # grow.  On validation accuracy is 0.7918 with C = 1, 0.8278 with 10, 0.8295 with
    # 100.  10 and 100 differ by 3 names of 1,806, which is nothing; of equals we take
    # the tamer model. newton-cg ends at the same weights as the usual solver (lbfgs),
    # in a third of its time.
    linear = LogisticRegression(C=10, solver="newton-cg", max_iter=300)
    linear.fit(known, [language for _, language in train])
    chances = torch.from_numpy(linear.predict_proba(wanted)).double()
    # Its columns are the languages of `train`; ours are those of `labels`.
    scores = torch.zeros(len(asked), len(labels), dtype=torch.double)
    for column, language in enumerate(linear.classes_):
        scores[:, labels.index(language)] = chances[:, column]
    return scores


def baselines(data, asked):
    """Scores (N, C) of the two rivals for the pairs `asked`, fitted on training."""
    utils.release_memory()
    train = data.parts[0]
    classes = [language for _, language in train]
    return {
        "majority": utils.majority_scores(classes, len(asked), data.labels),
        "letter_groups": score_letter_groups(train, asked, data.labels),
    }


def score_all(answers, truth):
    """name -> scores of each of `answers` (name -> (N, C)) against truth (N,)."""
    return {
        name: utils.classification_scores(scores, truth)
        for name, scores in answers.items()
    }


def label_noise_ceiling(pairs):
    """The best accuracy any model can have on these pairs.

    It gives one answer to a spelling, though some spellings have several languages.
    """
    return len({name for name, _ in pairs}) / len(pairs)


# Two models, two accuracies: is the difference more than luck?  Names that both get
# right, or both wrong, say nothing about which is the better one.  What counts are the
# names that only one of them gets right.  If both were equally good, each of these
# would fall to either side like a coin.  So the question is: how likely is it that n
# coins fall as unevenly as that, or more so?  This is McNemar's test, and it can be
# done by counting.


def mcnemar_by_hand(only_ours, only_theirs):
    """p: the probability of tosses as uneven as this, or more so, if it is all luck."""
    coins = only_ours + only_theirs
    fewer = min(only_ours, only_theirs)
    ways = 0  # in which the coins show `fewer` heads or less
    for heads in range(fewer + 1):
        ways += math.comb(
            coins, heads
        )  # in how many ways `heads` of them can be chosen
    # Each of 2^coins ways is equally likely.  Times two, because the fewer could as
    # well have been on the other side.  Evenly split coins would count the middle
    # twice: so at most 1.
    return min(1.0, 2 * ways / 2**coins)


def show_mcnemar():
    """Print McNemar's test for six names, number by number, and for sixty."""
    # The same unevenness, 1 to 5, from few names and from many: only the number of
    # coins differs.
    small = mcnemar_by_hand(1, 5)
    large = mcnemar_by_hand(10, 50)
    print(
        "\nMcNemar's test by hand.  Two models have read the same names.  1 name only the"
    )
    print("first gets right, 5 only the second: 6 coins, 1 head.")
    print(f"  ways to fall     2 * 2 * 2 * 2 * 2 * 2 = {2**6}, all equally likely")
    print(f"  with 0 heads     {math.comb(6, 0)} way")
    print(f"  with 1 head      {math.comb(6, 1)} ways: each coin can be the one")
    print(
        f"  so uneven        ({math.comb(6, 0)} + {math.comb(6, 1)}) / 64 = {7 / 64:.4f}"
    )
    print(f"  or other way up  twice that: p = {small:.4f}")
    # utils.mcnemar counts for itself.  It takes, for each of the six names, whether the
    # first model is right (`right`), and whether the second is (`wrong`: where the
    # first is not).
    right = [True] + [False] * 5
    wrong = [False] + [True] * 5
    gap = abs(utils.mcnemar(right, wrong)[2] - small)
    print(f"  utils.mcnemar has the same p: {gap:.0g} apart.")
    utils.say(
        f"""Luck does that once in five times: nothing is shown.  10 to 50 is just as
        uneven, but 60 coins hardly ever fall so: p = {large:.1g}.  By convention one stops
        believing in luck when p is below 0.05."""
    )


def report(model, config, records, data, args, flattered=None):
    """[machinery] The table on test beside its rivals, what it means, and metrics.json.

    Returns the table's rows and McNemar's p.  utils.collect gives all scores of a part
    in the order of its names, utils.judge what the three figures of the table are for
    them.
    """
    ours = f"{config['cell']} (this lesson)"
    truth = data.test.data["label"].cpu()  # (N,)
    answers = {ours: utils.collect(model, forward, data.test, args)}  # (N, C)
    show_answers(answers[ours], data)
    show_letter_groups()
    # The rivals are asked about validation and test at once: to fit them takes time.
    val_count = len(data.parts[1])
    rivals = baselines(data, data.parts[1] + data.parts[2])
    answers |= {name: scores[val_count:] for name, scores in rivals.items()}
    rows = score_all(answers, truth)
    if flattered:
        rows["the same, leaky split: flattered"] = flattered
    utils.print_table(f"{data.source.label}: test, {len(truth):,} names", rows)
    if flattered:
        utils.say(
            """The flattered figure is of another test set, of lines, repeats included.
            So a part of the difference is the leak, and a part are the other names."""
        )
    val_truth = data.val.data["label"].cpu()
    val_answers = {
        ours: utils.collect(model, forward, data.val, args),
        "letter_groups": rivals["letter_groups"][:val_count],
    }
    checked = score_all(val_answers, val_truth)
    utils.say(
        f"""Accuracy on validation: {config["cell"]} {checked[ours]["accuracy"]:.4f},
        letter_groups {checked["letter_groups"]["accuracy"]:.4f}.  When you try other
        flags, choose by this figure: whoever chooses by the test has no test left."""
    )
    show_mcnemar()
    p = explain_luck(answers, val_answers, truth, val_truth, data)
    show_rare_languages(answers[ours].argmax(1), truth, data)
    metrics = {f"test_{name}": value for name, value in rows[ours].items()}
    metrics["val_accuracy"] = checked[ours]["accuracy"]
    if flattered:
        metrics["leaky_accuracy"] = flattered["accuracy"]
    known = {name: rows[name]["accuracy"] for name in ("majority", "letter_groups")}
    known["label_noise_ceiling"] = label_noise_ceiling(data.parts[2])
    letters = int(data.train.lengths["name_length"].sum())
    size = utils.count_parameters(model)
    utils.write_metrics(
        args, data.source, metrics, known, size, records, letters, "letters"
    )
    return rows, p


def explain_luck(answers, val_answers, truth, val_truth, data):
    """Print the best possible score, and whether the difference could be luck.

    answers, val_answers: name -> scores (N, C); the network is the first.
    """
    print("\nAnd in earnest, the network against the letter groups:")
    print("                only network   only groups   lead of the groups         p")
    for part, scores, right in (
        ("validation", val_answers, val_truth),
        ("test", answers, truth),
    ):
        ours = next(iter(scores))
        ours_are_right = scores[ours].argmax(1) == right  # (N,)
        theirs_are_right = scores["letter_groups"].argmax(1) == right  # (N,)
        only_ours, only_theirs, p = utils.mcnemar(ours_are_right, theirs_are_right)
        lead = (only_theirs - only_ours) / len(right)
        print(f"  {part:<12}{only_ours:>14}{only_theirs:>14}{lead:>+21.4f}{p:>10.2g}")
    # The test part's last: how far would the lead move with other names?
    accuracy = ours_are_right.float().mean().item()
    error = math.sqrt(accuracy * (1 - accuracy) / len(truth))
    of_lead = math.sqrt(only_ours + only_theirs) / len(truth)
    utils.say(
        f"""Reading it: p says how well luck alone would explain that there is a lead.  It
        does not say that the lead is just so large.  With other names of the same kind one
        accuracy of {accuracy:.2f} on {len(truth):,} names would move by about
        sqrt({accuracy:.2f} * {1 - accuracy:.2f} / {len(truth):,}) = {error:.3f}, its
        standard error: one figure in three moves by more, one in twenty by more than
        twice that.  The lead, of two models on the same names, moves by about
        sqrt({only_ours} + {only_theirs}) / {len(truth):,} = {of_lead:.3f}.  So who leads
        may be settled while by how much is not."""
    )
    utils.say(
        """That was the luck of the names.  Macro_f1 suffers most from it: some languages
        have very few test names.  Another is the luck of the seed: on the real names up to
        0.01 (section 3)."""
    )
    best = label_noise_ceiling(data.parts[2])
    if best < 1:
        utils.say(
            f"""Could a perfect model reach 1?  No: some spellings have several
            languages, so {best:.4f} is the best possible on these names."""
        )
    return p


def show_rare_languages(answers, truth, data):
    """Print recall, precision and F1 of the commonest and the rarest languages."""
    counts = Counter(language for _, language in data.parts[0])
    by_count = [language for language, _ in counts.most_common()]
    if len(by_count) > 6:
        by_count = by_count[:3] + by_count[-3:]
    rows = {}
    for language in by_count:
        number = data.labels.index(language)
        is_it = truth == number  # (N,)
        named = answers == number  # (N,)
        found = int((is_it & named).sum())
        row = {"to_learn_from": counts[language], "in_test": int(is_it.sum())}
        if row["in_test"]:
            row["recall"] = found / row["in_test"]
        if named.any():
            row["precision"] = found / int(named.sum())
        row["f1"] = 2 * found / max(1, int(is_it.sum() + named.sum()))
        rows[language] = row
    title = "The commonest and the rarest languages (f1 is what macro_f1 averages)"
    utils.print_table(title, rows, corner="language")
    utils.say(
        """A rare language has few names to learn from, and in accuracy few names to
        lose; and some of its names may be names of a common language as well, which then
        wins (Scottish and English, in the real data).  One could make each of its
        names count more in the loss (the argument
        `weight` of F.cross_entropy): that finds more of them and takes more others for
        them.  Here every name counts the same, and macro_f1 shows the price.  (A dash
        stands where a language was never the answer, or has no test name.)"""
    )


# How far back does it remember?  Section 3 said: on the way back the gradient is
# multiplied once for every letter, and a product of many factors dies out or explodes.
# What does that do to what a network can learn?  Two measurements.
#
# The first asks the network that has learned names.  Take a test name, exchange one of
# its letters for another, ask again.  If the answer changes, the network still knew
# that letter at the end.  If it never changes when an early letter is exchanged, the
# early letters are forgotten.  (Some letters do not matter for the answer even to one
# who remembers them.  So what we see is the least that it remembers.)
#
# Expect a valley, not a slope: ends tell much (-ov, -ini), and so do beginnings (Mc-,
# O').  In the 288 test names of just eight letters the last letter turned 27 % of the
# answers, the one in the middle of the way (four before it) 10 %, the first one 16 %
# (names [real], seed 0, mean of five draws).  Long names of these files are mostly
# Russian (72 % of those of eight letters or more), and there one letter seldom turns
# the answer.

SHORTEST_EXCHANGED = 8  # letters of the names that are asked, so that all have 7 before


def exchange_one_letter(model, batches, distances):
    """How often another letter changes the answer: {distance: share}, and the names.

    A distance is how many places before the last letter the exchanged one stands.
    Returns ({}, 0) if there are no names of SHORTEST_EXCHANGED letters.
    """
    lengths = batches.lengths["name_length"]  # (N,)
    long = lengths >= SHORTEST_EXCHANGED
    lengths = lengths[long]
    names = batches.data["name"].cpu()[long]  # (N, T)
    if not len(names):
        return {}, 0
    rows = torch.arange(len(names))
    letters = names[names > 0]  # all letters of all names: common ones come often
    shares = {}
    model.eval()
    with torch.no_grad():
        before = model(names.to(batches.device), lengths).argmax(1)  # (N,)
        for distance in distances:
            places = lengths - 1 - distance  # (N,)
            drawn = letters[torch.randint(len(letters), (len(names),))]  # (N,)
            others = names.clone()
            others[rows, places] = drawn
            after = model(others.to(batches.device), lengths).argmax(1)  # (N,)
            changed = (after != before).cpu()
            is_other = drawn != names[rows, places]  # by chance it can be the same
            shares[distance] = changed[is_other].float().mean().item()
    return shares, len(names)


def show_exchanged_letters(model, data, args):
    """Print how often an exchanged letter changes the answer, by its place."""
    if model.rnn.bidirectional:
        print("First measurement: left out, since from both ends no letter is far.")
        return
    # The new letters are drawn at random; with the seed set, each run draws the same.
    utils.set_seed(args.seed)
    distances = (0, 1, 2, 3, 5, 7)
    shares, count = exchange_one_letter(model, data.test, distances)
    if not shares:
        print(f"No test name has {SHORTEST_EXCHANGED} letters: none to exchange.")
        return
    print("First measurement: one letter is exchanged.  How often does the answer")
    print(f"change?  ({count:,} test names of {SHORTEST_EXCHANGED} letters or more)")
    print("  places before the last  " + "".join(f"{k:>7}" for k in distances))
    cells = "".join(f"{share:>7.0%}" for share in shares.values())
    print(f"  the answer changes      {cells}")
    # The text is chosen by what came out: with few names (--quick, --input) or another
    # cell it may be another.
    if shares[7] > 0.02:
        half_have = int(data.train.lengths["name_length"].median())
        utils.say(
            f"""Reading it: the letter seven places before the last still turns
            {shares[7]:.0%} of the answers (in a name of eight letters it is the first).
            So within a name the network does not forget.  But names are short: half of
            those to learn from have {half_have} letters or fewer."""
        )
    else:
        print("Reading it: a letter seven places back hardly counts.")
        return
    if shares[7] > shares[5]:
        utils.say(
            """Why does it count more than the one five places before?  A likely reason: it
            is oftener the first letter, and beginnings tell much."""
        )


# The second measurement needs longer rows, and an exercise in which nothing but memory
# counts.  Letters at random; the answer is the first of them:
#
#     c a d d b a ... (k letters after the first)        answer: c
#
# For each k a new small network is trained, by the loop of section 3, with the same
# number of steps: 120, of 64 rows each.  Before its training we measure how much of the
# gradient arrives at the first letter, of 1 at the last.  After it, how often the
# network is right about new rows.  If section 3 is right, the first figure foretells
# the second: where the gradient has died out, the letter is not learned.
#
# Is that the gradient's fault, or has the state simply forgotten the letter?  It is one
# thing seen from two sides.  The product of W_hh and tanh' that carries the gradient
# back over k letters also says how much a change of the first letter still moves the
# last state.  What is not heard forwards is not corrected backwards.
#
# All is done twice, for the two ways to start W_hh: PyTorch's own and orthogonal.  The
# cell is the plain one, whatever --cell says: it is the subject of this lesson.

RECALL_LETTERS = 4  # a, b, c, d; so guessing is right for one in four
RECALL_AFTER = (1, 3, 10, 30)  # k
RECALL_STEPS = 120  # of training, 64 rows each
RECALL_STARTS = ("PyTorch's own start", "orthogonal start")
LEARNED = 0.95  # share of right answers from which on we call it learned


def recall_batch(rows, after, device):
    """Rows of 1 + `after` random letters, as a batch for `measure`."""
    # Ids 1 to 4; the first letter is the label, as a class 0 to 3.
    names = torch.randint(1, RECALL_LETTERS + 1, (rows, 1 + after))  # (B, T)
    first = names[:, 0] - 1  # (B,)
    return {
        "name": names.to(device),
        "name_length": torch.full((rows,), 1 + after),  # (B,)
        "label": first.to(device),
    }


def recall_model(start, args):
    """A small plain RNN, not yet trained, from --seed."""
    utils.set_seed(args.seed)
    model = NameClassifier(  # a letter more than four: id 0, padding, is never used
        RECALL_LETTERS + 1, RECALL_LETTERS, embedding=16, cell="rnn", hidden=32
    )
    if start == RECALL_STARTS[0]:
        model.rnn.reset_parameters()  # in place of start_orthogonal
    return model.to(args.device)


def reach_of(model, batch):
    """|dL/dh_t| at each letter, last letter first, divided by that of the last: (T,).

    utils.gradient_by_distance keeps the gradient of every state, as bptt_by_hand does,
    takes its length in each row, and the mean over rows.
    """
    x = model.embed(batch["name"])  # (B, T, E)

    def loss_of(last_state):  # (B, H)
        return F.cross_entropy(model.output(last_state), batch["label"])

    return utils.gradient_by_distance(model.rnn, x, loss_of)


def recall_steps(args):
    """Steps of training for each small network."""
    return 10 if args.quick else RECALL_STEPS


def train_to_recall(start, after, args):
    """One network for rows of 1 + `after` letters: reach before, accuracy after."""
    # Flags of its own, so that those of the reader do not change the exercise.
    flags = Namespace(seed=args.seed, epochs=1, lr=0.005, weight_decay=0.0, clip=1.0)
    model = recall_model(start, args)
    utils.set_seed(args.seed)  # the same rows for both ways to start
    steps = recall_steps(args)
    train = [recall_batch(64, after, args.device) for _ in range(steps)]
    val = [recall_batch(500, after, args.device)]
    reach = reach_of(model, val[0])[-1]  # at the first letter, the furthest back
    train_by_hand(model, train, val, flags)
    # Asked about rows that it has not seen.
    fresh = recall_batch(1000, after, args.device)
    with torch.no_grad():
        right = measure(model, fresh)["accuracy"].float().mean().item()
    return reach, right


def show_recall(args):
    """Print and draw reach before training and accuracy after it, for each k.

    Returns start -> {k: (reach, accuracy)}.
    """
    utils.set_seed(args.seed)
    # One row to look at, its ids as letters again: [3, 1, 4, 4] -> "c a d d".
    first = recall_batch(1, 10, "cpu")["name"][0].tolist()  # 11 ids
    letters = " ".join("abcd"[letter - 1] for letter in first)
    print("\nSecond measurement: name the first letter, k letters after it.  k = 10:")
    print(f"  {letters}   answer: {letters[0]}")
    print("A new plain RNN (32 hidden units) for each k, each with the same training:")
    print(f"{recall_steps(args)} steps of 64 rows.")
    found = {}
    for start in RECALL_STARTS:
        found[start] = {k: train_to_recall(start, k, args) for k in RECALL_AFTER}
    cells = "".join(f"{k:>9}" for k in RECALL_AFTER)
    print(f"  k                                {cells}")
    for start, results in found.items():
        print(f"  {start}")
        cells = "".join(f"{reach:>9.2g}" for reach, _ in results.values())
        print(f"    gradient arriving, before      {cells}")
        cells = "".join(f"{right:>9.2f}" for _, right in results.values())
        print(f"    right answers, after training  {cells}")
    explain_recall(found, args)
    # For the picture: the gradient at every letter of 101, not at the first one only.
    # Both networks get the same rows.
    curves = {}
    long = recall_batch(100, 100, args.device)
    for start in RECALL_STARTS:
        curves[start] = reach_of(recall_model(start, args), long)
    title = "A plain RNN before training [sample: random letters]"
    axes = ("letters before the last", "gradient, last letter = 1")
    utils.plot_lines(args, "forgetting", title, curves, *axes, log=True)
    return found


# Where the sqrt(1/3) comes from: the square of a number drawn evenly between -s and s
# is s^2 / 3 on average.  Here s^2 = 1/H.  Each unit adds up H products, of either sign
# by chance, so on average their squares add up and all else cancels.  The square of the
# sum is H * 1/(3H) = 1/3 of the mean square of what came in, and its length sqrt(1/3)
# of it.


def explain_recall(found, args):
    """Print what the table of `show_recall` says."""
    if args.quick:
        print("So short a training (--quick) is a trial only.")
        return
    # Both starts in one list: the claim is about the gradient, whatever made it small.
    # It holds if no row of the table breaks it: each reach where the letter was learned
    # is above each one where it was not.
    results = []  # (reach, accuracy)
    for of_start in found.values():
        results.extend(of_start.values())
    learned = [reach for reach, right in results if right >= LEARNED]
    missed = [reach for reach, right in results if right < LEARNED]
    if learned and missed and min(learned) > max(missed):
        verdict = f"""The first figure foretells the second.  Wherever {min(learned):.2g}
            of the gradient or more arrived before training, the letter was learned;
            wherever it was {max(missed):.2g} or less, it was not learned in this
            training.  The network has room for one letter of four.  What was missing is
            the gradient that would teach it to keep it: the far letter's share drowns
            in the sum over all letters, which is all that Adam sees."""
    else:
        verdict = """The first figure does not foretell all of the second here: near the
            border luck has a part."""
    utils.say(f"Reading it: guessing is right for {1 / RECALL_LETTERS:.2f}.  {verdict}")
    far = max(RECALL_AFTER)
    # If reach is factor^far, the factor is its root: 0.5^30 = 9.3e-10, and
    # 9.3e-10^(1 / 30) = 0.5.
    factors = []
    for start in RECALL_STARTS:
        reach, _ = found[start][far]
        factors.append(reach ** (1 / far))
    utils.say(
        f"""How much is lost at each letter?  The gradient at k = {far} is about a product
        of {far} equal factors: of {factors[0]:.2f} from PyTorch's own start, of
        {factors[1]:.2f} from an orthogonal one.  That is W_hh^T times tanh' (section 3).
        PyTorch's W_hh, with numbers drawn evenly between -1/sqrt(H) and 1/sqrt(H),
        shortens a vector to about sqrt(1/3) = {math.sqrt(1 / 3):.2f} of its length;
        tanh' does the rest.  Orthogonal, W_hh keeps the length, and only tanh' shortens.
        So a better start moves the border, and does not remove it.  (A longer training,
        or another seed, moves it a little too.)"""
    )


def print_mistakes(share, truth, data):
    """Largest shares off the diagonal, of languages with five test names or more."""
    counts = Counter(truth.tolist())
    wrong = []
    for true in range(len(data.labels)):
        for answer in range(len(data.labels)):
            if true != answer and counts[true] >= 5:
                wrong.append((share[true, answer], true, answer))
    for part, true, answer in sorted(wrong, reverse=True)[:3]:
        language = data.labels[true]
        other = data.labels[answer]
        # How many of its test names are spelled so in the other file as well?
        names = [name for name, label in data.parts[2] if label == language]
        in_other = {name for name, label in data.parts[2] if label == other}
        both = sum(name in in_other for name in names) / len(names)
        print(f"    {language} taken for {other}: {part:.0%}", end="")
        print(f"  ({both:.0%} of its names are {other} names as well)")


def draw(model, config, records, data, args):
    """Pictures: the course of training, and what is mistaken for what."""
    from sklearn.metrics import confusion_matrix

    about = f"{data.source.label}, {config['cell']}"
    if records:
        panels = {
            "loss": ["loss", "val_loss"],
            "accuracy": ["accuracy", "val_accuracy"],
        }
        panels["length of the gradient"] = ["grad_norm", "max_grad_norm"]
        title = f"Training, {about}"
        utils.plot_records(args, "training", title, {about: records}, panels)
        utils.say(
            """Reading it: the training log of section 3 as curves; how to read it stands
            there."""
        )

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
    utils.say(
        """Reading it: a row is a language; a bright cell off the diagonal is what it is
        often taken for.  The three brightest, with the share of names that no model can
        tell apart, because the same spelling stands in both files:"""
    )
    print_mistakes(share, truth, data)


def answer_the_title(rows, p, found, data, args):
    """Print what the lesson found, in plain words."""
    ours, commonest, groups = list(rows)[:3]  # the rows of the table, in its order
    right = rows[ours]["accuracy"]
    guess = rows[commonest]["accuracy"]
    gap = right - rows[groups]["accuracy"]
    if p >= 0.05:
        verdict = "The network and the letter groups cannot be told apart here"
    elif gap > 0:
        verdict = "The network beats the letter groups"
    else:
        verdict = "But the network loses to the letter groups"
    print("Can a plain RNN tell where a name comes from?")
    print("Yes." if right > guess else "Not after so little training.")
    utils.say(
        f"""It is right for {right:.1%} of the names, none of which it saw before;
        always naming the commonest language is right for {guess:.1%}.  {verdict}
        ({gap:+.4f})."""
    )
    if rows[ours]["macro_f1"] < right - 0.1:
        utils.say(
            f"""Its accuracy is the work of the common languages.  Of the rare ones it
            misses many: macro_f1, in which each language counts alike, is only
            {rows[ours]["macro_f1"]:.2f}."""
        )
    if gap < 0 and p < 0.05:
        utils.say(
            f"""A likely reason: a few letters side by side decide (Mc-, -ov, -ini).
            The linear model is handed all such groups ready made; the network must
            first find them, in {len(data.parts[0]):,} names.  Where the order of
            distant things decides, it is another matter: see lessons 05 (made-up
            reviews) and 07 (tags of words)."""
        )
    border = 0  # the furthest letter that was learned, from the better start
    for results in found.values():
        for back, (_, recalled) in results.items():
            if recalled >= LEARNED:
                border = max(border, back)
    furthest = max(RECALL_AFTER)
    if 0 < border < furthest:
        utils.say(
            f"""And what can it not do?  Learn to remember over long distances.  From the
            better of two starts it learned to name a letter {border} places back, and
            none {furthest} places back.  The cause is the cell: its state, and so its
            gradient, goes through W_hh and tanh at every letter."""
        )
    utils.say(
        """Names are short.  A review has hundreds of words.  For that, LSTM (lesson 05) and
        GRU (06) change the cell itself."""
    )


# What came of "Try this" (names [real], seed 0, accuracy on validation unless said; the
# recorded runs are of several days and processors, so the default is 0.8117 in one of
# them and 0.8128 in the other)
#
#   --overfit-one-batch   64 of 64 right from step 20 on, loss 0.0001 at the end
#   --compare cell        rnn 0.8117, lstm 0.8178, gru 0.8234, each with 56 thousand
#                         weights.  Another seed moves one by up to 0.01, so this says
#                         at most that the gru may be better.  Letter groups: 0.8278
#   --compare clip        the table before show_clipping, in section 3
#   --leaky-split         0.8414 on its own test set; without a leak three seeds have
#                         0.818 to 0.827 on theirs
#   --cell gru ...        0.8322 on validation, above the groups' 0.8278; on test
#                         0.8410, below their 0.8616.  A lead of 0.004 on 1,806 names
#                         was no lead


# ====================================================================================
# 5. Command line
# ====================================================================================
#
# From here on it is [machinery]: what --compare and --predict do, the flags, and
# `main`, which calls all of the above in order.


def variants(config, args):
    """What --compare trains: name -> (config, flags), all with as many weights."""
    if args.compare == "cell":
        shapes = utils.cells_of_equal_size(NameClassifier, config, CELLS)
        return {name: (shape, {}) for name, shape in shapes.items()}
    found = {}
    for gain in (1.0, 4.0):
        for clip in (args.clip or 1.0, 0.0):
            name = f"W_hh x {gain:g}, " + (f"clip {clip:g}" if clip else "no clip")
            found[name] = ({**config, "gain": gain}, {"clip": clip})
    return found


def compare(config, data, args):
    """`--compare`: all variants on the same data and seed; one table, on validation."""

    def train(settings):
        shape, flags = settings
        model, records = train_model(shape, data, Namespace(**vars(args) | flags))
        return model, records, utils.judge(model, forward, data.val, args)

    rivals = score_all(baselines(data, data.parts[1]), data.val.data["label"])
    utils.compare_variants(args, data.source, variants(config, args), train, rivals)
    print("Reading it: one seed; another moves an accuracy by up to 0.01.")


def print_predictions(model, data, args):
    """`--predict`: the three likeliest languages of each name."""
    print()
    model.eval()  # dropout off: we ask
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
    # By default the real names; under --quick, or without a network, the sample.
    utils.add_data_flags(parser, ["names", "sample"], "a folder of <label>.txt files")
    # The figures at the top of this file come from these values.  What is not named
    # here, such as --clip, has the default that it has in all lessons.
    utils.add_training_flags(
        parser, epochs=30, lr=0.003, batch_size=128, hidden_size=192, dropout=0.3
    )
    add = parser.add_argument_group("this lesson").add_argument
    # The plain cell is this lesson's subject.  The others, and most of the flags below,
    # are for "Try this", so they are off until you ask for them.
    add("--cell", choices=list(CELLS), default="rnn", help="default rnn")
    add("--bidirectional", action="store_true", help="read backwards too")
    add("--leaky-split", action="store_true", help="what a careless split flatters")
    add("--overfit-one-batch", action="store_true", help="learn 64 names by heart")
    add("--compare", choices=["cell", "clip"], help="several models, one table")
    add("--predict", nargs="+", metavar="NAME", default=[], help="names to ask about")
    return parser


def new_model(source, parts, args):
    """(config, feeds) of a new model: how to build it, and what feeds it."""
    # The letters of training alone: one that only test names have is unknown, as it
    # would be in a new name.  The languages of all parts: training cannot teach one
    # that it lacks, but its test names must have a number all the same.
    vocabulary = utils.Vocabulary.build(name for name, _ in parts[0])
    labels = sorted({language for part in parts for _, language in part})
    # The arguments of NameClassifier.  They are saved with the weights, which fit only
    # into a network of the same sizes.
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
    # Saved too: without these lists nobody knows which letter, or language, a number
    # is.
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
    utils.heading("1. Data")
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
    show_languages(data)
    show_one_name(data)

    # 2. The model: one step with numbers, many steps, the whole network.
    utils.heading("2. Model")
    show_one_step()
    show_many_steps()
    show_plain_equals_fast(data)
    show_size(config)

    # 3. Training: the loss, the gradient and what becomes of it, clipping, the loop;
    #    then the real thing.
    utils.heading("3. Training")
    show_softmax()
    show_gradient_through_time()
    show_vanishing_and_exploding()
    show_clipping(args)
    records = []
    if not args.eval_only:
        show_the_loop_is_fit(config, data, args)
        print(f"\nTraining on {source.label}: one line an epoch")
        model, records = train_model(config, data, args, feeds)
        explain_training(records, args)

    # 4. Evaluation: how would a careless split have flattered?  What does it say, how
    #    good is it, how far back does it remember?
    flattered = None
    if args.leaky_split and not args.eval_only:
        print("\nOnce more, on the leaky split")
        leaked = load_names(source, split_with_leak(lines), feeds, args)
        other, _ = train_model(config, leaked, args)
        flattered = utils.judge(other, forward, leaked.test, args)
    utils.heading("4. Evaluation: what it says, and how good it is")
    first = (args.predict or ["Schmidhuber"])[0]
    show_letter_by_letter(model, first, data, args)
    rows, p = report(model, config, records, data, args, flattered)
    utils.heading("4. Evaluation: how far back it remembers")
    show_exchanged_letters(model, data, args)
    found = show_recall(args)
    if not args.no_plots:
        utils.heading("4. Pictures")
        draw(model, config, records, data, args)
    utils.heading("What this lesson found")
    answer_the_title(rows, p, found, data, args)
    if args.predict:
        print_predictions(model, data, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
