"""Sums, roots and statistics of floats."""

import math
import statistics

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="float_maths.measure")
def measure(values: list[float]) -> dict:
    return {
        "sum": sum(values),
        "exact": math.fsum(values),
        "norm": math.hypot(*values),
        "deviation": statistics.stdev(values),
        "thirds": [value / 3 for value in values],
    }


flow = Workflow("float_maths", measure.s([0.1, 0.2, 0.3, 1e16, -1e16, 7.25]))
CASE = clean()
