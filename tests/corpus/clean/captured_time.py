"""Untouched calls of time.time and datetime.now under the default capture."""

import time
from datetime import UTC, datetime

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="captured_time.stamp")
def stamp(text: str) -> dict:
    return {"text": text, "s": time.time(), "at": datetime.now(tz=UTC), "hour": datetime.now(UTC).hour}


@shared_task(name="captured_time.age")
def age(stamped: dict) -> bool:
    return time.time() >= stamped["s"]


flow = Workflow("captured_time", stamp.s("x") | age.s())
CASE = clean(served=True)
