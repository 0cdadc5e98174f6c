"""An effect step asks a service that is gone by now."""

import urllib.request

from celery import Celery

from aos_workflow import Workflow, WorkflowTask, step
from tests.corpus.case import World, clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="effect_step_http.fetch", effect=True)
def fetch(url: str) -> str:
    with urllib.request.urlopen(f"{url}/clean/page", timeout=5) as answer:
        return answer.read().decode()


@app.task(name="effect_step_http.title")
def title(page: str) -> str:
    return page.partition("<title>")[2].partition("</title>")[0]


def at_recording(world: World) -> None:
    world.mortal.answers["/clean/page"] = "<html><title>Pumps</title></html>"


def before_replay(world: World) -> None:
    world.mortal.stop()


flow = Workflow("effect_step_http", fetch.s() | title.s(), capture="none")
CASE = clean(inputs="{mortal}", prepare=at_recording, before_replay=before_replay, served=True)
