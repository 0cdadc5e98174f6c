"""numpy arithmetic without chance: sorting, products, dtypes."""

import numpy as np
from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="seeded_numpy_arrays.solve")
def solve(size: int) -> dict:
    matrix = np.arange(size * size, dtype=np.float64).reshape(size, size) + np.eye(size) * size
    answer = np.linalg.solve(matrix, np.ones(size))
    return {"answer": np.round(answer, 9).tolist(), "ranks": np.argsort(-answer, kind="stable").tolist()}


flow = Workflow("seeded_numpy_arrays", solve.s(5))
CASE = clean()
