"""Fleet: which worker processes are alive, and whose turn a periodic job is.

Liveness is one heartbeat row per process, not per step. Death is noticed three ways, the
fastest first: a neighbour on the same machine sees that the process is gone; the process
said goodbye; its heartbeat is older than the time to live.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from aos_workflow import statements_postgres
from aos_workflow.clock import Clock, SystemClock
from aos_workflow.database import in_our_words
from aos_workflow.records import WorkerProcess
from aos_workflow.schema import attempts, runs, ticks, workers

#: Rows of processes that stopped longer ago than this are deleted, seconds.
FORGET_AFTER_S = 86_400.0


@cache
def this_host() -> str:
    """Machine, boot and pid namespace: two processes with the same text see the same pids."""
    parts = [socket.gethostname()]
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.exists() and namespace.is_symlink():
        parts += [boot.read_text(encoding="ascii").strip()[:8], os.readlink(namespace)]
    return "/".join(parts)


class Fleet:
    """The ``workers`` and ``ticks`` tables. ``ttl_s``: no heartbeat for this long means dead."""

    def __init__(self, engine: Engine, *, clock: Clock | None = None, ttl_s: float = 5.0) -> None:
        self.engine = engine
        self.clock = clock or SystemClock()
        self.ttl_s = ttl_s
        self._is_postgres = engine.dialect.name == "postgresql"

    def join(self, worker: WorkerProcess) -> None:
        """Register a process; its first heartbeat."""
        with self._transaction() as (connection, now):
            connection.execute(
                insert(workers).values(
                    id=worker.id, kind=worker.kind, host=worker.host, pid=worker.pid, parent_id=worker.parent_id,
                    started_at=now, heartbeat_at=now,
                )
            )  # fmt: skip

    def beat(self, worker: WorkerProcess) -> None:
        """One heartbeat; a process whose row was removed meanwhile registers again."""
        with self._transaction() as (connection, now):
            beaten = connection.execute(
                update(workers).where(workers.c.id == worker.id).values(heartbeat_at=now, stopped_at=None)
            )
        if not beaten.rowcount:
            self.join(worker)

    def leave(self, worker_id: str) -> None:
        """The process stops now, or is known to be dead: its running steps may be taken over at once."""
        with self._transaction() as (connection, now):
            connection.execute(
                update(workers).where(workers.c.id == worker_id, workers.c.stopped_at.is_(None)).values(stopped_at=now)
            )
            self._wake(connection, [worker_id], now)

    def bury(self, host: str, is_running: Any) -> list[str]:
        """Report dead processes: neighbours on ``host`` that are gone, and any whose heartbeat is too old.

        ``is_running(pid)`` is asked about neighbours only. Returns the ids that died; the runs
        they were busy with are due for the sweep at once.
        """
        with self._transaction() as (connection, now):
            alive = connection.execute(select(workers).where(workers.c.stopped_at.is_(None))).mappings().all()
            dead = [
                row["id"]
                for row in alive
                if row["heartbeat_at"] < now - self.ttl_s or (row["host"] == host and not is_running(row["pid"]))
            ]
            if dead:
                connection.execute(update(workers).where(workers.c.id.in_(dead)).values(stopped_at=now))
                self._wake(connection, dead, now)
            connection.execute(workers.delete().where(workers.c.stopped_at < now - FORGET_AFTER_S))
        return dead

    def alive(self) -> list[Mapping[str, Any]]:
        """The rows of the processes that are alive."""
        with self._transaction() as (connection, now):
            statement = select(workers).where(workers.c.stopped_at.is_(None), workers.c.heartbeat_at > now - self.ttl_s)
            return [dict(row) for row in connection.execute(statement).mappings()]

    def take_turn(self, name: str, every_s: float) -> bool:
        """True for one caller per ``every_s`` seconds, however many ask: the others come too late."""
        dialect = postgresql if self._is_postgres else sqlite
        with self._transaction() as (connection, now):
            first = connection.execute(dialect.insert(ticks).values(name=name, last_at=now).on_conflict_do_nothing())
            if first.rowcount > 0:
                return True
            turn = connection.execute(
                update(ticks).where(ticks.c.name == name, ticks.c.last_at <= now - every_s).values(last_at=now)
            )
            return bool(turn.rowcount)

    @staticmethod
    def _wake(connection: Connection, worker_ids: list[str], now: float) -> None:
        busy = select(attempts.c.run_id).where(attempts.c.worker_id.in_(worker_ids), attempts.c.state == "running")
        connection.execute(update(runs).where(runs.c.id.in_(busy), runs.c.wake_at > now).values(wake_at=now))

    @contextmanager
    def _transaction(self) -> Iterator[tuple[Connection, float]]:
        """A transaction and the time in it; heartbeats and turns need no fsync."""
        with in_our_words(), self.engine.begin() as connection:
            if self._is_postgres:
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                yield connection, statements_postgres.now(connection)
            else:
                yield connection, self.clock.now()
