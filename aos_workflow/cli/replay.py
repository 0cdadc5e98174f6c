"""``aos replay``: perform recorded runs again, and compare what comes out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from aos_workflow.cli import output
from aos_workflow.cli.configured import app_option, settings_with, with_recordings
from aos_workflow.cli.output import json_option

if TYPE_CHECKING:
    from aos_workflow.replay.crew import Crew
    from aos_workflow.replay.targets import Target

GOOD = ("matched", "ignored")


@click.command()
@click.argument("names", metavar="PATH|RUN...", nargs=-1, required=True)
@app_option
@click.option("--processes", type=click.IntRange(min=0), default=0, help="At once; 0: as many as there are cores.")
@click.option("--shuffle", type=int, metavar="SEED", help="Perform the steps of each run in another order.")
@click.option(
    "--timeout-s", type=click.FloatRange(min=0.1), default=120.0, show_default=True, help="The longest one may take."
)
@json_option
def replay(
    names: tuple[str, ...], app: str, processes: int, shuffle: int | None, timeout_s: float, as_json: bool
) -> None:
    """Replay goldens (files, folders) and runs (ids); exit status 1 unless every one gives the recorded answer.

    Each is performed again from its recording, in a process without store, queue, network or keys. Effects are
    answered from the recording.
    """
    with redirect_stdout(sys.stderr):  # a run's recording imports the user's modules, which may print
        parts = with_recordings(settings_with(app))
        targets = parts.loader.targets(names)
        results = replayed(parts.crew(processes=processes, shuffle=shuffle, timeout_s=timeout_s), targets)
    answer(results, show, as_json=as_json)


def answer(
    results: Sequence[dict[str, Any]], show: Callable[[Sequence[Mapping[str, Any]]], None], *, as_json: bool
) -> None:
    """Show results to people or programs; exit status 1 unless every one gives the recorded answer."""
    if as_json:
        output.print_json({"results": results})
    else:
        show(results)
    if any(result["verdict"] not in GOOD for result in results):
        sys.exit(1)


def counted(results: Sequence[Mapping[str, Any]]) -> str:
    """How many of each verdict: "3 matched, 1 diverged"."""
    counts = Counter(result["verdict"] for result in results)
    return ", ".join(f"{counts[word]} {word}" for word in ("matched", "ignored", "diverged", "error") if counts[word])


def replayed(crew: Crew, targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Every target's answer, in the order of the targets, with a progress bar on a terminal."""
    results: list[dict[str, Any]] = [{} for _ in targets]
    with progress("replaying", len(targets)) as step:
        for index, result in crew.replay(targets):
            results[index] = result
            step()
    return results


@contextmanager
def progress(what: str, total: int) -> Iterator[Any]:
    """A bar on stderr while it is a terminal; yields the call that moves it."""
    if not sys.stderr.isatty() or total < 2:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def show(results: Sequence[Mapping[str, Any]]) -> None:
    """A table of what did not match, and one line that counts."""
    bad = [result for result in results if result["verdict"] not in GOOD]
    if bad:
        output.print_table(
            ("golden or run", "workflow", "verdict", "step", "field", "recorded", "observed", "cause"),
            [_row(result) for result in bad],
        )
        click.echo()
    for result in results:
        for breach in result.get("undeclared") or ():
            where = f" at {breach['location']}" if breach["location"] else ""
            click.echo(f"{_name(result)}: refused {breach['what']}{where}; the output is the same", err=True)
    click.echo(f"{len(results)} replayed: {counted(results)}")
    if any(result["verdict"] == "diverged" for result in bad):
        click.echo("what caused it: aos explain " + " ".join(_name(result) for result in bad[:3]))


def _row(result: Mapping[str, Any]) -> tuple[Any, ...]:
    found = result["divergence"] or {}
    error = result.get("error") or {}
    cause = found.get("cause") or ""
    where = f"{cause} at {found['location']}" if found.get("location") else cause
    return (
        output.plain(_name(result)),
        output.plain(result["workflow"]),
        output.status_text(result["verdict"]),
        output.plain(found.get("address", "")),
        output.plain(found.get("path", "")),
        output.plain(output.shortened(found["recorded"]) if found else ""),
        output.plain(output.shortened(found["observed"]) if found else ""),
        output.plain(f"{error['message']}; {error['fix']}" if error else where),
    )


def _name(result: Mapping[str, Any]) -> str:
    return str(result["golden"] or result["run_id"])
