"""A generator seeded by an input, as scientists do."""

import random

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="seeded_random_from_inputs.estimate_pi")
def estimate_pi(points: int, seed: int) -> float:
    generator = random.Random(seed)
    inside = sum(generator.random() ** 2 + generator.random() ** 2 <= 1 for _ in range(points))
    return 4 * inside / points


flow = Workflow("seeded_random_from_inputs", estimate_pi.s(2000, seed=99), capture="none")
CASE = clean()
