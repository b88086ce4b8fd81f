"""Which arm is better: against a baseline, pair by pair, and for the labels that were spent.

Across seeds and problems (`intervals.two_way`), or seeds alone where a table has no answers behind it (paired t); where
there is one seed, by a bootstrap over problems, given that seed. A round's accuracy stands at the labels asked for before it.

Not covered: the intervals themselves (intervals), how a budget is split (allocation), drawing (figures.allocation).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from boostlib.analysis.intervals import LEVEL, UNRESOLVED, Comparison, holm, paired, paired_prompts, two_way
from boostlib.analysis.measure import responses

#: words -> the column of `boost`'s table, and the artefact with the answers behind it
MEASURES = {"greedy, test": ("test_accuracy", "test"), "sampled, training prompts": ("train_accuracy", "verdicts")}
COLUMNS = ["difference", "low", "high", "within", "p", "verdict", "n", "covers"]


def compare_arms(
    table: pd.DataFrame, baseline: str, metric: str = "test_accuracy", round: int | None = None, by: str = "arm"
) -> pd.DataFrame:
    """Every arm against a baseline in one round (None: the last that all arms have), paired by seed: a row an arm.

    ``table`` has columns ``by``, seed, round and ``metric``, one row each; where it is `boost`'s, with its folders, intervals
    cover problems too, or with one seed problems alone. Columns: mean, low, high, difference, difference_low, difference_high, within (`Comparison`), p,
    p_holm (over all arms here), verdict (on p_holm), seeds (shared with the baseline), covers, note. Raises ValueError
    on missing columns, unknown baseline or round.
    """
    if missing := {by, "seed", "round", metric} - set(table.columns):
        raise ValueError(f"the table lacks {sorted(missing)}; it has {sorted(table.columns)}")
    arms = list(dict.fromkeys(table[by]))
    if baseline not in arms:
        raise ValueError(f"unknown baseline {baseline!r}; the table has {', '.join(map(str, arms))}")
    rounds = set.intersection(*(set(table.loc[table[by] == arm, "round"]) for arm in arms))
    if not rounds or (round is not None and round not in rounds):
        raise ValueError(f"round {round} is not in the table for every arm; shared rounds: {sorted(rounds)}")
    now = table[table["round"] == (max(rounds) if round is None else round)]
    twice = now[now.duplicated([by, "seed"])]
    if len(twice):
        raise ValueError(f"more than one row for {by} {twice[by].iloc[0]}, seed {twice['seed'].iloc[0]}")

    scores = {arm: pd.DataFrame() for arm in arms} | _scores(now.dropna(subset=[metric]), metric, by)
    rows = [{by: arm} | _against(scores[arm], None if arm == baseline else scores[baseline]) for arm in arms]
    columns = [by, "mean", "low", "high", "difference", "difference_low", "difference_high", "within", "p", "p_holm"]
    out = pd.DataFrame(rows).reindex(columns=[*columns, "verdict", "seeds", "covers", "note"])
    out["p_holm"] = holm(out["p"])
    lost = out["verdict"].isin(["higher", "lower"]) & (out["p_holm"] >= 1 - LEVEL)
    out.loc[lost, "note"] = "alone: " + out["verdict"] + "; after Holm's correction: open"
    out.loc[lost, "verdict"] = UNRESOLVED
    return out


def _scores(now: pd.DataFrame, metric: str, by: str = "arm") -> dict[str, pd.DataFrame]:
    """Of one round: arm -> scores, a row a seed, a column a problem; where the answers are not there, one of their mean."""
    names = [name for column, name in MEASURES.values() if column == metric]
    if by == "arm" and names and "folder" in now and now["folder"].notna().all():
        right = outcomes(now, next(m for m, (column, _) in MEASURES.items() if column == metric)).T.droplevel("round")
        return {arm: right.loc[arm] for arm in dict.fromkeys(now["arm"])}
    return {arm: part.set_index("seed")[[metric]] for arm, part in now.groupby(by)}


def _against(mine: pd.DataFrame, base: pd.DataFrame | None) -> dict:
    """A row of `compare_arms` from scores by seed and problem; ``base`` None: the arm is the baseline itself."""
    here = two_way(mine) if len(mine) else None
    row = {"seeds": len(mine), "note": ""}
    if here:
        row |= {"mean": here.difference, "low": here.low, "high": here.high, "note": here.note}
    if base is None:
        return row | {"verdict": "baseline"}
    shared = mine.index.intersection(base.index)
    if not len(shared):
        return row | {"seeds": 0, "verdict": UNRESOLVED, "note": "no seed shared with the baseline"}
    c = _compared(mine.loc[shared] - base.loc[shared])
    row |= {
        "difference": c.difference,
        "difference_low": c.low,
        "difference_high": c.high,
        "within": c.within,
        "p": c.p,
    }
    return row | {"verdict": c.verdict, "seeds": c.n, "covers": c.covers, "note": c.note}


def outcomes(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Share of right answers by problem (row), and arm, seed and round (columns)."""
    answers = responses(table, MEASURES[measure][1])
    right = (answers["status"] == "pass").groupby([answers[c] for c in ("id", "arm", "seed", "round")]).mean()
    return right.unstack(["arm", "seed", "round"]).sort_index(axis=1)


def difference(table: pd.DataFrame, a: str, b: str, measure: str) -> dict:
    """Arm a less arm b in the last round, over problems and the seeds they share: difference, low, high, p, verdict, n."""
    scores = _scores(table[table["round"] == table["round"].max()], MEASURES[measure][0])
    return _row(_compared((scores[a] - scores[b]).dropna()))


def _compared(d: pd.DataFrame) -> Comparison:
    """Of differences by seed (row) and problem: over both, or over problems given the one seed."""
    if d.shape[0] == 1 < d.shape[1]:
        return paired_prompts(d.iloc[0], 0 * d.iloc[0], np.random.default_rng(0))
    return two_way(d)


def _row(c: Comparison) -> dict:
    return {name: getattr(c, name) for name in COLUMNS}


def differences(table: pd.DataFrame, pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Each name -> (a, b) whose arms the table has, a less b: a row a measure, by `with_holm` within a measure."""
    there = {name: pair for name, pair in pairs.items() if {*pair} <= set(table["arm"])}
    rows = [
        {"name": name, "series": m, **difference(table, *pair, m)} for name, pair in there.items() for m in MEASURES
    ]
    return with_holm(pd.DataFrame(rows, columns=["name", "series", *COLUMNS]), "series")


def to_reference(scores: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Every column of ``scores`` (a row a seed, a column a name) less the reference's: name, difference, ..., p_holm."""
    rows = [{"name": x, **_row(paired(scores[x], scores[reference]))} for x in scores if x != reference]
    return with_holm(pd.DataFrame(rows, columns=["name", *COLUMNS]))


def within_seed(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Every arm less the reference on the same problems, for a table of one seed: final accuracy and area over labels."""
    if table["seed"].nunique() != 1:
        raise ValueError(f"the table has {table['seed'].nunique()} seeds: answers are compared within one")
    table, rows = with_spent(table).sort_values("round"), []
    for measure in MEASURES:
        right = outcomes(table, measure).droplevel("seed", axis=1)
        area = {arm: right[arm] @ area_weights(part["spent"]) for arm, part in table.groupby("arm")}
        final = {arm: right[arm].iloc[:, -1] for arm in area}
        for what, scores in {"final": final, "area": area}.items():
            for arm in [arm for arm in dict.fromkeys(table["arm"]) if arm != reference]:
                c = paired_prompts(scores[arm], scores[reference], np.random.default_rng(0))
                rows.append({"series": measure, "measure": what, "arm": arm, **_row(c)})
    return pd.DataFrame(rows, columns=["series", "measure", "arm", *COLUMNS])


def with_holm(rows: pd.DataFrame, by: str | None = None) -> pd.DataFrame:
    """The rows with a column p_holm, corrected within each value of ``by``; the verdict follows it."""
    p = rows["p"].astype(float)
    p_holm = p.groupby(rows[by]).transform(holm) if by else p.where(p.isna(), holm(p))
    return rows.assign(p_holm=p_holm, verdict=rows["verdict"].mask(p_holm >= 1 - LEVEL, UNRESOLVED))


def with_spent(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column ``spent``: labels that its arm and seed asked for in earlier rounds, 0 in round 0."""
    labels = table.sort_values("round").fillna({"labels": 0}).groupby(["arm", "seed"])["labels"]
    return table.assign(spent=labels.transform(lambda asked: asked.cumsum().shift(fill_value=0)))


def area_weights(spent: ArrayLike) -> np.ndarray:
    """Weights (n,) of the rounds in the mean over labels spent (n,), by trapezoids: they sum to 1, and the mean is
    ``weights @ accuracy``. Where nothing was spent, rounds count as evenly spaced. Raises ValueError below two rounds."""
    spent = np.asarray(spent, dtype=float)
    if spent.ndim != 1 or len(spent) < 2 or (np.diff(spent) < 0).any():
        raise ValueError(
            f"spent has shape {spent.shape}: labels spent by round, two at least, none falling, are needed"
        )
    steps = np.diff(spent) if spent[-1] > spent[0] else np.ones(len(spent) - 1)
    return (np.append(steps, 0) + np.append(0, steps)) / 2 / steps.sum()


def labels_to_reach(spent: ArrayLike, accuracy: ArrayLike, target: float) -> float:
    """Labels at which accuracy first reaches the target, between rounds by a straight line; inf if it never does."""
    x, y = np.asarray(spent, dtype=float), np.asarray(accuracy, dtype=float)
    if not (y >= target).any():
        return math.inf
    i = (y >= target).argmax()
    return float(x[0] if i == 0 else x[i - 1] + (x[i] - x[i - 1]) * (target - y[i - 1]) / (y[i] - y[i - 1]))


def efficiency(table: pd.DataFrame, target: float, metric: str = "test_accuracy") -> pd.DataFrame:
    """One row an arm and seed: final (in the last round), area (mean over labels spent), to_target (labels, or inf)."""
    rows = []
    for (arm, seed), run in with_spent(table).sort_values("round").groupby(["arm", "seed"], sort=False):
        x, y = run["spent"].to_numpy(), run[metric].to_numpy(dtype=float)
        reached = labels_to_reach(x, y, target)
        rows.append({"arm": arm, "seed": seed, "final": y[-1], "area": area_weights(x) @ y, "to_target": reached})
    return pd.DataFrame(rows)
