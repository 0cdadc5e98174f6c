"""Comparing two goldens field by field. Pure.

differences   what was computed is another: workflow, seed, inputs, plan, outputs
ignored       only volatile fields of outputs differ
circumstances when, by which code and where it was computed
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from aos_workflow.canonical import parse, without_volatile
from aos_workflow.divergence import ABSENT, differences
from aos_workflow.golden import Golden
from aos_workflow.recording import RecordedStep

_COMPUTED = ("workflow", "seed", "inputs", "plan", "splices")
_CIRCUMSTANCES = ("logical_time", "made_by", "code")


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One place: a step's address and a JSON pointer into its output, or a field of the golden (address "")."""

    address: str
    path: str
    left: Any
    right: Any

    def as_json(self) -> dict[str, Any]:
        return {"address": self.address, "path": self.path, "left": self.left, "right": self.right}


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Everything in which two goldens differ."""

    differences: tuple[Difference, ...]
    ignored: tuple[Difference, ...]
    circumstances: tuple[Difference, ...]

    @property
    def is_equal(self) -> bool:
        """Is what was computed the same?"""
        return not self.differences

    def as_json(self) -> dict[str, Any]:
        parts = ("differences", "ignored", "circumstances")
        return {"equal": self.is_equal} | {part: [one.as_json() for one in getattr(self, part)] for part in parts}


def compare_goldens(left: Golden, right: Golden) -> Comparison:
    """Compare two goldens; raises GoldenUnreadable for one that is no recording."""
    ours = {step.address: step for step in left.recording.steps}
    theirs = {step.address: step for step in right.recording.steps}
    computed = list(_fields(left, right, _COMPUTED))
    ignored: list[Difference] = []
    for address in (*ours, *(address for address in theirs if address not in ours)):
        counted, volatile = _in_step(address, ours.get(address), theirs.get(address))
        computed += counted
        ignored += volatile
    return Comparison(
        differences=tuple(computed),
        ignored=tuple(ignored),
        circumstances=tuple(_fields(left, right, _CIRCUMSTANCES)),
    )


def _fields(left: Golden, right: Golden, names: Iterable[str]) -> Iterator[Difference]:
    for name in names:
        one, other = left.document.get(name, ABSENT), right.document.get(name, ABSENT)
        for path, was, now in differences(one, other, f"/{name}"):
            yield Difference(address="", path=path, left=was, right=now)


def _in_step(
    address: str, left: RecordedStep | None, right: RecordedStep | None
) -> tuple[list[Difference], list[Difference]]:
    """The differences that count, and those in volatile fields."""
    if left is None or right is None or left.output == right.output:
        one = {"task": left.task} if left else ABSENT
        other = {"task": right.task} if right else ABSENT
        return ([Difference(address=address, path="", left=one, right=other)] if one != other else []), []
    ours, theirs = parse(left.output), parse(right.output)
    fields = tuple(dict.fromkeys((*left.volatile, *right.volatile)))
    counted = list(differences(without_volatile(ours, fields), without_volatile(theirs, fields)))
    known = {path for path, _, _ in counted}
    ignored = [found for found in differences(ours, theirs) if found[0] not in known] if fields else []
    return _at(address, counted), _at(address, ignored)


def _at(address: str, found: list[tuple[str, Any, Any]]) -> list[Difference]:
    return [Difference(address=address, path=path, left=was, right=now) for path, was, now in found]
