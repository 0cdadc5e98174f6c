"""A helper in another module makes a number out of the time."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

from . import _clock_receipt

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="clock_in_helper.checkout")
def checkout(cents: list[int]) -> dict:
    return {"sum": sum(cents), "receipt": _clock_receipt.numbered("s1")}


flow = Workflow("clock_in_helper", checkout.s([100, 250]), capture="none")
CASE = Case(cause="wall_clock", files=("_clock_receipt.py",))
