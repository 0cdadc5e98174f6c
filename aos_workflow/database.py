"""Opening a database: one DSN form, the same durability on both, errors in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from aos_workflow.clock import SystemClock
from aos_workflow.errors import BadOption, SchemaMismatch, SettingsError, StoreError, StoreUnavailable

#: Execution option of connections for single statements: autocommit on PostgreSQL; on SQLite they only ask, so that
#: they wait for no writer, and no writer for them.
SINGLE_STATEMENTS = "aos_single_statements"
#: PostgreSQL's codes for what may work later: a read-only standby after a failover, a serialisation failure.
_PASSING = ("25006", "40001", "40P01")


def normalised_url(url: str) -> URL:
    """The URL with its driver named: SQLAlchemy 2.1 reads a bare ``postgresql://`` as psycopg 3."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise SettingsError(
            "AOS_DATABASE_URL is not a database URL",
            fix="use postgresql://user:password@host:port/name or sqlite:////absolute/path.db",
        ) from None
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg2")
    if parsed.get_backend_name() not in ("postgresql", "sqlite"):
        raise SettingsError(
            f"AOS_DATABASE_URL names {parsed.get_backend_name()!r}",
            fix="use PostgreSQL (or SQLite for one machine)",
            backend=parsed.get_backend_name(),
        )
    return parsed


def open_database(url: str, *, pool_size: int = 2, overflow: int = 8, application_name: str = "aos") -> Engine:
    """An SQLAlchemy engine for ``url``; connects lazily.

    PostgreSQL sessions carry ``application_name``, so an operator finds them in ``pg_stat_activity``.
    SQLite runs in WAL mode with full synchronisation, and takes its write lock at BEGIN.
    """
    parsed = normalised_url(url)
    if parsed.get_backend_name() == "postgresql":
        engine = create_engine(
            parsed,
            pool_size=pool_size,
            max_overflow=overflow,
            pool_use_lifo=True,
            connect_args={
                "application_name": application_name,
                "connect_timeout": 5,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "options": "-c idle_in_transaction_session_timeout=300000",
            },
        )
        _switch_autocommit(engine)
        return engine
    engine = create_engine(parsed, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in ("busy_timeout=30000", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")
        _enter_wal(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        if not connection.get_execution_options().get(SINGLE_STATEMENTS):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def quick(engine: Engine) -> Engine:
    """The same database for single statements: autocommit on PostgreSQL, readers that lock nothing on SQLite."""
    return engine.execution_options(**{SINGLE_STATEMENTS: True})


def _switch_autocommit(engine: Engine) -> None:
    """``quick`` connections commit each statement; back in the pool they do not.

    Not with SQLAlchemy's ``isolation_level="AUTOCOMMIT"``: resetting that costs a round trip at every check-in,
    one that raises the driver's own error when the connection has died. psycopg2's flag never leaves the process.
    """

    @event.listens_for(engine, "engine_connect")
    def switch_on(connection: Any) -> None:
        if connection.get_execution_options().get(SINGLE_STATEMENTS):
            connection.connection.dbapi_connection.autocommit = True

    @event.listens_for(engine, "checkin")
    def switch_off(connection: Any, _record: Any) -> None:
        if connection is not None and not connection.closed:
            connection.autocommit = False


def _enter_wal(connection: Any) -> None:
    """Two processes that open a new file at once may meet here; SQLite then refuses at once, without waiting."""
    for pause_s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if not pause_s:
                raise
            SystemClock().sleep(pause_s)
        else:
            return


@contextmanager
def in_our_words() -> Iterator[None]:
    """Turn a driver's error into StoreUnavailable, SchemaMismatch or StoreError; no DSN in the message."""
    try:
        yield
    except DBAPIError as error:
        raise translated(error) from error
    except PoolTimeout as error:
        raise pool_exhausted() from error


def pool_exhausted() -> StoreUnavailable:
    """No connection of the pool became free in time."""
    return StoreUnavailable(
        "every database connection of this process is in use", fix="raise AOS_POOL_SIZE or run fewer threads"
    )


def translated(error: DBAPIError) -> StoreError:
    """The driver's error in our words."""
    detail = str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__
    missing = (
        "no such table" in detail
        or "no such column" in detail
        or getattr(error.orig, "pgcode", None)
        in (
            "42P01",
            "42703",
        )
    )
    if missing:
        return SchemaMismatch(
            f"the database's schema is not the one this code speaks: {detail}", fix="run: aos db upgrade"
        )
    is_passing = getattr(error.orig, "pgcode", None) in _PASSING
    if is_passing or is_disconnect(error) or isinstance(error, OperationalError | InterfaceError):
        return StoreUnavailable(
            f"the database cannot do this now: {detail}",
            fix="check that it runs and that AOS_DATABASE_URL is right",
        )
    kind = "refused the statement" if isinstance(error, ProgrammingError) else "refused the data"
    return StoreError(f"the database {kind}: {detail}")


def is_disconnect(error: DBAPIError) -> bool:
    """Did the connection die, so that the outcome of the statement is unknown?"""
    return bool(error.connection_invalidated) or getattr(error.orig, "pgcode", None) in (
        "57P01",
        "57P02",
        "57P03",
        "08006",
        "08003",
    )


class StepSession(Session):
    """``ctx.session``: its rows commit with the step's checkpoint, so the step itself must not commit."""

    def commit(self) -> None:
        raise BadOption(
            "a step must not commit ctx.session: its rows commit with the step's checkpoint",
            fix="remove the commit(); use flush() to see generated keys",
        )
