"""The standard logger stamps its lines with the clock; nothing of it is returned."""

import logging
import os
import threading

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


log = logging.getLogger(__name__)


@shared_task(name="logging_with_time.work")
def work(numbers: list[int]) -> int:
    log.warning("process %s thread %s has %d numbers", os.getpid(), threading.get_ident(), len(numbers))
    return sum(numbers)


flow = Workflow("logging_with_time", work.s([1, 2, 3]), capture="none")
CASE = clean()
