"""Path.glob and sizes, clock only logged."""

import logging
import time
from pathlib import Path

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

app = Celery(__name__, task_cls=WorkflowTask)


log = logging.getLogger(__name__)


@app.task(name="filesystem_globbed.usage")
def usage(folder: str) -> dict:
    log.info("measured at %s", time.time())
    return {path.name: path.stat().st_size for path in sorted(Path(folder).glob("*.log"))}  # <- fault


def at_recording(world: World) -> None:
    world.write("a.log", "x" * 10)
    world.write("b.log", "x" * 20)


def before_replay(world: World) -> None:
    world.write("b.log", "x" * 25)


flow = Workflow("filesystem_globbed", usage.s())
CASE = Case(cause="filesystem", inputs="{folder}", prepare=at_recording, before_replay=before_replay)
