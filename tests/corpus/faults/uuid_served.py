"""uuid.uuid4 under the default capture: served."""

import uuid

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="uuid_served.order")
def order(customer: str) -> dict:
    return {"customer": customer, "number": uuid.uuid4()}  # <- fault


@shared_task(name="uuid_served.confirm")
def confirm(ordered: dict) -> str:
    return f"{ordered['number']} of {ordered['customer']}"


flow = Workflow("uuid_served", order.s("ada") | confirm.s())
CASE = Case(cause="uuid", expected="matched")
