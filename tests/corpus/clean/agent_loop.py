"""An agent: plans with seeded chance, asks a tool through an effect, goes on by ctx.replace, sums up."""

import time

from celery import Celery

from aos_workflow import StepContext, Workflow, WorkflowTask, step
from tests.corpus.case import clean

app = Celery(__name__, task_cls=WorkflowTask)


def tool(topic: str) -> dict:
    return {"topic": topic, "asked_at": time.time_ns()}


@step(name="agent_loop.think")
def think(ctx: StepContext, topics: list[str], notes: list):
    if not topics:
        return notes
    chosen = ctx.random.choice(topics)
    found = ctx.effect("tool", tool, chosen)
    left = [topic for topic in topics if topic != chosen]
    return ctx.replace(think.s(left, [*notes, found]))


@app.task(name="agent_loop.sum_up")
def sum_up(notes: list) -> str:
    return ", ".join(f"{note['topic']}@{note['asked_at']}" for note in notes)


flow = Workflow("agent_loop", think.s(["pump", "door", "roof"], []) | sum_up.s())
CASE = clean(served=True)
