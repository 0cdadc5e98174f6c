"""Each of 20 members asks whether the millisecond is odd."""

import time

from celery import Celery, group, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="clock_sometimes.side")
def side(number: int) -> str:
    is_odd = time.time_ns() // 1000 % 2  # <- fault
    return f"{number} {'left' if is_odd else 'right'}"


flow = Workflow("clock_sometimes", group(side.s(number) for number in range(20)), capture="none")
CASE = Case(cause="wall_clock")
