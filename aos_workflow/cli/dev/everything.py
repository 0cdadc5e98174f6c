"""``aos dev``: real servers, a worker and a beat, each a process of its own, as in production."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

import click

from aos_workflow.cli import output
from aos_workflow.cli.dev.ctrl_c import Wish, wish_to_stop
from aos_workflow.cli.dev.place import Ports, folder_for, golden_variables, tell, with_goldens
from aos_workflow.cli.dev.supervisor import Child
from aos_workflow.cli.processes import beat_command, process_environment, worker_command
from aos_workflow.embedded import PostgresServer, ValkeyServer, start_postgres, start_valkey
from aos_workflow.registry import load_app
from aos_workflow.settings import Settings, environment_with
from aos_workflow.upgrade import upgrade

if TYPE_CHECKING:
    from rich.console import Console

Server: TypeAlias = "PostgresServer | ValkeyServer"
WATCH_EVERY_S = 0.5
COLOURS = {"postgres": "blue", "valkey": "magenta", "worker": "green", "beat": "yellow"}


class Board:
    """Where the lines of all processes are shown, each with the name of its process."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = Lock()

    def line(self, name: str, text: str) -> None:
        from rich.text import Text

        with self._lock:
            self._console.print(Text(f"{name:8} | ", COLOURS.get(name, "")) + Text.from_ansi(text), soft_wrap=True)


class Servers:
    """The embedded servers that are needed; one that ends is started again on its port."""

    def __init__(self, settings: Settings, folder: Path, board: Board) -> None:
        self._settings = settings
        self._folder = folder
        self._board = board
        self._ports = Ports(folder)
        self._running: dict[str, Server] = {}

    def postgres(self) -> str:
        """Start PostgreSQL; its URL."""
        return self._start("postgres", self._new_postgres).url

    def valkey(self) -> str:
        """Start Valkey; its URL, with database 0."""
        return self._start("valkey", self._new_valkey).url

    def look_after(self) -> None:
        """Start again what ended."""
        for name, server in list(self._running.items()):
            if server.process.done.is_set():
                self._board.line(name, f"ended with status {server.process.returncode}, starts again")
                self._start(name, self._new_postgres if name == "postgres" else self._new_valkey)

    def stop(self) -> None:
        for server in reversed(self._running.values()):
            server.stop()

    def _start(self, name: str, new: Callable[[int | None], Server]) -> Server:
        before = self._running.get(name)
        server = new(before.port if before else self._ports.of(name))
        self._ports.remember(name, server.port)
        self._running[name] = server
        self._board.line(name, f"127.0.0.1:{server.port}, log: {server.log_path}")
        return server

    def _new_postgres(self, port: int | None) -> Server:
        return start_postgres(self._folder, port=port, pg_bindir=self._settings.pg_bindir)

    def _new_valkey(self, port: int | None) -> Server:
        return start_valkey(self._folder, port=port, valkey_server=self._settings.valkey_server)


def run_everything(settings: Settings, *, concurrency: int) -> None:
    """Start it all, keep it going, stop it in order: beat, worker, servers."""
    if settings.app:
        load_app(settings.app)  # what is wrong with it is said before anything is started
    folder = folder_for(settings)
    board = Board(output.console())
    with wish_to_stop() as wish, ExitStack() as stops:
        servers = Servers(settings, folder, board)
        stops.callback(servers.stop)
        settings = with_goldens(_with_servers(settings, servers, folder), folder)
        board.line("schema", upgrade(settings.database_url))
        if settings.app:
            stops.callback(_stop, _start_children(settings, concurrency, board), wish)
        tell(folder, _variables(settings))
        while not wish.stop.wait(WATCH_EVERY_S):
            servers.look_after()
        click.echo("\nstopping (Ctrl-C again: at once)")


def _with_servers(settings: Settings, servers: Servers, folder: Path) -> Settings:
    """The settings with an embedded server for each that is not configured, and one line that says so."""
    missing = [
        name for name, url in (("PostgreSQL", settings.database_url), ("Valkey", settings.broker_url)) if not url
    ]
    if missing:
        click.echo(f"{' and '.join(missing)} in {folder}, because nothing else is configured")
    settings = replace(settings, home=folder)
    if not settings.database_url:
        settings = replace(settings, database_url=servers.postgres())
    if not settings.broker_url:
        url = servers.valkey()
        # Budgets are where redis-cli looks first, messages in a database of their own.
        settings = replace(settings, broker_url=f"{url.removesuffix('0')}1", redis_url=settings.redis_url or url)
    return settings


def _start_children(settings: Settings, concurrency: int, board: Board) -> list[Child]:
    environment = {
        **process_environment(settings),
        **{name: value for name, value in golden_variables(settings).items() if value},
        "AOS_HOME": str(settings.home),
        **_without_root_warning(),
    }
    commands = {
        "worker": worker_command(settings, ["--concurrency", str(concurrency)], quiet=True),
        "beat": beat_command(settings, quiet=True),
    }
    return [Child(name, command, environment, board.line) for name, command in commands.items()]


def _without_root_warning() -> dict[str, str]:
    """On one's own machine it is no news that one is root."""
    given = environment_with().get("PYTHONWARNINGS", "")
    return {"PYTHONWARNINGS": ",".join(filter(None, [given, "ignore:You're running the worker with superuser"]))}


def _variables(settings: Settings) -> dict[str, str]:
    return {
        "AOS_DATABASE_URL": settings.database_url,
        "AOS_BROKER_URL": settings.broker_url,
        "AOS_REDIS_URL": settings.redis_url,
        "AOS_APP": settings.app,
        "AOS_HOME": str(settings.home),
        **golden_variables(settings),
    }


def _stop(children: list[Child], wish: Wish) -> None:
    for child in reversed(children):
        child.stop(hurry=wish.hurry)
