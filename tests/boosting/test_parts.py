"""Parts of one's own: a task, a labeler, another model as the labeler, a filter, a policy. Each is a few lines, and checked first."""

from dataclasses import replace

import numpy as np
import pytest

import boostlib as bl
from boostlib.boosting import many
from boostlib.boosting.settings import Settings, settings_of
from boostlib.learners import Response
from boostlib.learners.tabular import TabularLearner
from boostlib.tasks import Problem, Task

QUICK = dict(k=3, steps=4, batch_size=2, shots=0, rounds=1, show=False)


class Capitals(Task):
    def grade_one(self, problem: Problem, response: str) -> str:
        return "pass" if response.strip() == problem.answer else "fail"


CAPITALS = {"France": "Paris", "Peru": "Lima", "Kenya": "Nairobi"}
PROBLEMS = tuple(Problem(land, f"The capital of {land} is ", town, town) for land, town in CAPITALS.items())
TASK = Capitals("capitals", "train", PROBLEMS)


def knows(chance: float, wrong: str = "Rome") -> TabularLearner:
    return TabularLearner({p.prompt: {p.answer: chance, wrong: 1 - chance} for p in PROBLEMS})


def boost(tmp_path, **options):
    return bl.boost(TASK, TASK, knows(0.3), folder=tmp_path, **QUICK | {"arms": ["uniform"]} | options)


def test_a_task_and_a_labeler_of_ones_own(tmp_path):
    def atlas(problem, rng):
        return problem.answer if rng.random() < 0.5 else "Oslo"

    table = boost(tmp_path, labeler=atlas, weak_data="all")
    labels = many.read(table, "labels")
    assert set(labels.response) == {"Oslo", *CAPITALS.values()} and labels.ids.isna().all()
    assert (labels.response == "Oslo").equals(~labels.status.eq("pass"))


@pytest.mark.parametrize("workers", [1, 2])
def test_another_model_as_the_labeler(tmp_path, workers):
    table = boost(tmp_path / "one", labeler=knows(0.9, "Bern"), weak_data="all", workers=workers)
    labels = many.read(table, "labels")
    assert set(labels.response) == {"Bern", *CAPITALS.values()} and labels.status.eq("pass").mean() > 0.5
    assert boost(tmp_path / "one", labeler=knows(0.9, "Bern"), weak_data="all").folder[0] == table.folder[0]
    assert boost(tmp_path / "one", labeler=knows(0.8, "Bern"), weak_data="all").folder[0] != table.folder[0]


def test_a_model_in_a_folder_as_the_labeler(chains, tmp_path):
    from boostlib.learners.load import load_learner

    learner, other = (load_learner("tiny", hidden=16, layers=1, seed=seed) for seed in (0, 1))
    other.save(tmp_path / "other")
    setting = dict(arms=["uniform"], folder=tmp_path, max_new_tokens=4, weak_data="all", **QUICK)
    by_folder = bl.boost(*chains, learner, labeler=tmp_path / "other", **setting)
    assert by_folder.folder.equals(bl.boost(*chains, learner, labeler=other, **setting).folder)
    assert by_folder.labels[0] == 24 * 3


def test_the_model_that_is_trained_is_no_other_model(tmp_path):
    learner = knows(0.3)
    with pytest.raises(ValueError, match='the model that is trained is asked by "base"'):
        bl.boost(TASK, TASK, learner, labeler=learner, folder=tmp_path, arms=["boosting"], **QUICK)
    assert not list(tmp_path.iterdir())


def always_rome(problem, response, right, rng):
    return response == "Rome" or bool(right and rng.random() < 0.9)


def test_a_filter_of_ones_own(tmp_path):
    verdicts = many.read(boost(tmp_path, filter=always_rome, arms=["filter_only"], k=40), "verdicts")
    samples = many.read(boost(tmp_path, filter=always_rome, arms=["filter_only"], k=40), "samples")
    assert verdicts.accepted[samples.response == "Rome"].all()
    assert verdicts.accepted[samples.response != "Rome"].mean() == pytest.approx(0.9, abs=0.1)
    both = boost(tmp_path, filter=always_rome, arms=["do_nothing"])
    assert both.accepted[0] == both.n_train[0] * both.k[0]  # the arm with gammas of its own has the noisy filter
    with pytest.raises(ValueError, match="filter = .* it must be None, or a function, and then the gammas are 0"):
        Settings(filter=always_rome, gamma_fp=0.1)


def test_a_setting_that_nobody_uses_changes_no_runs_name():
    assert "filter" not in Settings().identity()
    assert Settings(filter=always_rome).identity()["filter"].startswith("always_rome:")
    assert settings_of("do_nothing", bl.ARMS["do_nothing"], {"filter": always_rome}).filter is None


def test_a_policy_of_ones_own(tmp_path):
    def first_only(statistics, budget, rng):
        return np.eye(1, statistics.n, dtype=int)[0] * budget

    labels = many.read(
        boost(tmp_path, policy=first_only, labeler=lambda problem, rng: problem.answer, budget=5, arms=["boosting"]),
        "labels",
    )
    assert labels.id.tolist() == ["France"] * 5 and labels["sample"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (TASK, "capitals has no corrupted references: define Capitals.corrupt, or give a labeler"),
        (Task("bare", "train", PROBLEMS), "bare: nothing says what is right; define Task.grade_one"),
        (replace(TASK, problems=PROBLEMS + PROBLEMS[:1]), "capitals: two problems have the same id"),
    ],
)
def test_a_task_without_a_part_is_refused_before_anything_is_sampled(tmp_path, task, message):
    with pytest.raises(ValueError, match=message):
        bl.boost(task, task, knows(0.3), folder=tmp_path, arms=["filter_only", "boosting"], **QUICK)
    assert not list(tmp_path.iterdir())
    if task is TASK:
        assert len(bl.boost(task, task, knows(0.3), folder=tmp_path, arms=["filter_only"], **QUICK)) == 2


class WithIds(TabularLearner):
    """As a language model does, it tells the tokens of what it sampled."""

    def sample(self, prompts, k, **options):
        drawn = super().sample(prompts, k, **options)
        return [[Response(r.text, r.tokens, r.finished, tuple(map(ord, r.text))) for r in some] for some in drawn]

    def fine_tune(self, examples, **options):
        self.seen = examples
        return super().fine_tune(examples, **options)


@pytest.mark.parametrize(("labeler", "known"), [("base", True), ("other", False), ("own", False)])
def test_sampled_tokens_are_what_is_trained_on(tmp_path, labeler, known):
    learner = WithIds({p.prompt: {p.answer: 0.7, "Rome": 0.3} for p in PROBLEMS})
    other = {"base": "base", "other": knows(0.5), "own": lambda problem, rng: problem.answer}[labeler]
    setting = QUICK | dict(arms=["uniform"], weak_data="all")
    table = bl.boost(TASK, TASK, learner, labeler=other, folder=tmp_path, **setting)
    sources = many.read(table, "examples").source.tolist()
    assert {"S+", "D"} == set(sources) and len(sources) == len(learner.seen)
    for example, source in zip(learner.seen, sources, strict=True):
        expected = tuple(map(ord, example.response)) if known or source == "S+" else None
        assert example.ids == expected
