"""A dataclass whose key is drawn when it is made."""

import uuid
from dataclasses import dataclass, field

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@dataclass
class Row:
    value: int
    key: uuid.UUID = field(default_factory=uuid.uuid4)  # <- fault


@app.task(name="uuid_default_factory.rows")
def rows(count: int) -> list[Row]:
    return [Row(value) for value in range(count)]  # <- fault


flow = Workflow("uuid_default_factory", rows.s(3), capture="none")
CASE = Case(cause="uuid")
