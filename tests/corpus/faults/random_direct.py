"""random.random() decides, and nothing is captured."""

import random

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="random_direct.offer")
def offer(customer: str) -> dict:
    discount = random.random()  # <- fault
    return {"customer": customer, "discount": discount}


flow = Workflow("random_direct", offer.s("ada"), capture="none")
CASE = Case(cause="unseeded_random")
