"""Frozen nouns of a run: what the store hands out and takes in. No I/O.

run        enqueued -> running -> succeeded | failing -> failed | cancelled
attempt    running -> committed | failed | retry | deferred | lost
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from aos_workflow.plan import plan_order

#: Version of what is stored about a run (plan, checkpoints); a mismatch is refused, never guessed at.
FORMAT = 1


class RunStatus(StrEnum):
    """Where a run stands."""

    ENQUEUED = "enqueued"  #: stored, no step started yet
    RUNNING = "running"  #: at least one step has been claimed
    FAILING = "failing"  #: a step failed for good; its error handlers run
    SUCCEEDED = "succeeded"  #: every step has its checkpoint
    FAILED = "failed"  #: a step failed for good and its handlers are done
    CANCELLED = "cancelled"  #: somebody cancelled it

    @property
    def is_live(self) -> bool:
        return self in LIVE

    @property
    def is_terminal(self) -> bool:
        return self not in LIVE


LIVE = frozenset({RunStatus.ENQUEUED, RunStatus.RUNNING, RunStatus.FAILING})


class AttemptState(StrEnum):
    """Where an attempt stands."""

    RUNNING = "running"  #: claimed by a worker process
    COMMITTED = "committed"  #: its checkpoint is there
    FAILED = "failed"  #: it raised for good
    RETRY = "retry"  #: it raised and is due again at ``due_at``
    DEFERRED = "deferred"  #: it was asked to start later, at ``due_at``
    LOST = "lost"  #: its worker process died or was taken over


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a step or run failed: the exception's type and message, its traceback, where."""

    code: str
    type: str
    message: str
    traceback: str = ""
    address: str = ""
    handlers: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "type": self.type,
            "message": self.message,
            "traceback": self.traceback,
            "address": self.address,
            "handlers": list(self.handlers),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Failure:
        return cls(**{**document, "handlers": tuple(document.get("handlers", ()))})


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRun:
    """A run to be stored. ``inputs`` is canonical text; ``logical_time`` is seconds since the epoch.

    ``workflow_hash`` is given for an empty plan, which has succeeded as soon as it is stored.
    ``golden``: once it has succeeded, its golden is to be recorded.
    """

    id: str
    workflow: str
    plan_digest: str
    plan_text: str
    size: int
    inputs: str
    inputs_digest: str
    seed: int
    logical_time: float
    idempotency_key: str | None = None
    inline: bool = False
    workflow_hash: str | None = None
    golden: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One execution of a plan, as stored. Times are seconds since the epoch, in database time."""

    id: str
    workflow: str
    status: RunStatus
    plan_digest: str
    inputs_digest: str
    seed: int
    logical_time: float
    idempotency_key: str | None
    epoch: int
    size: int
    done: int
    splices: int
    inline: bool
    created_at: float
    updated_at: float
    started_at: float | None
    finished_at: float | None
    workflow_hash: str | None
    error: Failure | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """The committed output of one step: canonical text, its digest, and who committed it."""

    run_id: str
    address: str
    position: int
    attempt: int
    output: str
    digest: str
    stable_digest: str
    effects: str | None
    worker_id: str
    started_at: float
    committed_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One worker's try at one step."""

    run_id: str
    address: str
    attempt: int
    state: AttemptState
    worker_id: str
    pid: int
    started_at: float
    finished_at: float | None
    due_at: float | None
    error: Failure | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerProcess:
    """One life of one process that performs steps. ``host`` names machine, boot and pid namespace."""

    id: str
    kind: str
    host: str
    pid: int
    parent_id: str | None = None


# --- what a claim may answer -------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Granted:
    """The step is yours. ``outputs`` holds the canonical text of each input address (and of ``$input``).

    ``digests`` is not None when every other step is committed: then it holds their
    stable digests, and committing this step can finish the run in the same transaction.
    """

    run: Run
    address: str
    attempt: int
    retries: int
    outputs: Mapping[str, str]
    started_at: float
    digests: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AlreadyCommitted:
    """The step has its checkpoint."""

    run: Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Busy:
    """A live worker process is on the step. ``host`` and ``pid`` say which."""

    worker_id: str
    host: str
    pid: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NotDue:
    """The step may start at ``due_at``, not before."""

    due_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Poisoned:
    """The step has killed its worker ``losses`` times, which is as often as it may."""

    run: Run
    attempt: int
    losses: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NotLive:
    """The run is unknown or has ended; ``status`` says how."""

    status: RunStatus | None


Claim: TypeAlias = Granted | AlreadyCommitted | Busy | NotDue | Poisoned | NotLive


# --- what a commit writes and answers ----------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """A step's result, to be written in one transaction.

    ``workflow_hash`` is given when this commit finishes the run. ``splice`` is the sub-plan
    (text, digest, size) that takes the step's place.
    """

    run_id: str
    address: str
    position: int
    attempt: int
    output: str
    digest: str
    stable_digest: str
    worker_id: str
    started_at: float
    effects: str | None = None
    workflow_hash: str | None = None
    splice: tuple[str, str, int] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """The checkpoint is there. ``done`` is the mask of committed steps as of this commit, in serial order."""

    status: RunStatus
    done: int
    size: int
    splices: int
    epoch: int
    watched: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Superseded:
    """A later attempt took the step over, or another one committed it; nothing was written."""


CommitAnswer: TypeAlias = Committed | Superseded


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """How a run ended: ``output`` is the value the plain canvas would have returned."""

    run_id: str
    workflow: str
    status: RunStatus
    output: Any = None
    workflow_hash: str | None = None
    error: Failure | None = None


def workflow_hash(*, workflow: str, inputs_digest: str, seed: int, digests: Mapping[str, str]) -> str:
    """The proof of a run: SHA-256 (64 hex) over workflow name, inputs, seed and every step's address and stable digest.

    The hashed text is the canonical JSON of ``{"workflow", "inputs", "seed", "steps": [[address, digest], ...]}``
    with steps in plan order. No run id, time, host, worker or attempt is in it.
    """
    steps = [[address, digests[address]] for address in sorted(digests, key=plan_order)]
    document = {"workflow": workflow, "inputs": inputs_digest, "seed": seed, "steps": steps}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
