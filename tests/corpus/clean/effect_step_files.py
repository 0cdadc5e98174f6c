"""An effect step lists a folder that has changed since."""

import os
from pathlib import Path

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask, step
from tests.corpus.case import World, clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="effect_step_files.scan", effect=True)
def scan(folder: str) -> list[dict]:
    return [{"name": name, "bytes": Path(folder, name).stat().st_size} for name in sorted(os.listdir(folder))]


@shared_task(name="effect_step_files.total")
def total(files: list[dict]) -> int:
    return sum(file["bytes"] for file in files)


def at_recording(world: World) -> None:
    world.write("a.csv", "1")
    world.write("b.csv", "22")


def before_replay(world: World) -> None:
    world.write("c.csv", "333")


flow = Workflow("effect_step_files", scan.s() | total.s())
CASE = clean(inputs="{folder}", prepare=at_recording, before_replay=before_replay, served=True)
