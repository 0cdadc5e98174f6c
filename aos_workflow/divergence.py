"""Divergence: where two recordings part, and why. Pure; no I/O.

matched     every output is the recorded one
ignored     only volatile fields differ
diverged    an output differs: the first place is named
error       it could not be told: a task is gone, a file cannot be read
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from aos_workflow.canonical import parse, render, without_volatile


class Verdict(StrEnum):
    """What comparing a run with its recording said."""

    MATCHED = "matched"
    IGNORED = "ignored"
    DIVERGED = "diverged"
    ERROR = "error"

    @property
    def is_good(self) -> bool:
        return self in (Verdict.MATCHED, Verdict.IGNORED)


class Cause(StrEnum):
    """Why a step gave another answer, and what to do about it."""

    SEED_MISMATCH = "seed_mismatch"
    VOLATILE_FIELD = "volatile_field"
    UNSEEDED_RANDOM = "unseeded_random"
    WALL_CLOCK = "wall_clock"
    UUID = "uuid"
    OS_ENTROPY = "os_entropy"
    SET_ORDER = "set_order"
    OBJECT_IDENTITY = "object_identity"
    ENVIRONMENT = "environment"
    FILESYSTEM = "filesystem"
    PROCESS_STATE = "process_state"
    THREAD_RACE = "thread_race"
    EXTERNAL_CALL = "external_call"
    CODE_CHANGE = "code_change"
    UNKNOWN = "unknown"

    @property
    def fix(self) -> str:
        return _FIXES[self]


_FIXES: Mapping[Cause, str] = {
    Cause.SEED_MISMATCH: "seed from ctx.seed or draw from ctx.random, never from a constant or a value of this process",
    Cause.VOLATILE_FIELD: "drop the field, or declare it: @step(volatile=...), Workflow(volatile=...) or AOS_VOLATILE",
    Cause.UNSEEDED_RANDOM: "draw from ctx.random (or ctx.numpy_random)",
    Cause.WALL_CLOCK: "use ctx.now, or ctx.effect for a moment that matters",
    Cause.UUID: "use ctx.uuid()",
    Cause.OS_ENTROPY: 'get it through ctx.effect("name", function)',
    Cause.SET_ORDER: "iterate over sorted(...)",
    Cause.OBJECT_IDENTITY: "use a key of the value itself, never id() or a default repr",
    Cause.ENVIRONMENT: "pass it as an input of the workflow, or read it through ctx.effect",
    Cause.FILESYSTEM: "pass the content as an input, or read it through ctx.effect or in @step(effect=True)",
    Cause.PROCESS_STATE: "keep nothing between steps: pass it on as output and input",
    Cause.THREAD_RACE: "let the result not depend on which thread is first: collect by key, then sort",
    Cause.EXTERNAL_CALL: "call it through ctx.effect, or declare the step @step(effect=True)",
    Cause.CODE_CHANGE: "if the change is meant, record new goldens: aos golden record RUN",
    Cause.UNKNOWN: "look at the step with the two values at hand",
}

#: Stands for a value that is there on one side only.
ABSENT: Mapping[str, bool] = {"$absent": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergence:
    """The first place where an output is not the recorded one.

    path         JSON pointer into the output of the step at ``address``; "" is the whole output
    recorded, observed    the two values there, as JSON; ``ABSENT`` where there is none
    location     "file:line" in the user's code
    """

    address: str
    path: str
    recorded: Any
    observed: Any
    cause: Cause | None = None
    location: str | None = None
    fix: str | None = None

    def because(self, cause: Cause, location: str | None, fix: str | None = None) -> Divergence:
        """The same place, with its cause."""
        return replace(self, cause=cause, location=location, fix=fix or cause.fix)

    def as_json(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "path": self.path,
            "recorded": self.recorded,
            "observed": self.observed,
            "cause": self.cause.value if self.cause else None,
            "location": self.location,
            "fix": self.fix,
        }


def compare(address: str, recorded: str, observed: str, volatile: Sequence[str]) -> tuple[Verdict, Divergence | None]:
    """Compare two outputs (canonical text) of one step, volatile fields left out."""
    if recorded == observed:
        return Verdict.MATCHED, None
    left, right = parse(recorded), parse(observed)
    if volatile and render(without_volatile(left, volatile)) == render(without_volatile(right, volatile)):
        return Verdict.IGNORED, None
    # Looked for in the whole values, so that a path counts members as they were returned.
    found = list(differences(left, right))
    path, was, now = next((place for place in found if not _is_volatile(place[0], volatile)), found[0])
    return Verdict.DIVERGED, Divergence(address=address, path=path, recorded=was, observed=now)


def _is_volatile(path: str, volatile: Sequence[str]) -> bool:
    parts = path.split("/")[1:]
    for field in volatile:
        if field[:1] == "/":
            pattern = field.split("/")[1:]
            if len(pattern) <= len(parts) and all(map(_fits, pattern, parts)):
                return True
        elif parts[:1] == [_escaped(field)]:
            return True
    return False


def _fits(pattern: str, part: str) -> bool:
    return pattern in ("*", part)


def differences(left: Any, right: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (JSON pointer, left value, right value) for every place where two JSON values of canonical form differ.

    Pointers speak of the value a step returned, not of its tags: a dataclass's field is "/total".
    """
    if left is ABSENT or right is ABSENT:
        yield path, left, right
    elif type(left) is type(right) is dict:
        yield from _in_objects(left, right, path)
    elif type(left) is type(right) is list:
        for index in range(max(len(left), len(right))):
            one = left[index] if index < len(left) else ABSENT
            other = right[index] if index < len(right) else ABSENT
            yield from differences(one, other, f"{path}/{index}")
    elif type(left) is not type(right) or left != right or (type(left) is float and repr(left) != repr(right)):
        yield path, left, right  # 0.0 equals -0.0, and is another text


def _in_objects(left: dict[str, Any], right: dict[str, Any], path: str) -> Iterator[tuple[str, Any, Any]]:
    tag = _tag(left)
    if tag != _tag(right) or (tag and tag not in _CONTAINERS and tag not in _INSTANCES):
        if left != right:
            yield path, left, right
    elif tag in _INSTANCES:
        yield from _in_instances(left, right, tag, path)
    elif tag:
        yield from differences(left[tag], right[tag], path)
    else:
        left, right = _unescaped(left), _unescaped(right)
        for key in sorted({*left, *right}):
            yield from differences(left.get(key, ABSENT), right.get(key, ABSENT), f"{path}/{_escaped(key)}")


def _in_instances(left: dict[str, Any], right: dict[str, Any], tag: str, path: str) -> Iterator[tuple[str, Any, Any]]:
    one, other = left[tag], right[tag]
    if one.get("type") != other.get("type"):
        yield path, left, right
        return
    found = [
        place
        for part in ("fields", "extra", "value")
        for place in differences(one.get(part, {}), other.get(part, {}), path)
    ]
    yield from found
    if not found and one.get("unset") != other.get("unset"):
        yield path, left, right


_CONTAINERS = frozenset({"$tuple", "$set", "$frozenset"})
_INSTANCES = frozenset({"$dataclass", "$model", "$custom"})


def _tag(node: dict[str, Any]) -> str:
    """The tag of a value that is not plain JSON; "" for an object. ``$$x`` is an object with the key ``$x``."""
    if len(node) != 1:
        return ""
    (key,) = node
    return key if key[:1] == "$" and key[:2] != "$$" else ""


def _unescaped(node: dict[str, Any]) -> dict[str, Any]:
    """The object with its own keys: a lone ``$x`` is written ``$$x``."""
    if len(node) != 1:
        return node
    ((key, value),) = node.items()
    return {key[1:]: value} if key[:2] == "$$" else node


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
