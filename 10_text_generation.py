"""10 · Can a network write?

A network that has learned which character comes next can write.  It draws a character
from what it predicts, reads it as if it had stood in the text, predicts again, draws
again, and so on.  All its training is to read: here a million characters of Shakespeare.
Nobody tells it what a word is, or a verse, or a king.

What you will learn
    - what a language model is, and how it writes, one token after the other
    - how surprised it is by a text that it has not seen: nats, bits, perplexity
    - how one long text becomes batches: streams, windows, a carried state, and why the
      gradient is cut between two windows (truncated back-propagation through time)
    - n-gram models, the rival that a sceptic asks for, from counting pairs upwards
    - how the next token is drawn (sampling): temperature, top-k, top-p, greedy, and
      what each gains and loses beside the author
    - how to ask whether a text is good, and whether it is only copied
    - an outlook: minGRU, a recurrent network without a loop, and where research went

You need lessons 02 (vocabulary), 04 (softmax, cross-entropy, `fit`), 05 and 06 (LSTM,
GRU) and 08 (teacher forcing); for the outlook also byte-pair encoding (02) and attention
(09).

Run it
    python 10_text_generation.py --save-model          trains, and keeps the network
    python 10_text_generation.py --quick               less text, 2 epochs: seconds
    python 10_text_generation.py --input my_text.txt   learns to write like you
    python 10_text_generation.py --level word          a token is a word, not a character
    python 10_text_generation.py --cell mingru         the network of the outlook

You should see  (shakespeare [real], seed 0; 7 minutes of training on two idle cores, on
busy ones 48.  In haste: --epochs 2, 1.54 nats; the 7-gram is then still ahead)
    It writes, a little more carefully than it predicts (temperature 0.8, section 4.1):
        With angel of it is my state through.

        GLOUCESTER:
        But he had been by the senate of my grace,
        Your court, look to Clarence, our ladyships;
        For this way the duke's crapion that cheer loin.
    78 % of its lines have a usual length; of a model that only counts (7-gram) 32 %, of
    the author 87 % (temperature 1).
    It is less surprised by new text than models that count (five of ten rows):
      model                     nats   bits_per_char   perplexity
      lstm (this lesson)      1.4349          2.0702       4.1994
      lstm, reset every 256   1.4664          2.1156       4.3336
      blind guessing          4.1897          6.0444      66.0000
      2-gram                  2.4835          3.5830      11.9835
      7-gram                  1.5165          2.1879       4.5563
    The lower, the better.  Nats: how surprising, on average, was each character that
    really came next (section 2).  "reset every 256": the network forgets every 256
    characters, which costs it 0.031 nats.  Blind guessing: each of the 66 tokens (65
    characters, and one for all others) is as likely as any other.  The n-grams count, in
    the training text, what followed the last n - 1 characters (section 4.5).

    [real] says that the text is the real one.  Without the internet the lesson trains on
    another text, the source of Python's own library, and says [sample].

Try this  (guess first, then run)
With the network that --save-model has kept, so without new training.  --write-only
writes one text and measures nothing, so it takes seconds:
    python 10_text_generation.py --eval-only --write-only --temperature 0
                                always the likeliest character: what does such a line
                                look like, and why?
    python 10_text_generation.py --eval-only --write-only --temperature 1.5
                                and what goes wrong here?  Does --top-p 0.9 mend it?
    python 10_text_generation.py --eval-only --write-only --prompt "ROMEO:"
                                who answers him?
These train anew, the first for less than a minute, the others for minutes:
    --epochs 2 --num-layers 1 --hidden-size 128
                                a small network: 1.7530 nats.  With --sequence-length 4
                                1.6485: gradients reach only 4 steps back, but there are
                                16 times the updates.  (Whether 4 helps the large
                                network, too, was not measured.)
    --dataset code              Python: does it keep the brackets, the indentation?
    --epochs 50                 (three times as long; the learning rate falls more slowly
                                too)  After 16 val_loss stands still: does it rise?
"""

# Sizes
#     B  batch: streams of text read side by side     T  time: steps between two updates
#     E  embedding      H  hidden state               L  layers
#     V  vocabulary     N  tokens (characters or words) of a text

import hashlib
import math
import re
import sys
import sysconfig
from argparse import Namespace
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import regex  # like re, and knows \p{M} besides
import torch
from torch import nn
from torch.nn import functional as F

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================
#
# The data are one long text.  Its pieces are called tokens: single characters, or, with
# `--level word`, words and marks.  Nothing has to be labelled by anybody: at each
# place, the right answer is the token that comes next.
#
# A recurrent network could read the text from the first token to the last, and be
# taught at the end.  That would be one update for a million characters, and the
# gradient would have to run back through all of them.  So three things are done:
#
#   streams   the text is cut into B long pieces, which are read side by side: B tokens
#             in one step of the network instead of one
#   windows   each stream is read T tokens at a time; after each window comes an update
#   carrying  window k + 1 goes on exactly where window k stopped, stream by stream, so
#             the state at the end of one window is the start of the next
#
# So windows are not shuffled, as the lessons before shuffled their examples: a carried
# state fits only the window that comes next.  (Many programs begin windows at random
# places and from zero: simpler, but each starts cold.  Section 4.6 measures what a cold
# start costs a network that was trained to carry.)


class Streams:
    """The ids (N,) as B streams of text side by side, T steps at a time, in order.

    A batch holds `input` (B, T), `target` (B, T), the same one step later, and `first`:
    whether a pass begins here, so that there is no state to carry.  random_start, for
    training: each pass begins at another of the first T tokens.
    """

    def __init__(self, ids, streams, steps, device="cpu", random_start=False):
        self.ids = ids.to(device)
        self.steps = steps
        self.random_start = random_start
        # Of Shakespeare's 1,003,854 tokens: less 1 and 63, over 32 streams: 31,368 each.
        usable = len(ids) - 1  # the last token is only a target
        if random_start:
            usable -= steps - 1  # room to begin up to T - 1 tokens later
        # A short text makes fewer streams, so that each is at least one window long.
        self.streams = max(1, min(streams, usable // steps))
        self.width = usable // self.streams  # tokens of one stream

    def __len__(self):
        if self.random_start:
            # A short last window, an update made of fewer tokens, is left out.
            return self.width // self.steps
        return math.ceil(self.width / self.steps)

    def __iter__(self):
        # Another start moves all cuts between windows; section 3 tells why that helps.
        start = 0
        if self.random_start:
            start = int(torch.randint(self.steps, ()))
        stop = start + self.streams * self.width
        # `view` lays the text out in rows: the first `width` tokens are row 1, the next
        # `width` row 2, and so on.  Each row is a stream.
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
    utils.say(
        "Reading it: each target is the letter that follows its input.  Stream 1 goes "
        "on from abc to def, so its state after c is the state before d."
    )


# --- From the file to these ids -------------------------------------------------------
#
# What should a token be?
#
#   characters  few (66 here), and hardly one is unknown; but texts are long, and the
#               network has to learn to spell, and may misspell
#   words       texts are short, and nothing is misspelt; but the vocabulary is large, rare
#               words become <unk>, and spaces are lost and put back by rules
#   pieces      of byte-pair encoding (lesson 02) lie between: large models use them
#
# Which wins?  A loss per word is for several characters at once, so bring both to one
# unit: nats per character of the same text.  Shakespeare's held-out part has 111,540
# characters, which make 30,449 tokens of words.  `--level word` has 3.9214 nats a word:
#
#     3.9214 * 30,449 / 111,540 = 1.07 nats a character        (characters: 1.43)
#
# (Nats are explained in section 2: the lower, the less surprised.)  That flatters the
# words: 7.6 % of them are <unk>, and to spell those, with a space each 15.8 % of all
# characters, costs nothing.  At 1.43 nats for each of these it is
#
#     1.070 + 0.158 * 1.43 = 1.30
#
# and the spaces are still free.  So words may be ahead here, but it is not sure; and
# pieces were not tried.  We take characters, with which nothing is free.
#
# How long must a text of your own be?  This one has a million characters, and the network
# 0.88 million weights: about one each.  With 50,000 characters it would be 18 each, enough
# to learn passages by heart.  About one again are --num-layers 1 --hidden-size 64: 42,000
# weights; add --dropout 0.5.  Then look where val_loss turns, and at the longest copy;
# section 4.9 shows both on a text of a few thousand characters.


def tokenize(text, level):
    """Characters; or words, punctuation marks and line ends; spaces are lost."""
    if level == "char":
        return list(text)
    # Words with their apostrophes (don't), or one sign that is no letter and no space.
    # \p{M}: marks that stand on letters, without which a Hindi word falls to pieces.
    letter = r"[\w\p{M}]"
    return regex.findall(rf"{letter}+(?:'{letter}+)*|[^\w\p{{M}} ]", text)


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

    There is no third part: the best epoch is chosen on the second, as the field does.
    """
    cut = int(0.9 * len(text))
    return [text[:cut], text[cut:]]


def load_corpus(source, text, level, words, args):
    """The Corpus of a text, in the vocabulary `words`.  UserError if too short."""
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
    size = (args.batch_size, args.sequence_length)
    return Streams(corpus.ids[0], *size, args.device, random_start=True)


def show_data(corpus, args):
    """How large the text is, and its first tokens on their way to the network."""
    train, held_out = corpus.ids
    # <unk> has id 0.  The mean of trues and falses, as 1 and 0, is a share.
    unknown = (held_out == 0).double().mean().item()
    utils.say(
        f"{corpus.source.label}: {len(train):,} tokens to train on, {len(held_out):,} "
        f"held out; {len(corpus.vocabulary):,} in the vocabulary, <unk> among them; "
        f"{unknown:.2%} of those held out are unknown."
    )
    print("(The best epoch is chosen on the held-out part: that flatters it a little.)")
    # Nine tokens make eight pairs.  Of "First Cit" the network is given "First Ci" and
    # asked for "irst Cit": after each token it is asked for the next.
    ids = train[:9]
    tokens = corpus.vocabulary.decode(ids.tolist())
    print("\nHow the text begins, and what the network is given and asked:")
    print(f"  tokens   {' '.join(repr(token) for token in tokens)}")
    print(f"  ids      {' '.join(str(i) for i in ids.tolist())}")
    print(f"  input    {join(tokens[:-1], corpus.level)!r}")
    print(f"  target   {join(tokens[1:], corpus.level)!r}, the same one token later")
    streams = training_streams(corpus, args)
    utils.say(
        f"In training: {streams.streams} streams of {streams.width:,} tokens, read "
        f"{streams.steps} at a time: {len(streams):,} windows an epoch."
    )


# --- Another text: Python's own library (may be skipped) ------------------------------


def read_standard_library(folder, most=400_000):
    """Modules of Python's standard library, one after another: `most` characters."""
    # By a digest of their names: mixed, so that the last tenth is not of one kind, and the
    # same way in every run.
    files = list(Path(folder).glob("*.py"))
    files.sort(key=lambda path: hashlib.sha256(path.name.encode()).digest())
    parts = []
    size = 0
    for path in files:
        text = path.read_text(encoding="utf-8", errors="replace")
        # No stubs, no giants, no rare signs, which only make the vocabulary longer.
        if size < most and 1000 <= len(text) <= 60_000 and text.isascii():
            parts.append(text)
            size += len(text)
    if not parts:
        raise utils.UserError(
            f"the source of Python's standard library is not in {folder}; "
            "give a text with --input FILE"
        )
    return "\n".join(parts)[:most]  # the last module usually runs over


def read_corpus(args):
    """(Source, text) of the data set that the flags name; --quick: its beginning."""
    library = {"code": Path(sysconfig.get_paths()["stdlib"])}  # on every machine
    source = utils.choose_dataset(args, ["shakespeare"], library)
    if source.name == "code":
        text = read_standard_library(source.path)
    else:
        text = utils.read_text(source.path)
    return source, utils.capped(args, text, 20_000)


# ====================================================================================
# 2. Model
# ====================================================================================
#
# A language model gives a probability to every token that could come next.  By the
# chain rule (lesson 08) that makes a probability of a whole text:
#
#     p("to be") = p("t") * p("o" after "t") * p(" " after "to") * p("b" after "to ")
#                  * p("e" after "to b")
#
# (Our network has to read something first: of a text, the first token is not asked.)
#
# How good is it?  Take a text that it has not seen, and at each place the probability
# that it gave to the token that really came next.  The mean of -log p over all places
# is its loss there: the cross-entropy that training lowers (lesson 04).  The lower, the
# better.  It has three units:
#
#   nats         the natural logarithm, as it stands
#   bits         the logarithm to base 2: so many yes-or-no questions would have to be
#                answered, on average, to know the next token
#   perplexity   e to the power of the nats: as unsure as if it drew from so many
#                equally likely tokens


def show_units():
    """Five characters: p, -log p, their mean in nats, bits, and as perplexity."""
    chances = {"t": 0.2, "o": 0.5, "_": 0.8, "b": 0.1, "e": 0.5}
    print("\nHow surprising is to_be?  With made-up probabilities (_ is a space):")
    # Two ways to one number.  By the chain rule p of the text is a product; the
    # logarithm of a product is a sum: -log 0.004 = 5.521.  Of a long text the product
    # would be too small for the computer and become 0, the sum does not.
    product = 1.0
    total = 0.0
    for character, p in chances.items():
        product *= p
        total += -math.log(p)
        print(f"  {character}   p {p:.1f}   -log p {-math.log(p):.3f}")
    nats = total / len(chances)  # a mean, so texts of any length can be compared
    print(f"  all five p multiplied: p(to_be) = {product:.3f} = e^-{total:.3f}")
    print(f"  sum {total:.3f}, divided by 5: {nats:.3f} nats a character")
    print(f"  in bits: {nats:.3f} / log 2 = {nats / math.log(2):.3f}")
    print(f"  perplexity: e^{nats:.3f} = {math.exp(nats):.2f}")
    utils.say(
        "Reading it: b alone makes 2.303 of the 5.521, since the model was surprised "
        "there.  A token that is foreseen with p = 1 adds nothing."
    )


# --- The network ----------------------------------------------------------------------
#
#     id --> embedding --> LSTM, two layers --> a score for each of the V tokens
#                             |    ^
#                             +----+  state, carried on from token to token
#
# A score is a number of any size: the higher, the likelier the token (lesson 04; other
# texts say logit).  Softmax makes probabilities of them.


class NextToken(nn.Module):
    """Embedding, recurrent layers, a score for every token that could come next."""

    def __init__(self, tokens, embedding, cell, hidden, layers, dropout, tied):
        super().__init__()
        self.embed = nn.Embedding(tokens, embedding)
        # CELLS: nn.RNN, nn.LSTM, nn.GRU, or the MinGRU of the outlook.
        between = dropout if layers > 1 else 0.0  # dropped out between layers
        sizes = (embedding, hidden, layers)
        self.rnn = CELLS[cell](*sizes, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.squeeze = nn.Identity()  # does nothing, but for words
        self.output = nn.Linear(hidden, tokens)
        if tied:
            # Words only; may be skipped.  Output and embedding share their many weights
            # ("tied", Press and Wolf, 2017), so the state is squeezed to E numbers first.
            # nn.Embedding begins with numbers of about 1, too large for scores.
            self.squeeze = nn.Linear(hidden, embedding)
            self.output = nn.Linear(embedding, tokens)
            nn.init.uniform_(self.embed.weight, -0.1, 0.1)
            self.output.weight = self.embed.weight

    def forward(self, ids, state=None):
        """ids (B, T) and the state before them -> scores (B, T, V), the state after.

        The state is h (L, B, H), of an LSTM (h, c).  None: nothing was read before.
        """
        x = self.embed(ids)  # (B, T, E)
        y, state = self.rnn(x, state)  # (B, T, H)
        return self.output(self.squeeze(self.dropout(y))), state


# --- How it writes --------------------------------------------------------------------
#
# The network is built and has learned nothing; it can write all the same.  Writing is a
# loop around it:
#
#     the beginning --> [ network ] --> scores --> probabilities --> draw one token
#                            ^                                             |
#                            +---------------- read it <-------------------+
#
# Draw, or sample, means: a die with V sides is thrown, and the sides have the
# probabilities that the network gave.  The likeliest comes most often, but not always.
# "Temperature 1" means: just these probabilities; section 4.1 has other ways.
#
# In training the network always reads the true text: that is teacher forcing, as in
# lesson 08.  Here it reads what it wrote, and its mistakes with it.  It was never
# taught what to do after a mistake; that is called exposure bias.


@torch.no_grad()
def generate(
    model, prompt, length, seed, temperature=1.0, top_k=0, top_p=1.0, seen=None
):
    """`length` new ids after the ids `prompt` (T,).

    seen: a list that gets the probabilities (V,) of each step, to be looked at later.
    The text ends by its length alone: no token means "the end", as <eos> did in lesson 08.
    """
    # No dropout while writing.
    model.eval()
    # The die: the same seed throws the same.
    die = torch.Generator().manual_seed(seed)
    device = model.embed.weight.device
    ids = []
    # Read the beginning, a batch of one.  There is no state yet: nothing was read before.
    scores, state = model(prompt.to(device).unsqueeze(0))  # (1, T, V)
    while len(ids) < length:
        # Only the scores at the last place tell what comes next.
        last = scores[0, -1].float().cpu().clone()  # (V,)
        # <unk> stands for tokens that we do not know: it cannot be written.
        last[0] = -math.inf
        # With the knobs at rest: last.softmax(0).  Section 4.1 turns them.
        p = next_distribution(last, temperature, top_k, top_p)  # (V,)
        if seen is not None:
            seen.append(p)
        # Throw the die.  (Section 4 shows such a throw.)
        token = torch.multinomial(p, 1, generator=die)  # (1,)
        # Write the token down.
        ids.append(token.item())
        # Read it.  The state knows all that was read before: nothing is read twice.
        scores, state = model(token.to(device).unsqueeze(0), state)  # (1, 1, V)
    return ids


# Now look at it, before any training.  What does the network expect, and what is drawn?

LINE = {"char": 70, "word": 14}  # tokens that fill a line


def show_steps(model, corpus, args, steps):
    """Steps of `generate`: what is read, what is likely next, what is drawn."""
    start = prompt_ids(corpus, args.prompt)
    # All is written first; `seen` keeps the probabilities of each step to show here.
    seen = []
    ids = generate(model, start, steps, args.seed, seen=seen)
    read = join(corpus.vocabulary.decode(start.tolist()), corpus.level)
    width = 6 if corpus.level == "char" else 13
    for token, p in zip(ids, seen, strict=True):
        chances = []
        # <unk> has p = 0 here, so of V tokens only V - 1 can be drawn.
        most = min(3, len(p) - 1)
        for i in p.topk(most).indices.tolist():
            name = repr(corpus.vocabulary.tokens[i])
            chances.append(f"{name:>{width}} {p[i]:.3f}")
        drawn = corpus.vocabulary.tokens[token]
        print(f"  read {read!r:<{width}} likeliest {' '.join(chances)}", end="   ")
        print(f"drawn {drawn!r} {p[token]:.3f}")
        read = drawn  # at the first step it was the whole beginning


def show_untrained(model, corpus, args):
    """What the network writes before it has learned, and its loss: blind guessing."""
    print("\nWriting before any training, at temperature 1")
    show_steps(model, corpus, args, steps=2)
    # Steps show the choice among all tokens; a line, what comes of many choices.
    line = write(model, corpus, args, LINE[corpus.level], PLAIN)
    print("  and a line:")
    print(f"    {as_text(corpus, line, args.prompt)!r}")
    if not args.prompt:
        first = as_text(corpus, prompt_ids(corpus, "").tolist())
        print(f"(Without --prompt all writing begins by reading {first!r}.)")
    # Is it as surprised as one who guesses blindly?  2,000 tokens are enough to tell.
    tokens = len(corpus.vocabulary)
    nats = mean_nats(model, corpus.ids[1][:2000])
    utils.say(
        "Reading it: to this network all tokens are about equally likely, as to one who "
        f"guesses blindly: 1 in {tokens:,} is {1 / tokens:.4f}.  Blind guessing costs "
        f"log {tokens:,} = {math.log(tokens):.2f} nats whatever comes; this network "
        f"{nats:.2f}.  (So check any new network: a first loss far above log V is a "
        "mistake.)"
    )


def show_size(model, config):
    """The sizes of the network, and how many weights it has."""
    sizes = f"E = {config['embedding']}, {config['cell']} with L = {config['layers']}"
    sizes += f" and H = {config['hidden']}, V = {config['tokens']:,}"
    print(f"\nThe network: {sizes}; {utils.count_parameters(model):,} weights")


# --- Helpers (may be skipped) ---------------------------------------------------------


def prompt_ids(corpus, prompt):
    """Ids (T,) of a beginning; of an empty one, a line end or the commonest token."""
    ids = corpus.vocabulary.encode(tokenize(prompt, corpus.level))
    if not ids:
        ids = [corpus.vocabulary.ids.get("\n", 1)]
    return torch.tensor(ids)


def write(model, corpus, args, length, way="your flags"):
    """`length` ids after --prompt, drawn in one of the WAYS of section 4.2.

    The die is that of --seed, each time anew: two texts may begin alike.
    """
    start = prompt_ids(corpus, args.prompt)
    return generate(model, start, length, args.seed, **knobs_of(way, args))


def as_text(corpus, ids, prompt=""):
    """Ids as text, after the beginning `prompt`."""
    tokens = tokenize(prompt, corpus.level) + corpus.vocabulary.decode(ids)
    return join(tokens, corpus.level)


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
# began from zero, its first tokens would have to be guessed from nothing, and in training
# nothing older than T tokens could be used.
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
# could keep for more, and then remember farther back than it was taught.  On Shakespeare
# it does not: section 4.6 finds no gain beyond 64 characters.
#
# Then what is carrying good for?  For the first tokens of each window.  Section 4.6 finds
# that a cold start costs most at the first 16 places: a quarter of a window of 64 would
# be learned in that state.  (A network trained wholly without carrying: not measured.)
#
# So T is a bargain.  A long window lets the gradient reach farther back; a short one gives
# more updates for the same reading ("Try this" has a case where those count for more).
#
# No gradient crosses a cut, so what stands just before one is never blamed for what comes
# just after.  `random_start` therefore moves the cuts from epoch to epoch: two tokens
# that a cut parts in one epoch stand in one window in the next.


def detach(state):
    """The same numbers, cut off from the computation that made them."""
    if isinstance(state, tuple):  # h and c of an LSTM
        return tuple(part.detach() for part in state)
    return state.detach()


# The loop of lesson 04 once more.  New are only the two lines that hand on the state and
# cut it.


def train_by_hand(model, train, args):
    """One epoch of truncated back-propagation through time, in the open."""
    # AdamW: Adam with weight decay, which is what fit takes for --optimizer adam.
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.lr, weight_decay=args.weight_decay
    )
    # As in lesson 04: the learning rate rises briefly, then falls to the end.
    schedule = utils.make_scheduler(optimizer, len(train), args)
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


# `fit` does the same, with validation and more.  It calls a function for each batch; so
# the state has to be remembered from call to call.  And it reads many passes, in training
# and validation by turns: at a pass's first batch the old state is dropped, so that the
# two do not mix.


class Measure:
    """What `fit` calls for each batch; one is made for each training run."""

    def __init__(self):
        self.state = None

    def __call__(self, model, batch):
        """The loss of each token of the batch: {"loss": (B * T,)}."""
        if batch["first"]:
            self.state = None
        scores, state = model(batch["input"], self.state)  # (B, T, V)
        self.state = detach(state)
        scores = scores.flatten(0, 1)  # (B * T, V)
        scores = scores.float()  # --precision bf16 is too coarse for a loss
        target = batch["target"].flatten()  # (B * T,)
        # Not the mean yet: `fit` wants one loss for each token.
        return {"loss": F.cross_entropy(scores, target, reduction="none")}


def show_truncated_steps():
    """One epoch in the open and one by utils.fit, from the same start."""
    ids, tokens = small_text()
    train = Streams(ids, streams=8, steps=16, random_start=True)
    settings = small_settings()
    ours = small_model(tokens)
    theirs = small_model(tokens)
    before = mean_nats(ours, ids)
    train_by_hand(ours, train, settings)
    # fit also wants a text to validate on; it is not needed here, so the same again.
    # Without `config` and `feeds` (see train_model) it saves and prints nothing.
    utils.fit(theirs, Measure(), train, train, settings)
    gaps = []
    for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        gaps.append((weight - other).abs().max().item())
    print()
    utils.say(
        "Training in the open: a small network reads this lesson's docstring once, "
        f"{len(train)} windows, T = {train.steps}.  Its loss there: {before:.2f} nats "
        f"before, {mean_nats(ours, ids):.2f} after."
    )
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


def show_without_detach():
    """What happens without `detach`, and when PyTorch's advice is followed."""
    print("\nThe same without detach:")
    steps_without_detach(retain_graph=False)
    print("PyTorch's message goes on to advise retain_graph=True.  With that:")
    steps_without_detach(retain_graph=True)
    utils.say(
        "Reading it: the second backward wants to go on into the first window.  What "
        "that window computed on its way has been thrown away by its own backward.  "
        "Kept, it is of no use: the weights that made it have changed since then.  The "
        "cure is detach."
    )


def new_model(config, args):
    """The network from --seed, before any training."""
    utils.set_seed(args.seed)
    return NextToken(**config).to(args.device)


def train_model(model, config, corpus, args, feeds):
    """Train it; it writes a line after some epochs on its way.  Returns the records.

    config, feeds: what is saved beside the weights (section 5).
    """
    train = training_streams(corpus, args)
    # 16 streams for speed: 16 starts from nothing make this val_loss a little too high.
    val = Streams(corpus.ids[1], 16, 256, args.device)

    def write_a_line(record):
        if record["epoch"] in {1, 2, 4, 8, 16, 32, args.epochs}:
            line = write(model, corpus, args, LINE[corpus.level])
            print(f"    {as_text(corpus, line, args.prompt)!r}")

    print(f"\nTraining on {corpus.source.label}: one line an epoch, and what it writes")
    print(f"(at {name_of_flags(args)}, explained in section 4.1)")
    records = utils.fit(
        model, Measure(), train, val, args, config, feeds, after_epoch=write_a_line
    )
    panels = {"nats": ["loss", "val_loss"]}
    panels["length of the gradient"] = ["grad_norm", "max_grad_norm"]
    title = f"Training, {corpus.source.label}, {args.cell}"
    utils.plot_records(args, "training", title, {args.cell: records}, panels)
    read_training(records)
    return records


def read_training(records):
    """Does it begin to learn its text by heart?  Where val_loss turned, and the gap."""
    # If the best epoch is the last, more might have helped; else it was kept in time.
    best = min(records, key=lambda record: record["val_loss"])
    last = records[-1]
    told = f"Reading it: val_loss was lowest in epoch {best['epoch']}, "
    if best is last:
        told += "the last: it had not turned."
    else:
        told += f"{best['val_loss']:.4f}.  From there to the end loss moved by "
        told += f"{last['loss'] - best['loss']:+.4f}, val_loss by "
        rise = last["val_loss"] - best["val_loss"]
        told += f"{rise:+.4f}.  "
        by_heart = "Where loss falls on and val_loss rises, it learns by heart."
        told += "So val_loss stands still." if rise < 0.01 else by_heart
    gap = best["val_loss"] - best["loss"]
    if gap > 0:
        told += f"  In that epoch new text surprised it by {gap:.2f} nats more than its own."
    utils.say(told)
    print("(Loss is taken with dropout, while the network learns: it looks too high.)")


# --- Helpers: small things for the examples (may be skipped) --------------------------


def small_model(tokens):
    """A small network for the examples, the same each time."""
    utils.set_seed(10)
    return NextToken(tokens, 8, "lstm", hidden=16, layers=1, dropout=0.0, tied=False)


def small_text():
    """A small text for the examples, this file's docstring: (its ids, V)."""
    vocabulary = utils.Vocabulary.build([__doc__], (utils.UNK,))
    return torch.tensor(vocabulary.encode(__doc__)), len(vocabulary)


def small_settings():
    """Flags of their own for the examples, whatever the reader has given."""
    # With those of the second line `fit` does as train_by_hand does.
    flags = {"seed": 0, "epochs": 1, "lr": 0.006, "weight_decay": 0.01, "clip": 1.0}
    flags |= {"accumulate": 1, "optimizer": "adam", "precision": "fp32", "patience": 0}
    return Namespace(**flags, device="cpu", resume=False, out_dir="")


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# Can it write?  First see how the next token is drawn, and what it writes.  Then ask
# twice how good that is: how much does new text surprise it, and what does its own text
# look like?  Models that only count answer both questions beside it.
#
# --- 4.1 Writing ----------------------------------------------------------------------
#
# `generate` draws from the probabilities that softmax makes of the scores.  Three knobs
# may change them before:
#
#   temperature   the scores are divided by it.  Below 1, likely tokens become likelier;
#                 at 0, only the likeliest is left (greedy); above 1, all become alike
#   top-k         only the k likeliest may be drawn
#   top-p         only the likeliest may be drawn, as few as reach the probability p
#                 together: many where the network is unsure, few where it is sure
#                 (nucleus sampling, Holtzman et al., 2020)
#
# They may be combined, and act in this order.
#
# Why not always draw at temperature 1, from what the network says?  Most tokens are
# unlikely at any place, but together they have a share of each throw.  So sooner or
# later one of them is drawn.  The author surprises us as well, but his surprises make
# sense.  The network reads its own, an odd text of a kind that it was never taught, and
# one odd word leads to the next.
#
# Why not always take the likeliest?  Because then nothing random is left.  Once the
# state comes back near to where it was before, the same tokens follow, and the state
# comes back again: a circle.  Beam search (lesson 08) looks for the likeliest text, so it
# is as dull: good where one answer is right, as in translation, but not here.


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
    keep[0] = True  # the likeliest stays, however small top_p
    p = torch.where(keep, p, 0.0)
    p = p / p.sum()
    # Undo the sort: put each probability back to the place of its token.
    return torch.zeros_like(p).scatter(0, order, p)


def show_drawing():
    """Temperature, top-k, top-p and a throw on four probabilities, with all numbers."""
    tokens = ["c", "a", "d", "b"]
    p = torch.tensor([0.15, 0.5, 0.1, 0.25])
    scores = p.log()  # scores of which softmax makes just these

    def show(name, values, names=tokens, end="\n"):
        cells = []
        for token, value in zip(names, values.tolist(), strict=True):
            cells.append(f"{token} {value:.3f}")
        print(f"    {name:<22} {'   '.join(cells)}", end=end)

    print("\nDrawing: four tokens and their probabilities p")
    show("as they are", p)
    # Divided by their sum: that is what softmax does at its end.
    print("  Temperature 0.5: log p / 0.5 = 2 log p, so each p is squared")
    show("squared", p**2, end="")
    print(f"   sum {(p**2).sum():.3f}")
    show("divided by the sum", next_distribution(scores, temperature=0.5))
    print("  Temperature 2: log p / 2, so of each p the square root is taken")
    show("square root", p.sqrt(), end="")
    print(f"   sum {p.sqrt().sum():.3f}")
    show("divided by the sum", next_distribution(scores, temperature=2.0))
    print("  Top-k 2: a and b are kept, 0.5 / 0.75 and 0.25 / 0.75")
    show("top-k 2", next_distribution(scores, top_k=2))
    print("  Top-p 0.8: kept is whatever has less than 0.8 before it: a, b and c")
    ordered, order = p.sort(descending=True)
    names = [tokens[i] for i in order]
    show("sorted", ordered, names)
    show("sum of likelier ones", ordered.cumsum(0) - ordered, names)
    show("top-p 0.8", next_distribution(scores, top_p=0.8))
    print("  Where it is sure, say 0.89, 0.07, 0.03, 0.01, the two differ:")
    sure = torch.tensor([0.89, 0.07, 0.03, 0.01])
    show("top-k 2", next_distribution(sure.log(), top_k=2), "abcd")
    show("top-p 0.8", next_distribution(sure.log(), top_p=0.8), "abcd")
    print("  Top-k keeps two in both.  Top-p keeps three where it is unsure, one where")
    print("  it is sure: one value suits both places.")
    print("  A throw (of p, the first line): a random number between 0 and 1, say 0.7,")
    print("  and the first running sum above it; here that of d")
    show("running sum", p.cumsum(0))
    die = torch.Generator().manual_seed(10)
    thrown = torch.multinomial(p, 10_000, replacement=True, generator=die)
    shares = torch.bincount(thrown, minlength=4) / 10_000
    print("  torch.multinomial draws with the same shares; here in 10,000 throws:")
    show("drawn", shares)


def show_trained_steps(model, corpus, args):
    """The steps of `generate` again, now that the network has learned."""
    print("\nWriting after training, at temperature 1: what may come next, and its p")
    show_steps(model, corpus, args, steps=6)
    utils.say(
        "Reading it: where the likeliest has little, the die decides, and the network reads "
        "on from what was drawn.  (All texts here are thrown with the same die.)"
    )


# --- 4.2 Seven ways to draw, from the same network ------------------------------------

PLAIN = "temperature 1"
FLAGS = "your flags"  # --temperature, --top-k and --top-p as given, or their defaults

# From daring to dull; what a way does not name keeps all tokens at temperature 1.
WAYS = {
    "temperature 1.5": {"temperature": 1.5},
    PLAIN: {},
    "top-k 5": {"top_k": 5},
    "top-p 0.8": {"top_p": 0.8},
    FLAGS: {},  # knobs_of fills it in
    "temperature 0.5": {"temperature": 0.5},
    "greedy": {"temperature": 0.0},
}


def lengths(corpus, args):
    """Tokens of the first part of a text, and of the whole: all ways write as much."""
    short = 2000 if corpus.level == "char" else 400
    if args.quick:
        short //= 10
    return short, 5 * short


def show_ways(model, corpus, args):
    """A line in each way to draw.  Returns all that was written, by way."""
    written = {}
    print("\nThe same network, drawn from in seven ways, roughly from daring to dull:")
    for name in WAYS:
        length = lengths(corpus, args)[1]
        if name == FLAGS:
            length = max(length, args.max_length)
        written[name] = write(model, corpus, args, length, name)
        line = as_text(corpus, written[name][: LINE[corpus.level]], args.prompt)
        print(f"  {name:<17}{line!r}")
    print(f"  ({FLAGS}: {name_of_flags(args)})")
    if not args.no_plots:
        draw_ways(model, corpus, args)
    # One line would not show it: greedy writing soon comes round to where it was.
    print("Greedy goes on like this.  Does it walk in a circle?")
    ids = written["greedy"][LINE[corpus.level] : 5 * LINE[corpus.level]]
    utils.say(repr(as_text(corpus, ids)))
    return written


# --- 4.3 What it writes ---------------------------------------------------------------
#
# Read the text of the docstring, or your own, from small to large.  Speakers stand alone,
# with a colon; lines have about the length of a verse.  All that came from guessing the
# next character.  Three words of it were not in training: crapion does not exist, but
# ladyships and loin do.  It has learned to spell, not a list.  Now read one sentence to
# its end: it says nothing.
#
# Would counting do as well?  So the rival of 4.5, a 7-gram, writes too: it
# looks at the last six characters and draws what followed them in the training text.


def show_text(corpus, args, ids):
    """Print the text that was written as the flags say."""
    print(f"\n{corpus.source.label}: written at {name_of_flags(args)}")
    print(as_text(corpus, ids[: args.max_length], args.prompt))


def show_texts(corpus, args, written):
    """The text of the flags; then the network and its rival, both at temperature 1."""
    show_text(corpus, args, written[FLAGS])
    rival = rival_of(corpus)
    for name in (PLAIN, rival):
        print(f"\nWritten {'by the ' if name == rival else 'at '}{name}:")
        print(as_text(corpus, written[name][: 4 * LINE[corpus.level]], args.prompt))
    utils.say(
        "Reading it, from small to large: are the words words?  Have lines and names their "
        "usual form?  Then read one sentence to its end: does it say anything?"
    )
    # A word that training never saw it must have spelt by itself, rightly or not.
    known = set(re.findall(r"\w+", corpus.texts[0]))
    words = re.findall(r"\w+", as_text(corpus, written[FLAGS][: args.max_length]))
    new = [word for word in words if word not in known]
    named = ", ".join(new[:9]) or "none"
    utils.say(f"Words of the first that training never saw: {named}.")


# --- 4.4 How good is it?  First: how surprised is it? ---------------------------------
#
# The part that training never saw is read in one go: the state is carried from its
# first token to its last.  And once more with the state thrown away every 256 tokens.
# That is the fair figure beside a model that can see 256 tokens at most, as many
# Transformers of this size do.


@torch.no_grad()
def losses_of(model, ids, reset=0):
    """-log p of each of ids[1:], in one stream: (N - 1,).

    reset: forget every so many tokens; 0: never.
    """
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


def mean_nats(model, ids, reset=0):
    """The mean loss of ids[1:], in nats."""
    return losses_of(model, ids, reset).mean().item()


def units(nats, level):
    """Nats in other units.  Bits per character only where a token is a character."""
    found = {"nats": nats}
    if level == "char":
        found["bits_per_char"] = nats / math.log(2)
    found["perplexity"] = math.exp(min(nats, 700))  # more would overflow
    return found


# --- 4.5 The rivals: counting ---------------------------------------------------------
#
# A sceptic asks: does that need a network?  One can also count.  A bigram model counts,
# for each pair of neighbours, how often the second follows the first:
#
#     p("e" after "h") = (times of "he" in training + 1) / (times of "h" + V)
#
# (of "h" with something after it).  The + 1 is for pairs that training lacks: a
# probability of 0 would cost an infinite surprise.  Each of V letters gets it, hence the
# V below.  Giving a little to what was never seen is called smoothing.
#
# An n-gram model does the same with a longer history: the last n - 1 tokens.  n is its
# order.  A 2-gram is the bigram; a 1-gram has no history, and knows only how common
# each token is.

TOY = "aqua_equa_que"  # the text of the two examples
TOY_LETTERS = "_aequz"  # z never comes, as <unk> never does


def show_plus_one():
    """A bigram model of thirteen letters, by counting."""
    # pairwise: aq, qu, ua, a_, ...  Of those that begin with a, the second letter is
    # counted: q once, _ twice.
    counts = Counter(second for first, second in pairwise(TOY) if first == "a")
    total = sum(counts.values())
    size = len(TOY_LETTERS)
    print(f"\nCounting in {TOY}: what follows a?  V = {size} letters, z among them")
    never = 0.0
    for letter in TOY_LETTERS:
        n = counts[letter]  # a Counter says 0 of what it never met
        # Each of the V letters got 1 more, so the total has V more: all p sum to 1.
        p = (n + 1) / (total + size)
        print(f"  a{letter}: {n} of {total}", end="   ")
        print(f"p = ({n} + 1) / ({total} + {size}) = {p:.3f}")
        if n == 0:
            never += p
    print(f"Reading it: what never followed a gets {never:.3f} in all, z as much as u.")


def plus_one_nats(train, held_out, order, tokens):
    """Mean nats of held_out[1:] by n-grams of this order, + 1: ids (N,) each."""
    # One character for each id (of words, too): so a run of ids is a slice of a string.
    text = text_of_ids(train)
    runs = Counter()  # how often each run of `order` tokens stands in training
    histories = Counter()  # and each run of one less, with something after it
    for i in range(len(text) - order + 1):
        runs[text[i : i + order]] += 1
        histories[text[i : i + order - 1]] += 1
    asked = text_of_ids(held_out)
    total = 0.0
    for i in range(1, len(asked)):
        # The first few places have a shorter history; it is in no table, so p = 1 / V.
        history = asked[max(0, i - order + 1) : i]
        p = (runs[history + asked[i]] + 1) / (histories[history] + tokens)
        total -= math.log(p)
    return total / (len(asked) - 1)


# A longer history predicts better, but it has more rarely been seen: in Shakespeare's
# held-out part, 0.2 % of the pairs never stood in training, but 35 % of the runs of
# seven characters.  After a history that was seen twice, both times with the same token
# after it, adding 1 gives that token (2 + 1) / (2 + 66), and 65 / 68 to what never came.
# So in the next table only the rows marked + 1 add 1.  The others fall back: what six
# characters tell is mixed with what the last five expect, and so on (Kneser and Ney,
# 1995; part 4.7).  Characters are counted up to order 7.  More gain nothing on
# Shakespeare: order 7 has 1.5165 nats, order 8 1.5192, order 9 1.5221.
#
# And the network's 1.43?  nanoGPT, a small Transformer (attention alone, lesson 09) with
# about twelve times as many weights, reports 1.4697 nats on this split.  It sees 256
# characters at most, so our row "reset every 256" stands beside it, 1.4664 (seeds 1 and
# 2: 1.4693, 1.4662): about equal, though nanoGPT has practised cold starts and ours has
# not.  On more text the other's size would pay.  People who guessed English letter by
# letter came to between 0.6 and 1.3 bits, where this network has 2.07 (Shannon, 1951;
# other texts, and 27 letters only).


# --- 4.6 The network beside its rivals ------------------------------------------------

ORDERS = {"char": (1, 2, 3, 5, 7), "word": (1, 2, 3, 4)}
UNIT = {"char": "characters", "word": "words"}  # what the tokens are


def rival_of(corpus):
    """The n-gram model of the highest order; it draws at temperature 1."""
    return f"{ORDERS[corpus.level][-1]}-gram"


def show_losses(model, corpus, args, highest_grams):
    """Our loss beside the rivals': a table.

    Returns our losses (N - 1,), the n-grams', all nats, and what show_memory returns.
    """
    train, held_out = corpus.ids
    # The same weights read the same text twice; only what is carried differs.
    ours = losses_of(model, held_out)
    reset = losses_of(model, held_out, reset=256)
    tokens = len(corpus.vocabulary)
    highest = ORDERS[corpus.level][-1]
    nats = {
        f"{args.cell} (this lesson)": ours.mean().item(),
        f"{args.cell}, reset every 256": reset.mean().item(),
        "blind guessing": math.log(tokens),
    }
    # Adding 1 does no harm where little is new (order 2), and much where much is.
    for order in (2, highest):
        nats[f"{order}-gram, + 1"] = plus_one_nats(train, held_out, order, tokens)
    # Kept token by token: `answer` asks in how many stretches the network is ahead.
    counted = {}
    for order in ORDERS[corpus.level]:
        grams = highest_grams
        if order != highest:
            grams = KneserNey(train, order, tokens)
        counted[f"{order}-gram"] = grams.losses(held_out)
        nats[f"{order}-gram"] = counted[f"{order}-gram"].mean().item()
    title = f"{corpus.source.label}: held-out part, {len(ours):,} {UNIT[corpus.level]}"
    rows = {name: units(value, corpus.level) for name, value in nats.items()}
    utils.print_table(title, rows)
    if not args.eval_only:
        print("(val_loss began 16 times without a state: not quite the first figure.)")
    perplexity = rows[f"{args.cell} (this lesson)"]["perplexity"]
    one_more = nats[f"{highest}-gram, + 1"]
    utils.say(
        f"Reading it: our perplexity {perplexity:.1f} means as unsure as a die with about "
        f"{perplexity:.0f} sides.  The n-grams without + 1 fall back on shorter histories: "
        f"{nats[f'{highest}-gram']:.4f} nats at order {highest}, where adding 1 has "
        f"{one_more:.4f}."
    )
    late_saved = show_memory(ours, reset, corpus, args)
    return ours, counted, nats, late_saved


# What does forgetting cost, and where?  Take the tokens by their place after a reset.
# The first are a cold start.  Part of its price is want of practice: in training the
# network began from nothing once an epoch; one that often did so would lose less.
# Places beyond T tell of memory: there, both have read at least T tokens, and one has
# read all that came before as well.


def show_memory(carried, reset, corpus, args):
    """-log p (N - 1,) by place after a reset.  Returns what is saved beyond T, or None."""
    place = torch.arange(len(carried)) % 256 + 1  # 1 is the first token after a reset
    unit = UNIT[corpus.level]
    rows = {}
    for first, last in ((1, 4), (5, 16), (17, 64), (65, 256)):
        here = (place >= first) & (place <= last)
        if here.any():
            row = {"reset": reset[here].mean().item()}
            row["carried"] = carried[here].mean().item()
            row["saved"] = row["reset"] - row["carried"]
            rows[f"{first} to {last}"] = row
    utils.print_table("Nats by place after a reset:", rows, corner="place")
    saved = reset - carried
    early = saved[place <= 16].sum().item() / len(saved)
    utils.say(
        f"Reading it: compare across, not down: each row has other {unit} of the text, "
        f"some harder than others.  Over all {unit} forgetting costs "
        f"{saved.mean().item():.4f} nats, the difference of the first two rows of the table "
        f"before; {early:.4f} of them are lost at the first 16 places."
    )
    steps = args.sequence_length
    late = place > steps
    if not late.any():
        return None
    # Rounded, and + 0.0, so that -0.00001 does not print as -0.0000.
    late_saved = round(saved[late].mean().item(), 4) + 0.0
    print(f"Beyond place {steps} (T in training) carrying saves {late_saved:.4f} nats.")
    return late_saved


# --- 4.7 Falling back: Kneser and Ney's n-grams (may be skipped) ----------------------
#
# A history stood `total` times in the training text, and a token followed it c times.
# Two steps make probabilities of such counts that leave something for what never came.
#
# First step: take a discount D from each count, and share out what was taken, by what
# the next shorter history expects:
#
#     p(token after history)
#         = (max(c - D, 0) + taken * p(token after the shorter history)) / total
#
# In the toy text something follows a three times: _ twice, q once.  With D = 0.5 each of
# the two kinds gives 0.5, so 1.0 is taken.  The shorter history of a is no history, which
# gives q 0.365.  So p(q after a) = (1 - 0.5 + 1.0 * 0.365) / 3 = 0.288.
#
# Second step: where does 0.365 come from?  In a shorter history not times are counted but
# kinds: after how many different letters did q come?  After three: _, a and e; all letters
# together make 8.  ("Francisco" may come often, but only after "San".)  So u, three times
# after q, counts 1; e, once after _ and once after u, counts 2.  Below the shortest
# history each of the V tokens has 1 / V.  Five of the six letters were seen and give 0.5
# each, 2.5 in all, of which each gets a sixth: p(q) = (3 - 0.5 + 2.5 / 6) / 8 = 0.365.


def show_kneser_ney():
    """What follows a in the toy text, with D = 0.5, by the class below."""
    ids = torch.tensor([TOY_LETTERS.index(letter) for letter in TOY])
    size = len(TOY_LETTERS)
    # One D for all counts, as in the text above; the class can have three.
    grams = KneserNey(ids, 2, size, discounts=[0.0, 0.5, 0.5, 0.5])
    print(f"\nThe other way on {TOY}: fall back, D = 0.5 (may be skipped)")
    counts = Counter(second for first, second in pairwise(TOY) if first == "a")
    history = chr(TOY_LETTERS.index("a"))
    for i, letter in enumerate(TOY_LETTERS):
        shorter = grams.probability("", chr(i))
        p = grams.probability(history, chr(i))
        kept = max(counts[letter] - 0.5, 0.0)
        told = f"({kept} + 1.0 * {shorter:.3f}) / 3 = {p:.3f}"
        print(f"  a{letter}: {counts[letter]} of 3   p = {told}")
    utils.say(
        "Reading it: e gets twice what u gets, although u is the more frequent: u came "
        "after q alone, e after two letters.  z, never seen, gets least."
    )


class KneserNey:
    """N-grams of one order that fall back as shown, in Chen and Goodman's form (1999).

    That takes three discounts: for counts of 1, of 2, and of 3 or more.  Tokens are
    written as one character each, so that an n-gram is a slice of a string.
    """

    def __init__(self, ids, order, tokens, discounts=None):
        self.tokens = tokens
        text = text_of_ids(ids)
        counts = [Counter(text[i : i + order] for i in range(len(text) - order + 1))]
        for _ in range(order - 1):
            # One token shorter.  A Counter, gone through, gives each n-gram once,
            # however often it came: this counts the kinds of token before what is left.
            counts.append(Counter(gram[1:] for gram in counts[-1]))
        self.levels = []  # the shortest history first
        for level in reversed(counts):
            taken_of = discounts or estimated(level)
            total = Counter()
            taken = Counter()
            for gram, count in level.items():
                total[gram[:-1]] += count
                taken[gram[:-1]] += taken_of[min(count, 3)]
            sums = {"total": total, "taken": taken}  # of each history, as above
            self.levels.append(Namespace(counts=level, discounts=taken_of, **sums))

    def probability(self, history, token):
        """p(token after history): two strings, `token` of one character."""
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


# --- 4.8 How good is it?  Second: the text itself -------------------------------------
#
# No figure tells whether a text is good.  But some help.  Do its words exist?  In "the
# duke's crapion" three of four are known words (s counts as one), crapion is not: 0.75.
# Are its lines as long as the author's?  Is it copied, letter by letter?
#
# And is it as surprising?  Call a token unlikely if the network gave it less than 0.01.
# At temperature 1 the network draws what it expects, so its own share of such tokens is
# what it promises, and the author's share shows whether the promise is right.  In the
# recorded run it promises 2.4 %, and the author has 3.0 %: a little too sure of itself,
# but 10,000 characters hardly settle such a difference.  Top-p cuts off just these, so it
# has hardly any.
#
# A piece of the real author says what to expect.

AUTHOR = "the author"


def judge_texts(model, corpus, args, written):
    """Print the figures of all texts.  Returns them, and the numbers behind them."""
    prompt = prompt_ids(corpus, args.prompt)
    known = what_is_known(corpus)
    short, long = lengths(corpus, args)
    # Through tokens: for words, its spaces are lost and put back, as ours are.
    author = tokenize(corpus.texts[1], corpus.level)[:long]
    rows = {}
    numbers = {}
    copies = {}
    for name in (*written, AUTHOR):
        if name == AUTHOR:
            read = corpus.ids[1][: long + 1]
            text = join(author, corpus.level)
            start = join(author[:short], corpus.level)
        else:
            ids = written[name][:long]
            read = torch.cat([prompt, torch.tensor(ids)])
            text = as_text(corpus, ids)
            start = as_text(corpus, ids[:short])
        row, number, copies[name] = quality(text, start, known)
        unlikely = (losses_of(model, read) > -math.log(0.01)).double()
        rows[name] = {"unlikely": unlikely.mean().item(), **row}
        numbers[name] = {"unlikely": len(read) - 1, **number}
    title = f"{corpus.source.label}: {long:,} tokens of each, or as many as there are"
    utils.print_table(title, rows, corner="way to draw")
    print(f"  {FLAGS}      {name_of_flags(args)} (the default is --temperature 0.8)")
    print(
        "  unlikely        share of tokens to which the network, at temperature 1, gives"
    )
    print("                  less than 0.01 (in the texts of others, too)")
    print("  known words     share of words that stand in training (don't is two)")
    most = f"{known.usual[0]} to {known.usual[-1]} characters"
    print(f"  usual lines     share of lines of {most}, as 8 of 10 in training")
    if known.speakers:
        print("  known speakers  share of names before a speech that stand there, too")
    print(f"  distinct runs   1: no three words in a row twice, in the first {short:,}")
    print(f"  copy            longest passage of training in the first {short:,}")
    # The ways of the network that do not go in circles.
    enough = 0.5 * rows[AUTHOR]["distinct runs"]
    fair = [name for name in WAYS if rows[name]["distinct runs"] >= enough]
    read_ways(rows, numbers, fair)
    print("The longest passages that stand in the training text, letter by letter:")
    longest = max(WAYS, key=lambda name: len(copies[name]))
    for name in dict.fromkeys((FLAGS, longest, rival_of(corpus), AUTHOR)):  # each once
        print(f"  {name:<17}{len(copies[name])} characters: {copies[name][:70]!r}")
    return rows, numbers


def luck(share, number, other, other_number):
    """By how much two shares, of `number` and `other_number` things, may differ by luck.

    A share p of n things moves by about sqrt(p (1 - p) / n), the difference of two by the
    root of both squares added.  Twice as much is seldom luck (unless things cluster).
    """
    # One more right and one more wrong: else a share of 1 would seem free of luck.
    right = share * number + other * other_number + 1
    p = right / (number + other_number + 2)
    square = p * (1 - p) / max(1, number) + p * (1 - p) / max(1, other_number)
    return 2 * math.sqrt(square)


FEW = 20  # a share of fewer things tells too little


def read_ways(rows, numbers, fair):
    """Print by column which ways are near to the author, and who is near in all."""
    utils.say(
        "Reading it: the last row is a piece of the author's own text, held out.  A way "
        "with few distinct runs says the same again and again: it is out.  Which of the "
        "others are near to the author, that is, no farther than luck may carry two texts?"
    )
    in_all = set(fair)  # those that are near in every column so far
    for column, number in numbers[AUTHOR].items():
        author = rows[AUTHOR][column]
        near = []
        distances = {}
        for name in fair:
            if min(number, numbers[name][column]) < FEW:
                continue
            # Near: the two shares lie no farther apart than luck may carry them.
            share = rows[name][column]
            distances[name] = abs(share - author)
            if distances[name] <= luck(share, numbers[name][column], author, number):
                near.append(name)
        if distances:
            in_all &= set(near)
            best = min(distances, key=distances.get)
            away = f"{distances[best]:.1%} away"
            print(f"  {column:<15} nearest {best}, {away};", end=" ")
            print(f"near: {', '.join(near) or 'none'}")
    print(f"Near in every line: {', '.join(sorted(in_all)) or 'none'}.")
    utils.say(
        "Lower the temperature, or cut, and words come right, but surprises go: top-k and "
        "top-p forbid just what is unlikely.  So lower it where words must be right, raise "
        "it where all sounds the same.  (Copies tend to grow as it falls: likely is what "
        "was often seen.)  Which knob?  Top-p keeps many tokens where the network is "
        "unsure and few where it is sure; a temperature treats all places alike.  So try "
        "top-p first; our default, temperature 0.8, is a habit.  Trust the table."
    )


# --- 4.9 Learned by heart -------------------------------------------------------------
#
# What does it look like when a model does copy?  Counting shows it in a moment, on a text
# that is much too short: the first four fifths of this file's docstring.  With D = 0.1
# (the discount of 4.7) nearly all is left to what was seen.  The longer the history, the
# better it can tell where in its text it is, and so what stands next.


def show_learned_by_heart():
    """2-, 4- and 10-grams of a short text: loss on it, loss on new text, longest copy."""
    ids, tokens = small_text()
    cut = len(ids) * 4 // 5  # the last fifth is the new text
    characters = utils.Vocabulary.build([__doc__], (utils.UNK,))
    rows = {}
    for order in (2, 4, 10):
        grams = KneserNey(ids[:cut], order, tokens, discounts=[0.0, 0.1, 0.1, 0.1])
        # It writes 300 characters: how long a passage of them stands in its text?
        ours = write_by_counting(grams, ids[:1], 300, seed=10)
        written = "".join(characters.decode(ours))
        row = {"own text": grams.losses(ids[:cut]).mean().item()}
        row["new text"] = grams.losses(ids[cut - 1 :]).mean().item()
        copy = longest_copy(one_space(written), one_space(__doc__[:cut]))
        row["copy"] = len(copy)
        rows[f"{order}-gram"] = row
    title = f"Learned by heart: {cut:,} characters, nats on them and on new text"
    utils.print_table(title, rows)
    print(f"  the last copy begins {copy[:50]!r}")
    utils.say(
        "Reading it: from 4 to 10 its own text surprises it less, new text more, and its "
        "copies grow.  So it is with a network: loss falls, val_loss rises, and it copies."
    )


# --- 4.10 Helpers: counting what was written (may be skipped) -------------------------


def lines_of(text):
    """Lines of verse or prose: no empty ones, no speakers, not the last, cut off."""
    lines = text.split("\n")[:-1]
    return [line for line in lines if line and not line.endswith(":")]


def speakers_of(text):
    """Who speaks, in a play: lines after an empty one that end with a colon."""
    return re.findall(r"\n\n([^\n]+):(?=\n)", text)


def what_is_known(corpus):
    """What the training text holds, to compare a written text with."""
    text = corpus.texts[0]
    words = set(re.findall(r"\w+", text))
    if corpus.level == "word":
        words = set()  # no other words can be written, so this need not be asked
    speakers = Counter(speakers_of(text))
    if speakers.total() < 5 * len(speakers):
        speakers.clear()  # this is no play: speakers come again and again
    sizes = sorted(len(line) for line in lines_of(text)) or [0]
    tenth = len(sizes) // 10
    usual = range(sizes[tenth], sizes[-1 - tenth] + 1)  # the middle eight tenths
    found = {"words": words, "speakers": set(speakers), "usual": usual}
    return Namespace(**found, text=one_space(text))


def quality(text, start, known):
    """Of one text: its figures, the number of things behind each, its longest copy.

    start: its first part, of which repeats and copies are asked.
    """
    # First for each thing whether it is right, then the share of those that are.
    right = {}
    if known.words:
        right["known words"] = [
            word in known.words for word in re.findall(r"\w+", text)
        ]
    right["usual lines"] = [len(line) in known.usual for line in lines_of(text)]
    if known.speakers:
        right["known speakers"] = [name in known.speakers for name in speakers_of(text)]
    numbers = {column: len(found) for column, found in right.items()}
    row = {}
    for column, found in right.items():
        row[column] = sum(found) / len(found) if found else "-"
    words = re.findall(r"\w+", start)
    # All runs of three words; those that come twice are counted once.
    threes = list(zip(words, words[1:], words[2:], strict=False))
    row["distinct runs"] = len(set(threes)) / max(1, len(threes))
    copy = longest_copy(one_space(start), known.text)
    row["copy"] = len(copy)
    return row, numbers, copy


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


def write_by_counting(grams, start, length, seed):
    """The rival writes as well: `length` ids after `start`, drawn from its p."""
    die = torch.Generator().manual_seed(seed)
    text = text_of_ids(start)
    for _ in range(length):
        chances = [0.0]  # <unk> cannot be written
        for i in range(1, grams.tokens):
            # It looks at its n - 1 last tokens; 10 are more than any order needs.
            chances.append(grams.probability(text[-10:], chr(i)))
        text += chr(torch.multinomial(torch.tensor(chances), 1, generator=die).item())
    return [ord(character) for character in text[len(start) :]]


# --- 4.11 The answer ------------------------------------------------------------------


def stretches_won(ours, theirs, length=1000):
    """(In how many stretches of the text ours are the lower losses, of how many)."""
    gains = [part.mean() > 0 for part in (theirs - ours).split(length)]
    return int(sum(gains)), len(gains)


def answer(corpus, ours, counted, late_saved, rows, numbers):
    """Can a network write?  By its surprise, by its text; and is it copied?"""
    best = min(counted, key=lambda name: counted[name].mean())
    nats = ours.mean().item()
    theirs = counted[best].mean().item()
    won, number = stretches_won(ours, counted[best])
    unit = UNIT[corpus.level]
    print("\nCan a network write?")
    utils.say(
        f"By its surprise: {nats:.4f} nats; the best that counting had here, the {best}, "
        f"has {theirs:.4f}.  In {won:,} of {number:,} stretches of 1,000 {unit} the network "
        "was the less surprised; if the two were equally good, it would be in about half."
    )
    rival = rival_of(corpus)
    print("By its text, at temperature 1: who is nearer to the author, if not by luck?")
    gaps = {}  # those columns in which the network is clearly nearer
    for column in list(numbers[AUTHOR])[1:]:  # the first is asked of the network alone
        if min(numbers[name][column] for name in (PLAIN, rival, AUTHOR)) < FEW:
            continue
        share = rows[PLAIN][column]
        other = rows[rival][column]
        author = rows[AUTHOR][column]
        gap = abs(share - other)
        most = luck(share, numbers[PLAIN][column], other, numbers[rival][column])
        verdict = "may be luck"
        if gap > most:
            nearer = abs(share - author) < abs(other - author)
            verdict = "the network" if nearer else f"the {rival}"
            if gap < 1.5 * most:
                verdict += ", narrowly"
            elif nearer:
                gaps[column] = gap
        things = f"{numbers[PLAIN][column]:,}"
        print(f"  {column:<15} network {share:.1%} of {things}", end=", ")
        print(f"{rival} {other:.1%}, author {author:.1%}, luck {most:.1%}: {verdict}")
    # Only temperature 1 is compared: the longest of seven texts would be longer by chance.
    copy = rows[PLAIN]["copy"]
    real = rows[AUTHOR]["copy"]
    verdict = "no longer, so no sign of copying"
    if copy > real:
        verdict = "longer; read above whether it is a set phrase"
    longest = max(WAYS, key=lambda name: rows[name]["copy"])
    utils.say(
        f"Copied?  At temperature 1 the longest passage from training has {copy} "
        f"characters, the author's own {real}: {verdict}.  Low temperatures copy more, "
        f"mostly set phrases: here at most {rows[longest]['copy']} ({longest})."
    )
    if nats >= theirs:
        print("So it has not learned enough here: more text, or more epochs.")
        return
    if "usual lines" in gaps:
        sees = ORDERS[corpus.level][-1] - 1
        farther = ""
        if late_saved is not None and late_saved < 0.001:
            farther = (
                "But what it read more than one window (T) ago helps it no more (nats by "
                "place, above).  A line fits into a window, a speech does not: one reason "
                "why what it writes says nothing."
            )
        utils.say(
            f"Why the lines?  The {rival} sees {sees} {unit}: it cannot know how far along "
            f"its line it is.  The network's state can.  {farther}"
        )
    told = "So by its surprise it knows more of what comes next than a model that only counts"
    if gaps:
        largest_first = sorted(gaps, key=gaps.get, reverse=True)
        told += f", and its text shows that: {', '.join(largest_first)}"
    utils.say(
        f"{told}.  It can write, in that it has the form.  Why does it say nothing?  Not "
        "because of its task, which large models share (end of this file): it is small and "
        "has read little."
    )


# --- Helpers (may be skipped) ---------------------------------------------------------


def name_of_flags(args):
    """The way to draw that the flags ask for, as they are written."""
    name = f"--temperature {args.temperature:g}"
    if args.top_k:
        name += f" --top-k {args.top_k}"
    if args.top_p < 1:
        name += f" --top-p {args.top_p:g}"
    return name


def knobs_of(name, args):
    """The temperature, top_k and top_p of one of the WAYS."""
    knobs = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    if name == FLAGS:
        knobs = {name: getattr(args, name) for name in knobs}
    return {**knobs, **WAYS[name]}


def draw_ways(model, corpus, args):
    """The picture: one distribution under each way to draw."""
    ids = prompt_ids(corpus, args.prompt).to(args.device)  # (T,)
    with torch.no_grad():
        scores, _ = model(ids.unsqueeze(0))  # (1, T, V)
    scores = scores[0, -1].float().cpu()  # (V,)
    top = scores.topk(min(14, len(scores))).indices
    names = [repr(token) for token in corpus.vocabulary.decode(top.tolist())]
    plt = utils.pyplot()
    figure, panels = plt.subplots(1, len(WAYS), figsize=(17, 3.8), sharey=True)
    for axes, name in zip(panels, WAYS, strict=True):
        p = next_distribution(scores, **knobs_of(name, args))
        axes.barh(range(len(top)), p[top])
        axes.set(title=name, xlabel="probability", xlim=(0, 1), xticks=(0, 0.5, 1))
    panels[0].set_yticks(range(len(top)), names, **utils.PLAIN)
    panels[0].set(ylabel="next token", ylim=(len(top) - 0.4, -0.6))
    utils.save_picture(figure, args, "next_token")
    print("  (Look from panel to panel: which tokens lose all, and which gain?)")


def save_metrics(model, corpus, records, nats, args):
    """Write metrics.json.  nats: by name, our two first."""
    rivals = dict(nats)  # a copy: what is no rival is taken out of it
    ours = rivals.pop(f"{args.cell} (this lesson)")
    reset = rivals.pop(f"{args.cell}, reset every 256")
    others = units(ours, corpus.level)
    metrics = {"val_loss": others.pop("nats"), "val_loss_reset256": reset}
    metrics["val_perplexity"] = others.pop("perplexity")
    metrics.update(others)  # bits_per_char
    about = (utils.count_parameters(model), records, len(corpus.ids[0]))
    unit = UNIT[corpus.level]
    utils.write_metrics(args, corpus.source, metrics, rivals, *about, unit)


# ====================================================================================
# An outlook: a recurrent network without a loop
# ====================================================================================
#
# One thing has been in the way since lesson 01: the loop.  LSTM and GRU go through a text
# step by step, since the gates of step t look at the state of step t - 1, which has to be
# there first.  Feng et al. (2024) asked what happens if they look at the input alone.  Of
# the GRU of lesson 06 remains
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
# each of which all places work at once: a scan.  A GPU gains by it, a CPU does not.
#
#     numbers                                   1  2  3  4
#     to each, add what stands 1 to the left    1  3  5  7
#     to each, add what stands 2 to the left    1  3  6  10      (of 1,024: ten rounds)


def show_scan():
    """Three steps by hand: in a loop, and as K times a running sum."""
    keep = [0.5, 0.8, 0.5]
    new = [1.0, 0.2, 0.6]
    h = 2.0
    product = 1.0
    total = h
    print("\nAn outlook: minGRU, a recurrent network without a loop")
    print("Three steps, h_0 = 2, in a loop and as K times a running sum:")
    for t in range(3):
        # In a loop: each state needs the one before.
        h = keep[t] * h + new[t]
        # As K times a sum: product is K_t, total is h_0 + new_1 / K_1 + ... + new_t / K_t.
        product *= keep[t]
        total += new[t] / product
        print(f"  step {t + 1}: keep {keep[t]}, new {new[t]}", end="   ")
        print(f"loop h = {h:.2f}   K = {product:.2f}", end=", ")
        print(f"running sum {total:.2f}, K * sum = {product * total:.2f}")


# One difficulty is left: K_t soon becomes too small for a computer's numbers.  So all
# is done with logarithms.  Products become sums, and torch.logcumsumexp(x) is
# log(cumsum(exp(x))), computed without ever leaving the logarithms.


def scan(log_keep, log_new, log_start):
    """All states h_t = keep_t h_(t-1) + new_t at once: (B, T, H).

    log_keep, log_new (B, T, H) and log_start (B, H): logarithms of keep, new and h_0.
    """
    # log K_t: a product is a sum of logarithms.
    log_products = log_keep.cumsum(dim=1)  # (B, T, H)
    # The logarithms of h_0 and of every new_t / K_t.
    parts = torch.cat([log_start.unsqueeze(1), log_new - log_products], dim=1)
    # log(h_0 + new_1 / K_1 + ...); the first entry, h_0 alone, is left out.
    log_sums = torch.logcumsumexp(parts, dim=1)[:, 1:]  # (B, T, H)
    # Times K_t again, and out of the logarithms.
    return (log_products + log_sums).exp()


def step_by_step(log_keep, log_new, log_start):
    """The same in a loop, as it is defined.  It takes logarithms only to be like scan."""
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
    # relu: where x < 0, log(x + 0.5) might be NaN, and its gradient would spoil all.
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
        self.all_states = None  # scan or step_by_step; None: by the device

    def forward(self, x, state=None):
        """x (B, T, E), state (L, B, H) -> the last layer's states (B, T, H), state."""
        if state is None:  # g(0) = 0.5: above 0, so that it has a logarithm
            state = x.new_full((len(self.gates), len(x), self.hidden_size), 0.5)
        # The results are the same; a CPU is faster in the loop.
        by_device = step_by_step if x.device.type == "cpu" else scan
        all_states = self.all_states or by_device
        last_states = []
        for layer, gate in enumerate(self.gates):
            if layer > 0:
                x = self.dropout(x)
            # Before sigmoid and g: (B, T, H) each.
            renew_score, candidate_score = gate(x).chunk(2, dim=-1)
            log_keep = F.logsigmoid(-renew_score)  # 1 - sigmoid(a) = sigmoid(-a)
            log_new = F.logsigmoid(renew_score) + log_g(candidate_score)
            # .float(): sums over many steps are too much for --precision bf16.
            log_start = state[layer].float().log()
            x = all_states(log_keep.float(), log_new.float(), log_start)
            last_states.append(x[:, -1])
        return x, torch.stack(last_states)


CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU, "mingru": MinGRU}


# Does it pay?  A scan computes more than the loop, and waits less: it needs a device that
# works at many places at once.  Feng and others report 175 times the speed of a GRU on a
# GPU, at T = 512.  On our CPU it loses: one layer of 64 units, T = 1,024, takes 0.10
# seconds in the loop and 0.13 by the scan, for a CPU makes a running sum in a loop too.
#
# What is given up?  A gate that cannot see the state cannot decide by what is remembered.
# What does that cost in nats?  --cell mingru, with as many weights as the LSTM, has 1.5627
# on held-out text, where the LSTM has 1.4349 and the 7-gram 1.5165 (16 epochs, seed 0).
# So here it loses to both.  With another learning rate or more layers it may do better;
# that was not tried.  Why know it then?  It is the idea behind what follows.

# --- Where research went --------------------------------------------------------------
#
#   Transformers (Vaswani et al., 2017) drop the state.  Attention, lesson 09, looks at
#   all earlier tokens at once, so training has no loop.  The price comes with writing:
#   each new token looks back at all the others.
#
#   When is a recurrent network still the right choice?  Where each new token must cost the
#   same, however long the text, with little memory: on a small device, in a stream.
#
#   State space models (S4, 2021; Mamba, 2023) keep the state and drop the loop, by
#   scans of this kind.  minGRU came after them: it asks how little is enough.
#
# Large models, on either road, read and write pieces of words.  They are trained on the
# task of this lesson, by this loss, and write by its loop, with temperature and top-p.
# They have read very much more, and are then tuned to answer what they are asked.


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
    # What is learned, and by which network:
    add("--level", choices=list(DEFAULTS), default="char", help="what a token is")
    add("--max-vocab", type=utils.whole(2), default=5000, help="of --level word")
    add("--cell", choices=list(CELLS), default="lstm", help="default lstm")
    add("--sequence-length", type=utils.whole(1, 100_000), help="T, steps of a window")
    # How it is drawn from what was learned:
    add("--temperature", type=utils.real(0, 100), default=0.8, help="0: greedy")
    add("--top-k", type=utils.whole(0), default=0, help="0: all")
    add("--top-p", type=utils.real(0, 1, above=True), default=1.0, help="1: all")
    add("--max-length", type=utils.whole(1, 1_000_000), default=500, help="in tokens")
    add("--prompt", default="", help="what the text begins with")
    add("--write-only", action="store_true", help="write one text, measure nothing")
    return parser


def plan_of_model(source, text, args):
    """(config, feeds) of a new model: how to build it, and how to feed it.

    Both are saved with the weights: a loaded network must read text as training did.
    """
    # The vocabulary is made of the training part alone.
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
        "sequence_length": args.sequence_length,
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
        args.sequence_length = feeds.get("sequence_length", args.sequence_length)
        print(f"It was trained on {feeds['dataset']}")
    else:
        config, feeds = plan_of_model(source, text, args)
        model = new_model(config, args)
    if source.name == "code" and not args.prompt:
        args.prompt = "def "  # a function
    corpus = load_corpus(source, text, args.level, feeds["vocabulary"], args)
    if not args.write_only:
        show_streams()
    show_data(corpus, args)
    if (prompt_ids(corpus, args.prompt) == 0).any():
        print(f"--prompt holds tokens that training never saw; read as {utils.UNK}")

    # 2. The model: its loss, and how it writes before it has learned anything.
    if not args.write_only:
        show_units()
    show_size(model, config)
    if not args.eval_only:
        show_untrained(model, corpus, args)

    # 3. Training: one window after the other, the state carried, the gradient cut.
    records = []
    if not args.eval_only:
        show_truncated_steps()
        show_without_detach()
        records = train_model(model, config, corpus, args, feeds)

    # 4. Evaluation.  How a token may be drawn, and what each way writes.
    if args.write_only:
        show_text(corpus, args, write(model, corpus, args, args.max_length))
        return
    show_drawing()
    show_trained_steps(model, corpus, args)
    written = show_ways(model, corpus, args)
    # The rival, which counts, writes as much.
    order = ORDERS[args.level][-1]
    grams = KneserNey(corpus.ids[0], order, len(corpus.vocabulary))
    start = prompt_ids(corpus, args.prompt)
    length = lengths(corpus, args)[1]
    written[rival_of(corpus)] = write_by_counting(grams, start, length, args.seed)
    show_texts(corpus, args, written)

    # How surprised is it?  Are its rivals less surprised?
    show_plus_one()
    show_kneser_ney()
    ours, counted, nats, late_saved = show_losses(model, corpus, args, grams)
    save_metrics(model, corpus, records, nats, args)

    # Is the text good, and is it its own?
    rows, numbers = judge_texts(model, corpus, args, written)
    show_learned_by_heart()
    answer(corpus, ours, counted, late_saved, rows, numbers)

    # An outlook: a recurrent network without a loop.
    show_scan()
    print("\nWhere to go from here: the end of this file, and docs/reading.md.")


if __name__ == "__main__":
    sys.exit(utils.run(main))
