"""An effect step reads the clock and the process; the next step works on what it said."""

import os
import time

from celery import Celery

from aos_workflow import Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="effect_step_clock.observe", effect=True)
def observe(place: str) -> dict:
    return {"place": place, "at": time.time_ns(), "process": os.getpid()}


@app.task(name="effect_step_clock.file")
def file(observed: dict) -> str:
    return f"{observed['place']}/{observed['at']}/{observed['process']}"


flow = Workflow("effect_step_clock", observe.s("north") | file.s(), capture="none")
CASE = clean(served=True)
