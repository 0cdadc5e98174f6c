"""A folder that has one more file, listed in the middle of a chain of four."""

import os

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="filesystem_listing.place")
def place(folder: str) -> str:
    return folder.rstrip("/")


@shared_task(name="filesystem_listing.names")
def names(folder: str) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(".csv")]  # <- fault


@shared_task(name="filesystem_listing.stems")
def stems(names: list[str]) -> list[str]:
    return [name.removesuffix(".csv") for name in names]


@shared_task(name="filesystem_listing.how_many")
def how_many(stems: list[str]) -> int:
    return len(stems)


def at_recording(world: World) -> None:
    world.write("in/a.csv", "1")
    world.write("in/b.csv", "2")


def before_replay(world: World) -> None:
    world.write("in/c.csv", "3")


flow = Workflow("filesystem_listing", place.s() | names.s() | stems.s() | how_many.s())
CASE = Case(cause="filesystem", inputs="{folder}/in/", prepare=at_recording, before_replay=before_replay)
