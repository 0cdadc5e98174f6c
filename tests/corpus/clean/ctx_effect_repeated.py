"""The same effect three times, and a lambda, with capture switched off."""

import time

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="ctx_effect_repeated.poll")
def poll(ctx: StepContext, times: int) -> list[int]:
    seen = [ctx.effect("clock", time.time_ns) for _ in range(times)]
    return [*seen, ctx.effect("process", lambda: time.perf_counter_ns())]


flow = Workflow("ctx_effect_repeated", poll.s(3), capture="none")
CASE = clean(served=True)
