"""Tests read and compiled once, in the user's process: what the judge then executes.

Which names of a test are the candidate's is decided here, from the tests alone. Not covered: their execution
(judge).
"""

from __future__ import annotations

import ast
import builtins
import collections
import datetime
import decimal
import fractions
import functools
import itertools
import marshal
import math
import statistics

# Modules whose functions a test may use to form expected values: always ours, never the candidate's.
LIBRARY = frozenset(
    "array bisect calendar cmath collections copy datetime decimal fractions functools heapq itertools json "
    "math numbers operator random re statistics string sys time typing".split()
)
# Functions and classes a test may know without their module: ours too, unless nothing else can be under test.
HELPERS: dict[str, object] = {}
for _module in (itertools, functools, statistics, decimal, fractions, datetime, collections, math, builtins):
    HELPERS |= {name: getattr(_module, name) for name in getattr(_module, "__all__", dir(_module)) if name[0] != "_"}


@functools.lru_cache(1024)
def plan(setup: str, tests: tuple[str, ...]) -> bytes:
    """What the judge needs, for `marshal`: of the setup, the statements that are the judge's own, each with the
    names it defines; for each test its code, the names it reads and those of them it reads only as ``name.x``;
    all names to ask the candidate for; helpers' names that are the candidate's here.

    Raises ValueError for a test or a setup that is no Python.
    """
    trees = [_parse(test, f"tests[{i}]") for i, test in enumerate(tests)]
    own, used = _own(_parse(setup, "setup"))
    known = {name for _, defined in own for name in defined}
    names = [_names(tree) for tree in trees]
    wanted = set().union(used, *(read for read, _ in names)) - known
    under_test = wanted - LIBRARY - set(HELPERS)
    shadowed = set() if under_test else {_innermost_call(tree) for tree in trees}
    steps = [
        (compile(tree, "<test>", "exec"), sorted(read | used), sorted(dotted))
        for tree, (read, dotted) in zip(trees, names, strict=True)
    ]
    return marshal.dumps((own, steps, sorted(wanted), shadowed))


def _own(setup: ast.Module) -> tuple[list[tuple], set[str]]:
    """The statements of a setup that the judge runs for itself, so that the candidate cannot replace what they
    define: functions, imports, and values made from nothing of the candidate's. And the names of the
    candidate's that those functions read. The candidate runs the whole setup too."""
    own, clean, used = [], set(dir(builtins)), set()
    for node in setup.body:
        read, _ = _names(node)
        match node:
            case ast.FunctionDef(name=name):
                defined = [name]
                used |= read - clean
                clean |= {name} if read <= clean else set()
            case ast.Import() | ast.ImportFrom() if {n.split(".")[0] for n in _modules(node)} <= LIBRARY:
                defined = [(alias.asname or alias.name).split(".")[0] for alias in node.names]
                clean |= set(defined)
            case ast.Assign(targets=[ast.Name(id=name)]) if read <= clean:
                defined = [name]
                clean.add(name)
            case _:
                continue
        own.append((compile(ast.Module([node], []), "<setup>", "exec"), defined))
    return own, used


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."]


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
