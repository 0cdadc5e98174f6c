"""What a name or an expression stands for, as far as the text of one file tells."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from aos_workflow.determinism.lint.catalogue import listed_name, words

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

SET = "builtins.set"
_SETS = frozenset(
    f"{module}.{name}"
    for module in ("builtins", "typing", "collections.abc")
    for name in ("set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet")
)
_SET_OPERATORS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)
_SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
_KEYS = "builtins.dict.keys"
_PATH = "pathlib.Path"
_PATH_RESULTS = words(
    "absolute resolve joinpath with_name with_suffix with_stem relative_to expanduser cwd home rename replace"
)
_WRAPPERS = frozenset({"Optional", "Annotated", "Final", "ClassVar", "Required", "NotRequired", "ReadOnly"})
_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """A thing by its dotted name (``time.time``), or an instance of what is so called.

    What the file itself defines is called ``:f``, ``:Class`` and ``:Class.method``. ``is_shared``: it lives as
    long as the process, because the module (or a class, or a default) holds it.
    """

    name: str
    is_instance: bool = False
    is_shared: bool = False

    @property
    def is_set(self) -> bool:
        return self.is_instance and self.name == SET


@dataclass(kw_only=True)
class Scope:
    """The names that one function, or the module, binds, with what they stand for at the moment."""

    names: frozenset[str]
    outer: Scope | None = None
    values: dict[str, Value | None] = field(default_factory=dict)

    def owner(self, name: str) -> Scope | None:
        """The scope that binds this name; None for a builtin or an unknown one."""
        scope: Scope | None = self
        while scope is not None and name not in scope.names:
            scope = scope.outer
        return scope

    def is_module_level(self, name: str) -> bool:
        owner = self.owner(name)
        return owner is not None and owner.outer is None

    def look_up(self, name: str) -> Value | None:
        owner = self.owner(name)
        if owner is None:
            return Value(name=f"builtins.{name}") if name in _BUILTINS else None
        return owner.values.get(name)

    def bind(self, name: str, value: Value | None) -> None:
        if name in self.names:
            self.values[name] = value
        elif self.outer is not None:
            self.outer.bind(name, value)  # what is declared nonlocal; a global one is reported, not followed


@dataclass(kw_only=True)
class Attributes:
    """What the attributes of the file's classes are: class -> attribute -> value."""

    of_class: dict[str, dict[str, Value]] = field(default_factory=dict)
    returned_by: dict[str, Value] = field(default_factory=dict)  # ``:f`` -> what its annotation says it returns


def value_of(node: ast.expr | None, scope: Scope, known: Attributes) -> Value | None:
    """What the expression stands for; None when that cannot be told."""
    match node:
        case ast.Name(id=name):
            return scope.look_up(name)
        case ast.Attribute(value=base, attr=name):
            return _attribute(value_of(base, scope, known), name, known)
        case ast.Call(func=function):
            called = value_of(function, scope, known)
            if called is None and isinstance(function, ast.Attribute) and function.attr == "keys":
                return Value(name=_KEYS, is_instance=True)  # whatever has keys() gives what a set can be made of
            return _result(called, known)
        case ast.Set() | ast.SetComp():
            return Value(name=SET, is_instance=True)
        case ast.List() | ast.ListComp():
            return Value(name="builtins.list", is_instance=True)
        case ast.Dict() | ast.DictComp():
            return Value(name="builtins.dict", is_instance=True)
        case ast.GeneratorExp():
            return Value(name="builtins.iter", is_instance=True)
        case ast.BinOp(left=left, op=operator, right=right):
            return _operation(value_of(left, scope, known), operator, value_of(right, scope, known))
        case ast.IfExp(body=one, orelse=other):
            return either(value_of(one, scope, known), value_of(other, scope, known))
        case ast.BoolOp(values=parts):
            found = value_of(parts[0], scope, known)
            for part in parts[1:]:
                found = either(found, value_of(part, scope, known))
            return found
        case ast.NamedExpr(value=inner) | ast.Await(value=inner):
            return value_of(inner, scope, known)
    return None


def either(one: Value | None, other: Value | None) -> Value | None:
    """What a value is that may be either; a set stays one, because its order may come to light."""
    if one == other:
        return one
    for value in (one, other):
        if value is not None and value.is_set:
            return value
    return one if other is None else other if one is None else None


def value_of_annotation(node: ast.expr | None, scope: Scope, known: Attributes) -> Value | None:
    """An instance of what the annotation names; None for a union or what cannot be told."""
    match node:
        case ast.Constant(value=str(text)):
            try:
                return value_of_annotation(ast.parse(text, mode="eval").body, scope, known)
            except SyntaxError:
                return None
        case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
            return value_of_annotation(left, scope, known)
        case ast.BinOp(left=ast.Constant(value=None), op=ast.BitOr(), right=right):
            return value_of_annotation(right, scope, known)
        case ast.Subscript(value=base, slice=inner):
            if ast.unparse(base).rpartition(".")[2] in _WRAPPERS:
                return value_of_annotation(inner.elts[0] if isinstance(inner, ast.Tuple) else inner, scope, known)
            return value_of_annotation(base, scope, known)
        case ast.Name() | ast.Attribute():
            named = value_of(node, scope, known)
            return named and _instance(named.name)
    return None


def _instance(name: str) -> Value:
    return Value(name=SET if name in _SETS else listed_name(name), is_instance=True)


def _attribute(base: Value | None, name: str, known: Attributes) -> Value | None:
    if base is None:
        return None
    if base.name.startswith(":"):
        found = known.of_class.get(base.name[1:], {}).get(name)
        if found is not None:
            return shared(found) if base.is_instance and base.is_shared else found
    if base.is_instance and base.name == _PATH and name == "parent":
        return base
    return Value(name=f"{base.name}.{name}", is_shared=base.is_shared)


def _result(function: Value | None, known: Attributes) -> Value | None:
    if function is None or function.is_instance:
        return None
    if function.name in known.returned_by:
        return known.returned_by[function.name]
    owner, _, name = function.name.rpartition(".")
    if owner == SET and name in _SET_METHODS:
        return Value(name=SET, is_instance=True)
    if owner == "builtins.dict" and name == "keys":
        return Value(name=_KEYS, is_instance=True)
    if owner == _PATH and name in _PATH_RESULTS:
        return Value(name=_PATH, is_instance=True)
    return _instance(function.name)


def _operation(left: Value | None, operator: ast.operator, right: Value | None) -> Value | None:
    sides = [side.name for side in (left, right) if side is not None and side.is_instance]
    if isinstance(operator, _SET_OPERATORS) and any(name in (SET, _KEYS) for name in sides):
        return Value(name=SET, is_instance=True)
    if isinstance(operator, ast.Div) and _PATH in sides:
        return Value(name=_PATH, is_instance=True)
    return None


def shared(value: Value | None) -> Value | None:
    """The same value, held by the module."""
    return value and replace(value, is_shared=True)


def bound_names(node: FunctionNode | ast.Module) -> frozenset[str]:
    """The names that belong to this function (or module) itself."""
    body: Iterable[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else node.body
    bound: set[str] = set()
    elsewhere: set[str] = set()
    if not isinstance(node, ast.Module):
        given = node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        bound.update(one.arg for one in every if one is not None)
    for inner in own_nodes(body):
        match inner:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.Import() | ast.ImportFrom():
                bound.update(imported(inner))
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                bound.add(name)
            case ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                elsewhere.update(names)
    return frozenset(bound - elsewhere)


def own_nodes(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes below, without the insides of functions, classes and comprehensions, which have names of their own."""
    for node in body:
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            yield from (inner for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr))
            continue
        yield from own_nodes(ast.iter_child_nodes(node))


def imported(node: ast.Import | ast.ImportFrom) -> Mapping[str, str | None]:
    """Local name -> dotted name; None for a relative import, of which nothing is known."""
    if isinstance(node, ast.Import):
        tops = {alias.name.partition(".")[0] for alias in node.names if not alias.asname}
        return {**{top: top for top in sorted(tops)}, **{a.asname: a.name for a in node.names if a.asname}}
    return {
        alias.asname or alias.name: None if node.level else f"{node.module}.{alias.name}"
        for alias in node.names
        if alias.name != "*"
    }
