"""Deadlines: a body is over at its timeout, in every pool."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from aos_workflow.deadline import call_within
from aos_workflow.errors import StepTimeout

FOREVER_S = 60.0
Call = Callable[[float | None, Callable[[], Any]], Any]


def in_a_thread(timeout_s: float | None, function: Callable[[], Any]) -> Any:
    return asyncio.run(asyncio.to_thread(call_within, timeout_s, function))


@pytest.fixture(params=["main thread", "other thread"])
def within(request: pytest.FixtureRequest) -> Call:
    """``call_within`` as prefork and solo workers call it, and as thread pools do."""
    return call_within if request.param == "main thread" else in_a_thread


@pytest.fixture
def alarm() -> Iterator[None]:
    """The alarm that was set before the test is set after it."""
    before, left = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    yield
    signal.signal(signal.SIGALRM, before)
    signal.setitimer(signal.ITIMER_REAL, *left)


def fail() -> NoReturn:
    raise KeyError("mine")


def test_a_sleeping_body_is_interrupted(within: Call) -> None:
    """A body that sleeps past its timeout raises StepTimeout, which names the timeout."""
    with pytest.raises(StepTimeout, match=r"timeout_s=0\.05") as timeout:
        within(0.05, lambda: time.sleep(FOREVER_S))
    assert timeout.value.evidence == {"timeout_s": 0.05}


def test_a_waiting_body_is_interrupted(within: Call) -> None:
    """A body that waits for a lock nobody gives is over at its timeout."""
    with pytest.raises(StepTimeout):
        within(0.05, threading.Event().wait)


def test_a_busy_body_is_interrupted(within: Call) -> None:
    """A body that computes for ever is over at its timeout, and stops computing."""
    stopped = threading.Event()

    def compute() -> None:
        try:
            while True:
                pass
        finally:
            stopped.set()

    with pytest.raises(StepTimeout):
        within(0.05, compute)
    assert stopped.wait(10)


def test_except_exception_does_not_swallow_the_deadline(within: Call) -> None:
    """A body that catches every Exception is interrupted all the same."""

    def stubborn() -> None:
        while True:
            try:
                while True:
                    time.sleep(0.001)
            except Exception:
                continue

    with pytest.raises(StepTimeout):
        within(0.05, stubborn)


def test_a_body_that_swallows_the_interruption_is_late() -> None:
    """A body that catches everything and returns after its deadline has timed out nevertheless."""

    def stubborn() -> str:
        try:
            time.sleep(FOREVER_S)
        except BaseException:
            return "too late"
        return "in time"

    with pytest.raises(StepTimeout):
        call_within(0.05, stubborn)


def test_an_error_made_of_the_interruption_is_a_timeout() -> None:
    """A library that turns the interruption into its own error does not hide the timeout."""

    def translating() -> None:
        try:
            time.sleep(FOREVER_S)
        except BaseException as error:
            raise RuntimeError("driver error") from error

    with pytest.raises(StepTimeout) as timeout:
        call_within(0.05, translating)
    assert str(timeout.value.__cause__) == "driver error"


def test_the_traceback_says_what_the_body_was_doing() -> None:
    """The traceback of a timeout shows the line the body was stuck at."""

    def stuck_here() -> None:
        time.sleep(FOREVER_S)

    with pytest.raises(StepTimeout) as timeout:
        call_within(0.05, stuck_here)
    assert "in stuck_here" in "".join(traceback.format_exception(timeout.value))


def test_a_quick_body_is_left_alone(within: Call) -> None:
    """A body that returns in time returns its value."""
    assert within(FOREVER_S, lambda: [1, 2]) == [1, 2]


def test_a_body_s_own_error_passes(within: Call) -> None:
    """A body that raises in time raises its own error."""
    with pytest.raises(KeyError, match="mine"):
        within(FOREVER_S, fail)


@pytest.mark.parametrize("stop", [SystemExit, KeyboardInterrupt])
def test_a_process_that_is_stopped_stops(stop: type[BaseException], within: Call) -> None:
    """What ends a process passes through a deadline as it is."""

    def end() -> NoReturn:
        raise stop

    if within is call_within:
        with pytest.raises(stop):
            within(FOREVER_S, end)
    else:
        caught: list[type[BaseException]] = []

        def catch() -> None:
            try:
                call_within(FOREVER_S, end)
            except BaseException as error:
                caught.append(type(error))

        thread = threading.Thread(target=catch)
        thread.start()
        thread.join()
        assert [stop] == caught


def test_no_timeout_means_no_thread_and_no_alarm(within: Call) -> None:
    """Without a timeout the body runs in the caller's own thread."""
    here = []
    within(None, lambda: here.append(threading.current_thread().name))
    assert [name for name in here if name.startswith("aos-step")] == []


def test_context_variables_reach_the_body(within: Call) -> None:
    """A body sees the context variables of its caller, in whichever thread it runs."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("seen")
    assert within(FOREVER_S, variable.get) == "seen"


def test_a_timeout_so_short_that_it_comes_first(within: Call) -> None:
    """A timeout that is over before the body begins is a timeout like any other, every time."""
    for _ in range(50):
        with pytest.raises(StepTimeout):
            within(1e-6, lambda: time.sleep(FOREVER_S))


def test_a_body_that_ends_at_its_deadline_never_leaks() -> None:
    """Whichever comes first, the result is a value or a StepTimeout, and no signal strikes afterwards."""
    for rounds in range(0, 6_000, 20):
        with contextlib.suppress(StepTimeout):
            call_within(0.0002, functools.partial(list, range(rounds)))
    assert signal.getitimer(signal.ITIMER_REAL)[1] == 0.0


def test_the_handler_of_the_alarm_is_restored(alarm: None) -> None:
    """After a body the signal belongs to whoever had it before."""

    def mine(*_: Any) -> None: ...

    signal.signal(signal.SIGALRM, mine)
    call_within(FOREVER_S, lambda: None)
    with pytest.raises(StepTimeout):
        call_within(0.001, lambda: time.sleep(FOREVER_S))
    assert signal.getsignal(signal.SIGALRM) is mine


def test_somebody_else_s_alarm_still_rings(alarm: None) -> None:
    """An alarm that was set before the body is set again after it, less the time that passed."""
    rang = threading.Event()
    signal.signal(signal.SIGALRM, lambda *_: rang.set())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    call_within(FOREVER_S, lambda: time.sleep(0.1))
    assert rang.wait(10)


def test_a_deadline_inside_a_deadline_ends_first(alarm: None) -> None:
    """An inner timeout is the inner body's; the outer body goes on under its own."""

    def outer() -> str:
        with pytest.raises(StepTimeout, match=r"0\.02"):
            call_within(0.02, lambda: time.sleep(FOREVER_S))
        time.sleep(FOREVER_S)
        return "never"

    with pytest.raises(StepTimeout, match=r"0\.2"):
        call_within(0.2, outer)
