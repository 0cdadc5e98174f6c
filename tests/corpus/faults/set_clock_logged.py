"""The clock and chance are asked for the log only; the order of a set is what differs."""

import logging
import random
import time

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


log = logging.getLogger(__name__)


@app.task(name="set_clock_logged.rank")
def rank(votes: list[str]) -> list[str]:
    log.info("ranking at %s, sample %s", time.time(), random.random())
    return sorted(set(votes), key=votes.count)  # <- fault


VOTES = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"] * 2
flow = Workflow("set_clock_logged", rank.s(VOTES), capture="none")
CASE = Case(cause="set_order", notes="all counts are equal: a stable sort keeps the order of the set")
