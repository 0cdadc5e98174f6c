"""Threads append to one list in whatever order they come."""

import threading
import time

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="race_append_order.crawl")
def crawl(pages: int) -> list[str]:
    seen: list[str] = []

    def visit(page: int) -> None:
        for part in range(8):
            time.sleep(0.0005)
            seen.append(f"{page}/{part}")  # <- fault

    threads = [threading.Thread(target=visit, args=(page,)) for page in range(pages)]
    for thread in threads:
        thread.start()  # <- fault
    for thread in threads:
        thread.join()
    return seen


flow = Workflow("race_append_order", crawl.s(12))
CASE = Case(cause="thread_race")
