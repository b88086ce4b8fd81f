"""Chains of + and - with worked steps, `17+25-8=` answered `17+25=42;42-8=34#34`: a task for a tiny model.

The level of a problem is its number of terms. A hash of the prompt decides its split, so the splits are disjoint
whatever the seed. Not covered: products, brackets, numbers outside 1..99 (``largest`` lowers that)."""

import random
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from boostlib.tasks import Problem, Task
from boostlib.tasks.levels import Levels, Pairs, bucket, by_share, pretraining, weights_of

LEVELS = range(2, 7)
BUCKETS = {"exemplars": range(1), "test": range(1, 11), "validation": range(11, 21), "train": range(21, 100)}
LARGEST = 99
_TERM = re.compile(r"[+-]?\d+")


class Arithmetic(Task):
    def grade_one(self, problem: Problem, response: str) -> str:
        """Right if the integer after the last '#' is the answer and nothing else stands there."""
        match = re.search(r"#\s*(-?[0-9]{1,9})\s*\Z", response)
        return "pass" if match and int(match[1]) == int(problem.answer) else "fail"

    def corrupt(self, problem: Problem, rng: np.random.Generator) -> str:
        """One step gone wrong (a miscopied number, the other operator or a slip in the sum), the rest worked
        out from there. The answer is linear in every term and sum, so it is always wrong."""
        terms = [int(t) for t in _TERM.findall(problem.prompt)]
        step = int(rng.integers(1, len(terms)))
        kind = rng.choice(["number", "operator", "sum"])
        if kind == "operator":
            terms[step] = -terms[step]
        elif kind == "number":
            size = abs(terms[step])
            near = [size + d for d in (-20, -10, -2, -1, 1, 2, 10, 20) if 1 <= size + d <= LARGEST]
            terms[step] = int(rng.choice(near)) * terms[step] // size
        slip = int(rng.choice([-10, -2, -1, 1, 2, 10])) if kind == "sum" else 0
        return _solve(terms, slip, step)


def load(split: str, n: int | None, seed: int, *, levels: Levels = (2, 3, 4, 5), largest: int = LARGEST) -> Task:
    """n (1,000 if None) different chains; ``levels`` are the numbers of terms, in equal shares or, as a mapping, with
    weights. ``largest``: terms are 1..largest, so that a smaller model knows the sums."""
    weights = _checked(levels, largest)
    chains = _chains(split, f"{split}/{seed}", weights, largest)
    problems = tuple(_problem(next(chains)) for _ in range(n or 1000))
    shown = _chains("exemplars", "exemplars", dict.fromkeys(weights, 1.0), largest)
    exemplars = tuple(_problem(next(shown)) for _ in range(8))
    room = 14 * (max(weights) - 1) + 6  # a step is at most "-495+99=-396;", the answer "#-396"
    return Arithmetic("arithmetic", split, problems, exemplars, ("\n",), room, separator="\n")


def pretraining_pairs(n: int, seed: int, weights: Levels | None = None, largest: int = LARGEST) -> Pairs:
    """n pairs (prompt, right response) from the train side, so never in validation or test; easy ones by
    default: 90% of two terms, 10% of three. Drawn with repetition, as there are only 15,000 or so of two."""
    weights = _checked({2: 0.9, 3: 0.1} if weights is None else weights, largest)
    return pretraining(n, seed, weights, lambda rng, level: _pair(_draw(rng, level, largest)), BUCKETS["train"])


def _checked(levels: Levels, largest: int) -> dict[int, float]:
    if not isinstance(largest, int) or not 9 <= largest <= LARGEST:
        raise ValueError(f"largest of arithmetic must be a whole number from 9 to {LARGEST}, not {largest!r}.")
    return weights_of(levels, LEVELS, "arithmetic", "terms")


def _chains(split: str, key: str, weights: dict[int, float], largest: int) -> Iterator[list[int]]:
    """Different chains of a split: those of two terms in a shuffled row, longer ones drawn."""
    rng, sizes = random.Random(key), range(-largest, largest + 1)
    pairs = [[a, b] for a in sizes[largest + 1 :] for b in sizes if b and bucket(_prompt([a, b])) in BUCKETS[split]]
    if 2 in weights:
        rng.shuffle(pairs)
    row = iter(pairs)

    def draws(level: int, made: int) -> Iterable[list[int]]:
        yield from row if level == 2 else (_draw(rng, level, largest) for _ in range(100_000))
        name = "two" if level == 2 else level
        raise ValueError(f"arithmetic has {made:,} problems of {name} terms in {split}: lower n, or change levels.")

    return by_share(weights, draws, _prompt, BUCKETS[split])


def _draw(rng: random.Random, level: int, largest: int) -> list[int]:
    return [rng.randint(1, largest) * (1 if i == 0 else rng.choice((1, -1))) for i in range(level)]


def _prompt(terms: Sequence[int]) -> str:
    return "".join(f"{t:+d}" for t in terms)[1:] + "="


def _solve(terms: Sequence[int], slip: int = 0, at: int = 0) -> str:
    """The worked steps; the sum of step ``at`` (from 1) is off by ``slip``."""
    total, steps = terms[0], []
    for i, term in enumerate(terms[1:], 1):
        result = total + term + (slip if i == at else 0)
        steps.append(f"{total}{term:+d}={result}")
        total = result
    return ";".join(steps) + f"#{total}"


def _pair(terms: Sequence[int]) -> tuple[str, str]:
    return _prompt(terms), _solve(terms)


def _problem(terms: Sequence[int]) -> Problem:
    return Problem(f"arithmetic/{_prompt(terms)[:-1]}", *_pair(terms), str(sum(terms)), {"level": len(terms)})
