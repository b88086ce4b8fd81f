"""The parameters of the model, checked once, and the arms as changes to them. Their meaning: dynamics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self

import numpy as np

from boostlib.allocation import POLICIES
from boostlib.theory.chain import Round
from boostlib.theory.distributions import BetaLaw, Histogram, Initial, as_initial

#: The arms of the project as changes to one model (see `Parameters.arm`).
ARMS: dict[str, dict[str, object]] = {
    "do_nothing": {"gamma_fp": 1.0, "gamma_fn": 0.0, "m": 0, "policy": "hard"},
    "filter_only": {"m": 0, "policy": "hard"},
    "self_labeled": {"beta": "self", "policy": "hard"},
    "boosting": {"policy": "hard"},
    "uniform": {"policy": "uniform"},
    "labels_only": {"policy": "uniform", "alpha": 1.0, "weak_data": "all"},
}


@dataclass(frozen=True)
class Parameters:
    """One setting of the model; ValueError names what is out of range, and the range."""

    k: int = 8
    beta: float | str | Sequence[float] = 0.2
    gamma_fp: float = 0.05
    gamma_fn: float = 0.05
    alpha: float | None = 1 / 3
    m: int = 8
    eta: float = 0.0
    policy: str = "hard"
    weak_data: str = "A"
    mixture: str = "pool"

    def __post_init__(self) -> None:
        check_whole(1, k=self.k)
        check_whole(0, m=self.m)
        check_chance(gamma_fp=self.gamma_fp, gamma_fn=self.gamma_fn, alpha=0 if self.alpha is None else self.alpha)
        if not 0 <= self.eta < 1:
            raise ValueError(f"eta = {self.eta!r} is outside [0, 1).")
        check_known(("A", "all"), weak_data=self.weak_data)
        check_known(("pool", "prompt"), mixture=self.mixture)
        check_known(POLICIES, policy=self.policy)
        if isinstance(self.beta, str) and self.beta in ("p0", "self"):
            return
        beta = np.array([] if isinstance(self.beta, str) else self.beta, float)
        if beta.ndim > 1 or beta.size == 0 or self.m > 0 and not ((beta > 0) & (beta <= 1)).all():
            raise ValueError(f"beta = {self.beta!r}: give 'p0' or 'self', or numbers in (0, 1] (any where m = 0).")
        object.__setattr__(self, "beta", float(beta) if beta.ndim == 0 else tuple(beta.tolist()))

    def arm(self, name: str) -> Self:
        """The same model run as another arm: do_nothing, filter_only, self_labeled, boosting, uniform, labels_only."""
        check_known(ARMS, arm=name)
        return replace(self, **ARMS[name])

    def noisy(self, gamma: float) -> Self:
        """The same model behind a filter that errs with rate gamma both ways."""
        return replace(self, gamma_fp=float(gamma), gamma_fn=float(gamma))

    def settings(self) -> dict[str, object]:
        """The parameters as a plain dict, for tables and manifests."""
        return asdict(self)

    def labeler(self, p0: Initial, p: np.ndarray) -> np.ndarray:
        """The labeler's chance of a right answer at each value p (n,) of p0, shape (n,); for "self" a placeholder 0."""
        if isinstance(self.beta, str):
            return p if self.beta == "p0" else np.zeros(p.size)
        law = isinstance(as_initial(p0), BetaLaw | Histogram)
        if np.ndim(self.beta) and (law or len(self.beta) != p.size):
            prompts = "a law of prompts" if law else f"{p.size} prompts"
            raise ValueError(f"beta has {len(self.beta)} values for {prompts}; give one value of p0 for each.")
        return np.broadcast_to(self.beta, p.shape)

    def round(self, keep: np.ndarray, labeler: np.ndarray | None) -> Round:
        """One round for the chain: the chance that the filter keeps each kind of response, and the law of a label."""
        if self.policy not in ("hard", "uniform"):
            raise ValueError(f"policy {self.policy!r} shares a budget, which the chain can't hold; use simulate.")
        everyone, pooled = self.policy == "uniform", self.mixture == "pool"
        m, keep_labels = 0 if self.alpha == 0 else self.m, keep if self.weak_data == "A" else np.ones(keep.size)
        return Round(self.k, m, keep, keep_labels, labeler, self.eta, self.alpha, everyone, pooled)


def check_whole(least: int, **named: int) -> None:
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} = {value!r}: give a whole number of at least {least}.")


def check_chance(**named: float) -> None:
    for name, value in named.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} = {value!r} is outside [0, 1].")


def check_known(known: Iterable[str], **named: str) -> None:
    for name, value in named.items():
        if value not in known:
            listed = " and ".join(", ".join(map(repr, known)).rsplit(", ", 1))
            raise ValueError(f"{name} = {value!r}; known are {listed}.")
