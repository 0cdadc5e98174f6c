"""The same content, touched."""

import os
from pathlib import Path

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="filesystem_mtime.version")
def version(path: str) -> dict:
    file = Path(path)
    return {"text": "v", "version": int(file.stat().st_mtime)}  # <- fault


def at_recording(world: World) -> None:
    world.write("model.bin", "weights")
    os.utime(world.folder / "model.bin", (1_700_000_000, 1_700_000_000))


def before_replay(world: World) -> None:
    os.utime(world.folder / "model.bin", (1_710_000_000, 1_710_000_000))


flow = Workflow("filesystem_mtime", version.s())
CASE = Case(cause="filesystem", inputs="{folder}/model.bin", prepare=at_recording, before_replay=before_replay)
