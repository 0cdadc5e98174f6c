"""The tables, for PostgreSQL and SQLite. The migrations must end in exactly these.

Times are seconds since the epoch (double precision), values are canonical JSON text:
text keeps a value's digest reproducible, which JSONB does not.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    event,
    text,
)

from aos_workflow.errors import SchemaMismatch
from aos_workflow.records import AttemptState, RunStatus

#: The schema version this code speaks: the newest migration's revision.
REVISION = "0002"
#: Where Alembic keeps it; a name of our own, for databases that are shared with an application.
VERSION_TABLE = "aos_schema_version"

metadata = MetaData(
    naming_convention={
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s",
    }
)

#: Text that an index holds. Bytes decide its order, as on SQLite: under a language's rules the order changes
#: with the C library, and an index built under the old one lets a second checkpoint in.
Key = Text().with_variant(Text(collation="C"), "postgresql")


class LedgerOp(StrEnum):
    """What happened to a golden."""

    ADD = "add"  #: its file was written
    RESIGN = "resign"  #: it is under another key
    ARCHIVE = "archive"  #: an archive was written; the entry's name and digest are the archive's
    PRUNE = "prune"  #: its file may be deleted
    QUARANTINE = "quarantine"  #: its file was put aside


def require_revision(found: str | None) -> None:
    """Raises SchemaMismatch, which says what to do, unless ``found`` (None: no schema) is the one we speak."""
    if found == REVISION:
        return
    is_newer = found is not None and found > REVISION
    raise SchemaMismatch(
        f"the database's schema is at {found or 'nothing'}, this code speaks {REVISION}",
        fix=f"deploy the newer code, which wrote {found}" if is_newer else "run: aos db upgrade",
        found=found,
        wanted=REVISION,
    )


def _one_of(column: str, words: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _not_empty(*columns: str) -> CheckConstraint:
    # An empty id is found, claimed and run like any other, over and over: nobody asks for it by name.
    return CheckConstraint(" AND ".join(f"{column} <> ''" for column in columns), name="not_empty")


plans = Table(
    "plans",
    metadata,
    Column("digest", Key, primary_key=True),
    Column("body", Text, nullable=False),
    comment="Plans by their digest; runs with the same plan share it",
)

runs = Table(
    "runs",
    metadata,
    Column("id", Key, primary_key=True),
    Column("workflow", Key, nullable=False),
    Column("status", Text, nullable=False),
    Column("plan_digest", Key, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("inputs_digest", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("logical_time", Double, nullable=False),
    Column("idempotency_key", Key),
    Column("epoch", Integer, nullable=False, server_default=text("1")),
    Column("nudges", SmallInteger, nullable=False, server_default=text("0")),
    Column("size", Integer, nullable=False),
    Column("done", LargeBinary, nullable=False),
    Column("splices", Integer, nullable=False, server_default=text("0")),
    Column("inline", Boolean, nullable=False),
    Column("watched", Boolean, nullable=False),
    Column("wake_at", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("workflow_hash", Text),
    Column("error", Text),
    Column("format", SmallInteger, nullable=False),
    Column("golden", Text),
    _not_empty("id", "workflow"),
    _one_of("status", RunStatus),
    comment="One row per run; its lock makes the history of a run serial",
    postgresql_with={"fillfactor": 70},  # why, and why no other table: migrations/versions/0001
)
_live = text("status IN ('enqueued', 'running', 'failing')")
Index("ix_runs_wake_at", runs.c.wake_at, postgresql_where=_live, sqlite_where=_live)
_unrecorded = text("golden = 'wanted' AND status = 'succeeded'")
Index("ix_runs_golden", runs.c.id, postgresql_where=_unrecorded, sqlite_where=_unrecorded)
Index("ix_runs_workflow", runs.c.workflow, runs.c.created_at)
Index("ix_runs_created_at", runs.c.created_at)
Index(
    "uq_runs_idempotency_key",
    runs.c.workflow,
    runs.c.idempotency_key,
    unique=True,
    postgresql_where=text("idempotency_key IS NOT NULL"),
    sqlite_where=text("idempotency_key IS NOT NULL"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("run_id", Key, nullable=False),
    Column("address", Key, nullable=False),
    Column("position", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("output", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("stable_digest", Text, nullable=False),
    Column("effects", Text),
    Column("worker_id", Key, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("committed_at", Double, nullable=False),
    PrimaryKeyConstraint("run_id", "address"),
    _not_empty("run_id", "address"),
    comment="The committed output of a step; never changed",
)

splices = Table(
    "splices",
    metadata,
    Column("run_id", Key, nullable=False),
    Column("address", Key, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("plan_digest", Key, nullable=False),
    PrimaryKeyConstraint("run_id", "address"),
    _not_empty("run_id", "address"),
    comment="Plans that steps of a run brought, numbered from 1 in the order they were committed",
)

attempts = Table(
    "attempts",
    metadata,
    Column("run_id", Key, nullable=False),
    Column("address", Key, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("worker_id", Key, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("due_at", Double),
    Column("error", Text),
    PrimaryKeyConstraint("run_id", "address", "attempt"),
    _not_empty("run_id", "address"),
    _one_of("state", AttemptState),
    comment="Every try of a worker at a step; a write is valid while its attempt is running",
)
_running = text("state = 'running'")
Index("ix_attempts_worker_id", attempts.c.worker_id, postgresql_where=_running, sqlite_where=_running)

workers = Table(
    "workers",
    metadata,
    Column("id", Key, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("parent_id", Key),
    Column("started_at", Double, nullable=False),
    Column("heartbeat_at", Double, nullable=False),
    Column("stopped_at", Double),
    _not_empty("id"),
    comment="Worker processes and when each last said that it lives",
)

ticks = Table(
    "ticks",
    metadata,
    Column("name", Key, primary_key=True),
    Column("last_at", Double, nullable=False),
    comment="When each periodic job last ran; one process of the fleet takes the next turn",
)

golden_ledger = Table(
    "golden_ledger",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("op", Text, nullable=False),
    Column("name", Key, nullable=False),
    Column("run_id", Key),
    Column("content_sha256", Text),
    Column("key_id", Text),
    Column("prev", Text, nullable=False),
    Column("hash", Text, nullable=False),
    _not_empty("name", "hash"),
    _one_of("op", LedgerOp),
    comment="What happened to goldens, each entry sealed by the hash of the one before; only ever appended to",
)
Index("ix_golden_ledger_name", golden_ledger.c.name, golden_ledger.c.seq)
Index("ix_golden_ledger_run_id", golden_ledger.c.run_id)
#: Dialect -> statements by which the database itself refuses to change or delete what is in the ledger.
_APPEND_ONLY = {
    "postgresql": (
        """CREATE OR REPLACE FUNCTION aos_golden_ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'golden_ledger is append-only'; END $$""",
        """CREATE TRIGGER golden_ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON golden_ledger
FOR EACH STATEMENT EXECUTE FUNCTION aos_golden_ledger_is_append_only()""",
    ),
    "sqlite": (
        """CREATE TRIGGER golden_ledger_no_update BEFORE UPDATE ON golden_ledger
BEGIN SELECT RAISE(ABORT, 'golden_ledger is append-only'); END""",
        """CREATE TRIGGER golden_ledger_no_delete BEFORE DELETE ON golden_ledger
BEGIN SELECT RAISE(ABORT, 'golden_ledger is append-only'); END""",
    ),
}
for _dialect, _statements in _APPEND_ONLY.items():
    for _statement in _statements:
        event.listen(golden_ledger, "after_create", DDL(_statement).execute_if(dialect=_dialect))  # type: ignore[no-untyped-call]
