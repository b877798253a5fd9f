"""08 · How does one sequence become another?

One network, the encoder, reads a sequence into its state; a second, the decoder, starts
from that state and writes another sequence, of another length.  All that passes between
the two is one state, of the same size for three digits and for thirty words.

What you will learn
    - encoder and decoder, and which state is handed over when sources are padded
    - teacher forcing: why training is one call, and writing one call a word
    - greedy and beam search, batched, and what "better" means for each
    - BLEU (how many runs of 1 to 4 words the reference has too) and its signature
    - where one state is too small for what it must hold (lesson 09 mends that)

Run it
    python 08_seq2seq_basic.py
    python 08_seq2seq_basic.py --predict 31415
    python 08_seq2seq_basic.py --task translate --predict "a man in a red shirt"
    python 08_seq2seq_basic.py --input pairs.tsv

You should see  (reverse [sample], seed 0, two cores, half a minute in all)
      model          exact_match   token_accuracy     log_p
      lstm, greedy        0.9974           0.9987   -0.0017
      lstm, beam 5        0.9979           0.9991   -0.0017
    Copying has 0.0057, chance none.  Of sequences longer than those in training, by 1,
    3 and 6 digits, 0.9400, 0.5050 and 0.0750 are exact.
    --task translate  (multi30k [real], 8 minutes): BLEU 17.5 greedy, 17.9 by beam search;
    with --reverse-source 19.7 and 19.8; a dictionary has 17.4

Try this  (guess first, then run)
    --hidden-size 32            how many digits fit into 64 numbers, h and c?
    --max-length 16             and how many into the default's state?
    --reverse-source            reversing is then copying: easier or harder?
    --teacher-forcing 0.5       half of the batches feed the decoder its own words
    --task translate --reverse-source   the trick of Sutskever et al. (2014)
"""

# Sizes
#     B  batch (pairs)    T  time (words of the batch's longest row)    K  beam size
#     E  embedding    H  hidden state    L  layers    V  vocabulary     N  pairs

import math
import sys
import zlib
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================

PAD, UNK, BOS, EOS = range(4)  # ids in both vocabularies: see utils.pair_vocabularies
BOTH = "source_words", "target_words"  # what a checkpoint calls their tokens
SHORTEST = 3  # digits; there are --max-length at most
BEYOND = 6  # so many digits longer than in training


def draw_pairs(lengths, draw):
    """Distinct pairs like ("3 1 4", "4 1 3"), of these lengths (N,)."""
    digits = torch.randint(10, (len(lengths), max(lengths)), generator=draw).tolist()
    rows = (row[:n] for row, n in zip(digits, lengths, strict=True))
    texts = dict.fromkeys(" ".join(map(str, row)) for row in rows)
    return [(text, text[::-1]) for text in texts]


def make_digits(args):
    """Training, validation and test; the digits alone decide where a pair belongs.

    So no sequence in test was seen in training, whatever --seed and --max-length say.
    """
    if not SHORTEST < args.max_length <= 100:
        raise utils.UserError("--max-length is 4 to 100 with --task reverse")
    draw, count = torch.Generator().manual_seed(8), 2_000 if args.quick else 44_000
    lengths = torch.randint(SHORTEST, args.max_length + 1, (count,), generator=draw)
    parts = [[], [], []]
    for pair in draw_pairs(lengths.tolist(), draw):
        digest = zlib.crc32(pair[0].encode()) % 20  # a twentieth each to test and val
        parts[{0: 2, 1: 1}.get(digest, 0)].append(pair)
    return [utils.capped(args, part, n) for part, n in zip(parts, (960, 60, 60))]


def choose_pairs(args):
    """(Source, [training, validation, test]); a pair is (source, target), two texts."""
    if args.task == "reverse":
        return utils.Source("reverse", None, False), make_digits(args)
    sample = {"sample": utils.SAMPLES / "en-fr.tsv"}
    source = utils.choose_dataset(args, ["multi30k"], sample)
    return source, utils.load_pairs(args, source)


class Pairs(NamedTuple):
    source: utils.Source  # which data set, and whether it is real
    parts: list  # training, validation, test: lists of (source, target)
    vocabularies: list  # of sources, of targets: words of training alone
    batches: list  # the three parts as Batches; only training is shuffled


def batch_pairs(source, parts, about, args):
    """The parts as batches, in the words that `about` lists."""
    words = [utils.Vocabulary(about[side]) for side in BOTH]
    tensors = [utils.encode_pairs(part, words, args.max_length) for part in parts]
    shape = {"device": args.device, "bucket": "source"}
    train = utils.Batches(tensors[0], args.batch_size, shuffle=True, **shape)
    rest = [utils.Batches(t, 64, **shape) for t in tensors[1:]]
    return Pairs(source, parts, words, [train, *rest])


# ====================================================================================
# 2. Model
# ====================================================================================

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def reverse_rows(ids, lengths):
    """ids (B, T): the words of each row last to first, the padding still behind."""
    place = torch.arange(ids.shape[1], device=ids.device)  # (T,)
    back = lengths.to(ids.device).unsqueeze(1) - 1 - place  # (B, T), below 0 on padding
    return ids.gather(1, torch.where(back >= 0, back, place))


class Seq2Seq(nn.Module):
    """p(y | x) = product over t of p(y_t | y_1 ... y_{t-1}, s): Sutskever et al., 2014.

    s is the encoder's last state and the decoder's first: h (L, B, H), and for an LSTM
    its memory c (L, B, H) beside it.  words: the sizes of both vocabularies.
    """

    def __init__(self, words, embedding, cell, hidden, layers, dropout, backwards):
        super().__init__()
        self.backwards = backwards
        options = {"batch_first": True, "dropout": dropout if layers > 1 else 0.0}
        self.embed_source = nn.Embedding(words[0], embedding, padding_idx=PAD)
        self.encoder = CELLS[cell](embedding, hidden, layers, **options)
        self.embed_target = nn.Embedding(words[1], embedding, padding_idx=PAD)
        self.decoder = CELLS[cell](embedding, hidden, layers, **options)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, words[1])

    def encode(self, source, lengths):
        """source (B, T), lengths (B,) on the CPU -> the state after each last word."""
        if self.backwards:
            # The first words of both sentences come close together: their gradient has
            # a short way to go.  So Sutskever et al. explain what they gained by it.
            source = reverse_rows(source, lengths)
        x = self.dropout(self.embed_source(source))  # (B, T, E)
        # Without packing, a short source's state would be the one after its padding.
        x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.encoder(x)[1]

    def decode(self, words, state):
        """words (B, T), state before them -> scores of each next word, new state."""
        y, state = self.decoder(self.dropout(self.embed_target(words)), state)
        return self.output(self.dropout(y)), state  # (B, T, V)

    def forward(self, source, lengths, target, forced=True):
        """Scores (B, T, V) for every word of target (B, T), which ends in EOS.

        forced: the decoder is given the true words before each word, so all are known
        beforehand and one call computes every step.  Else it is given its own answers,
        as when it writes; each has to be waited for, so it takes one call a word.
        """
        state = self.encode(source, lengths)
        given = F.pad(target[:, :-1], (1, 0), value=BOS)  # (B, T): one step behind
        if forced:
            return self.decode(given, state)[0]
        word, steps = given[:, :1], []  # BOS
        for _ in range(target.shape[1]):
            scores, state = self.decode(word, state)  # (B, 1, V)
            word = scores.argmax(-1)  # (B, 1); no gradient goes through a choice
            steps.append(scores)
        return torch.cat(steps, dim=1)


def rows_of(state, rows):
    """The state of the batch's rows `rows` (M,): each part (L, B, H) -> (L, M, H)."""
    if isinstance(state, tuple):
        return tuple(part.index_select(1, rows) for part in state)
    return state.index_select(1, rows)


# ====================================================================================
# 3. Training
# ====================================================================================


def make_step(forcing):
    """The step that `fit` repeats: the loss summed over the batch's real words.

    forcing: the share of batches in which the decoder is given the true words.  If all
    are, it never meets its own mistakes before it has to write.  Scheduled sampling
    (Bengio et al., 2015) mixes both: they toss a coin a word, we toss one a batch.
    """

    def step(model, batch):
        # Validation is always forced: perplexity is about the true words.
        forced = not model.training or forcing == 1 or torch.rand(()).item() < forcing
        target = batch["target"].flatten()  # (B * T,)
        inputs = batch["source"], batch["source_length"], batch["target"]
        scores = model(*inputs, forced).flatten(0, 1).float()  # (B * T, V)
        # Padding is no word: to predict it must neither be learned nor be counted.
        loss = F.cross_entropy(scores, target, ignore_index=PAD, reduction="sum")
        return {"loss": loss}, int(batch["target_length"].sum())

    return step


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================


def next_words(model, word, state):
    """The last word (B, 1), the state -> log p of every next word (B, V), new state."""
    scores, state = model.decode(word, state)  # (B, 1, V)
    logp = scores[:, -1].float().log_softmax(-1)  # (B, V)
    logp[:, [PAD, UNK, BOS]] = -math.inf  # nothing that one could write
    return logp, state


@torch.no_grad()
def greedy(model, source, lengths, limit):
    """The likeliest next word, again and again, until EOS or `limit` words.

    Returns ids (B, T), PAD after EOS, and log_p (B,): the mean log probability of each
    answer's words, EOS included.  (Each word lowers a sum: it prefers short answers.)
    """
    state = model.encode(source, lengths)
    word = torch.full((len(source), 1), BOS, device=source.device)
    done = torch.zeros_like(word, dtype=torch.bool)  # (B, 1)
    total, count, written = 0.0, 0, []
    for _ in range(limit):
        logp, state = next_words(model, word, state)  # (B, V)
        best, word = logp.max(-1, keepdim=True)  # (B, 1)
        # A batch takes as long as its longest answer; whoever has ended writes padding.
        word, best = word.masked_fill(done, PAD), best.masked_fill(done, 0.0)
        total, count = total + best, count + (~done).long()  # (B, 1)
        written.append(word)
        done = done | (word == EOS)
        if done.all():
            break
    return torch.cat(written, dim=1), (total / count).squeeze(1)


def extend(logp, done, size):
    """Each row's C = min(K, V) best next words: log p and ids, (B * K, C)."""
    best, words = logp.topk(min(size, logp.shape[1]))
    # A row that has ended has one continuation: padding, which costs nothing.
    best[:, :1] = best[:, :1].masked_fill(done, 0.0)
    best[:, 1:] = best[:, 1:].masked_fill(done, -math.inf)
    return best, words.masked_fill(done, PAD)


@torch.no_grad()
def beam_search(model, source, lengths, limit, size):
    """Grow K = `size` answers to each source side by side; returns what `greedy` does.

    Greedy search cannot take a word back, even if nothing good can follow it.  Here
    every step extends all K answers and keeps the K of highest log_p.  An answer that
    has ended keeps its place unless K others are better.
    """
    batch, device = len(source), source.device
    first = torch.arange(batch, device=device).unsqueeze(1)  # (B, 1)
    rows = first.repeat(1, size).flatten()  # (B * K,): 0 0 0 1 1 1 ...
    state = rows_of(model.encode(source, lengths), rows)  # (L, B * K, H)
    word = torch.full((batch * size, 1), BOS, device=device)
    done = torch.zeros_like(word, dtype=torch.bool)  # (B * K, 1)
    count, written = torch.zeros_like(word), word[:, :0]
    # The K rows begin alike.  Only the first may be extended, or they would stay alike.
    total = torch.full((batch, size), -math.inf, device=device)
    total[:, 0] = 0.0
    for _ in range(limit):
        logp, state = next_words(model, word, state)  # (B * K, V)
        best, words = extend(logp, done, size)  # (B * K, C)
        sums, count = total.view(-1, 1) + best, count + (~done).long()
        chosen = (sums / count).view(batch, -1).topk(size).indices  # (B, K), of K * C
        total = sums.view(batch, -1).gather(1, chosen)  # (B, K)
        word = words.view(batch, -1).gather(1, chosen).view(-1, 1)  # (B * K, 1)
        # Whose extension is it?  Everything of that row moves along, its state too.
        rows = (first * size + chosen // best.shape[1]).flatten()  # (B * K,)
        state, count, done = rows_of(state, rows), count[rows], done[rows]
        written = torch.cat([written[rows], word], dim=1)  # (B * K, T)
        done = done | (word == EOS)
        if (done.view(batch, size) | (total == -math.inf)).all():
            break
    log_p, winner = (total / count.view(batch, size)).max(1)  # (B,)
    return written.view(batch, size, -1)[first.squeeze(1), winner], log_p


def answer(model, words, texts, size, limit, args):
    """N texts, of which `limit` words are read -> N answers and log_p (N,)."""
    tensors = utils.encode_pairs([(text, "") for text in texts], words, limit)
    batches = utils.Batches(tensors, 640 // size, args.device, bucket="source")

    def search(model, batch):
        given = batch["source"], batch["source_length"], limit + 1
        how = beam_search(model, *given, size) if size > 1 else greedy(model, *given)
        ids = F.pad(how[0], (0, limit + 1 - how[0].shape[1]), value=PAD)
        return torch.cat([ids.float(), how[1].unsqueeze(1)], dim=1)  # (B, limit + 2)

    found = utils.collect(model, search, batches, args)  # (N, limit + 2)
    rows = [[i for i in row if i > EOS] for row in found[:, :-1].long().tolist()]
    texts = [utils.join_words(words[1].decode(row)) for row in rows]
    return texts, found[:, -1]


def score(task, answers, truth):
    """Answers and true targets, N texts each -> {measure: value}."""
    sides = [map(utils.split_pair, side) for side in (answers, truth)]
    pairs = list(zip(*sides, strict=True))
    exact = {"exact_match": sum(row == goal for row, goal in pairs) / len(pairs)}
    if task == "translate":
        bleu = utils.bleu_scores(answers, truth)
        return {"bleu": bleu["bleu"], "bleu_13a": bleu["bleu_13a"]} | exact
    right = [a == b for row, goal in pairs for a, b in zip(row, goal)]  # by place
    places = sum(max(len(row), len(goal)) for row, goal in pairs)
    return exact | {"token_accuracy": sum(right) / places}


def baselines(task, train, test):
    """What a sceptic asks for, on test: name -> scores."""
    asked, truth = map(list, zip(*test, strict=True))
    if task == "translate":
        made = utils.pair_baselines(train, test)
        return {name: score(task, texts, truth) for name, texts in made.items()}
    luck = sum(0.1 ** len(text.split()) for text in truth) / len(truth)
    chance = {"exact_match": luck, "token_accuracy": 0.1}  # told how many digits
    return {"copy": score(task, asked, truth), "chance": chance}


def by_length(model, data, texts, args):
    """Greedy answers, `texts` to test and to sequences of other lengths; a picture."""
    longest, draw = args.max_length + BEYOND, torch.Generator().manual_seed(8)
    others = [*range(1, SHORTEST), *range(args.max_length + 1, longest + 1)]
    new = draw_pairs([n for n in others for _ in range(200)], draw)
    given = data.vocabularies, [source for source, _ in new], 1, longest
    texts = texts + answer(model, *given, args)[0]
    groups, table = {}, {}
    for pair, text in zip(data.parts[2] + new, texts, strict=True):
        groups.setdefault(len(pair[0].split()), []).append((text, pair[1]))
    for size, group in sorted(groups.items()):
        table[size] = score(args.task, *map(list, zip(*group, strict=True)))
    title = f"{data.source.label}, {args.cell}: greedy answers by length of the source"
    label = f"digits (training: {SHORTEST} to {args.max_length})"
    utils.print_table(title, table, corner=label)
    print("Reading it: a state of one size for all.  Beyond training two causes mix, a")
    print("full state and lengths never met (see 1); a larger --max-length parts them.")
    lines = {kind: [row[kind] for row in table.values()] for kind in table[1]}
    utils.plot_lines(args, "length", title, lines, label, "share", x=list(table))


def ways(args):
    """The searches to show: beam size -> name."""
    return {1: "greedy"} | {k: f"beam {k}" for k in [args.beam_size] if k > 1}


def explain(data, found, perplexity, args):
    """What stands below the table.  found: name of a search -> (texts, log_p)."""
    asked, truth = map(list, zip(*data.parts[2], strict=True))
    if args.task == "translate":
        bleu = utils.bleu_scores(truth, truth)
        print(f"bleu {bleu['signature']}, bleu_13a the same with case:mixed")
    print("Reading it: exact_match counts whole answers; log_p, the mean over a text's")
    print("words, is what both searches try to raise.  Perplexity of the true words,")
    print(f"each given those before it: {perplexity:.4f} (1 would be sure of each).")
    if len(found) > 1:
        (_, low), (_, high) = found.values()
        more, less = int((high > low + 1e-5).sum()), int((high < low - 1e-5).sum())
        print(f"Beam search found a higher log_p {more:,} times, a lower one {less:,}.")
    for i in range(min(3, len(asked))):
        print(f"  {asked[i]}\n    truth   {truth[i]}")
        for name, (texts, _) in found.items():
            print(f"    {name:<7} {texts[i]}")


def report(model, records, data, args):
    """The table on test beside its baselines, examples, metrics.json."""
    asked, truth = map(list, zip(*data.parts[2], strict=True))
    rows, found, metrics, words = {}, {}, {}, data.vocabularies
    for size, name in ways(args).items():
        texts, log_p = answer(model, words, asked, size, args.max_length, args)
        scores = score(args.task, texts, truth) | {"log_p": log_p.mean().item()}
        rows[f"{args.cell}, {name}"], found[name] = scores, (texts, log_p)
        end = "_beam" if size > 1 else ""
        metrics |= {f"test_{key}{end}": value for key, value in scores.items()}
    loss = utils.evaluate(model, make_step(1.0), data.batches[2], args)["loss"]
    metrics["test_perplexity"] = math.exp(min(loss, 700))
    others = baselines(args.task, data.parts[0], data.parts[2])
    utils.print_table(f"{data.source.label}: test, {len(asked):,} pairs", rows | others)
    explain(data, found, metrics["test_perplexity"], args)
    known = {name: next(iter(row.values())) for name, row in others.items()}
    units = int(data.batches[0].lengths["target_length"].sum()), "target words"
    training = utils.training_summary(records, *units)
    size = utils.count_parameters(model)
    utils.write_metrics(args, data.source, metrics, known, training, size)
    return found["greedy"][0]


def print_predictions(model, words, args):
    """The answers to --predict, greedy and by beam search."""
    limit = args.max_length + (BEYOND if args.task == "reverse" else 0)
    for text in args.predict:
        given = utils.split_pair(text)
        print(text if len(given) <= limit else f"The first {limit} words of {text:.60}")
        if unknown := [word for word in given if word not in words[0]]:
            print(f"  read as {utils.UNK}: {', '.join(unknown[:10])}")
        for size, name in ways(args).items():
            texts, log_p = answer(model, words, [text], size, limit, args)
            print(f"  {name:<7} {texts[0]}  (log_p {log_p.item():.2f})")
    print("Reading it: it answers anything, in the words of its training.")


# ====================================================================================
# 5. Command line
# ====================================================================================

SIZES = {"reverse": 64, "translate": 256}  # of the embeddings
TRANSLATE = {"epochs": 6, "batch_size": 64, "lr": 0.003, "hidden_size": 256}
TRANSLATE |= {"dropout": 0.3, "max_length": 50}


def make_flags(argv=()):
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    own = "two texts a line, a tab between them; implies --task translate"
    utils.add_data_flags(parser, ["multi30k", "sample"], own)
    sizes = {"epochs": 10, "batch_size": 128, "hidden_size": 128}
    utils.add_training_flags(parser, lr=0.005, **sizes)
    add = parser.add_argument_group("this lesson").add_argument
    add("--task", choices=list(SIZES), default="reverse", help="sets other defaults")
    add("--cell", choices=list(CELLS), default="lstm")
    add("--teacher-forcing", type=utils.real(0, 1), default=1, help="share of batches")
    add("--reverse-source", action="store_true", help="encode the last word first")
    add("--max-length", type=utils.whole(1, 1000), default=10, help="in words")
    add("--beam-size", type=utils.whole(1, 100), default=5, help="1: greedy alone")
    add("--predict", nargs="+", metavar="TEXT", default=[])
    first = parser.parse_known_args(argv)[0]
    if first.task == "translate" or first.input or first.dataset != "auto":
        parser.set_defaults(task="translate", **TRANSLATE)
    return parser


def check_flags(args):
    """What argparse cannot know; and digits may come without spaces."""
    if args.task == "reverse":
        if args.input or args.dataset != "auto":
            raise utils.UserError("--task reverse makes its own data; drop --task")
        args.predict = [" ".join("".join(text.split())) for text in args.predict]
    if not all(utils.split_pair(text) for text in args.predict):
        raise utils.UserError("--predict takes texts of one word or more")


def new_card(source, parts, args):
    """How to build a new model for this data: what a checkpoint will carry."""
    # A word seen once teaches little; as UNK, such words teach what to do with UNK.
    least = 2 if len(parts[0]) >= 10_000 else 1
    sides = [v.tokens for v in utils.pair_vocabularies(parts[0], least)]
    config = {"words": [*map(len, sides)], "embedding": SIZES[args.task]}
    config |= {"cell": args.cell, "hidden": args.hidden_size, "layers": args.num_layers}
    config |= {"dropout": args.dropout, "backwards": args.reverse_source}
    return utils.model_card(args, source, config, **dict(zip(BOTH, sides)))


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    args = utils.parse_flags(make_flags(argv), argv, __file__)
    check_flags(args)
    source, parts = choose_pairs(args)
    about = new_card(source, parts, args)
    if args.eval_only:
        tables = ("embed_source.weight", "embed_target.weight")
        about = utils.load_card(args, dict(zip(BOTH, tables)), dataset=source.name)
    data = batch_pairs(source, parts, about, args)
    sizes = " / ".join(f"{len(part):,}" for part in parts)
    words = " and ".join(f"{len(v):,}" for v in data.vocabularies)
    print(f"{source.label}: {sizes} pairs; {words} words in the vocabularies")
    if args.eval_only:
        print(f"The model in {args.path} was trained on {about['dataset']}")
        model = utils.load_model(Seq2Seq, about, args.path).to(args.device)
        args.cell, records = about["config"]["cell"], []
    else:
        model = Seq2Seq(**about["config"]).to(args.device)
        step = make_step(args.teacher_forcing)
        records = list(utils.fit(model, step, *data.batches[:2], args, about))
    texts = report(model, records, data, args)
    if args.task == "reverse":
        by_length(model, data, texts, args)
    panels = {"nats a word": ["loss", "val_loss"], "gradient norm": ["grad_norm"]}
    utils.plot_records(args, f"Training, {source.label}, {args.cell}", records, panels)
    if args.predict:
        print_predictions(model, data.vocabularies, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
