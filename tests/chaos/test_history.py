"""The history checker has no mercy: it accepts true histories and names what is wrong with forged ones.

True histories are made once, in this process. Each forgery is made in a transaction that is rolled back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from celery import group

from aos_workflow import durable
from tests.chaos import history, steps
from tests.chaos.crash import Scene
from tests.chaos.history import Rule, check, read, sha, violations
from tests.chaos.steps import begin, expand, join, pay, work
from tests.stack import Stack, driver_url

pytestmark = [pytest.mark.services]

SEED = 11


@pytest.fixture(scope="module")
def scene(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Two runs of one workflow with everything in it: a fan-out, a join, a sub-plan, two rows in the ledger."""
    scene = Scene(stack, tmp_path_factory.mktemp("history"))
    canvas = begin.s("x") | pay.s() | group(work.s(), expand.s()) | join.s()
    flow = durable(canvas, name="forged")
    twin, run = (scene.engine.run_here(flow, seed=SEED) for _ in range(2))
    scene.undisturbed.append(twin.run_id)
    scene.accepted.append(run.run_id)
    return scene


@pytest.fixture
def connection(scene: Scene) -> Iterator[Any]:
    with closing(psycopg2.connect(driver_url(scene.stack.database_url))) as connection:
        yield connection
        connection.rollback()


def test_true_histories_pass(scene: Scene) -> None:
    """Nothing is wrong with what the engine did, a sub-plan inside a fan-out included."""
    assert check(scene.stack.database_url, scene.rule()) == []


FORGERIES: dict[str, tuple[int, str, str]] = {
    # name: (the invariant it breaks, SQL with %(id)s for the run, what the checker says)
    "never ended": (1, "UPDATE runs SET status = 'running' WHERE id = %(id)s", "never ended"),
    "ended at no time": (1, "UPDATE runs SET finished_at = NULL WHERE id = %(id)s", "at no time"),
    "lost": (1, "DELETE FROM runs WHERE id = %(id)s", "is not there"),
    "checkpoint gone": (
        2,
        "DELETE FROM checkpoints WHERE run_id = %(id)s AND address = '5.join'",
        "has no checkpoint",
    ),
    "sub-plan's checkpoint gone": (
        2,
        "DELETE FROM checkpoints WHERE run_id = %(id)s AND address = '4.expand/1.work'",
        "has no checkpoint",
    ),
    "two checkpoints": (
        2,
        "ALTER TABLE checkpoints DROP CONSTRAINT pk_checkpoints;"
        "INSERT INTO checkpoints SELECT * FROM checkpoints WHERE run_id = %(id)s AND address = '2.pay'",
        "has 2 checkpoints",
    ),
    "a step of no plan": (
        2,
        "UPDATE checkpoints SET address = '9.pay' WHERE run_id = %(id)s AND address = '2.pay'",
        "is not in the plan",
    ),
    "at another's position": (
        2,
        "UPDATE checkpoints SET position = 0 WHERE run_id = %(id)s AND address = '5.join'",
        "at position 0",
    ),
    "sub-plan forgotten": (2, "DELETE FROM splices WHERE run_id = %(id)s", "is not in the plan"),
    "done without a checkpoint": (
        2,
        "UPDATE runs SET done = set_bit(done, 1, 0) WHERE id = %(id)s",
        "are committed",
    ),
    "row written twice": (
        3,
        "INSERT INTO ledger SELECT * FROM ledger WHERE run_id = %(id)s AND address = '2.pay'",
        "2 times",
    ),
    "row lost": (3, "DELETE FROM ledger WHERE run_id = %(id)s AND address = '2.pay'", "0 times"),
    "row of a step that never committed": (
        3,
        "INSERT INTO ledger VALUES (%(id)s, '3.work', 1)",
        "without a checkpoint",
    ),
    "join before its last sibling": (
        4,
        "UPDATE checkpoints SET committed_at = committed_at + 60 WHERE run_id = %(id)s AND address = '3.work'",
        "was committed before 3.work",
    ),
    "join before the end of a sub-plan": (
        4,
        "UPDATE checkpoints SET committed_at = committed_at + 60 WHERE run_id = %(id)s AND address = '4.expand/4.join'",
        "was committed before 4.expand/4.join",
    ),
    "claimed too early": (
        4,
        "UPDATE checkpoints SET started_at = started_at - 60 WHERE run_id = %(id)s AND address = '2.pay'",
        "was claimed before 1.begin",
    ),
    "another hash": (5, "UPDATE runs SET workflow_hash = repeat('0', 64) WHERE id = %(id)s", "than its checkpoints"),
    "another seed": (5, "UPDATE runs SET seed = seed + 1 WHERE id = %(id)s", "has another hash"),
    "another output": (
        6,
        "UPDATE checkpoints SET output = '1' WHERE run_id = %(id)s AND address = '1.begin'",
        "another output",
    ),
    "another input": (6, "UPDATE runs SET inputs = '1' WHERE id = %(id)s", "other inputs"),
    "another plan": (6, "UPDATE plans SET body = body || ' '", "another text"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_found(name: str, scene: Scene, connection: Any) -> None:
    """A history that breaks an invariant is reported under that invariant, with the run and the reason."""
    invariant, statement, reason = FORGERIES[name]
    (id,) = scene.accepted
    with connection.cursor() as cursor:
        cursor.execute(statement, {"id": id})
    found = violations(read(connection), scene.rule())
    assert [one for one in found if one.invariant == invariant and reason in one.text and one.run_id in (id, "")]


def test_a_consistent_lie_is_found_by_the_twin(scene: Scene, connection: Any) -> None:
    """Another output with matching digests and hash betrays itself: the undisturbed run ended otherwise."""
    (id,) = scene.accepted
    (run,) = (row for row in read(connection).rows["runs"] if row["id"] == id)
    output = json.dumps(["a lie"])
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE checkpoints SET output = %s, digest = %s, stable_digest = %s "
            "WHERE run_id = %s AND address = '5.join'",
            (output, sha(output), sha(output), id),
        )
        digests = {row["address"]: row["stable_digest"] for row in read(connection).of_run("checkpoints")[id]}
        proof = history.workflow_hash(run, digests)
        cursor.execute("UPDATE runs SET workflow_hash = %s WHERE id = %s", (proof, id))
    (found,) = violations(read(connection), scene.rule())
    assert (found.invariant, found.text) == (5, "has another hash than its undisturbed twin")


def test_a_run_without_a_twin_proves_nothing(scene: Scene, connection: Any) -> None:
    """A run that has nothing to be compared with is reported, not passed over."""
    found = violations(read(connection), Rule(accepted=scene.accepted, writes=steps.writes))
    assert [(one.invariant, one.text) for one in found] == [(5, "has no undisturbed twin to be compared with")]


def test_a_checkpoint_of_an_attempt_that_never_began_is_found(scene: Scene, connection: Any) -> None:
    """With the journal of the bodies at hand, a checkpoint that no body stands behind is reported."""
    (id,) = scene.accepted
    addresses = [row["address"] for row in read(connection).of_run("checkpoints")[id]]
    performed = {(id, address, 1) for address in addresses if address != "2.pay"}
    rule = Rule(accepted=scene.accepted, undisturbed=scene.undisturbed, writes=steps.writes, performed=performed)
    assert [(one.address, one.text) for one in violations(read(connection), rule)] == [
        ("2.pay", "was committed by attempt 1, which never began")
    ]


def test_the_checker_does_not_know_the_engine() -> None:
    """The checker's source names nothing of the package it judges."""
    source = Path(history.__file__).read_text(encoding="utf-8")
    assert "aos_workflow" not in source
