"""time_ns, imported by name."""

from time import time_ns

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="clock_from_import.shard")
def shard(key: str) -> str:
    return f"{key}/{time_ns() // 1000}"  # <- fault


flow = Workflow("clock_from_import", shard.s("orders"), capture="none")
CASE = Case(cause="wall_clock")
