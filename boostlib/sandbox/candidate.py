"""The program's side of a check. This process belongs to the program from its first statement on: all that it
sends is a claim.

It does one of two things. `together`: program, setup and tests, in order, in one namespace, as Python would.
`apart`: the program alone, whose functions are then called with plain data; no test, no value of the setup and no
expected value is ever in that process.

Not covered: isolation (helper, kernel), the asserts of `apart` (judge).
"""

from __future__ import annotations

import builtins
import itertools
import os
import random
import socket
import sys
import types

import codec

_MINE = ("kernel", "codec", "candidate", "judge")


def serve(sock: socket.socket) -> None:
    """Say that this process is confined, then do what the first message asks."""
    codec.send(sock, "ready")
    what, *message = codec.receive(sock)
    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = module
    for name in _MINE:
        sys.modules.pop(name, None)
    random.seed(0)  # forking reseeds; a verdict must be the same in every run
    sys.setrecursionlimit(1001 + _depth())
    if what == "together":
        codec.send(sock, together(module.__dict__, *message))
    else:
        Apart(sock, module.__dict__).serve(*message)


def _depth() -> int:
    """Frames below the program's that a fresh Python would not have."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back:
        frame, depth = frame.f_back, depth + 1
    return depth


def compiled(source: str, name: str) -> types.CodeType:
    """As a fresh Python compiles a file: no flag of ours, asserts kept under -O."""
    try:
        return compile(source, name, "exec", dont_inherit=True, optimize=0)
    except SyntaxError:
        raise
    except Exception as e:  # null bytes, lone surrogates, nesting too deep for the parser
        raise SyntaxError(f"{type(e).__name__}: {e}") from None


def together(space: dict, program: str, setup: str, tests: list[str]) -> list:
    """[reason, detail, tests passed]; no reason where all held."""
    passed = -1
    try:
        code = compiled(program, "<program>")
    except SyntaxError as e:
        return ["syntax", said(e), 0]
    try:
        exec(code, space)
        exec(compiled(setup, "<setup>"), space)
        passed = 0
        for test in tests:
            exec(compiled(test, "<test>"), space)
            passed += 1
    except BaseException as e:
        return [*failure(e, passed + 1), max(passed, 0)]
    return ["", "", passed]


def failure(error: BaseException, test: int) -> list[str]:
    """Reason and detail of what ended program or tests; an assert of the program's is no wrong value."""
    if isinstance(error, SystemExit):
        return ["exit", f"the program left with {said(error)} before its tests were done"]
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    if isinstance(error, AssertionError) and frame and frame.tb_frame.f_code.co_filename in ("<test>", "<setup>"):
        return ["wrong value", f"test {test} is false"]
    return ["exception", said(error)]


def said(error: BaseException) -> str:
    try:
        text = str(error)[:200]
    except BaseException:
        text = ""
    return f"{type(error).__name__}: {text}"


class Apart:
    """The program's namespace and the objects that the judge knows by number."""

    def __init__(self, sock: socket.socket, space: dict):
        self.sock, self.space = sock, space
        self.held: list[object] = []
        self.numbers: dict[int, int] = {}
        self.failed: dict[int, BaseException] = {}

    def serve(self, program: str, imports: str) -> None:
        """``imports``: the setup's import statements, which bind names in the program's space too."""
        try:
            exec(compiled(program, "<program>"), self.space)
            exec(compiled(imports, "<setup>"), self.space)
            reply = ["value", None, []]
        except BaseException as e:
            reply = self.raised(e)
        codec.send(self.sock, reply)
        while True:
            name, refs, keywords, rows, kept = codec.receive(self.sock)
            try:
                known = codec.read(rows, [*([n] for n in range(len(rows))), name, *refs, *keywords.values()], self.given)
                known, function, values = known[: len(rows)], known[len(rows)], known[len(rows) + 1 :]
                if type(function) is str:
                    function = self.space[function] if function in self.space else self.known(function)
                args, named = values[: len(refs)], dict(zip(keywords, values[len(refs) :], strict=True))
                result = function(*args, **named)
                reply = self.replied(result, known, rows)
                if kept:
                    reply = ["value", [len(rows)], [*reply[2][: len(rows)], self.opaque(result)]]
            except BaseException as e:
                reply = self.raised(e)
            try:
                codec.send(self.sock, reply)
            except (codec.NotData, ValueError) as e:
                codec.send(self.sock, self.raised(e))

    def known(self, name: str) -> object:
        if name == "_take":
            return self.take
        if not hasattr(builtins, name):
            raise NameError(f"name {name!r} is not defined")
        return getattr(builtins, name)

    def replied(self, value: object, known: list, rows: list) -> list:
        writer = codec.Writer(self.opaque, known)
        ref = writer.ref(value)
        written = writer.rows()
        return ["value", ref, [None if n < len(rows) and row == rows[n] else row for n, row in enumerate(written)]]

    def raised(self, error: BaseException) -> list:
        """["raise", classes of the library from its own on, arguments, rows, text]"""
        classes = [[c.__module__, c.__qualname__] for c in type(error).__mro__ if c.__module__ in sys.stdlib_module_names]
        try:
            _, ref, rows = self.replied(error.args, [], [])
        except BaseException:
            ref, rows = None, []
        return ["raise", ref, rows, classes, said(error)]

    def opaque(self, value: object) -> list:
        number = self.numbers.setdefault(id(value), len(self.held))
        if number == len(self.held):
            self.held.append(value)
        return ["token", number, type(value).__name__[:80], hasattr(type(value), "__next__")]

    def given(self, kind: str, parts: list) -> object:
        if kind == "token":
            return self.held[parts[0]]
        if kind == "name":  # a function of the program's, or a builtin
            return self.space[parts[0]] if parts[0] in self.space else getattr(builtins, parts[0])
        raise codec.NotData(kind)

    def take(self, iterator: object, count: int) -> list:
        """Up to ``count`` items; fewer where it ended. An exception after some items comes at the next call."""
        items: list = []
        if id(iterator) in self.failed:
            raise self.failed.pop(id(iterator))
        try:
            items.extend(itertools.islice(iterator, count))  # keeps what came before an exception
        except BaseException as e:
            if not items:
                raise
            self.failed[id(iterator)] = e
        return items


def main(sock: socket.socket) -> None:
    try:
        serve(sock)
    except (EOFError, OSError):
        pass
    finally:
        os._exit(0)
