"""Reads the final answer of a worked solution, `#### 18`, as an exact `Decimal`: the grader of GSM8K-like tasks.
Model text is never evaluated: a grammar reads it, and whatever the grammar does not know is no answer. Not covered:
algebra, several answers, number words ("18 thousand" reads as 18, as its unit is not looked at)."""

import re
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation

_MINUS = "-\u2212\u2013\u2010\u2011\u2012\ufe63\uff0d"  # hyphen, minus sign, en dash and their kin
_CURRENCY = r"(?:\\?[$\u20ac\u00a3\u00a5\u20b9\u20a9])"
# What may stand before each three digits: a comma (in TeX {,} or \,), an apostrophe, a narrow or no-break space, _.
_GROUP = "(?:,|\\{,\\}|\\\\,|['\u2019_\u00a0\u2009\u202f])"
# Digits are ASCII; one number has one kind of separator; 40 digits are more than any answer has.
_NUMBER = rf"(?:[0-9]{{1,3}}(?P<group>{_GROUP})[0-9]{{3}}(?:(?P=group)[0-9]{{3}}){{0,11}}|[0-9]{{1,40}})(?:\.[0-9]{{0,40}})?|\.[0-9]{{1,40}}"
_OTHER = "\u00b2\u00b3\u00b9\u00bc-\u00be\u0660-\u0669\u2070-\u2089\u2150-\u215e\u2189\uff10-\uff19"  # digits and fractions that are not
# What would make the number only a part of something else: more digits, a power, a time, a product, a sum, a list.
_PART = (
    rf"(?![0-9{_OTHER}]|(?:[.:]|{_GROUP})[0-9]|[eE][-+]?[0-9]|[ \t]+[0-9{_OTHER}]|[ \t]*,[ \t]*{_CURRENCY}?[0-9]"
    rf"|[ \t]*(?:\*\*|[-+*/^x\u00d7\u00f7\u00b7\u22c5{_MINUS[1:]}])[ \t]*[\\{{]?{_CURRENCY}?[0-9(]|[ \t]*\^"
    r"|[ \t]*\\(?:times|cdot|div|[dt]?frac|over|pm|mp|sqrt|ast|pi|log|binom)"
    rf"|[ \t]+(?:or|and|to)[ \t]+{_CURRENCY}?[0-9])"
)
_VALUE = re.compile(  # possessive (*+, ++), so that long runs of blanks cost linear time
    rf"(?:[\s:=]|\*\*)*+(?P<sign>[-+{_MINUS[1:]}])?[ \t]*+{_CURRENCY}?[ \t]*+(?P<sign2>[{_MINUS}])?"
    rf"(?:(?:(?P<whole>[0-9]{{1,40}})[ \t]++)?(?P<over>[0-9]{{1,40}})[ \t]*+/[ \t]*+(?P<under>[0-9]{{1,40}})"
    rf"|(?P<number>{_NUMBER}))"
    rf"{_PART}"
)
_MARK = re.compile(r"#{4,}")
_NEXT_QUESTION = re.compile(r"^[ \t]*(?:Question|Problem|Q)[ \t]*[0-9]*:", re.MULTILINE)
_EXACT = Context(prec=100, traps=[Inexact, DivisionByZero, InvalidOperation])


def extract_answer(text: str) -> Decimal | None:
    """The number after the last '####' that has one, or None; '####' is required.

    Read: a sign, thousands separators, a currency sign, decimals, a trailing dot, `3/4` and `1 1/2`; units and text that
    follow are ignored. Not read, not even in part: expressions (`9 * 2`, `10**6`), ranges, times, lists, `1e3`, `1,00`,
    `1\u00bd`, a fraction without an end (`1/3`). Of several answers the last counts, as a correction follows what it
    corrects (verl; lm-evaluation-harness takes the first); what follows another "Question:" is left out first."""
    found, end = None, len(text)
    for mark in _MARK.finditer(text):
        if mark.start() >= end:
            break
        match = _VALUE.match(text, mark.end())
        if match is None:
            continue
        if found is None and (cut := _NEXT_QUESTION.search(text, match.end())):
            end = cut.start()
        sign = (match["sign"] or "") + (match["sign2"] or "")
        whole = match["whole"] or re.sub(r"[^0-9.]", "", match["number"] or "0")
        try:
            value = _EXACT.add(Decimal(whole), _EXACT.divide(Decimal(match["over"] or 0), Decimal(match["under"] or 1)))
        except ArithmeticError:
            continue
        if len(sign) < 2:
            found = value if sign in ("", "+") else value.copy_negate()
    return found


def is_right(answer: str, response: str) -> bool:
    """Whether the response's final answer equals ``answer`` exactly."""
    value = extract_answer(response)
    return value is not None and value == Decimal(answer)
