"""MBPP in small, made here: `f(n): add 3, double` answered by a three-line function, judged by three asserts.

A problem is a chain of operations on a number, a list of numbers or a string; its level is their count. The
description is all a prompt shows. A hash of the prompt decides the split, so the splits are disjoint whatever
the seed. The asserts use tame inputs; the challenge asserts also negative, empty and long ones, so that a
program can be accepted and wrong, as with real tests.

Not covered: control flow, more than one argument, anything that needs an import.
"""

from __future__ import annotations

import itertools
import random
import re
import string
from collections.abc import Callable, Iterator
from typing import NamedTuple

from boostlib.tasks import Problem, Task
from boostlib.tasks.levels import Levels, bucket, by_share, fresh, pretraining, weights_of
from boostlib.tasks.programs import Programs

LEVELS = range(1, 6)
BUCKETS = {"exemplars": range(2), "test": range(2, 22), "validation": range(22, 37), "train": range(37, 100)}
SYMBOLS = "\n" + " " + string.digits + string.ascii_letters + string.punctuation  # what a model must know


class Op(NamedTuple):
    """``words`` and ``code`` may hold K, a number; ``code`` is in the variable x; ``run`` is what it does."""

    words: str
    code: str
    run: Callable
    gives: str = ""  # the kind of the result, where it differs


_NUMBER = (
    Op("add K", "x+=K", lambda x, k: x + k),
    Op("subtract K", "x-=K", lambda x, k: x - k),
    Op("times K", "x*=K", lambda x, k: x * k),
    Op("remainder by K", "x%=K", lambda x, k: x % k),
    Op("at most K", "x=min(x,K)", lambda x, k: min(x, k)),
    Op("square", "x*=x", lambda x, k: x * x),
    Op("negate", "x=-x", lambda x, k: -x),
)
_LIST = (
    Op("sort", "x=sorted(x)", lambda x, k: sorted(x)),
    Op("reverse", "x=x[::-1]", lambda x, k: x[::-1]),
    Op("first K", "x=x[:K]", lambda x, k: x[:k]),
    Op("add K to each", "x=[v+K for v in x]", lambda x, k: [v + k for v in x]),
    Op("each times K", "x=[v*K for v in x]", lambda x, k: [v * k for v in x]),
    Op("above K", "x=[v for v in x if v>K]", lambda x, k: [v for v in x if v > k]),
    Op("append K", "x=x+[K]", lambda x, k: x + [k]),
    Op("sum", "x=sum(x)", lambda x, k: sum(x), "n"),
    Op("length", "x=len(x)", lambda x, k: len(x), "n"),
)
_STRING = (
    Op("upper case", "x=x.upper()", lambda x, k: x.upper()),
    Op("reverse", "x=x[::-1]", lambda x, k: x[::-1]),
    Op("first K", "x=x[:K]", lambda x, k: x[:k]),
    Op("repeat K times", "x*=K", lambda x, k: x * k),
    Op("append K", "x+='K'", lambda x, k: x + str(k)),
    Op("length", "x=len(x)", lambda x, k: len(x), "n"),
)
OPERATIONS = {"n": _NUMBER, "a": _LIST, "s": _STRING}  # by what the argument is called
_TAME = {
    "n": lambda rng: rng.randint(1, 30),
    "a": lambda rng: [rng.randint(0, 9) for _ in range(rng.randint(4, 7))],
    "s": lambda rng: "".join(rng.choice("abcdeABC") for _ in range(rng.randint(5, 8))),
}
_WILD = {
    "n": lambda rng: rng.choice([0, -1, rng.randint(-50, 0), rng.randint(100, 999)]),
    "a": lambda rng: rng.choice([[], [0], [rng.randint(-9, 20) for _ in range(rng.randint(2, 12))]]),
    "s": lambda rng: rng.choice(["", "a", "".join(rng.choice("aAbz ?9") for _ in range(rng.randint(2, 14)))]),
}


def load(split: str, n: int | None, seed: int, *, levels: Levels = (1, 2, 3, 4), allow: str = "kernel") -> Task:
    """n (1,000 if None) different problems; ``levels`` are the numbers of operations, in equal shares or, as a
    mapping, with weights. Where a level has no more problems in a split (one operation gives 40 in
    "train"), the others fill up."""
    weights = _weights(levels)
    chains = _chains(split, f"{split}/{seed}", weights)
    problems = tuple(_problem(*chain) for chain in itertools.islice(chains, 1000 if n is None else n))
    if n is not None and len(problems) < n:
        raise ValueError(
            f"mbpp_mini has {len(problems):,} problems of these levels in {split}, and {n:,} were asked for; lower n or add a level."
        )
    exemplars = _chains("exemplars", "exemplars", {2: 1.0})
    shown = tuple(_problem(*next(exemplars)) for _ in range(4))
    room = 20 + 25 * max(weights)
    return Programs("mbpp_mini", split, problems, shown, ("\n\n",), room, allow=allow)


def pretraining_pairs(n: int, seed: int, weights: Levels | None = None) -> list[tuple[str, str]]:
    """n pairs (prompt, right response) from the train side, so never in validation or test; easy ones by
    default: a fifth of one operation, half of two, the rest of three. Drawn with repetition, for there are few of one."""
    weights = _weights({1: 0.2, 2: 0.5, 3: 0.3} if weights is None else weights)

    def pair(rng: random.Random, level: int) -> tuple[str, str]:
        chain = _draw(rng, level)
        return _prompt(*chain), _program(*chain)

    return pretraining(n, seed, weights, pair, BUCKETS["train"])


Step = tuple[Op, int]


def _weights(levels: Levels) -> dict[int, float]:
    return weights_of(levels, LEVELS, "mbpp_mini", "operations")


def _chains(split: str, key: str, weights: dict[int, float]) -> Iterator[tuple[str, list[Step]]]:
    """Different chains of a split; a level that is used up drops out."""
    rng, seen = random.Random(key), set()

    def good(chain: tuple[str, list[Step]]) -> bool:
        prompt = _prompt(*chain)
        return prompt not in seen and bucket(prompt) in BUCKETS[split] and _varied(*chain)

    def new(level: int) -> tuple[str, list[Step]] | None:
        chain = fresh(lambda: _draw(rng, level), good, 3000)
        if chain:
            seen.add(_prompt(*chain))
        return chain

    return by_share(weights, new)


def _draw(rng: random.Random, level: int) -> tuple[str, list[Step]]:
    """An argument's kind and ``level`` steps, no operation twice in a row."""
    kind = start = rng.choice("nas")
    steps: list[Step] = []
    while len(steps) < level:
        op = rng.choice(OPERATIONS[kind])
        if not steps or op is not steps[-1][0]:
            steps.append((op, rng.randint(2, 6)))
            kind = op.gives or kind
    return start, steps


def _prompt(kind: str, steps: list[Step]) -> str:
    return f"f({kind}): " + ", ".join(op.words.replace("K", str(k)) for op, k in steps) + "\n"


def _program(kind: str, steps: list[Step]) -> str:
    """One line a step: short, and read from left to right like the description."""
    lines = [re.sub(r"\bx\b", kind, op.code).replace("K", str(k)) for op, k in steps]
    return f"def f({kind}):\n " + "\n ".join([*lines, f"return {kind}"])


def _problem(kind: str, steps: list[Step]) -> Problem:
    prompt = _prompt(kind, steps)
    rng = random.Random(prompt)
    tests = _asserts(steps, _TAME[kind], rng, 3)
    meta = {"level": len(steps), "tests": tests, "challenge": _asserts(steps, _WILD[kind], rng, 5), "setup": ""}
    return Problem(f"mbpp_mini/{prompt.strip()}", prompt, _program(kind, steps), "\n".join(tests), meta)


def _apply(steps: list[Step], value: object) -> object:
    for op, k in steps:
        value = op.run(value, k)
    return value


def _varied(kind: str, steps: list[Step]) -> bool:
    """Whether tame arguments tell: "first 2, without first 5" gives an empty list whatever it is given."""
    rng = random.Random(0)
    return len({repr(_apply(steps, _TAME[kind](rng))) for _ in range(6)}) > 1


def _asserts(steps: list[Step], draw: Callable[[random.Random], object], rng: random.Random, n: int) -> list[str]:
    """n asserts on different arguments, with different results as far as 20 draws give them."""
    cases: dict[str, str] = {}
    for drawn in itertools.count():
        argument = draw(rng)
        result = repr(_apply(steps, argument))
        if result not in cases.values() or drawn > 20:
            cases.setdefault(repr(argument), result)
        if len(cases) == n:
            return [f"assert f({argument}) == {result}" for argument, result in cases.items()]
