"""The task that beat's tick starts: one turn of maintenance for the whole fleet."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from aos_workflow import WorkflowTask, durable
from aos_workflow.assembly import Runtime, runtime_as
from aos_workflow.clock import ManualClock
from aos_workflow.maintenance import SWEEP, sweep, take_turn
from aos_workflow.records import WorkerProcess
from aos_workflow.settings import Settings
from aos_workflow.upgrade import upgrade

NOWHERE = "redis://127.0.0.1:1/0"  # nothing listens there
LATER_S = 3600.0


@pytest.fixture
def app() -> Celery:
    app = Celery("swept", broker=NOWHERE, task_cls=WorkflowTask)
    app.conf.task_default_queue = f"q-{secrets.token_hex(4)}"
    app.set_current()

    @app.task(name="double", shared=False)  # type: ignore[untyped-decorator]
    def double(number: int) -> int:
        return 2 * number

    return app


@pytest.fixture
def parts(tmp_path: Path, app: Celery) -> Iterator[Runtime]:
    """A process whose database knows a run that was never published, as the broker was away; now it is back."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    upgrade(url)
    clock = ManualClock()
    parts = Runtime(Settings(database_url=url, sweep_every_s=10.0), clock=clock)
    with runtime_as(parts):
        durable(app.signature("double", args=(21,)), app=app).enqueue()
        app.conf.broker_url = "memory://"
        app._after_fork()  # forget the connections
        clock.move(LATER_S)
        yield parts
    parts.close()


def waiting(app: Celery) -> int:
    with app.connection_for_read() as connection:
        return int(connection.SimpleQueue(app.conf.task_default_queue).qsize())


def test_a_tick_publishes_what_was_left_behind(app: Celery, parts: Runtime) -> None:
    """The task aos.sweep finds a run nobody was told of, and tells a worker."""
    assert app.tasks[SWEEP].apply().get() == 1
    assert waiting(app) == 1


def test_who_comes_too_early_does_nothing(app: Celery, parts: Runtime) -> None:
    """However many ticks and caretakers ask, the fleet sweeps once per interval."""
    assert [take_turn(parts, every_s=10.0), sweep(), take_turn(parts, every_s=10.0)] == [1, 0, 0]
    assert waiting(app) == 1


def test_a_death_is_not_left_waiting(app: Celery, parts: Runtime) -> None:
    """Whoever buries a dead process sweeps at once."""
    assert take_turn(parts, every_s=2 * LATER_S) == 1
    parts.fleet.join(WorkerProcess(id="w-dead", kind="worker", host="elsewhere", pid=1))
    parts.store.clock.sleep(LATER_S)
    assert take_turn(parts, every_s=2 * LATER_S) == 1


def test_a_tick_outlives_the_database(
    app: Celery, parts: Runtime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the database is away a tick is one warning; the next one tries again."""
    away = Runtime(Settings(database_url="postgresql://nobody@127.0.0.1:1/nothing"))
    with runtime_as(away), caplog.at_level(logging.WARNING):
        assert sweep() == 0
    assert "the next tick will try again" in caplog.text
    assert sweep() == 1


def test_the_tick_is_a_plain_task(app: Celery) -> None:
    """Every app has the task aos.sweep, and it is no step."""
    assert SWEEP in app.tasks
    assert not getattr(app.tasks[SWEEP], "is_step", False)
    assert app.tasks[SWEEP].ignore_result
