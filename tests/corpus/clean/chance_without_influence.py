"""A random pivot: another path, the same answer."""

import random

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


def quicksorted(values: list[int]) -> list[int]:
    if len(values) < 2:
        return values
    pivot = random.choice(values)
    left = [value for value in values if value < pivot]
    right = [value for value in values if value > pivot]
    return quicksorted(left) + [value for value in values if value == pivot] + quicksorted(right)


@shared_task(name="chance_without_influence.sort")
def sort(values: list[int]) -> list[int]:
    return quicksorted(values)


flow = Workflow("chance_without_influence", sort.s([5, 3, 9, 3, 1, 8, 7, 2, 6]), capture="none")
CASE = clean()
