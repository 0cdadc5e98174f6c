"""A variable of the deployment decides the price."""

import os

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="environment_variable.price")
def price(cents: int) -> int:
    return cents * int(os.environ["CORPUS_FACTOR"])  # <- fault


def at_recording(world: World) -> None:
    world.environment["CORPUS_FACTOR"] = "2"


def before_replay(world: World) -> None:
    world.environment["CORPUS_FACTOR"] = "3"


flow = Workflow("environment_variable", price.s(100))
CASE = Case(cause="environment", prepare=at_recording, before_replay=before_replay)
