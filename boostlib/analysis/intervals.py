"""Points with intervals, and comparisons that may end in "no difference resolved".

Two sources of chance are kept apart. Across seeds (training and sampling anew) a paired t on the differences by seed is
used: a bootstrap of three seeds cannot cover. Within one seed a bootstrap over prompts says what other prompts would
change, given that seed; it is labelled so. Every random function takes its generator and draws from nothing else.

Not covered: unequal variances of many tasks pooled, Bayesian models, the law of p_0 (calibrate).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import pandas as pd

UNRESOLVED = "no difference resolved"


@dataclass(frozen=True)
class Estimate:
    """A value with its interval (low, high; NaN where there is none), the number of units and what must be said beside
    it.
    """

    value: float
    low: float
    high: float
    n: int
    note: str = ""

    def __str__(self) -> str:
        interval = "no interval" if math.isnan(self.low) else f"{self.low:.3f} to {self.high:.3f}"
        return f"{self.value:.3f} ({interval})"


@dataclass(frozen=True)
class Comparison:
    """a against b on n paired units: mean difference a - b, its interval, p (two-sided), the verdict on a, and the
    units (seeds or prompts) at which a difference of this size would be resolved with the asked power (None: already,
    or it cannot be said)."""

    difference: float
    low: float
    high: float
    p: float
    n: int
    verdict: str
    n_to_resolve: int | None = None
    note: str = ""

    def __str__(self) -> str:
        interval = "no interval" if math.isnan(self.low) else f"{self.low:+.3f} to {self.high:+.3f}"
        more = f"; about {self.n_to_resolve} would resolve it" if self.n_to_resolve else ""
        return f"{self.difference:+.3f} ({interval}), n = {self.n}: {self.verdict}{more}"


def pass_at_k(c: ArrayLike, n: int | ArrayLike, k: int) -> np.ndarray:
    """Unbiased pass@k of each prompt from c right among n samples, 1 - C(n - c, k) / C(n, k); c, n broadcast, the shape
    is kept.

    Chen et al. 2021 (Codex), computed as a product, so no factorial overflows. Its interval over prompts:
    ``mean_interval`` of it. Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    c, n = np.broadcast_arrays(np.asarray(c, dtype=float), np.asarray(n, dtype=float))
    if k < 1 or (n < k).any():
        raise ValueError(f"pass@{k} needs at least k samples a prompt; the fewest here are {n.min():.0f}")
    if (c < 0).any() or (c > n).any():
        raise ValueError("c must lie between 0 and n: right responses among the n sampled")
    miss = np.ones(c.shape)
    for i in range(k):
        miss *= np.maximum(n - c - i, 0) / (n - i)
    return 1 - miss


def proportion(right: int, n: int, level: float = 0.95) -> Estimate:
    """Share of right outcomes among n, with the Wilson interval (over prompts: given the seed, if they come from one)."""
    from statsmodels.stats.proportion import proportion_confint

    if not 0 <= right <= n or n < 1:
        raise ValueError(f"{right} right of {n}: 0 <= right <= n and n >= 1 are needed")
    low, high = proportion_confint(right, n, alpha=1 - level, method="wilson")
    return Estimate(right / n, float(low), float(high), int(n))


def mean_interval(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean of values (n,), one a seed (or one a prompt), with its t interval; one value has none, and the note says so."""
    from scipy import stats

    values = _finite(values, "values")
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Estimate(mean, math.nan, math.nan, 1, "one seed: no interval across seeds")
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


def paired(a: ArrayLike, b: ArrayLike, level: float = 0.95, power: float = 0.8) -> Comparison:
    """a against b, both (seeds,) in the same order of seeds: a paired t on the differences by seed.

    The verdict is "higher" or "lower" (a than b) where the interval excludes 0, else "no difference resolved" with the
    number of seeds that would resolve a true difference of the observed size and spread with the given power.
    """
    from scipy import stats

    d = _differences(a, b)
    n, mean = len(d), float(d.mean())
    if n == 1:
        note = "one seed: nothing can be said across seeds; paired_prompts compares within it"
        return Comparison(mean, math.nan, math.nan, math.nan, 1, UNRESOLVED, None, note)
    interval, spread = mean_interval(d, level), float(d.std(ddof=1))
    if spread <= 1e-12 * max(abs(mean), 1e-300):
        p = 1.0 if mean == 0 else 0.0
        note = "every seed gives the same difference: the spread over seeds is not measured"
        return Comparison(mean, mean, mean, p, n, _verdict(p, mean, level), None, note)
    p = float(2 * stats.t.sf(abs(mean) / (spread / math.sqrt(n)), n - 1))
    verdict = _verdict(p, mean, level)
    more = _seeds_to_resolve(abs(mean) / spread, n, level, power) if verdict == UNRESOLVED else None
    return Comparison(mean, interval.low, interval.high, p, n, verdict, more)


def paired_prompts(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    n_boot: int = 10_000,
    level: float = 0.95,
    power: float = 0.8,
) -> Comparison:
    """a against b within one seed: outcomes (prompts,) on the same prompts, 0/1 or shares; percentile bootstrap over
    prompts.

    Conditional on the seed: it says nothing of what another training run would give, and its note says that.
    """
    from scipy import stats

    d = _differences(a, b)
    n, mean = len(d), float(d.mean())
    note = "conditional on the seed: other prompts, the same training run"
    values, counts = np.unique(d, return_counts=True)
    if len(values) == 1:
        same = f"{note}; every prompt gives the same difference: no spread to resample"
        return Comparison(mean, math.nan, math.nan, math.nan, n, UNRESOLVED, None, same)
    # a resample of n differences is a multinomial over their distinct values: three for 0/1 outcomes
    means = rng.multinomial(n, counts / n, size=n_boot) @ values / n
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    tail = min((means <= 1e-12).mean(), (means >= -1e-12).mean())
    p = float(min(1.0, 2 * (tail * n_boot + 1) / (n_boot + 1)))
    verdict = UNRESOLVED if low <= 1e-12 and high >= -1e-12 else "higher" if mean > 0 else "lower"
    more = None
    if verdict == UNRESOLVED and abs(mean) > 1e-12:
        z = stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power)
        more = max(n + 1, math.ceil((z * d.std(ddof=1) / mean) ** 2))
    return Comparison(mean, float(low), float(high), p, n, verdict, more, note)


def probability_of_improvement(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Estimate:
    """P(a run of a beats a run of b), ties half, over all pairs of seeds; a (seeds_a,), b (seeds_b,), not paired.

    The quantity of rliable (Agarwal et al. 2021); the interval is Brunner and Munzel's, from statsmodels, cut to [0,
    1]. Below two seeds an arm, or where the arms do not overlap at all (no spread of ranks), there is none, and the
    note says so.
    """
    from statsmodels.stats.nonparametric import rank_compare_2indep

    a, b = _finite(a, "a"), _finite(b, "b")
    value = _wins(a, b)
    n = min(len(a), len(b))
    if n < 2:
        return Estimate(value, math.nan, math.nan, n, "one seed an arm: no interval across seeds")
    if value in (0.0, 1.0) or np.ptp(np.concatenate([a, b])) == 0:
        return Estimate(value, math.nan, math.nan, n, f"no spread of ranks in {n} seeds an arm: no interval")
    low, high = rank_compare_2indep(a, b).conf_int(alpha=1 - level)
    return Estimate(value, max(0.0, float(low)), min(1.0, float(high)), n)


def holm(p: ArrayLike) -> np.ndarray:
    """Holm-adjusted p values (m,): rejecting those below 0.05 keeps the chance of any false finding under 5%.

    NaN stays NaN and is not counted as a comparison.
    """
    p = np.asarray(p, dtype=float)
    adjusted, known = np.full(p.shape, math.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def compare_arms(
    table: pd.DataFrame,
    baseline: str,
    metric: str = "test_accuracy",
    round: int | None = None,
    level: float = 0.95,
    by: str = "arm",
) -> pd.DataFrame:
    """Every arm against a baseline in one round (None: the last that all arms have), paired by seed: one row an arm, to
    be printed.

    ``table`` has columns ``by``, seed, round and ``metric``, one row each. Columns: mean, low, high (t over that arm's
    seeds), difference, difference_low, difference_high, p, p_holm (over all arms here), verdict (on p_holm), seeds
    (shared with the baseline), seeds_to_resolve, improvement (probability of), note. Raises ValueError on missing
    columns, unknown baseline or round.
    """
    import pandas as pd

    missing = {by, "seed", "round", metric} - set(table.columns)
    if missing:
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
    scores = {arm: now[now[by] == arm].set_index("seed")[metric].dropna() for arm in arms}

    rows, base = [], scores[baseline]
    for arm in arms:
        mine = scores[arm]
        shared = mine.index.intersection(base.index)
        row = {by: arm, "mean": math.nan, "low": math.nan, "high": math.nan, "seeds": len(mine), "note": ""}
        if len(mine):
            here = mean_interval(mine, level)
            row |= {"mean": here.value, "low": here.low, "high": here.high, "note": here.note}
        if arm == baseline:
            rows.append(row | {"verdict": "baseline"})
            continue
        if not len(shared):
            rows.append(row | {"seeds": 0, "verdict": UNRESOLVED, "note": "no seed shared with the baseline"})
            continue
        c = paired(mine[shared], base[shared], level)
        rows.append(
            row
            | {
                "difference": c.difference,
                "difference_low": c.low,
                "difference_high": c.high,
                "p": c.p,
                "verdict": c.verdict,
                "seeds": c.n,
                "seeds_to_resolve": c.n_to_resolve,
                "improvement": _wins(mine[shared].to_numpy(), base[shared].to_numpy()),
                "note": c.note or row["note"],
            }
        )
    columns = [by, "mean", "low", "high", "difference", "difference_low", "difference_high", "p", "p_holm"]
    columns += ["verdict", "seeds", "seeds_to_resolve", "improvement", "note"]
    out = pd.DataFrame(rows).reindex(columns=columns)
    out["p_holm"] = holm(out["p"])
    lost = out["verdict"].isin(["higher", "lower"]) & (out["p_holm"] >= 1 - level)
    out.loc[lost, "note"] = "resolved alone, not after Holm's correction"
    out.loc[lost, "verdict"] = UNRESOLVED
    out["seeds_to_resolve"] = out["seeds_to_resolve"].astype("Int64")
    return out


def _finite(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"{name} has shape {array.shape}: a row of finite numbers, at least one, is needed")
    return array


def _differences(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    a, b = _finite(a, "a"), _finite(b, "b")
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} and b {len(b)}: a pair needs one of each, in the same order")
    return a - b


def _wins(a: np.ndarray, b: np.ndarray) -> float:
    margin = a[:, None] - b[None, :]
    return float(((margin > 0) + 0.5 * (margin == 0)).mean())


def _verdict(p: float, mean: float, level: float) -> str:
    return UNRESOLVED if p >= 1 - level else "higher" if mean > 0 else "lower"


def _seeds_to_resolve(effect: float, n: int, level: float, power: float) -> int | None:
    """Fewest pairs > n at which a paired t test has the power at a true effect (mean / standard deviation of the
    differences).
    """
    from scipy import stats

    if effect < 1e-3:
        return None  # beyond millions of seeds: as good as none
    z = stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power)
    m = max(n + 1, math.floor((z / effect) ** 2))  # the normal answer is a lower bound
    while stats.nct.sf(stats.t.ppf((1 + level) / 2, m - 1), m - 1, effect * math.sqrt(m)) < power:
        m += 1
    return m
