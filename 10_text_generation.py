"""10 · Can a network write?

A network that has learned which character comes next can write: it draws a character
from what it predicts, takes it for the next one that it reads, and goes on.  All its
training is to read: here a million characters of Shakespeare.  Nobody tells it what a
word is, or a verse, or a king.

What you will learn
    - what a language model is, and how to score one: nats, bits, perplexity
    - how one long text becomes batches: streams, a carried state, and why the gradient
      is cut between two batches (truncated back-propagation through time)
    - how a text is drawn: temperature, top-k, top-p, greedy
    - n-gram models, the rival that a sceptic asks for, from counting pairs upwards
    - how to ask whether a text is good, and whether it is only copied
    - minGRU: a recurrent network without a loop, and where research went from here

You need lessons 04 (softmax, cross-entropy, `fit`) and 05, 06 (LSTM, GRU).

Run it
    python 10_text_generation.py
    python 10_text_generation.py --temperature 0.8 --max-length 500
    python 10_text_generation.py --level word
    python 10_text_generation.py --cell mingru
    python 10_text_generation.py --epochs 50

You should see  (shakespeare [real], seed 0; 6 minutes of training on two idle cores,
27 on one thread of a busy machine)
      model                     nats   bits_per_char   perplexity
      lstm (this lesson)      1.4321          2.0661       4.1875
      lstm, reset every 256   1.4638          2.1118       4.3224
      1-gram                  3.3473          4.8291      28.4261
      bigram, by counting     2.4820          3.5807      11.9646
      7-gram                  1.5165          2.1879       4.5563
    The lower, the better: nats are the mean of -log p of each character that really
    came next.  "reset every 256": the network forgets every 256 characters, a fair row
    beside models that see no more.  An n-gram model counts what follows the last n - 1
    characters.  --level word: perplexity 49.7 a word; that of the 4-gram is 67.9.

Try this  (guess first, then run; --save-model once, then --eval-only answers at once)
    --temperature 0             why does greedy writing go in circles?
    --temperature 1.5           and what goes wrong here?  Does --top-p 0.9 mend it?
    --prompt "ROMEO:"           does the first word decide who speaks?
    --sequence-length 8         gradients reach 8 steps back, and there are 8 times as
                                many updates: what is lost, what is won?
    --cell rnn                  how much of the gain is the LSTM's memory?
    --dataset code              how much of the Python that it writes can be parsed?
"""

# Sizes
#     B  batch: streams of text read side by side     T  time: steps between two updates
#     E  embedding      H  hidden state               L  layers
#     V  vocabulary     N  tokens (characters or words) of a text

import ast
import hashlib
import math
import re
import sys
import sysconfig
import time
import warnings
from argparse import Namespace
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================
#
# The data are one long text.  Its pieces are called tokens: single characters, or, with
# `--level word`, words and marks.  Nothing has to be labelled by anybody: at each place,
# the right answer is the token that comes next.
#
# A recurrent network could read the text from the first token to the last, and be
# taught at the end.  That would be one update for a million characters, and the gradient
# would have to run back through all of them.  So three things are done:
#
#   streams   the text is cut into B long pieces, which are read side by side: B tokens
#             in one step of the network instead of one
#   windows   each stream is read T tokens at a time; after each window comes an update
#   carrying  window k + 1 goes on exactly where window k stopped, stream by stream, so
#             the state at the end of one window is the start of the next


def standard_library():
    """The folder of Python's own source code: a corpus that lies on every machine."""
    return Path(sysconfig.get_paths()["stdlib"])


def read_standard_library(folder, most=400_000):
    """Modules of Python's standard library, one after another: `most` characters.

    Modules of middling size, in the order of their names' digests: a mixture, the same
    every time on a machine (another version of Python has another text).
    """
    files = sorted(
        Path(folder).glob("*.py"),
        key=lambda path: hashlib.sha256(path.name.encode()).digest(),
    )
    parts = []
    size = 0
    for path in files:
        text = path.read_text(encoding="utf-8", errors="replace")
        if size < most and 1000 <= len(text) <= 60_000 and text.isascii():
            parts.append(text)
            size += len(text)
    if not parts:
        raise utils.UserError(
            f"the source of Python's standard library is not in {folder}; "
            "give a text with --input FILE"
        )
    return "\n".join(parts)[:most]


def read_corpus(args):
    """(Source, text) of the data set that the flags name."""
    source = utils.choose_dataset(args, ["shakespeare"], {"code": standard_library()})
    if source.name == "code":
        text = read_standard_library(source.path)
    else:
        text = utils.read_text(source.path)
    return source, utils.capped(args, text, 20_000)


def tokenize(text, level):
    """Characters; or words, punctuation marks and line ends; spaces are lost."""
    if level == "char":
        return list(text)
    # Words with their apostrophes (don't), or one sign that is no letter and no space.
    return re.findall(r"\w+(?:'\w+)*|[^\w ]", text)


def join(tokens, level):
    """Tokens back to text; for words, with a space wherever one is likely."""
    if level == "char":
        return "".join(tokens)
    text = " ".join(tokens)
    text = re.sub(r" ([.,;:!?)\]])", r"\1", text)  # no space before a mark
    return re.sub(r" ?\n ?", "\n", text)  # none around a line end


class Corpus(NamedTuple):
    """All that this lesson knows of its data."""

    source: utils.Source  # which data set, and whether it is real
    level: str  # char or word
    vocabulary: utils.Vocabulary  # of the training part alone; id 0 is <unk>
    texts: list  # the training part and the held-out part
    ids: list  # the same as ids, (N,) each


def split(text):
    """First 90 % to train, last 10 % held out: what everyone does with this corpus.

    There is no third part.  Choosing the best epoch on the held-out part flatters the
    score a little; the field does it, so figures can be compared, and we say so.
    """
    cut = int(0.9 * len(text))
    return [text[:cut], text[cut:]]


def load_corpus(source, text, level, words, args):
    """The Corpus of a text, in the vocabulary `words`.  UserError if it is too short."""
    vocabulary = utils.Vocabulary(words)
    texts = split(text)
    ids = [torch.tensor(vocabulary.encode(tokenize(part, level))) for part in texts]
    if len(ids[0]) < 2 * args.sequence_length or len(ids[1]) < 2:
        raise utils.UserError(
            f"the text is too short ({len(ids[0])} tokens to train on) for "
            f"--sequence-length {args.sequence_length}; lower that, or give a longer one"
        )
    return Corpus(source, level, vocabulary, texts, ids)


class Streams:
    """The ids (N,) as B streams of text side by side, T steps at a time, in order.

    A batch holds `input` (B, T), `target` (B, T), the same one step later, and `first`:
    whether a pass begins here, so that there is no state to carry.
    """

    def __init__(self, ids, streams, steps, device="cpu", shuffle=False):
        self.ids = ids.to(device)
        self.steps = steps
        self.shuffle = shuffle
        usable = len(ids) - 1  # the last token is only a target
        if shuffle:
            usable -= steps - 1  # room for a random start
        self.streams = max(1, min(streams, usable // steps))
        self.width = usable // self.streams  # tokens of one stream

    def __len__(self):
        if self.shuffle:
            return self.width // self.steps  # whole windows alone
        return math.ceil(self.width / self.steps)

    def __iter__(self):
        # A random start each epoch: else windows would be cut at the same places, and
        # the characters after a cut would never get a gradient from those before it.
        start = int(torch.randint(self.steps, ())) if self.shuffle else 0
        stop = start + self.streams * self.width
        inputs = self.ids[start:stop].view(self.streams, self.width)  # (B, width)
        targets = self.ids[start + 1 : stop + 1].view(self.streams, self.width)
        for k in range(len(self)):
            window = slice(k * self.steps, (k + 1) * self.steps)
            yield {
                "input": inputs[:, window],  # (B, T)
                "target": targets[:, window],  # (B, T)
                "first": k == 0,
            }


def show_streams():
    """Thirteen letters as two streams, three steps at a time, with their targets."""
    letters = "abcdefghijklm"  # the thirteenth is only a target
    ids = torch.arange(len(letters))
    print(f"\nThe text {letters} as B = 2 streams, T = 3 steps at a time:")
    for k, batch in enumerate(Streams(ids, streams=2, steps=3), start=1):
        state = (
            "no state yet" if batch["first"] else f"state carried from batch {k - 1}"
        )
        print(f"  batch {k} ({state})")
        for row in range(2):
            given = "".join(letters[i] for i in batch["input"][row])
            wanted = "".join(letters[i] for i in batch["target"][row])
            print(f"    stream {row + 1}   input {given}   target {wanted}")
    print(
        "Reading it: each target is the letter that follows its input.  Stream 1 goes"
    )
    print("on from abc to def, so its state after c is the state before d.")


# ====================================================================================
# 2. Model
# ====================================================================================
#
# A language model gives a probability to every token that could come next.  By the chain
# rule (lesson 08) that makes a probability of a whole text:
#
#     p(to be) = p(t) * p(o after t) * p(space after to) * p(b after "to ") * ...
#
# How good is it?  Take a text that it has not seen, and at each place the probability
# that it gave to the token that really came next.  The mean of -log p over all places
# is its score, the cross-entropy that training lowers.  With the natural logarithm its
# unit is the nat; with the logarithm to base 2 it is the bit: so many yes-or-no
# questions would have to be answered, on average, to know the next token.  And e to the
# power of the nats is the perplexity: as unsure as if it drew from so many equally
# likely tokens.


def show_units():
    """Five characters: p, -log p, their mean in nats, bits, and as perplexity."""
    chances = {"t": 0.2, "o": 0.5, "_": 0.8, "b": 0.1, "e": 0.5}
    print("\nScoring five characters, with made-up probabilities (_ is a space):")
    total = 0.0
    for character, p in chances.items():
        total += -math.log(p)
        print(f"  {character}   p {p:.1f}   -log p {-math.log(p):.3f}")
    nats = total / len(chances)
    print(f"  sum {total:.3f}, divided by 5: {nats:.3f} nats a character")
    print(f"  in bits: {nats:.3f} / log 2 = {nats / math.log(2):.3f}")
    print(f"  perplexity: e^{nats:.3f} = {math.exp(nats):.2f}")
    print("Reading it: one surprise (b, 0.1) costs more than four good guesses earn.")


class NextToken(nn.Module):
    """Embedding, recurrent layers, a score for every token that could come next.

    tied: for words.  V x H weights of output would cost more than all the rest; so the
    state is squeezed to E numbers and compared with the embedding of each word, by the
    same weights (Press and Wolf, 2017): half the cost, and half as much to learn.
    """

    def __init__(self, tokens, embedding, cell, hidden, layers, dropout, tied):
        super().__init__()
        self.embed = nn.Embedding(tokens, embedding)
        self.rnn = CELLS[cell](
            embedding,
            hidden,
            layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,  # between layers
        )
        self.dropout = nn.Dropout(dropout)
        self.squeeze = nn.Linear(hidden, embedding) if tied else nn.Identity()
        self.output = nn.Linear(embedding if tied else hidden, tokens)
        if tied:
            nn.init.uniform_(self.embed.weight, -0.1, 0.1)
            self.output.weight = self.embed.weight

    def forward(self, ids, state=None):
        """ids (B, T) and the state before them -> scores (B, T, V), the state after.

        The state is h (L, B, H), of an LSTM (h, c).  None: nothing was read before.
        """
        x = self.embed(ids)  # (B, T, E)
        y, state = self.rnn(x, state)  # (B, T, H)
        return self.output(self.squeeze(self.dropout(y))), state


# --- A recurrent network without a loop: minGRU ----------------------------------------
#
# LSTM and GRU have to go through a text step by step: the gates of step t look at the
# state of step t - 1, which has to be there first.  Feng et al. (2024) asked what
# happens if the gates look at the input alone.  Of the GRU of lesson 06 remains
#
#     z_t = sigmoid(W_z x_t)             how much to renew
#     c_t = g(W_c x_t)                   what to put there (g keeps it above 0)
#     h_t = (1 - z_t) * h_(t-1) + z_t * c_t
#
# All z and c can now be computed at once.  What remains is a sum in which old parts
# fade: with keep_t = 1 - z_t and new_t = z_t * c_t,
#
#     h_1 = keep_1 h_0 + new_1
#     h_2 = keep_2 keep_1 h_0 + keep_2 new_1 + new_2            and so on.
#
# Divide each by the product of all keeps so far, K_t = keep_1 * ... * keep_t, and the
# fading is gone: h_t / K_t = h_0 + new_1 / K_1 + ... + new_t / K_t.  That is a running
# sum, which a computer can do for all t at once ("scan").  K_t soon becomes too small
# for a computer's numbers, so everything is done in logarithms: products become sums,
# and a sum of logarithms' powers is what torch.logcumsumexp computes.


def scan(log_keep, log_new, log_start):
    """All states h_t = keep_t h_(t-1) + new_t at once: (B, T, H).

    log_keep, log_new (B, T, H) and log_start (B, H): logarithms of keep, new and h_0.
    """
    log_products = log_keep.cumsum(dim=1)  # log K_t, (B, T, H)
    # log of h_0 and of every new_i / K_i, then the running sum of what they are logs of.
    parts = torch.cat([log_start.unsqueeze(1), log_new - log_products], dim=1)
    log_sums = torch.logcumsumexp(parts, dim=1)[:, 1:]  # (B, T, H)
    return (log_products + log_sums).exp()  # times K_t again


def step_by_step(log_keep, log_new, log_start):
    """The same in a loop, as it is defined."""
    h = log_start.exp()  # (B, H)
    states = []
    for t in range(log_keep.shape[1]):
        h = log_keep[:, t].exp() * h + log_new[:, t].exp()
        states.append(h)
    return torch.stack(states, dim=1)  # (B, T, H)


def log_g(x):
    """log g(x), where g(x) = x + 0.5 above 0 and sigmoid(x) below: always above 0."""
    return torch.where(x >= 0, (x.relu() + 0.5).log(), F.logsigmoid(x))


class MinGRU(nn.Module):
    """Layers of minGRU; it is called like nn.GRU."""

    def __init__(self, size, hidden, layers=1, batch_first=True, dropout=0.0):
        super().__init__()
        self.hidden_size = hidden
        sizes = [size] + [hidden] * (layers - 1)
        self.gates = nn.ModuleList(nn.Linear(n, 2 * hidden) for n in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, state=None):
        """x (B, T, F), state (L, B, H) -> the last layer's states (B, T, H), new state."""
        if state is None:  # g(0) = 0.5: above 0, so that it has a logarithm
            state = x.new_full((len(self.gates), len(x), self.hidden_size), 0.5)
        last_states = []
        for layer, gate in enumerate(self.gates):
            if layer > 0:
                x = self.dropout(x)
            renew, candidate = gate(x).chunk(2, dim=-1)  # (B, T, H) each
            log_keep = F.logsigmoid(-renew)  # 1 - sigmoid(a) = sigmoid(-a)
            log_new = F.logsigmoid(renew) + log_g(candidate)
            x = scan(log_keep.float(), log_new.float(), state[layer].float().log())
            last_states.append(x[:, -1])
        return x, torch.stack(last_states)


CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU, "mingru": MinGRU}


def show_scan():
    """The scan on three steps by hand, and its distance from the loop."""
    # In a loop as it is defined, and by the running sum of new / K, times K.
    keep = torch.tensor([0.5, 0.8, 0.5])
    new = torch.tensor([1.0, 0.2, 0.6])
    start = 2.0
    print("\nminGRU's scan on three steps, h_0 = 2:")
    h = start
    product = 1.0
    total = start
    for t in range(3):
        h = keep[t].item() * h + new[t].item()
        product *= keep[t].item()
        total += new[t].item() / product
        print(
            f"  step {t + 1}: keep {keep[t]:.1f}, new {new[t]:.1f}   loop h = {h:.2f}   "
            f"K = {product:.2f}, running sum {total:.2f}, K * sum = {product * total:.2f}"
        )
    torch.manual_seed(10)
    log_keep = F.logsigmoid(torch.randn(4, 64, 16))
    log_new = F.logsigmoid(torch.randn(4, 64, 16))
    log_start = torch.randn(4, 16)
    at_once = scan(log_keep, log_new, log_start)
    one_by_one = step_by_step(log_keep, log_new, log_start)
    gap = (at_once - one_by_one).abs().max()
    print(f"  64 steps of random numbers, at once and in a loop: {gap:.0e} apart")


# ====================================================================================
# 3. Training
# ====================================================================================
#
# One step of training reads one window of every stream.  Forwards nothing is cut: the
# state at a window's end starts the next.  If each window began from zero, nothing
# older than T tokens could ever be used.  Backwards the gradient stops at the window's
# edge: that is truncated back-propagation through time.
#
#     stream 1   a  b  c  |  d  e  f  |  g  h  i
#     state      ------------->---------->------->      carried on
#     gradient   <-------    <-------    <-------       cut at each edge
#
# Why cut?  The gradient of window 2 would have to run through the computation of window
# 1, whose intermediate results are thrown away after its own backward: an error.  Kept,
# each step would take longer than the one before, and more memory.  `detach()` cuts: the
# same numbers, without the memory of how they were made.
#
# Why not start each window from zero, then, which needs no detach?  Because then the
# network would never learn to use a long memory, and at each window's start it would
# have to guess without any.


def detach(state):
    """The same numbers, cut off from the computation that made them."""
    if isinstance(state, tuple):  # h and c of an LSTM
        return tuple(part.detach() for part in state)
    return state.detach()


def make_measure():
    """The function `measure` for `fit`, which remembers the state between two calls.

    One is made for each training run.  Training and validation do not mix: each pass
    begins with a batch that is marked `first`, and then what is carried is dropped.
    """
    carried = {}

    def measure(model, batch):
        state = None if batch["first"] else carried["state"]
        scores, state = model(batch["input"], state)  # (B, T, V)
        carried["state"] = detach(state)
        scores = scores.flatten(0, 1).float()  # (B * T, V)
        target = batch["target"].flatten()  # (B * T,)
        return {"loss": F.cross_entropy(scores, target, reduction="none")}  # (B * T,)

    return measure


def train_by_hand(model, train, args):
    """One epoch of truncated back-propagation through time, in the open."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.lr, weight_decay=args.weight_decay
    )
    schedule = utils.make_scheduler(optimizer, len(train), args)  # as in lesson 04
    utils.seed_epoch(args.seed, 1)
    model.train()
    state = None
    for batch in train:
        # Forget the gradients of the window before.
        optimizer.zero_grad()
        # Read on from where the last window stopped.
        scores, state = model(batch["input"], state)  # (B, T, V)
        loss = F.cross_entropy(scores.flatten(0, 1), batch["target"].flatten())
        # Back through the T steps of this window.
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        schedule.step()
        # Keep the numbers of the state, and cut them off from how they were made.
        state = detach(state)


def small_model(corpus):
    """A small network for the examples, the same each time."""
    utils.set_seed(10)
    return NextToken(
        len(corpus.vocabulary),
        embedding=8,
        cell="lstm",
        hidden=16,
        layers=1,
        dropout=0.0,
        tied=False,
    )


def show_truncated_steps(corpus, args):
    """The step in the open against utils.fit; and what happens without detach."""
    # A small network and 3,000 characters, so that it takes no time.
    fixed = {"epochs": 1, "optimizer": "adam", "clip": 1.0, "accumulate": 1}
    fixed |= {"precision": "fp32", "patience": 0, "device": "cpu"}
    one_epoch = Namespace(**{**vars(args), **fixed})
    ids = corpus.ids[0][:3000]
    train = Streams(ids, streams=8, steps=16, shuffle=True)
    ours = small_model(corpus)
    theirs = small_model(corpus)
    train_by_hand(ours, train, one_epoch)
    utils.fit(theirs, make_measure(), train, train, one_epoch)
    gaps = [
        (weight - other).abs().max().item()
        for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True)
    ]
    print(
        f"\n{len(train)} windows by hand and by utils.fit: weights {max(gaps):.0e} apart."
    )

    model = small_model(corpus)
    state = None
    print("Without detach:")
    for number, batch in enumerate(train, start=1):
        scores, state = model(batch["input"], state)
        loss = F.cross_entropy(scores.flatten(0, 1), batch["target"].flatten())
        try:
            loss.backward()
        except RuntimeError as error:
            reason = str(error).split(" (")[0]
            print(f"  window {number}: RuntimeError: {reason} ...")
            break
        print(f"  window {number}: backward runs through {train.steps} steps")
    print("Reading it: the second backward wants to go on into the first window, whose")
    print("intermediate results are gone.")


LINE = {"char": 70, "word": 14}  # tokens that fill a line


def train_model(config, corpus, args, feeds):
    """A new model from --seed, trained; it writes a line after some epochs on its way."""
    utils.set_seed(args.seed)
    model = NextToken(**config).to(args.device)
    train = Streams(
        corpus.ids[0], args.batch_size, args.sequence_length, args.device, shuffle=True
    )
    # 16 streams for speed: 16 starts from nothing make this val_loss a little too high.
    val = Streams(corpus.ids[1], 16, 256, args.device)

    def write_a_line(record):
        if record["epoch"] in {1, 2, 4, 8, 16, 32, args.epochs}:
            print(f"    {write(model, corpus, args, LINE[corpus.level])!r}")

    records = utils.fit(
        model,
        make_measure(),
        train,
        val,
        args,
        config,
        feeds,
        after_epoch=write_a_line,
    )
    return model, records


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# First the writing.  The network gives a score to every token; softmax makes
# probabilities; one token is drawn.  Three knobs change the probabilities before:
#
#   temperature   the scores are divided by it.  Below 1, likely tokens become likelier;
#                 at 0, only the likeliest is left (greedy); above 1, all become alike
#   top-k         only the k likeliest may be drawn
#   top-p         only the likeliest may be drawn, as few as reach the probability p
#                 together: many where the network is unsure, few where it is sure
#                 (Holtzman et al., 2020)
#
# Why not always the likeliest?  Because text is not made of likely words alone: greedy
# writing soon goes in circles.  Why not always draw at temperature 1?  Because a network
# gives a little too much to the thousand unlikely tokens, and one odd word leads to the
# next.


def next_distribution(scores, temperature=1.0, top_k=0, top_p=1.0):
    """Scores (V,) -> the probabilities (V,) that the next token is drawn from.

    temperature 0 is greedy; top_k 0 and top_p 1 keep all.
    """
    if temperature == 0:
        return F.one_hot(scores.argmax(), len(scores)).to(scores.dtype)
    # The largest score becomes 0 first, else a small temperature could overflow.
    p = ((scores - scores.max()) / temperature).softmax(0)  # (V,)
    # Sort, the likeliest first; `order` tells which token each was.
    p, order = p.sort(descending=True, stable=True)
    if top_k:
        p[top_k:] = 0
        p = p / p.sum()
    # What is the probability of all that are likelier?  Below top_p: keep.
    likelier = p.cumsum(0) - p
    p = torch.where(likelier < top_p, p, 0.0)
    p[0] = max(p[0], 1e-9)  # rounding must not leave nothing
    # Undo the sort: put each probability back to the place of its token.
    return torch.zeros_like(p).scatter(0, order, p / p.sum())


def show_drawing():
    """Temperature, top-k and top-p on four probabilities, every number in between."""
    tokens = ["c", "a", "d", "b"]
    p = torch.tensor([0.15, 0.5, 0.1, 0.25])
    scores = p.log()  # scores of which softmax makes just these

    def show(name, values):
        cells = []
        for token, value in zip(tokens, values.tolist(), strict=True):
            cells.append(f"{token} {value:.3f}")
        print(f"  {name:<20} {'   '.join(cells)}")

    print("\nDrawing: four tokens and their probabilities")
    show("as they are", p)
    show("temperature 0.5", next_distribution(scores, temperature=0.5))
    print(
        "    log p / 0.5 = 2 log p: each p is squared, then all are divided by their sum"
    )
    show("  squared", p**2)
    show("temperature 2", next_distribution(scores, temperature=2.0))
    ordered, order = p.sort(descending=True)
    likelier = ordered.cumsum(0) - ordered
    print("  sorted               ", end="")
    print(
        "   ".join(f"{tokens[i]} {v:.2f}" for i, v in zip(order, ordered, strict=True))
    )
    print("  all likelier ones    ", end="")
    print(
        "   ".join(f"{tokens[i]} {v:.2f}" for i, v in zip(order, likelier, strict=True))
    )
    show("top-k 2", next_distribution(scores, top_k=2))
    print("    a and b are kept: 0.5 / 0.75 and 0.25 / 0.75")
    show("top-p 0.8", next_distribution(scores, top_p=0.8))
    print("    kept are those whose likelier ones sum to less than 0.8: a, b and c")
    print("    (each back in the place of its token: the sort is undone)")


@torch.no_grad()
def generate(model, prompt, length, seed, temperature=1.0, top_k=0, top_p=1.0):
    """`length` new ids after the ids `prompt` (T,)."""
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    device = model.embed.weight.device
    ids = []
    # Read the prompt: the scores of what could follow it, and the state after it.
    scores, state = model(prompt.to(device).unsqueeze(0))  # (1, T, V)
    while len(ids) < length:
        # What comes next is said by the scores at the last place.
        last = scores[0, -1].float().cpu()  # (V,)
        last[0] = -math.inf  # <unk> cannot be written
        p = next_distribution(last, temperature, top_k, top_p)
        # Draw one token.
        token = torch.multinomial(p, 1, generator=generator)  # (1,)
        ids.append(token.item())
        # Read it.  The state knows all that was read before, so nothing is read twice.
        scores, state = model(token.to(device).unsqueeze(0), state)  # (1, 1, V)
    return ids


def prompt_ids(corpus, prompt):
    """Ids (T,) of a prompt; of an empty one, a line end or else the commonest token."""
    ids = corpus.vocabulary.encode(tokenize(prompt, corpus.level))
    if not ids:
        ids = [corpus.vocabulary.ids.get("\n", 1)]
    return torch.tensor(ids)


def write(model, corpus, args, length, **changes):
    """`length` tokens after --prompt, drawn as the flags say; as text."""
    knobs = {"temperature": args.temperature, "top_k": args.top_k, "top_p": args.top_p}
    start = prompt_ids(corpus, args.prompt)
    ids = generate(model, start, length, args.seed, **{**knobs, **changes})
    return join(corpus.vocabulary.decode(ids), corpus.level)


# Then the score, on the part that training never saw.  In one go, the state carried from
# its first token to its last; and once more with the state thrown away every 256 tokens.
# The second is the fair figure beside a model that sees 256 tokens at most, such as
# nanoGPT with its default of 256 (1.4697 nats on this corpus, by its README).


@torch.no_grad()
def score(model, ids, reset=0):
    """Mean nats of ids[1:] (N - 1,), in one stream.  reset: forget every so many."""
    model.eval()
    ids = ids.to(model.embed.weight.device)
    total = 0.0
    state = None
    width = reset or 256
    windows = zip(ids[:-1].split(width), ids[1:].split(width), strict=True)
    for given, wanted in windows:
        if reset:
            state = None
        scores, state = model(given.unsqueeze(0), state)  # (1, T, V)
        losses = F.cross_entropy(scores[0].double(), wanted, reduction="sum")
        total += losses.item()
    return total / (len(ids) - 1)


def units(nats, level):
    """Nats in other units.  Bits for characters only: <unk> makes words easy."""
    found = {"nats": nats}
    if level == "char":
        found["bits_per_char"] = nats / math.log(2)
    found["perplexity"] = math.exp(min(nats, 700))
    return found


# The rival.  A bigram model counts, for each pair of neighbours, how often the second
# follows the first:  p(e after h) = (how often "he" stands in training + 1) / (how often
# h does + V).  The + 1 is for pairs that training lacks: a probability of 0 would cost an
# infinite surprise.


def bigram_nats(train, held_out, tokens):
    """Mean nats of held_out[1:] by a bigram model counted on train: ids (N,) each."""
    # A pair (first, second) as one number: first * V + second.
    pairs = torch.bincount(train[:-1] * tokens + train[1:], minlength=tokens**2)
    counts = pairs.view(tokens, tokens).double()  # row: first, column: second
    p = (counts + 1) / (counts.sum(1, keepdim=True) + tokens)  # each row sums to 1
    return -p[held_out[:-1], held_out[1:]].log().mean().item()


def show_bigram():
    """A bigram model of eleven characters, by counting."""
    text = "hello_hello"
    counts = Counter(pairwise(text))
    after_l = {second: n for (first, second), n in counts.items() if first == "l"}
    tokens = len(set(text))
    total = sum(after_l.values())
    print(f"\nA bigram model of {text}: what follows l?  V = {tokens} characters")
    for second in "loh":
        n = after_l.get(second, 0)
        p = (n + 1) / (total + tokens)
        print(
            f"  l{second}: {n} of {total}   p = ({n} + 1) / ({total} + {tokens}) = {p:.2f}"
        )
    print("Reading it: lh never came, and yet it is not impossible.")


# Longer histories predict better, and are seldom seen: most runs of seven characters of
# the held-out part never stood in training.  So n-gram models mix long and short
# histories.  The best way to mix is by Kneser and Ney (here in the form of Chen and
# Goodman, 1999):
#
#     p(w | h) = (max(c(hw) - D, 0) + lambda(h) p(w | h without its oldest token)) / c(h)
#
# From each count something, D, is taken, and goes to what was never seen: lambda(h) is
# all that was taken after h, and the shorter history says how it is shared out.


class KneserNey:
    """N-grams with interpolated, modified Kneser-Ney smoothing.

    D is taken from counts seen 1, 2 and 3 or more times, at least 0.1.  Below the
    highest order, c counts not how often hw occurs but after how many different tokens:
    "Francisco" is frequent, but only after "San".  Tokens are written as one character
    each, so that an n-gram is a slice of a string.
    """

    def __init__(self, ids, order, tokens):
        self.tokens = tokens
        text = text_of_ids(ids)
        counts = [Counter(text[i : i + order] for i in range(len(text) - order + 1))]
        for _ in range(order - 1):
            # One token shorter: after how many different tokens does each occur?
            counts.append(Counter(gram[1:] for gram in counts[-1]))
        self.levels = [self.prepare(level) for level in reversed(counts)]

    @staticmethod
    def prepare(counts):
        """(counts of n-grams, D for each count 0 ... 3+, c(h), lambda(h))."""
        seen = Counter(counts.values())  # how many n-grams were seen once, twice, ...
        y = seen[1] / (seen[1] + 2 * seen[2]) if seen[1] else 0.5
        cut = [0.0]
        for j in (1, 2, 3):
            best = j - (j + 1) * y * seen[j + 1] / seen[j] if seen[j] else j / 2
            cut.append(max(0.1, best))
        total = Counter()
        taken = Counter()
        for gram, count in counts.items():
            total[gram[:-1]] += count
            taken[gram[:-1]] += cut[min(count, 3)]
        return counts, cut, total, taken

    def probability(self, history, token):
        """p(token | history): two strings, `token` of one character."""
        p = 1 / self.tokens  # below the shortest n-gram: every token alike
        for k, (counts, cut, total, taken) in enumerate(self.levels):
            h = history[len(history) - k :]
            if k > len(history) or not total[h]:
                break
            count = counts[h + token]
            p = (count - cut[min(count, 3)] + taken[h] * p) / total[h]
        return p

    def score(self, ids):
        """Mean nats of ids[1:], each after all that precede it."""
        text = text_of_ids(ids)
        reach = len(self.levels) - 1
        total = 0.0
        for i in range(1, len(text)):
            total -= math.log(self.probability(text[max(0, i - reach) : i], text[i]))
        return total / (len(text) - 1)


def text_of_ids(ids):
    """Ids as a string, one character for each: those with these numbers in Unicode."""
    return "".join(chr(i) for i in ids.tolist())


def baselines(corpus):
    """Nats of n-gram models on the held-out part, by name."""
    train = corpus.ids[0]
    held_out = corpus.ids[1]
    tokens = len(corpus.vocabulary)
    found = {"bigram, by counting": bigram_nats(train, held_out, tokens)}
    orders = (1, 3, 5, 7) if corpus.level == "char" else (1, 2, 3, 4)
    for order in orders:
        found[f"{order}-gram"] = KneserNey(train, order, tokens).score(held_out)
    return found


# Last: is what it writes any good, and is it its own?  No figure tells the first.  But
# some help: do its words exist?  Does it repeat itself?  And what is the longest passage
# that stands in the training text, letter by letter?  The same figures of a piece of
# the real author say what to expect.

# What parsing raises, each for another kind of text that is no Python.
NO_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)


def longest_copy(text, source):
    """The longest passage of `text` that stands, letter by letter, in `source`."""
    best = 0
    where = 0
    for i in range(len(text)):
        # Only a longer passage than the best so far is worth looking for.
        while i + best < len(text) and text[i : i + best + 1] in source:
            best += 1
            where = i
    return text[where : where + best]


def share_parsed(text):
    """Share of the blocks of a Python text that parse; the cut ends are left out."""
    blocks = re.split(r"\n\n+(?=\S)", text)[1:-1]
    good = 0
    for block in blocks:
        with warnings.catch_warnings(action="ignore"), suppress(*NO_PYTHON):
            ast.parse(block)
            good += 1
    return good / max(1, len(blocks))


def quality(text, corpus):
    """How good, how original: figures of one text."""
    known = set(re.findall(r"\w+", corpus.texts[0]))
    words = re.findall(r"\w+", text)
    threes = list(zip(words, words[1:], words[2:], strict=False))
    found = {
        "words in training": sum(word in known for word in words) / max(1, len(words)),
        "distinct 3-word runs": len(set(threes)) / max(1, len(threes)),
        "longest copy": len(longest_copy(text, corpus.texts[0])),
    }
    if corpus.source.name == "code":
        found["blocks that parse"] = share_parsed(text)
    return found


def judge_writing(model, corpus, args):
    """Print a text, and figures of a longer one; returns characters a second."""
    length = 500 if args.quick else 80 * LINE[corpus.level]
    start = time.perf_counter()
    text = write(model, corpus, args, max(length, args.max_length))
    speed = len(text) / (time.perf_counter() - start)
    shown = write(model, corpus, args, args.max_length)
    print(f"\n{corpus.source.label}: written at --temperature {args.temperature:g}")
    print(args.prompt + (" " if corpus.level == "word" else "") + shown)
    human = join(tokenize(corpus.texts[1][: len(text)], corpus.level), corpus.level)
    rows = {"this lesson": quality(text, corpus), "held-out": quality(human, corpus)}
    about = f"{corpus.source.label}: {len(text):,} characters written"
    utils.print_table(about, rows, corner="text")
    print("Reading it: a longest copy (in characters) that is no longer than the real")
    print(
        f"author's is no sign of learning by heart.  {speed:,.0f} characters a second."
    )
    return speed


WAYS = {
    "temperature 1": {"temperature": 1.0},
    "temperature 0.5": {"temperature": 0.5},
    "top-k 5": {"temperature": 1.0, "top_k": 5},
    "top-p 0.8": {"temperature": 1.0, "top_p": 0.8},
    "greedy": {"temperature": 0.0},
}


def show_ways(model, corpus, args):
    """One distribution under each way to draw: a line of text each, and a picture."""
    print("\nThe same model, drawn from in five ways:")
    for name, way in WAYS.items():
        knobs = {"top_k": 0, "top_p": 1.0, **way}
        text = write(model, corpus, args, LINE[corpus.level], **knobs)
        print(f"  {name:<16}{text!r}")
    print("Reading it: from daring to dull; greedy writing soon repeats itself.")
    if args.no_plots:
        return
    ids = prompt_ids(corpus, args.prompt).to(args.device)  # (T,)
    with torch.no_grad():
        scores, _ = model(ids.unsqueeze(0))  # (1, T, V)
    scores = scores[0, -1].float().cpu()  # (V,)
    top = scores.topk(min(14, len(scores))).indices
    names = [repr(token) for token in corpus.vocabulary.decode(top.tolist())]
    figure, panels = utils.pyplot().subplots(
        1, len(WAYS), figsize=(13, 3.8), sharey=True
    )
    for axes, (name, way) in zip(panels, WAYS.items(), strict=True):
        axes.barh(range(len(top)), next_distribution(scores, **way)[top])
        axes.set(title=name, xlabel="probability", xlim=(0, 1), xticks=(0, 0.5, 1))
    panels[0].set_yticks(range(len(top)), names, **utils.PLAIN)
    panels[0].set(ylabel="next token", ylim=(len(top) - 0.4, -0.6))
    after = f"after {args.prompt!r}" if args.prompt else "at a line's start"
    title = f"{corpus.source.label}: next token {after}"
    figure.suptitle(title, y=1.02, **utils.PLAIN)
    utils.save_picture(figure, args, "next_token")


def show_speed(args):
    """Seconds of minGRU's states at once and in a loop, for longer and longer texts."""
    # The best of three: other programs can only make it slower.
    lengths = [16, 64, 256] if args.quick else [16, 64, 256, 1024]
    torch.manual_seed(10)
    seconds = {"in a loop": [], "at once (scan)": []}
    for length in lengths:
        parts = [torch.randn(8, length, 64).sigmoid().log() for _ in range(2)]
        log_keep, log_new = (part.requires_grad_() for part in parts)
        log_start = torch.zeros(8, 64)
        for name, compute in (("in a loop", step_by_step), ("at once (scan)", scan)):
            best = math.inf
            for _ in range(3):
                start = time.perf_counter()
                compute(log_keep, log_new, log_start).sum().backward()
                best = min(best, time.perf_counter() - start)
            seconds[name].append(best)
    rows = {}
    for k, length in enumerate(lengths):
        milliseconds = {name: 1000 * times[k] for name, times in seconds.items()}
        rows[f"T = {length}"] = {n: round(ms, 2) for n, ms in milliseconds.items()}
    title = "minGRU's states [sample: random numbers], forwards and back, milliseconds"
    utils.print_table(title, rows, corner="length")
    print("Reading it: the same numbers.  The loop must wait for each step; at once, a")
    print(
        "processor with many cores, such as a GPU, is kept busy.  What is given up: a"
    )
    print(
        "gate that cannot see the state cannot decide by what is remembered.  What is"
    )
    print(
        "won: texts of many thousand steps.  State space models (S4, Mamba) go on from"
    )
    print("here.")
    axes = ("T, steps", "seconds")
    utils.plot_lines(args, "scan", title, seconds, *axes, x=lengths, log=True)


def report(model, corpus, records, args):
    """The table beside the n-grams, the writing, the answer, and metrics.json."""
    held_out = corpus.ids[1]
    nats = score(model, held_out)
    reset = score(model, held_out, reset=256)
    others = baselines(corpus)
    named = {f"{args.cell} (this lesson)": nats, f"{args.cell}, reset every 256": reset}
    rows = {name: units(x, corpus.level) for name, x in {**named, **others}.items()}
    unit = "characters" if corpus.level == "char" else "words"
    title = f"{corpus.source.label}: held-out part, {len(held_out) - 1:,} {unit}"
    utils.print_table(title, rows)
    print("Reading it: perplexity 4 is as unsure as a four-sided die.")
    speed = judge_writing(model, corpus, args)
    best = min(others, key=others.get)
    print("\nCan a network write?")
    print(
        f"By the score: {nats:.4f} nats, and {others[best]:.4f} for the best counting"
    )
    print(f"model, the {best}, on the same {unit}.")
    if nats < others[best]:
        print(
            "It is less surprised by new text than whoever only counts.  Look at what it"
        )
        print(
            "wrote: its words mostly exist, its lines look like the author's.  But they"
        )
        print(
            "mean nothing to it: it was asked what text looks like, and that it learned."
        )
    else:
        print("So it has not learned enough here: more text, or more epochs.")
    scores = units(nats, corpus.level)
    metrics = {"val_loss": nats, "val_loss_reset256": reset}
    metrics["val_perplexity"] = scores["perplexity"]
    if "bits_per_char" in scores:
        metrics["bits_per_char"] = scores["bits_per_char"]
    metrics["chars_per_second"] = speed
    size = utils.count_parameters(model)
    tokens = len(corpus.ids[0])
    utils.write_metrics(
        args, corpus.source, metrics, others, size, records, tokens, unit
    )


# ====================================================================================
# 5. Command line
# ====================================================================================

# The defaults of each level; a flag that you give wins.
DEFAULTS = {
    "char": {"epochs": 16, "lr": 0.006, "dropout": 0.2, "sequence_length": 64},
    "word": {"epochs": 8, "lr": 0.004, "dropout": 0.5, "sequence_length": 32},
}
# As many weights as two layers of 256 LSTM units have.
HIDDEN_SIZES = {"rnn": 256, "lstm": 256, "gru": 256, "mingru": 616}


def defaults(args):
    """The values of flags that were not given."""
    return {**DEFAULTS[args.level], "hidden_size": HIDDEN_SIZES[args.cell]}


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(parser, ["shakespeare", "code"], "any text file")
    utils.add_training_flags(
        parser, batch_size=32, num_layers=2, weight_decay=0.01, dropout=None
    )
    add = parser.add_argument_group("this lesson").add_argument
    add("--level", choices=list(DEFAULTS), default="char", help="what a token is")
    add("--max-vocab", type=utils.whole(2), default=5000, help="of --level word")
    add("--cell", choices=list(CELLS), default="lstm", help="default lstm")
    add("--sequence-length", type=utils.whole(1, 100_000), help="T, steps of a window")
    add("--temperature", type=utils.real(0, 100), default=0.8, help="0: greedy")
    add("--top-k", type=utils.whole(0), default=0, help="0: all")
    add("--top-p", type=utils.real(0, 1, above=True), default=1.0, help="1: all")
    add("--max-length", type=utils.whole(1, 1_000_000), default=500, help="in tokens")
    add("--prompt", default="", help="what the text begins with")
    return parser


def new_model(source, text, args):
    """(config, feeds) of a new model: how to build it, and what feeds it."""
    tokens = tokenize(split(text)[0], args.level)
    most = args.max_vocab if args.level == "word" else None
    vocabulary = utils.Vocabulary.build([tokens], (utils.UNK,), max_size=most)
    config = {
        "tokens": len(vocabulary),
        "embedding": 128 if args.level == "word" else 64,
        "cell": args.cell,
        "hidden": args.hidden_size,
        "layers": args.num_layers,
        "dropout": args.dropout,
        "tied": args.level == "word",
    }
    feeds = {
        "dataset": source.name,
        "vocabulary": vocabulary.tokens,
        "level": args.level,
    }
    return config, feeds


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__, defaults=defaults)

    # 1. The data: one text, cut into streams.
    source, text = read_corpus(args)
    if args.eval_only:
        model, config, feeds = utils.load(args, NextToken)
        args.level = feeds["level"]
        args.cell = config["cell"]
        print(f"It was trained on {feeds['dataset']}")
    else:
        config, feeds = new_model(source, text, args)
    corpus = load_corpus(source, text, args.level, feeds["vocabulary"], args)
    unknown = (corpus.ids[1] == 0).double().mean().item()
    print(f"{source.label}: {len(corpus.ids[0]):,} tokens to train on,", end=" ")
    print(f"{len(corpus.ids[1]):,} held out")
    print("(and used to choose the best epoch, as is the custom with this corpus);")
    print(f"{len(corpus.vocabulary):,} in the vocabulary; {unknown:.2%} unknown")
    if (prompt_ids(corpus, args.prompt) == 0).any():
        print(f"--prompt holds tokens that training never saw; read as {utils.UNK}")
    show_streams()

    # 2. The model: how it is scored, and a recurrence without a loop.
    show_units()
    show_scan()

    # 3. Training: one window after the other, the state carried, the gradient cut.
    records = []
    if not args.eval_only:
        show_truncated_steps(corpus, args)
        print(f"\nTraining on {source.label}: one line an epoch")
        model, records = train_model(config, corpus, args, feeds)
        panels = {"nats": ["loss", "val_loss"]}
        panels["length of the gradient"] = ["grad_norm", "max_grad_norm"]
        title = f"Training, {source.label}, {args.cell}"
        utils.plot_records(args, "training", title, {args.cell: records}, panels)

    # 4. Writing and judging: how a token is drawn, the rivals, the text, what is next.
    show_drawing()
    show_bigram()
    report(model, corpus, records, args)
    show_ways(model, corpus, args)
    show_speed(args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
