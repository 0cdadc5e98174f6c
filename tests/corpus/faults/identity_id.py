"""id() as a key."""

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


class Customer:
    def __init__(self, name: str) -> None:
        self.name = name


@app.task(name="identity_id.keyed")
def keyed(names: list[str]) -> list[list]:
    customers = [Customer(name) for name in names]
    return [[id(customer), customer.name] for customer in customers]  # <- fault


flow = Workflow("identity_id", keyed.s(["ada", "grace"]))
CASE = Case(cause="object_identity")
