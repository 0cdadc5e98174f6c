"""WorkflowTask: the Celery task class that makes every task of an app usable as a step.

``Celery("triage", task_cls=WorkflowTask)`` is the one line. A message with the engine's
header is handed to the StepExecutor; without it the task is a plain Celery task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from celery import Celery, Task
from celery._state import _task_stack
from celery.app.task import Context
from celery.exceptions import Ignore, MaxRetriesExceededError, NotRegistered, Retry
from celery.utils.functional import arity_greater
from celery.utils.time import maybe_iso8601, maybe_make_aware

from aos_workflow import context as step_context
from aos_workflow import golden_tasks, lifecycle, wiring
from aos_workflow.canonical import VOLATILE_FIELDS
from aos_workflow.clock import SystemClock
from aos_workflow.determinism import ambient
from aos_workflow.determinism.fingerprint import fingerprint
from aos_workflow.determinism.user_code import user_function
from aos_workflow.errors import AosError, BadOption, StepFailed, UnknownTask
from aos_workflow.faults import fault
from aos_workflow.messages import Idle, Message, Progress
from aos_workflow.options import StepOptions
from aos_workflow.perform import Body, ReplaceRequested, RetryRequested
from aos_workflow.plan import FAILURE, Step
from aos_workflow.records import Granted, RunStatus

log = logging.getLogger("aos_workflow.step")

#: The message header that makes a task a step: {"run", "address", "epoch", "plan"}.
HEADER = "aos"


class StepRetry(Retry, RetryRequested):  # type: ignore[misc]
    """``self.retry`` inside a step. A Celery ``Retry``, so ``autoretry_for`` lets it pass."""

    def __init__(self, delay_s: float | None, cause: BaseException | None) -> None:
        super().__init__(None, cause, delay_s or 0)
        self.delay_s = delay_s
        self.cause = cause


class StepReplace(Ignore, ReplaceRequested):  # type: ignore[misc]
    """``self.replace`` inside a step."""

    def __init__(self, canvas: Any) -> None:
        super().__init__()
        self.canvas = canvas


class WorkflowTask(Task):  # type: ignore[misc]
    """A Celery task that can also be a step of a workflow."""

    abstract = True
    is_step = True
    step_options = StepOptions()

    @classmethod
    def on_bound(cls, app: Celery) -> None:
        lifecycle.attend()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        message = message_of(self.request)
        if step_context.current.get() is not None:
            return self.run(*args, **kwargs)  # called as a function by another step, or by itself
        if message is None:
            return super().__call__(*args, **kwargs)
        serve(self, message)
        return None

    def after_return(self, *_: Any) -> None:
        message = message_of(self.request)
        if message is not None:
            fault("after_publish", message.address)  # Celery has sent the chain's next link

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """As Celery's; a step's message carries an address and no arguments, so there are none to check."""
        if HEADER not in (options.get("headers") or {}):
            return super().apply_async(args, kwargs, **options)
        app = self._get_app()
        options = {**self._get_exec_options(), "ignore_result": True, **options}
        return app.send_task(self.name, (), {}, task_type=self, **options)

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Any:
        """As Celery's; inside a step the database remembers the retry, never an ETA in the broker."""
        if step_context.current.get() is None:
            return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **options)
        if args is not None or kwargs is not None:
            raise BadOption(
                f"{self.name} retries with other arguments",
                fix="a step's arguments are part of its run's plan; use ctx.replace to go on with others",
            )
        limit = self.max_retries if max_retries is None else max_retries
        if limit is not None and self.request.retries >= limit:
            if exc is not None:
                raise exc
            raise MaxRetriesExceededError(f"{self.name} has been retried {limit} times", task_args=(), task_kwargs={})
        request = StepRetry(self._delay_s(eta, countdown), exc)
        if throw:
            raise request
        return request

    def _delay_s(self, eta: Any, countdown: float | None) -> float | None:
        if eta is not None:
            when = maybe_iso8601(eta)
            return max(0.0, maybe_make_aware(when).timestamp() - SystemClock().now()) if when else 0.0
        if getattr(self, "retry_backoff", False) and getattr(self, "retry_jitter", True):
            return None  # Celery drew the jitter from unseeded chance; the engine draws its own
        return self.default_retry_delay if countdown is None else countdown

    def replace(self, sig: Any) -> Any:
        """As Celery's; inside a step the sub-plan is committed with the checkpoint."""
        if step_context.current.get() is None:
            return super().replace(sig)
        raise StepReplace(sig)

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        if step_context.current.get() is None:
            return super().add_to_chord(sig, lazy)
        raise BadOption("a step cannot add to a chord that is under way", fix="return ctx.replace(group(...))")


def message_of(request: Context) -> Message | None:
    """The engine's header of a Celery request; None for a plain task."""
    header = getattr(request, HEADER, None) or (request.headers or {}).get(HEADER)
    if not isinstance(header, Mapping):
        return None
    return Message(
        run_id=str(header["run"]),
        address=str(header["address"]),
        epoch=int(header["epoch"]),
        plan=str(header.get("plan") or ""),
    )


def serve(task: WorkflowTask, message: Message) -> None:
    """Perform the step of a message and publish what it released.

    Returning lets Celery send the next link of the message's chain. Ignore ends the chain here;
    Retry and StepFailed do too, and show in Flower as what happened.
    """
    runtime = wiring.runtime()
    fault("received", message.address)
    chain = task.request.chain or []
    try:
        runtime.require_shared_store()
        answer = runtime.executor.execute(message, CeleryTasks(task._get_app()))
    except AosError as error:
        log.warning("step %s of run %s is left to the sweep: %s", message.address, message.run_id, error)
        raise Ignore from error
    if isinstance(answer, Idle):
        if answer.failure is not None:
            raise Retry(f"{answer.failure.type}: {answer.failure.message}", when=_utc(answer.due_at))
        log.debug("message for %s of run %s was of no use: %s", message.address, message.run_id, answer.reason)
        raise Ignore
    if chain and answer.released == (_address_of(chain[-1]),):
        return
    dispatch = runtime.dispatch(task._get_app())
    dispatch.publish(answer)
    if answer.status is RunStatus.SUCCEEDED and runtime.leaves_golden(message.run_id, answer.plan.terms):
        dispatch.send(golden_tasks.RECORD, message.run_id)
    if answer.failure is not None:
        raise StepFailed(f"{answer.failure.type}: {answer.failure.message}", run_id=message.run_id)
    if chain:
        fault("after_publish", message.address)
        raise Ignore


def _utc(due_at: float | None) -> datetime:
    return datetime.fromtimestamp(due_at or 0, UTC)


def _address_of(link: Mapping[str, Any]) -> str | None:
    headers = (link.get("options") or {}).get("headers") or {}
    address = headers.get(HEADER, {}).get("address")
    return str(address) if address else None


class CeleryTasks:
    """How the executor finds and calls tasks of a Celery app."""

    def __init__(self, app: Celery) -> None:
        self.app = app

    def task(self, name: str) -> Any:
        """The task; raises UnknownTask (a worker of another version may have it)."""
        try:
            return self.app.tasks[name]
        except NotRegistered:
            raise UnknownTask(
                f"this worker has no task {name!r}",
                fix="deploy the code that defines it, or route its queue elsewhere",
                task=name,
            ) from None

    def options(self, task_name: str) -> StepOptions:
        options = getattr(self.task(task_name), "step_options", None)
        return options if options is not None else StepOptions()

    def facts(self, task_name: str) -> Mapping[str, Any] | None:
        """What today's code says of a task: is it an effect, what is volatile, and a fingerprint of its code.

        None for a task that is gone.
        """
        try:
            task, options = self.task(task_name), self.options(task_name)
        except UnknownTask:
            return None
        return {
            "effect": options.effect,
            "volatile": [*VOLATILE_FIELDS, *options.volatile],
            "code": fingerprint(task.run),
        }

    def body(self, step: Step, granted: Granted) -> Body:
        """A call of the step's function with a Celery request of its own, as ``self.request``."""
        task = self.task(step.task)
        adopt_module_of(task)
        around = task.request_stack.top

        def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if step.feed == FAILURE:
                args = (*_failure_arguments(task, granted), *args)
            facts = {**(vars(around) if around is not None else {})}
            facts.update(
                id=f"{granted.run.id}:{granted.address}", root_id=granted.run.id, task=step.task, args=args,
                kwargs=kwargs, retries=granted.retries, called_directly=False, chain=None, callbacks=None,
                errbacks=None, chord=None, group=None,
            )  # fmt: skip
            self.app.set_current()  # Celery's current app is a thread's own; a timed step has its own thread
            _task_stack.push(task)
            task.request_stack.push(Context(facts))
            try:
                fault("in_body", step.address)
                return task.run(*args, **kwargs)
            finally:
                task.request_stack.pop()
                _task_stack.pop()

        return call

    def runs_here(self, step: Step, before: Step) -> bool:
        """May ``step`` follow ``before`` in this process: is it local, and of the same queue?"""
        options = getattr(self.app.tasks.get(step.task), "step_options", None)  # this worker may lack the task
        if options is None or not options.local:
            return False
        return self._queue(step) == self._queue(before)

    def _queue(self, step: Step) -> tuple[Any, ...]:
        task = self.app.tasks.get(step.task)
        options = {name: step.options.get(name) for name in ("queue", "exchange", "routing_key")}
        if task is not None:
            options = {name: value or getattr(task, name, None) for name, value in options.items()}
        if not any(options.values()):
            routed = self.app.amqp.router.route({}, step.task)
            options = {name: routed.get(name) for name in options}
        queue = options["queue"]
        return (getattr(queue, "name", queue), str(options["exchange"]), options["routing_key"])


def adopt_module_of(task: Any) -> None:
    """Let the capture reach names that the task's module bound early (``from time import time``)."""
    module = _globals_of(task)
    if module is not None:
        ambient.adopt(module)


@lru_cache(maxsize=4096)
def _globals_of(task: Any) -> dict[str, Any] | None:
    function = user_function(task)
    return None if function is None else function.__globals__


def _failure_arguments(task: Any, granted: Granted) -> tuple[Any, ...]:
    """What Celery hands an error callback: (request, exception, traceback); to old-style ones the id alone."""
    failure = granted.run.error
    address = failure.address if failure else ""
    task_id = f"{granted.run.id}:{address}"
    if not arity_greater(task.__header__, 1):
        return (task_id,)
    request = Context(id=task_id, root_id=granted.run.id, task=address)
    message = failure.message if failure else ""
    error = StepFailed(message, type=failure.type if failure else "", address=address)
    return (request, error, failure.traceback if failure else "")


Publish = Callable[[Progress], None]
