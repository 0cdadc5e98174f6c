"""One step of a recording, performed again in this process: same inputs, same seed, sealed.

It receives the *recorded* outputs of the steps before it, so that every step is judged by itself and what
differs in one does not hide the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from aos_workflow.canonical import digest
from aos_workflow.context import StepContext
from aos_workflow.determinism import seal
from aos_workflow.errors import GoldenUnreadable, UnknownTask
from aos_workflow.journal import Breach, EffectJournal
from aos_workflow.options import StepOptions
from aos_workflow.perform import Again, Body, Done, GaveUp, fields_to_ignore, perform
from aos_workflow.plan import Step
from aos_workflow.recording import RecordedStep, Recording
from aos_workflow.records import Failure, Granted, Run, RunStatus

#: A replay refuses no output for its size: the recording's own limit held when it was made.
NO_LIMIT_BYTES = 2**40


class Tasks(Protocol):
    """How a replay finds and calls the functions of steps."""

    app: Any

    def options(self, task_name: str) -> StepOptions: ...

    def body(self, step: Step, granted: Granted) -> Body: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Reperformed:
    """What performing a recorded step again gave.

    output      canonical text; None when the step raised, then ``failure`` says what
    is_served   the recorded output was served: the step touches the world by declaration
    breaches    what it tried to reach outside, or wanted and was not recorded
    volatile    the fields of its output that do not count, recorded and today's
    """

    address: str
    output: str | None
    failure: Failure | None = None
    is_served: bool = False
    breaches: tuple[Breach, ...] = ()
    volatile: tuple[str, ...] = ()


def reperform(
    recording: Recording, address: str, tasks: Tasks, *, volatile: tuple[str, ...] = (), all_threads: bool = False
) -> Reperformed:
    """Perform the step at ``address`` again. ``volatile``: the setting's fields.

    Never raises for what the step does. Raises GoldenUnreadable when its task is gone.
    """
    recorded, step = recording.step(address), recording.whole_plan.step(address)
    options = _options(recording, step, tasks)
    fields = tuple(dict.fromkeys((*recorded.volatile, *fields_to_ignore(recording.plan, options, volatile))))
    journal = EffectJournal(recorded.effects, is_replay=True)
    if options.effect or recorded.effect or journal.used_session or journal.is_full:
        return Reperformed(address=address, output=recorded.output, is_served=True, volatile=fields)
    granted = _granted(recording, recorded)
    _guard_publishing(tasks.app)
    with seal.sealed(journal, all_threads=all_threads):
        outcome = perform(
            step,
            plan=recording.whole_plan,
            granted=granted,
            options=replace(options, timeout_s=None, max_attempts=1),  # a deadline is the machine's, not the step's
            body=tasks.body(step, granted),
            context=_context(recording, recorded, journal),
            limit_bytes=NO_LIMIT_BYTES,
            volatile=volatile,
            app=tasks.app,
        )
    breaches = tuple(journal.breaches)
    match outcome:
        case Done(output=output):
            return Reperformed(address=address, output=output, breaches=breaches, volatile=fields)
        case Again(failure=failure) | GaveUp(failure=failure):
            return Reperformed(address=address, output=None, failure=failure, breaches=breaches, volatile=fields)


def _options(recording: Recording, step: Step, tasks: Tasks) -> StepOptions:
    try:
        return tasks.options(step.task)
    except UnknownTask as gone:
        raise GoldenUnreadable(
            f"{step.address} of run {recording.run_id} is task {step.task!r}, which this code does not have",
            fix="replay it with the code that has the task, or archive the golden",
            task=step.task,
            address=step.address,
        ) from gone


def _granted(recording: Recording, recorded: RecordedStep) -> Granted:
    """The recorded attempt, as a claim would have granted it."""
    run = Run(
        id=recording.run_id,
        workflow=recording.workflow,
        status=RunStatus.RUNNING,
        plan_digest=recording.plan.digest,
        inputs_digest=digest(recording.inputs),
        seed=recording.seed,
        logical_time=recording.logical_time,
        idempotency_key=None,
        epoch=1,
        size=len(recording.steps),
        done=0,
        splices=len(recording.splices),
        inline=True,
        created_at=recording.logical_time,
        updated_at=recording.logical_time,
        started_at=recording.logical_time,
        finished_at=None,
        workflow_hash=None,
        error=None,
    )
    return Granted(
        run=run,
        address=recorded.address,
        attempt=recorded.attempt,
        retries=recorded.retries,
        outputs=recording.outputs,
        started_at=recording.logical_time,
    )


def _context(recording: Recording, recorded: RecordedStep, journal: EffectJournal) -> StepContext:
    return StepContext(
        run_id=recording.run_id,
        workflow=recording.workflow,
        address=recorded.address,
        attempt=recorded.attempt,
        seed=recording.seed,
        logical_time=recording.logical_time,
        journal=journal,
    )


def _guard_publishing(app: Any) -> None:
    """A connection that is already open announces nothing to the seal: the app's own door is guarded, once."""
    send = app.send_task
    if hasattr(send, "is_guarded"):
        return

    def guarded(name: str, *args: Any, **kwargs: Any) -> Any:
        held = seal.active()
        if held is not None:
            held.refuse("external_call", f"to send the task {name}")
        return send(name, *args, **kwargs)

    guarded.is_guarded = True  # type: ignore[attr-defined]
    app.send_task = guarded
