"""urllib under the default capture; the service says something else by now."""

import json
import urllib.request

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import World, clean

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="captured_http_urllib.rate")
def rate(url: str) -> float:
    with urllib.request.urlopen(f"{url}/clean/rate", timeout=5) as answer:
        return json.load(answer)["rate"]


def at_recording(world: World) -> None:
    world.server.answers["/clean/rate"] = '{"rate": 0.97}'


def before_replay(world: World) -> None:
    world.server.answers["/clean/rate"] = '{"rate": 0.94}'


flow = Workflow("captured_http_urllib", rate.s())
CASE = clean(inputs="{server}", prepare=at_recording, before_replay=before_replay, served=True)
