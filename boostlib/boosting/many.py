"""Many loops: arms times seeds, on one or several processes, gathered into one table.

Not covered: grids over notebooks (sweep), sampling on several machines (learners.sharded).
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boostlib import runs
from boostlib.boosting.loop import Loop
from boostlib.boosting.settings import Settings, arms_of, settings_of
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
PLACE = ("threads", "cache", "ray")  # options of a learner that say where it computes, not what
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
    tokens_sampled, tokens_trained, seconds, and where its artefacts are: folder, base (see `read`). Raises ValueError for a bad setting, before anything is computed.
    """
    import pandas as pd

    if not task.problems or not test.problems:
        raise ValueError(f"{(test if task.problems else task).name}: no problems to work on; load a task with n >= 1")
    if rounds < 0 or not seeds:
        raise ValueError(f"rounds = {rounds} and seeds = {list(seeds)}: give 0 or more rounds and at least one seed")
    chosen = {arm: settings_of(arm, overrides, settings) for arm, overrides in arms_of(arms).items()}
    root = Path(folder) if folder is not None else runs.project_root() / "runs"
    options = {"cache": root / "models"} | dict(learner_options or {})
    ready = _ready(learner, options)
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
        return Loop(
            task=task,
            test=test,
            learner=ready if workers == 1 else learner,
            settings=s,
            seed=int(seed),
            rounds=rounds,
            folder=here / f"seed-{seed}",
            base=base,
            keep_models=keep_models,
            show=show and workers == 1,
        )

    loops = {(arm, seed): loop(arm, s, seed) for seed in seeds for arm, s in chosen.items()}
    if runs.context().get("fresh"):
        _start_anew(loops)
    with _counted(loops):
        tables = _one_by_one(loops, show) if workers == 1 else _side_by_side(loops, workers, options, show)
    where = {unit: {"folder": str(one.folder), "base": str(one.base)} for unit, one in loops.items()}
    table = pd.DataFrame([{"arm": unit[0], **row, **where[unit]} for unit, rows in tables.items() for row in rows])
    table = table.reindex(columns=COLUMNS)
    _same_steps(table, chosen)
    return table


def read(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """An artefact of every row of the table, one below the other, with arm, seed and round before its own columns.

    ``name``: test (id, response, tokens, finished, status), samples (id, and lists of k), verdicts, labels or
    examples. Rounds without it (the last has no labels) are left out.
    """
    import pandas as pd

    parts = []
    for row in table.itertuples():
        shared = Path(row.base) / {"test": "", "samples": f"seed-{row.seed}"}.get(name, "-")
        for folder in (Path(row.folder) / f"round-{row.round}", *([shared] if row.round == 0 else [])):
            if (folder / f"{name}.jsonl").exists():
                part = pd.DataFrame(runs.read_rows(folder / f"{name}.jsonl"))
                parts.append(part.assign(arm=row.arm, seed=row.seed, round=row.round))
    if not parts:
        raise ValueError(f"no round of this table has {name}.jsonl: give test, samples, verdicts, labels or examples")
    every = pd.concat(parts, ignore_index=True)
    first = ["arm", "seed", "round"]
    return every[first + [c for c in every.columns if c not in first]]


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


def _side_by_side(loops: dict[tuple, Loop], workers: int, options: dict, show: bool) -> dict[tuple, list[dict]]:
    """Loops on worker processes, one thread each by default: two torch processes that share cores slow each other down.

    What several arms share (f_0 on the test problems, f_0's samples of a seed) is computed first, each part once.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    threads = options.pop("threads", None) or 1
    options = options | {"threads": threads}
    variables = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    pool = ProcessPoolExecutor(workers, env=variables | {"TOKENIZERS_PARALLELISM": "false"}, timeout=None)
    first = {one.base / "test.jsonl": (one, "test") for one in loops.values()}
    first |= {one.base / f"seed-{one.seed}" / "samples.jsonl": (one, "samples") for one in loops.values()}
    rounds = sum(one.rounds + 1 for one in loops.values())
    try:
        with bar(desc="boosting", total=rounds, unit="round", disable=not show) as progress:
            shared = [
                pool.submit(_shared, one, what, options) for path, (one, what) in first.items() if not path.exists()
            ]
            _finish(shared, loops, progress)
            work = {unit: pool.submit(_whole, one, options) for unit, one in loops.items()}
            _finish(list(work.values()), loops, progress)
            return {unit: future.result() for unit, future in work.items()}
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _finish(futures: list, loops: dict[tuple, Loop], progress) -> None:
    """Wait, showing the rounds that are on disk; the first failure ends the whole."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=2, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        there = sum((one.at(t) / name).exists() for one in loops.values() for t, name in _marks(one))
        progress.update(there - progress.n)


def _marks(one: Loop) -> list[tuple[int, str]]:
    return [(t, "final.json" if t == one.rounds else "round.json") for t in range(one.rounds + 1)]


@contextlib.contextmanager
def _counted(loops: dict[tuple, Loop]) -> Iterator[None]:
    """How much was there and how much was computed, one JSON line in the file that the runner names (for its summary)."""

    def there() -> dict[tuple, int]:
        return {unit: sum((one.at(t) / name).exists() for t, name in _marks(one)) for unit, one in loops.items()}

    before = there()
    try:
        yield
    finally:
        if note := runs.context().get("counts"):
            reused, after = sum(before.values()), sum(there().values())
            whole = sum(before[unit] == one.rounds + 1 for unit, one in loops.items())
            counts = {"loops": len(loops), "loops_reused": whole, "rounds_reused": reused}
            with open(note, "a") as file:
                file.write(json.dumps(counts | {"rounds_computed": after - reused}) + "\n")


_begun: set[Path] = set()


def _start_anew(loops: dict[tuple, Loop]) -> None:
    """`boostlib run --fresh`: drop what earlier executions left of these loops, once a process."""
    for one in loops.values():
        shared = (one.base / "test.jsonl", one.base / f"seed-{one.seed}" / "samples.jsonl")
        if one.folder not in _begun:
            with runs.locked(one.folder):
                for part in one.folder.glob("round-*"):
                    shutil.rmtree(part)
                (one.folder / "times.jsonl").unlink(missing_ok=True)
        for path in {*shared} - _begun:
            path.unlink(missing_ok=True)
        _begun.update({one.folder, *shared})


_learners: dict[str, Learner] = {}  # a worker reads a learner once


def _with_learner(one: Loop, options: dict) -> Loop:
    if isinstance(one.learner, str):
        if one.learner not in _learners:
            _learners[one.learner] = _ready(one.learner, options)
        one.learner = _learners[one.learner]
    return one


def _shared(one: Loop, what: str, options: dict) -> None:
    one = _with_learner(one, options)
    one.folder.mkdir(parents=True, exist_ok=True)
    one.evaluate(0) if what == "test" else one.sample(0)


def _whole(one: Loop, options: dict) -> list[dict]:
    return _with_learner(one, options).run()


def _same_steps(table: pd.DataFrame, chosen: Mapping[str, Settings]) -> None:
    """A comparison is of equal effort: asserted, not assumed. Rounds without any example (0 steps) are in the table."""
    for arm, s in chosen.items():
        steps = set(table.loc[table.arm == arm, "steps"].dropna()) - {0}
        assert steps <= {s.steps}, f"{arm}: steps {steps} differ from {s.steps}"
