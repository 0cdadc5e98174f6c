"""numpy's generator seeded with the process id instead of ctx.seed."""

import os

import numpy as np
from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="seed_pid_numpy.noise")
def noise(ctx: StepContext, level: float) -> list[float]:
    ctx.log.info("noise at %s", level)
    generator = np.random.default_rng(os.getpid())  # <- fault
    return [round(float(value), 9) for value in generator.normal(scale=level, size=3)]


flow = Workflow("seed_pid_numpy", noise.s(0.5))
CASE = Case(cause="seed_mismatch", also=("process_state",))
