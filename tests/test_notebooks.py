"""The stored notebooks are those of today's lessons, whole, and free of errors.

None is run here (notebooks/make.py does that); only the first cell of one is.
"""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "notebooks"))
import make
import script_text

SCRIPTS = sorted(ROOT.glob("[01][0-9]_*.py"))
PATHS = [ROOT / "notebooks" / f"{script.stem}.ipynb" for script in SCRIPTS]
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in PATHS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_cells_are_those_of_the_script(script):
    """A lesson was changed?  Then run `python notebooks/make.py` for it."""
    stored = NOTEBOOKS[script.stem].cells
    now = make.cells_of(script)
    assert [(cell.cell_type, cell.source) for cell in stored] == now


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_notebook_was_run_without_errors(path):
    """Every cell in order, with outputs where it prints, and with its pictures."""
    assert path.stat().st_size < 500 * 1024
    nbformat.validate(NOTEBOOKS[path.stem])
    code = [cell for cell in NOTEBOOKS[path.stem].cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert all(output.output_type != "error" for output in cell.outputs)
        assert all(output.get("name") != "stderr" for output in cell.outputs)
        if cell.source.startswith("show_"):
            assert cell.outputs, cell.source
    pictures = sum("image/png" in output.get("data", {}) for output in code[-1].outputs)
    assert pictures == str(code[-1].outputs).count("  picture: ") >= 1


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_outputs_name_no_folder_of_the_maker(name):
    """They would lead nowhere, and tell about a machine."""
    code = [cell for cell in NOTEBOOKS[name].cells if cell.cell_type == "code"]
    texts = [str(output.get("text", "")) for cell in code for output in cell.outputs]
    found = re.search(
        r"(?<![\w.])/(work|tmp|home|root|usr|opt|Users)/\S*", "".join(texts)
    )
    assert not found, found


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_run_is_the_one_that_the_page_names(name):
    """Real data are real, the sample is called so."""
    flags, note = make.RUNS[name[:2]]
    printed = "".join(out.get("text", "") for out in NOTEBOOKS[name].cells[-1].outputs)
    assert ("[real]" in printed) == ("on the real data" in note), name
    assert ("sample" in flags) == ("small sample" in note)


@pytest.mark.parametrize("where", ["beside", "above", "nowhere"])
def test_first_cell_finds_or_fetches_the_project(where, tmp_path):
    """Run as in Colab (nothing there), in a folder of the project, and in notebooks/."""
    first = next(c for c in NOTEBOOKS["04_simple_rnn"].cells if c.cell_type == "code")
    assert first.source.count(make.ADDRESS) == 1
    project = tmp_path / "site" / "archive" / "refs" / "heads" / "project"
    project.mkdir(parents=True)
    for name in ("04_simple_rnn.py", "requirements-minimum.txt"):
        shutil.copy(ROOT / name, project)
    (project / "rnn_utils.py").touch()  # the real one takes seconds to import
    shutil.make_archive(project.with_name("main"), "zip", project.parent, "project")
    home = {
        "beside": project,
        "above": project / "notebooks",
        "nowhere": tmp_path / "new",
    }
    home[where].mkdir(exist_ok=True)
    fake = "import subprocess; subprocess.run = lambda command, check: print(command)\n"
    ending = "\nimport rnn_utils; print(Path.cwd(), __file__, __doc__[:4])"
    source = first.source.replace(make.ADDRESS, (tmp_path / "site").as_uri())
    done = subprocess.run(
        [sys.executable, "-c", fake + source + ending],
        cwd=home[where],
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    installed, found = done.stdout.splitlines()
    assert "'numpy>=1.24.0'" in installed
    assert "torch" not in installed  # it is there
    fetched = home["nowhere"] / "fetched" / "project"
    folder = fetched if where == "nowhere" else project
    assert found == f"{folder} 04_simple_rnn.py 04 ·"


def test_comments_become_text():
    """Prose is joined, lists stay, what is aligned is fenced, marks mean nothing."""
    comment = """\
--- 2.3 the step -----------------------------------------------------------------

It is h_(t-1) of *one* step, and
`a_b` too.  What follows:
    - an item that is
      long
    - 2 * 3 and <pad>

      x_1           x_2
       |             |
h_0 --[  ]---h_1---[  ]--> h_2

    a formula
Prose again."""
    assert (
        script_text.to_markdown(comment.splitlines())
        == """\
### 2.3 the step

It is h\\_(t-1) of *one* step, and `a_b` too. What follows:

- an item that is long
- 2 \\* 3 and &lt;pad>

```text
      x_1           x_2
       |             |
h_0 --[  ]---h_1---[  ]--> h_2

    a formula
```

Prose again."""
    )
