"""A pytest plugin for users' own tests: ``aos_engine``, an engine in this process, with time that can be moved.

    def test_triage(aos_engine):
        result = aos_engine.run_canvas(clean.s(document) | score.s(), seed=7)
        assert result.output["score"] > 0

No services are needed: runs are kept in a SQLite file in the test's own directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aos_workflow.assembly import Runtime, runtime_as
from aos_workflow.clock import ManualClock
from aos_workflow.database import open_database
from aos_workflow.engine import WorkflowEngine
from aos_workflow.records import RunResult
from aos_workflow.registry import durable
from aos_workflow.schema import metadata
from aos_workflow.settings import Settings


class InlineEngine(WorkflowEngine):
    """An engine that performs runs in this process. ``clock`` stands still until it is moved; retries move it."""

    def __init__(self, parts: Runtime, clock: ManualClock) -> None:
        super().__init__(parts)
        self.clock = clock
        self.executor = parts.executor

    def run_canvas(self, canvas: Any, inputs: Any = None, *, seed: int | None = None) -> RunResult:
        """Perform any canvas and return how it ended."""
        return self.run_here(durable(canvas), inputs, seed=seed)


@pytest.fixture
def aos_engine(tmp_path: Path) -> Iterator[InlineEngine]:
    """An in-process engine over a fresh SQLite file; nothing else is needed."""
    url = f"sqlite:///{tmp_path / 'aos.db'}"
    tables = open_database(url)
    metadata.create_all(tables)
    tables.dispose()
    clock = ManualClock()
    parts = Runtime(Settings(database_url=url), clock=clock, kind="test")
    with runtime_as(parts):
        yield InlineEngine(parts, clock)
    parts.close()
