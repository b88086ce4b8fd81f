"""Prompts that teach each other: the chain within each skill, and what the data of some prompts does to all the others.

A skill (a level, a template) is a group of prompts; each holds a law of p over its prompts. A round does three things:

1. Memory. A prompt with data, whose right share is q, goes from log odds v to v' = v + memory (q - p'), which is where
   cross-entropy on its data plus (v' - v)^2 / (2 memory) is least. Memory inf gives p' = q, the chain of `Dynamics`.
2. Transfer. Every prompt of skill g goes the part 1 - exp(-transfer X_g) of the way to the right share of the skill's
   data. X_g is the news in it: the weight in the mixture, over the skill's share of the prompts, of responses from outside
   that are unlike what the model says, each counted by its chance not to be said.
3. Interference. All log odds fall by interference x L, L the loss that the mixture begins with: novelty x its news.

Memory inf, transfer 0 and interference 0 are the tabular chain. Laws live on a grid that holds all values of that chain;
between its points mass is split so that means are kept. All three grow with steps times learning rate (`times`).
Not covered: policies other than hard and uniform, fits (analysis.predict)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from boostlib.theory import chain
from boostlib.theory.distributions import Histogram, Initial, support
from boostlib.theory.parameters import Parameters, check_whole

_GRID = 1 / (1 + np.exp(-np.linspace(-9, 9, 61)))


@dataclass(frozen=True)
class Transfer:
    """What a round of one learner does; each number is at least 0. The default is the tabular learner."""

    memory: float = np.inf  # log odds that a prompt gains from right data of its own, where it is nearly always wrong
    transfer: float = 0.0  # rate at which news from outside teaches the other prompts of its skill
    interference: float = 0.0  # log odds that all prompts lose for each nat of the mixture's first loss

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0 or name != "memory" and value == np.inf:
                raise ValueError(f"{name} = {value!r}: give a number of at least 0 (memory may be inf).")

    def times(self, rate: float) -> Transfer:
        """The same learner at ``rate`` times the steps x learning rate."""
        return Transfer(self.memory * rate, self.transfer * rate, self.interference * rate)


def by_skill(
    d: Parameters, learner: Transfer, p0: Sequence[Initial], share: Sequence[float], rounds: int,
    labels: float | None = None, loss: float | None = None,
) -> np.ndarray:  # fmt: skip
    """E[p_t] by skill, shape (rounds + 1, skills); ``@ share`` is the accuracy. p0: the law of each skill; ``share`` of the
    prompts that it has. ``d.beta`` may be one number a skill. ``labels``: labels a prompt and round, shared over those that
    the policy names; None: ``d.m`` for each of these. ``loss``: what the first round's mixture begins with, where it was
    measured; in later rounds it goes with the news. None: the news itself."""
    check_whole(0, rounds=rounds)
    share = np.asarray(share, float) / np.sum(share)
    if share.shape != (len(p0),) or not (share >= 0).all():
        raise ValueError(f"share = {share!r}: give one number of at least 0 for each of {len(p0)} skills, not all 0.")
    if np.ndim(d.beta) and len(d.beta) != len(p0):
        raise ValueError(f"beta has {len(d.beta)} values for {len(p0)} skills; give one number, or one a skill.")
    return _MeanField(d, learner, p0, share, labels).run(rounds, loss)


class _MeanField:
    """Masses (skills, n) of prompts on a grid p (n,), each row summing to 1, moved round by round."""

    def __init__(self, d: Parameters, learner: Transfer, p0: Sequence[Initial], share: np.ndarray, labels: float | None):
        self.d, self.learner, self.share, self.labels = d, learner, share, labels
        laws = [support(p, 30) for p in p0]
        keep, means = np.array([1 - d.gamma_fn, d.gamma_fp]), [p @ w for p, w in laws]
        beta = np.broadcast_to(means if d.beta == "p0" else d.beta, len(p0)).astype(float)
        rnd = d.round(keep, np.stack([beta, 1 - beta], 1))
        states = rnd.states[0][:, 0]
        self.p = p = np.unique(np.concatenate([_GRID, [0, 1], states, *(values for values, _ in laws)]))
        self.mass = np.stack([self.split(values, w) for values, w in laws])
        reached, self.failed = chain.learnt(np.stack([p, 1 - p], 1), keep, d.k)
        self.by_samples = self.moved(states[: len(reached)], reached)
        self.samples = d.k * np.stack([p, 1 - p]) * keep[:, None]  # right and wrong ones in a prompt's data
        self.kept = np.stack([beta, 1 - beta]) * rnd.keep_labels[:, None]  # chances that a label is right, wrong, and kept
        if labels is None:
            by_state, self.none = rnd.labeled(rnd.labeler)
            self.by_labels = [self.moved(states, np.outer(chance, np.ones(p.size))) for chance in by_state.T]
        else:  # as many as there are to share: their right share is then its mean
            some = self.kept[0] / np.maximum(self.kept.sum(0), 1e-300)
            self.by_labels = [self.moved(np.array([q]), np.ones((1, p.size))) for q in some]

    def split(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(n,) mass on the grid: the weight of each value on its two neighbours, with the same mean."""
        at = np.clip(np.searchsorted(self.p, values, "right"), 1, self.p.size - 1)
        up = (values - self.p[at - 1]) / (self.p[at] - self.p[at - 1])
        return sum(np.bincount(i, w, self.p.size) for i, w in ((at - 1, weights * (1 - up)), (at, weights * up)))

    def moved(self, q: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """(n, n) where the mass at each p (columns) goes if its data has right share q (s,) with chance (s, n)."""
        to = remember(self.p, q[:, None], self.learner.memory)
        return np.stack([self.split(*column) for column in zip(to.T, chance.T, strict=True)], 1)

    def run(self, rounds: int, loss: float | None) -> np.ndarray:
        curve, self.novelty = [self.mass @ self.p], 1.0
        for _ in range(rounds):
            self.step(loss)
            loss = None
            curve.append(self.mass @ self.p)
        return np.array(curve)

    def step(self, loss: float | None) -> None:
        d, p = self.d, self.p
        asked = self.mass * (self.failed if d.policy == "hard" else 1)
        each = self.each(asked)
        unlike = np.stack([1 - p, p])  # chance that the model does not say what is right, wrong
        own = self.share * (self.samples @ self.mass.T)  # (2, skills) examples, a prompt of all
        weak = self.share * self.kept * each * asked.sum(1)
        own_news = self.share @ (self.mass @ (self.samples * unlike).sum(0))
        weak_news = self.share * each * (self.kept * (unlike @ asked.T)).sum(0)
        weight = self.weight(own.sum(), weak.sum())
        x = weight * weak_news / max(weak.sum(), 1e-300)
        news = (1 - weight) * own_news / max(own.sum(), 1e-300) + x.sum()
        if loss is not None:
            self.novelty = loss / news if news else 0.0
        right = weak[0] / np.maximum(weak.sum(0), 1e-300)

        self.mass = self.remembered(each)
        part = -np.expm1(-self.learner.transfer * x / self.share)
        to = p + part[:, None] * (right[:, None] - p)
        to = _sigmoid(_logit(to) - self.learner.interference * self.novelty * news) * (1 - d.eta)
        self.mass = np.stack([self.split(*row) for row in zip(to, self.mass, strict=True)])

    def each(self, asked: np.ndarray) -> float:
        """Labels for each asked prompt."""
        if self.d.alpha == 0:
            return 0.0
        return self.d.m if self.labels is None else self.labels / max(self.share @ asked.sum(1), 1e-300)

    def weight(self, own: float, weak: float) -> float:
        """Of the labels in the mixture."""
        if own == 0 or weak == 0:
            return float(weak > 0)
        return weak / (own + weak) if self.d.alpha is None else self.d.alpha

    def remembered(self, each: float) -> np.ndarray:
        """Masses after each prompt has learnt from its own samples, or, where it has none, from its own labels."""
        failed = self.mass * self.failed
        samples = self.mass - failed if self.d.alpha == 1 else self.mass @ self.by_samples.T
        if not each:
            return samples + failed
        taught = np.stack([to @ row for to, row in zip(self.by_labels, failed, strict=True)])
        none = self.none if self.labels is None else (1 - self.kept.sum(0)) ** each
        if self.labels is not None:
            taught *= 1 - none[:, None]
        return samples + none[:, None] * failed + taught


def remember(p: np.ndarray, q: np.ndarray, memory: float) -> np.ndarray:
    """p' where logit p' = logit p + memory (q - p'), broadcast: from p at memory 0 to q at memory inf."""
    if memory == np.inf:
        return q + 0 * p
    v = _logit(np.clip(p, 1e-12, 1 - 1e-12))
    low, high = v - memory, v + memory
    for _ in range(40):
        middle = (low + high) / 2
        over = middle - v > memory * (q - _sigmoid(middle))
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return np.where((p > 0) & (p < 1), _sigmoid((low + high) / 2), p)


def _logit(p: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-p)


def _sigmoid(v: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-v))
