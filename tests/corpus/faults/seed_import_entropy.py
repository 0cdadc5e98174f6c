"""A generator seeded once per process, at import: the run's seed never reaches it."""

import os
import random

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


SEED = int.from_bytes(os.urandom(4), "big")  # <- fault


@shared_task(name="seed_import_entropy.draw")
def draw(names: list[str]) -> list[str]:
    return random.Random(SEED).sample(names, 4)  # <- fault


flow = Workflow("seed_import_entropy", draw.s([f"ticket {number}" for number in range(40)]))
CASE = Case(cause="seed_mismatch", also=("os_entropy",), notes="default capture: one's own generator is not served")
