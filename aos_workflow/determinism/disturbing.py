"""Disturbing a value: another one of the same kind, to see whether an output depends on it.

``variant`` 1, 2 ... are different disturbances: a threshold may not notice the first.
"""

from __future__ import annotations

import io
import os
import random
import time
import uuid
import zlib
from calendar import timegm
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePath
from typing import Any

from aos_workflow.determinism.digests import digest_of
from aos_workflow.determinism.sources import ADDRESS, order_varies

#: Instead of what comes from nowhere: what is the same everywhere.
FROZEN = 0
VARIANTS = (1, 2, 3)
#: Another year, month, weekday, hour, minute and second.
_AWAY_S = 397 * 86_400 + 5 * 3600 + 7 * 60 + 13.37
_DIGITS = str.maketrans("123456789", "234567898")


class Turned(set):  # type: ignore[type-arg]
    """A set that is gone through in the order of its members' content, or against it."""

    is_backwards = False

    def __iter__(self) -> Iterator[Any]:
        return iter(in_order(super().__iter__(), self.is_backwards))

    def __repr__(self) -> str:
        return "{" + ", ".join(map(repr, self)) + "}"

    def pop(self) -> Any:
        member = next(iter(self))
        self.remove(member)
        return member


class TurnedFrozen(frozenset):  # type: ignore[type-arg]
    """The same for a frozenset."""

    is_backwards = False

    def __iter__(self) -> Iterator[Any]:
        return iter(in_order(super().__iter__(), self.is_backwards))

    def __repr__(self) -> str:
        return "frozenset({" + ", ".join(map(repr, self)) + "})"


class _Backwards(Turned):
    is_backwards = True


class _BackwardsFrozen(TurnedFrozen):
    is_backwards = True


def in_order(members: Iterable[Any], is_backwards: bool) -> list[Any]:
    """The members in an order that is the same in every process."""
    return sorted(members, key=_content, reverse=is_backwards)


def _content(member: Any) -> str:
    return repr(member) if isinstance(member, str | int | float | bytes) else digest_of(member)


def turned(value: Any, variant: int) -> Any:
    """A set in a fixed order (variant 0) or another; anything else as it is."""
    if not order_varies(value):
        return value
    if isinstance(value, set):
        return _Backwards(value) if variant else Turned(value)
    return _BackwardsFrozen(value) if variant else TurnedFrozen(value)


class Shown:
    """What is formatted in the place of an object whose text shows an address."""

    def __init__(self, text: str, variant: int) -> None:
        self.text = without_address(text, variant)

    def __repr__(self) -> str:
        return self.text

    def __format__(self, form: str) -> str:
        return format(self.text, form)


def without_address(text: str, variant: int) -> str:
    """The text with another address."""
    return ADDRESS.sub(f" at 0x7ffddead000{variant}", text)


class Contrary(str):
    """A text that answers every question about it the other way round."""

    def __eq__(self, other: object) -> bool:
        return not str.__eq__(self, str(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __bool__(self) -> bool:
        return not len(self)

    def __contains__(self, part: str) -> bool:  # type: ignore[override]
        return not super().__contains__(part)

    def startswith(self, *args: Any) -> bool:
        return not super().startswith(*args)

    def endswith(self, *args: Any) -> bool:
        return not super().endswith(*args)

    def lower(self) -> Contrary:
        return Contrary(super().lower())

    def upper(self) -> Contrary:
        return Contrary(super().upper())

    def casefold(self) -> Contrary:
        return Contrary(super().casefold())

    def strip(self, *args: Any) -> Contrary:
        return Contrary(super().strip(*args))


class OtherEnviron(dict):  # type: ignore[type-arg]
    """An environment in which every variable has another value."""

    def __init__(self, environ: Mapping[str, str], variant: int) -> None:
        super().__init__({name: disturbed(value, variant) for name, value in environ.items()})
        self._environ = environ

    def __contains__(self, name: object) -> bool:
        return name not in self._environ


def disturbed(value: Any, variant: int) -> Any:
    """Another value of this kind."""
    sign = 1 if variant == 1 else -1
    if variant == 3:
        return Contrary(value or "") if value is None or isinstance(value, str) else value
    match value:
        case bool():
            return not value
        case int():
            if value > 10**15:  # nanoseconds
                return value + sign * int(_AWAY_S * 1e9)
            return value + int(_AWAY_S) * sign if value > 10**8 else value + 1 if variant == 1 else 0 if value else 7
        case float():
            return value + sign * (0.431 if 0 <= value <= 1 else _AWAY_S)
        case str():
            return _text(value, variant)
        case bytes():
            return bytes(byte ^ 0x15 for byte in value) if variant == 1 else value[::-1] + b"?"
        case datetime() | date():
            return value + sign * (timedelta(seconds=_AWAY_S) if isinstance(value, datetime) else timedelta(days=397))
        case time.struct_time():
            return datetime.fromtimestamp(max(0.0, timegm(value) + sign * _AWAY_S), UTC).timetuple()
        case os.stat_result():
            return os.stat_result([value[0], *(disturbed(part, variant) for part in value[1:10])])
        case uuid.UUID():
            return uuid.UUID(int=value.int ^ ((1 << 128) - 1 if variant == 1 else 0xFF << 100))
        case PurePath():
            return type(value)(_text(str(value), variant))
        case list():
            return _other_list(value, variant)
        case tuple():
            parts = [disturbed(part, variant) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        case set() | frozenset():
            return type(value)(disturbed(part, variant) for part in value)
        case dict():
            return {key: disturbed(part, variant) for key, part in value.items()}
        case None:
            return "7" if variant == 1 else None
        case io.TextIOBase() | io.BufferedIOBase() | io.RawIOBase():
            return _other_file(value, variant)
        case random.Random():
            return random.Random(f"another {variant}")
    return other_object(value, variant)


def _text(value: str, variant: int) -> str:
    if variant == 1:
        other = value.translate(_DIGITS)
        return other if other != value else value.swapcase() + "~"
    return "" if value else "7"


def _other_list(value: list[Any], variant: int) -> list[Any]:
    if not value:
        return ["7"]
    if variant == 1:
        return value[::-1] if value != value[::-1] else [disturbed(part, variant) for part in value]
    return [disturbed(part, variant) for part in value] if len(value) == 1 else value[1:]


def _other_file(file: Any, variant: int) -> Any:
    if not file.readable():
        return file
    with file:
        content = file.read()
    if isinstance(content, bytes):
        other = _text(content.decode("latin-1"), variant).encode("latin-1", "replace")
        return io.BytesIO(other)
    return io.StringIO(_text(content, variant))


def other_object(value: Any, variant: int) -> Any:
    """Another generator, iterator or array; what is none of these stays."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if kind.startswith("numpy.random."):
        from numpy.random import RandomState, default_rng

        return RandomState(variant) if kind.endswith("RandomState") else default_rng(variant)
    if hasattr(value, "__next__") or (hasattr(value, "__iter__") and not hasattr(value, "__len__")):
        try:
            return iter(_other_list(list(value), variant))
        except TypeError:
            return value
    if kind.startswith("numpy."):
        try:
            return value + 1 if variant == 1 else value[::-1]
        except (TypeError, IndexError):
            return value
    return value


def drawn_otherwise(called: Callable[..., Any], draw: str) -> None:
    """Let the generator of a drawing method draw what ``draw`` stands for."""
    holder = getattr(called, "__self__", None)
    if isinstance(holder, random.Random):
        random.Random.seed(holder, draw)
    elif holder is not None and type(holder).__module__.startswith("numpy.random") and hasattr(holder, "seed"):
        holder.seed(zlib.crc32(draw.encode()))
    else:
        from aos_workflow.determinism.captured import captured

        capture = captured.get()
        if capture is not None:
            capture.chance.seed(draw)
        random.seed(draw)
