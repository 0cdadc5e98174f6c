"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

#: Text that an index holds: ordered by its bytes, whatever the locale of the database.
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    _plans()
    _runs()
    _checkpoints()
    _splices()
    _attempts()
    _workers()
    _ticks()


def _plans() -> None:
    # Content-addressed: a thousand runs of one plan store it once.
    op.create_table(
        "plans",
        sa.Column("digest", KEY, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_plans")),
        comment="Plans by their digest; runs with the same plan share it",
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", KEY, nullable=False),
        sa.Column("workflow", KEY, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("plan_digest", KEY, nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("inputs_digest", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("logical_time", sa.Double(), nullable=False),  # what ctx.now starts from
        sa.Column("idempotency_key", KEY, nullable=True),
        sa.Column("epoch", sa.Integer(), server_default=sa.text("1"), nullable=False),  # +1 when the sweep publishes
        sa.Column("nudges", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),  # in vain, in a row
        sa.Column("size", sa.Integer(), nullable=False),  # steps, spliced ones included
        sa.Column("done", sa.LargeBinary(), nullable=False),  # bit n: the step at position n is committed
        sa.Column("splices", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("inline", sa.Boolean(), nullable=False),  # performed by the process that enqueued it
        sa.Column("watched", sa.Boolean(), nullable=False),  # somebody waits to be told of its end
        sa.Column("wake_at", sa.Double(), nullable=False),  # when the sweep looks at it
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("workflow_hash", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("format", sa.SmallInteger(), nullable=False),  # of the stored documents
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.CheckConstraint("id <> '' AND workflow <> ''", name=op.f("ck_runs_not_empty")),
        sa.CheckConstraint(
            "status IN ('enqueued', 'running', 'failing', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_runs_status"),
        ),
        comment="One row per run; its lock makes the history of a run serial",
        # Every commit of a step updates `done`. With room in its page the new row stays there and the five
        # indexes are left alone (HOT). Pages clean themselves up, except while a backup or a long query holds
        # on to old rows: then 47 % of the updates are HOT with this room, 30 % without.
        postgresql_with={"fillfactor": 70},
    )
    # The sweep's question, asked every second: the index holds live runs only and stays as small as they are few.
    live = sa.text("status IN ('enqueued', 'running', 'failing')")
    op.create_index(op.f("ix_runs_wake_at"), "runs", ["wake_at"], postgresql_where=live, sqlite_where=live)
    op.create_index(op.f("ix_runs_workflow"), "runs", ["workflow", "created_at"])
    op.create_index(op.f("ix_runs_created_at"), "runs", ["created_at"])
    keyed = sa.text("idempotency_key IS NOT NULL")
    op.create_index(
        op.f("uq_runs_idempotency_key"),
        "runs",
        ["workflow", "idempotency_key"],
        unique=True,
        postgresql_where=keyed,
        sqlite_where=keyed,
    )


def _checkpoints() -> None:
    # The primary key is the promise: a step's checkpoint commits exactly once.
    op.create_table(
        "checkpoints",
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("address", KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),  # in the run's plan; below 0: an error handler
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("stable_digest", sa.Text(), nullable=False),  # of the output without its volatile fields
        sa.Column("effects", sa.Text(), nullable=True),
        sa.Column("worker_id", KEY, nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("committed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "address", name=op.f("pk_checkpoints")),
        sa.CheckConstraint("run_id <> '' AND address <> ''", name=op.f("ck_checkpoints_not_empty")),
        comment="The committed output of a step; never changed",
    )


def _splices() -> None:
    op.create_table(
        "splices",
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("address", KEY, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("plan_digest", KEY, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "address", name=op.f("pk_splices")),
        sa.CheckConstraint("run_id <> '' AND address <> ''", name=op.f("ck_splices_not_empty")),
        comment="Plans that steps of a run brought, numbered from 1 in the order they were committed",
    )


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("address", KEY, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),  # by which a claimant recognises its own claim
        sa.Column("worker_id", KEY, nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("due_at", sa.Double(), nullable=True),  # when the step is tried again
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "address", "attempt", name=op.f("pk_attempts")),
        sa.CheckConstraint("run_id <> '' AND address <> ''", name=op.f("ck_attempts_not_empty")),
        sa.CheckConstraint(
            "state IN ('running', 'committed', 'failed', 'retry', 'deferred', 'lost')",
            name=op.f("ck_attempts_state"),
        ),
        comment="Every try of a worker at a step; a write is valid while its attempt is running",
        # No fillfactor: `state` is in the predicate of the index below, so its updates are never HOT, and room
        # only made the table a third larger (measured).
    )
    # What was a dead process on? Only its running attempts are asked for.
    running = sa.text("state = 'running'")
    op.create_index(
        op.f("ix_attempts_worker_id"), "attempts", ["worker_id"], postgresql_where=running, sqlite_where=running
    )


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("id", KEY, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("parent_id", KEY, nullable=True),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("heartbeat_at", sa.Double(), nullable=False),
        sa.Column("stopped_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        sa.CheckConstraint("id <> ''", name=op.f("ck_workers_not_empty")),
        comment="Worker processes and when each last said that it lives",
    )


def _ticks() -> None:
    op.create_table(
        "ticks",
        sa.Column("name", KEY, nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_ticks")),
        comment="When each periodic job last ran; one process of the fleet takes the next turn",
    )
