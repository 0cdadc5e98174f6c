"""A fixed moment shown in the machine's time zone."""

from datetime import datetime

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="environment_time_zone.opening")
def opening(moments: list[int]) -> list[str]:
    return [datetime.fromtimestamp(moment).strftime("%d %H:%M") for moment in moments]  # <- fault


flow = Workflow("environment_time_zone", opening.s([1_700_000_000, 1_720_000_000]))
CASE = Case(cause="environment")
