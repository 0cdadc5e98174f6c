"""A file whose content changed."""

from pathlib import Path

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="filesystem_content.count")
def count(path: str) -> dict:
    lines = Path(path).read_text(encoding="utf-8").splitlines()  # <- fault
    return {"lines": len(lines), "last": lines[-1]}


def at_recording(world: World) -> None:
    world.write("orders.txt", "one\ntwo\n")


def before_replay(world: World) -> None:
    world.write("orders.txt", "one\ntwo\nthree\n")


flow = Workflow("filesystem_content", count.s())
CASE = Case(cause="filesystem", inputs="{folder}/orders.txt", prepare=at_recording, before_replay=before_replay)
