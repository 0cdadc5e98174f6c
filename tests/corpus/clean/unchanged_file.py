"""A file that has not changed, read by a plain step."""

from pathlib import Path

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import World, clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="unchanged_file.count")
def count(path: str) -> int:
    return len(Path(path).read_text(encoding="utf-8").split())


def at_recording(world: World) -> None:
    world.write("words.txt", "one two three")


flow = Workflow("unchanged_file", count.s())
CASE = clean(inputs="{folder}/words.txt", prepare=at_recording)
