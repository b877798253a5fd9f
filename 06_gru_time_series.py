"""06 · Does the past tell the future?

Many a forecast on the web looks perfect: it copies yesterday's value, or its scaling
knew the test span.  This one has no such help, and is tested for chance.

What you will learn
    1. the GRU cell by hand, equal to nn.GRU, beside that of the first paper
    2. a split by time, scaling that never saw the test span, walk-forward folds
    3. baselines, MASE, and the Diebold-Mariano test of a difference
    4. several steps ahead: answered directly, or by feeding forecasts back
    5. a band that should hold 80 % of the truth, calibrated and checked

Run it
    python 06_gru_time_series.py
    python 06_gru_time_series.py --save-model --forecast 24
    python 06_gru_time_series.py --eval-only --forecast 24

You should see (seed 0, two cores, about 20 seconds)
    sunspots [real], one step ahead: RMSE 17.74; persistence 19.73, p = 0.001; linear
    autoregression 17.98, p = 0.53, so neither wins.  12 ahead: 27.77 directly, 30.46
    fed back, autoregression 31.76 (p = 0.17).  The 80 % band holds 78.5 %.
    --dataset sine [sample]: an MSE of 1.06 times the noise's own.
    --dataset stock [real]: RMSE 36.18, the same as yesterday's price (p = 0.73).

Try this (guess first, then run)
    --dataset sine                     how close to the noise can any forecast come?
    --dataset stock --leaky-scaling    in which units is the lie told?
    --dataset stock --target return    does it help to ask for the change?
    --sequence-length 6, then 150      who gains from a longer past?
"""

# Sizes
#   n   values in the series         T   values in one window (--sequence-length)
#   N   windows (examples)           h   steps ahead: 1 ... h (--horizon)
#   M   forecasts of one part        n1, n2   where validation and test start
#   B   batch      H   hidden state (h in gru_by_hand)
#   origin: the last value that a forecast knows

import sys
from argparse import Namespace

import numpy as np
import pandas as pd
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import binomtest
from scipy.stats import t as students_t
from torch import nn

import rnn_utils as utils

# ====================================================================================
# 1. Data
# ====================================================================================

TO_LEVELS = {"price": np.asarray, "return": np.log}
TO_UNITS = {"price": np.asarray, "return": np.exp}  # (a touch below the mean)


def fit_scaling(levels, horizon, target):
    """Scaling from `levels` alone: hand in the training span, and nothing else.

    steps[k-1], the root mean square of all changes over k steps, is the unit of the
    answers, so that near and far steps count alike in the loss.
    """
    read = np.diff(levels) if target == "return" else levels
    changes = [levels[k:] - levels[:-k] for k in range(1, horizon + 1)]
    steps = [float(np.mean(change**2) ** 0.5) for change in changes]
    least = 1e-6 * steps[0]  # never divide by zero
    std, steps = max(float(read.std()), least), [max(step, least) for step in steps]
    return {"mean": float(read.mean()), "std": std, "steps": steps}


def make_fold(values, length, horizon, target, scaling=None, leaky=False):
    """Split by time, 70 / 15 / 15 %; scaling is from the first part, unless leaky.

    levels: the values or, for --target return, their logarithms, whose changes the
    network then reads.  For --target price it reads the levels.
    """
    if target == "return" and values.min() <= 0:
        raise utils.UserError("--target return takes a series above zero; drop it")
    n1, n2 = round(0.70 * len(values)), round(0.85 * len(values))
    levels = TO_LEVELS[target](values)
    scaling = scaling or fit_scaling(levels if leaky else levels[:n1], horizon, target)
    shape = {"length": length, "horizon": horizon, "target": target, "n1": n1, "n2": n2}
    return Namespace(values=values, levels=levels, scaling=scaling, **shape)


def network_input(past, fold):
    """T + 1 levels up to the origin (N, T + 1) -> what the network reads (N, T, 1)."""
    read = np.diff(past, axis=1) if fold.target == "return" else past[:, 1:]
    read = (read - fold.scaling["mean"]) / fold.scaling["std"]
    return torch.tensor(read, dtype=torch.float32).unsqueeze(-1)


def make_windows(fold, start, end):
    """Examples whose targets all lie in start ... end - 1: x (N, T, 1), y (N, h)."""
    past = fold.length + 1
    first = max(start, past) - past
    whole = sliding_window_view(fold.levels[first:end], past + fold.horizon)
    y = (whole[:, past:] - whole[:, past - 1 : past]) / fold.scaling["steps"]
    x = network_input(whole[:, :past], fold)
    return {"x": x, "y": torch.tensor(y, dtype=torch.float32)}


def pasts(fold, start, end):
    """Levels known before each of start ... end - 1: (M, T + 1)."""
    known = fold.levels[start - 1 - fold.length : end - 1]
    return sliding_window_view(known, fold.length + 1)


# ====================================================================================
# 2. Model
# ====================================================================================


def gru_by_hand(x, h, w_ih, w_hh, b_ih, b_hh, original=False):
    """The whole layer: x (B, T, F), h (B, H) -> every state (B, T, H).

    original: Cho et al. (2014) reset the state before the product with W_hn; PyTorch
    resets the product, bias included, so that one product serves all three gates.
    """
    states, (w_r, w_z, w_n), (b_r, b_z, b_n) = [], w_hh.chunk(3), b_hh.chunk(3)
    for x_t in x.unbind(1):
        x_r, x_z, x_n = (x_t @ w_ih.T + b_ih).chunk(3, dim=1)  # (B, H) each
        # r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)      reset: what to leave out
        r = torch.sigmoid(x_r + h @ w_r.T + b_r)  # (B, H)
        # z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)      update: what to keep as it is
        z = torch.sigmoid(x_z + h @ w_z.T + b_z)  # (B, H)
        # n = tanh(W_in x + b_in + r * (W_hn h + b_hn))                        PyTorch
        # n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)           Cho et al. (2014)
        inner = (r * h) @ w_n.T + b_n if original else r * (h @ w_n.T + b_n)
        n = torch.tanh(x_n + inner)  # (B, H)
        # h = (1 - z) * n + z * h: where z is 1, state and gradient pass unchanged
        h = (1 - z) * n + z * h  # (B, H)
        states.append(h)
    return torch.stack(states, dim=1)  # (B, T, H)


def show_by_hand():
    """Print the largest differences between our cell and nn.GRU in float64."""
    layer = nn.GRU(3, 7, batch_first=True).double()
    x, h = torch.randn(4, 9, 3).double(), torch.zeros(4, 7).double()
    ours, theirs = gru_by_hand(x, h, *layer.parameters()), layer(x)[0]  # (4, 9, 7)
    grads = [torch.autograd.grad(s.sum(), layer.parameters()) for s in (ours, theirs)]
    gap = max((a - b).abs().max().item() for a, b in zip(*grads, strict=True))
    paper = gru_by_hand(x, h, *layer.parameters(), original=True)  # (4, 9, 7)
    print("GRU by hand against nn.GRU, largest difference in float64:")
    print(f"  states {(ours - theirs).abs().max().item():.0e}, gradients {gap:.0e}")
    print(f"  the paper's cell, another one: {(paper - theirs).abs().max():.0e} apart")


class Forecaster(nn.Module):
    """One GRU for the next step, one for steps 2 ... h; they share nothing.

    A single one for all steps spends itself on the far ones, which are more and harder:
    in a trial on the sunspots its next step came out 4 to 12 % worse.
    """

    def __init__(self, hidden, layers, dropout, horizon):
        super().__init__()
        options = {"batch_first": True, "dropout": dropout if layers > 1 else 0.0}
        steps = [1, horizon - 1] if horizon > 1 else [1]
        self.grus = nn.ModuleList(nn.GRU(1, hidden, layers, **options) for _ in steps)
        self.outputs = nn.ModuleList(nn.Linear(hidden, 3 * count) for count in steps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        """x (B, T, 1) -> (B, h, 3): low edge, mean and high edge for every step.

        They are changes since the origin: to copy the last value is to answer 0.
        """
        last = [self.dropout(gru(x)[0][:, -1]) for gru in self.grus]  # each (B, H)
        made = [output(h) for output, h in zip(self.outputs, last, strict=True)]
        return torch.cat(made, dim=1).unflatten(1, (-1, 3))  # (B, h, 3)


# ====================================================================================
# 3. Training
# ====================================================================================

PRICES = ("stock", "simulated")
LOW, HIGH = 0.1, 0.9  # the edges of the 80 % band


def forward(model, batch):
    return model(batch["x"]).float()  # (B, h, 3), also in bf16


def pinball(y, edge, level):
    """Smallest on average where a share `level` of all y lies below the edge."""
    return torch.maximum(level * (y - edge), (level - 1) * (y - edge))


def step(model, batch):
    """Sums over the batch.  Each output has the loss that its meaning minimises.

    Squared error is least at the mean: this is the forecast.  (MAE would be least at
    the median.)  The pinball loss is least at a quantile: these are the band's edges.
    """
    y, (low, mean, high) = batch["y"], forward(model, batch).unbind(-1)  # (B, h) each
    square = (y - mean) ** 2
    loss = square + pinball(y, low, LOW) + pinball(y, high, HIGH)  # (B, h)
    far = loss[:, 1:].sum() / max(loss.shape[1] - 1, 1)
    return {"loss": loss[:, 0].sum() + far, "one_step": square[:, 0].sum()}, len(y)


def train_model(fold, config, args, about=None):
    """A new model from --seed, trained: (model, records).  No `about`: no files."""
    utils.set_seed(args.seed)
    model = Forecaster(**config).to(args.device)
    train, val = make_windows(fold, 0, fold.n1), make_windows(fold, fold.n1, fold.n2)
    train = utils.Batches(train, args.batch_size, args.device, shuffle=True)
    val = utils.Batches(val, 1024, args.device)
    return model, list(utils.fit(model, step, train, val, args, about))


# ====================================================================================
# 4. Evaluation and pictures
# ====================================================================================


def answers(model, fold, past, args):
    """past (M, T + 1) -> low edge, mean, high edge as levels (M, h, 3)."""
    batches = utils.Batches({"x": network_input(past, fold)}, 1024, args.device)
    changes = utils.collect(model, forward, batches, args).double().numpy()
    return past[:, -1, None, None] + changes * np.array(fold.scaling["steps"])[:, None]


def feed_back(model, fold, past, count, args):
    """Forecast one step, take it for data, go on: (M, T + 1) -> levels (M, count)."""
    for _ in range(count):
        following = answers(model, fold, past[:, -fold.length - 1 :], args)[:, 0, 1:2]
        past = np.hstack([past, following])
    return past[:, past.shape[1] - count :]


def calibrate(model, fold, args):
    """How far to move the band's edges so that it holds 80 % of validation: (h, 3).

    Conformalized quantile regression (Romano et al., 2019): 80 % of validation lies
    less than this outside the band.  Negative: the band was too wide.
    """
    n1, n2 = fold.n1, fold.n2
    low, _, high = answers(model, fold, pasts(fold, n1, n2), args).transpose(2, 0, 1)
    truth = utils.truth_ahead(fold.levels, n1, n2, fold.horizon)  # (M, h)
    margins = []
    for k, outside in enumerate(np.maximum(low - truth, truth - high).T):
        known = n2 - n1 - k  # the rest is NaN, which sorts last
        rank = min(int(np.ceil((HIGH - LOW) * (known + 1))), known)
        margins.append(np.sort(outside)[rank - 1])
    return np.outer(margins, [-1, 0, 1])


def diebold_mariano(ours, theirs, h=1):
    """Could chance alone make two forecasts' squared errors, h steps ahead, so unlike?

    d_t = ours_t^2 - theirs_t^2.  DM = mean(d) / sqrt((g_0 + 2 sum_{0<k<h} g_k) / M),
    g_k being d's autocovariance at lag k: errors of overlapping forecasts are alike.
    Times sqrt((M + 1 - 2h + h(h-1)/M) / M), the small-sample correction of Harvey,
    Leybourne and Newbold (1997), and compared with Student's t of M - 1 degrees.
    Returns (statistic, two-sided p); the statistic is below zero where ours is better.
    """
    d = ours**2 - theirs**2  # (M,)
    M, c = len(d), d - d.mean()
    g = [c[k:] @ c[: M - k] / M for k in range(h)]
    variance = g[0] + 2 * sum(g[1:])
    variance = variance if variance > 0 else g[0]  # the sum can fall below zero
    if variance <= 0:
        return 0.0, 1.0  # both make the same errors
    corrected = ((M + 1 - 2 * h + h * (h - 1) / M) / M) ** 0.5
    statistic = float(corrected * d.mean() / (variance / M) ** 0.5)
    return statistic, float(2 * students_t.sf(abs(statistic), M - 1))


def judge(model, fold, args):
    """All models on the test span: `rows` one step ahead, `errors` for every step."""
    v, n1, n2, n, h = fold.values, fold.n1, fold.n2, len(fold.values), fold.horizon
    made = utils.series_baselines(v, n1, n1, n, fold.length, h)  # name -> (n - n1, h)
    made["autoregression"], order = utils.autoregression(v, n1, n2, fold.length, h)
    on_val = {k: np.mean((m[: n2 - n1, 0] - v[n1:n2]) ** 2) for k, m in made.items()}
    made = {name: forecast[n2 - n1 :] for name, forecast in made.items()}  # (M, h)
    past, margins = pasts(fold, n2, n), calibrate(model, fold, args)
    to_units = TO_UNITS[fold.target]
    band = to_units(answers(model, fold, past, args) + margins)  # (M, h, 3)
    made["GRU"] = band[..., 1]
    made["GRU fed back"] = to_units(feed_back(model, fold, past, h, args))
    truth, errors, rows = utils.truth_ahead(v, n2, n, h), {}, {}  # (M, h)
    for name, forecast in made.items():  # for each step, as far as the truth is known
        errors[name] = [(forecast - truth)[: n - n2 - k, k] for k in range(h)]
    naive_mae = np.abs(np.diff(v[:n1])).mean()
    for name in [*on_val, "GRU"]:
        rows[name] = utils.forecast_scores(errors[name][0], naive_mae)
        if name != "GRU":
            test = diebold_mariano(errors["GRU"][0], errors[name][0])
            rows[name] |= {"DM of GRU": test[0], "p": test[1]}
    found = {"band": band, "margins": margins, "best": min(on_val, key=on_val.get)}
    return Namespace(rows=rows, errors=errors, truth=truth[:, 0], order=order, **found)


def report_one_step(found, fold, source, noise):
    """The table, one step ahead, and what it says; returns metrics and baselines."""
    rows, truth, square = found.rows, found.truth, found.rows["GRU"]["MSE"]
    known = {n.replace(" ", "_") + "_rmse": rows[n]["RMSE"] for n in rows if n != "GRU"}
    title = f"{source.label}: test, one step ahead, {len(truth):,} forecasts"
    utils.print_table(title, rows)
    print("DM < 0: the GRU has smaller squared errors.  p: how often two equally good")
    print("forecasts would differ so much.  MASE 1: the error of persistence in train.")
    if source.name == "sine":
        known["noise_variance"] = floor = np.mean(noise**2)
        print(f"The noise alone has MSE {floor:.4f}, which no forecast can avoid;")
        print(f"the GRU's is {square / floor:.3f} times as large.")
    last = "yesterday's price" if source.name in PRICES else "the last value"
    called = {"persistence": last, "autoregression": f"an AR of order {found.order}"}
    for name, words in called.items():  # say what the figures carry, and no more
        change, p = square**0.5 / (rows[name]["RMSE"] or np.nan) - 1, rows[name]["p"]
        said = f"{'better' if change < 0 else 'worse'}; chance seldom does as much"
        said = said if p < 0.05 else f"not better than {words}; it can be chance"
        print(f"GRU against {words}: RMSE {change:+.1%}, p = {p:.3f}: {said}.")
    print(f"Best baseline on validation: {found.best}.")
    changes = truth - fold.values[fold.n2 - 1 : -1]
    spreads = truth.var(), np.mean(changes**2)
    r2 = [1 - square / (spread or np.nan) for spread in spreads]
    print(f"R2 of the values {r2[0]:.3f}; of their changes {r2[1]:.3f}, 0 for a copy.")
    metrics = {f"test_{name.lower()}": score for name, score in rows["GRU"].items()}
    metrics |= {f"p_{k}": rows[k]["p"] for k in ("persistence", "autoregression")}
    metrics |= {"p_best_baseline": rows[found.best]["p"], "r2_of_changes": r2[1]}
    return metrics, known


def report_coverage(found):
    """How much of the test span the band held, one step ahead: metrics."""
    low, _, high = found.band[:, 0].T  # (M,) each
    hits, M = ((low <= found.truth) & (found.truth <= high)).sum(), len(found.truth)
    least, most = binomtest(int(hits), M).proportion_ci(method="wilson")
    print(f"\nThe 80 % band held {hits / M:.1%} of the test span; 95 % interval, were")
    print(f"hits independent: {least:.1%} to {most:.1%}.  ", end="")
    print("80 % is in it." if least <= 0.8 <= most else "Test is unlike validation.")
    return {"test_coverage": hits / M, "coverage_low": least, "coverage_high": most}


def report_horizon(found, source, args):
    """RMSE by steps ahead, direct against fed back, and its picture: metrics."""
    rmse = {k: [np.mean(e**2) ** 0.5 for e in v] for k, v in found.errors.items()}
    h, direct, rows = len(rmse["GRU"]), found.errors["GRU"], {}
    for k in sorted({k for k in (1, 2, 3, 6, 12, 24, 48) if k < h} | {h}):
        rows[f"{k} ahead"] = {name: curve[k - 1] for name, curve in rmse.items()}
        for label, name in (("p to AR", "autoregression"), ("p to it", "GRU fed back")):
            p = diebold_mariano(direct[k - 1], found.errors[name][k - 1], k)[1]
            rows[f"{k} ahead"][label] = p
    utils.print_table(f"{source.label}: test RMSE by steps ahead", rows)
    print("GRU and autoregression answer each step directly.  Fed back, the GRU takes")
    print("its own forecasts for data.  p to AR, p to it: of GRU against those two.")
    title, ahead = f"Test error by horizon, {source.label}", range(1, h + 1)
    utils.plot_lines(args, "horizon", title, rmse, "steps ahead", "RMSE", ahead)
    names = {name: name.lower().replace(" ", "_") for name in rmse}
    return {f"{names[k]}_rmse_at_horizon": v[-1] for k, v in rmse.items()}


def walk_forward(fold, index, config, source, args):
    """The lesson as if run earlier, on 55, 70, 85 % of the series: other test spans."""
    rows, v = {}, fold.values
    for n in (round(share * len(v)) for share in (0.55, 0.70, 0.85)):
        if n < 100 + 2 * fold.length or np.ptp(v[: n // 2]) == 0:
            continue  # too short, or nothing happened yet
        part = make_fold(v[:n], fold.length, 1, fold.target)
        found = judge(train_model(part, config, args)[0], part, args).rows
        name = f"{index[part.n2]:%Y-%m-%d} and on"
        rows[name] = {model: row["RMSE"] for model, row in found.items()}
        rows[name]["p to AR"] = found["autoregression"]["p"]
    if not rows:
        return {}
    ratios = [r["GRU"] / (r["persistence"] or np.nan) for r in rows.values()]
    utils.print_table(f"{source.label}: walk-forward, RMSE one step ahead", rows)
    print(f"GRU / persistence: {min(ratios):.3f} to {max(ratios):.3f}, span by span.")
    return {"walk_forward_ratio": np.mean(ratios), "walk_forward_worst": max(ratios)}


def report_leak(fold, config, honest, args):
    """--leaky-scaling: train again, the scaling fitted on everything: metrics."""
    rows, shape = {}, (fold.length, fold.horizon, fold.target)
    leaky = make_fold(fold.values, *shape, leaky=True)
    found = judge(train_model(leaky, config, args)[0], leaky, args).rows["GRU"]
    for name, row, end in (("train", honest, fold.n1), ("everything", found, None)):
        std = fold.values[:end].std()
        rows[name] = {"RMSE": row["RMSE"], "std": std, "RMSE / std": row["RMSE"] / std}
    utils.print_table("The GRU, with mean and std fitted on", rows)
    print("RMSE / std is what a script reports that does not scale back.")
    return {"leaky_rmse": found["RMSE"], "leaky_scaled_rmse": found["RMSE"] / std}


def draw(found, fold, index, records, source, args):
    """Loss curves; forecast and band; how much of it is a copy."""
    panels = {"loss": ["loss", "val_loss"], "one step": ["one_step", "val_one_step"]}
    utils.plot_records(args, f"Training, {source.label}", records, panels)
    dates, (low, mean, high) = index[fold.n2 :], found.band[:, 0].T
    lines, axes = {"truth": found.truth, "GRU": mean}, ("date", "value")
    title, more = f"One step ahead, {source.label}", {"band": (low, high), "width": 12}
    utils.plot_lines(args, "forecast", title, lines, *axes, dates, **more)
    late = {"truth, one step late": fold.values[fold.n2 - 1 : -1]}
    lines = {name: line[-60:] for name, line in (late | lines).items()}
    more = {"width": 9, "dashed": ["GRU"]}
    utils.plot_lines(args, "lag", title, lines, *axes, dates[-60:], **more)
    if not args.no_plots:
        print("Reading lag.png: how much of the GRU is the truth, one step late?")


def continue_series(model, fold, margins, index, source, args):
    """--forecast N: what may come after the last value."""
    past, h = fold.levels[None, -fold.length - 1 :], fold.horizon  # (1, T + 1)
    band = answers(model, fold, past, args)[0] + margins  # (h, 3)
    if args.forecast > h:  # feed the means back; nothing is known of their band
        tail = np.full((args.forecast - h, 3), np.nan)
        past = np.hstack([past, band[None, :, 1]])
        tail[:, 1] = feed_back(model, fold, past, len(tail), args)[0]
        band = np.vstack([band, tail])
    low, mean, high = TO_UNITS[fold.target](band[: args.forecast]).T  # (N,) each
    dates = utils.next_dates(index, args.forecast)
    columns = {"10 %": low, "forecast": mean, "90 %": high}
    print(f"\n{source.label}, after {index[-1].date()}; band for {h} steps (--horizon)")
    print(pd.DataFrame(columns, dates).to_string(float_format="%.4g", na_rep="-"))
    lines, axes = {"forecast": mean}, ("date", "value", dates)
    title, band = f"After {index[-1].date()}, {source.label}", (low, high)
    utils.plot_lines(args, "future", title, lines, *axes, band=band, width=9)


# ====================================================================================
# 5. Command line
# ====================================================================================


def make_flags():
    parser, size = utils.make_parser(__doc__), utils.whole(1, 10**5)
    names = ["sunspots", "stock", "sine", "simulated"]
    utils.add_common_flags(parser)
    utils.add_data_flags(parser, names, "CSV with a column of dates")
    utils.add_training_flags(parser, lr=0.005, epochs=15, batch_size=64, hidden_size=48)
    add = parser.add_argument_group("this lesson").add_argument
    add("--column", help="what to forecast (default: the obvious one)")
    add("--sequence-length", type=size, default=48, help="T (default 48)")
    add("--horizon", type=size, default=12, help="1 ... h steps ahead (default 12)")
    add("--target", choices=["price", "return"], default="price", help="what it reads")
    add("--forecast", type=size, metavar="N", help="continue the series by N steps")
    add("--leaky-scaling", action="store_true", help="measure what a leak flatters")
    return parser


def prepare(source, series, args):
    """The fold, and the card of the model: a new one, or that of --path."""
    if args.eval_only:
        card = utils.load_card(args, dataset=source.name, column=series.name)
    else:
        config = {"hidden": args.hidden_size, "layers": args.num_layers}
        config |= {"dropout": args.dropout, "horizon": args.horizon}
        more = {"shape": [args.sequence_length, args.horizon, args.target]}
        more |= {"column": series.name, "scaling": None}
        card = utils.model_card(args, source, config, **more)
    utils.check_parts(series.to_numpy(), *card["shape"][:2])
    fold = make_fold(series.to_numpy(), *card["shape"], card["scaling"])
    return fold, card | {"scaling": fold.scaling}


def main(argv=None):
    args = utils.parse_flags(make_flags(), argv, __file__)
    if args.eval_only and args.leaky_scaling:
        raise utils.UserError("--leaky-scaling trains a network; drop --eval-only")
    show_by_hand()
    made_here = dict.fromkeys(["sine", "simulated"])
    source = utils.choose_dataset(args, ["sunspots", "stock"], made_here)
    series, repairs = utils.load_series(args, source)
    series = utils.capped(args, series, 800)
    fold, card = prepare(source, series, args)
    index, config = series.index, card["config"]
    print(f"{source.label}: '{series.name}', {len(series):,} values, ", end="")
    print(f"test from {index[fold.n2]:%Y-%m-%d}")
    print("\n".join(f"  - {said}" for said in repairs or ["nothing to repair"]))
    if args.eval_only:
        model = utils.load_model(Forecaster, card, args.path).to(args.device)
        records = []
    else:
        model, records = train_model(fold, config, args, card)
    found = judge(model, fold, args)
    noise = utils.sine_series()[1].to_numpy()[fold.n2 : len(series)]
    metrics, known = report_one_step(found, fold, source, noise)
    metrics |= report_coverage(found) | report_horizon(found, source, args)
    if not args.eval_only:
        metrics |= walk_forward(fold, index, config | {"horizon": 1}, source, args)
    if args.leaky_scaling:
        metrics |= report_leak(fold, config, found.rows["GRU"], args)
    training = utils.training_summary(records, fold.n1, "windows")
    size = utils.count_parameters(model)
    utils.write_metrics(args, source, metrics, known, training, size)
    draw(found, fold, index, records, source, args)
    if args.forecast:
        continue_series(model, fold, found.margins, index, source, args)


if __name__ == "__main__":
    sys.exit(utils.run(main))
