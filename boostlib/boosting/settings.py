"""The settings of the loop, the arms of the comparison and the published methods, all as named parameters.

Not covered: sizes of tasks and models (the caller brings them).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from boostlib.allocation import POLICIES
from boostlib.learners import Learner

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

MOST = sys.float_info.max  # of a number: neither infinite nor none
NUMBERS: dict[str, tuple[float, float, str]] = {  # setting -> least, most, in words
    **dict.fromkeys(("k", "steps", "batch_size"), (1, MOST, "a whole number of at least 1")),
    **dict.fromkeys(("max_new_tokens", "max_per_prompt"), (1, MOST, "a whole number of at least 1, or None")),
    **dict.fromkeys(("budget", "labels_per_prompt"), (0, MOST, "a whole number of at least 0, or None")),
    **dict.fromkeys(("gamma_fp", "gamma_fn", "max_error_rate"), (0, 1, "in [0, 1]")),
    "shots": (0, MOST, "a whole number of at least 0"),
    "alpha": (0, 1, "in [0, 1], or None for equal weights"),
    "temperature": (0, MOST, "0 (greedy) or a positive number"),
    "lr": (math.ulp(0), MOST, "a positive number"),
}


def is_number(value: Any, least: float, most: float = MOST, kind: type = Integral) -> bool:
    """Whether it is a whole number (``kind`` Real: any) of this range; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool) and bool(least <= value <= most)


def need(name: str, value: Any, ok: bool, right: str) -> None:
    """Raises ValueError, in one sentence, where a value is not ``ok``; ``right`` says what it must be."""
    if not ok:
        raise ValueError(f"{name} = {value!r} is not possible: it must be {right}")


@dataclass(frozen=True)
class Settings:
    """What a round does. The paper's values where it reports them, else a choice of this project (marked *). Raises
    ValueError, in one sentence, for a value that cannot be."""

    k: int = 8  # responses a prompt and round
    alpha: float | None = 1 / 3  # total weight of the weak data; None: every example counts the same
    gamma_fp: float = 0.0  # chance that the filter accepts a wrong response
    gamma_fn: float = 0.0  # chance that it rejects a right one
    filter: Callable | None = None  # instead of the gammas: (problem, response, right, rng) -> accepted
    # "corrupted" reference *, "systematic" (the same with one wrong answer a prompt), "base" (the paper: f_0), "self" (f_t),
    # another model (a Learner, its folder or hub id), or (problem, rng) -> response
    labeler: str | Path | Learner | Callable = "corrupted"
    beta: float | Mapping[int, float] = 0.3  # chance that the corrupted reference is right, or one for each level *
    policy: str | Callable = "hard"  # who is labelled: a name in allocation.POLICIES, or a policy
    budget: int | None = None  # labeler responses asked for each round; None: prompts times k, as in the paper
    labels_per_prompt: int | None = None  # instead: so many for each failed prompt (other policies: each prompt)
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
        for name, (least, most, right) in NUMBERS.items():
            value = getattr(self, name)
            number = is_number(value, least, most, Integral if "whole" in right else Real)
            need(name, value, number or value is None and "None" in right, right)
            object.__setattr__(self, name, value.item() if isinstance(value, np.generic) else value)
        betas = list(self.beta.values()) if isinstance(self.beta, Mapping) else [self.beta]
        chances = all(is_number(b, 0, 1, Real) for b in betas) and any(betas)
        need("beta", self.beta, chances, "in (0, 1], or a mapping of level to chance")
        ok = self.labeler in LABELERS or callable(self.labeler) or self.labeler_is_model
        need("labeler", self.labeler, ok, f"one of {', '.join(LABELERS)}, a function, or another model or its folder")
        ok = self.policy in POLICIES if isinstance(self.policy, str) else callable(self.policy)
        need("policy", self.policy, ok, f"one of {', '.join(POLICIES)}, or a function")
        ok = self.filter is None or callable(self.filter) and self.gamma_fp == self.gamma_fn == 0
        need("filter", self.filter, ok, "None, or a function, and then the gammas are 0")
        need("weak_data", self.weak_data, self.weak_data in ("A", "all"), '"A" or "all"')
        need("init_from", self.init_from, self.init_from in ("previous", "base"), '"previous" or "base"')
        for name in ("accumulate", "dedup"):
            need(name, getattr(self, name), isinstance(getattr(self, name), bool), "True or False")

    @property
    def labeler_is_model(self) -> bool:
        named = isinstance(self.labeler, str) and "/" in self.labeler  # a folder or a hub id
        return named or isinstance(self.labeler, Path) or hasattr(self.labeler, "sample")

    def round_budget(self, prompts: int, failed: int) -> int:
        """Labeler responses to ask for in a round."""
        if self.labels_per_prompt is not None:
            return self.labels_per_prompt * (failed if self.policy == "hard" else prompts)
        return prompts * self.k if self.budget is None else self.budget

    def identity(self) -> dict:
        """Settings as plain data; a function by its name and source, a model by its weights. ``filter`` stands in it only
        where there is one, so that a run without keeps its name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: _named(value) for name, value in values.items() if name != "filter" or value is not None}


def settings_of(arm: str, own: Mapping[str, Any], common: Mapping[str, Any]) -> Settings:
    """Settings of one arm: the common ones and its own. Raises ValueError for a name that is no setting."""
    known = [f.name for f in fields(Settings)]
    if unknown := [name for name in {**common, **own} if name not in known]:
        raise ValueError(f"arm {arm!r}: {unknown[0]!r} is no setting of the loop; there are {', '.join(known)}")
    gammas = {"gamma_fp", "gamma_fn"} & own.keys()  # an arm with its own does without the others' function
    return Settings(**{**common, **({"filter": None} if gammas else {}), **own})


def arms_of(arms: Sequence[str] | Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Names of ARMS and METHODS, or a mapping of the user's own names to the settings that differ. Raises ValueError for an
    unknown name, and for one that can't name a folder."""
    known, own, there = ARMS | METHODS, isinstance(arms, Mapping), ", ".join(ARMS | METHODS)
    listed = isinstance(arms, Mapping | list | tuple) and bool(arms)
    need("arms", arms, listed, f"a list of {there}, or a mapping of name to settings")
    for arm in arms:
        if not isinstance(arm, str) or arm in ("", "base") or set(arm) & set("/\\\0"):
            raise ValueError(f"an arm can't be called {arm!r}: its name is that of a folder, and base is taken")
        if not own and arm not in known:
            raise ValueError(f"unknown arm {arm!r}: there are {there}, or give a mapping of name to settings")
        if own and not isinstance(arms[arm], Mapping):
            raise ValueError(f"arm {arm!r}: give a mapping of its settings, not {arms[arm]!r}")
    return dict(arms) if own else {arm: known[arm] for arm in arms}


def _named(value: Any) -> Any:
    """A function of the user's counts by its name and source, a model by its weights."""
    if isinstance(value, functools.partial):
        given = [*map(repr, value.args), *(f"{name}={x!r}" for name, x in sorted(value.keywords.items()))]
        return f"{_named(value.func)}({', '.join(given)})"
    if hasattr(value, "fingerprint"):
        return f"model:{value.fingerprint()}"
    if not callable(value):
        return str(value) if isinstance(value, Path) else dict(value) if isinstance(value, Mapping) else value
    source = ""  # of what is built in, or typed at a prompt
    with contextlib.suppress(OSError, TypeError):
        source = inspect.getsource(value)
    return f"{getattr(value, '__qualname__', type(value).__name__)}:{hashlib.sha256(source.encode()).hexdigest()[:12]}"
