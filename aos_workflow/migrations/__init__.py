"""Migrations: how a database comes to the tables of ``schema``, one numbered file per change.

``upgrade`` runs them. A new one is begun in a checkout with

    python -c "from alembic import command; from aos_workflow.upgrade import configuration; \
               command.revision(configuration(), 'what changes', rev_id='0002')"

and becomes ``schema.REVISION``. Four digits, counted up: code that does not know a revision still sees
whether it is newer. Workers of the version before go on working while a migration runs and after it, so
it adds first and removes a version later. There is no way down: a way down drops what runs have committed.
"""
