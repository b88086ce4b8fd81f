"""Policies under one shared budget: Monte Carlo agrees with the chain where both apply, and starts where the run does."""

import numpy as np
import pytest

from boostlib.analysis.measure import fit_law
from boostlib.theory import Dynamics, Histogram
from boostlib.theory.maps import by_policy, spread_groups


def test_the_policies_of_theory_agree_with_the_chain_where_both_apply():
    d, p0 = Dynamics(k=2, beta=0.3, gamma_fp=0.1, gamma_fn=0.1, m=2, policy="uniform"), np.linspace(0, 0.9, 400)
    last = by_policy(d, p0, ["uniform"], [2], rounds=3, seeds=12).query("round == 3").accuracy
    assert abs(last.mean() - d.exact(p0, 3)[-1]) < 4 * last.std(ddof=1) / 12**0.5 + 1e-3  # few prompts against many
    none = by_policy(d, p0, ["hard"], [0], rounds=3, seeds=12).query("round == 3").accuracy
    assert abs(none.mean() - d.arm("filter_only").exact(p0, 3)[-1]) < 4 * none.std(ddof=1) / 12**0.5


def test_the_oracle_of_theory_knows_which_prompts_the_labeler_is_blind_on():
    p0, beta = np.zeros(200), np.r_[np.full(100, 0.3), np.zeros(100)]
    d = Dynamics(k=2, beta=beta, gamma_fp=0.0, gamma_fn=0.0, m=0)
    table = by_policy(d, p0, ["oracle", "hard"], [0.5], rounds=1, seeds=60).query("round == 1")
    oracle, hard = table.groupby("policy", sort=False).accuracy.mean()
    assert oracle == pytest.approx(0.5 * 0.3, abs=0.015) and hard < 0.7 * oracle  # half of hard's labels are lost


def test_the_start_has_the_groups_of_the_run_and_the_mean_of_their_laws():
    counts = {2: np.repeat([3, 4], [5, 15]), 4: np.repeat([0, 1], [50, 10])}
    fits = {g: fit_law(c, 4, np.random.default_rng(0), n_boot=0) for g, c in counts.items()}
    laws = {g: Histogram(*fit.initial(48)) for g, fit in fits.items()}
    p0, group = spread_groups(laws, {2: 20, 4: 60}, prompts=400)
    assert (group == 4).sum() == 300 and len(p0) == 400
    assert p0[group == 2].mean() == pytest.approx(3.75 / 4, abs=0.02)
    assert p0[group == 4].mean() == pytest.approx(10 / 60 / 4, abs=0.01)
