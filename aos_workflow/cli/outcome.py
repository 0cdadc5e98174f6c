"""Waiting for a run with a progress bar, and showing how it ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from aos_workflow import watching
from aos_workflow.cli import output
from aos_workflow.cli.history import output_of, run_document, run_duration_s
from aos_workflow.clock import monotonic_s
from aos_workflow.errors import WaitTimeout
from aos_workflow.records import Run, RunStatus

if TYPE_CHECKING:
    from aos_workflow.assembly import Runtime

#: How often the bar moves, seconds.
GLANCE_S = 0.2


def wait_for_end(parts: Runtime, run_id: str, *, timeout_s: float | None) -> None:
    """Block until the run ends; on a terminal a bar on stderr shows the steps. Raises WaitTimeout, RunNotFound."""
    if not sys.stderr.isatty():
        watching.wait_for_end(parts.store, run_id, timeout_s=timeout_s)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    deadline_s = None if timeout_s is None else monotonic_s() + timeout_s
    with Progress(*columns, console=output.console(stderr=True), transient=True) as bar:
        shown = bar.add_task("", total=None)
        while not (run := parts.store.run(run_id)).status.is_terminal:
            title = f"{run.workflow} {output.short_id(run.id)} {run.status.value}"
            bar.update(shown, description=title, completed=run.done.bit_count(), total=run.size)
            left_s = None if deadline_s is None else deadline_s - monotonic_s()
            try:
                patience_s = GLANCE_S if left_s is None else min(GLANCE_S, left_s)
                watching.wait_for_end(parts.store, run_id, timeout_s=patience_s)
            except WaitTimeout:
                if left_s is not None and left_s <= GLANCE_S:
                    raise


def show_outcome(parts: Runtime, run_id: str, *, as_json: bool) -> None:
    """How a run ended; leaves with exit status 1 unless it succeeded."""
    run: Run = parts.store.run(run_id)
    value = output_of(parts.store, run)
    at = parts.store.time()
    if as_json:
        output.print_json({**run_document(run, at), "output": value})
    else:
        succeeded = run.status is RunStatus.SUCCEEDED
        output.print_facts(
            [
                ("run", run.id),
                ("status", output.status_text(run.status.value)),
                ("hash", run.workflow_hash or ""),
                ("output", output.plain(output.shortened(value)) if succeeded else ""),
                ("error", output.plain(error_line(run))),
                ("duration", output.duration(run_duration_s(run, at))),
            ]
        )
    if run.status is not RunStatus.SUCCEEDED:
        click.get_current_context().exit(1)


def error_line(run: Run) -> str:
    """Where and why a run failed, on one line; empty if it did not."""
    error = run.error
    if error is None:
        return ""
    first = error.message.splitlines()[0] if error.message else ""
    return f"{error.address}: {error.type}: {first}" if error.address else f"{error.type}: {first}"
