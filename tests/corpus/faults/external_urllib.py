"""The answer of a service changed, and HTTP is not captured."""

import json
import urllib.request

from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="external_urllib.rate")
def rate(url: str) -> float:
    with urllib.request.urlopen(url, timeout=5) as answer:  # <- fault
        return json.load(answer)["rate"]  # <- fault


def at_recording(world: World) -> None:
    world.server.answers["/rate"] = '{"rate": 0.97}'


def before_replay(world: World) -> None:
    world.server.answers["/rate"] = '{"rate": 0.94}'


flow = Workflow("external_urllib", rate.s(), capture="none")
CASE = Case(cause="external_call", inputs="{server}/rate", prepare=at_recording, before_replay=before_replay)
