"""The environment is read by an effect step only."""

import os

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask, step
from tests.corpus.case import World, clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="effect_step_environment.settings", effect=True)
def settings() -> dict:
    return {"region": os.environ.get("CORPUS_CLEAN_REGION", "none"), "home": os.path.expanduser("~")}


@shared_task(name="effect_step_environment.greet")
def greet(settings: dict) -> str:
    return f"hello {settings['region']}"


def at_recording(world: World) -> None:
    world.environment["CORPUS_CLEAN_REGION"] = "north"


def before_replay(world: World) -> None:
    world.environment["CORPUS_CLEAN_REGION"] = "south"


flow = Workflow("effect_step_environment", settings.s() | greet.s())
CASE = clean(prepare=at_recording, before_replay=before_replay, served=True)
