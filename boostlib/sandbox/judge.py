"""The judge: isolates itself, starts the candidate one PID namespace deeper, and runs the asserts.

A test is ordinary Python, executed here, where no statement of the candidate's ever runs. The names the
program defined are stand-ins (peer), so the comparison and the expected value stay on this side. No assert
needs to run beside the candidate, hence no secret (nonce) has to be kept from it.

Not covered: killing a judge that hangs, and whatever is left of a candidate (helper).
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import importlib
import math
import os
import resource
import signal
import socket
import time

import candidate
import codec
import kernel
from peer import LIBRARY, Over, Peer

# Functions a test may apply to a result.
_HELPERS = {name: getattr(math, name) for name in dir(math) if name[0] != "_"}
_HELPERS |= {name: getattr(builtins, name) for name in dir(builtins) if name[0] != "_"}


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
        match node:
            case ast.Attribute(value=ast.Name(id=name)):
                dotted.append(name)
    return set(read) - defined, {n for n in dotted if dotted.count(n) == read.count(n)}


def _innermost_call(tree: ast.AST) -> str | None:
    """The function called first when an expression is evaluated from the left."""
    for child in ast.iter_child_nodes(tree):
        if (found := _innermost_call(child)) is not None:
            return found
    return tree.func.id if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) else None


class Tests:
    """The asserts of one check and the namespace they run in."""

    def __init__(self, peer: Peer, setup: str, tests: list[str]):
        self.peer, self.trees = peer, [ast.parse(t) for t in tests]
        self.space: dict[str, object] = {"__name__": "__tests__", "__builtins__": builtins}
        self.ours: set[str] = set()
        for node in ast.parse(setup).body:  # constants of the setup are ours, whatever the program does to its own
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    try:
                        self.space[name] = ast.literal_eval(value)
                        self.ours.add(name)
                    except ValueError:
                        pass
        self.names = [_names(t) for t in self.trees]
        self.wanted = set().union(*(read for read, _ in self.names)) - self.ours
        # A helper's name (sum, isclose) is the candidate's only where no other name could be the one under test.
        under_test = self.wanted - LIBRARY - set(_HELPERS)
        self.shadowed = set() if under_test else {_innermost_call(t) for t in self.trees}

    def run(self, number: int) -> None:
        read, dotted = self.names[number]
        for name in read - self.ours:
            self.space.pop(name, None)
            self.bind(name, name in dotted)
        before = set(self.space)
        exec(compile(self.trees[number], "<test>", "exec"), self.space)
        self.ours |= set(self.space) - before

    def bind(self, name: str, dotted: bool) -> None:
        """Give a name the program defined its meaning in a test: the library's, ours, or a stand-in."""
        if name not in self.peer.globals:
            return
        said = self.peer.globals[name]
        if name in LIBRARY and (dotted or said == ["m"]):
            self.space[name] = importlib.import_module(name)
        elif name in _HELPERS and name not in self.shadowed:
            self.space[name] = _HELPERS[name]
        elif said != ["m"]:
            self.space[name] = self.peer.decode(said)


def judge(peer: Peer, program: str, setup: str, sources: list[str]) -> list:
    """status, reason, detail, tests passed."""
    passed = 0
    try:
        tests = Tests(peer, setup, sources)
        peer.send(["run", program, setup, sorted(tests.wanted)])
        peer.ready()
        try:
            peer.answer()
        except SyntaxError as e:
            return ["fail", "syntax", getattr(e, "candidate", ""), 0]
        for number in range(len(tests.trees)):
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
    request = codec.receive(sock, most=1 << 30)
    peer = Peer(ours, pid)
    start = time.monotonic()
    peer.deadline = start + seconds
    verdict = judge(peer, request["program"], request["setup"], request["tests"])
    spent = time.monotonic() - start
    if peer.pid:
        os.kill(peer.pid, signal.SIGKILL)  # the first process of its namespace: all others die with it
        os.waitpid(peer.pid, 0)
    codec.send(sock, [*verdict, spent])
