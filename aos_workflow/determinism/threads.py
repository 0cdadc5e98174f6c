"""Threads a step starts see the step's capture.

Only what is listed as carried goes along, not the whole context: a copied context would share the step's
decimal context and other variables with threads that have their own when nothing is captured.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import thread as executor_threads
from contextvars import ContextVar
from functools import partial
from threading import Thread
from typing import Any

from aos_workflow.determinism.callers import is_infrastructure
from aos_workflow.determinism.captured import captured
from aos_workflow.determinism.drawing import caller
from aos_workflow.determinism.patching import Patches

_carried: list[ContextVar[Any]] = [captured]

Luggage = list[tuple[ContextVar[Any], Any]]


def carry(variable: ContextVar[Any]) -> None:
    """From now on a thread also gets this variable, when it is not None where the thread is started."""
    if variable not in _carried:
        _carried.append(variable)


def patch(patches: Patches) -> None:
    """Put the gates in place."""
    patches.attribute(Thread, "start", _start_gate())
    patches.attribute(ThreadPoolExecutor, "submit", _submit_gate())


def _luggage() -> Luggage:
    return [(variable, value) for variable in _carried if (value := variable.get(None)) is not None]


def _start_gate() -> Any:
    original = Thread.start

    def start(self: Thread) -> None:
        if not (luggage := _luggage()) or not _is_for_the_step(self, str(caller(1).f_globals.get("__name__"))):
            return original(self)
        self.run = partial(_run_with, luggage, self, self.run)  # type: ignore[method-assign]
        try:
            return original(self)
        except BaseException:
            vars(self).pop("run", None)
            raise

    start.__qualname__, start.__doc__ = original.__qualname__, original.__doc__
    return start


def _is_for_the_step(thread: Thread, starter: str) -> bool:
    """An executor's thread serves whoever submits, and a library's housekeeping outlives the step."""
    return getattr(thread, "_target", None) is not executor_threads._worker and not is_infrastructure(starter)


def _run_with(luggage: Luggage, thread: Thread, run: Callable[[], None]) -> None:
    vars(thread).pop("run", None)  # it would keep the thread alive in a circle
    for variable, value in luggage:
        variable.set(value)
    run()


def _submit_gate() -> Any:
    original = ThreadPoolExecutor.submit

    def submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        luggage = _luggage()
        if not luggage:
            return original(self, fn, *args, **kwargs)
        return original(self, _call_with, luggage, fn, args, kwargs)

    submit.__qualname__, submit.__doc__ = original.__qualname__, original.__doc__
    return submit


def _call_with(luggage: Luggage, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    before = [(variable, variable.set(value)) for variable, value in luggage]
    try:
        return function(*args, **kwargs)
    finally:
        for variable, token in reversed(before):
            variable.reset(token)
