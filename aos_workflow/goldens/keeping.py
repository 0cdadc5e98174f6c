"""Keeping goldens: archives of them, and pruning by the time they were recorded.

A file goes only after the ledger says so, and after an archive that is to hold it was read back. A process that is
killed in between leaves a file too many, never one too few; doing it again finishes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aos_workflow.atomic_files import make_folder, new_file, only_one, read_whole, sync_folder
from aos_workflow.clock import Clock, SystemClock
from aos_workflow.errors import GoldenNotWritten
from aos_workflow.faults import fault
from aos_workflow.golden import SIZE_LIMIT_BYTES
from aos_workflow.goldens.ledger import LedgerEntry, LedgerView
from aos_workflow.goldens.verdict import Finding
from aos_workflow.goldens.verify import DAY_S, Verifier, json_files, linked
from aos_workflow.schema import LedgerOp

OnEach = Callable[[Finding], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Archived:
    """An archive: its path and SHA-256, what is in it, what of that was removed, what was left out as not valid."""

    path: Path | None
    sha256: str | None
    names: tuple[str, ...]
    removed: tuple[str, ...]
    refused: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What was (or, on trial, would be) deleted, how many are too young, what was left because it is not valid."""

    names: tuple[str, ...]
    kept: int
    refused: tuple[Finding, ...]


def archive(
    folder: Path,
    to: Path,
    verifier: Verifier,
    *,
    older_than_days: float | None = None,
    remove: bool = False,
    clock: Clock | None = None,
    on_each: OnEach = lambda _finding: None,
) -> Archived:
    """Write the valid goldens of a folder to ``golden_archive_YYYYmmdd_HHMMSS.tgz`` in ``to``.

    ``older_than_days``: only those recorded before. ``remove``: delete the files that are in it. What is not valid
    is evidence, stays where it is and is reported. Raises GoldenNotWritten, StoreUnavailable.
    """
    with only_one(folder):
        view = verifier.view_for(folder)
        chosen, _, refused = _chosen(folder, verifier, view, older_than_days, clock or SystemClock(), on_each)
        if not chosen:
            return Archived(path=None, sha256=None, names=(), removed=(), refused=tuple(refused))
        path, digests = _write_archive(to, chosen, verifier, view, clock or SystemClock())
        whole = _sha256_of(path)
        fault("golden_placed", path.name)
        ledger = verifier.ledger if view else None
        if ledger is not None:
            ledger.append([LedgerEntry(op=LedgerOp.ARCHIVE, name=path.name, content_sha256=whole)])
        removed: tuple[str, ...] = ()
        if remove:
            _require_archived(path, digests)
            kept = [finding for finding in chosen if Path(finding.path).name in digests]
            removed = _delete(folder, kept, verifier, view)
        return Archived(path=path, sha256=whole, names=tuple(digests), removed=removed, refused=tuple(refused))


def prune(
    folder: Path,
    verifier: Verifier,
    *,
    older_than_days: float,
    dry_run: bool = False,
    clock: Clock | None = None,
    on_each: OnEach = lambda _finding: None,
) -> Pruned:
    """Delete valid goldens that were *recorded* more than so many days ago, whatever their file's time says.

    Raises GoldenNotWritten if another process is at it, StoreUnavailable.
    """
    with only_one(folder):
        view = verifier.view_for(folder)
        chosen, kept, refused = _chosen(folder, verifier, view, older_than_days, clock or SystemClock(), on_each)
        names = tuple(Path(finding.path).name for finding in chosen)
        if not dry_run:
            names = _delete(folder, chosen, verifier, view)
        return Pruned(names=names, kept=kept, refused=tuple(refused))


def _chosen(
    folder: Path,
    verifier: Verifier,
    view: LedgerView | None,
    older_than_days: float | None,
    clock: Clock,
    on_each: OnEach,
) -> tuple[list[Finding], int, list[Finding]]:
    """The valid goldens that are old enough, how many are not, and the findings on those that are not valid."""
    now = view.at if view else clock.now()
    chosen, young, refused = [], 0, []
    for path in json_files(folder):
        finding = verifier.file(path, view)
        on_each(finding)
        is_old = older_than_days is None or now - (finding.recorded_at or now) > older_than_days * DAY_S
        if finding.is_valid and path.is_symlink():
            finding = linked(finding)
        if not finding.is_valid:
            refused.append(finding)
        elif is_old:
            chosen.append(finding)
        else:
            young += 1
    return chosen, young, refused


def _delete(folder: Path, findings: Sequence[Finding], verifier: Verifier, view: LedgerView | None) -> tuple[str, ...]:
    """Delete files, after the ledger says that they go."""
    if view is not None and verifier.ledger is not None:
        verifier.ledger.append([_pruned(finding) for finding in findings if _is_live(finding, view)])
    names = []
    for finding in findings:
        path = Path(finding.path)
        fault("golden_entered", path.name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        names.append(path.name)
    if names:
        sync_folder(folder)
    return tuple(names)


def _pruned(finding: Finding) -> LedgerEntry:
    return LedgerEntry(
        op=LedgerOp.PRUNE,
        name=Path(finding.path).name,
        run_id=finding.run_id,
        content_sha256=finding.content_sha256,
        key_id=finding.signed_by,
    )


def _is_live(finding: Finding, view: LedgerView) -> bool:
    standing = view.standings.get(Path(finding.path).name)
    return standing is None or standing.is_live  # one whose entry is still to come is entered as pruned at once


# --- archives --------------------------------------------------------------------------------


def _write_archive(
    to: Path, chosen: Sequence[Finding], verifier: Verifier, view: LedgerView | None, clock: Clock
) -> tuple[Path, dict[str, str]]:
    """The archive's path, and name -> SHA-256 of the files in it."""
    digests: dict[str, str] = {}
    try:
        make_folder(to)
        path = _free_name(to, clock)
        with new_file(path) as (file, place):
            with tarfile.open(fileobj=file, mode="w:gz") as archive:
                for finding in chosen:
                    source = Path(finding.path)
                    data = read_whole(source, SIZE_LIMIT_BYTES)
                    if not verifier.content(data, source, view).is_valid:
                        continue  # changed since it was verified
                    digests[source.name] = hashlib.sha256(data).hexdigest()
                    archive.addfile(_member(source, data), io.BytesIO(data))
            file.flush()
            fault("golden_half", path.name)
            if not place():
                raise GoldenNotWritten(f"{path} was written by somebody else meanwhile", fix="try again")
    except OSError as error:
        raise GoldenNotWritten(
            f"no archive could be written to {to}: {error.strerror}; nothing was removed",
            fix="make room or give rights",
        ) from error
    return path, digests


def _free_name(to: Path, clock: Clock) -> Path:
    stem = f"golden_archive_{datetime.fromtimestamp(clock.now(), tz=UTC).astimezone():%Y%m%d_%H%M%S}"
    path, number = to / f"{stem}.tgz", 1
    while path.exists():
        number += 1
        path = to / f"{stem}_{number}.tgz"
    return path


def _member(source: Path, data: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(f"./{source.name}")  # as `tar -C folder .` names it
    member.size, member.mode, member.mtime = len(data), 0o640, source.stat().st_mtime
    return member


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_archived(path: Path, digests: dict[str, str]) -> None:
    """Raises GoldenNotWritten unless the archive, read back from the disk, holds every file byte by byte."""
    found = {}
    with tarfile.open(path, mode="r:gz") as archive:
        for member in archive:
            content = archive.extractfile(member)
            data = content.read() if content else b""
            found[member.name.removeprefix("./")] = hashlib.sha256(data).hexdigest()
    if found != digests:
        raise GoldenNotWritten(
            f"{path} does not hold what was written to it; nothing was removed", fix="check the disk"
        )
