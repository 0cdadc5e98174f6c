"""Real beats, two at a time, killed and restarted, on a real database and a real broker.

Nobody takes the messages from the queue: what is in it is what was fired, each named ``<entry>@<slot>``.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, func, select, text

from aos_workflow.database import open_database
from aos_workflow.embedded import start_valkey
from aos_workflow.embedded.process import Account, Process
from aos_workflow.schema import ticks, workers
from aos_workflow.upgrade import upgrade
from tests.stack import Servers, Stack, wait_until

pytestmark = pytest.mark.services

APP = "tests.integration.beat_app"
ROOT = Path(__file__).resolve().parents[2]
#: An interval whose slots are years apart, so none comes while a test runs.
AGE_S = 3650 * 86_400.0
AGE = {"every": AGE_S}
QUICK = {"every": 0.5}
#: The longest gap that a failover may leave in a schedule, by the slots themselves.
FAILOVER_S = 15.0


class Beat:
    """One ``celery beat`` in a process of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._log = folder / "beat.log"
        command = [sys.executable, "-m", "celery", "-A", APP, "--workdir", str(folder), "beat"]
        self._process = Process(
            [*command, "-S", "beat.scheduler:LeaseScheduler", "--loglevel", "INFO"],
            log=self._log,
            signum=signal.SIGKILL,
            account=Account(),
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
        )
        self.pid = self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def has_ended(self) -> bool:
        return self._process.done.is_set()

    def knows_who_leads(self) -> bool:
        return "beat leads" in self.log or self.has_ended

    @property
    def leads(self) -> bool:
        return self.log.rpartition("beat leads")[0].endswith("this ")

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> int | None:
        os.kill(self.pid, signal.SIGTERM)
        self._process.done.wait(30)
        return self._process.returncode

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)


class House:
    """A database, a queue and a schedule of one test's own, and the beats that keep it."""

    def __init__(self, servers: Servers, variables: Mapping[str, str], broker_url: str) -> None:
        self._servers = servers
        self.queue = f"q-{secrets.token_hex(4)}"
        self.name = f"app-{secrets.token_hex(4)}"
        self.broker_url = broker_url
        self.variables = {**variables, "BEAT_APP": self.name, "BEAT_QUEUE": self.queue}
        self.database: Engine = open_database(variables["AOS_DATABASE_URL"])
        self.beats: list[Beat] = []

    def beat(self, entries: Mapping[str, Mapping[str, Any]], **variables: str) -> Beat:
        """Start a beat, and wait until it knows whether it leads."""
        return self.start(1, entries, **variables)[0]

    def start(self, count: int, entries: Mapping[str, Mapping[str, Any]], **variables: str) -> list[Beat]:
        """Start beats at once, and wait until each knows whether it leads."""
        environment = {**self.variables, "BEAT_ENTRIES": json.dumps(entries), **variables}
        beats = [Beat(self._servers.folder("beat"), environment) for _ in range(count)]
        self.beats += beats
        for beat in beats:
            wait_until(beat.knows_who_leads, what="a beat knows who leads")
            assert not beat.has_ended, beat.log
        return beats

    def leader(self) -> Beat:
        found: list[Beat] = []

        def is_one() -> bool:
            found[:] = [beat for beat in self.beats if beat.leads]
            return len(found) == 1

        wait_until(is_one, what="exactly one beat leads")
        return found[0]

    def fired(self) -> list[str]:
        """The ids of the messages in the queue, oldest first."""
        with redis.Redis.from_url(self.broker_url) as client:
            messages = client.lrange(self.queue, 0, -1)
            return [json.loads(message)["headers"]["id"] for message in reversed(messages)]

    def slots(self, entry: str) -> list[float]:
        """The slots of an entry that were fired, in order."""
        split = (message.split("@") for message in self.fired())
        return [datetime.fromisoformat(slot).timestamp() for name, slot in split if name == entry]

    def wait_for_more(self, entry: str, count: int) -> list[float]:
        """Wait until that many further slots of an entry are fired; returns all."""
        wanted = len(self.slots(entry)) + count
        wait_until(lambda: len(self.slots(entry)) >= wanted, what=f"{wanted} slots of {entry} are fired")
        return self.slots(entry)

    def now(self) -> float:
        """The database's time."""
        with self.database.connect() as connection:
            return float(connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())

    def mark(self, entry: str, *, taken: float, sent: float) -> None:
        """Write what an earlier beat left behind."""
        rows = [
            {"name": f"beat:{entry}:last", "last_at": taken},
            {"name": f"beat:{entry}:sent", "last_at": sent},
        ]
        with self.database.begin() as connection:
            connection.execute(ticks.insert(), rows)

    def marks(self, entry: str) -> tuple[float, float]:
        with self.database.begin() as connection:
            written = {row.name: row.last_at for row in connection.execute(select(ticks))}
        return written[f"beat:{entry}:last"], written[f"beat:{entry}:sent"]

    def close(self) -> None:
        for beat in self.beats:
            beat.kill()
        self.database.dispose()


@pytest.fixture
def house(servers: Servers, stack: Stack) -> Iterator[House]:
    variables = {**stack.environment(APP), "AOS_DATABASE_URL": servers.database()}
    house = House(servers, variables, stack.redis_url)
    yield house
    house.close()


def in_slots(slots: list[float], every_s: float) -> list[int]:
    """Slots as consecutive numbers."""
    return [round(slot / every_s) for slot in slots]


def test_two_beats_fire_each_slot_once(house: House) -> None:
    """Of two beats one leads, and every slot since the first is fired once and in order."""
    house.start(2, {"quick": QUICK, "slow": {"every": 1.0}})
    house.leader()
    for entry, every_s in (("slow", 1.0), ("quick", 0.5)):
        numbers = in_slots(house.wait_for_more(entry, 3), every_s)
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_the_other_beat_takes_over_from_a_killed_one(house: House, servers: Servers, kind: str, tmp_path: Path) -> None:
    """After a SIGKILL of the leader the other fires within seconds, and no slot is fired twice."""
    if kind == "sqlite":
        house = House(servers, sqlite_environment(house, servers), house.broker_url)
    house.start(2, {"quick": QUICK})
    leader = house.leader()
    house.wait_for_more("quick", 2)
    leader.kill()
    house.beats.remove(leader)
    house.leader()
    slots = house.wait_for_more("quick", 3)
    assert len(set(slots)) == len(slots), "a slot was fired twice"
    assert slots == sorted(slots)
    assert max(later - earlier for earlier, later in itertools.pairwise(slots)) < FAILOVER_S
    house.close()


def sqlite_environment(house: House, servers: Servers) -> dict[str, str]:
    url = f"sqlite:///{servers.folder('sqlite') / 'runs.db'}"
    upgrade(url)
    return {**house.variables, "AOS_DATABASE_URL": url}


@pytest.mark.chaos
def test_a_frozen_leader_loses_the_lead(house: House) -> None:
    """The server ends the session of a leader that has fallen silent, so the other takes over."""
    house.start(2, {"quick": QUICK})
    leader = house.leader()
    leader.freeze()
    house.beats.remove(leader)
    try:
        house.leader()
        slots = house.wait_for_more("quick", 2)
        os.kill(leader.pid, signal.SIGCONT)
        wait_until(lambda: "another beat leads" in leader.log, what="the frozen beat sees that it lost the lead")
        assert len(set(slots)) == len(slots)
        slots = house.slots("quick")
        assert len(set(slots)) == len(slots), "a slot was fired twice"
    finally:
        leader.kill()


@pytest.mark.chaos
def test_a_restarted_beat_repeats_nothing(house: House) -> None:
    """What was fired before a SIGKILL is not fired again, and what was missed is skipped or fired as one."""
    entries: dict[str, dict[str, Any]] = {"one": {**AGE, "catch_up": "one"}, "skip": AGE, "quick": QUICK}
    for entry in ("one", "skip"):
        house.mark(entry, taken=AGE_S, sent=AGE_S)  # at least two slots are missed since
    newest = house.now() // AGE_S * AGE_S
    for _ in range(2):
        beat = house.beat(entries)
        house.wait_for_more("quick", 1)
        wait_until(lambda: house.marks("one") == (newest, newest), what="the firing is confirmed")
        beat.kill()
        house.beats.remove(beat)
    assert house.slots("one") == [newest]
    assert house.slots("skip") == []
    assert house.marks("skip") == (newest, newest)
    quick = house.slots("quick")
    assert len(set(quick)) == len(quick)


def test_the_clock_of_beats_host_does_not_matter(house: House) -> None:
    """A beat whose host is a day ahead fires the same slots, at the database's time, and neither doubles them."""
    entries = {"quick": {**QUICK, "options": {"expires": 60}}}
    before = house.now()
    ahead = house.beat(entries, BEAT_CLOCK_S="86400")
    house.wait_for_more("quick", 2)
    ahead.kill()
    house.beats.remove(ahead)
    house.beat(entries, BEAT_CLOCK_S="-3600")
    slots = house.wait_for_more("quick", 2)
    assert len(set(slots)) == len(slots)
    assert slots == sorted(slots)
    assert before <= slots[0]
    assert slots[-1] <= house.now()
    with redis.Redis.from_url(house.broker_url) as client:
        for message in client.lrange(house.queue, 0, -1):
            expires = datetime.fromisoformat(json.loads(message)["headers"]["expires"]).timestamp()
            assert before < expires < house.now() + 60


def test_a_slot_waits_for_the_broker(house: House, servers: Servers) -> None:
    """A slot that the broker could not take is sent, once, when the broker is back."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    house.mark("one", taken=AGE_S, sent=AGE_S)
    house.broker_url = f"redis://127.0.0.1:{port}/0"
    beat = house.beat({"one": {**AGE, "catch_up": "one"}}, CELERY_BROKER_URL=house.broker_url)
    wait_until(lambda: beat.log.count("it is tried again") >= 2, what="the slot was tried twice")
    with start_valkey(servers.folder("late"), port=port):
        wait_until(lambda: house.marks("one")[1] > AGE_S, what="the slot is sent")
        assert house.slots("one") == [house.now() // AGE_S * AGE_S]


def test_a_beat_that_cannot_reach_the_broker_steps_aside(house: House) -> None:
    """When only the leader's way to the broker is cut, the other beat sends the slot."""
    house.mark("one", taken=AGE_S, sent=AGE_S)
    entries = {"one": {**AGE, "catch_up": "one"}}
    cut_off = house.beat(entries, CELERY_BROKER_URL="redis://127.0.0.1:1/0")
    wait_until(lambda: "it is tried again" in cut_off.log, what="the slot was tried in vain")
    house.beat(entries)
    wait_until(lambda: house.slots("one"), what="the slot is sent")
    assert len(house.slots("one")) == 1


def test_a_beat_says_goodbye(house: House) -> None:
    """A beat is in the fleet while it lives; after SIGTERM it has left, and the other leads."""
    alive = select(workers.c.pid).where(workers.c.kind == "beat", workers.c.stopped_at.is_(None))

    def pids() -> set[int]:
        with house.database.connect() as connection:
            return {int(pid) for pid in connection.scalars(alive)} & {beat.pid for beat in beats}

    beats = house.start(2, {"quick": QUICK})
    assert pids() == {beat.pid for beat in beats}
    leader = house.leader()
    assert leader.terminate() == 0
    house.beats.remove(leader)
    assert pids() == {beat.pid for beat in house.beats}
    house.leader()


@pytest.mark.chaos
def test_beats_outlive_a_lost_connection(house: House) -> None:
    """When the server ends every beat's connections, one of them leads again and fires on."""
    house.start(2, {"quick": QUICK})
    house.leader()
    house.wait_for_more("quick", 1)
    with house.database.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'aos beat%'"
            )
        )
    slots = house.wait_for_more("quick", 3)
    house.leader()
    assert len(set(slots)) == len(slots)


@pytest.mark.worker
def test_the_tick_makes_a_worker_sweep(house: House, stack: Stack) -> None:
    """Our own schedule makes a worker perform aos.sweep, again and again."""
    worker = stack.start_worker(APP, concurrency=1, env=house.variables)
    house.beat({}, BEAT_SWEEPS="1")
    wait_until(
        lambda: worker.log.count("Task aos.sweep[") >= 2 and "succeeded" in worker.log, what="the worker swept"
    )  # fmt: skip
    worker.kill()
