"""09 · Where should the decoder look?

Lesson 08's decoder knows the source through one vector, however long the sentence is.
Attention lets it look back: at each word that it writes, it weighs all the words that
the encoder has read, and takes their weighted mean.

What you will learn
    - four scores (additive, dot, general, scaled dot-product), a line or two each
    - why padding is masked, and why before the softmax
    - attention after the recurrence, in one fused call, and input feeding, which is not
    - beam search over a batch; and when a gain in BLEU is more than luck
    - self-attention, and what it has lost: the order of the words

Run it
    python 09_attention_mechanism.py --predict "a man in a red shirt"
    python 09_attention_mechanism.py --attention-type all
    python 09_attention_mechanism.py --input FILE        # a source, a tab and a target

You should see  (multi30k [real], seed 0, two cores, 9 minutes; `all`: 41)
    BLEU       none   additive   dot    general   scaled-dot-product   a dictionary
    greedy     32.5   54.7       55.5   55.1      54.8                 17.4
    beam 5     34.9   56.9       57.4   57.3      57.0
    Gaps to none: p = 0.001, the least that 1,000 draws can show.  --dataset sample
    [sample], a minute: exact match 0.9917 with additive attention, 0.4783 with none.

Try this  (guess first, then run)
    --attention-type none       how long are the sentences on which it still works?
    --input-feeding             what does it cost, and is the gain worth it?
    --eval-only --beam-size 20  (after --save-model) does a wider search find better?
"""

# Sizes
#     B  batch (sentences)   Ts  words of the longest source   Tt  of the longest target
#     H  state, embedding     L  layers    A  inside the additive score    K  beams
#     V  target vocabulary    M  real words of a batch's targets, EOS counted

import math
import re
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================

MAX_LENGTH, ROOM = 80, 10  # words read of a text; an answer has at most 2 Ts + ROOM
PAD, UNK, BOS, EOS = range(4)  # their ids in both vocabularies
UPDATES = 800  # a small data set is read more often than --epochs' default says


def load_data(source, parts, about, args):
    """Texts, words and batches of the three parts; says how much there is of each."""
    words = [utils.Vocabulary(about[k]) for k in ("source_words", "target_words")]
    train, *rest = (utils.encode_pairs(part, words, MAX_LENGTH) for part in parts)
    options = {"device": args.device, "bucket": "source"}  # little padding
    batches = [utils.Batches(train, args.batch_size, shuffle=True, **options)]
    batches += [utils.Batches(tensors, 100, **options) for tensors in rest]
    print(f"{source.label}: pairs to train, validate and test:", *map(len, parts))
    for known, ids in zip(words, (rest[1]["source"], rest[1]["target"]), strict=True):
        share = (ids == UNK).sum() / (ids != PAD).sum()
        print(f"  {len(known):,} words; of those in test {share:.1%} unknown")
    return Namespace(source=source, parts=parts, words=words, batches=batches)


# ====================================================================================
# 2. Model
# ====================================================================================
#
# A score says how well the decoder's state q_i (the query) fits what the encoder knew
# at word j (the key k_j).  q (B, Tt, H), k (B, Ts, H) -> scores (B, Tt, Ts).


def dot(q, k):
    # e_ij = q_i . k_j                                              (Luong et al., 2015)
    return q @ k.transpose(1, 2)


def scaled_dot_product(q, k):
    # e_ij = q_i . k_j / sqrt(H)                                  (Vaswani et al., 2017)
    # A dot product of H random numbers grows like sqrt(H).  Large scores make a softmax
    # that is nearly 0 and 1, through which hardly any gradient comes back.
    return dot(q, k) / math.sqrt(q.shape[2])


def general(q, k, w):
    # e_ij = q_i . W k_j                                            (Luong et al., 2015)
    # Learned is w = sqrt(H) W: Adam moves all weights by like steps, and a score sums
    # H x H of these, so that W itself would be moved too far (measured: 8 BLEU less).
    return scaled_dot_product(q, k @ w.T)


def additive(q, k, w_q, w_k, v):
    # e_ij = v . tanh(W_q q_i + W_k k_j)                         (Bahdanau et al., 2015)
    # The only one that needs a vector for every pair (i, j): B x Tt x Ts x A numbers.
    pairs = (q @ w_q.T).unsqueeze(2) + (k @ w_k.T).unsqueeze(1)  # (B, Tt, Ts, A)
    return torch.tanh(pairs) @ v


def attend(scores, values, mask):
    """scores (B, Tt, Ts), values (B, Ts, H), mask (B, Ts), True at real words.

    Returns contexts (B, Tt, H) and weights (B, Tt, Ts), which sum to 1 over real words.
    """
    # a_ij = exp(e_ij) / sum_j exp(e_ij).  exp(-inf) = 0: padding gets no weight, and
    # takes none away.  To set its score to 0 would not do, since exp(0) = 1.
    weights = scores.masked_fill(~mask.unsqueeze(1), -math.inf).softmax(2)
    return weights @ values, weights  # c_i = sum_j a_ij v_j


# With `none` there is one key, the whole sentence's, so its weight is always 1: the
# decoder sees the same summary at every word, through as many weights as `dot` has.
SCORES = {"additive": additive, "dot": dot, "general": general}
SCORES |= {"scaled-dot-product": scaled_dot_product, "none": dot}


class Translator(nn.Module):
    """Encoder that reads both ways, attention, decoder.

    Attention comes after the recurrence (Luong et al., 2015): the LSTM's states depend
    on the words before alone, so for a target that is known, as in training, one call
    computes all of them, and one product all attention.  Bahdanau et al. (2015) attend
    before: c_i is found with the state h_{i-1} and helps to make h_i, so that what was
    looked at is remembered.  But then every word has to wait for the one before it.

    feeding: Luong's way to remember all the same (input feeding): what was combined at
    one word is joined to the next word's input.  It waits like Bahdanau's.
    """

    def __init__(self, sources, targets, hidden, layers, dropout, kind, inner, feeding):
        super().__init__()
        self.kind, self.score, self.feeding = kind, SCORES[kind], feeding
        options = {"batch_first": True, "dropout": dropout if layers > 1 else 0.0}
        self.embed_source = nn.Embedding(sources, hidden)
        self.encoder = nn.LSTM(hidden, hidden, layers, bidirectional=True, **options)
        self.shrink = nn.Linear(2 * hidden, hidden)  # both directions -> a key
        self.bridge_h, self.bridge_c = (nn.Linear(2 * hidden, hidden) for _ in "hc")
        self.embed_target = nn.Embedding(targets, hidden)
        self.decoder = nn.LSTM(hidden * (1 + feeding), hidden, layers, **options)
        self.combine = nn.Linear(2 * hidden, hidden)
        self.output = nn.Linear(hidden, targets)
        # One matrix reads target words and writes them (Press and Wolf, 2017).
        self.output.weight = self.embed_target.weight
        for embedding in (self.embed_source, self.embed_target):
            nn.init.uniform_(embedding.weight, -0.1, 0.1)
        self.dropout = nn.Dropout(dropout)
        # The score's own weights are drawn last, so that all others start alike.
        shapes = [(inner, hidden), (inner, hidden), (inner,)] * (kind == "additive")
        start = [torch.randn(shape) / hidden**0.5 for shape in shapes]
        start += [torch.eye(hidden) * hidden**0.5] * (kind == "general")  # W = I: dot
        self.score_weights = nn.ParameterList(start)

    def encode(self, ids, lengths):
        """ids (B, Ts), lengths (B,) on the CPU -> memory (B, Ts, H), mask, state."""
        x = self.dropout(self.embed_source(ids))  # (B, Ts, H)
        # Packed, so that the way back starts at the last word and not in the padding.
        x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, ends = self.encoder(x)
        states = pad_packed_sequence(states, True, total_length=ids.shape[1])[0]
        # ends: h and c, (2L, B, H) each; there and back side by side: (L, B, 2H)
        h, c = (torch.cat([end[0::2], end[1::2]], 2) for end in ends)
        mask = utils.length_mask(lengths, ids.shape[1], ids.device)  # (B, Ts)
        if self.kind == "none":
            states, mask = h[-1].unsqueeze(1), mask[:, :1]  # (B, 1, 2H), (B, 1)
        h, c = torch.tanh(self.bridge_h(h)), self.bridge_c(c)
        return self.shrink(self.dropout(states)), mask, (h, c, torch.zeros_like(h[:1]))

    def decode(self, words, state, memory, mask):
        """words (B, Tt) -> ~h (B, Tt, H), by which the next ones are chosen; the state
        after the last; the weights (B, Tt, Ts).

        state: h and c of the LSTM, (L, B, H), and ~h of the word before, (1, B, H).
        """
        x, found = self.dropout(self.embed_target(words)), []  # (B, Tt, H)
        for x_t in x.split(1, dim=1) if self.feeding else [x]:  # one call, or Tt
            *state, fed = state
            if self.feeding:
                x_t = torch.cat([x_t, fed.transpose(0, 1)], 2)  # (B, 1, 2H)
            q, state = self.decoder(x_t, tuple(state))  # (B, Tt, H) or (B, 1, H)
            scores = self.score(q, memory, *self.score_weights)  # (B, Tt, Ts)
            context, weights = attend(scores, memory, mask)
            # ~h_i = tanh(W [c_i; h_i] + b)
            combined = torch.tanh(self.combine(torch.cat([context, q], 2)))
            state = (*state, combined[:, -1:].transpose(0, 1))
            found.append((combined, weights))
        combined, weights = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        return combined, state, weights

    def forward(self, batch):
        """Scores (M, V) of the words to come, each after the true words before it."""
        memory, mask, start = self.encode(batch["source"], batch["source_length"])
        target = batch["target"]  # (B, Tt): the decoder reads it one place later
        given = F.pad(target[:, :-1], (1, 0), value=BOS)
        combined = self.decode(given, start, memory, mask)[0]  # (B, Tt, H)
        # The output layer is most of the work: spare it the padding.
        return self.output(self.dropout(combined[target != PAD])).float()


def check_by_hand():
    """Print how far our attention is from PyTorch's, in float64, with padding."""
    q, k = torch.randn(3, 4, 6).double(), torch.randn(3, 5, 6).double()
    mask = utils.length_mask(torch.tensor([5, 2, 3]), 5)
    theirs = F.scaled_dot_product_attention(q, k, k, mask.unsqueeze(1))
    gap = (attend(scaled_dot_product(q, k), k, mask)[0] - theirs).abs().max()
    print(f"Scaled dot-product by hand against PyTorch, largest difference: {gap:.0e}")


# ====================================================================================
# 3. Training
# ====================================================================================


def step(model, batch, smoothing=0.0):
    """Sums over the real words of a batch; `fit` calls it, through `partial`.

    Label smoothing (Szegedy et al., 2016): the goal is not probability 1 for the true
    word but 1 - s, and s shared by all V words.  Never quite sure, the model keeps some
    alternatives alive for the search.  Validation and test are scored without it.
    """
    log_p = model(batch).log_softmax(1)  # (M, V)
    truth = batch["target"][batch["target"] != PAD]  # (M,)
    nats = -log_p.gather(1, truth.unsqueeze(1)).sum()
    if not model.training:
        return {"loss": nats}, len(truth)
    # loss = -(1 - s) log p(truth) - s mean_v log p(v)
    loss = (1 - smoothing) * nats - smoothing * log_p.mean(1).sum()
    return {"loss": loss, "nats": nats}, len(truth)


def train_model(kind, about, data, args):
    """A new model of this kind, always from the same seed: (model, records)."""
    utils.set_seed(args.seed)
    about = {**about, "config": {**about["config"], "kind": kind}}
    if args.attention_type == "all":  # a folder each, so that --resume can go on
        print(f"Training {kind}")
        args = Namespace(**vars(args) | {"out_dir": f"{args.out_dir}/{kind}"})
        args.resume = args.resume and Path(args.out_dir, "last.pt").exists()
    model = Translator(**about["config"]).to(args.device)
    smooth = partial(step, smoothing=args.label_smoothing)
    return model, list(utils.fit(model, smooth, *data.batches[:2], args, about))


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================


@torch.no_grad()
def search(model, batch, size):
    """The best answers to a batch of sources: a list of (ids, weights (words, Ts)).

    Beam search keeps the K = `size` best beginnings of every sentence, and goes on from
    all of them; K = 1 is greedy search.  Best is by log p per word, EOS counted: by the
    sum, each further word makes an answer worse, and short ones would win.
    """
    ids, lengths = batch["source"], batch["source_length"]
    memory, mask, state = model.eval().encode(ids, lengths)
    # Each sentence K times, one below the other: B * K rows for the decoder.
    source = [part.repeat_interleave(size, 0) for part in (memory, mask)]
    state = tuple(part.repeat_interleave(size, 1) for part in state)
    words = ids.new_full((len(lengths) * size, 1), BOS)
    looked = memory.new_zeros(len(words), 0, memory.shape[1])
    limits = (2 * lengths + ROOM).to(words.device).unsqueeze(1)  # (B, 1)
    length = torch.zeros_like(words).view(-1, size)  # (B, K), words of each beam
    ended, total = length.bool(), length.float()  # total: log p of all its words
    total[:, 1:] = -math.inf  # at first the K beams are the same: let one count
    first = torch.arange(len(lengths), device=words.device).unsqueeze(1) * size
    while not ended.all():
        combined, state, weights = model.decode(words[:, -1:], state, *source)
        scores = model.output(combined[:, -1]).float()  # (B * K, V)
        scores[:, :EOS] = -math.inf  # PAD, UNK and BOS cannot be written
        log_p = scores.log_softmax(1).view(*ended.shape, -1)  # (B, K, V)
        # A beam that has ended stays what it is: padding follows, and costs nothing.
        log_p[ended] = -math.inf
        log_p[..., PAD].masked_fill_(ended, 0.0)
        totals, length = total.unsqueeze(2) + log_p, length + ~ended
        ranks = (totals / length.unsqueeze(2)).flatten(1)  # (B, K * V)
        best = ranks.topk(size).indices  # (B, K), the best first
        parent, word = best // log_p.shape[2], best % log_p.shape[2]
        total, length = totals.flatten(1).gather(1, best), length.gather(1, parent)
        ended = ended.gather(1, parent) | (word == EOS) | (length >= limits)
        rows = (first + parent).flatten()  # a beam may go on in two ways, or in none
        words = torch.cat([words[rows], word.view(-1, 1)], 1)
        looked = torch.cat([looked, weights], 1)[rows]  # (B * K, words, Ts)
        state = tuple(part[:, rows] for part in state)
    found = zip(words[::size, 1:], looked[::size].cpu(), lengths, strict=True)
    return [(w[w > EOS].tolist(), a[: (w > EOS).sum(), :n]) for w, a, n in found]


def translate(model, texts, data, args, size):
    """(words, weights (words, Ts)) of the best answer to each text, by `search`."""
    tensors = utils.encode_pairs([(text, "") for text in texts], data.words, MAX_LENGTH)
    found, decode = {}, data.words[1].decode
    with utils.autocast(args):
        for batch in utils.Batches(tensors, 100, args.device, bucket="source"):
            rows = search(model, batch, size)
            found.update(zip(batch["index"].tolist(), rows, strict=True))
    return [(decode(found[i][0]), found[i][1]) for i in range(len(texts))]


def text_scores(answers, pairs):
    """BLEU without case, BLEU with case, share of answers right word by word."""
    truth = [target for _, target in pairs]
    found = utils.bleu_scores(answers, truth)
    split = ([utils.split_pair(text) for text in side] for side in (answers, truth))
    found["exact_match"] = sum(a == b for a, b in zip(*split, strict=True)) / len(truth)
    return {name: found[name] for name in ("bleu", "bleu_13a", "exact_match")}


def judge(model, records, data, args):
    """A trained model on test: greedy answers, its scores, what it cost."""
    texts, start = [text for text, _ in data.parts[2]], perf_counter()
    rows = translate(model, texts, data, args, 1)
    costs = {"greedy_s": perf_counter() - start}
    beam = translate(model, texts, data, args, args.beam_size)
    answers, beam = ([utils.join_words(w) for w, _ in found] for found in (rows, beam))
    scores = text_scores(answers, data.parts[2])
    scores["bleu_beam"] = text_scores(beam, data.parts[2])["bleu"]
    nats = utils.evaluate(model, step, data.batches[2], args)["loss"]
    scores["perplexity"] = math.exp(min(nats, 700))
    costs["train_s"] = sum(record["seconds"] for record in records)
    return answers, scores, costs | {"parameters": utils.count_parameters(model)}


def luck(answers, pairs):
    """p of each gap in BLEU to `none`: paired bootstrap (Koehn, 2004), 1,000 draws.

    Each draws test sentences with replacement; p is how often the gap then strays from
    its mean by as much as the gap itself.
    """
    order, truth = list(reversed(SCORES)), [target for _, target in pairs]  # none first
    bleu, systems = BLEU(lowercase=True, force=True), [(k, answers[k]) for k in order]
    test = PairedTest(systems, {"BLEU": bleu}, [truth], test_type="bs", n_samples=1000)
    base, *rest = test()[1]["BLEU"]
    p = [r.p_value if r.score != base.score else 1.0 for r in rest]  # no gap: no news
    return dict(zip(order[1:], p, strict=True))


def report(models, data, args):
    """Table and metrics.json; returns the answers.  models: kind: (model, records)."""
    pairs, answers, rows, metrics = data.parts[2], {}, {}, {}
    for kind, (model, records) in models.items():
        answers[kind], scores, costs = judge(model, records, data, args)
        rows[kind] = scores | costs
        metrics[kind] = {f"test_{name}": x for name, x in scores.items()} | costs
    for kind, p in luck(answers, pairs).items() if len(models) > 1 else ():
        rows[kind]["p"] = metrics[kind]["p"] = p
    for name, texts in utils.pair_baselines(data.parts[0], pairs).items():
        answers[name], rows[name] = texts, text_scores(texts, pairs)
    utils.print_table(f"{data.source.label}: test, {len(pairs):,} sentences", rows)
    about = utils.bleu_scores(["a"], ["a"])
    print(f"bleu, of plain text: {about['signature']}; bleu_beam: --beam-size")
    print(f"bleu_13a, with case: {about['signature_13a']}; an answer has one capital")
    print("Reading it: BLEU asks how many runs of 1 to 4 words the reference has too;")
    print("greedy_s, train_s: seconds; p below 0.05: the gap to none is hardly luck.")
    kind = next(iter(models))
    known = {name: row["bleu"] for name, row in rows.items() if name not in models}
    words = int(data.batches[0].lengths["target_length"].sum())
    training = utils.training_summary(models[kind][1], words, "target words")
    rest = known, training, rows[kind]["parameters"], metrics if len(models) > 1 else {}
    utils.write_metrics(args, data.source, metrics[kind], *rest)
    return answers


def draw(models, answers, data, args):
    """BLEU by the length of the source, and losses: a curve for each model."""
    lengths = data.batches[2].lengths["source_length"]  # (N,)
    groups, lines, losses = lengths.argsort(stable=True).chunk(5), {}, {}
    for name, texts in answers.items():
        both = [([texts[i] for i in g], [data.parts[2][i] for i in g]) for g in groups]
        lines[name] = [text_scores(*some)["bleu"] for some in both]
    for kind, (_, records) in models.items():
        for name in ("val_loss", "nats")[: 1 if len(models) > 1 else 2] * bool(records):
            losses[f"{kind}, {name}"] = [math.nan, *(r[name] for r in records)]
    x = [lengths[group].float().mean().item() for group in groups]
    axes = (lines, "words of the source: mean of each fifth of test", "BLEU, greedy")
    utils.plot_lines(args, "bleu_by_length", f"Test, {data.source.label}", *axes, x=x)
    utils.plot_lines(args, "loss", data.source.label, losses, "epoch", "nats a word")


def examples(data):
    """Up to four short test sources with a colour: French puts it after the noun."""
    texts, colour = [text for text, _ in data.parts[2]], r"(?i)\b(red|blue|black)\b"
    good = [text for text in texts if len(text) < 60 and re.search(colour, text)]
    return (good or texts)[:4]


def show_alignment(model, texts, data, args):
    """Translations by beam search, and where each word looked, also as pictures."""
    rows = translate(model, texts, data, args, args.beam_size)
    for k, (text, (target, weights)) in enumerate(zip(texts, rows, strict=True), 1):
        source = utils.split_pair(text)[:MAX_LENGTH]
        print(f"\n  {text[:200]}\n  -> {utils.join_words(target)}")
        if unknown := [word for word in source if word not in data.words[0]]:
            print(f"     (words that training lacks: {' '.join(unknown[:9])})")
        if model.kind == "none" or not target:
            continue
        for word, row in zip(target, weights, strict=True):
            best = int(row.argmax())
            print(f"     {word:<14} {row[best]:4.0%}  {source[best]}")
        axes = (f"{data.source.label}, {model.kind}", weights, target, source, "source")
        utils.plot_matrix(args, f"alignment_{k}", *axes, "answer", "weight")
    if model.kind != "none":
        print("Reading it: how much, and at which source word, each word looked most.")


def show_self_attention(model, text, data):
    """Queries, keys and values from one sequence: what is left, and what is lost."""
    ids = utils.encode_pairs([(text, "")], data.words, MAX_LENGTH)["source"]
    x = model.embed_source(ids.to(model.output.weight.device)).detach()  # (1, T, H)
    mask = utils.length_mask(torch.tensor([x.shape[1]]), x.shape[1], x.device)  # (1, T)
    readers = {"attention": lambda x: attend(scaled_dot_product(x, x), x, mask)[0]}
    readers["recurrence"] = lambda x: model.encoder(x)[0]
    print("\nSelf-attention: reverse the words, then the outputs; they change by up to")
    for name, read in readers.items():
        print(f"  {name:<11} {(read(x.flip(1)).flip(1) - read(x)).abs().max():.0e}")
    print("Reading it: to attention, a sentence is a set of words; recurrence knew the")
    print("order.  Transformers, in which no word waits for another, add each word's")
    print("place: Vaswani et al. (2017), Attention is all you need, section 3.5.")


# ====================================================================================
# 5. Command line
# ====================================================================================


def make_flags():
    parser = utils.make_parser(__doc__)
    utils.add_common_flags(parser)
    utils.add_data_flags(parser, ["multi30k", "sample"], "tab-separated pairs")
    sizes = {"batch_size": 64, "hidden_size": 256, "dropout": 0.2}
    utils.add_training_flags(parser, epochs=6, lr=0.003, **sizes)
    add = parser.add_argument_group("this lesson").add_argument
    add("--attention-type", choices=[*SCORES, "all"], default="additive")
    add("--input-feeding", action="store_true", help="remember where one has looked")
    add("--label-smoothing", type=utils.real(0, 0.9), default=0.1)
    add("--beam-size", type=utils.whole(1, 100), default=5, help="1: greedy")
    add("--predict", nargs="+", metavar="TEXT", default=[])
    return parser


def new_card(source, parts, args):
    """How to build a new model for these pairs: what a checkpoint will carry."""
    often = 2 if len(parts[0]) > 10_000 else 1  # of few pairs, keep every word
    given, wanted = (v.tokens for v in utils.pair_vocabularies(parts[0], often))
    config = {"sources": len(given), "targets": len(wanted)}
    config |= {"hidden": args.hidden_size, "inner": min(args.hidden_size, 128)}
    config |= {"layers": args.num_layers, "dropout": args.dropout}
    config |= {"kind": args.attention_type, "feeding": args.input_feeding}
    names = {"source_words": given, "target_words": wanted}
    return utils.model_card(args, source, config, **names)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    args = utils.parse_flags(make_flags(), argv, __file__)
    kinds = SCORES if args.attention_type == "all" else [args.attention_type]
    if len(kinds) > 1 and (args.save_model or args.eval_only or args.predict):
        what = "--save-model, --eval-only and --predict"
        raise utils.UserError(f"--attention-type all compares models; drop {what}")
    if not all(text.strip() for text in args.predict):
        raise utils.UserError("--predict takes texts of one word or more")
    check_by_hand()
    offline = {"sample": utils.SAMPLES / "en-fr.tsv"}
    source = utils.choose_dataset(args, ["multi30k"], offline)
    parts, words = utils.load_pairs(args, source), ["source_words", "target_words"]
    if args.eval_only:
        tables = ("embed_source.weight", "embed_target.weight")
        lists = dict(zip(words, tables, strict=True))
        about = utils.load_card(args, lists, dataset=source.name)
        model = utils.load_model(Translator, about, args.path).to(args.device).eval()
        data, models = load_data(source, parts, about, args), {model.kind: (model, [])}
        args.attention_type, args.input_feeding = model.kind, model.feeding
    else:
        about = new_card(source, parts, args)
        data = load_data(source, parts, about, args)
        if not args.quick and not any(flag.startswith("--epochs") for flag in argv):
            args.epochs = max(args.epochs, math.ceil(UPDATES / len(data.batches[0])))
        models = {kind: train_model(kind, about, data, args) for kind in kinds}
    answers = report(models, data, args)
    if not args.no_plots:
        draw(models, answers, data, args)
    texts, (model, _) = args.predict or examples(data), next(iter(models.values()))
    show_alignment(model, texts, data, args)
    show_self_attention(model, texts[0], data)


if __name__ == "__main__":
    sys.exit(utils.run(main))
