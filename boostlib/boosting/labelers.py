"""The weak sources of Algorithm 2: gamma-noisy filters and beta-weak labelers (paper, section 2).

A labeler maps problems and counts to responses, a filter maps true verdicts to accepted or not. Not covered: which prompts
are asked (allocation), judging the answers (tasks).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from boostlib.learners import Learner, Response, Sampling
from boostlib.tasks import Problem, Task


def noisy(right: np.ndarray, gamma_fp: float, gamma_fn: float, rng: np.random.Generator) -> np.ndarray:
    """What the gamma-noisy filter accepts of responses with true quality ``right`` (bool array, any shape): a wrong one with
    chance ``gamma_fp``, a right one with chance 1 - ``gamma_fn``, each by itself.

    ``gamma_fp = gamma_fn = gamma < 1/2`` is the paper's filter; 1 and 0 accept everything.
    """
    return np.where(right, rng.random(right.shape) >= gamma_fn, rng.random(right.shape) < gamma_fp)


class Labeler(Protocol):
    def __call__(
        self, problems: Sequence[Problem], counts: np.ndarray, keys: Sequence[tuple[int, ...]]
    ) -> list[list[Response]]:
        """``counts[i]`` responses to ``problems[i]``; the randomness of answer j depends on ``(*keys[i], j)`` alone."""


def from_callable(function: Callable[[Problem, np.random.Generator], str]) -> Labeler:
    """Any function ``(problem, rng) -> response``: a person's notes, an API, a rule."""
    return lambda problems, counts, keys: [
        [Response(function(p, np.random.default_rng((*key, j))), 0) for j in range(m)]
        for p, m, key in zip(problems, counts, keys, strict=True)
    ]


def corrupted_reference(task: Task, beta: float | Mapping[int, float], systematic: bool = False) -> Labeler:
    """The reference with probability ``beta`` (a number, or one for each level of difficulty), else the task's plausible
    wrong answer: another one each time, or, if ``systematic``, always the same for a problem.

    Errors that all differ leave the right answer the most likely one, however rare it is; errors that agree do not.
    Raises ValueError for a beta outside [0, 1], for one of 0 everywhere, for a problem whose level has none, and for a task
    without wrong answers.
    """
    if type(task).corrupt is Task.corrupt:
        raise ValueError(
            f"{task.name} has no corrupted references: define {type(task).__name__}.corrupt, or give a labeler"
        )
    betas = {int(level): b for level, b in beta.items()} if isinstance(beta, Mapping) else None  # text when from JSON
    values = [beta] if betas is None else list(betas.values())
    if not all(0 <= b <= 1 for b in values) or not any(values):
        raise ValueError(f"beta = {beta} is outside (0, 1]: a labeler that is never right cannot help")
    levels = {p.meta.get("level") for p in task.problems} if betas is not None else set()
    if betas is not None and not levels <= set(betas):
        raise ValueError(f"beta = {beta} has no chance for level {min(levels - set(betas), key=str)} of {task.name}")

    def one(problem: Problem, rng: np.random.Generator) -> str:
        if rng.random() < (beta if betas is None else betas[problem.meta["level"]]):
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
            prompts, chosen = [problems[i].prompt for i in rows], [keys[i] for i in rows]
            drawn = learner.sample(prompts, int(m), keys=chosen, sampling=sampling)
            for i, responses in zip(rows, drawn, strict=True):
                answers[i] = [r if ids else Response(r.text, r.tokens, r.finished) for r in responses]
        return answers

    return label
