"""Fixtures every suite may use. Nothing is started before a test asks for it.

    servers         session   this process's PostgreSQL and Valkey
    stack           module    a database and a broker of one's own: stack.engine(app), stack.worker(app)
    postgres_url    module    the stack's database, fresh, with the current schema
    redis_url       module    the stack's Redis, empty
    worker          module    worker("tests.x.tasks", pool=, concurrency=, env=) -> WorkerProcess on this stack
    worker_engine   session   an engine whose runs a real worker of the conformance suite performs
    inline_engine   test      an engine that performs runs in this process, for the app in ``app_module``

A module redefines ``app_module`` to say which app its engines serve, and ``durable_database`` for a PostgreSQL
with fsync. The log of every worker that is alive when a test fails is shown with the failure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.stack import AppEngine, Servers, Stack, WorkerProcess
from tests.stack import inline_engine as new_inline_engine

# A test that is slow on a busy machine has not failed.
settings.register_profile("untimed", deadline=None, max_examples=30)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "untimed"))

CONFORMANCE = "tests.conformance.tasks"


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(scope="module")
def durable_database() -> bool:
    return False


@pytest.fixture(scope="module")
def stack(servers: Servers, durable_database: bool) -> Iterator[Stack]:
    stack = Stack(servers, database_url=servers.database(durable=durable_database))
    yield stack
    stack.close()


@pytest.fixture(scope="module")
def postgres_url(stack: Stack) -> str:
    return stack.database_url


@pytest.fixture(scope="module")
def redis_url(stack: Stack) -> str:
    return stack.redis_url


@pytest.fixture(scope="module")
def worker(stack: Stack) -> Callable[..., WorkerProcess]:
    return stack.worker


@pytest.fixture(scope="session")
def worker_engine(servers: Servers) -> Iterator[AppEngine]:
    stack = Stack(servers)
    engine = stack.engine(CONFORMANCE)
    stack.worker(CONFORMANCE)
    yield engine
    stack.close()


@pytest.fixture(scope="session")
def _inline_engines() -> dict[str, AppEngine]:
    return {}


@pytest.fixture(scope="module")
def app_module() -> str:
    return CONFORMANCE


@pytest.fixture
def inline_engine(_inline_engines: dict[str, AppEngine], app_module: str) -> AppEngine:
    if app_module not in _inline_engines:
        _inline_engines[app_module] = new_inline_engine(app_module)
    engine = _inline_engines[app_module]
    engine.app.set_current()
    return engine


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for process in sorted(WorkerProcess.alive, key=lambda process: process.name):
            report.sections.append((f"log of worker {process.name}", process.tail()))
    return report


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """What starts a worker needs services too."""
    for item in items:
        if item.get_closest_marker("worker") or item.get_closest_marker("chaos"):
            item.add_marker(pytest.mark.services)
