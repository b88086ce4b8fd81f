"""What the weak labeler says: how often it is right, and whether its errors agree."""

from collections import Counter

import numpy as np
import pytest

import boostlib as bl
from boostlib.boosting.labelers import corrupted_reference

TASK = bl.load_task("arithmetic", "train", n=60, seed=0, levels=[2, 3])


def asked(times: int = 40, **options) -> list[list[str]]:
    keys = [(0, i) for i in range(len(TASK.problems))]
    answers = corrupted_reference(TASK, **options)(TASK.problems, np.full(len(TASK.problems), times), keys)
    return [[response.text for response in some] for some in answers]


def right(answers: list[list[str]]) -> np.ndarray:
    return np.array([[TASK.quality(p, a) for a in some] for p, some in zip(TASK.problems, answers, strict=True)])


@pytest.mark.parametrize("systematic", [False, True])
def test_it_is_right_with_chance_beta(systematic):
    share = right(asked(beta=0.3, systematic=systematic)).mean()
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2400)


def test_systematic_errors_agree_and_others_do_not():
    """With errors that differ the right answer is the most common one, at beta = 0.3; with errors that agree it is not."""

    def most_common_is_right(answers):
        modes = [Counter(some).most_common(1)[0][0] for some in answers]
        return np.mean([TASK.quality(p, mode) for p, mode in zip(TASK.problems, modes, strict=True)])

    same = asked(beta=0.3, systematic=True)
    assert all(len(set(some)) <= 2 for some in same)
    assert most_common_is_right(same) < 0.1
    assert most_common_is_right(asked(beta=0.3)) > 0.7  # some errors, such as the other operator, are common too


def test_a_chance_for_each_level():
    level = np.array([p.meta["level"] for p in TASK.problems])
    got = right(asked(beta={"2": 0.5, "3": 0.0}))  # keys are text when they come from JSON
    assert abs(got[level == 2].mean() - 0.5) < 0.1
    assert not got[level == 3].any()


def test_a_level_without_a_chance_is_refused():
    with pytest.raises(ValueError, match="no chance for level 3"):
        corrupted_reference(TASK, {2: 0.5})
