"""pydantic models as values."""

from decimal import Decimal

from celery import Celery, shared_task
from pydantic import BaseModel, Field

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


class Line(BaseModel):
    product: str
    cents: int = Field(ge=0)


class Invoice(BaseModel):
    customer: str
    lines: list[Line]
    tax: Decimal = Decimal("0.19")

    @property
    def total(self) -> int:
        return sum(line.cents for line in self.lines)


@shared_task(name="pydantic_between_steps.invoice")
def invoice(rows: list[dict]) -> Invoice:
    return Invoice(customer="ada", lines=[Line(**row) for row in rows])


@shared_task(name="pydantic_between_steps.owed")
def owed(invoice: Invoice) -> dict:
    return {"total": invoice.total, "tax": round(invoice.total * invoice.tax)}


flow = Workflow("pydantic_between_steps", invoice.s([{"product": "pump", "cents": 500}]) | owed.s())
CASE = clean()
