"""Recovery: find what a crash left behind, and what is due. The sweep of DESIGN section 6.

``decide`` looks at one overdue run and says what to publish and when to look again; it is
pure. ``sweep`` asks it about every overdue run under row locks, so any number of sweeps may
run at once, and publishes after its transaction is committed. Publishing too much is
harmless: the claim lets one worker in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, select, tuple_, update

from aos_workflow import fork_gate
from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.database import in_our_words
from aos_workflow.errors import AosError, StoreUnavailable
from aos_workflow.plan import Plan
from aos_workflow.records import FORMAT, LIVE, AttemptState, Run, RunStatus
from aos_workflow.rows import GRACE_S, run_from_row
from aos_workflow.schema import attempts, runs, workers

log = logging.getLogger("aos_workflow.fleet")

log = logging.getLogger("aos_workflow.fleet")

#: How many runs one transaction of the sweep looks at.
BATCH = 200
#: With nothing waiting in the broker, a step published this long ago is lost, seconds.
QUIET_GRACE_S = 1.0
#: While messages wait in the broker, a step published this long ago may be lost rather than queued, seconds.
BUSY_GRACE_S = 15.0
#: A run in progress is looked at again at the latest after this, seconds.
LONGEST_GRACE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """The latest attempt at a step that is ready: its state, and whether its worker process lives."""

    state: AttemptState
    due_at: float | None
    is_alive: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Wake:
    """What to do about an overdue run: publish these addresses, look again at ``wake_at``.

    ``is_complete``: every step is committed, but whoever committed the last died before it ended the run.
    """

    run: Run
    plan: Plan
    addresses: tuple[str, ...]
    wake_at: float
    is_complete: bool = False


def decide(
    run: Run, plan: Plan, holders: Mapping[str, Holder], *, nudges: int, now: float, broker_is_empty: bool
) -> Wake:
    """Which steps of an overdue run nobody is on, and when to look at the run again.

    A step without an attempt, or whose worker died, may have lost its message: it is published
    when the run's last news is older than the grace, which doubles with every fruitless nudge
    (15, 30, 60 seconds) while the broker still has messages waiting.
    """
    nudges = min(nudges, 32)  # a queue may lack its workers for days
    grace_s = QUIET_GRACE_S if broker_is_empty else min(LONGEST_GRACE_S, BUSY_GRACE_S * 2.0**nudges)
    is_quiet = run.updated_at + grace_s <= now
    publish: list[str] = []
    looks = [now + min(LONGEST_GRACE_S, GRACE_S * 2.0 ** (nudges + 1))]
    for address in open_addresses(run, plan):
        holder = holders.get(address)
        if holder is None:
            if is_quiet:
                publish.append(address)
            else:
                looks.append(run.updated_at + grace_s)
        elif holder.state is AttemptState.RUNNING:
            if not holder.is_alive:
                publish.append(address)
        elif _is_over(run, holder):
            continue
        elif holder.due_at is not None and holder.due_at > now:
            looks.append(holder.due_at)
        else:
            publish.append(address)
    return Wake(
        run=run,
        plan=plan,
        addresses=tuple(publish),
        wake_at=max(now + 0.2, min(looks)),
        is_complete=run.status is RunStatus.RUNNING and run.done == plan.everything,
    )


def _is_over(run: Run, holder: Holder) -> bool:
    """Has a handler of a failing run committed or failed? Then only the run's end is missing."""
    return run.status is RunStatus.FAILING and holder.state in (AttemptState.COMMITTED, AttemptState.FAILED)


def open_addresses(run: Run, plan: Plan) -> tuple[str, ...]:
    """The steps that may run now: those that are ready, or in a failing run its handlers."""
    if run.status is RunStatus.FAILING:
        return run.error.handlers if run.error else ()
    return plan.ready(run.done)


def sweep(store: CheckpointStore, act: Callable[[Wake], None], *, broker_is_empty: Callable[[], bool]) -> int:
    """Act on every overdue run, in batches; returns how many steps were to be published."""
    published = 0
    while _is_any_overdue(store):
        # Asked before the rows are locked: a broker that is away takes its time to say so.
        wakes = _take(store, broker_is_empty=broker_is_empty())
        for wake in wakes:
            fork_gate.breathe()  # a worker that has lost a child need not wait until all of them are published
            try:
                act(wake)
            except Exception:  # one run that cannot be published must not hold up the others
                log.exception("the sweep could not act on run %s", wake.run.id)
                continue
            published += len(wake.addresses)
        if len(wakes) < BATCH:
            break
    return published


def _overdue(now: float) -> ColumnElement[bool]:
    live = runs.c.status.in_([status.value for status in LIVE])
    return and_(live, runs.c.wake_at <= now, runs.c.inline.is_(False), runs.c.format == FORMAT)


def _is_any_overdue(store: CheckpointStore) -> bool:
    with in_our_words(), store.engine.begin() as connection:
        found = connection.execute(select(runs.c.id).where(_overdue(store.now(connection))).limit(1)).first()
    return found is not None


def _take(store: CheckpointStore, *, broker_is_empty: bool) -> list[Wake]:
    with in_our_words(), store.engine.begin() as connection:
        now = store.now(connection)
        rows = connection.execute(
            select(runs)
            .where(_overdue(now))
            .order_by(runs.c.wake_at)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        ).mappings().all()  # fmt: skip
        if not rows:
            return []
        overdue = [run_from_row(row) for row in rows]
        plans = _plans(store, overdue)
        holders = _holders(connection, store, [run for run in overdue if run.id in plans], plans, now)
        wakes = [
            decide(
                run,
                plans[run.id],
                holders.get(run.id, {}),
                nudges=row["nudges"],
                now=now,
                broker_is_empty=broker_is_empty,
            )
            if run.id in plans
            else Wake(run=run, plan=Plan(steps=()), addresses=(), wake_at=now + LONGEST_GRACE_S)
            for run, row in zip(overdue, rows, strict=True)
        ]
        _remember(connection, wakes)
    return [wake for wake in wakes if wake.run.id in plans]


def _plans(store: CheckpointStore, overdue: Sequence[Run]) -> dict[str, Plan]:
    """Run id -> its plan; one that cannot be read must not keep the sweep from the others."""
    plans = {}
    for run in overdue:
        try:
            plans[run.id] = store.effective_plan(run.id, run.plan_digest, run.splices)
        except StoreUnavailable:
            raise
        except AosError as error:
            log.warning("the sweep cannot help run %s: %s", run.id, error)
    return plans


def _holders(
    connection: Connection,
    store: CheckpointStore,
    overdue: Sequence[Run],
    plans: Mapping[str, Plan],
    now: float,
) -> dict[str, dict[str, Holder]]:
    """Run id -> address -> the latest attempt at it, for every step that is open; a final failure is none."""
    pairs = [(run.id, address) for run in overdue for address in open_addresses(run, plans[run.id])]
    found: dict[str, dict[str, Holder]] = {}
    for start in range(0, len(pairs), 5_000):
        statement = (
            select(attempts, workers.c.heartbeat_at, workers.c.stopped_at)
            .join(workers, workers.c.id == attempts.c.worker_id, isouter=True)
            .where(tuple_(attempts.c.run_id, attempts.c.address).in_(pairs[start : start + 5_000]))
            .order_by(attempts.c.attempt)
        )
        for row in connection.execute(statement).mappings():
            is_alive = row["stopped_at"] is None and (row["heartbeat_at"] or 0) > now - store.worker_ttl_s
            found.setdefault(row["run_id"], {})[row["address"]] = Holder(
                state=AttemptState(row["state"]), due_at=row["due_at"], is_alive=is_alive
            )
    return found


def _remember(connection: Connection, wakes: Sequence[Wake]) -> None:
    """When to look again; a run that is published enters its next epoch."""
    changes: list[dict[str, Any]] = [
        {"b_id": wake.run.id, "b_wake": wake.wake_at, "b_published": int(bool(wake.addresses))} for wake in wakes
    ]
    connection.execute(
        update(runs)
        .where(runs.c.id == bindparam("b_id"))
        .values(
            wake_at=bindparam("b_wake"),
            epoch=runs.c.epoch + bindparam("b_published"),
            nudges=runs.c.nudges + bindparam("b_published"),
        ),
        changes,
    )
