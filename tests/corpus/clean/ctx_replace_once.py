"""A step chooses what comes next."""

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@app.task(name="ctx_replace_once.small")
def small(number: int) -> str:
    return f"{number} is small"


@app.task(name="ctx_replace_once.large")
def large(number: int) -> str:
    return f"{number} is large"


@step(name="ctx_replace_once.choose")
def choose(ctx: StepContext, number: int):
    return ctx.replace(large.s(number) if number > 10 else small.s(number))


@app.task(name="ctx_replace_once.shout")
def shout(text: str) -> str:
    return text.upper()


flow = Workflow("ctx_replace_once", choose.s(42) | shout.s())
CASE = clean()
