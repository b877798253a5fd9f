"""What all tests share.  A lesson's file name starts with a digit, so `import` cannot name it."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

# Models in tests are tiny: a second thread costs more than it brings, and pytest-xdist
# fills the other core with another process.  Has to be set before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import rnn_utils

ENDING = (signal.SIGINT, signal.SIGTERM)

# Put first on PYTHONPATH, this stands in for a machine without a network.
NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise OSError(101, "Network is unreachable")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
"""

# Random tests draw the same examples every time, and few: seconds, not minutes.
hypothesis.settings.register_profile(
    "quick",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=40,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("quick")


def load_lesson(name):
    """Import `04_simple_rnn` and the like as a module, without running it."""
    spec = importlib.util.spec_from_file_location("lesson_" + name, ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_main(lesson, *flags):
    """Call a lesson's main in this process; returns the exit status."""
    return rnn_utils.run(lesson.main, [str(flag) for flag in flags])


def run_script(name, *flags, cwd, env=None, timeout=280):
    """Run a lesson as a learner does, in a process of its own without network or data."""
    blocked = Path(cwd) / "no_network"
    blocked.mkdir(exist_ok=True)
    (blocked / "sitecustomize.py").write_text(NO_NETWORK)
    clean = {k: v for k, v in os.environ.items() if k != "RNN_DATA_DIR"}
    clean.update({"PYTHONPATH": str(blocked), **(env or {})})
    command = [sys.executable, str(ROOT / f"{name}.py"), *map(str, flags)]
    return subprocess.run(  # noqa: PLW1510  (tests look at the status)
        command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=timeout
    )


def metrics(folder, out="out"):
    """What a run with --out-dir <folder>/<out> left in metrics.json."""
    return json.loads((Path(folder) / out / "metrics.json").read_text())


def one_sentence(capsys):
    """What a reader sees of an error: one line on standard error, no traceback."""
    text = capsys.readouterr().err.strip()
    assert text
    assert "\n" not in text, text
    return text


def refusal(function, *given, **named):
    """The one sentence of the UserError that `function` raises."""
    with pytest.raises(rnn_utils.UserError) as caught:
        function(*given, **named)
    sentence = str(caught.value)
    assert sentence and "\n" not in sentence
    return sentence


def written(folder, name, content):
    """A file with this text, or these bytes; returns its path."""
    path = Path(folder) / name
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(content)
    return path


@pytest.fixture(scope="session")
def generator():
    """samples/generate.py as a module."""
    path = ROOT / "samples" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def real_data():
    """Folder of the real data sets; the test is skipped where RNN_DATA_DIR does not name one."""
    folder = os.environ.get("RNN_DATA_DIR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RNN_DATA_DIR does not name a folder with the real data sets")
    return Path(folder)


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch, request):
    """Tests run on samples, unless they ask for the real data."""
    if "real_data" not in request.fixturenames:
        monkeypatch.delenv("RNN_DATA_DIR", raising=False)


@pytest.fixture(autouse=True)
def signals_as_before():
    """`run` decides what signals do: put that back."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def pytest_configure(config):
    config.addinivalue_line("markers", "real_data: needs the real sets in RNN_DATA_DIR")
