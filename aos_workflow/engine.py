"""WorkflowEngine: enqueue, run in this process, wait, cancel, resume, sweep.

``WorkflowEngine()`` takes its configuration from the environment. What it enqueues is
performed by workers; what it ``run``s is performed here and now, by the same executor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from sqlalchemy.orm import Session

from aos_workflow import handover, recovery, registry, watching, wiring
from aos_workflow.canonical import decode, digest, encode
from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.errors import AosError, BadOption, PayloadTooLarge, RunCancelled, RunFailed, RunNotFinished
from aos_workflow.faults import fault
from aos_workflow.golden_tasks import RECORD
from aos_workflow.ids import new_run_id, new_seed
from aos_workflow.inline import InlineTransport
from aos_workflow.messages import Progress
from aos_workflow.plan import INPUT, Plan, fed, references
from aos_workflow.records import NewRun, Run, RunResult, RunStatus, workflow_hash
from aos_workflow.registry import Workflow

log = logging.getLogger("aos_workflow")

#: A run's seed is kept in a signed 64-bit column, an idempotency key in an index.
SEEDS = range(-(2**63), 2**63)
LONGEST_KEY = 500


@dataclass(frozen=True, slots=True)
class RunHandle:
    """A run that was enqueued, for whoever wants to know how it goes."""

    id: str
    _engine: WorkflowEngine

    @property
    def status(self) -> RunStatus:
        """How the run stands now."""
        return self._engine.store.status(self.id)

    def wait(self, *, timeout_s: float | None = None) -> RunResult:
        """Block until the run ends and return how; a failed run is a result, not an exception.

        Raises WaitTimeout when it is still going after ``timeout_s`` seconds.
        """
        watching.wait_for_end(self._engine.store, self.id, timeout_s=timeout_s)
        return self.result()

    def result(self) -> RunResult:
        """How the run ended. Raises RunNotFinished while it has not."""
        return self._engine.result(self.id)

    def output(self) -> Any:
        """The run's output. Raises RunFailed, RunCancelled or RunNotFinished when there is none."""
        return output_of(self.result())

    def cancel(self) -> RunStatus:
        """Start no further step of the run; what is being performed ends and keeps its checkpoint."""
        return self._engine.cancel(self.id).status

    def resume(self) -> RunStatus:
        """Let a failed or cancelled run go on from its last checkpoints."""
        return self._engine.resume(self.id).status

    retry = resume


def output_of(result: RunResult) -> Any:
    """The output of a run that succeeded; raises RunFailed or RunCancelled for one that did not."""
    if result.status is RunStatus.SUCCEEDED:
        return result.output
    if result.status is RunStatus.CANCELLED:
        raise RunCancelled(f"run {result.run_id} was cancelled", fix="resume it to go on", run_id=result.run_id)
    error = result.error
    where = f" at {error.address}: {error.type}: {error.message}" if error else ""
    raise RunFailed(
        f"run {result.run_id} failed{where}",
        fix=f"see: aos runs show {result.run_id}",
        run_id=result.run_id,
        error=error.as_json() if error else None,
    )


class WorkflowEngine:
    """Orchestrates workflow execution over the parts of this process (``assembly.Runtime``)."""

    def __init__(self, parts: Any = None) -> None:
        self._parts = parts if parts is not None else wiring.runtime()
        self.store: CheckpointStore = self._parts.store
        self._goldens_after = ""

    # --- start -----------------------------------------------------------------------------

    def enqueue(
        self,
        flow: Workflow | str,
        inputs: Any = None,
        *,
        seed: int | None = None,
        idempotency_key: str | None = None,
        session: Any = None,
    ) -> RunHandle:
        """Store a run and publish its first steps; see ``Workflow.enqueue``."""
        self._parts.require_shared_store()
        flow = self._find(flow)
        new, plan, app = self._new_run(flow, inputs, seed=seed, key=idempotency_key)
        return self._store_and_publish([new], [plan], app, session)[0]

    def enqueue_many(
        self,
        flow: Workflow | str,
        inputs: Sequence[Any],
        *,
        seeds: Sequence[int] | None = None,
        session: Any = None,
    ) -> list[RunHandle]:
        """Store many runs of one workflow in one transaction and publish them together."""
        self._parts.require_shared_store()
        flow = self._find(flow)
        given = list(seeds) if seeds is not None else [None] * len(inputs)
        if len(given) != len(inputs):
            raise BadOption(f"{len(inputs)} inputs came with {len(given)} seeds", fix="give one seed per input")
        prepared = [self._new_run(flow, one, seed=seed) for one, seed in zip(inputs, given, strict=True)]
        if not prepared:
            return []
        news, plans = [new for new, _, _ in prepared], [plan for _, plan, _ in prepared]
        return self._store_and_publish(news, plans, prepared[0][2], session)

    async def run(self, workflow_type: Workflow | str, *, seed: int | None = None, inputs: Any = None) -> RunResult:
        """Perform a run in this process, step by step, and return how it ended.

        Needs no broker and no worker, and no database either: without one it uses a private file.
        Raises UnknownWorkflow, which lists the workflows there are.
        """
        return await asyncio.to_thread(self.run_here, workflow_type, inputs, seed=seed)

    def run_here(self, workflow_type: Workflow | str, inputs: Any = None, *, seed: int | None = None) -> RunResult:
        """As ``run``, for callers without an event loop."""
        flow = self._find(workflow_type)
        new, plan, app = self._new_run(flow, inputs, seed=seed, inline=True)
        self.store.add([new])
        InlineTransport(self._parts.executor, self.store, app).perform(new, plan)
        result = self.result(new.id)
        if new.golden and self._parts.settings.signs_goldens and result.status is RunStatus.SUCCEEDED:
            self._leave_golden(new.id)
        return result

    def _leave_golden(self, run_id: str) -> None:
        """A run has ended well: that its golden cannot be written must not make it fail."""
        try:
            self._parts.recorder.record(run_id)
        except AosError as error:
            log.warning("no golden of run %s: %s", run_id, error)

    # --- act -------------------------------------------------------------------------------

    def handle(self, run_id: str) -> RunHandle:
        """A handle for a run that is known by its id."""
        return RunHandle(run_id, self)

    def cancel(self, run_id: str) -> Run:
        """Cancel a live run at its next step boundary; a run that has ended stays as it is."""
        run: Run = self.store.cancel(run_id)
        self.store.tell_watchers(run_id)
        return run

    def resume(self, run_id: str) -> Run:
        """Let a failed or cancelled run go on from its last checkpoints; a live one is left alone."""
        before = self.store.run(run_id)
        if before.status.is_live or before.status is RunStatus.SUCCEEDED:
            return before
        run: Run = self.store.revive(run_id)
        plan = self.store.effective_plan(run.id, run.plan_digest, run.splices)
        self._parts.dispatch(self._parts.app()).publish(Progress.of(run, plan, plan.ready(run.done)))
        return run

    def nudge(self, run_id: str) -> None:
        """Publish what a live run may do now, for a run whose enqueuer could not reach this process's broker.

        Harmless at any time: the claim lets one worker in.
        """
        run: Run = self.store.run(run_id)
        if run.status.is_live:
            plan = self.store.effective_plan(run.id, run.plan_digest, run.splices)
            released = recovery.open_addresses(run, plan)
            self._parts.dispatch(self._parts.app()).publish(Progress.of(run, plan, released))

    def publish_goldens(self, *, limit: int = 100) -> int:
        """Ask the workers for goldens that are wanted and not there; returns how many were asked for.

        Only while no message waits: then those that asked before are lost or served. Each call goes on where the
        last one ended, so that a golden that cannot be written does not stand in the way of others; what ended
        before the time of retention is not looked at any more.
        """
        dispatch = self._parts.dispatch(self._parts.app())
        if not dispatch.broker_is_empty():
            return 0
        within_s = self._parts.settings.golden_retention_days * 86_400
        wanted = self.store.golden_wanted(limit, after=self._goldens_after, within_s=within_s)
        self._goldens_after = wanted[-1] if len(wanted) == limit else ""
        return sum(1 for _ in takewhile(lambda run_id: dispatch.send(RECORD, run_id), wanted))

    def sweep(self, app: Any = None) -> int:
        """Publish what crashes left behind and what is due; returns how many steps were published."""
        dispatch = self._parts.dispatch(app or self._parts.app())

        def act(wake: recovery.Wake) -> None:
            if wake.is_complete or wake.run.status is RunStatus.FAILING:
                self._parts.executor.settlement.complete(wake.run, wake.plan)
            released = replace(Progress.of(wake.run, wake.plan, wake.addresses), epoch=wake.run.epoch + 1)
            dispatch.publish(released)

        return recovery.sweep(self.store, act, broker_is_empty=dispatch.broker_is_empty)

    # --- look ------------------------------------------------------------------------------

    def result(self, run_id: str) -> RunResult:
        """How a run ended, with its output. Raises RunNotFinished while it has not."""
        run: Run = self.store.run(run_id)
        if run.status.is_live:
            raise RunNotFinished(f"run {run_id} is {run.status.value}", fix="wait for it", run_id=run_id)
        output = self._output(run) if run.status is RunStatus.SUCCEEDED else None
        return RunResult(
            run_id=run.id,
            workflow=run.workflow,
            status=run.status,
            output=output,
            workflow_hash=run.workflow_hash,
            error=run.error,
        )

    def _output(self, run: Run) -> Any:
        plan = self.store.effective_plan(run.id, run.plan_digest, run.splices)
        feed = plan.value_feed(plan.outgoing)
        if feed is None:
            return None
        wanted = list(dict.fromkeys(references(feed)))
        texts = self.store.outputs(run.id, [*wanted, INPUT])
        return fed(feed, {address: decode(text) for address, text in texts.items()})

    # --- the parts of enqueue --------------------------------------------------------------

    def _find(self, flow: Workflow | str) -> Workflow:
        if isinstance(flow, Workflow):
            return flow
        if flow not in registry.registered():
            self._parts.load_app()
        return registry.find(flow)

    def _new_run(
        self, flow: Workflow, inputs: Any, *, seed: int | None, key: str | None = None, inline: bool = False
    ) -> tuple[NewRun, Plan, Any]:
        settings = self._parts.settings
        text = encode(inputs, limit_bytes=settings.input_limit_bytes, what=f"the inputs of {flow.name!r}")
        plan, app = flow.compile(inputs)
        if len(plan.text) > settings.plan_limit_bytes:
            raise PayloadTooLarge(
                f"the plan of {flow.name!r} has {len(plan.text)} bytes, the limit is {settings.plan_limit_bytes}",
                fix="pass large values by reference, or raise AOS_PLAN_LIMIT_BYTES",
                size_bytes=len(plan.text),
                limit_bytes=settings.plan_limit_bytes,
            )
        if seed is None:
            seed = new_seed() if key is None else int(digest(f"{flow.name}:{key}")[:15], 16)
        _check_request(seed, key)
        inputs_digest, run_id = digest(text), new_run_id()
        new = NewRun(
            id=run_id,
            workflow=flow.name,
            plan_digest=plan.digest,
            plan_text=plan.text,
            size=len(plan.steps),
            inputs=text,
            inputs_digest=inputs_digest,
            seed=seed,
            logical_time=self.store.clock.now(),
            idempotency_key=key,
            inline=inline,
            golden=plan.terms.leaves_golden(run_id, settings.golden),  # also where only the workers have the key
            workflow_hash=None
            if plan.steps
            else workflow_hash(workflow=flow.name, inputs_digest=inputs_digest, seed=seed, digests={}),
        )
        return new, plan, app

    def _store_and_publish(self, news: list[NewRun], plans: list[Plan], app: Any, session: Any) -> list[RunHandle]:
        session = handover.opened(session)
        connection = session.connection() if isinstance(session, Session) else session
        ids = self.store.add(news, connection=connection)
        fresh = [
            Progress(run_id=id, plan=plan, plan_digest=new.plan_digest, epoch=1, released=plan.ready(0))
            for new, plan, id in zip(news, plans, ids, strict=True)
            if id == new.id
        ]

        def publish() -> None:
            fault("after_enqueue")
            self._parts.dispatch(app).publish_all(fresh)

        if isinstance(session, Session):
            handover.after_commit(session, publish)
        elif session is None:
            publish()
        return [RunHandle(id, self) for id in ids]


def _check_request(seed: Any, key: Any) -> None:
    """Raises BadOption for a seed or an idempotency key that the database could not keep."""
    if type(seed) is not int or seed not in SEEDS:
        raise BadOption(
            f"seed={seed!r:.50} is not valid", fix=f"give a whole number, {SEEDS[0]} to {SEEDS[-1]}", option="seed"
        )
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= LONGEST_KEY and "\0" not in key):
        raise BadOption(
            f"idempotency_key={key!r:.50} is not valid",
            fix=f"give 1 to {LONGEST_KEY} characters, none of them NUL",
            option="idempotency_key",
        )
