"""Drawing from the journal: the one way from a gate to a recorded value."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import get_ident
from types import FrameType
from typing import Any

from aos_workflow.determinism.callers import is_importing, series_owner
from aos_workflow.determinism.captured import Captured, captured

capture_of_now = captured.get
caller = sys._getframe

_DOUBLINGS = 22

#: Threads that are in the journal. What they call meanwhile (a garbage collector's ``__del__``, a signal's
#: handler) is no step's call, and would wait for the journal's lock for ever.
_drawing: set[int] = set()


def owner_of(capture: Captured, frame: FrameType) -> str | None:
    """For whom a call made in ``frame`` is captured; None when it passes through."""
    # A thread that outlives its step keeps the capture it was started with: it ended with the step.
    if not capture.ambient or capture.is_over or get_ident() in _drawing:
        return None
    owner = series_owner(frame)
    return None if owner is None or is_importing(frame) else owner


def draw(capture: Captured, series: str, live: Callable[[], Any], beyond: Callable[[], Any]) -> Any:
    """The next value of the series: live, or as recorded."""
    me = get_ident()
    try:
        _drawing.add(me)
        return capture.journal.draw(series, live, beyond)
    finally:
        _drawing.discard(me)


def draw_time(
    capture: Captured,
    series: str,
    live: Callable[[], Any],
    first: Callable[[], Any],
    later: Callable[[Any, int], Any],
) -> Any:
    """Like ``draw``; beyond the recording ``later(last, milliseconds)``, from ``first()`` if nothing was recorded.

    Each reading is further on than the one before, so a loop that waits for a moment ends.
    """

    def beyond() -> Any:
        values, count = capture.journal.ambient.get(series), capture.late(series)
        return later(values[-1], _ahead_ms(count + 1)) if values else later(first(), _ahead_ms(count))

    return draw(capture, series, live, beyond)


def _ahead_ms(count: int) -> int:
    """1, 3, 7, 15, ...: steps of a millisecond, doubled each time until they are about an hour."""
    doubled = min(count, _DOUBLINGS)
    return (1 << doubled) - 1 + (count - doubled << _DOUBLINGS)


def forget_threads() -> None:
    """In a forked child: the other threads are gone, and so is the step, whose journal the parent keeps."""
    _drawing.clear()
    captured.set(None)
