"""10 · Can a network write?

A network that has learned which character comes next can write.  It draws a character
from what it predicts, reads it as if it had stood in the text, predicts again, draws
again, and so on.  All its training is to read: here a million characters of Shakespeare.
Nobody tells it what a word is, or a verse, or a king.

What you will learn
    - what a language model is, and how it writes, one token after the other
    - how to score one: nats, bits, perplexity
    - how one long text becomes batches: streams, a carried state, and why the gradient
      is cut between two batches (truncated back-propagation through time)
    - how the next token is drawn: temperature, top-k, top-p, greedy
    - n-gram models, the rival that a sceptic asks for, from counting pairs upwards
    - how to ask whether a text is good, and whether it is only copied
    - minGRU, a recurrent network without a loop, and where research went from here

You need lessons 04 (softmax, cross-entropy, `fit`), 05 and 06 (LSTM, GRU) and 08
(teacher forcing).

Run it
    python 10_text_generation.py
    python 10_text_generation.py --input my_text.txt
    python 10_text_generation.py --level word
    python 10_text_generation.py --cell mingru
    python 10_text_generation.py --epochs 50

You should see  (shakespeare [real], seed 0; 6 minutes of training on two idle cores,
27 on one thread of a busy machine)
      model                     nats   bits_per_char   perplexity
      lstm (this lesson)      1.4321          2.0661       4.1875
      lstm, reset every 256   1.4638          2.1118       4.3224
      blind guessing          4.1897          6.0444      66.0000
      bigram, + 1             2.4820          3.5807      11.9646
      1-gram                  3.3473          4.8291      28.4261
      2-gram                  2.4835          3.5830      11.9835
      3-gram                  2.0381          2.9404       7.6762
      5-gram                  1.5612          2.2523       4.7644
      7-gram                  1.5165          2.1879       4.5563
    The lower, the better.  Nats: how surprising, on average, was each character that
    really came next (section 2).  "reset every 256": the network forgets every 256
    characters, which costs it 0.032 nats.  Blind guessing: each of the 66 tokens is as
    likely as any other.  All others count, in the training text, what followed the last
    n - 1 characters (section 4).  The network is less surprised than all of them.

    Is 1.43 good?  nanoGPT, a small Transformer (attention alone, lesson 09) with about
    twelve times as many weights, reports 1.4697 on this split; it sees 256 characters at
    most, so "reset every 256" is the fair row beside it.  People who guessed English
    letter by letter came to between 0.6 and 1.3 bits (Shannon, 1951; other texts, and
    27 letters only).

    --level word: perplexity 49.7 a word; that of the 4-gram is 67.9.  Do not compare
    them with those above: a word is several characters.

Try this  (guess first, then run).  The first three need no new training: run once with
--save-model, then add --eval-only
    --temperature 0             why does greedy writing go in circles?
    --temperature 1.5           and what goes wrong here?  Does --top-p 0.9 mend it?
    --prompt "ROMEO:"           does the first word decide who speaks?
These train anew:
    --sequence-length 8         gradients reach 8 steps back, and there are 8 times as
                                many updates: what is lost, what is won?
    --cell rnn                  how much of the gain is the LSTM's memory?  This has a
                                quarter of its weights; with --hidden-size 518 as many
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


class Streams:
    """The ids (N,) as B streams of text side by side, T steps at a time, in order.

    A batch holds `input` (B, T), `target` (B, T), the same one step later, and `first`:
    whether a pass begins here, so that there is no state to carry.  Nothing is ever
    shuffled: the order is what the network is to learn from.
    """

    def __init__(self, ids, streams, steps, device="cpu", random_start=False):
        self.ids = ids.to(device)
        self.steps = steps
        self.random_start = random_start
        usable = len(ids) - 1  # the last token is only a target
        if random_start:
            usable -= steps - 1  # room to begin up to T - 1 tokens later
        self.streams = max(1, min(streams, usable // steps))
        self.width = usable // self.streams  # tokens of one stream

    def __len__(self):
        if self.random_start:
            return self.width // self.steps  # whole windows alone
        return math.ceil(self.width / self.steps)

    def __iter__(self):
        # Each epoch begins at another of the first T tokens.  Else the cuts would always
        # fall at the same places, and an error just after a cut could never teach what
        # was read just before it.
        start = 0
        if self.random_start:
            start = int(torch.randint(self.steps, ()))
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
        carried = f"state carried from batch {k - 1}"
        if batch["first"]:
            carried = "no state yet"
        print(f"  batch {k} ({carried})")
        for row in range(2):
            given = "".join(letters[i] for i in batch["input"][row])
            wanted = "".join(letters[i] for i in batch["target"][row])
            print(f"    stream {row + 1}   input {given}   target {wanted}")
    print("Reading it: each target is the letter that follows its input.  Stream 1")
    print("goes on from abc to def, so its state after c is the state before d.")


# --- From the file to these ids ---------------------------------------------------------


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


def training_streams(corpus, args):
    """The training part as fit reads it."""
    return Streams(
        corpus.ids[0],
        args.batch_size,
        args.sequence_length,
        args.device,
        random_start=True,
    )


def show_text(corpus, args):
    """How large the text is, and its first tokens on their way to the network."""
    train, held_out = corpus.ids
    unknown = (held_out == 0).double().mean().item()
    print(f"{corpus.source.label}: {len(train):,} tokens to train on,", end=" ")
    print(f"{len(held_out):,} held out")
    print("(and used to choose the best epoch, as is the custom with this corpus);")
    print(f"{len(corpus.vocabulary):,} in the vocabulary; {unknown:.2%} unknown")
    if corpus.source.name == "code":
        print("It is Python's own library, as it lies on this machine.")
    ids = train[:9]
    tokens = corpus.vocabulary.decode(ids.tolist())
    print("\nHow the text begins, and what the network is given and asked:")
    print(f"  tokens   {' '.join(repr(token) for token in tokens)}")
    print(f"  ids      {' '.join(str(i) for i in ids.tolist())}")
    print(f"  input    {join(tokens[:-1], corpus.level)!r}")
    print(f"  target   {join(tokens[1:], corpus.level)!r}, the same one token later")
    streams = training_streams(corpus, args)
    print(f"In training: {streams.streams} streams of", end=" ")
    print(f"{streams.width:,} tokens, read {streams.steps} at a time:", end=" ")
    print(f"{len(streams):,} windows an epoch.")


# --- Another text: Python's own library (may be skipped) -------------------------------


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
    """(Source, text) of the data set that the flags name; --quick: its beginning."""
    source = utils.choose_dataset(args, ["shakespeare"], {"code": standard_library()})
    if source.name == "code":
        text = read_standard_library(source.path)
    else:
        text = utils.read_text(source.path)
    return source, utils.capped(args, text, 20_000)


# ====================================================================================
# 2. Model
# ====================================================================================
#
# A language model gives a probability to every token that could come next.  By the chain
# rule (lesson 08) that makes a probability of a whole text:
#
#     p("to be") = p("t") * p("o" after "t") * p(" " after "to") * p("b" after "to ")
#                  * p("e" after "to b")
#
# How good is it?  Take a text that it has not seen, and at each place the probability
# that it gave to the token that really came next.  The mean of -log p over all places
# is its score, the cross-entropy that training lowers (lesson 04).  It has three units:
#
#   nats         the natural logarithm, as it stands
#   bits         the logarithm to base 2: so many yes-or-no questions would have to be
#                answered, on average, to know the next token
#   perplexity   e to the power of the nats: as unsure as if it drew from so many equally
#                likely tokens


def show_units():
    """Five characters: p, -log p, their mean in nats, bits, and as perplexity."""
    chances = {"t": 0.2, "o": 0.5, "_": 0.8, "b": 0.1, "e": 0.5}
    print("\nScoring to_be, with made-up probabilities (_ is a space):")
    product = 1.0
    total = 0.0
    for character, p in chances.items():
        product *= p
        total += -math.log(p)
        print(f"  {character}   p {p:.1f}   -log p {-math.log(p):.3f}")
    nats = total / len(chances)
    print(f"  all five p multiplied: p(to_be) = {product:.3f} = e^-{total:.3f}")
    print(f"  sum {total:.3f}, divided by 5: {nats:.3f} nats a character")
    print(f"  in bits: {nats:.3f} / log 2 = {nats / math.log(2):.3f}")
    print(f"  perplexity: e^{nats:.3f} = {math.exp(nats):.2f}")
    print("Reading it: b alone makes 2.303 of the 5.521.  A score is lost at the few")
    print("places where the model is surprised.  A guess with p = 1 is free, if right.")


# --- The network -------------------------------------------------------------------------
#
#     id --> embedding --> LSTM, two layers --> a score for each of the V tokens
#                             |    ^
#                             +----+  state, carried on from token to token


class NextToken(nn.Module):
    """Embedding, recurrent layers, a score for every token that could come next.

    tied, for words: V x H weights of output would be more than those of the recurrent
    layers.  So the state is squeezed to E numbers and compared with the embedding of
    each word, by the same weights (Press and Wolf, 2017): half the cost, and half as
    much to learn.
    """

    def __init__(self, tokens, embedding, cell, hidden, layers, dropout, tied):
        super().__init__()
        self.embed = nn.Embedding(tokens, embedding)
        # CELLS: nn.RNN, nn.LSTM, nn.GRU, or the MinGRU at the end of section 4.
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
            # The same weights now make the scores: nn.Embedding's own start, numbers
            # around 1, would make those too large.
            nn.init.uniform_(self.embed.weight, -0.1, 0.1)
            self.output.weight = self.embed.weight

    def forward(self, ids, state=None):
        """ids (B, T) and the state before them -> scores (B, T, V), the state after.

        The state is h (L, B, H), of an LSTM (h, c).  None: nothing was read before.
        """
        x = self.embed(ids)  # (B, T, E)
        y, state = self.rnn(x, state)  # (B, T, H)
        return self.output(self.squeeze(self.dropout(y))), state


# --- How it writes -----------------------------------------------------------------------
#
# The network is built and has learnt nothing; it can write all the same.  Writing is a
# loop around it:
#
#     the beginning --> [ network ] --> scores --> probabilities --> draw one token
#                            ^                                             |
#                            +---------------- read it <-------------------+
#
# Draw means: a die with V sides is thrown, and the sides have the probabilities that the
# network gave.  The likeliest token comes most often, but not always.
#
# In training the network always reads the true text: that is teacher forcing, as in
# lesson 08.  Here it reads its own, and its mistakes with it.


@torch.no_grad()
def generate(
    model, prompt, length, seed, temperature=1.0, top_k=0, top_p=1.0, seen=None
):
    """`length` new ids after the ids `prompt` (T,).

    seen: a list that gets the probabilities (V,) of each step, for who wants to look.
    """
    # No dropout while writing.
    model.eval()
    # The die: the same seed throws the same.
    die = torch.Generator().manual_seed(seed)
    device = model.embed.weight.device
    ids = []
    # Read the beginning: a batch of one.
    scores, state = model(prompt.to(device).unsqueeze(0))  # (1, T, V)
    while len(ids) < length:
        # Only the scores at the last place tell what comes next.
        last = scores[0, -1].float().cpu()  # (V,)
        # <unk> stands for tokens that we do not know: it cannot be written.
        last[0] = -math.inf
        # Softmax; section 4 has three knobs that change its result, if they are set.
        p = next_distribution(last, temperature, top_k, top_p)  # (V,)
        if seen is not None:
            seen.append(p)
        # Throw the die.
        token = torch.multinomial(p, 1, generator=die)  # (1,)
        # Write the token down.
        ids.append(token.item())
        # Read it.  The state knows all that was read before: nothing is read twice.
        scores, state = model(token.to(device).unsqueeze(0), state)  # (1, 1, V)
    return ids


def beginning(corpus, args):
    """What a text begins with: --prompt; code, without one, with a function."""
    if not args.prompt and corpus.source.name == "code":
        return "def "
    return args.prompt


def prompt_ids(corpus, prompt):
    """Ids (T,) of a beginning; of an empty one, a line end or else the commonest token."""
    ids = corpus.vocabulary.encode(tokenize(prompt, corpus.level))
    if not ids:
        ids = [corpus.vocabulary.ids.get("\n", 1)]
    return torch.tensor(ids)


def write_ids(model, corpus, args, length, **changes):
    """`length` ids after the beginning, drawn as the flags say, but for `changes`."""
    knobs = {"temperature": args.temperature, "top_k": args.top_k, "top_p": args.top_p}
    start = prompt_ids(corpus, beginning(corpus, args))
    return generate(model, start, length, args.seed, **{**knobs, **changes})


def as_text(corpus, args, ids):
    """Written ids as text, the beginning before them."""
    start = tokenize(beginning(corpus, args), corpus.level)
    return join(start + corpus.vocabulary.decode(ids), corpus.level)


def write(model, corpus, args, length, **changes):
    """Text of `length` tokens: the beginning, and what follows it."""
    return as_text(corpus, args, write_ids(model, corpus, args, length, **changes))


LINE = {"char": 70, "word": 14}  # tokens that fill a line


def show_writing(model, corpus, args, when):
    """Six steps of `generate`: what is read, what is likely next, what is drawn."""
    start = prompt_ids(corpus, beginning(corpus, args))
    seen = []
    ids = generate(model, start, 6, args.seed, seen=seen)
    print(f"\nSix steps of writing, {when} (what may come next, with its probability):")
    read = join(corpus.vocabulary.decode(start.tolist()), corpus.level)
    width = 6 if corpus.level == "char" else 13
    for token, p in zip(ids, seen, strict=True):
        chances = []
        for i in p.topk(min(3, len(p) - 1)).indices.tolist():
            name = repr(corpus.vocabulary.tokens[i])
            chances.append(f"{name:>{width}} {p[i]:.3f}")
        drawn = corpus.vocabulary.tokens[token]
        print(f"  read {read!r:<{width}} likeliest {' '.join(chances)}", end="   ")
        print(f"drawn {drawn!r} {p[token]:.3f}")
        read = drawn
    highest = [p.max().item() for p in seen]
    print(f"  The likeliest token has from {min(highest):.3f} to {max(highest):.3f}.")


def show_untrained(model, corpus, args):
    """What the network writes before it has learnt, and its score: blind guessing."""
    show_writing(model, corpus, args, "before any training")
    print(f"  and a line: {write(model, corpus, args, LINE[corpus.level])!r}")
    tokens = len(corpus.vocabulary)
    nats = score(model, corpus.ids[1][:2000])
    print("Reading it: to this network all tokens are about equally likely, as to one")
    print(f"who guesses blindly: 1 in {tokens:,} is {1 / tokens:.4f}.", end="  ")
    print(f"Blind guessing costs log {tokens:,}")
    print(f"= {math.log(tokens):.2f} nats whatever comes; this network", end=" ")
    print(f"{nats:.2f}.  (So check any new network:")
    print("a first loss far above log V is a mistake.)")


# ====================================================================================
# 3. Training
# ====================================================================================
#
# One step of training reads one window of every stream.
#
#     stream 1   a  b  c  |  d  e  f  |  g  h  i
#     state      ------------->---------->------->      carried on
#     gradient   <-------    <-------    <-------       cut at each edge
#
# Forwards nothing is cut: the state at a window's end starts the next.  If each window
# began from zero, its first tokens would have to be guessed from nothing, and nothing
# older than T tokens could ever be used.
#
# Backwards the gradient stops at the window's edge: truncated back-propagation through
# time.  Why?  Not cut, the gradient of window 2 would run on through the computation of
# window 1, that of window 3 through both, and so on: each step longer than the one
# before.  And it would be wrong: after window 1 the weights were changed, so its
# computation is no longer that of the network as it is now.  `detach()` cuts: the same
# numbers, without the memory of how they were made.
#
# What is lost?  The network is never told directly to keep a thing for longer than T
# steps.  It learns to keep things for up to T.  A state that keeps well for 64 steps
# often keeps well for more, so a longer memory may come for nothing; section 4 measures
# how much of one there is.


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
        # As 32-bit numbers: those of --precision bf16 are too coarse for a loss.
        scores = scores.flatten(0, 1).float()  # (B * T, V)
        target = batch["target"].flatten()  # (B * T,)
        # Not the mean yet: `fit` wants one loss for each token.
        return {"loss": F.cross_entropy(scores, target, reduction="none")}  # (B * T,)

    return measure


# What `fit` makes of this, written out once: it is the loop of lesson 04, and new are
# only the two lines that hand on the state and cut it.


def train_by_hand(model, train, args):
    """One epoch of truncated back-propagation through time, in the open."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.lr, weight_decay=args.weight_decay
    )
    schedule = utils.make_scheduler(optimizer, len(train), args)  # as in lesson 04
    utils.seed_epoch(args.seed, 1)  # as fit does, so that both begin at the same token
    model.train()
    state = None
    for batch in train:
        # Forget the gradients of the window before.
        optimizer.zero_grad()
        # Read on from where the last window stopped.
        scores, state = model(batch["input"], state)  # (B, T, V)
        # How surprising was each next token, on average?
        loss = F.cross_entropy(scores.flatten(0, 1), batch["target"].flatten())
        # Back through the T steps of this window.
        loss.backward()
        # Not too large a step.
        nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        schedule.step()
        # Keep the numbers of the state, and cut them off from how they were made.
        state = detach(state)


def small_model(tokens):
    """A small network for the examples, the same each time."""
    utils.set_seed(10)
    return NextToken(
        tokens,
        embedding=8,
        cell="lstm",
        hidden=16,
        layers=1,
        dropout=0.0,
        tied=False,
    )


def small_text():
    """A small text for the examples, this file's docstring: (its ids, V)."""
    vocabulary = utils.Vocabulary.build([__doc__], (utils.UNK,))
    return torch.tensor(vocabulary.encode(__doc__)), len(vocabulary)


def show_truncated_steps():
    """One epoch in the open and one by utils.fit, from the same start."""
    ids, tokens = small_text()
    train = Streams(ids, streams=8, steps=16, random_start=True)
    # Settings of their own, whatever flags are given: this is a side experiment.
    settings = Namespace(
        seed=0,
        epochs=1,
        lr=0.006,
        weight_decay=0.01,
        clip=1.0,
        accumulate=1,
        optimizer="adam",
        precision="fp32",
        patience=0,
        device="cpu",
        resume=False,
        out_dir="",
    )
    ours = small_model(tokens)
    theirs = small_model(tokens)
    before = score(ours, ids)
    train_by_hand(ours, train, settings)
    utils.fit(theirs, make_measure(), train, train, settings)
    gaps = []
    for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        gaps.append((weight - other).abs().max().item())
    print("\nTraining in the open: a small network reads this lesson's docstring once,")
    print(f"{len(train)} windows, T = {train.steps}.  Its score there:", end=" ")
    print(f"{before:.2f} nats before, {score(ours, ids):.2f} after.")
    print(f"The same by utils.fit: the weights are {max(gaps):.0e} apart.")


def steps_without_detach(retain_graph):
    """Train without cutting the state, and print what comes of it."""
    ids, tokens = small_text()
    model = small_model(tokens)
    optimizer = torch.optim.AdamW(model.parameters())
    state = None
    for number, batch in enumerate(Streams(ids, streams=8, steps=16), start=1):
        scores, state = model(batch["input"], state)
        loss = F.cross_entropy(scores.flatten(0, 1), batch["target"].flatten())
        try:
            loss.backward(retain_graph=retain_graph)
        except RuntimeError as error:
            reason = re.split(r" \(|: ", str(error))[0]  # the rest is long
            print(f"  window {number}: RuntimeError: {reason}")
            return
        optimizer.step()
        print(f"  window {number}: one update")
        if number == 3:
            return


def show_without_detach():
    """What happens when `detach` is forgotten, and when PyTorch's advice is followed."""
    print("\nThe same without detach:")
    steps_without_detach(retain_graph=False)
    print("PyTorch's message goes on to advise retain_graph=True.  With that:")
    steps_without_detach(retain_graph=True)
    print("Reading it: the second backward wants to go on into the first window.  What")
    print("that window computed on its way has been thrown away by its own backward.")
    print("Kept, it is of no use: the weights that made it have changed since then.")
    print("The cure is detach.")


def new_model(config, args):
    """The network from --seed, before any training."""
    utils.set_seed(args.seed)
    return NextToken(**config).to(args.device)


def train_model(model, config, corpus, args, feeds):
    """Train it; it writes a line after some epochs on its way.  Returns the records."""
    train = training_streams(corpus, args)
    # 16 streams for speed: 16 starts from nothing make this val_loss a little too high.
    val = Streams(corpus.ids[1], 16, 256, args.device)

    def write_a_line(record):
        if record["epoch"] in {1, 2, 4, 8, 16, 32, args.epochs}:
            print(f"    {write(model, corpus, args, LINE[corpus.level])!r}")

    print(f"\nTraining on {corpus.source.label}: one line an epoch, and what it writes")
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
    panels = {"nats": ["loss", "val_loss"]}
    panels["length of the gradient"] = ["grad_norm", "max_grad_norm"]
    title = f"Training, {corpus.source.label}, {args.cell}"
    utils.plot_records(args, "training", title, {args.cell: records}, panels)
    if records and not args.no_plots:
        print("  (Look where val_loss stops falling while loss falls on: from there it")
        print("  learns its text by heart.)")
    return records


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# --- Writing: how the next token is drawn ------------------------------------------------
#
# `generate` draws from the probabilities that softmax makes of the scores.  Three knobs
# may change them before:
#
#   temperature   the scores are divided by it.  Below 1, likely tokens become likelier;
#                 at 0, only the likeliest is left (greedy); above 1, all become alike
#   top-k         only the k likeliest may be drawn
#   top-p         only the likeliest may be drawn, as few as reach the probability p
#                 together: many where the network is unsure, few where it is sure
#                 (Holtzman et al., 2020)
#
# They may be combined, and act in this order.
#
# Why not always draw at temperature 1, from what the network says?  Because it gives a
# little too much to the many unlikely tokens.  Sooner or later one of them is drawn.
# Then the network reads an odd text, of a kind that it was never taught, and one odd
# word leads to the next.
#
# Why not always take the likeliest?  Because then nothing random is left.  Once the
# state comes back near to where it was before, the same tokens follow, the state comes
# back again, and each repetition makes the next one more likely: a circle.
#
# Between the two lies a compromise.  No score tells the best; 0.8, the default here, was
# chosen by eye.


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
    # Top-k: nothing for those after the first k; the others share what is free.
    if top_k:
        p[top_k:] = 0
        p = p / p.sum()
    # Top-p: what is the probability of all that are likelier?  Below top_p: keep.
    likelier = p.cumsum(0) - p
    keep = likelier < top_p
    keep[0] = True  # the likeliest stays, even if top_p rounds to 0
    p = torch.where(keep, p, 0.0)
    p = p / p.sum()
    # Undo the sort: put each probability back to the place of its token.
    return torch.zeros_like(p).scatter(0, order, p)


def show_drawing():
    """Temperature, top-k and top-p on four probabilities, every number in between."""
    tokens = ["c", "a", "d", "b"]
    p = torch.tensor([0.15, 0.5, 0.1, 0.25])
    scores = p.log()  # scores of which softmax makes just these

    def show(name, values, names=tokens):
        cells = []
        for token, value in zip(names, values.tolist(), strict=True):
            cells.append(f"{token} {value:.3f}")
        print(f"  {name:<20} {'   '.join(cells)}")

    print("\nDrawing: four tokens and their probabilities")
    show("as they are", p)
    show("temperature 0.5", next_distribution(scores, temperature=0.5))
    print("    log p / 0.5 = 2 log p: each p is squared, then divided by their sum")
    show("  squared", p**2)
    show("temperature 2", next_distribution(scores, temperature=2.0))
    ordered, order = p.sort(descending=True)
    names = [tokens[i] for i in order]
    show("sorted", ordered, names)
    show("all likelier ones", ordered.cumsum(0) - ordered, names)
    show("top-k 2", next_distribution(scores, top_k=2))
    print("    a and b are kept: 0.5 / 0.75 and 0.25 / 0.75")
    show("top-p 0.8", next_distribution(scores, top_p=0.8))
    print("    kept are those whose likelier ones sum to less than 0.8: a, b and c")
    print("    (each back in the place of its token: the sort is undone)")


# The same network, drawn from in five ways, from daring to dull.
WAYS = {
    "temperature 1": {"temperature": 1.0},
    "top-k 5": {"temperature": 1.0, "top_k": 5},
    "top-p 0.8": {"temperature": 1.0, "top_p": 0.8},
    "temperature 0.5": {"temperature": 0.5},
    "greedy": {"temperature": 0.0},
}


def circle_of(text):
    """The shortest piece that stands twice in a row at the end of a text, or ""."""
    for length in range(1, len(text) // 2 + 1):
        if text[-length:] == text[-2 * length : -length]:
            return text[-length:]
    return ""


def show_ways(model, corpus, args):
    """A line of text in each way to draw, and the probabilities as a picture."""
    print("\nThe same network, drawn from in five ways, roughly from daring to dull:")
    for name, way in WAYS.items():
        knobs = {"top_k": 0, "top_p": 1.0, **way}
        # Greedy writing is given more room, to see whether it comes round.
        lines = 3 if name == "greedy" else 1
        text = write(model, corpus, args, lines * LINE[corpus.level], **knobs)
        print(f"  {name:<16}{text!r}")
    circle = circle_of(text)
    print("Reading it: the greedy line", end=" ")
    if circle:
        print(f"goes in circles; each round is {circle!r}")
    else:
        print("has not ended in an exact circle, in this many tokens.")
    if not args.no_plots:
        draw_ways(model, corpus, args)


def draw_ways(model, corpus, args):
    """The picture: one distribution under each way to draw."""
    begin = beginning(corpus, args)
    ids = prompt_ids(corpus, begin).to(args.device)  # (T,)
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
    after = f"after {begin!r}" if begin else "at a line's start"
    title = f"{corpus.source.label}: next token {after}"
    figure.suptitle(title, y=1.02, **utils.PLAIN)
    utils.save_picture(figure, args, "next_token")
    print("  (Look from panel to panel: which tokens lose everything, who gets it?)")


# --- The score ---------------------------------------------------------------------------
#
# On the part that training never saw, in one go: the state is carried from its first
# token to its last.  And once more with the state thrown away every 256 tokens.  That is
# the fair figure beside a model that can see 256 tokens at most, as many Transformers of
# this size do.


@torch.no_grad()
def losses_of(model, ids, reset=0):
    """-log p of each of ids[1:], in one stream: (N - 1,).  reset: forget every so many."""
    model.eval()
    ids = ids.to(model.embed.weight.device)
    losses = []
    state = None
    width = reset or 256  # if nothing is forgotten, 256 only keeps the memory small
    windows = zip(ids[:-1].split(width), ids[1:].split(width), strict=True)
    for given, wanted in windows:
        if reset:
            state = None
        scores, state = model(given.unsqueeze(0), state)  # (1, T, V)
        # As 64-bit numbers: a hundred thousand of them will be added.
        losses.append(F.cross_entropy(scores[0].double(), wanted, reduction="none"))
    return torch.cat(losses).cpu()


def score(model, ids, reset=0):
    """Mean nats of ids[1:]."""
    return losses_of(model, ids, reset).mean().item()


def units(nats, level):
    """Nats in other units.  Bits per character only where a token is a character."""
    found = {"nats": nats}
    if level == "char":
        found["bits_per_char"] = nats / math.log(2)
    found["perplexity"] = math.exp(min(nats, 700))  # e^710 is no number any more
    return found


# What does forgetting cost, and where?  Take the tokens by their place after a reset.
# The first ones are a cold start: the network does not know where in the text it is.
# Places beyond T tell of memory: there, both have read more than T tokens, and one has
# read all that came before as well.


def show_memory(carried, reset, args):
    """carried, reset (N - 1,): -log p of each token, by its place after a reset."""
    place = torch.arange(len(carried)) % 256 + 1
    rows = {}
    for first, last in ((1, 4), (5, 16), (17, 64), (65, 256)):
        here = (place >= first) & (place <= last)
        if here.any():
            row = {"reset": reset[here].mean().item()}
            row["carried"] = carried[here].mean().item()
            row["saved"] = row["reset"] - row["carried"]
            rows[f"{first} to {last}"] = row
    utils.print_table("Nats by place after a reset:", rows, corner="place")
    late = place > args.sequence_length
    if args.eval_only or not late.any():
        return
    steps = args.sequence_length
    saved = (reset - carried)[late].mean().item()
    print(f"Reading it: beyond place {steps}, carrying saves {saved:.4f} nats.")
    if saved > 0.0005:
        print(f"What is saved there was read more than {steps} tokens before, farther")
        print("back than any gradient reached in training: nobody asked for it.")
    else:
        print(f"So nothing that it read more than {steps} tokens before helps it yet.")


# --- The rivals: counting ----------------------------------------------------------------
#
# A bigram model counts, for each pair of neighbours, how often the second follows the
# first:
#
#     p("e" after "h") = (how often "he" stands in training + 1) / (how often "h" does + V)
#
# The + 1 is for pairs that training lacks: a probability of 0 would cost an infinite
# surprise.


def bigram_nats(train, held_out, tokens):
    """Mean nats of held_out[1:] by a bigram model counted on train: ids (N,) each."""
    # A pair (first, second) as one number: first * V + second.
    pairs = torch.bincount(train[:-1] * tokens + train[1:], minlength=tokens**2)
    counts = pairs.view(tokens, tokens).double()  # row: first, column: second
    p = (counts + 1) / (counts.sum(1, keepdim=True) + tokens)  # each row sums to 1
    return -p[held_out[:-1], held_out[1:]].log().mean().item()


TOY = "hello_hello"


def show_bigram():
    """A bigram model of eleven characters, by counting."""
    counts = Counter(pairwise(TOY))
    after_l = {second: n for (first, second), n in counts.items() if first == "l"}
    tokens = len(set(TOY))
    total = sum(after_l.values())
    print(f"\nA bigram model of {TOY}: what follows l?  V = {tokens} characters")
    for second in "lohe_":
        n = after_l.get(second, 0)
        p = (n + 1) / (total + tokens)
        sum_of = f"({n} + 1) / ({total} + {tokens})"
        print(f"  l{second}: {n} of {total}   p = {sum_of} = {p:.2f}")
    print("Reading it: lh never came, and yet it is not impossible.")


# An n-gram model does the same with longer histories: the last n - 1 tokens.  n is its
# order; a bigram has order 2.  A longer history predicts better, but it has more rarely
# been seen: in Shakespeare's held-out part, 0.2 % of the pairs never stood in training,
# but 35 % of the runs of seven characters.  Adding 1 everywhere then gives nearly all to
# what never came.  The remedy is Kneser and Ney's (1995; here in the form of Chen and
# Goodman, 1999), in three thoughts:
#
#   1. Take a discount D from each count.  What came twice came by luck, in part.
#   2. Share out what was taken among all tokens, by the probability that the next
#      shorter history gives them.  Below the shortest, each of the V has 1 / V.
#   3. In a shorter history, count kinds: not how often a token came, but after how many
#      different tokens.  "Francisco" may come often, but only after "San".  Whoever asks
#      the shorter history has not just read "San".
#
#     p(token | history) = (c - D + taken * p(token | shorter history)) / total
#
#     c      how often the token followed the history (never: c - D becomes 0)
#     total  how often anything followed the history
#     taken  all that was taken after it: one D for each different token that followed
#
# Other books divide taken by total first, and call that lambda.
#
# Characters are counted up to order 7.  More gain nothing: on Shakespeare, order 7 has
# 1.5165 nats, order 8 1.5192, order 9 1.5221.


def show_kneser_ney():
    """What follows l in hello_hello, with D = 0.5, every number in between."""
    letters = sorted(set(TOY))
    discount = 0.5
    print(f"\nKneser and Ney on {TOY}: what follows l?  Order 2, D = {discount}")

    # 1. The shorter history, of no token: kinds instead of counts.
    before = {letter: set() for letter in letters}
    for first, second in pairwise(TOY):
        before[second].add(first)
    kinds = sum(len(firsts) for firsts in before.values())
    taken = discount * len(letters)
    shorter = {}
    print(f"  without history: {kinds} kinds of pairs, taken {taken}, shared evenly")
    for letter in letters:
        n = len(before[letter])
        shorter[letter] = (n - discount + taken / len(letters)) / kinds
        firsts = " ".join(sorted(before[letter]))
        told = f"({n} - {discount} + {taken} / {len(letters)}) / {kinds}"
        print(f"    {letter} after {firsts:<4} p = {told} = {shorter[letter]:.3f}")

    # 2. After l: counts, and what is taken goes by those p.
    counts = Counter(second for first, second in pairwise(TOY) if first == "l")
    total = sum(counts.values())
    taken = discount * len(counts)
    ids = torch.tensor([letters.index(letter) for letter in TOY])
    model = KneserNey(
        ids, 2, len(letters), discounts=[0.0, discount, discount, discount]
    )
    print(f"  after l: {total} in all, taken {taken}")
    gap = 0.0
    for letter in letters:
        kept = max(counts[letter] - discount, 0.0)
        p = (kept + taken * shorter[letter]) / total
        told = f"({kept} + {taken} * {shorter[letter]:.3f}) / {total}"
        print(f"    l{letter}: c = {counts[letter]}   p = {told} = {p:.3f}")
        by_class = model.probability(
            chr(letters.index("l")), chr(letters.index(letter))
        )
        gap = max(gap, abs(p - by_class))
    print(f"  the class KneserNey, used below, says the same: {gap:.0e} apart")
    print("Reading it: h, e and _ never followed l; theirs was taken from ll and lo.")


class Level(NamedTuple):
    """What is counted for the histories of one length.  The names are those above."""

    counts: Counter  # c, of history + token, a string
    discounts: list  # D, for c = 0, 1, 2, and 3 or more
    total: Counter  # of each history
    taken: Counter  # of each history


class KneserNey:
    """N-grams, smoothed as shown.  Skip it at first reading: there is no network in it.

    Tokens are written as one character each, so that an n-gram is a slice of a string.
    """

    def __init__(self, ids, order, tokens, discounts=None):
        self.tokens = tokens
        text = text_of_ids(ids)
        counts = [Counter(text[i : i + order] for i in range(len(text) - order + 1))]
        for _ in range(order - 1):
            # One token shorter.  A Counter, gone through, gives each n-gram once, however
            # often it came: so this counts the kinds of token before what is left.
            counts.append(Counter(gram[1:] for gram in counts[-1]))
        self.levels = []  # the shortest history first
        for level in reversed(counts):
            self.levels.append(self.prepare(level, discounts or estimated(level)))

    @staticmethod
    def prepare(counts, discounts):
        """The Level of these counts."""
        total = Counter()
        taken = Counter()
        for gram, count in counts.items():
            history = gram[:-1]
            total[history] += count
            taken[history] += discounts[min(count, 3)]
        return Level(counts, discounts, total, taken)

    def probability(self, history, token):
        """p(token | history): two strings, `token` of one character."""
        p = 1 / self.tokens  # below the shortest history: every token alike
        for k, level in enumerate(self.levels):
            recent = history[len(history) - k :]  # the last k
            if k > len(history) or not level.total[recent]:
                break  # never seen: the shorter history has the last word
            count = level.counts[recent + token]
            kept = count - level.discounts[min(count, 3)]
            p = (kept + level.taken[recent] * p) / level.total[recent]
        return p

    def losses(self, ids):
        """-log p of each of ids[1:], each after all that precede it: (N - 1,)."""
        text = text_of_ids(ids)
        reach = len(self.levels) - 1
        found = []
        for i in range(1, len(text)):
            p = self.probability(text[max(0, i - reach) : i], text[i])
            found.append(-math.log(p))
        return torch.tensor(found, dtype=torch.double)


def estimated(counts):
    """The discounts of Chen and Goodman, at least 0.1; take the formulas as given.

    They come from how many n-grams were seen once, twice, three and four times.
    """
    seen = Counter(counts.values())
    ratio = seen[1] / (seen[1] + 2 * seen[2]) if seen[1] else 0.5
    discounts = [0.0]  # of a count of 0 nothing can be taken
    for j in (1, 2, 3):
        best = j - (j + 1) * ratio * seen[j + 1] / seen[j] if seen[j] else j / 2
        discounts.append(max(0.1, best))
    return discounts


def text_of_ids(ids):
    """Ids as a string, one character for each: those with these numbers in Unicode."""
    return "".join(chr(i) for i in ids.tolist())


ORDERS = {"char": (1, 2, 3, 5, 7), "word": (1, 2, 3, 4)}


def show_scores(model, corpus, args):
    """Our score beside the rivals': a table.

    Returns our losses (N - 1,), those of the n-grams by name, and all nats by name.
    """
    train, held_out = corpus.ids
    ours = losses_of(model, held_out)
    reset = losses_of(model, held_out, reset=256)
    tokens = len(corpus.vocabulary)
    nats = {
        f"{args.cell} (this lesson)": ours.mean().item(),
        f"{args.cell}, reset every 256": reset.mean().item(),
        "blind guessing": math.log(tokens),
        "bigram, + 1": bigram_nats(train, held_out, tokens),
    }
    counted = {}
    for order in ORDERS[corpus.level]:
        counted[f"{order}-gram"] = KneserNey(train, order, tokens).losses(held_out)
        nats[f"{order}-gram"] = counted[f"{order}-gram"].mean().item()
    unit = "characters" if corpus.level == "char" else "words"
    title = f"{corpus.source.label}: held-out part, {len(ours):,} {unit}"
    rows = {name: units(value, corpus.level) for name, value in nats.items()}
    utils.print_table(title, rows)
    print("The n-grams are Kneser and Ney's; + 1 is the bigram as counted above.")
    order = ORDERS[corpus.level][-1]
    share = unseen_share(train, held_out, order)
    print("Reading it: perplexity 4 is as unsure as a four-sided die.", end="  ")
    print(f"{share:.0%} of the places")
    print(f"end a run of {order} {unit} that never stood in training: there the")
    print(f"{order}-gram falls back on shorter ones.")
    whole = corpus.source.name == "shakespeare" and not args.quick
    if whole and corpus.level == "char":
        print("For comparison: nanoGPT, a small Transformer that forgets after 256")
        print("characters, reports 1.4697 on this split of Shakespeare.")
    if corpus.level == "word":
        print("These are figures a word, not to be compared with those a character: a")
        print("word is several, and rare words count as <unk>, easily guessed.")
    show_memory(ours, reset, args)
    return ours, counted, nats


def unseen_share(train, held_out, order):
    """Share of the runs of `order` tokens of held_out, by place, that train lacks."""
    known_text = text_of_ids(train)
    text = text_of_ids(held_out)
    known = {known_text[i : i + order] for i in range(len(known_text) - order + 1)}
    runs = [text[i : i + order] for i in range(len(text) - order + 1)]
    return sum(run not in known for run in runs) / max(1, len(runs))


# --- Is the text good, and is it its own? --------------------------------------------------
#
# No figure tells whether a text is good.  But some help: do its words exist?  Does it
# repeat itself?  And what is the longest passage that stands in the training text,
# letter by letter?  The same figures of a piece of the real author say what to expect.

# What parsing raises, each for another kind of text that is no Python.
NO_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)


def one_space(text):
    """White space of any length as one space, so that no run of blanks is a passage."""
    return re.sub(r"\s+", " ", text)


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


def parsed_blocks(text):
    """(How many blocks of a Python text parse, how many there are) without the cut ends.

    A block ends at a blank line after which something stands at the margin.
    """
    blocks = re.split(r"\n\n+(?=\S)", text)[1:-1]
    good = 0
    for block in blocks:
        with warnings.catch_warnings(action="ignore"), suppress(*NO_PYTHON):
            ast.parse(block)
            good += 1
    return good, len(blocks)


def quality(text, corpus):
    """How good, how original: figures of one text, and its longest copied passage."""
    known = set(re.findall(r"\w+", corpus.texts[0]))
    words = re.findall(r"\w+", text)
    threes = list(zip(words, words[1:], words[2:], strict=False))
    copy = longest_copy(one_space(text), one_space(corpus.texts[0]))
    found = {
        "words in training": sum(word in known for word in words) / max(1, len(words)),
        "distinct 3-word runs": len(set(threes)) / max(1, len(threes)),
        "longest copy": len(copy),
    }
    if corpus.source.name == "code":
        good, number = parsed_blocks(text)
        found["blocks that parse"] = f"{good} of {number}"
    return found, copy


def judge_writing(model, corpus, args):
    """Print a text, and figures of a longer one: (ours, the author's, characters/s)."""
    length = 500 if args.quick else 80 * LINE[corpus.level]
    start = time.perf_counter()
    ids = write_ids(model, corpus, args, max(length, args.max_length))
    seconds = time.perf_counter() - start
    text = join(corpus.vocabulary.decode(ids), corpus.level)
    print(f"\n{corpus.source.label}: written at --temperature {args.temperature:g}")
    print(as_text(corpus, args, ids[: args.max_length]))

    # A piece of the author's, as long, that training did not see; for words, without
    # its spaces and put together again, as ours is.
    human = join(tokenize(corpus.texts[1][: len(text)], corpus.level), corpus.level)
    ours, our_copy = quality(text, corpus)
    authors, authors_copy = quality(human, corpus)
    about = f"{corpus.source.label}: {len(text):,} characters written"
    utils.print_table(about, {"this lesson": ours, "held-out": authors}, corner="text")
    print("The longest passages that stand in the training text, letter by letter:")
    print(f"  this lesson  {our_copy[:70]!r}")
    print(f"  held-out     {authors_copy[:70]!r}")
    print("Reading it: held-out is the author's own text.  The nearer to its figures,")
    print("the better: gibberish hardly says three words twice, a circle always does.")
    if len(our_copy) <= len(authors_copy):
        print("The longest copy is no longer than the author's own: no sign that it")
        print("learned by heart.")
    else:
        print("The longest copy is longer than the author's own: look at it.  A set")
        print("phrase may be so long; a whole sentence would be learnt by heart.")
    if corpus.level == "word":
        print("All its words exist: it can write no others.")
    if corpus.source.name == "code":
        print("Real code does not parse everywhere either: a blank line inside a long")
        print("string, or before an else, cuts a block in two.")
    speed = len(text) / seconds
    print(f"It was written at {speed:,.0f} characters a second.")
    return ours, authors, speed


# --- After this lesson: a recurrent network without a loop -------------------------------
#
# The network has learned to write, and the story could end here.  But one thing about
# recurrent networks has been in the way since lesson 01: the loop.  LSTM and GRU have to
# go through a text step by step, since the gates of step t look at the state of step
# t - 1, which has to be there first.  Feng et al. (2024) asked what happens if the gates
# look at the input alone.  Of the GRU of lesson 06 remains
#
#     renew_t     = sigmoid(W_r x_t)     how much to renew (1 - z_t of lesson 06)
#     candidate_t = g(W_c x_t)           what to put there
#     h_t = (1 - renew_t) * h_(t-1) + renew_t * candidate_t
#
# g(x) is x + 0.5 above 0 and sigmoid(x) below; it is always above 0, so it has a
# logarithm, which will be of use.  None of the first two lines needs a state, so they
# can be computed for all t at once.  The third remains.  With keep_t = 1 - renew_t and
# new_t = renew_t * candidate_t it is a sum in which old parts fade:
#
#     h_1 = keep_1 h_0 + new_1
#     h_2 = keep_2 keep_1 h_0 + keep_2 new_1 + new_2            and so on.
#
# Divide each by the product of all keeps so far, K_t = keep_1 * ... * keep_t, and the
# fading is gone:
#
#     h_t / K_t = h_0 + new_1 / K_1 + ... + new_t / K_t
#
# That is a running sum.  It looks like a loop too, but it can be had in few rounds, in
# each of which all places work at once:
#
#     numbers                                          1   2   3   4
#     add to each its left neighbour                   1   3   5   7
#     add to each what stands two places to the left   1   3   6  10
#
# Two rounds instead of three steps; for 1,024 numbers, ten rounds.  This is called a
# scan.  K_t soon becomes too small for a computer's numbers, so all is done with
# logarithms: products become sums, and torch.logcumsumexp(x) is log(cumsum(exp(x))),
# computed without ever leaving the logarithms.


def scan(log_keep, log_new, log_start):
    """All states h_t = keep_t h_(t-1) + new_t at once: (B, T, H).

    log_keep, log_new (B, T, H) and log_start (B, H): logarithms of keep, new and h_0.
    """
    # log K_t: a product is a sum of logarithms.
    log_products = log_keep.cumsum(dim=1)  # (B, T, H)
    # The logarithms of h_0 and of every new_t / K_t.
    parts = torch.cat([log_start.unsqueeze(1), log_new - log_products], dim=1)
    # The running sum of what they are the logarithms of, h_0 alone left out.
    log_sums = torch.logcumsumexp(parts, dim=1)[:, 1:]  # (B, T, H)
    # Times K_t again, and out of the logarithms.
    return (log_products + log_sums).exp()


def step_by_step(log_keep, log_new, log_start):
    """The same in a loop, as it is defined."""
    h = log_start.exp()  # (B, H)
    states = []
    # unbind cuts (B, T, H) into its T steps (B, H).
    steps = zip(log_keep.exp().unbind(1), log_new.exp().unbind(1), strict=True)
    for keep, new in steps:
        h = keep * h + new
        states.append(h)
    return torch.stack(states, dim=1)  # (B, T, H)


def log_g(x):
    """log g(x), where g(x) = x + 0.5 above 0 and sigmoid(x) below."""
    return torch.where(x >= 0, (x.relu() + 0.5).log(), F.logsigmoid(x))


class MinGRU(nn.Module):
    """Layers of minGRU; called like nn.GRU (batch_first is only there for that)."""

    def __init__(self, size, hidden, layers=1, batch_first=True, dropout=0.0):
        super().__init__()
        self.hidden_size = hidden
        sizes = [size] + [hidden] * (layers - 1)
        # W_r and W_c of a layer in one matrix.
        self.gates = nn.ModuleList(nn.Linear(n, 2 * hidden) for n in sizes)
        self.dropout = nn.Dropout(dropout)
        self.all_states = scan  # or step_by_step

    def forward(self, x, state=None):
        """x (B, T, E), state (L, B, H) -> the last layer's states (B, T, H), new state."""
        if state is None:  # g(0) = 0.5: above 0, so that it has a logarithm
            state = x.new_full((len(self.gates), len(x), self.hidden_size), 0.5)
        last_states = []
        for layer, gate in enumerate(self.gates):
            if layer > 0:
                x = self.dropout(x)
            renew, candidate = gate(x).chunk(
                2, dim=-1
            )  # (B, T, H) each, before sigmoid, g
            log_keep = F.logsigmoid(-renew)  # 1 - sigmoid(a) = sigmoid(-a)
            log_new = F.logsigmoid(renew) + log_g(candidate)
            # .float(): sums over many steps are too much for --precision bf16.
            log_start = state[layer].float().log()
            x = self.all_states(log_keep.float(), log_new.float(), log_start)
            last_states.append(x[:, -1])
        return x, torch.stack(last_states)


CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU, "mingru": MinGRU}


def show_scan():
    """The scan on three steps by hand, and its distance from the loop."""
    # In a loop as it is defined, and by the running sum of new / K, times K.
    keep = [0.5, 0.8, 0.5]
    new = [1.0, 0.2, 0.6]
    h = 2.0
    product = 1.0
    total = h
    print("\nAn outlook: minGRU, a recurrent network without a loop.")
    print("Three steps, h_0 = 2:")
    for t in range(3):
        h = keep[t] * h + new[t]
        product *= keep[t]
        total += new[t] / product
        print(f"  step {t + 1}: keep {keep[t]}, new {new[t]}", end="   ")
        print(f"loop h = {h:.2f}", end="   ")
        print(f"K = {product:.2f}, running sum {total:.2f},", end=" ")
        print(f"K * sum = {product * total:.2f}")
    torch.manual_seed(10)
    log_keep = F.logsigmoid(torch.randn(4, 64, 16))
    log_new = F.logsigmoid(torch.randn(4, 64, 16))
    log_start = torch.randn(4, 16)
    at_once = scan(log_keep, log_new, log_start)
    one_by_one = step_by_step(log_keep, log_new, log_start)
    gap = (at_once - one_by_one).abs().max()
    print(f"  64 steps of random numbers, at once and in a loop: {gap:.0e} apart")


# Does it pay?  What a scan saves is waiting, not work: it computes more than the loop,
# logarithms and powers besides.  So it pays where many places can be worked at at once,
# as on a GPU.  And nn.GRU is a third in the comparison.  Its loop is compiled, but its
# gates look at the state, so each of its steps needs a product with a matrix, W_hh.


def seconds_of(layer, x):
    """The shortest of five passes, forwards and back: other programs only slow it."""
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        states, _ = layer(x)
        states.sum().backward()
        if x.is_cuda:
            torch.cuda.synchronize()  # a GPU is only told what to do: wait for it
        best = min(best, time.perf_counter() - start)
    return best


def show_speed(args):
    """Seconds of one layer at once, in a loop, and of nn.GRU, for longer texts."""
    lengths = [16, 64, 256] if args.quick else [16, 64, 256, 1024]
    torch.manual_seed(10)
    in_a_loop = MinGRU(64, 64)
    in_a_loop.all_states = step_by_step
    layers = {
        "minGRU, Python loop": in_a_loop.to(args.device),
        "minGRU, scan": MinGRU(64, 64).to(args.device),
        "nn.GRU": nn.GRU(64, 64, batch_first=True).to(args.device),
    }
    seconds = {name: [] for name in layers}
    rows = {}
    for length in lengths:
        x = torch.randn(8, length, 64).to(args.device)  # (B, T, E)
        row = {}
        for name, layer in layers.items():
            seconds[name].append(seconds_of(layer, x))
            row[name] = f"{1000 * seconds[name][-1]:.2f}"
        rows[f"T = {length}"] = row
    title = "One layer of 64 units [sample: random numbers], forwards and back,"
    title += f" milliseconds, {args.device}"
    utils.print_table(title, rows, corner="length")
    loop, at_once, gru = (times[-1] for times in seconds.values())
    print(f"Reading it, at T = {lengths[-1]}: minGRU in its Python loop has", end=" ")
    print(f"{gru / loop:.1f} times the")
    print(f"speed of nn.GRU, and by the scan {loop / at_once:.1f} times the loop's.")
    if at_once < loop:
        print("Not to wait pays here.")
    else:
        print("Not to wait does not pay on this device: it works at too few places at")
        print("once.  Feng et al. report 175 times a GRU's speed on a GPU, at T = 512.")
    print("What is given up: a gate that cannot see the state cannot decide by what is")
    print("remembered.")
    axes = ("T, steps", "seconds")
    utils.plot_lines(args, "scan", title, seconds, *axes, x=lengths, log=True)
    if not args.no_plots:
        print("  (Look at the distances: on this axis, equal ones are equal ratios.)")


# --- Where research went ------------------------------------------------------------------
#
# Four roads lead on from here.
#
#   Transformers (Vaswani et al., 2017) drop the state.  Attention, lesson 09, looks at all
#   earlier tokens at once, so training has no loop.  The price comes with writing: each new
#   token looks back at all the others, so it gets dearer with the length of the text, and
#   the text has to be kept.  A recurrent network keeps one state of a fixed size.
#
#   State space models (S4, 2021; Mamba, 2023) keep the state and drop the loop, by scans of
#   this kind.  minGRU (2024) came after them: it asks how little is enough.
#
#   Pieces of words.  Characters make texts long; words make vocabularies large, and a word
#   that is not among them cannot be written.  Large models read and write the pieces that
#   byte-pair encoding makes (lesson 02).
#
#   Size.  A large language model is trained on the task of this lesson, the next token, and
#   by this score; it writes by the loop of this lesson, with temperature and top-p.  It
#   has read very much more.  After that it is tuned further, to answer what it is asked.


# --- The answer ----------------------------------------------------------------------------


def stretches_won(ours, theirs, length=1000):
    """(In how many stretches of the text ours are the lower losses, of how many)."""
    gains = [part.mean() > 0 for part in (theirs - ours).split(length)]
    return int(sum(gains)), len(gains)


def answer(ours, counted, written, authors, corpus):
    """Can a network write?  By the score, and by the text."""
    unit = "characters" if corpus.level == "char" else "words"
    best = min(counted, key=lambda name: counted[name].mean())
    nats = ours.mean().item()
    theirs = counted[best].mean().item()
    won, number = stretches_won(ours, counted[best])
    print("\nCan a network write?")
    print(f"By the score: {nats:.4f} nats; the best that counting had here,", end=" ")
    print(f"the {best}, has {theirs:.4f}.")
    print(f"In {won:,} of {number:,} stretches of 1,000 {unit}", end=" ")
    print("the network was the less surprised.")
    if corpus.level == "char":
        share = written["words in training"]
        theirs_share = authors["words in training"]
        print(f"By the text: {share:.0%} of its words stand in the training", end=" ")
        print(f"text (the author's: {theirs_share:.0%}).")
    if nats < theirs:
        print("So it knows more of how such a text looks than whoever only counts.  It")
        print("means nothing by it: it was asked for the next token, and never for")
        print("something to say.")
    else:
        print("So it has not learned enough here: more text, or more epochs.")


def save_metrics(model, corpus, records, nats, speed, args):
    """Write metrics.json.  nats: by name, our two scores first."""
    rivals = dict(nats)
    ours = rivals.pop(f"{args.cell} (this lesson)")
    metrics = {"val_loss": ours}
    metrics["val_loss_reset256"] = rivals.pop(f"{args.cell}, reset every 256")
    scores = units(ours, corpus.level)
    metrics["val_perplexity"] = scores["perplexity"]
    if "bits_per_char" in scores:
        metrics["bits_per_char"] = scores["bits_per_char"]
    metrics["chars_per_second"] = speed
    size = utils.count_parameters(model)
    unit = "characters" if corpus.level == "char" else "words"
    utils.write_metrics(
        args, corpus.source, metrics, rivals, size, records, len(corpus.ids[0]), unit
    )


# ====================================================================================
# 5. Command line
# ====================================================================================

# The defaults of each level; a flag that you give wins.
DEFAULTS = {
    "char": {"epochs": 16, "lr": 0.006, "dropout": 0.2, "sequence_length": 64},
    "word": {"epochs": 8, "lr": 0.004, "dropout": 0.5, "sequence_length": 32},
}
# mingru has as many weights as lstm; rnn and gru have the same H instead, so a quarter
# and three quarters of the weights.
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


def plan_of_model(source, text, args):
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
        config, feeds = plan_of_model(source, text, args)
        model = new_model(config, args)
    corpus = load_corpus(source, text, args.level, feeds["vocabulary"], args)
    show_text(corpus, args)
    if (prompt_ids(corpus, args.prompt) == 0).any():
        print(f"--prompt holds tokens that training never saw; read as {utils.UNK}")
    show_streams()

    # 2. The model: how it is scored, and how it writes before it has learnt anything.
    show_units()
    if not args.eval_only:
        show_untrained(model, corpus, args)

    # 3. Training: one window after the other, the state carried, the gradient cut.
    records = []
    if not args.eval_only:
        show_truncated_steps()
        show_without_detach()
        records = train_model(model, config, corpus, args, feeds)

    # 4. Writing: the same six steps again, and how a token may be drawn.
    show_writing(model, corpus, args, "after training")
    print("Reading it: where one token has nearly all, the network is sure; where the")
    print("likeliest has little, the die decides, and what it decides is read on.")
    show_drawing()
    show_ways(model, corpus, args)

    # Judging: the rivals that count, the score, and the text itself.
    show_bigram()
    show_kneser_ney()
    ours, counted, nats = show_scores(model, corpus, args)
    written, authors, speed = judge_writing(model, corpus, args)
    save_metrics(model, corpus, records, nats, speed, args)

    # After this lesson: a recurrent network without a loop.  And the answer.
    show_scan()
    show_speed(args)
    answer(ours, counted, written, authors, corpus)


if __name__ == "__main__":
    sys.exit(utils.run(main))
