"""The same calls under the default capture: the recording serves them."""

import random

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="random_served.draw")
def draw(people: list[str]) -> dict:
    people = list(people)
    random.shuffle(people)  # <- fault
    return {"order": people, "bonus": random.random(), "table": random.randint(1, 10**6)}  # <- fault


flow = Workflow("random_served", draw.s([f"person {number}" for number in range(12)]))
CASE = Case(cause="unseeded_random", expected="matched")
