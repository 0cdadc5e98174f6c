"""Book: which slot of which entry was taken and which was sent, in the ``ticks`` table.

    beat:<entry>:last    the newest slot that a beat took, committed before its message is sent
    beat:<entry>:sent    the newest slot whose message the broker accepted, or that was let go

Taking a slot is one conditional update, so of any number of beats one takes it. A beat that is killed
between the two leaves ``last`` ahead of ``sent``: the next leader sees a slot in doubt (slots.decide).
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Update, exists, not_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from aos_workflow.errors import StoreUnavailable
from aos_workflow.schema import ticks
from beat.lease import Lease
from beat.slots import Marks


class Book:
    """The marks of entries, by name. Every method may raise StoreError."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def read(self, entries: Iterable[str]) -> tuple[dict[str, Marks], float]:
        """What is written about these entries, and the database's time."""
        keys = {key: entry for entry in entries for key in (_taken(entry), _sent(entry))}
        with self._lease.transaction() as (connection, now):
            rows = connection.execute(select(ticks).where(ticks.c.name.in_(keys))).mappings()
            written = {row["name"]: row["last_at"] for row in rows}
        return {
            entry: Marks(taken=written[_taken(entry)], sent=written.get(_sent(entry), 0.0))
            for entry in set(keys.values())
            if _taken(entry) in written
        }, now

    def open(self, entry: str, slot: float) -> None:
        """A new entry: its slots up to ``slot`` are nobody's business."""
        with self._lease.transaction() as (connection, _):
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            rows = [{"name": key, "last_at": slot} for key in (_taken(entry), _sent(entry))]
            connection.execute(dialect.insert(ticks).values(rows).on_conflict_do_nothing())

    def take(self, entry: str, slot: float) -> bool:
        """Take a slot; False if it, or a later one, is taken already."""
        with self._lease.transaction() as (connection, _):
            return bool(connection.execute(_later(_taken(entry), slot)).rowcount)

    def give_back(self, entry: str, slot: float, before: float) -> None:
        """A slot that was taken and certainly not sent is free again; ``before`` is what was taken before it."""
        sent = ticks.alias("sent")
        is_settled = exists().where(sent.c.name == _sent(entry), sent.c.last_at >= slot)
        self._persist(
            update(ticks)
            .where(ticks.c.name == _taken(entry), ticks.c.last_at == slot, not_(is_settled))
            .values(last_at=before)
        )

    def confirm(self, entry: str, slot: float) -> None:
        """The broker accepted the message of a slot."""
        self._persist(_later(_sent(entry), slot))

    def forgo(self, entry: str, slot: float) -> None:
        """Nothing will be sent for a slot."""
        with self._lease.transaction() as (connection, _):
            for key in (_taken(entry), _sent(entry)):
                connection.execute(_later(key, slot))

    def _persist(self, statement: Update) -> None:
        """Execute it, on a new connection if need be: a slow broker may have cost this beat its session."""
        for is_last in (False, True):
            try:
                with self._lease.transaction() as (connection, _):
                    connection.execute(statement)
                return
            except StoreUnavailable:
                if is_last:
                    raise


def _later(key: str, slot: float) -> Update:
    """Marks only move forward."""
    return update(ticks).where(ticks.c.name == key, ticks.c.last_at < slot).values(last_at=slot)


def _taken(entry: str) -> str:
    return f"beat:{entry}:last"


def _sent(entry: str) -> str:
    return f"beat:{entry}:sent"
