"""Recording: a finished run's checkpoints and effects in plan order, with inputs and seed. Pure; no I/O.

It holds all that performing the run again needs, and all that its workflow hash is made of. A golden
is a recording with an envelope around it, signed and on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from aos_workflow.canonical import digest, parse, render
from aos_workflow.errors import GoldenUnreadable
from aos_workflow.plan import INPUT, Plan, plan_order
from aos_workflow.records import Attempt, AttemptState, Checkpoint, Run, workflow_hash


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedStep:
    """One step as it was performed. ``output`` and ``effects`` (its journal) are canonical text.

    effect      the step was declared ``effect=True``: a replay serves its output instead of performing it
    retries     how many attempts had raised before the one that committed
    volatile    the fields of its output that were left out of ``stable_digest``
    """

    address: str
    task: str
    output: str
    digest: str
    stable_digest: str
    effects: str | None = None
    attempt: int = 1
    retries: int = 0
    volatile: tuple[str, ...] = ()
    effect: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "task": self.task,
            "output": parse(self.output),
            "digest": self.digest,
            "stable_digest": self.stable_digest,
            "effects": parse(self.effects) if self.effects else None,
            "attempt": self.attempt,
            "retries": self.retries,
            "volatile": list(self.volatile),
            "effect": self.effect,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RecordedStep:
        effects = document["effects"]
        return cls(
            **{
                **document,
                "output": render(document["output"]),
                "effects": render(effects) if effects else None,
                "volatile": tuple(document["volatile"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One finished run. ``splices`` are the sub-plans that steps brought, in the order they were committed."""

    run_id: str
    workflow: str
    seed: int
    logical_time: float
    inputs: str
    plan: Plan
    splices: tuple[tuple[str, Plan], ...]
    steps: tuple[RecordedStep, ...]
    workflow_hash: str
    #: Task name -> where its code was when it ran, and a fingerprint of it (see ``determinism.fingerprint``).
    code: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def whole_plan(self) -> Plan:
        """The plan with every sub-plan in its place."""
        plan = self.plan
        for address, sub in self.splices:
            plan = plan.spliced(address, sub)
        return plan

    @cached_property
    def outputs(self) -> Mapping[str, str]:
        """Address -> recorded output, and the run's inputs."""
        return {INPUT: self.inputs, **{step.address: step.output for step in self.steps}}

    def step(self, address: str) -> RecordedStep:
        """The recorded step; KeyError if there is none."""
        return self._by_address[address]

    @cached_property
    def _by_address(self) -> Mapping[str, RecordedStep]:
        return {step.address: step for step in self.steps}

    def hash_of(self, stable_digests: Mapping[str, str]) -> str:
        """The workflow hash this run would have with these digests of its steps."""
        return workflow_hash(
            workflow=self.workflow, inputs_digest=digest(self.inputs), seed=self.seed, digests=stable_digests
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "workflow": self.workflow,
            "seed": self.seed,
            "logical_time": self.logical_time,
            "inputs": parse(self.inputs),
            "plan": parse(self.plan.text),
            "splices": [{"address": address, "plan": parse(sub.text)} for address, sub in self.splices],
            "steps": [step.as_json() for step in self.steps],
            "workflow_hash": self.workflow_hash,
            "code": dict(self.code),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Recording:
        """Read a recording's JSON. Raises GoldenUnreadable for what is no recording, VersionMismatch for its plan."""
        try:
            recording = cls(
                run_id=document["run_id"],
                workflow=document["workflow"],
                seed=document["seed"],
                logical_time=document["logical_time"],
                inputs=render(document["inputs"]),
                plan=Plan.from_text(render(document["plan"])),
                splices=tuple(
                    (splice["address"], Plan.from_text(render(splice["plan"]))) for splice in document["splices"]
                ),
                steps=tuple(RecordedStep.from_json(step) for step in document["steps"]),
                workflow_hash=document["workflow_hash"],
                code=document.get("code", {}),
            )
            for step in recording.steps:
                recording.whole_plan.step(step.address)
            return recording
        except (KeyError, TypeError, AttributeError) as malformed:
            raise GoldenUnreadable(
                f"the document is no recording: {type(malformed).__name__} {malformed}",
                fix="was it written by another version of aos_workflow?",
            ) from None


def recording_of(
    run: Run,
    *,
    inputs: str,
    plan: Plan,
    splices: Sequence[tuple[str, Plan]],
    checkpoints: Sequence[Checkpoint],
    attempts: Sequence[Attempt],
    facts: Mapping[str, Mapping[str, Any]],
) -> Recording:
    """The recording of a run that succeeded.

    ``facts``: task name -> what today's code says of it ("effect", "volatile", and its fingerprint under "code").
    """
    retries: dict[str, int] = {}
    for attempt in attempts:
        if attempt.state is AttemptState.RETRY:
            retries[attempt.address] = retries.get(attempt.address, 0) + 1
    whole = plan
    for address, sub in splices:
        whole = whole.spliced(address, sub)
    steps = []
    for checkpoint in sorted(checkpoints, key=lambda checkpoint: plan_order(checkpoint.address)):
        if checkpoint.position < 0:
            continue  # the handler of a failure that was resumed: no step, and not in the hash
        task = whole.step(checkpoint.address).task
        known = facts.get(task, {})
        steps.append(
            RecordedStep(
                address=checkpoint.address,
                task=task,
                output=checkpoint.output,
                digest=checkpoint.digest,
                stable_digest=checkpoint.stable_digest,
                effects=checkpoint.effects,
                attempt=checkpoint.attempt,
                retries=retries.get(checkpoint.address, 0),
                volatile=tuple(known.get("volatile", ())),
                effect=bool(known.get("effect", False)),
            )
        )
    return Recording(
        run_id=run.id,
        workflow=run.workflow,
        seed=run.seed,
        logical_time=run.logical_time,
        inputs=inputs,
        plan=plan,
        splices=tuple(splices),
        steps=tuple(steps),
        workflow_hash=run.workflow_hash or "",
        code={task: known["code"] for task, known in sorted(facts.items()) if known.get("code")},
    )
