"""Many loops: arms times seeds, on one or several processes, gathered into one table.

Not covered: grids over notebooks (runner.sweep), sampling on several machines (learners.cluster).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boostlib import runs
from boostlib.boosting import labelers
from boostlib.boosting.loop import TABLES, Loop, table_path
from boostlib.boosting.settings import LABELERS, Settings, arms_of, is_number, settings_of
from boostlib.learners import Learner
from boostlib.progress import bar
from boostlib.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "arm seed round test_accuracy n_test train_accuracy train_accuracy_at_k n_train k accepted false_accepts false_rejects "
    "failed errors budget labels labels_right labels_kept labels_kept_right steps examples loss_first loss_last "
    "tokens_sampled tokens_trained seconds folder base"
).split()
PLACE = ("threads", "cache", "ray", "device", "slots", "micro_tokens", "gradient_checkpointing")
# PLACE: options of a learner that say where and how it computes, not what: no part of a run's identity
SAMPLING = ("k", "temperature", "max_new_tokens", "shots")  # what the samples of f_0 depend on


def boost(
    task: Task,
    test: Task,
    learner: Learner | str,
    arms: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("do_nothing", "filter_only", "boosting"),
    seeds: Sequence[int] = (0,),
    rounds: int = 5,
    *,
    folder: str | Path | None = None,
    workers: int = 1,
    learner_options: Mapping[str, Any] | None = None,
    keep_models: bool = False,
    show: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Run Algorithm 2 (and its other arms) and return one row per arm, seed and round t = 0..rounds.

    ``task`` gives the training prompts, ``test`` the problems for reporting. ``learner`` is an object or what
    `learners.lm.load_learner` takes (a name, a hub id, a folder), read by each worker itself with ``learner_options``.
    ``settings`` are those of `Settings`, common to all arms. Arms, seeds and rounds say how far to go, not what is
    computed: a finished part is reused from ``folder`` (default: runs/ of the project) whenever everything else is equal.

    The table's columns: arm, seed, round, test_accuracy, n_test, train_accuracy (accuracy@1 over the k samples),
    train_accuracy_at_k, n_train, k, accepted (\\|S+\\|), false_accepts, false_rejects, failed (\\|P-\\|), errors, budget,
    labels, labels_right, labels_kept (\\|D\\|), labels_kept_right, steps, examples, loss_first, loss_last,
    tokens_sampled, tokens_trained, seconds, and where its artefacts are: folder, base (see `read`). Raises ValueError
    for a value that cannot be, before anything is computed.
    """
    import pandas as pd

    chosen = {arm: settings_of(arm, overrides, settings) for arm, overrides in arms_of(arms).items()}
    _check(task, test, learner, seeds, rounds, workers, learner_options, chosen)
    root = Path(folder) if folder is not None else runs.project_root() / "runs"
    options = {"cache": root / "models"} | dict(learner_options or {})
    ready = _ready(learner, options)
    others = functools.cache(lambda name: _ready(name, {x: y for x, y in options.items() if x in PLACE}))
    for arm, s in chosen.items():
        if hasattr(s.labeler, "sample") or isinstance(s.labeler, str | Path) and s.labeler not in LABELERS:
            chosen[arm] = replace(
                s, labeler=_ready(s.labeler, {}) if hasattr(s.labeler, "sample") else others(s.labeler)
            )
    common = {
        "task": task.name,
        "train": task.fingerprint(),
        "test": test.fingerprint(),
        "learner": Path(ready.name).name,
        "weights": ready.fingerprint(),
        "options": {name: value for name, value in options.items() if name not in PLACE},
    }
    name = f"{task.name}-{Path(ready.name).name}"

    def loop(arm: str, s: Settings, seed: int) -> Loop:
        base = runs.open_run(root / name, "base", common | {"sampling": {x: getattr(s, x) for x in SAMPLING}})
        here = runs.open_run(root / name, arm.replace(" ", "_"), common | {"arm": arm, "settings": s.identity()})
        return Loop(task, test, ready, s, seed, rounds, here / f"seed-{seed}", base, keep_models, show and workers == 1)

    loops = {(arm, int(seed)): loop(arm, s, int(seed)) for seed in seeds for arm, s in chosen.items()}
    if runs.context().get("fresh"):
        _start_anew(loops)
    with _counted(loops):
        tables = _one_by_one(loops, show) if workers == 1 else _side_by_side(loops, workers, learner, options, show)
    where = {unit: {"folder": str(one.folder), "base": str(one.base)} for unit, one in loops.items()}
    table = pd.DataFrame([{"arm": unit[0], **row, **where[unit]} for unit, rows in tables.items() for row in rows])
    table = table.reindex(columns=COLUMNS)
    for (
        arm,
        s,
    ) in chosen.items():  # a comparison is of equal effort; rounds without any example (0 steps) are in the table
        steps = set(table.loc[table.arm == arm, "steps"].dropna()) - {0}
        assert steps <= {s.steps}, f"{arm}: steps {steps} differ from {s.steps}"
    return table


def read(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """An artefact of every row of the table, one below the other: a row a response, with arm, seed and round before its own
    columns (`loop.TABLES`).

    ``name``: test, samples, verdicts, labels or examples. Rounds without it (the last has no labels) are left out.
    """
    import pandas as pd

    parts = []
    for row in table.itertuples():
        path = table_path(Path(row.folder), Path(row.base), row.seed, row.round, name)
        if path.exists():
            part = pd.DataFrame(runs.read_rows(path), columns=TABLES[name])
            parts.append(part.assign(arm=row.arm, seed=row.seed, round=row.round))
    if not parts:
        raise ValueError(f"no round of this table has {name}.jsonl: give {', '.join(TABLES)}")
    return pd.concat(parts, ignore_index=True)[["arm", "seed", "round", *TABLES[name]]]


def _check(task, test, learner, seeds, rounds, workers, learner_options, chosen: Mapping[str, Settings]) -> None:
    """Raises ValueError for what cannot be, in one sentence."""
    for one in (task, test):
        if not one.problems:
            raise ValueError(f"{one.name}: no problems to work on; load a task with n >= 1")
        if len({p.id for p in one.problems}) < len(one.problems):
            raise ValueError(f"{one.name}: two problems have the same id; give each its own")
        if type(one).grade_one is Task.grade_one and type(one).grade is Task.grade:
            raise ValueError(
                f"{one.name}: nothing says what is right; define grade_one (or grade) in {type(one).__name__}"
            )
    whole = not isinstance(seeds, str | set | Mapping) and all(is_number(x, Integral) and x >= 0 for x in seeds)
    if not whole or not len(seeds):
        raise ValueError(f"seeds = {seeds!r}: give a list of at least one seed, each a whole number of at least 0")
    for what, value, least in (("rounds", rounds, 0), ("workers", workers, 1)):
        if not is_number(value, Integral) or value < least:
            raise ValueError(f"{what} = {value!r}: give a whole number of at least {least}")
    if learner_options and not isinstance(learner, str | Path):
        raise ValueError("learner_options go with the name or folder of a model; a learner object has its own")
    for s in chosen.values():
        task.prefix(s.shots), test.prefix(s.shots)
        if s.labeler is learner:
            raise ValueError('labeler: the model that is trained is asked by "base" (as it began) or "self" (as it is)')
        if s.labeler in ("corrupted", "systematic") and s.budget != 0 and s.labels_per_prompt != 0:
            labelers.corrupted_reference(task, s.beta)


def _ready(learner: Learner | str, options: Mapping[str, Any]) -> Learner:
    if not isinstance(learner, str | Path):
        learner.load(None)  # an earlier call has trained it in place
        return learner
    if options.get("ray"):
        from boostlib.learners.cluster import on_ray

        return on_ray(str(learner), **options)
    from boostlib.learners.lm import load_learner

    return load_learner(str(learner), **{name: value for name, value in options.items() if name != "ray"})


def _one_by_one(loops: dict[tuple, Loop], show: bool) -> dict[tuple, list[dict]]:
    tables = {}
    with bar(desc="boosting", total=len(loops), unit="loop", disable=not show) as progress:
        for unit, one in loops.items():
            tables[unit] = one.run()
            progress.update()
    return tables


def _side_by_side(loops: dict[tuple, Loop], workers: int, learner: Learner | str, options: dict, show: bool) -> dict:
    """Loops on worker processes, one thread each by default: two torch processes that share cores slow each other down.

    What several arms share (f_0 on the test problems, f_0's samples of a seed) is computed first, each part once.
    """
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    threads = options.get("threads") or 1
    variables = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    begin = dict(initializer=_begin, initargs=(os.getpid(), learner, options | {"threads": threads}))
    pool = ProcessPoolExecutor(workers, env=variables | {"TOKENIZERS_PARALLELISM": "false"}, timeout=None, **begin)
    bare = {unit: replace(one, learner=None) for unit, one in loops.items()}  # each worker has its own
    first = {
        one.table(0, name): (one, step)
        for one in bare.values()
        for name, step in (("test", "evaluate"), ("samples", "sample"))
    }
    try:
        with bar(
            desc="boosting", total=sum(one.rounds + 1 for one in loops.values()), unit="round", disable=not show
        ) as progress:
            _finish(
                [pool.submit(_work, one, step, 0) for path, (one, step) in first.items() if not path.exists()],
                loops,
                progress,
            )
            work = {unit: pool.submit(_work, one, "run") for unit, one in bare.items()}
            _finish(list(work.values()), loops, progress)
            return {unit: future.result() for unit, future in work.items()}
    except TerminatedWorkerError as error:
        raise RuntimeError(
            "a worker process was killed, most likely for want of memory; start again, with fewer workers or a smaller "
            "learner: what is finished is kept"
        ) from error
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _finish(futures: list, loops: dict[tuple, Loop], progress) -> None:
    """Wait, showing the rounds that are on disk; the first failure ends the whole."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=2, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        progress.update(sum(map(_rounds_of, loops.values())) - progress.n)


def _begin(parent: int, learner: Learner | str, options: dict) -> None:
    """A worker begins: it ends with its parent, and reads the learner once, when it is needed."""
    from tqdm.std import tqdm

    runs.end_with_parent(parent)
    tqdm.set_lock(threading.RLock())  # its own lock is a semaphore, which a worker that is killed would leave behind
    global _learner
    _learner = functools.cache(lambda: _ready(learner, options))


def _work(one: Loop, step: str, *args) -> Any:
    one.learner = _learner()
    return getattr(one, step)(*args)


def _rounds_of(one: Loop) -> int:
    """How many of its rounds are on disk."""
    return sum(
        (one.at(t) / ("final.json" if t == one.rounds else "round.json")).exists() for t in range(one.rounds + 1)
    )


@contextlib.contextmanager
def _counted(loops: dict[tuple, Loop]) -> Iterator[None]:
    """How much was there and how much was computed, one JSON line in the file that the runner names (for its summary)."""
    before = [_rounds_of(one) for one in loops.values()]
    try:
        yield
    finally:
        if note := runs.context().get("counts"):
            whole = sum(there == one.rounds + 1 for there, one in zip(before, loops.values(), strict=True))
            computed = sum(map(_rounds_of, loops.values())) - sum(before)
            counts = {"loops": len(loops), "loops_reused": whole, "rounds_reused": sum(before)}
            with open(note, "a") as file:
                file.write(json.dumps(counts | {"rounds_computed": computed}) + "\n")


_begun: set[Path] = set()


def _start_anew(loops: dict[tuple, Loop]) -> None:
    """`boostlib run --fresh`: drop what earlier executions left of these loops, once a process."""
    for one in loops.values():
        shared = {one.table(0, "test"), one.table(0, "samples")}
        if one.folder not in _begun:
            with runs.locked(one.folder):
                for part in one.folder.glob("round-*"):
                    shutil.rmtree(part)
                (one.folder / "times.jsonl").unlink(missing_ok=True)
        for path in shared - _begun:
            path.unlink(missing_ok=True)
        _begun.update({one.folder, *shared})
