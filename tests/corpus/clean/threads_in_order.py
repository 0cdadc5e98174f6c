"""A pool of threads whose results are taken in the order in which they were asked for."""

import time
from concurrent.futures import ThreadPoolExecutor

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


def slow_square(number: int) -> int:
    time.sleep(0.001 * (number % 3))
    return number * number


@app.task(name="threads_in_order.squares")
def squares(numbers: list[int]) -> list[int]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(slow_square, numbers))


flow = Workflow("threads_in_order", squares.s(list(range(12))))
CASE = clean()
