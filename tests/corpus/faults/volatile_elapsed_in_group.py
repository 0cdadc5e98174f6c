"""One of four members of a group reports its elapsed time, deep inside."""

import time

from celery import Celery, group

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="volatile_elapsed_in_group.plain")
def plain(number: int) -> dict:
    return {"number": number, "square": number**2}


@app.task(name="volatile_elapsed_in_group.timed")
def timed(number: int) -> dict:
    started = time.monotonic_ns()  # <- fault
    square = number**2
    return {"number": number, "square": square, "stats": [{"elapsed_ns": time.monotonic_ns() - started}]}  # <- fault


flow = Workflow("volatile_elapsed_in_group", group(plain.s(1), plain.s(2), timed.s(3), plain.s(4)), capture="none")
CASE = Case(cause="volatile_field")
