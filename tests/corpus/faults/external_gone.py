"""The service is gone; the step goes on without it."""

import requests
from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="external_gone.stock")
def stock(url: str) -> dict:
    try:
        return {"stock": requests.get(url, timeout=5).json()["stock"]}  # <- fault
    except requests.RequestException:
        return {"stock": None}


@app.task(name="external_gone.decide")
def decide(answer: dict) -> str:
    return "order" if not answer["stock"] else "wait"


def at_recording(world: World) -> None:
    world.mortal.answers["/stock"] = '{"stock": 5}'


def before_replay(world: World) -> None:
    world.mortal.stop()


flow = Workflow("external_gone", stock.s() | decide.s(), capture="ambient")
CASE = Case(cause="external_call", inputs="{mortal}/stock", prepare=at_recording, before_replay=before_replay)
