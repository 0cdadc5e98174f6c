"""A broker that takes connections and never answers, as a frozen or cut-off Redis does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from aos_workflow import WorkflowEngine, WorkflowTask, durable
from aos_workflow.assembly import Runtime
from aos_workflow.settings import Settings
from aos_workflow.upgrade import upgrade

app = Celery("silent", task_cls=WorkflowTask, set_as_current=False)


@app.task
def nothing() -> None:
    return None


@pytest.fixture
def silent_broker() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@pytest.mark.timeout(60)
def test_a_broker_that_never_answers_holds_no_caller_for_ever(silent_broker: str, tmp_path: Any) -> None:
    """``enqueue`` comes back, the run is stored, and the sweep will publish it."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    upgrade(url)
    parts = Runtime(Settings(database_url=url, broker_url=silent_broker))
    run = WorkflowEngine(parts).enqueue(durable(nothing.si(), app=app))
    assert run.status == "enqueued"
    parts.close()
