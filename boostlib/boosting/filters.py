"""The gamma-noisy filter: the verdict of a quality function, wrong at known rates (paper, section 2).

Not covered: biased filters that accept a family of wrong answers always (give `boost` a callable for that).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NoisyFilter:
    """Accepts a wrong response with chance ``gamma_fp`` and rejects a right one with chance ``gamma_fn``, each response by itself.

    ``gamma_fp = gamma_fn = gamma < 1/2`` is the paper's filter, ``NoisyFilter(1, 0)`` accepts everything.
    """

    gamma_fp: float = 0.0
    gamma_fn: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gamma_fp", "gamma_fn"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} is outside [0, 1]")

    def accept(self, right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """``right``: bool array of any shape, the true quality; the answer has its shape."""
        right = np.asarray(right, dtype=bool)
        return np.where(right, rng.random(right.shape) >= self.gamma_fn, rng.random(right.shape) < self.gamma_fp)
