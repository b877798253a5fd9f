"""10 · Can a network write?

A network that has learned which character comes next can write: draw a character from
what it predicts, feed it back, repeat.  All its training is to read Shakespeare.

What you will learn
    - truncated back-propagation through time: why the state is carried, and detached
    - nats, bits per character and perplexity: one figure in three units
    - temperature, top-k, top-p and greedy: four ways to draw from one distribution
    - n-gram models, the baseline that a sceptic asks for
    - how to ask whether a text is good, and whether it is only copied

Run it
    python 10_text_generation.py
    python 10_text_generation.py --temperature 0.8 --max-length 500
    python 10_text_generation.py --level word
    python 10_text_generation.py --epochs 50

You should see (shakespeare [real], seed 0, two cores, 6 minutes in all)
      model                     nats   bits_per_char   perplexity
      lstm (this lesson)      1.4277          2.0598       4.1692
      lstm, reset every 256   1.4549          2.0990       4.2840
      1-gram                  3.3473          4.8291      28.4261
      7-gram                  1.5165          2.1879       4.5563
    --level word, 2.5 minutes: perplexity 49.7 a word; that of the 4-gram is 67.9.

Try this  (guess first, then run; --save-model once, then --eval-only answers at once)
    --temperature 0             why does greedy writing go in circles?
    --temperature 1.5           and what goes wrong here?  Does --top-p 0.9 mend it?
    --prompt "ROMEO:"           does the first word decide who speaks?
    --sequence-length 8         gradients reach 8 steps back, and there are 8 times as
                                many updates: what is lost, what is won?
    --cell rnn                  how much of the gain is the LSTM's memory?
    --dataset code              how much of the Python that it writes can be parsed?
"""

# Sizes
#     B  batch: streams of text read side by side     T  time: steps between two updates
#     E  embedding    H  hidden state    L  layers    V  vocabulary    N  tokens

import ast
import math
import re
import sys
import time
import warnings
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================


def read_corpus(args):
    """(Source, text).  The sample is source code that lies on every machine."""
    library = utils.standard_library_folder()
    source = utils.choose_dataset(args, ["shakespeare"], {"code": library})
    code = source.name == "code"
    text = (utils.read_standard_library if code else utils.read_text)(source.path)
    return source, utils.capped(args, text, 20_000)


def tokenize(text, level):
    """Characters; or words, punctuation marks and line ends; spaces are lost."""
    return list(text) if level == "char" else re.findall(r"\w+(?:'\w+)*|[^\w ]", text)


def join(tokens, level):
    """Tokens back to text; for words, with a space wherever one is likely."""
    if level == "char":
        return "".join(tokens)
    text = re.sub(r" ([.,;:!?)\]])", r"\1", " ".join(tokens))
    return re.sub(r" ?\n ?", "\n", text)


class Corpus(NamedTuple):
    source: utils.Source
    level: str
    vocabulary: utils.Vocabulary  # of the training part alone; id 0 is <unk>
    texts: list  # [train, held out]
    ids: list  # the same as ids, (N,) each


def split(text):
    """First 90 % to train, last 10 % held out: what everyone does with this corpus.

    There is no third part.  Choosing the best epoch on the held-out part flatters the
    score a little; the field does it, so figures can be compared, and we say so.
    """
    cut = int(0.9 * len(text))
    return [text[:cut], text[cut:]]


def load_corpus(source, text, level, words, args):
    """Corpus with the vocabulary `words`; UserError if the text is too short."""
    vocabulary, texts = utils.Vocabulary(words), split(text)
    ids = [torch.tensor(vocabulary.encode(tokenize(t, level))) for t in texts]
    if len(ids[0]) < 2 * args.sequence_length or len(ids[1]) < 2:
        raise utils.UserError(
            f"the text is too short ({len(ids[0])} tokens to train on) for "
            f"--sequence-length {args.sequence_length}; lower that, or give a longer one"
        )
    return Corpus(source, level, vocabulary, texts, ids)


class Streams:
    """The ids (N,) as B streams of text side by side, T steps at a time, in order.

    Batch k + 1 goes on where batch k stopped, row by row, so the state can be carried.
    `first` marks the start of a pass, where there is nothing to carry.
    """

    def __init__(self, ids, streams, steps, device, shuffle=False):
        self.ids, self.steps, self.shuffle = ids.to(device), steps, shuffle
        usable = len(ids) - 1 - (steps - 1 if shuffle else 0)  # room for the offset
        self.streams = max(1, min(streams, usable // steps))
        self.width = usable // self.streams

    def __len__(self):
        whole, rest = divmod(self.width, self.steps)
        return whole + (rest > 0 and not self.shuffle)

    def __iter__(self):
        # A random start each epoch: else windows would be cut at the same places, and
        # the characters after a cut would never see a gradient from those before it.
        start = int(torch.randint(self.steps, ())) if self.shuffle else 0
        stop = start + self.streams * self.width
        x = self.ids[start:stop].view(self.streams, self.width)  # (B, width)
        y = self.ids[start + 1 : stop + 1].view(self.streams, self.width)
        for k in range(len(self)):
            here = slice(k * self.steps, (k + 1) * self.steps)
            yield {"input": x[:, here], "target": y[:, here], "first": k == 0}


# ====================================================================================
# 2. Model
# ====================================================================================

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class NextToken(nn.Module):
    """Embedding, recurrent layers, a score for every token that could come next.

    tied: for words.  V x H weights of output would cost more than all the rest; so the
    state is squeezed to E numbers and compared with the embedding of each word, by the
    same weights (Press and Wolf, 2017): half the cost, and half as much to learn.
    """

    def __init__(self, tokens, embedding, cell, hidden, layers, dropout, tied):
        super().__init__()
        self.embed = nn.Embedding(tokens, embedding)
        options = {"batch_first": True, "dropout": dropout if layers > 1 else 0.0}
        self.rnn = CELLS[cell](embedding, hidden, layers, **options)
        self.dropout = nn.Dropout(dropout)
        self.squeeze = nn.Linear(hidden, embedding) if tied else nn.Identity()
        self.output = nn.Linear(embedding if tied else hidden, tokens)
        if tied:
            nn.init.uniform_(self.embed.weight, -0.1, 0.1)
            self.output.weight = self.embed.weight

    def forward(self, ids, state=None):
        """ids (B, T), state h (L, B, H) or, LSTM, (h, c) -> scores (B, T, V), state."""
        x = self.embed(ids)  # (B, T, E)
        y, state = self.rnn(x, state)  # (B, T, H)
        return self.output(self.squeeze(self.dropout(y))), state


# ====================================================================================
# 3. Training
# ====================================================================================


def detach(state):
    """The same numbers, cut off from the computation that made them."""
    if isinstance(state, tuple):
        return tuple(part.detach() for part in state)
    return state.detach()


def make_step():
    """Truncated back-propagation through time: the step that `utils.fit` repeats.

    A million characters cannot be unrolled at once, so the text is read T at a time.
    Forward, nothing is cut: the state at a window's end starts the next.  If each began
    from zero, nothing older than T could ever be used.  Backward, the gradient stops at
    the window's edge.  Without detach(), backward() would run on into the window before,
    whose computation is freed: an error; were it kept, each step would take longer.
    """
    carried = {}

    def step(model, batch):
        state = None if batch["first"] else carried["state"]
        scores, state = model(batch["input"], state)  # (B, T, V)
        carried["state"] = detach(state)
        scores, target = scores.flatten(0, 1).float(), batch["target"].flatten()
        loss = F.cross_entropy(scores, target, reduction="sum")
        return {"loss": loss}, len(target)

    return step


LINE = {"char": 70, "word": 14}  # tokens that fill a line


def train_model(model, corpus, args, about):
    """Train with `fit`; write a line after epochs 1, 2, 4, 8, 16, 32 and the last."""
    shape = args.batch_size, args.sequence_length
    train = Streams(corpus.ids[0], *shape, args.device, shuffle=True)
    # 16 streams for speed: 16 cold starts make this val_loss some thousandths too high.
    val = Streams(corpus.ids[1], 16, 256, args.device)
    records = []
    for record in utils.fit(model, make_step(), train, val, args, about):
        records.append(record)
        shown = record["epoch"] in {1, 2, 4, 8, 16, 32, args.epochs}
        if shown and "replayed" not in record:
            print(f"    {write(model, corpus, args, LINE[corpus.level])!r}")
    return records


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================


def next_distribution(scores, temperature=1.0, top_k=0, top_p=1.0):
    """Scores (V,) -> the probabilities (V,) that the next token is drawn from.

    temperature  p_i ~ exp(score_i / temperature).  Below 1 the likely become likelier;
                 0 is the limit: the likeliest alone (greedy).
    top_k        keep the k likeliest; 0 keeps all.
    top_p        keep the fewest likeliest whose probabilities reach p (Holtzman et al.,
                 2020): many tokens where the model is unsure, few where it is sure.
    """
    if temperature == 0:
        return F.one_hot(scores.argmax(), len(scores)).to(scores.dtype)
    # The largest score becomes 0 first, else a small temperature could overflow.
    p = ((scores - scores.max()) / temperature).softmax(0)  # (V,)
    p, order = p.sort(descending=True, stable=True)
    if top_k:
        p[top_k:] = 0
        p = p / p.sum()
    before = p.cumsum(0) - p  # probability of all that are likelier
    p = torch.where(before < top_p, p, 0.0)
    p[0] = p[0] + (p.sum() == 0)  # rounding must not leave nothing
    return torch.zeros_like(p).scatter(0, order, p / p.sum())


@torch.no_grad()
def generate(model, prompt, length, seed, temperature=1.0, top_k=0, top_p=1.0):
    """`length` new ids after the ids `prompt` (T,).  Nothing is read twice: see state."""
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    device, ids = model.embed.weight.device, []
    scores, state = model(prompt.to(device).unsqueeze(0))  # (1, T, V)
    while len(ids) < length:
        last = scores[0, -1].float().cpu()  # (V,)
        last[0] = -math.inf  # <unk> cannot be written
        p = next_distribution(last, temperature, top_k, top_p)
        token = torch.multinomial(p, 1, generator=generator)  # (1,)
        ids.append(token.item())
        scores, state = model(token.to(device).unsqueeze(0), state)  # (1, 1, V)
    return ids


def prompt_ids(corpus, prompt):
    """Ids (T,) of a prompt; of an empty one, a line end or else the commonest token."""
    ids = corpus.vocabulary.encode(tokenize(prompt, corpus.level))
    return torch.tensor(ids or [corpus.vocabulary.ids.get("\n", 1)])


def write(model, corpus, args, length, **changes):
    """`length` tokens after --prompt, drawn as the flags say; as text."""
    how = {"temperature": args.temperature, "top_k": args.top_k, "top_p": args.top_p}
    how, start = {**how, **changes}, prompt_ids(corpus, args.prompt)
    ids = generate(model, start, length, args.seed, **how)
    return join(corpus.vocabulary.decode(ids), corpus.level)


@torch.no_grad()
def score(model, ids, reset=0):
    """Mean nats of ids[1:] (N - 1,), in one stream.  reset: forget every so many."""
    model.eval()
    ids, total, state = ids.to(model.embed.weight.device), 0.0, None
    width = reset or 1024
    for x, y in zip(ids[:-1].split(width), ids[1:].split(width), strict=True):
        scores, state = model(x.unsqueeze(0), None if reset else state)  # (1, T, V)
        total += F.cross_entropy(scores[0].cpu().double(), y.cpu(), reduction="sum")
    return total.item() / (len(ids) - 1)


def units(nats, level):
    """Nats in other units.  Bits for characters only: <unk> makes words easy."""
    bits = {"bits_per_char": nats / math.log(2)} if level == "char" else {}
    return {"nats": nats, **bits, "perplexity": math.exp(min(nats, 700))}


def baselines(corpus):
    """Nats of n-gram models on the held-out part, by name."""
    orders, found = (1, 3, 5, 7) if corpus.level == "char" else (1, 2, 3, 4), {}
    for order in orders:
        grams = utils.KneserNey(corpus.ids[0], order, len(corpus.vocabulary))
        found[f"{order}-gram"] = grams.score(corpus.ids[1])
    return found


# What parsing raises, each for another kind of text that is no Python.
NO_PYTHON = SyntaxError, ValueError, RecursionError, MemoryError


def longest_copy(text, source):
    """The longest passage of `text` that stands, letter by letter, in `source`."""
    best, where = 0, 0
    for i in range(len(text)):
        while i + best < len(text) and text[i : i + best + 1] in source:
            best, where = best + 1, i
    return text[where : where + best]


def share_parsed(text):
    """Share of the blocks of a Python text that parse; the cut ends are left out."""
    blocks, good = re.split(r"\n\n+(?=\S)", text)[1:-1], 0
    for block in blocks:
        with warnings.catch_warnings(action="ignore"), suppress(*NO_PYTHON):
            ast.parse(block)
            good += 1
    return good / max(1, len(blocks))


def quality(text, corpus):
    """How good, how original: figures of one text."""
    known = set(re.findall(r"\w+", corpus.texts[0]))
    words = re.findall(r"\w+", text)
    threes = list(zip(words, words[1:], words[2:], strict=False))
    shares = [word in known for word in words]
    found = {"words in training": sum(shares) / max(1, len(words))}
    found["distinct 3-grams"] = len(set(threes)) / max(1, len(threes))
    found["longest copy"] = len(longest_copy(text, corpus.texts[0]))
    if corpus.source.name == "code":
        found["blocks that parse"] = share_parsed(text)
    return found


def judge_writing(model, corpus, args):
    """A text, and its figures beside those of a human text.  Characters a second."""
    length = 500 if args.quick else 80 * LINE[corpus.level]
    start = time.perf_counter()
    text = write(model, corpus, args, max(length, args.max_length))
    speed = len(text) / (time.perf_counter() - start)
    shown = write(model, corpus, args, args.max_length)
    print(f"\n{corpus.source.label}: written at --temperature {args.temperature:g}")
    print(args.prompt + (" " if corpus.level == "word" else "") + shown)
    human = join(tokenize(corpus.texts[1][: len(text)], corpus.level), corpus.level)
    rows = {"this lesson": quality(text, corpus), "held-out": quality(human, corpus)}
    about = f"{corpus.source.label}: {len(text):,} characters written"
    utils.print_table(about, rows, corner="text")
    print(
        "Reading it: a longest copy (in characters) no longer than the author's own is"
    )
    print(f"no sign of learning by heart.  Written: {speed:,.0f} characters a second")
    return speed


WAYS = {
    "temperature 1": {"temperature": 1.0},
    "temperature 0.5": {"temperature": 0.5},
    "top-k 5": {"temperature": 1.0, "top_k": 5},
    "top-p 0.8": {"temperature": 1.0, "top_p": 0.8},
    "greedy": {"temperature": 0.0},
}


def show_sampling(model, corpus, args):
    """One distribution under each way to draw: a picture, and a line of text each."""
    print("\nThe same model, drawn from in five ways:")
    for name, way in WAYS.items():
        way = {"top_k": 0, "top_p": 1.0, **way}
        text = write(model, corpus, args, LINE[corpus.level], **way)
        print(f"  {name:<16}{text!r}")
    print("Reading it: from daring to dull; greedy writing soon repeats itself.")
    if args.no_plots:
        return
    with torch.no_grad():
        ids = prompt_ids(corpus, args.prompt).to(args.device).unsqueeze(0)  # (1, T)
        scores = model(ids)[0][0, -1].float().cpu()  # (V,)
    top = scores.topk(min(14, len(scores))).indices
    names = [repr(token) for token in corpus.vocabulary.decode(top.tolist())]
    figure, panels = plt.subplots(1, len(WAYS), figsize=(13, 3.8), sharey=True)
    for axes, (name, way) in zip(panels, WAYS.items(), strict=True):
        axes.barh(range(len(top)), next_distribution(scores, **way)[top])
        axes.set(title=name, xlabel="probability", xlim=(0, 1), xticks=(0, 0.5, 1))
    panels[0].set_yticks(range(len(top)), names, **utils.PLAIN)
    panels[0].set(ylabel="next token", ylim=(len(top) - 0.4, -0.6))
    after = f"after {args.prompt!r}" if args.prompt else "at a line's start"
    figure.suptitle(f"{corpus.source.label}: next token {after}", y=1.02, **utils.PLAIN)
    utils.save_picture(figure, args, "next_token")


def report(model, corpus, records, args):
    """The table beside the n-grams, the writing, metrics.json."""
    held, level = corpus.ids[1], corpus.level
    nats, reset = score(model, held), score(model, held, reset=256)
    others, cell = baselines(corpus), args.cell
    rows = {f"{cell} (this lesson)": nats, f"{cell}, reset every 256": reset, **others}
    unit = {"char": "characters", "word": "words"}[level]
    title = f"{corpus.source.label}: held-out part, {len(held) - 1:,} {unit}"
    utils.print_table(title, {name: units(x, level) for name, x in rows.items()})
    print("Reading it: perplexity 4 is as unsure as a four-sided die.  Reset is the")
    print("fair row beside models that see 256 tokens at most.")
    speed = judge_writing(model, corpus, args)
    scores = units(nats, level)
    metrics = {"val_loss": scores.pop("nats"), "val_loss_reset256": reset, **scores}
    metrics["val_perplexity"] = metrics.pop("perplexity")
    metrics["chars_per_second"] = speed
    training = utils.training_summary(records, len(corpus.ids[0]), unit)
    size = utils.count_parameters(model)
    utils.write_metrics(args, corpus.source, metrics, others, training, size)


# ====================================================================================
# 5. Command line
# ====================================================================================

WORD_DEFAULTS = {"epochs": 8, "lr": 0.004, "dropout": 0.5, "sequence_length": 32}


def make_flags(argv=()):
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(parser, ["shakespeare", "code"], "any text file")
    sizes = {"batch_size": 32, "hidden_size": 256, "num_layers": 2, "dropout": 0.2}
    rest = {"weight_decay": 0.01, "clip": 1.0}
    utils.add_training_flags(parser, epochs=16, lr=0.006, **sizes, **rest)
    add = parser.add_argument_group("this lesson").add_argument
    add("--level", choices=["char", "word"], default="char", help="what a token is")
    add("--max-vocab", type=utils.whole(2), default=5000, help="of --level word")
    add("--cell", choices=list(CELLS), default="lstm")
    add("--sequence-length", type=utils.whole(1, 100_000), default=64)
    add("--temperature", type=utils.real(0, 100), default=0.8, help="0: greedy")
    add("--top-k", type=utils.whole(0), default=0, help="0: all")
    add("--top-p", type=utils.real(0, 1, above=True), default=1.0, help="1: all")
    add("--max-length", type=utils.whole(1, 1_000_000), default=500, help="in tokens")
    add("--prompt", default="", help="what the text begins with")
    if ("--level", "word") in pairwise(argv) or "--level=word" in argv:
        parser.set_defaults(**WORD_DEFAULTS)
    return parser


def new_card(source, text, args):
    """How to build a new model for this text: what a checkpoint will carry."""
    word = args.level == "word"
    most = args.max_vocab if word else None
    tokens = tokenize(split(text)[0], args.level)
    words = utils.Vocabulary.build([tokens], (utils.UNK,), max_size=most).tokens
    config = {"tokens": len(words), "embedding": 128 if word else 64, "tied": word}
    config |= {"cell": args.cell, "hidden": args.hidden_size}
    config |= {"layers": args.num_layers, "dropout": args.dropout}
    return utils.model_card(args, source, config, vocabulary=words, level=args.level)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    args = utils.parse_flags(make_flags(argv), argv, __file__)
    source, text = read_corpus(args)
    if args.eval_only:
        about = utils.load_card(args, {"vocabulary": "embed.weight"})
        print(f"The model in {args.path} was trained on {about['dataset']}")
        args.level, args.cell = about["level"], about["config"]["cell"]
    else:
        about = new_card(source, text, args)
    corpus = load_corpus(source, text, args.level, about["vocabulary"], args)
    sizes, share = [len(part) for part in corpus.ids], (corpus.ids[1] == 0).double()
    print(f"{source.label}: {sizes[0]:,} tokens to train on, {sizes[1]:,} held out")
    print("(and used to choose the best epoch, as is the custom with this corpus);")
    print(f"{len(corpus.vocabulary):,} in the vocabulary; {share.mean():.2%} unknown")
    if (prompt_ids(corpus, args.prompt) == 0).any():
        print(f"--prompt holds tokens that training never saw; read as {utils.UNK}")
    if args.eval_only:
        model, records = utils.load_model(NextToken, about, args.path), []
    else:
        model = NextToken(**about["config"]).to(args.device)
        records = train_model(model, corpus, args, about)
    report(model.to(args.device), corpus, records, args)
    show_sampling(model, corpus, args)
    panels = {"nats": ["loss", "val_loss"]}
    panels["gradient norm"] = ["grad_norm", "max_grad_norm"]
    utils.plot_records(args, f"Training, {source.label}", records, panels)


if __name__ == "__main__":
    sys.exit(utils.run(main, parallel=True))
