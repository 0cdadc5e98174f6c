"""State: what user modules keep between steps, as digests by name, to find out what a step changed.

A name is (file, where it is kept, name): a module's global, a class's attribute, a function's default, a closure's
variable. Digests know nothing of addresses, and not of the order of a set.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from aos_workflow.determinism.digests import digest_of
from aos_workflow.determinism.user_code import is_user_file, user_function

Name = tuple[str, str, str]


# --- what modules keep -----------------------------------------------------------------------


def snapshot() -> dict[Name, str]:
    """The digest of everything user modules keep."""
    return {name: digest_of(value) for name, value, _ in _kept()}


def disturb_state(names: set[Name]) -> None:
    """Give other values to the plain ones among what is kept under these names."""
    from aos_workflow.determinism.disturbing import disturbed

    for name, value, holder in list(_kept()):
        if name not in names:
            continue
        if isinstance(value, dict):
            for key, held in list(value.items()):
                value[key] = disturbed(held, 1)
        elif isinstance(value, list):
            value[:] = [disturbed(held, 1) for held in value] or ["7"]
        elif isinstance(value, set):
            value.add("7")
        elif isinstance(value, int | float | str) and isinstance(holder, dict):
            holder[name[2]] = disturbed(value, 1)


def _kept() -> Iterator[tuple[Name, Any, Any]]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and is_user_file(file):
            yield from _in_module(module, file)


def _in_module(module: ModuleType, file: str) -> Iterator[tuple[Name, Any, Any]]:
    namespace = vars(module)
    for name, value in list(namespace.items()):
        if name.startswith("__") or isinstance(value, ModuleType):
            continue
        yield from _held(file, "", name, value, namespace, module.__name__)
        if isinstance(value, type) and value.__module__ == module.__name__:
            for inner, held in list(vars(value).items()):
                if not inner.startswith("__") or inner == "__init__":
                    yield from _held(file, value.__qualname__, inner, held, None, module.__name__)


def _held(file: str, owner: str, name: str, value: Any, holder: Any, module: str) -> Iterator[tuple[Name, Any, Any]]:
    function = user_function(value) if callable(value) and not isinstance(value, type) else None
    if function is None:
        if getattr(value, "is_step", False) is not True and not _is_engines(value):
            yield (file, owner, name), value, holder
        return
    if function.__module__ != module:
        return
    if hasattr(value, "cache_info"):
        yield (file, owner, name), value, None
    where = function.__qualname__
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    for parameter, default in zip(names[len(names) - len(defaults) :], defaults, strict=False):
        yield (file, where, parameter), default, None
    for parameter, default in (function.__kwdefaults__ or {}).items():
        yield (file, where, parameter), default, None
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield (file, where, variable), cell.cell_contents, None
        except ValueError:
            continue
    for attribute, held in vars(function).items():
        if not attribute.startswith("_"):
            yield (file, where, attribute), held, vars(function)


def _is_engines(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in ("aos_workflow", "celery", "kombu", "logging")
