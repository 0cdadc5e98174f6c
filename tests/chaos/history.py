"""The history checker: what a database tells about its runs, held against invariants 1 to 6 of DESIGN section 8.

It knows nothing of the engine and imports nothing from it: it reads tables and JSON, and hashes by itself.

    1  no run is lost: every id that enqueue returned is there, and ended
    2  a step has at most one checkpoint; a run that succeeded has one for each step of its plan, and no other
    3  rows that a step wrote in its own transaction exist once, and none without its checkpoint
    4  no step was committed, or even claimed, before those it comes after
    5  a run's hash is that of its undisturbed twin (same workflow, plan, inputs and seed), and that of its checkpoints
    6  every stored text hashes to the digest stored with it
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import psycopg2

Row = Mapping[str, Any]
ENDED = ("succeeded", "failed", "cancelled")
TABLES = ("runs", "plans", "splices", "checkpoints", "attempts")


@dataclass(frozen=True, slots=True)
class Violation:
    """Which invariant a run breaks, where, and how."""

    invariant: int
    run_id: str
    address: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What is known about the history from outside: what was accepted, what was left in peace, what writes."""

    accepted: Collection[str] = ()  # ids that enqueue returned
    undisturbed: Collection[str] = ()  # ids of runs nobody disturbed: the twins to compare hashes with
    writes: Callable[[str], bool] = lambda task: False  # does this task write one row into table ``ledger``?
    performed: Collection[tuple[str, str, int]] | None = None  # (run, address, attempt) of every body that began


@dataclass(slots=True)
class Shape:
    """A run's plan with the sub-plans that its steps returned: what comes after what, and at which position."""

    after: dict[str, list[str]] = field(default_factory=dict)
    position: dict[str, int] = field(default_factory=dict)
    task: dict[str, str] = field(default_factory=dict)
    handlers: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class History:
    """All rows of the tables, read in one transaction."""

    rows: Mapping[str, Sequence[Row]]
    ledger: Sequence[Row]

    def of_run(self, table: str) -> Mapping[str, list[Row]]:
        found = defaultdict(list)
        for row in self.rows[table]:
            found[row["run_id"]].append(row)
        return found


def check(url: str, rule: Rule) -> list[Violation]:
    """Read the database at ``url`` in one snapshot and say what is wrong with it."""
    with closing(psycopg2.connect(url.replace("postgresql+psycopg2://", "postgresql://"))) as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        return violations(read(connection), rule)


def read(connection: Any) -> History:
    """The history as this connection sees it."""
    ledger = _select(connection, "SELECT to_regclass('ledger') IS NOT NULL AS there")[0]["there"]
    return History(
        rows={table: _select(connection, f"SELECT * FROM {table}") for table in TABLES},
        ledger=_select(connection, "SELECT run_id, address FROM ledger") if ledger else [],
    )


def violations(history: History, rule: Rule) -> list[Violation]:
    """Everything that is wrong, run by run; an empty list is the proof."""
    plans = {row["digest"]: row["body"] for row in history.rows["plans"]}
    splices, checkpoints = history.of_run("splices"), history.of_run("checkpoints")
    known = {run["id"]: run for run in history.rows["runs"]}
    found = [Violation(1, id, "", "was accepted and is not there") for id in rule.accepted if id not in known]
    found += [
        Violation(6, "", "", f"plan {digest} has another text") for digest, body in plans.items() if sha(body) != digest
    ]
    for id, run in known.items():
        shape = shape_of(run, splices[id], plans)
        found += _of_run(run, shape, checkpoints[id])
        found += _of_order(run, shape, checkpoints[id])
    found += _of_twins(known, rule)
    found += _of_ledger(history, rule)
    found += _of_bodies(checkpoints, rule)
    stray = checkpoints.keys() - known.keys()
    return found + [Violation(2, id, "", "has checkpoints and is not there") for id in sorted(stray)]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- the plan -------------------------------------------------------------------------------


def shape_of(run: Row, splices: Iterable[Row], plans: Mapping[str, str]) -> Shape:
    """The plan of a run as it was in the end."""
    shape = Shape()
    document = json.loads(plans[run["plan_digest"]])
    _add(shape, document, base=0, place=lambda address: str(address), heads=[])
    for splice in sorted(splices, key=lambda row: row["ordinal"]):
        parent = splice["address"]
        prefix = parent if len(parent) <= 160 else "~" + sha(parent)[:24]
        sub = json.loads(plans[splice["plan_digest"]])

        def place(address: str, prefix: str = prefix) -> str:
            return f"{prefix}/{address}"

        waiting = [address for address, after in shape.after.items() if parent in after]
        _add(shape, sub, base=len(shape.position), place=place, heads=[parent])
        for address in waiting:
            shape.after[address] += [place(end) for end in _references(sub["outgoing"])]
    return shape


def _add(shape: Shape, document: Row, *, base: int, place: Callable[[str], str], heads: list[str]) -> None:
    for position, step in enumerate(document["steps"], base):
        address = place(step["address"])
        shape.after[address] = [place(other) for other in step.get("after", [])] or list(heads)
        shape.position[address] = position
        shape.task[address] = step["task"]
    shape.handlers |= {place(step["address"]) for step in document["handlers"]}


def _references(feed: Any) -> Iterator[str]:
    if isinstance(feed, list):
        for member in feed:
            yield from _references(member)
    elif feed is not None and not feed.startswith("$"):
        yield feed


# --- the invariants -------------------------------------------------------------------------


def _of_run(run: Row, shape: Shape, checkpoints: Sequence[Row]) -> Iterator[Violation]:
    """1, 2, 5 and 6 for one run."""
    id = run["id"]
    if run["status"] not in ENDED:
        yield Violation(1, id, "", f"never ended: {run['status']}")
    elif run["finished_at"] is None:
        yield Violation(1, id, "", "ended at no time")
    committed = Counter(row["address"] for row in checkpoints)
    for address, count in committed.items():
        if count > 1:
            yield Violation(2, id, address, f"has {count} checkpoints")
        if address not in shape.position and address not in shape.handlers:
            yield Violation(2, id, address, "has a checkpoint and is not in the plan")
    for row in checkpoints:
        if row["position"] != shape.position.get(row["address"], -1):
            yield Violation(2, id, row["address"], f"was committed at position {row['position']}")
        if sha(row["output"]) != row["digest"]:
            yield Violation(6, id, row["address"], "has another output than its digest says")
        if row["digest"] != row["stable_digest"]:
            yield Violation(6, id, row["address"], "has no volatile fields and two digests")
    if sha(run["inputs"]) != run["inputs_digest"]:
        yield Violation(6, id, "", "has other inputs than their digest says")
    done = _bits(run["done"])
    if done != {shape.position[address] for address in committed if address in shape.position}:
        yield Violation(2, id, "", f"says that the positions {sorted(done)} are committed")
    if run["status"] == "succeeded":
        yield from _of_success(run, shape, checkpoints)


def _of_success(run: Row, shape: Shape, checkpoints: Sequence[Row]) -> Iterator[Violation]:
    digests = {row["address"]: row["stable_digest"] for row in checkpoints if row["address"] not in shape.handlers}
    for address in shape.position.keys() - digests.keys():
        yield Violation(2, run["id"], address, "has no checkpoint though its run succeeded")
    if run["size"] != len(shape.position):
        yield Violation(2, run["id"], "", f"says it has {run['size']} steps, its plan has {len(shape.position)}")
    if run["workflow_hash"] != workflow_hash(run, digests):
        yield Violation(5, run["id"], "", "has another hash than its checkpoints")


def _of_order(run: Row, shape: Shape, checkpoints: Sequence[Row]) -> Iterator[Violation]:
    """4 for one run. A checkpoint's ``started_at`` is the time of the claim that led to it."""
    rows = {row["address"]: row for row in checkpoints}
    for address, row in rows.items():
        if row["committed_at"] < row["started_at"]:
            yield Violation(4, run["id"], address, "was committed before it was claimed")
        for earlier in shape.after.get(address, []):
            if earlier not in rows:
                yield Violation(4, run["id"], address, f"was committed without {earlier}")
            elif row["committed_at"] < rows[earlier]["committed_at"]:
                yield Violation(4, run["id"], address, f"was committed before {earlier}")
            elif row["started_at"] < rows[earlier]["committed_at"]:
                yield Violation(4, run["id"], address, f"was claimed before {earlier} was committed")


def _of_twins(known: Mapping[str, Row], rule: Rule) -> Iterator[Violation]:
    """5: every disturbed run that succeeded has the hash of the same run left in peace."""
    hashes = {_kind(known[id]): known[id]["workflow_hash"] for id in rule.undisturbed if id in known}
    for id, run in known.items():
        if run["status"] == "succeeded" and id in rule.accepted:
            if _kind(run) not in hashes:
                yield Violation(5, id, "", "has no undisturbed twin to be compared with")
            elif run["workflow_hash"] != hashes[_kind(run)]:
                yield Violation(5, id, "", "has another hash than its undisturbed twin")


def _kind(run: Row) -> tuple[Any, ...]:
    return (run["workflow"], run["plan_digest"], run["inputs_digest"], run["seed"])


def _of_ledger(history: History, rule: Rule) -> Iterator[Violation]:
    """3 for all runs."""
    plans = {row["digest"]: row["body"] for row in history.rows["plans"]}
    splices, checkpoints = history.of_run("splices"), history.of_run("checkpoints")
    written = Counter((row["run_id"], row["address"]) for row in history.ledger)
    expected = set()
    for run in history.rows["runs"]:
        shape = shape_of(run, splices[run["id"]], plans)
        for row in checkpoints[run["id"]]:
            if rule.writes(shape.task.get(row["address"], "")):
                expected.add((run["id"], row["address"]))
    for id, address in sorted(expected | written.keys()):
        count = written[id, address]
        if (id, address) not in expected:
            yield Violation(3, id, address, "wrote rows without a checkpoint")
        elif count != 1:
            yield Violation(3, id, address, f"wrote its row {count} times")


def _of_bodies(checkpoints: Mapping[str, list[Row]], rule: Rule) -> Iterator[Violation]:
    """2: what is committed for an accepted run was performed, by the very attempt that the checkpoint names."""
    for id in rule.accepted if rule.performed is not None else ():
        for row in checkpoints.get(id, []):
            if (id, row["address"], row["attempt"]) not in (rule.performed or ()):
                yield Violation(2, id, row["address"], f"was committed by attempt {row['attempt']}, which never began")


def workflow_hash(run: Row, digests: Mapping[str, str]) -> str:
    steps = [[address, digests[address]] for address in sorted(digests, key=_plan_order)]
    document = {"workflow": run["workflow"], "inputs": run["inputs_digest"], "seed": run["seed"], "steps": steps}
    return sha(json.dumps(document, sort_keys=True))


def _plan_order(address: str) -> list[tuple[int, str]]:
    """ "3.score/1.child" sorts right after "3.score", "10.x" after "9.x"."""
    parts = (part.partition(".") for part in address.split("/"))
    return [(int(ordinal), name) if ordinal.isdigit() else (0, ordinal + dot + name) for ordinal, dot, name in parts]


def _bits(mask: Any) -> set[int]:
    number = int.from_bytes(bytes(mask), "little")
    return {position for position in range(number.bit_length()) if number >> position & 1}


def _select(connection: Any, statement: str) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]
