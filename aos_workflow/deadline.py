"""A deadline for a step's body, in every pool.

In the main thread (prefork and solo workers) the interval timer's signal interrupts the
body even while it sleeps or waits for a socket. In any other thread the body gets a thread
of its own; at the deadline it is told to stop and left behind. Either way the attempt is
over then: whatever a body left behind still computes can no longer be committed.
"""

from __future__ import annotations

import contextvars
import ctypes
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from aos_workflow.clock import monotonic_s
from aos_workflow.errors import StepTimeout

T = TypeVar("T")


class _Interrupted(BaseException):
    """Raised inside the body at its deadline; no Exception, so ``except Exception`` does not swallow it."""


def call_within(timeout_s: float | None, function: Callable[[], T]) -> T:
    """Call ``function``; raises StepTimeout if it has not returned within ``timeout_s`` seconds."""
    if timeout_s is None:
        return function()
    if threading.current_thread() is threading.main_thread():
        return _by_signal(timeout_s, function)
    return _by_thread(timeout_s, function)


def _by_signal(timeout_s: float, function: Callable[[], T]) -> T:
    is_in_body, is_late = False, False

    def expire(_signal: int, _frame: Any) -> None:
        nonlocal is_late
        is_late = True
        if is_in_body:  # the signal may be handled a moment after the body returned
            raise _Interrupted

    before, began_s, left_s = signal.signal(signal.SIGALRM, expire), monotonic_s(), 0.0
    try:
        try:
            is_in_body = True
            left_s, _ = signal.setitimer(signal.ITIMER_REAL, timeout_s)
            value = function()
        finally:
            is_in_body = False
    except (Exception, _Interrupted) as error:
        if not is_late:
            raise
        raise _timed_out(timeout_s) from error  # its traceback says what the body was doing
    else:
        if is_late:  # the body swallowed the interruption
            raise _timed_out(timeout_s)
        return value
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left_s:  # somebody else's alarm
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left_s - (monotonic_s() - began_s)))


def _by_thread(timeout_s: float, function: Callable[[], T]) -> T:
    answer: list[T] = []
    problem: list[BaseException] = []

    def body() -> None:
        try:
            answer.append(function())
        except BaseException as error:
            problem.append(error)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(body,), name="aos-step", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Interrupted))
        raise _timed_out(timeout_s)
    if problem:
        raise problem[0]
    return answer[0]


def _timed_out(timeout_s: float) -> StepTimeout:
    return StepTimeout(
        f"the step ran longer than its timeout_s={timeout_s:g}",
        fix="raise timeout_s or do less in one step",
        timeout_s=timeout_s,
    )
