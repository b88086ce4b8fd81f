"""Many loops, arms times seeds: executed in turn or on worker processes, gathered into one table.

Not covered: sampling on several machines (learners.cluster), grids over notebooks (runner.sweep).
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from boostlib import runs
from boostlib.boosting.labelers import corrupted_reference
from boostlib.boosting.loop import TABLES, Loop, table_path
from boostlib.boosting.settings import Settings, arms_of, is_number, need, settings_of
from boostlib.learners import PLACE, Learner
from boostlib.progress import bar
from boostlib.tasks import Task

COLUMNS = (
    "arm seed round test_accuracy n_test train_accuracy train_accuracy_at_k n_train k accepted false_accepts false_rejects "
    "failed errors budget labels labels_right labels_kept labels_kept_right steps examples loss_first loss_last "
    "tokens_sampled tokens_trained seconds folder base"
).split()
SAMPLING = ("k", "temperature", "max_new_tokens", "shots")  # what the samples of f_0 depend on
_learner: Callable[[], Learner]  # of a worker


def boost(
    task: Task, test: Task, learner: Learner | str,
    arms: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("do_nothing", "filter_only", "boosting"),
    seeds: Sequence[int] = (0,), rounds: int = 5, *, folder: str | Path | None = None, workers: int = 1,
    learner_options: Mapping[str, Any] | None = None, keep_models: bool = False, show: bool = True, **settings: Any,
) -> pd.DataFrame:  # fmt: skip
    """Run Algorithm 2 (and its other arms) and return one row per arm, seed and round t = 0..rounds.

    ``task`` gives the training prompts, ``test`` the problems for reporting. ``learner`` is an object or what
    `learners.load.load_learner` takes (a name, a hub id, a folder), read by each worker itself with ``learner_options``.
    ``settings`` are those of `Settings`, common to all arms. Arms, seeds and rounds say how far to go, not what is
    computed: a finished part is reused from ``folder`` (default: runs/ of the project) whenever everything else is equal.
    The table has the COLUMNS: train_accuracy is accuracy@1 over the k samples, accepted \\|S+\\|, failed \\|P-\\|,
    labels_kept \\|D\\|, errors the checks that failed in the checker; folder and base are where its artefacts lie (`read`).
    Raises ValueError for a value that cannot be, before anything is computed.
    """
    chosen = {arm: settings_of(arm, overrides, settings) for arm, overrides in arms_of(arms).items()}
    _check(task, test, seeds, rounds, workers, chosen)
    if learner_options and not isinstance(learner, str | Path):
        raise ValueError("learner_options go with the name or folder of a model; a learner object has its own")
    if any(s.labeler is learner for s in chosen.values()):
        raise ValueError('labeler: the model that is trained is asked by "base" (as it began) or "self" (as it is)')
    root = Path(folder) if folder is not None else runs.project_root() / "runs"
    options = {"cache": root / "models"} | dict(learner_options or {})
    place = {name: value for name, value in options.items() if name in PLACE}
    here = _ready(learner, options)
    for arm, s in chosen.items():
        if s.labeler_is_model:
            chosen[arm] = replace(s, labeler=_ready(s.labeler, place))
    common = {
        "task": task.name,
        "train": task.fingerprint(),
        "test": test.fingerprint(),
        "learner": Path(here.name).name,
    }
    told = {name: value for name, value in options.items() if name not in place}
    common |= {"weights": here.fingerprint(), "options": told}
    home = root / f"{task.name}-{common['learner']}"
    parts = {"task": task, "test": test, "learner": here, "keep_models": keep_models, "show": show and workers == 1}
    folders = {}
    for arm, s in chosen.items():
        base = runs.open_run(home, "base", common | {"sampling": {name: getattr(s, name) for name in SAMPLING}})
        folders[arm] = runs.open_run(home, arm.replace(" ", "_"), common | {"arm": arm, "settings": s.identity()}), base
    loops = [
        Loop(own / f"seed-{seed}", base, int(seed), rounds, arm=arm, settings=chosen[arm], **parts)
        for seed in seeds for arm, (own, base) in folders.items()
    ]  # fmt: skip
    rows = [row for found in _execute(loops, workers, learner, options, show) for row in found]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def read(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """An artefact of every row of the table (test, samples, verdicts, labels or examples), one below the other: a row a
    response, with arm, seed and round before its own columns (`TABLES`). Rounds without it (the last has no labels) are
    left out. Raises ValueError where all are."""
    parts = []
    for row in table.itertuples():
        path = table_path(Path(row.folder), Path(row.base), row.seed, row.round, name)
        if path.exists():
            part = pd.DataFrame(runs.read_rows(path), columns=TABLES[name])
            parts.append(part.assign(arm=row.arm, seed=row.seed, round=row.round))
    if not parts:
        raise ValueError(f"no round of this table has {name}.jsonl: give {', '.join(TABLES)}")
    filled = [part for part in parts if len(part)] or parts  # an empty one has no types
    return pd.concat(filled, ignore_index=True)[["arm", "seed", "round", *TABLES[name]]]


def _check(task: Task, test: Task, seeds: Any, rounds: Any, workers: Any, chosen: Mapping[str, Settings]) -> None:
    """Raises ValueError, in one sentence, for what cannot be."""
    for one in (task, test):
        if not one.problems:
            raise ValueError(f"{one.name}: no problems to work on; load a task with n >= 1")
        if len({p.id for p in one.problems}) < len(one.problems):
            raise ValueError(f"{one.name}: two problems have the same id; give each its own")
        if type(one).grade_one is Task.grade_one and type(one).grade is Task.grade:
            define = f"define {type(one).__name__}.grade_one (or grade)"
            raise ValueError(f"{one.name}: nothing says what is right; {define}")
    listed = hasattr(seeds, "__getitem__") and not isinstance(seeds, str | Mapping) and len(seeds) > 0
    right = "a list of at least one seed, each a whole number of at least 0"
    need("seeds", seeds, listed and all(is_number(seed, 0) for seed in seeds), right)
    need("rounds", rounds, is_number(rounds, 0), "a whole number of at least 0")
    need("workers", workers, is_number(workers, 1), "a whole number of at least 1")
    for s in chosen.values():
        task.prefix(s.shots), test.prefix(s.shots)
        if s.labeler in ("corrupted", "systematic") and s.budget != 0 and s.labels_per_prompt != 0:
            corrupted_reference(task, s.beta)


# --- execution --------------------------------------------------------------------------------------------------------


def _ready(learner: Learner | str | Path, options: Mapping[str, Any]) -> Learner:
    """The learner with the weights that it began with; a name, hub id or folder is read with ``options``."""
    if not isinstance(learner, str | Path):
        learner.load(None)  # an earlier call has trained it in place
        return learner
    from boostlib.learners import cluster, load

    make = cluster.on_ray if options.get("ray") else load.load_learner
    return make(str(learner), **{name: value for name, value in options.items() if name != "ray" or value})


def _execute(loops: list[Loop], workers: int, learner: Learner | str, options: Mapping[str, Any], show: bool) -> list:
    """The rows of every loop; anew where the runner says so. What was there and what was computed goes, as a line of JSON,
    to the file that the runner names for its summary."""
    told = runs.context()
    for one in loops if told.get("fresh") else ():
        for path in (one.folder, *(one.path(0, name) for name in Loop.SHARED)):
            _drop(path)
    before = [one.finished() for one in loops]
    try:
        if workers > 1:
            return _on_workers(loops, workers, learner, options, show)
        return [one.run() for one in bar(iterable=loops, desc="boosting", unit="loop", disable=not show)]
    finally:
        if "counts" in told:
            whole = sum(there == one.rounds + 1 for there, one in zip(before, loops, strict=True))
            counts = {"loops": len(loops), "loops_reused": whole, "rounds_reused": sum(before)}
            counts["rounds_computed"] = sum(one.finished() for one in loops) - sum(before)
            with open(told["counts"], "a") as file:
                file.write(json.dumps(counts) + "\n")


@functools.cache  # once a process: a notebook may go on with what it has computed anew
def _drop(path: Path) -> None:
    """`boostlib run --fresh`: remove a table, or what a loop's folder holds."""
    if path.suffix:
        return path.unlink(missing_ok=True)
    with runs.locked(path):
        for part in path.glob("round-*"):
            shutil.rmtree(part)
        (path / "times.jsonl").unlink(missing_ok=True)


def _on_workers(loops: list[Loop], workers: int, learner: Learner | str, options: Mapping, show: bool) -> list:
    """One thread a worker by default: two torch processes that share cores slow each other down. What several arms share
    (f_0's answers) is computed first, each part once. The first failure ends the whole; raises RuntimeError where a worker
    was killed."""
    from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

    threads = options.get("threads") or 1
    environment = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    begin = {"initializer": _begin, "initargs": (os.getpid(), learner, {**options, "threads": threads})}
    pool = ProcessPoolExecutor(workers, env=environment | {"TOKENIZERS_PARALLELISM": "false"}, timeout=None, **begin)
    loops = [replace(one, learner=None) for one in loops]  # a worker has its own
    shared = {one.path(0, name): (one, step) for one in loops for name, step in Loop.SHARED.items()}
    rounds = sum(one.rounds + 1 for one in loops)
    try:
        with bar(desc="boosting", total=rounds, unit="round", disable=not show) as progress:

            def finish(futures: list[Future]) -> list:
                pending = futures
                while pending:
                    done, pending = wait(futures, timeout=2, return_when=FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                    progress.update(sum(one.finished() for one in loops) - progress.n)
                return [future.result() for future in futures]

            finish([pool.submit(_do, one, step, 0) for path, (one, step) in shared.items() if not path.exists()])
            return finish([pool.submit(_do, one, "run") for one in loops])
    except TerminatedWorkerError as error:
        why = "a worker process was killed, most likely for want of memory; start again with fewer workers or a smaller"
        raise RuntimeError(f"{why} learner, what is finished is kept") from error
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _begin(parent: int, learner: Learner | str, options: Mapping[str, Any]) -> None:
    from tqdm.std import tqdm

    global _learner
    runs.end_with_parent(parent)
    tqdm.set_lock(threading.RLock())  # its own holds a semaphore, which a worker that is killed would leave behind
    _learner = functools.cache(lambda: _ready(learner, options))  # read once, when it is needed


def _do(one: Loop, step: str, *args: int) -> Any:
    one.learner = _learner()
    return getattr(one, step)(*args)
