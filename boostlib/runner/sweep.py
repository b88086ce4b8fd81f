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
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from boostlib import runs
from boostlib.runner.execute import execute
from boostlib.runner.parameters import Job, choose, fits, read_yaml, resolve, written
from boostlib.runs.tables import read_table

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
        found = {}
        with contextlib.suppress(ValueError):  # cut, or its seal broken
            found = runs.read_json(path)
        known = {"identity": self.identity, "hash": runs.digest(self.identity)}
        if not isinstance(found, dict) or any(found.get(name) != value for name, value in known.items()):
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

    def need(right: Any, said: str) -> None:
        if not right:
            raise ValueError(f"{file}{said}")

    need(file.is_file(), " is not there: give the YAML file of a sweep (docs/scale.md shows one)")
    given = read_yaml(file.read_text(encoding="utf-8", errors="replace"), str(file))
    there = isinstance(given, dict) and "notebook" in given
    need(there, " names no notebook: it needs at least `notebook:` and a `grid:` or a `list:`")
    for key in given:
        need(key in KEYS, f" has an unknown key {key!r}: there are {', '.join(KEYS)}")
    sweeps = given.get("grid") or "list" in given
    need(sweeps, " sweeps over nothing: give a `grid:` (name: [values]) or a `list:` of parameter sets")
    given = {"profile": "smoke", "name": file.stem, "table": "rounds", "workers": 1, "list": [{}]} | given
    common, grid = given.get("parameters") or {}, given.get("grid") or {}
    for key, value in {"parameters": common, "grid": grid}.items():
        need(isinstance(value, dict), f": {key} is {value!r}; it must map parameter names to values")
    for name, values in grid.items():
        right = isinstance(values, list) and values
        need(right, f": grid: {name} is {values!r}; it must be a list of at least one value")
    listed, workers = given["list"], given["workers"]
    need(isinstance(listed, list) and listed, f": list is {listed!r}; it must be a list of at least one parameter set")
    for one in listed:
        need(isinstance(one, dict), f": an entry of list is {one!r}; it must map parameter names to values")
    need(fits(workers, int) and workers > 0, f": workers = {workers!r} is not possible: it must be 1 or more")
    for key in ("name", "table"):  # a folder's name, and a file's
        right = f"{key} = {given[key]!r} is not possible: it must be letters, digits and any of _ . - + = ,"
        need(re.fullmatch(r"[\w+=,-][\w+=,. -]*", str(given[key])), f": {right}")
    chosen = choose([str(given["notebook"]).zfill(2)], root)
    names = ", ".join(path.stem for path in chosen)
    need(len(chosen) == 1, f": notebook {given['notebook']!r} fits {names}; name one")

    profile, folder, found = str(given["profile"]), root / "runs" / "sweeps" / str(given["name"]), {}
    cells = runs.read_json(chosen[0])["cells"]
    code = runs.digest(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"])
    for one, values in itertools.product(listed, itertools.product(*grid.values())):
        swept = one | dict(zip(grid, values, strict=True))
        job = resolve(chosen[0], profile, common | swept, str(file))
        plain = json.loads(json.dumps({k: v for k, v in job.parameters.items() if k != "profile"}))
        identity = {"notebook": chosen[0].stem, "code": code, "profile": profile, "parameters": plain}
        here = folder / runs.digest(identity)[:10]
        found[here.name] = Run(job, swept, identity, here)
    return Sweep(folder.name, tuple(found.values()), str(given["table"]), workers, folder, root)


def read_shard(text: str | None) -> tuple[int, int] | None:
    """ "0/3" as (0, 3); None for None. Raises ValueError for anything else."""
    if text is None:
        return None
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise ValueError(f"--shard {text} is not possible: it must be I/N with I from 0 to N - 1, such as 0/3")
    return int(i), int(n)


# --- running ----------------------------------------------------------------------------------------------------------


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
) -> dict[str, Any]:
    """Execute what is missing (and what failed, unless ``retry_failed`` is False), then gather. ``workers``: processes; on Ray
    (``ray``: the cluster's address) None means all its CPUs. ``shard`` (i, n): only runs i, i + n, i + 2n ..., for n jobs that
    share a file system. Returns name, total, ids of reused and computed runs, failed (id to how it ended), table, rows and
    seconds. Raises RuntimeError where another process runs this sweep, or this shard of it."""
    start, (i, n) = time.perf_counter(), shard or (0, 1)
    with runs.locked(sweep.folder / f"shard-{i}-of-{n}" if shard else sweep.folder):
        _alone(sweep, shard)
        before = {one.id: (one.record() or {}).get("state") for one in sweep.runs}
        todo = [one for one in sweep.runs[i::n] if before[one.id] in (None, "failed" if retry_failed else None)]
        say(f"{sweep.name}: {len(sweep.runs)} runs, {len(sweep.runs) - len(todo)} there, {len(todo)} to execute")
        left = todo
        with _cluster(ray, workers, gpus) if ray and todo else _processes(workers or sweep.workers) as place:
            while left:  # runs that share a loop with another run: the second comes again, and finds it done
                ended = _execute(left, place, sweep.root, timeout, say)
                held = [one for one, record in ended if runs.BUSY in (record["failure"] or {"error": ""})["error"]]
                left = held if len(held) < len(left) else []
        records = {one.id: record for one in sweep.runs if (record := one.record())}
        table, path = gather(sweep, records), sweep.folder / "results.parquet"
        if table is not None:
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            runs.write_bytes(path, buffer.getvalue())
    commits = Counter(record["commit"] for record in records.values())
    if len(commits) > 1:
        say(f"made at several commits: {', '.join(f'{count} at {commit}' for commit, count in commits.items())}")
    executed, done = {one.id for one in todo}, [i for i, record in records.items() if record["state"] == "done"]
    return {
        "name": sweep.name,
        "total": len(sweep.runs),
        "reused": [i for i in done if i not in executed],
        "computed": [i for i in done if i in executed],
        "failed": {i: record for i, record in records.items() if record["state"] == "failed"},
        "table": None if table is None else str(path.relative_to(sweep.root)),
        "rows": 0 if table is None else len(table),
        "seconds": round(time.perf_counter() - start, 2),
    }


def _alone(sweep: Sweep, shard: tuple[int, int] | None) -> None:
    """A shard runs beside the other shards of the same division, a whole sweep beside none."""
    others = {sweep.folder, *sweep.folder.glob("shard-*")}
    ours = {sweep.folder} if shard is None else set(sweep.folder.glob(f"shard-*-of-{shard[1]}"))
    for folder in sorted(others - ours):
        if runs.held(folder):
            raise RuntimeError(f"{runs.BUSY} {folder}; wait for it or stop it, then start again")


class Place(NamedTuple):
    """Where runs execute: how many at once and on how many threads each, how one is started in a slot, how a slot is dropped
    that was lost, and which exception tells so."""

    slots: int
    threads: int
    start: Callable[..., Future]
    drop: Callable[[int], None]
    lost: type[Exception]


@contextlib.contextmanager
def _processes(workers: int) -> Iterator[Place]:
    """Each slot has a pool of one process: when it is killed, no other run is lost with it."""
    from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

    pools: dict[int, ProcessPoolExecutor] = {}

    def start(slot: int, *given: Any) -> Future:
        if slot not in pools:
            pools[slot] = ProcessPoolExecutor(1, initializer=runs.end_with_parent, initargs=(os.getpid(),))
        return pools[slot].submit(one_run, *given)

    def drop(slot: int) -> None:
        pools.pop(slot).shutdown(kill_workers=True)

    try:
        yield Place(workers, max(1, (os.cpu_count() or 1) // workers), start, drop, BrokenProcessPool)
    finally:
        for slot in list(pools):
            drop(slot)


@contextlib.contextmanager
def _cluster(address: str, workers: int | None, gpus: float) -> Iterator[Place]:
    """A Ray cluster. Another process tries the address first: a wrong one hangs, or aborts who asks."""
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
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(one_run)
    slots = workers or int(ray.cluster_resources().get("CPU", 1))
    start = lambda slot, *given: task.remote(*given).future()  # noqa: E731
    yield Place(slots, 1, start, lambda slot: None, ray.exceptions.RayError)


def _execute(
    todo: Sequence[Run], place: Place, root: Path, timeout: int | None, say: Callable[[str], None]
) -> Iterator[tuple[Run, dict]]:
    """Runs with their records as they end. A lost worker (killed, its node gone) costs its run a try of three."""
    waiting, free, busy, tries, ended = deque(todo), list(range(place.slots)), {}, Counter(), 0
    while waiting or busy:
        while waiting and free:
            one, slot = waiting.popleft(), free.pop()
            busy[place.start(slot, one, root, place.threads, timeout)] = one, slot
            tries[one.id] += 1
        for future in wait(busy, return_when=FIRST_COMPLETED).done:
            one, slot = busy.pop(future)
            free.append(slot)
            lost = isinstance(future.exception(), place.lost)
            if lost:
                place.drop(slot)
            if lost and tries[one.id] < TRIES:
                say(f"a worker was lost; once more: {one.title()}")
                waiting.append(one)
                continue
            killed = {**_failed(f"its worker process was killed {TRIES} times"), "seconds": 0.0}
            record = one.ended(killed) if lost else future.result()
            ended += 1
            say(f"[{ended}/{len(todo)}] {record['state']} {record['seconds']:.1f} s  {one.title()}")
            yield one, record


def one_run(one: Run, root: Path, threads: int, timeout: int | None = None) -> dict:
    """Execute one run and write how it ended to its run.json. Never raises for what happens in the notebook."""
    start = time.perf_counter()
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    try:
        with patch.dict(os.environ, limits):
            outcome = asdict(execute(one.job, root, folder=one.folder, timeout=timeout))
    except Exception as error:  # a full disk, a missing kernel: reported like a failed cell, the others go on
        outcome = _failed(f"{type(error).__name__}: {error}")
    return one.ended(outcome | {"seconds": round(time.perf_counter() - start, 2)})


def _failed(error: str) -> dict:
    return {"state": "failed", "failure": {"cell": None, "source": "", "error": error, "traceback": ""}}


# --- gathering --------------------------------------------------------------------------------------------------------


def gather(sweep: Sweep, records: dict[str, dict]) -> pd.DataFrame | None:
    """The table of every finished run, one below the other: run, profile, the swept parameters (lists and mappings as JSON;
    param_<name> where the table has a column of that name), then its own columns. None where there is none. A finished run
    that left no such table is a failed one in ``records``."""
    import pandas as pd

    parts = []
    for one in (one for one in sweep.runs if records.get(one.id, {}).get("state") == "done"):
        path = one.folder / "tables" / one.job.notebook.stem / f"{sweep.table}.csv"
        if not path.exists():
            there = ", ".join(sorted(other.stem for other in path.parent.glob("*.csv"))) or "none; it must save_tables"
            said = f"{one.job.notebook.name} left no table {sweep.table!r} behind: there are {there}"
            records[one.id] |= _failed(said)
            continue
        table = read_table(path)
        own = [column for column in table.columns if column not in ("run", "profile")]
        named = {f"param_{n}" if n in table.columns else n: v for n, v in one.swept.items()}
        named = {n: json.dumps(v) if isinstance(v, list | dict) else v for n, v in named.items()}
        parts.append(table.assign(run=one.id, profile=one.job.profile, **named)[["run", "profile", *named, *own]])
    return pd.concat(parts, ignore_index=True).apply(_one_type) if parts else None


def _one_type(column: pd.Series) -> pd.Series:
    """Parquet takes one type a column: values of several (a number here, a name there) become text."""
    kinds = {type(value) for value in column.dropna()} if column.dtype == object else set()
    return column.map(str, na_action="ignore") if len(kinds) > 1 else column
