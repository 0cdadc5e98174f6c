"""Child processes that are kept alive: started again when they end, ended with this process.

A child is a direct child with a thread of its own, which starts it, passes its lines on and waits for it.
The kernel kills a child when the thread that forked it ends (Linux, PR_SET_PDEATHSIG), so a SIGKILL to this
process ends the children too; Celery's pool notices that its main process is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from aos_workflow.clock import monotonic_s

#: A child that lived this long was well; its next failure is a first one. Seconds.
WELL_AFTER_S = 30.0
LONGEST_PAUSE_S = 30.0
#: How long a child may take to end by itself, seconds.
STOP_PATIENCE_S = 15.0
GLANCE_S = 0.1

# Runs between fork and exec: ``preexec_fn`` may deadlock once there are threads. getppid covers a parent that
# died before.
_TIED = """
import ctypes, os, sys
parent, *command = sys.argv[1:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""


class Child:
    """One command that is kept running until ``stop``. ``tell`` receives each line it prints, without its end."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], tell: Callable[[str, str], None]
    ) -> None:
        self.name = name
        self._command = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]
        self._environment = dict(environment)
        self._tell = tell
        self._stopping = threading.Event()
        self._popen: subprocess.Popen[str] | None = None
        self._keeper = threading.Thread(target=self._keep, name=f"keeper of {name}", daemon=True)
        self._keeper.start()

    @property
    def is_alive(self) -> bool:
        return self._keeper.is_alive()

    def stop(self, *, hurry: threading.Event) -> None:
        """End it with SIGTERM; by force once ``hurry`` is set, or after STOP_PATIENCE_S."""
        self._stopping.set()
        deadline_s = monotonic_s() + STOP_PATIENCE_S
        self._signal(signal.SIGTERM)
        while self._keeper.is_alive() and not hurry.is_set() and monotonic_s() < deadline_s:
            self._keeper.join(GLANCE_S)
        self.kill()
        self._keeper.join()

    def kill(self) -> None:
        """SIGKILL to it and all its children."""
        if self._popen is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def _signal(self, signum: signal.Signals) -> None:
        if self._popen is not None and self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._popen.pid, signum)

    def _keep(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            started_s = monotonic_s()
            status = self._run_once()
            if self._stopping.is_set():
                return
            failures = 1 if monotonic_s() - started_s > WELL_AFTER_S else failures + 1
            pause = pause_s(failures)
            self._tell(self.name, f"ended with status {status}, starts again in {pause:g} s")
            self._stopping.wait(pause)

    def _run_once(self) -> int:
        self._popen = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches it through us, in order
        )
        if self._stopping.is_set():  # it was asked to stop while it was being born
            self._signal(signal.SIGTERM)
        reader = threading.Thread(target=self._pass_on, args=(self._popen,), daemon=True)
        reader.start()
        status = self._popen.wait()
        self.kill()  # its pool, if it was killed: steps of a dead worker are taken over
        reader.join()
        return status

    def _pass_on(self, popen: subprocess.Popen[str]) -> None:
        assert popen.stdout is not None
        for line in popen.stdout:
            self._tell(self.name, line.rstrip())


def pause_s(failures: int) -> float:
    """The pause before a child is started again: 0.5, 1, 2, 4 ... 30 seconds."""
    return min(LONGEST_PAUSE_S, 0.5 * 2.0 ** min(failures - 1, 16))
