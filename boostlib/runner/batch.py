"""Notebooks executed one after the other: order, what was reused and computed, failures with their cell.

Not covered: how one is executed (notebooks), grids of parameters (sweep).
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from boostlib import runs
from boostlib.runner import execute as notebooks

NEEDS = {  # what a notebook reads of others; a failed one stops those that need it, and only those
    "05_theory_meets_runs": ("02_gsm8k_boosting",),
    "06_paper_figures": (
        "02_gsm8k_boosting",
        "03_mbpp_boosting",
        "04_labeling_allocation",
        "05_theory_meets_runs",
    ),
}
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Outcome:
    """What came of one notebook. ``state``: done, failed or skipped; ``failure``: cell, source, error, traceback;
    rounds and loops are those of the boosting runs inside."""

    notebook: str
    profile: str
    state: str
    executed: str | None = None
    seconds: float = 0.0
    loops: int = 0
    loops_reused: int = 0
    rounds_reused: int = 0
    rounds_computed: int = 0
    failure: dict | None = field(default=None)

    def sentence(self) -> str:
        """For people: what was reused and computed."""
        if self.state == "skipped":
            return f"{self.notebook} ({self.profile}) skipped: {self.failure['error']}"
        if self.state == "failed":
            return f"{self.notebook} ({self.profile}) failed after {self.seconds:.1f} s\n{told(self.failure)}"
        work = f"; {self.loops} loops, {self.loops_reused} of them reused whole; rounds: {self.rounds_reused} reused, "
        work = work + f"{self.rounds_computed} computed" if self.loops else ""
        return f"{self.executed}  {self.seconds:.1f} s{work}"

    def plain(self) -> dict:
        return asdict(self)


def told(failure: Mapping[str, Any]) -> str:
    """A failure for people: the error first, then the cell and its source, then where the executed copy is."""
    source = "\n".join("    " + line for line in failure["source"].splitlines())
    copy = f"\n  executed so far: {failure['copy']}" if failure.get("copy") else ""
    return f"  {failure['error']}\n  in cell {failure['cell']}:\n{source}{copy}"


def execute(
    notebook: Path, profile: str, parameters: Mapping[str, Any], root: Path, *, fresh: bool = False, **place: Any
) -> Outcome:
    """Execute one notebook; a failing cell or a dead kernel is an outcome, bad input an exception. ``place``: target, quiet
    and tables (the folder of its tables), see `notebooks`."""
    start = time.perf_counter()
    target = place.get("target") or root / "papermill_runs" / profile / notebook.name
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "counts"
        variables = {"BOOSTLIB_COUNTS": str(note)} | ({"BOOSTLIB_FRESH": "1"} if fresh else {})
        if tables := place.pop("tables", None):
            variables["BOOSTLIB_TABLES"] = str(tables)
        failure = None
        with notebooks.kernel_environment(variables):
            try:
                notebooks.execute(notebook, profile, parameters, root, **place)
            except Exception as error:
                failure = failure_of(error, target, root)
                if failure is None:
                    raise
        facts = {"seconds": round(time.perf_counter() - start, 2), **_counts(note)}
    state = "failed" if failure else "done"
    return Outcome(notebook.stem, profile, state, _relative(target, root), failure=failure, **facts)


def in_order(
    chosen: Sequence[Path], profile: str, parameters: Mapping[str, Any], root: Path, fresh: bool = False
) -> Iterator[Outcome]:
    """The outcomes, one by one. A notebook that needs a failed one is skipped, the others go on."""
    for path in chosen:  # every parameter is checked before the first notebook starts
        given = notebooks.profile_parameters(profile, path) | dict(parameters)
        notebooks.check_parameters(path, given, f"profile {profile}")
    lost: set[str] = set()
    for path in chosen:
        missing = sorted(lost & set(NEEDS.get(path.stem, ())))
        if missing:
            outcome = Outcome(path.stem, profile, "skipped", failure={"error": f"it needs {', '.join(missing)}"})
        else:
            outcome = execute(path, profile, parameters, root, fresh=fresh)
        if outcome.state != "done":
            lost.add(path.stem)
        yield outcome


def failure_of(error: Exception, target: Path, root: Path) -> dict | None:
    """Cell (as counted in the executed copy, from 0), source, error and traceback; None where no cell is to blame."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    copy = target.with_suffix(".failed.ipynb")
    about = {"copy": _relative(copy, root)} if copy.exists() else {}
    if isinstance(error, papermill.PapermillExecutionError):
        said = f"{error.ename}: {error.evalue}" if error.evalue else error.ename
        trace = COLOUR.sub("", "\n".join(error.traceback))
        return about | {"cell": error.cell_index, "source": error.source, "error": said, "traceback": trace}
    if isinstance(error, DeadKernelError):
        cell, source = _under_way(copy)
        said = "the kernel died, most often because memory ran out (see `boostlib doctor`); what was finished is kept"
        return about | {"cell": cell, "source": source, "error": said, "traceback": ""}
    return None


def _under_way(copy: Path) -> tuple[int | None, str]:
    """The last code cell that was started (papermill calls all cells completed when the kernel is gone)."""
    for i, cell in reversed(list(enumerate(runs.read_json(copy)["cells"]))) if copy.exists() else ():
        if cell["cell_type"] == "code" and cell["metadata"].get("papermill", {}).get("start_time"):
            return i, "".join(cell["source"])
    return None, ""


def _counts(note: Path) -> dict[str, int]:
    total: dict[str, int] = {}
    for line in note.read_text().splitlines() if note.exists() else ():
        for name, value in json.loads(line).items():
            total[name] = total.get(name, 0) + value
    return total


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
