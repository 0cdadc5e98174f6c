"""Where the order of a set comes to light, and where it does not."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable

from aos_workflow.determinism.lint.catalogue import words

#: These give the same answer in whatever order they are given the values.
FORGETS_ORDER = words(
    """
    builtins.sorted builtins.set builtins.frozenset builtins.len builtins.any builtins.all builtins.min builtins.max
    builtins.sum builtins.bool builtins.isinstance math.fsum math.prod collections.Counter heapq.nsmallest
    heapq.nlargest
    """
)
#: These keep the order of what they are given: what is done with their value decides.
PASSES_ORDER_ON = words(
    "builtins.list builtins.tuple builtins.map builtins.filter builtins.iter builtins.reversed itertools.chain"
)
#: These show it.
SHOWS_ORDER = words(
    """
    builtins.enumerate builtins.zip builtins.str builtins.repr builtins.format builtins.dict.fromkeys
    collections.deque collections.OrderedDict.fromkeys functools.reduce
    """
)
SHOWING_MODULES = ("itertools.", "more_itertools.")
SHOWING_METHODS = words("join extend extendleft")
#: Methods that give the same in whatever order.
FREE_METHODS = words(
    """
    update union intersection difference symmetric_difference issubset issuperset isdisjoint intersection_update
    difference_update symmetric_difference_update
    """
)
_COLLECTING = frozenset({"add", "discard", "remove"}) | FREE_METHODS
_TYING_METHODS = frozenset({"count", "get", "__getitem__", "lower", "upper", "casefold", "__len__"})


def ties_are_likely(key: ast.expr) -> bool:
    """Will a sort key (``len``, ``counts.get``) often be the same for two values? Their order then shows."""
    match key:
        case ast.Name(id=name):
            return name in ("len", "abs")
        case ast.Attribute(attr=name):
            return name in _TYING_METHODS
        case ast.Lambda(body=ast.Call(func=function)):
            return ties_are_likely(function)
        case ast.Lambda(body=ast.UnaryOp(op=ast.USub(), operand=ast.Call(func=function))):
            return ties_are_likely(function)
        case ast.Lambda(body=ast.Subscript(value=ast.Name(), slice=ast.Name(id=looked_up)), args=given):
            return [one.arg for one in given.args] == [looked_up]
    return False


def sums_floats(node: ast.expr) -> bool:
    """Is there a sign that numbers are added up which round? A sum of integers has no order."""
    element = node.elt if isinstance(node, ast.GeneratorExp | ast.ListComp) else None
    for inner in ast.walk(element) if element is not None else ():
        match inner:
            case ast.Constant(value=float()) | ast.BinOp(op=ast.Div()) | ast.Call(func=ast.Name(id="float")):
                return True
    return False


def is_order_free(loop: ast.For | ast.AsyncFor, is_set: Callable[[ast.expr], bool], around: ast.AST) -> bool:
    """Does the loop leave the same behind in whatever order it takes its values?

    ``around`` is the function it belongs to: what the loop assigns or appends to must not show there.
    """
    inside = {id(node) for node in ast.walk(loop)}
    outside = [node for node in ast.walk(around) if id(node) not in inside]
    read = {node.id for node in outside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    sorted_later = _sorted_names(outside)
    endings: set[str] = set()

    def is_free(statements: Iterable[ast.stmt]) -> bool:
        return all(one_is_free(statement) for statement in statements)

    def one_is_free(statement: ast.stmt) -> bool:
        match statement:
            case ast.Pass() | ast.Continue() | ast.Expr(value=ast.Constant()):
                return True
            case ast.If(body=body, orelse=orelse):
                return is_free(body) and is_free(orelse)
            case ast.For(body=body, orelse=[]):
                return is_free(body)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=base, attr=method))):
                if method == "append" and isinstance(base, ast.Name):
                    return base.id in sorted_later
                return method in _COLLECTING and is_set(base)
            case ast.AugAssign(target=ast.Name(), op=ast.Add() | ast.Sub(), value=ast.Constant(value=int())):
                return True
            case ast.AugAssign(target=ast.Name() as target, op=ast.BitOr() | ast.BitAnd()):
                return is_set(target)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                return name not in read or isinstance(value, ast.Constant)
            case ast.Return(value=None | ast.Constant() as value):
                endings.add(ast.dump(value) if value else "")
                return len(endings) == 1
            case ast.Break():
                endings.add("break")
                return len(endings) == 1
            case ast.Raise(exc=ast.Name() | ast.Call(args=[] | [ast.Constant()], keywords=[])):
                return True
        return False

    return is_free(loop.body) and not loop.orelse


def _sorted_names(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Names of lists that are put into order: ``found.sort()``, ``sorted(found)``."""
    names = set()
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="sort")):
                names.add(name)
            case ast.Call(func=ast.Name(id="sorted" | "set" | "frozenset" | "len"), args=[ast.Name(id=name), *_]):
                names.add(name)
    return frozenset(names)


def single_names(test: ast.expr, *, negated: bool = False) -> frozenset[str]:
    """The expressions that ``test`` proves to hold one value, in which there is no order: ``len(x) == 1``.

    ``negated``: those that are proven when the test fails.
    """
    wanted = ast.NotEq if negated else ast.Eq
    match test:
        case ast.Compare(left=ast.Call(func=ast.Name(id="len"), args=[what]), ops=[operator], comparators=[limit]):
            is_one = isinstance(limit, ast.Constant) and limit.value == 1
            if is_one and (isinstance(operator, wanted) or (negated and isinstance(operator, ast.Gt))):
                return frozenset({ast.unparse(what)})
        case ast.BoolOp(op=ast.And(), values=parts) if not negated:
            return frozenset().union(*(single_names(part) for part in parts))
    return frozenset()
