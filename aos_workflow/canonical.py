"""Canonical text: the one form in which values are stored, hashed and signed.

    encode(value) -> text                   decode(text) -> value
    normalise(value) -> JSON value          revive(JSON value) -> value
    render(JSON value) -> text              parse(text) -> JSON value

Canonical text is ``json.dumps(normalise(value), sort_keys=True, allow_nan=False)`` with default
separators and ASCII escapes: the form the rotation runbook signs, and what
``json.dumps(json.loads(text), sort_keys=True)`` gives back unchanged.  Which JSON stands for which
type is the table in ``canonical_types``.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NoReturn

from aos_workflow.canonical_classes import register
from aos_workflow.canonical_scalars import MAX_INT_DIGITS
from aos_workflow.canonical_types import MAX_DEPTH, PLAIN, escape, normalise, revive, untag
from aos_workflow.errors import BadOption, NotCanonical, PayloadTooLarge

__all__ = [
    "VOLATILE_FIELDS",
    "decode",
    "digest",
    "encode",
    "normalise",
    "parse",
    "register",
    "render",
    "revive",
    "stable_digest",
    "without_volatile",
]

VOLATILE_FIELDS: list[str] = []
"""Fields that may differ between two runs without the runs being different.

Each is a JSON pointer into a step's output ("/usage/latency_ms", "/items/*/id"), or a bare name,
which means the top level of the output and never any depth.  Empty: nothing is ignored unasked.
"""

_STRING = frozenset({str})
_write = json.JSONEncoder(sort_keys=True, allow_nan=False, check_circular=False).encode
_write_unicode = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode


# -- to text ---------------------------------------------------------------------------------


def encode(value: Any, *, limit_bytes: int | None = None, what: str = "value") -> str:
    """The canonical text of ``value``; ``what`` names it in errors.

    Raises NotCanonical with path and type, PayloadTooLarge beyond ``limit_bytes``.
    """
    text = _quick(value, tags=False)
    if text is None:
        text = _careful(normalise(value, what=what), what)
    if limit_bytes is not None and len(text) > limit_bytes:
        raise PayloadTooLarge(
            f"{what} is {len(text)} bytes of canonical text, the limit is {limit_bytes} bytes",
            fix="store the bulk elsewhere and pass a reference to it",
            size_bytes=len(text),
            limit_bytes=limit_bytes,
        )
    return text


def render(json_value: Any, *, what: str = "value") -> str:
    """The text of a value that is canonical JSON already: of ``normalise`` or ``parse``.

    Unlike ``encode`` it leaves tags alone.  Raises NotCanonical for anything but JSON types.
    """
    text = _quick(json_value, tags=True)
    if text is None:
        normalise(json_value, what=what)  # names the path of what JSON itself cannot hold
        if not _is_json(json_value, tags=True):
            raise NotCanonical(f"{what} is no JSON value", fix="normalise it first")
        text = _careful(json_value, what)
    return text


def _quick(value: Any, *, tags: bool) -> str | None:
    """The text of plain JSON; None where the careful way must decide."""
    try:
        if not _is_json(value, tags=tags):
            return None
        text = _write(value)
        if "\\ud" in text:  # an astral character or a lone surrogate
            _write_unicode(value).encode()
    except (ValueError, RecursionError):
        return None
    if len(text) > MAX_INT_DIGITS and sys.get_int_max_str_digits() != MAX_INT_DIGITS:
        return None  # this process would write an int that others cannot read
    return text


def _is_json(value: Any, *, tags: bool) -> bool:
    kind = type(value)
    return _is_plain(value, MAX_DEPTH, tags) if kind is dict or kind is list else kind in PLAIN


def _is_plain(value: Any, depth: int, tags: bool) -> bool:
    # Every step's output passes here: C loops where they exist, no call for a single value.
    if type(value) is dict:
        if not _STRING.issuperset(map(type, value)):
            return False
        if len(value) == 1 and not tags and next(iter(value))[:1] == "$":
            return False
        value = value.values()
    if depth == 0:
        return False
    for item in value:
        kind = type(item)
        if kind not in PLAIN and not ((kind is dict or kind is list) and _is_plain(item, depth - 1, tags)):
            return False
    return True


def _careful(json_value: Any, what: str) -> str:
    try:
        return _write(json_value)
    except (ValueError, RecursionError) as error:  # this process has lower limits than usual
        raise NotCanonical(f"{what} cannot be written here: {error}") from None


# -- from text -------------------------------------------------------------------------------


def decode(text: str) -> Any:
    """The value that ``text`` stands for.

    Raises NotCanonical for text that is not strict JSON, VersionMismatch for a tag or class that
    this process does not know.
    """
    return _read(text, _reviver)


def parse(text: str) -> Any:
    """The JSON value of strict JSON ``text``, tags left alone; raises NotCanonical."""
    return _read(text, _parser)


def _read(text: str, decoder: json.JSONDecoder) -> Any:
    try:
        if "\\ud" in text or "\\uD" in text or not text.isascii():
            _write_unicode(_parser.decode(text)).encode()
        return decoder.decode(text)
    except RecursionError:
        raise NotCanonical("the text is nested deeper than this call's stack allows") from None
    except UnicodeEncodeError:
        raise NotCanonical("the text holds a lone surrogate, which is no character") from None
    except ValueError as error:
        raise NotCanonical(f"the text is not strict JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise NotCanonical(
            f"the text is not strict JSON: duplicate keys {sorted({n for n in names if names.count(n) > 1})}"
        )
    return fields


def _unique_revived(pairs: list[tuple[str, Any]]) -> Any:
    if len(pairs) == 1 and pairs[0][0][:1] == "$":
        return untag(*pairs[0])
    return _unique(pairs)


def _no_constant(name: str) -> NoReturn:
    raise NotCanonical(f"the text is not strict JSON: {name} is no number")


def _finite(digits: str) -> float:
    value = float(digits)
    if value - value != 0:
        raise NotCanonical(f"the text is not strict JSON: {digits} is larger than any float")
    return value


_parser = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
_reviver = json.JSONDecoder(object_pairs_hook=_unique_revived, parse_constant=_no_constant, parse_float=_finite)


# -- digests ---------------------------------------------------------------------------------


def digest(text: str) -> str:
    """SHA-256 of the text as UTF-8, 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def stable_digest(text: str, fields: Sequence[str]) -> str:
    """The digest of canonical ``text`` without the volatile ``fields``."""
    return digest(render(without_volatile(parse(text), fields))) if fields else digest(text)


# -- volatile fields -------------------------------------------------------------------------

_ANY = object()
_Pointer = tuple[object, ...]


def without_volatile(json_value: Any, fields: Sequence[str]) -> Any:
    """``json_value`` (of ``normalise`` or ``parse``) without ``fields``; those missing are ignored.

    A field is a JSON pointer in which ``*`` stands for any one key or index, or a bare name for a
    top-level key.  Pointers speak of the value the step returned, not of its tags: a dataclass's
    field is ``/total``, a tuple's first member ``/0``.  Raises BadOption for a malformed pointer.
    """
    pointers = [_pointer(field) for field in fields]
    return _strip(json_value, pointers)


@lru_cache(maxsize=1024)
def _pointer(field: str) -> _Pointer:
    if field[:1] not in ("", "/"):
        return (field,)
    if len(field) < 2 or "~" in field.replace("~0", "").replace("~1", ""):
        raise BadOption(f"{field!r} is no volatile field", fix='write a name or a JSON pointer such as "/usage/*/ms"')
    parts = field[1:].split("/")
    return tuple(_ANY if part == "*" else part.replace("~1", "/").replace("~0", "~") for part in parts)


def _strip(node: Any, pointers: list[_Pointer]) -> Any:
    if not pointers:
        return node
    if type(node) is list:
        return [item for _, item in _kept(enumerate(node), pointers)]
    if type(node) is not dict:
        return node
    if len(node) == 1:
        ((key, body),) = node.items()
        if key[:2] == "$$":
            return escape(dict(_kept([(key[1:], body)], pointers)))
        if key in ("$tuple", "$set", "$frozenset"):
            return {key: _strip(body, pointers)}
        if key in ("$dataclass", "$model", "$custom"):
            return {key: _strip_instance(body, pointers)}
        if key[:1] == "$":
            return node
    return escape(dict(_kept(node.items(), pointers)))


def _strip_instance(body: dict[str, Any], pointers: list[_Pointer]) -> dict[str, Any]:
    parts = [part for part in ("fields", "extra", "value") if part in body]
    kept = body | {part: _strip(body[part], pointers) for part in parts}
    if "unset" in kept:
        kept["unset"] = [name for name in kept["unset"] if name in kept["fields"]]
    return {part: content for part, content in kept.items() if content or part not in ("extra", "unset")}


def _kept(items: Any, pointers: list[_Pointer]) -> Any:
    """Yield (key, stripped item) where no pointer ends."""
    for key, item in items:
        rests = [pointer[1:] for pointer in pointers if pointer[0] is _ANY or pointer[0] == str(key)]
        if () not in rests:
            yield key, _strip(item, rests)
