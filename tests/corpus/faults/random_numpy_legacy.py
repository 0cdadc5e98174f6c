"""numpy's global generator, in nested data."""

import numpy as np
from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="random_numpy_legacy.simulate")
def simulate(days: int) -> dict:
    demand = np.random.normal(100, 15, size=days)  # <- fault
    return {"days": days, "forecast": {"demand": [round(float(value), 6) for value in demand], "unit": "crates"}}


flow = Workflow("random_numpy_legacy", simulate.s(5), capture="none")
CASE = Case(cause="unseeded_random")
