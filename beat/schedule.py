"""The schedule: what beat starts by itself, for every app it serves.

aos-sweep    every ``AOS_SWEEP_EVERY_S`` seconds    ``aos.sweep``, see aos_workflow/maintenance.py
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery import Celery
from celery.schedules import schedule as Interval

from aos_workflow import wiring
from aos_workflow.maintenance import SWEEP

SCHEDULER = "beat.scheduler:LeaseScheduler"
_CELERYS_OWN = "celery.beat:PersistentScheduler"


class Pulse(Interval):  # type: ignore[misc]
    """An interval whose message only says "now": worthless later, and no better twice.

    So it is not sent into a queue where ``most_waiting`` messages wait already. They would delay it beyond
    its expiry, and with no worker there a weekend of pulses would pile up for the first one to wade through.
    """

    most_waiting = 16


def entries(*, sweep_every_s: float) -> dict[str, dict[str, Any]]:
    """What ``beat_schedule`` gets: name -> entry."""
    return {
        "aos-sweep": {
            "task": SWEEP,
            "schedule": Pulse(timedelta(seconds=sweep_every_s)),
            "options": {"expires": sweep_every_s, "ignore_result": True},
        },
    }


def install(app: Celery) -> None:
    """Add these entries to the app's ``beat_schedule``, and let ``celery beat`` use our scheduler.

    An entry of the same name that the app has already is kept, and so is a scheduler it has chosen.
    """
    own = entries(sweep_every_s=wiring.runtime().settings.sweep_every_s)
    app.conf.beat_schedule = {**own, **app.conf.beat_schedule}
    if app.conf.beat_scheduler == _CELERYS_OWN:
        app.conf.beat_scheduler = SCHEDULER
