"""Runs programs nobody has read and returns a verdict that they cannot forge: pass, fail, timeout or error.

    verdict = check("def f(x):\n    return 2 * x", ["assert f(2) == 4"])
    verdict.status, verdict.verified      # "pass", True

A pass needs two verdicts that agree. *Together*: program, setup and tests in order in one namespace, as Python does
it; but there the program could say anything. *Apart*: a judge runs setup and tests, and the program's functions are
called in another process, with plain data. Where the tests' text asks for more than that, `verified` is False.

Who may touch what:
  this file  keeps helpers, and asks one for a check; in the user's process
  reading    the tests' text; in the user's process
  helper     starts and ends processes; sees no text and no value
  candidate  together: program, setup and tests. Apart: the program, arguments of its calls; no test, no expected value
  judge      all texts, and plain data that came back (codec); runs no statement of the program. New for each check
  kernel     what Linux is asked for: namespaces, a jail, limits, seccomp, Landlock; knows nothing of checks

It knows nothing of language models. Not covered: code taken out of a response (tasks.programs), packages outside the
standard library, other languages; a program that keeps what it returned and changes it later (apart, the test has a
copy); side channels (time, load), holes in the kernel.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import logging
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from boostlib.sandbox import codec, reading

LEVELS = ("kernel", "process")
LONGEST = 86_400.0  # seconds
SPARE = 90.0  # seconds beyond its time after which a silent helper counts as lost
_log = logging.getLogger("boostlib.sandbox")


class Unavailable(RuntimeError):
    """The machine does not grant the level that was asked for; the message says what is missing."""


class Level(str):
    """The name of a level; ``memory`` says what bounds the memory of a check there."""

    memory: str = ""


@dataclass(frozen=True)
class Verdict:
    """``status``: pass, fail, timeout, or error (the sandbox failed: the program is neither right nor wrong).
    ``reason``, of a failure: syntax, exception, wrong value, exit, timeout or unverified; ``detail``: one printable
    line on it, or on why a pass is not ``verified``: both verdicts agree. ``passed``: tests that held, in order,
    before the end. ``seconds``: wall time of program and tests together."""

    status: str
    reason: str = ""
    detail: str = ""
    passed: int = 0
    seconds: float = 0.0
    verified: bool = False

    def __bool__(self) -> bool:
        raise TypeError("a Verdict is not a truth value; compare its status with 'pass'.")


class Lost(Exception):
    """A helper could not be started, died or fell silent, or could not start a process: why, and errno if known."""


class Helper:
    """One helper process; one check at a time. ``memory``: what bounds it at its level, in words."""

    def __init__(self, level: str):
        self.control, theirs = socket.socketpair()
        path = Path(__file__).with_name("helper.py")
        # As -I, but for the hash seed (the order of a set must be the same in every run), and one arena (else the
        # stacks of 7 threads use up the address space).
        command = [sys.executable, "-S", "-s", "-B", "-X", "utf8", str(path), str(theirs.fileno()), level]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        own = {"env": {"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"}, "cwd": "/", "start_new_session": True}
        with theirs:
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], **pipes, **own)
        with self.process.stderr as errors:
            try:
                state, self.memory, *code = codec.receive(self.control, deadline=time.monotonic() + SPARE)
            except TimeoutError:
                state, self.memory, *code = "refused", f"start Python: no answer in {SPARE:.0f} seconds"
            except (EOFError, OSError):
                last = errors.read().decode(errors="replace").strip().split("\n")[-1]
                state, self.memory, *code = "refused", f"start Python: {last or 'it ended at once'}"
        if state != "ready":
            self.close()
            raise Lost(self.memory, *code)

    def check(self, program: str, setup: str, tests: list[str], asked: dict, seconds: float) -> tuple:
        """(status, reason, detail, tests passed, seconds, verified) of one check. Raises Lost."""
        try:
            codec.send(self.control, [program, setup, tests, asked, seconds], time.monotonic() + SPARE)
            verdict = codec.receive(self.control, deadline=time.monotonic() + 4 * seconds + SPARE)
            if verdict[0] != "error":
                codec.receive(self.control, deadline=time.monotonic() + SPARE)  # no process of the check is left
        except (OSError, EOFError, codec.NotData) as e:
            raise Lost(f"the helper is gone ({type(e).__name__})") from e
        if verdict[0] == "error":
            raise Lost(verdict[2])
        return tuple(verdict)

    def close(self) -> None:
        self.control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()


class Pool:
    """Idle helpers, of the one level a process has. A forked copy of the user's process starts its own."""

    def __init__(self) -> None:
        self.idle: list[Helper] = []
        os.register_at_fork(after_in_child=self.idle.clear)

    def borrow(self, level: str) -> Helper:
        with contextlib.suppress(IndexError):  # none is left, as another thread may know first
            while (helper := self.idle.pop()).process.poll() is not None:
                helper.close()
            return helper
        return Helper(level)

    def close(self) -> None:
        """End the idle helpers. They also end by themselves when the user's process does."""
        with contextlib.suppress(IndexError):
            while True:
                self.idle.pop().close()


POOL = Pool()
atexit.register(POOL.close)


def check(program: str, tests: Iterable[str], setup: str = "", timeout: float = 5.0, **options: str) -> Verdict:
    """Run ``program``, ``setup`` and each of ``tests`` (assert statements), in ``timeout`` seconds; as `check_many`."""
    return check_many([(program, tests, setup, timeout)], **options)[0]


def check_many(items: Iterable[tuple], workers: int = 1, progress: Callable[[int], None] | None = None, *,
               allow: str = "kernel", unverified: str = "pass") -> list[Verdict]:  # fmt: skip
    """A verdict for each item, in order. An item has the arguments of `check`, of which setup and timeout may be left
    out. ``workers`` helpers work side by side; ``progress`` is called with increments. ``allow``: the least level of
    isolation accepted (see `level`); ``unverified``: what a pass that could not be verified counts as, "pass" or "fail".
    Raises ValueError for tests or a setup that are no Python, Unavailable where the machine grants less than ``allow``."""
    if unverified not in ("pass", "fail"):
        raise ValueError(f"unverified must be 'pass' or 'fail', not {unverified!r}.")
    work = [_request(*item) for item in items]
    granted = _granted(allow)
    done = []
    with ThreadPoolExecutor(max(1, min(workers, len(work)))) as threads:
        run = functools.partial(_run, granted)
        for verdict in threads.map(run, work) if len(work) > 1 else map(run, work):
            if verdict.status == "pass" and not verdict.verified and unverified == "fail":
                verdict = replace(verdict, status="fail", reason="unverified")
            done.append(verdict)
            if progress:
                progress(1)
    return done


def _request(program: str, tests: Iterable[str], setup: str = "", timeout: float = 5.0) -> tuple:
    if not isinstance(program, str):
        raise ValueError(f"A program is text, not {type(program).__name__}.")
    tests = tests if isinstance(tests, str) else tuple(tests)
    if isinstance(tests, str) or not all(isinstance(test, str) for test in tests):
        raise ValueError(f"tests is a list of assert statements, each a string, not {tests!r:.80}.")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST:
        raise ValueError(f"timeout must be a positive number of seconds, at most {LONGEST:,.0f}, not {timeout!r}.")
    return program, setup, tests, reading.read(setup, tests), float(timeout)


def _run(granted: str, request: tuple) -> Verdict:
    helper = None
    try:
        helper = POOL.borrow(granted)
        status, reason, detail, *rest = helper.check(*request)
    except BaseException as e:  # lost, or interrupted: its channel may hold half an answer
        if helper:
            helper.close()
        if not isinstance(e, Lost):
            raise
        return Verdict("error", "sandbox", e.args[0])
    POOL.idle.append(helper)
    return Verdict(status, reason, "".join(c if c.isprintable() else " " for c in detail[:300]), *rest)


def level() -> Level:
    """What this machine grants, probed once: "kernel" (namespaces: no other file, process or network is there),
    "process" (a separate process that reads the standard library and writes nothing, by limits, seccomp and Landlock,
    but in sight of the host), or "none": programs are not run. Its ``memory`` says what bounds that of a check."""
    return _probe()[0]


def _granted(allow: str) -> str:
    """The level to use, at least ``allow``."""
    if allow not in LEVELS:
        raise ValueError(f"Unknown level {allow!r}; known: {', '.join(LEVELS)}.")
    found, why = _probe()
    if found == "none" or found > allow:  # in the order of the alphabet
        less = (
            f" To accept less for programs you trust, ask for it by name: allow={found!r}." if found != "none" else ""
        )
        raise Unavailable(why + less)
    return found


@functools.cache
def _probe() -> tuple[Level, str]:
    """(level, what is missing for a better one)."""
    why, tests = "", ("assert f() == [1]",)
    for found in map(Level, LEVELS):
        try:
            helper = Helper(found)
            status, _, detail, *_, verified = helper.check(*_request("def f(): return [1]", tests))
            if not verified:
                raise Lost(f"a probe was answered with {status} {detail}")
        except Lost as e:
            why = why or _missing(*e.args)
            continue
        POOL.idle.append(helper)
        found.memory = helper.memory
        _log.info("sandbox level: %s (%s) %s", found, found.memory, why)
        return found, why
    return Level("none"), why


def _missing(refusal: str, code: int = 0, *_: object) -> str:
    lacks = f"This machine does not grant the isolation of untrusted programs (refused: {refusal}). "
    space = resource.getrlimit(resource.RLIMIT_AS)[1]
    if code == errno.ENOMEM or "Memory" in refusal or (space != resource.RLIM_INFINITY and space < 1 << 31):
        return f"{lacks}The address space of a process is limited (ulimit -v) or memory is short: allow 2 GiB."
    if code == errno.EAGAIN:
        return f"{lacks}No more processes may be started (ulimit -u)."
    return f"""{lacks}On Linux, allow unprivileged user namespaces: sysctl user.max_user_namespaces=10000, and where they \
exist kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0; in Docker, start the container \
with --security-opt seccomp=unconfined --security-opt apparmor=unconfined. Elsewhere, use a Linux machine."""
