"""What the tests ask of a program, told from the text of setup and tests alone, in the user's process.

For the verdict `apart` a test may call the program's functions with plain data and look at the plain data that
comes back. A name like `math` in `math.sqrt` is the library's, whatever the program made of it. All else (attributes
of results, identity, classes, two results compared, in doubt) cannot be had apart, as an object of the program's
would have to be believed.

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


@functools.lru_cache(4096)
def read(setup: str, tests: tuple[str, ...]) -> dict:
    """{"functions": names of the program's, "classes": those of them that seem classes, "modules": {name: attributes
    used}, "imports": the setup's, "why": what else is asked for, "" if nothing}. Raises ValueError for a setup or a
    test that is no Python."""
    pieces = [_Piece(setup, "setup"), *(_Piece(test, f"tests[{i}]") for i, test in enumerate(tests))]
    defined: set[str] = set()
    for piece in pieces:
        piece.foreign = piece.read - piece.defined - defined - _BUILTIN
        defined |= piece.defined
    names, read, called, dotted = (
        set().union(*(getattr(piece, what) for piece in pieces)) for what in ("foreign", "read", "called", "dotted")
    )
    modules = (names & _LIBRARY & {name for name, _ in dotted}) - called
    functions, why = names - modules, ""
    # A test that reads nothing but builtins is of a builtin's namesake: `assert sum(10, 15) == 6`.
    bare = [piece for piece in pieces[1:] if piece.called and piece.read <= _BUILTIN]
    if namesakes := set().union(*(piece.called for piece in bare)):
        if len(namesakes) > 1 or any(namesakes & piece.read for piece in pieces if piece not in bare):
            why = f"{min(namesakes)} may be the program's or the builtin"
        functions |= namesakes
    for piece in pieces:
        unread = piece.given - read
        why = why or _Asked(piece, functions, modules).why or (unread and f"{min(unread)} is set for the program") or ""
    return {
        "functions": sorted(functions),
        "classes": sorted(filter(_CLASS.match, functions)) if len(functions) > 1 else [],
        "modules": {name: sorted(attribute for of, attribute in dotted if of == name) for name in sorted(modules)},
        "imports": "\n".join(ast.unparse(n) for n in pieces[0].tree.body if isinstance(n, ast.Import | ast.ImportFrom)),
        "why": why,
    }


class _Piece:
    """A setup or a test: the names it reads (or only changes, as in ``n += 1``), defines, calls, reads as in
    ``name.attribute``, and sets at its top to what is not called for."""

    def __init__(self, source: str, what: str):
        try:
            compile(source, what, "exec", dont_inherit=True, optimize=0)
            self.tree, table = ast.parse(source), symtable.symtable(source, what, "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
            raise ValueError(f"{what} is no valid Python ({e}): {source[:80]!r}") from None
        self.setup = what == "setup"
        self.nodes = list(ast.walk(self.tree))
        self.foreign: set[str] = set()
        self.read, self.defined, self.called, self.dotted, self.given = set(), set(), set(), set(), set()
        changed, stored = set(), []
        for node in self.nodes:
            match node:
                case ast.Call(func=ast.Name(id=name)):
                    self.called.add(name)
                case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                    self.dotted.add((name, attribute))
                case ast.AugAssign(target=ast.Name(id=name)):
                    changed.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    stored.append(name)
        self.changed = {name for name in changed if stored.count(name) == 1}
        for scope in _scopes(table):
            for symbol in scope.get_symbols():
                if symbol.is_referenced() and (scope is table or symbol.is_global()):
                    self.read.add(symbol.get_name())
                if (symbol.is_assigned() or symbol.is_imported()) and (scope is table or symbol.is_declared_global()):
                    self.defined.add(symbol.get_name())
        self.read, self.defined = self.read | self.changed, self.defined - self.changed
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef):
                self.given.add(node.name)
            elif isinstance(node, ast.Assign) and not any(isinstance(n, ast.Call) for n in ast.walk(node.value)):
                self.given |= {target.id for target in node.targets if isinstance(target, ast.Name)}


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _scopes(child)


class _Asked:
    """Follows the program's results through one piece, by name, and says in ``why`` what is asked of them."""

    def __init__(self, piece: _Piece, functions: set[str], modules: set[str]):
        self.program, self.modules, self.setup, self.nodes = (
            functions - piece.defined,
            modules,
            piece.setup,
            piece.nodes,
        )
        self.classes = set(filter(_CLASS.match, self.program))
        self.alone = len(functions) == 1
        self.own = {node.name for node in self.nodes if isinstance(node, ast.FunctionDef)}
        self.caught = {node.name for node in self.nodes if isinstance(node, ast.ExceptHandler) and node.name}
        self.carries: dict[str, frozenset[str]] = {}  # variable -> names of the program whose results it may hold
        while self.spread():
            pass
        # Where a name of the program's may stand: it is called, or passed to what calls it.
        self.places: set[ast.AST] = set()
        for call in self.nodes:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                given = [*call.args, *(k.value for k in call.keywords)]
                self.places |= {
                    call.func,
                    *(given if call.func.id in self.program | self.own | {"map", "filter"} else ()),
                }
        asked = filter(None, map(self.asks, self.nodes))
        self.why = next(asked, "") or (f"{min(c)} is changed" if (c := piece.changed & self.program) else "")

    def spread(self) -> bool:
        """Carry results from values to the names they are bound to; whether anything was new."""
        before = dict(self.carries)
        for node in self.nodes:
            match node:
                case ast.Assign(targets=targets, value=value):
                    pass
                case ast.AnnAssign(target=target, value=value) | ast.AugAssign(target=target, value=value):
                    targets = [target]
                case ast.NamedExpr(target=target, value=value) | ast.For(target=target, iter=value):
                    targets = [target]
                case ast.comprehension(target=target, iter=value):
                    targets = [target]
                case ast.FunctionDef(name=name, body=body):
                    targets, value = [ast.Name(name)], ast.Module(body, [])
                case _:
                    continue
            for name in (n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)):
                self.carries[name] = self.carries.get(name, frozenset()) | self.reach(value)
        return self.carries != before

    def reach(self, node: ast.AST | None) -> frozenset[str]:
        """Functions of the program whose results may be in a value."""
        match node:
            case ast.Name(id=name):
                return self.carries.get(name, frozenset()) | ({name} & self.program)
            case None | ast.Compare() | ast.UnaryOp(op=ast.Not()):
                return frozenset()  # True or False
        return frozenset().union(*map(self.reach, ast.iter_child_nodes(node)))

    def asks(self, node: ast.AST) -> str:
        """What one node asks for beyond calls with plain data."""
        match node:
            case ast.With() | ast.AsyncWith() | ast.Await() | ast.AsyncFor() | ast.Yield() | ast.YieldFrom():
                return "a test uses with, await or yield"
            case ast.ClassDef(name=name):
                return f"{name} is a class of the tests' own"
            case ast.alias(name=name) if self.imported(node) not in _PLAIN:
                return f"{name} works on more than plain data"
            case ast.Name(id=name) if name in _ASKING:
                return f"a test uses {name}"
            case ast.Name(id=name) if name in self.program and node not in self.places:
                return f"{name} of the program is not called"
            case ast.Name(id=name) if name in self.modules and not any(
                getattr(n, "value", None) is node for n in self.nodes
            ):
                return f"{name} is used as a value"
            case ast.FunctionDef(name=name, decorator_list=decorators) if any(map(self.reach, decorators)):
                return f"{name} is decorated by the program"
            case ast.Attribute():
                return self.asks_attribute(node)
            case ast.Subscript(value=value, ctx=ast.Store() | ast.Del()) | ast.AugAssign(target=value) if self.reach(
                value
            ):
                return "a test changes what the program returned"
            case ast.Call(func=ast.Name(id=name)) if name in self.program:
                return self.asks_call(node, name)
            case ast.Call(func=ast.Name(id=name)) if self.carries.get(name) and name not in self.own:
                return "a result is called"
            case ast.Call(func=function) if not isinstance(function, ast.Name | ast.Attribute) and self.reach(function):
                return "a result is called"
            case ast.Compare(left=left, ops=ops, comparators=right):
                return self.asks_compare([left, *right], ops)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))) if name in _LIBRARY:
                return f"{name} is called for what it does"
        return ""

    def imported(self, alias: ast.alias) -> str:
        origin = next(n for n in self.nodes if alias in getattr(n, "names", ()))
        return (alias.name if isinstance(origin, ast.Import) else origin.module or "").split(".")[0]

    def asks_attribute(self, node: ast.Attribute) -> str:
        match node.value:
            case ast.Name(id=name) if name in self.program or (name in self.caught and node.attr != "args"):
                return f"a test uses {name}.{node.attr}"
        if self.reach(node.value):
            return "" if self.setup else f"a test uses .{node.attr} of what the program returned"
        return f"a test sets .{node.attr}" if isinstance(node.ctx, ast.Store | ast.Del) else ""

    def asks_call(self, call: ast.Call, name: str) -> str:
        if name not in self.classes:
            others = self.reach(call) - {name} - self.classes
            return f"{name} is applied to what {min(others)} gave" if others else ""
        if self.setup:
            return ""
        for node in self.nodes:
            match node:  # made for a function; or no class after all, as nothing else is called and it is compared
                case ast.Call(func=ast.Name(id=user)) if user in self.program - self.classes:
                    if any(call is inner for inner in ast.walk(node)):
                        return ""
                case ast.Compare() | ast.Assert() | ast.UnaryOp(op=ast.Not()) if self.alone:
                    if call in ast.iter_child_nodes(node):
                        return ""
        return f"{name} seems a class, and a test looks at its object"

    def asks_compare(self, sides: list[ast.expr], ops: list[ast.cmpop]) -> str:
        found = [self.reach(side) for side in sides]
        for n, op in enumerate(ops):
            single = any(isinstance(s, ast.Constant) and s.value in (None, True, False) for s in sides[n : n + 2])
            if isinstance(op, ast.Is | ast.IsNot) and not single:
                return "a test asks for identity"
            if found[n] and found[n + 1]:
                return "a test compares two results of the program"
        return (
            "a test compares what two functions gave together"
            if len(frozenset().union(*found) - self.classes) > 1
            else ""
        )
