"""Vectorised Monte Carlo of the model, for what the chain can't hold: shared budgets, every policy, shared skills.

Not covered: the expected curve itself where a chain exists (chain, mixed); this is its independent check there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from boostlib.theory.distributions import Beta, Histogram, Initial, as_initial, draw

if TYPE_CHECKING:
    from boostlib.theory.dynamics import Dynamics


_BLOCK = 65_536  # prompts at a time, so that the work stays in the processor's cache


def find_policy(name: str) -> Callable:
    from boostlib.allocation import POLICIES

    if name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}; known are {', '.join(POLICIES)}.")
    return POLICIES[name]


def simulate(
    d: Dynamics,
    p0: Initial,
    rounds: int,
    n_seeds: int,
    seed: int,
    *,
    prompts: int = 1000,
    budget: int | None = None,
    skill: Sequence[int] | None = None,
    pooling: float = 1.0,
    speed: float = 1.0,
    cost: Sequence[float] | None = None,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Mean of p_t over prompts for each seed, shape (n_seeds, rounds + 1).

    A Beta or Histogram p_0 is drawn anew in each seed, ``prompts`` values. Without ``budget``, "hard" and "uniform" spend m
    labels a prompt as the chain has it; any other policy shares m x prompts labels a round. With ``budget`` (labels a
    round) every policy shares it. "oracle" is told beta and the filter. ``skill`` (prompts,) groups prompts: p_{t+1} =
    (1 - pooling) x own share + pooling x the share over the skill's data; where the skill has no data, the own share. Row
    i depends on (seed, i) alone.
    """
    from boostlib.theory.dynamics import _check_rounds

    _check_rounds(rounds)
    if n_seeds < 1:
        raise ValueError(f"n_seeds = {n_seeds}: give at least 1.")
    if not 0 <= pooling <= 1:
        raise ValueError(f"pooling = {pooling!r} is outside [0, 1].")
    if not 0 <= speed <= 1:
        raise ValueError(f"speed = {speed!r} is outside [0, 1].")
    spec = as_initial(p0)
    n = prompts if isinstance(spec, Beta | Histogram) else len(spec)
    groups = None if skill is None else np.unique(np.asarray(skill), return_inverse=True)[1]
    if groups is not None and groups.shape != (n,):
        raise ValueError(f"skill has shape {groups.shape} for {n} prompts; give one group a prompt.")
    fixed = budget is None and d.policy in ("hard", "uniform")
    if not fixed:
        budget = d.m * n if budget is None else budget
    policy = None if fixed else find_policy(d.policy)
    curves = np.empty((n_seeds, rounds + 1))
    for i in range(n_seeds):
        rng = np.random.Generator(np.random.SFC64([seed, i]))
        p = draw(spec, n, rng)
        run = _Run(d, d.betas(p0 if np.ndim(d.beta) else p, p), rng, policy, budget, groups, pooling, cost, speed)
        curves[i] = run.curve(p, rounds)
        if progress:
            progress(1)
    return curves


class _Run:
    """One seed: arrays over prompts, a loop over rounds."""

    def __init__(self, d, beta, rng, policy, budget, groups, pooling, cost, speed) -> None:
        self.d, self.rng, self.policy, self.budget, self.speed = d, rng, policy, budget, speed
        self.beta, self.groups, self.pooling = beta, groups, pooling
        self.cost = None if cost is None else np.asarray(cost, float)
        self.accepted: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []
        self.labels_accepted: list[np.ndarray] = []
        # every prompt has data of one kind, with weight: alpha plays no role
        self.single = d.policy == "hard" and groups is None and d.alpha not in (0, 1)

    def curve(self, p: np.ndarray, rounds: int) -> np.ndarray:
        # 32-bit: half the memory to move, and its rounding is far below what Monte Carlo resolves
        p = p.astype(np.float32)
        means = [p.mean(dtype=float)]
        for _ in range(rounds):
            p = self.learn(p, *self.samples(p))
            means.append(p.mean(dtype=float))
        return np.array(means)

    def count(self, right: np.ndarray, either: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
        """Of ``draws`` responses a prompt: accepted right ones, accepted ones. ``right`` and ``either`` are chances; one
        uniform decides a response: 31 bits of raw output, at less than half the cost of a float."""
        small = np.uint8 if draws < 256 else np.int32
        a, n = np.zeros(right.size, small), np.zeros(right.size, small)
        for start in range(0, right.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            size = a[part].size
            below_right, below_either = ((p[part] * 2.0**31).astype(np.uint32) for p in (right, either))
            yes = np.empty(size, bool)
            for _ in range(draws):
                u = self.rng.bit_generator.random_raw(size // 2 + 1).view(np.uint32)[:size]
                u >>= 1
                a[part] += np.less(u, below_right, out=yes).view(np.uint8)
                n[part] += np.less(u, below_either, out=yes).view(np.uint8)
        return a, n

    def samples(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        right = p * np.float32(1 - self.d.gamma_fn)
        return self.count(right, right + (1 - p) * np.float32(self.d.gamma_fp), self.d.k)

    def ask(self, p: np.ndarray, accepted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Prompts (i,) that got labels, and the kept right and kept ones among each one's labels."""
        d = self.d
        keep_right, keep_wrong = (1 - d.gamma_fn, d.gamma_fp) if d.weak_data == "A" else (1.0, 1.0)
        if self.policy is None:
            if d.m == 0 or d.alpha == 0:
                none = np.zeros(0, int)
                return none, none, none
            who = np.flatnonzero(accepted == 0) if d.policy == "hard" else np.arange(p.size)
            beta = (p if d.beta == "self" else self.beta)[who]
            right = (beta * keep_right).astype(np.float32)
            either = np.float32(1) if keep_wrong == keep_right == 1 else right + (1 - beta) * keep_wrong
            return who, *self.count(right, np.broadcast_to(either, right.shape).astype(np.float32), d.m)
        beta = p.astype(float) if d.beta == "self" else self.beta
        known = {"gamma_fp": d.gamma_fp, "gamma_fn": d.gamma_fn, "filtered": d.weak_data == "A"}
        known = {"beta": beta, **known} if d.policy == "oracle" else {}  # it alone is told the truth
        counts = np.asarray(self.policy(self.statistics(p, accepted), self.budget, self.rng, **known))
        who = np.flatnonzero(counts)
        beta = beta[who]
        right = self.rng.binomial(counts[who], beta)
        a = self.rng.binomial(right, keep_right)
        n = a + self.rng.binomial(counts[who] - right, keep_wrong)
        self.labels.append(counts)
        self.labels_accepted.append(np.bincount(who, n, p.size).astype(int))
        return who, a, n

    def statistics(self, p: np.ndarray, accepted: np.ndarray):
        from boostlib.allocation import Statistics

        self.accepted.append(accepted.astype(int))
        past = np.array(self.labels, int).reshape(len(self.labels), p.size)
        kept = np.array(self.labels_accepted, int).reshape(past.shape)
        return Statistics(
            accepted=np.array(self.accepted), k=self.d.k, labels=past, labels_accepted=kept, cost=self.cost,
            p=p.astype(float),
        )  # fmt: skip

    def learn(self, p: np.ndarray, a: np.ndarray, n: np.ndarray) -> np.ndarray:
        """p_{t+1} from p_t and the accepted right ones (a) and accepted ones (n) among each prompt's samples."""
        who, u, v = self.ask(p, n)
        if self.single:
            share = p.copy()
            np.divide(a, n, out=share, where=n > 0, casting="same_kind")
            has = v > 0
            share[who[has]] = u[has] / v[has]
        else:
            share = self.mixed(p, a, n, who, u, v)
        if self.speed < 1:
            share = p + self.speed * (share - p)
        return (share * np.float32(1 - self.d.eta)).astype(np.float32)

    def mixed(self, p, a, n, who, u, v) -> np.ndarray:
        d = self.d
        a, n = a.astype(float), n.astype(float)
        right, kept = np.bincount(who, u, p.size), np.bincount(who, v, p.size)
        pool = d.mixture == "pool"
        with np.errstate(divide="ignore", invalid="ignore"):
            if d.alpha is None:
                w_s = w_d = 1.0
            else:
                w_s = np.nan_to_num((1 - d.alpha) / (n.sum() if pool else n), posinf=0)
                w_d = np.nan_to_num(d.alpha / (kept.sum() if pool else kept), posinf=0)
            good, total = w_s * a + w_d * right, w_s * n + w_d * kept
            own = np.where(total > 0, good / total, p)
            if self.groups is None:
                return own
            pooled = np.bincount(self.groups, good) / np.bincount(self.groups, total)
        pooled = pooled[self.groups]
        return np.where(np.isnan(pooled), own, (1 - self.pooling) * own + self.pooling * pooled)
