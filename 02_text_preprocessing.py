"""02 · How does text become numbers?

A network multiplies matrices, so text must become numbers: cut into tokens (words or
smaller), each token given a number, its id (all together: the vocabulary), rows of ids
made equally long (padding), each id exchanged for a vector to be trained (embedding).

What you will learn
    - four ways to cut text: basic_english, words, characters, byte-pair encoding (BPE)
    - how much of unseen text a vocabulary knows, and why so slowly more: Zipf's law
    - padding, masks, and the way back from numbers to text
    - that looking up an embedding is multiplying by a matrix
    - that counts of neighbours, without a network, tell which words are alike

Run it
    python 02_text_preprocessing.py
    python 02_text_preprocessing.py --tokenizer bpe --merges 1000
    python 02_text_preprocessing.py --tokenizer word --max-vocab 1000 --min-freq 5
    python 02_text_preprocessing.py --max-length 20 --quick

You should see (shakespeare [real], two cores, about 5 seconds)
                          V   tokens/document   unknown   line comes back
      basic_english   6,213              25.4     6.44%           changed
      word            7,245              26.6     7.07%           changed
      bpe               760              52.1     0.00%             exact
      char               68             112.1     0.00%             exact
    The 1,000 most frequent of basic_english's tokens cover 85.92% of the training part
    and 83.08% of the held-out part; 47.0% of the different tokens occur only once.
    Nearest to king: henry, vi, richard, edward; to father: son, brother, mother.

Try this (guess first, then run)
    1. --tokenizer char: how large is V, how long are the rows, which letters are alike?
    2. --min-freq 1 --max-vocab 20000: is no held-out token unknown then?  Why not?
    3. --tokenizer bpe --merges 0, then 3000: what are BPE's tokens without any merge?
    4. --max-length 10: how much of the text is lost, and what happens to the padding?
"""

# Sizes
#   B batch: rows (documents) handled together   T time: tokens in a row, with padding
#   V vocabulary: how many tokens have an id     E embedding: numbers that stand for one

import random
import re
import sys
from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from torch import nn

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================

# A small text of our own, for machines without data: each {a|b|c} becomes one of its
# words, the first the oftenest.  Section 3 ought to find that those words are alike.
OWN_TEXT = """
The {dog|cat|horse|cow|goat|fox|hen|sheep} {ran|walked|jumped|slept|hid} near the river.
On {Monday|Tuesday|Thursday|Friday} the {farmer|teacher|doctor|baker} stayed at home!
"We {made|bought|sold|tasted} {bread|soup|cheese|rice|fish|cake|honey}," they said.
Is {North|South|Lang|Ash|Stone|Hart|Fair}{er|ing|en|le|}{ton|wick|ford|ham|mere} far?
"""


def own_texts(n=2500):
    """`n` documents of three generated sentences; fixed, whatever --seed says."""
    rng, sentences = random.Random(20240103), OWN_TEXT.strip().splitlines()

    def word(match):
        choices = match[1].split("|")
        return choices[int(len(choices) * rng.random() ** 3)]

    drawn = [" ".join(rng.choices(sentences, k=3)) for _ in range(n)]
    return [re.sub(r"\{(.*?)\}", word, text) for text in drawn]


def read_documents(path):
    """A CSV file's column `text`; else paragraphs, or lines if there are under ten."""
    if path.suffix.lower() == ".csv":
        return utils.read_csv(path, ["text"])["text"].dropna().astype(str).tolist()
    text = utils.read_text(path)
    paragraphs = re.split(r"\n\s*\n", text)
    return text.splitlines() if len(paragraphs) < 10 else paragraphs


def load_texts(args):
    """Returns (source, training texts, held-out texts), 9 to 1.

    What is learnt comes from the training part alone; the held-out part stands for text
    nobody has seen.  It is the last tenth, as neighbouring texts share names and topic.
    """
    reviews = utils.SAMPLES / "reviews.csv"
    offline = {"sample": reviews if reviews.is_file() else None}
    source = utils.choose_dataset(args, ["shakespeare"], offline)
    texts = read_documents(source.path) if source.path else own_texts()
    texts = [text for text in utils.capped(args, texts, 400) if basic_english(text)]
    if len(texts) < 2:
        raise utils.UserError(f"{source.path} needs two lines of text or more")
    cut = min(round(0.9 * len(texts)), len(texts) - 1)
    return source, texts[:cut], texts[cut:]


# ====================================================================================
# 2. Model
# ====================================================================================
# The "model" of this lesson is the way from text to numbers.


def basic_english(text):
    """The tokens of torchtext, PyTorch's old library: lower case, marks set apart."""
    text = text.lower().replace('"', "")
    text = re.sub(r"<br />|[;:]", " ", text)  # <br />: line break of a web page
    return re.sub(r"(['.,()!?])", r" \1 ", text).split()


def words(text):
    """Words with their case (don't stays one), and each punctuation mark by itself."""
    return re.findall(r"\w+(?:['’]\w+)*|[^\w\s]", text)


# Byte-pair encoding starts from single bytes: 256 of them spell every text of every
# language (UTF-8 writes é as two).  Then, again and again, the pair of neighbours that
# is most frequent in the training part becomes one token: a merge.  Nothing is joined
# across chunks (a word or a run of punctuation with the space before it, or white
# space); all chunks joined are the text.
CHUNK = re.compile(r" ?\w+| ?[^\w\s]+|\s+")


def single_bytes(text):
    return [bytes([byte]) for byte in text.encode()]


def merge_pair(pieces, pair):
    """Join each neighbouring `pair` in a list of pieces, from left to right."""
    merged, i = [], 0
    while i < len(pieces):
        width = 2 if tuple(pieces[i : i + 2]) == pair else 1
        merged.append(b"".join(pieces[i : i + width]))
        i += width
    return merged


def make_bpe(merges):
    """The function text -> tokens that `merges` define, the earliest applied first."""
    ranks = {pair: i for i, (pair, _) in reversed(list(enumerate(merges)))}

    @cache  # a word is cut the same wherever it stands
    def cut(chunk):
        pieces = single_bytes(chunk)
        while known := [pair for pair in pairwise(pieces) if pair in ranks]:
            pieces = merge_pair(pieces, min(known, key=ranks.get))
        return pieces

    return lambda text: [token for chunk in CHUNK.findall(text) for token in cut(chunk)]


def make_tokenizers(merges):
    """name -> (text to tokens, tokens to text).  Only bpe and char lose nothing."""
    return {
        "basic_english": (basic_english, " ".join),
        "word": (words, " ".join),
        "bpe": (make_bpe(merges), lambda t: b"".join(t).decode(errors="replace")),
        "char": (list, "".join),
    }


# Padding, unknown token, begin and end of a row: not from the text; their ids are 0-3.
SPECIALS = PAD, UNK, BOS, EOS = utils.PAD, utils.UNK, utils.BOS, utils.EOS


def encode(tokens, vocabulary, max_length):
    """<bos> tokens <eos>, at most `max_length` ids; a text's own "<pad>" is unknown."""
    body = [UNK if token in SPECIALS else token for token in tokens[: max_length - 2]]
    return vocabulary.encode([BOS, *body, EOS])


def decode(ids, vocabulary, join):
    """Ids back to text: <pad>, <bos> and <eos> go, <unk> stays to be seen."""
    return join([t for t in vocabulary.decode(ids) if t not in (PAD, BOS, EOS)])


def embed_by_one_hot(ids, weight):
    """x_t = one_hot(i_t) W:  ids (B, T), weight W (V, E) -> (B, T, E).

    one_hot(i) has a 1 at place i, else 0.  All products but one are with 0, so row i_t
    of W remains; weight[ids] picks the same rows directly.
    """
    one_hot = nn.functional.one_hot(ids, len(weight)).to(weight.dtype)  # (B, T, V)
    return one_hot @ weight  # (B, T, E)


# ====================================================================================
# 3. Training
# ====================================================================================
# What is fitted to data sees only the training part: merges, vocabulary, word vectors.


def learn_bpe(texts, merges, min_freq=2):
    """Learn byte-pair merges: a list of ((left, right), count), in order of learning.

    As Sennrich et al. (2016), but from bytes (Radford et al., 2019); then `merges` times

        (a, b) = argmax over pairs of  sum over chunks w of  n(w) * times (a, b) is in w

    (n(w): how often chunk w occurs) and every a b becomes the one piece ab.
    """
    counts = Counter(chunk for text in texts for chunk in CHUNK.findall(text))
    pieces = {chunk: single_bytes(chunk) for chunk in counts}
    pairs, holders = Counter(), defaultdict(set)  # holders: pair -> chunks that held it

    def count(chunk, sign):
        for pair in pairwise(pieces[chunk]):
            pairs[pair] += sign * counts[chunk]
            holders[pair].add(chunk)

    for chunk in counts:
        count(chunk, +1)
    learnt = []
    while len(learnt) < merges and pairs:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))  # ties: alphabet
        if pairs[best] < min_freq:
            break
        learnt.append((best, pairs[best]))
        for chunk in holders.pop(best):  # only these change: no need to count all anew
            count(chunk, -1)
            pieces[chunk] = merge_pair(pieces[chunk], best)
            count(chunk, +1)
    return learnt


def fit_vocabulary(tokenizer, train, merges, args):
    """Number train's tokens: specials, then by falling count.  BPE: bytes, then merges."""
    if tokenizer == "bpe":
        tokens = [bytes([i]) for i in range(256)] + [a + b for (a, b), _ in merges]
        return utils.Vocabulary([*SPECIALS, *dict.fromkeys(tokens)])  # each once
    return utils.Vocabulary.build(train, SPECIALS, args.min_freq, args.max_vocab)


def cooccurrences(rows, size, window=3):
    """How often ids stand at most `window` apart: (size, size).  Id `size` is left out."""
    gap = [size] * window  # between two documents, so that no pair reaches across
    flat = np.array([i for row in rows for i in [*row, *gap]])
    counts = np.zeros((size + 1, size + 1))
    for distance in range(1, window + 1):
        np.add.at(counts, (flat[:-distance], flat[distance:]), 1)
    return (counts + counts.T)[:size, :size]


def pointwise_information(counts):
    """PPMI(a, b) = max(0, log( n(a, b) / (n(a) p(b)) )),  n(a, b): (V, V) -> (V, V).

    How much oftener than by chance does b stand near a?  n(a) sums row a; p(b): share of
    n(b)^0.75, else rare b would seem too telling (Levy et al., 2015).
    """
    p = counts.sum(0) ** 0.75
    chance = counts.sum(1, keepdims=True) * p / max(p.sum(), 1)
    return np.log(np.maximum(1, counts / np.maximum(chance, 1e-9)))


def word_vectors(ppmi):
    """(V, V) -> (V, 50): columns that say the same merged, each row of length 1."""
    if not ppmi.any():
        return ppmi
    vectors = TruncatedSVD(min(50, len(ppmi)), random_state=0).fit_transform(ppmi)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================


def visible(tokens):
    """Tokens for the eye: space as _, line end as \\n, half a character as \\xc3."""
    kind = "backslashreplace"
    shown = [t.decode(errors=kind) if isinstance(t, bytes) else t for t in tokens]
    return [token.replace(" ", "_").replace("\n", "\\n") for token in shown]


def show_merges(merges, train_texts, source):
    """The first merges, and one word after 0, 10, 100 and all of them."""
    print(f"\nByte-pair encoding, pair after pair, on training text: {source.label}")
    for step, ((left, right), count) in enumerate(merges[:6], start=1):
        left, right, both = visible([left, right, left + right])
        print(f"  merge {step}: {left} + {right} -> {both}   seen {count:,} times")
    found = Counter(word for text in train_texts for word in words(text))
    word = " " + max(found, key=lambda w: (len(w) > 7 and w.islower(), found[w]))
    for n in sorted({min(n, len(merges)) for n in (0, 10, 100, len(merges))}):
        print(f"  after {n:>4} merges: {' '.join(visible(make_bpe(merges[:n])(word)))}")
    print("_ is a space.  Frequent words become one token, rare ones stay in parts.")


def compare_tokenizers(tokenizers, split, vocabularies, source):
    """One line cut four ways; then a table: size of vocabulary, length of rows."""
    line, rows = 'Isn\'t "Zoë" at the café (yet)?', {}
    print(f"\nOne line, four ways: {line}")
    for name, (cut, join) in tokenizers.items():
        print(f"  {name:>13}: {' '.join(visible(cut(line)))}")
        held, vocabulary = split[name][1], vocabularies[name]
        rows[name] = {
            "V": len(vocabulary),
            "tokens/document": f"{sum(map(len, held)) / len(held):.1f}",
            "unknown": f"{1 - share_known(held, vocabulary):.2%}",
            "line comes back": "exact" if join(cut(line)) == line else "changed",
        }
    utils.print_table(f"Held-out part of {source.label}", rows, corner="tokenizer")
    print("Small V: long rows, all known.  Large V: short rows, some tokens unknown.")


def share_known(rows, vocabulary):
    """Share of the tokens in `rows` that have an id of their own."""
    return sum(t in vocabulary for row in rows for t in row) / sum(map(len, rows))


def counts_by_rank(train, rows):
    """(n,): how often train's 1st, 2nd, ... most frequent token occurs in `rows`."""
    counts = Counter(token for row in rows for token in row)
    ranked = utils.Vocabulary.build(train, specials=()).tokens
    return np.array([counts[token] for token in ranked])


def coverage(train, rows):
    """(n,): share of tokens in `rows` among the 1, 2, ..., n most frequent of train."""
    return counts_by_rank(train, rows).cumsum() / sum(map(len, rows))


def show_coverage(train, held, vocabulary, args, source):
    """What the most frequent tokens cover, as a table."""
    counts = counts_by_rank(train, train)
    known, unseen = coverage(train, train), coverage(train, held)
    used, rows = sum(token in vocabulary for token in set().union(*train)), {}
    for n in sorted({10, 100, 1000, 3000, 10_000, used}):
        if 0 < n <= used:
            row = {"training": f"{known[n - 1]:.2%}"}
            rows[f"{n:,}"] = row | {"held-out": f"{unseen[n - 1]:.2%}"}
    title = f"Share of tokens known, {args.tokenizer}, {source.label}"
    utils.print_table(title, rows, corner="most frequent")
    print("Read down: what a larger vocabulary adds; the last row is this run's.")
    top, once = counts[:10].sum() / counts.sum(), (counts == 1).mean()
    print(
        f"Ten tokens fill {top:.1%} of the training part; {once:.1%} of its different"
    )
    print("tokens occur once only: too rarely to learn from.")


def draw(split, args, source):
    """Coverage of held-out text against vocabulary size; count against rank (Zipf)."""
    if args.no_plots:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, (train, held) in split.items():
        counts = counts_by_rank(train, train)
        ranks = np.arange(1, len(counts) + 1)
        left.plot(ranks, coverage(train, held), label=name)
        right.plot(ranks, counts, label=name)
        if name == args.tokenizer:
            left.plot(ranks, coverage(train, train), "k--", lw=1, label="its training")
            right.plot(ranks, counts[0] / ranks, "k--", lw=1, label="its C / rank")
    left.set(xscale="log", xlabel="most frequent tokens kept", ylabel="held-out known")
    right.set(xscale="log", yscale="log", xlabel="rank", ylabel="count in training")
    left.legend()
    right.legend()
    figure.suptitle(f"Known tokens, and Zipf's law: {source.label}", **utils.PLAIN)
    utils.save_picture(figure, args, "coverage_and_zipf")
    print("  Left: what a vocabulary of each size knows.  Right, dashed: Zipf's law,")
    print("  in real text the token of rank r occurs about C / r times: most are rare.")


def show_batch(texts, train, vocabulary, join, args, source):
    """Encode, pad, mask, decode; returns ids (B, T) and mask (B, T) of 4 documents."""
    encoded = [encode(row, vocabulary, args.max_length) for row in train]
    ids, lengths = utils.pad(encoded[:4], vocabulary[PAD])  # (B, T), (B,)
    mask = utils.length_mask(lengths, ids.shape[1])  # (B, T)
    print(f"\nA batch {tuple(ids.shape)}, {source.label}, lengths {lengths.tolist()}")
    for row, real in zip(ids[:, :12], mask[:, :12], strict=True):
        print("  ids  " + " ".join(f"{i:>5}" for i in row.tolist()))
        print("  mask " + " ".join(f"{m:>5}" for m in real.int().tolist()))
    print("  (12 columns)  0 is padding (mask 0), 1 unknown, 2 begin, 3 end; last row:")
    print(f"  {decode(ids[-1].tolist(), vocabulary, join)!r}")
    exact = sum(decode(i, vocabulary, join) == t for i, t in zip(encoded, texts))
    print(f"  text -> ids -> text: exact for {exact:,} of {len(texts):,} documents")
    print("  (with bpe: all that --max-length leaves whole; the others may lose more)")
    kept = sum(len(row) - 2 for row in encoded) / sum(map(len, train))
    print(f"  --max-length {args.max_length} cuts off {1 - kept:.1%} of the tokens")
    print(f"  padding in this batch: {(~mask).float().mean():.1%}, work for nothing")
    return ids, mask


def show_embedding(ids, mask, vocabulary, args):
    """One-hot product, row lookup, nn.Embedding: values and gradients, to the bit."""
    ids, mask = ids[:, :20].to(args.device), mask[:, :20].to(args.device)  # (B, T)
    table = nn.Embedding(len(vocabulary), 8, device=args.device)
    weight = table.weight  # (V, E)
    # Sums of whole numbers are exact in any order, so no difference is excused.  The
    # mask takes the gradient of padding away, for padding must not teach.
    incoming = torch.randint(1, 9, (*ids.shape, 8)).to(weight) * mask.unsqueeze(-1)
    ways = embed_by_one_hot(ids, weight), weight[ids], table(ids)  # (B, T, E) each
    slopes = [torch.autograd.grad(way, weight, incoming)[0] for way in ways]  # (V, E)
    gaps = [(each - three[0]).abs().max() for three in (ways, slopes) for each in three]
    rows = slopes[2].abs().sum(dim=1).nonzero().flatten()
    print("\nOne-hot product, lookup and nn.Embedding: three names for one thing")
    print(f"  largest difference of values and gradients: {max(gaps).item()}")
    print(f"  rows of W with a gradient: {len(rows):,} of {len(vocabulary):,}")
    print(f"  exactly the rows that occurred: {torch.equal(rows, ids[mask].unique())}")
    print("So a batch teaches the vectors of its own tokens, and no others.")


def show_neighbours(train, args, source):
    """Nearest tokens: the largest cosine, the product of two vectors of length 1."""
    least = max(args.min_freq, 20)
    frequent = utils.Vocabulary.build(train, (), least, min(args.max_vocab, 2000))
    size = len(frequent)
    rows = [[frequent.ids.get(token, size) for token in row] for row in train]
    counts = cooccurrences(rows, size)  # (size, size)
    vectors = word_vectors(pointwise_information(counts))  # (size, 50)
    names = visible(frequent.tokens)
    wanted = ["king", "father", "day", "blood", "film", "dog", "bread", "monday"]
    asked = [names.index(word) for word in wanted if word in names]
    print(f"\nNearest of {size:,} tokens seen {least} times or more, {source.label}")
    for row in [*asked, *range(size // 10, size)][:6]:  # else frequent tokens
        order = np.argsort(-vectors @ vectors[row], kind="stable")
        near = [names[i] for i in order[order != row][:5]]
        print(f"  {names[row]:>12}: {', '.join(near)}")
    print("No network, no labels: two words are alike if their neighbours are.  A rare")
    print("word has met too few neighbours to be placed well.")


def compare_with_torchtext(texts, tokens, vocabulary, args):
    """Where torchtext loads: assert that it gives the same tokens and the same ids."""
    try:
        import torchtext

        torchtext.disable_torchtext_deprecation_warning()
        from torchtext.data.utils import get_tokenizer
        from torchtext.vocab import build_vocab_from_iterator
    except Exception as error:  # noqa: BLE001  (beside a newer torch: almost anything)
        print(f"\ntorchtext is not there, or does not load: {type(error).__name__}")
        return
    theirs = list(map(get_tokenizer("basic_english"), texts))
    assert tokens == theirs, "torchtext cuts the text differently"
    limits = {"min_freq": args.min_freq, "max_tokens": args.max_vocab}
    known = build_vocab_from_iterator(theirs, specials=list(SPECIALS), **limits)
    assert vocabulary.tokens == known.get_itos(), "torchtext numbers them differently"
    print(f"\ntorchtext agrees: the same tokens, the same {len(vocabulary):,} ids.")


# ====================================================================================
# 5. Command line
# ====================================================================================


def build_parser():
    """The flags of this lesson."""
    parser, whole = utils.make_parser(__doc__), utils.whole
    add, names = parser.add_argument, ["basic_english", "word", "bpe", "char"]
    add("--tokenizer", choices=names, default=names[0], help="default basic_english")
    add("--max-vocab", type=whole(5), default=10_000, help="largest V (default 10000)")
    add("--min-freq", type=whole(1), default=2, help="rarer is unknown (default 2)")
    add("--max-length", type=whole(3), default=100, help="longest row (default 100)")
    add("--merges", type=whole(0), default=500, help="of BPE, at most (default 500)")
    utils.add_data_flags(parser, ["shakespeare", "sample"], "text; or CSV, column text")
    utils.add_common_flags(parser)
    return parser


def main(argv=None):
    args = utils.parse_flags(build_parser(), argv, __file__)
    room = args.max_vocab - len(SPECIALS) - 256  # what the bytes leave for merges
    if args.tokenizer == "bpe" and room < 0:
        raise utils.UserError("--tokenizer bpe needs --max-vocab 260 or more")
    source, *texts = load_texts(args)
    print(f"Data: {source.label}" + ("" if source.path else ", made up by this script"))
    print(f"{len(texts[0]):,} documents to learn from, {len(texts[1]):,} held out")
    merges = learn_bpe(texts[0], min(args.merges, max(room, 0)), args.min_freq)
    show_merges(merges, texts[0], source)
    tokenizers, split, vocabularies = make_tokenizers(merges), {}, {}
    for name, (cut, _) in tokenizers.items():
        split[name] = [list(map(cut, part)) for part in texts]
        vocabularies[name] = fit_vocabulary(name, split[name][0], merges, args)
    compare_tokenizers(tokenizers, split, vocabularies, source)
    vocabulary, join = vocabularies[args.tokenizer], tokenizers[args.tokenizer][1]
    train, held = split[args.tokenizer]
    show_coverage(train, held, vocabulary, args, source)
    draw(split, args, source)
    ids, mask = show_batch(texts[0], train, vocabulary, join, args, source)
    show_embedding(ids, mask, vocabulary, args)
    show_neighbours(train, args, source)
    ours = split["basic_english"][0], vocabularies["basic_english"]
    compare_with_torchtext(texts[0], *ours, args)
    metrics = {"held_out_coverage": share_known(held, vocabulary)}
    utils.write_metrics(args, source, metrics, {})


if __name__ == "__main__":
    sys.exit(utils.run(main))
