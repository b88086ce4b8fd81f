"""Helpers, from the user's process: start one, hand it checks, notice its death, put it back.

Not covered: what happens inside (helper), which level may be used (the package's front).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from boostlib.sandbox import codec

SPARE = 60.0  # seconds beyond its time after which a silent helper counts as lost


class Lost(Exception):
    """The helper died or fell silent during a check, or could not start a process."""


class Refused(Exception):
    """The machine refused a level: ``args`` are the step with its reason, and errno."""


class Helper:
    """One helper process; one check at a time. ``memory``: what bounds it at its level, in words."""

    def __init__(self, level: str):
        self.control, theirs = socket.socketpair()
        path = Path(__file__).with_name("helper.py")
        # As -I, but for the hash seed (the order of a set must be the same in every run), and one arena (else the
        # stacks of 7 threads use up the address space).
        command = [sys.executable, "-S", "-s", "-P", "-B", "-X", "utf8", str(path), str(theirs.fileno()), level]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        own = {"env": {"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"}, "cwd": "/", "start_new_session": True}
        with theirs:
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], **pipes, **own)
        with self.process.stderr as errors:
            try:
                state, *said = codec.receive(self.control, deadline=time.monotonic() + SPARE)
            except EOFError:
                last = errors.read().decode(errors="replace").strip().split("\n")[-1]
                state, *said = "refused", f"start Python: {last or 'it ended at once'}", 0
            except OSError:
                state, *said = "refused", "start Python: no answer in 60 seconds", 0
        if state != "ready":
            self.close()
            raise Refused(*said)
        (self.memory,) = said

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
        self.lock, self.idle, self.owner = threading.Lock(), [], os.getpid()

    def borrow(self, level: str) -> Helper:
        with self.lock:
            if self.owner != os.getpid():
                self.idle, self.owner = [], os.getpid()
            while self.idle:
                helper = self.idle.pop()
                if helper.process.poll() is None:
                    return helper
                helper.close()
        return Helper(level)

    def give_back(self, helper: Helper) -> None:
        with self.lock:
            self.idle.append(helper)

    def close(self) -> None:
        """End the idle helpers. They also end by themselves when the user's process does."""
        with self.lock:
            idle, self.idle = (self.idle, []) if self.owner == os.getpid() else ([], [])
        for helper in idle:
            helper.close()


POOL = Pool()
atexit.register(POOL.close)
