"""Settlement: what an outcome is worth. Commits checkpoints, records failures, ends runs.

The executor performs; this room writes down what came of it and says what is next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.clock import Clock, monotonic_s
from aos_workflow.context import StepContext
from aos_workflow.errors import StoreUnavailable
from aos_workflow.events import announce
from aos_workflow.faults import fault
from aos_workflow.messages import Answer, Idle, Progress
from aos_workflow.perform import Done, failure_of
from aos_workflow.plan import Plan
from aos_workflow.records import (
    AttemptState,
    Commit,
    Committed,
    Failure,
    Granted,
    Run,
    RunStatus,
    Superseded,
    workflow_hash,
)

log = logging.getLogger("aos_workflow.step")
T = TypeVar("T")

#: How long a commit is tried again while the database is away, and the pauses between, seconds.
COMMIT_PATIENCE_S = 60.0
COMMIT_PAUSES_S = (0.1, 0.5, 1.0, 2.0)


class Settlement:
    """Writes what came of attempts into one store, as one worker process."""

    def __init__(self, store: CheckpointStore, *, worker_id: Callable[[], str]) -> None:
        self._store = store
        self._worker_id = worker_id

    def commit(self, granted: Granted, plan: Plan, done: Done, context: StepContext, duration_s: float) -> Answer:
        """Write the checkpoint, with the step's own rows if it has any, and say what it released."""
        run, address = granted.run, granted.address
        fault("before_commit", address)
        commit = Commit(
            run_id=run.id,
            address=address,
            position=plan.positions.get(address, -1),
            attempt=granted.attempt,
            output=done.output,
            digest=done.digest,
            stable_digest=done.stable_digest,
            effects=done.effects,
            worker_id=self._worker_id(),
            started_at=granted.started_at,
            workflow_hash=_final_hash(granted, plan, done),
            splice=(done.sub.text, done.sub.digest, len(done.sub.steps)) if done.sub else None,
        )
        if context.has_session:
            answer = self._store.commit_with(context.session, commit)
        else:
            answer = patiently(self._store.clock, lambda: self._store.commit(commit))
        if isinstance(answer, Superseded):
            tell("step.superseded", granted, duration_s)
            return Idle(reason="superseded")
        fault("after_commit", address)
        tell("step.committed", granted, duration_s)
        if done.sub is not None:
            plan = self._store.effective_plan(run.id, run.plan_digest, answer.splices)
        return self._after_commit(run, plan, address, answer)

    def _after_commit(self, run: Run, plan: Plan, address: str, answer: Committed) -> Answer:
        if plan.is_handler(address):
            return self._finish_failing(run, plan, watched=answer.watched)
        if answer.status is RunStatus.RUNNING and answer.done.bit_count() == answer.size:
            return self._finish(run, plan, watched=answer.watched)
        if answer.status is RunStatus.SUCCEEDED:
            self._ended(run, answer.status, watched=answer.watched)
        if answer.status is not RunStatus.RUNNING:
            return Progress.of(run, plan, status=answer.status)
        if answer.splices != run.splices:
            plan = self._store.effective_plan(run.id, run.plan_digest, answer.splices)
        return Progress.of(run, plan, plan.released(answer.done, address))

    def _finish(self, run: Run, plan: Plan, *, watched: bool) -> Answer:
        """The last commit could not know that it was the last: siblings ended at once."""
        proof = workflow_hash(
            workflow=run.workflow,
            inputs_digest=run.inputs_digest,
            seed=run.seed,
            digests=self._store.stable_digests(run.id),
        )
        ended = self._store.finish(run.id, expected=RunStatus.RUNNING, status=RunStatus.SUCCEEDED, workflow_hash=proof)
        if ended:
            self._ended(run, RunStatus.SUCCEEDED, watched=watched)
        return Progress.of(run, plan, status=RunStatus.SUCCEEDED)

    def _finish_failing(self, run: Run, plan: Plan, *, watched: bool) -> Answer:
        handlers = run.error.handlers if run.error else ()
        if self._store.ended(run.id, handlers) and self._store.finish(
            run.id, expected=RunStatus.FAILING, status=RunStatus.FAILED
        ):
            self._ended(run, RunStatus.FAILED, watched=watched)
        return Progress.of(run, plan, status=RunStatus.FAILED)

    def complete(self, run: Run, plan: Plan) -> None:
        """End a run whose last commit is there but whose end is not: its worker died in between."""
        if run.status is RunStatus.RUNNING:
            self._finish(run, plan, watched=True)
        elif run.status is RunStatus.FAILING:
            self._finish_failing(run, plan, watched=True)

    def put_off(self, granted: Granted, state: AttemptState, delay_s: float, failure: Failure | None) -> Answer:
        """End an attempt that will be tried again in ``delay_s`` seconds."""
        due_at = patiently(
            self._store.clock,
            lambda: self._store.settle(
                run_id=granted.run.id,
                address=granted.address,
                attempt=granted.attempt,
                state=state,
                delay_s=delay_s,
                error=failure,
            ),
        )
        return Idle(reason=state.value, due_at=due_at, failure=failure) if due_at else Idle(reason="superseded")

    def fail(self, run: Run, address: str, attempt: int, failure: Failure, *, poisoned: bool = False) -> Answer:
        answer = patiently(
            self._store.clock,
            lambda: self._store.fail(
                run_id=run.id, address=address, attempt=attempt, failure=failure, poisoned=poisoned
            ),
        )
        plan = self._store.effective_plan(run.id, run.plan_digest, run.splices)
        if plan.is_handler(address):
            return self._finish_failing(run, plan, watched=True)
        if answer is None:
            return Idle(reason="superseded")
        if answer.status is RunStatus.FAILED:
            self._ended(run, answer.status, watched=answer.watched)
        return Progress.of(run, plan, failure.handlers, status=answer.status, failure=failure)

    def _ended(self, run: Run, status: RunStatus, *, watched: bool) -> None:
        announce("run.ended", run=run.id, workflow=run.workflow, status=status.value)
        if watched:
            self._store.tell_watchers(run.id)

    def give_back(self, granted: Granted, error: BaseException) -> bool:
        """The process is being stopped in the middle of a body: give the step back at once. False if that failed."""
        try:
            self._store.settle(
                run_id=granted.run.id,
                address=granted.address,
                attempt=granted.attempt,
                state=AttemptState.LOST,
                delay_s=0,
                error=failure_of(error, granted.address),
            )
        except Exception:  # a driver's own error too: with any other answer the step would stay claimed for ever
            log.exception("could not give step %s of run %s back", granted.address, granted.run.id)
            return False
        return True


def patiently(clock: Clock, write: Callable[[], T], *, patience_s: float = COMMIT_PATIENCE_S) -> T:
    """Call ``write`` until the database answers, for at most ``patience_s`` seconds.

    A finished body is worth waiting for; the fence makes every further try safe.
    """
    started_s, pauses = monotonic_s(), list(COMMIT_PAUSES_S)
    while True:
        try:
            return write()
        except StoreUnavailable:
            if monotonic_s() - started_s > patience_s:
                raise
            clock.sleep(pauses.pop(0) if len(pauses) > 1 else pauses[0])


def _final_hash(granted: Granted, plan: Plan, done: Done) -> str | None:
    """The workflow hash, if this commit makes the run complete."""
    if granted.digests is None or done.sub is not None or plan.is_handler(granted.address):
        return None
    run = granted.run
    return workflow_hash(
        workflow=run.workflow,
        inputs_digest=run.inputs_digest,
        seed=run.seed,
        digests={**granted.digests, granted.address: done.stable_digest},
    )


def tell(name: str, granted: Granted, duration_s: float, **details: Any) -> None:
    """Log and announce what happened to an attempt."""
    log.info(
        "%s %s attempt %d of run %s in %.3f s",
        name,
        granted.address,
        granted.attempt,
        granted.run.id,
        duration_s,
        extra={
            "run": granted.run.id,
            "address": granted.address,
            "attempt": granted.attempt,
            "duration_s": duration_s,
        },
    )
    announce(
        name,
        run=granted.run.id,
        workflow=granted.run.workflow,
        address=granted.address,
        attempt=granted.attempt,
        duration_s=duration_s,
        **details,
    )
