"""Ids from ctx.uuid."""

from celery import Celery, group

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="ctx_uuid.order")
def order(ctx: StepContext, customer: str) -> dict:
    return {"customer": customer, "number": str(ctx.uuid()), "lines": [ctx.uuid() for _ in range(3)]}


flow = Workflow("ctx_uuid", group(order.s("ada"), order.s("grace")))
CASE = clean()
