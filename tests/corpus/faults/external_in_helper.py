"""httpx in another module, called in the third of four steps."""

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

from . import _external_prices

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="external_in_helper.ask")
def ask(url: str) -> str:
    return url.strip()


@shared_task(name="external_in_helper.path")
def path(url: str) -> str:
    return f"{url}/price"


@shared_task(name="external_in_helper.price")
def price(url: str) -> int:
    return _external_prices.price(url)


@shared_task(name="external_in_helper.add_tax")
def add_tax(cents: int) -> int:
    return cents * 119 // 100


def at_recording(world: World) -> None:
    world.server.answers["/price"] = '{"cents": 500}'


def before_replay(world: World) -> None:
    world.server.answers["/price"] = '{"cents": 550}'


flow = Workflow("external_in_helper", ask.s() | path.s() | price.s() | add_tax.s(), capture="none")
CASE = Case(
    cause="external_call",
    inputs=" {server}",
    prepare=at_recording,
    before_replay=before_replay,
    files=("_external_prices.py",),
)
