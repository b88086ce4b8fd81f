"""Vectorised Monte Carlo of the model, for what the chain can't hold: shared budgets, every policy. Not covered: prompts that
teach each other (transfer); the expected curve itself where a chain exists (chain); this is its independent check there."""

from __future__ import annotations

import numpy as np

from boostlib.allocation import POLICIES, Statistics
from boostlib.theory.distributions import Initial, as_initial
from boostlib.theory.parameters import Parameters, check_whole

_BLOCK = 65_536  # prompts at a time, so that the work stays in the processor's cache


def simulate(
    d: Parameters, p0: Initial, rounds: int, n_seeds: int, seed: int, *, prompts: int = 1000, budget: int | None = None
) -> np.ndarray:  # fmt: skip
    """Mean of p_t over prompts for each seed, shape (n_seeds, rounds + 1); row i depends on (seed, i) alone.

    A BetaLaw or Histogram p_0 is drawn anew in each seed, ``prompts`` values. Without ``budget``, "hard" and "uniform"
    spend m labels a prompt as the chain has it; any other policy shares m x prompts labels a round. With ``budget``
    (labels a round) every policy shares it. "oracle" is told beta and the filter."""
    check_whole(0, rounds=rounds)
    check_whole(1, n_seeds=n_seeds)
    spec = as_initial(p0)
    n = len(spec) if isinstance(spec, np.ndarray) else prompts
    if budget is None and d.policy not in ("hard", "uniform"):
        budget = d.m * n
    curves = np.empty((n_seeds, rounds + 1))
    for i in range(n_seeds):
        rng = np.random.Generator(np.random.SFC64([seed, i]))
        p = spec if isinstance(spec, np.ndarray) else spec.draw(n, rng)
        beta = d.labeler(p0 if np.ndim(d.beta) else p, p)
        curves[i] = _Run(d, beta, rng, budget).curve(p, rounds)
    return curves


class _Run:
    """One seed: arrays over prompts, a loop over rounds. ``budget`` None: m labels a prompt that the policy names."""

    def __init__(self, d, beta, rng, budget) -> None:
        self.d, self.beta, self.rng, self.budget = d, beta, rng, budget
        self.keep_right, self.keep_wrong = (1 - d.gamma_fn, d.gamma_fp) if d.weak_data == "A" else (1.0, 1.0)
        self.accepted, self.labels, self.labels_accepted = [], [], []  # a row a round, what a policy may see

    def curve(self, p: np.ndarray, rounds: int) -> np.ndarray:
        p = p.astype(np.float32)  # half the memory to move, and its rounding is far below what Monte Carlo resolves
        means = [p.mean(dtype=float)]
        for _ in range(rounds):
            right = p * np.float32(1 - self.d.gamma_fn)
            p = self.learn(p, *self.count(right, right + (1 - p) * np.float32(self.d.gamma_fp), self.d.k))
            means.append(p.mean(dtype=float))
        return np.array(means)

    def count(self, right: np.ndarray, either: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
        """Of ``draws`` responses a prompt: accepted right ones, accepted ones. ``right`` and ``either`` are chances;
        one uniform decides a response: 31 bits of raw output, at less than half the cost of a float."""
        small = np.uint8 if draws < 256 else np.int32
        a, n = np.zeros(right.size, small), np.zeros(right.size, small)
        for part in (slice(start, start + _BLOCK) for start in range(0, right.size, _BLOCK)):
            yes = np.empty(a[part].size, bool)
            below_right, below_either = ((p[part] * 2.0**31).astype(np.uint32) for p in (right, either))
            for _ in range(draws):
                u = self.rng.bit_generator.random_raw(yes.size // 2 + 1).view(np.uint32)[: yes.size]
                u >>= 1
                a[part] += np.less(u, below_right, out=yes).view(np.uint8)
                n[part] += np.less(u, below_either, out=yes).view(np.uint8)
        return a, n

    def ask(self, p: np.ndarray, accepted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Prompts (i,) that got labels, and the kept right and kept ones among each one's labels."""
        d, beta = self.d, p if self.d.beta == "self" else self.beta
        if self.budget is not None:
            return self.ask_shared(beta.astype(float), p, accepted)
        who = np.flatnonzero(accepted == 0) if d.policy == "hard" else np.arange(p.size)
        right = (beta[who] * self.keep_right).astype(np.float32)
        kept = np.float32(1) if self.keep_right == self.keep_wrong == 1 else right + (1 - beta[who]) * self.keep_wrong
        return who, *self.count(
            right, np.broadcast_to(kept, right.shape).astype(np.float32), 0 if d.alpha == 0 else d.m
        )

    def ask_shared(self, beta: np.ndarray, p: np.ndarray, accepted: np.ndarray) -> tuple[np.ndarray, ...]:
        d, empty = self.d, np.zeros((0, p.size), int)
        self.accepted.append(accepted.astype(int))
        past = (np.array(rows) if rows else empty for rows in (self.labels, self.labels_accepted))
        statistics = Statistics(np.array(self.accepted), d.k, *past, p=p.astype(float))
        truth = {"beta": beta, "gamma_fp": d.gamma_fp, "gamma_fn": d.gamma_fn, "filtered": d.weak_data == "A"}
        told = truth if d.policy == "oracle" else {}  # it alone is told the truth
        counts = np.asarray(POLICIES[d.policy](statistics, self.budget, self.rng, **told))
        who = np.flatnonzero(counts)
        right = self.rng.binomial(counts[who], beta[who])
        kept_right = self.rng.binomial(right, self.keep_right)
        kept = kept_right + self.rng.binomial(counts[who] - right, self.keep_wrong)
        self.labels.append(counts)
        self.labels_accepted.append(np.bincount(who, kept, p.size).astype(int))
        return who, kept_right, kept

    def learn(self, p: np.ndarray, a: np.ndarray, n: np.ndarray) -> np.ndarray:
        """p_{t+1} from p_t and the accepted right ones (a) and accepted ones (n) among each prompt's samples."""
        who, u, v = self.ask(p, n)
        if self.d.policy == "hard" and self.d.alpha not in (0, 1):
            share, has = p.copy(), v > 0  # every prompt has data of one kind, with weight: alpha plays no role
            np.divide(a, n, out=share, where=n > 0, casting="same_kind")
            share[who[has]] = u[has] / v[has]
        else:
            share = self.mixed(p, a.astype(float), n.astype(float), who, u, v)
        return (share * np.float32(1 - self.d.eta)).astype(np.float32)

    def mixed(self, p, a, n, who, u, v) -> np.ndarray:
        """The shares where a prompt may hold both kinds of data."""
        d, w_s, w_d = self.d, 1.0, 1.0
        right, kept = np.bincount(who, u, p.size), np.bincount(who, v, p.size)
        with np.errstate(divide="ignore", invalid="ignore"):
            if d.alpha is not None:
                of_s, of_d = (n.sum(), kept.sum()) if d.mixture == "pool" else (n, kept)
                w_s, w_d = (np.nan_to_num(w / of, posinf=0) for w, of in ((1 - d.alpha, of_s), (d.alpha, of_d)))
            good, total = w_s * a + w_d * right, w_s * n + w_d * kept
            return np.where(total > 0, good / total, p)
