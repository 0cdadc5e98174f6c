"""An object with a generator of its own that nobody seeded."""

import random

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


class Reviewer:
    def __init__(self) -> None:
        self.generator = random.Random()  # <- fault

    def pick(self, papers: list[int], count: int) -> list[int]:
        return self.generator.sample(papers, count)  # <- fault


@shared_task(name="random_instance_method.review")
def review(papers: int) -> list[int]:
    return Reviewer().pick(list(range(papers)), 6)


flow = Workflow("random_instance_method", review.s(500))
CASE = Case(cause="unseeded_random", expected="either", notes="default capture")
