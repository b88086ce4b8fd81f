"""Damage is never believed: whatever happens to a file of a run, the run ends as if nothing had, or one sentence names the file."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kill_points import contents

import boostlib as bl
from boostlib import runs
from boostlib.boosting import many

QUICK = dict(arms=["boosting"], k=2, steps=4, batch_size=2, shots=0, show=False, keep_models=True, accumulate=True)
WHOLE = (b"", b"\n", b"[]", b"{}", b"null", b"0", b'"x"', b"[1]", b'{"round": 1}', b"\xff\xfe", b"\x00" * 40)


def damages(whole: bytes, rng: random.Random, times: int) -> Iterator[bytes]:
    """The file replaced, cut, with a flipped bit, another byte or digit, lines gone, doubled or exchanged."""
    yield from WHOLE
    for _ in range(times):
        at = rng.randrange(len(whole))
        yield whole[:at]
        yield whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]
        yield whole[:at] + bytes([whole[at] | 128]) + whole[at + 1 :]
        yield whole[:at] + rng.choice([b"", b" ", b"\xc3", b"9", b"}", b"\n"]) + whole[at:]
        digits = [i for i, byte in enumerate(whole) if chr(byte).isdigit()]
        if digits:
            at = rng.choice(digits)
            yield whole[:at] + str((int(chr(whole[at])) + rng.randrange(1, 10)) % 10).encode() + whole[at + 1 :]
        lines = whole.splitlines(keepends=True)
        one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
        yield b"".join(lines[:one] + lines[one + 1 :])
        yield b"".join(lines[:one] + [lines[two]] + lines[one:])
        lines[one], lines[two] = lines[two], lines[one]
        yield b"".join(lines)


def outcome(act: Callable, *named: Path) -> str:
    """What is returned, as JSON, or "told" where one sentence names the file and what to do. Anything else is raised."""
    try:
        return json.dumps(act(), sort_keys=True)
    except (ValueError, RuntimeError) as error:
        told = str(error)
        assert any(str(path) in told for path in named), f"{named} in {told}"
        assert ("delete" in told or "restore" in told or "move" in told) and len(told.splitlines()) == 1, told
        return "told"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two rounds, every checkpoint kept, as if its process had ended within round 1."""
    from boostlib.learners.tabular import TabularLearner

    tasks = bl.load_task("arithmetic", "train", n=6), bl.load_task("arithmetic", "test", n=3)
    laws = {p.prompt: {p.reference: 0.3, "0#0.5": 0.7} for t in tasks for p in t.problems}
    home = tmp_path_factory.mktemp("run")

    def go_on(folder: Path) -> tuple:
        return bl.boost(*tasks, TabularLearner(laws), folder=folder, rounds=3, **QUICK)

    bl.boost(*tasks, TabularLearner(laws), folder=home / "run", rounds=2, **QUICK)
    next((home / "run").glob("*/boosting-*/seed-0/round-1/round.json")).unlink()
    return home, go_on


def readers(folder: Path) -> dict[Path, Callable]:
    """Every file of a run that is read again, and what reads it."""
    found: dict[Path, Callable] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        if path.parent.name == "model":
            found[path] = lambda p=path: runs.check_folder(p.parent)
        elif path.name == "manifest.json":
            found[path] = lambda p=path: runs.manifest(p.parent)
        elif path.suffix == ".jsonl" and path.name != "times.jsonl":
            found[path] = lambda p=path: runs.read_rows(p)
        elif path.suffix == ".json":
            found[path] = lambda p=path: runs.read_json(p, sealed=True)
    return found


def test_thousands_of_damages_to_every_kind_of_file_none_is_believed(run, tmp_path):
    folder, rng = tmp_path / "run", random.Random(0)
    shutil.copytree(run[0] / "run", folder)
    done = {"told": 0, "the same": 0}
    kinds = set()
    for path, read in readers(folder).items():
        whole, expected = path.read_bytes(), json.dumps(read(), sort_keys=True)
        kinds.add(path.name)
        for damaged in damages(whole, rng, 16):
            path.write_bytes(damaged)
            got = outcome(read, path, path.parent)
            assert got in ("told", expected), f"{path}: {damaged!r} was believed"
            done["told" if got == "told" else "the same"] += 1
        path.write_bytes(whole)
    assert len(kinds) >= 11 and sum(done.values()) >= 3000 and done["told"] > 10 * done["the same"], done


def test_a_run_goes_on_as_if_nothing_had_happened_or_names_the_damaged_file(run, tmp_path):
    home, go_on = run
    shutil.copytree(home / "run", tmp_path / "whole")
    expected, places = go_on(tmp_path / "whole"), ["seconds", "folder", "base"]
    after = contents(tmp_path / "whole")
    files = [path.relative_to(home / "run") for path in (home / "run").rglob("*") if path.is_file()]
    rng, told = random.Random(1), set()
    for name in sorted(files):
        whole = (home / "run" / name).read_bytes()
        for damaged in rng.sample([d for d in damages(whole or b"0", rng, 2) if d != whole], 5):
            here = tmp_path / "damaged"
            shutil.copytree(home / "run", here)
            (here / name).write_bytes(damaged)
            try:
                table = go_on(here)
                assert table.drop(columns=places).equals(expected.drop(columns=places)), f"{name}: {damaged!r}"
                kept = {n: h for n, h in contents(here).items() if n != str(name)}
                assert kept == {n: h for n, h in after.items() if n != str(name)}, f"{name}: {damaged!r}"
            except (ValueError, RuntimeError) as error:
                assert f"{here / name}" in str(error) or f"{(here / name).parent}" in str(error), error
                told.add(Path(name).name)
            shutil.rmtree(here)
    assert told == {path.name for path in readers(home / "run")} - {
        "environment.json",
        "final.json",
    }  # notes; read by the test below


def test_a_damaged_round_that_is_only_read_is_named_too(run, tmp_path):
    home, go_on = run
    shutil.copytree(home / "run", tmp_path / "run")
    table = go_on(tmp_path / "run")
    path = next((tmp_path / "run").glob("*/boosting-*/seed-0/round-3/final.json"))
    path.write_text(path.read_text().replace('"test_accuracy": 0', '"test_accuracy": 1'))
    with pytest.raises(ValueError, match=f"{path} is cut short or was edited; delete that file"):
        go_on(tmp_path / "run")
    path.unlink()
    assert go_on(tmp_path / "run").test_accuracy.equals(table.test_accuracy)
    labels = next((tmp_path / "run").glob("*/boosting-*/seed-0/round-0/labels.jsonl"))
    labels.write_text(labels.read_text().replace("pass", "fail", 1))
    with pytest.raises(ValueError, match=f"{labels} is cut short or was edited"):
        many.read(table, "labels")


def test_weights_are_checked_once_a_load(tmp_path):
    from boostlib.learners.load import load_learner

    folder = tmp_path / "model"
    load_learner("tiny", hidden=16, layers=1).save(folder)
    runs.seal_folder(folder)
    runs.check_folder(folder)
    for path in [path for path in folder.iterdir()]:
        whole = path.read_bytes()
        for damaged in (whole[:-2], whole.replace(b"a", b"b", 1), bytes([whole[0] ^ 1]) + whole[1:]):
            path.write_bytes(damaged)
            assert outcome(lambda: runs.check_folder(folder), path, folder) == "told"
        path.unlink()
        assert outcome(lambda: runs.check_folder(folder), path, folder) == "told"
        path.write_bytes(whole)
    runs.check_folder(folder)
