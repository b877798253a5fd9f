"""08 · How does one sequence become another?

So far a network answered with one label, with a few numbers, or with one tag under each
word.  To translate, it has to *write*: an answer of any length, whose words do not
stand under those of the question.  "It is raining" has three words, "il pleut" has two.
The plainest idea that works takes two networks.  The first, the encoder, reads the
question and keeps what it has understood in its state.  The second, the decoder, starts
from that state and writes the answer, word by word, until it writes "the end".

What you will learn
    - encoder and decoder, and what exactly is handed over between them
    - how a network that writes is trained: teacher forcing, and the shift by one
    - how it writes: a loop of ten lines, each word chosen by the words before it
    - why the best first word can lead to the worse sentence, and what beam search does
    - how a translation is scored (BLEU), counted by hand
    - what goes wrong in long answers, and how to find out where it goes wrong

You need lessons 01 (padding, packing), 02 (vocabulary, <unk>), 04 (state, softmax,
cross-entropy, `fit`, McNemar's test) and 05 (LSTM, dropout).

Run it
    python 08_seq2seq_basic.py                        reverse digits: 3 1 4 -> 4 1 3
    python 08_seq2seq_basic.py --save-model           the same, and keep the network
    python 08_seq2seq_basic.py --eval-only --predict 31415    take it, train nothing
    python 08_seq2seq_basic.py --task translate --predict "a man in a red shirt"
    python 08_seq2seq_basic.py --input pairs.tsv      your own pairs, one a line:
                                                      source, tab, target

You should see  (reverse [sample], seed 0, one thread; another seed, or two threads,
gives slightly other figures)
      model          exact_match   token_accuracy     log_p
      lstm, greedy        0.9964           0.9985   -0.0018
      lstm, beam 5        0.9974           0.9988   -0.0018
      copy                0.0057           0.1547         -
      chance              0.0000           0.1000         -
    Behind the name of the data stands [sample] if they are made up, as these digits
    are, and [real] if not.  exact_match: the share of answers that are right from the
    first digit to the last; token_accuracy: the share of digits that are right in their
    place; log_p: how sure the network was of its answers, 0 would be certain
    (section 3).  "greedy" and "beam 5" are two ways to write.  "copy" writes the
    question again, "chance" draws digits.

    Training takes half a minute on two idle threads, and a minute or more on a slower
    machine or a busy one.  --predict 31415 then prints
      3 1 4 1 5
        greedy     5 1 4 1 3  (log_p -0.00)
        beam 5     5 1 4 1 3  (log_p -0.00)

    --task translate (multi30k [real], eight minutes on two threads) ends with a
    surprise: on real sentences this network is hardly better than a word list.  Its
    figures stand in section 4, under "What is a BLEU worth?".  Lesson 09 mends it.

Try this  (guess first, then run; docs/exercises.md has measured answers to some)
    --hidden-size 64            section 4 has 128 and 32: what lies between?
    --max-length 20             section 4 has 16: does practice help as far as that?
    --cell rnn                  a state without the LSTM's memory c
    --num-layers 2              two states are handed over, one of each layer
    --reverse-source            reversing is then copying: easier or harder?
    --teacher-forcing 0.5       half of the batches feed the decoder its own words
    --eval-only --beam-size 20  (after --save-model) does a wider search find more?
    --task translate --reverse-source   the trick of Sutskever et al. (2014)

How to read it: the lesson is in the comments and in shift, Seq2Seq, make_measure,
write_greedily, write_batch, beam_search_by_hand, count_runs and after_first_mistake.
Functions named show_ and explain_ make the output: look at what they print, not how.
"""

# Sizes
#     B  batch (pairs)        L  layers
#     Ts words of the batch's longest source; Tt of its longest target, <eos> counted.
#        The two need not agree: that is what this lesson is about.
#     E  embedding            H  hidden state
#     V  vocabulary           N  pairs of one part     M  real words: padding is none
#     K  beam size            R  rows of a search: K for each source

import math
import sys
import zlib
from collections import Counter
from os.path import commonprefix
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

import rnn_utils as utils

# Four words that are in no text, with the same ids in both vocabularies.  All real
# words have ids above 3.
PAD = utils.PAD_ID  # 0 <pad>  fills rows up, so that a batch is a rectangle
UNK = utils.UNK_ID  # 1 <unk>  stands for a word that training did not have
BOS = utils.BOS_ID  # 2 <bos>  "beginning of sequence": what the decoder is given first
EOS = utils.EOS_ID  # 3 <eos>  "end of sequence": what it writes when it has finished

TEST = 2  # the place of the test part in data.parts

# ====================================================================================
# 1. Data
# ====================================================================================
#
# A pair is a source (what is read) and a target (what should be written).  This lesson
# has two tasks.
#
#   reverse     The source is some digits, the target the same digits backwards.  We
#               make them up, so there is no end of them, every answer is simply right
#               or wrong, and a short training is enough.  Easy?  The first digit to be
#               written is the last that was read, and the last to be written the first
#               that was read: everything has to be in the state when the reading ends.
#   translate   English captions of photographs and their French translations
#               (Multi30k, 29,000 pairs).  For patient readers, and for comparison with
#               lesson 09, which does the same with attention.
#
# In both tasks we speak of words; in the first one a word is a digit.

SHORTEST = 3  # digits of a source; the longest have --max-length
BEYOND = 6  # sources so many digits longer than in training are tried at the end


def draw_pairs(lengths, generator):
    """Different pairs like ("3 1 4", "4 1 3"), one for each of `lengths`, or fewer.

    Fewer, because a source that was drawn before is not taken again.  Of three digits
    there are only 1,000 sources, so nearly all of them turn up.
    """
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
    # Every length is as likely as every other.  (Then repeats are dropped: that leaves
    # few sources of 3 digits, and fewer of 4 than of the others.)
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
        utils.capped(args, train, 960),  # so many are kept under --quick
        utils.capped(args, val, 60),
        utils.capped(args, test, 60),
    ]


class Pairs(NamedTuple):
    """All that this lesson knows of its data."""

    source: utils.Source  # which data set, and whether it is real
    parts: list  # training, validation, test: lists of (source, target)
    vocabularies: list  # of sources, of targets: words of training alone
    train: utils.Batches  # the three parts as batches of tensors
    val: utils.Batches
    test: utils.Batches


# From texts to tensors.  The steps are those of lessons 01 and 02: split into words,
# look up their ids, fill rows up with <pad>.  The words of a text, of either side, are
# made by `utils.split_pair`: in lower case, "l'homme" as two words, l' and homme.
# `utils.join_words` makes a text of words again.  A batch is a dict of five tensors:
#
#     source         (B, Ts)  ids of the source's words, filled up with 0
#     source_length  (B,)     how many of them are real
#     target         (B, Tt)  ids of the target's words, then <eos>, filled up with 0
#     target_length  (B,)     how many of them are real, <eos> counted
#     index          (B,)     the place of each pair in its part


def load_data(source, parts, word_lists, args):
    """The parts as batches of tensors.

    word_lists: the two lists of known words, "source_words" and "target_words".  They
    are saved with a model, because its ids mean nothing without them.
    """
    vocabularies = [
        utils.Vocabulary(word_lists["source_words"]),
        utils.Vocabulary(word_lists["target_words"]),
    ]
    batches = []
    for k, part in enumerate(parts):
        tensors = utils.encode_pairs(part, vocabularies, args.max_length)
        is_train = k == 0
        size = args.batch_size if is_train else 64
        # bucket: sources of similar length share a batch, so that little of it is
        # padding.
        batches.append(
            utils.Batches(tensors, size, args.device, shuffle=is_train, bucket="source")
        )
    return Pairs(source, parts, vocabularies, *batches)


# What should the decoder be given when it is to write 4 1 3?  To write the 1, it should
# know that the 4 is already there; to write the 3, that 4 1 is there.  So at each step
# it is given the word before.  Before the first word there is none: then it gets <bos>.


def shift(target):
    """What the decoder is given at each step, (B, Tt): <bos>, then all but the last.

    target 4 1 3 <eos> -> given <bos> 4 1 3
    """
    all_but_last = target[:, :-1]  # (B, Tt - 1)
    # (1, 0): one column more on the left, none on the right.
    return F.pad(all_but_last, (1, 0), value=BOS)  # (B, Tt)


def clearest(pairs):
    """The shortest of the first 1,000 pairs whose source repeats no word.

    In 3 3 5 a shift by one would be hard to see.
    """

    def badness(pair):
        words = utils.split_pair(pair[0])
        repeats = len(words) - len(set(words))
        return repeats, len(words)

    return min(pairs[:1000], key=badness)


def show_one_pair(data, args):
    """Print one training pair on its way to the tensors, and the shift by one."""
    short = clearest(data.parts[0])
    long = max(data.parts[0][:50], key=lambda pair: len(pair[0]))
    tensors = utils.encode_pairs([short, long], data.vocabularies, args.max_length)
    words_to_write = tensors["target_length"][0]  # of the short one
    ids = tensors["target"][:1, :words_to_write]  # (1, Tt)
    target_words = data.vocabularies[1]
    print("\nOne pair on its way to the network, in a batch with a longer one:")
    print(f"  source        {short[0]}")
    print(f"  the longer    {long[0]}")
    print("  as ids, filled up with 0, <pad>, to the longer one's length:")
    for row, length in zip(tensors["source"], tensors["source_length"], strict=True):
        print(f"    {row.tolist()}, length {length}")
    print("  (An id is a place in the vocabulary: four special words, then the others")
    print("  by how often training has them.)")
    print("The target, shifted by one: what the decoder is given and should write.")
    print(f"  given         {' '.join(target_words.decode(shift(ids)[0].tolist()))}")
    print(f"  should write  {' '.join(target_words.decode(ids[0].tolist()))}")
    utils.say(
        """Reading it: column by column.  Given <bos> it should write the first word,
        given the first word the second, and after the last one <eos>: the end."""
    )


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
# 0: before the first word the encoder's state is all zeros.  Above each box of the
# decoder stand a linear layer and a softmax, which make probabilities of its output.
# When it writes, each word above is given to it one step later, below the next box.
#
# Both are recurrent networks of the kind that you know, each with weights of its own.
# The encoder has an output at every step too, but nobody asks for it: only its last
# state counts.  That state is the decoder's first one.  Nothing else is handed over.
# So whatever the decoder is to know of the source must be in it: H numbers of h, and
# for an LSTM H more of its memory c, for three digits and for thirty words alike.
# Books call it the context vector, or the bottleneck.
#
# Giving the state once is a choice: the decoder has to carry it through all its steps.
# One can also give it again at every step (Cho et al., 2014), as lesson 09 does.
#
# The decoder can only take a state of its own shape.  So both have the same H and the
# same number of layers, and layer k of the decoder gets the state of layer k of the
# encoder.  (An encoder that reads in two directions, as in lesson 07, has two states a
# layer.  They must be made into one first: lesson 09 does that.)

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Seq2Seq(nn.Module):
    """An encoder and a decoder.

    A state is what PyTorch's layers return and take: h (L, B, H), of an LSTM (h, c).
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
        self.reverse_source = reverse_source
        # The layers' own dropout acts between layers; with one layer PyTorch warns.
        between = dropout if layers > 1 else 0.0
        options = {"batch_first": True, "dropout": between}
        # padding_idx: the vector of <pad> is zero, and stays zero.
        self.embed_source = nn.Embedding(source_words, embedding, padding_idx=PAD)
        self.encoder = CELLS[cell](embedding, hidden, layers, **options)
        self.embed_target = nn.Embedding(target_words, embedding, padding_idx=PAD)
        self.decoder = CELLS[cell](embedding, hidden, layers, **options)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, target_words)

    def encode(self, source, lengths):
        """source (B, Ts), lengths (B,) -> the state after each last word.

        lengths stay on the CPU, also with a GPU: `pack_padded_sequence` asks for that.
        """
        if self.reverse_source:
            # The first words of both sentences come close together, and the gradient
            # between them has a short way (Sutskever et al.).
            source = utils.reverse_padded(source, lengths)
        x = self.dropout(self.embed_source(source))  # (B, Ts, E)
        # Packed (lesson 01), the layer stops at each source's last word.
        packed = pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        _, state = self.encoder(packed)
        return state

    def decode(self, words, state):
        """words (B, Tt) and the state before them -> scores (B, Tt, V), the new state.

        The scores at step t are for the word that comes after words[:, t].  Softmax
        makes probabilities of them.
        """
        x = self.dropout(self.embed_target(words))  # (B, Tt, E)
        y, state = self.decoder(x, state)  # y: (B, Tt, H)
        return self.output(self.dropout(y)), state

    # The decoder is given the word before.  Which one: the true word, or the one that
    # it would have written itself?  Here are both ways; section 3 says when each is
    # used.

    def teacher_forced(self, state, target):
        """Scores (B, Tt, V) of target (B, Tt), the true words given before each one.

        All that is given is known beforehand, so one call computes every step.
        """
        scores, _ = self.decode(shift(target), state)
        return scores

    def free_running(self, state, steps):
        """Scores (B, steps, V), the decoder given its own likeliest word each time.

        Each word has to be waited for, so it takes one call a word.
        """
        first_part = state[0] if isinstance(state, tuple) else state  # h (L, B, H)
        word = torch.full((first_part.shape[1], 1), BOS, device=first_part.device)
        found = []
        for _ in range(steps):
            scores, state = self.decode(word, state)  # (B, 1, V)
            found.append(scores)
            # argmax jumps from one word to the next, so no gradient goes through the
            # choice.  Through the state it goes back as ever.
            word = scores.argmax(-1)  # (B, 1)
        return torch.cat(found, dim=1)

    def forward(self, source, lengths, target, forced=True):
        """Scores (B, Tt, V) for every word of target (B, Tt), which ends in <eos>."""
        state = self.encode(source, lengths)
        if forced:
            return self.teacher_forced(state, target)
        return self.free_running(state, target.shape[1])


# Is the right state handed over?  A network so small that its states can be printed
# shows it.  Its words are five letters, so that no word looks like an id.

LETTERS = utils.Vocabulary(["<pad>", "<unk>", "<bos>", "<eos>", *"abcde"])


def toy_model():
    """A small untrained network, and two sources of unequal length: a b c d and e a.

    In 64-bit numbers: two ways to compute the same then differ by almost nothing, and a
    real difference stands out.
    """
    torch.manual_seed(0)
    words = len(LETTERS)
    model = Seq2Seq(words, words, embedding=4, cell="lstm", hidden=5).double().eval()
    source, lengths = utils.pad([LETTERS.encode("abcd"), LETTERS.encode("ea")])
    return model, source, lengths  # source (2, 4), lengths (2,)


@torch.no_grad()
def show_state_handed_over():
    """Print one short source's state: beside a longer one, alone, without packing."""
    model, source, lengths = toy_model()
    h, c = model.encode(source, lengths)  # (1, 2, 5) each
    h_alone, _ = model.encode(source[1:, :2], lengths[1:])  # (1, 1, 5)
    _, (h_unpacked, _) = model.encoder(model.embed_source(source))  # (1, 2, 5)
    print("The state that is handed over.  A network with H = 5, untrained, reads two")
    print("sources, a b c d and e a; in the batch the second is e a <pad> <pad>.")
    print(f"  h {tuple(h.shape)} and c {tuple(c.shape)}: layers, sources, H")
    rows = {
        "alone": h_alone[0, 0],
        "in the batch, packed": h[0, 1],
        "in the batch, not packed": h_unpacked[0, 1],
    }
    print("h of the source e a")
    for name, numbers in rows.items():
        shown = "  ".join(f"{number:+.3f}" for number in numbers.tolist())
        print(f"  {name:<25} {shown}")
    utils.say(
        """Reading it: packed, the state is the same as alone.  Not packed, the encoder
        goes on over the padding and hands over another state."""
    )


# ====================================================================================
# 3. Training
# ====================================================================================
#
# What should be lowered?  At each step the decoder gives a probability to every word
# that could come next.  The answer to 3 1 4 is 4 1 3 <eos>.  Its probability is a
# product, one factor for each word (the chain rule of probabilities):
#
#     p(4 1 3 <eos>) = p(4) * p(1 after 4) * p(3 after 4 1) * p(<eos> after 4 1 3)
#
# Every factor is also given the source, 3 1 4, through the state.  (A model that writes
# each word by the words before it is called autoregressive.)
#
# A product of many probabilities becomes too small for a computer's numbers, so one
# adds their logarithms instead.  That sum, divided by the number of words, is the mean
# log probability of a word; we call it log_p.  It is 0 if every word is certain, and
# below 0 otherwise.  The loss is minus log_p: the cross-entropy of lesson 04, once for
# each word.  e to the power of the loss is called the perplexity: the network is as
# unsure, on average, as if it had to pick one of that many equally likely words.


def show_chain_rule():
    """Print the probability of one answer, its log_p, the loss, and the perplexity."""
    # Each is the probability of the word after the words before it.
    chances = {"4": 0.9, "1": 0.5, "3": 0.8, "<eos>": 1.0}
    print("The probability of an answer, with made-up probabilities of its words:")
    product = 1.0
    total = 0.0
    for word, p in chances.items():
        product *= p
        total += math.log(p)
        print(
            f"  {word:<6} p {p:.1f}   log p {math.log(p):+.3f}   "
            f"product so far {product:.2f}   sum so far {total:+.3f}"
        )
    log_p = total / len(chances)
    print(f"  log_p: {total:.3f} / {len(chances)} words = {log_p:.3f}")
    print(f"  the loss is {-log_p:.3f}; the perplexity e^{-log_p:.3f} =", end=" ")
    print(f"{math.exp(-log_p):.2f}, between one word and two")


# Which word before should the decoder be given, the true one or its own?  In training
# the true answer is known, so it is given the true words.  That is called teacher
# forcing: as a teacher puts a pupil right at every word, so that one slip does not
# spoil all that follows.  It is also fast: all that is given is known beforehand, so
# one call of the layer computes all steps.
#
# It may have a price.  When it writes, the network is given its own words, and after a
# mistake it is in a place where it never was in training.  That is called exposure
# bias.  Where it can show at all, and how much it is at most, comes in section 4.
#
# `--teacher-forcing 0.5` lets half of the batches run free, so that the network meets
# its own mistakes in training (scheduled sampling; Bengio et al., 2015, toss a coin for
# each word, we one for each batch).  That has a price too.  At first its own words are
# noise; and after a word left out, every later one stands in a wrong place.


@torch.no_grad()
def show_two_ways_to_feed():
    """Print what the decoder is given: true words, or its own."""
    model, source, lengths = toy_model()
    state = model.encode(source[:1], lengths[:1])  # of a b c d
    target = torch.tensor([[*LETTERS.encode("dcba"), EOS]])  # (1, 5)
    with_true = model.teacher_forced(state, target).argmax(-1)  # (1, 5)
    with_own = model.free_running(state, 5).argmax(-1)  # (1, 5)
    print("\nThe untrained network has read a b c d and should write d c b a <eos>.")
    for name, ids in (
        ("given true words", shift(target)),
        ("  finds likeliest", with_true),
        ("given its own words", shift(with_own)),
        ("  finds likeliest", with_own),
    ):
        words = "".join(f"{word:<7}" for word in LETTERS.decode(ids[0].tolist()))
        print(f"  {name:<21} {words.rstrip()}")
    utils.say(
        """Reading it: both begin with <bos>.  With its own words, each word that it
        finds likeliest is what it is given next.  (Untrained, it finds nonsense.)"""
    )


# And who teaches the encoder?  There is no right answer for a state.  But the loss of
# the words that the decoder writes depends on the state, so the gradient runs back
# through the decoder, over the bridge, and on into the encoder (back-propagation
# through time, lesson 04).  To see it arrive, take the loss of one word only: the a,
# the last letter to be written, and the first that was read.


def show_who_teaches_the_encoder():
    """Print the gradient of the last letter's loss in each source word's embedding."""
    model, source, lengths = toy_model()
    target = torch.tensor([[*LETTERS.encode("dcba"), EOS]])  # (1, 5)
    scores = model(source[:1], lengths[:1], target)  # (1, 5, V)
    loss = F.cross_entropy(scores[:, 3], target[:, 3])  # of the a alone
    loss.backward()
    gradients = model.embed_source.weight.grad  # (V, 4): a row for each source word
    print("\nThe loss of the a alone.  Its gradient (norms, as in lesson 04) in the")
    print("embeddings of the source words:")
    for letter in "abcde":
        (word,) = LETTERS.encode(letter)
        print(f"  {letter}   {gradients[word].norm():.1e}")
    utils.say(
        """Reading it: what the decoder gets wrong reaches every word that the encoder
        read, the a too, from which it is furthest.  The e was not read.  (A nearer
        word need not have more: that depends on the weights.)"""
    )


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
        )  # (B, Tt, V)
        real = batch["target"] != PAD  # (B, Tt), True or False
        scores = scores[real].float()  # (M, V), in 32 bits even if the rest is in 16
        target = batch["target"][real]  # (M,)
        return {
            "loss": F.cross_entropy(scores, target, reduction="none"),  # (M,)
            "accuracy": scores.argmax(1) == target,  # (M,), True or False
        }

    return measure


def train_model(config, data, args, word_lists):
    """A new model from --seed, trained by the loop of lesson 04: (model, records)."""
    print(f"\nTraining on {data.source.label}: one line an epoch")
    utils.set_seed(args.seed)
    model = Seq2Seq(**config).to(args.device)
    measure = make_measure(args.teacher_forcing)
    records = utils.fit(model, measure, data.train, data.val, args, config, word_lists)
    utils.say(
        """loss: minus log_p of the true words.  accuracy: the share of true words to
        which the network gives the highest probability, <eos> counted.  In validation
        (val_) the true words are given before each; when it writes, it has only its
        own: section 4."""
    )
    return model, records


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================
#
# Three questions, one after the other.  How does the network write an answer when
# nobody gives it the true words?  How good is what it writes?  Where does it fail?
#
# --- How it writes --------------------------------------------------------------------
#
# It is the loop of `free_running`, with an end.  Encode the source.  Give the decoder
# <bos>.  Take the likeliest word, give it to the decoder, take the likeliest next word,
# and so on until that word is <eos>.  If <eos> never comes, stop at a limit.  This is
# called greedy search.
#
# Three words may not be written: <pad>, <bos>, and <unk>, which tells a reader nothing.
# (Their probabilities are left out; the others are not made larger for it.  So an
# answer with a word that training did not have can never be exactly right.)


@torch.no_grad()
def write_greedily(model, source, lengths, limit):
    """The answer to one source (1, Ts): a list of (given, chosen, probability).

    limit: most words, <eos> included.
    """
    state = model.encode(source, lengths)
    given = BOS
    steps = []
    while len(steps) < limit:
        word = torch.tensor([[given]], device=source.device)  # (1, 1)
        scores, state = model.decode(word, state)  # (1, 1, V)
        chances = scores[0, 0].softmax(0)  # (V,)
        chances[:EOS] = 0.0  # ids 0, 1, 2: <pad>, <unk>, <bos>
        chosen = int(chances.argmax())
        steps.append((given, chosen, chances[chosen].item()))
        if chosen == EOS:
            break
        given = chosen
    return steps


def mean_log_p(steps):
    """log_p of an answer that `write_greedily` has written."""
    return sum(math.log(chance) for _, _, chance in steps) / len(steps)


def encode_text(text, data, args):
    """One source as a batch of one row: ids (1, Ts) and lengths (1,)."""
    words = utils.split_pair(text)[: args.max_length]
    source, lengths = utils.pad([data.vocabularies[0].encode(words)])
    return source.to(args.device), lengths


def show_writing(model, data, args):
    """Print how the trained network writes one answer, word by word."""
    text, truth = clearest(data.parts[TEST])
    source, lengths = encode_text(text, data, args)
    # One step more than words: the last is for <eos>.
    steps = write_greedily(model, source, lengths, args.max_length + 1)
    words = data.vocabularies[1].tokens
    print(f'The trained network writes.  The source, from the test part: "{text}"')
    print(f"  {'given':<14} {'chosen':<14} its probability")
    for given, chosen, chance in steps:
        print(f"  {words[given]:<14} {words[chosen]:<14} {chance:.4f}")
    print(f'The reference, the answer in the file: "{truth}".')
    print(f"log_p, the mean of the logarithms of all these: {mean_log_p(steps):.4f}")


# One answer at a time is slow.  A batch of sources can be answered in one loop, but
# their answers do not end at the same step.  An answer that has ended waits: it is
# given <pad>, and gets <pad> as its next word, until all have ended.


@torch.no_grad()
def write_batch(model, source, lengths, limit):
    """The answers to B sources (B, Ts): ids (B, steps), <pad> after each <eos>."""
    state = model.encode(source, lengths)
    given = torch.full((len(source), 1), BOS, device=source.device)  # (B, 1)
    ended = torch.zeros(len(source), dtype=torch.bool, device=source.device)  # (B,)
    columns = []
    while len(columns) < limit and not ended.all():
        scores, state = model.decode(given, state)  # (B, 1, V)
        scores[:, :, :EOS] = -math.inf  # ids 0, 1, 2 again
        chosen = scores[:, 0].argmax(1)  # (B,)
        chosen = chosen.masked_fill(ended, PAD)
        columns.append(chosen)
        ended = ended | (chosen == EOS)
        given = chosen.unsqueeze(1)  # (B, 1)
    return torch.stack(columns, dim=1)  # (B, steps)


def show_writing_a_batch(model, data, args):
    """Print three answers that are written at once, compared with one by one."""
    texts = sorted([source for source, _ in data.parts[TEST][:100]], key=len)
    texts = [texts[0], texts[len(texts) // 8], texts[len(texts) // 4]]
    ids = [data.vocabularies[0].encode(utils.split_pair(text)) for text in texts]
    source, lengths = utils.pad([row[: args.max_length] for row in ids])  # (3, Ts)
    limit = args.max_length + 1
    written = write_batch(model, source.to(args.device), lengths, limit)
    print("\nThree sources in one batch, and what is written, a column a step:")
    same = True
    for text, row in zip(texts, written.tolist(), strict=True):
        print(f"  {text}\n    {' '.join(data.vocabularies[1].decode(row))}")
        steps = write_greedily(model, *encode_text(text, data, args), limit)
        alone = [chosen for _, chosen, _ in steps]
        same = same and alone == row[: len(alone)]
    print(f"Each row begins with what is written for that source alone: {same}")


# Digits backwards are as many as before.  Can the same loop write an answer that is
# longer or shorter than the source?  Yes: nothing in it counts the words of the source.
# The answer ends where the network writes <eos>.
#
# To see it we train a small network on twelve sentences, made up here.  Look at "a
# potato": two words, and its answer has four, une pomme de terre, an apple of earth.
# And "red" comes before the apple, "rouge" after it.  So few sentences are learned by
# heart in a second.

TOY_PAIRS = [
    ("it is raining", "il pleut"),
    ("it is not raining", "il ne pleut pas"),
    ("i sleep", "je dors"),
    ("i do not sleep", "je ne dors pas"),
    ("he sleeps", "il dort"),
    ("he does not sleep", "il ne dort pas"),
    ("i am tired", "je suis fatigué"),
    ("i am not tired", "je ne suis pas fatigué"),
    ("a potato", "une pomme de terre"),
    ("a red apple", "une pomme rouge"),
    ("he is eating a red apple", "il mange une pomme rouge"),
    ("i am eating a potato", "je mange une pomme de terre"),
]
# Two sentences that it has not seen, of words that it knows.
TOY_NEW = [
    ("he is eating a potato", "il mange une pomme de terre"),
    ("i am eating a red apple", "je mange une pomme rouge"),
]


def show_translating():
    """Train a small network on twelve sentences; print its answers, to new ones too."""
    vocabularies = utils.pair_vocabularies(TOY_PAIRS, min_freq=1)
    batch = utils.encode_pairs(TOY_PAIRS, vocabularies, 10)  # source (12, Ts), ...
    torch.manual_seed(0)
    sizes = [len(vocabulary) for vocabulary in vocabularies]
    model = Seq2Seq(*sizes, embedding=32, cell="lstm", hidden=32)
    # The loop of lesson 04, at its barest.  All twelve pairs are one batch.
    measure = make_measure(1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(120):
        loss = measure(model, batch)["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()

    def write(text, truth):
        words = text.split()
        source, lengths = utils.pad([vocabularies[0].encode(words)])  # (1, Ts)
        steps = write_greedily(model, source, lengths, limit=10)
        answer = [chosen for _, chosen, _ in steps if chosen != EOS]
        said = " ".join(vocabularies[1].decode(answer))
        print(f"  {len(words)} words  {text:<25}{len(answer)} words  {said}", end="")
        print("  ✔" if said == truth else f"  ✘  (reference: {truth})")

    print(f"\nTwelve sentences learned by a network with H = 32; loss {loss:.3f}.")
    print("The source, and what the network writes, greedily:")
    for text, truth in TOY_PAIRS:
        write(text, truth)
    print("The number of words may change, and their order.  But these it may know by")
    print("heart.  Two sentences that it has not seen:")
    for text, truth in TOY_NEW:
        write(text, truth)
    utils.say(
        """Reading it: in the twelve, il mange is always followed by une pomme rouge,
        and je mange by une pomme de terre.  A network that learns by heart goes on as
        it has learned, whatever the source says.  So scores are taken on a test
        part."""
    )


# Is the answer that greedy search finds the likeliest of all?  To know, one would have
# to try every answer.  There are V words for each place, so V to the power of T answers
# of T words: nobody can.  And greedy search never goes back, so it can lose:
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
# Best by what?  The probability is a product, and each further word makes it smaller:
# so short answers would win.  Therefore beginnings are compared by log_p, the mean log
# probability of their words, <eos> counted (length normalisation; others divide by some
# power of the length).  With this, one no longer looks for the likeliest answer, but
# for the one that is likeliest per word.

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

    advance(word, state) -> (log probability of every next word, a list of V; the new
    state).  limit: most words, <eos> included.  show: called with the K best after each
    step.
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
            next_log_ps, new_state = advance(last, beginning.state)
            # Extend it by every word that one could write: <eos> and all real words.
            # The ids before <eos> are <pad>, <unk> and <bos>.
            for word in range(EOS, len(next_log_ps)):
                words = [*beginning.words, word]
                total = beginning.total + next_log_ps[word]
                ended = word == EOS or len(words) == limit
                candidates.append(Beginning(words, total, new_state, ended))
        # Keep the K best of all.
        candidates.sort(key=lambda beginning: beginning.log_p, reverse=True)
        best = candidates[:beam_size]
        if show:
            show(best)
    return best[0]


def show_greedy_loses():
    """Search the tree above by hand, with K = 1 and 2."""
    table = torch.full((len(TREE_WORDS), len(TREE_WORDS)), -math.inf)  # (V, V)
    for word, following in TREE.items():
        for other, p in following.items():
            table[TREE_WORDS.index(word), TREE_WORDS.index(other)] = math.log(p)

    def advance_one(word, state):
        return table[word].tolist(), state  # the tree needs no state

    def show(best):
        shown = []
        for beginning in best:
            text = " ".join(TREE_WORDS[i] for i in beginning.words)
            shown.append(f"{text} ({math.exp(beginning.total):.2f})")
        print(f"    keeps  {'   '.join(shown)}")

    print("\nThe tree of section 4, searched.  In brackets the probability so far.")
    for beam_size in (1, 2):
        name = "greedy (K = 1)" if beam_size == 1 else f"beam search, K = {beam_size}"
        print(f"  {name}")
        beam_search_by_hand(advance_one, None, 4, beam_size, show)
    print('Reading it: with K = 2, "a" is kept although it is second, and wins later.')


# Now the network, and many sources at once.  The shared `utils.beam_search` does the
# same in tensors.  The K beginnings of each source are K rows, one below the other:
# with K = 3 and two sources there are R = 6 rows, of the sources 0 0 0 1 1 1.  One call
# of the decoder extends all rows.  A beginning that has ended waits as in write_batch:
# its next word is <pad>, which costs nothing, so its log_p stays.  And when a beginning
# is extended twice and another dropped, rows of the state are copied: `state[rows]`.
#
# So the search wants the source first in each tensor, (R, L, H), where PyTorch's layers
# want the layers first, (L, R, H), in one piece of memory (`contiguous`).


def rows_first(state):
    """PyTorch's state, h (L, R, H) or (h, c) -> a tuple of tensors (R, L, H)."""
    parts = state if isinstance(state, tuple) else (state,)
    return tuple(part.transpose(0, 1) for part in parts)


def layers_first(parts):
    """The other way round: a tuple of (R, L, H) -> what PyTorch's layers take."""
    turned = tuple(part.transpose(0, 1).contiguous() for part in parts)
    return turned if len(turned) == 2 else turned[0]  # two parts: h and c of an LSTM


def make_advance(model):
    """The decoder's step in a search: words (R,), state -> log probabilities (R, V)."""

    def advance(words, state):
        scores, new_state = model.decode(words.unsqueeze(1), layers_first(state))
        return scores[:, 0].log_softmax(1), rows_first(new_state)  # scores (R, 1, V)

    return advance


ROWS_AT_ONCE = 640  # of a search: more would need more memory


@torch.no_grad()
def write_answers(model, data, texts, beam_size, args, limit=None):
    """N texts -> (N answers, N log_p): what the network writes, by the shared search.

    limit: most words of a source, and of an answer; default --max-length.
    """
    limit = limit or args.max_length
    pairs = [(text, "") for text in texts]  # no target: it is what we ask for
    tensors = utils.encode_pairs(pairs, data.vocabularies, limit)
    size = max(1, ROWS_AT_ONCE // beam_size)  # sources at a time: each has K rows
    batches = utils.Batches(tensors, size, args.device, bucket="source")
    answers = [None] * len(texts)
    log_ps = [None] * len(texts)
    for batch in batches:
        state = rows_first(model.encode(batch["source"], batch["source_length"]))
        # One more than `limit`, for <eos>; the same for all (lesson 09 gives each
        # source a limit of its own).
        limits = torch.full((len(batch["index"]),), limit + 1, device=args.device)
        found = utils.beam_search(make_advance(model), state, limits, beam_size)
        # A batch has rows from all over the data: put each answer in its own place.
        for place, (ids, log_p) in zip(batch["index"].tolist(), found, strict=True):
            words = data.vocabularies[1].decode(ids)
            # Plain text again: n' and est become "n'est", the first letter a capital.
            answers[place] = utils.join_words(words)
            log_ps[place] = log_p
    return answers, log_ps


# What does the search do on a real source?  `choose_source` (section 5) has looked for
# a short test source on which the two searches differ.


def steps_to_show(history):
    """The first step, the last, and those around each change of the lead, from 1.

    history: the K best after each step.
    """
    steps = {1, len(history)}
    for step in range(1, len(history)):
        before = history[step - 1][0].words
        after = history[step][0].words
        if after[: len(before)] != before:  # another beginning leads now
            steps |= {step, step + 1}
    return sorted(steps)


@torch.no_grad()
def show_beam_on_one_source(model, data, args):
    """Print the K beginnings at some steps of one test source, by hand; and compare."""
    beam_size = 3
    longest = min(args.max_length, 12)  # so many words are enough to see it
    text = choose_source(model, data, args, beam_size, longest)
    truth = dict(data.parts[TEST])[text]
    source, lengths = encode_text(text, data, args)
    written = write_greedily(model, source, lengths, longest + 1)
    greedy = [chosen for _, chosen, _ in written]

    # The search by hand asks about one word at a time: a batch of one row.
    advance_rows = make_advance(model)

    def advance_one(word, state):
        row = torch.tensor([word], device=args.device)
        log_ps, new_state = advance_rows(row, state)  # (1, V)
        return log_ps[0].tolist(), new_state

    history = []  # the K best after each step
    state = rows_first(model.encode(source, lengths))
    best = beam_search_by_hand(
        advance_one, state, longest + 1, beam_size, show=history.append
    )
    words = data.vocabularies[1]
    print(f'\nBeam search, K = {beam_size}, on one test source: "{text}".')
    print(f'The reference is "{truth}".  After a step the three best')
    print("beginnings, each with its log_p.  Marked is the one that greedy search has.")
    print("(Left out: steps after which the same beginning leads as before.)")
    for step in steps_to_show(history):
        print(f"  step {step}")
        for beginning in history[step - 1]:
            is_greedy = beginning.words == greedy[: len(beginning.words)]
            mark = "   <- greedy" if is_greedy else ""
            shown = " ".join(words.decode(beginning.words))
            print(f"    {beginning.log_p:>8.3f}  {shown}{mark}")
    print("(log_p is a mean, so it rises when a sure word is added.)")
    goal = utils.split_pair(truth)[:longest]
    for name, ids, log_p in (
        ("beam search", best.words, best.log_p),
        ("greedy", greedy, mean_log_p(written)),
    ):
        is_right = words.decode([i for i in ids if i != EOS]) == goal
        print(f"{name}: log_p {log_p:.3f}, the answer is the reference: {is_right}")
    limits = torch.tensor([longest + 1], device=args.device)
    _, shared = utils.beam_search(advance_rows, state, limits, beam_size)[0]
    print(f"The shared search, in tensors: log_p {abs(shared - best.log_p):.0e} apart")


# --- How good it is -------------------------------------------------------------------
#
# For digits that is simple, for there is one right answer:
#
#     exact_match     the share of answers that are right from the first word to the
#                     last
#     token_accuracy  the share of words that are right in their place; a word that is
#                     missing or too many counts as wrong.  (Not the `accuracy` of
#                     training: there the true words are given, and <eos> counts.)


def right_places(said, wanted):
    """(Words that are right in their place, places of the longer text)."""
    words = utils.split_pair(said)
    goal = utils.split_pair(wanted)
    right = 0
    for word, other in zip(words, goal, strict=False):  # to the end of the shorter
        if word == other:
            right += 1
    return right, max(len(words), len(goal))


def grade(task, answers, truth):
    """Answers and true targets, N texts each -> {measure: value}."""
    # Right words and places are added up over all answers and divided at the end: so
    # each word counts the same, and a long answer more than a short one.
    exact = 0
    right = 0
    places = 0
    for said, wanted in zip(answers, truth, strict=True):
        # "4 1" where "4 1 3" was wanted: 2 right of 3 places, so not exact.
        found_right, all_places = right_places(said, wanted)
        if found_right == all_places:
            exact += 1
        right += found_right
        places += all_places
    found = {"exact_match": exact / len(truth)}
    # In a translation one word too many moves all later ones out of their places.  BLEU
    # looks for runs of words wherever they stand, so it is taken instead.
    if task == "translate":
        return {"bleu": utils.bleu_scores(answers, truth)["bleu"], **found}
    return {**found, "token_accuracy": right / places}


# How good is a translation?  There are many right ones, and one reference to compare
# with.  BLEU (Papineni et al., 2002) counts how many runs of 1, 2, 3 and 4 words of the
# answer stand in the reference too.  (Books call a run of n words an n-gram.)  Each run
# of the reference may be used once only: "the the the" is not right three times.  That
# gives four shares, the modified n-gram precisions.  Their geometric mean is taken:
# multiply them, then take the fourth root.  It is low if one of them is low.
#
# Short answers would have an easy life: an answer of one sure word is right in all its
# runs.  So if the answers have a words, fewer than the r of the references, the result
# is multiplied by a brevity penalty, e^(1 - r/a), which is below 1.  In the end it is
# times 100.
#
# One sentence is not enough.  If no run of four is right, a share is 0, and so is the
# product, however good the rest.  So BLEU is the score of a whole test set: the
# *counts* of all sentences are added up first, and divided after.


def runs(words, length):
    """How often each run of `length` words stands in a list of words: a Counter."""
    found = Counter()
    for start in range(len(words) - length + 1):
        found[tuple(words[start : start + length])] += 1
    return found


def count_runs(written, wanted, length):
    """(Runs of the answer that stand in the reference, runs of the answer)."""
    ours = runs(written, length)
    theirs = runs(wanted, length)
    # Of each run, as often as both have it: `&` takes the smaller count.
    return sum((ours & theirs).values()), sum(ours.values())


def fractions(right, of):
    """[10, 8], [10, 9] -> "10/10  8/9"."""
    return "  ".join(f"{a}/{b}" for a, b in zip(right, of, strict=True))


def show_bleu():
    """BLEU by counting, of one sentence and of two together, and by sacrebleu."""
    pairs = [
        (
            "a man in a red shirt walks down the street .",
            "a man in a shirt walks down the street .",
        ),
        ("two dogs run on the beach .", "two dogs play on a beach ."),
    ]
    found, of = count_runs(["the", "the", "the"], ["the", "dog"], 1)
    print("BLEU by counting, compared with sacrebleu, the usual program for it.")
    print(f'First the rule of once only: "the the the" for "the dog" has {found}/{of}.')
    matches = [0, 0, 0, 0]  # of runs of 1, 2, 3, 4 words, over the sentences so far
    totals = [0, 0, 0, 0]
    reference_words = 0
    answer_words = 0
    for number, (reference, said) in enumerate(pairs, start=1):
        print(f"  reference {number}  {reference}")
        print(f"  answer {number}     {said}")
        right = []
        of = []
        for length in (1, 2, 3, 4):
            found, all_runs = count_runs(said.split(), reference.split(), length)
            right.append(found)
            of.append(all_runs)
        print(f"    runs of 1 to 4 words found  {fractions(right, of)}")
        matches = [a + b for a, b in zip(matches, right, strict=True)]
        totals = [a + b for a, b in zip(totals, of, strict=True)]
        reference_words += len(reference.split())
        answer_words += len(said.split())
        if number == 2:
            print(f"    both added up               {fractions(matches, totals)}")
        product = 1.0
        for k in range(4):
            product *= matches[k] / totals[k]
        # Below 1 if the answers have fewer words than the references, else 1.
        brevity = min(1.0, math.exp(1 - reference_words / answer_words))
        bleu = 100 * brevity * product**0.25
        answers = [answer for _, answer in pairs[:number]]
        truth = [wanted for wanted, _ in pairs[:number]]
        theirs = utils.bleu_scores(answers, truth)["bleu"]
        print(
            f"    brevity e^(1 - {reference_words}/{answer_words}) = {brevity:.3f}, "
            f"product {product:.4f}"
        )
        print(
            f"    BLEU 100 * {brevity:.3f} * {product:.4f}^(1/4) = {bleu:.2f}; "
            f"sacrebleu: {theirs:.2f}"
        )
    utils.say(
        """Reading it: the second answer alone has no run of three right, so alone its
        product would be 0.  Added to the first it lowers the score, as it should."""
    )


# --- What is a BLEU worth?
#
# 100 means: word for word the reference.  A good translation in other words is far
# below.  So BLEU is for comparing systems on the same test set, counted in the same way
# (here: in lower case, words split as sacrebleu's "13a" does; the run prints its
# signature).  --task translate, on the test set of Multi30k [real], seed 0:
#
#     leaving the English as it is                                          0.7
#     a dictionary, word for word, in the English order                    17.4
#     this lesson's network, greedy                                        18.6
#     the same, beam 5                                                     18.6
#     lesson 09's, without attention: it reads in two directions, and is
#       given its one state of the source again at every word              32.5
#     lesson 09's, with attention: it looks at each word of the source     54.8
#
# So on real sentences this network is hardly better than a word list (by 1.2, p = 0.04;
# another run, on two threads, which round otherwise, had 17.5 and 17.9: no better).
# What it writes is good French about something else.  And attention is not all that it
# lacks: of the 36 points up to the last line, 14 come without it, from two changes at
# once and some smaller ones.  How many each brings was not measured, nor what
# --reverse-source does.
#
# Without the download the task takes sentences made by a few patterns out of 197 French
# words (sample [sample], one thread, a minute or two): 35.4 by greedy, 36.2 by beam 5,
# 18.1 by the dictionary; easier sentences, so not to be compared with those above.  One
# of the wrong translations there:
#
#     source      The young woman sees the expensive cakes but does not like them.
#     reference   La jeune femme voit les gâteaux chers mais ne les aime pas.
#     beam 5      La jeune femme voit ses vaches blanches mais ne les voit pas.
#     dictionary  Les jeune femme voit les cher gâteaux mais ne pas aiment les.
#
# The network's grammar is right, but its cakes are white cows.  The dictionary has the
# right things and no grammar.  (It learns its words by counting which occur together:
# where the English has "man", the French often has homme.  IBM model 1, Brown et al.,
# 1993.)


# What would a sceptic compare with?  For translations, that dictionary.  For digits,
# "copy" writes the question again.  It is right if that reads the same backwards, and
# the middle digit of an odd number of digits is always right.  "chance" knows how many
# digits there are, and draws each.  Nobody should lose to these two; a harder yardstick
# comes at the end, a guess that knows the digits but not their order.


def baselines(task, train, test):
    """The rivals on the test part: name -> (answers or None, grades)."""
    asked = [source for source, _ in test]
    truth = [target for _, target in test]
    if task == "translate":
        made = utils.pair_baselines(train, test)
        return {name: (said, grade(task, said, truth)) for name, said in made.items()}
    # 1 digit in 10 is right; of n digits, all are right in 0.1^n of cases.
    luck = sum(0.1 ** len(text.split()) for text in truth) / len(truth)
    return {
        "copy": (asked, grade(task, asked, truth)),
        "chance": (None, {"exact_match": luck, "token_accuracy": 0.1}),
    }


def show_answers(data, found, others):
    """Print some test pairs and what was written: by kinds, right, different, wrong."""
    kinds = {"right": [], "different": [], "wrong": []}  # places of pairs
    for place, (_, target) in enumerate(data.parts[TEST]):
        said = [utils.split_pair(answers[place]) for answers in found.values()]
        if said[0] != said[-1]:
            kinds["different"].append(place)
        elif said[0] == utils.split_pair(target):
            kinds["right"].append(place)
        else:
            kinds["wrong"].append(place)
    counts = {kind: f"{len(places):,}" for kind, places in kinds.items()}
    print(f"\n{data.source.label}: test pairs and what was written, some of each kind.")
    print(f"  {counts['right']} answers are the reference word for word", end=", ")
    print(f"{counts['wrong']} are not;")
    print(f"  for {counts['different']} the searches write different answers")
    # ^ stands below the first letter that is another one than the reference's.
    chosen = spread(kinds["right"], 1) + spread(kinds["different"], 2)
    for place in chosen + spread(kinds["wrong"], 3):
        source, target = data.parts[TEST][place]
        print(f"\n  source          {source}\n  reference       {target}")
        written = {}  # answer -> the searches that write it
        for name, answers in found.items():
            written.setdefault(answers[place], []).append(name)
        for said, names in written.items():
            right = utils.split_pair(said) == utils.split_pair(target)
            print(f"  {', '.join(names):<15} {said}  {'✔' if right else '✘'}")
            if not right:
                print(" " * (18 + len(commonprefix([said, target]))) + "^")
        if "dictionary" in others:
            print(f"  dictionary      {others['dictionary'][0][place]}")


# How do words right (accuracy, the true words given) and answers right (exact_match,
# its own words given) go together?  There is a simple law.  Until its first mistake,
# the network's own words *are* the true words.  Up to there both ways of feeding are
# the same, step by step.  So an answer is right exactly if, with the true words given,
# each of its words is the likeliest one (of those that may be written).
#
# Therefore exact_match cannot show exposure bias at all.  It can only show in what
# comes after a slip.


@torch.no_grad()
def count_slips(model, batches):
    """Of each answer (N): how many words are wrong if the true ones are given."""
    slips = [0] * batches.n
    for batch in batches:
        target = batch["target"]  # (B, Tt)
        scores = model(batch["source"], batch["source_length"], target)  # (B, Tt, V)
        wrong = (scores.argmax(-1) != target) & (target != PAD)  # (B, Tt)
        for place, row in zip(batch["index"].tolist(), wrong, strict=True):
            slips[place] = int(row.sum())
    return slips


def explain_slips(model, data, greedy, forced, args):
    """Print what is wrong with the true words given, and what when written greedily.

    greedy: N answers.  forced: loss, accuracy, perplexity, with the true words given.
    """
    slips = count_slips(model, data.test)
    words = int(data.test.lengths["target_length"].sum())
    print(f"\nThe true words given: accuracy {forced['accuracy']:.4f}", end=", ")
    print(f"perplexity {forced['perplexity']:.4f}.")
    print(f"  {sum(slips):,} of {words:,} words are wrong, <eos> counted", end=", ")
    print(f"in {sum(count > 0 for count in slips):,} answers")
    if args.task != "reverse":
        return
    wrong = []  # wrong places of each answer
    both = 0
    for slip, said, (_, wanted) in zip(slips, greedy, data.parts[TEST], strict=True):
        right, places = right_places(said, wanted)
        wrong.append(places - right)
        both += slip > 0 and right < places
    print("Its own words given, written greedily:")
    wrong_answers = sum(count > 0 for count in wrong)
    print(f"  {sum(wrong):,} digits are wrong, in {wrong_answers:,} answers", end=", ")
    print(f"{both:,} of them those above")
    utils.say(
        """Reading it: an answer goes wrong at its first slip, and up to there both ways
        are the same.  What its own words do to it shows only after that.  (One more
        wrong digit is due in any case: a swap puts two in wrong places.)"""
    )


# Is beam search better than greedy search, or was it luck?  On the test part the two
# differ too rarely to tell.  Sources longer than in training are harder, so there we
# look, by McNemar's test of lesson 04: only the answers count that one of the two gets
# right.  Each step computes K beginnings, so the work grows with K.
#
# BLEU is no mean over sentences.  So one draws as many test sentences as there are,
# with repeats, takes the gap between both scores on them, and does that a thousand
# times (paired bootstrap, Koehn, 2004).  p is the share of gaps that exceed their own
# mean by more than the gap that was measured.


def in_words(p):
    """p as a text, with what one makes of it."""
    verdict = "more than luck" if p < 0.05 else "it could be luck"
    return f"p = {p:.2g}, {verdict}"


def draw_longer(args):
    """Pairs of digits, 200 of each length from one to BEYOND more than in training."""
    generator = torch.Generator().manual_seed(8)
    lengths = []
    for length in range(args.max_length + 1, args.max_length + BEYOND + 1):
        lengths += [length] * 200
    return draw_pairs(lengths, generator)


def explain_searches(model, data, found, args):
    """Print what beam search gains over greedy search."""
    if args.task == "translate":
        truth = [target for _, target in data.parts[TEST]]
        # found is in the order in which it was asked: greedy first, the widest last.
        p = utils.bleu_p_value(list(found.values())[-1], found["greedy"], truth)
        print(f"\nThe gap between the BLEU of both searches: {in_words(p)}.")
        print("(p = 0.001 is the least that a thousand draws can show.)")
        return
    # At the lengths of training nearly all answers are right, and nothing is left to
    # gain.  So longer sources are asked, where greedy search often errs.
    asked, truth = zip(*draw_longer(args), strict=True)
    longest = args.max_length + BEYOND
    rows = {}
    for beam_size in sorted({1, 2, args.beam_size}):
        answers, log_ps = write_answers(model, data, asked, beam_size, args, longest)
        right = [said == wanted for said, wanted in zip(answers, truth, strict=True)]
        row = {"right": sum(right), "log_p": sum(log_ps) / len(log_ps)}
        if beam_size == 1:
            greedy_right = right
        else:
            alone, greedy_alone, p = utils.mcnemar(right, greedy_right)
            row |= {"right alone": alone, "greedy alone": greedy_alone, "p": f"{p:.2g}"}
        rows[beam_size] = row
    title = f"Does beam search pay?  {len(asked):,} sources of {args.max_length + 1}"
    utils.print_table(f"{title} to {longest} digits", rows, corner="K")
    print(f"So K = {beam_size} against greedy search, K = 1: {in_words(p)}.")


# --- Where it fails -------------------------------------------------------------------
#
# Longer sources put more into the state, so we count by length.  For digits we can go
# beyond the lengths of training, and below.  If an answer to a long source is wrong,
# what is wrong with it?
#
#   its end       The network may have learned to end after at most so many digits.  The
#                 share of answers with the right number of digits, `right_length`,
#                 shows it.
#   its digits    They may be others than those that were read.
#   their order   They may be the right digits, but two of them changed places.
#
# And in which part of the answer are the mistakes?  A guess: in the last third, for
# that has to be kept for longest.  Look whether it is so.


def count_mistakes(answered):
    """What is wrong: kind -> how many of the (answer, truth) in the list."""
    counts = {
        "too short": 0,
        "too long": 0,
        "the right number of digits, but not the right ones": 0,
        "  of these, the right digits in another order": 0,
    }
    for answer, wanted in answered:
        written = answer.split()
        digits = wanted.split()
        # Each wrong answer is of one kind; the fourth is a part of the third.
        if len(written) < len(digits):
            counts["too short"] += 1
        elif len(written) > len(digits):
            counts["too long"] += 1
        elif written != digits:
            counts["the right number of digits, but not the right ones"] += 1
            if sorted(written) == sorted(digits):
                counts["  of these, the right digits in another order"] += 1
    return counts


def right_by_third(answered):
    """Shares of digits that are right in their place: first, middle and last third."""
    right = [0, 0, 0]
    all_places = [0, 0, 0]
    for answer, wanted in answered:
        written = answer.split()
        digits = wanted.split()
        for place, digit in enumerate(digits):
            third = 3 * place // len(digits)  # 0, 1 or 2
            all_places[third] += 1
            if place < len(written) and written[place] == digit:
                right[third] += 1
    return [right[k] / all_places[k] for k in range(3)]


def digits_by_length(model, data, greedy, args):
    """Greedy answers to sequences of all lengths, those never seen too; a picture.

    greedy: the greedy answers to the test sources.
    """
    generator = torch.Generator().manual_seed(9)
    shorter = []
    for length in range(1, SHORTEST):
        shorter += [length] * 200  # of one digit there are only 10
    new = draw_pairs(shorter, generator) + draw_longer(args)
    asked = [source for source, _ in new]
    longest = args.max_length + BEYOND
    said_to_new, _ = write_answers(model, data, asked, 1, args, longest)
    groups = {}  # number of digits -> list of (answer, truth)
    answers = [*greedy, *said_to_new]
    for (_, target), said in zip(data.parts[TEST] + new, answers, strict=True):
        groups.setdefault(len(target.split()), []).append((said, target))
    rows = {}
    longer = []
    for length, answered in sorted(groups.items()):
        said = [answer for answer, _ in answered]
        truth = [wanted for _, wanted in answered]
        right_length = sum(len(answer.split()) == length for answer in said)
        rows[length] = {
            "sequences": len(said),
            **grade(args.task, said, truth),
            "right_length": right_length / len(said),
        }
        if length > args.max_length:
            longer += answered
    title = f"{data.source.label}, {args.cell}: greedy answers by length of the source"
    corner = f"digits (training: {SHORTEST} to {args.max_length})"
    utils.print_table(title, rows, corner=corner)
    said, truth = groups[1][0]
    print(f"Of one digit training had none.  To {truth} the answer is: {said}")
    print(f"Of the answers to more than {args.max_length} digits, these are wrong:")
    for kind, count in count_mistakes(longer).items():
        print(f"  {kind:<51}{count:>6,}")
    print(
        f"Digits that are right in their place, in all {len(longer):,} answers to more:"
    )
    shares = right_by_third(longer)
    for name, share in zip(("first", "middle", "last"), shares, strict=True):
        print(f"  {name + ' third':<13} {share:.4f}")
    if shares[1] < min(shares[0], shares[2]):
        utils.say(
            """Reading it: both ends do better than the middle, though the last third
            had to be kept for longest.  Why, was not looked into.  (A guess: an end has
            only one neighbour to be swapped with.)"""
        )
    lines = {}
    for measure in ("exact_match", "token_accuracy", "right_length"):
        lines[measure] = [grades[measure] for grades in rows.values()]
    utils.plot_lines(args, "length", title, lines, corner, "share", x=list(rows))
    if not args.no_plots:
        print("  In it: how far does each curve hold, to the right of training?")


# Is a state of this size too small for more than 10 digits, or were they only never
# practised?  One can tell, by training on longer ones, and by a smaller state.  H is
# how many numbers h has, and c as many again.  The share that greedy search writes
# without a mistake, by the digits of the source (one seed, one thread, 10 epochs unless
# said):
#
#     digits                       8        9       10       11       13       16
#     H = 128                 1.0000   1.0000   0.9771   0.9250   0.6200   0.0250
#     H = 128, trained to 16  1.0000   1.0000   1.0000   1.0000   0.9797   0.8261
#     H = 32                  0.9959   0.9207   0.7680   0.5450   0.1500   0.0050
#     H = 32, 20 epochs       0.9959   0.9724   0.8856   0.7450   0.2900   0.0100
#
# The second row decides.  The same number of weights, once it has practised, does 11
# digits always and 16 mostly (0.8261, before 0.0250).  So it was not the state that was
# too small for more than 10 digits: they were unpractised.  (Whether 16 come near its
# limit is another question: there not even practice makes perfect.)
#
# The smaller network fails already at 9 and 10 digits, which it was trained on.  So
# size counts.  But not alone: with twice the training (20 epochs) the same 64 numbers,
# 32 of h and 32 of c, do better.  In principle one number could hold ten digits, as
# 0.3141592653 does.  What counts is what training learns to put in and to read out.


# Is the order of the digits lost in the state, or in the writing?  Take an answer with
# a mistake, and give the decoder the true words, also after the mistake.  How many of
# the digits that follow does it find now?  <eos> is not counted: it is no digit, and
# easy.
#
# To judge that share one needs a yardstick.  Suppose the state held which digits there
# are, but nothing of their order.  Given the true words, one would know at each place
# which digits are left, and could only guess among them.  Say 5 5 7 are left: the best
# guess is 5, and it is right in two cases of three.
#
# This is where exposure bias can show: after a slip, with its own words.


def guess_without_order(left):
    """How often the best guess at the next of `left` is right: of 5 5 7, 2/3."""
    return max(Counter(left).values()) / len(left)


@torch.no_grad()
def after_first_mistake(model, batches):
    """What follows the first mistakes: how many words, and how many of them are right.

    with_true: right if true words are given; with_own: if its own are; guessed: by a
    guess that knows the words left, not their order; late: with its own words, answers
    in which the word that the first mistake left out comes later, at a wrong place.
    <eos> is not counted.
    """
    found = Counter()
    for batch in batches:
        target = batch["target"]  # (B, Tt)
        given = (batch["source"], batch["source_length"], target)
        with_true = model(*given, forced=True).argmax(-1) == target  # (B, Tt)
        own_words = model(*given, forced=False).argmax(-1)  # (B, Tt)
        with_own = own_words == target  # (B, Tt)
        # right             1 1 0 1 1
        # all right so far  1 1 0 0 0
        # after a mistake   0 0 0 1 1
        all_right_so_far = with_true.long().cumprod(1)  # (B, Tt)
        before_it = F.pad(all_right_so_far[:, :-1], (1, 0), value=1)  # (B, Tt)
        is_word = (target != PAD) & (target != EOS)  # (B, Tt)
        after = (before_it == 0) & is_word  # (B, Tt)
        found["words"] += int(after.sum())
        found["with_true"] += int((with_true & after).sum())
        found["with_own"] += int((with_own & after).sum())
        first = with_true.long().argmin(1, keepdim=True)  # (B, 1): place of the first 0
        left_out = target.gather(1, first)  # (B, 1)
        late = after & ~with_own & (own_words == left_out)  # (B, Tt)
        found["late"] += int(late.any(1).sum())
        for row, place in after.nonzero().tolist():
            left = target[row, place:][is_word[row, place:]]
            found["guessed"] += guess_without_order(left.tolist())
    return found


def show_after_a_mistake(model, data, args):
    """Print how many digits are right after a mistake: true words given, or its own."""
    # On sources of trained lengths there may be too few mistakes to count.
    pairs = draw_longer(args)
    tensors = utils.encode_pairs(pairs, data.vocabularies, args.max_length + BEYOND)
    batches = utils.Batches(tensors, 64, args.device, bucket="source")
    found = after_first_mistake(model, batches)
    digits = found["words"]
    print("\nAfter a mistake: does it find its way, with true words, and with its own?")
    print(f"In sources longer than in training {digits:,} digits stand after a first")
    print("mistake, <eos> not counted.")
    if not digits:
        return
    print(f"  right if the true words are given      {found['with_true'] / digits:.4f}")
    print(f"  right if its own words are given       {found['with_own'] / digits:.4f}")
    print(f"  a guess that does not know the order   {found['guessed'] / digits:.4f}")
    if found["with_true"] > found["guessed"]:
        print("Reading it: with true words it does better than the guess.  So not only")
        print("the digits are in the state, but their order too.")
    gap = (found["with_true"] - found["with_own"]) / digits
    due = found["late"] / digits
    if gap > due:
        utils.say(
            f"""Given its own words it finds fewer: the gap is {gap:.2f}.  Up to
            {due:.2f} of that is only the second half of the same mistake: in
            {found["late"]:,} answers the digit that was left out is written later, in a
            wrong place.  The rest is the help that a true word is to anybody, and
            exposure bias; the figures do not tell how much of each."""
        )


# Would training on its own words close that gap?  With --teacher-forcing 0.5 the shares
# are 0.8786 and 0.6670, the gap 0.21 (one seed, one thread; each network after its own
# mistakes).  But it makes more first slips: written greedily, 0.4333 of the longer
# sources are right, against 0.4767, and 0.9943 of the test part, against 0.9964.


def conclude(data, found, others, rows, args):
    """The answer to the title."""
    # The last search is the widest: beam search, unless --beam-size is 1.
    name = list(found)[-1]
    grades = rows[f"{args.cell}, {name}"]
    print("How does one sequence become another?")
    utils.say(
        """One network reads the source into a state of fixed size, a second writes from
        that state, one word after another, each chosen by the words before it."""
    )
    if args.task == "reverse":
        rival = max(others, key=lambda other: others[other][1]["exact_match"])
        utils.say(
            f"""Of the test sequences {grades["exact_match"]:.1%} are reversed without a
            mistake; of its rivals {rival} comes furthest, with
            {others[rival][1]["exact_match"]:.1%}.  Longer sources than in training are
            harder; in a recorded run practice moved that limit, without a larger state
            (section 4, the table of H).  Sentences are harder than digits.  Lesson 09
            lets the decoder look back at every word."""
        )
        return
    truth = [target for _, target in data.parts[TEST]]
    rival = max(others, key=lambda other: others[other][1]["bleu"])
    p = utils.bleu_p_value(found[name], others[rival][0], truth)
    gap = grades["bleu"] - others[rival][1]["bleu"]
    print(f"Its BLEU is {grades['bleu']:.1f}; the best rival, {rival}, has", end=" ")
    print(f"{others[rival][1]['bleu']:.1f}: {gap:+.1f}, {in_words(p)}.")
    # The signature does not depend on the answers.
    signature = utils.bleu_scores(truth, truth)["signature"]
    print(f"How BLEU was taken, to be quoted beside it: {signature}")
    utils.say(
        """Lesson 09 first gives the decoder the state again at every word, then lets it
        look back at every word of the source."""
    )


# ====================================================================================
# 5. Command line
# ====================================================================================
#
# From here on it is machinery, to be skipped in a first reading: which data, which
# network, which examples; the table and metrics.json; the flags; and `main`,
# which calls all of the above in order.


def choose_pairs(args):
    """(Source, [training, validation, test]); a pair is (source, target), two texts."""
    if args.task == "reverse":
        if args.input or args.dataset != "auto":
            raise utils.UserError("--task reverse makes its own data; drop --task")
        return utils.Source("reverse", None, real=False), make_digits(args)
    offline = {"sample": utils.SAMPLES / "en-fr.tsv"}
    source = utils.choose_dataset(args, ["multi30k"], offline)
    return source, utils.load_pairs(args, source)


def new_model(source, parts, args):
    """(config, word_lists) of a new model: how to build it, which words it knows."""
    # A word seen once teaches little.  In a large training part such words become
    # <unk>: so the network also learns what to do with a word that it does not know.
    word_lists = utils.pair_feeds(source, parts[0])
    config = {
        "source_words": len(word_lists["source_words"]),
        "target_words": len(word_lists["target_words"]),
        "embedding": EMBEDDINGS[args.task],
        "cell": args.cell,
        "hidden": args.hidden_size,
        "layers": args.num_layers,
        "dropout": args.dropout,
        "reverse_source": args.reverse_source,
    }
    return config, word_lists


def choose_source(model, data, args, beam_size, longest):
    """The shortest test source on which the searches differ; else the shortest."""
    by_length = sorted([source for source, _ in data.parts[TEST]], key=len)
    short = [text for text in by_length if len(utils.split_pair(text)) <= 10]
    greedy, _ = write_answers(model, data, short, 1, args, longest)
    wider, _ = write_answers(model, data, short, beam_size, args, longest)
    for text, said, other in zip(short, greedy, wider, strict=True):
        if said != other:
            return text
    return by_length[0]


def spread(places, count):
    """`count` of a list's items, from all over it; or all, if it has fewer."""
    step = max(1, len(places) // max(1, count))
    return places[::step][:count]


def searches(args):
    """The searches to show: name -> beam size."""
    found = {"greedy": 1}
    if args.beam_size > 1:
        found[f"beam {args.beam_size}"] = args.beam_size
    return found


def report(model, records, data, args):
    """Answer the test sources, by each search and each rival; write metrics.json.

    Returns (found, others, rows, forced): the answers of each search, those of the
    rivals, the table, and loss and accuracy with the true words given.
    """
    asked = [source for source, _ in data.parts[TEST]]
    truth = [target for _, target in data.parts[TEST]]
    rows = {}
    found = {}
    metrics = {}
    for name, beam_size in searches(args).items():
        answers, log_ps = write_answers(model, data, asked, beam_size, args)
        found[name] = answers
        grades = grade(args.task, answers, truth)
        grades["log_p"] = sum(log_ps) / len(log_ps)
        rows[f"{args.cell}, {name}"] = grades
        ending = "_beam" if beam_size > 1 else ""
        for key, value in grades.items():
            metrics[f"test_{key}{ending}"] = value
        if args.task == "translate":
            # Capital letters counted, as other papers have it.
            cased = utils.bleu_scores(answers, truth)["bleu_13a"]
            metrics[f"test_bleu_13a{ending}"] = cased
    forced = utils.evaluate(model, make_measure(1.0), data.test, args)
    forced["perplexity"] = math.exp(min(forced["loss"], 700))  # e^710 is no float
    metrics["test_perplexity"] = forced["perplexity"]
    metrics["test_forced_accuracy"] = forced["accuracy"]
    others = baselines(args.task, data.parts[0], data.parts[TEST])
    for name, (_, grades) in others.items():
        rows[name] = grades
    main_measure = "bleu" if args.task == "translate" else "exact_match"
    known = {name: grades[main_measure] for name, (_, grades) in others.items()}
    words = int(data.train.lengths["target_length"].sum())
    size = utils.count_parameters(model)
    utils.write_metrics(
        args, data.source, metrics, known, size, records, words, "target words"
    )
    return found, others, rows, forced


def print_predictions(model, data, args):
    """`--predict`: the answers, greedy and by beam search."""
    # Digits may be more than in training, as many more as section 4 has tried.
    limit = args.max_length
    if args.task == "reverse":
        limit += BEYOND
    print()
    for text in args.predict:
        given = utils.split_pair(text)
        # A longer text is cut, and the reader told so.
        if len(given) <= limit:
            print(text)
        else:
            print(f"The first {limit} words of {text:.60}")
        # A word that training did not have is not refused: it is read as <unk>.
        unknown = [word for word in given if word not in data.vocabularies[0]]
        if unknown:
            print(f"  read as {utils.UNK}: {', '.join(unknown[:10])}")
        for name, beam_size in searches(args).items():
            answers, log_ps = write_answers(model, data, [text], beam_size, args, limit)
            print(f"  {name:<10} {answers[0]}  (log_p {log_ps[0]:.2f})")
    print("Reading it: it answers anything, in the words of its training.")


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
    """Values of flags that were not given; data of one's own are to be translated."""
    own = args.input or args.dataset != "auto"
    task = args.task or ("translate" if own else "reverse")
    if own and not args.task:
        print("Task: translate, since --dataset or --input is given.")
    return {"task": task, **DEFAULTS[task]}


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    own = "two texts a line, a tab between them; implies --task translate"
    utils.add_data_flags(parser, ["multi30k", "sample"], own)
    # What depends on the task has no value here: `defaults` takes it from DEFAULTS.
    utils.add_training_flags(parser, dropout=None)
    add = parser.add_argument_group("this lesson").add_argument
    add(
        "--task",
        choices=list(DEFAULTS),
        help="default reverse, with --dataset or --input translate; sets other defaults",
    )
    add("--cell", choices=list(CELLS), default="lstm", help="default lstm")
    add(
        "--teacher-forcing",
        type=utils.real(0, 1),
        default=1.0,
        help="share of batches that are given the true words (default 1)",
    )
    add("--reverse-source", action="store_true", help="encode the last word first")
    add(
        "--max-length",
        type=utils.whole(1, 1000),
        help="words that are read of a text; of digits, the longest in training",
    )
    add("--beam-size", type=utils.whole(1, 100), default=5, help="1: greedy alone")
    add("--predict", nargs="+", metavar="TEXT", default=[], help="texts to answer")
    return parser


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__, defaults=defaults)
    if args.task == "reverse":  # "314" and "3 1 4" are both read as "3 1 4"
        args.predict = [" ".join(text.replace(" ", "")) for text in args.predict]
    if not all(utils.split_pair(text) for text in args.predict):
        raise utils.UserError("--predict takes texts of one word or more")

    # 1. The data: read or made, one pair looked at.
    utils.heading("1. Data")
    source, parts = choose_pairs(args)
    if args.eval_only:
        model, config, word_lists = utils.load(args, Seq2Seq, dataset=source.name)
        args.cell = config["cell"]
    else:
        config, word_lists = new_model(source, parts, args)
    data = load_data(source, parts, word_lists, args)
    sizes = " / ".join(f"{len(part):,}" for part in parts)
    words = " and ".join(f"{len(vocabulary):,}" for vocabulary in data.vocabularies)
    print(f"{source.label}: {sizes} pairs to train, validate, test;")
    print(f"{words} words in the vocabularies of sources and targets")
    if args.task == "reverse":
        print("([sample]: the digits are made up.  --task translate has real data.)")
    show_one_pair(data, args)

    # 2. The model: what is handed over from one network to the other.
    utils.heading("2. Model")
    show_state_handed_over()

    # 3. Training: the loss; true words or its own; who teaches the encoder; then the
    #    real thing.
    utils.heading("3. Training")
    show_chain_rule()
    show_two_ways_to_feed()
    show_who_teaches_the_encoder()
    records = []
    if not args.eval_only:
        model, records = train_model(config, data, args, word_lists)
        panels = {"loss": ["loss", "val_loss"]}
        panels["share of words right"] = ["accuracy", "val_accuracy"]
        title = f"Training, {source.label}, {args.cell}"
        utils.plot_records(args, "training", title, {args.cell: records}, panels)
        if not args.no_plots:
            print("  In it: do the curves part?  Where they do, it learns by heart.")
    model.eval()  # no dropout from here on: now it writes

    # 4. How it writes: word by word; a batch; answers of other lengths; greedy search
    #    loses; beam search.
    utils.heading("4. Evaluation: how it writes")
    show_writing(model, data, args)
    show_writing_a_batch(model, data, args)
    show_translating()
    show_greedy_loses()
    show_beam_on_one_source(model, data, args)

    #    How good it is: BLEU; answers to the test part; the table and how to read it.
    utils.heading("4. Evaluation: how good it is")
    show_bleu()
    found, others, rows, forced = report(model, records, data, args)
    show_answers(data, found, others)
    title = f"{data.source.label}: test, {len(data.parts[TEST]):,} pairs"
    utils.print_table(title, rows)
    print("log_p: of each answer the mean log probability of its words; then the mean")
    print("over the answers.")
    greedy = found["greedy"]
    explain_slips(model, data, greedy, forced, args)
    explain_searches(model, data, found, args)

    #    Where it fails, in digits: by length; after a mistake.
    if args.task == "reverse":
        utils.heading("4. Evaluation: where it fails")
        digits_by_length(model, data, greedy, args)
        show_after_a_mistake(model, data, args)
    utils.heading("What this lesson found")
    conclude(data, found, others, rows, args)
    if args.predict:
        print_predictions(model, data, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
