"""The judge: runs the asserts, in a process of its own that no candidate is ever forked from.

A test is ordinary Python, executed here, where no statement of the candidate's ever runs. The names the
program defined are stand-ins (peer), so the comparison and the expected value stay on this side. No assert
needs to run beside the candidate, hence no secret (nonce) has to be kept from it.

Not covered: starting and ending candidates, and a judge that hangs (helper).
"""

from __future__ import annotations

import builtins
import importlib
import marshal
import resource
import socket
import sys
import time

import codec
from peer import Over, Peer
from plan import HELPERS, LIBRARY


class Tests:
    """The tests of one check, as `plan` made them, and the namespace they run in."""

    def __init__(self, peer: Peer, plan: bytes):
        self.peer = peer
        setup, self.steps, self.wanted, self.shadowed = marshal.loads(plan)
        self.space: dict[str, object] = {"__name__": "__tests__", "__builtins__": builtins}
        self.ours: set[str] = set()
        for code, defined in setup:
            try:
                exec(code, self.space)
                self.ours |= set(defined)
            except Exception:  # then it is the candidate's after all
                pass

    def run(self, number: int) -> None:
        code, read, dotted = self.steps[number]
        for name in read:
            if name not in self.ours:
                self.space.pop(name, None)
                self.bind(name, name in dotted)
        before = set(self.space)
        exec(code, self.space)
        if self.peer.over is not None:  # a bare except must not hide that the candidate is gone
            raise self.peer.over
        self.ours |= set(self.space) - before

    def bind(self, name: str, dotted: bool) -> None:
        """Give a name the program defined its meaning in a test: the library's, ours, or a stand-in."""
        if name not in self.peer.globals:
            return
        said = self.peer.globals[name]
        if said == ["m"]:
            if name in sys.stdlib_module_names:
                self.space[name] = importlib.import_module(name)
        elif name in LIBRARY and dotted:  # "datetime.strptime" is of the class, if that is what was imported
            module = importlib.import_module(name)
            self.space[name] = getattr(module, name, module)
        elif name in HELPERS and name not in self.shadowed:
            self.space[name] = HELPERS[name]
        else:
            self.space[name] = self.peer.decode(said)


def judge(peer: Peer, program: str, setup: str, plan: bytes) -> list:
    """status, reason, detail, tests passed."""
    passed = 0
    try:
        tests = Tests(peer, plan)
        peer.send(["run", program, setup, tests.wanted])
        peer.ready()
        try:
            peer.answer()
        except SyntaxError as e:
            return ["fail", "syntax", getattr(e, "candidate", ""), 0]
        for number in range(len(tests.steps)):
            tests.run(number)
            passed += 1
        if time.monotonic() > peer.deadline:
            raise Over("timeout", "timeout", "")
        return ["pass", "", "", passed]
    except Over as e:
        return [*e.args, passed]
    except AssertionError as e:
        if not hasattr(e, "candidate"):
            return ["fail", "wrong value", f"test {passed + 1} is false", passed]
        return ["fail", "exception", e.candidate, passed]
    except Exception as e:
        return ["fail", "exception", getattr(e, "candidate", f"{type(e).__name__}: {e}")[:300], passed]


def one(check: socket.socket, channel: socket.socket, seconds: float) -> None:
    """One check: the request comes, and the verdict leaves, over ``check``, which the candidate never has."""
    program, setup, plan = marshal.loads(codec.receive_bytes(check, 1 << 30))
    start = time.monotonic()
    peer = Peer(channel, start + seconds)
    verdict = judge(peer, program, setup, plan)
    codec.send(check, [*verdict, time.monotonic() - start])


def serve(helper: socket.socket) -> None:
    """Checks as they come: two descriptors each, the user's process and a candidate."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    while True:
        data, fds, _, _ = socket.recv_fds(helper, 64, 2)
        if not data:
            return
        with socket.socket(fileno=fds[0]) as check, socket.socket(fileno=fds[1]) as channel:
            try:
                one(check, channel, float(data))
            except (EOFError, OSError):  # the user's process has gone
                pass
        helper.send(b"done")
