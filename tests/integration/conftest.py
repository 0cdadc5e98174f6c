"""What the integration tests share: one stack with a worker of each pool, started when it is first asked for.

shared     session   a database and a broker; ``engine`` enqueues on it, ``stage`` watches and steers its steps
prefork    session   its workers: queue "celery" (with a result backend for plain tasks),
threads              queues "threads" and "side",
solo                 and queue "solo"
bench      test      a store of its own without any worker, once on each database
key        test      a key no other test uses
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.store_cases import Bench, opened_bench, sqlite_url
from tests.integration import tasks
from tests.stack import AppEngine, Servers, Stack, WorkerProcess

APP = "tests.integration.tasks"


@pytest.fixture(scope="module")
def app_module() -> str:
    return APP


@pytest.fixture(scope="session")
def shared(servers: Servers) -> Iterator[Stack]:
    stack = Stack(servers)
    with stack.engine(APP).store.engine.begin() as connection:
        connection.exec_driver_sql(tasks.OWN_TABLE)
    yield stack
    stack.close()


@pytest.fixture
def engine(shared: Stack) -> AppEngine:
    """What it enqueues, the shared workers perform."""
    return shared.engine(APP)


@pytest.fixture(scope="session")
def prefork(shared: Stack) -> WorkerProcess:
    return shared.worker(APP, concurrency=3, env={"CELERY_RESULT_BACKEND": shared.redis_url})


@pytest.fixture(scope="session")
def threads(shared: Stack) -> WorkerProcess:
    return shared.worker(APP, pool="threads", concurrency=3, options=("-Q", "threads,side"))


@pytest.fixture(scope="session")
def solo(shared: Stack) -> WorkerProcess:
    return shared.worker(APP, pool="solo", concurrency=1, options=("-Q", "solo"))


@pytest.fixture(scope="session")
def stage(shared: Stack) -> Iterator[tasks.Stage]:
    stage = tasks.Stage(shared.redis_url)
    yield stage
    stage.redis.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else sqlite_url(tmp_path)
    with opened_bench(url) as bench:
        yield bench


@pytest.fixture
def key() -> str:
    return secrets.token_hex(6)


@pytest.fixture(autouse=True)
def _current_app() -> None:
    """Celery's current app is whichever was used last; here it is always the same."""
    tasks.app.set_current()
