"""What the tests ask of a program, told from the text of setup and tests alone, in the user's process.

For the verdict `apart` a test may call the program's functions with plain data and look at the plain data that
comes back: those names are ``functions``. A name like `math` in `math.sqrt` is the library's, whatever the
program made of it (``modules``). ``why`` says what else a test asks for, "" if nothing: then the verdict cannot
be had, as an object of the program's would have to be believed. Wherever this is in doubt it is said so.

Not covered: an argument that is no plain data, such as a lambda, which the judge notices when it comes to it.
"""

from __future__ import annotations

import ast
import builtins
import functools
import re
import symtable
import sys
from collections.abc import Iterator

_BUILTIN = frozenset(dir(builtins))
_LIBRARY = sys.stdlib_module_names - {"antigravity", "this", "idlelib", "turtledemo"}
_PLAIN = _LIBRARY - {"ctypes", "dataclasses", "gc", "inspect", "pickle", "weakref"}  # what works on plain data
# Builtins that tell objects apart by more than their content, or reach around the call.
_ASKING = frozenset(
    "isinstance issubclass hasattr getattr setattr delattr callable id hash type vars dir eval exec globals locals super object "
    "open input breakpoint compile help memoryview __import__".split()
)
_CLASS = re.compile(r"[A-Z][A-Za-z0-9]*$")  # a name in the style of classes
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@functools.lru_cache(4096)
def read(setup: str, tests: tuple[str, ...]) -> dict:
    """{"functions", "classes": those of them that seem classes, "modules": {name: attributes used}, "imports": the
    setup's, "why"}. Raises ValueError for a
    setup or a test that is no Python."""
    pieces = [_Piece(setup, "setup"), *(_Piece(test, f"tests[{i}]") for i, test in enumerate(tests))]
    defined: set[str] = set()
    for piece in pieces:
        own = piece.defined - piece.changed
        piece.foreign = (piece.read | piece.changed) - own - defined - _BUILTIN
        defined |= own
    names = set().union(*(piece.foreign for piece in pieces))
    called = set().union(*(piece.called for piece in pieces))
    dotted = set().union(*(piece.dotted for piece in pieces))
    modules = {name for name in names & _LIBRARY & {n for n, _ in dotted} if name not in called}
    under_test, why = _builtin_under_test(pieces[1:])
    functions = (names - modules) | under_test
    read_anywhere = set().union(*(piece.read for piece in pieces))
    for piece in pieces:
        piece.foreign |= under_test
        why = why or _Asked(piece, piece.foreign & functions, modules, functions).why
        unread = piece.given - read_anywhere
        why = why or (unread and f"{min(unread)} is set for the program to read") or ""
    imports = [n for n in pieces[0].tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    return {
        "functions": sorted(functions),
        "classes": sorted(filter(_CLASS.match, functions)) if len(functions) > 1 else [],
        "modules": {name: sorted(attribute for of, attribute in dotted if of == name) for name in sorted(modules)},
        "imports": "\n".join(map(ast.unparse, imports)),
        "why": why,
    }


def _builtin_under_test(tests: list[_Piece]) -> tuple[set[str], str]:
    """Where a test reads nothing but builtins, one of them is the program's: `assert sum(10, 15) == 6`."""
    bare = [t for t in tests if not (t.foreign | (t.read - _BUILTIN)) and t.called & _BUILTIN]
    found = set().union(*(t.called & _BUILTIN for t in bare))
    if len(found) > 1:
        return set(), f"any of {', '.join(sorted(found))} may be the program's"
    if any(found & t.read for t in tests if t not in bare):
        return set(), f"{min(found)} may be the program's or the builtin"
    return found, ""


class _Piece:
    """A setup or a test: its tree, and the names it reads, defines, calls, and reads as in ``name.attribute``."""

    def __init__(self, source: str, what: str):
        try:
            compile(source, what, "exec", dont_inherit=True, optimize=0)
            self.tree = ast.parse(source)
            table = symtable.symtable(source, what, "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
            raise ValueError(f"{what} is no valid Python ({e}): {source[:80]!r}") from None
        self.is_setup = what == "setup"
        self.foreign: set[str] = set()
        self.read, self.defined = set(), set()
        for scope in _scopes(table):
            top = scope is table
            for symbol in scope.get_symbols():
                if symbol.is_referenced() and (top or symbol.is_global()):
                    self.read.add(symbol.get_name())
                if (symbol.is_assigned() or symbol.is_imported()) and (top or symbol.is_declared_global()):
                    self.defined.add(symbol.get_name())
        nodes = list(ast.walk(self.tree))
        self.called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        self.dotted = {(n.value.id, n.attr) for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
        targets = [t for n in self.tree.body if isinstance(n, ast.Assign) for t in n.targets if not _calls(n.value)]
        defs = [n for n in self.tree.body if isinstance(n, ast.FunctionDef)]
        self.given = {t.id for t in targets if isinstance(t, ast.Name)} | {d.name for d in defs}
        changed = {n.target.id for n in nodes if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)}
        plain = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} - changed
        self.changed = changed - plain  # names only ever changed here: given elsewhere, or the program's


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _scopes(child)


def _calls(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Call) for n in ast.walk(node))


class _Asked:
    """Follows the program's results through one piece, by name, and says in ``why`` what is asked of them."""

    def __init__(self, piece: _Piece, program: set[str], modules: set[str], all_functions: set[str]):
        self.program, self.modules, self.setup = program, modules, piece.is_setup
        self.classes = {n for n in program if _CLASS.match(n)}
        self.alone = len(all_functions) == 1
        self.nodes = list(ast.walk(piece.tree))
        self.own = {n.name for n in self.nodes if isinstance(n, ast.FunctionDef)}
        self.carries: dict[str, frozenset[str]] = {}  # variable -> names of the program whose results it may hold
        while self.spread():
            pass
        self.caught = {n.name for n in self.nodes if isinstance(n, ast.ExceptHandler) and n.name}
        self.places = self.places_of_names()
        self.why = next(filter(None, map(self.asks, self.nodes)), "")
        if piece.changed & program:
            self.why = self.why or f"{min(piece.changed)} of the program is changed"

    def spread(self) -> bool:
        """Carry results from values to the names they are bound to; whether anything was new."""
        before = dict(self.carries)
        for node in self.nodes:
            match node:
                case ast.Assign(targets=targets, value=value):
                    pairs = [(target, value) for target in targets]
                case ast.AnnAssign(target=target, value=value) | ast.AugAssign(target=target, value=value):
                    pairs = [(target, value)] if value else []
                case ast.NamedExpr(target=target, value=value) | ast.For(target=target, iter=value):
                    pairs = [(target, value)]
                case ast.comprehension(target=target, iter=value):
                    pairs = [(target, value)]
                case ast.FunctionDef(name=name, body=body):
                    pairs = [(ast.Name(name), statement) for statement in body]
                case _:
                    continue
            for target, value in pairs:
                for name in (n.id for n in ast.walk(target) if isinstance(n, ast.Name)):
                    self.carries[name] = self.carries.get(name, frozenset()) | self.reach(value)
        return self.carries != before

    def reach(self, node: ast.AST | None) -> frozenset[str]:
        """Functions of the program whose results may be in a value."""
        match node:
            case None:
                return frozenset()
            case ast.Name(id=name):
                return self.carries.get(name, frozenset()) | ({name} & self.program)
            case ast.Compare() | ast.UnaryOp(op=ast.Not()):
                return frozenset()  # True or False
        return frozenset().union(*map(self.reach, ast.iter_child_nodes(node)))

    def places_of_names(self) -> set[ast.AST]:
        """Where a name of the program's may stand: it is called, or passed to what calls it."""
        may = set()
        for call in self.nodes:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                may.add(call.func)
                if call.func.id in self.program | self.own | {"map", "filter"}:
                    may |= {*call.args, *(k.value for k in call.keywords)}
        return may

    def asks(self, node: ast.AST) -> str:  # noqa: PLR0911
        """What one node asks for beyond calls with plain data."""
        match node:
            case ast.With() | ast.AsyncWith() | ast.Await() | ast.AsyncFor() | ast.Yield() | ast.YieldFrom():
                return "a test uses with, await or yield"
            case ast.ClassDef(name=name):
                return f"{name} is a class of the tests' own"
            case ast.Import(names=names) if not {n.name.split(".")[0] for n in names} <= _PLAIN:
                return f"{names[0].name} works on more than plain data"
            case ast.ImportFrom(module=module) if (module or "").split(".")[0] not in _PLAIN:
                return f"{module} works on more than plain data"
            case ast.Name(id=name) if name in _ASKING:
                return f"a test uses {name}"
            case ast.Name(id=name) if name in self.program and node not in self.places:
                return f"{name} of the program is not called"
            case ast.Name(id=name) if name in self.modules and not self.setup and self.bare(node):
                return f"{name} is used as a value"
            case ast.FunctionDef(decorator_list=[_, *_] as decorators) if any(map(self.reach, decorators)):
                return f"{node.name} is decorated by the program"
            case ast.Attribute():
                return self.asks_attribute(node)
            case ast.Subscript(value=value, ctx=ast.Store() | ast.Del()) if self.reach(value):
                return "a test changes what the program returned"
            case ast.AugAssign(target=target) if self.reach(target):
                return "a test changes what the program returned"
            case ast.Call():
                return self.asks_call(node)
            case ast.Compare(left=left, ops=ops, comparators=right):
                return self.asks_compare([left, *right], ops)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))) if name in _LIBRARY:
                return f"{name} is called for what it does"
        return ""

    def bare(self, node: ast.Name) -> bool:
        return not any(isinstance(n, ast.Attribute) and n.value is node for n in self.nodes)

    def asks_attribute(self, node: ast.Attribute) -> str:
        match node.value:
            case ast.Name(id=name) if name in self.program:
                return f"{name}.{node.attr} is an attribute of the program's"
            case ast.Name(id=name) if name in self.caught and node.attr != "args":
                return f"{name}.{node.attr} is an attribute of an exception"
        if self.reach(node.value):
            return "" if self.setup else f"a test uses .{node.attr} of what the program returned"
        return f"a test sets .{node.attr}" if isinstance(node.ctx, ast.Store | ast.Del) else ""

    def asks_call(self, call: ast.Call) -> str:
        if not isinstance(call.func, ast.Name):
            return "" if isinstance(call.func, ast.Attribute) or not self.reach(call.func) else "a result is called"
        name = call.func.id
        if name not in self.program:
            return "a result is called" if self.carries.get(name) and name not in self.own else ""
        if name in self.classes and not self.setup and not self.may_be_made(call):
            return f"{name} seems a class, and a test looks at its object"
        others = self.reach(call) - {name} - self.classes
        return f"{name} is applied to what {min(others)} gave" if others and name not in self.classes else ""

    def may_be_made(self, call: ast.Call) -> bool:
        """An object made in the arguments of a function of the program's; or no class after all, as nothing
        else is called and it is compared."""
        for node in self.nodes:
            match node:
                case ast.Call(func=ast.Name(id=name)) if name in self.program - self.classes:
                    if any(call is inner for inner in ast.walk(node)):
                        return True
                case ast.Compare(left=left, comparators=right) if self.alone and call in (left, *right):
                    return True
                case ast.Assert(test=test) | ast.UnaryOp(op=ast.Not(), operand=test) if self.alone and test is call:
                    return True
        return False

    def asks_compare(self, sides: list[ast.expr], ops: list[ast.cmpop]) -> str:
        found = [self.reach(side) for side in sides]
        for n, op in enumerate(ops):
            if isinstance(op, ast.Is | ast.IsNot) and not any(isinstance(s, ast.Constant) and s.value in (None, True, False) for s in sides[n : n + 2]):  # fmt: skip
                return "a test asks for identity"
            if found[n] and found[n + 1]:
                return "a test compares two results of the program"
        together = frozenset().union(*found) - self.classes
        return f"a test compares what {' and '.join(sorted(together))} gave together" if len(together) > 1 else ""
