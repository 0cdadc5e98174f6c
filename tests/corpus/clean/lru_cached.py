"""A cache of a pure function, used by more than one run of the process."""

from functools import cache

from celery import Celery, group, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@cache
def fibonacci(number: int) -> int:
    return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)


@cache
def factors(number: int) -> tuple[int, ...]:
    return tuple(divisor for divisor in range(1, number + 1) if number % divisor == 0)


@shared_task(name="lru_cached.compute")
def compute(number: int) -> dict:
    return {"fibonacci": fibonacci(number), "factors": factors(number)}


flow = Workflow("lru_cached", group(compute.s(60), compute.s(48)))
CASE = clean(runs_before=(None, None))
