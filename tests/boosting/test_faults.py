"""What a machine does to a run: killed anywhere, disk full, folder read-only, two at once, files cut or edited, clocks that jump.

Each ends in the bytes of the run that nothing happened to, or in one sentence that names the file.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from kill_points import contents

import boostlib as bl
from boostlib import runs

HERE = Path(__file__).parents[1]  # where kill_points lies
QUICK = dict(arms=["filter_only", "boosting"], rounds=2, k=2, steps=4, batch_size=2, shots=0, show=False)


def boost(chains, tabular, folder, **options):
    return bl.boost(*chains, tabular, folder=folder, **QUICK | options)


@pytest.fixture
def memory():
    """A folder in memory where there is one: hundreds of runs are not to wait for a disk's fsync."""
    root = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=root) as folder:
        yield Path(folder)


@pytest.fixture
def mounted(tmp_path):
    """mount(*options) -> folder, unmounted at the end. Skips where this is not allowed."""
    made = []

    def mount(*words: str) -> None:
        done = subprocess.run(["mount", *words], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this process may not mount: {done.stderr.strip()}")
        made.append(words[-1])

    if shutil.which("mount") is None:
        pytest.skip("there is no mount here")
    yield mount
    for folder in dict.fromkeys(reversed(made)):
        subprocess.run(["umount", "-l", folder], check=False)


def killed(what: str, folder: Path) -> dict:
    done = subprocess.run(
        [sys.executable, HERE / "kill_points.py", what, folder / what],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # a forked process must find no pool of threads
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_killed_at_every_write_point_it_ends_with_the_same_bytes(memory):
    told = killed("points", memory)
    assert told["wrong"] == []
    assert sum(told["kinds"].values()) >= 300 and told["kinds"]["os.rename"] >= 30 and told["kinds"]["write"] >= 60
    assert told["files"] > 30


def test_killed_at_random_times_a_longer_run_ends_with_the_same_bytes(memory):
    told = killed("random", memory)
    assert told["wrong"] == [] and told["deaths"] >= 6 and told["files"] > 150


def test_killed_as_a_checkpoint_gets_its_name_a_language_models_run_ends_with_the_same_bytes(memory):
    told = killed("checkpoints", memory)
    assert told["wrong"] == [] and told["deaths"] >= 2 and told["files"] > 15


def test_a_full_disk_is_named_and_with_room_the_run_goes_on(chains, tabular, tmp_path, mounted):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted("-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk))
    with pytest.raises(OSError, match=r"cannot write .*/disk/.*: No space left on device; free or unlock") as caught:
        boost(chains, tabular, disk)
    assert caught.value.errno == errno.ENOSPC
    done = [path for path in disk.rglob("*.jsonl") if path.name != "times.jsonl"]
    assert done and all(runs.read_rows(path) is not None for path in done)
    mounted("-o", "remount,size=16m", str(disk))
    boost(chains, tabular, disk)
    boost(chains, tabular, tmp_path / "whole")
    assert contents(disk) == contents(tmp_path / "whole")


def test_a_disk_that_is_full_under_a_language_models_checkpoint_is_named(tmp_path, mounted):
    from boostlib.learners.load import load_learner

    learner = load_learner("tiny", hidden=16, layers=1)
    mounted("-t", "tmpfs", "-o", "size=8k", "tmpfs", str(tmp_path))
    with pytest.raises(OSError, match=r"cannot write .*/model: No space left on device") as caught:
        learner.save(tmp_path / "model")
    assert caught.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())


@pytest.mark.parametrize("fails", range(1, 25, 4))
def test_a_disk_that_fills_at_any_write_loses_nothing_finished(chains, tabular, tmp_path, monkeypatch, fails):
    count, real = 0, os.fsync

    def full(handle):
        nonlocal count
        count += 1
        if count >= fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="cannot write .*: No space left on device"):
        boost(chains, tabular, tmp_path / "full")
    monkeypatch.undo()
    before = contents(tmp_path / "full")
    boost(chains, tabular, tmp_path / "full")
    boost(chains, tabular, tmp_path / "whole")
    after = contents(tmp_path / "full")
    assert after == contents(tmp_path / "whole") and before.items() <= after.items()


def test_a_read_only_folder_is_named(chains, tabular, tmp_path, mounted):
    folder = tmp_path / "locked"
    boost(chains, tabular, folder, rounds=0)
    before = contents(folder)
    mounted("--bind", str(folder), str(folder))
    mounted("-o", "remount,ro,bind", str(folder))
    with pytest.raises(OSError, match=r"cannot write .*/locked/.*: Read-only file system; free or unlock the folder"):
        boost(chains, tabular, folder)
    assert contents(folder) == before


def test_two_processes_on_one_run_the_second_is_refused_and_the_first_unharmed(chains, tabular, tmp_path):
    first = boost(chains, tabular, tmp_path / "whole")
    started = boost(chains, tabular, tmp_path / "both", rounds=0)
    folder = started.query("arm == 'boosting'").folder.iloc[0]
    code = f"import sys, time\nfrom boostlib import runs\nwith runs.locked({folder!r}): print('in', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "in\n" and runs.held(folder)
        with pytest.raises(RuntimeError, match=f"another process is working on {folder}; wait for it or stop it"):
            boost(chains, tabular, tmp_path / "both")
    finally:
        holder.kill()  # a lock ends with its process, however that ends
        holder.wait()
    assert not runs.held(folder)
    drop = ["seconds", "folder", "base"]
    assert boost(chains, tabular, tmp_path / "both").drop(columns=drop).equals(first.drop(columns=drop))


@pytest.mark.parametrize("name", ["samples.jsonl", "verdicts.jsonl", "labels.jsonl", "examples.jsonl", "training.json"])
def test_a_truncated_artefact_is_named_and_deleting_it_mends_the_run(chains, tabular, tmp_path, name):
    boost(chains, tabular, tmp_path, keep_models=True)
    expected = contents(tmp_path)
    seed = next(tmp_path.glob("*/boosting-*/seed-0"))
    path = seed / ("round-2" if name == "training.json" else "round-1") / name
    (seed / "round-1" / "round.json").unlink()  # as if the process had ended within this round
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=rf"{path} is cut short or was edited; delete that file .*and start again"):
        boost(chains, tabular, tmp_path, keep_models=True)
    path.unlink()
    boost(chains, tabular, tmp_path, keep_models=True)
    assert contents(tmp_path) == expected


def test_an_edited_manifest_stops_the_run_before_anything_is_computed(chains, tabular, tmp_path):
    boost(chains, tabular, tmp_path, rounds=0)
    manifest = sorted(tmp_path.glob("*/boosting-*/manifest.json"))[0]
    manifest.write_text(manifest.read_text().replace('"beta": 0.3', '"beta": 0.9'))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"{manifest} does not fit its folder: the parameters in it were edited"):
        boost(chains, tabular, tmp_path)
    assert contents(tmp_path) == before


def test_a_checkpoint_that_was_removed_is_named(chains, tabular, tmp_path):
    table = boost(chains, tabular, tmp_path)
    model = Path(table.query("arm == 'boosting'").folder.iloc[0]) / "round-2" / "model"
    shutil.rmtree(model)
    boost(chains, tabular, tmp_path)  # finished: nobody needs it
    with pytest.raises(RuntimeError, match=f"{model}, the checkpoint that round 2 goes on from, was removed"):
        boost(chains, tabular, tmp_path, rounds=3)


def test_a_clock_that_jumps_changes_nothing(chains, tabular, tmp_path, monkeypatch):
    for name in ("whole", "jumps"):
        boost(chains, tabular, tmp_path / name, rounds=1)
    boost(chains, tabular, tmp_path / "whole")
    for years, path in enumerate(sorted((tmp_path / "jumps").rglob("*"))):  # written in the future, out of order
        os.utime(path, (4e9 - 1e7 * years, 4e9 - 1e7 * years))
    jump, real = iter(range(0, 10**9, 10**6)), (time.time, time.perf_counter)
    monkeypatch.setattr(time, "time", lambda: real[0]() - next(jump))  # backwards
    monkeypatch.setattr(time, "perf_counter", lambda: real[1]() - next(jump))
    monkeypatch.setattr(time, "gmtime", lambda *given: time.struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 0)))
    boost(chains, tabular, tmp_path / "jumps")
    assert contents(tmp_path / "jumps") == contents(tmp_path / "whole")


def test_a_torn_note_of_time_is_skipped(chains, tabular, tmp_path):
    table = boost(chains, tabular, tmp_path)
    notes = Path(table.folder[0]) / "times.jsonl"
    text = notes.read_text()
    notes.write_text(text[:-9] + text)
    assert boost(chains, tabular, tmp_path).test_accuracy.equals(table.test_accuracy)
