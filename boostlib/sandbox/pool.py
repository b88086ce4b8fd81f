"""Helpers, from the user's process: start one, hand it checks, notice its death, put it back.

Not covered: what happens inside (helper), which level may be used (the package's front).
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from boostlib.sandbox import codec

SPARE = 20.0  # seconds beyond its time after which a silent helper counts as lost
CLAIM = 4096  # bytes of what a candidate may say to this process
_REASONS = ("syntax", "exception", "wrong value", "exit")


class Lost(Exception):
    """The helper died or fell silent during a check, or could not start a process."""


class Refused(Exception):
    """The machine refused a level: ``args`` are the step with its reason, and errno."""


class Helper:
    """One helper process; one check at a time. ``memory``: what bounds it at its level, in words."""

    def __init__(self, level: str):
        self.level = level
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(60)
        path = Path(__file__).with_name("helper.py")
        # As -I, but for the hash seed (the order of a set must be the same in every run), and one arena (else the
        # stacks of 7 threads use up the address space).
        command = [sys.executable, "-S", "-s", "-P", "-B", "-X", "utf8", str(path), str(theirs.fileno()), level]
        environment = {"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": "/"}
        fds = [theirs.fileno()]
        with theirs:
            self.process = subprocess.Popen(command, env=environment, pass_fds=fds, start_new_session=True, **pipes)
        with self.process.stderr as errors:
            try:
                answer = self.control.recv(4096)
            except OSError:
                answer = b'["refused", "start Python: no answer in 60 seconds", 0]'
            last = "" if answer else errors.read().decode(errors="replace").strip().split("\n")[-1]
        state, *said = json.loads(answer) if answer else ["refused", f"start Python: {last or 'it ended at once'}", 0]
        if state != "ready":
            self.close()
            raise Refused(*said)
        (self.memory,) = said

    def check(self, program: str, setup: str, tests: list[str], asked: dict, seconds: float) -> tuple:
        """(status, reason, detail, tests passed, seconds, verified) of one check. Raises Lost."""
        verified = False
        try:
            with ExitStack() as ends:  # open until all has ended: how a program ends is its own doing
                status, reason, detail, passed, spent = self.together([program, setup, tests], seconds, ends)
                if status == "pass" and not asked["why"]:
                    request = [program, setup, tests, asked]
                    status, reason, detail, passed = self.apart(request, 3 * seconds + 2, ends)
                    verified = status == "pass"
                codes = self.end()
        except (OSError, ValueError) as e:
            raise Lost(f"the helper is gone ({type(e).__name__})") from e
        if status == "refused":
            status, reason, passed = "pass", "", len(tests)
        elif status == "ended":  # the judge, by its alarm or by what the program had it take in
            late = codes[-1] == -signal.SIGALRM
            status, reason, detail = ("timeout", "timeout", "") if late else ("fail", "exception", "it ended the judge")
        elif reason == "exit" and not detail:
            (code,) = codes[-2:][:1]  # a judge comes after its candidate
            how = f"left with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
            detail = f"the program {'closed its channel, or ' * (code == -9)}{how} before its tests were done"
        return status, reason, detail or (status == "pass" and asked["why"]) or "", passed, spent, verified

    def together(self, request: list, seconds: float, ends: ExitStack) -> list:
        """As Python does it: what the candidate claims of program, setup and tests in one namespace, with the time."""
        ours, theirs = socket.socketpair()
        ends.enter_context(ours)
        self.order("together", seconds, theirs)
        ready, start = False, time.monotonic()
        try:
            ready, start = codec.receive(ours, CLAIM, start + SPARE) == "ready", time.monotonic()
            codec.send(ours, ["together", *request], start + seconds)
            claim = codec.receive(ours, CLAIM, start + seconds)
        except TimeoutError:
            claim = None
        except (EOFError, OSError):
            claim = ["exit", "", 0]
        except codec.NotData as e:
            claim = ["exception", f"the program's answer is {e}", 0]
        spent = time.monotonic() - start
        if not ready:
            self.end()
            raise Lost("the candidate could not be confined")
        match claim:
            case None:
                return ["timeout", "timeout", "", 0, seconds]
            case ["", "", int(passed)]:
                return ["pass", "", "", passed, spent]
            case [str(reason), str(detail), int(passed)] if reason in _REASONS:
                return ["fail", reason, detail, passed, spent]
        return ["fail", "exception", "the program's answer is no answer", 0, spent]

    def apart(self, request: list, seconds: float, ends: ExitStack) -> list:
        """The judge's verdict: [status, reason, detail, tests passed]; "refused" where it cannot be had."""
        ours, check = socket.socketpair()
        ends.enter_context(ours)
        asking, channel = socket.socketpair()
        self.order("apart", seconds, channel, check, asking)
        try:
            codec.send(ours, [seconds, *request], time.monotonic() + seconds + SPARE)
            return codec.receive(ours, codec.MOST, time.monotonic() + seconds + SPARE)
        except TimeoutError:
            return ["timeout", "timeout", "", 0]
        except (EOFError, OSError):
            return ["ended", "", "", 0]

    def order(self, what: str, seconds: float, *theirs: socket.socket) -> None:
        """Have the helper do ``what``, with ends of channels that are its own from then on."""
        self.control.settimeout(SPARE)
        try:
            socket.send_fds(self.control, [f"{what} {seconds}".encode()], [end.fileno() for end in theirs])
        finally:
            for end in theirs:
                end.close()

    def end(self) -> list[int]:
        """End the check: exit codes of its processes. Raises Lost for one that could not be started."""
        self.order("end", 0.0)
        codes, refused = json.loads(self.control.recv(4096))
        if refused:
            raise Lost(f"no process could be started: {refused}")
        return codes

    def close(self) -> None:
        self.control.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Pool:
    """Idle helpers. A forked copy of the user's process starts its own."""

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
