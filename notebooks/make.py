"""Make the notebooks from the lessons, which stay the only source.

    python notebooks/make.py            all ten: written, run, stored with their outputs
    python notebooks/make.py 04 09      these two
    python notebooks/make.py --no-run   text and code alone; a cell that does what it
                                        did keeps the output that it had

A lesson is cut into cells (script_cells.py): each function is one, and below a show_...()
without arguments stands its call.  Comments that stand alone become text
(script_text.py).  jupytext writes the notebook, and Jupyter's own kernel runs it.  The
tools are in tests/requirements.txt.  Real data are taken as the lessons take them.

The project has no public address yet.  Whoever publishes it writes the address into
ADDRESS below and makes all ten anew: then they fetch the project by themselves.
"""

import argparse
import ast
import os
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from script_cells import is_example, move_helpers_up, pieces_of, places_needed
from script_text import docstring_to_markdown

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
LIMIT = 500 * 1024  # bytes; not every host shows larger notebooks as pages

# Where the project is published.  Each notebook's first cell has it from here.  "-" is
# nobody's account: nothing is fetched from a stranger who happens to have the name.
ADDRESS = "https://github.com/-/rnn-tutorials"

# What each notebook hands to the lesson's main, and what its page says about that.  Real
# data where that takes less than two minutes on two cores, else the sample.
REAL = "This page shows the default run, on the real data."
LONGER = (
    "The default run takes longer than two minutes. What comes of it stands below, under "
    '"You should see"; to make it, take the flags out of the last cell.'
)
SAMPLE = f"This page shows a run on the small sample that the project brings. {LONGER}"
FEWER = f"This page shows a run on the real data, with fewer epochs. {LONGER}"
RUNS = {
    "01": ([], "This page shows the default run; its data are generated."),
    "02": ([], REAL),
    "03": ([], REAL),
    "04": ([], REAL),  # about a minute
    "05": (["--dataset", "sample"], SAMPLE),  # IMDB: 5 minutes and more
    "06": ([], REAL),
    "07": (["--dataset", "sample"], SAMPLE),  # IMDB: 3 minutes and more
    "08": ([], "This page shows the default run; its digits are generated."),
    "09": (["--dataset", "sample"], SAMPLE),  # Multi30k: 9 minutes and more
    "10": (["--epochs", "2"], FEWER),  # all 16: 6 minutes and more
}

ABOUT = """
{note}

Text and code are those of the script `{name}.py`. The flags of "Run it" and "Try this" \
go into the list in the last cell: `main(["--seed", "1"])`.
{colab}"""

SETUP = '''
# Run this cell first.  Where the notebook stands alone, as in Colab, it fetches the
# project.  It installs what is missing, and leaves a PyTorch that is there as it is.
import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import urlretrieve

ADDRESS = "{address}"


def project_folders():
    """Folders with rnn_utils.py: this one, the one above, or what was fetched."""
    here = Path.cwd()
    folders = [here, here.parent, *here.glob("fetched/*")]
    return [folder for folder in folders if (folder / "rnn_utils.py").is_file()]


if not project_folders():
    if "/-/" in ADDRESS:
        raise SystemExit(
            "rnn_utils.py is not here, and the project has no public address yet: put "
            "this notebook into the project's folder."
        )
    urlretrieve(f"{{ADDRESS}}/archive/refs/heads/main.zip", "fetched.zip")
    shutil.unpack_archive("fetched.zip", "fetched")
os.chdir(project_folders()[0])
sys.path.insert(0, str(Path.cwd()))

lines = Path("requirements-minimum.txt").read_text("utf-8").splitlines()
needed = [line for line in lines if line and not line.startswith("#")]
if importlib.util.find_spec("torch"):
    needed = [line for line in needed if not line.startswith("torch>")]
command = [sys.executable, "-m", "pip", "install", "--quiet", *needed]
subprocess.run(command, check=False)

# What a script has and a notebook lacks: its name, and the text at its top.
__file__ = "{name}.py"
__doc__ = ast.get_docstring(ast.parse(Path(__file__).read_text("utf-8")), clean=False)
'''

WHOLE = """
## The whole lesson

`main` goes through all of it in order, as `python {name}.py` does. For this page each \
picture is shown as well as saved, and a worked example that stands above, beside its \
code, is only named.
"""

STORY = '''
import contextlib
import functools
import io

from IPython.display import Image, display


def seen_above(show):
    """The same worked example, but all that it prints is its name."""

    @functools.wraps(show)
    def only_named():
        with contextlib.redirect_stdout(io.StringIO()):
            show()
        print(f"({{show.__name__}}: see above)")

    return only_named


def save_and_show(figure, args, name):
    """Save a picture as the lessons do, and put it into the page."""
    utils.only_save(figure, args, name)
    if not args.no_plots:
        display(Image(filename=Path(args.out_dir, f"{{name}}.png"), alt=name))


if not hasattr(utils, "only_save"):
    utils.only_save = utils.save_picture
    utils.save_picture = save_and_show
for show in [
    {shown},
]:
    globals()[show.__name__] = seen_above(show)
'''


def cells_of(script):
    """All cells of a lesson's notebook, before it is run: (kind, content)."""
    source = script.read_text("utf-8")
    flags, note = RUNS[script.name[:2]]
    names = {"name": script.stem, "note": note, "address": ADDRESS}
    where = ADDRESS.replace(
        "https://github.com", "https://colab.research.google.com/github"
    )
    link = f"{where}/blob/main/notebooks/{script.stem}.ipynb"
    published = "/-/" not in ADDRESS
    names["colab"] = f"\n[Open it in Colab]({link}).\n" if published else ""
    title, intro = docstring_to_markdown(ast.parse(source).body[0].value.value)
    cells = [
        ("markdown", f"# {title}\n" + ABOUT.format(**names)),
        ("code", SETUP.format(**names)),
        ("markdown", intro),
    ]
    pieces = pieces_of(source)
    move_helpers_up(pieces)
    calls = [[] for _ in pieces]  # below which piece which worked example is called
    for piece in filter(is_example, pieces):
        calls[places_needed(piece, pieces)[-1]] += piece[2]
    for (kind, content, _), shown in zip(pieces, calls, strict=True):
        cells.append(("markdown" if kind == "text" else "code", content))
        cells += [("code", f"{name}()") for name in shown]
    shown = [name for below in calls for name in below]
    cells.append(("markdown", WHOLE.format(**names)))
    cells.append(("code", STORY.format(shown=",\n    ".join(shown))))
    flags = ", ".join(f'"{flag}"' for flag in flags)
    cells.append(("code", f"main([{flags}])"))
    return [(kind, content.strip("\n")) for kind, content in cells]


def notebook_of(script):
    """The notebook of a lesson, not run yet, written by jupytext."""
    cells = cells_of(script)
    text = ""
    for kind, content in cells:
        mark = "# %%" if kind == "code" else "# %% [markdown]"
        if kind == "markdown":
            content = "\n".join(f"# {line}".rstrip() for line in content.splitlines())
        text += f"{mark}\n{content}\n\n"
    form = {"extension": ".py", "format_name": "percent", "comment_magics": False}
    notebook = jupytext.reads(text, form)
    assert [(c.cell_type, c.source) for c in notebook.cells] == cells, script
    spec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": spec})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # jupytext draws them at random
        cell.metadata = nbformat.from_dict({})
    return notebook


def tidy(outputs):
    """One stream where Jupyter made several, and nothing of progress and warnings."""
    kept = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if kept and output.output_type == kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def run(notebook):
    """Run all cells in a folder that looks like a fresh copy of the project."""
    from nbclient import NotebookClient

    data = Path(os.environ.pop("RNN_DATA_DIR", ROOT / "data")).resolve()
    data.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for path in [*ROOT.glob("*.py"), *ROOT.glob("*.txt"), ROOT / "samples", data]:
            name = "data" if path == data else path.name
            Path(folder, name).symlink_to(path)
        NotebookClient(
            notebook,
            timeout=None,
            startup_timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
        ).execute()
    os.environ["RNN_DATA_DIR"] = str(data)  # for the next one
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = tidy(cell.outputs)


def meaning(cell):
    """The code of a cell without its comments, which change nothing that it does."""
    return ast.dump(ast.parse(cell.source))


def keep_outputs(notebook, path):
    """Take over the outputs of cells whose code is as it was; comments may differ."""
    if path.exists():
        old = nbformat.read(path, as_version=4)
        code = [cell for cell in old.cells if cell.cell_type == "code"]
        known = {meaning(cell): cell for cell in code}
        for cell in notebook.cells:
            if cell.cell_type == "code" and meaning(cell) in known:
                cell.outputs = known[meaning(cell)].outputs
                cell.execution_count = known[meaning(cell)].execution_count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lesson", nargs="*", help="such as 04; default: all")
    parser.add_argument("--no-run", action="store_true")
    args = parser.parse_args()
    for number in args.lesson or RUNS:
        (script,) = ROOT.glob(f"{number}_*.py")
        path = FOLDER / f"{script.stem}.ipynb"
        start = time.perf_counter()
        notebook = notebook_of(script)
        if args.no_run:
            keep_outputs(notebook, path)
        else:
            run(notebook)
        nbformat.write(notebook, path)
        size = path.stat().st_size
        took = time.perf_counter() - start
        print(f"{path.name}: {size / 1024:.0f} KiB, {took:.0f} s", flush=True)
        if size > LIMIT:
            raise SystemExit(f"{path.name} is larger than {LIMIT // 1024} KiB")


if __name__ == "__main__":
    main()
