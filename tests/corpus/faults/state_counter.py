"""A counter of the module: what it says depends on what this process did before."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


_served = 0


@shared_task(name="state_counter.number")
def number(customer: str) -> str:
    global _served
    _served += 1  # <- fault
    return f"{customer}-{_served}"  # <- fault


flow = Workflow("state_counter", number.s("ada"))
CASE = Case(cause="process_state", runs_before=(None,) * 10)
