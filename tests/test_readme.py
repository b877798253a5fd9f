"""The README says nothing that is not so: its table, its commands, its flags."""

import re
import shlex
import sys

import pytest
from conftest import ROOT, load_lesson, run_script

sys.path.insert(0, str(ROOT / "benchmarks"))
import scoreboard

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Lines that start with `python NN_...`, in indented and in fenced blocks, folded or not.
# The lines for a fresh machine (venv and pip, Windows) are not among them: a test must
# not install anything, and only one of the systems is at hand.
COMMANDS = sorted(set(re.findall(r"^ *python (\d\d_\S+\.py.*)$", README, re.MULTILINE)))
TODO = re.compile(r"TODO\(([\w-]+)\)")  # a figure of that row is still to be recorded
FIGURES = re.compile(r"<!-- figures: ([\w -]+) -->(.*?)<!-- /figures -->", re.DOTALL)
NUMBER = re.compile(r"\d[\d,]*\.\d+|\d+(?:,\d{3})+")


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


def recorded(name):
    """Recorded runs of a row of the table, the newest of an exercise, or of cells.py."""
    if name == "cells":
        return scoreboard.read_results(ROOT / "benchmarks" / "cells.jsonl")[-3:]
    runs = [run for run in scoreboard.read_results() if run["row"] == name]
    known = scoreboard.read_results(scoreboard.EXERCISED)
    return runs or [run for run in known if run["row"] == name][-1:]


MEASURED = ("metrics", "baselines", "models", "printed", "parameters", "train_seconds")
MEASURED += ("peak_mib", "milliseconds", "against_rnn")


def numbers_in(value):
    """Every number in lists and dicts, those that were printed (as text) included."""
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [number for item in items for number in numbers_in(item)]
    if isinstance(value, str):
        return [float(value.replace(",", ""))] if NUMBER.fullmatch(value) else []
    return [] if value is None else [float(value)]


def is_recorded(text, runs):
    """Is a quoted number, "0.89" or "6,213", a recorded one, rounded?"""
    digits = len(text.partition(".")[2])
    shown = text.replace(",", "")
    found = [run[key] for run in runs for key in MEASURED if key in run]
    return any(f"{number:.{digits}f}" == shown for number in numbers_in(found))


def test_lessons_in_the_table_exist_in_order_with_recorded_scores():
    """Score and baseline of a lesson are those of the scoreboard (01: of its exercise)."""
    rows = re.findall(
        r"^\| `(\d\d_\S+)\.py` .*\| (.*) \| (.*) \|$", README, re.MULTILINE
    )
    there = sorted(path.stem for path in ROOT.glob("[01][0-9]_*.py"))
    assert [script for script, *_ in rows] == there and len(there) == 10
    main = {"08_seq2seq_basic": "08-reverse", "01_sequence_basics": "01-default"}
    for script, minutes, said in rows:
        assert re.match(r"\d", minutes), script
        default = {
            row.script: name for name, row in scoreboard.ROWS.items() if not row.flags
        }
        name = main.get(script, default.get(script, "09-additive"))
        if script[:2] in ("02", "03") or TODO.search(said):
            continue
        score, baseline = NUMBER.findall(said.partition("(")[0])
        if script[:2] == "01":
            assert is_recorded(score, recorded(name)), said
            assert is_recorded(baseline, recorded(name)), said
            continue
        runs, row = recorded(name), scoreboard.ROWS[name]
        mean = scoreboard.spread([run["metrics"][row.metric] for run in runs])
        rival = scoreboard.spread([run["baselines"][row.baseline] for run in runs])
        assert score == mean.split()[0], f"{script}: the table has {mean}"
        assert baseline == rival.split()[0], f"{script}: the table has {rival}"
        assert row.baseline.removesuffix("_rmse").replace("_", " ") in said, script


@pytest.mark.parametrize("names, text", FIGURES.findall(README))
def test_quoted_figures_are_recorded(names, text):
    """Each figure of a solution stands in a recorded run that the solution names."""
    runs = []
    for name in names.split():
        assert recorded(name), f"no recorded run of {name}"
        runs += recorded(name)
    for number in NUMBER.findall(re.sub(r"`[^`]*`", "", TODO.sub("", text))):
        assert is_recorded(number, runs), f"{number} is in no recorded run of {names}"


def test_no_other_figures():
    """Outside of marked places and tables that are checked, nobody quotes a figure."""
    text = FIGURES.sub("", README)
    text = text.split(scoreboard.BEGIN)[0] + text.split(scoreboard.END)[1]
    text = re.sub(r"^(    |\| `\d\d_).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"```.*?```|\$\$.*?\$\$|`[^`]*`", "", text, flags=re.DOTALL)
    found = set(re.findall(r"\d+\.\d+", text))
    assert found <= {"3.11", "4.0", "0.18", "2.3", "1.1"}, (
        found
    )  # versions, 1.1 million


def test_what_is_recorded_is_filled_in():
    """A TODO names a row (or cells) and goes when that row is there."""
    known = {"cells", *scoreboard.ROWS, *scoreboard.EXERCISES}
    for name in TODO.findall(README):
        assert name in known, name
        assert name == "cells" or not recorded(name), f"fill in TODO({name})"
    assert README.count("TODO") == len(TODO.findall(README))


@pytest.mark.parametrize("name", scoreboard.EXERCISES)
def test_exercises_are_shown_as_they_were_run(name):
    """The command beside a figure is the one that gave it."""
    row = scoreboard.EXERCISES[name]
    command = f"{row.script}.py {' '.join(row.flags)}".strip()
    assert command in COMMANDS
    for run in recorded(name):
        assert (tuple(run["flags"]), run["script"]) == (row.flags, row.script)
        used = dict(zip(row.flags, row.flags[1:], strict=False)).get("--dataset")
        if row.script[:2] not in ("01",):
            assert run["real"] or used or run["dataset"] == scoreboard.GENERATED


def test_every_lesson_has_exercises_and_each_a_folded_solution():
    """A solution that stands open spoils the guess."""
    part = README.split("\n## Exercises\n")[1].split("\n## ")[0]
    lessons = re.split(r"^### ", part, flags=re.MULTILINE)[1:]
    assert [text[:2] for text in lessons] == [f"{n:02}" for n in range(1, 11)]
    for text in lessons:
        asked = len(re.findall(r"^\d\. ", text, re.MULTILINE))
        assert asked == text.count("<summary>Solution") == text.count("</details>") >= 1
        scripts = set(re.findall(r"^ +python (\d\d)_", text, re.MULTILINE))
        assert scripts == {text[:2]}
    assert README.count("<details>") == README.count("</details>")


def test_pictures_are_there_and_small():
    """A picture that is missing, or that makes every clone heavier."""
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert pictures
    for path in pictures:
        assert (ROOT / path).stat().st_size < 100 * 1024, path
        assert (ROOT / path).read_bytes()[:4] == b"\x89PNG"


def test_contents_lead_somewhere():
    """Each link within the README has its heading."""
    heads = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
    links = re.findall(r"\]\(#([^)]+)\)", README)
    assert len(links) > 15
    assert set(links) <= anchors, set(links) - anchors


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", [n for n in scoreboard.EXERCISES if n[:2] < "04"])
def test_printed_figures_come_again(name, real_data):
    """Lessons 01 to 03 take seconds: run again, they print what is recorded."""
    again = scoreboard.run_once(name, 0, real_data)
    then = recorded(name)[0]
    assert again["metrics"] == pytest.approx(then["metrics"], abs=0.05, rel=1e-3)
    if name[:2] != "01":  # no training, so that figures are the same on any machine
        quoted = " ".join(t for names, t in FIGURES.findall(README) if name in names)
        for number in NUMBER.findall(quoted):
            assert is_recorded(number, [again]) or not is_recorded(number, [then])


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
