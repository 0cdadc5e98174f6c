"""Many runs of all shapes while workers die, messages vanish and come twice, and connections are cut, at random.

AOS_CHAOS_RUNS    how many runs (120)
AOS_CHAOS_KILLS   how many deeds of the nemesis (16); the runs are enqueued between them
AOS_CHAOS_SEED    what to repeat; printed when the test fails
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from celery import group

from tests.chaos.crash import Scene
from tests.chaos.nemesis import Nemesis
from tests.chaos.steps import begin, expand, join, near, pay, work
from tests.stack import Stack, driver_url

RUNS = int(os.environ.get("AOS_CHAOS_RUNS", "120"))
DEEDS = int(os.environ.get("AOS_CHAOS_KILLS", "16"))
SEED = int(os.environ.get("AOS_CHAOS_SEED", "0")) or secrets.randbelow(10**6)
STEP_S = 0.05
#: How many different runs there are of each flow; each has a twin that is left in peace.
SEEDS = 8
#: Between two deeds, seconds: shorter than a worker's start, so that some are killed while they start.
PAUSE_S = (0.2, 1.5)

pytestmark = [pytest.mark.chaos, pytest.mark.worker, pytest.mark.timeout(180 + 4 * DEEDS + RUNS // 2)]
log = logging.getLogger(__name__)

FLOWS: dict[str, Callable[[], Any]] = {
    "line": lambda: begin.s("x") | work.s() | pay.s() | work.s() | work.s() | pay.s(),
    "fan": lambda: begin.s("x") | group(work.s() | pay.s(), work.s(), work.s()) | join.s() | work.s(),
    "wide": lambda: group(work.s(i) for i in range(10)) | join.s() | pay.s(),
    "nested": lambda: (
        group(begin.s(1) | group(work.s(), pay.s()) | join.s(), work.s(2) | near.s()) | join.s() | near.s()
    ),
    "growing": lambda: begin.s("x") | expand.s() | group(expand.s(), work.s()) | join.s(),
}


def test_random_kills(stack: Stack, tmp_path: Path) -> None:
    """Whatever dies, vanishes or comes twice at random, invariants 1 to 6 hold for every run."""
    log.info("repeat with: AOS_CHAOS_SEED=%d AOS_CHAOS_RUNS=%d AOS_CHAOS_KILLS=%d", SEED, RUNS, DEEDS)
    chance = random.Random(SEED)
    scene = Scene(stack, tmp_path)
    canvases: list[tuple[str, Any]] = [(name, build()) for name, build in FLOWS.items()]
    nemesis = Nemesis(scene, chance, step_s=STEP_S)
    try:
        nemesis.rest()
        handles = []
        for deed in range(DEEDS):
            for number in range(deed * RUNS // DEEDS, (deed + 1) * RUNS // DEEDS):
                name, canvas = canvases[number % len(canvases)]
                handles.append(scene.enqueue(name, canvas, seed=number % SEEDS))
            _let_them_work(chance.uniform(*PAUSE_S))
            nemesis.act()
        nemesis.rest()
        started_s = time.monotonic()
        scene.settle_all(handles, within_s=60 + RUNS / 4)
        log.info("%s; all ended %.1f s after", dict(nemesis.done), time.monotonic() - started_s)
        assert scene.wrong() == [], f"AOS_CHAOS_SEED={SEED}"
        assert len(handles) == RUNS
        log.info("lost attempts: %s", _count(stack, "SELECT count(*) FROM attempts WHERE state = 'lost'"))
        assert _count(stack, "SELECT count(*) FROM attempts WHERE state = 'lost'"), "nothing was killed in the act"
    finally:
        nemesis.close()


def _let_them_work(duration_s: float) -> None:
    """The pause is part of the chance, not a wait for anything."""
    time.sleep(duration_s)


def _count(stack: Stack, statement: str) -> int:
    with psycopg2.connect(driver_url(stack.database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        ((count,),) = cursor.fetchall()
    return int(count)
