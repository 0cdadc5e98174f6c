"""``aos dev``: everything in one command, for the machine you write workflows on."""

from __future__ import annotations

import os

import click

from aos_workflow.cli.configured import app_option, require_app, settings_with

MOST_PROCESSES = 4


@click.command()
@app_option
@click.option("--inline", is_flag=True, help="One process, SQLite, no servers; needs nothing but Python.")
@click.option("-c", "--concurrency", type=click.IntRange(1), help="Steps at a time.  [default: CPUs, at most 4]")
def dev(app: str, inline: bool, concurrency: int | None) -> None:
    """Start everything in one command; Ctrl-C stops it.

    PostgreSQL and Valkey from wheels (what AOS_DATABASE_URL and AOS_BROKER_URL name is used instead), the
    schema, a worker and a beat. Files are in AOS_HOME or ./.aos, and kept for the next time.
    """
    settings = settings_with(app)
    at_once = concurrency or min(MOST_PROCESSES, os.cpu_count() or 1)
    if inline:
        require_app(settings)

        from aos_workflow.cli.dev.one_process import run_in_one_process

        run_in_one_process(settings, concurrency=at_once)
    else:
        from aos_workflow.cli.dev.everything import run_everything

        run_everything(settings, concurrency=at_once)
