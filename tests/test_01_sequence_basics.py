"""Lesson 01: its tensors, its hand-written network, its claims, its flags."""

import json
import math
import re
import shlex

import numpy as np
import pytest
import torch
from conftest import ROOT, load_lesson, run_main, run_script
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import rnn_utils

lesson = load_lesson("01_sequence_basics")

B, T, F, H = 3, 7, 5, 4  # all distinct, so that a transposed shape cannot pass


@pytest.fixture(scope="module")
def data():
    """make_data at the lesson's default length."""
    return lesson.make_data(12, lesson.PAIRS)


@pytest.fixture(scope="module")
def default_run(tmp_path_factory):
    """One run as a learner makes it, without flags and without a network."""
    folder = tmp_path_factory.mktemp("default")
    return run_script("01_sequence_basics", cwd=folder), folder


# Data


@pytest.mark.parametrize("length", [5, 12, 100])
def test_every_sequence_holds_one_a_and_one_b(length):
    """A sequence with two As or none has no answer to "A before B?"."""
    train_ids, train_y, test_ids, test_y = lesson.make_data(length, 200)
    for ids, y in ((train_ids, train_y), (test_ids, test_y)):
        assert ids.shape == (len(y), length) and len(y) > 0
        assert ((ids == 1).sum(1) == 1).all() and ((ids == 2).sum(1) == 1).all()
        assert ids.min() == 1 and ids.max() == 5
        a_at, b_at = (ids == 1).int().argmax(1), (ids == 2).int().argmax(1)
        assert torch.equal(y, (a_at < b_at).long())


def test_twins_differ_in_order_only(data):
    """If twins had different sums, the sum model might win after all."""
    for ids in (data[0], data[2]):
        first, second = ids[0::2], ids[1::2]
        assert torch.equal(first.sort(1).values, second.sort(1).values)
        assert ((first != second).sum(1) == 2).all()


@pytest.mark.parametrize("length", [5, 6, 12])
def test_no_sequence_is_both_trained_on_and_held_out(length):
    """Short sequences repeat when drawn at random; a leak would flatter the network."""
    train_ids, _, test_ids, _ = lesson.make_data(length, lesson.PAIRS)
    train, test = (
        {tuple(row) for row in ids.tolist()} for ids in (train_ids, test_ids)
    )
    assert len(train) == len(train_ids) and len(test) == len(test_ids)
    assert not train & test


def test_data_do_not_depend_on_the_seed(data):
    """The split is fixed by the data, so that runs with two seeds can be compared."""
    rnn_utils.set_seed(123)
    again = lesson.make_data(12, lesson.PAIRS)
    assert all(torch.equal(a, b) for a, b in zip(data, again, strict=True))


def test_one_hot_by_hand():
    """Padding must be zeros, and A the first feature."""
    expected = [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert lesson.one_hot(torch.tensor([[1, 0, 5]])).tolist() == [expected]


def test_sliding_windows_by_hand():
    """A window that held its own target would make a forecast trivial."""
    x, y = lesson.sliding_windows(torch.tensor([10, 11, 12, 13, 14]), 3)
    assert x.tolist() == [[[10], [11], [12]], [[11], [12], [13]]]
    assert y.tolist() == [13, 14]


def test_sliding_windows_need_one_value_after_the_last():
    """Exactly one window fits a series of T + 1."""
    x, y = lesson.sliding_windows(torch.arange(6.0), 5)
    assert x.shape == (1, 5, 1) and y.tolist() == [5.0]


@pytest.mark.parametrize("size", [2, 3, 32])
@pytest.mark.parametrize("length", [5, 12, 100])
def test_cut_rows_are_unequal_prefixes(size, length):
    """Without unequal lengths the lesson on padding would show nothing."""
    ids = torch.arange(size * length).reshape(size, length)
    rows = lesson.cut_rows(ids)
    lengths = [len(row) for row in rows]
    assert len(rows) == size and max(lengths) == length and 2 <= min(lengths) < length
    assert all(torch.equal(r, i[: len(r)]) for r, i in zip(rows, ids, strict=True))


def test_padding_and_mask_by_hand_and_as_in_rnn_utils():
    """The hand-written padding is what later lessons take from rnn_utils."""
    rows = [torch.tensor([3, 4]), torch.tensor([1, 2, 5]), torch.tensor([2])]
    ids, lengths, mask = lesson.pad_rows(rows)
    assert ids.tolist() == [[3, 4, 0], [1, 2, 5], [2, 0, 0]]
    assert lengths.tolist() == [2, 3, 1]
    assert mask.tolist() == [[True, True, False], [True] * 3, [True, False, False]]
    other, other_lengths = rnn_utils.pad(rows)
    assert torch.equal(ids, other) and torch.equal(lengths, other_lengths)
    assert torch.equal(mask, rnn_utils.length_mask(lengths, 3))


def test_printed_sums_and_packing_by_hand(capsys):
    """The printed grid, sums, data and batch_sizes of rows small enough for paper."""
    few = [torch.tensor([1, 2, 3]), torch.tensor([4, 5]), torch.tensor([4])]
    lesson.show_padding(few, few)
    lesson.show_packing(few)
    out = capsys.readouterr().out
    assert "33 % of it is padding" in out
    grid = re.findall(
        r"^  ([A-E.]{3})  ([01]{3}) +(\d) +([\d.]+) +([\d.]+)$", out, re.MULTILINE
    )
    assert grid == [
        ("ABC", "111", "3", "4.5", "4.5"),
        ("DE.", "110", "2", "3.5", "3.0"),
        ("D..", "100", "1", "2.5", "1.5"),
    ]
    assert "9 cells, packed.data 6 items" in out
    assert "  data         ADD BE C\n  batch_sizes  3   2  1\n" in out


# Model


def test_step_by_hand_is_a_known_number():
    """tanh(0.5 * 1 + 0.25 + 2 * 0.1 - 0.15) = tanh(0.8), worked out on paper."""
    weights = [
        np.array([[0.5]]),
        np.array([[2.0]]),
        np.array([0.25]),
        np.array([-0.15]),
    ]
    h = lesson.rnn_step(np.array([[1.0]]), np.array([[0.1]]), weights)
    assert h.shape == (1, 1) and h[0, 0] == pytest.approx(math.tanh(0.8), abs=1e-15)


def test_step_equals_rnn_cell():
    """Any exchanged weight, lost bias or missing transpose shows in float64."""
    torch.manual_seed(1)
    cell = nn.RNNCell(F, H).double()
    x, h = torch.randn(B, F).double(), torch.randn(B, H).double()
    weights = [p.detach().numpy() for p in cell.parameters()]
    ours = lesson.rnn_step(x.numpy(), h.numpy(), weights)
    np.testing.assert_allclose(ours, cell(x, h).detach().numpy(), rtol=0, atol=1e-12)


def test_loop_equals_rnn():
    """The state must be carried from step to step, starting from zeros."""
    torch.manual_seed(2)
    rnn = nn.RNN(F, H, batch_first=True).double()
    x = torch.randn(B, T, F).double()
    ours = lesson.rnn_by_hand(x.numpy(), [p.detach().numpy() for p in rnn.parameters()])
    outputs, last = rnn(x)
    assert ours.shape == (B, T, H)
    np.testing.assert_allclose(ours, outputs.detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        ours[:, -1], last[0].detach().numpy(), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    "dtype, bound", [(torch.float32, 1e-6), (torch.float64, 1e-12)]
)
def test_printed_difference_is_rounding(dtype, bound):
    """What part 5 prints must be true at the precision it claims."""
    torch.manual_seed(3)
    differences = lesson.compare_with_torch(torch.randn(B, T, F, dtype=dtype), H)
    assert len(differences) == 2 and all(d < bound for d in differences.values())


def test_printed_difference_would_show_a_mistake(monkeypatch):
    """A comparison that cannot fail proves nothing: a lost b_hh must be seen."""
    right = lesson.rnn_step
    monkeypatch.setattr(
        lesson, "rnn_step", lambda x, h, w: right(x, h, [*w[:3], np.zeros_like(w[3])])
    )
    differences = lesson.compare_with_torch(torch.randn(B, T, F), H)
    assert all(d > 1e-3 for d in differences.values())


def test_last_states_packed_is_right_and_padding_is_wrong():
    """Row by row: full rows agree everywhere, padded rows differ in the last column."""
    torch.manual_seed(4)
    rnn = nn.RNN(F, H, batch_first=True)
    rows = [torch.randint(1, 6, (n,)) for n in (7, 4, 2)]
    states = lesson.last_states(rnn, rows)
    assert all(state.shape == (3, H) for state in states.values())
    for way in ("step length - 1", "h_n of packed"):
        torch.testing.assert_close(states[way], states["alone"], rtol=0, atol=1e-6)
    wrong = (states["last column"] - states["alone"]).abs().amax(1)
    assert wrong[0] < 1e-6 and wrong[1] > 0.01 and wrong[2] > 0.01


def test_packed_data_is_time_major():
    """The order that part 4 explains is PyTorch's own."""
    ids, lengths, _ = lesson.pad_rows([torch.tensor([1, 2, 3]), torch.tensor([4, 5])])
    packed = pack_padded_sequence(ids, lengths, batch_first=True)
    assert packed.data.tolist() == [1, 4, 2, 5, 3]
    assert packed.batch_sizes.tolist() == [2, 2, 1]


def test_sum_model_cannot_tell_twins_apart(data):
    """Whatever its weights: equal scores for twins, hence exactly half right."""
    for seed in range(5):
        torch.manual_seed(seed)
        model = lesson.SumClassifier()
        x = lesson.one_hot(data[2])
        assert torch.equal(model(x[0::2]), model(x[1::2]))
        assert lesson.accuracy(model, x, data[3]) == 0.5


def test_recurrent_model_can_tell_twins_apart(data):
    """Even untrained, the order changes its scores."""
    torch.manual_seed(0)
    model = lesson.RNNClassifier()
    x = lesson.one_hot(data[2])
    assert ((model(x[0::2]) - model(x[1::2])).abs().amax(1) > 1e-6).all()


# Training and evaluation


def test_train_epoch_is_plain_gradient_descent():
    """One step of SGD from the written-out loop, against the gradient itself."""
    torch.manual_seed(5)
    x, y = torch.randn(6, T, F, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 0])
    model = lesson.RNNClassifier(F, H).double()
    before = [p.detach().clone() for p in model.parameters()]
    loss = nn.functional.cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for p in model.parameters():  # stale gradients: zero_grad must remove them
        p.grad = torch.full_like(p, 1e3)
    mean = lesson.train_epoch(model, optimizer, x, y, batch_size=6)
    assert mean == pytest.approx(loss.item(), abs=1e-12)
    for p, old, gradient in zip(model.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(p.detach(), old - 0.1 * gradient)


def test_train_epoch_weighs_a_smaller_last_batch():
    """With batches of 4, 4 and 1 a mean of means would be another number."""
    torch.manual_seed(6)
    x, y = torch.randn(9, T, F), torch.randint(0, 2, (9,))
    model = lesson.RNNClassifier(F, H)
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    mean = lesson.train_epoch(model, frozen, x, y, batch_size=4)
    expected = nn.functional.cross_entropy(model(x), y).item()
    assert mean == pytest.approx(expected, abs=1e-6)


def test_accuracy_counts():
    """Three of four right is 0.75."""
    scores = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 5.0]])
    y = torch.tensor([0, 1, 1, 1])
    assert lesson.accuracy(lambda x: x, scores, y) == 0.75


def test_accuracy_is_of_the_held_out_sequences(monkeypatch):
    """Of those trained on, even a network that learned by heart would look good."""
    monkeypatch.setattr(lesson, "EPOCHS", 1)
    monkeypatch.setattr(lesson, "accuracy", lambda model, x, y: (len(x), y.tolist()))
    x, y = torch.randn(9, T, lesson.FEATURES), torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1])
    args = lesson.utils.argparse.Namespace(seed=0, device="cpu", batch_size=4)
    for _, held_out, _ in lesson.train_both(args, x[:5], y[:5], x[5:], y[5:]).values():
        assert held_out == (4, [0, 0, 1, 1])


# Runs


def test_default_run_shows_what_the_docstring_says(default_run):
    """The recorded figures are those of a run."""
    done, folder = default_run
    assert done.returncode == 0, done.stderr
    out = done.stdout
    table = dict(re.findall(r"^  (guessing|sum|rnn) .* ([\d.]+)$", out, re.MULTILINE))
    assert table["guessing"] == table["sum"] == "0.5000"
    assert float(table["rnn"]) > 0.99
    assert "42 % of it is padding" in out and "72 cells, packed.data 38 items" in out
    differences = re.findall(r"largest difference ([\de.-]+)", out)
    assert len(differences) == 2 and all(float(d) < 1e-6 for d in differences)
    names = {path.name for path in (folder / "outputs/01_sequence_basics").iterdir()}
    pictures = {"training.png", "hidden_a_first.png", "hidden_b_first.png"}
    assert names == {*pictures, "metrics.json"}


def test_metrics_file(default_run):
    """The scoreboard reads these names."""
    result = json.loads(
        (default_run[1] / "outputs/01_sequence_basics/metrics.json").read_text()
    )
    assert result["script"] == "01_sequence_basics"
    assert result["dataset"] == "generated" and result["real"] is False
    assert result["metrics"] == result["models"]["rnn"]
    assert result["models"]["sum"] == {"test_accuracy": 0.5}
    assert result["baselines"] == {"majority": 0.5}
    assert result["parameters"] == 5 * 8 + 8 * 8 + 8 + 8 + 2 * 8 + 2
    assert result["epochs_run"] == lesson.EPOCHS and result["units_per_second"] > 0


def test_quick_without_plots_draws_nothing(tmp_path, capsys):
    """--quick caps the data and leaves the other flags in force."""
    flags = ["--quick", "--no-plots", "--out-dir", tmp_path / "out"]
    assert run_main(lesson, *flags, "--sequence-length", 15, "--batch-size", 10) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["metrics.json"]
    out = capsys.readouterr().out
    assert "(B, T, F) = (10, 15, 5)" in out and "x is (4, 15, 1)" in out
    assert "10 rows of unequal length make a grid (B, T) (10, 15)" in out
    assert "320 training sequences" in out and "12 passes of 32 steps" in out


def test_same_seed_same_output(tmp_path, capsys):
    """Two runs of one command print the same; another seed gives another loss."""
    outputs = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        folder = tmp_path / name / "out"
        flags = ["--quick", "--no-plots", "--seed", seed, "--out-dir", folder]
        assert run_main(lesson, *flags) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.parametrize("flags", [("5", "2"), ("100", "320")])
def test_extreme_flags_work(flags, tmp_path):
    """The ends of what the flags allow."""
    flags = ["--sequence-length", flags[0], "--batch-size", flags[1]]
    assert run_main(lesson, *flags, "--quick", "--out-dir", tmp_path / "out") == 0


def test_quick_caps_a_batch(tmp_path, capsys):
    """--quick has fewer sequences than a learner's own --batch-size may ask for."""
    flags = ("--quick", "--batch-size", 1600, "--no-plots", "--out-dir", tmp_path)
    assert run_main(lesson, *flags) == 0
    assert "12 passes of 1 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--sequence-length", "4"], "not between 5 and 100"),
        (["--sequence-length", "101"], "not between 5 and 100"),
        (["--sequence-length", "ten"], "not a whole number"),
        (["--batch-size", "1"], "not between 2 and"),
        (["--batch-size", "0"], "not between 2 and"),
        (["--batch-size", "-3"], "not between 2 and"),
        (["--batch-size", "2.5"], "not a whole number"),
        (["--batch-size", "1601"], "give 1600 or less"),
        (["--epochs", "3"], "unrecognized arguments"),
        (["--seed", "-1"], "not between 0"),
        (["--device", "tpu"], "invalid choice"),
    ],
)
def test_wrong_flags_end_in_one_sentence(flags, words, tmp_path, capsys, monkeypatch):
    """Status 2, one line on stderr, nothing printed before it."""
    monkeypatch.chdir(tmp_path)
    assert run_main(lesson, *flags) == 2
    out, err = capsys.readouterr()
    assert words in err and len(err.splitlines()) == 1 and not out


def test_wrong_flag_as_a_script(tmp_path):
    """The same from the outside: no traceback reaches the learner."""
    done = run_script("01_sequence_basics", "--batch-size", "1", cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_out_dir_that_is_a_file(tmp_path, capsys):
    """A place that cannot be written to is said before anything is computed."""
    (tmp_path / "file").write_text("taken")
    assert run_main(lesson, "--out-dir", tmp_path / "file") == 2
    assert "choose another" in capsys.readouterr().err


def test_commands_in_the_docstring_parse(tmp_path, monkeypatch):
    """Every command and flag that the docstring names is one that the lesson takes."""
    monkeypatch.chdir(tmp_path)
    commands = re.findall(
        r"^    python 01_sequence_basics.py(.*)$", lesson.__doc__, re.MULTILINE
    )
    commands += re.findall(r"`(--[^`]+)`", lesson.__doc__)
    assert len(commands) >= 6
    for command in commands:
        lesson.parse(shlex.split(command))


def test_form_of_the_script():
    """300 to 500 lines, five rooms, and importing it does nothing."""
    text = (ROOT / "01_sequence_basics.py").read_text()
    assert 300 <= len(text.splitlines()) <= 500
    rooms = re.findall(r"^# ={84}\n# (\d)\. (.*)\n# ={84}$", text, re.MULTILINE)
    assert [name for _, name in rooms] == [
        *("Data", "Model", "Training", "Evaluation and pictures", "Command line")
    ]
