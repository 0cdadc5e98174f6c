"""A workflow whose shape depends on its inputs."""

from celery import Celery, group, shared_task

from aos_workflow import Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="shape_from_inputs.price")
def price(item: dict) -> int:
    return item["cents"] * item["count"]


@step(name="shape_from_inputs.total", joins=True)
def total(cents: list[int]) -> int:
    return sum(cents)


def shape(items: list[dict]):
    return group(price.s(item) for item in items) | total.s()


flow = Workflow("shape_from_inputs", shape)
CASE = clean(inputs={"items": [{"cents": 250, "count": 2}, {"cents": 99, "count": 1}]})
