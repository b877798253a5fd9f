"""07 · What does the future of a sentence tell?

"The old man sleeps ." and "The old man the boats .": only later words tell what "man"
is.  This network reads from both ends: for one answer a review, or for one a word.

What you will learn
    - both directions by hand, equal to nn.LSTM, and what padding does backwards
    - two directions against one that has as many weights
    - tags for words, even new ones: parts of speech (universaldependencies.org/u/pos)
    - the most that any reader from left to right can know, computed

Run it
    python 07_bidirectional_rnn.py --predict "I expected little, but it was a joy."
    python 07_bidirectional_rnn.py --task tag --predict "Time flies like an arrow"

You should see (seed 0, two cores)
    imdb [real], 2.5 minutes: accuracy 0.9015; TF-IDF of words 0.8855, of pairs 0.9096
    ewt [real], 2 minutes: accuracy 0.9530, unseen 0.7944; most frequent tag 0.8615
    sample [sample], --task tag: 1.0000; --unidirectional 0.9032 (all parts: <= 0.9077)

Try this (guess first, then run)
    --compare direction, with either --task    what is the future worth, and to whom?
    --no-packing                               what if it starts in the padding?
    --task tag --char-features none            which words need their letters?
"""

# Sizes
#   B  batch (texts)      T  time (words of its longest text)      E  vector of a word
#   H  state of one direction; D = 2H, or H where there is but one       V  vocabulary
#   C  classes: labels of texts, or tags of words       N texts and M answers of a part
#   A  answers a text: 1, or T for tags     U  different words of a batch, of W letters

import hashlib
import re
import sys
from argparse import Namespace
from collections import Counter, defaultdict

import torch
from sklearn.metrics import confusion_matrix
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================

MAX_VOCAB, MAX_LENGTH = 15_000, 400  # words known, and kept of a review: half each end
CUT = r"\w+?(?=n['’]t\b)|n['’]t\b|['’]\w+|\w+(?:[.-]\w+)*|[^\w\s]"  # do n't, it 's
UNK_ID, NO_TAG = 1, -1  # of <unk> in a vocabulary; what stands where there is no word


class Sentences(utils.Batches):
    """Batches that also hold the letters of each different word in them, once."""

    def take(self, index):
        batch = super().take(index)
        words, batch["which"] = batch["spelling"].unique(return_inverse=True)  # (B, T)
        letters = self.spellings[words.cpu()].to(self.device)
        batch["letters"] = letters[:, : int((letters > 0).sum(1).max())]  # (U, W)
        return batch


def make_batches(tensors, train, args, kind=utils.Batches):
    """Batches of texts of similar length; for --no-packing as they come."""
    how = {"shuffle": train}
    how["bucket"] = "text" if train or not args.no_packing else None
    return kind(tensors, args.batch_size, args.device, **how)


def tag_batches(sentences, vocabulary, labels, train, args):
    """Sentences of (word, tag) as batches: (N, T) each of words, spellings and tags."""
    words = ["", *sorted({word for line in sentences for word, _ in line})]
    place = {word: i for i, word in enumerate(words)}
    text = [[vocabulary[word.lower()] for word, _ in line] for line in sentences]
    spelling = [[place[word] for word, _ in line] for line in sentences]
    label = [[labels.index(tag) for _, tag in line] for line in sentences]
    tensors, tags = {}, ("label", label, NO_TAG)
    for name, *padded in (("text", text), ("spelling", spelling), tags):
        tensors[name], tensors[f"{name}_length"] = utils.pad(*padded)
    batches = make_batches(tensors, train, args, Sentences)
    # Letters (bytes, 20 at most) between marks of beginning and end, 1 and 2.
    batches.spellings = utils.pad([[1, *word.encode()[:20], 2] for word in words])[0]
    return batches


def load_data(source, args):
    """What this lesson knows of its data, training first and test last.

    parts: lists of (text, label), or of sentences [(word, tag), ...].  vocabulary: of
    training in lower case, frequent words first; those from `once` on stand there once.
    """
    batches = []
    if args.task == "classify":
        _, labels, texts = reviews = utils.load_reviews(args, source)
        vocabulary = utils.review_vocabulary(reviews, MAX_VOCAB)
        once = len(vocabulary)  # hide none: of many texts, rare words are unknown
        for part in texts:
            tensors = utils.encode_reviews(part, once, MAX_LENGTH)
            tensors["label"] = torch.tensor([[labels.index(y)] for y in part.labels])
            batches.append(make_batches(tensors, not batches, args))
        parts = [list(zip(part.texts, part.labels, strict=True)) for part in texts]
    else:
        parts = utils.load_tagged(args, source)
        lines = [[word.lower() for word, _ in line] for line in parts[0]]
        vocabulary = utils.Vocabulary.build(lines)
        once = len(utils.Vocabulary.build(lines, min_freq=2))
        labels = sorted({tag for part in parts for line in part for _, tag in line})
        for part in parts:
            batches.append(tag_batches(part, vocabulary, labels, not batches, args))
    known = {"source": source, "parts": parts, "vocabulary": vocabulary, "once": once}
    return Namespace(**known, labels=labels, batches=batches)


# ====================================================================================
# 2. Model
# ====================================================================================

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def reverse_words(x, lengths):
    """x (B, T, D), the real words of each row, `lengths` (B,), in reverse order."""
    steps = torch.arange(x.shape[1], device=x.device)  # (T,)
    from_end = lengths.to(x.device).unsqueeze(1) - 1 - steps  # (B, T), < 0 on padding
    places = torch.where(from_end < 0, steps, from_end)  # (B, T)
    return torch.take_along_dim(x, places.unsqueeze(2), dim=1)  # (B, T, D)


class Reader(nn.Module):
    """Recurrent layers of one cell that reads forwards and one that reads backwards.

    In the first layer, word t's forward state knows words 1 ... t, its backward state t
    ... T (Schuster and Paliwal, 1997).  If not `packing`, padding is read as words.
        f_t = cell_f(x_t, f_{t-1})    b_t = cell_b(x_t, b_{t+1})    h_t = [f_t, b_t]
    """

    def __init__(self, size, cell, hidden, layers, dropout):
        super().__init__()
        ways = 2 if cell.startswith("bidirectional") else 1
        self.size, self.packing = ways * hidden, True
        self.layers, make = nn.ModuleList(), CELLS[cell.split()[1]]
        for n in [size] + [self.size] * (layers - 1):
            cells = [make(n, hidden, batch_first=True) for _ in range(ways)]
            self.layers.append(nn.ModuleList(cells))
        self.dropout = nn.Dropout(dropout)  # between layers

    def forward(self, x, lengths):
        """x (B, T, E), lengths (B,) -> states of every word (B, T, D)."""
        lengths = lengths if self.packing else torch.full_like(lengths, x.shape[1])
        for i, cells in enumerate(self.layers):
            x = self.dropout(x) if i else x
            # Forwards, padding comes after the words: it cannot change their states.
            states = [cells[0](x)[0]]  # (B, T, H)
            # Backwards, it would come first.  So reverse the real words, then put the
            # states back.  PyTorch's packing does the same, for long texts more slowly.
            for cell in cells[1:]:
                back = cell(reverse_words(x, lengths))[0]  # (B, T, H)
                states.append(reverse_words(back, lengths))
            x = torch.cat(states, dim=2)  # (B, T, D)
        return x


class LetterFilters(nn.Module):
    """For each word, the most that filters over 3 or 5 letters find, such as "-ing"."""

    def __init__(self, size):
        super().__init__()
        self.embed = nn.Embedding(256, 32, padding_idx=0)
        convs = (nn.Conv1d(32, size // 2, width, padding="same") for width in (3, 5))
        self.filters = nn.ModuleList(convs)

    def forward(self, letters):
        """letters (U, W), 0 behind the word -> (U, size)."""
        x = self.embed(letters).transpose(1, 2)  # (U, 32, W)
        found = torch.cat([conv(x) for conv in self.filters], dim=1)  # (U, size, W)
        # How much padding there is depends on the batch's longest word: leave it out.
        return found.masked_fill((letters == 0).unsqueeze(1), -torch.inf).amax(2).relu()


class Network(nn.Module):
    """Vectors of words, the Reader, and one answer a text or, if `per_word`, a word."""

    def __init__(self, words, once, classes, per_word, spelled, **shape):
        super().__init__()
        self.once, self.per_word = once, per_word
        self.embed = nn.Embedding(words, 100)
        # PyTorch's own start is ten times as large: words then drown out the letters.
        nn.init.normal_(self.embed.weight, std=0.1)
        self.spell = LetterFilters(100) if spelled else None
        self.reader = Reader(200 if spelled else 100, **shape)
        self.dropout = nn.Dropout(shape["dropout"])
        self.output = nn.Linear(self.reader.size, classes)

    def vectors(self, batch):
        """Vectors of a batch's words (B, T, E)."""
        words = batch["text"]  # (B, T)
        if self.training:
            # In training no word is unknown.  So every other time that one seen once
            # comes, hide it: the network learns to use its letters and its neighbours.
            hide = torch.rand(words.shape, device=words.device) < 0.5
            words = words.masked_fill(hide & (words >= self.once), UNK_ID)
        x = self.embed(words)  # (B, T, 100)
        if self.spell:  # once for each different word, U; then to where the word stands
            spelled = self.spell(batch["letters"])  # (U, 100)
            x = torch.cat([x, F.embedding(batch["which"], spelled)], dim=2)
        return x

    def read(self, x, lengths):
        """Vectors (B, T, E), lengths (B,) -> scores (B, A, C)."""
        states = self.reader(self.dropout(x), lengths)  # (B, T, D)
        if not self.per_word:  # of each feature, the largest value at a real word
            real = utils.length_mask(lengths, x.shape[1], x.device).unsqueeze(2)
            states = states.masked_fill(~real, -torch.inf).amax(1, True)  # (B, 1, D)
        return self.output(self.dropout(states))

    def forward(self, batch):
        return self.read(self.vectors(batch), batch["text_length"]).float()  # also bf16


def show_directions():
    """Compare with PyTorch's packed layer; show what padding does."""
    theirs = nn.LSTM(5, 4, 2, batch_first=True, bidirectional=True).double()
    ours = Reader(5, "bidirectional lstm", 4, 2, 0.0).double()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.parameters(), strict=True)))
    x, lengths = torch.randn(2, 6, 5).double(), torch.tensor([6, 2])
    packed = pack_padded_sequence(x, lengths, batch_first=True)
    expected = pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]  # (2, 6, 8)
    states = ours(x, lengths) * utils.length_mask(lengths, 6).unsqueeze(2)
    gap, goal = (states - expected).abs().max(), torch.randn(2, 6, 8)
    mine = torch.autograd.grad((states * goal).sum(), ours.parameters())
    known = torch.autograd.grad((expected * goal).sum(), theirs.parameters())
    gaps = [(a - b).abs().max() for a, b in zip(mine, known, strict=True)]
    print(f"Gap to nn.LSTM in float64: states {gap:.0e}, gradients {max(gaps):.0e}")
    found = {"alone": ours(x[1:, :2], lengths[1:])[0]}
    found["in a batch 6 wide, with lengths"] = ours(x, lengths)[1]
    ours.packing = False
    found["the same, without lengths"] = ours(x, lengths)[1]
    print("A text of 2 words, the backward state at its first word:")
    for name, states in found.items():
        print(f"  {name:<32}", "  ".join(f"{value:+.3f}" for value in states[0, 4:]))
    print("Reading it: without lengths, the longest text beside it changes its answer.")


# ====================================================================================
# 3. Training
# ====================================================================================


def step(model, batch):
    """Sums over the batch's answers, of texts or of real words: loss, right answers."""
    scores, truth = model(batch).flatten(0, 1), batch["label"].flatten()
    loss = F.cross_entropy(scores, truth, ignore_index=NO_TAG, reduction="sum")
    right = scores.argmax(1) == truth  # (B * A,); on padding never
    return {"loss": loss, "accuracy": right.sum()}, int((truth != NO_TAG).sum())


def train_model(config, data, args, about=None):
    """A new model from --seed, trained: (model, records).  No `about`: no files."""
    utils.set_seed(args.seed)
    model = Network(**config).to(args.device)
    model.reader.packing = not args.no_packing
    both = {"about": about, "monitor": "val_accuracy"}
    records = list(utils.fit(model, step, *data.batches[:2], args, **both))
    return model.eval(), records


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================


def answers(ask, batches, args):
    """ask(batch) (B, A, C) of all batches, padding left out (M, C); the truth (M,)."""
    with torch.no_grad(), utils.autocast(args):
        pairs = [(ask(b).flatten(0, 1), b["label"].flatten()) for b in batches]
    scores, truth = (torch.cat(column).cpu() for column in zip(*pairs, strict=True))
    return scores[truth != NO_TAG], truth[truth != NO_TAG]


def tag_counts(data):
    """How often training gives each word each tag (V, C); a new word, below 1."""
    train, size = data.batches[0].data, (len(data.vocabulary), len(data.labels))
    real, count = train["label"] != NO_TAG, torch.zeros(size)
    pairs = train["text"][real].cpu(), train["label"][real].cpu()
    count.index_put_(pairs, torch.ones(len(pairs[0])), accumulate=True)
    # Where a word is new, or two of its tags are even, the commonest tag of all wins.
    return count + count.sum(0) / (2 * count.sum())


def judge(ask, data, k, args):
    """Accuracy and macro-F1 on part k; for tags, also on ambiguous and new words."""
    scores, truth = answers(ask, data.batches[k], args)
    found = utils.classification_scores(scores, truth)
    found.pop("top3_accuracy", None)
    if args.task == "tag":
        words, _ = answers(lambda b: b["text"].unsqueeze(2), data.batches[k], args)
        several = (tag_counts(data)[words[:, 0]] >= 1).sum(1) > 1  # (M,)
        right, new = (scores.argmax(1) == truth).double(), words[:, 0] == UNK_ID
        for name, kind in (("ambiguous", several), ("unseen", new)):
            found[f"{name}_words"] = int(kind.sum())
            found[f"{name}_accuracy"] = right[kind].mean().item()  # of none: NaN
    return found


def left_to_right_ceiling(sentences):
    """Accuracy, over all sentences, of the commonest tag after the same beginning."""
    tags = defaultdict(Counter)
    for line in sentences:
        words = tuple(word for word, _ in line)
        for i, (_, tag) in enumerate(line):
            tags[words[: i + 1]][tag] += 1
    best = sum(max(counts.values()) for counts in tags.values())
    return best / sum(map(len, sentences))


def baselines(data, k, args):
    """What a sceptic asks for, on part k: name -> scores."""
    if args.task == "classify":
        return utils.review_baselines(data.parts[0], data.parts[k], data.labels)
    table = tag_counts(data).to(args.device)
    found = {"most_frequent_tag": judge(lambda b: table[b["text"]], data, k, args)}
    if data.source.name == "sample":
        every = [line for part in data.parts for line in part]
        found["left_to_right_ceiling"] = {"accuracy": left_to_right_ceiling(every)}
    return found


def report(model, name, records, data, args):
    """The table on test beside its baselines, and metrics.json."""
    checked, scores = (judge(model, data, k, args) for k in (1, 2))
    metrics = {f"test_{name}": value for name, value in scores.items()}
    metrics["val_accuracy"] = checked["accuracy"]
    rows, others = {name: scores}, baselines(data, 2, args)
    if args.no_packing:
        model.reader.packing = True
        rows["same weights, with lengths"] = judge(model, data, 2, args)
        model.reader.packing = False
    known = {name: row["accuracy"] for name, row in others.items()}
    utils.print_table(f"{data.source.label}: test", rows | others)
    if args.task == "tag":
        print("Ambiguous words have several tags in training, unseen words have none.")
    rival = max(known, key=lambda name: ("ceiling" not in name, known[name]))
    gap = scores["accuracy"] - known[rival]  # a ceiling is no rival
    print(f"Reading it: by accuracy {gap:+.4f} against {rival}.")
    words = int(data.batches[0].lengths["text_length"].sum())
    training = utils.training_summary(records, words, "tokens")
    size = utils.count_parameters(model)
    utils.write_metrics(args, data.source, metrics, known, training, size)


def encode(text, data, args):
    """A reader's text -> (words, batch of one)."""
    if args.task == "tag":
        words = re.findall(CUT, text)
        line = [(word, data.labels[0]) for word in words]  # any tag: nobody looks at it
        batches = tag_batches([line], data.vocabulary, data.labels, False, args)
    else:
        tensors = utils.encode_texts([text], data.vocabulary, MAX_LENGTH)
        words = data.vocabulary.decode(tensors["text"][0])
        batches = make_batches(tensors, False, args)
    return words, batches.take(torch.arange(1))


def who_matters(model, batch):
    """What each tag of a text rests on: its gradient's size at each word (T, T); or its
    class: what the states at each word add to the score, by direction (1 or 2, T)."""
    x = model.vectors(batch).detach().requires_grad_()  # (1, T, E)
    if model.per_word:
        with torch.backends.cudnn.flags(enabled=False):  # no gradient in eval mode
            best = model.read(x, batch["text_length"])[0].amax(1)  # (T,)
        pulls = [torch.autograd.grad(b, x, retain_graph=True)[0][0] for b in best]
        rows = torch.stack(pulls).norm(dim=2)  # (T, T)
        return (rows / rows.sum(1, keepdim=True)).cpu()
    best, word = model.reader(x, batch["text_length"])[0].max(0)  # the pooling: (D,)
    weight = model.output.weight  # (C, D)
    gain = best * (weight[model.output(best).argmax()] - weight.mean(0))  # (D,)
    rows = x.new_zeros(len(model.reader.layers[0]), x.shape[1])
    rows = rows.scatter_add(1, word.view(len(rows), -1), gain.view(len(rows), -1))
    return rows.detach().cpu()


def draw(model, records, data, args):
    """Training curves; what the answers rest on; for tags, the confusion."""
    about, tags = f"{data.source.label}, {args.task}", args.task == "tag"
    panels = {"loss": ["loss", "val_loss"], "accuracy": ["accuracy", "val_accuracy"]}
    utils.plot_records(args, f"Training, {about}", records, panels)
    words, batch = encode((args.predict or [EXAMPLE])[0], data, args)
    shares, words = who_matters(model, batch)[:40, :40], words[:40]
    rows = words if tags else ["forwards", "backwards"][: len(shares)]
    axes = (rows, words, "word", "tag of" if tags else "direction", "weight")
    utils.plot_matrix(args, "what_matters", about, shares, *axes, centred=not tags)
    print("  Reading it: a row shows which words its tag, or its direction, rests on.")
    if tags:
        scores, truth = answers(model, data.batches[2], args)
        order = {"labels": range(len(data.labels)), "normalize": "true"}
        share = confusion_matrix(truth, scores.argmax(1), **order)
        axes = (data.labels, data.labels, "answer", "truth", "share of row")
        utils.plot_matrix(args, "confusion", f"Test, {about}", share, *axes)
        print("  Reading it: a row is a tag; what lies off the diagonal went wrong.")


def print_predictions(model, data, args):
    """--predict: the class of a text, or the tags of its words."""
    for text in args.predict:
        words, batch = encode(text, data, args)
        with torch.no_grad():
            chances, best = model(batch)[0].softmax(1).max(1)  # (A,), (A,)
        best = [data.labels[i] for i in best]
        line = " ".join(map("/".join, zip(words, best, strict=False)))
        print(line if args.task == "tag" else f"{best[0]} {chances[0]:.1%}: {text}")


# ====================================================================================
# 5. Command line
# ====================================================================================

DATASETS = {"classify": ("imdb", "reviews.csv"), "tag": ("ewt", "tagged.conllu")}
EXAMPLE = "They can watch it, but it is no joy to watch."  # for a picture
FLAGS = ("epochs", "batch_size", "hidden_size", "lr", "dropout")  # defaults by task:
DEFAULTS = {"classify": (3, 64, 100, 0.005, 0.5), "tag": (9, 32, 128, 0.005, 0.4)}


def make_flags(argv):
    """The flags, with the defaults of the task that --task names."""
    first = utils.Parser(add_help=False, allow_abbrev=False)
    first.add_argument("--task", choices=list(DEFAULTS), default="classify")
    task = first.parse_known_args(argv)[0].task
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    own = "CSV with text,label; for tags CoNLL-U, or lines of a word and its tag"
    utils.add_data_flags(parser, [DATASETS[task][0], "sample"], own)
    utils.add_training_flags(parser, **dict(zip(FLAGS, DEFAULTS[task], strict=True)))
    add = parser.add_argument_group("this lesson").add_argument
    told = f"default classify; {', '.join(FLAGS)} by task: {DEFAULTS}"
    add("--task", choices=list(DEFAULTS), default="classify", help=told)
    add("--cell", choices=list(CELLS), default="lstm", help="default lstm")
    add("--unidirectional", action="store_true", help="read forwards only")
    add("--no-packing", action="store_true", help="start backwards in the padding")
    add("--char-features", choices=["cnn", "none"], default="cnn", help="default cnn")
    add("--compare", choices=["direction"], help="two models of one size, one table")
    add("--predict", nargs="+", metavar="TEXT", default=[])
    return parser


def new_card(data, args):
    """How to build a new model for this data: what a checkpoint will carry."""
    direction = "unidirectional" if args.unidirectional else "bidirectional"
    tags, texts = args.task == "tag", " ".join([*data.vocabulary, *data.labels])
    config = {"words": len(data.vocabulary), "once": data.once, "per_word": tags}
    config |= {"classes": len(data.labels), "layers": args.num_layers}
    config |= {"spelled": tags and args.char_features == "cnn", "dropout": args.dropout}
    config |= {"cell": f"{direction} {args.cell}", "hidden": args.hidden_size}
    digest = hashlib.sha256(texts.encode()).hexdigest()[:8]
    return utils.model_card(args, data.source, config, task=args.task, texts=digest)


def compare(config, data, args):
    """--compare direction: the hidden sizes are such that both have as many weights."""

    def train(shape):
        model, records = train_model(shape, data, args)
        return model, records, judge(model, data, 1, args)

    cells = [f"{way} {args.cell}" for way in ("bidirectional", "unidirectional")]
    kinds = utils.cells_of_equal_size(Network, {**config, "cell": cells[0]}, cells)
    utils.compare_variants(args, data.source, kinds, train, baselines(data, 1, args))
    print("Reading it: one seed; try others before you trust a small difference.")


def main(argv=None):
    args = utils.parse_flags(make_flags(argv), argv, __file__)
    utils.check_texts(args.predict)
    show_directions()
    real, sample = DATASETS[args.task]
    source = utils.choose_dataset(args, [real], {"sample": utils.SAMPLES / sample})
    data = load_data(source, args)
    sizes = " / ".join(f"{len(part):,}" for part in data.parts)
    print(f"{source.label}: {sizes} texts, {len(data.vocabulary):,} words known")
    about = new_card(data, args)
    if args.compare:
        return compare(about["config"], data, args)
    if args.eval_only:
        same = {name: about[name] for name in ("dataset", "task", "texts")}
        about, records = utils.load_card(args, **same), []
        model = utils.load_model(Network, about, args.path).to(args.device).eval()
        model.reader.packing = not args.no_packing
    else:
        model, records = train_model(about["config"], data, args, about)
    report(model, about["config"]["cell"], records, data, args)
    if not args.no_plots:
        draw(model, records, data, args)
    print_predictions(model, data, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
