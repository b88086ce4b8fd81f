"""The judge's end of the conversation with a candidate: ask, decode what comes back, keep the time.

Calling a stand-in asks the candidate and brings plain data back (codec). An object that is not data stays
with the candidate behind a handle; it never equals plain data, and only operations between two handles are
the candidate's to answer.

Not covered: which names of a test are stand-ins, the verdict (judge).
"""

from __future__ import annotations

import builtins
import importlib
import socket
import time
import types

import codec
from plan import LIBRARY


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

    def __init__(self, sock: socket.socket, deadline: float):
        self.sock, self.deadline = sock, deadline
        self.over: Over | None = None
        self.callbacks: list[object] = []
        self.globals: dict[str, object] = {}  # what the candidate last said of the globals that tests read

    def ask(self, message: list) -> list:
        self.send(message)
        return self.answer()

    def ready(self) -> None:
        """The candidate's first message, sent before its program runs: that it is confined."""
        try:
            if self.receive() == ["ready"]:
                return
        except Over as e:
            if e.args[0] == "timeout":
                raise
        raise self.end("error", "sandbox", "the candidate could not be confined")

    def answer(self) -> list:
        """The reply to a message, callbacks served meanwhile. Raises what the candidate raised."""
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
                    raise self.end("fail", "exception", "the program wrote to the channel of the verdict")

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

    def end(self, status: str, reason: str, detail: str) -> Over:
        self.over = Over(status, reason, detail)
        return self.over

    def send(self, message: list) -> None:
        try:
            self.sock.settimeout(max(self.deadline - time.monotonic(), 1e-3))
            codec.send(self.sock, message)
        except TimeoutError:
            raise self.end("timeout", "timeout", "") from None
        except OSError:
            raise self.end("fail", "exit", "") from None

    def receive(self) -> object:
        try:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.sock.settimeout(left)
            return codec.receive(self.sock)
        except TimeoutError:
            raise self.end("timeout", "timeout", "") from None
        except codec.NotData as e:
            raise self.end("fail", "exception", f"the program's answer is {e}") from None
        except (EOFError, OSError):
            raise self.end("fail", "exit", "") from None

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
        raise self.end("error", "test", f"a test passes an object of {kind}, defined in the tests; define it in setup")

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
