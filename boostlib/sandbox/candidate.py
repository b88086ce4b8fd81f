"""The candidate's side of a check: run the program, then do what the judge asks with its functions.

This process belongs to the candidate from the first statement of its program on: everything it sends is a
claim, and nothing here is relied upon for the verdict. What it never holds: the expected values.

Not covered: isolation (kernel), the asserts (judge).
"""

from __future__ import annotations

import builtins
import importlib
import operator
import os
import random
import socket
import sys
import types

import codec

_MINE = ("kernel", "codec", "candidate", "peer", "plan", "judge", "place")


def _next(iterator: object) -> list:
    try:
        return [next(iterator)]
    except StopIteration:
        return []


# What the judge may ask of an object it holds a handle to.
OPERATIONS = {
    "call": lambda f, args, kwargs: f(*args, **kwargs),
    "getattr": getattr,
    "setattr": setattr,
    "next": _next,
    "contents": lambda f, names: [f[n] for n in names],
    **{n: getattr(operator, n) for n in ("eq", "ne", "lt", "le", "gt", "ge", "getitem", "setitem", "index")},
    **{n: getattr(operator, n) for n in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "abs")},
    **{f.__name__: f for f in (len, iter, str, repr, bool, int, float, isinstance)},
}


class Candidate:
    """Holds the program's globals and the objects the judge has handles to."""

    def __init__(self, sock: socket.socket):
        self.sock = sock
        self.held: list[object] = []
        self.wanted: list[str] = []  # globals the tests read
        self.told: dict[str, object] = {}
        self.module = types.ModuleType("__main__")

    def serve(self) -> None:
        while True:
            message = codec.receive(self.sock)
            if message[0] == "run":
                self.run(*message[1:])
            else:
                self.operate(message)

    def serve_quietly(self) -> None:
        """Serve until the judge is gone."""
        try:
            codec.send(self.sock, ["ready"])
            self.serve()
        except (EOFError, OSError):
            pass

    def reply(self, reply: list) -> None:
        try:
            codec.send(self.sock, reply)
        except codec.NotData as e:
            codec.send(self.sock, ["raise", "NotData", f"the value is {e}"])

    @staticmethod
    def raised(error: BaseException) -> list:
        try:
            text = str(error)[:200]
        except BaseException:
            text = ""
        return ["raise", type(error).__name__[:80], text]

    def run(self, program: str, setup: str, wanted: list[str]) -> None:
        self.wanted = wanted
        try:
            self.execute(program, setup)
            reply = ["ok", None, [], self.news()]
        except BaseException as e:
            reply = self.raised(e)
        self.reply(reply)

    def execute(self, program: str, setup: str) -> None:
        sys.modules["__main__"] = self.module
        for name in _MINE:
            sys.modules.pop(name, None)
        try:
            code = compile(program, "<program>", "exec")
        except Exception as e:  # also null bytes, lone surrogates, nesting too deep for the parser
            raise e if isinstance(e, SyntaxError) else SyntaxError(f"{type(e).__name__}: {e}") from None
        random.seed(0)  # forking reseeds; a verdict must be the same in every run
        exec(code, self.module.__dict__)
        if setup:
            exec(compile(setup, "<setup>", "exec"), self.module.__dict__)

    def news(self) -> dict:
        """Globals the tests read that are new or have changed: ["m"] for a module, else the encoded value."""
        found = {}
        for name in self.wanted:
            if name in self.module.__dict__:
                value = self.module.__dict__[name]
                found[name] = ["m"] if isinstance(value, types.ModuleType) else self.encode(value)
        news = {name: data for name, data in found.items() if self.told.get(name) != data}
        self.told |= news
        return news

    def operate(self, message: list) -> None:
        """["op", name, arguments]: the reply has the result, every argument and every global that changed."""
        try:
            args = self.decode(message[2])
            watched = args[1] if message[1] == "call" else []
            before = [self.encode(a) for a in watched]
            result = OPERATIONS[message[1]](*args)
            after = [self.encode(a) for a in watched]
            changed = [[i, new] for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
            reply = ["ok", self.encode(result), changed, self.news()]
        except BaseException as e:
            reply = self.raised(e)
        self.reply(reply)

    def encode(self, value: object) -> object:
        return codec.encode(value, self.hold)

    def hold(self, value: object) -> list:
        for number, known in enumerate(self.held):
            if known is value:
                return ["h", number, type(value).__name__[:80]]
        self.held.append(value)
        return ["h", len(self.held) - 1, type(value).__name__[:80]]

    def decode(self, data: object) -> object:
        return codec.decode(data, self.other)

    def other(self, tag: str, rest: list) -> object:
        if tag == "h":
            return self.held[rest[0]]
        if tag == "x":  # a function of the standard library, by name
            return getattr(importlib.import_module(rest[0]), rest[1])
        return lambda *args, **kwargs: self.call_back(rest[0], args, kwargs)

    def call_back(self, number: int, args: tuple, kwargs: dict) -> object:
        """The test passed a function of its own; it runs on the judge's side."""
        codec.send(self.sock, ["callback", number, self.encode(list(args)), self.encode(kwargs)])
        while True:
            message = codec.receive(self.sock)
            if message[0] == "returned":
                return self.decode(message[1])
            if message[0] == "raised":
                raise getattr(builtins, message[1], RuntimeError)(message[2])
            self.operate(message)


def main(sock: socket.socket) -> None:
    try:
        Candidate(sock).serve_quietly()
    finally:
        os._exit(0)
