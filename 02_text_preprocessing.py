"""02 · How does text become numbers?

A network multiplies and adds, so it takes numbers only.  This lesson follows text on
its whole way to numbers, and back:

    text      "The cat saw the king."
    tokens    the  cat  saw  the  king  .      pieces: words, characters, parts of words
    ids       4  5  1  4  6  7                 each piece's number in a list of pieces
    row       2  4  5  1  4  6  7  3  0  0     filled up, so that rows are equally long
    mask      1  1  1  1  1  1  1  1  0  0     1: to be read, 0: only filled up
    vectors   [0.5, 0.0], [0.8, 0.1], ...      the numbers that a network computes with

(1 is "saw", which is not in this list; 2 and 3 mark where the text begins and ends.)
The list of pieces is called the vocabulary; the table of vectors, one row for each
piece, is called the embedding.

What you will learn
    - what to clean away before cutting, and what to leave alone
    - four ways to cut text into tokens, and what each of them costs
    - byte-pair encoding, which learns its pieces from text and knows every text
    - counting, sorting, numbering and looking up tokens: a vocabulary in a dozen lines
    - what <pad>, <unk>, <bos> and <eos> are for
    - what an embedding row is, and which rows one step of training changes
    - how counting neighbours, without any network, tells which words are alike, and
      how such counts become the rows of an embedding
    - how to save all of it, so that a trained network can be used again

You need lesson 01 (padding, lengths, mask) and Python's lists and dicts.

Run it
    python 02_text_preprocessing.py
    python 02_text_preprocessing.py --tokenizer bpe --merges 1000
    python 02_text_preprocessing.py --tokenizer word --max-vocab 1000 --min-freq 5
    python 02_text_preprocessing.py --max-length 20 --quick
    (--quick takes the first 400 texts only: a few seconds.)

You should see  (shakespeare [real], that is published data; about 10 seconds)
                        V  weights  tokens/document  unknown  texts hit  exactly back
      basic_english 6,213  621,300             25.4    6.44%      63.6%          0.0%
      word          7,245  724,500             26.6    7.07%      70.8%          0.0%
      bpe             760   76,000             52.1    0.00%       0.0%        100.0%
      char             68    6,800            112.1    0.00%       0.0%        100.0%
    Each line is one way to cut text: two into words, one into parts of words, one into
    characters.  (bpe, byte-pair encoding, begins with single bytes and makes 500 merges:
    each joins two pieces into a longer one.)  V is the size of the vocabulary, learnt
    from 6,500 speeches of plays (a word must occur twice there); weights is the size of
    the embedding, at 100 numbers a token.  The other columns are counted on 722 speeches
    that were held out, for text that nobody has seen:
        tokens/document   how many tokens a speech has on average
        unknown           the share of tokens that are not in the vocabulary
        texts hit         the share of speeches with at least one such token
        exactly back      the share of speeches that are the same after
                          text -> ids -> text, whole, with nothing cut off.  A network
                          can write only what comes back

    Then a trial: does a sentence that has lost its last mark end in a full stop or in a
    question mark?  By plain counts, word is right for 0.7793 of the sentences, bpe for
    0.7117; guessing gets 0.5, and a look at the length alone 0.66.  At the end, which
    words are alike, by counting.  Nearest to father: brother, his, husband, son.

Try this  (guess first: each run prints the answer.  docs/exercises.md goes through the
          second and the third)
    --dataset sample       film reviews, short and much alike.  Which column of the
                           table changes most?
    --min-freq 1 --max-vocab 20000
                           every token of the training part now has an id.  Which figure
                           of the first run tells how much is still unknown?
    --tokenizer bpe --merges 3000
                           500 merges took rows from 112.1 tokens to 52.1.  How far do
                           six times as many take them, and does the trial gain by it?
    --max-length 10        how much of the text is lost, and how much padding is left?

Functions named show_ are toys: read them together with what they print.  Of section 4,
read the comments and what is printed; how it is done may be skipped.
"""

# Sizes
#     B  batch (documents handled together)
#     T  time (places in a row, padding included)
#     V  vocabulary (how many tokens have an id)
#     E  embedding (how many numbers stand for one token)
#
# A row is a line of a table: the ids of one document, or the vector of one token.

import html
import json
import random
import sys
import unicodedata
from collections import Counter
from itertools import chain, pairwise

import numpy as np
import regex  # like Python's own re; below WORD stands why it is taken
import torch
from torch import nn
from torch.utils.data import DataLoader

import rnn_utils as utils
from rnn_utils import BOS, EOS, PAD, UNK

# "<pad>", "<unk>", "<bos>", "<eos>" stand in no text; step 3 tells what each is for.
SPECIALS = [PAD, UNK, BOS, EOS]  # their ids are 0, 1, 2, 3

# ====================================================================================
# 1. Data
# ====================================================================================
#
# The whole lesson on one sentence, first:
#
#     text --cut--> tokens --number--> ids --fill up--> row, mask --look up--> vectors
#      ^               |                |
#      +----- join ----+--- look back --+
#
# Everything in `show_one_sentence` is written out with lists alone.  The rest of the
# file does the same steps for thousands of texts, and explains each where it stands.
#
# Why are the ids not enough?  An id is a name, not an amount.  A network that was
# handed cat = 5 and king = 6 would take a king for a little more than a cat.  So an id
# is only used to pick a row out of a table, and the numbers in that row, the vector,
# are what the network computes with.  Training may change them as it likes.


def show_one_sentence():
    """Text, tokens, ids, padded row, mask, vectors, and back: every step with lists."""
    text = "The cat saw the king."

    # 1. Cut the text into tokens.  Lower case makes one token of The and the.  The
    #    space before the full stop makes it a token of its own; without it, "king."
    #    would be another word than "king".
    spaced = text.lower().replace(".", " .")
    tokens = spaced.split()  # the cat saw the king .

    # 2. Number the tokens.  Here the vocabulary was chosen by hand; "saw" is not in it.
    #    A token's id is its place in the list; what is not there becomes <unk>, id 1.
    vocabulary = ["<pad>", "<unk>", "<bos>", "<eos>", "the", "cat", "king", "."]
    ids = [2]  # <bos>: here the text begins
    for token in tokens:
        if token in vocabulary:
            ids.append(vocabulary.index(token))
        else:
            ids.append(1)
    ids.append(3)  # <eos>: here it ends

    # 3. Fill the row up.  A batch is one table of numbers, all rows as long as the
    #    longest.  Say that another text of this batch has 10 tokens.  <pad> has id 0.
    missing = 10 - len(ids)
    row = ids + [0] * missing

    # 4. The mask remembers which places are to be read, so that later steps can leave
    #    out the others: 1 yes, 0 no.
    mask = [1] * len(ids) + [0] * missing

    # 5. Each id picks its row of the embedding: here 8 rows (V) of 2 numbers (E).
    embedding = [
        [0.0, 0.0],  # 0 <pad>
        [0.1, 0.2],  # 1 <unk>
        [0.5, 0.0],  # 2 <bos>
        [0.0, 0.5],  # 3 <eos>
        [0.8, 0.1],  # 4 the
        [0.3, 0.9],  # 5 cat
        [0.4, 0.7],  # 6 king
        [0.9, 0.6],  # 7 .
    ]
    vectors = [embedding[i] for i in row]

    # 6. And back: look the ids up in the list, leave out what was added, join.
    found = [vocabulary[i] for i in row if i not in (0, 2, 3)]
    back = " ".join(found)

    utils.heading("One sentence on its whole way")
    print(f"  text:   {text}")
    print(f"  tokens: {tokens}")
    print_line("place", range(len(row)))
    print_line("read as", [vocabulary[i] for i in row])
    print_line("id", row)
    print_line("mask", mask)
    print_line("vector[0]", [vector[0] for vector in vectors])
    print_line("vector[1]", [vector[1] for vector in vectors])
    print(f"  back:   {back}")
    say(
        "Read a vector downwards: the one at place 2 (cat) is [0.3, 0.9].  Lost on the "
        "way: the capital letter, the spacing, and the word saw.",
    )


def print_line(label, cells):
    """One line of a table, its columns 6 characters wide."""
    print(f"  {label:<10}" + "".join(f"{cell:>6}" for cell in cells))


def say(text):
    """Print a paragraph, set in by two spaces."""
    utils.say(text, "  ")


# The real texts come from a file.  It is cut into documents: texts that become one row
# each.  In Shakespeare's plays a document is one speech; in a CSV file it is one cell
# of the column `text`.  (`read_documents`, in section 5, does the cutting.)
#
# The documents are split in two before anything is counted.  All that is learnt from
# text (vocabulary, merges, neighbours) is learnt from the training part alone; the
# held-out part stands for text that nobody has seen yet.  A vocabulary counted on both
# would know most held-out words beforehand: this is called leakage; `print_leakage`
# measures it.  The held-out part is the last tenth, not every tenth document, for
# neighbouring speeches share names and topic and would be easier than new text is.


def load_documents(args):
    """Returns (source, training documents, held-out documents), 9 to 1."""
    # Shakespeare, if it is there or can be fetched; else the sample of film reviews.
    # choose_dataset reads the flags --dataset and --input; source.path is the file.
    offline = {"sample": utils.SAMPLES / "reviews.csv"}
    source = utils.choose_dataset(args, ["shakespeare"], offline)
    found = read_documents(source.path, args.text_column)
    found = utils.capped(args, found, 400)  # --quick keeps 400 documents
    documents = []
    for text in found:
        text = unicodedata.normalize("NFC", text)  # step 1 tells why
        # A text of spaces and quotes alone has no tokens (step 1): it is left out.
        if basic_english(text):
            documents.append(text)
    if len(documents) < 2:
        raise utils.UserError(f"{source.path} needs two lines of text or more")
    cut = min(round(0.9 * len(documents)), len(documents) - 1)  # one at least is left
    return source, documents[:cut], documents[cut:]


# ====================================================================================
# 2. Model
# ====================================================================================
#
# There is no network in this lesson.  Its model is the way from text to numbers, in
# four steps: cut, number, fill up, look up.
#
# --- Step 1: cut text into tokens ----------------------------------------------------
#
# First, should the text be cleaned?  Yes, but take out only what belongs to no sentence.
# In a web page these are tags such as <b> and characters written as a code, &amp; for &.
# (Python's html.unescape turns the codes back; a parser such as BeautifulSoup takes the
# tags out.)  And Unicode can write é as one character, or as e and an accent: one word
# would be two tokens, depending on who typed it.  The form called NFC makes it one.
# (The texts of this lesson have no tags and no codes, so NFC is all they need.)
#
# The words of a sentence stay.  Older programs threw out frequent ones such as the, is,
# not (stop words), and cut endings off (stemming: saying and says become say).  A
# network that reads words in order needs the first, for not turns good round.  It can
# use the second, for an ending tells past from present.
#
# Two changes are worth a trial.  Numbers (or addresses on the web) are seldom the same
# twice: where a text has many, one token, <num>, can stand for all.  Lower case makes one
# word of The and the, but hides names, and where a sentence begins: `print_trial`, in
# section 4, measures it.
#
# A function that cuts text is called a tokenizer.  Here are four:
#
#     basic_english   lower case, punctuation marks apart    good|morrow|,|kate
#     word            case and apostrophes kept              Good|morrow|,|Kate
#     char            every character         G|o|o|d|_|m|o|r|r|o|w|,|_|K|a|t|e
#     bpe             frequent parts of words        G|ood|_m|or|row|,|_|K|ate
#
# (| parts tokens; _ is a space that belongs to one.)  The first three are fixed rules.
# The fourth, byte-pair encoding, is learnt from text; its pieces above are those of 500
# merges on Shakespeare.
#
# basic_english is a set of rules in torchtext, PyTorch's own library for text until 2024.
# It is the default here as the simplest to read, not as the best: `print_trial` tells.


def basic_english(text):
    """Tokens by torchtext's rules: lower case, no ", punctuation marks set apart."""
    text = text.lower()
    text = text.replace('"', "")
    text = text.replace("<br />", " ")  # the line break of a web page
    for mark in ";:":
        text = text.replace(mark, " ")  # torchtext drops these two
    for mark in "'.,()!?":
        text = text.replace(mark, f" {mark} ")  # these become tokens
    return text.split()  # at white space, however much of it


# All other marks stay where they are: well-known is one token, and "to die--to sleep"
# has the token die--to.  Each is one more that may be unknown.  basic_english breaks
# Don't into three tokens, and for it The is the same as the.  Where that hurts (names,
# German), take `words`: it keeps Don't whole, and The apart from the.
#
# It uses a regular expression: a pattern for text.  This one has two cases, and findall
# takes whichever fits first, again and again, from left to right.  (VERBOSE lets a
# pattern be spread over lines, with comments; spaces in it mean nothing then.)

WORD = regex.compile(
    r"""
    \w+         # one or more "word characters": letters of any language, digits, _
    (?:         # then a group ("(" alone would make findall return nothing else):
      ['’]\w+   #     an apostrophe, straight or curly, and more letters, as in Don't
    )*          # ... as often as it comes, or never
    |           # or, if no word begins here,
    [^\w\s]     # one character that is neither a word character nor white space: ! €
    """,
    regex.VERBOSE,
)
# Why regex, and not Python's own re?  In Hindi नमस्ते a vowel can be a mark on the
# letter before it.  The \w of re cuts the word there, into four pieces.


def words(text):
    """Words with their case (Don't stays one), each punctuation mark by itself."""
    return WORD.findall(text)


# The third tokenizer is Python's own list: list("Kate") is K, a, t, e, and spaces and
# line ends are characters too.


def show_cuts():
    """What cleaning does, then three fixed ways to cut one line."""
    print(f"\nCleaned: salt &amp; pepper -> {html.unescape('salt &amp; pepper')}")
    for form in ("NFD", "NFC"):  # NFD: the accent by itself
        length = len(unicodedata.normalize(form, "café"))
        print(f"  characters of café in the form {form}: {length}")
    # `visible` (section 4) shows a space that is itself a token as _.
    text = "She said: \"Don't pay O'Brien 3.50!\""
    print(f"\nThree ways to cut: {text}")
    print(f"  basic_english  {' '.join(visible(basic_english(text)))}")
    print(f"  word           {' '.join(visible(words(text)))}")
    print(f"  char           {' '.join(visible(list(text)))}")
    say("basic_english drops the colon and the double quotes.  _ is a space, a token.")


# --- Step 1, continued: byte-pair encoding -------------------------------------------
#
# The problem: words need a large vocabulary and still meet unknown ones; characters
# know nearly every text, but make rows four times as long.  The idea of byte-pair
# encoding (Sennrich et al., 2016): begin with the smallest pieces, and join what often
# stands side by side.  Frequent words end as one piece, rare ones stay in parts.
#
#     1. Cut every word of the training part into its smallest pieces.
#     2. Count all pairs of neighbouring pieces.
#     3. Merge the most frequent pair into one new piece, wherever it stands.
#     4. Go back to 2, until there are as many merges as one wants: 500 here, tens of
#        thousands and more in a large language model.
#
# The smallest pieces here are bytes (as in Radford et al., 2019).  A computer stores
# text as bytes, numbers from 0 to 255.  In the form called UTF-8 an English letter is
# one byte and é is two; every character of every language is a sequence of bytes.  With
# all 256 in the vocabulary nothing is ever unknown.  b"ing" is how Python writes bytes.
# One outside plain English text it writes in base 16: \xc3 is 12 x 16 + 3 = 195.
#
# Words are looked at one by one, so that no piece reaches from one word into the next.
# The functions call such a part a chunk; what it is on real text comes after the toy.


def single_bytes(text):
    r"""The smallest pieces: "né" -> [b"n", b"\xc3", b"\xa9"]."""
    return [bytes([number]) for number in text.encode("utf-8")]


def count_pairs(chunk_counts, pieces):
    """How often each pair of neighbouring pieces occurs: {(left, right): count}.

    chunk_counts: how often each different chunk occurs.  pieces: how it is cut now.
    A chunk that occurs 20 times is looked at once, and its pairs count 20 times.
    """
    pairs = Counter()
    for chunk, count in chunk_counts.items():
        for pair in pairwise(pieces[chunk]):  # pairwise of a b c: (a, b), (b, c)
            pairs[pair] += count
    return pairs


def most_frequent(pairs):
    """The pair with the highest count; of equals the first by the alphabet."""
    highest = max(pairs.values())
    equals = [pair for pair, count in pairs.items() if count == highest]
    return min(equals)


def merge_pair(pieces, pair):
    """Join `pair` wherever it stands in a list of pieces, from left to right."""
    merged = []
    place = 0
    while place < len(pieces):
        here = tuple(pieces[place : place + 2])  # this piece and the next
        if here == pair:
            merged.append(pair[0] + pair[1])
            place += 2  # both are used up: in a a a only the first two join
        else:
            merged.append(pieces[place])
            place += 1
    return merged


def learn_bpe_plainly(chunk_counts, how_many, min_freq=2):
    """Count all pairs, merge the most frequent, count again: [(pair, count), ...]."""
    pieces = {chunk: single_bytes(chunk) for chunk in chunk_counts}
    learnt = []
    while len(learnt) < how_many:
        pairs = count_pairs(chunk_counts, pieces)
        if not pairs:
            break  # every word is one piece already
        best = most_frequent(pairs)
        if pairs[best] < min_freq:
            break  # what occurs once is no pattern
        learnt.append((best, pairs[best]))
        for chunk in chunk_counts:
            pieces[chunk] = merge_pair(pieces[chunk], best)
    return learnt


TOY_WORDS = {"rain": 4, "raining": 3, "train": 2, "training": 3, "king": 2}


def show_byte_pairs():
    """Five words, four merges: count all pairs, merge the best, count again."""
    pieces = {word: single_bytes(word) for word in TOY_WORDS}
    print("\nByte-pair encoding on five words: count all pairs, merge, count again")
    print_pieces(pieces)
    for number in range(1, 5):
        pairs = count_pairs(TOY_WORDS, pieces)
        best_four = sort_tokens(pairs)[:4]  # by falling count (the sorting of step 2)
        told = [f"{' '.join(visible(pair))} {pairs[pair]}" for pair in best_four]
        print(f"  pairs    {', '.join(told)}, ...")
        best = most_frequent(pairs)
        print(f"  merge {number}: {' + '.join(visible(best))}")
        for word in TOY_WORDS:
            pieces[word] = merge_pair(pieces[word], best)
        print_pieces(pieces)
    say(
        "Why 20 for i n?  Once in each word, 4 + 3 + 2 + 3 + 2 = 14, and a second time "
        "in raining and training, 3 + 3.  Then a in and r a have 12 each: the alphabet "
        "decides.  After four merges there are pieces that a reader knows: rain, ing.",
    )
    # New text is cut by the same merges, in the same order.
    new = single_bytes("straining")
    print(f"  A word that was never seen: {' '.join(visible(new))}")
    for pair, _ in learn_bpe_plainly(TOY_WORDS, 4):
        new = merge_pair(new, pair)
        print(f"    after {'+'.join(visible(pair)):>6}:  {' '.join(visible(new))}")


def print_pieces(pieces):
    """Each word as it is cut now, and how often it occurs."""
    cells = [f"{' '.join(visible(pieces[w]))} ×{TOY_WORDS[w]}" for w in pieces]
    print("    " + "   ".join(cells))


# On real text a chunk is a word with the space before it, a run of punctuation marks, or
# white space.  All chunks joined are the text again: nothing is lost.

CHUNK = regex.compile(
    r"""
    [ ]?\w+         # at most one space (in [ ], or VERBOSE skips it), then letters: " king"
    |               # or
    [ ]?[^\w\s]+    # at most one space, then punctuation marks: " --", "..."
    |               # or
    \s+             # white space that no word has taken: line ends, two spaces
    """,
    regex.VERBOSE,
)
# " king" is one chunk, so merges may make one piece of it, space and all.  At the start
# of a line, or after two spaces, there is no space left for it: "king" is another chunk.
# Don't becomes three chunks: Don, ' and t.


def count_chunks(texts):
    """How often each chunk occurs: what merges are learnt from."""
    counts = Counter()
    for text in texts:
        counts.update(CHUNK.findall(text))
    return counts


# New text is cut by the merges, in their order.  To try all 500 on every chunk is slow,
# so `utils.Merges` turns it round: of the pairs that stand in the chunk it joins the one
# that was learnt earliest, and looks again.  GPT-2 cuts in this way too.  Why is the
# result the same?  A merge makes only longer pieces, and a pair with a new piece in it
# was learnt later (unless that piece can be made in two ways, which is rare: both forms
# cut all 15,055 different chunks of Shakespeare alike).


class BytePairs:
    """Cuts new text into chunks, and each chunk by the merges that were learnt."""

    def __init__(self, merges):
        # It remembers each chunk: one is cut the same wherever it stands.
        self.merges = utils.Merges(merges, single_bytes)

    def cut(self, text):
        """Text -> tokens, which are pieces of bytes."""
        return self.merges.cut(CHUNK.findall(text))


def join_bytes(tokens):
    """Pieces of bytes -> text; half a character, where a row was cut, becomes a �."""
    return b"".join(tokens).decode("utf-8", errors="replace")


# The plain form looks at every chunk after every merge.  The shared `utils.learn_merges`
# keeps the counts and corrects them, for the few chunks that hold the pair: 50 merges on
# 500 speeches took it 0.19 seconds, and the plain form 1.17.  Lesson 09 uses it too, on
# letters instead of bytes.


def learn_bpe(chunk_counts, how_many, min_freq=2):
    """As learn_bpe_plainly, but only chunks that hold the pair are touched."""
    pieces = {chunk: single_bytes(chunk) for chunk in chunk_counts}
    return utils.learn_merges(pieces, chunk_counts, how_many, min_freq)


def show_chunks():
    """A real line in chunks; the two forms for real text equal the plain ones."""
    print("\nA real line is cut into chunks first")
    print(f"  chunks of 'Oh, née --  so!': {CHUNK.findall('Oh, née --  so!')}")
    print(f"  bytes of ' née': {' '.join(visible(single_bytes(' née')))}")
    plain = learn_bpe_plainly(TOY_WORDS, 4)
    same = learn_bpe(TOY_WORDS, 4) == plain
    merges = [pair for pair, _ in plain]
    cut = BytePairs(merges).cut("straining") == [b"s", b"t", b"rain", b"ing"]
    print("  learn_bpe and BytePairs, which are used on real text, on the five words:")
    print(f"  the same merges {same}, the same pieces of straining {cut}")


# To find the way back, the tokens must be joined.  (" ".join is a function too; it
# joins a list of tokens with spaces between them.)  bpe and char lose nothing; the
# words lose where the spaces were.

JOIN = {"basic_english": " ".join, "word": " ".join, "bpe": join_bytes, "char": "".join}


def make_tokenizers(merges):
    """Name -> the function that cuts a text into tokens."""
    return {
        "basic_english": basic_english,
        "word": words,
        "bpe": BytePairs(merges).cut,
        "char": list,
    }


# --- Step 2: number the tokens -------------------------------------------------------
#
# A vocabulary is a list of different tokens.  A token's id is its place in that list.
# To make one: count how often each token occurs in the training part, sort by count,
# number from 0.
#
# Why sort by count?  A network does not care: an id is only a name.  But a vocabulary
# must end somewhere, for each token costs a row of the embedding.  Then the rarest
# should go, and they are at the end of the list.  `max_size` cuts it there.
#
# `min_freq` leaves out what occurs fewer times than that, for two reasons.  A token
# seen once has too few examples to learn from.  And what is left out is <unk> in the
# training texts, so the vector of <unk> is trained.  With min_freq 1, and room for all,
# it would stay as random as it began.


def count_tokens(token_lists):
    """Lists of tokens -> {token: how often it occurs in all of them}."""
    counts = {}
    for tokens in token_lists:
        for token in tokens:
            counts[token] = counts.get(token, 0) + 1
    return counts


def sort_tokens(counts):
    """By falling count; equal counts by the alphabet, so that two runs agree."""
    return sorted(counts, key=lambda token: (-counts[token], token))


def number_tokens(counts, min_freq=1, max_size=10_000):
    """{token: id}, the special four first; max_size: of all, the four included."""
    kept = list(SPECIALS)
    for token in sort_tokens(counts):
        if counts[token] >= min_freq and token not in SPECIALS:  # see `to_row`
            kept.append(token)
    ids = {}
    for token in kept[:max_size]:
        ids[token] = len(ids)  # the first gets 0, the next 1, ...
    return ids


def look_up(tokens, ids):
    """Tokens -> ids; a token that has none gets that of <unk>."""
    return [ids.get(token, ids[UNK]) for token in tokens]


# The later lessons on text use the shared class utils.Vocabulary, which does the same:
#
#     utils.Vocabulary(tokens)        from a list: the first token has id 0
#     utils.Vocabulary.build(token_lists, SPECIALS, min_freq, max_size)
#     vocabulary.tokens, .ids         the list place -> token, the dict token -> id
#     vocabulary["cat"]               one id; that of <unk> if the token has none
#     vocabulary.encode, .decode      many tokens -> their ids, and back
#     "cat" in vocabulary             has it an id?     len(vocabulary): how many have


def show_vocabulary():
    """Count, sort, number and look up three short texts; equal to utils.Vocabulary."""
    texts = ["the dog saw the cat", "the king saw the dog", "a king slept"]
    token_lists = [text.split() for text in texts]  # toys: a space parts the tokens
    counts = count_tokens(token_lists)
    in_order = sort_tokens(counts)
    # A token must be seen twice to get a number, so that some here have none.
    ids = number_tokens(counts, min_freq=2)
    utils.heading("Step 2: number the tokens")
    print("A vocabulary of: " + " / ".join(texts))
    print("  count    " + "  ".join(f"{token} {counts[token]}" for token in counts))
    print("  sort     " + "  ".join(f"{token} {counts[token]}" for token in in_order))
    print("  number   " + "  ".join(f"{token} {ids[token]}" for token in ids))
    print("           (seen twice or more, after the special four)")
    asked = ["the", "cat", "saw", "a", "king"]
    print(f"  look up  {' '.join(asked)}: {look_up(asked, ids)}")
    print("           (cat and a have no number: 1, <unk>)")
    shared = utils.Vocabulary.build(token_lists, SPECIALS, min_freq=2)
    print(f"  utils.Vocabulary gives the same numbers: {shared.ids == ids}")


# Byte-pair encoding brings its own vocabulary: all bytes, and what each merge has made.
# It need not be sorted by count, for nothing is cut off; and <unk> never occurs.  The
# special four are str and all others bytes, so that no text can be taken for <pad>.


def bpe_vocabulary(merges):
    """The vocabulary that belongs to these merges."""
    tokens = [bytes([number]) for number in range(256)]
    for left, right in merges:
        tokens.append(left + right)
    different = dict.fromkeys(tokens)  # keeps each once, in order: abc may come twice
    return utils.Vocabulary([*SPECIALS, *different])


# --- Step 3: one table out of many rows ----------------------------------------------
#
# Four tokens come from no text.  The first makes rows of unequal length into one table,
# the other three tell a network what it could not see otherwise:
#
#     <pad>  0   padding: fills short rows up.  The mask is 0 there, and nothing is
#                learnt from it (lesson 01).  Without it there would be no table.
#     <unk>  1   unknown: stands for every token without an id.  Without it such a token
#                could only be left out, and nobody would see that one is missing.
#     <bos>  2   begin of sequence: what a network that writes is given first, when it
#                has written nothing yet.
#     <eos>  3   end of sequence: what such a network writes when it has finished.
#                Without it one would have to cut it off at some length.
#
# Here every row gets <bos> and <eos>, so that you can see them.  Networks that only read
# (lessons 04, 05, 07) do not need the two; those that write (08, 09) do.


def to_row(tokens, vocabulary, max_length):
    """<bos> tokens <eos> as ids, max_length at most: of a long text the beginning.

    A shortened text gets <eos> too.  Where that matters (a network would learn to stop
    too early), take windows instead (lesson 10).
    """
    kept = tokens[: max_length - 2]  # two places are for <bos> and <eos>
    # A text may hold the letters <pad>.  They must not become padding: they are unknown.
    kept = [UNK if token in SPECIALS else token for token in kept]
    return vocabulary.encode([BOS, *kept, EOS])


def from_row(ids, vocabulary, join):
    """Ids back to text: what was added goes, <unk> stays, so that the loss is seen."""
    added = (PAD, BOS, EOS)
    return join([token for token in vocabulary.decode(ids) if token not in added])


def show_special_tokens():
    """Two texts of unequal length become one table and its mask."""
    vocabulary = utils.Vocabulary([*SPECIALS, "the", "dog", "king", "saw"])  # step 2's
    texts = ["the dog", "the unicorn saw the king"]
    rows = [to_row(text.split(), vocabulary, max_length=100) for text in texts]
    ids, lengths = utils.pad(rows, vocabulary[PAD])  # (B, T), (B,); see lesson 01
    mask = utils.length_mask(lengths, ids.shape[1])  # (B, T)
    utils.heading("Step 3: one table out of many rows")
    print("Two texts in one table: " + " / ".join(texts))
    for row, row_mask in zip(ids.tolist(), mask.int().tolist(), strict=True):
        print(f"  ids {row}  mask {row_mask}")
    print(f"  the second, and back: {from_row(rows[1], vocabulary, ' '.join)}")
    shortened = to_row(texts[1].split(), vocabulary, max_length=5)
    back = from_row(shortened, vocabulary, " ".join)
    print(f"  the same, 5 places at most: {shortened}, and back: {back}")
    say("1 stands for unicorn, 0 fills up, 2 and 3 say where a text begins and ends.")


# --- Step 4: look up vectors ---------------------------------------------------------
#
# The embedding W is a table of V rows and E columns.  To look an id up is to copy its
# row, the vector v.  Books write it as a product of matrices instead:
#
#     v = one_hot(id) @ W        one_hot(id): V zeros, with a single 1 at the place `id`
#
#                       | w0 |
#     [0 0 1 0]    @    | w1 |    =    0 w0 + 0 w1 + 1 w2 + 0 w3    =    w2
#                       | w2 |
#                       | w3 |
#
# All products but one are with 0, so the row w2 remains.  The product takes V
# multiplications for every number of the result, copying none, so programs copy.  That
# it is a product explains why W can be trained like the weights of any linear layer.
#
# Which numbers stand in W?  Random ones at first, and training changes them.  Or one
# begins with vectors that were learnt from other text (the end of section 3).
#
# How large should E be?  More numbers can tell more tokens apart; but V x E weights
# must be learnt, and few texts cannot teach many.  One tries a small and a large E, and
# keeps what is better on validation data (lesson 04).  Lesson 04 takes 64, 05 takes 100.


def embed_by_one_hot(ids, weight):
    """ids (B, T), weight (V, E), which is W -> (B, T, E), as a product of matrices."""
    one_hot = nn.functional.one_hot(ids, len(weight))  # (B, T, V) of 0 and 1
    # one_hot gives whole numbers; for a product both must be of one kind.
    return one_hot.to(weight.dtype) @ weight  # (B, T, E)


def show_embedding_lookup():
    """Three ids looked up in a table of five rows: by product, copying, and PyTorch."""
    # Row 3 holds 30, 31: one sees where each number comes from.
    weight = torch.tensor([[0, 1], [10, 11], [20, 21], [30, 31], [40, 41]]).float()
    ids = torch.tensor([[3, 1, 3]])  # (B, T) = (1, 3): id 3 stands there twice
    by_product = embed_by_one_hot(ids, weight)  # (1, 3, 2)
    by_copying = weight[ids]  # (1, 3, 2)
    table = nn.Embedding(5, 2)  # V = 5 rows of E = 2 numbers
    with torch.no_grad():
        table.weight.copy_(weight)
    by_pytorch = table(ids)  # (1, 3, 2)
    one_hot = nn.functional.one_hot(ids, 5)  # (1, 3, 5)
    utils.heading("Step 4: look up vectors")
    print("The ids 3 1 3 in a table of V = 5 rows, E = 2 numbers each")
    for i, zeros, result in zip(ids[0], one_hot[0], by_product[0], strict=True):
        print(f"  id {i}: {zeros.tolist()} @ table = {result.tolist()}, row {i} of it")
    first = (by_product - by_copying).abs().max().item()
    second = (by_product - by_pytorch).abs().max().item()
    print(f"  largest difference to copying rows: {first}, to nn.Embedding: {second}")


# --- All of it for texts of your own -------------------------------------------------
#
#     texts = [html.unescape(text) for text in texts]                         # clean
#     texts = [unicodedata.normalize("NFC", text) for text in texts]
#     train_texts = texts[: len(texts) * 9 // 10]                             # split
#     token_lists = [basic_english(text) for text in train_texts]             # cut
#     vocabulary = utils.Vocabulary.build(token_lists, SPECIALS, min_freq=2)  # number
#     rows = [to_row(tokens, vocabulary, 100) for tokens in token_lists]
#     loader = DataLoader(rows, batch_size=4, collate_fn=utils.pad)           # fill up
#     table = nn.Embedding(len(vocabulary), 100, padding_idx=0)
#     for ids, lengths in loader:
#         mask = utils.length_mask(lengths, ids.shape[1])  # (B, T)
#         vectors = table(ids)  # (B, T, E)                                   # look up
#
# The held-out texts are cut and looked up in the same way, in the vocabulary of the
# training part.  DataLoader hands out batches; collate_fn says how rows become a table.
# (For training, lesson 04 mixes the order, and keeps rows of similar length together.)
# padding_idx=0: row 0 is padding (section 3).


# ====================================================================================
# 3. Training
# ====================================================================================
#
# No network is trained in this lesson.  Merges and vocabulary were learnt in section 2,
# by counting.  Two things are left: how training moves the rows of an embedding (one
# step, on a toy), and which words have the same neighbours (by counting again).
#
# --- The embedding: which rows does one step of training change? ---------------------
#
# Training changes numbers so that a loss falls; the loss is a number that says how
# wrong the result is.  The gradient tells, for each number of W, how the loss changes
# with it; a step subtracts a little of it: W - learning rate x gradient.  (Lesson 04
# writes the whole loop out.)
#
# The toy: every looked-up vector v should become [1, 1].  That goal means nothing; in a
# real task the layer that reads v says where v should go (lesson 04), and words that
# call for the same answer are pushed the same way.  In the toy the loss is the sum of
# (v - 1)² / 2, and its gradient is v - 1: the farther off, the larger.
#
#     A row that was not looked up is not in the loss: gradient 0, it stays.  (By Adam,
#     the way to step in later lessons, it drifts on a little if looked up before.)
#     A row that was looked up twice gets both gradients.
#     Row 0 is padding and must not learn.  padding_idx=0 tells nn.Embedding so: the row
#     begins as zeros, and its gradient is always 0.  (Its zeros still count in this
#     loss.  A real loss leaves padding out by the mask, lesson 01.)


def one_step(table, ids, learning_rate):
    """One step of training an nn.Embedding: every vector of `ids` towards ones."""
    vectors = table(ids)  # one more dimension than ids, of size E
    loss = ((vectors - 1) ** 2).sum() / 2
    loss.backward()  # writes the gradient of all rows into table.weight.grad, (V, E)
    with torch.no_grad():  # the step itself is nothing to take a gradient of
        table.weight -= learning_rate * table.weight.grad


def show_embedding_step():
    """One step of training on four ids by hand; equal to nn.Embedding's."""
    ids = [5, 2, 5, 0]  # 5 stands there twice, 0 is padding
    learning_rate = 0.1
    # Row 0 is padding; the rows 2 and 5 are looked up.
    before = [[0.0, 0.0], [0.1, 0.9], [0.2, 0.4], [0.7, 0.7], [0.6, 0.5], [0.5, 0.3]]

    # By hand: add up the gradients of each row, then subtract a tenth of them.
    gradients = [[0.0, 0.0] for _ in before]
    for i in ids:
        if i == 0:
            continue  # padding learns nothing
        for column in range(2):
            gradients[i][column] += before[i][column] - 1
    # An array, for its arithmetic goes number by number.
    after = np.array(before) - learning_rate * np.array(gradients)  # (V, E)

    # The same by PyTorch, which finds the gradient of any loss by itself.
    table = nn.Embedding(6, 2, padding_idx=0)
    with torch.no_grad():
        table.weight.copy_(torch.tensor(before))
    one_step(table, torch.tensor(ids), learning_rate)

    utils.heading("One step of training")
    print(f"On the ids {ids}: towards [1, 1], learning rate 0.1")
    print("  row  before       gradient       after")
    changed = []
    for number in range(6):
        numbers = [*before[number], *gradients[number], *after[number]]
        cells = "  ".join(f"{value:5.2f}" for value in numbers)
        print(f"  {number}   {cells}")
        if list(after[number]) != before[number]:
            changed.append(number)
    gap = (table.weight - torch.tensor(after).float()).abs().max().item()
    print(f"  rows that changed: {changed}; row 5, looked up twice, by both gradients")
    print(f"  largest difference to nn.Embedding: {gap:.1e}")
    say("Only rows that were looked up have changed: a rare token is rarely trained.")


# --- Neighbours: what counting alone tells about words -------------------------------
#
# The vectors of an embedding begin as random numbers and are learnt with the task, from
# lesson 04 on.  But some meaning lies in plain counts already: words with the same
# neighbours can stand in each other's place (the cat sleeps, the dog sleeps).
#
#     Count     how often does word b stand near word a?  One row of counts for each a.
#     Score     and, the, "," stand near everything, so their counts tell little.
#               Compare each count with what chance would give.
#     Compare   two rows of scores by the angle between them.
#     Shorten   the vectors, from V numbers to E.
#
# The score as a formula, and for a = cat, b = drinks of `show_counted_vectors`:
#
#     share(b)     = all neighbours of b / all neighbours of all words     5 / 14
#     by chance    = all neighbours of a x share(b)                        2 x 5 / 14
#     score(a, b)  = log(count(a, b) / by chance), and 0 if negative       log(1 / 0.71)
#
# Chance says: cat has 2 neighbours, and 5 of all 14 neighbours are drinks, so 0.71 of
# cat's should be drinks.  Counted was 1, which is more: a positive score, 0.34.  Why 0
# if negative?  In so little text, to be missing proves little; and a count of 0 would
# give log 0, minus infinity.  (log is the natural logarithm.  Books call the score
# positive pointwise mutual information, PPMI.)


def count_neighbours(id_lists, size, window):
    """Lists of ids -> counts (V, V): how often two ids stand at most `window` apart.

    None stands for a word that is not in the table: it keeps its place, and no count.
    """
    counts = np.zeros((size, size))
    for ids in id_lists:
        for place, word in enumerate(ids):
            if word is None:
                continue
            for other in ids[place + 1 : place + 1 + window]:
                if other is not None:
                    counts[word, other] += 1  # other is a neighbour of word,
                    counts[other, word] += 1  # and word one of other
    return counts


def score(counts, power=1.0):
    """log(count / by chance), 0 if negative: (V, V).  power: see `neighbour_vectors`."""
    of_each = counts.sum(axis=0)  # all neighbours of each word, (V,)
    raised = of_each**power  # (V,)
    # 1e-9 stands in for 0 where a word has no neighbours: 0 / 0 is no number.
    shares = raised / max(raised.sum(), 1e-9)  # (V,)
    # A column (V, 1) times a row (V,): each with each, (V, V).
    by_chance = of_each.reshape(-1, 1) * shares
    ratios = counts / np.maximum(by_chance, 1e-9)  # (V, V)
    return np.log(np.maximum(ratios, 1))  # log 1 is 0


# The angle: its cosine is easy to compute.  Multiply two rows number by number and add
# up; divide by the length of the one and the length of the other.  (The length of a row
# is the root of the sum of its squares.)  1 means the same direction, 0 means nothing
# in common.  As lengths are divided away, a frequent word can be like a rare one.


def cosines(vectors):
    """Rows (V, n) -> (V, V): the cosine of the angle between every two of them."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)  # (V, 1)
    unit = vectors / np.maximum(lengths, 1e-9)  # (V, n), each of length 1
    return unit @ unit.T  # (V, V)


# From counts to an embedding.  A word's row of scores is a vector of V numbers, and on
# real text most of them are 0.  An embedding has E numbers a word, and uses each.  The
# singular value decomposition (SVD) writes each row of scores as a sum of patterns:
#
#     scores of a word  =  amount 1 x pattern 1  +  amount 2 x pattern 2  +  ...
#
# A pattern is a row of V numbers, one for each neighbour.  All words share the patterns;
# the amounts are the word's own.  Pattern 1 tells most about all rows together, pattern
# 2 most of what is left, and so on.  So one keeps the first E amounts of each word: no
# other E patterns would lose less.
#
# The patterns may then be thrown away.  They have length 1 and stand at right angles to
# each other, like the axes of a map, and the amounts are a word's coordinates on it: its
# scores times the pattern, number by number, added up.  Angles need no more than that.


def shorten(vectors, width):
    """Rows (V, n) -> (V, width): each word's amounts of the first patterns."""
    # svd returns three tables.  The third has a pattern in each row.  The first two
    # hold the amounts; the product gives them as well.
    _, _, patterns = np.linalg.svd(vectors, full_matrices=False)
    return vectors @ patterns[:width].T  # (V, width)


def show_counted_vectors():
    """A table of four words, counted, scored, compared and shortened."""
    names = ["cat", "dog", "drinks", "milk"]
    texts = ["cat drinks milk", "dog drinks milk", "dog often drinks"]
    id_lists = [[0, 2, 3], [1, 2, 3], [1, None, 2]]  # None: often is not in the table
    counts = count_neighbours(id_lists, size=4, window=2)  # (4, 4)
    scores = score(counts)  # (4, 4)
    utils.heading("Vectors by counting neighbours")
    print("Four words and their neighbours in: " + " / ".join(texts))
    print_numbers("1. Counts, at most 2 places apart", names, names, counts, digits=0)
    say(
        "Row cat: drinks once, milk once.  Row dog: drinks twice, milk once.  often is "
        "not in the table, but it keeps its place: dog and drinks are 2 apart there.",
    )
    print_numbers("2. Scores", names, names, scores)
    print_numbers("3. Cosines of the rows of scores", names, names, cosines(scores))
    say(
        "cat and dog: (0.34 x 0.62 + 0.56 x 0.15) / (0.65 x 0.64) = 0.71, 0.65 and "
        "0.64 being the lengths of their rows.  Nearest to cat is dog, though the two "
        "never stand in one text.",
    )
    short = shorten(scores, width=2)  # (4, 2)
    _, _, patterns = np.linalg.svd(scores)  # (4, 4)
    # SVD leaves open which side of 0 is plus: turned so that cat has plus in both.
    signs = np.sign(short[0])  # (2,)
    short = short * signs
    patterns = patterns[:2] * signs.reshape(-1, 1)  # (2, 4)
    print_numbers("4. Two patterns", ["pattern 1", "pattern 2"], names, patterns)
    say(
        "In a pattern, cat means: has cat as a neighbour.  Pattern 1 is what the four rows "
        "share: all plus, much alike.  Pattern 2 is what they differ in most: plus for the "
        "neighbours drinks and milk, minus for cat and dog.",
    )
    print_numbers("5. Amounts of a word", names, ["amount 1", "amount 2"], short)
    say(
        "Here cat is the word itself.  Amount 2 of cat: its scores 0.34 for drinks and "
        "0.56 for milk, times pattern 2, 0.34 x 0.65 + 0.56 x 0.16 = 0.31.  drinks has "
        "minus, for it stands beside cat and dog above all.  Amount 1 is about the same "
        "for all four words: it tells them apart little.",
    )
    again = " ".join(f"{value:.2f}" for value in short[0] @ patterns)  # (4,)
    say(
        f"What is lost?  0.48 x pattern 1 + 0.31 x pattern 2 gives cat the scores {again}; "
        "they were 0.00 0.00 0.34 0.56.  The cosine of cat and dog, 0.71 before, is now "
        f"{cosines(short)[0, 1]:.2f}: both have kept what they share, and have lost what "
        "parts them.",
    )


WIDTH = 100  # E, from here on

# Real text needs one correction, found by trial (Levy et al., 2015): each neighbour's
# total, but not the counts, is raised to the power 0.75.  That makes the shares of rare
# words larger, and so their scores smaller.  (With power 1, the five nearest to father in
# Shakespeare are his, then, her, my, brother; with 0.75 see the end of the run.)
#
# Are short vectors better than long ones?  Steadier: of the five nearest to each of 1,000
# words, two halves of Shakespeare, counted apart, agree on 12.3% by long vectors and on
# 15.6% by short ones (by chance 0.5%).  Which are better, only a task can tell.


def neighbour_vectors(token_lists, frequent):
    """For the words of a vocabulary: scores (n, n) and short vectors (n, E)."""
    id_lists = []
    for tokens in token_lists:
        id_lists.append([frequent.ids.get(token) for token in tokens])  # or None
    scores = score(count_neighbours(id_lists, len(frequent), window=3), power=0.75)
    return scores, shorten(scores, WIDTH)


# Now they can be copied into the table that a network begins with.  Such vectors are
# called pretrained.  Well known are those that others have made from billions of words.
# GloVe fits E numbers a word to counts of neighbours.  word2vec learns them by guessing
# a word from its neighbours, or the neighbours from the word.  Where your own
# texts are few and most words too rare to be learnt well, a trial is worth while.


def start_embedding(vocabulary, frequent, short):
    """nn.Embedding (V, E): a counted vector where a token has one, else random."""
    # Counted vectors of Shakespeare's words are 9.4 long on average.  Random ones by
    # torch.randn would be as long, 10; times 0.1, an unknown word says little at first.
    weight = torch.randn(len(vocabulary), short.shape[1]) * 0.1  # (V, E)
    for token, vector in zip(frequent.tokens, short, strict=True):
        # NumPy has numbers of 64 bits, a network of 32: copying converts them.
        weight[vocabulary[token]] = torch.from_numpy(vector)
    weight[vocabulary[PAD]] = 0
    # Without freeze=False no step of training would change it, and there is no error.
    return nn.Embedding.from_pretrained(weight, freeze=False, padding_idx=0)


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================


def padding_share(lengths, batch_size):
    """Share of padding, if rows of these lengths go into batches in this order."""
    places = 0
    for start in range(0, len(lengths), batch_size):
        batch = lengths[start : start + batch_size]
        places += len(batch) * max(batch)
    return 1 - sum(lengths) / places


def follow_documents(texts, token_lists, vocabulary, args, source):
    """The first four documents become a batch, ids (B, T)."""
    rows = [to_row(tokens, vocabulary, args.max_length) for tokens in token_lists]
    loader = DataLoader(rows, batch_size=4, collate_fn=utils.pad)
    ids, lengths = next(iter(loader))  # the first batch: (B, T), (B,)
    mask = utils.length_mask(lengths, ids.shape[1])  # (B, T)
    utils.heading(f"Real documents on their way, {args.tokenizer}, {source.label}")
    back = from_row(ids[0].tolist(), vocabulary, JOIN[args.tokenizer])
    print(f"  text     {texts[0][:70]!r}")
    print(f"  tokens   {' '.join(visible(token_lists[0][:15]))}")
    print(f"  ids      {ids[0, :15].tolist()}")
    print(f"  back     {back[:70]!r}")
    print(f"  batch    (B, T) {tuple(ids.shape)}, lengths {lengths.tolist()}")
    padding = 1 - mask.float().mean().item()
    sizes = [len(row) for row in rows]
    say(
        f"Padding fills {padding:.1%} of this batch.  If all training rows go into batches "
        f"of 32, it fills {padding_share(sizes, 32):.1%} in the order of the file, and "
        f"{padding_share(sorted(sizes), 32):.1%} sorted by length.  So from lesson 04 on, "
        "rows of similar length share a batch; packing (lesson 01) skips the rest.",
    )


def print_lengths(token_lists, held_lists, args):
    """How long documents are, and what --max-length cuts off."""
    lengths = np.array([len(tokens) for tokens in token_lists])
    # inverted_cdf: a length that occurs, not one between two of them.
    half, nine, most = np.quantile(lengths, [0.5, 0.9, 0.99], method="inverted_cdf")
    room = args.max_length - 2  # <bos> and <eos> take two places
    too_long = lengths > room
    lost = (lengths - room)[too_long].sum() / lengths.sum()
    print("\nHow long are the training documents?")
    say(
        f"50% of them have at most {half:,} tokens, 90% {nine:,}, 99% {most:,}; the longest "
        f"has {lengths.max():,}, the average {lengths.mean():.1f} (held-out documents, which "
        f"are other texts: {np.mean([len(tokens) for tokens in held_lists]):.1f})."
    )
    say(
        f"--max-length {args.max_length} shortens {too_long.sum():,} of {len(lengths):,} "
        f"documents, and cuts off {lost:.1%} of all training tokens.  A rule: nine of ten "
        "documents should stay whole.  But a few long ones may hold much of the text: "
        "look at both figures.  Where the ends matter, take windows (lesson 10).",
    )


def print_merges(learnt, held_texts, source):
    """The first merges, how often each pair occurred, and what more merges do."""
    utils.heading(f"Byte-pair encoding of the training part, {source.label}")
    for number, (pair, count) in enumerate(learnt[:6], start=1):
        left, right = visible(pair)
        print(f"  merge {number}: {left} + {right} -> {left}{right}  {count:,} times")

    # What would fewer merges have done?  None at all, the first 50, the first 200, all.
    table = {}
    for number in sorted({0, min(50, len(learnt)), min(200, len(learnt)), len(learnt)}):
        merges = [pair for pair, _ in learnt[:number]]
        encoder = BytePairs(merges)
        tokens = sum(len(encoder.cut(text)) for text in held_texts)
        line = {"V": len(bpe_vocabulary(merges))}
        line["tokens/document"] = f"{tokens / len(held_texts):.1f}"
        line["daughter"] = " ".join(visible(encoder.cut(" daughter")))
        table[f"{number:,}"] = line
    utils.print_table("More merges, on held-out text (_ is a space)", table, "merges")
    say(
        "Each merge costs one row of the embedding and shortens the texts.  The first "
        "ones save most, for they join the most frequent pairs.",
    )


def share_known(token_lists, vocabulary):
    """Share of the tokens that have an id of their own."""
    tokens = list(chain.from_iterable(token_lists))  # all lists in one
    return sum(token in vocabulary for token in tokens) / len(tokens)


def compare_tokenizers(vocabularies, held_texts, held_tokens, source):
    """The table: returns name -> its figures, counted on the held-out part."""
    figures = {}
    table = {}
    for name, vocabulary in vocabularies.items():
        token_lists = held_tokens[name]
        exact = 0
        hit = 0  # documents with at least one unknown token
        for text, tokens in zip(held_texts, token_lists, strict=True):
            ids = vocabulary.encode(tokens)
            if from_row(ids, vocabulary, JOIN[name]) == text:
                exact += 1
            if any(token not in vocabulary for token in tokens):
                hit += 1
        count = sum(len(tokens) for tokens in token_lists)
        known = share_known(token_lists, vocabulary)
        figures[name] = {
            "vocabulary_size": len(vocabulary),
            "held_out_tokens": count,
            "tokens_per_document": count / len(held_texts),
            "held_out_coverage": known,
            "documents_hit": hit / len(held_texts),
            "exactly_back": exact / len(held_texts),
        }
        table[name] = {
            "V": len(vocabulary),
            "weights": len(vocabulary) * WIDTH,
            "tokens/document": f"{count / len(held_texts):.1f}",
            "unknown": f"{1 - known:.2%}",
            "texts hit": f"{hit / len(held_texts):.1%}",
            "exactly back": f"{exact / len(held_texts):.1%}",
        }
    utils.heading(f"Which tokenizer when?  Held-out part of {source.label}")
    utils.print_table("Whole documents, nothing cut off", table, corner="tokenizer")
    print("  (the last three columns are shares, explained at the file's head)")
    return figures


# Does the choice matter for a task?  A trial that every text with questions allows: a
# sentence has lost its last mark; was it a full stop or a question mark?  (Programs that
# write down speech must guess this.)  Half of the sentences are questions, so guessing
# gets 0.5.  The model sees which tokens a sentence has, not their order:
#
#     weight(token) = log(its share of all tokens in questions / in statements)
#
# A sentence whose tokens' weights add up to more than 0 is called a question.  (Books
# call this naive Bayes.)  Weights, like vocabularies and merges, come from the training
# part alone.  Questions are shorter, so there is a better rival than guessing: the same
# model, shown one token alone, the number of words.
#
# A sentence ends where white space follows . ! or ?, or after a Chinese mark.  (?<=...)
# looks back at the mark without taking it away.
SENTENCE_END = r"(?<=[.!?])\s+|(?<=[。！？])\s*"


def questions_and_statements(texts):
    """Two equally long lists of sentences, their last mark taken off."""
    questions = []
    statements = []
    for text in texts:
        text = regex.sub(r"^.*:\n", "", text)  # in plays the first line: who speaks
        for sentence in regex.split(SENTENCE_END, text):
            if sentence.endswith("?"):
                questions.append(sentence[:-1])
            elif sentence.endswith("."):
                statements.append(sentence[:-1])
    size = min(len(questions), len(statements))
    rng = random.Random(0)  # chance draws, but the same sentences in each run
    return rng.sample(questions, size), rng.sample(statements, size)


def judge(cut, vocabulary, train, held):
    """The trial: weights (V,), and whether each held-out sentence is judged rightly."""
    # Counts begin at 1, so that no share is 0.  Row 0: questions, row 1: statements.
    counts = np.ones((2, len(vocabulary)))
    for row, sentences in enumerate(train):
        for sentence in sentences:
            for i in vocabulary.encode(cut(sentence)):
                counts[row, i] += 1
    shares = counts / counts.sum(axis=1, keepdims=True)  # (2, V)
    weights = np.log(shares[0] / shares[1])  # (V,)
    right = []
    for sentences, is_question in zip(held, (True, False), strict=True):
        for sentence in sentences:
            ids = vocabulary.encode(cut(sentence))
            right.append((weights[ids].sum() > 0) == is_question)
    return weights, np.array(right, dtype=float)


def difference(right, other):
    """Two ways to judge the same sentences: (mean difference, what luck may make)."""
    gains = right - other  # 1: only the first is right; -1: only the other; else 0
    # Chance moves a mean of n numbers by about their standard deviation / root of n; by
    # twice that or more about once in 20 trials.
    return gains.mean(), 2 * gains.std() / np.sqrt(len(gains))


FEW = "word, as few rows as bpe"  # does bpe gain or lose by its pieces, or by its rows?


def print_trial(tokenizers, vocabularies, train_texts, held_texts, args, source):
    """One change at a time; returns {way to cut: (n,) which sentences it has right}."""
    utils.heading(f"Does it matter?  Full stop or question mark, {source.label}")
    train = questions_and_statements(train_texts)
    held = questions_and_statements(held_texts)
    asked = [*held[0], *held[1]]  # the sentences that are judged
    if len(held[0]) < 20:
        say("No trial here: this text has too few questions.")
        return {}
    cuts = {
        "word": words,
        "word, lower case": lambda text: words(text.lower()),
        FEW: words,
        **tokenizers,
        "length alone": lambda text: [str(len(words(text)))],
    }
    rights = {}
    table = {}
    for name, cut in cuts.items():
        if name in vocabularies:
            vocabulary = vocabularies[name]
        else:
            # The others are made in the same way, of the whole training part; but what
            # is counted in "length alone" are the sentences, so of those.
            room = len(vocabularies["bpe"]) if name == FEW else args.max_vocab
            known = [*train[0], *train[1]] if name == "length alone" else train_texts
            lists = [cut(text) for text in known]
            vocabulary = utils.Vocabulary.build(lists, SPECIALS, args.min_freq, room)
        unknown = 1 - share_known([cut(text) for text in asked], vocabulary)
        weights, rights[name] = judge(cut, vocabulary, train, held)
        if name == "word":  # which tokens say most loudly that it is a question?
            loudest = np.argsort(-weights)[:6]
            loud = [f"{vocabulary.tokens[i]} {weights[i]:+.1f}" for i in loudest]
        gain, luck = difference(rights[name], rights["word"])
        table[name] = {
            "V": len(vocabulary),
            "unknown": f"{unknown:.2%}",
            "right": f"{rights[name].mean():.4f}",
            "against word": "-" if name == "word" else f"{gain:+.4f} ± {luck:.4f}",
        }
    utils.print_table("One change at a time, held-out part", table, corner="cut by")
    say(
        f"right: the share of {len(rights[FEW]):,} held-out sentences, by weights from "
        f"{2 * len(train[0]):,} others; guessing gets 0.5.  against word: the difference "
        "on the same sentences; if it is smaller than the number after ±, it may be luck.  "
        "length alone: the one token is the number of words.",
    )
    say(
        f"The largest weights of word: {', '.join(loud)}.  Lower case hides what begins a "
        "sentence.",
    )
    gain, luck = difference(rights[FEW], rights["word"])
    if len(vocabularies["bpe"]) < len(vocabularies["word"]) and abs(gain) <= luck:
        say(
            f"With {table[FEW]['V']:,} rows, {table[FEW]['unknown']} of the tokens are "
            "unknown to word, yet no loss beyond luck shows: rare words, with weights from "
            "a few examples each, tell little here.  So unknown words need not cost much; "
            "they do where a task turns on them (names, say).",
        )
    gain, luck = difference(rights["bpe"], rights[FEW])
    if gain < -luck:
        say(
            f"bpe is behind word with as many rows ({gain:+.4f} ± {luck:.4f}): by its "
            "pieces, then, not by its few rows.  This model sees no order, so it cannot "
            "put pieces together.  A network can, but must learn it, and that takes data.",
        )
    return rights


# Which statements are drawn is luck, too.  Means of four draws (random.Random(0) to (3)):
# word 0.790, 760 rows 0.776 (within luck of word in each draw), lower case 0.756,
# basic_english 0.748, char 0.735, bpe 0.733, length alone 0.663.

USUAL_ADVICE = {
    "basic_english": "a first try for English, where capital letters tell little",
    "word": "where they tell much: names, German, beginnings of sentences",
    "bpe": "to write text; any language; typing errors; much data",
    "char": "short texts such as names; little data (few rows, each seen often)",
}


def print_advice(rights):
    """Which tokenizer when, and what the trial says to it."""
    print("\nUsual advice")
    for name, advice in USUAL_ADVICE.items():
        print(f"  {name:<13}  {advice}")
    if not rights:
        return
    gain, luck = difference(rights["basic_english"], rights["word"])
    if gain < -luck:
        say(
            f"The trial is a case for word: basic_english is behind by {-gain:.4f}, more "
            f"than luck explains ({luck:.4f}).  In another task (is a review good or bad?) "
            "capital letters may tell nothing: try both.",
        )


def compare_with_torchtext(texts, token_lists, vocabulary, args):
    """Where torchtext loads (beside no torch after 2.3): (same tokens, same ids)."""
    try:
        from torchtext.data.utils import get_tokenizer
        from torchtext.vocab import build_vocab_from_iterator
    except Exception:  # noqa: BLE001  (beside a newer torch: almost anything)
        return None
    theirs = [get_tokenizer("basic_english")(text) for text in texts]
    built = build_vocab_from_iterator(
        theirs, args.min_freq, SPECIALS, max_tokens=args.max_vocab
    )
    same = (token_lists == theirs, vocabulary.tokens == built.get_itos())
    print(f"\ntorchtext: the same tokens, the same ids: {same}")
    return same


def print_losses(tokenizers, vocabularies):
    """What each way to cut loses of rare characters and of a typing error."""
    # An apostrophe, quotation marks, accents, two spaces and a typing error.
    line = 'Isn\'t "Zoë" at the café?  She shuold be.'
    print(f"\nFrom text to ids and back: {line}")
    for name, cut in tokenizers.items():
        ids = vocabularies[name].encode(cut(line))
        back = from_row(ids, vocabularies[name], JOIN[name])
        mark = "✔" if back == line else "✘"
        print(f"  {mark} {name:>13}: {back}")
    say(
        "Words lose the spacing, and what training had too seldom: of a typing error such "
        "as shuold nothing is left.  char loses rare characters; bytes lose nothing.",
    )


def print_leakage(train_tokens, held_tokens, vocabulary, args):
    """The share of unknown tokens, with an honest vocabulary and with a leaky one."""
    both = [*train_tokens, *held_tokens]
    leaky = utils.Vocabulary.build(both, SPECIALS, args.min_freq, args.max_vocab)
    print("\nUnknown held-out tokens, basic_english")
    asked = {"the training part": vocabulary, "both parts (leakage)": leaky}
    for told, learnt in asked.items():
        print(f"  {1 - share_known(held_tokens, learnt):>6.2%}  vocabulary from {told}")
    say("The first is a fair guess for new text of this kind.")
    counts = count_tokens(held_tokens)
    unknown = [token for token in sort_tokens(counts) if token not in vocabulary]
    most = [f"{token} {counts[token]}" for token in unknown[:6]]
    if most:
        say(f"Most often unknown in the last tenth: {', '.join(most)}.")


# Names are one reason why so much is unknown: The Tempest, with Prospero and Miranda,
# lies wholly in Shakespeare's last tenth.  The other: most different words are rare.
# Zipf's law: order words by count; the word of rank r occurs about C / r times, C being
# the count of the first.  So many are rare that every new text brings new ones.


def counts_by_rank(train_tokens, token_lists):
    """(n,): counts in the lists of training's 1st, 2nd, ... most frequent token."""
    counts = count_tokens(token_lists)
    ranked = utils.Vocabulary.build(train_tokens, specials=()).tokens
    return np.array([counts.get(token, 0) for token in ranked])


def coverage(train_tokens, token_lists):
    """(n,): share of the lists' tokens that the 1, 2, ..., n most frequent cover.

    Training a a a b b c: ranks a b c.  List a b x a: 2, 1, 0 of 4 -> 0.5 0.75 0.75.
    """
    total = sum(len(tokens) for tokens in token_lists)
    return counts_by_rank(train_tokens, token_lists).cumsum() / total


def print_coverage(train_tokens, held_tokens, vocabulary, args, source):
    """What the most frequent tokens cover, and how many tokens are rare."""
    train_counts = counts_by_rank(train_tokens, train_tokens)
    train_share = coverage(train_tokens, train_tokens)
    held_share = coverage(train_tokens, held_tokens)
    ranked = utils.Vocabulary.build(train_tokens, specials=()).tokens
    used = sum(token in vocabulary for token in ranked)
    table = {}
    for n in sorted({10, 100, 1000, 3000, 10_000, used}):
        if 0 < n <= used:
            table[f"{n:,}"] = {
                "training": f"{train_share[n - 1]:.2%}",
                "held-out": f"{held_share[n - 1]:.2%}",
            }
    title = f"Share of tokens known, {args.tokenizer}, {source.label}"
    utils.print_table(title, table, corner="most frequent")
    say(
        "Read it downwards: what a larger vocabulary adds.  Where the next step adds too "
        "little held-out for its price in weights, stop.  Last: all tokens with an id.  "
        f"{(train_counts == 1).mean():.1%} of all different training tokens occur only "
        "once: too rarely to learn from.",
    )
    if args.tokenizer != "bpe":  # which knows everything
        say(about_unknown(train_tokens, held_tokens, vocabulary, args))
        print_what_remains(ranked, held_tokens, used)


def about_unknown(train_tokens, held_tokens, vocabulary, args):
    """Why tokens are unknown."""
    # Two reasons to be unknown, told apart by a second vocabulary without any limit.
    unknown = 1 - share_known(held_tokens, vocabulary)
    everything = utils.Vocabulary.build(train_tokens, specials=())
    never = 1 - share_known(held_tokens, everything)
    limit = f"--min-freq {args.min_freq}"
    if len(vocabulary) == args.max_vocab:
        limit += f", --max-vocab {args.max_vocab:,}"
    return (
        f"Held out, {unknown:.2%} of the tokens are unknown.  {never:.2%} never "
        f"occurred in training.  {unknown - never:.2%} did, but have no id ({limit}).  "
        f"In training {1 - share_known(train_tokens, vocabulary):.2%} are <unk>: that is "
        "what a network has practised on."
    )


def print_what_remains(ranked, held_tokens, used):
    """One held-out document, as vocabularies of several sizes let a network read it."""
    known = set(ranked[:used])
    # The first that is short enough for a line, and has an unknown token.
    short = [tokens for tokens in held_tokens if 8 <= len(tokens) <= 15]
    wanted = [tokens for tokens in short if not known.issuperset(tokens)]
    if not wanted:
        return
    tokens = wanted[0]
    print("\nOne held-out document, read with vocabularies of several sizes")
    for size in (10, 100, 1000, used):
        if size <= used:
            kept = set(ranked[:size])
            read = [token if token in kept else UNK for token in tokens]
            print(f"  {size:>8,}  {' '.join(visible(read))}")
    print(f"  the text  {' '.join(visible(tokens))}")


def draw(train_tokens, held_tokens, args, source):
    """Coverage of held-out text against vocabulary size; count against rank (Zipf)."""
    if args.no_plots:
        return
    figure, (left, right) = utils.pyplot().subplots(1, 2, figsize=(11, 4))
    for name in train_tokens:  # one curve a tokenizer, in both panels
        counts = counts_by_rank(train_tokens[name], train_tokens[name])
        ranks = np.arange(1, len(counts) + 1)
        left.plot(ranks, coverage(train_tokens[name], held_tokens[name]), label=name)
        right.plot(ranks, counts, label=name)
        if name == args.tokenizer:
            right.plot(ranks, counts[0] / ranks, "k--", lw=1, label=f"C / r, {name}")
    # On two logarithmic axes C / r is a straight line: log(C / r) = log C - log r.
    left.set(xscale="log", xlabel="most frequent tokens kept", ylabel="share known")
    right.set(xscale="log", yscale="log", xlabel="rank", ylabel="count in training")
    left.legend()
    right.legend()
    figure.suptitle(f"Known tokens, and Zipf's law: {source.label}", **utils.PLAIN)
    print()
    utils.save_picture(figure, args, "coverage_and_zipf")
    say(
        "Reading it: left, what a vocabulary of each size knows of held-out text; "
        "small pieces reach 1 soonest.  Right, dashed: Zipf's law; words roughly follow it.",
    )


def print_nearest(vectors, vocabulary, asked):
    """For each token asked, those whose vectors (V, n) have the best cosine."""
    alike = cosines(vectors)  # (V, V)
    np.fill_diagonal(alike, 0)  # every word is nearest to itself: leave that out
    size = len(alike)
    average = alike.sum() / max(size * (size - 1), 1)
    print(f"  {vectors.shape[1]:,} numbers a token; any two: {average:.2f} on average")
    for token in asked:
        i = vocabulary[token]
        order = np.argsort(-alike[i], kind="stable")[: min(5, size - 1)]
        near = visible([vocabulary.tokens[other] for other in order])
        told = [f"{t} {alike[i, n]:.2f}" for t, n in zip(near, order, strict=True)]
        print(f"  {visible([token])[0]:>10}: {', '.join(told)}")


def print_neighbours(train_tokens, vocabulary, args, source):
    """The nearest tokens by their counted neighbours, by long vectors and short ones."""
    least = max(args.min_freq, 20)  # a rarer word has met too few neighbours
    most = min(args.max_vocab - len(SPECIALS), 1000)
    frequent = utils.Vocabulary.build(train_tokens, (), least, most)
    scores, short = neighbour_vectors(train_tokens, frequent)
    table = start_embedding(vocabulary, frequent, short)
    # Where words of this list are lacking, tokens from further down fill up to six.
    wanted = ["father", "day", "blood", "music", "king", "superb", "monday", "two"]
    wanted = [word for word in wanted if word in frequent]
    further = frequent.tokens[len(frequent) // 10 :]
    asked = list(dict.fromkeys([*wanted, *further]))[:6]
    utils.heading(f"Which tokens are alike?  {args.tokenizer}, {source.label}")
    print(f"Nearest of the {len(frequent):,} most frequent tokens")
    print("(cosines; neighbours: at most 3 places apart; power 0.75)")
    print_nearest(scores, frequent, asked)
    print_nearest(short, frequent, asked)
    say(
        "Compare each cosine with the average of its own list.  Short vectors may bring in "
        "words that stand in many places (this, which).  They are now "
        f"{len(frequent):,} of the {len(table.weight):,} rows of an nn.Embedding, to be "
        "trained on; <pad> has zeros, the rest (<unk> too) small random numbers.",
    )
    if source.name == "shakespeare" and args.tokenizer == "basic_english":
        say(
            "Beware of king: a speech begins with its speaker, such as KING RICHARD II.  "
            "Counting finds whatever stands in a text, layout too.",
        )
    say(
        "Two words are alike here if their neighbours are.  So opposites (day and night) "
        "can be near each other, for they stand in the same places.  These vectors are "
        "counted; learnt ones, which a task shapes, begin in lesson 04.",
    )


# --- Kept for later ------------------------------------------------------------------
#
# A trained network works only with the tokenizer and the vocabulary it was trained with:
# in another one, id 5 is another word, and no error tells.  So all that made the ids is
# saved with the weights (lesson 04): the tokenizer's name, the form of Unicode, the
# longest row, and the list of tokens.  For bpe it is the merges instead, in order: the
# vocabulary can be made from them.  JSON, a common form for files, holds no bytes, so
# each piece is written as the list of its numbers: b"in" as [105, 110].
#
# Today's libraries do the same in fast code: tiktoken and Hugging Face's tokenizers cut
# by byte-pair encoding.  Two relatives of it: WordPiece (of the network BERT) and
# SentencePiece.  Whoever takes a pretrained network takes its own tokenizer with it.


def show_saving():
    """All that the toy's byte-pair encoding needs, as text, loaded and used."""
    merges = [pair for pair, _ in learn_bpe(TOY_WORDS, 4)]
    kept = {"tokenizer": "bpe", "form": "NFC", "max_length": 100}
    kept["merges"] = [[list(left), list(right)] for left, right in merges]
    saved = json.dumps(kept)
    loaded = []
    for left, right in json.loads(saved)["merges"]:  # as a program that uses it does
        loaded.append((bytes(left), bytes(right)))
    cut = BytePairs(loaded).cut("raining")
    ids = bpe_vocabulary(loaded).encode(cut)
    utils.heading("Kept for later: the four merges of the toy as text")
    print(f"  saved    {saved[:73]} ...")
    print(f"  loaded, and used on raining: {' '.join(visible(cut))}, ids {ids}")
    print(f"  the same merges as before: {loaded == merges}")
    say("The special four and 256 bytes have the ids 0 to 259; merges come after them.")


def conclude(figures, rights, source):
    """The title's answer, with this run's figures."""
    # Two tokenizers stand for all: the default, and the one that loses nothing.
    by_word = figures["basic_english"]
    by_bytes = figures["bpe"]
    utils.heading(f"How does text become numbers?  {source.label}")
    say(
        "Cut it into tokens; number the tokens of the training part; fill rows up to "
        "one length, with a mask beside them; let each id pick a row of a table.  That "
        "row, the vector, is what a network computes with, and training changes it.",
    )
    say(
        f"Words (basic_english) make rows of {by_word['tokens_per_document']:.1f} tokens, "
        f"and leave {1 - by_word['held_out_coverage']:.2%} of the held-out ones unknown.  "
        f"Byte-pair encoding makes rows of {by_bytes['tokens_per_document']:.1f}, and "
        "loses nothing of text in NFC form: for certain, as every byte has an id.",
    )
    if rights:
        asked = ["word", "basic_english", "bpe", "length alone"]
        told = ", ".join(f"{name} {rights[name].mean():.4f}" for name in asked)
        say(f"Which one serves a task, only a trial can tell.  Right in ours: {told}.")


def print_numbers(title, rows, columns, table, digits=2):
    """A table of numbers with names at both edges."""
    lines = {}
    for name, numbers in zip(rows, table, strict=True):
        cells = [f"{number:.{digits}f}" for number in numbers]
        lines[name] = dict(zip(columns, cells, strict=True))
    utils.print_table(title, lines, corner="")


def visible(tokens):
    """Tokens for the eye: space as _, line end as \\n, part of a character as \\xc3."""
    shown = []
    for token in tokens:
        if isinstance(token, bytes):  # of byte-pair encoding
            token = token.decode(errors="backslashreplace")
        shown.append(token.replace(" ", "_").replace("\n", "\\n"))
    return shown


# ====================================================================================
# 5. Command line
# ====================================================================================

# What --input takes.  A CSV file has a document in each line of its column `text`.  A
# plain text is cut at empty lines, into paragraphs (in a play, speeches); one of fewer
# than ten paragraphs at line ends; one of a single line at sentence ends.


def read_documents(path, column=None):
    """The documents of a file: a list of str.  UserError if it cannot be read."""
    if path.suffix.lower() in (".csv", ".tsv"):
        frame, said = utils.read_table(path)
        utils.say_all(said)
        text = utils.find_column(
            path, frame, column, utils.TEXT_NAMES, "--text-column", "texts"
        )
        return frame[text].tolist()
    text = utils.read_text(path)
    if "\n" not in text.strip():
        return regex.split(SENTENCE_END, text)
    documents = regex.split(r"\n\s*\n", text)  # two line ends, white space between
    if len(documents) < 10:
        documents = text.split("\n")
    return documents


def make_flags():
    """The parser of this lesson's flags."""
    parser = utils.make_parser(__doc__)
    whole = utils.whole  # whole(5): the flag takes a whole number, 5 at least
    add = parser.add_argument
    names = list(USUAL_ADVICE)
    add("--tokenizer", choices=names, default=names[0], help="default basic_english")
    add("--max-vocab", type=whole(5), default=10_000, help="largest V (default 10000)")
    help_text = "rarer is unknown; for bpe: rarer pairs are not merged (default 2)"
    add("--min-freq", type=whole(1), default=2, help=help_text)
    add("--max-length", type=whole(3), default=100, help="longest row (default 100)")
    add("--merges", type=whole(0), default=500, help="of bpe, at most (default 500)")
    utils.add_data_flags(
        parser, ["shakespeare", "sample"], "a text, or a CSV file", columns=["text"]
    )
    utils.add_common_flags(parser)
    return parser


def merges_to_learn(args):
    """How many merges --max-vocab leaves room for, beside specials and bytes."""
    room = args.max_vocab - len(SPECIALS) - 256
    if room < 0 and args.tokenizer == "bpe":
        raise utils.UserError("--tokenizer bpe needs --max-vocab 260 or more")
    return min(args.merges, max(room, 0))


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__, small=True)
    most_merges = merges_to_learn(args)

    # 1. Data: one sentence on its whole way, then the documents.
    show_one_sentence()
    source, train_texts, held_texts = load_documents(args)
    print(f"\nData: {source.label}")
    print(
        f"  {len(train_texts):,} documents for training, {len(held_texts):,} held out"
    )

    # 2. Model: cut, number, fill up, look up, each on a toy.
    utils.heading("Step 1: cut text into tokens")
    show_cuts()
    show_byte_pairs()
    show_chunks()
    show_vocabulary()
    show_special_tokens()
    show_embedding_lookup()

    # 3. Training: one step of an embedding, and counted neighbours, each on a toy.
    show_embedding_step()
    show_counted_vectors()

    # The same on all texts: learn the merges, cut by all four tokenizers, number.
    learnt = learn_bpe(count_chunks(train_texts), most_merges, args.min_freq)
    merges = [pair for pair, _ in learnt]
    tokenizers = make_tokenizers(merges)
    train_tokens = {}
    held_tokens = {}
    vocabularies = {}
    for name, cut in tokenizers.items():
        train_tokens[name] = [cut(text) for text in train_texts]
        held_tokens[name] = [cut(text) for text in held_texts]
        if name == "bpe":
            vocabularies[name] = bpe_vocabulary(merges)
        else:
            vocabularies[name] = utils.Vocabulary.build(
                train_tokens[name], SPECIALS, args.min_freq, args.max_vocab
            )

    # 4. Evaluation and pictures: all of it on the real text, by the chosen tokenizer.
    chosen = args.tokenizer
    vocabulary = vocabularies[chosen]
    follow_documents(train_texts, train_tokens[chosen], vocabulary, args, source)
    print_lengths(train_tokens[chosen], held_tokens[chosen], args)
    print_merges(learnt, held_texts, source)
    figures = compare_tokenizers(vocabularies, held_texts, held_tokens, source)
    rights = print_trial(
        tokenizers, vocabularies, train_texts, held_texts, args, source
    )
    print_advice(rights)
    word = "basic_english"
    compare_with_torchtext(train_texts, train_tokens[word], vocabularies[word], args)
    print_losses(tokenizers, vocabularies)
    print_leakage(train_tokens[word], held_tokens[word], vocabularies[word], args)
    print_coverage(train_tokens[chosen], held_tokens[chosen], vocabulary, args, source)
    draw(train_tokens, held_tokens, args, source)
    print_neighbours(train_tokens[chosen], vocabulary, args, source)
    show_saving()
    conclude(figures, rights, source)
    metrics = {"held_out_coverage": figures[chosen]["held_out_coverage"]}
    utils.write_metrics(args, source, metrics, {}, models=figures)


if __name__ == "__main__":
    sys.exit(utils.run(main))
