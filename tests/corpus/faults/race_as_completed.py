"""as_completed gives the results in the order in which they were ready."""

import time
from concurrent.futures import ThreadPoolExecutor, as_completed

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


def fetched(number: int) -> int:
    for _ in range(3):
        time.sleep(0.0005)
    return number


@shared_task(name="race_as_completed.fetch")
def fetch(count: int) -> dict:
    with ThreadPoolExecutor(max_workers=8) as pool:
        futures = [pool.submit(fetched, number) for number in range(count)]
        return {"order": [future.result() for future in as_completed(futures)]}  # <- fault


flow = Workflow("race_as_completed", fetch.s(80))
CASE = Case(cause="thread_race")
