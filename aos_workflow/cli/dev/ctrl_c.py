"""Ctrl-C (SIGINT) and SIGTERM as an event: once for an orderly end, twice for a quick one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


@dataclass(frozen=True, slots=True)
class Wish:
    """``stop`` is set by the first signal, ``hurry`` by the second."""

    stop: threading.Event = field(default_factory=threading.Event)
    hurry: threading.Event = field(default_factory=threading.Event)


@contextmanager
def wish_to_stop() -> Iterator[Wish]:
    """Signals become a wish while the block lasts. Only in the main thread."""
    wish = Wish()

    def heard(_signum: int, _frame: FrameType | None) -> None:
        (wish.hurry if wish.stop.is_set() else wish.stop).set()

    before = {signum: signal.signal(signum, heard) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
