"""04 · Can a plain RNN tell where a name comes from?

"Satoshi" sounds Japanese, "Rossi" Italian, "Schmidhuber" German.  Nobody taught you a
rule for that: you have read many names.  Here a recurrent neural network (RNN) does the
same.  It reads a surname one letter at a time and keeps what it needs in a list of
numbers, its hidden state.  After the last letter it says which of 18 languages the name
is from.

What you will learn
    - the recurrent step by hand, with numbers, and why tanh stands in it
    - scores, probabilities (softmax), the loss (cross-entropy), and its gradient
    - how the gradient runs back through the letters, by hand (back-propagation through
      time), and how it vanishes or explodes
    - the training loop, every line with its reason; later lessons use it as `utils.fit`
    - how to judge a model: three parts of data, a rival that a sceptic would choose,
      and a test of whether the difference is more than luck
    - how far back a plain RNN remembers, and how the gradient predicts it

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
      single_letters        0.6876     0.2619          0.8805
      letter_groups         0.8616     0.5892          0.9477
    (Another processor may move the last digits of the first row.)  [real]: the names
    are real ones; without a network the lesson takes a small collection of its own, and
    says [sample].  Seed 0 is the number from which the network's random start and the
    random order of the names are made.
    accuracy is the share of test names that get the right language, top3_accuracy
    the share whose language is among the three likeliest.  macro_f1 lets a rare
    language count as much as a common one (section 4 says how).  "majority" answers
    Russian to everything; "single_letters" counts letters, in whatever order;
    "letter_groups" counts groups of one to four letters and knows of their place only
    whether they begin or end the name.  It wins, not by luck (111 names it alone gets
    right, 49 the network alone: p = 1.1e-06), and the lesson says why.
    At the end small networks learn to remember a letter: 10 letters back one of them
    still learns it, 20 letters back none does.

Try this: flags  (guess first, then run; choose by the scores on validation)
    --overfit-one-batch    can the model learn 64 names by heart?  It must.
    --compare cell         LSTM and GRU, the cells of the next lessons, at equal size
                           (three trainings, 2 minutes; one table at the end)
    --compare clip         what clipping saves when W_hh starts four times too large
                           (four trainings)
    --leaky-split          how much does the usual careless split flatter?  (two
                           trainings; a row more in the table on test)
    --cell gru --bidirectional --hidden-size 256 --dropout 0.5 --weight-decay 0.3
        --epochs 20        (one command, 2 to 5 minutes) does that beat the letter
                           groups on validation?  And on test?
    --letter-groups --epochs 20 --weight-decay 0.1
                           (a minute or two) the network reads the letters and is
                           handed the groups as well: who wins now?

Try this: small changes of the code  (guess; change; run with --epochs 1; change back)
    a  in NameRNN read `states[:, -1]`, the state at the end of the padded name
    b  in train_by_hand put `optimizer.step()` before `loss.backward()`
    c  in train_by_hand leave out `optimizer.zero_grad()`
    d  in NameClassifier.forward put `.softmax(1)` behind the scores that it returns
    Look at the lines that compare two networks, or two loops.  What came of all these
    in our runs stands at the end of section 4.

How to read so many lines: the lesson itself is in the comments between the functions
and in split_without_leak, rnn_by_hand, NameRNN, NameClassifier, bptt_by_hand, measure,
train_by_hand, mcnemar_by_hand, reach_of and train_to_recall.  Functions named show_,
print_ and explain_ make the output: look at what they print, not how.  `main`, at the
end, calls everything in order.  What is marked [flags] or [machinery] may be skipped.
"""

# Sizes
#     B  batch (names)        T  time (letters of the longest name in the batch; of a
#                                name that is alone, its own)
#     E  embedding            H  hidden state (numbers the network remembers)
#     V  vocabulary (letters) C  classes (languages)
#     N  names of one part of the data
#     k  how many letters back (the last letter is 0 letters back)

import copy
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
# same to us, so they must be the same to the model.  (as_the_model_sees_it, section 5)
#
# How is it split?  In three parts: training (80 %), to learn from; validation (10 %),
# to choose by, such as which epoch (pass over all training names) or which flags were
# the best; test (10 %), which is looked at once, at the end, for what was chosen.  (The
# lesson quotes a few more figures on test, to explain; nothing was chosen by them.)
#
# The parts are not cut by time, as in lesson 03: names have none.  They could be dealt
# out at random, line by line.  But the files hold many names twice or more, so a name
# could stand in training *and* in test, and the network would only have to remember it.
# That is called a leak.  So the split is by spelling: all lines of a spelling go to the
# same part.
#
# How bad is the careless split, by lines?  Of its 2,005 test lines 225, that is 11 %,
# are copies of a training line, language included.  A network that knew these by heart
# would have 11 % right for sure, in place of some 83 % of them: that lifts its accuracy
# by up to 0.02.  `--leaky-split` had 0.8414; three seeds without a leak have 0.818 to
# 0.827.  (This alone would prove little: the test names are others, and such luck moves
# an accuracy by about 0.009, as section 4 shows.)


def split_without_leak(lines):
    """Training, validation, test: lists of (spelling, language), each pair once.

    If "lee" is English, Chinese and Scottish, all three pairs lie in the same part, so
    that no spelling of validation or test was seen in training.
    """
    pairs = sorted(set(lines))
    # A hash is a number computed from the spelling: the same for the same spelling, and
    # otherwise as good as drawn by lot.  So everyone has the same test names.
    part_of = utils.split_by_hash(spelling for spelling, _ in pairs)
    parts = [[], [], []]
    for spelling, language in pairs:
        parts[part_of[spelling]].append((spelling, language))
    languages = {language for _, language in parts[0]}
    if not all(parts) or len(languages) < 2:
        raise utils.UserError("too few names to split; give at least 20 a language")
    return parts


def to_tensors(pairs, vocabulary, labels, groups=None):
    """Names as padded ids (N, T), their lengths (N,) and languages (N,)."""
    names, lengths = utils.pad([vocabulary.encode(name) for name, _ in pairs])
    classes = torch.tensor([labels.index(language) for _, language in pairs])
    tensors = {"name": names, "name_length": lengths, "label": classes}
    if groups:  # [flags] --letter-groups
        tensors["groups"] = group_ids([name for name, _ in pairs], groups)  # (N, K)
    return tensors


class Names(NamedTuple):
    """All that this lesson knows of its data."""

    source: utils.Source  # which data set, and whether it is real
    parts: list  # training, validation, test: lists of (spelling, language)
    vocabulary: utils.Vocabulary  # letters, counted in training alone
    labels: list  # the languages; a language's place in this list is its class
    groups: list  # [flags] of --letter-groups, else None
    train: utils.Batches  # the three parts as batches of tensors
    val: utils.Batches
    test: utils.Batches


def load_names(source, parts, feeds, args):
    """The parts as batches.

    feeds: the lists that the network was made with, its letters ("vocabulary") and its
    languages ("labels"); new_model, in section 5, makes them.
    """
    vocabulary = utils.Vocabulary(feeds["vocabulary"])
    labels = feeds["labels"]
    unknown = {language for part in parts for _, language in part} - set(labels)
    if unknown:
        raise utils.UserError(f"the model was not trained on {min(unknown)} names")
    lists = (vocabulary, labels, feeds.get("groups"))
    train, val, test = (to_tensors(part, *lists) for part in parts)
    # Names of similar length share a batch (bucket="name"), so that little of it is
    # padding.  Training is shuffled anew every epoch: if all Arabic names came first,
    # the network would learn to say "Arabic", and then unlearn it.
    return Names(
        source,
        parts,
        vocabulary,
        labels,
        feeds.get("groups"),
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
    # In a batch beside a longer name.
    pairs = [(name, language), ("a" * 12, language)]
    batch = to_tensors(pairs, data.vocabulary, data.labels)
    row = batch["name"][0].tolist()
    print("\nOne name on its way from the file to the network:")
    print(f"  a line of {language}.txt   {name}")
    print(f"  its letters           {' '.join(name)}")
    print(f"  their ids             {' '.join(map(str, ids))}")
    print(f"  padded, in a batch whose longest name has {len(row)} letters")
    print(f"                        {row}")
    print(f"  its length            {batch['name_length'][0]}")
    print(f"  its language          {language}, class {batch['label'][0]}")
    utils.say(
        f"""Id 0 is padding.  Id 1 is kept for letters that stand in no training name.
        No training step moves its vector, so to the network such a letter is noise.
        Then come the letters, the commonest first: 2 is "{data.vocabulary.tokens[2]}".
        The languages are numbered by the alphabet, from 0.  The answer is read off
        after letter {len(name)} (place {len(name) - 1}, counting from 0), not at the
        end of the padding."""
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
# Every unit of h_t reads the same old h_(t-1): unit 2 must not see the new unit 1.
# Before the first letter nothing is known: h_0 is all zeros.  (Of the two biases one
# would do.  PyTorch keeps two.)  Many letters go in, one answer comes out: that is
# called many-to-one.
#
# Why tanh?  It squeezes every number into -1 ... 1.  Without it, two bad things happen.
# First, h_t = W_hh h_(t-1) + ... multiplies the state by W_hh at every letter: if that
# makes it 1.5 times as large, it is 58 times as large after ten letters.  tanh stops
# that growth of the state.  (It does not stop the growth of the gradient: section 3.)
#
# Second, many linear steps in a row are one linear step: nothing could depend on *two*
# letters together, such as an "s" that counts only before "ki".
#
# Why not another bent curve?  The slope of the sigmoid is at most 1/4, that of tanh up
# to 1, and section 3 multiplies these slopes.  ReLU, which only cuts off what is below
# 0, would not stop the growth.

TOY_INPUT = [[1.0, 0.5], [0.0, 1.0], [1.0, 0.5]]  # three letters, E = 2: x_1, x_2, x_3
TOY_W_IH = [[0.5, 0.4], [-0.3, 0.8]]  # (H, E), H = 2
TOY_W_HH = [[0.6, -0.5], [0.1, 0.9]]  # (H, H)
TOY_BIAS = [0.1, -0.2]  # (H,), b_ih and b_hh in one


def toy_unit(unit, x, h):
    """One unit, one step, from two inputs x and two old states h.

    Returns its two products, their sum with the bias, and its new state.
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
    """Print the largest difference between our layer and nn.RNN."""
    torch.manual_seed(4)
    layer = nn.RNN(5, 7, batch_first=True).double()
    x = torch.randn(4, 3, 5, dtype=torch.double)  # (B, T, E)
    h = torch.zeros(4, 7, dtype=torch.double)  # (B, H): nothing is known yet
    # layer.parameters() come in the order W_ih, W_hh, b_ih, b_hh.
    ours = rnn_by_hand(x, h, *layer.parameters())  # (4, 3, 7)
    # Its second result, the last state, is theirs[:, -1] once more: not needed.
    theirs, _ = layer(x)  # every state (4, 3, 7)
    gap = (ours - theirs).abs().max()
    print("\nThe same step in a loop, against PyTorch's nn.RNN:")
    print(f"  states {tuple(theirs.shape)}, largest difference {gap:.1g}")


# Now the network for names, in its plainest form: embedding, the cell in a loop, one
# linear layer on the state after each name's own last letter.


class NameRNN(nn.Module):
    """The whole idea in a few lines: it is all that "a plain RNN" means."""

    def __init__(self, letters, classes, embedding, hidden):
        super().__init__()
        # padding_idx: the vector of id 0, padding, is zeros and is not trained.
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
        # Of each name, the state after its last real letter.  Lengths 3 and 1: place 2
        # of name 0 and place 0 of name 1.  The loop went on over the padding, but that
        # comes after the letters, and no later step changes an earlier state.
        rows = torch.arange(len(names), device=names.device)
        last = states[rows, lengths.to(names.device) - 1]  # (B, H)
        # Scores, any numbers at all, and no softmax here: the loss does it (section 3).
        return self.output(last)  # (B, C)


# That is the model, and you could train it, slowly, because Python runs its loop.  The
# class that we train has PyTorch's own layer in the loop's place, and two additions:
#
#   dropout     in training it sets a random share of the numbers to 0, so that no
#               single one is relied upon (lesson 05 has more of it)
#   the start   W_hh starts as an orthogonal matrix: one that turns or mirrors a vector
#               and keeps its length (Saxe et al., 2014).  PyTorch's own start is random
#               numbers between -1/sqrt(H) and 1/sqrt(H).  Section 4 compares the two


class NameClassifier(nn.Module):
    """Embedding, recurrent layer, a linear layer on the state after the last letter."""

    def __init__(
        self, letters, classes, embedding, hidden, dropout=0.0, gain=1.0, **other
    ):
        super().__init__()
        self.embed = nn.Embedding(letters, embedding, padding_idx=0)
        # nn.RNN(embedding, hidden, batch_first=True), if no flag asks for `other`:
        # another cell, several layers, both directions.  (It stands in section 5.)
        self.rnn = recurrent_layer(embedding, hidden, dropout, **other)
        self.dropout = nn.Dropout(dropout)
        directions = 2 if self.rnn.bidirectional else 1  # [flags]
        self.output = nn.Linear(directions * hidden, classes)
        start_orthogonal(self.rnn, gain)

    def forward(self, names, lengths):
        """names (B, T), lengths (B,) -> scores before softmax (B, C)."""
        x = self.dropout(self.embed(names))  # (B, T, E)
        if self.rnn.bidirectional:  # [flags]
            last = last_of_both(self.rnn, x, lengths)  # (B, 2H)
        else:
            # _ is the state at the end of the padding, right for the longest name only.
            states, _ = self.rnn(x)  # (B, T, H)
            rows = torch.arange(len(names), device=names.device)
            last = states[rows, lengths.to(names.device) - 1]  # (B, H)
        return self.output(self.dropout(last))  # (B, C)


def start_orthogonal(rnn, gain):
    """Let W_hh start as `gain` times an orthogonal matrix.

    At gain 1, W_hh alone neither blows the state up nor wipes it out.  An LSTM or GRU
    has several such matrices, one below the other.
    """
    for name, weight in rnn.named_parameters():
        if "weight_hh" in name:
            for matrix in weight.data.split(rnn.hidden_size):
                nn.init.orthogonal_(matrix, gain)


def show_plain_equals_fast(data):
    """Print that NameRNN and NameClassifier with equal weights agree on real names."""
    torch.manual_seed(4)
    plain = NameRNN(len(data.vocabulary), len(data.labels), embedding=8, hidden=16)
    fast = NameClassifier(
        len(data.vocabulary), len(data.labels), embedding=8, cell="rnn", hidden=16
    )
    # The names of one, the weights of the other: both list them in the same order.
    weights = zip(fast.state_dict(), plain.state_dict().values(), strict=True)
    fast.load_state_dict(dict(weights))
    tensors = to_tensors(data.parts[1][:50], data.vocabulary, data.labels)
    with torch.no_grad():
        ours = plain(tensors["name"], tensors["name_length"])  # (50, C)
        theirs = fast(tensors["name"], tensors["name_length"])  # (50, C)
    print(
        "\nNameRNN, our loop, and NameClassifier, PyTorch's layer, with equal weights"
    )
    print(f"on {len(ours)} names: largest difference {(ours - theirs).abs().max():.1g}")


def show_size(config):
    """Print how many weights the network has, matrix by matrix."""
    model = new_network(**config)
    print("\nThe network that is trained below, weight by weight:")
    for name, weight in model.named_parameters():
        shape = " * ".join(map(str, weight.shape))
        print(f"  {name:<20} {shape:>9} = {weight.numel():>6,}")
    print(
        f"  together {utils.count_parameters(model):,}, whatever the length of a name"
    )
    print("(weight_ih is W_ih, weight_hh W_hh; output is the linear layer.)")


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
# is found backwards, from the loss to the scores, then to the state, and so on.
#
# Its first piece is dL/dscore.  Put softmax into the loss, and it is
#
#     loss = -log(e^(right score) / sum) = -(right score) + log(sum of all e^score)
#
# If a score grows by a little, the sum grows by e^score times that (its other terms
# stand still).  The logarithm of a number grows by the number's relative growth: so
# log(sum) grows by e^score / sum times that little, and e^score / sum is the score's
# probability.  If it is the right score, the first part falls by just that little.
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
        should fall.  Steps go against the gradient, so -0.341 means up."""
    )
    # The same from PyTorch.
    asked = scores.clone().requires_grad_()
    theirs = F.cross_entropy(asked.unsqueeze(0), torch.tensor([0]))
    theirs.backward()
    gap = (asked.grad - gradient).abs().max()
    print(f"  PyTorch's F.cross_entropy for Italian: {theirs:.3f};", end=" ")
    print(f"its gradient is {gap:.0g} from ours.")


# From the scores the gradient goes back to the last state, h_last.  Forward it was
# scores = W_out h_last + b_out, and backward it is
#
#     dL/dh_last = W_out^T (dL/dscores)         how the last state should have been
#     dL/dW_out  = the table of all products of an entry of dL/dscores and one of h_last
#     dL/db_out  = dL/dscores
#
# with the softmax table's (-0.341, 0.242, 0.099), say, as dL/dscores.  (Why ^T, and why
# products?  The next step back has the same two rules, and says.)  A table of all
# products of two vectors is called their outer product.
#
# From the last state it goes back to the first letter.  The loss depends on h_3 alone.
# (Where every letter has a loss of its own, as in lessons 07 and 10, that letter's
# piece is added to dL/dh_t on the way.)  But h_3 was made of h_2, and h_2 of h_1, so
# the chain rule goes back step by step:
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
#                                               to unit i of a_t; now it carries i to
#                                               j: unit 1 takes W_hh's first *column*
#     dL/dx_t     = W_ih^T dL/da_t              back to the letter's vector
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
# The same weights act at every letter.  So each letter contributes such a table, and
# the contributions are added.  This is back-propagation through time.  (A text of a
# million letters is too long for it; there one cuts the way back: lesson 10.)
#
# In the toy below dL/dh_3 is simply set to [1, 0], so that one can follow it with a
# pencil.


class BackStep(NamedTuple):
    """What the way back finds at letter t."""

    d_h: torch.Tensor  # dL/dh_t (H,)
    d_a: torch.Tensor  # dL/da_t (H,)
    contribution: torch.Tensor  # of this letter to dL/dW_hh (H, H)


def bptt_by_hand(x, w_ih, w_hh, bias, d_last):
    """Back-propagation through time for one sequence x (T, E), without autograd.

    d_last: the gradient of the last state (H,), where the way back begins.  Returns
    dL/dW_ih (H, E), dL/dW_hh (H, H), dL/dbias (H,) and the steps, t = 1 ... T.
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
        # The same weights act at every letter, so the contributions are added.
        contribution = torch.outer(d_a, states[t - 1])  # (H, H)
        d_w_hh += contribution
        x_t = x[t - 1]  # (E,): x begins at place 0, and letters are counted from 1
        d_w_ih += torch.outer(d_a, x_t)  # (H, E)
        d_bias += d_a  # (H,)
        steps.insert(0, BackStep(d_h, d_a, contribution))
        d_h = w_hh.T @ d_a  # (H,): dL/dh_(t-1), once more for every step back
    return d_w_ih, d_w_hh, d_bias, steps


def print_step_back(t, step, h_t, before=None):
    """Print the step from h_t back to h_(t-1), every number substituted (H = 2).

    step: the BackStep of letter t; before: that of letter t - 1, if there is one.
    """
    d_h = step.d_h.tolist()
    d_a = step.d_a.tolist()
    print(f"  from h_{t} back" + ("" if before is None else f" to h_{t - 1}"))
    for unit in range(2):
        slope = 1 - h_t[unit] ** 2
        # abs: for a square the sign does not matter.
        shown = f"{d_h[unit]:.4f} * (1 - {abs(h_t[unit]):.4f}^2)"
        print(f"    dL/da_{t}  unit {unit + 1}   {shown} = ", end="")
        print(f"{d_h[unit]:.4f} * {slope:.4f} = {d_a[unit] + 0.0:.4f}")
    if before is None:
        return
    for unit in range(2):
        first = f"{TOY_W_HH[0][unit]} * {d_a[0]:.4f}"
        second = f"{TOY_W_HH[1][unit]} * {d_a[1]:.4f}"
        shown = f"{first} + {second} = {before.d_h[unit]:.4f}"
        print(f"    dL/dh_{t - 1}  unit {unit + 1}   {shown}")


def show_gradient_through_time():
    """Print the gradient on its way back through three letters, and autograd's."""
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
    pairs = zip(ours[:3], (w_ih, w_hh, bias), strict=True)
    gap = max((by_hand - weight.grad).abs().max().item() for by_hand, weight in pairs)

    h = states.tolist()
    print("\nForwards and back through three letters, with the weights of section 2:")
    print(f"  W_ih = {TOY_W_IH}   W_hh = {TOY_W_HH}")
    print(f"  bias = {TOY_BIAS}, h_0 = [0, 0]")
    utils.say(
        """(In section 2 the old state was [0.2, -0.4], so h_1 is another one here.
        It is computed with more digits than are shown: the last may be off by one.)"""
    )
    print("  forwards: a_t = W_ih x_t + bias + W_hh h_(t-1), and h_t = tanh(a_t)")
    old = [0.0, 0.0]
    for t in (1, 2, 3):
        totals = [toy_unit(unit, TOY_INPUT[t - 1], old)[2] for unit in range(2)]
        print(f"    x_{t} = {TOY_INPUT[t - 1]}   a_{t} = {listed(totals):<17}", end="")
        print(f"   h_{t} = {listed(h[t - 1])}")
        old = h[t - 1]
    print("  The loss is simply the first unit of h_3, so dL/dh_3 = [1, 0].")
    print_step_back(3, steps[2], h[2], before=steps[1])
    print_step_back(2, steps[1], h[1], before=steps[0])
    print_step_back(1, steps[0], h[0])
    print("  How long is it?  (The length of [a, b], its norm: the root of a^2 + b^2.)")
    for t in (3, 2, 1):
        d_h = steps[t - 1].d_h
        norm = d_h.norm().item()
        bar = "#" * round(30 * norm)
        print(f"    dL/dh_{t} = {listed(d_h.tolist()):<17}  norm {norm:.4f} {bar}")
    print("  What each letter contributes: dL/da_t to the bias, dL/da_t times h_(t-1)")
    d_a = steps[2].d_a[0].item()
    print("  to W_hh.  Letter 3, first row of the table:", end=" ")
    print(f"{d_a:.4f} * {h[1][0]:.4f}, {d_a:.4f} * {h[1][1]:.4f}")
    tables = {f"letter {t}": (steps[t - 1].d_a, steps[t - 1][2]) for t in (3, 2, 1)}
    tables["added up"] = (ours[2], ours[1])
    for name, (of_bias, of_w_hh) in tables.items():
        rows = ", ".join(listed(row) for row in of_w_hh.tolist())
        print(f"    {name}  bias {listed(of_bias.tolist()):<17}  W_hh [{rows}]")
    print("  Letter 1 teaches W_hh nothing, since h_0 is 0.  The bias and W_ih learn.")
    print(f"  autograd finds the same for W_ih, W_hh, bias: {gap:.0e} apart.")


# In the toy each step back shortened the gradient.  Ten letters back it has gone
# through ten such steps, a product of ten times W_hh^T and ten times tanh'.  What
# becomes of it?  Let W_hh turn a vector by 30 degrees and stretch it by a factor.
# First the letters are zeros, so every state is 0 and tanh' is 1.  Then they are not.


def growth_of_gradient(factor, inputs):
    """Norm of the gradient k steps back, k = 0, 1, ...: T numbers, the first is 1.

    inputs (T, 2): what is read.  W_hh turns by 30 degrees and stretches by `factor`.
    """
    turn = math.radians(30)
    cosine = math.cos(turn)
    sine = math.sin(turn)
    w_hh = factor * torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.double)
    w_ih = torch.eye(2, dtype=torch.double)
    bias = torch.zeros(2, dtype=torch.double)
    d_last = torch.tensor([1.0, 0.0], dtype=torch.double)
    _, _, _, steps = bptt_by_hand(inputs, w_ih, w_hh, bias, d_last)
    return [step.d_h.norm().item() for step in reversed(steps)]


def show_vanishing_and_exploding():
    """Print how a product of many factors dies out or explodes."""
    print(
        "\nThe gradient k letters back, where the last letter's has norm 1.  Each of a"
    )
    print("letter's two numbers goes to one unit as it is (W_ih is 1 on the diagonal):")
    print("  W_hh stretches by   letters are   k = 1        3       10       30")
    for factor, value in ((0.5, 0.0), (1.0, 0.0), (1.5, 0.0), (1.0, 0.5), (1.5, 0.5)):
        # 31 letters: the last one, and 30 before it.
        inputs = torch.full((31, 2), value, dtype=torch.double)
        # norms[k] is k letters back.  A factor of 0.5: 1, 0.5, 0.25, 0.125, ...
        norms = growth_of_gradient(factor, inputs)
        cells = "".join(f"{norms[back]:>9.2g}" for back in (1, 3, 10, 30))
        print(f"  {factor:>17}   {value:>11}{cells}")
    utils.say(
        """Reading it: 0.5 * 0.5 * ... dies out: the gradient vanishes, and the first
        letters have no say in what is learned.  1.5 * 1.5 * ... grows without end: it
        explodes, and one step of plain gradient descent throws all weights far.  A matrix that
        keeps the norm does neither."""
    )
    utils.say(
        """In the last two lines the states leave 0, and tanh' is below 1.  That shrinks
        the gradient even if W_hh keeps its norm.  And with the W_hh that exploded at
        zeros it vanishes: the states are larger, and there tanh is flatter still.  (Yet
        at k = 30 more is left of it than in the line above.  From k = 10 to 30 a letter
        costs a factor of 0.80, which is 1.5 times a slope of about a half; above, one
        of 0.66, which is 1 times a slope of two thirds.  The product decides.)  So the
        same weights can make it explode at one name and vanish at another."""
    )
    utils.say(
        """A real W_hh is no such turning: it stretches a vector in some directions and
        shrinks it in others.  The largest stretch is its largest singular value
        (torch.linalg.svdvals).  If that is below 1, the gradient must vanish, since
        tanh' is at most 1; if it is above 1, it may explode (Pascanu et al., 2013).
        Exploding has a simple remedy, which comes next.  Vanishing has no full remedy
        in this cell; a good start helps a little: section 4."""
    )


# The remedy for an exploding gradient is clipping: if its norm is above a limit,
# shorten it to the limit.  The gradients of all weights count as one vector, and its
# direction stays.
#
# Which limit?  About the norm that is usual in a training that goes well.  In the
# default run (names [real], seed 0, 3,390 steps) half of the norms are below 1.10, 99
# of 100 below 2.48, the largest is 3.69; and the limit is 1.  So 62 % of the steps are
# shortened, most of them by little.  That does no harm.  The optimizer below, Adam,
# keeps a running mean of each weight's gradient and of its square, and steps by the
# first divided by the root of the second: a factor that all gradients share cancels
# out.  But one huge gradient would stay in these means for many steps.  That is what
# clipping takes away.
#
# What does it bring?  `--compare clip` trains with and without, from the usual start
# and from a W_hh four times too large (names [real], seed 0, validation):
#
#                             val_accuracy   largest_gradient
#     W_hh x 1, clip 1              0.8128                3.7
#     W_hh x 1, no clip             0.8056                3.6
#     W_hh x 4, clip 1              0.7414                374
#     W_hh x 4, no clip             0.6905                334
#
# The last column is measured *before* clipping, so clipping need not lower it; what the
# step gets to see is at most 1.  From the usual start the two differ by no more than
# two seeds do.  From the bad start gradients explode, and clipping saves 0.05.  It does
# not save all: a wild gradient is shortened, but its direction is no better for it.  So
# a good start comes first, and clipping is the insurance, which costs next to nothing.


def show_clipping(args):
    """Print one gradient before and after clipping, and the step that it would make."""
    weight = nn.Parameter(torch.tensor([0.5, -0.2]))
    weight.grad = torch.tensor([3.0, 4.0])
    print(
        "\nClipping: a gradient whose norm is above --clip is shortened to that norm."
    )
    print(
        "Its direction stays.  Here --clip is 1, and a step of plain gradient descent"
    )
    print("(no Adam) is -0.1 times the gradient:")
    for when in ("before", "after "):
        norm = weight.grad.norm().item()  # the root of 3 * 3 + 4 * 4 is 5
        gradient = [round(value, 2) for value in weight.grad.tolist()]
        step = [round(-0.1 * value, 2) for value in weight.grad.tolist()]
        print(f"  {when}   gradient {gradient}   norm {norm:.1f}   step {step}")
        nn.utils.clip_grad_norm_([weight], max_norm=1.0)
    used = f"{args.clip:g}" if args.clip else "0, which means: no clipping"
    utils.say(
        f"""In this run --clip is {used}.  The training log below has grad_norm, the
        mean norm before clipping.  A mean somewhat above the limit is no alarm; one
        that jumps to ten times its usual size is."""
    )


# That is all that training needs.  A lesson hands to `utils.fit` one function,
# `measure`: what each name costs and whether the answer is right.  Everything else is
# the same in every lesson, and stands here once in the open.


def measure(model, batch):
    """Loss and accuracy of every name of the batch: (B,) each."""
    # scores_of calls model(names, lengths); it stands in section 5, for flags' sake.
    scores = scores_of(model, batch)  # (B, C)
    scores = scores.float()  # 32 bits, also where --precision bf16 computes with 16
    answers = scores.argmax(1)  # (B,): the language of the highest score
    # F.cross_entropy takes raw scores and does the softmax itself.  A second softmax,
    # in the model, is the usual beginner's error: it would train, only worse.
    losses = F.cross_entropy(scores, batch["label"], reduction="none")  # (B,)
    return {"loss": losses, "accuracy": answers == batch["label"]}  # (B,) each


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
    # The rule of a step: Adam, as said above.  AdamW is Adam with weight decay, which
    # draws every weight a little to 0 at each step.  Its default here is 0: none.
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
    # A copy, because state_dict() itself would change along with the model.
    best_weights = copy.deepcopy(model.state_dict())
    for epoch in range(1, args.epochs + 1):  # an epoch is one pass over all names
        model.train()  # dropout on
        # The order of names and dropout are random, but the same at every run: this is
        # torch.manual_seed with a number made of both.
        utils.seed_epoch(args.seed, epoch)
        for batch in train:  # in a new order every epoch
            # Forget the gradients of the step before: else these would be added.
            optimizer.zero_grad()
            # The mean, so that a step does not depend on how many names the batch has.
            loss = measure(model, batch)["loss"].mean()
            # Back through the linear layer and all letters: fills every weight's .grad.
            loss.backward()
            # Shorten a gradient that is long: it would stay in Adam's means for many steps.
            nn.utils.clip_grad_norm_(model.parameters(), longest)
            # Move every weight a little, against its gradient.
            optimizer.step()
            # Move the learning rate along its course, once a step.
            schedule.step()
        # How well does it do on names that it did not learn from?
        val_loss = mean_loss(model, val)
        # From some epoch on a model may learn names by heart, and get worse on others.
        # So keep a copy of the weights of the best epoch ...  (Best by loss: it sees
        # how sure every answer is.  The accuracy only jumps when a name changes sides.)
        if val_loss < best_loss:
            best_loss = val_loss
            best_weights = copy.deepcopy(model.state_dict())
    # ... and put them back at the end.
    model.load_state_dict(best_weights)


def show_the_loop_is_fit(config, data, args):
    """One epoch by `train_by_hand`, one by `utils.fit`, from one start: compare."""
    # What flags the loop above does not have are switched off for both.
    fixed = {"epochs": 1, "optimizer": "adam", "clip": 1.0, "accumulate": 1}
    fixed |= {"precision": "fp32", "patience": 0}
    one_epoch = Namespace(**vars(args) | fixed)  # all flags of args, these ones changed
    utils.set_seed(args.seed)
    ours = new_network(**config).to(args.device)
    theirs = new_network(**config).to(args.device)
    theirs.load_state_dict(ours.state_dict())
    before = mean_loss(ours, data.val)
    train_by_hand(ours, data.train, data.val, one_epoch)
    after = mean_loss(ours, data.val)
    utils.fit(theirs, measure, data.train, data.val, one_epoch)
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    gap = max((weight - other).abs().max().item() for weight, other in pairs)
    classes = len(data.labels)
    print("\nThe loop in the open (train_by_hand) against utils.fit, one epoch each:")
    print(f"  validation loss {before:.3f} before, {after:.3f} after")
    print(f"  largest difference between their weights: {gap:.1g}")
    utils.say(
        f"""Giving each language the same probability would cost log({classes}) =
        {math.log(classes):.3f}.  An untrained network is near that.  (In this one epoch
        the learning rate goes all its way up and down.  In the first epoch of the long
        training below it is still rising.)  From here on `utils.fit` is known.  It adds
        a progress line, files to go on from if a run is cut off, and what further flags
        ask for."""
    )


def explain_training(records, args):
    """Print how to read the training log, epoch by epoch."""
    best = min(records, key=lambda record: record["val_loss"])
    last = records[-1]
    print()
    utils.say(
        """Reading it: loss and accuracy are means over an epoch, with dropout on;
        val_loss and val_accuracy are taken at its end, with dropout off.  So at first
        val_loss may be the lower one."""
    )
    half = records[(len(records) - 1) // 2]
    falls = last["loss"] - half["loss"]
    val_falls = last["val_loss"] - half["val_loss"]
    # Early on the comparison means nothing: val_loss is taken at an epoch's end.
    if half["epoch"] >= 5 and falls < 0 and falls < val_falls:
        utils.say(
            f"""From epoch {half["epoch"]} to {last["epoch"]} loss changed by
            {falls:+.3f}, val_loss only by {val_falls:+.3f}.  What loss alone gains is
            learned by heart: it helps with these names and with no others.  (Meanwhile
            val_accuracy went from {half["val_accuracy"]:.4f} to
            {last["val_accuracy"]:.4f}.)"""
        )
    print(f"The lowest val_loss was that of epoch {best['epoch']}.")
    if args.clip:
        above = sum(record["grad_norm"] > args.clip for record in records)
        largest = max(record["max_grad_norm"] for record in records)
        utils.say(
            f"""grad_norm was above --clip {args.clip:g} in {above} of {len(records)}
            epochs; the largest norm of a step was {largest:.1f}."""
        )


# What to do when it does not learn?  The cheapest check first:
#
#   1. Is the loss before training far above log(C)?  Look at scores and labels.
#   2. Can it learn one batch by heart (`--overfit-one-batch`)?  If not, the fault is in
#      the model; if so, in the data or the settings.
#   3. Is grad_norm about 0?  Then the gradient vanishes on its way.  Is it huge?
#      Lower --lr or --clip.
#   4. Does loss fall and val_loss not?  Then it learns by heart: more dropout or weight
#      decay, fewer weights, more data.
#   5. Do both fall, only slowly?  A higher --lr, more epochs, more hidden units.
#
# How were hidden size, learning rate and dropout chosen?  In the same way: change one,
# compare on validation (names [real], the epoch of lowest val_loss of 30):
#
#                                            val_accuracy               val_loss
#                                            seed 0   seed 1   seed 2   seed 0
#     H 192, --lr 0.003, --dropout 0.3       0.8128   0.8112   0.8189   0.6292
#     --hidden-size 96                       0.7984   0.8012   0.7973   0.6466
#     --dropout 0                            0.8007   0.7973   0.7863   0.7017
#     --lr 0.0015                            0.8084                     0.6241
#     --lr 0.006                             0.8101                     0.6473
#
# First: how much is luck?  Three seeds of one setting lie 0.004 to 0.014 apart.  So a
# difference of 0.01 between two single runs says nothing, and the learning rate hardly
# matters in between.  (By val_loss 0.0015 is a hair better, by val_accuracy 0.003: one
# run of each cannot say.)  Half the units, or no
# dropout, is another matter: all three runs are below all three of the default.
# Without dropout one sees why.  The best epoch (seed 0) is the 12th then; after it loss
# falls to 0.07 while val_loss rises to 0.82: names are learned by heart (case 4).


def train_model(config, data, args, feeds=None):
    """A new model, trained: (model, records).  Without `feeds` `fit` keeps no files."""
    utils.set_seed(args.seed)
    model = new_network(**config).to(args.device)
    kept = config if feeds else None
    records = utils.fit(model, measure, data.train, data.val, args, kept, feeds)
    return model, records


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# First we look at what the network says, name by name.  Then comes a table:
#
#   accuracy        the share of names whose likeliest language is the right one
#   macro_f1        accuracy hides rare languages: 1 name in 200 is Korean, and a model
#                   that never says Korean loses little.  F1 of a language combines how
#                   many of its names are found (recall, R) with how many of the answers
#                   that name it are right (precision, P): F1 = 2 P R / (P + R).  8 of 10
#                   names found, in 16 answers: R = 0.8, P = 0.5, F1 = 0.62.  Macro-F1
#                   is the plain mean of the F1 of all languages: each counts alike
#   top3_accuracy   the share of names whose language is among the three likeliest
#
# There are three rivals.  "majority" always answers with the commonest language:
# whoever is not better has learned nothing.  "letter_groups" is what a sceptic would
# choose: cut a name into groups of one to four letters, count them, and let a linear
# model (logistic regression: one weight for each group and language, then softmax)
# weigh the counts.  It is a bag: where in the name a group stands it does not know,
# beyond its two ends.  "single_letters" has groups of one: no order at all.


def ask_about(model, names, data, args):
    """Probabilities (N, C) of the languages for a list of names of one letter or more."""
    names = [as_the_model_sees_it(name) for name in names]
    pairs = [(name, data.labels[0]) for name in names]  # the language is not asked for
    tensors = to_tensors(pairs, data.vocabulary, data.labels, data.groups)
    batch = utils.Batches(tensors, len(names), args.device).take(
        torch.arange(len(names))
    )
    model.eval()  # dropout off: we ask
    with torch.no_grad():
        return scores_of(model, batch).float().softmax(1).cpu()  # (N, C)


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
    beginnings = [name[: t + 1] for t in range(len(name))]  # "s", "sc", "sch", ...
    chances = ask_about(model, beginnings, data, args)  # (T, C)
    print(f'"{name}" read letter by letter: the three likeliest after each')
    for t in range(len(name)):
        print(f"  {beginnings[t]:<{len(name)}}  {likeliest(chances[t], data.labels)}")
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


def letter_groups(longest=4):
    """The rival's way to count: groups of 1 to `longest` letters, within a word.

    TF-IDF: a group counts more if the name has it often (by the logarithm: that is
    sublinear_tf), and less if most names have it.  A space stands for the ends of the
    name: " mc" is "mc" at the beginning.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    sizes = (1, longest)
    return TfidfVectorizer(analyzer="char_wb", ngram_range=sizes, sublinear_tf=True)


def show_letter_groups():
    """Print the groups of one short name."""
    groups = letter_groups().build_analyzer()("ito")
    print("\nThe letter groups of the name ito, its ends marked by a space (here _):")
    for size in (1, 2, 3, 4):
        some = [group.replace(" ", "_") for group in groups if len(group) == size]
        print(f"  {size} at a time   {'  '.join(dict.fromkeys(some))}")


def score_letter_groups(train, asked, labels, longest=4):
    """The rival's probabilities (N, C) for the pairs `asked`, learned from `train`."""
    counter = letter_groups(longest)
    # Tables of counts: a row for each name, a column for each group.
    known = counter.fit_transform([name for name, _ in train])
    wanted = counter.transform([name for name, _ in asked])  # (N, groups)
    # C (sklearn's letter, not our number of classes) says how freely the weights may
    # grow.  On validation accuracy is 0.7918 with C = 1, 0.8278 with 10, 0.8295 with
    # 100: 3 names more than with 10, which is nothing.  (newton-cg: to save time.)
    classes = [language for _, language in train]
    return utils.linear_scores(known, classes, wanted, labels, C=10, solver="newton-cg")


def baselines(data, asked):
    """Scores (N, C) of the three rivals for the pairs `asked`, fitted on training."""
    utils.release_memory()
    train = data.parts[0]
    classes = [language for _, language in train]
    return {
        "majority": utils.majority_scores(classes, len(asked), data.labels),
        "single_letters": score_letter_groups(train, asked, data.labels, longest=1),
        "letter_groups": score_letter_groups(train, asked, data.labels),
    }


def ask_all(model, config, data, args):
    """Scores of all, the network first: (validation, test), name -> (N, C) each."""
    ours = f"{config['cell']} (this lesson)"
    if data.groups:
        ours = f"{config['cell']} with letter groups"
    validation = {ours: utils.collect(model, scores_of, data.val, args)}
    test = {ours: utils.collect(model, scores_of, data.test, args)}
    # The rivals are asked about both parts at once: to fit them takes time.
    count = len(data.parts[1])
    for name, scores in baselines(data, data.parts[1] + data.parts[2]).items():
        validation[name] = scores[:count]
        test[name] = scores[count:]
    return validation, test


def score_all(answers, batches):
    """name -> its three figures, for `answers`, name -> scores (N, C)."""
    truth = batches.data["label"].cpu()  # (N,)
    return {
        name: utils.classification_scores(scores, truth)
        for name, scores in answers.items()
    }


def label_noise_ceiling(pairs):
    """The best accuracy on these pairs, if a spelling gets one answer.

    Each pair is there once, so a spelling of two languages is right once, wrong once.
    """
    return len({name for name, _ in pairs}) / len(pairs)


def print_scores(val_rows, rows, data):
    """Print the table on test, and what may be chosen by: accuracy on validation."""
    utils.print_table(f"{data.source.label}: test, {len(data.parts[2]):,} names", rows)
    known = ", ".join(f"{name} {row['accuracy']:.4f}" for name, row in val_rows.items())
    utils.say(
        f"""Accuracy on validation: {known}.  When you try other flags, choose by these
        figures: whoever chooses by the test has no test left."""
    )
    best = label_noise_ceiling(data.parts[2])
    print(f"With one answer to a spelling, the best possible on test is {best:.4f}.")


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
        # In how many ways can `heads` of the coins be chosen?
        ways += math.comb(coins, heads)
    # Each of 2^coins ways is equally likely.  Times two, because the fewer could as
    # well have been on the other side.  Evenly split coins would count the middle
    # twice: so at most 1.
    return min(1.0, 2 * ways / 2**coins)


def show_mcnemar():
    """Print McNemar's test for six names, number by number, and for sixty."""
    small = mcnemar_by_hand(1, 5)
    print("\nMcNemar's test by hand: two models, the same names.  One name only the")
    print("first gets right (a head), five only the second (tails): 6 coins, 1 head.")
    print(f"  ways to fall     2 * 2 * 2 * 2 * 2 * 2 = {2**6}, all equally likely")
    print(f"  with 0 heads     {math.comb(6, 0)} way")
    print(f"  with 1 head      {math.comb(6, 1)} ways: each coin can be the one")
    print(f"  so uneven        (1 + 6) / 64 = {7 / 64:.4f}")
    print(f"  or other way up  twice that: p = {small:.4f}")
    # utils.mcnemar takes, for each of the six names, whether each model is right.
    first = [True] + [False] * 5
    second = [False] + [True] * 5
    gap = abs(utils.mcnemar(first, second)[2] - small)
    print(f"  utils.mcnemar has the same p: {gap:.0g} apart.")
    utils.say(
        f"""Luck alone does that one time in five: nothing is shown.  10 to 50 is just
        as uneven, but 60 coins hardly ever fall so: p = {mcnemar_by_hand(10, 50):.1g}.
        By convention one stops believing in luck when p is below 0.05."""
    )


# And how large is the difference, give or take?  A name that is right with probability
# q counts 1 or 0: its variance, the mean square of its distance from q, is q (1 - q).
# The mean of N such names has the variance q (1 - q) / N, and the root of that, its
# standard error, says how far it moves by luck.
#
# The *lead* of one model over another on the same names is a mean, too.  A name on
# which both agree counts 0.  The n others count +1 or -1, whose square is 1; so if
# neither model is far ahead, the variance of each is about 1, and that of their sum
# about n. The lead is this sum divided by N, and its standard error about sqrt(n) / N.
# In the default run n is 49 + 111 on test, and sqrt(160) / 1,799 = 0.007; p is 1.1e-06
# there, and 0.038 on validation.


def explain_luck(validation, test, data):
    """Print whether the lead could be luck, and how sure it is.  Returns p on test."""
    ours = next(iter(test))
    print("\nAnd in earnest, the network against the letter groups:")
    print("                only network   only groups   lead of the groups         p")
    for part, scores, batches in (
        ("validation", validation, data.val),
        ("test", test, data.test),
    ):
        truth = batches.data["label"].cpu()  # (N,)
        ours_are_right = scores[ours].argmax(1) == truth  # (N,)
        theirs_are_right = scores["letter_groups"].argmax(1) == truth  # (N,)
        only_ours, only_theirs, p = utils.mcnemar(ours_are_right, theirs_are_right)
        lead = (only_theirs - only_ours) / len(truth)
        print(f"  {part:<12}{only_ours:>14}{only_theirs:>14}", end="")
        print(f"{lead:>+21.4f}{p:>10.2g}")
    # What the loop left behind is of its last part, the test.
    q = ours_are_right.float().mean().item()
    error = math.sqrt(q * (1 - q) / len(truth))
    of_lead = math.sqrt(only_ours + only_theirs) / len(truth)
    utils.say(
        f"""Reading it: p is the probability of so uneven a count, or a more uneven one,
        if both were equally good.  It does not say that the lead is exactly that large.
        With other names of the same kind an accuracy of {q:.2f} on {len(truth):,} names
        would move by about sqrt({q:.2f} * {1 - q:.2f} / {len(truth):,}) = {error:.3f},
        its standard error: one figure in three moves by more, one in twenty by more
        than twice that.  The lead moves by about sqrt({only_ours} + {only_theirs}) /
        {len(truth):,} = {of_lead:.3f}.  So who leads may be settled while by how much
        is not."""
    )
    print("Beside this luck of the names there is that of the seed: sections 1 and 3.")
    return p


def show_rare_languages(scores, data):
    """Print recall, precision and F1 of some languages, from the test scores (N, C)."""
    answers = scores.argmax(1)  # (N,)
    truth = data.test.data["label"].cpu()  # (N,)
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
        # The same as 2 P R / (P + R), and defined where there is no P.
        row["f1"] = 2 * found / max(1, int(is_it.sum() + named.sum()))
        rows[language] = row
    title = "The commonest and the rarest languages (f1 is what macro_f1 averages)"
    utils.print_table(title, rows, corner="language")
    utils.say(
        """(A dash: it was never the answer, or has no test name.)  A rare language has
        few names to learn from; and some of them may be names of a common language as
        well, which then wins (Scottish and English, in the real data).  One could make
        each of them count more in the loss (the argument `weight` of F.cross_entropy):
        that finds more of them, and takes more others for them."""
    )


# How far back does it remember?  Section 3 said: on the way back the gradient is
# multiplied once for every letter, and a product of many factors dies out or explodes.
# What does that do to what a network can learn?
#
# Names are too short to tell: half of those to learn from have 7 letters or fewer.  (In
# the trained network we exchanged one letter of 802 test names for another.  Of letters
# 0, 1, 2, 3, 5, 7 places from the end, that changed 21, 11, 10, 7, 7, 11 % of the
# answers: within a name a letter is not forgotten.)  So we take longer sequences, and
# an exercise in which nothing but memory counts.  Letters at random; the answer is the
# first of them:
#
#     a d b a d d ... (k letters after the first)        answer: a
#
# For each k a new small network is trained, by the loop of section 3, with the same
# number of steps: 120, of 64 sequences each.  Before its training we measure how much
# of the gradient arrives at the first letter, of 1 at the last.  After it, how often
# the network is right about new sequences.  If section 3 is right, the first figure
# predicts the second: where the gradient has died out, the letter is not learned.
#
# (Is that the gradient's fault, or has the state simply forgotten the letter?  It is
# one thing seen from two sides: the same product of W_hh and tanh' says how much a
# change of the first letter still moves the last state.)
#
# All is done twice, for the two ways to start W_hh: PyTorch's own and orthogonal.  What
# came of it (seed 0; guessing is right for 0.25):
#
#     k, letters back                             3        5       10       20
#     PyTorch's own start   gradient, before   0.13    0.031   0.0011  1.2e-06
#                           right, after       1.00     1.00     0.25     0.23
#     orthogonal start      gradient, before   0.46     0.27    0.071   0.0045
#                           right, after       1.00     1.00     1.00     0.23
#
# The gradient predicts the memory: where 0.031 of it or more arrived, the letter was
# learned, where 0.0045 or less, it was not.  And look at k = 10: the same task, the
# same sequences, the same steps.  Only the start of W_hh differs, and with it the
# gradient.  One network does not learn the letter, the other does.  So the distance
# alone is not what is hard.  (Adam makes large steps of small gradients; why does that
# not help?  It sees only the sum over all letters, in which the far one's contribution
# drowns.)
#
# How much is lost at each letter?  The gradient at k = 20 is about a product of 20
# equal factors, each W_hh^T times tanh', so a factor is its 20th root: 0.51 and 0.76.
# The orthogonal W_hh keeps the norm, so 0.76 is tanh'.  And PyTorch's own?  Its entries
# are drawn evenly between -s and s with s^2 = 1/H, and the mean square of such a number
# is s^2 / 3 = 1/(3H).  Each unit adds up H products with random signs, so their squares
# add up and all else cancels: H * 1/(3H) = 1/3 of the mean square of what came in, and
# sqrt(1/3) = 0.58 of its norm.  So 0.51 is 0.58 * 0.88, and the 0.88 is tanh'.  (Why is
# tanh' smaller at the orthogonal start?  A state that W_hh does not shrink is larger,
# and there tanh is flatter.)  A better start moves the border, and does not remove it.

RECALL_LETTERS = 4  # a, b, c, d; so guessing is right for one in four
RECALL_AFTER = (3, 5, 10, 20)  # k
RECALL_STEPS = 120  # of training, 64 sequences each
RECALL_STARTS = ("PyTorch's own start", "orthogonal start")
LEARNED = 0.95  # share of right answers from which on we call it learned


def recall_batch(count, after, device):
    """`count` sequences of 1 + `after` random letters, as a batch for `measure`."""
    # Ids 1 to 4; the first letter is the label, as a class 0 to 3.
    names = torch.randint(1, RECALL_LETTERS + 1, (count, 1 + after))  # (B, T)
    first = names[:, 0] - 1  # (B,)
    return {
        "name": names.to(device),
        "name_length": torch.full((count,), 1 + after),  # (B,)
        "label": first.to(device),
    }


def recall_model(start, args):
    """A small plain RNN, not yet trained, from --seed."""
    utils.set_seed(args.seed)
    model = NameClassifier(  # a letter more than four: id 0, padding, is never used
        RECALL_LETTERS + 1, RECALL_LETTERS, embedding=16, hidden=32
    )
    if start == RECALL_STARTS[0]:
        model.rnn.reset_parameters()  # in place of start_orthogonal
    return model.to(args.device)


def reach_of(model, batch):
    """The norm of dL/dh_t at each letter, in units of that of the last, the last first.

    Means over the sequences of the batch.  For a plain RNN; lesson 05 asks an LSTM too,
    by utils.gradient_by_distance.
    """
    x = model.embed(batch["name"])  # (B, T, E)
    w_ih, w_hh, b_ih, b_hh = model.rnn.parameters()
    h = x.new_zeros(len(x), model.rnn.hidden_size)  # (B, H)
    states = []
    for t in range(x.shape[1]):
        h = torch.tanh(x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)  # (B, H)
        h.retain_grad()  # else autograd keeps the gradient of the weights alone
        states.append(h)
    F.cross_entropy(model.output(h), batch["label"]).backward()
    norms = [h.grad.norm(dim=1).mean().item() for h in reversed(states)]
    return [norm / norms[0] for norm in norms]


def train_to_recall(start, after, args):
    """One network for 1 + `after` letters: reach before training, accuracy after it."""
    # Flags of its own, so that those of the reader do not change the exercise.
    flags = Namespace(seed=args.seed, epochs=1, lr=0.005, weight_decay=0.0, clip=1.0)
    model = recall_model(start, args)
    utils.set_seed(args.seed)  # the same sequences for both ways to start
    steps = 10 if args.quick else RECALL_STEPS
    train = [recall_batch(64, after, args.device) for _ in range(steps)]
    val = [recall_batch(500, after, args.device)]
    reach = reach_of(model, val[0])[-1]  # at the first letter, the furthest back
    train_by_hand(model, train, val, flags)
    fresh = recall_batch(1000, after, args.device)  # sequences that it has not seen
    with torch.no_grad():
        right = measure(model, fresh)["accuracy"].float().mean().item()
    return reach, right


def show_recall(args):
    """Train for each k, print and draw: start -> {k: (reach, accuracy)}."""
    utils.set_seed(args.seed)
    # One sequence to look at, its ids as letters again: [3, 1, 4, 4] -> "c a d d".
    first = recall_batch(1, 10, "cpu")["name"][0].tolist()  # 11 ids
    letters = " ".join("abcd"[letter - 1] for letter in first)
    print("The exercise: name the letter k letters back, the first.  k = 10:")
    print(f"  {letters}   answer: {letters[0]}")
    print("A new plain RNN (32 hidden units) for each k, all trained for equally long.")
    found = {}
    for start in RECALL_STARTS:
        found[start] = {k: train_to_recall(start, k, args) for k in RECALL_AFTER}
    print("  k, letters back         " + "".join(f"{k:>9}" for k in RECALL_AFTER))
    for start, results in found.items():
        print(f"  {start}")
        cells = "".join(f"{reach:>9.2g}" for reach, _ in results.values())
        print(f"    gradient, before      {cells}")
        cells = "".join(f"{right:>9.2f}" for _, right in results.values())
        print(f"    right answers, after  {cells}")
    explain_recall(found, args)
    # For the picture: the gradient at every letter of 101, not at the first one only.
    curves = {}
    long = recall_batch(100, 100, args.device)
    for start in found:
        curves[start] = reach_of(recall_model(start, args), long)
    title = "A plain RNN before training [sample: random letters]"
    axes = ("k, letters back", "gradient, last letter = 1")
    utils.plot_lines(args, "forgetting", title, curves, *axes, log=True)
    if not args.no_plots:
        print("Reading it: a product of equal factors is a straight line here; the")
        print("steeper it is, the sooner the gradient is gone.")
    return found


def explain_recall(found, args):
    """Print what the table of `show_recall` says."""
    if args.quick:
        print("So short a training (--quick) is a trial only.")
        return
    results = []  # (reach, accuracy) of both starts: what counts is the gradient
    for of_start in found.values():
        results.extend(of_start.values())
    learned = [reach for reach, right in results if right >= LEARNED]
    missed = [reach for reach, right in results if right < LEARNED]
    if learned and missed and min(learned) > max(missed):
        verdict = f"""The first figure predicts the second.  Wherever {min(learned):.2g}
            of the gradient or more arrived before training, the letter was learned;
            wherever it was {max(missed):.2g} or less, it was not learned in this
            training."""
    else:
        verdict = """The first figure does not predict all of the second here: near the
            border luck has a part."""
    utils.say(f"Reading it: guessing is right for {1 / RECALL_LETTERS:.2f}.  {verdict}")
    # If the gradient is factor^far, the factor is its root: 0.5^30 = 9.3e-10, and
    # 9.3e-10^(1 / 30) = 0.5.
    far = max(RECALL_AFTER)
    factors = [results[far][0] ** (1 / far) for results in found.values()]
    shrinks = math.sqrt(1 / 3)
    utils.say(
        f"""How much is lost at each letter?  The gradient at k = {far} is about a
        product of {far} equal factors, each W_hh^T times tanh'.  For PyTorch's start a
        factor is {factors[0]:.2f}: W_hh shortens a vector to about sqrt(1/3) =
        {shrinks:.2f} of its norm, tanh' does the rest, {factors[0] / shrinks:.2f}.  For
        the orthogonal start, which keeps the norm, it is {factors[1]:.2f}, all of it
        tanh'.  (A longer training, or another seed, moves the border of what is learned
        a little.)"""
    )


def draw(scores, config, records, data, args):
    """Pictures: the course of training, and what the test scores (N, C) mistake.

    The brightest mistakes of the default run: Scottish taken for English (73 % of the
    names; all of them are English names as well), Irish for English (62 %; 17 % are),
    French for English (54 %; 18 % are).
    """
    from sklearn.metrics import confusion_matrix

    about = f"{data.source.label}, {config['cell']}"
    if records:
        panels = {
            "loss": ["loss", "val_loss"],
            "accuracy": ["accuracy", "val_accuracy"],
        }
        panels["norm of the gradient"] = ["grad_norm", "max_grad_norm"]
        runs = {about: records}
        utils.plot_records(args, "training", f"Training, {about}", runs, panels)
        print("Reading it: the training log as curves; section 3 says how to read it.")
    truth = data.test.data["label"].cpu()
    classes = range(len(data.labels))
    answers = scores.argmax(1)  # (N,)
    share = confusion_matrix(truth, answers, labels=classes, normalize="true")
    axes = {"xlabel": "answer", "ylabel": "truth", "bar": "share of the row"}
    title = f"Test, {about}"
    utils.plot_matrix(
        args, "confusion", title, share, rows=data.labels, columns=data.labels, **axes
    )
    utils.say(
        """Reading it: a row is a language; a bright cell off the diagonal is what it is
        often taken for.  The three brightest, with the share of names that no model can
        tell apart, because the same spelling stands in both files:"""
    )
    mistakes = []  # of languages with five test names or more
    for true in classes:
        for answer in classes:
            if true != answer and (truth == true).sum() >= 5:
                mistakes.append((share[true, answer], data.labels[true], answer))
    for part, language, answer in sorted(mistakes, reverse=True)[:3]:
        other = data.labels[answer]
        names = [name for name, label in data.parts[2] if label == language]
        in_other = {name for name, label in data.parts[2] if label == other}
        both = sum(name in in_other for name in names) / len(names)
        print(f"    {language} taken for {other}: {part:.0%}", end="")
        print(f"  ({both:.0%} of its names are {other} names as well)")


def answer_the_title(rows, p, found, data):
    """Print what the lesson found, in plain words."""
    ours = rows[next(iter(rows))]  # the network's row is the first
    right = ours["accuracy"]
    guess = rows["majority"]["accuracy"]
    letters = rows["single_letters"]["accuracy"]
    groups = rows["letter_groups"]["accuracy"]
    gap = right - groups
    if p >= 0.05:
        verdict = "The network and the letter groups cannot be told apart here"
    elif gap > 0:
        verdict = "The network beats the letter groups"
    else:
        verdict = "But the network loses to the letter groups"
    print("Can a plain RNN tell where a name comes from?")
    print("Yes." if right > guess else "Not after so little training.")
    rare = ""
    if ours["macro_f1"] < right - 0.1:
        rare = f"""  Its accuracy is the work of the common languages.  Of the rare ones
            it misses many: macro_f1, in which each counts alike, is only
            {ours["macro_f1"]:.2f}."""
    utils.say(
        f"""It is right for {right:.1%} of the names, none of which it saw before;
        always naming the commonest language is right for {guess:.1%}.  {verdict}
        ({gap:+.4f}).{rare}"""
    )
    if letters < right < groups and p < 0.05:
        utils.say(
            f"""Why does it lose?  A few letters side by side decide (Mc-, -ov, -ini).
            From single letters the linear model is right for {letters:.1%}, from all
            groups for {groups:.1%}, and it is handed them ready made.  The network has
            to find them, in {len(data.parts[0]):,} names.  It has found some, since it
            is better than single letters.  (Where the order of distant things decides,
            it is another matter: lessons 05 and 07.)"""
        )
    reached = [0]  # every k whose letter was learned, from either start
    for results in found.values():
        reached += [k for k, (_, recalled) in results.items() if recalled >= LEARNED]
    border = max(reached)
    if 0 < border < max(RECALL_AFTER):
        utils.say(
            f"""And what can it not do?  Learn to remember over long distances.  From
            the better of two starts it learned to name a letter {border} letters back,
            and none further back.  The cause is the cell: its state, and so its
            gradient, goes through W_hh and tanh at every letter."""
        )
    utils.say(
        """Names are short.  A review has hundreds of words.  For that, LSTM (lesson 05)
        and GRU (06) change the cell itself."""
    )


# Is that why it loses?  Two tests more, on validation (names [real]).  Groups of up to
# two letters have 0.8045, of up to three 0.8322, of up to four 0.8278.  The network's
# 0.8128 lies between pairs and threes.  And if it must first find the groups, it should
# lose more with fewer names to learn from.  With a quarter of them the groups led by
# 0.0332, else by 0.0150.  Each lead moves by 0.007 or more by luck, and this is one
# seed: a hint, no proof.  (To try it, put `parts[0] = parts[0][::4]` in main, below
# split_without_leak.)
#
# And a network that is handed the groups as well?  With --letter-groups the scores are
# those of the network plus one learned weight for each group and language (section 5
# has the dozen lines).  20 epochs and weight decay 0.1 were chosen on validation.  Seeds
# 0, 1, 2:
#                        network and groups            groups alone     p
#   validation           0.8411   0.8405   0.8422      0.8278           0.009 to 0.014
#   test                 0.8538   0.8583   0.8610      0.8616           0.16 to 1
# So together they beat the groups on validation, and cannot be told from them on test.
# Why not on both?  The groups alone happen to be far better on test than on validation;
# what the network adds is small beside that luck of the names.
#
# What came of "Try this" (names [real], seed 0, accuracy on validation unless said)
#
#   --overfit-one-batch   64 of 64 right, loss 0.0003
#   --compare cell        rnn 0.8128, lstm 0.8112, gru 0.8245, at 56 thousand weights
#                         each (on another processor 0.8117, 0.8178, 0.8234).  Another
#                         seed moves one by 0.004 to 0.014, so at most the gru may be
#                         better.  Letter groups: 0.8278
#   (--compare clip: the table before show_clipping; --leaky-split: section 1)
#   --cell gru ...        0.8322, above the groups' 0.8278; on test 0.8410, below their
#                         0.8616.  A lead of 0.004 on 1,806 names was no lead
#   a   the two networks' scores are 0.9 apart, not 0: after a short name's last letter
#       the state goes on, and every step over the padding changes it
#   b   validation loss 2.977 before one epoch and after it: the step is made while the
#       gradients are empty; what backward fills in then, zero_grad throws away
#   c   1.042 in place of 1.000, and other weights than those of utils.fit: each step
#       uses the sum of all gradients so far.  That it learns at all is due to Adam and
#       clipping, to which the size of the sum hardly matters
#   d   2.352 in place of 1.000: it learns, only worse.  What the loss takes for scores
#       lies between 0 and 1, so no language can get a probability near 1


# ====================================================================================
# 5. Command line
# ====================================================================================
#
# From here on it is [machinery]: the files, the cells and splits that flags ask for,
# the flags themselves, and `main`, which calls all of the above in order.


def as_the_model_sees_it(name):
    """Lower case, é as one sign, and 100 letters at most (if it is no name at all)."""
    return unicodedata.normalize("NFC", name.strip()).lower()[:100]


def read_labelled_lines(folder):
    """A folder of <label>.txt files, an example a line: list of (line, label)."""
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


def split_with_leak(lines):
    """The usual careless split, of lines.  Repeats of a name land on both sides."""
    numbers = [str(number) for number in range(len(lines))]
    part_of = utils.split_by_hash(numbers)
    parts = [[], [], []]
    for number, line in zip(numbers, lines, strict=True):
        parts[part_of[number]].append(line)
    return parts


LEAKY = "the same, leaky split: flattered"  # its row in the table
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def recurrent_layer(
    embedding, hidden, dropout, cell="rnn", layers=1, bidirectional=False
):
    """PyTorch's nn.RNN, or what flags ask for: the layers of lessons 05, 06 and 07."""
    return CELLS[cell](
        embedding,
        hidden,
        num_layers=layers,
        batch_first=True,
        bidirectional=bidirectional,
        dropout=dropout if layers > 1 else 0.0,  # it acts between layers
    )


def last_of_both(rnn, x, lengths):
    """The last state read forwards beside the last read backwards: (B, 2H).

    Reading backwards must begin at the last letter: packing (lesson 01) says where.
    """
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    _, h = rnn(packed)  # (layers * 2, B, H)
    if isinstance(h, tuple):  # an LSTM returns its memory c as well
        h = h[0]
    return torch.cat([h[-2], h[-1]], dim=1)  # (B, 2H)


# --letter-groups: a network that reads the letters and is handed the groups as well.  To
# the scores of NameClassifier each group of the name adds one learned weight for each
# language: the rival, built in, and both learn together.  Whatever one of the two gets
# right early leaves the other nothing to learn.  So in training each group is left out
# three times in ten, and what it would have said must be found in the rest.


def known_groups(pairs):
    """All groups of one to four letters that stand in two or more of these names."""
    groups_of = letter_groups().build_analyzer()
    counts = Counter(group for name, _ in pairs for group in set(groups_of(name)))
    return sorted(group for group, count in counts.items() if count > 1)


def group_ids(names, groups):
    """For each name the numbers of its groups, from 1, filled up with 0: (N, K)."""
    groups_of = letter_groups().build_analyzer()
    number = {group: place for place, group in enumerate(groups, start=1)}
    rows = []
    for name in names:
        found = [number[group] for group in set(groups_of(name)) if group in number]
        rows.append(sorted(found) or [0])
    return utils.pad(rows)[0]


class NameClassifierWithGroups(NameClassifier):
    """The scores of NameClassifier, and a weight for each group and language added."""

    def __init__(self, groups, classes, **config):
        super().__init__(classes=classes, **config)
        self.group_weights = nn.Embedding(groups + 1, classes, padding_idx=0)
        nn.init.zeros_(self.group_weights.weight)

    def forward(self, names, lengths, groups):
        """names (B, T), lengths (B,), groups (B, K) -> scores (B, C)."""
        if self.training:
            left_out = torch.rand(groups.shape, device=groups.device) < 0.3
            groups = groups.masked_fill(left_out, 0)
        of_groups = self.group_weights(groups).sum(1)  # (B, K, C) -> (B, C)
        return super().forward(names, lengths) + of_groups


def new_network(groups=0, **config):
    """The network that config describes; groups: how many letter groups it is handed."""
    if groups:
        return NameClassifierWithGroups(groups, **config)
    return NameClassifier(**config)


def scores_of(model, batch):
    """Scores (B, C) of a batch."""
    if "groups" in batch:
        return model(batch["name"], batch["name_length"], batch["groups"])
    return model(batch["name"], batch["name_length"])


def overfit_one_batch(config, data, args, steps=200):
    """`--overfit-one-batch`: learn 64 names by heart."""
    print("One batch again and again: its loss must fall to 0.")
    utils.set_seed(args.seed)
    # Dropout would disturb what is to be learned by heart, so it is off.
    model = new_network(**{**config, "dropout": 0.0}).to(args.device)
    batch = data.train.take(torch.arange(min(data.train.n, 64)))
    one_epoch = Namespace(**vars(args) | {"epochs": 1})
    train_by_hand(model, [batch] * steps, [batch], one_epoch)
    with torch.no_grad():
        values = measure(model, batch)
    right = int(values["accuracy"].sum())
    print(f"  after {steps} steps: loss {values['loss'].mean():.4f},", end=" ")
    print(f"{right}/{len(batch['label'])} right")
    print("All must be right, but for a spelling that has two languages.")


def variants(config, args):
    """What --compare trains: name -> (config, flags), all with as many weights."""
    if args.compare == "cell":
        shapes = utils.cells_of_equal_size(new_network, config, CELLS)
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
        return model, records, utils.judge(model, scores_of, data.val, args)

    rivals = score_all(baselines(data, data.parts[1]), data.val)
    utils.compare_variants(args, data.source, variants(config, args), train, rivals)
    print("Reading it: one seed; another moves an accuracy by 0.004 to 0.014.")


def print_predictions(model, data, args):
    """`--predict`: the three likeliest languages of each name."""
    print()
    chances = ask_about(model, args.predict, data, args)  # (names, C)
    for name, row in zip(args.predict, chances, strict=True):
        print(f"{name}: {likeliest(row, data.labels)}")
    print("Reading it: it chooses among the languages it knows, even for nonsense.")


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(parser, ["names", "sample"], "a folder of <label>.txt files")
    # What is not named here, such as --clip, has the default of all lessons.
    utils.add_training_flags(
        parser, epochs=30, lr=0.003, batch_size=128, hidden_size=192, dropout=0.3
    )
    add = parser.add_argument_group("this lesson").add_argument
    add("--cell", choices=list(CELLS), default="rnn", help="default rnn")
    add("--bidirectional", action="store_true", help="read backwards too")
    add("--letter-groups", action="store_true", help="hand it the letter groups too")
    add("--leaky-split", action="store_true", help="what a careless split flatters")
    add("--overfit-one-batch", action="store_true", help="learn 64 names by heart")
    add("--compare", choices=["cell", "clip"], help="several models, one table")
    add("--predict", nargs="+", metavar="NAME", default=[], help="names to ask about")
    return parser


def new_model(source, parts, args):
    """(config, feeds) of a new model: how to build it, and what feeds it."""
    # The letters of training alone: one that only test names have is unknown, as it
    # would be in a new name.  But the languages of all parts: each needs a number.
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
    # Saved too: without these lists nobody knows which letter a number is.
    lists = {"vocabulary": vocabulary.tokens, "labels": labels}
    if args.letter_groups:
        lists["groups"] = known_groups(parts[0])
        config["groups"] = len(lists["groups"])
    return config, {"dataset": source.name, **lists}


def train_on_leak(config, feeds, source, lines, args):
    """`--leaky-split`: the figures of a second model, on the careless split."""
    print(
        "\nOnce more, on the leaky split.  Its test set is another one, of lines, so a"
    )
    print("part of the difference is the leak, and a part are the other names.")
    data = load_names(source, split_with_leak(lines), feeds, args)
    model, _ = train_model(config, data, args)
    return utils.judge(model, scores_of, data.test, args)


def keep_metrics(val_rows, rows, model, records, data, args):
    """The figures of the run, into metrics.json."""
    ours = next(iter(rows))
    metrics = {f"test_{name}": value for name, value in rows[ours].items()}
    metrics["val_accuracy"] = val_rows[ours]["accuracy"]
    known = {"label_noise_ceiling": label_noise_ceiling(data.parts[2])}
    for name in ("majority", "single_letters", "letter_groups"):
        known[name] = rows[name]["accuracy"]
    if LEAKY in rows:
        metrics["leaky_accuracy"] = rows[LEAKY]["accuracy"]
    size = utils.count_parameters(model)
    units = (int(data.train.lengths["name_length"].sum()), "letters")
    utils.write_metrics(args, data.source, metrics, known, size, records, *units)


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
        model, config, feeds = utils.load(args, new_network, dataset=source.name)
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

    # 3. Training: loss, gradient, clipping, the loop; then the real thing.
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
    leaky = {}
    if args.leaky_split and not args.eval_only:
        leaky[LEAKY] = train_on_leak(config, feeds, source, lines, args)

    # 4. Evaluation: what does it say, how good is it, is that more than luck?
    utils.heading("4. Evaluation: what it says, and how good it is")
    first = (args.predict or ["Schmidhuber"])[0]
    show_letter_by_letter(model, first, data, args)
    validation, test = ask_all(model, config, data, args)
    our_scores = next(iter(test.values()))  # (N, C): the network's are the first
    show_answers(our_scores, data)
    show_letter_groups()
    val_rows = score_all(validation, data.val)
    rows = score_all(test, data.test) | leaky
    print_scores(val_rows, rows, data)
    show_mcnemar()
    p = explain_luck(validation, test, data)
    show_rare_languages(our_scores, data)
    keep_metrics(val_rows, rows, model, records, data, args)

    # How far back does it remember?
    utils.heading("4. Evaluation: how far back it remembers")
    found = show_recall(args)
    if not args.no_plots:
        utils.heading("4. Pictures")
        draw(our_scores, config, records, data, args)
    utils.heading("What this lesson found")
    answer_the_title(rows, p, found, data)
    if args.predict:
        print_predictions(model, data, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
