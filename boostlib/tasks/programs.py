"""Tasks whose responses are programs, judged by tests in the sandbox.

A problem's ``meta`` has "tests" (assert statements), "setup" (code between the program and the tests) and
"challenge" (harder asserts that are never shown or trained on: they measure the filter's own error).
Not covered: the problems themselves (mbpp, mbpp_mini), how a program is run (sandbox)."""

import ast
import functools
import os
import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from boostlib import sandbox
from boostlib.sandbox.reading import read
from boostlib.tasks import Problem, Task, mutate

FLOOR, FACTOR = 3.0, 4.0  # a program may take max(FLOOR seconds, FACTOR times its reference)
_THOUGHT = re.compile(r"<think>.*?</think>|\A.*?</think>", re.S)
_TAGGED = re.compile(r"\[(?:BEGIN|PYTHON)\][ \t]*\n?(.*?)(?:\[DONE\]|\[/PYTHON\]|\Z)", re.S)
_END = re.compile(r"\[DONE\]|\[/PYTHON\]")
_FENCE = re.compile(r"[ \t]*(?:```+|~~~+)")
_ON_ONE_LINE = re.compile(
    r"^([ \t]*(?:```+|~~~+)(?:python|py)?)[ \t]+(?=\S+[ (])|(?<=\S)[ \t]*(?=(?:```+|~~~+)[ \t]*$)", re.M
)
_CODE = re.compile(
    r"(?:def|class|async def) \w|import \w|from [\w.]+ import |@\w|#|[\w.\[\]]+(?:, *\w+)* *(?::[^=]+)?[-+*]?=[^=]"
    r"|(?:if|for|while|try|with)\b.*:|[rbuf]*(?:\"{3}|'{3})|\w+\(.*\)$"
)
_TRIES = 300  # parses of a response, or thousands of characters parsed, at most


class _Part(NamedTuple):  # of a response, that is Python
    code: str
    defines: set[str]  # names, at its top
    reads: set[str]
    joined: bool = False


def extract_code(response: str, names: Iterable[str] = ()) -> str:
    """The program in a response: the longest part that is Python and defines ``names`` (else some of them, else
    anything): what stands in tags, in a fenced block, in several together where one needs another, or bare between
    lines of prose; without what is thought aloud. Where no part is Python, all from the first line that looks like
    code. Parsed, never run."""
    text = _THOUGHT.sub("", response.replace("\r\n", "\n"))
    pieces = _TAGGED.findall(text) or [_END.split(text)[0]]
    wanted, tries = set(names), [None] * _TRIES
    parts = [part for piece in pieces for part in _parts(piece, tries) if part.defines]
    if not parts:
        return _as_it_is(pieces[0])
    known = set().union(*(part.defines for part in parts))

    def worth(part: _Part) -> tuple:
        complete = not (part.reads - part.defines) & known
        return len(wanted & part.defines), complete, not part.joined, len(part.code)

    return max(parts, key=worth).code.rstrip() + "\n"


def _parts(text: str, tries: list) -> Iterator[_Part]:
    lines = _ON_ONE_LINE.sub(r"\1\n", text).split("\n")
    fences = [i for i, line in enumerate(lines) if _FENCE.match(line)][:16]
    blocks, reached = [], -1
    for n, start in enumerate(fences):
        for end in reversed((*fences[n + 1 :], len(lines))):  # a fence may also stand in a docstring
            if part := _part(textwrap.dedent("\n".join(lines[start + 1 : end])), tries):
                yield part
                if part.defines and start >= reached:
                    blocks.append(part)
                    reached = end
    if len(blocks) > 1 and (together := _part("\n".join(block.code for block in blocks), tries)):
        yield together._replace(joined=True)
    starts = [i for i, line in enumerate(lines) if line[:1].strip()] + [len(lines)]
    for n, start in enumerate(starts[:-1]):  # cut only where a line is not indented: half a function is none
        ends = reversed(starts[n + 1 :]) if tries and _CODE.match(lines[start]) else ()
        if part := next(filter(None, (_part("\n".join(lines[start:end]), tries) for end in ends if tries)), None):
            yield part


def _part(code: str, tries: list) -> _Part | None:
    """The part that a text is, without words at its end that only look like an expression; None: none, or no more tries."""
    if not tries:
        return None
    del tries[: 1 + len(code) // 1000]
    try:
        with warnings.catch_warnings(action="ignore"):
            body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    while body and isinstance(body[-1], ast.Expr) and not isinstance(body[-1].value, ast.Call | ast.Constant):
        code = "\n".join(code.split("\n")[: body.pop().lineno - 1])
    defines = {n.name for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    nodes = [node for statement in body for node in ast.walk(statement)]
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    defines |= stored | {(n.asname or n.name).split(".")[0] for n in nodes if isinstance(n, ast.alias)}
    return _Part(code, defines, {n.id for n in nodes if isinstance(n, ast.Name)}) if body else None


def _as_it_is(text: str) -> str:
    """What is no Python: the first fenced block, or all from the first line that looks like code, for its error."""
    lines = text.strip("\n").split("\n")
    start, end, *_ = [*(i for i, line in enumerate(lines) if _FENCE.match(line)), None, None]
    if start is not None:
        lines = lines[start + 1 : end] if start < len(lines) - 1 else lines[:start]
    first = next((i for i, line in enumerate(lines) if _CODE.match(line)), 0)
    return "\n".join(lines[first:]).rstrip() + "\n"


@dataclass(frozen=True)
class Programs(Task):
    """``allow`` is the least isolation accepted; ``unverified`` is what a pass counts as where the tests ask for more
    than calls with plain data, so that the program's word would have to be taken. As in `sandbox.check`."""

    allow: str = "kernel"
    unverified: str = "fail"

    def verdicts(self, pairs: Sequence[tuple], progress: Callable | None = None, workers: int | None = None,
                 challenge: bool = False) -> list[sandbox.Verdict]:  # fmt: skip
        """A full verdict for each pair, with the reason of a failure. ``challenge``: by the challenge tests.
        Equal programs of a problem run once; ``workers=None`` is one a core, or OMP_NUM_THREADS where that is set."""
        items = []
        for problem, response in pairs:
            names = read(problem.meta.get("setup", ""), tuple(problem.meta["tests"]))["functions"]
            items.append(self._item(problem, extract_code(response, names), challenge))
        distinct = Counter(items)
        sizes = iter(distinct.values())  # progress counts pairs, not programs
        count = (lambda _: progress(next(sizes))) if progress else None
        threads = os.environ.get("OMP_NUM_THREADS", "")  # says what this worker process may use
        workers = workers or (threads.isdigit() and int(threads)) or os.cpu_count() or 1
        check = functools.partial(sandbox.check_many, allow=self.allow, unverified=self.unverified)
        results = dict(zip(distinct, check(distinct, workers, count), strict=True))
        again = {}
        for (problem, _), item in zip(pairs, items, strict=True):
            if results[item].status == "timeout":  # too slow here and now: how slow is the reference?
                reference = self._item(problem, problem.reference, challenge)
                limit = FACTOR * _checked(reference, 60.0, self.allow).seconds
                if limit > FLOOR:
                    again[item] = (*item[:3], limit)
        results |= zip(again, check(again.values()), strict=True)
        return [results[item] for item in items]

    def grade(self, pairs: Sequence[tuple], progress: Callable | None = None, workers: int | None = None) -> list[str]:
        """ "pass", "fail", "timeout", or "error" where the sandbox itself failed: neither right nor wrong."""
        return [v.status for v in self.verdicts(pairs, progress, workers)]

    def corrupt(self, problem: Problem, rng: np.random.Generator) -> str:
        """The reference with a number, an operator or a comparison changed so that a test fails."""
        found = mutate.edits(problem.reference)
        for i in rng.permutation(len(found))[:12]:
            verdict = _checked(self._item(problem, found[i]), 0.5, self.allow)
            if verdict.status == "fail" and verdict.reason in ("wrong value", "exception"):  # it runs, and ends soon
                return found[i]
        return re.sub(r"(?m)^(\s*)return\b.*$", r'\1return "?"', problem.reference)  # which no test expects

    @staticmethod
    def _item(problem: Problem, program: str, challenge: bool = False) -> tuple:
        tests = problem.meta["challenge" if challenge else "tests"]
        return program, tuple(tests), problem.meta.get("setup", ""), FLOOR


@functools.lru_cache(1 << 16)
def _checked(item: tuple, seconds: float, allow: str) -> sandbox.Verdict:
    """Of one program in so many seconds, on this machine."""
    return sandbox.check_many([(*item[:3], seconds)], allow=allow)[0]
