"""What the run folders hold, for the terminal: states and curves, and what may be removed. Strange things in them are passed by.

Not covered: making runs (many, sweep), what an artefact means (loop).
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from boostlib import runs
from boostlib.runner.execute import told

human = functools.partial(tqdm.format_sizeof, suffix="B", divisor=1024)
HOUR = 3600
BLOCKS = "▁▁▂▃▄▅▆▇█"
LITTER = re.compile(r"\..+[.-][A-Za-z0-9_]{8}(-old)?$")  # runs.write_bytes, runs.whole_folder
TROUBLE = (OSError, ValueError, KeyError, TypeError)  # of a file that is cut, edited or another user's
APART = ("locks", "sweeps", "tables", "notebooks", "figures")  # folders of runs/ that hold no loops


def seeds(folder: Path) -> list[dict[str, Any]]:
    """Every loop under ``folder`` (runs/): <task>-<learner>/<arm>-<hash>/seed-<n>. ``state``: running (a process holds it),
    finished (its last round was evaluated), stopped, or damaged (cut, edited, or another user's)."""
    found = []
    for path in (one for one in _numbered(folder.glob("*/*/seed-*")) if not one.parent.name.startswith("base-")):
        state, last = "damaged", {}
        with contextlib.suppress(*TROUBLE):
            last = ([{}] + runs.rounds(path))[-1]
            done = any((place / "final.json").exists() for place in _numbered(path.glob("round-*"))[-1:])
            state = "running" if runs.held(path) else "finished" if done else "stopped"
        about = {"run": f"{path.parents[1].name}/{path.parent.name}", "seed": _number(path), "state": state}
        about |= {"round": last.get("round"), "accuracy": last.get("test_accuracy")}
        found.append(about | {"bytes": size(path), "folder": str(path)})
    return found


def sweeps(folder: Path) -> list[dict[str, Any]]:
    """Every sweep: name, state, number of runs that are done, failed, unfinished, bytes."""
    found = []
    for path in sorted(path for path in folder.glob("sweeps/*") if path.is_dir()):
        counts = {"done": 0, "failed": 0, "unfinished": 0}
        for one in (one for one in path.iterdir() if re.fullmatch(r"[0-9a-f]{10}", one.name) and one.is_dir()):
            state = "unfinished"
            with contextlib.suppress(*TROUBLE):
                state = runs.read_json(one / "run.json", sealed=True)["state"]
            counts[state] += 1
        held = any(map(runs.held, (path, *path.glob("shard-*"))))
        state = "running" if held else "stopped" if counts["unfinished"] else "finished"
        found.append({"sweep": path.name, "state": state, **counts, "bytes": size(path)})
    return found


def lines(about: dict[str, Any]) -> Iterator[str]:
    """`boostlib status` for people."""
    for one in about["runs"]:
        at = "none yet" if one["round"] is None else f"{one['round']} test {one['accuracy']:.3f}"
        yield f"{one['state']:<9} round {at:<12} {human(one['bytes']):>7}  {one['run']} seed {one['seed']}"
    for one in about["sweeps"]:
        counts = f"{one['done']} done, {one['failed']} failed, {one['unfinished']} unfinished"
        yield f"{one['state']:<9} {counts}  {human(one['bytes']):>7}  sweep {one['sweep']}"
    yield f"{len(about['runs'])} runs, {human(about['bytes'])} in runs/"


def describe(folder: Path, name: str) -> dict[str, Any]:
    """Manifest and rows of the run, or how the run of a sweep ended, whose folder's name or hash begins with ``name``. Raises
    ValueError for none or many."""
    files = [*folder.glob("*/*/manifest.json"), *folder.glob("sweeps/*/*/run.json")]
    known, wanted = {path.parent.name: path for path in files}, Path(name).name
    begun = [n for n in known if n.startswith(wanted) or n.rpartition("-")[2].startswith(wanted)]
    hits = [wanted] if wanted in known else begun
    if len(hits) != 1:
        listed = ", ".join(sorted(hits or known)) or f"none under {folder}"
        raise ValueError(f"{'no run' if not hits else 'more than one run'} is called {name!r}: there are {listed}")
    path = known[hits[0]]
    about = {"run": hits[0], **runs.read_json(path)}
    if path.name == "manifest.json":
        about["seeds"] = {one.name: runs.rounds(one) for one in _numbered(path.parent.glob("seed-*"))}
    return about


def shown(about: dict[str, Any]) -> Iterator[str]:
    """`boostlib show` for people: what it is, then curves or the failure."""
    yield f"{about['run']}  {about.get('state', '')}  {about.get('command', '')}"
    for name, value in about["identity"].items():
        for key, one in value.items() if isinstance(value, dict) else [(None, value)]:
            yield f"  {name + '.' + key if key else name:<28} {one}"
    if about.get("failure"):
        yield told(about["failure"])
    for seed, rows in about.get("seeds", {}).items():
        for name in ("test_accuracy", "train_accuracy", "train_accuracy_at_k") if rows else ():
            values = [row.get(name) for row in rows]
            blocks = "".join("·" if v is None else BLOCKS[round(v * 8)] for v in values)
            yield f"  {seed} {name:<20} {blocks}  " + " ".join(f"{v:.3f}" for v in values if v is not None)


def waste(folder: Path, final: bool = False) -> dict[Path, str]:
    """What may go, and why: parts that a killed process left half-written, and checkpoints of rounds whose successor is
    there. With ``final`` also the last checkpoints of finished runs. What a process holds is left."""
    found = {}
    for group in sorted(path for path in folder.glob("*") if path.is_dir() and path.name not in APART):
        loops = _numbered(group.glob("*/seed-*"))
        if any(map(runs.held, loops)):
            continue
        for path in group.rglob(".*"):  # a younger one may be being written
            if LITTER.match(path.name) and time.time() - path.lstat().st_mtime > HOUR:
                found[path] = "left half-written by a process that was killed"
        for place in (one for loop in loops for one in _numbered(loop.glob("round-*")) if (one / "model").is_dir()):
            if (place / "round.json").exists():
                found[place / "model"] = f"the checkpoint of round {_number(place) + 1} is there"
            elif final and (place / "final.json").exists():
                found[place / "model"] = f"last checkpoint of {place.parent.name}; more rounds would need it"
    return found


def remove(one: Path) -> None:
    """Remove it, if no process took hold of it meanwhile."""
    if not any(runs.held(path) for path in one.parents if path.name.startswith("seed-")):
        shutil.rmtree(one, ignore_errors=True) if one.is_dir() else one.unlink(missing_ok=True)


def _numbered(paths: Iterable[Path]) -> list[Path]:
    """Folders called <word>-<n>, by number; not "seed-0 (copy)" or "round-1.old"."""
    found = [path for path in paths if re.fullmatch(r"[a-z]+-\d+", path.name) and path.is_dir()]
    return sorted(found, key=lambda path: (path.parent, _number(path)))


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def size(path: Path) -> int:
    """Bytes of a file or of all files below a folder, as far as they can be read."""
    files = [path] if path.is_file() else [Path(at, name) for at, _, names in os.walk(path) for name in names]
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())
