"""Plumbing that lessons share, or that one has no room for.

You do not need this file to understand a lesson: whatever a lesson is named for (its
cell, its attention, its sampling) is written out in the lesson itself.  What is here
would only blur it: downloads, padding, batching, the training loop's book-keeping,
checkpoints, pictures and flags.

Sections
    1. Reproducibility and device
    2. Data sets, downloads and samples
    3. Vocabulary, padding, masks, batching
    4. Training, evaluation, checkpoints
    5. Results and pictures
    6. Command line

Sizes, here and in every lesson: B batch, T time, F features, E embedding, H hidden, V
vocabulary, N examples in a data set.
"""

import argparse
import bisect
import ctypes
import datetime
import functools
import gzip
import hashlib
import io
import json
import math
import os
import random
import re
import signal
import sys
import sysconfig
import tarfile
import tempfile
import threading
import time
import warnings
import zlib
from array import array
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import pooch
import requests
import torch
import torch.distributed as dist
from sacrebleu.metrics import BLEU
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from torch import nn
from tqdm import tqdm

matplotlib.use("Agg")  # draw into files: a lesson must not need a screen
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent
SAMPLES = ROOT / "samples"
PLAIN = {"parse_math": False}  # of a picture's text: a file name may hold dollar signs


class UserError(Exception):
    """Something the reader can put right; `run` prints it as one sentence, exit status 2."""


class Diverged(UserError):
    """The loss stopped being a number."""


# ====================================================================================
# 1. Reproducibility and device
# ====================================================================================


def keep_memory():
    """Let this process keep the memory it has freed, for the next batch.

    glibc (Linux) hands large blocks back at every free and is given them anew, page by
    page, at every allocation.  Batches of changing length, LSTM, two cores: 9.4 s with
    that, 7.0 s without.  oneDNN keeps a kernel for each length it has met, 1,024 of
    them, some MiB each: 16 are as fast.  Without glibc the first part does nothing.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(-4, 0)  # M_MMAP_MAX: no block is the system's own,
        library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: and none goes back


keep_memory()


def release_memory():
    """Hand what is free back to the system after all: now and then it costs nothing."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def set_seed(seed):
    """Seed Python, NumPy and PyTorch: on a CPU, the same command prints the same numbers."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # every device, GPUs included


def pick_device(name="auto"):
    """The torch.device for `--device`: auto, cpu, cuda or mps; UserError if it is not there."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        usable = (kind for kind in there if there[kind] and _computes(kind))
        return torch.device(next(usable))
    if not there.get(name) or not _computes(name):
        have = ", ".join(kind for kind, present in there.items() if present)
        raise UserError(
            f"--device {name} is not available on this machine (it has: {have}); "
            f"run without --device, or install a PyTorch build that supports {name}"
        )
    return torch.device(name)


def _computes(kind):
    """Whether a tensor can be computed there: a GPU may be too old for this PyTorch."""
    try:
        return torch.ones(2, device=kind).sum().item() == 2
    except (RuntimeError, AssertionError):
        return False


def random_state():
    """Every random generator's state, as plain data that `torch.load(weights_only=True)` reads."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():  # a run on the CPU leaves the GPU alone
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state):
    """Put every generator back to what `random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_initialized():  # as many as this machine has
        for i, kept in enumerate(state.get("cuda", [])[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(kept.cpu(), i)
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"].cpu())


def count_parameters(model):
    """How many numbers training may change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def cells_of_equal_size(build, config, cells):
    """name -> config of each cell, its hidden size chosen for as many weights as `config`.

    build: the model class; config: its keyword arguments, "cell" and "hidden" among
    them.  Its own cell comes first.
    """

    def size(shape):
        with torch.device("meta"):  # shapes only: nothing is allocated or drawn
            return count_parameters(build(**shape))

    wanted, found = size(config), {}
    for cell in sorted(cells, key=lambda cell: cell != config["cell"]):
        # An LSTM has four gates where a plain RNN has none, so at most 4 times the size.
        sizes = range(1, 4 * config["hidden"] + 1)
        shapes = [{**config, "cell": cell, "hidden": h} for h in sizes]
        above = min(bisect.bisect_left(shapes, wanted, key=size), len(shapes) - 1)
        near = shapes[max(above - 1, 0) : above + 1]
        shape = min(near, key=lambda shape: abs(size(shape) - wanted))
        found[f"{cell}, hidden {shape['hidden']}"] = shape
    return found


# `torchrun --nproc_per_node=2 LESSON.py` starts a lesson twice, as ranks 0 and 1.  Each
# holds a copy of the model and reads its own rows of every batch; all step by the
# gradient of all rows (PyTorch's DistributedDataParallel), and so the copies stay equal.
# Rank 0 alone prints and writes.  In a lesson started by itself all this does nothing.

_TORCHRUN = {"store": None, "processes": 1}
_KEPT = {}  # "path": the training state that this run has written or gone on from


def join_ranks(parallel):
    """Under torchrun, meet the other ranks.  UserError if the lesson trains in one process.

    With gloo on CPUs, NCCL on GPUs.  Who waits for another rank waits for as long as it
    takes, a download included: if that rank fails, torchrun ends all of them.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched():
        return
    if not parallel and os.environ["WORLD_SIZE"] == "1":
        return
    store, number, size = next(dist.rendezvous("env://"))
    _TORCHRUN.update(store=store, processes=size)
    if number > 0:
        silent = {"encoding": "utf-8", "errors": "replace"}
        sys.stdout = open(os.devnull, "w", **silent)  # noqa: SIM115  (while it runs)
    if not parallel:
        raise UserError(
            "this lesson trains in one process, only 05 and 10 in several; "
            "start it with python instead of torchrun"
        )
    if sys.platform == "linux" and os.environ["LOCAL_WORLD_SIZE"] == str(size):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all on this machine
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    kinds, patience = "cpu:gloo,cuda:nccl" if gpus else "gloo", datetime.timedelta(1)
    dist.init_process_group(
        kinds, store=store, rank=number, world_size=size, timeout=patience
    )


def in_ranks():
    """Whether other processes may be training the same model."""
    return dist.is_available() and dist.is_initialized()


def rank():
    return dist.get_rank() if in_ranks() else 0


def ranks():
    return dist.get_world_size() if in_ranks() else 1


def leave_ranks():
    """After training: rank 0 goes on by itself, the others end."""
    if in_ranks():
        number = rank()
        dist.destroy_process_group()
        if number > 0:
            sys.exit(0)


def first_to_fail():
    """Whether no other rank has failed before: then this one says why, and only this one."""
    if _TORCHRUN["store"] is None:
        return True
    # Where one rank has ended, torchrun ends the others: not before this one has spoken.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        return _TORCHRUN["store"].add("failed", 1) == 1
    except RuntimeError:  # the store is gone, and with it whoever kept it
        return os.environ["RANK"] == "0"


def of_rank_zero(function):
    """Decorator: rank 0 calls `function`, all get what it returned.  So one downloads."""

    @functools.wraps(function)
    def shared(*given, **named):
        if not in_ranks():
            return function(*given, **named)
        found = [function(*given, **named) if rank() == 0 else None]
        dist.broadcast_object_list(found)
        return found[0]

    return shared


def share_gradients(model):
    """The model for training: under torchrun, backward() takes the mean over ranks."""
    if not in_ranks():
        return model
    return nn.parallel.DistributedDataParallel(model)


def sum_over_ranks(numbers):
    """A list of numbers -> the sum of each over all ranks, in float64."""
    if not in_ranks():
        return numbers
    totals = torch.tensor([float(n) for n in numbers], dtype=torch.float64)
    dist.all_reduce(totals)
    return totals.tolist()


def step_own_rows(model, step, batch):
    """step(model, batch) on this rank's rows of the batch: every `ranks()`-th.

    All ranks must take part in each step, so one for which no row is left computes the
    first, and counts nothing.  A batch's tensors have one row for each example.
    """
    if not in_ranks():
        return step(model, batch)
    rows = next(len(value) for value in batch.values() if torch.is_tensor(value))
    own = slice(rank(), None, ranks()) if rank() < rows else slice(1)
    part = {k: v[own] if torch.is_tensor(v) else v for k, v in batch.items()}
    sums, count = step(model, part)
    if rank() < rows:
        return sums, count
    return {name: value * 0 for name, value in sums.items()}, 0


def draw_by_rank(batches):
    """The batches of one epoch; what is drawn meanwhile (dropout) differs between ranks.

    The epoch's order was drawn before the first batch, and equally on all ranks; to
    draw the next one equally too, the random state is put back at the end.
    """
    state = None
    for batch in batches:
        if in_ranks() and state is None:
            state = torch.get_rng_state()
            torch.manual_seed(int(torch.randint(2**62, ())) + rank())
        yield batch
    if state is not None:
        torch.set_rng_state(state)


# ====================================================================================
# 2. Data sets, downloads and samples
# ====================================================================================


class DataSet(NamedTuple):
    """Where a real data set comes from.  `files` maps a path below --data-dir to its digest."""

    title: str
    licence: str
    base_url: str  # the URL of a file is base_url + its name without folders
    files: dict

    def url(self, path):
        return self.base_url + path.rsplit("/", 1)[-1]


_GITHUB = "https://raw.githubusercontent.com/"

DATASETS = {
    "names": DataSet(
        "surnames of 18 languages (practical-pytorch)",
        "MIT",
        _GITHUB
        + "spro/practical-pytorch/c520c52e68e945d88fff563dba1c028b6ec0197b/data/names/",
        {
            f"names/{language}.txt": f"sha256:{digest}"
            for language, digest in {
                "Arabic": "6f424a8dbe51cbbbabab7a57d38b617210125e4e3991f3c657cb79b8f104bafc",
                "Chinese": "09ba8f1f7e38dbc99372d461b26ad4433b811fc6bfa6a3ecca6fe11a9a777465",
                "Czech": "e17ab0ec47616a72c39cb85c783f70c3663ab64488721e5d8378f146d2226be7",
                "Dutch": "924f32b635170eae561f84538632138fc07d4c8bbd70ba3fb980de1ecc4d2af3",
                "English": "9cca037066d3d5989e24bc01801416162de506b5e28e15b7c092a47905d29bf2",
                "French": "81e65b36c60ed5b89a17422f6edcadbb89546f38ad69e960e64e7ba682012a95",
                "German": "7449cd590b97a733e18d613a4155decd77ec35dc5f8aadd7a82204dce4f051db",
                "Greek": "3555b5186de7f401e6d991b088e9e644ca3099116477818c25ab5793801389e6",
                "Irish": "cf8c7013256252a88d2503127b87282a11f21b2ff6db1bded68834c19a1ec058",
                "Italian": "f88414c27d0606a11a678b4859277828c2565d6cc4d9ee932deef6e94f3b35e4",
                "Japanese": "e0e717e114fec3e7eade4d9dabe0067c475f43147e36a22b47902ee76ad9e67f",
                "Korean": "cd54221ccb362a6cba4c78828838cf3268a0e59744767a37cf6ec4b74036b136",
                "Polish": "45bab898af2f60ed3a728bbf6980e28821011a7caa53227553b5785903a40826",
                "Portuguese": "50a8735f41f4f73757c8ce5b16cb0275cd86b2b214bcbc8c9805f508cb131c53",
                "Russian": "0cfe53ac18041e8f63666aa77313e0a3ff378facb132abee052d8ebdc8c3d62c",
                "Scottish": "78d0252711d87d948ea86fe34826c51d2d794a8e52d15b5d6f7b6244d45d62dd",
                "Spanish": "1bcb462ed3316756a85781d68232bddae04498fdddd5d9219c53fd1fbdeba7a7",
                "Vietnamese": "f3f9e4164ab47601178a6e45b216464a64122f49d05541f24bf18a757253281d",
            }.items()
        },
    ),
    "imdb": DataSet(
        "Large Movie Review Dataset (Maas et al., 2011)",
        "research use; cite Maas et al., 2011",
        "https://ai.stanford.edu/~amaas/data/sentiment/",
        {"aclImdb_v1.tar.gz": "md5:7c2ac02c03563afcf9b574c7e56c153a"},
    ),
    "sunspots": DataSet(
        "monthly sunspot numbers, 1749 to 1983",
        "public figures",
        _GITHUB + "jbrownlee/Datasets/d20fcb6402ae34e653d4513b00f39257bb37ed7f/",
        {
            "monthly-sunspots.csv": "sha256:"
            "c4ec8cc57d9f6fb6ecdb3e1f37f25b6f4badd5124c55931052b0cd2fc3bc71f3"
        },
    ),
    "stock": DataSet(
        "S&P 500, daily, 2000 to 2020",
        "public figures",
        _GITHUB + "vega/vega-datasets/cad85578e232704bb0453544742440038038c6a2/data/",
        {
            "sp500-2000.csv": "sha256:"
            "9409e9342d0657c747324e4cfabce8a8c7f663bc485b95a3378f36b0a160f8c8"
        },
    ),
    "ewt": DataSet(
        "Universal Dependencies English EWT",
        "CC BY-SA 4.0",
        _GITHUB
        + "UniversalDependencies/UD_English-EWT/15d613d8447b3478787d4c278730a1e48a945efb/",
        {
            f"ud-english-ewt/en_ewt-ud-{split}.conllu": f"sha256:{digest}"
            for split, digest in {
                "train": "3fb78e2b55482c8ee00caa653af436c88c9e5bc9a73ce26e4ae3ddc79d2b7e7b",
                "dev": "531a54ff90d6ab12201c5a50c3e78e6ddac4de69abc4bce5d275d3cd29efe2b6",
                "test": "e266e515a0a7547657ed3d90d9ba46487d6bd251f27ad4269d4e8a427c8555cd",
            }.items()
        },
    ),
    "multi30k": DataSet(
        "Multi30k task 1, English and French captions (Elliott et al., 2016)",
        "see its repository, github.com/multi30k/dataset",
        _GITHUB
        + "multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/",
        {
            f"multi30k/{name}.gz": f"sha256:{digest}"
            for name, digest in {
                "train.en": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
                "train.fr": "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
                "val.en": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
                "val.fr": "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
                "test_2016_flickr.en": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359"
                "d532d9",
                "test_2016_flickr.fr": "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c4"
                "0c8b90",
            }.items()
        },
    ),
    "shakespeare": DataSet(
        "Tiny Shakespeare",
        "public domain",
        _GITHUB + "karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/"
        "tinyshakespeare/",
        {
            "tinyshakespeare/input.txt": "sha256:"
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
        },
    ),
}

CONNECT_SECONDS = 5  # one connection attempt; the first contact is given twice that
DOWNLOAD_TRIES = 3  # for a transfer that breaks off or arrives damaged


class Source(NamedTuple):
    """The data a run uses: its name, where it lies (None if generated), whether it is real."""

    name: str
    path: Path | None
    real: bool

    @property
    def label(self):
        """What every printed result and picture title carries, such as `names [real]`."""
        if self.name == "input":
            name = self.path.resolve().name.encode(errors="replace").decode()
            return f"{name} [sample: your own data]"
        return f"{self.name} [{'real' if self.real else 'sample'}]"


def fetch(name, data_dir):
    """Paths of a real data set's files below `data_dir`, downloading what is not there yet.

    A file that already lies there is taken as it is.  A download counts only once its
    digest has been checked; until then it has another name, and it is deleted if it
    fails. Raises UserError, which says what to put where, if the files cannot be had.
    """
    dataset, folder = DATASETS[name], Path(data_dir)
    missing = list(dataset.files)
    try:
        missing = [path for path in missing if not (folder / path).is_file()]
        if missing:
            _check_reachable(dataset.url(missing[0]))
            print(f"Downloading {dataset.title}; licence: {dataset.licence}")
        for path in missing:
            _download(dataset.url(path), dataset.files[path], folder / path)
    except (requests.exceptions.RequestException, OSError, ValueError) as error:
        wanted = (
            missing[0]
            if len(missing) == 1
            else f"{missing[0]} and {len(missing) - 1} more"
        )
        raise UserError(
            f"data set '{name}' could not be downloaded ({_reason(error)}); put {wanted} into "
            f"{folder} (from {dataset.base_url}), or choose another --dataset"
        ) from None
    return [folder / path for path in dataset.files]


def _check_reachable(url):
    """Raise at the first failed connection, at most 2 * CONNECT_SECONDS from now.

    A thread, because looking up a host name has no time limit of its own.
    """
    outcome = [requests.exceptions.ConnectTimeout("no answer")]

    def ask():
        try:
            with requests.get(url, stream=True, timeout=CONNECT_SECONDS) as answer:
                answer.raise_for_status()
            outcome[0] = None
        except Exception as error:  # noqa: BLE001  (re-raised below)
            outcome[0] = error

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * CONNECT_SECONDS)
    if outcome[0] is not None:
        raise outcome[0]


def _download(url, digest, target):
    """One file with pooch: progress bar, digest checked before the file takes its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    pooch.get_logger().setLevel("ERROR")
    watched = sys.stderr.isatty()  # a log file should hold the error alone
    downloader = pooch.HTTPDownloader(
        progressbar=watched, timeout=(CONNECT_SECONDS, 30)
    )
    for attempt in range(DOWNLOAD_TRIES):
        try:
            pooch.retrieve(
                url, digest, target.name, target.parent, downloader=downloader
            )
            os.chmod(target, 0o666 & ~_UMASK)  # pooch leaves it readable by us alone
            return
        except (requests.exceptions.RequestException, ValueError) as error:
            if attempt == DOWNLOAD_TRIES - 1 or not _may_pass(error):
                raise
            time.sleep(0.2 * 2**attempt)


def _may_pass(error):
    """Whether to ask again could help: not if a file is absent, or the network."""
    if isinstance(error, requests.exceptions.HTTPError):
        return error.response.status_code >= 500
    return not isinstance(error, requests.exceptions.ConnectTimeout)


def _reason(error):
    """A failed download in a few words."""
    if isinstance(error, requests.exceptions.HTTPError):
        return f"the server answered {error.response.status_code}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off in the middle"
    if isinstance(error, requests.exceptions.RequestException):
        return "no connection"
    if isinstance(error, ValueError):
        return "what arrived does not have the right digest"
    if isinstance(error, PermissionError):  # pooch adds a sentence of its own to it
        return "that folder cannot be written to"
    return error.strerror or str(error)


@of_rank_zero
def choose_dataset(args, real, offline):
    """Turn `--dataset` and `--input` into a Source.

    real: names of DATASETS, the first being what `auto` means.  offline: name -> path
    of a sample (None if it is generated), the first being what `auto` falls back to.
    """
    if args.input:
        if args.dataset != "auto":
            raise UserError(
                "--input and --dataset exclude each other; give one of them"
            )
        if not Path(args.input).exists():
            raise UserError(f"--input {args.input}: there is no such file or folder")
        return Source("input", Path(args.input), False)
    fallback = next(iter(offline))
    name = args.dataset
    if name == "auto":
        name = fallback if args.quick else real[0]
    if name in offline:
        return Source(name, offline[name], False)
    try:
        first = fetch(name, args.data_dir)[0]
    except UserError as error:
        if args.dataset != "auto":
            raise
        print(f"Going on with the offline {fallback}, because {error}.")
        return Source(fallback, offline[fallback], False)
    return Source(name, first.parent if len(DATASETS[name].files) > 1 else first, True)


def read_text(path):
    """A whole text file as one string, line ends as \\n.  UserError if empty or not UTF-8."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(
            f"{path} is not UTF-8 text; save it as UTF-8 and try again"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if not text.strip():
        raise UserError(f"{path} is empty")
    return text


def standard_library_folder():
    """Where the source of Python's own standard library lies."""
    return Path(sysconfig.get_paths()["stdlib"])


def read_standard_library(folder, most=400_000):
    """Modules of Python's standard library, one after another: `most` characters of source.

    Modules of middling size, in order of their names' digests: a mixture, the same every time
    on a machine (another version of Python has another text).  UserError if there is no source.
    """
    files = sorted(
        Path(folder).glob("*.py"),
        key=lambda path: hashlib.sha256(path.name.encode()).digest(),
    )
    parts, size = [], 0
    for path in files:
        text = path.read_text(encoding="utf-8", errors="replace")
        if size < most and 1000 <= len(text) <= 60_000 and text.isascii():
            parts.append(text)
            size += len(text)
    if not parts:
        raise UserError(
            f"the source of Python's standard library is not in {folder}; "
            "give a text with --input FILE"
        )
    return "\n".join(parts)[:most]


def read_labelled_lines(folder):
    """A folder of `<label>.txt`, one example a line, as a list of (line, label) in file order.

    Repeats are kept: whether they may stand in two splits is the lesson's business.
    """
    if not Path(folder).is_dir():
        raise UserError(
            f"{folder} is not a folder; it should hold one <label>.txt per class"
        )
    files = sorted(Path(folder).glob("*.txt"))
    if len(files) < 2:
        raise UserError(
            f"{folder} holds {len(files)} .txt files; it takes two or more, one a class"
        )
    return [
        (" ".join(line.split()), path.stem)
        for path in files
        for line in read_text(path).splitlines()
        if line.strip()
    ]


def read_csv(path, columns, **options):
    """The named columns of a CSV file as a DataFrame.  UserError names what is missing.

    options: further arguments of pandas.read_csv.
    """
    text = read_text(path)
    if "\0" in text:  # pandas would end a row there, and read the rest as another
        raise UserError(f"{path} holds NUL characters: it is no text; save it as UTF-8")
    try:
        frame = pd.read_csv(io.StringIO(text), skipinitialspace=True, **options)
    except ValueError as error:  # pandas' own errors are ValueErrors too
        why = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as a CSV file: {why}") from None
    if not isinstance(frame.index, pd.RangeIndex):  # pandas shifted the columns
        raise UserError(
            f"{path} has rows with more cells than its header; "
            'put "quotes" around a text that holds a comma'
        )
    for column in columns:
        if column not in frame.columns:
            have = ", ".join(map(str, frame.columns[:20]))
            raise UserError(f"{path} has no column '{column}'; it has: {have}")
    if frame.empty:
        raise UserError(f"{path} has a header but no rows")
    return frame[list(columns)]


def split_by_hash(keys, parts=(0.8, 0.1, 0.1)):
    """Assign each distinct key to part 0, 1 or 2; returns {key: part}.

    Keys are ordered by their SHA-256, so the split is fixed by the data alone: the same
    on every machine, whatever --seed says, and a key never stands in two parts.
    """
    ordered = sorted(set(keys), key=lambda key: hashlib.sha256(key.encode()).digest())
    first = round(parts[0] * len(ordered))
    second = round((parts[0] + parts[1]) * len(ordered))
    return {key: (i >= first) + (i >= second) for i, key in enumerate(ordered)}


def sine_series(n=2000, period=50, noise_std=0.2):
    """A sine plus Gaussian noise of known variance, by day.  The best forecast errs by the noise.

    Returns (series, noise), two pandas.Series of `n` values on the same dates.  Both
    are fixed: neither depends on --seed.
    """
    noise = noise_std * np.random.default_rng(20240101).standard_normal(n)
    values = np.sin(2 * np.pi * np.arange(n) / period) + noise
    dates = pd.date_range("2000-01-01", periods=n, freq="D", name="date")
    return pd.Series(values, dates, name="sine"), pd.Series(noise, dates, name="noise")


def simulated_prices(n=2500, drift=2e-4, volatility=0.01):
    """A made-up price: a geometric random walk, by business day.  No real market is in it."""
    steps = drift + volatility * np.random.default_rng(20240102).standard_normal(n)
    dates = pd.date_range("2000-01-03", periods=n, freq="B", name="date")
    return pd.Series(100 * np.exp(np.cumsum(steps)), dates, name="simulated")


OBVIOUS_COLUMN = {"sunspots": "Sunspots", "stock": "close"}
DATE_COLUMNS = {"date", "datetime", "timestamp", "time", "day", "month", "year"}
FIRST_YEAR, LAST_YEAR = 1000, 9000


def load_series(args, source):
    """The series of `--dataset`, `--input` and `--column`, repaired -> (series, sentences).

    The series is a pandas.Series of finite floats on rising dates, each date once,
    named after its column.  The sentences say what `repair_series` found and did; print
    them. Raises UserError if the data cannot be read as a series, or never change.
    """
    made = {"sine": lambda: sine_series()[0], "simulated": simulated_prices}
    if source.name not in made:
        column = args.column or OBVIOUS_COLUMN.get(source.name)
        return repair_series(read_series(source.path, column))
    series = made[source.name]()
    if args.column not in (None, series.name):
        raise UserError(
            f"data set '{source.name}' has one column, '{series.name}'; drop --column"
        )
    return repair_series(series)


def check_series(values, length, horizon):
    """UserError unless windows can be cut from `values` (n,) and its first 70 % can be scaled."""
    need = max(20, math.ceil(2 * (length + horizon) / 0.70) + 1)
    if len(values) < need:
        raise UserError(
            f"the series has {len(values):,} values, but --sequence-length {length} with "
            f"--horizon {horizon} takes {need:,} or more; lower them, or give a longer series"
        )
    train = values[: round(0.70 * len(values))]
    # Squares of squares are summed, and the network computes in float32.
    spread, largest = train.std(), np.abs(values).max()
    if np.ptp(train) == 0 or not 1e-60 < spread < 1e60 or largest > 1e60:
        raise UserError(
            "the series cannot be scaled: its training span, the first 70 %, never changes, or "
            "its numbers are too large or too close together; give another series"
        )
    if np.abs(values - train.mean()).max() > 1e12 * spread:
        raise UserError(
            "the series cannot be scaled: a value is 1,000,000,000,000 times as far from the "
            "others as they from each other; correct it, or give another series"
        )


def check_parts(values, length, horizon):
    """As check_series; also, validation and test must be long enough to judge h steps ahead."""
    check_series(values, length, horizon)
    need = int((2 * horizon + 5) / 0.15) + 1
    if len(values) < need:
        raise UserError(
            f"the series has {len(values):,} values, but --horizon {horizon} takes {need:,} "
            "or more; lower it, or give a longer series"
        )


def find_season(train):
    """Steps of one season of `train` (n1,), None if none shows; lesson 03 has it at length.

    The lag of the highest peak of the autocorrelation after it first fell below zero,
    if it rises above the band of white noise.  A season must fit three times into
    `train`.
    """
    n, centred = len(train), train - train.mean()
    spectrum = np.abs(np.fft.rfft(centred, 2 * n)) ** 2  # padded: no wrapping around
    r = np.fft.irfft(spectrum)[: n // 3 + 1] / (centred @ centred or 1.0)
    below = np.flatnonzero(r < 0)
    if not len(below):
        return None
    lag = int(below[0] + np.argmax(r[below[0] :]))
    is_peak = below[0] < lag < len(r) - 1  # an end of the range is no peak
    return lag if is_peak and r[lag] > 1.96 / np.sqrt(n) else None


def next_dates(index, count):
    """The `count` dates after `index` if it is regular, else the steps' numbers 1, 2, ..."""
    with warnings.catch_warnings(action="ignore"):  # about what pandas 4 will return
        step = pd.infer_freq(index) if len(index) > 2 else None
    if step is not None:
        with suppress(ValueError, OverflowError):  # after the year 9999
            dates = pd.date_range(index[-1], periods=count + 1, freq=step)[1:]
            if dates[-1].year <= LAST_YEAR + 500:
                return dates
    return pd.RangeIndex(1, count + 1)


def read_series(path, column=None):
    """One column of a CSV file by its dates, in file order and unrepaired: a pandas.Series.

    The dates are the column with such a name, else the first that is not numbers; they
    are written as 2000-12-31, 2000-12 or 2000 (ISO 8601: day and month cannot be mixed
    up). column: None takes the only column of numbers.  An empty cell becomes NaN, and
    so does inf.
    """
    read_csv(path, [column] if column else [])  # raises UserError for what is no CSV
    exact = {"float_precision": "round_trip"}  # the default may miss the last digit
    with warnings.catch_warnings(action="ignore"):  # pandas 4 will always be exact
        frame = pd.read_csv(path, encoding="utf-8-sig", skipinitialspace=True, **exact)
    dates = _find_dates(path, frame)
    column = column or _find_numbers(path, frame.drop(columns=dates))
    if column == dates:
        raise UserError(
            f"{path}: '{column}' holds the dates; name another with --column"
        )
    cells = frame[dates].convert_dtypes().astype(str)  # else 1900.0, if one is empty
    cells = cells.where(frame[dates].notna(), "")
    index = pd.to_datetime(cells, format="ISO8601", errors="coerce", utc=True)
    index = index.dt.tz_localize(None)
    _refuse(path, cells, index.isna(), "a date; write it as 2000-12-31")
    years = index.dt.year  # a picture of others would not fit between 1 and 9999
    outside = (years < FIRST_YEAR) | (years > LAST_YEAR)
    what = f"a date of the years {FIRST_YEAR} to {LAST_YEAR}; correct it"
    _refuse(path, cells, outside, what)
    numbers = pd.to_numeric(frame[column], errors="coerce").astype(float)
    _refuse(path, frame[column], numbers.isna() & frame[column].notna(), "a number")
    finite = numbers.where(np.isfinite(numbers))
    return pd.Series(
        finite.to_numpy(), pd.DatetimeIndex(index, name="date"), name=column
    )


def _find_dates(path, frame):
    """Name of the column that holds the dates."""
    named = [name for name in frame if str(name).strip().lower() in DATE_COLUMNS]
    other = [
        name for name in frame if not pd.api.types.is_numeric_dtype(frame[name].dtype)
    ]
    if not named + other:
        raise UserError(f"{path} has no column of dates; add one named 'date'")
    return (named + other)[0]


def _find_numbers(path, frame):
    """Name of the only column of numbers; UserError, naming the choices, if there are more."""
    numeric = [
        name for name in frame.select_dtypes("number") if frame[name].notna().any()
    ]
    if len(frame.columns) == 1:
        numeric = list(frame.columns)
    if len(numeric) != 1:
        have = ", ".join(map(str, numeric[:20])) or "none"
        raise UserError(
            f"{path} does not have exactly one column of numbers; choose one with --column "
            f"(there are: {have})"
        )
    return numeric[0]


def _refuse(path, cells, bad, what):
    """UserError about the first cell that `bad` marks."""
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise UserError(
            f"{path}, column '{cells.name}', row {row + 1} below the header: "
            f"'{cells.iloc[row]}' is not {what}"
        )


def repair_series(series):
    """Sort by date, merge repeats, add missing dates, fill gaps -> (series, sentences).

    A gap takes the last value before it: to interpolate would tell the past about the
    future.
    """
    said = []
    if not series.index.is_monotonic_increasing:
        said.append("the dates were not in order: sorted")
    repeats = int(series.index.duplicated().sum())
    if repeats:
        differ = int((series.groupby(level=0).nunique() > 1).sum())
        said.append(
            f"rows that repeat a date: {repeats} (dates with different values: {differ}); "
            "the value that stands last in the file counts"
        )
    series = series.groupby(level=0).last()  # the last that is not NaN; sorts too
    empty = int(series.isna().sum())
    series, about_dates = _add_missing_dates(series)
    said += about_dates
    if empty:
        said.append(f"dates without a value: {empty}; each takes the value before it")
    leading = int(series.ffill().isna().sum())
    if 0 < leading < len(series):
        said.append(f"dates before the first value: {leading}; left out")
    series = series.ffill().dropna()
    if series.nunique() < 2:
        raise UserError(
            f"the series '{series.name}' never changes, so there is nothing to forecast"
        )
    return series, said


def _add_missing_dates(series):
    """Give a regular series a row (NaN) for each date it lacks -> (series, sentences).

    Trading days are no regular dates: weekends and holidays have no price, so none is
    made up.
    """
    if len(series) < 3:
        return series, []
    index = series.index
    usual = pd.Series(np.diff(index)).mode()[0]
    if usual == pd.Timedelta(days=1) and (index.day_of_week >= 5).mean() < 0.1:
        lacking = len(pd.bdate_range(index[0], index[-1]).difference(index.normalize()))
        longest = np.diff(index).max().astype("timedelta64[D]").astype(int)
        sentence = (
            f"weekdays without a row: {lacking}, taken as holidays and not filled "
            f"(longest gap {longest} days); one step is one trading day"
        )
        return series, [sentence] if lacking else []
    series, grid = _even_dates(series, usual)
    if grid is None:
        return series, ["the dates are not evenly spaced: taken one after another"]
    missing = grid.difference(series.index)
    if not len(missing):
        return series, []
    when = str(missing[0]).removesuffix(" 00:00:00")
    sentence = f"missing dates: {len(missing)}, the first {when}; "
    return series.reindex(grid), [sentence + "each takes the value before it"]


def _even_dates(series, usual):
    """Even steps of `usual`, of a month, a quarter or a year -> (series, dates it should have).

    The dates are None if no such step fits.  Months, quarters and years go by their
    first day.
    """
    first, last = series.index[0], series.index[-1]
    if (last - first) // usual < 2 * len(series):
        grid = pd.date_range(first, last, freq=usual, name="date")
        if series.index.isin(grid).all():
            return series, grid
    for unit in ("M", "Q", "Y"):
        periods = series.index.to_period(unit)
        grid = pd.period_range(periods[0], periods[-1], freq=unit, name="date")
        if periods.is_unique and len(grid) <= 2 * len(series):
            starts = periods.to_timestamp().rename("date")
            return series.set_axis(starts), grid.to_timestamp()
    return series, None


class TextPart(NamedTuple):
    """One part of a labelled text set; text i is ids[starts[i] : starts[i + 1]]."""

    texts: list  # N strings, as they were written
    labels: list  # N names of classes
    ids: np.ndarray  # (total,) int32, numbers of words: see Reviews.words
    starts: np.ndarray  # (N + 1,) int64


class Reviews(NamedTuple):
    """A labelled text set.  Id k is words[k]; len(words), any word not in training."""

    words: list  # of the training part, by falling count, equal counts alphabetically
    labels: list  # the names of the classes, sorted
    parts: list  # TextPart of training, validation, test


_WORD = re.compile(r"\w+(?:'\w+)*|[^\w\s]")
_REVIEW = re.compile(r"aclImdb/(train|test)/(pos|neg)/([^/]+\.txt)")
LONGEST_REVIEW = 1_000_000  # bytes; the longest of the real set has 14,000
CACHE_FORMAT = 1  # raise it when split_words, or what a cache holds, changes
QUICK_PARTS = (480, 60, 60)  # of training, validation, test under --quick


def split_words(text):
    """Words in lower case ("don't" is one), and each punctuation mark by itself."""
    text = text.lower().replace("<br />", " ")  # the line break of a web page
    return _WORD.findall(text.replace("’", "'"))


@of_rank_zero
def load_reviews(args, source):
    """Labelled texts of `imdb`, of the sample or of the reader's CSV file -> Reviews.

    imdb: its own test half; a tenth of its training half, by digest of the text, is
    validation; numbered once, then cached.  CSV: 80/10/10 by digest, so that no text
    stands in two parts.  --quick leaves 600 texts.  Raises UserError for a damaged
    archive, and for a CSV file that read_reviews refuses or that has too few texts.
    """
    if source.name == "imdb":
        reviews = _cached_imdb(source.path)
        if not args.quick:
            return reviews
        parts = [list(zip(p.texts, p.labels, strict=True)) for p in reviews.parts]
    else:
        rows = read_reviews(source.path)
        parts = _three_parts(rows, [text for text, _ in rows], source.path)
        if len({label for _, label in parts[0]}) < 2:
            raise UserError(f"{source.path} has too few texts of some label; give more")
    if args.quick:
        parts = [_some(rows, n) for rows, n in zip(parts, QUICK_PARTS, strict=True)]
    return _number_words(parts)


def read_reviews(path):
    """A CSV file with columns `text` and `label` -> list of (text, label), both str.

    UserError, with the row's number, where a cell is empty; also for one label only.
    """
    columns = ["text", "label"]
    frame = read_csv(path, columns, dtype=str, keep_default_na=False)
    for name in columns:
        frame[name] = frame[name].str.strip()
        empty = frame[name] == ""
        _refuse(path, frame[name], empty, "filled in; fill it, or delete the row")
    if frame["label"].nunique() < 2:
        raise UserError(
            f"{path} has one label only, '{frame['label'].iloc[0]}'; it takes two or more"
        )
    return list(zip(frame["text"], frame["label"], strict=True))


def _three_parts(rows, keys, path):
    """80/10/10 by the digest of the rows' keys, in the rows' order."""
    part = split_by_hash(keys)
    numbers = [part[key] for key in keys]
    parts = [
        [row for row, k in zip(rows, numbers, strict=True) if k == wanted]
        for wanted in range(3)
    ]
    if not all(parts):
        raise UserError(
            f"{path} has too few different examples to split into training, validation and "
            f"test: {len(part)}; give 10 or more"
        )
    return parts


def _some(rows, most):
    """`most` of the rows (text, label), in their order: those of smallest digest.

    Not the first rows: a file may hold one class after the other.
    """
    digest = [hashlib.sha256(text.encode()).digest() for text, _ in rows]
    chosen = sorted(range(len(rows)), key=digest.__getitem__)[:most]
    return [rows[i] for i in sorted(chosen)]


def _number_words(parts):
    """Three lists of (text, label) -> Reviews."""
    texts = [text for rows in parts for text, _ in rows]
    labels = [label for rows in parts for _, label in rows]
    numbers = defaultdict()
    numbers.default_factory = numbers.__len__  # a new word takes the next number
    ids, starts = array("i"), [0]
    for text in tqdm(texts, desc="splitting into words", leave=False, disable=None):
        ids.extend(map(numbers.__getitem__, split_words(text)))
        starts.append(len(ids))
    ids, starts, words = np.array(ids, np.int32), np.array(starts), list(numbers)
    counts = np.bincount(ids[: starts[len(parts[0])]], minlength=len(words))
    known = np.flatnonzero(counts).tolist()
    known.sort(key=lambda k: (-counts[k], words[k]))
    rank = np.full(len(words), len(known), np.int32)
    rank[known] = np.arange(len(known))
    sizes = [len(rows) for rows in parts]
    return _as_reviews(
        [words[k] for k in known], texts, labels, rank[ids], starts, sizes
    )


def _as_reviews(words, texts, labels, ids, starts, sizes):
    """Cut what belongs to all texts into parts of these sizes -> Reviews."""
    parts, first = [], 0
    for size in map(int, sizes):
        last = first + size
        inside = ids[starts[first] : starts[last]]
        begin = starts[first : last + 1] - starts[first]
        parts.append(TextPart(texts[first:last], labels[first:last], inside, begin))
        first = last
    return Reviews(words, sorted(set(labels)), parts)


def _cached_imdb(archive):
    """Reviews of the archive, from a cache where there is one.

    The cache lies beside the archive, or in the user's cache folder if that cannot be
    written to; its name tells all that it depends on.
    """
    with open(archive, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(f"{_WORD.pattern} {CACHE_FORMAT} {sys.version_info[:2]}".encode())
    name = f"{archive.name.split('.')[0]}-{digest.hexdigest()[:16]}.npz"
    places = [archive.parent / name, Path(pooch.os_cache("rnn-tutorials")) / name]
    for place in filter(os.path.exists, places):
        try:
            return _read_cache(place)
        except Exception:  # noqa: BLE001  (whatever is wrong with it)
            print(f"The cache {place} is damaged: made anew")
    print(f"Reading {archive.name} for the first time; later runs find it in a cache")
    reviews = _number_words(read_imdb(archive))
    content = _cache_content(reviews)
    for place in places:
        try:
            if os.path.exists(place.parent) and not place.parent.stat().st_mode & 0o222:
                continue  # declared read-only: it would not stop root
            write_atomically(place, content)
            break
        except (UserError, OSError):  # it cannot be written to
            continue
    return reviews


def _cache_content(reviews):
    """The bytes of a cache file: an .npz of numbers and of texts in UTF-8."""
    parts = reviews.parts
    lengths = [np.diff(part.starts) for part in parts]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        words=_pack(reviews.words),
        texts=_pack(text for part in parts for text in part.texts),
        labels=_pack(label for part in parts for label in part.labels),
        ids=np.concatenate([part.ids for part in parts]),
        starts=np.concatenate([[0], np.cumsum(np.concatenate(lengths))]),
        sizes=[len(part.texts) for part in parts],
    )
    return buffer.getbuffer()


def _read_cache(path):
    with np.load(path, allow_pickle=False) as found:
        words, texts, labels = (_unpack(found[k]) for k in ("words", "texts", "labels"))
        ids, starts, sizes = (found[k] for k in ("ids", "starts", "sizes"))
    if not len(texts) == len(labels) == len(starts) - 1 == sizes.sum():
        raise ValueError("its parts do not fit together")
    return _as_reviews(words, texts, labels, ids, starts, sizes)


def _pack(strings):
    return np.frombuffer(b"\0".join(s.encode() for s in strings), np.uint8)


def _unpack(packed):
    return [s.decode() for s in packed.tobytes().split(b"\0")]


def read_imdb(archive):
    """aclImdb_v1.tar.gz -> training, validation, test: three lists of (text, label).

    Nothing is unpacked: labelled reviews are read from the stream, whatever else is in
    it is passed over.  Sorted by file name, so that the classes alternate and the order
    in the archive does not matter.  UserError if it is damaged.
    """
    found, wrong = {}, None
    try:
        with gzip.open(archive) as stream:
            for place, content in _labelled_members(stream):
                found[place] = content.decode("utf-8").replace("\0", " ")
            while stream.read(1 << 20):  # at its very end gzip checks the whole
                pass
    except UnicodeDecodeError:
        wrong = "a review is not UTF-8 text"
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError):
        wrong = "it is damaged, or no .tar.gz file"
    except OSError as error:
        raise UserError(f"{archive} cannot be read: {error.strerror}") from None
    if not wrong and len({place[:2] for place in found}) < 4:
        wrong = "it lacks labelled reviews in aclImdb/train or aclImdb/test"
    if wrong:
        raise UserError(
            f"{archive} is not the archive of reviews ({wrong}); delete it, and the next "
            "run downloads it again"
        )
    halves = {"train": [], "test": []}
    for half, label, name in sorted(found, key=lambda place: (place[2], place[1])):
        halves[half].append((found[half, label, name], label))
    part = split_by_hash((text for text, _ in halves["train"]), (0.9, 0.1, 0.0))
    train = [row for row in halves["train"] if part[row[0]] == 0]
    val = [row for row in halves["train"] if part[row[0]] == 1]
    return [train, val, halves["test"]]


def _labelled_members(stream):
    """Yield ((half, label, file name), bytes) of the reviews in a tar stream."""
    about = {"desc": "reading files", "leave": False, "disable": None}
    with tarfile.open(fileobj=stream, mode="r|") as archive, tqdm(**about) as progress:
        while (member := archive.next()) is not None:
            archive.members = []  # tarfile would keep all of them
            progress.update()
            place = _REVIEW.fullmatch(member.name)
            if place and member.isreg() and member.size <= LONGEST_REVIEW:
                yield place.groups(), archive.extractfile(member).read()


def _files_of(source):
    """Paths of a real data set of several files, in the order of DATASETS."""
    return [source.path / Path(file).name for file in DATASETS[source.name].files]


def load_tagged(args, source):
    """Tagged sentences of `ewt`, the sample or the reader's file: training, val, test.

    Three lists of sentences, each a list of (word, tag).  ewt: its own parts.  Else
    80/10/10 by digest of the sentence's words, so that none stands in two parts.
    Raises UserError like read_tagged.
    """
    if source.name == "ewt":
        parts = [read_tagged(path) for path in _files_of(source)]
    else:
        rows = read_tagged(source.path)
        keys = [" ".join(word for word, _ in row) for row in rows]
        parts = _three_parts(rows, keys, source.path)
    return [capped(args, *pair) for pair in zip(parts, QUICK_PARTS, strict=True)]


def read_tagged(path):
    """Sentences of a CoNLL-U or word/tag file: each a list of (word, tag).

    CoNLL-U: ten columns between tabs, of which FORM and UPOS count; comments, multiword
    tokens (1-2) and empty nodes (1.1) are passed over.  Else the first and the last
    column, between tabs or spaces, count; -DOCSTART- lines are passed over.  An empty
    line ends a sentence.  UserError names a line that is neither.
    """
    sentences, sentence, shape = [], [], None
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            sentences.append(sentence)
            sentence = []
            continue
        cells = line.split("\t") if "\t" in line else line.split()
        this = (len(cells), "\t" in line)
        if line.startswith("-DOCSTART-") or _COMMENT.match(line):
            continue
        if line[0] == "#" and this != shape:
            continue
        shape = shape or this
        found = _tagged_word(cells, shape == CONLLU) if this == shape else None
        if found is None or len(cells) < 2:
            raise UserError(
                f"{path}, line {number}: '{line[:60]}' is neither a word and its tag nor a line "
                "of CoNLL-U; every line takes the columns of the first, with the same separator"
            )
        sentence += found
    sentences = [sentence for sentence in [*sentences, sentence] if sentence]
    if not sentences:
        raise UserError(f"{path} holds no tagged words")
    return sentences


_COMMENT = re.compile(r"#\s*(sent_id|text|newdoc|newpar|global\.columns)\b")
CONLLU = (10, True)  # columns, and whether there are tabs between them


def _tagged_word(cells, is_conllu):
    """Cells of a line -> [(word, tag)]; [] if it holds no word; None if it is wrong."""
    word, tag = (cells[1], cells[3]) if is_conllu else (cells[0], cells[-1])
    word, tag = word.strip(), tag.strip()
    if is_conllu and re.fullmatch(r"\d+[-.]\d+", cells[0]):
        return []
    if not word or not tag or is_conllu and (tag == "_" or not cells[0].isdecimal()):
        return None
    return [(word, tag)]


def load_pairs(args, source):
    """Pairs of `multi30k`, of the sample or of the reader's file: training, val, test.

    Three lists of (source, target), both str.  multi30k: its own parts.  The sample:
    its last tenth is test, the tenth before it validation, because its test pairs
    combine words that never met in training.  Else 80/10/10 by digest of the source
    side. Raises UserError like read_pairs.
    """
    if source.name == "multi30k":
        paths = _files_of(source)
        parts = [_read_two_files(*paths[k : k + 2]) for k in (0, 2, 4)]
    elif source.name == "sample":
        rows = read_pairs(source.path)
        a, b = round(0.8 * len(rows)), round(0.9 * len(rows))
        parts = [rows[:a], rows[a:b], rows[b:]]
    else:
        rows = read_pairs(source.path)
        parts = _three_parts(rows, [given for given, _ in rows], source.path)
    return [capped(args, *pair) for pair in zip(parts, QUICK_PARTS, strict=True)]


def read_pairs(path):
    """A file of two columns, a tab between them -> list of (source, target), both str.

    Empty lines are passed over.  UserError names a line with more or fewer columns, or
    with an empty side.
    """
    pairs = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 2 or not all(cells):
            what = "an empty side" if len(cells) == 2 else f"{len(cells)} column(s)"
            raise UserError(
                f"{path}, line {number} has {what}; write a source, one tab, and a target"
            )
        pairs.append(tuple(cells))
    return pairs


def _read_two_files(*paths):
    """Two .gz texts, line k of one belonging to line k of the other -> pairs."""
    sides = []
    for path in paths:
        try:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                sides.append([line.strip() for line in file])
        except (gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError):
            raise UserError(
                f"{path} is damaged; delete it, and the next run downloads it again"
            ) from None
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if len(sides[0]) != len(sides[1]) or not all(map(all, sides)):
        raise UserError(
            f"{paths[0]} and {paths[1].name} do not belong together line by line; delete "
            "both, and the next run downloads them again"
        )
    return list(zip(*sides, strict=True))


# ====================================================================================
# 3. Vocabulary, padding, masks, batching
# ====================================================================================

PAD, UNK, BOS, EOS = "<pad>", "<unk>", "<bos>", "<eos>"


class Vocabulary:
    """Tokens and their ids, in both directions.  An id is a token's place in the list `tokens`."""

    def __init__(self, tokens):
        self.tokens = list(tokens)
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self.ids) != len(self.tokens):
            raise UserError("a vocabulary cannot hold the same token twice")

    @classmethod
    def build(cls, sequences, specials=(PAD, UNK), min_freq=1, max_size=None):
        """Count tokens in `sequences` (the training split only!) and number them.

        Specials first, then by falling count, equal counts alphabetically: the order of
        torchtext's build_vocab_from_iterator.  `max_size` counts the specials too, and
        leaves out none of them.
        """
        counts = Counter(token for sequence in sequences for token in sequence)
        for token in specials:
            counts.pop(token, None)
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        tokens = [*specials, *(token for token, count in ordered if count >= min_freq)]
        return cls(tokens[: max(max_size, len(specials))] if max_size else tokens)

    def __len__(self):
        return len(self.tokens)

    def __iter__(self):
        return iter(self.tokens)

    def __contains__(self, token):
        return token in self.ids

    def __getitem__(self, token):
        """The id of a token; of an unknown one, the id of <unk>."""
        found = self.ids.get(token, self.ids.get(UNK))
        if found is None:
            raise UserError(
                f"'{token}' is not in the vocabulary, which has no {UNK} either"
            )
        return found

    def encode(self, tokens):
        return [self[token] for token in tokens]

    def decode(self, ids):
        return [self.tokens[i] for i in ids]

    def save(self, path):
        """Write the tokens as a JSON list."""
        write_atomically(
            path, json.dumps(self.tokens, ensure_ascii=False, indent=0).encode()
        )

    @classmethod
    def load(cls, path):
        """Read what `save` wrote; UserError if it is anything else."""
        try:
            tokens = json.loads(read_text(path))
        except (ValueError, RecursionError):
            tokens = None
        if not isinstance(tokens, list) or not all(
            isinstance(token, str) for token in tokens
        ):
            raise UserError(
                f"{path} is not a vocabulary: it should be a JSON list of strings"
            )
        return cls(tokens)


def pad(sequences, value=0):
    """Lists of ids of unequal length -> ids (N, T) filled up with `value`, lengths (N,)."""
    lengths = torch.tensor([len(sequence) for sequence in sequences], dtype=torch.long)
    rows = [torch.as_tensor(sequence, dtype=torch.long) for sequence in sequences]
    return nn.utils.rnn.pad_sequence(
        rows, batch_first=True, padding_value=value
    ), lengths


def length_mask(lengths, width, device=None):
    """(B,) lengths -> (B, width) booleans: True where there is a real item, False on padding."""
    return torch.arange(width, device=device) < lengths.to(device).unsqueeze(1)


def bucketed_order(lengths, batch_size, shuffle, pool=50):
    """Split range(N) into batches of similar length: a list of index tensors.

    Shuffled: cut a random order into pools of `pool` batches, sort each pool by length,
    cut it into batches, shuffle the batches.  So an epoch is random, yet little of a
    batch is padding. Not shuffled: sorted by length throughout, the same at every call.
    """
    if not shuffle:
        return list(torch.argsort(lengths, stable=True).split(batch_size))
    order = torch.randperm(len(lengths))
    batches = []
    for part in order.split(batch_size * pool):
        batches.extend(
            part[torch.argsort(lengths[part], stable=True)].split(batch_size)
        )
    return [batches[i] for i in torch.randperm(len(batches)).tolist()]


class Batches:
    """Batches out of tensors that were made once.  Each pass over it is one epoch.

    data: name -> (N, ...) tensor.  Where `x` comes with `x_length`, a batch's x is cut
    to its longest row, and `bucket="x"` puts rows of similar length together.  Lengths
    stay on the CPU, where packing wants them; everything else lies on `device` from the
    start.  A batch also holds `index`, the rows it was made of.
    """

    def __init__(self, data, batch_size, device="cpu", shuffle=False, bucket=None):
        self.lengths = {k: v for k, v in data.items() if k.endswith("_length")}
        self.data = {k: v.to(device) for k, v in data.items() if k not in self.lengths}
        self.n = len(next(iter(data.values())))
        self.batch_size, self.device, self.shuffle, self.bucket = (
            batch_size,
            device,
            shuffle,
            bucket,
        )

    def __len__(self):
        return math.ceil(self.n / self.batch_size)

    def __iter__(self):
        if self.bucket:
            order = bucketed_order(
                self.lengths[f"{self.bucket}_length"], self.batch_size, self.shuffle
            )
        else:
            rows = torch.randperm(self.n) if self.shuffle else torch.arange(self.n)
            order = rows.split(self.batch_size)
        return self.draw(order)

    def draw(self, order):
        """The batches of each of `order`, lists of rows; one at a time."""
        for number, index in enumerate(order, start=1):
            # Answers that are kept lie in gaps that the next batch then does not fit into.
            if number % 64 == 0 and not torch.is_grad_enabled():
                release_memory()
            yield self.take(index)

    def take(self, index):
        """The batch of the rows `index` (B,): name -> tensor (B, ...)."""
        batch = {name: lengths[index] for name, lengths in self.lengths.items()}
        there = index.to(self.device)
        for name, tensor in self.data.items():
            if f"{name}_length" in batch:
                tensor = tensor[:, : int(batch[f"{name}_length"].max())]
            # One gather a batch; no loop over tokens.
            batch[name] = tensor.index_select(0, there)
        batch["index"] = index
        return batch


def check_texts(texts):
    """UserError unless each text of --predict holds a word and is Unicode."""
    for text in texts:
        worded = re.search(r"\w", " ".join(split_words(text)))
        if not worded or any("\ud800" <= c <= "\udfff" for c in text):
            raise UserError("--predict takes texts of one word or more, in UTF-8")


def review_vocabulary(reviews, max_vocab):
    """Vocabulary: PAD, UNK, the most frequent words of training, max_vocab in all."""
    return Vocabulary([PAD, UNK, *reviews.words[: max(max_vocab - 2, 0)]])


def encode_reviews(part, size, max_length, keep="both"):
    """A TextPart -> {"text": (N, T) int64 filled up with 0, "text_length": (N,)}.

    size: that of a review_vocabulary; rarer words become UNK, 1.  keep: what stays of a
    text longer than max_length: its "start", its "end", or half of "both".  A text
    without words becomes one UNK, so no length is 0.
    """
    head = {"both": (max_length + 1) // 2, "start": max_length, "end": 0}[keep]
    lengths = np.diff(part.starts)  # (N,)
    place = np.arange(len(part.ids)) - np.repeat(part.starts[:-1], lengths)  # (total,)
    rest = np.repeat(lengths, lengths) - place  # words from here to the text's end
    kept = part.ids[(place < head) | (rest <= max_length - head)]
    lengths = torch.from_numpy(np.minimum(lengths, max_length))
    wide = length_mask(lengths, max(1, int(lengths.max()) if len(lengths) else 1))
    text = torch.zeros(wide.shape, dtype=torch.long)  # (N, T)
    text[wide] = torch.from_numpy(np.where(kept < size - 2, kept + 2, 1)).long()
    text[lengths == 0, 0] = 1
    return {"text": text, "text_length": lengths.clamp(min=1)}


def encode_texts(texts, vocabulary, max_length, keep="both"):
    """New texts, N strings, as encode_reviews encodes those of a TextPart."""
    words = [split_words(text) for text in texts]
    ids = [vocabulary[word] - 2 for line in words for word in line]
    starts = np.cumsum([0, *map(len, words)])
    part = TextPart(texts, [], np.array(ids, np.int32), starts)
    return encode_reviews(part, len(vocabulary), max_length, keep)


_PAIR_WORD = re.compile(r"\w+'(?=\w)|\w+|[^\w\s]")
_TIGHT = (
    (re.compile(r"(?<=\w') (?=\w)"), ""),  # l' homme
    (re.compile(r" (?=[.,!?;:)\]%])|(?<=[(\[]) "), ""),
    (re.compile(r"(?<=\w) ([-/]) (?=\w)"), r"\1"),  # arrière - plan
)


def split_pair(text):
    """Words in lower case, of a sentence to translate; "l'homme" is two, l' and homme."""
    return _PAIR_WORD.findall(text.lower().replace("’", "'"))


def join_words(words):
    """Words of `split_pair` back to plain text, the first letter a capital."""
    text = " ".join(words)
    for pattern, tight in _TIGHT:
        text = pattern.sub(tight, text)
    return text[:1].upper() + text[1:]


def pair_vocabularies(train, min_freq=2):
    """[of sources, of targets]: two Vocabulary of the training pairs alone.

    Each begins with PAD, UNK, BOS and EOS: 0, 1, 2, 3.
    """
    return [
        Vocabulary.build(
            [split_pair(text) for text in side], (PAD, UNK, BOS, EOS), min_freq
        )
        for side in zip(*train, strict=True)
    ]


def encode_pairs(pairs, vocabularies, max_length):
    """(source, target) texts -> tensors for `Batches(..., bucket="source")`.

    source (N, Ts), source_length (N,); target (N, Tt), target_length (N,), all filled
    up with 0.  Of each side the first max_length words stay; after those of the target
    comes EOS, which its length counts.  A source without words becomes one UNK, so no
    length is 0.
    """
    made = {}
    for k, side in enumerate(("source", "target")):
        rows = []
        for pair in pairs:
            words = split_pair(pair[k])[:max_length]
            words = [*words, EOS] if side == "target" else words or [UNK]
            rows.append(vocabularies[k].encode(words))
        made[side], made[f"{side}_length"] = pad(rows)
    return made


# ====================================================================================
# 4. Training, evaluation, checkpoints
# ====================================================================================
#
# A lesson gives `fit` and `evaluate` its own function
#
#     step(model, batch) -> (sums, count)
#
# sums["loss"] is the loss summed over the batch's real items (a scalar tensor, what
# training lowers), other entries are further sums, such as how many answers were right;
# `count` is how many items they sum over.  Averages are taken once, over all items, and
# so are never means of means.

OPTIMIZERS = {
    # Decoupled weight decay (Loshchilov and Hutter, 2019); without any, plain Adam.
    "adam": lambda params, args: torch.optim.AdamW(
        params, lr=args.lr, weight_decay=args.weight_decay
    ),
    "sgd": lambda params, args: torch.optim.SGD(
        params, lr=args.lr, weight_decay=args.weight_decay, momentum=0.9
    ),
}

# Flags that change neither the model, nor the data, nor the course of training.
FREE_FLAGS = {
    *(
        "device",
        "data_dir",
        "out_dir",
        "no_plots",
        "resume",
        "save_model",
        "path",
        "eval_only",
    ),
    *("predict", "forecast", "prompt", "temperature", "top_k", "top_p", "beam_size"),
}


def autocast(args):
    """`--precision bf16`: matrix products in bfloat16: half the bytes."""
    return torch.autocast(
        torch.device(args.device).type, torch.bfloat16, enabled=args.precision == "bf16"
    )


def put_by(value):
    """A scalar of one step, kept for the epoch's end: as a number, or a tensor on a GPU.

    On a CPU, a small tensor that stays lies where large ones have been and will be: they
    no longer fit there, take new memory, and so the process grows at every step.  (From
    a GPU a number would have to be waited for.)
    """
    value = torch.as_tensor(value).detach()
    return value.item() if value.device.type == "cpu" else value


def add_up(values):
    """Sum of what `put_by` returned, in float64."""
    if isinstance(values[0], torch.Tensor):
        return torch.stack(values).cpu().double().sum().item()
    return math.fsum(values)


def largest(values):
    """The largest of what `put_by` returned: on a GPU, waited for once."""
    if isinstance(values[0], torch.Tensor):
        return torch.stack(values).max().item()
    return max(values)


def averages(totals, count):
    """List of {name: scalar} by `put_by` and the number of items -> {name: mean over the items}."""
    if not totals:
        return {}
    names = list(totals[0])
    sums = [add_up([part[name] for part in totals]) for name in names]
    *sums, count = sum_over_ranks([*sums, int(count)])
    return {k: v / max(count, 1) for k, v in zip(names, sums, strict=True)}


def evaluate(model, step, batches, args):
    """Mean of every sum that `step` returns, over all real items of `batches`."""
    was_training = model.training
    model.eval()
    totals, count = [], 0
    with torch.no_grad(), autocast(args):
        for batch in batches:
            sums, items = step_own_rows(model, step, batch)
            totals.append({k: put_by(v) for k, v in sums.items()})
            count += items
    model.train(was_training)
    return averages(totals, count)


def collect(model, forward, batches, args):
    """forward(model, batch) of every row, (N, ...) on the CPU, in the order of the data."""
    was_training = model.training
    model.eval()
    with torch.no_grad(), autocast(args):
        parts = [(batch["index"], forward(model, batch).cpu()) for batch in batches]
    model.train(was_training)
    order = torch.cat([index for index, _ in parts]).argsort()
    return torch.cat([output for _, output in parts])[order]


def accumulate_gradient(model, step, group, args):
    """Gradient of the mean loss over a group of batches; returns (list of sums, item count)."""
    totals, count, simple = [], 0, len(group) == 1 and not in_ranks()
    for batch in group:
        with autocast(args):
            sums, items = step_own_rows(model, step, batch)
        # One batch: divide the loss.  Several: only the group's count is right.
        (sums["loss"] / items if simple else sums["loss"]).backward()
        totals.append({k: put_by(v) for k, v in sums.items()})
        count += items
    if not simple:
        # Summed over ranks the gradient is ranks() times the mean that backward() left.
        items = sum_over_ranks([count])[0] / ranks()
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= items
    return totals, count


def in_groups(iterable, size):
    """Lists of `size` neighbours; the last may be shorter."""
    group = []
    for item in iterable:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def train_epoch(model, step, train, optimizer, scheduler, args, title=""):
    """One pass over `train`; returns {"loss": ..., "grad_norm": ..., ...}."""
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    clip = args.clip or math.inf  # infinity: measure the norm, clip nothing
    totals, norms, count = [], [], 0
    hide = True if rank() > 0 else None  # None: shown on a terminal alone
    progress = tqdm(train, desc=title, leave=False, disable=hide, total=len(train))
    for group in in_groups(draw_by_rank(progress), args.accumulate):
        optimizer.zero_grad(set_to_none=True)
        sums, items = accumulate_gradient(model, step, group, args)
        norms.append(put_by(nn.utils.clip_grad_norm_(parameters, clip)))
        optimizer.step()
        scheduler.step()
        totals += sums
        count += items
    return {
        **averages(totals, count),
        "grad_norm": add_up(norms) / len(norms),
        "max_grad_norm": largest(norms),
    }


def make_scheduler(optimizer, steps, args):
    """One cycle: warm up to --lr, then down to nothing (Smith, 2018)."""
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        args.lr,
        total_steps=max(steps, 5),  # at 4, PyTorch divides by zero
        pct_start=0.25,
        cycle_momentum=False,
    )


def is_better(record, best, monitor):
    """Whether this epoch's `monitor` beats the best so far: losses low, all else high."""
    if best is None:
        return True
    value, mark = record[monitor], best[monitor]
    return value < mark if monitor.endswith("loss") else value > mark


def fit(model, step, train, val, args, about=None, monitor="val_loss"):
    """Train, yielding one record (a dict) an epoch; at the end the best weights are restored.

    train, val: Batches, or anything with len() that can be iterated anew every epoch.
    about: what a checkpoint must know beside weights (see `model_card`).  None: a side
    experiment, which prints nothing and leaves no file.
    Raises Diverged when the loss is no longer a number, UserError when --resume does
    not fit.  Of several ranks all but the first end here, and the first is then alone.
    """
    optimizer = OPTIMIZERS[args.optimizer](model.parameters(), args)
    steps = args.epochs * math.ceil(len(train) / args.accumulate)
    both = optimizer, make_scheduler(optimizer, steps, args)
    run = {"records": [], "best": None, "best_weights": copy_weights(model)}
    state_file = Path(args.out_dir) / "last.pt"
    if about and args.resume:
        load_training_state(state_file, model, *both, run, args, about)
        state = random_state()
        yield from ({**record, "replayed": True} for record in run["records"])
        set_random_state(state)
    trained = share_gradients(model)
    while not training_is_over(run, args):
        number = len(run["records"]) + 1
        record = one_epoch(trained, step, train, val, *both, args, number)
        run["records"].append(record)
        if is_better(record, run["best"], monitor):
            run["best"], run["best_weights"] = record, copy_weights(model)
        state = random_state()
        if about:
            print(progress_line(record, args.epochs))
            write_progress(state_file, model, *both, run, state, args, about)
        yield record
        # Whatever the lesson drew in between, training goes on the same.
        set_random_state(state)
    model.load_state_dict(run["best_weights"])
    if about:
        print(f"Best {monitor} in epoch {run['best']['epoch']}: its weights are kept")
    leave_ranks()


def training_is_over(run, args):
    """All epochs done, or --patience epochs without a better validation score."""
    done = len(run["records"])
    waited = done - (run["best"]["epoch"] if run["best"] else 0)
    return done >= args.epochs or 0 < args.patience <= waited


def one_epoch(model, step, train, val, optimizer, scheduler, args, number):
    """Train and validate once; returns the epoch's record."""
    start = time.perf_counter()
    title = f"epoch {number}/{args.epochs}"
    averaged = train_epoch(model, step, train, optimizer, scheduler, args, title)
    release_memory()  # batches of many lengths leave gaps, and gaps add up
    loop_seconds = time.perf_counter() - start
    _check_finite("training", averaged["loss"], number)
    scores = evaluate(model, step, val, args)
    # The training loss is taken before each step, so only this one tells of the last step.
    release_memory()
    _check_finite("validation", scores["loss"], number)
    return {
        "epoch": number,
        **averaged,
        **{f"val_{name}": value for name, value in scores.items()},
        "loop_seconds": loop_seconds,
        "seconds": time.perf_counter() - start,
    }


def _check_finite(kind, loss, number):
    if not math.isfinite(loss):
        raise Diverged(
            f"the {kind} loss is no longer a number in epoch {number}; "
            "lower --lr, or clip the gradient harder (--clip 0.3; the default is 1)"
        )


def progress_line(record, epochs):
    """One line an epoch: its number, then every score, training beside validation."""
    hidden = {"epoch", "loop_seconds", "seconds", "max_grad_norm"}
    scores = "  ".join(f"{k} {v:.4f}" for k, v in record.items() if k not in hidden)
    return f"epoch {record['epoch']:>2}/{epochs}  {scores}  {record['seconds']:.1f}s"


def training_summary(records, units, unit):
    """Fields of metrics.json about training.  `units`: how many `unit` one epoch goes through."""
    loop = sum(record["loop_seconds"] for record in records)
    return {
        "epochs_run": len(records),
        "train_seconds": round(sum(record["seconds"] for record in records), 2),
        "units_per_second": round(units * len(records) / loop, 1) if loop else 0.0,
        "unit": unit,
    }


def copy_weights(model):
    """A copy of the state_dict that later training does not change."""
    return {
        name: tensor.detach().clone() for name, tensor in model.state_dict().items()
    }


def model_card(args, source, config, **more):
    """What travels with weights: lesson, data set, how to build the model, and more."""
    return {"lesson": args.lesson, "dataset": source.name, "config": config, **more}


def write_atomically(path, content):
    """Write bytes so that `path` always holds either the old content or the new, never a part."""
    if rank() > 0:
        return
    target = Path(path).resolve()  # a link stays one: what it points to is replaced
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)  # it was private; the result need not be
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(
            f"{path} could not be written: {error.strerror or error}"
        ) from None
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def _current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _current_umask()


def save_checkpoint(path, content):
    """torch.save, atomically, with a `digest` of the content; by rank 0 alone."""
    if rank() > 0:
        return
    buffer = io.BytesIO()
    torch.save({**content, "digest": content_digest(content)}, buffer)
    write_atomically(path, buffer.getbuffer())


def content_digest(value, digest=0):
    """CRC-32 of tensors and plain data, nested as they may be.

    A file with one wrong byte among its weights still loads, as does one edited by hand;
    what comes of it may be nonsense, or an error far from here.
    """
    if isinstance(value, dict):
        value = [part for item in value.items() for part in item if item[0] != "digest"]
    if isinstance(value, list | tuple):
        for part in value:
            digest = content_digest(part, digest)
        return zlib.crc32(f"end of {len(value)}".encode(), digest)
    if isinstance(value, torch.Tensor):
        about = f"{value.dtype} {tuple(value.shape)}"
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return zlib.crc32(raw, zlib.crc32(about.encode(), digest))
    return zlib.crc32(repr(value).encode(errors="replace"), digest)


def check_digest(path, content):
    """UserError if a checkpoint is not what `save_checkpoint` wrote."""
    try:
        whole = content.get("digest") == content_digest(content)
    except UNFITTING:  # a tensor whose bytes cannot be had
        whole = False
    if not whole:
        raise UserError(
            f"{path} does not fit this version of {content['lesson']}: it was damaged, "
            "edited, or written by an older one; train again"
        )


def load_checkpoint(path, lesson):
    """Read what `save_checkpoint` wrote for this lesson, running no code that the file holds."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"there is no checkpoint {path}; train with --save-model --path {path}"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # one sentence is enough
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except Exception:  # noqa: BLE001  torch raises whatever a damaged or hostile file provokes
        raise UserError(
            f"{path} is not a checkpoint of these lessons, or it is damaged; train again"
        ) from None
    if (
        not isinstance(content, dict)
        or not {"lesson", "model", "config"} <= content.keys()
    ):
        raise UserError(f"{path} is not a checkpoint of these lessons")
    if content["lesson"] != lesson:
        raise UserError(f"{path} belongs to {content['lesson']}, not to {lesson}")
    return content


def load_card(args, lists=None, **same):
    """The checkpoint of --path; UserError unless it was trained on what `same` names.

    lists: what the lesson needs as lists of text, such as the vocabulary: name -> the
    weight that has one row for each entry, or None.
    """
    card, lists = load_checkpoint(args.path, args.lesson), lists or {}
    for name in lists:
        found = card.get(name)
        if not isinstance(found, list) or not all(isinstance(t, str) for t in found):
            raise UserError(f"{args.path} has no {name} that can be used; train again")
    for name, value in same.items():
        if card.get(name) != value:
            raise UserError(
                f"{args.path} was trained on {name} '{card.get(name)}', not on '{value}'; "
                "give the data and flags of that training"
            )
    for name, weight in lists.items():
        if weight and len(card[name]) != _rows(card["model"], weight):
            raise UserError(
                f"{args.path} does not fit this version of {args.lesson}: its {name} "
                "and its weights differ in size; train again"
            )
    check_digest(args.path, card)
    return card


def _rows(weights, name):
    """How many rows the weight `name` has; None if there is no such weight."""
    weight = weights.get(name) if isinstance(weights, dict) else None
    return len(weight) if isinstance(weight, torch.Tensor) and weight.dim() else None


# What PyTorch raises when weights, sizes or states are not those that it expects.
UNFITTING = (
    *(RuntimeError, TypeError, KeyError, ValueError, AttributeError),
    *(AssertionError, IndexError, ArithmeticError),
)
LARGEST_WEIGHT = 1e10  # sums of products of two stay far below what float32 can hold


def load_model(build, content, path):
    """build(**config) with the weights of `content`; UserError if they do not fit."""
    try:
        weights, config = content["model"], content["config"]
        _check_sizes(weights, config)
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            # Shapes only, nothing is copied: a wrong size must not fill the memory.
            build(**config).load_state_dict(weights)
        model = build(**config)
        model.load_state_dict(weights)
    except UNFITTING:
        raise UserError(
            f"{path} does not fit this version of {content['lesson']}"
        ) from None
    check_weights(model, path)
    return model


def _check_sizes(weights, config):
    """ValueError if a model of these weights cannot have the sizes in `config`."""
    most = max(len(weights), *(max(w.shape, default=0) for w in weights.values()))
    if any(isinstance(size, int) and size > most for size in config.values()):
        raise ValueError("a size is larger than all weights")


def check_weights(model, path):
    """UserError if a weight that came from `path` is no number, or far too large."""
    for name, weight in model.state_dict().items():
        if not bool((weight.abs() <= LARGEST_WEIGHT).all()):  # False for NaN too
            raise UserError(
                f"{path}: weights in {name} are no numbers, or too large; train again"
            )


def write_progress(path, model, optimizer, scheduler, run, state, args, about):
    """Training state to <out-dir>/last.pt; with --save-model also the best model to --path."""
    save_checkpoint(
        path,
        {
            **best_model(run, about),
            "current": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": _plain_state(scheduler),
            "records": run["records"],
            "random": state,
            "flags": shaping_flags(args),
        },
    )
    _KEPT["path"] = path
    if args.save_model and run["best"] is run["records"][-1]:
        save_checkpoint(args.path, best_model(run, about))


def _plain_state(scheduler):
    """Its state without functions (PyTorch 2.3 has one), which no safe load takes back."""
    return {k: v for k, v in scheduler.state_dict().items() if not callable(v)}


def best_model(run, about):
    """What --save-model writes."""
    return {**about, "model": run["best_weights"], "best": run["best"]}


def shaping_flags(args):
    """The flags that a resumed run must share with the interrupted one, as plain data."""
    return {k: v for k, v in vars(args).items() if k not in FREE_FLAGS}


def load_training_state(path, model, optimizer, scheduler, run, args, about):
    """Put everything back to where `write_progress` left it, for --resume."""
    if not Path(path).is_file():
        raise UserError(
            f"there is nothing to resume: {path} does not exist; drop --resume"
        )
    state = load_checkpoint(path, args.lesson)
    kinds = {"current": dict, "optimizer": dict, "random": dict, "flags": dict}
    kinds.update(records=list, best=dict)
    if not all(isinstance(state.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"{path} holds a model but no training state; drop --resume")
    _check_same_run(path, state, args, about)
    check_digest(path, state)
    try:
        model.load_state_dict(state["model"])  # would the best weights fit at the end?
        model.load_state_dict(state["current"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        set_random_state(state["random"])
    except UNFITTING:
        raise UserError(
            f"{path} does not fit this version of {args.lesson}; drop --resume"
        ) from None
    run.update(
        records=state["records"], best=state["best"], best_weights=state["model"]
    )
    if args.save_model:  # the interrupted run may have been without it
        save_checkpoint(args.path, best_model(run, about))
    _KEPT["path"] = path
    print(f"Resuming after epoch {len(state['records'])} from {path}")


def _check_same_run(path, state, args, about):
    """UserError if the interrupted run had other flags, data or sizes.

    --epochs too: it shapes the cycle of the learning rate.
    """
    before, now = state["flags"], shaping_flags(args)
    for flag in sorted(before.keys() | now.keys()):
        if before.get(flag) != now.get(flag):
            raise UserError(
                f"--resume needs the flags of the interrupted run: --{flag.replace('_', '-')} "
                f"was {before.get(flag)} and is now {now.get(flag)}; drop --resume to start anew"
            )
    for name, value in about.items():
        if state.get(name) != value:
            raise UserError(
                f"--resume: {path} was made with another {name}; drop --resume"
            )


# ====================================================================================
# 5. Results and pictures
# ====================================================================================


def classification_scores(scores, truth):
    """Accuracy, macro-F1 (F1 of each class, averaged: rare classes count alike), top-3.

    scores (N, C), truth (N,) of class numbers.  Top-3 only where there are more
    classes.
    """
    top = scores.topk(min(3, scores.shape[1])).indices.cpu()  # (N, 3), likeliest first
    truth = truth.cpu()
    found = {
        "accuracy": (top[:, 0] == truth).double().mean().item(),
        "macro_f1": f1_score(truth, top[:, 0], average="macro", zero_division=0),
    }
    if scores.shape[1] > 3:
        found["top3_accuracy"] = (
            (top == truth.unsqueeze(1)).any(1).double().mean().item()
        )
    return found


def judge(model, forward, batches, args):
    """`classification_scores` of forward(model, batch), (B, C), against batch["label"]."""
    scores = collect(model, forward, batches, args)  # (N, C), in the order of the data
    return classification_scores(scores, batches.data["label"])


def text_baselines(vectorizer, train, asked, labels):
    """What a sceptic asks of a text classifier: the commonest class; a linear model.

    vectorizer: turns texts into counts without order (TfidfVectorizer and the like),
    for a logistic regression.  train, asked: lists of (text, label); fitted on train
    only. Returns {"majority": scores, "linear": scores} of `asked`; where there is
    nothing to learn from (one class, no word that comes again) the two are alike.
    """
    release_memory()
    texts, classes = zip(*train, strict=True)
    numbers = {label: i for i, label in enumerate(labels)}
    truth = torch.tensor([numbers[label] for _, label in asked])  # (N,)
    common = Counter(classes)
    shares = torch.tensor([common[label] / len(texts) for label in labels])  # (C,)
    majority = classification_scores(shares.expand(len(asked), -1), truth)
    linear = make_pipeline(vectorizer, LogisticRegression(C=10, max_iter=300))
    try:
        linear.fit(texts, classes)
    except ValueError:
        return {"majority": majority, "linear": majority}
    scores = torch.zeros(len(asked), len(labels), dtype=torch.double)  # (N, C)
    columns = [numbers[label] for label in linear.classes_]
    scores[:, columns] = torch.from_numpy(linear.predict_proba([t for t, _ in asked]))
    return {"majority": majority, "linear": classification_scores(scores, truth)}


def review_baselines(train, asked, labels):
    """`text_baselines` of counts of words, and of words and pairs of neighbours (TF-IDF).

    Returns {"majority": scores, "tfidf_unigram": scores, "tfidf_bigram": scores}.
    """
    options = {"tokenizer": split_words, "token_pattern": None, "lowercase": False}
    # A pair that stands in one or two reviews of thousands tells little, and costs time.
    options |= {"sublinear_tf": True, "min_df": 3 if len(train) > 2000 else 1}
    found = {}
    for name, longest in (("tfidf_unigram", 1), ("tfidf_bigram", 2)):
        counts = TfidfVectorizer(ngram_range=(1, longest), **options)
        rows = text_baselines(counts, train, asked, labels)
        found = {"majority": rows["majority"], **found, name: rows["linear"]}
    return found


class KneserNey:
    """N-grams with interpolated, modified Kneser-Ney smoothing (Chen and Goodman, 1999).

    p(w | h) = (max(c(hw) - D, 0) + lambda(h) p(w | h without its oldest token)) / c(h)

    D, at least 0.1, taken from counts seen 1, 2 and 3 or more times, goes to what was never seen;
    lambda(h) is all that was taken after h.  Below the highest order, c counts not how
    often hw occurs but after how many different tokens ("Francisco" is frequent, but
    only after "San").  Tokens are written as one character each, so that an n-gram is a
    slice of a string.
    """

    def __init__(self, ids, order, tokens):
        text, self.tokens = text_of_ids(ids), tokens
        counts = [Counter(text[i : i + order] for i in range(len(text) - order + 1))]
        for _ in range(order - 1):
            counts.append(Counter(gram[1:] for gram in counts[-1]))
        self.levels = [self.prepare(level) for level in reversed(counts)]

    @staticmethod
    def prepare(counts):
        """(counts of n-grams, D for each count 0 ... 3+, c(h), lambda(h))."""
        seen = Counter(counts.values())
        y = seen[1] / (seen[1] + 2 * seen[2]) if seen[1] else 0.5
        cut = [0.0] + [
            max(0.1, j - (j + 1) * y * seen[j + 1] / seen[j]) if seen[j] else j / 2
            for j in (1, 2, 3)
        ]
        total, taken = Counter(), Counter()
        for gram, count in counts.items():
            total[gram[:-1]] += count
            taken[gram[:-1]] += cut[min(count, 3)]
        return counts, cut, total, taken

    def probability(self, history, token):
        """p(token | history): two strings, `token` of one character."""
        p = 1 / self.tokens  # below the shortest n-gram: every token alike
        for k, (counts, cut, total, taken) in enumerate(self.levels):
            h = history[len(history) - k :]
            if k > len(history) or not total[h]:
                break
            c = counts[h + token]
            p = (c - cut[min(c, 3)] + taken[h] * p) / total[h]
        return p

    def score(self, ids):
        """Mean nats of ids[1:], each after all that precede it."""
        text, reach = text_of_ids(ids), len(self.levels) - 1
        spots = range(1, len(text))
        chances = (
            self.probability(text[max(0, i - reach) : i], text[i]) for i in spots
        )
        return -math.fsum(map(math.log, chances)) / len(spots)


def text_of_ids(ids):
    return "".join(map(chr, ids.tolist()))


def series_baselines(values, n1, start, end, length, horizon):
    """Lesson 03's baselines, 1 ... h steps ahead, of values[start:end]: name -> (M, h).

    values (n,).  The origins are start - 1 ... end - 2.  The season, and the width (up
    to `length`) of the moving average, are chosen on the training span values[:n1].
    """
    ahead = np.arange(1, horizon + 1)
    origins = np.arange(start - 1, end - 1)[:, None] + 0 * ahead  # (M, h)
    means = {
        w: np.convolve(values, np.ones(w) / w, "valid")
        for w in range(min(2, length), length + 1)
    }  # means[w][i]: of values[i : i + w]
    errors = {
        w: np.mean((mean[length - w : n1 - w] - values[length:n1]) ** 2)
        for w, mean in means.items()
    }
    width = min(errors, key=errors.get)
    made = {"persistence": values[origins]}
    if season := find_season(values[:n1]):
        seasons = 1 + (ahead - 1) // season  # so many that the value is known
        made["seasonal naive"] = values[origins + ahead - season * seasons]
    made["moving average"] = means[width][origins - width + 1]
    return made


def autoregression(values, n1, n2, length, horizon):
    """The linear forecast: y_(o+k) = a_k + sum_i b_ki y_(o-i), 1 ... h steps ahead.

    Fitted on the targets length + 1 ... n1 - 1, those of a network that reads `length`
    values and their changes.  How many values it reads, its order, is chosen on
    validation for each step.  Returns forecasts (n - n1, h) of values[n1:], and the
    order one step ahead.
    """
    whole = _windows(values[:n1], length + 1 + horizon)[:, 1:]  # (N, length + h)
    orders = np.unique(np.geomspace(1, length, 24).round().astype(int))
    truth = truth_ahead(values, n1, n2, horizon)  # (M, h)
    made = []
    for p in orders:
        fit = LinearRegression().fit(whole[:, length - p : length], whole[:, length:])
        known = _windows(values[n1 - p : -1], p)  # (n - n1, p)
        made.append(fit.predict(known).reshape(-1, horizon))
    made = np.stack(made)  # (orders, n - n1, h)
    best = np.nanmean((made[:, : n2 - n1] - truth) ** 2, axis=1).argmin(0)  # (h,)
    return made[best, :, np.arange(horizon)].T, int(orders[best[0]])


def truth_ahead(values, start, end, horizon):
    """What happened 1 ... h steps after each origin: (M, h), NaN where that is past `end`.

    The origins are start - 1 ... end - 2, M of them.
    """
    padded = np.concatenate([values[start:end], np.full(horizon - 1, np.nan)])
    return _windows(padded, horizon)


_windows = np.lib.stride_tricks.sliding_window_view


def forecast_scores(error, naive_mae):
    """Of errors (M,): MSE, RMSE and MAE in the series' units, and MASE = MAE / naive_mae.

    naive_mae: persistence's mean absolute error, one step ahead, on the training span
    (Hyndman and Koehler, 2006).
    """
    mse, mae = float(np.mean(error**2)), float(np.abs(error).mean())
    return {"MSE": mse, "RMSE": mse**0.5, "MAE": mae, "MASE": mae / naive_mae}


def bleu_scores(answers, references):
    """BLEU of N answers, one reference each, by sacrebleu (Post, 2018), 0 to 100.

    answers, references: lists of str, plain text as one would write it (join tokens
    without spaces before full stops, or the 13a figure is not comparable with others').
    Both figures split words as mteval 13a does: `bleu` after lower-casing, `bleu_13a`
    with case.  `signature` and `signature_13a` are sacrebleu's own: quote them.  Raises
    UserError if there are no answers, or not as many as references.
    """
    if not answers or len(answers) != len(references):
        raise UserError(
            f"BLEU takes as many answers as references, and at least one: there are "
            f"{len(answers)} and {len(references)}"
        )
    lower, cased = BLEU(lowercase=True, force=True), BLEU(force=True)
    found = {
        "bleu": lower.corpus_score(answers, [references]).score,
        "bleu_13a": cased.corpus_score(answers, [references]).score,
    }
    signatures = str(lower.get_signature()), str(cased.get_signature())
    return found | dict(zip(("signature", "signature_13a"), signatures, strict=True))


def pair_baselines(train, asked):
    """Answers that take no network, for the sources of `asked`: name -> list of N str.

    train, asked: lists of (source, target).  `copy` repeats the source.  `dictionary`
    translates each word by the target word that its IBM model 1 (Brown et al., 1993),
    fitted on train, holds likeliest; words that train lacks are copied.
    """
    dictionary = word_dictionary(train)
    answers = []
    for given, _ in asked:
        line = " ".join(dictionary.get(word, word) for word in _WORD.findall(given))
        answers.append(re.sub(r" (?=[.,])", "", line))
    return {"copy": [given for given, _ in asked], "dictionary": answers}


def word_dictionary(pairs, rounds=5):
    """Each source word's likeliest target word by IBM model 1: {word: word}.

    p(f | e) starts uniform.  Each round shares every target word f out among the words
    e of its own sentence, and among "no word", in proportion to p(f | e); p(f | e) is
    then the share of e's total that went to f.
    """
    e_ids, f_ids = defaultdict(), defaultdict()
    e_ids.default_factory, f_ids.default_factory = e_ids.__len__, f_ids.__len__
    no_word, e, f, choices = e_ids[None], [], [], []
    for given, target in pairs:  # of a very long text its beginning will do
        left = [no_word, *(e_ids[word] for word in _WORD.findall(given)[:200])]
        right = [f_ids[word] for word in _WORD.findall(target)[:200]]
        e.append(np.tile(np.array(left, np.int32), len(right)))
        f.append(np.repeat(np.array(right, np.int32), len(left)))
        choices += [len(left)] * len(right)
    e, f = np.concatenate(e), np.concatenate(f)
    owner = np.repeat(np.arange(len(choices)), choices)  # the place of f in all targets
    links, which = np.unique(e.astype(np.int64) * len(f_ids) + f, return_inverse=True)
    e_of, f_of = np.divmod(links, len(f_ids))
    p = np.ones(len(links))  # of each link (e, f); uniform
    for _ in range(rounds):
        share = p[which] / np.bincount(owner, p[which])[owner]
        total = np.bincount(which, share)  # (links,)
        p = total / np.bincount(e_of, total)[e_of]
    best = np.lexsort((f_of, -p, e_of))  # of each e, its likeliest f first
    first = best[np.unique(e_of[best], return_index=True)[1]]
    e_words, f_words = list(e_ids), list(f_ids)
    found = {e_words[e_of[k]]: f_words[f_of[k]] for k in first.tolist()}
    found.pop(None, None)
    return found


def compare_variants(args, source, kinds, train, others):
    """`--compare`: train every variant, print one table, draw all their losses.

    kinds: name -> settings, the lesson's default first; train(settings) -> (model,
    records, validation scores); others: name -> scores of the baselines on validation.
    Validation, because one chooses by such a table: the test set is for what one has
    chosen.
    """
    rows, models, runs = {}, {}, {}
    for name, settings in kinds.items():
        print(f"Training {name}")
        try:
            model, records, scores = train(settings)
        except Diverged as error:
            rows[name] = {"diverged": str(error).split(";")[0]}
            continue
        rows[name] = {
            **scores,
            "parameters": count_parameters(model),
            "seconds": sum(record["seconds"] for record in records),
            "largest_gradient": max(record["max_grad_norm"] for record in records),
        }
        models[name] = {f"val_{key}": value for key, value in scores.items()}
        models[name] |= {k: v for k, v in rows[name].items() if k not in scores}
        runs[name] = records
    print_table(f"{source.label}: validation, --compare {args.compare}", rows | others)
    title = f"--compare {args.compare}, {source.label}"
    plot_losses(args, f"compare_{args.compare}", title, runs)
    first = next(iter(kinds))  # where it diverged, no other takes its place
    metrics = {k: v for k, v in models.get(first, {}).items() if k.startswith("val_")}
    known = {name: row["accuracy"] for name, row in others.items()}
    training = training_summary(runs[first], 0, "") if first in runs else None
    size = models[first]["parameters"] if first in models else 0
    write_metrics(args, source, metrics, known, training, size, models)


def print_table(title, rows, corner="model"):
    """rows: name -> {column: number or text}.  One aligned line a row.

    corner: the heading above the rows' names.
    """
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    width = max(len(str(name)) for name in [*rows, corner])

    def cell(value):
        if isinstance(value, float):
            return f"{value:.4f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    table = [[corner, *columns]]
    table += [
        [str(name), *(cell(row.get(column, "-")) for column in columns)]
        for name, row in rows.items()
    ]
    widths = [width] + [
        max(len(line[i + 1]) for line in table) for i in range(len(columns))
    ]
    print(f"\n{title}")
    for line in table:
        cells = [text.rjust(size) for text, size in zip(line, widths, strict=True)]
        print("  " + "   ".join([line[0].ljust(width), *cells[1:]]))


def write_metrics(
    args, source, metrics, baselines, training=None, parameters=0, models=None
):
    """Write <out-dir>/metrics.json, add it to runs.jsonl beside that folder, compare with the last.

    metrics, baselines: name -> number.  training: what `training_summary` returned;
    None for a run that trained nothing.  parameters: how many the model has.  models:
    where several were trained, name -> its metrics.  Returns what was written.
    """
    untrained = {
        "epochs_run": 0,
        "train_seconds": 0.0,
        "units_per_second": 0.0,
        "unit": "",
    }
    result = {
        "script": args.lesson,
        "dataset": source.name,
        "real": source.real,
        "seed": args.seed,
        "device": str(args.device),
        "precision": getattr(args, "precision", "fp32"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads() * _TORCHRUN["processes"],
        "parameters": parameters,
        **(training or untrained),
        "metrics": {k: float(v) for k, v in metrics.items()},
        "baselines": {k: float(v) for k, v in baselines.items()},
        **({"models": models} if models else {}),
        "args": vars(args),
    }
    result = _as_json(result)
    write_atomically(
        Path(args.out_dir) / "metrics.json", json.dumps(result, indent=2).encode()
    )
    _compare_with_last(Path(args.out_dir).parent / "runs.jsonl", result)
    return result


def _as_json(value):
    """Numbers, texts, lists and dicts alone; NaN and infinity, which JSON lacks, become null."""
    if isinstance(value, dict):
        return {str(k): _as_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(v) for v in value]
    if hasattr(value, "item"):  # a NumPy number or a tensor of one
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, int | float | None) else str(value)


def _compare_with_last(path, result):
    """One line against the newest earlier run of this lesson on this data, then join the list."""
    try:
        text = path.read_text("utf-8", errors="replace") if path.exists() else ""
        gap = "\n" if text and not text.endswith("\n") else ""  # a line cut short
        with path.open("a", encoding="utf-8") as file:
            stamp = {"time": datetime.datetime.now().isoformat(timespec="seconds")}
            file.write(gap + json.dumps({**stamp, **result}) + "\n")
    except OSError as error:  # the result itself is safe in metrics.json
        print(f"Not added to {path}: {error.strerror}")
        return
    scores = {k: v for k, v in result["metrics"].items() if v is not None}
    if not scores:
        return
    name, value = next(iter(scores.items()))
    runs = map(_parse_run, text.splitlines())
    alike = [run for run in runs if _same_kind(run, result)]
    before = alike[-1]["metrics"].get(name) if alike else None
    if not isinstance(before, int | float):
        print(
            f"This run: {name} {value:.4f}.  Run it again and the two are compared here."
        )
        return
    flags = alike[-1]["args"]
    changed = [
        f"--{k.replace('_', '-')} {v}"
        for k, v in flags.items()
        if result["args"].get(k) != v
    ]
    print(
        f"Last run: {name} {before:.4f} ({', '.join(changed) or 'same flags'}); "
        f"this run {value:.4f} ({value - before:+.4f})"
    )


def _parse_run(line):
    try:
        run = json.loads(line)
        return run if isinstance(run, dict) else {}
    except ValueError:
        return {}  # a line cut short by a crash is no reason to fail


def _same_kind(run, result):
    if not all(isinstance(run.get(k), dict) for k in ("metrics", "args")):
        return False
    flags = [
        tuple(r["args"].get(f) for f in ("quick", "input", "task", "compare"))
        for r in (run, result)
    ]
    keys = ("script", "dataset")
    return flags[0] == flags[1] and all(run.get(k) == result[k] for k in keys)


def save_picture(figure, args, name):
    """Write a figure to <out-dir>/<name>.png and say so.  Nothing happens under --no-plots."""
    if args.no_plots:
        plt.close(figure)
        return
    path = Path(args.out_dir) / f"{name}.png"
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, bbox_inches="tight", format="png")
    plt.close(figure)
    write_atomically(path, buffer.getbuffer())
    print(f"  picture: {path}")


def plot_lines(
    args,
    name,
    title,
    lines,
    xlabel,
    ylabel,
    x=None,
    log=False,
    band=None,
    width=7,
    dashed=(),
):
    """lines: label -> values (T,).  One curve each; `x` (T,) shared, default 0, 1, 2, ...

    band: two edges, (T,) each, shaded between.  width: of the picture, in inches.
    dashed: labels of the curves to draw so, for those that may hide another.
    """
    if args.no_plots or not lines:
        return
    figure, axes = plt.subplots(figsize=(width, 4))
    for label, values in lines.items():
        places = range(len(values)) if x is None else x
        style = (0, (2, 3)) if label in dashed else "-"
        axes.plot(places, values, linestyle=style, label=label, linewidth=1.5)
    if band is not None:
        places = range(len(band[0])) if x is None else x
        axes.fill_between(places, *band, color="grey", alpha=0.35, label="band")
    axes.set_title(title, **PLAIN)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if log:
        axes.set_yscale("log")
    axes.legend()
    axes.grid(alpha=0.3)
    save_picture(figure, args, name)


def plot_records(args, title, records, panels, name="training"):
    """Curves of a training run.  panels: axis label -> the record entries drawn in that panel."""
    if args.no_plots or not records:
        return
    figure, all_axes = plt.subplots(
        1, len(panels), figsize=(4.5 * len(panels), 3.6), squeeze=False
    )
    epochs = [record["epoch"] for record in records]
    for axes, (label, keys) in zip(all_axes[0], panels.items(), strict=True):
        for key in keys:
            axes.plot(
                epochs, [record[key] for record in records], marker=".", label=key
            )
        axes.set(xlabel="epoch", ylabel=label)
        axes.legend()
        axes.grid(alpha=0.3)
    figure.suptitle(title, **PLAIN)
    save_picture(figure, args, name)


def plot_losses(args, name, title, runs):
    """Losses of several trainings, label -> records: of training left, validation right."""
    if args.no_plots or not runs:
        return
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axes, key in zip(panels, ("loss", "val_loss"), strict=True):
        for label, records in runs.items():
            epochs = [record["epoch"] for record in records]
            axes.plot(epochs, [r[key] for r in records], marker=".", label=label)
        axes.set(xlabel="epoch", ylabel=key)
        axes.grid(alpha=0.3)
    panels[0].legend()
    figure.suptitle(title, **PLAIN)
    save_picture(figure, args, name)


def plot_matrix(
    args, name, title, matrix, rows, columns, xlabel, ylabel, bar="", centred=False
):
    """A heatmap of `matrix` (R, C) with a label for each row and column, 60 at most.

    centred: colours run symmetrically around zero, for values of both signs.
    """
    if args.no_plots:
        return
    if max(len(rows), len(columns)) > 60:  # none could be read, and it fills the memory
        print(f"  {name}: the first 60 rows and columns of {np.shape(matrix)}")
        rows, columns = list(rows)[:60], list(columns)[:60]
    matrix = np.asarray(matrix, dtype=float)[: len(rows), : len(columns)]
    limit = float(np.abs(matrix).max()) or 1.0
    size = (max(4.5, 0.32 * len(columns) + 2), max(3.0, 0.28 * len(rows) + 1.5))
    figure, axes = plt.subplots(figsize=size)
    colours = (
        {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        if centred
        else {"cmap": "viridis"}
    )
    image = axes.imshow(matrix, aspect="auto", **colours)
    turn = 90 if sum(len(str(name)) + 2 for name in columns) > 8 * size[0] else 0
    axes.set_xticks(range(len(columns)), columns, rotation=turn, **PLAIN)
    axes.set_yticks(range(len(rows)), rows, **PLAIN)
    axes.set_title(title, **PLAIN)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    figure.colorbar(image, ax=axes, label=bar)
    save_picture(figure, args, name)


# ====================================================================================
# 6. Command line
# ====================================================================================


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong flag becomes a UserError: one sentence instead of a page of usage."""

    def error(self, message):
        raise UserError(f"{message}; see --help")


def whole(minimum=1, maximum=10**9):
    """An argparse type: an integer from `minimum` to `maximum`."""

    def convert(text):
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"'{text}' is not a whole number"
            ) from None
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(
                f"{value} is not between {minimum} and {maximum}"
            )
        return value

    return convert


def real(minimum=0.0, maximum=1e9, above=False):
    """An argparse type: a number from `minimum` (or just above it) to `maximum`."""

    def convert(text):
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
        if not minimum <= value <= maximum or (above and value == minimum):
            least = "above" if above else "at least"
            raise argparse.ArgumentTypeError(
                f"{text} is out of range: {least} {minimum:g}, at most {maximum:g}"
            )
        return value

    return convert


def make_parser(doc):
    """A parser that shows the lesson's docstring as its help."""
    return Parser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_common_flags(parser):
    """The flags that all ten lessons have."""
    group = parser.add_argument_group("all lessons")
    group.add_argument("--seed", type=whole(0, 2**32 - 1), default=0, help="default 0")
    group.add_argument("--out-dir", help="default outputs/<script name>")
    group.add_argument(
        "--quick", action="store_true", help="a tiny run, offline, in seconds"
    )
    group.add_argument("--no-plots", action="store_true", help="draw no pictures")
    group.add_argument(
        "--device", choices=["auto", "cpu", "cuda", "mps"], default="auto"
    )


def add_data_flags(parser, datasets, input_help):
    """The flags of lessons that read data; `datasets` are the names that --dataset takes."""
    group = parser.add_argument_group("data")
    group.add_argument("--dataset", choices=["auto", *datasets], default="auto")
    group.add_argument(
        "--data-dir",
        default=os.environ.get("RNN_DATA_DIR") or "data",
        help="where downloads are kept (default: $RNN_DATA_DIR, else data)",
    )
    group.add_argument("--input", metavar="PATH", help=input_help)


TRAINING_DEFAULTS = {"num_layers": 1, "dropout": 0.0, "clip": 1.0, "weight_decay": 0.0}
TRAINING_DEFAULTS |= {"patience": 0, "optimizer": "adam", "accumulate": 1}
TRAINING_DEFAULTS |= {"precision": "fp32"}


def add_training_flags(parser, **defaults):
    """The flags of lessons that train.  defaults: epochs, batch_size, lr, hidden_size, ..."""
    group = parser.add_argument_group("training")
    add, peak = group.add_argument, "peak of the learning rate"
    add("--epochs", type=whole(1, 100_000))
    add("--batch-size", type=whole(1, 1_000_000))
    add("--lr", type=real(0, 100, above=True), help=peak)
    add("--hidden-size", type=whole(1, 16_384))
    add("--num-layers", type=whole(1, 64))
    add("--dropout", type=real(0, 0.99))
    add("--clip", type=real(0, 1e9), help="largest gradient norm; 0 clips nothing")
    add("--weight-decay", type=real(0, 100))
    add(
        "--patience",
        type=whole(0, 100_000),
        help="stop after so many epochs without gain; 0 never",
    )
    add("--optimizer", choices=list(OPTIMIZERS))
    add(
        "--accumulate",
        type=whole(1, 10_000),
        help="batches whose gradients make one step",
    )
    add("--precision", choices=["fp32", "bf16"])
    add("--save-model", action="store_true", help="write the best model to --path")
    add("--path", metavar="FILE", help="default models/<script name>.pt")
    add(
        "--eval-only",
        action="store_true",
        help="train nothing; take the model from --path",
    )
    add("--resume", action="store_true", help="go on from <out-dir>/last.pt")
    settings = {**TRAINING_DEFAULTS, **defaults}
    parser.set_defaults(**settings)
    for action in group._group_actions:  # each --help line ends in its default
        if action.dest in settings:
            action.help = (
                f"{action.help or ''} (default {settings[action.dest]})".strip()
            )


def parse_flags(parser, argv, script):
    """Parse, fill in what depends on the script's name, seed, find the device, make the folder.

    script: the lesson's __file__.  Afterwards args.lesson is its name without .py.
    """
    args = parser.parse_args(argv)
    args.lesson = Path(script).stem
    args.out_dir = args.out_dir or str(Path("outputs") / args.lesson)
    args.device = str(pick_device(args.device))
    if hasattr(args, "epochs"):
        args.path = args.path or str(Path("models") / f"{args.lesson}.pt")
        _check_training_flags(args)
        if args.quick:
            args.epochs = min(args.epochs, 2)
        if in_ranks():
            _fit_to_ranks(args)
        if args.save_model:
            _check_place(Path(args.path), Path(args.out_dir, "last.pt"))
    _check_writable(Path(args.out_dir), "--out-dir")
    set_seed(args.seed)
    return args


def _check_training_flags(args):
    """Refuse flags that cannot be meant together."""
    if args.eval_only and (args.resume or args.save_model):
        raise UserError("--eval-only trains nothing; drop --resume and --save-model")
    for name in ("compare", "overfit_one_batch"):
        if getattr(args, name, None):
            alone = not (args.resume or args.eval_only or args.save_model)
            if not alone or getattr(args, "predict", None):
                raise UserError(
                    f"--{name.replace('_', '-')} is an experiment of its own; drop "
                    "--resume, --eval-only, --save-model and --predict"
                )


def _fit_to_ranks(args):
    """Under torchrun: a GPU for each rank; --batch-size is each rank's, from here on all's."""
    for name in ("compare", "overfit_one_batch", "eval_only"):
        if getattr(args, name, None):
            raise UserError(
                f"--{name.replace('_', '-')} takes one process; "
                "start it with python instead of torchrun"
            )
    if args.device == "mps":
        raise UserError("torchrun trains on cpu or cuda, not on mps; add --device cpu")
    if args.device == "cuda":
        own, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if own >= there:
            raise UserError(
                f"torchrun started a process for each of {os.environ['LOCAL_WORLD_SIZE']} "
                f"GPUs, and there are {there}; start fewer, or add --device cpu"
            )
        torch.cuda.set_device(own)
    args.batch_size *= ranks()


def _check_writable(folder, flag):
    """Fail now, not after an hour of training, if results cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{flag}: {folder} cannot be written to ({error.strerror}); choose another"
        ) from None


def _check_place(path, state):
    """Fail now if --save-model cannot write `path`, or would write over the training state."""
    if path.resolve() == state.resolve() or (path.exists() and not path.is_file()):
        raise UserError(f"--path {path} cannot hold the model; name another file")
    _check_writable(path.parent, "--path")


def capped(args, items, most):
    """Under --quick the first `most` items, else all of them."""
    return items[:most] if args.quick else items


def _stop(signum, frame):
    raise KeyboardInterrupt


def run(main, argv=None, parallel=False):
    """Call a lesson's main; returns the exit status.  No traceback for what a reader can cause.

    parallel: the lesson may be started by torchrun, see `join_ranks`.
    """
    _KEPT.clear()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)  # asked to end: same as Ctrl-C
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack a letter
    try:
        return _run(main, argv, parallel)
    except KeyboardInterrupt:
        numbers = (signal.SIGINT, signal.SIGTERM)  # who asks twice is not heard twice
        before = [_set_signal(number, signal.SIG_IGN) for number in numbers]
        if first_to_fail():
            print(f"\nInterrupted.  {_what_is_kept()}", file=sys.stderr)
        if argv is not None:  # called from Python: that goes on
            for number, handler in zip(numbers, before, strict=True):
                _set_signal(number, handler)
        return 130
    finally:
        try:
            sys.stdout.flush()
        except (OSError, ValueError):  # nor must Python try again as it ends
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _what_is_kept():
    if "path" not in _KEPT:
        return "No epoch of training had been finished: there is nothing to go on from."
    return (
        f"The training state and the best weights are in {_KEPT['path']}: "
        "the same command with --resume goes on from there."
    )


def _set_signal(number, handler):
    """signal.signal where it may be called; returns the handler before."""
    if threading.current_thread() is threading.main_thread():
        return signal.signal(number, handler)


def _run(main, argv, parallel):
    try:
        join_ranks(parallel)
        main(argv)
        sys.stdout.flush()  # here, where a reader who has gone can be caught
    except UserError as error:
        return _complain(error)
    except (MemoryError, RuntimeError) as error:  # PyTorch has no type for a full CPU
        if isinstance(error, MemoryError) or _tells_of_full_memory(error):
            return _complain("the memory is full; lower --batch-size or --hidden-size")
        if first_to_fail():
            raise
        return 2  # another rank has gone, and has said why
    except BrokenPipeError:  # `python 01_... | head` has read enough
        first_to_fail()  # no other rank need say that this one has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _complain(f"{error.filename or 'a file'}: {error.strerror or error}")
    return 0


def _tells_of_full_memory(error):
    words = ("out of memory", "not enough memory", "can't allocate memory")
    words += ("ALLOC_FAILED",)  # cuBLAS and cuDNN
    return any(word in str(error) for word in words)


def _complain(sentence):
    name = Path(sys.argv[0]).name
    line = " ".join(str(sentence).split())  # a file's name may hold a line end
    if first_to_fail():
        print(f"{name}: error: {line.rstrip('.')}.", file=sys.stderr)
    return 2
