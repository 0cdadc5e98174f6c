"""How commands show things: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

#: A pipe has no width; nothing is folded into it, so that grep and awk see whole lines.
PIPE_WIDTH = 100_000
#: The longest value that a table shows, characters.
LONGEST_VALUE = 300
STYLES = {
    "succeeded": "green", "committed": "green", "failed": "red", "failing": "red", "lost": "red",
    "matched": "green", "ignored": "green", "diverged": "red", "error": "red",
    "cancelled": "yellow", "retry": "yellow", "deferred": "yellow", "running": "cyan", "ready": "cyan",
}  # fmt: skip


def json_option(command: Any) -> Any:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def print_json(document: object) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(document, indent=2, allow_nan=False))


def console(*, stderr: bool = False) -> Console:
    """Where people read; no colours and no folding when it is not a terminal, no colours with NO_COLOR."""
    from rich.console import Console

    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=None if is_terminal else PIPE_WIDTH)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Text | str]]) -> None:
    """Columns without lines, the first never folded. One whose name ends in ``>`` is aligned to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        name = column.removesuffix(">")
        justify: Literal["left", "right"] = "left" if name == column else "right"
        table.add_column(name, justify=justify, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    _print(table)


def print_facts(facts: Iterable[tuple[str, Text | str]]) -> None:
    """Name and value, one pair a line; facts without a value are left out."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        if value:
            table.add_row(name, value)
    _print(table)


def _print(table: Table) -> None:
    """Rich fills every line up to the table's width; what is not a terminal gets no trailing spaces."""
    terminal = console()
    if terminal.is_terminal:
        terminal.print(table)
        return
    with terminal.capture() as printed:
        terminal.print(table)
    for line in printed.get().splitlines():
        click.echo(line.rstrip())


def status_text(word: str) -> Text:
    """A status in its colour."""
    from rich.text import Text

    return Text(word, style=STYLES.get(word, ""))


def plain(value: object) -> Text:
    """Text that is shown as it is: brackets in it are no markup."""
    from rich.text import Text

    return Text(str(value))


def short_id(run_id: str) -> str:
    """The end of a run's id. Ids begin with their time, so those of one minute begin alike."""
    return run_id.rpartition("-")[2]


def shortened(value: object) -> str:
    """A JSON value on one line, at most 300 characters of it."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}… ({len(text)} characters)"


def moment(seconds: float | None) -> str:
    """Seconds since the epoch as local date and time; nothing for None."""
    return f"{datetime.fromtimestamp(seconds, tz=UTC).astimezone():%Y-%m-%d %H:%M:%S}" if seconds else ""


def duration(seconds: float | None) -> str:
    """12 ms, 3.4 s, 2 min 05 s, 3 h 12 min; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
