"""Loops on worker processes: none outlives the process that started it, none leaves anything behind, one that dies is told."""

import os
import signal
import subprocess
import sys
import time

import pytest

import boostlib as bl
from boostlib.learners.tabular import TabularLearner

QUICK = dict(arms=["filter_only", "boosting"], seeds=[0, 1], rounds=1, k=2, steps=4, batch_size=2, shots=0, show=False)

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
import boostlib as bl
from boostlib.learners.tabular import TabularLearner

signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever this test was started by
signal.signal(signal.SIGHUP, signal.SIG_DFL)

class Slow(TabularLearner):
    def sample(self, prompts, k, **options):
        (Path(sys.argv[1]) / f"at-work-{os.getpid()}").touch()
        time.sleep(float(sys.argv[2]))
        return super().sample(prompts, k, **options)

task, test = bl.load_task("arithmetic", "train", n=6), bl.load_task("arithmetic", "test", n=3)
table = {p.prompt: {p.reference: 0.3, "0#0.5": 0.7} for t in (task, test) for p in t.problems}
bl.boost(task, test, Slow(table), folder=sys.argv[1] + "/runs", workers=2, **QUICK)
""".replace("**QUICK", f"**{QUICK!r}")


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_workers_end_with_their_parent_however_it_ends(tmp_path, how):
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), "600"], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("at-work-*"))) < 2:
            assert parent.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        workers = [int(path.name.rpartition("-")[2]) for path in tmp_path.glob("at-work-*")]
        assert all(map(alive, workers))
        parent.send_signal(how)
        parent.wait(timeout=30)
        end = time.monotonic() + 5
        while any(map(alive, workers)) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(map(alive, workers))
    finally:
        parent.kill()


def test_nothing_is_left_behind_and_nothing_is_warned_of(tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path), "0"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


class Dying(TabularLearner):
    """Ends its process, as the kernel does where memory is short."""

    def sample(self, prompts, k, **options):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_was_killed_is_told_in_one_sentence(chains, tabular, tmp_path):
    with pytest.raises(RuntimeError, match="a worker process was killed, most likely for want of memory; start again"):
        bl.boost(*chains, Dying(tabular._initial), folder=tmp_path, workers=2, **QUICK)
