"""Ambient chance, time and entropy of untouched code: recorded live, served back in replay.

    ambient.install()        once per process: put gates in front of random, time, datetime, uuid, os.urandom, ...
    ambient.adopt(globals)   before a task is performed: rebind what its module bound early
    ambient.limits()         what this interpreter does not let us capture

A gate asks the contextvar ``captured`` and calls the original when no capture is on, or when the standard library or
infrastructure asks (``callers``). Out of reach are originals in default arguments, closures and class
attributes that were made before ``install``, calls made inside of C extensions (numpy's global generator), and
other processes, forked ones as well: a child process sees real time and chance.
"""

from __future__ import annotations

import os
import threading
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from aos_workflow.determinism import chance, clocks, dates, threads
from aos_workflow.determinism.drawing import forget_threads
from aos_workflow.determinism.patching import Patches

_patches = Patches()
_limits: list[str] = []
_lock = threading.RLock()
_is_installed = False


def install() -> None:
    """Put the gates in place and rebind what loaded modules bound early. Once per process, whoever comes first."""
    global _is_installed
    if _is_installed:
        return
    with _lock:
        if _is_installed:
            return
        try:
            _let_time_machine_in()
            for room in (chance, clocks, threads):
                room.patch(_patches)
        except BaseException:
            _patches.restore()
            raise
        try:
            dates.patch(_patches)
        except Exception as error:  # another interpreter, a future version, no ctypes
            _limits.append(f"datetime.now, utcnow and today are not captured: {error}")
        _patches.adopt_modules()
        _is_installed = True


def adopt(place: ModuleType | dict[str, Any]) -> None:
    """Rebind the early-bound names of a module (or its globals) and of modules imported since the last call.

    Call it with a task's ``__globals__`` before the task is performed: when nothing is new it only compares sizes.
    """
    if _is_installed:
        namespace = place if isinstance(place, dict) else vars(place)
        if not _patches.knows(namespace):
            with _lock:
                _patches.adopt(namespace)
                _patches.adopt_modules()


def uninstall() -> None:
    """Put the originals back. For tests: code that bound a gate keeps it, and it keeps passing through."""
    global _is_installed
    with _lock:
        _patches.restore()
        _limits.clear()
        _is_installed = False


def limits() -> tuple[str, ...]:
    """What the interpreter keeps from being captured, one sentence each; empty before ``install``."""
    return tuple(_limits)


def _let_time_machine_in() -> None:
    """time-machine takes the functions it bends for C functions without looking: it must see the originals."""
    if find_spec("_time_machine") is not None:
        getattr(import_module("_time_machine"), "patch_if_needed", lambda: None)()


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
