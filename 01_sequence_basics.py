"""01 · What is a sequence, and why does its order need a network of its own?

What you will learn
    - A batch of sequences is a tensor (B, T, F): B sequences, T time steps, F features.
    - The same items in another order are another sequence.  A model that adds the items
      up cannot tell the two apart, a recurrent network can: you train both.
    - How sliding windows cut a long series into sequences.
    - How sequences of unequal length share a tensor (padding, mask, packing), and what
      goes wrong without: a sum over padding, a last hidden state read at the padding.
    - One recurrent step by hand in NumPy, equal to nn.RNNCell and nn.RNN.
    - A training loop, line by line: forward, loss, zero_grad, backward, step.
    You need Python, a little NumPy, and what a linear layer is: y = W x + b.

Run it
    python 01_sequence_basics.py
    python 01_sequence_basics.py --quick
    python 01_sequence_basics.py --sequence-length 20 --batch-size 16

You should see (generated [sample] data, --seed 0, CPU with two cores, 5 s in all)
    parts 1-2   a sequence and its twin with equal sums; a series cut into windows
    parts 3-4   42 % of a batch is padding; six rows packed: 38 items, not 72 cells
    part 5      NumPy and nn.RNN differ by at most 1.2e-07
    part 6      a last state read at the padding is off by up to 0.466; packed, by 0.000
    part 7      "A before B?" on 400 held-out sequences: guessing 0.5000, sum model
                0.5000, recurrent network 1.0000
    part 8      two heatmaps of the trained network's hidden state, one for each order

Try this (guess first, then run)
    - `--sequence-length 40`, then 100: the first letter must be remembered for up to
      39, then 99 steps.  Does the network learn it?  The end of part 8 tells why.
    - `--batch-size 1600`: all training data in one batch.  Are 12 steps enough?
    - `--seed 1`: which accuracy could change, and which one cannot?
"""

# Sizes
#   B  batch: sequences computed together (--batch-size)
#   T  time: steps in a sequence (--sequence-length)
#   F  features: numbers in one step; here 5, one for each letter from A to E
#   H  hidden: numbers in the network's memory; here 8
#   N  examples in a data set

import math
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import rnn_utils as utils

LETTERS = ".ABCDE"  # a letter's place is its id; 0, shown as a dot, means padding
A_ID, B_ID = 1, 2
FEATURES = len(LETTERS) - 1
HIDDEN = 8
PAIRS, QUICK_PAIRS = 1000, 200
EPOCHS, LEARNING_RATE = 12, 0.01

# ====================================================================================
# 1. Data
# ====================================================================================


def make_data(length, pairs):
    """Twins: sequences in which only the order of A and B differs; label 1: A is first.

    Each sequence is an A, a B and fillers from C, D, E; its twin has A and B swapped.
    Returns train ids (N, T), train labels (N,), test ids (N, T), test labels (N,), with
    twins side by side: 80 % of the pairs are for training, the rest is held out.
    """
    # A fixed seed: --seed changes how the networks start, never the data.
    rng = np.random.default_rng(20240103)
    ids = rng.integers(3, len(LETTERS), (pairs, length))  # (P, T)
    # Where random numbers are smallest and second smallest is a random pair of places.
    places = np.sort(np.argsort(rng.random((pairs, length)))[:, :2])  # (P, 2)
    row = np.arange(pairs)
    ids[row, places[:, 0]], ids[row, places[:, 1]] = A_ID, B_ID
    # Repeats go (P shrinks): else a test sequence might also be a training sequence.
    ids = rng.permutation(np.unique(ids, axis=0))  # (P, T)
    swapped = np.select([ids == A_ID, ids == B_ID], [B_ID, A_ID], ids)  # (P, T)
    twins = torch.from_numpy(np.stack([ids, swapped], axis=1))  # (P, 2, T)
    labels = torch.tensor([1, 0]).repeat(len(twins))  # (N,), N = 2 P
    cut = round(0.8 * len(twins))  # a cut between pairs, so that twins stay together
    train_ids, test_ids = twins[:cut].flatten(0, 1), twins[cut:].flatten(0, 1)
    return train_ids, labels[: 2 * cut], test_ids, labels[2 * cut :]


def one_hot(ids):
    """Letter ids (..., T) -> (..., T, F): a 1 in the letter's column, 0 elsewhere.

    As ids, E (5) would be five times as much as A (1), which means nothing.  Column 0
    is dropped, so that padding becomes a step of zeros.
    """
    return nn.functional.one_hot(ids, len(LETTERS))[..., 1:].float()  # (..., T, F)


def spell(ids):
    """Letter ids (T,) as text."""
    return "".join(LETTERS[i] for i in ids)


def show_order(batch):
    """Print a batch (B, T) of letters as a tensor, and a pair of twins with sums."""
    heading("1. A sequence is a table: T time steps by F features")
    x = one_hot(batch)  # (B, T, F)
    print(f"A batch is a tensor (B, T, F) = {tuple(x.shape)}.  Its first sequence,")
    print(f"{spell(batch[0])}, with time from left to right and one line a feature:")
    for letter, values in zip(LETTERS[1:], x[0].T.int().tolist(), strict=True):
        print(f"  is it {letter}?  {' '.join(map(str, values))}")
    print("It and its twin, each with its sum over time, shape (F,):")
    for ids, total in zip(batch[:2], x.sum(1).int().tolist(), strict=False):
        print(f"  {spell(ids)}  sum {total}")
    print("Read: equal sums, so whoever sees only the sum cannot know the order.")


def sliding_windows(series, length):
    """A series (S,), S > T -> windows x (S - T, T, 1), next values y (S - T,)."""
    windows = series.unfold(0, length, 1)  # (S - T + 1, T): a view, nothing is copied
    # Nothing follows the last window, so it cannot be an example.
    return windows[:-1].unsqueeze(-1), series[length:]  # (S - T, T, 1), (S - T,)


def show_windows(length):
    """Print the windows of 0, 1, 2, ..., where a value is its own position."""
    heading("2. A long series becomes many sequences: sliding windows")
    series = torch.arange(length + 4)  # (S,)
    x, y = sliding_windows(series, length)  # (N, T, 1), (N,)
    print(f"Series 0 to {length + 3}, T = {length}: x is {tuple(x.shape)}, so F = 1")
    for row, target in zip(x[..., 0].tolist(), y.tolist(), strict=True):
        print(f"  {row[0]} {row[1]} {row[2]} ... {row[-1]}  ->  {target}")
    print(f"Read: neighbours share {length - 1} of {length} values.  Split a series")
    print("before cutting windows, or test values will stand in training windows.")


def cut_rows(ids):
    """Cut sequences (B, T) to lengths from 2 to T: a list of tensors (length,)."""
    size, length = ids.shape
    lengths = np.random.default_rng(20240107).integers(2, length + 1, size)  # (B,)
    lengths[:2] = length, length // 2  # so that any batch has something to pad
    return [row[:n] for row, n in zip(ids, lengths.tolist(), strict=True)]


def pad_rows(rows):
    """Rows of unequal length -> ids (B, T) filled up with 0, lengths (B,), mask (B, T).

    T is the longest length; the mask is True on real items, False on padding.
    Later lessons take both from rnn_utils: `pad` and `length_mask`.
    """
    lengths = torch.tensor([len(row) for row in rows])  # (B,)
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)  # (B, T)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    # (T,) against (B, 1): position t is real where t is less than the row's length.
    mask = torch.arange(ids.shape[1]) < lengths[:, None]  # (B, T)
    return ids, lengths, mask


def show_padding(rows, few):
    """Print how much of a batch is padding; of a few rows the grid, mask and sums."""
    heading("3. Sequences of unequal length: padding and mask")
    mask = pad_rows(rows)[2]  # (B, T)
    unused = 100 * (~mask).float().mean()
    print(f"{len(rows)} rows of unequal length make a grid (B, T) {tuple(mask.shape)};")
    print(f"{unused:.0f} % of it is padding, shown as dots.  Some of the rows:")
    ids, lengths, mask = pad_rows(few)
    # A linear layer with weights 1, bias 0.5 makes 1.5 of a letter and 0.5 of a dot.
    output = one_hot(ids).sum(-1) + 0.5  # (B, T)
    plain, masked = output.sum(1), (output * mask).sum(1)  # (B,), (B,)
    print("  ids, mask, length, sum over all steps, sum under the mask")
    for i, real in enumerate(mask.int().tolist()):
        cells = f"{spell(ids[i])}  {''.join(map(str, real))}  {lengths[i]:>3}"
        print(f"  {cells}  {plain[i]:>6.1f}  {masked[i]:>6.1f}")
    print("Read: summed is a layer's output, 1.5 for a letter and its bias 0.5 for a")
    print("dot.  Only under the mask is it 1.5 * length, as if there were no padding.")


def show_packing(few):
    """Print what a PackedSequence stores: the real items, time step by time step."""
    heading("4. Packing: the same rows without the padding")
    ids, lengths, _ = pad_rows(few)
    # Longest row first; enforce_sorted=False would do the sorting here, unseen.
    packed = pack_padded_sequence(ids, lengths, batch_first=True)
    sizes = packed.batch_sizes.tolist()  # T numbers, never rising
    steps = [spell(step) for step in packed.data.split(sizes)]
    print(f"  the grid has {ids.numel()} cells, packed.data {len(packed.data)} items")
    print(f"  data         {' '.join(steps)}")
    print(f"  batch_sizes  {' '.join(str(n).ljust(n) for n in sizes)}")
    print("Read: data is the grid column by column without dots; batch_sizes tells how")
    print("many rows still run at each step.  So nn.RNN takes no step on padding.")


# ====================================================================================
# 2. Model
# ====================================================================================


def rnn_step(x, h, weights):
    """One step of a recurrent network (Elman, 1990): x (B, F), h (B, H) -> (B, H).

    weights: W_ih (H, F), W_hh (H, H), b_ih (H,), b_hh (H,), in the order of nn.RNNCell.
    Two biases where one would do: NVIDIA's cuDNN has two, and PyTorch follows.
    """
    w_ih, w_hh, b_ih, b_hh = weights
    # h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh);  .T: rows are examples
    return np.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)  # (B, H)


def rnn_by_hand(x, weights):
    """Run `rnn_step` along time: x (B, T, F) -> every hidden state (B, T, H); h_0 is 0.

    The same weights serve every step, so a sequence may have any length.  Time needs a
    loop: step t waits for the result of step t - 1.
    """
    h = np.zeros((x.shape[0], weights[1].shape[0]), x.dtype)  # (B, H)
    states = []
    for t in range(x.shape[1]):
        h = rnn_step(x[:, t], h, weights)  # (B, H)
        states.append(h)
    return np.stack(states, axis=1)  # (B, T, H)


def compare_with_torch(x, hidden):
    """Largest differences of our step from nn.RNNCell and of our loop from nn.RNN.

    x (B, T, F) on the CPU, where NumPy computes; all get the same random weights.
    """
    rnn = nn.RNN(x.shape[2], hidden, batch_first=True).to(x.dtype)
    cell = nn.RNNCell(x.shape[2], hidden).to(x.dtype)
    state = rnn.state_dict()  # nn.RNN ends the names of its weights in _l0, "layer 0"
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in state.items()})
    states = rnn_by_hand(x.numpy(), [w.numpy() for w in state.values()])  # (B, T, H)
    with torch.no_grad():
        # The second step, because at the first one h is 0 and W_hh has no part.
        second = cell(x[:, 1], torch.from_numpy(states[:, 0]))  # (B, H)
        outputs, _ = rnn(x)  # (B, T, H): the states of all steps
    step = np.abs(states[:, 1] - second.numpy()).max()
    loop = np.abs(states - outputs.numpy()).max()
    return {"step 2, nn.RNNCell": float(step), "all steps, nn.RNN": float(loop)}


def show_by_hand(x):
    """Print a network of one unit, then our network beside PyTorch's on x (B, T, F)."""
    heading("5. One recurrent step by hand")
    print("h_t = tanh(0.5 x_t + 0.8 h_(t-1)): one feature, one hidden unit, no bias")
    one_unit = [np.array([[0.5]]), np.array([[0.8]]), np.zeros(1), np.zeros(1)]
    for numbers in ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0]):
        states = rnn_by_hand(np.array(numbers).reshape(1, 3, 1), one_unit)  # (1, 3, 1)
        print(f"  x = {numbers}  h = {states.round(3).ravel().tolist()}")
    print("Read: the 1 lives on in h, weaker at each step.  Both x have the sum 1, yet")
    print("the last h differs: it depends on when the 1 came.")
    print(f"By hand against PyTorch, x {tuple(x.shape)}, H = {HIDDEN}, random weights:")
    for name, difference in compare_with_torch(x, HIDDEN).items():
        print(f"  {name:<18}  largest difference {difference:.1e}")
    print("Read: below 1e-6 is float32 rounding.  nn.RNN is this loop, compiled.")


def last_states(rnn, rows):
    """The last hidden state of rows, longest first, in four ways: name -> (B, H).

    "alone" runs each row by itself, so it has no padding and is right.
    """
    device = rnn.weight_ih_l0.device
    ids, lengths, _ = pad_rows(rows)
    x = one_hot(ids).to(device)  # (B, T, F)
    with torch.no_grad():
        alone = [rnn(one_hot(row)[None].to(device))[1][0, 0] for row in rows]
        outputs, _ = rnn(x)  # (B, T, H)
        # Lengths stay on the CPU, which plans the steps of a packed batch.
        _, last = rnn(pack_padded_sequence(x, lengths, batch_first=True))  # (1, B, H)
    return {
        "alone": torch.stack(alone),
        "last column": outputs[:, -1],
        "step length - 1": outputs[torch.arange(len(rows)), lengths - 1],
        "h_n of packed": last[0],
    }


def show_last_states(few, device):
    """Print how wrong a padded row's last state is when lengths are ignored."""
    heading("6. The last hidden state of a padded row")
    rnn = nn.RNN(FEATURES, HIDDEN, batch_first=True).to(device)
    states = last_states(rnn, few)
    alone = states.pop("alone")  # (B, H)
    print("Largest difference from the same row run alone, last state read at the")
    print("   ".join(["  length", *states]))
    errors = [(state - alone).abs().amax(1).tolist() for state in states.values()]
    for row, a, b, c in zip(few, *errors, strict=True):
        print(f"  {len(row):>6}   {a:>11.3f}   {b:>15.3f}   {c:>13.3f}")
    print("Read: the last column is wrong for each padded row.  A step of zeros is a")
    print("step like any other: W_hh and the biases go on changing h.")


class SumClassifier(nn.Module):
    """Adds the steps up, then two linear layers: x (B, T, F) -> scores (B, 2)."""

    def __init__(self, features=FEATURES, hidden=2 * HIDDEN):
        super().__init__()  # now nn.Module will collect the weights of each layer
        self.first = nn.Linear(features, hidden)
        self.second = nn.Linear(hidden, 2)

    def forward(self, x):
        total = x.sum(dim=1)  # (B, F): time is gone, and with it the order
        return self.second(torch.relu(self.first(total)))  # (B, 2)


class RNNClassifier(nn.Module):
    """Reads step by step, then a linear layer on h_T: x (B, T, F) -> scores (B, 2)."""

    def __init__(self, features=FEATURES, hidden=HIDDEN):
        super().__init__()
        self.rnn = nn.RNN(features, hidden, batch_first=True)
        self.output = nn.Linear(hidden, 2)

    def forward(self, x):
        states, _ = self.rnn(x)  # (B, T, H)
        # The last column is right here, because no sequence of this task is padded.
        return self.output(states[:, -1])  # (B, 2)


# ====================================================================================
# 3. Training
# ====================================================================================


def train_epoch(model, optimizer, x, y, batch_size):
    """One pass over x (N, T, F) and y (N,) in random batches; returns the mean loss."""
    total = 0.0
    # A new order each pass, or every batch would hold the same sequences again.
    for rows in torch.randperm(len(x)).split(batch_size):
        # Forward: what does the model say now?  Calling it calls its `forward`.
        scores = model(x[rows])  # (B, 2): one for "B is first", one for "A is first"
        # Loss: one number, low where the right label has the higher score.  This one is
        # -ln(probability of the right label), averaged: ln 2 = 0.693 for a guess.
        loss = nn.functional.cross_entropy(scores, y[rows])
        # zero_grad: `backward` adds to the gradients that are there.  Without this line
        # a step would follow the sum of all gradients since the start.
        optimizer.zero_grad()
        # Backward: how does the loss change if a weight grows a little?  In a recurrent
        # network the answer travels back through all T steps.
        loss.backward()
        # Step: change each weight a little, against its gradient: the loss falls.
        optimizer.step()
        # The loss is a batch's mean, and the last batch may be smaller: weigh it.
        total += loss.item() * len(rows)
    return total / len(x)


def train(model, x, y, batch_size):
    """EPOCHS passes with Adam; returns a record for each: number, loss, seconds."""
    # Adam (Kingma and Ba, 2015) gives each weight a step size of its own.
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    records = []
    for epoch in range(1, EPOCHS + 1):
        start = time.perf_counter()
        loss = train_epoch(model, optimizer, x, y, batch_size)
        spent = time.perf_counter() - start
        record = {"epoch": epoch, "loss": loss, "loop_seconds": spent, "seconds": spent}
        records.append(record)
    return records


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================


def accuracy(model, x, y):
    """Share of right answers on x (N, T, F), y (N,): their number divided by N."""
    with torch.no_grad():  # nothing is trained here, so no gradients need be prepared
        return (model(x).argmax(dim=1) == y).sum().item() / len(y)


def train_both(args, train_x, train_y, test_x, test_y):
    """Train both classifiers; returns {name: (model, held-out accuracy, records)}."""
    utils.set_seed(args.seed)  # whatever was drawn before: the same numbers
    results = {}
    for name, model in (("sum", SumClassifier()), ("rnn", RNNClassifier())):
        model.to(args.device)
        records = train(model, train_x, train_y, args.batch_size)
        results[name] = model, accuracy(model, test_x, test_y), records
    return results


def report(args, source, results, n_train):
    """Print the table, draw both losses, write metrics.json."""
    guess = math.log(2)
    rows = {"guessing": {"parameters": 0, "train_loss": guess, "test_accuracy": 0.5}}
    curves = {"guessing, ln 2": [guess] * EPOCHS}
    for name, (model, score, records) in results.items():
        curves[name] = [record["loss"] for record in records]
        size, loss = utils.count_parameters(model), curves[name][-1]
        rows[name] = {"parameters": size, "train_loss": loss, "test_accuracy": score}
    utils.print_table(f"A before B?  Held-out sequences: {source.label}", rows)
    print("Read: twins have one sum, so the sum model answers both alike, once right,")
    print("once wrong: 0.5 whatever its weights.  Both models are of about one size.")
    title = f"Training loss, T = {args.sequence_length}: {source.label}"
    axes = ("pass over the training sequences", "mean cross-entropy (nats)")
    utils.plot_lines(args, "training", title, curves, *axes, x=range(1, EPOCHS + 1))
    model, score, records = results["rnn"]
    main, base = {"test_accuracy": score}, {"majority": 0.5}
    summary = utils.training_summary(records, n_train, "sequences")
    each = {name: {"test_accuracy": result[1]} for name, result in results.items()}
    utils.write_metrics(
        args, source, main, base, summary, utils.count_parameters(model), each
    )


def show_states(args, source, rnn):
    """Print and draw a trained network's states for twins with fillers C only."""
    heading("8. The hidden state through time")
    length = args.sequence_length
    twins = torch.full((2, length), LETTERS.index("C"))  # (2, T)
    early = length // 3
    twins[:, early] = torch.tensor([A_ID, B_ID])
    twins[:, 2 * early] = torch.tensor([B_ID, A_ID])
    with torch.no_grad():
        states = rnn(one_hot(twins).to(args.device))[0].cpu()  # (2, T, H)
    gap = (states[0] - states[1]).abs().amax(1).tolist()  # (T,)
    names = [spell(ids) for ids in twins]
    print(f"Largest difference of the states of {names[0]} and {names[1]}:")
    for t in (early - 1, early, length - 1):
        print(f"  after step {t + 1:>3} of {length}: {gap[t]:.3f}")
    print("Read: the same up to the first of A and B.  The classifier sees the last")
    print("state only: the difference that is left there is all it can use.")
    for letter, word, h in zip("AB", names, states, strict=True):
        title = f"Hidden state, {letter} first: {source.label}"
        labels = (range(1, HIDDEN + 1), list(word), "letter read at t", "hidden unit")
        name, bar = f"hidden_{letter.lower()}_first", "h_t, between -1 and 1"
        utils.plot_matrix(args, name, title, h.T, *labels, bar=bar, centred=True)


# ====================================================================================
# 5. Command line
# ====================================================================================


def heading(text):
    """Print the title of one of the lesson's parts."""
    print(f"\n--- {text} ---")


def parse(argv):
    """The lesson's flags."""
    parser = utils.make_parser(__doc__)
    add = parser.add_argument
    steps = "time steps in a sequence, 5 to 100 (default 12)"
    rows = "sequences at a time, 2 or more (default 32)"
    add(
        "--sequence-length",
        type=utils.whole(5, 100),
        default=12,
        metavar="T",
        help=steps,
    )
    add("--batch-size", type=utils.whole(2), default=32, metavar="B", help=rows)
    utils.add_common_flags(parser)
    return utils.parse_flags(parser, argv, __file__)


def main(argv=None):
    """The eight parts of the lesson, in order."""
    args = parse(argv)
    source = utils.Source("generated", None, False)
    data = make_data(args.sequence_length, QUICK_PAIRS if args.quick else PAIRS)
    train_ids, train_y, test_ids, test_y = data
    if args.batch_size > len(train_y) and not args.quick:
        raise utils.UserError(
            f"--batch-size {args.batch_size} is more than the {len(train_y)} training "
            f"sequences of this run; give {len(train_y)} or less"
        )
    batch = train_ids[: args.batch_size]  # (B, T)
    rows = cut_rows(batch)  # B tensors (length,)
    few = sorted(rows[:6], key=len, reverse=True)  # six are enough to print
    show_order(batch)
    show_windows(args.sequence_length)
    show_padding(rows, few)
    show_packing(few)
    show_by_hand(one_hot(batch))
    show_last_states(few, args.device)
    heading("7. Does the order matter?  Two trained networks")
    passes = f"{EPOCHS} passes of {math.ceil(len(train_y) / args.batch_size)} steps"
    print(f"{len(train_y)} training sequences, {len(test_y)} others held out; {passes}")
    data = (one_hot(train_ids), train_y, one_hot(test_ids), test_y)
    results = train_both(args, *(part.to(args.device) for part in data))
    report(args, source, results, len(train_y))
    show_states(args, source, results["rnn"][0].rnn)


if __name__ == "__main__":
    sys.exit(utils.run(main))
