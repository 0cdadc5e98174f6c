"""Which runs leave a golden, and the ledger of goldens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

#: Text that an index holds: ordered by its bytes, whatever the locale of the database.
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

APPEND_ONLY = {
    "postgresql": (
        """CREATE OR REPLACE FUNCTION aos_golden_ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'golden_ledger is append-only'; END $$""",
        # One that fires per statement also sees TRUNCATE.
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


def upgrade() -> None:
    # Null, "wanted", "recorded" or "refused" (none can be made). No check constraint: on a large table it would be
    # tested row by row, under a lock.
    op.add_column("runs", sa.Column("golden", sa.Text(), nullable=True))
    # The recorder's question: the index holds what is still to be recorded and stays small.
    unrecorded = sa.text("golden = 'wanted' AND status = 'succeeded'")
    op.create_index(op.f("ix_runs_golden"), "runs", ["id"], postgresql_where=unrecorded, sqlite_where=unrecorded)
    op.create_table(
        "golden_ledger",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),  # 1, 2, 3 ... without a gap
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("op", sa.Text(), nullable=False),
        sa.Column("name", KEY, nullable=False),  # of the golden's file, or of an archive
        sa.Column("run_id", KEY, nullable=True),
        sa.Column("content_sha256", sa.Text(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("prev", sa.Text(), nullable=False),  # hash of the entry before
        sa.Column("hash", sa.Text(), nullable=False),  # of this entry's canonical JSON, prev included
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_golden_ledger")),
        sa.CheckConstraint("name <> '' AND hash <> ''", name=op.f("ck_golden_ledger_not_empty")),
        sa.CheckConstraint(
            "op IN ('add', 'resign', 'archive', 'prune', 'quarantine')", name=op.f("ck_golden_ledger_op")
        ),
        comment="What happened to goldens, each entry sealed by the hash of the one before; only ever appended to",
    )
    op.create_index(op.f("ix_golden_ledger_name"), "golden_ledger", ["name", "seq"])
    op.create_index(op.f("ix_golden_ledger_run_id"), "golden_ledger", ["run_id"])
    for statement in APPEND_ONLY[op.get_context().dialect.name]:
        op.execute(statement)
