"""httpx under capture="http"; 404 is an answer as well."""

import httpx
from celery import Celery

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import World, clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="captured_http_httpx.look_up")
def look_up(url: str) -> dict:
    with httpx.Client(base_url=url) as client:
        found = client.post("/clean/find", json={"q": "pump"})
        missing = client.get("/clean/nothing")
    return {"found": found.json(), "status": [found.status_code, missing.status_code]}


def at_recording(world: World) -> None:
    world.server.answers["/clean/find"] = '{"hits": 3}'


def before_replay(world: World) -> None:
    world.server.answers["/clean/find"] = '{"hits": 4}'
    world.server.answers["/clean/nothing"] = "{}"


flow = Workflow("captured_http_httpx", look_up.s(), capture="http")
CASE = clean(inputs="{server}", prepare=at_recording, before_replay=before_replay, served=True)
