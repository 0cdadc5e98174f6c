"""What the integration tests share: the engine of ``tests.integration.tasks`` on the module's stack, and its stage."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.store_cases import Bench, opened_bench
from tests.integration import tasks
from tests.stack import AppEngine, Stack, WorkerProcess

APP = "tests.integration.tasks"


@pytest.fixture(scope="module")
def app_module() -> str:
    return APP


@pytest.fixture(scope="module")
def engine(stack: Stack) -> AppEngine:
    """What it enqueues, the workers of the module's stack perform."""
    return stack.engine(APP)


@pytest.fixture(scope="module")
def prefork(stack: Stack, engine: AppEngine) -> WorkerProcess:
    """The module's prefork worker."""
    return stack.worker(APP)


@pytest.fixture(scope="module")
def stage(redis_url: str) -> Iterator[tasks.Stage]:
    """The marks and gates of the module's workers."""
    stage = tasks.Stage(redis_url)
    yield stage
    stage.redis.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """A store and its fleet without any worker, once on each database."""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    else:
        url = f"sqlite:///{tmp_path / 'runs.db'}"
    with opened_bench(url) as bench:
        yield bench


@pytest.fixture
def key() -> str:
    """A key no other test uses."""
    return secrets.token_hex(6)


@pytest.fixture(autouse=True)
def _current_app() -> None:
    """Celery's current app is whichever was used last; here it is always the same."""
    tasks.app.set_current()
