"""A biased filter: it always accepts one family of wrong responses. The same chain with three kinds of responses.

arXiv 2510.16657 shows that with an imperfect verifier a model ends at the verifier's "knowledge centre". Here that is
the family: the filter takes it for right, so samples of it enter S+ and hide the prompt from the labeler.

Not covered: Monte Carlo, a shared budget, several families.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from boostlib.theory.chain import Round, forward
from boostlib.theory.mixed import forward_mixed


@dataclass(frozen=True)
class BiasedFilter:
    """Kinds of responses: right, in the family, other wrong; p_0 and results are laws over these three.

    A right response is accepted with chance 1 - ``gamma_fn``, one of the family with ``believed`` (1: always), another wrong
    one with ``gamma_fp``. With policy "hard" a failed prompt gets ``m`` labels, with "uniform" every prompt (S+ at weight
    1 - ``alpha``, D at ``alpha``, prompt by prompt); a label is right with chance ``beta``, in the family with
    ``beta_family``. Learner error ``eta`` moves mass to other wrong responses.
    """

    k: int = 8
    beta: float = 0.2
    beta_family: float = 0.0
    gamma_fp: float = 0.0
    gamma_fn: float = 0.0
    believed: float = 1.0
    m: int = 8
    eta: float = 0.0
    alpha: float = 1 / 3
    policy: str = "hard"
    weak_data: str = "A"

    def __post_init__(self) -> None:
        for name, least in (("k", 1), ("m", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)}: give a whole number of at least {least}.")
        for name in ("gamma_fp", "gamma_fn", "believed", "beta_family", "alpha"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} is outside [0, 1].")
        if not 0 <= self.eta < 1:
            raise ValueError(f"eta = {self.eta} is outside [0, 1).")
        if self.m > 0 and not 0 < self.beta <= 1 - self.beta_family:
            raise ValueError(f"beta = {self.beta} is outside (0, 1 - beta_family] = (0, {1 - self.beta_family:g}].")
        if self.policy not in ("hard", "uniform"):
            raise ValueError(f"policy = {self.policy!r}; known are 'hard' and 'uniform'.")
        if self.weak_data not in ("A", "all"):
            raise ValueError(f"weak_data = {self.weak_data!r}; known are 'A' and 'all'.")

    def exact(self, p0: Sequence[Sequence[float]] | Sequence[float], rounds: int) -> np.ndarray:
        """Mean law over the three kinds, shape (rounds + 1, 3). p0: one law (3,), or one a prompt (n, 3)."""
        p = np.atleast_2d(np.asarray(p0, float))
        if p.shape[1] != 3 or (p < 0).any() or not np.allclose(p.sum(1), 1, rtol=0, atol=1e-9):
            raise ValueError("p0: give laws over (right, family, other wrong), each at least 0 and summing to 1.")
        rnd = Round(
            k=self.k,
            m=self.m,
            keep=np.array([1 - self.gamma_fn, self.believed, self.gamma_fp]),
            labeler=np.array([[self.beta, self.beta_family, 1 - self.beta - self.beta_family]]),
            filter_labels=self.weak_data == "A",
            eta=self.eta,
        )
        start = rnd, p, np.full(len(p), 1 / len(p)), np.zeros(len(p), int), rounds
        if self.policy == "uniform" and self.m > 0:
            return np.array([mass[0] @ laws for laws, mass in forward_mixed(*start, self.alpha, pooled=False)])
        mean = []
        for laws, atom, states, mass in forward(*start):
            mean.append(atom @ laws + mass.ravel() @ np.broadcast_to(states, (*mass.shape[1:], 3)).reshape(-1, 3))
        return np.array(mean)
