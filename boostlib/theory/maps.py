"""Questions asked of many settings at once: a data frame for each figure of the theory. Not covered: drawing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from boostlib.theory.distributions import BetaLaw, Histogram, Initial, support
from boostlib.theory.dynamics import Dynamics
from boostlib.theory.parameters import ARMS


def with_hopeless(share: float, rest: BetaLaw, nodes: int = 123) -> Histogram:
    """``share`` of the prompts at exactly 0, the others ~ ``rest``; exact for polynomials up to degree 2 nodes - 1."""
    p, w = support(rest, 2 * nodes - 2)
    return Histogram([0.0, *p], [share, *(1 - share) * w])


def spread(p0: Histogram, prompts: int) -> np.ndarray:
    """``prompts`` values of p_0 with the shares of the histogram as nearly as whole numbers can."""
    ends = np.rint(np.cumsum(p0.weights) * prompts).astype(int)
    return np.repeat(p0.values, np.diff(ends, prepend=0))


def spread_groups(laws: Mapping, sizes: Mapping, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """p_0 (prompts,) and the group of each (prompts,): groups in the proportion of ``sizes``, each spread over its
    law, a Histogram."""
    upto = np.cumsum([sizes[group] for group in laws])
    counts = np.diff(np.rint(upto / upto[-1] * prompts).astype(int), prepend=0)
    p0 = np.concatenate([spread(law, n) for law, n in zip(laws.values(), counts, strict=True)])
    return p0, np.repeat(np.array(list(laws), dtype=object), counts)


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
        x = d.noisy(gamma)
        error = 1 - x.exact_over_beta(betas, 0.0, most)
        for beta, e in zip(betas, error, strict=True):
            exact = next((float(t) for t in range(most + 1) if e[t] <= eps * (1 + 1e-9)), np.inf)  # 1 - 0.9^2 > 0.01
            rows.append((gamma, beta, exact, replace(x, beta=float(beta)).bound(eps)))
    return pd.DataFrame(rows, columns=["gamma", "beta", "exact", "bound"])


def phase_diagram(d: Dynamics, betas: Sequence, gammas: Sequence, p0: Initial, rounds: int) -> dict[str, np.ndarray]:
    """E[p_T] by arm, shape (gammas, betas). Filter only does not depend on beta, do nothing on gamma either."""
    boosting = np.array([d.noisy(gamma).exact_over_beta(betas, p0, rounds)[:, -1] for gamma in gammas])
    filter_only = [d.noisy(gamma).arm("filter_only").exact(p0, rounds)[-1:] for gamma in gammas]
    do_nothing = d.arm("do_nothing").exact(p0, rounds)[-1]
    flat = {"do_nothing": do_nothing, "filter_only": filter_only}
    return {arm: np.broadcast_to(value, boosting.shape) for arm, value in flat.items()} | {"boosting": boosting}


def by_policy(
    d: Dynamics, p0: np.ndarray, policies: Iterable[str], budgets: Sequence[float], rounds: int, seeds: int, seed: int = 0
) -> pd.DataFrame:  # fmt: skip
    """Columns policy, budget, seed, round, accuracy: mean of p_t over the prompts p0 (n,) in each run. A policy spends
    round(budget x n) labels a round. Runs of one seed share their random numbers until the policies part, so
    differences are to be taken by seed."""
    p0, frames = np.asarray(p0, dtype=float), []
    for policy, budget in product(policies, budgets):
        curves = replace(d, policy=policy).simulate(p0, rounds, seeds, seed, budget=round(budget * len(p0)))
        at = np.indices(curves.shape).reshape(2, -1)
        cell = {"policy": policy, "budget": budget, "seed": at[0], "round": at[1], "accuracy": curves.ravel()}
        frames.append(pd.DataFrame(cell))
    return pd.concat(frames, ignore_index=True)
