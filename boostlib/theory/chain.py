"""One round as a finite Markov chain, for policies that give a prompt data of one kind (`hard`, filter only).

A prompt's state is its law over kinds of responses: (right, wrong), or more kinds for a biased filter. After a round
with data it is a vector of small fractions, counts / total; after a round without data it is kept. A learner error
eta mixes every state with the last kind, so a state is a vector of fractions and its age, the rounds since data came.

Not covered: prompts with both kinds of data (mixed), budgets shared over prompts and shared skills (monte_carlo).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import factorial, gcd, prod

import numpy as np

_NEGLIGIBLE = 1e-18  # mass that no sum of doubles near 1 can feel
_BLOCK = 1024  # laws at a time, so that the work stays in the processor's cache


@lru_cache(maxsize=256)
def _outcomes(draws: int, kinds: int, all_kept: bool) -> tuple[np.ndarray, np.ndarray]:
    """Counts (o, kinds + 1), the last column the rejected ones, and multinomial coefficients (o,). No draw: one
    empty outcome."""
    rows = [c for c in product(range(draws + 1), repeat=kinds) if sum(c) <= draws]
    if all_kept:
        rows = [c for c in rows if sum(c) == draws]
    counts = np.array([(*c, draws - sum(c)) for c in rows])
    coefficient = [factorial(draws) // prod(map(factorial, map(int, row))) for row in counts]
    return counts, np.array(coefficient, float)


def outcome_law(laws: np.ndarray, keep: np.ndarray, draws: int, all_kept: bool = False) -> np.ndarray:
    """Chances (o, n) of every count of kept draws, from n laws over kinds (n, kinds); kind i is kept with ``keep[i]``."""
    counts, coefficient = _outcomes(draws, laws.shape[1], all_kept)
    kept = laws * keep
    rest = np.maximum(1 - kept.sum(1), 0) if not all_kept else np.zeros(len(laws))
    chance = np.empty((len(counts), len(laws)))
    for start in range(0, len(laws), _BLOCK):
        part = slice(start, start + _BLOCK)
        powers = np.empty((draws + 1, rest[part].size))
        for kind, x in enumerate((*kept[part].T, rest[part])):
            powers[0] = 1
            for i in range(draws):
                np.multiply(powers[i], x, out=powers[i + 1])
            if kind == 0:
                np.multiply(powers[counts[:, 0]], coefficient[:, None], out=chance[:, part])
            else:
                chance[:, part] *= powers[counts[:, kind]]
    return chance


@dataclass(frozen=True)
class Grid:
    """The states that data can lead to, and which outcome leads where."""

    laws: np.ndarray  # (s, kinds)
    samples: np.ndarray  # (s, outcomes of k samples), 0 or 1
    labels: np.ndarray  # (s, outcomes of m labels), 0 or 1
    no_samples: int  # the outcome with nothing kept
    no_labels: int | None


@lru_cache(maxsize=256)
def grid(k: int, m: int, kinds: int, keep_all_labels: bool) -> Grid:
    tables = [_outcomes(k, kinds, False)[0][:, :kinds], _outcomes(m, kinds, keep_all_labels)[0][:, :kinds]]
    index: dict[tuple[int, ...], int] = {}
    places = []
    for table in tables:
        reduced = [tuple(int(c) // gcd(*map(int, row)) for c in row) if row.any() else None for row in table]
        places.append([None if r is None else index.setdefault(r, len(index)) for r in reduced])
    laws = np.array([np.array(r) / sum(r) for r in index])
    matrices = []
    for place in places:
        matrix = np.zeros((len(index), len(place)))
        for outcome, state in enumerate(place):
            if state is not None:
                matrix[state, outcome] = 1
        matrices.append(matrix)
    nothing = [place.index(None) if None in place else None for place in places]
    return Grid(laws, matrices[0], matrices[1], nothing[0], nothing[1])


@dataclass(frozen=True)
class Round:
    """What the chain needs to know of a round. Classes are groups of prompts that share a labeler."""

    k: int
    m: int  # labels for a prompt without accepted samples; 0 for none
    keep: np.ndarray  # (kinds,): chance that the filter accepts a response of each kind
    labeler: np.ndarray | None  # (classes, kinds): law of a label; None: the prompt's own current law
    filter_labels: bool
    eta: float
    train_on_samples: bool = True  # False where alpha = 1 leaves S+ without weight

    @property
    def kinds(self) -> int:
        return self.keep.size

    @property
    def grid(self) -> Grid:
        return grid(self.k, self.m, self.kinds, not self.filter_labels)

    def age(self, laws: np.ndarray, rounds: int | np.ndarray) -> np.ndarray:
        """Laws after ``rounds`` rounds of learner error: mass moves to the last kind."""
        if self.eta == 0:
            return np.broadcast_to(laws, np.broadcast_shapes(laws.shape, np.shape(rounds)))
        left = (1 - self.eta) ** np.asarray(rounds, float)
        aged = laws * left
        aged[..., -1] += 1 - left[..., 0] if np.ndim(left) else 1 - left
        return aged

    def label_law(self, laws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States (s, n) reached by m labels drawn from n laws, and the chance (n,) of no data at all."""
        keep = self.keep if self.filter_labels else np.ones(self.kinds)
        chance = outcome_law(laws, keep, self.m, not self.filter_labels)
        none = self.grid.no_labels
        return self.grid.labels @ chance, chance[none] if none is not None else np.zeros(len(laws))

    def step(self, laws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From n laws (n, kinds): chances (n, s) of the state reached by data, (n,) of asking the class's labeler,
        and (n,) of keeping the law without asking it."""
        chance = outcome_law(laws, self.keep, self.k)
        ask = chance[self.grid.no_samples]
        if self.train_on_samples:
            reached, kept = (self.grid.samples @ chance).T, np.zeros(len(laws))
        else:
            reached, kept = np.zeros((len(laws), len(self.grid.laws))), 1 - ask
        if self.labeler is None:
            labels, nothing = self.label_law(laws)
            return reached + ask[:, None] * labels.T, np.zeros(len(laws)), kept + ask * nothing
        return reached, ask, kept


def forward(
    rnd: Round, laws: np.ndarray, weights: np.ndarray, classes: np.ndarray, rounds: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """The chain from t = 0 to ``rounds``, exactly.

    ``laws`` (n, kinds), ``weights`` (n,) and ``classes`` (n,) describe p_0; classes count from 0, ascending, none left out.
    Yields at every t: laws without data so far (n, kinds) and their mass (n,); laws by age (ages, s, kinds) and their
    mass (classes, ages, s). The masses sum to the sum of the weights.
    """
    starts = np.searchsorted(classes, np.arange(classes[-1] + 1))
    if rnd.labeler is None:
        label, nothing = np.zeros((len(starts), len(rnd.grid.laws))), np.zeros(len(starts))
    else:
        label, nothing = rnd.label_law(rnd.labeler)
        label = label.T
    can_wait = rnd.labeler is None or bool(nothing.any()) or not rnd.train_on_samples
    ages = max(rounds, 1) if rnd.eta > 0 and can_wait else 1
    states = rnd.age(rnd.grid.laws[None], np.arange(1, ages + 1)[:, None, None])
    s = len(rnd.grid.laws)
    reached, ask, kept = rnd.step(states.reshape(-1, rnd.kinds))
    keep_mass = kept + ask * nothing[:, None]
    atom, mass = weights.astype(float).copy(), np.zeros((len(starts), ages * s))
    one = len(starts) == 1
    distinct, which = (laws, slice(None)) if one else np.unique(laws, axis=0, return_inverse=True)
    block = min(8, max(1, 20_000 // len(distinct))) if rnd.eta > 0 else rounds + 1
    waits = True  # whether any prompt still waits for its first data
    for t in range(rounds + 1):
        now = rnd.age(laws, t)
        yield now, atom, states, mass.reshape(-1, ages, s)
        if t == rounds:
            return
        used = min(t, ages) * s
        waits = waits and (t % 8 > 0 or atom.sum() > _NEGLIGIBLE)
        if waits and rnd.eta > 0 and t % block == 0:  # several rounds at once: few, large array operations
            span = np.arange(t, min(t + block, rounds))
            steps = rnd.step(rnd.age(distinct[None], span[:, None, None]).reshape(-1, rnd.kinds))
            steps = [part.reshape(len(span), len(distinct), *part.shape[1:]) for part in steps]
        elif t == 0:
            steps = [part[None] for part in rnd.step(distinct)]
        entry, asked = mass[:, :used] @ reached[:used], mass[:, :used] @ ask[:used]
        if waits:
            on, to_labeler, stay = (part[t % block if rnd.eta > 0 else 0][which] for part in steps)
            if one:
                entry += atom @ on
            else:
                entry += np.add.reduceat(atom[:, None] * on, starts, axis=0)
            asked += np.add.reduceat(atom * to_labeler, starts)
            atom = atom * (stay + to_labeler * nothing[classes])
        entry += asked[:, None] * label
        waiting, mass = mass[:, :used] * keep_mass[:, :used], np.zeros_like(mass)
        if ages > 1:
            mass[:, s : s + used] = waiting
        elif rnd.eta == 0:
            mass[:, :used] = waiting
        mass[:, :s] += entry
