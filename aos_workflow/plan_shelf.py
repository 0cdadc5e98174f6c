"""PlanShelf: the plans of this database, kept in memory once read. Plans never change."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

from sqlalchemy import Engine, select

from aos_workflow.database import in_our_words
from aos_workflow.errors import RunNotFound
from aos_workflow.plan import Plan
from aos_workflow.schema import plans, splices

_KEPT = 512


class PlanShelf:
    """At most 512 plans, the least recently used go first. Safe to use from threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: OrderedDict[object, Plan] = OrderedDict()
        self._stored: set[str] = set()
        self._lock = threading.Lock()

    def is_stored(self, digest: str) -> bool:
        """Do we know that the database has this plan? (A no may only mean that we have not looked.)"""
        return digest in self._stored

    def keep(self, digests: Iterable[str]) -> None:
        """The database has these plans now."""
        if len(self._stored) > _KEPT:
            self._stored.clear()
        self._stored.update(digests)

    def plan(self, digest: str) -> Plan:
        """The plan stored under ``digest``; raises RunNotFound."""
        return self._get(digest, lambda: self._read(digest))

    def effective(self, run_id: str, digest: str, splice_count: int) -> Plan:
        """The run's plan with its first ``splice_count`` sub-plans in their places, in the order they came."""
        if not splice_count:
            return self.plan(digest)
        return self._get((run_id, splice_count), lambda: self._spliced(run_id, digest, splice_count))

    def _get(self, key: object, make: Callable[[], Plan]) -> Plan:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        plan = make()
        with self._lock:
            self._kept[key] = plan
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return plan

    def _read(self, digest: str) -> Plan:
        with in_our_words(), self._engine.connect() as connection:
            text = connection.execute(select(plans.c.body).where(plans.c.digest == digest)).scalar_one_or_none()
        if text is None:
            raise RunNotFound(f"no plan {digest[:12]} is stored", fix="check that this is the right database")
        return Plan.from_text(text)

    def _spliced(self, run_id: str, digest: str, splice_count: int) -> Plan:
        """Builds on the longest prefix that is on the shelf, so a loop of n turns costs n splices in all."""
        plan, known = self.plan(digest), 0
        with self._lock:
            for count in range(splice_count - 1, max(0, splice_count - 8), -1):
                if (run_id, count) in self._kept:
                    plan, known = self._kept[(run_id, count)], count
                    break
        statement = (
            select(splices.c.address, plans.c.body)
            .join(plans, plans.c.digest == splices.c.plan_digest)
            .where(splices.c.run_id == run_id)
            .order_by(splices.c.ordinal)
            .offset(known)
            .limit(splice_count - known)
        )
        with in_our_words(), self._engine.connect() as connection:
            rows = connection.execute(statement).all()
        for address, body in rows:
            plan = plan.spliced(address, Plan.from_text(body))
        return plan
