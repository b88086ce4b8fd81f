"""The settings of the loop, the arms of the comparison and the published methods, all as named parameters.

Not covered: sizes of tasks and models (the caller brings them).
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from boostlib.allocation import POLICIES

LABELERS = ("corrupted", "systematic", "base", "self")

ARMS: dict[str, dict[str, Any]] = {
    "do_nothing": {"gamma_fp": 1.0, "gamma_fn": 0.0, "budget": 0, "alpha": 0.0},
    "filter_only": {"budget": 0, "alpha": 0.0},
    "self_labeled": {"labeler": "self"},
    "boosting": {},
    "uniform": {"policy": "uniform"},
    "labels_only": {"policy": "uniform", "alpha": 1.0, "weak_data": "all"},
}

METHODS: dict[str, dict[str, Any]] = {  # settings of the loop that give a published method; rounds are the caller's
    "STaR": {"budget": 0, "alpha": 0.0, "k": 1, "temperature": 0.0, "init_from": "base"},
    "ReST": {"budget": 0, "alpha": 0.0},
    "ReST-EM": {"budget": 0, "alpha": 0.0, "init_from": "base", "max_per_prompt": 10},
    "RFT": {"budget": 0, "alpha": 0.0, "init_from": "base", "dedup": True},
    "SSD": {"gamma_fp": 1.0, "gamma_fn": 0.0, "budget": 0, "alpha": 0.0},
    "DART-Uniform": {"labeler": "self", "policy": "uniform_until_solved", "alpha": None, "init_from": "base"},
    "DART-Prop2Diff": {"labeler": "self", "policy": "prop2diff", "alpha": None, "init_from": "base"},
}


@dataclass(frozen=True)
class Settings:
    """What a round does. The paper's values where it reports them, else a choice of this project (marked *)."""

    k: int = 8  # responses a prompt and round
    alpha: float | None = 1 / 3  # total weight of the weak data; None: every example counts the same
    gamma_fp: float = 0.0  # chance that the filter accepts a wrong response
    gamma_fn: float = 0.0  # chance that it rejects a right one
    # "corrupted" reference *, "systematic" (the same with one wrong answer a prompt), "base" (the paper: f_0), "self" (f_t),
    # or (problem, rng) -> response
    labeler: str | Callable = "corrupted"
    beta: float | Mapping[int, float] = 0.3  # chance that the corrupted reference is right, or one for each level *
    policy: str | Callable = "hard"  # who is labelled: a name in allocation.POLICIES, or a policy
    budget: int | None = None  # labeler responses asked for each round; None: prompts times k, as in the paper
    labels_per_prompt: int | None = (
        None  # instead of a budget: so many for each failed prompt (other policies: each prompt)
    )
    weak_data: str = "A"  # "A": keep what the filter accepts; "all": keep everything
    steps: int = 330  # optimiser steps a round, equal in all arms
    batch_size: int = 64
    lr: float = 1e-5  # *
    temperature: float = 1.0  # *
    max_new_tokens: int | None = None  # None: the task's
    shots: int = 3
    init_from: str = "previous"  # "previous": f_{t+1} starts from f_t; "base": from f_0 (STaR)
    accumulate: bool = False  # train on the data of all rounds so far *
    dedup: bool = False  # count equal responses to a prompt once (RFT)
    max_per_prompt: int | None = None  # most accepted responses a prompt that are trained on (ReST-EM)
    max_error_rate: float = 0.01  # share of checks that may fail in the checker before a round stops

    def __post_init__(self) -> None:
        def need(ok: bool, name: str, right: str) -> None:
            if not ok:
                raise ValueError(f"{name} = {getattr(self, name)!r} is not possible: it must be {right}")

        for name in ("k", "batch_size", "steps"):
            need(
                isinstance(getattr(self, name), int) and getattr(self, name) >= 1,
                name,
                "a whole number of at least 1",
            )
        need(self.alpha is None or 0 <= self.alpha <= 1, "alpha", "in [0, 1], or None for equal weights")
        for name in ("gamma_fp", "gamma_fn", "max_error_rate"):
            need(0 <= getattr(self, name) <= 1, name, "in [0, 1]")
        betas = self.beta.values() if isinstance(self.beta, Mapping) else [self.beta]
        need(all(0 <= b <= 1 for b in betas) and any(betas), "beta", "in (0, 1], or a mapping of level to chance")
        need(
            callable(self.labeler) or self.labeler in LABELERS,
            "labeler",
            f"one of {', '.join(LABELERS)}, or a function",
        )
        need(
            callable(self.policy) or self.policy in POLICIES,
            "policy",
            f"one of {', '.join(POLICIES)}, or a function",
        )
        need(self.weak_data in ("A", "all"), "weak_data", '"A" or "all"')
        need(self.init_from in ("previous", "base"), "init_from", '"previous" or "base"')
        for name in ("budget", "labels_per_prompt", "shots"):
            need(getattr(self, name) is None or getattr(self, name) >= 0, name, "0 or more")
        need(self.lr > 0, "lr", "positive")
        need(self.temperature >= 0, "temperature", "0 (greedy) or more")
        need(self.max_new_tokens is None or self.max_new_tokens >= 1, "max_new_tokens", "at least 1")

    def round_budget(self, prompts: int, failed: int) -> int:
        """Labeler responses to ask for in a round."""
        if self.labels_per_prompt is not None:
            return self.labels_per_prompt * (failed if self.policy == "hard" else prompts)
        return prompts * self.k if self.budget is None else self.budget

    def weights(self, strong: int, weak: int) -> tuple[float, float]:
        """Weight of one example of S+ and of one of D."""
        if self.alpha is None:
            return 1.0, 1.0
        return (1 - self.alpha) / max(1, strong), self.alpha / max(1, weak)

    def identity(self) -> dict:
        """Settings as plain data; a function of the user's counts by its name and source."""
        return {name: _named(value) if callable(value) else value for name, value in asdict(self).items()}


def settings_of(arm: str, overrides: Mapping[str, Any], common: Mapping[str, Any]) -> Settings:
    """Settings of one arm; raises ValueError for a name that is no setting."""
    known = [f.name for f in fields(Settings)]
    for name in (*common, *overrides):
        if name not in known:
            raise ValueError(f"arm {arm!r}: {name!r} is no setting of the loop; there are {', '.join(known)}")
    return replace(Settings(**common), **overrides)


def arms_of(arms: Sequence[str] | Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Names of ARMS and METHODS, or a mapping of the user's own names to the settings that differ."""
    if isinstance(arms, Mapping):
        return dict(arms)
    known = ARMS | METHODS
    for arm in arms:
        if arm not in known:
            raise ValueError(
                f"unknown arm {arm!r}: there are {', '.join(known)}, or give a mapping of name to settings"
            )
    return {arm: known[arm] for arm in arms}


def _named(function: Callable) -> str:
    if isinstance(function, functools.partial):
        given = [*map(repr, function.args), *(f"{name}={value!r}" for name, value in sorted(function.keywords.items()))]
        return f"{_named(function.func)}({', '.join(given)})"
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        source = ""
    return f"{getattr(function, '__qualname__', type(function).__name__)}:{hashlib.sha256(source.encode()).hexdigest()[:12]}"
