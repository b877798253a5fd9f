"""rnn_utils sections 5 and 6: tables, metrics.json, pictures, the command line."""

import argparse
import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import toy
from conftest import ROOT

import rnn_utils
from rnn_utils import (
    Diverged,
    Source,
    UserError,
    capped,
    parse_flags,
    plot_lines,
    plot_matrix,
    plot_records,
    print_table,
    real,
    run,
    save_picture,
    whole,
    write_metrics,
)

LESSON = "99_test"
SOURCE = Source("tiny", None, True)


def flags(folder, **changes):
    given = {"lesson": LESSON, "seed": 3, "device": "cpu", "quick": False, "lr": 0.1}
    given.update(out_dir=str(folder / "outputs" / LESSON), no_plots=False, note=None)
    return argparse.Namespace(**{**given, **changes})


# ---------------------------------------------------------------- metrics.json

KEYS = ["script", "dataset", "real", "seed", "device", "precision", "torch", "threads"]
KEYS += ["parameters", "epochs_run", "train_seconds", "units_per_second", "unit"]
KEYS += ["metrics", "baselines", "args"]
RECORDS = [
    {"epoch": 1, "loss": 2.0, "val_loss": 2.5, "seconds": 3.0, "loop_seconds": 2.0},
    {"epoch": 2, "loss": 1.0, "val_loss": 2.0, "seconds": 4.5, "loop_seconds": 2.0},
]


def strict_json(args):
    """Parse metrics.json as other programs do, which know no NaN."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    path = Path(args.out_dir) / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_metrics_has_the_keys_of_the_contract(tmp_path):
    """Benchmarks and README are written from these; runs.jsonl gets the same."""
    args = flags(tmp_path, note=Path("a") / "b", words=("x", "y"))
    returned = write_metrics(
        args,
        SOURCE,
        {"test_accuracy": 0.5},
        {"majority": 0.25},
        parameters=17,
        records=RECORDS,
        units=100,
        unit="tokens",
    )
    found = strict_json(args)
    assert found == returned
    assert list(found) == KEYS
    expected = {"script": LESSON, "dataset": "tiny", "real": True, "seed": 3}
    expected |= {"device": "cpu", "precision": "fp32", "torch": torch.__version__}
    expected |= {"parameters": 17, "metrics": {"test_accuracy": 0.5}}
    expected |= {"baselines": {"majority": 0.25}, "threads": torch.get_num_threads()}
    # Units a second are counted over the training loop alone: 2 * 100 in 4 s.
    expected |= {"epochs_run": 2, "train_seconds": 7.5, "units_per_second": 50.0}
    expected |= {"unit": "tokens"}
    assert {key: found[key] for key in expected} == expected
    assert found["args"]["note"] == str(Path("a") / "b")
    assert found["args"]["words"] == ["x", "y"]
    write_metrics(args, SOURCE, {}, {})
    assert strict_json(args)["units_per_second"] == 0.0
    lines = (tmp_path / "outputs" / "runs.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert list(first) == ["time", *KEYS]
    assert second["metrics"] == {}


@pytest.mark.parametrize("kind", [float, np.float32, torch.tensor, np.array, int])
def test_any_kind_of_number_is_a_score(tmp_path, kind):
    """Scores come from torch, NumPy and scikit-learn alike; NaN is null in JSON."""
    args = flags(tmp_path, precision="bf16")
    given = {"a": kind(2), "b": math.nan, "c": -math.inf, "d": torch.tensor(math.nan)}
    models = {"lstm": {"val_loss": kind(3)}}
    write_metrics(args, SOURCE, given, given, parameters=kind(4), models=models)
    found = strict_json(args)
    assert found["metrics"] == {"a": 2.0, "b": None, "c": None, "d": None}
    assert found["baselines"] == found["metrics"]
    assert (found["parameters"], found["precision"]) == (4, "bf16")
    assert found["models"] == {"lstm": {"val_loss": 3.0}}


def test_runs_file_that_cannot_be_written(tmp_path, capsys):
    """One line that names the file; the result itself is safe in metrics.json."""
    (tmp_path / "outputs" / "runs.jsonl").mkdir(parents=True)
    args = flags(tmp_path)
    write_metrics(args, SOURCE, {"a": 1.0}, {})
    assert "Not added to" in capsys.readouterr().out
    assert strict_json(args)["metrics"] == {"a": 1.0}


def test_compare_reports_the_default(tmp_path, capsys):
    """Of several models, `metrics` is the first one's, with what its training took."""
    args = flags(tmp_path, compare="cell", no_plots=True)

    def training(size):
        record = {**RECORDS[0], "seconds": size / 1, "max_grad_norm": 2.0}
        return torch.nn.Linear(size, 1), [record], {"accuracy": size / 10}

    kinds, others = {"lstm": 5, "rnn": 3}, {"majority": {"accuracy": 0.25}}
    rnn_utils.compare_variants(args, SOURCE, kinds, training, others)
    found = strict_json(args)
    assert found["metrics"] == {"val_accuracy": 0.5}
    assert (found["parameters"], found["train_seconds"]) == (6, 5.0)
    assert found["epochs_run"] == 1
    assert [model["val_accuracy"] for model in found["models"].values()] == [0.5, 0.3]
    assert found["baselines"] == {"majority": 0.25}


def test_compare_where_the_default_diverged(tmp_path, capsys):
    """No other variant's figures may pass for the default's."""
    args = flags(tmp_path, compare="clip", no_plots=True)

    def training(size):
        if size == 5:
            raise Diverged("the loss is no longer a number; lower --lr")
        record = {**RECORDS[0], "max_grad_norm": 2.0}
        return torch.nn.Linear(size, 1), [record], {"accuracy": 0.3}

    rnn_utils.compare_variants(args, SOURCE, {"wild": 5, "tame": 3}, training, {})
    found = strict_json(args)
    assert (found["metrics"], found["parameters"], found["epochs_run"]) == ({}, 0, 0)
    assert list(found["models"]) == ["tame"]
    assert "the loss is no longer a number" in capsys.readouterr().out


# ---------------------------------------------------------------- tables


def test_print_table_is_aligned(capsys):
    """Names to the left, numbers to the right, one column under the other."""
    rows = {
        "LSTM": {"accuracy": 0.5, "parameters": 1234567},
        "a long name": {"accuracy": np.float64(12.25), "note": "x", "F1": math.nan},
        3: {"parameters": 5},
    }
    print_table("Results on tiny [real]", rows)
    empty, title, *lines = capsys.readouterr().out.splitlines()
    assert (empty, title) == ("", "Results on tiny [real]")
    assert [line.split() for line in lines] == [
        ["model", "accuracy", "parameters", "note", "F1"],
        ["LSTM", "0.5000", "1,234,567", "-", "-"],
        ["a", "long", "name", "12.2500", "-", "x", "nan"],
        ["3", "-", "5", "-", "-"],
    ]
    assert len({len(line) for line in lines}) == 1
    assert all(line.startswith("  ") for line in lines)


# ---------------------------------------------------------------- pictures

ODD_NAME = "50 $_$ {x} 鍵 \\frac"  # dollar signs: no formula, but a reader's file name
CURVES = {"one": RECORDS, "two": RECORDS[:1], "none": []}
PICTURES = {
    "lines": lambda a: plot_lines(a, "p", ODD_NAME, {"a": [1, 2]}, "x", "y"),
    "lines log": lambda a: plot_lines(
        a, "p", "t", {"a": [1, 99]}, "x", "y", x=[3, 4], log=True, band=([1, 2], [3, 4])
    ),
    "records": lambda a: plot_records(
        a, "p", ODD_NAME, CURVES, {"loss": ["loss", "val_loss"], "s": ["seconds"]}
    ),
    "matrix": lambda a: plot_matrix(
        a, "p", ODD_NAME, np.eye(2), ["$_$", "b"], ["c", "$^$"], "x", "y"
    ),
    "zeros": lambda a: plot_matrix(
        a, "p", "t", torch.zeros(1, 20), ["r"], range(20), "x", "y", centred=True
    ),
    "own": lambda a: save_picture(plt.figure(), a, "p"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures(tmp_path, capsys, kind):
    """A PNG lands and is named; under --no-plots nothing; no figure is left open."""
    args = flags(tmp_path)
    with warnings.catch_warnings(action="ignore"):  # a font may lack a letter
        PICTURES[kind](args)
    path = Path(args.out_dir) / "p.png"
    # Before it a sentence, where no font has the letters of these labels.
    assert capsys.readouterr().out.endswith(f"  picture: {path}\n")
    assert plt.imread(path).std() > 0 or kind == "own"
    path.unlink()
    PICTURES[kind](flags(tmp_path, no_plots=True))
    assert capsys.readouterr().out == ""
    assert not path.exists()
    assert plt.get_fignums() == []


def test_no_records_no_picture(tmp_path):
    """A run that only evaluates has no curve to draw."""
    plot_records(flags(tmp_path), "p", "t", {"a": []}, {"loss": ["loss"]})
    assert list(tmp_path.iterdir()) == []


def drawn(monkeypatch):
    """A list that gets each figure instead of a file."""
    figures = []
    monkeypatch.setattr(rnn_utils, "save_picture", lambda f, *_: figures.append(f))
    return figures


def test_a_matrix_of_thousands_and_colours_around_zero(tmp_path, monkeypatch, capsys):
    """At most 60 labels, or none could be read; with `centred` white means zero."""
    figures = drawn(monkeypatch)
    matrix = np.arange(-6000.0, 0).reshape(60, 100)
    names = [f"tag{i}" for i in range(100)]
    args = flags(tmp_path)
    plot_matrix(args, "p", "t", matrix, names[:60], names, "x", "y", centred=True)
    image = figures[0].axes[0].images[0]
    assert image.get_clim() == (-6000, 6000)
    assert image.get_array().shape == (60, 60)
    assert "the first 60" in capsys.readouterr().out
    plt.close(figures[0])


def test_curves_are_those_of_the_records(tmp_path, monkeypatch):
    """Each run's curve over its own epochs, named if there are several runs."""
    figures = drawn(monkeypatch)
    panels = {"loss": ["loss", "val_loss"]}
    plot_records(flags(tmp_path), "p", "t", CURVES, panels)
    lines = figures[0].axes[0].lines
    assert [line.get_label() for line in lines] == [
        "one, loss",
        "one, val_loss",
        "two, loss",
        "two, val_loss",
    ]
    assert lines[1].get_xdata().tolist() == [1, 2]
    assert lines[1].get_ydata().tolist() == [2.5, 2.0]
    plt.close(figures[0])


# ---------------------------------------------------------------- the command line


@pytest.fixture
def in_folder(monkeypatch, tmp_path):
    """Run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parse(*argv, **options):
    return parse_flags(toy.make_flags(), list(argv), "/somewhere/99_test.py", **options)


def plain_lesson(argv):
    """A lesson without training, such as 01."""
    parser = rnn_utils.make_parser("A lesson.")
    rnn_utils.add_common_flags(parser)
    parse_flags(parser, argv, "98_plain.py")


def complaint(capsys, status, main, argv=None):
    """Call run(), which must end with `status` and one line on stderr; returns the line."""
    assert run(main, argv) == status
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert printed.out == ""
    assert line.endswith(".") and ": error: " in line
    return line


@pytest.mark.parametrize(
    "make, accepted, refused",
    [
        (whole(), ["1", "1_000"], ["0", "1000000001", "1.0", "x", "", "9" * 5000]),
        (whole(0, 5), ["0", "5"], ["-1", "6"]),
        (real(0, 1), ["0", "1", "1e-9"], ["-0.1", "1.1", "x", "", "nan", "1e999"]),
        (real(0, 1, above=True), ["1e-9"], ["0"]),
        (real(), ["0"], ["nan", "inf", "-inf"]),
    ],
)
def test_flag_types(make, accepted, refused):
    """Both ends of a range belong to it; nothing else, and no NaN, reaches a lesson."""
    for text in accepted:
        assert make(text) == float(text)
    for text in refused:
        with pytest.raises(argparse.ArgumentTypeError) as caught:
            make(text)
        assert "\n" not in str(caught.value)


WRONG = [
    "--no-such-flag",
    "--epoch 3",  # abbreviations would change their meaning with the next new flag
    "--epochs 0",
    "--dataset nowhere",
    "--device a\nb",
    "--eval-only --resume",
    "--eval-only --save-model",
    "--out-dir taken/below",
    "--save-model --path folder",
    "--save-model --path out/last.pt --out-dir out",
]


@pytest.mark.parametrize("line", WRONG)
def test_wrong_flags(in_folder, capsys, line):
    """Status 2, and exactly one line on stderr, before any work is done."""
    (in_folder / "taken").write_text("I am a file")
    (in_folder / "folder").mkdir()
    said = complaint(capsys, 2, lambda argv: parse(*argv), line.split(" "))
    assert line.split(" ")[0] in said or "--path" in said
    left = sorted(path.name for path in in_folder.iterdir())
    assert left in (["folder", "taken"], ["folder", "outputs", "taken"])


def test_experiments_of_their_own(in_folder, capsys):
    """--compare with --resume: a saved run has nothing to do with it."""
    parser = toy.make_flags()
    parser.add_argument("--compare")
    parser.add_argument("--predict")
    for word in ("--resume", "--eval-only", "--save-model", "--predict=x"):
        argv = ["--compare=cell", word]
        line = complaint(capsys, 2, lambda argv: parse_flags(parser, argv, "x"), argv)
        assert "--compare is an experiment of its own" in line


def test_defaults(in_folder):
    """What a lesson finds when no flag is given."""
    args = parse()
    assert args.lesson == "99_test"
    assert args.out_dir == str(Path("outputs") / "99_test")
    assert Path(args.out_dir).is_dir()
    assert args.path == str(Path("models") / "99_test.pt")
    assert not Path("models").exists()
    expected = {"seed": 0, "quick": False, "no_plots": False, "threads": 1}
    expected |= {"dataset": "auto", "data_dir": "data", "input": None, "epochs": 5}
    expected |= {"lr": 0.05, "hidden_size": 5, "num_layers": 1, "dropout": 0.0}
    expected |= {"clip": 1.0, "weight_decay": 0.0, "patience": 0, "accumulate": 1}
    expected |= {"optimizer": "adam", "precision": "fp32", "save_model": False}
    expected |= {"eval_only": False, "resume": False, "batch_size": 4}
    assert {key: getattr(args, key) for key in expected} == expected
    assert torch.zeros(1, device=torch.device(args.device)).sum() == 0
    assert torch.initial_seed() == 0


def test_given_flags_are_kept(in_folder):
    """--out-dir, --path and --seed are taken as they are."""
    args = parse("--out-dir", "a/b", "--path", "c.pth", "--seed", "5")
    assert (args.out_dir, args.path) == ("a/b", "c.pth")
    assert list(Path("a/b").iterdir()) == []
    assert torch.initial_seed() == 5


def test_defaults_that_depend_on_a_task(in_folder):
    """They fill in what the reader left open, and nothing else."""
    parser = rnn_utils.make_parser("A lesson.")
    rnn_utils.add_common_flags(parser)
    rnn_utils.add_training_flags(parser, epochs=None, batch_size=None, lr=0.1)
    asked = []

    def table(args):
        asked.append(args.lesson)
        return {"epochs": 7, "batch_size": 9, "hidden_size": 4}

    args = parse_flags(parser, ["--batch-size", "3"], "x/07_y.py", defaults=table)
    assert (args.epochs, args.batch_size, args.hidden_size) == (7, 3, 4)
    assert asked == ["07_y"]


def test_data_dir_from_the_environment(in_folder, monkeypatch):
    """RNN_DATA_DIR sets the default; the flag wins; an empty variable is none."""
    monkeypatch.setenv("RNN_DATA_DIR", "elsewhere")
    assert parse().data_dir == "elsewhere"
    assert parse("--data-dir", "here").data_dir == "here"
    monkeypatch.setenv("RNN_DATA_DIR", "")
    assert parse().data_dir == "data"


@pytest.mark.parametrize("given, epochs", [([], 2), (["1"], 1), (["9"], 2)])
def test_quick_caps_epochs_downwards(in_folder, given, epochs):
    """--quick must not lengthen a run; other flags stay in force."""
    more = ["--epochs", *given] if given else []
    args = parse("--quick", "--hidden-size", "9", *more)
    assert (args.epochs, args.hidden_size, args.quick) == (epochs, 9, True)
    assert capped(args, [1, 2, 3], 2) == [1, 2]
    assert capped(parse(), [1, 2, 3], 2) == [1, 2, 3]


def test_lesson_without_training(in_folder, capsys):
    """Lessons 01 to 03 have no --epochs and no --path."""
    assert run(plain_lesson, ["--quick"]) == 0
    assert "--epochs" in complaint(capsys, 2, plain_lesson, ["--epochs", "3"])


def test_help(in_folder, capsys):
    """--help shows the lesson's text and every default, and ends with 0."""
    with pytest.raises(SystemExit) as caught:
        run(lambda argv: parse(*argv), ["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr()
    assert "A lesson in small" in printed.out
    assert printed.err == ""
    assert list(in_folder.iterdir()) == []
    for action in toy.make_flags()._actions:
        if action.default not in (None, False, "auto") and action.type:
            assert f"default {action.default}" in (action.help or ""), action.dest


def raising(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    "error, words",
    [
        (UserError("a.txt is empty."), "a.txt is empty."),
        (UserError("two\nlines.txt is empty"), "two lines.txt is empty."),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "a.txt: No such"),
        (OSError(28, "No space left on device"), "a file: No space left"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "--batch-size"),
        (MemoryError(), "--batch-size"),
    ],
)
def test_run_turns_errors_into_a_sentence(in_folder, capsys, error, words):
    """Status 2 and one line for all that a reader can cause."""
    assert words in complaint(capsys, 2, raising(error))


def test_run_reports_a_full_memory(in_folder, capsys):
    """PyTorch raises a plain RuntimeError when the CPU's memory does not suffice."""
    line = complaint(capsys, 2, lambda argv: torch.empty(2**55))
    assert "lower --batch-size or --hidden-size" in line


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), KeyError("a")])
def test_run_does_not_hide_mistakes_in_the_code(in_folder, error):
    """A traceback is right where the lesson itself is wrong."""
    with pytest.raises(type(error)):
        run(raising(error))


def test_run_returns_130_when_interrupted(in_folder, capsys):
    """Ctrl-C says how to go on, where this run has left something to go on from."""

    def trains(argv):
        toy.train(toy.flags(in_folder, epochs=1))
        raise KeyboardInterrupt

    assert run(trains) == 130
    said = capsys.readouterr().err
    assert f"{in_folder / 'last.pt'}: the same command with --resume" in said
    assert run(raising(KeyboardInterrupt())) == 130  # of another run nothing is known
    said = capsys.readouterr().err
    assert "nothing to go on from" in said and "--resume" not in said


def test_a_reader_who_has_gone_and_a_terminal_that_lacks_letters(in_folder):
    """`python 01_... | head -1` ends quietly; an odd letter becomes a question mark."""
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import rnn_utils\n"
        "sys.exit(rnn_utils.run(lambda argv: print(chr(0x17b) + 'ak')))"
    )
    receiver, sender = os.pipe()
    os.close(receiver)
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=env, capture_output=True, check=True)
    assert done.stdout.split() == [b"?ak"]
    done = subprocess.run(
        command, env=env, stdout=sender, stderr=subprocess.PIPE, check=False
    )
    os.close(sender)
    assert (done.returncode, done.stderr) == (0, b"")
