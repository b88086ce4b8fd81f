"""The command line: what is reused, what a failure looks like, what scripts can read, what may be removed."""

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import small_project
from click.testing import CliRunner

from boostlib import runs
from boostlib.runner import cli, doctor


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
    assert "round-1/model" in asked.output and "freed 0.00B" in asked.output
    assert everything == {p for p in folder.rglob("*") if p.is_file()}
    report = json.loads(call("clean", "--yes", "--json").stdout)
    gone = everything - {p for p in folder.rglob("*") if p.is_file()}
    places = {p.parent if p.parent.name == "model" else p for p in gone}
    assert report["bytes"] > 0 and len(places) == 2 + 1  # round 1's checkpoint of two arms, and the litter
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
    said = {"found": "could not be examined: OSError: no /proc here", "advice": "look at it by hand"}
    assert doctor.examine(project) == [{"what": "memory", "state": "gap"} | said]


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


def test_what_is_tried_with_p_is_neither_read_as_the_profiles_nor_recorded(project):
    from boostlib.experiment import tables_of

    assert call("run", "01", "-p", "x", "4").exit_code == 0
    with pytest.raises(FileNotFoundError):
        tables_of("01_small", "mini")
    assert "nothing to record in profile mini" in call("record").output
    assert tables_of("01_small", "mini+x=4")[2] == "fresh"


def git(folder: Path, *words: str) -> str:
    told = subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=b", *words], cwd=folder, capture_output=True)
    return told.stdout.decode()


def test_a_clean_checkout_stays_clean_until_something_is_recorded(project):
    (project / ".gitignore").write_text("runs/\n")
    draw = "import pathlib, pandas as pd\nfrom boostlib import figures, runs\nfrom matplotlib.figure import Figure\n"
    draw += "folder = runs.project_root() / 'runs' / 'figures' / profile\n"
    draw += "for name in ('old', 'new'): figures.save(Figure(figsize=(x, 1)), name, pd.DataFrame({'n': [name]}), 'h', folder)"
    small_project.write(project, "06_paper_figures", draw)
    git(project, "init", "-q"), git(project, "add", "-A"), git(project, "commit", "-qm", "all")
    assert call("run", "01", "02", "06").exit_code == 0
    assert git(project, "status", "--porcelain") == ""
    assert call("record").exit_code == 0
    git(project, "add", "-A"), git(project, "commit", "-qm", "recorded")
    assert (project / "figures" / "new.pdf").exists() and (project / "papermill_runs/mini/01_small/rounds.csv").exists()
    for path in (project / "runs" / "figures" / "mini").glob("*.png"):
        path.write_bytes(path.read_bytes() + b"drawn on another machine")
    (project / "runs" / "figures" / "mini" / "new.csv").write_text("n,manifest\nnewer,h\n")
    assert "figures/new.csv" in call("record").output
    changed = git(project, "status", "--porcelain").split()
    assert "figures/new.png" in changed and not [name for name in changed if "old" in name]


def test_leaving_early_is_no_good_end(project):
    small_project.write(project, "02_gsm8k_boosting", "import sys", "sys.exit(0)", "print('later')")
    done = call("run", "02")
    assert done.exit_code == 1
    assert "SystemExit: 0 ended the notebook before its last cell\n  in cell 4:\n    sys.exit(0)" in done.output


@pytest.mark.parametrize(
    "error", ["OSError(28, 'No space left on device')", "PermissionError(13, 'Permission denied')"]
)
def test_a_machine_in_the_way_is_exit_code_3_from_within_the_kernel_too(project, error):
    small_project.write(project, "02_gsm8k_boosting", f"raise {error}")
    done = call("run", "02")
    assert done.exit_code == 3 and "[Errno" in done.output and "in cell 3" in done.output


def test_a_run_that_another_process_holds_is_exit_code_3_from_within_the_kernel_too(project):
    small_project.write(project, "02_gsm8k_boosting", "from boostlib import runs\nwith runs.locked('../held'): pass")
    with runs.locked(project / "held"):
        assert call("run", "02").exit_code == 3


def test_a_cell_that_hangs_ends_after_the_time_it_may_take(project):
    small_project.write(project, "02_gsm8k_boosting", "import time", "time.sleep(600)")
    done = call("run", "02", "--timeout", "2")
    assert (
        done.exit_code == 1
        and "longer than --timeout allows" in done.output
        and "in cell 4:\n    time.sleep(600)" in done.output
    )


BAR = (
    "from boostlib.progress import bar\nimport time\nfor i in bar(iterable=range(3), desc='counting'): time.sleep(0.1)"
)


@pytest.mark.parametrize("stderr", ["terminal", "closed terminal", "closed", "full disk"])
def test_a_progress_bar_reaches_a_terminal_and_stops_nothing_where_there_is_none(project, stderr):
    small_project.write(project, "02_gsm8k_boosting", BAR)
    env = {k: v for k, v in os.environ.items() if k != "TQDM_DISABLE"} | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ours, theirs = pty.openpty() if "terminal" in stderr else (None, os.open("/dev/full", os.O_WRONLY))
    command = [sys.executable, "-m", "boostlib", "run", "02"]
    if stderr == "closed":
        command = ["sh", "-c", '"$@" 2>&-', "sh", *command]
    done = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    if stderr == "closed terminal":
        os.close(ours)
    elif stderr == "terminal":
        with contextlib.suppress(OSError):  # a terminal's end
            while part := os.read(ours, 1000):
                shown += part
    assert b"runs/notebooks/mini/02_gsm8k_boosting.ipynb" in done.communicate(timeout=60)[0]
    assert done.returncode == 0 and (b"counting" in shown) == (stderr == "terminal")


def test_status_show_and_clean_pass_by_what_is_strange(finished):
    loop = next((finished / "runs").glob("*/boosting-*/seed-0"))
    shutil.copytree(loop, loop.with_name("seed-0 (copy)"))
    shutil.copytree(loop / "round-1", loop / "round-1.old")
    (finished / "runs" / "sweeps").mkdir()
    for place in (finished / "runs", loop, loop.parent, loop / "round-1", finished / "runs" / "sweeps"):
        (place / ".DS_Store").write_text("x")
        (place / "nowhere").symlink_to("/not/there")
    (loop / "seed-x").mkdir()
    assert call("status").output.count("finished  round 2") == 2
    assert call("show", "boosting").exit_code == 0
    assert call("clean", "--yes").exit_code == 0 and (loop / "round-1.old" / "model").exists()
    (loop / "round-1" / "round.json").write_text("[]")
    assert call("status").output.count("damaged") == 1
    assert len(json.loads(call("status", "--json").stdout)["runs"]) == 2


def test_a_reader_who_leaves_is_no_error(finished):
    words = f'"{sys.executable}" -m boostlib status | head -0; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True)
    assert done.stdout.strip() == "0" and done.stderr == ""


def test_python_m_boostlib_is_the_command_and_tells_its_version():
    done = subprocess.run([sys.executable, "-m", "boostlib", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("boostlib, version ") and done.returncode == 0


@pytest.mark.parametrize("what", ["a link to nowhere", "a file"])
def test_doctor_looks_at_the_folder_of_runs_itself(project, what):
    (project / "runs").symlink_to("/not/there") if "link" in what else (project / "runs").write_text("")
    found = {one["what"]: one for one in json.loads(call("doctor", "--json").stdout)}
    assert found["runs"]["state"] == "broken" and "cannot be written" in found["runs"]["found"]


def test_doctor_follows_a_link_to_another_disk(project, tmp_path_factory):
    (project / "runs").symlink_to(tmp_path_factory.mktemp("disk"))
    assert f"runs/ -> {(project / 'runs').readlink()}" in call("doctor").output


def test_make_says_in_one_line_that_python_is_too_old(tmp_path):
    old = tmp_path / "python"
    old.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9); exec(sys.argv[1])" "$2"\n'
    )
    old.chmod(0o755)
    root = Path(__file__).parents[2]
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(root / name, tmp_path / name)
    done = subprocess.run(["make", "figures", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert (
        done.stderr.startswith("boostlib needs Python 3.11 or newer, this is 3.9") and not (tmp_path / ".venv").exists()
    )


def test_a_parameter_given_twice_is_refused(project):
    done = call("run", "01", "-p", "x", "1", "-p", "x", "2")
    assert done.exit_code == 2 and "gives a parameter twice" in done.output
