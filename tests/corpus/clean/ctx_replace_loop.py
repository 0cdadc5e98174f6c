"""A loop of ctx.replace with chance in every turn."""

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="ctx_replace_loop.turn")
def turn(ctx: StepContext, total: int, rolls: list[int]):
    rolls = [*rolls, ctx.random.randint(1, 6)]
    if sum(rolls) >= total:
        return rolls
    return ctx.replace(turn.s(total, rolls))


flow = Workflow("ctx_replace_loop", turn.s(20, []))
CASE = clean()
