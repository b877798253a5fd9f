"""05 · Can a network read a review?

An LSTM reads a film review word by word and says whether its writer liked the film.
A bag of words cannot tell "dull, but good" from "good, but dull".  Does order pay?

What you will learn
    - the LSTM cell by hand, gate by gate, equal to nn.LSTM and its gradients
    - four ways to make one vector of many states, padding left out
    - overfitting (learning the training reviews by heart), and what is done against it
    - how far back a plain RNN, an LSTM and a GRU remember, measured

Run it
    python 05_lstm_sentiment.py
    python 05_lstm_sentiment.py --save-model
    python 05_lstm_sentiment.py --eval-only --predict "Slow, but I loved it."
    python 05_lstm_sentiment.py --input FILE.csv      (columns text, label)

You should see  (imdb [real], seed 0, two cores, 2 minutes in all)
      model                accuracy   macro_f1
      lstm (this lesson)     0.8848     0.8847
      majority               0.5000     0.3333
      tfidf_unigram          0.8855     0.8855
      tfidf_bigram           0.9096     0.9096
    A bag of word pairs with logistic regression wins, and the lesson says so (on
    validation, where films of the training part come again, the LSTM has 0.8900).
    The first of 50 letters recalled: rnn 0.28, lstm 1.00, gru 1.00 (chance 0.1250).
    --dataset sample [sample], where order decides: 0.9795; word pairs 0.7398.

Try this  (guess first, then run)
    --compare cell, --compare pooling       what do gates, and all states, bring?
    --compare regularization --epochs 8     where do the two losses part?
    --keep start --max-length 64            or end?  Where does the verdict stand?
    --dataset sample --cell rnn             what does the plain RNN miss?
"""

# Sizes
#     B  batch (reviews)    T  time (words of its longest review)    E  embedding
#     H  hidden state       V  vocabulary (words)    C  classes    N  reviews of a part

import sys
import textwrap
from argparse import Namespace

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================


def load_data(source, reviews, about, args):
    """All that the lesson knows of its data, in the words and labels of `about`.

    source, vocabulary, labels; parts: training, validation, test, lists of (text,
    label); batches: the same as Batches, of which only training is shuffled.
    """
    vocabulary, labels = utils.Vocabulary(about["vocabulary"]), about["labels"]
    unknown = set(reviews.labels) - set(labels)
    if unknown:
        raise utils.UserError(f"the model was not trained on label '{min(unknown)}'")
    size, cut = len(vocabulary), (args.max_length, args.keep)
    same, parts, batches = vocabulary.tokens[2:] == reviews.words[: size - 2], [], []
    for part in reviews.parts:
        is_train, rows = not parts, torch.arange(len(part.texts))
        if is_train and args.compare:  # fewer, for there are several models to train
            order = torch.Generator().manual_seed(0)
            rows = torch.randperm(len(rows), generator=order)[:COMPARED]
        if same:
            tensors = utils.encode_reviews(part, size, *cut)
        else:  # a saved model that learned its words from another file: look them up
            tensors = utils.encode_texts(part.texts, vocabulary, *cut)
        tensors["label"] = torch.tensor([labels.index(name) for name in part.labels])
        tensors = {name: tensor[rows] for name, tensor in tensors.items()}
        # Reviews of similar length share a batch, so that little of it is padding.
        how = args.batch_size, args.device, is_train, "text"
        batches.append(utils.Batches(tensors, *how))
        parts.append([(part.texts[i], part.labels[i]) for i in rows.tolist()])
    found = {"parts": parts, "batches": batches, "vocabulary": vocabulary}
    return Namespace(source=source, labels=labels, **found)


# ====================================================================================
# 2. Model
# ====================================================================================


def lstm_by_hand(x, h, c, w_ih, w_hh, b_ih, b_hh):
    """The whole layer (Hochreiter and Schmidhuber, 1997; Gers et al., 2000).

    x (B, T, E), h and c (B, H) -> every h (B, T, H), the last h and c (B, H) each.
    Weights as nn.LSTM keeps them: those of the gates i, f, g, o on top of each other.
    """
    states = []
    for x_t in x.unbind(1):
        a = x_t @ w_ih.T + b_ih + h @ w_hh.T + b_hh  # (B, 4H), all gates at once
        a_i, a_f, a_g, a_o = a.chunk(4, dim=1)  # (B, H) each
        # i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)      input gate: how much to write
        i = torch.sigmoid(a_i)  # (B, H)
        # f = sigmoid(W_if x + b_if + W_hf h + b_hf)      forget gate: how much to keep
        f = torch.sigmoid(a_f)  # (B, H)
        # g = tanh(W_ig x + b_ig + W_hg h + b_hg)         what to write
        g = torch.tanh(a_g)  # (B, H)
        # o = sigmoid(W_io x + b_io + W_ho h + b_ho)      output gate: how much to show
        o = torch.sigmoid(a_o)  # (B, H)
        # c = f * c + i * g     The memory is added to, not multiplied by a matrix and
        # squashed: where f is 1 and i is 0, it and its gradient pass unchanged.
        c = f * c + i * g  # (B, H)
        # h = o * tanh(c)
        h = o * torch.tanh(c)  # (B, H)
        states.append(h)
    return torch.stack(states, dim=1), h, c  # (B, T, H), (B, H), (B, H)


def by_hand_gaps():
    """Print our largest differences from nn.LSTM in float64."""
    layer = nn.LSTM(5, 7, batch_first=True).double()
    x, zero = torch.randn(4, 9, 5).double(), torch.zeros(4, 7).double()
    ours, _, c = lstm_by_hand(x, zero, zero, *layer.parameters())  # (4, 9, 7), (4, 7)
    theirs, (_, c_n) = layer(x)  # (4, 9, 7), (1, 4, 7)
    grads = [torch.autograd.grad(s.sum(), layer.parameters()) for s in (ours, theirs)]
    print("LSTM by hand against nn.LSTM, largest difference in float64:")
    pairs = {"states": ([ours], [theirs]), "memory": ([c], c_n), "gradients": grads}
    for name, both in pairs.items():
        gap = max((a - b).abs().max() for a, b in zip(*both, strict=True))
        print(f"  {name:<9} {gap:.0e}")


CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def start_well(rnn):
    """Set what matters at the start; the rest keeps PyTorch's own: small, uniform."""
    n = rnn.hidden_size
    for name, weight in rnn.named_parameters():
        if "weight_hh" in name:
            # Orthogonal, gate by gate: it keeps the length of a vector, so that states
            # and gradients neither die out nor explode by W_hh alone (lesson 04).
            for gate in weight.data.split(n):
                nn.init.orthogonal_(gate)
        elif rnn.mode == "LSTM" and "bias" in name:
            # With a bias of 0 the forget gate starts at f = 0.5: after 10 words the
            # memory keeps 0.5^10 = 0.1 % of a word.  With 1, f = 0.73, and it keeps
            # 4 % (Jozefowicz et al., 2015).  PyTorch adds two biases: one is 1, one 0.
            weight.data[n : 2 * n] = 1.0 if "bias_ih" in name else 0.0


class Classifier(nn.Module):
    """Embedding, recurrent layers, pooling over time, linear layer; dropout between."""

    def __init__(
        self, words, classes, embedding, cell, hidden, layers, pooling, norm, dropout
    ):
        super().__init__()
        self.embed = nn.Embedding(words, embedding, padding_idx=0)
        # Vectors of length about 1: PyTorch's, of length sqrt(E), take long to change.
        nn.init.normal_(self.embed.weight, std=embedding**-0.5)
        options = {"batch_first": True, "dropout": dropout if layers > 1 else 0.0}
        self.rnn = CELLS[cell](embedding, hidden, layers, **options)
        # Layer norm (Ba et al., 2016): each state to mean 0 and variance 1 over its H
        # numbers, then a learned scale and shift.  On what leaves the cell, not in it.
        self.norm = nn.LayerNorm(hidden) if norm else nn.Identity()
        self.pooling = pooling
        if pooling == "attention":
            self.attend = nn.Linear(hidden, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, classes)
        start_well(self.rnn)

    def forward(self, texts, lengths):
        """texts (B, T), lengths (B,) -> scores before softmax (B, C)."""
        x = self.dropout(self.embed(texts))  # (B, T, E)
        # Reading forwards, padding comes after the words and cannot change their
        # states, so nothing is packed.  It is pooling that must leave padding out.
        states = self.norm(self.rnn(x)[0])  # (B, T, H)
        pooled = self.pool(states, lengths.to(texts.device))  # (B, H)
        return self.output(self.dropout(pooled))  # (B, C)

    def pool(self, states, lengths):
        """States (B, T, H), lengths (B,) -> one vector for each review (B, H)."""
        real = utils.length_mask(lengths, states.shape[1], states.device)  # (B, T)
        real = real.unsqueeze(2)  # (B, T, 1)
        if self.pooling == "last":  # the state after the last word, not after padding
            return states[torch.arange(len(states), device=states.device), lengths - 1]
        if self.pooling == "mean":  # divided by the number of words, not by T
            return states.masked_fill(~real, 0.0).sum(1) / lengths.unsqueeze(1)
        if self.pooling == "max":  # without the mask, padding could win
            return states.masked_fill(~real, -torch.inf).amax(1)
        return (self.attention(states, real) * states).sum(1)

    def attention(self, states, real):
        """Weights (B, T, 1): above 0 on real words, where they sum to 1; 0 on padding.

        weight_t = exp(v . h_t) / sum over real words s of exp(v . h_s)
        """
        return self.attend(states).masked_fill(~real, -torch.inf).softmax(1)


# ====================================================================================
# 3. Training
# ====================================================================================


def forward(model, batch):
    return model(batch["text"], batch["text_length"]).float()  # (B, C), also in bf16


def step(model, batch):
    """Sums over the batch: the loss to lower, and how many answers were right."""
    scores = forward(model, batch)  # (B, C)
    right = scores.argmax(1) == batch["label"]
    loss = F.cross_entropy(scores, batch["label"], reduction="sum")
    return {"loss": loss, "accuracy": right.sum()}, len(right)


def train_model(config, batches, args, about=None):
    """A new model from --seed, trained: (model, records).  No `about`: no files."""
    utils.set_seed(args.seed)
    model = Classifier(**config).to(args.device)
    records = utils.fit(model, step, *batches, args, about)
    return model, list(records)


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================


def baselines(data, k):
    """What a sceptic asks for, on part k: the commonest label; words, pairs, counted.

    The counts (TF-IDF) know which words there are and, as "bigram", which follows which,
    but not where.  A logistic regression weighs them.
    """
    return utils.review_baselines(data.parts[0], data.parts[k], data.labels)


def report(model, cell, data, args):
    """The table on test beside its baselines; what it gets wrong: (metrics, known)."""
    answers = utils.collect(model, forward, data.batches[2], args)  # (N, C)
    truth = data.batches[2].data["label"].cpu()  # (N,)
    scores, others = utils.classification_scores(answers, truth), baselines(data, 2)
    rows = {f"{cell} (this lesson)": scores, **others}
    utils.print_table(f"{data.source.label}: test, {len(truth):,} reviews", rows)
    doubt = 2 * (scores["accuracy"] * (1 - scores["accuracy"]) / len(truth)) ** 0.5
    for name in ("tfidf_unigram", "tfidf_bigram"):
        gap = scores["accuracy"] - others[name]["accuracy"]
        verdict = "beats" if gap > doubt else "loses to" if gap < -doubt else "equals"
        print(f"Reading it: by accuracy the {cell} {verdict} {name} ({gap:+.4f}),")
    print(f"gaps up to two standard errors of our score, {doubt:.4f}, being chance.")
    print("macro_f1: F1 (precision and recall in one) of each label, averaged.")
    show_most_wrong(answers, truth, data)
    metrics = {f"test_{name}": value for name, value in scores.items()}
    checked = utils.judge(model, forward, data.batches[1], args)
    metrics["val_accuracy"] = checked["accuracy"]
    return metrics, {name: row["accuracy"] for name, row in others.items()}


def show_most_wrong(answers, truth, data):
    """Ten test reviews whose label had the least probability, their middles cut out."""
    chances = answers.softmax(1)  # (N, C)
    of_truth = chances.gather(1, truth.unsqueeze(1)).squeeze(1)  # (N,)
    wrong = [i for i in of_truth.argsort()[:10] if chances[i].argmax() != truth[i]]
    print(f"\n{data.source.label}: the test reviews that it gets most wrong")
    for i in wrong:
        text, label = data.parts[2][i]
        text = " ".join(text.replace("<br />", " ").split())
        if len(text) > 330:
            text = f"{text[:150]} [...] {text[-170:]}"
        print(f"  {label}, though it says {label} has probability {of_truth[i]:.1%}:")
        print(textwrap.indent(textwrap.fill(text, 78), "      "))
    print("Reading it: irony, plot for opinion, or a label that you would not give?")


VERDICT = "We saw it last week. The music is superb, but the story is dull and weak."


def running_verdict(model, text):
    """Probabilities (T, C) after 1, 2, ... T words of one review: text (1, T)."""
    lengths = torch.arange(1, text.shape[1] + 1)  # (T,)
    with torch.no_grad():
        # The same review T times, but each time the model may read one word more.
        return model(text.expand(len(lengths), -1), lengths).float().softmax(1)


def draw(model, config, records, data, args):
    """Losses; and the running verdict on a review that turns at "but"."""
    about, labels = f"{data.source.label}, {config['cell']}", data.labels
    panels = {"loss": ["loss", "val_loss"], "accuracy": ["accuracy", "val_accuracy"]}
    panels["gradient norm"] = ["grad_norm", "max_grad_norm"]
    utils.plot_records(args, f"Training, {about}", records, panels)
    if args.no_plots:
        return
    asked = args.predict[0] if args.predict else VERDICT
    words = utils.split_words(asked)[: min(60, args.max_length)]
    text = torch.tensor([data.vocabulary.encode(words)], device=args.device)  # (1, T)
    chances = running_verdict(model, text).cpu()  # (T, C)
    figure, axes = plt.subplots(figsize=(max(5, 0.35 * len(words)), 4))
    for c in range(len(labels) == 2, min(len(labels), 20)):  # of two, one will do
        axes.plot(range(len(words)), chances[:, c], marker="o", label=labels[c])
    axes.set_xticks(range(len(words)), words, rotation=90, **utils.PLAIN)
    axes.axhline(1 / len(labels), color="grey", linewidth=0.8)
    axes.set(xlabel="word just read", ylabel="probability", ylim=(-0.03, 1.03))
    axes.set_title(f"Running verdict, {about}", **utils.PLAIN)
    for text in axes.legend().get_texts():  # a label may hold dollar signs
        text.set_parse_math(False)
    utils.save_picture(figure, args, "running_verdict")
    print('  Reading it: each point is the answer if the review ended there.  "but"?')


# How far back does a cell remember?  Letters at random, and the answer is the first of
# them; the others are noise that must be kept out of the memory.
LETTERS, LONGEST, LENGTHS = 8, 50, (1, 2, 3, 5, 10, 20, 50, 100)


def first_letter_batch(rows, length, device):
    """Sequences as a batch for `step`: text (B, T) of 1 ... LETTERS, no padding."""
    text = torch.randint(1, LETTERS + 1, (rows, length), device=device)  # (B, T)
    lengths = {"text_length": torch.full((rows,), length)}
    return {"text": text, **lengths, "label": text[:, 0] - 1}


def gradient_by_distance(model, batch):
    """|dL/d state| after each letter but the last, the nearest first: T - 1 numbers.

    The state is what a cell hands on: h, and c of an LSTM.  Means over rows, as
    multiples of the first.  For one layer, pooling "last", no padding.
    """
    state, states = None, []
    for x_t in model.embed(batch["text"]).split(1, dim=1):  # (B, 1, E)
        h, state = model.rnn(x_t, state)  # h: (B, 1, H)
        lstm = isinstance(state, tuple)
        states.append(torch.cat(state) if lstm else state)  # (2, B, H) or (1, B, H)
        state = states[-1].split(1) if lstm else states[-1]
    loss = F.cross_entropy(model.output(h[:, 0]), batch["label"])
    gradients = torch.autograd.grad(loss, states[-2::-1])
    norms = [gradient.norm(dim=(0, 2)).mean().item() for gradient in gradients]
    return [norm / (norms[0] or 1.0) for norm in norms]


def long_memory(args):
    """Train each cell on 1 ... 50 letters, ask it about up to 100: metrics."""
    fixed = {"epochs": 1, "lr": 0.01, "clip": 1.0, "weight_decay": 0.0, "patience": 0}
    fixed |= {"accumulate": 1, "optimizer": "adam", "precision": "fp32"}
    flags, count = Namespace(**vars(args) | fixed), 10 if args.quick else 1000
    config = {"words": LETTERS + 1, "classes": LETTERS, "embedding": 16, "hidden": 32}
    config |= {"layers": 1, "pooling": "last", "norm": False, "dropout": 0.0}
    utils.set_seed(args.seed)
    lengths = torch.randint(1, LONGEST + 1, (count,)).tolist()
    train = [first_letter_batch(64, length, args.device) for length in lengths]
    tests = {str(n): [first_letter_batch(500, n, args.device)] for n in LENGTHS}
    rows, reach, probe = {}, {}, tests[str(LONGEST)]
    for cell in CELLS:
        shape = {**config, "cell": cell}
        fresh = Classifier(**shape).to(args.device)
        reach[f"{cell}, start"] = gradient_by_distance(fresh, probe[0])
        model, _ = train_model(shape, (train, probe), flags)
        reach[f"{cell}, trained"] = gradient_by_distance(model, probe[0])
        right = {n: utils.evaluate(model, step, tests[n], flags) for n in tests}
        rows[cell] = {n: scores["accuracy"] for n, scores in right.items()}
    about = "the first of N random letters [sample: generated]"
    utils.print_table(f"Accuracy on {about}", rows, corner="N")
    print(f"Reading it: 1 in {LETTERS} by chance; trained on up to {LONGEST} letters.")
    lines = {cell: list(row.values()) for cell, row in rows.items()}
    lines["chance"], axes = [1 / LETTERS] * len(LENGTHS), ("N", "accuracy", LENGTHS)
    utils.plot_lines(args, "memory", f"Recall {about}", lines, *axes, dashed=["gru"])
    more = {"log": True, "dashed": [f"{cell}, start" for cell in CELLS]}
    axes = ("letters before the end", "|dL/d state|, one = 1", range(1, LONGEST))
    utils.plot_lines(args, "gradient", f"Recall {about}", reach, *axes, **more)
    return {f"memory_{cell}": row[str(LONGEST)] for cell, row in rows.items()}


def print_predictions(model, data, args):
    """The probabilities of each text's labels, likeliest first."""
    for text in args.predict:
        cut = (args.max_length, args.keep)
        batch = utils.encode_texts([text], data.vocabulary, *cut)
        with torch.no_grad():
            scores = model(batch["text"].to(args.device), batch["text_length"])
        chances = scores[0].softmax(0)  # (C,)
        best = chances.argsort(descending=True)[:3].tolist()
        said = ", ".join(f"{data.labels[i]} {chances[i]:.1%}" for i in best)
        print(f"{textwrap.shorten(text, 60)}: {said}")


# ====================================================================================
# 5. Command line
# ====================================================================================

COMPARED = 6000  # --compare trains on so many reviews
POOLINGS = ("last", "mean", "max", "attention")


def variants(config, args):
    """What --compare trains: name -> (config, flags), all with as many weights."""
    if args.compare == "cell":
        shapes = utils.cells_of_equal_size(Classifier, config, CELLS)
        return {name: (shape, {}) for name, shape in shapes.items()}
    if args.compare == "pooling":
        kinds = sorted(POOLINGS, key=lambda how: how != args.pooling)
        return {how: ({**config, "pooling": how}, {}) for how in kinds}
    plain = {**config, "dropout": 0.0, "norm": False}
    flags = {"clip": args.clip or 1.0, "weight_decay": 0.0}
    share, decay = args.dropout or 0.5, args.weight_decay or 1.0
    return {
        f"dropout {share:g}": ({**plain, "dropout": share}, flags),
        "none": (plain, flags),
        f"weight decay {decay:g}": (plain, {**flags, "weight_decay": decay}),
        "layer norm": ({**plain, "norm": True}, flags),
        "no clipping": (plain, {**flags, "clip": 0.0}),
    }


def compare(config, data, args):
    """Train every variant on the same data and seed; one table, on validation."""
    print(f"Each on {len(data.parts[0]):,} training reviews, without early stopping")

    def train(settings):
        shape, flags = settings
        flags = Namespace(**vars(args) | {"patience": 0} | flags)
        model, records = train_model(shape, data.batches[:2], flags)
        return model, records, utils.judge(model, forward, data.batches[1], args)

    kinds, others = variants(config, args), baselines(data, 1)
    utils.compare_variants(args, data.source, kinds, train, others)
    print("Reading it: one seed.  Where the training loss falls on and val_loss rises,")
    print("the model learns by heart: it overfits.  The best epoch is scored.")


def make_flags():
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(parser, ["imdb", "sample"], "a CSV file: text,label")
    sizes = {"batch_size": 64, "hidden_size": 128, "dropout": 0.5, "patience": 2}
    utils.add_training_flags(parser, epochs=3, lr=0.004, **sizes)
    add, size = parser.add_argument_group("this lesson").add_argument, utils.whole
    add("--cell", choices=list(CELLS), default="lstm")
    add("--pooling", choices=POOLINGS, default="max", help="over time (default max)")
    add("--layer-norm", action="store_true", help="on the states")
    add("--max-length", type=size(1, 10**5), default=400, help="words (default 400)")
    add("--keep", choices=["both", "start", "end"], default="both", help="of a longer")
    add("--max-vocab", type=size(3), default=15_000, help="words (default 15000)")
    add("--compare", choices=["cell", "pooling", "regularization"])
    add("--predict", nargs="+", metavar="TEXT", default=[])
    return parser


def new_card(source, reviews, args):
    """How to build a new model for this data: what a checkpoint will carry."""
    words = utils.review_vocabulary(reviews, args.max_vocab).tokens
    config = {"words": len(words), "classes": len(reviews.labels), "embedding": 100}
    config |= {"cell": args.cell, "hidden": args.hidden_size, "layers": args.num_layers}
    config |= {"pooling": args.pooling, "norm": args.layer_norm}
    config["dropout"] = args.dropout
    more = {"labels": reviews.labels, "cut": [str(args.max_length), args.keep]}
    return utils.model_card(args, source, config, vocabulary=words, **more)


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__)
    utils.check_texts(args.predict)
    by_hand_gaps()
    offline = {"sample": utils.SAMPLES / "reviews.csv"}
    source = utils.choose_dataset(args, ["imdb"], offline)
    reviews = utils.load_reviews(args, source)
    if args.eval_only:
        lists = {"vocabulary": "embed.weight", "labels": "output.weight", "cut": None}
        about = utils.load_card(args, lists, dataset=source.name)
        args.max_length, args.keep = int(about["cut"][0]), about["cut"][1]
    else:
        about = new_card(source, reviews, args)
    data, config = load_data(source, reviews, about, args), about["config"]
    sizes = " / ".join(f"{len(part):,}" for part in data.parts)
    print(f"{source.label}: {sizes} reviews, {len(data.vocabulary):,} words known")
    if args.compare:
        return compare(config, data, args)
    if args.eval_only:
        print(f"The model in {args.path} was trained on {about['dataset']}")
        model, records = utils.load_model(Classifier, about, args.path), []
    else:
        model, records = train_model(config, data.batches[:2], args, about)
    model = model.to(args.device).eval()
    metrics, known = report(model, config["cell"], data, args)
    draw(model, config, records, data, args)
    if not args.eval_only:
        metrics |= long_memory(args)
    print_predictions(model, data, args)
    tokens = int(data.batches[0].lengths["text_length"].sum())
    training = utils.training_summary(records, tokens, "tokens")
    rest = (training, utils.count_parameters(model))
    utils.write_metrics(args, source, metrics, known, *rest)


if __name__ == "__main__":
    sys.exit(utils.run(main, parallel=True))
