"""Every shape a canvas can take gives the value plain Celery gives, in process and on a real worker.

Fixtures (tests/conftest.py):
    inline_engine   .run_canvas(canvas, seed=) -> RunResult, in this process
    worker_engine   session-scoped; .enqueue(durable(canvas), seed=) -> RunHandle, served by a real worker on
                    PostgreSQL and Redis that was started with `-A tests.conformance.tasks`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from aos_workflow import AosError, durable
from tests.conformance.catalogue.refused import REFUSED
from tests.conformance.oracle import expected, reference, text
from tests.conformance.random_canvas import Sketch, build, sketches
from tests.conformance.shapes import SHAPES

SEED = 7
WAIT_S = 240.0
"""A bound for a busy machine; all shapes together take some 20 s. One with a priority waits for all without: on
Redis a worker takes the messages of a lower priority only when there are no others."""

Settle = Callable[[], Any]
"""Waits for one run and returns its RunResult, or raises what starting it raised."""


def assert_value(settle: Settle, name: str) -> None:
    """The run succeeded and its output is the shape's expected value, byte for byte as JSON."""
    result = settle()
    assert result.status == "succeeded", f"{name} ended as {result.status}: {result.error}"
    assert text(result.output) == text(expected(name))


@pytest.mark.parametrize("name", SHAPES)
def test_in_process(name: str, inline_engine: Any) -> None:
    """Run in process, the shape gives plain Celery's value."""
    assert_value(lambda: inline_engine.run_canvas(SHAPES[name](), seed=SEED), name)


@pytest.fixture(scope="session")
def settles(worker_engine: Any) -> dict[str, Settle]:
    """Every shape enqueued at once, so that one worker's queue holds them all; waiting comes afterwards."""
    return {name: _started(worker_engine, name) for name in SHAPES}


@pytest.mark.worker
@pytest.mark.services
@pytest.mark.timeout(WAIT_S + 60)
@pytest.mark.xdist_group("conformance-worker")  # one queue full of shapes, not one per xdist process
@pytest.mark.parametrize("name", SHAPES)
def test_on_a_worker(name: str, settles: dict[str, Settle]) -> None:
    """Run by a real worker on PostgreSQL and Redis, the shape gives plain Celery's value."""
    assert_value(settles[name], name)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sketch=sketches())
def test_any_canvas_in_process(sketch: Sketch, inline_engine: Any) -> None:
    """Whatever canvas eager Celery can run gives the same value in process."""
    result = inline_engine.run_canvas(build(sketch), seed=SEED)
    assert result.status == "succeeded", result.error
    assert text(result.output) == text(reference(sketch))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_compile_is_refused(name: str, inline_engine: Any) -> None:
    """A canvas that cannot become a plan is a typed error that says what to do."""
    with pytest.raises(AosError) as refused:
        inline_engine.run_canvas(REFUSED[name](), seed=SEED)
    assert refused.value.fix


def _started(engine: Any, name: str) -> Settle:
    """Enqueue the shape now; an error at this point is that shape's failure, not the whole session's."""
    try:
        handle = engine.enqueue(durable(SHAPES[name]()), seed=SEED)
    except Exception as error:
        refusal = error

        def refused() -> Any:
            raise refusal

        return refused
    return lambda: handle.wait(timeout_s=WAIT_S)
