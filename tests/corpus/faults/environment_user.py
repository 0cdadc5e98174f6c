"""The name of the user who runs the worker."""

import getpass

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="environment_user.approve")
def approve(order: int) -> dict:
    return {"order": order, "approved": {"by": getpass.getuser()}}  # <- fault


flow = Workflow("environment_user", approve.s(7))
CASE = Case(cause="environment")
