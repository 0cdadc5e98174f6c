"""What happened, told to whoever listens.

The core announces; logs and metrics listen. A listener's exception is logged and
never reaches the step that made the announcement.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("aos_workflow")


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One fact: a dotted name (``step.committed``) and its details (JSON types)."""

    name: str
    details: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]
_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Add a listener; returns the call that removes it."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def announce(name: str, **details: Any) -> None:
    """Tell every listener; never raises."""
    if not _listeners:
        return
    event = Event(name=name, details=details)
    for listener in tuple(_listeners):
        try:
            listener(event)
        except Exception:
            log.exception("a listener failed on %s", name)
