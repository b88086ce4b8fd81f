"""The model of boosting with weak data, computed exactly; the docstring of `Dynamics` is the model in a page. Not
covered: how the chain is computed (chain), the proof of the bound (bounds), how runs are simulated (monte_carlo)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from boostlib.theory import chain, monte_carlo
from boostlib.theory.bounds import Bound, bound_of
from boostlib.theory.distributions import Initial, Law, support
from boostlib.theory.parameters import Parameters, check_whole


@dataclass(frozen=True)
class Dynamics(Parameters):
    """A tabular model of Algorithm 2 (derived for this project from the ingredients of arXiv 2502.08924).

    p_t(x) is the chance that the model f_t answers prompt x rightly. One round:

    1. Sample ``k`` responses; c ~ Binomial(k, p_t) are right.
    2. Filter: a ~ Binomial(c, 1 - gamma_fn) right and b ~ Binomial(k - c, gamma_fp) wrong ones enter S+. A prompt with
       a + b = 0 is in P-, the failed prompts. gamma_fp = gamma_fn < 1/2 is the paper's gamma-noisy filter.
    3. Label: ``policy`` gives prompts labels, each right with chance ``beta``: "hard" m to each prompt of P-, "uniform"
       m to every prompt, any other name of `boostlib.allocation.POLICIES` shares a budget (`simulate` alone).
       ``weak_data`` "A" keeps the labels that the filter accepts, "all" keeps all of them.
    4. Strong learning: p_{t+1} is the weighted share of right responses in the prompt's data, an S+ example
       weighing (1 - alpha) / |S+| and a D example alpha / |D|; no data (or none with weight) keeps p_t. Then the
       learner errs: p_{t+1} is multiplied by 1 - eta, with or without data.

    Under "hard" a prompt's data is of one kind, so alpha in (0, 1) has no effect there. Under "uniform" |S+| and |D|
    are totals over all prompts (``mixture="pool"``; `exact` is then the limit of many prompts) or the prompt's own
    (``mixture="prompt"``; exact for any number). alpha = None gives every example the same weight. ``beta`` is a
    number, one a prompt, "p0" (the labeler is f_0, as in the paper's experiments) or "self" (f_t itself).

    >>> round(float(Dynamics(k=1, m=1, beta=0.2, gamma_fp=0, gamma_fn=0).exact(0.0, 3)[3]), 3)  # 1 - (1 - beta)^3
    0.488
    """

    def exact(self, p0: Initial, rounds: int) -> np.ndarray:
        """E[p_t] over prompts for t = 0..rounds, shape (rounds + 1,). p0: values, a `BetaLaw`, a `Histogram`."""
        return _right(self._run(p0, rounds)).sum(1)

    def exact_over_beta(self, betas: Sequence[float], p0: Initial, rounds: int) -> np.ndarray:
        """`exact` for many labelers at once, shape (len(betas), rounds + 1): one row of a phase diagram."""
        p, weights = support(p0, self._degree(rounds))
        many = replace(self, beta=betas)
        return _right(many._chain(np.asarray(betas), p, np.tile(weights, (len(betas), 1)), rounds)).T

    def law(self, p0: Initial, rounds: int) -> Law:
        """The whole law of p_t for t = 0..rounds: `.mean`, `.pass_at(k)`, `.share(low, high)`."""
        rows = []
        for parts in self._run(p0, rounds, extra=64):
            laws, masses = zip(*parts, strict=True)
            rows.append((np.concatenate(laws)[:, 0], np.concatenate(masses, 1).sum(0)))
        values = np.unique(np.concatenate([p for p, _ in rows]))
        mass = np.array([np.bincount(np.searchsorted(values, p), weight, values.size) for p, weight in rows])
        reached = mass.any(0)
        return Law(values[reached], mass[:, reached])

    def losses(self, p0: Initial, rounds: int) -> dict[str, np.ndarray]:
        """Where the error 1 - E[p_t] comes from, policy "hard"; each (rounds + 1,), with "right" they sum to 1.
        "waiting": prompts that no data has reached yet. "misled": prompts whose last data held wrong responses
        (accepted samples, which hide the prompt from the labeler, or kept labels). "learner": what eta took since."""
        if self.policy != "hard":
            raise ValueError(f"losses are split for policy 'hard', not for {self.policy!r}.")
        fresh, rows = self._round(np.zeros(1)).states[0][:, 0], []  # right shares of data that has just come
        run = list(self._run(p0, rounds))
        p = run[0][0][0][:, 0]
        for (now, untouched), (aged, reached) in run:
            untouched, reached = untouched.sum(0), reached.sum(0)
            best = np.resize(fresh, reached.size)
            right = untouched @ now[:, 0] + reached @ aged[:, 0]
            rows.append((right, untouched @ (1 - p), reached @ (1 - best), untouched @ p + reached @ best - right))
        return dict(zip(("right", "waiting", "misled", "learner"), np.array(rows).T, strict=True))

    def simulate(self, p0: Initial, rounds: int, n_seeds: int, seed: int, **options: object) -> np.ndarray:
        """Mean p_t over prompts, shape (n_seeds, rounds + 1); options as in `monte_carlo.simulate`."""
        return monte_carlo.simulate(self, p0, rounds, n_seeds, seed, **options)

    def bound(self, eps: float, e0: float = 1.0) -> float:
        """Rounds after which E[1 - p_t] <= eps, whatever the law of p_0 with E[1 - p_0] <= ``e0`` (inf: none)."""
        return self.bounds().rounds(eps, e0)

    def bounds(self) -> Bound:
        """The bound itself, for policy "hard" and gamma_fp + gamma_fn <= 1: rate, floor, both envelopes."""
        return bound_of(self)

    def _run(self, p0: Initial, rounds: int, extra: int = 0) -> Iterator[chain.Parts]:
        """The chain from p_0: prompts of equal p_0 and equal labelers are counted together."""
        check_whole(0, rounds=rounds)
        p, weights = support(p0, self._degree(rounds) + extra)
        values, at = np.unique(p, return_inverse=True)
        labelers, of = np.unique(self.labeler(p0, p), return_inverse=True)
        mass = np.bincount(of * values.size + at, weights, labelers.size * values.size)
        return self._chain(labelers, values, mass.reshape(labelers.size, -1), rounds)

    def _chain(self, labelers: np.ndarray, p: np.ndarray, mass: np.ndarray, rounds: int) -> Iterator[chain.Parts]:
        return chain.run(self._round(labelers), np.stack([p, 1 - p], 1), mass, rounds)

    def _round(self, labelers: np.ndarray) -> chain.Round:
        """For labelers that are right with these chances (classes,)."""
        labeler = None if self.beta == "self" else np.stack([labelers, 1 - labelers], 1)
        return self.round(np.array([1 - self.gamma_fn, self.gamma_fp]), labeler)

    def _degree(self, rounds: int) -> int:
        """Of E[p_t] as a polynomial in p_0, at most: each round without data multiplies by one."""
        return (self.k + (self.m if isinstance(self.beta, str) else 0)) * rounds + 1


def _right(run: Iterator[chain.Parts]) -> np.ndarray:
    """The right answers of each class, shape (rounds + 1, classes)."""
    return np.array([sum(mass @ laws[:, 0] for laws, mass in parts) for parts in run])
