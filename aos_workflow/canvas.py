"""Canvas -> Plan: every shape Celery can express, compiled once, at enqueue.

    task    a step; its value is a reference
    chain   a fold: what flows out of one member flows into the next
    group   every member gets what flows in; a list flows out
    chord   its header's list, fed to its body
    chunks  a group of starmaps;  map, starmap: one step over many items

The order is ours: depth first, left to right. (Celery's own differs between eager mode
and workers for nested groups.) The rules that are easy to get wrong:

- A group inside a group flattens; a chain that *ends* in a group stays a nested list.
- An empty group is a no-op in a chain; an empty chord header feeds ``[]`` to the body; a chord whose body
  is an empty group, and a chain of nothing but empty groups, gives ``[]``.
- Arguments given to a chain or chord as a whole go to its first tasks.
- A group's options hold for its members, a chain's for its first member only.
- After a JSON round trip chunks, map and starmap are plain signatures with telling names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from celery import Celery, current_app
from celery._state import _get_active_apps
from celery.canvas import Signature, _chain, _chord, chunks, group, maybe_signature, xmap, xstarmap
from celery.exceptions import NotRegistered
from celery.utils.functional import maybe_list

from aos_workflow.canonical import encode, normalise
from aos_workflow.errors import BadArguments, NotCanonical, PayloadTooLarge, UnknownTask, UnsupportedCanvas
from aos_workflow.options import delivery_options
from aos_workflow.plan import FAILURE, INPUT, Feed, Plan, Step

MOST_STEPS = 100_000
DEEPEST = 200
REFUSED = {"expires": "a step that may silently not run cannot be part of a durable run"}
_BY_NAME = {"celery.chunks": chunks, "celery.map": xmap, "celery.starmap": xstarmap}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Flow:
    """What flows out of a part of the canvas: its value, and what must be committed before it is there."""

    feed: Feed
    after: tuple[str, ...]


def compile_canvas(canvas: Any, *, takes_input: bool = False, app: Celery | None = None) -> Plan:
    """Compile a Celery canvas.

    With ``takes_input`` the first steps receive the run's inputs as their first argument,
    as ``canvas.apply_async((inputs,))`` would give it to them.

    Raises UnsupportedCanvas, UnknownTask, BadArguments, BadOption, NotCanonical or PayloadTooLarge, naming the node.
    """
    compiler = _Compiler(app or app_of(canvas))
    flow = compiler.walk(canvas, _Flow(feed=INPUT, after=()) if takes_input else None, _Setting())
    return Plan(
        steps=tuple(compiler.steps),
        handlers=tuple(compiler.handlers),
        outgoing=flow.feed if flow else _value_of_nothing(canvas),
    )


def _value_of_nothing(canvas: Any) -> Feed:
    """The value of a canvas without any step: an empty group is an empty list, an empty chain has none."""
    if isinstance(canvas, Mapping) and canvas.get("subtask_type") == "group":
        return []
    raise UnsupportedCanvas("the canvas has no task", fix="put at least one task into it")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Setting:
    """What a node inherits from those around it: options, leading arguments, error handlers, how deep it is."""

    options: Mapping[str, Any] | None = None
    args: tuple[Any, ...] = ()
    on_error: tuple[Any, ...] = ()
    depth: int = 0

    def inside(self, node: Signature, *, options: Mapping[str, Any] | None, args: tuple[Any, ...] = ()) -> _Setting:
        handlers = tuple(maybe_list(node.options.get("link_error")) or ())
        return _Setting(options=options, args=args, on_error=(*handlers, *self.on_error), depth=self.depth + 1)


class _Compiler:
    def __init__(self, app: Celery) -> None:
        self.app = app
        self.steps: list[Step] = []
        self.handlers: list[Step] = []
        self._handler_addresses: dict[str, str] = {}

    def walk(self, node: Any, incoming: _Flow | None, setting: _Setting) -> _Flow | None:
        signature = self._signature(node)
        if setting.depth > DEEPEST:
            raise UnsupportedCanvas(
                f"the canvas is nested deeper than {DEEPEST} at {_named(signature)}",
                fix="check that no part of the canvas contains itself",
                node=_named(signature),
            )
        match signature:
            case _chain():
                return self._chain(signature, incoming, setting)
            case group():
                return self._group(signature, incoming, setting)
            case _chord():
                return self._chord(signature, incoming, setting)
            case chunks():
                inherited = setting.inside(signature, options=_merged(setting, signature))
                return self._group(signature.group(), incoming, inherited)
            case _:
                return self._step(signature, incoming, setting)

    def _chain(self, node: Any, incoming: _Flow | None, setting: _Setting) -> _Flow | None:
        if not node.tasks:
            return None
        first = setting.inside(node, options=_merged(setting, node), args=(*setting.args, *node.args))
        rest = setting.inside(node, options=None)
        flow, is_empty = incoming, True
        for position, member in enumerate(node.tasks):
            outgoing = self.walk(member, flow, rest if position else first)
            flow, is_empty = outgoing or flow, is_empty and outgoing is None
        if is_empty:
            flow = _nothing_after(incoming)
        self._callbacks(node, flow, setting)
        return flow

    def _group(self, node: Any, incoming: _Flow | None, setting: _Setting) -> _Flow | None:
        members = [self._signature(member) for member in node.tasks]
        if not members:
            return None
        inherited = setting.inside(node, options=_merged(setting, node), args=setting.args)
        feed: list[Feed] = []
        after: list[str] = []
        for member in members:
            flow = self.walk(member, incoming, inherited)
            if flow is None:
                continue
            if isinstance(member, group) and isinstance(flow.feed, list):
                feed.extend(flow.feed)
            else:
                feed.append(flow.feed)
            after.extend(flow.after)
        flow = _Flow(feed=feed, after=tuple(dict.fromkeys(after)))
        self._callbacks(node, flow, setting)
        return flow

    def _chord(self, node: Any, incoming: _Flow | None, setting: _Setting) -> _Flow | None:
        if node.body is None:
            raise UnsupportedCanvas(
                "a chord without a body has no value", fix="give it a body, or use a group", node=_named(node)
            )
        header = node.tasks if isinstance(node.tasks, group) else group(list(node.tasks or ()), app=self.app)
        args = (*setting.args, *node.args)
        around = setting.inside(node, options=_merged(setting, node), args=args)
        # A chord's error callbacks are kept on its body; they are for its header, too.
        of_body = maybe_list(self._signature(node.body).options.get("link_error")) or ()
        flow = self._group(header, incoming, replace(around, on_error=(*of_body, *around.on_error)))
        if flow is None or (not flow.feed and not flow.after):
            flow = _nothing_after(incoming)
        outgoing = self.walk(node.body, flow, setting.inside(node, options=None))
        if outgoing is None:
            if not isinstance(self._signature(node.body), group):
                raise UnsupportedCanvas(
                    "the body of a chord is an empty chain", fix="give it a task", node=_named(node)
                )
            outgoing = _nothing_after(flow)
        self._callbacks(node, outgoing, setting)
        return outgoing

    def _step(self, node: Signature, incoming: _Flow | None, setting: _Setting) -> _Flow:
        task = self._task(node)
        flow = None if node.immutable or isinstance(node, (xmap, xstarmap)) else incoming
        feed = flow.feed if flow else None
        if feed is not None and task.step_options.joins and not isinstance(feed, list):
            feed = [feed]
        options = _merged(setting, node)
        args, kwargs = self._arguments(node, task, leading=setting.args, fed=feed is not None)
        step = Step(
            address=self._next_address(node.task),
            task=node.task,
            args=args,
            kwargs=kwargs,
            feed=feed,
            after=incoming.after if incoming else (),
            options=options,
            on_error=self._handlers((*(maybe_list(node.options.get("link_error")) or ()), *setting.on_error)),
        )
        self.steps.append(step)
        if len(self.steps) > MOST_STEPS:
            raise PayloadTooLarge(
                f"the canvas has more than {MOST_STEPS} steps",
                fix="split the work with map, chunks or ctx.replace",
                limit=MOST_STEPS,
            )
        outgoing = _Flow(feed=step.address, after=(step.address,))
        self._callbacks(node, outgoing, setting)
        return outgoing

    def _callbacks(self, node: Signature, flow: _Flow | None, setting: _Setting) -> None:
        """Success callbacks are side branches: they receive the value and change nothing."""
        for callback in maybe_list(node.options.get("link")) or ():
            self.walk(callback, flow, _Setting(depth=setting.depth + 1))

    def _handlers(self, signatures: Iterable[Any]) -> tuple[str, ...]:
        """The addresses of failure handlers; the same handler of many steps is kept once."""
        addresses = []
        for signature in map(self._signature, signatures):
            task = self._task(signature)
            args, kwargs = self._arguments(signature, task, fed=False, complete=False)
            key = encode([signature.task, list(args), dict(kwargs), bool(signature.immutable)])
            if key not in self._handler_addresses:
                address = f"{len(self.handlers) + 1}.on_error.{_short(signature.task)}"
                self._handler_addresses[key] = address
                self.handlers.append(
                    Step(
                        address=address,
                        task=signature.task,
                        args=args,
                        kwargs=kwargs,
                        feed=None if signature.immutable else FAILURE,
                        options=_delivery(signature),
                    )
                )
            addresses.append(self._handler_addresses[key])
        return tuple(dict.fromkeys(addresses))

    def _next_address(self, task_name: str) -> str:
        return f"{len(self.steps) + 1}.{_short(task_name)}"

    def _signature(self, given: Any) -> Signature:
        node = given.canvas() if callable(getattr(given, "canvas", None)) else given  # a Workflow
        try:
            if isinstance(node, dict) and not isinstance(node, Signature):
                node = maybe_signature(node, app=self.app)
            if type(node) is Signature and node.task in _BY_NAME:
                node = _BY_NAME[node.task].from_dict(node, app=self.app)
        except (AttributeError, KeyError, TypeError, ValueError):  # a dict that is no signature
            node = None
        if not _is_whole(node):
            raise UnsupportedCanvas(
                f"{type(given).__name__} is not a canvas node: {given!r:.200}",
                fix="build the canvas from signatures: task.s(...), chain, group, chord",
                node=repr(given)[:200],
            )
        _check_refused(node.options, _named(node))
        return node

    def _task(self, node: Signature) -> Any:
        try:
            task = self.app.tasks[node.task]
        except NotRegistered:
            raise UnknownTask(
                f"no task named {node.task!r} is registered in app {self.app.main!r}",
                fix="import the module that defines it, or add it to the app's include setting",
                task=node.task,
            ) from None
        if not getattr(task, "is_step", False):
            raise UnsupportedCanvas(
                f"task {node.task!r} cannot be a step: it is not a WorkflowTask",
                fix='create the app with Celery(..., task_cls="aos_workflow.task:WorkflowTask")',
                task=node.task,
            )
        _check_refused({option: getattr(task, option, None) for option in REFUSED}, f"task {node.task!r}")
        return task

    def _arguments(
        self, node: Signature, task: Any, *, fed: bool, leading: tuple[Any, ...] = (), complete: bool = True
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = tuple(node.args or ()), dict(node.kwargs or {})
        if not node.immutable:
            args = (*leading, *args)
        if isinstance(node, (xmap, xstarmap)):
            inner = self._signature(kwargs["task"])
            self._task(inner)
            kwargs = {"task": {"task": inner.task, "args": list(inner.args), "kwargs": dict(inner.kwargs),
                               "options": {}, "subtask_type": None, "immutable": False},
                      "it": list(kwargs["it"])}  # fmt: skip
        if complete and task.typing:
            try:
                task.__header__(*((None, *args) if fed else args), **kwargs)
            except TypeError as mismatch:
                raise BadArguments(
                    f"the arguments of {node.task} do not fit: {mismatch}",
                    fix="compare the signature in the canvas with the function's parameters",
                    task=node.task,
                ) from None
        try:
            return tuple(normalise(list(args))), normalise(kwargs)
        except NotCanonical as refused:
            raise NotCanonical(
                f"an argument of {node.task} has no canonical form: {refused.message}",
                fix=refused.fix,
                task=node.task,
                **refused.evidence,
            ) from None


def _nothing_after(flow: _Flow | None) -> _Flow:
    """An empty list that is there once ``flow`` is."""
    return _Flow(feed=[], after=flow.after if flow else ())


def _merged(setting: _Setting, node: Signature) -> dict[str, Any]:
    return {**(setting.options or {}), **_delivery(node)}


def _check_refused(options: Mapping[str, Any], owner: str) -> None:
    for option, why in REFUSED.items():
        if options.get(option) is not None:
            raise UnsupportedCanvas(f"{owner} carries the option {option!r}: {why}", fix="remove it", option=option)


def _delivery(node: Signature) -> dict[str, Any]:
    return delivery_options(node.options, of=node.task)


def _is_whole(node: Any) -> bool:
    """Is it a signature with all its parts, in the types they must have?"""
    return (
        isinstance(node, Signature)
        and isinstance(node.task, str)
        and isinstance(node.args or (), list | tuple)
        and isinstance(node.kwargs or {}, Mapping)
        and isinstance(node.options, Mapping)
    )


def _short(task_name: str) -> str:
    return task_name.rpartition(".")[2].replace("/", "_")


def _named(node: Signature) -> str:
    return f"{type(node).__name__.strip('_')} {node.task!r}"


def app_of(canvas: Any) -> Celery:
    """The app a canvas belongs to: its own or its first task's, or the one that serves workflows in this process."""
    for _ in range(DEEPEST):
        own = getattr(canvas, "_app", None)
        if own is not None and serves_workflows(own):
            return own
        members = getattr(canvas, "tasks", None) or (getattr(canvas, "body", None),)
        canvas = members if isinstance(members, Signature) else next(iter(members))
    return workflow_app()


def workflow_app() -> Celery:
    """The current app if its tasks can be steps, else the only such app there is, which becomes current.

    Celery's current app is a thread's own: a web server's worker thread starts with an empty one.
    """
    current: Celery = current_app._get_current_object()
    if serves_workflows(current):
        return current
    others = [app for app in _get_active_apps() if serves_workflows(app)]
    if len(others) != 1:
        return current
    others[0].set_current()
    return others[0]


def serves_workflows(app: Celery) -> bool:
    """Was the app made with ``task_cls=WorkflowTask``?"""
    return bool(getattr(app.Task, "is_step", False))
