"""A round as a finite Markov chain.

A prompt's state is its law over kinds of responses: (right, wrong), or more kinds for a biased filter. After a round
with data it is a vector of small fractions, counts / total; without data it is kept. A learner error eta mixes every
law with the last kind, so a state is a vector of fractions and its age, the rounds since data came.

Not covered: budgets shared over prompts, policies that look at the samples, shared skills (monte_carlo)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import e, prod

import numpy as np

_NEGLIGIBLE = 1e-18  # mass that no sum of doubles near 1 can feel
_MOST = 1_900  # draws, beyond which `chances` would overflow
_BLOCK = 25_000  # chances at a time, so that the work stays in the processor's cache

#: One t of a chain: pairs of laws (v, kinds) and how many prompts hold them, mass (classes, v). Classes are groups of
#: prompts that share a labeler; all masses sum to 1.
Parts = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What some draws can leave in a prompt's data, sorted by the law that the data amounts to."""

    counts: np.ndarray  # (o, kinds + 1): kept draws of each kind, then the rejected ones
    starts: np.ndarray  # where the outcomes of each law begin; of "nothing kept" first, where that can be
    fractions: np.ndarray  # (s, kinds): counts in lowest terms, one row a law
    can_be_empty: bool


def outcomes(keep: np.ndarray, draws: int) -> Outcomes:
    """Of draws that are kept with these chances (kinds,)."""
    return _outcomes(draws, keep.size, bool((keep == 1).all()))


@lru_cache(maxsize=256)
def _outcomes(draws: int, kinds: int, all_kept: bool) -> Outcomes:
    if draws > _MOST:
        raise ValueError(f"{draws} responses a prompt: the chain holds up to {_MOST}; `simulate` holds any number.")
    counts = np.indices((draws + 1,) * kinds).reshape(kinds, -1).T
    kept = counts.sum(1)
    counts = counts[kept == draws if all_kept else kept <= draws]
    divisor = np.maximum(np.gcd.reduce(counts, axis=1), 1)[:, None]
    fractions, law = np.unique(counts // divisor, axis=0, return_inverse=True)  # nothing kept, all zeros, comes first
    order = np.argsort(law.ravel(), kind="stable")
    counts = np.column_stack([counts, draws - counts.sum(1)])[order]
    starts = np.searchsorted(law.ravel()[order], np.arange(len(fractions)))
    can_be_empty = not fractions[0].any()
    return Outcomes(counts, starts, fractions[1:] if can_be_empty else fractions, can_be_empty)


def chances(laws: np.ndarray, keep: np.ndarray, draws: int) -> np.ndarray:
    """Multinomial chances (o, n) of `outcomes`, from n laws (n, kinds); kind i is kept with chance ``keep[i]``."""
    kept = (laws * keep).T
    x, counts = np.vstack([kept, np.maximum(1 - kept.sum(0), 0)]), outcomes(keep, draws).counts
    scale = max(1.0, draws / e)  # spreads n! over the powers: x^i / i! times scale^i neither over- nor underflows
    powers = np.ones((draws + 1, *x.shape))
    powers[0, 0] = prod(i / scale for i in range(1, draws + 1))
    for i in range(1, draws + 1):
        np.multiply(powers[i - 1], x * (scale / i), out=powers[i])
    chance = powers[counts[:, 0], 0]
    for kind in range(1, len(x)):
        chance *= powers[counts[:, kind], kind]
    return chance


def learnt(laws: np.ndarray, keep: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Chances (s, n) of each law that data from n laws (n, kinds) can amount to, and (n,) of no data."""
    table = outcomes(keep, draws)
    sums = np.empty((len(table.starts), len(laws)))
    size = max(1, _BLOCK // len(table.counts))
    for part in (slice(start, start + size) for start in range(0, len(laws), size)):
        np.add.reduceat(chances(laws[part], keep, draws), table.starts, out=sums[:, part])
    return (sums[1:], sums[0]) if table.can_be_empty else (sums, np.zeros(len(laws)))


@lru_cache(maxsize=256)
def _states(samples: Outcomes, labels: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    """The laws (s, kinds) that data can amount to, those of samples first; and the place of each law of labels."""
    index = {row: i for i, row in enumerate(map(tuple, samples.fractions.tolist()))}
    place = [index.setdefault(row, len(index)) for row in map(tuple, labels.fractions.tolist())]
    fractions = np.array(list(index), float)
    return fractions / fractions.sum(1, keepdims=True), np.array(place, int)


@dataclass(frozen=True)
class Round:
    """What the chain needs to know of a round."""

    k: int
    m: int  # 0 where labels have no weight
    keep: np.ndarray  # (kinds,): chance that the filter accepts a response of each kind
    keep_labels: np.ndarray  # (kinds,): the same for labels
    labeler: np.ndarray | None  # (classes, kinds): law of a label; None: the prompt's own current law
    eta: float
    alpha: float | None
    everyone: bool  # labels for every prompt; else for those without accepted samples
    pooled: bool  # alpha is shared out over all prompts; else within each

    @property
    def states(self) -> tuple[np.ndarray, np.ndarray]:
        return _states(outcomes(self.keep, self.k), outcomes(self.keep_labels, self.m))

    def age(self, laws: np.ndarray, rounds: int | np.ndarray) -> np.ndarray:
        """Laws (n, kinds) after so many rounds of learner error (each of ``rounds`` (r,): (r, n, kinds))."""
        left = ((1 - self.eta) ** np.asarray(rounds, float))[..., None, None]
        aged = laws * left
        aged[..., -1:] += 1 - left
        return aged

    def labeled(self, laws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Chances (s, n) of each state after labels drawn from n laws, and (n,) of no label kept."""
        values, place = self.states
        by_state = np.zeros((len(values), len(laws)))
        by_state[place], nothing = learnt(laws, self.keep_labels, self.m)
        return by_state, nothing

    def step(self, laws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a round does to n laws: chances (s, n) of each state by samples, without the last ones where only labels
        lead to them; (n,) that the class's labeler is asked; and (n,) that the law is kept, and nobody asked."""
        reached, failed = learnt(laws, self.keep, self.k)
        keeps = np.zeros(len(laws))
        if self.alpha == 1:  # S+ has no weight
            reached, keeps = np.zeros_like(reached), 1 - failed
        if self.labeler is not None:
            return reached, failed, keeps
        by_labels, nothing = self.labeled(laws)  # the prompt asks itself
        by_labels *= failed
        by_labels[: len(reached)] += reached
        return by_labels, np.zeros(len(laws)), keeps + failed * nothing


def run(rnd: Round, laws: np.ndarray, mass: np.ndarray, rounds: int) -> Iterator[Parts]:
    """The chain at t = 0..rounds, exactly, from p_0: ``laws`` (n, kinds) with ``mass`` (classes, n). Where a prompt has
    data of one kind, two parts at each t: prompts that no data has reached yet; and the states by age."""
    if rnd.everyone and rnd.m > 0:
        yield from _run_mixed(rnd, laws, mass, rounds)
        return
    fractions, _ = rnd.states
    s, classes = len(fractions), len(mass)
    label, nothing = np.zeros((classes, s)), np.zeros((classes, 1))  # the states that labels lead to, no label kept
    if rnd.labeler is not None:  # else `step` includes the labels
        label, none_kept = (x.T for x in rnd.labeled(rnd.labeler))
        nothing = np.where(none_kept > _NEGLIGIBLE, none_kept, 0)[:, None]

    def spread(mass: np.ndarray, reached: np.ndarray, asks: np.ndarray, keeps: np.ndarray) -> tuple[np.ndarray, ...]:
        """Of mass (classes, n): what comes to each state by samples, what the labeler is asked about, what stays."""
        return mass @ reached.T, mass @ asks, mass * (keeps + asks * nothing)

    can_wait = nothing.any() or rnd.labeler is None or rnd.alpha == 1
    ages = max(rounds, 1) if rnd.eta > 0 and can_wait else 1
    values = rnd.age(fractions, np.arange(1, ages + 1)).reshape(-1, laws.shape[1])
    of_states, of_untouched = rnd.step(values), rnd.step(laws)
    untouched, mass = mass, np.zeros((classes, 0 if ages > 1 else s))
    for t in range(rounds + 1):
        n = mass.shape[1]
        yield [(rnd.age(laws, t), untouched), (values[:n], mass)]
        if t == rounds:
            return
        sampled, asked, kept = spread(mass, *(part[..., :n] for part in of_states))
        if untouched.sum() > _NEGLIGIBLE:
            first, also_asked, untouched = spread(untouched, *of_untouched)
            sampled, asked = sampled + first, asked + also_asked
            of_untouched = rnd.step(rnd.age(laws, t + 1)) if rnd.eta else of_untouched
        fresh = asked[:, None] * label
        fresh[:, : sampled.shape[1]] += sampled
        mass = np.hstack([fresh, kept]) if ages > 1 else fresh + kept  # what is kept grows a round older


def _run_mixed(rnd: Round, laws: np.ndarray, mass: np.ndarray, rounds: int) -> Iterator[Parts]:
    """One part at each t. Every prompt gets labels, so it can hold S+ (an example weighs (1 - alpha) / |S+|) and D
    (alpha / |D|) at once. ``pooled`` totals tie all prompts together; with many prompts they settle at their
    expectations, and the chain is exact in that limit. With a prompt's own totals it is exact for any number."""
    m, alpha = rnd.m, rnd.alpha
    in_s = outcomes(rnd.keep, rnd.k).counts[:, None, :-1]
    in_d = outcomes(rnd.keep_labels, m).counts[None, :, :-1]
    n_s, n_d = in_s.sum(-1), in_d.sum(-1)
    for t in range(rounds + 1):
        yield [(laws, mass)]
        if t == rounds:
            return
        labelers = [laws] * len(mass) if rnd.labeler is None else list(rnd.labeler[:, None])
        if alpha is None:
            w_s = w_d = np.float64(1)
        elif rnd.pooled:
            kept = sum((row * (labeler @ rnd.keep_labels)).sum() for row, labeler in zip(mass, labelers, strict=True))
            w_s, w_d = _shared(1 - alpha, rnd.k * (mass.sum(0) @ (laws @ rnd.keep))), _shared(alpha, m * kept)
        else:
            w_s, w_d = _shared(1 - alpha, n_s), _shared(alpha, n_d)
        total = w_s * n_s + w_d * n_d  # (outcomes of samples, outcomes of labels), as all that follows
        has_data = total > 0
        after = (w_s[..., None] * in_s + w_d[..., None] * in_d)[has_data] / total[has_data][:, None]
        sampled = chances(laws, rnd.keep, rnd.k)
        reached, waiting = [], []
        for row, labeler in zip(mass, labelers, strict=True):
            labeled = chances(labeler, rnd.keep_labels, m)
            both = (sampled * row) @ labeled.T if rnd.labeler is None else np.outer(sampled @ row, labeled)
            reached.append(both[has_data])
            waiting.append(row * (sampled * (~has_data @ labeled)).sum(0))
        laws = rnd.age(np.concatenate([after, laws]), 1)
        laws, mass = _merged(laws, np.concatenate([np.array(reached), np.array(waiting)], 1))


def _shared(weight: float, examples: np.ndarray | float) -> np.ndarray:
    """The weight of one example; 0 where there is none."""
    return np.divide(weight, examples, out=np.zeros(np.shape(examples)), where=np.greater(examples, 0))


def _merged(laws: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal laws made one; those left out that a million together would not be felt."""
    used = mass.max(0) > _NEGLIGIBLE * 1e-6
    laws, mass = laws[used], mass[:, used]
    key, axis = (laws[:, 0], None) if laws.shape[1] == 2 else (laws, 0)
    _, first, where = np.unique(key, axis=axis, return_index=True, return_inverse=True)
    return laws[first], np.array([np.bincount(where.ravel(), row, first.size) for row in mass])
