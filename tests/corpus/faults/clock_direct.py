"""The price follows the time of day."""

import time

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="clock_direct.price")
def price(cents: int) -> int:
    surge = int(time.time() * 1_000_000) % 997  # <- fault
    return cents + surge


flow = Workflow("clock_direct", price.s(500), capture="none")
CASE = Case(cause="wall_clock")
