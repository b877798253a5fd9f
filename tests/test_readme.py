"""The README says nothing that is not so: its table, its commands, its flags."""

import re
import shlex
import sys

import pytest
from conftest import ROOT, load_lesson, run_script

sys.path.insert(0, str(ROOT / "benchmarks"))
import scoreboard

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(
    set(re.findall(r"^    python (\d\d_\S+\.py.*)$", README, re.MULTILINE))
)


def test_table_comes_from_recorded_results():
    """Nobody edits a figure in the README by hand."""
    inside = README.split(scoreboard.BEGIN)[1].split(scoreboard.END)[0]
    assert inside.strip() == scoreboard.table(scoreboard.read_results()).strip()


def test_recorded_results_are_real_runs_of_known_rows():
    """Every line is on real data, of a row that exists, and none stands twice."""
    results = scoreboard.read_results()
    assert results
    keys = [(run["row"], run["seed"]) for run in results]
    assert len(keys) == len(set(keys))
    for run in results:
        row = scoreboard.ROWS[run["row"]]
        assert run["real"] is (run["dataset"] != scoreboard.GENERATED)
        assert tuple(run["flags"]) == row.flags
        assert run["script"] == row.script


def test_table_of_a_known_run():
    """Mean and half range by hand: 0.80, 0.82, 0.83."""
    run = {
        "row": "04-rnn",
        "dataset": "names",
        "real": True,
        "baselines": {"letter_groups": 0.9},
        "parameters": 1234,
        "train_seconds": 5.0,
        "peak_mib": 300,
        "processor": "P",
        "threads": 2,
        "torch": "T",
    }
    runs = [{**run, "metrics": {"test_accuracy": a}} for a in (0.80, 0.82, 0.83)]
    lines = scoreboard.table(runs).splitlines()
    assert "0.8167 ± 0.0150" in lines[2]
    assert "| 0.9000 | 1,234 | 5 | 300 |" in lines[2]
    assert lines[-1] == "Processor: P, 2 threads; PyTorch T."


def test_fill_runs_only_what_is_missing(monkeypatch, tmp_path):
    """A recorded result is not computed again; a new one is kept at once."""
    calls = []

    def fake(name, seed, data_dir):
        calls.append((name, seed))
        return {"row": name, "flags": [], "seed": seed, "metrics": {"test_accuracy": 1}}

    monkeypatch.setattr(scoreboard, "RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setattr(scoreboard, "run_once", fake)
    scoreboard.fill(["04-rnn"], "nowhere")
    scoreboard.fill(["04-rnn"], "nowhere")
    assert calls == [("04-rnn", 0), ("04-rnn", 1), ("04-rnn", 2)]
    assert len(scoreboard.read_results()) == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_in_commands_exist(command):
    """A flag that a script does not have would send the reader away."""
    script, *words = shlex.split(command)
    text = (ROOT / script).read_text(encoding="utf-8")
    plumbing = (ROOT / "rnn_utils.py").read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in text + plumbing, word


def test_scripts_in_the_table_exist_or_are_to_come():
    """A lesson is either there or marked as to come."""
    rows = re.findall(r"^\| `(\d\d_\S+\.py)` .*\| (.*) \|$", README, re.MULTILINE)
    assert len(rows) == 10
    for script, minutes in rows:
        assert (ROOT / script).exists() == (minutes != "to come"), script


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if "eval-only" not in c])
def test_commands_run(command, tmp_path):
    """Every command that the README shows, offline, with --quick added."""
    script, *words = shlex.split(command)
    done = run_script(script.removesuffix(".py"), *words, "--quick", cwd=tmp_path)
    if "--dataset" in words and done.returncode == 2:  # named outright, no network
        assert "could not be downloaded" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    if "--save-model" in words:
        again = [word for word in words if word != "--save-model"]
        name = script.removesuffix(".py")
        done = run_script(name, *again, "--eval-only", "--quick", cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_lessons_do_nothing_when_imported(capsys):
    """Importing must neither print, nor train, nor write."""
    for path in sorted(ROOT.glob("[01][0-9]_*.py")):
        load_lesson(path.stem)
    assert capsys.readouterr().out == ""
