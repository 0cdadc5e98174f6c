"""A pytest plugin for users' own tests.

``aos_engine`` is an engine in this process, with time that can be moved::

    def test_triage(aos_engine):
        result = aos_engine.run_canvas(clean.s(document) | score.s(), seed=7)
        assert result.output["score"] > 0
        assert aos_engine.replay(result).verdict == "matched"

No services are needed: runs are kept in a SQLite file in the test's own directory, goldens beside it.

``pytest --goldens DIR`` makes every golden in DIR a test: it is performed again, sealed, with today's code
(AOS_APP or ``--aos-app`` names it), and fails with the step, the field, both values and the cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aos_workflow.assembly import Runtime, runtime_as
from aos_workflow.clock import ManualClock
from aos_workflow.database import open_database
from aos_workflow.engine import WorkflowEngine
from aos_workflow.errors import AosError
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


@pytest.fixture
def aos_engine(tmp_path: Path) -> Iterator[InlineEngine]:
    """An in-process engine over a fresh SQLite file; nothing else is needed."""
    url = f"sqlite:///{tmp_path / 'aos.db'}"
    tables = open_database(url)
    metadata.create_all(tables)
    tables.dispose()
    clock = ManualClock()
    settings = Settings(
        database_url=url, home=tmp_path, golden=0.0, golden_dir=tmp_path / "golden", golden_secret=TEST_SECRET
    )
    parts = Runtime(settings, clock=clock, kind="test")
    with runtime_as(parts):
        yield InlineEngine(parts, clock)
    parts.close()


# --- pytest --goldens DIR ------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--goldens`` and ``--aos-app``."""
    group = parser.getgroup("aos_workflow")
    group.addoption("--goldens", action="append", default=[], metavar="DIR", help="Make every golden in DIR a test.")
    group.addoption("--aos-app", default="", metavar="MODULE", help="The module with the workflows [env: AOS_APP].")


def pytest_configure(config: pytest.Config) -> None:
    """The folders of ``--goldens`` are collected beside whatever else is."""
    folders = config.getoption("--goldens")
    if not folders:
        return
    for folder in folders:
        if not any(Path(folder).glob("*.json")):
            raise pytest.UsageError(f"--goldens {folder}: there is no golden (*.json)")
    try:
        settings = Settings.from_environment()
    except AosError as malformed:
        raise pytest.UsageError(str(malformed)) from None
    app = config.getoption("--aos-app") or settings.app
    if not app:
        raise pytest.UsageError("--goldens needs --aos-app MODULE or AOS_APP: where the workflows are")
    config.stash[_PARTS] = Runtime(replace(settings, app=app, database_url=""), kind="test")
    config.stash[_FOLDERS] = tuple(Path(folder).resolve() for folder in folders)
    config.args.extend(str(folder) for folder in folders)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the process that replayed."""
    if _PARTS in config.stash:
        config.stash[_PARTS].close()


_PARTS = pytest.StashKey[Runtime]()
_FOLDERS = pytest.StashKey[tuple[Path, ...]]()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A golden in a folder of ``--goldens`` is a file with one test."""
    folders = parent.config.stash.get(_FOLDERS, ())
    if file_path.suffix != ".json" or file_path.parent.resolve() not in folders:
        return None
    return GoldenFile.from_parent(parent, path=file_path)


class GoldenFile(pytest.File):
    """One golden."""

    def collect(self) -> Iterator[pytest.Item]:
        yield GoldenItem.from_parent(self, name="replay")


class GoldenDiverged(Exception):
    """A golden did not give its recorded answer."""


class GoldenItem(pytest.Item):
    """The golden is performed again, and gives the recorded answer."""

    def runtest(self) -> None:
        answer = self.config.stash[_PARTS].judge(str(self.path))
        if answer["verdict"] not in ("matched", "ignored"):
            raise GoldenDiverged(reason(answer))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The reason alone: where in the plugin it was raised tells nobody anything."""
        if isinstance(excinfo.value, GoldenDiverged | AosError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"golden {self.path.name}"


def reason(answer: dict[str, Any]) -> str:
    """Why a golden is not matched, in a few lines."""
    found, error = answer["divergence"], answer.get("error")
    if error:
        return f"{error['message']}; {error['fix']}"
    lines = [
        f"{answer['workflow']} (run {answer['run_id']}) diverged",
        f"  at        {found['address']} {found['path'] or '(the whole output)'}",
        f"  recorded  {found['recorded']!r:.300}",
        f"  observed  {found['observed']!r:.300}",
    ]
    if found["cause"]:
        where = f" at {found['location']}" if found["location"] else ""
        lines += [f"  cause     {found['cause']}{where}", f"  fix       {found['fix']}"]
    return "\n".join(lines)
