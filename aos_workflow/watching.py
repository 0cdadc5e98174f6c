"""Waiting for a run to end without asking again and again.

On PostgreSQL the waiter listens on a channel of the run's own, and whoever ends the run
notifies it in a statement after the commit, only if somebody watches: a NOTIFY inside the
checkpoint's transaction would take a global lock. A notice may be lost, so the waiter also
looks now and then. SQLite has no notices: the waiter looks every 10 to 100 ms.
"""

from __future__ import annotations

import select
from typing import Any

from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.clock import monotonic_s
from aos_workflow.database import in_our_words, quick
from aos_workflow.errors import WaitTimeout
from aos_workflow.records import RunStatus

#: The longest a waiter trusts silence, seconds.
LOOK_EVERY_S = 1.0


def channel_of(run_id: str) -> str:
    """The PostgreSQL channel on which the end of a run is announced."""
    return "aos_" + run_id.replace("-", "")


def wait_for_end(store: CheckpointStore, run_id: str, *, timeout_s: float | None) -> RunStatus:
    """Block until the run ends; returns how. Raises WaitTimeout, RunNotFound."""
    deadline_s = None if timeout_s is None else monotonic_s() + timeout_s
    return _listen(store, run_id, deadline_s) if store.is_postgres else _poll(store, run_id, deadline_s)


def _listen(store: CheckpointStore, run_id: str, deadline_s: float | None) -> RunStatus:
    with in_our_words(), quick(store.engine).connect() as connection:
        connection.exec_driver_sql(f'LISTEN "{channel_of(run_id)}"')
        try:
            status = store.watch(run_id)
            while not status.is_terminal:
                _wait_for_notice(connection.connection.dbapi_connection, _left(deadline_s, run_id, status))
                status = store.status(run_id)
            return status
        finally:
            if not connection.invalidated:
                connection.exec_driver_sql("UNLISTEN *")


def _wait_for_notice(driver_connection: Any, patience_s: float) -> None:
    driver_connection.poll()
    if not driver_connection.notifies:
        select.select([driver_connection], [], [], patience_s)
        driver_connection.poll()
    driver_connection.notifies.clear()


def _poll(store: CheckpointStore, run_id: str, deadline_s: float | None) -> RunStatus:
    pause_s = 0.01
    while not (status := store.status(run_id)).is_terminal:
        store.clock.sleep(min(pause_s, _left(deadline_s, run_id, status)))
        pause_s = min(0.1, pause_s * 1.3)
    return status


def _left(deadline_s: float | None, run_id: str, status: RunStatus) -> float:
    left_s = LOOK_EVERY_S if deadline_s is None else deadline_s - monotonic_s()
    if left_s <= 0:
        raise WaitTimeout(
            f"run {run_id} is still {status.value}",
            fix="wait longer, or see what it does: aos runs show " + run_id,
            run_id=run_id,
            status=status.value,
        )
    return min(LOOK_EVERY_S, left_s)
