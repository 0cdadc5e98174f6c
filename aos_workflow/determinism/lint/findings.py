"""What the lint may say: its rules, each with the cause of divergence it leads to and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One source of non-determinism.

    ``says`` completes "``call`` ..."; ``cause`` is the word a divergence would be explained with.
    """

    code: str
    cause: str | None
    says: str
    fix: str


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Finding:
    """One place where two performances of a step may part. Line and column count from 1.

    ``step`` is the step or workflow whose code it is; None when no step of the file leads there.
    """

    file: str
    line: int
    column: int
    rule: str
    cause: str | None
    message: str
    fix: str
    step: str | None
    end_line: int

    def as_json(self) -> dict[str, object]:
        names = ("file", "line", "column", "rule", "cause", "message", "fix", "step")
        return {name: getattr(self, name) for name in names}


_RECORDED = 'ctx.effect("name", ...) or a step of its own with @step(effect=True)'

RULES = {
    rule.code: rule
    for rule in (
        Rule(
            code="unseeded-random",
            cause="unseeded_random",
            says="draws from chance that no seed of the run decides",
            fix="draw from ctx.random",
        ),
        Rule(
            code="wall-clock",
            cause="wall_clock",
            says="reads the clock of whoever performs the step",
            fix="use ctx.now, the run's logical time",
        ),
        Rule(
            code="random-uuid",
            cause="uuid",
            says="makes another id every time",
            fix="use ctx.uuid()",
        ),
        Rule(
            code="os-entropy",
            cause="os_entropy",
            says="draws from the operating system's entropy",
            fix=f"draw from ctx.random, or record a secret: {_RECORDED}",
        ),
        Rule(
            code="set-order",
            cause="set_order",
            says="depends on the order of a set, which differs from process to process",
            fix="put sorted(...) around the set",
        ),
        Rule(
            code="object-identity",
            cause="object_identity",
            says="depends on where an object lies in memory or on the process's hash seed",
            fix="take a stable key: a field of the value, or hashlib over its bytes",
        ),
        Rule(
            code="environment",
            cause="environment",
            says="depends on the host or the environment of the worker",
            fix="pass it as an input of the run, or record it: ctx.effect(...)",
        ),
        Rule(
            code="local-time-zone",
            cause="environment",
            says="depends on the time zone of the host",
            fix="name the time zone: tz=UTC, or time.gmtime(seconds)",
        ),
        Rule(
            code="filesystem",
            cause="filesystem",
            says="depends on the files of the host, or changes them",
            fix=f"record it: {_RECORDED}",
        ),
        Rule(
            code="directory-order",
            cause="filesystem",
            says="lists files in the order the file system happens to keep them",
            fix=f"sorted(...), and record the listing: {_RECORDED}",
        ),
        Rule(
            code="module-state",
            cause="process_state",
            says="changes state that outlives the step, so a result depends on what this process did before",
            fix="keep it in a local variable, return it, or pass it as an argument",
        ),
        Rule(
            code="process-identity",
            cause="process_state",
            says="names the process or thread that happens to perform the step",
            fix="use ctx.idempotency_key or ctx.uuid() to tell things apart",
        ),
        Rule(
            code="thread-race",
            cause="thread_race",
            says="leaves the order to whichever thread or process is faster",
            fix="make a group of steps of it, or keep the order of the inputs: pool.map(...)",
        ),
        Rule(
            code="external-call",
            cause="external_call",
            says="talks to the world outside of the run, unrecorded",
            fix=f"record it: {_RECORDED}",
        ),
        Rule(
            code="unused-allow",
            cause=None,
            says="allows nothing that would be found here",
            fix="remove it",
        ),
    )
}

#: What stays a fault where the value is recorded whole (in ``@step(effect=True)`` and inside of ``ctx.effect``): an
#: attempt that a crash cut short is made again in another process, and must then send the same to the world; and
#: what it leaves in its process reaches steps that are not recorded.
EVEN_WHEN_RECORDED = frozenset({"set-order", "object-identity", "module-state"})
