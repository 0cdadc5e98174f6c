"""Drawing from the journal: the one way from a gate to a recorded value."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import get_ident
from types import FrameType
from typing import Any

from aos_workflow.determinism.callers import series_owner
from aos_workflow.determinism.captured import Captured, captured

capture_of_now = captured.get
caller = sys._getframe

#: Threads that are in the journal. What they call meanwhile (a garbage collector's ``__del__``, a signal's
#: handler) is no step's call, and would wait for the journal's lock for ever.
_drawing: set[int] = set()


def owner_of(capture: Captured, frame: FrameType) -> str | None:
    """For whom a call made in ``frame`` is captured; None when it passes through."""
    # A thread that outlives its step keeps the capture it was started with: it ended with the step.
    if not capture.ambient or capture.is_over or get_ident() in _drawing:
        return None
    return series_owner(frame)


def draw(capture: Captured, series: str, live: Callable[[], Any], beyond: Callable[[], Any]) -> Any:
    """The next value of the series: live, or as recorded."""
    me = get_ident()
    try:
        _drawing.add(me)
        return capture.journal.draw(series, live, beyond)
    finally:
        _drawing.discard(me)


def draw_again(capture: Captured, series: str, live: Callable[[], Any], first: Callable[[], Any]) -> Any:
    """Like ``draw``; beyond the recording the last value again, or ``first()`` if there never was one."""

    def beyond() -> Any:
        values = capture.journal.ambient.get(series)
        return values[-1] if values else first()

    return draw(capture, series, live, beyond)


def forget_threads() -> None:
    """In a forked child: the other threads are gone, and so is the step, whose journal the parent keeps."""
    _drawing.clear()
    captured.set(None)
