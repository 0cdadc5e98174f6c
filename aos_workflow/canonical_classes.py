"""The user's classes in canonical text: how one is named, taken apart and built again.

A class is named "module:qualname", or by the name it was ``register``-ed under.  Reading a name
never imports a module and never runs code: the class must be registered or stand in a module that
is already imported, and must be of the kind its tag says (Enum, dataclass, pydantic model).  What
the reader could not build again is refused when it is written, not when it is read.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from os.path import basename, splitext
from typing import Any

from aos_workflow.canonical_scalars import Refused, type_name
from aos_workflow.errors import BadOption, NotCanonical, VersionMismatch

CUSTOM: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {}
"""Classes with an encoding of their own: (name, to_json, from_json)."""

_REGISTERED: dict[str, type] = {}


def is_model(kind: type) -> bool:
    """Is this a pydantic (2.x) model class?  Asked by shape: pydantic need not be installed."""
    return isinstance(getattr(kind, "model_fields", None), dict) and hasattr(kind, "model_construct")


# -- names -----------------------------------------------------------------------------------


def register(
    kind: type,
    *,
    name: str = "",
    to_json: Callable[[Any], Any] | None = None,
    from_json: Callable[[Any], Any] | None = None,
) -> None:
    """Give ``kind`` a name of its own in canonical text, and an encoding if it has none.

    With ``to_json`` (its result may hold any encodable type) and ``from_json`` any class can be
    used, subclasses not included; without them an enum, dataclass or pydantic model that no
    module-level name leads to.  Do it at import, in every process that reads or writes the class.
    """
    name = name or f"{_module_name(kind.__module__)}:{kind.__qualname__}"
    if type_name(_REGISTERED.get(name, kind)) != type_name(kind):  # a reloaded module may register again
        raise BadOption(f"the name {name!r} is registered for {_REGISTERED[name]!r}", fix="choose another")
    if (to_json is None) != (from_json is None):
        raise BadOption(f"{name!r} is registered with only one of to_json and from_json", fix="give both")
    _REGISTERED[name] = kind
    if to_json is not None and from_json is not None:
        CUSTOM[kind] = (name, to_json, from_json)
    class_name.cache_clear()


def _module_name(module: str) -> str:
    """The name to import ``module`` by; a script's file name for ``__main__``, as workers import it."""
    if module not in ("__main__", "__mp_main__"):
        return module
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    stem, suffix = splitext(basename(getattr(main, "__file__", None) or ""))
    return stem if suffix == ".py" else module


def _lookup(module: str, qualname: str) -> Any:
    # vars() and not getattr(): module and class hooks must not run because data names them.
    place: Any = sys.modules.get(module)
    for part in qualname.split("."):
        place = vars(place).get(part) if hasattr(place, "__dict__") else None
    return place


@lru_cache(maxsize=4096)
def class_name(kind: type) -> str:
    """The name a reader finds ``kind`` by; raises Refused when there is none."""
    for name, registered in tuple(_REGISTERED.items()):
        if registered is kind:
            return name
    if _lookup(kind.__module__, kind.__qualname__) is not kind:
        raise Refused(f"the class {type_name(kind)} stands under no name of its module", kind)
    return f"{_module_name(kind.__module__)}:{kind.__qualname__}"


def _class_at(name: str) -> Any:
    if name in _REGISTERED:
        return _REGISTERED[name]
    module, _, qualname = name.partition(":")
    found = _lookup("__main__", qualname) if module == _module_name("__main__") else None
    found = found or _lookup(module, qualname)
    if not isinstance(found, type):
        raise VersionMismatch(
            f"the class {name!r} of a stored value is not loaded here",
            fix=f"import {module!r} before reading, or register() the class under that name",
            type=name,
        )
    return found


# -- apart -----------------------------------------------------------------------------------


def dataclass_fields(value: Any) -> list[tuple[str, Any]]:
    """Field names and values; raises Refused when ``__init__`` could not take them back."""
    kind: Any = type(value)
    _check_init(kind)
    try:
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    except AttributeError as error:
        raise Refused(f"a field was never set: {error}", type(value)) from None


@lru_cache(maxsize=4096)
def _check_init(kind: Any) -> None:
    takes = inspect.signature(kind).parameters
    needs = {name for name, parameter in takes.items() if parameter.default is parameter.empty}
    given = {field.name for field in dataclasses.fields(kind) if field.init}
    if needs - given or given - takes.keys():
        odd = sorted(needs - given | given - takes.keys())
        raise Refused(f"the __init__ of {type_name(kind)} and its fields differ in {odd}", kind)


def model_parts(value: Any) -> tuple[list[tuple[str, Any]], dict[str, Any], list[str]]:
    """A pydantic model's fields, its extra fields, and the names of fields left at their default."""
    names, held = type(value).model_fields, vars(value)
    missing = sorted(names.keys() - held.keys())
    if missing:
        raise Refused(f"fields were never set: {missing}", type(value))
    fields = [(name, held[name]) for name in names]
    return fields, value.model_extra or {}, sorted(names.keys() - value.model_fields_set)


def enum_parts(value: enum.Enum) -> list[Any]:
    """Class name and member name, or a Flag's number: combined flags are named by no one rule."""
    return [class_name(type(value)), value._value_ if isinstance(value, enum.Flag) else value._name_]


# -- together --------------------------------------------------------------------------------


def _read_enum(payload: Any) -> Any:
    name, member = payload
    kind = _class_at(name)
    if not issubclass(kind, enum.Enum):
        raise NotCanonical(f"the stored enum {name!r} is no Enum here", type=name)
    try:
        return kind.__members__[member] if isinstance(member, str) else kind(member)
    except (KeyError, ValueError):
        raise VersionMismatch(
            f"the enum {name!r} has no member {member!r} here", fix="keep members that were stored", type=name
        ) from None


def _read_dataclass(payload: Any) -> Any:
    name, recorded = payload["type"], payload["fields"]
    kind = _class_at(name)
    if not hasattr(kind, "__dataclass_fields__"):
        raise NotCanonical(f"the stored dataclass {name!r} is no dataclass here", type=name)
    fields = dataclasses.fields(kind)
    nothing = dataclasses.MISSING
    required = [f.name for f in fields if f.init and f.default is nothing and f.default_factory is nothing]
    _check_fields(name, recorded, [f.name for f in fields], required)
    value = kind(**{f.name: recorded[f.name] for f in fields if f.init and f.name in recorded})
    for field, content in recorded.items():  # a __post_init__ that changes fields ran a second time
        object.__setattr__(value, field, content)
    return value


def _read_model(payload: Any) -> Any:
    name, recorded, extra = payload["type"], payload["fields"], payload.get("extra", {})
    kind = _class_at(name)
    if not is_model(kind):
        raise NotCanonical(f"the stored model {name!r} is no pydantic model here", type=name)
    known = kind.model_fields
    _check_fields(name, recorded, known, [field for field, info in known.items() if info.is_required()])
    fields_set = recorded.keys() - set(payload.get("unset", ())) | extra.keys()
    # Validators need not accept their own results ("a,b" to a list), so they do not run again.
    value = kind.model_construct(_fields_set=fields_set, **recorded, **extra)
    vars(value).update(recorded)
    return value


def _read_custom(payload: Any) -> Any:
    name = payload["type"]
    kind = _class_at(name)
    if kind not in CUSTOM:
        raise VersionMismatch(f"{name!r} is not registered here", fix="register() it with from_json", type=name)
    return CUSTOM[kind][2](payload["value"])


def _check_fields(name: str, recorded: dict[str, Any], known: Iterable[str], required: Iterable[str]) -> None:
    gone, missing = sorted(recorded.keys() - set(known)), sorted(set(required) - recorded.keys())
    if gone or missing:
        raise VersionMismatch(
            f"{name!r} changed since this value was stored: fields gone {gone}, fields missing {missing}",
            fix="keep stored fields, and give new ones a default",
            type=name,
        )


READERS: dict[str, Callable[[Any], Any]] = {
    "$enum": _read_enum,
    "$dataclass": _read_dataclass,
    "$model": _read_model,
    "$custom": _read_custom,
}
