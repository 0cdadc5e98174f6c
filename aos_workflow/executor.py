"""StepExecutor: claim, perform, commit, and say what is next.

    message -> claim -> perform -> commit -> what the commit released
                 |         |          |
               Idle   Again, GaveUp  Idle (somebody else was faster)

It knows no broker: it is handed a message and answers with ``Progress`` (these
addresses may be published now) or ``Idle`` (this message is spent, and why).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.clock import monotonic_s
from aos_workflow.context import EffectJournal, StepContext
from aos_workflow.errors import AosError, StepPoisoned, StoreError, StoreUnavailable
from aos_workflow.events import announce
from aos_workflow.ids import new_token
from aos_workflow.options import StepOptions
from aos_workflow.perform import Again, Body, Done, GaveUp, failure_of, perform
from aos_workflow.plan import Plan, Step
from aos_workflow.records import (
    AlreadyCommitted,
    AttemptState,
    Busy,
    Claim,
    Commit,
    Committed,
    Failure,
    Granted,
    NotDue,
    NotLive,
    Poisoned,
    Run,
    RunStatus,
    Superseded,
    workflow_hash,
)

log = logging.getLogger("aos_workflow.step")

#: How many local steps one message may be followed by in place before the next goes through the broker.
LONGEST_STAY = 500
#: How long a commit is tried again while the database is away, and the pauses between, seconds.
COMMIT_PATIENCE_S = 60.0
COMMIT_PAUSES_S = (0.1, 0.5, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What travels: which step of which run. Never a value. ``plan`` is the digest of the run's plan."""

    run_id: str
    address: str
    epoch: int
    plan: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A step is committed (or failed into its handlers); ``released`` may be published now."""

    run_id: str
    plan: Plan
    plan_digest: str
    epoch: int
    released: tuple[str, ...]
    status: RunStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Idle:
    """Nothing to publish. ``due_at`` is set when the step waits for its time."""

    reason: str
    due_at: float | None = None


Answer: TypeAlias = Progress | Idle


class Tasks(Protocol):
    """How the executor finds and calls the functions of steps."""

    app: Any

    def options(self, task_name: str) -> StepOptions: ...

    def body(self, step: Step, granted: Granted) -> Body: ...

    def runs_here(self, step: Step, before: Step) -> bool: ...


class StepExecutor:
    """Performs steps against one store, as one worker process."""

    def __init__(
        self,
        store: CheckpointStore,
        *,
        worker_id: Callable[[], str],
        report_dead: Callable[[Busy], bool],
        start_new_life: Callable[[], None],
        output_limit_bytes: int,
        volatile: tuple[str, ...] = (),
    ) -> None:
        self.store = store
        self._worker_id = worker_id
        self._report_dead = report_dead
        self._start_new_life = start_new_life
        self._output_limit_bytes = output_limit_bytes
        self._volatile = volatile
        self.draining = False

    def execute(self, message: Message, tasks: Tasks) -> Answer:
        """Perform the step of ``message``, and in place the local steps that follow it."""
        answer = self._execute_one(message, tasks)
        for _ in range(LONGEST_STAY):
            if not isinstance(answer, Progress) or len(answer.released) != 1 or self.draining:
                break
            before, following = answer.plan.step(message.address), answer.plan.step(answer.released[0])
            if not tasks.runs_here(following, before):
                break
            message = replace(message, address=following.address)
            answer = self._execute_one(message, tasks)
        return answer

    def _execute_one(self, message: Message, tasks: Tasks) -> Answer:
        plan = self._plan_of(message)
        step = plan.step(message.address)
        options = tasks.options(step.task)
        claim = self._claim(message, step, plan, options)
        match claim:
            case Granted():
                return self._perform(claim, message, tasks, options)
            case AlreadyCommitted(run=run):
                return self._pass_on(run, message)
            case Poisoned():
                return self._poisoned(claim, step, message)
            case Busy(worker_id=worker_id):
                return Idle(reason=f"worker process {worker_id or '?'} is on it")
            case NotDue(due_at=due_at):
                return Idle(reason="not due yet", due_at=due_at)
            case NotLive(status=status):
                return Idle(reason=f"the run is {status.value if status else 'unknown'}")

    # --- claim -----------------------------------------------------------------------------

    def _plan_of(self, message: Message) -> Plan:
        if not message.plan:
            message = replace(message, plan=self.store.run(message.run_id).plan_digest)
        plan = self.store.plan(message.plan)
        if message.address in plan:
            return plan
        run = self.store.run(message.run_id)
        return self.store.effective_plan(run.id, run.plan_digest, run.splices)

    def _claim(self, message: Message, step: Step, plan: Plan, options: StepOptions) -> Claim:
        token, inputs = new_token(), plan.inputs_of(step)
        for _ in range(3):
            claim = self.store.claim(
                run_id=message.run_id,
                address=message.address,
                inputs=inputs,
                wants_input=plan.wants_input(step),
                token=token,
                worker_id=self._worker_id(),
                pid=os.getpid(),
                most_losses=options.most_losses,
                is_handler=plan.is_handler(message.address),
            )
            if not (isinstance(claim, Busy) and self._report_dead(claim)):
                break
        return replace(claim, address=message.address) if isinstance(claim, Granted) else claim

    def _pass_on(self, run: Run, message: Message) -> Answer:
        """The step was committed but perhaps nobody was told: publish successors that nobody ever claimed."""
        plan = self.store.effective_plan(run.id, run.plan_digest, run.splices)
        if plan.is_handler(message.address):
            return Idle(reason="already committed")
        waiting = self.store.unclaimed(run.id, plan.released(run.done, message.address))
        return _progress(run, plan, waiting) if waiting else Idle(reason="already committed")

    def _poisoned(self, claim: Poisoned, step: Step, message: Message) -> Answer:
        error = StepPoisoned(
            f"step {message.address} killed its worker {claim.losses} times",
            fix="look for memory exhaustion or a crash in native code, then: aos runs retry " + message.run_id,
            losses=claim.losses,
        )
        failure = failure_of(error, message.address, handlers=step.on_error)
        return self._fail(claim.run, message, claim.attempt, failure, poisoned=True)

    # --- perform ---------------------------------------------------------------------------

    def _perform(self, granted: Granted, message: Message, tasks: Tasks, options: StepOptions) -> Answer:
        run = granted.run
        try:
            plan = self.store.effective_plan(run.id, run.plan_digest, run.splices)
            step = plan.step(message.address)
            delay_s = _first_delay_s(step, granted)
            if delay_s > 0:
                return self._settle(granted, AttemptState.DEFERRED, delay_s, None)
            granted = self._with_inputs(granted, plan, step)
            context = self._context(granted)
            began_s = monotonic_s()
            outcome = perform(
                step,
                plan=plan,
                granted=granted,
                options=options,
                body=tasks.body(step, granted),
                context=context,
                limit_bytes=self._output_limit_bytes,
                volatile=self._volatile,
                app=tasks.app,
            )
            duration_s = monotonic_s() - began_s
            match outcome:
                case Done():
                    return self._commit(granted, plan, outcome, context, duration_s)
                case Again(delay_s=delay_s, failure=failure):
                    _tell("step.retry", granted, duration_s, delay_s=delay_s, error=failure.message)
                    _end_session(context)
                    return self._settle(granted, AttemptState.RETRY, delay_s, failure)
                case GaveUp(failure=failure):
                    _tell("step.failed", granted, duration_s, error=failure.message)
                    _end_session(context)
                    return self._fail(run, message, granted.attempt, failure)
        except StoreUnavailable:
            # The attempt stays "running" in a database we cannot reach: only a new identity frees it.
            self._start_new_life()
            raise
        except AosError as error:
            return self._fail(run, message, granted.attempt, failure_of(error, message.address))
        except BaseException as error:
            self._let_go(granted, error)
            raise

    def _with_inputs(self, granted: Granted, plan: Plan, step: Step) -> Granted:
        """A step whose inputs were replaced by sub-plans after its message was made lacks their outputs."""
        missing = [address for address in plan.inputs_of(step) if address not in granted.outputs]
        if not missing:
            return granted
        return replace(granted, outputs={**granted.outputs, **self.store.outputs(granted.run.id, missing)})

    def _context(self, granted: Granted) -> StepContext:
        run = granted.run
        return StepContext(
            run_id=run.id,
            workflow=run.workflow,
            address=granted.address,
            attempt=granted.attempt,
            seed=run.seed,
            logical_time=run.logical_time,
            journal=EffectJournal(),
            open_session=self.store.open_session,
        )

    # --- record ----------------------------------------------------------------------------

    def _commit(self, granted: Granted, plan: Plan, done: Done, context: StepContext, duration_s: float) -> Answer:
        run, address = granted.run, granted.address
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
            answer = self.store.commit_with(context.session, commit)
        else:
            answer = self._patiently(lambda: self.store.commit(commit))
        if isinstance(answer, Superseded):
            _tell("step.superseded", granted, duration_s)
            return Idle(reason="superseded")
        _tell("step.committed", granted, duration_s)
        if done.sub is not None:
            plan = self.store.effective_plan(run.id, run.plan_digest, answer.splices)
        return self._after_commit(run, plan, address, answer)

    def _after_commit(self, run: Run, plan: Plan, address: str, answer: Committed) -> Answer:
        if plan.is_handler(address):
            return self._after_handler(run, plan, watched=answer.watched)
        if answer.status is RunStatus.RUNNING and answer.done.bit_count() == answer.size:
            return self._finish(run, plan, watched=answer.watched)
        if answer.status is RunStatus.SUCCEEDED:
            self._ended(run, answer.status, watched=answer.watched)
        if answer.status is not RunStatus.RUNNING:
            return _progress(run, plan, (), status=answer.status)
        if answer.splices != run.splices:
            plan = self.store.effective_plan(run.id, run.plan_digest, answer.splices)
        return _progress(run, plan, plan.released(answer.done, address))

    def _finish(self, run: Run, plan: Plan, *, watched: bool) -> Answer:
        """The last commit could not know that it was the last: siblings ended at once."""
        proof = workflow_hash(
            workflow=run.workflow,
            inputs_digest=run.inputs_digest,
            seed=run.seed,
            digests=self.store.stable_digests(run.id),
        )
        ended = self.store.finish(
            run.id, expected=RunStatus.RUNNING, status=RunStatus.SUCCEEDED, workflow_hash=proof
        )
        if ended:
            self._ended(run, RunStatus.SUCCEEDED, watched=watched)
        return _progress(run, plan, (), status=RunStatus.SUCCEEDED)

    def _after_handler(self, run: Run, plan: Plan, *, watched: bool) -> Answer:
        handlers = run.error.handlers if run.error else ()
        if self.store.ended(run.id, handlers) and self.store.finish(
            run.id, expected=RunStatus.FAILING, status=RunStatus.FAILED
        ):
            self._ended(run, RunStatus.FAILED, watched=watched)
        return _progress(run, plan, (), status=RunStatus.FAILED)

    def _settle(self, granted: Granted, state: AttemptState, delay_s: float, failure: Failure | None) -> Answer:
        due_at = self._patiently(
            lambda: self.store.settle(
                run_id=granted.run.id,
                address=granted.address,
                attempt=granted.attempt,
                state=state,
                delay_s=delay_s,
                error=failure,
            )
        )
        return Idle(reason=state.value if due_at else "superseded", due_at=due_at)

    def _fail(
        self, run: Run, message: Message, attempt: int, failure: Failure, *, poisoned: bool = False
    ) -> Answer:
        answer = self._patiently(
            lambda: self.store.fail(
                run_id=run.id, address=message.address, attempt=attempt, failure=failure, poisoned=poisoned
            )
        )
        plan = self.store.effective_plan(run.id, run.plan_digest, run.splices)
        if plan.is_handler(message.address):
            return self._after_handler(run, plan, watched=True)
        if answer is None:
            return Idle(reason="superseded")
        if answer.status is RunStatus.FAILED:
            self._ended(run, answer.status, watched=answer.watched)
        return _progress(run, plan, failure.handlers, status=answer.status)

    def _ended(self, run: Run, status: RunStatus, *, watched: bool) -> None:
        announce("run.ended", run=run.id, workflow=run.workflow, status=status.value)
        if watched:
            self.store.tell_watchers(run.id)

    def _let_go(self, granted: Granted, error: BaseException) -> None:
        """The process is being stopped in the middle of a body: give the step back at once."""
        try:
            self.store.settle(
                run_id=granted.run.id,
                address=granted.address,
                attempt=granted.attempt,
                state=AttemptState.LOST,
                delay_s=0,
                error=failure_of(error, granted.address),
            )
        except StoreError:
            log.exception("could not give step %s of run %s back", granted.address, granted.run.id)

    def _patiently(self, write: Callable[[], Any]) -> Any:
        """A finished body is worth waiting for the database; the fence makes every further try safe."""
        started_s, pauses = monotonic_s(), list(COMMIT_PAUSES_S)
        while True:
            try:
                return write()
            except StoreUnavailable:
                if monotonic_s() - started_s > COMMIT_PATIENCE_S:
                    raise
                self.store.clock.sleep(pauses.pop(0) if len(pauses) > 1 else pauses[0])


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


def _progress(run: Run, plan: Plan, released: tuple[str, ...], *, status: RunStatus = RunStatus.RUNNING) -> Progress:
    return Progress(
        run_id=run.id, plan=plan, plan_digest=run.plan_digest, epoch=run.epoch, released=released, status=status
    )


def _first_delay_s(step: Step, granted: Granted) -> float:
    """How long a step with Celery's ``countdown`` or ``eta`` still has to wait, counted from its first claim."""
    if granted.attempt > 1:
        return 0.0
    eta = step.options.get("eta")
    return float(step.options.get("countdown") or 0) if eta is None else float(eta) - granted.started_at


def _end_session(context: StepContext) -> None:
    if context.has_session:
        context.session.rollback()
        context.session.close()


def _tell(name: str, granted: Granted, duration_s: float, **details: Any) -> None:
    log.info(
        "%s %s attempt %d of run %s in %.3f s",
        name,
        granted.address,
        granted.attempt,
        granted.run.id,
        duration_s,
        extra={"run": granted.run.id, "address": granted.address, "attempt": granted.attempt, "duration_s": duration_s},
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
