"""Rows written and read in the checkpoint's own transaction."""

from celery import Celery, shared_task
from sqlalchemy import text

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


@step(name="ctx_session.book")
def book(ctx: StepContext, cents: int) -> dict:
    ctx.session.execute(text("CREATE TABLE IF NOT EXISTS corpus_entries (cents INT)"))
    ctx.session.execute(text("INSERT INTO corpus_entries VALUES (:cents)"), {"cents": cents})
    return {"rows": ctx.session.execute(text("SELECT count(*) FROM corpus_entries")).scalar()}


@shared_task(name="ctx_session.say")
def say(booked: dict) -> str:
    return f"{booked['rows']} rows"


flow = Workflow("ctx_session", book.s(500) | say.s())
CASE = clean(served=True, notes="what the database holds is not the recording's")
