"""Threads that fill a slot each, or add under a lock."""

import threading

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="threads_joined.count")
def count(parts: list[list[int]]) -> dict:
    slots = [0] * len(parts)
    total, lock = 0, threading.Lock()

    def work(position: int) -> None:
        nonlocal total
        slots[position] = sum(parts[position])
        with lock:
            total += slots[position]

    threads = [threading.Thread(target=work, args=(position,)) for position in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"slots": slots, "total": total}


flow = Workflow("threads_joined", count.s([[1, 2], [3], [4, 5, 6], []]))
CASE = clean()
