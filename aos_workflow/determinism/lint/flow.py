"""Statements in the order they run, so that a name stands for what was last assigned to it."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from aos_workflow.determinism.lint.values import (
    Attributes,
    Scope,
    Value,
    either,
    imported,
    value_of,
    value_of_annotation,
)


class Flow:
    """Follows the names of one scope through its statements. What else is to be seen, subclasses see."""

    def __init__(self, scope: Scope, known: Attributes) -> None:
        self.scope = scope
        self.known = known

    def value(self, node: ast.expr | None) -> Value | None:
        return value_of(node, self.scope, self.known)

    # What a subclass looks at; an expression's names are bound by its statement.

    def expression(self, node: ast.expr | None, *, order_free: bool = False) -> None:
        """An expression is evaluated. ``order_free``: whoever takes its value does not care for the order in it."""

    def iteration(self, node: ast.For | ast.AsyncFor) -> None:
        """A loop takes its values."""

    def change(self, target: ast.expr, *, how: str) -> None:
        """A name, attribute or item is assigned or deleted."""

    def unpacking(self, target: ast.Tuple | ast.List, value: ast.expr) -> None:
        """Several names take their values from one."""

    def definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        """A function or class is defined."""

    def block(self, statements: Sequence[ast.stmt]) -> bool:
        """Follow them; can the end be reached?"""
        return all(self.statement(one, statements[number + 1 :]) for number, one in enumerate(statements))

    def statement(self, node: ast.stmt, following: Sequence[ast.stmt]) -> bool:
        """Follow one; does the next one run?"""
        match node:
            case ast.Return(value=value):
                self.expression(value)
                return False
            case ast.Raise(exc=error, cause=cause):
                self.expression(error)
                self.expression(cause)
                return False
            case ast.Break() | ast.Continue():
                return False
            case ast.Expr(value=value):
                self.expression(value)
            case ast.Assert(test=test, msg=message):
                self.expression(test)
                self.expression(message)
            case ast.Assign(targets=targets, value=value):
                self.expression(value, order_free=_is_sorted_next(targets, value, following))
                for target in targets:
                    self._assign(target, value)
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                self.expression(value)
                if value is not None:
                    self.change(target, how=" = ...")
                if isinstance(target, ast.Name):
                    annotated = value_of_annotation(annotation, self.scope, self.known)
                    self.scope.bind(target.id, self.value(value) or annotated)
            case ast.AugAssign(target=target, op=operator, value=value):
                self.expression(value)
                self.change(target, how=" changed in place")
                if isinstance(target, ast.Name):
                    read = ast.Name(id=target.id, ctx=ast.Load())
                    self.scope.bind(target.id, self.value(ast.BinOp(left=read, op=operator, right=value)))
            case ast.Delete(targets=targets):
                for target in targets:
                    self.change(target, how=" deleted")
            case ast.If(test=test, body=body, orelse=orelse):
                self.expression(test)
                return self._branches([body, orelse])
            case (
                ast.For(target=target, body=body, orelse=orelse) | ast.AsyncFor(target=target, body=body, orelse=orelse)
            ):
                self.iteration(node)
                self.change(target, how=" = ...")
                self._forget(target)
                self._branches([body, []])
                self.block(orelse)
            case ast.While(test=test, body=body, orelse=orelse):
                self.expression(test)
                self._branches([body, []])
                self.block(orelse)
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                for item in items:
                    self.entered(item, body)
                return self.block(body)
            case (
                ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final)
                | ast.TryStar(body=body, handlers=handlers, orelse=orelse, finalbody=final)
            ):
                goes_on = self._branches([[*body, *orelse], *(handler.body for handler in handlers)])
                return self.block(final) and goes_on
            case ast.Match(subject=subject, cases=cases):
                self.expression(subject)
                for case in cases:
                    self.expression(case.guard)
                self._branches([*(case.body for case in cases), []])
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                self.definition(node)
                is_module = self.scope.outer is None
                self.scope.bind(name, Value(name=f":{name}", is_shared=True) if is_module else None)
            case ast.Import() | ast.ImportFrom():
                for local, dotted in imported(node).items():
                    self.scope.bind(local, Value(name=dotted, is_shared=True) if dotted else None)
        return True

    def entered(self, item: ast.withitem, body: Sequence[ast.stmt]) -> None:
        """``with``: what is entered is taken for what ``as`` names."""
        self.expression(item.context_expr)
        if item.optional_vars is not None:
            self._assign(item.optional_vars, item.context_expr)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        match target:
            case ast.Name(id=name):
                self.change(target, how=" = ...")
                self.scope.bind(name, self.value(value))
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(targets):
                    for one, its in zip(targets, value.elts, strict=True):
                        self._assign(one, its)
                    return
                self.unpacking(target, value)
                for one in targets:
                    self.change(one, how=" = ...")
                    self._forget(one)
            case _:
                self.change(target, how=" = ...")

    def _forget(self, target: ast.expr) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.scope.bind(node.id, None)

    def _branches(self, bodies: Sequence[Sequence[ast.stmt]]) -> bool:
        """Follow each from the same start; what a name stands for afterwards is what any of them made of it."""
        before = dict(self.scope.values)
        ends: list[dict[str, Value | None]] = []
        for body in bodies:
            self.scope.values = dict(before)
            if self.block(body):
                ends.append(self.scope.values)
        after = dict(before) if not ends else {}
        for name in sorted({name for end in ends for name in end}):
            found = ends[0].get(name)
            for end in ends[1:]:
                found = either(found, end.get(name))
            after[name] = found
        self.scope.values = after
        return bool(ends)


def _is_sorted_next(targets: Sequence[ast.expr], value: ast.expr, following: Sequence[ast.stmt]) -> bool:
    """``names = list(found)``, and the next statement that mentions ``names`` is ``names.sort()``."""
    is_list = isinstance(value, ast.ListComp | ast.List) or (isinstance(value, ast.Call) and _makes_list(value))
    if not is_list or len(targets) != 1 or not isinstance(targets[0], ast.Name):
        return False
    name = targets[0].id
    for statement in following:
        match statement:
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=sorted_name), attr="sort"))):
                if sorted_name == name:
                    return True
        if any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(statement)):
            return False
    return False


def _makes_list(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "list"
