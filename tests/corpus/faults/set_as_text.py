"""str() of a set in a message."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="set_as_text.missing")
def missing(wanted: list[str], there: list[str]) -> str:
    return f"missing: {set(wanted) - set(there)}"  # <- fault


flow = Workflow("set_as_text", missing.s([f"part-{letter}" for letter in "abcdefghij"], ["part-c"]))
CASE = Case(cause="set_order")
