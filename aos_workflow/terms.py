"""Terms: under which a workflow's runs are performed. They are part of the plan, so a run keeps those it began with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

from aos_workflow.canonical import without_volatile
from aos_workflow.errors import BadOption

Capture: TypeAlias = Literal["none", "ambient", "http", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What holds for all steps of a run.

    capture    which calls of untouched code are recorded and served back in replay: "ambient" (chance, time,
               entropy), "http" (outgoing requests), "all" of them or "none"
    volatile   fields of any step's output that may differ between two runs: JSON pointers
    golden     the share of its runs that leave a golden; None: as the setting AOS_GOLDEN says
    """

    capture: Capture = "all"
    volatile: tuple[str, ...] = ()
    golden: float | None = None

    @property
    def captures_ambient(self) -> bool:
        return self.capture in ("ambient", "all")

    @property
    def captures_http(self) -> bool:
        return self.capture in ("http", "all")

    def as_json(self) -> dict[str, Any]:
        """Only what differs from the default."""
        document: dict[str, Any] = {}
        if self.capture != "all":
            document["capture"] = self.capture
        if self.volatile:
            document["volatile"] = list(self.volatile)
        if self.golden is not None:
            document["golden"] = self.golden
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Terms:
        return cls(
            capture=document.get("capture", "all"),
            volatile=tuple(document.get("volatile", ())),
            golden=document.get("golden"),
        )

    def leaves_golden(self, run_id: str, setting: float) -> bool:
        """Does the run leave a golden? Chance decides by its id, so everybody who asks gets the same answer."""
        share = setting if self.golden is None else self.golden
        draw = int.from_bytes(hashlib.sha256(f"golden:{run_id}".encode()).digest()[:8], "big")
        return draw < share * 2**64


DEFAULT_TERMS = Terms()


def terms_of(*, capture: str, volatile: Iterable[str], golden: str | float | None, of: str) -> Terms:
    """The terms a definition asks for. Raises BadOption, naming the definition ``of`` that is wrong."""
    if capture not in get_args(Capture):
        raise BadOption(
            f"{of}: capture={capture!r} is not valid",
            fix=f"give one of {', '.join(get_args(Capture))}",
            option="capture",
        )
    return Terms(
        capture=cast(Capture, capture),
        volatile=volatile_fields(volatile, of=of),
        golden=None if golden is None else golden_share(golden, of=of),
    )


def volatile_fields(given: Any, *, of: str) -> tuple[str, ...]:
    """Volatile fields as a definition gives them. Raises BadOption for what is no list of JSON pointers."""
    fields = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple | set) else given
    if not isinstance(fields, tuple) or not all(isinstance(field, str) and field for field in fields):
        raise BadOption(f"{of}: volatile={given!r:.100} is not valid", fix="give JSON pointers", option="volatile")
    without_volatile(None, fields)
    return tuple(sorted(fields)) if isinstance(given, set) else fields


def golden_share(written: Any, *, of: str) -> float:
    """The share of runs that leave a golden: "always" is 1, "never" is 0, or a number in between (also as text).

    Raises BadOption, naming what asked for it.
    """
    words = {"always": 1.0, "never": 0.0}
    try:
        share = words[written] if written in words else float(written)
    except (TypeError, ValueError):
        share = -1.0
    if isinstance(written, bool) or not 0 <= share <= 1:
        raise BadOption(
            f"{of}: golden={written!r:.100} is not valid",
            fix='give "always", "never" or a share of the runs, 0 to 1',
            option="golden",
        )
    return share
