"""What `theory.transfer` made, predict finds again; a tabular learner is found to be one."""

import numpy as np
import pandas as pd
import pytest

import boostlib as bl
from boostlib.analysis import predict
from boostlib.theory import BetaLaw, Dynamics
from boostlib.theory.transfer import Transfer, by_skill

TRUE = Transfer(1.2, 0.8, 1.5)
ARMS = {"filter_only": {"budget": 0, "alpha": 0.0}, "boosting": {}, "uniform": {"policy": "uniform"}}
SETTINGS = {
    arm: bl.Settings(k=2, **own).identity() | {"gamma_fp": 0.0, "gamma_fn": 0.0, "temperature": 1}
    for arm, own in ARMS.items()
}


@pytest.fixture(scope="module")
def made():
    """A run that follows the theory, two seeds: the round table and the table of levels."""
    rounds, levels = [], []
    for seed, arm in ((s, a) for s in (0, 1) for a in ARMS):
        labels = 0.0 if arm == "filter_only" else 2.0
        d = Dynamics(k=2, beta=0.3, gamma_fp=0, gamma_fn=0, m=int(labels), policy=SETTINGS[arm]["policy"])
        p0, share = [BetaLaw(0.9 + 0.1 * seed, 0.3), BetaLaw(0.05, 1.5)], np.array([0.6, 0.4])
        curve = by_skill(d, TRUE, p0, share, 3, labels=labels or None)
        for t, p in enumerate(curve):
            rounds.append({"arm": arm, "seed": seed, "round": t, "train_accuracy": p @ share, "loss_first": np.nan})
            for level in (0, 1):
                # failed is right at t = 0; later the law of this mean and the concentration of round 0 is near enough
                law = BetaLaw(*(np.array([p[level], 1 - p[level]]) * (1.2, 1.55)[level]))
                failed = (
                    law.b * (law.b + 1) / ((law.a + law.b) * (law.a + law.b + 1))
                    if t
                    else p0[level].b
                    * (p0[level].b + 1)
                    / ((p0[level].a + p0[level].b) * (p0[level].a + p0[level].b + 1))
                )
                n = 1e6 * share[level]
                row = {"arm": arm, "seed": seed, "round": t, "level": level, "n_prompts": n, "sampled": p[level]}
                levels.append(row | {"failed": failed * n, "labels": labels * n, "labels_right": 0.3 * labels * n})
    return pd.DataFrame(rounds), pd.DataFrame(levels)


def test_the_numbers_that_made_a_run_are_found_and_predict_the_arm_that_was_not_fitted(made):
    curves, by_level, fitted = predict.predict(*made, SETTINGS)
    found = fitted[fitted["without"].isna()].iloc[0]
    assert [found["memory"], found["transfer"], found["interference"]] == pytest.approx([1.2, 0.8, 1.5], rel=0.05)
    errors = predict.errors(curves, by=["arm"]).set_index(["arm", "predictor"])["mae"]
    for arm in ARMS:
        assert errors[arm, "transfer"] < 0.03 and errors[arm, "elsewhere"] < 0.03, arm
        assert errors[arm, "transfer_0"] < 0.005, arm  # nothing but the numbers: the law of round 0 is the true one
    assert errors["uniform", "transfer"] < 0.5 * errors["uniform", "round_1"]
    assert set(by_level.columns) == {"level", "arm", "seed", "round", "predicted", "measured"}


def test_a_law_has_the_mean_and_the_failures_that_were_seen():
    d = Dynamics(k=3, gamma_fp=0.1, gamma_fn=0.2)
    true = BetaLaw(0.4, 0.9)
    x = np.random.default_rng(0).beta(true.a, true.b, 200_000)
    failed = ((1 - x * 0.8 - (1 - x) * 0.1) ** 3).mean()
    law = predict.law_of(0.4 / 1.3, failed, 1.0, d, 1e-4)
    assert (law.a, law.b) == pytest.approx((0.4, 0.9), rel=0.05)
    nothing = predict.law_of(0.0, 5, 5, d, 0.25)  # no right sample: not quite hopeless
    assert nothing.a / (nothing.a + nothing.b) == pytest.approx(0.05)


def test_arms_that_the_theory_does_not_hold_are_left_out_and_named(made):
    table, levels = made
    other = {a: s | ({"policy": "frontier"} if a == "uniform" else {}) for a, s in SETTINGS.items()}
    assert "policy = 'frontier'" in predict.why_not(other["uniform"]) and not predict.why_not(other["boosting"])
    assert set(predict.predict(table, levels, other)[0]["arm"]) == {"filter_only", "boosting"}
    with pytest.raises(ValueError, match="init_from"):
        predict.skills_of(levels[:2], SETTINGS["boosting"] | {"init_from": "base"}, 0.1)
    with pytest.raises(ValueError, match="filter_only and boosting"):
        predict.predict(table, levels[levels["arm"] != "boosting"], SETTINGS)


def test_errors_are_means_over_arms_and_later_rounds_paired_by_seed():
    rows = [
        {"arm": arm, "seed": s, "round": t, "predictor": p, "predicted": 0.5 + off * (t > 1) + 0.01 * s, "measured": 0.5}
        for arm in ("a", "b")
        for s in range(3)
        for t in range(4)
        for p, off in (("tabular", 0.1), ("round_1", 0.2))
    ]  # fmt: skip
    got = predict.errors(pd.DataFrame(rows)).set_index("predictor")
    assert got.loc["tabular", "mae"] == pytest.approx(0.11) and got.loc["tabular", "seeds"] == 3
    assert got.loc["tabular", "difference"] == pytest.approx(-0.1)
    by = predict.errors(pd.DataFrame(rows), by=["arm"])
    assert list(by["arm"]) == ["a", "a", "b", "b"] and by["mae"].iloc[0] == pytest.approx(0.11)
