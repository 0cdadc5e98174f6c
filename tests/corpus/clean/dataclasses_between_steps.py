"""Dataclasses as values."""

from dataclasses import dataclass, field, replace

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@dataclass(frozen=True)
class Order:
    number: int
    lines: tuple[str, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)


@shared_task(name="dataclasses_between_steps.make")
def make(number: int) -> Order:
    return Order(number, ("pump", "door"))


@shared_task(name="dataclasses_between_steps.annotate")
def annotate(order: Order) -> Order:
    return replace(order, notes={"lines": str(len(order.lines))})


flow = Workflow("dataclasses_between_steps", make.s(7) | annotate.s())
CASE = clean()
