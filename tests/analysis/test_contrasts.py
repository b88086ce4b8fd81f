"""Differences between arms: paired by seed, over problems where there is one seed, on the seeds that are shared."""

import numpy as np
import pandas as pd
import pytest

import boostlib as bl
from boostlib.analysis import compare as contrasts
from boostlib.analysis import intervals as stats
from boostlib.analysis import spending


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
    for measure, (column, _) in contrasts.MEASURES.items():
        mean = contrasts.outcomes(one, measure).mean()
        for row in one.itertuples():
            assert mean[row.arm, row.round] == pytest.approx(getattr(row, column))
    with pytest.raises(ValueError, match="2 seeds"):
        contrasts.outcomes(run, "greedy, test")


def test_two_seeds_are_paired_and_one_is_bootstrapped_over_problems(run):
    last = run[run["round"] == 2].pivot(index="seed", columns="arm", values="test_accuracy")
    both = contrasts.difference(run, "boosting", "filter_only", "greedy, test")
    assert both["n"] == 2 and both["low"] == stats.paired(last.boosting, last.filter_only).low
    one = contrasts.difference(run[run.seed == 1], "boosting", "filter_only", "greedy, test")
    assert one["n"] == 30 and one["difference"] == pytest.approx(last.boosting[1] - last.filter_only[1])
    mixed = run[(run.arm == "boosting") | (run.seed == 1)]  # only one seed is shared
    assert contrasts.difference(mixed, "boosting", "filter_only", "greedy, test") == one


def test_contrasts_with_an_arm_that_was_not_run_are_left_out(run):
    pairs = {"labels": ("boosting", "filter_only"), "other": ("boosting", "uniform")}
    found = contrasts.differences(run, pairs)
    assert found.name.tolist() == ["labels"] * 2 and found.series.tolist() == list(contrasts.MEASURES)
    assert contrasts.differences(run, {}).empty


def test_area_within_a_seed_is_that_of_the_curves(run):
    one = run[run.seed == 0]
    found = contrasts.within_seed(one, "filter_only").set_index(["series", "measure"])
    areas = spending.efficiency(one, target=0.5).set_index("arm").area
    assert found.difference["greedy, test", "area"] == pytest.approx(areas.boosting - areas.filter_only)


def test_holm_is_applied_within_each_group_and_the_words_follow_the_verdicts():
    rows = pd.DataFrame(
        {
            "name": list("abc"),
            "series": ["x", "x", "y"],
            "difference": [0.1, -0.2, 0.0],
            "low": [0.05, -0.3, np.nan],
            "high": [0.15, -0.1, np.nan],
            "p": [0.01, 0.04, 0.04],
            "verdict": ["higher", "lower", stats.UNRESOLVED],
        }
    )
    assert contrasts.with_holm(rows, "series").p_holm.tolist() == pytest.approx([0.02, 0.04, 0.04])
    lost = contrasts.with_holm(rows.assign(p=[0.03, 0.04, 0.04]), "series")
    assert lost.verdict.tolist() == [stats.UNRESOLVED] * 3, "resolved alone, not together"
    assert contrasts.verdicts(rows) == [
        "- above: a +0.100 [+0.050, +0.150]",
        "- below: b -0.200 [-0.300, -0.100]",
        "- not resolved: c +0.000",
    ]
    scores = pd.DataFrame({"hard": [0.5, 0.6], "uniform": [0.4, 0.45]})
    assert contrasts.to_reference(scores, "hard").difference.tolist() == pytest.approx([-0.125])
