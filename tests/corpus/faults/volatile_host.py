"""The output says which host made it."""

import os

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="volatile_host.classify")
def classify(text: str) -> dict:
    label = "urgent" if "leak" in text else "normal"
    return {"label": label, "host": os.environ.get("HOSTNAME", "unknown")}  # <- fault


flow = Workflow("volatile_host", classify.s("a leak in the cellar"))
CASE = Case(cause="volatile_field")
