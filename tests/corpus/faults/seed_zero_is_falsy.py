"""`seed or clock`: the seed 0 that the caller handed down is thrown away."""

import random
import time

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


class Sampler:
    def __init__(self, seed: int | None = None) -> None:
        self.generator = random.Random(seed or time.time_ns())  # <- fault

    def sample(self, rows: list[int], count: int) -> list[int]:
        return sorted(self.generator.sample(rows, count))


@app.task(name="seed_zero_is_falsy.sample")
def sample(rows: int, seed: int) -> list[int]:
    return Sampler(seed).sample(list(range(rows)), 10)


flow = Workflow("seed_zero_is_falsy", sample.s(1000, seed=0), capture="none")
CASE = Case(cause="seed_mismatch", also=("wall_clock",))
