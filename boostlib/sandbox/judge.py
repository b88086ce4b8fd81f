"""The judge of the verdict `apart`: runs setup and tests in a process of its own, which no program ever enters.

A name of the program's is a function here; calling it sends plain data to the process that holds the program and
brings plain data back. What is no plain data stays there: a `Token` stands for it, equal to nothing, good for
being passed back. A judge is forked for one check, so a test that changes the library changes no other verdict.

Not covered: which names are the program's (reading), a judge that hangs (it has an alarm of its own).
"""

from __future__ import annotations

import builtins
import importlib
import resource
import signal
import socket
import sys
import time
import types

import codec
from candidate import compiled, failure

GRACE = 1.0  # seconds beyond its time after which a judge is ended by its alarm


class Over(BaseException):
    """The check is decided: status, reason, detail. Not an Exception, so that no test catches it."""


class Refused(BaseException):
    """A test passes what is no plain data: this verdict cannot be had."""


class CandidateError(Exception):
    """What the program raised, where it is an exception of its own."""


class Token:
    """An object of the program's, by number. Only a setup may read or set its attributes (reading)."""

    __slots__ = ("_judge", "_row")

    def __init__(self, judge: Judge, row: list):
        object.__setattr__(self, "_judge", judge)
        object.__setattr__(self, "_row", row)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._judge.call("getattr", (self, name), {})

    def __setattr__(self, name: str, value: object) -> None:
        self._judge.call("setattr", (self, name, value), {})

    def __repr__(self) -> str:
        return f"<a {self._row[1]} of the program's>"


class Stream:
    """An iterator of the program's, fetched in growing pieces."""

    def __init__(self, token: Token):
        self.token, self.items, self.count, self.ended = token, [], 1, False

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> object:
        if not self.items and not self.ended:
            found = self.token._judge.call("_take", (self.token, self.count), {})
            if type(found) is not list or len(found) > self.count:
                raise self.token._judge.over("fail", "exception", "the program's answer is not an iterator's")
            self.items, self.ended = found[::-1], not found
            self.count = min(2 * self.count, 4096)
        if not self.items:
            raise StopIteration
        return self.items.pop()


class Judge:
    """The judge's end of the conversation with one candidate."""

    def __init__(self, sock: socket.socket, seconds: float):
        self.sock, self.deadline = sock, time.monotonic() + seconds
        self.decided: Over | None = None
        self.refused: Refused | None = None
        self.tokens: dict[int, Token | Stream] = {}
        self.names: dict[types.FunctionType, str] = {}
        self.classes: frozenset[str] = frozenset()  # what they make stays with the program, tuples with names too

    def over(self, *verdict: str) -> Over:
        self.decided = self.decided or Over(*verdict)
        return self.decided

    def ask(self, message: object) -> list:
        limit = sys.getrecursionlimit()
        try:
            self.sock.settimeout(max(self.deadline - time.monotonic(), 1e-3))
            if message is not None:
                codec.send(self.sock, message)
            if limit > 1000:  # raised by the tests: a deep reply must not end this process
                sys.setrecursionlimit(1000)
            return codec.receive(self.sock, codec.MOST, self.deadline)
        except TimeoutError:
            raise self.over("timeout", "timeout", "") from None
        except (EOFError, OSError):
            raise self.over("fail", "exit", "") from None
        except codec.NotData as e:
            raise self.over("fail", "exception", f"the program's answer is {e}") from None
        finally:
            sys.setrecursionlimit(limit)

    def function(self, name: str) -> types.FunctionType:
        def call(*args: object, **kwargs: object) -> object:
            return self.call(name, args, kwargs)

        call.__name__ = call.__qualname__ = name
        self.names[call] = name
        return call

    def call(self, name: str, args: tuple, kwargs: dict) -> object:
        if self.decided is not None:
            raise self.decided
        writer = codec.Writer(self.opaque)
        refs, keywords = [writer.ref(a) for a in args], {k: writer.ref(v) for k, v in kwargs.items()}
        return self.answer(self.ask([name, refs, keywords, writer.rows(), name in self.classes]), writer.values)

    def answer(self, reply: object, own: list) -> object:
        """The value of a reply, the arguments in ``own`` changed as it says. Raises what the program raised."""
        try:
            match reply:
                case ["value", ref, list(rows)] if len(rows) >= len(own):
                    return codec.read(rows, [ref], self.given, own)[0]
                case ["raise", ref, list(rows), list(classes), str(text)]:
                    args = codec.read(rows, [ref], self.given)[0]
                    raise _exception(classes, args if type(args) is tuple else (text,), text)
        except codec.NotData as e:
            raise self.over("fail", "exception", f"the program's answer is {e}") from None
        raise self.over("fail", "exception", "the program's answer is no answer")

    def opaque(self, value: object) -> list:
        if type(value) is Stream:
            value = value.token
        if type(value) is Token:
            return ["token", value._row[0]]
        if type(value) is types.FunctionType and value in self.names:
            return ["name", self.names[value]]
        if getattr(builtins, getattr(value, "__name__", ""), None) is value:
            return ["name", value.__name__]
        self.refused = Refused(f"a test passes an object of {type(value).__name__}, which is no plain data")
        raise self.refused

    def given(self, kind: str, parts: list) -> object:
        match kind, parts:
            case "token", [int(number), str(of), bool(iterator)]:
                if number not in self.tokens:
                    token = Token(self, [number, of])
                    self.tokens[number] = Stream(token) if iterator else token
                return self.tokens[number]
        raise codec.NotData(f"of an unknown kind {kind!r}")


def _exception(classes: list, args: tuple, text: str) -> BaseException:
    """The exception of the first class that is the library's, or one that nothing but `Exception` catches."""
    for module, name in classes:
        loaded = sys.modules.get(module) if module in sys.stdlib_module_names else None
        of = getattr(loaded, name, None)
        if of is Exception:
            of = CandidateError
        if isinstance(of, type) and issubclass(of, BaseException):
            try:
                error = of(*args)
            except Exception:
                continue
            break
    else:
        error = CandidateError(text)
    error.__dict__["said"] = text[:300]
    return error


def run(judge: Judge, program: str, setup: str, tests: list[str], asked: dict) -> list:
    """[status, reason, detail, tests passed]; status "refused" where this verdict cannot be had."""
    passed = 0
    try:
        if judge.ask(None) != "ready":
            raise judge.over("error", "sandbox", "the candidate could not be confined")
        judge.answer(judge.ask(["apart", program, asked["imports"]]), [])
        space = {"__name__": "__main__", "__builtins__": builtins, "__annotations__": {}}
        for name, attributes in asked["modules"].items():
            space[name] = importlib.import_module(name)
            if not all(hasattr(space[name], attribute) for attribute in attributes):
                return ["refused", "", f"{name} is not the library's in the tests", 0]
        judge.classes = frozenset(asked["classes"])
        space |= {name: judge.function(name) for name in asked["functions"]}
        for number, source in enumerate([setup, *tests]):
            exec(compiled(source, "<test>" if number else "<setup>"), space)
            if judge.decided or judge.refused:  # a bare except must not hide it
                raise judge.decided or judge.refused
            passed = number
        if time.monotonic() > judge.deadline:
            raise judge.over("timeout", "timeout", "")
        return ["pass", "", "", passed]
    except BaseException as e:
        if judge.refused:
            return ["refused", "", str(judge.refused), passed]
        if judge.decided:
            return [*judge.decided.args, passed]
        reason, detail = failure(e, passed + 1)
        if hasattr(e, "said"):
            reason, detail = "exit" if isinstance(e, SystemExit) else "exception", e.said
        return ["fail", reason, detail, passed]


def main(check: socket.socket, channel: socket.socket) -> None:
    """One check: the request comes, and the verdict leaves, over ``check``, which the candidate never has."""
    seconds, *request = codec.receive(check)
    signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    sys.set_int_max_str_digits(0)
    codec.send(check, run(Judge(channel, seconds), *request))
