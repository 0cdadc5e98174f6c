"""A file that changes is read through ctx.effect."""

from pathlib import Path

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import World, clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="ctx_effect_file.read")
def read(ctx: StepContext, path: str) -> int:
    text = ctx.effect("orders", Path(path).read_text, encoding="utf-8")
    return len(text.splitlines())


def at_recording(world: World) -> None:
    world.write("orders.txt", "one\ntwo\n")


def before_replay(world: World) -> None:
    world.write("orders.txt", "one\ntwo\nthree\n")


flow = Workflow("ctx_effect_file", read.s())
CASE = clean(inputs="{folder}/orders.txt", prepare=at_recording, before_replay=before_replay, served=True)
