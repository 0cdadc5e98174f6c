"""A default seed that is drawn when the module is imported."""

import random

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


def bootstrap(values: list[float], seed: int = random.randrange(2**32)) -> float:  # <- fault
    generator = random.Random(seed)  # <- fault
    return sum(generator.choices(values, k=len(values))) / len(values)


@app.task(name="seed_default_argument.estimate")
def estimate(values: list[float]) -> dict[str, float]:
    return {"mean": bootstrap(values)}


flow = Workflow("seed_default_argument", estimate.s([value * 1.37 for value in range(50)]))
CASE = Case(cause="seed_mismatch", also=("unseeded_random",))
