"""What the demo claims, decided from rows of the database alone: ``attempts`` and ``checkpoints``. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aos_workflow.plan import plan_order
from aos_workflow.records import Attempt, Checkpoint, Run, RunResult, RunStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A run as the database shows it at one moment."""

    run: Run
    attempts: tuple[Attempt, ...]
    checkpoints: tuple[Checkpoint, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One sentence that holds or does not; ``broken_by`` names the steps (or values) that break it."""

    name: str
    text: str
    broken_by: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.broken_by

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


@dataclass(frozen=True, kw_only=True, slots=True)
class Aftermath:
    """What became of a run whose worker was killed. Addresses are in plan order, times in seconds.

    committed      had a checkpoint when the worker was dead
    in_flight      an attempt of the dead worker's was on them, without a checkpoint
    landed         of those, their commit was already under way in the database and came through
    repeated       have more than one attempt
    resumed_after  from the second worker's start to its first attempt
    """

    steps: int
    committed: tuple[str, ...]
    in_flight: tuple[str, ...]
    landed: tuple[str, ...]
    repeated: tuple[str, ...]
    resumed_after_s: float | None
    claims: tuple[Claim, ...]


def aftermath(killed: Look, ended: Look, *, second_worker_at: float) -> Aftermath:
    """Compare the run as the killed worker left it with the run as the second worker ended it."""
    committed = {checkpoint.address: checkpoint for checkpoint in killed.checkpoints}
    final = {checkpoint.address: checkpoint for checkpoint in ended.checkpoints}
    attempts = _by_address(ended.attempts)
    dead = {attempt.worker_id for attempt in killed.attempts}
    in_flight = {attempt.address for attempt in ended.attempts if attempt.worker_id in dead} - set(committed)
    landed = {address for address in in_flight if address in final and final[address].worker_id in dead}
    repeated = {address for address, tries in attempts.items() if len(tries) > 1}
    resumed_at = min((attempt.started_at for attempt in ended.attempts if attempt.worker_id not in dead), default=None)
    claims = (
        _committed_ran_once(committed, attempts),
        _committed_rows_are_kept(committed, final),
        Claim(
            name="only_in_flight_ran_again",
            text=_only(len(in_flight - landed)),
            broken_by=_ordered(repeated ^ (in_flight - landed)),
        ),
        _everything_is_committed(ended),
    )
    return Aftermath(
        steps=ended.run.size,
        committed=_ordered(committed),
        in_flight=_ordered(in_flight),
        landed=_ordered(landed),
        repeated=_ordered(repeated),
        resumed_after_s=None if resumed_at is None else resumed_at - second_worker_at,
        claims=claims,
    )


def same_result(interrupted: RunResult, undisturbed: RunResult) -> tuple[Claim, ...]:
    """The crash left no trace in what the run computed: same workflow hash, same output."""
    hashes = (str(interrupted.workflow_hash), str(undisturbed.workflow_hash))
    outputs = (str(interrupted.output), str(undisturbed.output))
    succeeded = undisturbed.status is RunStatus.SUCCEEDED and undisturbed.workflow_hash is not None
    return (
        Claim(
            name="same_hash",
            text="the workflow hash equals the undisturbed run's",
            broken_by=() if succeeded and hashes[0] == hashes[1] else hashes,
        ),
        Claim(
            name="same_output",
            text="the report is the same, byte for byte",
            broken_by=() if outputs[0] == outputs[1] else outputs,
        ),
    )


def replayed(answers: Sequence[Mapping[str, Any]]) -> Claim:
    """Replays (``Replayed`` as JSON) of one golden, in processes that find everything else different."""
    first = answers[0]
    served = f", {first['served']} answered from the recording" if first.get("served") else ""
    return Claim(
        name="replays_match",
        text=f"{len(answers)} replays, 0 mismatches: {first.get('performed')} steps performed again{served}",
        broken_by=tuple(_why(answer) for answer in answers if answer["verdict"] != "matched"),
    )


def _why(answer: Mapping[str, Any]) -> str:
    found, error = answer.get("divergence"), answer.get("error")
    if found:
        return f"{found['address']} {found['path']}: {found['recorded']!r:.60} became {found['observed']!r:.60}"
    return str(error["message"]) if error else str(answer["verdict"])


def other_result(run: RunResult, other_seed: RunResult) -> Claim:
    """The workflow hash is a proof and no constant: chance that fell differently shows in it."""
    differs = other_seed.status is RunStatus.SUCCEEDED and other_seed.workflow_hash != run.workflow_hash
    return Claim(
        name="other_seed_other_hash",
        text="with another seed the workflow hash is another one",
        broken_by=() if differs else (str(other_seed.workflow_hash),),
    )


def _committed_ran_once(committed: Mapping[str, Checkpoint], attempts: Mapping[str, list[Attempt]]) -> Claim:
    broken = [
        address
        for address, checkpoint in committed.items()
        if [attempt.attempt for attempt in attempts.get(address, [])] != [checkpoint.attempt]
        or any(attempt.started_at > checkpoint.committed_at for attempt in attempts[address])
    ]
    text = f"{len(committed)} committed steps did not run again: one attempt each, none begun after its commit"
    return Claim(name="committed_ran_once", text=text, broken_by=_ordered(broken))


def _committed_rows_are_kept(committed: Mapping[str, Checkpoint], final: Mapping[str, Checkpoint]) -> Claim:
    broken = [address for address, checkpoint in committed.items() if final.get(address) != checkpoint]
    text = f"their {len(committed)} checkpoints are the very rows that were there before the kill"
    return Claim(name="checkpoints_kept", text=text, broken_by=_ordered(broken))


def _everything_is_committed(ended: Look) -> Claim:
    run = ended.run
    text = f"all {run.size} steps have one checkpoint each, and the run succeeded"
    is_whole = run.status is RunStatus.SUCCEEDED and len({c.address for c in ended.checkpoints}) == run.size
    broken = () if is_whole else (f"{run.status.value} with {len(ended.checkpoints)} of {run.size} checkpoints",)
    return Claim(name="everything_committed", text=text, broken_by=broken)


def _only(count: int) -> str:
    if not count:
        return "nothing was in flight, so nothing ran again"
    return f"only what was in flight ran again: {count} step{'s' if count > 1 else ''}"


def _by_address(attempts: Iterable[Attempt]) -> dict[str, list[Attempt]]:
    found: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        found.setdefault(attempt.address, []).append(attempt)
    return found


def _ordered(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(addresses, key=plan_order))
