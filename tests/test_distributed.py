"""Several processes (torchrun, gloo): the same training as in one.

torchrun also starts this very file, for what the lesson in small does not show: `main`.
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
from conftest import ROOT, load_lesson, metrics, run_main
from toy import Toy, flags, make_data, measure, train

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


def run_ranks(script, *flags, cwd):
    """torchrun with two processes, to its end: (exit status, stdout, stderr)."""
    (cwd / "blocked").mkdir(exist_ok=True)
    (cwd / "blocked" / "sitecustomize.py").write_text(LOCAL_ALONE)
    clean = {k: v for k, v in os.environ.items() if k != "RNN_DATA_DIR"}
    clean |= {"PYTHONPATH": str(cwd / "blocked"), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc_per_node=2", script, *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [str(word) for word in command]
    with subprocess.Popen(
        command, cwd=cwd, env=clean, start_new_session=True, **pipes
    ) as process:
        try:
            out, err = process.communicate(timeout=280)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, out, err


def our_lines(err):
    """What the lesson itself said on stderr; the rest is torchrun's own report."""
    return [line for line in err.splitlines() if ": error: " in line]


# ---------------------------------------------------------------- the lesson in small

CASES = {
    "plain": {},
    "unclipped": {"clip": 0.0, "optimizer": "sgd"},
    "accumulated": {"accumulate": 4},
}


def data():
    """41 rows make 5 batches of 8 and one of 1, which leaves rank 1 without a row."""
    return (
        make_data(41, double=True, size=8, shuffle=True),
        make_data(9, double=True, size=8),
    )


def experiment(dropout=0.0, **changes):
    """Two epochs: what each scored, the weights at the end, the rows that were seen."""
    args = flags("nowhere", clip=changes.pop("clip", 0.5), **changes)
    still = Namespace(step=lambda: None)  # the rate stays as it is
    seen = []

    def watch(model, batch):
        noise = torch.rand(()).item() if dropout else 0.0
        seen.append((batch["index"].tolist(), noise))
        return measure(model, batch)

    utils.set_seed(0)
    train_data, val_data = data()
    model = Toy(dropout=dropout).double()
    optimizer = utils.make_optimizer(model.parameters(), args)
    shared = utils.share_gradients(model)
    epochs = []
    for number in (1, 2):
        found = utils.train_epoch(
            shared, watch, train_data, optimizer, still, args, number
        )
        checked = utils.evaluate(model, measure, val_data, args)
        epochs.append(found | {f"val_{name}": value for name, value in checked.items()})
    weights = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
    return {"epochs": epochs, "weights": weights, "seen": seen}


def side_experiment():
    """The weights after a training without a config, as a lesson has beside its main one."""
    utils.set_seed(0)
    model = Toy(dropout=0.0).double()
    utils.fit(model, measure, *data(), flags("nowhere", epochs=2))
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


def main(argv=None):
    """What torchrun starts: experiments, then a whole training that stops early."""
    folder = Path(sys.argv[1])
    found = {name: experiment(**more) for name, more in CASES.items()}
    found["dropout"] = experiment(dropout=0.5)
    found["side"] = side_experiment()
    (folder / f"rank{utils.rank()}.json").write_text(json.dumps(found))
    _, records = train(flags(folder, lr=5.0, clip=0.0, patience=1))
    print(len(records), "epochs; rank", utils.rank(), "goes on")
    utils.sum_over_ranks([1])  # alone by now: waits for nobody


@pytest.fixture(scope="module")
def ranks_apart(tmp_path_factory):
    """What each of two ranks found in the experiments; the folder and the output."""
    folder = tmp_path_factory.mktemp("ranks")
    status, out, err = run_ranks(__file__, folder, cwd=folder)
    assert status == 0, err
    found = [json.loads((folder / f"rank{k}.json").read_text()) for k in range(2)]
    return [*found, folder, out]


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_train_as_one_process(ranks_apart, name):
    """Gradient, norm, clipping, sums; though rank 1 has fewer items than rank 0."""
    alone = experiment(**CASES[name])
    for found in (ranks_apart[0][name], ranks_apart[1][name]):
        assert found["weights"] == pytest.approx(alone["weights"], rel=1e-9)
        for epoch, expected in zip(found["epochs"], alone["epochs"], strict=True):
            assert epoch == pytest.approx(expected, rel=1e-6)
    assert ranks_apart[0][name]["weights"] == ranks_apart[1][name]["weights"]


def test_side_experiments_too(ranks_apart):
    """Before the main training, all ranks take part in them."""
    assert ranks_apart[0]["side"] == pytest.approx(side_experiment(), rel=1e-9)
    assert ranks_apart[0]["side"] == ranks_apart[1]["side"]


def test_ranks_read_different_rows_under_different_dropout(ranks_apart):
    """Every row once an epoch, in the order of one process; noise differs, weights do not."""
    seen = [found["dropout"]["seen"] for found in ranks_apart[:2]]
    order = [index for index, _ in experiment(dropout=0.5)["seen"]]
    assert len(seen[0]) == len(seen[1]) == len(order) == 12
    for (one, _), (other, _), whole in zip(*seen, order, strict=True):
        if len(whole) > 1:
            assert (one, other) == (whole[::2], whole[1::2])
        else:
            assert one == other == whole, "rank 1 takes part, and counts nothing"
    noise = [number for both in seen for _, number in both]
    assert len(set(noise)) == len(noise), "no noise is drawn twice"
    assert ranks_apart[0]["dropout"]["weights"] == ranks_apart[1]["dropout"]["weights"]


def test_ranks_stop_together_and_one_goes_on(ranks_apart):
    """A rank that trained on by itself would wait for ever; one voice, one file."""
    folder, out = ranks_apart[2:]
    records = torch.load(folder / "last.pt", weights_only=True)["training"]["records"]
    assert len(records) < 5
    assert out.endswith(f"{len(records)} epochs; rank 0 goes on\n")
    for number in range(1, len(records) + 1):
        assert out.count(f"epoch  {number}/5") == 1
    made = sorted(path.name for path in folder.iterdir())
    assert made == ["blocked", "last.pt", "rank0.json", "rank1.json"]


# ---------------------------------------------------------------- a lesson


def test_a_lesson_in_two_ranks_scores_as_in_one(tmp_path):
    """Half the batch on each of two ranks: losses, scores, files as of one process."""
    flags = ["--quick", "--no-plots", "--dataset", "sample", "--hidden-size", "32"]
    flags += ["--dropout", "0", "--batch-size"]
    name = "05_lstm_sentiment"
    script = ROOT / f"{name}.py"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    out = tmp_path / "one" / "out"
    assert run_main(load_lesson(name), *flags, 48, "--out-dir", out) == 0
    out = tmp_path / "two" / "out"
    status, said, err = run_ranks(script, *flags, 24, "--out-dir", out, cwd=tmp_path)
    assert status == 0, err
    assert our_lines(err) == []
    alone, shared = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    for key in ("parameters", "epochs_run", "baselines"):
        assert shared[key] == alone[key]
    for key in ("val_accuracy", "test_accuracy"):
        assert shared["metrics"][key] == pytest.approx(alone["metrics"][key], abs=0.04)
    assert shared["args"]["batch_size"] == alone["args"]["batch_size"]
    states = [torch.load(tmp_path / d / "out" / "last.pt") for d in ("one", "two")]
    records = [state["training"]["records"] for state in states]
    for one, two in zip(*records, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
        assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-3)
    for number in (1, 2):
        assert said.count(f"epoch  {number}/2") == 1
    assert sorted(p.name for p in out.iterdir()) == ["last.pt", "metrics.json"]


def test_what_is_wrong_is_said_once(tmp_path):
    """A missing file, met by rank 0 while the other waits for it: one sentence, no more."""
    flags = ["--quick", "--input", "none.csv", "--out-dir", tmp_path / "out"]
    status, _, err = run_ranks(ROOT / "04_simple_rnn.py", *flags, cwd=tmp_path)
    (line,) = our_lines(err)
    assert status != 0 and "there is no such file" in line
    assert "rnn_utils.py" not in err, "a traceback of ours"
    assert "Interrupted" not in err


if __name__ == "__main__":
    sys.exit(utils.run(main))
