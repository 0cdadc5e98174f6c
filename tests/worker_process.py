"""One real ``celery worker`` in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Self

from aos_workflow.embedded.process import Account, Process

ROOT = Path(__file__).resolve().parents[1]
#: How long anything here may take on a busy machine, seconds. A bound, not an expectation.
PATIENCE_S = 60.0
_POLL_S = 0.02


def wait_until(condition: Callable[[], object], *, what: str, timeout_s: float = PATIENCE_S) -> None:
    """Look every 20 ms until the condition holds; AssertionError naming ``what`` if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain until {what}")
        time.sleep(_POLL_S)


class WorkerProcess:
    """A worker that serves ``app_module``; it dies with this process. ``env`` comes on top of a clean environment."""

    alive: ClassVar[set[WorkerProcess]] = set()

    def __init__(
        self,
        app_module: str,
        *,
        folder: Path,
        pool: str = "prefork",
        concurrency: int = 2,
        env: Mapping[str, str] | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        self.log_path = folder / "worker.log"
        self.name = f"w{folder.name}@test"
        command = [sys.executable, "-m", "celery", "-A", app_module, "--workdir", str(folder), "worker"]
        command += ["--pool", pool, "--concurrency", str(concurrency), "--hostname", self.name]
        command += ["--loglevel", "INFO", "--without-gossip", "--without-mingle", *options]
        self._process = Process(
            command, log=self.log_path, signum=signal.SIGKILL, account=Account(), env=_environment(env or {})
        )
        self.pid = self._process.pid
        WorkerProcess.alive.add(self)

    @property
    def log(self) -> str:
        """Everything it printed so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def has_ended(self) -> bool:
        return self._process.done.is_set()

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def wait_until_ready(self, *, timeout_s: float = PATIENCE_S) -> Self:
        """Wait until it takes messages; AssertionError with the end of its log if it does not."""
        try:
            wait_until(lambda: self.is_ready or self.has_ended, what="the worker is ready", timeout_s=timeout_s)
        except AssertionError as late:
            raise AssertionError(f"{late}:\n{self.tail()}") from None
        if self.has_ended:
            raise AssertionError(f"the worker ended with {self.returncode}:\n{self.tail()}")
        return self

    @property
    def is_ready(self) -> bool:
        return f"{self.name} ready." in self.log

    def children(self) -> list[int]:
        """The pids of its living children, the pool's processes among them."""
        found = []
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(pid) for pid in task.read_text().split()]
        return [pid for pid in found if _is_running(pid)]

    def kill(self) -> None:
        """SIGKILL to the main process and all its children at once, as when a machine loses power."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.done.wait(PATIENCE_S)
        WorkerProcess.alive.discard(self)

    def signal(self, signum: signal.Signals) -> None:
        """A signal to the main process alone."""
        if not self.has_ended:
            os.kill(self.pid, signum)

    def terminate(self, *, timeout_s: float = PATIENCE_S) -> int | None:
        """Celery's warm shutdown; returns the exit status. Killed, with an AssertionError, if it takes too long."""
        self.signal(signal.SIGTERM)
        try:
            wait_until(lambda: self.has_ended, what="the worker has shut down", timeout_s=timeout_s)
        finally:
            self.kill()
        return self.returncode

    def wait_until_ended(self, *, timeout_s: float = PATIENCE_S) -> None:
        """Wait for its main process to end by itself (or by a fault)."""
        wait_until(lambda: self.has_ended, what="the worker has ended", timeout_s=timeout_s)

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.log.splitlines()[-lines:])


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without the settings of Celery and this project, then ``changes``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AOS_", "CELERY_")) and len(value.splitlines()) <= 1  # Process takes no others
    }
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", **changes}


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
