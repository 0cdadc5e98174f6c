"""What the demo concludes from rows of the database: a true story holds, and each lie is found."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from aos_workflow.cli.demo import demo, story
from aos_workflow.cli.demo.claims import Aftermath, Look, aftermath, other_result, same_result
from aos_workflow.records import Attempt, AttemptState, Checkpoint, Run, RunResult, RunStatus

SECOND_WORKER_AT = 20.0

RUN = Run(
    id="r",
    workflow="trips",
    status=RunStatus.RUNNING,
    plan_digest="p",
    inputs_digest="i",
    seed=7,
    logical_time=0.0,
    idempotency_key=None,
    epoch=1,
    size=4,
    done=0b0001,
    splices=0,
    inline=False,
    created_at=0.0,
    updated_at=0.0,
    started_at=0.0,
    finished_at=None,
    workflow_hash=None,
    error=None,
)
ENDED = replace(RUN, status=RunStatus.SUCCEEDED, done=0b1111, workflow_hash="h")


def attempt(address: str, number: int, worker: str, at: float, state: str = "committed") -> Attempt:
    return Attempt(
        run_id="r",
        address=address,
        attempt=number,
        state=AttemptState(state),
        worker_id=worker,
        pid=1,
        started_at=at,
        finished_at=None,
        due_at=None,
        error=None,
    )


def checkpoint(address: str, number: int, worker: str, at: float) -> Checkpoint:
    return Checkpoint(
        run_id="r",
        address=address,
        position=0,
        attempt=number,
        output="1",
        digest=f"d{address}",
        stable_digest=f"d{address}",
        effects=None,
        worker_id=worker,
        started_at=at - 1,
        committed_at=at,
    )


# Two processes of the first worker: one has committed 1.a and is on 2.b, the other is on 3.c. Then comes z.
LEFT = Look(
    run=RUN,
    attempts=(
        attempt("1.a", 1, "x", 1),
        attempt("2.b", 1, "x", 3, "running"),
        attempt("3.c", 1, "y", 4, "running"),
    ),
    checkpoints=(checkpoint("1.a", 1, "x", 2),),
)
END = Look(
    run=ENDED,
    attempts=(
        attempt("1.a", 1, "x", 1),
        attempt("2.b", 1, "x", 3, "lost"),
        attempt("2.b", 2, "z", 23),
        attempt("3.c", 1, "y", 4, "lost"),
        attempt("3.c", 2, "z", 22.5),
        attempt("10.d", 1, "z", 25),
    ),
    checkpoints=(
        checkpoint("1.a", 1, "x", 2),
        checkpoint("2.b", 2, "z", 24),
        checkpoint("3.c", 2, "z", 23),
        checkpoint("10.d", 1, "z", 26),
    ),
)


def concluded(left: Look = LEFT, end: Look = END) -> Aftermath:
    return aftermath(left, end, second_worker_at=SECOND_WORKER_AT)


def broken(facts: Aftermath) -> dict[str, tuple[str, ...]]:
    return {claim.name: claim.broken_by for claim in facts.claims if not claim.holds}


def test_a_resumed_run_keeps_every_claim() -> None:
    """Committed once, in flight twice, the rest once: everything holds, with the right figures."""
    facts = concluded()
    assert broken(facts) == {}
    assert (facts.steps, facts.committed, facts.in_flight) == (4, ("1.a",), ("2.b", "3.c"))
    assert (facts.landed, facts.repeated, facts.resumed_after_s) == ((), ("2.b", "3.c"), 2.5)


def test_a_committed_step_that_ran_again_is_found() -> None:
    """A second attempt at a step with a checkpoint breaks two claims, whoever made it."""
    facts = concluded(end=replace(END, attempts=(*END.attempts, attempt("1.a", 2, "z", 22, "lost"))))
    assert broken(facts) == {"committed_ran_once": ("1.a",), "only_in_flight_ran_again": ("1.a",)}


def test_an_attempt_begun_after_the_commit_is_found() -> None:
    """The one attempt of a committed step must have begun before its commit."""
    late = tuple(replace(one, started_at=21.0) if one.address == "1.a" else one for one in END.attempts)
    assert broken(concluded(end=replace(END, attempts=late))) == {"committed_ran_once": ("1.a",)}


def test_a_committed_step_without_its_attempt_is_found() -> None:
    """A checkpoint that no attempt accounts for proves nothing."""
    assert broken(concluded(end=replace(END, attempts=END.attempts[1:])))["committed_ran_once"] == ("1.a",)


@pytest.mark.parametrize("change", [{"digest": "other"}, {"committed_at": 30.0}, {"worker_id": "z"}])
def test_a_rewritten_checkpoint_is_found(change: dict[str, Any]) -> None:
    """A checkpoint from before the kill must be there unchanged in every column."""
    rewritten = (replace(END.checkpoints[0], **change), *END.checkpoints[1:])
    assert broken(concluded(end=replace(END, checkpoints=rewritten)))["checkpoints_kept"] == ("1.a",)


def test_a_step_that_ran_twice_without_having_been_in_flight_is_found() -> None:
    """Steps which the dead worker had not begun have no reason to run twice."""
    facts = concluded(end=replace(END, attempts=(*END.attempts, attempt("10.d", 2, "z", 25.5))))
    assert broken(facts) == {"only_in_flight_ran_again": ("10.d",)}


def test_a_commit_under_way_at_the_kill_counts_as_landed() -> None:
    """The database may finish a commit whose worker just died: that step is not repeated, and all is well."""
    attempts = tuple(one for one in END.attempts if (one.address, one.attempt) != ("3.c", 2))
    checkpoints = (*END.checkpoints[:2], checkpoint("3.c", 1, "y", 5), END.checkpoints[3])
    facts = concluded(end=replace(END, attempts=attempts, checkpoints=checkpoints))
    assert broken(facts) == {}
    assert (facts.in_flight, facts.landed, facts.repeated) == (("2.b", "3.c"), ("3.c",), ("2.b",))


def test_a_claim_under_way_at_the_kill_counts_as_in_flight() -> None:
    """The database may also finish a claim of the dead worker's after the look at what it left."""
    facts = concluded(left=replace(LEFT, attempts=LEFT.attempts[:1] + LEFT.attempts[2:]))
    assert broken(facts) == {}
    assert facts.in_flight == ("2.b", "3.c")


def test_nothing_in_flight_is_no_lie() -> None:
    """A worker killed between two steps leaves nothing to repeat."""
    end = replace(
        END,
        attempts=(attempt("1.a", 1, "x", 1), *(attempt(name, 1, "z", 23) for name in ("2.b", "3.c", "10.d"))),
        checkpoints=(END.checkpoints[0], *(checkpoint(name, 1, "z", 24) for name in ("2.b", "3.c", "10.d"))),
    )
    facts = concluded(left=replace(LEFT, attempts=LEFT.attempts[:1]), end=end)
    assert (broken(facts), facts.in_flight, facts.repeated) == ({}, (), ())


@pytest.mark.parametrize(
    "end",
    [
        replace(END, checkpoints=END.checkpoints[:-1]),
        replace(END, run=replace(ENDED, status=RunStatus.FAILED)),
    ],
)
def test_an_unfinished_run_is_found(end: Look) -> None:
    """A run that did not succeed, or lacks a checkpoint, is not resumed."""
    assert "everything_committed" in broken(concluded(end=end))


def result(hash: str | None = "h", output: str = "o", status: RunStatus = RunStatus.SUCCEEDED) -> RunResult:
    return RunResult(run_id="r", workflow="trips", status=status, output={"sha256": output}, workflow_hash=hash)


@pytest.mark.parametrize(
    ("undisturbed", "lies"),
    [
        (result(), []),
        (result(hash="other"), ["same_hash"]),
        (result(output="other"), ["same_output"]),
        (result(hash=None, status=RunStatus.FAILED), ["same_hash"]),
    ],
)
def test_the_crash_may_leave_no_trace_in_the_result(undisturbed: RunResult, lies: list[str]) -> None:
    """Hash and output of the interrupted run must equal those of one that succeeded undisturbed."""
    assert [claim.name for claim in same_result(result(), undisturbed) if not claim.holds] == lies


def test_two_failures_are_not_the_same_result() -> None:
    """Two runs without a hash have nothing in common."""
    failed = result(hash=None, status=RunStatus.FAILED)
    assert not same_result(failed, failed)[0].holds


@pytest.mark.parametrize(
    ("other", "holds"),
    [(result(hash="other"), True), (result(), False), (result(hash=None, status=RunStatus.FAILED), False)],
)
def test_another_seed_must_give_another_hash(other: RunResult, holds: bool) -> None:
    """A hash that does not notice the seed would prove nothing."""
    assert other_result(result(), other).holds is holds


@pytest.mark.parametrize(("other", "status"), [(result(hash="other"), 0), (result(), 1)])
def test_a_claim_that_does_not_hold_ends_with_status_1(
    other: RunResult, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command names the claim on stderr and fails; stdout is the document all the same."""
    facts = concluded()
    outcome = story.Outcome(
        play=story.Play(rows=1_000, parts=2, seed=7),
        facts=facts,
        claims=(*facts.claims, *same_result(result(), result()), other_result(result(), other)),
        interrupted=result(),
        undisturbed=result(),
        other_seed=other,
        seconds={"all": 1.0},
        golden="trips-r.json",
        directory=None,
    )
    monkeypatch.setattr(story, "perform", lambda *_, **__: outcome)
    before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGHUP)]
    try:
        done = CliRunner().invoke(demo, ["--json"])
    finally:
        for signum, handler in zip((signal.SIGTERM, signal.SIGHUP), before, strict=True):
            signal.signal(signum, handler)
    assert done.exit_code == status
    assert json.loads(done.stdout)["holds"] is (status == 0)
    assert ("is not true here" in done.stderr) is (status == 1)
    assert ("other_seed_other_hash" in done.stderr) is (status == 1)
