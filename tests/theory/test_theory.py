"""The exact chain against enumeration, Monte Carlo and closed forms; the options of the simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from boostlib.theory import ARMS, BetaLaw, Dynamics, Histogram, expected_error

PERFECT = {"gamma_fp": 0.0, "gamma_fn": 0.0}


def enumerated(d: Dynamics, p0: float, rounds: int) -> list[float]:
    """E[p_t] from p_0 by listing every response and every verdict, one by one, in plain Python. No shared code."""
    beta = p0 if d.beta == "p0" else d.beta
    law, means = {p0: 1.0}, [p0]
    for _ in range(rounds):
        after: dict[float, float] = {}
        for p, mass in law.items():
            for chance, a, b in draws(p, d.k, 1 - d.gamma_fn, d.gamma_fp):
                asked = d.m if d.policy == "uniform" or a + b == 0 else 0
                keep = (1 - d.gamma_fn, d.gamma_fp) if d.weak_data == "A" else (1.0, 1.0)
                for also, u, v in draws(p if d.beta == "self" else beta, asked, *keep):
                    if d.alpha is None:
                        w_s = w_d = 1.0
                    else:
                        w_s = (1 - d.alpha) / (a + b) if a + b else 0.0
                        w_d = d.alpha / (u + v) if u + v else 0.0
                    total = w_s * (a + b) + w_d * (u + v)
                    q = (w_s * a + w_d * u) / total if total else p
                    q *= 1 - d.eta
                    after[q] = after.get(q, 0.0) + mass * chance * also
        law = after
        means.append(math.fsum(p * mass for p, mass in law.items()))
    return means


def draws(p: float, n: int, keep_right: float, keep_wrong: float):
    """(chance, kept right ones, kept wrong ones) of every sequence of n responses and verdicts."""
    one = [(p * keep_right, 1, 0), (p * (1 - keep_right), 0, 0), ((1 - p) * keep_wrong, 0, 1)]
    one.append(((1 - p) * (1 - keep_wrong), 0, 0))
    for sequence in itertools.product(one, repeat=n):
        chance = math.prod(c for c, _, _ in sequence)
        if chance:
            yield chance, sum(r for _, r, _ in sequence), sum(w for _, _, w in sequence)


ENUMERATED = [
    {"k": k, "m": m, "policy": policy, "weak_data": weak, "eta": eta, "gamma_fp": fp, "gamma_fn": fn, **more}
    for (k, m), (fp, fn) in itertools.product([(1, 1), (2, 1), (2, 2)], [(0.0, 0.0), (0.2, 0.1), (0.35, 0.35)])
    for policy, weak, eta in [("hard", "A", 0.0), ("hard", "all", 0.1), ("hard", "A", 0.07), ("uniform", "A", 0.1)]
    for more in [{"beta": 0.3}, {"beta": "p0"}, {"beta": "self"}, {"alpha": 1.0}, {"alpha": 0.0}, {"alpha": None}]
]


@pytest.mark.parametrize("p0", [0.0, 0.3, 1.0])
def test_exact_is_the_enumeration_of_all_outcomes(p0):
    for settings in ENUMERATED:
        d = Dynamics(mixture="prompt", **settings)
        np.testing.assert_allclose(d.exact(p0, 2), enumerated(d, p0, 2), rtol=0, atol=1e-12, err_msg=str(settings))


def test_exact_is_the_enumeration_for_three_samples():
    for weak in ("A", "all"):
        d = Dynamics(k=3, m=2, beta=0.4, gamma_fp=0.2, gamma_fn=0.3, eta=0.05, weak_data=weak)
        np.testing.assert_allclose(d.exact(0.2, 3), enumerated(d, 0.2, 3), rtol=0, atol=1e-12)


def settings_grid(n: int) -> list[dict]:
    """n settings that cover the parameter space: a Latin hypercube of sorts, the same on every machine."""
    rng = np.random.default_rng(7)
    grid = []
    for i in range(n):
        low, high = rng.uniform(0, 0.5, 2)
        grid.append(
            {
                "k": int(rng.integers(1, 10)),
                "m": int(rng.integers(0, 9)),
                "beta": ("p0", "self")[i % 2] if i % 5 == 0 else float(rng.uniform(0.02, 1)),
                "gamma_fp": (0.0, low, low, 1.0)[i % 4] if i % 3 else float(low),
                "gamma_fn": (0.0, high, high)[i % 3],
                "eta": (0.0, 0.0, float(rng.uniform(0, 0.2)))[i % 3],
                "alpha": (1 / 3, 0.5, 0.9, 1.0, None)[i % 5] if i % 2 else 1 / 3,
                "policy": ("hard", "hard", "uniform")[i % 3],
                "weak_data": ("A", "all")[(i // 2) % 2],
                "mixture": "prompt",
            }
        )
    return grid


def agree(exact: np.ndarray, curves: np.ndarray, what: object, error: np.ndarray | float = 0.0) -> None:
    """Every round's Monte Carlo mean within 4 standard errors of the exact one (1e-6: its 32-bit arithmetic).

    ``error`` is the standard error by the chain: where all runs agree by luck the observed one is 0.
    """
    error = np.maximum(curves.std(0, ddof=1) / math.sqrt(len(curves)), error)
    assert (np.abs(curves.mean(0) - exact) <= 4 * error + 1e-6).all(), (what, exact, curves.mean(0), error)


def test_monte_carlo_agrees_with_the_chain_on_240_settings():
    values, prompts, seeds = [0.0, 0.05, 0.3, 0.7, 1.0], 40, 80
    for i, settings in enumerate(settings_grid(240)):
        d = Dynamics(**settings)
        laws = [d.law(p, 4) for p in values]
        variance = np.mean([law.mass @ law.values**2 - law.mean**2 for law in laws], 0).clip(0)
        error = np.sqrt(variance / (len(values) * prompts * seeds))
        curves = d.simulate(np.repeat(values, prompts), 4, n_seeds=seeds, seed=i)
        agree(d.exact(values, 4), curves, settings, error)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_agrees_with_monte_carlo_from_a_beta_law(arm):
    d = Dynamics(beta=0.3, gamma_fp=0.1, gamma_fn=0.1, eta=0.01).arm(arm)
    p0 = BetaLaw(0.4, 0.9)
    agree(d.exact(p0, 8), d.simulate(p0, 8, n_seeds=40, seed=1, prompts=4000), arm)


def test_pooled_weights_are_the_limit_of_many_prompts():
    d = Dynamics(policy="uniform", beta=0.2, gamma_fp=0.1, gamma_fn=0.2, weak_data="all", mixture="pool")
    p0, rounds = Histogram([0.0, 0.4, 0.9], [2, 1, 1]), 6
    gaps = [np.abs(d.simulate(p0, rounds, 60, 0, prompts=n).mean(0) - d.exact(p0, rounds)).max() for n in (4, 4000)]
    assert gaps[1] < 0.002 < gaps[0]


# -- closed forms -------------------------------------------------------------------------------------------------------


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


def test_do_nothing_is_neutral_drift_and_collapses_under_learner_error():
    t = np.arange(31)
    close(Dynamics().arm("do_nothing").exact([0.1, 0.4, 0.8], 30), np.full(31, 1.3 / 3))
    close(Dynamics(eta=0.03).arm("do_nothing").exact([0.1, 0.4, 0.8], 30), 1.3 / 3 * 0.97**t)
    law = Dynamics(k=5).arm("do_nothing").law([0.1, 0.4, 0.8], 400)
    close([law.share(1)[-1], law.share(0)[-1]], [1.3 / 3, 1 - 1.3 / 3])


def test_do_nothing_fixes_a_prompt_in_about_k_rounds():
    for k in (4, 8, 16):
        law = Dynamics(k=k).arm("do_nothing").law(0.5, 4 * k)
        undecided = 1 - law.share(0) - law.share(1)
        heterozygosity = law.mass @ (law.values * (1 - law.values))
        close(heterozygosity, 0.25 * (1 - 1 / k) ** np.arange(4 * k + 1))
        half = int(np.argmax(undecided < 0.5))
        assert 0.5 * k <= half <= 2 * k


@pytest.mark.parametrize("k", [1, 3, 8])
def test_perfect_filter_alone_solves_every_prompt_it_can_sample(k):
    t, p0 = np.arange(21), np.array([0.0, 0.02, 0.3, 1.0])
    d = Dynamics(k=k, **PERFECT).arm("filter_only")
    close(d.exact(p0, 20), (1 - (1 - p0) ** (k * t[:, None] + 1)).mean(1))


def test_beta_law_is_integrated_exactly():
    from scipy.special import betaln

    t, a, b = np.arange(41), 0.3, 2.0
    d = Dynamics(**PERFECT).arm("filter_only")
    close(d.exact(BetaLaw(a, b), 40), 1 - np.exp(betaln(a, b + 8 * t + 1) - betaln(a, b)))
    close(Dynamics(beta="p0", **PERFECT).arm("filter_only").exact(BetaLaw(a, b), 0), [a / (a + b)])


def test_failing_mass_is_one_minus_beta_to_the_t():
    for beta in (0.05, 0.3, 1.0):
        d = Dynamics(k=1, m=1, beta=beta, **PERFECT)
        close(d.exact(0.0, 30), 1 - (1 - beta) ** np.arange(31))
        close(d.law(0.0, 800).share(0).sum(), 1 / beta)  # rounds until the first right answer
        if beta < 1:
            for eps in (0.5, 0.1, 1e-3):
                assert d.bound(eps) == math.ceil(math.log(1 / eps) / math.log(1 / (1 - beta)))
                rounds = int(d.bound(eps))
                assert 1 - d.exact(0.0, rounds)[-1] <= eps < 1 - d.exact(0.0, rounds - 1)[-1]


def test_one_round_has_the_closed_form_of_the_bound():
    p = np.linspace(0, 1, 21)
    for settings in settings_grid(120):
        d = Dynamics(**{**settings, "policy": "hard"})
        if d.beta != "p0":
            step = [1 - d.exact(float(x), 1)[1] for x in p]
            close(expected_error(d, p), step)


def test_losing_a_prompt_has_the_stated_chance():
    d = Dynamics(k=5, gamma_fp=0.2, gamma_fn=0.1).arm("filter_only")
    p, right, wrong = 0.3, 0.3 * 0.9, 0.7 * 0.2
    close(d.law(p, 1).share(0)[1], (1 - right) ** 5 - (1 - right - wrong) ** 5)


def test_many_samples_multiply_the_odds():
    g, h, p = 0.2, 0.1, 0.3
    q = 1 - expected_error(Dynamics(k=2000, gamma_fp=h, gamma_fn=g, m=0), np.array(p))
    assert q / (1 - q) == pytest.approx(p / (1 - p) * (1 - g) / h, rel=1e-9)


def test_right_share_of_many_filtered_labels():
    beta, g, h = 0.2, 0.3, 0.1
    d = Dynamics(k=1, m=3000, beta=beta, gamma_fp=h, gamma_fn=g)
    share = (1 - expected_error(d, np.array(0.0))) / (1 - h)  # nothing of the one sample accepted
    assert share / (1 - share) == pytest.approx(beta * (1 - g) / ((1 - beta) * h), rel=1e-9)


def test_the_worked_examples_of_the_model():
    best = [
        Dynamics(k=k, m=1, beta=0.2, gamma_fp=0.1, gamma_fn=0.1, weak_data="all").exact(0.0, 12)[-1]
        for k in (1, 2, 3, 4)
    ]
    np.testing.assert_allclose(best, [0.674, 0.851, 0.846, 0.815], rtol=0, atol=5e-4)
    expected = {0.1: ([0.870, 0.999], [0.899, 0.938]), 0.3: ([0.486, 0.676], [0.603, 0.747])}
    for gamma, (hard, uniform) in expected.items():
        shared = {"k": 8, "beta": 0.3, "gamma_fp": gamma, "gamma_fn": gamma}
        for curve, values in (
            (Dynamics(m=8, **shared), hard),
            (Dynamics(m=4, policy="uniform", mixture="prompt", **shared), uniform),
        ):
            np.testing.assert_allclose(curve.exact([0.0, 0.5], 12)[[3, 12]], values, rtol=0, atol=5e-4)


def test_solved_prompts_are_kept_only_up_to_a_false_rejection_of_all_samples():
    g, beta = 0.3, 0.2
    d = Dynamics(k=2, m=1, beta=beta, gamma_fp=0.1, gamma_fn=g, weak_data="all")
    close(1 - d.exact(1.0, 1)[1], g**2 * (1 - beta))
    close(Dynamics(k=2, m=1, beta=beta, gamma_fp=0.1, gamma_fn=0.0).exact(1.0, 20), np.ones(21))


def test_exact_is_a_probability_law_at_every_t():
    for settings in settings_grid(60):
        d = Dynamics(**settings)
        for p0 in ([0.0, 0.2, 0.9], BetaLaw(0.5, 1.5), Histogram([0, 0.5], [1, 3])):
            law = d.law(p0, 5)
            assert (law.mass >= 0).all() and (law.values >= 0).all() and (law.values <= 1).all()
            close(law.mass.sum(1), np.ones(6))
            close(law.mean, d.exact(p0, 5))
            close(law.pass_at(1), law.mean)
            assert (law.pass_at(8) >= law.mean - 1e-15).all()
            assert (law.share(0, 1) > 1 - 1e-12).all()


# -- Monte Carlo options ---------------------------------------------------------------------------------------------------


def test_a_row_of_the_simulation_depends_on_seed_and_row_alone():
    d, p0 = Dynamics(eta=0.01), BetaLaw(1, 2)
    np.testing.assert_array_equal(d.simulate(p0, 3, 2, 5), d.simulate(p0, 3, 6, 5)[:2])
    assert not np.array_equal(d.simulate(p0, 3, 2, 5), d.simulate(p0, 3, 2, 6))


def test_a_shared_budget_of_m_a_prompt_is_the_chain_under_uniform():
    p0 = np.repeat([0.0, 0.3, 0.8], 200)
    d = Dynamics(policy="uniform", beta=0.3, gamma_fp=0.1, gamma_fn=0.1, mixture="prompt")
    agree(d.exact(p0, 5), d.simulate(p0, 5, 60, 3, budget=8 * p0.size), "budget")


def test_every_allocation_policy_runs_on_a_shared_budget():
    from boostlib.allocation import POLICIES

    for name in POLICIES:
        curves = Dynamics(policy=name, beta=0.3).simulate(BetaLaw(0.5, 2), 4, 2, 0, prompts=120)
        assert curves.shape == (2, 5) and (curves >= 0).all() and (curves <= 1).all()
        assert curves[:, -1].mean() > curves[:, 0].mean()
