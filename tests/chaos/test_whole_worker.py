"""A whole worker dies at each point of a step, and a new one is started; what does the database tell afterwards?"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import pytest

from tests.chaos.crash import RECOVERY_S, Scene
from tests.chaos.steps import POINTS, SHAPES, Case, cases_of
from tests.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.worker, pytest.mark.timeout(300)]
log = logging.getLogger(__name__)

SEED = 20261123
#: Where the worker is killed in every test run; ``make chaos`` does it at every point of every shape.
POINTS_OF = {
    "chain": POINTS,
    "fan_out": ("after_commit", "after_publish"),
    "sibling": ("before_commit", "after_commit", "after_publish"),
    "join": ("after_claim", "after_commit"),
    "replace": ("after_commit",),
    "session": ("in_commit", "after_commit"),
}


@pytest.mark.parametrize("shape", POINTS_OF)
def test_the_worker_dies(shape: str, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    """After the whole worker is killed, a new one finishes the run from where it was."""
    cases = [case for case in cases_of(shape) if case.point in POINTS_OF[shape]]
    _die_and_recover(Scene(stack, tmp_path_factory.mktemp(shape)), cases)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_the_worker_dies_anywhere(shape: str, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    """After the whole worker is killed at any point of any shape, a new one finishes the run."""
    _die_and_recover(Scene(stack, tmp_path_factory.mktemp(shape)), cases_of(shape))


def _die_and_recover(scene: Scene, cases: Sequence[Case]) -> None:
    rules = [f"{case.point}:kill9group,at={case.name}" for case in cases]
    worker = scene.worker(rules, concurrency=1)
    for case in cases:
        handle = scene.enqueue(case.name, case.canvas(), seed=SEED)
        worker.wait_until_ended()
        worker = scene.worker(rules, concurrency=1).wait_until_ready()
        started_s = time.monotonic()
        handle.wait(timeout_s=RECOVERY_S)
        log.info("%s recovered in %.2f s", case.name, time.monotonic() - started_s)
    assert scene.fired() == [(case.point, case.name) for case in cases]
    assert scene.wrong() == []
    worker.kill()
