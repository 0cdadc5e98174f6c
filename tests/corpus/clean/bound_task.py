"""A bound task that looks at its own name."""

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="bound_task.who", bind=True)
def who(self, text: str) -> str:
    return f"{self.name}: {text}"


flow = Workflow("bound_task", who.s("here"))
CASE = clean()
