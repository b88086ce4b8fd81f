"""What the theory needs to know of a run, measured on it: beta, gamma_fp, gamma_fn and the law of p_0.

beta is the right share of labeler answers on P-; the gammas compare the filter's decisions with the true quality; the
law of p_0 is a beta-binomial fit to right counts among k samples, with point masses at 0 and 1 where the counts ask for
them.

Not covered: the prediction itself (theory), eta and pooling, which are fitted to round 1 (the notebook).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from boostlib.analysis.intervals import Estimate

if TYPE_CHECKING:
    import pandas as pd

MASSES = {"": 0, "zero": 1, "one": 1, "zero and one": 2}  # models of p_0 by their point masses, with their number


@dataclass(frozen=True)
class Round:
    """One round of one arm and seed, n prompts: right, accepted, known (n, k) bool (known: the check did not fail);
    asked, asked_right (n,) labels and the right ones among them. ``failed`` is P-."""

    right: np.ndarray
    accepted: np.ndarray
    known: np.ndarray
    asked: np.ndarray
    asked_right: np.ndarray

    @property
    def failed(self) -> np.ndarray:
        return ~self.accepted.any(1)


@dataclass(frozen=True)
class LawFit:
    """p_0 ~ at_zero at 0, at_one at 1, the rest Beta(a, b). mean: E[p_0]. Intervals: percentile bootstrap over prompts.
    misfit: p value of a chi-squared test of the counts, small where the law does not describe them. masses: the point
    masses that are in."""

    a: Estimate
    b: Estimate
    at_zero: Estimate
    at_one: Estimate
    mean: Estimate
    misfit: float
    masses: str

    def pmf(self, k: int) -> np.ndarray:
        """(k + 1,) chance of c = 0..k right among k samples."""
        c, zero, one = np.arange(k + 1.0), self.at_zero.value, self.at_one.value
        return (1 - zero - one) * _pmf(c, k, self.a.value, self.b.value) + zero * (c == 0) + one * (c == k)

    def initial(self, degree: int = 128) -> tuple[np.ndarray, np.ndarray]:
        """(values, weights) of p_0, as the theory takes it; exact for expectations of polynomials up to ``degree``."""
        from boostlib.theory import distributions as laws

        values, weights = laws.support(laws.BetaLaw(self.a.value, self.b.value), degree)
        zero, one = self.at_zero.value, self.at_one.value
        return np.r_[0.0, values, 1.0], np.r_[zero, weights * max(0.0, 1 - zero - one), one]


@dataclass(frozen=True)
class Calibration:
    """The theory's inputs as measured, each with its interval (over prompts, given the seeds that ran)."""

    beta: Estimate
    gamma_fp: Estimate
    gamma_fn: Estimate
    law: LawFit


def read_round(folder: str | Path, t: int) -> Round:
    """Round t from the folder of one arm and seed. Raises FileNotFoundError where it never ran."""
    from boostlib import runs
    from boostlib.boosting.artefacts import matrices

    at = Path(folder) / f"round-{t}"
    verdicts = runs.read_rows(at / "verdicts.jsonl")
    right, accepted, known = matrices(verdicts)
    asked, asked_right = np.zeros((2, len(verdicts)), dtype=int)
    place = {row["id"]: i for i, row in enumerate(verdicts)}
    for row in runs.read_rows(at / "labels.jsonl") if (at / "labels.jsonl").exists() else []:
        asked[place[row["id"]]] += sum(s != "error" for s in row["status"])
        asked_right[place[row["id"]]] += row["status"].count("pass")
    return Round(right, accepted, known, asked, asked_right)


def calibrate(rounds: Sequence[Round], rng: np.random.Generator, initial: int = 1, n_boot: int = 200) -> Calibration:
    """Measure a run: the rates over all ``rounds``, the law of p_0 on the first ``initial`` of them (round 0, one a seed).

    What is said of one prompt in several rounds and seeds counts as one cluster, so they must have the same prompts.
    """
    return of_counts(tally(rounds, initial), rng, n_boot)


def tally(rounds: Sequence[Round], initial: int = 1) -> pd.DataFrame:
    """All that `calibrate` needs, without the prompts: columns what (p0, beta, gamma_fp, gamma_fn), trials, hits and
    prompts, how many prompts have that many trials and hits. A file of kilobytes, where the verdicts take megabytes."""
    import pandas as pd

    sizes = [len(r.right) for r in rounds]
    if not 1 <= initial <= len(sizes) or len(set(sizes)) > 1:
        raise ValueError(
            f"the rounds have {sizes} prompts, {initial} of them at f_0: give round 0, and the same prompts"
        )
    right, wrong, accepted = (
        np.concatenate(part, axis=1)  # all rounds of a prompt side by side
        for part in zip(*((r.right & r.known, ~r.right & r.known, r.accepted) for r in rounds), strict=True)
    )
    first = sum(r.right.shape[1] for r in rounds[:initial])
    c, wrong_first = right[:, :first].sum(1), wrong[:, :first].sum(1)
    found = {
        "p0": (c + wrong_first, c),
        "beta": (sum(r.asked * r.failed for r in rounds), sum(r.asked_right * r.failed for r in rounds)),
        "gamma_fp": (wrong.sum(1), (accepted & wrong).sum(1)),
        "gamma_fn": (right.sum(1), (~accepted & right).sum(1)),
    }
    tables = [pd.DataFrame({"what": what, "trials": n, "hits": hits}) for what, (n, hits) in found.items()]
    return pd.concat(tables).groupby(["what", "trials", "hits"], sort=False).size().rename("prompts").reset_index()


def of_counts(counts: pd.DataFrame, rng: np.random.Generator, n_boot: int = 200) -> Calibration:
    """`calibrate` from the table of `tally`."""

    def of(what: str) -> tuple[np.ndarray, np.ndarray]:
        part = counts[counts["what"] == what]
        return np.repeat(part["hits"].to_numpy(), part["prompts"]), np.repeat(
            part["trials"].to_numpy(), part["prompts"]
        )

    rates = {what: rate(*of(what)) for what in ("beta", "gamma_fp", "gamma_fn")}
    return Calibration(**rates, law=fit_law(*of("p0"), rng, n_boot))


def rate(hits: ArrayLike, trials: ArrayLike, level: float = 0.95) -> Estimate:
    """Share of hits among trials, both (n,) a prompt: Wilson's interval at the effective number of trials.

    Answers to one prompt are alike, so the trials count for less: by the design effect of the ratio estimator,
    estimated over prompts and never below 1. No trial at all: NaN, and the note says so.
    """
    from scipy import stats
    from statsmodels.stats.proportion import proportion_confint

    hits, trials = np.asarray(hits, float), np.asarray(trials, float)
    if hits.shape != trials.shape or hits.ndim != 1 or (hits < 0).any() or (hits > trials).any():
        raise ValueError("hits and trials: one whole number a prompt each, 0 <= hits <= trials, is needed")
    hits, trials = hits[trials > 0], trials[trials > 0]
    n, total = len(trials), trials.sum()
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0, "nothing to measure: no such response")
    p = hits.sum() / total
    effective = total
    if n > 1 and 0 < p < 1:
        spread = n / (n - 1) * ((hits - p * trials) ** 2).sum() / total**2
        # few prompts know their own spread badly: the t quantile in place of the normal one, as variance
        spread *= (stats.t.ppf((1 + level) / 2, n - 1) / stats.norm.ppf((1 + level) / 2)) ** 2
        effective = min(total, p * (1 - p) / spread) if spread > 0 else total
    low, high = proportion_confint(p * effective, effective, alpha=1 - level, method="wilson")
    note = "one prompt: its own rate, not that of others" if n == 1 else ""
    return Estimate(float(p), float(low), float(high), int(total), note)


def fit_law(
    right: ArrayLike,
    k: int | ArrayLike,
    rng: np.random.Generator,
    n_boot: int = 200,
    level: float = 0.95,
    masses: str | None = None,
) -> LawFit:
    """Maximum likelihood of the law of p_0 from right (n,) counts among k samples (a number or (n,)).

    ``masses``: "", "zero", "one" or "zero and one"; None: the model of least BIC. Few samples a prompt hardly tell a
    point mass from a Beta that piles up at the same end; the interval of a mass that BIC leaves out is that of the
    fullest model.
    """
    right, k = np.broadcast_arrays(np.asarray(right, float), np.asarray(k, float))
    right, k = right[k > 0], k[k > 0]
    if right.ndim != 1 or not len(right) or (right < 0).any() or (right > k).any():
        raise ValueError("right must hold one count in 0..k a prompt, for at least one prompt")
    if masses is not None and masses not in MASSES:
        raise ValueError(f"unknown masses {masses!r}; known: {', '.join(map(repr, MASSES))}")
    (c, n), weight = np.unique(np.stack([right, k]), axis=1, return_counts=True)
    fits = {name: _fit(c, n, weight, name) for name in (MASSES if masses is None else [masses])}
    chosen = min(fits, key=lambda name: 2 * fits[name][1] + MASSES[name] * math.log(len(right)))
    theta = fits[chosen][0]
    draws = rng.multinomial(len(right), weight / weight.sum(), size=n_boot)

    def interval(masses: str, start: np.ndarray) -> np.ndarray:
        boots = [_natural(_fit(c, n, drawn, masses, start)[0], masses) for drawn in draws]
        return np.quantile(boots, [(1 - level) / 2, (1 + level) / 2], axis=0) if n_boot else np.full((2, 5), np.nan)

    low, high = interval(chosen, theta)
    full = list(MASSES)[-1]
    for i, mass in ((2, "zero"), (3, "one")):
        if mass not in chosen and full in fits:  # left out for want of evidence, which is not evidence of none
            high[i] = interval(full, fits[full][0])[1][i]
    parts = zip(_natural(theta, chosen), map(float, low), map(float, high), strict=True)
    fit = LawFit(*(Estimate(*part, len(right)) for part in parts), misfit=math.nan, masses=chosen)
    return replace(fit, misfit=_misfit(fit, c, n, weight))


def _pmf(c, n, a, b) -> np.ndarray:
    from scipy.special import betaln, gammaln

    return np.exp(gammaln(n + 1) - gammaln(c + 1) - gammaln(n - c + 1) + betaln(c + a, n - c + b) - betaln(a, b))


def _natural(theta: np.ndarray, masses: str) -> tuple[float, ...]:
    """a, b, at_zero, at_one, mean from theta = (log a, log b, log odds of each point mass against the Beta part)."""
    a, b, *odds = np.exp(theta).tolist()
    share = {
        name: odd / (1 + sum(odds)) for name, odd in zip(masses.split(" and ") if masses else (), odds, strict=True)
    }
    zero, one = share.get("zero", 0.0), share.get("one", 0.0)
    return a, b, zero, one, one + (1 - zero - one) * a / (a + b)


def _fit(c, n, weight, masses: str, start: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """theta and the negative log likelihood at the best of a few starts (one where it is given)."""
    from scipy.optimize import minimize
    from scipy.special import digamma

    ends = [where for name, where in (("zero", c == 0), ("one", c == n)) if name in masses]

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, zero, one, _ = _natural(theta, masses)
        part = (1 - zero - one) * _pmf(c, n, a, b)
        law = part + zero * (c == 0) + one * (c == n) + 1e-300
        both = digamma(a + b) - digamma(n + a + b)
        slopes = [part * a * (digamma(c + a) - digamma(a) + both), part * b * (digamma(n - c + b) - digamma(b) + both)]
        odds = np.exp(theta[2:])
        slopes += [share * (end - law) for share, end in zip(odds / (1 + odds.sum()), ends, strict=True)]
        return -float(weight @ np.log(law)), -np.array(slopes) @ (weight / law)

    if start is None:
        mean = np.clip((weight * c).sum() / (weight * n).sum(), 0.02, 0.98)
        starts = [np.r_[np.log([s * mean, s * (1 - mean)]), [-2.0] * len(ends)] for s in (0.7, 4.0)]
    else:
        starts = [np.r_[start[:2], np.maximum(start[2:], -4)]]  # a mass near 0 has no slope to leave it by
    bounds = [(-6, 8)] * 2 + [(-12, 12)] * len(ends)
    found = [minimize(loss, s, method="L-BFGS-B", jac=True, bounds=bounds) for s in starts]
    best = min(found, key=lambda r: r.fun)
    return best.x, float(best.fun)


def _misfit(fit: LawFit, c, n, weight) -> float:
    """Pearson's chi-squared of the counts of prompts with all samples judged, cells pooled in order until each is
    expected five times; NaN if too few cells are left."""
    from scipy import stats

    k = int(n.max())
    whole = n == k
    seen = np.bincount(c[whole].astype(int), weight[whole], k + 1)
    law = fit.pmf(k) * seen.sum()
    cells, label, mass = [], 0, 0.0
    for expected in law:
        cells.append(label)
        mass += expected
        if mass >= 5:
            label, mass = label + 1, 0.0
    cells = np.minimum(cells, max(label - 1, 0))  # what is left over joins the last whole cell
    o, e = np.bincount(cells, seen), np.bincount(cells, law)
    free = len(o) - 1 - 2 - MASSES[fit.masses]
    return float(stats.chi2.sf(((o - e) ** 2 / e).sum(), free)) if free > 0 else math.nan
