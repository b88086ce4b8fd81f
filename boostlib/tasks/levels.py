"""Problems by level of difficulty, for tasks that are made here: shares of the levels, splits by hash, pretraining pairs.

Not covered: what a level is (arithmetic, mbpp_mini).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Levels = Sequence[int] | Mapping[int, float]


def bucket(prompt: str) -> int:
    """0 to 99 by the prompt alone: it decides the split, so that splits are disjoint whatever the seed."""
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4]) % 100


def weights_of(levels: Levels, known: range, task: str, unit: str) -> dict[int, float]:
    """Levels with weight above 0, ascending: all alike, or as the mapping says. Raises ValueError for other levels."""
    try:
        given = levels.items() if isinstance(levels, Mapping) else [(level, 1.0) for level in levels]
        weights = {int(level): float(weight) for level, weight in given}  # keys are text when read from JSON
        valid = all(level in known and 0 <= weight < float("inf") for level, weight in weights.items())
    except (TypeError, ValueError):
        valid = False
    if not valid or not sum(weights.values()) > 0:
        raise ValueError(
            f"levels of {task} must be numbers of {unit} from {known[0]} to {known[-1]} "
            f"(with weights of at least 0, not all 0), not {levels!r}."
        )
    return {level: weight for level, weight in sorted(weights.items()) if weight > 0}


def by_share(weights: Mapping[int, float], new: Callable[[int], Item | None]) -> Iterator[Item]:
    """What ``new`` makes of a level, without end: the level furthest behind its share comes next, and one for which it
    gives None drops out. So every prefix holds the shares as nearly as whole numbers can."""
    weights, counts = dict(weights), dict.fromkeys(weights, 0)
    while weights:
        total, made = sum(weights.values()), sum(counts[level] for level in weights) + 1
        level = max(weights, key=lambda level: weights[level] / total * made - counts[level])
        item = new(level)
        if item is None:
            del weights[level]
            continue
        counts[level] += 1
        yield item


def fresh(draw: Callable[[], Item], good: Callable[[Item], bool], tries: int) -> Item | None:
    """The first good one among so many draws."""
    return next((item for item in (draw() for _ in range(tries)) if good(item)), None)


def pretraining(
    n: int, seed: int, weights: Mapping[int, float], pair: Callable[[random.Random, int], tuple[str, str]], train: range
) -> list[tuple[str, str]]:
    """n pairs (prompt, right response), drawn with repetition, of prompts whose `bucket` is in ``train``."""
    rng = random.Random(f"pretraining/{seed}")
    levels, shares = list(weights), list(weights.values())
    pairs: list[tuple[str, str]] = []
    while len(pairs) < n:
        prompt, response = pair(rng, rng.choices(levels, shares)[0])
        if bucket(prompt) in train:
            pairs.append((prompt, response))
    return pairs
