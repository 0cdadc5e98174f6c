"""Clocks: the functions of ``time``. Real values live, recorded; the same values in replay."""

from __future__ import annotations

import calendar
import time
import timeit
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from aos_workflow.determinism.captured import Captured
from aos_workflow.determinism.drawing import caller, capture_of_now, draw_time, owner_of
from aos_workflow.determinism.patching import Door, Patches, gate_of

_SECONDS = ("time", "monotonic", "perf_counter", "process_time", "thread_time")
_NANOSECONDS = tuple(f"{name}_ns" for name in _SECONDS)
_BY_ID = ("clock_gettime", "clock_gettime_ns")
#: Fields of a moment in front of the name and offset of its zone; the last of them says whether it is summer time.
_ZONE_FIELDS = 9
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
_NS_PER_S, _NS_PER_MS, _MS_PER_S = 1_000_000_000, 1_000_000, 1_000


def patch(patches: Patches) -> None:
    """Put the gates in place."""
    for name in (*_SECONDS, *_NANOSECONDS):
        if hasattr(time, name):  # thread_time is not everywhere
            patches.attribute(time, name, _reading_gate(name))
    for name in _BY_ID:
        if hasattr(time, name):
            patches.attribute(time, name, _clock_gate(name))
    for name in ("localtime", "gmtime"):
        patches.attribute(time, name, _fields_gate(name))
    patches.attribute(time, "ctime", _ctime_gate())
    patches.attribute(time, "asctime", _asctime_gate())
    patches.attribute(time, "strftime", _strftime_gate())
    patches.attribute(timeit, "default_timer", time.perf_counter)


def _beyond(name: str) -> Callable[[Captured], Any]:
    """What clock ``name`` says where a replay has no recorded value to repeat: the run's logical time."""
    if name.endswith("_ns"):
        return lambda capture: int(capture.now_s * _NS_PER_S)
    return lambda capture: capture.now_s


def _later(name: str) -> Callable[[Any, int], Any]:
    """How clock ``name`` goes on from a reading."""
    if name.endswith("_ns"):
        return lambda reading, ahead_ms: reading + ahead_ms * _NS_PER_MS
    return lambda reading, ahead_ms: reading + ahead_ms / _MS_PER_S


def _reading_gate(name: str) -> Any:
    original, beyond, later = getattr(time, name), _beyond(name), _later(name)

    def gate(door: Door) -> Any:
        capture = capture_of_now()
        if capture is None or (owner := owner_of(capture, caller(1))) is None:
            return original()
        return draw_time(capture, f"time.{name}@{owner}", original, lambda: beyond(capture), later)

    return gate_of(time, name, gate)


def _clock_gate(name: str) -> Any:
    original, beyond, later = getattr(time, name), _beyond(name), _later(name)

    def gate(door: Door, clock: int, /) -> Any:
        capture = capture_of_now()
        if capture is None or (owner := owner_of(capture, caller(1))) is None:
            return original(clock)
        return draw_time(capture, f"time.{name}@{owner}", lambda: original(clock), lambda: beyond(capture), later)

    return gate_of(time, name, gate)


def _fields_gate(name: str) -> Any:
    original = getattr(time, name)

    def gate(door: Door, seconds: float | None = None, /) -> Any:
        capture = capture_of_now()
        if capture is None or seconds is not None or (owner := owner_of(capture, caller(1))) is None:
            return original(seconds)
        return _drawn_fields(capture, f"time.{name}@{owner}", original)

    return gate_of(time, name, gate)


def _ctime_gate() -> Any:
    original, written, local = time.ctime, time.asctime, time.localtime

    def gate(door: Door, seconds: float | None = None, /) -> Any:
        capture = capture_of_now()
        if capture is None or seconds is not None or (owner := owner_of(capture, caller(1))) is None:
            return original(seconds)
        return written(_drawn_fields(capture, f"time.ctime@{owner}", local))

    return gate_of(time, "ctime", gate)


def _asctime_gate() -> Any:
    original, local = time.asctime, time.localtime

    def gate(door: Door, *fields: Any) -> Any:
        capture = capture_of_now()
        if capture is None or fields or (owner := owner_of(capture, caller(1))) is None:
            return original(*fields)
        return original(_drawn_fields(capture, f"time.asctime@{owner}", local))

    return gate_of(time, "asctime", gate)


def _strftime_gate() -> Any:
    original, local = time.strftime, time.localtime

    def gate(door: Door, form: str, /, *fields: Any) -> Any:
        capture = capture_of_now()
        if capture is None or fields or (owner := owner_of(capture, caller(1))) is None:
            return original(form, *fields)
        return original(form, _drawn_fields(capture, f"time.strftime@{owner}", local))

    return gate_of(time, "strftime", gate)


def _drawn_fields(capture: Captured, series: str, now: Callable[..., time.struct_time]) -> time.struct_time:
    """The fields of a moment: recorded as they were, because a replay may run in another time zone."""

    def live() -> list[Any]:
        fields = now()
        return [*fields, fields.tm_zone, fields.tm_gmtoff]

    def first() -> list[Any]:
        fields = now(capture.now_s)
        return [*fields, fields.tm_zone, fields.tm_gmtoff]

    return time.struct_time(draw_time(capture, series, live, first, _later_fields))


def _later_fields(fields: list[Any], ahead_ms: int) -> list[Any]:
    """The clock goes on in the zone that was recorded."""
    moved = _EPOCH + timedelta(seconds=calendar.timegm(tuple(fields[:_ZONE_FIELDS])) + ahead_ms // _MS_PER_S)
    return [*moved.timetuple()[:-1], *fields[_ZONE_FIELDS - 1 :]]
