"""What the run folders hold, for the terminal: states and curves, and what may be removed. Strange things in them are passed by.

Not covered: making runs (many, sweep), what an artefact means (loop).
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boostlib import runs
from boostlib.runner.execute import told

HOUR = 3600
BLOCKS = " ▁▂▃▄▅▆▇█"
LITTER = re.compile(r"\..+[.-][A-Za-z0-9_]{8}(-old)?$")  # runs.write_bytes, runs.whole_folder
TROUBLE = (OSError, ValueError, KeyError, TypeError)  # of a file that is cut, edited or another user's
APART = ("locks", "sweeps", "tables", "notebooks", "figures")  # folders of runs/ that hold no loops


@dataclass(frozen=True)
class Seed:
    """One loop on disk. ``state``: running (a process holds it), finished (its last round was evaluated), stopped, or
    damaged (cut, edited, or another user's)."""

    run: str
    seed: int
    state: str
    round: int | None
    accuracy: float | None
    bytes: int
    folder: Path

    def line(self) -> str:
        at, accuracy = ("-", "-") if self.round is None else (self.round, f"{self.accuracy:.3f}")
        size = human(self.bytes)
        return f"{self.state:<9} round {at:<3} test {accuracy:>5}  {size:>10}  {self.run} seed {self.seed}"


def seeds(folder: Path) -> list[Seed]:
    """Every loop under ``folder`` (runs/): <task>-<learner>/<arm>-<hash>/seed-<n>."""
    return [_seed(path) for path in _numbered(folder.glob("*/*/seed-*")) if not path.parent.name.startswith("base-")]


def _seed(path: Path) -> Seed:
    at, accuracy = None, None
    try:
        begun = _numbered(path.glob("round-*"))
        done = any((last / "final.json").exists() for last in begun[-1:])
        state = "running" if runs.held(path) else "finished" if done else "stopped"
        for row in runs.rounds(path)[-1:]:
            at, accuracy = row["round"], row["test_accuracy"]
    except TROUBLE:
        state = "damaged"
    return Seed(f"{path.parents[1].name}/{path.parent.name}", _number(path), state, at, accuracy, size(path), path)


def _numbered(paths: Iterator[Path]) -> list[Path]:
    """Folders called <word>-<n>, by number; not "seed-0 (copy)" or "round-1.old"."""
    found = [path for path in paths if re.fullmatch(r"[a-z]+-\d+", path.name) and path.is_dir()]
    return sorted(found, key=lambda path: (path.parent, _number(path)))


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def sweeps(folder: Path) -> list[dict]:
    """Every sweep under runs/sweeps: name, state, number of runs that are done, failed, missing."""
    found = []
    for path in sorted(path for path in folder.glob("sweeps/*") if path.is_dir()):
        begun = [one for one in path.iterdir() if re.fullmatch(r"[0-9a-f]{10}", one.name) and one.is_dir()]
        ended = [_state(one / "run.json") for one in begun]
        counts = {"done": ended.count("done"), "failed": ended.count("failed")}
        counts["unfinished"] = len(begun) - sum(counts.values())
        held = any(map(_held, (path, *path.glob("shard-*"))))
        state = "running" if held else "stopped" if counts["unfinished"] else "finished"
        found.append({"sweep": path.name, "state": state, **counts, "bytes": size(path)})
    return found


def _held(folder: Path) -> bool:
    try:
        return runs.held(folder)
    except OSError:  # another user's: left alone
        return True


def _state(record: Path) -> str | None:
    try:
        return runs.read_json(record)["state"]
    except TROUBLE:
        return None


def lines(folder: Path) -> Iterator[str]:
    """`boostlib status` for people."""
    loops = seeds(folder)
    yield from (one.line() for one in loops)
    for b in sweeps(folder):
        counts = f"{b['done']} done, {b['failed']} failed, {b['unfinished']} unfinished"
        yield f"{b['state']:<9} {counts}  {human(b['bytes']):>10}  sweep {b['sweep']}"
    yield f"{len(loops)} runs, {human(size(folder))} in runs/"


# --- one run ----------------------------------------------------------------------------------------------------------


def find(folder: Path, name: str) -> Path:
    """The run or run of a sweep whose folder's name, or its hash, begins with ``name``. Raises ValueError for none or many."""
    known = {path.parent.name: path.parent for path in folder.glob("*/*/manifest.json")}
    known |= {path.parent.name: path.parent for path in folder.glob("sweeps/*/*/run.json")}
    wanted = Path(name).name
    begun = [n for n in known if n.startswith(wanted) or n.rpartition("-")[2].startswith(wanted)]
    hits = [wanted] if wanted in known else begun
    if len(hits) != 1:
        listed = ", ".join(sorted(hits or known)) or f"none under {folder}"
        raise ValueError(f"{'no run' if not hits else 'more than one run'} is called {name!r}: there are {listed}")
    return known[hits[0]]


def describe(path: Path) -> dict[str, Any]:
    """Manifest, environment and rows of one run; of a sweep's run how it ended."""
    if (path / "run.json").exists():
        return runs.read_json(path / "run.json")
    environment = path / "environment.json"
    return {
        "run": path.name,
        "manifest": runs.read_json(path / "manifest.json"),
        "environment": runs.read_json(environment) if environment.exists() else {},
        "seeds": {folder.name: runs.rounds(folder) for folder in _numbered(path.glob("seed-*"))},
    }


def shown(about: dict[str, Any]) -> Iterator[str]:
    """`boostlib show` for people: parameters or settings, then curves or the failure."""
    if "manifest" not in about:
        yield f"{about['state']}  {about['seconds']} s\n  {about.get('command', '')}"
        yield from (f"  {name:<28} {value}" for name, value in about["identity"]["parameters"].items())
        yield from [told(about["failure"])] if about["state"] == "failed" else []
        return
    yield f"{about['run']}  (hash {about['manifest']['hash'][:12]}, commit {about['environment'].get('commit')})"
    for name, value in about["manifest"]["identity"].items():
        for key, one in value.items() if isinstance(value, dict) else [(None, value)]:
            yield f"  {name + '.' + key if key else name:<28} {one}"
    for seed, rows in about["seeds"].items():
        yield from [seed] if rows else []
        for name in ("test_accuracy", "train_accuracy", "train_accuracy_at_k") if rows else ():
            values = [row.get(name) for row in rows]
            yield f"  {name:<20} {curve(values)}  " + " ".join(f"{v:.3f}" for v in values if v is not None)


def curve(values: list[float | None]) -> str:
    """Shares in [0, 1] as blocks, one a round."""
    return "".join("·" if v is None else BLOCKS[min(8, max(1, round(v * 8)))] for v in values)


# --- cleaning ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Waste:
    """Something that nothing resumes from."""

    path: Path
    why: str
    bytes: int


def waste(folder: Path, final: bool = False) -> list[Waste]:
    """What may go: parts that a killed process left half-written, and checkpoints of rounds whose successor is there. With
    ``final`` also the last checkpoints of finished runs, which more rounds would go on from. What a process holds is left."""
    found = []
    for group in sorted(path for path in folder.glob("*") if path.is_dir() and path.name not in APART):
        loops = _numbered(group.glob("*/seed-*"))
        if any(map(_held, loops)):
            continue
        found += [Waste(path, "left half-written by a process that was killed", size(path)) for path in _litter(group)]
        for place in (one for loop in loops for one in _numbered(loop.glob("round-*")) if (one / "model").is_dir()):
            why = f"last checkpoint of {place.parent.name}; more rounds would need it"
            if (place / "round.json").exists():
                why = f"the checkpoint of round {int(place.name.rpartition('-')[2]) + 1} is there"
            if (place / "round.json").exists() or final and (place / "final.json").exists():
                found.append(Waste(place / "model", why, size(place / "model")))
    return found


def remove(found: list[Waste]) -> list[Waste]:
    """Remove it; returns what went. What a process took hold of meanwhile stays, and what is another user's."""
    for one in found:
        if not any(_held(path) for path in one.path.parents if path.name.startswith("seed-")):
            shutil.rmtree(one.path, ignore_errors=True) if one.path.is_dir() else one.path.unlink(missing_ok=True)
    return [one for one in found if not one.path.exists()]


def _litter(folder: Path) -> Iterator[Path]:
    for at, folders, files in os.walk(folder):  # passes by what it may not read
        for name in [*folders, *files]:
            if LITTER.match(name) and time.time() - (path := Path(at, name)).lstat().st_mtime > HOUR:
                yield path  # a younger one may be being written
        folders[:] = [name for name in folders if not LITTER.match(name)]


def size(path: Path) -> int:
    """Bytes of a file or of all files below a folder, as far as they can be read."""
    files = [path] if path.is_file() else [Path(at, name) for at, _, names in os.walk(path) for name in names]
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())


def human(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
