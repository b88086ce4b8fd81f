"""What labels buy: accuracy against the labels spent so far, arm by arm and seed by seed, and which prompts got them.

Tables are those of `boost` (one row an arm, seed and round). A round's accuracy stands at the labels asked for before it.

Not covered: how a budget is split (allocation), intervals and ranks (stats, ranking), drawing (figures.allocation).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import pandas as pd


def with_spent(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column ``spent``: labels that its arm and seed asked for in earlier rounds, 0 in round 0."""
    labels = table.sort_values("round").fillna({"labels": 0}).groupby(["arm", "seed"])["labels"]
    return table.assign(spent=labels.transform(lambda asked: asked.cumsum().shift(fill_value=0)))


def area_weights(spent: ArrayLike) -> np.ndarray:
    """Weights (n,) of the rounds in the mean over labels spent (n,), by trapezoids: they sum to 1, and the mean is
    ``weights @ accuracy``. Where nothing was spent, rounds count as evenly spaced. Raises ValueError below two rounds.
    """
    spent = np.asarray(spent, dtype=float)
    if spent.ndim != 1 or len(spent) < 2 or (np.diff(spent) < 0).any():
        raise ValueError(
            f"spent has shape {spent.shape}: labels spent by round, at least two, none falling, are needed"
        )
    steps = np.diff(spent) if spent[-1] > spent[0] else np.ones(len(spent) - 1)
    return (np.append(steps, 0) + np.append(0, steps)) / 2 / steps.sum()


def labels_to_reach(spent: ArrayLike, accuracy: ArrayLike, target: float) -> float:
    """Labels at which accuracy first reaches the target, between rounds by a straight line; inf if it never does."""
    x, y = np.asarray(spent, dtype=float), np.asarray(accuracy, dtype=float)
    there = np.flatnonzero(y >= target)
    if not len(there):
        return math.inf
    i = there[0]
    return float(x[0] if i == 0 else x[i - 1] + (x[i] - x[i - 1]) * (target - y[i - 1]) / (y[i] - y[i - 1]))


def efficiency(table: pd.DataFrame, target: float, metric: str = "test_accuracy") -> pd.DataFrame:
    """One row an arm and seed: final (in the last round), area (mean over labels spent) and to_target (labels, or inf)."""
    import pandas as pd

    rows = []
    for (arm, seed), run in with_spent(table).sort_values("round").groupby(["arm", "seed"], sort=False):
        x, y = run["spent"].to_numpy(), run[metric].to_numpy(dtype=float)
        reached = labels_to_reach(x, y, target)
        rows.append({"arm": arm, "seed": seed, "final": y[-1], "area": area_weights(x) @ y, "to_target": reached})
    return pd.DataFrame(rows)


def reaching(found: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """One row an arm of `efficiency`: reached (in how many seeds), seeds, mean labels with interval, and the difference
    to the baseline, paired by seed. Where a seed never got there, means and differences are left out, not made up.
    """
    import pandas as pd

    from boostlib.analysis import intervals as stats

    if baseline not in set(found["arm"]):
        raise ValueError(f"unknown baseline {baseline!r}; there are {', '.join(dict.fromkeys(found['arm']))}")
    by_seed = found.pivot(index="seed", columns="arm", values="to_target")
    rows = []
    for arm in dict.fromkeys(found["arm"]):
        mine, base = by_seed[arm].dropna(), by_seed[baseline].dropna()
        row = {"arm": arm, "reached": int(np.isfinite(mine).sum()), "seeds": len(mine)}
        if np.isfinite(mine).all():
            here = stats.mean_interval(mine)
            row |= {"labels": here.value, "low": here.low, "high": here.high}
        both = mine.index.intersection(base.index)
        if arm != baseline and len(both) and np.isfinite(np.r_[mine[both], base[both]]).all():
            c = stats.paired(mine[both], base[both])
            row |= {"difference": c.difference, "difference_low": c.low, "difference_high": c.high, "p": c.p}
        rows.append(row)
    columns = "arm reached seeds labels low high difference difference_low difference_high p p_holm".split()
    out = pd.DataFrame(rows).reindex(columns=columns)
    out["p_holm"] = stats.holm(out["p"])
    return out


def who(labels: pd.DataFrame, group: Mapping[str, Hashable]) -> pd.DataFrame:
    """Who was asked: one row an arm, seed, round and group of prompts.

    ``labels``: rows of labels.jsonl (arm, seed, round, id, responses); ``group``: every prompt's id -> its group, those
    never asked too. Columns: labels, share (of the round's labels), expected (the group's share of the prompts).
    """
    import pandas as pd

    groups = pd.Series(dict(group))
    asked = labels.assign(group=labels["id"].map(groups), labels=labels["responses"].map(len))
    if asked["group"].isna().any():
        raise ValueError(f"{asked.loc[asked['group'].isna(), 'id'].iloc[0]} has labels, but no group")
    counts = asked.pivot_table(index=["arm", "seed", "round"], columns="group", values="labels", aggfunc="sum")
    counts = counts.reindex(columns=sorted(groups.unique())).fillna(0)
    out = counts.stack().rename("labels").reset_index()
    out["share"] = out["labels"] / out.groupby(["arm", "seed", "round"])["labels"].transform("sum")
    return out.assign(expected=out["group"].map(groups.value_counts(normalize=True)))
