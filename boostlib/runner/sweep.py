"""Sweeps: a grid or a list of parameter sets over a notebook, on worker processes or a Ray cluster, into one table.

Every run has a folder, runs/sweeps/<name>/<id>/: the executed notebook, its tables, and run.json, which is written last and says
how it ended. What ended well under the same notebook and parameters is not executed again. Not covered: what a notebook computes.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boostlib import runs
from boostlib.runner import batch
from boostlib.runner import execute as notebooks

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("notebook", "profile", "name", "table", "workers", "parameters", "grid", "list")


@dataclass(frozen=True)
class Run:
    """One parameter set. ``swept`` is what differs from run to run, ``parameters`` that and what all have in common."""

    notebook: Path
    profile: str
    parameters: dict[str, Any]
    swept: dict[str, Any]
    identity: dict[str, Any]
    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    def title(self) -> str:
        return " ".join(f"{name}={json.dumps(value)}" for name, value in self.swept.items()) or "(no parameter)"

    def record(self) -> dict | None:
        """How it ended, None where it did not. Raises ValueError where its run.json was cut or edited."""
        path = self.folder / "run.json"
        if not path.exists():
            return None
        found = runs.read_json(path)
        if found.get("identity") != self.identity or found.get("hash") != runs.digest(self.identity):
            raise ValueError(f"{path} does not fit its folder: it was edited; delete that folder and start again")
        return found


@dataclass(frozen=True)
class Sweep:
    """A sweep as read from its file; see docs/scale.md for the file."""

    name: str
    runs: tuple[Run, ...]
    table: str
    workers: int
    folder: Path
    root: Path = field(repr=False)


def read(file: str | Path, root: Path | None = None) -> Sweep:
    """A sweep from its YAML file, with every parameter of every run checked. Raises ValueError naming file and parameter."""
    file, root = Path(file), root or runs.project_root()
    if not file.is_file():
        raise ValueError(f"{file} is not there: give the YAML file of a sweep (docs/scale.md shows one)")
    given = notebooks.read_yaml(file.read_text(encoding="utf-8"), str(file))
    if not isinstance(given, Mapping) or "notebook" not in given:
        raise ValueError(f"{file} names no notebook: it needs at least `notebook:` and a `grid:` or a `list:`")
    for key in given:
        if key not in KEYS:
            raise ValueError(f"{file} has an unknown key {key!r}: there are {', '.join(KEYS)}")
    chosen = notebooks.choose([str(given["notebook"]).zfill(2)], root)
    if len(chosen) != 1:
        raise ValueError(f"{file}: notebook {given['notebook']!r} fits {', '.join(p.stem for p in chosen)}; name one")
    notebook, profile = chosen[0], str(given.get("profile", "smoke"))
    name, workers = str(given.get("name", file.stem)), given.get("workers", 1)
    if not isinstance(workers, int) or workers < 1:
        raise ValueError(f"{file}: workers = {workers!r} is not possible: it must be a whole number of at least 1")
    common = _mapping(given.get("parameters"), file, "parameters")
    base = notebooks.profile_parameters(profile, notebook)
    code = _code(notebook)
    found: dict[str, Run] = {}
    for swept in _sets(given, file):
        parameters = common | swept
        everything = notebooks.check_parameters(notebook, base | parameters, f"{file}, profile {profile}")
        identity = {"notebook": notebook.stem, "code": code, "profile": profile, "parameters": everything}
        identity = json.loads(json.dumps(identity))
        folder = root / "runs" / "sweeps" / name / runs.digest(identity)[:10]
        found[folder.name] = Run(notebook, profile, parameters, swept, identity, folder)
    return Sweep(name, tuple(found.values()), str(given.get("table", "rounds")), workers, folder.parent, root)


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


def _code(notebook: Path) -> str:
    """Hash of the notebook's code, so that another notebook is another run."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return runs.digest(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"])


def read_shard(text: str | None) -> tuple[int, int] | None:
    """ "0/3" as (0, 3); None for None. Raises ValueError for anything else."""
    if text is None:
        return None
    i, _, n = text.partition("/")
    if not (i.isdigit() and n.isdigit() and int(i) < int(n)):
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
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Execute what is missing (and what failed, unless ``retry_failed`` is False), then gather. ``workers``: processes; on Ray
    (``ray``: the cluster's address) None means all its CPUs. ``shard`` (i, n): only runs i, i + n, i + 2n ..., for n jobs that
    share a file system. Raises RuntimeError where another process runs this sweep, or this shard of it."""
    start = time.perf_counter()
    i, n = shard or (0, 1)
    with runs.locked(sweep.folder / f"shard-{i}-of-{n}" if shard else sweep.folder):
        _alone(sweep, shard)
        before = {one.id: one.record() for one in sweep.runs}
        again = (None, "failed") if retry_failed else (None,)
        todo = [one for one in sweep.runs[i::n] if (before[one.id] or {}).get("state") in again]
        say(f"{sweep.name}: {len(sweep.runs)} runs, {len(sweep.runs) - len(todo)} there, {len(todo)} to execute")
        left = todo
        while left:
            busy = []  # runs that share a loop with another run: the second comes again, and finds it done
            for done, (one, record) in enumerate(
                _execute(left, workers or sweep.workers, workers, ray, gpus, sweep), 1
            ):
                say(f"[{done}/{len(left)}] {record['state']} {record['seconds']:.1f} s  {one.title()}")
                if runs.BUSY in (record["failure"] or {"error": ""})["error"]:
                    busy.append(one)
            left = busy if len(busy) < len(left) else []
        records = {one.id: one.record() for one in sweep.runs}
        failed = {i: r for i, r in records.items() if r and r["state"] == "failed"}
        table, rows = gather(sweep), 0
        path = sweep.folder / "results.parquet"
        if table is not None:
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            runs.write_bytes(path, buffer.getvalue())
            rows = len(table)
        states = [
            {"id": one.id, "swept": one.swept, "state": (records[one.id] or {"state": "missing"})["state"]}
            for one in sweep.runs
        ]
        runs.write_json(sweep.folder / "sweep.json", {"name": sweep.name, "runs": states})
    executed = {one.id for one in todo}
    where = str(path.relative_to(sweep.root)) if table is not None else None
    ended = [i for i, record in records.items() if record and i not in failed]
    reused, computed = tuple(i for i in ended if i not in executed), tuple(i for i in ended if i in executed)
    return Report(
        sweep.name, len(records), reused, computed, failed, where, rows, round(time.perf_counter() - start, 2)
    )


def _alone(sweep: Sweep, shard: tuple[int, int] | None) -> None:
    """A shard runs beside the other shards of the same division, a whole sweep beside none."""
    others = [sweep.folder, *sweep.folder.glob("shard-*")]
    mine = [] if shard is None else sweep.folder.glob(f"shard-*-of-{shard[1]}")
    ours = {sweep.folder} if shard is None else {*mine}
    for folder in others:
        if folder not in ours and runs.held(folder):
            raise RuntimeError(f"{runs.BUSY} {folder}; wait for it or stop it, then start again")


def one_run(one: Run, root: Path, threads: int) -> dict:
    """Execute one run and write how it ended to its run.json. Never raises for what happens in the notebook."""
    start = time.perf_counter()
    variables = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    place = {"target": one.folder / one.notebook.name, "tables": one.folder / "tables", "quiet": True}
    try:
        with notebooks.kernel_environment(variables):
            outcome = batch.execute(one.notebook, one.profile, one.parameters, root, **place).plain()
    except Exception as error:  # a full disk, a missing kernel: reported like a failed cell, the others go on
        failure = {"cell": None, "source": "", "error": f"{type(error).__name__}: {error}", "traceback": ""}
        outcome = {"state": "failed", "failure": failure}
    command = notebooks.command_of(one.notebook, one.profile, one.parameters)
    record = outcome | {"swept": one.swept, "command": command, "seconds": round(time.perf_counter() - start, 2)}
    record |= {"identity": one.identity, "hash": runs.digest(one.identity)}
    runs.write_json(one.folder / "run.json", record)
    return record


def _execute(
    todo: Sequence[Run], local: int, workers: int | None, ray: str | None, gpus: float, sweep: Sweep
) -> Iterator[tuple[Run, dict]]:
    """Runs with their records as they end. A lost worker (killed, its node gone) costs its runs one more try."""
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    if not todo:
        return
    began, left = {one.id: _stamp(one) for one in todo}, list(todo)
    lost: tuple[type[Exception], ...] = (TerminatedWorkerError,)
    config: dict[str, Any] = {"backend": "loky", "n_jobs": local}
    threads = max(1, (os.cpu_count() or 1) // local)
    if ray is not None:
        lost = (*lost, _join_ray(ray))
        config = {"backend": "ray", "n_jobs": workers or -1, "ray_remote_args": {"num_cpus": 1, "num_gpus": gpus}}
        threads = 1
    for attempt in range(3):
        try:
            with joblib.parallel_config(**config):
                work = (joblib.delayed(_numbered)(i, one, sweep.root, threads) for i, one in enumerate(left))
                kind = "list" if ray is not None else "generator_unordered"  # Ray's backend has no generator
                for i, record in joblib.Parallel(return_as=kind, batch_size=1)(work):
                    yield left[i], record
            return
        except lost:
            left = [one for one in left if _stamp(one) == began[one.id]]
            print(f"a worker was lost; {len(left)} runs left, attempt {attempt + 2} of 3", file=sys.stderr)
    for one in left:
        failure = {"cell": None, "source": "", "error": "its worker process was killed three times", "traceback": ""}
        record = {"state": "failed", "failure": failure, "swept": one.swept, "seconds": 0.0, "identity": one.identity}
        runs.write_json(one.folder / "run.json", record | {"hash": runs.digest(one.identity)})
        yield one, record


def _numbered(i: int, one: Run, root: Path, threads: int) -> tuple[int, dict]:
    return i, one_run(one, root, threads)


def _stamp(one: Run) -> tuple[int, int] | None:
    """Tells one writing of run.json from the next; no clock in it."""
    path = one.folder / "run.json"
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def _join_ray(address: str) -> type[Exception]:
    """Connect joblib to a Ray cluster; returns the exception of a lost node."""
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise ValueError("--ray needs Ray, which is not installed here: pip install 'boostlib[ray]'") from error
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = (str(error).splitlines() or ["no answer"])[0]
        raise ValueError(
            f"--ray {address}: no Ray cluster answers there ({first}); start one: ray start --head"
        ) from None
    register_ray()
    return ray.exceptions.RayError


# --- gathering --------------------------------------------------------------------------------------------------------


def gather(sweep: Sweep) -> pd.DataFrame | None:
    """The table of every finished run, one below the other: run, profile, the swept parameters (lists and mappings as JSON;
    param_<name> where the table has a column of that name), then its own columns. None where nothing is finished."""
    import pandas as pd

    parts = []
    for one in sweep.runs:
        record = one.record()
        if record and record["state"] == "done":
            table = pd.read_csv(_table(one, sweep.table))
            plain = {n: json.dumps(v) if isinstance(v, list | dict) else v for n, v in one.swept.items()}
            named = {f"param_{n}" if n in table.columns else n: v for n, v in plain.items()}
            parts.append(table.assign(run=one.id, profile=one.profile, **named))
            parts[-1] = parts[-1][
                ["run", "profile", *named, *[c for c in table.columns if c not in ("run", "profile")]]
            ]
    return pd.concat(parts, ignore_index=True) if parts else None


def _table(one: Run, name: str) -> Path:
    folder = one.folder / "tables" / one.notebook.stem
    path = folder / f"{name}.csv"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.csv"))) or "none; it must call notebooks.save_tables"
        raise ValueError(
            f"{one.notebook.name} leaves no table {name!r} behind: there are {there}; name one as `table:`"
        )
    return path
