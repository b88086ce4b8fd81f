"""What the run folders hold: states and curves for the terminal, and what may be removed.

Not covered: making runs (fleet, sweep), what an artefact means (boosting).
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boostlib import runs

HOUR = 3600
BLOCKS = " ▁▂▃▄▅▆▇█"
LITTER = re.compile(r"\..+[.-][A-Za-z0-9_]{8}(-old)?$")  # runs.write_bytes, runs.whole_folder


@dataclass(frozen=True)
class Seed:
    """One loop on disk. ``state``: running (a process holds it), finished (its last round was evaluated) or stopped."""

    run: str
    seed: int
    state: str
    round: int | None
    accuracy: float | None
    bytes: int
    folder: Path


def seeds(folder: Path) -> list[Seed]:
    """Every loop under ``folder`` (runs/): <task>-<learner>/<arm>-<hash>/seed-<n>."""
    found = []
    for path in sorted(folder.glob("*/*/seed-*")):
        if not path.parent.name.startswith("base-") and (path.parent / "manifest.json").exists():
            rows = rounds(path)
            state = "running" if runs.held(path) else "finished" if (path / _last(path)).exists() else "stopped"
            found.append(
                Seed(
                    f"{path.parents[1].name}/{path.parent.name}",
                    int(path.name.removeprefix("seed-")),
                    state,
                    rows[-1]["round"] if rows else None,
                    rows[-1]["test_accuracy"] if rows else None,
                    size(path),
                    path,
                )
            )
    return found


def rounds(folder: Path) -> list[dict]:
    """The rows of the finished rounds of one seed's folder, in order."""
    rows = {}
    for name in ("final.json", "round.json"):
        for path in folder.glob(f"round-*/{name}"):
            row = runs.read_json(path)
            rows[row["round"]] = row
    return [rows[t] for t in sorted(rows)]


def _last(folder: Path) -> str:
    """The mark of the end in the last round that was begun."""
    begun = [int(path.name.removeprefix("round-")) for path in folder.glob("round-*")]
    return f"round-{max(begun, default=0)}/final.json"


def sweeps(folder: Path) -> list[dict]:
    """Every sweep under runs/sweeps: name, state, number of runs that are done, failed, missing."""
    found = []
    for path in sorted(folder.glob("sweeps/*")):
        ended = [runs.read_json(p)["state"] for p in path.glob("*/run.json")]
        begun = sum(1 for p in path.iterdir() if p.is_dir() and not p.name.startswith("shard-"))
        counts = {"done": ended.count("done"), "failed": ended.count("failed"), "unfinished": begun - len(ended)}
        state = (
            "running"
            if any(map(runs.held, (path, *path.glob("shard-*"))))
            else "stopped"
            if counts["unfinished"]
            else "finished"
        )
        found.append({"sweep": path.name, "state": state, **counts, "bytes": size(path)})
    return found


def find(folder: Path, name: str) -> Path:
    """The run or run of a sweep whose folder's name, or its hash, begins with ``name``. Raises ValueError for none or many."""
    known = {path.parent.name: path.parent for path in folder.glob("*/*/manifest.json")}
    known |= {path.parent.name: path.parent for path in folder.glob("sweeps/*/*/run.json")}
    wanted = Path(name).name
    hits = [n for n in known if n == wanted] or [
        n for n in known if n.startswith(wanted) or n.rpartition("-")[2].startswith(wanted)
    ]
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
        "seeds": {folder.name: rounds(folder) for folder in sorted(path.glob("seed-*"))},
    }


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
    busy = {path.parents[2] for path in folder.glob("*/*/seed-*/.lock") if runs.held(path.parent)}
    found = []
    for group in sorted(path for path in folder.glob("*") if path.is_dir() and path not in busy):
        if group.name in ("locks", "sweeps", "tables"):
            continue
        found += [Waste(path, "left half-written by a process that was killed", size(path)) for path in _litter(group)]
        for model in sorted(group.glob("*/seed-*/round-*/model")):
            t, seed = int(model.parent.name.removeprefix("round-")), model.parents[1]
            if (model.parent / "round.json").exists():
                found.append(Waste(model, f"the checkpoint of round {t + 1} is there", size(model)))
            elif final and (model.parent / "final.json").exists():
                found.append(Waste(model, f"last checkpoint of {seed.name}; more rounds would need it", size(model)))
    return found


def remove(found: list[Waste]) -> int:
    """Remove it; returns the bytes that were freed. What a process took hold of meanwhile stays."""
    freed = 0
    for one in found:
        seed = next((path for path in one.path.parents if path.name.startswith("seed-")), None)
        if seed is not None and runs.held(seed):
            continue
        shutil.rmtree(one.path) if one.path.is_dir() else one.path.unlink(missing_ok=True)
        freed += one.bytes
    return freed


def _litter(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if LITTER.match(path.name):
            if time.time() - path.stat().st_mtime > HOUR:  # a younger one may be being written
                yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _litter(path)


def size(path: Path) -> int:
    """Bytes of a file or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())


def human(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
