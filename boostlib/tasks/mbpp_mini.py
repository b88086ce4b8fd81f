"""MBPP in small, made here: `f(n): add 3, double` answered by a three-line function, judged by three asserts.

A problem is a chain of operations on a number, a list of numbers or a string; its level is their count. A hash of the
prompt decides the split, so the splits are disjoint whatever the seed. The asserts use tame inputs; the challenge
asserts also negative, empty and long ones, so that a program can be accepted and wrong, as with real tests. Not
covered: control flow, more than one argument, anything that needs an import."""

import itertools
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from boostlib.tasks import Problem, Task
from boostlib.tasks.levels import Levels, Pairs, by_share, pretraining, weights_of
from boostlib.tasks.programs import Programs

LEVELS = range(1, 6)
BUCKETS = {"exemplars": range(2), "test": range(2, 22), "validation": range(22, 37), "train": range(37, 100)}

#: Words and code by what the argument x is called; K is a number. What "sum" and "length" give is a number.
OPERATIONS = {
    "n": {
        "add K": "x+=K", "subtract K": "x-=K", "times K": "x*=K", "remainder by K": "x%=K", "at most K": "x=min(x,K)",
        "square": "x*=x", "negate": "x=-x",
    },
    "a": {
        "sort": "x=sorted(x)", "reverse": "x=x[::-1]", "first K": "x=x[:K]", "add K to each": "x=[v+K for v in x]",
        "each times K": "x=[v*K for v in x]", "above K": "x=[v for v in x if v>K]", "append K": "x=x+[K]", "sum": "x=sum(x)",
        "length": "x=len(x)",
    },
    "s": {
        "upper case": "x=x.upper()", "reverse": "x=x[::-1]", "first K": "x=x[:K]", "repeat K times": "x*=K",
        "append K": "x+='K'", "length": "x=len(x)",
    },
}  # fmt: skip
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
    """n (1,000 if None) different problems; ``levels`` are the numbers of operations, in equal shares or, as a mapping,
    with weights. Where a level has no more problems (one operation gives 40 in "train"), the others fill up."""
    weights = weights_of(levels, LEVELS, "mbpp_mini", "operations")
    chains = _chains(split, f"{split}/{seed}", weights)
    problems = tuple(map(_problem, itertools.islice(chains, n or 1000)))
    if n is not None and len(problems) < n:
        has = f"{len(problems):,} problems of these levels in {split}"
        raise ValueError(f"mbpp_mini has {has}, and {n:,} were asked for; lower n or add a level.")
    shown = tuple(map(_problem, itertools.islice(_chains("exemplars", "exemplars", {2: 1.0}), 4)))
    return Programs("mbpp_mini", split, problems, shown, ("\n\n",), 20 + 25 * max(weights), allow=allow)


def pretraining_pairs(n: int, seed: int, weights: Levels | None = None) -> Pairs:
    """n pairs (prompt, right response) from the train side, so never in validation or test; easy ones by default: a
    fifth of one operation, half of two, the rest of three. Drawn with repetition, for there are few of one."""
    weights = {1: 0.2, 2: 0.5, 3: 0.3} if weights is None else weights_of(weights, LEVELS, "mbpp_mini", "operations")
    return pretraining(n, seed, weights, lambda rng, level: _draw(rng, level)[:2], BUCKETS["train"])


class _Chain(NamedTuple):
    prompt: str
    program: str  # the reference: one line a step
    argument: str  # n, a or s
    level: int


def _chains(split: str, key: str, weights: dict[int, float]) -> Iterator[_Chain]:
    rng = random.Random(key)
    drawn = lambda level, made: filter(_varied, (_draw(rng, level) for _ in range(3000)))  # noqa: E731
    return by_share(weights, drawn, lambda chain: chain.prompt, BUCKETS[split])


def _draw(rng: random.Random, level: int) -> _Chain:
    """A chain of ``level`` operations, none twice in a row."""
    kind = argument = rng.choice("nas")
    last, words, lines = None, [], []
    while len(words) < level:
        op = rng.choice(list(OPERATIONS[kind].items()))
        if op != last:
            k = str(rng.randint(2, 6))
            words.append(op[0].replace("K", k))
            lines.append(op[1].replace("x", argument).replace("K", k))
            last, kind = op, "n" if op[0] in ("sum", "length") else kind
    program = f"def f({argument}):\n " + "\n ".join([*lines, f"return {argument}"])
    return _Chain(f"f({argument}): " + ", ".join(words) + "\n", program, argument, level)


def _problem(chain: _Chain) -> Problem:
    rng = random.Random(chain.prompt)
    tests = _asserts(chain, _TAME, rng, 3)
    meta = {"level": chain.level, "tests": tests, "challenge": _asserts(chain, _WILD, rng, 5), "setup": ""}
    return Problem(f"mbpp_mini/{chain.prompt.strip()}", chain.prompt, chain.program, "\n".join(tests), meta)


def _varied(chain: _Chain) -> bool:
    """Whether tame arguments tell: "first 2, without first 5" gives an empty list whatever it is given."""
    return len({result for _, result in itertools.islice(_cases(chain, _TAME, random.Random(0)), 6)}) > 1


def _cases(chain: _Chain, inputs: dict[str, Callable], rng: random.Random) -> Iterator[tuple[str, str]]:
    """Drawn arguments with their results, both as Python writes them."""
    scope: dict = {}
    exec(chain.program, scope)  # lines of OPERATIONS, never a response
    while True:
        argument = inputs[chain.argument](rng)
        yield repr(argument), repr(scope["f"](argument))


def _asserts(chain: _Chain, inputs: dict[str, Callable], rng: random.Random, n: int) -> list[str]:
    """n asserts on different arguments, with different results as far as 20 draws give them."""
    cases: dict[str, str] = {}
    for drawn, (argument, result) in enumerate(_cases(chain, inputs, rng)):
        if result not in cases.values() or drawn > 20:
            cases.setdefault(argument, result)
        if len(cases) == n:
            return [f"assert f({argument}) == {result}" for argument, result in cases.items()]
