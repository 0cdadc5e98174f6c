"""Dates: ``datetime.now``, ``utcnow`` and ``today``, which are attributes of classes written in C.

The classes stay: isinstance, pydantic and the canonical form know them. Only the attributes are replaced, so
subclasses get what they always got, instances of themselves.

What is recorded is the text of what the step saw: of a naive moment the wall clock as it was where the step ran
(its replay may run in another time zone), of an aware one the instant, which the caller's tzinfo then shows.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from aos_workflow.determinism.captured import Captured
from aos_workflow.determinism.drawing import caller, capture_of_now, draw_time, owner_of
from aos_workflow.determinism.patching import Patches

#: Behind a naive wall clock that shows this hour for the second time (PEP 495).
_SECOND_TIME = "#fold"
_UTCNOW_IS_DEPRECATED = sys.version_info >= (3, 12)

_now: Callable[..., datetime] = datetime.now
_utcnow: Callable[[], datetime] = datetime.utcnow
_today: Callable[[], date] = date.today
_now_of = vars(datetime)["now"]
_utcnow_of: Any = vars(datetime)["utcnow"]
_today_of = vars(date)["today"]


def patch(patches: Patches) -> None:
    """Put the gates in place; raises what ``Patches.c_attribute`` raises."""
    patches.c_attribute(datetime, "now", classmethod(_gate_of_now))
    patches.c_attribute(datetime, "utcnow", classmethod(_gate_of_utcnow))
    patches.c_attribute(date, "today", classmethod(_gate_of_today))


def _gate_of_now(cls: type[datetime], tz: tzinfo | None = None) -> datetime:
    capture = capture_of_now()
    if capture is None or (owner := owner_of(capture, caller(1))) is None:
        return _now(tz) if cls is datetime else _now_of.__get__(None, cls)(tz)
    series = f"datetime.now@{owner}"
    if tz is None:
        return _wall(cls, _drawn(capture, series, _now, datetime.fromtimestamp))
    if not isinstance(tz, tzinfo):
        return _now(tz)  # it knows which error to raise
    instant = _drawn(capture, series, lambda: _now(UTC), lambda seconds: datetime.fromtimestamp(seconds, UTC))
    return tz.fromutc(_wall(cls, instant.astimezone(UTC), tz))


def _gate_of_utcnow(cls: type[datetime]) -> datetime:
    if _UTCNOW_IS_DEPRECATED:  # said here, because the original would name this line instead of the caller's
        warnings.warn(
            "datetime.datetime.utcnow() is deprecated and scheduled for removal in a future version. Use "
            "timezone-aware objects to represent datetimes in UTC: datetime.datetime.now(datetime.UTC).",
            DeprecationWarning,
            stacklevel=2,
        )
    capture = capture_of_now()
    if capture is None or (owner := owner_of(capture, caller(1))) is None:
        if _UTCNOW_IS_DEPRECATED:
            return _wall(cls, _now(UTC))
        return _utcnow() if cls is datetime else _utcnow_of.__get__(None, cls)()
    return _wall(cls, _drawn(capture, f"datetime.utcnow@{owner}", _naive_utc, _naive_utc_at))


def _gate_of_today(cls: type[date]) -> date:
    capture = capture_of_now()
    if capture is None or (owner := owner_of(capture, caller(1))) is None:
        return _today() if cls is date else _today_of.__get__(None, cls)()
    wall = _drawn(capture, f"datetime.today@{owner}", _now, datetime.fromtimestamp)
    return _wall(cls, wall) if issubclass(cls, datetime) else cls(wall.year, wall.month, wall.day)


_gate_of_now.__name__, _gate_of_utcnow.__name__, _gate_of_today.__name__ = "now", "utcnow", "today"  # pickle by name
_gate_of_now.__doc__, _gate_of_utcnow.__doc__, _gate_of_today.__doc__ = (
    original.__doc__ for original in (_now_of, _utcnow_of, _today_of)
)


def _naive_utc() -> datetime:
    return _now(UTC).replace(tzinfo=None)


def _naive_utc_at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _drawn(capture: Captured, series: str, now: Callable[[], datetime], at: Callable[[float], datetime]) -> datetime:
    """A moment of this series, recorded as text."""
    return _moment(draw_time(capture, series, lambda: _text(now()), lambda: _text(at(capture.now_s)), _later))


def _later(text: str, ahead_ms: int) -> str:
    moment = _moment(text)
    return _text((moment + timedelta(milliseconds=ahead_ms)).replace(fold=moment.fold))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix(_SECOND_TIME)).replace(fold=text.endswith(_SECOND_TIME))


def _text(moment: datetime) -> str:
    return moment.isoformat() + _SECOND_TIME * moment.fold


def _wall(cls: type[datetime], moment: datetime, tz: tzinfo | None = None) -> datetime:
    """The same clock face as an instance of ``cls``, made the way the interpreter makes it."""
    if cls is datetime:
        return moment.replace(tzinfo=tz)
    face = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond)
    made = cls(*face, tz)
    return made.replace(fold=1) if moment.fold else made
