"""Ranks with intervals: every arm against every other at once, seeds as blocks (Tukey).

The model is arm + seed + noise of one spread for all arms: pooling the spread gives (arms - 1)(seeds - 1) degrees of freedom
where a paired t on 4 seeds has 3. That assumption is the price; ``spread`` shows how well it holds.

Not covered: comparisons with one baseline that assume no common spread (stats.compare_arms).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def all_pairs(scores: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Every pair of arms from ``scores`` (a row a seed, a column an arm, nothing missing): a, b, difference (a - b), low,
    high, verdict. The intervals hold all together: the chance that any misses is 1 - level. With two arms they are
    those of the paired t. Raises ValueError for missing scores and below two seeds or two arms.
    """
    import pandas as pd

    from boostlib.analysis.intervals import UNRESOLVED

    seeds, arms = scores.shape
    if seeds < 2 or arms < 2 or scores.isna().to_numpy().any():
        raise ValueError(
            f"scores has {seeds} seeds and {arms} arms: two of each, and a score for every pair, are needed"
        )
    error = math.sqrt((_residuals(scores) ** 2).sum() / ((arms - 1) * (seeds - 1)) / seeds)
    half = _quantile(level, arms, (arms - 1) * (seeds - 1)) * error
    a, b = np.triu_indices(arms, 1)
    means = scores.to_numpy(dtype=float).mean(0)
    d = means[a] - means[b]
    verdict = np.where(np.abs(d) <= half, UNRESOLVED, np.where(d > 0, "higher", "lower"))
    names = {"a": scores.columns[a], "b": scores.columns[b]}
    return pd.DataFrame(names | {"difference": d, "low": d - half, "high": d + half, "verdict": verdict})


def ranks(scores: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """One row an arm, best mean first: mean, best and worst rank that the pairs leave open, spread (standard deviation of
    its residuals over seeds). All rank intervals cover together with chance ``level`` at least.
    """
    import pandas as pd

    pairs = all_pairs(scores, level)
    higher, lower = pairs[pairs["verdict"] == "higher"], pairs[pairs["verdict"] == "lower"]
    losses = {arm: (lower["a"] == arm).sum() + (higher["b"] == arm).sum() for arm in scores}
    wins = {arm: (higher["a"] == arm).sum() + (lower["b"] == arm).sum() for arm in scores}
    out = pd.DataFrame({"mean": scores.mean(), "best": 1 + pd.Series(losses), "worst": len(losses) - pd.Series(wins)})
    freedom = (scores.shape[0] - 1) * (scores.shape[1] - 1) / scores.shape[1]  # of each arm's residuals
    out["spread"] = np.sqrt((_residuals(scores) ** 2).sum(0) / freedom)
    return out.sort_values("mean", ascending=False).rename_axis("arm").reset_index()


def _residuals(scores: pd.DataFrame) -> np.ndarray:
    y = scores.to_numpy(dtype=float)
    return y - y.mean(0) - y.mean(1, keepdims=True) + y.mean()


@lru_cache(maxsize=64)
def _quantile(level: float, arms: int, freedom: int) -> float:
    from scipy import stats as scipy_stats

    return float(scipy_stats.studentized_range.ppf(level, arms, freedom))
