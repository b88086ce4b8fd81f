"""Problems by level of difficulty, for tasks made here: splits by hash, shares of the levels, pretraining pairs. Not
covered: what a level is (arithmetic, mbpp_mini)."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice

from boostlib.tasks import hashed

Pairs = list[tuple[str, str]]  # prompt, right response
Levels = Sequence[int] | Mapping[int, float]


def bucket(prompt: str) -> int:
    """0 to 99 by the prompt alone: it decides the split, so that splits are disjoint whatever the seed."""
    return (hashed(prompt) >> 32) % 100


def weights_of(levels: Levels, known: range, task: str, unit: str) -> dict[int, float]:
    """Levels with weight above 0, ascending: all alike, or as the mapping says. Raises ValueError for other levels."""
    try:
        given = levels if isinstance(levels, Mapping) else dict.fromkeys(levels, 1.0)
        weights = {int(level): float(weight) for level, weight in given.items()}  # keys are text when read from JSON
        valid = all(level in known and 0 <= weight < float("inf") for level, weight in weights.items())
    except (TypeError, ValueError):
        valid = False
    if not valid or not sum(weights.values()) > 0:
        expected = f"numbers of {unit} from {known[0]} to {known[-1]} (with weights of at least 0, not all 0)"
        raise ValueError(f"levels of {task} must be {expected}, not {levels!r}.")
    return {level: weight for level, weight in sorted(weights.items()) if weight > 0}


def by_share(weights: Mapping[int, float], draws: Callable, prompt: Callable, split: range) -> Iterator:
    """Items with different prompts (``prompt`` of an item) of a split, without end. The level furthest behind its share
    comes next, so every prefix holds the shares as nearly as whole numbers can. ``draws`` (level, number made of it)
    gives the candidates for one more; a level with none that fits drops out."""
    weights, made, seen = dict(weights), dict.fromkeys(weights, 0), set()
    while weights:
        total, after = sum(weights.values()), sum(made[level] for level in weights) + 1
        level = max(weights, key=lambda level: weights[level] / total * after - made[level])
        for item in draws(level, made[level]):
            if prompt(item) not in seen and bucket(prompt(item)) in split:
                seen.add(prompt(item))
                made[level] += 1
                yield item
                break
        else:
            del weights[level]


def pretraining(n: int, seed: int, weights: Mapping[int, float], pair: Callable, split: range) -> Pairs:
    """n pairs of a split, drawn with repetition by ``pair`` (generator, level)."""
    rng, levels, shares = random.Random(f"pretraining/{seed}"), list(weights), list(weights.values())
    pairs = (pair(rng, rng.choices(levels, shares)[0]) for _ in count())
    return list(islice((pair for pair in pairs if bucket(pair[0]) in split), n))
