"""Prompts that teach each other: the tabular chain is the limit, each number does what it says, a bound holds."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.special import expit, logit
from test_theory import close, settings_grid

from boostlib.theory import BetaLaw, Dynamics, Histogram
from boostlib.theory.transfer import Transfer, by_skill, remember

PERFECT = {"gamma_fp": 0.0, "gamma_fn": 0.0}
LAWS = [Histogram([0, 0.2, 0.9], [2, 1, 1]), Histogram([0.0, 0.5, 1.0], [1, 1, 1])]


def test_the_tabular_chain_is_the_limit_of_no_transfer():
    for settings in [s for s in settings_grid(120) if s["beta"] != "p0"]:
        d = Dynamics(**settings | {"policy": "hard", "eta": 0.0})
        close(by_skill(d, Transfer(), LAWS, [0.3, 0.7], 5), np.stack([d.exact(p, 5) for p in LAWS], 1))


def test_memory_goes_from_nothing_to_the_share_of_the_data():
    p, q = np.array([0.0, 0.05, 0.5, 0.97, 1.0]), np.array([[0.0], [0.3], [1.0]])
    close(remember(p, q, 0.0), np.tile(p, (3, 1)))
    np.testing.assert_allclose(remember(p, q, 1e5)[:, 1:-1], np.tile(q, (1, 3)), atol=2e-4)
    after = remember(p, q, 1.3)[:, 1:-1]
    np.testing.assert_allclose(logit(after), logit(p[1:-1]) + 1.3 * (q - after), atol=1e-6)


def test_labels_of_one_prompt_teach_the_others_of_its_skill_and_no_other_skill():
    d, p0 = Dynamics(k=2, beta=[1.0, 1e-9], policy="hard", **PERFECT), [BetaLaw(0.1, 2)] * 2
    alone, taught = (by_skill(d, Transfer(0.0, t), p0, [0.5, 0.5], 3)[-1] for t in (0.0, 1.0))
    assert taught[0] > alone[0] + 0.1 and taught[1] == pytest.approx(alone[1], abs=1e-6)
    x = 0.33 * (1 - BetaLaw(0.1, 4).a / 4.1) / 0.5  # weight of its labels over its share, each unlike a failed prompt
    one = by_skill(Dynamics(k=2, beta=[1.0, 1e-9], alpha=0.33, **PERFECT), Transfer(0.0, 1.0), p0, [0.5, 0.5], 1)[:, 0]
    assert 1 - one[1] == pytest.approx((1 - one[0]) * np.exp(-x), abs=1e-3)
    same = by_skill(d, Transfer(0.0, 1.0), p0, [0.5, 0.5], 3, new=0.0)[-1]
    close(same, alone)


def test_interference_takes_log_odds_by_the_measured_loss_and_can_end_in_collapse():
    d, p0 = Dynamics(k=2, m=0, **PERFECT), [Histogram([0.6], [1])]
    close(by_skill(d, Transfer(0.0, 0.0, 2.0), p0, [1], 1, loss=0.3)[1, 0], expit(logit(0.6) - 0.6))
    two, share, d = [BetaLaw(0.95, 0.4), BetaLaw(0.02, 1.3)], [0.6, 0.4], Dynamics(k=2, beta=0.3, **PERFECT)
    start, calm, rough = (
        by_skill(d, Transfer(1.3, 0.7, z), two, share, t, labels=2.0)[-1] @ share
        for z, t in ((0, 0), (0.25, 20), (2.5, 20))
    )
    assert rough < 0.2 < start < 0.9 < calm  # the same labels: escape, and collapse


def test_labels_to_share_are_the_labels_of_each_where_as_many_fail():
    d, p0 = Dynamics(k=1, m=3, beta=0.4, **PERFECT), [Histogram([0.0], [1])]
    close(by_skill(d, Transfer(), p0, [1], 1, labels=3.0)[1], by_skill(d, Transfer(), p0, [1], 1)[1])


def test_a_curve_is_fast_enough_for_a_slider():
    d, p0 = Dynamics(k=8), [BetaLaw(0.5, 1), BetaLaw(0.4, 1), BetaLaw(0.1, 1)]
    times = []
    for _ in range(7):
        then = time.perf_counter()
        by_skill(d, Transfer(1.0, 0.7, 1.0), p0, [0.2, 0.4, 0.4], 20, labels=2.0)
        times.append(time.perf_counter() - then)
    assert min(times) < 0.1  # 0.015 on an idle machine


def rounds_of_many(n: int, rounds: int, rng: np.random.Generator):
    """One skill behind a perfect filter, n settings at once, without a grid: p moves with its prompt. No shared code but
    `remember`. Yields error, transfer x alpha, interference x novelty, hard and alpha at each t."""
    p, w = rng.beta(rng.uniform(0.05, 2, (n, 1)), rng.uniform(0.05, 3, (n, 1)), (n, 6)), rng.dirichlet(np.ones(6), n)
    memory, k = rng.exponential(2, (n, 1)), rng.integers(1, 9, (n, 1))
    transfer, zeta = rng.exponential(1.5, n), rng.exponential(1.0, n) * (rng.random(n) < 0.5)
    alpha, hard = rng.uniform(0.01, 0.99, n), rng.random(n) < 0.5
    for _ in range(rounds):
        failed = (1 - p) ** k
        asked = w * np.where(hard[:, None], failed, 1)
        news = (asked * (1 - p)).sum(1) / asked.sum(1)
        own = (w * p * (1 - p)).sum(1) / (w * p).sum(1)
        before = (w * (1 - p)).sum(1)
        learnt = remember(p, np.ones(1), memory)
        heads = rng.random(p.shape) < failed  # with or without data of its own: either obeys the bound in the mean
        p = 1 - (1 - np.where(heads, p, learnt)) * np.exp(-transfer * alpha * news)[:, None]
        p = np.clip(expit(logit(p) - (zeta * ((1 - alpha) * own + alpha * news))[:, None]), 1e-12, 1 - 1e-12)
        yield before, (w * (1 - p)).sum(1), transfer * alpha, zeta, alpha, hard


def test_the_error_is_below_its_bound_in_20000_random_settings():
    for before, after, rate, zeta, alpha, hard in rounds_of_many(20_000, 5, np.random.default_rng(3)):
        most = before * np.exp(-rate * before)  # news is at least the error: failed prompts are the harder ones
        news = np.where(
            hard, (1 - alpha) * before + alpha, before
        )  # at most: accepted samples come from the easier ones
        assert (after <= expit(logit(most.clip(1e-15, 1 - 1e-15)) + zeta * news) + 1e-9).all()
        calm = zeta == 0
        assert (1 / after[calm] >= 1 / before[calm] + rate[calm] - 1e-6).all()


def test_rounds_by_transfer_are_enough_for_the_model_itself():
    d, learner, e0 = Dynamics(k=2, m=2, beta=0.3, alpha=0.5, **PERFECT), Transfer(1.0, 1.5), 0.9
    for eps in (0.5, 0.2, 0.1):
        enough = int(np.ceil((1 / eps - 1 / e0) / (1.5 * 0.5)))
        assert 1 - by_skill(d, learner, [BetaLaw(0.05, 0.45)], [1], enough)[-1, 0] <= eps


@pytest.mark.parametrize("what", [{"memory": -1.0}, {"transfer": np.inf}, {"interference": np.nan}])
def test_a_number_that_cannot_be_is_refused(what):
    with pytest.raises(ValueError, match="at least 0"):
        Transfer(**what)


def test_skills_and_shares_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="summing to 1"):
        by_skill(Dynamics(), Transfer(), [0.5], [0.7], 1)
    with pytest.raises(ValueError, match="one a skill"):
        by_skill(Dynamics(beta=[0.1, 0.2]), Transfer(), [0.5], [1.0], 1)
    with pytest.raises(ValueError, match="use simulate"):
        by_skill(Dynamics(policy="frontier"), Transfer(), [0.5], [1.0], 1)
