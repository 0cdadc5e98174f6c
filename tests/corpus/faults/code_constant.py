"""A constant changed."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, Edit

app = Celery(__name__, task_cls=WorkflowTask)


RATE = 2  # <- fault


@shared_task(name="code_constant.price")
def price(cents: int) -> int:
    return cents * RATE


flow = Workflow("code_constant", price.s(100))
CASE = Case(cause="code_change", edits=(Edit(old="RATE = 2", new="RATE = 3"),))
