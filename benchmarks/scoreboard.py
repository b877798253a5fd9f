"""Run the lessons on the real data over several seeds; write the README's table.

    python benchmarks/scoreboard.py --data-dir data        what is not recorded yet
    python benchmarks/scoreboard.py 04-rnn 04-gru          only these rows
    python benchmarks/scoreboard.py --table                no runs: only the table
    python benchmarks/scoreboard.py --exercises [ROW ...]  what the exercises quote

The text of docs/exercises.md is benchmarks/exercises.in.md; each {{row  path  digits}} in
it becomes a recorded figure whenever the table is written, or exercises have been run.

Each finished run is one line of benchmarks/results.jsonl, so a sitting may end at any
time and the next goes on.  To measure a row anew, delete its lines there.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import rnn_utils as utils

GENERATED = ("reverse", "sine")  # what is made up and has a row all the same
RESULTS = ROOT / "benchmarks" / "results.jsonl"
README = ROOT / "README.md"
BEGIN, END = "<!-- scoreboard: begin -->", "<!-- scoreboard: end -->"
FIRST, LAST = "<!-- commands: begin -->", "<!-- commands: end -->"


class Row(NamedTuple):
    """One line of the table: a lesson with certain flags, run once a seed."""

    title: str
    script: str
    flags: tuple
    metric: str
    baseline: str  # the entry of "baselines" that stands beside the metric
    seeds: tuple = (0, 1, 2)


CHARS, REVIEWS = ("val_loss", "7-gram"), ("test_accuracy", "ratio_trigram")
EXACT, BLEU = ("test_exact_match", "copy"), ("test_bleu", "dictionary")
SEQ2SEQ, TRANSLATE = "08_seq2seq_basic", ("--task", "translate")
BF16, READER = ("--precision", "bf16"), "07_bidirectional_rnn"

KIND = "--attention-type"


def attention(kind, title):
    """The row of lesson 09 with this kind of attention."""
    return Row(f"09 {title}", "09_attention_mechanism", (KIND, kind), *BLEU)


ROWS = {
    "04-rnn": Row(
        "04 plain RNN", "04_simple_rnn", (), "test_accuracy", "letter_groups"
    ),
    "04-gru": Row(
        "04 GRU, both directions",
        "04_simple_rnn",
        (
            *("--cell", "gru", "--bidirectional", "--hidden-size", "256"),
            *("--dropout", "0.5", "--weight-decay", "0.3", "--epochs", "20"),
        ),
        "test_accuracy",
        "letter_groups",
    ),
    "04-groups": Row(
        "04 RNN and letter groups",
        "04_simple_rnn",
        ("--letter-groups", "--epochs", "20", "--weight-decay", "0.1"),
        "test_accuracy",
        "letter_groups",
    ),
    "05-lstm": Row(
        "05 LSTM", "05_lstm_sentiment", (), "test_accuracy", "ratio_trigram"
    ),
    "06-sunspots": Row(
        "06 GRU, sunspots",
        "06_gru_time_series",
        (),
        "test_rmse",
        "autoregression_rmse",
    ),
    "06-stock": Row(
        "06 GRU, S&P 500",
        "06_gru_time_series",
        ("--dataset", "stock"),
        "test_rmse",
        "persistence_rmse",
    ),
    "06-sine": Row(
        "06 GRU, a sine and noise",
        "06_gru_time_series",
        ("--dataset", "sine"),
        "test_mse",
        "noise_variance",
    ),
    "07-classify": Row("07 LSTM, both directions", READER, (), *REVIEWS),
    "07-forwards": Row(
        "07 forwards only, as many weights",
        READER,
        ("--unidirectional", "--hidden-size", "156"),
        *REVIEWS,
    ),
    "07-tag": Row(
        "07 LSTM, both directions, tags",
        READER,
        ("--task", "tag"),
        "test_accuracy",
        "most_frequent_tag",
    ),
    "08-reverse": Row("08 LSTM, digits reversed", SEQ2SEQ, (), *EXACT),
    "08-translate": Row("08 LSTM, no attention", SEQ2SEQ, TRANSLATE, *BLEU),
    # One run that compares all five fills a row for each of them: see `fill`.
    "09-all": Row("", "09_attention_mechanism", (KIND, "all"), *BLEU, (0,)),
    "09-none": attention("none", "no attention"),
    "09-additive": attention("additive", "additive attention"),
    "09-dot": attention("dot", "dot attention"),
    "09-general": attention("general", "general attention"),
    "09-scaled-dot-product": attention("scaled-dot-product", "scaled dot-product"),
    "09-pieces": Row(
        "09 additive, pieces of words",
        "09_attention_mechanism",
        ("--pieces", "4000", "--dropout", "0.3", "--epochs", "16"),
        *BLEU,
        (0,),
    ),
    "10-char": Row("10 LSTM, characters", "10_text_generation", (), *CHARS),
    "10-char-bf16": Row(
        "10 the same in bf16", "10_text_generation", BF16, *CHARS, (0,)
    ),
    "10-mingru": Row(
        "10 minGRU, characters",
        "10_text_generation",
        ("--cell", "mingru"),
        *CHARS,
        (0,),
    ),
    "10-word": Row(
        "10 LSTM, words",
        "10_text_generation",
        ("--level", "word"),
        "val_loss",
        "4-gram",
    ),
}

# A second score of the same runs, in a line below theirs.
ALSO = {"07-classify": ("07 the same and the baseline", "test_accuracy_together")}

# What the README's exercises run and quote; samples are allowed, the table has no row.
EXERCISED = ROOT / "benchmarks" / "exercises.jsonl"
TEXT = ROOT / "benchmarks" / "exercises.in.md"
PAGE = ROOT / "docs" / "exercises.md"
SMALL = "--epochs 2 --num-layers 1 --hidden-size 128"
LINES = f"""
01-default      01_sequence_basics
01-t40          01_sequence_basics --sequence-length 40
01-t100         01_sequence_basics --sequence-length 100
01-one-batch    01_sequence_basics --batch-size 1600
02-default      02_text_preprocessing
02-all-words    02_text_preprocessing --min-freq 1 --max-vocab 20000
02-bpe          02_text_preprocessing --tokenizer bpe --merges 3000
03-default      03_time_series_basics
03-h60          03_time_series_basics --horizon 60
03-sine-h25     03_time_series_basics --dataset sine --horizon 25
04-cell         04_simple_rnn --compare cell
04-leaky        04_simple_rnn --leaky-split
05-sample       05_lstm_sentiment --dataset sample --pooling last
05-sample-rnn   05_lstm_sentiment --dataset sample --pooling last --cell rnn
05-both         05_lstm_sentiment --max-length 64
05-start        05_lstm_sentiment --max-length 64 --keep start
05-end          05_lstm_sentiment --max-length 64 --keep end
05-cell         05_lstm_sentiment --compare cell
05-rnn          05_lstm_sentiment --cell rnn
05-rnn-slow     05_lstm_sentiment --cell rnn --lr 0.001
05-mean         05_lstm_sentiment --pooling mean
05-no-dropout   05_lstm_sentiment --dropout 0
05-last         05_lstm_sentiment --pooling last
05-rnn-last     05_lstm_sentiment --pooling last --cell rnn
05-rnn-last-slow 05_lstm_sentiment --pooling last --cell rnn --lr 0.001
05-pooling      05_lstm_sentiment --compare pooling
05-regular      05_lstm_sentiment --compare regularization --epochs 8
06-t6           06_gru_time_series --sequence-length 6
06-leaky        06_gru_time_series --dataset stock --leaky-scaling
07-sample       07_bidirectional_rnn --task tag --dataset sample
07-sample-uni   07_bidirectional_rnn --task tag --dataset sample --unidirectional
07-tag-one      07_bidirectional_rnn --task tag --unidirectional --hidden-size 207
07-tag-words    07_bidirectional_rnn --task tag --char-features none
08-h32          08_seq2seq_basic --hidden-size 32
08-back         08_seq2seq_basic --reverse-source
09-sample       09_attention_mechanism --dataset sample
09-sample-none  09_attention_mechanism --dataset sample --attention-type none
09-sample-long  09_attention_mechanism --dataset sample --attention-type none --epochs 22
09-short        09_attention_mechanism --epochs 2
09-feeding      09_attention_mechanism --epochs 2 --input-feeding
09-none-long    09_attention_mechanism --attention-type none --epochs 12
10-small        10_text_generation {SMALL}
10-small-t4     10_text_generation {SMALL} --sequence-length 4
10-mingru       10_text_generation --cell mingru
"""
EXERCISES = {
    name: Row(name, script, tuple(flags), "", "", (0,))
    for name, script, *flags in map(str.split, LINES.strip().splitlines())
}

# The README's examples: rows and exercises by their names, and flags that none has.
SHOWN = """
04_simple_rnn --predict Schmidhuber Satoshi
04_simple_rnn --letter-groups --epochs 20 --weight-decay 0.1
04_simple_rnn --save-model
05_lstm_sentiment --predict "Slow at first, but I loved it."
05-pooling
06-stock
07_bidirectional_rnn --compare direction
07_bidirectional_rnn --task tag --predict "Time flies like an arrow"
08_seq2seq_basic --predict 31415
08-translate
09_attention_mechanism --predict "a man in a red shirt"
09-all
10_text_generation --temperature 0.8 --max-length 500
"""


def read_results(path=None):
    """Every recorded run, oldest first."""
    path = path or RESULTS
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def processor():
    """The processor's name, as well as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def run_once(name, seed, data_dir):
    """Run one lesson in a process of its own; returns its result with time and memory."""
    row = (ROWS | EXERCISES)[name]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / f"{row.script}.py"), *row.flags]
        command += ["--seed", str(seed), "--out-dir", f"{folder}/out", "--no-plots"]
        if not row.script.startswith("01"):  # the only one that reads no data
            command += ["--data-dir", str(data_dir)]
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        output = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        if status != 0:
            raise utils.UserError(f"{name}, seed {seed} failed:\n{output[-2000:]}")
        text = Path(folder, "out", "metrics.json").read_text(encoding="utf-8")
    result = json.loads(text)
    if name in EXERCISES:  # a table has figures that metrics.json has not
        numbers = re.findall(r"\d[\d,]*\.\d+|\d+(?:,\d{3})+", output)
        result["printed"] = list(dict.fromkeys(numbers))
    elif not result["real"] and result["dataset"] not in GENERATED:
        raise utils.UserError(f"{name} ran on {result['dataset']}, not on real data")
    del result["args"]  # the row's flags say what differs from the defaults
    return {
        "row": name,
        "flags": list(row.flags),
        **result,
        "run_seconds": round(seconds, 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
        "processor": processor(),
        "date": time.strftime("%Y-%m-%d"),
    }


def fill(names, data_dir, most=None):
    """Run what is not recorded yet, adding each result as soon as it is there.

    most: how many seeds of each row, if not all.
    """
    wanted = [(name, seed) for name in names for seed in ROWS[name].seeds[:most]]
    progress = tqdm(wanted, desc="scoreboard", disable=None)
    for name, seed in progress:
        progress.set_postfix_str(f"{name}, seed {seed}")
        recorded = {
            (run["row"], tuple(run["flags"]), run["seed"]) for run in read_results()
        }
        if all((row, ROWS[row].flags, seed) in recorded for row in filled_by(name)):
            continue
        for result in one_a_model(run_once(name, seed, data_dir)):
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            row = result["row"]
            print(f"{row} seed {seed}: {result['metrics'][ROWS[row].metric]:.4f}")


def filled_by(name):
    """The rows of the table that a run of row `name` fills."""
    if ROWS[name].title:
        return [name]
    flag = ROWS[name].flags[:1]  # its value, "all", stands for that of each of these
    return [row for row in ROWS if ROWS[row].flags[:1] == flag and row != name]


def one_a_model(result):
    """A run of several models -> a result for each of them, under its own row."""
    name, models = result["row"], result.pop("models", {})
    if ROWS[name].title:
        return [result]
    found = []
    del result["units_per_second"]  # that of one model
    for row in filled_by(name):
        metrics = dict(models[row[3:]])
        own = {"row": row, "flags": list(ROWS[row].flags), "metrics": metrics}
        own |= {"parameters": int(metrics.pop("parameters"))}
        own |= {"train_seconds": metrics.pop("train_s"), "part_of": name}
        found.append(result | own)
    return found


def exercise(names, data_dir):
    """Run exercises; each adds a line, and the newest of a row is what counts."""
    for name in names:
        result = run_once(name, 0, data_dir)
        with EXERCISED.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{name}: {result['run_seconds']} s, {result['metrics']}", flush=True)
    write_exercises()


def exercise_page():
    """docs/exercises.md, its figures from recorded runs: the newest of each row.

    {{05-end metrics/test_accuracy 4}}: that entry of the row's record, four digits.
    {{07-classify:2 ...}}: of the row's run with seed 2.
    """
    newest = {}
    for run in read_results(EXERCISED) + read_results():
        newest[run["row"]] = run
        newest[f"{run['row']}:{run['seed']}"] = run

    def figure(field):
        name, path, digits = field.groups()
        value = newest[name]
        for key in path.split("/"):
            value = value[key]
        return f"{value:,.{digits}f}"

    text = TEXT.read_text(encoding="utf-8")
    return re.sub(r"\{\{(\S+) (.+?) (\d)\}\}", figure, text)


def write_exercises():
    """Write the page of exercises anew."""
    utils.write_atomically(PAGE, exercise_page().encode())


def spread(values):
    """Mean ± half the range, with as many digits as make sense."""
    mean, half = statistics.mean(values), (max(values) - min(values)) / 2
    digits = 4 if abs(mean) < 10 else 2
    known = round(half, digits) > 0
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if known else "")


def line_of(row, runs):
    """One line of the table: a row and its runs, one a seed."""
    flags = f" `{' '.join(row.flags)}`" if row.flags else ""
    cells = [
        row.title + flags,
        f"{runs[0]['dataset']} ({'real' if runs[0]['real'] else 'generated'})",
        row.metric.replace("_", " "),
        spread([run["metrics"][row.metric] for run in runs]),
        len(runs),
        row.baseline.removesuffix("_rmse").replace("_", " "),
        spread([run["baselines"][row.baseline] for run in runs]),
        f"{runs[0]['parameters']:,}",
        f"{statistics.median(run['train_seconds'] for run in runs):.0f}",
        max(run["peak_mib"] for run in runs),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def table(results):
    """The README's table as Markdown, from recorded runs alone."""
    heads = "lesson | data | score | mean ± half range | seeds | baseline | baseline's score"
    heads = f"{heads} | parameters | training, s | memory, MiB".split(" | ")
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for name, row in ROWS.items():
        runs = [run for run in results if run["row"] == name]
        if runs:
            lines.append(line_of(row, runs))
        if runs and name in ALSO:
            title, metric = ALSO[name]
            lines.append(line_of(row._replace(title=title, metric=metric), runs))
    machines = {(run["processor"], run["threads"]) for run in results}
    told = []
    for chip, threads in sorted(machines):
        told.append(f"{chip}, {threads} thread{'s' if threads > 1 else ''}")
    versions = sorted({run["torch"] for run in results})
    lines += ["", f"Processors: {'; '.join(told)}. PyTorch {', '.join(versions)}."]
    if {"09-additive", "09-pieces", "10-char"} <= {run["row"] for run in results}:
        lines += [published(results)]
    return "\n".join(lines)


def published(results):
    """How our figures stand to published ones on the same data: one paragraph."""

    def ours(name, metric):
        return spread([run["metrics"][metric] for run in results if run["row"] == name])

    pieces = f"`{' '.join(ROWS['09-pieces'].flags)}`"
    said = f"""\
Published on the same data: IMDB, recurrent, labelled reviews alone, about 0.919 (Johnson
and Zhang, 2016). Multi30k, test 2016, 256 units, pieces of words, beam search: 59.0 BLEU
on lower-cased tokens (LIUM, WMT 2017); here, additive attention, beam of 5, on lower-cased
text: {ours("09-additive", "test_bleu_beam")}; with {pieces}: {ours("09-pieces", "test_bleu_beam")}
({ours("09-pieces", "test_bleu_tokens_beam")} on lower-cased tokens of our own splitting). EWT, other releases: 0.944 to 0.951. Tiny Shakespeare: nanoGPT
1.4697 nats, seeing 256 characters; here, reset every 256, {ours("10-char", "val_loss_reset256")}. Surnames
are split by spelling, without repeats, as nobody else does: no figure compares."""
    return textwrap.fill(said, 110, break_on_hyphens=False)


def commands():
    """The README's block of commands, as Markdown."""
    lines = []
    for line in SHOWN.strip().splitlines():
        script, _, flags = line.partition(" ")
        row = (ROWS | EXERCISES).get(line)
        if row:
            script, flags = row.script, " ".join(row.flags)
        lines.append(f"    python {script}.py {flags}")
    return "\n".join(lines)


def write_readme():
    """Put the table and the commands between the README's markers."""
    text = README.read_text(encoding="utf-8")
    parts = ((FIRST, LAST, commands()), (BEGIN, END, table(read_results())))
    for first, last, new in parts:
        if text.count(first) != 1 or text.count(last) != 1:
            raise utils.UserError(f"README.md needs one '{first}' and one '{last}'")
        head, rest = text.split(first)
        _, tail = rest.split(last)
        text = f"{head}{first}\n{new}\n{last}{tail}"
    utils.write_atomically(README, text.encode())


def main(argv=None):
    parser = utils.make_parser(__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--data-dir", default=os.environ.get("RNN_DATA_DIR") or "data")
    parser.add_argument("--seeds", type=utils.whole(1), help="so many of each row")
    parser.add_argument("--table", action="store_true", help="write the table only")
    parser.add_argument("--exercises", action="store_true", help="rows of EXERCISES")
    args = parser.parse_args(argv)
    known = EXERCISES if args.exercises else ROWS
    for name in args.rows:
        if name not in known:
            raise utils.UserError(f"no row {name}; there are: {', '.join(known)}")
    if args.exercises:
        return exercise(args.rows or known, args.data_dir)
    if not args.table:
        fill(args.rows or ROWS, args.data_dir, args.seeds)
    write_readme()
    write_exercises()


if __name__ == "__main__":
    sys.exit(utils.run(main))
