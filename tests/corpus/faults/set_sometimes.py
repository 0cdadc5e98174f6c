"""Two members only: under half of all hash seeds their order is the recorded one."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="set_sometimes.pair")
def pair(left: str, right: str) -> list[str]:
    return list({left, right})  # <- fault


flow = Workflow("set_sometimes", pair.s("yes", "no"))
CASE = Case(cause="set_order", expected="either", sometimes=True)
