"""The real services a test stands on: PostgreSQL, a broker, engines and worker processes.

    Servers         this test process's servers: embedded ones, or those the environment names
    Stack           a database and a broker of one's own on them, with engines and workers
    WorkerProcess   one real ``celery worker`` (tests/worker_process.py)

``AOS_TEST_DATABASE_URL``, ``AOS_TEST_REDIS_URL`` and ``AOS_TEST_RABBITMQ_URL`` name servers to use instead of
the embedded ones. They must be for tests alone: databases are created on the first, the second's databases 0 to
15 are flushed, and messages are left in the third.
"""

from __future__ import annotations

import importlib
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg2
import redis
from celery import Celery
from psycopg2 import sql

from aos_workflow import durable
from aos_workflow.assembly import Runtime
from aos_workflow.database import open_database
from aos_workflow.embedded import start_postgres, start_valkey
from aos_workflow.engine import RunHandle, WorkflowEngine
from aos_workflow.records import RunResult
from aos_workflow.schema import REVISION, VERSION_TABLE, metadata
from aos_workflow.settings import Settings
from tests.worker_process import WorkerProcess, wait_until

__all__ = ["AppEngine", "Servers", "Stack", "WorkerProcess", "driver_url", "wait_until"]

#: What every engine and worker of a test uses unless told otherwise: deaths are noticed and swept up quickly.
SETTINGS: Mapping[str, Any] = {"sweep_every_s": 0.5, "heartbeat_every_s": 0.5, "worker_ttl_s": 3.0}


def driver_url(url: str) -> str:
    """A database URL as psycopg2 itself takes it."""
    return url.replace("postgresql+psycopg2://", "postgresql://")


class Servers:
    """Servers of one test process, each started when it is first needed; ``close`` ends those that were."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="aos-", dir="/tmp"))
        self._folder.chmod(0o711)  # a root process runs its servers as nobody
        self._exits = ExitStack()
        self._exits.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._postgres: dict[bool, str] = {}
        self._templates: dict[bool, str] = {}
        self._numbers = itertools.count()

    def close(self) -> None:
        self._exits.close()

    def folder(self, name: str) -> Path:
        """A new folder, deleted with the servers."""
        path = self._folder / f"{name}{next(self._numbers)}"
        path.mkdir()
        return path

    def postgres(self, *, durable: bool = False) -> str:
        """URL of a PostgreSQL server; one with ``durable`` keeps what it acknowledged through a crash."""
        named = os.environ.get("AOS_TEST_DATABASE_URL")
        if named:
            return named
        if durable not in self._postgres:
            server = self._exits.enter_context(start_postgres(self.folder("pg"), durable=durable))
            self._postgres[durable] = server.url
        return self._postgres[durable]

    def database(self, *, durable: bool = False) -> str:
        """URL of a fresh database with the current schema."""
        server = self.postgres(durable=durable)
        if durable not in self._templates:
            self._templates[durable] = self._new_database(server, None)
            _upgrade(_with_database(server, self._templates[durable]))
        return _with_database(server, self._new_database(server, self._templates[durable]))

    def _new_database(self, server: str, template: str | None) -> str:
        name = f"aos_test_{os.getpid()}_{next(self._numbers)}_{secrets.token_hex(3)}"
        words = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template:
            words += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        _administer(server, words)
        if os.environ.get("AOS_TEST_DATABASE_URL"):
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            self._exits.callback(_administer, server, drop)
        return name

    def redis(self) -> str:
        """URL of an empty Redis: a server of its own, or a flushed database of the named server."""
        named = os.environ.get("AOS_TEST_REDIS_URL")
        if not named:
            return self._exits.enter_context(start_valkey(self.folder("valkey"))).url
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        url = f"{named.rpartition('/')[0]}/{(5 * worker + next(self._numbers)) % 16}"
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return url


class AppEngine(WorkflowEngine):
    """A WorkflowEngine that makes its app Celery's current one, as it is in a process that has only one.

    ``queue`` replaces Celery's default queue, where a broker is shared with other stacks.
    """

    def __init__(self, parts: Runtime, app: Celery, *, queue: str = "") -> None:
        super().__init__(parts)
        self.parts = parts
        self.app = app
        self._queue = queue or "celery"

    def enter(self) -> None:
        """Make the app the current one, and let it publish to this engine's broker from now on."""
        self.app.set_current()
        url, conf = self.parts.settings.broker_url, self.app.conf
        if url and (conf.get("broker_url") != url or conf.task_default_queue != self._queue):
            conf.update(broker_url=url, task_default_queue=self._queue)
            self.app._after_fork()  # what a forked child does: forget the connections

    def enqueue(self, flow: Any, inputs: Any = None, **options: Any) -> RunHandle:
        self.enter()
        return super().enqueue(flow, inputs, **options)

    def enqueue_many(self, flow: Any, inputs: Any, **options: Any) -> list[RunHandle]:
        self.enter()
        return super().enqueue_many(flow, inputs, **options)

    def run_here(self, workflow_type: Any, inputs: Any = None, *, seed: int | None = None) -> RunResult:
        self.enter()
        return super().run_here(workflow_type, inputs, seed=seed)

    def run_canvas(self, canvas: Any, inputs: Any = None, *, seed: int | None = None) -> RunResult:
        """Perform a canvas in this process."""
        self.enter()
        return self.run_here(durable(canvas, app=self.app), inputs, seed=seed)


class Stack:
    """A database and a broker of one's own; ``close`` kills its workers.

    ``database_url`` is None for engines that need none: each then has its private file.
    """

    def __init__(
        self,
        servers: Servers,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        settings: Mapping[str, Any] = SETTINGS,
    ) -> None:
        self._servers = servers
        self._given = (database_url, redis_url)
        self._settings = dict(settings)
        self._engines: dict[str, AppEngine] = {}
        self._exits = ExitStack()
        self.queue = f"q-{secrets.token_hex(4)}" if os.environ.get("AOS_TEST_RABBITMQ_URL") else ""

    def close(self) -> None:
        self._exits.close()

    @cached_property
    def database_url(self) -> str:
        return self._given[0] or self._servers.database()

    @cached_property
    def redis_url(self) -> str:
        return self._given[1] or self._servers.redis()

    @cached_property
    def broker_url(self) -> str:
        return os.environ.get("AOS_TEST_RABBITMQ_URL") or self.redis_url

    def engine(self, app_module: str, **settings: Any) -> AppEngine:
        """The engine of this process for the app in that module; what it enqueues, ``worker``s of it perform."""
        if app_module not in self._engines:
            app = importlib.import_module(app_module).app
            configuration = Settings(
                database_url=self.database_url,
                broker_url=self.broker_url,
                redis_url=self.redis_url,
                app=app_module,
                **{**self._settings, **settings},
            )
            parts = Runtime(configuration)
            self._exits.callback(_let_go, parts)
            self._engines[app_module] = AppEngine(parts, app, queue=self.queue)
        self._engines[app_module].enter()
        return self._engines[app_module]

    def worker(
        self,
        app_module: str,
        *,
        pool: str = "prefork",
        concurrency: int = 2,
        env: Mapping[str, str] | None = None,
        options: tuple[str, ...] = (),
    ) -> WorkerProcess:
        """Start a worker and wait until it takes messages."""
        return self.start_worker(
            app_module, pool=pool, concurrency=concurrency, env=env, options=options
        ).wait_until_ready()

    def start_worker(
        self,
        app_module: str,
        *,
        pool: str = "prefork",
        concurrency: int = 2,
        env: Mapping[str, str] | None = None,
        options: tuple[str, ...] = (),
    ) -> WorkerProcess:
        """Start a worker without waiting for it."""
        if self.queue:
            options = (*options, "-Q", f"{self.queue},celery", f"task.default_queue={self.queue}")
        process = WorkerProcess(
            app_module,
            folder=self._servers.folder("worker"),
            pool=pool,
            concurrency=concurrency,
            env={**self.environment(app_module), **(env or {})},
            options=options,
        )
        self._exits.callback(process.kill)
        return process

    def environment(self, app_module: str) -> dict[str, str]:
        """What a process of this stack finds in its environment."""
        variables = {
            "AOS_DATABASE_URL": self.database_url,
            "AOS_BROKER_URL": self.broker_url,
            "CELERY_BROKER_URL": self.broker_url,
            "AOS_REDIS_URL": self.redis_url,
            "AOS_APP": app_module,
        }
        return variables | {f"AOS_{name.upper()}": str(value) for name, value in self._settings.items()}


def inline_engine(app_module: str) -> AppEngine:
    """An engine without services: SQLite in a private file, no broker."""
    return AppEngine(Runtime(Settings(app=app_module)), importlib.import_module(app_module).app)


def _let_go(parts: Runtime) -> None:
    parts.say_goodbye()
    parts.store.engine.dispose()


def _upgrade(url: str) -> None:
    try:
        upgrade: Callable[[str], object] = importlib.import_module("aos_workflow.upgrade").upgrade
    except ModuleNotFoundError:
        upgrade = _create_all
    upgrade(url)


def _create_all(url: str) -> None:
    engine = open_database(url)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {VERSION_TABLE} (version_num text)")
        connection.exec_driver_sql(f"INSERT INTO {VERSION_TABLE} VALUES ('{REVISION}')")
    engine.dispose()


def _with_database(url: str, name: str) -> str:
    return f"{url.rpartition('/')[0]}/{name}"


def _administer(url: str, statement: sql.Composable) -> None:
    connection = psycopg2.connect(driver_url(url))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
