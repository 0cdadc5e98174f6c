"""The source was edited as well, but only a message of the log: the order of a set differs."""

import logging

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, Edit

app = Celery(__name__, task_cls=WorkflowTask)


log = logging.getLogger(__name__)


@shared_task(name="set_behind_an_edit.stations")
def stations(trips: list[list[str]]) -> list[str]:
    log.info("reading trips")
    seen = {station for trip in trips for station in trip}
    return [station.upper() for station in seen]  # <- fault


flow = Workflow(
    "set_behind_an_edit",
    stations.s([["north", "south"], ["east", "west"], ["harbour", "market"], ["zoo", "park"]]),
)
CASE = Case(cause="set_order", edits=(Edit(old='"reading trips"', new='"reading all trips"'),))
