"""Upgrade: bring a database to the schema this code speaks.

Any number of processes may upgrade one database at once: one works, the others wait and find nothing left
to do. On PostgreSQL they queue at an advisory lock, on SQLite at the write lock of the file. Needs a
connection of its own: a pooler that shares sessions between clients loses the advisory lock.

Alembic takes a second to import, so it is imported by what runs migrations and by nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, func, inspect, select
from sqlalchemy.exc import OperationalError

from aos_workflow.clock import monotonic_s
from aos_workflow.database import in_our_words, open_database
from aos_workflow.errors import BadOption, SchemaMismatch, StoreUnavailable
from aos_workflow.reading import schema_revision
from aos_workflow.schema import REVISION, metadata, require_revision

if TYPE_CHECKING:
    from alembic.config import Config

#: PostgreSQL's advisory lock of whoever upgrades: "aos_work" as one number.
LOCK_KEY = int.from_bytes(b"aos_work", "big")
#: How often the lock is asked for, and how long in all, seconds.
POLL_S = 0.1
WAIT_S = 300.0
FILE_WAIT_S = 30.0
#: How long a migration waits for a table that is in use. Everybody else waits behind it meanwhile.
TABLE_WAIT_S = 10

DRIVERS = {"postgresql": "postgresql+psycopg2", "sqlite": "sqlite"}


def upgrade(database: Engine | str, *, revision: str = "head", wait_s: float = WAIT_S) -> str:
    """Run the migrations up to ``revision`` that the database lacks; returns the revision it is at then.

    Does nothing if there are none. What fails leaves the database at the last migration that was whole.
    Raises SchemaMismatch if the database is newer than this code, or its tables are not ours, and
    StoreUnavailable if another upgrade is still at work after ``wait_s`` (SQLite: 30 s, as for any writer).
    """
    if revision not in ("head", REVISION):
        _require_known(revision)
    with in_our_words(), _engine(database) as engine, _one_at_a_time(engine, wait_s) as connection:
        found = _upgradable(connection)
        if found != REVISION:
            _migrate(connection, revision)
        return schema_revision(connection) or ""


def current(database: Engine | str) -> str | None:
    """The revision the database is at; None if it has none."""
    with in_our_words(), _engine(database) as engine, engine.connect() as connection:
        return schema_revision(connection)


def check(database: Engine | str) -> str:
    """The revision, which is the one this code speaks; raises SchemaMismatch, which says what to do."""
    found = current(database)
    require_revision(found)
    return REVISION


def offline_sql(dialect: str) -> str:
    """What an upgrade of an empty database executes, as SQL text. ``dialect``: "postgresql" or "sqlite"."""
    if dialect not in DRIVERS:
        raise BadOption(f"no migrations for {dialect!r}", fix=f"choose one of: {', '.join(sorted(DRIVERS))}")
    from alembic import command

    config = configuration()
    config.attributes["dialect"] = DRIVERS[dialect]
    config.output_buffer = StringIO()
    command.upgrade(config, "head", sql=True)
    return config.output_buffer.getvalue()


def configuration() -> Config:
    """Alembic's configuration; it reads no file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "aos_workflow:migrations")
    return config


def _require_known(revision: str) -> None:
    from alembic.script import ScriptDirectory

    known = sorted(script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions())
    if revision not in known:
        raise BadOption(f"no migration {revision!r}", fix=f"there are: {', '.join(known)}")


def _upgradable(connection: Connection) -> str | None:
    """The revision the database is at; raises SchemaMismatch if there is no way from it to ours."""
    found = schema_revision(connection)
    if found is None:
        # A table of that name is an application's, or was made without migrations: which columns has it?
        strange = sorted(set(inspect(connection).get_table_names()) & set(metadata.tables))
        if strange:
            raise SchemaMismatch(
                f"the database has tables named {', '.join(strange)} that no migration of ours made",
                fix="give this system a database (or a schema on the search_path) of its own",
                tables=strange,
            )
    elif found > REVISION:
        require_revision(found)
    return found


def _migrate(connection: Connection, revision: str) -> None:
    from alembic import command
    from alembic.util import CommandError

    config = configuration()
    config.attributes["connection"] = connection
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET lock_timeout = '{TABLE_WAIT_S}s'")
        connection.commit()  # Alembic commits each migration by itself
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise SchemaMismatch(f"there is no way to revision {revision}: {error}", fix="restore a backup") from error


@contextmanager
def _engine(database: Engine | str) -> Iterator[Engine]:
    if isinstance(database, Engine):
        _open_file(database)
        yield database
        return
    engine = open_database(database, application_name="aos upgrade")
    try:
        _open_file(engine)
        yield engine
    finally:
        engine.dispose()


def _open_file(engine: Engine) -> None:
    """Wait for an SQLite file that another process is just making: SQLite does not wait here by itself."""
    deadline_s = monotonic_s() + FILE_WAIT_S
    while engine.dialect.name == "sqlite":
        try:
            engine.connect().close()  # stays in the pool
            return
        except OperationalError as error:
            # Of two that put a new file into WAL mode at once, one is told so whatever its busy_timeout.
            if "locked" not in str(error.orig) or monotonic_s() > deadline_s:
                raise
            time.sleep(POLL_S)


@contextmanager
def _one_at_a_time(engine: Engine, wait_s: float) -> Iterator[Connection]:
    """A connection to migrate on, while no other process has one."""
    if engine.dialect.name == "sqlite":
        with engine.begin() as connection:  # the file's write lock; others wait for it as for any writer
            yield connection
        return
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as guard:
        guard.detach()  # closed, not pooled: the end of its session releases the lock, whatever happened
        _lock(guard, wait_s)
        with engine.connect() as connection:
            try:
                yield connection
            finally:
                connection.invalidate()  # nor does its lock_timeout outlive it


def _lock(guard: Connection, wait_s: float) -> None:
    # Asked again and again, because one who waits *inside* a statement holds up CREATE INDEX CONCURRENTLY,
    # which waits for every statement that began before it: the two would wait for each other.
    deadline_s = monotonic_s() + wait_s
    while not guard.execute(select(func.pg_try_advisory_lock(LOCK_KEY))).scalar_one():
        if monotonic_s() > deadline_s:
            raise StoreUnavailable(
                f"another upgrade of this database was still at work after {wait_s:g} s",
                fix="look in pg_stat_activity for the application 'aos upgrade', then try again",
            )
        time.sleep(POLL_S)
