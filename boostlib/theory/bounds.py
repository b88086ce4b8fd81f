"""Rounds to error eps: a bound derived for our model under policy `hard`, and the two envelopes of the curve.

With g = gamma_fn, h = gamma_fp, s(p) = p (1 - g) + (1 - p) h the chance that a sample is accepted, z(p) = (1 - s)^k
that of P-, and w(p) the expected wrong share after the labels of a P- prompt,

    err(p) = E[1 - p_{t+1} | p_t = p] = (1 - p) h (1 - z) / s + z w(p).

For g + h <= 1 it is convex and decreasing, hence below its chord: with lam = err(0) - err(1), e_t = E[1 - p_t] obeys
e_{t+1} <= err(1) + lam e_t, and so e_t <= floor + lam^t (e_0 - floor). By Jensen e_{t+1} >= err(1 - e_t), so iterating
err from e_0 is a lower bound. eta turns err into eta + (1 - eta) err. The proof step by step: notebook 01. Not covered:
other policies, filters worse than chance (g + h > 1), a prompt-dependent beta."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from boostlib.theory.parameters import Parameters, check_chance


def expected_error(d: Parameters, p: np.ndarray) -> np.ndarray:
    """err(p) = E[1 - p_{t+1} | p_t = p], in closed form, for policy "hard" and one beta (or "self")."""
    p = np.asarray(p, float)
    s = p * (1 - d.gamma_fn) + (1 - p) * d.gamma_fp
    z = (1 - s) ** d.k
    # (1 - z) / s = sum of (1 - s)^i for i < k: no division, so s = 0 needs no care
    wrong_samples = (1 - p) * d.gamma_fp * sum((1 - s) ** i for i in range(d.k))
    if d.alpha == 1:  # S+ has no weight: a prompt with accepted samples keeps its p
        wrong_samples = (1 - z) * (1 - p)
    error = d.eta + (1 - d.eta) * (wrong_samples + z * _wrong_labels(d, p))
    return np.minimum(error, 1.0)  # the sum may round above 1, and iterating would magnify that


def _wrong_labels(d: Parameters, p: np.ndarray) -> np.ndarray:
    """w(p): expected wrong share of a P- prompt after its labels; 1 - p where none is kept."""
    m, beta = (d.m if d.alpha != 0 else 0), (p if d.beta == "self" else d.beta)
    if d.weak_data == "all" and m > 0:
        return 1 - beta + 0 * p
    kept = beta * (1 - d.gamma_fn) + (1 - beta) * d.gamma_fp
    return (1 - beta) * d.gamma_fp * sum((1 - kept) ** i for i in range(m)) + (1 - kept) ** m * (1 - p)


@dataclass(frozen=True)
class Bound:
    """e_t <= floor + rate^t (e_0 - floor); ``rate`` in [0, 1]. At rate 1 (floor 0): the error never rises."""

    parameters: Parameters
    rate: float
    floor: float

    def rounds(self, eps: float, e0: float = 1.0) -> float:
        """The least T from which on the bound gives e_t <= eps; inf where eps is not above the floor."""
        if not 0 < eps <= 1:
            raise ValueError(f"eps = {eps!r} is outside (0, 1].")
        check_chance(e0=e0)
        if e0 <= eps and self.floor <= eps:
            return 0.0
        if eps <= self.floor or self.rate == 1:
            return math.inf
        if self.rate == 0:
            return 1.0
        exact = math.log((e0 - self.floor) / (eps - self.floor)) / -math.log(self.rate)
        return float(math.ceil(exact - 1e-9))  # 1e-9: log(x^n) / log(x) may round above n

    def most_error(self, e0: float, rounds: int) -> np.ndarray:
        """The bound at t = 0..rounds: no run of this model has more expected error."""
        return self.floor + self.rate ** np.arange(rounds + 1) * (e0 - self.floor)

    def least_error(self, e0: float, rounds: int) -> np.ndarray:
        """Jensen's side at t = 0..rounds: no run has less expected error."""
        errors = [e0]
        for _ in range(rounds):
            errors.append(float(expected_error(self.parameters, 1 - errors[-1])))
        return np.array(errors)


def bound_of(d: Parameters) -> Bound:
    """The bound for these parameters; ValueError where it is not derived."""
    if d.policy != "hard" or not isinstance(d.beta, float) or d.alpha == 1:
        raise ValueError("the bound is derived for policy 'hard', one number beta and alpha below 1.")
    if d.gamma_fn + d.gamma_fp > 1:
        raise ValueError(
            f"gamma_fp + gamma_fn = {d.gamma_fp + d.gamma_fn:g} is above 1: the filter is worse than chance."
        )
    w0, w1 = _wrong_labels(d, np.array([0.0, 1.0])).tolist()
    at0 = d.eta + (1 - d.eta) * (1 - (1 - d.gamma_fp) ** d.k * (1 - w0))
    at1 = d.eta + (1 - d.eta) * d.gamma_fn**d.k * w1
    rate = at0 - at1
    return Bound(d, rate, 0.0 if rate == 1 else at1 / (1 - rate))
