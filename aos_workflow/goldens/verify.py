"""Verifying goldens: each file by itself, against the ledger, and a folder as a whole.

    judge(bytes, name, keys)                one file by itself; pure
    Verifier(keys, ledger, ...).file(path)  one file
    Verifier(...).folder(path)              all ``*.json`` of a folder; of the configured one also what is not there

The ledger is asked only about the folder goldens are recorded to: elsewhere (an extracted archive, a copy for
tests) every file is verified by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aos_workflow.atomic_files import read_whole
from aos_workflow.clock import SystemClock
from aos_workflow.golden import SCHEMA, SIZE_LIMIT_BYTES, content_sha256, golden_name
from aos_workflow.goldens.ledger import GoldenLedger, LedgerView, Standing
from aos_workflow.goldens.parts import UNCOVERED, changed_parts, contradictions
from aos_workflow.goldens.strict import Flaw, document_of
from aos_workflow.goldens.verdict import Finding, Verdict
from aos_workflow.signing import KeyRing

DAY_S = 86_400.0
_RESTORE = "restore the file from a backup or an archive, or record the run again: aos golden record RUN"
_KEEP = f"keep the file as evidence; {_RESTORE}"
#: Verdicts that a recorder at work can be the cause of.
_LOOK_AGAIN = (Verdict.PLANTED, Verdict.TAMPERED)
#: What a file looks like while the runbook's snippet writes it in place, and for how long at most, seconds.
_MAYBE_HALF_WRITTEN = (Verdict.TRUNCATED, Verdict.UNSIGNED, Verdict.TAMPERED)
LOOK_AGAIN_AFTER_S = 0.05


def judge(data: bytes, path: str, keys: KeyRing, *, name: str | None = None) -> Finding:
    """The verdict on one file's bytes, by themselves. ``name`` is its file name, None: any will do. Pure."""
    read = document_of(data)
    if isinstance(read, Flaw):
        return _flawed(read, path, keys)
    signer = keys.verify(read)
    facts = _facts(read, path, signed_by=signer.id if signer else None)
    is_intact = _is_intact(read)
    if read.get("schema") != SCHEMA and (signer is not None or is_intact):
        return _of_another_version(facts, read)
    if not is_intact:
        return _tampered(facts, changed_parts(read), "its content is not the one that was recorded")
    wrong = contradictions(read)
    if wrong:
        return _tampered(facts, wrong, "its parts contradict each other, so it was made to look right")
    if signer is None:
        return _of_wrong_key(facts, keys)
    own_name = golden_name(str(read["workflow"]), str(read["run_id"]))
    if name is not None and name != own_name:
        return replace(
            facts,
            verdict=Verdict.SWAPPED,
            reason=f"it is the golden of run {facts.run_id} ({facts.workflow}), whose file is {own_name}",
            fix=f"rename it to {own_name} if that one is not there",
        )
    stale = f"re-signed by a tool that left the old key id {facts.key_id} in it" if facts.key_id_is_stale else ""
    return replace(facts, note=stale)


def against_ledger(finding: Finding, name: str, view: LedgerView) -> Finding:
    """The verdict with what the ledger knows of this file. Pure."""
    if finding.verdict not in (Verdict.VALID, Verdict.WRONG_KEY):
        return finding
    standing = view.standings.get(name)
    if standing is None:
        return finding if finding.verdict is Verdict.WRONG_KEY else _without_entry(finding, view)
    if standing.last.content_sha256 != finding.content_sha256:
        reason = "it was recorded with another content, says the ledger"
        return _tampered(finding, (UNCOVERED,), reason)
    if not standing.is_live and finding.is_valid:
        return replace(finding, note=f"{standing.last.op.value}d according to the ledger, and still here")
    return finding


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderReport:
    """What is in a folder, and what is not. ``expired`` counts goldens that are gone and older than the retention."""

    folder: str
    findings: tuple[Finding, ...]
    expired: int = 0

    @property
    def is_valid(self) -> bool:
        return all(finding.is_valid for finding in self.findings)


#: Told of each verdict as it is reached, for progress bars.
OnEach = Callable[[Finding], None]


class Verifier:
    """Verifies with these keys, and with a ledger the goldens of ``home``, the folder that it is about.

    ``retention_s``: a recorded golden that is older may be gone without alarm.
    """

    def __init__(
        self,
        keys: KeyRing,
        *,
        ledger: GoldenLedger | None = None,
        home: Path | None = None,
        retention_s: float = 7 * DAY_S,
    ) -> None:
        self.keys = keys
        self.ledger = ledger
        self._home = home
        self._retention_s = retention_s
        self._clock = SystemClock()

    def is_home(self, folder: Path) -> bool:
        """Is this the folder the ledger is about?"""
        return self.ledger is not None and self._home is not None and folder.resolve() == self._home.resolve()

    def file(self, path: Path, view: LedgerView | None = None) -> Finding:
        """The verdict on one file; it is looked at twice before it is blamed: somebody may be writing it in place."""
        finding = self._look_at(path, view)
        if finding.verdict in _MAYBE_HALF_WRITTEN:
            self._clock.sleep(LOOK_AGAIN_AFTER_S)
            finding = self._look_at(path, view)
        return finding

    def _look_at(self, path: Path, view: LedgerView | None) -> Finding:
        try:
            data = read_whole(path, SIZE_LIMIT_BYTES)
        except OSError as error:
            reason = f"it cannot be read: {error.strerror}"
            return Finding(path=str(path), verdict=Verdict.UNREADABLE, reason=reason, fix="check its rights")
        return self.content(data, path, view)

    def content(self, data: bytes, path: Path, view: LedgerView | None = None) -> Finding:
        """The verdict on bytes that were read from ``path``."""
        finding = judge(data, str(path), self.keys, name=path.name)
        if view is None and self.ledger is not None and self.is_home(path.parent):
            view = self.ledger.view()
        return against_ledger(finding, path.name, view) if view else finding

    def view_for(self, folder: Path) -> LedgerView | None:
        """The ledger as of now, if it is about this folder."""
        return self.ledger.view() if self.ledger is not None and self.is_home(folder) else None

    def folder(self, folder: Path, *, on_each: OnEach = lambda _finding: None) -> FolderReport:
        """The verdicts on all ``*.json`` of a folder, on recorded goldens that are not there, and on the ledger.

        Recorders, pruning and re-signing may go on meanwhile: an alarm is raised only after a second look.
        """
        view = self.view_for(folder)  # before the folder: what is recorded later is no alarm, but a second look
        findings = []
        for path in json_files(folder):
            finding = self.file(path, view)
            if finding.verdict is Verdict.UNREADABLE and not path.exists():
                continue  # pruned meanwhile
            findings.append(finding)
            on_each(finding)
        if view is None:
            return FolderReport(folder=str(folder), findings=tuple(findings))
        return self._with_absent(folder, findings, view, on_each)

    def _with_absent(self, folder: Path, findings: list[Finding], view: LedgerView, on_each: OnEach) -> FolderReport:
        present = {Path(finding.path).name for finding in findings}
        absent = _absent(view, present)
        if any(finding.verdict in _LOOK_AGAIN for finding in findings) or absent:
            assert self.ledger is not None
            view = self.ledger.view()
            findings = [
                self.file(Path(finding.path), view) if finding.verdict in _LOOK_AGAIN else finding
                for finding in findings
                if Path(finding.path).exists()
            ]
            absent = [standing for standing in absent if not (folder / standing.last.name).exists()]
            absent = [standing for standing in absent if view.standings[standing.last.name].is_live]
        young = [standing for standing in absent if view.at - standing.added_at <= self._retention_s]
        missing = [_missing(folder, standing) for standing in young]
        broken = [_broken(folder, why) for why in view.broken]
        for finding in (*missing, *broken):
            on_each(finding)
        return FolderReport(
            folder=str(folder), findings=(*findings, *missing, *broken), expired=len(absent) - len(young)
        )


def json_files(folder: Path) -> list[Path]:
    """What a golden may be among a folder's files: ``*.json``, by name, as the runbook's snippet finds them."""
    return sorted(folder.glob("*.json"))


def _absent(view: LedgerView, present: Iterable[str]) -> list[Standing]:
    names = set(present)
    return [standing for name, standing in view.standings.items() if standing.is_live and name not in names]


# --- findings --------------------------------------------------------------------------------


def _facts(document: Mapping[str, Any], path: str, *, signed_by: str | None = None) -> Finding:
    """A finding with what a document says of itself; whatever is in it, only fitting types are shown."""

    def text(name: str) -> str | None:
        value = document.get(name)
        return value if isinstance(value, str) else None

    recorded_at = document.get("recorded_at")
    return Finding(
        path=path,
        verdict=Verdict.VALID,
        run_id=text("run_id"),
        workflow=text("workflow"),
        key_id=text("key_id"),
        signed_by=signed_by,
        recorded_at=recorded_at if isinstance(recorded_at, float) else None,
        content_sha256=text("content_sha256"),
        workflow_hash=text("workflow_hash"),
    )


def _is_intact(document: Mapping[str, Any]) -> bool:
    return document.get("content_sha256") == content_sha256(document)


def _of_another_version(facts: Finding, document: Mapping[str, Any]) -> Finding:
    return replace(
        facts,
        verdict=Verdict.UNREADABLE,
        reason=f"it is of schema {document.get('schema')!r:.60}, this code reads {SCHEMA}",
        fix="use the version of aos_workflow that wrote it",
    )


def _flawed(flaw: Flaw, path: str, keys: KeyRing) -> Finding:
    fix = {Verdict.UNSIGNED: "move it elsewhere if it is no golden", Verdict.UNREADABLE: "look at it by hand"}
    facts = _facts(flaw.document or {}, path)
    if flaw.verdict is Verdict.TAMPERED and flaw.document:  # its text is wrong; is its content, too?
        if flaw.document.get("schema") != SCHEMA and keys.verify(flaw.document):
            return _of_another_version(facts, flaw.document)
        if not _is_intact(flaw.document):
            return _tampered(facts, changed_parts(flaw.document), "its content is not the one that was recorded")
    return replace(facts, verdict=flaw.verdict, reason=flaw.reason, parts=flaw.parts, fix=fix.get(flaw.verdict, _KEEP))


def _tampered(facts: Finding, parts: tuple[str, ...], why: str) -> Finding:
    reason = f"{why}: {', '.join(parts[:5])}" + (f" and {len(parts) - 5} more" if len(parts) > 5 else "")
    return replace(facts, verdict=Verdict.TAMPERED, reason=reason, parts=parts, fix=_KEEP, note="")


def _of_wrong_key(facts: Finding, keys: KeyRing) -> Finding:
    known = keys.ids
    if not known:
        return replace(
            facts,
            verdict=Verdict.WRONG_KEY,
            reason=f"it says key {facts.key_id}, and no key is configured here",
            fix="set GOLDEN_HMAC_SECRET to the key that signed it",
        )
    reason = f"it says key {facts.key_id}, the keys here are {', '.join(known)}"
    if facts.key_id in known:
        reason = f"it says key {facts.key_id}, but another key made its signature (or the signature was changed)"
    return replace(
        facts,
        verdict=Verdict.WRONG_KEY,
        reason=f"its content is intact; {reason}",
        fix="add the key that signed it to GOLDEN_HMAC_OLD_SECRETS (or AOS_GOLDEN_KEYS_FILE), then: aos golden resign",
    )


def _without_entry(finding: Finding, view: LedgerView) -> Finding:
    if finding.workflow_hash and view.wanted.get(finding.run_id or "") == finding.workflow_hash:
        return replace(finding, note="its ledger entry is still to come")
    return replace(
        finding,
        verdict=Verdict.PLANTED,
        reason="it is signed, but nobody recorded it: the ledger does not know it",
        fix="find out who put it here and who else has the key; move it elsewhere",
    )


def _missing(folder: Path, standing: Standing) -> Finding:
    entry = standing.last
    return Finding(
        path=str(folder / entry.name),
        verdict=Verdict.MISSING,
        reason=f"it was recorded (ledger entry {entry.seq}) and is not there",
        fix=_RESTORE,
        run_id=entry.run_id,
        key_id=entry.key_id,
        recorded_at=standing.added_at,
        content_sha256=entry.content_sha256,
    )


def _broken(folder: Path, why: str) -> Finding:
    return Finding(
        path=str(folder),
        verdict=Verdict.LEDGER_BROKEN,
        reason=f"the ledger was changed: {why}",
        fix="compare table golden_ledger with a backup of the database",
    )


def linked(finding: Finding) -> Finding:
    """A symbolic link to a golden: whoever re-signs, archives or deletes does that to files, not to links."""
    return replace(
        finding,
        verdict=Verdict.UNREADABLE,
        reason="it is a symbolic link; only files are re-signed, archived and pruned",
        fix="put the file in its place",
    )
