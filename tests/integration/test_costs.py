"""What a step costs: round trips to the database, fsyncs, messages. Counted on the wire, not in the code.

Each figure is the difference between a long and a short run of the same kind, divided by the steps between them:
so what a run costs once (its plan, its end, a process joining the fleet) is not charged to its steps.
"""

# Celery ships no types: its decorators are untyped to mypy.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
import redis
from celery import Celery, chain, group

from aos_workflow import StepContext, WorkflowTask, durable, step
from aos_workflow.assembly import Runtime
from aos_workflow.settings import Settings
from tests.stack import AppEngine, Servers, Stack, driver_url, wait_until
from tests.wire_tap import WireTap

pytestmark = [pytest.mark.services, pytest.mark.worker]

APP = "tests.integration.test_costs"
#: In every value that flows through a run; must never be seen outside of the database.
SECRET = "tZ8-not-for-the-broker"
SEED = 3
#: Nothing but steps may speak to the database meanwhile.
SILENT: dict[str, Any] = {"sweep_every_s": 3600.0, "heartbeat_every_s": 3600.0, "worker_ttl_s": 7200.0}

app = Celery("costs", task_cls=WorkflowTask)
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)


@step
def grow(value: str) -> str:
    """The next value, of the same size."""
    return value.swapcase()


@step(local=True)
def grow_here(value: str) -> str:
    """The next value, without a message."""
    return value.swapcase()


@step(joins=True)
def count(values: list[str]) -> list[Any]:
    """How many came."""
    return [len(values), SECRET]


@step
def unfold(ctx: StepContext, value: str) -> Any:
    """Becomes a chain of two."""
    return ctx.replace(grow.s(value) | grow.s())


def line(steps: int) -> Any:
    return chain(grow.s(SECRET), *[grow.s() for _ in range(steps - 1)])


def local_line(steps: int) -> Any:
    return chain(grow.s(SECRET), *[grow_here.s() for _ in range(steps - 1)])


def fan(steps: int) -> Any:
    return group(grow.s(SECRET) for _ in range(steps - 1)) | count.s()


# --- the database -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def durable_database() -> bool:
    return True


@pytest.fixture
def tap(postgres_url: str) -> Iterator[WireTap]:
    tap = WireTap(postgres_url)
    yield tap
    tap.close()


@pytest.fixture
def tapped_engine(tap: WireTap) -> Iterator[AppEngine]:
    """An engine in this process that speaks to the database through the tap."""
    engine = AppEngine(Runtime(Settings(database_url=tap.url, app=APP, **SILENT)), app)
    yield engine
    engine.store.engine.dispose()


def marginal(cost: Callable[[int], float], few: int, many: int) -> float:
    """What one more step costs."""
    return (cost(many) - cost(few)) / (many - few)


@pytest.mark.parametrize("shape", [line, local_line, fan])
def test_two_round_trips_a_step_in_process(shape: Callable[[int], Any], tap: WireTap, tapped_engine: AppEngine) -> None:
    """A step performed in process takes a claim and a commit: two round trips, whatever the shape."""

    def round_trips(steps: int) -> int:
        before = len(tap.queries)
        assert tapped_engine.run_canvas(shape(steps), seed=SEED).status == "succeeded"
        return len(tap.queries) - before

    round_trips(2)
    assert marginal(round_trips, 10, 60) == 2


@pytest.mark.parametrize("shape", [line, local_line, fan])
def test_two_round_trips_a_step_in_a_worker(
    shape: Callable[[int], Any], servers: Servers, postgres_url: str, tap: WireTap
) -> None:
    """A step performed by a worker takes two round trips too, however what follows is published."""
    tapped = Stack(servers, database_url=tap.url, settings=SILENT)
    untapped = Stack(servers, database_url=postgres_url, redis_url=tapped.redis_url)
    engine = untapped.engine(APP)

    def round_trips(steps: int) -> int:
        before = len(tap.queries)
        assert engine.enqueue(durable(shape(steps)), seed=SEED).wait(timeout_s=60).status == "succeeded"
        return sum("pg_notify" not in query for query in tap.queries[before:])  # the notice is the run's, once

    try:
        tapped.worker(APP, pool="solo", concurrency=1)
        round_trips(10)
        round_trips(60)  # from now on the worker knows both plans
        assert marginal(round_trips, 10, 60) == 2
    finally:
        untapped.close()
        tapped.close()


@pytest.mark.parametrize("shape", [line, local_line, fan])
def test_one_fsync_a_step(shape: Callable[[int], Any], servers: Servers) -> None:
    """A step waits for one flush of the write-ahead log, that of its checkpoint; its claim waits for none.

    What PostgreSQL's own background processes flush meanwhile nobody waits for, so it is not counted.
    """
    url = servers.database(durable=True)
    with closing(psycopg2.connect(driver_url(url))) as connection, connection.cursor() as cursor:
        connection.autocommit = True  # in a transaction PostgreSQL would answer from what it saw at first
        if connection.server_version < 180000:
            pytest.skip("pg_stat_io counts flushes of the write-ahead log from PostgreSQL 18 on")
        cursor.execute("SHOW fsync")
        assert cursor.fetchone() == ("on",)

        def fsyncs() -> int:
            wait_until(lambda: not _sessions(cursor), what="the engine's sessions have reported and ended")
            cursor.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal' AND backend_type = 'client backend'"
            )
            ((count,),) = cursor.fetchall()
            return int(count)

        def flushes(steps: int) -> int:
            before = fsyncs()
            engine = AppEngine(Runtime(Settings(database_url=url, app=APP, **SILENT)), app)
            assert engine.run_canvas(shape(steps), seed=SEED).status == "succeeded"
            engine.store.engine.dispose()
            return fsyncs() - before

        flushes(2)
        assert marginal(flushes, 10, 60) == 1


def _sessions(cursor: Any) -> int:
    cursor.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'aos%'"
    )
    ((count,),) = cursor.fetchall()
    return int(count)


# --- the broker ---------------------------------------------------------------------------------


class Monitor:
    """Every message that is pushed into a queue of this Redis from now on, as JSON."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._end = f"end-{id(self)}"
        self._seen: list[dict[str, Any]] = []
        self._is_on = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert self._is_on.wait(timeout=10)

    def stop(self) -> list[dict[str, Any]]:
        self._client.echo(self._end)
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()
        self._client.close()
        return self._seen

    def _listen(self) -> None:
        with self._client.monitor() as monitor:  # type: ignore[no-untyped-call]
            self._is_on.set()
            for event in monitor.listen():
                command: str = event["command"]
                if command == f"ECHO {self._end}":
                    return
                if command.startswith("LPUSH celery "):
                    text = command.removeprefix("LPUSH celery ").replace("\\\\", "\\")
                    self._seen.append(json.loads(text))


@pytest.fixture(scope="module")
def performed(stack: Stack) -> Callable[[Any], list[dict[str, Any]]]:
    """The messages of a run that a worker has performed."""
    if stack.queue:
        pytest.skip("what RabbitMQ is sent cannot be read along")
    stack.worker(APP, pool="solo", concurrency=1)
    engine = stack.engine(APP)

    def messages(canvas: Any) -> list[dict[str, Any]]:
        monitor = Monitor(stack.redis_url)
        result = engine.enqueue(durable(canvas), seed=SEED).wait(timeout_s=90)
        assert result.status == "succeeded"
        assert SECRET.lower() in json.dumps(result.output).lower()
        return monitor.stop()

    return messages


def size(message: dict[str, Any]) -> int:
    """Bytes of a message, its body decoded, with every ordinal of an address counted as one digit."""
    text = json.dumps({**message, "body": body_of(message)})
    return len(re.sub(r"\b\d+(?=\.(grow|count|unfold))", "1", text))


def body_of(message: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(message["body"]))


Performed = Callable[[Any], list[dict[str, Any]]]


@pytest.mark.parametrize(("shape", "steps"), [(line, 40), (fan, 40)])
def test_one_message_a_step(shape: Callable[[int], Any], steps: int, performed: Performed) -> None:
    """Every step is brought by one message, sent once."""
    messages = performed(shape(steps))
    assert len({message["headers"]["id"] for message in messages}) == len(messages) == steps


def test_a_local_step_needs_no_message(performed: Performed) -> None:
    """Steps that follow in the same process cost the broker nothing."""
    assert len(performed(local_line(40))) == 1


@pytest.mark.parametrize(("shape", "few", "many"), [(line, 20, 1000), (fan, 10, 400)])
def test_a_message_does_not_grow_with_the_workflow(
    shape: Callable[[int], Any], few: int, many: int, performed: Performed
) -> None:
    """The longest message of a long workflow is as long as that of a short one, but for digits of ordinals."""
    assert max(map(size, performed(shape(many)))) == max(map(size, performed(shape(few))))


@pytest.mark.parametrize("canvas", [line(5), fan(5), local_line(5), grow.s(SECRET) | unfold.s()])
def test_messages_carry_no_values(canvas: Any, performed: Performed) -> None:
    """Neither a run's inputs nor any step's output is in any message, encoded or not."""
    for message in performed(canvas):
        text = json.dumps({**message, "body": body_of(message)}).lower()
        assert SECRET.lower() not in text
        args, kwargs, _ = body_of(message)
        assert (args, kwargs) == ([], {})
