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
from collections import Counter
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
_BINDING = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr | ast.For | ast.comprehension


@functools.lru_cache(4096)
def read(setup: str, tests: tuple[str, ...]) -> dict:
    """{"functions": names of the program's, "classes": those of them that seem classes, "modules": {name: attributes
    used}, "imports": the setup's, "why": what else is asked for, "" if nothing}. Raises ValueError for a setup or a
    test that is no Python."""
    pieces = [_Piece(setup, "setup"), *(_Piece(test, f"tests[{i}]") for i, test in enumerate(tests))]
    defined, names, why = set(), set(), ""
    for piece in pieces:
        names |= piece.read - piece.defined - defined - _BUILTIN
        defined |= piece.defined
    read, called, dotted = (set().union(*(getattr(p, what) for p in pieces)) for what in ("read", "called", "dotted"))
    modules = (names & _LIBRARY & {name for name, _ in dotted}) - called
    functions = names - modules
    # A test that reads nothing but builtins is of a builtin's namesake: `assert sum(10, 15) == 6`.
    bare = [piece for piece in pieces[1:] if piece.called and piece.read <= _BUILTIN]
    if namesakes := set().union(*(piece.called for piece in bare)):
        if len(namesakes) > 1 or any(namesakes & piece.read for piece in pieces if piece not in bare):
            why = f"{min(namesakes)} may be the program's or the builtin"
        functions |= namesakes
    for piece in pieces:
        unread = piece.given - read
        why = why or piece.beyond(functions, modules) or (unread and f"{min(unread)} is set for the program") or ""
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
        self.setup, self.nodes = what == "setup", list(ast.walk(self.tree))
        self.calls = [n for n in self.nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
        self.called = {call.func.id for call in self.calls}
        attributes = [n for n in self.nodes if isinstance(n, ast.Attribute)]
        self.owners = {n.value for n in attributes}
        self.dotted = {(n.value.id, n.attr) for n in attributes if isinstance(n.value, ast.Name)}
        stored = Counter(n.id for n in self.nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        changed = {n.target.id for n in self.nodes if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)}
        self.changed = {name for name in changed if stored[name] == 1}
        self.read, self.defined, self.given = set(self.changed), set(), set()
        for scope in _scopes(table):
            for symbol in scope.get_symbols():
                if symbol.is_referenced() and (scope is table or symbol.is_global()):
                    self.read.add(symbol.get_name())
                if (symbol.is_assigned() or symbol.is_imported()) and (scope is table or symbol.is_declared_global()):
                    self.defined.add(symbol.get_name())
        self.defined -= self.changed
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef):
                self.given.add(node.name)
            elif isinstance(node, ast.Assign) and not any(isinstance(n, ast.Call) for n in ast.walk(node.value)):
                self.given |= {target.id for target in node.targets if isinstance(target, ast.Name)}

    def beyond(self, functions: set[str], modules: set[str]) -> str:
        """What is asked for beyond calls of ``functions`` with plain data. Follows the program's results by name."""
        self.program, self.modules = functions - self.defined, modules
        self.classes = set(filter(_CLASS.match, self.program))
        self.own = {node.name for node in self.nodes if isinstance(node, ast.FunctionDef)}
        self.caught = {node.name for node in self.nodes if isinstance(node, ast.ExceptHandler)}
        self.carries: dict[str, frozenset[str]] = {}  # variable -> names of the program whose results it may hold
        before = None
        while before != self.carries:
            before = dict(self.carries)
            for name, value in self.bindings():
                self.carries[name] = self.carries.get(name, frozenset()) | self.reach(value)
        # Where a name of the program's may stand: it is called, or passed to what calls it. Where an object of a class
        # may: made for a function; or it is no class after all, as nothing else is called and it is compared.
        self.places, self.made = {call.func for call in self.calls}, set()
        for call in self.calls:
            if call.func.id in self.program | self.own | {"map", "filter"}:
                self.places |= {*call.args, *(k.value for k in call.keywords)}
            if call.func.id in self.program - self.classes:
                self.made |= set(ast.walk(call))
        for node in self.nodes if len(functions) == 1 else ():
            if isinstance(node, ast.Compare | ast.Assert) or (
                isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
            ):
                self.made |= set(ast.iter_child_nodes(node))
        changed = self.changed & self.program
        return next(filter(None, map(self.asks, self.nodes)), "") or (changed and f"{min(changed)} is changed") or ""

    def bindings(self) -> Iterator[tuple[str, ast.AST]]:
        """What gives a value, or a function's body, a name."""
        for node in self.nodes:
            if isinstance(node, ast.FunctionDef):
                yield node.name, ast.Module(node.body, [])
            elif isinstance(node, _BINDING):
                for target in getattr(node, "targets", None) or [node.target]:
                    for name in (n.id for n in ast.walk(target) if isinstance(n, ast.Name)):
                        yield name, node.iter if isinstance(node, ast.For | ast.comprehension) else node.value

    def reach(self, node: ast.AST | None) -> frozenset[str]:
        """Functions of the program whose results may be in a value."""
        names = [n.id for n in ast.walk(node) if isinstance(n, ast.Name)] if node else []
        return frozenset(self.program.intersection(names)).union(*(self.carries.get(name, ()) for name in names))

    def asks(self, node: ast.AST) -> str:
        """What one node asks for beyond calls with plain data."""
        match node:
            case ast.With() | ast.AsyncWith() | ast.Await() | ast.AsyncFor() | ast.Yield() | ast.YieldFrom():
                return "a test uses with, await or yield"
            case ast.ClassDef(name=name):
                return f"{name} is a class of the tests' own"
            case ast.Import() | ast.ImportFrom():
                modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                if strange := [name for name in modules if name.split(".")[0] not in _PLAIN]:
                    return f"{strange[0]} works on more than plain data"
            case ast.Name(id=name) if name in _ASKING:
                return f"a test uses {name}"
            case ast.Name(id=name) if name in self.program and node not in self.places:
                return f"{name} of the program is not called"
            case ast.Name(id=name) if name in self.modules and node not in self.owners:
                return f"{name} is used as a value"
            case ast.FunctionDef(name=name, decorator_list=decorators) if any(map(self.reach, decorators)):
                return f"{name} is decorated by the program"
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in self.program or (
                name in self.caught and attribute != "args"
            ):
                return f"a test uses {name}.{attribute}"
            case ast.Attribute(value=value, attr=attribute) if self.reach(value):
                return "" if self.setup else f"a test uses .{attribute} of what the program returned"
            case ast.Attribute(attr=attribute, ctx=ast.Store() | ast.Del()):
                return f"a test sets .{attribute}"
            case ast.AugAssign(target=value) | ast.Subscript(value=value, ctx=ast.Store() | ast.Del()):
                return "a test changes what the program returned" if self.reach(value) else ""
            case ast.Call(func=ast.Name(id=name)) if name in self.classes:
                fine = self.setup or node in self.made
                return "" if fine else f"{name} seems a class, and a test looks at its object"
            case ast.Call(func=ast.Name(id=name)) if name in self.program:
                others = self.reach(node) - {name} - self.classes
                return f"{name} is applied to what {min(others)} gave" if others else ""
            case ast.Call(func=function) if not isinstance(function, ast.Attribute):
                return "a result is called" if self.reach(function) and ast.unparse(function) not in self.own else ""
            case ast.Compare(left=left, ops=ops, comparators=right):
                return self.asks_compare([left, *right], ops)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))) if name in _LIBRARY:
                return f"{name} is called for what it does"
        return ""

    def asks_compare(self, sides: list[ast.expr], ops: list[ast.cmpop]) -> str:
        found = [self.reach(side) for side in sides]
        for n, op in enumerate(ops):
            single = any(isinstance(s, ast.Constant) and s.value in (None, True, False) for s in sides[n : n + 2])
            if isinstance(op, ast.Is | ast.IsNot) and not single:
                return "a test asks for identity"
            if found[n] and found[n + 1]:
                return "a test compares two results of the program"
        several = len(frozenset().union(*found) - self.classes) > 1
        return "a test compares what two functions gave together" if several else ""


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _scopes(child)
