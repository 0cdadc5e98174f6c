"""A dataclass stamps itself when it is made."""

import time
from dataclasses import dataclass, field

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@dataclass
class Report:
    title: str
    rows: int
    generated_at: float = field(default_factory=time.time)  # <- fault


@shared_task(name="volatile_generated_at.report")
def report(rows: list[int]) -> Report:
    return Report("sums", len(rows))  # <- fault


flow = Workflow("volatile_generated_at", report.s([1, 2, 3]), capture="none")
CASE = Case(cause="volatile_field")
