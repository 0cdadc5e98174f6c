"""Enums, paths, bytes, UUIDs, tuples and timedeltas as values."""

import enum
import uuid
from datetime import timedelta
from pathlib import Path

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


class State(enum.Enum):
    OPEN = "open"
    SHUT = "shut"


@shared_task(name="enums_paths_bytes.make")
def make(stem: str) -> dict:
    return {
        "state": State.OPEN,
        "path": Path("in") / stem,
        "bytes": stem.encode(),
        "key": uuid.uuid5(uuid.NAMESPACE_URL, stem),
        "pair": (1, 2),
        "wait": timedelta(minutes=3),
    }


@shared_task(name="enums_paths_bytes.read")
def read(value: dict) -> list:
    return [value["state"] is State.OPEN, value["path"].name, value["bytes"][:1], value["pair"], value["wait"] * 2]


flow = Workflow("enums_paths_bytes", make.s("orders.csv") | read.s())
CASE = clean()
