"""Notebooks executed with papermill, one after the other: what was reused and computed, and failures with their cell.

Everything goes below runs/, which git ignores: notebooks/<label>/<name>.ipynb, tables/<label>/<name>/, and what 06 draws. Only
`record` writes papermill_runs/ and figures/. Not covered: what is executed (parameters), grids of parameters (sweep).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from boostlib import runs
from boostlib.progress import Quiet
from boostlib.runner.parameters import Job

KERNEL = "boostlib"
NEEDS = {"05": ("02",), "06": ("02", "03", "04", "05")}  # whose runs a notebook reads; without them it is skipped
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
MACHINE = re.compile(rf"\[Errno (1|5|13|28|30|122)\]|No space left on device|Read-only file system|{runs.BUSY}")
LIFELINE = "__import__('boostlib.runs', fromlist=['_']).end_with_parent({}, get_ipython().kernel)"
LINK = re.compile(r"\]\((?:(\.\./)|(?=\d\d_\w+\.ipynb))")  # of a notebook to the checkout or to another notebook


@dataclass(frozen=True)
class Outcome:
    """What came of one notebook. ``state``: done, failed or skipped; ``failure``: cell, source, error, traceback, copy; rounds
    and loops are those of the boosting runs inside."""

    notebook: str
    profile: str
    state: str
    executed: str | None = None
    seconds: float = 0.0
    loops: int = 0
    loops_reused: int = 0
    rounds_reused: int = 0
    rounds_computed: int = 0
    failure: dict | None = None

    def sentence(self) -> str:
        """For people: what was reused and computed, or the failure."""
        if self.failure:
            return f"{self.notebook} ({self.profile}) {self.state}: {told(self.failure)}"
        rounds = f"{self.rounds_reused} reused, {self.rounds_computed} computed"
        work = f"; {self.loops} loops, {self.loops_reused} of them reused whole; rounds: {rounds}" if self.loops else ""
        return f"{self.executed}  {self.seconds:.1f} s{work}"


def told(failure: Mapping[str, Any]) -> str:
    """A failure for people: the error first, then the cell and its source, then where the executed copy is."""
    where = f"\n  in cell {failure['cell']}:\n" if failure.get("source") else ""
    copy = f"\n  executed so far: {failure['copy']}" if "copy" in failure else ""
    return failure["error"] + where + textwrap.indent(failure.get("source", ""), "    ") + copy


def exit_code(failures: Sequence[Mapping[str, Any]]) -> int:
    """0 without failures, 3 where the machine was in the way of one, else 1."""
    return 3 if any(MACHINE.search(one["error"]) for one in failures) else 1 if failures else 0


def in_order(jobs: Sequence[Job], root: Path, **how: Any) -> Iterator[Outcome]:
    """The outcomes, one by one. A notebook that needs a failed one is skipped, the others go on."""
    lost: list[str] = []
    for name, job in ((job.notebook.stem, job) for job in jobs):
        missing = ", ".join(one for one in lost if one[:2] in NEEDS.get(name[:2], ()))
        skipped = Outcome(name, job.profile, "skipped", failure={"error": f"it needs {missing}"})
        yield (outcome := skipped if missing else execute(job, root, **how))
        lost += [name] * (outcome.failure is not None)


def execute(
    job: Job, root: Path, *, folder: Path | None = None, fresh: bool = False, timeout: int | None = None
) -> Outcome:
    """Execute one notebook to runs/notebooks/<label>/, its tables to runs/tables/<label>/; or, quietly, both to ``folder``.

    One that fails (a cell, its time of ``timeout`` seconds, sys.exit, a dead kernel) leaves <name>.failed.ipynb beside an older
    copy. Raises RuntimeError where another process executes it to the same place, OSError for a full disk."""
    start, here = time.perf_counter(), root / "runs"
    target = (folder or here / "notebooks" / job.label) / job.notebook.name
    tables = folder / "tables" if folder else here / "tables" / job.label
    place, shown = str(target.relative_to(root)), not folder and sys.stderr is not None and sys.stderr.isatty()
    lock = here / "locks" / runs.digest(place)[:10]
    counts, about = lock / "counts.jsonl", lock / "context.json"
    context = {"command": job.command, "fresh": fresh, "counts": str(counts), "tables": str(tables)}
    with runs.locked(lock, place):
        target.parent.mkdir(parents=True, exist_ok=True)
        counts.unlink(missing_ok=True)
        runs.write_json(about, context)
        log = contextlib.nullcontext(sys.stderr) if shown else open(target.with_suffix(".log"), "w")
        with patch.dict(os.environ, BOOSTLIB_CONTEXT=str(about), PYTHONHASHSEED="0"), log as stream:
            how = {"progress_bar": shown, "stderr_file": Quiet(stream), "execution_timeout": timeout}
            failure = _papermill(job, target, root, how)
        lines = counts.read_text().splitlines() if counts.exists() else []
        total = sum((Counter(json.loads(line)) for line in lines), Counter())
    state, seconds = "failed" if failure else "done", round(time.perf_counter() - start, 2)
    return Outcome(job.notebook.stem, job.profile, state, place, seconds, failure=failure, **total)


def _papermill(job: Job, target: Path, root: Path, how: dict[str, Any]) -> dict | None:
    """Execute, and put the copy where it belongs. None, or the failure."""
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of what resolve has checked
    running, failed = target.with_suffix(".running.ipynb"), target.with_suffix(".failed.ipynb")
    paths = (str(path).replace("{", "{{").replace("}", "}}") for path in (job.notebook, running))  # it formats them
    how |= {"kernel_name": KERNEL, "cwd": str(job.notebook.parent), "autosave_cell_every": 0}
    lifeline = f"--IPKernelApp.exec_lines={LIFELINE.format(os.getpid())}"
    how["extra_arguments"] = ["--log-level=CRITICAL", lifeline]  # a kernel warns of its own transport
    try:
        done = papermill.execute_notebook(*paths, job.parameters, **how)
        for i, cell in enumerate(done.cells):  # sys.exit(0) in a cell is a good end for papermill
            for output in (one for one in cell.get("outputs", ()) if one.output_type == "error"):
                said = f"{output.evalue} ended the notebook before its last cell"
                raise papermill.PapermillExecutionError(i, None, cell.source, output.ename, said, output.traceback)
    except (papermill.PapermillExecutionError, DeadKernelError, CellTimeoutError) as error:
        os.replace(running, failed)  # what was executed is there to be read
        return {"copy": str(failed.relative_to(root)), **_failure(error, failed)}
    except NoSuchKernel as error:
        raise RuntimeError(f"Jupyter knows no kernel {KERNEL!r}: `boostlib doctor` says how to install it") from error
    except BaseException:
        running.unlink(missing_ok=True)
        raise
    runs.write_text(target, _tidy(running, job))
    for path in (running, failed):
        path.unlink(missing_ok=True)
    return None


def _failure(error: Exception, copy: Path) -> dict[str, Any]:
    """Cell (as counted in the executed copy, from 0), source, error and traceback."""
    if hasattr(error, "ename"):  # a cell's own
        said = f"{error.ename}: {error.evalue}" if error.evalue else error.ename
        trace = COLOUR.sub("", "\n".join(error.traceback))
        return {"cell": error.cell_index, "source": error.source, "error": said, "traceback": trace}
    said = "the kernel died, most often because memory ran out (see `boostlib doctor`)"
    if isinstance(error, TimeoutError):
        said = "the cell took longer than --timeout allows"
    cells = runs.read_json(copy)["cells"]  # the last that was started: papermill calls all completed that come after
    begun = [i for i, cell in enumerate(cells) if cell["metadata"].get("papermill", {}).get("start_time")]
    cell = max((i for i in begun if cells[i]["cell_type"] == "code"), default=None)
    source = "" if cell is None else "".join(cells[cell]["source"])
    return {"cell": cell, "source": source, "error": f"{said}; what was finished is kept", "traceback": ""}


def _tidy(executed: Path, job: Job) -> str:
    """The executed notebook without what names this machine; the command that made it stands below the title."""
    content = json.loads(executed.read_text(encoding="utf-8"))
    about = content["metadata"].get("papermill", {})
    about["input_path"], about["output_path"] = f"notebooks/{job.notebook.name}", job.notebook.name
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":  # read from papermill_runs/<profile>/, a folder deeper
            cell["source"] = LINK.sub(lambda m: f"](../../{'' if m[1] else 'notebooks/'}", "".join(cell["source"]))
        if cell["cell_type"] == "code":
            cell["outputs"] = [o for o in cell["outputs"] if o.get("name") != "stderr"]
    note = {"cell_type": "markdown", "id": "made-by", "metadata": {}, "source": [f"Executed by `{job.command}`"]}
    content["cells"].insert(1, note)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def record(profile: str, root: Path) -> list[str]:
    """Copy what a profile's notebooks made here to papermill_runs/ (copies and tables) and figures/ (those whose table is
    another than the recorded one), for committing. Returns what was written."""
    made, home = root / "runs", root / "papermill_runs" / profile
    copies = sorted((made / "notebooks" / profile).glob("*.ipynb"))
    for copy in copies:
        if copy.stem.endswith(".failed"):
            name = copy.stem.removesuffix(".failed")
            raise ValueError(f"{name} failed when it was last executed in profile {profile}; mend it, and run it again")
    new = {home / copy.name: copy for copy in copies if "." not in copy.stem}
    if not new:
        raise ValueError(f"nothing to record in profile {profile}; run: make figures PROFILE={profile}")
    for table in sorted((made / "figures" / profile).glob("*.csv")):
        old = root / "figures" / table.name
        if not old.exists() or old.read_bytes() != table.read_bytes():
            new |= {old.with_suffix(end): table.with_suffix(end) for end in (".png", ".pdf", ".csv")}
    for path, source in new.items():
        runs.write_bytes(path, source.read_bytes())
        if (tables := made / "tables" / profile / source.stem).is_dir() and path.suffix == ".ipynb":
            with runs.whole_folder(path.with_suffix("")) as whole:
                shutil.copytree(tables, whole, dirs_exist_ok=True)
    return [str(path.relative_to(root)) for path in new]
