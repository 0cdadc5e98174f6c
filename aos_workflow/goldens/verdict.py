"""What verifying says: the verdict on a file or on what a folder lacks. Frozen nouns, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How a golden stands."""

    VALID = "VALID"  #: signed by an accepted key, intact, and what the ledger knows
    WRONG_KEY = "WRONG_KEY"  #: intact, but signed by no key that is accepted here
    TAMPERED = "TAMPERED"  #: changed after it was signed
    TRUNCATED = "TRUNCATED"  #: its end is missing
    UNSIGNED = "UNSIGNED"  #: no signature: no golden, or one that lost it
    SWAPPED = "SWAPPED"  #: a valid golden under the name of another
    PLANTED = "PLANTED"  #: valid by itself, but nobody recorded it
    MISSING = "MISSING"  #: recorded, and not there
    UNREADABLE = "UNREADABLE"  #: it cannot be opened, or is of a version this code does not read
    LEDGER_BROKEN = "LEDGER_BROKEN"  #: the ledger itself was changed


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The verdict on one file (or missing file).

    parts        what in it was changed, where that can be told
    key_id       the key it says it was signed with; ``signed_by`` the accepted key that really signed it, if any
    note         what is worth knowing about a valid one
    """

    path: str
    verdict: Verdict
    reason: str = ""
    fix: str = ""
    note: str = ""
    parts: tuple[str, ...] = ()
    run_id: str | None = None
    workflow: str | None = None
    key_id: str | None = None
    signed_by: str | None = None
    recorded_at: float | None = None
    content_sha256: str | None = None
    workflow_hash: str | None = None

    @property
    def is_valid(self) -> bool:
        return self.verdict is Verdict.VALID

    @property
    def key_id_is_stale(self) -> bool:
        """Signed by another accepted key than it says: the runbook's snippet leaves the old id in place."""
        return self.signed_by is not None and self.signed_by != self.key_id

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "verdict": self.verdict.value,
            "run_id": self.run_id,
            "workflow": self.workflow,
            "key_id": self.key_id,
            "signed_by": self.signed_by,
            "key_id_stale": self.key_id_is_stale,
            "recorded_at": self.recorded_at,
            "content_sha256": self.content_sha256,
            "workflow_hash": self.workflow_hash,
            "parts": list(self.parts),
            "reason": self.reason,
            "note": self.note,
            "fix": self.fix,
        }
