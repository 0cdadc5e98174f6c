"""What a command works with: the parts of this process, configured by the environment and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aos_workflow.errors import SettingsError
from aos_workflow.settings import Settings

if TYPE_CHECKING:
    from aos_workflow.assembly import Runtime

Command = TypeVar("Command", bound=Callable[..., Any])


def app_option(command: Command) -> Command:
    """``--app MODULE``, which goes before AOS_APP."""
    text = "The module with the Celery app and the workflows.  [env: AOS_APP]"
    return click.option("--app", metavar="MODULE", default="", help=text)(command)


def settings_with(app: str) -> Settings:
    """The settings of the environment; ``app`` (or ``celery -A``) goes before AOS_APP."""
    settings = Settings.from_environment()
    named = app or _app_of_celery_command()
    return replace(settings, app=named) if named else settings


def with_store() -> Runtime:
    """The parts for a command that asks the database and needs no app.

    Raises SettingsError without a database, SchemaMismatch if its schema is not ours.
    """
    settings = settings_with("")
    settings.required_database_url()  # said before a second is spent on imports
    return _parts(settings, has_store=True)


def with_app(app: str, *, here: bool = False) -> Runtime:
    """The parts for a command that starts steps: the app is loaded, and with it its workflows.

    ``here``: they are performed in this process, so no database is needed. Raises SettingsError if there is
    no app, it cannot be imported, or the database is missing; SchemaMismatch.
    """
    settings = settings_with(app)
    if not here:
        settings.required_database_url()
    require_app(settings)
    parts = _parts(settings, has_store=not here)
    loaded = parts.load_app()
    if settings.broker_url:
        loaded.conf.broker_url = settings.broker_url
    return parts


def with_recordings(settings: Settings) -> Runtime:
    """The parts for a command that performs recorded runs again: an app, and a database only if one is configured.

    Raises SettingsError if there is no app; SchemaMismatch.
    """
    require_app(settings)
    return _parts(settings, has_store=bool(settings.database_url))


def require_app(settings: Settings) -> None:
    """Raises SettingsError when no module with workflows is named."""
    if not settings.app:
        raise SettingsError("AOS_APP is not set", fix="name the module with your Celery app: --app yourmodule")


def _parts(settings: Settings, *, has_store: bool) -> Runtime:
    from aos_workflow.assembly import Runtime, use

    parts = use(Runtime(settings, kind="cli"))
    if has_store:
        parts.store.check_schema()
    return parts


def _app_of_celery_command() -> str:
    """What ``celery -A`` names, when this is ``celery -A module aos ...``."""
    context = click.get_current_context(silent=True)
    named = context.find_root().params.get("app") if context and context.find_root() is not context else ""
    return named if isinstance(named, str) else ""
