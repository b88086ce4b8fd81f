"""Sweeps: nothing stops at a failed run, nothing finished is computed twice, every error names file and parameter."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pandas as pd
import pytest
import small_project
import yaml
from click.testing import CliRunner

from boostlib import runs
from boostlib.runner import cli, sweep

SPEC = {
    "notebook": "01",
    "profile": "smoke",
    "parameters": {"switch": "mended"},
    "grid": {"x": list(range(12)), "rate": [0.25, "1e-5"]},
    "workers": 2,
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(small_project.project(tmp_path))
    return tmp_path


def written(project: Path, name: str = "small.yaml", /, **changes) -> str:
    spec = {key: value for key, value in (SPEC | changes).items() if value is not None}
    (project / name).write_text(yaml.safe_dump(spec, sort_keys=False).replace("'1e-5'", "1e-5"))
    return name


def call(*words: str):
    return CliRunner().invoke(cli.main, list(words))


def test_a_sweep_of_24_reports_the_failed_run_gathers_the_rest_and_computes_only_that_one_again(project):
    # x = 0 fails where rate is 0.25, until the file it misses is there
    one = small_project.WORK.replace("x or Path", "x or rate != 0.25 or Path")
    small_project.write(project, "01_small", one)
    file = written(project)
    first = call("sweep", file)
    assert first.exit_code == 1
    assert "24 runs: 23 computed, 0 reused, 1 failed" in first.output
    assert "ZeroDivisionError" in first.output and "in cell 3" in first.output and "27720 / (x or rate" in first.output
    path = project / "runs" / "sweeps" / "small" / "results.parquet"
    table = pd.read_parquet(path)
    assert table.columns.tolist() == ["run", "profile", "x", "rate", "round", "value"]
    assert len(table) == 23 * 2 and table.run.nunique() == 23
    assert set(table.rate) == {0.25, 1e-5}, "1e-5 is a number"
    first_round = table[(table["round"] == 0) & (table.x > 0)]
    assert (first_round.value * first_round.x - 27720).abs().max() < 1e-9, "each row stands by its own parameters"

    ended = {p: p.read_bytes() for p in path.parent.glob("*/run.json")}
    (project / "notebooks" / "mended").touch()
    second = call("sweep", file, "--json")
    report = json.loads(second.stdout)
    assert second.exit_code == 0
    assert (len(report["computed"]), len(report["reused"]), report["failed"]) == (1, 23, {})
    assert sum(p.read_bytes() != before for p, before in ended.items()) == 1
    assert len(pd.read_parquet(path)) == 48


def test_the_failed_run_is_left_alone_on_request_and_can_be_shown(project):
    file = written(project, grid={"x": [0, 1]}, workers=1)
    assert call("sweep", file).exit_code == 1
    report = json.loads(call("sweep", file, "--no-retry-failed", "--json").stdout)
    assert len(report["computed"]) == 0 and len(report["reused"]) == 1
    shown = call("show", *report["failed"])
    assert "ZeroDivisionError: division by zero" in shown.output
    assert "boostlib run 01_small --profile smoke -p switch '\"mended\"' -p x 0" in shown.output
    copy = next((project / "runs" / "sweeps" / "small").glob("*/*.failed.ipynb"))
    assert "ZeroDivisionError" in copy.read_text()
    assert "1 done, 1 failed, 0 unfinished" in call("status").output


def test_a_kernel_that_is_killed_is_one_failed_run_with_its_cell(project):
    small_project.write(
        project,
        "01_small",
        "import os",
        "if x == 0: os.kill(os.getpid(), 9)",
        small_project.WORK.replace("x or", "1 or"),
    )
    done = call("sweep", written(project, grid={"x": [0, 1]}, workers=1))
    assert done.exit_code == 1
    assert "the kernel died" in done.output and "in cell 4:\n    if x == 0: os.kill" in done.output
    assert "1 computed, 0 reused, 1 failed" in done.output


def test_another_notebook_or_parameter_is_another_run(project):
    file = written(project, grid={"x": [1]}, workers=1)
    ids = [sweep.read(file, project).runs[0].id, sweep.read(written(project, grid={"x": [2]}), project).runs[0].id]
    small_project.write(project, "01_small", small_project.WORK, "1 + 1")
    ids.append(sweep.read(written(project, grid={"x": [1]}), project).runs[0].id)
    assert len(set(ids)) == 3


def test_a_list_is_crossed_with_the_grid_and_equal_sets_are_one_run(project):
    file = written(project, list=[{"x": 1}, {"x": 2}, {"x": 1}], grid={"rate": [0.1, 0.2]})
    assert [one.swept for one in sweep.read(file, project).runs] == [
        {"x": x, "rate": rate} for x in (1, 2) for rate in (0.1, 0.2)
    ]


def test_a_column_of_the_same_name_keeps_its_name(project, monkeypatch):
    file = written(project, grid={"x": [3], "seeds": [[0, 1]]}, workers=1)
    text = small_project.WORK.replace("round,value", "round,x")
    small_project.write(project, "01_small", text)
    assert call("sweep", file).exit_code == 0
    table = pd.read_parquet(project / "runs" / "sweeps" / "small" / "results.parquet")
    assert table.columns.tolist() == ["run", "profile", "param_x", "seeds", "round", "x"]
    assert set(table.param_x) == {3} and set(table.seeds) == {"[0, 1]"}


def test_an_edited_record_is_refused(project):
    file = written(project, grid={"x": [1]}, workers=1)
    assert call("sweep", file).exit_code == 0
    record = next((project / "runs" / "sweeps" / "small").glob("*/run.json"))
    record.write_text(record.read_text().replace('"x": 1', '"x": 2'))
    again = call("sweep", file)
    assert again.exit_code == 2 and f"{record} does not fit its folder: it was edited" in again.output


def test_a_second_process_on_a_sweep_is_refused(project):
    file = written(project, grid={"x": [1]}, workers=1)
    with runs.locked(project / "runs" / "sweeps" / "small"):
        refused = call("sweep", file)
    assert refused.exit_code == 3 and "another process is working on" in refused.output


def test_a_killed_worker_costs_its_run_a_second_try(project):
    text = "import os, signal\nfrom pathlib import Path\nonce = Path('killed')\nif x == 0 and not once.exists():\n"
    text += "    once.touch(); os.kill(os.getppid(), signal.SIGKILL)"
    small_project.write(project, "01_small", text, small_project.WORK.replace("x or", "1 or"))
    done = call("sweep", written(project, grid={"x": [0, 1]}))
    assert done.exit_code == 0, done.output
    assert (project / "notebooks" / "killed").exists() and signal.SIGKILL == 9
    assert "2 computed, 0 reused, 0 failed" in done.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"y": [1]}}, r"01_small.ipynb has no parameter 'y' (small.yaml, profile smoke): it has profile, x"),
        (
            {"grid": {"x": ["one"]}},
            "01_small.ipynb: x = 'one' is not possible (small.yaml, profile smoke): it must be of type int",
        ),
        ({"grid": {"x": 3}}, "small.yaml: grid: x = 3 is not possible: input should be a valid list"),
        ({"grid": {"x": []}}, "small.yaml: grid: x = [] is not possible: list should have at least 1 item"),
        ({"grid": None}, "small.yaml sweeps over nothing"),
        (
            {"gird": {"x": [1]}},
            "small.yaml: gird = {'x': [1]} is not possible: extra inputs are not permitted; a sweep has the keys notebook, ",
        ),
        ({"notebook": None}, "small.yaml: notebook: field required"),
        ({"notebook": "07"}, "no notebook '07': there are 01_small"),
        ({"profile": "big"}, "unknown profile 'big': there are mini, smoke"),
        ({"workers": 0}, "small.yaml: workers = 0 is not possible"),
        ({"list": [3], "grid": None}, "small.yaml: list: 0 = 3 is not possible: input should be a valid dictionary"),
        ({"grid": {}}, "small.yaml sweeps over nothing"),
        ({"list": [], "grid": None}, "small.yaml: list = [] is not possible: list should have at least 1 item"),
        ({"name": "../out"}, "small.yaml: name = '../out' is not possible"),
        ({"name": "/out"}, "small.yaml: name = '/out' is not possible"),
        ({"name": ""}, "small.yaml: name = '' is not possible"),
        ({"table": "../rounds"}, "small.yaml: table = '../rounds' is not possible"),
        (
            {"grid": {"rate": [0.1, "high"]}},
            "01_small.ipynb: rate = 'high' is not possible (small.yaml, profile smoke)",
        ),
        ({"grid": {"rate": ["2024-01-01"]}}, "01_small.ipynb: rate = '2024-01-01' is not possible"),
        ({"workers": True}, "small.yaml: workers = True is not possible"),
    ],
)
def test_bad_input_is_one_sentence_that_names_file_and_parameter(project, changes, message):
    done = call("sweep", written(project, **changes))
    assert done.exit_code == 2
    assert message in done.output and "Traceback" not in done.output
    assert not (project / "runs").exists()


def test_a_file_that_is_no_yaml_or_not_there_is_named(project):
    (project / "bad.yaml").write_text("notebook: [")
    assert "bad.yaml is not YAML" in call("sweep", "bad.yaml").output
    assert "none.yaml is not there" in call("sweep", "none.yaml").output
    (project / "empty.yaml").write_text("")
    assert "empty.yaml: notebook: field required" in call("sweep", "empty.yaml").output
    (project / "twice.yaml").write_text("{notebook: 01, grid: {x: [1], x: [2]}}")
    assert "twice.yaml is not YAML of plain values: a key is there twice" in call("sweep", "twice.yaml").output


def test_ray_that_is_missing_is_one_sentence(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = call("sweep", written(project, grid={"x": [1]}), "--ray", "auto")
    assert done.exit_code == 2
    assert "Ray, which is not installed: pip install 'boostlib[ray]'" in done.output


def test_a_sweep_that_was_killed_goes_on_at_once_and_reuses_what_was_done(project):
    hold = "import time\nfrom pathlib import Path\nfrom boostlib import runs"
    hold += "\nwith runs.locked('loop'):\n    if x == 2 and not Path('begun').exists(): Path('begun').touch(); time.sleep(600)"
    small_project.write(project, "01_small", hold, small_project.WORK)
    file = written(project, grid={"x": [1, 2, 3]}, workers=1)
    first = subprocess.Popen([sys.executable, "-m", "boostlib", "sweep", file], start_new_session=True)
    deadline = time.monotonic() + 120
    while not (project / "notebooks" / "begun").exists():
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.05)
    first.kill()  # alone: its kernel has to notice by itself
    first.wait()
    again = json.loads(call("sweep", file, "--json").stdout)
    assert (len(again["reused"]), len(again["computed"]), again["failed"]) == (1, 2, {})


def test_runs_that_share_a_loop_wait_for_each_other(project):
    hold = "import time\nfrom boostlib import runs\nwith runs.locked('shared'): time.sleep(4)"
    small_project.write(project, "01_small", hold, small_project.WORK)
    done = call("sweep", written(project, grid={"x": [1, 2]}))
    assert done.exit_code == 0, done.output
    assert "2 computed, 0 reused, 0 failed" in done.output and "[1/1] done" in done.output


def test_shards_are_jobs_that_together_are_the_sweep(project):
    file = written(project, grid={"x": [1, 2, 3]}, workers=1)
    first = json.loads(call("sweep", file, "--shard", "0/2", "--json").stdout)
    assert (len(first["computed"]), first["total"], first["rows"]) == (2, 3, 4)
    plan = sweep.read(file, project)
    with runs.locked(plan.folder / "shard-0-of-2"):  # beside its sister, not beside the whole
        refused = call("sweep", file)
        assert refused.exit_code == 3 and "shard-0-of-2; wait" in refused.output
        assert len(json.loads(call("sweep", file, "--shard", "1/2", "--json").stdout)["computed"]) == 1
    whole = json.loads(call("sweep", file, "--json").stdout)
    assert (len(whole["computed"]), len(whole["reused"]), whole["rows"]) == (0, 3, 6)
    assert "3 done, 0 failed, 0 unfinished" in call("status").output
    assert "--shard 2/2 is not possible" in call("sweep", file, "--shard", "2/2").output


def test_the_sweeps_that_come_with_the_suite_can_be_read():
    root = Path(__file__).parents[2]
    sizes = {path.stem: len(sweep.read(path, root).runs) for path in (root / "sweeps").glob("*.yaml")}
    assert sizes == {"beta": 12, "paper": 3, "smoke": 24}


def test_four_thousand_runs_are_planned_in_under_a_second(project):
    file = written(project, grid={"x": list(range(1, 2001)), "rate": [0.1, 0.2]})
    start = time.process_time()
    assert len(sweep.read(file, project).runs) == 4000
    assert time.process_time() - start < 1


def test_a_run_that_leaves_early_or_without_its_table_costs_the_others_nothing(project):
    leave = "import sys\nif x == 1: sys.exit(0)"
    small_project.write(project, "01_small", leave, "if x != 2:\n" + textwrap.indent(small_project.WORK, "    "))
    done = call("sweep", written(project, grid={"x": [1, 2, 3, 4]}))
    assert done.exit_code == 1 and "2 computed, 0 reused, 2 failed" in done.output
    assert "SystemExit: 0 ended the notebook" in done.output
    assert "01_small.ipynb left no table 'rounds' behind: there are none; it must save_tables" in done.output
    assert set(pd.read_parquet(project / "runs" / "sweeps" / "small" / "results.parquet").x) == {3, 4}


def test_swept_values_and_columns_of_several_types_make_a_table(project, monkeypatch):
    monkeypatch.setattr(
        small_project, "PARAMETERS", small_project.PARAMETERS.replace("rate: float", "rate: float | str")
    )
    text = small_project.WORK.replace("{rate}", "{'none' if x == 1 else 7}")
    small_project.write(project, "01_small", text)
    assert call("sweep", written(project, grid={"x": [1, 2], "rate": [0.5, "high"]})).exit_code == 0
    table = pd.read_parquet(project / "runs" / "sweeps" / "small" / "results.parquet")
    assert set(table.rate) == {"0.5", "high"} and {"none", "27720"} <= set(table.value)


def test_a_notebook_that_hangs_is_one_failed_run(project):
    small_project.write(project, "01_small", "import time\nif x == 1: time.sleep(600)", small_project.WORK)
    done = call("sweep", written(project, grid={"x": [1, 2]}), "--timeout", "3")
    assert done.exit_code == 1 and "1 computed, 0 reused, 1 failed" in done.output
    assert "longer than --timeout allows" in done.output


def test_a_run_of_another_version_is_refused_and_one_of_another_commit_is_said(project, monkeypatch):
    file = written(project, grid={"x": [1, 2]}, workers=1)
    assert call("sweep", file, "--shard", "0/2").exit_code == 0
    record = next((project / "runs" / "sweeps" / "small").glob("*/run.json"))
    runs.write_json(record, runs.read_json(record) | {"commit": "abc"})
    assert "made at several commits: 1 at abc" in call("sweep", file).output
    monkeypatch.setattr(sweep, "VERSION", "99.0")
    done = call("sweep", file)
    assert done.exit_code == 2 and "this is 99.0: results may differ; give the sweep another `name:`" in done.output


def test_a_full_disk_in_one_run_is_exit_code_3(project):
    small_project.write(project, "01_small", "if x == 1: raise OSError(28, 'No space left')", small_project.WORK)
    assert call("sweep", written(project, grid={"x": [1, 2]})).exit_code == 3


@pytest.mark.parametrize("address", ["127.0.0.1:9"])
def test_a_wrong_address_of_a_cluster_is_told_within_30_seconds(project, address):
    pytest.importorskip("ray")
    start = time.monotonic()
    done = call("sweep", written(project, grid={"x": [1]}), "--ray", address)
    assert done.exit_code == 2 and f"no Ray cluster answers at '{address}'" in done.output
    assert time.monotonic() - start < 30
