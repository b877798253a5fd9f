"""Faults from outside: killed, interrupted and starved processes, folders that are closed,
random bytes.

They are met by the lesson in small (toy.py): the real ones train, save and end by the
same functions.  What a file may hold and a flag may say is tested where it is read.
"""

import gzip
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
import torch
from conftest import ROOT, written
from hypothesis import given
from hypothesis import strategies as st

import rnn_utils

posix = pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signals")


# ---------------------------------------------------------------- in another process


def in_child(flags, folder, fault):
    """In a process of its own: run the lesson in small, and meet a fault on the way."""
    os.chdir(folder)
    # A shell's background jobs, and all that they start, are born deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in ((1, "said.out"), (2, "said.err")):
        os.dup2(os.open(stream, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
    import toy

    FAULTS[fault]()
    status = rnn_utils.run(toy.main, flags)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def at_third_epoch(number):
    """Get this signal in the middle of epoch 3."""
    real = rnn_utils.backward_mean
    groups = []

    def backward_mean(*given):
        groups.append(1)
        if len(groups) == 2 * 6 + 3:  # six batches an epoch
            os.kill(os.getpid(), number)
        return real(*given)

    rnn_utils.backward_mean = backward_mean


def killed_while_writing(half):
    """SIGKILL at the end of the third epoch's write, or with half of it on the disk."""
    real = os.replace
    writes = []

    def kill(first, *rest):
        writes.append(1)
        if len(writes) < 3:
            return real(first, *rest)
        if half:
            os.truncate(first, os.path.getsize(first) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = kill


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
    "SIGKILL in training": lambda: at_third_epoch(signal.SIGKILL),
    "SIGINT in training": lambda: at_third_epoch(signal.SIGINT),
    "SIGTERM in training": lambda: at_third_epoch(signal.SIGTERM),
    "SIGKILL in write": lambda: killed_while_writing(half=True),
    "SIGKILL before replace": lambda: killed_while_writing(half=False),
    "full disk": full_disk,
    "no root": no_root,
}


def child(flags, folder, fault="none"):
    """(exit code, standard error) of a run in a process of its own.

    It is forked from a process that has imported all that is slow to import.
    """
    context = multiprocessing.get_context("forkserver")
    # The first optimiser of a process imports torch._dynamo, which takes seconds.
    context.set_forkserver_preload(["torch._dynamo", "conftest", "test_faults"])
    arguments = ([str(flag) for flag in flags], str(folder), fault)
    process = context.Process(target=in_child, args=arguments)
    with pytest.MonkeyPatch.context() as patch:  # what it imports lies in these folders
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        patch.setenv("PYTHONPATH", paths, prepend=os.pathsep)
        process.start()
    process.join(100)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode, (Path(folder) / "said.err").read_text()


@pytest.fixture
def folder():
    """A folder that any user can reach; pytest's own are closed to all but one."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o777)
        yield Path(made)
        for path in Path(made).rglob("*"):
            path.chmod(0o777)


MODEL = ["--save-model", "--path", "out/model.pt", "--out-dir", "out"]


def state_of(folder):
    """last.pt without what a clock told."""
    state = torch.load(folder / "out" / "last.pt", weights_only=True)
    for record in [*state["training"]["records"], state["training"]["best"]]:
        record.update(seconds=0, loop_seconds=0)
    return state


def same(one, other):
    """Whether two things that torch.load gave are alike to the last bit."""
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@posix
@pytest.mark.parametrize(
    "moment", ["SIGKILL in training", "SIGKILL in write", "SIGKILL before replace"]
)
def test_killed_and_resumed(folder, moment):
    """kill -9 at any moment, then --resume: the state and the model of an unbroken run."""
    (folder / "whole").mkdir()
    assert child(MODEL, folder / "whole")[0] == 0
    flags = MODEL if moment == "SIGKILL in training" else ["--out-dir", "out"]
    code, said = child(flags, folder, moment)
    assert (code, said) == (-signal.SIGKILL, "")
    assert len(state_of(folder)["training"]["records"]) == 2
    assert child([*MODEL, "--resume"], folder)[0] == 0
    ends = [state_of(folder / "whole"), state_of(folder)]
    assert ends[0]["training"]["flags"].pop("save_model", None) is None  # a free flag
    assert same(*ends)
    models = [torch.load(f / "out" / "model.pt") for f in (folder / "whole", folder)]
    assert same(*models)


@posix
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_interrupted(folder, number):
    """Ctrl-C, or a scheduler: status 130, what is kept, how to go on, no traceback."""
    code, said = child(MODEL, folder, f"{number} in training")
    assert code == 130
    assert len(said.strip().splitlines()) == 1
    assert "out/last.pt" in said and "--resume" in said
    state = state_of(folder)
    assert len(state["training"]["records"]) == 2
    kept = torch.load(folder / "out" / "model.pt", weights_only=True)
    assert same(kept["model"], state["model"]), "the best weights so far"
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["last.pt", "model.pt"]


@posix
def test_full_disk(folder):
    """The kernel refuses to write on: status 2, one sentence, and the old files whole."""
    assert child([*MODEL, "--epochs", "1"], folder)[0] == 0
    before = {p: p.read_bytes() for p in (folder / "out").iterdir()}
    assert len(before) == 3
    code, said = child([*MODEL, "--epochs", "1"], folder, "full disk")
    assert code == 2
    assert said.count("\n") == 1 and "could not be written" in said
    assert {p: p.read_bytes() for p in (folder / "out").iterdir()} == before


@posix
def test_folder_that_may_not_be_written_to(folder):
    """Said before the work, not after it.  (Root is stopped by no permission.)"""
    (folder / "out").mkdir()
    (folder / "out").chmod(0o555)
    code, said = child(["--out-dir", "out"], folder, "no root")
    assert code == 2
    assert said.count("\n") == 1 and "cannot be written to" in said


@posix
def test_file_that_may_not_be_read(folder):
    """A model of somebody else's, closed to this user."""
    assert child(MODEL, folder)[0] == 0
    (folder / "out").chmod(0o777)
    (folder / "out" / "model.pt").chmod(0)
    flags = ["--eval-only", "--path", "out/model.pt", "--out-dir", "other"]
    code, said = child(flags, folder, "no root")
    assert code == 2
    assert said.count("\n") == 1 and "model.pt cannot be read" in said


PRINTS = """
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
    print("one line")
    if {impatient}:
        sys.stderr = Impatient()
        os.kill(os.getpid(), signal.SIGINT)

sys.exit(rnn_utils.run(main))
"""


def printing(impatient, **streams):
    script = PRINTS.format(root=str(ROOT), impatient=impatient)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-c", script],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
        check=False,
        **streams,
    )


@posix
def test_ctrl_c_twice():
    """Who presses Ctrl-C again while the run takes its leave gets no traceback either."""
    done = printing(True, stdout=subprocess.DEVNULL)
    assert done.returncode == 130
    assert "nothing to go on from" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_output_to_a_full_disk():
    """`python 01_... > file` on a full disk: Python must not complain a second time."""
    with open("/dev/full", "w") as full:
        done = printing(False, stdout=full)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "No space left" in done.stderr


# ---------------------------------------------------------------- random bytes


def archive():
    """Bytes of a small archive of reviews."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for half in ("train", "test"):
            for k in range(18):
                text = f"a {half} film {k}".encode()
                label = "pos" if k % 2 else "neg"
                info = tarfile.TarInfo(f"aclImdb/{half}/{label}/{k}_1.txt")
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text))
    return buffer.getvalue()


def read_all_of_series(path):
    series, _ = rnn_utils.repair_series(rnn_utils.read_series(path))
    rnn_utils.check_series(series.to_numpy(), 1, 1)


def read_two_files(path):
    """The file as both sides of a set of pairs."""
    for language in ("en", "fr"):
        written(path.parent, f"x.{language}.gz", path.read_bytes())
    rnn_utils._read_two_files(path.parent / "x")


# Reader -> (what reads a path, bytes that it can read).
READERS = {
    "reviews": (rnn_utils.read_reviews, b'text,label\n"good, film",1\nbad,0\n'),
    "series": (
        read_all_of_series,
        b"date,v\n"
        + b"".join(
            b"20%02d-%02d-28,%d\n" % (i // 12, i % 12 + 1, i % 7) for i in range(60)
        ),
    ),
    "pairs": (rnn_utils.read_pairs, b"a dog\tun chien\nred\trouge\n"),
    "text": (rnn_utils.read_text, "To be, or not – to be\n".encode()),
    "imdb": (rnn_utils.read_imdb, archive()),
    "gzip": (read_two_files, gzip.compress(b"a\n")),
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


@pytest.mark.parametrize("kind", READERS)
def test_random_bytes(tmp_path, kind):
    """Whatever a file holds: it is read, or refused in one sentence that names it."""
    read, good = READERS[kind]
    path = tmp_path / "file.txt"

    @given(st.binary(max_size=200) | SPLICES.map(lambda s: mutated(good, s)))
    def attempt(content):
        path.write_bytes(content)
        try:
            read(path)
        except rnn_utils.UserError as error:
            assert len(str(error)) > 30

    attempt()
    path.write_bytes(good)
    read(path)  # else the lines above could pass for nothing
