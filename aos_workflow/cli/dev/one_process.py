"""``aos dev --inline``: worker, beat and sweep in this one process, on SQLite and a broker in memory."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace

import click

from aos_workflow import reading
from aos_workflow.assembly import Runtime, use
from aos_workflow.cli.dev.ctrl_c import wish_to_stop
from aos_workflow.cli.dev.place import folder_for, golden_variables, tell, with_goldens
from aos_workflow.database import in_our_words, quick
from aos_workflow.errors import AosError
from aos_workflow.local_worker import LocalWorker, use_memory_broker
from aos_workflow.records import RunStatus
from aos_workflow.settings import Settings
from aos_workflow.upgrade import upgrade

#: How often it looks for runs that other processes have stored, seconds.
LOOK_EVERY_S = 0.25
#: How often it sweeps, seconds, unless AOS_SWEEP_EVERY_S says less.
SWEEP_EVERY_S = 0.5
#: How many new runs it takes in at one look.
MOST_AT_ONCE = 200

log = logging.getLogger("aos_workflow.dev")


def run_in_one_process(settings: Settings, *, concurrency: int) -> None:
    """Serve the app until Ctrl-C."""
    folder = folder_for(settings)
    settings = replace(
        settings,
        home=folder,
        database_url=settings.database_url or f"sqlite:///{folder / 'inline.db'}",
        broker_url="memory://",
        sweep_every_s=min(settings.sweep_every_s, SWEEP_EVERY_S),
    )
    settings = with_goldens(settings, folder)
    parts = use(Runtime(settings, kind="inline"))
    app = parts.load_app()
    use_memory_broker(app)
    upgrade(settings.database_url)
    _show_steps()
    with wish_to_stop() as wish:
        worker = LocalWorker(app, concurrency=concurrency)
        worker.start()
        try:
            tell(
                folder,
                {
                    "AOS_DATABASE_URL": settings.database_url,
                    "AOS_BROKER_URL": settings.broker_url,
                    "AOS_APP": settings.app,
                    **golden_variables(settings),
                },
            )
            known = _take_in(parts, set(), RunStatus.ENQUEUED, RunStatus.RUNNING, RunStatus.FAILING)
            while worker.is_alive and not wish.stop.wait(LOOK_EVERY_S):
                known = _take_in(parts, known, RunStatus.ENQUEUED)
        finally:
            click.echo("\nstopping")
            worker.stop()
            parts.close()


def _take_in(parts: Runtime, known: set[str], *which: RunStatus) -> set[str]:
    """Publish what runs in these states may do now, unless they are known; returns those in these states."""
    try:
        with in_our_words(), quick(parts.store.engine).connect() as connection:
            pages = [reading.runs_page(connection, status=status, limit=MOST_AT_ONCE) for status in which]
        waiting = {run.id for page in pages for run in page if not run.inline}
        for run_id in sorted(waiting - known):
            parts.engine.nudge(run_id)
    except AosError as error:
        log.warning("looking for new runs: %s", error)
        return known
    return waiting


def _show_steps() -> None:
    """One line per step on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    ours = logging.getLogger("aos_workflow")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False
