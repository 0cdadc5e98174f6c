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
from dataclasses import replace
from typing import Any, Protocol

from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.clock import monotonic_s
from aos_workflow.context import StepContext
from aos_workflow.errors import AosError, RunNotFound, StepPoisoned, StoreUnavailable, VersionMismatch
from aos_workflow.faults import fault
from aos_workflow.ids import new_token
from aos_workflow.journal import EffectJournal
from aos_workflow.messages import Answer, Idle, Message, Progress
from aos_workflow.options import StepOptions
from aos_workflow.perform import Again, Body, Done, GaveUp, failure_of, perform
from aos_workflow.plan import Plan, Step
from aos_workflow.records import (
    AlreadyCommitted,
    AttemptState,
    Busy,
    Claim,
    Granted,
    NotDue,
    NotLive,
    Poisoned,
    Run,
)
from aos_workflow.settlement import Settlement, patiently, tell

log = logging.getLogger("aos_workflow.step")

#: For how long local steps may follow one message in place before the next goes through the broker, seconds.
LONGEST_STAY_S = 5.0
#: How long a message waits for a database that is away before it is left to the sweep, seconds.
CLAIM_PATIENCE_S = 5.0


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
        self.settlement = Settlement(store, worker_id=worker_id)
        self._worker_id = worker_id
        self._report_dead = report_dead
        self._start_new_life = start_new_life
        self._output_limit_bytes = output_limit_bytes
        self._volatile = volatile
        self.draining = False

    def execute(self, message: Message, tasks: Tasks) -> Answer:
        """Perform the step of ``message``, and in place the local steps that follow it."""
        answer = self._execute_one(message, tasks)
        leave_at_s = monotonic_s() + LONGEST_STAY_S
        while monotonic_s() < leave_at_s:
            if not isinstance(answer, Progress) or len(answer.released) != 1 or self.draining:
                break
            before, following = answer.plan.step(message.address), answer.plan.step(answer.released[0])
            if not tasks.runs_here(following, before):
                break
            message = replace(message, address=following.address)
            answer = self._execute_one(message, tasks)
        return answer

    def _execute_one(self, message: Message, tasks: Tasks) -> Answer:
        plan = patiently(self.store.clock, lambda: self._plan_of(message), patience_s=CLAIM_PATIENCE_S)
        step = plan.step(message.address)
        options = tasks.options(step.task)
        token = new_token()
        try:
            claim = patiently(
                self.store.clock,
                lambda: self._claim(message, step, plan, options, token),
                patience_s=CLAIM_PATIENCE_S,
            )
        except VersionMismatch:
            raise  # that was an answer
        except BaseException:
            # It may have been granted and only the answer was lost: then only a new identity frees the step.
            self._start_new_life()
            raise
        match claim:
            case Granted():
                fault("after_claim", message.address)
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
        plan = self.store.effective_plan(run.id, run.plan_digest, run.splices)
        if message.address not in plan:
            raise RunNotFound(
                f"run {run.id} has no step {message.address}",
                fix="the message is not of this run; it is dropped",
                address=message.address,
            )
        return plan

    def _claim(self, message: Message, step: Step, plan: Plan, options: StepOptions, token: str) -> Claim:
        inputs = plan.inputs_of(step)
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
        return Progress.of(run, plan, waiting) if waiting else Idle(reason="already committed")

    def _poisoned(self, claim: Poisoned, step: Step, message: Message) -> Answer:
        error = StepPoisoned(
            f"step {message.address} killed its worker {claim.losses} times",
            fix="look for memory exhaustion or a crash in native code, then: aos runs retry " + message.run_id,
            losses=claim.losses,
        )
        failure = failure_of(error, message.address, handlers=step.on_error)
        return self.settlement.fail(claim.run, message.address, claim.attempt, failure, poisoned=True)

    # --- perform ---------------------------------------------------------------------------

    def _perform(self, granted: Granted, message: Message, tasks: Tasks, options: StepOptions) -> Answer:
        run, step = granted.run, None
        try:
            plan = self.store.effective_plan(run.id, run.plan_digest, run.splices)
            if not plan.is_open(message.address, run.done):
                log.warning("message for %s of run %s came before its time", message.address, run.id)
                return self.settlement.put_off(granted, AttemptState.DEFERRED, 0.0, None)
            step = plan.step(message.address)
            delay_s = _first_delay_s(step, granted)
            if delay_s > 0:
                return self.settlement.put_off(granted, AttemptState.DEFERRED, delay_s, None)
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
                    return self.settlement.commit(granted, plan, outcome, context, duration_s)
                case Again(delay_s=delay_s, failure=failure):
                    tell("step.retry", granted, duration_s, delay_s=delay_s, error=failure.message)
                    _end_session(context)
                    return self.settlement.put_off(granted, AttemptState.RETRY, delay_s, failure)
                case GaveUp(failure=failure):
                    tell("step.failed", granted, duration_s, error=failure.message)
                    _end_session(context)
                    return self.settlement.fail(run, message.address, granted.attempt, failure)
        except StoreUnavailable:
            # The attempt stays "running" in a database we cannot reach: only a new identity frees it.
            self._start_new_life()
            raise
        except AosError as error:
            return self._fail(granted, error, handlers=step.on_error if step else ())
        except BaseException as error:
            if not self.settlement.give_back(granted, error):
                self._start_new_life()
            raise

    def _fail(self, granted: Granted, error: AosError, *, handlers: tuple[str, ...]) -> Answer:
        """The step cannot be performed or its result not be stored; if that cannot be written either, let it go."""
        failure = failure_of(error, granted.address, handlers=handlers)
        try:
            return self.settlement.fail(granted.run, granted.address, granted.attempt, failure)
        except BaseException:
            self._start_new_life()
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


def _first_delay_s(step: Step, granted: Granted) -> float:
    """How long a step with Celery's ``countdown`` or ``eta`` still has to wait, counted from its first claim."""
    if granted.attempt > 1:
        return 0.0
    eta = step.options.get("eta")
    return float(step.options.get("countdown") or 0) if eta is None else float(eta) - granted.started_at


def _end_session(context: StepContext) -> None:
    """Undo what the body wrote. A body that was left behind at its deadline may still be using the session."""
    if not context.has_session:
        return
    try:
        context.session.close()
    except Exception:
        log.warning("the session of step %s could not be closed", context.address, exc_info=True)
