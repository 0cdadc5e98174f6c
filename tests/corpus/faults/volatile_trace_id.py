"""A trace id from secrets beside an equal answer, in the second of two steps."""

import secrets

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="volatile_trace_id.parse")
def parse(text: str) -> list[str]:
    return text.split()


@shared_task(name="volatile_trace_id.respond")
def respond(words: list[str]) -> dict:
    return {"words": len(words), "longest": max(words, key=len), "trace_id": secrets.token_hex(8)}  # <- fault


flow = Workflow("volatile_trace_id", parse.s("the pump in the cellar leaks") | respond.s(), capture="none")
CASE = Case(cause="volatile_field")
