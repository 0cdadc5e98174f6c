"""The key for an external service is part of the recording."""

import hashlib

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="ctx_idempotency_key.pay")
def pay(ctx: StepContext, cents: int) -> dict:
    return {"cents": cents, "reference": hashlib.sha256(ctx.idempotency_key.encode()).hexdigest()[:12]}


flow = Workflow("ctx_idempotency_key", pay.s(100))
CASE = clean(served=True, notes="the run's id is part of the key: another run has another one")
