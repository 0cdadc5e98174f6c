"""The process id in the middle of a chain of four."""

import os

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="state_pid.one")
def one(number: int) -> int:
    return number + 1


@shared_task(name="state_pid.two")
def two(number: int) -> int:
    return number * 2


@shared_task(name="state_pid.three")
def three(number: int) -> list[int]:
    return [number, os.getpid()]  # <- fault


@shared_task(name="state_pid.four")
def four(numbers: list[int]) -> int:
    return sum(numbers)


flow = Workflow("state_pid", one.s(1) | two.s() | three.s() | four.s())
CASE = Case(cause="process_state")
