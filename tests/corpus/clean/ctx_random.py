"""Chance from ctx.random, in every member of a group."""

from celery import Celery, group

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="ctx_random.score")
def score(ctx: StepContext, text: str) -> dict:
    return {"text": text, "score": ctx.random.random(), "order": ctx.random.sample(range(100), 5)}


@step(name="ctx_random.best", joins=True)
def best(rows: list[dict]) -> dict:
    return max(rows, key=lambda row: row["score"])


flow = Workflow("ctx_random", group(score.s(text) for text in "abcdef") | best.s())
CASE = clean()
