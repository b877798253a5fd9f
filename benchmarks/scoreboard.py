"""Run the lessons on the real data over several seeds; write the README's table.

    python benchmarks/scoreboard.py --data-dir data        what is not recorded yet
    python benchmarks/scoreboard.py 04-rnn 04-gru          only these rows
    python benchmarks/scoreboard.py --table                no runs: only the table

Each finished run is one line of benchmarks/results.jsonl, so a sitting may end at any
time and the next goes on.  To measure a row anew, delete its lines there.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import rnn_utils as utils

GENERATED = "reverse"  # the only data set of a row that no real one stands for
RESULTS = ROOT / "benchmarks" / "results.jsonl"
README = ROOT / "README.md"
BEGIN, END = "<!-- scoreboard: begin -->", "<!-- scoreboard: end -->"


class Row(NamedTuple):
    """One line of the table: a lesson with certain flags, run once a seed."""

    title: str
    script: str
    flags: tuple
    metric: str
    baseline: str  # the entry of "baselines" that stands beside the metric
    seeds: tuple = (0, 1, 2)


CHARS, REVIEWS = ("val_loss", "7-gram"), ("test_accuracy", "tfidf_bigram")
EXACT, BLEU = ("test_exact_match", "copy"), ("test_bleu", "dictionary")
SEQ2SEQ, TRANSLATE = "08_seq2seq_basic", ("--task", "translate")
BF16, READER = ("--precision", "bf16"), "07_bidirectional_rnn"

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
    "05-lstm": Row("05 LSTM", "05_lstm_sentiment", (), *REVIEWS),
    "05-bf16": Row("05 the same in bf16", "05_lstm_sentiment", BF16, *REVIEWS, (0,)),
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
    "09-additive": Row("09 additive attention", "09_attention_mechanism", (), *BLEU),
    "10-char": Row("10 LSTM, characters", "10_text_generation", (), *CHARS),
    "10-char-bf16": Row(
        "10 the same in bf16", "10_text_generation", BF16, *CHARS, (0,)
    ),
    "10-word": Row(
        "10 LSTM, words",
        "10_text_generation",
        ("--level", "word"),
        "val_loss",
        "4-gram",
    ),
}


def read_results():
    """Every recorded run, oldest first."""
    if not RESULTS.exists():
        return []
    lines = RESULTS.read_text(encoding="utf-8").splitlines()
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
    row = ROWS[name]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / f"{row.script}.py"), *row.flags]
        command += ["--seed", str(seed), "--out-dir", f"{folder}/out", "--no-plots"]
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
    if not result["real"] and result["dataset"] != GENERATED:
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
    recorded = {
        (run["row"], tuple(run["flags"]), run["seed"]) for run in read_results()
    }
    wanted = [
        (name, seed)
        for name in names
        for seed in ROWS[name].seeds[:most]
        if (name, ROWS[name].flags, seed) not in recorded
    ]
    progress = tqdm(wanted, desc="scoreboard", disable=None)
    for name, seed in progress:
        progress.set_postfix_str(f"{name}, seed {seed}")
        result = run_once(name, seed, data_dir)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{name} seed {seed}: {result['metrics'][ROWS[name].metric]:.4f}")


def spread(values):
    """Mean ± half the range, with as many digits as make sense."""
    mean, half = statistics.mean(values), (max(values) - min(values)) / 2
    digits = 4 if abs(mean) < 10 else 2
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if half else "")


def table(results):
    """The README's table as Markdown, from recorded runs alone."""
    heads = "lesson | data | score | mean ± half range | seeds | baseline | baseline's score"
    heads = f"{heads} | parameters | training, s | memory, MiB".split(" | ")
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for name, row in ROWS.items():
        runs = [run for run in results if run["row"] == name]
        if not runs:
            continue
        cells = [
            row.title,
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
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    machines = {(run["processor"], run["threads"], run["torch"]) for run in results}
    for chip, threads, version in sorted(machines):
        lines += ["", f"Processor: {chip}, {threads} threads; PyTorch {version}."]
    return "\n".join(lines)


def write_table():
    """Put the table between the README's two markers."""
    text = README.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise utils.UserError(f"README.md needs one '{BEGIN}' and one '{END}'")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    new = f"{head}{BEGIN}\n{table(read_results())}\n{END}{tail}"
    utils.write_atomically(README, new.encode())


def main(argv=None):
    parser = utils.make_parser(__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--data-dir", default=os.environ.get("RNN_DATA_DIR") or "data")
    parser.add_argument("--seeds", type=utils.whole(1), help="so many of each row")
    parser.add_argument("--table", action="store_true", help="write the table only")
    args = parser.parse_args(argv)
    for name in args.rows:
        if name not in ROWS:
            raise utils.UserError(f"no row {name}; there are: {', '.join(ROWS)}")
    if not args.table:
        fill(args.rows or ROWS, args.data_dir, args.seeds)
    write_table()


if __name__ == "__main__":
    sys.exit(utils.run(main))
