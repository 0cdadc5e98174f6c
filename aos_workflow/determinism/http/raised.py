"""Errors of HTTP libraries, in and out of the journal: the same class, the same text, the same cause."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from aos_workflow.determinism.http.masks import masked_text

#: Where an error class may come from: a journal must not make anybody import anything else.
_STANDARD = frozenset({"builtins", "http.client", "socket", "ssl"})
_LIBRARIES = frozenset({"anyio", "httpcore", "httpx", "requests", "urllib3"})
_PLAIN = (str, int, type(None))
_CAUSES = 4


def describe(error: BaseException, causes: int = _CAUSES) -> dict[str, Any]:
    """The journal's form of an error: type, message, and its cause if it has one."""
    document: dict[str, Any] = {
        "type": f"{type(error).__module__}.{type(error).__qualname__}",
        "message": masked_text(str(error)),
    }
    if error.args and all(isinstance(arg, _PLAIN) for arg in error.args) and len(error.args) > 1:
        document["args"] = [masked_text(arg) if isinstance(arg, str) else arg for arg in error.args]
    if error.__cause__ is not None and causes:
        document["cause"] = describe(error.__cause__, causes - 1)
    return document


def revive(document: Mapping[str, Any], fallback: type[Exception]) -> Exception:
    """The error again; one of ``fallback`` if its class is not here any more."""
    kind = _class(document["type"]) or fallback
    args = document.get("args", [document["message"]])
    try:
        if kind.__module__ in _STANDARD or kind.__module__ == "httpx":
            error = kind(*args)
        else:  # urllib3's take pools and connections, which there are none of
            error = kind.__new__(kind, *args)
            error.args = tuple(args)
    except Exception:
        error = fallback(document["message"])
    if "cause" in document:
        error.__cause__ = revive(document["cause"], Exception)
    return error


def _class(path: str) -> type[Exception] | None:
    module_name, _, name = path.rpartition(".")
    if module_name in _STANDARD:
        module = importlib.import_module(module_name)
    elif module_name.partition(".")[0] in _LIBRARIES and module_name in sys.modules:
        module = sys.modules[module_name]
    else:
        return None
    found = getattr(module, name, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None
