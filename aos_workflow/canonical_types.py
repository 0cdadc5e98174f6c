"""Values and the JSON that stands for them: the types a step may take and return.

Plain JSON (``None``, bool, int, finite float, str, list, dict with string keys) stands for itself.
Every other type is an object with one key, its tag:

    Python value              JSON value                                      comes back as
    ------------------------  ----------------------------------------------  -------------------------
    tuple, namedtuple         {"$tuple": [..]}                                tuple
    set, frozenset            {"$set": [..]}, {"$frozenset": [..]}, members   the same
                              sorted by their canonical text
    datetime                  {"$datetime": "2026-03-01T12:00:00+01:00"},     the same; other zone classes
                              naive without offset, a ZoneInfo followed by    as a fixed offset
                              its name: "..+01:00[Europe/Berlin]"
    date, time                {"$date": "2026-03-01"}, {"$time": "12:00:00"}  the same
    timedelta                 {"$timedelta_us": 90500000}, microseconds       the same
    Decimal (finite)          {"$decimal": "1.50"}, trailing zeros kept       the same
    UUID                      {"$uuid": "12345678-.."}                        the same
    bytes                     {"$bytes": base64}                              the same
    Path                      {"$path": "a/b"}, forward slashes               this platform's Path
    PurePosixPath,            {"$pure_posix_path": "a/b"},                    the same
    PureWindowsPath           {"$pure_windows_path": "C:/a"}
    Enum member               {"$enum": ["pkg.mod:Color", "RED"]}             the same
    Flag                      {"$enum": ["pkg.mod:Mode", 3]}                  the same
    dataclass                 {"$dataclass": {"type": "pkg.mod:Point",        built by its __init__, then
                              "fields": {..}}}                                every field as it was
    pydantic model            {"$model": {"type": .., "fields": {..}}}, with  the same, not validated
                              "extra" and "unset" if there are any            again; private attributes new
    numpy.ndarray             {"$ndarray": ["<f8", [2, 3], base64]}, C order  the same bit for bit, so NaN
                              and little-endian                               may stand in it
    a register()ed class      {"$custom": {"type": name, "value": ..}}        what its from_json returns
    a dict whose only key     {"$$x": ..}, one dollar more                    the same
    is "$x"

Not kept: numpy scalars become plain Python numbers; subclasses of str, int, float, bytes, list and
dict, other Mappings, and subclasses of the types above become the plain type (a str subclass as a
dict key too).  Refused: NaN and Infinity outside arrays, keys that are not strings, lone surrogates,
ints of more than 4300 digits, more than 200 levels of JSON, values that contain themselves, arrays
of objects or of platform-dependent floats, and every type not named here.

``normalise`` is not idempotent: what it returned is JSON, to be rendered and not encoded again.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from json import JSONEncoder
from typing import Any

from aos_workflow.canonical_classes import (
    CUSTOM,
    class_name,
    dataclass_fields,
    enum_parts,
    is_model,
    model_parts,
)
from aos_workflow.canonical_classes import READERS as CLASS_READERS
from aos_workflow.canonical_scalars import READERS as SCALAR_READERS
from aos_workflow.canonical_scalars import WRITERS as SCALAR_WRITERS
from aos_workflow.canonical_scalars import Refused, ndarray, number, text, type_name
from aos_workflow.errors import NotCanonical, VersionMismatch

MAX_DEPTH = 200
"""Levels of nesting of the JSON value, tags included."""
PLAIN = frozenset({str, int, float, bool, type(None)})
"""Types that stand for themselves and hold no others."""

_Writer = Callable[[Any, int], Any]
_member_text = JSONEncoder(sort_keys=True).encode


def normalise(value: Any, *, what: str = "value") -> Any:
    """The JSON value that stands for ``value``; raises NotCanonical with path and type."""
    try:
        return _walk(value, 1)
    except Refused as refused:
        raise refused.error(what) from refused.__cause__
    except RecursionError:
        raise NotCanonical(f"{what} is nested deeper than this call's stack allows") from None


def revive(json_value: Any) -> Any:
    """The value that ``json_value`` stands for; raises as ``untag``."""
    kind = type(json_value)
    if kind is dict:
        if len(json_value) == 1:
            ((key, content),) = json_value.items()
            if key[:1] == "$":
                return untag(key, revive(content))
        return {key: item if type(item) in PLAIN else revive(item) for key, item in json_value.items()}
    if kind is list:
        return [item if type(item) in PLAIN else revive(item) for item in json_value]
    return json_value


def untag(tag: str, payload: Any) -> Any:
    """The value of one tagged object whose payload is revived already.

    Raises VersionMismatch for a tag, class, field or time zone unknown here, NotCanonical for a
    payload that is not the tag's.
    """
    if tag[:2] == "$$":
        return {tag[1:]: payload}
    reader = _READERS.get(tag)
    if reader is None:
        raise VersionMismatch(f"no type is stored as {tag!r} here", fix="upgrade aos_workflow", tag=tag)
    try:
        return reader(payload)
    except (VersionMismatch, NotCanonical):
        raise
    except Exception as error:
        raise NotCanonical(f"the content of {tag!r} cannot be read: {error!r}", tag=tag) from error


def escape(fields: dict[str, Any]) -> dict[str, Any]:
    """``fields`` so that they are mistaken for no tag: a lone ``$x`` gets one more dollar."""
    if len(fields) == 1:
        ((key, content),) = fields.items()
        if key[:1] == "$":
            return {"$" + key: content}
    return fields


# -- containers ------------------------------------------------------------------------------


def _walk(value: Any, depth: int) -> Any:
    kind: Any = type(value)
    if (kind is str and value.isascii()) or value is None or kind is bool:
        return value
    if kind is list:
        return _array(value, value, depth)
    if kind is dict:
        return escape(_object(value, value.items(), depth))
    single = SCALAR_WRITERS.get(kind)
    if single is not None:
        return single(value)
    writer = _WRITERS.get(kind) or (_custom if kind in CUSTOM else _writer_for(kind))
    return writer(value, depth)


def _array(owner: Any, items: Iterable[Any], depth: int) -> list[Any]:
    if depth > MAX_DEPTH:
        raise Refused(f"it is nested deeper than {MAX_DEPTH} levels", type(owner))
    out: list[Any] = []
    try:
        for item in items:
            out.append(_walk(item, depth + 1))
    except Refused as refused:
        refused.trail.append(("*" if isinstance(owner, (set, frozenset)) else len(out), id(owner)))
        raise
    return out


def _object(owner: Any, items: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise Refused(f"it is nested deeper than {MAX_DEPTH} levels", type(owner))
    out: dict[str, Any] = {}
    key: Any = None
    try:
        for key, item in items:
            if not isinstance(key, str):
                raise Refused(f"the key {key!r} is of type {type_name(type(key))}, not a string", type(key))
            if key in out:
                raise Refused(f"the key {key!r} is there twice", type(owner))
            out[text(key)] = _walk(item, depth + 1)
    except Refused as refused:
        refused.trail.append((key, id(owner)))
        raise
    return out


def _dict(value: Mapping[Any, Any], depth: int) -> Any:
    return escape(_object(value, value.items(), depth))


def _list(value: list[Any], depth: int) -> Any:
    return _array(value, value, depth)


def _tuple(value: tuple[Any, ...], depth: int) -> Any:
    return {"$tuple": _array(value, value, depth + 1)}


def _set(value: Iterable[Any], depth: int) -> Any:
    tag = "$set" if isinstance(value, set) else "$frozenset"
    return {tag: sorted(_array(value, value, depth + 1), key=_member_text)}


def _dataclass(value: Any, depth: int) -> Any:
    kind: Any = type(value)
    fields = _object(value, dataclass_fields(value), depth + 2)
    return {"$dataclass": {"type": class_name(kind), "fields": fields}}


def _model(value: Any, depth: int) -> Any:
    kind: Any = type(value)
    fields, extra, unset = model_parts(value)
    body = {"type": class_name(kind), "fields": _object(value, fields, depth + 2)}
    if extra:
        body["extra"] = escape(_object(value, extra.items(), depth + 2))
    return {"$model": body | {"unset": unset} if unset else body}


def _custom(value: Any, depth: int) -> Any:
    name, to_json, _ = CUSTOM[type(value)]
    try:
        content = to_json(value)
    except Exception as error:
        raise Refused(f"its registered to_json raised {error!r}", type(value)) from error
    return {"$custom": {"type": name, "value": _walk(content, depth + 2)}}


# -- which type is written how ---------------------------------------------------------------

_WRITERS: dict[type, _Writer] = {
    dict: _dict,
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _set,
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    **SCALAR_READERS,
    **CLASS_READERS,
}


@lru_cache(maxsize=4096)
def _writer_for(kind: type) -> _Writer:
    """The writer of a class that the tables do not list; the user's own classes come first."""
    if issubclass(kind, enum.Enum):
        return _single(lambda value: {"$enum": enum_parts(value)})
    if hasattr(kind, "__dataclass_fields__"):
        return _dataclass
    if is_model(kind):
        return _model
    for base, single in SCALAR_WRITERS.items():
        if issubclass(kind, base):
            return _single(single)
    for base, writer in _WRITERS.items():
        if issubclass(kind, base):
            return writer
    numpy = sys.modules.get("numpy")  # a numpy value can only come from an imported numpy
    if numpy is not None and issubclass(kind, numpy.generic):
        return _single(number)
    if numpy is not None and kind is numpy.ndarray:  # masked arrays and matrices are more than bytes
        return _single(ndarray)
    return _dict if issubclass(kind, Mapping) else _refuse


def _single(writer: Callable[[Any], Any]) -> _Writer:
    return lambda value, depth: writer(value)


def _refuse(value: Any, depth: int) -> Any:
    raise Refused(f"{type_name(type(value))} has no encoding", type(value))
