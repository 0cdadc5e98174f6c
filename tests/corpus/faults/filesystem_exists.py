"""A marker file that is gone, asked for in one of three group members."""

from pathlib import Path

from celery import Celery, group, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="filesystem_exists.always")
def always(number: int) -> str:
    return f"{number} on"


@shared_task(name="filesystem_exists.toggled")
def toggled(folder: str) -> str:
    return "on" if Path(folder, "feature-on").exists() else "off"  # <- fault


@shared_task(name="filesystem_exists.fan_out")
def identity(folder: str) -> str:
    return folder


def at_recording(world: World) -> None:
    world.write("feature-on", "")


def before_replay(world: World) -> None:
    (world.folder / "feature-on").unlink()


flow = Workflow("filesystem_exists", identity.s() | group(always.si(1), toggled.s(), always.si(2)))
CASE = Case(cause="filesystem", inputs="{folder}", prepare=at_recording, before_replay=before_replay)
