"""02 · How does text become numbers?

A network multiplies matrices, so text must become numbers first: cut into pieces
(tokens), each piece numbered (vocabulary), rows of numbers made equally long (padding),
each number exchanged for a vector that training can change (embedding).

What you will learn
    * four ways to cut text: torchtext's basic_english, words, characters, and byte-pair
      encoding (BPE), learnt from the text by the procedure of Sennrich et al. (2016)
    * why the vocabulary is fitted on the training part only, and how much of unseen
      text it then knows; Zipf's law says why that share grows so slowly
    * padding, masks, and the way back from numbers to text
    * that an embedding lookup is a matrix row: a one-hot vector times the matrix, to
      the bit, with a gradient that reaches only the rows that occurred
    * word vectors without a network: counts of neighbours tell which words are alike

Run it
    python 02_text_preprocessing.py
    python 02_text_preprocessing.py --tokenizer bpe --merges 1000
    python 02_text_preprocessing.py --tokenizer word --max-vocab 1000 --min-freq 5
    python 02_text_preprocessing.py --dataset grammar --no-plots
    python 02_text_preprocessing.py --max-length 20 --quick

You should see
    On shakespeare [real], two cores, 7 seconds in all:
                          V   pieces/document   unknown   line comes back
      basic_english   6,213              25.4     6.44%           changed
      word            7,245              26.6     7.07%           changed
      bpe               760              52.1     0.00%           exactly
      char               68             112.1     0.00%           exactly
    The 1,000 most frequent of basic_english's pieces cover 85.92% of the training part
    and 83.08% of the held-out part; 47.0% of all its pieces occur only once.  Nearest to
    king are henry, edward, vi, richard; nearest to father: son, brother, sons.
    Pictures: coverage.png and zipf.png in outputs/02_text_preprocessing.

Try this (guess first, then run)
    1. --tokenizer char: how large is the vocabulary, and how long do the rows become?
    2. --min-freq 1 --max-vocab 20000: is no held-out token unknown then?  Why not?
    3. --merges 0, then 100, then 3000: what are BPE's pieces without any merge?
    4. --tokenizer char: which letters are each other's nearest neighbours?
    5. --max-length 10: how much of the text is lost, and what happens to the padding?
"""

# Sizes
#   B batch: rows (documents) handled together   T time: pieces in a row, with padding
#   V vocabulary: how many pieces have a number  E embedding: numbers that stand for one

import random
import re
import sys
from collections import Counter, defaultdict
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from torch import nn

from rnn_utils import (
    BOS,
    EOS,
    PAD,
    SAMPLES,
    UNK,
    UserError,
    Vocabulary,
    add_common_flags,
    add_data_flags,
    capped,
    choose_dataset,
    length_mask,
    make_parser,
    pad,
    parse_flags,
    print_table,
    read_csv,
    read_text,
    run,
    save_picture,
    whole,
    write_metrics,
)

# ====================================================================================
# 1. Data
# ====================================================================================

# A small text of our own, for machines without data.  {kind} becomes a word of that
# kind, the first of its line the oftenest.  Words of one kind stand in the same places,
# so we know which words the vectors of section 3 ought to find alike.
KINDS = """
animal dog cat horse cow goat fox hen sheep
person farmer teacher doctor sailor baker painter judge pilot
food bread soup cheese rice fish cake honey beans
colour white black brown grey red golden
day Monday Tuesday Wednesday Thursday Friday Saturday Sunday
place river bridge mill market harbour church forest station
made cooked bought sold tasted prepared carried
moved ran walked jumped slept waited hid
start North South Wood Mill Lang Ash Ever Stone Hart Brook Fair Wind
end ton wick ford ham bury field mere stead low gate by worth
"""
KINDS = {line.split()[0]: line.split()[1:] for line in KINDS.strip().splitlines()}
SENTENCES = (
    "The {colour} {animal} {moved} near the {place}.",
    "On {day} the {person} {made} some {food} and some {food}.",
    "A {animal} and a {colour} {animal} {moved} behind the {place}!",
    'The {person} from {start}{end} said: "I\'ll be at the {place} on {day}."',
    "Who {made} the {food}? It was the {person}, on {day}.",
    "The {person}'s {animal} is {colour}; it {moved} to {start}{end}.",
)


def grammar_texts(n=2500):
    """`n` documents of one to six generated sentences; fixed, whatever --seed says."""
    rng = random.Random(20240103)

    def word(match):
        choices = KINDS[match[1]]
        return rng.choices(choices, [1 / rank for rank in range(1, len(choices) + 1)])[
            0
        ]

    def sentence():
        return re.sub(r"\{(\w+)\}", word, rng.choice(SENTENCES))

    return [" ".join(sentence() for _ in range(rng.randint(1, 6))) for _ in range(n)]


def read_documents(path):
    """A file as documents: the `text` column of a CSV file, else paragraphs, or lines
    where there are fewer than ten paragraphs.  UserError if it cannot be read.
    """
    text = read_text(path)
    if path.suffix.lower() == ".csv" and re.search(r"\btext\b", text.split("\n")[0]):
        return read_csv(path, ["text"])["text"].dropna().astype(str).tolist()
    paragraphs = re.split(r"\n\s*\n", text)
    return text.splitlines() if len(paragraphs) < 10 else paragraphs


def load_texts(args):
    """Returns (source, training texts, held-out texts), 90 to 10 in the text's order.

    The last tenth is held out, not a random one: neighbouring paragraphs share topic
    and names, and would make unseen text look better known than it is.
    """
    reviews = SAMPLES / "reviews.csv"
    offline = {"sample": reviews if reviews.is_file() else None, "grammar": None}
    source = choose_dataset(args, ["shakespeare"], offline)
    found = read_documents(source.path) if source.path else grammar_texts()
    texts = [text.strip() for text in capped(args, found, 400) if basic_english(text)]
    if len(texts) < 2:
        raise UserError(
            f"{source.path} has fewer than two lines of text; one part is learnt from "
            "and another held out, so give a longer file"
        )
    cut = min(round(0.9 * len(texts)), len(texts) - 1)
    return source, texts[:cut], texts[cut:]


# ====================================================================================
# 2. Model
# ====================================================================================
#
# The "model" of this lesson is the way from text to numbers.

# Each rule is applied to the whole text before the next one is, so their order matters.
BASIC_ENGLISH = (
    (r"'", " ' "),
    (r'"', ""),
    (r"\.", " . "),
    (r"<br />", " "),  # a line break, in reviews taken from web pages
    (r",", " , "),
    (r"\(", " ( "),
    (r"\)", " ) "),
    (r"!", " ! "),
    (r"\?", " ? "),
    (r";", " "),
    (r":", " "),
    (r"\s+", " "),
)


def basic_english(text):
    """torchtext's get_tokenizer("basic_english"): lower case, rules in turn, split."""
    text = text.lower()
    for pattern, replacement in BASIC_ENGLISH:
        text = re.sub(pattern, replacement, text)
    return text.split()


def words(text):
    """Words with their case (don't stays one), and each punctuation mark by itself."""
    return re.findall(r"\w+(?:['’]\w+)*|[^\w\s]", text)


# BPE merges inside a chunk only: a word or a run of punctuation with the space before
# it, or white space.  Every character is in exactly one chunk, so chunks joined are the
# text.  No chunk holds both "<" and letters, so no piece can be mistaken for <pad>.
CHUNK = re.compile(r" ?\w+| ?[^\w\s]+|\s+")
BYTES = tuple(
    map(chr, range(256))
)  # the base alphabet: one piece for each possible byte


def to_bytes(text):
    """The UTF-8 bytes of a text, written as one character each: é becomes two.

    256 base pieces thus spell every text of every language: nothing is ever unknown.
    """
    return text.encode().decode("latin-1")


def from_bytes(pieces):
    """The inverse of `to_bytes`, for pieces; half a character becomes U+FFFD."""
    return "".join(pieces).encode("latin-1").decode(errors="replace")


def merge_pair(pieces, pair):
    """Join each neighbouring `pair` in a list of pieces, from left to right."""
    merged, i = [], 0
    while i < len(pieces):
        width = 2 if tuple(pieces[i : i + 2]) == pair else 1
        merged.append("".join(pieces[i : i + width]))
        i += width
    return merged


def bpe_pieces(text, ranks, cache):
    """Cut a text by learnt merges, the earliest first.  ranks: pair -> its place."""
    pieces = []
    for chunk in CHUNK.findall(text):
        if chunk not in cache:  # a word is cut the same wherever it stands
            cut = list(to_bytes(chunk))
            while known := [pair for pair in pairwise(cut) if pair in ranks]:
                cut = merge_pair(cut, min(known, key=ranks.get))
            cache[chunk] = cut
        pieces += cache[chunk]
    return pieces


def make_tokenizers(merges):
    """name -> (text to pieces, pieces to text).  Only bpe and char lose nothing."""
    ranks, cache = {}, {}
    for pair, _ in merges:
        ranks.setdefault(pair, len(ranks))
    return {
        "basic_english": (basic_english, " ".join),
        "word": (words, " ".join),
        "bpe": (lambda text: bpe_pieces(text, ranks, cache), from_bytes),
        "char": (list, "".join),
    }


SPECIALS = (PAD, UNK, BOS, EOS)  # ids 0, 1, 2, 3


def encode(tokens, vocabulary, max_length):
    """<bos> tokens <eos> as ids, at most `max_length`; unknown tokens become <unk>.

    A text may contain "<pad>"; it must not get the id of padding, hence the guard.
    """
    body = [UNK if token in SPECIALS else token for token in tokens[: max_length - 2]]
    return vocabulary.encode([BOS, *body, EOS])


def decode(ids, vocabulary, join):
    """Ids back to text: <pad>, <bos> and <eos> go, <unk> stays to be seen."""
    return join([t for t in vocabulary.decode(ids) if t not in (PAD, BOS, EOS)])


def embed_by_one_hot(ids, weight):
    """x_t = one_hot(i_t) W:  ids (B, T), weight (V, E) -> (B, T, E).

    All products but one are with 0, so row i_t of W remains.  It takes B * T * V
    numbers, so nobody computes it this way: weight[ids] picks the same rows directly.
    """
    one_hot = nn.functional.one_hot(ids, len(weight)).to(weight.dtype)  # (B, T, V)
    return one_hot @ weight  # (B, T, E)


# ====================================================================================
# 3. Training
# ====================================================================================
#
# What is fitted to data is here and sees only the training part: merges, vocabulary,
# word vectors.


def learn_bpe(texts, merges, min_freq=2):
    """Learn byte-pair merges: a list of ((left, right), count), in order of learning.

    Sennrich, Haddow and Birch (2016), "Neural machine translation of rare words with
    subword units".  Start with single bytes; then `merges` times

        (a, b) = argmax over pairs of  sum over chunks w of  n(w) * times (a, b) is in w

    and every neighbouring a b becomes the one piece ab.  Equal counts: alphabetically
    first.  It ends early when no pair occurs `min_freq` times.

    Distinct chunks are kept once, with their number n(w), and after a merge only chunks
    that held the pair are counted anew; else each merge would go through all the text.
    """
    counts = Counter(chunk for text in texts for chunk in CHUNK.findall(text))
    chunks = [(list(to_bytes(chunk)), n) for chunk, n in counts.items()]
    pairs, holders = Counter(), defaultdict(set)  # holders: pair -> chunks that held it

    def count(index, sign):
        pieces, n = chunks[index]
        for pair in pairwise(pieces):
            pairs[pair] += sign * n
            if sign > 0:
                holders[pair].add(index)

    for index in range(len(chunks)):
        count(index, +1)
    learnt = []
    while len(learnt) < merges and pairs:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < min_freq:
            break
        learnt.append((best, pairs[best]))
        for index in holders.pop(best):
            count(index, -1)
            chunks[index] = merge_pair(chunks[index][0], best), chunks[index][1]
            count(index, +1)
    return learnt


def fit_vocabulary(tokenizer, train, merges, args):
    """Number the pieces of the training part: specials, then by falling count.

    BPE has its list already, every byte and every merge; so no piece is ever unknown.
    """
    if tokenizer == "bpe":
        joined = dict.fromkeys(left + right for (left, right), _ in merges)
        return Vocabulary([*SPECIALS, *BYTES, *joined])
    return Vocabulary.build(train, SPECIALS, args.min_freq, args.max_vocab)


def cooccurrences(rows, size, window=4):
    """How often two pieces stand at most `window` places apart: sparse (size, size).

    rows: lists of ids; an id of `size` is nobody's neighbour.  The whole text is paired
    with itself at once, shifted by 1, 2, ..., `window` places.
    """
    gap = [size] * window  # between two documents, so that no pair reaches across
    flat = np.array([i for row in rows for i in [*row, *gap]])
    total = sparse.csr_array((size, size))
    for distance in range(1, window + 1):
        left, right = flat[:-distance], flat[distance:]
        keep = (left < size) & (right < size)
        ones, places = np.ones(keep.sum()), (left[keep], right[keep])
        total += sparse.coo_array((ones, places), (size, size)).tocsr()
    return total + total.T


def positive_pmi(counts):
    """PPMI(a, b) = max(0, log( n(a, b) / (n(a) p(b)) )): how much oftener than chance.

    p(b) is n(b) to the power 0.75, scaled to sum 1: plain shares make rare neighbours
    look more telling than they are (Levy, Goldberg and Dagan, 2015).
    """
    cells = counts.tocoo()
    rows, columns = counts.sum(axis=1), counts.sum(axis=0) ** 0.75
    chance = rows[cells.row] * columns[cells.col] / columns.sum()
    values = np.maximum(0, np.log(cells.data / chance))
    return sparse.coo_array((values, (cells.row, cells.col)), counts.shape).tocsr()


def word_vectors(rows, size, seed, dimensions=50):
    """A vector of length 1 for each id below `size`: (size, E).

    The rows of the PPMI matrix are vectors already, but long ones, mostly 0; the
    truncated singular value decomposition keeps the E strongest directions.
    """
    matrix = positive_pmi(cooccurrences(rows, size))
    svd = TruncatedSVD(min(dimensions, size - 1), random_state=seed)
    vectors = svd.fit_transform(matrix) / np.sqrt(svd.singular_values_ + 1e-9)
    return vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================


def visible(pieces, tokenizer):
    """Pieces for the eye: space as _, line end as \\n, half a character as \\xc3."""
    if tokenizer == "bpe":
        raw = [piece.encode("latin-1") for piece in pieces]
        pieces = [piece.decode(errors="backslashreplace") for piece in raw]
    return [piece.replace(" ", "_").replace("\n", "\\n") for piece in pieces]


def show_merges(merges, train_texts, source):
    """The first merges, and one word after 0, 10, 100 and all of them."""
    print(f"\nByte-pair encoding, learnt from the training part of {source.label}")
    for step, ((left, right), count) in enumerate(merges[:6], start=1):
        left, right, both = visible([left, right, left + right], "bpe")
        print(f"  merge {step}: {left} + {right} -> {both}   seen {count:,} times")
    found = Counter(word for text in train_texts for word in words(text))
    long = [word for word in found if len(word) >= 8 and word.islower()]
    word = " " + max(long or found, key=found.get)
    for n in sorted({min(n, len(merges)) for n in (0, 10, 100, len(merges))}):
        pieces = make_tokenizers(merges[:n])["bpe"][0](word)
        print(f"  after {n:>4} merges: {' '.join(visible(pieces, 'bpe'))}")
    print(
        "A frequent word grows into one piece or few; a rare one is spelt from parts."
    )


PROBE = 'Isn\'t "Zoë" at the café (yet)?'


def compare_tokenizers(tokenizers, split, vocabularies, source):
    """One line cut four ways; then a table: size of vocabulary, length of rows."""
    print(f"\nOne line, four ways: {PROBE}")
    rows = {}
    for name, (cut, join) in tokenizers.items():
        print(f"  {name:>13}: {' '.join(visible(cut(PROBE), name))}")
        held, vocabulary = split[name][1], vocabularies[name]
        rows[name] = {
            "V": len(vocabulary),
            "pieces/document": f"{sum(map(len, held)) / len(held):.1f}",
            "unknown": f"{1 - share_known(held, vocabulary):.2%}",
            "line comes back": "exactly" if join(cut(PROBE)) == PROBE else "changed",
        }
    note = "Small V: long rows.  Large V: short rows, and still unknown words."
    print_table(f"Four tokenisers on the held-out part, {source.label}", rows, note)


def share_known(rows, vocabulary):
    """Share of the tokens in `rows` that have a number of their own."""
    tokens = [token for row in rows for token in row]
    return sum(token in vocabulary for token in tokens) / len(tokens)


def coverage(train, rows):
    """(V,): share of the tokens in `rows` among the 1, 2, ..., V most frequent."""
    counts = Counter(token for row in rows for token in row)
    ranked = Vocabulary.build(train, specials=()).tokens
    return np.cumsum([counts[token] for token in ranked]) / counts.total()


def draw(args, name, title, curves, dashed, **axes_settings):
    """Curves over 1, 2, 3, ...; x logarithmic.  dashed: (label, values) to compare."""
    if args.no_plots:
        return
    figure, axes = plt.subplots(figsize=(7, 4))
    for label, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, label=label)
    axes.plot(range(1, len(dashed[1]) + 1), dashed[1], "k--", lw=1, label=dashed[0])
    axes.set(xscale="log", title=title, **axes_settings)
    axes.legend()
    axes.grid(alpha=0.3)
    save_picture(figure, args, name)


def show_coverage(split, vocabulary, args, source):
    """Coverage of training and held-out text, by how many pieces have a number."""
    curves = {name: coverage(*parts) for name, parts in split.items()}
    train, held_out = split[args.tokenizer][0], curves[args.tokenizer]
    training = coverage(train, train)
    used = sum(token in vocabulary for token in set().union(*train))
    rows = {
        f"{n:,} most frequent": {
            "training": f"{training[n - 1]:.2%}",
            "held-out": f"{held_out[n - 1]:.2%}",
        }
        for n in [n for n in (10, 100, 1000, 3000, 10_000) if n < used] + [used]
    }
    note = "Share of tokens that have a number; the last row is this run's vocabulary."
    print_table(f"Coverage, {args.tokenizer}, {source.label}", rows, note)
    title = f"What a vocabulary covers of held-out text, {source.label}"
    dashed = (f"{args.tokenizer}, training part", training)
    labels = {"xlabel": "pieces that have a number", "ylabel": "share of tokens known"}
    draw(args, "coverage", title, curves, dashed, **labels)


def show_zipf(split, args, source):
    """Zipf's law: the piece of rank r occurs about C / r times, a line of slope -1."""
    curves = {}
    for name, (train, _) in split.items():
        counts = Counter(token for row in train for token in row)
        curves[name] = np.array(sorted(counts.values(), reverse=True))
    counts = curves[args.tokenizer]
    top, once = counts[:10].sum() / counts.sum(), (counts == 1).mean()
    print(f"\nZipf, {args.tokenizer}, training part of {source.label}")
    print(f"  the 10 most frequent of {len(counts):,} pieces make up {top:.1%} of it;")
    print(f"  {once:.1%} of the pieces occur only once, too rarely to learn from")
    ranks = np.arange(10, min(1000, len(counts)) + 1)
    if len(ranks) > 20:
        slope = np.polyfit(np.log(ranks), np.log(counts[ranks - 1]), 1)[0]
        print(f"  slope from rank 10 to {ranks[-1]:,}: {slope:.2f}; the law says -1")
    title = f"Rank and frequency in the training part, {source.label}"
    law = (f"C / rank, {args.tokenizer}", counts[0] / np.arange(1, len(counts) + 1))
    labels = {"xlabel": "rank", "ylabel": "how often it occurs"}
    draw(args, "zipf", title, curves, law, yscale="log", **labels)


def show_batch(texts, train, vocabulary, join, args, source):
    """Encode, pad, mask, decode; returns ids (B, T) and mask (B, T) of 4 documents."""
    encoded = [encode(row, vocabulary, args.max_length) for row in train]
    ids, lengths = pad(encoded[:4], vocabulary[PAD])  # (B, T), (B,)
    mask = length_mask(lengths, ids.shape[1])  # (B, T)
    print(
        f"\nA batch of {source.label}: {tuple(ids.shape)}, lengths {lengths.tolist()}"
    )
    for row, real in zip(ids[:, :12], mask[:, :12], strict=True):
        print("  ids  " + " ".join(f"{i:>5}" for i in row.tolist()))
        print("  mask " + " ".join(f"{m:>5}" for m in real.int().tolist()))
    print("  0 is padding (mask 0), 1 unknown, 2 begin, 3 end; the last row, as text:")
    print(f"  {decode(ids[-1].tolist(), vocabulary, join)!r}")
    pairs = zip(encoded, texts, strict=True)
    exact = sum(decode(row, vocabulary, join) == text for row, text in pairs)
    print(f"  text -> ids -> text: exact for {exact:,} of {len(texts):,} documents")
    lost = sum(max(0, len(row) - args.max_length + 2) for row in train)
    share = lost / sum(map(len, train))
    print(f"  --max-length {args.max_length} cuts off {share:.1%} of the tokens")
    print(f"  padding in this batch: {(~mask).float().mean():.1%}, work for nothing")
    return ids, mask


def show_embedding(ids, mask, vocabulary, args):
    """One-hot product, row lookup, nn.Embedding: values and gradients, to the bit."""
    ids, mask = ids[:, :20].to(args.device), mask[:, :20].to(args.device)  # (B, T)
    table = nn.Embedding(len(vocabulary), 8, device=args.device)
    weight = table.weight  # (V, E)
    # Whole numbers as incoming gradient: their sums are exact in whatever order they
    # are added, so equality to the bit is a fair demand.  None is 0, so none can hide a
    # row; but padding must not teach, and the mask takes its gradient away.
    incoming = torch.randint(1, 9, (*ids.shape, 8)).to(weight) * mask.unsqueeze(-1)
    results = []
    for vectors in (embed_by_one_hot(ids, weight), weight[ids], table(ids)):
        (gradient,) = torch.autograd.grad(vectors, weight, incoming)  # (V, E)
        results.append((vectors, gradient))
    first = results[0]
    same = all(torch.equal(a, b) for way in results for a, b in zip(way, first))
    rows = gradient.abs().sum(dim=1).nonzero().flatten()
    print(f"\nOne-hot product, lookup and nn.Embedding are equal to the bit: {same}")
    print(f"  rows of W with a gradient: {len(rows):,} of {len(vocabulary):,}")
    print(f"  exactly the rows that occurred: {torch.equal(rows, ids[mask].unique())}")
    wide, narrow = ids.numel() * len(vocabulary), ids.numel()
    print(f"  numbers to store: {wide:,} as one-hot vectors, {narrow:,} as ids")


# Words to look up, where the text has them; else frequent pieces of the text.
QUERIES = ["king", "father", "day", "blood", "dog", "teacher", "bread", "monday"]


def show_neighbours(train, args, source):
    """Nearest pieces by cosine similarity of the vectors made of neighbour counts."""
    least = max(args.min_freq, 20)
    frequent = Vocabulary.build(train, (), least, args.max_vocab)
    size = len(frequent)
    if size < 10:
        print(f"\nWord vectors need 10 pieces seen {least} times; here are {size}.")
        return
    rows = [[frequent.ids.get(token, size) for token in row] for row in train]
    vectors = word_vectors(rows, size, args.seed)  # (V, E)
    counts = Counter(i for row in rows for i in row)
    names = visible(frequent.tokens, args.tokenizer)
    bare = [name.strip("_").lower() for name in names]
    asked = [bare.index(word) for word in QUERIES if word in bare]
    print(f"\nNearest of {size:,} pieces seen {least} times or more, {source.label}")
    for row in list(dict.fromkeys([*asked, *range(size // 10, size)]))[:6]:
        order = np.argsort(-vectors @ vectors[row], kind="stable")
        near = ", ".join(names[i] for i in order[order != row][:5])
        print(f"  {names[row]:>12}, seen {counts[row]:>5,} times: {near}")
    print("No network, no labels: alike is what has like neighbours in the text.")
    print("A rare word has met too few neighbours to be placed well.")


def compare_with_torchtext(train_texts, args):
    """Where torchtext loads: assert that it gives the same tokens and the same ids."""
    try:
        import torchtext

        torchtext.disable_torchtext_deprecation_warning()
        from torchtext.data.utils import get_tokenizer
        from torchtext.vocab import build_vocab_from_iterator
    except Exception as error:  # noqa: BLE001  (with a newer torch: almost anything)
        why = type(error).__name__
        print(f"\nNot compared with torchtext ({why}): it is archived, and its last")
        print("release, 0.18.0, cannot be loaded by a torch after 2.3.")
        return
    theirs = list(map(get_tokenizer("basic_english"), train_texts))
    ours = list(map(basic_english, train_texts))
    assert ours == theirs, "basic_english and torchtext cut the text differently"
    vocabulary = fit_vocabulary("basic_english", ours, [], args)
    limits = {"min_freq": args.min_freq, "max_tokens": args.max_vocab}
    other = build_vocab_from_iterator(theirs, specials=list(SPECIALS), **limits)
    assert vocabulary.tokens == other.get_itos(), "torchtext numbers them differently"
    print(
        f"\ntorchtext {torchtext.__version__} agrees: {sum(map(len, ours)):,} tokens,"
    )
    print(f"{len(vocabulary):,} ids, all the same.")


# ====================================================================================
# 5. Command line
# ====================================================================================


def build_parser():
    """The flags of this lesson."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    names = ["basic_english", "word", "bpe", "char"]
    add("--tokenizer", choices=names, default=names[0], help="default basic_english")
    add("--max-vocab", type=whole(5), default=10_000, help="largest V (default 10000)")
    rarer = "a rarer token is unknown, a rarer pair not merged (default 2)"
    add("--min-freq", type=whole(1), default=2, help=rarer)
    add("--max-length", type=whole(3), default=100, help="longest row (default 100)")
    add("--merges", type=whole(0), default=500, help="of BPE, at most (default 500)")
    own = "a text file of your own, or a CSV file with a column text"
    add_data_flags(parser, ["shakespeare", "sample", "grammar"], own)
    add_common_flags(parser)
    return parser


def main(argv=None):
    args = parse_flags(build_parser(), argv, __file__)
    room = args.max_vocab - len(SPECIALS) - len(BYTES)  # what is left for merges
    if args.tokenizer == "bpe" and room < 0:
        raise UserError(
            "--tokenizer bpe needs --max-vocab 260 or more, 256 for the bytes"
        )
    source, train_texts, held_texts = load_texts(args)
    size = sum(map(len, train_texts + held_texts))
    print(f"Data: {source.label}, {size:,} characters, ", end="")
    print(f"{len(train_texts):,} documents to learn from, {len(held_texts):,} held out")
    if source.path is None:
        print("The text is made up by the grammar in this script: no one wrote it.")
    limit = min(args.merges, max(room, 0), 100 if args.quick else args.merges)
    merges = learn_bpe(train_texts, limit, args.min_freq)
    show_merges(merges, train_texts, source)
    tokenizers, split, vocabularies = make_tokenizers(merges), {}, {}
    for name, (cut, _) in tokenizers.items():
        split[name] = list(map(cut, train_texts)), list(map(cut, held_texts))
        vocabularies[name] = fit_vocabulary(name, split[name][0], merges, args)
    vocabulary, (train, held) = vocabularies[args.tokenizer], split[args.tokenizer]
    if len(vocabulary) == len(SPECIALS):
        raise UserError(f"no token occurs {args.min_freq} times; lower --min-freq")
    compare_tokenizers(tokenizers, split, vocabularies, source)
    show_coverage(split, vocabulary, args, source)
    show_zipf(split, args, source)
    join = tokenizers[args.tokenizer][1]
    ids, mask = show_batch(train_texts, train, vocabulary, join, args, source)
    show_embedding(ids, mask, vocabulary, args)
    show_neighbours(train, args, source)
    compare_with_torchtext(train_texts, args)
    known = share_known(held, vocabulary)
    write_metrics(args, source, {"held_out_coverage": known}, {})


if __name__ == "__main__":
    sys.exit(run(main))
