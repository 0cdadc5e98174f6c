"""time.localtime of a given moment, in the third of four steps."""

import time

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="environment_localtime.parse")
def parse(text: str) -> list[int]:
    return [int(part) for part in text.split()]


@shared_task(name="environment_localtime.latest")
def latest(moments: list[int]) -> int:
    return max(moments)


@shared_task(name="environment_localtime.shift")
def shift(moment: int) -> dict:
    return {"moment": moment, "hour": time.localtime(moment).tm_hour}  # <- fault


@shared_task(name="environment_localtime.name")
def name(shifted: dict) -> str:
    return "night" if shifted["hour"] < 6 else "day"


flow = Workflow("environment_localtime", parse.s("1700000000 1690000000") | latest.s() | shift.s() | name.s())
CASE = Case(cause="environment")
