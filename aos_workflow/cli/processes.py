"""``aos worker`` and ``aos beat``: prepare the environment, look whether the schema is right, become Celery.

What Celery or a metrics library reads when it is imported must be in the environment before the process
starts; so this process replaces itself (exec) by ``python -m celery -A workers.app worker ...``.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

import click

import aos_workflow
from aos_workflow.cli.configured import app_option, require_app, settings_with, with_store
from aos_workflow.errors import SettingsError
from aos_workflow.settings import Settings, environment_with

#: Where ``workers/`` and ``beat/`` are in a checkout: beside the package.
CHECKOUT = Path(aos_workflow.__file__).parents[1]
SERVING_APP = "workers.app"
LEASE_SCHEDULER = "beat.scheduler:LeaseScheduler"
#: Celery logs every message it takes at INFO, which costs half a worker's speed; steps are logged by us.
WORKER_DEFAULTS = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle")
BEAT_DEFAULTS = ("--loglevel", "INFO")

_to_celery = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": True}


@click.command(context_settings=_to_celery)
@app_option
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[CELERY OPTIONS]...")
def worker(app: str, options: tuple[str, ...]) -> None:
    """Start a worker.

    Further options go to ``celery worker`` and win over ours: -c 4, -P threads, -Q queue, -l INFO ...
    """
    settings, rest = _checked(app, options)
    _become(worker_command(settings, rest), process_environment(settings))


@click.command(context_settings=_to_celery)
@app_option
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[CELERY OPTIONS]...")
def beat(app: str, options: tuple[str, ...]) -> None:
    """Start a beat. Any number may run: one leads, another takes over within seconds.

    Further options go to ``celery beat``.
    """
    settings, rest = _checked(app, options)
    _become(beat_command(settings, rest), process_environment(settings))


def worker_command(settings: Settings, options: Sequence[str] = (), *, quiet: bool = False) -> list[str]:
    """What runs a worker for AOS_APP; of an option that is given twice Celery takes the last."""
    return [*_celery(settings, quiet), "worker", *WORKER_DEFAULTS, *options]


def beat_command(settings: Settings, options: Sequence[str] = (), *, quiet: bool = False) -> list[str]:
    """What runs a beat. Where ``beat/`` is not, it is Celery's own, which must be alone and keeps a file."""
    if _is_ours("beat", "scheduler.py"):
        keeping = ["--scheduler", LEASE_SCHEDULER]
    else:
        keeping = ["--schedule", str(home_folder(settings) / "celerybeat-schedule")]
    return [*_celery(settings, quiet), "beat", *BEAT_DEFAULTS, *keeping, *options]


def process_environment(settings: Settings) -> dict[str, str]:
    """The environment of a worker or beat with these settings."""
    inherited = environment_with()
    paths = [path for path in inherited.get("PYTHONPATH", "").split(os.pathsep) if path]
    if (CHECKOUT / "workers").is_dir() and str(CHECKOUT) not in paths:
        paths.append(str(CHECKOUT))  # last: nothing of the user's is hidden by it
    changes = {
        "PYTHONUNBUFFERED": "1",
        "AOS_DATABASE_URL": settings.database_url,
        "AOS_BROKER_URL": settings.broker_url,
        "AOS_REDIS_URL": settings.redis_url,
        "AOS_APP": settings.app,
        "PYTHONPATH": os.pathsep.join(paths),
    }
    if settings.broker_url and not _is_ours("workers", "app.py"):
        # workers/app.py would set it; Celery itself reads this.
        changes["CELERY_BROKER_URL"] = inherited.get("CELERY_BROKER_URL") or settings.broker_url
    if not inherited.get("PROMETHEUS_MULTIPROC_DIR"):
        changes["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics_folder(settings))
    return environment_with(**{name: value for name, value in changes.items() if value})


def home_folder(settings: Settings) -> Path:
    """AOS_HOME if it can be written to, else a folder of this user's below the system's temporary one."""
    private = Path(tempfile.gettempdir()) / f"aos-{os.geteuid()}"
    for folder, mode in ((settings.home, 0o755), (private, 0o700)):
        try:
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and not _is_foreign(folder):
            return folder
    raise SettingsError(f"AOS_HOME={str(settings.home)!r} cannot be written to", fix="name a folder of your own")


def _is_foreign(folder: Path) -> bool:
    """Did somebody else make this folder, where anybody may make folders?"""
    everybody = folder.parent.stat().st_mode & stat.S_IWOTH
    return bool(everybody) and folder.stat().st_uid != os.geteuid()


def _metrics_folder(settings: Settings) -> Path:
    folder = home_folder(settings) / "metrics"
    folder.mkdir(exist_ok=True)
    return folder


def _celery(settings: Settings, quiet: bool) -> list[str]:
    app = SERVING_APP if _is_ours("workers", "app.py") else settings.app
    return [sys.executable, "-m", "celery", *(["--quiet"] if quiet else []), "-A", app]


def _is_ours(package: str, module: str) -> bool:
    """Would a child that is started here import our ``workers`` or ``beat``, and not another of that name?"""
    spec = PathFinder.find_spec(package, [os.getcwd(), *sys.path, str(CHECKOUT)])
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = Path(places[0], module) if places else None
    return found is not None and found.is_file() and "aos_workflow" in found.read_text(encoding="utf-8")


def _checked(app: str, options: Sequence[str]) -> tuple[Settings, list[str]]:
    """The settings, once the app is named and the schema is right, and the options without Celery's own ``-A``."""
    named, rest = app, []
    words = iter(options)
    for word in words:
        if word == "-A":
            named = named or next(words, "")
        else:
            rest.append(word)
    settings = settings_with(named)
    require_app(settings)
    with_store().close()
    return settings, rest


def _become(command: list[str], environment: dict[str, str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, environment)
