"""Where the theory is exact, its prediction of a run is right and the fit finds nothing to correct."""

import numpy as np
import pandas as pd
import pytest

import boostlib as bl
from boostlib.analysis import measure, predict
from boostlib.theory import Dynamics, Histogram

N, ETA = 300, 0.05  # of the run `coins`


@pytest.fixture(scope="module")
def told(coins):
    table, settings = measure.table_of(dict.fromkeys(coins["folder"]))
    counts, rng = measure.counts(table), np.random.default_rng(0)
    measured = {arm: measure.calibrate(part, rng, 0) for arm, part in counts.groupby("arm", sort=False)}
    arms = {arm: predict.inputs_of(settings[arm], measured[arm], N) for arm in measured}
    return table, arms, *predict.predict(table, arms)


def test_plain_theory_predicts_every_arm_of_the_tabular_learner_but_for_its_error(told):
    table, arms, *_ = told
    for arm, x in arms.items():
        seen = table[table["arm"] == arm].groupby("round")["train_accuracy"].mean()
        assert x.simulated(3, eta=ETA) == pytest.approx(seen.to_numpy(), abs=0.04), arm  # 3 seeds of 300 coins


def test_fit_to_round_1_finds_the_learner_error_no_pooling_and_full_speed(told):
    fits = told[3].groupby(["predictor", "arm", "name"])["value"].mean()
    assert fits["eta_pooling", "", "eta"] == pytest.approx(ETA, abs=0.03)
    assert fits["eta_pooling", "", "pooling"] < 0.1
    assert fits["eta_speed", "", "eta"] == pytest.approx(ETA, abs=0.03)
    for arm in ("boosting", "uniform", "labels_only"):
        assert fits["eta_speed", arm, "speed"] > 0.85, arm


def test_fitted_theory_beats_no_change_where_it_is_true(told):
    errors = predict.errors(told[2]).set_index("predictor")
    assert errors.loc["eta_pooling", "mae"] < 0.035 and errors.loc["eta_speed", "mae"] < 0.05  # 300 coins a seed
    assert errors.loc["eta_pooling", "verdict"] == "lower" and errors.loc["round_1", "verdict"] == "reference"
    assert errors.loc["round_1", "mae"] > 0.05


def test_errors_are_means_over_arms_and_later_rounds_paired_by_seed():
    rows = [
        {
            "arm": arm,
            "seed": s,
            "round": t,
            "predictor": p,
            "predicted": 0.5 + off * (t > 1) + 0.01 * s,
            "measured": 0.5,
        }
        for arm in ("a", "b")
        for s in range(3)
        for t in range(4)
        for p, off in (("tabular", 0.1), ("round_1", 0.2))
    ]
    got = predict.errors(pd.DataFrame(rows)).set_index("predictor")
    assert got.loc["tabular", "mae"] == pytest.approx(0.11) and got.loc["tabular", "seeds"] == 3
    assert got.loc["tabular", "difference"] == pytest.approx(-0.1)
    by = predict.errors(pd.DataFrame(rows), by=["arm"])
    assert list(by["arm"]) == ["a", "a", "b", "b"] and by["mae"].iloc[0] == pytest.approx(0.11)


def test_fits_are_the_least_squares_within_their_bounds():
    own, pool = np.array([0.9, 0.5, 0.3]), np.array([1.0, 0.5, 0.6])
    eta, pooling = predict.fit_pooling(0.8 * (0.75 * own + 0.25 * pool), own, pool)
    assert (eta, pooling) == pytest.approx((0.2, 0.25))
    assert predict.fit_pooling(1.1 * own, own, own) == pytest.approx((0, 0))  # eta can't be negative
    start = np.array([0.4, 0.4, 0.4])
    eta, speed = predict.fit_speed(0.9 * np.array([0.4, 0.45, 0.35]), start, np.array([0.4, 0.5, 0.3]), 0)
    assert eta == pytest.approx(0.1) and speed[1:] == pytest.approx([0.5, 0.5]) and np.isnan(speed[0])


def test_speed_is_the_share_of_the_way_that_a_round_goes():
    p0 = np.resize([0.0, 0.2, 0.7], 3000)
    d = Dynamics(k=2, m=3, beta=0.3, gamma_fp=0, gamma_fn=0, eta=0.1)
    whole, half, none = (d.simulate(p0, 3, 4, 0, speed=s).mean(0) for s in (1.0, 0.5, 0.0))
    np.testing.assert_array_equal(whole, d.simulate(p0, 3, 4, 0).mean(0))
    assert none == pytest.approx(p0.mean() * 0.9 ** np.arange(4), rel=1e-5)
    assert half[1] == pytest.approx((none[1] + whole[1]) / 2, rel=1e-5)
    with pytest.raises(ValueError, match="speed"):
        d.simulate(p0, 1, 1, 0, speed=1.5)


def test_arms_that_the_theory_does_not_hold_are_refused(told):
    counts = pd.DataFrame({"what": ["p0", "p0"], "trials": [4, 4], "hits": [0, 3], "prompts": [50, 50]})
    measured = measure.calibrate(counts, np.random.default_rng(0), 0)
    settings = bl.Settings(k=4, budget=100).identity()
    x = predict.inputs_of(settings, measured, 100)
    assert x.labels == 1 and x.dynamics.m == 2 and isinstance(x.p0, Histogram)  # half of the prompts fail
    assert predict.inputs_of(settings | {"labeler": "base"}, measured, 100).dynamics.beta == "p0"
    assert predict.inputs_of(settings | {"labels_per_prompt": 5}, measured, 100).dynamics.m == 5
    with pytest.raises(ValueError, match="init_from"):
        predict.inputs_of(settings | {"init_from": "base"}, measured, 100)
