"""requests with a session under the default capture; the service is gone by now."""

import requests
from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import World, clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="captured_http_requests.stock")
def stock(url: str) -> list[int]:
    with requests.Session() as session:
        return [session.get(f"{url}/clean/stock/{shelf}", timeout=5).json()["stock"] for shelf in (1, 2)]


def at_recording(world: World) -> None:
    world.mortal.answers["/clean/stock/1"] = '{"stock": 5}'
    world.mortal.answers["/clean/stock/2"] = '{"stock": 7}'


def before_replay(world: World) -> None:
    world.mortal.stop()


flow = Workflow("captured_http_requests", stock.s())
CASE = clean(inputs="{mortal}", prepare=at_recording, before_replay=before_replay, served=True)
