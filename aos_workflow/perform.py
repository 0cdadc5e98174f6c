"""perform(step): the one function that performs a step, live, in-process and in replay.

It turns what a claim granted into an outcome. It speaks to no database, queue or file:
whoever calls it decides what an outcome is worth.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from aos_workflow import context as step_context
from aos_workflow.canonical import VOLATILE_FIELDS, digest, encode, revive, stable_digest
from aos_workflow.canonical import decode as value_of
from aos_workflow.canvas import compile_canvas
from aos_workflow.context import Replacement, StepContext, derive_seed
from aos_workflow.deadline import call_within
from aos_workflow.determinism.capture import capturing
from aos_workflow.errors import AosError, CheckpointMissing, UnsupportedCanvas
from aos_workflow.options import StepOptions, backoff_s
from aos_workflow.plan import FAILURE, INPUT, Plan, Step, fed
from aos_workflow.records import Failure, Granted
from aos_workflow.terms import Terms

_TRACEBACK_CHARACTERS = 16_000
_MESSAGE_CHARACTERS = 4_000


class RetryRequested(Exception):
    """The body asks to be tried again in ``delay_s`` seconds (None: after the usual pause)."""

    delay_s: float | None
    cause: BaseException | None


class ReplaceRequested(Exception):
    """The body asks (Celery's ``self.replace``) to be replaced by ``canvas``."""

    canvas: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """The body returned: canonical output, its digests, its effects, and the sub-plan if it returned a canvas."""

    output: str
    digest: str
    stable_digest: str
    effects: str | None = None
    sub: Plan | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Again:
    """The attempt failed and another one is due in ``delay_s`` seconds."""

    delay_s: float
    failure: Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class GaveUp:
    """The step failed for good."""

    failure: Failure


Outcome: TypeAlias = Done | Again | GaveUp
#: Calls the step's function with its arguments; may raise RetryRequested or ReplaceRequested.
Body: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Any]


def perform(
    step: Step,
    *,
    plan: Plan,
    granted: Granted,
    options: StepOptions,
    body: Body,
    context: StepContext,
    limit_bytes: int,
    volatile: tuple[str, ...] = (),
    app: Any = None,
) -> Outcome:
    """Perform one attempt of one step.

    ``granted.outputs`` must hold the text of every address in ``plan.inputs_of(step)``.
    Never raises for what the body did; raises CheckpointMissing if an input is not there.
    """
    args, kwargs = arguments(step, plan, granted.outputs)
    token = step_context.current.set(context)
    try:
        with capturing(_terms_of(plan, options), context):
            value = call_within(options.timeout_s, lambda: body(args, kwargs))
        context.flush()
        if isinstance(value, Replacement):
            return _replaced(value.canvas, step, plan, context, app)
        return _done(value, context, limit_bytes, fields_to_ignore(plan, options, volatile))
    except ReplaceRequested as wish:
        return _replaced_or_gave_up(wish.canvas, step, plan, context, app)
    except RetryRequested as request:
        return _again(request, step, granted, options)
    except Exception as error:
        return _failed(error, step, granted, options)
    finally:
        step_context.current.reset(token)


def _terms_of(plan: Plan, options: StepOptions) -> Terms:
    """An effect step's output is recorded whole and served: what it asked on the way is nobody's business."""
    return replace(plan.terms, capture="none") if options.effect else plan.terms


def arguments(step: Step, plan: Plan, outputs: Mapping[str, str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The values a step's function receives."""
    args, kwargs = tuple(revive(list(step.args))), revive(dict(step.kwargs))
    if step.feed is None or step.feed == FAILURE:
        return args, kwargs
    feed = plan.value_feed(step.feed)
    values = {address: value_of(_present(address, outputs)) for address in plan.inputs_of(step)}
    if INPUT in outputs:
        values[INPUT] = value_of(outputs[INPUT])
    return (fed(feed, values) if feed is not None else None, *args), kwargs


def fields_to_ignore(plan: Plan, options: StepOptions, setting: tuple[str, ...]) -> tuple[str, ...]:
    """Which fields of a step's output count as volatile: the module's list, the setting, the workflow's, the step's.

    Recorder, verifier, replay and diff ask this one function.
    """
    return tuple(dict.fromkeys((*VOLATILE_FIELDS, *setting, *plan.terms.volatile, *options.volatile)))


def failure_of(error: BaseException, address: str, *, handlers: tuple[str, ...] = ()) -> Failure:
    """What is stored about an exception: code, type, message and traceback."""
    text = "".join(traceback.format_exception(error))
    return Failure(
        code=error.code if isinstance(error, AosError) else "STEP_FAILED",
        type=f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        message=_message_of(error)[:_MESSAGE_CHARACTERS],
        traceback=text[-_TRACEBACK_CHARACTERS:],
        address=address,
        handlers=handlers,
    )


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"(its text cannot be had: {type(broken).__name__})"


def _present(address: str, outputs: Mapping[str, str]) -> str:
    if address not in outputs:
        raise CheckpointMissing(
            f"no checkpoint for {address} in the database",
            fix="it was deleted; start the run anew",
            address=address,
        )
    return outputs[address]


def _done(value: Any, context: StepContext, limit_bytes: int, volatile: tuple[str, ...]) -> Done:
    output = encode(value, limit_bytes=limit_bytes, what="the step's output")
    return Done(
        output=output,
        digest=digest(output),
        stable_digest=stable_digest(output, volatile),
        effects=context.journal.text(),
    )


def _replaced(canvas: Any, step: Step, plan: Plan, context: StepContext, app: Any) -> Done:
    if plan.is_handler(step.address):
        raise UnsupportedCanvas(
            f"{step.address} handles a failure: no canvas can take its place",
            fix="enqueue a workflow of its own from it",
            address=step.address,
        )
    sub = compile_canvas(canvas, app=app)
    output = encode({"replaced_by": sub.digest})
    return Done(
        output=output,
        digest=digest(output),
        stable_digest=digest(output),
        effects=context.journal.text(),
        sub=sub,
    )


def _replaced_or_gave_up(canvas: Any, step: Step, plan: Plan, context: StepContext, app: Any) -> Outcome:
    try:
        context.flush()
        return _replaced(canvas, step, plan, context, app)
    except Exception as error:
        return GaveUp(failure=failure_of(error, step.address, handlers=step.on_error))


def _again(request: RetryRequested, step: Step, granted: Granted, options: StepOptions) -> Outcome:
    error = request.cause or request
    if options.max_attempts is not None and granted.retries + 1 >= options.max_attempts:
        return GaveUp(failure=failure_of(error, step.address, handlers=step.on_error))
    return Again(delay_s=_delay_s(request.delay_s, step, granted), failure=failure_of(error, step.address))


def _failed(error: Exception, step: Step, granted: Granted, options: StepOptions) -> Outcome:
    is_final = isinstance(error, AosError) and not error.retryable
    if is_final or granted.retries + 1 >= (options.max_attempts or 1):
        return GaveUp(failure=failure_of(error, step.address, handlers=step.on_error))
    delay_s = _delay_s(getattr(error, "retry_after_s", None), step, granted)
    return Again(delay_s=delay_s, failure=failure_of(error, step.address))


def _delay_s(asked: Any, step: Step, granted: Granted) -> float:
    """What was asked for, if it is a number of seconds, else the usual pause."""
    try:
        asked_s = float(asked)
    except (TypeError, ValueError, OverflowError):
        asked_s = math.nan
    if math.isfinite(asked_s):
        return max(0.0, asked_s)
    draw = derive_seed(granted.run.seed, f"{step.address}#retry{granted.retries}")
    return backoff_s(granted.retries, draw / 2**64)
