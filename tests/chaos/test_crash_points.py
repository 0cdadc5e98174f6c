"""Kill the worker at each point of a step, in every shape, and look at what the database tells afterwards."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest

from tests.chaos.crash import APP, RECOVERY_S, Scene, settle_all
from tests.chaos.steps import CASES, SHAPES, cases_of
from tests.stack import Stack, driver_url, wait_until
from tests.worker_process import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.worker, pytest.mark.timeout(240)]

SEED = 20261123


@pytest.fixture
def scene(stack: Stack, tmp_path: Path) -> Scene:
    return Scene(stack, tmp_path)


def test_a_pool_child_dies_at_each_point_of_each_shape(
    scene: Scene, record_property: Callable[[str, object], None]
) -> None:
    """A child killed at any point of a step costs no run, no checkpoint and no row, and changes no hash."""
    worker = scene.worker([f"{case.point}:kill9,at={case.name}" for case in CASES]).wait_until_ready()
    started_s = time.monotonic()
    handles = [scene.enqueue(case.name, case.canvas(), seed=SEED) for case in CASES]
    settle_all(handles, within_s=90)
    record_property("seconds", round(time.monotonic() - started_s, 1))
    assert sorted(scene.fired()) == sorted((case.point, case.name) for case in CASES)
    assert scene.wrong() == []
    assert not worker.has_ended
    worker.kill()


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in ("last", "local")])
def test_the_whole_worker_dies_at_each_point(
    shape: str, scene: Scene, record_property: Callable[[str, object], None]
) -> None:
    """After the whole worker is killed at any point, a new one finishes the run from where it was."""
    cases = [case for case in cases_of(shape) if case.point != "in_body"]
    rules = [f"{case.point}:kill9group,at={case.name}" for case in cases]
    worker = scene.worker(rules, concurrency=1).wait_until_ready()
    recovered_s = {}
    for case in cases:
        handle = scene.enqueue(case.name, case.canvas(), seed=SEED)
        worker.wait_until_ended(timeout_s=RECOVERY_S)
        worker = scene.worker(rules, concurrency=1).wait_until_ready()
        started_s = time.monotonic()
        handle.wait(timeout_s=RECOVERY_S)
        recovered_s[case.point] = round(time.monotonic() - started_s, 2)
    record_property("recovered_s", recovered_s)
    assert scene.fired() == [(case.point, case.name) for case in cases]
    assert scene.wrong() == []
    worker.kill()


def test_the_producer_dies_before_it_publishes(scene: Scene, postgres_url: str) -> None:
    """A run that was committed by a process that died before publishing is found and performed."""
    worker = scene.worker().wait_until_ready()
    program = f"from {APP} import begin, work\nfrom aos_workflow import durable\n"
    program += f"durable(begin.s('orphan') | work.s(), name='orphan').enqueue(seed={SEED})"
    variables = {**scene.stack.environment(APP), "AOS_FAULTS": "after_enqueue:kill9", "AOS_TESTING": "1"}
    died = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=variables, check=False)
    assert died.returncode == -9
    with psycopg2.connect(driver_url(postgres_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM runs WHERE workflow = 'orphan'")
        ((id,),) = cursor.fetchall()
    assert scene.engine.handle(id).wait(timeout_s=RECOVERY_S).status == "succeeded"
    worker.kill()


@pytest.mark.parametrize("point", ["after_claim", "before_commit"])
@pytest.mark.parametrize("shape", ["chain", "session"])
def test_a_worker_that_slept_through_its_replacement_writes_nothing(shape: str, point: str, scene: Scene) -> None:
    """A process stopped past its time to live finds its step done by another one, and commits nothing."""
    (case,) = (case for case in cases_of(shape) if case.point == point)
    worker = scene.worker([f"{point}:stop=6s,at={case.name}"], concurrency=2).wait_until_ready()
    handle = scene.enqueue(case.name, case.canvas(), seed=SEED)
    handle.wait(timeout_s=RECOVERY_S)
    wait_until(lambda: "step.superseded" in worker.log, what="the sleeper has woken up")
    assert scene.wrong() == []
    worker.kill()


def test_faults_outside_of_a_test_keep_a_worker_from_starting(scene: Scene) -> None:
    """AOS_FAULTS without AOS_TESTING=1 is refused before the first message."""
    worker = scene.stack.start_worker(APP, concurrency=1, env={"AOS_FAULTS": "received:kill9"})
    worker.wait_until_ended()
    assert worker.returncode not in (0, None)
    assert "AOS_FAULTS is set outside of a test" in worker.log
