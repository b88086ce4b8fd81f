"""Helpers, from the user's process: start one, hand it checks, notice its death, put it back.

Not covered: what happens inside (helper), which level may be used (the package's front).
"""

from __future__ import annotations

import atexit
import json
import marshal
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from boostlib.sandbox import codec

SPARE = 20.0  # seconds beyond timeout and grace after which a silent helper counts as lost


class Lost(Exception):
    """The helper died or fell silent during a check."""


class Refused(Exception):
    """The machine refused a level: ``args`` are the step, errno and its text."""


class Helper:
    """One helper process; one check at a time."""

    def __init__(self, level: str):
        self.level = level
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = Path(__file__).with_name("helper.py")
        # As -I, but for the hash seed: the order of a set must be the same in every run.
        command = [sys.executable, "-S", "-s", "-P", "-B", "-X", "utf8", str(path), str(theirs.fileno()), level]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PYTHONHASHSEED": "0"},
            cwd="/",
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self.control.settimeout(60)
        try:
            answer = json.loads(self.control.recv(4096) or b'["start Python", 0, "it ended at once"]')
        except OSError:
            answer = ["start Python", 0, "no answer in 60 seconds"]
        if answer:
            self.close()
            raise Refused(*answer)

    def check(self, program: str, setup: str, plan: bytes, seconds: float) -> list:
        """[status, reason, detail, tests passed, seconds] of one check. Raises Lost."""
        request = marshal.dumps((program, setup, plan))
        ours, theirs = socket.socketpair()
        try:
            with ours:
                self.control.settimeout(seconds + SPARE)
                ours.settimeout(seconds + SPARE)
                with theirs:
                    socket.send_fds(self.control, [repr(float(seconds)).encode()], [theirs.fileno()])
                self._tell(ours, request)
                state = self.control.recv(64)  # first, so that nothing of the check is left when we go on
                verdict = self._hear(ours)
        except OSError as e:
            raise Lost(f"the helper is gone ({type(e).__name__})") from e
        match state.decode().split(" ", 1):
            case ["done", code] if verdict is not None:
                return _with_end(verdict, int(code))
            case ["late", _]:
                return ["timeout", "timeout", "", 0, seconds]
            case ["refused", why]:
                raise Lost(f"no candidate could be started: {why}")
        raise Lost("the helper or its judge was killed")

    @staticmethod
    def _tell(ours: socket.socket, request: bytes) -> None:
        try:
            codec.send_bytes(ours, request)
        except (BrokenPipeError, ConnectionResetError):  # the judge died; the helper knows why
            pass

    @staticmethod
    def _hear(ours: socket.socket) -> list | None:
        try:
            return codec.receive(ours)
        except (EOFError, ConnectionResetError):
            return None

    def close(self) -> None:
        self.control.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _with_end(verdict: list, code: int) -> list:
    """The verdict; of a program that ended before its tests did, how it ended."""
    if verdict[1] == "exit":
        how = f"left with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
        verdict[2] = f"the program {'closed its channel, or ' if code == -9 else ''}{how} before its tests were done"
    return verdict


class Pool:
    """Idle helpers by level. A forked copy of the user's process starts its own."""

    def __init__(self) -> None:
        self.lock, self.idle, self.owner = threading.Lock(), [], os.getpid()

    def borrow(self, level: str) -> Helper:
        with self.lock:
            if self.owner != os.getpid():
                self.idle, self.owner = [], os.getpid()
            for helper in [h for h in self.idle if h.level == level]:
                self.idle.remove(helper)
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
