"""The ids do not reach the output, but the rows are sorted by them."""

import uuid

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="uuid_decides_the_order.queue")
def queue(jobs: list[str]) -> list[str]:
    waiting = {uuid.uuid4(): job for job in jobs}  # <- fault
    return [waiting[key] for key in sorted(waiting)]


flow = Workflow("uuid_decides_the_order", queue.s([f"job {number}" for number in range(20)]), capture="none")
CASE = Case(cause="uuid")
