"""``aos db``: bring the database's schema to the one this code speaks, or ask whether it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from aos_workflow.cli import one_line, output
from aos_workflow.cli.output import json_option
from aos_workflow.errors import SchemaMismatch
from aos_workflow.settings import Settings

#: How ``aos db check`` exits when the schema is another one; 1 means that it could not be asked.
EXIT_OTHER_SCHEMA = 3

Command = TypeVar("Command", bound=Callable[..., Any])


def url_option(command: Command) -> Command:
    """``--database-url URL``, which goes before AOS_DATABASE_URL."""
    return click.option("--database-url", metavar="URL", default="", help="[env: AOS_DATABASE_URL]")(command)


@click.group()
def db() -> None:
    """The schema of the database."""


@db.command()
@click.option("--sql", "as_sql", is_flag=True, help="Print the SQL for an empty database; connect to nothing.")
@url_option
@json_option
def upgrade(as_sql: bool, database_url: str, as_json: bool) -> None:
    """Run the migrations that the database lacks.

    Any number of processes may do this at once; doing it again changes nothing.
    """
    from aos_workflow.upgrade import current
    from aos_workflow.upgrade import upgrade as bring_up

    if as_sql:
        _print_sql(database_url, as_json)
        return
    url = _configured(database_url)
    before = current(url)
    revision = bring_up(url)
    if as_json:
        output.print_json({"before": before, "revision": revision, "changed": before != revision})
    elif before == revision:
        click.echo(f"the schema is at {revision} already")
    else:
        click.echo(f"the schema is at {revision} now, before it was at {before or 'nothing'}")


@db.command()
@url_option
@json_option
def check(database_url: str, as_json: bool) -> None:
    """Is the schema the one this code speaks? Exit status 0 if it is, 3 if it is older or newer."""
    from aos_workflow.schema import REVISION, require_revision
    from aos_workflow.upgrade import current

    found = current(_configured(database_url))
    if as_json:
        output.print_json({"current": found == REVISION, "revision": found, "wanted": REVISION})
    try:
        require_revision(found)
    except SchemaMismatch as mismatch:
        click.echo(one_line(mismatch), err=True)
        sys.exit(EXIT_OTHER_SCHEMA)
    if not as_json:
        click.echo(f"the schema is at {found}, which this code speaks")


def _print_sql(database_url: str, as_json: bool) -> None:
    from aos_workflow.database import normalised_url
    from aos_workflow.schema import REVISION
    from aos_workflow.upgrade import offline_sql

    url = database_url or Settings.from_environment().database_url
    dialect = normalised_url(url).get_backend_name() if url else "postgresql"
    script = offline_sql(dialect)
    if as_json:
        output.print_json({"dialect": dialect, "revision": REVISION, "sql": script})
    else:
        click.echo(script, nl=False)


def _configured(database_url: str) -> str:
    return database_url or Settings.from_environment().required_database_url()
