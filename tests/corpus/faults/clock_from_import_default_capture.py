"""time imported by name before capture was installed: served if capture reaches it, named if not."""

from time import clock_gettime_ns, time

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="clock_from_import_default_capture.stamp")
def stamp(text: str) -> list:
    return [text, time(), clock_gettime_ns(0)]  # <- fault


flow = Workflow("clock_from_import_default_capture", stamp.s("hello"))
CASE = Case(cause="wall_clock", expected="either")
