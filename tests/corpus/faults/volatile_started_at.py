"""A nested field says when the step began."""

from datetime import UTC, datetime

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="volatile_started_at.answer")
def answer(ctx: StepContext, question: str) -> dict:
    began = datetime.now(UTC)  # <- fault
    return {
        "answer": question.upper(),
        "meta": {"model": "rules", "started_at": began.isoformat()},  # <- fault
    }


flow = Workflow("volatile_started_at", answer.s("is it open"), capture="none")
CASE = Case(cause="volatile_field")
