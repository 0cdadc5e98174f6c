"""The hot path on SQLite: the same verbs as ``statements_postgres``, a few statements each.

SQLite has one writer. Every verb runs inside ``BEGIN IMMEDIATE``, so what it reads
cannot change before it writes, and nothing needs a row lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, func, insert, select, update

from aos_workflow.schema import attempts, checkpoints, plans, runs, splices, workers

Row = Mapping[Any, Any]


def claim(connection: Connection, values: Mapping[str, Any]) -> Row:
    """The verdict on one claim, with all the claimant needs."""
    now = values["now"]
    run_id, address = values["run_id"], values["address"]
    run = connection.execute(select(runs).where(runs.c.id == run_id)).mappings().one_or_none()
    tried = connection.execute(
        select(attempts, workers.c.host, workers.c.heartbeat_at, workers.c.stopped_at)
        .join(workers, workers.c.id == attempts.c.worker_id, isouter=True)
        .where(attempts.c.run_id == run_id, attempts.c.address == address)
        .order_by(attempts.c.attempt)
    ).mappings().all()  # fmt: skip
    holder = tried[-1] if tried else None
    losses = sum(row["state"] == "lost" for row in tried) + (holder is not None and holder["state"] == "running")
    word = _verdict(connection, values, run, holder, losses)
    granted = None
    if word in ("granted", "poisoned") and holder is not None and holder["state"] == "running":
        connection.execute(
            update(attempts)
            .where(_is_attempt(run_id, address, holder["attempt"]))
            .values(state="lost", finished_at=now)
        )
    if word == "granted":
        granted = (holder["attempt"] if holder else 0) + 1
        connection.execute(
            insert(attempts).values(
                run_id=run_id, address=address, attempt=granted, state="running", token=values["token"],
                worker_id=values["worker_id"], pid=values["pid"], started_at=now,
            )
        )  # fmt: skip
        connection.execute(
            update(runs)
            .where(runs.c.id == run_id, runs.c.status == "enqueued")
            .values(status="running", started_at=now, updated_at=now)
        )
    answer: dict[str, Any] = {
        **(run or {"status": None}),
        "word": word,
        "now": now,
        "latest": holder["attempt"] if holder else None,
        "losses": losses,
        "retries": sum(row["state"] == "retry" for row in tried),
        "attempt": granted,
        "holder_id": holder["worker_id"] if holder else None,
        "holder_host": holder["host"] if holder else None,
        "holder_pid": holder["pid"] if holder else None,
        "due_at": holder["due_at"] if holder else None,
        "outputs": None,
        "run_inputs": None,
        "digests": None,
    }
    if run is not None and word in ("granted", "mine"):
        answer |= _inputs(connection, values, run)
    return answer


def _verdict(
    connection: Connection, values: Mapping[str, Any], run: Row | None, holder: Row | None, losses: int
) -> str:
    now = values["now"]
    if run is None or run["status"] not in values["live"]:
        return "not_live"
    if run["format"] != values["format"]:
        return "unreadable"
    if connection.execute(
        select(checkpoints.c.attempt).where(
            checkpoints.c.run_id == values["run_id"], checkpoints.c.address == values["address"]
        )
    ).first():
        return "committed"
    if holder is not None and holder["state"] == "running":
        if holder["token"] == values["token"]:
            return "mine"
        if holder["stopped_at"] is None and (holder["heartbeat_at"] or 0) > now - values["ttl_s"]:
            return "busy"
    if holder is not None and holder["state"] in ("retry", "deferred") and holder["due_at"] > now:
        return "not_due"
    return "poisoned" if losses >= values["most_losses"] else "granted"


def _inputs(connection: Connection, values: Mapping[str, Any], run: Row) -> dict[str, Any]:
    mine = checkpoints.c.run_id == values["run_id"]
    outputs = connection.execute(
        select(checkpoints.c.address, checkpoints.c.output).where(mine, checkpoints.c.address.in_(values["inputs"]))
    )
    answer: dict[str, Any] = {"outputs": dict(iter(outputs))}
    if values["wants_input"]:
        answer["run_inputs"] = run["inputs"]
    if int.from_bytes(run["done"], "little").bit_count() == run["size"] - 1:
        digests = connection.execute(
            select(checkpoints.c.address, checkpoints.c.stable_digest).where(mine, checkpoints.c.position >= 0)
        )
        answer["digests"] = dict(iter(digests))
    return answer


def commit(connection: Connection, values: Mapping[str, Any]) -> Row | None:
    """The run's row after the commit, or None if the attempt no longer holds the step."""
    now, run_id, address = values["now"], values["run_id"], values["address"]
    if not _end_attempt(connection, values, state="committed"):
        return None
    if connection.execute(
        select(checkpoints.c.attempt).where(checkpoints.c.run_id == run_id, checkpoints.c.address == address)
    ).first():
        return None
    names = (
        "run_id", "address", "position", "attempt", "output", "digest", "stable_digest", "effects", "worker_id",
        "started_at",
    )  # fmt: skip
    connection.execute(insert(checkpoints).values({name: values[name] for name in names} | {"committed_at": now}))
    run = connection.execute(select(runs).where(runs.c.id == run_id)).mappings().one()
    size = run["size"] + values["sub_size"]
    done = int.from_bytes(run["done"], "little")
    if values["position"] >= 0:
        done |= 1 << values["position"]
    changes: dict[str, Any] = {
        "done": done.to_bytes((size + 7) // 8, "little"),
        "size": size,
        "nudges": 0,
        "updated_at": now,
    }
    if values["workflow_hash"] is not None and run["status"] == "running":
        changes |= {"status": "succeeded", "finished_at": now, "workflow_hash": values["workflow_hash"]}
    if values["sub_digest"] is not None:
        changes["splices"] = run["splices"] + 1
        if not connection.execute(select(plans.c.digest).where(plans.c.digest == values["sub_digest"])).first():
            connection.execute(insert(plans).values(digest=values["sub_digest"], body=values["sub_text"]))
        connection.execute(
            insert(splices).values(
                run_id=run_id, address=address, ordinal=changes["splices"], plan_digest=values["sub_digest"]
            )
        )
    connection.execute(update(runs).where(runs.c.id == run_id).values(**changes))
    return {**run, **changes}


def settle(connection: Connection, values: Mapping[str, Any]) -> Row | None:
    """When the step is due again, or None if the attempt no longer holds it."""
    due_at = values["now"] + values["delay_s"]
    if not _end_attempt(connection, values, state=values["state"], due_at=due_at, error=values["error"]):
        return None
    connection.execute(
        update(runs)
        .where(runs.c.id == values["run_id"])
        .values(wake_at=func.min(runs.c.wake_at, due_at), nudges=0, updated_at=values["now"])
    )
    return {"due_at": due_at}


def fail(connection: Connection, values: Mapping[str, Any]) -> Row | None:
    """The run's row if this failure decided it, else None."""
    now = values["now"]
    held = ("running", "lost", "retry", "deferred") if values["poisoned"] else ("running",)
    if not _end_attempt(connection, values, held=held, state="failed", error=values["error"]):
        return None
    changed = connection.execute(
        update(runs)
        .where(runs.c.id == values["run_id"], runs.c.status.in_(("enqueued", "running")))
        .values(
            status=values["status"], error=values["error"], updated_at=now, wake_at=now, nudges=0,
            finished_at=now if values["status"] == "failed" else None,
        )
    )  # fmt: skip
    if not changed.rowcount:
        return None
    return connection.execute(select(runs).where(runs.c.id == values["run_id"])).mappings().one()


def _end_attempt(
    connection: Connection, values: Mapping[str, Any], *, held: Sequence[str] = ("running",), **changes: Any
) -> bool:
    ended = connection.execute(
        update(attempts)
        .where(_is_attempt(values["run_id"], values["address"], values["attempt"]), attempts.c.state.in_(held))
        .values(finished_at=values["now"], **changes)
    )
    return bool(ended.rowcount)


def _is_attempt(run_id: str, address: str, attempt: int) -> Any:
    return and_(attempts.c.run_id == run_id, attempts.c.address == address, attempts.c.attempt == attempt)
