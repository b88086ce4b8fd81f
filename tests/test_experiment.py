"""What notebooks share: each function against numbers counted by hand, each check against a table that breaks it."""

import json

import numpy as np
import pandas as pd
import pytest

import boostlib as bl
from boostlib import experiment
from boostlib.analysis.intervals import paired
from boostlib.learners.tabular import TabularLearner

COMMON = {"k": 3, "alpha": 0.3, "beta": 0.5, "gamma_fp": 0.0, "gamma_fn": 0.0, "budget": None, "steps": 1, "shots": 0}
ARMS = ["do_nothing", "filter_only", "boosting"]


@pytest.fixture(scope="module")
def learner(chains):
    """Right on half of its answers to every other problem, never on the rest."""
    known = [(p, 0.5 * (i % 2)) for task in chains for i, p in enumerate(task.problems)]
    return TabularLearner({p.prompt: {p.reference: right, "0#0.5": 1 - right} for p, right in known})


@pytest.fixture(scope="module")
def table(chains, learner, tmp_path_factory):
    """Three arms, two seeds, two rounds."""
    folder = tmp_path_factory.mktemp("runs")
    return bl.boost(*chains, learner, ARMS, [0, 1], 2, folder=folder, show=False, **COMMON)


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BOOSTLIB_CONTEXT", raising=False)
    return tmp_path


def test_the_parameters_that_are_settings_of_the_loop_are_the_common_settings():
    cell = {"task": "arithmetic", "seeds": [0], "rounds": 5, "n_train": 8, "np": np, "_i": "in", **COMMON}
    assert experiment.common_settings(cell) == COMMON


def test_a_named_model_is_taken_as_it_is_and_tiny_only_where_it_can_be_pretrained(project, monkeypatch):
    assert experiment.model_of("smollm2-135m", {}, "gsm8k", {}) == "smollm2-135m"
    (project / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(project / "notebooks")  # where kernels run
    assert experiment.model_of("models/mine", {}, "gsm8k", {}) == str(project / "models" / "mine")
    assert experiment.model_of("owner/name", {}, "gsm8k", {}) == "owner/name"
    with pytest.raises(
        ValueError, match="no tiny model can be pretrained for gsm8k: name a model, or one of arithmetic"
    ):
        experiment.model_of("tiny", {"steps": 1, "batch_size": 1}, "gsm8k", {})


@pytest.mark.parametrize("task, options", [("arithmetic", {"largest": 9, "levels": [2]}), ("mbpp_mini", {})])
def test_the_tiny_model_is_made_once_for_its_task(project, task, options):
    tiny = {"steps": 1, "batch_size": 2, "hidden": 16, "layers": 1}
    folder = experiment.model_of("tiny", tiny, task, options)
    assert experiment.model_of("tiny", tiny, task, options) == folder
    assert experiment.model_of("tiny", tiny | {"seed": 0}, task, options) == folder
    other = experiment.model_of("tiny", tiny | {"seed": 1}, task, options)
    assert {str(path) for path in (project / "runs" / "models").glob("tiny-*")} == {folder, other} and other != folder


def test_answers_are_rows_with_their_verdict(table):
    greedy, samples = experiment.answers(table), experiment.answers(table, "samples")
    accuracy = greedy.groupby(["arm", "seed", "round"], sort=False).right.mean()
    assert np.allclose(accuracy, table.test_accuracy)
    assert len(samples) == 3 * table.n_train.sum()
    assert np.allclose(samples.groupby(["arm", "seed", "round"], sort=False).right.mean(), table.train_accuracy)
    assert samples.response.map(len).all() and (samples.right == experiment.answers(table, "verdicts").right).all()


def test_changes_pair_the_last_round_with_the_first_by_seed(table):
    found = experiment.changes(table).set_index("arm")
    assert list(found.index) == ARMS
    for arm in ARMS:
        mine = table[table.arm == arm].pivot(index="seed", columns="round", values="test_accuracy")
        c = paired(mine[2], mine[0])
        assert found.change[arm] == pytest.approx(c.difference) and found.verdict[arm] == c.verdict
    assert experiment.with_verdict(found.reset_index(), "lower") == "none"


def test_levels_split_all_that_a_round_holds_by_kind_of_problem(table, chains):
    kind = {p.id: p.meta["level"] for task in chains for p in task.problems}
    found = experiment.levels(table, kind)
    found = found.assign(right=found.accuracy * found.n, sampled=found.sampled * found.n_prompts)
    whole = found.groupby(["arm", "seed", "round"], sort=False).sum(numeric_only=True)
    rows = table.set_index(["arm", "seed", "round"]).fillna({"labels": 0, "labels_kept": 0, "labels_right": 0})
    assert np.allclose(whole.right / whole.n, rows.test_accuracy) and (whole.n == 8).all()
    assert np.allclose(whole.sampled / whole.n_prompts, rows.train_accuracy) and (whole.n_prompts == 24).all()
    for name in ("failed", "accepted", "labels", "labels_right"):
        assert (whole[name] == rows[name]).all()
    assert (whole.kept_right + whole.kept_wrong == rows.labels_kept).all()
    assert (whole.accepted_distinct <= whole.accepted).all() and whole.accepted_distinct.sum() < whole.accepted.sum()


def test_noise_is_counted_over_wrong_and_over_right_responses(table):
    rows = table[table.arm == "do_nothing"]
    found = experiment.noise(table).set_index("arm")
    assert found["false accepts"]["do_nothing"] == 1 and found["false accepts"]["boosting"] == 0
    asked = table[table.arm == "boosting"]
    assert found["labels right"]["boosting"] == asked.labels_right.sum() / asked.labels.sum()
    assert found["labels"]["boosting"] == asked.labels.sum() / 2 and np.isnan(found["labels right"]["filter_only"])
    never_right = rows.assign(train_accuracy=0.0, false_rejects=0)
    assert experiment.noise(never_right)["false rejects"].isna().all()


@pytest.mark.parametrize(
    "arm, column, value, said",
    [
        ("boosting", "test_accuracy", np.nan, "every round was evaluated"),
        ("boosting", "test_accuracy", 0.987, "one model on one test set"),
        ("filter_only", "steps", 2, "equal steps"),
        ("boosting", "labels", 7, "the whole budget"),
        ("filter_only", "false_accepts", 1, "a perfect filter does not err"),
    ],
)
def test_check_says_what_broke(table, arm, column, value, said):
    experiment.check(table, COMMON)
    broken = table.astype({column: float})
    broken.loc[broken.index[broken.arm == arm][0], column] = value
    with pytest.raises(AssertionError, match=said):
        experiment.check(broken, COMMON)


def test_check_leaves_out_what_it_was_not_told(table):
    noisy = table.assign(false_accepts=1)
    experiment.check(noisy, COMMON | {"gamma_fp": 0.1})
    experiment.check(noisy.assign(labels=7), {"steps": 1})


def test_an_interval_in_words():
    assert experiment.interval(0.5, 0.25, 0.75) == "0.500 [0.250, 0.750]"
    assert experiment.interval(0.5, 0.25, 0.75, "+") == "+0.500 [+0.250, +0.750]"
    assert experiment.interval(0.5, np.nan, np.nan) == "0.500 (one seed, no interval)"
    assert experiment.interval(0.5, np.nan, np.nan, alone="") == "0.500"
    assert experiment.interval(np.nan, np.nan, np.nan) == ""


def test_identity_names_data_and_weights_by_their_hashes(table, chains, learner):
    learner.load(None)
    made = experiment.identity("02", *chains, table, model="tiny", tiny={"steps": 1}, seeds=[0, 1])
    assert made["weights"] == learner.fingerprint() and made["train"] == chains[0].fingerprint()
    assert made["tiny"] == {"steps": 1} and made["seeds"] == [0, 1]
    assert experiment.identity("02", *chains, table, model="other", tiny={"steps": 1})["tiny"] is None


def test_tables_are_filed_where_the_runner_says_and_read_back(project, monkeypatch):
    rows = pd.DataFrame({"arm": ["None", "boosting"], "x": [1 / 3, np.nan]})
    with pytest.raises(FileNotFoundError, match="boostlib run 02 --profile mini"):
        experiment.tables_of("02", "mini")
    played = experiment.save_tables("02", "mini", {"rounds": rows}, {"beta": 0.3})
    assert played == project / "runs" / "tables" / "mini+jupyter" / "02"  # play is not what the profile says
    context = {"tables": str(project / "runs" / "tables" / "mini"), "command": "boostlib run 02"}
    (project / "context.json").write_text(json.dumps(context))
    monkeypatch.setenv("BOOSTLIB_CONTEXT", str(project / "context.json"))
    experiment.save_tables("02", "mini", {"rounds": rows}, {"beta": 0.3})
    tables, manifest, kind = experiment.tables_of("02", "mini")
    assert kind == "fresh" and tables["rounds"].arm.tolist() == ["None", "boosting"]
    assert manifest["identity"] == {"beta": 0.3} and manifest["command"] == "boostlib run 02"
    assert manifest["hash"] == bl.runs.digest({"beta": 0.3})


def test_took_is_said_in_minutes_and_seconds(monkeypatch):
    monkeypatch.setattr(experiment.time, "perf_counter", lambda: 125.4)
    assert experiment.took(0.0) == "2 min 05 s"
