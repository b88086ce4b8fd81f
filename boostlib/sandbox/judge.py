"""The judge: isolates itself, starts the candidate one PID namespace deeper, and runs the asserts.

A test is ordinary Python, executed here, where no statement of the candidate's ever runs. The names the
program defined are stand-ins: calling one asks the candidate and brings plain data back (codec), so the
comparison and the expected value stay on this side. An object that is not data stays with the candidate
behind a handle; it never equals plain data, and only operations between two handles are the candidate's to
answer. No assert needs to run beside the candidate, hence no secret (nonce) has to be kept from it.

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
import types

import candidate
import codec
import kernel

# Modules whose functions a test may use to form expected values: always ours, never the candidate's.
LIBRARY = frozenset(
    "array bisect calendar cmath collections copy datetime decimal fractions functools heapq itertools json "
    "math numbers operator random re statistics string sys time typing".split()
)
_HELPERS = {name: getattr(math, name) for name in dir(math) if name[0] != "_"}
_HELPERS |= {name: getattr(builtins, name) for name in dir(builtins) if name[0] != "_"}


class CandidateError(Exception):
    """What the candidate raised, where it is no builtin exception."""


class Over(BaseException):
    """The check is decided: ``args`` are status, reason and detail. Not an Exception, so no test catches it."""


def _operator(name: str):  # noqa: ANN202
    def between(self: Handle, other: object) -> object:
        return self._ask(name, other) if isinstance(other, Handle) else NotImplemented

    return between


class Handle:
    """An object of the candidate's, by number. With plain data it has no operators and is never equal."""

    __slots__ = ("_peer", "_number", "_kind")

    def __init__(self, peer: Peer, number: int, kind: str):
        for name, value in (("_peer", peer), ("_number", number), ("_kind", kind)):
            object.__setattr__(self, name, value)

    def _ask(self, name: str, *args: object) -> object:
        return self._peer.operate(name, [self, *args])

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._peer.operate("call", [self, list(args), kwargs], args)

    def __getattr__(self, name: str) -> object:
        return self._ask("getattr", name)

    def __setattr__(self, name: str, value: object) -> None:
        self._ask("setattr", name, value)

    def __getitem__(self, key: object) -> object:
        return self._ask("getitem", key)

    def __setitem__(self, key: object, value: object) -> None:
        self._ask("setitem", key, value)

    def __next__(self) -> object:
        found = self._ask("next")
        if type(found) is not list or len(found) != 1:
            raise StopIteration
        return found[0]

    def __len__(self) -> int:
        return self._ask("len")

    def __iter__(self) -> object:
        found = self._ask("iter")
        return found if isinstance(found, Handle) else iter(found)

    def __str__(self) -> str:
        return self._ask("str")

    def __repr__(self) -> str:
        return self._ask("repr")

    def __bool__(self) -> bool:
        return self._ask("bool")

    def __int__(self) -> int:
        return self._ask("int")

    def __float__(self) -> float:
        return self._ask("float")

    def __index__(self) -> int:
        return self._ask("index")

    def __neg__(self) -> object:
        return self._ask("neg")

    def __abs__(self) -> object:
        return self._ask("abs")

    def __instancecheck__(self, other: object) -> bool:
        return isinstance(other, Handle) and other._ask("isinstance", self) is True

    __hash__ = object.__hash__
    __eq__, __ne__, __lt__, __le__ = map(_operator, ("eq", "ne", "lt", "le"))
    __gt__, __ge__, __add__, __sub__ = map(_operator, ("gt", "ge", "add", "sub"))
    __mul__, __truediv__, __floordiv__ = map(_operator, ("mul", "truediv", "floordiv"))
    __mod__, __pow__ = map(_operator, ("mod", "pow"))


class Peer:
    """The judge's end of the conversation with one candidate."""

    def __init__(self, sock: socket.socket, pid: int):
        self.sock, self.pid, self.deadline = sock, pid, float("inf")
        self.callbacks: list[object] = []
        self.globals: dict[str, object] = {}  # what the candidate last said of the globals that tests read

    def ask(self, message: list) -> list:
        """Send a message; the reply, callbacks served meanwhile. Raises what the candidate raised."""
        self.send(message)
        while True:
            reply = self.receive()
            match reply:
                case ["ok", _, list(), dict()]:
                    self.globals |= reply[3]
                    return reply
                case ["raise", str(kind), str(text)]:
                    raise self.error(kind, text)
                case ["callback", int(number), args, kwargs] if 0 <= number < len(self.callbacks):
                    self.send(self.call_back(self.callbacks[number], self.decode(args), self.decode(kwargs)))
                case _:
                    raise Over("fail", "exception", "the program wrote to the channel of the verdict")

    def operate(self, name: str, args: list, watched: tuple = ()) -> object:
        _, value, changed, _ = self.ask(["op", name, self.encode(args)])
        for entry in changed:
            match entry:
                case [int(i), new] if 0 <= i < len(watched):
                    _restore(watched[i], self.decode(new))
        return self.decode(value)

    def call_back(self, function: object, args: object, kwargs: object) -> list:
        try:
            return ["returned", self.encode(function(*args, **kwargs))]
        except Exception as e:
            return ["raised", type(e).__name__, str(e)[:200]]

    @staticmethod
    def error(kind: str, text: str) -> Exception:
        known = getattr(builtins, kind, None)
        if not (isinstance(known, type) and issubclass(known, Exception)):
            known, text = CandidateError, f"{kind}: {text}"
        try:
            error = known(text)
        except TypeError:  # UnicodeDecodeError and others of five arguments
            error = CandidateError(f"{kind}: {text}")
        error.candidate = f"{kind[:80]}: {text[:200]}" if known is not CandidateError else text[:280]
        return error

    def send(self, message: list) -> None:
        try:
            self.sock.settimeout(max(self.deadline - time.monotonic(), 1e-3))
            codec.send(self.sock, message)
        except TimeoutError:
            raise Over("timeout", "timeout", "") from None
        except OSError:
            raise self.gone() from None

    def receive(self) -> object:
        try:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.sock.settimeout(left)
            return codec.receive(self.sock)
        except TimeoutError:
            raise Over("timeout", "timeout", "") from None
        except codec.NotData as e:
            raise Over("fail", "exception", f"the program's answer is {e}") from None
        except (EOFError, OSError):
            raise self.gone() from None

    def gone(self) -> Over:
        """The candidate closed its end: it has died, or is about to be killed."""
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                code = os.waitstatus_to_exitcode(status)
                if code == -signal.SIGXCPU:
                    return Over("timeout", "timeout", "")
                how = f"ended by signal {-code}" if code < 0 else f"left with exit code {code}"
                return Over("fail", "exit", f"the program {how} before its tests were done")
            time.sleep(1e-3)
        return Over("fail", "exit", "the program closed its channel before its tests were done")

    def encode(self, value: object) -> object:
        return codec.encode(value, self.opaque)

    def opaque(self, value: object) -> list:
        if isinstance(value, Handle):
            return ["h", value._number]
        if isinstance(value, types.FunctionType | types.MethodType):
            self.callbacks.append(value)
            return ["k", len(self.callbacks) - 1]
        home, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
        if home in LIBRARY | {"builtins", "_operator"} and getattr(importlib.import_module(home), name, 0) is value:
            return ["x", home, name]
        if hasattr(value, "__next__"):
            return ["I", *map(self.encode, value)]
        kind = type(value).__name__
        raise Over("error", "test", f"a test passes an object of {kind}, defined in the tests; define it in setup")

    def decode(self, data: object) -> object:
        return codec.decode(data, self.handle)

    def handle(self, tag: str, rest: list) -> Handle:
        match tag, rest:
            case "h", [int(number), str(kind)]:
                return Handle(self, number, kind)
        raise codec.NotData(f"of an unknown kind {tag!r}")


def _restore(old: object, new: object) -> None:
    """An argument was changed in place by the call; so is the test's own object."""
    if type(old) is type(new):
        if isinstance(old, list | bytearray):
            old[:] = new
        elif isinstance(old, dict | set):
            old.clear()
            old.update(new)


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
        try:
            peer.ask(["run", program, setup, sorted(tests.wanted)])
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
    readable: list[str]
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
        os.dup2(channel, 3)
        for fd in (0, 1, 2):
            os.dup2(self.null, fd)
        os.closerange(4, 1 << 20)
        os.chdir(self.folder)
        if self.level == "process":
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            kernel.landlock(self.readable, self.folder)
            kernel.seccomp("process")
        kernel.limit(seconds, alone=self.level == "kernel")


def main(sock: socket.socket, place: Place, seconds: float) -> None:
    """One check: the request comes, and the verdict leaves, over ``sock``, which the candidate never has."""
    try:
        place.isolate()
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        ours, theirs = socket.socketpair()
        pid = os.fork()  # before the request is read: the candidate's memory has never held a test
        if pid == 0:
            place.confine(theirs.fileno(), seconds)
            candidate.main(socket.socket(fileno=3))
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
