"""LeaseScheduler in this process: a real SQLite database with a clock that is moved, and Celery's memory broker."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from celery import Celery
from celery.beat import BeatLazyFunc
from celery.schedules import crontab
from sqlalchemy import select

from aos_workflow import WorkflowTask
from aos_workflow.assembly import Runtime, runtime_as
from aos_workflow.clock import ManualClock
from aos_workflow.schema import ticks
from aos_workflow.settings import Settings
from aos_workflow.upgrade import upgrade
from beat import schedule as schedule_of_beat
from beat.schedule import Pulse
from beat.scheduler import LeaseScheduler
from beat.slots import LATE_S

START = datetime.fromisoformat("2026-11-23T12:00:00+00:00").timestamp()
NOWHERE = "redis://127.0.0.1:1/0"  # nothing listens there


@dataclass
class Site:
    """A database, a broker, and beats that share them."""

    parts: Runtime
    clock: ManualClock
    app: Celery
    beats: list[LeaseScheduler] = field(default_factory=list)

    def beat(self, **entries: dict[str, Any]) -> LeaseScheduler:
        """A beat with these entries; it has had its first turn."""
        self.app.conf.beat_schedule = {name: {"task": "job", **entry} for name, entry in entries.items()}
        with runtime_as(self.parts):
            beat = LeaseScheduler(self.app)
        self.beats.append(beat)
        beat.tick()
        return beat

    def move_to(self, moment: float) -> None:
        self.clock.move(moment - self.clock.now())

    def broker(self, url: str) -> None:
        self.app.conf.broker_url = url
        self.app._after_fork()  # forget the connections

    def sent(self) -> list[Any]:
        """Take the messages that wait in the queue."""
        with self.app.connection_for_read() as connection:
            queue = connection.SimpleQueue(self.app.conf.task_default_queue)
            messages = []
            with contextlib.suppress(Empty):
                while True:
                    messages.append(queue.get_nowait())
            return messages

    def sent_slots(self) -> list[str]:
        return [message.headers["id"] for message in self.sent()]

    def marks(self) -> dict[str, float]:
        with self.parts.store.engine.begin() as connection:
            return {row.name: row.last_at for row in connection.execute(select(ticks))}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    upgrade(url)
    clock = ManualClock(START + 10)
    parts = Runtime(Settings(database_url=url, worker_ttl_s=1e12), clock=clock)
    app = Celery("beaten", broker="memory://", task_cls=WorkflowTask, set_as_current=False)
    app.conf.task_default_queue = f"q-{secrets.token_hex(4)}"
    site = Site(parts, clock, app)
    yield site
    for beat in site.beats:
        beat.close()
    parts.close()


def minutely(**options: Any) -> dict[str, Any]:
    return {"schedule": timedelta(minutes=1), **options}


def test_each_slot_is_sent_once(site: Site) -> None:
    """A slot's message is sent when its time has come, and named after the entry and the slot."""
    beat = site.beat(pulse=minutely())
    for second in (50, 60, 61, 119, 120):
        site.move_to(START + second)
        beat.tick()
    assert site.sent_slots() == ["pulse@2026-11-23T12:01:00.000Z", "pulse@2026-11-23T12:02:00.000Z"]


def test_a_turn_says_when_the_next_is_wanted(site: Site) -> None:
    """A beat sleeps until the next slot, but never longer than it takes to look who leads."""
    beat = site.beat(pulse=minutely())
    assert 0.25 < beat.tick() <= 1.0
    site.move_to(START + 59.75)
    assert beat.tick() <= 0.25


def test_a_new_entry_starts_with_its_next_slot(site: Site) -> None:
    """The first beat ever does not fire what was before it, however often it is started."""
    for _ in range(3):
        site.beat(hourly={"schedule": crontab(minute=0), "catch_up": "one"}).close()
    assert site.sent_slots() == []
    site.move_to(START + 3600)
    site.beat(hourly={"schedule": crontab(minute=0), "catch_up": "one"})
    assert site.sent_slots() == ["hourly@2026-11-23T13:00:00.000Z"]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ({}, []),
        ({"catch_up": "skip"}, []),
        ({"catch_up": "one"}, ["job@2026-11-23T15:00:00.000Z"]),
    ],
)
def test_missed_slots_are_skipped_or_fired_as_one(site: Site, catch_up: dict[str, str], expected: list[str]) -> None:
    """After a downtime of three periods an entry fires nothing (the default), or once if it says so."""
    hourly = {"schedule": timedelta(hours=1), **catch_up}
    site.beat(job=hourly).close()
    site.move_to(START + 3 * 3600 + LATE_S + 1)
    beat = site.beat(job=hourly)
    beat.tick()
    assert site.sent_slots() == expected
    site.move_to(START + 4 * 3600)
    beat.tick()
    assert site.sent_slots() == ["job@2026-11-23T16:00:00.000Z"]


def test_a_failover_misses_nothing(site: Site) -> None:
    """A slot that fell between two leaders is fired by the next one, if it comes within the grace."""
    site.beat(hourly={"schedule": timedelta(hours=1)}).close()
    site.move_to(START + 3600 + LATE_S)
    site.beat(hourly={"schedule": timedelta(hours=1)})
    assert site.sent_slots() == ["hourly@2026-11-23T13:00:00.000Z"]


def test_celerys_starting_deadline_is_the_grace_of_crontabs(site: Site) -> None:
    """beat_cron_starting_deadline says how late a crontab entry may be fired, as with Celery's own scheduler."""
    site.app.conf.beat_cron_starting_deadline = 1800
    both = {"cron": {"schedule": crontab(minute=0)}, "plain": {"schedule": timedelta(hours=1)}}
    site.beat(**both).close()
    site.move_to(START + 3600 + 1700)
    site.beat(**both)
    assert site.sent_slots() == ["cron@2026-11-23T13:00:00.000Z"]


@pytest.mark.parametrize(("catch_up", "resent"), [("skip", []), ("one", ["job@2026-11-23T12:00:00.000Z"])])
def test_a_slot_in_doubt_is_settled_as_stated(site: Site, catch_up: str, resent: list[str]) -> None:
    """A beat killed between taking and confirming: "skip" never sends twice, "one" never sends not at all."""
    hourly = {"schedule": timedelta(hours=1), "catch_up": catch_up}
    site.beat(job=hourly).close()
    with site.parts.store.engine.begin() as connection:
        connection.execute(ticks.update().where(ticks.c.name == "beat:job:sent").values(last_at=START - 3600))
    beat = site.beat(job=hourly)
    beat.tick()
    assert site.sent_slots() == resent
    assert site.marks()["beat:job:sent"] == START


def test_a_broker_that_is_away_delays_a_slot(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A slot the broker does not take is tried again until it does, also beyond the grace, and sent once."""
    beat = site.beat(hourly={"schedule": timedelta(hours=1)})
    site.broker(NOWHERE)
    site.move_to(START + 3600)
    with caplog.at_level(logging.WARNING):
        beat.tick()
    assert "it is tried again" in caplog.text
    assert site.marks()["beat:hourly:last"] == START, "a slot that was not sent is not taken"
    site.broker("memory://")
    site.move_to(START + 3600 + 10 * LATE_S)
    beat.tick()
    beat.tick()
    assert site.sent_slots() == ["hourly@2026-11-23T13:00:00.000Z"]


def test_a_slot_that_was_never_sent_is_reported(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """When the broker is away until the next slot the former is lost, and the log says so."""
    beat = site.beat(hourly={"schedule": timedelta(hours=1)})
    site.broker(NOWHERE)
    site.move_to(START + 3600)
    beat.tick()
    site.broker("memory://")
    site.move_to(START + 7200)
    with caplog.at_level(logging.WARNING):
        beat.tick()
    assert site.sent_slots() == ["hourly@2026-11-23T14:00:00.000Z"]
    assert "hourly: its slot 2026-11-23T13:00:00.000Z was never sent" in caplog.text


def test_two_beats_send_each_slot_once(site: Site) -> None:
    """One leads; when it leaves the other takes over, and no slot is sent twice."""
    first, second = (site.beat(pulse=minutely()) for _ in range(2))
    for minute in (1, 2):
        site.move_to(START + 60 * minute)
        second.tick()
        first.tick()
    first.close()
    site.move_to(START + 180)
    second.tick()
    assert site.sent_slots() == [f"pulse@2026-11-23T12:0{minute}:00.000Z" for minute in (1, 2, 3)]


def test_a_message_that_cannot_be_made_stops_nobody(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """An entry with arguments that are no JSON, or that fail, is logged once per slot; the others are sent."""

    def fail() -> None:
        raise OSError("no such file")

    beat = site.beat(
        unserialisable=minutely(args=(object(),)), failing=minutely(args=(BeatLazyFunc(fail),)), good=minutely()
    )  # fmt: skip
    site.move_to(START + 60)
    with caplog.at_level(logging.ERROR):
        beat.tick()
        beat.tick()
    assert site.sent_slots() == ["good@2026-11-23T12:01:00.000Z"]
    assert caplog.text.count("its slot 2026-11-23T12:01:00.000Z cannot be made") == 2


def test_a_schedule_that_cannot_be_understood_stops_nobody(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """An entry without slots is reported once; the others are sent."""
    with caplog.at_level(logging.ERROR):
        beat = site.beat(never={"schedule": timedelta(0)}, good=minutely())
        site.move_to(START + 60)
        beat.tick()
    assert site.sent_slots() == ["good@2026-11-23T12:01:00.000Z"]
    assert caplog.text.count("never will never be due") == 1


def test_an_entrys_own_options_are_kept(site: Site) -> None:
    """Arguments, queue and options reach the message as with Celery's own scheduler, lazily computed ones too."""
    options = {"task_id": "mine", "priority": 3, "headers": {"colour": "red"}}
    beat = site.beat(pulse=minutely(args=(1, BeatLazyFunc(lambda: 2)), kwargs={"three": 3}, options=options))
    site.move_to(START + 60)
    beat.tick()
    (message,) = site.sent()
    assert message.payload[:2] == [[1, 2], {"three": 3}]
    assert message.headers["id"] == "mine"
    assert message.headers["colour"] == "red"
    assert message.properties["priority"] == 3


def test_expiry_counts_in_the_databases_time(site: Site) -> None:
    """A message expires by the clock that decides when it is due, not by that of beat's host."""
    beat = site.beat(pulse=minutely(options={"expires": 30}))
    site.move_to(START + 61)
    beat.tick()
    (message,) = site.sent()
    assert datetime.fromisoformat(message.headers["expires"]).timestamp() == START + 61 + 30


def test_a_pulse_does_not_pile_up(site: Site) -> None:
    """With no worker there, a queue holds only so many pulses; other entries are sent regardless."""
    beat = site.beat(pulse={"schedule": Pulse(timedelta(seconds=1))}, other={"schedule": timedelta(seconds=1)})
    for second in range(11, 11 + 2 * Pulse.most_waiting):
        site.move_to(START + second)
        beat.tick()
    names = [slot.partition("@")[0] for slot in site.sent_slots()]
    assert names.count("other") == 2 * Pulse.most_waiting
    assert names.count("pulse") <= Pulse.most_waiting


def test_an_unknown_way_to_catch_up_ends_beat(site: Site) -> None:
    """A misspelt catch_up is one line that names the entry and the choices."""
    with pytest.raises(SystemExit, match=r"aos: beat_schedule\['daily'\] has catch_up='all'.*'skip', 'one'"):
        site.beat(daily={"schedule": crontab(), "catch_up": "all"})


def test_beat_does_not_start_where_it_cannot_work(tmp_path: Path) -> None:
    """Without a database that beats share, or with another schema, beat ends with a line that says what to do."""
    for url, what_to_do in (("", "AOS_DATABASE_URL"), (f"sqlite:///{tmp_path / 'empty.db'}", "aos db upgrade")):
        with runtime_as(Runtime(Settings(database_url=url))), pytest.raises(SystemExit, match=f"aos: .*{what_to_do}"):
            LeaseScheduler(Celery("nowhere", set_as_current=False))


def test_the_schedule_is_installed_beside_the_apps_own(site: Site) -> None:
    """install() adds our entries and our scheduler, and keeps what the app has chosen itself."""
    site.app.conf.beat_schedule = {"mine": {"task": "job", "schedule": 1.0}}
    with runtime_as(site.parts):
        schedule_of_beat.install(site.app)
    assert set(site.app.conf.beat_schedule) == {"mine", "aos-sweep"}
    assert site.app.conf.beat_scheduler == "beat.scheduler:LeaseScheduler"
    chosen = {"task": "aos.sweep", "schedule": 60.0}
    site.app.conf.update(beat_schedule={"aos-sweep": chosen}, beat_scheduler="django:Scheduler")
    with runtime_as(site.parts):
        schedule_of_beat.install(site.app)
    assert site.app.conf.beat_schedule == {"aos-sweep": chosen}
    assert site.app.conf.beat_scheduler == "django:Scheduler"


def test_the_sweeps_tick_expires_with_its_interval(site: Site) -> None:
    """aos-sweep sends aos.sweep every interval; a tick that was not taken by the next one is void."""
    with runtime_as(site.parts):
        schedule_of_beat.install(site.app)
        beat = LeaseScheduler(site.app)
    site.beats.append(beat)
    beat.tick()
    site.clock.move(1)
    beat.tick()
    (message,) = site.sent()
    assert message.headers["task"] == "aos.sweep"
    assert message.headers["ignore_result"] is True
    assert datetime.fromisoformat(message.headers["expires"]).timestamp() == site.clock.now() + 1


def test_beat_is_a_member_of_the_fleet(site: Site) -> None:
    """A beat is seen alive under the kind beat until it says goodbye."""
    beat = site.beat(pulse=minutely())
    assert [row["kind"] for row in site.parts.fleet.alive()] == ["beat"]
    beat.close()
    beat.close()
    assert site.parts.fleet.alive() == []
