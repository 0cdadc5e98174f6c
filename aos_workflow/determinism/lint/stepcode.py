"""The body of one function of a step, looked through for what makes two performances differ."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from aos_workflow.determinism.lint import order
from aos_workflow.determinism.lint.calls import Calls, recorded_function
from aos_workflow.determinism.lint.inspection import text
from aos_workflow.determinism.lint.source import Function, SourceFile
from aos_workflow.determinism.lint.telling import only_told
from aos_workflow.determinism.lint.values import FunctionNode, Scope, Value, bound_names, shared, value_of_annotation

_EXECUTORS = frozenset({"concurrent.futures.ThreadPoolExecutor", "concurrent.futures.ProcessPoolExecutor"})

Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class StepCode(Calls):
    """Follows one function, and what is defined inside of it."""

    def __init__(self, file: SourceFile, function: Function, *, is_recorded: bool) -> None:
        super().__init__(file, function, is_recorded=is_recorded)
        self.only_told = only_told(function.node)
        self.inside(function.node, is_recorded=is_recorded, of_class=function.of_class)

    def expression(self, node: ast.expr | None, *, order_free: bool = False) -> None:
        match node:
            case None:
                return
            case ast.Call():
                self.call(node, order_free=order_free)
            case ast.Name() | ast.Attribute():
                self.handed_on(node)
            case ast.Lambda():
                self.inside(node, is_recorded=self.is_recorded)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                self._comprehension(node, order_free=order_free)
            case ast.Starred(value=value):
                self.shows_order(value, f"*{text(value)}", is_free=order_free)
                self.expression(value, order_free=order_free)
            case ast.Set(elts=elements):
                for element in elements:
                    self.expression(element, order_free=True)
            case ast.YieldFrom(value=value):
                self.shows_order(value, f"yield from {text(value)}")
                self.expression(value)
            case ast.FormattedValue(value=value, format_spec=spec):
                self.shows_order(value, f"{{{text(value)}}} in a text")
                self.shows_address(value)
                self.expression(value)
                self.expression(spec)
            case ast.NamedExpr(target=target, value=value):
                self.expression(value, order_free=order_free)
                self._assign(target, value)
            case ast.Compare(left=left, ops=operators, comparators=comparators):
                self.expression(left)
                for operator, comparator in zip(operators, comparators, strict=True):
                    self.expression(comparator, order_free=isinstance(operator, ast.In | ast.NotIn))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self.expression(test)
                before, self.single = self.single, self.single | order.single_names(test)
                self.expression(body, order_free=order_free)
                self.single = before | order.single_names(test, negated=True)
                self.expression(orelse, order_free=order_free)
                self.single = before
            case ast.BoolOp(values=values):
                for value in values:
                    self.expression(value, order_free=order_free)
            case ast.BinOp(left=left, right=right):
                self.expression(left, order_free=order_free)
                self.expression(right, order_free=order_free)
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.expression(child)

    def _comprehension(self, node: Comprehension, *, order_free: bool) -> None:
        free = order_free or isinstance(node, ast.SetComp)
        targets = [inner.id for one in node.generators for inner in ast.walk(one.target) if isinstance(inner, ast.Name)]
        outer = self.scope
        self.scope = Scope(names=frozenset(targets), outer=outer)
        for one in node.generators:
            self.shows_order(one.iter, f"for {text(one.target)} in {text(one.iter)}", is_free=free)
            self.expression(one.iter, order_free=free)
            for condition in one.ifs:
                self.expression(condition)
        for element in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
            self.expression(element)
        self.scope = outer

    def iteration(self, node: ast.For | ast.AsyncFor) -> None:
        is_free = order.is_order_free(node, self.is_set, self.around)
        self.shows_order(node.iter, f"for {text(node.target)} in {text(node.iter)}", is_free=is_free)
        self.expression(node.iter, order_free=is_free)

    def unpacking(self, target: ast.Tuple | ast.List, value: ast.expr) -> None:
        self.shows_order(value, f"{text(target)} = {text(value)}", is_free=len(target.elts) == 1)

    def change(self, target: ast.expr, *, how: str) -> None:
        match target:
            case ast.Name(id=name):
                if self.scope.is_module_level(name):
                    self.report("module-state", target, f"global {name}")
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                for one in targets:
                    self.change(one, how=how)
            case ast.Starred(value=value):
                self.change(value, how=how)
            case ast.Attribute(value=base) | ast.Subscript(value=base):
                before = len(self.troubles)
                self.expression(base)
                if isinstance(target, ast.Subscript):
                    self.expression(target.slice)
                if len(self.troubles) == before and self._outlives_the_step(target, base):
                    self.report("module-state", target, f"{text(target)}{how}")

    def _outlives_the_step(self, target: ast.Attribute | ast.Subscript, base: ast.expr) -> bool:
        held = self.value(base)
        if held is not None and held.is_shared:
            return True
        root = base
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if not isinstance(root, ast.Name):
            return False
        given = self.function.node.args.args
        is_task = self.function.is_bound and bool(given) and given[0].arg == root.id
        return self.scope.is_module_level(root.id) or (is_task and isinstance(target, ast.Attribute) and root is base)

    def statement(self, node: ast.stmt, following: Sequence[ast.stmt]) -> bool:
        """One statement, with what its test proves."""
        match node:
            case ast.Assign(targets=[ast.Name() as alias], value=ast.Name() | ast.Attribute() as value) if (
                self._is_alias(value)
            ):
                self._assign(alias, value)
                return True
            case ast.Assign(targets=[ast.Name(id=name)]) if name in self.only_told:
                self.is_told = True
                goes_on = super().statement(node, following)
                self.is_told = False
                return goes_on
        before = self.single
        if isinstance(node, ast.Assert):
            self.single |= order.single_names(node.test)
        if not isinstance(node, ast.If):
            return super().statement(node, following)
        self.single = before | order.single_names(node.test)
        goes_on = super().statement(node, following)
        leaves = bool(node.body) and isinstance(node.body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break)
        self.single = before | (order.single_names(node.test, negated=True) if leaves else frozenset())
        return goes_on

    def _is_alias(self, node: ast.expr) -> bool:
        """``clock = time.time``: what the alias is used for will be found where it is used."""
        value = self.value(node)
        return value is not None and not value.is_instance and not value.name.startswith(":")

    def entered(self, item: ast.withitem, body: Sequence[ast.stmt]) -> None:
        """A pool that is only ever asked to ``map`` gives its results in the order of its inputs."""
        made = self.value(item.context_expr)
        name = item.optional_vars.id if isinstance(item.optional_vars, ast.Name) else ""
        if made is not None and made.name in _EXECUTORS and name and isinstance(item.context_expr, ast.Call):
            nodes = [node for statement in body for node in ast.walk(statement)]
            maps = [n for n in nodes if isinstance(n, ast.Attribute) and n.attr == "map" and text(n.value) == name]
            if len(maps) == sum(isinstance(node, ast.Name) and node.id == name for node in nodes):
                self.arguments(item.context_expr, "", order_free=False)
                self.scope.bind(name, made)
                return
        super().entered(item, body)

    def definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        """A function within the function is part of it; one that is only handed to ``ctx.effect`` is recorded."""
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    self.inside(inner, is_recorded=self.is_recorded)
        elif not self.file.is_step_node(node):
            recorded = self.is_recorded or _is_only_recorded(node.name, self.around)
            self.inside(node, is_recorded=recorded)

    def inside(self, node: FunctionNode, *, is_recorded: bool, of_class: str | None = None) -> None:
        for default in [*node.args.defaults, *(default for default in node.args.kw_defaults if default)]:
            self.expression(default)
        saved = (self.scope, self.is_recorded, self.around, self.parameters, self.single)
        self.scope = Scope(names=bound_names(node), outer=self.scope)
        self.is_recorded, self.around = is_recorded, node
        self.parameters |= self.__bind_parameters(node, of_class)
        if isinstance(node, ast.Lambda):
            self.expression(node.body)
        else:
            self.block(node.body)
        self.scope, self.is_recorded, self.around, self.parameters, self.single = saved

    def __bind_parameters(self, node: FunctionNode, of_class: str | None) -> frozenset[str]:
        given = node.args
        listed = [*given.posonlyargs, *given.args]
        for one in [*listed, *given.kwonlyargs]:
            self.scope.bind(one.arg, value_of_annotation(one.annotation, self.scope, self.known))
        defaults = [*zip(listed[len(listed) - len(given.defaults) :], given.defaults, strict=True)]
        for one, default in [*defaults, *zip(given.kwonlyargs, given.kw_defaults, strict=True)]:
            if isinstance(default, ast.List | ast.Dict | ast.Set):
                self.scope.bind(one.arg, shared(self.value(default)))
        decorators = [text(one) for one in node.decorator_list] if not isinstance(node, ast.Lambda) else []
        if of_class is not None and listed and "staticmethod" not in decorators:
            of_type = "classmethod" in decorators
            makes = not isinstance(node, ast.Lambda) and node.name in ("__init__", "__post_init__", "__new__")
            is_shared = of_type or (not makes and self.file.is_held_by_module(of_class))
            myself = Value(name=f":{of_class}", is_instance=not of_type, is_shared=is_shared)
            self.scope.bind(listed[0].arg, myself)
        return frozenset(one.arg for one in [*listed, *given.kwonlyargs])


def _is_only_recorded(name: str, around: FunctionNode) -> bool:
    """Is this inner function used at all, and nowhere but as the function of an effect?"""
    nodes = list(ast.walk(around))
    uses = [n for n in nodes if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)]
    effects = [
        n for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == "effect"
    ]
    recorded = {id(recorded_function(call)) for call in effects}
    return bool(uses) and all(id(use) in recorded for use in uses)
