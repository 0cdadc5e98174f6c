"""Untouched uuid.uuid4 under the default capture, in a group."""

import uuid

from celery import Celery, group

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="captured_uuid.name")
def name(stem: str) -> str:
    return f"{stem}-{uuid.uuid4()}"


flow = Workflow("captured_uuid", group(name.s(stem) for stem in "abc"))
CASE = clean(served=True)
