"""What Alembic runs: the migrations, on the connection that ``upgrade`` hands over, or as SQL text."""

from __future__ import annotations

from alembic import context

from aos_workflow.schema import VERSION_TABLE, metadata

connection = context.config.attributes.get("connection")
dialect = context.config.attributes.get("dialect")

context.configure(
    connection=connection,
    dialect_name=dialect,
    # Without a driver to bind them, a % in text stays one %.
    dialect_opts={"paramstyle": "named"},
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # Our SQLite connections begin a transaction for DDL too, so there a migration is all or nothing as well.
    transactional_ddl=True,
    # A migration is stamped in the transaction that ran it: what was interrupted goes on where it stopped.
    transaction_per_migration=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
