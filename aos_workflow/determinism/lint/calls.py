"""The calls in a step: what they bring in, change, show the order of, and lead to."""

from __future__ import annotations

import ast

from aos_workflow.determinism.lint import order
from aos_workflow.determinism.lint.catalogue import CONNECTIONS, Source, source_of_call, source_of_name, words
from aos_workflow.determinism.lint.findings import RULES
from aos_workflow.determinism.lint.inspection import Inspection, Reach, text, text_of_call
from aos_workflow.determinism.lint.source import is_mutable
from aos_workflow.determinism.lint.telling import tells

_GENERATORS = words("random.Random numpy.random.default_rng numpy.random.RandomState numpy.random.Generator")
_ENTROPY = words("random.SystemRandom secrets.SystemRandom")
_ITERATORS = words("itertools.count itertools.cycle builtins.iter")
_QUEUES = words("queue.Queue queue.SimpleQueue queue.LifoQueue queue.PriorityQueue")
_CHANGING = words(
    """
    append appendleft extend extendleft insert remove pop popleft popitem clear update setdefault add discard sort
    reverse rotate subtract move_to_end intersection_update difference_update symmetric_difference_update
    """
)
#: Those of them that can only be meant so; a module may have a function ``update``.
_ONLY_CHANGING = words("append appendleft extend setdefault popitem")


class Calls(Inspection):
    """Looks at calls, and at functions that are handed on."""

    def handed_on(self, node: ast.Name | ast.Attribute) -> None:
        """A name that is handed on or read, not called."""
        value = self.value(node)
        if value is not None and not value.is_instance:
            source = source_of_name(value.name)
            if source is not None:
                self.report_source(source, node, text(node))
                return
            if value.name == "builtins.hash":
                self.report("object-identity", node, "hash")
        drawn = self.file.drawn_at_import.get(node.id) if isinstance(node, ast.Name) else None
        if drawn is not None and self.scope.is_module_level(text(node)):
            says = f"was made when the module was imported (line {drawn[1]}), once per process"
            self.report(drawn[0], node, text(node), says=says)
        self.reach(node, value, is_recorded=self.is_recorded)
        if isinstance(node, ast.Attribute):
            self.expression(node.value)

    def call(self, node: ast.Call, *, order_free: bool) -> None:
        """A call, with all that is evaluated for it."""
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "effect" and recorded_function(node) is not None:
            self._effect(node, function)
            return
        called = self.value(function)
        name = called.name if called is not None and not called.is_instance else ""
        source = source_of_call(name, node) if name else None
        if source is not None:
            if source.rule == "directory-order" and order_free:
                source = Source(rule="filesystem", fix=RULES["filesystem"].fix)
            self.report_source(source, node, text_of_call(node))
        elif name == "builtins.hash":
            self._hash(node)
        elif name.startswith(":"):
            self._own_call(node, name)
        elif isinstance(function, ast.Attribute):
            self._method_call(node, function)
        elif name == "builtins.next" and node.args:
            self._next(node)
        if isinstance(function, ast.Attribute):
            self.reach(function, called, is_recorded=self.is_recorded)
            self.expression(function.value)
        elif not isinstance(function, ast.Name):
            self.expression(function)
        if name in order.FORGETS_ORDER:
            self._ties(node)
        before, self.is_told = self.is_told, self.is_told or tells(node)
        self.arguments(node, name, order_free=order_free)
        self.is_told = before

    def arguments(self, node: ast.Call, name: str, *, order_free: bool) -> None:
        """What a call is given: does it pass the order of a set on, show it, or forget it?"""
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        passes_on = name in order.PASSES_ORDER_ON
        shows = passes_on or name in order.SHOWS_ORDER or name.startswith(order.SHOWING_MODULES)
        is_free = (order_free and passes_on) or name in order.FORGETS_ORDER or method in order.FREE_METHODS
        if name == "builtins.sum" and node.args and order.sums_floats(node.args[0]):
            is_free = False  # floats round as they are met
        for given in node.args:
            if shows or method in order.SHOWING_METHODS:
                self.shows_order(given, f"{text(node.func)}({text(given)})", is_free=is_free)
            if name in ("builtins.str", "builtins.repr"):
                self.shows_address(given)
            self.expression(given, order_free=is_free)
        for keyword in node.keywords:
            self.expression(keyword.value)

    def _ties(self, node: ast.Call) -> None:
        """``max(names, key=len)`` is the first one met of those that are as long."""
        for keyword in node.keywords:
            if keyword.arg == "key" and node.args and order.ties_are_likely(keyword.value):
                fix = "sort by the value too: key=lambda x: (..., x)"
                self.shows_order(node.args[0], f"{text(node)}, where two have the same key,", fix=fix)

    def _effect(self, node: ast.Call, function: ast.Attribute) -> None:
        """``ctx.effect("name", function, ...)`` records what the function gives, not what it is given."""
        self.expression(function.value)
        recorded = recorded_function(node)
        for given in [*node.args, *(keyword.value for keyword in node.keywords)]:
            if given is recorded:
                self._recorded(given)
            else:
                self.expression(given)

    def _recorded(self, node: ast.expr) -> None:
        match node:
            case ast.Lambda():
                self.inside(node, is_recorded=True)
            case ast.Name():
                self.reach(node, self.value(node), is_recorded=True)
            case ast.Attribute(value=base):
                self.reach(node, self.value(node), is_recorded=True)
                if not isinstance(base, ast.Name | ast.Attribute):
                    self.expression(base)
            case ast.Call(func=ast.Name(id="partial") | ast.Attribute(attr="partial"), args=[wrapped, *rest]):
                self._recorded(wrapped)
                for given in [*rest, *(keyword.value for keyword in node.keywords)]:
                    self.expression(given)
            case _:
                self.expression(node)

    def _own_call(self, node: ast.Call, name: str) -> None:
        """A function, class or method of this file."""
        owner, _, method = name.rpartition(".")
        shown = text_of_call(node)
        if self.file.is_effect(name):
            says = "performs an effect step as a plain function, so its answer is not recorded"
            self.report("external-call", node, shown, says=says, fix="put it into the canvas, or ctx.effect(...)")
        elif self.file.is_step(owner) and method in ("delay", "apply_async"):
            says = "sends a task that belongs to no run"
            self.report("external-call", node, shown, says=says, fix=f"return ctx.replace({owner[1:]}.s(...))")
        elif not isinstance(node.func, ast.Attribute):
            self.reached[Reach(name=name, is_recorded=self.is_recorded)] = None

    def _method_call(self, node: ast.Call, function: ast.Attribute) -> None:
        base, method = self.value(function.value), function.attr
        shown = text_of_call(node)
        if method == "imap_unordered":
            self.report("thread-race", node, shown)
        if method == "pop" and base is not None and base.is_set and not node.args:
            self.shows_order(function.value, f"{text(function)}()", at=node)
        if method in _CHANGING and (self._is_held_by_module(function.value) or self._is_imported(node, function)):
            self.report("module-state", node, shown)
        if base is None or not base.is_instance:
            return
        if base.is_shared and base.name in _GENERATORS:
            self.report("unseeded-random", node, shown, says="draws from a generator that all steps of a process share")
        if base.is_shared and base.name in _ENTROPY:
            self.report("os-entropy", node, shown)
        if base.is_shared and base.name in _QUEUES and method in ("get", "get_nowait"):
            self.report("thread-race", node, shown)
        if base.name in CONNECTIONS and not self._is_made_here(function.value):
            self.report("external-call", node, shown)

    def _is_held_by_module(self, container: ast.expr) -> bool:
        """Is it a list, dict or set of the module's, or something in one?"""
        while isinstance(container, ast.Subscript):
            container = container.value
        held = self.value(container)
        return held is not None and held.is_shared and is_mutable(held)

    def _is_imported(self, node: ast.Call, function: ast.Attribute) -> bool:
        """``basket.items.append(...)`` on what another module holds, by methods that nothing but a container has."""
        holder, root = function.value, function.value
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name) or root.id not in self.file.imports or function.attr not in _ONLY_CHANGING:
            return False
        is_listed = (value := self.value(holder)) is not None and source_of_name(value.name) is not None
        return self.scope.is_module_level(root.id) and not is_listed and (root is not holder or root.id.isupper())

    def _is_made_here(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Name):
            return isinstance(node, ast.Call)
        return not self.scope.is_module_level(node.id) and node.id not in self.parameters

    def _hash(self, node: ast.Call) -> None:
        """The hash of a number is the same everywhere, and ``__hash__`` has to call it."""
        numbers = bool(node.args) and all(
            isinstance(inner, ast.Tuple | ast.Load)
            or (isinstance(inner, ast.Constant) and isinstance(inner.value, int))
            for inner in ast.walk(node.args[0])
        )
        if not numbers and self.function.node.name != "__hash__":
            self.report("object-identity", node, f"{text(node)}")

    def _next(self, node: ast.Call) -> None:
        held = self.value(node.args[0])
        if held is not None and held.is_instance and held.is_shared and held.name in _ITERATORS:
            self.report("module-state", node, text(node))


def recorded_function(node: ast.Call) -> ast.expr | None:
    """The function that ``ctx.effect(name, function)`` is given."""
    by_name = [keyword.value for keyword in node.keywords if keyword.arg == "function"]
    return next(iter([*node.args[1:2], *by_name]), None)
