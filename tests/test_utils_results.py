"""rnn_utils sections 5 and 6: tables, metrics.json, pictures, the command line."""

import argparse
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import ROOT

import rnn_utils
from rnn_utils import (
    Source,
    UserError,
    add_common_flags,
    add_data_flags,
    add_training_flags,
    capped,
    make_parser,
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


TRAINING = {"epochs_run": 4, "train_seconds": 1.5, "units_per_second": 28000.0}
TRAINING["unit"] = "tokens"
KEYS = ["script", "dataset", "real", "seed", "device", "precision", "torch", "threads"]
KEYS += ["parameters", "epochs_run", "train_seconds", "units_per_second", "unit"]
KEYS += ["metrics", "baselines", "args"]


def strict_json(path):
    """Parse as other programs do, which know no NaN."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("training", [None, TRAINING])
def test_metrics_has_the_keys_of_the_contract(tmp_path, training):
    """Benchmarks and README are written from these keys."""
    args = flags(tmp_path, note=Path("a") / "b", words=("x", "y"))
    returned = write_metrics(
        args, SOURCE, {"test_accuracy": 0.5}, {"majority": 0.25}, training, 17
    )
    found = strict_json(Path(args.out_dir) / "metrics.json")
    assert found == returned
    assert list(found) == KEYS
    expected = {"script": LESSON, "dataset": "tiny", "real": True, "seed": 3}
    expected.update(device="cpu", precision="fp32", torch=torch.__version__)
    expected.update(parameters=17, metrics={"test_accuracy": 0.5})
    expected.update(baselines={"majority": 0.25}, threads=torch.get_num_threads())
    expected.update(training or {"epochs_run": 0, "train_seconds": 0.0, "unit": ""})
    assert {key: found[key] for key in expected} == expected
    assert found["args"]["note"] == str(Path("a") / "b")
    assert found["args"]["words"] == ["x", "y"]
    assert set(found["args"]) == set(vars(args))


def test_metrics_with_several_models(tmp_path):
    """`models` stands beside the default model's own metrics, and only where there are several."""
    models = {"lstm": {"val_loss": np.float32(0.5)}, "gru": {"val_loss": math.nan}}
    args = flags(tmp_path, precision="bf16")
    write_metrics(args, SOURCE, {"val_loss": 0.5}, {}, models=models)
    found = strict_json(Path(args.out_dir) / "metrics.json")
    assert sorted(found) == sorted([*KEYS, "models"])
    assert found["models"] == {"lstm": {"val_loss": 0.5}, "gru": {"val_loss": None}}
    assert found["precision"] == "bf16"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, torch.tensor(math.nan)])
def test_scores_that_are_no_number(tmp_path, capsys, bad):
    """JSON has no NaN: such a score is null, and the next run is compared all the same."""
    args = flags(tmp_path)
    for _ in "ab":
        write_metrics(args, SOURCE, {"val_loss": bad, "f1": 0.5}, {"naive": bad})
    found = strict_json(Path(args.out_dir) / "metrics.json")
    assert found["metrics"] == {"val_loss": None, "f1": 0.5}
    assert found["baselines"] == {"naive": None}
    write_metrics(args, SOURCE, {"val_loss": bad}, {})
    write_metrics(args, SOURCE, {"val_loss": 1.0}, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("Last run: f1 0.5000 (same flags)")
    assert "nan" not in " ".join(lines)


@pytest.mark.parametrize(
    "kind", [float, np.float64, np.float32, torch.tensor, np.array, int]
)
def test_any_kind_of_number_is_a_score(tmp_path, kind):
    """Scores come from torch, NumPy and scikit-learn alike."""
    args = flags(tmp_path)
    write_metrics(args, SOURCE, {"a": kind(2)}, {"b": kind(3)}, parameters=kind(4))
    found = strict_json(Path(args.out_dir) / "metrics.json")
    assert (found["metrics"], found["baselines"]) == ({"a": 2.0}, {"b": 3.0})
    assert found["parameters"] == 4


def test_compare_reports_the_default(tmp_path, capsys):
    """Of several models, `metrics` is the first one's, with what its training took."""
    args = flags(tmp_path, compare="cell", no_plots=True)

    def train(size):
        record = {"epoch": 1, "loss": 1.0, "val_loss": 1.0, "max_grad_norm": 2.0}
        record |= {"seconds": size / 1, "loop_seconds": size / 2}
        return torch.nn.Linear(size, 1), [record], {"accuracy": size / 10}

    kinds, others = {"lstm": 5, "rnn": 3}, {"majority": {"accuracy": 0.25}}
    rnn_utils.compare_variants(args, SOURCE, kinds, train, others)
    found = strict_json(Path(args.out_dir) / "metrics.json")
    assert found["metrics"] == {"val_accuracy": 0.5}
    assert (found["parameters"], found["train_seconds"]) == (6, 5.0)
    assert found["epochs_run"] == 1
    assert [model["val_accuracy"] for model in found["models"].values()] == [0.5, 0.3]


def test_compare_where_the_default_diverged(tmp_path, capsys):
    """No other variant's figures may pass for the default's."""
    args = flags(tmp_path, compare="clip", no_plots=True)

    def train(size):
        if size == 5:
            raise rnn_utils.Diverged("the loss is no longer a number; lower --lr")
        record = {"epoch": 1, "loss": 1.0, "val_loss": 1.0, "max_grad_norm": 2.0}
        record |= {"seconds": 1.0, "loop_seconds": 1.0}
        return torch.nn.Linear(size, 1), [record], {"accuracy": 0.3}

    rnn_utils.compare_variants(args, SOURCE, {"wild": 5, "tame": 3}, train, {})
    found = strict_json(Path(args.out_dir) / "metrics.json")
    assert (found["metrics"], found["parameters"], found["epochs_run"]) == ({}, 0, 0)
    assert list(found["models"]) == ["tame"]
    assert "the loss is no longer a number" in capsys.readouterr().out


def test_own_file_with_a_name_that_is_not_utf8(tmp_path):
    """Such a name is printed and drawn like any other."""
    source = Source("input", tmp_path / "caf\udce9.csv", False)
    assert source.label == "caf?.csv [sample: your own data]"


def compared(folder, capsys, value=0.5, name="test_accuracy", source=SOURCE, **changes):
    """The line that one more run prints."""
    capsys.readouterr()
    write_metrics(flags(folder, **changes), source, {name: value}, {})
    (line,) = capsys.readouterr().out.splitlines()
    return line


def test_comparison_with_the_last_run(tmp_path, capsys):
    """First run, the same flags, changed flags; each against the newest of its kind."""
    assert compared(tmp_path, capsys, 0.5).startswith("This run: test_accuracy 0.5000")
    assert compared(tmp_path, capsys, 0.75) == (
        "Last run: test_accuracy 0.5000 (same flags); this run 0.7500 (+0.2500)"
    )
    assert compared(tmp_path, capsys, 0.5, lr=0.2) == (
        "Last run: test_accuracy 0.7500 (--lr 0.1); this run 0.5000 (-0.2500)"
    )
    runs = (tmp_path / "outputs" / "runs.jsonl").read_text().splitlines()
    parsed = [json.loads(line) for line in runs]
    assert [run["metrics"]["test_accuracy"] for run in parsed] == [0.5, 0.75, 0.5]
    assert [list(run) for run in parsed] == [["time", *KEYS]] * 3


@pytest.mark.parametrize(
    "other",
    [
        {"lesson": "98_other"},
        {"quick": True},
        {"source": Source("other", None, True)},
        {"name": "test_mse"},
    ],
)
def test_unlike_runs_are_not_compared(tmp_path, capsys, other):
    """Two lessons, two data sets, a quick run and a full one: no figure speaks of the other."""
    compared(tmp_path, capsys, **other)
    assert compared(tmp_path, capsys).startswith("This run: ")
    name = {"name": other["name"]} if "name" in other else {}
    assert compared(tmp_path, capsys, **name).startswith("Last run: ") or name


DAMAGED = {
    "cut": b'{"script": "99_te',
    "cut, no line end": None,
    "empty": b"",
    "text": b"I am no JSON",
    "list": b"[1]",
    "number": b"3",
    "long number": b"1" * 5000,
    "no metrics": b'{"script": "99_test", "dataset": "tiny", "args": {"quick": false}}',
    "odd metrics": b'{"script": "99_test", "dataset": "tiny", "metrics": [], "args": []}',
    "not UTF-8": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_line_is_survived(tmp_path, capsys, kind):
    """A run's result must not be lost because an earlier one crashed while writing."""
    compared(tmp_path, capsys, 0.5)
    path = tmp_path / "outputs" / "runs.jsonl"
    with path.open("ab") as file:
        file.write(b'{"scr' if DAMAGED[kind] is None else DAMAGED[kind] + b"\n")
    assert compared(tmp_path, capsys, 0.75).startswith("Last run: test_accuracy 0.5000")
    assert compared(tmp_path, capsys, 0.25).startswith("Last run: test_accuracy 0.7500")


def test_runs_file_that_cannot_be_written(tmp_path, capsys):
    """One line that names the file; the result itself is safe in metrics.json."""
    (tmp_path / "outputs" / "runs.jsonl").mkdir(parents=True)
    args = flags(tmp_path)
    write_metrics(args, SOURCE, {"a": 1.0}, {})
    assert "Not added to" in capsys.readouterr().out
    assert (Path(args.out_dir) / "metrics.json").exists()


def test_metrics_without_a_score(tmp_path, capsys):
    """Nothing to compare, nothing printed."""
    write_metrics(flags(tmp_path), SOURCE, {}, {})
    assert capsys.readouterr().out == ""


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
    assert lines == [
        "  model         accuracy   parameters   note    F1",
        "  LSTM            0.5000    1,234,567      -     -",
        "  a long name    12.2500            -      x   nan",
        "  3                    -            5      -     -",
    ]


def test_print_table_without_rows(capsys):
    """A table of nothing is a title and a header."""
    print_table("Nothing", {})
    assert capsys.readouterr().out == "\nNothing\n  model\n"


# ---------------------------------------------------------------- pictures


RECORDS = [{"epoch": i, "loss": 1 / i, "val_loss": 2 / i} for i in (1, 2, 3)]
ODD = "50 $_$ {x} 鍵 \\frac"  # dollar signs: no formula, but a reader's file name
PICTURES = {
    "lines": lambda a: plot_lines(a, "p", ODD, {"a": [1, 2]}, "x", "y"),
    "lines log": lambda a: plot_lines(
        a, "p", "t", {"a": [1, 99]}, "x", "y", [3, 4], True
    ),
    "records": lambda a: plot_records(
        a, ODD, RECORDS, {"loss": ["loss", "val_loss"]}, "p"
    ),
    "matrix": lambda a: plot_matrix(
        a, "p", ODD, np.eye(2), ["$_$", "b"], ["c", "$^$"], "x", "y"
    ),
    "zeros": lambda a: plot_matrix(
        a, "p", "t", torch.zeros(1, 20), ["r"], range(20), "x", "y", centred=True
    ),
    "own": lambda a: save_picture(plt.figure(), a, "p"),
}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("no_plots", [False, True])
def test_pictures(tmp_path, capsys, kind, no_plots):
    """A PNG lands and is named; under --no-plots nothing; no figure is left open."""
    args = flags(tmp_path, no_plots=no_plots)
    with warnings.catch_warnings(action="ignore"):  # a font may lack a letter
        PICTURES[kind](args)
    path = Path(args.out_dir) / "p.png"
    printed = capsys.readouterr().out
    if no_plots:
        assert printed == ""
        assert list(tmp_path.iterdir()) == []
    else:
        assert printed == f"  picture: {path}\n"
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
        assert plt.imread(path).std() > 0 or kind == "own"
    assert plt.get_fignums() == []


def test_no_records_no_picture(tmp_path):
    """A run that only evaluates has no curve to draw."""
    plot_records(flags(tmp_path), "t", [], {"loss": ["loss"]})
    assert list(tmp_path.iterdir()) == []


def test_matrix_colours_are_symmetric_around_zero(tmp_path, monkeypatch):
    """With `centred`, white must mean zero, or the picture misleads."""
    seen = []
    monkeypatch.setattr(
        rnn_utils, "save_picture", lambda figure, *_: seen.append(figure)
    )
    matrix = [[-1.0, 3.0]]
    plot_matrix(flags(tmp_path), "p", "t", matrix, "r", "ab", "x", "y", centred=True)
    image = seen[0].axes[0].images[0]
    assert image.get_clim() == (-3.0, 3.0)
    plt.close(seen[0])


# ---------------------------------------------------------------- the command line


@pytest.fixture
def in_folder(monkeypatch, tmp_path):
    """Run in an empty folder; the SIGTERM handler that run() installs is put back."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


def parser_of_a_lesson():
    parser = make_parser("99 · A test lesson.\n\nIt learns 100 % of nothing.")
    add_common_flags(parser)
    add_data_flags(parser, ["tiny", "sample"], "a file")
    add_training_flags(parser, epochs=7, batch_size=4, lr=0.01, hidden_size=8)
    return parser


def parse(*argv):
    return parse_flags(parser_of_a_lesson(), list(argv), "/somewhere/99_test.py")


def plain_lesson(argv):
    """A lesson without training, such as 01."""
    parser = make_parser("A lesson.")
    add_common_flags(parser)
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
    "make, text, value",
    [
        (whole(), "1", 1),
        (whole(0, 5), "0", 0),
        (whole(0, 5), "5", 5),
        (whole(), "1_000", 1000),
        (real(), "0", 0.0),
        (real(0, 1), "1", 1.0),
        (real(0, 1, above=True), "1e-9", 1e-9),
        (real(-1, 1), "-1", -1.0),
    ],
)
def test_flag_types_accept(make, text, value):
    """Both ends of a range belong to it."""
    assert make(text) == value
    assert type(make(text)) is type(value)


@pytest.mark.parametrize(
    "make, text",
    [
        *itertools.product(
            [whole(), whole(0, 5)], ["-1", "1.0", "1e3", "", "x", "nan", "9" * 5000]
        ),
        *((whole(), text) for text in ("0", "1000000001")),
        (whole(0, 5), "6"),
        *itertools.product(
            [real(0, 1), real(0, 1, above=True)], ["-0.1", "1.1", "x", ""]
        ),
        *itertools.product([real(), real(0, 1)], ["nan", "inf", "-inf", "1e999"]),
        (real(0, 1, above=True), "0"),
    ],
)
def test_flag_types_refuse(make, text):
    """Nothing out of range, and no NaN, may reach a lesson."""
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        make(text)
    assert "\n" not in str(caught.value)


WRONG = [
    "--no-such-flag",
    "--epoch 3",  # abbreviations would change their meaning with the next new flag
    "--hidden 3",
    "--epochs",
    "--epochs 0",
    "--epochs x",
    "--lr 0",
    "--lr nan",
    "--dropout 1",
    "--seed -1",
    "--seed 4294967296",
    "--optimizer lion",
    "--dataset nowhere",
    "--device tpu",
    "--precision fp16",
    "--patience -1",
    "--eval-only --resume",
    "--eval-only --save-model",
    "surplus",
    "--epochs 3\n4",
    "--device a\nb",
    "--out-dir taken",
    "--out-dir taken/below",
    "--out-dir " + "n" * 300,
]


@pytest.mark.parametrize("line", WRONG)
def test_wrong_flags(in_folder, capsys, line):
    """Status 2, and exactly one line on stderr, whatever is wrong."""
    (in_folder / "taken").write_text("I am a file")
    complaint(capsys, 2, lambda argv: parse(*argv), line.split(" "))
    assert [path.name for path in in_folder.iterdir()] == ["taken"]


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="read-only means nothing to this user"
)
def test_read_only_out_dir(in_folder, capsys):
    """Fail before the training, not after."""
    (in_folder / "locked").mkdir(mode=0o500)
    argv = ["--out-dir", "locked/out"]
    assert "--out-dir" in complaint(capsys, 2, lambda argv: parse(*argv), argv)


def test_defaults(in_folder):
    """What a lesson finds when no flag is given."""
    args = parse("--device", "cpu")
    assert args.lesson == "99_test"
    assert args.out_dir == str(Path("outputs") / "99_test")
    assert Path(args.out_dir).is_dir()
    assert args.path == str(Path("models") / "99_test.pt")
    expected = {"seed": 0, "quick": False, "no_plots": False, "device": "cpu"}
    expected.update(dataset="auto", data_dir="data", input=None, epochs=7, batch_size=4)
    expected.update(lr=0.01, hidden_size=8, num_layers=1, dropout=0.0, clip=1.0)
    expected.update(weight_decay=0.0, patience=0, optimizer="adam", accumulate=1)
    expected.update(precision="fp32", save_model=False, eval_only=False, resume=False)
    assert {key: getattr(args, key) for key in expected} == expected
    assert torch.initial_seed() == 0


def test_auto_is_a_device_that_is_there(in_folder):
    """Lessons hand args.device to torch.device."""
    assert torch.zeros(1, device=torch.device(parse().device)).sum() == 0


def test_data_dir_from_the_environment(in_folder, monkeypatch):
    """RNN_DATA_DIR sets the default; the flag wins; an empty variable is none."""
    monkeypatch.setenv("RNN_DATA_DIR", "elsewhere")
    assert parse().data_dir == "elsewhere"
    assert parse("--data-dir", "here").data_dir == "here"
    monkeypatch.setenv("RNN_DATA_DIR", "")
    assert parse().data_dir == "data"


@pytest.mark.parametrize(
    "given, epochs", [([], 2), (["--epochs", "1"], 1), (["--epochs", "9"], 2)]
)
def test_quick_caps_epochs_downwards(in_folder, given, epochs):
    """--quick must not lengthen a run; other flags stay in force."""
    args = parse("--quick", "--hidden-size", "9", *given)
    assert (args.epochs, args.hidden_size, args.quick) == (epochs, 9, True)
    assert capped(args, [1, 2, 3], 2) == [1, 2]
    assert capped(parse(), [1, 2, 3], 2) == [1, 2, 3]


def test_given_places_are_kept(in_folder):
    """--out-dir and --path are taken as they are."""
    args = parse("--out-dir", "a/b", "--path", "c.pth", "--seed", "5")
    assert (args.out_dir, args.path) == ("a/b", "c.pth")
    assert (in_folder / "a" / "b").is_dir()
    assert list((in_folder / "a" / "b").iterdir()) == []
    assert torch.initial_seed() == 5


def test_lesson_without_training(in_folder):
    """Lessons 01 to 03 have no --epochs and no --path."""
    assert run(plain_lesson, ["--quick"]) == 0
    assert run(plain_lesson, ["--epochs", "3"]) == 2


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_device_that_is_not_there(in_folder, capsys, monkeypatch, name):
    """One sentence, status 2, before any work is done."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    line = complaint(capsys, 2, plain_lesson, ["--device", name])
    assert f"--device {name} is not available" in line


def test_help(in_folder, capsys):
    """--help shows the lesson's text and every default, and ends with 0."""
    with pytest.raises(SystemExit) as caught:
        run(lambda argv: parse(*argv), ["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr()
    assert "It learns 100 % of nothing." in printed.out
    assert "(default 7)" in printed.out
    assert printed.err == ""
    assert list(in_folder.iterdir()) == []


def test_path_that_cannot_hold_a_model(in_folder, capsys):
    """Found out before the training, not after its first epoch."""
    Path("best").mkdir()
    for path in ("best", "out/last.pt", os.devnull):
        words = ["--save-model", "--out-dir", "out", "--path", path]
        line = complaint(capsys, 2, lambda argv: parse(*argv), words)
        assert f"--path {path} cannot hold the model" in line
    assert Path("best").is_dir()


def test_every_training_flag_shows_its_default():
    """A learner reads the defaults in --help, not in the code."""
    parser = parser_of_a_lesson()
    for action in parser._actions:
        if action.default not in (None, False, "auto") and action.type:
            assert f"default {action.default}" in (action.help or ""), action.dest


def raising(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    "error, words",
    [
        (UserError("a.txt is empty"), "a.txt is empty."),
        (UserError("a.txt is empty."), "a.txt is empty."),
        (UserError("two\nlines.txt is empty"), "two lines.txt is empty."),
        (rnn_utils.Diverged("the loss is no longer a number"), "no longer a number."),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "a.txt: No such"),
        (
            PermissionError(13, "Permission denied", "a.txt"),
            "a.txt: Permission denied.",
        ),
        (OSError(28, "No space left on device"), "a file: No space left"),
        (OSError("odd"), "odd."),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "--batch-size"),
        (RuntimeError("MPS backend out of memory (...)"), "--batch-size"),
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


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), ValueError, KeyError("a")]
)
def test_run_does_not_hide_mistakes_in_the_code(in_folder, error):
    """A traceback is right where the lesson itself is wrong."""
    with pytest.raises(error if isinstance(error, type) else type(error)):
        run(raising(error))


def test_run_returns_0_and_hands_the_flags_on(in_folder):
    """main gets the flags that run was given."""
    seen = []
    assert run(seen.append, ["--x"]) == 0
    assert run(seen.append) == 0
    assert seen == [["--x"], None]


def test_run_returns_130_when_interrupted(in_folder, capsys):
    """Ctrl-C says how to go on, where there is something to go on from."""
    assert run(raising(KeyboardInterrupt())) == 130
    printed = capsys.readouterr().err
    assert "nothing to go on from" in printed and "--resume" not in printed


def test_interrupted_after_an_epoch(in_folder, capsys, monkeypatch):
    """The file that it names must be the one that this run has written."""

    def main(argv):
        rnn_utils._KEPT["path"] = Path("outputs") / "last.pt"
        raise KeyboardInterrupt

    assert run(main) == 130
    printed = capsys.readouterr().err
    assert f"{Path('outputs') / 'last.pt'}: the same command with --resume" in printed
    assert run(raising(KeyboardInterrupt())) == 130  # of another run nothing is known
    assert "--resume" not in capsys.readouterr().err


def printing_to(monkeypatch, descriptor, encoding):
    """Make sys.stdout a stream like that of a real process."""
    stream = open(descriptor, "w", encoding=encoding)  # noqa: SIM115  (the caller closes it)
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def test_reader_who_has_gone(in_folder, monkeypatch):
    """`python 01_... | head -1` must end quietly, also where the output comes at the end."""
    receiver, sender = os.pipe()
    os.close(receiver)
    with printing_to(monkeypatch, sender, "utf-8"):  # closing it writes what is left
        assert run(lambda argv: print("one line")) == 0


def test_terminal_that_lacks_letters(in_folder, monkeypatch):
    """On an old terminal a name's odd letters become question marks, not a traceback."""
    file = os.open("printed", os.O_CREAT | os.O_WRONLY)
    with printing_to(monkeypatch, file, "ascii"):
        assert run(lambda argv: print("Żak")) == 0
    assert Path("printed").read_text().strip() == "?ak"


SCRIPT = """
import sys, time
sys.path.insert(0, {root!r})
import rnn_utils

def main(argv):
    print("ready", flush=True)
    time.sleep(100)

sys.exit(rnn_utils.run(main))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_sigterm_ends_with_130(tmp_path):
    """A run that a scheduler ends must end in order, and promise nothing it has not kept."""
    command = [sys.executable, "-c", SCRIPT.format(root=str(ROOT))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, cwd=tmp_path) as process:
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Interrupted" in err and b"nothing to go on from" in err
    assert b"Traceback" not in err
