"""``aos run``: start a run, and if asked wait for its end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from aos_workflow.cli.configured import app_option, with_app
from aos_workflow.cli.output import json_option, print_json, short_id

LARGEST_SEED = 2**63 - 1


@click.command(name="run")
@click.argument("type_", metavar="TYPE")
@click.option("--input", "inputs", metavar="JSON|@FILE", help="Its inputs: JSON, or @file, or @- for stdin.")
@click.option("--seed", type=click.IntRange(0, LARGEST_SEED), help="Where its chance comes from.")
@click.option("--key", metavar="KEY", help="Idempotency key: the same key gives the same run.")
@click.option("--wait", is_flag=True, help="Wait for its end; exit status 1 unless it succeeds.")
@click.option("--timeout-s", type=click.FloatRange(min=0), help="Wait at most so long.")
@click.option("--here", is_flag=True, help="Perform it in this process, without a worker.")
@app_option
@json_option
def run(
    type_: str,
    inputs: str | None,
    seed: int | None,
    key: str | None,
    wait: bool,
    timeout_s: float | None,
    here: bool,
    app: str,
    as_json: bool,
) -> None:
    """Start a run of the workflow TYPE."""
    if timeout_s is not None and not wait:
        raise click.UsageError("--timeout-s goes with --wait")
    if here and (key is not None or timeout_s is not None):
        raise click.UsageError("--here goes neither with --key nor with --timeout-s")
    values = _read(inputs)
    parts = with_app(app, here=here)

    from aos_workflow.cli.history import run_document
    from aos_workflow.cli.outcome import show_outcome, wait_for_end

    if here:
        show_outcome(parts, parts.engine.run_here(type_, values, seed=seed).run_id, as_json=as_json)
        return
    handle = parts.engine.enqueue(type_, values, seed=seed, idempotency_key=key)
    if wait:
        wait_for_end(parts, handle.id, timeout_s=timeout_s)
        show_outcome(parts, handle.id, as_json=as_json)
    elif as_json:
        print_json(run_document(parts.store.run(handle.id), parts.store.time()))
    else:
        click.echo(f"run {handle.id} of {type_} is {handle.status.value}, see: aos runs show {short_id(handle.id)}")


def _read(written: str | None) -> Any:
    if written is None:
        return None

    from aos_workflow.canonical import parse
    from aos_workflow.errors import NotCanonical

    try:
        if written == "@-":
            text = sys.stdin.read()
        else:
            text = Path(written[1:]).read_text(encoding="utf-8") if written.startswith("@") else written
        return parse(text)
    except OSError as error:
        raise click.BadParameter(f"{written[1:]}: {error.strerror}", param_hint="--input") from None
    except (NotCanonical, UnicodeDecodeError) as error:
        raise click.BadParameter(str(error), param_hint="--input") from None
