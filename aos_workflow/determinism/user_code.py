"""Whose code is it: the user's, a library's, or ours?"""

from __future__ import annotations

import functools
import os
import sysconfig
from functools import lru_cache
from typing import Any

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARIES = tuple(
    os.path.realpath(folder) + os.sep
    for name, folder in sysconfig.get_paths().items()
    if name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@lru_cache(maxsize=4096)
def is_user_file(path: str) -> bool:
    """Is this file source of the user's: neither the standard library, nor an installed package, nor aos_workflow?"""
    if not path.endswith(".py") or path.startswith("<"):
        return False
    real = os.path.realpath(path)
    if real.startswith(_OURS) or any(part in real for part in _INSTALLED):
        return False
    return not real.startswith(_LIBRARIES)


def user_function(function: Any) -> Any:
    """The function a user wrote, inside what decorators, Celery and the engine put around it; None if there is none."""
    for _ in range(20):
        code = getattr(function, "__code__", None)
        inner = _inside(function)
        if code is not None and is_user_file(code.co_filename) and inner is None:
            return function
        if inner is None:
            return None
        function = inner
    return None


def _inside(function: Any) -> Any:
    """What ``function`` is wrapped around."""
    if isinstance(function, functools.partial):
        return function.func
    attributes = getattr(function, "__dict__", {})
    for inner in (attributes.get("__wrapped__"), attributes.get("_orig_run"), getattr(function, "__func__", None)):
        if callable(inner) and inner is not function:
            return inner
    code = getattr(function, "__code__", None)
    if code is None:
        run = getattr(function, "run", None)  # a Celery task
        return run if callable(run) and run is not function else None
    if is_user_file(code.co_filename):
        return None
    held = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    functions = [value for value in held if hasattr(value, "__code__") or hasattr(value, "__wrapped__")]
    called = getattr(function, "__qualname__", None)
    same = [value for value in functions if getattr(value, "__qualname__", None) == called]
    return next(iter(same or functions), None)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
