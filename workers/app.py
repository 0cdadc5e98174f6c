"""The app of ``celery -A workers.app worker``: the one that AOS_APP names, configured for this system."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning

from aos_workflow import wiring
from aos_workflow.errors import AosError, SettingsError
from beat import schedule
from workers import config


def serve() -> Celery:
    """Load AOS_APP and configure it. Raises SettingsError if that cannot be done."""
    runtime = wiring.runtime()
    if not runtime.settings.app:
        raise SettingsError("AOS_APP is not set", fix="set it to the module with your Celery app")
    served: Celery = runtime.load_app()
    if not getattr(served.Task, "is_step", False):
        raise SettingsError(
            f"the tasks of AOS_APP={runtime.settings.app!r} cannot be steps",
            fix="make the app with: Celery(..., task_cls=WorkflowTask)",
        )
    schedule.install(served)
    return config.configure(served, runtime.settings)


def log_steps(loglevel: int | None = None, **_: Any) -> None:
    """Log every step, one line, also where Celery's own lines about messages are left out."""
    if loglevel == logging.WARNING:
        logging.getLogger("aos_workflow").setLevel(logging.INFO)


def say_ready(sender: Any = None, **_: Any) -> None:
    """One line when the worker takes messages."""
    logging.getLogger("aos_workflow.worker").info("%s is ready", getattr(sender, "hostname", "the worker"))


# Said at every lost connection, about a setting that config.py has made.
warnings.filterwarnings("ignore", r"\s*In Celery 5\.1 we introduced", CPendingDeprecationWarning)
signals.after_setup_logger.connect(log_steps, weak=False)
signals.worker_ready.connect(say_ready, weak=False)
try:
    app = serve()
except AosError as error:
    raise SystemExit(f"aos: {error}") from None
