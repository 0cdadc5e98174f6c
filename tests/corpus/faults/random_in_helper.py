"""A helper in another module draws."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

from . import _random_jitter

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="random_in_helper.schedule")
def schedule(delays: list[float]) -> list[float]:
    return [_random_jitter.with_jitter(delay) for delay in delays]


flow = Workflow("random_in_helper", schedule.s([1.0, 2.0, 4.0]), capture="none")
CASE = Case(cause="unseeded_random", files=("_random_jitter.py",))
