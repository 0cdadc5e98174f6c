"""The same requests under the default capture: the recording serves them although the service says otherwise."""

import json
import urllib.request

import httpx
import requests
from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="external_served.ask")
def ask(url: str) -> dict:
    with urllib.request.urlopen(f"{url}/served", timeout=5) as answer:  # <- fault
        first = json.load(answer)
    second = requests.post(f"{url}/served", json={"q": 1}, timeout=5).json()  # <- fault
    third = httpx.get(f"{url}/served", params=None, timeout=5).json()  # <- fault
    return {"urllib": first, "requests": second, "httpx": third}


def at_recording(world: World) -> None:
    world.server.answers["/served"] = '{"rate": 1}'


def before_replay(world: World) -> None:
    world.server.answers["/served"] = '{"rate": 2}'


flow = Workflow("external_served", ask.s())
CASE = Case(
    cause="external_call", expected="matched", inputs="{server}", prepare=at_recording, before_replay=before_replay
)
