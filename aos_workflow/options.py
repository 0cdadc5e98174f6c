"""What a step may be told: StepOptions, which ``@step`` adds to a Celery task, and Celery's own delivery options."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from threading import TIMEOUT_MAX
from typing import Any

from aos_workflow.errors import BadOption
from aos_workflow.terms import volatile_fields

#: How often a step may kill its worker before its run fails, when ``max_attempts`` says nothing.
MOST_LOSSES = 5
#: The first pause before an attempt after a failure, and the longest, seconds.
BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOptions:
    """Options of a step; refused at definition when they make no sense.

    effect        touches the world: its output is recorded live and served back in replay
    joins         always receives a list, even of one
    local         runs at once in the process that committed the step before, if that is of the same queue
    cost          units a run's budget is charged for it
    max_attempts  tries in all before the run fails; without it an error is final at once
                  and only lost workers are tried again, ``MOST_LOSSES`` times
    timeout_s     the body's deadline, in every pool
    volatile      fields of its output that may differ between two runs: JSON pointers
    """

    effect: bool = False
    joins: bool = False
    local: bool = False
    cost: int = 0
    max_attempts: int | None = None
    timeout_s: float | None = None
    volatile: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("effect", "joins", "local"):
            if not isinstance(getattr(self, name), bool):
                raise _refused(name, getattr(self, name), "True or False")
        if not (_is_number(self.cost, int) and self.cost >= 0):
            raise _refused("cost", self.cost, "a whole number of units, 0 or more")
        if self.max_attempts is not None and not (_is_number(self.max_attempts, int) and self.max_attempts >= 1):
            raise _refused("max_attempts", self.max_attempts, "a whole number, 1 or more")
        if self.timeout_s is not None and not (
            _is_number(self.timeout_s, int | float) and 0 < self.timeout_s <= TIMEOUT_MAX
        ):
            raise _refused("timeout_s", self.timeout_s, "seconds, more than 0")
        try:
            object.__setattr__(self, "volatile", volatile_fields(self.volatile, of="@step"))
        except BadOption:
            raise _refused("volatile", self.volatile, 'JSON pointers: ("/took_ms", "/items/*/id")') from None

    @property
    def most_losses(self) -> int:
        """After how many lost workers the step counts as poison."""
        return self.max_attempts or MOST_LOSSES


OPTION_NAMES = tuple(option.name for option in fields(StepOptions))


def backoff_s(retries: int, chance: float) -> float:
    """The pause before retry number ``retries + 1``: 1, 2, 4, 8 ... 600 seconds, less up to half of it.

    ``chance`` (0 <= chance < 1) comes from the step's seed, so the series is the same in every life of the run.
    """
    full = min(LONGEST_BACKOFF_S, BACKOFF_S * 2.0 ** min(retries, 32))
    return full * (1 - chance / 2)


def delivery_options(given: Mapping[str, Any], *, of: str) -> dict[str, Any]:
    """Those of Celery's options that a step of task ``of`` keeps, as JSON values; the rest is leftovers and stamps.

    queue, exchange, routing_key   names; a kombu entity counts as its name
    priority                       a whole number
    countdown                      seconds after the step's first claim
    eta                            seconds since the epoch; a naive datetime is UTC, as in Celery
    time_limit, soft_time_limit    seconds

    Raises BadOption for a value that cannot be delivered.
    """
    kept = {}
    for name, read in _DELIVERY.items():
        value = given.get(name)
        if value is None:
            continue
        try:
            kept[name] = read(value)
        except (AttributeError, TypeError, ValueError, OverflowError):
            raise BadOption(
                f"{of} carries the option {name}={value!r:.100}, which is not valid",
                fix="see aos_workflow.options.delivery_options for what each option takes",
                task=of,
                option=name,
            ) from None
    return kept


def _name(value: Any) -> str:
    name = value if isinstance(value, str) else value.name
    if not isinstance(name, str):
        raise TypeError
    return str(name)


def _whole(value: Any) -> int:
    if not _is_number(value, int):
        raise TypeError
    return int(value)


def _seconds(value: Any) -> float:
    if not (_is_number(value, int | float) and math.isfinite(value)):
        raise TypeError
    return int(value) if isinstance(value, int) else float(value)


def _moment(value: Any) -> float:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return _seconds(value)


_DELIVERY: Mapping[str, Callable[[Any], Any]] = {
    "queue": _name,
    "exchange": _name,
    "routing_key": _name,
    "priority": _whole,
    "countdown": _seconds,
    "eta": _moment,
    "time_limit": _seconds,
    "soft_time_limit": _seconds,
}


def _is_number(value: object, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _refused(name: str, value: object, wanted: str) -> BadOption:
    return BadOption(f"@step({name}={value!r}) is not valid", fix=f"give {wanted}", option=name)
