"""A log line with the real clock in it changes nothing."""

import time

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="ctx_log.work")
def work(ctx: StepContext, number: int) -> int:
    started = time.perf_counter()
    answer = sum(range(number))
    ctx.log.info("took %.6f s, attempt %s", time.perf_counter() - started, ctx.attempt)
    return answer


flow = Workflow("ctx_log", work.s(1000), capture="none")
CASE = clean()
