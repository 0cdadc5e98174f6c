"""A setting that is read when the module is imported."""

import os

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

app = Celery(__name__, task_cls=WorkflowTask)


LIMIT = int(os.environ.get("CORPUS_LIMIT", "5"))  # <- fault


@app.task(name="environment_at_import.cut")
def cut(rows: list[int]) -> list[int]:
    return rows[:LIMIT]


def before_replay(world: World) -> None:
    world.environment["CORPUS_LIMIT"] = "3"


flow = Workflow("environment_at_import", cut.s(list(range(20))))
CASE = Case(cause="environment", before_replay=before_replay)
