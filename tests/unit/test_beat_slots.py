"""Which moments a schedule asks for, and what becomes of the newest one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedule
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beat.slots import LATE_S, CatchUp, Fire, Forgo, Marks, Slots, decide

NOW = datetime(2026, 11, 23, 17, 58, 37, 250_000, tzinfo=UTC).timestamp()
MOMENTS = st.floats(datetime(2000, 1, 1, tzinfo=UTC).timestamp(), datetime(2040, 1, 1, tzinfo=UTC).timestamp()).map(
    lambda moment: round(moment, 6)
)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu")


def every(seconds: float) -> Slots:
    return Slots(schedule(timedelta(seconds=seconds)))


def cron(zone: str = "UTC", **fields: Any) -> Slots:
    app = Celery("zone", set_as_current=False)
    app.conf.timezone = zone
    return Slots(crontab(**fields, app=app))


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@given(now=MOMENTS, interval_us=st.integers(1_000, 10**13))
@example(now=1_700_000_000.0, interval_us=500_000)
def test_an_intervals_slots_are_its_multiples_since_the_epoch(now: float, interval_us: int) -> None:
    """The newest slot is the last multiple of the interval that is not after now, the next one the first after."""
    slots = every(interval_us / 1e6)
    newest, following = slots.newest(now), slots.following(now)
    assert newest is not None
    assert newest <= now < following
    assert round(newest * 1e6) % interval_us == 0
    assert round((following - newest) * 1e6) == interval_us


@settings(max_examples=60)
@given(
    now=MOMENTS,
    zone=st.sampled_from(ZONES),
    minute=st.sampled_from(["*", "0", "30", "*/20", "7,51"]),
    hour=st.sampled_from(["*", "0", "2", "3", "*/6"]),
    day_of_week=st.sampled_from(["*", "sun", "1-5"]),
    month_of_year=st.sampled_from(["*", "2", "10"]),
)
@example(now=at("2026-10-25T02:10:00+01:00"), zone="Europe/Berlin", minute="30", hour="2", day_of_week="*",
         month_of_year="*")  # fmt: skip
@example(now=at("2026-03-29T03:10:00+02:00"), zone="Europe/Berlin", minute="30", hour="2", day_of_week="*",
         month_of_year="*")  # fmt: skip
def test_a_crontab_has_no_slot_between_its_newest_and_its_next(
    now: float, zone: str, minute: str, hour: str, day_of_week: str, month_of_year: str
) -> None:
    """Newest and following enclose now, are whole minutes, and are the same seen from anywhere between them."""
    fields = {"minute": minute, "hour": hour, "day_of_week": day_of_week, "month_of_year": month_of_year}
    slots = cron(zone, **fields)
    newest, following = slots.newest(now), slots.following(now)
    assert newest is not None
    assert newest <= now < following
    assert newest % 60 == following % 60 == 0
    for moment in (newest, (newest + following) / 2, following - 0.001):
        fresh = cron(zone, **fields)
        assert (fresh.newest(moment), fresh.following(moment)) == (newest, following)
    assert cron(zone, **fields).newest(following) == following


def test_a_crontab_fires_at_its_local_time() -> None:
    """The slots of a crontab are the minutes it names, in the app's time zone."""
    slots = cron("Europe/Berlin", hour=4, minute=15)
    assert slots.newest(at("2026-11-23T12:00:00+00:00")) == at("2026-11-23T03:15:00+00:00")
    assert slots.following(at("2026-11-23T12:00:00+00:00")) == at("2026-11-24T03:15:00+00:00")


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("season", ["2026-03-01", "2026-09-20"])
def test_a_daily_job_is_daily_when_the_clocks_change(zone: str, season: str) -> None:
    """A crontab for 02:30 has one slot on every local day, also where that time is missing or comes twice."""
    slots = cron(zone, hour=2, minute=30)
    moment, days = at(f"{season}T12:00:00+00:00"), []
    for _ in range(50):
        moment = slots.following(moment)
        days.append(datetime.fromtimestamp(moment, ZoneInfo(zone)).date())
    assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(days))


def test_the_rarest_crontab_is_found() -> None:
    """The newest slot may be years back."""
    slots = cron(minute=0, hour=0, day_of_month=29, month_of_year=2)
    assert slots.newest(at("2103-06-01T00:00:00+00:00")) == at("2096-02-29T00:00:00+00:00")
    assert slots.following(at("2103-06-01T00:00:00+00:00")) == at("2104-02-29T00:00:00+00:00")


class Doubling(BaseSchedule):  # type: ignore[misc]
    """Somebody's own schedule: at the powers of two."""

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        power = 1
        while power <= last_run_at.timestamp():
            power *= 2
        return timedelta(seconds=power - self.now().timestamp())


def test_a_schedule_of_ones_own_has_slots() -> None:
    """Any Celery schedule with a remaining_estimate has slots; one that never was due has no newest."""
    own = Doubling(app=Celery("own", set_as_current=False))
    assert Slots(own).newest(2.0**31 + 1) == 2.0**31
    assert Slots(own).newest(NOW) is None, "2**30 is longer ago than anyone looks"
    assert Slots(own).following(NOW) == 2.0**31


@pytest.mark.parametrize("interval", [timedelta(0), timedelta(seconds=-1)])
def test_an_interval_that_never_passes_is_refused(interval: timedelta) -> None:
    """Zero and negative intervals have no slots."""
    with pytest.raises(ValueError, match="above 0"):
        Slots(schedule(interval))


SKIP, ONE = CatchUp.SKIP, CatchUp.ONE


@pytest.mark.parametrize("catch_up", list(CatchUp))
@pytest.mark.parametrize(("late_s", "fires"), [(0.0, True), (LATE_S, True), (LATE_S + 1, False)])
def test_a_slot_is_fired_in_time_and_missed_when_late(catch_up: CatchUp, late_s: float, fires: bool) -> None:
    """A new slot is fired within the grace; later only if the entry catches up."""
    slot = 1_000_000.0
    answer = decide(Marks(taken=0.0, sent=0.0), slot, now=slot + late_s, catch_up=catch_up, late_s=LATE_S)
    assert isinstance(answer, Fire if fires or catch_up is ONE else Forgo)
    assert answer.slot == slot


def test_a_slot_that_could_not_be_sent_stays_due() -> None:
    """The beat that tried in time goes on trying, whatever the entry does about missed slots."""
    marks = Marks(taken=0.0, sent=0.0)
    assert decide(marks, 100.0, now=100.0 + 9 * LATE_S, catch_up=SKIP, late_s=LATE_S, is_attended=True) == Fire(
        slot=100.0
    )


@pytest.mark.parametrize("catch_up", list(CatchUp))
def test_a_slot_is_fired_once(catch_up: CatchUp) -> None:
    """Nothing is to be done until the next slot; nor when the database's clock was set back."""
    marks = Marks(taken=100.0, sent=100.0)
    assert decide(marks, 100.0, now=100.5, catch_up=catch_up, late_s=LATE_S) is None
    assert decide(marks, 40.0, now=41.0, catch_up=catch_up, late_s=LATE_S) is None


def test_a_slot_in_doubt_is_sent_again_only_to_catch_up() -> None:
    """A beat that died between taking and confirming leaves a doubt: at most once or at least once, as stated."""
    doubt = Marks(taken=100.0, sent=90.0)
    again = decide(doubt, 100.0, now=101.0, catch_up=ONE, late_s=LATE_S)
    let_go = decide(doubt, 100.0, now=101.0, catch_up=SKIP, late_s=LATE_S)
    assert again == Fire(slot=100.0, is_taken=True)
    assert isinstance(let_go, Forgo)
    assert let_go.slot == 100.0
    assert decide(doubt, 110.0, now=110.0, catch_up=ONE, late_s=LATE_S) == Fire(slot=110.0)


@given(
    missed=st.integers(1, 50),
    every_s=st.integers(60, 10_000),
    into_s=st.integers(0, 59),
    catch_up=st.sampled_from(CatchUp),
)
def test_downtime_never_fires_more_than_one(missed: int, every_s: int, into_s: int, catch_up: CatchUp) -> None:
    """However many slots passed, one decision settles them all."""
    slots = every(every_s)
    last = 1_700_000_000 // every_s * every_s * 1.0
    now = last + missed * every_s + into_s
    marks, answers = Marks(taken=last, sent=last), 0
    while answer := decide(marks, slots.newest(now) or 0.0, now=now, catch_up=catch_up, late_s=LATE_S):
        answers += 1
        marks = Marks(taken=answer.slot, sent=answer.slot)
    assert answers == 1
