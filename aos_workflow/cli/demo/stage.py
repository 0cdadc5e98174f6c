"""The stage of the demo: a private directory, real servers, processes of its own. Nothing of it survives.

Every process here ends with this one: the servers by ``embedded``, the others by the same signal of the
kernel (Linux) or at the end of the block. The settings of the caller's environment are left out on purpose:
the demo is the same for everybody, and never touches a configured database or broker.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aos_workflow
from aos_workflow.assembly import Runtime
from aos_workflow.embedded import PostgresServer, ValkeyServer, start_postgres, start_valkey
from aos_workflow.errors import AosError
from aos_workflow.ids import new_secret
from aos_workflow.settings import Settings, environment_with

APP = "examples.trips.app"
#: Death on the same machine is noticed by the pid. The heartbeat only has to outlast a machine that stalls.
WORKER_TTL_S = 60.0
TAIL_LINES = 25

# Runs between fork and exec, for PR_SET_PDEATHSIG: ``preexec_fn`` may deadlock once there are threads.
# getppid covers a parent that died before.
_TRAMPOLINE = """
import ctypes, os, sys
parent, *argv = sys.argv[1:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() == int(parent):
    os.execv(argv[0], argv)
"""


class DemoFailed(AosError):
    """The demo could not come to its end. ``tail``: the last lines of the log that tells why."""

    code = "DEMO_FAILED"

    @property
    def tail(self) -> list[str]:
        return list(self.evidence.get("tail", ()))


class Child:
    """A Python process in a group of its own; what it prints goes to ``log``. To be started in the main thread.

    It gets SIGKILL when this process ends, also by SIGKILL (on Linux), and so do a Celery worker's own children.
    """

    def __init__(self, name: str, argv: list[str], *, log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _TRAMPOLINE, str(os.getpid()), sys.executable, *argv],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._popen.poll()

    def kill(self) -> None:
        """SIGKILL to the whole group, as when a machine loses power. Does nothing if it is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def failure(self, what: str) -> DemoFailed:
        """The error for something that this process left undone, with the end of its log."""
        status = self.returncode
        how = "is alive" if status is None else f"ended with {status}"
        tail = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return DemoFailed(f"{what}; {self.name} (pid {self.pid}) {how}", fix="its log ends as shown above", tail=tail)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Servers with the current schema, this process's parts on them, and what a child needs to join in."""

    directory: Path
    checkout: Path
    postgres: PostgresServer
    valkey: ValkeyServer
    parts: Runtime
    golden_secret: str = field(repr=False)
    children: contextlib.ExitStack = field(repr=False)

    def start_worker(self, number: int, *, processes: int) -> Child:
        """``aos worker`` as a user would start it, on this stage's servers."""
        environment = child_environment(
            self.checkout,
            AOS_APP=APP,
            AOS_DATABASE_URL=self.postgres.url,
            AOS_BROKER_URL=self.valkey.url,
            AOS_REDIS_URL=self.valkey.url,
            AOS_HOME=str(self.directory / "home"),
            GOLDEN_HMAC_SECRET=self.golden_secret,
            AOS_WORKER_TTL_S=f"{WORKER_TTL_S:g}",
            TMPDIR=str(self.directory),  # a killed worker leaves files of its pool behind
        )
        argv = ["-m", "aos_workflow.cli", "worker", "--concurrency", str(processes), "--hostname", f"demo{number}@%h"]
        log = self.directory / f"worker-{number}.log"
        worker = Child(f"worker {number}", argv, log=log, environment=environment)
        self.children.callback(worker.kill)
        return worker


@contextlib.contextmanager
def private_directory(*, keep: bool) -> Iterator[Path]:
    """A new directory, removed at the end unless it is to be kept."""
    directory = Path(tempfile.mkdtemp(prefix="aos-demo-")).resolve()
    directory.chmod(0o711)  # a root process runs its servers as nobody, who must get in
    try:
        yield directory
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def open_stage(directory: Path, checkout: Path) -> Iterator[Stage]:
    """Start the servers, bring the schema up, and close everything at the end, the children first."""
    from aos_workflow.upgrade import upgrade

    binaries = ("AOS_PG_BINDIR", "AOS_VALKEY_SERVER")
    given = Settings.from_environment({name: value for name, value in environment_with().items() if name in binaries})
    with (
        start_postgres(directory, pg_bindir=given.pg_bindir) as postgres,
        start_valkey(directory, valkey_server=given.valkey_server) as valkey,
    ):
        upgrade(postgres.url)
        secret = new_secret()
        parts = _parts(postgres.url, valkey.url, directory, checkout, secret)
        with contextlib.closing(parts), contextlib.ExitStack() as children:
            yield Stage(
                directory=directory,
                checkout=checkout,
                postgres=postgres,
                valkey=valkey,
                parts=parts,
                golden_secret=secret,
                children=children,
            )


def _parts(database_url: str, broker_url: str, directory: Path, checkout: Path, golden_secret: str) -> Runtime:
    """This process's parts, with the example's app publishing to the demo's broker and to no other."""
    settings = Settings(
        database_url=database_url,
        broker_url=broker_url,
        redis_url=broker_url,
        app=APP,
        home=directory / "home",
        golden_dir=directory / "home" / "golden",
        golden_secret=golden_secret,
        worker_ttl_s=WORKER_TTL_S,
    )
    parts = Runtime(settings, kind="demo")
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    app = parts.load_app()
    # Celery lets CELERY_BROKER_URL override broker_url, but not the two that are more precise.
    app.conf.update(broker_url=broker_url, broker_read_url=broker_url, broker_write_url=broker_url)
    if (app.conf.broker_read_url, app.conf.broker_write_url) != (broker_url, broker_url):
        raise DemoFailed(
            "CELERY_BROKER_READ_URL or CELERY_BROKER_WRITE_URL is set, which Celery prefers to the demo's own broker",
            fix="unset it for the demo",
        )
    return parts


@contextlib.contextmanager
def data_being_written(folder: Path, checkout: Path, *, rows: int, parts: int) -> Iterator[Child]:
    """``examples.trips.generate`` at work on ``folder`` while the block lasts; ended with it."""
    argv = ["-m", "examples.trips.generate", "--rows", str(rows), "--parts", str(parts), "--out", str(folder)]
    log = folder.with_name("generate.log")
    child = Child("the generator", argv, log=log, environment=child_environment(checkout))
    try:
        yield child
    finally:
        child.kill()


def find_checkout() -> Path:
    """The folder that holds ``examples/``: the one this package lies in, else the working directory."""
    for folder in (Path(aos_workflow.__file__).resolve().parents[1], Path.cwd()):
        if (folder / "examples" / "trips" / "app.py").is_file():
            return folder
    raise DemoFailed(
        "the demo performs examples/trips, which is in the source and not in the wheel",
        fix="run it in the folder of a checkout (git clone), or there: make demo",
    )


def child_environment(checkout: Path, **settings: str) -> dict[str, str]:
    """This environment without its settings of ours and of Celery, then ``settings``."""
    inherited = environment_with()
    kept = {name: value for name, value in inherited.items() if not name.startswith(("AOS_", "CELERY_"))}
    path = os.pathsep.join(filter(None, [str(checkout), kept.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **settings}
