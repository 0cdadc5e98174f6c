"""A generator of one's own, seeded by the context."""

import random

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="seeded_random.split")
def split(ctx: StepContext, rows: int) -> list[int]:
    generator = random.Random(ctx.seed)
    numbers = list(range(rows))
    generator.shuffle(numbers)
    return numbers[:10]


flow = Workflow("seeded_random", split.s(100))
CASE = clean()
