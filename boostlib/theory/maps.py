"""Questions asked of many settings at once: a data frame for each figure of the theory.

Not covered: drawing (plots).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from boostlib.theory.distributions import Beta, Histogram, Initial, atoms
from boostlib.theory.dynamics import ARMS, Dynamics


def with_hopeless(share: float, rest: Beta, nodes: int = 123) -> Histogram:
    """A p_0 with a ``share`` of prompts at exactly 0 and the others ~ ``rest``, by Gauss-Jacobi nodes: exact for
    polynomials in p_0 of degree up to 2 nodes - 1."""
    p, w = atoms(rest, 2 * nodes - 2)
    return Histogram([0.0, *p], [share, *(1 - share) * w])


def spread(p0: Histogram, prompts: int) -> np.ndarray:
    """``prompts`` values of p_0 with the shares of the histogram as nearly as whole numbers can, ascending in its order."""
    ends = np.rint(np.cumsum(p0.weights) * prompts).astype(int)
    return np.repeat(p0.values, np.diff(ends, prepend=0))


def noisy(d: Dynamics, gamma: float) -> Dynamics:
    """The same dynamics behind a filter that errs with rate gamma both ways."""
    return replace(d, gamma_fp=float(gamma), gamma_fn=float(gamma))


def by_arm(d: Dynamics, p0: Initial, rounds: int, seeds: int, prompts: int, seed: int = 0) -> pd.DataFrame:
    """Columns arm, round, exact, low, high: E[p_t], and the middle 95% of single runs over ``prompts`` prompts."""
    frames = []
    for arm in ARMS:
        x = d.arm(arm)
        low, high = np.quantile(x.simulate(p0, rounds, seeds, seed, prompts=prompts), [0.025, 0.975], axis=0)
        t = np.arange(rounds + 1)
        frames.append(pd.DataFrame({"arm": arm, "round": t, "exact": x.exact(p0, rounds), "low": low, "high": high}))
    return pd.concat(frames, ignore_index=True)


def rounds_to_error(
    d: Dynamics, eps: float, betas: Sequence[float], gammas: Iterable[float], most: int
) -> pd.DataFrame:
    """Columns gamma, beta, exact, bound: rounds from p_0 = 0 until E[1 - p_t] <= eps (inf: not in ``most`` rounds)."""
    rows = []
    for gamma in gammas:
        x = noisy(d, gamma)
        error = 1 - x.exact_over_beta(betas, 0.0, most)
        for beta, e in zip(betas, error, strict=True):
            there = e <= eps * (1 + 1e-9)  # 1 - 0.9 squared rounds above 0.01
            exact = float(np.argmax(there)) if there.any() else np.inf
            rows.append((gamma, beta, exact, replace(x, beta=float(beta)).bound(eps)))
    return pd.DataFrame(rows, columns=["gamma", "beta", "exact", "bound"])


def phase_diagram(
    d: Dynamics, betas: np.ndarray, gammas: np.ndarray, p0: Initial, rounds: int
) -> dict[str, np.ndarray]:
    """E[p_T] by arm, shape (gammas, betas). Filter only and do nothing do not depend on beta, do nothing not on gamma."""
    maps: dict[str, list[np.ndarray]] = {"do_nothing": [], "filter_only": [], "boosting": []}
    nothing = d.arm("do_nothing").exact(p0, rounds)[-1]
    for gamma in gammas:
        x = noisy(d, gamma)
        maps["boosting"].append(x.exact_over_beta(betas, p0, rounds)[:, -1])
        maps["filter_only"].append(np.full(len(betas), x.arm("filter_only").exact(p0, rounds)[-1]))
        maps["do_nothing"].append(np.full(len(betas), nothing))
    return {arm: np.array(rows) for arm, rows in maps.items()}


def over_samples(
    d: Dynamics, ks: Sequence[int], gammas: Sequence[float], p0: Initial, horizons: Sequence[int]
) -> pd.DataFrame:
    """Columns gamma, k, round, accuracy: E[p_t] at each horizon for k samples a prompt."""
    rows = []
    for gamma in gammas:
        for k in ks:
            curve = noisy(replace(d, k=int(k)), gamma).exact(p0, max(horizons))
            rows += [(gamma, k, t, curve[t]) for t in horizons]
    return pd.DataFrame(rows, columns=["gamma", "k", "round", "accuracy"])


def what_limits(
    d: Dynamics, gammas: Sequence[float], etas: Sequence[float], p0: Initial, rounds: int
) -> dict[str, np.ndarray]:
    """The three parts of the error after ``rounds`` rounds, each (etas, gammas); see `Dynamics.losses`."""
    parts: dict[str, list[list[float]]] = {"waiting": [], "misled": [], "learner": []}
    for eta in etas:
        splits = [noisy(replace(d, eta=float(eta)), gamma).losses(p0, rounds) for gamma in gammas]
        for name, rows in parts.items():
            rows.append([split[name][-1] for split in splits])
    return {name: np.array(rows) for name, rows in parts.items()}


def hard_minus_uniform(
    d: Dynamics, betas: Sequence[float], gammas: Sequence[float], p0: Initial, horizons: Sequence[int],
    seeds: int, prompts: int, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Columns beta, gamma, round, gain, error: accuracy with m x prompts labels a round spent on P- alone, less that with
    them spread over all prompts, and its standard error over seeds (runs are paired by seed: the same p_0)."""
    rows = []
    for gamma in gammas:
        for beta in betas:
            x, curves = noisy(replace(d, beta=float(beta)), gamma), {}
            for policy in ("hard", "uniform"):
                run = replace(x, policy=policy)
                curves[policy] = run.simulate(p0, max(horizons), seeds, seed, prompts=prompts, budget=d.m * prompts)
            gain = curves["hard"] - curves["uniform"]
            for t in horizons:
                rows.append((beta, gamma, t, gain[:, t].mean(), gain[:, t].std(ddof=1) / np.sqrt(seeds)))
    return pd.DataFrame(rows, columns=["beta", "gamma", "round", "gain", "error"])


def least_beta(
    d: Dynamics, betas: np.ndarray, gammas: Sequence[float], etas: Sequence[float], p0: Initial, rounds: int
) -> np.ndarray:
    """The least of ``betas`` (ascending) from which on E[p_t] never falls in ``rounds`` rounds, shape (etas, gammas);
    nan: none of them is enough."""
    found = np.full((len(etas), len(gammas)), np.nan)
    for i, eta in enumerate(etas):
        for j, gamma in enumerate(gammas):
            curves = noisy(replace(d, eta=float(eta)), gamma).exact_over_beta(betas, p0, rounds)
            rises = (np.diff(curves, axis=1) >= -1e-9).all(1)
            enough = np.logical_and.accumulate(rises[::-1])[::-1]  # this beta and every larger one
            if enough.any():
                found[i, j] = betas[np.argmax(enough)]
    return found
