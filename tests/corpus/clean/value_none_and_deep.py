"""None, empty containers, deep nesting, large integers, unicode keys."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="value_none_and_deep.nothing")
def nothing() -> None:
    return None


@shared_task(name="value_none_and_deep.deep")
def deep(before: object, depth: int) -> dict:
    value: dict = {"end": [None, [], {}, "", 2**80, -0.5, True]}
    for level in range(depth):
        value = {f"ebene {level} ü": value}
    return value


flow = Workflow("value_none_and_deep", nothing.s() | deep.s(20))
CASE = clean()
