"""The fork gate: a forked child finds no lock held by a thread that it does not have."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from kombu.transport.redis import Channel

from aos_workflow import fork_gate, lifecycle, maintenance
from aos_workflow.fork_gate import ForkGate

#: Longer than a fork takes, so that one that does not wait is seen.
WORK_S = 0.3
HUNG_AFTER_S = 5

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that is what it is about


def child_says(question: Callable[[], object]) -> bool:
    """The answer of a forked child, which has this thread only; False if it hangs."""
    pid = os.fork()
    if not pid:
        answer = False
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(HUNG_AFTER_S)
            answer = bool(question())
        finally:
            os._exit(0 if answer else 1)
    return os.waitpid(pid, 0)[1] == 0


@contextmanager
def in_a_thread(work: Callable[[threading.Event], None]) -> Iterator[threading.Thread]:
    """``work`` goes on in a thread of its own; the block begins when it has said so."""
    has_begun = threading.Event()
    thread = threading.Thread(target=work, args=(has_begun,), daemon=True)
    thread.start()
    assert has_begun.wait(5)
    yield thread
    thread.join(10)
    assert not thread.is_alive()


def test_a_fork_waits_for_a_busy_thread() -> None:
    """A lock that a busy thread took is free in a child, because the fork came after its release."""
    lock = threading.Lock()

    def work(has_begun: threading.Event) -> None:
        with fork_gate.busy(), lock:
            has_begun.set()
            time.sleep(WORK_S)

    with in_a_thread(work):
        assert child_says(lambda: lock.acquire(timeout=1))


def test_a_child_forked_in_the_caretakers_turn_can_use_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """kombu's lock of ``Channel.client``, held by a turn that publishes, is free in a child: children hung there."""
    is_publishing = threading.Event()

    def take_turn(_runtime: object, *, every_s: float) -> int:
        with Channel.client.lock:
            is_publishing.set()
            time.sleep(WORK_S)
        return 0

    monkeypatch.setattr(maintenance, "take_turn", take_turn)
    caretaker = lifecycle.Caretaker(None, _App(), every_s=60).start()
    try:
        assert is_publishing.wait(5)
        assert child_says(lambda: Channel.client), "it hangs where it looks at Channel.client"
    finally:
        caretaker.stop()


def test_nobody_begins_while_somebody_forks() -> None:
    """A thread that wants to be busy waits until the fork is over."""
    gate = ForkGate()
    is_busy = threading.Event()

    def work(has_begun: threading.Event) -> None:
        has_begun.set()
        with gate.busy():
            is_busy.set()

    gate.shut()
    with in_a_thread(work):
        assert not is_busy.wait(0.1)
        gate.open()
    assert is_busy.is_set()


def test_long_work_lets_a_fork_pass_where_it_breathes() -> None:
    """A fork need not wait for the end of work that breathes in between, and the work waits for the fork."""
    gate, is_forking, is_forked, seen = ForkGate(), threading.Event(), threading.Event(), []

    def work(has_begun: threading.Event) -> None:
        with gate.busy():
            has_begun.set()
            assert is_forking.wait(5)
            while not is_forked.is_set():
                time.sleep(0.001)
                gate.breathe()
            seen.append("went on")

    with in_a_thread(work):
        is_forking.set()
        gate.shut()
        assert not seen
        is_forked.set()
        gate.open()
    assert seen == ["went on"]


def test_patience_ends_once_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Work that does not end holds up one fork for as long as patience lasts, no further one, and a warning says so."""
    gate, is_over = ForkGate(patience_s=0.2), threading.Event()

    def work(has_begun: threading.Event) -> None:
        with gate.busy():
            has_begun.set()
            is_over.wait(10)

    durations_s = []
    with in_a_thread(work), caplog.at_level(logging.WARNING):
        for _ in range(3):
            began_s = time.monotonic()
            gate.shut()
            gate.open()
            durations_s.append(time.monotonic() - began_s)
        is_over.set()
    assert durations_s[0] >= 0.2
    assert sum(durations_s[1:]) < 0.2
    assert "may hang" in caplog.text


def test_a_busy_thread_may_fork_itself() -> None:
    """Nobody waits for himself, and the child can be busy and fork in its turn."""

    def grandchild() -> bool:
        with fork_gate.busy():
            pass
        return child_says(lambda: True)

    began_s = time.monotonic()
    with fork_gate.busy():
        assert child_says(grandchild)
    assert time.monotonic() - began_s < fork_gate.PATIENCE_S


class _App:
    def set_current(self) -> None:
        """Nothing here asks for the current app."""
