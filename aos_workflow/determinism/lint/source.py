"""One file as the lint sees it: its functions, its classes, and which of them are steps."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from aos_workflow.determinism.lint.catalogue import words
from aos_workflow.determinism.lint.flow import Flow
from aos_workflow.determinism.lint.importing import drawn_at_import
from aos_workflow.determinism.lint.values import (
    Attributes,
    Scope,
    Value,
    bound_names,
    imported,
    shared,
    value_of,
    value_of_annotation,
)

#: Packages whose ``@step``, ``@workflow`` and ``@x.task`` are something else.
_FOREIGN = words(
    """
    airflow allure behave clearml dagster dbos fabric invoke kfp llama_index locust luigi metaflow prefect pytest_bdd
    temporalio zenml
    """
)
_MUTABLE = words(
    """
    builtins.list builtins.dict builtins.set builtins.bytearray collections.defaultdict collections.deque
    collections.Counter collections.OrderedDict collections.ChainMap weakref.WeakKeyDictionary
    weakref.WeakValueDictionary
    """
)
_TASK_CLASSES = frozenset({"celery.Task", "celery.app.task.Task", "aos_workflow.WorkflowTask"})

DefNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """A function of the file. ``name`` is ``:f``, ``:Class.method`` or, for a step within a function, ``:outer.f``.

    ``is_bound``: its first argument is the task object, which the process keeps (``bind=True``).
    """

    name: str
    node: DefNode
    enclosing: tuple[DefNode, ...] = ()
    of_class: str | None = None
    is_step: bool = False
    is_effect: bool = False
    is_bound: bool = False

    @property
    def title(self) -> str:
        return self.name[1:]


@dataclass(kw_only=True)
class SourceFile:
    """The file's functions by name (several when a name is defined again), its classes, and its module's scope."""

    tree: ast.Module
    scope: Scope
    known: Attributes = field(default_factory=Attributes)
    functions: dict[str, list[Function]] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    plain_imports: frozenset[str] = frozenset()
    imports: frozenset[str] = frozenset()
    #: Names of the module that were drawn, or read off a clock, when it was imported: rule and line.
    drawn_at_import: dict[str, tuple[str, int]] = field(default_factory=dict)

    def every_function(self) -> Iterator[Function]:
        for same in self.functions.values():
            yield from same

    def is_step(self, name: str) -> bool:
        return any(function.is_step for function in self.functions.get(name, ()))

    def is_effect(self, name: str) -> bool:
        return any(function.is_effect for function in self.functions.get(name, ()))

    def is_step_node(self, node: ast.AST) -> bool:
        return any(function.node is node and function.is_step for function in self.every_function())

    def method(self, of_class: str, name: str) -> str | None:
        """The method that an instance of the class has, its own or one it inherits within the file."""
        waiting, seen = [of_class], set()
        while waiting:
            here = waiting.pop(0)
            if f":{here}.{name}" in self.functions:
                return f":{here}.{name}"
            seen.add(here)
            bases = self.classes[here].bases if here in self.classes else []
            waiting += [base.id for base in bases if isinstance(base, ast.Name) and base.id not in seen]
        return None

    def is_held_by_module(self, of_class: str) -> bool:
        """Does the module keep an instance of the class?"""
        held = (value for value in self.scope.values.values() if value is not None and value.is_instance)
        return any(value.name == f":{of_class}" for value in held)

    def scope_around(self, function: Function) -> Scope:
        """The scope in which the function was defined."""
        scope = self.scope
        for node in function.enclosing:
            scope = Scope(names=bound_names(node), outer=scope)
            Flow(scope, self.known).block(node.body)
        return scope


def read(source: str) -> SourceFile:
    """The file's syntax tree with what is known about its names. Raises SyntaxError."""
    tree = ast.parse(source)
    scope = Scope(names=bound_names(tree))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    file = SourceFile(
        tree=tree,
        scope=scope,
        imports=frozenset(name for node in imports for name in imported(node)),
        plain_imports=frozenset(name for node in imports if isinstance(node, ast.Import) for name in imported(node)),
    )
    Flow(scope, file.known).block(tree.body)
    scope.values = {name: shared(value) for name, value in scope.values.items()}
    _enter(file, tree.body, prefix=":", enclosing=(), of_class=None)
    for name, node in file.classes.items():
        file.known.of_class[name] = _attributes(file, name, node)
    Flow(scope, file.known).block(tree.body)  # once more: now what functions return and classes hold is known
    scope.values = {name: shared(value) for name, value in scope.values.items()}
    file.drawn_at_import = dict(drawn_at_import(tree, scope, file.known))
    return file


def is_mutable(value: Value | None) -> bool:
    """Is it a container that can be changed in place?"""
    return value is not None and value.is_instance and value.name in _MUTABLE


def _enter(
    file: SourceFile, body: Sequence[ast.AST], *, prefix: str, enclosing: tuple[DefNode, ...], of_class: str | None
) -> None:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = _declared(file, node, f"{prefix}{node.name}", enclosing, of_class)
            if not enclosing or function.is_step:
                file.functions.setdefault(function.name, []).append(function)
                returned = value_of_annotation(node.returns, file.scope, file.known)
                if returned is not None:
                    file.known.returned_by[function.name] = returned
            _enter(file, node.body, prefix=f"{function.name}.", enclosing=(*enclosing, node), of_class=None)
        elif isinstance(node, ast.ClassDef):
            if not enclosing:
                file.classes[f"{prefix[1:]}{node.name}"] = node
                _enter_factories(file, node, f"{prefix}{node.name}")
            _enter(
                file,
                node.body,
                prefix=f"{prefix}{node.name}.",
                enclosing=enclosing,
                of_class=f"{prefix[1:]}{node.name}",
            )
        elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            inner = list(ast.iter_child_nodes(node))
            _enter(file, inner, prefix=prefix, enclosing=enclosing, of_class=of_class)


def _enter_factories(file: SourceFile, node: ast.ClassDef, name: str) -> None:
    """The ``default_factory`` of a dataclass's field is called by an ``__init__`` that is not in the text."""
    factories = [
        ast.Expr(value=keyword.value, lineno=keyword.value.lineno, col_offset=keyword.value.col_offset)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.value, ast.Call)
        for keyword in statement.value.keywords
        if keyword.arg in ("default_factory", "factory")
    ]
    if factories:
        nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        made = ast.FunctionDef(name="__init__", args=nothing, body=[*factories], decorator_list=[], lineno=node.lineno)
        function = Function(name=f"{name}.__init__", node=made, of_class=name[1:])
        file.functions.setdefault(function.name, []).append(function)


def _declared(
    file: SourceFile, node: DefNode, name: str, enclosing: tuple[DefNode, ...], of_class: str | None
) -> Function:
    is_step = is_effect = is_bound = False
    for decorator in node.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if not _declares_step(file, target):
            continue
        is_step = True
        options = decorator.keywords if isinstance(decorator, ast.Call) else []
        is_effect |= any(_is_true(option, "effect") for option in options)
        is_bound |= any(_is_true(option, "bind") for option in options)
        for option in options:  # @app.task(step_options=StepOptions(effect=True))
            if option.arg == "step_options" and isinstance(option.value, ast.Call):
                is_effect |= any(_is_true(inner, "effect") for inner in option.value.keywords)
    if of_class is not None and node.name == "run" and not enclosing:
        bases = file.classes[of_class].bases
        named = [value_of(base, file.scope, file.known) for base in bases]
        is_bound = is_step = is_step or any(value is not None and value.name in _TASK_CLASSES for value in named)
    return Function(
        name=name,
        node=node,
        enclosing=enclosing,
        of_class=of_class,
        is_step=is_step,
        is_effect=is_effect,
        is_bound=is_bound,
    )


def _is_true(option: ast.keyword, name: str) -> bool:
    return option.arg == name and isinstance(option.value, ast.Constant) and bool(option.value.value)


def _declares_step(file: SourceFile, target: ast.expr) -> bool:
    """``@step``, ``@shared_task``, ``@workflow``, ``@aos_workflow.step``, ``@app.task``, wherever they come from."""
    found = value_of(target, file.scope, file.known)
    top = found.name.partition(".")[0] if found is not None else ""
    if top in _FOREIGN:
        return False
    match target:
        case ast.Name(id="step" | "shared_task" | "workflow"):
            return not top.startswith(":")
        case ast.Attribute(attr="step" | "shared_task" | "workflow"):
            return top in ("aos_workflow", "celery")
        case ast.Attribute(value=base, attr="task"):
            return not (isinstance(base, ast.Name) and base.id in file.plain_imports)
    return False


def _attributes(file: SourceFile, name: str, node: ast.ClassDef) -> dict[str, Value]:
    """What is known of the attributes of a class: from its body, and from what its methods assign to self."""
    found: dict[str, Value] = {}
    for statement in node.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=attribute), annotation=annotation, value=value):
                held = (
                    value_of(value, file.scope, file.known)
                    if isinstance(value, ast.List | ast.Dict | ast.Set)
                    else None
                )
                known = shared(held) or value_of_annotation(annotation, file.scope, file.known)
            case ast.Assign(targets=[ast.Name(id=attribute)], value=value):
                known = shared(value_of(value, file.scope, file.known))
            case ast.FunctionDef(name=attribute, decorator_list=[ast.Name(id="property" | "cached_property"), *_]):
                known = value_of_annotation(statement.returns, file.scope, file.known)
            case _:
                continue
        if known is not None:
            found[attribute] = known
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and statement.args.args:
            scope = Scope(names=bound_names(statement), outer=file.scope)
            for given in statement.args.args:
                scope.bind(given.arg, value_of_annotation(given.annotation, file.scope, file.known))
            _SelfAttributes(scope, file.known, statement.args.args[0].arg, found).block(statement.body)
    return found


class _SelfAttributes(Flow):
    """Notes ``self.name = value``; what an instance assigns to itself is not shared."""

    def __init__(self, scope: Scope, known: Attributes, myself: str, found: dict[str, Value]) -> None:
        super().__init__(scope, known)
        self._myself = myself
        self._found = found

    def statement(self, node: ast.stmt, following: Sequence[ast.stmt]) -> bool:
        match node:
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id=name), attr=attribute)], value=value):
                self._note(name, attribute, self.value(value))
            case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id=name), attr=attribute), annotation=annotation):
                self._note(name, attribute, value_of_annotation(annotation, self.scope, self.known))
        return super().statement(node, following)

    def _note(self, name: str, attribute: str, value: Value | None) -> None:
        if name == self._myself and value is not None:
            self._found[attribute] = value
