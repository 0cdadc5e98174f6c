"""A generator made at import, unseeded, shared by all steps of the module."""

import random

from celery import Celery, group

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


CHANCE = random.Random()  # <- fault


@app.task(name="random_module_generator.bid")
def bid(limit: int) -> int:
    return CHANCE.randint(1, limit)  # <- fault


flow = Workflow("random_module_generator", group(bid.s(10**6), bid.s(10**6)))
CASE = Case(cause="unseeded_random", notes="default capture: made at import, before any step")
