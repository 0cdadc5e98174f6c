"""``aos demo``: a worker is killed in the middle of its work, another one goes on, and nothing is lost.

The job is ``examples/trips``, on embedded PostgreSQL and Valkey whatever is configured. What is claimed at the
end is read from the database (``claims``), and true, or the exit status is 1.

    story    what happens, in order
    stage    directory, servers, processes
    claims   rows of the database -> what holds; pure
    show     what people see
"""

from __future__ import annotations

import signal
import sys

import click

from aos_workflow.cli.output import json_option, print_json


@click.command(short_help="kill a worker in the middle of a job and see that nothing is lost")
@click.option("--rows", type=click.IntRange(1_000), default=60_000, show_default=True, help="Lines of data.")
@click.option("--parts", type=click.IntRange(2, 99), default=24, show_default=True, help="Files they are in.")
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the runs.")
@click.option("--keep", is_flag=True, help="Keep the directory with data, report, logs and database.")
@json_option
def demo(rows: int, parts: int, seed: int, keep: bool, as_json: bool) -> None:
    """Kill a worker in the middle of a real job and see that nothing is lost.

    Needs nothing: PostgreSQL and Valkey are started for the occasion, in a private directory that is removed
    at the end. Your own settings, database and broker are not used. Takes about a minute.
    """
    from aos_workflow.cli.demo.show import Narrator
    from aos_workflow.cli.demo.stage import DemoFailed
    from aos_workflow.cli.demo.story import Play, perform, sum_up

    if rows < 50 * parts:
        raise click.UsageError(f"{rows} lines are too few for {parts} files, ask for --rows {50 * parts} or more")
    _clean_up_when_told_to_end()
    say = Narrator(sys.stderr if as_json else sys.stdout)
    try:
        outcome = perform(Play(rows=rows, parts=parts, seed=seed), say, keep=keep)
    except DemoFailed as failure:
        for line in failure.tail:
            click.echo(f"  | {line}", err=True)
        raise
    sum_up(outcome, say)
    if as_json:
        print_json(outcome.as_json())
    if not outcome.holds:
        broken = ", ".join(claim.name for claim in outcome.claims if not claim.holds)
        click.echo(f"aos: what the demo claims is not true here: {broken}; look closer with: aos demo --keep", err=True)
        sys.exit(1)


def _clean_up_when_told_to_end() -> None:
    """SIGTERM and SIGHUP unwind the stack, as Ctrl-C does anyway."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup
            signal.signal(signum, lambda received, _frame: sys.exit(128 + received))
