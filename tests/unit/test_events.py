"""Events: the core announces, and nobody who listens can hurt it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError

import pytest

from aos_workflow import events
from aos_workflow.events import Event, Listener, announce, listen

Listen = Callable[[Listener], Callable[[], None]]


@pytest.fixture
def hear() -> Iterator[Listen]:
    """``listen``, undone at the end of the test whatever happened in it."""
    before = list(events._listeners)
    yield listen
    events._listeners[:] = before


def test_a_listener_hears_name_and_details(hear: Listen) -> None:
    """An announcement reaches a listener as one event with its name and details."""
    heard: list[Event] = []
    hear(heard.append)
    announce("step.committed", run="r", attempt=2)
    assert [Event(name="step.committed", details={"run": "r", "attempt": 2})] == heard


def test_listeners_hear_in_the_order_they_came(hear: Listen) -> None:
    """Every listener is told, first come, first told."""
    heard: list[str] = []
    hear(lambda _: heard.append("first"))
    hear(lambda _: heard.append("second"))
    announce("x")
    assert heard == ["first", "second"]


def test_a_listener_can_leave(hear: Listen) -> None:
    """The call that ``listen`` returns removes the listener."""
    heard: list[Event] = []
    leave = hear(heard.append)
    leave()
    announce("x")
    assert heard == []


def test_a_listener_may_leave_while_it_is_told(hear: Listen) -> None:
    """A listener that leaves during an announcement does not make the next one miss it."""
    heard: list[str] = []

    def short_lived(_: Event) -> None:
        heard.append("short-lived")
        leave()

    leave = hear(short_lived)
    hear(lambda _: heard.append("steady"))
    announce("x")
    announce("y")
    assert heard == ["short-lived", "steady", "steady"]


def test_a_broken_listener_hurts_nobody(hear: Listen, caplog: pytest.LogCaptureFixture) -> None:
    """A listener's exception is logged, and the others are told all the same."""
    heard: list[Event] = []

    def broken(_: Event) -> None:
        raise RuntimeError("deaf")

    hear(broken)
    hear(heard.append)
    with caplog.at_level(logging.ERROR, logger="aos_workflow"):
        announce("run.ended")
    assert [event.name for event in heard] == ["run.ended"]
    assert [record.getMessage() for record in caplog.records] == ["a listener failed on run.ended"]
    assert "deaf" in caplog.text


def test_an_announcement_without_listeners_is_silent() -> None:
    """Announcing to nobody does nothing and raises nothing."""
    announce("nobody.listens", run="r")


def test_an_event_cannot_be_changed() -> None:
    """No listener can change what the next one hears about."""
    with pytest.raises(FrozenInstanceError):
        Event(name="x").name = "y"  # type: ignore[misc]
