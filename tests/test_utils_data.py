"""rnn_utils sections 2 and 3: downloads, data sets, parsers, vocabulary, padding, batches."""

import argparse
import hashlib
import http.server
import os
import random
import socket
import threading
import time

import numpy as np
import pytest
import torch

import rnn_utils
from rnn_utils import (
    BOS,
    EOS,
    PAD,
    UNK,
    Batches,
    DataSet,
    Source,
    UserError,
    Vocabulary,
    bucketed_order,
    choose_dataset,
    fetch,
    length_mask,
    pad,
    read_csv,
    read_labelled_lines,
    read_text,
    simulated_prices,
    sine_series,
    split_by_hash,
)

BODY = b"Anna\nBo\n" * 5000


# ---------------------------------------------------------------- a server of our own


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives the next of server.answers, a (status, body, length that it claims); the
    last for ever.
    """

    def do_GET(self):
        answers = self.server.answers
        status, body, length = answers.pop(0) if len(answers) > 1 else answers[0]
        self.server.asked.append(self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass  # the first contact hangs up before the body

    def log_message(self, *args):
        pass


GOOD = (200, BODY, len(BODY))
CUT = (200, BODY[:999], len(BODY))
WRONG = (200, BODY[::-1], len(BODY))
ABSENT = (404, b"", 0)


@pytest.fixture
def server(monkeypatch):
    """A local web server; DATASETS is `tiny`, one file on it.  Retries do not wait."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(rnn_utils.time, "sleep", lambda seconds: None)
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.asked, made.answers = [], [GOOD]
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    serve_from(monkeypatch, made.server_port)
    yield made
    made.shutdown()
    made.server_close()


def serve_from(monkeypatch, port, paths=("tiny/a.txt",)):
    """Make `tiny` the only data set, its files at this port."""
    files = {path: f"sha256:{hashlib.sha256(BODY).hexdigest()}" for path in paths}
    tiny = DataSet("a tiny set", "free", f"http://127.0.0.1:{port}/", files)
    monkeypatch.setattr(rnn_utils, "DATASETS", {"tiny": tiny})


def refused_port():
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def files_below(folder):
    return [path for path in folder.rglob("*") if not path.is_dir()]


def failure(folder):
    """The sentence with which fetching `tiny` fails."""
    with pytest.raises(UserError) as caught:
        fetch("tiny", folder)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "put tiny/a.txt into" in sentence, "it must say what to put where"
    assert str(folder) in sentence
    assert "127.0.0.1" in sentence
    return sentence


def test_fetch_downloads_once(server, tmp_path):
    """A second call must not go to the network again."""
    (path,) = fetch("tiny", tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "tiny" / "a.txt"
    assert path.read_bytes() == BODY
    asked = len(server.asked)
    assert set(server.asked) == {"/a.txt"}
    assert fetch("tiny", tmp_path / "new" / "folder") == [path]
    assert len(server.asked) == asked
    assert files_below(tmp_path) == [path]


def test_fetched_file_is_as_readable_as_any_other(server, tmp_path):
    """A data folder shared by a class is of no use if only one of them can read it."""
    (path,) = fetch("tiny", tmp_path)
    (tmp_path / "plain").write_text("x")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("content", [b"", b"anything", BODY])
def test_fetch_takes_a_file_that_lies_there(monkeypatch, tmp_path, content):
    """Whoever puts a file there by hand, offline, must be able to use it, whatever its digest."""
    serve_from(monkeypatch, refused_port())
    monkeypatch.setattr(rnn_utils, "_check_reachable", lambda url: pytest.fail("asked"))
    monkeypatch.setattr(rnn_utils, "_download", lambda *args: pytest.fail("asked"))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "a.txt").write_bytes(content)
    (path,) = fetch("tiny", tmp_path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "answers, tries, reason",
    [
        ([WRONG], rnn_utils.DOWNLOAD_TRIES, "digest"),
        ([CUT], rnn_utils.DOWNLOAD_TRIES, "broke off"),
        ([ABSENT], 0, "404"),
        ([(500, b"", 0)], 0, "500"),
        ([GOOD, ABSENT], 1, "404"),
        ([GOOD, (503, b"", 0)], rnn_utils.DOWNLOAD_TRIES, "503"),
    ],
    ids=["wrong digest", "cut", "absent", "server error", "absent later", "busy later"],
)
def test_failed_download_leaves_nothing(
    server, tmp_path, capfd, answers, tries, reason
):
    """A partial or damaged file under the final name would be taken as it is ever after."""
    server.answers = list(answers)
    assert reason in failure(tmp_path)
    assert capfd.readouterr().err == "", "stderr is for the one sentence"
    assert len(server.asked) == 1 + tries  # the first contact, then the transfers
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("bad", [CUT, WRONG], ids=["cut", "wrong"])
@pytest.mark.parametrize("times", [1, 2])
def test_download_recovers(server, tmp_path, bad, times):
    """A connection that breaks off once is no reason to give up."""
    server.answers = [GOOD, *[bad] * times, GOOD]
    (path,) = fetch("tiny", tmp_path)
    assert path.read_bytes() == BODY
    assert len(server.asked) == 1 + times + 1
    assert files_below(tmp_path) == [path]


def test_what_arrived_whole_is_kept(server, monkeypatch, tmp_path):
    """Of several files only the missing ones may be asked for at the next attempt."""
    serve_from(monkeypatch, server.server_port, ("tiny/a.txt", "tiny/b.txt"))
    server.answers = [GOOD, GOOD, WRONG]
    with pytest.raises(UserError, match=r"put tiny/a.txt and 1 more into"):
        fetch("tiny", tmp_path)
    assert [path.name for path in files_below(tmp_path)] == ["a.txt"]
    server.asked.clear()
    server.answers = [GOOD]
    assert len(fetch("tiny", tmp_path)) == 2
    assert set(server.asked) == {"/b.txt"}


def test_no_network_ends_at_the_first_failed_connection(monkeypatch, tmp_path):
    """Offline, every run would otherwise begin with a long wait."""
    serve_from(monkeypatch, refused_port())
    monkeypatch.setattr(rnn_utils, "_download", lambda *args: pytest.fail("went on"))
    start = time.perf_counter()
    assert "no connection" in failure(tmp_path)
    assert time.perf_counter() - start < 2
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("drip", [b"", b"X-Slow: 1\r\n"], ids=["silent", "dripping"])
def test_server_that_never_answers(monkeypatch, tmp_path, drip):
    """A server that accepts and says nothing, or a header now and then, must not hold us up."""
    monkeypatch.setattr(rnn_utils, "CONNECT_SECONDS", 0.4)
    stop = threading.Event()

    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\n" if drip else b"")
            while not stop.wait(0.1):
                try:
                    connection.sendall(drip)
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        serve_from(monkeypatch, listener.getsockname()[1])
        start = time.perf_counter()
        assert "no connection" in failure(tmp_path)
        assert time.perf_counter() - start < 2 * 0.4 + 0.5
        stop.set()
        thread.join(2)


@pytest.mark.parametrize("obstacle", ["file", "folder", "name", "read-only"])
def test_data_dir_that_cannot_be_used(server, tmp_path, obstacle):
    """A data folder that cannot be written to must end in one sentence, not in a traceback."""
    folder = tmp_path / "data"
    if obstacle == "file":
        folder.write_text("I am a file")
    elif obstacle == "folder":
        (folder / "tiny" / "a.txt").mkdir(parents=True)
    elif obstacle == "name":
        folder = tmp_path / ("n" * 300)
    else:
        if os.name == "nt" or os.geteuid() == 0:
            pytest.skip("read-only means nothing to this user")
        folder.mkdir(mode=0o500)
    failure(folder)


def test_read_only_data_dir(server, monkeypatch, tmp_path):
    """As above for those who run tests as root; pooch words this error in its own way."""

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(rnn_utils.tempfile, "NamedTemporaryFile", refuse)
    (tmp_path / "tiny").mkdir()
    sentence = failure(tmp_path)
    assert "(that folder cannot be written to)" in sentence
    assert "ooch" not in sentence


# ---------------------------------------------------------------- --dataset and --input


def flags(tmp_path, **changes):
    given = {"dataset": "auto", "data_dir": tmp_path, "input": None, "quick": False}
    return argparse.Namespace(**{**given, **changes})


OFFLINE = {"sample": "samples/x", "made": None}


def test_auto_takes_the_real_set(server, tmp_path):
    """`auto` with a network means the real data."""
    source = choose_dataset(flags(tmp_path), ["tiny"], OFFLINE)
    assert source == Source("tiny", tmp_path / "tiny" / "a.txt", True)
    assert source.label == "tiny [real]"


def test_real_set_of_several_files_is_a_folder(server, monkeypatch, tmp_path):
    """Lessons are given the folder where a set has more than one file."""
    serve_from(monkeypatch, server.server_port, ("tiny/a.txt", "tiny/b.txt"))
    source = choose_dataset(flags(tmp_path), ["tiny"], OFFLINE)
    assert source.path == tmp_path / "tiny"


def test_auto_falls_back_and_says_so_in_one_line(monkeypatch, tmp_path, capsys):
    """Without a network the run goes on with the sample, and the reader knows why."""
    serve_from(monkeypatch, refused_port())
    source = choose_dataset(flags(tmp_path), ["tiny"], OFFLINE)
    assert source == Source("sample", "samples/x", False)
    assert source.label == "sample [sample]"
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if "offline" in line]
    assert len(lines) == 1
    assert lines[0].startswith("Going on with the offline sample, because ")
    assert "no connection" in lines[0]
    assert lines[0].endswith(".")
    assert printed.err == ""


def test_named_real_set_that_cannot_be_had_is_an_error(monkeypatch, tmp_path):
    """Who asks for the real data outright must not get results on the sample."""
    serve_from(monkeypatch, refused_port())
    with pytest.raises(UserError, match="put tiny/a.txt into"):
        choose_dataset(flags(tmp_path, dataset="tiny"), ["tiny"], OFFLINE)


@pytest.mark.parametrize(
    "changes, name, path",
    [
        ({"quick": True}, "sample", "samples/x"),
        ({"dataset": "sample"}, "sample", "samples/x"),
        ({"dataset": "made"}, "made", None),
        ({"dataset": "made", "quick": True}, "made", None),
    ],
)
def test_offline_sets_need_no_network(
    monkeypatch, tmp_path, capsys, changes, name, path
):
    """--quick and the samples must not touch the network, nor print a line about it."""
    monkeypatch.setattr(rnn_utils, "fetch", lambda *args: pytest.fail("asked"))
    source = choose_dataset(flags(tmp_path, **changes), ["tiny"], OFFLINE)
    assert source == Source(name, path, False)
    assert capsys.readouterr().out == ""


def test_quick_leaves_a_named_real_set_in_force(server, tmp_path):
    """--quick caps amounts; it does not overrule --dataset."""
    chosen = flags(tmp_path, dataset="tiny", quick=True)
    assert choose_dataset(chosen, ["tiny"], OFFLINE).real


@pytest.mark.parametrize("quick", [False, True])
def test_input_is_taken_and_is_not_real(monkeypatch, tmp_path, quick):
    """The reader's own file wins over auto, and is never called real."""
    monkeypatch.setattr(rnn_utils, "fetch", lambda *args: pytest.fail("asked"))
    (tmp_path / "mine.csv").write_text("text,label\n")
    chosen = flags(tmp_path, input=str(tmp_path / "mine.csv"), quick=quick)
    source = choose_dataset(chosen, ["tiny"], OFFLINE)
    assert source == Source("input", tmp_path / "mine.csv", False)
    assert source.label == "mine.csv [sample: your own data]"


def test_label_of_the_current_folder(monkeypatch, tmp_path):
    """`--input .` must not leave a picture's title without a name."""
    monkeypatch.chdir(tmp_path)
    source = choose_dataset(flags(tmp_path, input="."), ["tiny"], OFFLINE)
    assert source.label.startswith(tmp_path.name + " [")


@pytest.mark.parametrize("dataset", ["tiny", "sample"])
def test_input_and_dataset_exclude_each_other(tmp_path, dataset):
    """Two answers to the question which data to take are a mistake of the reader's."""
    chosen = flags(tmp_path, input=str(tmp_path), dataset=dataset)
    with pytest.raises(UserError, match="--input and --dataset"):
        choose_dataset(chosen, ["tiny"], OFFLINE)


def test_input_that_is_not_there(tmp_path):
    """A mistyped path must be named."""
    with pytest.raises(UserError, match="nowhere.csv"):
        choose_dataset(flags(tmp_path, input="nowhere.csv"), ["tiny"], OFFLINE)


@pytest.mark.real_data
@pytest.mark.parametrize("name", sorted(set(rnn_utils.DATASETS) - {"imdb"}))
def test_digests_agree_with_the_real_files(real_data, name):
    """A mistyped digest would make every download of this set fail."""
    for path, digest in rnn_utils.DATASETS[name].files.items():
        kind, expected = digest.split(":")
        found = hashlib.new(kind, (real_data / path).read_bytes()).hexdigest()
        assert found == expected, path


def test_every_address_is_https_and_every_digest_well_formed():
    """Data over plain http, or a digest of another length, could never be trusted."""
    sizes = {"sha256": 64, "md5": 32}
    for dataset in rnn_utils.DATASETS.values():
        for path, digest in dataset.files.items():
            assert dataset.url(path).startswith("https://")
            assert dataset.url(path).endswith("/" + path.rsplit("/", 1)[-1])
            kind, value = digest.split(":")
            assert len(value) == sizes[kind]
            int(value, 16)


# ---------------------------------------------------------------- parsers


@pytest.mark.parametrize(
    "content, text",
    [
        (b"a\nb\n", "a\nb\n"),
        (b"\xef\xbb\xbfa\n", "a\n"),
        (b"a\r\nb\r\n", "a\nb\n"),
        ("ключ 鍵\n".encode(), "ключ 鍵\n"),
    ],
    ids=["plain", "BOM", "CRLF", "non-ASCII"],
)
def test_read_text(tmp_path, content, text):
    """Files made on Windows must read like any other."""
    (tmp_path / "a.txt").write_bytes(content)
    assert read_text(tmp_path / "a.txt") == text


HOSTILE = {
    "empty": b"",
    "only a BOM": b"\xef\xbb\xbf",
    "whitespace": b" \r\n\t\n ",
    "Latin-1": "text,label\nGrüße,a\n".encode("latin-1"),
    "UTF-16": "text,label\nb,a\n".encode("utf-16"),
    "rubbish": bytes(random.Random(0).randbytes(4096)),
    "folder": None,
    "missing": ...,
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("reader", ["text", "csv", "zip", "lines", "vocabulary"])
def test_hostile_files(tmp_path, kind, reader):
    """Whatever the file holds, the reader gets one sentence that names it."""
    path = tmp_path / ("a.zip" if reader == "zip" else "a.txt")
    content = HOSTILE[kind]
    if content is None:
        path.mkdir()
    elif content is not ...:
        path.write_bytes(content)
    (tmp_path / "b.txt").write_text("Bo\n")
    readers = {
        "text": lambda: read_text(path),
        "csv": lambda: read_csv(path, ["text", "label"]),
        "zip": lambda: read_csv(path, ["text", "label"]),  # pandas would unpack it
        "lines": lambda: read_labelled_lines(tmp_path),
        "vocabulary": lambda: Vocabulary.load(path),
    }
    with pytest.raises(UserError) as caught:
        readers[reader]()
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_read_labelled_lines(tmp_path):
    """Labels are file names; blank lines go, repeats stay, blanks inside a line become one."""
    (tmp_path / "b.txt").write_bytes("\ufeffÅsa  Berg\r\n\r\n  Åsa Berg \r\n".encode())
    (tmp_path / "a.txt").write_text("Bo\nAl", encoding="utf-8")
    (tmp_path / "notes.md").write_text("not data")
    expected = [("Bo", "a"), ("Al", "a"), ("Åsa Berg", "b"), ("Åsa Berg", "b")]
    assert read_labelled_lines(tmp_path) == expected


@pytest.mark.parametrize("files", [[], ["only"]])
def test_labelled_lines_need_two_labels(tmp_path, files):
    """With one label there is nothing to classify."""
    for name in files:
        (tmp_path / f"{name}.txt").write_text("Bo\n")
    with pytest.raises(UserError, match=f"holds {len(files)} .txt files"):
        read_labelled_lines(tmp_path)


def test_labelled_lines_need_a_folder(tmp_path):
    """A file where a folder is wanted must be named."""
    (tmp_path / "a.txt").write_text("Bo\n")
    with pytest.raises(UserError, match="is not a folder"):
        read_labelled_lines(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "content",
    [
        b"text,label\na,b\nc,d\n",
        b"\xef\xbb\xbftext,label\r\na,b\r\nc,d\r\n",
        b"more,label,text\n1,b,a\n2,d,c\n",
        b'text, label\n"a", b\nc, d',
    ],
    ids=["plain", "BOM and CRLF", "other order", "blanks"],
)
def test_read_csv(tmp_path, content):
    """The columns asked for, in the order asked for, whatever wrote the file."""
    (tmp_path / "a.csv").write_bytes(content)
    frame = read_csv(tmp_path / "a.csv", ["text", "label"])
    assert list(frame.columns) == ["text", "label"]
    assert frame.to_numpy().tolist() == [["a", "b"], ["c", "d"]]


@pytest.mark.parametrize(
    "content, words",
    [
        (b"text,label\n", "no rows"),
        (b"text,Label\na,b\n", "no column 'label'; it has: text, Label"),
        (b"label\na\n", "no column 'text'"),
        (b'text,label\n"a,b\n', "cannot be read"),
        (b"text,label\na,b\nc,d,e\n", "cannot be read"),
        (b"text,label\nwell, yes,b\nc,d\n", "more cells"),
        (b"text,label\nc,d,e\nf,g,h\n", "more cells"),
        (b"\x00" * 60, "NUL characters"),
    ],
)
def test_malformed_csv(tmp_path, content, words):
    """A comma without quotes must not shift a column unnoticed."""
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_csv(tmp_path / "a.csv", ["text", "label"])
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- splits and made-up series


def test_split_by_hash_is_fixed():
    """A split that changes between machines or versions makes recorded figures worthless."""
    keys = [f"key {i}" for i in range(20)]
    parts = split_by_hash(keys)
    assert "".join(str(parts[key]) for key in keys) == "00000010200102000000"


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (0.7, 0.15, 0.15), (0.9, 0.1, 0)])
@pytest.mark.parametrize("n", [1, 7, 100, 2003])
def test_split_by_hash_shares(shares, n):
    """Shares must be near what is asked, whatever the order and the repeats of the keys."""
    keys = [f"Ünïcode {i}" for i in range(n)]
    parts = split_by_hash(keys, shares)
    assert sorted(parts) == sorted(keys)
    for part, share in enumerate(shares):
        assert abs(list(parts.values()).count(part) - share * n) <= 1
    shuffled = random.Random(n).sample(keys * 2, 2 * n)
    assert split_by_hash(shuffled, shares) == parts
    assert split_by_hash(iter(keys), shares) == parts


def test_sine_series_noise_is_what_was_added():
    """The best possible forecast is quoted from this noise."""
    series, noise = sine_series(n=4000, period=40, noise_std=0.3)
    clean = np.sin(2 * np.pi * np.arange(4000) / 40)
    np.testing.assert_array_equal(clean + noise.to_numpy(), series.to_numpy())
    assert abs(noise.std() - 0.3) < 0.3 * 0.05  # the estimate's own error is near 1 %
    assert abs(noise.mean()) < 3 * 0.3 / 4000**0.5
    assert series.index.equals(noise.index)
    assert series.index.is_monotonic_increasing
    assert series.index.is_unique


@pytest.mark.parametrize("make", [lambda: sine_series()[0], simulated_prices])
def test_made_up_series_are_fixed(make):
    """They depend on no seed, and drawing them must not shift anyone else's random numbers."""
    first = make()
    np.random.seed(123)
    random.seed(123)
    torch.manual_seed(123)
    state = rnn_utils.random_state()
    assert make().equals(first)
    after = rnn_utils.random_state()
    assert after["numpy"] == state["numpy"]
    assert after["python"] == state["python"]
    assert torch.equal(after["torch"], state["torch"])


def test_simulated_prices_look_like_prices():
    """A price is positive, and its returns have the volatility that was asked for."""
    prices = simulated_prices(n=3000, volatility=0.02)
    assert (prices > 0).all()
    assert abs(np.log(prices).diff().std() - 0.02) < 0.001


# ---------------------------------------------------------------- vocabulary


SENTENCES = [["b", "a", "c"], ["b", "a", "ä"], ["b", UNK]]


def test_vocabulary_order():
    """Ids are part of a checkpoint: specials, falling count, ties alphabetical."""
    vocabulary = Vocabulary.build(SENTENCES, specials=(PAD, UNK, BOS, EOS))
    assert vocabulary.tokens == [PAD, UNK, BOS, EOS, "b", "a", "c", "ä"]
    assert Vocabulary.build(SENTENCES[::-1], (PAD, UNK, BOS, EOS)).tokens == (
        vocabulary.tokens
    )
    assert [vocabulary[token] for token in vocabulary.tokens] == list(range(8))
    assert len(vocabulary) == 8
    assert "a" in vocabulary and "x" not in vocabulary


@pytest.mark.parametrize(
    "limits, tokens",
    [
        ({"min_freq": 2}, [PAD, UNK, "b", "a"]),
        ({"min_freq": 3}, [PAD, UNK, "b"]),
        ({"min_freq": 9}, [PAD, UNK]),
        ({"max_size": 3}, [PAD, UNK, "b"]),
        ({"max_size": 2}, [PAD, UNK]),
        ({"max_size": 1}, [PAD, UNK]),
        ({"max_size": 100}, [PAD, UNK, "b", "a", "c", "ä"]),
        ({"max_size": 5, "min_freq": 2}, [PAD, UNK, "b", "a"]),
        ({"specials": ()}, ["b", "a", UNK, "c", "ä"]),
        ({"specials": (PAD,)}, [PAD, "b", "a", UNK, "c", "ä"]),
    ],
)
def test_vocabulary_limits(limits, tokens):
    """A special that occurs in the data has one id, and no limit drops a special."""
    assert Vocabulary.build(SENTENCES, **limits).tokens == tokens


def test_unknown_words():
    """An unknown word is <unk>; without <unk> it is an error that names the word."""
    vocabulary = Vocabulary.build([["a"]])
    assert vocabulary.encode(["a", "zebra", PAD]) == [2, 1, 0]
    assert vocabulary.decode([2, 1, 0]) == ["a", UNK, PAD]
    assert vocabulary.decode(torch.tensor([2, 1])) == ["a", UNK]
    with pytest.raises(UserError, match="zebra"):
        Vocabulary.build([["a"]], specials=(PAD,)).encode(["a", "zebra"])


def test_vocabulary_can_be_looped_over():
    """With __getitem__ alone, Python would loop over <unk> for ever."""
    vocabulary = Vocabulary.build(SENTENCES)
    assert [token for token, _ in zip(vocabulary, range(99))] == vocabulary.tokens


def test_vocabulary_refuses_repeats():
    """Two ids for one token would make encode and decode disagree."""
    with pytest.raises(UserError, match="twice"):
        Vocabulary(["a", "b", "a"])


def test_vocabulary_round_trip(tmp_path):
    """Every token that a text can hold must survive the file."""
    odd = ["\n", "\r\n", "\r", "\t", '"', "'", "\\", "", " ", "\u2028", "\x85", "\x00"]
    vocabulary = Vocabulary([PAD, UNK, *odd, "鍵", "é", "e\u0301", "\ufeff", "🙂"])
    vocabulary.save(tmp_path / "new" / "vocabulary.json")
    loaded = Vocabulary.load(tmp_path / "new" / "vocabulary.json")
    assert loaded.tokens == vocabulary.tokens
    assert loaded.ids == vocabulary.ids


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "null",
        "[1, 2]",
        '["a", null]',
        '["a"',
        '["a", "a"]',
        "a\nb",
        "[" * 200_000,
        "[" + "1" * 5000 + "]",
    ],
    ids=range(9),
)
def test_malformed_vocabulary(tmp_path, content):
    """Anything but a list of strings is refused in one sentence."""
    (tmp_path / "v.json").write_text(content)
    with pytest.raises(UserError, match="vocabulary"):
        Vocabulary.load(tmp_path / "v.json")


# ---------------------------------------------------------------- padding and batches


@pytest.mark.parametrize("value", [0, -100])
def test_pad(value):
    """Rows keep their ids, the rest is `value`, and lengths count the real items."""
    ids, lengths = pad([[5, 6], [], torch.tensor([7, 8, 9])], value)
    assert ids.tolist() == [[5, 6, value], [value] * 3, [7, 8, 9]]
    assert lengths.tolist() == [2, 0, 3]
    assert ids.dtype == lengths.dtype == torch.long


def test_length_mask():
    """True where there is a real item; also where the width is not the longest length."""
    mask = length_mask(torch.tensor([2, 0, 3]), 4)
    assert mask.tolist() == [
        [True, True, False, False],
        [False] * 4,
        [True, True, True, False],
    ]
    ids, lengths = pad([[1], [2, 3, 4]])
    assert torch.equal(length_mask(lengths, 3), ids != 0)


@pytest.mark.parametrize("n", [1, 7, 8, 407])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("pool", [1, 3, 50])
def test_bucketed_order_has_every_row_once(n, shuffle, pool):
    """A row left out or met twice would bias training and every score."""
    lengths = torch.randint(1, 30, (n,))
    order = bucketed_order(lengths, 8, shuffle, pool)
    assert sorted(torch.cat(order).tolist()) == list(range(n))
    assert len(order) == -(-n // 8)
    assert sorted(len(batch) for batch in order)[1:] == [8] * (len(order) - 1)


def test_bucketed_order_saves_padding():
    """Batches must be of similar length, in an order that differs from epoch to epoch."""
    torch.manual_seed(0)
    lengths = torch.randint(1, 101, (4000,))

    def padded(order):
        return sum(len(b) * int(lengths[b].max()) for b in order) / int(lengths.sum())

    one, two = bucketed_order(lengths, 20, True), bucketed_order(lengths, 20, True)
    assert padded(torch.randperm(4000).split(20)) > 1.7
    assert padded(one) < 1.05
    assert [batch.tolist() for batch in one] != [batch.tolist() for batch in two]
    whole = bucketed_order(lengths, 20, True, pool=200)  # one pool: sorted throughout
    longest = [int(lengths[batch].max()) for batch in whole]
    assert longest != sorted(longest), "short batches first would be no random epoch"


def test_bucketed_order_unshuffled_is_stable():
    """Evaluation must meet the same batches at every call, ties in the data's order."""
    lengths = torch.tensor([3, 1, 3, 1, 2])
    state = torch.get_rng_state()
    for _ in range(2):
        order = bucketed_order(lengths, 2, shuffle=False)
        assert [batch.tolist() for batch in order] == [[1, 3], [4, 0], [2]]
    assert torch.equal(torch.get_rng_state(), state)


def example(n=11, device="cpu", **options):
    """Batches of rows whose content tells their row number, and the tensors themselves."""
    generator = torch.Generator().manual_seed(1)
    sequences = [
        [i + 1] * int(torch.randint(1, 9, (), generator=generator)) for i in range(n)
    ]
    x, x_length = pad(sequences)
    y, y_length = pad([s[:2] for s in sequences])
    data = {"x": x, "x_length": x_length, "label": torch.arange(n) * 10}
    data.update(y=y, y_length=y_length, z=torch.arange(n * 6.0).view(n, 2, 3))
    return Batches(data, 4, device=device, **options), data


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("bucket", [None, "x", "y"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_batches(shuffle, bucket, device):
    """Every row once a pass; companions stay together; each tensor is cut to its longest row."""
    batches, data = example(shuffle=shuffle, bucket=bucket)
    seen = []
    for batch in batches:
        index = batch["index"]
        seen += index.tolist()
        assert len(index) in (4, 3)
        assert torch.equal(batch["label"], index * 10)
        assert torch.equal(batch["z"], data["z"][index])
        for name in "xy":
            lengths = batch[f"{name}_length"]
            assert torch.equal(lengths, data[f"{name}_length"][index])
            assert batch[name].shape == (len(index), int(lengths.max()))
            assert torch.equal(batch[name], data[name][index][:, : int(lengths.max())])
    assert sorted(seen) == list(range(11))
    assert len(batches) == 3 == len(list(batches))
    if device == "meta":  # stands in for a GPU: lengths must not go there
        moved, _ = example(device=device, shuffle=shuffle, bucket=bucket)
        batch = next(iter(moved))
        kinds = {name: tensor.device.type for name, tensor in batch.items()}
        assert {kinds["x"], kinds["y"], kinds["z"], kinds["label"]} == {"meta"}
        assert {kinds["x_length"], kinds["y_length"], kinds["index"]} == {"cpu"}


def test_batches_order():
    """Unshuffled keeps the data's order; shuffled differs each pass and follows the seed."""
    plain, _ = example()
    assert torch.cat([b["index"] for b in plain]).tolist() == list(range(11))
    assert [len(b["index"]) for b in plain] == [4, 4, 3]
    shuffled, _ = example(shuffle=True)

    def pass_over():
        return torch.cat([b["index"] for b in shuffled]).tolist()

    torch.manual_seed(3)
    first, second = pass_over(), pass_over()
    assert first != second
    torch.manual_seed(3)
    assert [pass_over(), pass_over()] == [first, second]


def test_batches_does_not_change_its_data():
    """A lesson that writes into a batch must not damage the next epoch."""
    batches, data = example()
    before = data["x"].clone()
    for batch in batches:
        batch["x"].fill_(-1)
        batch["x_length"].fill_(1)
    assert torch.equal(data["x"], before)
    assert max(int(b["x_length"].max()) for b in batches) > 1
