"""Every policy spends its budget to the last label, by its generator alone, on what the filter saw alone."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from boostlib.allocation import POLICIES, Statistics, allocate, oracle, share


def make(accepted, k=8, labels=None, labels_accepted=None, **more):
    accepted = np.atleast_2d(accepted)
    none = np.zeros((len(accepted) - 1, accepted.shape[1]), dtype=int)
    labels = none if labels is None else labels
    labels_accepted = none if labels_accepted is None else labels_accepted
    return Statistics(accepted, k, np.asarray(labels), np.asarray(labels_accepted), **more)


@st.composite
def statistics(draw):
    rounds, n, k = draw(st.integers(1, 3)), draw(st.integers(0, 7)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    p = rng.choice([0, 0.02, 0.5, 1], n) if draw(st.booleans()) else rng.random(n)
    labels = rng.integers(0, 5, (rounds - 1, n))
    return Statistics(rng.binomial(k, p, (rounds, n)), k, labels, rng.binomial(labels, 0.3), p)


QUALIFIES = {  # the prompts a policy may choose from
    "hard": lambda s: s.accepted[-1] == 0,
    "random_subset": lambda s: np.full(s.n, (s.accepted[-1] == 0).any()),
    "prop2diff": lambda s: s.accepted[-1] < s.k,
    "frontier": lambda s: (s.accepted[-1] > 0) & (s.accepted[-1] < s.k),
    "oracle": lambda s: (s.accepted[-1] == 0) & (s.p < 1),
}


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=120, deadline=None)
@given(s=statistics(), budget=st.integers(0, 300), seed=st.integers(0, 2**32 - 1))
def test_every_policy_spends_exactly_its_budget_where_a_prompt_qualifies(name, s, budget, seed):
    counts = POLICIES[name](s, budget, np.random.default_rng(seed))
    may = QUALIFIES.get(name, lambda s: np.full(s.n, True))(s)
    assert counts.shape == (s.n,) and np.issubdtype(counts.dtype, np.integer)
    assert counts.min(initial=0) >= 0 and (counts[~may] == 0).all()
    assert counts.sum() == (budget if may.any() else 0)
    assert np.array_equal(counts, POLICIES[name](s, budget, np.random.default_rng(seed)))


@settings(max_examples=200, deadline=None)
@given(
    weights=st.lists(st.floats(0, 1e300, allow_subnormal=True), max_size=12),
    budget=st.integers(0, 10**6),
    seed=st.integers(0, 2**32 - 1),
)
def test_share_rounds_each_quota_and_drops_nothing(weights, budget, seed):
    counts = share(weights, budget, np.random.default_rng(seed))
    w = np.array(weights)
    assert counts.sum() == (budget if (w > 0).any() else 0)
    assert (counts[w == 0] == 0).all() and (counts >= 0).all()
    if (w > 0).any():
        quota = w / w.max() / (w / w.max()).sum() * budget
        assert (np.abs(counts - quota) < 1 + 1e-6).all()


def test_share_gives_small_budgets_in_proportion_on_average():
    weights, rng = np.array([5.0, 3, 1, 1, 0]), np.random.default_rng(0)
    mean = np.mean([share(weights, 3, rng) for _ in range(4000)], axis=0)
    assert mean == pytest.approx(3 * weights / 10, abs=0.04)


def test_hard_is_even_over_the_failed_and_the_remainder_is_random():
    s = make([0, 3, 0, 0, 8])
    counts = [allocate("hard", s, 8, np.random.default_rng(i)) for i in range(40)]
    assert all(sorted(c[[0, 2, 3]]) == [2, 3, 3] and not c[[1, 4]].any() for c in counts)
    assert len({tuple(c) for c in counts}) == 3  # each of the three is the short one now and then


def test_random_subset_concentrates_as_hard_does_but_anywhere():
    s = make([0, 0, 5, 5, 5, 5])
    counts = np.array([allocate("random_subset", s, 10, np.random.default_rng(i)) for i in range(300)])
    assert (np.sort(counts, axis=1)[:, -2:] == 5).all()
    assert (counts > 0).mean(0) == pytest.approx(1 / 3, abs=0.1)


def test_prop2diff_by_hand():
    counts = allocate("prop2diff", make([0, 4, 6, 8]), 14, np.random.default_rng(0))
    assert counts.tolist() == [8, 4, 2, 0]


def test_frontier_leaves_the_hopeless_and_the_solved():
    s = make([0, 1, 4, 6, 8])
    counts = allocate("frontier", s, 14, np.random.default_rng(0))  # weights 0, 1/4, 1, 1/2, 0
    assert counts.tolist() == [0, 2, 8, 4, 0]
    counts = POLICIES["frontier"](s, 15, np.random.default_rng(0), target=0.125)  # 0, 1, 4/7, 2/7, 0
    assert counts[1] > counts[2] > counts[3] > 0


def test_multiplicative_weights_double_the_weight_each_round_a_prompt_fails():
    s = make([[0, 0, 3], [0, 2, 3], [0, 0, 1]])
    assert allocate("multiplicative_weights", s, 13, np.random.default_rng(0)).tolist() == [8, 4, 1]
    assert POLICIES["multiplicative_weights"](s, 37, np.random.default_rng(0), factor=3).tolist() == [27, 9, 1]


def test_multiplicative_weights_survive_thousands_of_failed_rounds():
    s = make(np.zeros((3000, 2), dtype=int))
    assert allocate("multiplicative_weights", s, 10, np.random.default_rng(0)).tolist() == [5, 5]


def test_uniform_until_solved_levels_accepted_responses():
    s = make([1, 2, 8])  # one label is worth half an accepted response before any was asked
    assert allocate("uniform_until_solved", s, 2, np.random.default_rng(0)).tolist() == [2, 0, 0]
    assert allocate("uniform_until_solved", s, 6, np.random.default_rng(0)).tolist() == [4, 2, 0]  # up to 3, 3, 8
    assert allocate("uniform_until_solved", s, 26 + 6, np.random.default_rng(0)).tolist() == [16, 14, 2]


def test_uniform_until_solved_asks_more_where_labels_fail():
    s = make([[0, 0], [0, 0]], labels=[[6, 6]], labels_accepted=[[1, 1]])
    even = allocate("uniform_until_solved", s, 40, np.random.default_rng(0))
    s = make([[0, 1], [0, 0]], labels=[[8, 8]], labels_accepted=[[1, 0]])  # both have one; the second's labels fail
    skewed = allocate("uniform_until_solved", s, 45, np.random.default_rng(0))
    assert even.tolist() == [20, 20] and skewed.tolist() == [15, 30]  # 5 and 10 labels for one accepted


def test_bandit_finds_the_prompts_that_a_label_helps():
    n, rng = 60, np.random.default_rng(0)
    passed = np.repeat([0, 0, 8], n // 3)
    taken = np.repeat([30, 0, 30], n // 3)  # of 60 labels asked earlier: helpful, hopeless, not needed
    s = make([passed, passed], labels=np.full((1, n), 60), labels_accepted=taken[None])
    groups = allocate("bandit", s, 600, rng).reshape(3, -1).sum(1)
    assert groups[0] > 0.9 * 600


def test_bandit_still_tries_prompts_it_knows_nothing_of():
    s = make([[0] * 32, [0] * 32], labels=[[40] * 16 + [0] * 16], labels_accepted=[[10] * 16 + [0] * 16])
    counts = allocate("bandit", s, 320, np.random.default_rng(0))
    assert counts[16:].sum() > counts[:16].sum() > 0


def gain(p, own, m, beta, gamma_fp, gamma_fn, filtered):
    """One-step gain of m labels by enumeration of right and wrong kept labels."""
    keep_right, keep_wrong = (1 - gamma_fn, gamma_fp) if filtered else (1, 1)
    a, b = p * (1 - gamma_fn), (1 - p) * gamma_fp
    now = p if own == 0 else a / (a + b)
    after = 0.0
    for right in range(m + 1):
        for kept_right in range(right + 1):
            for kept_wrong in range(m - right + 1):
                chance = (
                    scipy_stats.binom.pmf(right, m, beta)
                    * scipy_stats.binom.pmf(kept_right, right, keep_right)
                    * scipy_stats.binom.pmf(kept_wrong, m - right, keep_wrong)
                )
                data = own + kept_right + kept_wrong
                after += chance * ((own * now + kept_right) / data if data else p)
    return after - now


@pytest.mark.parametrize("filtered", [True, False])
def test_oracle_spends_as_the_best_of_all_splits(filtered):
    p, own, beta, budget = [0.05, 0.2, 0.3], [0, 2, 0], 0.6, 5
    setting = dict(beta=beta, gamma_fp=0.3, gamma_fn=0.1, filtered=filtered)
    counts = oracle(make(own, p=np.array(p)), budget, np.random.default_rng(0), **setting)
    value = {
        m: [gain(p[i], own[i], m[i], **setting) for i in range(3)] for m in np.ndindex(6, 6, 6) if sum(m) == budget
    }
    best = max(map(sum, value.values()))
    assert sum(value[tuple(int(c) for c in counts)]) == pytest.approx(best, abs=1e-9)
    assert counts[1] > 0  # with a filter that errs, a prompt with accepted responses gains too


def test_oracle_trusts_a_perfect_filter_and_spends_nothing_without_gain():
    s = make([0, 0, 3], p=np.array([0.9, 0.9, 0.5]))
    assert oracle(s, 10, np.random.default_rng(0), beta=0.5).tolist() == [5, 5, 0]
    worse = oracle(s, 10, np.random.default_rng(0), beta=0.5, filtered=False)  # labels would lower 0.9
    assert worse.tolist() == [0, 0, 0]


def test_oracle_puts_more_labels_where_one_is_seldom_right():
    s = make([0, 0], p=np.array([0.0, 0.0]))
    counts = oracle(s, 30, np.random.default_rng(0), beta=np.array([0.5, 0.1]))
    assert counts[1] > counts[0] > 0


def test_policies_other_than_oracle_never_read_the_truth():
    rng = np.random.default_rng(0)
    accepted = rng.integers(0, 9, (1, 30))
    for name in set(POLICIES) - {"oracle"}:
        blind, told = (
            allocate(name, make(accepted, p=p), 50, np.random.default_rng(1)) for p in (None, rng.random(30))
        )
        assert np.array_equal(blind, told), name
    with pytest.raises(ValueError, match="statistics.p"):
        allocate("oracle", make(accepted), 5, rng)


def test_a_large_budget_is_allocated_in_a_second():
    rng = np.random.default_rng(0)
    p = rng.beta(0.4, 0.6, 7000)
    s = Statistics(rng.binomial(8, p, (2, 7000)), 8, np.full((1, 7000), 8), np.full((1, 7000), 2), p=p)
    for name in POLICIES:
        assert allocate(name, s, 56_000, rng).sum() == 56_000


def test_a_user_policy_is_one_function_and_is_held_to_the_budget():
    s = make([0, 1, 2])
    first = lambda statistics, budget, rng: np.array([budget, 0, 0])  # noqa: E731
    assert allocate(first, s, 7, np.random.default_rng(0)).tolist() == [7, 0, 0]
    assert allocate(partial(POLICIES["multiplicative_weights"], factor=1), s, 6, np.random.default_rng(0)).tolist() == [
        2,
        2,
        2,
    ]
    for wrong, said in [
        (lambda *_: np.array([1, 1, 1]), "spends 3 of a budget of 7"),
        (lambda *_: np.array([3.5, 3.5, 0]), "whole number"),
        (lambda *_: np.array([9, -2, 0]), "none negative"),
        (lambda *_: np.array([7]), "shape"),
    ]:
        with pytest.raises(ValueError, match=said):
            allocate(wrong, s, 7, np.random.default_rng(0))
    with pytest.raises(ValueError, match="known: uniform, random_subset, hard"):
        allocate("hardest", s, 7, np.random.default_rng(0))
    with pytest.raises(ValueError, match="budget is -1"):
        allocate("hard", s, -1, np.random.default_rng(0))


@pytest.mark.parametrize(
    "change, said",
    [
        (dict(accepted=[[9, 0]]), "above k = 8"),
        (dict(accepted=[[-1, 0]]), "none negative"),
        (dict(accepted=[[0.5, 0]]), "whole numbers"),
        (dict(accepted=[1, 0]), "rounds by prompts"),
        (dict(accepted=np.zeros((0, 2))), "no row"),
        (dict(k=0), "k is 0"),
        (dict(labels=[[1, 1]]), "goes with accepted"),
        (dict(accepted=[[0, 0]] * 2, labels=[[1, 1]], labels_accepted=[[2, 0]]), "at most once"),
        (dict(p=[0.5]), "one number a prompt"),
        (dict(p=[0.5, 1.5]), r"p must be in \[0, 1\]"),
    ],
)
def test_statistics_that_cannot_be_are_refused(change, said):
    good = dict(accepted=[[0, 1]], k=8, labels=np.zeros((0, 2)), labels_accepted=np.zeros((0, 2)))
    Statistics(**good)
    with pytest.raises(ValueError, match=said):
        Statistics(**(good | change))
