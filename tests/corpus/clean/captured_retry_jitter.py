"""Untouched helper that waits for a random while before it tries again."""

import random
import time

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


def attempts_until(success_at: int) -> list[float]:
    waits = []
    for attempt in range(success_at):
        waits.append(round(random.uniform(0, 0.001) * 2**attempt, 6))
        time.sleep(waits[-1])
    return waits


@shared_task(name="captured_retry_jitter.call")
def call(success_at: int) -> list[float]:
    return attempts_until(success_at)


flow = Workflow("captured_retry_jitter", call.s(4))
CASE = clean(served=True)
