"""datetime.now() inside a sentence inside a list."""

from datetime import datetime

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="clock_datetime_now.letter")
def letter(name: str) -> dict:
    return {"lines": [f"Dear {name},", f"as of {datetime.now():%H:%M:%S.%f} you owe us nothing.", "Yours"]}  # <- fault


flow = Workflow("clock_datetime_now", letter.s("Ada"), capture="none")
CASE = Case(cause="wall_clock")
