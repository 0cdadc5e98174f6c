"""Lease: which of several beats leads.

    LockLease     PostgreSQL: a session's advisory lock. The server itself releases it when the leader's
                  connection ends, so the next beat leads a second after a SIGKILL
    FleetLease    SQLite, or a connection pooler, which lends its sessions to anyone: the beat that has been
                  in the fleet longest. A killed neighbour is noticed at once, a silent host after the time to live

The lease saves double work. That no slot is taken twice does not depend on it, see book.py.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol

from sqlalchemy import Connection

from aos_workflow.database import in_our_words
from aos_workflow.fleet import Fleet, this_host
from aos_workflow.membership import Membership, is_running

log = logging.getLogger("aos_workflow.beat")

KIND = "beat"
#: The server ends the session of a leader that has not spoken for so long: frozen, or its host is gone.
SILENCE = "5s"


class Lease(Protocol):
    """Says whether this beat leads, and lends the connection on which a leader writes."""

    def is_held(self) -> bool:
        """Does this beat lead now? Takes the lead if nobody has it."""

    def transaction(self) -> AbstractContextManager[tuple[Connection, float]]:
        """A transaction and the database's time in it; the lease is given up when it fails."""

    def release(self) -> None:
        """Let another beat lead, if there is one."""

    def close(self) -> None:
        """Release it, and the connection."""


def open_lease(store: Any, fleet: Fleet, member: Membership, *, name: str) -> Lease:
    """The lease that fits the database. ``name``: beats of the same name compete."""
    if store.is_postgres:
        lock = LockLease(store, name=name, holder=member.id())
        if not lock.is_pooled():
            return lock
        lock.close()
        log.info("a connection pooler is in the way of session locks: the beat longest in the fleet leads")
    return FleetLease(store, fleet, member)


class LockLease:
    """An advisory lock of one session on a connection of its own."""

    def __init__(self, store: Any, *, name: str, holder: str) -> None:
        self._store = store
        self._key = int.from_bytes(hashlib.sha256(f"aos beat {name}".encode()).digest()[:8], signed=True)
        self._holder = holder
        self._connection: Connection | None = None
        self._is_held = False

    def is_held(self) -> bool:
        if self._is_held:
            return True  # until a statement fails: this connection is what holds it
        with self.transaction() as (connection, _):
            taken = connection.exec_driver_sql("SELECT pg_try_advisory_lock(%(key)s)", {"key": self._key})
            self._is_held = bool(taken.scalar_one())
        return self._is_held

    def is_pooled(self) -> bool:
        """Does a pooler stand between? It names a pid of its own to the client, not the server's."""
        with self.transaction() as (connection, _):
            servers = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            driver: Any = connection.connection.dbapi_connection
            return bool(driver.info.backend_pid != servers)

    @contextmanager
    def transaction(self) -> Iterator[tuple[Connection, float]]:
        try:
            with in_our_words():
                if self._connection is None:
                    self._connection = self._connect()
                with self._connection.begin():
                    yield self._connection, self._store.now(self._connection)
        except BaseException:
            self.close()
            raise

    def release(self) -> None:
        if self._is_held:
            self._is_held = False
            with self.transaction() as (connection, _):
                connection.exec_driver_sql("SELECT pg_advisory_unlock(%(key)s)", {"key": self._key})

    def close(self) -> None:
        connection, self._connection, self._is_held = self._connection, None, False
        if connection is not None:
            with suppress(Exception):  # a connection that is broken already is as good as closed
                connection.close()

    def _connect(self) -> Connection:
        connection = self._store.engine.connect()
        connection.detach()  # closing it ends the session, instead of giving it back to the pool
        with connection.begin():
            connection.exec_driver_sql(
                "SELECT set_config('application_name', %(name)s, false)", {"name": f"aos beat {self._holder}"}
            )
            connection.exec_driver_sql(  # by way of pg_settings, because PostgreSQL 13 has only one of the two
                "SELECT set_config(name, %(silence)s, false) FROM pg_settings"
                " WHERE name IN ('idle_session_timeout', 'idle_in_transaction_session_timeout')",
                {"silence": SILENCE},
            )
        return connection  # type: ignore[no-any-return]


class FleetLease:
    """Seniority: of the beats that are alive the one that joined the fleet first. Keeps no connection."""

    def __init__(self, store: Any, fleet: Fleet, member: Membership) -> None:
        self._store = store
        self._fleet = fleet
        self._member = member

    def is_held(self) -> bool:
        beats = [row for row in self._fleet.alive() if row["kind"] == KIND and not _is_dead_neighbour(row)]
        eldest = min(beats, key=lambda row: (row["started_at"], row["id"]), default=None)
        return eldest is not None and eldest["id"] == self._member.id()

    @contextmanager
    def transaction(self) -> Iterator[tuple[Connection, float]]:
        with in_our_words(), self._store.engine.begin() as connection:
            yield connection, self._store.now(connection)

    def release(self) -> None:
        """Seniority cannot be handed over: the leader goes on trying."""

    def close(self) -> None:
        """There is nothing to close; leaving the fleet gives up the lead."""


def _is_dead_neighbour(row: Any) -> bool:
    return row["host"] == this_host() and not is_running(row["pid"])
