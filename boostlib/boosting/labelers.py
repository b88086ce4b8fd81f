"""beta-weak labelers: sources outside the model whose answers are right with a chance of only beta (paper, section 2).

A labeler maps problems and counts to responses. Not covered: which prompts are asked (allocation), checking the answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from boostlib.learners import Learner, Sampling
from boostlib.tasks import Problem, Task


class Labeler(Protocol):
    def __call__(
        self, problems: Sequence[Problem], counts: np.ndarray, keys: Sequence[tuple[int, ...]]
    ) -> list[list[str]]:
        """``counts[i]`` responses to ``problems[i]``; the randomness of answer j depends on ``(*keys[i], j)`` alone."""


def corrupted_reference(task: Task, beta: float | Mapping[int, float], systematic: bool = False) -> Labeler:
    """The reference with probability ``beta`` (a number, or one for each level of difficulty), else the task's plausible
    wrong answer: another one each time, or, if ``systematic``, always the same for a problem.

    Errors that all differ leave the right answer the most likely one, however rare it is; errors that agree do not.
    Raises ValueError for a beta outside [0, 1], for one of 0 everywhere, and for a problem whose level has none.
    """
    betas = {int(level): b for level, b in beta.items()} if isinstance(beta, Mapping) else None  # text when from JSON
    values = [beta] if betas is None else list(betas.values())
    if not all(0 <= b <= 1 for b in values) or not any(values):
        raise ValueError(f"beta = {beta} is outside (0, 1]: a labeler that is never right cannot help")
    levels = {p.meta.get("level") for p in task.problems} if betas is not None else set()
    if betas is not None and not levels <= set(betas):
        raise ValueError(f"beta = {beta} has no chance for level {min(levels - set(betas), key=str)} of {task.name}")

    def one(problem: Problem, key: tuple[int, ...]) -> str:
        rng = np.random.default_rng(key)
        if rng.random() < (beta if betas is None else betas[problem.meta["level"]]):
            return problem.reference
        same = np.random.default_rng(int.from_bytes(hashlib.sha256(problem.id.encode()).digest()[:8]))
        return task.corrupt(problem, same if systematic else rng)

    return lambda problems, counts, keys: [
        [one(p, (*key, j)) for j in range(m)] for p, m, key in zip(problems, counts, keys, strict=True)
    ]


def model(learner: Learner, sampling: Sampling) -> Labeler:
    """Another model, or the same one at an earlier round: the paper's experiments ask the pretrained f_0."""

    def label(problems: Sequence[Problem], counts: np.ndarray, keys: Sequence[tuple[int, ...]]) -> list[list[str]]:
        answers: list[list[str]] = [[] for _ in problems]
        for m in np.unique(counts[counts > 0]):  # the engine samples one k a call; an even split has two sizes
            rows = np.flatnonzero(counts == m)
            drawn = learner.sample(
                [problems[i].prompt for i in rows],
                int(m),
                keys=[keys[i] for i in rows],
                sampling=sampling,
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
