"""Pure steps with capture switched off."""

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="pure_without_capture.add")
def add(left: int, right: int) -> int:
    return left + right


flow = Workflow("pure_without_capture", add.s(1, 2) | add.s(3), capture="none")
CASE = clean()
