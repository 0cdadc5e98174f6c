"""The app of test_goldens.py and test_same_hash.py: deterministic steps of every kind, and some that are not.

``same`` has one of everything that must not change the workflow hash; ``seeds`` differs with Python's hash seed;
``shows`` tells which secrets its process was given.
"""

# Celery ships no types: its decorators are untyped to mypy.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from celery import Celery, Task, group

from aos_workflow import StepContext, Workflow, WorkflowTask, step, workflow

app = Celery("goldens", task_cls=WorkflowTask)
app.conf.broker_connection_retry_on_startup = True

SECRETS = ("AOS_DATABASE_URL", "AOS_BROKER_URL", "AOS_REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND",
           "GOLDEN_HMAC_SECRET")  # fmt: skip


@app.task
def add(x: int, y: int = 1) -> int:
    return x + y


@step(joins=True)
def total(xs: list[int]) -> int:
    return sum(xs)


@step
def draw(ctx: StepContext, x: Any = None) -> dict[str, Any]:
    return {"x": x, "drawn": [ctx.random.random() for _ in range(3)], "id": ctx.uuid(), "untouched": random.random()}


@step
def typed(ctx: StepContext, x: Any) -> dict[str, Any]:
    return {
        "of": x, "set": {"b", "a", "c"}, "frozen": frozenset({2, 1}), "tuple": (1, (2.5, -0.0)), "bytes": b"\x00",
        "money": Decimal("1.50"), "at": datetime(2026, 1, 1, tzinfo=UTC), "$k": {"$uuid": "é\U0001f600"},
    }  # fmt: skip


@step
def from_set(x: dict[str, Any]) -> list[Any]:
    return [x["of"], sorted(x["set"]), x["tuple"], str(x["money"]), x["at"].isoformat()]


@step
def loop(ctx: StepContext, x: Any, n: int) -> Any:
    return ctx.replace(loop.s(x, n - 1)) if n else [x, ctx.random.random()]


@app.task(bind=True, max_retries=3)
def second_time(self: Task, x: Any) -> Any:
    if self.request.retries < 1:
        raise self.retry(countdown=0.01, exc=ConnectionError("away"))
    return x


@step
def seeds(x: Any = None) -> int:
    return hash("the hash of this text is another one in every process")


@step
def shows(x: Any = None) -> dict[str, bool]:
    told = os.environ.get("GOLDEN_HMAC_SECRET") or "!"
    return {name: name in os.environ for name in SECRETS} | {"anywhere": any(told in v for v in os.environ.values())}


@workflow("same", app=app)
def same(n: int) -> Any:
    siblings = group(group(draw.s(i), draw.s(i) | second_time.s()) | draw.s() for i in range(n))
    return siblings | typed.s() | from_set.s() | loop.s(2) | draw.s()


simple = Workflow("simple", add.s(1) | group(add.s(1), add.s(2)) | total.s(), app=app)
never = Workflow("never", add.s(1), app=app, golden="never")
half = Workflow("half", add.s(1), app=app, golden=0.5)
seeding = Workflow("seeding", add.s(1) | seeds.s(), app=app)
showing = Workflow("showing", shows.s(), app=app)
elsewhere = Workflow("elsewhere", add.s(1).set(queue="steps"), app=app)
