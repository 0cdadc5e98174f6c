"""Objects without a hash of their own stand in a set in the order of their addresses."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


class Node:
    def __init__(self, number: int) -> None:
        self.number = number


@shared_task(name="identity_set_of_objects.visit")
def visit(count: int) -> list[int]:
    nodes = {Node(number) for number in range(count)}
    return [node.number for node in nodes][:40]  # <- fault


flow = Workflow("identity_set_of_objects", visit.s(20_000))
CASE = Case(cause="object_identity", also=("set_order",))
