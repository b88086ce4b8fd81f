"""Small wrong changes to a reference (never a response): a number, an operator or a comparison, its text otherwise
untouched. Not covered: whether a change matters (programs)."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

_SWAPS = {
    "+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "%": "//", "**": "*", "<": "<=", "<=": "<", ">": ">=", ">=": ">",
    "==": "!=", "!=": "==", "and": "or", "or": "and", "in": "not in", "is": "is not", "&": "|", "|": "&", "<<": ">>", ">>": "<<",
}  # fmt: skip
_FUNCTIONS = {
    "min": "max", "max": "min", "all": "any", "any": "all", "upper": "lower", "lower": "upper", "append": "remove",
    "sum": "max", "sorted": "list", "set": "list", "tuple": "list", "list": "tuple", "str": "repr", "abs": "int", "search": "match",
    "startswith": "endswith", "endswith": "startswith", "heappop": "min", "nlargest": "nsmallest", "nsmallest": "nlargest",
    "ceil": "floor", "floor": "ceil", "sin": "cos", "cos": "sin", "isupper": "islower", "islower": "isupper",
}  # fmt: skip
_OPERATOR = re.compile(r"(?:\*\*|//|<<|>>|<=|>=|==|!=|[-+*/%<>&|])|\b(?:and|or|not in|in|is not|is)\b")


class Edit(NamedTuple):  # characters start to end of a program become text
    start: int
    end: int
    text: str

    def apply(self, program: str) -> str:
        return program[: self.start] + self.text + program[self.end :]


def edits(program: str) -> list[Edit]:
    """Every small change there is, in the order of the text. Empty where the program cannot be parsed."""
    try:
        tree = ast.parse(program)
    except (SyntaxError, ValueError):
        return []
    lines = program.encode().split(b"\n")

    def at(line: int, column: int) -> int:  # the parser counts bytes
        return len(b"\n".join([*lines[: line - 1], lines[line - 1][:column]]).decode())

    def span(node: ast.AST) -> tuple[int, int]:
        return at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)

    remarks = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # documentation strings
    found: set[Edit] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=bool(value)):
                found.add(Edit(*span(node), str(not value)))
            case ast.Constant(value=int(value)):
                found |= {Edit(*span(node), str(value + d)) for d in (-1, 1) if value + d >= 0}
            case ast.Constant(value=str(value)) if len(value) > 1 and node not in remarks:
                end = span(node)[1]
                if program[end - 2] == value[-1]:
                    found.add(Edit(end - 2, end - 1, ""))  # the last character lost
            case (
                ast.BinOp(left=left, right=right) | ast.Compare(left=left, comparators=[right])
                | ast.BoolOp(values=[left, right, *_]) | ast.AugAssign(target=left, value=right)
            ):  # fmt: skip
                if (sign := _OPERATOR.search(program, span(left)[1], span(right)[0])) and sign[0] in _SWAPS:
                    found.add(Edit(*sign.span(), _SWAPS[sign[0]]))
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name) as called) if name in _FUNCTIONS:
                end = span(called)[1]
                found.add(Edit(end - len(name), end, _FUNCTIONS[name]))
    return sorted(found)


def returns_nothing(program: str) -> str:
    """The last resort: every return gives back a string that no test expects."""
    return re.sub(r"(?m)^(\s*)return\b.*$", r'\1return "?"', program)
