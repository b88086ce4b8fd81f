"""Tasks whose responses are programs, judged by tests in the sandbox.

A problem's ``meta`` has "tests" (assert statements), "setup" (code between the program and the tests) and
"challenge" (harder asserts that are never shown or trained on: they measure the filter's own error).

Not covered: the problems themselves (mbpp, mbpp_mini), how a program is run (sandbox).
"""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from boostlib import sandbox
from boostlib.tasks import Problem, Task, mutate

FLOOR, FACTOR = 3.0, 4.0  # a program may take max(FLOOR seconds, FACTOR times its reference)
_FENCED = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.M | re.S)
_TAGGED = re.compile(r"\[BEGIN\][ \t]*\n?(.*?)(?:\[DONE\]|\Z)", re.S)
_CODE = re.compile(
    r"(?:def|class|async def) \w|import \w|from [\w.]+ import |@\w|#|\w+(?:, *\w+)* *=[^=]|(?:if|for|while|try|with)\b.*:"
)
_DEFINES = re.compile(r"^\s*(?:def|class)\b", re.M)
_END = re.compile(r"\[DONE\]|^[ \t]*```", re.M)


def extract_code(response: str) -> str:
    """The program in a response: what stands between [BEGIN] and [DONE], in the first fenced block that defines
    something, or else from the first line that looks like code; never parsed here, for it is no one's."""
    tagged = _TAGGED.search(response)
    if tagged:
        response = tagged[1]
    blocks = _FENCED.findall(response)
    defining = [b for b in blocks if _DEFINES.search(b)]
    if defining or (blocks and not _DEFINES.search(response)):
        return (defining or blocks)[0]
    end = _END.search(response)
    lines = (response[: end.start()] if end else response).strip("\n").split("\n")
    first = next((i for i, line in enumerate(lines) if _CODE.match(line)), 0)
    return "\n".join(lines[first:]).rstrip() + "\n"


@dataclass(frozen=True)
class Programs(Task):
    """``allow`` is the least isolation accepted; ``unverified`` is what a pass counts as where the tests ask for more
    than calls with plain data, so that the program's word would have to be taken. As in `sandbox.check`."""

    allow: str = "kernel"
    unverified: str = "fail"

    def _check(self, items: Iterable[tuple], workers: int = 1, progress: Callable | None = None) -> list[sandbox.Verdict]:
        return sandbox.check_many(items, workers, progress, allow=self.allow, unverified=self.unverified)

    def verdicts(
        self,
        pairs: Sequence[tuple[Problem, str]],
        progress: Callable[[int], None] | None = None,
        workers: int | None = None,
        challenge: bool = False,
    ) -> list[sandbox.Verdict]:
        """A full verdict for each pair, with the reason of a failure. ``challenge``: by the challenge tests.
        Equal programs of a problem run once; ``workers=None`` is one a core, or OMP_NUM_THREADS where that is set."""
        items: dict[tuple, int] = {}
        places = []
        for problem, response in pairs:
            item = self._item(problem, extract_code(response), challenge)
            places.append(items.setdefault(item, len(items)))
        sizes = iter(Counter(places).values())  # progress counts pairs, not programs
        count = (lambda _: progress(next(sizes))) if progress else None
        results = self._check(items, workers or _share(), count)
        again = {}  # too slow here and now: how slow is the reference?
        for i, (item, result) in enumerate(zip(items, results, strict=True)):
            if result.status == "timeout":
                problem = pairs[places.index(i)][0]
                limit = FACTOR * _reference_seconds(self._item(problem, problem.reference, challenge), self.allow)
                if limit > FLOOR:
                    again[i] = (*item[:3], limit)
        for i, result in zip(again, self._check(again.values()), strict=True):
            results[i] = result
        return [results[i] for i in places]

    def grade(
        self,
        pairs: Sequence[tuple[Problem, str]],
        progress: Callable[[int], None] | None = None,
        workers: int | None = None,
    ) -> list[str]:
        """ "pass", "fail", "timeout", or "error" where the sandbox itself failed: neither right nor wrong."""
        return [v.status for v in self.verdicts(pairs, progress, workers)]

    def corrupt(self, problem: Problem, rng: np.random.Generator) -> str:
        """The reference with a number, an operator or a comparison changed so that a test fails."""
        found = mutate.edits(problem.reference)
        for i in rng.permutation(len(found))[:12]:
            wrong = found[i].apply(problem.reference)
            if _is_wrong(self._item(problem, wrong), self.allow):
                return wrong
        return mutate.returns_nothing(problem.reference)

    @staticmethod
    def _item(problem: Problem, program: str, challenge: bool = False) -> tuple:
        tests = problem.meta["challenge" if challenge else "tests"]
        return program, tuple(tests), problem.meta.get("setup", ""), FLOOR


def _share() -> int:
    """Cores for checks: those of the machine, or of this worker process, which says in OMP_NUM_THREADS what it may use."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if threads.isdigit() and int(threads) else os.cpu_count() or 1


@functools.lru_cache(1 << 16)
def _is_wrong(item: tuple, allow: str) -> bool:
    """Whether a program runs, ends soon, and is wrong."""
    verdict = sandbox.check_many([(*item[:3], 0.5)], allow=allow)[0]
    return verdict.status == "fail" and verdict.reason in ("wrong value", "exception")


@functools.lru_cache(1 << 12)
def _reference_seconds(item: tuple, allow: str) -> float:
    """Wall time of the reference on this machine, 60 seconds at most."""
    return sandbox.check_many([(*item[:3], 60.0)], allow=allow)[0].seconds
