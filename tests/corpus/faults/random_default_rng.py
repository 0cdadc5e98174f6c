"""default_rng() without a seed in one of several group members."""

import numpy as np
from celery import Celery, group, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="random_default_rng.mean")
def mean(values: list[float]) -> float:
    return float(np.mean(values))


@shared_task(name="random_default_rng.resampled")
def resampled(values: list[float]) -> float:
    return float(np.random.default_rng().choice(values, size=len(values)).mean())  # <- fault


VALUES = [value**1.5 for value in range(100)]
flow = Workflow("random_default_rng", group(mean.s(VALUES), resampled.s(VALUES), mean.s(VALUES[:50])), capture="none")
CASE = Case(cause="unseeded_random")
