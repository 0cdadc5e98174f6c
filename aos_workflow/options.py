"""StepOptions: what ``@step`` adds to a Celery task."""

from __future__ import annotations

from dataclasses import dataclass, fields
from threading import TIMEOUT_MAX
from typing import Any

from aos_workflow.errors import BadOption

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
    """

    effect: bool = False
    joins: bool = False
    local: bool = False
    cost: int = 0
    max_attempts: int | None = None
    timeout_s: float | None = None

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


def _is_number(value: object, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _refused(name: str, value: object, wanted: str) -> BadOption:
    return BadOption(f"@step({name}={value!r}) is not valid", fix=f"give {wanted}", option=name)
