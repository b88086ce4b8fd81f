"""Points with intervals, and comparisons that may end in "no difference resolved".

Sources of chance are kept apart, and every comparison says which of them its interval covers. Across seeds (training and
sampling anew) a paired t on the differences by seed is used, `two_way` adds the problems: a bootstrap of three seeds
cannot cover. Within one seed a bootstrap over prompts says what other prompts would change, given that seed. Every
random function takes its generator and draws from nothing else.

Not covered: which arms are compared on what (compare), the distribution of p_0 (measure), Bayesian models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit
from statsmodels.stats.proportion import proportion_confint

UNRESOLVED = "no difference resolved"
LEVEL = 0.95  # of every interval


@dataclass(frozen=True)
class Estimate:
    """A value with its interval (low, high; NaN: none), the number of units n, and what must be said beside it."""

    value: float
    low: float
    high: float
    n: int
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """a against b on n paired units: mean difference a - b, its interval, p (two-sided), the verdict on a. ``within``: the size
    that the true difference does not exceed, by two one-sided tests at 5% (the further end of the 90% interval). ``covers``:
    what was drawn anew in the spread that the interval rests on."""

    difference: float
    low: float
    high: float
    p: float
    n: int
    verdict: str
    note: str = ""
    within: float = math.nan
    covers: str = ""


def proportion(right: int, n: int) -> Estimate:
    """Share of right outcomes among n, with the Wilson interval (over prompts: given the seed, if they come from one)."""
    if not 0 <= right <= n or n < 1:
        raise ValueError(f"{right} right of {n}: 0 <= right <= n and n >= 1 are needed")
    low, high = proportion_confint(right, n, alpha=1 - LEVEL, method="wilson")
    return Estimate(right / n, float(low), float(high), int(n))


def rate(hits: ArrayLike, trials: ArrayLike) -> Estimate:
    """Share of hits among trials, both (n,) a prompt: Wilson's interval at the effective number of trials: answers to one
    prompt are alike, so they count for less, by the design effect of the ratio estimator over prompts, never below 1.
    No trial at all: NaN, and the note says so."""
    hits, trials = np.asarray(hits, float), np.asarray(trials, float)
    if hits.shape != trials.shape or hits.ndim != 1 or (hits < 0).any() or (hits > trials).any():
        raise ValueError("hits and trials: one whole number a prompt each, 0 <= hits <= trials, is needed")
    hits, trials = hits[trials > 0], trials[trials > 0]
    n, total = len(trials), trials.sum()
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0, "nothing to measure: no such response")
    p, effective = hits.sum() / total, total
    if n > 1 and 0 < p < 1:
        spread = n / (n - 1) * ((hits - p * trials) ** 2).sum() / total**2
        # few prompts know their own spread badly: the t quantile in place of the normal one, as variance
        spread *= (stats.t.ppf((1 + LEVEL) / 2, n - 1) / stats.norm.ppf((1 + LEVEL) / 2)) ** 2
        effective = min(total, p * (1 - p) / spread) if spread > 0 else total
    low, high = proportion_confint(p * effective, effective, alpha=1 - LEVEL, method="wilson")
    note = "one prompt: its own rate, not that of others" if n == 1 else ""
    return Estimate(float(p), float(low), float(high), int(total), note)


def mean_interval(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """Mean of values (n,), one a seed (or one a prompt), with its t interval; one value has none, and the note says so."""
    values = _finite(values, "values")
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Estimate(mean, math.nan, math.nan, 1, "one seed: no interval across seeds")
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


def paired(a: ArrayLike, b: ArrayLike) -> Comparison:
    """a against b, both (seeds,) in the same order of seeds: a paired t on the differences by seed. The verdict is "higher"
    or "lower" (a than b) where the interval excludes 0, else "no difference resolved"; never where seeds show no spread."""
    return _over_seeds(_differences(a, b), 0.0, "seeds")


def two_way(d: ArrayLike) -> Comparison:
    """Mean of differences d (seeds, problems), both drawn at random: the interval covers other seeds and other problems.

    Every seed meets the same problems, so a t over seeds alone takes what persists in them for certain, and covers too
    rarely. Its squared half width is added to that of the problems' own variance, their mean square less that of the
    interaction (two-way random effects; squared half widths as in Graybill and Wang 1980): exact or a little wide."""
    d = np.asarray(d, dtype=float)
    if d.ndim != 2 or not d.size or not np.isfinite(d).all():
        raise ValueError(f"differences have shape {d.shape}: finite numbers by seed and problem are needed")
    (seeds, problems), by_problem = d.shape, d.mean(0)
    if min(seeds, problems) == 1:
        return _over_seeds(d.mean(1), 0.0, "seeds")
    rest = d - d.mean(1, keepdims=True) - by_problem + d.mean()
    both = (rest**2).sum() / (seeds - 1) / (problems - 1) / seeds
    return _over_seeds(d.mean(1), max(0.0, by_problem.var(ddof=1) - both) / problems, "seeds and problems")


def _over_seeds(d: np.ndarray, by_problem: float, covers: str) -> Comparison:
    """From differences by seed (n,) and the variance of their mean that problems bring along."""
    n, mean = len(d), float(d.mean())
    if n == 1 or d.std(ddof=1) <= 1e-12 * max(abs(mean), 1e-300):
        note = "one seed: nothing can be said across seeds; paired_prompts compares within it"
        if n > 1:
            note = "every seed gives the same difference: the spread over seeds is not measured, so there is no verdict"
        return Comparison(mean, math.nan, math.nan, math.nan, n, UNRESOLVED, note)
    by_seed = d.var(ddof=1) / n

    def half(p: float) -> float:
        return math.sqrt(stdtrit(n - 1, p / 2) ** 2 * by_seed + ndtri(p / 2) ** 2 * by_problem)

    p = math.exp(brentq(lambda x: half(math.exp(x)) - abs(mean), -200, 0)) if half(math.exp(-200)) > abs(mean) else 0.0
    low, high = mean - half(1 - LEVEL), mean + half(1 - LEVEL)
    within = abs(mean) + half(2 * (1 - LEVEL))
    return Comparison(mean, low, high, p, n, _verdict(p < 1 - LEVEL, mean), within=within, covers=covers)


def paired_prompts(a: ArrayLike, b: ArrayLike, rng: np.random.Generator, n_boot: int = 10_000) -> Comparison:
    """a against b within one seed: outcomes (prompts,) on the same prompts, 0/1 or shares; percentile bootstrap over
    prompts. Conditional on the seed: it says nothing of what another training run would give, and its note says that."""
    d = _differences(a, b)
    n, mean = len(d), float(d.mean())
    note = "conditional on the seed: other prompts, the same training run"
    values, counts = np.unique(d, return_counts=True)
    if len(values) == 1:
        same = f"{note}; every prompt gives the same difference: no spread to resample"
        return Comparison(mean, math.nan, math.nan, math.nan, n, UNRESOLVED, same)
    # a resample of n differences is a multinomial over their distinct values: three for 0/1 outcomes
    means = rng.multinomial(n, counts / n, size=n_boot) @ values / n
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    tail = min((means <= 1e-12).mean(), (means >= -1e-12).mean())
    p = float(min(1.0, 2 * (tail * n_boot + 1) / (n_boot + 1)))
    within = float(np.abs(np.quantile(means, [1 - LEVEL, LEVEL])).max())
    verdict = _verdict(low > 1e-12 or high < -1e-12, mean)
    return Comparison(mean, float(low), float(high), p, n, verdict, note, within, "problems, given the seed")


def holm(p: ArrayLike) -> np.ndarray:
    """Holm-adjusted p values (m,): rejecting those below 0.05 keeps the chance of any false finding under 5%. NaN stays
    NaN and is no comparison. (statsmodels' multipletests collects garbage at each call: 0.1 s.)"""
    p = np.asarray(p, dtype=float)
    adjusted, known = np.full(p.shape, math.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


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


def _verdict(resolved: bool, mean: float) -> str:
    return UNRESOLVED if not resolved else "higher" if mean > 0 else "lower"
