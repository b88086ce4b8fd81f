"""beta-weak labelers: sources outside the model whose answers are right with a chance of only beta (paper, section 2).

A labeler maps problems and counts to responses. Not covered: which prompts are asked (allocation), checking the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from .learners import Learner
from .tasks import Problem, Task


class Labeler(Protocol):
    def __call__(
        self, problems: Sequence[Problem], counts: np.ndarray, keys: Sequence[tuple[int, ...]]
    ) -> list[list[str]]:
        """``counts[i]`` responses to ``problems[i]``; the randomness of answer j depends on ``(*keys[i], j)`` alone."""


def corrupted_reference(task: Task, beta: float) -> Labeler:
    """The reference with probability ``beta``, else the task's plausible wrong answer."""
    if not 0 < beta <= 1:
        raise ValueError(f"beta = {beta} is outside (0, 1]: a labeler that is never right cannot help")

    def one(problem: Problem, key: tuple[int, ...]) -> str:
        rng = np.random.default_rng(key)
        return problem.reference if rng.random() < beta else task.corrupt(problem, rng)

    return lambda problems, counts, keys: [
        [one(p, (*key, j)) for j in range(m)] for p, m, key in zip(problems, counts, keys, strict=True)
    ]


def model(learner: Learner, prefix: str = "", **sampling) -> Labeler:
    """Another model, or the same one at an earlier round: the paper's experiments ask the pretrained f_0."""

    def label(problems: Sequence[Problem], counts: np.ndarray, keys: Sequence[tuple[int, ...]]) -> list[list[str]]:
        answers: list[list[str]] = [[] for _ in problems]
        for m in np.unique(counts[counts > 0]):  # the engine samples one k a call; an even split has two sizes
            rows = np.flatnonzero(counts == m)
            drawn = learner.sample(
                [problems[i].prompt for i in rows],
                int(m),
                keys=[keys[i] for i in rows],
                prefix=prefix,
                **sampling,
            )
            for i, responses in zip(rows, drawn, strict=True):
                answers[i] = [r.text for r in responses]
        return answers

    return label


def from_callable(function: Callable[[Problem, np.random.Generator], str]) -> Labeler:
    """Any function ``(problem, rng) -> response``: a person's notes, an API, a rule."""
    return lambda problems, counts, keys: [
        [function(p, np.random.default_rng((*key, j))) for j in range(m)]
        for p, m, key in zip(problems, counts, keys, strict=True)
    ]
