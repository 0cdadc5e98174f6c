"""A helper in another module reads a table that has been updated."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

from . import _filesystem_rates

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="filesystem_in_helper.convert")
def convert(order: dict) -> float:
    return round(order["amount"] * _filesystem_rates.rates(order["rates"])["CHF"], 2)


def at_recording(world: World) -> None:
    world.write("rates.csv", "code,rate\nEUR,1.0\nCHF,0.97\n")


def before_replay(world: World) -> None:
    world.write("rates.csv", "code,rate\nEUR,1.0\nCHF,0.94\n")


flow = Workflow("filesystem_in_helper", convert.s())
CASE = Case(
    cause="filesystem",
    inputs={"amount": 250.0, "rates": "{folder}/rates.csv"},
    prepare=at_recording,
    before_replay=before_replay,
    files=("_filesystem_rates.py",),
)
