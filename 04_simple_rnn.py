"""04 · Can a plain RNN tell where a name comes from?

A recurrent network reads a surname one letter at a time, keeps what it needs in a hidden
state, and after the last letter says which of 18 languages the name comes from.

What you will learn
    - the recurrent cell and its gradient, by hand, equal to nn.RNN and autograd
    - one training step in the open, with gradient clipping (`fit` repeats it)
    - what to try first when training goes wrong
    - why a plain RNN forgets, as a measured curve
    - how repeated examples leak from training into test, and flatter the score

Run it
    python 04_simple_rnn.py
    python 04_simple_rnn.py --predict Schmidhuber Satoshi

You should see  (names [real], seed 0, two cores, 35 seconds in all)
      model               accuracy   macro_f1   top3_accuracy
      rnn (this lesson)     0.8205     0.4519          0.9389
      majority              0.5270     0.0383          0.7777
      letter_groups         0.8616     0.5887          0.9483
    A bag of letter groups with logistic regression wins, and the lesson says so.

Try this  (guess first, then run)
    --overfit-one-batch         can the model learn 64 names by heart?  It must.
    --compare cell              LSTM and GRU at the same number of parameters
    --cell gru --bidirectional --hidden-size 256 --dropout 0.5 --weight-decay 0.3
                                is that enough to beat the letter groups?
    --compare clip              what clipping saves when W_hh starts four times too large
    --leaky-split               how much does the usual careless split flatter?
"""

# Sizes
#     B  batch (names)        T  time (letters of the longest name in the batch)
#     E  embedding            H  hidden state
#     V  vocabulary (letters) C  classes (languages)

import sys
import unicodedata
from argparse import Namespace
from itertools import product
from typing import NamedTuple

import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import confusion_matrix
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================


def as_the_model_sees_it(name):
    """Lower case, 100 letters at most, one code point for each: é, not e + accent."""
    return unicodedata.normalize("NFC", name.strip()).lower()[:100]


def read_names(args):
    """(Source, lines): every line as (spelling, language), repeats included."""
    source = utils.choose_dataset(args, ["names"], {"sample": utils.SAMPLES / "names"})
    lines = utils.read_labelled_lines(source.path)
    lines = [(as_the_model_sees_it(name), language) for name, language in lines]
    return source, lines[:: max(1, len(lines) // 600)] if args.quick else lines


def split_without_leak(lines):
    """Train, validation, test (80/10/10): each (spelling, language) pair stands once.

    The split is by spelling: if "lee" is English, Chinese and Scottish, all three lie in
    one part, so that no spelling in test was seen in training.
    """
    pairs = sorted(set(lines))
    part = utils.split_by_hash(name for name, _ in pairs)
    parts = [[pair for pair in pairs if part[pair[0]] == k] for k in range(3)]
    if not all(parts) or len({language for _, language in parts[0]}) < 2:
        raise utils.UserError("too few names to split; give at least 20 a language")
    return parts


def split_with_leak(lines):
    """The usual careless split: of lines.  Repeats land on both sides."""
    part = utils.split_by_hash(map(str, range(len(lines))))
    numbered = [(part[str(i)], line) for i, line in enumerate(lines)]
    return [[line for k, line in numbered if k == wanted] for wanted in range(3)]


def to_tensors(pairs, vocabulary, labels):
    """Names as padded ids (N, T), their lengths (N,) and languages (N,)."""
    names, lengths = utils.pad([vocabulary.encode(name) for name, _ in pairs])
    classes = torch.tensor([labels.index(language) for _, language in pairs])
    return {"name": names, "name_length": lengths, "label": classes}


class Names(NamedTuple):
    """All that this lesson knows of its data."""

    source: utils.Source  # which data set, and whether it is real
    parts: list  # training, validation, test: lists of (spelling, language)
    vocabulary: utils.Vocabulary  # letters, from training alone
    labels: list  # languages
    batches: list  # the three parts as Batches; only training is shuffled


def load_names(source, parts, about, args):
    """The parts as batches, in the letters and languages that `about` names."""
    vocabulary, labels = utils.Vocabulary(about["vocabulary"]), about["labels"]
    unknown = {language for part in parts for _, language in part} - set(labels)
    if unknown:
        raise utils.UserError(f"the model was not trained on {min(unknown)} names")
    tensors = [to_tensors(part, vocabulary, labels) for part in parts]
    train = utils.Batches(tensors[0], args.batch_size, args.device, True, bucket="name")
    rest = [utils.Batches(t, 1024, args.device, bucket="name") for t in tensors[1:]]
    return Names(source, parts, vocabulary, labels, [train, *rest])


# ====================================================================================
# 2. Model
# ====================================================================================


def rnn_by_hand(x, h, w_ih, w_hh, b_ih, b_hh):
    """The whole recurrent layer: x (B, T, E), h (B, H) -> every state (B, T, H)."""
    states = []
    for t in range(x.shape[1]):
        # h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)          (Elman, 1990)
        h = torch.tanh(x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)  # (B, H)
        states.append(h)
    return torch.stack(states, dim=1)  # (B, T, H)


def bptt_by_hand(x, w_ih, w_hh, bias, goal):
    """Gradients of L = goal . h_T for one sequence x (T, E), without autograd.

    Returns dL/dW_ih (H, E), dL/dW_hh (H, H) and the norm of dL/dh_t for every t.
    """
    states = [torch.zeros_like(bias)]
    for x_t in x:
        states.append(torch.tanh(w_ih @ x_t + w_hh @ states[-1] + bias))  # (H,)
    d_ih, d_hh, norms = torch.zeros_like(w_ih), torch.zeros_like(w_hh), []
    d_h = goal  # dL/dh_T
    for t in range(len(x), 0, -1):
        norms.insert(0, d_h.norm().item())
        # tanh'(a) = 1 - tanh(a)^2, so dL/da_t = dL/dh_t * (1 - h_t^2)
        d_a = d_h * (1 - states[t] ** 2)
        # The same weights act at every step, so their gradients add up over time.
        d_ih += torch.outer(d_a, x[t - 1])
        d_hh += torch.outer(d_a, states[t - 1])
        # dL/dh_{t-1} = W_hh^T dL/da_t: once more for every step back.  This repeated
        # product is why gradients vanish or explode.
        d_h = w_hh.T @ d_a
    return d_ih, d_hh, norms


def by_hand_gaps():
    """Print our largest differences from PyTorch in float64."""
    layer = nn.RNN(5, 7, batch_first=True).double()
    x, h0 = torch.randn(4, 3, 5).double(), torch.zeros(4, 7).double()
    goal = torch.randn(7).double()
    ours, theirs = rnn_by_hand(x, h0, *layer.parameters()), layer(x)[0]  # (4, 3, 7)
    gradients = [  # of goal . h_3 of the first sequence
        torch.autograd.grad(states[0, -1] @ goal, layer.parameters())
        for states in (ours, theirs)
    ]
    w_ih, w_hh, b_ih, b_hh = (p.data for p in layer.parameters())
    *by_hand, norms = bptt_by_hand(x[0], w_ih, w_hh, b_ih + b_hh, goal)
    print("By hand against PyTorch, largest difference in float64:")
    pairs = {"states": ([ours], [theirs]), "gradients": gradients}
    for name, both in (pairs | {"BPTT": (by_hand, gradients[1][:2])}).items():
        gap = max((a - b).abs().max() for a, b in zip(*both, strict=True))
        print(f"  {name:<9} {gap:.0e}")
    print("  |dL/dh_t| for t = 1, 2, 3:", "  ".join(f"{norm:.3f}" for norm in norms))


CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class NameClassifier(nn.Module):
    """Embedding, recurrent layers, a linear layer on the state after the last one."""

    def __init__(
        self, letters, classes, embedding, cell, hidden, layers, both, dropout, gain=1.0
    ):
        super().__init__()
        self.embed = nn.Embedding(letters, embedding, padding_idx=0)
        between = dropout if layers > 1 else 0.0  # it acts between layers only
        options = {"batch_first": True, "bidirectional": both, "dropout": between}
        self.rnn = CELLS[cell](embedding, hidden, layers, **options)
        self.dropout = nn.Dropout(dropout)  # in training, sets this share to 0
        self.output = nn.Linear(2 * hidden if both else hidden, classes)
        start_orthogonal(self.rnn, gain)

    def forward(self, names, lengths):
        """names (B, T), lengths (B,) on the CPU -> scores before softmax (B, C)."""
        x = self.dropout(self.embed(names))  # (B, T, E)
        if self.rnn.bidirectional:
            # Reading backwards must begin at the last letter, not in the padding: packing
            # tells the layer where each name ends.
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            h = self.rnn(x)[1]  # (layers * 2, B, H); an LSTM adds its memory c
            h = h[0] if isinstance(h, tuple) else h
            last = torch.cat([h[-2], h[-1]], dim=1)  # (B, 2H)
        else:
            # Reading forwards, padding comes after the letters and cannot change their
            # states: take the state at the last letter, ignore what follows it.
            states = self.rnn(x)[0]  # (B, T, H)
            rows = torch.arange(len(names), device=names.device)
            last = states[rows, lengths.to(names.device) - 1]  # (B, H)
        return self.output(self.dropout(last))  # (B, C)


def start_orthogonal(rnn, gain):
    """W_hh starts as `gain` times an orthogonal matrix (Saxe et al., 2014), gate by gate.

    It keeps the length of a vector, so at the start the repeated W_hh^T above neither
    stretches nor shrinks a gradient (tanh' does).  With gain 4, it explodes.
    """
    for name, weight in rnn.named_parameters():
        if "weight_hh" in name:
            for gate in weight.data.split(rnn.hidden_size):
                nn.init.orthogonal_(gate, gain)


# ====================================================================================
# 3. Training
# ====================================================================================


def forward(model, batch):
    return model(batch["name"], batch["name_length"]).float()  # (B, C), also in bf16


def step(model, batch):
    """Sums over the batch: the loss to lower, and how many answers were right."""
    scores = forward(model, batch)  # (B, C)
    right = scores.argmax(1) == batch["label"]
    loss = F.cross_entropy(scores, batch["label"], reduction="sum")
    return {"loss": loss, "accuracy": right.sum()}, len(right)


def one_step(model, batch, optimizer, clip):
    """One training step in the open: what `fit` does for every batch.  `fit` also moves
    the rate: up to --lr in the first quarter of all steps, then down to nothing."""
    sums, count = step(model, batch)
    optimizer.zero_grad()  # else the gradients of the step before would be added
    (sums["loss"] / count).backward()  # back through all letters at once
    # One steep place could undo all learning: shorten a gradient longer than `clip`.
    nn.utils.clip_grad_norm_(model.parameters(), clip or float("inf"))
    optimizer.step()
    return sums, count


def learn_one_batch(config, train, args, steps):
    """Learn 64 names by heart.  A model that cannot has a bug."""
    print("One batch again and again: its loss must fall (--overfit-one-batch: to 0).")
    model = NameClassifier(**{**config, "dropout": 0.0}).to(args.device)
    batch = train.take(torch.arange(min(train.n, 64)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    for i in range(steps):
        sums, count = one_step(model, batch, optimizer, args.clip)
        if i < 2 or i % 20 == 0:
            loss = sums["loss"].item() / count
            print(f"  step {i}  loss {loss:.4f}  {int(sums['accuracy'])}/{count} right")


def train_model(config, data, args, about=None):
    """A new model from --seed, trained: (model, records).  No `about`: no files."""
    utils.set_seed(args.seed)
    model = NameClassifier(**config).to(args.device)
    records = list(utils.fit(model, step, *data.batches[:2], args, about))
    return model.eval(), records


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================


def baselines(data, k):
    """What a sceptic asks for, on part k: the commonest language; letter groups."""
    groups = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    found = utils.text_baselines(groups, data.parts[0], data.parts[k], data.labels)
    return {"majority": found["majority"], "letter_groups": found["linear"]}


def label_noise_ceiling(pairs):
    """The best any model can do: one answer a spelling, though some have several."""
    return len({name for name, _ in pairs}) / len(pairs)


def gradient_by_distance(model, names, labels):
    """|dL/d state| after each letter, last letter first: how far back learning reaches.

    names (B, T) without padding, labels (B,).  The state is what a cell hands on: h, and
    an LSTM's memory c.  Returns T numbers: means over names, as multiples of the first.
    """
    x, state, states = model.embed(names), None, []  # x: (B, T, E)
    for t in range(names.shape[1]):
        # NVIDIA's own RNN, cuDNN, keeps nothing for a gradient outside of training.
        with torch.backends.cudnn.flags(enabled=False):
            _, state = model.rnn(x[:, t : t + 1], state)
        states.append(state if isinstance(state, tuple) else (state,))  # each (1, B, H)
        for part in states[-1]:
            part.retain_grad()
    scores = model.output(states[-1][0][0])  # (B, C), from h after the last letter
    F.cross_entropy(scores, labels).backward()
    norms = []
    for parts in reversed(states):
        gradients = [part.grad for part in parts if part.grad is not None]
        norms.append(torch.cat(gradients, dim=-1).norm(dim=-1).mean().item())
    return [norm / norms[0] for norm in norms]


def forgetting_curves(config, test, trained, args):
    """`gradient_by_distance` of each cell before training, and of the trained model."""
    rows = torch.nonzero(test.lengths["name_length"] >= 10).flatten()[:200]
    if len(rows) == 0 or config["layers"] > 1 or config["both"]:
        return {}
    ends, name = test.lengths["name_length"][rows].tolist(), test.data["name"]
    # The last ten letters of long names, so that nothing is padding: (B, 10)
    names = torch.stack([name[i, n - 10 : n] for i, n in zip(rows, ends, strict=True)])
    labels, curves = test.data["label"][rows.to(args.device)], {}
    for cell in CELLS:
        utils.set_seed(args.seed)
        model = NameClassifier(**{**config, "cell": cell}).to(args.device)
        curves[f"{cell}, orthogonal start"] = gradient_by_distance(model, names, labels)
        if cell == "rnn":
            model.rnn.reset_parameters()  # PyTorch's own start: small and uniform
            curves["rnn, PyTorch's start"] = gradient_by_distance(model, names, labels)
    curves[f"{config['cell']}, trained"] = gradient_by_distance(trained, names, labels)
    return curves


def draw(model, config, records, data, args):
    """The four pictures of this lesson."""
    about, labels = f"{data.source.label}, {config['cell']}", data.labels
    panels = {"loss": ["loss", "val_loss"], "accuracy": ["accuracy", "val_accuracy"]}
    panels["gradient norm"] = ["grad_norm", "max_grad_norm"]
    utils.plot_records(args, f"Training, {about}", records, panels)

    test = data.batches[2]
    answers = utils.collect(model, forward, test, args).argmax(1)  # (N,)
    truth, classes = test.data["label"].cpu(), range(len(labels))
    share = confusion_matrix(truth, answers, labels=classes, normalize="true")
    axes = (labels, labels, "answer", "truth", "share of row")
    utils.plot_matrix(args, "confusion", f"Test, {about}", share, *axes)
    print("  Reading it: a row is a language; what lies off the diagonal went wrong.")

    name = as_the_model_sees_it((args.predict or ["Schmidhuber"])[0])
    ids = torch.tensor([data.vocabulary.encode(name)], device=args.device)  # (1, T)
    with torch.no_grad():
        states = model.rnn(model.embed(ids))[0][0, :, :32].T.cpu()  # (32, T)
    axes = (range(len(states)), list(name), "letter just read", "unit of h", "value")
    utils.plot_matrix(args, "hidden_state", about, states, *axes, centred=True)
    print("  Reading it: a column is all that the network knows after that letter.")

    curves, title = forgetting_curves(config, test, model, args), f"Forgetting, {about}"
    axes = ("letters before the end", "gradient, last letter = 1")
    utils.plot_lines(args, "forgetting", title, curves, *axes, log=True)
    for name, values in curves.items():
        print(f"    {name:<24} {values[-1]:.3f} of the gradient nine letters back")
    print("  Reading it: untrained gates, half open, forget; training moves them.")


def report(model, config, records, data, args, leaky=None):
    """The table on test beside its baselines, and metrics.json."""
    cell, others = config["cell"], baselines(data, 2)
    checked, scores = (utils.judge(model, forward, b, args) for b in data.batches[1:])
    metrics = {f"test_{name}": value for name, value in scores.items()}
    metrics["val_accuracy"] = checked["accuracy"]
    rows = {f"{cell} (this lesson)": scores, **others}
    if leaky:
        rows[f"{cell}, leaky split: flattered"] = leaky
        metrics["leaky_accuracy"] = leaky["accuracy"]
    utils.print_table(f"{data.source.label}: test, {len(data.parts[2]):,} names", rows)
    gap = scores["accuracy"] - others["letter_groups"]["accuracy"]
    verdict = "beats" if gap > 0 else "loses to"
    print(f"Reading it: by accuracy the {cell} {verdict} letter groups ({gap:+.4f});")
    print("macro-F1 averages over languages, so that a rare one counts like any other.")
    known = {name: row["accuracy"] for name, row in others.items()}
    known["label_noise_ceiling"] = label_noise_ceiling(data.parts[2])
    letters = int(data.batches[0].lengths["name_length"].sum())
    training = utils.training_summary(records, letters, "letters")
    size = utils.count_parameters(model)
    utils.write_metrics(args, data.source, metrics, known, training, size)


def print_predictions(model, data, args):
    """The three likeliest languages of each name, with probabilities."""
    for name in args.predict:
        ids, length = utils.pad([data.vocabulary.encode(as_the_model_sees_it(name))])
        with torch.no_grad():
            chances = model(ids.to(args.device), length).float().softmax(1)[0]  # (C,)
        best = chances.topk(min(3, len(data.labels)))
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        print(f"{name}: " + ", ".join(f"{data.labels[i]} {p:.1%}" for p, i in pairs))
    print("Reading it: it chooses among the languages it knows, even for nonsense.")


# ====================================================================================
# 5. Command line
# ====================================================================================


def variants(config, args):
    """What --compare trains: name -> (config, flags), all with as many weights."""
    if args.compare == "cell":
        shapes = utils.cells_of_equal_size(NameClassifier, config, CELLS)
        return {name: (shape, {}) for name, shape in shapes.items()}
    return {
        f"W_hh x {gain:g}, clip {clip:g}": ({**config, "gain": gain}, {"clip": clip})
        for gain, clip in product((1.0, 4.0), (args.clip or 1.0, 0.0))
    }


def compare(config, data, args):
    """Train every variant on the same data and seed; one table, on validation."""

    def train(settings):
        shape, flags = settings
        model, records = train_model(shape, data, Namespace(**vars(args) | flags))
        return model, records, utils.judge(model, forward, data.batches[1], args)

    kinds, others = variants(config, args), baselines(data, 1)
    utils.compare_variants(args, data.source, kinds, train, others)
    print("Reading it: one seed; another moves an accuracy by 0.01.  Clip 0: no clip.")


def make_flags():
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(parser, ["names", "sample"], "a folder of <label>.txt files")
    sizes = {"batch_size": 128, "hidden_size": 192, "dropout": 0.3}
    utils.add_training_flags(parser, epochs=30, lr=0.003, **sizes)
    add = parser.add_argument_group("this lesson").add_argument
    add("--cell", choices=list(CELLS), default="rnn")
    add("--bidirectional", action="store_true", help="read backwards too")
    add("--leaky-split", action="store_true", help="what a careless split flatters")
    add("--overfit-one-batch", action="store_true", help="learn 64 names by heart")
    add("--compare", choices=["cell", "clip"], help="several models, one table")
    add("--predict", nargs="+", metavar="NAME", default=[])
    return parser


def new_card(source, parts, args):
    """How to build a new model for this data: what a checkpoint will carry."""
    vocabulary = utils.Vocabulary.build(name for name, _ in parts[0])
    labels = sorted({language for part in parts for _, language in part})
    config = {"letters": len(vocabulary), "classes": len(labels), "embedding": 64}
    config |= {"cell": args.cell, "hidden": args.hidden_size, "layers": args.num_layers}
    config |= {"both": args.bidirectional, "dropout": args.dropout}
    more = {"vocabulary": vocabulary.tokens, "labels": labels}
    return utils.model_card(args, source, config, **more)


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__)
    if not all(name.strip() and name.isprintable() for name in args.predict):
        raise utils.UserError("--predict takes names of one letter or more")
    by_hand_gaps()
    source, lines = read_names(args)
    parts = split_without_leak(lines)
    sizes = " / ".join(f"{len(part):,}" for part in parts)
    print(f"{source.label}: {len(lines):,} lines; split by spelling: {sizes} names")
    print(f"Ambiguous spellings allow at best {label_noise_ceiling(parts[2]):.4f}")
    about = new_card(source, parts, args)
    if args.eval_only:
        lists = {"vocabulary": "embed.weight", "labels": "output.weight"}
        about = utils.load_card(args, lists, dataset=source.name)
    data, config = load_names(source, parts, about, args), about["config"]
    if args.compare:
        return compare(config, data, args)
    if args.overfit_one_batch:
        return learn_one_batch(config, data.batches[0], args, 201)
    if args.eval_only:
        print(f"The model in {args.path} was trained on {about['dataset']}")
        model = utils.load_model(NameClassifier, about, args.path)
        model, records = model.to(args.device).eval(), []
    else:
        learn_one_batch(config, data.batches[0], args, 2)
        model, records = train_model(config, data, args, about)
    leaky = None
    if args.leaky_split:
        print("Once more, on the leaky split")
        leaked = load_names(source, split_with_leak(lines), about, args)
        flattered = train_model(config, leaked, args)[0]
        leaky = utils.judge(flattered, forward, leaked.batches[2], args)
    report(model, config, records, data, args, leaky)
    if not args.no_plots:
        draw(model, config, records, data, args)
    if args.predict:
        print_predictions(model, data, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
