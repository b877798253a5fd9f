"""rnn_utils sections 2 and 3: downloads, data sets, files, splits, vocabulary, batches."""

import argparse
import gzip
import hashlib
import http.server
import random
import re
import socket
import threading
import time

import pytest
import torch
from conftest import refusal, written

import rnn_utils
from rnn_utils import (
    BOS,
    EOS,
    PAD,
    UNK,
    Batches,
    Source,
    UserError,
    Vocabulary,
    bucketed_order,
    choose_dataset,
    fetch,
    length_mask,
    pad,
    read_table,
    read_text,
    split_by_hash,
)

# ---------------------------------------------------------------- a server of our own

BODY = b"Anna\nBo\n" * 5000


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
def server(monkeypatch, tmp_path):
    """A local web server; DATASETS is `tiny`, one file on it.  Retries do not wait."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.asked = []
    made.answers = [GOOD]
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    serve_from(monkeypatch, tmp_path, made.server_port)
    yield made
    made.shutdown()
    made.server_close()


def serve_from(monkeypatch, folder, port, names=("a.txt",)):
    """Make `tiny` the only data set: its registry has files at this port."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    digest = hashlib.sha256(BODY).hexdigest()
    lines = [f"tiny/{n} sha256:{digest} http://127.0.0.1:{port}/{n}" for n in names]
    (folder / "samples").mkdir(exist_ok=True)
    written(folder, "samples/registry.txt", "# a comment\n" + "\n".join(lines) + "\n")
    monkeypatch.setattr(rnn_utils, "SAMPLES", folder / "samples")
    monkeypatch.setattr(rnn_utils, "DATASETS", {"tiny": ("tiny/", "a set; free")})


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """`tiny` lies at a port where nobody listens: a machine without a network."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve_from(monkeypatch, tmp_path, port)


def files_below(folder):
    return [path for path in folder.rglob("*") if not path.is_dir()]


def failure(folder):
    """The sentence with which fetching `tiny` fails."""
    sentence = refusal(fetch, "tiny", folder)
    assert "put tiny/a.txt into" in sentence, "it must say what to put where"
    assert str(folder) in sentence
    assert "127.0.0.1" in sentence
    return sentence


def test_fetch_downloads_once(server, tmp_path):
    """A second call must not go to the network again; all may read the file."""
    folder = tmp_path / "new" / "folder"
    (path,) = fetch("tiny", folder)
    assert path == folder / "tiny" / "a.txt"
    assert path.read_bytes() == BODY
    plain = written(tmp_path, "plain", "x")
    assert path.stat().st_mode == plain.stat().st_mode
    asked = len(server.asked)
    assert fetch("tiny", folder) == [path]
    assert len(server.asked) == asked
    assert files_below(folder) == [path]


def test_fetch_takes_a_file_that_lies_there(nobody, tmp_path):
    """Whoever puts a file there by hand, offline, must be able to use it, whatever it is."""
    (tmp_path / "tiny").mkdir()
    written(tmp_path, "tiny/a.txt", "anything")
    (path,) = fetch("tiny", tmp_path)
    assert path.read_text() == "anything"


@pytest.mark.parametrize(
    "answers, reason",
    [
        ([WRONG], "digest"),
        ([CUT], "broke off|digest"),  # requests before 2.32 did not count
        ([ABSENT], "404"),
        ([GOOD, (503, b"", 0)], "503"),
    ],
    ids=["wrong digest", "cut", "absent", "busy later"],
)
def test_failed_download_leaves_nothing(server, tmp_path, capfd, answers, reason):
    """A damaged file under the final name would be taken as it is ever after."""
    server.answers = list(answers)
    assert re.search(reason, failure(tmp_path / "data"))
    assert capfd.readouterr().err == "", "stderr is for the one sentence"
    assert files_below(tmp_path / "data") == []


def test_download_recovers(server, tmp_path):
    """A connection that breaks off once is no reason to give up."""
    server.answers = [GOOD, CUT, GOOD]
    (path,) = fetch("tiny", tmp_path / "data")
    assert path.read_bytes() == BODY
    assert files_below(tmp_path / "data") == [path]


def test_what_arrived_whole_is_kept(server, monkeypatch, tmp_path):
    """Of several files only the missing ones may be asked for at the next attempt."""
    serve_from(monkeypatch, tmp_path, server.server_port, ("a.txt", "b.txt"))
    server.answers = [GOOD, GOOD, WRONG]
    said = refusal(fetch, "tiny", tmp_path / "data")
    assert "put tiny/a.txt and 1 more into" in said
    assert [path.name for path in files_below(tmp_path / "data")] == ["a.txt"]
    server.asked.clear()
    server.answers = [GOOD]
    assert len(fetch("tiny", tmp_path / "data")) == 2
    assert set(server.asked) == {"/b.txt"}


@pytest.mark.parametrize("drip", [b"", b"X-Slow: 1\r\n"], ids=["silent", "dripping"])
def test_server_that_never_answers(monkeypatch, tmp_path, drip):
    """A server that accepts and says nothing, or a header now and then, must not hold us up."""
    monkeypatch.setattr(rnn_utils, "CONNECT_SECONDS", 0.2)
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
        serve_from(monkeypatch, tmp_path, listener.getsockname()[1])
        start = time.perf_counter()
        assert "no connection" in failure(tmp_path / "data")
        assert time.perf_counter() - start < 2 * 0.2 + 1
        stop.set()
        thread.join(2)


@pytest.mark.parametrize("obstacle", ["a file", "a folder", "no permission"])
def test_data_dir_that_cannot_be_used(server, monkeypatch, tmp_path, obstacle):
    """A data folder that cannot be written to must end in one sentence."""
    folder = tmp_path / "data"
    if obstacle == "a file":
        folder.write_text("I am a file")
    elif obstacle == "a folder":
        (folder / "tiny" / "a.txt").mkdir(parents=True)
    else:  # pooch words this error in its own way; root is stopped by no permission

        def refuse(*args, **kwargs):
            raise PermissionError(13, "Permission denied", str(folder))

        monkeypatch.setattr(rnn_utils.tempfile, "NamedTemporaryFile", refuse)
        assert "(that folder cannot be written to)" in failure(folder)
        return
    failure(folder)


# ---------------------------------------------------------------- --dataset and --input


def flags(tmp_path, **changes):
    given = {"dataset": "auto", "data_dir": tmp_path, "input": None, "quick": False}
    return argparse.Namespace(**{**given, **changes})


OFFLINE = {"sample": "samples/x", "made": None}


def test_auto_takes_the_real_set(server, monkeypatch, tmp_path):
    """A file if the set has one, else the folder; --quick does not overrule a name."""
    folder = tmp_path / "data"
    source = choose_dataset(flags(folder), ["tiny"], OFFLINE)
    assert source == Source("tiny", folder / "tiny" / "a.txt", True)
    assert source.label == "tiny [real]"
    serve_from(monkeypatch, tmp_path, server.server_port, ("a.txt", "b.txt"))
    named = flags(folder, dataset="tiny", quick=True)
    assert choose_dataset(named, ["tiny"], OFFLINE).path == folder / "tiny"


def test_auto_falls_back_and_says_so_in_one_line(nobody, tmp_path, capsys):
    """Without a network the run goes on with the sample, soon, and the reader knows why."""
    start = time.perf_counter()
    source = choose_dataset(flags(tmp_path), ["tiny"], OFFLINE)
    assert time.perf_counter() - start < 2
    assert source == Source("sample", "samples/x", False)
    assert source.label == "sample [sample]"
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    assert line.startswith("Going on with the offline sample, because ")
    assert "no connection" in line and line.endswith(".")
    assert printed.err == ""


def test_named_real_set_that_cannot_be_had_is_an_error(nobody, tmp_path):
    """Who asks for the real data outright must not get results on the sample."""
    chosen = flags(tmp_path, dataset="tiny")
    assert "put tiny/a.txt" in refusal(choose_dataset, chosen, ["tiny"], OFFLINE)


@pytest.mark.parametrize(
    "changes, name, path",
    [
        ({"quick": True}, "sample", "samples/x"),
        ({"dataset": "sample"}, "sample", "samples/x"),
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


def test_input_is_taken_and_is_not_real(monkeypatch, tmp_path):
    """The reader's own file wins over auto, and is never called real."""
    monkeypatch.setattr(rnn_utils, "fetch", lambda *args: pytest.fail("asked"))
    path = written(tmp_path, "mine.csv", "text,label\n")
    source = choose_dataset(flags(tmp_path, input=str(path)), ["tiny"], OFFLINE)
    assert source == Source("input", path, False)
    assert source.label == "mine.csv [sample: your own data]"
    monkeypatch.chdir(tmp_path)  # `--input .` must not leave a title without a name
    source = choose_dataset(flags(tmp_path, input="."), ["tiny"], OFFLINE)
    assert source.label.startswith(tmp_path.name + " [")
    odd = Source("input", tmp_path / "caf\udce9.csv", False)  # a name that is no UTF-8
    assert odd.label == "caf?.csv [sample: your own data]"


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"input": ".", "dataset": "sample"}, "--input and --dataset"),
        ({"input": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_input_that_cannot_be_meant(tmp_path, changes, says):
    """Two answers to the question which data to take, or a mistyped path."""
    assert says in refusal(
        choose_dataset, flags(tmp_path, **changes), ["tiny"], OFFLINE
    )


def test_registry_names_files_of_every_data_set(tmp_path):
    """Data over plain http, or a digest of another length, could never be trusted."""
    registry = rnn_utils.open_registry(tmp_path)
    listed = []
    for name in rnn_utils.DATASETS:
        paths = rnn_utils.files_of(name, registry)
        assert paths, name
        listed += paths
    assert sorted(listed) == sorted(registry.registry), "each file in one data set"
    sizes = {"sha256": 64, "md5": 32}
    for path, digest in registry.registry.items():
        assert registry.get_url(path).startswith("https://")
        assert registry.get_url(path).endswith("/" + path.rsplit("/", 1)[-1])
        kind, value = digest.split(":")
        assert len(bytes.fromhex(value)) * 2 == sizes[kind]


@pytest.mark.real_data
def test_digests_agree_with_the_real_files(real_data):
    """A mistyped digest would make every download of this set fail."""
    registry = rnn_utils.open_registry(real_data)
    for path, digest in registry.registry.items():
        if path.startswith("aclImdb"):  # ours is without the unlabelled reviews
            continue
        kind, expected = digest.split(":")
        found = hashlib.new(kind, (real_data / path).read_bytes()).hexdigest()
        assert found == expected, path


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    "content, text",
    [
        (b"\xef\xbb\xbfa\r\nb\r\n", "a\nb\n"),
        ("ключ 鍵\n".encode(), "ключ 鍵\n"),
        ("text,label\nGrüße,a\n".encode("utf-16"), "text,label\nGrüße,a\n"),
        ("e\u0301cole".encode(), "école"),
    ],
    ids=["Windows", "non-ASCII", "UTF-16", "accent apart"],
)
def test_read_text(tmp_path, content, text):
    """Files made on Windows or a Mac must read like any other."""
    assert read_text(written(tmp_path, "a.txt", content)) == text


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \r\n\t\n ", "is empty"),
        ("text,label\nGrüße,a\n".encode("latin-1"), "not UTF-8"),
        (b"text,label\na \0 b,x\n", "not UTF-8"),
        (b"PK\x03\x04....", "save a sheet as CSV"),
        (gzip.compress(b"text"), "unpack what is packed"),
        (None, "cannot be read"),
    ],
    ids=["empty", "blank", "Latin-1", "NUL", "xlsx", "gz", "folder"],
)
def test_hostile_files(tmp_path, content, says):
    """Whatever the file holds, the reader gets one sentence that names it."""
    path = tmp_path / "a.csv"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    for read in (read_text, read_table):
        sentence = refusal(read, path)
        assert says in sentence and str(path) in sentence


@pytest.mark.parametrize(
    "content",
    [
        b"text,label\na,b\nc,d\n",
        b"\xef\xbb\xbftext,label\r\na,b\r\nc,d\r\n",
        b'text, label\n"a", b\n\nc, d',
        b"text;label\na;b\nc;d\n",
        b"text\tlabel\na\tb\nc\td\n",
        b"text,label,\na,b,\nc,d,\n",
    ],
    ids=["plain", "BOM and CRLF", "blanks", "semicolons", "tabs", "trailing commas"],
)
def test_read_table(tmp_path, content):
    """The same cells, whatever wrote the file."""
    frame, said = read_table(written(tmp_path, "a.csv", content))
    assert list(frame.columns) == ["text", "label"]
    assert frame.to_numpy().tolist() == [["a", "b"], ["c", "d"]]
    assert len(said) == (b";" in content or b"\t" in content)


@pytest.mark.parametrize(
    "content, says",
    [
        (b"text,label\n", "no rows"),
        (b'text,label\n"a,b\n', "cannot be read"),
        (b"text,label\nwell, yes,b\nc,d\n", "row 1 below the header"),
        (b"text,label\nc,d,e\nf,g,h\n", "more cells"),
    ],
)
def test_malformed_table(tmp_path, content, says):
    """A comma without quotes must not shift a column unnoticed."""
    assert says in refusal(read_table, written(tmp_path, "a.csv", content))


# ---------------------------------------------------------------- splits


def test_split_by_hash():
    """Fixed for ever, in shares as asked, whatever the order and repeats of the keys."""
    keys = [f"key {i}" for i in range(20)]
    parts = split_by_hash(keys)
    assert "".join(str(parts[key]) for key in keys) == "00000010200102000000"
    keys = [f"Ünïcode {i}" for i in range(2003)]
    shares = (0.7, 0.15, 0.15)
    parts = split_by_hash(keys, shares)
    for part, share in enumerate(shares):
        assert abs(list(parts.values()).count(part) - share * 2003) <= 1
    shuffled = random.Random(1).sample(keys * 2, 4006)
    assert split_by_hash(iter(shuffled), shares) == parts


def test_three_parts(tmp_path):
    """Rows with the same key stay together; too few are refused in a sentence."""
    rows = list(range(60))
    keys = [f"key {k % 30}" for k in rows]
    parts = rnn_utils.three_parts(rows, keys, tmp_path / "x")
    assert [len(part) for part in parts] == [48, 6, 6]
    assert sorted(parts[0] + parts[1] + parts[2]) == rows
    kinds = [{k % 30 for k in part} for part in parts]
    assert sum(len(kind) for kind in kinds) == 30, "no key stands in two parts"
    assert "10 or more" in refusal(
        rnn_utils.three_parts, rows[:4], keys[:4], tmp_path / "x"
    )


# ---------------------------------------------------------------- vocabulary

SENTENCES = [["b", "a", "c"], ["b", "a", "ä"], ["b", UNK]]


def test_vocabulary_order():
    """Ids are part of a checkpoint: specials, falling count, ties alphabetical."""
    vocabulary = Vocabulary.build(SENTENCES, specials=(PAD, UNK, BOS, EOS))
    assert vocabulary.tokens == [PAD, UNK, BOS, EOS, "b", "a", "c", "ä"]
    turned = Vocabulary.build(SENTENCES[::-1], (PAD, UNK, BOS, EOS))
    assert turned.tokens == vocabulary.tokens == list(vocabulary)
    assert [vocabulary[token] for token in vocabulary.tokens] == list(range(8))
    assert len(vocabulary) == 8
    assert "a" in vocabulary and "x" not in vocabulary
    for token, number in ((PAD, 0), (UNK, 1), (BOS, 2), (EOS, 3)):
        assert vocabulary[token] == number


@pytest.mark.parametrize(
    "limits, tokens",
    [
        ({"min_freq": 2}, [PAD, UNK, "b", "a"]),
        ({"max_size": 3}, [PAD, UNK, "b"]),
        ({"max_size": 1}, [PAD, UNK]),
        ({"max_size": 5, "min_freq": 2}, [PAD, UNK, "b", "a"]),
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
    bare = Vocabulary.build([["a"]], specials=(PAD,))
    assert "zebra" in refusal(bare.encode, ["a", "zebra"])


def test_vocabulary_refuses_repeats():
    """Two ids for one token would make encode and decode disagree."""
    with pytest.raises(UserError, match="twice"):
        Vocabulary(["a", "b", "a"])


# ---------------------------------------------------------------- padding and batches


def test_pad_and_mask():
    """Rows keep their ids, the rest is `value`; the mask is True where an id is real."""
    ids, lengths = pad([[5, 6], [], torch.tensor([7, 8, 9])], -100)
    assert ids.tolist() == [[5, 6, -100], [-100] * 3, [7, 8, 9]]
    assert lengths.tolist() == [2, 0, 3]
    assert ids.dtype == lengths.dtype == torch.long
    assert torch.equal(length_mask(lengths, 3), ids != -100)
    assert length_mask(lengths, 4)[:, 3].tolist() == [False] * 3


def test_reverse_padded():
    """Real items in reverse, padding where it was; twice is the same as never."""
    x = torch.arange(24).view(2, 4, 3)
    lengths = torch.tensor([3, 4])
    turned = rnn_utils.reverse_padded(x, lengths)
    assert torch.equal(turned[0], x[0, [2, 1, 0, 3]])
    assert torch.equal(turned[1], x[1].flip(0))
    assert torch.equal(rnn_utils.reverse_padded(turned, lengths), x)
    flat = torch.tensor([[1, 2, 0]])
    assert rnn_utils.reverse_padded(flat, torch.tensor([2])).tolist() == [[2, 1, 0]]


@pytest.mark.parametrize("n", [1, 8, 407])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("pool", [1, 50])
def test_bucketed_order_has_every_row_once(n, shuffle, pool):
    """A row left out or met twice would bias training and every score."""
    lengths = torch.randint(1, 30, (n,))
    order = bucketed_order(lengths, 8, shuffle, pool)
    assert sorted(torch.cat(order).tolist()) == list(range(n))
    assert sorted(len(batch) for batch in order)[1:] == [8] * (len(order) - 1)


def test_bucketed_order_saves_padding():
    """Batches must be of similar length, in an order that differs from epoch to epoch."""
    torch.manual_seed(0)
    lengths = torch.randint(1, 101, (4000,))

    def padded(order):
        return sum(len(b) * int(lengths[b].max()) for b in order) / int(lengths.sum())

    one = bucketed_order(lengths, 20, True)
    two = bucketed_order(lengths, 20, True)
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
    draw = torch.Generator().manual_seed(1)
    sequences = [
        [i + 1] * int(torch.randint(1, 9, (), generator=draw)) for i in range(n)
    ]
    x, x_length = pad(sequences)
    y, y_length = pad([s[:2] for s in sequences])
    data = {"x": x, "x_length": x_length, "label": torch.arange(n) * 10}
    data.update(y=y, y_length=y_length, z=torch.arange(n * 6.0).view(n, 2, 3))
    return Batches(data, 4, device=device, **options), data


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("bucket", [None, "y"])
def test_batches(shuffle, bucket):
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
            assert torch.equal(batch[name], data[name][index][:, : int(lengths.max())])
        batch["x"].fill_(
            -1
        )  # a lesson that writes into a batch must not damage the next
    assert sorted(seen) == list(range(11))
    assert len(batches) == 3
    assert data["x"].min() == 0


def test_lengths_stay_on_the_cpu():
    """Packing wants them there; `meta` stands in for a GPU."""
    batch = next(iter(example(device="meta")[0]))
    kinds = {name: tensor.device.type for name, tensor in batch.items()}
    on_cpu = {name for name, kind in kinds.items() if kind == "cpu"}
    assert on_cpu == {"x_length", "y_length", "index"}


def test_batches_order():
    """Unshuffled keeps the data's order; shuffled differs each pass and follows the seed."""
    plain, _ = example()
    assert torch.cat([b["index"] for b in plain]).tolist() == list(range(11))
    shuffled, _ = example(shuffle=True)

    def pass_over():
        return torch.cat([b["index"] for b in shuffled]).tolist()

    torch.manual_seed(3)
    first, second = pass_over(), pass_over()
    assert first != second
    torch.manual_seed(3)
    assert [pass_over(), pass_over()] == [first, second]


def test_memory_is_handed_back_during_a_test_run(monkeypatch):
    """Answers that are kept split the free memory: 25,000 reviews took 3 GiB."""
    calls = []
    data = Batches({"x": torch.arange(130)}, 1)
    monkeypatch.setattr(rnn_utils, "release_memory", lambda: calls.append(1))
    assert len(list(data)) == 130 and not calls  # in training once an epoch is enough
    with torch.no_grad():
        assert [int(batch["x"]) for batch in data] == list(range(130))
    assert len(calls) == 2
