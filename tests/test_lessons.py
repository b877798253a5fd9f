"""What all lessons keep: each started once as a reader starts it, then in this process.

What only one lesson does is tested in its own file, test_01_... to test_10_...
"""

import json
import math
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from conftest import ROOT, load_lesson, metrics, run_main, run_script

import rnn_utils

NAMES = sorted(path.stem for path in ROOT.glob("[01][0-9]_*.py"))
LESSONS = {name[:2]: load_lesson(name) for name in NAMES}
NAME = {name[:2]: name for name in NAMES}
TRAINING = [number for number in NAME if number >= "04"]
OTHER_TASKS = {"07 tag": ["--task", "tag"], "08 translate": ["--task", "translate"]}
CASES = sorted([*NAME, *OTHER_TASKS])


# ---------------------------------------------------------------- flags and imports

COMMON = "--seed --out-dir --quick --no-plots".split()  # noqa: SIM905
COMPUTES = ["--device", "--threads"]
READS = ["--dataset", "--data-dir", "--input"]
TRAINS = "--epochs --batch-size --lr --hidden-size --num-layers --dropout --clip "
TRAINS += "--weight-decay --patience --optimizer --accumulate --precision "
TRAINS += "--save-model --path --eval-only --resume"
OWN = {
    "01": "--sequence-length --batch-size",
    "02": "--tokenizer --max-vocab --min-freq --max-length",
    "03": "--column --sequence-length --horizon",
    "04": "--cell --bidirectional --leaky-split --overfit-one-batch --compare --predict",
    "05": "--cell --pooling --layer-norm --max-length --max-vocab --compare --predict",
    "06": "--cell --column --sequence-length --horizon --target --forecast "
    "--leaky-scaling",
    "07": "--task --cell --unidirectional --no-packing --char-features --compare "
    "--predict",
    "08": "--task --cell --teacher-forcing --max-length --beam-size --predict",
    "09": "--attention-type --input-feeding --beam-size --predict",
    "10": "--level --cell --sequence-length --temperature --top-k --top-p --max-length "
    "--prompt",
}


@pytest.mark.parametrize("number", NAME)
def test_flags_of_the_contract(number):
    """A flag that is missing or renamed breaks a command that somebody has written down."""
    parser = LESSONS[number].make_flags()
    found = {flag for action in parser._actions for flag in action.option_strings}
    wanted = [*COMMON, *OWN[number].split()]
    wanted += READS if number != "01" else []
    wanted += COMPUTES if number not in ("02", "03") else []
    wanted += TRAINS.split() if number in TRAINING else []
    assert set(wanted) <= found


@pytest.mark.parametrize("number", NAME)
def test_numbers_out_of_range(number):
    """Each flag that takes a number refuses what can be none, by its name."""
    parser = LESSONS[number].make_flags()
    for action in parser._actions:
        for value in ("-1", "nan", "9" * 12, "x", "") if callable(action.type) else ():
            flag = action.option_strings[-1]
            with pytest.raises(rnn_utils.UserError, match=flag):
                parser.parse_args([f"{flag}={value}"])


def test_importing_does_nothing_and_is_quick():
    """No output; and what takes long to import waits until it is needed."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); from conftest import load_lesson\n"
        "slow = {'pandas', 'sklearn', 'scipy', 'matplotlib', 'sacrebleu', 'pooch'}\n"
        "for name in sys.argv[1:]:\n"
        "    load_lesson(name)\n"
        "    for module in sorted(slow & set(sys.modules)):\n"
        "        slow.remove(module)\n"
        "        print(name, 'imports', module)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *NAMES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("", "")


# ---------------------------------------------------------------- the default run


@pytest.fixture(scope="module", params=CASES)
def whole(request, tmp_path_factory):
    """A finished --quick run of a lesson or task: where it lies, what it said.

    The default task of each lesson runs as a script, with pictures, in a process without
    a network, in another folder than the project's.
    """
    case = request.param
    number = case[:2]
    name = NAME[number]
    folder = tmp_path_factory.mktemp("whole")
    out = folder / "outputs" / name
    model = folder / "models" / f"{name}.pt"
    flags = ["--quick", *OTHER_TASKS.get(case, [])]
    flags += ["--save-model"] if number in TRAINING else []
    said = None
    if case in OTHER_TASKS:
        more = ["--no-plots", "--out-dir", out, "--path", model]
        assert run_main(LESSONS[number], *flags, *more) == 0
    else:
        said = run_script(name, *flags, cwd=folder)
        assert said.returncode == 0, said.stderr
    return Namespace(case=case, number=number, out=out, model=model, said=said)


def test_quick_run_as_a_reader_starts_it(whole):
    """Offline, status 0, nothing on stderr; the results say that they are no real ones."""
    result = metrics(whole.out.parent, whole.out.name)
    assert result["script"] == NAME[whole.number]
    assert result["real"] is False
    assert result["metrics"] and result["args"]["quick"] is True
    for group in ("metrics", "baselines"):
        for name, value in result[group].items():
            assert value is None or isinstance(value, int | float), (group, name)
    made = {path.name for path in whole.out.parent.parent.iterdir()}
    assert made <= {"outputs", "models", "no_network"}
    assert (whole.number in TRAINING) == whole.model.exists()
    if whole.said is None:
        return
    assert whole.said.stderr == ""
    assert "sample" in whole.said.stdout or whole.number == "01"
    assert "[real]" not in whole.said.stdout
    assert "nan" not in whole.said.stdout.lower().split()
    pictures = list(whole.out.glob("*.png"))
    assert pictures
    for path in pictures:
        assert plt.imread(path)[..., :3].std() > 0.01, f"{path} is blank"
        assert f"picture: outputs/{whole.out.name}/{path.name}" in whole.said.stdout


def without_clock(values):
    """Entries that do not depend on how fast the machine was."""
    clock = ("second", "_s", "threads")  # ..._s: seconds
    if not isinstance(values, dict):
        return values
    kept = {k: v for k, v in values.items() if not any(k.endswith(c) for c in clock)}
    return {name: without_clock(value) for name, value in kept.items()}


def trained(whole):
    """Skip the lessons that train nothing; flags of a run like the whole one."""
    if whole.number not in TRAINING:
        pytest.skip("it saves no model")
    return ["--quick", "--no-plots", *OTHER_TASKS.get(whole.case, [])]


def test_interrupted_and_resumed_equals_the_whole(whole, tmp_path, monkeypatch, capsys):
    """Ctrl-C in epoch 2, then --resume: weights and scores of an uninterrupted run.

    The other run was another process: so it is also the test of same seed, same numbers.
    """
    flags = [*trained(whole), "--save-model", "--path", tmp_path / "model.pt"]
    flags += ["--out-dir", tmp_path / "out"]
    state = tmp_path / "out" / "last.pt"
    train_epoch = rnn_utils.train_epoch

    def pressed(*given):
        if state.exists():  # side experiments leave none
            raise KeyboardInterrupt
        return train_epoch(*given)

    with monkeypatch.context() as patch:
        patch.setattr(rnn_utils, "train_epoch", pressed)
        assert run_main(LESSONS[whole.number], *flags) == 130
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and str(state) in said and "--resume" in said
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["last.pt"]
    assert run_main(LESSONS[whole.number], *flags, "--resume") == 0
    for one, other in ((whole.out / "last.pt", state), (whole.model, flags[-3])):
        first = torch.load(one, weights_only=True)
        second = torch.load(other, weights_only=True)
        for name, weights in first["model"].items():
            assert torch.equal(weights, second["model"][name]), name
        assert (first["config"], first["feeds"]) == (second["config"], second["feeds"])
    expected = metrics(whole.out.parent, whole.out.name)
    found = metrics(tmp_path)
    for group in ("metrics", "baselines", "parameters", "epochs_run", "models"):
        assert without_clock(found.get(group)) == without_clock(expected.get(group))


def test_a_saved_model_scores_as_before(whole, tmp_path):
    """--eval-only: the same scores, without the flags that shaped the model."""
    flags = [*trained(whole), "--eval-only", "--path", whole.model]
    before = whole.model.read_bytes()
    flags += ["--out-dir", tmp_path / "out"]
    assert run_main(LESSONS[whole.number], *flags) == 0
    expected = metrics(whole.out.parent, whole.out.name)["metrics"]
    found = metrics(tmp_path)
    assert found["epochs_run"] == 0
    scores = {k: v for k, v in found["metrics"].items() if k[:5] in ("test_", "val_l")}
    assert scores
    for name, value in scores.items():
        assert value == pytest.approx(expected[name], rel=1e-6), name
    assert whole.model.read_bytes() == before
    assert not (tmp_path / "out" / "last.pt").exists()


OTHER = "--optimizer sgd --lr 0.01 --accumulate 2 --precision bf16 --batch-size 16 "
OTHER += "--hidden-size 8 --num-layers 2 --dropout 0.4 --weight-decay 0.1 --clip 0.5 "
OTHER += "--patience 1 --epochs 1 --seed 1 --threads 1"


@pytest.mark.parametrize("case", [c for c in CASES if c[:2] in TRAINING])
def test_every_training_flag_at_once(case, tmp_path, monkeypatch):
    """They arrive where they act: the optimiser, its groups, the model, the record."""
    lesson = LESSONS[case[:2]]
    seen = []
    real = rnn_utils.make_optimizer

    def noted(parameters, args, sparse=()):
        optimizer = real(parameters, args, sparse)
        dense = getattr(
            optimizer, "dense", optimizer
        )  # the other takes no flags but lr
        seen.append((args.epochs, args.accumulate, args.precision, dense))
        return optimizer

    monkeypatch.setattr(rnn_utils, "make_optimizer", noted)
    flags = ["--quick", "--no-plots", *OTHER_TASKS.get(case, []), *OTHER.split()]
    assert run_main(lesson, *flags, "--out-dir", tmp_path / "out") == 0
    result = metrics(tmp_path)
    assert result["epochs_run"] == 1
    assert (result["precision"], result["seed"]) == ("bf16", 1)
    assert result["args"]["hidden_size"] == 8
    for value in result["metrics"].values():
        assert value is None or math.isfinite(value)
    state = torch.load(tmp_path / "out" / "last.pt", weights_only=True)
    kept = state["training"]["optimizer"]
    (group,) = kept.get("dense", kept)["param_groups"]
    assert group["momentum"] == 0.9 and group["weight_decay"] == 0.1
    sizes = [v for v in state["config"].values() if isinstance(v, int)]
    assert 8 in sizes and 2 in sizes, "hidden size and layers"
    assert 0.4 in state["config"].values(), "dropout"
    main = [entry for entry in seen if entry[:3] == (1, 2, "bf16")]
    assert any(isinstance(entry[3], torch.optim.SGD) for entry in main)


# ---------------------------------------------------------------- data sets


# 01 reads no data, and the digits of 08 are generated.
@pytest.mark.parametrize("case", [c for c in CASES if c not in ("01", "08")])
def test_first_start_without_network(case, tmp_path, monkeypatch, capsys):
    """The default flags go on with a sample that is there, and say so in one line."""
    choose = rnn_utils.choose_dataset
    chosen = []

    def refuse(name, data_dir):
        raise rnn_utils.UserError(f"no network for {name}")

    def stop(args, real, offline):
        assert set(real) <= set(rnn_utils.DATASETS)
        assert all(path is None or path.exists() for path in offline.values())
        chosen.append(choose(args, real, offline))
        raise KeyboardInterrupt

    monkeypatch.setattr(rnn_utils, "fetch", refuse)
    monkeypatch.setattr(rnn_utils, "choose_dataset", stop)
    monkeypatch.chdir(tmp_path)
    assert run_main(LESSONS[case[:2]], *OTHER_TASKS.get(case, [])) == 130
    assert not chosen[0].real
    assert capsys.readouterr().out.count("Going on with the offline") == 1


REAL = {"02": "shakespeare", "03": "stock", "04": "names", "06": "sunspots"}
REAL |= {"07 tag": "ewt", "08 translate": "multi30k", "09": "multi30k"}
REAL |= {"10": "shakespeare"}


@pytest.mark.real_data
@pytest.mark.parametrize("case", REAL)
def test_quick_run_on_real_data(case, real_data, tmp_path, capsys):
    """Each reader of real files, to the end; the results say that they are real.

    The IMDB archive is read in test_utils_texts.py: it takes long.
    """
    flags = ["--quick", "--no-plots", "--dataset", REAL[case], "--data-dir", real_data]
    flags += OTHER_TASKS.get(case, [])
    assert run_main(LESSONS[case[:2]], *flags, "--out-dir", tmp_path / "out") == 0
    result = metrics(tmp_path)
    assert (result["dataset"], result["real"]) == (REAL[case], True)
    printed = capsys.readouterr().out
    assert f"{REAL[case]} [real]" in printed and "[sample]" not in printed


def test_runs_add_up_in_one_file(tmp_path, monkeypatch):
    """outputs/runs.jsonl has a line for each run of each lesson."""
    monkeypatch.chdir(tmp_path)
    for number in ("02", "03"):
        assert run_main(LESSONS[number], "--quick", "--no-plots") == 0
    lines = Path("outputs/runs.jsonl").read_text().splitlines()
    assert [json.loads(line)["script"] for line in lines] == [NAME["02"], NAME["03"]]
