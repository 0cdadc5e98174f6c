"""numpy through ctx.numpy_random, and a generator seeded by the context."""

import numpy as np
from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="seeded_numpy.simulate")
def simulate(ctx: StepContext, days: int) -> dict:
    demand = ctx.numpy_random.normal(100, 15, size=days)
    rain = np.random.default_rng(ctx.seed).random(days)
    return {"demand": demand, "rain": [float(value) for value in rain], "mean": float(demand.mean())}


flow = Workflow("seeded_numpy", simulate.s(7))
CASE = clean()
