"""What a run says about the theory: beta, gamma_fp, gamma_fn and the distribution of p_0, and what a round does to prompts.

beta is the right share of labeler answers on P-; the gammas compare the filter's decisions with the true quality; p_0 is
a beta-binomial fit to right counts among k samples, with point masses at 0 and 1 where the counts ask for them. `counts`
and `moves` are small enough to be recorded, so that the theory can be held against a run whose folders are gone.

Not covered: the prediction itself (predict).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import minimize
from scipy.special import betaln, digamma, gammaln

from boostlib import runs
from boostlib.analysis.intervals import LEVEL, Estimate, rate
from boostlib.boosting import many
from boostlib.theory import distributions as laws

MASSES = {"": 0, "zero": 1, "one": 1, "zero and one": 2}  # models of p_0 by their point masses, with their number
#: what a prompt had to learn from in a round -> whether it had samples of its own, and labels
DATA = {"own samples": (True, False), "labels": (False, True), "both": (True, True), "none": (False, False)}


@dataclass(frozen=True)
class LawFit:
    """p_0 ~ at_zero at 0, at_one at 1, the rest Beta(a, b); mean: E[p_0]. Intervals: percentile bootstrap over prompts.
    misfit: p value of a chi-squared test of the counts. masses: the point masses that are in."""

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


def table_of(folders: Iterable[str | Path]) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """The rows of finished rounds, as ``boost`` gives them, and the settings by arm, from run folders: those of arms
    (they hold manifest.json) or of single seeds. Raises ValueError where a folder is neither, or of another task or model.
    """
    rows, settings, common = [], {}, None
    for given in map(Path, folders):
        arm = given if (given / "manifest.json").exists() else given.parent
        if not (arm / "manifest.json").exists():
            raise ValueError(f"{given} is no run: give folders like runs/<task>-<model>/<arm>-<hash>, or seeds in them")
        identity = runs.read_json(arm / "manifest.json")["identity"]
        name, own = identity.pop("arm", None), identity.pop("settings", None)
        if name is None or settings.setdefault(name, own) != own or (common or identity) != identity:
            raise ValueError(f"{given} belongs to another run than those before it: give arms of one task and model")
        common = identity
        for seed in sorted(arm.glob("seed-*")) if given == arm else [given]:
            done = [p for file in ("round.json", "final.json") for p in seed.glob(f"round-*/{file}")]
            read = sorted(map(runs.read_json, done), key=lambda row: row["round"])
            rows += [row | {"arm": name, "folder": str(seed), "base": str(seed)} for row in read]
    if not rows:
        raise ValueError("no finished round in these folders")
    return pd.DataFrame(rows).drop_duplicates(["arm", "seed", "round"]), settings


def responses(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """`many.read` (test, verdicts, labels, examples): arm, seed, round, id, and of status, accepted, source and weight those
    that it has. No round: no row."""
    rows = many.read(table, name) if len(table) else pd.DataFrame({"id": pd.Series(dtype=str)})
    rows = rows.reindex(columns=["arm", "seed", "round", "id", "status", "accepted", "source", "weight"])
    return rows.assign(accepted=rows["accepted"] == True)  # noqa: E712 - objects, and nothing where it has none


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """All that `calibrate` needs, arm by arm, from `boost`'s table: columns arm, what (p0, beta, gamma_fp, gamma_fn),
    trials, hits and prompts, how many prompts have that many trials and hits. Round 0 alone, so that whatever comes after
    it is predicted; seeds pooled, all answers to a prompt being one cluster."""
    arms = table[table["round"] == 0].groupby("arm", sort=False)
    parts = {a: tally(responses(t, "verdicts"), responses(t[t["labels"] > 0], "labels")) for a, t in arms}
    return pd.concat(parts, names=["arm"]).reset_index("arm").reset_index(drop=True)


def tally(samples: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """`counts` of one arm, from its `responses`."""
    right, wrong = samples["status"] == "pass", ~samples["status"].isin(["pass", "error"])
    solved = samples.loc[samples["accepted"], ["seed", "id"]].drop_duplicates()
    asked = labels.merge(solved, how="left", indicator=True).query("_merge == 'left_only' and status != 'error'")
    found = {
        "p0": (samples, right | wrong, right),
        "beta": (asked, asked["status"] != "error", asked["status"] == "pass"),
        "gamma_fp": (samples, wrong, wrong & samples["accepted"]),
        "gamma_fn": (samples, right, right & ~samples["accepted"]),
    }
    ids, tables = samples["id"].unique(), []
    for what, (rows, trials, hits) in found.items():
        sums = pd.DataFrame({"trials": trials, "hits": hits}).groupby(rows["id"]).sum()
        tables.append(sums.reindex(ids, fill_value=0).assign(what=what))
    same = pd.concat(tables).groupby(["what", "trials", "hits"], sort=False)
    return same.size().rename("prompts").reset_index()


def moves(table: pd.DataFrame) -> pd.DataFrame:
    """What one round of training does to prompts by the data that they had in it. Columns arm, seed, round (t), data (of
    `DATA`), prompts, share (right share of their data, mean over prompts), before and after (right share of the
    samples of f_t and f_{t+1})."""
    rows = []
    for (arm, seed), run in table.groupby(["arm", "seed"], sort=False):
        last = int(run["round"].max())
        samples, labels = responses(run, "verdicts"), responses(run[run["labels"] > 0], "labels")
        examples = responses(run[run["round"] < last], "examples")
        size = partial(_size, ids=samples["id"].unique(), rounds=range(last + 1))
        known, right = samples[samples["status"] != "error"], samples[samples["status"] == "pass"]
        accuracy = size(right) / np.maximum(size(known), 1)
        used = examples[examples["weight"] > 0]
        own, labeled = (size(used[used["source"] == source]) > 0 for source in ("S+", "D"))
        kept, kept_labels = samples[samples["accepted"]], labels[labels["accepted"]]
        good, good_labels = (part[part["status"] == "pass"] for part in (kept, kept_labels))
        with np.errstate(invalid="ignore"):  # no data, no share
            share = (own * size(good) + labeled * size(good_labels)) / (own * size(kept) + labeled * size(kept_labels))
        for t, (data, (with_own, with_labels)) in itertools.product(range(last), DATA.items()):
            of = (own[:, t] == with_own) & (labeled[:, t] == with_labels)
            if of.any():
                of_data = np.nan if data == "none" else np.nanmean(share[of, t])
                before, after = accuracy[of, t].mean(), accuracy[of, t + 1].mean()
                rows.append((arm, seed, t, data, int(of.sum()), of_data, before, after))
    return pd.DataFrame(rows, columns=["arm", "seed", "round", "data", "prompts", "share", "before", "after"])


def _size(rows: pd.DataFrame, ids: np.ndarray, rounds: range) -> np.ndarray:
    """(prompts, rounds) how many of the rows, which are responses."""
    found = pd.crosstab(rows["id"], rows["round"])
    return found.reindex(index=ids, columns=rounds, fill_value=0).to_numpy(float)


def calibrate(counts: pd.DataFrame, rng: np.random.Generator, n_boot: int = 200) -> Calibration:
    """The theory's inputs from the `counts` of one arm; ``n_boot`` resamples of prompts for the intervals of p_0."""

    def by_prompt(what: str) -> list[np.ndarray]:
        part = counts[counts["what"] == what]
        return [np.repeat(part[column].to_numpy(), part["prompts"]) for column in ("hits", "trials")]

    rates = {what: rate(*by_prompt(what)) for what in ("beta", "gamma_fp", "gamma_fn")}
    return Calibration(**rates, law=fit_law(*by_prompt("p0"), rng, n_boot))


def fit_law(
    right: ArrayLike, k: int | ArrayLike, rng: np.random.Generator, n_boot: int = 200, masses: str | None = None
) -> LawFit:
    """Maximum likelihood of the law of p_0 from right (n,) counts among k samples (a number or (n,)).

    ``masses``: "", "zero", "one" or "zero and one"; None: the model of least BIC. Few samples a prompt hardly tell a point
    mass from a Beta that piles up there; the interval of a mass that BIC leaves out is that of the fullest model."""
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
        return np.quantile(boots, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0) if n_boot else np.full((2, 5), np.nan)

    low, high = interval(chosen, theta)
    for i, mass in ((2, "zero"), (3, "one")):
        if mass not in chosen and masses is None:  # left out for want of evidence, which is not evidence of none
            high[i] = interval("zero and one", fits["zero and one"][0])[1][i]
    parts = zip(_natural(theta, chosen), map(float, low), map(float, high), strict=True)
    fit = LawFit(*(Estimate(*part, len(right)) for part in parts), misfit=math.nan, masses=chosen)
    return replace(fit, misfit=_misfit(fit, c, n, weight))


def _pmf(c, n, a, b) -> np.ndarray:
    """Beta-binomial: as scipy's betabinom, with which a fit takes a third longer and ends in other last digits."""
    return np.exp(gammaln(n + 1) - gammaln(c + 1) - gammaln(n - c + 1) + betaln(c + a, n - c + b) - betaln(a, b))


def _natural(theta: np.ndarray, masses: str) -> tuple[float, ...]:
    """a, b, at_zero, at_one, mean from theta = (log a, log b, log odds of each point mass against the Beta part)."""
    a, b, *odds = np.exp(theta).tolist()
    share = dict(zip(masses.split(" and "), (odd / (1 + sum(odds)) for odd in odds), strict=False))
    zero, one = share.get("zero", 0.0), share.get("one", 0.0)
    return a, b, zero, one, one + (1 - zero - one) * a / (a + b)


def _fit(c, n, weight, masses: str, start: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """theta and the negative log likelihood at the best of a few starts (one where it is given)."""
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

    mean = np.clip((weight * c).sum() / (weight * n).sum(), 0.02, 0.98)
    starts = [np.r_[np.log([s * mean, s * (1 - mean)]), [-2.0] * len(ends)] for s in (0.7, 4.0)]
    if start is not None:  # a mass near 0 has no slope to leave it by
        starts = [np.r_[start[:2], np.maximum(start[2:], -4)]]
    bounds = [(-6, 8)] * 2 + [(-12, 12)] * len(ends)
    found = [minimize(loss, s, method="L-BFGS-B", jac=True, bounds=bounds) for s in starts]
    best = min(found, key=lambda r: r.fun)
    return best.x, float(best.fun)


def _misfit(fit: LawFit, c, n, weight) -> float:
    """Pearson's chi-squared of the counts of prompts with all samples judged, cells pooled in order until each is expected
    five times; NaN if too few cells are left."""
    k = int(n.max())
    seen = np.bincount(c[n == k].astype(int), weight[n == k], k + 1)
    law, cells, mass = fit.pmf(k) * seen.sum(), [0], 0.0
    for expected in law:
        mass += expected
        cells.append(cells[-1] + (mass >= 5))
        mass = 0.0 if mass >= 5 else mass
    cells = np.minimum(cells[:-1], max(cells[-1] - 1, 0))  # what is left over joins the last whole cell
    o, e = np.bincount(cells, seen), np.bincount(cells, law)
    free = len(o) - 1 - 2 - MASSES[fit.masses]
    return float(stats.chi2.sf(((o - e) ** 2 / e).sum(), free)) if free > 0 else math.nan
