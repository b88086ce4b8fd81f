"""Plain data across a process border: JSON of a flat table, read into exact builtin types and nothing else.

An atom (None, bool, small int, float, str) is written as it is; everything else as [number], the number of its row; a
row is [kind, *parts]. So depth does not matter, and what is one object twice arrives as one. A subclass of a plain type
travels as its plain content: no method of the program's reaches the judge.

Not covered: what a message means; what stands for an object that is no plain data (candidate, judge).
"""

from __future__ import annotations

import builtins
import datetime
import importlib
import json
import operator
import socket
import struct
import time
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from typing import NamedTuple

MOST = 64 << 20  # bytes of one message
_SMALL = 1 << 62
_ATOMS = frozenset({type(None), bool, str, float})
_READ_ATOMS = _ATOMS | {int}


class NotData(Exception):
    """A message is not what this codec writes, or is too large."""


class Kind(NamedTuple):
    """``parts``: the content of a value; ``make``: a value of its content. Of what can change in place, ``make``
    takes the first ``head`` parts alone and ``fill`` puts the rest in, in place of what was there."""

    name: str
    parts: Callable[[object], Iterable]
    make: Callable
    fill: Callable[[object, list], object] | None = None
    head: int = 0


def _dict(parts: Sequence) -> dict:
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _pairs(value: dict) -> Iterable:
    return chain.from_iterable((OrderedDict if isinstance(value, OrderedDict) else dict).items(value))


def _fields(of: type, names: str, make: Callable | None = None) -> Kind:
    """Reads fields past any property that a subclass has in their place."""
    getters = [getattr(of, name).__get__ for name in names.split()]
    return Kind(of.__name__, lambda value: [get(value) for get in getters], make or of)


def _whole(of: type) -> Callable:
    return lambda *parts: of(*map(operator.index, parts))  # a Fraction("1e999999999") would keep the judge busy


def _refill(value: object, parts: list) -> None:
    value.clear()
    if isinstance(value, dict):  # item by item: a Counter's update counts
        for key, item in _dict(parts).items():
            value[key] = item
    else:
        (getattr(value, "extend", None) or value.update)(parts)


_DATE, _TIME = "year month day", "hour minute second microsecond tzinfo"
_views = {}.keys(), {}.values(), {}.items()
# The order matters for subclasses: the first base found is used.
KINDS: dict[type, Kind] = {
    int: Kind("int", lambda v: [hex(int.__int__(v))], lambda text: int(text, 16)),
    float: Kind("float", lambda v: [float.__float__(v)], float),
    str: Kind("str", lambda v: [str.__str__(v)], str),
    complex: _fields(complex, "real imag"),
    bytes: Kind("bytes", lambda v: [bytes.hex(v)], bytes.fromhex),
    tuple: Kind("tuple", tuple.__iter__, lambda *parts: parts),
    frozenset: Kind("frozenset", frozenset.__iter__, lambda *parts: frozenset(parts)),
    list: Kind("list", list.__iter__, list, _refill),
    set: Kind("set", set.__iter__, set, _refill),
    deque: Kind("deque", lambda v: [v.maxlen, *deque.__iter__(v)], lambda n: deque((), n), _refill, 1),
    Counter: Kind("Counter", _pairs, Counter, _refill),
    OrderedDict: Kind("OrderedDict", _pairs, OrderedDict, _refill),
    defaultdict: Kind("defaultdict", lambda v: [v.default_factory, *_pairs(v)], defaultdict, _refill, 1),
    dict: Kind("dict", _pairs, dict, _refill),
    bytearray: Kind("bytearray", lambda v: [bytearray.hex(v)], bytearray, lambda v, p: v.__setitem__(slice(None), bytes.fromhex(*p))),
    array: Kind("array", lambda v: [v.typecode, *array.tolist(v)], array, lambda v, p: v.__setitem__(slice(None), array(v.typecode, p)), 1),
    range: _fields(range, "start stop step", _whole(range)),
    slice: _fields(slice, "start stop step"),
    Decimal: Kind("Decimal", lambda v: [Decimal.__str__(v)], Decimal),
    Fraction: _fields(Fraction, "_numerator _denominator", _whole(Fraction)),
    datetime.datetime: _fields(datetime.datetime, f"{_DATE} {_TIME}"),
    datetime.date: _fields(datetime.date, _DATE),
    datetime.time: _fields(datetime.time, _TIME),
    datetime.timedelta: _fields(datetime.timedelta, "days seconds microseconds"),
    datetime.timezone: Kind("timezone", lambda v: [v.utcoffset(None)], datetime.timezone),
    memoryview: Kind("memoryview", lambda v: [v.tobytes()], memoryview),
    ChainMap: Kind("ChainMap", lambda v: v.maps, ChainMap),
    UserDict: Kind("UserDict", lambda v: [v.data], UserDict, lambda v, p: setattr(v, "data", *p)),
    type(_views[0]): Kind("keys", iter, lambda *parts: dict.fromkeys(parts).keys()),
    type(_views[1]): Kind("values", iter, lambda *parts: dict(enumerate(parts)).values()),
    type(_views[2]): Kind("items", chain.from_iterable, lambda *parts: _dict(parts).items()),
}  # fmt: skip
_BY_NAME = {kind.name: kind for kind in KINDS.values()} | {"type": Kind("type", iter, lambda name: _NAMED[name])}
_BY_TEXT = ("pathlib.PurePosixPath", "ipaddress.IPv4Address", "ipaddress.IPv6Address", "uuid.UUID")
_NAMED = {k: v for k, v in vars(builtins).items() if isinstance(v, type) or k in ("Ellipsis", "NotImplemented")}
_NAMES = {value: name for name, value in _NAMED.items()}


class Writer:
    """Rows of what `ref` was asked for. ``known``: objects that have the first rows; ``opaque`` writes the row of what
    is not plain data."""

    def __init__(self, opaque: Callable[[object], list], known: Iterable = ()):
        self.values, self.opaque = list(known), opaque
        self.numbers = {id(value): n for n, value in enumerate(self.values)}

    def ref(self, value: object) -> object:
        kind = type(value)
        if kind in _ATOMS or (kind is int and -_SMALL < value < _SMALL):
            return value
        number = self.numbers.setdefault(id(value), len(self.values))
        if number == len(self.values):
            self.values.append(value)  # so that it lives, and its id is its own
        return [number]

    def rows(self) -> list[list]:
        return [self.row(value) for value in self.values]  # which grows meanwhile, by parts

    def row(self, value: object) -> list:
        of = type(value)
        kind = KINDS.get(of) or next((KINDS[base] for base in of.__mro__ if base in KINDS), None)
        if kind is None:
            if isinstance(value, type) or value is ... or value is NotImplemented:
                return ["type", _NAMES[value]] if value in _NAMES else self.opaque(value)
            name = f"{of.__module__}.{of.__qualname__}"
            return [name, str(value)] if name in _BY_TEXT else self.opaque(value)
        parts = list(kind.parts(value))
        kinds = set(map(type, parts))
        plain = kinds <= _ATOMS or (kinds == {int} and -_SMALL < min(parts) and max(parts) < _SMALL)
        return [kind.name, *(parts if plain else map(self.ref, parts))]


def read(rows: list, refs: list, opaque: Callable[[str, list], object], own: Sequence = ()) -> list:
    """The values that ``refs`` stand for. ``own``: the objects of the first rows; where such a row is not None, the
    object has changed and is changed here. ``opaque`` makes what a row of no kind stands for. Raises NotData."""
    try:
        values = [*own, *[None] * (len(rows) - len(own))]
        late = [(KINDS.get(type(value)), value, row) for value, row in zip(own, rows, strict=False) if row is not None]
        unmade = set(range(len(own), len(rows)))

        def get(ref: object) -> object:
            if type(ref) is not list:
                if type(ref) not in _READ_ATOMS:
                    raise NotData("no reference")
                return ref
            (number,) = ref
            if number in unmade:
                unmade.discard(number)
                name, *parts = rows[number]
                kind = _BY_NAME.get(name)
                if name in _BY_TEXT:
                    module, of = name.split(".")
                    (values[number],) = map(getattr(importlib.import_module(module), of), parts)
                elif kind is None:
                    values[number] = opaque(name, parts)
                elif kind.fill:
                    values[number] = kind.make(*map(get, parts[: kind.head]))
                    late.append((kind, values[number], rows[number]))
                else:
                    values[number] = kind.make(*map(get, parts))
            return values[number]

        for number in list(unmade):
            get([number])
        for kind, value, row in late:  # what can change in place may hold itself: filled when all is made
            if kind and kind.fill and kind.name == row[0]:
                parts = row[1 + kind.head :]
                kind.fill(value, parts if _READ_ATOMS.issuperset(map(type, parts)) else list(map(get, parts)))
        return list(map(get, refs))
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError, MemoryError) as e:
        raise NotData(f"malformed ({type(e).__name__})") from None


def send(sock: socket.socket, message: object, deadline: float | None = None) -> None:
    """One message, as JSON, by ``deadline`` (time.monotonic). Raises NotData for one that is too long."""
    data = json.dumps(message).encode()
    if len(data) > MOST:
        raise NotData(f"more than {MOST >> 20} MiB")
    if deadline is not None:
        sock.settimeout(max(deadline - time.monotonic(), 1e-3))
    sock.sendall(struct.pack("!I", len(data)) + data)


def receive(sock: socket.socket, most: int = MOST, deadline: float | None = None) -> object:
    """The next message, by ``deadline`` (time.monotonic). Raises TimeoutError, EOFError when the other side is gone,
    NotData for what is no message."""
    (size,) = struct.unpack("!I", _exactly(sock, 4, deadline))
    if size > most:
        raise NotData(f"more than {most} bytes")
    try:
        return json.loads(_exactly(sock, size, deadline))
    except (ValueError, RecursionError):
        raise NotData("not JSON") from None


def _exactly(sock: socket.socket, size: int, deadline: float | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        if deadline is not None:  # of the whole, or a slow writer would have it again for each byte
            sock.settimeout(max(deadline - time.monotonic(), 1e-3))
        chunk = sock.recv(min(size - len(data), 1 << 20))
        if not chunk:
            raise EOFError
        data += chunk
    return data
