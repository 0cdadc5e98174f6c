"""GoldenLedger: what was recorded, re-signed, archived and pruned, in an order that cannot be changed unseen.

Each entry holds the hash of the one before, so that an entry that was changed, removed or put in between shows at
the first one after it. Appends queue up: on PostgreSQL at an advisory lock of the transaction, on SQLite at the
file's write lock. The database refuses to change or delete entries (a trigger, migration 0002).

What the chain alone cannot show is a ledger whose end was cut off: there a run marked as recorded has no entry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, exists, func, insert, select, update

from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.database import in_our_words, quick
from aos_workflow.golden import Golden
from aos_workflow.schema import LedgerOp, golden_ledger, runs

#: PostgreSQL's advisory lock of whoever appends: "aos_gold" as one number.
LOCK_KEY = int.from_bytes(b"aos_gold", "big")
#: What the first entry holds as the hash of the one before.
GENESIS = "0" * 64
#: How many recorded runs without an entry, and runs whose golden is wanted, are looked at.
_MOST_RUNS = 10_000
_PAGE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """One line of the ledger. ``at`` is database time; ``hash`` is over all the others."""

    op: LedgerOp
    name: str
    run_id: str | None = None
    content_sha256: str | None = None
    key_id: str | None = None
    seq: int = 0
    at: float = 0.0
    prev: str = GENESIS
    hash: str = ""

    @classmethod
    def of(cls, op: LedgerOp, golden: Golden) -> LedgerEntry:
        """An entry about a golden, to be appended."""
        return cls(
            op=op,
            name=golden.name,
            run_id=golden.run_id,
            content_sha256=golden.content_sha256,
            key_id=golden.key_id,
        )

    def computed_hash(self) -> str:
        """SHA-256 of the entry's canonical JSON, without ``hash``."""
        content = asdict(self)
        del content["hash"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def after(self, before: LedgerEntry | None, at: float) -> LedgerEntry:
        """This entry as the one that follows ``before``."""
        seq, prev = (before.seq + 1, before.hash) if before else (1, GENESIS)
        placed = replace(self, seq=seq, prev=prev, at=at)
        return replace(placed, hash=placed.computed_hash())

    @property
    def is_about_a_golden(self) -> bool:
        return self.op is not LedgerOp.ARCHIVE


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """The last entry about one golden's file, and when the file was (last) added."""

    last: LedgerEntry
    added_at: float

    @property
    def is_live(self) -> bool:
        """Should the file be there?"""
        return self.last.op in (LedgerOp.ADD, LedgerOp.RESIGN)


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerView:
    """The ledger as of one moment: file name -> standing; ``broken`` says where it cannot be right.

    ``wanted``: run id -> workflow hash, of runs whose golden is still to be entered.
    """

    at: float
    standings: Mapping[str, Standing] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    wanted: Mapping[str, str] = field(default_factory=dict)


def view_of(entries: Iterable[LedgerEntry], *, at: float) -> LedgerView:
    """Where every golden stands, and where the chain is broken. Pure."""
    standings: dict[str, Standing] = {}
    broken: list[str] = []
    before: LedgerEntry | None = None
    for entry in entries:
        seq, prev = (before.seq + 1, before.hash) if before else (1, GENESIS)
        if entry.seq != seq:
            broken.append(f"entry {seq} is missing before {entry.seq}")
        elif entry.prev != prev:
            broken.append(f"entry {entry.seq} does not follow the one before it: that one was changed")
        if entry.hash != entry.computed_hash():
            broken.append(f"entry {entry.seq} was changed after it was written")
        if entry.is_about_a_golden:
            known = standings.get(entry.name)
            is_new = known is None or entry.op is LedgerOp.ADD
            standings[entry.name] = Standing(last=entry, added_at=entry.at if is_new else known.added_at)  # type: ignore[union-attr]
        before = entry
    return LedgerView(at=at, standings=standings, broken=tuple(broken))


class GoldenLedger:
    """The ledger in the database of one store."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._quick = quick(store.engine)

    def add(self, golden: Golden) -> None:
        """Enter a golden that was written, unless it stands there already, and mark its run as recorded."""
        with in_our_words(), self._store.engine.begin() as connection:
            self._lock(connection)
            known = _last_of(connection, golden.name)
            is_known = (
                known is not None
                and known.op in (LedgerOp.ADD, LedgerOp.RESIGN)
                and known.content_sha256 == golden.content_sha256
            )
            if not is_known:
                self._append(connection, [LedgerEntry.of(LedgerOp.ADD, golden)])
            connection.execute(update(runs).where(runs.c.id == golden.run_id).values(golden="recorded"))

    def give_up(self, run_id: str) -> None:
        """Mark a run of which no golden can be made, so that it is not asked for again and again."""
        with in_our_words(), self._store.engine.begin() as connection:
            mine = (runs.c.id == run_id) & (runs.c.golden == "wanted")
            connection.execute(update(runs).where(mine).values(golden="refused"))

    def append(self, entries: Sequence[LedgerEntry]) -> None:
        """Append entries, all or none; sequence, time and hashes are the ledger's to fill in."""
        if entries:
            with in_our_words(), self._store.engine.begin() as connection:
                self._lock(connection)
                self._append(connection, entries)

    def last_of(self, name: str) -> LedgerEntry | None:
        """The last entry about this file."""
        with in_our_words(), self._quick.connect() as connection:
            return _last_of(connection, name)

    def entries(self) -> list[LedgerEntry]:
        """All entries, first to last."""
        with in_our_words(), self._quick.connect() as connection:
            return list(_all(connection))

    def view(self) -> LedgerView:
        """The ledger as of now, checked."""
        with in_our_words(), self._quick.connect() as connection:
            wanted = select(runs.c.id, runs.c.workflow_hash).where(
                runs.c.golden == "wanted", runs.c.status == "succeeded"
            )
            open_runs = {run_id: proof or "" for run_id, proof in connection.execute(wanted.limit(_MOST_RUNS))}
            view = view_of(_all(connection), at=self._store.now(connection))
            lost = connection.execute(_recorded_but_not_entered()).scalars().all()
        cut_off = tuple(f"run {run_id} was recorded and has no entry" for run_id in lost)
        return replace(view, wanted=open_runs, broken=(*view.broken, *cut_off))

    def _lock(self, connection: Connection) -> None:
        if self._store.is_postgres:  # SQLite took its lock at BEGIN
            connection.execute(select(func.pg_advisory_xact_lock(LOCK_KEY)))

    def _append(self, connection: Connection, entries: Sequence[LedgerEntry]) -> None:
        newest = select(golden_ledger).order_by(golden_ledger.c.seq.desc()).limit(1)
        row = connection.execute(newest).mappings().first()
        before = _entry(row) if row else None
        at = self._store.now(connection)
        placed = []
        for entry in entries:
            before = entry.after(before, at)
            placed.append({**asdict(before), "op": before.op.value})
        connection.execute(insert(golden_ledger), placed)


def _all(connection: Connection) -> Iterator[LedgerEntry]:
    after = -1
    while True:  # page by page: a connection that commits each statement has no cursor to hold
        page = select(golden_ledger).where(golden_ledger.c.seq > after).order_by(golden_ledger.c.seq).limit(_PAGE)
        rows = connection.execute(page).mappings().all()
        yield from map(_entry, rows)
        if len(rows) < _PAGE:
            return
        after = rows[-1]["seq"]


def _last_of(connection: Connection, name: str) -> LedgerEntry | None:
    mine = golden_ledger.c.name == name
    statement = select(golden_ledger).where(mine).order_by(golden_ledger.c.seq.desc()).limit(1)
    row = connection.execute(statement).mappings().first()
    return _entry(row) if row else None


def _recorded_but_not_entered() -> Any:
    is_entered = exists().where(golden_ledger.c.run_id == runs.c.id)
    return select(runs.c.id).where(runs.c.golden == "recorded", ~is_entered).order_by(runs.c.id).limit(10)


def _entry(row: Mapping[Any, Any]) -> LedgerEntry:
    return LedgerEntry(**{**row, "op": LedgerOp(row["op"])})
