"""The bound, the long run, many draws, maps, the biased filter, and what is refused."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from test_theory import close, settings_grid

from boostlib.theory import BetaLaw, BiasedFilter, Dynamics, expected_error, maps


def test_bound_and_jensen_enclose_the_curve():
    for settings in settings_grid(150):
        d = Dynamics(**{**settings, "policy": "hard", "alpha": 1 / 3})
        if isinstance(d.beta, str) or d.gamma_fp + d.gamma_fn > 1:
            continue
        for p0 in (0.0, 1.0, [0.0, 0.1, 0.6]):
            error, bounds = 1 - d.exact(p0, 25), d.bounds()
            assert (error <= bounds.most_error(error[0], 25) + 1e-12).all(), settings
            assert (error >= bounds.least_error(error[0], 25) - 1e-12).all(), settings
            for eps in (0.5, 0.1):
                rounds = d.bound(eps, error[0])
                if rounds <= 25:
                    assert error[int(rounds)] <= eps + 1e-12


def test_no_bound_is_given_below_the_floor():
    d = Dynamics(gamma_fp=0.3, gamma_fn=0.3, eta=0.05)
    floor = d.bounds().floor
    assert d.bound(floor * 0.99) == math.inf and d.bound(floor * 1.01) < math.inf
    assert Dynamics(m=0).bound(0.1) == math.inf


def test_where_the_bound_never_falls_what_is_good_enough_already_takes_no_rounds():
    d = Dynamics(m=0, gamma_fp=0.0, gamma_fn=0.0)
    assert d.bounds().rate == 1 and d.bound(0.1, e0=0.05) == 0 and d.bound(0.1, e0=0.2) == math.inf
    assert (1 - d.exact([1.0, 0.9], 30) <= d.bounds().most_error(0.05, 30) + 1e-12).all()
    assert Dynamics(eta=0.2).bound(0.01, e0=0.0) == math.inf  # the error rises again


def test_a_stationary_law_is_reached_from_every_start():
    for settings in ({"gamma_fp": 0.3, "gamma_fn": 0.4, "k": 2, "m": 2}, {"gamma_fp": 0.2, "k": 3, "m": 1, "eta": 0.1}):
        d = Dynamics(**settings)
        ends = [d.law(p, 400) for p in (0.0, 0.5, 1.0)]
        for law in ends:
            close(law.mean[-1], ends[0].mean[-1])
            close(law.pass_at(8)[-1], ends[0].pass_at(8)[-1])


def test_filter_only_ends_at_0_or_at_1():
    law = Dynamics(k=4, gamma_fp=0.2, gamma_fn=0.1).arm("filter_only").law([0.1, 0.5], 300)
    close(law.share(0)[-1] + law.share(1)[-1], 1)
    assert 0.1 < law.share(0)[-1] < 0.9


def test_a_hopeless_prompt_escapes_in_a_geometric_round():
    for weak_data, label_helps in (("A", 0.15 * 0.95), ("all", 0.15)):
        d = Dynamics(k=3, beta=0.15, weak_data=weak_data)
        chance = (1 - d.gamma_fp) ** d.k * (1 - (1 - label_helps) ** d.m)
        close(1 - d.law(0.0, 1).share(0)[1], chance)


def test_many_draws_are_exact_and_quick():
    for settings in ({"m": 200}, {"m": 680, "eta": 0.02}, {"m": 680, "weak_data": "all"}, {"k": 60, "beta": "self"}):
        d = Dynamics(**settings)
        then = time.process_time()
        curve = d.exact(0.3, 12)
        assert time.process_time() - then < 10
        close(1 - curve[1], expected_error(d, np.array(0.3)))
        close(d.law(0.3, 2).mass.sum(1), np.ones(3))
    with pytest.raises(ValueError, match="up to 1900"):
        Dynamics(m=2000).exact(0.3, 1)


def test_the_parts_of_the_error_sum_to_it():
    for settings in settings_grid(40):
        d = Dynamics(**{**settings, "policy": "hard"})
        parts = d.losses([0.0, 0.2, 0.9], 6)
        close(sum(parts.values()), np.ones(7))
        close(parts["right"], d.exact([0.0, 0.2, 0.9], 6))
        assert min(part.min() for part in parts.values()) > -1e-12
        if d.eta == 0:
            close(parts["learner"], np.zeros(7))
        if d.gamma_fp == 0 and (d.weak_data == "A" or d.m == 0):
            close(parts["misled"], np.zeros(7))


# -- maps and the explorer -----------------------------------------------------------------------------------------------


def test_a_histogram_is_spread_over_prompts_in_its_shares():
    p0 = maps.with_hopeless(0.3, BetaLaw(0.5, 1), nodes=20)
    values = maps.spread(p0, 5000)
    assert values.size == 5000 and (values == 0).mean() == pytest.approx(0.3, abs=2e-4)
    assert values.mean() == pytest.approx(np.dot(p0.values, p0.weights), abs=2e-3)


def test_the_phase_diagram_is_the_exact_curve_at_every_point():
    betas, gammas = np.array([0.1, 0.6]), np.array([0.0, 0.3, 0.6])
    d = Dynamics(eta=0.02)
    found = maps.phase_diagram(d, betas, gammas, [0.0, 0.3], 7)
    for i, gamma in enumerate(gammas):
        for j, beta in enumerate(betas):
            x = Dynamics(eta=0.02, beta=float(beta)).noisy(gamma)
            for arm, values in found.items():
                close(values[i, j], x.arm(arm).exact([0.0, 0.3], 7)[-1])


def test_the_explorer_shows_the_exact_curves_and_moves_with_its_sliders():
    from boostlib.figures.explorer import Explorer

    explorer = Explorer(rounds=5)
    assert explorer.view() != explorer.view(beta=0.9)
    curves = explorer.curves(k=2, eta=0.1)
    close(curves["do_nothing"], curves["do_nothing"][0] * 0.9 ** np.arange(6))
    sliders, image = explorer.panel().children
    before = image.value
    sliders.children[2].value = 0.7
    assert image.value != before


# -- a biased filter ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["hard", "uniform"])
def test_a_family_that_is_treated_as_any_wrong_answer_changes_nothing(policy):
    shared = {"k": 4, "m": 3, "beta": 0.3, "gamma_fp": 0.1, "gamma_fn": 0.2, "eta": 0.03, "policy": policy}
    law = BiasedFilter(beta_family=0.2, believed=0.1, **shared).exact([0.4, 0.25, 0.35], 4)
    close(law[:, 0], Dynamics(mixture="prompt", **shared).exact(0.4, 4))
    close(law.sum(1), np.ones(5))


def test_labels_on_failed_prompts_cannot_undo_a_belief_and_labels_everywhere_can():
    start = [0.0, 1.0, 0.0]  # the model holds the family's answer for certain
    close(BiasedFilter().exact(start, 10)[:, 0], np.zeros(11))
    assert BiasedFilter(policy="uniform").exact(start, 30)[-1, 0] > 0.99


def test_without_labels_a_biased_filter_keeps_the_odds_of_what_it_believes():
    law = BiasedFilter(m=0).exact([0.3, 0.1, 0.6], 60)[-1]
    np.testing.assert_allclose(law, [0.75, 0.25, 0], atol=1e-12)


def test_labels_and_samples_without_weight_play_no_role_under_a_biased_filter():
    start = [0.3, 0.2, 0.5]
    for policy in ("hard", "uniform"):
        without = BiasedFilter(k=3, m=0, gamma_fp=0.1).exact(start, 5)
        close(BiasedFilter(k=3, m=4, gamma_fp=0.1, alpha=0.0, policy=policy).exact(start, 5), without)
    shared = {"k": 3, "m": 2, "beta": 0.3, "gamma_fp": 0.1, "gamma_fn": 0.2, "alpha": 1.0, "eta": 0.03}
    law = BiasedFilter(believed=0.1, **shared).exact(start, 5)
    close(law[:, 0], Dynamics(**shared).exact(0.3, 5))


# -- refusals ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "range_named"),
    [
        ({"gamma_fp": -0.1}, r"\[0, 1\]"),
        ({"gamma_fn": 1.1}, r"\[0, 1\]"),
        ({"gamma_fn": math.nan}, r"\[0, 1\]"),
        ({"alpha": 2}, r"\[0, 1\]"),
        ({"eta": 1.0}, r"\[0, 1\)"),
        ({"beta": 0.0}, r"\(0, 1\]"),
        ({"beta": [0.5, 1.5]}, r"\(0, 1\]"),
        ({"beta": "p1"}, "'p0' or 'self'"),
        ({"k": 0}, "at least 1"),
        ({"k": 2.5}, "at least 1"),
        ({"m": -1}, "at least 0"),
        ({"policy": "easy"}, "known are .*hard"),
        ({"weak_data": "B"}, "'A' and 'all'"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_the_range(settings, range_named):
    with pytest.raises(ValueError, match=range_named):
        Dynamics(**settings)


def test_beta_is_free_where_nobody_is_labeled():
    assert Dynamics(m=0, beta=0.0).exact(0.0, 2)[-1] == 0


@pytest.mark.parametrize("p0", [[-0.1], [0.5, 1.2], [], [math.nan], [[0.1, 0.2]], ([0.1, 0.2], [1.0]), ([0.1], [-1])])
def test_a_p0_that_is_no_law_is_refused(p0):
    with pytest.raises(ValueError, match="p0|Histogram"):
        Dynamics().exact(p0, 1)


def test_other_refusals_say_what_would_be_right():
    with pytest.raises(ValueError, match="above 0"):
        BetaLaw(0, 1)
    with pytest.raises(ValueError, match="rounds"):
        Dynamics().exact(0.5, -1)
    with pytest.raises(ValueError, match="2 values for 3 prompts"):
        Dynamics(beta=[0.1, 0.2]).exact([0.1, 0.2, 0.3], 1)
    with pytest.raises(ValueError, match="use simulate"):
        Dynamics(policy="frontier").exact(0.5, 1)
    with pytest.raises(ValueError, match="worse than chance"):
        Dynamics(gamma_fp=0.7, gamma_fn=0.4).bound(0.1)
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        Dynamics().bound(0.0)
    with pytest.raises(ValueError, match="beta_family"):
        BiasedFilter(beta=0.5, beta_family=0.6)
