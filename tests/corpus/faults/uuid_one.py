"""uuid1: host and time in one number."""

import uuid

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="uuid_one.event")
def event(kind: str) -> dict:
    return {"kind": kind, "key": uuid.uuid1().hex}  # <- fault


flow = Workflow("uuid_one", event.s("sold"), capture="none")
CASE = Case(cause="uuid", also=("wall_clock",))
