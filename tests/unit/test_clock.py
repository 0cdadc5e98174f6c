"""Clocks: what waits or stamps can be moved by a test."""

from __future__ import annotations

import threading
import time

from aos_workflow.clock import Clock, ManualClock, SystemClock, monotonic_s


def test_the_manual_clock_stands_still() -> None:
    """A manual clock says the same time until it is moved."""
    clock = ManualClock(5.0)
    assert [clock.now(), clock.now()] == [5.0, 5.0]


def test_the_manual_clock_moves_by_what_it_is_told() -> None:
    """Moving a manual clock adds exactly that many seconds."""
    clock = ManualClock(5.0)
    clock.move(2.5)
    assert clock.now() == 7.5


def test_sleeping_moves_the_manual_clock() -> None:
    """Sleeping on a manual clock takes no time but passes it."""
    clock = ManualClock(5.0)
    clock.sleep(3_600)
    assert clock.now() == 3_605.0


def test_no_move_is_lost_among_threads() -> None:
    """Moves from several threads at once add up."""
    clock = ManualClock(0.0)
    start = threading.Barrier(4)

    def move() -> None:
        start.wait()
        for _ in range(500):
            clock.move(1.0)

    threads = [threading.Thread(target=move) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now() == 2_000.0


def test_the_system_clock_is_the_machine_s() -> None:
    """The system clock lies between two readings of the machine's clock."""
    before = time.time()
    now = SystemClock().now()
    assert before <= now <= time.time()


def test_the_system_clock_lets_time_pass() -> None:
    """Sleeping on the system clock takes at least that long."""
    began = monotonic_s()
    SystemClock().sleep(0.002)
    assert monotonic_s() - began >= 0.002


def test_durations_never_run_backwards() -> None:
    """The monotonic clock never goes back."""
    readings = [monotonic_s() for _ in range(100)]
    assert sorted(readings) == readings


def test_both_are_clocks() -> None:
    """Both clocks tell the time as seconds since the epoch."""
    clocks: list[Clock] = [SystemClock(), ManualClock()]
    assert [float, float] == [type(clock.now()) for clock in clocks]
