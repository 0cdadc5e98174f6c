"""Waiting for a run: woken by a notice of PostgreSQL, not by asking; and what a handle says before and after."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import event, select

from aos_workflow import durable, watching
from aos_workflow.assembly import Runtime
from aos_workflow.errors import AosError, RunCancelled, RunFailed, RunNotFinished, RunNotFound, WaitTimeout
from aos_workflow.records import RunResult, RunStatus
from aos_workflow.schema import runs
from tests.conformance.store_cases import at_once, line, opened_bench, sqlite_url
from tests.integration import tasks
from tests.integration.conftest import APP
from tests.stack import AppEngine, Stack, wait_until

pytestmark = [pytest.mark.services, pytest.mark.worker, pytest.mark.usefixtures("prefork")]


@pytest.fixture
def deaf_to_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter looks by itself only once an hour: whatever wakes it earlier is a notice."""
    monkeypatch.setattr(watching, "LOOK_EVERY_S", 3600.0)


@contextmanager
def statements(engine: AppEngine) -> Iterator[list[str]]:
    """The statements this process sends to the database while the block lasts."""
    seen: list[str] = []

    def remember(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(engine.store.engine, "before_cursor_execute", remember)
    yield seen
    event.remove(engine.store.engine, "before_cursor_execute", remember)


def is_watched(engine: AppEngine, run_id: str) -> bool:
    """Does somebody wait for the run's end?"""
    with engine.store.engine.connect() as connection:
        return bool(connection.execute(select(runs.c.watched).where(runs.c.id == run_id)).scalar_one())


class Waiter(threading.Thread):
    """Waits for a run in a thread of its own."""

    def __init__(self, engine: AppEngine, run_id: str) -> None:
        super().__init__(daemon=True)
        self._wait = partial(engine.handle(run_id).wait, timeout_s=60)
        self._is_listening = partial(is_watched, engine, run_id)
        self.result: RunResult | None = None
        self.start()

    def run(self) -> None:
        self.result = self._wait()

    def wait_until_listening(self) -> None:
        wait_until(self._is_listening, what="the run is watched")

    def answer(self) -> RunResult:
        self.join(60)
        assert self.result is not None, "the waiter was not woken"
        return self.result


def test_a_waiter_is_woken_by_the_end_of_its_run_and_asks_only_then(
    engine: AppEngine, stage: tasks.Stage, key: str, deaf_to_the_clock: None
) -> None:
    """One look when it begins to listen and one when it is woken, however long the run takes."""
    run = engine.enqueue(durable(tasks.hold.s("v", key) | tasks.emit.s()))
    stage.wait_for_arrivals(key)
    with statements(engine) as seen:
        waiter = Waiter(engine, run.id)
        waiter.wait_until_listening()
        stage.open(key)
        result = waiter.answer()

    assert (result.status, result.output) == (RunStatus.SUCCEEDED, "v")
    assert sum(statement.startswith("LISTEN") for statement in seen) == 1
    assert sum("SELECT runs.status" in statement for statement in seen) <= 3


@pytest.mark.parametrize("end", ["failed", "cancelled", "handled"])
def test_a_waiter_is_woken_by_every_kind_of_end(
    engine: AppEngine, stage: tasks.Stage, key: str, deaf_to_the_clock: None, end: str
) -> None:
    """Failure, failure after its handlers, cancellation."""
    canvas = tasks.hold.s("v", key) | tasks.fail.si()
    if end == "handled":
        canvas.on_error(tasks.tell_of_failure.s(key))
    run = engine.enqueue(durable(canvas))
    stage.wait_for_arrivals(key)
    waiter = Waiter(engine, run.id)
    waiter.wait_until_listening()
    if end == "cancelled":
        run.cancel()
    stage.open(key)

    assert waiter.answer().status is (RunStatus.CANCELLED if end == "cancelled" else RunStatus.FAILED)


def test_all_waiters_of_a_run_are_woken(
    engine: AppEngine, stage: tasks.Stage, key: str, deaf_to_the_clock: None
) -> None:
    """A notice reaches whoever listens."""
    run = engine.enqueue(durable(tasks.hold.s("v", key)))
    stage.wait_for_arrivals(key)
    waiters = [Waiter(engine, run.id) for _ in range(4)]
    waiters[0].wait_until_listening()
    stage.open(key)

    assert [waiter.answer().output for waiter in waiters] == ["v"] * 4


def test_waiters_that_come_at_the_end_miss_nothing(engine: AppEngine, deaf_to_the_clock: None) -> None:
    """Listening comes before looking, so an end in between is seen by one or the other."""
    handles = engine.enqueue_many("integration.sum", [{"numbers": [n]} for n in range(8)])

    results = at_once([partial(handle.wait, timeout_s=60) for handle in handles])

    assert [result.output for result in results] == list(range(8))


def test_a_wait_that_is_too_short_says_what_the_run_does(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """WaitTimeout names run and status; the run is not disturbed, and waiting again works."""
    run = engine.enqueue(durable(tasks.hold.s("v", key)))
    stage.wait_for_arrivals(key)

    with pytest.raises(WaitTimeout, match=run.id) as late:
        run.wait(timeout_s=0.05)

    assert late.value.evidence == {"run_id": run.id, "status": "running"}
    assert late.value.retryable
    stage.open(key)
    assert run.wait(timeout_s=60).output == "v"


def test_waiting_for_a_run_that_has_ended_returns_at_once(engine: AppEngine, deaf_to_the_clock: None) -> None:
    """As often as one likes."""
    run = engine.enqueue(durable(tasks.emit.s(1)))
    first = run.wait(timeout_s=60)

    assert run.wait(timeout_s=0.001 + 60) == first == run.result()


def test_waiting_for_an_unknown_run_is_an_error(engine: AppEngine) -> None:
    """RunNotFound, not a wait for something that will never come."""
    with pytest.raises(RunNotFound):
        engine.handle("nobody").wait(timeout_s=60)


def test_a_wait_leaves_no_listener_behind(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """The connection goes back to the pool as it came, also from a wait that was too short."""
    engine.enqueue(durable(tasks.emit.s(1))).wait(timeout_s=60)
    run = engine.enqueue(durable(tasks.hold.s(1, key)))
    with pytest.raises(WaitTimeout):
        run.wait(timeout_s=0.01)
    stage.open(key)
    run.wait(timeout_s=60)

    connections = [engine.store.engine.connect() for _ in range(3)]
    channels = [connection.exec_driver_sql("SELECT pg_listening_channels()").all() for connection in connections]
    for connection in connections:
        connection.close()

    assert channels == [[], [], []]


def test_a_connection_that_dies_under_a_waiter_is_an_error_it_can_retry(
    engine: AppEngine, stage: tasks.Stage, key: str
) -> None:
    """StoreUnavailable, not the driver's own error; the run goes on, and waiting again works."""
    run = engine.enqueue(durable(tasks.hold.s("v", key)))
    stage.wait_for_arrivals(key)
    elsewhere = Runtime(engine.parts.settings, kind="waiter")
    errors: list[AosError] = []

    def wait() -> None:
        try:
            elsewhere.engine.handle(run.id).wait(timeout_s=60)
        except AosError as error:
            errors.append(error)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    wait_until(lambda: is_watched(engine, run.id), what="the run is watched")
    with engine.store.engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'aos waiter'"
        ).all()
    waiter.join(60)
    with pytest.raises(WaitTimeout):
        elsewhere.engine.handle(run.id).wait(timeout_s=0.01)
    stage.open(key)

    assert [error.code for error in errors] == ["STORE_UNAVAILABLE"]
    assert elsewhere.engine.handle(run.id).wait(timeout_s=60).output == "v"
    elsewhere.close()


def test_a_handle_gives_the_output_or_the_reason_why_there_is_none(
    engine: AppEngine, stage: tasks.Stage, key: str
) -> None:
    """``output()`` is for those who want an exception; ``result()`` never raises for how a run ended."""
    good, bad = engine.enqueue(durable(tasks.add.s(1, 2))), engine.enqueue(durable(tasks.fail.s(message="mine")))
    going = engine.enqueue(durable(tasks.hold.s("v", key)))
    stage.wait_for_arrivals(key)
    with pytest.raises(RunNotFinished, match=going.id):
        going.output()
    going.cancel()
    stage.open(key)
    for run in (good, bad, going):
        run.wait(timeout_s=60)

    assert good.output() == 3
    with pytest.raises(RunFailed, match="mine") as failed:
        bad.output()
    assert failed.value.evidence["error"]["type"] == "ValueError"
    with pytest.raises(RunCancelled):
        going.output()


def test_a_handle_made_from_an_id_is_as_good_as_the_one_enqueue_returned(shared: Stack, engine: AppEngine) -> None:
    """Another process needs only the id."""
    run = engine.enqueue(durable(tasks.add.s(1, 2)))

    assert shared.engine(APP).handle(run.id).wait(timeout_s=60) == run.wait(timeout_s=60)


def test_waiting_on_sqlite_looks_until_the_run_has_ended(tmp_path: Path) -> None:
    """SQLite has no notices; the waiter sees the end all the same."""
    with opened_bench(sqlite_url(tmp_path)) as bench:
        run_id = bench.run(line(1))
        waiting = threading.Event()

        def wait() -> RunStatus:
            waiting.set()
            return watching.wait_for_end(bench.store, run_id, timeout_s=60)

        def end() -> RunStatus:
            waiting.wait(60)
            return bench.store.cancel(run_id).status

        assert at_once([wait, end]) == [RunStatus.CANCELLED] * 2
        with pytest.raises(WaitTimeout):
            watching.wait_for_end(bench.store, bench.run(line(1)), timeout_s=0.01)
