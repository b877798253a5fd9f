"""08 · How does one sequence become another?

Until now a network answered with one label, or with one tag for each word.  To
translate, it has to *write*: an answer as long as it pleases, whose words do not stand
under those of the question.  The oldest idea that works takes two networks.  The first,
the encoder, reads the question and keeps what it has understood in its state.  The
second, the decoder, starts from that state and writes the answer, word by word, until
it writes "the end".

What you will learn
    - encoder and decoder, and which state is handed over when questions are padded
    - how a network that writes is trained: teacher forcing, and the shift by one
    - how it writes: one word at a time, each chosen by the words before it (greedy)
    - why the best first word can lead to the worse sentence, and what beam search does
    - how a translation is scored (BLEU), counted by hand
    - where one state is too small for what it must hold: lesson 09 mends that

You need lessons 04 (state, softmax, `fit`), 05 (LSTM, dropout) and 01 (packing).

Run it
    python 08_seq2seq_basic.py                        reverse digits: 3 1 4 -> 4 1 3
    python 08_seq2seq_basic.py --predict 31415
    python 08_seq2seq_basic.py --task translate --predict "a man in a red shirt"
    python 08_seq2seq_basic.py --input pairs.tsv      your own pairs, a tab between them

You should see  (reverse [sample], seed 0, two threads, about a minute in all)
      model          exact_match   token_accuracy     log_p
      lstm, greedy        0.9974           0.9990   -0.0020
      lstm, beam 5        0.9979           0.9994   -0.0019
      copy                0.0057           0.1547         -
      chance              0.0000           0.1000         -
    exact_match: the share of answers that are right from the first digit to the last;
    token_accuracy: the share of digits that are right in their place; log_p: how sure
    the network was of its answers (section 4).  "copy" writes the question again,
    "chance" draws digits.  Of sequences 1, 3 and 6 digits longer than any in training,
    0.9350, 0.5500 and 0.0650 are exact: what was learned ends with the lengths seen.
    --task translate  (multi30k [real], eight minutes): BLEU 17.5 greedy, 17.9 by beam
    search; a dictionary, word for word, has 17.4.

Try this  (guess first, then run)
    --hidden-size 32            how many digits fit into 64 numbers, h and c?
    --max-length 16             and how many into the default's state?
    --reverse-source            reversing is then copying: easier or harder?
    --teacher-forcing 0.5       half of the batches feed the decoder its own words
    --task translate --reverse-source   the trick of Sutskever et al. (2014)
"""

# Sizes
#     B  batch (pairs)        T  time (words of the batch's longest row)
#     E  embedding            H  hidden state          L  layers
#     V  vocabulary           N  pairs of one part     K  beam size
#     M  real words of a batch: padding is none

import math
import sys
import zlib
from collections import Counter
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

import rnn_utils as utils

# Four words that are in no text, with the same ids in both vocabularies:
PAD = utils.PAD_ID  # 0 <pad>  fills rows up, so that a batch is a rectangle
UNK = utils.UNK_ID  # 1 <unk>  stands for a word that training did not have
BOS = utils.BOS_ID  # 2 <bos>  "beginning of sequence": what the decoder is given first
EOS = utils.EOS_ID  # 3 <eos>  "end of sequence": what it writes when it has finished

# ====================================================================================
# 1. Data
# ====================================================================================
#
# A pair is a source (what is read) and a target (what should be written).  This lesson
# has two tasks.
#
#   reverse     The source is some digits, the target the same digits backwards.  We
#               make them up, so there is no end of them, every answer is simply right
#               or wrong, and a minute is enough.  Easy?  The first digit to be written
#               is the last that was read, and the last to be written the first that was
#               read: everything has to be in the state when the reading ends.
#   translate   English captions of photographs and their French translations
#               (Multi30k, 29,000 pairs).  For patient readers, and for comparison with
#               lesson 09, which does the same with attention.

SHORTEST = 3  # digits of a source; the longest have --max-length
BEYOND = 6  # sources so many digits longer than in training are tried at the end


def draw_pairs(lengths, generator):
    """Different pairs like ("3 1 4", "4 1 3"), one for each of `lengths`, or fewer."""
    digits = torch.randint(10, (len(lengths), max(lengths)), generator=generator)
    pairs = {}
    for row, length in zip(digits.tolist(), lengths, strict=True):
        text = " ".join(str(digit) for digit in row[:length])
        pairs[text] = text[::-1]  # "3 1 4" backwards is "4 1 3"
    return list(pairs.items())


def make_digits(args):
    """Training, validation and test: lists of pairs.

    The digits alone decide which part a pair goes to, so no test source was seen in
    training, whatever --seed and --max-length are.
    """
    if not SHORTEST < args.max_length <= 100:
        raise utils.UserError("--max-length is 4 to 100 with --task reverse")
    count = 2_000 if args.quick else 44_000
    generator = torch.Generator().manual_seed(8)  # not --seed: the data stay the same
    lengths = torch.randint(
        SHORTEST, args.max_length + 1, (count,), generator=generator
    )
    train = []
    val = []
    test = []
    for source, target in draw_pairs(lengths.tolist(), generator):
        # A checksum of the digits, 0 ... 19: a twentieth each to test and validation.
        number = zlib.crc32(source.encode()) % 20
        if number == 0:
            test.append((source, target))
        elif number == 1:
            val.append((source, target))
        else:
            train.append((source, target))
    return [
        utils.capped(args, train, 960),
        utils.capped(args, val, 60),
        utils.capped(args, test, 60),
    ]


def choose_pairs(args):
    """(Source, [training, validation, test]); a pair is (source, target), two texts."""
    if args.task == "reverse":
        if args.input or args.dataset != "auto":
            raise utils.UserError("--task reverse makes its own data; drop --task")
        return utils.Source("reverse", None, real=False), make_digits(args)
    offline = {"sample": utils.SAMPLES / "en-fr.tsv"}
    source = utils.choose_dataset(args, ["multi30k"], offline)
    return source, utils.load_pairs(args, source)


class Pairs(NamedTuple):
    """All that this lesson knows of its data."""

    source: utils.Source  # which data set, and whether it is real
    parts: list  # training, validation, test: lists of (source, target)
    vocabularies: list  # of sources, of targets: words of training alone
    train: utils.Batches  # the three parts as batches of tensors
    val: utils.Batches
    test: utils.Batches


def load_data(source, parts, feeds, args):
    """The parts as batches of tensors, in the words that `feeds` lists."""
    vocabularies = [
        utils.Vocabulary(feeds["source_words"]),
        utils.Vocabulary(feeds["target_words"]),
    ]
    batches = []
    for k, part in enumerate(parts):
        tensors = utils.encode_pairs(part, vocabularies, args.max_length)
        size = args.batch_size if k == 0 else 64
        # Sources of similar length share a batch, so that little of it is padding.
        batches.append(
            utils.Batches(tensors, size, args.device, shuffle=k == 0, bucket="source")
        )
    return Pairs(source, parts, vocabularies, *batches)


def shift(target):
    """What the decoder is given at each step, (B, T): <bos>, then all but the last.

    target 4 1 3 <eos> -> given <bos> 4 1 3: each word is to be written when those
    before it are known.
    """
    return F.pad(target[:, :-1], (1, 0), value=BOS)


def show_one_pair(data):
    """Print one training pair on its way to the tensors, and the shift by one."""
    source, target = min(data.parts[0], key=lambda pair: len(pair[0]))
    longer = max(data.parts[0][:50], key=lambda pair: len(pair[0]))
    pairs = [(source, target), longer]
    tensors = utils.encode_pairs(pairs, data.vocabularies, max_length=50)
    ids = tensors["target"][:1, : tensors["target_length"][0]]  # (1, T)
    target_words = data.vocabularies[1]
    print(
        "\nOne pair on its way to the network (and, beside it in the batch, a longer):"
    )
    print(f"  source        {source}")
    print(f"  as ids        {tensors['source'][0].tolist()}, filled up with 0, <pad>")
    print(f"  its length    {tensors['source_length'][0]}")
    print(
        "The target, shifted by one: what the decoder is given, what it should write."
    )
    print(f"  given         {' '.join(target_words.decode(shift(ids)[0].tolist()))}")
    print(f"  should write  {' '.join(target_words.decode(ids[0].tolist()))}")
    print("Reading it: column by column.  Given <bos> it should write the first word,")
    print("given the first word the second, and after the last one <eos>: the end.")


# ====================================================================================
# 2. Model
# ====================================================================================
#
# Two networks, and between them one state (Sutskever et al., 2014):
#
#        encoder                                     decoder
#                                          4        1        3      <eos>
#                                          ^        ^        ^        ^
#     +---+    +---+    +---+   state   +---+    +---+    +---+    +---+
#  0->|   |--->|   |--->|   |==========>|   |--->|   |--->|   |--->|   |
#     +---+    +---+    +---+  (h, c)   +---+    +---+    +---+    +---+
#       ^        ^        ^               ^        ^        ^        ^
#       3        1        4             <bos>      4        1        3
#
# Both are recurrent networks of the kind that you know; they have weights of their own.
# The encoder's answers are thrown away: only its last state counts.  It is the
# decoder's first state.  Whatever the decoder is to know of the source must be in it:
# H numbers of h, and for an LSTM H more of its memory c, for three digits and for thirty
# words alike.
#
# What does the decoder compute?  At each step, a probability for every word that could
# come next, given the words before it and the state.  The probability of a whole answer
# is then the product over its words (the chain rule of probabilities):
#
#     p(4 1 3 <eos>) = p(4) * p(1 after 4) * p(3 after 4 1) * p(<eos> after 4 1 3)
#
# Products of many probabilities become too small for a computer's numbers, so one adds
# their logarithms instead.  Minus that sum, divided by the number of words, is the loss:
# the cross-entropy of lesson 04, once for each word.


def show_chain_rule():
    """Print the probability of one answer, its log, the loss, and the perplexity."""
    # Each is the probability of the word after the words before it.
    chances = {"4": 0.9, "1": 0.5, "3": 0.8, "<eos>": 1.0}
    print("\nThe probability of an answer, with made-up probabilities of its words:")
    product = 1.0
    total = 0.0
    for word, p in chances.items():
        product *= p
        total += math.log(p)
        print(
            f"  {word:<6} p {p:.1f}   log p {math.log(p):+.3f}   "
            f"product so far {product:.2f}   sum so far {total:+.3f}"
        )
    loss = -total / len(chances)
    print(f"  loss: {-total:.3f} / {len(chances)} words = {loss:.3f};", end=" ")
    print(f"e to the power of it is the perplexity, {math.exp(loss):.2f}:")
    print("  as unsure, on average, as if it drew from so many equally likely words.")


CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Seq2Seq(nn.Module):
    """An encoder and a decoder.  A state is a tuple: (h,), or (h, c) of an LSTM.

    Each part of it is (B, L, H), the batch first.
    """

    def __init__(
        self,
        source_words,
        target_words,
        embedding,
        cell,
        hidden,
        layers=1,
        dropout=0.0,
        reverse_source=False,
    ):
        super().__init__()
        self.cell = cell
        self.reverse_source = reverse_source
        between = dropout if layers > 1 else 0.0
        options = {"batch_first": True, "dropout": between}
        self.embed_source = nn.Embedding(source_words, embedding, padding_idx=PAD)
        self.encoder = CELLS[cell](embedding, hidden, layers, **options)
        self.embed_target = nn.Embedding(target_words, embedding, padding_idx=PAD)
        self.decoder = CELLS[cell](embedding, hidden, layers, **options)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, target_words)

    def encode(self, source, lengths):
        """source (B, T), lengths (B,) on the CPU -> the state after each last word."""
        if self.reverse_source:
            # The first words of both sentences come close together, so their gradient
            # has a short way to go: so Sutskever et al. explain what they gained by it.
            source = utils.reverse_padded(source, lengths)
        x = self.dropout(self.embed_source(source))  # (B, T, E)
        # Without packing, the state of a short source would be the one after its
        # padding.  Packed (lesson 01), the layer stops at each source's last word.
        packed = pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        _, state = self.encoder(packed)  # h (L, B, H), or (h, c)
        return self.batch_first(state)

    def decode(self, words, state):
        """words (B, T) and the state before them -> scores (B, T, V), the new state.

        The scores at step t are for the word that comes after words[:, t].
        """
        x = self.dropout(self.embed_target(words))  # (B, T, E)
        y, state = self.decoder(x, self.layers_first(state))  # y: (B, T, H)
        return self.output(self.dropout(y)), self.batch_first(state)

    def teacher_forced(self, state, target):
        """Scores (B, T, V) of target (B, T), the true words given before each one.

        All that is given is known beforehand, so one call computes every step.
        """
        scores, _ = self.decode(shift(target), state)
        return scores

    def free_running(self, state, steps):
        """Scores (B, steps, V), the decoder given its own likeliest word each time.

        As when it writes: each word has to be waited for, so it takes one call a word.
        """
        batch = len(state[0])
        word = torch.full((batch, 1), BOS, device=state[0].device)
        found = []
        for _ in range(steps):
            scores, state = self.decode(word, state)  # (B, 1, V)
            found.append(scores)
            word = scores.argmax(-1)  # (B, 1); no gradient goes through a choice
        return torch.cat(found, dim=1)

    def forward(self, source, lengths, target, forced=True):
        """Scores (B, T, V) for every word of target (B, T), which ends in <eos>."""
        state = self.encode(source, lengths)
        if forced:
            return self.teacher_forced(state, target)
        return self.free_running(state, target.shape[1])

    def batch_first(self, state):
        """PyTorch's state, h (L, B, H) or (h, c) -> a tuple of (B, L, H)."""
        parts = state if isinstance(state, tuple) else (state,)
        return tuple(part.transpose(0, 1) for part in parts)

    def layers_first(self, state):
        """The other way round: a tuple of (B, L, H) -> what PyTorch's layers take."""
        parts = tuple(part.transpose(0, 1).contiguous() for part in state)
        return parts if self.cell == "lstm" else parts[0]


def toy_model():
    """A small untrained network, and two sources of unequal length, in 64-bit numbers."""
    torch.manual_seed(8)
    model = Seq2Seq(9, 8, embedding=4, cell="lstm", hidden=5).double().eval()
    source, lengths = utils.pad([[4, 5, 6, 7], [8, 4]])  # (2, 4), (2,)
    return model, source, lengths


@torch.no_grad()
def show_states_and_forcing():
    """Print that padding changes no state, and that one call is as good as many."""
    model, source, lengths = toy_model()
    together = model.encode(source, lengths)  # h and c, (2, 1, 5) each
    alone = model.encode(source[1:, :2], lengths[1:])
    gap = (together[0][1] - alone[0][0]).abs().max()
    print("\nThe state that is handed over, of a short source beside a longer one and")
    print(
        f"alone: h {tuple(together[0].shape)}, {gap:.0e} apart.  Packing leaves out",
        end="",
    )
    print(" the padding.")

    target = torch.tensor([[4, 5, 6, EOS], [7, EOS, PAD, PAD]])  # (2, 4)
    at_once = model.teacher_forced(together, target)  # (2, 4, 8)
    state = together
    steps = []
    for t in range(target.shape[1]):
        scores, state = model.decode(shift(target)[:, t : t + 1], state)  # (2, 1, 8)
        steps.append(scores)
    gap = (at_once - torch.cat(steps, dim=1)).abs().max()
    print("Teacher forcing in one call, and word by word with the true words given:")
    print(
        f"scores {tuple(at_once.shape)}, {gap:.0e} apart.  One call is the same, and fast."
    )


# ====================================================================================
# 3. Training
# ====================================================================================
#
# In training the true answer is known.  So the decoder is given the true words, not
# those that it would have written itself: that is teacher forcing, as a teacher puts a
# pupil right at every word, so that one slip does not spoil all that follows.  It also
# makes training fast: all steps in one call.
#
# It has a price.  When it writes, the network is given its own words, and after a
# mistake it is in a place where it never was in training.  `--teacher-forcing 0.5` lets
# half of the batches run free, so that it meets its own mistakes (Bengio et al., 2015,
# call it scheduled sampling; they toss a coin for each word, we toss one for each batch).
#
# The loss counts real words alone.  A target that is filled up with <pad> would else
# teach the network to write padding, which is very easy and quite useless, and the mean
# loss would look better the more padding there is.


def make_measure(forcing):
    """The function `measure` for `fit`: loss and accuracy of each real word, (M,) each.

    forcing: the share of training batches in which the true words are given.
    """

    def measure(model, batch):
        forced = True  # in validation always: perplexity is about the true words
        if model.training and forcing < 1:
            forced = torch.rand(()).item() < forcing
        scores = model(
            batch["source"], batch["source_length"], batch["target"], forced
        )  # (B, T, V)
        real = batch["target"] != PAD  # (B, T)
        scores = scores[real].float()  # (M, V)
        target = batch["target"][real]  # (M,)
        return {
            "loss": F.cross_entropy(scores, target, reduction="none"),  # (M,)
            "accuracy": scores.argmax(1) == target,  # (M,)
        }

    return measure


def train_model(config, data, args, feeds):
    """A new model from --seed, trained: (model, records)."""
    utils.set_seed(args.seed)
    model = Seq2Seq(**config).to(args.device)
    measure = make_measure(args.teacher_forcing)
    records = utils.fit(model, measure, data.train, data.val, args, config, feeds)
    return model, records


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# Training asked: how likely is each true word after the true ones?  Writing asks: which
# answer is the likeliest of all?  There are V words for each place, so V to the power of
# T answers of T words: nobody can try them all.
#
# Greedy search takes the likeliest word, gives it to the decoder, takes the likeliest
# next word, and so on until <eos>.  It never goes back.  That is fast, and it can lose:
#
#                     +-- cat  0.35     the cat   0.6 * 0.35 = 0.21   <- greedy
#          the 0.6 ---+-- dog  0.34     the dog   0.6 * 0.34 = 0.20
#         /           +-- bird 0.31     the bird  0.6 * 0.31 = 0.19
#    start
#         \           +-- bird 0.90     a bird    0.4 * 0.90 = 0.36   <- the likeliest
#          a   0.4 ---+-- cat  0.05     a cat     0.4 * 0.05 = 0.02
#                     +-- dog  0.05     a dog     0.4 * 0.05 = 0.02
#
# "the" is the likelier first word, but after it the network is unsure.  Greedy search
# took "the" and cannot take it back.
#
# Beam search keeps the K best beginnings instead of one.  Every step extends each of
# them by every word, and keeps the K best of all these.  K is the beam size; with K = 1
# it is greedy search.  It finds "a bird" with K = 2.
#
# Best by what?  By the log probability, but each further word makes the sum of logs
# smaller, so short answers would win.  So beginnings of different lengths are compared
# by their mean log probability for a word, <eos> counted: `log_p` in all that follows.

TREE_WORDS = ["<pad>", "<unk>", "<bos>", "<eos>", "the", "a", "cat", "dog", "bird"]
TREE = {  # after which word comes which, with what probability: made up
    "<bos>": {"the": 0.6, "a": 0.4},
    "the": {"cat": 0.35, "dog": 0.34, "bird": 0.31},
    "a": {"cat": 0.05, "dog": 0.05, "bird": 0.9},
    "cat": {"<eos>": 1.0},
    "dog": {"<eos>": 1.0},
    "bird": {"<eos>": 1.0},
}


class Beginning(NamedTuple):
    """An answer as far as it is written."""

    words: list  # ids
    total: float  # the sum of their log probabilities
    state: object  # the decoder's state after them
    ended: bool  # whether its last word is <eos>, or it is as long as it may be

    @property
    def log_p(self):
        """The mean log probability of its words."""
        return self.total / max(1, len(self.words))


def beam_search_by_hand(advance, state, limit, beam_size, show=None):
    """The best answer to one source, on plain lists: a Beginning.

    advance(word, state) -> (log p of every next word, a list; the new state).
    limit: most words, <eos> included.  show: called with the K best after each step.
    """
    best = [Beginning([], 0.0, state, ended=False)]
    while not all(beginning.ended for beginning in best):
        candidates = []
        for beginning in best:
            # One that has ended stays as it is, and competes with the others.
            if beginning.ended:
                candidates.append(beginning)
                continue
            last = beginning.words[-1] if beginning.words else BOS
            log_p, state = advance(last, beginning.state)
            # Extend it by every word that one could write.
            for word in range(EOS, len(log_p)):  # <eos> and all real words
                words = [*beginning.words, word]
                total = beginning.total + log_p[word]
                ended = word == EOS or len(words) == limit
                candidates.append(Beginning(words, total, state, ended))
        # Keep the K best of all.
        candidates.sort(key=lambda beginning: beginning.log_p, reverse=True)
        best = candidates[:beam_size]
        if show:
            show(best)
    return best[0]


def show_greedy_loses():
    """Search the tree above with K = 1 and 2, by hand and by utils.beam_search."""
    log_p = torch.full((len(TREE_WORDS), len(TREE_WORDS)), -math.inf)  # (V, V)
    for word, following in TREE.items():
        for other, p in following.items():
            log_p[TREE_WORDS.index(word), TREE_WORDS.index(other)] = math.log(p)

    def advance_one(word, state):
        return log_p[word].tolist(), state  # the tree needs no state

    def advance_rows(words, state):
        return log_p[words], state  # (R, V): the same for many rows at once

    def show(best):
        shown = []
        for beginning in best:
            if beginning.total > -math.inf:
                text = " ".join(TREE_WORDS[i] for i in beginning.words)
                shown.append(f"{text} ({math.exp(beginning.total):.2f})")
        print(f"    keeps  {'   '.join(shown)}")

    print("\nThe tree of section 4, searched.  In brackets the probability so far.")
    for beam_size in (1, 2):
        name = "greedy (K = 1)" if beam_size == 1 else f"beam search, K = {beam_size}"
        print(f"  {name}")
        best = beam_search_by_hand(advance_one, None, 4, beam_size, show)
        # The shared one, for a batch: here of one source, whose state is one zero.
        (ids, value), *_ = utils.beam_search(
            advance_rows, (torch.zeros(1, 1),), torch.tensor([4]), beam_size
        )
        same = ids == best.words[:-1] and abs(value - best.log_p) < 1e-6
        print(f"    utils.beam_search finds the same answer and log_p: {same}")


# The shared `utils.beam_search` does the same for a whole batch, in tensors: the K
# beginnings of each source are K rows, one below the other.  K 3, B 2: the rows belong
# to the sources 0 0 0 1 1 1.  One call of the decoder then extends all rows of all
# sources at once.  Lesson 09 uses it too.


def make_advance(model):
    """The decoder's step for `utils.beam_search`: words (R,), state -> log p (R, V)."""

    def advance(words, state):
        scores, state = model.decode(words.unsqueeze(1), state)  # (R, 1, V)
        return scores[:, 0].float().log_softmax(1), state

    return advance


@torch.no_grad()
def show_beam_on_one_source(model, data, args):
    """Print the K beginnings at each step of one test source, by hand; and compare."""
    text = min(data.parts[2], key=lambda pair: len(pair[0]))[0]
    words = data.vocabularies[1]
    source, lengths = utils.pad([data.vocabularies[0].encode(utils.split_pair(text))])
    state = model.encode(source.to(args.device), lengths)
    advance_rows = make_advance(model)
    limit = min(args.max_length, 8) + 1  # a few steps are enough to see it

    # The by-hand search asks about one word at a time: a batch of one row.

    def advance_one(word, state):
        log_p, state = advance_rows(torch.tensor([word], device=args.device), state)
        return log_p[0].tolist(), state

    def show(best):
        shown = [" ".join(words.decode(one.words)) for one in best]
        figures = [f"{one.log_p:.3f}" for one in best]
        for k in range(len(best)):
            print(f"    {figures[k]:>8}  {shown[k]}")
        print()

    print(f'\nBeam search, K = 3, on one test source: "{text}".  After each step the')
    print("three best beginnings, each with its log_p:")
    best = beam_search_by_hand(advance_one, state, limit, 3, show)
    limits = torch.tensor([limit], device=args.device)
    ((_, log_p),) = utils.beam_search(advance_rows, state, limits, 3)
    print(f"  utils.beam_search: log_p {abs(log_p - best.log_p):.0e} apart.")


@torch.no_grad()
def answer(model, data, texts, beam_size, args, limit=None):
    """N texts -> (N answers, N log_p): what the network writes, by beam search."""
    limit = limit or args.max_length
    pairs = [(text, "") for text in texts]  # no target: it is what we ask for
    tensors = utils.encode_pairs(pairs, data.vocabularies, limit)
    # K rows for each source: with larger K, fewer sources at a time.
    size = max(1, 640 // beam_size)
    batches = utils.Batches(tensors, size, args.device, bucket="source")
    model.eval()
    answers = [None] * len(texts)
    log_ps = [None] * len(texts)
    for batch in batches:
        state = model.encode(batch["source"], batch["source_length"])
        limits = torch.full((len(batch["index"]),), limit + 1, device=args.device)
        found = utils.beam_search(make_advance(model), state, limits, beam_size)
        # A batch has rows from all over the data: put each answer in its own place.
        for place, (ids, log_p) in zip(batch["index"].tolist(), found, strict=True):
            answers[place] = utils.join_words(data.vocabularies[1].decode(ids))
            log_ps[place] = log_p
    return answers, log_ps


# How good is a translation?  There are many right ones, and one reference to compare
# with.  BLEU (Papineni et al., 2002) counts how many runs of 1, 2, 3 and 4 words of the
# answer stand in the reference too.  Each run of the reference may be used once only:
# "the the the" is not right three times.  The four shares are multiplied and the fourth
# root is taken (their geometric mean).  Short answers would have an easy life, so if the
# answers are shorter than the references, the result is multiplied by a brevity penalty
# below 1.  In the end it is times 100.  It is a score for a whole test set, not for one
# sentence: there it jumps.


def runs(words, length):
    """How often each run of `length` words stands in a list of words: a Counter."""
    found = Counter()
    for start in range(len(words) - length + 1):
        found[tuple(words[start : start + length])] += 1
    return found


def show_bleu():
    """BLEU of one sentence by counting, and by sacrebleu."""
    truth = "a man in a red shirt walks down the street ."
    said = "a man in a shirt walks down the street ."
    wanted = truth.split()
    written = said.split()
    print("\nBLEU of one sentence, by counting")
    print(f"  reference  {truth}")
    print(f"  answer     {said}")
    product = 1.0
    for length in (1, 2, 3, 4):
        ours = runs(written, length)
        theirs = runs(wanted, length)
        # Of each run, as often as both have it: `&` takes the smaller count.
        matches = sum((ours & theirs).values())
        total = sum(ours.values())
        product *= matches / total
        print(f"  runs of {length}: {matches} of {total} stand in the reference")
    # The answer has 10 words, the reference 11: a little too short.
    brevity = min(1.0, math.exp(1 - len(wanted) / len(written)))
    bleu = 100 * brevity * product**0.25
    print(f"  brevity e^(1 - {len(wanted)}/{len(written)}) = {brevity:.3f}")
    print(f"  BLEU 100 * {brevity:.3f} * ({product:.3f})^(1/4) = {bleu:.2f}", end="; ")
    print(f"sacrebleu: {utils.bleu_scores([said], [truth])['bleu']:.2f}")


def score(task, answers, truth):
    """Answers and true targets, N texts each -> {measure: value}."""
    exact = 0
    right = 0
    places = 0
    for said, wanted in zip(answers, truth, strict=True):
        words = utils.split_pair(said)
        goal = utils.split_pair(wanted)
        exact += words == goal
        # Word by word, each in its place; a missing or surplus word is wrong.
        right += sum(a == b for a, b in zip(words, goal, strict=False))
        places += max(len(words), len(goal))
    found = {"exact_match": exact / len(truth)}
    if task == "translate":
        bleu = utils.bleu_scores(answers, truth)
        return {"bleu": bleu["bleu"], "bleu_13a": bleu["bleu_13a"], **found}
    return {**found, "token_accuracy": right / places}


def baselines(task, train, test):
    """What a sceptic asks for, on test: name -> (answers or None, scores)."""
    asked = [source for source, _ in test]
    truth = [target for _, target in test]
    if task == "translate":
        made = utils.pair_baselines(train, test)
        return {name: (said, score(task, said, truth)) for name, said in made.items()}
    # Chance is told how many digits there are, and draws each: 1 in 10 is right.
    luck = sum(0.1 ** len(text.split()) for text in truth) / len(truth)
    chance = {"exact_match": luck, "token_accuracy": 0.1}
    return {"copy": (asked, score(task, asked, truth)), "chance": (None, chance)}


def show_answers(data, found, count=6):
    """Print test sources with their true targets and what each search wrote."""
    pairs = data.parts[2]
    print(f"\n{data.source.label}: test pairs and what was written")
    step = max(1, len(pairs) // count)
    for place in range(0, len(pairs), step)[:count]:
        source, target = pairs[place]
        print(f"  source     {source}")
        print(f"  reference  {target}")
        for name, (answers, _) in found.items():
            same = utils.split_pair(answers[place]) == utils.split_pair(target)
            print(f"  {name:<10} {answers[place]}  {'✔' if same else '✘'}")
        print()


def searches(args):
    """The searches to show: name -> beam size."""
    found = {"greedy": 1}
    if args.beam_size > 1:
        found[f"beam {args.beam_size}"] = args.beam_size
    return found


def report(model, records, data, args):
    """Answers to the test sources, the table, what it means, and metrics.json."""
    asked = [source for source, _ in data.parts[2]]
    truth = [target for _, target in data.parts[2]]
    rows = {}
    found = {}
    metrics = {}
    for name, beam_size in searches(args).items():
        answers, log_ps = answer(model, data, asked, beam_size, args)
        found[name] = (answers, log_ps)
        scores = score(args.task, answers, truth)
        scores["log_p"] = sum(log_ps) / len(log_ps)
        rows[f"{args.cell}, {name}"] = scores
        ending = "_beam" if beam_size > 1 else ""
        for key, value in scores.items():
            metrics[f"test_{key}{ending}"] = value
    loss = utils.evaluate(model, make_measure(1.0), data.test, args)["loss"]
    metrics["test_perplexity"] = math.exp(min(loss, 700))
    others = baselines(args.task, data.parts[0], data.parts[2])
    for name, (_, scores) in others.items():
        rows[name] = scores
    show_answers(data, found)
    utils.print_table(f"{data.source.label}: test, {len(asked):,} pairs", rows)
    explain(data, rows, found, others, metrics["test_perplexity"], args)
    first = next(iter(rows[f"{args.cell}, greedy"]))  # exact_match or bleu
    known = {name: scores[first] for name, (_, scores) in others.items()}
    words = int(data.train.lengths["target_length"].sum())
    size = utils.count_parameters(model)
    utils.write_metrics(
        args, data.source, metrics, known, size, records, words, "target words"
    )
    return found["greedy"][0]


def explain(data, rows, found, others, perplexity, args):
    """What the table says, and the answer to the title."""
    truth = [target for _, target in data.parts[2]]
    print(f"Perplexity of the true words, each given those before it: {perplexity:.4f}")
    print(
        "(1 would be sure of each).  log_p: the mean log probability of the words that"
    )
    print("it wrote; both searches try to raise it.")
    if len(found) > 1:
        (_, low), (_, high) = found.values()
        more = sum(b > a + 1e-5 for a, b in zip(low, high, strict=True))
        less = sum(b < a - 1e-5 for a, b in zip(low, high, strict=True))
        print(f"Beam search found a likelier answer {more:,} times, a less likely one")
        print(f"{less:,} times (it too forgets beginnings), of {len(low):,}.")
    print("\nHow does one sequence become another?")
    print(
        "One network reads the source into a state of fixed size, a second writes from"
    )
    print("that state, one word after another, each chosen by the words before it.")
    best_name, (answers, _) = list(found.items())[-1]
    scores = rows[f"{args.cell}, {best_name}"]
    if args.task == "reverse":
        print(
            f"Of the test sequences {scores['exact_match']:.1%} are reversed without a"
        )
        print(f"mistake; copying them is right for {rows['copy']['exact_match']:.1%}.")
        return
    signature = utils.bleu_scores(truth, truth)
    print(f"bleu: {signature['signature']}; bleu_13a: the same with case:mixed.")
    print(
        "(case:lc: lower case; tok:13a: how words are split; so that others can check)"
    )
    rival = max(others, key=lambda name: others[name][1]["bleu"])
    p = utils.bleu_p_value(answers, others[rival][0], truth)
    gap = scores["bleu"] - others[rival][1]["bleu"]
    verdict = "more than luck" if p < 0.05 else "it could be luck"
    print(f"Its BLEU is {scores['bleu']:.1f}; the best rival, {rival}, has", end=" ")
    print(f"{others[rival][1]['bleu']:.1f}: {gap:+.1f}, p = {p:.3f}, {verdict}.")
    print(
        "(Paired bootstrap: draw the test sentences anew, with repeats, a thousand times,"
    )
    print(
        "and see how often the gap strays from its mean by as much as the gap itself.)"
    )
    print("Sentences of a dozen words do not fit into one state: lesson 09 lets the")
    print("decoder look back at every word of the source.")


def by_length(model, data, texts, args):
    """Greedy answers to sequences of all lengths, those never seen too; a picture."""
    longest = args.max_length + BEYOND
    generator = torch.Generator().manual_seed(8)
    new_lengths = []
    for length in [*range(1, SHORTEST), *range(args.max_length + 1, longest + 1)]:
        new_lengths += [length] * 200
    new = draw_pairs(new_lengths, generator)
    more, _ = answer(model, data, [source for source, _ in new], 1, args, longest)
    # Answers and truth, by the number of digits.
    groups = {}
    for (source, target), said in zip(
        data.parts[2] + new, [*texts, *more], strict=True
    ):
        said_and_true = groups.setdefault(len(source.split()), ([], []))
        said_and_true[0].append(said)
        said_and_true[1].append(target)
    rows = {}
    for length in sorted(groups):
        answers, truth = groups[length]
        rows[length] = score(args.task, answers, truth)
    title = f"{data.source.label}, {args.cell}: greedy answers by length of the source"
    corner = f"digits (training: {SHORTEST} to {args.max_length})"
    utils.print_table(title, rows, corner=corner)
    print("Reading it: the further from the lengths of training, the fewer are right,")
    print(
        "though the rule is the same.  Two causes mix: the state gets too full, and it"
    )
    print("learned to end after so many digits.  A larger --max-length parts them.")
    lines = {}
    for measure in ("exact_match", "token_accuracy"):
        lines[measure] = [scores[measure] for scores in rows.values()]
    utils.plot_lines(args, "length", title, lines, corner, "share", x=list(rows))


def print_predictions(model, data, args):
    """`--predict`: the answers, greedy and by beam search."""
    limit = args.max_length
    if args.task == "reverse":
        limit += BEYOND
    print()
    for text in args.predict:
        given = utils.split_pair(text)
        print(text if len(given) <= limit else f"The first {limit} words of {text:.60}")
        unknown = [word for word in given if word not in data.vocabularies[0]]
        if unknown:
            print(f"  read as {utils.UNK}: {', '.join(unknown[:10])}")
        for name, beam_size in searches(args).items():
            answers, log_ps = answer(model, data, [text], beam_size, args, limit)
            print(f"  {name:<10} {answers[0]}  (log_p {log_ps[0]:.2f})")
    print("Reading it: it answers anything, in the words of its training.")


# ====================================================================================
# 5. Command line
# ====================================================================================

# The defaults of each task; a flag that you give wins.
DEFAULTS = {
    "reverse": {
        "epochs": 10,
        "batch_size": 128,
        "lr": 0.005,
        "hidden_size": 128,
        "dropout": 0.0,
        "max_length": 10,
    },
    "translate": {
        "epochs": 6,
        "batch_size": 64,
        "lr": 0.003,
        "hidden_size": 256,
        "dropout": 0.3,
        "max_length": 50,
    },
}
EMBEDDINGS = {"reverse": 64, "translate": 256}


def defaults(args):
    """The values of flags that were not given; data of one's own are to be translated."""
    own = args.input or args.dataset != "auto"
    task = args.task or ("translate" if own else "reverse")
    return {"task": task, **DEFAULTS[task]}


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    own = "two texts a line, a tab between them; implies --task translate"
    utils.add_data_flags(parser, ["multi30k", "sample"], own)
    utils.add_training_flags(parser, dropout=None)
    add = parser.add_argument_group("this lesson").add_argument
    add("--task", choices=list(DEFAULTS), help="default reverse; sets other defaults")
    add("--cell", choices=list(CELLS), default="lstm", help="default lstm")
    add(
        "--teacher-forcing",
        type=utils.real(0, 1),
        default=1.0,
        help="share of batches that are given the true words (default 1)",
    )
    add("--reverse-source", action="store_true", help="encode the last word first")
    add("--max-length", type=utils.whole(1, 1000), help="of a text, in words")
    add("--beam-size", type=utils.whole(1, 100), default=5, help="1: greedy alone")
    add("--predict", nargs="+", metavar="TEXT", default=[], help="texts to answer")
    return parser


def new_model(source, parts, args):
    """(config, feeds) of a new model: how to build it, and what feeds it."""
    # A word seen once teaches little; as <unk>, such words teach what to do with <unk>.
    least = 2 if len(parts[0]) >= 10_000 else 1
    source_words, target_words = utils.pair_vocabularies(parts[0], least)
    config = {
        "source_words": len(source_words),
        "target_words": len(target_words),
        "embedding": EMBEDDINGS[args.task],
        "cell": args.cell,
        "hidden": args.hidden_size,
        "layers": args.num_layers,
        "dropout": args.dropout,
        "reverse_source": args.reverse_source,
    }
    feeds = {
        "dataset": source.name,
        "source_words": source_words.tokens,
        "target_words": target_words.tokens,
    }
    return config, feeds


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__, defaults=defaults)
    if args.task == "reverse":  # digits may come without spaces
        args.predict = [" ".join("".join(text.split())) for text in args.predict]
    if not all(utils.split_pair(text) for text in args.predict):
        raise utils.UserError("--predict takes texts of one word or more")

    # 1. The data: read or made, one pair looked at.
    source, parts = choose_pairs(args)
    if args.eval_only:
        model, config, feeds = utils.load(args, Seq2Seq, dataset=source.name)
        args.cell = config["cell"]
    else:
        config, feeds = new_model(source, parts, args)
    data = load_data(source, parts, feeds, args)
    sizes = " / ".join(f"{len(part):,}" for part in parts)
    words = " and ".join(f"{len(vocabulary):,}" for vocabulary in data.vocabularies)
    print(f"{source.label}: {sizes} pairs to train, validate, test;")
    print(f"{words} words in the vocabularies of sources and targets")
    show_one_pair(data)

    # 2. The model: the chain rule; what is handed over; one call or many.
    show_chain_rule()
    show_states_and_forcing()

    # 3. Training.
    records = []
    if not args.eval_only:
        print(f"\nTraining on {source.label}: one line an epoch")
        model, records = train_model(config, data, args, feeds)
        panels = {"nats a word": ["loss", "val_loss"]}
        panels["share of words right"] = ["accuracy", "val_accuracy"]
        title = f"Training, {source.label}, {args.cell}"
        utils.plot_records(args, "training", title, {args.cell: records}, panels)

    # 4. Writing: greedy loses; beam search; how answers are scored; the results.
    show_greedy_loses()
    show_beam_on_one_source(model, data, args)
    show_bleu()
    texts = report(model, records, data, args)
    if args.task == "reverse":
        by_length(model, data, texts, args)
    if args.predict:
        print_predictions(model, data, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
