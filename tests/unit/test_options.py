"""Options: what a step may be told, and what it is not told twice."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from kombu.entity import Exchange, Queue

from aos_workflow.errors import BadOption
from aos_workflow.options import MOST_LOSSES, OPTION_NAMES, StepOptions, backoff_s, delivery_options

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_a_step_says_nothing_by_default() -> None:
    """Without options a step touches nothing, costs nothing and is tried once."""
    expected = {
        "effect": False, "joins": False, "local": False, "cost": 0, "max_attempts": None, "timeout_s": None,
        "volatile": (),
    }  # fmt: skip
    assert expected == {name: getattr(StepOptions(), name) for name in OPTION_NAMES}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((name, value) for name in ("effect", "joins", "local") for value in (1, 0, "yes", None)),
        *(("cost", value) for value in (-1, 1.5, "2", True, None)),
        *(("max_attempts", value) for value in (0, -1, 1.5, "3", True)),
        *(("volatile", value) for value in (1, None, [1], [""], {"a": 1})),
        *(("timeout_s", value) for value in (0, -1, "5", True, math.nan, math.inf, 1e20)),
    ],
)
def test_a_senseless_value_is_refused_at_definition(option: str, value: Any) -> None:
    """An option of the wrong type or out of range is refused by name, with the value and what to give."""
    with pytest.raises(BadOption, match=f"@step\\({option}=") as refused:
        StepOptions(**{option: value})
    assert option == refused.value.evidence["option"]
    assert refused.value.fix


@pytest.mark.parametrize(
    "options",
    [
        {"cost": 0}, {"cost": 10**9}, {"max_attempts": 1}, {"timeout_s": 0.001}, {"timeout_s": 86_400},
        {"effect": True, "joins": True, "local": True},
    ],
    ids=str,
)  # fmt: skip
def test_a_sensible_value_is_kept(options: dict[str, Any]) -> None:
    """The ends of each range belong to it."""
    kept = StepOptions(**options)
    assert options == {name: getattr(kept, name) for name in options}


def test_lost_workers_are_bounded() -> None:
    """A step may lose as many workers as it may have attempts, and five when nothing is said."""
    assert (StepOptions().most_losses, MOST_LOSSES) == (MOST_LOSSES, 5)
    assert StepOptions(max_attempts=2).most_losses == 2


def test_the_backoff_series() -> None:
    """Pauses double from one second up to ten minutes."""
    series = [backoff_s(retries, 0.0) for retries in range(12)]
    assert series == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]


def test_chance_takes_up_to_half_of_a_pause() -> None:
    """The draw shortens a pause by at most half of it."""
    assert [backoff_s(3, 0.0), backoff_s(3, 0.5), backoff_s(3, 1.0)] == [8.0, 6.0, 4.0]


def test_the_backoff_never_overflows() -> None:
    """A step that is tried a million times still has a pause."""
    assert backoff_s(1_000_000, 0.0) == 600


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {}),
        ({"queue": None, "priority": None}, {}),
        ({"task_id": "x", "root_id": "y", "link": [], "stamped_headers": ["z"], "producer": object()}, {}),
        ({"queue": "fast"}, {"queue": "fast"}),
        ({"queue": Queue("fast", Exchange("e"), routing_key="k")}, {"queue": "fast"}),
        ({"exchange": Exchange("e"), "routing_key": "k"}, {"exchange": "e", "routing_key": "k"}),
        ({"priority": 0}, {"priority": 0}),
        ({"countdown": 0}, {"countdown": 0}),
        ({"countdown": 1.5}, {"countdown": 1.5}),
        ({"time_limit": 10, "soft_time_limit": 5.5}, {"time_limit": 10, "soft_time_limit": 5.5}),
        ({"eta": NOON}, {"eta": NOON.timestamp()}),
        ({"eta": NOON.astimezone(timezone(timedelta(hours=5)))}, {"eta": NOON.timestamp()}),
        ({"eta": NOON.replace(tzinfo=None)}, {"eta": NOON.timestamp()}),
        ({"eta": "2026-03-01T12:00:00+00:00"}, {"eta": NOON.timestamp()}),
        ({"eta": "2026-03-01T12:00:00Z"}, {"eta": NOON.timestamp()}),
        ({"eta": "2026-03-01T12:00:00"}, {"eta": NOON.timestamp()}),
        ({"eta": 12.5}, {"eta": 12.5}),
    ],
    ids=range(17),
)
def test_delivery_options_become_json(given: dict[str, Any], kept: dict[str, Any]) -> None:
    """A step keeps Celery's delivery options as names and seconds; leftovers and stamps are dropped."""
    assert kept == delivery_options(given, of="t")


def test_a_naive_eta_is_utc_wherever_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A naive eta means UTC, as in Celery, whatever the machine's own time zone is."""
    import time

    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        read = delivery_options({"eta": NOON.replace(tzinfo=None)}, of="t")
    time.tzset()
    assert {"eta": NOON.timestamp()} == read


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("queue", 5), ("queue", ["a"]), ("exchange", b"e"), ("routing_key", 1),
        ("priority", "high"), ("priority", 1.5), ("priority", True),
        ("countdown", "5"), ("countdown", math.nan), ("countdown", math.inf), ("countdown", timedelta(seconds=5)),
        ("eta", "tomorrow"), ("eta", math.inf), ("eta", []),
        ("time_limit", "10"), ("soft_time_limit", {}),
    ],
)  # fmt: skip
def test_what_cannot_be_delivered_is_refused(option: str, value: Any) -> None:
    """A delivery option that no message could carry is refused, naming task and option."""
    with pytest.raises(BadOption, match=f"pkg.task carries the option {option}=") as refused:
        delivery_options({option: value}, of="pkg.task")
    assert {"task": "pkg.task", "option": option} == refused.value.evidence
