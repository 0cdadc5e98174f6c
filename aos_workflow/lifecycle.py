"""A Celery worker's life, as far as the engine is concerned.

It lives in the package and not in ``workers/``, so that ``celery -A yourapp worker`` has it too.

    worker_init            the schema is checked before the first message
    worker_ready           the caretaker starts in the worker's main process
    worker_shutting_down   no further local step is started in place
    worker_process_shutdown, worker_shutdown    the process says goodbye

The caretaker is one thread: it buries dead neighbours and sweeps, in turns with the whole
fleet. So a fleet recovers by itself, with or without a beat.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import signals

from aos_workflow import broker_guard, fork_gate, maintenance, wiring
from aos_workflow.canvas import serves_workflows
from aos_workflow.determinism import ambient
from aos_workflow.errors import AosError

log = logging.getLogger("aos_workflow.fleet")


class Caretaker:
    """Buries and sweeps in the background. ``every_s``: the fleet's interval between two sweeps."""

    def __init__(self, runtime: Any, app: Any, *, every_s: float) -> None:
        self._runtime = runtime
        self._app = app
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aos-caretaker", daemon=True)

    def start(self) -> Caretaker:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.is_set():
            # The main process forks a child for each that died, which is just when there is something to do here.
            with fork_gate.busy():
                self._take_turn()
            self._stop.wait(self._every_s)

    def _take_turn(self) -> None:
        self._app.set_current()
        try:
            maintenance.take_turn(self._runtime, every_s=self._every_s)
        except AosError as error:
            log.warning("the caretaker will try again: %s", error)
        except Exception:
            log.exception("the caretaker failed and will try again")


_caretakers: list[Caretaker] = []


def _check(sender: Any = None, **_: Any) -> None:
    app = getattr(sender, "app", None)
    if app is None or not serves_workflows(app):
        return
    broker_guard.guard()
    try:
        runtime = wiring.runtime()
        runtime.kind = "worker"
        if runtime.has_shared_store:
            runtime.store.check_schema()
            ambient.install()  # once, before the pool forks
        else:
            log.warning("AOS_DATABASE_URL is not set: this worker performs plain tasks only, no steps of workflows")
    except AosError as error:
        raise SystemExit(f"aos: {error}") from None


def _take_care(sender: Any = None, **_: Any) -> None:
    app = getattr(sender, "app", None)
    if app is not None and serves_workflows(app):
        runtime = wiring.runtime()
        if runtime.has_shared_store:
            _caretakers.append(Caretaker(runtime, app, every_s=runtime.settings.sweep_every_s).start())
            if not runtime.settings.signs_goldens:  # said here, because before a worker is ready its log is not
                log.info("GOLDEN_HMAC_SECRET is not set: finished runs leave no golden")


def _drain(**_: Any) -> None:
    runtime = wiring.runtime()
    if runtime.has_shared_store:
        runtime.executor.draining = True


def _goodbye(**_: Any) -> None:
    while _caretakers:
        _caretakers.pop().stop()
    wiring.runtime().say_goodbye()


def _new_child(**_: Any) -> None:
    wiring.runtime().kind = "worker"


def _goodbye_of_child(**_: Any) -> None:
    wiring.runtime().say_goodbye()


def attend() -> None:
    """Connect to Celery's signals; doing it again changes nothing."""
    signals.worker_init.connect(_check, weak=False, dispatch_uid="aos")
    signals.worker_ready.connect(_take_care, weak=False, dispatch_uid="aos")
    signals.worker_shutting_down.connect(_drain, weak=False, dispatch_uid="aos")
    signals.worker_shutdown.connect(_goodbye, weak=False, dispatch_uid="aos")
    signals.worker_process_init.connect(_new_child, weak=False, dispatch_uid="aos")
    signals.worker_process_shutdown.connect(_goodbye_of_child, weak=False, dispatch_uid="aos")
