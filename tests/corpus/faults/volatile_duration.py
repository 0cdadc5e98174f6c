"""The answer is equal; how long it took stands beside it."""

import time

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="volatile_duration.total")
def total(values: list[int]) -> dict[str, float]:
    started = time.perf_counter()  # <- fault
    answer = sum(value * value for value in values)
    return {
        "total": answer,
        "duration_ms": (time.perf_counter() - started) * 1000,  # <- fault
    }


flow = Workflow("volatile_duration", total.s(list(range(1000))), capture="none")
CASE = Case(cause="volatile_field")
