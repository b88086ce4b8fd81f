"""Policies under one shared budget, by Monte Carlo: the theory on the axes of a labeling run.

A run's start is its prompts by group (level of difficulty), each group with the law of p_0 fitted to its samples.

Not covered: the chain (dynamics), which is exact where every prompt gets the same number of labels.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from boostlib.theory import maps
from boostlib.theory.distributions import Histogram
from boostlib.theory.dynamics import Dynamics

if TYPE_CHECKING:
    from boostlib.analysis.measure import LawFit


def start(
    laws: Mapping[Hashable, LawFit], sizes: Mapping[Hashable, int], prompts: int
) -> tuple[np.ndarray, np.ndarray]:
    """p_0 (prompts,) and the group of each (prompts,): groups in the proportion of ``sizes``, spread over their laws."""
    ends = np.rint(np.cumsum([sizes[group] for group in laws]) / sum(sizes[group] for group in laws) * prompts).astype(
        int
    )
    counts = np.diff(ends, prepend=0)
    parts = [maps.spread(Histogram(*law.initial(48)), n) for law, n in zip(laws.values(), counts, strict=True)]
    return np.concatenate(parts), np.repeat(np.array(list(laws), dtype=object), counts)


def by_policy(
    d: Dynamics, p0: np.ndarray, policies: Iterable[str], budgets: Sequence[float], rounds: int, seeds: int, seed: int = 0
) -> pd.DataFrame:  # fmt: skip
    """Columns policy, budget, seed, round, accuracy: mean of p_t over the prompts p0 (n,) in each run.

    ``budgets`` are labels a prompt and round, on average; every policy spends round(budget x n) a round. Runs of one
    seed share their random numbers until the policies part, so differences are to be taken by seed.
    """
    p0, frames = np.asarray(p0, dtype=float), []
    for policy in policies:
        for budget in budgets:
            labels = round(budget * len(p0))
            curves = replace(d, policy=policy).simulate(p0, rounds, seeds, seed, budget=labels)
            at = np.indices(curves.shape).reshape(2, -1)
            cell = {"policy": policy, "budget": budget, "seed": at[0], "round": at[1], "accuracy": curves.ravel()}
            frames.append(pd.DataFrame(cell))
    return pd.concat(frames, ignore_index=True)
