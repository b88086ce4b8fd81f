"""Sweeps: a grid or a list of parameter sets over a notebook, on worker processes or a Ray cluster, into one table.

Every run has a folder, runs/sweeps/<name>/<id>/: the executed notebook, its tables, and run.json, which is written last and says
how it ended. What ended well under the same notebook and parameters is not executed again. Not covered: what a notebook computes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, Field, PositiveInt, ValidationError

from boostlib import runs
from boostlib.runner.execute import execute
from boostlib.runner.parameters import Job, choose, read_yaml, resolve, written

if TYPE_CHECKING:
    import pandas as pd

VERSION = metadata.version("boostlib")
TRIES = 3  # of runs whose worker process or node is lost
Name = Annotated[str, Field(pattern=r"^[\w+=,-][\w+=,. -]*$")]  # of a folder or a file
Shard = tuple[int, int] | None  # (i, n): the i-th of n parts
Some = Annotated[list[Any], Field(min_length=1)]


class Spec(BaseModel, extra="forbid", strict=True):
    """The file of a sweep; docs/scale.md explains the keys."""

    notebook: str | int
    profile: str = "smoke"
    name: Name
    table: Name = "rounds"
    workers: PositiveInt = 1
    parameters: dict[str, Any] = {}
    grid: dict[str, Some] = {}
    sets: Annotated[list[dict[str, Any]], Field(alias="list", min_length=1)] = [{}]


@dataclass(frozen=True)
class Run:
    """One parameter set. ``swept`` is what differs from run to run."""

    id: str
    job: Job
    swept: dict[str, Any]
    identity: dict[str, Any]
    folder: Path

    def record(self) -> dict | None:
        """How it ended, None where it did not. Raises ValueError where its run.json was edited, or is of another version."""
        path, found = self.folder / "run.json", {}
        if not path.exists():
            return None
        with contextlib.suppress(ValueError):  # cut, or its seal broken
            found = runs.read_json(path, sealed=True)
        if found.get("hash") != runs.digest(self.identity):
            raise ValueError(f"{path} does not fit its folder: it was edited; delete that folder and start again")
        if found["version"] != VERSION:
            made = f"{path} was made by boostlib {found['version']}, this is {VERSION}: results may differ"
            raise ValueError(f"{made}; give the sweep another `name:`, or delete {self.folder.parent}")
        return found

    def ended(self, outcome: Mapping[str, Any]) -> dict:
        """Write run.json, and return it."""
        record = outcome | {"swept": self.swept, "command": self.job.command, "version": VERSION}
        record |= {"commit": runs.git_commit(), "identity": self.identity, "hash": runs.digest(self.identity)}
        runs.write_json(self.folder / "run.json", record)
        return record


class Sweep(NamedTuple):
    """A sweep as read from its file."""

    spec: Spec
    runs: tuple[Run, ...]
    folder: Path
    root: Path


def read(file: str | Path, root: Path | None = None) -> Sweep:
    """A sweep from its YAML file, with every parameter of every run checked. Raises ValueError naming file and parameter."""
    file, root = Path(file), root or runs.project_root()
    if not file.is_file():
        raise ValueError(f"{file} is not there: give the YAML file of a sweep (docs/scale.md shows one)")
    given = read_yaml(file.read_text(encoding="utf-8", errors="replace"), str(file)) or {}
    try:
        spec = Spec.model_validate({"name": file.stem} | given if isinstance(given, dict) else given)
    except ValidationError as error:
        first, keys = error.errors()[0], ", ".join(one.alias or name for name, one in Spec.model_fields.items())
        value = "" if first["type"] == "missing" else f" = {first['input']!r} is not possible"
        at = ": ".join(map(str, [file, *first["loc"]]))
        raise ValueError(f"{at}{value}: {first['msg'].lower()}; a sweep has the keys {keys}") from error
    if not spec.grid and "list" not in given:
        raise ValueError(f"{file} sweeps over nothing: give a `grid:` (name: [values]) or a `list:` of parameter sets")
    chosen = choose([str(spec.notebook).zfill(2)], root)
    if len(chosen) > 1:
        raise ValueError(f"{file}: notebook {spec.notebook!r} fits {len(chosen)} notebooks; name one")
    cells, folder, found = runs.read_json(chosen[0])["cells"], root / "runs" / "sweeps" / spec.name, {}
    code = runs.digest(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"])
    for one, values in itertools.product(spec.sets, itertools.product(*spec.grid.values())):
        swept = one | dict(zip(spec.grid, values, strict=True))
        job = resolve(chosen[0], spec.profile, spec.parameters | swept, str(file))
        plain = json.loads(json.dumps({k: v for k, v in job.parameters.items() if k != "profile"}))
        identity = {"notebook": chosen[0].stem, "code": code, "profile": spec.profile, "parameters": plain}
        i = runs.digest(identity)[:10]
        found[i] = Run(i, job, swept, identity, folder / i)
    return Sweep(spec, tuple(found.values()), folder, root)


def read_shard(text: str | None) -> Shard:
    """Raises ValueError for what is not like "0/3"."""
    found = re.fullmatch(r"(\d+)/(\d+)", text or "0/1")
    if not found or int(found[1]) >= int(found[2]):
        raise ValueError(f"--shard {text} is not possible: it must be I/N with I from 0 to N - 1, such as 0/3")
    return (int(found[1]), int(found[2])) if text else None


def run(
    sweep: Sweep, workers: int | None, shard: Shard, ray: str | None, gpus: float, retry_failed: bool,
    timeout: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Execute what is missing (and what failed, if ``retry_failed``), then gather. ``workers``: processes; on Ray (``ray``: the
    cluster's address) None means all its CPUs. ``shard``: only runs i, i + n ..., for n jobs that share a file system. Returns
    name, total, ids of reused and computed runs, failed (id to how it ended), table, rows and seconds. Raises RuntimeError
    where another process runs this sweep, or this shard of it."""
    start, (i, n) = time.perf_counter(), shard or (0, 1)
    ours = sweep.folder / f"shard-{i}-of-{n}" if shard else sweep.folder
    with runs.locked(ours):
        for one in {sweep.folder, *sweep.folder.glob("shard-*")} - {ours}:  # beside shards of the same division alone
            if runs.held(one) and not (shard and one.name.endswith(f"-of-{n}")):
                raise RuntimeError(f"{runs.BUSY} {one}; wait for it or stop it, then start again")
        wanted = (None, "failed") if retry_failed else (None,)
        todo = [one for one in sweep.runs[i::n] if (one.record() or {}).get("state") in wanted]
        print(f"{sweep.folder.name}: {len(sweep.runs)} runs, {len(todo)} to execute")
        slots, given = workers or sweep.spec.workers, (sweep.root, timeout)
        _execute(todo, lambda left: _on_ray(left, workers, ray, gpus, *given) if ray else _here(left, slots, *given))
        records = {one.id: record for one in sweep.runs if (record := one.record())}
        table, path = gather(sweep, records), sweep.folder / "results.parquet"
        if table is not None:
            runs.write_bytes(path, table.to_parquet(index=False))
    commits = Counter(record["commit"] for record in records.values()).items()
    if len(commits) > 1:
        print(f"made at several commits: {', '.join(f'{count} at {commit}' for commit, count in commits)}")
    executed, done = {one.id for one in todo}, [i for i, record in records.items() if record["state"] == "done"]
    return {
        "name": sweep.folder.name,
        "total": len(sweep.runs),
        "reused": [i for i in done if i not in executed],
        "computed": [i for i in done if i in executed],
        "failed": {i: record for i, record in records.items() if record["state"] == "failed"},
        "table": None if table is None else str(path.relative_to(sweep.root)),
        "rows": 0 if table is None else len(table),
        "seconds": round(time.perf_counter() - start, 2),
    }


def _execute(left: Sequence[Run], place: Callable[[Sequence[Run]], Iterator[dict]]) -> None:
    """Every run until it has ended: again, whose worker was lost, and who found a loop held by another run."""
    for one in left:
        (one.folder / "run.json").unlink(missing_ok=True)
    tries = 0
    while left and tries < TRIES:
        with contextlib.suppress(BrokenProcessPool):
            for k, record in enumerate(place(left), 1):
                swept = " ".join(f"{name}={written(value)}" for name, value in record["swept"].items())
                print(f"[{k}/{len(left)}] {record['state']} {record['seconds']:.1f} s  {swept}")
        again = [one for one in left if not (record := one.record()) or runs.BUSY in str(record["failure"])]
        left, tries = again, 0 if len(again) < len(left) else tries + 1
    for one in left:
        one.record() or one.ended(_failed("its worker process was killed again and again"))


def _here(left: Sequence[Run], workers: int, *given: Any) -> Iterator[dict]:
    """Records as they end, from processes that share the cores. Raises BrokenProcessPool where one was killed."""
    from joblib import Parallel, delayed

    begin = {"initializer": runs.end_with_parent, "initargs": (os.getpid(),), "batch_size": 1, "pre_dispatch": "all"}
    return Parallel(workers, return_as="generator_unordered", **begin)(delayed(one_run)(one, *given) for one in left)


def _on_ray(left: Sequence[Run], workers: int | None, address: str, gpus: float, *given: Any) -> Iterator[dict]:
    """The same from a cluster, which itself repeats what is lost with its worker or node."""
    from boostlib.learners.cluster import connect

    ray = connect(address)
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=TRIES - 1)(one_run)
    slots, waiting, busy = workers or int(ray.cluster_resources().get("CPU", 1)), list(left), []
    while waiting or busy:
        while waiting and len(busy) < slots:
            busy.append(task.remote(waiting.pop(0), *given))
        done, busy = ray.wait(busy)
        with contextlib.suppress(ray.exceptions.RayError):  # lost as often as it may be
            yield ray.get(done[0])


def one_run(one: Run, root: Path, timeout: int | None = None) -> dict:
    """Execute one run and write how it ended. Never raises for what happens in the notebook."""
    try:
        return one.ended(asdict(execute(one.job, root, folder=one.folder, timeout=timeout)))
    except Exception as error:  # a full disk, a missing kernel: reported like a failed cell, the others go on
        return one.ended(_failed(f"{type(error).__name__}: {error}"))


def _failed(error: str) -> dict:
    return {"state": "failed", "failure": {"cell": None, "source": "", "error": error, "traceback": ""}, "seconds": 0.0}


def gather(sweep: Sweep, records: dict[str, dict]) -> pd.DataFrame | None:
    """The table of every finished run, one below the other: run, profile, the swept parameters (lists and mappings as JSON;
    param_<name> where the table has a column of that name), then its own columns. None where there is none. A finished run
    that left no such table is a failed one in ``records``."""
    import pandas as pd

    parts = []
    for one in (one for one in sweep.runs if records.get(one.id, {}).get("state") == "done"):
        path = one.folder / "tables" / one.job.notebook.stem / f"{sweep.spec.table}.csv"
        if not path.exists():
            there = ", ".join(sorted(other.stem for other in path.parent.glob("*.csv"))) or "none; it must save_tables"
            said = f"{one.job.notebook.name} left no table {path.stem!r} behind: there are {there}"
            records[one.id] |= _failed(said)
            continue
        table = runs.read_table(path).drop(columns=["run", "profile"], errors="ignore")
        named = {f"param_{n}" if n in table else n: v for n, v in one.swept.items()}
        named = {n: json.dumps(v) if isinstance(v, list | dict) else v for n, v in named.items()}
        parts.append(pd.DataFrame({"run": one.id, "profile": one.job.profile, **named}, table.index).join(table))
    return pd.concat(parts, ignore_index=True).apply(_one_type) if parts else None


def _one_type(column: pd.Series) -> pd.Series:
    """Parquet takes one type a column: values of several (a number here, a name there) become text."""
    kinds = {type(value) for value in column.dropna()} if column.dtype == object else set()
    return column.map(str, na_action="ignore") if len(kinds) > 1 else column
