"""What a worker of this system is better off with. A setting that the app has made is never changed.

Values are Celery's own settings. What is not here is good as Celery has it: results are not kept (no
``result_backend``), only JSON is accepted, and the queues are the app's own business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery

from aos_workflow import broker_guard
from aos_workflow.dispatch import bound_patience
from aos_workflow.settings import Settings

#: Redis acknowledgements stay on (``ack_emulation``): see docs/decisions/0009.
RECOMMENDED: Mapping[str, Any] = {
    # A message is acknowledged when its step has committed, so a killed child's message comes back at once
    # instead of at the next sweep. How often a step may kill its worker is counted in the database.
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    # One message per process: a step that waits behind a long one would wait in no other worker's reach.
    "worker_prefetch_multiplier": 1,
    # A worker whose broker is away waits for it, at its start too, and does not give up after 100 tries.
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # What is under way when the broker goes away is not cancelled: its checkpoint needs no broker.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
}


def configure(app: Celery, settings: Settings) -> Celery:
    """Give the app AOS_BROKER_URL if it is set, and every recommended setting that the app has not made."""
    if settings.broker_url:
        app.conf.broker_url = settings.broker_url
    missing = {name: value for name, value in RECOMMENDED.items() if not app.conf.value_set_for(name)}
    if not app.conf.result_backend and not app.conf.value_set_for("task_ignore_result"):
        missing["task_ignore_result"] = True  # an app with a result backend wants its plain tasks' results
    app.conf.update(missing)
    broker_guard.guard()
    bound_patience(app)
    return app
