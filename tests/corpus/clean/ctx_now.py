"""The run's logical time, formatted and compared."""

from datetime import timedelta

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="ctx_now.due")
def due(ctx: StepContext, days: int) -> dict:
    return {"now": ctx.now, "due": (ctx.now + timedelta(days=days)).date().isoformat()}


flow = Workflow("ctx_now", due.s(14))
CASE = clean()
