"""The loop: what each arm trains on, what is paired, what bad input does."""

import functools
import json

import numpy as np
import pytest

import boostlib as bl
from boostlib import runs
from boostlib.boosting.settings import ARMS, METHODS, Settings

QUICK = dict(k=3, steps=4, batch_size=2, shots=0, show=False)


def boost(chains, tabular, tmp_path, **options):
    task, test = chains
    return bl.boost(task, test, tabular, folder=tmp_path, **QUICK | options)


def artefact(table, arm, t, name, seed=0):
    folder = table.query("arm == @arm and seed == @seed").folder.iloc[0]
    from pathlib import Path

    return runs.read_rows(Path(folder) / f"round-{t}" / f"{name}.jsonl")


def test_every_arm_runs_and_a_round_is_a_row(chains, tabular, tmp_path):
    table = boost(chains, tabular, tmp_path, arms=list(ARMS), seeds=[0, 1], rounds=2)
    assert len(table) == len(ARMS) * 2 * 3
    assert set(table["round"]) == {0, 1, 2}
    assert table.test_accuracy.between(0, 1).all()


def test_every_published_method_runs_from_its_settings(chains, tabular, tmp_path):
    table = boost(chains, tabular, tmp_path, arms=list(METHODS), rounds=1)
    assert set(table.arm) == set(METHODS)


def test_boosting_solves_what_filter_only_cannot(chains, tabular, tmp_path):
    table = boost(chains, tabular, tmp_path, arms=["filter_only", "boosting"], rounds=6, beta=0.5)
    last = table[table["round"] == 6].set_index("arm").train_accuracy
    assert last["boosting"] == 1.0
    assert last["filter_only"] == pytest.approx(0.5)  # half of the prompts start at p = 0 and stay there


def test_round_zero_is_the_same_in_all_arms(chains, tabular, tmp_path):
    table = boost(chains, tabular, tmp_path, arms=list(ARMS), rounds=1)
    first = table[table["round"] == 0]
    assert first.test_accuracy.nunique() == first.train_accuracy.nunique() == 1


def test_only_failed_prompts_are_labelled_and_the_budget_is_spent_exactly(chains, tabular, tmp_path):
    table = boost(chains, tabular, tmp_path, arms=["boosting", "uniform"], rounds=1, budget=50)
    verdicts = artefact(table, "boosting", 0, "verdicts")
    failed = {r["id"] for r in verdicts} - {r["id"] for r in verdicts if r["accepted"]}
    labels = artefact(table, "boosting", 0, "labels")
    assert {r["id"] for r in labels} == failed
    assert set(table.loc[table["round"] == 0, "labels"]) == {50}


def test_weak_data_A_holds_only_right_answers_with_a_perfect_filter(chains, tabular, tmp_path):
    table = boost(chains, tabular, tmp_path, arms=["boosting"], rounds=1)
    row = table.iloc[0]
    assert row.labels_kept == row.labels_kept_right == row.labels_right
    every = boost(chains, tabular, tmp_path, arms=["boosting"], rounds=1, weak_data="all").iloc[0]
    assert every.labels_kept == every.labels > every.labels_kept_right


def test_weights_are_those_of_algorithm_2(chains, tabular, tmp_path):
    table = boost(chains, tabular, tmp_path, arms=["boosting"], rounds=1, alpha=0.25)
    examples = artefact(table, "boosting", 0, "examples")
    weight = {s: sum(e["weight"] for e in examples if e["source"] == s) for s in ("S+", "D")}
    assert weight["S+"] == pytest.approx(0.75)
    assert weight["D"] == pytest.approx(0.25)
    assert len({e["weight"] for e in examples if e["source"] == "D"}) == 1


def test_do_nothing_trains_on_every_response(chains, tabular, tmp_path):
    table = boost(chains, tabular, tmp_path, arms=["do_nothing"], rounds=1)
    assert len(artefact(table, "do_nothing", 0, "examples")) == 24 * 3
    assert table.labels.iloc[0] == 0


def test_labels_only_ignores_the_models_own_answers(chains, tabular, tmp_path):
    table = boost(chains, tabular, tmp_path, arms=["labels_only"], rounds=1)
    examples = artefact(table, "labels_only", 0, "examples")
    assert all(e["weight"] == 0 for e in examples if e["source"] == "S+")


def test_a_noisy_filter_errs_at_its_rates(chains, tabular, tmp_path):
    table = boost(chains, tabular, tmp_path, arms=["filter_only"], rounds=0, k=200, gamma_fp=0.2, gamma_fn=0.1)
    row, n = table.iloc[0], 24 * 200
    wrong = round(n * (1 - row.train_accuracy))
    assert abs(row.false_accepts / wrong - 0.2) < 4 * np.sqrt(0.16 / wrong)
    assert abs(row.false_rejects / (n - wrong) - 0.1) < 4 * np.sqrt(0.09 / (n - wrong))


def test_accumulate_keeps_earlier_rounds_and_dedup_counts_equal_responses_once(chains, tabular, tmp_path):
    plain = boost(chains, tabular, tmp_path, arms=["filter_only"], rounds=2)
    both = boost(chains, tabular, tmp_path, arms=["filter_only"], rounds=2, accumulate=True)
    once = boost(chains, tabular, tmp_path, arms=["filter_only"], rounds=2, dedup=True)
    assert both.examples[1] == plain.accepted[0] + both.accepted[1]
    assert once.examples[0] < plain.examples[0]


def test_a_round_without_any_example_trains_nothing_and_says_so(chains, tmp_path):
    from boostlib.learners.tabular import TabularLearner

    never = TabularLearner({p.prompt: {"0#0.5": 1.0} for task in chains for p in task.problems})
    table = boost(chains, never, tmp_path, arms=["filter_only"], rounds=2)
    assert table.steps.tolist()[:2] == table.examples.tolist()[:2] == table.labels.tolist()[:2] == [0, 0]
    assert table.train_accuracy.tolist() == [0, 0, 0] and table.loss_first.isna().all()


def test_the_same_call_again_computes_nothing(chains, tabular, tmp_path, monkeypatch):
    first = boost(chains, tabular, tmp_path, arms=["boosting"], rounds=2)
    monkeypatch.setattr(type(tabular), "sample", None)
    again = boost(chains, tabular, tmp_path, arms=["boosting"], rounds=2)
    assert first.equals(again)


def test_more_rounds_go_on_from_fewer(chains, tabular, tmp_path):
    short = boost(chains, tabular, tmp_path / "a", arms=["boosting"], rounds=1)
    longer = boost(chains, tabular, tmp_path / "a", arms=["boosting"], rounds=3)
    direct = boost(chains, tabular, tmp_path / "b", arms=["boosting"], rounds=3)
    drop = ["seconds", "folder", "base"]
    assert longer.drop(columns=drop).equals(direct.drop(columns=drop))
    assert short.test_accuracy.tolist() == longer.test_accuracy.tolist()[:2]


def test_numpys_numbers_are_numbers(chains, tabular, tmp_path):
    a = boost(
        chains, tabular, tmp_path, arms=["boosting"], rounds=np.int64(0), seeds=np.arange(2), gamma_fp=np.float32(0.5)
    )
    assert a.equals(boost(chains, tabular, tmp_path, arms=["boosting"], rounds=0, seeds=[0, 1], gamma_fp=0.5))


def test_where_a_learner_computes_is_no_part_of_a_runs_name(chains, tmp_path):
    def run(**options):
        options = {"hidden": 16, "layers": 1} | options
        setting = dict(arms=["filter_only"], rounds=0, folder=tmp_path, max_new_tokens=2)
        return boost_with(chains, "tiny", learner_options=options, **setting).folder[0]

    first = run()
    assert first == run(slots=3, micro_tokens=64, device="cpu", threads=1) != run(layers=2)


def boost_with(chains, learner, **options):
    return bl.boost(*chains, learner, **QUICK | options)


def test_a_folder_of_another_version_is_refused_in_one_sentence(chains, tabular, tmp_path, monkeypatch):
    monkeypatch.setattr(runs.files, "FORMAT", 1)
    boost(chains, tabular, tmp_path, arms=["boosting"], rounds=0)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="was written by another version of boostlib; move the folder away"):
        boost(chains, tabular, tmp_path, arms=["boosting"], rounds=0)


def test_a_changed_parameter_is_another_folder(chains, tabular, tmp_path):
    a = boost(chains, tabular, tmp_path, arms=["boosting"], rounds=0)
    b = boost(chains, tabular, tmp_path, arms=["boosting"], rounds=0, beta=0.9)
    assert a.folder[0] != b.folder[0]


def test_checker_errors_are_never_trained_on_and_many_stop_the_round(chains, tabular, tmp_path, monkeypatch):
    task, _ = chains
    grade = type(task).grade
    broken = {task.problems[1].id}

    def flaky(self, pairs, *rest, **named):
        return ["error" if p.id in broken else s for s, (p, _) in zip(grade(self, pairs), pairs, strict=True)]

    monkeypatch.setattr(type(task), "grade", flaky)
    table = boost(chains, tabular, tmp_path, arms=["do_nothing"], rounds=1, max_error_rate=0.1)
    assert table.errors[0] == 3
    assert not broken & {e["id"] for e in artefact(table, "do_nothing", 0, "examples")}
    with pytest.raises(RuntimeError, match="failed in the checker itself"):
        boost(chains, tabular, tmp_path, arms=["do_nothing"], rounds=1, max_error_rate=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, r"beta = 0.0 is not possible: it must be in \(0, 1\]"),
        ({"beta": 1.5}, "beta = 1.5"),
        ({"k": 0}, "k = 0 is not possible: it must be a whole number of at least 1"),
        ({"alpha": 2}, "alpha = 2"),
        ({"gamma_fp": -0.1}, "gamma_fp = -0.1"),
        ({"policy": "best"}, "policy = 'best' is not possible: it must be one of .*hard"),
        ({"labeler": "oracle"}, "labeler = 'oracle'"),
        ({"arms": ["bosting"]}, "unknown arm 'bosting': there are do_nothing, filter_only"),
        ({"stepz": 3}, "'stepz' is no setting of the loop; there are k, alpha"),
        ({"seeds": []}, "at least one seed"),
        ({"weak_data": "B"}, "weak_data = 'B'"),
        (
            {"seeds": [1.5]},
            r"seeds = \[1.5\] is not possible: it must be a list of at least one seed, each a whole number",
        ),
        ({"seeds": [True]}, r"seeds = \[True\]"),
        ({"seeds": ["0"]}, r"seeds = \['0'\]"),
        ({"seeds": "[0, 1]"}, r"seeds = '\[0, 1\]'"),
        ({"seeds": {0, 1}}, r"seeds = {0, 1}"),
        ({"seeds": [-1]}, r"seeds = \[-1\]"),
        ({"seeds": 3}, "seeds = 3"),
        ({"rounds": 1.0}, "rounds = 1.0 is not possible: it must be a whole number of at least 0"),
        ({"workers": 0}, "workers = 0 is not possible: it must be a whole number of at least 1"),
        ({"arms": "boosting"}, "arms = 'boosting' is not possible: it must be a list of do_nothing"),
        ({"arms": {"boosting"}}, "arms = {'boosting'} is not possible: it must be a list"),
        ({"arms": []}, r"arms = \[\] is not possible: it must be a list"),
        ({"arms": ["bosting"]}, "unknown arm 'bosting': there are do_nothing"),
        ({"arms": [None]}, "an arm can't be called None"),
        ({"arms": {"a/b": {}}}, "an arm can't be called 'a/b'"),
        ({"arms": {"base": {}}}, "an arm can't be called 'base'"),
        ({"arms": {"a": None}}, "arm 'a': give a mapping of its settings, not None"),
        ({"arms": {"a": {"stepz": 3}}}, "arm 'a': 'stepz' is no setting"),
        ({"learner_options": {"slots": 4}}, "learner_options go with the name or folder of a model"),
        ({"lr": float("inf")}, "lr = inf is not possible: it must be a positive number"),
        ({"lr": float("nan")}, "lr = nan"),
        ({"lr": "1e-5"}, "lr = '1e-5'"),
        ({"temperature": float("inf")}, "temperature = inf"),
        ({"alpha": float("nan")}, "alpha = nan"),
        ({"gamma_fn": None}, "gamma_fn = None"),
        ({"k": True}, "k = True"),
        ({"k": 2.0}, "k = 2.0"),
        ({"budget": 1.5}, "budget = 1.5 is not possible: it must be a whole number of at least 0, or None"),
        ({"max_per_prompt": 0}, "max_per_prompt = 0"),
        ({"beta": True}, "beta = True"),
        ({"beta": {2: 0.0, 3: 0.0}}, "beta = {2: 0.0, 3: 0.0} is not possible"),
        ({"beta": None}, "beta = None"),
        ({"beta": {2: "0.5"}}, "beta = "),
        ({"beta": {77: 0.5}}, "has no chance for level"),
        ({"labeler": "corupted"}, "labeler = 'corupted' is not possible: it must be one of corrupted, systematic"),
        ({"labeler": ["base"]}, "labeler = "),
        ({"policy": "hardest"}, "policy = 'hardest' is not possible: it must be one of"),
        ({"policy": ["hard"]}, "policy = "),
        ({"filter": 0.1}, "filter = 0.1"),
        ({"accumulate": 1}, "accumulate = 1 is not possible: it must be True or False"),
        ({"dedup": "no"}, "dedup = 'no'"),
        ({"shots": 99}, "shots must be between 0 and"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(chains, tabular, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        boost(chains, tabular, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_no_problems_is_refused(chains, tabular, tmp_path):
    from dataclasses import replace

    task, test = chains
    with pytest.raises(ValueError, match="no problems to work on"):
        bl.boost(replace(task, problems=()), test, tabular, folder=tmp_path)


def test_settings_say_which_function_was_used():
    def ours(problem, rng):
        return "1"

    assert Settings(labeler=ours).identity()["labeler"].startswith("test_settings_say_which_function_was_used")
    json.dumps(Settings(labeler=ours).identity())


def test_settings_tell_partial_functions_apart():
    """The oracle at another beta is another policy, and must not be resumed from this one's run."""
    oracles = [functools.partial(bl.allocation.oracle, beta=beta) for beta in (0.3, 0.1)]
    first, second = (Settings(policy=policy).identity()["policy"] for policy in oracles)
    assert first != second
    assert first.startswith("oracle:")


def test_two_workers_give_what_one_gives(chains, tabular, tmp_path):
    one = boost(chains, tabular, tmp_path / "a", arms=["filter_only", "boosting"], seeds=[0, 1], rounds=2)
    two = boost(chains, tabular, tmp_path / "b", arms=["filter_only", "boosting"], seeds=[0, 1], rounds=2, workers=2)
    drop = ["seconds", "folder", "base"]
    assert one.drop(columns=drop).equals(two.drop(columns=drop))
