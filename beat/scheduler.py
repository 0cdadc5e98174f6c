"""LeaseScheduler: the Celery scheduler that any number of beats can share.

    celery -A workers.app beat -S beat.scheduler:LeaseScheduler

One beat leads, the others look every second whether they should. What was fired is in the database, so
there is no schedule file and a restarted beat repeats nothing. Every moment is the database's: the clock of
the beat's host only measures how long it sleeps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from celery.beat import ScheduleEntry, Scheduler, SchedulingError
from celery.schedules import crontab
from kombu.exceptions import OperationalError

from aos_workflow import wiring
from aos_workflow.clock import monotonic_s
from aos_workflow.errors import AosError, BadOption, StoreError, StoreUnavailable
from aos_workflow.membership import Membership
from beat.book import Book
from beat.lease import KIND, Lease, open_lease
from beat.schedule import Pulse
from beat.slots import LATE_S, CatchUp, Fire, Forgo, Marks, Slots, decide

log = logging.getLogger("aos_workflow.beat")

#: How often a beat looks whether it leads, and a slot that could not be sent is tried again, seconds.
LOOK_EVERY_S = 1.0
#: How long one attempt to connect to the broker may take, seconds.
CONNECT_TIMEOUT_S = 5.0
#: How often a message is sent before the slot is left to the next turn: a connection may be stale, a beat must move.
RETRY = {"max_retries": 1, "interval_start": 0.0, "interval_step": 0.0, "interval_max": 0.0}


class LeaseEntry(ScheduleEntry):  # type: ignore[misc]
    """An entry of ``beat_schedule``; ``catch_up`` is "skip" or "one", see slots.CatchUp."""

    def __init__(self, *args: Any, catch_up: str = CatchUp.SKIP, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if catch_up not in list(CatchUp):
            raise BadOption(
                f"beat_schedule[{self.name!r}] has catch_up={catch_up!r}",
                fix=f"give one of {', '.join(map(repr, map(str, CatchUp)))}",
            )
        self.catch_up = CatchUp(catch_up)


class LeaseScheduler(Scheduler):  # type: ignore[misc]
    """Fires each slot of each entry from one beat of many."""

    Entry = LeaseEntry
    max_interval: float = LOOK_EVERY_S

    def __init__(self, app: Any, *args: Any, lazy: bool = False, **kwargs: Any) -> None:
        self._runtime = _or_exit(_shared_runtime)
        self._lease: Lease | None = None
        self._leads: bool | None = None
        self._is_turning = False
        self._slots: dict[str, Slots] = {}
        self._attended: dict[str, float] = {}
        self._unconfirmed: dict[str, float] = {}
        self._broken: set[str] = set()
        _or_exit(lambda: super(LeaseScheduler, self).__init__(app, *args, lazy=lazy, **kwargs))
        if not lazy:
            if self._runtime.kind == "process":
                self._runtime.kind = KIND
            _or_exit(self._check_schema)
            # A member of its own, also where beat is a thread of a process that is a worker besides.
            self._member = Membership(
                self._runtime.fleet, kind=KIND, beat_every_s=self._runtime.settings.heartbeat_every_s
            )

    @property
    def info(self) -> str:
        """For the banner of ``celery beat``: where the beats meet."""
        backend = self._runtime.store.engine.url.render_as_string(hide_password=True)
        return f"    . lease -> {backend}"

    def tick(self, *_: Any, **__: Any) -> float:
        """One turn; returns after how many seconds the next is wanted."""
        self._is_turning = True
        try:
            return self._turn()
        except StoreError as error:
            self._leads = None
            log.warning("beat will try again: %s", error)
            return LOOK_EVERY_S
        finally:
            self._is_turning = False

    def close(self) -> None:
        """Say goodbye; the next beat leads at once. Doing it again changes nothing."""
        if self._is_turning:
            return  # a signal in the middle of a turn: Celery closes once more when the turn is unwound
        super().close()
        if self._lease is not None:
            self._lease.close()
            self._lease = None
        self._member.leave()

    # --- one turn --------------------------------------------------------------------------

    def _turn(self) -> float:
        self._member.join()
        if self._lease is None:
            self._lease = open_lease(self._runtime.store, self._runtime.fleet, self._member, name=self.app.main or "")
        if not self._is_leader(self._lease):
            return LOOK_EVERY_S
        book = Book(self._lease)
        marks, now = book.read(self.schedule)
        read_at = monotonic_s()
        wait_s = min(self.max_interval, LOOK_EVERY_S)
        may_send = True
        for name, entry in self.schedule.items():
            try:
                slots = self._slots_of(entry)
                newest, following = slots.newest(now), slots.following(now)
            except Exception as error:
                self._report_broken(name, error)
                continue
            wait_s = min(wait_s, following - now)
            if name not in marks:
                book.open(name, now if newest is None else newest)
            elif newest is not None:
                may_send = self._attend(book, entry, marks[name], newest, now, may_send=may_send)
        if not may_send:
            # The broker may be out of this host's reach only: let another beat try.
            self._lease.release()
            return LOOK_EVERY_S
        return max(0.0, wait_s - (monotonic_s() - read_at))

    def _is_leader(self, lease: Lease) -> bool:
        leads = lease.is_held()
        if leads is not self._leads:
            log.info("this beat leads" if leads else "another beat leads, this one waits")
            self._leads = leads
        return leads

    def _attend(
        self, book: Book, entry: LeaseEntry, marks: Marks, newest: float, now: float, *, may_send: bool
    ) -> bool:
        """Do what is to be done about one entry; False if the broker is away."""
        name = entry.name
        if self._unconfirmed.get(name) == marks.taken:
            book.confirm(name, marks.taken)
            marks = Marks(taken=marks.taken, sent=marks.taken)
        self._unconfirmed.pop(name, None)
        attended = self._attended.get(name)
        if attended is not None and (attended <= marks.sent or attended < newest):
            del self._attended[name]
            if attended > marks.sent:
                log.warning("%s: its slot %s was never sent, the broker was away", name, _iso(attended))
        answer = decide(
            marks,
            newest,
            now=now,
            catch_up=entry.catch_up,
            late_s=self._late_s(entry),
            is_attended=self._attended.get(name) == newest,
        )
        if isinstance(answer, Forgo):
            log.warning("%s: its slot %s is skipped: %s", name, _iso(answer.slot), answer.reason)
            book.forgo(name, answer.slot)
        elif isinstance(answer, Fire):
            return self._fire(book, entry, answer, marks, now, may_send=may_send)
        return may_send

    def _fire(self, book: Book, entry: LeaseEntry, fire: Fire, marks: Marks, now: float, *, may_send: bool) -> bool:
        """Take the slot, send its message, confirm it; False if the broker is away."""
        name, slot = entry.name, fire.slot
        self._attended[name] = slot
        if not may_send:
            return False
        if not fire.is_taken and not book.take(name, slot):
            log.debug("%s: another beat took the slot %s", name, _iso(slot))
            return True
        try:
            self._send(entry, slot, now)
        except OperationalError as error:
            log.warning("%s: the broker does not take the slot %s, it is tried again: %s", name, _iso(slot), error)
            if not fire.is_taken:
                book.give_back(name, slot, marks.taken)
            return False
        except Exception:
            # As with Celery's own scheduler an entry that cannot be sent is logged and waits for its next slot.
            log.exception("%s: the message of its slot %s cannot be made", name, _iso(slot))
        self._unconfirmed[name] = slot
        del self._attended[name]
        book.confirm(name, slot)
        del self._unconfirmed[name]
        return True

    def _send(self, entry: LeaseEntry, slot: float, now: float) -> None:
        """Publish an entry's message. Raises kombu's OperationalError when the broker is away."""
        options = {"task_id": f"{entry.name}@{_iso(slot)}", "retry_policy": RETRY, **entry.options}
        if isinstance(options.get("expires"), int | float):
            # Celery would count from this host's clock.
            options["expires"] = datetime.fromtimestamp(now + options["expires"], UTC)
        with self.app.producer_or_acquire() as producer:
            producer.connection.ensure_connection(max_retries=1, timeout=CONNECT_TIMEOUT_S)
            if self._has_enough_waiting(producer.connection, entry):
                log.debug("%s: enough messages wait in its queue", entry.name)
                return
            log.log(
                logging.DEBUG if isinstance(entry.schedule, Pulse) else logging.INFO,
                "%s: sending %s for the slot %s", entry.name, entry.task, _iso(slot),
            )  # fmt: skip
            message = self.Entry(**{**vars(entry), "options": options})
            try:
                self.apply_async(message, producer=producer, advance=False)
            except SchedulingError as error:
                # Celery wraps whatever happened; what matters is whether it was the broker.
                raise error.__context__ or error from None

    def _has_enough_waiting(self, connection: Any, entry: LeaseEntry) -> bool:
        if not isinstance(entry.schedule, Pulse):
            return False
        queue = self.app.amqp.router.route(dict(entry.options), entry.task).get("queue")
        try:
            with connection.channel() as channel:
                waiting: int = channel.queue_declare(queue=queue.name, passive=True).message_count
        except Exception:  # each transport has its own "no such queue"; a broker that is away shows when sending
            return False
        return waiting >= entry.schedule.most_waiting

    # --- what an entry is ------------------------------------------------------------------

    def _slots_of(self, entry: LeaseEntry) -> Slots:
        known = self._slots.get(entry.name)
        if known is None or known.schedule is not entry.schedule:
            known = self._slots[entry.name] = Slots(entry.schedule)
        return known

    def _late_s(self, entry: LeaseEntry) -> float:
        deadline_s = self.app.conf.beat_cron_starting_deadline
        return deadline_s if deadline_s is not None and isinstance(entry.schedule, crontab) else LATE_S

    def _report_broken(self, name: str, error: Exception) -> None:
        if name not in self._broken:
            self._broken.add(name)
            log.error("%s will never be due: its schedule cannot be understood: %s", name, error)

    def _check_schema(self) -> None:
        try:
            self._runtime.store.check_schema()
        except StoreUnavailable as error:
            log.warning("beat waits for the database: %s", error)


def _shared_runtime() -> Any:
    runtime = wiring.runtime()
    runtime.require_shared_store()
    return runtime


def _or_exit(call: Callable[[], Any]) -> Any:
    """The answer of ``call``; an error of ours ends the process with one line, as ``celery`` shows no others."""
    try:
        return call()
    except AosError as error:
        raise SystemExit(f"aos: {error}") from None


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
