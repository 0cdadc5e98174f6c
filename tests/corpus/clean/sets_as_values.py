"""Sets as outputs and inputs: their canonical form has an order."""

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="sets_as_values.tags")
def tags(text: str) -> set[str]:
    return set(text.split())


@app.task(name="sets_as_values.shared")
def shared(tags: set[str], wanted: list[str]) -> frozenset[str]:
    return frozenset(tags & set(wanted))


flow = Workflow("sets_as_values", tags.s("red blue green old new") | shared.s(["blue", "old", "large"]))
CASE = clean()
