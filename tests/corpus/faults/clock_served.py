"""Module functions of time and datetime under the default capture: served."""

import time
from datetime import UTC, datetime

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="clock_served.stamp")
def stamp(text: str) -> dict:
    return {"text": text, "at": time.time(), "day": datetime.now(UTC).isoformat()}  # <- fault


flow = Workflow("clock_served", stamp.s("hello"))
CASE = Case(cause="wall_clock", expected="matched")
