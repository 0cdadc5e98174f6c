"""random.SystemRandom looks like a seeded generator and is not."""

import random

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


LOTS = random.SystemRandom()


@shared_task(name="entropy_system_random.lots")
def lots(count: int) -> list[int]:
    return LOTS.sample(range(10_000), count)  # <- fault


flow = Workflow("entropy_system_random", lots.s(5), capture="none")
CASE = Case(cause="os_entropy", also=("unseeded_random",))
