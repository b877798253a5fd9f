"""README and docs say nothing that is not so: commands, flags, figures, links.

A figure is checked against the record of the runs that it comes from
(benchmarks/results.jsonl, exercises.jsonl); the runs are made by benchmarks/scoreboard.py.
"""

import re
import shlex
import sys
from pathlib import Path

import pytest
from conftest import ROOT, load_lesson, run_main

import rnn_utils

sys.path.insert(0, str(ROOT / "benchmarks"))
import scoreboard

LESSONS = {path.stem: load_lesson(path.stem) for path in ROOT.glob("[01][0-9]_*.py")}
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
README = PAGES["README.md"]
ALL_PAGES = "\n".join(PAGES.values())

# ---------------------------------------------------------------- commands

# What the contract promises word for word.
PROMISED = """
python 01_sequence_basics.py
python 02_text_preprocessing.py
python 03_time_series_basics.py
python 04_simple_rnn.py --epochs 20
python 05_lstm_sentiment.py --epochs 10
python 05_lstm_sentiment.py --epochs 20 --lr 0.001 --batch-size 64
python 05_lstm_sentiment.py --device cuda
python 05_lstm_sentiment.py --dropout 0.5
python 05_lstm_sentiment.py --save-model --path ./models/sentiment.pth
python 05_lstm_sentiment.py --eval-only --path ./models/sentiment.pth
python 06_gru_time_series.py --sequence-length 50
python 07_bidirectional_rnn.py --epochs 15
python 07_bidirectional_rnn.py --hidden-size 256 --num-layers 2
python 08_seq2seq_basic.py --epochs 30
python 09_attention_mechanism.py --epochs 25
python 09_attention_mechanism.py --attention-type additive
python 09_attention_mechanism.py --attention-type scaled-dot-product
python 10_text_generation.py --epochs 50
python 10_text_generation.py --temperature 0.8 --max-length 500
"""
# Lines that start with `python NN_...`, in the docs and in the lessons' docstrings.  Those
# for a fresh machine (venv and pip) are not among them: .ci/run is what runs them.
LINE = re.compile(r"^ *(?:python|torchrun \S+) (\d\d_\w+\.py.*)$", re.MULTILINE)
SHOWN = LINE.findall(ALL_PAGES)
TOLD = [c for lesson in LESSONS.values() for c in LINE.findall(lesson.__doc__)]
COMMANDS = sorted({*SHOWN, *TOLD, *LINE.findall(PROMISED)})


def flags_of(command):
    """(name of the script, its flags) of `NN_x.py --flag ...   (a remark)`."""
    script, *words = shlex.split(re.split(r" {2,}|#", command)[0])
    return script.removesuffix(".py"), words


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    """A flag that a script does not have would send the reader away."""
    name, words = flags_of(command)
    LESSONS[name].make_flags().parse_args(words)


def tries_of(lesson):
    """The experiments below `Try this` in a docstring: each a line that starts with --."""
    _, _, part = lesson.__doc__.partition("Try this")
    for line in part.splitlines():
        if line.strip().startswith("--"):
            yield re.split(r" {2,}|,", line.strip())[0]


def test_experiments_parse():
    """Every flag below `Try this`, and at least one a lesson."""
    for name, lesson in LESSONS.items():
        tries = list(tries_of(lesson))
        assert tries, name
        for line in tries:
            lesson.make_flags().parse_args(shlex.split(line))


# Run by test_lessons.py for every lesson, or asking for what is not there.
ELSEWHERE = {"--save-model", "--eval-only", "--path", "--device", "--optimizer"}
ELSEWHERE |= {"--precision", "--quick", "--input", "--data-dir"}


def kinds_of(name, words):
    """The flags of a command by which it does other things than the default run: those
    that are no numbers.
    """
    actions = LESSONS[name].make_flags()._option_string_actions
    found = {flag: actions[flag] for flag in words if flag in actions}
    return {flag for flag, action in found.items() if action.type is None}


def one_of_each_kind():
    """Of the commands, as few as have every kind once: command -> (script, flags)."""
    chosen = {}
    seen = set(ELSEWHERE)
    for command in COMMANDS:
        name, words = flags_of(command)
        if not hasattr(LESSONS[name], "make_flags"):
            continue
        kinds = kinds_of(name, words)
        real = set(words) & set(rnn_utils.DATASETS)
        if kinds - seen and not kinds & ELSEWHERE and not real:
            chosen[command] = name, words
            seen |= kinds
    return chosen


@pytest.mark.parametrize("command", one_of_each_kind())
def test_commands_run(command, tmp_path, capsys, monkeypatch):
    """One command of each kind, to its end, with --quick added."""
    monkeypatch.chdir(tmp_path)
    name, words = one_of_each_kind()[command]
    small = ["--hidden-size", "16", "--epochs", "1"] if name >= "04" else []
    assert run_main(LESSONS[name], *words, "--quick", "--no-plots", *small) == 0
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------- recorded figures

TODO = re.compile(r"TODO\(([\w-]+)\)")  # a figure of that row is still to be recorded
FIGURES = re.compile(r"<!-- figures: ([\w -]+) -->(.*?)<!-- /figures -->", re.DOTALL)
NUMBER = re.compile(r"\d[\d,]*\.\d+|\d+(?:,\d{3})+")


def test_table_and_commands_are_generated():
    """Nobody edits a figure, or a command of a row, in the README by hand."""
    inside = README.split(scoreboard.BEGIN)[1].split(scoreboard.END)[0]
    assert inside.strip() == scoreboard.table(scoreboard.read_results()).strip()
    inside = README.split(scoreboard.FIRST)[1].split(scoreboard.LAST)[0]
    assert inside.strip() == scoreboard.commands().strip()


def test_recorded_results_are_real_runs_of_known_rows():
    """Every line is on real data, of a row that exists, and none stands twice."""
    results = scoreboard.read_results()
    assert results
    keys = [(run["row"], run["seed"]) for run in results]
    assert len(keys) == len(set(keys))
    for run in results:
        row = scoreboard.ROWS[run["row"]]
        assert run["real"] is (run["dataset"] not in scoreboard.GENERATED)
        assert tuple(run["flags"]) == row.flags
        assert run["script"] == row.script
        assert run["peak_mib"] < 4096, "a laptop has no more to spare"


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


def recorded(name):
    """Recorded runs of a row of the table, an exercise's newest ones, or of cells.py."""
    if name == "cells":
        return scoreboard.read_results(ROOT / "benchmarks" / "cells.jsonl")[-3:]
    runs = [run for run in scoreboard.read_results() if run["row"] == name]
    known = scoreboard.read_results(scoreboard.EXERCISED)
    newest = {run["seed"]: run for run in known if run["row"] == name}
    return runs or list(newest.values())


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


@pytest.mark.parametrize("names, text", FIGURES.findall(ALL_PAGES))
def test_quoted_figures_are_recorded(names, text):
    """Each figure of a solution stands in a recorded run that the solution names."""
    runs = []
    for name in names.split():
        assert recorded(name), f"no recorded run of {name}"
        runs += recorded(name)
    for number in NUMBER.findall(re.sub(r"`[^`]*`", "", TODO.sub("", text))):
        assert is_recorded(number, runs), f"{number} is in no recorded run of {names}"


def test_the_exercises_are_made_from_the_record():
    """The page is what its text and the recorded runs give: nobody edits it by hand."""
    page = scoreboard.exercise_page()
    assert page == PAGES["docs/exercises.md"]
    assert "{{" not in page
    assert scoreboard.TEXT.read_text(encoding="utf-8").count("{{") > 100


def test_lessons_in_the_table_exist_in_order_with_recorded_scores():
    """Score and baseline of a lesson are those of the scoreboard (01: of its exercise)."""
    rows = re.findall(
        r"^\| `(\d\d_\S+)\.py` .*\| (.*) \| (.*) \|$", README, re.MULTILINE
    )
    assert [script for script, *_ in rows] == sorted(LESSONS)
    main = {"08_seq2seq_basic": "08-reverse", "01_sequence_basics": "01-default"}
    default = {
        row.script: name for name, row in scoreboard.ROWS.items() if not row.flags
    }
    for script, minutes, said in rows:
        assert re.match(r"\d", minutes), script
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


def test_no_other_figures():
    """Outside of marked places and tables that are checked, nobody quotes a figure."""
    text = FIGURES.sub("", ALL_PAGES)
    text = text.split(scoreboard.BEGIN)[0] + text.split(scoreboard.END)[1]
    text = re.sub(r"^(    |\| `\d\d_).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"```.*?```|\$\$.*?\$\$|`[^`]*`", "", text, flags=re.DOTALL)
    found = set(re.findall(r"\d+\.\d+", text))
    # Versions (of Python, torchtext, a licence), and 1.1 million characters.
    assert found <= {"3.11", "4.0", "0.18", "2.3", "1.1", "2.10"}, found


def test_what_is_recorded_is_filled_in():
    """A TODO names a row (or cells) and goes when that row is there; lessons have none."""
    known = {"cells", *scoreboard.ROWS, *scoreboard.EXERCISES}
    for name in TODO.findall(ALL_PAGES):
        assert name in known, name
        assert name == "cells" or not recorded(name), f"fill in TODO({name})"
    assert ALL_PAGES.count("TODO") == len(TODO.findall(ALL_PAGES))
    for name, lesson in LESSONS.items():
        assert not re.findall(r"@[A-Z0-9_]+@|TODO", lesson.__doc__), name


@pytest.mark.parametrize("name", scoreboard.EXERCISES)
def test_exercises_are_shown_as_they_were_run(name):
    """The command beside a figure is the one that gave it."""
    row = scoreboard.EXERCISES[name]
    command = f"{row.script}.py {' '.join(row.flags)}".strip()
    assert command in SHOWN
    for run in recorded(name):
        assert (tuple(run["flags"]), run["script"]) == (row.flags, row.script)
        named = "--dataset" in row.flags
        if row.script[:2] != "01":
            assert run["real"] or named or run["dataset"] in scoreboard.GENERATED


# ---------------------------------------------------------------- the pages themselves


def test_every_lesson_has_exercises_and_each_a_folded_solution():
    """A solution that stands open spoils the guess."""
    (page,) = [text for text in PAGES.values() if "<summary>Solution" in text]
    found = re.split(r"^#{2,3} (?=\d\d)", page, flags=re.MULTILINE)[1:]
    assert [text[:2] for text in found] == [f"{n:02}" for n in range(1, 11)]
    for text in found:
        text = re.split(r"^## ", text, flags=re.MULTILINE)[0]
        asked = len(re.findall(r"^\d\. ", text, re.MULTILINE))
        assert asked == text.count("<summary>Solution") == text.count("</details>") >= 1
        scripts = set(re.findall(r"^ +python (\d\d)_", text, re.MULTILINE))
        assert scripts == {text[:2]}


def anchors_of(text):
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_links_lead_somewhere():
    """To a heading, to a file of the project, or to a heading in one."""
    links = 0
    for name, text in PAGES.items():
        text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if link.startswith("http"):
                continue
            links += 1
            path, _, anchor = link.partition("#")
            target = (ROOT / name).parent / path if path else ROOT / name
            assert target.exists(), f"{name}: {link}"
            if anchor and target.suffix == ".md":
                assert anchor in anchors_of(target.read_text("utf-8")), (
                    f"{name}: {link}"
                )
    assert links > 10


def test_pictures_are_small():
    """A large one makes every clone heavier."""
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert pictures
    for path in pictures:
        assert (ROOT / path).stat().st_size < 100 * 1024, path
        assert (ROOT / path).read_bytes()[:4] == b"\x89PNG"


def test_ci_runs_the_test_command_of_the_readme():
    """Who follows the README tests what CI tests."""
    commands = re.findall(r"\.venv/bin/(python -m pytest[^`\n]*)", README)
    assert commands
    script = Path(ROOT, ".ci", "run").read_text(encoding="utf-8")
    for command in commands:
        assert f".venv/bin/{command.strip()}\n" in script
