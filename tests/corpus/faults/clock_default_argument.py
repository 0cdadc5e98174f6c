"""The time of the import as a default argument."""

import time

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


def age_s(born: float, now: float = time.time()) -> float:  # <- fault
    return now - born


@shared_task(name="clock_default_argument.ages")
def ages(births: list[float]) -> list[float]:
    return [age_s(born) for born in births]


flow = Workflow("clock_default_argument", ages.s([1_700_000_000.0, 1_710_000_000.0]))
CASE = Case(cause="wall_clock", notes="default capture: bound before any step")
