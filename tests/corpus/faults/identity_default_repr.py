"""The default repr, with its address, in a message."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


class Rule:
    def __init__(self, limit: int) -> None:
        self.limit = limit

    def allows(self, value: int) -> bool:
        return value <= self.limit


@shared_task(name="identity_default_repr.explain")
def explain(value: int) -> str:
    rule = Rule(10)
    return f"{value} is {'allowed' if rule.allows(value) else 'refused'} by {rule}"  # <- fault


flow = Workflow("identity_default_repr", explain.s(12))
CASE = Case(cause="object_identity")
