"""Nobody is left behind: processes end with the one that started them, however it ends, and the same command goes on."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest
import small_project

MOMENTS = int(os.environ.get("BOOSTLIB_KILLS", 1))  # random moments for each signal and victim
SWEEP = "{notebook: 02, profile: mini, grid: {seeds: [[0], [1], [2], [3]]}, parameters: {x: 3}, workers: 2}"


LEFT = """import boostlib as bl
from boostlib.experiment import save_tables
told = table[["arm", "seed", "round", "test_accuracy", "train_accuracy"]]
save_tables("02_gsm8k_boosting", profile, {"rounds": told}, {})"""


def made(folder: Path) -> Path:
    small_project.project(folder)
    loop = small_project.LOOP.replace("bl.boost(", "table = bl.boost(").replace("show=False", "show=False, workers=2")
    small_project.write(folder, "02_gsm8k_boosting", loop.replace(".test_accuracy.tolist()", ""), LEFT)
    (folder / "loops.yaml").write_text(SWEEP)
    return folder


@pytest.fixture
def project(tmp_path):
    return made(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the sweep comes to when nobody is killed."""
    folder = made(tmp_path_factory.mktemp("whole"))
    assert start(folder, "sweep", "loops.yaml")[0].wait(300) == 0
    return results(folder)


def start(project: Path, *words: str) -> tuple[subprocess.Popen, str]:
    """The command line in a process of its own; every process below it carries the mark."""
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "boostlib", *words]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = os.environ | {"BOOSTLIB_MARK": mark, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, cwd=project, env=env, start_new_session=True, **quiet), mark


def alive(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("BOOSTLIB_MARK") == mark:
                found.append(process)
        except psutil.Error:
            pass
    return found


def kind(process: psutil.Process) -> str:
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return "gone"
    return (
        "kernel" if "ipykernel" in line else "worker" if "popen_loky" in line else "cli" if "boostlib" in line else line
    )


def results(project: Path) -> dict[str, bytes]:
    """Every artefact that decides something; not what says when and where it was made."""
    files = [
        *project.glob("runs/arithmetic-*/*/seed-*/round-*/*.json*"),
        *project.glob("runs/sweeps/*/results.parquet"),
    ]
    plain = {str(path.relative_to(project)): path.read_bytes() for path in files}
    for name in [name for name in plain if name.endswith(("round.json", "final.json"))]:
        row = json.loads(plain[name])
        plain[name] = json.dumps({k: v for k, v in row.items() if k not in ("seconds", "sha256")}).encode()
    return plain


@pytest.mark.parametrize("sent", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"])
def test_who_is_killed_leaves_nobody_behind_and_the_same_command_ends_the_same(project, whole, sent):
    chance = random.Random(sent)
    for victim in ["cli", "worker", "kernel"] * MOMENTS:
        if list(
            project.glob("runs/sweeps/*/results.parquet")
        ):  # done in spite of the kills so far: something to break again
            shutil.rmtree(project / "runs")
        first, mark = start(project, "sweep", "loops.yaml")
        until, victims = time.monotonic() + chance.uniform(0.2, 5), []
        while first.poll() is None and (time.monotonic() < until or not victims):
            victims = [process for process in alive(mark) if kind(process) == victim]
            time.sleep(0.02)
        for process in victims[:1]:
            process.send_signal(getattr(signal, sent))
        first.wait(300)
        ended = time.monotonic()
        while alive(mark) and time.monotonic() < ended + 5:
            time.sleep(0.05)
        assert not [kind(process) for process in alive(mark)], "left behind"
    assert start(project, "sweep", "loops.yaml")[0].wait(300) == 0
    assert len(whole) > 20 and results(project) == whole


LOST = """import os
get_ipython().kernel.finish_metadata = lambda *about: os.kill(os.getpid(), 2)"""  # after a cell, before the reply to it


def test_an_interrupt_that_costs_a_kernel_its_reply_ends_the_run(tmp_path):
    small_project.write(small_project.project(tmp_path), "02_gsm8k_boosting", LOST, "print(1)")
    first, mark = start(tmp_path, "run", "02", "--profile", "mini")
    assert first.wait(60) == 1 and not alive(mark)
