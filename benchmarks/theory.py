"""Speed of the theory: boostlib's chain and Monte Carlo beside numba and a naive loop over prompts, the same model.

All contenders are checked to agree before they are timed. Hot caches: compilation and tables are made beforehand.

Not covered: policies with a shared budget, the mixed chain.
"""

from __future__ import annotations

import math
import random
import time
from fractions import Fraction

import numpy as np

from benchmarks import interleave, last_line, report
from boostlib.theory import BetaLaw, Dynamics, maps

CURVE = Dynamics(k=8, m=8, beta=0.2, gamma_fp=0.1, gamma_fn=0.1, eta=0.01)


def run(repeats: int = 5, prompts: int = 100_000, rounds: int = 20, seeds: int = 32, grid: int = 60) -> dict:
    """Print the tables and, last, one JSON document; returns the document."""
    d, p0, horizon = CURVE, np.linspace(0, 1, 64), 50
    fast = numba_versions()
    exact = d.exact(p0, horizon)
    np.testing.assert_allclose(fast["curve"](d, p0, horizon), exact, rtol=0, atol=1e-12)
    np.testing.assert_allclose(naive_curve(d, 0.3, 6), d.exact(0.3, 6), rtol=0, atol=1e-12)

    def curve(many: int) -> int:
        for _ in range(many):
            d.exact(p0, horizon)
        return 64 * many

    def curve_numba(many: int) -> int:
        for _ in range(many):
            fast["curve"](d, p0, horizon)
        return 64 * many

    def curve_naive() -> int:
        naive_curve(d, 0.3, horizon)
        return 1

    curves = report(
        f"Exact curves of {horizon} rounds, k = m = 8, eta = .01 (64 prompts a call; the naive loop does 1)",
        "prompt curves",
        interleave(
            {"boostlib": lambda: curve(20), "numba": lambda: curve_numba(20), "naive loop": curve_naive}, repeats
        ),
        baseline="naive loop",
    )

    def error(curves: np.ndarray) -> float:  # in standard errors, at the last round
        gap = curves[:, -1].mean() - d.exact(BetaLaw(0.5, 1.5), rounds)[-1]
        return abs(gap) / (curves[:, -1].std(ddof=1) / math.sqrt(len(curves)))

    few = 2000
    assert error(d.simulate(BetaLaw(0.5, 1.5), rounds, 16, 1, prompts=few)) < 4
    start = np.random.default_rng(1).beta(0.5, 1.5, (16, few))
    assert error(np.array([fast["simulate"](d, p, rounds, i) for i, p in enumerate(start)])) < 4
    assert error(np.array([naive_simulation(d, p[:200].tolist(), rounds, i) for i, p in enumerate(start)])) < 4

    def simulate() -> int:
        d.simulate(BetaLaw(0.5, 1.5), rounds, seeds, 0, prompts=prompts)
        return seeds * prompts * rounds

    def simulate_numba() -> int:
        for i in range(seeds):
            fast["simulate"](d, np.random.default_rng(i).beta(0.5, 1.5, prompts), rounds, i)
        return seeds * prompts * rounds

    def simulate_naive() -> int:
        naive_simulation(d, start[0].tolist(), rounds, 0)
        return few * rounds

    monte_carlo = report(
        f"Monte Carlo of {prompts:,} prompts x {rounds} rounds x {seeds} seeds (the naive loop: {few:,} x {rounds} x 1)",
        "prompt rounds",
        interleave({"boostlib": simulate, "numba": simulate_numba, "naive loop": simulate_naive}, min(repeats, 3)),
        baseline="naive loop",
    )

    begin = time.perf_counter()
    maps.phase_diagram(d, np.linspace(0.01, 0.99, grid), np.linspace(0, 0.5, grid), BetaLaw(0.5, 1.5), 30)
    phase = time.perf_counter() - begin
    seconds = {
        "curve of 64 prompts x 50 rounds": 64 / curves["median"]["boostlib"],
        f"Monte Carlo {prompts:,} x {rounds} x {seeds}": seeds * prompts * rounds / monte_carlo["median"]["boostlib"],
        f"phase diagram {grid} x {grid}, 30 rounds, 3 arms": phase,
    }
    print("\nSeconds by boostlib")
    for name, value in seconds.items():
        print(f"  {name:<48} {value:8.4f}")
    result = {
        "ratios": {"curve": curves["ratio"], "monte_carlo": monte_carlo["ratio"]},
        "seconds": seconds,
        "tables": [curves, monte_carlo],
    }
    last_line(**result)
    return result


# -- the contenders: variant (A), policy hard -----------------------------------------------------------------------------


def naive_curve(d: Dynamics, p0: float, rounds: int) -> list[float]:
    """One prompt's exact curve as one would write it first: a dict from value to mass, a loop over outcomes."""

    def outcomes(p: float, n: int):
        x, y = p * (1 - d.gamma_fn), (1 - p) * d.gamma_fp
        for a in range(n + 1):
            for b in range(n + 1 - a):
                ways = math.comb(n, a) * math.comb(n - a, b)
                yield a, b, ways * x**a * y**b * (1 - x - y) ** (n - a - b)

    law, means = {(-1.0, 0): 1.0}, [p0]  # the key -1 stands for p_0; states are (share, age)
    labels = list(outcomes(d.beta, d.m))
    for _ in range(rounds):
        after: dict = {}
        for (f, age), mass in law.items():
            value = (p0 if f < 0 else f) * (1 - d.eta) ** age
            for a, b, chance in outcomes(value, d.k):
                if a + b:
                    key = (a / (a + b), 1)
                    after[key] = after.get(key, 0.0) + mass * chance
                    continue
                for u, v, also in labels:
                    key = (u / (u + v), 1) if u + v else (f, age + 1)
                    after[key] = after.get(key, 0.0) + mass * chance * also
        law = after
        means.append(sum(m * (p0 if f < 0 else f) * (1 - d.eta) ** age for (f, age), m in law.items()))
    return means


def naive_simulation(d: Dynamics, p: list[float], rounds: int, seed: int) -> list[float]:
    """A loop over prompts and responses."""
    rng, p = random.Random(seed), list(p)
    means = [sum(p) / len(p)]
    for _ in range(rounds):
        for i, x in enumerate(p):
            a = n = 0
            for _ in range(d.k):
                right = rng.random() < x
                if rng.random() < (1 - d.gamma_fn if right else d.gamma_fp):
                    n += 1
                    a += right
            if n == 0:
                for _ in range(d.m):
                    right = rng.random() < d.beta
                    if rng.random() < (1 - d.gamma_fn if right else d.gamma_fp):
                        n += 1
                        a += right
            p[i] = (a / n if n else x) * (1 - d.eta)
        means.append(sum(p) / len(p))
    return means


def numba_versions() -> dict:
    """The same two computations for numba, written for speed: one uniform a response, tables shared by prompts."""
    from numba import njit

    @njit(cache=False)
    def reach(p, k, keep_right, keep_wrong, ways, where, out):  # chances of every fraction; returns that of none
        x, y = p * keep_right, (1 - p) * keep_wrong
        z = 1 - x - y
        px, py, pz = np.ones(k + 1), np.ones(k + 1), np.ones(k + 1)
        for i in range(k):
            px[i + 1], py[i + 1], pz[i + 1] = px[i] * x, py[i] * y, pz[i] * z
        out[:] = 0
        for a in range(k + 1):
            for b in range(k + 1 - a):
                if a + b:
                    out[where[a, b]] += ways[a, b] * px[a] * py[b] * pz[k - a - b]
        return pz[k]

    @njit(cache=False)
    def curve(p0, rounds, k, m, beta, g, h, eta, ways_k, ways_m, where, fractions):
        s = fractions.size
        label = np.empty(s)
        nothing = reach(beta, m, 1 - g, h, ways_m, where, label)
        table, ask = np.empty((rounds, s, s)), np.empty((rounds, s))
        for j in range(rounds):
            for f in range(s):
                ask[j, f] = reach(fractions[f] * (1 - eta) ** (j + 1), k, 1 - g, h, ways_k, where, table[j, f])
        mass, new = np.zeros((rounds + 1, s)), np.zeros((rounds + 1, s))
        atom, row, means = np.full(p0.size, 1 / p0.size), np.empty(s), np.zeros(rounds + 1)
        for t in range(rounds + 1):
            left = (1 - eta) ** t
            for i in range(p0.size):
                means[t] += atom[i] * p0[i] * left
            for j in range(t):
                for f in range(s):
                    means[t] += mass[j, f] * fractions[f] * (1 - eta) ** (j + 1)
            if t == rounds:
                break
            new[:] = 0
            asked = 0.0
            for i in range(p0.size):
                z = reach(p0[i] * left, k, 1 - g, h, ways_k, where, row)
                new[0] += atom[i] * row
                asked += atom[i] * z
                atom[i] *= z * nothing
            for j in range(t):
                for f in range(s):
                    new[0] += mass[j, f] * table[j, f]
                    asked += mass[j, f] * ask[j, f]
                    new[j + 1, f] = mass[j, f] * ask[j, f] * nothing
            new[0] += asked * label
            mass, new = new, mass
        return means

    @njit(cache=False)
    def simulate(p, rounds, rng, k, m, beta, g, h, eta):
        p, means = p.copy(), np.zeros(rounds + 1)
        means[0] = p.mean()
        for t in range(rounds):
            for i in range(p.size):
                x = p[i] * (1 - g)
                y = x + (1 - p[i]) * h
                a = n = 0
                for _ in range(k):
                    u = rng.random()
                    a += u < x
                    n += u < y
                if n == 0:
                    x, y = beta * (1 - g), beta * (1 - g) + (1 - beta) * h
                    for _ in range(m):
                        u = rng.random()
                        a += u < x
                        n += u < y
                p[i] = (a / n if n else p[i]) * (1 - eta)
            means[t + 1] = p.mean()
        return means

    top = max(CURVE.k, CURVE.m)
    states = sorted({Fraction(a, n) for n in range(1, top + 1) for a in range(n + 1)})
    where = np.array(
        [[states.index(Fraction(a, a + b)) if 0 < a + b <= top else 0 for b in range(top + 1)] for a in range(top + 1)]
    )

    def ways(n: int) -> np.ndarray:
        return np.array([[math.comb(n, a) * math.comb(n - a, b) for b in range(n + 1)] for a in range(n + 1)], float)

    return {
        "curve": lambda d, p0, rounds: curve(
            p0, rounds, d.k, d.m, d.beta, d.gamma_fn, d.gamma_fp, d.eta, ways(d.k), ways(d.m), where,
            np.array(states, float),
        ),
        "simulate": lambda d, p, rounds, seed: simulate(
            p, rounds, np.random.Generator(np.random.SFC64(seed)), d.k, d.m, d.beta, d.gamma_fn, d.gamma_fp, d.eta
        ),
    }  # fmt: skip
