"""Sweeps: a grid or a list of parameter sets over a notebook, on worker processes or a Ray cluster, into one table.

Every run has a folder, runs/sweeps/<name>/<id>/: the executed notebook, its tables, and run.json, which is written last and says
how it ended. What ended well under the same notebook and parameters is not executed again. Not covered: what a notebook computes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from boostlib import runs
from boostlib.runner.execute import execute
from boostlib.runner.lifeline import end_with
from boostlib.runner.parameters import Job, choose, read_yaml, resolve, written

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("notebook", "profile", "name", "table", "workers", "parameters", "grid", "list")
TRIES = 3  # of a run whose worker process or node is lost
RAY_SECONDS = 20  # for a cluster to answer


@dataclass(frozen=True)
class Run:
    """One parameter set. ``swept`` is what differs from run to run."""

    job: Job
    swept: dict[str, Any]
    identity: dict[str, Any]
    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    def title(self) -> str:
        return " ".join(f"{name}={written(value)}" for name, value in self.swept.items()) or "(no parameter)"

    def record(self) -> dict | None:
        """How it ended, None where it did not. Raises ValueError where its run.json was cut or edited, or where another
        version of the library wrote it, whose results may differ."""
        path = self.folder / "run.json"
        if not path.exists():
            return None
        found = runs.read_json(path)
        if (
            not isinstance(found, dict)
            or found.get("identity") != self.identity
            or found["hash"] != runs.digest(self.identity)
        ):
            raise ValueError(f"{path} does not fit its folder: it was edited; delete that folder and start again")
        if found.get("version") != version():
            made = f"{path} was made by boostlib {found.get('version')}, this is {version()}: results may differ"
            raise ValueError(f"{made}; give the sweep another `name:`, or delete {self.folder.parent}")
        return found

    def ended(self, outcome: Mapping[str, Any]) -> dict:
        """Write run.json, and return it."""
        record = outcome | {"swept": self.swept, "command": self.job.command, "version": version()}
        record |= {"commit": runs.git_commit(), "identity": self.identity, "hash": runs.digest(self.identity)}
        runs.write_json(self.folder / "run.json", record)
        return record


@dataclass(frozen=True)
class Sweep:
    """A sweep as read from its file; see docs/scale.md for the file."""

    name: str
    runs: tuple[Run, ...]
    table: str
    workers: int
    folder: Path
    root: Path = field(repr=False)


def version() -> str:
    return metadata.version("boostlib")


def read(file: str | Path, root: Path | None = None) -> Sweep:
    """A sweep from its YAML file, with every parameter of every run checked. Raises ValueError naming file and parameter."""
    file, root = Path(file), root or runs.project_root()
    if not file.is_file():
        raise ValueError(f"{file} is not there: give the YAML file of a sweep (docs/scale.md shows one)")
    given = read_yaml(file.read_text(encoding="utf-8", errors="replace"), str(file))
    if not isinstance(given, Mapping) or "notebook" not in given:
        raise ValueError(f"{file} names no notebook: it needs at least `notebook:` and a `grid:` or a `list:`")
    for key in given:
        if key not in KEYS:
            raise ValueError(f"{file} has an unknown key {key!r}: there are {', '.join(KEYS)}")
    chosen = choose([str(given["notebook"]).zfill(2)], root)
    if len(chosen) != 1:
        raise ValueError(f"{file}: notebook {given['notebook']!r} fits {', '.join(p.stem for p in chosen)}; name one")
    name, table, workers = given.get("name", file.stem), given.get("table", "rounds"), given.get("workers", 1)
    for key, text in {"name": name, "table": table}.items():
        if not re.fullmatch(r"[\w+=,-][\w+=,. -]*", str(text)):  # it names a folder, or a file
            raise ValueError(
                f"{file}: {key} = {text!r} is not possible: it must be letters, digits and any of _ . - + = ,"
            )
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise ValueError(f"{file}: workers = {workers!r} is not possible: it must be a whole number of at least 1")
    common, profile = _mapping(given.get("parameters"), file, "parameters"), str(given.get("profile", "smoke"))
    cells = runs.read_json(chosen[0])["cells"]
    code = runs.digest(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"])
    folder, found = root / "runs" / "sweeps" / str(name), {}
    for swept in _sets(given, file):
        job = resolve(chosen[0], profile, common | swept, str(file))
        plain = json.loads(json.dumps({k: v for k, v in job.parameters.items() if k != "profile"}))
        identity = {"notebook": chosen[0].stem, "code": code, "profile": profile, "parameters": plain}
        here = folder / runs.digest(identity)[:10]
        found[here.name] = Run(job, swept, identity, here)
    return Sweep(str(name), tuple(found.values()), str(table), workers, folder, root)


def _mapping(value: Any, file: Path, key: str) -> dict[str, Any]:
    if not isinstance(value or {}, Mapping):
        raise ValueError(f"{file}: {key} is {value!r}; it must map parameter names to values")
    return dict(value or {})


def _sets(given: Mapping[str, Any], file: Path) -> Iterator[dict[str, Any]]:
    """Every parameter set: each of the list (none: the empty one) with every point of the grid."""
    grid, listed = _mapping(given.get("grid"), file, "grid"), given.get("list", [{}])
    if not grid and "list" not in given:
        raise ValueError(f"{file} sweeps over nothing: give a `grid:` (name: [values]) or a `list:` of parameter sets")
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"{file}: grid: {name} is {values!r}; it must be a list of at least one value")
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{file}: list is {listed!r}; it must be a list of parameter sets")
    for one in listed:
        for values in itertools.product(*grid.values()):
            yield _mapping(one, file, "an entry of list") | dict(zip(grid, values, strict=True))


def read_shard(text: str | None) -> tuple[int, int] | None:
    """ "0/3" as (0, 3); None for None. Raises ValueError for anything else."""
    if text is None:
        return None
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise ValueError(f"--shard {text} is not possible: it must be I/N with I from 0 to N - 1, such as 0/3")
    return int(i), int(n)


# --- running ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What a sweep came to: ids of reused, computed and failed runs (with their failures), and the gathered table."""

    name: str
    total: int
    reused: tuple[str, ...]
    computed: tuple[str, ...]
    failed: dict[str, dict]
    table: str | None
    rows: int
    seconds: float


def run(
    sweep: Sweep,
    workers: int | None = None,
    *,
    ray: str | None = None,
    gpus: float = 0,
    retry_failed: bool = True,
    shard: tuple[int, int] | None = None,
    timeout: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Execute what is missing (and what failed, unless ``retry_failed`` is False), then gather. ``workers``: processes; on Ray
    (``ray``: the cluster's address) None means all its CPUs. ``shard`` (i, n): only runs i, i + n, i + 2n ..., for n jobs that
    share a file system. Raises RuntimeError where another process runs this sweep, or this shard of it."""
    start, (i, n) = time.perf_counter(), shard or (0, 1)
    with runs.locked(sweep.folder / f"shard-{i}-of-{n}" if shard else sweep.folder):
        _alone(sweep, shard)
        before = {one.id: one.record() for one in sweep.runs}
        again = (None, "failed") if retry_failed else (None,)
        todo = [one for one in sweep.runs[i::n] if (before[one.id] or {}).get("state") in again]
        say(f"{sweep.name}: {len(sweep.runs)} runs, {len(sweep.runs) - len(todo)} there, {len(todo)} to execute")
        left = todo
        with _cluster(ray, workers, gpus) if ray and todo else _processes(workers or sweep.workers) as place:
            while left:  # runs that share a loop with another run: the second comes again, and finds it done
                ended = _execute(left, place, sweep.root, timeout, say)
                held = [one for one, record in ended if runs.BUSY in (record["failure"] or {"error": ""})["error"]]
                left = held if len(held) < len(left) else []
        records = {one.id: one.record() for one in sweep.runs}
        table = gather(sweep, records)
        if table is not None:
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            runs.write_bytes(sweep.folder / "results.parquet", buffer.getvalue())
        states = [
            {"id": one.id, "swept": one.swept, "state": (records[one.id] or {"state": "missing"})["state"]}
            for one in sweep.runs
        ]
        runs.write_json(sweep.folder / "sweep.json", {"name": sweep.name, "runs": states})
    _say_commits(records, say)
    ended = {
        state: [k for k, record in records.items() if record and record["state"] == state]
        for state in ("done", "failed")
    }
    executed = {one.id for one in todo}
    return Report(
        name=sweep.name,
        total=len(records),
        reused=tuple(k for k in ended["done"] if k not in executed),
        computed=tuple(k for k in ended["done"] if k in executed),
        failed={k: records[k] for k in ended["failed"]},
        table=None if table is None else f"runs/sweeps/{sweep.name}/results.parquet",
        rows=0 if table is None else len(table),
        seconds=round(time.perf_counter() - start, 2),
    )


def _alone(sweep: Sweep, shard: tuple[int, int] | None) -> None:
    """A shard runs beside the other shards of the same division, a whole sweep beside none."""
    others = {sweep.folder, *sweep.folder.glob("shard-*")}
    ours = {sweep.folder} if shard is None else set(sweep.folder.glob(f"shard-*-of-{shard[1]}"))
    for folder in sorted(others - ours):
        if runs.held(folder):
            raise RuntimeError(f"{runs.BUSY} {folder}; wait for it or stop it, then start again")


def _say_commits(records: Mapping[str, dict | None], say: Callable[[str], None]) -> None:
    commits = Counter(str(record.get("commit")) for record in records.values() if record)
    if len(commits) > 1:
        say(f"the runs were made at several commits: {', '.join(f'{n} at {commit}' for commit, n in commits.items())}")


@contextlib.contextmanager
def _processes(workers: int) -> Iterator[tuple[int, Callable, Callable, type[Exception]]]:
    """Where runs execute: how many at once, how one is started in a slot, how a slot is dropped, and what tells that it was
    lost. Each slot has a pool of one process: when it is killed, no other run is lost with it."""
    from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

    pools: dict[int, ProcessPoolExecutor] = {}

    def start(slot: int, *work: Any) -> Future:
        if slot not in pools:
            pools[slot] = ProcessPoolExecutor(1, initializer=end_with, initargs=(os.getpid(),))
        return pools[slot].submit(*work)

    def drop(slot: int) -> None:
        pools.pop(slot).shutdown(kill_workers=True)

    try:
        yield workers, start, drop, BrokenProcessPool
    finally:
        for slot in list(pools):
            drop(slot)


@contextlib.contextmanager
def _cluster(
    address: str, workers: int | None, gpus: float
) -> Iterator[tuple[int, Callable, Callable, type[Exception]]]:
    """The same on a Ray cluster. Another process tries the address first: a wrong one hangs, or aborts who asks."""
    if importlib.util.find_spec("ray") is None:
        raise ValueError("--ray needs Ray, which is not installed here: pip install 'boostlib[ray]'")
    how = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        ask = [sys.executable, "-c", f"import ray; ray.init(**{how})"]
        asked = subprocess.run(ask, capture_output=True, text=True, timeout=RAY_SECONDS)
        said = (asked.stderr.strip().splitlines() or ["it ended"])[-1] if asked.returncode else ""
    except subprocess.TimeoutExpired:
        said = f"nothing in {RAY_SECONDS} s"
    if said:
        raise ValueError(f"--ray {address}: no Ray cluster answers there ({said}); start one: ray start --head")
    import ray

    ray.init(**how, ignore_reinit_error=True)
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_call)
    slots = workers or int(ray.cluster_resources().get("CPU", 1))
    yield slots, lambda slot, *work: task.remote(*work).future(), lambda slot: None, ray.exceptions.RayError


def _call(work: Callable, *given: Any) -> Any:
    return work(*given)


def _execute(
    todo: Sequence[Run], place: tuple, root: Path, timeout: int | None, say: Callable[[str], None]
) -> Iterator[tuple[Run, dict]]:
    """Runs with their records as they end. A lost worker (killed, its node gone) costs its run a try of three."""
    slots, start, drop, lost = place
    threads = max(1, (os.cpu_count() or 1) // slots)
    waiting, free, busy, tries, ended = deque(todo), list(range(slots)), {}, Counter(), 0
    while waiting or busy:
        while waiting and free:
            one, slot = waiting.popleft(), free.pop()
            busy[start(slot, one_run, one, root, threads, timeout)] = one, slot
            tries[one.id] += 1
        for future in wait(busy, return_when=FIRST_COMPLETED).done:
            one, slot = busy.pop(future)
            free.append(slot)
            if not isinstance(future.exception(), lost):
                record = future.result()
            else:
                drop(slot)
                if tries[one.id] < TRIES:
                    say(f"a worker was lost; once more: {one.title()}")
                    waiting.append(one)
                    continue
                record = one.ended(_failed(f"its worker process was killed {TRIES} times") | {"seconds": 0.0})
            ended += 1
            say(f"[{ended}/{len(todo)}] {record['state']} {record['seconds']:.1f} s  {one.title()}")
            yield one, record


def one_run(one: Run, root: Path, threads: int, timeout: int | None = None) -> dict:
    """Execute one run and write how it ended to its run.json. Never raises for what happens in the notebook."""
    start = time.perf_counter()
    place = {"target": one.folder / one.job.notebook.name, "tables": one.folder / "tables", "quiet": True}
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    try:
        with patch.dict(os.environ, limits):
            outcome = asdict(execute(one.job, root, timeout=timeout, **place))
    except Exception as error:  # a full disk, a missing kernel: reported like a failed cell, the others go on
        outcome = _failed(f"{type(error).__name__}: {error}")
    return one.ended(outcome | {"seconds": round(time.perf_counter() - start, 2)})


def _failed(error: str) -> dict:
    return {"state": "failed", "failure": {"cell": None, "source": "", "error": error, "traceback": ""}}


# --- gathering --------------------------------------------------------------------------------------------------------


def gather(sweep: Sweep, records: Mapping[str, dict | None]) -> pd.DataFrame | None:
    """The table of every finished run, one below the other: run, profile, the swept parameters (lists and mappings as JSON;
    param_<name> where the table has a column of that name), then its own columns. None where there is none. A finished run
    that left no such table is a failed one in ``records``."""
    import pandas as pd

    parts = []
    for one in sweep.runs:
        if not records[one.id] or records[one.id]["state"] != "done":
            continue
        folder = one.folder / "tables" / one.job.notebook.stem
        if not (folder / f"{sweep.table}.csv").exists():
            there = ", ".join(sorted(path.stem for path in folder.glob("*.csv"))) or "none; it must call save_tables"
            records[one.id] |= _failed(
                f"{one.job.notebook.name} left no table {sweep.table!r} behind: there are {there}"
            )
            continue
        table = pd.read_csv(folder / f"{sweep.table}.csv")
        plain = {n: json.dumps(v) if isinstance(v, list | dict) else v for n, v in one.swept.items()}
        named = {f"param_{n}" if n in table.columns else n: v for n, v in plain.items()}
        own = [column for column in table.columns if column not in ("run", "profile")]
        parts.append(table.assign(run=one.id, profile=one.job.profile, **named)[["run", "profile", *named, *own]])
    return pd.concat(parts, ignore_index=True).apply(_one_type) if parts else None


def _one_type(column: pd.Series) -> pd.Series:
    """Parquet takes one type a column: values of several (a number here, a name there) become text."""
    kinds = {type(value) for value in column.dropna()} if column.dtype == object else set()
    return column.map(str, na_action="ignore") if len(kinds) > 1 else column
