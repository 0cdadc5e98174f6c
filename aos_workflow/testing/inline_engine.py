"""An engine for tests: it performs runs in the test's own process, with time that can be moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aos_workflow.assembly import Runtime, runtime_as
from aos_workflow.clock import ManualClock
from aos_workflow.database import open_database
from aos_workflow.engine import WorkflowEngine
from aos_workflow.records import RunResult
from aos_workflow.registry import durable
from aos_workflow.replay.replayer import Replayed, replay_recording
from aos_workflow.schema import metadata
from aos_workflow.settings import Settings

#: Goldens of tests are signed with this; it guards nothing.
TEST_SECRET = "aos-workflow-tests"


class InlineEngine(WorkflowEngine):
    """An engine that performs runs in this process. ``clock`` stands still until it is moved; retries move it."""

    def __init__(self, parts: Runtime, clock: ManualClock) -> None:
        super().__init__(parts)
        self.clock = clock
        self.executor = parts.executor
        self.golden_dir = parts.settings.golden_dir

    def run_canvas(self, canvas: Any, inputs: Any = None, *, seed: int | None = None, **options: Any) -> RunResult:
        """Perform any canvas and return how it ended; ``options`` as of ``Workflow`` (capture, volatile, golden)."""
        return self.run_here(durable(canvas, **options), inputs, seed=seed)

    def record(self, result: RunResult) -> Path:
        """Write the golden of a run that succeeded; returns its file."""
        self.store.want_golden(result.run_id)
        path: Path = self._parts.recorder.record(result.run_id)
        return path

    def replay(self, result: RunResult) -> Replayed:
        """Perform a run again, sealed, and compare."""
        recording = self._parts.recorder.recording(result.run_id)
        return replay_recording(recording, self._parts.tasks, volatile=self._parts.settings.volatile)


@contextmanager
def opened(folder: Path) -> Iterator[InlineEngine]:
    """An engine over a fresh SQLite file in ``folder``, the engine of this process while the block lasts."""
    url = f"sqlite:///{folder / 'aos.db'}"
    tables = open_database(url)
    metadata.create_all(tables)
    tables.dispose()
    clock = ManualClock()
    settings = Settings(
        database_url=url, home=folder, golden=0.0, golden_dir=folder / "golden", golden_secret=TEST_SECRET
    )
    parts = Runtime(settings, clock=clock, kind="test")
    with runtime_as(parts):
        yield InlineEngine(parts, clock)
    parts.close()
