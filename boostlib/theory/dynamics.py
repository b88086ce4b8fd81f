"""The model of boosting with weak data, computed exactly; its docstring is the model in a page.

Not covered: how the chain is computed (chain, mixed), long-run solvers (limits), Monte Carlo (monte_carlo).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from boostlib.theory import limits, monte_carlo
from boostlib.theory.bounds import Bound, bound_of
from boostlib.theory.chain import Round, forward
from boostlib.theory.distributions import Beta, Histogram, Initial, Law, as_initial, atoms, merge
from boostlib.theory.mixed import forward_mixed

#: The arms of the project as changes to one `Dynamics` (see `Dynamics.arm`).
ARMS: dict[str, dict[str, object]] = {
    "do_nothing": {"gamma_fp": 1.0, "gamma_fn": 0.0, "m": 0, "policy": "hard"},
    "filter_only": {"m": 0, "policy": "hard"},
    "self_labeled": {"beta": "self", "policy": "hard"},
    "boosting": {"policy": "hard"},
    "uniform": {"policy": "uniform"},
    "labels_only": {"policy": "uniform", "alpha": 1.0, "weak_data": "all"},
}


@dataclass(frozen=True)
class Dynamics:
    """A tabular model of Algorithm 2 (derived for this project from the ingredients of arXiv 2502.08924).

    p_t(x) is the chance that the model f_t answers prompt x rightly. One round:

    1. Sample ``k`` responses; c ~ Binomial(k, p_t) are right.
    2. Filter: a ~ Binomial(c, 1 - gamma_fn) right and b ~ Binomial(k - c, gamma_fp) wrong ones enter S+. A prompt
       with a + b = 0 is in P-, the failed prompts. gamma_fp = gamma_fn = gamma < 1/2 is the paper's gamma-noisy
       filter; gamma_fp = 1, gamma_fn = 0 accepts all.
    3. Label: ``policy`` gives prompts labels, each right with chance ``beta``: "hard" m to each prompt of P-, "uniform" m
       to every prompt, any other name of `boostlib.allocation.POLICIES` shares a budget (`simulate` alone).
       ``weak_data`` "A" keeps the labels that the filter accepts, "all" keeps all of them.
    4. Strong learning: p_{t+1} is the weighted share of right responses in the prompt's data, an S+ example
       weighing (1 - alpha) / |S+| and a D example alpha / |D|; no data (or none with weight) keeps p_t. Then the
       learner errs: p_{t+1} is multiplied by 1 - eta, with or without data.

    Under "hard" a prompt's data is of one kind, so alpha in (0, 1) has no effect there. Under "uniform" |S+| and
    |D| are totals over all prompts (``mixture="pool"``; `exact` is then the limit of many prompts) or the prompt's own
    (``mixture="prompt"``; exact for any number).

    alpha = None gives every example the same weight.

    ``beta`` is a number, one a prompt, "p0" (the labeler is f_0, as in the paper's experiments) or "self" (the labeler
    is f_t itself: the self-labeled control). With m = 0 it plays no role.

    >>> round(float(Dynamics(k=1, m=1, beta=0.2, gamma_fp=0, gamma_fn=0).exact(0.0, 3)[3]), 3)  # 1 - (1 - beta)^3
    0.488
    """

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
        for name, least in (("k", 1), ("m", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{name} = {value!r}: give a whole number of at least {least}.")
        for name, high in (("gamma_fp", "1]"), ("gamma_fn", "1]"), ("alpha", "1]"), ("eta", "1)")):
            value = getattr(self, name)
            if value is None and name == "alpha":
                continue
            if not (0 <= value <= 1) or (high == "1)" and value == 1):
                raise ValueError(f"{name} = {value!r} is outside [0, {high}.")
        for name, known in (("weak_data", ("A", "all")), ("mixture", ("pool", "prompt"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} = {getattr(self, name)!r}; known are {' and '.join(map(repr, known))}.")
        if self.policy not in ("hard", "uniform"):
            monte_carlo.find_policy(self.policy)
        if isinstance(self.beta, str):
            if self.beta not in ("p0", "self"):
                raise ValueError(f"beta = {self.beta!r}; give numbers in (0, 1], 'p0' or 'self'.")
        else:
            beta = np.asarray(self.beta, float)
            if beta.ndim > 1 or beta.size == 0:
                raise ValueError(f"beta has shape {beta.shape}; give a number or one value a prompt.")
            if self.m > 0 and not ((beta > 0) & (beta <= 1)).all():
                raise ValueError(f"beta = {beta[~((beta > 0) & (beta <= 1))].flat[0]} is outside (0, 1], and m > 0.")
            object.__setattr__(self, "beta", float(beta) if beta.ndim == 0 else tuple(beta.tolist()))

    def arm(self, name: str) -> Dynamics:
        """The same model run as another arm: do_nothing, filter_only, self_labeled, boosting, uniform, labels_only."""
        if name not in ARMS:
            raise ValueError(f"unknown arm {name!r}; known are {', '.join(ARMS)}.")
        return replace(self, **ARMS[name])

    # -- exact -----------------------------------------------------------------------------------------------------

    def exact(self, p0: Initial, rounds: int) -> np.ndarray:
        """E[p_t] over prompts for t = 0..rounds, shape (rounds + 1,). p0: values a prompt, a `Beta`, a `Histogram`."""
        return self.exact_by_class(p0, rounds).sum(1)

    def exact_over_beta(self, betas: Sequence[float], p0: Initial, rounds: int) -> np.ndarray:
        """`exact` for many labelers at once, shape (len(betas), rounds + 1): one row of a phase diagram."""
        p, w = atoms(p0, self._degree(rounds))
        b = np.asarray(betas, float)
        many = replace(self, beta=b)
        return many._expect(np.tile(p, b.size), np.tile(w, b.size), np.repeat(np.arange(b.size), p.size), b, rounds).T

    def exact_by_class(self, p0: Initial, rounds: int) -> np.ndarray:
        """E[p_t; labeler class], shape (rounds + 1, classes): sums to `exact` over prompts with equal beta."""
        return self._expect(*self._atoms(p0, rounds), rounds)

    def law(self, p0: Initial, rounds: int) -> Law:
        """The whole law of p_t for t = 0..rounds: `.mean`, `.pass_at(k)`, `.share(low, high)`."""
        return merge(list(self._laws(*self._atoms(p0, rounds, extra=64), rounds)))

    def losses(self, p0: Initial, rounds: int) -> dict[str, np.ndarray]:
        """Where the error 1 - E[p_t] comes from, policy "hard"; each (rounds + 1,), with "right" they sum to 1.

        "waiting": prompts that no data has reached yet. "misled": prompts whose last data held wrong responses (accepted
        samples, which hide the prompt from the labeler, or kept labels). "learner": what eta took since the last data.
        """
        if self.policy != "hard":
            raise ValueError(f"losses are split for policy 'hard', not for {self.policy!r}.")
        p, w, classes, betas = self._atoms(p0, rounds)
        best, rows = self.round(betas).grid.laws[:, 0], []
        for laws, atom, states, mass in self._chain(p, w, classes, betas, rounds):
            mass = mass.sum(0)  # (ages, s)
            right = atom @ laws[:, 0] + (mass * states[..., 0]).sum()
            waiting, misled = atom @ (1 - p), (mass * (1 - best)).sum()
            rows.append((right, waiting, misled, atom @ p + (mass * best).sum() - right))
        return dict(zip(("right", "waiting", "misled", "learner"), np.array(rows).T, strict=True))

    def _expect(self, p: np.ndarray, w: np.ndarray, classes: np.ndarray, betas: np.ndarray, rounds: int) -> np.ndarray:
        rows = []
        if self.policy == "uniform" and self._labels:
            for laws, mass in self._mixed(p, w, classes, betas, rounds):
                rows.append(mass @ laws[:, 0])
        else:
            starts = np.searchsorted(classes, np.arange(classes[-1] + 1))
            for laws, atom, states, mass in self._chain(p, w, classes, betas, rounds):
                if not rows:
                    right = states[..., 0].ravel()  # the same states in every round
                rows.append(np.add.reduceat(atom * laws[:, 0], starts) + mass.reshape(len(mass), -1) @ right)
        return np.array(rows)

    def _laws(self, p, w, classes, betas, rounds):
        if self.policy == "uniform" and self._labels:
            for laws, mass in self._mixed(p, w, classes, betas, rounds):
                yield [(laws[:, 0], mass.sum(0))]
        else:
            for laws, atom, states, mass in self._chain(p, w, classes, betas, rounds):
                yield [(laws[:, 0].copy(), atom), (states[..., 0].copy(), mass.sum(0))]

    def _chain(self, p, w, classes, betas, rounds):
        return forward(self.round(betas), np.stack([p, 1 - p], 1), w, classes, rounds)

    def _mixed(self, p, w, classes, betas, rounds):
        pooled, laws = self.mixture == "pool", np.stack([p, 1 - p], 1)
        return forward_mixed(self.round(betas), laws, w, classes, rounds, self.alpha, pooled)

    @property
    def _labels(self) -> bool:
        """Whether labels play a role at all."""
        return self.m > 0 and self.alpha != 0

    def round(self, betas: np.ndarray) -> Round:
        """The chain's view of one round, for labelers right with chance ``betas`` (classes,)."""
        if self.policy not in ("hard", "uniform"):
            raise ValueError(
                f"policy {self.policy!r} shares a budget over prompts, which the chain can't hold; use simulate."
            )
        return Round(
            k=self.k,
            m=self.m if self._labels else 0,
            keep=np.array([1 - self.gamma_fn, self.gamma_fp]),
            labeler=None if self.beta == "self" else np.stack([betas, 1 - betas], 1),
            filter_labels=self.weak_data == "A",
            eta=self.eta,
            train_on_samples=self.alpha != 1,
        )

    def _degree(self, rounds: int) -> int:
        """At most this degree in p_0 has E[p_t]: each round without data multiplies by a polynomial of samples and labels."""
        return (self.k + (self.m if isinstance(self.beta, str) else 0)) * rounds + 1

    def _atoms(self, p0: Initial, rounds: int, extra: int = 0):
        """Values, weights and classes of p_0, and the labeler of each class."""
        _check_rounds(rounds)
        p, w = atoms(p0, self._degree(rounds) + extra)
        betas = self.betas(p0, p)
        labelers, classes = np.unique(betas, return_inverse=True)
        order = np.argsort(classes, kind="stable")
        return p[order], w[order], classes[order], labelers

    def betas(self, p0: Initial, p: np.ndarray) -> np.ndarray:
        """The labeler's chance for each value of p, shape (n,); for "self" a placeholder 0."""
        if isinstance(self.beta, str):
            return p if self.beta == "p0" else np.zeros(p.size)
        beta = np.asarray(self.beta, float)
        if beta.ndim:
            if isinstance(as_initial(p0), Beta | Histogram):
                raise ValueError("beta has one value a prompt, so p0 must be an array of values a prompt too.")
            if beta.size != p.size:
                raise ValueError(f"beta has {beta.size} values for {p.size} prompts; give one a prompt.")
        return np.broadcast_to(beta, p.shape)

    # -- Monte Carlo, bounds, long run -----------------------------------------------------------------------------

    def simulate(self, p0: Initial, rounds: int, n_seeds: int, seed: int, **options: object) -> np.ndarray:
        """Mean p_t over prompts, shape (n_seeds, rounds + 1); options as in `monte_carlo.simulate`."""
        return monte_carlo.simulate(self, p0, rounds, n_seeds, seed, **options)

    def bound(self, eps: float, e0: float = 1.0) -> float:
        """Rounds after which E[1 - p_t] <= eps, whatever the law of p_0 with E[1 - p_0] <= ``e0`` (inf: no such bound).

        Derived for this model and policy "hard"; needs gamma_fp + gamma_fn <= 1. See `bounds.Bound` for the rate.
        """
        return self.bounds().rounds(eps, e0)

    def bounds(self) -> Bound:
        """The linear bound itself: rate, floor, and both envelopes of the curve."""
        return bound_of(self)

    def stationary(self, ages: int = 200) -> limits.Stationary:
        """The long-run law of p, where it is unique; see `limits.stationary`."""
        return limits.stationary(self, ages)

    def absorption(self, p0: Initial) -> dict[str, float]:
        """Chances of ending at 0, at 1, or at neither for ever (eta = 0); see `limits.absorption`."""
        return limits.absorption(self, p0)

    def escape_time(self, p0: Initial, above: float = 0.0, ages: int = 200) -> float:
        """Expected first round with p_t > ``above``, averaged over p_0; see `limits.escape_time`."""
        return limits.escape_time(self, p0, above, ages)

    def settings(self) -> dict[str, object]:
        """The parameters as a plain dict, for tables and manifests."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _check_rounds(rounds: int) -> None:
    if isinstance(rounds, bool) or not isinstance(rounds, int | np.integer) or rounds < 0:
        raise ValueError(f"rounds = {rounds!r}: give a whole number of at least 0.")
