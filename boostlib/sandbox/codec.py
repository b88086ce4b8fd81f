"""Plain data across a process border: JSON of a flat table, read into exact builtin types and nothing else.

An atom (None, bool, small int, float, str) is written as it is; everything else as [number], the number of its
row; a row is [kind, *content]. So depth does not matter, and what is one object twice arrives as one. A subclass
of a plain type travels as its plain content: no method of the program's reaches the judge.

Not covered: what a message means; what stands for an object that is no plain data (candidate, judge).
"""

from __future__ import annotations

import array
import builtins
import collections
import datetime
import decimal
import fractions
import importlib
import json
import operator
import socket
import struct
import time
from collections.abc import Callable, Iterable
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
    takes the first ``head`` parts alone and ``fill`` puts in the rest."""

    name: str
    parts: Callable[[object], Iterable]
    make: Callable
    fill: Callable[[object, list], object] | None = None
    head: int = 0


def _refill(value: object, parts: list) -> None:
    value.clear()
    value.update(parts) if isinstance(value, set) else value.extend(parts)


def _refill_array(value: array.array, parts: list) -> None:
    value[:] = array.array(value.typecode, parts)


def _refill_dict(value: dict, parts: list) -> None:
    value.clear()
    for key, item in zip(parts[::2], parts[1::2], strict=True):  # a Counter's update counts
        value[key] = item


_deque = collections.deque.__iter__


def _pairs(value: dict) -> Iterable:
    return chain.from_iterable(dict.items(value))


def _userdict(data: dict) -> collections.UserDict:
    value = collections.UserDict()
    value.data = data
    return value


def _type(name: str) -> object:
    found = getattr(builtins, name)
    if not isinstance(found, _NAMED):
        raise NotData(f"{name} is no type")
    return found


def _fields(of: type, names: str) -> Callable:
    """Reads fields past any property that a subclass has in their place."""
    getters = [getattr(of, name).__get__ for name in names.split()]
    return lambda value: [get(value) for get in getters]


_DATE, _TIME = "year month day", "hour minute second microsecond tzinfo"
_index = operator.index  # a Fraction("1e999999999") would keep the judge busy
# The order matters for subclasses: the first base found is used.
KINDS: dict[type, Kind] = {
    int: Kind("int", lambda v: [hex(int.__int__(v))], lambda text: int(text, 16)),
    float: Kind("float", lambda v: [float.__float__(v)], float),
    str: Kind("str", lambda v: [str.__str__(v)], str),
    complex: Kind("complex", lambda v: [complex.real.__get__(v), complex.imag.__get__(v)], complex),
    bytes: Kind("bytes", lambda v: [bytes.hex(v)], bytes.fromhex),
    tuple: Kind("tuple", tuple.__iter__, lambda *parts: parts),
    frozenset: Kind("frozenset", frozenset.__iter__, lambda *parts: frozenset(parts)),
    list: Kind("list", list.__iter__, list, _refill),
    set: Kind("set", set.__iter__, set, _refill),
    collections.deque: Kind("deque", lambda v: [v.maxlen, *_deque(v)], lambda most: collections.deque(maxlen=most), _refill, 1),
    collections.Counter: Kind("Counter", _pairs, collections.Counter, _refill_dict),
    collections.OrderedDict: Kind(
        "OrderedDict", lambda v: chain.from_iterable(collections.OrderedDict.items(v)), collections.OrderedDict, _refill_dict
    ),
    collections.defaultdict: Kind(
        "defaultdict", lambda v: [v.default_factory, *_pairs(v)], collections.defaultdict, _refill_dict, 1
    ),
    dict: Kind("dict", _pairs, dict, _refill_dict),
    bytearray: Kind(
        "bytearray", lambda v: [bytearray.hex(v)], bytearray, lambda v, p: _refill(v, bytes.fromhex(*p))
    ),
    array.array: Kind("array", lambda v: [v.typecode, *array.array.tolist(v)], array.array, _refill_array, 1),
    range: Kind("range", lambda v: [v.start, v.stop, v.step], lambda *parts: range(*map(_index, parts))),
    slice: Kind("slice", lambda v: [v.start, v.stop, v.step], slice),
    decimal.Decimal: Kind("Decimal", lambda v: [decimal.Decimal.__str__(v)], decimal.Decimal),
    fractions.Fraction: Kind(
        "Fraction", lambda v: [v._numerator, v._denominator], lambda *p: fractions.Fraction(*map(_index, p))
    ),
    datetime.datetime: Kind("datetime", _fields(datetime.datetime, f"{_DATE} {_TIME}"), datetime.datetime),
    datetime.date: Kind("date", _fields(datetime.date, _DATE), datetime.date),
    datetime.time: Kind("time", _fields(datetime.time, _TIME), datetime.time),
    datetime.timedelta: Kind(
        "timedelta", _fields(datetime.timedelta, "days seconds microseconds"), datetime.timedelta
    ),
    datetime.timezone: Kind("timezone", lambda v: [v.utcoffset(None)], datetime.timezone),
    memoryview: Kind("memoryview", lambda v: [v.tobytes()], memoryview),
    collections.ChainMap: Kind("ChainMap", lambda v: v.maps, collections.ChainMap),
    collections.UserDict: Kind("UserDict", lambda v: [v.data], _userdict),
    type({}.keys()): Kind("keys", iter, lambda *parts: dict.fromkeys(parts).keys()),
    type({}.values()): Kind("values", iter, lambda *parts: dict(enumerate(parts)).values()),
    type({}.items()): Kind("items", chain.from_iterable, lambda *p: dict(zip(p[::2], p[1::2], strict=True)).items()),
}
_BY_NAME = {kind.name: kind for kind in KINDS.values()} | {"type": Kind("type", iter, _type)}
_BY_TEXT = ("pathlib.PurePosixPath", "ipaddress.IPv4Address", "ipaddress.IPv6Address", "uuid.UUID")
_NAMED = (type, type(...), type(NotImplemented))
_TYPES = {value: name for name, value in vars(builtins).items() if isinstance(value, _NAMED)}


class Writer:
    """Rows of what `ref` was asked for. ``known``: objects that have their rows already, in order; ``opaque``
    writes the row of what is not plain data."""

    def __init__(self, opaque: Callable[[object], list], known: Iterable = ()):
        self.values = list(known)
        self.numbers = {id(value): n for n, value in enumerate(self.values)}
        self.opaque = opaque

    def ref(self, value: object) -> object:
        kind = type(value)
        if kind in _ATOMS or (kind is int and -_SMALL < value < _SMALL):
            return value
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.values)
            self.values.append(value)  # so that it lives, and its id is its own
        return [number]

    def rows(self) -> list[list]:
        """All rows; those of parts are added while this goes on."""
        return [self.row(value) for value in self.values]

    def row(self, value: object) -> list:
        of = type(value)
        kind = KINDS.get(of) or next((KINDS[base] for base in of.__mro__ if base in KINDS), None)
        if kind is None:
            if isinstance(value, _NAMED) and value in _TYPES:
                return ["type", _TYPES[value]]
            name = f"{of.__module__}.{of.__qualname__}"
            return [name, str(value)] if name in _BY_TEXT else self.opaque(value)
        parts = list(kind.parts(value))
        kinds = set(map(type, parts))
        if kinds <= _ATOMS or (kinds == {int} and -_SMALL < min(parts) and max(parts) < _SMALL):
            return [kind.name, *parts]
        return [kind.name, *map(self.ref, parts)]


def read(rows: list, refs: list, opaque: Callable[[str, list], object], own: list = []) -> list:  # noqa: B006
    """The values that ``refs`` stand for, which are atoms or [number of a row]. ``own``: the objects of the first
    rows; where such a row is not None, the object has changed and is changed here. ``opaque`` makes what the
    rows of other kinds stand for. Raises NotData."""
    try:
        return _read(rows, refs, opaque, own)
    except NotData:
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError, MemoryError) as e:
        raise NotData(f"malformed ({type(e).__name__})") from None


def _read(rows: list, refs: list, opaque: Callable[[str, list], object], own: list) -> list:
    values = [*own, *[None] * (len(rows) - len(own))]
    unmade = set(range(len(own), len(rows)))
    late = [(KINDS.get(type(value)), value, rows[n]) for n, value in enumerate(own) if rows[n] is not None]

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
            if kind is None:
                values[number] = _by_text(name, *parts) if name in _BY_TEXT else opaque(name, parts)
            elif kind.fill:
                values[number] = kind.make(*map(get, parts[: kind.head]))
                late.append((kind, values[number], rows[number]))
            else:
                values[number] = kind.make(*map(get, parts))
        return values[number]

    for number in range(len(own), len(rows)):
        get([number])
    for kind, value, row in late:  # what can change in place may hold itself: filled when all is made
        if kind and kind.fill and kind.name == row[0]:
            parts = row[1 + kind.head :]
            kind.fill(value, parts if _READ_ATOMS.issuperset(map(type, parts)) else list(map(get, parts)))
    return list(map(get, refs))


def _by_text(name: str, text: str) -> object:
    module, of = name.split(".")
    return getattr(importlib.import_module(module), of)(text)


def send(sock: socket.socket, message: object) -> None:
    """One message, as JSON. Raises NotData for one that is too long."""
    data = json.dumps(message).encode()
    if len(data) > MOST:
        raise NotData(f"more than {MOST >> 20} MiB")
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


def _exactly(sock: socket.socket, size: int, deadline: float | None) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        if deadline is not None:  # of the whole, or a slow writer would have it again for each byte
            sock.settimeout(max(deadline - time.monotonic(), 1e-3))
        count = sock.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return data
