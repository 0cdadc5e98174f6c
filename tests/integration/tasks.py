"""The Celery app of the integration tests: what its workers perform, and how a test watches and steers them.

A step leaves marks (``marks``) and waits at gates (``hold``), both in the stack's Redis under a key of the test's
own. ``Stage`` is the test's side of it.
"""

# Celery ships no types: its decorators are untyped to mypy.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
import signal
import time
from typing import Any

import redis
from celery import Celery, Task, group
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import text

from aos_workflow import StepContext, Workflow, WorkflowTask, step, workflow
from tests.worker_process import wait_until

app = Celery("integration", task_cls=WorkflowTask)
app.conf.update(
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    task_routes={"tests.integration.tasks.about_side": {"queue": "side"}},
)

#: How long a step waits at a gate before it gives up, seconds. A bound, not an expectation.
PATIENCE_S = 60


class Stage:
    """Marks and gates in one Redis."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url, decode_responses=True)

    def mark(self, key: str, name: str) -> None:
        """Leave a mark."""
        self.redis.rpush(f"marks:{key}", name)

    def marks(self, key: str) -> list[str]:
        """The marks so far, in order."""
        found: list[str] = self.redis.lrange(f"marks:{key}", 0, -1)
        return found

    def wait_for_marks(self, key: str, count: int) -> None:
        """Wait until there are at least so many."""
        wait_until(lambda: len(self.marks(key)) >= count, what=f"{count} marks at {key}: {self.marks(key)}")

    def hold(self, key: str) -> None:
        """Say that somebody is at the gate, and wait until it is opened."""
        self.mark(f"gate:{key}", str(os.getpid()))
        if self.redis.blpop([f"open:{key}"], timeout=PATIENCE_S) is None:
            raise TimeoutError(f"nobody opened gate {key}")

    def arrivals(self, key: str) -> list[int]:
        """The pids of those who came to the gate."""
        return [int(pid) for pid in self.marks(f"gate:{key}")]

    def wait_for_arrivals(self, key: str, count: int = 1) -> None:
        """Wait until so many came to the gate."""
        self.wait_for_marks(f"gate:{key}", count)

    def open(self, key: str, *, times: int = 1) -> None:
        """Let so many pass."""
        self.redis.rpush(f"open:{key}", *(["go"] * times))

    def set(self, key: str, value: str) -> None:
        self.redis.set(f"flag:{key}", value)

    def get(self, key: str) -> str | None:
        value: str | None = self.redis.get(f"flag:{key}")
        return value


_stages: dict[int, Stage] = {}


def stage() -> Stage:
    """This worker process's stage."""
    return _stages.setdefault(os.getpid(), Stage(os.environ["AOS_REDIS_URL"]))


# --- plain tasks ----------------------------------------------------------------------------------------------


@app.task
def add(x: int, y: int = 1) -> int:
    """x + y."""
    return x + y


@step(joins=True)
def total(xs: list[int]) -> int:
    """The sum of a list."""
    return sum(xs)


@app.task
def add_up(xs: list[int]) -> int:
    """The sum of whatever list it is given."""
    return sum(xs)


@app.task
def visit(x: Any, key: str, name: str) -> str:
    """Leaves the mark ``name`` and returns it."""
    stage().mark(key, name)
    return name


@app.task
def hold(x: Any, key: str) -> Any:
    """Waits at a gate, then returns what it was given."""
    stage().hold(key)
    return x


@app.task
def count_up(n: int) -> list[int]:
    """[0 ... n-1]."""
    return list(range(n))


@step
def draw(ctx: StepContext, x: Any = None) -> float:
    """Seeded chance."""
    return ctx.random.random()


@app.task
def emit(value: Any) -> Any:
    """What it was given."""
    return value


@app.task
def emit_thing(kind: str) -> Any:
    """Something that has no place in a checkpoint."""
    return {"object": object(), "nan": float("nan"), "deep": {"a": [1, object()]}}[kind]


@app.task
def emit_letters(count: int) -> str:
    """A text of that length."""
    return "x" * count


# --- what Celery tells a task ---------------------------------------------------------------------------------


@app.task(bind=True)
def about(self: Task[Any, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What ``self`` and ``self.request`` say."""
    request = self.request
    delivery = request.delivery_info or {}
    return {
        "name": self.name,
        "task": request.task,
        "id": request.id,
        "root_id": request.root_id,
        "retries": request.retries,
        "args": list(request.args or ()),
        "kwargs": dict(request.kwargs or {}),
        "queue": delivery.get("routing_key"),
        "priority": delivery.get("priority"),
        "hostname": request.hostname,
        "called_directly": request.called_directly,
        "pid": os.getpid(),
    }


@app.task(bind=True)
def about_side(self: Task[Any, Any]) -> str:
    """The queue it came by; Celery's ``task_routes`` names another than the default."""
    return str(self.request.delivery_info["routing_key"])


@step(local=True)
def in_place(pids: list[int]) -> list[int]:
    """The pids so far and its own; follows in the process of the step before."""
    return [*pids, os.getpid()]


@app.task
def pid_after(pids: list[int] | None = None) -> list[int]:
    """As ``in_place``, but by way of the broker."""
    return [*(pids or []), os.getpid()]


@step
def start_others(ctx: StepContext, key: str) -> list[Any]:
    """Calls a step as a function, sends a plain task, and enqueues a run of its own."""
    run = plus_two.enqueue(int(draw(0) > 2) + 5, idempotency_key=ctx.idempotency_key)
    visit.delay(None, key, "plain")
    return [add(1, 2), run.id]


# --- failing --------------------------------------------------------------------------------------------------


class Unlucky(Exception):
    """An error of the user's own."""


@app.task
def fail(*args: Any, message: str = "no luck") -> None:
    """Raises ValueError."""
    raise ValueError(message)


@app.task
def fail_unlucky() -> None:
    """Raises an error of the user's own, with a cause."""
    try:
        raise KeyError("inner")
    except KeyError as inner:
        raise Unlucky("outer") from inner


@app.task
def fail_while(x: Any, key: str) -> str:
    """Fails as long as its flag says so; leaves a mark either way."""
    stage().mark(key, "tried")
    if stage().get(key) == "fail":
        raise Unlucky("the flag says so")
    return "passed"


@app.task(bind=True, max_retries=3)
def third_time(self: Task[Any, Any], key: str) -> dict[str, Any]:
    """``self.retry`` twice, then its count of retries."""
    stage().mark(key, f"{self.request.retries}")
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return {"retries": self.request.retries}


@app.task(bind=True, max_retries=2)
def retry_for_ever(self: Task[Any, Any], key: str) -> None:
    """``self.retry`` without an exception of its own."""
    stage().mark(key, f"{self.request.retries}")
    self.retry(countdown=0)


@app.task(autoretry_for=(Unlucky,), max_retries=2, default_retry_delay=0)
def retry_unlucky(key: str) -> None:
    """Retried by ``autoretry_for`` until that gives up."""
    stage().mark(key, "tried")
    raise Unlucky("still")


@app.task(bind=True, max_retries=None)
def much_later(self: Task[Any, Any], key: str) -> None:
    """Asks to be tried again in an hour."""
    stage().mark(key, "tried")
    raise self.retry(countdown=3600)


class Hurried(Exception):
    """An error that says when to try again."""

    retry_after_s = 0.0


@step(max_attempts=3)
def at_third_attempt(ctx: StepContext, key: str) -> int:
    """Fails twice; its attempt's number."""
    stage().mark(key, f"{ctx.attempt}")
    if ctx.attempt < 3:
        raise Hurried(f"attempt {ctx.attempt}")
    return ctx.attempt


@step(max_attempts=2)
def never(key: str) -> None:
    """Fails at every attempt it has."""
    stage().mark(key, "tried")
    raise Hurried("never")


@step(max_attempts=2)
def with_usual_pause() -> None:
    """Fails; the engine draws the pause before the next attempt."""
    raise Unlucky("after a pause")


@step(timeout_s=0.3)
def too_slow() -> None:
    """Sleeps in short naps for a minute."""
    for _ in range(600):
        time.sleep(0.1)


@step(timeout_s=0.3)
def too_slow_and_stubborn() -> str:
    """Swallows every Exception on its way."""
    for _ in range(600):
        try:
            time.sleep(0.1)
        except Exception:
            continue
    return "done"


@step(max_attempts=2)
def suicide(key: str) -> None:
    """Kills its worker process."""
    stage().mark(key, "tried")
    os.kill(os.getpid(), signal.SIGKILL)


@step(max_attempts=1)
def quit_process() -> None:
    """Ends its process in an orderly way."""
    raise SystemExit(3)


@step(max_attempts=1, time_limit=1)
def over_the_limit() -> None:
    """Runs into Celery's hard time limit."""
    for _ in range(600):
        time.sleep(0.1)


@app.task(soft_time_limit=1)
def over_the_soft_limit() -> str:
    """Runs into Celery's soft time limit and makes the best of it."""
    try:
        for _ in range(600):
            time.sleep(0.1)
    except SoftTimeLimitExceeded:
        return "saved what there was"
    return "not interrupted"


# --- handlers of failures -------------------------------------------------------------------------------------


@app.task
def tell_of_failure(request: Any, error: BaseException, traceback: str, key: str) -> None:
    """An error callback of the new style."""
    stage().mark(key, f"{request.id}|{error}|{'Traceback' in str(traceback)}")


@app.task
def tell_of_id(task_id: str) -> None:
    """An error callback of the old style: it gets the id of the failed task and nothing else."""
    stage().mark(task_id, "told")


@app.task
def fail_to_handle(request: Any, error: BaseException, traceback: str, key: str) -> None:
    """A handler that fails itself."""
    stage().mark(key, "failed to handle")
    raise Unlucky("the handler, too")


@app.task
def hold_failure(request: Any, error: BaseException, traceback: str, key: str) -> None:
    """A handler that waits at a gate."""
    stage().hold(key)


@step(max_attempts=1)
def die_handling(request: Any, error: BaseException, traceback: str, key: str) -> None:
    """A handler that kills its worker process."""
    stage().mark(key, "died")
    os.kill(os.getpid(), signal.SIGKILL)


# --- rows of their own ----------------------------------------------------------------------------------------

OWN_TABLE = "CREATE TABLE IF NOT EXISTS own_rows (key text, attempt int)"


@step(max_attempts=3)
def write_row(ctx: StepContext, key: str) -> int:
    """Writes a row, and fails after writing at its first attempt."""
    ctx.session.execute(text("INSERT INTO own_rows VALUES (:key, :attempt)"), {"key": key, "attempt": ctx.attempt})
    if ctx.attempt == 1:
        raise Hurried("after the write")
    return ctx.attempt


@step
def write_and_hold(ctx: StepContext, key: str) -> int:
    """Writes a row and waits at a gate."""
    ctx.session.execute(text("INSERT INTO own_rows VALUES (:key, :attempt)"), {"key": key, "attempt": ctx.attempt})
    stage().hold(key)
    return ctx.attempt


@step(timeout_s=0.3)
def write_slowly(ctx: StepContext, key: str) -> None:
    """Writes a row and then waits for the database longer than it may."""
    ctx.session.execute(text("INSERT INTO own_rows VALUES (:key, :attempt)"), {"key": key, "attempt": ctx.attempt})
    ctx.session.execute(text("SELECT pg_sleep(1)"))


@step
def write_badly(ctx: StepContext) -> None:
    """A statement the database refuses, swallowed."""
    try:
        ctx.session.execute(text("INSERT INTO there_is_no_such_table VALUES (1)"))
    except Exception:
        return


@step
def commit_itself(ctx: StepContext) -> None:
    """Commits its session, which is the engine's business."""
    ctx.session.execute(text("SELECT 1"))
    ctx.session.commit()


# --- shapes that are known only at run time -------------------------------------------------------------------


@step
def loop(ctx: StepContext, n: int, seen: list[int]) -> Any:
    """A loop: replaced by its next turn until n is 0."""
    return seen if n == 0 else ctx.replace(loop.s(n - 1, [*seen, n]))


@step
def branch(ctx: StepContext, n: int) -> Any:
    """Even: the task; odd: a chain."""
    return ctx.replace(add.s(n, 100) if n % 2 == 0 else add.s(n, 1) | add.s(1000))


@step
def map_over(ctx: StepContext, xs: list[int]) -> Any:
    """A map over a list known only now, and its sum."""
    return ctx.replace(group(add.s(x, 10) for x in xs) | total.s())


@step
def spread_over(ctx: StepContext, xs: list[int]) -> Any:
    """A group over a list known only now: its value is the list."""
    return ctx.replace(group(add.s(x, 10) for x in xs))


@app.task(bind=True)
def become(self: Task[Any, Any], n: int) -> Any:
    """Celery's own way to be replaced."""
    return self.replace(add.s(n, 1) | add.s(2))


@step
def replaced_by_failure(ctx: StepContext, key: str) -> Any:
    """Its sub-plan fails while its flag says so."""
    return ctx.replace(visit.s(None, key, "sub") | fail_while.s(key) | visit.s(key, "end"))


@step
def replaced_by_nonsense(ctx: StepContext) -> Any:
    """Replaced by something that is no canvas."""
    return ctx.replace("a string")


# --- workflows ------------------------------------------------------------------------------------------------

ten_steps = Workflow("integration.ten", add.s(1) | group(add.s(i) | draw.s() for i in range(4)) | total.s(), app=app)


@workflow("integration.sum", app=app)
def sum_of(numbers: list[int]) -> Any:
    """A function of the inputs."""
    return group(add.s(number, 0) for number in numbers) | total.s()


plus_two = Workflow("integration.plus_two", add.s(1) | add.s(1), app=app)
