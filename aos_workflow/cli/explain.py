"""``aos explain``: why a recorded run gives another answer now, and which line of the user's code it is."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from aos_workflow.cli import output
from aos_workflow.cli.configured import app_option, settings_with, with_recordings
from aos_workflow.cli.output import json_option
from aos_workflow.cli.replay import answer, counted, progress

if TYPE_CHECKING:
    from aos_workflow.assembly import Runtime


@click.command()
@click.argument("names", metavar="PATH|RUN...", nargs=-1, required=True)
@app_option
@json_option
def explain(names: tuple[str, ...], app: str, as_json: bool) -> None:
    """Name the cause of a divergence in goldens (files, folders) and runs (ids), with file and line.

    The first divergent step is performed again under one control at a time: other hash seed, clock, environment,
    time zone, folder, order. What would diverge elsewhere only is found too. Exit status 1 on any divergence.
    """
    with redirect_stdout(sys.stderr):  # a run's recording imports the user's modules, which may print
        results = _explained(with_recordings(settings_with(app)), names)
    answer(results, show, as_json=as_json)


def _explained(parts: Runtime, names: Sequence[str]) -> list[dict[str, Any]]:
    targets = parts.loader.targets(names)
    with progress("explaining", len(targets)) as step:
        return parts.explain(targets, tell=lambda _: step())


def show(results: Sequence[Mapping[str, Any]]) -> None:
    """What diverged, one paragraph each, and one line that counts."""
    for result in results:
        if result["divergence"]:
            _show_divergence(result, result["divergence"])
        elif result["error"]:
            error = result["error"]
            click.echo(f"{_name(result)}: {error.get('message')}; {error.get('fix') or 'see the log'}\n")
    click.echo(f"{len(results)} explained: {counted(results)}")


def _show_divergence(result: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    woken_by = result.get("woken_by")
    output.print_facts(
        (
            ("golden", output.plain(result["golden"] or "")),
            ("workflow", output.plain(result["workflow"])),
            ("run", output.plain(result["run_id"])),
            ("step", output.plain(found["address"])),
            ("field", output.plain(found["path"] or "(the whole output)")),
            ("recorded", output.plain(output.shortened(found["recorded"]))),
            ("observed", output.plain(output.shortened(found["observed"]))),
            ("shows with", output.plain(f"{woken_by}; as it is here, the replay matches") if woken_by else ""),
            ("cause", output.status_text(found["cause"])),
            ("where", output.plain(found["location"] or "not found")),
            ("", output.plain(_source_line(found["location"]))),
            ("fix", output.plain(found["fix"])),
        )
    )
    click.echo()


def _source_line(location: str | None) -> str:
    if not location:
        return ""
    file, _, line = location.rpartition(":")
    return linecache.getline(file, int(line)).strip()


def _name(result: Mapping[str, Any]) -> str:
    return str(result["golden"] or result["run_id"])
