"""Chance and the clock are asked, and what they say is not used."""

import random
import time
import uuid

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="unused_draws.work")
def work(number: int) -> int:
    probe = [random.random(), time.time(), uuid.uuid4(), id(object())]
    return number + (1 if probe else 0)


flow = Workflow("unused_draws", work.s(1), capture="none")
CASE = clean()
