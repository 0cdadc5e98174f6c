"""A list made of a set."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="set_listed.tags")
def tags(texts: list[str]) -> list[str]:
    return list({word for text in texts for word in text.split()})  # <- fault


flow = Workflow("set_listed", tags.s(["red pump leaks", "blue door sticks", "the red door is shut", "old green pump"]))
CASE = Case(cause="set_order")
