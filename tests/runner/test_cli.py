"""The command line: what is reused, what a failure looks like, what scripts can read, what may be removed."""

import json
import os
from pathlib import Path

import pytest
import small_project
from click.testing import CliRunner

from boostlib import runs
from boostlib.runner import cli, doctor
from boostlib.runner import status as housekeeping


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(small_project.project(tmp_path))
    return tmp_path


@pytest.fixture
def finished(project, chains, tabular):
    """A project with finished loops whose checkpoints were all kept."""
    import boostlib as bl

    quick = dict(k=2, steps=4, batch_size=2, shots=0, show=False, keep_models=True)
    bl.boost(*chains, tabular, arms=["filter_only", "boosting"], rounds=2, folder=project / "runs", **quick)
    return project


def call(*words: str, **named):
    return CliRunner().invoke(cli.main, list(words), **named)


def test_finished_rounds_are_reused_and_the_summary_counts_them(project):
    first = call("run", "02", "-p", "x", "2")
    assert first.exit_code == 0, first.output
    assert "runs/notebooks/mini+x=2/02_gsm8k_boosting.ipynb" in first.output
    assert "2 loops, 0 of them reused whole; rounds: 0 reused, 6 computed" in first.output
    more = call("run", "02", "-p", "x", "2", "-p", "seeds", "[0, 1]", "--json")
    counts = json.loads(more.stdout)[0]
    assert {k: counts[k] for k in ("loops", "loops_reused", "rounds_reused", "rounds_computed")} == {
        "loops": 4,
        "loops_reused": 2,
        "rounds_reused": 6,
        "rounds_computed": 6,
    }
    fresh = json.loads(call("run", "02", "-p", "x", "2", "--fresh", "--json").stdout)[0]
    assert (fresh["rounds_reused"], fresh["rounds_computed"]) == (0, 6)
    shown = call("show", "boosting").output
    assert "settings.alpha" in shown and "seed-0" in shown and "test_accuracy" in shown
    assert call("status").output.count("finished  round 2") == 4, "seed 1 was not dropped"


def test_a_failed_notebook_skips_those_that_need_it_and_no_others(project):
    small_project.write(project, "02_gsm8k_boosting", "1 / 0  # on purpose")
    done = call("run", "all")
    assert done.exit_code == 1
    assert "ZeroDivisionError: division by zero\n  in cell 3:\n    1 / 0  # on purpose" in done.output
    assert "executed so far: runs/notebooks/mini/02_gsm8k_boosting.failed.ipynb" in done.output
    assert "05_theory_meets_runs (mini) skipped: it needs 02_gsm8k_boosting" in done.output
    assert "runs/notebooks/mini/01_small.ipynb" in done.output and "1 of 3 notebooks done" in done.output
    assert "Traceback" not in done.output


def test_the_copy_and_its_tables_name_the_command_that_made_them(project):
    assert call("run", "01", "-p", "x", "4", "-p", "rate", "1e-5").exit_code == 0
    command = "boostlib run 01_small --profile mini -p x 4 -p rate 1e-05"
    label = "mini+rate=1e-05+x=4"
    cells = json.loads((project / "runs" / "notebooks" / label / "01_small.ipynb").read_text())["cells"]
    assert cells[1]["source"] == [f"Executed by `{command}`"]
    assert runs.read_json(project / "runs" / "tables" / label / "01_small" / "manifest.json")["command"] == command


def test_two_processes_on_one_notebook_the_second_is_refused(project):
    name = runs.digest("runs/notebooks/mini/01_small.ipynb")[:10]
    with runs.locked(project / "runs" / "locks" / name):
        done = call("run", "01")
    assert done.exit_code == 3
    assert "boostlib: another process is working on runs/notebooks/mini/01_small.ipynb; wait" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "07"], "no notebook '07': there are 01_small"),
        (["run", "01", "-p", "y", "3"], "01_small.ipynb has no parameter 'y' (profile mini): it has profile, x"),
        (["run", "01", "-p", "seeds", "3"], "seeds = 3 is not possible (profile mini): it must be of type list"),
        (["run", "01", "-p", "x", "["], "-p x [ is not YAML of plain values"),
        (["run", "01", "--profile", "big"], "unknown profile 'big': there are mini, smoke"),
        (["show", "boosting"], "no run is called 'boosting'"),
        (["record"], "nothing to record in profile mini"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(project, words, message):
    done = call(*words)
    assert done.exit_code == 2
    assert message in done.output and len(done.output.splitlines()) == 1
    assert not (project / "runs").exists() and not (project / "papermill_runs").exists()


def test_every_command_explains_itself():
    for name, command in cli.main.commands.items():
        text = call(name, "--help").output
        assert command.help and len(text.splitlines()) > 4, name
    assert "Exit codes" in call("run", "--help").output and "grid:" in call("sweep", "--help").output


def test_status_tells_running_from_stopped_and_finished(finished):
    group = finished / "runs" / "arithmetic-tabular"
    stopped = next(group.glob("filter_only-*/seed-0"))
    (stopped / "round-2" / "final.json").unlink()
    held = next(group.glob("boosting-*/seed-0"))
    with runs.locked(held):
        told = {
            row["run"].split("/")[1].split("-")[0]: row for row in json.loads(call("status", "--json").stdout)["runs"]
        }
    assert told["filter_only"]["state"] == "stopped" and told["filter_only"]["round"] == 1
    assert told["boosting"]["state"] == "running" and told["boosting"]["round"] == 2
    assert told["boosting"]["accuracy"] is not None and told["boosting"]["bytes"] > 0
    assert "2 runs" in call("status").output


def test_show_refuses_a_name_that_fits_two(finished):
    done = call("show", "")
    assert done.exit_code == 2 and "more than one run is called ''" in done.output
    digest = next((finished / "runs").glob("*/boosting-*")).name.rpartition("-")[2]
    assert json.loads(call("show", digest[:6], "--json").stdout)["run"].startswith("boosting")


def test_clean_removes_what_nothing_resumes_from_and_nothing_else(finished):
    folder = finished / "runs"
    litter = next(folder.glob("*/boosting-*/seed-0")) / "round-1" / ".samples.jsonl.abcd_123"
    young = litter.with_name(".labels.jsonl.abcd_123")
    for path in (litter, young):
        path.write_text("half")
    os.utime(litter, (0, 0))
    everything = {p for p in folder.rglob("*") if p.is_file()}
    asked = call("clean", input="n\n")
    assert "round-1/model" in asked.output and "freed 0 B" in asked.output
    assert everything == {p for p in folder.rglob("*") if p.is_file()}
    report = json.loads(call("clean", "--yes", "--json").stdout)
    gone = everything - {p for p in folder.rglob("*") if p.is_file()}
    assert report["bytes"] > 0 and len(gone) == 2 + 1  # round 1's checkpoint of two arms, and the litter
    assert all("round-1/model" in str(p) or p == litter for p in gone)
    assert len(list(folder.glob("*/*/seed-0/round-2/model"))) == 2
    call("clean", "--yes", "--final")
    assert not list(folder.glob("*/*/seed-0/round-2/model"))


def test_clean_leaves_what_a_process_holds(finished):
    with runs.locked(next((finished / "runs").glob("*/boosting-*/seed-0"))):
        assert json.loads(call("clean", "--yes", "--json").stdout)["removed"] == []


def test_a_cleaned_run_is_still_reused(finished, chains, tabular, monkeypatch):
    import boostlib as bl

    call("clean", "--yes", "--final")
    monkeypatch.setattr(type(tabular), "sample", None)
    quick = dict(k=2, steps=4, batch_size=2, shots=0, show=False)
    assert len(bl.boost(*chains, tabular, arms=["boosting"], rounds=2, folder=finished / "runs", **quick)) == 3


def test_doctor_says_what_to_do_about_every_gap(project, monkeypatch):
    monkeypatch.delenv("BOOSTLIB_DATA", raising=False)
    monkeypatch.setattr(doctor, "HUB", ("127.0.0.1", 9))
    found = {one["what"]: one for one in json.loads(call("doctor", "--json").stdout)}
    assert list(found) == list(doctor.CHECKS)
    assert all(one["advice"] for one in found.values() if one["state"] != "ok")
    assert found["hub"]["state"] == "gap" and "local folder" in found["hub"]["advice"]
    assert found["data"]["found"].startswith("BOOSTLIB_DATA is not set")


def test_doctor_ends_with_1_where_nothing_can_run(project, monkeypatch):
    def broken(root: Path):
        raise doctor.Broken("Jupyter knows no kernel", "install it")

    monkeypatch.setattr(doctor, "CHECKS", {"kernel": broken})
    done = call("doctor")
    assert done.exit_code == 1 and "-> install it" in done.output


def test_a_check_that_fails_in_itself_is_a_gap(project, monkeypatch):
    def fails(root: Path):
        raise OSError("no /proc here")

    monkeypatch.setattr(doctor, "CHECKS", {"memory": fails})
    assert doctor.examine(project) == [
        doctor.Finding("memory", "gap", "could not be examined: OSError: no /proc here", doctor.UNKNOWN)
    ]


def test_sizes_are_human():
    assert [housekeeping.human(n) for n in (0, 1023, 1536, 3 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]


def test_the_runner_costs_less_than_two_seconds_over_bare_papermill(project):
    import time

    import papermill

    from boostlib.runner.execute import execute
    from boostlib.runner.parameters import resolve

    notebook, given = project / "notebooks" / "01_small.ipynb", {"profile": "mini", "x": 1}

    def bare():
        papermill.execute_notebook(
            str(notebook),
            str(project / "out.ipynb"),
            given,
            kernel_name="boostlib",
            cwd="notebooks",
            progress_bar=False,
        )

    def ours():
        execute(resolve(notebook, "mini", {"x": 1}), project)

    def seconds(work) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    took = {work: min(seconds(work) for _ in range(2)) for work in (bare, ours)}
    print(f"papermill {took[bare]:.2f} s, boostlib run {took[ours]:.2f} s")
    assert took[ours] - took[bare] < 2
