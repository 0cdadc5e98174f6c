"""The tables, for PostgreSQL and SQLite. The migrations must end in exactly these.

Times are seconds since the epoch (double precision), values are canonical JSON text:
text keeps a value's digest reproducible, which JSONB does not.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
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
    text,
)

#: The schema version this code speaks: the newest migration's revision.
REVISION = "0001"
#: Where Alembic keeps it; a name of our own, for databases that are shared with an application.
VERSION_TABLE = "aos_schema_version"

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s",
    }
)

plans = Table(
    "plans",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("body", Text, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("workflow", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("plan_digest", Text, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("inputs_digest", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("logical_time", Double, nullable=False),
    Column("idempotency_key", Text),
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
)
_live = text("status IN ('enqueued', 'running', 'failing')")
Index("ix_runs_wake_at", runs.c.wake_at, postgresql_where=_live, sqlite_where=_live)
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
    Column("run_id", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("output", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("stable_digest", Text, nullable=False),
    Column("effects", Text),
    Column("worker_id", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("committed_at", Double, nullable=False),
    PrimaryKeyConstraint("run_id", "address"),
)

splices = Table(
    "splices",
    metadata,
    Column("run_id", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("base", Integer, nullable=False),
    Column("plan_digest", Text, nullable=False),
    PrimaryKeyConstraint("run_id", "address"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("run_id", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("due_at", Double),
    Column("error", Text),
    PrimaryKeyConstraint("run_id", "address", "attempt"),
)
_running = text("state = 'running'")
Index("ix_attempts_worker_id", attempts.c.worker_id, postgresql_where=_running, sqlite_where=_running)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("parent_id", Text),
    Column("started_at", Double, nullable=False),
    Column("heartbeat_at", Double, nullable=False),
    Column("stopped_at", Double),
)

ticks = Table(
    "ticks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("last_at", Double, nullable=False),
)
