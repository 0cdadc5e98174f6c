"""``aos runs``: look at runs, cancel them, let them go on, wait for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from aos_workflow.cli import output
from aos_workflow.cli.configured import app_option, with_app, with_store
from aos_workflow.cli.output import json_option
from aos_workflow.records import Run, RunStatus

if TYPE_CHECKING:
    from aos_workflow.assembly import Runtime
    from aos_workflow.cli.history import History, StepLine


@click.group()
def runs() -> None:
    """Look at runs and act on them. A run's id may be shortened to its beginning or its end."""


@runs.command(name="list")
@click.option("--workflow", metavar="NAME", help="Only this workflow's.")
@click.option("--status", type=click.Choice([status.value for status in RunStatus]), help="Only these.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many.")
@click.option("--before", metavar="ID", help="Only those that are older than this one.")
@json_option
def list_(workflow: str | None, status: str | None, limit: int, before: str | None, as_json: bool) -> None:
    """The newest runs first."""
    store = with_store().store

    from aos_workflow import reading
    from aos_workflow.cli.history import run_document, run_duration_s
    from aos_workflow.database import in_our_words, quick

    with in_our_words(), quick(store.engine).connect() as connection:
        page = reading.runs_page(
            connection,
            workflow=workflow,
            status=RunStatus(status) if status else None,
            before=reading.run_id_like(connection, before) if before else None,
            limit=limit,
        )
    at = store.time()
    if as_json:
        output.print_json([run_document(run, at) for run in page])
        return
    rows = [
        (
            output.short_id(run.id),
            output.plain(run.workflow),
            output.status_text(run.status.value),
            f"{run.done.bit_count()}/{run.size}",
            output.moment(run.created_at),
            output.duration(run_duration_s(run, at)),
        )
        for run in page
    ]
    output.print_table(("run", "workflow", "status", "steps>", "created", "duration>"), rows)


@runs.command()
@click.argument("run_id", metavar="ID")
@json_option
def show(run_id: str, as_json: bool) -> None:
    """A run, its steps in plan order, and why it failed."""
    parts = with_store()

    from aos_workflow.cli.history import look_at

    history = look_at(parts.store, _full_id(parts, run_id))
    if as_json:
        output.print_json(history.as_json())
    else:
        _show_facts(history)
        _show_steps(history)
        _show_error(history.run)


@runs.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@json_option
def cancel(ids: tuple[str, ...], as_json: bool) -> None:
    """Start no further step of these runs; what is under way ends and keeps its checkpoint."""
    parts = with_store()
    _act(parts, ids, parts.engine.cancel, as_json=as_json)


@runs.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@app_option
@json_option
def resume(ids: tuple[str, ...], app: str, as_json: bool) -> None:
    """Let failed or cancelled runs go on from their last checkpoints."""
    parts = with_app(app)
    _act(parts, ids, parts.engine.resume, as_json=as_json)


runs.add_command(resume, "retry")


@runs.command()
@click.argument("run_id", metavar="ID")
@click.option("--timeout-s", type=click.FloatRange(min=0), help="Wait at most so long.")
@json_option
def wait(run_id: str, timeout_s: float | None, as_json: bool) -> None:
    """Wait for a run's end and show how it ended; exit status 1 unless it succeeded."""
    parts = with_store()

    from aos_workflow.cli.outcome import show_outcome, wait_for_end

    found = _full_id(parts, run_id)
    wait_for_end(parts, found, timeout_s=timeout_s)
    show_outcome(parts, found, as_json=as_json)


def _full_id(parts: Runtime, written: str) -> str:
    from aos_workflow import reading
    from aos_workflow.database import in_our_words, quick

    with in_our_words(), quick(parts.store.engine).connect() as connection:
        return reading.run_id_like(connection, written)


def _act(parts: Runtime, ids: tuple[str, ...], act: Callable[[str], Run], *, as_json: bool) -> None:
    """Act on every one of these runs, or on none if one of them is not known."""
    changed = [act(run_id) for run_id in [_full_id(parts, written) for written in ids]]
    if as_json:
        output.print_json([{"id": run.id, "status": run.status.value} for run in changed])
        return
    for run in changed:
        click.echo(f"run {run.id} is {run.status.value}")


def _show_facts(history: History) -> None:
    from aos_workflow.cli.history import run_duration_s

    run = history.run
    succeeded = run.status is RunStatus.SUCCEEDED
    output.print_facts(
        [
            ("run", run.id),
            ("workflow", output.plain(run.workflow)),
            ("status", output.status_text(run.status.value)),
            ("steps", f"{run.done.bit_count()} of {run.size} committed"),
            ("seed", str(run.seed)),
            ("key", output.plain(run.idempotency_key or "")),
            ("inputs", output.plain(output.shortened(history.inputs))),
            ("output", output.plain(output.shortened(history.output)) if succeeded else ""),
            ("hash", run.workflow_hash or ""),
            ("created", output.moment(run.created_at)),
            ("started", output.moment(run.started_at)),
            ("finished", output.moment(run.finished_at)),
            ("duration", output.duration(run_duration_s(run, history.at))),
            ("performed", "in the process that started it" if run.inline else ""),
        ]
    )


def _show_steps(history: History) -> None:
    click.echo()
    output.print_table(
        ("step", "status", "attempts>", "duration>", "worker"),
        [
            (
                output.plain(step.address),
                output.status_text(step.status),
                str(step.attempts or ""),
                output.duration(step.duration_s),
                _worker(step),
            )
            for step in history.steps
        ],
    )


def _worker(step: StepLine) -> str:
    return f"{step.worker_id[:10]} pid {step.pid}" if step.worker_id else ""


def _show_error(run: Run) -> None:
    if run.error is None:
        return
    where = f" at {run.error.address}" if run.error.address else ""
    click.echo()
    output.print_facts([(f"failed{where}", output.plain(f"{run.error.type}: {run.error.message}"))])
    if run.error.traceback:
        click.echo()
        click.echo(run.error.traceback.rstrip())
