"""getenv in another module, of a variable that is not set where the replay runs; one of three group members."""

from celery import Celery, group

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

from . import _environment_region

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="environment_in_helper.local")
def local(amount: int) -> dict:
    return {"amount": amount}


@app.task(name="environment_in_helper.taxed")
def taxed(amount: int) -> dict:
    return {"amount": amount, "region": _environment_region.region()}


def at_recording(world: World) -> None:
    world.environment["CORPUS_REGION"] = "north"


def before_replay(world: World) -> None:
    del world.environment["CORPUS_REGION"]


flow = Workflow("environment_in_helper", group(local.s(1), local.s(2), taxed.s(3)))
CASE = Case(cause="environment", prepare=at_recording, before_replay=before_replay, files=("_environment_region.py",))
