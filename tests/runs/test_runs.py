"""Artefacts are whole or absent, manifests are kept to, a run folder has one process. Killed runs are in test_faults."""

import errno
import os
import subprocess
import sys

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


def test_an_older_folder_is_whole_or_gone_wherever_its_successor_is_killed(tmp_path, monkeypatch):
    for dies_at in (1, 2):
        folder, moves = tmp_path / str(dies_at) / "model", []

        def killed(source, target, move=os.replace, dies_at=dies_at, moves=moves):
            moves.append(target)
            if len(moves) == dies_at:
                raise SystemExit
            move(source, target)

        for name in ("weights", "tokenizer"):
            runs.write_text(folder / name, "old")
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed)
            with pytest.raises(SystemExit), runs.whole_folder(folder) as new:
                (new / "weights").write_text("new")
        assert not folder.exists() or len(list(folder.iterdir())) == 2
        with runs.whole_folder(folder) as new:
            (new / "weights").write_text("new")
        assert [path.name for path in folder.iterdir()] == ["weights"]


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


def test_a_commit_is_that_of_this_project_or_none(tmp_path, monkeypatch):
    from boostlib.runs import provenance

    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True)

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "another project")
    module = tmp_path / "vendored" / "boostlib" / "runs" / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert provenance.git_commit() is None  # a folder of another project's checkout
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "boostlib" / "runs" / "provenance.py"))
    commit = provenance.git_commit()
    assert commit and len(commit) == 12
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as git sets it for a hook
    monkeypatch.chdir("/")
    assert provenance.git_commit() == commit
    monkeypatch.delenv("GIT_DIR")
    (tmp_path / "file").touch()
    git("add", "file")
    assert provenance.git_commit() == commit + "+"
    monkeypatch.setenv("PATH", "")
    assert provenance.git_commit() is None


def test_the_environment_is_a_note_that_stops_nothing(monkeypatch):
    from boostlib.runs import provenance

    def broken(package):
        raise KeyError("Version")

    monkeypatch.setattr(provenance.metadata, "version", broken)
    assert set(provenance.environment()["versions"].values()) == {None, provenance.platform.python_version()}


def test_rounds_are_read_in_order_and_stray_folders_are_none(tmp_path):
    for t in (10, 2, 0):
        runs.write_json(tmp_path / f"round-{t}" / "round.json", {"round": t})
    for stray in ("round-1.old", "round-2 (copy)", "round-"):
        runs.write_json(tmp_path / stray / "round.json", {"round": 7})
    assert [row["round"] for row in runs.rounds(tmp_path)] == [0, 2, 10]


def test_what_a_killed_writer_left_half_written_goes_with_the_next_lock(tmp_path):
    (tmp_path / "round-1").mkdir()
    left, kept = tmp_path / "round-1" / ".test.jsonl.15a27fb3", tmp_path / "round-1" / ".DS_Store"
    for path in (left, kept):
        path.write_text("{")
    (tmp_path / ".model.0123abcd-old").mkdir()
    with runs.locked(tmp_path):
        assert not left.exists() and kept.exists() and not (tmp_path / ".model.0123abcd-old").exists()
