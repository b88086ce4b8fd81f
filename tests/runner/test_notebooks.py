"""The suite's notebooks: their shape, their execution, the errors that papermill does not raise."""

import json
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

import boostlib as bl
from boostlib import experiment
from boostlib.runner import execute as suite
from boostlib.runner.parameters import choose, resolve

ROOT = Path(__file__).parents[2]
NOTEBOOKS = choose([], ROOT)
PROFILES = sorted((ROOT / "notebooks" / "profiles").glob("*/*.yaml"))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one small notebook."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    folder = tmp_path / "notebooks" / "profiles" / "smoke"
    folder.mkdir(parents=True)
    cells = [
        nbformat.v4.new_code_cell(
            "profile: str = 'none'  # its profile\nx: int = 1  # a number", metadata={"tags": ["parameters"]}
        ),
        nbformat.v4.new_code_cell("import sys\nprint('noise', file=sys.stderr)\nprint(10 // x, profile)"),
    ]
    nb = nbformat.v4.new_notebook(cells=cells)
    nb.metadata["kernelspec"] = {"name": "boostlib", "display_name": "boostlib", "language": "python"}
    nbformat.write(nb, tmp_path / "notebooks" / "01_small.ipynb")
    (folder / "01_small.yaml").write_text("x: 2\n")
    return tmp_path


def run(project, **parameters):
    return suite.execute(resolve(*choose(["01"], project), "smoke", parameters), project)


def test_a_profile_fills_the_parameters_and_the_copy_is_clean(project):
    done = run(project)
    copy = project / done.executed
    text = copy.read_text()
    printed = [o["text"] for cell in json.loads(text)["cells"] for o in cell.get("outputs", [])]
    assert done.executed == "runs/notebooks/smoke/01_small.ipynb" and printed == [["5 smoke\n"]]
    assert str(project) not in text  # no path of this machine
    assert sorted(p.name for p in copy.parent.iterdir()) == ["01_small.ipynb", "01_small.log"]
    assert copy.with_suffix(".log").read_text() == "noise\n"


def test_an_unknown_parameter_is_refused_before_anything_runs(project):
    with pytest.raises(ValueError, match=r"01_small.ipynb has no parameter 'z' \(profile smoke\): it has profile, x"):
        run(project, z=3)
    assert not (project / "runs").exists()


def test_a_failing_notebook_leaves_the_older_copy_and_shows_the_failed_one(project):
    copy = project / run(project).executed
    good = copy.read_text()
    (project / "notebooks" / "profiles" / "smoke" / "01_small.yaml").write_text("x: 0\n")
    assert run(project).failure["error"].startswith("ZeroDivisionError")
    assert copy.read_text() == good
    assert sorted(p.name for p in copy.parent.glob("*.ipynb")) == ["01_small.failed.ipynb", "01_small.ipynb"]
    with pytest.raises(ValueError, match="01_small failed when it was last executed in profile smoke"):
        suite.record("smoke", project)


def test_unknown_notebooks_and_profiles_are_named(project):
    with pytest.raises(ValueError, match="no notebook '07': there are 01_small"):
        choose(["07"], project)
    with pytest.raises(ValueError, match="unknown profile 'big': there are smoke"):
        resolve(*choose(["01"], project), "big", {})


def test_tables_are_recorded_beside_the_notebooks_and_read_back(project, monkeypatch):
    with pytest.raises(FileNotFoundError, match="boostlib run 01_small --profile smoke"):
        experiment.tables_of("01_small", "smoke")
    with pytest.raises(ValueError, match="nothing to record in profile smoke"):
        suite.record("smoke", project)
    run(project)
    context = {"tables": str(project / "runs" / "tables" / "smoke"), "command": "boostlib run 01"}
    with monkeypatch.context() as within:
        within.setattr(bl.runs, "context", lambda: context)
        experiment.save_tables("01_small", "smoke", {"a": pd.DataFrame({"x": [1, 2]})}, {"beta": 0.3})
    assert experiment.tables_of("01_small", "smoke")[2] == "fresh"
    suite.record("smoke", project)
    shutil.rmtree(project / "runs")
    tables, manifest, kind = experiment.tables_of("01_small", "smoke")
    assert kind == "recorded" and tables["a"].x.tolist() == [1, 2] and manifest["identity"] == {"beta": 0.3}


def test_what_is_tried_in_jupyter_is_no_result_of_the_profile(project):
    experiment.save_tables("01_small", "smoke", {"a": pd.DataFrame({"x": [1]})}, {})
    with pytest.raises(FileNotFoundError):
        experiment.tables_of("01_small", "smoke")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_written_to_be_read(path):
    text = (
        path.read_text()
    )  # as the git filter writes it, else it runs, and the checkout is changed, at every git status
    plain = json.dumps(json.loads(text), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    assert text == plain or path.stem == "01_theory"
    nb = nbformat.read(path, 4)
    assert nb.cells[0].source.startswith("# "), "a title first"
    assert nb.metadata.kernelspec.name == suite.KERNEL
    parameters = [c for c in nb.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(parameters) == 1
    lines = [
        line for line in parameters[0].source.splitlines() if line and not line.startswith((" ", "]", "}", ")", "#"))
    ]
    assert all(":" in line.partition("=")[0] for line in lines), "parameters are typed"
    headings = [c.source.lower() for c in nb.cells if c.cell_type == "markdown" and c.source.startswith("#")]
    assert any("check" in h for h in headings) and any("learnt" in h for h in headings)
    code = [c.source for c in nb.cells if c.cell_type == "code" and c is not parameters[0]]
    assert sorted(len(s.splitlines()) for s in code)[len(code) // 2] <= 12, "cells are short"


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_profile_fits_its_notebook(path):
    job = resolve(ROOT / "notebooks" / f"{path.stem}.ipynb", path.parent.name, {})
    assert set(yaml.safe_load(path.read_text()) or {}) <= set(job.parameters) and job.label == path.parent.name
