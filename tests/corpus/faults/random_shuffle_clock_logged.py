"""The clock is read for the log only; what matters is the shuffle."""

import logging
import random
import time

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


log = logging.getLogger(__name__)


@app.task(name="random_shuffle_clock_logged.order")
def order(jobs: list[int]) -> list[int]:
    started = time.time()
    jobs = list(jobs)
    random.shuffle(jobs)  # <- fault
    log.info("ordered %d jobs in %.3f s", len(jobs), time.time() - started)
    return jobs


flow = Workflow("random_shuffle_clock_logged", order.s(list(range(30))), capture="none")
CASE = Case(cause="unseeded_random")
