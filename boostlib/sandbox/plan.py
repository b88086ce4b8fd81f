"""Tests read and compiled once, in the user's process: what the judge then executes.

Which names of a test are the candidate's is decided here, from the tests alone. Not covered: their execution
(judge).
"""

from __future__ import annotations

import ast
import builtins
import functools
import marshal
import math

# Modules whose functions a test may use to form expected values: always ours, never the candidate's.
LIBRARY = frozenset(
    "array bisect calendar cmath collections copy datetime decimal fractions functools heapq itertools json "
    "math numbers operator random re statistics string sys time typing".split()
)
HELPERS = frozenset(name for module in (math, builtins) for name in dir(module) if name[0] != "_")


@functools.lru_cache(1024)
def plan(setup: str, tests: tuple[str, ...]) -> bytes:
    """What the judge needs, for `marshal`: for each test its code, the names it reads and those of them it reads
    only as ``name.x``; all names to ask the candidate for; helpers' names that are the candidate's here; the
    constants of the setup, which are ours whatever the program does to its own.

    Raises ValueError for a test or a setup that is no Python.
    """
    trees = [_parse(test, f"tests[{i}]") for i, test in enumerate(tests)]
    constants = {}
    for node in _parse(setup, "setup").body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                try:
                    constants[name] = ast.literal_eval(value)
                except ValueError:
                    pass
    names = [_names(tree) for tree in trees]
    wanted = set().union(*(read for read, _ in names)) - set(constants)
    # A helper's name (sum, isclose) is the candidate's only where no other name could be the one under test.
    under_test = wanted - LIBRARY - HELPERS
    shadowed = set() if under_test else {_innermost_call(tree) for tree in trees}
    steps = [(compile(t, "<test>", "exec"), sorted(r), sorted(d)) for t, (r, d) in zip(trees, names, strict=True)]
    return marshal.dumps((steps, sorted(wanted), shadowed, constants))


def _parse(source: str, what: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError) as e:
        raise ValueError(f"{what} is no valid Python ({e}): {source[:80]!r}") from None


def _names(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Names a piece of test code reads and does not define: all of them, and those only used as ``name.x``."""
    read, defined, dotted = [], set(), []
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                read.append(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                defined.add(name)
            case ast.alias(name=name, asname=alias):
                defined.add((alias or name).split(".")[0])
            case ast.Attribute(value=ast.Name(id=name)):
                dotted.append(name)
    return set(read) - defined, {n for n in dotted if dotted.count(n) == read.count(n)}


def _innermost_call(tree: ast.AST) -> str | None:
    """The function called first when an expression is evaluated from the left."""
    for child in ast.iter_child_nodes(tree):
        if (found := _innermost_call(child)) is not None:
            return found
    return tree.func.id if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) else None
