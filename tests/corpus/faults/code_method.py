"""A method of a class changed."""

from dataclasses import dataclass

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, Edit

app = Celery(__name__, task_cls=WorkflowTask)


@dataclass(frozen=True)
class Basket:
    cents: tuple[int, ...]

    def discount(self) -> int:
        return sum(self.cents) // 20  # <- fault

    def total(self) -> int:
        return sum(self.cents) - self.discount()


@shared_task(name="code_method.total")
def total(cents: list[int]) -> int:
    return Basket(tuple(cents)).total()


flow = Workflow("code_method", total.s([500, 700, 900]))
CASE = Case(cause="code_change", edits=(Edit(old="// 20", new="// 10"),))
