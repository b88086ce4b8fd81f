"""The program's side of a check: this process is the program's from its first statement on, all it says is a claim.

It is asked for one of two things. `together`: program, setup and tests, in order, in one namespace, as Python would.
`load`, then `call`: the program alone, whose functions are called with plain data; no test, no value of the setup and
no expected value is ever in that process.

Not covered: isolation (helper, kernel), the asserts of what is called (judge).
"""

from __future__ import annotations

import builtins
import os
import random
import socket
import sys
import types

import codec


def main(sock: socket.socket) -> None:
    """Say that this process is confined, then do what is asked."""
    try:
        codec.send(sock, "ready")
        message = codec.receive(sock)
        module = types.ModuleType("__main__")
        module.__dict__.update(__builtins__=builtins, __annotations__={})
        sys.modules["__main__"] = module
        for name in ("kernel", "codec", "candidate", "judge"):
            sys.modules.pop(name, None)
        random.seed(0)  # forking reseeds; a verdict must be the same in every run
        frame, depth = sys._getframe(), 1001
        while frame := frame.f_back:  # the program has as deep a stack as in a fresh Python
            depth += 1
        sys.setrecursionlimit(depth)
        Candidate(sock, module.__dict__).serve(*message)
    except (EOFError, OSError):
        pass
    finally:
        os._exit(0)


def compiled(source: str, name: str) -> types.CodeType:
    """As a fresh Python compiles a file: no flag of ours, asserts kept under -O."""
    try:
        return compile(source, name, "exec", dont_inherit=True, optimize=0)
    except SyntaxError:
        raise
    except Exception as e:  # null bytes, lone surrogates, nesting too deep for the parser
        raise SyntaxError(f"{type(e).__name__}: {e}") from None


def failure(error: BaseException, test: int) -> list:
    """Reason and detail of what ended program or tests; an assert of the program's own is no wrong value."""
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
        return f"{type(error).__name__}: {str(error)[:200]}"
    except BaseException:
        return type(error).__name__


class Candidate:
    """The program's namespace, and the objects that the judge knows by number."""

    def __init__(self, sock: socket.socket, space: dict):
        self.sock, self.space = sock, space
        self.held: list[object] = []
        self.numbers: dict[int, int] = {}

    def serve(self, what: str, *request: object) -> None:
        while True:
            try:
                reply = getattr(self, what)(*request)
            except BaseException as e:
                reply = self.raised(e)
            try:
                codec.send(self.sock, reply)
            except (codec.NotData, ValueError) as e:
                codec.send(self.sock, self.raised(e))
            what, *request = codec.receive(self.sock)

    def together(self, program: str, setup: str, tests: list[str]) -> list:
        """[reason, detail, tests passed]; no reason where all held."""
        passed = 0
        try:
            code = compiled(program, "<program>")
        except SyntaxError as e:
            return ["syntax", said(e), 0]
        try:
            exec(code, self.space)
            exec(compiled(setup, "<setup>"), self.space)
            for test in tests:
                exec(compiled(test, "<test>"), self.space)
                passed += 1
        except BaseException as e:
            return [*failure(e, passed + 1), passed]
        return ["", "", passed]

    def load(self, program: str, imports: str) -> list:
        """``imports``: the setup's import statements, which bind names for the program too."""
        exec(compiled(program, "<program>"), self.space)
        exec(compiled(imports, "<setup>"), self.space)
        return ["value", None, []]

    def call(self, name: str, refs: list, keywords: dict, rows: list, kept: bool) -> list:
        """["value", reference, rows]: the first rows are those of the arguments, None where nothing has changed.
        ``kept``: the result stays here whatever it is."""
        every = [*([n] for n in range(len(rows))), *refs, *keywords.values()]
        values = codec.read(rows, every, self.given)
        known, args = values[: len(rows)], values[len(rows) : len(rows) + len(refs)]
        result = self.named(name)(*args, **dict(zip(keywords, values[len(rows) + len(refs) :], strict=True)))
        writer = codec.Writer(self.opaque, known)
        ref = writer.ref(result)
        written = writer.rows()
        written[: len(rows)] = [None if row == old else row for row, old in zip(written, rows, strict=False)]
        if kept:
            return ["value", [len(rows)], [*written[: len(rows)], self.opaque(result)]]
        return ["value", ref, written]

    def named(self, name: str) -> object:
        """What a name of the program's means where it is called: its own, or a builtin."""
        found = self.space.get(name, getattr(builtins, name, self))
        if found is self:
            raise NameError(f"name {name!r} is not defined")
        return found

    def raised(self, error: BaseException) -> list:
        """["raise", reference to its arguments, rows, its classes of the library, text]"""
        classes = [[c.__module__, c.__qualname__] for c in type(error).__mro__]
        writer = codec.Writer(self.opaque)
        try:
            ref, rows = writer.ref(error.args), writer.rows()
        except BaseException:
            ref, rows = None, []
        return ["raise", ref, rows, classes, said(error)]

    def opaque(self, value: object) -> list:
        number = self.numbers.setdefault(id(value), len(self.held))
        if number == len(self.held):
            self.held.append(value)
        return ["token", number, type(value).__name__[:80], hasattr(type(value), "__next__")]

    def given(self, kind: str, parts: list) -> object:
        return self.held[parts[0]] if kind == "token" else self.named(parts[0])
