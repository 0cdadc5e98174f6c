"""uuid4 as the order's number."""

import uuid

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="uuid_direct.order")
def order(customer: str) -> dict:
    return {"customer": customer, "number": str(uuid.uuid4())}  # <- fault


flow = Workflow("uuid_direct", order.s("ada"), capture="none")
CASE = Case(cause="uuid")
