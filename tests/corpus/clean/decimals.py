"""Money in Decimal, rounded the way banks do."""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="decimals.interest")
def interest(amount: str, rate: str, years: int) -> list[Decimal]:
    with localcontext() as context:
        context.prec = 30
        value, series = Decimal(amount), []
        for _ in range(years):
            value *= 1 + Decimal(rate)
            series.append(value.quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN))
        return series


flow = Workflow("decimals", interest.s("1000", "0.0175", 10))
CASE = clean()
