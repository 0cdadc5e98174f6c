"""Generators, itertools and comprehensions."""

import itertools

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


def windows(values: list[int], size: int):
    for position in range(len(values) - size + 1):
        yield values[position : position + size]


@shared_task(name="generators.smooth")
def smooth(values: list[int]) -> dict:
    means = [sum(window) / len(window) for window in windows(values, 3)]
    runs = [[key, len(list(group))] for key, group in itertools.groupby(value > 5 for value in values)]
    return {"means": means, "runs": runs, "pairs": list(itertools.pairwise(values))[:3]}


flow = Workflow("generators", smooth.s([1, 5, 9, 8, 2, 7]))
CASE = clean()
