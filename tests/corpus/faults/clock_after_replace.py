"""The steps that ctx.replace brings in: the second one reads the clock."""

import time

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="clock_after_replace.prepare")
def prepare(items: list[str]) -> list[str]:
    return [item.strip() for item in items]


@app.task(name="clock_after_replace.version")
def version(items: list[str]) -> str:
    return f"{len(items)}-{time.time():.6f}"  # <- fault


@step(name="clock_after_replace.begin")
def begin(ctx: StepContext, items: list[str]):
    return ctx.replace(prepare.s(items) | version.s())


flow = Workflow("clock_after_replace", begin.s([" a", "b "]), capture="none")
CASE = Case(cause="wall_clock")
