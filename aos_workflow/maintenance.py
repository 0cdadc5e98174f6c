"""Maintenance: what the fleet does for itself, one turn at a time.

Every worker's caretaker takes turns (lifecycle.py), and so does whichever worker gets beat's tick,
the task ``aos.sweep``. Who comes too early does nothing, so it does not matter how many ask.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Task, shared_task

from aos_workflow import wiring
from aos_workflow.errors import StoreUnavailable
from aos_workflow.fleet import this_host
from aos_workflow.membership import is_running

log = logging.getLogger("aos_workflow.fleet")

#: The name of the task that beat's tick starts, and of the turn in the ``ticks`` table.
SWEEP, TURN = "aos.sweep", "sweep"
#: How often the fleet looks for goldens that are wanted and not there, seconds.
GOLDENS_TURN, GOLDENS_EVERY_S = "goldens", 15.0


def take_turn(runtime: Any, *, every_s: float) -> int:
    """Bury the dead; sweep if there were any, or if it is time again. Returns how many steps were published.

    ``every_s``: the fleet's interval between two sweeps, whoever makes them.
    """
    fleet = runtime.fleet
    dead = fleet.bury(this_host(), is_running)
    if dead:
        log.warning("processes died: %s", ", ".join(dead))
    # A little less than the interval: a caretaker that wakes a moment early must not wait for a whole one more.
    if not dead and not fleet.take_turn(TURN, every_s * 0.9):
        return 0
    published: int = runtime.engine.sweep()
    if runtime.settings.signs_goldens and fleet.take_turn(GOLDENS_TURN, GOLDENS_EVERY_S):
        runtime.engine.publish_goldens()
    if published:
        log.info("the sweep published %d steps", published)
    return published


@shared_task(name=SWEEP, base=Task, ignore_result=True)  # type: ignore[untyped-decorator]
def sweep() -> int:
    """One turn, in the worker that got beat's tick; returns how many steps were published."""
    runtime = wiring.runtime()
    try:
        return take_turn(runtime, every_s=runtime.settings.sweep_every_s)
    except StoreUnavailable as error:
        log.warning("the next tick will try again: %s", error)
        return 0
