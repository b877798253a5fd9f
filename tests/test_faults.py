"""Faults: killed, interrupted and starved runs, hostile files, random flags and bytes.

Tested elsewhere, and so not here:
    write_atomically, fit, resuming and load_checkpoint by themselves, hostile pickles
    among them: test_utils_training.py
    downloads, data folders and the offline fallback: test_utils_data.py
    run, flag types, wrong flags: test_utils_results.py
    parsers, on cases chosen by hand: test_utils_data.py, test_utils_texts.py
    each lesson's own flags, broken inputs, and --quick in a process that has no network:
    test_01_sequence_basics.py to test_10_text_generation.py
"""

import gzip
import io
import math
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import ROOT, load_lesson, run_script
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rnn_utils

NAMES = sorted(path.stem for path in ROOT.glob("[01]*_*.py"))
LESSONS = {name[:2]: load_lesson(name) for name in NAMES}
NAME = {name[:2]: name for name in NAMES}

# Every training lesson with every task, tiny.  {input}: see `make_inputs`.
TINY = ("--quick", "--no-plots", "--hidden-size", 4, "--device", "cpu")
TASKS = {
    "04": ("04", "--input", "{names}", "--batch-size", 8),
    "05": ("05", "--input", "{reviews}", "--batch-size", 8),
    "06": ("06", "--input", "{series}", "--batch-size", 32, "--sequence-length", 8),
    "07 classify": ("07", "--input", "{reviews}", "--batch-size", 8),
    "07 tag": ("07", "--task", "tag", "--input", "{tagged}", "--batch-size", 8),
    "08 reverse": ("08", "--batch-size", 256, "--max-length", 5),
    "08 translate": ("08", "--task", "translate", "--input", "{pairs}")
    + ("--batch-size", 8),
    "09": ("09", "--input", "{pairs}", "--batch-size", 8),
    "10": ("10", "--input", "{text}", "--batch-size", 2, "--sequence-length", 16)
    + ("--max-length", 20, "--num-layers", 1),
}


def make_inputs(folder):
    """Small data for each lesson, as a reader would bring them: name -> path."""
    rng = np.random.default_rng(0)
    words = [
        "red",
        "blue",
        "old",
        "new",
        "dog",
        "cat",
        "runs",
        "sleeps",
        "here",
        "there",
    ]
    lines = [" ".join(rng.choice(words, 5)) for _ in range(60)]
    names = folder / "names"
    names.mkdir()
    for label, end in (("Elvish", "iel"), ("Orkish", "gul")):
        own = [f"{line.replace(' ', '')[:7]}{end}" for line in lines]
        (names / f"{label}.txt").write_text("\n".join(own))
    rows = [f"{line},{'yes' if 'red' in line else 'no'}" for line in lines]
    tagged = ["\n".join(f"{w}\t{w[0].upper()}" for w in x.split()) for x in lines]
    pairs = [f"{line}\t{line.upper()} !" for line in lines]
    dates = np.arange("2000-01", "2025-01", dtype="datetime64[M]")
    values = np.sin(np.arange(len(dates)) / 4) + 0.1 * rng.normal(size=len(dates))
    series = [f"{d},{v:.4f}" for d, v in zip(dates, values, strict=True)]
    content = {
        "reviews.csv": "\n".join(["text,label", *rows]),
        "tagged.txt": "\n\n".join(tagged),
        "pairs.tsv": "\n".join(pairs),
        "series.csv": "\n".join(["date,value", *series]),
        "text.txt": "\n".join(lines[:20]),
    }
    for name, text in content.items():
        (folder / name).write_text(text)
    (folder / "binary.bin").write_bytes(bytes(range(256)) * 20)
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No test here reaches a network; results go below the test's own folder."""
    connect = socket.socket.connect

    def refuse(self, address):
        if self.family == socket.AF_UNIX:  # how Python's own processes talk
            return connect(self, address)
        raise OSError(101, "Network is unreachable")

    def refuse_names(*args, **kwargs):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse_names)
    monkeypatch.chdir(tmp_path)


def filled(flags, inputs):
    return [str(flag).format(**inputs) for flag in flags]


def call(main, *flags):
    """Status, standard output and standard error of a run; checks what all runs keep."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *about: err.write(f"{about[0]}\n")
        status = rnn_utils.run(main, [str(flag) for flag in flags])
    plt.close("all")
    said = err.getvalue()
    assert status in (0, 2, 130)
    assert "Traceback" not in said
    if status == 2:
        assert said.count("\n") == 1 and ": error: " in said and said.endswith(".\n")
        assert len(said) > 30
    return status, out.getvalue(), said


def train(task, inputs, *flags):
    """`call` of a lesson's main with the flags of a task."""
    number, *rest = TASKS[task]
    return call(LESSONS[number].main, *TINY, *filled(rest, inputs), *flags)


def contents(folder):
    """All files below a folder: path -> bytes."""
    return {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


# ---------------------------------------------------------------- killed, interrupted

posix = pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signals")


def in_child(name, flags, folder, fault, result):
    """In a process of its own: run a lesson, and meet a fault on the way."""
    os.chdir(folder)
    # A shell's background jobs, and all that they start, are born deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{result}.{stream}", os.O_CREAT | os.O_WRONLY), number)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
    FAULTS[fault]()
    status = rnn_utils.run(LESSONS[name[:2]].main, flags)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def written_before():
    """Whether this run has written an epoch's state: its second epoch is on."""
    return in_child.epochs > 0


def end_after_training():
    """Leave when the last epoch's state is written: what follows is no matter here."""
    save, in_child.epochs = rnn_utils.save_checkpoint, 0

    def saved(path, content):
        save(path, content)
        if Path(path).name == "last.pt":
            in_child.epochs += 1
            if len(content["records"]) == 2:
                os._exit(0)

    rnn_utils.save_checkpoint = saved


def at_second_step(number):
    """Get this signal at the second step of the second epoch."""
    end_after_training()
    steps, real = [], torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        if written_before():
            steps.append(1)
            if len(steps) == 2:
                os.kill(os.getpid(), number)
        return real(self, *args, **kwargs)

    torch.optim.AdamW.step = step


def killed_while_writing(call):
    """SIGKILL in the middle of the second epoch's write; half of it is on the disk."""
    end_after_training()
    real = getattr(os, call)

    def kill(first, *rest):
        if not written_before():
            return real(first, *rest)
        if call == "fsync":
            os.ftruncate(first, os.fstat(first).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, call, kill)


def full_disk():
    """No file may grow beyond 2,000 bytes: the metrics of a run fit, no model does."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def no_root():
    """Be a user whom file permissions do stop."""
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


FAULTS = {
    "none": lambda: None,
    "none, training alone": end_after_training,
    "SIGKILL in training": lambda: at_second_step(signal.SIGKILL),
    "SIGINT in training": lambda: at_second_step(signal.SIGINT),
    "SIGTERM in training": lambda: at_second_step(signal.SIGTERM),
    "SIGKILL in write": lambda: killed_while_writing("fsync"),
    "SIGKILL before replace": lambda: killed_while_writing("replace"),
    "full disk": full_disk,
    "no root": no_root,
}


def child(name, flags, folder, fault="none", result=None):
    """(exit code, standard error) of a run in a process of its own.

    They are forked from a process that has imported all that is slow to import.
    """
    result = str(result or Path(folder) / "said")
    context = multiprocessing.get_context("forkserver")
    # The first optimiser of a process imports torch._dynamo, which takes seconds.
    context.set_forkserver_preload(["torch._dynamo", "conftest", "test_faults"])
    flags = [str(flag) for flag in flags]
    arguments = (name, flags, str(folder), fault, result)
    process = context.Process(target=in_child, args=arguments)
    with pytest.MonkeyPatch.context() as patch:  # what it imports lies in these folders
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        patch.setenv("PYTHONPATH", paths, prepend=os.pathsep)
        process.start()
    process.join(280)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode, Path(f"{result}.err").read_text()


def state_of(out_dir):
    """last.pt without what a clock told."""
    state = torch.load(Path(out_dir) / "last.pt", weights_only=True)
    times = ("seconds", "loop_seconds")
    state["records"] = [
        {k: v for k, v in r.items() if k not in times} for r in state["records"]
    ]
    state["best"] = state["best"]["epoch"]
    return state


def same_state(one, other):
    digests = [rnn_utils.content_digest(state) for state in (one, other)]
    return one["records"] == other["records"] and digests[0] == digests[1]


@posix
@pytest.mark.parametrize("task", TASKS)
def test_killed_and_resumed(tmp_path, inputs, task):
    """After SIGKILL in epoch 2, --resume ends bit for bit where an unbroken run does.

    That an exception in epoch 2 can be resumed from is tested with each lesson; here
    nothing is left to run in the process that dies.
    """
    number, *flags = TASKS[task]
    flags = [*TINY, *filled(flags, inputs), "--save-model"]
    end = {}
    for name in ("whole", "broken"):
        own = ("--out-dir", tmp_path / name, "--path", tmp_path / name / "model.pt")
        end[name] = [NAME[number], [*flags, *own], tmp_path]
    assert child(*end["whole"], "none, training alone")[0] == 0
    whole = state_of(tmp_path / "whole")
    assert len(whole["records"]) == 2
    assert child(*end["broken"], "SIGKILL in training")[0] == -signal.SIGKILL
    left = state_of(tmp_path / "broken")
    assert len(left["records"]) == 1
    saved = torch.load(tmp_path / "broken" / "model.pt", weights_only=True)
    assert saved["best"]["epoch"] == 1
    end["broken"][1].append("--resume")
    assert child(*end["broken"], "none, training alone")[0] == 0
    assert same_state(state_of(tmp_path / "broken"), whole)
    paths = [tmp_path / name / "model.pt" for name in end]
    weights = [torch.load(path, weights_only=True)["model"] for path in paths]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@posix
@pytest.mark.parametrize("moment", ["SIGKILL in write", "SIGKILL before replace"])
def test_killed_while_writing(tmp_path, inputs, moment):
    """The state of the epoch before is whole, whatever of the new one was written."""
    flags = [*TINY, *filled(TASKS["04"][1:], inputs), "--out-dir", tmp_path / "out"]
    end = (NAME["04"], flags, tmp_path)
    assert child(*end, moment)[0] == -signal.SIGKILL
    assert len(state_of(tmp_path / "out")["records"]) == 1
    flags.append("--resume")
    assert child(*end, "none, training alone")[0] == 0
    assert len(state_of(tmp_path / "out")["records"]) == 2


@posix
@pytest.mark.parametrize("task", TASKS)
def test_interrupted(tmp_path, inputs, task):
    """Ctrl-C: status 130, the best weights kept, a word on how to go on, no traceback."""
    number, *flags = TASKS[task]
    path = tmp_path / "model.pt"
    flags = [*filled(flags, inputs), "--save-model", "--path", path]
    flags = [*TINY, *flags, "--out-dir", tmp_path / "out"]
    code, said = child(NAME[number], flags, tmp_path, "SIGINT in training")
    assert code == 130
    assert "--resume" in said and "Traceback" not in said
    assert len(said.strip().splitlines()) == 1
    state = state_of(tmp_path / "out")
    assert len(state["records"]) == 1 and state["best"] == 1
    kept = rnn_utils.load_checkpoint(path, NAME[number])["model"]
    assert all(torch.equal(kept[name], state["model"][name]) for name in kept)


@posix
def test_asked_to_end(tmp_path, inputs):
    """SIGTERM in training does what Ctrl-C does."""
    flags = [*TINY, *filled(TASKS["04"][1:], inputs), "--out-dir", tmp_path / "out"]
    code, said = child(NAME["04"], flags, tmp_path, "SIGTERM in training")
    assert code == 130
    assert "--resume" in said and "Traceback" not in said
    assert len(state_of(tmp_path / "out")["records"]) == 1


IMPATIENT = """
import os, signal, sys
sys.path.insert(0, {root!r})
import rnn_utils
signal.signal(signal.SIGINT, signal.default_int_handler)

class Impatient:
    def write(self, text):
        os.kill(os.getpid(), signal.SIGINT)
        return sys.__stderr__.write(text)
    def flush(self):
        sys.__stderr__.flush()

def main(argv):
    sys.stderr = Impatient()
    os.kill(os.getpid(), signal.SIGINT)

status = rnn_utils.run(main)
os.kill(os.getpid(), signal.SIGINT)
sys.exit(status)
"""


@posix
def test_ctrl_c_twice(tmp_path):
    """Who presses Ctrl-C again while the run takes its leave gets no traceback either."""
    command = [sys.executable, "-c", IMPATIENT.format(root=str(ROOT))]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 130
    assert "nothing to go on from" in done.stderr and "Traceback" not in done.stderr


# ---------------------------------------------------------------- disks and folders


@posix
@pytest.mark.parametrize("task", ["04", "06", "10"])
def test_full_disk(tmp_path, inputs, task):
    """The kernel refuses to write on: status 2, one sentence, and the old files whole."""
    number, *flags = TASKS[task]
    flags = [*TINY, *filled(flags, inputs), "--save-model", "--path", "out/model.pt"]
    end = (NAME[number], [*flags, "--out-dir", "out"], tmp_path)
    assert child(*end, "none, training alone")[0] == 0
    before = contents(tmp_path / "out")
    assert len(before) == 2
    code, said = child(*end, "full disk", tmp_path / "full")
    assert code == 2
    assert said.count("\n") == 1 and "could not be written" in said
    assert contents(tmp_path / "out") == before


PRINTS = """
import sys
sys.path.insert(0, {root!r})
import rnn_utils

def main(argv):
    print("one line")
    if {refuse}:
        raise rnn_utils.UserError("something is wrong; put it right")

sys.exit(rnn_utils.run(main))
"""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("refuse", [False, True])
def test_output_to_a_full_disk(tmp_path, refuse):
    """`python 01_... > file` on a full disk: Python must not complain a second time."""
    script = PRINTS.format(root=str(ROOT), refuse=refuse)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env=env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=280,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert ("put it right" if refuse else "No space left") in done.stderr


@pytest.fixture
def open_folder():
    """A folder that any user can reach; pytest's own are closed to all but one."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)
        for path in Path(folder).rglob("*"):
            path.chmod(0o777)


@posix
@pytest.mark.parametrize("number", NAME)
def test_read_only_output(open_folder, number):
    """Said before the work, not after it.  (Root is stopped by no permission.)"""
    out = open_folder / "out"
    out.mkdir()
    (out / "metrics.json").write_text("{}")
    out.chmod(0o555)
    flags = ["--quick", "--out-dir", "out"]
    code, said = child(NAME[number], flags, open_folder, "no root")
    assert code == 2
    assert said.count("\n") == 1 and "cannot be written to" in said
    assert contents(out) == {out / "metrics.json": b"{}"}


@posix
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o555])
@pytest.mark.parametrize("number", ["03", "06"])
def test_data_that_may_not_be_read(open_folder, number, mode):
    """A file, or a folder, that this user may not read."""
    data = open_folder / "data"
    data.mkdir()
    file = data / "monthly-sunspots.csv"
    file.write_text("Month,Sunspots\n")
    file.chmod(0o000)
    data.chmod(mode)
    flags = ["--quick", "--out-dir", "out", "--dataset", "sunspots", "--data-dir"]
    code, said = child(NAME[number], [*flags, "data"], open_folder, "no root")
    assert code == 2
    assert said.count("\n") == 1 and "data" in said


REAL = {"03": "stock", "04": "names", "05": "imdb", "06": "stock", "07": "imdb"}
REAL |= {"08": "multi30k", "09": "multi30k", "10": "shakespeare"}


@pytest.mark.parametrize("number", REAL)
@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_missing_data_folder(tmp_path, number, kind):
    """A real set asked for by name, no network, no such folder: which file goes where."""
    data = tmp_path / "there"
    if kind == "a file":
        data.write_text("")
    flags = ("--quick", "--out-dir", "out", "--dataset", REAL[number])
    status, _, said = call(LESSONS[number].main, *flags, "--data-dir", data)
    assert status == 2
    assert str(data) in said and "--dataset" in said


@pytest.mark.parametrize("number", REAL)
def test_first_start_without_network(tmp_path, monkeypatch, number):
    """The default flags go on with the sample, and say so in one line.

    Up to training, which takes long.  With --quick each lesson's own test runs it to the
    end, as a script.
    """

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(rnn_utils, "fit", stop)
    monkeypatch.setattr(rnn_utils, "write_metrics", stop)  # lesson 03 has no training
    task = ("--task", "translate") if number == "08" else ()
    status, out, _ = call(LESSONS[number].main, *task, "--out-dir", "out", "--no-plots")
    assert status == 130
    assert out.count("Going on with the offline") == 1


# ---------------------------------------------------------------- checkpoints


@pytest.fixture(scope="module")
def trained(tmp_path_factory, inputs):
    """Task -> folder with the model.pt and the last.pt of a finished run, made once."""
    made = {}

    def get(task):
        if task not in made:
            folder = tmp_path_factory.mktemp("trained")
            own = ("--out-dir", folder, "--path", folder / "model.pt", "--save-model")
            assert train(task, inputs, *own)[0] == 0
            made[task] = folder
        return made[task]

    return get


def edited(content, change):
    """A copy of a checkpoint in which `change` has altered something."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(0)
    copy = torch.load(buffer, weights_only=True)
    change(copy)
    return copy


def edits(content):
    """Edits by hand, as functions that alter a checkpoint."""
    for name, old in content["config"].items():
        for new in (None, "moon", -1, 10**9, 1.5, [], not old):
            if new != old:
                yield lambda c, name=name, new=new: c["config"].update({name: new})
    cards = set(content) - {"model", "best", "config", "lesson", "digest"}
    for name in cards & {"vocabulary", "labels", "cut", "shape", "scaling", "level"}:
        yield lambda c, name=name: c.pop(name)
        for new in (None, 3, [], ["moon"], {}, "moon"):
            yield lambda c, name=name, new=new: c.update({name: new})
    yield lambda c: c.update(model={})
    for value in (math.nan, math.inf, 1e30):
        yield lambda c, value=value: spoil(c["model"], value)
    first = next(iter(content["model"]))
    yield lambda c: c["model"].update({first: c["model"][first].flatten()[:-1]})
    yield lambda c: c["model"].pop(first)


def spoil(weights, value):
    next(iter(weights.values())).flatten()[0] = value


@pytest.mark.parametrize("task", TASKS)
def test_edited_model(tmp_path, inputs, trained, task):
    """Entries of a model file changed by hand: one sentence, whichever it was."""
    good = torch.load(trained(task) / "model.pt", weights_only=True)
    path = tmp_path / "model.pt"
    flags = ("--eval-only", "--path", path, "--out-dir", tmp_path / "out")
    every = list(edits(good))
    for change in every[:: max(1, len(every) // 10)]:  # each run takes 0.1 s
        torch.save(edited(good, change), path)
        status, _, said = train(task, inputs, *flags)
        assert status == 2 and "model.pt" in said
    torch.save(good, path)  # else the lines above could not fail
    assert train(task, inputs, *flags)[0] == 0


@pytest.mark.parametrize("value", [math.nan, -math.inf, 1e30])
@pytest.mark.parametrize("task", ["04", "06", "10"])
def test_weights_that_are_no_numbers(tmp_path, inputs, trained, task, value):
    """Also where the digest is right: a program of the reader's may have written it."""
    good = torch.load(trained(task) / "model.pt", weights_only=True)
    path = tmp_path / "model.pt"
    bad = edited(good, lambda c: spoil(c["model"], value))
    rnn_utils.save_checkpoint(path, bad)
    status, _, said = train(task, inputs, "--eval-only", "--path", path)
    assert status == 2 and "are no numbers" in said


LISTS = {"04": ["vocabulary", "labels"], "05": ["vocabulary", "labels"]}
LISTS["08 translate"] = LISTS["09"] = ["source_words", "target_words"]
LISTS["10"] = ["vocabulary"]


@pytest.mark.parametrize("task", LISTS)
def test_lists_that_do_not_fit_the_weights(tmp_path, inputs, trained, task):
    """A vocabulary of another size would read beside the table of embeddings."""
    good = torch.load(trained(task) / "model.pt", weights_only=True)
    path = tmp_path / "model.pt"
    for name in LISTS[task]:
        for new in (good[name] + ["one more"], good[name][:-1], []):
            rnn_utils.save_checkpoint(path, {**good, name: new})
            status, _, said = train(task, inputs, "--eval-only", "--path", path)
            assert status == 2 and "model.pt" in said


def damaged(content):
    """Ways in which a disk, or a broken copy, may spoil a checkpoint: name -> bytes."""
    weights = torch.load(io.BytesIO(content), weights_only=True)["model"]
    largest = max(weights.values(), key=torch.numel)
    raw = largest.numpy().tobytes()  # its beginning may be zeros, those of padding
    middle = content.index(raw) + len(raw) - 70
    flip = bytes([content[middle] ^ 1])
    return {
        "empty": b"",
        "cut": content[:middle],
        "end missing": content[:-30],
        "one bit": content[:middle] + flip + content[middle + 1 :],
        "a hole": content[:middle] + bytes(64) + content[middle + 64 :],
    }


@pytest.mark.parametrize("task", TASKS)
def test_damaged_or_foreign_files(tmp_path, inputs, trained, task):
    """--eval-only and --resume: one sentence, and nothing is lost or written.

    Pickles that would run code are in test_utils_training.py: both flags read their
    files by the load_checkpoint that is tested there.
    """
    other = trained("04" if task[:2] != "04" else "06")
    out = tmp_path / "out"
    out.mkdir()
    (out / "metrics.json").write_text("the last run's")
    for name, flag in (("model.pt", "--eval-only"), ("last.pt", "--resume")):
        files = damaged((trained(task) / name).read_bytes())
        files["another lesson's"] = (other / name).read_bytes()
        for content in files.values():
            (out / name).write_bytes(content)
            before = contents(out)
            flags = (flag, "--path", out / "model.pt", "--out-dir", out)
            status, _, said = train(task, inputs, *flags)
            assert status == 2 and name in said
            assert contents(out) == before


def test_one_bit_is_noticed_by_us_alone(tmp_path, trained):
    """PyTorch loads a file with one wrong bit among its weights: hence the digest."""
    path = tmp_path / "model.pt"
    content = (trained("10") / "model.pt").read_bytes()
    path.write_bytes(damaged(content)["one bit"])
    found = torch.load(path, weights_only=True)
    with pytest.raises(rnn_utils.UserError, match="damaged"):
        rnn_utils.check_digest(path, found)


def test_edited_state(tmp_path, inputs, trained):
    """last.pt changed by hand, where no shape tells: the optimiser, the schedule, ..."""
    good = torch.load(trained("04") / "last.pt", weights_only=True)
    changes = {
        "rate": lambda c: c["optimizer"]["param_groups"][0].update(lr="fast"),
        "moments": lambda c: c["optimizer"]["state"][0].update(exp_avg=torch.ones(3)),
        "schedule": lambda c: c["scheduler"].update(total_steps=1),
        "records": lambda c: c.update(records=[1, 2]),
        "best": lambda c: c["best"].clear(),
        "weights": lambda c: spoil(c["current"], math.nan),
    }
    for change in changes.values():
        torch.save(edited(good, change), tmp_path / "last.pt")
        status, _, said = train("04", inputs, "--resume", "--out-dir", tmp_path)
        assert status == 2 and "last.pt" in said


def test_model_of_another_vocabulary(tmp_path, inputs, trained):
    """Lesson 07 numbers words by the data; 05 and 08 look words up in the model's list."""
    other = tmp_path / "tagged.txt"
    other.write_text(Path(inputs["tagged"]).read_text().replace("dog", "wolf"))
    path = trained("07 tag") / "model.pt"
    flags = ("--eval-only", "--path", path, "--input", other, "--out-dir", "out")
    status, _, said = train("07 tag", inputs, *flags)
    assert status == 2 and "was trained on texts" in said


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("task", TASKS)
def test_loss_that_is_no_number(tmp_path, inputs, trained, monkeypatch, task):
    """One sentence that names the flags to change; the files of the last run stay."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("model.pt", "last.pt"):
        (out / name).write_bytes((trained(task) / name).read_bytes())
    before = contents(out)
    real = torch.optim.AdamW.step

    def explode(self, *args, **kwargs):
        real(self, *args, **kwargs)
        with torch.no_grad():
            for group in self.param_groups:
                for weight in group["params"]:
                    weight.fill_(math.nan)

    monkeypatch.setattr(torch.optim.AdamW, "step", explode)
    flags = ("--save-model", "--path", out / "model.pt", "--out-dir", out)
    status, _, said = train(task, inputs, *flags)
    assert status == 2
    assert "no longer a number" in said and "--lr" in said
    assert contents(out) == before


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("task", TASKS)
def test_wild_learning_rate(tmp_path, inputs, task, optimizer):
    """Weights that jump: refused as diverged, or scored, however large the loss."""
    wild = ("--lr", 100, "--clip", 0, "--optimizer", optimizer)
    train(task, inputs, *wild, "--out-dir", tmp_path)  # `call` checks the rest


@pytest.mark.parametrize("task", ["08 translate", "09"])
def test_perplexity_beyond_numbers(tmp_path, inputs, monkeypatch, task):
    """exp(800) is more than a float holds; a bad model must be told so all the same."""
    real = rnn_utils.evaluate

    def poor(*given):
        return {k: value + 800 for k, value in real(*given).items()}

    monkeypatch.setattr(rnn_utils, "evaluate", poor)
    assert train(task, inputs, "--out-dir", tmp_path)[0] == 0


# ---------------------------------------------------------------- odd data


def series_file(path, values, dates=None):
    first = np.datetime64("2000-01-01")
    dates = dates or [str(first + i) for i in range(len(values))]
    rows = [f"{d},{v}" for d, v in zip(dates, values, strict=True)]
    path.write_text("\n".join(["date,value", *rows]))
    return path


NOISE = np.random.default_rng(1).normal(size=300)
ODD = {
    "constant": (np.full(300, 5.0), 2),
    "constant test span": (np.r_[NOISE[:240], np.full(60, 2.0)], 0),
    "a single step": (np.r_[np.zeros(100), np.ones(200)], 0),
    "1e99": (1e99 * NOISE, 2),
    "1e59": (1e59 * NOISE, 0),
    "1e-99": (1e-99 * NOISE, 2),
    "one of 1e90": (np.r_[NOISE[:260], 1e90, NOISE[261:]], 2),
    "one of 1e20": (np.r_[NOISE[:260], 1e20, NOISE[261:]], 2),
    "1e9 and a little": (1e9 + 1e-5 * NOISE, 0),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("number", ["03", "06"])
def test_odd_series(tmp_path, number, kind):
    """Figures that come out, come out without a warning; others are refused."""
    values, expected = ODD[kind]
    path = series_file(tmp_path / "odd.csv", values)
    flags = ["--quick", "--no-plots", "--input", path, "--out-dir", tmp_path / "out"]
    flags += ["--sequence-length", 8, "--horizon", 2]
    flags += ["--hidden-size", 4, "--epochs", 1] if number == "06" else []
    status, out, said = call(LESSONS[number].main, *flags)
    assert status == expected
    assert status or said == ""
    if number == "03":
        assert "nan%" not in out


YEARS = {
    "0001": [f"0001-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(300)],
    "9999": [f"9999-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(300)],
    "1000 on": [f"{1000 + i // 12}-{1 + i % 12:02d}" for i in range(300)],
    "to 9000": [f"{8975 + i // 12}-{1 + i % 12:02d}" for i in range(300)],
    "all": [f"{1000 + 26 * i}" for i in range(300)],
}


@pytest.mark.parametrize("kind", YEARS)
@pytest.mark.parametrize("number", ["03", "06"])
def test_far_years(tmp_path, number, kind):
    """A picture's axis reaches a little further than its dates; years end at 9999."""
    path = series_file(tmp_path / "far.csv", NOISE, YEARS[kind])
    flags = ["--quick", "--input", path, "--out-dir", tmp_path / "out"]
    flags += ["--sequence-length", 8]
    small = ["--hidden-size", 4, "--epochs", 1, "--horizon", 2, "--forecast", 900]
    flags += small if number == "06" else []
    status, _, said = call(LESSONS[number].main, *flags)
    assert status == (2 if kind in ("0001", "9999") else 0)
    assert "years 1000 to 9000" in said or status == 0


def test_years_that_do_not_exist():
    """--forecast goes on by numbers where dates end."""
    index = rnn_utils.pd.date_range("8000", periods=30, freq="YS", unit="s")
    assert rnn_utils.next_dates(index, 3)[0].year == 8030
    for count in (2000, 10**5):
        assert list(rnn_utils.next_dates(index, count)[:2]) == [1, 2]


def test_very_long_names(tmp_path):
    """A name is read to its 100th letter: time and memory grow with the longest."""
    assert len(LESSONS["04"].as_the_model_sees_it("x" * 10**6)) == 100
    folder = tmp_path / "names"
    folder.mkdir()
    for label in "ab":
        names = [f"{label}{i}" + "x" * (20_000 if i == 7 else 2) for i in range(40)]
        (folder / f"{label}.txt").write_text("\n".join(names))
    flags = ("--quick", "--input", folder, "--hidden-size", 4, "--out-dir", "out")
    status, _, said = call(LESSONS["04"].main, *flags, "--predict", "y" * 50_000)
    assert status == 0 and said == ""


def test_thousands_of_tags(tmp_path):
    """The picture of all confusions would have no room; it shows the first 60."""
    lines = [f"w{i} t{i}\n" for i in range(3000)]
    (tmp_path / "tags.txt").write_text("\n".join(lines))
    flags = ("--quick", "--task", "tag", "--input", "tags.txt", "--hidden-size", 4)
    status, out, said = call(LESSONS["07"].main, *flags, "--out-dir", "out")
    assert status == 0 and said == ""
    assert "the first 60" in out
    assert plt.imread("out/confusion.png").size < 10**8


@pytest.mark.parametrize(
    ("number", "content"),
    [
        ("03", b"date,value\n2000-01-01,1\0\n2000-01-02,2\n"),
        ("05", b"text,label\n" + b"a \0 b,x\nc d,y\n" * 20),
        ("07", b"text,label\n" + b"a \0 b,x\nc d,y\n" * 20),
    ],
)
def test_nul_characters(tmp_path, number, content):
    """pandas would take what stands behind a NUL for another row.

    Elsewhere it is a character like any other: test_02, odd but legal text.
    """
    (tmp_path / "file").write_bytes(content)
    flags = ("--quick", "--input", "file", "--out-dir", "out")
    status, _, said = call(LESSONS[number].main, *flags)
    assert status == 2 and "NUL" in said


# ---------------------------------------------------------------- random flags, bytes

FAST = {"derandomize": True, "deadline": None, "database": None}
FAST["suppress_health_check"] = list(HealthCheck)
NUMBERS = [
    "1",
    "2",
    "3",
    "5",
    "0.5",
    "100",
    "0",
    "-1",
    "nan",
    "1e999",
    "9" * 12,
    "x",
    "",
    "１",
]
WORDS = st.lists(st.text(max_size=12), min_size=1, max_size=2)
OWN_DATA = {"02": "text", "03": "series", "04": "names", "05": "reviews"}
OWN_DATA |= {"06": "series", "07": "reviews", "08": "pairs", "09": "pairs"}
OWN_DATA |= {"01": "text", "10": "text"}  # lesson 01 reads none


def parser_of(lesson):
    """The parser that a lesson's main makes."""
    made = []

    def note(parser, *rest):
        made.append(parser)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rnn_utils, "parse_flags", note)
        call(lesson.main)
    return made[0]


def flag_strategy(action, inputs, folder, valid):
    """argv of one flag: half of its values are such as the flag can take."""
    name = action.option_strings[-1]
    if action.nargs == 0:
        return st.just([name])
    if action.nargs == "+":
        return WORDS.map(lambda words: [name, *words])
    if action.choices:
        values = st.sampled_from([*action.choices, "moon"])
    elif action.type:
        values = st.sampled_from(NUMBERS[:4]) | st.sampled_from(NUMBERS)
    elif name == "--input":
        values = st.just(valid) | st.sampled_from([*map(str, inputs.values()), "no"])
    elif name in ("--out-dir", "--data-dir"):
        values = st.sampled_from([str(folder), f"{inputs['text']}/below", ""])
    elif name == "--path":
        values = st.sampled_from([*map(str, folder.glob("*.pt")), "no.pt", "", "."])
    else:
        values = st.text(max_size=12) | st.sampled_from(["value", "Sunspots"])
    return values.map(lambda value: [f"{name}={value}"])


def try_flags(number, inputs, folder, examples, *base):
    """Drive a lesson's main with random flags; `call` checks what comes of it."""
    lesson = LESSONS[number]
    valid = str(inputs[OWN_DATA[number]])
    parser = parser_of(lesson)
    actions = [a for a in parser._actions if a.dest not in ("help", "quick")]
    kinds = [flag_strategy(action, inputs, folder, valid) for action in actions]
    base = ["--quick", "--out-dir", str(folder), *base]
    base += ["--hidden-size", "4"] if number >= "04" else []
    takes_input = any(a.dest == "input" for a in actions)

    @settings(max_examples=examples, **FAST)
    @given(st.lists(st.sampled_from(kinds).flatmap(lambda k: k), max_size=3))
    def attempt(extra):
        extra = [text for flag in extra for text in flag]
        own = any(text.startswith(("--input", "--dataset")) for text in extra)
        given = [f"--input={valid}"] if takes_input and not own else []
        call(lesson.main, *base, *given, *extra)

    attempt()


@pytest.mark.parametrize("number", LESSONS)
def test_numbers_out_of_range(tmp_path, number):
    """Each flag that takes a number refuses what can be none: the types are in use."""
    for action in parser_of(LESSONS[number])._actions:
        for value in ("-1", "nan", "9" * 12, "x", "") if callable(action.type) else ():
            flag = f"{action.option_strings[-1]}={value}"
            status, _, said = call(LESSONS[number].main, "--quick", flag)
            assert status == 2 and action.option_strings[-1] in said
    assert not contents(tmp_path)


@pytest.mark.parametrize("number", LESSONS)
def test_random_flags(tmp_path, inputs, number):
    """Any flags: status 0, 2 or 130; with 2 exactly one sentence; never a traceback."""
    try_flags(number, inputs, tmp_path, 5, "--no-plots")


@pytest.mark.slow
@pytest.mark.parametrize("number", LESSONS)
def test_more_random_flags(tmp_path, inputs, trained, number):
    """The same, for longer, with pictures, and with models to load."""
    for task in TASKS:
        if task[:2] == number:
            name = f"{task.replace(' ', '-')}.pt"
            (tmp_path / name).write_bytes((trained(task) / "model.pt").read_bytes())
    try_flags(number, inputs, tmp_path, 25)


def archive(texts):
    """Bytes of an archive of reviews."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for place, text in texts.items():
            info = tarfile.TarInfo(f"aclImdb/{place}.txt")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def read_all_of_series(path):
    series, _ = rnn_utils.repair_series(rnn_utils.read_series(path))
    rnn_utils.check_series(series.to_numpy(), 1, 1)


def read_model(path):
    content = rnn_utils.load_checkpoint(path, NAME["04"])
    rnn_utils.check_digest(path, content)


REVIEWS = {f"{half}/{label}/{i}_1": f"{label} {half} {i}" for half in ("train", "test")
           for label in ("pos", "neg") for i in range(9)}  # fmt: skip
CONLLU = "1\tdogs\tdog\tNOUN\tN\t_\t0\t_\t_\t_\n1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n\n"
MODEL = io.BytesIO()
torch.save({"lesson": NAME["04"], "model": {"w": torch.ones(3)}, "config": {}}, MODEL)

# Parser -> (what reads a path, bytes that it can read).
PARSERS = {
    "reviews": (rnn_utils.read_reviews, b'text,label\n"good, film",1\nbad,0\n'),
    "series": (
        read_all_of_series,
        b"date,v\n" + b"".join(b"20%02d-01-31,%d\n" % (i, i % 7) for i in range(30)),
    ),
    "conllu": (rnn_utils.read_tagged, b"# sent_id = 1\n" + CONLLU.encode() * 2),
    "word tag": (rnn_utils.read_tagged, b"EU B-ORG\nrejects O\n\nGerman B-MISC\n"),
    "pairs": (rnn_utils.read_pairs, b"a dog\tun chien\nred\trouge\n"),
    "names": (
        lambda path: rnn_utils.read_labelled_lines(Path(path).parent),
        "Żak\nO'Neil\n".encode(),
    ),
    "text": (rnn_utils.read_text, "To be, or not – to be\n".encode()),
    "vocabulary": (rnn_utils.Vocabulary.load, b'["<unk>", "a", "b"]'),
    "checkpoint": (read_model, MODEL.getvalue()),
    "imdb": (rnn_utils.read_imdb, archive(REVIEWS)),
    "gzip": (lambda path: rnn_utils._read_two_files(path, path), gzip.compress(b"a\n")),
}
SPLICES = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 9) | st.just(10**6),  # the latter: all that follows
        st.binary(max_size=6)
        | st.sampled_from([b"\0", b"\n", b"\t", b",", b'"', b"\r", b"\xff", b"1e400"]),
    ),
    max_size=4,
)


def mutated(content, splices):
    """Bytes with pieces taken out and put in."""
    for where, length, piece in splices:
        start = int(where * len(content))
        content = content[:start] + piece + content[start + length :]
    return content


def try_bytes(kind, folder, examples):
    read, good = PARSERS[kind]
    names = folder / "names"
    names.mkdir()
    (names / "Other.txt").write_text("one\n")
    path = names / "file.txt"
    made = st.binary(max_size=200) | SPLICES.map(lambda s: mutated(good, s))

    @settings(max_examples=examples, **FAST)
    @given(made)
    def attempt(content):
        path.write_bytes(content)
        call(lambda argv: read(path))

    attempt()
    path.write_bytes(good)
    assert call(lambda argv: read(path))[0] == (2 if kind == "checkpoint" else 0)


@pytest.mark.parametrize("kind", PARSERS)
def test_random_bytes(tmp_path, kind):
    """Whatever a file holds: it is read, or refused in one sentence."""
    try_bytes(kind, tmp_path, examples=60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PARSERS)
def test_more_random_bytes(tmp_path, kind):
    """The same, for longer."""
    try_bytes(kind, tmp_path, examples=1000)


WHOLE_FILES = {"03": "series", "04": "names", "06": "series", "08": "pairs"}
WHOLE_FILES |= {"05": "reviews", "07": "tagged", "10": "text"}


@pytest.mark.slow
@pytest.mark.parametrize("number", WHOLE_FILES)
def test_lessons_on_mutated_files(tmp_path, inputs, number):
    """What a parser lets through, the lesson must be able to use."""
    good = Path(inputs[WHOLE_FILES[number]])
    good = good / "Elvish.txt" if number == "04" else good
    content, path = good.read_bytes(), tmp_path / "data" / good.name
    path.parent.mkdir()
    (path.parent / "Other.txt").write_text("other\nthings\n" * 20)
    flags = ["--quick", "--no-plots", "--out-dir", tmp_path]
    flags += ["--input", path.parent if number == "04" else path]
    flags += ["--hidden-size", 4] if number != "03" else []
    flags += ["--task", "tag"] if number == "07" else []

    @settings(max_examples=6, **FAST)
    @given(SPLICES)
    def attempt(splices):
        path.write_bytes(mutated(content, splices))
        call(LESSONS[number].main, *flags)

    attempt()


def try_states(task, inputs, trained, folder, examples):
    good = (trained(task) / "last.pt").read_bytes()

    @settings(max_examples=examples, **FAST)
    @given(SPLICES.filter(lambda splices: mutated(good, splices) != good))
    def attempt(splices):
        (folder / "last.pt").write_bytes(mutated(good, splices))
        status, _, _ = train(task, inputs, "--resume", "--out-dir", folder)
        if status == 0:  # the damage lay between the parts that count
            found = torch.load(io.BytesIO(good), weights_only=True)
            content = mutated(good, splices)
            left = torch.load(io.BytesIO(content), weights_only=True)
            assert rnn_utils.content_digest(left) == rnn_utils.content_digest(found)

    attempt()


def test_random_states(tmp_path, inputs, trained):
    """A last.pt with random damage is refused by --resume."""
    try_states("04", inputs, trained, tmp_path, examples=6)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["04", "10"])
def test_more_random_states(tmp_path, inputs, trained, task):
    """The same, for longer."""
    try_states(task, inputs, trained, tmp_path, examples=40)


@pytest.mark.slow
@posix
@pytest.mark.parametrize("task", TASKS)
def test_killed_script(tmp_path, inputs, task):
    """The scripts as a learner starts them, killed when the first state is there."""
    number, *flags = TASKS[task]
    flags = [*TINY, *filled(flags, inputs)]
    whole = run_script(NAME[number], *flags, "--out-dir", "whole", cwd=tmp_path)
    assert whole.returncode == 0
    command = [sys.executable, str(ROOT / f"{NAME[number]}.py"), *map(str, flags)]
    command += ["--out-dir", str(tmp_path / "broken")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=tmp_path, **quiet) as process:
        while process.poll() is None and not (tmp_path / "broken/last.pt").exists():
            pass
        process.kill()
    flags += ["--out-dir", "broken", "--resume"]
    assert run_script(NAME[number], *flags, cwd=tmp_path).returncode == 0
    ends = [state_of(tmp_path / name) for name in ("whole", "broken")]
    assert same_state(*ends)
