"""The judge: both verdicts of one check, in a process of its own that no program ever enters.

Together, it takes what a candidate says for a claim. Apart, it runs setup and tests itself: a name of the program's is
a function that sends plain data to the process that holds the program and brings plain data back. What is no plain data
stays there: a `Token` stands for it, equal to nothing, good for being passed back.

Not covered: which names are the program's (reading).
"""

from __future__ import annotations

import builtins
import importlib
import os
import signal
import socket
import sys
import time
import types

import codec
from candidate import compiled, failure
from kernel import limit

SPARE = 20.0  # seconds for a candidate to get ready
CLAIM = 4096  # bytes of what a candidate may claim


class Over(BaseException):
    """The check is decided: status, reason, detail; "refused" where a test passes what is no plain data, so that this
    verdict cannot be had. Not an Exception, so that no test catches it."""


class CandidateError(Exception):
    """What the program raised, where it is an exception of its own."""


class Token:
    """An object of the program's, by number. Only a setup may read or set its attributes (reading)."""

    __slots__ = ("_judge", "_number")

    def __init__(self, judge: Judge, number: int):
        object.__setattr__(self, "_judge", judge)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._judge.call("getattr", (self, name), {})

    def __setattr__(self, name: str, value: object) -> None:
        self._judge.call("setattr", (self, name, value), {})


class Stream(Token):
    """An iterator of the program's: an item is fetched when it is asked for."""

    __slots__ = ()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> object:
        return self._judge.call("next", (self,), {})


class Judge:
    """The judge's end of the conversation with one candidate. ``classes``: names whose results stay with the program."""

    def __init__(self, sock: socket.socket, classes: list[str]):
        self.sock, self.classes, self.calls = sock, classes, 0
        self.decided: Over | None = None
        self.tokens: dict[int, Token] = {}
        self.names: dict[types.FunctionType, str] = {}

    def over(self, *verdict: str) -> Over:
        self.decided = self.decided or Over(*verdict)
        return self.decided

    def ask(self, message: object, own: list) -> object:
        """The value that the candidate answers with, the arguments in ``own`` changed as it says. Raises what the
        program raised."""
        if self.decided is not None:  # and hidden by a bare except
            raise self.decided
        self.calls += 1
        if self.calls in range(1000, 21_000, 1000):  # a call that crosses takes longer than one that does not
            signal.setitimer(signal.ITIMER_REAL, signal.getitimer(signal.ITIMER_REAL)[0] + 1)
        limit = sys.getrecursionlimit()
        try:
            codec.send(self.sock, message)
            if limit > 1000:  # raised by the tests: a deep reply must not end this process
                sys.setrecursionlimit(1000)
            match codec.receive(self.sock):
                case ["value", ref, list(rows)] if len(rows) >= len(own):
                    return codec.read(rows, [ref], self.given, own)[0]
                case ["raise", ref, list(rows), list(classes), str(text)]:
                    args = codec.read(rows, [ref], self.given)[0]
                    error = _exception(classes, args if type(args) is tuple else (text,), text)
                case _:
                    raise codec.NotData("no answer")
        except (EOFError, OSError):
            raise self.over("fail", "exit", "") from None
        except codec.NotData as e:
            raise self.over("fail", "exception", f"the program's answer is {e}") from None
        finally:
            sys.setrecursionlimit(limit)
        raise error

    def function(self, name: str) -> types.FunctionType:
        def call(*args: object, **kwargs: object) -> object:
            return self.call(name, args, kwargs)

        self.names[call] = name
        return call

    def call(self, name: str, args: tuple, kwargs: dict) -> object:
        writer = codec.Writer(self.opaque)
        refs, keywords = [writer.ref(a) for a in args], {k: writer.ref(v) for k, v in kwargs.items()}
        return self.ask(["call", name, refs, keywords, writer.rows(), name in self.classes], writer.values)

    def opaque(self, value: object) -> list:
        if isinstance(value, Token):
            return ["token", value._number]
        if type(value) is types.FunctionType and value in self.names:
            return ["name", self.names[value]]
        if getattr(builtins, getattr(value, "__name__", ""), None) is value:
            return ["name", value.__name__]
        raise self.over("refused", "", f"a test passes an object of {type(value).__name__}, which is no plain data")

    def given(self, kind: str, parts: list) -> Token:
        match kind, parts:
            case "token", [int(number), str(), bool(iterator)]:
                return self.tokens.setdefault(number, (Stream if iterator else Token)(self, number))
        raise codec.NotData(f"of an unknown kind {kind!r}")


def _exception(classes: list, args: tuple, text: str) -> BaseException:
    """An exception of the first class that is the library's, or one that nothing but `Exception` catches."""
    error: BaseException = CandidateError(text)
    for module, name in classes:
        of = getattr(sys.modules.get(module), name, None) if module in sys.stdlib_module_names else None
        if isinstance(of, type) and issubclass(of, BaseException) and of is not Exception:
            try:
                error = of(*args)
            except Exception:
                continue
        if of is not None:
            break
    error.__dict__["said"] = text[:300]
    return error


def run(judge: Judge, program: str, setup: str, tests: list[str], asked: dict) -> list:
    """[status, reason, detail, tests passed]"""
    passed = 0
    try:
        judge.ask(["load", program, asked["imports"]], [])
        space = {"__name__": "__main__", "__builtins__": builtins, "__annotations__": {}}
        for name, attributes in asked["modules"].items():
            space[name] = importlib.import_module(name)
            if not all(hasattr(space[name], attribute) for attribute in attributes):
                raise judge.over("refused", "", f"{name} is not the library's in the tests")
        space |= {name: judge.function(name) for name in asked["functions"]}
        for number, source in enumerate([setup, *tests]):
            exec(compiled(source, "<test>" if number else "<setup>"), space)
            if judge.decided:  # a bare except must not hide it
                raise judge.decided
            passed = number
        return ["pass", "", "", passed]
    except BaseException as e:
        if judge.decided:
            return [*judge.decided.args, passed]
        reason, detail = failure(e, passed + 1)
        return ["fail", reason, getattr(e, "said", detail), passed]


def main(control: socket.socket, helper: socket.socket) -> None:
    """One check: the request comes, and the verdict leaves, over ``control``, which no candidate ever has."""
    me = os.getpid()
    try:
        limit(AS=1 << 30)
        verdict = check(helper, *codec.receive(control))
        if os.getpid() == me:  # no process that a test has started
            codec.send(control, verdict)
            os._exit(0)
    finally:
        os._exit(1)


def check(helper: socket.socket, program: str, setup: str, tests: list[str], asked: dict, seconds: float) -> list:
    """[status, reason, detail, tests passed, seconds, verified]: what is claimed of program, setup and tests together,
    and of a pass what is found apart."""
    verified, start = False, time.monotonic()
    try:
        channel = candidate(helper)
        start = time.monotonic()
        status, reason, detail, passed = together(channel, [program, setup, tests], start + seconds)
        spent = time.monotonic() - start
        if status == "pass" and not asked["why"]:
            channel = candidate(helper)
            signal.setitimer(signal.ITIMER_REAL, 3 * seconds + 2)  # ends this process if no time is left
            sys.set_int_max_str_digits(0)
            status, reason, detail, passed = run(Judge(channel, asked["classes"]), program, setup, tests, asked)
            verified = status == "pass"
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Over as e:
        return [*e.args, 0, 0.0, False]
    helper.send(b"e")
    code = int(helper.recv(16))
    if status == "refused":
        status, passed = "pass", len(tests)
    elif reason == "exit" and not detail:
        how = f"left with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
        detail = f"the program {'closed its channel, or ' * (code == -9)}{how} before its tests were done"
    return [status, reason, detail or asked["why"] * (status == "pass"), passed, spent, verified]


def candidate(helper: socket.socket) -> socket.socket:
    """The channel to a new candidate, which is confined; the one before it is dead."""
    helper.send(b"n")
    _, (fd,), _, _ = socket.recv_fds(helper, 1, 1)
    channel = socket.socket(fileno=fd)
    try:
        if codec.receive(channel, CLAIM, time.monotonic() + SPARE) == "ready":
            channel.settimeout(None)
            return channel
    except (OSError, EOFError, codec.NotData):
        pass
    raise Over("error", "sandbox", "a candidate could not be confined")


def together(channel: socket.socket, request: list, deadline: float) -> list:
    """[status, reason, detail, tests passed] by what a candidate claims in time."""
    try:
        codec.send(channel, ["together", *request], deadline)
        claim = codec.receive(channel, CLAIM, deadline)
    except TimeoutError:
        return ["timeout", "timeout", "", 0]
    except (EOFError, OSError):
        return ["fail", "exit", "", 0]
    except codec.NotData as e:
        return ["fail", "exception", f"the program's answer is {e}", 0]
    match claim:
        case ["", "", int(passed)]:
            return ["pass", "", "", passed]
        case [("syntax" | "exception" | "wrong value" | "exit") as reason, str(detail), int(passed)]:
            return ["fail", reason, detail, passed]
    return ["fail", "exception", "the program's answer is no answer", 0]
