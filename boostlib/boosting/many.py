"""Many loops: arms times seeds, gathered into one table.

Not covered: processes (launch), grids over notebooks (runner.sweep).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from boostlib import runs
from boostlib.boosting.labelers import corrupted_reference
from boostlib.boosting.launch import execute, ready
from boostlib.boosting.loop import Loop
from boostlib.boosting.record import TABLES, table_path
from boostlib.boosting.settings import Settings, arms_of, settings_of, whole
from boostlib.learners import PLACE, Learner
from boostlib.tasks import Task

COLUMNS = (
    "arm seed round test_accuracy n_test train_accuracy train_accuracy_at_k n_train k accepted false_accepts false_rejects "
    "failed errors budget labels labels_right labels_kept labels_kept_right steps examples loss_first loss_last "
    "tokens_sampled tokens_trained seconds folder base"
).split()
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
    `learners.load.load_learner` takes (a name, a hub id, a folder), read by each worker itself with ``learner_options``.
    ``settings`` are those of `Settings`, common to all arms. Arms, seeds and rounds say how far to go, not what is
    computed: a finished part is reused from ``folder`` (default: runs/ of the project) whenever everything else is equal.

    The table's columns: arm, seed, round, test_accuracy, n_test, train_accuracy (accuracy@1 over the k samples),
    train_accuracy_at_k, n_train, k, accepted (\\|S+\\|), false_accepts, false_rejects, failed (\\|P-\\|), errors, budget,
    labels, labels_right, labels_kept (\\|D\\|), labels_kept_right, steps, examples, loss_first, loss_last,
    tokens_sampled, tokens_trained, seconds, and where its artefacts are: folder, base (see `read`). Raises ValueError
    for a value that cannot be, before anything is computed.
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
    here = ready(learner, options)
    for arm, s in chosen.items():
        if s.labeler_is_model:
            chosen[arm] = replace(s, labeler=ready(s.labeler, place))
    common = {
        "task": task.name,
        "train": task.fingerprint(),
        "test": test.fingerprint(),
        "learner": Path(here.name).name,
        "weights": here.fingerprint(),
        "options": {name: value for name, value in options.items() if name not in PLACE},
    }
    home = root / f"{task.name}-{Path(here.name).name}"

    def loop(arm: str, s: Settings, seed: int) -> Loop:
        base = runs.open_run(home, "base", common | {"sampling": {name: getattr(s, name) for name in SAMPLING}})
        own = runs.open_run(home, arm.replace(" ", "_"), common | {"arm": arm, "settings": s.identity()})
        disk = {"seed": seed, "rounds": rounds, "folder": own / f"seed-{seed}", "base": base}
        parts = {"task": task, "test": test, "learner": here, "settings": s}
        return Loop(**disk, **parts, keep_models=keep_models, show=show and workers == 1)

    loops = {(arm, int(seed)): loop(arm, s, int(seed)) for seed in seeds for arm, s in chosen.items()}
    found = execute(loops, workers, learner, options, show)
    where = {key: {"folder": str(one.folder), "base": str(one.base)} for key, one in loops.items()}
    rows = [{"arm": arm, **row, **where[arm, seed]} for (arm, seed), some in found.items() for row in some]
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    for arm, s in chosen.items():  # a comparison is of equal effort; a round without any example takes 0 steps
        steps = set(table.loc[table.arm == arm, "steps"].dropna()) - {0}
        assert steps <= {s.steps}, f"{arm}: steps {steps} differ from {s.steps}"
    return table


def read(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """An artefact of every row of the table, one below the other: a row a response, with arm, seed and round before its own
    columns (`record.TABLES`).

    ``name``: test, samples, verdicts, labels or examples. Rounds without it (the last has no labels) are left out.
    """
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
            raise ValueError(
                f"{one.name}: nothing says what is right; define {type(one).__name__}.grade_one (or grade)"
            )
    listed = hasattr(seeds, "__getitem__") and not isinstance(seeds, str | Mapping)
    if not listed or not len(seeds) or not all(whole(x) and x >= 0 for x in seeds):
        raise ValueError(f"seeds = {seeds!r}: give a list of at least one seed, each a whole number of at least 0")
    for name, value, least in (("rounds", rounds, 0), ("workers", workers, 1)):
        if not whole(value) or value < least:
            raise ValueError(f"{name} = {value!r}: give a whole number of at least {least}")
    for s in chosen.values():
        task.prefix(s.shots), test.prefix(s.shots)
        if s.labeler in ("corrupted", "systematic") and s.budget != 0 and s.labels_per_prompt != 0:
            corrupted_reference(task, s.beta)
