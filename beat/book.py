"""Book: which slot of which entry was taken and which was sent, in the ``ticks`` table.

    beat:<entry>:last    the newest slot that a beat took, committed before its message is sent
    beat:<entry>:sent    the newest slot whose message the broker accepted, or that was let go

Taking a slot is one conditional update, so of any number of beats one takes it. A beat that is killed
between the two leaves ``last`` ahead of ``sent``: the next leader sees a slot in doubt (slots.decide).
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

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
        return self._set(_taken(entry), slot)

    def give_back(self, entry: str, slot: float, before: float) -> None:
        """A slot that was taken and certainly not sent is free again; ``before`` is what was taken before it."""
        with self._lease.transaction() as (connection, _):
            connection.execute(
                update(ticks).where(ticks.c.name == _taken(entry), ticks.c.last_at == slot).values(last_at=before)
            )

    def confirm(self, entry: str, slot: float) -> None:
        """The broker accepted the message of a slot."""
        self._set(_sent(entry), slot)

    def forgo(self, entry: str, slot: float) -> None:
        """Nothing will be sent for a slot."""
        self._set(_taken(entry), slot)
        self._set(_sent(entry), slot)

    def _set(self, key: str, slot: float) -> bool:
        with self._lease.transaction() as (connection, _):
            done = connection.execute(
                update(ticks).where(ticks.c.name == key, ticks.c.last_at < slot).values(last_at=slot)
            )
            return bool(done.rowcount)


def _taken(entry: str) -> str:
    return f"beat:{entry}:last"


def _sent(entry: str) -> str:
    return f"beat:{entry}:sent"
