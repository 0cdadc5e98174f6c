"""max_attempts of @step: the context knows the attempt, chance is the same in each."""

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="retry_by_the_engine.draw", max_attempts=3)
def draw(ctx: StepContext, limit: int) -> list[int]:
    drawn = [ctx.random.randint(1, limit) for _ in range(3)]
    if ctx.attempt == 1:
        raise TimeoutError("the first attempt fails")
    return drawn


flow = Workflow("retry_by_the_engine", draw.s(1000))
CASE = clean()
