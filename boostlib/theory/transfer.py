"""Prompts that teach each other: the chain within each skill, and what the data of some prompts does to all others.

A skill (a level, a template) is a group of prompts with a law of p over them. A round does three things:

1. Memory. A prompt with data of right share q goes from log odds v to v' = v + memory (q - p'), where cross-entropy on its
   data plus (v' - v)^2 / (2 memory) is least. Its data are its accepted samples, without any its kept labels.
2. Transfer. Every prompt of skill g goes the part 1 - exp(-transfer X_g) of the way to the right share of the labels of
   its skill. X_g is the news in them: weight in the mixture over the skill's share of prompts, each label counted by
   the chance that the model would not have said it, times ``new``: labels of a model's own kind tell it nothing.
3. Interference. All log odds fall by interference x L, L the loss that the mixture begins with: novelty x its news.

Memory inf, transfer 0 and interference 0 are the chain of `Dynamics`, exactly: laws live on a grid that holds all its values;
between grid points mass is split so that means are kept. Not covered: policies but hard and uniform; under uniform, where the
limit is the chain of samples alone, prompts with both kinds of data remember their samples; fits (analysis.predict)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from boostlib.theory import chain
from boostlib.theory.distributions import Initial, support
from boostlib.theory.parameters import Parameters, check_whole

_GRID = expit(np.linspace(-8, 8, 49))
_NONE, _LEAST = 1e-12, 1e-300  # a share of prompts, or news, that is none; what there is no division by


@dataclass(frozen=True)
class Transfer:
    """What a round does to a learner; each number is at least 0. The default is the tabular learner."""

    memory: float = np.inf  # log odds that a prompt gains from right data of its own, where it is nearly always wrong
    transfer: float = 0.0  # rate at which news in labels teaches the other prompts of their skill
    interference: float = 0.0  # log odds that all prompts lose for each nat of the mixture's first loss

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0 or name != "memory" and value == np.inf:
                raise ValueError(f"{name} = {value!r}: give a number of at least 0 (memory may be inf).")

    def times(self, rate: float) -> Transfer:
        """The same learner at ``rate`` times the steps x learning rate."""
        return Transfer(self.memory * rate, self.transfer * rate, self.interference * rate)


def by_skill(
    d: Parameters, learner: Transfer, p0: Sequence[Initial], share: Sequence[float], rounds: int, *,
    labels: float | None = None, loss: float | None = None, new: float = 1.0,
) -> np.ndarray:  # fmt: skip
    """E[p_t] by skill, shape (rounds + 1, skills); ``@ share`` is the accuracy. p0: the law of each skill; ``share`` of the
    prompts that it has. ``d.beta`` may be one number a skill. ``labels``: labels a prompt and round, shared over those that
    the policy names; None: ``d.m`` for each of these. ``loss``: what the first round's mixture begins with, where it was
    measured; later it goes with the news. None: the news itself. ``new``: see above; `novelty` at most 1, where measured."""
    check_whole(0, rounds=rounds)
    share = np.asarray(share, float)
    if share.shape != (len(p0),) or not (share >= 0).all() or abs(share.sum() - 1) > 1e-9:
        raise ValueError(
            f"share = {share!r}: give each of the {len(p0)} skills its share of the prompts, summing to 1."
        )
    if np.ndim(d.beta) and len(d.beta) != len(p0):
        raise ValueError(f"beta has {len(d.beta)} values for {len(p0)} skills; give one number, or one a skill.")
    skills, curve, foreign = _Skills(d, learner, p0, share, labels), [], 1.0
    for t in range(rounds + 1):
        curve.append(skills.mass @ skills.p)
        if t < rounds:
            asked, weight, news = skills.data()
            if t == 0 and loss is not None:
                foreign = _per_news(loss, news)
            skills.learn(asked, new * weight, foreign * news)
    return np.array(curve)


def novelty(d: Parameters, p0: Sequence[Initial], share: np.ndarray, labels: float | None, loss: float | None) -> float:
    """The first loss of a mixture over the news in it, in nats: how foreign its responses are to the model. None: 1."""
    if loss is None:
        return 1.0
    return _per_news(loss, _Skills(d, Transfer(), p0, np.asarray(share), labels).data()[2])


def _per_news(loss: float, news: float) -> float:
    return loss / news if news > _NONE else 0.0


class _Skills:
    """Masses (skills, n) of prompts on a grid p (n,), each row summing to 1. Leading 2s are right and wrong responses."""

    def __init__(
        self, d: Parameters, learner: Transfer, p0: Sequence[Initial], share: np.ndarray, labels: float | None
    ):
        self.d, self.learner, self.share, self.labels = d, learner, share, labels
        laws, keep = [support(p, 30) for p in p0], np.array([1 - d.gamma_fn, d.gamma_fp])
        rnd = d.round(keep, None)
        states = rnd.states[0][:, 0]
        self.p = p = np.unique(np.concatenate([_GRID, [0, 1], states, *(values for values, _ in laws)]))
        self.says = np.stack([p, 1 - p])
        self.mass = np.concatenate([self.split(values[None], w[None]) for values, w in laws])
        reached, self.failed = chain.learnt(self.says.T, keep, d.k)
        self.by_samples = self.moved(states[: len(reached), None], reached)
        self.samples = d.k * self.says * keep[:, None]
        beta = p if d.beta == "self" else np.array([v @ w for v, w in laws]) if d.beta == "p0" else np.array(d.beta)
        beta = np.broadcast_to(beta if d.beta == "self" else beta.reshape(-1, 1), self.mass.shape)
        self.kept = (
            np.stack([beta, 1 - beta]) * rnd.keep_labels[:, None, None]
        )  # chance of a label, and that it is kept
        if labels is None:
            by_state, none = zip(*(rnd.labeled(np.stack([b, 1 - b], 1)) for b in beta), strict=True)
            self.none, moves = np.stack(none), ((states[:, None], chance) for chance in by_state)
        else:  # as many as there are: their right share is then its mean
            some = self.kept[0] / np.maximum(self.kept.sum(0), _LEAST)
            moves = ((q[None], np.ones((1, p.size))) for q in some)
        self.by_labels = (
            [self.moved(*each) for each in moves] if d.alpha != 0 and (d.m if labels is None else labels) else []
        )

    def split(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(r, n) masses on the grid from values and weights (r, s): each weight on two neighbours, with the same mean."""
        at, n = np.maximum(np.searchsorted(self.p, values, "left"), 1), self.p.size
        up = weights * (values - self.p[at - 1]) / (self.p[at] - self.p[at - 1])
        row = n * np.arange(len(values))[:, None]
        both = np.concatenate([(row + at - 1).ravel(), (row + at).ravel()])
        return np.bincount(both, np.concatenate([(weights - up).ravel(), up.ravel()]), n * len(values)).reshape(-1, n)

    def moved(self, q: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """(n, n) where the mass at each p (rows) goes if its data has right share q (s, n) with chance (s, n)."""
        return self.split(remember(self.p, q, self.learner.memory).T, chance.T)

    def data(self) -> tuple[float, np.ndarray, float]:
        """Labels for each prompt that is asked; the weight (2, skills) of labels in the mixture; its news."""
        d, unlike = self.d, 1 - self.says
        asked = self.mass * (self.failed if d.policy == "hard" else 1)
        total, each = self.share @ asked.sum(1), 0.0
        if self.by_labels and total > _NONE:
            each = d.m if self.labels is None else self.labels / total
        own, weak = self.share @ self.mass @ self.samples.T, each * self.kept * asked * self.share[:, None]
        weight = float(weak.sum() > 0)
        if weight and own.sum():
            weight = weak.sum() / (own.sum() + weak.sum()) if d.alpha is None else d.alpha
        self.weak_right = weak[0].sum(1) / np.maximum(weak.sum((0, 2)), _LEAST)
        labels = weight * (weak * unlike[:, None]).sum((0, 2)) / max(weak.sum(), _LEAST)
        samples = (1 - weight) * (self.share @ self.mass @ (self.samples * unlike).sum(0)) / max(own.sum(), _LEAST)
        return each, labels, samples + labels.sum()

    def learn(self, each: float, news: np.ndarray, loss: float) -> None:
        failed = self.mass * self.failed
        self.mass = self.mass - failed if self.d.alpha == 1 else self.mass @ self.by_samples
        if each:
            none = self.none if self.labels is None else (1 - self.kept.sum(0)) ** each
            some = failed if self.labels is None else failed * (1 - none)
            self.mass += none * failed + np.stack([row @ to for row, to in zip(some, self.by_labels, strict=True)])
        else:
            self.mass += failed
        part = -np.expm1(-self.learner.transfer * news / np.maximum(self.share, _LEAST))
        to = self.p + part[:, None] * (self.weak_right[:, None] - self.p)
        to = expit(logit(to) - self.learner.interference * loss) * (1 - self.d.eta)
        self.mass = self.split(to, self.mass)


def remember(p: np.ndarray, q: np.ndarray, memory: float | np.ndarray) -> np.ndarray:
    """p' where logit p' = logit p + memory (q - p'), broadcast: p at memory 0, q at memory inf; 0 and 1 stay below inf."""
    if np.isinf(memory).all():
        return q + 0 * p
    v = logit(np.clip(p, 1e-12, 1 - 1e-12))
    low, high = v - memory, v + memory + 0 * q
    for _ in range(30):  # bisection: the left side grows in p', the right side falls
        middle = (low + high) / 2
        below = middle - v < memory * (q - expit(middle))
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.where((p > 0) & (p < 1), expit((low + high) / 2), p)
