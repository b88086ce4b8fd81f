"""The long run of the chain: stationary law, absorption, expected round of escape (policy `hard` and filter only).

Between two rounds with data a prompt only waits (and ages), so the chain is watched at the rounds with data: from each
state, where the next data leads (m, n x s) and how many rounds that takes (rounds, n). Ages above a limit are held
there; the error this makes is reported as the mass at that age.

Not covered: policies with both kinds of data on a prompt; beta "p0" in `stationary` (it has no single labeler).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from boostlib.theory.chain import Round
from boostlib.theory.distributions import Beta, Initial, as_initial, atoms

if TYPE_CHECKING:
    from boostlib.theory.dynamics import Dynamics

_BETA_NODES = 200  # quadrature nodes for a Beta p_0: long-run answers are smooth in p_0, not polynomial


@dataclass(frozen=True)
class Stationary:
    """``values`` (s,) and ``mass`` (s,) of the long-run law; ``tail``: the mass at the age where ages were cut (0: exact)."""

    values: np.ndarray
    mass: np.ndarray
    tail: float

    @property
    def mean(self) -> float:
        return float(self.mass @ self.values)


def _watched(rnd: Round, laws: np.ndarray, first_age: int, ages: int) -> tuple[np.ndarray, np.ndarray]:
    """From n laws: chances (n, s) of the state that the next data leads to, and how long each age lasts (ages, n)."""
    ages = ages if rnd.eta > 0 else 1
    aged = rnd.age(laws[None], np.arange(first_age, first_age + ages)[:, None, None])
    reached, ask, kept = rnd.step(aged.reshape(-1, rnd.kinds))
    if rnd.labeler is not None:
        label, nothing = rnd.label_law(rnd.labeler)
        reached, kept = reached + ask[:, None] * label.T, kept + ask * nothing
    reached, kept = reached.reshape(ages, len(laws), -1), kept.reshape(ages, len(laws))
    alive = np.vstack([np.ones(len(laws)), np.cumprod(kept[:-1], 0)])
    with np.errstate(divide="ignore", invalid="ignore"):
        alive[-1] = np.where(alive[-1] == 0, 0, alive[-1] / (1 - kept[-1]))  # the last age lasts until data comes
    forever = np.isinf(alive[-1])
    visits = np.where(forever[None], 0, alive)
    return np.einsum("jn,jns->ns", visits, reached), np.where(forever[None], np.inf, alive)


def _one_kind(d: Dynamics, what: str) -> None:
    if d.policy != "hard" and d.m > 0:
        raise ValueError(f"{what} is solved for policy 'hard' and for m = 0, not for {d.policy!r}.")


def _classes(d: Dynamics, p0: Initial):
    """(Round with one labeler, values, weights) for each group of prompts that share a labeler."""
    p, w = atoms(p0, 2 * _BETA_NODES - 1 if isinstance(as_initial(p0), Beta) else 0)
    betas = d.betas(p0, p)
    for beta in np.unique(betas):
        mine = betas == beta
        yield d.round(np.array([beta])), p[mine], w[mine]


def _closed(graph: np.ndarray) -> list[np.ndarray]:
    """The closed classes of a chain with transitions where ``graph`` (s, s) > 0, each as indices."""
    from scipy.sparse.csgraph import connected_components

    count, label = connected_components(graph > 0, directed=True, connection="strong")
    members = [np.flatnonzero(label == c) for c in range(count)]
    return [c for c in members if not np.delete(graph[c], c, axis=1).any()]


def stationary(d: Dynamics, ages: int = 200) -> Stationary:
    """The unique long-run law of p. Raises ValueError where there is none: 0 and 1 both absorb (see `absorption`)."""
    _one_kind(d, "the stationary law")
    if not isinstance(d.beta, float) and d.beta != "self":
        raise ValueError("the stationary law needs one labeler: give beta as a number or 'self'.")
    rnd = d.round(np.array([d.beta if isinstance(d.beta, float) else 0.0]))
    move, stay = _watched(rnd, rnd.grid.laws, 1, ages)
    closed = _closed(move)
    if len(closed) > 1:
        ends = ", ".join(f"{rnd.grid.laws[c[0], 0]:g}" for c in closed)
        raise ValueError(f"no unique stationary law: the run may end at any of p = {ends}; use absorption(p0) instead.")
    (c,) = closed
    entry = np.zeros(len(move))
    if np.isinf(stay[-1, c]).any():  # one state, kept for ever
        return Stationary(rnd.grid.laws[c, 0] if rnd.eta == 0 else np.zeros(1), np.ones(1), 0.0)
    a = np.vstack([move[np.ix_(c, c)].T - np.eye(c.size), stay[:, c].sum(0)])
    entry[c] = np.linalg.lstsq(a, np.append(np.zeros(c.size), 1), rcond=None)[0]
    mass = np.where(np.isfinite(stay), stay, 0) * entry  # (ages, s)
    values = rnd.age(rnd.grid.laws[None], np.arange(1, len(stay) + 1)[:, None, None])[..., 0]
    support, where = np.unique(values, return_inverse=True)
    total = np.bincount(where.ravel(), mass.ravel(), support.size)
    return Stationary(support[total > 0], total[total > 0], float(mass[-1].sum()) if len(stay) > 1 else 0.0)


def absorption(d: Dynamics, p0: Initial) -> dict[str, float]:
    """Chances over p_0 of ending at p = 0 ("zero"), at p = 1 ("one"), or at neither ("neither"); eta = 0.

    "neither" is a run that moves for ever, or a prompt that never gets data. Their sum is 1.
    """
    _one_kind(d, "absorption")
    if d.eta > 0:
        raise ValueError(f"eta = {d.eta}: absorption is defined for eta = 0, where values can be kept for ever.")
    ends = np.zeros(3)
    for rnd, p, w in _classes(d, p0):
        states = rnd.grid.laws
        move, _ = _watched(rnd, states, 1, 1)
        closed = _closed(move)
        final = np.zeros((len(states), 3))
        for c in closed:
            end = int(states[c[0], 0]) if c.size == 1 and states[c[0], 0] in (0, 1) else 2
            final[c, end] = 1
        moving = np.flatnonzero(~final.any(1))
        inner = np.eye(moving.size) - move[np.ix_(moving, moving)]
        final[moving] = np.linalg.solve(inner, move[moving] @ final)
        first, stay = _watched(rnd, np.stack([p, 1 - p], 1), 0, 1)
        stuck = np.isinf(stay[-1])
        own = np.stack([p == 0, p == 1, (p > 0) & (p < 1)], 1)
        ends += w @ np.where(stuck[:, None], own, first @ final)
    return dict(zip(("zero", "one", "neither"), ends.tolist(), strict=True))


def escape_time(d: Dynamics, p0: Initial, above: float = 0.0, ages: int = 200) -> float:
    """Expected first t with p_t > ``above``, averaged over p_0 (inf: some prompts may never get there).

    With ``above`` = 0 and p_0 = 0 it is the expected round in which a hopeless prompt is first answered rightly at all.
    """
    _one_kind(d, "the round of escape")
    if not 0 <= above < 1:
        raise ValueError(f"above = {above!r} is outside [0, 1).")
    mean = 0.0
    for rnd, p, w in _classes(d, p0):
        low = np.flatnonzero(rnd.age(rnd.grid.laws, 1)[:, 0] <= above)
        move, stay = _watched(rnd, rnd.grid.laws[low], 1, ages)
        wait = np.full(low.size, np.inf)
        inside, out = move[:, low], np.delete(move, low, axis=1).sum(1)
        can = _reaches(inside, out > 0)
        sure = ~_reaches(inside, ~can)
        wait[sure] = np.linalg.solve(np.eye(sure.sum()) - inside[np.ix_(sure, sure)], stay[:, sure].sum(0))
        mine = p <= above
        if mine.any():
            first, lasts = _watched(rnd, np.stack([p, 1 - p], 1)[mine], 0, ages)
            onward = np.where(first[:, low] > 0, first[:, low] * np.where(np.isinf(wait), 1, wait), 0)
            lost = (first[:, low][:, ~sure] > 0).any(1)
            mean += float(w[mine] @ np.where(lost, np.inf, lasts.sum(0) + onward.sum(1)))
    return mean


def _reaches(inside: np.ndarray, target: np.ndarray) -> np.ndarray:
    """States from which ``target`` can be reached by steps inside."""
    found = target.copy()
    while True:
        more = found | (inside[:, found] > 0).any(1)
        if (more == found).all():
            return found
        found = more
