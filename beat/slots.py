"""Slots: the moments a schedule asks for, and what is to be done about the newest one. No I/O.

A slot is a moment, not a delay since something: an interval's slots are the multiples of the
interval since the epoch, a crontab's are the minutes it names. So every beat computes the same
slots, whenever it was started, and nothing drifts. Times are seconds since the epoch.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from celery.schedules import schedule as Interval

#: A slot this late, seconds, was missed: longer than a failover takes, shorter than anyone would call late.
LATE_S = 30.0
#: How far back a slot is looked for, seconds. The rarest crontab, 29 February, is silent for eight years.
LOOK_BACK_S = 9 * 366 * 86_400.0

_MICROSECOND = timedelta(microseconds=1)


class CatchUp(StrEnum):
    """What becomes of a slot that nobody attended to in time."""

    SKIP = "skip"  #: nothing; the next slot is fired when it comes. A firing happens at most once
    ONE = "one"  #: it is fired late, one firing for all that were missed. A firing happens at least once


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """What is written about an entry: the newest slot that a beat took, the newest that was sent."""

    taken: float
    sent: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Fire:
    """Send the message of this slot; ``is_taken`` if the slot need not be taken first."""

    slot: float
    is_taken: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Forgo:
    """Let this slot go, and say why."""

    slot: float
    reason: str


def decide(
    marks: Marks, newest: float, *, now: float, catch_up: CatchUp, late_s: float, is_attended: bool = False
) -> Fire | Forgo | None:
    """What to do about an entry whose newest slot is ``newest``; None when there is nothing to do.

    ``is_attended``: a beat was there in time and has been trying to send it since.
    """
    if newest > marks.taken:
        if catch_up is CatchUp.ONE or is_attended or now - newest <= late_s:
            return Fire(slot=newest)
        return Forgo(slot=newest, reason=f"nobody was there in time, it is {now - newest:.0f} s late")
    if marks.taken > marks.sent:
        # Whoever took it ended before it could say that the message is sent.
        if catch_up is CatchUp.ONE:
            return Fire(slot=marks.taken, is_taken=True)
        return Forgo(slot=marks.taken, reason="its beat ended while sending it, so it may have been sent or not")
    return None


class Slots:
    """The slots of one Celery schedule: interval, crontab, solar, or your own with a ``remaining_estimate``."""

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule
        self._interval_us = _interval_us(schedule)
        self._newest: float | None = None
        self._next = -math.inf

    def newest(self, now: float) -> float | None:
        """The newest slot that is not after ``now``; None if there was none in living memory."""
        if self._newest is None or not self._newest <= now < self._next:
            self._newest = self._find_newest(now)
            self._next = self._following(now if self._newest is None else self._newest)
        return self._newest

    def following(self, now: float) -> float:
        """The first slot after ``now``."""
        self.newest(now)
        return self._next

    def _find_newest(self, now: float) -> float | None:
        if self._interval_us:
            return _microseconds(now) // self._interval_us * self._interval_us / 1e6
        reach_s = 60.0
        while (slot := self._following(now - reach_s)) > now:
            reach_s *= 2
            if reach_s > LOOK_BACK_S:
                return None
        late = now
        while self._following(slot) <= now:
            middle = (slot + late) / 2
            found = self._following(middle)
            if found <= now:
                slot = found
            else:
                late = middle
        return slot

    def _following(self, moment: float) -> float:
        if self._interval_us:
            return (_microseconds(moment) // self._interval_us + 1) * self._interval_us / 1e6
        start = moment
        while (slot := self._asked(start)) <= moment:
            # In the hour that a time zone repeats Celery answers with the first pass, which is over. The second
            # has no slots, as nothing is to be fired twice; whole minutes find the end of it.
            start += 60.0
        return slot

    def _asked(self, moment: float) -> float:
        """Celery's own answer: the slot after ``moment``, were it ``moment`` now."""
        at = datetime.fromtimestamp(moment, UTC)
        schedule = copy.copy(self.schedule)
        schedule.app, schedule.nowfun = self.schedule.app, lambda: at
        remaining: timedelta = schedule.remaining_estimate(at)
        return (at + remaining).timestamp()


def _microseconds(moment: float) -> int:
    return round(moment * 1e6)


def _interval_us(schedule: Any) -> int:
    """The length of a plain interval in microseconds; 0 for any other schedule. Raises ValueError if it is not > 0."""
    if not isinstance(schedule, Interval) or type(schedule).remaining_estimate is not Interval.remaining_estimate:
        return 0
    interval_us: int = schedule.run_every // _MICROSECOND
    if interval_us <= 0:
        raise ValueError(f"an interval of {schedule.run_every} has no slots; give one above 0")
    return interval_us
