"""The judge: isolates itself, starts the candidate one PID namespace deeper, and runs the asserts.

A test is ordinary Python, executed here, where no statement of the candidate's ever runs. The names the
program defined are stand-ins (peer), so the comparison and the expected value stay on this side. No assert
needs to run beside the candidate, hence no secret (nonce) has to be kept from it.

Not covered: killing a judge that hangs, and whatever is left of a candidate (helper).
"""

from __future__ import annotations

import builtins
import dataclasses
import importlib
import marshal
import math
import os
import resource
import signal
import socket
import time

import candidate
import codec
import kernel
from peer import Over, Peer
from plan import HELPERS, LIBRARY

_HELPERS = vars(builtins) | vars(math)


class Tests:
    """The tests of one check, as `plan` made them, and the namespace they run in."""

    def __init__(self, peer: Peer, plan: bytes):
        self.peer = peer
        self.steps, self.wanted, self.shadowed, constants = marshal.loads(plan)
        self.space: dict[str, object] = {"__name__": "__tests__", "__builtins__": builtins, **constants}
        self.ours = set(constants)

    def run(self, number: int) -> None:
        code, read, dotted = self.steps[number]
        for name in read:
            if name not in self.ours:
                self.space.pop(name, None)
                self.bind(name, name in dotted)
        before = set(self.space)
        exec(code, self.space)
        self.ours |= set(self.space) - before

    def bind(self, name: str, dotted: bool) -> None:
        """Give a name the program defined its meaning in a test: the library's, ours, or a stand-in."""
        if name not in self.peer.globals:
            return
        said = self.peer.globals[name]
        if name in LIBRARY and (dotted or said == ["m"]):
            self.space[name] = importlib.import_module(name)
        elif name in HELPERS and name not in self.shadowed:
            self.space[name] = _HELPERS[name]
        elif said != ["m"]:
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


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a check happens, as the helper set it up."""

    level: str
    uid: int
    gid: int
    proc: int  # a descriptor of /proc, -1 below level kernel
    null: int  # /dev/null
    readable: list[int]  # the standard library's directories
    folder: str  # the only writable one

    def isolate(self) -> None:
        """Namespaces of this check's own; what is forked next is the first process of the PID namespace."""
        if self.level == "kernel":
            kernel.first_victim(self.proc)
            kernel.unshare(kernel.ALL, "unshare user, pid, net, mount, ipc, uts")
            kernel.map_user(self.proc, self.uid, self.gid)
            kernel.mount("tmp", self.folder, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, kernel.SMALL)
            kernel.drop_rights()
            kernel.seccomp("check")

    def confine(self, channel: int, seconds: float) -> None:
        """What holds for the candidate alone: its three files and its channel, its folder, its limits."""
        os.setsid()  # or a signal to its process group would reach us
        os.chdir(self.folder)
        if self.level == "process":
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            kernel.landlock(self.readable, self.folder)
        os.dup2(channel, 3)
        for fd in (0, 1, 2):
            os.dup2(self.null, fd)
        os.closerange(4, 1 << 20)
        kernel.limit(seconds, alone=self.level == "kernel")
        if self.level == "process":
            kernel.seccomp("process")


def main(sock: socket.socket, place: Place, seconds: float) -> None:
    """One check: the request comes, and the verdict leaves, over ``sock``, which the candidate never has."""
    try:
        place.isolate()
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        ours, theirs = socket.socketpair()
        pid = os.fork()  # before the request is read: the candidate's memory has never held a test
        if pid == 0:
            try:
                place.confine(theirs.fileno(), seconds)
                candidate.main(socket.socket(fileno=3))
            finally:
                os._exit(1)
    except BaseException as e:
        codec.send(sock, ["error", "sandbox", f"{type(e).__name__}: {e}", 0, 0.0])
        os._exit(1)
    theirs.close()
    program, setup, plan = marshal.loads(codec.receive_bytes(sock, 1 << 30))
    peer = Peer(ours, pid)
    start = time.monotonic()
    peer.deadline = start + seconds
    verdict = judge(peer, program, setup, plan)
    spent = time.monotonic() - start
    if peer.pid:
        os.kill(peer.pid, signal.SIGKILL)  # the first process of its namespace: all others die with it
        os.waitpid(peer.pid, 0)
    codec.send(sock, [*verdict, spent])
