"""A step that ctx.replace brings in sorts by another key."""

from celery import Celery, shared_task

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import Case, Edit

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="code_after_replace.rank")
def rank(rows: list[dict]) -> list[str]:
    return [row["name"] for row in sorted(rows, key=lambda row: row["score"])]  # <- fault


@step(name="code_after_replace.begin")
def begin(ctx: StepContext, rows: list[dict]):
    return ctx.replace(rank.s(rows))


ROWS = [{"name": "b", "score": 1}, {"name": "a", "score": 2}, {"name": "c", "score": 0}]
flow = Workflow("code_after_replace", begin.s(ROWS))
CASE = Case(cause="code_change", edits=(Edit(old='key=lambda row: row["score"]', new='key=lambda row: row["name"]'),))
