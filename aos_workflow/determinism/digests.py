"""Digests of any Python value, for comparing what two processes hold: blind to addresses and to the order of sets."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
#: Members of a collection that are looked at, at most.
_MOST = 400
_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})


def digest_of(value: Any) -> str:
    """A short digest of a value's content; equal values have equal digests in every process."""
    held = getattr(value, "__dict__", None)
    if held is not None and _is_plain(value) and all(type(part) in _PLAIN for part in held.values()):
        return f"{zlib.crc32(f'{type(value).__name__} {held}'.encode('utf-8', 'replace')):08x}"
    parts: list[str] = []
    _write(value, parts, 6, set())
    return f"{zlib.crc32(' '.join(parts).encode('utf-8', 'replace')):08x}"


def _write(value: Any, parts: list[str], depth: int, seen: set[int]) -> None:
    if isinstance(value, str | bytes | int | float | complex | bool | type(None)):
        parts.append(repr(value)[:2000])
        return
    if depth == 0 or id(value) in seen or len(parts) > 5000:
        parts.append(type(value).__name__)
        return
    seen = {*seen, id(value)}
    if isinstance(value, ModuleType | type | FunctionType | BuiltinFunctionType | MethodType):
        parts.append(f"{type(value).__name__} {getattr(value, '__qualname__', getattr(value, '__name__', ''))}")
    elif isinstance(value, Mapping):
        parts.append(f"{type(value).__name__}{{")
        for key, held in list(value.items())[:_MOST]:
            _write(key, parts, depth - 1, seen)
            _write(held, parts, depth - 1, seen)
    elif isinstance(value, set | frozenset):
        parts.append("{")
        parts.extend(sorted(digest_of(member) for member in list(value)[:_MOST]))
    elif isinstance(value, list | tuple):
        parts.append(f"{type(value).__name__}[")
        for held in value[:_MOST]:
            _write(held, parts, depth - 1, seen)
    elif hasattr(value, "getstate") and hasattr(value, "getrandbits"):
        parts.append(str(zlib.crc32(repr(_state_of(value)).encode())))
    elif hasattr(value, "bit_generator"):
        parts.append(str(zlib.crc32(repr(value.bit_generator.state).encode())))
    elif hasattr(value, "cache_info"):
        parts.append(repr(value.cache_info().currsize))
    elif hasattr(value, "__dict__") and _is_plain(value):
        parts.append(type(value).__name__)
        _write(vars(value), parts, depth - 1, seen)
    else:
        try:
            parts.append(_ADDRESS.sub("", repr(value))[:4000])
        except Exception:
            parts.append(type(value).__name__)
        if isinstance(getattr(value, "__dict__", None), dict):
            _write(vars(value), parts, depth - 1, seen)


def _is_plain(value: Any) -> bool:
    """Has it no text of its own?"""
    default: Any = object.__repr__
    return type(value).__repr__ is default


def _state_of(generator: Any) -> Any:
    try:
        return generator.getstate()
    except NotImplementedError:
        return "system"
