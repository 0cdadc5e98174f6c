"""CheckpointStore: what a run is, in the database. The only module that speaks SQL about runs.

The hot path is three verbs, one round trip each on PostgreSQL: ``claim`` a step,
``commit`` its checkpoint, ``settle`` or ``fail`` an attempt that brought none. What they
answer are the values of ``records``. ``reading.py`` asks about runs without changing them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from aos_workflow import reading, statements_postgres, statements_sqlite
from aos_workflow.clock import Clock, SystemClock
from aos_workflow.database import StepSession, in_our_words, is_disconnect, pool_exhausted, quick, translated
from aos_workflow.errors import IdempotencyConflict
from aos_workflow.faults import fault
from aos_workflow.plan import Plan, same_shape
from aos_workflow.plan_shelf import PlanShelf
from aos_workflow.records import (
    FORMAT,
    LIVE,
    AttemptState,
    Claim,
    Commit,
    CommitAnswer,
    Committed,
    Failure,
    NewRun,
    Run,
    RunStatus,
    Superseded,
)
from aos_workflow.rows import GRACE_S, claim_from_row, committed_from_row, failure_text, new_run_row
from aos_workflow.schema import checkpoints, plans, require_revision, runs


class CheckpointStore:
    """Runs, plans and checkpoints in one database.

    ``worker_ttl_s``: a worker process without a heartbeat for this long is dead.
    """

    def __init__(self, engine: Engine, *, clock: Clock | None = None, worker_ttl_s: float = 5.0) -> None:
        self.engine = engine
        self.clock = clock or SystemClock()
        self.worker_ttl_s = worker_ttl_s
        self.is_postgres = engine.dialect.name == "postgresql"
        self._hot: Any = statements_postgres if self.is_postgres else statements_sqlite
        self._insert: Any = postgresql.insert if self.is_postgres else sqlite.insert
        self._quick = quick(engine)
        self._plans = PlanShelf(self._quick)

    def check_schema(self) -> None:
        """Raises SchemaMismatch, which names the command to run, unless the schema is the one we speak."""
        with in_our_words(), self._quick.connect() as connection:
            found = reading.schema_revision(connection)
        require_revision(found)

    # --- enqueue ---------------------------------------------------------------------------

    def add(self, new: Sequence[NewRun], *, connection: Connection | None = None) -> list[str]:
        """Store runs, all or none; returns their ids, or for a known idempotency key the id it has.

        With ``connection`` they are written in the caller's transaction.
        Raises IdempotencyConflict if a key belongs to a run with another plan, inputs or seed.
        """
        if connection is not None:
            with in_our_words():
                return self._add(connection, new)
        with in_our_words():
            try:
                with self.engine.begin() as own:
                    ids = self._add(own, new)
            except DBAPIError as error:
                if not is_disconnect(error):
                    raise
                with self.engine.begin() as own:  # perhaps only the answer was lost: what is there is not stored again
                    known = own.execute(select(runs.c.id).where(runs.c.id == new[0].id)).first()
                    ids = [run.id for run in new] if known else self._add(own, new)
        self._plans.keep(run.plan_digest for run in new)
        return ids

    def _add(self, connection: Connection, new: Sequence[NewRun]) -> list[str]:
        fresh = {run.plan_digest: run.plan_text for run in new if not self._plans.is_stored(run.plan_digest)}
        if fresh:
            rows = [{"digest": digest, "body": text} for digest, text in sorted(fresh.items())]
            connection.execute(self._insert(plans).on_conflict_do_nothing(), rows)
        now = self.now(connection)
        rows = [new_run_row(run, now) for run in new]
        if all(run.idempotency_key is None for run in new):
            connection.execute(insert(runs), rows)
            return [run.id for run in new]
        return [self._add_keyed(connection, run, row) for run, row in zip(new, rows, strict=True)]

    def _add_keyed(self, connection: Connection, run: NewRun, row: Mapping[Any, Any]) -> str:
        statement = self._insert(runs).on_conflict_do_nothing().returning(runs.c.id)
        if connection.execute(statement, row).scalar_one_or_none() is not None:
            return run.id
        same_key = (runs.c.workflow == run.workflow) & (runs.c.idempotency_key == run.idempotency_key)
        known = connection.execute(select(runs).where(same_key)).mappings().one()
        for field in ("plan_digest", "inputs_digest", "seed"):
            if known[field] != getattr(run, field) and not (
                field == "plan_digest" and self._have_one_shape(connection, known[field], run)
            ):
                raise IdempotencyConflict(
                    f"idempotency key {run.idempotency_key!r} belongs to run {known['id']} with another "
                    f"{field.removesuffix('_digest')}",
                    fix="use a new key for a new request",
                    run_id=known["id"],
                    differs=field,
                )
        return str(known["id"])

    @staticmethod
    def _have_one_shape(connection: Connection, digest: str, run: NewRun) -> bool:
        """Do two plans differ in their terms only? Those may change from one deployment to the next."""
        known = connection.execute(select(plans.c.body).where(plans.c.digest == digest)).scalar_one()
        return same_shape(Plan.from_text(known), Plan.from_text(run.plan_text))

    # --- the hot path ----------------------------------------------------------------------

    def claim(
        self,
        *,
        run_id: str,
        address: str,
        inputs: Sequence[str],
        token: str,
        worker_id: str,
        pid: int,
        most_losses: int,
        wants_input: bool = False,
        is_handler: bool = False,
    ) -> Claim:
        """Ask for a step. ``token`` makes asking again after a lost reply safe."""
        values = {
            "run_id": run_id,
            "address": address,
            "inputs": list(inputs),
            "wants_input": wants_input,
            "token": token,
            "worker_id": worker_id,
            "pid": pid,
            "most_losses": most_losses,
            "ttl_s": self.worker_ttl_s,
            "live": ["failing"] if is_handler else ["enqueued", "running"],
            "format": FORMAT,
        }
        row = self._ask("claim", values)
        assert row is not None
        return claim_from_row(row)

    def commit(self, commit: Commit, *, connection: Connection | None = None) -> CommitAnswer:
        """Write a checkpoint and all that goes with it in one transaction.

        With ``connection`` it is part of the transaction that the step's own session has open.
        A connection that dies under COMMIT leaves the outcome unknown: it is looked up, not guessed.
        """
        text, digest, size = commit.splice or (None, None, 0)
        values = {name: getattr(commit, name) for name in _COMMIT_FIELDS}
        values |= {"sub_text": text, "sub_digest": digest, "sub_size": size}
        if connection is not None:
            row = self._hot.commit(connection, values | {"now": self.clock.now()})
            return committed_from_row(row) if row else Superseded()
        try:
            row = self._ask("commit", values, again=False)
        except DBAPIError as error:
            if not is_disconnect(error):
                raise translated(error) from error
            return self._recommit(commit, values)
        return committed_from_row(row) if row else self._lookup(commit) or Superseded()

    def _recommit(self, commit: Commit, values: Mapping[str, Any]) -> CommitAnswer:
        """After a lost reply: did it commit? If not, the fence still protects a second try."""
        known = self._lookup(commit)
        if known is not None:
            return known
        with in_our_words():
            row = self._ask("commit", values, again=False)
        return committed_from_row(row) if row else self._lookup(commit) or Superseded()

    def _lookup(self, commit: Commit) -> CommitAnswer | None:
        """What became of this very commit; None if the step has no checkpoint at all."""
        mine = (checkpoints.c.run_id == commit.run_id) & (checkpoints.c.address == commit.address)
        with in_our_words(), self._quick.connect() as connection:
            attempt = connection.execute(select(checkpoints.c.attempt).where(mine)).scalar_one_or_none()
            if attempt is None:
                return None
            if attempt != commit.attempt:
                return Superseded()
            return committed_from_row(
                connection.execute(select(runs).where(runs.c.id == commit.run_id)).mappings().one()
            )

    def commit_with(self, session: Session, commit: Commit) -> CommitAnswer:
        """Write a checkpoint in the transaction that holds the step's own rows, and commit both or neither."""
        try:
            with in_our_words():
                answer = self.commit(commit, connection=session.connection())
            if isinstance(answer, Superseded):
                session.rollback()
            else:
                fault("in_commit", commit.address)
                Session.commit(session)
            return answer
        except DBAPIError as error:
            if not is_disconnect(error):
                raise translated(error) from error
            known = self._lookup(commit)
            if known is None:
                raise translated(error) from error
            return known
        finally:
            session.close()

    def settle(
        self,
        *,
        run_id: str,
        address: str,
        attempt: int,
        state: AttemptState,
        delay_s: float,
        error: Failure | None,
    ) -> float | None:
        """End an attempt that will be tried again in ``delay_s`` seconds; None if it lost its step."""
        mine = {"run_id": run_id, "address": address, "attempt": attempt}
        row = self._ask("settle", {**mine, "state": state.value, "delay_s": delay_s, "error": failure_text(error)})
        return float(row["due_at"]) if row else None

    def fail(
        self, *, run_id: str, address: str, attempt: int, failure: Failure, poisoned: bool = False
    ) -> Committed | None:
        """Fail the run for this attempt's reason; None if the attempt lost its step or the run is decided."""
        status = RunStatus.FAILING if failure.handlers else RunStatus.FAILED
        mine = {"run_id": run_id, "address": address, "attempt": attempt}
        row = self._ask("fail", {**mine, "status": status.value, "error": failure_text(failure), "poisoned": poisoned})
        return committed_from_row(row) if row else None

    def finish(self, run_id: str, *, expected: RunStatus, status: RunStatus, workflow_hash: str | None = None) -> bool:
        """Move a run from ``expected`` to a terminal status; False if it was not there any more."""
        with in_our_words(), self.engine.begin() as connection:
            changed = connection.execute(
                update(runs)
                .where(runs.c.id == run_id, runs.c.status == expected.value)
                .values(status=status.value, workflow_hash=workflow_hash, finished_at=self.now(connection))
            )
            return bool(changed.rowcount)

    def _ask(self, verb: str, values: Mapping[str, Any], *, again: bool = True) -> Mapping[str, Any] | None:
        statement = getattr(self._hot, verb)
        values = {**values, "now": self.clock.now()}
        try:
            if self.is_postgres:
                with self._quick.connect() as connection:
                    return statement(connection, values)  # type: ignore[no-any-return]
            with self.engine.begin() as connection:
                return statement(connection, values)  # type: ignore[no-any-return]
        except DBAPIError as error:
            if not again:
                raise
            if is_disconnect(error):
                with in_our_words():  # once more on a new connection: after a restart a pool holds dead ones
                    return self._ask(verb, values, again=False)
            raise translated(error) from error
        except PoolTimeout as error:
            raise pool_exhausted() from error

    # --- questions -------------------------------------------------------------------------

    def plan(self, digest: str) -> Plan:
        """The plan stored under ``digest``."""
        return self._plans.plan(digest)

    def effective_plan(self, run_id: str, digest: str, splice_count: int) -> Plan:
        """The run's plan with the sub-plans that its steps returned so far in their places."""
        return self._plans.effective(run_id, digest, splice_count)

    def unclaimed(self, run_id: str, addresses: Sequence[str]) -> tuple[str, ...]:
        """Those addresses that no attempt was ever made at."""
        if not addresses:
            return ()
        with in_our_words(), self._quick.connect() as connection:
            claimed = reading.attempted(connection, run_id, addresses)
        return tuple(address for address in addresses if address not in claimed)

    def ended(self, run_id: str, addresses: Sequence[str]) -> bool:
        """Has every one of these handlers a checkpoint or a final failure?"""
        with in_our_words(), self._quick.connect() as connection:
            return reading.attempted(connection, run_id, addresses, ended=True) >= set(addresses)

    # --- a run as a whole ------------------------------------------------------------------

    def run(self, run_id: str) -> Run:
        """The run; raises RunNotFound."""
        with in_our_words(), self._quick.connect() as connection:
            return reading.run(connection, run_id)

    def outputs(self, run_id: str, addresses: Iterable[str]) -> dict[str, str]:
        """The committed outputs (canonical text) of these addresses, and of ``$input`` if asked for."""
        with in_our_words(), self._quick.connect() as connection:
            return reading.outputs(connection, run_id, list(addresses))

    def stable_digests(self, run_id: str) -> dict[str, str]:
        """Address -> stable digest of every step's checkpoint."""
        with in_our_words(), self._quick.connect() as connection:
            return reading.stable_digests(connection, run_id)

    def status(self, run_id: str) -> RunStatus:
        """How the run stands; raises RunNotFound."""
        with in_our_words(), self._quick.connect() as connection:
            return reading.status(connection, run_id)

    def golden_wanted(self, limit: int, *, after: str = "", within_s: float | None = None) -> list[str]:
        """At most so many runs behind ``after``, by id, whose golden is to be recorded, ended ``within_s`` seconds."""
        with in_our_words(), self._quick.connect() as connection:
            since = None if within_s is None else self.now(connection) - within_s
            return reading.golden_wanted(connection, limit, after=after, since=since)

    def wants_golden(self, run_id: str) -> bool:
        """Is the run's golden to be recorded, and not yet? False for a run that is not there."""
        with in_our_words(), self._quick.connect() as connection:
            return connection.execute(select(runs.c.golden).where(runs.c.id == run_id)).scalar() == "wanted"

    def want_golden(self, run_id: str) -> None:
        """Let the run's golden be recorded once it has succeeded, unless it was; raises RunNotFound."""
        with in_our_words(), self.engine.begin() as connection:
            reading.status(connection, run_id)
            is_open = runs.c.golden.is_(None) | (runs.c.golden == "refused")
            connection.execute(update(runs).where(runs.c.id == run_id, is_open).values(golden="wanted"))

    def watch(self, run_id: str) -> RunStatus:
        """Ask to be told when the run ends (``tell_watchers``); returns its status as of now."""
        with in_our_words(), self.engine.begin() as connection:
            connection.execute(update(runs).where(runs.c.id == run_id, runs.c.watched.is_(False)).values(watched=True))
            return reading.status(connection, run_id)

    def tell_watchers(self, run_id: str) -> None:
        """Wake those who wait for this run's end; only a hint, so trouble with it is theirs to outwait."""
        if self.is_postgres:
            statement = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%(channel)s, '')"
            with in_our_words(), self._quick.connect() as connection:
                connection.exec_driver_sql(statement, {"channel": "aos_" + run_id.replace("-", "")})

    def cancel(self, run_id: str) -> Run:
        """Cancel a live run; a run that has ended stays as it ended."""
        with in_our_words(), self.engine.begin() as connection:
            now = self.now(connection)
            connection.execute(
                update(runs)
                .where(runs.c.id == run_id, runs.c.status.in_([status.value for status in LIVE]))
                .values(status=RunStatus.CANCELLED.value, finished_at=now, updated_at=now)
            )
            return reading.run(connection, run_id)

    def revive(self, run_id: str) -> Run:
        """Let a failed or cancelled run go on from its checkpoints, in a new epoch."""
        with in_our_words(), self.engine.begin() as connection:
            run = reading.run(connection, run_id)
            now = self.now(connection)
            revived = connection.execute(
                update(runs)
                .where(runs.c.id == run_id, runs.c.status.in_(("failed", "cancelled")))
                .values(
                    status=RunStatus.RUNNING.value, started_at=run.started_at or now, finished_at=None, error=None,
                    epoch=runs.c.epoch + 1, nudges=0, wake_at=now + GRACE_S, updated_at=now,
                    inline=False,  # whoever performed it in a process of their own has gone
                )
            )  # fmt: skip
            if revived.rowcount:
                reading.close_attempts(connection, run_id)
                reading.forget_handlers(connection, run_id, run.error.handlers if run.error else ())
            return reading.run(connection, run_id)

    def open_session(self) -> Session:
        """A session for a step's own rows; committing it is the engine's business."""
        return StepSession(self.engine)

    def time(self) -> float:
        """The database's clock, seconds since the epoch."""
        if not self.is_postgres:
            return self.clock.now()
        with in_our_words(), self._quick.connect() as connection:
            return self.now(connection)

    def now(self, connection: Connection) -> float:
        return statements_postgres.now(connection) if self.is_postgres else self.clock.now()


_COMMIT_FIELDS = ("run_id", "address", "position", "attempt", "output", "digest", "stable_digest", "worker_id",
                  "started_at", "effects", "workflow_hash")  # fmt: skip
