"""Policies under one shared budget, by Monte Carlo: the theory on the axes of a labeling run.

Not covered: the chain (dynamics), which is exact where every prompt gets the same number of labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from boostlib.theory.dynamics import Dynamics


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
