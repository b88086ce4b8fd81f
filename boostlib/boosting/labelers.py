"""The weak sources of Algorithm 2: gamma-noisy filters and beta-weak labelers (paper, section 2).

A labeler maps problems and counts to responses, a filter maps true verdicts to accepted or not. Not covered: which prompts
are asked (allocation), judging the answers (tasks).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from boostlib.learners import Learner, Response, Sampling
from boostlib.tasks import Problem, Task

# (problems, counts, keys): counts[i] responses to problems[i]; the randomness of answer j depends on (*keys[i], j) alone
Labeler = Callable[[Sequence[Problem], np.ndarray, Sequence[tuple[int, ...]]], list[list[Response]]]


def noisy(right: np.ndarray, gamma_fp: float, gamma_fn: float, rng: np.random.Generator) -> np.ndarray:
    """What the gamma-noisy filter accepts of responses with true quality ``right`` (bool array, any shape): a wrong one with
    chance ``gamma_fp``, a right one with chance 1 - ``gamma_fn``. ``gamma_fp = gamma_fn = gamma < 1/2`` is the paper's filter;
    1 and 0 accept everything."""
    return np.where(right, rng.random(right.shape) >= gamma_fn, rng.random(right.shape) < gamma_fp)


def from_callable(function: Callable[[Problem, np.random.Generator], str]) -> Labeler:
    """Any function ``(problem, rng) -> response``: a person's notes, an API, a rule."""
    return lambda problems, counts, keys: [
        [Response(function(p, np.random.default_rng((*key, j))), 0) for j in range(m)]
        for p, m, key in zip(problems, counts, keys, strict=True)
    ]


def corrupted_reference(task: Task, beta: float | Mapping[int, float], systematic: bool = False) -> Labeler:
    """The reference with probability ``beta`` (a number, or one for each level of difficulty), else the task's plausible
    wrong answer: another one each time, or, if ``systematic``, always the same for a problem. Errors that all differ leave
    the right answer the most likely one, however rare it is; errors that agree do not. Raises ValueError for a level
    without a chance, and for a task without wrong answers."""
    if type(task).corrupt is Task.corrupt:
        define = f"define {type(task).__name__}.corrupt, or give a labeler"
        raise ValueError(f"{task.name} has no corrupted references: {define}")
    levels, by_level = {p.meta.get("level") for p in task.problems}, isinstance(beta, Mapping)
    chance = {int(level): b for level, b in beta.items()} if by_level else dict.fromkeys(levels, beta)  # text from JSON
    if missing := levels - chance.keys():
        raise ValueError(f"beta = {beta} has no chance for level {min(missing, key=str)} of {task.name}")

    def one(problem: Problem, rng: np.random.Generator) -> str:
        if rng.random() < chance[problem.meta.get("level")]:
            return problem.reference
        same = np.random.default_rng(int.from_bytes(hashlib.sha256(problem.id.encode()).digest()[:8]))
        return task.corrupt(problem, same if systematic else rng)

    return from_callable(one)


def model(learner: Learner, sampling: Sampling, ids: bool = True) -> Labeler:
    """Another model, or the same one at an earlier round: the paper's experiments ask the pretrained f_0. ``ids``: whether
    its tokens are those of the model that is trained."""

    def label(problems: Sequence[Problem], counts: np.ndarray, keys: Sequence[tuple[int, ...]]) -> list[list[Response]]:
        answers: list[list[Response]] = [[] for _ in problems]
        for m in np.unique(counts[counts > 0]):  # the engine samples one k a call; an even split has two sizes
            rows = np.flatnonzero(counts == m)
            how = {"keys": [keys[i] for i in rows], "sampling": sampling}
            for i, responses in zip(
                rows, learner.sample([problems[i].prompt for i in rows], int(m), **how), strict=True
            ):
                answers[i] = [r if ids else Response(r.text, r.tokens, r.finished) for r in responses]
        return answers

    return label
