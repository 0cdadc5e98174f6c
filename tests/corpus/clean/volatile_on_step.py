"""The step declares the field that tells how long it took."""

import time

from celery import Celery

from aos_workflow import Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="volatile_on_step.total", volatile=("/duration_ms",))
def total(values: list[int]) -> dict:
    started = time.perf_counter()
    answer = sum(values)
    return {"total": answer, "duration_ms": (time.perf_counter() - started) * 1000}


flow = Workflow("volatile_on_step", total.s([1, 2, 3]), capture="none")
CASE = clean(expected="ignored", served=True)
