"""The clock is read and chance is drawn, for the log only: what differs is the changed rounding."""

import logging
import random
import time

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, Edit

app = Celery(__name__, task_cls=WorkflowTask)


log = logging.getLogger(__name__)


@app.task(name="code_behind_a_clock.average")
def average(values: list[float]) -> float:
    log.info("started %s, sampled %s", time.time(), random.random() < 0.1)
    return round(sum(values) / len(values), 1)  # <- fault


flow = Workflow("code_behind_a_clock", average.s([1.11, 2.22, 3.44]), capture="none")
CASE = Case(cause="code_change", edits=(Edit(old="len(values), 1)", new="len(values), 2)"),))
