"""What is measured on a run is what made it, within the intervals that are printed."""

import math
from pathlib import Path

import numpy as np
import pytest

import boostlib as bl
from boostlib.analysis.measure import Round, calibrate, fit_law, rate, read_round


def draw(rng, n, k, a, b, zero=0.0, one=0.0):
    kind = rng.choice(3, n, p=[zero, one, 1 - zero - one])
    return rng.binomial(k, np.select([kind == 0, kind == 1], [0.0, 1.0], rng.beta(a, b, n)))


@pytest.mark.parametrize("alike", [None, 3.0])  # answers of a prompt independent, or alike: Beta with a + b = 3
@pytest.mark.parametrize("truth", [0.3, 0.08])
def test_rate_covers_whether_or_not_answers_to_a_prompt_are_alike(alike, truth):
    rng, hits = np.random.default_rng(0), []
    for _ in range(1500):
        trials = rng.integers(1, 16, 120)
        p = truth if alike is None else rng.beta(alike * truth, alike * (1 - truth), 120)
        got = rate(rng.binomial(trials, p), trials)
        hits.append(got.low <= truth <= got.high)
    assert np.mean(hits) == pytest.approx(0.95, abs=0.02)


def test_rate_is_no_narrower_than_wilsons_and_says_when_nothing_was_seen():
    from boostlib.analysis.intervals import proportion

    got, plain = rate([3, 5, 2], [10, 10, 10]), proportion(10, 30)
    assert got.value == plain.value and got.low <= plain.low and got.high >= plain.high
    none = rate([0, 0], [0, 0])
    assert math.isnan(none.value) and "nothing to measure" in none.note
    assert rate([0, 0], [50, 50]).low == pytest.approx(0, abs=1e-12) and 0 < rate([0, 0], [50, 50]).high < 0.05
    with pytest.raises(ValueError, match="hits <= trials"):
        rate([3], [2])


@pytest.mark.parametrize(
    "a, b, zero, one, masses",
    [(0.6, 1.5, 0, 0, ""), (2, 3, 0.25, 0, "zero"), (2, 3, 0, 0.2, "one"), (2, 2, 0.2, 0.15, "zero and one")],
)
def test_law_of_p0_is_recovered_with_the_point_masses_it_has(a, b, zero, one, masses):
    rng = np.random.default_rng(1)
    fit = fit_law(draw(rng, 4000, 8, a, b, zero, one), 8, rng, n_boot=60)
    assert fit.masses == masses and fit.misfit > 0.01
    for got, truth in zip(
        (fit.a, fit.b, fit.at_zero, fit.at_one, fit.mean),
        (a, b, zero, one, one + (1 - zero - one) * a / (a + b)),
        strict=True,
    ):
        slack = (got.high - got.low) / 2 + 1e-9
        assert got.low - slack <= truth <= got.high + slack  # five numbers: twice the interval
        assert got.value == pytest.approx(truth, abs=0.35 * max(truth, 0.1))


def test_bootstrap_intervals_of_the_law_cover():
    rng, hits = np.random.default_rng(2), []
    for _ in range(100):
        fit = fit_law(draw(rng, 300, 8, 2, 3, zero=0.25), 8, rng, n_boot=60, masses="zero")
        hits.append(
            [e.low <= t <= e.high for e, t in ((fit.at_zero, 0.25), (fit.mean, 0.3), (fit.a, 2.0), (fit.b, 3.0))]
        )
    assert (np.mean(hits, axis=0) > 0.86).all()  # 100 fits, percentiles of 60: not the place for a finer bound


def test_a_mass_left_out_for_want_of_evidence_keeps_an_honest_upper_end():
    rng = np.random.default_rng(3)
    fit = fit_law(draw(rng, 500, 8, 0.5, 1.2, zero=0.25), 8, rng, n_boot=100)
    assert "zero" in fit.masses or fit.at_zero.high > 0.25  # Beta(small a, b) looks the same at k = 8


def test_counts_that_no_beta_describes_are_called_a_misfit():
    rng = np.random.default_rng(4)
    two = rng.binomial(8, rng.choice([0.15, 0.85], 2000))
    assert fit_law(two, 8, rng, n_boot=0, masses="").misfit < 1e-3
    found = [fit_law(draw(rng, 400, 8, 0.8, 1.5), 8, rng, n_boot=0, masses="").misfit < 0.05 for _ in range(200)]
    assert np.mean(found) == pytest.approx(0.05, abs=0.05)


@pytest.mark.parametrize("right", [0, 8])
def test_prompts_all_failed_or_all_solved_are_fitted_too(right):
    fit = fit_law(np.full(50, right), 8, np.random.default_rng(5), n_boot=20)
    assert fit.mean.value == pytest.approx(right / 8, abs=0.02)
    assert fit.pmf(8)[right] > 0.97


def test_prompts_with_fewer_judged_samples_count_for_what_they_are():
    rng = np.random.default_rng(6)
    k = rng.integers(2, 9, 3000)
    fit = fit_law(rng.binomial(k, rng.beta(1.5, 3, 3000)), k, rng, n_boot=0, masses="")
    assert (fit.a.value, fit.b.value) == pytest.approx((1.5, 3), rel=0.2)
    assert math.isnan(fit.a.low)


def test_the_fit_depends_on_its_generator_alone():
    right = draw(np.random.default_rng(7), 200, 8, 1, 2)
    a, b, c = (fit_law(right, 8, np.random.default_rng(s), n_boot=20, masses="") for s in (0, 0, 1))
    assert a == b and a.a != c.a


def test_the_fitted_law_goes_into_the_theory_exactly():
    rng = np.random.default_rng(8)
    fit = fit_law(draw(rng, 1000, 8, 2, 3, 0.2, 0.1), 8, rng, n_boot=0, masses="zero and one")
    values, weights = fit.initial()
    assert weights.sum() == pytest.approx(1) and (values @ weights) == pytest.approx(fit.mean.value)
    right = np.arange(9)
    moments = [(1 - values) ** 8 @ weights, values**8 @ weights]
    assert fit.pmf(8)[[0, 8]] == pytest.approx(moments, abs=1e-9)
    assert fit.pmf(8) @ right / 8 == pytest.approx(fit.mean.value)
    curve = bl.theory.Dynamics(k=8, gamma_fp=0, gamma_fn=0).exact(fit.initial(), 2)
    assert curve[0] == pytest.approx(fit.mean.value)


def made(rng, n=400, k=8, beta=0.3, gamma_fp=0.1, gamma_fn=0.2):
    right = rng.random((n, k)) < rng.beta(0.6, 1.2, (n, 1))
    known = rng.random((n, k)) > 0.02
    right &= known
    accepted = known & (rng.random((n, k)) < np.where(right, 1 - gamma_fn, gamma_fp))
    asked = np.full(n, 6)  # a policy that asks everywhere, and is right more often where the model is
    asked_right = rng.binomial(6, np.where(accepted.any(1), 0.9, beta))
    return Round(right, accepted, known, asked, asked_right)


def test_a_made_run_gives_back_beta_on_failed_prompts_and_both_gammas():
    rng = np.random.default_rng(9)
    rounds = [made(rng) for _ in range(4)]
    got = calibrate(rounds, rng, initial=2, n_boot=20)
    for name, truth in (("beta", 0.3), ("gamma_fp", 0.1), ("gamma_fn", 0.2)):
        estimate = getattr(got, name)
        assert estimate.value == pytest.approx(truth, abs=0.025), name
        assert estimate.low < estimate.value < estimate.high
    assert got.law.mean.n == 400 and got.law.mean.value == pytest.approx(1 / 3, abs=0.05)
    with pytest.raises(ValueError, match="same prompts"):
        calibrate([made(rng), made(rng, n=10)], rng)


def test_a_run_of_the_loop_is_measured_from_its_folder(chains, tabular, tmp_path):
    setting = dict(beta=0.4, gamma_fp=0.1, gamma_fn=0.2, k=8, steps=2, batch_size=2, shots=0, show=False)
    table = bl.boost(*chains, tabular, arms=["boosting"], seeds=[0, 1], rounds=1, folder=tmp_path, **setting)
    first = table[table["round"] == 0]
    rounds = [read_round(Path(folder), 0) for folder in first["folder"]]
    assert sum(r.asked[r.failed].sum() for r in rounds) == first["labels"].sum()
    assert sum(r.asked_right.sum() for r in rounds) == first["labels_right"].sum()
    got = calibrate(rounds, np.random.default_rng(0), initial=2, n_boot=20)
    for name, truth in (("beta", 0.4), ("gamma_fp", 0.1), ("gamma_fn", 0.2)):
        estimate = getattr(got, name)
        assert estimate.low - 0.03 <= truth <= estimate.high + 0.03, (name, str(estimate))
    assert got.law.mean.value == pytest.approx(0.25, abs=0.06)  # half of the prompts at 0, half at 1/2
