"""The plumbing that two or more lessons share.

You do not need this file to follow a lesson.  Whatever a lesson's title promises is
written out there, by hand, on a small example, and shown to be equal to what stands
here or in PyTorch; after that lesson the shared piece is used.  So this is where to
look for *how it is done for real data*: fast, safe, and with a clear sentence when
something is wrong.

Sections
    1. Device and randomness         seeds, the processor or GPU, how many threads
    2. Data                          downloads, files, splits, the data sets of lessons
    3. Vocabulary, padding, batches  from texts to tensors
    4. Training and checkpoints      fit, evaluate, save, load, resume, beam search
    5. Results and pictures          scores, baselines, tables, plots, metrics.json
    6. Command line                  flags, and `run`, which every script ends with

Sizes, here and in every lesson: B batch (examples computed together), T time (steps of
a sequence), F features (numbers in a step), E embedding, H hidden state, V vocabulary,
C classes, N examples in a data set, M items that count (examples, or real words).

Libraries that take long to import and that not every lesson needs (pandas, pooch,
matplotlib, scikit-learn, scipy, sacrebleu) are imported inside the functions that use
them: `python 01_sequence_basics.py` should start at once.
"""

import argparse
import bisect
import contextlib
import csv
import ctypes
import datetime
import functools
import gzip
import hashlib
import heapq
import io
import itertools
import json
import math
import os
import random
import re
import signal
import sys
import tarfile
import tempfile
import textwrap
import threading
import time
import unicodedata
import warnings
import zlib
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import regex
import torch
import torch.distributed as dist
from torch import nn
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent
SAMPLES = ROOT / "samples"


class UserError(Exception):
    """Something the reader can put right: `run` prints it as one sentence, status 2."""


class Diverged(UserError):
    """The loss stopped being a number."""


# ====================================================================================
# 1. Device and randomness
# ====================================================================================
#
# A lesson calls `set_seed` before it builds a model, and nothing else here: the device
# and the number of threads are chosen by `parse_flags` (section 6).


def keep_memory():
    """Let this process keep the memory it has freed, for the next batch.

    glibc (the C library of Linux) hands large blocks back to the system at every free
    and asks for them again, page by page, at every allocation.  An epoch of lesson 05
    took 37.3 and 38.0 s so, 22.8 and 24.4 s with these two calls, in the same run.
    oneDNN keeps a compiled kernel for each length of batch it has met, up to 1,024 of
    some MiB each: 16 are as fast.  On other systems the first part does nothing.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
    with contextlib.suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(-4, 0)  # M_MMAP_MAX: no block is the system's own,
        library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: and none goes back


def release_memory():
    """Hand back what is free after all: now and then it costs nothing."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


keep_memory()


def set_seed(seed):
    """Seed Python, NumPy and PyTorch: the same command then prints the same numbers.

    That holds on a CPU with the same number of threads.  On a GPU, or with another
    number, sums are taken in another order, and the last digits differ.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)  # every device, GPUs included


def seed_epoch(seed, epoch):
    """Seed one epoch of training by (seed, epoch), whatever was drawn before it.

    So a run that was cut off and goes on with --resume needs no saved random state.
    """
    set_seed(1_000_003 * epoch + seed)


def pick_device(name="auto"):
    """The torch.device for `--device`: auto, cpu, cuda or mps.

    Raises UserError if it is not there.  auto: a GPU that works, else the CPU.
    """
    usable = [kind for kind in ("cuda", "mps", "cpu") if _computes(kind)]
    if name == "auto":
        name = usable[0]
    if name not in usable:
        raise UserError(
            f"--device {name} is not available on this machine (it has: "
            f"{', '.join(usable)}); run without --device, or install a PyTorch build "
            f"that supports {name}"
        )
    return torch.device(name)


def _computes(kind):
    """Whether a tensor can be computed there: a GPU may be too old for this PyTorch."""
    try:
        return torch.ones(2, device=kind).sum().item() == 2
    except (RuntimeError, AssertionError):  # also where there is no such device
        return False


def pick_threads(wanted=None, small=False):
    """How many threads compute, for `--threads`; sets them and returns the number.

    PyTorch's threads wait for each other in a busy loop.  If another program keeps one
    of two cores, each of two threads waits for a core, and small tensors crawl: an
    epoch of lesson 10 takes 20 s on two idle cores, 34 s on one thread, and 66 s on two
    threads beside a busy core; lesson 04, in all 6 epochs, 2.8 s, 4.1 s and over 69 s.
    So what is small computes on one thread, and what is large on as many as there are
    idle cores when it starts.  OMP_NUM_THREADS, if set, stays the upper bound.

    benchmarks/busy.py, seconds of 12 batches on two cores (AMD EPYC): idle; beside a
    plain loop; beside the training of lesson 04.  But for 04 and 06, idle means two
    threads, and busy means one.  The worst is 1.9 times the idle time:

        04  0.09 0.12 0.11    07        2.15 4.08 3.59    08 reverse    0.27 0.40 0.39
        05  1.75 2.48 2.60    07 tag    0.90 1.05 1.13    08 translate  3.46 4.60 5.29
        06  0.31 0.42 0.34    09        3.28 5.22 5.05    10            1.25 2.28 2.30
    """
    available = torch.get_num_threads()
    threads = wanted or (1 if small else available)
    if not wanted and not small and available > 1:
        import psutil

        # The share of all cores that other programs took in a quarter of a second; a
        # third of a core is already worth stepping aside for.
        busy = psutil.cpu_percent(interval=0.25) / 100 * psutil.cpu_count()
        threads = max(1, available - int(busy + 0.7))
        if threads < available:
            print(
                f"Computing on {threads} of {available} threads, since other programs "
                f"are busy; --threads {available} takes all."
            )
    torch.set_num_threads(threads)
    return threads


def count_parameters(model):
    """How many numbers training may change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def cells_of_equal_size(build, config, cells):
    """name -> config of each cell, with a hidden size that gives it as many weights.

    build: the model class; config: its keyword arguments, "cell" and "hidden" among
    them.  The cell of `config` comes first.  A fair comparison of cells needs this: at
    the same hidden size, an LSTM has four times the weights of a plain RNN.
    """

    def weights(cell, hidden):
        with torch.device("meta"):  # shapes only: nothing is allocated or drawn
            return count_parameters(build(**{**config, "cell": cell, "hidden": hidden}))

    wanted = weights(config["cell"], config["hidden"])
    found = {}
    for cell in sorted(cells, key=lambda cell: cell != config["cell"]):
        # More hidden units, more weights: the first size that has enough of them, or
        # the one before it.
        sizes = range(1, 4 * config["hidden"] + 1)
        size = functools.partial(weights, cell)
        place = bisect.bisect_left(sizes, wanted, key=size)
        near = sizes[max(place - 1, 0) : place + 1]
        best = min(near, key=lambda hidden: abs(size(hidden) - wanted))
        found[f"{cell}, hidden {best}"] = {**config, "cell": cell, "hidden": best}
    return found


# ====================================================================================
# 2. Data
# ====================================================================================
#
# `choose_dataset` turns the flags into a Source: which data set, where it lies, and
# whether it is real.  Then one reader for each form of data: `read_text`, `read_table`
# for files, `load_series` (lessons 03, 06), `load_reviews` (05, 07), `load_pairs`
# (08, 09).  What only one lesson reads, it reads itself.


# Each real data set: where its files lie below --data-dir (a folder, or one file), and
# what it is.  Digests and addresses of all files stand in samples/registry.txt.
DATASETS = {
    "names": ("names/", "surnames of 18 languages, practical-pytorch; MIT licence"),
    "imdb": ("aclImdb_v1.tar.gz", "film reviews, Maas et al. (2011); for research"),
    "sunspots": ("monthly-sunspots.csv", "monthly sunspot numbers; public figures"),
    "stock": ("sp500-2000.csv", "S&P 500, daily, 2000 to 2020; public figures"),
    "ewt": ("ud-english-ewt/", "UD English EWT; CC BY-SA 4.0"),
    "multi30k": ("multi30k/", "captions, Elliott et al. (2016); see its repository"),
    "shakespeare": ("tinyshakespeare/", "Tiny Shakespeare; public domain"),
}
CONNECT_SECONDS = 5  # one connection attempt; the first contact is given twice that
QUICK_PARTS = (480, 60, 60)  # of training, validation, test under --quick


class Source(NamedTuple):
    """The data a run uses: name, where it lies (None if generated), whether it is real."""

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


def open_registry(data_dir):
    """pooch's list of all files: path below `data_dir`, digest, address."""
    import pooch

    pooch.get_logger().setLevel("ERROR")
    registry = pooch.create(data_dir, base_url="", retry_if_failed=2)
    registry.load_registry(SAMPLES / "registry.txt")
    return registry


def files_of(name, registry):
    """The paths of a data set's files below --data-dir, in the registry's order."""
    prefix, _ = DATASETS[name]
    return [path for path in registry.registry if path.startswith(prefix)]


def fetch(name, data_dir):
    """Paths of a real data set's files below `data_dir`, downloading what is missing.

    A file that already lies there is taken as it is.  A download counts only once its
    digest has been checked; until then it has another name, and it is deleted if it
    fails.  Raises UserError, which says what to put where, if it cannot be had.
    """
    import pooch
    import requests

    folder = Path(data_dir)
    registry = open_registry(folder)
    paths = files_of(name, registry)
    found = [folder / path for path in paths]
    missing = [path for path in paths if not (folder / path).is_file()]
    if not missing:
        return found
    address = registry.get_url(missing[0])
    try:
        _check_reachable(address)
        print(f"Downloading {name}: {DATASETS[name][1]}")
        downloader = pooch.HTTPDownloader(
            progressbar=sys.stderr.isatty(), timeout=(CONNECT_SECONDS, 30)
        )
        for path in missing:
            registry.fetch(path, downloader=downloader)
            os.chmod(folder / path, 0o644)  # pooch leaves it to its owner alone
    except (requests.exceptions.RequestException, OSError, ValueError) as error:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"data set '{name}' could not be downloaded ({_reason(error)}); put "
            f"{missing[0]}{more} into {folder} (from {address}), or choose another "
            "--dataset"
        ) from None
    return found


def _check_reachable(url):
    """Raise at the first failed connection, at most 2 * CONNECT_SECONDS from now.

    A thread, because looking up a host name has no time limit of its own.
    """
    import requests

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


def _reason(error):
    """A failed download in a few words."""
    import requests

    if isinstance(error, requests.exceptions.HTTPError):
        return f"the server answered {error.response.status_code}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off in the middle"
    if isinstance(error, requests.exceptions.RequestException):
        return "no connection"
    if isinstance(error, ValueError):
        return "what arrived does not have the right digest"
    if isinstance(error, PermissionError):
        return "that folder cannot be written to"
    return error.strerror or str(error)


def of_rank_zero(function):
    """Decorator: rank 0 calls `function`, all get what it returned.  So one downloads."""

    @functools.wraps(function)
    def shared(*given, **named):
        found = [None]
        if rank() == 0:
            try:
                found = [function(*given, **named)]
            except UserError as error:  # the others wait for an answer: this is it
                found = [error]
        if in_ranks():
            dist.broadcast_object_list(found)
        if isinstance(found[0], UserError):
            raise found[0]
        return found[0]

    return shared


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
        return Source("input", Path(args.input), real=False)
    fallback = next(iter(offline))
    name = args.dataset
    if name == "auto":
        name = fallback if args.quick else real[0]
    if name in offline:
        return Source(name, offline[name], real=False)
    try:
        paths = fetch(name, args.data_dir)
    except UserError as error:
        if args.dataset != "auto":
            raise
        print(f"Going on with the offline {fallback}, because {error}.")
        return Source(fallback, offline[fallback], real=False)
    path = paths[0].parent if len(paths) > 1 else paths[0]
    return Source(name, path, real=True)


# --- the reader's own files -----------------------------------------------------------
#
# People have files in many forms.  The rule: what is unambiguous is taken, and said in a
# sentence; what is ambiguous is refused with a sentence that names the way out; nothing
# is read wrongly in silence.  A file becomes text (`read_text`), text becomes rows of
# cells (`read_table`), and cells become numbers (`to_numbers`) or dates (`to_dates`).

# Cells that stand for "no value here"; in lower case.
NO_VALUE = {"", "-", "--", ".", "?", "na", "n/a", "nan", "none", "null", "#n/a", "inf"}
NO_VALUE |= {"-inf", "infinity", "-infinity", "nat", "missing"}


def read_text(path):
    """A whole text file as one string: line ends as \\n, letters composed (NFC).

    UTF-8, or UTF-16 that says so in its first two bytes.  NFC writes an é as one code
    point; as e and an accent after it, a search for words would cut it in two.
    Raises UserError if the file cannot be read, is empty or is no such text.
    """
    encoding = "utf-8-sig"  # -sig: Windows marks the beginning of a file
    try:
        with open(path, "rb") as file:
            if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                encoding = "utf-16"
        text = Path(path).read_text(encoding)  # \r\n and \r become \n
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        text = "\0"
    # Archives, sheets and PDF files hold such bytes, and bytes that are no UTF-8.
    if "\0" in text or text.startswith(("PK\3\4", "%PDF")):
        raise UserError(
            f"{path} is not UTF-8 text; save a sheet as CSV, unpack what is packed (zip, "
            "gz), and save a text as UTF-8"
        )
    if not text.strip():
        raise UserError(f"{path} is empty")
    return unicodedata.normalize("NFC", text)


# What may stand between cells; of separators that cut equally well the first is taken.
SEPARATORS = {"\t": "tabs", ";": "';'", ",": "','", "|": "'|'"}


def read_table(path):
    """A file of rows and columns: (pandas.DataFrame of strings, sentences).

    Finds the separator, and whether the first row names the columns; without names the
    columns are called "1", "2", ...  Sentences say what was found where it is not a
    plain CSV file with a header.  Raises UserError if the rows are no table.
    """
    import pandas as pd

    lines = [*read_text(path).split("\n"), ""]
    separator = _find_separator(lines)
    said = []
    if separator != ",":
        said.append(f"the cells are separated by {SEPARATORS[separator]}")
    # Above a table may stand "sep=;" and lines of #.  The last # may begin its header.
    titles = list(
        itertools.takewhile(lambda line: line.startswith(("sep=", "#")), lines)
    )
    below = lines[len(titles)].count(separator)
    last = titles[-1] if titles else ""
    if last.startswith("#") and 0 < last.count(separator) == below:
        titles.pop()
    if titles:
        said.append(f"lines before the table, left out: {len(titles)}")
    rows = _cut_rows(path, "\n".join(lines[len(titles) :]), separator)
    if len(rows) < 2:
        raise UserError(f"{path} has no rows: a table takes a header and a row below")
    width = len(rows[0])
    if _first_row_is_data(rows):
        header = [str(k + 1) for k in range(width)]
        said.append(f"no header: the columns are called {', '.join(header)}")
    else:
        header = rows.pop(0)
    for number, row in enumerate(rows, start=1):
        if any(row[width:]):
            raise UserError(
                f"{path}, row {number} below the header, has more cells than its "
                'header; put "quotes" around a text that holds the separator'
            )
    # Each column gets a name of its own: a second "v" is "v (2)".
    names = []
    for k, name in enumerate(header):
        name = name or f"column {k + 1}"
        repeats = header[:k].count(name)
        names.append(f"{name} ({repeats + 1})" if repeats else name)
    cells = [(row + [""] * width)[:width] for row in rows]
    frame = pd.DataFrame(cells, columns=names, dtype=str)
    # Two kinds of columns without a name are no data: the numbers of the rows, which
    # come first, and the empty cells that a separator at the ends of lines makes.
    numbers = [str(k) for k in range(len(cells) + 1)]
    for name, title in zip(names, header, strict=True):
        found = frame[name].tolist()
        if not title and (found in (numbers[:-1], numbers[1:]) or not any(found)):
            frame = frame.drop(columns=name)
    return frame, said


def _find_separator(lines):
    """The separator that cuts most of the first lines into equally many cells, >= 2."""
    csv.field_size_limit(10**9)
    filled = [line for line in lines if line.strip()][:200]
    best, most = ",", 0
    for separator in SEPARATORS:
        widths = Counter(len(row) for row in csv.reader(filled, delimiter=separator))
        width, count = widths.most_common(1)[0]
        if width > 1 and count > most:
            best, most = separator, count
    return best


def _cut_rows(path, text, separator):
    """The rows as lists of cells, blanks around a cell and empty rows left out."""
    layout = {"delimiter": separator, "skipinitialspace": True, "strict": True}
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), **layout))
    except csv.Error as error:
        if separator != "\t":
            raise UserError(
                f"{path} cannot be read as a CSV file: {error} (a quotation mark that "
                "opens and does not close?)"
            ) from None
        # Between tabs, a quotation mark is mostly just one.
        rows = [line.split("\t") for line in text.split("\n")]
    rows = [[cell.strip() for cell in row] for row in rows]
    return [row for row in rows if any(row)]


def _first_row_is_data(rows):
    """True if the first row holds a number or a date where the second holds one too."""
    kinds = [[_kind(cell) for cell in row] for row in rows[:2]]
    return kinds[0] == kinds[1] and kinds[0] != ["text"] * len(kinds[0])


def _kind(cell):
    """What a cell looks like: "date", "number" or "text"."""
    if re.fullmatch(r"\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4})?([ T].*)?", cell):
        return "number" if re.fullmatch(r"\d+\.\d+", cell) else "date"
    if re.fullmatch(r"[-+]?[\d.,]*\d[\d.,]*(e[-+]?\d+)?%?", cell):
        return "number"
    return "text"


def _looks_like(cells, kind):
    """True if most of the filled cells are of this kind, "date" or "number"."""
    filled = cells[cells != ""].head(1000)
    return len(filled) > 0 and np.mean([_kind(cell) == kind for cell in filled]) > 0.5


# The names by which people call columns.
TEXT_NAMES = ("text", "review", "sentence", "comment", "tweet", "content", "message")
LABEL_NAMES = ("label", "sentiment", "category", "target", "class", "rating", "stars")


def find_column(path, frame, wanted, names, flag, what):
    """The column that is `wanted` (None: not said), else the only one called as in `names`.

    Case and blanks do not matter.  flag, what: for the sentence of the UserError, such
    as "--text-column" and "texts", if none or several fit.
    """
    if wanted in frame.columns:
        return wanted
    if wanted is not None:
        names = [wanted]
    plain = {" ".join(name.lower().split()) for name in names}
    fit = [name for name in frame.columns if " ".join(name.lower().split()) in plain]
    if len(fit) != 1:
        why = "several columns" if fit else "no column"
        called = f"'{wanted}'" if wanted is not None else f"of {what}"
        have = ", ".join(fit or frame.columns[:20])
        raise UserError(
            f"{path} has {why} {called}; choose one with {flag} (there are: {have}; "
            "without a header, add a first line)"
        )
    return fit[0]


def refuse_cells(path, cells, bad, what):
    """UserError about the first cell (a row of the column `cells`) that `bad` marks."""
    if bad.any():
        row = int(np.asarray(bad).argmax())
        raise UserError(
            f"{path}, column '{cells.name}', row {row + 1} below the header: "
            f"'{cells.iloc[row]}' is not {what}"
        )


# The two ways of writing numbers: 1,234.5 and 1.234,5.
POINT = r"[-+]?(?=\.?\d)(\d{1,3}(,\d{3})+|\d*)(\.\d*)?(e[-+]?\d+)?"
COMMA = r"[-+]?(?=,?\d)(\d{1,3}(\.\d{3})+|\d*)(,\d*)?(e[-+]?\d+)?"


def to_numbers(cells, path="the file"):
    """A column of strings as floats: (Series, NaN where none; what is strange; sentences).

    Takes 3,000.50 and 3.000,50, 20%, $20 and the words in NO_VALUE.  The second result
    marks cells that are neither a number nor one of these.  Without a comma anywhere, a
    point is the decimal point.  Raises UserError if commas may be either.
    """
    plain = cells.str.strip(" \u00a0\u202f$€£¥%").str.lower()
    plain = plain.str.replace("\u2212", "-", regex=False)  # the typographer's minus
    plain = plain.str.replace("[ \u00a0\u202f'](?=\\d{3})", "", regex=True)
    none = plain.isin(NO_VALUE)
    fits = plain.str.fullmatch(POINT)
    commas = plain.str.contains(",", regex=False) & ~none
    if commas.any():
        # The column as a whole settles it: the way counts that more of its cells follow.
        fits_comma = plain.str.fullmatch(COMMA)
        if fits.sum() == fits_comma.sum() and fits[commas].any():
            raise UserError(
                f"{path}, column '{cells.name}': '{cells[commas].iloc[0]}' may be a "
                "decimal comma or a thousands separator; write 1234 or 1.234"
            )
        if fits_comma.sum() > fits.sum():
            fits = fits_comma
            plain = plain.str.replace(".", "", regex=False)
            plain = plain.str.replace(",", ".", regex=False)
        else:
            plain = plain.str.replace(",", "", regex=False)
    fits &= ~none
    numbers = plain.where(fits, "nan").astype(float)
    # Say how cells were read that could be read otherwise; 1.234 in all may be 1,234.
    either = cells.str.contains(r"[,%$€£]", regex=True) & fits
    if cells.str.fullmatch(r"-?[1-9]\d{0,2}\.\d{3}").mean() > 0.9:
        either = fits
    said = []
    if either.any():
        place = either.idxmax()
        said.append(f"numbers: '{cells[place]}' is read as {numbers[place]:g}")
    return numbers, ~(fits | none), said


# What may stand behind a time of day: the offset of a time zone.
ZONE = r"(?<=:\d\d)(\.\d+)?\s*(Z|UTC|GMT|[-+]\d\d:?\d\d)$"


def to_dates(cells, path="the file"):
    """A column of strings as dates: (Series of datetimes, NaT where none; sentences).

    A date takes a year of four digits, whatever else pandas would accept.  A time zone
    is dropped: what the reader's own clock said counts, and Monday stays Monday.  Raises
    UserError where day and month cannot be told apart (01/02/2000 in every row).
    """
    import pandas as pd

    said = []
    zones = cells.str.extract(ZONE)[1].dropna()
    if (~zones.isin(["Z", "UTC", "GMT", "+00:00", "+0000"])).any():
        said.append(
            f"dates carry a time zone ({zones.iloc[0]}): their clock time is kept"
        )
    plain = cells.str.replace(ZONE, r"\1", regex=True)
    filled = plain[plain != ""]
    numbers = pd.to_numeric(plain, errors="coerce")
    for digits, unit, name in ((9, "s", "seconds"), (12, "ms", "milliseconds")):
        if filled.str.fullmatch(rf"[12]\d{{{digits}}}").mean() > 0.9:
            said.append(f"dates are numbers: {name} since 1970")
            return pd.to_datetime(numbers, unit=unit), said
    months = filled.str.fullmatch(r"[12]\d{3}\.(0[1-9]|1[0-2])").mean()  # 2000.12
    if filled.str.fullmatch(r"[12]\d{3}\.\d+").mean() > 0.9 and months < 0.9:
        # 1749.042: the fraction is the share of the year that is over.
        said.append("dates are numbers: years with a fraction")
        years = (numbers // 1).astype("Int64").astype("string")
        january = pd.to_datetime(years, format="%Y", errors="coerce")
        days = (numbers % 1) * (365 + january.dt.is_leap_year)
        return january + pd.to_timedelta(days.round(), unit="D"), said
    # 31/12/2000 becomes 2000-12-31, if some row tells which number is the day.
    triple = plain.str.extract(r"^(\d{1,2})[-/. ](\d{1,2})[-/. ](\d{4}\b),?(.*)$")
    if triple[2].notna().any():
        example = plain[triple[2].notna()].iloc[0]
        # There is no thirteenth month; and who writes points writes the day first.
        day_first = (triple[0].astype(float) > 12).any() or "." in example[:3]
        month_first = (triple[1].astype(float) > 12).any()
        if day_first == month_first:
            why = "rows disagree on" if day_first else "no row settles"
            raise UserError(
                f"{path}, column '{cells.name}': '{example}' is not a date that is beyond "
                f"doubt: {why} which number is the day and which the month; write "
                "2000-12-31"
            )
        day, month = (0, 1) if day_first else (1, 0)
        iso = triple[2] + "-" + triple[month].str.zfill(2) + "-"
        iso = iso + triple[day].str.zfill(2) + triple[3]
        plain = iso.fillna(plain)
        order = "day/month/year" if day_first else "month/day/year"
        said.append(f"dates are written {order}: '{example}'")
    dated = plain.str.contains(r"^[^Qq]*\b\d{4}(?:\d{4})?\b[^Qq]*$")  # no 2000-Q1
    dates = pd.to_datetime(plain.where(dated), format="mixed", errors="coerce")
    odd = cells[dates.notna() & ~plain.str.match(r"\d{4}")]  # Feb 08, 2019; 02/2019
    if len(odd):
        day = dates[odd.index[0]]
        said.append(f"dates: '{odd.iloc[0]}' is read as {day:%Y-%m-%d}")
    return dates, said


# --- splits -------------------------------------------------------------------------


def split_by_hash(keys, parts=(0.8, 0.1, 0.1)):
    """Assign each distinct key to part 0, 1 or 2; returns {key: part}.

    Keys are ordered by their SHA-256, so the split is fixed by the data alone: the same
    on every machine, whatever --seed says, and a key never stands in two parts.
    """
    ordered = sorted(set(keys), key=lambda key: hashlib.sha256(key.encode()).digest())
    first = round(parts[0] * len(ordered))
    second = round((parts[0] + parts[1]) * len(ordered))
    found = dict.fromkeys(ordered[:first], 0)
    found.update(dict.fromkeys(ordered[first:second], 1))
    found.update(dict.fromkeys(ordered[second:], 2))
    return found


def three_parts(rows, keys, path):
    """Training, validation, test (80/10/10) by the digest of the rows' keys."""
    part_of = split_by_hash(keys)
    parts = [[], [], []]
    for row, key in zip(rows, keys, strict=True):
        parts[part_of[key]].append(row)
    if not all(parts):
        raise UserError(
            f"{path} has too few different examples to split into training, validation "
            f"and test: {len(part_of)}; give 10 or more"
        )
    if len(parts[2]) < 30:
        print(
            f"The test part holds {len(parts[2])} examples: too few to tell one model "
            "from another."
        )
    return parts


def say_all(sentences):
    """Print what was found in a file, a line each."""
    for sentence in sentences:
        print(f"  found: {sentence}")


def about_script(texts):
    """A sentence if texts hold writing without spaces between its words."""
    if any(UNSPACED.search(text) for text in itertools.islice(texts, 1000)):
        return ["writing without spaces between words: each character is a word"]
    return []


def split_by_time(n):
    """Where validation and test of n values start: 70 % train, 15 % validation, 15 %."""
    return round(0.70 * n), round(0.85 * n)


def capped(args, items, most):
    """Under --quick the first `most` items, else all of them."""
    return items[:most] if args.quick else items


# --- series (lessons 03, 06); lesson 03 repairs ten rows by hand ----------------------

OBVIOUS_COLUMN = {"sunspots": "Sunspots", "stock": "close"}
# Names of columns that hold whole dates; of those that do if there is no better one.
DATE_COLUMNS = (
    "date",
    "datetime",
    "date time",
    "date_time",
    "timestamp",
    "datum",
    "ds",
)
DATE_COLUMNS += ("unix", "epoch")
LESS_LIKELY = ("time", "ts", "month", "day", "week", "year", "hour")
FIRST_YEAR, LAST_YEAR = 1000, 9000  # a picture of others would not fit its axis


def sine_series(n=2000, period=50, noise_std=0.2):
    """A sine plus Gaussian noise of known variance: the best forecast errs by the noise.

    Returns (series, noise), two pandas.Series of `n` values on the same dates.  Both
    are fixed: neither depends on --seed.
    """
    import pandas as pd

    noise = noise_std * np.random.default_rng(20240101).standard_normal(n)
    values = np.sin(2 * np.pi * np.arange(n) / period) + noise
    dates = pd.date_range("2000-01-01", periods=n, freq="D", name="date")
    return pd.Series(values, dates, name="sine"), pd.Series(noise, dates, name="noise")


def simulated_prices(n=2500, drift=2e-4, volatility=0.01):
    """A made-up price: a geometric random walk by business day.  No market is in it."""
    import pandas as pd

    steps = drift + volatility * np.random.default_rng(20240102).standard_normal(n)
    dates = pd.date_range("2000-01-03", periods=n, freq="B", name="date")
    return pd.Series(100 * np.exp(np.cumsum(steps)), dates, name="simulated")


def load_series(args, source):
    """The series of `--dataset`, `--input` and `--column`, repaired: (series, said).

    The series is a pandas.Series of finite floats on rising dates, each date once,
    named after its column.  `said`: sentences about what `repair_series` found; print
    them.  Raises UserError if the data cannot be read as a series, or never change.
    """
    if source.name == "sine":
        series = sine_series()[0]
    elif source.name == "simulated":
        series = simulated_prices()
    else:
        column = args.column or OBVIOUS_COLUMN.get(source.name)
        dates = getattr(args, "date_column", None)
        return repair_series(read_series(source.path, column, dates))
    if args.column not in (None, series.name):
        raise UserError(
            f"data set '{source.name}' has one column, '{series.name}'; drop --column"
        )
    return repair_series(series)


def read_series(path, column=None, date_column=None):
    """One column of a CSV file by its dates, in file order and unrepaired.

    The dates are date_column, else found by `find_dates`; column: None takes the only
    column of numbers.  An empty cell, or inf, becomes NaN.  Rows at the top or the end
    that hold neither a date nor a number (titles, footers) are left out.  Returns a
    pandas.Series; its attrs["said"] are sentences on how the file was read.  Raises
    UserError about the first cell that does not fit, or where a choice is open.
    """
    import pandas as pd

    frame, said = read_table(path)
    cells, used, obvious = find_dates(path, frame, date_column)
    if len(used) > 1:
        said.append(f"the dates are put together from {', '.join(used)}")
    choices = frame.drop(columns=used)
    numeric = list(choices.columns)
    if len(numeric) > 1:
        numeric = [name for name in choices if _looks_like(choices[name], "number")]
    name = find_column(path, frame, column or obvious, numeric, "--column", "numbers")
    if name in used:
        raise UserError(f"{path}: '{name}' holds the dates; name another with --column")
    dates, about_dates = to_dates(cells, path)
    numbers, strange, about_numbers = to_numbers(frame[name], path)
    said += about_dates + about_numbers

    # From the first row that has a date or a number to the last: what stands before and
    # after are titles and footers.  In between, every cell must fit.
    empty = dates.isna() & numbers.isna() & (strange | frame[name].eq(""))
    filled = np.flatnonzero(~empty)
    if len(filled) == 0:
        raise UserError(f"{path} has no row with a date and a number")
    kept = frame.index.isin(range(filled[0], filled[-1] + 1))
    if not kept.all():
        said.append(f"rows without a date and a number, left out: {(~kept).sum()}")
    refuse_cells(path, cells, dates.isna() & kept, "a date; write it as 2000-12-31")
    outside = (dates.dt.year < FIRST_YEAR) | (dates.dt.year > LAST_YEAR)
    years = f"a date of the years {FIRST_YEAR} to {LAST_YEAR}; correct it"
    refuse_cells(path, cells, outside & kept, years)
    refuse_cells(path, frame[name], strange & kept, "a number")

    index = pd.DatetimeIndex(dates[kept], name="date")
    series = pd.Series(numbers[kept].to_numpy(), index, name=name)
    _refuse_several_series(path, series)
    series.attrs["said"] = said + _about_codes(series)
    return series


def find_dates(path, frame, wanted=None):
    """Where the dates stand: (Series of strings, the columns used, obvious numbers).

    In this order: the column that is `wanted`; a column named Date or the like; Year,
    Month and perhaps Day in columns of their own; a column with a less likely name;
    numbers that can only be year and month (the official file of sunspots, whose fourth
    column is then the obvious one to forecast); the first column that looks like dates.
    """
    if wanted is not None:
        column = find_column(path, frame, wanted, [], "--date-column", "dates")
        return frame[column], [column], None
    names = {column.strip().lower(): column for column in frame.columns}
    whole = [names[name] for name in DATE_COLUMNS if name in names]
    parts = [names[name] for name in ("year", "month", "day") if name in names]
    others = [names[name] for name in LESS_LIKELY if name in names]
    if whole:
        return _join_dates(frame, names, whole[:1])
    if {"year", "month"} <= names.keys():
        return _join_dates(frame, names, parts)
    if others:
        return frame[others[0]], others[:1], None
    # No names at all: 1749;01;1749.042;96.7 can only be year, month, the same once more.
    if list(frame.columns[:4]) == ["1", "2", "3", "4"]:
        year, month, fraction = (to_numbers(frame[c])[0] for c in ("1", "2", "3"))
        if month.between(1, 12).all() and (fraction - year).between(0, 1).all():
            return frame["1"] + "-" + frame["2"], ["1", "2", "3"], "4"
    # No name helps: the first column that looks like dates, else one that is no number
    # (`read_series` then says which cell is no date).
    likely = [c for c in frame if _looks_like(frame[c], "date")]
    likely += [c for c in frame if not _looks_like(frame[c], "number")]
    if not likely:
        raise UserError(
            f"{path} has no column of dates; add one named 'date', or name it with "
            "--date-column"
        )
    return frame[likely[0]], likely[:1], None


def _join_dates(frame, names, used):
    """Dates in one column or in several, with the time of day that stands beside them.

    names: name in lower case -> column.  used: the columns of the date.  "2000", "Feb",
    "7", and in columns Hour and Minute "5" and "30" become 2000-Feb-07 05:30.  Returns
    what `find_dates` returns.
    """
    cells = frame[used[0]]
    for column in used[1:]:  # 2000.0: a whole number in a column that has gaps
        part = frame[column].str.removesuffix(".0").str.zfill(2)
        cells = cells.str.removesuffix(".0") + "-" + part
    clock = names.get("time", names.get("hour"))
    if clock and not cells.str.contains(":").any():
        used_too = [clock]
        times = frame[clock].str.removesuffix(".0")
        if "minute" in names:
            used_too.append(names["minute"])
            times = times + ":" + frame[names["minute"]].str.zfill(2)
        times = times.str.replace(r"^(\d{1,2})$", r"\1:00", regex=True).str.zfill(5)
        if times.str.fullmatch(r"\d{1,2}(:\d\d){1,2}( ?[AaPp][Mm])?").mean() > 0.9:
            cells = cells + " " + times
            used = used + used_too
    return cells.rename(" ".join(used)), used, None


def _refuse_several_series(path, series):
    """UserError if many rows share a date and differ: that is more than one series."""
    shared = series.index.duplicated(keep=False)
    differ = series[shared].groupby(level=0).nunique() > 1
    if series.index.isin(differ.index[differ]).mean() > 1 / 3:
        raise UserError(
            f"{path}: many rows share a date and differ, such as those of "
            f"{differ.index[differ][0]}: keep the rows of one series alone, or call the "
            "column with the time of day 'time'"
        )


# Numbers that often stand for "missing".
CODES = (-99.0, -99.9, -999.0, -999.9, -9999.0, -99999.0, 999.0, 9999.0, 99999.0)


def _about_codes(series):
    """A sentence if a number such as -9999 stands far outside: it may mean "missing"."""
    said = []
    for code in CODES:
        count = int((series == code).sum())
        rest = series[series != code].dropna()
        if not count or rest.empty:
            continue
        # Far outside: below the rest by their whole range, or above by twice it.
        reach = max(rest.max() - rest.min(), 1e-9)
        if code < rest.min() - reach or code > rest.max() + 2 * reach:
            said.append(
                f"cells that hold {code:g}: {count}, far outside the others "
                f"({rest.min():g} to {rest.max():g}): if it means 'missing', empty these "
                "cells; now it counts as a number"
            )
    return said


def repair_series(series):
    """Sort by date, merge repeats, add missing dates, fill gaps: (series, sentences).

    A gap takes the last value before it: a line to the next value would tell the past
    about the future.
    """
    said = list(series.attrs.get("said", []))  # how the file was read
    series.attrs = {}
    if not series.index.is_monotonic_increasing:
        said.append("the dates were not in order: sorted")
    repeats = int(series.index.duplicated().sum())
    if repeats:
        differ = int((series.groupby(level=0).nunique() > 1).sum())
        said.append(
            f"rows that repeat a date: {repeats} (dates with different values: "
            f"{differ}); the value that stands last in the file counts"
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
    """Give a regular series a row (NaN) for each date it lacks: (series, sentences).

    Regular are even steps, months, quarters and years; the last three go by their first
    day.  Trading days are not: weekends and holidays have no price, so none is made up.
    """
    import pandas as pd

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
    starts = {"MS": "M", "QS": "Q", "YS": "Y"}  # pandas' names of steps and of periods
    steps = {
        step: index.to_period(unit).to_timestamp() for step, unit in starts.items()
    }
    if (index[-1] - index[0]) // usual < 2 * len(series):  # seconds of a century: no
        steps = {usual: index, **steps}
    for step, dates in steps.items():
        grid = pd.date_range(dates[0], dates[-1], freq=step, name="date")
        missing = grid.difference(dates)
        # Every date must lie on the grid, once, and half of the grid must be there.
        if dates.is_unique and len(grid) - len(missing) == len(dates) >= len(grid) / 2:
            series = series.set_axis(dates.rename("date")).reindex(grid)
            if not len(missing):
                return series, []
            when = str(missing[0]).removesuffix(" 00:00:00")
            sentence = f"missing dates: {len(missing)}, the first {when}; "
            return series, [sentence + "each takes the value before it"]
    return series, ["the dates are not evenly spaced: taken one after another"]


def check_series(values, length, horizon):
    """UserError unless `values` (n,) can be cut into windows, scaled, split and judged.

    length: T, values a window holds; horizon: the farthest step that is forecast.
    """
    n = len(values)
    enough_windows = math.ceil(2 * (length + horizon) / 0.70) + 1
    enough_targets = int((2 * horizon + 5) / 0.15) + 1
    need = max(20, enough_windows, enough_targets)
    if n < need:
        raise UserError(
            f"the series has {n:,} values, but --sequence-length {length} with "
            f"--horizon {horizon} takes {need:,} or more; lower them, or give a longer "
            "series"
        )
    train = values[: split_by_time(n)[0]]
    farthest = np.abs(values - train.mean()).max()
    if not 1e-60 < train.std() < 1e60 or farthest > 1e12 * train.std():
        raise UserError(
            "the series cannot be scaled: its training span, the first 70 %, never "
            "changes, or a value lies absurdly far from the others; correct it, or "
            "give another series"
        )


# --- labelled texts (lessons 05, 07) -------------------------------------------------


class TextPart(NamedTuple):
    """One part of a labelled text set."""

    texts: list  # N strings, as they were written
    labels: list  # N names of classes
    ids: list  # N arrays of int32: numbers of words, see Reviews.words


class Reviews(NamedTuple):
    """A labelled text set.  Id k is words[k]; len(words) is any word not in training."""

    words: list  # of the training part, by falling count, equal counts alphabetically
    labels: list  # the names of the classes, sorted
    parts: list  # TextPart of training, validation, test


@of_rank_zero
def load_reviews(args, source):
    """Labelled texts of `imdb`, of the sample or of the reader's CSV file -> Reviews.

    imdb: its own test half; a tenth of its training half, by digest of the text, is
    validation.  CSV: 80/10/10 by digest of the words, so that no text stands in two
    parts, not even in other capitals.  --quick leaves 600 texts.  Raises UserError for
    a damaged archive, and for a CSV file that `read_reviews` refuses or that has too
    few texts.
    """
    if source.name == "imdb":
        reviews = remember_imdb(source.path)
        if not args.quick:
            return reviews
        parts = [list(zip(p.texts, p.labels, strict=True)) for p in reviews.parts]
    else:
        columns = (getattr(args, f"{name}_column", None) for name in ("text", "label"))
        rows, said = read_reviews(source.path, *columns)
        if source.name != "sample":
            say_all(said + about_script(text for text, _ in rows))
        # Texts that are the same to the model must not stand in two parts.
        keys = [" ".join(split_words(text)) for text, _ in rows]
        parts = three_parts(rows, keys, source.path)
        if len({label for _, label in parts[0]}) < 2:
            raise UserError(f"{source.path} has too few texts of some label; give more")
    if args.quick:
        parts = [_some(rows, n) for rows, n in zip(parts, QUICK_PARTS, strict=True)]
    return number_words(parts)


def remember_imdb(path):
    """The archive's reviews, numbered, kept on disk by joblib for the next run.

    To cut 50,000 reviews into words takes half a minute.  The cache lies in the user's
    own cache folder; if that cannot be written to, every run does the work anew.
    """
    import joblib
    import pooch

    folder = pooch.os_cache("rnn-tutorials")
    # Another archive, rule for words, Python or version of the code is numbered anew.
    known_by = (pooch.file_hash(str(path)), _WORD.pattern, sys.version_info[:2])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return number_imdb(path, known_by)
    memory = joblib.Memory(folder, verbose=0)
    return memory.cache(number_imdb, ignore=["path"])(path, known_by)


def number_imdb(path, known_by):
    """The reviews of the archive, numbered.  known_by: what the cache depends on."""
    print(f"Reading {path.name} for the first time; later runs find it in a cache")
    return number_words(read_imdb(path))


def read_reviews(path, text_column=None, label_column=None):
    """A CSV file of texts and labels: (list of (text, label), both str; sentences).

    The columns are those named, else the only ones called as in TEXT_NAMES and
    LABEL_NAMES.  Rows without a text or a label are left out and counted.  UserError if
    a column is open, if most rows are not filled in, and for one label only.
    """
    frame, said = read_table(path)
    text = find_column(path, frame, text_column, TEXT_NAMES, "--text-column", "texts")
    label = find_column(
        path, frame, label_column, LABEL_NAMES, "--label-column", "labels"
    )
    if text == label:
        raise UserError(f"{path}: '{text}' cannot hold the texts and the labels")
    if (text, label) != ("text", "label"):
        said.append(f"texts are in column '{text}', labels in column '{label}'")
    filled = (frame[text] != "") & (frame[label] != "")
    if not filled.mean() > 0.5:
        raise UserError(
            f"{path}: most rows lack a text or a label, such as row "
            f"{int(filled.to_numpy().argmin()) + 1} below the header; fill them in"
        )
    if not filled.all():
        said.append(f"rows without a text or a label, left out: {(~filled).sum()}")
    frame = frame[filled]
    counts = Counter(frame[label])
    if len(counts) < 2:
        raise UserError(
            f"{path} has one label only, '{frame[label].iloc[0]}'; it takes two or more"
        )
    common = sorted(counts.most_common(50))
    listed = ", ".join(f"{name} ({count:,})" for name, count in common)
    if len(counts) > len(common):
        listed += f", and {len(counts) - len(common):,} others"
    said.append(f"labels and how often: {listed}")
    return list(zip(frame[text], frame[label], strict=True)), said


def _some(rows, most):
    """`most` of the rows (text, label), in their order: those of smallest digest.

    Not the first rows: a file may hold one class after the other.
    """
    digests = [hashlib.sha256(text.encode()).digest() for text, _ in rows]
    chosen = sorted(range(len(rows)), key=digests.__getitem__)[:most]
    return [rows[i] for i in sorted(chosen)]


def number_words(parts):
    """Three lists of (text, label), training first -> Reviews."""
    counts = Counter()
    split_parts = []
    for k, rows in enumerate(parts):
        texts = tqdm(rows, desc="splitting into words", leave=False, disable=None)
        split_parts.append([split_words(text) for text, _ in texts])
        if k == 0:  # only training says which words there are
            for words in split_parts[0]:
                counts.update(words)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    number = {word: i for i, word in enumerate(words)}
    found = []
    for rows, split in zip(parts, split_parts, strict=True):
        ids = [
            np.array([number.get(word, len(words)) for word in line], np.int32)
            for line in split
        ]
        found.append(TextPart([t for t, _ in rows], [y for _, y in rows], ids))
    labels = sorted({label for rows in parts for _, label in rows})
    return Reviews(words, labels, found)


@contextlib.contextmanager
def reading_download(path):
    """One sentence for whatever a damaged download provokes while it is read."""
    try:
        yield
    except (
        gzip.BadGzipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        UnicodeDecodeError,
    ):
        raise UserError(
            f"{path} is damaged, or another file than it should be; delete it, and the "
            "next run downloads it again"
        ) from None


_REVIEW = re.compile(r"aclImdb/(train|test)/(pos|neg)/([^/]+\.txt)")


def read_imdb(archive):
    """aclImdb_v1.tar.gz -> training, validation, test: three lists of (text, label).

    Nothing is unpacked: labelled reviews are read from the stream, whatever else is in
    it is passed over.  Sorted by file name, so that the classes alternate and the order
    in the archive does not matter.  UserError if it is damaged.
    """
    found = {}  # (half, label, file name) -> text
    progress = tqdm(desc="reading files", leave=False, disable=None)
    with reading_download(archive), gzip.open(archive) as stream, progress:
        with tarfile.open(fileobj=stream, mode="r|") as files:
            while (member := files.next()) is not None:
                files.members = []  # tarfile would keep all of them
                progress.update()
                place = _REVIEW.fullmatch(member.name)
                if place and member.isreg() and member.size < 1_000_000:
                    found[place.groups()] = files.extractfile(member).read().decode()
        while stream.read(1 << 20):  # at its very end gzip checks the whole
            pass
        if len({place[:2] for place in found}) < 4:
            raise EOFError("a half or a label is missing")
    halves = {"train": [], "test": []}
    for half, label, name in sorted(found, key=lambda place: (place[2], place[1])):
        halves[half].append((found[half, label, name], label))
    part_of = split_by_hash((text for text, _ in halves["train"]), (0.9, 0.1, 0.0))
    train = [row for row in halves["train"] if part_of[row[0]] == 0]
    val = [row for row in halves["train"] if part_of[row[0]] == 1]
    return [train, val, halves["test"]]


# --- pairs of texts (lessons 08, 09) --------------------------------------------------


def load_pairs(args, source):
    """Pairs of `multi30k`, of the sample or of the reader's file: training, val, test.

    Three lists of (source, target), both str.  multi30k: its own parts.  The sample:
    its last tenth is test, the tenth before it validation, because its test pairs
    combine words that never met in training.  Else 80/10/10 by digest of the words of
    the source side.  Raises UserError like read_pairs.
    """
    if source.name == "multi30k":
        names = ("train", "val", "test_2016_flickr")
        parts = [_read_two_files(source.path / name) for name in names]
    else:
        rows, said = read_pairs(source.path)
        if source.name == "sample":
            first, second = round(0.8 * len(rows)), round(0.9 * len(rows))
            parts = [rows[:first], rows[first:second], rows[second:]]
        else:
            say_all(said + about_script(text for pair in rows for text in pair))
            keys = [" ".join(split_pair(given)) for given, _ in rows]
            parts = three_parts(rows, keys, source.path)
    return [
        capped(args, rows, most) for rows, most in zip(parts, QUICK_PARTS, strict=True)
    ]


def read_pairs(path):
    """Lines of source, tab, target: (list of (source, target), both str; sentences).

    Further columns, where every line has them, are left out (downloads carry licences
    there), and so are lines with an empty side.  A file that ends in .csv is a table
    whose first two columns are meant.  UserError names a line with another number of
    columns than the first.
    """
    said = []
    if Path(path).suffix.lower() == ".csv":
        frame, said = read_table(path)
        rows = dict(enumerate(frame.to_numpy().tolist(), start=2))
    else:
        lines = enumerate(read_text(path).split("\n"), start=1)
        rows = {number: line.split("\t") for number, line in lines if line.strip()}
    width = len(next(iter(rows.values())))
    for number, row in rows.items():
        if len(row) != width or width < 2:
            raise UserError(
                f"{path}, line {number} has {len(row)} column(s); write a source, one "
                "tab, and a target"
            )
    if width > 2:
        said.append(f"columns after the second, left out: {width - 2}")
    pairs = [(row[0].strip(), row[1].strip()) for row in rows.values()]
    pairs = [pair for pair in pairs if all(pair)]
    if not pairs:
        raise UserError(f"{path} has no line with a source and a target")
    if len(pairs) < len(rows):
        said.append(f"lines with an empty side, left out: {len(rows) - len(pairs)}")
    return pairs, said


def _read_two_files(stem):
    """<stem>.en.gz and <stem>.fr.gz, line k of one belonging to line k of the other."""
    sides = []
    for language in ("en", "fr"):
        path = stem.with_name(f"{stem.name}.{language}.gz")
        with reading_download(path), gzip.open(path, "rt", encoding="utf-8") as file:
            sides.append([line.strip() for line in file])
    if len(sides[0]) != len(sides[1]) or not all(map(all, sides)):
        raise UserError(
            f"the two files {stem}.en.gz and .fr.gz do not belong together line by "
            "line; delete both, and the next run downloads them again"
        )
    return list(zip(*sides, strict=True))


# ====================================================================================
# 3. Vocabulary, padding, batches
# ====================================================================================
#
# Texts become lists of ids by a Vocabulary (opened in lesson 02), lists of unequal
# length become one tensor by `pad`, and `length_mask` tells real from padding (both
# opened in lesson 01).  `Batches` hands out an epoch, batch by batch.

PAD, UNK, BOS, EOS = "<pad>", "<unk>", "<bos>", "<eos>"
PAD_ID, UNK_ID, BOS_ID, EOS_ID = 0, 1, 2, 3  # where a vocabulary has all four


class Vocabulary:
    """Tokens and their ids, in both directions.  An id is a token's place in `tokens`."""

    def __init__(self, tokens):
        self.tokens = list(tokens)
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self.ids) != len(self.tokens):
            raise UserError("a vocabulary cannot hold the same token twice")

    @classmethod
    def build(cls, sequences, specials=(PAD, UNK), min_freq=1, max_size=None):
        """Count tokens in `sequences` (the training split only!) and number them.

        Specials first, then by falling count, equal counts alphabetically: the order of
        torchtext's build_vocab_from_iterator.  min_freq: a rarer token is left out.
        max_size: of all, the specials included, none of which is ever left out.
        """
        counts = Counter()
        for sequence in sequences:
            counts.update(sequence)
        for token in specials:
            counts.pop(token, None)
        ordered = sorted(counts, key=lambda token: (-counts[token], token))
        tokens = [*specials, *(token for token in ordered if counts[token] >= min_freq)]
        if max_size:
            tokens = tokens[: max(max_size, len(specials))]
        return cls(tokens)

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
        """Tokens -> list of ids."""
        return [self[token] for token in tokens]

    def decode(self, ids):
        """Ids -> list of tokens."""
        return [self.tokens[i] for i in ids]


def pad(sequences, value=0):
    """Sequences of ids of unequal length -> ids (N, T) filled up with `value`, (N,).

    The second result holds their lengths, on the CPU.  T is the longest of them.
    """
    lengths = [len(sequence) for sequence in sequences]
    ids = np.full((len(lengths), max(lengths, default=0)), value, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : lengths[row]] = sequence
    return torch.from_numpy(ids), torch.tensor(lengths, dtype=torch.long)


def length_mask(lengths, width, device=None):
    """Lengths (B,) -> mask (B, width): True where there is a real item, False on padding."""
    return torch.arange(width, device=device) < lengths.to(device).unsqueeze(1)


def reverse_padded(x, lengths):
    """x (B, T, ...): the real items of each row in reverse order, padding where it was.

    lengths 3, T 5: the places 2 1 0 3 4 are read.  Opened in lesson 07.
    """
    steps = torch.arange(x.shape[1], device=x.device)  # (T,)
    from_end = lengths.to(x.device).unsqueeze(1) - 1 - steps  # (B, T), < 0 on padding
    places = torch.where(from_end < 0, steps, from_end)  # (B, T)
    places = places.view(places.shape + (1,) * (x.dim() - 2))  # (B, T, 1, ...)
    return torch.take_along_dim(x, places, dim=1)  # (B, T, ...)


def bucketed_order(lengths, batch_size, shuffle, pool=50):
    """Split range(N) into batches of similar length: a list of index tensors.

    Shuffled: cut a random order into pools of `pool` batches, sort each pool by length,
    cut it into batches, shuffle the batches.  So an epoch is random, yet little of a
    batch is padding.  Not shuffled: sorted by length throughout, the same every time.
    """
    if not shuffle:
        return list(torch.argsort(lengths, stable=True).split(batch_size))
    batches = []
    for part in torch.randperm(len(lengths)).split(batch_size * pool):
        by_length = part[torch.argsort(lengths[part], stable=True)]
        batches.extend(by_length.split(batch_size))
    return [batches[i] for i in torch.randperm(len(batches)).tolist()]


class Batches:
    """Batches out of tensors that were made once.  Each pass over it is one epoch.

    data: name -> (N, ...) tensor.  Where `x` comes with `x_length`, a batch's x is cut
    to its longest row, and `bucket="x"` puts rows of similar length together.  Lengths
    stay on the CPU, where packing wants them; all else lies on `device` from the start.
    A batch also holds `index`, the rows it was made of.
    """

    def __init__(self, data, batch_size, device="cpu", shuffle=False, bucket=None):
        self.lengths = {k: v for k, v in data.items() if k.endswith("_length")}
        self.data = {k: v.to(device) for k, v in data.items() if k not in self.lengths}
        self.n = len(next(iter(data.values())))
        self.batch_size = batch_size
        self.device = device
        self.shuffle = shuffle
        self.bucket = bucket

    def __len__(self):
        return math.ceil(self.n / self.batch_size)

    def order(self):
        """The rows of each batch of one epoch: a list of index tensors."""
        if self.bucket:
            lengths = self.lengths[f"{self.bucket}_length"]
            return bucketed_order(lengths, self.batch_size, self.shuffle)
        rows = torch.randperm(self.n) if self.shuffle else torch.arange(self.n)
        return rows.split(self.batch_size)

    def __iter__(self):
        for number, index in enumerate(self.order(), start=1):
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
            batch[name] = tensor.index_select(0, there)  # one gather, no loop
        batch["index"] = index
        return batch


# --- words of reviews (lessons 05, 07) --------------------------------------------------

# Scripts that put no space between words: here one character is one word.
_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
UNSPACED = regex.compile(rf"[{_SCRIPTS}]")
# What words are made of: letters, digits, and the marks that stand on letters (\p{M}),
# without which a Hindi word would fall to pieces.
_LETTER = rf"[[\w\p{{M}}\p{{N}}]--[{_SCRIPTS}]]"
_SINGLE = rf"[{_SCRIPTS}]\p{{M}}*"
_MARK = r"[^\w\s\p{M}\p{N}]"
# A word with its apostrophes (don't), or one mark that is neither word nor space.
_WORD = regex.compile(rf"{_SINGLE}|{_LETTER}+(?:'{_LETTER}+)*|{_MARK}", regex.V1)
_ASCII_WORD = re.compile(r"\w+(?:'\w+)*|[^\w\s]")


def split_words(text):
    """Words in lower case ("don't" is one), and each punctuation mark by itself."""
    text = text.lower().replace("<br />", " ")  # the line break of a web page
    text = text.replace("’", "'")
    if text.isascii():  # the same words, three times as fast
        return _ASCII_WORD.findall(text)
    return _WORD.findall(text)


def check_texts(texts):
    """UserError unless each text of --predict holds a word and is Unicode."""
    for text in texts:
        worded = re.search(r"\w", " ".join(split_words(text)))
        if not worded or any("\ud800" <= c <= "\udfff" for c in text):
            raise UserError("--predict takes texts of one word or more, in UTF-8")


def say_unknown(words, vocabulary):
    """Print which words of a reader's text training never saw, or too seldom."""
    unknown = [word for word in dict.fromkeys(words) if word not in vocabulary]
    if unknown:
        listed = ", ".join(unknown[:10]) + (", ..." if len(unknown) > 10 else "")
        print(f"  not in the vocabulary, so all read as {UNK}: {listed}")


def review_vocabulary(reviews, max_vocab):
    """Vocabulary: <pad>, <unk>, the most frequent words of training, max_vocab in all."""
    return Vocabulary([PAD, UNK, *reviews.words[: max(max_vocab - 2, 0)]])


def shorten(ids, max_length, keep="both"):
    """What stays of a long text: its "start", its "end", or half of "both"."""
    if len(ids) <= max_length:
        return ids
    head = {"both": (max_length + 1) // 2, "start": max_length, "end": 0}[keep]
    tail = max_length - head
    return np.concatenate([ids[:head], ids[len(ids) - tail :]])


def encode_reviews(part, size, max_length, keep="both"):
    """A TextPart -> {"text": (N, T) int64 filled up with 0, "text_length": (N,)}.

    size: that of a `review_vocabulary`; rarer words become <unk>.  max_length, keep:
    see `shorten`.  A text without words becomes one <unk>, so no length is 0.
    """
    rows = []
    for ids in part.ids:
        kept = shorten(ids, max_length, keep)
        row = np.where(kept < size - 2, kept + 2, UNK_ID)  # <pad> and <unk> come first
        rows.append(row if len(row) else [UNK_ID])
    text, lengths = pad(rows)
    return {"text": text, "text_length": lengths}


def encode_texts(texts, vocabulary, max_length, keep="both"):
    """New texts, N strings, as `encode_reviews` encodes those of a TextPart."""
    ids = [np.array(vocabulary.encode(split_words(text)), int) - 2 for text in texts]
    ids = [np.where(row < 0, len(vocabulary), row) for row in ids]  # <unk>
    return encode_reviews(TextPart(texts, [], ids), len(vocabulary), max_length, keep)


# --- pieces of words: byte-pair encoding (lessons 02, 09); opened in lesson 02 -------------


def merge_pair(pieces, pair):
    """Join `pair` wherever it stands in a list of pieces: a b c b c, (b, c) -> a bc bc."""
    merged = []
    place = 0
    while place < len(pieces):
        here = tuple(pieces[place : place + 2])
        merged.append(pair[0] + pair[1] if here == pair else pieces[place])
        place += 2 if here == pair else 1
    return merged


def learn_merges(cut, counts, how_many, min_freq=2):
    """The pairs of pieces to join, the most frequent first: [((left, right), count), ...].

    Sennrich et al. (2016).  cut: word -> its smallest pieces.  counts: word -> how often
    it occurs.  Of equally frequent pairs, the first by the alphabet is joined; one that
    occurs fewer than min_freq times is not.  After each merge only the words that hold
    the pair are counted anew: so this is fast, and lesson 02's own version is not.
    """
    cut = dict(cut)
    pairs = Counter()
    holders = defaultdict(set)  # pair -> the words that hold it, or held it
    for word in cut:
        for pair in pairwise(cut[word]):
            pairs[pair] += counts[word]
            holders[pair].add(word)
    # A heap gives its least entry at once, so counts stand in it with a minus.  What has
    # changed is put in again; an entry whose count is no longer true is passed over.
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(heap)
    learnt = []
    while len(learnt) < how_many and heap:
        count, best = heapq.heappop(heap)
        if -count != pairs[best]:  # no longer true
            continue
        if -count < min_freq:  # all others are rarer still
            break
        learnt.append((best, -count))
        changed = set()  # pairs whose count has changed
        # A word may have lost the pair to an earlier merge.  No harm: what is taken away
        # here is then added again.
        for word in holders.pop(best):
            for pair in pairwise(cut[word]):
                pairs[pair] -= counts[word]
                changed.add(pair)
            cut[word] = merge_pair(cut[word], best)
            for pair in pairwise(cut[word]):
                pairs[pair] += counts[word]
                holders[pair].add(word)
                changed.add(pair)
        for pair in changed:
            heapq.heappush(heap, (-pairs[pair], pair))
    return learnt


class Merges:
    """Cuts new words by merges: of all learnt pairs in it, the earliest joins first.

    merges: pairs in the order in which they were learnt.  smallest: a function that cuts
    a word into its smallest pieces.
    """

    def __init__(self, merges, smallest):
        self.smallest = smallest
        self.known = {}  # word -> its pieces: the same wherever it stands
        self.ranks = {}  # pair -> how early it was learnt
        for rank, pair in enumerate(merges):
            self.ranks.setdefault(tuple(pair), rank)  # learnt twice: the first stays

    def cut(self, words):
        """The pieces of all these words, one list."""
        tokens = []
        for word in words:
            if word not in self.known:
                self.known[word] = self.cut_word(word)
            tokens.extend(self.known[word])
        return tokens

    def cut_word(self, word):
        """Join the earliest learnt pair in the word, again and again."""
        pieces = self.smallest(word)
        while True:
            learnt = [pair for pair in pairwise(pieces) if pair in self.ranks]
            if not learnt:
                return pieces
            pieces = merge_pair(pieces, min(learnt, key=self.ranks.get))


# --- words of pairs (lessons 08, 09) ----------------------------------------------------

# A word that ends in an apostrophe (l'), a number (1,000.5), a word, or one mark.
_PAIR_WORD = regex.compile(
    rf"{_SINGLE}|{_LETTER}+'(?={_LETTER})|\d+(?:[.,]\d+)+|{_LETTER}+|{_MARK}", regex.V1
)
_CLOSING = set(".,!?;:)]}%…。，、！？；：）」』》")  # no space before them, as a rule
_OPENING = set("([{¿¡（「『《")  # no space after them
# What a word list holds where a text does not follow the rules of `_spaces`.
GLUE, SPACE = "⁀", "␣"


def split_pair(text):
    """Words in lower case, of a sentence to translate; "l'homme" is two, l' and homme.

    Where the text has a space, or none, against the rules of `_spaces`, SPACE or GLUE
    stands in between: so `join_words` can put every text together as it was.
    """
    text = text.lower().replace("’", "'").replace(GLUE, " ").replace(SPACE, " ")
    found = list(_PAIR_WORD.finditer(text))
    words = [match.group() for match in found]
    rules = _spaces(words)
    marked = words[:1]
    for k in range(1, len(words)):
        space = found[k - 1].end() < found[k].start()
        if space != rules[k]:
            marked.append(SPACE if space else GLUE)
        marked.append(words[k])
    return marked


def join_words(words):
    """Words of `split_pair` back to plain text, the first letter a capital."""
    real = []  # the words without marks
    said = {}  # place of a word -> whether a space stands before it
    for word in words:
        if word in (GLUE, SPACE):
            said[len(real)] = word == SPACE
        else:
            real.append(word)
    spaces = _spaces(real)
    text = ""
    for k, word in enumerate(real):
        text += " " * (k > 0 and said.get(k, spaces[k])) + word
    return text[:1].upper() + text[1:]


def _spaces(words):
    """For each word whether, as a rule, a space stands before it."""
    joined = set()  # places without a space, around a hyphen or slash: x-ray, and/or
    for k in range(1, len(words) - 1):
        letters = words[k - 1][-1:].isalnum() and words[k + 1][:1].isalnum()
        if words[k] in ("-", "/") and letters:
            joined |= {k, k + 1}
    spaces = []
    for k, word in enumerate(words):
        before = words[k - 1] if k else ""
        glued = (
            word in _CLOSING
            or before in _OPENING
            or (before.endswith("'") and len(before) > 1)  # l'homme
            or (UNSPACED.match(word) and UNSPACED.match(before))
            or k in joined
        )
        spaces.append(k > 0 and not glued)
    return spaces


def pair_vocabularies(train, min_freq=2):
    """Two Vocabulary, of sources and of targets, of the training pairs alone.

    Each begins with <pad>, <unk>, <bos> and <eos>: 0, 1, 2, 3.
    """
    specials = (PAD, UNK, BOS, EOS)
    sources = [split_pair(given) for given, _ in train]
    targets = [split_pair(wanted) for _, wanted in train]
    return [
        Vocabulary.build(sources, specials, min_freq),
        Vocabulary.build(targets, specials, min_freq),
    ]


def pair_feeds(source, train):
    """What feeds a model of pairs, saved beside it: its data set and its lists of words.

    Of 10,000 training pairs or more, words that stand there once are left out.
    """
    least = 2 if len(train) >= 10_000 else 1
    source_words, target_words = pair_vocabularies(train, least)
    return {
        "dataset": source.name,
        "source_words": source_words.tokens,
        "target_words": target_words.tokens,
    }


def encode_pairs(pairs, vocabularies, max_length, cut=split_pair):
    """(source, target) texts -> tensors for `Batches(..., bucket="source")`.

    source (N, Ts), source_length (N,); target (N, Tt), target_length (N,), all filled
    up with 0.  Of each side the first max_length words stay; after those of the target
    comes <eos>, which its length counts.  A source without words becomes one <unk>, so
    no length is 0.  cut: another function that makes a list of tokens from a text.
    """
    sources = []
    targets = []
    for given, wanted in pairs:
        given_words = cut(given)[:max_length] or [UNK]
        wanted_words = [*cut(wanted)[:max_length], EOS]
        sources.append(vocabularies[0].encode(given_words))
        targets.append(vocabularies[1].encode(wanted_words))
    source, source_length = pad(sources)
    target, target_length = pad(targets)
    return {
        "source": source,
        "source_length": source_length,
        "target": target,
        "target_length": target_length,
    }


# ====================================================================================
# 4. Training and checkpoints
# ====================================================================================
#
# A lesson gives `fit` and `evaluate` one function of its own,
#
#     measure(model, batch) -> {"loss": (M,), "accuracy": (M,), ...}
#
# with one value for each of the M real items of the batch (a text, a word, a character;
# padding is none).  Training lowers the mean of "loss" over all items.  Every average
# is one sum over all items divided by their number, never a mean of means: a last batch
# of three items must not count as much as a full one.
#
# The loop is written out by hand in lesson 04, which shows that it ends with the same
# weights as `fit`.

# Flags that change neither the model, nor the data, nor the course of training.
FREE_FLAGS = {"device", "threads", "data_dir", "out_dir", "no_plots", "path"}
FREE_FLAGS |= {"resume", "save_model", "eval_only", "predict", "forecast", "prompt"}
FREE_FLAGS |= {"temperature", "top_k", "top_p", "beam_size"}

_KEPT = {}  # "path": the training state that this run has written or gone on from


def autocast(args):
    """`--precision bf16`: matrix products in bfloat16, half the bytes of float32."""
    device = torch.device(args.device).type
    return torch.autocast(device, torch.bfloat16, enabled=args.precision == "bf16")


def prepare_precision(args):
    """Let `--precision bf16` work on processors without such products, and say so.

    PyTorch hands an LSTM on the CPU to oneDNN, which refuses bfloat16 where the processor
    does not know it.  Without oneDNN PyTorch computes it itself, slowly.
    """
    torch.backends.mkldnn.enabled = True
    if args.precision != "bf16" or args.device != "cpu":
        return
    try:
        with autocast(args), torch.no_grad():
            nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
    except RuntimeError:
        torch.backends.mkldnn.enabled = False
        print("This processor does not know bf16: it will be slower than fp32 here.")


def sparse_weights(model):
    """The weights whose gradient is sparse: of nn.Embedding(..., sparse=True)."""
    tables = [part for part in model.modules() if isinstance(part, nn.Embedding)]
    return [table.weight for table in tables if table.sparse]


def make_optimizer(parameters, args, sparse=()):
    """`--optimizer`: AdamW (without weight decay it is Adam), or SGD with momentum.

    sparse: those of the parameters that have a sparse gradient; see `WithSparse`.
    """
    settings = {"lr": args.lr, "weight_decay": args.weight_decay}
    known = {id(weight) for weight in sparse}
    dense = [weight for weight in parameters if id(weight) not in known]
    if args.optimizer == "sgd":
        optimizer = torch.optim.SGD(dense, momentum=0.9, **settings)
    else:
        optimizer = torch.optim.AdamW(dense, **settings)  # Loshchilov and Hutter, 2019
    if sparse:
        return WithSparse(optimizer, torch.optim.SparseAdam(list(sparse), lr=args.lr))
    return optimizer


class WithSparse(torch.optim.Optimizer):
    """Two optimizers that act as one: any for most weights, SparseAdam for the rest.

    Adam moves every row of a table at each step, also the rows that the batch has not
    used, as long as their running means remember a gradient.  SparseAdam moves those
    alone that the batch has used.  It knows no weight decay.
    """

    # A subclass, because schedules ask for an Optimizer.  Groups and state are kept by
    # the two, so the base class has nothing to set up.
    def __init__(self, dense, sparse):
        self.dense = dense
        self.sparse = sparse
        self.defaults = dense.defaults

    @property
    def param_groups(self):
        """What a schedule changes: the groups of both."""
        return self.dense.param_groups + self.sparse.param_groups

    def zero_grad(self, set_to_none=True):
        self.dense.zero_grad(set_to_none)
        self.sparse.zero_grad(set_to_none)

    def step(self, closure=None):
        self.dense.step()
        self.sparse.step()

    def state_dict(self):
        return {"dense": self.dense.state_dict(), "sparse": self.sparse.state_dict()}

    def load_state_dict(self, state):
        self.dense.load_state_dict(state["dense"])
        self.sparse.load_state_dict(state["sparse"])


def make_scheduler(optimizer, steps, args):
    """One cycle: in a quarter of all steps up to --lr, then down to nothing (Smith, 2018)."""
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=args.lr,
        total_steps=max(steps, 5),  # at 4, PyTorch divides by zero
        pct_start=0.25,
        cycle_momentum=False,
    )


class Averages:
    """Adds up what `measure` returns: means over all items, of all batches and ranks."""

    def __init__(self):
        self.sums = {}
        self.items = 0

    def add(self, values, counts=True):
        """values: name -> (M,).  counts: False for rows that another rank counts."""
        for name, value in values.items():
            total = value.detach().sum(dtype=torch.float32) * counts
            # On a CPU as a number: a small tensor that stayed would lie where the next
            # large ones should, and the process would grow at every step.  From a GPU
            # a number would have to be waited for.
            total = total.double() if total.is_cuda else total.item()
            self.sums[name] = self.sums.get(name, 0.0) + total
        self.items += len(value) * counts

    def means(self):
        """name -> mean over all items."""
        *sums, items = sum_over_ranks([*map(float, self.sums.values()), self.items])
        return {k: v / max(items, 1) for k, v in zip(self.sums, sums, strict=True)}


@contextlib.contextmanager
def answering(model, args):
    """Within it no dropout and no gradient; afterwards the model is as it was."""
    was_training = model.training
    model.eval()
    with torch.no_grad(), autocast(args):
        yield
    model.train(was_training)


def evaluate(model, measure, batches, args):
    """name -> mean of what `measure` returns, over all real items of `batches`."""
    averages = Averages()
    with answering(model, args):
        for batch in batches:
            rows, counts = own_rows(batch)
            averages.add(measure(model, rows), counts)
    return averages.means()


def collect(model, forward, batches, args):
    """forward(model, batch) of every row, (N, ...) on the CPU, in the order of the data."""
    outputs = []
    rows = []
    with answering(model, args):
        for batch in batches:
            outputs.append(forward(model, batch).float().cpu())
            rows.append(batch["index"])
    return torch.cat(outputs)[torch.cat(rows).argsort()]


def backward_mean(model, measure, group, averages, args):
    """Leave the gradient of the mean loss over all items of a group of batches in .grad."""
    items = 0
    alone = len(group) == 1 and not in_ranks()
    for number, batch in enumerate(group, start=1):
        rows, counts = own_rows(batch)
        # Ranks exchange gradients in the last backward of a group, and only there.
        together = number == len(group) or not in_ranks()
        with contextlib.nullcontext() if together else model.no_sync():
            with autocast(args):
                values = measure(model, rows)
            loss = values["loss"].mean() if alone else values["loss"].sum() * counts
            loss.backward()
        averages.add(values, counts)
        items += len(values["loss"]) * counts
    if not alone:
        # The gradient of a sum becomes that of a mean.  Of several ranks,
        # DistributedDataParallel has left the mean of their sums.
        items = sum_over_ranks([items])[0] / ranks()
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= items


def train_epoch(model, measure, train, optimizer, scheduler, args, number):
    """One pass over `train`; returns the epoch's means and gradient norms."""
    model.train()
    seed_epoch(args.seed, number)
    # What is clipped: all but tables with a sparse gradient, which has no norm to take.
    sparse = {id(weight) for weight in sparse_weights(model)}
    parameters = [p for p in model.parameters() if id(p) not in sparse]
    parameters = [p for p in parameters if p.requires_grad]
    clip = args.clip or math.inf  # infinity: measure the norm, clip nothing
    averages = Averages()
    norms = []
    hide = True if rank() > 0 else None  # None: shown on a terminal alone
    title = f"epoch {number}/{args.epochs}"
    progress = tqdm(train, desc=title, leave=False, disable=hide, total=len(train))
    batches = draw_by_rank(progress)
    # `--accumulate` batches make one step; the last step may have fewer.
    while group := list(itertools.islice(batches, args.accumulate)):
        optimizer.zero_grad()
        backward_mean(model, measure, group, averages, args)
        norm = nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        scheduler.step()
        norms.append(norm if norm.is_cuda else norm.item())
    norms = torch.tensor(norms) if norms else torch.zeros(1)
    return {
        **averages.means(),
        "grad_norm": norms.mean().item(),
        "max_grad_norm": norms.max().item(),
    }


def is_better(record, best, monitor):
    """Whether this epoch's `monitor` beats the best so far: losses low, all else high."""
    if best is None:
        return True
    if monitor.endswith("loss"):
        return record[monitor] < best[monitor]
    return record[monitor] > best[monitor]


def copy_weights(model):
    """A copy of the weights that later training does not change."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def fit(
    model,
    measure,
    train,
    val,
    args,
    config=None,
    feeds=None,
    monitor="val_loss",
    after_epoch=None,
):
    """Train the model; at the end the weights of its best epoch are put back.

    train, val: Batches, or anything with len() that can be iterated anew every epoch.
    config, feeds: what `save` writes beside the weights.  Without a config this is a
    side experiment: it prints nothing and leaves no file.
    monitor: what is best on validation.  after_epoch(record): called after each epoch.
    Returns the records, one dict an epoch: means on train, the same on validation with
    "val_" before their names, norms of the gradient, seconds.
    Raises Diverged when the loss is no longer a number, UserError when --resume does
    not fit.  Under torchrun all ranks but the first end here.
    """
    optimizer = make_optimizer(model.parameters(), args, sparse_weights(model))
    steps = args.epochs * math.ceil(len(train) / args.accumulate)
    scheduler = make_scheduler(optimizer, steps, args)
    records = []
    best = None
    best_weights = copy_weights(model)
    state_file = Path(args.out_dir) / "last.pt"
    parts = {"current": model, "optimizer": optimizer, "scheduler": scheduler}
    if config and args.resume:
        state = load_state(state_file, parts, args, config, feeds)
        best_weights = state["model"]
        records = state["training"]["records"]
        best = state["training"]["best"]
        print(f"Resuming after epoch {len(records)} from {state_file}")
    trained = share_gradients(model)
    while len(records) < args.epochs:
        if best and 0 < args.patience <= len(records) - best["epoch"]:
            break  # early stopping
        number = len(records) + 1
        start = time.perf_counter()
        averages = train_epoch(
            trained, measure, train, optimizer, scheduler, args, number
        )
        release_memory()  # batches of many lengths leave gaps, and gaps add up
        loop_seconds = time.perf_counter() - start
        scores = evaluate(trained, measure, val, args)
        release_memory()
        record = {"epoch": number, **averages}
        record.update({f"val_{name}": value for name, value in scores.items()})
        record["loop_seconds"] = loop_seconds
        record["seconds"] = time.perf_counter() - start
        # The training loss is taken before each step; val_loss tells of the last step.
        if not math.isfinite(record["loss"] + record["val_loss"]):
            raise Diverged(
                f"the loss is no longer a number in epoch {number}; lower --lr, or clip "
                "the gradient harder (--clip 0.3; the default is 1)"
            )
        records.append(record)
        if is_better(record, best, monitor):
            best = record
            best_weights = copy_weights(model)
        if config:
            print(progress_line(record, args.epochs))
            training = {name: part.state_dict() for name, part in parts.items()}
            training |= {"records": records, "best": best, "flags": shaping_flags(args)}
            save(state_file, args, best_weights, config, feeds, training)
            _KEPT["path"] = state_file
            if args.save_model and best is record:
                save(args.path, args, best_weights, config, feeds)
        if after_epoch:
            after_epoch(record)
    model.load_state_dict(best_weights)
    model.eval()
    if config:
        print(f"Best {monitor} in epoch {best['epoch']}: its weights are kept")
        if args.save_model and args.resume:  # the interrupted run may not have saved it
            save(args.path, args, best_weights, config, feeds)
        leave_ranks()
    seed_epoch(args.seed, args.epochs + 1)  # what follows is the same after --resume
    return records


def progress_line(record, epochs):
    """One line an epoch: its number, then every score, training beside validation."""
    hidden = {"epoch", "loop_seconds", "seconds", "max_grad_norm"}
    scores = "  ".join(f"{k} {v:.4f}" for k, v in record.items() if k not in hidden)
    return f"epoch {record['epoch']:>2}/{epochs}  {scores}  {record['seconds']:.1f}s"


# --- files ------------------------------------------------------------------------------


def write_atomically(path, content):
    """Write bytes so that `path` always holds the old content or the new, never a part."""
    if rank() > 0:
        return
    target = Path(path).resolve()  # a link stays one: what it points to is replaced
    temporary = target.with_name(f"tmp{os.getpid()}.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(
            f"{path} could not be written: {error.strerror or error}"
        ) from None
    finally:
        with contextlib.suppress(OSError):  # it is there only if something went wrong
            temporary.unlink()


def save(path, args, weights, config, feeds, training=None):
    """Write a model: its weights, and what is needed to build and to feed it.

    weights: a state_dict.  config: keyword arguments of the model's class.  feeds: what
    turns data into its input, and its output into answers (a vocabulary, labels), as
    plain lists, numbers and texts.  training: state to go on from, for --resume.
    """
    content = {"lesson": args.lesson, "config": config, "feeds": feeds}
    content |= {"model": weights, "training": training}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getbuffer())


def read_checkpoint(path, args):
    """What `save` wrote for this lesson.  UserError if it is anything else.

    weights_only=True: loading a file from a stranger runs none of its code.
    """
    if not Path(path).is_file():
        raise UserError(
            f"there is no checkpoint {path}; train with --save-model --path {path}"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # one sentence is enough
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except Exception:  # noqa: BLE001  (whatever a damaged or hostile file provokes)
        content = None
    wanted = {"lesson", "config", "feeds", "model", "training"}
    if not isinstance(content, dict) or not wanted <= content.keys():
        raise UserError(
            f"{path} is not a checkpoint of these lessons, or it is damaged; train again"
        )
    if content["lesson"] != args.lesson:
        raise UserError(
            f"{path} belongs to {content['lesson']}, not to {args.lesson}; name another "
            "file with --path"
        )
    return content


# What PyTorch raises when weights, sizes or states are not those that it expects.
UNFITTING = (RuntimeError, TypeError, KeyError, ValueError, AttributeError)


def load(args, build, **same):
    """The model of --path, ready to answer: (model, config, feeds).

    build: its class.  same: entries of feeds that must be as given, such as the data
    set's name.  Raises UserError if the file is missing, foreign, damaged or unfitting.
    """
    content = read_checkpoint(args.path, args)
    for name, value in same.items():
        if content["feeds"].get(name) != value:
            raise UserError(
                f"{args.path} was trained on {name} '{content['feeds'].get(name)}', not "
                f"on '{value}'; give the data and flags of that training"
            )
    try:
        model = build(**content["config"])
        model.load_state_dict(content["model"])
    except UNFITTING:
        raise UserError(
            f"{args.path} does not fit this version of {args.lesson}; train again"
        ) from None
    print(f"The model is that of {args.path}")
    for name, value in content["config"].items():
        if vars(args).get(name, value) != value:
            flag = "--" + name.replace("_", "-")
            print(
                f"  its {flag} is {value}, so {flag} {vars(args)[name]} has no effect"
            )
    return model.to(args.device).eval(), content["config"], content["feeds"]


def shaping_flags(args):
    """The flags that a resumed run must share with the interrupted one, as plain data."""
    return {k: v for k, v in vars(args).items() if k not in FREE_FLAGS}


def load_state(path, parts, args, config, feeds):
    """Put everything back to where an interrupted run left it, for --resume.

    parts: name -> model, optimizer, scheduler.  Returns the file's content.  UserError
    if there is none, or if that run had other flags (--epochs too: it shapes the course
    of the learning rate), data or sizes.
    """
    if not Path(path).is_file():
        raise UserError(
            f"there is nothing to resume: {path} does not exist; drop --resume"
        )
    state = read_checkpoint(path, args)
    training = state["training"]
    if not training:
        raise UserError(f"{path} holds a model but no training state; drop --resume")
    now = shaping_flags(args)
    for flag in sorted(training["flags"].keys() | now.keys()):
        before = training["flags"].get(flag)
        if before != now.get(flag):
            why = " (the course of the learning rate depends on it)"
            raise UserError(
                "--resume needs the flags of the interrupted run: "
                f"--{flag.replace('_', '-')} was {before} and is now {now.get(flag)}"
                f"{why if flag == 'epochs' else ''}; drop --resume to start anew"
            )
    if (state["config"], state["feeds"]) != (config, feeds):
        raise UserError(f"--resume: {path} was made with other data; drop --resume")
    try:
        for name, part in parts.items():
            part.load_state_dict(training[name])
    except UNFITTING:
        raise UserError(
            f"{path} does not fit this version of {args.lesson}; drop --resume"
        ) from None
    _KEPT["path"] = path
    return state


# --- several processes ------------------------------------------------------------------
#
# `torchrun --nproc_per_node=2 LESSON.py` starts a lesson twice, as ranks 0 and 1.  Each
# holds a copy of the model and reads its own rows of every batch; all step by the
# gradient of all rows (PyTorch's DistributedDataParallel), and so the copies stay equal.
# Rank 0 alone prints and writes.  In a lesson started by itself all this does nothing.


def in_ranks():
    """Whether other processes train the same model."""
    return dist.is_available() and dist.is_initialized()


def rank():
    return dist.get_rank() if in_ranks() else 0


def ranks():
    return dist.get_world_size() if in_ranks() else 1


def join_ranks():
    """Under torchrun, meet the other ranks: with gloo on CPUs, NCCL on GPUs."""
    if not dist.is_available() or not dist.is_torchelastic_launched():
        return
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all on this machine
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Who waits for another rank waits for as long as it takes, a download included.
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=datetime.timedelta(days=1)
    )
    if rank() > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def leave_ranks():
    """After training: rank 0 goes on by itself, the others end."""
    if in_ranks():
        number = rank()
        dist.destroy_process_group()
        if number > 0:
            sys.exit(0)


def share_gradients(model):
    """The model for training: under torchrun, backward() takes the mean over ranks."""
    return nn.parallel.DistributedDataParallel(model) if in_ranks() else model


def sum_over_ranks(numbers):
    """A list of numbers -> the sum of each over all ranks, in float64."""
    if not in_ranks():
        return numbers
    totals = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(totals)
    return totals.tolist()


def own_rows(batch):
    """(this rank's rows of the batch: every `ranks()`-th, whether they count).

    All ranks must take part in each step, so one for which no row is left computes the
    first, and counts nothing.  A batch's tensors have one row for each example.
    """
    if not in_ranks():
        return batch, True
    rows = next(len(value) for value in batch.values() if torch.is_tensor(value))
    counts = rank() < rows
    own = slice(rank(), None, ranks()) if counts else slice(1)
    part = {k: v[own] if torch.is_tensor(v) else v for k, v in batch.items()}
    return part, counts


def draw_by_rank(batches):
    """The batches of an epoch, whose order all ranks draw alike; dropout each its own."""
    for number, batch in enumerate(batches):
        if number == 0 and in_ranks():
            torch.manual_seed(torch.initial_seed() + rank())
        yield batch


# --- what several lessons ask of a trained or untrained network ------------------------


def gradient_by_distance(layer, x, loss_of):
    """|dL/d state| after each step, the last step first: how far back learning reaches.

    layer: nn.RNN, nn.LSTM or nn.GRU, batch_first, one layer, one direction.  x: its
    input (B, T, E), no padding.  loss_of(h_T): the loss L, from the last state (B, H).
    The state is what the cell hands on: h, and an LSTM's memory c.  Returns T numbers:
    means over the batch, as multiples of the first.  Lessons 04 and 05.
    """
    state = None
    states = []
    for x_t in x.split(1, dim=1):  # (B, 1, E)
        # NVIDIA's own RNN, cuDNN, keeps nothing for a gradient outside of training.
        with torch.backends.cudnn.flags(enabled=False):
            _, state = layer(x_t, state)
        states.append(state if isinstance(state, tuple) else (state,))  # (1, B, H) each
        for part in states[-1]:
            part.retain_grad()
    loss_of(states[-1][0][0]).backward()
    norms = []
    for parts in reversed(states):
        gradients = [part.grad for part in parts if part.grad is not None]
        norms.append(torch.cat(gradients, dim=-1).norm(dim=-1).mean().item())
    return [norm / (norms[0] or 1.0) for norm in norms]


@torch.no_grad()
def beam_search(advance, state, limits, beam_size=1):
    """Write an answer to each of B sentences, the K = beam_size best beginnings at a time.

    advance(words (R,), state) -> (log p of every next word (R, V), the new state): one
    step of the decoder.  state: a tuple of tensors, one row for each sentence first.
    limits (B,): most words of each answer, <eos> included.
    Each sentence owns K rows, one below the other: K 3, B 2: rows 0 0 0 1 1 1, R = 6.
    Returns a list of B (ids without <eos>, log_p), the best answer to each sentence.
    log_p is the mean over its words, <eos> counted: a sum falls with every word, and
    short answers would win.  K = 1 is greedy search.  Lesson 08 does it on plain lists.
    """
    device = limits.device
    batch = len(limits)
    first = torch.arange(batch, device=device).unsqueeze(1) * beam_size  # (B, 1)
    state = tuple(part.repeat_interleave(beam_size, 0) for part in state)
    limits = limits.unsqueeze(1)  # (B, 1)
    word = torch.full((batch * beam_size,), BOS_ID, device=device)  # (R,)
    written = word.new_zeros(batch * beam_size, 0)  # (R, words so far)
    count = word.new_zeros(batch, beam_size)  # words of each answer
    ended = count.bool()
    # The K rows begin alike.  Only the first may go on, or they would stay alike.
    total = torch.full((batch, beam_size), -math.inf, device=device)
    total[:, 0] = 0.0  # log p of all words so far
    while not ended.all():
        log_p, state = advance(word, state)  # (R, V)
        log_p = log_p.float()
        log_p[:, [PAD_ID, UNK_ID, BOS_ID]] = -math.inf  # nothing that one could write
        log_p = log_p.view(batch, beam_size, -1)  # (B, K, V)
        # A row that has ended has one continuation: padding, which costs nothing.
        log_p = log_p.masked_fill(ended.unsqueeze(2), -math.inf)
        log_p[:, :, PAD_ID].masked_fill_(ended, 0.0)
        totals = total.unsqueeze(2) + log_p  # (B, K, V)
        count = count + ~ended
        means = totals / count.unsqueeze(2)
        best = means.flatten(1).topk(beam_size).indices  # (B, K) of K * V, best first
        parent = best // log_p.shape[2]  # whose continuation it is, 0 ... K - 1
        word = (best % log_p.shape[2]).flatten()  # (R,)
        total = totals.flatten(1).gather(1, best)
        count = count.gather(1, parent)
        ended = ended.gather(1, parent) | (word == EOS_ID).view(batch, -1)
        ended = ended | (count >= limits)
        # Everything of the parent's row moves along, its state too.
        rows = (first + parent).flatten()  # (R,)
        state = tuple(part[rows] for part in state)
        written = torch.cat([written[rows], word.unsqueeze(1)], dim=1)
    found = []
    for ids, log_p in zip(written[::beam_size].tolist(), total / count, strict=True):
        answer = [i for i in ids if i > EOS_ID]
        found.append((answer, log_p[0].item()))
    return found


# ====================================================================================
# 5. Results and pictures
# ====================================================================================
#
# Scores of classifiers, forecasts and translations; the baselines that stand beside
# them; one table, one `write_metrics` at the end of a run; pictures that do nothing
# under --no-plots.


def classification_scores(scores, truth):
    """Accuracy, macro-F1 (F1 of each class, averaged: rare classes count alike), top-3.

    scores (N, C), truth (N,) of class numbers.  Top-3 only where there are more classes.
    """
    from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score

    scores, truth = scores.cpu().numpy(), truth.cpu().numpy()
    answers = scores.argmax(1)
    found = {
        "accuracy": float(accuracy_score(truth, answers)),
        "macro_f1": float(f1_score(truth, answers, average="macro", zero_division=0)),
    }
    classes = range(scores.shape[1])
    if len(classes) > 3:
        top3 = top_k_accuracy_score(truth, scores, k=3, labels=classes)
        found["top3_accuracy"] = float(top3)
    return found


def judge(model, forward, batches, args):
    """`classification_scores` of forward(model, batch), (B, C), against batch["label"]."""
    scores = collect(model, forward, batches, args)  # (N, C), in the order of the data
    return classification_scores(scores, batches.data["label"])


def mcnemar(ours_right, theirs_right):
    """Could chance alone make two classifiers' scores on the same items so unlike?

    ours_right, theirs_right (N,): whether each item was answered rightly.  Only items
    that one of them got right count: if both are equally good, each of those is a toss
    of a coin (McNemar, 1947; the exact binomial test).  Returns (items that only ours
    got right, items that only theirs did, two-sided p).
    """
    from scipy.stats import binomtest

    ours_right = np.asarray(ours_right, dtype=bool)
    theirs_right = np.asarray(theirs_right, dtype=bool)
    only_ours = int((ours_right & ~theirs_right).sum())
    only_theirs = int((theirs_right & ~ours_right).sum())
    if only_ours + only_theirs == 0:
        return 0, 0, 1.0
    p = binomtest(only_ours, only_ours + only_theirs, 0.5).pvalue
    return only_ours, only_theirs, float(p)


def majority_scores(classes, count, labels):
    """The share of each class in `classes`, the same for each of `count` texts: (N, C)."""
    counts = Counter(classes)
    shares = torch.tensor([counts[label] / len(classes) for label in labels])  # (C,)
    return shares.double().expand(count, -1).clone()


def linear_scores(known, classes, asked, labels, **settings):
    """Logistic regression on features `known` (M, F); probabilities (N, C) for `asked`.

    settings: further arguments of LogisticRegression.  ValueError if there is only one
    class, or no feature.
    """
    from sklearn.linear_model import LogisticRegression

    linear = LogisticRegression(max_iter=300, **settings).fit(known, classes)
    scores = torch.zeros(asked.shape[0], len(labels), dtype=torch.double)
    columns = [labels.index(label) for label in linear.classes_]
    scores[:, columns] = torch.from_numpy(linear.predict_proba(asked)).double()
    return scores


def review_baselines(train, asked, labels):
    """Linear models on counts of words: what a sceptic asks of a reader of reviews.

    train, asked: lists of (text, label); fitted on train only.  Returns name -> scores
    of each class for the texts of `asked`, (N, C):
        majority        how common each class is
        tfidf_unigram   words, a word weighing less the more reviews it stands in
        tfidf_bigram    the same, and pairs of neighbours
        ratio_trigram   words, pairs and triples, by their log-count ratio
    Lesson 05 works the last one by hand.
    """
    from sklearn.feature_extraction.text import TfidfTransformer

    release_memory()
    classes = [label for _, label in train]
    # A run that stands in one or two reviews of thousands tells little, and costs time.
    rare = 3 if len(train) > 2000 else 1
    texts = (split_words(text) for text, _ in [*train, *asked])
    counts, length = count_runs(texts, len(train), longest=3, least=min(rare, 2))
    known = counts[: len(train)]  # (M, F)
    asked = counts[len(train) :]  # (N, F)
    texts_with = np.bincount(known.indices, minlength=known.shape[1])  # (F,)
    majority = majority_scores(classes, asked.shape[0], labels)
    found = {"majority": majority}
    for name, longest in (("tfidf_unigram", 1), ("tfidf_bigram", 2)):
        columns = np.flatnonzero((length <= longest) & (texts_with >= rare))
        weights = TfidfTransformer(sublinear_tf=True)
        try:
            weighted = weights.fit_transform(known[:, columns])
            wanted = weights.transform(asked[:, columns])
            found[name] = linear_scores(weighted, classes, wanted, labels, C=10)
        except ValueError:  # nothing to learn from
            found[name] = majority
    columns = np.flatnonzero(texts_with >= 2)
    try:
        found["ratio_trigram"] = ratio_scores(
            known[:, columns], classes, asked[:, columns], labels
        )
    except ValueError:
        found["ratio_trigram"] = majority
    return found


def ratio_scores(known, classes, asked, labels):
    """The scores of Wang and Manning (2012): features times log-count ratio, (N, C).

    known (M, F), asked (N, F): how often each text holds each feature; only whether it
    does is used.  Each class has its ratio, against all others, and a logistic
    regression of its own.  Of two classes one is enough: the other is its opposite.
    """
    from scipy.sparse import diags_array

    known = (known > 0).astype(np.float64)
    asked = (asked > 0).astype(np.float64)
    scores = torch.zeros(asked.shape[0], len(labels), dtype=torch.double)
    for label in labels[1:] if len(labels) == 2 else labels:
        if label not in classes:  # it stands in no training text: its score stays 0
            continue
        is_label = np.array([found == label for found in classes])  # (M,)
        weights = diags_array(log_count_ratio(known, is_label))  # (F, F)
        chances = linear_scores(
            known @ weights, is_label, asked @ weights, [False, True]
        )
        scores[:, labels.index(label)] = chances[:, 1]
    if len(labels) == 2:
        scores[:, 0] = 1 - scores[:, 1]
    return scores


def log_count_ratio(present, is_class):
    """r (F,): above 0 for a feature that is commoner in texts of the class than in others.

    present (M, F): 1 where a text holds a feature, else 0, dense or sparse.  is_class
    (M,): True or False.  With p and q the numbers of texts that hold it, of the class
    and of the others, one added to each: r = log((p / sum p) / (q / sum q)).
    """
    p = 1 + np.asarray(present[is_class].sum(0)).ravel()  # (F,)
    q = 1 + np.asarray(present[~is_class].sum(0)).ravel()  # (F,)
    return np.log(p / p.sum()) - np.log(q / q.sum())


def count_runs(texts, known, longest, least):
    """How often each text holds each run of 1 ... `longest` neighbouring words.

    texts: N lists of words, gone through once.  The first `known` of them say which runs
    there are: those that stand in `least` of them or more.  Returns counts (N, F), a
    sparse matrix, and how many words each run has, (F,).  These are the counts of
    scikit-learn's CountVectorizer, in a third of its time: a run is a number, not a text.
    """
    from scipy.sparse import csr_array, hstack

    number = {}  # of each word
    words = []  # all texts in one row
    lengths = []
    for text in texts:
        words += [number.setdefault(word, len(number)) for word in text]
        lengths.append(len(text))
    words = np.array(words, dtype=np.int64)
    owner = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    owner = np.append(owner, np.full(longest, -1, np.int32))  # behind the end: no text
    starts = np.arange(len(words))  # the places where a run begins
    runs = np.zeros(len(words), dtype=np.int64)  # which run it is; at first, none
    tables = []
    for length in range(1, longest + 1):
        # Lengthen each run by the next word, if its text has one: a run of three is a
        # run of two, which has a number already, and one word more.
        ends = starts + length - 1
        inside = owner[starts] == owner[ends]
        starts = starts[inside]
        longer = runs[inside] * len(number) + words[ends[inside]]
        keys, runs = np.unique(longer, return_inverse=True)
        place = (owner[starts], runs.astype(np.int32))
        shape = (len(lengths), len(keys))
        table = csr_array((np.ones(len(runs)), place), shape=shape)  # repeats add up
        often = np.bincount(table[:known].indices, minlength=len(keys)) >= least
        tables.append(table[:, np.flatnonzero(often)])
        # The others are forgotten, longer ones with them; those left are numbered anew.
        kept = often[runs]
        starts = starts[kept]
        runs = (np.cumsum(often) - 1)[runs[kept]]
    sizes = [table.shape[1] for table in tables]
    return hstack(tables, format="csr"), np.repeat(np.arange(1, longest + 1), sizes)


# --- forecasts (lessons 03, 06); lesson 03 works each on three numbers -------------------


def autocorrelation(values, max_lag):
    """How alike a series is to itself k steps later: (n,) -> r (max_lag + 1,).

    r_k = sum_t (y_t - m)(y_(t+k) - m) / sum_t (y_t - m)^2, m the mean of all values.
    Of white noise, 95 % of r_1, r_2, ... lie within 1.96 / sqrt(n) of zero.
    """
    centred = values - values.mean()
    n = len(values)
    products = [centred[: n - k] @ centred[k:] for k in range(max_lag + 1)]
    return np.array(products) / (products[0] or 1.0)


def find_season(train):
    """Steps of one season of `train` (n1,), None if none shows.

    The lag of the highest peak of the autocorrelation after it first fell below zero,
    if it rises above 4 / sqrt(n1).  (1.96 / sqrt(n1) is the band for one lag: by chance
    the highest of hundreds rises above it, in white noise nearly always.)  A season
    must fit three times into `train`, or a slow rise and fall (stock prices!) would
    pass for one.
    """
    r = autocorrelation(train, len(train) // 3)
    below = np.flatnonzero(r < 0)
    if not len(below):
        return None
    lag = int(below[0] + np.argmax(r[below[0] :]))
    is_peak = below[0] < lag < len(r) - 1  # an end of the range is no peak
    return lag if is_peak and r[lag] > 4 / np.sqrt(len(train)) else None


# In the four forecasts: values (n,); origins (M,), places of the last value that is
# known; steps (S,), how many steps ahead, such as [1, 2, 3].  Each returns (M, S).


def persistence(values, origins, steps):
    """The last value again."""
    return np.repeat(values[origins][:, None], len(steps), axis=1)


def seasonal_naive(values, origins, steps, season):
    """The newest known value that lies whole seasons before the target."""
    steps = np.asarray(steps)
    seasons = 1 + (steps - 1) // season  # so many that the value is known
    return values[origins[:, None] + steps - season * seasons]


def moving_average(values, origins, steps, width):
    """The mean of the last `width` values."""
    sums = np.concatenate([[0.0], np.cumsum(values)])  # sums[i]: of values[:i]
    means = (sums[origins + 1] - sums[origins + 1 - width]) / width  # (M,)
    return np.repeat(means[:, None], len(steps), axis=1)


def best_width(train, longest, step):
    """The width, 2 to `longest`, whose moving average errs least on the training span."""
    origins = np.arange(longest - 1, len(train) - step)
    errors = {}
    for width in range(min(2, longest), longest + 1):
        forecast = moving_average(train, origins, [step], width)[:, 0]
        errors[width] = np.mean((forecast - train[origins + step]) ** 2)
    return min(errors, key=errors.get)


def autoregression(values, n1, n2, longest, horizon):
    """The linear forecast: y_(o+s) = a_s + sum_i b_si y_(o-i), s = 1 ... horizon.

    values (n,); fitted on the targets of the training span values[:n1] that come after
    its first `longest` + 1 values, as those of a network that reads so many.  How many
    values it reads, its order, is chosen on values[n1:n2] for each step.  Returns
    forecasts (n - n1, horizon) from the origins n1 - 1 ... n - 2, and the order one
    step ahead.
    """
    from sklearn.linear_model import LinearRegression

    windows = np.lib.stride_tricks.sliding_window_view
    whole = windows(values[:n1], longest + 1 + horizon)[:, 1:]  # (N, longest + horizon)
    orders = np.unique(np.geomspace(1, longest, 24).round().astype(int))
    truth = values_ahead(values, n1, n2, horizon)  # (M, horizon)
    made = []
    for order in orders:
        read = whole[:, longest - order : longest]
        line = LinearRegression().fit(read, whole[:, longest:])
        known = windows(values[n1 - order : -1], order)  # (n - n1, order)
        made.append(line.predict(known).reshape(-1, horizon))
    made = np.stack(made)  # (orders, n - n1, horizon)
    errors = np.nanmean((made[:, : n2 - n1] - truth) ** 2, axis=1)  # (orders, horizon)
    best = errors.argmin(0)  # (horizon,)
    return made[best, :, np.arange(horizon)].T, int(orders[best[0]])


def values_ahead(values, start, end, horizon):
    """What happened 1 ... horizon steps after each origin, NaN where that is past `end`.

    The origins are start - 1 ... end - 2, M of them; returns (M, horizon).
    values 1 2 3 4, start 1, end 4, horizon 2:   2 3  |  3 4  |  4 NaN
    """
    padded = np.concatenate([values[start:end], np.full(horizon - 1, np.nan)])
    return np.lib.stride_tricks.sliding_window_view(padded, horizon)


def forecast_scores(error, naive_mae):
    """Of errors (M,): MSE, RMSE and MAE in the series' units, and MASE = MAE / naive_mae.

    naive_mae: persistence's mean absolute error, one step ahead, on the training span
    (Hyndman and Koehler, 2006).
    """
    mse = float(np.mean(error**2))
    mae = float(np.abs(error).mean())
    return {"MSE": mse, "RMSE": mse**0.5, "MAE": mae, "MASE": mae / naive_mae}


# --- translations (lessons 08, 09) --------------------------------------------------------


def bleu_scores(answers, references):
    """BLEU of N answers, one reference each, by sacrebleu (Post, 2018), 0 to 100.

    answers, references: lists of str, plain text as one would write it (join tokens
    without spaces before full stops, or the figure is not comparable with others').
    Both figures split words as mteval 13a does (writing without spaces: by character):
    `bleu` after lower-casing, `bleu_13a` with case.  `signature` and `signature_13a`
    are sacrebleu's own: quote them.
    """
    from sacrebleu.metrics import BLEU

    lower = BLEU(lowercase=True, **_bleu_options(references))
    cased = BLEU(**_bleu_options(references))
    return {
        "bleu": lower.corpus_score(answers, [references]).score,
        "bleu_13a": cased.corpus_score(answers, [references]).score,
        "signature": str(lower.get_signature()),
        "signature_13a": str(cased.get_signature()),
    }


def _bleu_options(references):
    """How sacrebleu splits words: as usual (13a), Chinese (zh), or by character."""
    texts = "".join(references[:1000])
    letters = sum(map(str.isalpha, texts))
    if 2 * len(UNSPACED.findall(texts)) <= letters:
        return {"force": True}
    chinese = not regex.search(r"[\p{Hiragana}\p{Katakana}\p{Thai}]", texts)
    return {"force": True, "tokenize": "zh" if chinese else "char"}


def bleu_p_value(answers, others, references):
    """Could chance alone make the BLEU of two systems so unlike?  Their p.

    Paired bootstrap (Koehn, 2004) by sacrebleu: the test sentences are drawn anew, with
    repeats, a thousand times; p is how often the gap between the two, its sign left out,
    exceeds its own mean by more than the gap that was measured.  answers, others,
    references: N texts each.
    """
    from sacrebleu.metrics import BLEU
    from sacrebleu.significance import PairedTest

    if answers == others:
        return 1.0
    systems = [("others", others), ("answers", answers)]
    bleu = {"BLEU": BLEU(lowercase=True, **_bleu_options(references))}
    test = PairedTest(systems, bleu, [references], test_type="bs", n_samples=1000)
    base, ours = test()[1]["BLEU"]
    return float(ours.p_value) if ours.score != base.score else 1.0


def pair_baselines(train, asked, dictionary=None):
    """Answers that take no network, for the sources of `asked`: name -> list of N str.

    train, asked: lists of (source, target).  `copy` repeats the source.  `dictionary`
    translates each word by the target word that its IBM model 1 (Brown et al., 1993),
    fitted on train, holds likeliest; words that train lacks are copied.
    Whoever has made it already (`word_dictionary`) hands it in.
    """
    dictionary = dictionary or word_dictionary(train)
    answers = []
    for given, _ in asked:
        line = " ".join(dictionary.get(word, word) for word in _WORD.findall(given))
        answers.append(re.sub(r" (?=[.,])", "", line))
    return {"copy": [given for given, _ in asked], "dictionary": answers}


def word_dictionary(pairs, rounds=5):
    """Each source word's likeliest target word by IBM model 1: {word: word}.

    p(f | e) starts uniform.  Each round shares every target word f out among the words
    e of its own sentence, and among "no word", in proportion to p(f | e); p(f | e) is
    then the share of e's total that went to f.  All pairs (e, f) of a sentence stand in
    one long list, so that a round is a few sums over it.
    """
    e_ids = {None: 0}  # None: no word
    f_ids = {}
    e, f, choices = [], [], []
    for given, target in pairs:  # of a very long text its beginning will do
        left = [e_ids.setdefault(w, len(e_ids)) for w in _WORD.findall(given)[:200]]
        right = [f_ids.setdefault(w, len(f_ids)) for w in _WORD.findall(target)[:200]]
        e.append(np.tile(np.array([0, *left], np.int64), len(right)))
        f.append(np.repeat(np.array(right, np.int64), len(left) + 1))
        choices += [len(left) + 1] * len(right)
    e, f = np.concatenate(e), np.concatenate(f)
    owner = np.repeat(np.arange(len(choices)), choices)  # which target word it is about
    links, which = np.unique(e * len(f_ids) + f, return_inverse=True)
    e_of, f_of = np.divmod(links, len(f_ids))
    p = np.ones(len(links))  # of each different link (e, f)
    for _ in range(rounds):
        share = p[which] / np.bincount(owner, p[which])[owner]
        total = np.bincount(which, share)  # (links,)
        p = total / np.bincount(e_of, total)[e_of]
    best = np.lexsort((f_of, -p, e_of))  # of each e, its likeliest f first
    firsts = best[np.unique(e_of[best], return_index=True)[1]]
    e_words, f_words = list(e_ids), list(f_ids)
    found = {e_words[e_of[k]]: f_words[f_of[k]] for k in firsts.tolist()}
    found.pop(None, None)
    return found


# --- tables and metrics.json --------------------------------------------------------------


def heading(text):
    """Print the title of one part of a lesson."""
    print(f"\n--- {text} ---")


def say(text, indent=""):
    """Print a paragraph, its lines broken at 80 characters, each after `indent`."""
    layout = {"initial_indent": indent, "subsequent_indent": indent}
    layout["fix_sentence_endings"] = True  # two spaces; it overlooks those after 0.5.
    text = re.sub(r"(?<=[\d%)][.?!]) (?=[A-Z(])", "  ", " ".join(text.split()))
    print(textwrap.fill(text, 80, **layout))


def print_table(title, rows, corner="model"):
    """rows: name -> {column: number or text}.  One aligned line a row.

    corner: the heading above the rows' names.
    """
    import pandas as pd

    def cell(value):
        if isinstance(value, float):
            return f"{value:.4f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    texts = {
        str(name): {column: cell(value) for column, value in row.items()}
        for name, row in rows.items()
    }
    frame = pd.DataFrame.from_dict(texts, orient="index").fillna("-")
    frame = frame.rename_axis(columns=corner)
    # Three spaces between columns: each as wide as its longest text, and two more.
    widths = [frame[c].str.len().max() for c in frame]
    spaces = {c: max(len(c), w) + 2 for c, w in zip(frame, widths, strict=True)}
    print(f"\n{title}")
    for line in frame.to_string(col_space=spaces).splitlines():
        print(f"  {line}")


def compare_variants(args, source, kinds, train, others):
    """`--compare`: train every variant, print one table, draw all their losses.

    kinds: name -> settings, the lesson's default first; train(settings) -> (model,
    records, validation scores); others: name -> scores of the baselines on validation.
    Validation, because one chooses by such a table: the test set is for what one has
    chosen.
    """
    rows = {}
    models = {}
    runs = {}
    for name, settings in kinds.items():
        print(f"Training {name}")
        try:
            model, records, scores = train(settings)
        except Diverged as error:
            rows[name] = {"diverged": str(error).split(";")[0]}
            continue
        costs = {
            "parameters": count_parameters(model),
            "seconds": sum(record["seconds"] for record in records),
            "largest_gradient": max(record["max_grad_norm"] for record in records),
        }
        rows[name] = scores | costs
        models[name] = {f"val_{key}": value for key, value in scores.items()} | costs
        runs[name] = records
    print_table(f"{source.label}: validation, --compare {args.compare}", rows | others)
    title = f"--compare {args.compare}, {source.label}"
    panels = {"training loss": ["loss"], "validation loss": ["val_loss"]}
    plot_records(args, f"compare_{args.compare}", title, runs, panels)
    default = next(iter(kinds))  # if it diverged, none takes its place
    first = models.get(default, {"parameters": 0})
    metrics = {key: value for key, value in first.items() if key.startswith("val_")}
    known = {name: row["accuracy"] for name, row in others.items()}
    costs = {"parameters": first["parameters"], "records": runs.get(default, [])}
    write_metrics(args, source, metrics, known, **costs, models=models)


def write_metrics(
    args,
    source,
    metrics,
    baselines,
    parameters=0,
    records=(),
    units=0,
    unit="",
    models=None,
):
    """Write <out-dir>/metrics.json, add it to runs.jsonl beside that folder.

    metrics, baselines: name -> number.  parameters: how many the model has.  records:
    what `fit` returned.  units, unit: how many an epoch goes through, of what.  models:
    where several were trained, name -> its metrics.  Returns what was written.
    """
    loop_seconds = sum(record["loop_seconds"] for record in records)
    speed = units * len(records) / loop_seconds if loop_seconds else 0.0
    result = {
        "script": args.lesson,
        "dataset": source.name,
        "real": source.real,
        "seed": args.seed,
        "device": str(args.device),
        "precision": getattr(args, "precision", "fp32"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "parameters": parameters,
        "epochs_run": len(records),
        "train_seconds": round(sum(record["seconds"] for record in records), 2),
        "units_per_second": round(speed, 1),
        "unit": unit,
        "metrics": metrics,
        "baselines": baselines,
        **({"models": models} if models else {}),
        "args": vars(args),
    }
    result = _as_json(result)
    content = json.dumps(result, indent=2).encode()
    write_atomically(Path(args.out_dir) / "metrics.json", content)
    stamp = {"time": datetime.datetime.now().isoformat(timespec="seconds")}
    everything = Path(args.out_dir).parent / "runs.jsonl"
    try:
        with everything.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**stamp, **result}) + "\n")
    except OSError as error:  # the result itself is safe in metrics.json
        print(f"Not added to {everything}: {error.strerror}")
    return result


def _as_json(value):
    """Numbers, texts, lists and dicts; NaN and infinity, which JSON lacks, become null."""
    if isinstance(value, dict):
        return {str(k): _as_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(v) for v in value]
    if hasattr(value, "item"):  # a NumPy number or a tensor of one
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, int | float | None) else str(value)


# --- pictures -----------------------------------------------------------------------------

PLAIN = {"parse_math": False}  # of a picture's text: a file name may hold dollar signs


# Fonts with the letters of many scripts: matplotlib takes the first that has a letter.
FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Microsoft YaHei", "PingFang SC")
FONTS += ("Hiragino Sans", "Malgun Gothic", "Noto Sans Devanagari", "Nirmala UI")
FONTS += ("Noto Sans Arabic", "Noto Sans Thai", "Leelawadee UI", "Arial Unicode MS")


def pyplot():
    """matplotlib.pyplot, drawing into files: a lesson must not need a screen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib import font_manager

    if plt.rcParams["font.family"] == ["sans-serif"]:  # not set yet
        have = set(font_manager.get_font_names())
        others = [name for name in FONTS if name in have]
        plt.rcParams["font.family"] = ["sans-serif", *others]
    return plt


def save_picture(figure, args, name):
    """Write a figure to <out-dir>/<name>.png and say so.  Only without --no-plots."""
    if not args.no_plots:
        path = Path(args.out_dir) / f"{name}.png"
        buffer = io.BytesIO()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            figure.savefig(buffer, dpi=100, bbox_inches="tight", format="png")
        if any("missing from" in str(warning.message) for warning in caught):
            print(
                "  (No font here has some of the letters: they are empty squares in the "
                "picture.  The fonts called Noto have all scripts.)"
            )
        write_atomically(path, buffer.getbuffer())
        print(f"  picture: {path}")
    pyplot().close(figure)


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
    figure, axes = pyplot().subplots(figsize=(width, 4))
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


def plot_records(args, name, title, runs, panels):
    """Curves of one or several trainings over their epochs, one panel beside the other.

    runs: label -> records of `fit`.  panels: axis label -> the record entries in it.
    """
    runs = {label: records for label, records in runs.items() if records}
    if args.no_plots or not runs:
        return
    size = (4.5 * len(panels), 3.6)
    figure, all_axes = pyplot().subplots(1, len(panels), figsize=size, squeeze=False)
    for axes, (ylabel, keys) in zip(all_axes[0], panels.items(), strict=True):
        for label, records in runs.items():
            for key in keys:
                epochs = [record["epoch"] for record in records]
                values = [record[key] for record in records]
                name_of_curve = key if len(runs) == 1 else f"{label}, {key}"
                axes.plot(epochs, values, marker=".", label=name_of_curve)
        axes.set(xlabel="epoch", ylabel=ylabel)
        axes.legend()
        axes.grid(alpha=0.3)
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
    width = max(4.5, 0.32 * len(columns) + 2)
    height = max(3.0, 0.28 * len(rows) + 1.5)
    figure, axes = pyplot().subplots(figsize=(width, height))
    colours = {"cmap": "viridis"}
    if centred:
        colours = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    image = axes.imshow(matrix, aspect="auto", **colours)
    letters = sum(len(str(column)) + 2 for column in columns)
    turn = 90 if letters > 8 * width else 0  # names that would run into each other
    axes.set_xticks(range(len(columns)), columns, rotation=turn, **PLAIN)
    axes.set_yticks(range(len(rows)), rows, **PLAIN)
    axes.set_title(title, **PLAIN)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    figure.colorbar(image, ax=axes, label=bar)
    save_picture(figure, args, name)


# ====================================================================================
# 6. Command line
# ====================================================================================
#
# A lesson builds its parser from these groups, adds flags of its own, and calls
# `parse_flags`; its last line is `sys.exit(utils.run(main))`.


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong flag is one sentence instead of a page of usage."""

    def error(self, message):
        raise UserError(f"{message}; see --help")


def _number(kind, minimum, maximum, above):
    """An argparse type: a text becomes a number of this kind within these bounds."""

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan  # within no bounds
        if not minimum <= value <= maximum or (above and value == minimum):
            what = "whole number" if kind is int else "number"
            least = "above" if above else "from"
            most = f"{maximum:,g}" if kind is float else f"{maximum:,}"
            raise argparse.ArgumentTypeError(
                f"'{text[:20]}' is no {what} {least} {minimum:g} to {most}"
            )
        return value

    return convert


def whole(minimum=1, maximum=10**9):
    """An argparse type: an integer from `minimum` to `maximum`."""
    return _number(int, minimum, maximum, above=False)


def real(minimum=0.0, maximum=1e9, above=False):
    """An argparse type: a number from `minimum` (or just above it) to `maximum`."""
    return _number(float, minimum, maximum, above)


def make_parser(doc):
    """A parser that shows the lesson's docstring as its help."""
    return Parser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_common_flags(parser, computes=True):
    """The flags that all ten lessons have.  computes: --device and --threads too."""
    add = parser.add_argument_group("all lessons").add_argument
    add("--seed", type=whole(0, 2**32 - 1), default=0, help="default 0")
    add("--out-dir", help="default outputs/<script name>")
    add("--quick", action="store_true", help="a tiny run, offline, in seconds")
    add("--no-plots", action="store_true", help="draw no pictures")
    if computes:
        add("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
        add("--threads", type=whole(1, 1024), help="default: as many as are of use")


def add_data_flags(parser, datasets, input_help, columns=()):
    """The flags of lessons that read data; `datasets` are the names that --dataset takes.

    columns: what a column of --input may hold, such as "text" for --text-column.
    """
    add = parser.add_argument_group("data").add_argument
    add("--dataset", choices=["auto", *datasets], default="auto")
    add(
        "--data-dir",
        default=os.environ.get("RNN_DATA_DIR") or "data",
        help="where downloads are kept (default: $RNN_DATA_DIR, else data)",
    )
    add("--input", metavar="PATH", help=input_help)
    for name in columns:
        what = f"the column of --input that holds the {name}s"
        add(f"--{name}-column", metavar="NAME", help=what)


# (flag, argparse type or choices, help); None among the defaults of a lesson: see there.
TRAINING_FLAGS = (
    ("--epochs", whole(1, 100_000), "passes over the training data"),
    ("--batch-size", whole(1, 1_000_000), "examples in one step"),
    ("--lr", real(0, 100, above=True), "peak of the learning rate"),
    ("--hidden-size", whole(1, 16_384), "numbers in the hidden state"),
    ("--num-layers", whole(1, 64), "recurrent layers, one above the other"),
    ("--dropout", real(0, 0.99), "share of numbers set to 0 in training"),
    ("--clip", real(0, 1e9), "largest gradient norm; 0 clips nothing"),
    ("--weight-decay", real(0, 100), "how strongly weights are drawn to 0"),
    (
        "--patience",
        whole(0, 100_000),
        "stop after so many epochs without gain; 0 never",
    ),
    ("--accumulate", whole(1, 10_000), "batches whose gradients make one step"),
    ("--optimizer", ("adam", "sgd"), "the rule of a step"),
    ("--precision", ("fp32", "bf16"), "of matrix products"),
)


def add_training_flags(parser, **defaults):
    """The flags of lessons that train.  defaults: epochs, batch_size, lr, hidden_size, ..."""
    add = parser.add_argument_group("training").add_argument
    settings = {"num_layers": 1, "dropout": 0.0, "clip": 1.0, "weight_decay": 0.0}
    settings |= {"patience": 0, "optimizer": "adam", "accumulate": 1}
    settings |= {"precision": "fp32", **defaults}
    for flag, kind, text in TRAINING_FLAGS:
        default = settings.get(flag[2:].replace("-", "_"))
        check = {"choices": kind} if isinstance(kind, tuple) else {"type": kind}
        shown = "depends, see the lesson" if default is None else default
        add(flag, default=default, help=f"{text} (default {shown})", **check)
    add("--save-model", action="store_true", help="write the best model to --path")
    add("--path", metavar="FILE", help="default models/<script name>.pt")
    add("--eval-only", action="store_true", help="take the model from --path")
    add("--resume", action="store_true", help="go on from <out-dir>/last.pt")


def parse_flags(parser, argv, script, small=False, defaults=None):
    """Parse, fill in defaults, seed, find the device and threads, make the folder.

    script: the lesson's __file__; afterwards args.lesson is its name without .py.
    small: whether its tensors are too small for more than one thread.
    defaults(args) -> {name: value} for flags that depend on others, such as --task: it
    fills in those that are None, so a flag that the reader gave wins.
    """
    args = parser.parse_args(argv)
    args.lesson = Path(script).stem
    args.out_dir = args.out_dir or str(Path("outputs") / args.lesson)
    if defaults:
        for name, value in defaults(args).items():
            if getattr(args, name) is None:
                setattr(args, name, value)
    if hasattr(args, "device"):
        args.device = str(pick_device(args.device))
        args.threads = pick_threads(args.threads, small)
    else:
        args.device = "cpu"
    if hasattr(args, "epochs"):
        args.path = args.path or str(Path("models") / f"{args.lesson}.pt")
        _check_training_flags(args)
        prepare_precision(args)
        if args.quick and args.epochs and args.epochs > 2:
            if args.epochs != parser.get_default("epochs"):
                print(f"--quick trains 2 epochs, not {args.epochs}")
            args.epochs = 2
        if args.save_model:
            path, state = Path(args.path), Path(args.out_dir, "last.pt")
            if path.is_dir() or path.resolve() == state.resolve():
                raise UserError(f"--path {path} cannot hold the model; name another")
            _check_writable(path.parent, "--path")
    _check_writable(Path(args.out_dir), "--out-dir")
    args.batch_size = getattr(args, "batch_size", 1) * ranks()  # each rank's own
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


def run(main, argv=None):
    """Call a lesson's main; returns the exit status: 0 done, 2 a mistake, 130 Ctrl-C.

    No traceback for what a reader can cause, only for faults of these lessons.
    """
    _KEPT.clear()
    _on_signal(signal.SIGTERM, signal.default_int_handler)  # same as Ctrl-C
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack a letter
    try:
        join_ranks()
        main(argv)
        sys.stdout.flush()  # here, where a reader who has gone can be caught
    except UserError as error:
        return _complain(error)
    except KeyboardInterrupt:
        _on_signal(signal.SIGINT, signal.SIG_IGN)  # pressed twice is as good as once
        kept = "No epoch of training had been finished: there is nothing to go on from."
        if "path" in _KEPT:
            kept = (
                f"The training state and the best weights are in {_KEPT['path']}: the "
                "same command with --resume goes on from there."
            )
        if rank() == 0:
            print(f"\nInterrupted.  {kept}", file=sys.stderr)
        return 130
    except (MemoryError, RuntimeError) as error:  # PyTorch has no type for a full CPU
        words = ("out of memory", "not enough memory", "can't allocate", "ALLOC_FAILED")
        full = isinstance(error, MemoryError) or any(w in str(error) for w in words)
        if full:
            return _complain("the memory is full; lower --batch-size or --hidden-size")
        if in_ranks() and "Connection closed by peer" in str(error):
            return 2  # another rank has ended, and has said why
        raise
    except BrokenPipeError:
        pass  # `python 01_... | head` has read enough
    except OSError as error:
        return _complain(f"{error.filename or 'a file'}: {error.strerror or error}")
    finally:
        _let_go_of_output()
    return 0


def _on_signal(number, handler):
    """Set what a signal does; only a process's main thread may."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)


def _let_go_of_output():
    """Write what is left; drop what cannot be, or Python complains of it at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(sentence):
    name = Path(sys.argv[0]).name
    line = " ".join(str(sentence).split())  # a file's name may hold a line end
    if rank() == 0:
        print(f"{name}: error: {line.rstrip('.')}.", file=sys.stderr)
    return 2
