"""The only door to the wall clock.

Everything that waits or stamps takes a ``Clock``, so a test can move time.
Decisions about ownership never use it on PostgreSQL: there the database's own clock decides.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds since the epoch, and a way to let them pass."""

    def now(self) -> float: ...

    def sleep(self, duration_s: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)


class ManualClock:
    """A clock that stands still until it is moved; sleeping moves it. For tests and replay."""

    def __init__(self, start_s: float = 1_700_000_000.0) -> None:
        self._now_s = start_s
        self._lock = threading.Lock()

    def now(self) -> float:
        with self._lock:
            return self._now_s

    def sleep(self, duration_s: float) -> None:
        self.move(duration_s)

    def move(self, duration_s: float) -> None:
        """Let ``duration_s`` seconds pass."""
        with self._lock:
            self._now_s += duration_s


def monotonic_s() -> float:
    """Seconds on a clock that never goes back, for durations."""
    return time.monotonic()
