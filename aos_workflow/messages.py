"""What goes into the StepExecutor and what comes out of it. Frozen nouns, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from aos_workflow.plan import Plan
from aos_workflow.records import Failure, Run, RunStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What travels: which step of which run. Never a value. ``plan`` is the digest of the run's plan."""

    run_id: str
    address: str
    epoch: int
    plan: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A run moved on (or is new): ``released`` may be published now. ``failure``: the step failed for good."""

    run_id: str
    plan: Plan
    plan_digest: str
    epoch: int
    released: tuple[str, ...]
    status: RunStatus = RunStatus.RUNNING
    failure: Failure | None = None

    @classmethod
    def of(
        cls,
        run: Run,
        plan: Plan,
        released: tuple[str, ...] = (),
        *,
        status: RunStatus = RunStatus.RUNNING,
        failure: Failure | None = None,
    ) -> Progress:
        return cls(
            run_id=run.id,
            plan=plan,
            plan_digest=run.plan_digest,
            epoch=run.epoch,
            released=released,
            status=status,
            failure=failure,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Idle:
    """The message is spent and there is nothing to publish.

    ``due_at`` is set when the step waits for its time, ``failure`` when that is because it failed.
    """

    reason: str
    due_at: float | None = None
    failure: Failure | None = None


Answer: TypeAlias = Progress | Idle
