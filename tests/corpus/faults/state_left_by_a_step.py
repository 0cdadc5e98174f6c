"""One step fills a global of another module, the next one reads it."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

from . import _state_basket as basket

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="state_left_by_a_step.fill")
def fill(names: list[str]) -> int:
    basket.items.extend(names)
    return len(names)


@shared_task(name="state_left_by_a_step.check_out")
def check_out(count: int) -> dict:
    return {"asked": count, "bought": list(basket.items)}  # <- fault


flow = Workflow("state_left_by_a_step", fill.s(["pump", "door"]) | check_out.s())
CASE = Case(cause="process_state", runs_before=(None,) * 10, files=("_state_basket.py",))
