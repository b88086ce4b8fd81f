"""Corrupts a worked solution, a text with equations in it: one number or operator changes, and what changes with it is
replaced wherever it stands later, as if someone had erred once. Exact fractions, nothing is evaluated. Not covered:
telling apart two quantities that happen to have one value."""

import ast
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from boostlib.tasks.answers import is_right

Span = tuple[int, int]
NUMBER = re.compile(r"(?<![\w.,])(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?!\d)|(?<=[a-z])\d+(?=\s*=)")
_SIGNS = {"x": "*", "X": "*", "\u00d7": "*", "\u2212": "-", "\u2013": "-", "\u00f7": "/"}
_SIGN = r"(?<![A-Za-z])[xX](?![A-Za-z])|[-+*/\u00d7\u2212\u2013\u00f7](?!\s*[A-Za-z])|[()%]"
_ITEM = re.compile(f"(?P<number>{NUMBER.pattern})|{_SIGN}")
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_SWAPS = {"+": "-*", "-": "+", "*": "+/", "/": "*-"}


class Token(NamedTuple):  # of an expression
    value: Fraction | str  # a number, operator or bracket
    span: Span | None = None  # where the text shows it


class Step(NamedTuple):
    tokens: tuple[Token, ...]
    result: Span  # where the text shows it


def number(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def read_steps(text: str, hints: Mapping[Span, str] | None = None) -> list[Step]:
    """The equations in the text that are right, up to rounding. ``hints``: expressions by the spans of their results."""
    steps = []
    for match in NUMBER.finditer(text):
        for tokens in _readings(text, match, (hints or {}).get(match.span(), "")):
            result = _value(tokens) if any(t.value in _SWAPS for t in tokens) else None  # else nothing to work out
            if result is not None and round(result, _places(match[0])) == number(match[0]):
                steps.append(Step(tokens, match.span()))
                break
    return steps


def corrupt_solution(text: str, steps: list[Step], answer: str, rng: np.random.Generator) -> str:
    """A wrong version of a right solution that ends in '#### answer'. Tried at random until the answer is wrong and
    every number plausible (positive; in the first tries also whole where it was whole, and of its magnitude); else the
    answer itself changes wherever the last lines state it."""
    for attempt in range(60 if steps else 0):
        at = int(rng.integers(len(steps)))
        mistake = _mistake(text, steps[at], rng)
        wrong = mistake and _rework(text, steps, at, *mistake, strict=attempt < 40)
        if wrong and not is_right(answer, wrong):
            return wrong
    return _other_answer(text, answer, rng)


def _readings(text: str, result: re.Match, hint: str) -> Iterator[tuple[Token, ...]]:
    """Expressions that may stand before '= result' on its line, the longest first; last the hint."""
    line = text.rfind("\n", 0, result.start()) + 1
    if equals := re.compile(r"=\s*[$\u20ac\u00a3]?\s*$").search(text, line, result.start()):
        bullet = re.compile(r"\s*[-*\u2022]\s").match(text, line)
        start = max(bullet.end() if bullet else line, text.rfind("=", line, equals.start()) + 1)
        for first in list(NUMBER.finditer(text, start, equals.start()))[-8:-1]:  # more operands are not read
            begin = first.start()
            while begin > start and text[begin - 1] in "($\u20ac\u00a3":  # an opening bracket belongs to it
                begin -= 1
            if not re.search(r"[-+*/x\u00d7\u00f7(]\s*$", text[start:begin]):
                yield (tokens := _tokens(text, begin, equals.start()))
                if text.startswith("%", result.end()):  # 1 / 4 = 25%
                    yield (Token("("), *tokens, Token(")"), Token("*"), Token(Fraction(100)))
    yield tuple(Token(token.value) for token in _tokens(hint, 0, len(hint)))


def _tokens(text: str, begin: int, end: int) -> tuple[Token, ...]:
    """Numbers, operators and brackets of an expression in the text; all else is passed over."""
    tokens: list[Token] = []
    for match in _ITEM.finditer(text, begin, end):
        if match[0] == "%":
            tokens += [Token("/"), Token(Fraction(100))]
            continue
        if match[0] == "(" and tokens and (tokens[-1].value == ")" or isinstance(tokens[-1].value, Fraction)):  # 2(3+4)
            tokens.append(Token("*"))
        tokens.append(Token(number(match[0]) if match["number"] else _SIGNS.get(match[0], match[0]), match.span()))
    return tuple(tokens)


def _value(tokens: Sequence[Token]) -> Fraction | None:
    """What the expression comes to, exactly; None if it is not well formed or divides by zero. Python's grammar reads
    it, with the place of each number in its stead; the tree is walked, nothing evaluated."""

    def walk(node: ast.expr) -> Fraction:
        match node:
            case ast.Constant(value=place):
                return tokens[place].value
            case ast.UnaryOp(op=ast.USub(), operand=of):
                return -walk(of)
            case ast.BinOp(left=left, op=op, right=right):
                return _OPERATIONS[type(op)](walk(left), walk(right))
        raise ValueError(node)

    shown = (str(i) if isinstance(token.value, Fraction) else token.value for i, token in enumerate(tokens))
    try:
        return walk(ast.parse(" ".join(shown), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return None


def _mistake(text: str, step: Step, rng: np.random.Generator) -> tuple[tuple[Token, ...], dict[Span, str]] | None:
    """A way to get one step wrong: its new tokens, and what to write where."""
    kind = rng.choice(["number", "operator", "sum"])
    if kind == "sum":
        shown = text[slice(*step.result)]
        slip = number(_near(shown, rng)) - number(shown)
        return (Token("("), *step.tokens, Token(")"), Token("+"), Token(slip)), {}
    fits = _SWAPS.__contains__ if kind == "operator" else lambda v: isinstance(v, Fraction) and v not in (1, 100)
    places = [i for i, token in enumerate(step.tokens) if token.span and fits(token.value)]
    if not places:
        return None
    place = int(rng.choice(places))
    value, span = step.tokens[place]
    if kind == "number":
        shown = _near(text[slice(*span)], rng)
        new = number(shown)
    else:
        new = str(rng.choice(list(_SWAPS[value])))
        shown = "x" if new == "*" and re.search(r"\d x ", text) else new
    return (*step.tokens[:place], Token(new, span), *step.tokens[place + 1 :]), {span: shown}


def _near(shown: str, rng: np.random.Generator) -> str:
    """A number one could mistake for this one, written the same way."""
    old = number(shown)
    zeros = len(shown) - len(shown.rstrip("0")) if old.denominator == 1 and "." not in shown else 0
    unit = Fraction(10) ** (max(zeros - 1, 0) - _places(shown))  # a round number is mistaken for another one
    shifts = [s * unit for s in (1, 2, 10, 20, 100, 200, 1000) if s * unit <= max(old / 2, 2 * unit)][-5:]
    near = [new for s in shifts for new in (old - s, old + s) if new > 0]
    return _write(near[int(rng.integers(len(near)))], shown, "")


def _rework(text: str, steps: list[Step], at: int, tokens: tuple, edits: dict[Span, str], strict: bool) -> str | None:
    """The text with the mistake made in step ``at`` and what follows worked out from there; None where implausible."""
    results = {step.result: i for i, step in enumerate(steps)}
    operands = {token.span for step in steps for token in step.tokens}
    changed: dict[Fraction, Fraction] = {}
    for match in NUMBER.finditer(text):
        span, old = match.span(), number(match[0])
        i = results.get(span, -1)
        if i < at:
            if old in changed:
                edits[span] = _write(changed[old], match[0], text)
            continue
        was = steps[i].tokens
        now = tokens if i == at else tuple(Token(changed.get(t.value, t.value), t.span) for t in was)
        changed.pop(old, None)  # from here on, the old value is this one
        if now == was:
            continue
        new = _value(now)
        if new is not None and _value(was) != old:  # the solution rounds here
            new = Fraction(round(new, _places(match[0])))
        if new is None or new <= 0 or (new * 100).denominator > 1:
            return None
        if strict and (old.denominator == 1 < new.denominator or not old / 10 < new < old * 10):
            return None
        if new == old:
            continue
        changed[old] = new
        edits[span] = _write(new, match[0], text)
        line = text.rfind("\n", 0, span[0]) + 1
        for earlier in NUMBER.finditer(text, line, span[0]):  # "he needs 12 of them, as 3 * 4 = 12"
            if number(earlier[0]) == old and earlier.span() not in operands and earlier.span() not in results:
                edits[earlier.span()] = _write(new, earlier[0], text)
    return _apply(text, edits)


def _other_answer(text: str, answer: str, rng: np.random.Generator) -> str:
    body, _, tail = text.rpartition("####")
    shown = NUMBER.search(tail)[0]
    other = number(_near(shown, rng))
    stated = NUMBER.finditer(text, body.rstrip().rfind("\n") + 1)
    return _apply(text, {m.span(): _write(other, m[0], text) for m in stated if number(m[0]) == number(shown)})


def _apply(text: str, edits: Mapping[Span, str]) -> str:
    for (start, end), new in sorted(edits.items(), reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _places(shown: str) -> int:
    return len(shown.partition(".")[2])


def _write(value: Fraction, like: str, text: str) -> str:
    """The number written as ``like``: its decimals (or more), and commas where it or, if it is short, the text has."""
    places = next((n for n in range(_places(like), 6) if (value * 10**n).denominator == 1), max(_places(like), 6))
    short = len(like.partition(".")[0]) < 4
    comma = "," if "," in like or (short and re.search(r"\d,\d{3}", text)) else ""
    written = format(Decimal(value.numerator) / Decimal(value.denominator), f"{comma}.{places}f")
    return written.removeprefix("0") if like.startswith(".") else written
