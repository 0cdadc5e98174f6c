"""How users say what a step is and what a workflow is: ``@step``, ``@workflow``, ``Workflow``, ``durable``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from celery import Celery, Task, shared_task
from celery.app.utils import find_app
from celery.canvas import Signature
from celery.local import Proxy

from aos_workflow import context, wiring
from aos_workflow.canvas import app_of, compile_canvas, workflow_app
from aos_workflow.context import StepContext
from aos_workflow.errors import BadArguments, BadOption, SettingsError, UnknownWorkflow, UnsupportedCanvas
from aos_workflow.options import OPTION_NAMES, StepOptions
from aos_workflow.plan import Plan
from aos_workflow.terms import Capture, terms_of

_workflows: dict[str, Workflow] = {}


def step(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Declare a step: a Celery shared task with the engine's options.

    ``effect``, ``joins``, ``local``, ``cost``, ``max_attempts`` and ``timeout_s`` are the engine's
    (see ``StepOptions``); every other option goes to Celery (``name``, ``queue``, ``bind``,
    ``autoretry_for``, ``time_limit`` ...). A first parameter named ``ctx`` receives the StepContext
    and is not part of the signature: ``@step def score(ctx, document)`` is called ``score.s(document)``.

    Raises BadOption for an option that makes no sense.
    """
    if function is None:
        return functools.partial(step, **options)
    ours = {name: options.pop(name) for name in OPTION_NAMES if name in options}
    _check_celery_options(function, options)
    return shared_task(step_options=StepOptions(**ours), **options)(with_context(function, options))


def with_context(function: Callable[..., Any], options: Mapping[str, Any]) -> Callable[..., Any]:
    """``function`` without its leading ``ctx`` parameter, which it is handed by the engine."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].name != "ctx":
        return function
    if options.get("bind"):
        raise BadOption(
            f"step {function.__qualname__} takes ctx and is bound",
            fix="drop bind=True: ctx carries what a step needs; Celery's request is celery.current_task.request",
        )
    name = f"{function.__module__}.{function.__qualname__}"

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if "ctx" in kwargs or (args and isinstance(args[0], StepContext)):
            return function(*args, **kwargs)
        return function(context.current.get() or context.detached_context(name), *args, **kwargs)

    del run.__wrapped__  # Celery would read the signature with ctx from it
    run.__signature__ = signature.replace(parameters=parameters[1:])  # type: ignore[attr-defined]
    return run


def _check_celery_options(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    known = {*dir(Task), "base", "bind", "filter", "retry_kwargs", "retry_backoff", "retry_backoff_max", "retry_jitter",
             "autoretry_for", "dont_autoretry_for", "queue", "exchange", "routing_key", "pydantic",
             "pydantic_strict", "pydantic_context", "pydantic_dump_kwargs"}  # fmt: skip
    for option in options:
        if option not in known:
            raise BadOption(
                f"@step({option}=...) on {function.__qualname__}: neither the engine nor Celery has this option",
                fix=f"the engine's options are {', '.join(OPTION_NAMES)}",
                option=option,
            )


class Workflow:
    """A named recipe: a canvas, or a function from inputs to a canvas.

    A canvas is compiled with the run's inputs (if any) as the first argument of its first steps;
    a function is called with the inputs as keyword arguments.
    """

    def __init__(
        self,
        name: str,
        definition: Signature | Callable[..., Any],
        *,
        app: Celery | None = None,
        register: bool = True,
        capture: Capture = "all",
        volatile: Iterable[str] = (),
        golden: str | float | None = None,
    ) -> None:
        """``capture`` and ``volatile``: see ``Terms``. ``golden``: which runs leave a golden file, "always", "never"
        or a share of them such as 0.1; None: as the setting AOS_GOLDEN says.

        Raises BadOption for what makes no sense.
        """
        if not name or not isinstance(name, str) or len(name) > 200:
            raise BadOption(f"workflow name {name!r:.50} is not valid", fix="give 1 to 200 characters")
        if isinstance(definition, Proxy | Task) or not (isinstance(definition, Mapping) or callable(definition)):
            raise BadOption(
                f"workflow {name!r} is given {definition!r:.100}, which is neither a canvas nor a function",
                fix="give a canvas (task.s(...), chain, group, chord) or a function that returns one",
                workflow=name,
            )
        self.name = name
        self.definition: Any = definition
        self.app = app
        self.terms = terms_of(capture=capture, volatile=volatile, golden=golden, of=f"workflow {name!r}")
        if register:
            _register(self)

    @property
    def is_function(self) -> bool:
        return not isinstance(self.definition, Mapping)

    def canvas(self, inputs: Any = None) -> Any:
        """The canvas for these inputs. Raises BadArguments if they do not fit the function."""
        if not self.is_function:
            return self.definition
        if inputs is not None and not isinstance(inputs, Mapping):
            raise BadArguments(
                f"workflow {self.name!r} takes its inputs by name, not {type(inputs).__name__}",
                fix="give an object: {'parameter': value}",
                workflow=self.name,
            )
        function: Callable[..., Any] = self.definition
        try:
            inspect.signature(function).bind(**(inputs or {}))
        except TypeError as mismatch:
            raise BadArguments(
                f"the inputs of workflow {self.name!r} do not fit: {mismatch}",
                fix=f"it takes {inspect.signature(function)}",
                workflow=self.name,
            ) from None
        try:
            return function(**(inputs or {}))
        except RecursionError:
            raise UnsupportedCanvas(
                f"workflow {self.name!r} does not come to an end: it contains itself",
                fix="go on with ctx.replace from inside a step",
                workflow=self.name,
            ) from None

    def compile(self, inputs: Any = None) -> tuple[Plan, Celery]:
        """The plan for these inputs, and the app its tasks belong to.

        Raises a DefinitionError that names what cannot be compiled.
        """
        workflow_app()
        canvas = self.canvas(inputs)
        app = self.app or app_of(canvas)
        plan = compile_canvas(canvas, takes_input=inputs is not None and not self.is_function, app=app)
        return replace(plan, terms=self.terms), app

    def enqueue(
        self,
        inputs: Any = None,
        *,
        seed: int | None = None,
        idempotency_key: str | None = None,
        session: Any = None,
    ) -> Any:
        """Store a run and tell a worker; returns its RunHandle at once, also when the broker is down.

        With ``session`` (a SQLAlchemy session or connection) the run is part of the caller's own
        transaction: it commits or vanishes with it. The same ``idempotency_key`` gives the same run.
        """
        return wiring.runtime().engine.enqueue(
            self, inputs, seed=seed, idempotency_key=idempotency_key, session=session
        )

    def enqueue_many(
        self, inputs: Iterable[Any], *, seeds: Sequence[int] | None = None, session: Any = None
    ) -> list[Any]:
        """Store many runs in one transaction, then tell the workers; returns their handles in order."""
        handles: list[Any] = wiring.runtime().engine.enqueue_many(self, list(inputs), seeds=seeds, session=session)
        return handles

    def s(self, **inputs: Any) -> Any:
        """This workflow as a part of another canvas: ``a.s() | triage.s(sources=[...]) | b.s()``."""
        if inputs and not self.is_function:
            raise BadArguments(
                f"workflow {self.name!r} is a canvas: as a part of another it takes no inputs by name",
                fix="pipe its input in: before.s() | workflow",
                workflow=self.name,
            )
        canvas = self.canvas(inputs or None)
        return canvas.clone() if isinstance(canvas, Signature) else canvas

    def __or__(self, other: Any) -> Any:
        return self.s() | (other.s() if isinstance(other, Workflow) else other)

    def __ror__(self, other: Any) -> Any:
        return other | self.s()

    def __repr__(self) -> str:
        return f"Workflow({self.name!r})"


def workflow(name: str, **options: Any) -> Callable[[Callable[..., Any]], Workflow]:
    """Declare a workflow whose shape depends on its inputs: ``@workflow("triage") def triage(sources): ...``."""
    return lambda function: Workflow(name, function, **options)


def durable(canvas: Any, *, name: str = "durable", **options: Any) -> Workflow:
    """Any canvas as a workflow, no definition needed: ``durable(a.s() | b.s()).enqueue()``; options as Workflow's."""
    return Workflow(name, canvas, register=False, **options)


def find(name: str) -> Workflow:
    """The workflow of that name. Raises UnknownWorkflow, which lists those that are registered."""
    if name not in _workflows:
        known = ", ".join(sorted(_workflows)) or "none"
        raise UnknownWorkflow(
            f"no workflow {name!r}; registered: {known}",
            fix="set AOS_APP to the module that defines it, or pass --app",
            workflow=name,
            registered=sorted(_workflows),
        )
    return _workflows[name]


def registered() -> tuple[str, ...]:
    """The names of all registered workflows, sorted."""
    return tuple(sorted(_workflows))


def load_app(name: str) -> Celery:
    """The Celery app in module ``name`` (or ``module:attribute``); for an empty name the current app.

    Raises SettingsError when the module cannot be imported or has no app.
    """
    if not name:
        return workflow_app()
    fix = "name an importable module that holds a Celery app (its folder must be on PYTHONPATH)"
    try:
        app = find_app(name)
    except Exception as error:  # importing a module may raise anything
        raise SettingsError(f"AOS_APP={name!r} cannot be used: {type(error).__name__}: {error}", fix=fix) from error
    if not isinstance(app, Celery):
        raise SettingsError(f"AOS_APP={name!r} is no Celery app but {type(app).__name__}", fix=fix)
    return app


def _register(new: Workflow) -> None:
    known = _workflows.get(new.name)
    if known is not None and _origin(known) != _origin(new):
        raise BadOption(
            f"workflow {new.name!r} is defined twice: {_origin(known)} and {_origin(new)}",
            fix="give one of them another name",
            workflow=new.name,
        )
    _workflows[new.name] = new


def _origin(flow: Workflow) -> str:
    definition = flow.definition
    if isinstance(definition, Mapping):
        return repr(definition)
    while isinstance(definition, functools.partial):
        definition = definition.func
    return f"{definition.__module__}.{getattr(definition, '__qualname__', type(definition).__qualname__)}"
