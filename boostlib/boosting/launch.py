"""Executing loops: one after the other, or side by side on worker processes, which end with this one, however it ends.

Not covered: which loops there are (many), sampling on several machines (learners.cluster).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from boostlib import runs
from boostlib.boosting.loop import Loop
from boostlib.learners import Learner
from boostlib.progress import bar

_learner: Callable[[], Learner]  # of a worker


def ready(learner: Learner | str | Path, options: Mapping[str, Any]) -> Learner:
    """The learner with the weights that it began with; a name, hub id or folder is read with ``options``."""
    if not isinstance(learner, str | Path):
        learner.load(None)  # an earlier call has trained it in place
        return learner
    if options.get("ray"):
        from boostlib.learners.cluster import on_ray

        return on_ray(str(learner), **options)
    from boostlib.learners.lm import load_learner

    return load_learner(str(learner), **{name: value for name, value in options.items() if name != "ray"})


def execute(loops: dict, workers: int, learner: Learner | str, options: Mapping[str, Any], show: bool) -> dict:
    """The rows of every loop, by its key; anew where the runner says so, counted for its summary."""
    if runs.context().get("fresh"):
        _start_anew(loops.values())
    with _counted(loops.values()):
        if workers > 1:
            return _side_by_side(loops, workers, learner, options, show)
        with bar(desc="boosting", total=len(loops), unit="loop", disable=not show) as progress:
            rows = {}
            for key, one in loops.items():
                rows[key] = one.run()
                progress.update()
            return rows


def _side_by_side(loops: dict, workers: int, learner: Learner | str, options: Mapping[str, Any], show: bool) -> dict:
    """The rows of every loop, by its key. One thread a worker by default: two torch processes that share cores slow each
    other down. What several arms share (f_0's answers) is computed first, each part once. The first failure ends the whole;
    raises RuntimeError where a worker was killed."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    threads = options.get("threads") or 1
    variables = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    begin = {"initializer": _begin, "initargs": (os.getpid(), learner, {**options, "threads": threads})}
    pool = ProcessPoolExecutor(workers, env=variables | {"TOKENIZERS_PARALLELISM": "false"}, timeout=None, **begin)
    bare = {key: replace(one, learner=None) for key, one in loops.items()}  # a worker has its own
    shared = {one.path(0, name): (one, step) for one in bare.values() for name, step in Loop.SHARED.items()}
    try:
        rounds = sum(one.rounds + 1 for one in loops.values())
        with bar(desc="boosting", total=rounds, unit="round", disable=not show) as progress:

            def finish(futures: list[Future]) -> list:
                pending = set(futures)
                while pending:
                    done, pending = wait(pending, timeout=2, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
                    progress.update(sum(one.finished() for one in loops.values()) - progress.n)
                return [future.result() for future in futures]

            finish([pool.submit(_do, one, step, 0) for path, (one, step) in shared.items() if not path.exists()])
            return dict(zip(bare, finish([pool.submit(_do, one, "run") for one in bare.values()]), strict=True))
    except TerminatedWorkerError as error:
        raise RuntimeError(
            "a worker process was killed, most likely for want of memory; start again with fewer workers or a smaller "
            "learner, what is finished is kept"
        ) from error
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _begin(parent: int, learner: Learner | str, options: Mapping[str, Any]) -> None:
    from tqdm.std import tqdm

    global _learner
    runs.end_with_parent(parent)
    tqdm.set_lock(threading.RLock())  # its own holds a semaphore, which a worker that is killed would leave behind
    _learner = functools.cache(lambda: ready(learner, options))  # read once, when it is needed


def _do(one: Loop, step: str, *args: int) -> Any:
    one.learner = _learner()
    return getattr(one, step)(*args)


@contextlib.contextmanager
def _counted(loops: Collection[Loop]) -> Iterator[None]:
    """How much was there and how much was computed, one JSON line in the file that the runner names (for its summary)."""
    before = [one.finished() for one in loops]
    try:
        yield
    finally:
        if note := runs.context().get("counts"):
            whole = sum(there == one.rounds + 1 for there, one in zip(before, loops, strict=True))
            counts = {"loops": len(loops), "loops_reused": whole, "rounds_reused": sum(before)}
            counts["rounds_computed"] = sum(one.finished() for one in loops) - sum(before)
            with open(note, "a") as file:
                file.write(json.dumps(counts) + "\n")


_begun: set[Path] = set()


def _start_anew(loops: Collection[Loop]) -> None:
    """`boostlib run --fresh`: drop what earlier executions left of these loops, once a process."""
    for one in loops:
        shared = {one.path(0, name) for name in Loop.SHARED}
        if one.folder not in _begun:
            with runs.locked(one.folder):
                for part in one.folder.glob("round-*"):
                    shutil.rmtree(part)
                (one.folder / "times.jsonl").unlink(missing_ok=True)
        for path in shared - _begun:
            path.unlink(missing_ok=True)
        _begun.update({one.folder, *shared})
