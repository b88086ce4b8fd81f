"""The intervals cover, the comparisons find nothing in nothing, and every number has a hand-computed twin."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from boostlib.analysis import intervals
from boostlib.analysis.intervals import rate

BETWEEN_93_AND_97 = pytest.approx(0.95, abs=0.02)


def test_wilson_interval_by_hand():
    z = scipy_stats.norm.ppf(0.975)
    right, n = 8, 10
    centre = (right / n + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(0.8 * 0.2 / n + z**2 / (4 * n**2))
    got = intervals.proportion(right, n)
    assert (got.value, got.low, got.high) == pytest.approx((0.8, centre - half, centre + half))
    assert intervals.proportion(0, 10).low == pytest.approx(0, abs=1e-12)
    assert intervals.proportion(0, 10).high > 0.2  # none right of ten does not mean never


def test_wilson_interval_covers():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 2000)
    right = rng.binomial(200, p)
    hits = [e.low <= q <= e.high for q, e in zip(p, (intervals.proportion(c, 200) for c in right), strict=True)]
    assert np.mean(hits) == BETWEEN_93_AND_97


@pytest.mark.parametrize("n", [2, 3, 8])
def test_mean_interval_over_few_seeds_covers(n):
    rng = np.random.default_rng(n)
    truth, draws = 0.4, rng.normal(0.4, 0.03, (2000, n))
    hits = [e.low <= truth <= e.high for e in map(intervals.mean_interval, draws)]
    assert np.mean(hits) == BETWEEN_93_AND_97


def test_mean_interval_over_prompts_covers_for_pass_at_k():
    rng = np.random.default_rng(1)
    p = rng.beta(0.6, 0.9, (1500, 300))
    values = scipy_stats.hypergeom.sf(0, 8, rng.binomial(8, p), 4)  # unbiased (Chen et al. 2021)
    x = np.linspace(0, 1, 200_001)[1:-1]
    law = scipy_stats.beta.pdf(x, 0.6, 0.9)
    truth = np.average(1 - (1 - x) ** 4, weights=law)
    hits = [e.low <= truth <= e.high for e in map(intervals.mean_interval, values)]
    assert np.mean(hits) == BETWEEN_93_AND_97


def test_one_seed_has_no_interval_and_says_so():
    one = intervals.mean_interval([0.4])
    assert one.value == 0.4 and math.isnan(one.low) and math.isnan(one.high)
    assert "one seed" in one.note
    pair = intervals.paired([0.5], [0.4])
    assert pair.verdict == intervals.UNRESOLVED and math.isnan(pair.p) and "one seed" in pair.note


def test_paired_t_by_hand():
    got = intervals.paired([0.46, 0.44, 0.47], [0.40, 0.41, 0.39])  # differences .06, .03, .08
    d = np.array([0.06, 0.03, 0.08])
    t = d.mean() / (d.std(ddof=1) / math.sqrt(3))
    assert got.difference == pytest.approx(0.17 / 3)
    assert got.p == pytest.approx(2 * scipy_stats.t.sf(t, 2))
    assert got.high - got.difference == pytest.approx(4.302653 * d.std(ddof=1) / math.sqrt(3), rel=1e-6)
    assert got.p > 0.05 and got.verdict == intervals.UNRESOLVED  # three seeds, and a difference twice the spread
    half = scipy_stats.t.ppf(0.95, 2) * d.std(ddof=1) / math.sqrt(3)
    assert got.within == pytest.approx(got.difference + half) and got.covers == "seeds"


def test_paired_interval_covers_and_its_verdict_agrees_with_it():
    rng = np.random.default_rng(2)
    truth, hits = 0.02, []
    for d in rng.normal(truth, 0.02, (2000, 4)):
        got = intervals.paired(d + 0.4, np.full(4, 0.4))
        hits.append(got.low <= truth <= got.high)
        assert (got.verdict == intervals.UNRESOLVED) == (got.low <= 0 <= got.high)
        assert got.verdict != "lower" or got.high < 0
    assert np.mean(hits) == BETWEEN_93_AND_97


@pytest.mark.parametrize("n", [3, 5])
def test_paired_finds_a_difference_in_nothing_five_times_in_a_hundred(n):
    rng = np.random.default_rng(10 + n)
    pairs = rng.normal(0.4, 0.02, (2000, 2, n)) + rng.normal(0, 0.05, (2000, 1, n))  # seeds share luck
    found = [intervals.paired(a, b).verdict != intervals.UNRESOLVED for a, b in pairs]
    assert np.mean(found) == pytest.approx(0.05, abs=0.02)


def test_equal_differences_give_no_verdict():
    for a, b in (([0.5, 0.6], [0.4, 0.5]), ([0.4, 0.5], [0.4, 0.5])):
        same = intervals.paired(a, b)
        assert same.verdict == intervals.UNRESOLVED and math.isnan(same.low) and "no verdict" in same.note
    floor = np.zeros((2, 40))  # two seeds near the floor, alike by chance
    floor[:, :3] = 1
    assert intervals.two_way(floor).verdict == intervals.UNRESOLVED


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("by_seed, by_problem", [(0.003, 0.4), (0.03, 0.3), (0.03, 0.0)])
def test_two_way_interval_covers_other_seeds_and_other_problems(seeds, by_seed, by_problem):
    rng, truth, hits, within, alone = np.random.default_rng(seeds), 0.04, [], [], []
    for _ in range(600):
        luck, kind = rng.normal(0, by_seed, (seeds, 1)), rng.normal(0, by_problem, 150)
        d = truth + luck + kind + rng.choice([-1, 0, 1], p=[0.1, 0.8, 0.1], size=(seeds, 150))
        got, seeds_only = intervals.two_way(d), intervals.paired(d.mean(1), np.zeros(seeds))
        hits.append(got.low <= truth <= got.high)
        within.append(got.within >= truth)
        alone.append(seeds_only.low <= truth <= seeds_only.high)
        assert got.high - got.low >= seeds_only.high - seeds_only.low and got.covers == "seeds and problems"
    assert np.mean(hits) > 0.93 and np.mean(within) > 0.93  # on the safe side
    assert np.mean(alone) < 0.9 or not by_problem or seeds < 5


def test_two_way_is_the_paired_t_where_nothing_persists_in_problems():
    d = np.array([[1.0, 0, 1, 0], [0, 1, 0, 1.0], [1, 1, 0, 1]])
    got, by_seed = intervals.two_way(d), intervals.paired(d.mean(1), np.zeros(3))
    assert (got.low, got.high, got.p) == pytest.approx((by_seed.low, by_seed.high, by_seed.p))
    with pytest.raises(ValueError, match="by seed and problem"):
        intervals.two_way([0.1, 0.2])


def test_paired_refuses_unpaired_or_missing_seeds():
    with pytest.raises(ValueError, match="pair"):
        intervals.paired([0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="finite"):
        intervals.paired([0.1, math.nan], [0.1, 0.2])


def _outcomes(rng, n, both, only_a, only_b):
    kind = rng.choice(4, size=n, p=[both, only_a, only_b, 1 - both - only_a - only_b])
    return (kind == 0) | (kind == 1), (kind == 0) | (kind == 2)


def test_bootstrap_over_prompts_covers_and_is_labelled_conditional():
    rng = np.random.default_rng(4)
    hits = []
    for _ in range(1500):
        got = intervals.paired_prompts(*_outcomes(rng, 300, 0.3, 0.15, 0.1), rng, n_boot=1000)
        hits.append(got.low <= 0.05 <= got.high)
    assert "conditional on the seed" in got.note
    assert np.mean(hits) == BETWEEN_93_AND_97


def test_bootstrap_over_prompts_finds_a_difference_in_nothing_five_times_in_a_hundred():
    rng = np.random.default_rng(5)
    found = [
        intervals.paired_prompts(*_outcomes(rng, 300, 0.3, 0.12, 0.12), rng, n_boot=1000).verdict
        != intervals.UNRESOLVED
        for _ in range(1500)
    ]
    assert np.mean(found) == pytest.approx(0.05, abs=0.02)


def test_bootstrap_over_prompts_is_that_of_resampled_rows():
    rng = np.random.default_rng(6)
    a, b = _outcomes(rng, 150, 0.3, 0.2, 0.1)
    got = intervals.paired_prompts(a, b, rng, n_boot=20_000)
    rows = rng.integers(150, size=(20_000, 150))
    low, high = np.quantile((a * 1.0 - b)[rows].mean(1), [0.025, 0.975])
    assert (got.low, got.high) == pytest.approx((low, high), abs=0.01)


def test_bootstrap_depends_on_its_generator_alone():
    a, b = _outcomes(np.random.default_rng(7), 200, 0.3, 0.2, 0.15)
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    first = intervals.paired_prompts(a, b, np.random.default_rng(1))
    np.random.seed(1)  # noqa: NPY002
    assert intervals.paired_prompts(a, b, np.random.default_rng(1)) == first
    assert intervals.paired_prompts(a, b, np.random.default_rng(2)) != first


def test_equal_outcomes_on_every_prompt_resolve_nothing():
    got = intervals.paired_prompts([1, 0, 1], [1, 0, 1], np.random.default_rng(0))
    assert got.verdict == intervals.UNRESOLVED and math.isnan(got.low)


def test_holm_by_hand():
    assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    with_gap = intervals.holm([0.01, math.nan, 0.04])  # a missing comparison is not counted
    assert with_gap[[0, 2]] == pytest.approx([0.02, 0.04]) and math.isnan(with_gap[1])


def test_holm_agrees_with_statsmodels():
    p = np.random.default_rng(15).random(9) ** 3
    assert intervals.holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_keeps_any_false_finding_among_many_comparisons_under_five_in_a_hundred():
    arms = np.random.default_rng(11).normal(0.4, 0.02, (2000, 6, 4))  # five arms against the first, four seeds
    p = scipy_stats.ttest_rel(arms[:, 1:], arms[:, :1], axis=2).pvalue
    found = np.mean([(intervals.holm(row) < 0.05).any() for row in p])
    assert found < 0.065 < 0.12 < (p < 0.05).any(axis=1).mean()


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
