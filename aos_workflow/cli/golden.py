"""``aos golden``: verify goldens, look at them, compare, re-sign, archive, prune, record."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aos_workflow.cli import golden_output, output
from aos_workflow.cli.configured import app_option, settings_with, with_app, with_store
from aos_workflow.cli.golden_output import progress
from aos_workflow.cli.output import json_option
from aos_workflow.errors import BadOption, GoldenKeyMissing

if TYPE_CHECKING:
    from aos_workflow.goldens.ledger import LedgerView
    from aos_workflow.goldens.verdict import Finding
    from aos_workflow.goldens.verify import Verifier
    from aos_workflow.settings import Settings

DAY_S = 86_400.0


@click.group()
def golden() -> None:
    """Signed recordings of runs: verify, compare, re-sign, archive, prune them."""


@golden.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@json_option
def verify(paths: tuple[str, ...], as_json: bool) -> None:
    """Are these goldens what was recorded? Files or folders; without any, the configured folder.

    Exit status 1 when anything is not VALID.
    """
    desk = Desk()
    desk.require_keys()
    findings: list[Finding] = []
    expired = 0
    places = [Path(written) for written in paths] or [desk.folder]
    for place in places:
        if not place.exists() and (paths or not desk.settings.database_url):
            raise BadOption(f"there is no golden {str(place)!r}", fix="name a file, a folder, or nothing")
    for place in places:
        if place.is_dir() or not paths:  # the configured folder may be gone, and the ledger knows what was in it
            found, gone = _verify_folder(desk, place)
            findings += found
            expired += gone
    files = [place for place in places if paths and not place.is_dir()]
    if files:
        findings += _verify_files(desk, files)
    is_valid = all(finding.is_valid for finding in findings)
    if as_json:
        counts = Counter(finding.verdict.value for finding in findings)
        document = {"valid": is_valid, "counts": dict(counts), "expired": expired}
        output.print_json({**document, "results": [finding.as_json() for finding in findings]})
    else:
        golden_output.show_findings(findings, expired)
    sys.exit(0 if is_valid else 1)


@golden.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def show(file: Path, as_json: bool) -> None:
    """What a golden holds, and whether it is valid."""
    from aos_workflow.golden import Golden

    desk = Desk()
    read = Golden.read(file)
    finding = desk.verifier_of(file.parent).file(file)
    if as_json:
        output.print_json({"finding": finding.as_json(), "golden": dict(read.document)})
        return
    golden_output.show_golden(read, finding)


@golden.command()
@click.argument("left", metavar="A", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("right", metavar="B", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def diff(left: Path, right: Path, as_json: bool) -> None:
    """In which fields do two goldens differ? Exit status 0 if what was computed is the same, else 1."""
    from aos_workflow.golden import Golden
    from aos_workflow.goldens.comparing import compare_goldens

    comparison = compare_goldens(Golden.read(left), Golden.read(right))
    if as_json:
        output.print_json({"left": str(left), "right": str(right), **comparison.as_json()})
    else:
        click.echo("what was computed is the same" if comparison.is_equal else "what was computed differs")
        golden_output.show_differences("differs", comparison.differences)
        golden_output.show_differences("ignored, because volatile", comparison.ignored)
        golden_output.show_differences("other circumstances", comparison.circumstances)
    sys.exit(0 if comparison.is_equal else 1)


@golden.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
def resign(folder: Path | None, as_json: bool) -> None:
    """Bring goldens under the newest key, after verifying them; those not valid stay as they are.

    May be interrupted and started again at any time. Exit status 1 when any was refused.
    """
    from aos_workflow.goldens.resign import Resigned, count
    from aos_workflow.goldens.resign import resign as bring_up
    from aos_workflow.goldens.verify import json_files

    desk = Desk()
    place = desk.existing(folder)
    newest = desk.keys.newest()
    with progress("re-signing", len(json_files(place))) as step:
        files = bring_up(place, desk.verifier_of(place), on_each=step)
    refused = [file.finding for file in files if file.outcome is Resigned.REFUSED]
    if as_json:
        results = [{"outcome": file.outcome.value, **file.finding.as_json()} for file in files]
        counts = {outcome.value: count(files, outcome) for outcome in Resigned}
        output.print_json({"key_id": newest.id, "counts": counts, "results": results})
    else:
        golden_output.show_rows(refused)
        done, kept = count(files, Resigned.RESIGNED), count(files, Resigned.KEPT)
        click.echo(f"{done} re-signed under key {newest.id}, {kept} were already, {len(refused)} refused")
    sys.exit(1 if refused else 0)


@golden.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), help="Where to.  [default: $AOS_HOME/archives]")
@click.option("--older-than-days", type=click.FloatRange(min=0), help="Only those that were recorded before.")
@click.option("--remove", is_flag=True, help="Delete the files that are in the archive.")
@json_option
def archive(folder: Path | None, to: Path | None, older_than_days: float | None, remove: bool, as_json: bool) -> None:
    """Write valid goldens into one golden_archive_YYYYmmdd_HHMMSS.tgz; exit status 1 if any was not valid."""
    from aos_workflow.goldens import keeping
    from aos_workflow.goldens.verify import json_files

    desk = Desk()
    desk.require_keys()
    place = desk.existing(folder)
    with progress("archiving", len(json_files(place))) as step:
        done = keeping.archive(
            place,
            to or desk.settings.home / "archives",
            desk.verifier_of(place),
            older_than_days=older_than_days,
            remove=remove,
            on_each=step,
        )
    if as_json:
        output.print_json(
            {
                "archive": str(done.path) if done.path else None,
                "sha256": done.sha256,
                "files": list(done.names),
                "removed": list(done.removed),
                "refused": [finding.as_json() for finding in done.refused],
            }
        )
    else:
        golden_output.show_rows(done.refused)
        click.echo(f"{done.path} holds {len(done.names)} goldens" if done.path else "nothing to archive")
        if remove:
            click.echo(f"{len(done.removed)} of them were removed from {place}")
    sys.exit(1 if done.refused else 0)


@golden.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--older-than-days", type=click.FloatRange(min=0), help="Recorded before.  [default: AOS_GOLDEN_RETENTION_DAYS]"
)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted; delete nothing.")
@json_option
def prune(folder: Path | None, older_than_days: float | None, dry_run: bool, as_json: bool) -> None:
    """Delete goldens by the time they were recorded; exit status 1 if any was left because it is not valid."""
    from aos_workflow.goldens import keeping
    from aos_workflow.goldens.verify import json_files

    desk = Desk()
    desk.require_keys()
    place = desk.existing(folder)
    days = desk.settings.golden_retention_days if older_than_days is None else older_than_days
    with progress("pruning", len(json_files(place))) as step:
        done = keeping.prune(place, desk.verifier_of(place), older_than_days=days, dry_run=dry_run, on_each=step)
    if as_json:
        refused = [finding.as_json() for finding in done.refused]
        output.print_json({"dry_run": dry_run, "pruned": list(done.names), "kept": done.kept, "refused": refused})
    else:
        golden_output.show_rows(done.refused)
        if dry_run:
            for name in done.names:
                click.echo(name)
        words = "would be deleted" if dry_run else "deleted"
        click.echo(f"{len(done.names)} {words}, {done.kept} are younger than {days:g} days")
    sys.exit(1 if done.refused else 0)


@golden.command()
@click.argument("run_id", metavar="ID")
@app_option
@json_option
def record(run_id: str, app: str, as_json: bool) -> None:
    """Write the golden of a run that has succeeded, whatever the policy said."""
    from aos_workflow import reading
    from aos_workflow.database import in_our_words, quick

    has_app = bool(settings_with(app).app)
    parts = with_app(app) if has_app else with_store()
    with in_our_words(), quick(parts.store.engine).connect() as connection:
        found = reading.run_id_like(connection, run_id)
    path = parts.recorder.record(found)
    if as_json:
        output.print_json({"run_id": found, "path": str(path)})
    else:
        click.echo(str(path))


class Desk:
    """What these commands work with; the database is opened only for the folder that its ledger is about."""

    @cached_property
    def settings(self) -> Settings:
        return settings_with("")

    @cached_property
    def keys(self) -> Any:
        from aos_workflow.signing import KeyRing

        settings = self.settings
        return KeyRing.of(settings.golden_secret, settings.golden_old_secrets, settings.golden_keys_file)

    @property
    def folder(self) -> Path:
        """Where goldens are recorded."""
        return self.settings.golden_dir

    def existing(self, folder: Path | None) -> Path:
        """This folder, or the configured one; raises BadOption if it is not there."""
        place = folder or self.folder
        if not place.is_dir():
            raise BadOption(f"there is no folder {str(place)!r}", fix="set AOS_GOLDEN_DIR, or name a folder")
        return place

    def require_keys(self) -> None:
        """Raises GoldenKeyMissing without any key."""
        if not self.keys.keys():
            raise GoldenKeyMissing(
                "there is no key to verify goldens with", fix="set GOLDEN_HMAC_SECRET (or AOS_GOLDEN_KEYS_FILE)"
            )

    def verifier_of(self, folder: Path) -> Verifier:
        """A verifier for what is in this folder."""
        is_home = folder.resolve() == self.folder.resolve()
        return self._with_ledger if is_home and self.settings.database_url else self._alone

    @cached_property
    def _alone(self) -> Verifier:
        from aos_workflow.goldens.verify import Verifier

        return Verifier(self.keys)

    @cached_property
    def _with_ledger(self) -> Verifier:
        from aos_workflow.goldens.ledger import GoldenLedger
        from aos_workflow.goldens.verify import Verifier

        return Verifier(
            self.keys,
            ledger=GoldenLedger(with_store().store),
            home=self.folder,
            retention_s=self.settings.golden_retention_days * DAY_S,
        )


def _verify_folder(desk: Desk, folder: Path) -> tuple[Sequence[Finding], int]:
    from aos_workflow.goldens.verify import json_files

    verifier = desk.verifier_of(folder)
    names = json_files(folder)
    if not names and not verifier.is_home(folder):
        raise BadOption(f"there is no *.json in {str(folder)!r}", fix="name a folder with goldens")
    with progress("verifying", len(names)) as step:
        report = verifier.folder(folder, on_each=step)
    return report.findings, report.expired


def _verify_files(desk: Desk, files: Sequence[Path]) -> list[Finding]:
    views: dict[Path, LedgerView | None] = {}
    findings = []
    with progress("verifying", len(files)) as step:
        for file in files:
            verifier = desk.verifier_of(file.parent)
            if file.parent not in views:
                views[file.parent] = verifier.view_for(file.parent)
            findings.append(verifier.file(file, views[file.parent]))
            step(file)
    return findings
