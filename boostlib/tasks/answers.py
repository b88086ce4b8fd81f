"""Reads the final answer of a worked solution, `#### 18`, as an exact `Decimal`: the grader of GSM8K-like tasks.

Model text is never evaluated: a grammar reads it, and whatever the grammar does not know is no answer.

Not covered: algebra, several answers, number words ("18 thousand" reads as 18, as its unit is not looked at).
"""

from __future__ import annotations

import re
from decimal import Decimal

_MINUS = "-\u2212\u2013\u2010\u2011\u2012\ufe63\uff0d"  # hyphen, minus sign, en dash and their kin
_CURRENCY = r"(?:\\?[$\u20ac\u00a3\u00a5\u20b9\u20a9])"
# Digits are ASCII; a comma stands before exactly three of them; 40 are more than any answer has.
_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,12}|[0-9]{1,40})(?:\.[0-9]{0,40})?|\.[0-9]{1,40}"
# What would make the number only a part of something else: more digits, a power of ten, a time, a sum, a list.
_PART = (
    rf"(?![0-9]|[.,:][0-9]|[eE][-+]?[0-9]|[ \t]+[0-9]|[ \t]*,[ \t]*{_CURRENCY}?[0-9]"
    rf"|[ \t]*[-+*/^x\u00d7\u00f7{_MINUS[1:]}][ \t]*{_CURRENCY}?[0-9(]|[ \t]+(?:or|and|to)[ \t]+{_CURRENCY}?[0-9])"
)
_VALUE = re.compile(  # possessive (*+, ++), so that long runs of blanks cost linear time
    rf"(?:[\s:=]|\*\*)*+(?P<sign>[-+{_MINUS[1:]}])?[ \t]*+{_CURRENCY}?[ \t]*+(?P<sign2>[{_MINUS}])?"
    rf"(?:(?:(?P<whole>[0-9]{{1,40}})[ \t]++)?(?P<over>[0-9]{{1,40}})[ \t]*+/[ \t]*+(?P<under>[0-9]{{1,40}})"
    rf"|(?P<number>{_NUMBER}))"
    rf"{_PART}"
)
_MARK = re.compile(r"#{4,}")
_NEXT_QUESTION = re.compile(r"^[ \t]*(?:Question|Problem|Q)[ \t]*[0-9]*:", re.MULTILINE)
_ANY_NUMBER = re.compile(rf"(?<![0-9.])(?P<sign>(?<![\w)\]])[{_MINUS}])?{_CURRENCY}?(?P<number>{_NUMBER})")


def extract_answer(text: str) -> Decimal | None:
    """The number after the last '####' that has one, or None; '####' is required.

    Read: a sign, thousands commas, a currency sign, decimals, a trailing dot, `3/4` and `1 1/2`; units and
    text that follow are ignored. Not read: expressions (`9 * 2`), ranges, times, lists, `1e3`, `1,00`.
    Of several answers the last counts, as a correction follows what it corrects (verl; lm-evaluation-harness
    takes the first); but text that runs on into another question ("Question:" at the start of a line, after
    an answer) is left out first, since the answer there is to something else.
    """
    found = None
    end = len(text)
    for mark in _MARK.finditer(text):
        if mark.start() >= end:
            break
        match = _VALUE.match(text, mark.end())
        if match is None:
            continue
        if found is None and (cut := _NEXT_QUESTION.search(text, match.end())):
            end = cut.start()
        value = _decimal(match)
        found = found if value is None else value
    return found


def last_number(text: str) -> Decimal | None:
    """The last number anywhere in the text, or None."""
    matches = list(_ANY_NUMBER.finditer(text))
    if not matches:
        return None
    value = Decimal(matches[-1]["number"].replace(",", ""))
    return -value if matches[-1]["sign"] else value


def is_right(answer: str, response: str, lenient: bool = False) -> bool:
    """Whether the response's final answer equals ``answer`` exactly. ``lenient``: the last number counts where
    '####' gives none, as in flexible harnesses; a filter whose noise can be measured against the strict one."""
    value = extract_answer(response)
    if value is None and lenient:
        value = last_number(response)
    return value is not None and value == Decimal(answer)


def _decimal(match: re.Match) -> Decimal | None:
    if match["sign"] and match["sign2"]:
        return None
    if match["number"]:
        value = Decimal(match["number"].replace(",", ""))
    elif int(match["under"]) == 0:
        return None
    else:
        value = Decimal(match["whole"] or 0) + Decimal(match["over"]) / Decimal(match["under"])
    sign = match["sign2"] or match["sign"] or "+"
    return value if sign == "+" else -value
