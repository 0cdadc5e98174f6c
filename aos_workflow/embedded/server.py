"""What both embedded servers share: the claim on a directory, the start loop, stop and kill."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from aos_workflow.clock import monotonic_s
from aos_workflow.embedded.process import STOP_TIMEOUT_S, Account, Process, server_account
from aos_workflow.errors import EmbeddedUnavailable

START_TIMEOUT_S = 60.0  # the recovery of a large database after a crash takes its time
POLL_S = 0.02
RETRY_S = 0.1
SHOWN_LINES = 5  # of the log, in an error's message
TAIL_LINES = 20  # of the log, in its evidence


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A running server; as a context manager it stops at the end of the block."""

    url: str = field(repr=False)  # may hold a password
    port: int
    pid: int
    directory: Path
    log_path: Path
    process: Process = field(repr=False, compare=False)

    def stop(self) -> None:
        """Orderly end, by force after STOP_TIMEOUT_S. Does nothing if the server is gone."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL, as in a crash. Does nothing if the server is gone."""
        self.process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A directory claimed for one kind of server; ``lease`` is the locked descriptor."""

    directory: Path
    kind: str
    account: Account
    signum: signal.Signals  # asks this kind of server for an orderly end
    lease: int

    @property
    def data(self) -> Path:
        """The server's folder; it is in its command line, by which an orphan is recognised."""
        return self.directory / self.kind

    @property
    def log_path(self) -> Path:
        return self.directory / f"{self.kind}.log"

    @property
    def pid_path(self) -> Path:
        return self.directory / f"{self.kind}.pid"

    def spawn(self, argv: list[str], env: dict[str, str] | None = None) -> Process:
        """Start a command under the site's account; it gets this environment only, and writes to the log."""
        # English messages, because _may_pass reads them.
        env = {"LC_ALL": "C", "TZ": "UTC", **(env or {})}
        return Process(argv, log=self.log_path, signum=self.signum, account=self.account, env=env)

    def log_size(self) -> int:
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def log_since(self, position: int) -> list[str]:
        with self.log_path.open("rb") as log:
            log.seek(position)
            return log.read().decode(errors="replace").splitlines()

    def failure(self, what: str, log_from: int) -> EmbeddedUnavailable:
        """The error for a command that failed: one line with the end of its log, more of it as evidence."""
        tail = self.log_since(log_from)[-TAIL_LINES:]
        text = f"{what} in {self.directory}: {' | '.join(tail[-SHOWN_LINES:])}"
        return EmbeddedUnavailable(text, fix=f"read {self.log_path}", tail=tail)


@contextlib.contextmanager
def claim(directory: Path, kind: str, signum: signal.Signals) -> Iterator[Site]:
    """Make the directory ours for the block, and for as long as a process holds the lease.

    The orphan of an owner that died is ended first. Raises EmbeddedUnavailable if the owner lives, or for
    any OSError in the block.
    """
    account = server_account()
    try:
        directory = directory.resolve()
        _make_enterable(directory, account)
        lease = os.open(directory / f"{kind}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _is_locked(lease):
                text = f"{kind} in {directory} is in use by another process, or twice in this one"
                raise EmbeddedUnavailable(text, fix="stop that one, or choose another directory")
            site = Site(directory=directory, kind=kind, account=account, signum=signum, lease=lease)
            _end_orphan(site)
            yield site
        finally:
            os.close(lease)
    except OSError as error:
        text = f"cannot start {kind} in {directory}: {error}"
        raise EmbeddedUnavailable(text, fix="choose a directory of your own") from error


def launch(
    site: Site, port: int | None, spawn: Callable[[int], Process], ready: Callable[[Process, int], bool]
) -> tuple[Process, int]:
    """Start a server on the port (None: a free one) and wait until it is ready; it then holds the lease.

    Raises EmbeddedUnavailable, with the end of its log, if it ends or is not ready in time.
    """
    deadline = monotonic_s() + START_TIMEOUT_S
    while True:
        log_from, number = site.log_size(), port or _free_port()
        process = spawn(number)
        try:
            site.pid_path.write_text(f"{process.pid}\n")
            while not process.done.wait(POLL_S):
                if ready(process, number):
                    process.hold(site.lease)
                    return process, number
                if monotonic_s() > deadline:
                    raise site.failure(f"{site.kind} was not ready after {START_TIMEOUT_S:.0f} s", log_from)
        except BaseException:
            process.kill()
            raise
        if monotonic_s() > deadline or not _may_pass(site.log_since(log_from), port):
            raise site.failure(f"{site.kind} ended with status {process.returncode} at its start", log_from)
        time.sleep(RETRY_S)


def first_number(path: Path) -> int:
    """The number in the file's first line, 0 if there is none."""
    try:
        return int(path.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return 0


def serves(pid: int, data: Path) -> bool:
    """Whether the pid is a living process with this folder as a word of its command line."""
    if sys.platform == "linux":
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        return b"\0%s\0" % os.fsencode(data) in words
    listing = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    words = subprocess.run(listing, capture_output=True, check=False).stdout
    return b" %s " % os.fsencode(data) in words.replace(b"\n", b" ")


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_enterable(directory: Path, account: Account) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account.uid and not _can_enter(directory, account):
        # This folder is ours to open, and what is inside stays closed; its parents belong to others.
        directory.chmod(stat.S_IMODE(directory.stat().st_mode) | 0o011)
        if not _can_enter(directory, account):
            text = f"a root process runs its servers as 'nobody', who cannot enter {directory.parent}"
            raise EmbeddedUnavailable(text, fix="choose a directory directly below /tmp or /var/lib")


def _can_enter(directory: Path, account: Account) -> bool:
    return account.can_run("/bin/sh", "-c", 'cd -- "$0"', directory)


def _end_orphan(site: Site) -> None:
    """End the server whose owner died: on Linux it is about to end, elsewhere nobody else would end it."""
    pid = first_number(site.pid_path)
    for signum in (site.signum, signal.SIGKILL):
        if pid and serves(pid, site.data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
            deadline = monotonic_s() + STOP_TIMEOUT_S
            while serves(pid, site.data) and monotonic_s() < deadline:
                time.sleep(POLL_S)


def _may_pass(log: list[str], port: int | None) -> bool:
    """Whether the same start may work in a moment, judged by the log of the failed one.

    A free port may be taken before the server binds it. And the backends of a killed postmaster live until
    they notice, during which PostgreSQL rightly refuses to start.
    """
    text = "\n".join(log)
    return "pre-existing shared memory block" in text or (port is None and "already in use" in text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
