"""Untouched calls of random under the default capture."""

import random

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="captured_random.draw")
def draw(people: list[str]) -> dict:
    order = random.sample(people, len(people))
    return {"order": order, "pin": f"{random.randrange(10_000):04d}", "weight": random.gauss(70, 10)}


flow = Workflow("captured_random", draw.s([f"p{number}" for number in range(20)]))
CASE = clean(served=True)
