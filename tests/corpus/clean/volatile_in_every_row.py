"""A pointer with a star: a field of every row."""

import time

from celery import Celery

from aos_workflow import Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="volatile_in_every_row.rows", volatile=("/rows/*/seen_at",))
def rows(count: int) -> dict:
    return {"rows": [{"number": number, "seen_at": time.time_ns()} for number in range(count)]}


flow = Workflow("volatile_in_every_row", rows.s(4), capture="none")
CASE = clean(expected="ignored", served=True)
