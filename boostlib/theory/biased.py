"""A biased filter: it always accepts one family of wrong responses. The same chain with three kinds of responses.

arXiv 2510.16657: with an imperfect verifier a model ends at the verifier's "knowledge centre". Here that is the family:
samples of it enter S+ and hide the prompt from the labeler. Not covered: Monte Carlo, several families."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from boostlib.theory import chain
from boostlib.theory.parameters import Parameters, check_chance, check_whole


@dataclass(frozen=True)
class BiasedFilter(Parameters):
    """Kinds of responses: right, in the family, other wrong; p_0 and results are laws over these three.

    A right response is accepted with chance 1 - ``gamma_fn``, one of the family with ``believed`` (1: always), another
    wrong one with ``gamma_fp``. A label is right with chance ``beta``, a number, and in the family with
    ``beta_family``. ``eta`` moves mass to other wrong ones. The rest: `Dynamics`, for policies "hard" and "uniform"."""

    gamma_fp: float = 0.0
    gamma_fn: float = 0.0
    mixture: str = "prompt"
    beta_family: float = 0.0
    believed: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_chance(believed=self.believed, beta_family=self.beta_family)
        if not isinstance(self.beta, float) or self.m > 0 and self.beta > 1 - self.beta_family:
            raise ValueError(f"beta = {self.beta!r} is outside (0, 1 - beta_family] = (0, {1 - self.beta_family:g}].")

    def exact(self, p0: Sequence[Sequence[float]] | Sequence[float], rounds: int) -> np.ndarray:
        """Mean law over the three kinds, shape (rounds + 1, 3). p0: one law (3,), or one a prompt (n, 3)."""
        check_whole(0, rounds=rounds)
        p = np.atleast_2d(np.asarray(p0, float))
        if p.shape[1] != 3 or (p < 0).any() or not np.allclose(p.sum(1), 1, rtol=0, atol=1e-9):
            raise ValueError("p0: give laws over (right, family, other wrong), each at least 0 and summing to 1.")
        keep = np.array([1 - self.gamma_fn, self.believed, self.gamma_fp])
        labeler = np.array([[self.beta, self.beta_family, 1 - self.beta - self.beta_family]])
        run = chain.run(self.round(keep, labeler), p, np.full((1, len(p)), 1 / len(p)), rounds)
        return np.array([sum(mass[0] @ laws for laws, mass in parts) for parts in run])
