"""Runs programs nobody has read and returns a verdict that they cannot forge: pass, fail, timeout or error.

    verdict = check("def f(x):\n    return 2 * x", ["assert f(2) == 4"])
    verdict.status, verdict.reason      # "pass", ""

A helper process (helper.py) forks, for each check, a judge and, a PID namespace deeper, the candidate. The
candidate runs the program; the judge runs the asserts and lets only plain data in (judge.py, codec.py).
What Linux is asked for is in kernel.py. It knows nothing of language models.

Not covered: extraction of code from a response (tasks/mbpp), packages outside the standard library, other
languages, protection from side channels (time, load) and from holes in the kernel.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from boostlib.sandbox.plan import plan
from boostlib.sandbox.pool import POOL, Helper, Lost, Refused

LEVELS = ("kernel", "process", "none")
_log = logging.getLogger("boostlib.sandbox")


class Unavailable(RuntimeError):
    """The machine does not grant the level that was asked for; the message says what is missing."""


@dataclass(frozen=True)
class Verdict:
    """``status``: pass, fail, timeout, or error (the sandbox failed: the program is neither right nor wrong).
    ``reason``, of a failure: syntax, exception, wrong value, exit or timeout; ``detail``: one line on it.
    ``passed``: tests that held, in order, before the end. ``seconds``: wall time of program and tests."""

    status: str
    reason: str = ""
    detail: str = ""
    passed: int = 0
    seconds: float = 0.0

    def __bool__(self) -> bool:
        raise TypeError("a Verdict is not a truth value; compare its status with 'pass'.")


def check(
    program: str, tests: Iterable[str], setup: str = "", timeout: float = 5.0, *, allow: str = "kernel"
) -> Verdict:
    """Run ``program``, then ``setup``, then each of ``tests`` (assert statements) within ``timeout`` seconds.

    ``allow`` names the least level of isolation accepted (see ``level``). Raises ValueError for tests or a
    setup that are no Python, Unavailable where the machine grants less than ``allow``.
    """
    return _run(*_request(program, tests, setup, timeout), _granted(allow))


def check_many(
    items: Iterable[tuple],
    workers: int = 1,
    progress: Callable[[int], None] | bool | None = None,
    *,
    allow: str = "kernel",
) -> list[Verdict]:
    """A verdict for each item, in order. An item is (program, tests), (program, tests, setup) or (program,
    tests, setup, timeout), as for ``check``. ``workers`` helpers work side by side; ``progress`` is called
    with increments, or True for a bar."""
    work = [_request(*item) for item in items]
    granted = _granted(allow)
    bar = None
    if progress is True:
        from tqdm.auto import tqdm

        bar = tqdm(total=len(work), desc="checks", unit="check")
        progress = bar.update

    done = []
    try:
        with ThreadPoolExecutor(max(1, min(workers, len(work)))) as threads:
            for verdict in threads.map(lambda w: _run(*w, granted), work):
                done.append(verdict)
                if progress:
                    progress(1)
        return done
    finally:
        if bar is not None:
            bar.close()


def _request(program: str, tests: Iterable[str], setup: str = "", timeout: float = 5.0) -> tuple:
    if not isinstance(program, str):
        raise ValueError(f"A program is text, not {type(program).__name__}.")
    tests = tests if isinstance(tests, str) else tuple(tests)
    if isinstance(tests, str) or not all(isinstance(test, str) for test in tests):
        raise ValueError(f"tests is a list of assert statements, each a string, not {tests!r:.80}.")
    if not timeout > 0:
        raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}.")
    return program, setup, plan(setup, tests), float(timeout)


def _run(program: str, setup: str, tests: bytes, seconds: float, granted: str) -> Verdict:
    try:
        helper = POOL.borrow(granted)
    except Refused as e:
        return Verdict("error", "sandbox", f"no helper could be started: {_reads(e)}")
    try:
        status, reason, detail, passed, spent = helper.check(program, setup, tests, seconds)
    except Lost as e:
        helper.close()
        return Verdict("error", "sandbox", str(e))
    except BaseException:  # interrupted: its channel may hold half an answer
        helper.close()
        raise
    POOL.give_back(helper)
    return Verdict(status, reason, detail, passed, spent)


def level() -> str:
    """What this machine grants, probed once: "kernel" (namespaces: no other file, process or network is there), "process"
    (a separate process with limits, seccomp and Landlock, but in sight of the host), or "none"."""
    return _probe()[0]


def _granted(allow: str) -> str:
    """The level to use, at least ``allow``."""
    if allow not in LEVELS:
        raise ValueError(f"Unknown level {allow!r}; known: {', '.join(LEVELS)}.")
    found, why = _probe()
    if LEVELS.index(found) > LEVELS.index(allow):
        raise Unavailable(f"{why} To accept less for programs you trust, ask for it by name: allow={found!r}.")
    return found


@functools.cache
def _probe() -> tuple[str, str]:
    """(level, what is missing for a better one)."""
    why = ""
    for candidate in LEVELS:
        try:
            helper = Helper(candidate)
            status, _, detail, *_ = helper.check("x = 1", "", plan("", ("assert x == 1",)), 10.0)
        except (Refused, Lost) as e:
            why = why or _missing(_reads(e))
            continue
        if status == "pass":
            POOL.give_back(helper)
            _log.info("sandbox level: %s%s", candidate, why and f" ({why})")
            return candidate, why
        helper.close()
        why = why or _missing(detail)
    raise Unavailable(f"No helper process can be started on this machine. {why}")


def _reads(error: Exception) -> str:
    return f"{error.args[0]}: {error.args[2]}" if isinstance(error, Refused) else str(error)


def _missing(refusal: str) -> str:
    return (
        f"This machine does not grant the namespaces that isolate untrusted programs (refused: {refusal}). "
        "On Linux, allow unprivileged user namespaces: sysctl user.max_user_namespaces=10000, and where they exist "
        "kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0; in Docker, start the "
        "container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined. "
        "On other systems, use a Linux machine or virtual machine."
    )
