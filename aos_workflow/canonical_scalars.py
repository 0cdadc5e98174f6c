"""Values without parts in canonical text, each with its writer and its reader.

What a subclass overrides must not change the text, so the base class's methods write it.
"""

from __future__ import annotations

import math
import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

from aos_workflow.errors import NotCanonical, VersionMismatch

MAX_INT_DIGITS = 4300
"""What Python converts from text by default, so that every reader can."""

_INT_BOUND = 10**MAX_INT_DIGITS
_ARRAY_TYPE = re.compile(r"[<|]([biu][1248]|f[248]|c8|c16|[SU]\d+|[mM]8(\[\d*[a-zA-Z]+\])?)")


class Refused(Exception):
    """Travels up from the offending value; every container adds its key and its own identity."""

    def __init__(self, reason: str, kind: type) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = type_name(kind)
        self.trail: list[tuple[Any, int]] = []

    def error(self, what: str) -> NotCanonical:
        """The error for the caller, with a JSON pointer that stops where a cycle closes."""
        steps = self.trail[::-1]
        seen: set[int] = set()
        for place, (_, identity) in enumerate(steps):
            if identity in seen:
                self.reason, steps = "it contains itself", steps[:place]
                break
            seen.add(identity)
        path = "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key, _ in steps)
        shown = path if len(path) <= 200 else f"{path[:100]}...{path[-80:]}"
        return NotCanonical(
            f"{what} has no canonical form at {shown or 'its top level'}: {self.reason}",
            fix="use JSON types or those listed in aos_workflow.canonical_types, or register() the class",
            path=path,
            type=self.kind,
        )


def type_name(kind: type) -> str:
    """The name of a type as errors say it: "float", "pkg.mod.Point"."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# -- to JSON ---------------------------------------------------------------------------------


def text(value: str) -> str:
    """The string, if every character of it can be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused("the text holds a lone surrogate, which is no character", type(value)) from None
    return str.__str__(value)


def _int(value: int) -> int:
    if not -_INT_BOUND < value < _INT_BOUND:
        raise Refused(f"the int has more than {MAX_INT_DIGITS} digits", type(value))
    return int.__int__(value)


def _float(value: float) -> float:
    if not math.isfinite(value):
        raise Refused(f"the float {float(value)!r} is no JSON number", type(value))
    return float.__float__(value)


def _zoned(stamp: str, value: Any) -> str:
    """``stamp`` and the zone's name if it has one; a zone that would leave no trace is refused."""
    zone, zoneinfo = value.tzinfo, sys.modules.get("zoneinfo")
    if zoneinfo is not None and isinstance(zone, zoneinfo.ZoneInfo) and zone.key:
        return f"{stamp}[{zone.key}]"
    if zone is not None and value.utcoffset() is None:
        raise Refused(f"its time zone {zone!r} gives neither name nor offset", type(value))
    return stamp


def _datetime(value: datetime) -> Any:
    # pandas: NaT differs from itself, a Timestamp may hold nanoseconds; both would be lost silently.
    if value != value or getattr(value, "nanosecond", False):
        raise Refused("the time is not a whole number of microseconds", type(value))
    return {"$datetime": _zoned(datetime.isoformat(value), value)}


def _timedelta(value: timedelta) -> Any:
    if getattr(value, "nanoseconds", False):
        raise Refused("the duration is not a whole number of microseconds", type(value))
    return {"$timedelta_us": (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds}


def _decimal(value: Decimal) -> Any:
    if not value.is_finite():
        raise Refused(f"the Decimal {value} is no number", type(value))
    # The context of the calling thread may spell "1E+5" as "1e+5".
    return {"$decimal": Decimal.__str__(value).upper()}


def _path(value: PurePath) -> Any:
    if isinstance(value, Path):
        return {"$path": text(value.as_posix())}
    kind = "windows" if isinstance(value, PureWindowsPath) else "posix"
    return {f"$pure_{kind}_path": text(value.as_posix())}


def number(value: Any) -> Any:
    """A numpy scalar as a plain Python number."""
    if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
        raise Refused(f"the numpy {value.dtype} has no plain Python number", type(value))
    item = value.item()
    return _float(item) if isinstance(item, float) else item


def ndarray(value: Any) -> Any:
    """A numpy array: dtype, shape and bytes."""
    dtype = value.dtype.newbyteorder("<")
    if not _ARRAY_TYPE.fullmatch(dtype.str):
        raise Refused(f"an array of {value.dtype} holds objects or differs between machines", type(value))
    content = value.astype(dtype, copy=False).tobytes()
    return {"$ndarray": [dtype.str, list(value.shape), b64encode(content).decode()]}


WRITERS: dict[type, Callable[[Any], Any]] = {
    str: text,
    int: _int,
    float: _float,
    datetime: _datetime,
    date: lambda value: {"$date": date.isoformat(value)},
    time: lambda value: {"$time": _zoned(time.isoformat(value), value)},
    timedelta: _timedelta,
    Decimal: _decimal,
    UUID: lambda value: {"$uuid": UUID.__str__(value)},
    bytes: lambda value: {"$bytes": b64encode(value).decode()},
    PurePath: _path,
}
"""By type, a subclass before its base."""


# -- and back --------------------------------------------------------------------------------


def _read_zoned(kind: Any, content: str) -> Any:
    stamp, _, zone = content.partition("[")
    value = kind.fromisoformat(stamp)
    if not zone:
        return value
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        named = value.replace(tzinfo=ZoneInfo(zone.removesuffix("]")))
    except ZoneInfoNotFoundError:
        raise VersionMismatch(f"no time zone {zone[:-1]!r} here", fix="install tzdata", content=content) from None
    if named.utcoffset() != value.utcoffset():  # the second of two equal wall times
        named = named.replace(fold=1)
    # Where the zone's rules have changed since, the instant is kept and the wall time moves.
    return named if named.utcoffset() == value.utcoffset() else value.astimezone(named.tzinfo)


def _read_ndarray(payload: Any) -> Any:
    import numpy

    dtype, shape, content = payload
    if not _ARRAY_TYPE.fullmatch(dtype):
        raise NotCanonical(f"{dtype!r} is no dtype of a stored array", tag="$ndarray")
    return numpy.frombuffer(b64decode(content, validate=True), dtype=dtype).reshape(shape).copy()


READERS: dict[str, Callable[[Any], Any]] = {
    "$datetime": lambda content: _read_zoned(datetime, content),
    "$date": date.fromisoformat,
    "$time": lambda content: _read_zoned(time, content),
    "$timedelta_us": lambda count: timedelta(microseconds=count),
    "$decimal": Decimal,
    "$uuid": UUID,
    "$bytes": lambda content: b64decode(content, validate=True),
    "$path": Path,
    "$pure_posix_path": PurePosixPath,
    "$pure_windows_path": PureWindowsPath,
    "$ndarray": _read_ndarray,
}
