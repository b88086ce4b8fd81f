"""Differences between arms, the labels they took: paired by seed, over problems where there is one."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from small_tables import rounds

import boostlib as bl
from boostlib.analysis import compare
from boostlib.analysis.intervals import UNRESOLVED, paired


def _table(arms, seeds, rng, rounds=(0, 1)):
    rows = [
        {"arm": arm, "seed": seed, "round": r, "test_accuracy": mean * r + rng.normal(0.2, 0.01)}
        for arm, mean in arms.items()
        for seed in range(seeds)
        for r in rounds
    ]
    return pd.DataFrame(rows)


def test_compare_arms_ranks_arms_against_the_baseline_in_the_last_shared_round():
    table = _table({"filter_only": 0.2, "boosting": 0.3, "uniform": 0.2}, 5, np.random.default_rng(9))
    table = pd.concat([table, table[table["arm"] == "boosting"].assign(round=2, test_accuracy=0.9)])
    out = compare.compare_arms(table, "filter_only").set_index("arm")
    now = table[table["round"] == 1].pivot(index="seed", columns="arm", values="test_accuracy")
    expected = scipy_stats.ttest_rel(now["boosting"], now["filter_only"])
    assert out.loc["boosting", "p"] == pytest.approx(expected.pvalue)
    assert out.loc["boosting", "p_holm"] == pytest.approx(2 * expected.pvalue)
    assert out.loc["boosting", "verdict"] == "higher"
    assert out.loc["uniform", "verdict"] == UNRESOLVED and 0 < out.loc["uniform", "within"] < 0.05
    assert out.loc["filter_only", "verdict"] == "baseline"


def test_compare_arms_drops_what_many_comparisons_make_cheap():
    seeds, rows = np.arange(4), []
    spread = np.array([0.012, -0.012, 0.012, -0.012])
    for arm, mean, width in [("a", 0.2, 0), ("b", 0.23, 1), *[(f"c{i}", 0.2, 1) for i in range(5)]]:
        rows += [{"arm": arm, "seed": s, "round": 1, "test_accuracy": mean + width * spread[s]} for s in seeds]
    out = compare.compare_arms(pd.DataFrame(rows), "a").set_index("arm")
    alone = paired(0.23 + spread, np.full(4, 0.2))
    assert out.loc["b", "p"] == pytest.approx(alone.p) and alone.p > 0.05 / 6
    assert out.loc["b", "verdict"] == UNRESOLVED
    assert ("after Holm's correction: open" in out.loc["b", "note"]) == (alone.verdict == "higher")


def test_compare_arms_pairs_by_seed_whatever_the_order_of_rows():
    table = _table({"filter_only": 0.2, "boosting": 0.3}, 4, np.random.default_rng(12))
    shuffled = table.sample(frac=1, random_state=0)
    a, b = (compare.compare_arms(t, "filter_only").set_index("arm") for t in (table, shuffled))
    assert a.loc["boosting", "p"] == pytest.approx(b.loc["boosting", "p"])


def test_compare_arms_with_one_seed_says_what_cannot_be_said():
    table = _table({"filter_only": 0.2, "boosting": 0.3}, 1, np.random.default_rng(13))
    row = compare.compare_arms(table, "filter_only").set_index("arm").loc["boosting"]
    assert row["difference"] > 0.05 and row["verdict"] == UNRESOLVED and "one seed" in row["note"]


def test_compare_arms_with_an_arm_that_has_no_score_says_so():
    table = _table({"filter_only": 0.2, "boosting": 0.3}, 2, np.random.default_rng(13))
    for empty in ("boosting", "filter_only"):
        row = compare.compare_arms(
            table.where(table["arm"] != empty, table.assign(test_accuracy=np.nan)), "filter_only"
        )
        assert "no seed shared" in row.set_index("arm").loc["boosting", "note"]


@pytest.mark.parametrize(
    "change, options, said",
    [
        (lambda t: t.drop(columns="seed"), {}, "seed"),
        (lambda t: t, {"baseline": "nothing"}, "filter_only"),
        (lambda t: t, {"round": 9}, "shared rounds"),
        (lambda t: pd.concat([t, t]), {}, "more than one row"),
    ],
)
def test_compare_arms_names_what_is_wrong_with_a_table(change, options, said):
    table = _table({"filter_only": 0.2, "boosting": 0.3}, 2, np.random.default_rng(14))
    with pytest.raises(ValueError, match=said):
        compare.compare_arms(change(table), **{"baseline": "filter_only", **options})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two seeds of a tabular learner that knows nothing: boosting and filtering alone."""
    from boostlib.learners.tabular import coins_learner

    task = bl.load_task("coins", "train", n=30)
    learner = coins_learner(task, p0=0.0)
    return bl.boost(
        task, task, learner, arms=["boosting", "filter_only"], seeds=[0, 1], rounds=2, k=1, labels_per_prompt=1, beta=0.5,
        shots=0, folder=tmp_path_factory.mktemp("runs"), show=False,
    )  # fmt: skip


def test_answers_by_problem_average_to_the_accuracy_of_the_table(run):
    one = run[run.seed == 0]
    for measure, (column, _) in compare.MEASURES.items():
        mean = compare.outcomes(one, measure).mean()
        for row in one.itertuples():
            assert mean[row.arm, row.seed, row.round] == pytest.approx(getattr(row, column))
    with pytest.raises(ValueError, match="2 seeds"):
        compare.within_seed(run, "filter_only")


def test_two_seeds_are_paired_and_one_is_bootstrapped_over_problems(run):
    last = run[run["round"] == 2].pivot(index="seed", columns="arm", values="test_accuracy")
    both, t = (
        compare.difference(run, "boosting", "filter_only", "greedy, test"),
        paired(last.boosting, last.filter_only),
    )
    assert (
        both["n"] == 2 and both["difference"] == pytest.approx(t.difference) and both["covers"] == "seeds and problems"
    )
    row = compare.compare_arms(run, "filter_only").set_index("arm").loc["boosting"]
    assert (row.difference, row.difference_low, row.p) == (both["difference"], both["low"], both["p"])
    one = compare.difference(run[run.seed == 1], "boosting", "filter_only", "greedy, test")
    assert one["n"] == 30 and one["difference"] == pytest.approx(last.boosting[1] - last.filter_only[1])
    row = compare.compare_arms(run[run.seed == 1], "filter_only").set_index("arm").loc["boosting"]
    assert row.difference_low == one["low"] and row.covers == "problems, given the seed"
    mixed = run[(run.arm == "boosting") | (run.seed == 1)]  # only one seed is shared
    assert compare.difference(mixed, "boosting", "filter_only", "greedy, test") == one


def test_contrasts_with_an_arm_that_was_not_run_are_left_out(run):
    pairs = {"labels": ("boosting", "filter_only"), "other": ("boosting", "uniform")}
    found = compare.differences(run, pairs)
    assert found.name.tolist() == ["labels"] * 2 and found.series.tolist() == list(compare.MEASURES)
    assert compare.differences(run, {}).empty


def test_area_within_a_seed_is_that_of_the_curves(run):
    one = run[run.seed == 0]
    found = compare.within_seed(one, "filter_only").set_index(["series", "measure"])
    areas = compare.efficiency(one, target=0.5).set_index("arm").area
    assert found.difference["greedy, test", "area"] == pytest.approx(areas.boosting - areas.filter_only)


def test_holm_is_applied_within_each_group_and_the_verdicts_follow():
    rows = pd.DataFrame(
        {
            "name": list("abc"),
            "series": ["x", "x", "y"],
            "difference": [0.1, -0.2, 0.0],
            "low": [0.05, -0.3, np.nan],
            "high": [0.15, -0.1, np.nan],
            "p": [0.01, 0.04, 0.04],
            "verdict": ["higher", "lower", UNRESOLVED],
        }
    )
    assert compare.with_holm(rows, "series").p_holm.tolist() == pytest.approx([0.02, 0.04, 0.04])
    lost = compare.with_holm(rows.assign(p=[0.03, 0.04, 0.04]), "series")
    assert lost.verdict.tolist() == [UNRESOLVED] * 3, "resolved alone, not together"
    scores = pd.DataFrame({"hard": [0.5, 0.6], "uniform": [0.4, 0.45]})
    assert compare.to_reference(scores, "hard").difference.tolist() == pytest.approx([-0.125])


def test_labels_are_counted_before_the_round_that_shows_their_effect():
    table = compare.with_spent(rounds({"hard": [0.1, 0.2, 0.4]}).iloc[::-1])
    assert table.sort_values("round").query("seed == 0").spent.tolist() == [0, 100, 200]


def test_area_is_the_mean_of_the_straight_lines_between_rounds():
    spent = [0, 100, 400]
    assert compare.area_weights(spent) @ [0.0, 1.0, 1.0] == pytest.approx(1 - 50 / 400)
    assert compare.area_weights([0, 0, 0]) @ [0.0, 1.0, 1.0] == pytest.approx(0.75)  # no labels: by rounds
    assert compare.area_weights(np.arange(7.0)).sum() == pytest.approx(1)
    for bad in ([0.0], [0, 5, 3]):
        with pytest.raises(ValueError):
            compare.area_weights(bad)


def test_the_target_is_reached_between_rounds_at_once_or_never():
    spent, accuracy = [0, 100, 200], [0.2, 0.4, 0.3]
    assert compare.labels_to_reach(spent, accuracy, 0.35) == pytest.approx(75)
    assert compare.labels_to_reach(spent, accuracy, 0.2) == 0
    assert math.isinf(compare.labels_to_reach(spent, accuracy, 0.41))


def test_a_curve_is_summed_up_by_its_end_its_mean_over_labels_and_the_price_of_the_target():
    table = rounds({"hard": [0.1, 0.3, 0.5], "slow": [0.1, 0.2, 0.295]})
    found = compare.efficiency(table, target=0.3).set_index("arm")
    assert found.area["hard"].tolist() == pytest.approx([0.3, 0.31])
    assert found.final["slow"].tolist() == pytest.approx([0.295, 0.305])
    assert np.isfinite(found.to_target["slow"]).tolist() == [False, True]
