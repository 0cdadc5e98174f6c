"""Each of 24 members changes its answer only now and then."""

import random

from celery import Celery, group, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="random_sometimes.flag")
def flag(number: int) -> str:
    if random.random() < 0.4:  # <- fault
        return f"{number} for review"
    return f"{number} accepted"


flow = Workflow("random_sometimes", group(flag.s(number) for number in range(24)), capture="none")
CASE = Case(cause="unseeded_random", notes="a member differs in half of the performances, some member nearly always")
