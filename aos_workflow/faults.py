"""Named points of a step, and of writing goldens, at which a test may let a process die.

In production each is one comparison with None.

    after_enqueue   P1   the run is committed, nothing is published yet
    received        W1   a worker process has the message, before the claim
    after_claim     W2   the claim is committed, before the body
    in_body         W3   the call of the user's function
    before_commit   W4   the body has returned
    in_commit       W5   a step's own session: the checkpoint is written, before COMMIT
    after_commit    W7   the checkpoint is committed, nothing is published yet
    after_publish   W8   what follows is published, before the acknowledgement

    golden_half     G1   half of a golden (or archive) is in its temporary file
    golden_whole    G2   all of it is, on the disk, before it gets its name
    golden_placed   G3   it has its name, before the ledger knows
    golden_entered  G4   the ledger knows, before a file goes

``AOS_FAULTS`` holds rules ``point:action[,condition...]``, joined by ``;``; a point of ``*`` means every point.

    action      kill9 (this process) · kill9group (the worker with all its children) · raise
                stop (SIGSTOP, until somebody sends SIGCONT) · stop=7s (for so long)
    condition   @3 the third matching hit in this process · at=4.score, at=score this address or step name
                once=/path/of/marker never again, in any process · p=0.02 by chance, drawn from seed=17

It is honoured only with ``AOS_TESTING=1``; what fired is in ``AOS_FAULT_LOG``, one JSON line each, on disk before
the process dies.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from aos_workflow.errors import SettingsError

POINTS = ("after_enqueue", "received", "after_claim", "in_body", "before_commit", "in_commit", "after_commit",
          "after_publish", "golden_half", "golden_whole", "golden_placed", "golden_entered")  # fmt: skip
ACTIONS = ("kill9", "kill9group", "raise", "stop")


class InjectedFault(RuntimeError):
    """What the action ``raise`` raises: an error that nobody foresaw, so none of ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """When to do what. ``nth`` 0: every hit; ``chance`` None: always."""

    point: str
    action: str
    stop_s: float = 0.0
    nth: int = 0
    at: str = ""
    once: Path | None = None
    chance: float | None = None
    seed: int = 0

    def matches(self, point: str, address: str) -> bool:
        if self.point not in ("*", point):
            return False
        return self.at in ("", address, address.rpartition(".")[2])


@dataclass(kw_only=True, slots=True)
class Faults:
    """The rules of one process and how often each was met."""

    rules: Sequence[Rule]
    log: Path | None
    hits: dict[int, int] = field(default_factory=dict)

    def hit(self, point: str, address: str) -> None:
        for number, rule in enumerate(self.rules):
            if not rule.matches(point, address):
                continue
            count = self.hits[number] = self.hits.get(number, 0) + 1
            if rule.nth in (0, count) and _is_drawn(rule, point, count) and _is_first(rule.once):
                self._record(point, address, rule, count)
                _act(rule, f"{point} {address}")

    def _record(self, point: str, address: str, rule: Rule, count: int) -> None:
        if self.log is not None:
            line = {"point": point, "address": address, "action": rule.action, "hit": count, "pid": os.getpid()}
            _append(self.log, json.dumps(line) + "\n")


_faults: Faults | None = None


def fault(point: str, address: str = "") -> None:
    """A named point: does nothing, unless a test has asked for a fault here."""
    if _faults is not None:
        _faults.hit(point, address)


def install(rules: str, log: Path | None = None) -> None:
    """Arm this process. Raises SettingsError for rules that cannot be read."""
    global _faults
    _faults = Faults(rules=parsed(rules), log=log) if rules else None


def parsed(text: str) -> tuple[Rule, ...]:
    """The rules of ``AOS_FAULTS``; raises SettingsError naming the one that cannot be read."""
    return tuple(_rule(one.strip()) for one in text.split(";") if one.strip())


def _rule(text: str) -> Rule:
    point, _, rest = text.partition(":")
    action, *conditions = rest.replace("@", ",@").split(",")
    action, _, stop_s = action.partition("=")
    try:
        if (point != "*" and point not in POINTS) or action not in ACTIONS:
            raise ValueError(text)
        rule = Rule(point=point, action=action, stop_s=float(stop_s.removesuffix("s")) if stop_s else 0.0)
        for condition in conditions:
            rule = _narrowed(rule, condition)
    except ValueError:
        raise SettingsError(
            f"AOS_FAULTS: {text!r} is not a rule",
            fix=f"write point:action,conditions; points: {', '.join(POINTS)}; actions: {', '.join(ACTIONS)}",
        ) from None
    return rule


def _narrowed(rule: Rule, condition: str) -> Rule:
    if condition.startswith("@"):
        return replace(rule, nth=int(condition[1:]))
    name, _, value = condition.partition("=")
    match name:
        case "at":
            return replace(rule, at=value)
        case "once":
            return replace(rule, once=Path(value))
        case "p":
            return replace(rule, chance=float(value))
        case "seed":
            return replace(rule, seed=int(value))
        case _:
            raise ValueError(condition)


def _is_drawn(rule: Rule, point: str, count: int) -> bool:
    """Chance from the seed, the process and the hit, so that two processes do not die in step."""
    if rule.chance is None:
        return True
    draw = hashlib.sha256(f"{rule.seed}:{point}:{os.getpid()}:{count}".encode()).digest()
    return int.from_bytes(draw[:8], "big") / 2**64 < rule.chance


def _is_first(marker: Path | None) -> bool:
    """Take the marker: True for the first of all processes that ever ask."""
    if marker is None:
        return True
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def _act(rule: Rule, where: str) -> None:
    match rule.action:
        case "kill9":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill9group":
            os.killpg(os.getpgid(0), signal.SIGKILL)
        case "stop":
            if rule.stop_s:  # a stopped process cannot wake itself
                alarm = f"sleep {rule.stop_s:g}; kill -CONT {os.getpid()}"
                subprocess.Popen(["/bin/sh", "-c", alarm], start_new_session=True)
            os.kill(os.getpid(), signal.SIGSTOP)
        case _:
            raise InjectedFault(where)


def _append(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
