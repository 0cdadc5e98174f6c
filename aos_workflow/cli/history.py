"""What ``aos runs`` says about a run, from what is stored about it. Only ``look_at`` does I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from aos_workflow import reading
from aos_workflow.canonical import parse
from aos_workflow.database import in_our_words, quick
from aos_workflow.plan import INPUT, Plan, Step, fed, plan_order, references
from aos_workflow.records import Attempt, AttemptState, Run, RunStatus

if TYPE_CHECKING:
    from aos_workflow.checkpoint import CheckpointStore


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLine:
    """One step: how it stands, how often it was tried, how long its last attempt took and who made it.

    ``status`` is an attempt's state, or for a step nobody tried "ready", "waiting" or (the run has ended)
    "not run". ``duration_s`` is still growing while it is running.
    """

    address: str
    task: str
    status: str
    attempts: int
    duration_s: float | None = None
    worker_id: str | None = None
    pid: int | None = None
    started_at: float | None = None
    finished_at: float | None = None
    due_at: float | None = None
    error: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """A run with its steps in plan order; ``at`` is the database's time."""

    run: Run
    inputs: Any
    output: Any
    steps: tuple[StepLine, ...]
    at: float

    def as_json(self) -> dict[str, Any]:
        document = run_document(self.run, self.at)
        return {**document, "inputs": self.inputs, "output": self.output, "steps": list(map(asdict, self.steps))}


def look_at(store: CheckpointStore, run_id: str) -> History:
    """Everything about one run."""
    with in_our_words(), quick(store.engine).connect() as connection:
        run = reading.run(connection, run_id)
        attempts = reading.attempts_of(connection, run_id)
    plan = store.effective_plan(run_id, run.plan_digest, run.splices)
    at = store.time()
    return History(
        run=run,
        inputs=parse(store.outputs(run_id, [INPUT])[INPUT]),
        output=output_of(store, run),
        steps=step_lines(run, plan, attempts, at=at),
        at=at,
    )


def output_of(store: CheckpointStore, run: Run) -> Any:
    """The output of a run that succeeded, as stored: JSON, tags of other types left alone. None for others."""
    if run.status is not RunStatus.SUCCEEDED:
        return None
    plan = store.effective_plan(run.id, run.plan_digest, run.splices)
    feed = plan.value_feed(plan.outgoing)
    if feed is None:
        return None
    texts = store.outputs(run.id, [*dict.fromkeys(references(feed)), INPUT])
    return fed(feed, {address: parse(text) for address, text in texts.items()})


def run_document(run: Run, at: float) -> dict[str, Any]:
    """A run for programs; times are seconds since the epoch, in database time."""
    return {
        "id": run.id,
        "workflow": run.workflow,
        "status": run.status.value,
        "steps_committed": run.done.bit_count(),
        "steps_planned": run.size,
        "seed": run.seed,
        "idempotency_key": run.idempotency_key,
        "plan_digest": run.plan_digest,
        "inputs_digest": run.inputs_digest,
        "inline": run.inline,
        "epoch": run.epoch,
        "logical_time": run.logical_time,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "duration_s": run_duration_s(run, at),
        "workflow_hash": run.workflow_hash,
        "error": run.error.as_json() if run.error else None,
    }


def run_duration_s(run: Run, at: float) -> float | None:
    """From the first step's start to the run's end, or to ``at``; None if nothing has started."""
    if run.started_at is None:
        return None
    return max(0.0, (at if run.finished_at is None else run.finished_at) - run.started_at)


def step_lines(run: Run, plan: Plan, attempts: Iterable[Attempt], *, at: float) -> tuple[StepLine, ...]:
    """The steps of a run in plan order, then those handlers of failures that are concerned."""
    tried: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        tried.setdefault(attempt.address, []).append(attempt)
    ready = set(plan.ready(run.done)) if run.status.is_live else set()
    called = {*(run.error.handlers if run.error else ()), *tried}
    steps = sorted(plan.steps, key=lambda step: plan_order(step.address))
    shown = [*steps, *(handler for handler in plan.handlers if handler.address in called)]
    return tuple(
        _line(
            step,
            tried.get(step.address, []),
            untried="ready" if step.address in ready else "waiting" if run.status.is_live else "not run",
            at=at,
        )
        for step in shown
    )


def _line(step: Step, attempts: list[Attempt], *, untried: str, at: float) -> StepLine:
    if not attempts:
        return StepLine(address=step.address, task=step.task, status=untried, attempts=0)
    committed = (attempt for attempt in attempts if attempt.state is AttemptState.COMMITTED)
    last = next(committed, attempts[-1])
    return StepLine(
        address=step.address,
        task=step.task,
        status=last.state.value,
        attempts=len(attempts),
        duration_s=(at if last.finished_at is None else last.finished_at) - last.started_at,
        worker_id=last.worker_id,
        pid=last.pid,
        started_at=last.started_at,
        finished_at=last.finished_at,
        due_at=last.due_at,
        error=last.error.as_json() if last.error else None,
    )
