"""Runs that go on after an end, and plans that grow in any order: in one process, on SQLite."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
from celery import Celery, group
from sqlalchemy import Column, MetaData, Table, Text

from aos_workflow import StepContext, WorkflowTask, durable, step
from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.database import open_database
from aos_workflow.inline import InlineTransport
from aos_workflow.plan import Plan
from aos_workflow.records import Commit, NewRun
from aos_workflow.upgrade import upgrade

app = Celery("revived", task_cls=WorkflowTask, set_as_current=False)
Stored = namedtuple("Stored", "id plan_digest")
notes = Table("notes", MetaData(), Column("key", Text, primary_key=True))
calls: list[str] = []


@app.task
def broken() -> None:
    raise ValueError("broken")


@app.task
def handle(request: Any, error: Exception, traceback: str) -> None:
    calls.append(str(error))


@step
def write_twice(ctx: StepContext) -> None:
    for _ in range(2):
        ctx.session.execute(notes.insert().values(key="same"))


@app.task
def nothing() -> None:
    return None


def test_handlers_run_again_when_a_resumed_run_fails_again(aos_engine: Any) -> None:
    """Each time a run fails its error handlers are called."""
    calls.clear()
    flow = durable(broken.s().on_error(handle.s()), app=app)
    ended = aos_engine.run_here(flow)
    plan, _ = flow.compile()
    for _ in range(2):
        aos_engine.store.revive(ended.run_id)
        InlineTransport(aos_engine.executor, aos_engine.store, app).perform(Stored(ended.run_id, plan.digest), plan)
    assert (len(calls), aos_engine.store.run(ended.run_id).status) == (3, "failed")


def test_a_resumed_inline_run_belongs_to_the_fleet(aos_engine: Any) -> None:
    """Once revived, a run that was performed in a process of its own is swept like any other."""
    ended = aos_engine.run_here(durable(broken.s(), app=app))
    assert aos_engine.store.run(ended.run_id).inline
    assert not aos_engine.store.revive(ended.run_id).inline


def test_a_row_the_database_refuses_is_the_steps_own_error(aos_engine: Any) -> None:
    """What ``ctx.session`` cannot write fails the attempt, with the reason."""
    notes.metadata.create_all(aos_engine.store.engine)
    ended = aos_engine.run_here(durable(write_twice.s(), app=app))
    assert (ended.status, "IntegrityError" in ended.error.type) == ("failed", True)


@pytest.mark.parametrize("order", [("2.nothing", "1.nothing"), ("1.nothing", "2.nothing")])
def test_an_empty_sub_plan_and_another_one_keep_their_places(tmp_path: Any, order: tuple[str, str]) -> None:
    """Sub-plans are spliced in the order they were committed, also when one of them has no steps."""
    url = f"sqlite:///{tmp_path / 'splices.db'}"
    upgrade(url)
    store = CheckpointStore(open_database(url))
    plan, _ = durable(group(nothing.si(), nothing.si()), app=app).compile()
    subs = {"1.nothing": durable(nothing.si(), app=app).compile()[0], "2.nothing": Plan(steps=(), outgoing=[])}
    store.add([new_run(plan)])
    for count, address in enumerate(order, 1):
        claim = store.claim(run_id="r", address=address, inputs=(), token=address, worker_id="w", pid=1, most_losses=3)
        store.commit(commit_of(plan, subs[address], address, claim.attempt))  # type: ignore[union-attr]
        assert len(store.effective_plan("r", plan.digest, count).replaced) == count
    whole = store.effective_plan("r", plan.digest, 2)
    assert [one.address for one in whole.steps] == ["1.nothing", "2.nothing", "1.nothing/1.nothing"]
    assert set(whole.replaced) == {"1.nothing", "2.nothing"}


def new_run(plan: Plan) -> NewRun:
    return NewRun(
        id="r", workflow="w", plan_digest=plan.digest, plan_text=plan.text, size=len(plan.steps), inputs="null",
        inputs_digest="i", seed=7, logical_time=0.0,
    )  # fmt: skip


def commit_of(plan: Plan, sub: Plan, address: str, attempt: int) -> Commit:
    return Commit(
        run_id="r", address=address, position=plan.positions[address], attempt=attempt, output="null", digest="d",
        stable_digest="d", worker_id="w", started_at=0.0, splice=(sub.text, sub.digest, len(sub.steps)),
    )  # fmt: skip
