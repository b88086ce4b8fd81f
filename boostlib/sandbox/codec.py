"""Plain data across a process border: JSON of tagged arrays, decoded into exact builtin types and nothing else.

The candidate's side encodes whatever its program returned; the judge's side decodes. A subclass of a plain
type travels as its plain content, so no method of the candidate's (``__eq__``, ``__reduce__``, ``__repr__``)
reaches the judge. An object that is not data travels as a handle: a number (see judge).

Not covered: operations on handles; what a message means.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import json
import socket
import struct
from collections.abc import Callable

MOST = 4 << 20  # bytes of one message
DEEPEST = 200  # levels of nesting
_SMALL = 1 << 62

_Keys, _Values, _Items = type({}.keys()), type({}.values()), type({}.items())
_NAMES = {
    t: t.__name__ for t in (int, float, complex, str, bytes, bool, list, tuple, set, frozenset, dict, type, object)
}
_TYPES = {name: t for t, name in _NAMES.items()} | {"NoneType": type(None)}
_NAMES[type(None)] = "NoneType"


class NotData(Exception):
    """A message is not what the codec writes, or is too large or too deep."""


def _pairs(d: dict, rest: Callable) -> list:
    return [rest(x) for pair in dict.items(d) for x in pair]


# Exact type -> how its content is written. Order matters for subclasses: the first base found is used.
_WRITE: dict[type, Callable] = {
    bool: lambda v, rest: v,
    int: lambda v, rest: v if -_SMALL < v < _SMALL else ["i", hex(v)],
    float: lambda v, rest: v,
    str: lambda v, rest: v,
    list: lambda v, rest: ["l", *map(rest, list.__iter__(v))],
    tuple: lambda v, rest: ["t", *map(rest, tuple.__iter__(v))],
    collections.Counter: lambda v, rest: ["C", *_pairs(v, rest)],
    collections.OrderedDict: lambda v, rest: ["O", *_pairs(v, rest)],
    dict: lambda v, rest: ["d", *_pairs(v, rest)],
    set: lambda v, rest: ["s", *map(rest, set.__iter__(v))],
    frozenset: lambda v, rest: ["z", *map(rest, frozenset.__iter__(v))],
    collections.deque: lambda v, rest: ["q", *map(rest, collections.deque.__iter__(v))],
    bytes: lambda v, rest: ["b", bytes.hex(v)],
    bytearray: lambda v, rest: ["a", bytearray.hex(v)],
    complex: lambda v, rest: ["c", v.real, v.imag],
    range: lambda v, rest: ["r", *map(rest, (v.start, v.stop, v.step))],
    decimal.Decimal: lambda v, rest: ["m", decimal.Decimal.__str__(v)],
    fractions.Fraction: lambda v, rest: ["f", rest(v.numerator), rest(v.denominator)],
    datetime.datetime: lambda v, rest: ["T", datetime.datetime.isoformat(v)],
    datetime.date: lambda v, rest: ["D", datetime.date.isoformat(v)],
    _Keys: lambda v, rest: ["K", *map(rest, v)],
    _Values: lambda v, rest: ["V", *map(rest, v)],
    _Items: lambda v, rest: ["E", *(x for pair in v for x in map(rest, pair))],
}
# A subclass's content as its plain base holds it, past any method it overrides.
_PLAIN: dict[type, Callable] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    complex: lambda v: complex(complex.real.__get__(v), complex.imag.__get__(v)),
}


def encode(value: object, opaque: Callable[[object], list], depth: int = 0) -> object:
    """JSON-able form of ``value``; ``opaque`` writes what is not plain data."""
    if value is None:
        return None
    if depth > DEEPEST:
        raise NotData("nested too deeply")
    kind = type(value)
    write = _WRITE.get(kind)
    if write is None:
        if kind is type and value in _NAMES:
            return ["n", _NAMES[value]]
        if value is Ellipsis or value is NotImplemented:
            return ["n", repr(value)]
        base = next((b for b in kind.__mro__[1:] if b in _WRITE), None)
        if base is None:
            return opaque(value)
        write = _WRITE[base]
        if base in _PLAIN:
            value = _PLAIN[base](value)
    return write(value, lambda v: encode(v, opaque, depth + 1))


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError  # Fraction("1e999999999") would keep us busy
    return value


def _dict(items: list) -> dict:
    return dict(zip(items[::2], items[1::2], strict=True))


_READ: dict[str, Callable] = {
    "l": list,
    "t": tuple,
    "C": lambda items: collections.Counter(_dict(items)),
    "O": lambda items: collections.OrderedDict(_dict(items)),
    "d": _dict,
    "s": set,
    "z": frozenset,
    "q": collections.deque,
    "I": iter,
    "r": lambda items: range(*map(_whole, items)),
    "f": lambda items: fractions.Fraction(*map(_whole, items)),
    "K": lambda items: dict.fromkeys(items).keys(),
    "V": lambda items: dict(enumerate(items)).values(),
    "E": lambda items: _dict(items).items(),
}
_READ_TEXT: dict[str, Callable] = {  # content that is text, not values
    "i": lambda text: int(text, 16),
    "b": bytes.fromhex,
    "a": bytearray.fromhex,
    "m": decimal.Decimal,
    "T": datetime.datetime.fromisoformat,
    "D": datetime.date.fromisoformat,
}
_SINGLES = {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented}


def decode(data: object, handle: Callable[[str, list], object]) -> object:
    """The value ``encode`` wrote; ``handle(tag, rest)`` makes what an opaque entry stands for. Raises NotData."""
    if data is None or type(data) in (bool, int, float, str):
        return data
    if type(data) is not list or not data or type(data[0]) is not str:
        raise NotData("not a tagged value")
    tag, rest = data[0], data[1:]
    try:
        if tag in _READ:
            return _READ[tag]([decode(v, handle) for v in rest])
        if tag in _READ_TEXT and len(rest) == 1 and type(rest[0]) is str:
            return _READ_TEXT[tag](rest[0])
        if tag == "c" and len(rest) == 2:
            return complex(*rest)
        if tag == "n":
            return _SINGLES[rest[0]] if rest[0] in _SINGLES else _TYPES[rest[0]]
    except (TypeError, ValueError, KeyError, IndexError, ArithmeticError, RecursionError) as e:
        raise NotData(f"malformed {tag!r}") from e
    return handle(tag, rest)


def send(sock: socket.socket, message: object) -> None:
    """One message, as JSON. Raises NotData for one that is too long."""
    data = json.dumps(message).encode()
    if len(data) > MOST:
        raise NotData(f"more than {MOST >> 20} MiB")
    send_bytes(sock, data)


def receive(sock: socket.socket) -> object:
    """The next message. Raises EOFError when the other side is gone, NotData when it is malformed."""
    try:
        return json.loads(receive_bytes(sock, MOST))
    except (ValueError, RecursionError) as e:
        raise NotData("not JSON") from e


def send_bytes(sock: socket.socket, data: bytes) -> None:
    sock.sendall(struct.pack("!I", len(data)) + data)


def receive_bytes(sock: socket.socket, most: int) -> bytes:
    (size,) = struct.unpack("!I", _exactly(sock, 4))
    if size > most:
        raise NotData(f"more than {most >> 20} MiB")
    return _exactly(sock, size)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = sock.recv(size) if size else b""
    while len(data) < size:
        part = sock.recv(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return data
