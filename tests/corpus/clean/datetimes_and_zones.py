"""Moments that were given, in zones that were named."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="datetimes_and_zones.shift")
def shift(moment: str, hours: int) -> dict:
    start = datetime.fromisoformat(moment)
    end = start + timedelta(hours=hours)
    return {
        "end": end,
        "berlin": end.astimezone(ZoneInfo("Europe/Berlin")).isoformat(),
        "utc": datetime.fromtimestamp(1_700_000_000, UTC),
        "days": (date(2026, 12, 24) - end.date()).days,
    }


flow = Workflow("datetimes_and_zones", shift.s("2026-03-28T22:00:00+00:00", 5))
CASE = clean()
