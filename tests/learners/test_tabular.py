"""The tabular learner honours the learner's contract and fits its examples exactly; the task it plays."""

from __future__ import annotations

import numpy as np
import pytest

from boostlib.learners import Example, Sampling
from boostlib.learners.tabular import TabularLearner, coins_learner
from boostlib.tasks import load_task


def two() -> TabularLearner:
    return TabularLearner({"a": {"right": 0.3, "wrong": 0.7}, "b": {"right": 0.0, "wrong": 0.4, "odd": 0.6}})


def texts(sampled):
    return [[r.text for r in row] for row in sampled]


def test_a_sample_depends_on_its_key_and_number_alone():
    learner, keys = two(), [(0, 1, 0, 0), (0, 1, 0, 1)]
    both = texts(learner.sample(["a", "b"], 20, keys=keys))
    assert texts(learner.sample(["b", "a"], 20, keys=keys[::-1])) == both[::-1]
    assert texts(learner.sample(["a"], 5, keys=keys[:1])) == [both[0][:5]]
    assert texts(learner.sample(["a"], 20, keys=[(0, 2, 0, 0)])) != both[:1]


def test_samples_follow_the_law():
    learner, n = two(), 4000
    drawn = sum(texts(learner.sample(["a"] * n, 8, keys=[(3, 0, 0, i) for i in range(n)])), [])
    share = drawn.count("right") / len(drawn)
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / len(drawn))
    never = sum(texts(learner.sample(["b"] * 200, 8, keys=[(0, i) for i in range(200)])), [])
    assert set(never) == {"wrong", "odd"}


def test_greedy_takes_the_likeliest_response():
    assert texts(two().sample(["a", "b"], 2, keys=[(0,), (1,)], sampling=Sampling(temperature=0))) == [
        ["wrong"] * 2,
        ["odd"] * 2,
    ]


def test_temperature_sharpens_the_law():
    def share(temperature):
        keys = [(9, i) for i in range(1000)]
        drawn = sum(texts(two().sample(["a"] * 1000, 4, keys=keys, sampling=Sampling(temperature=temperature))), [])
        return drawn.count("right") / len(drawn)

    assert share(0.5) == pytest.approx(0.09 / 0.58, abs=0.03)


def test_fine_tuning_gives_the_weighted_share_and_keeps_prompts_without_data():
    learner = two()
    result = learner.fine_tune(
        [Example("a", "right", 2.0), Example("a", "wrong", 1.0), Example("a", "wrong", 1.0), Example("b", "odd", 0.0)],
        steps=1, batch_size=1, lr=0.0, seed=0,
    )  # fmt: skip
    assert learner.law("a") == {"right": 0.5, "wrong": 0.5}
    assert learner.law("b") == {"right": 0.0, "wrong": 0.4, "odd": 0.6}
    assert result["loss_last"] == pytest.approx(np.log(2)) and result["loss_last"] < result["loss_first"]


def test_a_solved_prompt_is_solved_exactly():
    learner = two()
    learner.fine_tune([Example("a", "right", 0.1)] * 7, steps=1, batch_size=1, lr=0.0, seed=0)
    assert learner.law("a") == {"right": 1.0}


def test_learner_error_moves_mass_of_every_prompt_to_the_wrong_response():
    learner = TabularLearner({"a": {"right": 1.0}, "b": {"right": 0.5, "wrong": 0.5}}, eta=0.1)
    learner.fine_tune([Example("b", "right")], steps=1, batch_size=1, lr=0.0, seed=0)
    assert learner.law("a") == pytest.approx({"right": 0.9, "wrong": 0.1})
    assert learner.law("b") == pytest.approx({"right": 0.9, "wrong": 0.1})


def test_saving_keeps_every_bit(tmp_path):
    learner = TabularLearner({"a": {"right": 1 / 3, "wrong": 2 / 3}}, eta=0.1)
    learner.fine_tune([], steps=1, batch_size=1, lr=0.0, seed=0)
    learner.save(tmp_path / "model")
    law, print_ = learner.law("a"), learner.fingerprint()
    learner.load(None)
    assert learner.law("a") == {"right": 1 / 3, "wrong": 2 / 3} and learner.fingerprint() != print_
    learner.load(tmp_path / "model")
    assert learner.law("a") == law and learner.fingerprint() == print_


def test_bad_tables_are_refused(tmp_path):
    with pytest.raises(ValueError, match="empty"):
        TabularLearner({})
    with pytest.raises(ValueError, match="sum to 1"):
        TabularLearner({"a": {"right": 0.3}})
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        TabularLearner({"a": {"right": 1.0}}, eta=1)
    with pytest.raises(ValueError, match="no prompt 'c'"):
        two().sample(["c"], 1, keys=[(0,)])
    with pytest.raises(ValueError, match="at least 0"):
        two().fine_tune([Example("a", "right", -1.0)], steps=1, batch_size=1, lr=0.0, seed=0)
    with pytest.raises(ValueError, match="not a saved tabular learner"):
        two().load(tmp_path)


def test_coins_are_the_same_in_every_split_and_judged_by_the_word():
    train, test = (load_task("coins", split, n=5) for split in ("train", "test"))
    assert [p.prompt for p in train.problems] == [p.prompt for p in test.problems]
    assert len({p.prompt for p in train.problems}) == 5
    problem = train.problems[0]
    assert train.quality(problem, problem.reference) and not train.quality(problem, "Right")
    assert not train.quality(problem, train.corrupt(problem, np.random.default_rng(0)))


def test_coins_learner_has_the_asked_chances():
    task = load_task("coins", n=3)
    learner = coins_learner(task, [0.0, 0.25, 1.0], eta=0.2)
    assert [learner.law(p.prompt)["right"] for p in task.problems] == [0.0, 0.25, 1.0] and learner.eta == 0.2
    with pytest.raises(ValueError, match="3 coins"):
        coins_learner(task, [0.1, 0.2])
