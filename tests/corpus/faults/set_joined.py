"""The members of a set in one string, inside nested data."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="set_joined.summary")
def summary(rows: list[dict]) -> dict:
    cities = {row["city"] for row in rows}
    return {"rows": len(rows), "where": {"cities": ", ".join(cities)}}  # <- fault


CITIES = ["Berlin", "Paris", "Rome", "Oslo", "Bern", "Wien", "Prag", "Riga", "Kiel", "Bonn"]
flow = Workflow("set_joined", summary.s([{"city": city} for city in CITIES]))
CASE = Case(cause="set_order")
