"""A process that lives never keeps a claim that nobody works on, whatever kind of error came in between.

A step stays claimed for as long as its process has a heartbeat. A driver's own error, raised where a connection went
back to its pool, once passed by every handler, and the run of that step never ended.
"""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from aos_workflow import WorkflowTask
from aos_workflow.testing import InlineEngine

app = Celery("unit_claims", task_cls=WorkflowTask, set_as_current=False)


@app.task(name="claims.echo")  # type: ignore[untyped-decorator]
def echo(x: int) -> int:
    return x


class DriverError(Exception):
    """What a driver raises where nobody translates it."""


@pytest.fixture
def lives(aos_engine: InlineEngine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids this process gave up, in order."""
    given_up: list[str] = []
    start_new_life = aos_engine.executor._start_new_life

    def note() -> None:
        given_up.append(aos_engine.executor._worker_id())
        start_new_life()

    monkeypatch.setattr(aos_engine.executor, "_start_new_life", note)
    return given_up


def after(call: Any) -> Any:
    """``call``, and then the driver's error: it has happened, and only the answer was lost."""

    def called(*args: Any, **kwargs: Any) -> None:
        call(*args, **kwargs)
        raise DriverError

    return called


def instead_of(_call: Any) -> Any:
    def called(*_args: Any, **_kwargs: Any) -> None:
        raise DriverError

    return called


def test_a_claim_whose_answer_a_raw_error_swallowed_is_let_go(
    aos_engine: InlineEngine, lives: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step may be claimed without anybody knowing: the process gives up the id it claimed it under."""
    store = aos_engine.executor.store
    monkeypatch.setattr(store, "claim", after(store.claim))
    with pytest.raises(DriverError):
        aos_engine.run_canvas(echo.s(1))
    assert len(lives) == 1


def test_a_step_that_cannot_be_given_back_is_let_go(
    aos_engine: InlineEngine, lives: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the commit nor giving the step back worked, and no error was one of ours."""
    store = aos_engine.executor.store
    monkeypatch.setattr(store, "commit", instead_of(store.commit))
    monkeypatch.setattr(store, "settle", instead_of(store.settle))
    with pytest.raises(DriverError):
        aos_engine.run_canvas(echo.s(1))
    assert len(lives) == 1


def test_a_step_that_is_given_back_costs_no_identity(
    aos_engine: InlineEngine, lives: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database takes the step back, the process stays who it is."""
    store = aos_engine.executor.store
    monkeypatch.setattr(store, "commit", instead_of(store.commit))
    with pytest.raises(DriverError):
        aos_engine.run_canvas(echo.s(1))
    assert lives == []
