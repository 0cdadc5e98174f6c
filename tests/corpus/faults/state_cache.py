"""A cache that ignores one of its arguments: an earlier run's price is served."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


_quotes: dict[str, int] = {}


def quote(product: str, count: int) -> int:
    if product not in _quotes:  # <- fault
        _quotes[product] = 100 - count  # <- fault
    return _quotes[product]  # <- fault


@shared_task(name="state_cache.offer")
def offer(order: dict) -> int:
    return quote(order["product"], order["count"]) * order["count"]


flow = Workflow("state_cache", offer.s())
CASE = Case(
    cause="process_state",
    inputs={"product": "pump", "count": 3},
    runs_before=({"product": "pump", "count": 50}, {"product": "door", "count": 1}),
)
