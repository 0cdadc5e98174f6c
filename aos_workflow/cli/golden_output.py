"""How ``aos golden`` shows verdicts, goldens and differences, and its bar for many files."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aos_workflow.cli import output

if TYPE_CHECKING:
    from rich.text import Text

    from aos_workflow.golden import Golden
    from aos_workflow.goldens.comparing import Difference
    from aos_workflow.goldens.verdict import Finding

#: From how many files on a progress bar is worth its line, and how many valid ones a table lists.
MANY = 20


@contextmanager
def progress(doing: str, total: int) -> Iterator[Callable[[object], None]]:
    """A bar on stderr while people look at many files; what is yielded is called once for each."""
    if total < MANY or not sys.stderr.isatty():
        yield lambda _each: None
        return
    from rich.progress import Progress

    with Progress(console=output.console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda _each: bar.advance(task)


def show_findings(findings: Sequence[Finding], expired: int) -> None:
    """A table (of all, or of the remarkable ones among many) and the count of each verdict."""
    wrong = [finding for finding in findings if not finding.is_valid]
    noted = [finding for finding in findings if finding.is_valid and finding.note]
    show_rows(findings if len(findings) <= MANY else [*wrong, *noted[:MANY]])
    counts = Counter(finding.verdict.value for finding in findings)
    summary = ", ".join(f"{number} {verdict}" for verdict, number in counts.items()) or "there are no goldens"
    gone = f"; {expired} older ones are gone, as the retention allows" if expired else ""
    click.echo(summary + gone)


def show_rows(findings: Sequence[Finding]) -> None:
    """One line for each finding, and what to do about them; nothing for none."""
    if not findings:
        return
    rows = [
        (
            output.plain(Path(finding.path).name),
            _verdict_text(finding),
            output.plain(finding.workflow or ""),
            output.plain(finding.signed_by or finding.key_id or ""),
            output.plain(finding.reason or finding.note),
        )
        for finding in findings
    ]
    output.print_table(("golden", "verdict", "workflow", "key", "what"), rows)
    click.echo()
    fixes = {finding.fix: finding.verdict.value for finding in findings if finding.fix}
    for fix, verdict in fixes.items():
        click.echo(f"{verdict}: {fix}")
    if fixes:
        click.echo()


def _verdict_text(finding: Finding) -> Text:
    from rich.text import Text

    return Text(finding.verdict.value, style="green" if finding.is_valid else "red")


def show_golden(read: Golden, finding: Finding) -> None:
    """A golden's facts and its steps."""
    recording = read.recording
    output.print_facts(
        [
            ("run", output.plain(recording.run_id)),
            ("workflow", output.plain(recording.workflow)),
            ("verdict", _verdict_text(finding)),
            ("", output.plain(finding.reason or finding.note)),
            ("seed", str(recording.seed)),
            ("inputs", output.plain(output.shortened(read.document["inputs"]))),
            ("hash", output.plain(recording.workflow_hash)),
            ("key", output.plain(finding.signed_by or read.key_id)),
            ("recorded", output.moment(finding.recorded_at)),
            ("made by", output.plain(output.shortened(read.document.get("made_by")))),
        ]
    )
    click.echo()
    rows = [
        (
            output.plain(step["address"]),
            output.plain(step["task"]),
            str(step["attempt"]),
            "recorded" if step["effects"] or step["effect"] else "",
            output.plain(output.shortened(step["output"])),
        )
        for step in read.document["steps"]
    ]
    output.print_table(("step", "task", "attempt>", "effects", "output"), rows)


def show_differences(title: str, found: Sequence[Difference]) -> None:
    """One line for each place; nothing for none."""
    if not found:
        return
    click.echo()
    rows = [
        (
            output.plain(f"{one.address}{one.path}" if one.address else one.path),
            output.plain(output.shortened(one.left)),
            output.plain(output.shortened(one.right)),
        )
        for one in found
    ]
    output.print_table((title, "A", "B"), rows)
