"""How a budget of weak labels is spent over the prompts of one round.

A policy maps (statistics, budget, rng) to label counts, one a prompt. It spends the budget (of labels asked for, right
or wrong) exactly, or not at all where no prompt qualifies. It sees what the filter accepted, never whether that was
right; ``oracle`` alone reads the true chances. Not covered: asking the labeler, training on what it says (boosting)."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike


def _refuse(wrong: bool, said: str) -> None:
    if wrong:
        raise ValueError(said)


@dataclass(frozen=True)
class Statistics:
    """What is known of n prompts when labels are allocated, R >= 1 rounds sampled so far; ValueError where it cannot
    be. accepted: (R, n) accepted responses a prompt, last row the current round; k: responses a prompt and round;
    labels, labels_accepted: (R - 1, n) labels asked for, and accepted, in the earlier rounds; p: (n,) true chance of a
    right response, for ``oracle`` only."""

    accepted: np.ndarray
    k: int
    labels: np.ndarray
    labels_accepted: np.ndarray
    p: np.ndarray | None = None

    def __post_init__(self) -> None:
        _refuse(self.k < 1, f"k is {self.k}: at least one response a prompt is needed")
        for name in ("accepted", "labels", "labels_accepted"):
            given = np.asarray(getattr(self, name))
            whole = given.astype(np.int64)
            _refuse(given.ndim != 2, f"{name} has {given.ndim} dimension(s): rounds by prompts is needed")
            _refuse((whole < 0).any() or (whole != given).any(), f"{name} must hold whole numbers, none negative")
            object.__setattr__(self, name, whole)
            rounds, n = self.accepted.shape
            _refuse(rounds < 1, "accepted has no row: it needs one a round, the current round last")
            fits = (rounds - (name != "accepted"), n)
            _refuse(whole.shape != fits, f"{name} has shape {whole.shape}: {fits} goes with accepted {(rounds, n)}")
        most = self.accepted.max(initial=0)
        _refuse(most > self.k, f"accepted reaches {most}, above k = {self.k} responses a prompt")
        excess = (self.labels_accepted > self.labels).any()
        _refuse(excess, "labels_accepted exceeds labels: a label is accepted at most once")
        if self.p is not None:
            object.__setattr__(self, "p", p := np.asarray(self.p, dtype=float))
            _refuse(p.shape != (n,), f"p has shape {p.shape}: one number a prompt is needed, {(n,)}")
            _refuse(not ((p >= 0) & (p <= 1)).all(), "p must be in [0, 1] at every prompt")

    @property
    def n(self) -> int:
        return self.accepted.shape[1]

    @property
    def failed(self) -> np.ndarray:
        """(n,) bool: P-, the prompts with no accepted response this round."""
        return self.accepted[-1] == 0


def share(weights: ArrayLike, budget: int, rng: Generator) -> np.ndarray:
    """Counts (n,) in proportion to weights (n,) >= 0 that sum to the budget; all zeros if no weight is positive.
    Each count is its exact quota rounded down or up, at random and with the quota as its mean (systematic sampling of
    the remainders in random order), so small budgets are not all drawn to the largest weight."""
    weights = np.asarray(weights, dtype=float)
    counts = np.zeros(len(weights), dtype=np.int64)
    order = rng.permutation(np.flatnonzero(weights > 0))
    if budget == 0 or not len(order):
        return counts
    scaled = weights[order] / weights[order].max()  # the sum of huge weights must not overflow
    quota = scaled / scaled.sum() * budget
    base = np.floor(quota).astype(np.int64)
    rest = budget - base.sum()
    steps = np.minimum(np.cumsum(quota - base), rest)
    steps[-1] = rest  # exact, where the floating sum is only near
    counts[order] = base + np.diff(np.floor(steps + rng.random()), prepend=0).astype(np.int64)
    return counts


def uniform(statistics: Statistics, budget: int, rng: Generator) -> np.ndarray:
    """The same for every prompt, failed or not."""
    return share(np.ones(statistics.n), budget, rng)


def hard(statistics: Statistics, budget: int, rng: Generator) -> np.ndarray:
    """Evenly over P-, the prompts with nothing accepted this round: the paper's rule."""
    return share(statistics.failed, budget, rng)


def random_subset(statistics: Statistics, budget: int, rng: Generator) -> np.ndarray:
    """Evenly over as many prompts as P- has, drawn at random: the concentration of ``hard`` without its aim."""
    chosen = rng.choice(statistics.n, size=int(statistics.failed.sum()), replace=False)
    return share(np.bincount(chosen, minlength=statistics.n), budget, rng)


def prop2diff(statistics: Statistics, budget: int, rng: Generator) -> np.ndarray:
    """In proportion to this round's failure rate (after DART-Math's Prop2Diff)."""
    return share(1 - statistics.accepted[-1] / statistics.k, budget, rng)


def uniform_until_solved(statistics: Statistics, budget: int, rng: Generator) -> np.ndarray:
    """Towards an equal number of accepted responses, own and labels, for every prompt (after DART-Math's Uniform):
    fills up from the bottom to the level that the budget reaches. A label counts as its chance of acceptance at that
    prompt, (accepted + 1) / (asked + 2)."""
    have = (statistics.accepted.sum(0) + statistics.labels_accepted.sum(0)).astype(float)
    per_accepted = (statistics.labels.sum(0) + 2) / (statistics.labels_accepted.sum(0) + 1)  # labels for one
    order = np.argsort(have, kind="stable")
    slope, filled = np.cumsum(per_accepted[order]), np.cumsum(per_accepted[order] * have[order])
    levels = (budget + filled) / slope  # the level if only the lowest 1, 2, ... prompts are filled
    level = levels[np.argmax(levels <= np.append(have[order][1:], np.inf))] if statistics.n else 0.0
    return share(np.maximum(level - have, 0) * per_accepted, budget, rng)


def frontier(statistics: Statistics, budget: int, rng: Generator, target: float = 0.5) -> np.ndarray:
    """Where the pass rate is near a target in (0, 1): learnable, not hopeless. The weight falls linearly from 1 at the
    target to 0 at pass rates 0 and 1."""
    _refuse(not 0 < target < 1, f"target is {target}: a pass rate strictly between 0 and 1 is needed")
    rate = statistics.accepted[-1] / statistics.k
    return share(np.minimum(rate / target, (1 - rate) / (1 - target)), budget, rng)


def multiplicative_weights(statistics: Statistics, budget: int, rng: Generator, factor: float = 2) -> np.ndarray:
    """In proportion to weights multiplied by ``factor`` in each round in which the prompt failed. (AdaBoost's own
    factor, (1 - error) / error, is below 1 while more than half of the prompts fail, as they do at first here.)"""
    _refuse(not factor > 0, f"factor is {factor}: a positive number is needed")
    failures = (statistics.accepted == 0).sum(0)
    return share(np.exp(np.log(factor) * (failures - failures.max(initial=0))), budget, rng)


def bandit(statistics: Statistics, budget: int, rng: Generator) -> np.ndarray:
    """Thompson sampling on the chance that a label helps: it is accepted, where the model's own response is not.
    In each of several plays both chances of every prompt are drawn from their Beta posteriors, and the sixteenth of the
    prompts with the largest product get one label. The label's prior: two labels, at the mean of all prompts."""
    asked, accepted, passed = statistics.labels.sum(0), statistics.labels_accepted.sum(0), statistics.accepted[-1]
    mean = (accepted.sum() + 1) / (asked.sum() + 2)
    counts = np.zeros(statistics.n, dtype=np.int64)
    size = -(-statistics.n // 16)  # small plays: one the size of the budget could not choose
    for start in range(0, budget, size) if size else ():
        label = rng.beta(2 * mean + accepted, 2 * (1 - mean) + asked - accepted)
        fails = rng.beta(1 + statistics.k - passed, 1 + passed)
        counts[np.argsort(-label * fails, kind="stable")[: min(size, budget - start)]] += 1
    return counts


def oracle(statistics: Statistics, budget: int, rng: Generator, beta: float | ArrayLike = 0.5, gamma_fp: float = 0.0,
           gamma_fn: float = 0.0, filtered: bool = True) -> np.ndarray:  # fmt: skip
    """The most expected one-step gain in true accuracy, label by label: an upper reference.
    In the theory's tabular learner a prompt with A accepted responses, each right with chance r (r = p where A = 0: no
    data keeps p), moves with m labels by (q - r) E[L / (A + L)], L ~ Binomial(m, s): s is the chance that a label is
    kept and q that a kept one is right. The gain is concave in m, so spending greedily is optimal. What exceeds any
    gain is spread evenly over the prompts that gain. Set beta (a number or (n,)), the gammas and ``filtered`` (weak
    data variant (A)) to those of the run, with functools.partial. ValueError where ``statistics.p`` is missing."""
    _refuse(statistics.p is None, "oracle needs statistics.p, the true chance of a right response at each prompt")
    p, own, tiny = statistics.p, statistics.accepted[-1], np.finfo(float).tiny  # 0 / tiny is 0, as 0 / 0 shall be
    right_kept, wrong_kept = (1 - gamma_fn, gamma_fp) if filtered else (1.0, 1.0)
    right = np.broadcast_to(np.asarray(beta, dtype=float), p.shape)
    kept = right * right_kept + (1 - right) * wrong_kept
    accepted = p * (1 - gamma_fn) + (1 - p) * gamma_fp
    now = np.where(own > 0, p * (1 - gamma_fn) / np.maximum(accepted, tiny), p)
    lift = right * right_kept / np.maximum(kept, tiny) - now
    gains = np.flatnonzero((lift > 0) & (kept > 0))

    # With the next label E[L / (A + L)] grows by s E_t[(1 - t) (1 - s + s t)^m], t ~ Beta(A, 1) (0 if A = 0): quadrature
    t, width = np.polynomial.legendre.leggauss(24)
    t, a = np.append(0.0, (t + 1) / 2), own[gains, None]
    density = np.where(a > 0, a * t ** np.maximum(a - 1.0, 0) * np.append(0.0, width / 2), t == 0)
    state = density * (1 - t) * (lift * kept)[gains, None]
    step = 1 - kept[gains, None] * (1 - t)
    heap = sorted(zip(-state.sum(1), rng.random(len(gains)), range(len(gains)), strict=True))
    counts, left = np.zeros(statistics.n, dtype=np.int64), budget
    while left and heap and heap[0][0] < -1e-12:
        _, tie, i = heap[0]
        counts[gains[i]] += 1
        left -= 1
        state[i] *= step[i]
        heapq.heapreplace(heap, (-state[i].sum(), tie, i))
    return counts + share(np.isin(np.arange(statistics.n), gains), left, rng)


_ALL = uniform, random_subset, hard, prop2diff, uniform_until_solved, frontier, multiplicative_weights, bandit, oracle
POLICIES: dict[str, Callable] = {policy.__name__: policy for policy in _ALL}


def allocate(policy: str | Callable, statistics: Statistics, budget: int, rng: Generator) -> np.ndarray:
    """Label counts (n,) by a policy of ``POLICIES``, or one of the user's own. Raises ValueError on an unknown name, a
    negative budget, or a policy that does not spend exactly the budget or nothing."""
    if isinstance(policy, str):
        _refuse(policy not in POLICIES, f"unknown policy {policy!r}; known: {', '.join(POLICIES)}")
        policy = POLICIES[policy]
    _refuse(budget < 0 or budget % 1, f"budget is {budget}: a whole number of labels, at least 0, is needed")
    counts = np.asarray(policy(statistics, int(budget), rng))
    wrong = counts.shape != (statistics.n,) or (counts < 0).any() or (counts % 1).any()
    _refuse(wrong, f"the policy returned shape {counts.shape}: one whole number a prompt, none negative, is needed")
    spent = counts.sum()
    _refuse(spent not in (0, budget), f"the policy spends {spent} of a budget of {budget} labels: all of it or none")
    return counts.astype(np.int64)
