"""The seed of the experiment comes from the deployment, not from the run."""

import os
import random

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="seed_from_environment.assign")
def assign(people: list[str]) -> dict[str, str]:
    random.seed(int(os.environ["CORPUS_MODEL_SEED"]))  # <- fault
    return {person: random.choice("AB") for person in people}  # <- fault


def at_recording(world: World) -> None:
    world.environment["CORPUS_MODEL_SEED"] = "11"


def before_replay(world: World) -> None:
    world.environment["CORPUS_MODEL_SEED"] = "12"


flow = Workflow("seed_from_environment", assign.s([f"person {number}" for number in range(32)]), capture="none")
CASE = Case(cause="seed_mismatch", also=("environment",), prepare=at_recording, before_replay=before_replay)
