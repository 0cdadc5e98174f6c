"""Between the rows of the database and the nouns of ``records``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aos_workflow.errors import VersionMismatch
from aos_workflow.plan import INPUT
from aos_workflow.records import (
    FORMAT,
    AlreadyCommitted,
    Attempt,
    AttemptState,
    Busy,
    Claim,
    Committed,
    Failure,
    Granted,
    NewRun,
    NotDue,
    NotLive,
    Poisoned,
    Run,
    RunStatus,
)

#: How long after its last news the sweep first looks at a run, seconds.
GRACE_S = 3.0


def new_run_row(run: NewRun, now: float) -> dict[str, Any]:
    """The row of ``runs`` for a run that is stored at ``now``."""
    return {
        "id": run.id,
        "workflow": run.workflow,
        "status": "enqueued" if run.size else "succeeded",
        "finished_at": None if run.size else now,
        "workflow_hash": run.workflow_hash,
        "plan_digest": run.plan_digest,
        "inputs": run.inputs,
        "inputs_digest": run.inputs_digest,
        "seed": run.seed,
        "logical_time": run.logical_time,
        "idempotency_key": run.idempotency_key,
        "size": run.size,
        "done": bytes((run.size + 7) // 8),
        "inline": run.inline,
        "watched": False,
        "wake_at": now + GRACE_S,
        "created_at": now,
        "updated_at": now,
        "format": FORMAT,
        "golden": "wanted" if run.golden else None,
    }


def claim_from_row(row: Mapping[Any, Any]) -> Claim:
    """What a claim's row says; raises VersionMismatch for a run this code cannot read."""
    match row["word"]:
        case "granted" | "mine" if row["attempt"] or row["word"] == "mine":
            outputs = _mapping(row["outputs"])
            if row["run_inputs"] is not None:
                outputs[INPUT] = row["run_inputs"]
            return Granted(
                run=run_from_row(row),
                address="",
                attempt=row["attempt"] or row["latest"],
                retries=row["retries"],
                outputs=outputs,
                started_at=row["now"],
                digests=_mapping(row["digests"]) if row["digests"] is not None else None,
            )
        case "unreadable":
            raise VersionMismatch(
                f"run {row['id']} is stored in format {row['format']}, this code reads {FORMAT}",
                fix="let a worker of the version that wrote it finish the run",
                stored=row["format"],
                readable=FORMAT,
            )
        case "committed":
            return AlreadyCommitted(run=run_from_row(row))
        case "not_due":
            return NotDue(due_at=row["due_at"])
        case "poisoned":
            return Poisoned(run=run_from_row(row), attempt=row["latest"], losses=row["losses"])
        case "not_live":
            return NotLive(status=RunStatus(row["status"]) if row["status"] else None)
        case _:  # busy, or granted to somebody who was faster
            return Busy(worker_id=row["holder_id"] or "", host=row["holder_host"] or "", pid=row["holder_pid"] or 0)


def _mapping(value: Any) -> dict[str, str]:
    return dict(value) if isinstance(value, Mapping) else json.loads(value) if value else {}


def committed_from_row(row: Mapping[Any, Any]) -> Committed:
    """Where the run stands after a commit."""
    return Committed(
        status=RunStatus(row["status"]),
        done=int.from_bytes(bytes(row["done"]), "little"),
        size=row["size"],
        splices=row["splices"],
        epoch=row["epoch"],
        watched=bool(row["watched"]),
    )


def failure_text(failure: Failure | None) -> str | None:
    """A failure as it is stored."""
    return json.dumps(failure.as_json(), sort_keys=True) if failure else None


def run_from_row(row: Mapping[Any, Any]) -> Run:
    """One row of ``runs``, or of a join that has its columns."""
    return Run(
        id=row["id"],
        workflow=row["workflow"],
        status=RunStatus(row["status"]),
        plan_digest=row["plan_digest"],
        inputs_digest=row["inputs_digest"],
        seed=row["seed"],
        logical_time=row["logical_time"],
        idempotency_key=row["idempotency_key"],
        epoch=row["epoch"],
        size=row["size"],
        done=int.from_bytes(bytes(row["done"]), "little"),
        splices=row["splices"],
        inline=bool(row["inline"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        workflow_hash=row["workflow_hash"],
        error=failure_from_text(row["error"]),
    )


def failure_from_text(text: str | None) -> Failure | None:
    """A stored failure."""
    return Failure.from_json(json.loads(text)) if text else None


def attempt_from_row(row: Mapping[Any, Any]) -> Attempt:
    """One row of ``attempts``, without its token."""
    return Attempt(**{**row, "state": AttemptState(row["state"]), "error": failure_from_text(row["error"])})
