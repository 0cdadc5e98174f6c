"""What the demo shows to people: lines with the seconds since its start, bars on a terminal, a table.

Without a terminal a bar is a line per quarter, so that a log stays readable.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO

from aos_workflow.cli.demo.claims import Claim
from aos_workflow.clock import monotonic_s

INDENT = " " * 9
EXCERPT_LINES = 20
SHOWN = 12  # steps that break a claim


class Narrator:
    """Tells what happens on ``stream``; ``seconds`` counts from when it was made."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a tick mark must not end the demo on an ASCII terminal
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._began_s = monotonic_s()

    @property
    def seconds(self) -> float:
        return monotonic_s() - self._began_s

    def act(self, title: str) -> None:
        """The headline of what comes now."""
        self._console.print(f"\n{self.seconds:5.1f} s  {title}", style="bold")

    def line(self, text: str, style: str | None = None) -> None:
        self._console.print(f"{INDENT}{text}".rstrip(), style=style)

    def claims(self, claims: Iterable[Claim]) -> None:
        """Claims with their verdicts, and what breaks those that something breaks."""
        for claim in claims:
            self.line(f"{'✓' if claim.holds else '✗'} {claim.text}", "green" if claim.holds else "bold red")
            if not claim.holds:
                self.line(f"  not so: {', '.join(claim.broken_by[:SHOWN])}", "red")

    def excerpt(self, text: str) -> None:
        """The first lines of a text."""
        lines = text.splitlines()
        for line in lines[:EXCERPT_LINES]:
            self.line(line, style="cyan")
        if len(lines) > EXCERPT_LINES:
            self.line(f"... and {len(lines) - EXCERPT_LINES} more lines", style="dim")

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and values, side by side."""
        self._console.print()
        if not self._console.is_terminal:
            width = max(len(name) for name, _ in rows)
            for name, value in rows:
                self.line(f"{name:<{width}}  {value}")
            return
        from rich.table import Table

        table = Table(show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, value)
        self._console.print(table, soft_wrap=False)

    @contextlib.contextmanager
    def bar(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Progress; yields the call that says how far it is."""
        if not self._console.is_terminal:
            yield self._quarters(what, total)
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn(INDENT + "{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(what, total=total)
            yield lambda count: progress.update(task, completed=count)

    def _quarters(self, what: str, total: int) -> Callable[[int], None]:
        told = -1

        def show(count: int) -> None:
            nonlocal told
            if count * 4 // total > told:
                told = count * 4 // total
                self.line(f"{what}: {count} of {total}")

        return show
