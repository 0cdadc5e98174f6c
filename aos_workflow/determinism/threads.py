"""Threads a step starts see the step's capture, and jobs belong to the step that submitted them.

A pool's own threads serve whoever submits, and the pool may outlive the step: they carry nothing, each job does.

Only what is listed as carried goes along, not the whole context: a copied context would share the step's
decimal context and other variables with threads that have their own when nothing is captured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from multiprocessing.pool import Pool, ThreadPool
from threading import Thread
from typing import Any

from aos_workflow.determinism.callers import is_importing, is_infrastructure
from aos_workflow.determinism.captured import Captured, captured
from aos_workflow.determinism.drawing import caller
from aos_workflow.determinism.patching import Patches, as_method

_carried: list[ContextVar[Any]] = [captured]

#: Modules whose own functions run in the threads of a pool.
_POOLS = frozenset({"concurrent.futures.thread", "multiprocessing.pool"})

Luggage = list[tuple[ContextVar[Any], Any]]


def carry(variable: ContextVar[Any]) -> None:
    """From now on a thread also gets this variable, when it is not None where the thread is started."""
    if variable not in _carried:
        _carried.append(variable)


def patch(patches: Patches) -> None:
    """Put the gates in place."""
    patches.attribute(Thread, "start", _start_gate())
    patches.attribute(ThreadPoolExecutor, "submit", _submit_gate())
    patches.attribute(Pool, "apply_async", _apply_gate())
    patches.attribute(Pool, "_map_async", _map_gate())
    for name in ("imap", "imap_unordered"):
        patches.attribute(Pool, name, _imap_gate(name))


def _luggage() -> Luggage:
    return [
        (variable, value)
        for variable in _carried
        if (value := variable.get(None)) is not None and not (isinstance(value, Captured) and _is_none(value))
    ]


def _is_none(capture: Captured) -> bool:
    """Is it over, or does a module that is being imported start the thread? Either way it is no step's."""
    return capture.is_over or is_importing(caller(1))


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

    return as_method(start, original)


def _is_for_the_step(thread: Thread, starter: str) -> bool:
    """A pool's thread serves whoever submits, and a library's housekeeping outlives the step."""
    return getattr(getattr(thread, "_target", None), "__module__", None) not in _POOLS and not is_infrastructure(
        starter
    )


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

    return as_method(submit, original)


def _apply_gate() -> Any:
    original = Pool.apply_async

    def apply_async(
        self: Pool,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Any = {},  # noqa: B006  # the original's own
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> Any:
        luggage = _luggage_for(self)
        job, done, failed = _with(luggage, func), _with(luggage, callback), _with(luggage, error_callback)
        return original(self, job, args, kwds, done, failed)

    return as_method(apply_async, original)


def _map_gate() -> Any:
    original = Pool._map_async  # type: ignore[attr-defined]  # of map, starmap and their asynchronous forms

    def _map_async(
        self: Pool,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        mapper: Any,
        chunksize: int | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> Any:
        luggage = _luggage_for(self)
        job, done, failed = _with(luggage, func), _with(luggage, callback), _with(luggage, error_callback)
        return original(self, job, iterable, mapper, chunksize, done, failed)

    return as_method(_map_async, original)


def _imap_gate(name: str) -> Any:
    original = getattr(Pool, name)

    def imap(self: Pool, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int = 1) -> Any:
        luggage = _luggage_for(self)
        items = _each_with(luggage, iterable) if luggage else iterable
        return original(self, _with(luggage, func), items, chunksize)

    imap.__name__ = name
    return as_method(imap, original)


def _luggage_for(pool: Pool) -> Luggage:
    """Nothing for a pool of processes."""
    return _luggage() if isinstance(pool, ThreadPool) else []


def _with(luggage: Luggage, function: Any) -> Any:
    """``function``, if there is one, carrying the luggage."""
    return function if function is None or not luggage else partial(_call_carrying, luggage, function)


def _call_carrying(luggage: Luggage, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return _call_with(luggage, function, args, kwargs)


def _each_with(luggage: Luggage, iterable: Iterable[Any]) -> Iterator[Any]:
    """The pool takes the items in a thread of its own."""
    items = _call_with(luggage, iter, (iterable,), {})
    end = object()
    while (item := _call_with(luggage, next, (items, end), {})) is not end:
        yield item


def _call_with(luggage: Luggage, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    before = [(variable, variable.set(value)) for variable, value in luggage]
    try:
        return function(*args, **kwargs)
    finally:
        for variable, token in reversed(before):
            variable.reset(token)
