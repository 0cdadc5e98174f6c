"""What is noted while one function of a step is looked through."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from aos_workflow.determinism.lint.catalogue import Source
from aos_workflow.determinism.lint.findings import EVEN_WHEN_RECORDED, RULES
from aos_workflow.determinism.lint.flow import Flow
from aos_workflow.determinism.lint.source import Function, SourceFile
from aos_workflow.determinism.lint.telling import MAY_BE_TOLD
from aos_workflow.determinism.lint.values import FunctionNode, Value

_LONGEST_SHOWN = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """Something that a rule is against, before it is known whose step it belongs to."""

    rule: str
    node: ast.expr | ast.stmt
    message: str
    fix: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """What the body leads to: ``:f``, ``:Class``, ``:Class.method``, or ``?name`` for a method of an unknown object.

    ``is_recorded``: only as (a part of) an effect, whose value is recorded whole.
    """

    name: str
    is_recorded: bool


class Inspection(Flow):
    """The notes on one function: ``troubles``, and what it ``reached``. What is under way is kept beside them."""

    def __init__(self, file: SourceFile, function: Function, *, is_recorded: bool) -> None:
        super().__init__(file.scope_around(function), file.known)
        self.file = file
        self.function = function
        self.is_recorded = is_recorded
        self.troubles: list[Trouble] = []
        self.reached: dict[Reach, None] = {}
        #: The innermost function, its and the outer ones' parameters, and what is proven to hold one value only.
        self.around: FunctionNode = function.node
        self.parameters: frozenset[str] = frozenset()
        self.single: frozenset[str] = frozenset()
        #: Is what is evaluated only told to people?
        self.is_told = False

    def inside(self, node: FunctionNode, *, is_recorded: bool, of_class: str | None = None) -> None:
        """Look through a function; a subclass knows how."""

    def reach(self, node: ast.expr, value: Value | None, *, is_recorded: bool) -> None:
        """Note what of this file a name or attribute leads to."""
        if isinstance(node, ast.Attribute):
            base = self.value(node.value)
            if base is not None and base.name.startswith(":"):
                if base.name[1:] in self.file.classes and (method := self.file.method(base.name[1:], node.attr)):
                    self.reached[Reach(name=method, is_recorded=is_recorded)] = None
            elif base is None or base.is_instance:
                self.reached[Reach(name=f"?{node.attr}", is_recorded=is_recorded)] = None
        elif value is not None and value.name.startswith(":") and not value.is_instance:
            self.reached[Reach(name=value.name, is_recorded=is_recorded)] = None

    def is_set(self, node: ast.expr) -> bool:
        """Is it known to be a set?"""
        value = self.value(node)
        return value is not None and value.is_set

    def shows_order(
        self,
        node: ast.expr,
        shown: str,
        *,
        is_free: bool = False,
        fix: str | None = None,
        at: ast.expr | None = None,
    ) -> None:
        """Report a set whose order is seen, unless nobody cares or there is none in it."""
        has_one = isinstance(node, ast.Set) and len(node.elts) == 1 and not isinstance(node.elts[0], ast.Starred)
        if not is_free and not has_one and text(node) not in self.single and self.is_set(node):
            self.report("set-order", at or node, shown, fix=fix)

    def shows_address(self, node: ast.expr) -> None:
        """Report an instance of a class of the file whose text is the default one, ``<Rule object at 0x7f...>``."""
        value = self.value(node)
        if value is None or not value.is_instance or value.name[1:] not in self.file.classes:
            return
        of_class = self.file.classes[value.name[1:]]
        is_plain = not of_class.bases and not of_class.decorator_list and not of_class.keywords
        if is_plain and not any(
            self.file.method(of_class.name, name) for name in ("__str__", "__repr__", "__format__")
        ):
            self.report("object-identity", node, f"the text of {text(node)}", fix="give its class a __repr__")

    def report_source(self, source: Source, node: ast.expr, shown: str) -> None:
        """Report a name of the catalogue."""
        self.report(source.rule, node, shown, fix=source.fix)

    def report(
        self, rule: str, node: ast.expr | ast.stmt, shown: str, *, says: str | None = None, fix: str | None = None
    ) -> None:
        """Report a breach of a rule, unless what is under way is recorded and the rule does not mind then."""
        if (self.is_recorded and rule not in EVEN_WHEN_RECORDED) or (self.is_told and rule in MAY_BE_TOLD):
            return
        message = f"{shown} {says or RULES[rule].says}"
        self.troubles.append(Trouble(rule=rule, node=node, message=message, fix=fix or RULES[rule].fix))


def text_of_call(node: ast.Call) -> str:
    """What is called, for short."""
    return f"{text(node.func)}({'...' if node.args or node.keywords else ''})"


def text(node: ast.AST) -> str:
    """The expression on one line, not too long to read."""
    line = " ".join(ast.unparse(node).split())
    return line if len(line) <= _LONGEST_SHOWN else f"{line[: _LONGEST_SHOWN - 3]}..."
