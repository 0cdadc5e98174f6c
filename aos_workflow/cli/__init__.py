"""The command ``aos``, also ``celery -A app aos ...``.

A command's module is imported when it is called, and what it needs is imported inside it: ``aos --help``
takes a fraction of a second. Reading commands take ``--json`` and then print one JSON document to stdout and
nothing else. What goes wrong is one line on stderr: "aos: what is wrong; what to do". Exit status 0: done,
1: it failed or cannot be done, 2: the command line is wrong, 130: Ctrl-C.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click

import aos_workflow
from aos_workflow.errors import AosError

#: Command -> its module and its line of the help, in that order. The module's attribute has the command's name.
COMMANDS = {
    "demo": ("demo", "See a worker killed in the middle of a job, and nothing lost."),
    "dev": ("dev", "Start everything: servers, a worker and a beat, in one command."),
    "worker": ("processes", "Start a worker; further options go to Celery."),
    "beat": ("processes", "Start a beat; further options go to Celery."),
    "run": ("run", "Start a run of a workflow."),
    "runs": ("runs", "Look at runs, cancel, resume, wait for them."),
    "lint": ("lint", "Find what would make a step give another result the next time."),
    "replay": ("replay", "Perform recorded runs again, sealed, and compare."),
    "explain": ("explain", "Name the cause of a divergence, with file and line."),
    "golden": ("golden", "Signed recordings of runs: verify, compare, re-sign, archive, prune."),
    "db": ("db", "The schema of the database: upgrade, check."),
}


class Commands(click.Group):
    """Loads commands when they are asked for, and puts errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (module, _) in COMMANDS.items() if find_spec(f"{__name__}.{module}")]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{COMMANDS[name][0]}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except AosError as error:
            click.echo(one_line(error), err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            ctx.exit(130)


def one_line(error: AosError) -> str:
    """What went wrong and what to do, on one line."""
    return "aos: " + " ".join(str(error).split())


@click.group(name="aos", cls=Commands)
@click.version_option(aos_workflow.__version__, message="aos %(version)s")
def aos() -> None:
    """Durable, deterministic workflows made of ordinary Celery canvases."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)  # as with python -m: your modules are found in the current folder


def main() -> None:
    """The console script."""
    aos(prog_name="aos")
