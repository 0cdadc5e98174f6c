"""The workflow declares a nested field of any of its steps."""

import time
import uuid

from celery import Celery, group, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="volatile_on_workflow.answer")
def answer(number: int) -> dict:
    return {"answer": number * 2, "meta": {"request_id": str(uuid.uuid4()), "at": time.time()}}


flow = Workflow(
    "volatile_on_workflow", group(answer.s(1), answer.s(2)), capture="none", volatile=("/meta/request_id", "/meta/at")
)
CASE = clean(expected="ignored", served=True)
