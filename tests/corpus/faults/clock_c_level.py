"""clock_gettime, which few think of."""

import time

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="clock_c_level.lease")
def lease(seconds: int) -> dict:
    return {"owner": "a", "until": time.clock_gettime(time.CLOCK_REALTIME) + seconds}  # <- fault


flow = Workflow("clock_c_level", lease.s(60), capture="none")
CASE = Case(cause="wall_clock")
