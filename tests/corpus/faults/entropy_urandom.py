"""os.urandom makes a token."""

import os

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="entropy_urandom.token")
def token(user: str) -> dict:
    return {"user": user, "tokens": [{"kind": "session", "value": os.urandom(16)}]}  # <- fault


flow = Workflow("entropy_urandom", token.s("ada"), capture="none")
CASE = Case(cause="os_entropy")
