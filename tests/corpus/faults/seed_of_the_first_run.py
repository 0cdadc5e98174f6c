"""A generator seeded by the first run of the process and kept for all later ones."""

import random

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


_generator: random.Random | None = None


@step(name="seed_of_the_first_run.roll")
def roll(ctx: StepContext, dice: int) -> list[int]:
    global _generator
    if _generator is None:
        _generator = random.Random(ctx.seed)  # <- fault
    return [_generator.randint(1, 6) for _ in range(dice)]  # <- fault


flow = Workflow("seed_of_the_first_run", roll.s(20))
CASE = Case(cause="seed_mismatch", also=("process_state",), runs_before=(None, None, None))
