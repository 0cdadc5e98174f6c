"""The Celery app of the chaos tests: small deterministic steps, and one named victim per case.

A victim is an ordinary step under a name of its own, so a fault rule (``at=chain_after_claim``) finds exactly it.
Every body first writes a line to the file ``CHAOS_JOURNAL`` names, then takes ``CHAOS_STEP_S`` seconds, so that
a kill finds something to kill.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery, group
from sqlalchemy import text

from aos_workflow import StepContext, WorkflowTask, step

PREFIX = "chaos."
#: A table without any constraint of its own: two rows for one step would both stay, and be seen.
LEDGER = "CREATE TABLE ledger (run_id text, address text, amount double precision)"

app = Celery("chaos", task_cls=WorkflowTask)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)


# --- the bodies: each result depends on what came in and on the step's seed --------------------


def _begin(ctx: StepContext, name: str) -> list[Any]:
    return _drawn(ctx, name)


def _work(ctx: StepContext, x: Any) -> list[Any]:
    return _drawn(ctx, x)


def _join(ctx: StepContext, xs: list[Any]) -> list[Any]:
    return _drawn(ctx, xs)


def _pay(ctx: StepContext, x: Any) -> list[Any]:
    amount = ctx.random.random()
    row = {"run_id": ctx.run_id, "address": ctx.address, "amount": amount}
    ctx.session.execute(text("INSERT INTO ledger VALUES (:run_id, :address, :amount)"), row)
    return [*_drawn(ctx, x), amount]


def _expand(ctx: StepContext, x: Any) -> Any:
    return ctx.replace(work.s(_drawn(ctx, x)) | group(work.s(), pay.s()) | join.s())


def _drawn(ctx: StepContext, x: Any) -> list[Any]:
    _write_down(ctx)
    time.sleep(float(os.environ.get("CHAOS_STEP_S", "0")))
    return [x, ctx.random.random()]


def _write_down(ctx: StepContext) -> None:
    path = os.environ.get("CHAOS_JOURNAL")
    if path:
        line = {"run": ctx.run_id, "address": ctx.address, "attempt": ctx.attempt, "pid": os.getpid()}
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, (json.dumps(line) + "\n").encode())
        os.close(descriptor)


def _step(function: Callable[..., Any], name: str, **options: Any) -> Any:
    # max_attempts: what a nemesis does to the database is an error in a body that has a session open
    return step(name=PREFIX + name, max_attempts=50, **options)(function)


begin = _step(_begin, "begin")
work = _step(_work, "work")
join = _step(_join, "join", joins=True)
pay = _step(_pay, "pay")
expand = _step(_expand, "expand")
near = _step(_work, "near", local=True)


def writes(task: str) -> bool:
    """Does this task write a row into the ledger?"""
    return task == PREFIX + "pay" or task.startswith(PREFIX + "session_")


# --- the cases ----------------------------------------------------------------------------------

#: Where a step's worker may die; a session's step has one point more, a local step has no message of its own.
POINTS = ("received", "after_claim", "in_body", "before_commit", "after_commit", "after_publish")

_VICTIMS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "chain": (_work, {}),
    "last": (_work, {}),
    "fan_out": (_work, {}),
    "sibling": (_work, {}),
    "join": (_join, {"joins": True}),
    "replace": (_expand, {}),
    "session": (_pay, {}),
    "local": (_work, {"local": True}),
}

SHAPES: dict[str, Callable[[Any], Any]] = {
    "chain": lambda victim: begin.s("x") | victim.s() | work.s(),
    "last": lambda victim: begin.s("x") | victim.s(),
    "fan_out": lambda victim: begin.s("x") | victim.s() | group(work.s(), work.s(), work.s()),
    "sibling": lambda victim: group(work.s(1), work.s(2), begin.s("x") | victim.s()) | join.s(),
    "join": lambda victim: group(work.s(1), work.s(2)) | victim.s() | work.s(),
    "replace": lambda victim: begin.s("x") | victim.s() | work.s(),
    "session": lambda victim: begin.s("x") | victim.s() | work.s(),
    "local": lambda victim: begin.s("x") | victim.s() | work.s(),
}


@dataclass(frozen=True, slots=True)
class Case:
    """A shape and the point at which its victim dies."""

    shape: str
    point: str

    @property
    def name(self) -> str:
        return f"{self.shape}_{self.point}"

    def canvas(self) -> Any:
        return SHAPES[self.shape](victims[self.name])


def cases_of(shape: str) -> tuple[Case, ...]:
    points = list(POINTS)
    if shape == "session":
        points.insert(points.index("after_commit"), "in_commit")
    if shape == "local":
        points = points[1:-1]
    return tuple(Case(shape, point) for point in points)


CASES = tuple(case for shape in SHAPES for case in cases_of(shape))

victims: dict[str, Any] = {}
for _case in CASES:
    _function, _options = _VICTIMS[_case.shape]
    victims[_case.name] = _step(_function, _case.name, **_options)

# A process that hangs can be asked where: SIGUSR2 writes the stacks of its threads to the worker's log.
faulthandler.register(signal.SIGUSR2, all_threads=True)

#: Steps that fall asleep before they commit, in a process that others take for dead meanwhile.
SLEEPERS = {"sleeper": _step(_work, "sleeper"), "session_sleeper": _step(_pay, "session_sleeper")}
