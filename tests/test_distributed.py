"""Lessons 05 and 10 in several processes (torchrun): the same training as in one.

torchrun also starts this very file, as a small lesson of its own: see `main`.
"""

import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from conftest import ROOT, load_lesson, run_main
from torch import nn

import rnn_utils as utils

# Put first on PYTHONPATH: sockets to this machine itself are all that may be needed.
LOCAL_ALONE = """
import socket
connect = socket.socket.connect
def local(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
        raise OSError(101, "Network is unreachable")
    return connect(self, address)
socket.socket.connect = local
"""


def start(script, *flags, cwd, ranks=2):
    """torchrun SCRIPT FLAGS in a process group of its own; an open Popen."""
    (cwd / "blocked").mkdir(exist_ok=True)
    (cwd / "blocked" / "sitecustomize.py").write_text(LOCAL_ALONE)
    clean = {k: v for k, v in os.environ.items() if k != "RNN_DATA_DIR"}
    clean |= {"PYTHONPATH": str(cwd / "blocked"), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, f"--nproc_per_node={ranks}", script, *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    pipes["start_new_session"] = True
    return subprocess.Popen([str(w) for w in command], cwd=cwd, env=clean, **pipes)


def run_ranks(script, *flags, cwd, ranks=2):
    """The same, to its end: (exit status, stdout, stderr)."""
    with start(script, *flags, cwd=cwd, ranks=ranks) as process:
        try:
            out, err = process.communicate(timeout=280)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, out, err


def our_lines(err):
    """What the lesson itself said on stderr; the rest is torchrun's own report."""
    return [line for line in err.splitlines() if ": error: " in line]


# ---------------------------------------------------------------- a small lesson

ABOUT = {"lesson": "99_ranks", "dataset": "tiny", "config": {}}
FLAGS = {"lesson": "99_ranks", "seed": 0, "device": "cpu", "epochs": 4, "lr": 0.05}
FLAGS |= {"batch_size": 8, "clip": 0.5, "weight_decay": 0.01, "patience": 0}
FLAGS |= {"optimizer": "adam", "accumulate": 1, "precision": "fp32"}
FLAGS |= {"save_model": False, "resume": False, "no_plots": True}


def build(dropout=0.0):
    layers = [nn.Linear(3, 5), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, 1)]
    return nn.Sequential(*layers).double()


def make_data(n, **options):
    """Rows of 1 to 4 real targets, so that equally many rows count unequally."""
    draw = torch.Generator().manual_seed(n)
    x = torch.randn(n, 4, 3, generator=draw, dtype=torch.float64)
    y = x.sum(2) + torch.randn(n, 4, generator=draw, dtype=torch.float64)
    real = torch.arange(4) < torch.randint(1, 5, (n, 1), generator=draw)
    return utils.Batches({"x": x, "y": y, "real": real}, 8, **options)


def step(model, batch):
    """Squared error over the real items."""
    error = (model(batch["x"]).squeeze(2) - batch["y"])[batch["real"]]
    return {"loss": error.square().sum(), "near": (error.abs() < 1).sum()}, len(error)


def data():
    """41 rows make 5 batches of 8 and one of 1, which leaves rank 1 without a row."""
    return make_data(41, shuffle=True), make_data(9)


def experiment(dropout=0.0, **changes):
    """Two epochs: what each scored, the weights at the end, the rows that were seen."""
    args, seen = Namespace(**FLAGS | changes), []
    constant = Namespace(step=lambda: None)  # the rate stays as it is

    def watch(model, batch):
        noise = torch.rand(()).item() if model.training else 0.0
        seen.append((batch["index"].tolist(), noise if dropout else 0.0))
        return step(model, batch)

    utils.set_seed(0)
    model, (train, val) = build(dropout), data()
    optimizer = utils.OPTIMIZERS[args.optimizer](model.parameters(), args)
    given = (utils.share_gradients(model), watch if dropout else step)
    epochs = []
    for _ in range(2):
        found = utils.train_epoch(*given, train, optimizer, constant, args)
        checked = utils.evaluate(model, step, val, args)
        epochs.append(found | {f"val_{name}": value for name, value in checked.items()})
    weights = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
    return {"epochs": epochs, "weights": weights, "seen": seen}


SETTINGS = {
    "plain": {},
    "unclipped": {"clip": 0.0, "optimizer": "sgd"},
    "accumulated": {"accumulate": 4},
}


def train(args, stop_after=None):
    """A training with dropout through `fit`; the records."""
    utils.set_seed(0)
    records = []
    for record in utils.fit(build(0.5), step, *data(), args, ABOUT):
        records.append(record)
        if len(records) == stop_after:
            raise KeyboardInterrupt
    return records


def main(argv=None):
    """What torchrun starts: with the folder to write to, and what to do."""
    folder, what = Path(sys.argv[1]), sys.argv[2]
    args = Namespace(**FLAGS, out_dir=str(folder), path=str(folder / "best.pt"))
    here = utils.rank()
    if what == "experiment":
        found = {name: experiment(**more) for name, more in SETTINGS.items()}
        found["dropout"] = experiment(dropout=0.5)
        (folder / f"rank{here}.json").write_text(json.dumps(found))
        raise utils.UserError("both ranks\nmiss a file")
    elif what == "one fails":
        if here == 1:
            raise utils.UserError("rank 1 has\nno file")
        utils.sum_over_ranks([1])
    else:
        args.resume, args.patience = what == "resume", 1 if what == "patience" else 0
        args.lr = 5.0 if what == "patience" else args.lr
        records = train(args, stop_after=2 if what == "stop" else None)
        print(len(records), "epochs; rank", here, "goes on")
        utils.sum_over_ranks([1])  # alone by now: waits for nobody


@pytest.fixture(scope="module")
def ranks_apart(tmp_path_factory):
    """What each of two ranks found in the experiments; how the run ended."""
    folder = tmp_path_factory.mktemp("ranks")
    status, out, err = run_ranks(__file__, folder, "experiment", cwd=folder)
    assert (folder / "rank1.json").exists(), err
    found = [json.loads((folder / f"rank{k}.json").read_text()) for k in range(2)]
    return [*found, (status, out, err)]


@pytest.mark.parametrize("name", SETTINGS)
def test_two_ranks_train_as_one_process(ranks_apart, name):
    """Gradient, norm, clipping, sums: to 10 digits, though rank 1 has fewer items."""
    alone = experiment(**SETTINGS[name])
    for found in (ranks_apart[0][name], ranks_apart[1][name]):
        assert found["weights"] == pytest.approx(alone["weights"], rel=1e-10)
        for epoch, expected in zip(found["epochs"], alone["epochs"], strict=True):
            assert epoch == pytest.approx(expected, rel=1e-10)
    assert ranks_apart[0][name]["weights"] == ranks_apart[1][name]["weights"]


def test_ranks_read_different_rows_under_different_dropout(ranks_apart):
    """Every row once an epoch, in the order of one process; noise differs, weights do not."""
    seen = [found["dropout"]["seen"] for found in ranks_apart[:2]]
    order = [index for index, _ in experiment(dropout=0.5)["seen"]]
    assert len(seen[0]) == len(seen[1]) == 12
    # Later orders follow from the dropout that one process has drawn in between.
    for (one, _), (other, _), whole in list(zip(*seen, order, strict=True))[:5]:
        assert (one, other) == (whole[::2], whole[1::2])
    for k in (0, 6):
        rows = [i for both in seen for index, _ in both[k : k + 5] for i in index]
        assert len(rows) == len(set(rows)) == 40
        assert seen[0][k + 5][0] == seen[1][k + 5][0] != []
    noise = [number for both in seen for _, number in both]
    assert len(set(noise)) == len(noise), "no noise is drawn twice"
    assert ranks_apart[0]["dropout"]["weights"] == ranks_apart[1]["dropout"]["weights"]


# ---------------------------------------------------------------- the lessons

QUICK = ["--quick", "--no-plots", "--dropout", "0"]
CASES = {  # name -> (flags, batch of one process), in which 2 epochs make 20 steps
    "05_lstm_sentiment": (["--dataset", "sample", "--hidden-size", "32"], 48),
    "10_text_generation": (
        ["--hidden-size", "48", "--sequence-length", "32", "--max-length", "40"],
        56,
    ),
}
CLOCK = ("second", "Written: ", "Last run", "this run")


@pytest.fixture(scope="module", params=CASES)
def both(request, tmp_path_factory):
    """A lesson in one process, and in two ranks at half the batch."""
    name, (flags, batch) = request.param, CASES[request.param]
    folder = tmp_path_factory.mktemp(name)
    one, two = folder / "one" / "out", folder / "two" / "out"
    flags, size = [*QUICK, *flags], "--batch-size"
    assert run_main(load_lesson(name), *flags, size, batch, "--out-dir", one) == 0
    flags += [size, batch // 2, "--out-dir", two]
    status, out, err = run_ranks(ROOT / f"{name}.py", *flags, cwd=folder)
    assert status == 0, err
    states = [torch.load(path / "last.pt", weights_only=True) for path in (one, two)]
    results = [json.loads((path / "metrics.json").read_text()) for path in (one, two)]
    return Namespace(name=name, states=states, results=results, out=out, folder=two)


def test_same_losses_as_one_process(both):
    """20 steps without dropout: losses, norms and weights within float error."""
    alone, shared = both.states
    for record, expected in zip(shared["records"], alone["records"], strict=True):
        for key in expected.keys() - {"seconds", "loop_seconds"}:
            assert record[key] == pytest.approx(expected[key], rel=1e-4), key
    steps = alone["scheduler"]["last_epoch"]
    assert steps == shared["scheduler"]["last_epoch"] == 20
    for name, tensor in alone["current"].items():
        torch.testing.assert_close(
            shared["current"][name], tensor, rtol=1e-3, atol=1e-4
        )
    assert shared["flags"] == alone["flags"], "one process may resume it"


def test_same_metrics_as_one_process(both):
    """What two ranks report is what one would have."""
    alone, shared = both.results
    for name in ("metrics", "baselines"):
        clock = {"chars_per_second"}
        found = {k: v for k, v in shared[name].items() if k not in clock}
        expected = {k: v for k, v in alone[name].items() if k not in clock}
        assert found == pytest.approx(expected, rel=1e-3)
    clock = {"train_seconds", "units_per_second", "threads", "metrics", "args"}
    for key in alone.keys() - clock:
        assert shared[key] == pytest.approx(alone[key]), key
    assert shared["threads"] == 2
    assert shared["args"]["batch_size"] == alone["args"]["batch_size"]


def test_only_rank_zero_prints_and_writes(both):
    """A second voice would print each epoch twice, and write each file twice."""
    lines = both.out.splitlines()
    for n in (1, 2):
        assert sum(line.startswith(f"epoch  {n}/2") for line in lines) == 1
    assert sum("Best val_loss in epoch" in line for line in lines) == 1
    runs = (both.folder.parent / "runs.jsonl").read_text().splitlines()
    assert len(runs) == 1
    made = sorted(path.name for path in both.folder.iterdir())
    assert made == ["last.pt", "metrics.json"]


# ---------------------------------------------------------------- what goes wrong


def test_what_both_ranks_miss_is_said_once(ranks_apart):
    """The experiments end in the same UserError on both: one sentence, a status of failure."""
    status, out, err = ranks_apart[2]
    (line,) = our_lines(err)
    assert status != 0 and out == "" and line.endswith("both ranks miss a file.")
    assert "rnn_utils.py" not in err, "a traceback of ours"


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, flags, words",
    [
        ("10_text_generation", ["--lr", "nine"], "'nine' is not a number"),
        ("04_simple_rnn", ["--quick"], "start it with python instead of torchrun"),
        ("01_sequence_basics", [], "start it with python instead of torchrun"),
        ("05_lstm_sentiment", ["--compare", "cell"], "--compare takes one process"),
        ("10_text_generation", ["--eval-only"], "--eval-only takes one process"),
        ("05_lstm_sentiment", ["--input", "none.csv"], "there is no such file"),
        ("10_text_generation", ["--quick", "--resume"], "nothing to resume"),
    ],
)
def test_refusals_are_said_once(tmp_path, script, flags, words):
    """Also where one rank meets the mistake first, or while the other waits for it."""
    status, _, err = run_ranks(ROOT / f"{script}.py", *flags, cwd=tmp_path)
    (line,) = our_lines(err)
    assert status != 0 and words in line and script in line
    assert "rnn_utils.py" not in err, "a traceback of ours"
    assert not list(tmp_path.rglob("metrics.json"))


@pytest.mark.slow
def test_one_failing_rank_ends_all(tmp_path):
    """Rank 0 waits for a rank that has failed: it must not wait for ever, nor complain."""
    status, _, err = run_ranks(__file__, tmp_path, "one fails", cwd=tmp_path)
    (line,) = our_lines(err)
    assert status != 0 and line.endswith("rank 1 has no file.")
    assert "RuntimeError" not in err


@pytest.mark.slow
def test_one_process_under_torchrun(tmp_path):
    """A lesson that takes one process may be started as one."""
    script = ROOT / "04_simple_rnn.py"
    flags = ["--quick", "--no-plots", "--out-dir", tmp_path / "out"]
    status, _, err = run_ranks(script, *flags, cwd=tmp_path, ranks=1)
    assert status == 0, err
    assert (tmp_path / "out" / "metrics.json").exists()


def scores(folder):
    """The records of a training, but for the clock."""
    state = torch.load(folder / "last.pt", weights_only=True)
    clock = {"seconds", "loop_seconds"}
    return [
        {k: v for k, v in record.items() if k not in clock}
        for record in state["records"]
    ]


@pytest.mark.slow
def test_interrupted_and_resumed(tmp_path):
    """Stopped after epoch 2, two ranks go on as if nothing had been; dropout, too."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    status, out, err = run_ranks(__file__, tmp_path / "a", "whole", cwd=tmp_path)
    assert status == 0, err
    assert out.endswith("4 epochs; rank 0 goes on\n")
    status, out, err = run_ranks(__file__, tmp_path / "b", "stop", cwd=tmp_path)
    assert status != 0 and len(scores(tmp_path / "b")) == 2
    assert err.count("Interrupted.") == err.count("--resume") == 1
    assert "rnn_utils.py" not in err
    status, out, err = run_ranks(__file__, tmp_path / "b", "resume", cwd=tmp_path)
    assert status == 0, err
    assert out.count("Resuming after epoch 2") == 1
    assert scores(tmp_path / "a") == scores(tmp_path / "b")


@pytest.mark.slow
def test_early_stopping_is_of_one_mind(tmp_path):
    """A rank that went on by itself would wait for ever."""
    status, out, err = run_ranks(__file__, tmp_path, "patience", cwd=tmp_path, ranks=3)
    assert status == 0, err
    assert out.endswith(f"{len(scores(tmp_path))} epochs; rank 0 goes on\n")
    assert len(scores(tmp_path)) < FLAGS["epochs"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups")
def test_ctrl_c(tmp_path):
    """A terminal sends it to all processes at once: one sentence, and all of them end."""
    script, flags = ROOT / "10_text_generation.py", ["--epochs", "500", "--no-plots"]
    flags += ["--hidden-size", "16", "--input", tmp_path / "a.txt"]
    (tmp_path / "a.txt").write_text("Who reads this, reads it again. " * 500)
    with start(script, *flags, cwd=tmp_path) as process:
        while not process.stdout.readline().startswith("epoch  2/500"):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert err.count("Interrupted.") == 1
    assert "rnn_utils.py" not in err, "a traceback of ours"
    assert len(scores(tmp_path / "outputs" / "10_text_generation")) >= 1


if __name__ == "__main__":
    sys.exit(utils.run(main, parallel=True))
