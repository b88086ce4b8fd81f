"""Artefacts are whole or absent; a killed run ends with the same bytes as one that was not."""

import errno
import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from boostlib import runs


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    runs.write_json(path, {"x": 1})

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*a\.json: No space left on device; free or unlock"):
        runs.write_json(path, {"x": 2})
    assert runs.read_json(path) == {"x": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_cut_or_edited_file_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    runs.write_rows(path, [{"a": 1}, {"a": "ü\u2028line"}])
    assert runs.read_rows(path) == [{"a": 1}, {"a": "ü\u2028line"}]
    whole = path.read_bytes()
    for damaged in (whole[:-5], whole[:12], b"", whole.replace(b"1", b"2", 1)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"rows\.jsonl is cut short or was edited; delete that file"):
            runs.read_rows(path)


def test_no_rows_are_a_file_too(tmp_path):
    runs.write_rows(tmp_path / "none.jsonl", [])
    assert runs.read_rows(tmp_path / "none.jsonl") == []


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), runs.whole_folder(tmp_path / "model") as new:
        (new / "weights").write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with runs.whole_folder(tmp_path / "model") as new:
        (new / "weights").write_text("all")
    assert (tmp_path / "model" / "weights").read_text() == "all"


def test_an_edited_manifest_is_refused(tmp_path):
    folder = runs.open_run(tmp_path, "run", {"beta": 0.3})
    assert runs.open_run(tmp_path, "run", {"beta": 0.3}) == folder != runs.open_run(tmp_path, "run", {"beta": 0.4})
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("0.3", "0.5"))
    with pytest.raises(ValueError, match="the parameters in it were edited"):
        runs.open_run(tmp_path, "run", {"beta": 0.3})


def test_a_second_process_on_a_run_is_refused(tmp_path):
    code = f"from boostlib import runs\nwith runs.locked({str(tmp_path)!r}): print('in')"
    with runs.locked(tmp_path):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "another process is working on" in done.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "in\n"


RUN = """
    import os, signal, sys
    sys.path.insert(0, {tests!r})
    import boostlib as bl
    from boostlib import runs
    from boostlib.learners.strong import TabularLearner

    writes, limit = 0, int(sys.argv[2])
    replace, real = os.replace, os.fsync

    def counted(*args, **named):
        global writes
        writes += 1
        if writes == limit:
            os.kill(os.getpid(), signal.SIGKILL)  # before this file gets its name
        replace(*args, **named)

    os.replace = counted
    task, test = bl.load_task("arithmetic", "train", n=10), bl.load_task("arithmetic", "test", n=4)
    table = {{p.prompt: {{p.reference: 0.3, "0#0.5": 0.7}} for t in (task, test) for p in t.problems}}
    bl.boost(task, test, TabularLearner(table), arms=["filter_only", "boosting"], rounds=2, folder=sys.argv[1],
             k=2, steps=4, batch_size=2, shots=0, show=False, gamma_fp=0.1, gamma_fn=0.1)
    print(writes)
"""


def run_until(folder: Path, limit: int) -> subprocess.CompletedProcess:
    code = textwrap.dedent(RUN.format(tests=str(Path(__file__).parent)))
    return subprocess.run([sys.executable, "-c", code, str(folder), str(limit)], capture_output=True, text=True)


def contents(folder: Path) -> dict[str, str]:
    """Hashes of all artefacts: not of notes on time and place, nor of what a killed process left half-written."""
    notes = {"times.jsonl", "environment.json"}
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in notes]
    names = {str(p.relative_to(folder)): p for p in files}
    return {
        name: hashlib.sha256(p.read_bytes()).hexdigest()
        for name, p in names.items()
        if not any(part.startswith(".") for part in Path(name).parts)
    }


def test_killed_at_every_artefact_and_resumed_it_ends_with_the_same_bytes(tmp_path):
    whole = run_until(tmp_path / "whole", 0)
    assert whole.returncode == 0, whole.stderr
    expected, points = contents(tmp_path / "whole"), int(whole.stdout)
    assert points > 30
    killed = tmp_path / "killed"  # one folder killed at its next write, again and again, until it is done
    deaths, limit, before = 0, 1, None
    while (done := run_until(killed, limit)).returncode != 0:
        assert done.returncode == -9, done.stderr
        deaths += 1
        assert deaths <= 2 * points
        # a checkpoint and its facts are two writes of one step: let it live one write longer where nothing was gained
        limit, before = (limit + 1 if contents(killed) == before else 2), contents(killed)
    assert deaths > 0.8 * points
    assert contents(killed) == expected
