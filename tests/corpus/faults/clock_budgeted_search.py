"""A search that stops when its time is up, so its answer depends on the machine."""

import time

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="clock_budgeted_search.search")
def search(budget_ms: int) -> int:
    best, candidate = 0, 1
    deadline = time.monotonic() + budget_ms / 1000  # <- fault
    while time.monotonic() < deadline:  # <- fault
        candidate = candidate * 48271 % 2147483647
        best += candidate % 2 + 1
    return best


flow = Workflow("clock_budgeted_search", search.s(20), capture="none")
CASE = Case(cause="wall_clock")
