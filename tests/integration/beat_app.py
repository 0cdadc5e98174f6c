"""The app whose schedule the beats of test_beat.py keep: its entries, and a host with a wrong clock, by environment.

BEAT_APP        the app's name: beats of the same name compete
BEAT_QUEUE      where the messages go; nobody takes them from there
BEAT_ENTRIES    JSON: name -> {"every": seconds, further keys of a beat_schedule entry}
BEAT_CLOCK_S    what the clock of this host shows, seconds ahead of the truth
BEAT_SWEEPS     if set, our own schedule is installed as well
"""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timedelta

from celery import Celery

from aos_workflow import WorkflowTask
from beat import schedule

AHEAD_S = float(os.environ.get("BEAT_CLOCK_S", "0"))


class WrongClock(Celery):  # type: ignore[misc]
    """An app on a host whose clock is wrong: Celery asks its app for the time."""

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=AHEAD_S)  # type: ignore[no-any-return]


if AHEAD_S:
    true_time = time.time
    time.time = lambda: true_time() + AHEAD_S

app = WrongClock(os.environ.get("BEAT_APP", "beat"), task_cls=WorkflowTask)
app.conf.task_default_queue = os.environ.get("BEAT_QUEUE", "celery")
app.conf.broker_connection_retry_on_startup = True
app.conf.beat_schedule = {
    name: {"task": "job", "schedule": entry.pop("every"), **entry}
    for name, entry in json.loads(os.environ.get("BEAT_ENTRIES", "{}")).items()
}
if os.environ.get("BEAT_SWEEPS"):
    schedule.install(app)
