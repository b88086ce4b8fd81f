"""Laws of p: how the chance of a right response is spread over prompts, before and during a run. Not covered: how a
law changes in a round (chain), and fitting one to samples (analysis.measure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class BetaLaw:
    """p_0 ~ Beta(a, b) over prompts, a and b > 0; its mean is a / (a + b)."""

    a: float
    b: float

    def __post_init__(self) -> None:
        if not (self.a > 0 and self.b > 0 and np.isfinite(self.a + self.b)):
            raise ValueError(f"BetaLaw(a={self.a}, b={self.b}): both parameters must be finite and above 0.")

    def draw(self, prompts: int, rng: np.random.Generator) -> np.ndarray:
        return rng.beta(self.a, self.b, prompts)


@dataclass(frozen=True)
class Histogram:
    """p_0 takes ``values[i]`` with probability proportional to ``weights[i]``."""

    values: tuple[float, ...]
    weights: tuple[float, ...]

    def __init__(self, values: Sequence[float], weights: Sequence[float]) -> None:
        v, w = np.atleast_1d(np.asarray(values, float)), np.atleast_1d(np.asarray(weights, float))
        if v.shape != w.shape or v.ndim != 1 or not ((w >= 0).all() and 0 < w.sum() < np.inf):
            raise ValueError("Histogram: give one weight a value, finite, at least 0 and not all 0.")
        object.__setattr__(self, "values", tuple(_chances(v).tolist()))
        object.__setattr__(self, "weights", tuple((w / w.sum()).tolist()))

    def draw(self, prompts: int, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(self.values, prompts, p=self.weights)


#: What every method takes as p_0: a number, one value a prompt, a BetaLaw, or a Histogram.
Initial = float | Sequence[float] | np.ndarray | BetaLaw | Histogram


def _chances(p: np.ndarray) -> np.ndarray:
    bad = ~((p >= 0) & (p <= 1))
    if p.size == 0 or bad.any():
        has = f"{p[bad][0]} at position {np.argmax(bad)}" if p.size else "no value"
        raise ValueError(f"p0 has {has}; give at least one value, each in [0, 1].")
    return p


def as_initial(p0: Initial) -> np.ndarray | BetaLaw | Histogram:
    """The checked p_0: BetaLaw and Histogram as they are, a pair of sequences as a Histogram, the rest 1-d."""
    if isinstance(p0, BetaLaw | Histogram):
        return p0
    if isinstance(p0, tuple) and len(p0) == 2 and all(np.ndim(part) == 1 for part in p0):
        return Histogram(*p0)
    p = np.atleast_1d(np.asarray(p0, float))
    if p.ndim != 1:
        raise ValueError(f"p0 has shape {p.shape}; give one value a prompt, a BetaLaw or a Histogram.")
    return _chances(p)


@lru_cache(maxsize=64)
def _jacobi(nodes: int, a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    # Golub-Welsch on [0, 1]; scipy's roots_jacobi loses four digits at these sizes where a or b is small
    from scipy.linalg import eigh_tridiagonal

    i = np.arange(1.0, nodes)
    c = a + b + 2 * i
    middle = np.concatenate([[a / (a + b)], 0.5 + 0.5 * (a - b) * (a + b - 2) / (c * (c - 2))])
    i, c = i[1:], c[1:]  # the general form is 0 / 0 at i = 1 for a + b = 1
    square = i * (a + i - 1) * (b + i - 1) * (a + b + i - 2) / ((c - 1) * (c - 2) ** 2 * (c - 3))
    square = np.concatenate([[a * b / ((a + b) ** 2 * (a + b + 1))], square])[: nodes - 1]
    p, vectors = eigh_tridiagonal(middle, np.sqrt(square))
    w = vectors[0] ** 2
    return p.clip(0, 1), w / w.sum()


def support(p0: Initial, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Values (n,) of p_0 and their weights (n,), which integrate polynomials in p_0 up to ``degree`` exactly
    (Gauss-Jacobi nodes for a BetaLaw): E[p_t] is one, so enough of them make it exact."""
    p = as_initial(p0)
    if isinstance(p, BetaLaw):
        return _jacobi(degree // 2 + 1, p.a, p.b)
    if isinstance(p, Histogram):
        return np.array(p.values), np.array(p.weights)
    return p, np.full(p.size, 1 / p.size)


@dataclass(frozen=True)
class Law:
    """The law of p_t for t = 0..rounds: ``values`` (s,) ascending; ``mass`` (rounds + 1, s), each row sums to 1. For a
    BetaLaw p_0 the values that no data has reached yet stand at quadrature nodes: exact in moments, not in place."""

    values: np.ndarray
    mass: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """E[p_t], shape (rounds + 1,)."""
        return self.mass @ self.values

    def pass_at(self, k: int) -> np.ndarray:
        """E[1 - (1 - p_t)^k], the chance that at least one of k responses is right, shape (rounds + 1,)."""
        return self.mass @ (1 - (1 - self.values) ** k)

    def share(self, low: float, high: float | None = None) -> np.ndarray:
        """The share of prompts with p_t = ``low``, or in [low, high]; shape (rounds + 1,)."""
        inside = (self.values >= low) & (self.values <= (low if high is None else high))
        return self.mass[:, inside].sum(1)
