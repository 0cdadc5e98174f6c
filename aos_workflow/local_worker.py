"""LocalWorker: a Celery worker in a thread of this process, on a broker in its memory.

For ``aos dev --inline``: nothing but Python and a SQLite file. The same tasks, messages, claims and sweeps as
in a worker of its own; only the pool is threads, so a step that ends the process ends everything, and Celery's
own time limits do not hold (``timeout_s`` of a step does).

What another process publishes never arrives here, because the broker is in memory. Its runs are
found in the database, by whoever calls ``WorkflowEngine.nudge``, or later by the sweep.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import Celery, beat, signals
from celery.app import trace
from celery.worker import WorkController

log = logging.getLogger("aos_workflow.worker")

HOSTNAME = "inline@localhost"
#: How long a start or an orderly end may take, seconds.
PATIENCE_S = 15.0
#: kombu looks once a second into a queue in memory unless told otherwise; a step would take a second.
POLLING_S = 0.01
#: The longest that the schedule sleeps, and so the longest its end may take, seconds.
BEAT_SLEEP_S = 1.0


def use_memory_broker(app: Celery) -> None:
    """Let the app publish to, and consume from, queues in this process's memory."""
    app.conf.update(
        broker_url="memory://",
        broker_read_url="memory://",
        broker_write_url="memory://",
        broker_transport_options={"polling_interval": POLLING_S},
    )


class LocalWorker:
    """One worker with a pool of ``concurrency`` threads, and a beat for the app's own schedule if it has one."""

    def __init__(self, app: Celery, *, concurrency: int) -> None:
        self._app = app
        self._is_ready = threading.Event()
        # As celery's own program does: threads of the pool begin without a current app, and would find the
        # tasks of Celery's default app, where a @shared_task is no step.
        trace.setup_worker_optimizations(app, HOSTNAME)
        self._controller = WorkController(
            app=app,
            hostname=HOSTNAME,
            pool_cls="threads",
            concurrency=concurrency,
            loglevel="WARNING",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            ready_callback=self._ready,
        )
        self._thread = threading.Thread(target=self._controller.start, name="aos-worker", daemon=True)
        self._beat = beat.Service(app, max_interval=BEAT_SLEEP_S, scheduler_cls=beat.Scheduler)

    def start(self) -> None:
        """Return once it takes messages; raises RuntimeError if it ended instead."""
        self._thread.start()
        while not self._is_ready.wait(0.05):
            if not self._thread.is_alive():
                raise RuntimeError("the worker ended at its start, see its messages")
        if self._app.conf.beat_schedule:
            threading.Thread(target=self._beat.start, name="aos-beat", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Let the steps that are under way end, then end; their successors are left to the next start."""
        signals.worker_shutting_down.send(sender=self._controller.hostname, sig="SIGTERM", how="Warm", exitcode=0)
        self._beat.stop()
        if self._thread.is_alive():
            self._controller.stop()
            self._thread.join(PATIENCE_S)

    def _ready(self, consumer: Any) -> None:
        signals.worker_ready.send(sender=consumer)
        self._is_ready.set()
