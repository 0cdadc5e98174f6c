"""Questions about runs that change nothing: one run, its steps, lists of runs."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, inspect, select, text, update

from aos_workflow.errors import RunNotFound
from aos_workflow.plan import INPUT
from aos_workflow.records import Attempt, AttemptState, Checkpoint, Run, RunStatus
from aos_workflow.rows import attempt_from_row, run_from_row
from aos_workflow.schema import VERSION_TABLE, attempts, checkpoints, plans, runs, splices


def schema_revision(connection: Connection) -> str | None:
    """The newest migration the database has; None if it has none of ours."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.exec_driver_sql(f"SELECT max(version_num) FROM {VERSION_TABLE}").scalar_one_or_none()


def run(connection: Connection, run_id: str) -> Run:
    """The run; raises RunNotFound."""
    row = connection.execute(select(runs).where(runs.c.id == run_id)).mappings().one_or_none()
    if row is None:
        raise RunNotFound(f"no run {run_id!r}", fix="see: aos runs list", run_id=run_id)
    return run_from_row(row)


def runs_page(
    connection: Connection,
    *,
    workflow: str | None = None,
    status: RunStatus | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[Run]:
    """The newest runs first, at most ``limit``; ``before`` is the last id of the page before."""
    statement = select(runs).order_by(runs.c.id.desc()).limit(limit)
    if workflow is not None:
        statement = statement.where(runs.c.workflow == workflow)
    if status is not None:
        statement = statement.where(runs.c.status == status.value)
    if before is not None:
        statement = statement.where(runs.c.id < before)
    return [run_from_row(row) for row in connection.execute(statement).mappings()]


def run_id_like(connection: Connection, prefix: str) -> str:
    """The full id for an id or its unambiguous beginning or end; raises RunNotFound."""
    pattern = runs.c.id.startswith(prefix, autoescape=True) | runs.c.id.endswith(prefix, autoescape=True)
    found = connection.execute(select(runs.c.id).where(pattern).limit(2)).scalars().all()
    if len(found) != 1:
        problem = "no run" if not found else "more than one run"
        raise RunNotFound(f"{problem} has an id like {prefix!r}", fix="see: aos runs list", run_id=prefix)
    return str(found[0])


def status(connection: Connection, run_id: str) -> RunStatus:
    """The run's status; raises RunNotFound."""
    word = connection.execute(select(runs.c.status).where(runs.c.id == run_id)).scalar_one_or_none()
    if word is None:
        raise RunNotFound(f"no run {run_id!r}", fix="see: aos runs list", run_id=run_id)
    return RunStatus(word)


def outputs(connection: Connection, run_id: str, addresses: Sequence[str]) -> dict[str, str]:
    """Address -> committed output (canonical text), for those that are there; ``$input`` is the run's inputs."""
    found: dict[str, str] = {}
    wanted = [address for address in addresses if address != INPUT]
    if wanted:
        statement = select(checkpoints.c.address, checkpoints.c.output).where(
            checkpoints.c.run_id == run_id, checkpoints.c.address.in_(wanted)
        )
        found.update(iter(connection.execute(statement)))
    if INPUT in addresses:
        found[INPUT] = connection.execute(select(runs.c.inputs).where(runs.c.id == run_id)).scalar_one()
    return found


def stable_digests(connection: Connection, run_id: str) -> dict[str, str]:
    """Address -> stable digest of every step's checkpoint; handlers are not steps."""
    statement = select(checkpoints.c.address, checkpoints.c.stable_digest).where(
        checkpoints.c.run_id == run_id, checkpoints.c.position >= 0
    )
    return dict(iter(connection.execute(statement)))


def checkpoints_of(connection: Connection, run_id: str) -> list[Checkpoint]:
    """All checkpoints of a run, in the order they were committed."""
    statement = select(checkpoints).where(checkpoints.c.run_id == run_id).order_by(checkpoints.c.committed_at)
    return [Checkpoint(**row) for row in connection.execute(statement).mappings()]


def attempts_of(connection: Connection, run_id: str) -> list[Attempt]:
    """All attempts of a run, by address and number."""
    columns = [column for column in attempts.c if column.name != "token"]
    statement = select(*columns).where(attempts.c.run_id == run_id).order_by(attempts.c.address, attempts.c.attempt)
    return [attempt_from_row(row) for row in connection.execute(statement).mappings()]


def splices_of(connection: Connection, run_id: str) -> list[tuple[str, str]]:
    """Address and plan (text) of every sub-plan that a step of the run brought, in the order of their commits."""
    statement = (
        select(splices.c.address, plans.c.body)
        .join(plans, plans.c.digest == splices.c.plan_digest)
        .where(splices.c.run_id == run_id)
        .order_by(splices.c.ordinal)
    )
    return [(address, body) for address, body in connection.execute(statement)]


def golden_wanted(connection: Connection, limit: int, *, after: str = "", since: float | None = None) -> list[str]:
    """The runs behind ``after``, by id, that have succeeded (``since``) and whose golden is to be recorded."""
    is_open = (runs.c.golden == text("'wanted'")) & (runs.c.status == text("'succeeded'"))  # literal: as the index
    statement = select(runs.c.id).where(is_open, runs.c.id > after).order_by(runs.c.id).limit(limit)
    if since is not None:
        statement = statement.where(runs.c.finished_at >= since)
    return list(connection.execute(statement).scalars())


def attempted(connection: Connection, run_id: str, addresses: Sequence[str], *, ended: bool = False) -> set[str]:
    """Those addresses with an attempt; with ``ended``, with an attempt that committed or failed for good."""
    statement = select(attempts.c.address).where(attempts.c.run_id == run_id, attempts.c.address.in_(addresses))
    if ended:
        final = (AttemptState.COMMITTED.value, AttemptState.FAILED.value)
        statement = statement.where(attempts.c.state.in_(final))
    return set(connection.execute(statement).scalars())


def counts_by_status(connection: Connection) -> dict[str, int]:
    """Status -> number of runs."""
    statement = select(runs.c.status, func.count()).group_by(runs.c.status)
    return dict(iter(connection.execute(statement)))


def close_attempts(connection: Connection, run_id: str) -> None:
    """A revived run counts its attempts anew: what was lost or to be retried is plainly over."""
    open_states = (AttemptState.LOST.value, AttemptState.RETRY.value, AttemptState.DEFERRED.value)
    connection.execute(
        update(attempts)
        .where(attempts.c.run_id == run_id, attempts.c.state.in_(open_states))
        .values(state=AttemptState.FAILED.value)
    )


def forget_handlers(connection: Connection, run_id: str, addresses: Sequence[str]) -> None:
    """A revived run that fails again calls its error handlers again."""
    if addresses:
        for table in (checkpoints, attempts):
            connection.execute(table.delete().where(table.c.run_id == run_id, table.c.address.in_(addresses)))
