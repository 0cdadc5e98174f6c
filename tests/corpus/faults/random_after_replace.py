"""A step that comes in by ctx.replace draws."""

import random

from celery import Celery, shared_task

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="random_after_replace.guess")
def guess(low: int, high: int) -> dict:
    return {"guess": random.randint(low, high)}  # <- fault


@step(name="random_after_replace.begin")
def begin(ctx: StepContext, high: int):
    return ctx.replace(guess.s(0, high))


@shared_task(name="random_after_replace.end")
def end(guessed: dict) -> str:
    return f"it is {guessed['guess']}"


flow = Workflow("random_after_replace", begin.s(10**9) | end.s(), capture="none")
CASE = Case(cause="unseeded_random")
