"""Small wrong changes to a reference (never a response): a number, an operator or a comparison, its text otherwise
untouched. Not covered: whether a change matters (programs)."""

import ast
import re

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


def edits(program: str) -> list[str]:
    """The program with each small change there is, in the order of the text. Empty where it cannot be parsed."""
    try:
        tree = ast.parse(program)
    except (SyntaxError, ValueError):
        return []
    lines = program.encode().splitlines(keepends=True)

    def at(line: int, column: int) -> int:  # the parser counts bytes
        return len((b"".join(lines[: line - 1]) + lines[line - 1][:column]).decode())

    def span(node: ast.AST) -> tuple[int, int]:
        return at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)

    remarks = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # documentation strings
    found: set[tuple[int, int, str]] = set()  # characters from, to, become
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=bool(value)):
                found.add((*span(node), str(not value)))
            case ast.Constant(value=int(value)):
                found |= {(*span(node), str(value + d)) for d in (-1, 1) if value + d >= 0}
            case ast.Constant(value=str(value)) if len(value) > 1 and node not in remarks:
                end = span(node)[1]
                if program[end - 2] == value[-1]:
                    found.add((end - 2, end - 1, ""))  # the last character lost
            case (
                ast.BinOp(left=left, right=right) | ast.Compare(left=left, comparators=[right])
                | ast.BoolOp(values=[left, right, *_]) | ast.AugAssign(target=left, value=right)
            ):  # fmt: skip
                if (sign := _OPERATOR.search(program, span(left)[1], span(right)[0])) and sign[0] in _SWAPS:
                    found.add((*sign.span(), _SWAPS[sign[0]]))
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name) as called) if name in _FUNCTIONS:
                end = span(called)[1]
                found.add((end - len(name), end, _FUNCTIONS[name]))
    return [program[:start] + text + program[end:] for start, end, text in sorted(found)]
