"""Small faults in a module's code, one at a time: comparisons, arithmetic, constants, conditions, calls, statements."""

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from typing import NamedTuple

COMPARISONS = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
}
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
NAMES = {"max": "min", "any": "all", "argmax": "argmin", "maximum": "minimum", "amax": "amin", "floor": "ceil"}
NAMES |= {new: old for old, new in NAMES.items()}
Site = tuple[ast.AST, str, int | None, ast.AST, str]
"""Parent, field and place in it, the node that stands there, and the function around it."""


class Mutant(NamedTuple):
    """One fault: variant ``variant`` of site ``site`` of a file.

    ``key`` depends on the function's text and what is changed in it, not on where it stands in the file.
    """

    key: str
    path: str
    line: int
    function: str
    before: str
    after: str
    site: int
    variant: int


def mutants(path: str, source: str) -> list[Mutant]:
    """Every fault that can be put into a file."""
    tree = ast.parse(source)
    texts = {name: ast.unparse(node) for name, node in _functions(tree)}
    found, seen = [], Counter[tuple[str, str, str]]()
    for number, (_, _, _, node, function) in enumerate(_sites(tree)):
        for variant, new in enumerate(_variants(node)):
            before, after = ast.unparse(node).split("\n")[0], ast.unparse(new).split("\n")[0]
            seen[function, before, after] += 1
            parts = (path, function, texts.get(function, ""), before, after, str(seen[function, before, after]))
            key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
            found.append(Mutant(key, path, node.lineno, function, before, after, number, variant))  # type: ignore[attr-defined]
    return found


def mutated(source: str, mutant: Mutant) -> ast.Module:
    """The module with the fault in it."""
    tree = ast.parse(source)
    parent, field, place, node, _ = list(_sites(tree))[mutant.site]
    new = ast.copy_location(list(_variants(node))[mutant.variant], node)
    if place is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[place] = new
    return ast.fix_missing_locations(tree)


def _functions(tree: ast.AST, outer: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = f"{outer}.{node.name}".lstrip(".")
            yield name, node
            yield from _functions(node, name)


def _sites(node: ast.AST, function: str = "") -> Iterator[Site]:
    """Where a fault can stand: all code, but no annotation, docstring, decorator, import or text of an error."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        for place, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _is_no_code(child):
                continue
            if hasattr(child, "lineno"):
                yield node, field, place if isinstance(value, list) else None, child, function
            if not isinstance(child, ast.Raise):
                yield from _sites(child, function)


def _is_no_code(node: ast.AST) -> bool:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return docstring or isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr)


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    """The node with one thing wrong, each way of being wrong once."""
    if isinstance(node, ast.stmt):
        yield from _statement(node)
    elif isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                new = deepcopy(node)
                new.ops[place] = other()
                yield new
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] not in NAMES:
        for place in range(len(node.args) - 1):
            if not any(isinstance(arg, ast.Starred) for arg in node.args[place : place + 2]):
                new = deepcopy(node)
                new.args[place : place + 2] = reversed(new.args[place : place + 2])
                yield new
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield ast.Attribute(node.value, NAMES[node.attr], node.ctx)
    elif isinstance(node, ast.Name) and node.id in ("min", "max", "any", "all"):
        yield ast.Name(NAMES[node.id], node.ctx)


def _statement(node: ast.stmt) -> Iterator[ast.stmt]:
    if isinstance(node, ast.If | ast.While) and not isinstance(node.test, ast.Compare):
        yield type(node)(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    elif isinstance(node, ast.AugAssign):
        yield ast.Pass()
        if type(node.op) in OPERATORS:
            yield ast.AugAssign(node.target, OPERATORS[type(node.op)](), node.value)
    elif isinstance(node, ast.Expr | ast.Raise | ast.Continue | ast.Break) or (
        isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name | ast.Tuple)
    ):
        yield ast.Pass()
