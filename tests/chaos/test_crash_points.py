"""A pool's child dies at each point of a step, in every shape; what does the database tell afterwards?"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.chaos.crash import APP, RECOVERY_S, Scene
from tests.chaos.steps import CASES, SLEEPERS, begin, work
from tests.stack import Stack, WorkerProcess, driver_url, wait_until
from tests.worker_process import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.worker, pytest.mark.timeout(300)]

log = logging.getLogger(__name__)

SEED = 20261123


@pytest.fixture(scope="module")
def shared(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(stack, tmp_path_factory.mktemp("crash"))


@pytest.fixture(scope="module")
def armed(shared: Scene) -> Iterator[WorkerProcess]:
    """One worker in which a child dies once for each case, or sleeps once for each sleeper."""
    rules = [f"{case.point}:kill9,at={case.name}" for case in CASES]
    rules += [f"before_commit:stop,at={name}" for name in SLEEPERS]
    worker = shared.worker(rules, concurrency=3).wait_until_ready()
    yield worker
    worker.kill()


def test_a_pool_child_dies_at_each_point_of_each_shape(shared: Scene, armed: WorkerProcess) -> None:
    """A child killed at any point of a step costs no run, no checkpoint and no row, and changes no hash."""
    started_s = time.monotonic()
    handles = [shared.enqueue(case.name, case.canvas(), seed=SEED) for case in CASES]
    shared.settle_all(handles, within_s=120)
    log.info("%d kills and recoveries took %.1f s", len(CASES), time.monotonic() - started_s)
    assert set(shared.fired()) >= {(case.point, case.name) for case in CASES}
    assert shared.wrong() == []
    assert not armed.has_ended
    shared.wait_until_idle(armed)


def stopped(worker: WorkerProcess) -> list[int]:
    """The children that SIGSTOP holds."""
    stats = {pid: Path(f"/proc/{pid}/stat").read_text() for pid in worker.children()}
    return [pid for pid, text in stats.items() if text.rpartition(")")[2].split()[0] == "T"]


def test_a_process_that_slept_through_its_replacement_writes_nothing(shared: Scene, armed: WorkerProcess) -> None:
    """Stopped past its time to live, a process finds its step done by another, and neither step nor row doubled."""
    handles = [
        shared.enqueue(name, begin.s("x") | victim.s() | work.s(), seed=SEED) for name, victim in SLEEPERS.items()
    ]
    shared.settle_all(handles, within_s=RECOVERY_S)
    for pid in stopped(armed):
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: armed.log.count("step.superseded") >= len(SLEEPERS), what="the sleepers have woken up")
    assert shared.wrong() == []


def test_the_producer_dies_before_it_publishes(shared: Scene, armed: WorkerProcess) -> None:
    """A run that was committed by a process that died before publishing is found and performed."""
    program = f"from {APP} import begin, work\nfrom aos_workflow import durable\n"
    program += f"durable(begin.s('orphan') | work.s(), name='orphan').enqueue(seed={SEED})"
    variables = {**shared.stack.environment(APP), "AOS_FAULTS": "after_enqueue:kill9", "AOS_TESTING": "1"}
    died = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=variables, check=False)
    assert died.returncode == -9
    with psycopg2.connect(driver_url(shared.stack.database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM runs WHERE workflow = 'orphan'")
        ((id,),) = cursor.fetchall()
    assert shared.engine.handle(id).wait(timeout_s=RECOVERY_S).status == "succeeded"


def test_faults_outside_of_a_test_keep_a_worker_from_starting(stack: Stack) -> None:
    """AOS_FAULTS without AOS_TESTING=1 is refused before the first message."""
    worker = stack.start_worker(APP, concurrency=1, env={"AOS_FAULTS": "received:kill9"})
    worker.wait_until_ended()
    assert worker.returncode not in (0, None)
    assert "AOS_FAULTS is set outside of a test" in worker.log
