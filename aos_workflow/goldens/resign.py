"""Re-signing: goldens under an accepted key come under the newest one, after they were verified.

File by file, each exchanged as a whole: a process that is killed leaves every file valid, under the one key or the
other, and the next one goes on where it stopped. What is not valid is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from aos_workflow.atomic_files import only_one, read_whole, replace_whole
from aos_workflow.errors import GoldenNotWritten
from aos_workflow.faults import fault
from aos_workflow.golden import SIZE_LIMIT_BYTES, Golden
from aos_workflow.goldens.ledger import GoldenLedger, LedgerEntry, LedgerView
from aos_workflow.goldens.verdict import Finding, Verdict
from aos_workflow.goldens.verify import Verifier, json_files, linked
from aos_workflow.schema import LedgerOp
from aos_workflow.signing import Key

#: After how many files the ledger is told.
BATCH = 64


class Resigned(StrEnum):
    """What became of one file."""

    RESIGNED = "resigned"
    KEPT = "kept"  #: it was under the newest key
    REFUSED = "refused"  #: it is not valid and was not touched
    GONE = "gone"  #: somebody deleted it meanwhile


@dataclass(frozen=True, kw_only=True, slots=True)
class ResignedFile:
    """What became of one file, and what verifying it said before."""

    outcome: Resigned
    finding: Finding


OnEach = Callable[[ResignedFile], None]


def resign(
    folder: Path, verifier: Verifier, *, on_each: OnEach = lambda _file: None, batch: int = BATCH
) -> list[ResignedFile]:
    """Bring a folder's goldens under the newest key; what is refused does not stop the others.

    Raises GoldenKeyMissing, GoldenNotWritten (another one is at work, the disk is full), StoreUnavailable.
    """
    key = verifier.keys.newest()
    files: list[ResignedFile] = []
    with only_one(folder):
        view = verifier.view_for(folder)
        ledger = verifier.ledger if view else None
        entries: list[LedgerEntry] = []
        try:
            for path in json_files(folder):
                done = _resign_one(path, verifier, key, view, entries)
                files.append(done)
                on_each(done)
                if len(entries) >= batch:
                    _enter(ledger, entries)
        finally:
            _enter(ledger, entries)
    return files


def _resign_one(
    path: Path, verifier: Verifier, key: Key, view: LedgerView | None, entries: list[LedgerEntry]
) -> ResignedFile:
    try:
        data = read_whole(path, SIZE_LIMIT_BYTES)
    except FileNotFoundError:
        gone = Finding(path=str(path), verdict=Verdict.MISSING, reason="it was deleted meanwhile")
        return ResignedFile(outcome=Resigned.GONE, finding=gone)
    except OSError:
        return ResignedFile(outcome=Resigned.REFUSED, finding=verifier.file(path, view))
    finding = verifier.content(data, path, view)
    if finding.is_valid and path.is_symlink():
        finding = linked(finding)
    if not finding.is_valid:
        return ResignedFile(outcome=Resigned.REFUSED, finding=finding)
    golden = Golden.from_text(data.decode("ascii"))
    is_newest = finding.signed_by == key.id and not finding.key_id_is_stale
    if not is_newest:
        golden = golden.signed(verifier.keys)
        try:
            replace_whole(path, golden.text.encode("ascii"))
        except OSError as error:
            raise GoldenNotWritten(
                f"{path} could not be re-signed: {error.strerror}; it is as it was", fix="make room, then go on"
            ) from error
        fault("golden_placed", path.name)
    if view is not None and _ledger_lags(view, golden):
        entries.append(LedgerEntry.of(LedgerOp.RESIGN, golden))
    return ResignedFile(outcome=Resigned.KEPT if is_newest else Resigned.RESIGNED, finding=finding)


def _ledger_lags(view: LedgerView, golden: Golden) -> bool:
    """Does the ledger still name another key? Also after a crash between the file and its entry."""
    standing = view.standings.get(golden.name)
    return standing is not None and standing.is_live and standing.last.key_id != golden.key_id


def _enter(ledger: GoldenLedger | None, entries: list[LedgerEntry]) -> None:
    if ledger is not None:
        ledger.append(entries)
    entries.clear()


def count(files: Sequence[ResignedFile], outcome: Resigned) -> int:
    """How many files had this outcome."""
    return sum(file.outcome is outcome for file in files)
