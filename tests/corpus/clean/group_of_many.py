"""Thirty siblings and a step that joins them."""

from celery import Celery, group

from aos_workflow import Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="group_of_many.square")
def square(number: int) -> int:
    return number * number


@step(name="group_of_many.total", joins=True)
def total(numbers: list[int]) -> int:
    return sum(numbers)


flow = Workflow("group_of_many", group(square.s(number) for number in range(30)) | total.s())
CASE = clean()
