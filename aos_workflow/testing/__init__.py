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

# Every pytest run of every project that has the package installed loads this: the engine is imported when it is used.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aos_workflow.testing.inline_engine import TEST_SECRET, InlineEngine

__all__ = ["TEST_SECRET", "InlineEngine", "aos_engine"]


@pytest.fixture
def aos_engine(tmp_path: Path) -> Iterator[InlineEngine]:
    """An in-process engine over a fresh SQLite file; nothing else is needed."""
    from aos_workflow.testing.inline_engine import opened

    with opened(tmp_path) as engine:
        yield engine


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
    from aos_workflow.testing.goldens import prepare

    prepare(config, folders)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the process that replayed."""
    if config.getoption("--goldens"):
        from aos_workflow.testing.goldens import finish

        finish(config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A golden in a folder of ``--goldens`` is a file with one test."""
    if file_path.suffix != ".json" or not parent.config.getoption("--goldens"):
        return None
    from aos_workflow.testing.goldens import golden_file

    return golden_file(file_path, parent)


def __getattr__(name: str) -> Any:
    if name in ("InlineEngine", "TEST_SECRET"):
        from aos_workflow.testing import inline_engine

        return getattr(inline_engine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
