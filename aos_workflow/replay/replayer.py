"""A whole recording, performed again: its verdict, and the first place where it parts from what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aos_workflow.canonical import stable_digest
from aos_workflow.clock import monotonic_s
from aos_workflow.divergence import Cause, Divergence, Verdict, compare
from aos_workflow.errors import AosError
from aos_workflow.journal import Breach
from aos_workflow.recording import Recording
from aos_workflow.replay.performing import Reperformed, Tasks, reperform

#: Puts addresses into the order in which they are performed; what a step sees must not depend on it.
Order = Callable[[tuple[str, ...]], Iterable[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """What replaying one recording gave.

    divergences     one per step that differs, in plan order
    undeclared      what steps wanted from outside though nothing differs for it, in plan order
    served          how many steps were served from the recording instead of performed
    workflow_hash   the hash of the outputs as they came out now; None if a step gave none
    error           why it could not be told (verdict "error")
    """

    workflow: str
    run_id: str
    golden: str | None
    verdict: Verdict
    divergences: tuple[Divergence, ...] = ()
    undeclared: tuple[Breach, ...] = ()
    performed: int = 0
    served: int = 0
    recorded_hash: str | None = None
    workflow_hash: str | None = None
    duration_s: float = 0.0
    error: Mapping[str, Any] | None = None

    @property
    def divergence(self) -> Divergence | None:
        """The first one."""
        return self.divergences[0] if self.divergences else None

    def as_json(self) -> dict[str, Any]:
        return {
            "workflow": self.workflow,
            "run_id": self.run_id,
            "golden": self.golden,
            "verdict": self.verdict.value,
            "divergence": self.divergence.as_json() if self.divergence else None,
            "divergences": [divergence.as_json() for divergence in self.divergences],
            "undeclared": [
                {"cause": breach.cause, "what": breach.what, "location": breach.location} for breach in self.undeclared
            ],
            "performed": self.performed,
            "served": self.served,
            "recorded_hash": self.recorded_hash,
            "workflow_hash": self.workflow_hash,
            "duration_s": round(self.duration_s, 6),
            "error": dict(self.error) if self.error else None,
        }


def replay_recording(
    recording: Recording,
    tasks: Tasks,
    *,
    golden: str | None = None,
    volatile: tuple[str, ...] = (),
    order: Order | None = None,
    all_threads: bool = False,
) -> Replayed:
    """Perform every step of ``recording`` again, sealed, and compare. Never raises for what a step does."""
    began_s = monotonic_s()
    addresses = tuple(step.address for step in recording.steps)
    try:
        performed = {
            address: reperform(recording, address, tasks, volatile=volatile, all_threads=all_threads)
            for address in (order(addresses) if order else addresses)
        }
    except AosError as error:
        return could_not_tell(recording, error, golden=golden)
    answers = [performed[address] for address in addresses]
    verdicts, divergences = zip(*(judge(recording, answer) for answer in answers), strict=True) if answers else ((), ())
    found = tuple(divergence for divergence in divergences if divergence is not None)
    blamed = {divergence.address for divergence in found}
    return Replayed(
        workflow=recording.workflow,
        run_id=recording.run_id,
        golden=golden,
        verdict=_overall(verdicts),
        divergences=found,
        undeclared=tuple(breach for answer in answers if answer.address not in blamed for breach in answer.breaches),
        performed=sum(not answer.is_served for answer in answers),
        served=sum(answer.is_served for answer in answers),
        recorded_hash=recording.workflow_hash,
        workflow_hash=_hash(recording, answers),
        duration_s=monotonic_s() - began_s,
    )


def could_not_tell(recording: Recording, error: AosError, *, golden: str | None) -> Replayed:
    """The verdict "error": a task is gone, a version cannot be read."""
    return Replayed(
        workflow=recording.workflow,
        run_id=recording.run_id,
        golden=golden,
        verdict=Verdict.ERROR,
        recorded_hash=recording.workflow_hash,
        error=error.as_json(),
    )


def judge(recording: Recording, answer: Reperformed) -> tuple[Verdict, Divergence | None]:
    """Compare what a step gave with what was recorded; a breach of the seal names its cause at once."""
    recorded = recording.step(answer.address)
    if answer.output is None:
        failure = answer.failure
        observed = {"raised": failure.type, "message": failure.message} if failure else None
        divergence = Divergence(
            address=answer.address, path="", recorded=recorded.as_json()["output"], observed=observed
        )
        return Verdict.DIVERGED, _blamed(divergence, answer)
    verdict, found = compare(answer.address, recorded.output, answer.output, answer.volatile)
    return verdict, _blamed(found, answer) if found else None


def _blamed(divergence: Divergence, answer: Reperformed) -> Divergence:
    outside = [breach for breach in answer.breaches if breach.cause != Cause.CODE_CHANGE]
    if not outside:
        return divergence
    return divergence.because(Cause(outside[0].cause), outside[0].location)


def _overall(verdicts: Iterable[Verdict]) -> Verdict:
    found = set(verdicts)
    return next((verdict for verdict in (Verdict.DIVERGED, Verdict.IGNORED) if verdict in found), Verdict.MATCHED)


def _hash(recording: Recording, answers: list[Reperformed]) -> str | None:
    """The workflow hash of what came out, volatile fields left out as they were when it was recorded."""
    digests = {}
    for answer in answers:
        recorded = recording.step(answer.address)
        if answer.output is None:
            return None
        same = answer.output == recorded.output
        digests[answer.address] = recorded.stable_digest if same else stable_digest(answer.output, recorded.volatile)
    return recording.hash_of(digests)
