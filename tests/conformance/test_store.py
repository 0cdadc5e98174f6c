"""The store's promises, once for each of its members: SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, func, insert, select, text
from sqlalchemy.orm import registry

from aos_workflow import reading
from aos_workflow.canonical import encode
from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.database import normalised_url, open_database
from aos_workflow.errors import (
    BadOption,
    IdempotencyConflict,
    RunNotFound,
    SchemaMismatch,
    StoreError,
    StoreUnavailable,
    VersionMismatch,
)
from aos_workflow.ids import new_run_id, new_token
from aos_workflow.plan import INPUT, Plan
from aos_workflow.records import (
    AlreadyCommitted,
    AttemptState,
    Busy,
    Committed,
    Granted,
    NotDue,
    NotLive,
    Poisoned,
    RunStatus,
    Superseded,
)
from aos_workflow.schema import REVISION, VERSION_TABLE, metadata
from tests.conformance.store_cases import (
    HOST,
    Bench,
    LossyProxy,
    at_once,
    failure,
    fan,
    guarded,
    line,
    opened_bench,
    sqlite_url,
)

#: Threads of a race, and how often it is run.
RACERS, RACES = 20, 3

own_rows = Table("own_rows", MetaData(), Column("n", Integer, primary_key=True))
"""A table of the user's, for steps that write rows of their own."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def member(request: pytest.FixtureRequest) -> str:
    """Which member of the family the test runs on."""
    return str(request.param)


@pytest.fixture
def database_url(member: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if member == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return sqlite_url(tmp_path)


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    """A store over tables that are there."""
    with opened_bench(database_url) as bench:
        own_rows.metadata.create_all(bench.engine)
        yield bench


def own_count(bench: Bench) -> int:
    with bench.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(own_rows)).scalar_one()


@pytest.fixture
def own_key(bench: Bench) -> int:
    """A key that no row of ``own_rows`` has."""
    with bench.engine.connect() as connection:
        return 1 + (connection.execute(select(func.max(own_rows.c.n))).scalar_one() or 0)


# --- claim ----------------------------------------------------------------------------------------------------


def test_a_claim_of_a_fresh_step_is_granted_as_its_first_attempt(bench: Bench) -> None:
    """Nobody was on the step: it is attempt 1, without retries, of a run that now runs."""
    run_id = bench.run(line(2), seed=11)

    granted = bench.granted(run_id)

    assert (granted.attempt, granted.retries, granted.outputs, granted.digests) == (1, 0, {}, None)
    assert (granted.run.id, granted.run.seed) == (run_id, 11)
    assert bench.store.status(run_id) is RunStatus.RUNNING
    assert bench.states(run_id) == ["running"]


def test_a_claim_brings_the_outputs_of_the_inputs_that_were_named(bench: Bench) -> None:
    """One round trip: the claim's answer holds what the step receives."""
    plan = line(3)
    run_id = bench.run(plan, inputs={"x": 1})
    for address in ("1.t", "2.t"):
        granted = bench.granted(run_id, address)
        bench.store.commit(bench.commit_of(run_id, plan, address, granted.attempt, value=[address]))

    granted = bench.granted(run_id, "3.t", inputs=("2.t", "never"), wants_input=True)

    assert granted.outputs == {"2.t": '["2.t"]', INPUT: encode({"x": 1})}


def test_the_claim_of_the_last_open_step_brings_all_other_digests(bench: Bench) -> None:
    """Whoever commits the last step can write the workflow hash in the same transaction."""
    plan = line(2)
    run_id = bench.run(plan)
    bench.granted(run_id, "1.t")
    first = bench.commit_of(run_id, plan, "1.t")
    bench.store.commit(first)

    assert bench.granted(run_id, "2.t").digests == {"1.t": first.stable_digest}


def test_the_claim_of_an_only_step_brings_no_digest_but_an_empty_map(bench: Bench) -> None:
    """A run of one step is finished by its first commit."""
    assert bench.granted(bench.run(line(1))).digests == {}


def test_a_step_that_a_live_worker_is_on_is_busy(bench: Bench) -> None:
    """The answer names the worker, so that a neighbour can see whether its process is gone."""
    run_id, holder = bench.run(line(1)), bench.worker()
    bench.granted(run_id, worker=holder)

    assert bench.claim(run_id) == Busy(worker_id=holder, host=HOST, pid=1)
    assert bench.states(run_id) == ["running"]


def test_asking_again_with_the_same_token_gives_the_same_attempt(bench: Bench) -> None:
    """A claim whose reply was lost is recognised; it does not become a second attempt."""
    plan, token = line(1), new_token()
    run_id = bench.run(plan, inputs=[1])
    first = bench.granted(run_id, token=token, wants_input=True)

    again = bench.granted(run_id, token=token, wants_input=True)

    assert (again.attempt, again.outputs, again.digests) == (first.attempt, first.outputs, first.digests)
    assert bench.states(run_id) == ["running"]


def test_a_committed_step_is_not_granted_again(bench: Bench) -> None:
    """There is at most one checkpoint, and its body is not repeated."""
    plan = line(2)
    run_id = bench.run(plan)
    bench.granted(run_id)
    bench.store.commit(bench.commit_of(run_id, plan))

    claim = bench.claim(run_id)

    assert isinstance(claim, AlreadyCommitted)
    assert claim.run.done == 0b01


@pytest.mark.parametrize("state", [AttemptState.RETRY, AttemptState.DEFERRED])
def test_a_step_that_was_put_off_is_not_due_until_its_time(bench: Bench, state: AttemptState) -> None:
    """A delay is a time in a column; a message that comes too early is of no use."""
    run_id = bench.run(line(1))
    bench.granted(run_id)
    due_at = bench.settled(run_id, state, delay_s=3600)

    assert bench.claim(run_id) == NotDue(due_at=due_at)
    assert due_at - bench.store.time() == pytest.approx(3600, abs=60)


def test_a_step_whose_time_has_come_is_granted_and_counts_its_retries(bench: Bench) -> None:
    """Only ``retry`` counts as a retry; a deferred start does not."""
    run_id = bench.run(line(1))
    bench.granted(run_id)
    bench.settled(run_id, AttemptState.DEFERRED)
    second = bench.granted(run_id)
    bench.settled(run_id, AttemptState.RETRY, attempt=2)
    third = bench.granted(run_id)

    assert [(second.attempt, second.retries), (third.attempt, third.retries)] == [(2, 0), (3, 1)]


def test_a_step_of_a_silent_worker_is_taken_over(bench: Bench) -> None:
    """No heartbeat for the time to live: the attempt is lost and the next one begins."""
    run_id = bench.run(line(1))

    first, second = bench.take_over(run_id)

    assert (first.attempt, second.attempt) == (1, 2)
    assert bench.states(run_id) == ["lost", "running"]


def test_a_step_of_a_worker_that_left_is_taken_over_at_once(bench: Bench) -> None:
    """Whoever says goodbye is not waited for."""
    run_id, leaver = bench.run(line(1)), bench.worker()
    bench.granted(run_id, worker=leaver)
    bench.fleet.leave(leaver)

    assert bench.granted(run_id).attempt == 2


def test_a_step_of_a_worker_nobody_knows_is_taken_over(bench: Bench) -> None:
    """A worker's row is deleted a day after its end; its claims do not outlive it."""
    run_id = bench.run(line(1))
    bench.granted(run_id, worker="w-forgotten")

    assert bench.granted(run_id).attempt == 2


def test_a_step_that_killed_its_workers_too_often_is_poisoned(bench: Bench) -> None:
    """Attempts are counted at the claim, so a step that kills its worker comes to an end."""
    run_id = bench.run(line(1))
    for _ in range(2):
        worker = bench.worker()
        bench.granted(run_id, worker=worker, most_losses=2)
        bench.fleet.leave(worker)

    claim = bench.claim(run_id, most_losses=2)

    assert isinstance(claim, Poisoned)
    assert (claim.attempt, claim.losses) == (2, 2)
    assert bench.states(run_id) == ["lost", "lost"]


def test_the_losses_of_a_poisoned_step_are_counted_the_same_whenever_it_is_asked(bench: Bench) -> None:
    """A step whose last attempt is known as lost already has not been lost once more."""
    run_id = bench.run(line(1))
    bench.granted(run_id, worker="w-forgotten")
    first = bench.claim(run_id, most_losses=1)
    second = bench.claim(run_id, most_losses=1)

    assert isinstance(first, Poisoned)
    assert isinstance(second, Poisoned)
    assert (first.losses, second.losses) == (1, 1)


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "failing"])
def test_a_step_of_a_run_that_has_ended_is_not_granted(bench: Bench, status: str) -> None:
    """A message that comes late finds a run that is not live any more."""
    run_id = bench.run(line(1))
    bench.change_run(run_id, status=status)

    assert bench.claim(run_id) == NotLive(status=RunStatus(status))
    assert bench.states(run_id) == []


def test_a_step_of_an_unknown_run_is_not_granted(bench: Bench) -> None:
    """A message for a run that was rolled back or deleted starts nothing."""
    assert bench.claim(new_run_id()) == NotLive(status=None)


def test_a_handler_is_granted_in_a_failing_run_only(bench: Bench) -> None:
    """Handlers of failures run when there is a failure."""
    plan = guarded()
    run_id = bench.run(plan)
    early = bench.claim(run_id, "1.on_error.h", is_handler=True)
    bench.granted(run_id)
    bench.failed(run_id, failure(handlers=("1.on_error.h", "2.on_error.h")))

    handler = bench.granted(run_id, "1.on_error.h", is_handler=True)

    assert early == NotLive(status=RunStatus.ENQUEUED)
    assert handler.run.status is RunStatus.FAILING
    assert handler.run.error == failure(handlers=("1.on_error.h", "2.on_error.h"))


def test_a_run_of_another_format_is_refused_and_left_to_others(bench: Bench) -> None:
    """VersionMismatch, and no attempt is made: a worker of the right version must find the step free."""
    run_id = bench.run(line(1))
    bench.change_run(run_id, format=99)

    with pytest.raises(VersionMismatch, match="99"):
        bench.claim(run_id)

    assert bench.states(run_id) == []
    assert bench.store.status(run_id) is RunStatus.ENQUEUED


def test_of_racing_claims_exactly_one_is_granted(bench: Bench) -> None:
    """However many messages for a step arrive at once, one worker is on it."""
    workers = [bench.worker() for _ in range(RACERS)]
    for _ in range(RACES):
        run_id = bench.run(line(1))
        claims = at_once([partial(bench.claim, run_id, worker=worker) for worker in workers])
        assert sum(isinstance(claim, Granted) for claim in claims) == 1
        assert sum(isinstance(claim, Busy) for claim in claims) == RACERS - 1
        assert bench.states(run_id) == ["running"]


def test_of_racing_take_overs_exactly_one_is_granted(bench: Bench) -> None:
    """The death of a worker lets one successor in, not all that noticed it."""
    workers = [bench.worker() for _ in range(RACERS)]
    for _ in range(RACES):
        run_id = bench.run(line(1))
        bench.granted(run_id, worker="w-forgotten")
        claims = at_once([partial(bench.claim, run_id, worker=worker) for worker in workers])
        assert sum(isinstance(claim, Granted) for claim in claims) == 1
        assert bench.states(run_id) == ["lost", "running"]


# --- the fence ------------------------------------------------------------------------------------------------


def test_a_late_commit_writes_nothing(bench: Bench) -> None:
    """A worker that slept through its replacement is superseded."""
    plan = line(1)
    run_id = bench.run(plan)
    bench.take_over(run_id)

    assert bench.store.commit(bench.commit_of(run_id, plan, attempt=1, value="late")) == Superseded()
    assert bench.addresses(run_id) == []
    assert bench.store.run(run_id).done == 0


def test_the_commit_of_the_replacement_stands_against_a_late_one(bench: Bench) -> None:
    """The checkpoint is the one of the attempt that holds the step."""
    plan = line(1)
    run_id = bench.run(plan)
    bench.take_over(run_id)
    bench.store.commit(bench.commit_of(run_id, plan, attempt=2, value="in time"))

    assert bench.store.commit(bench.commit_of(run_id, plan, attempt=1, value="late")) == Superseded()
    assert bench.store.outputs(run_id, ["1.t"]) == {"1.t": '"in time"'}


def test_a_late_retry_or_failure_writes_nothing(bench: Bench) -> None:
    """settle and fail are fenced as commit is."""
    run_id = bench.run(line(1))
    bench.take_over(run_id)
    before = bench.store.run(run_id)

    assert bench.settled(run_id, AttemptState.RETRY, attempt=1) is None
    assert bench.failed(run_id, attempt=1) is None
    assert bench.states(run_id) == ["lost", "running"]
    assert bench.store.run(run_id) == before


def test_a_take_over_that_races_a_commit_leaves_one_owner(bench: Bench) -> None:
    """Either the commit was in time and the step is done, or the successor holds it and the commit is void."""
    plan = line(1)
    for _ in range(RACES):
        run_id, sleeper, successor = bench.run(plan), bench.worker(), bench.worker()
        bench.granted(run_id, worker=sleeper)
        bench.fall_silent(sleeper)
        answer, claim = at_once(
            [
                partial(bench.store.commit, bench.commit_of(run_id, plan)),
                partial(bench.claim, run_id, worker=successor),
            ]
        )
        if isinstance(answer, Committed):
            assert isinstance(claim, AlreadyCommitted | Busy)
            assert bench.states(run_id) == ["committed"]
        else:
            assert isinstance(claim, Granted)
            assert bench.states(run_id) == ["lost", "running"]


# --- commit ---------------------------------------------------------------------------------------------------


def test_a_commit_answers_with_the_mask_of_all_committed_steps(bench: Bench) -> None:
    """Bit n is the step at position n; the mask is what decides who is next."""
    plan = fan(9)
    run_id = bench.run(plan)
    masks = []
    for address in ("9.part", "1.part", "2.part"):
        granted = bench.granted(run_id, address)
        answer = bench.store.commit(bench.commit_of(run_id, plan, address, granted.attempt))
        assert isinstance(answer, Committed)
        masks.append(answer.done)

    assert masks == [0b1_0000_0000, 0b1_0000_0001, 0b1_0000_0011]
    assert (answer.status, answer.size, answer.splices) == (RunStatus.RUNNING, 10, 0)
    assert bench.store.run(run_id).done == masks[-1]


def test_a_checkpoint_is_kept_as_it_was_committed(bench: Bench) -> None:
    """Output, digests, effects, attempt and worker, letter by letter."""
    plan = line(1)
    run_id = bench.run(plan)
    granted = bench.granted(run_id)
    commit = bench.commit_of(
        run_id, plan, value={"é": [1, "日本", None]}, effects='{"clock": 1}', started_at=granted.started_at
    )
    bench.store.commit(commit)

    with bench.engine.connect() as connection:
        (kept,) = reading.checkpoints_of(connection, run_id)
    for name in ("output", "digest", "stable_digest", "effects", "attempt", "position", "worker_id", "started_at"):
        assert getattr(kept, name) == getattr(commit, name), name
    assert kept.committed_at >= kept.started_at


def test_the_commit_that_carries_the_hash_ends_the_run(bench: Bench) -> None:
    """Checkpoint, status and hash in one transaction."""
    plan = line(1)
    run_id = bench.run(plan)
    bench.granted(run_id)

    answer = bench.store.commit(bench.commit_of(run_id, plan, workflow_hash="abc"))

    assert isinstance(answer, Committed)
    assert answer.status is RunStatus.SUCCEEDED
    run = bench.store.run(run_id)
    assert (run.status, run.workflow_hash) == (RunStatus.SUCCEEDED, "abc")
    assert run.finished_at is not None


def test_a_commit_cannot_end_a_run_that_was_cancelled_meanwhile(bench: Bench) -> None:
    """What was being performed keeps its checkpoint; the run stays cancelled, without a hash."""
    plan = line(1)
    run_id = bench.run(plan)
    bench.granted(run_id)
    bench.store.cancel(run_id)

    answer = bench.store.commit(bench.commit_of(run_id, plan, workflow_hash="abc"))

    assert isinstance(answer, Committed)
    assert answer.status is RunStatus.CANCELLED
    assert bench.addresses(run_id) == ["1.t"]
    assert bench.store.run(run_id).workflow_hash is None


def test_a_handlers_checkpoint_is_no_step_of_the_run(bench: Bench) -> None:
    """It has no position, no bit in the mask and no part in the hash."""
    plan = guarded()
    run_id = bench.run(plan)
    bench.granted(run_id)
    bench.failed(run_id, failure(handlers=("1.on_error.h",)))
    bench.granted(run_id, "1.on_error.h", is_handler=True)

    answer = bench.store.commit(bench.commit_of(run_id, plan, "1.on_error.h"))

    assert isinstance(answer, Committed)
    assert (answer.status, answer.done) == (RunStatus.FAILING, 0)
    assert bench.store.stable_digests(run_id) == {}
    assert bench.store.ended(run_id, ["1.on_error.h"])


def test_of_two_racing_commits_of_one_attempt_one_checkpoint_comes(bench: Bench) -> None:
    """The primary key is the last line of defence."""
    plan = line(2)
    for _ in range(RACES):
        run_id = bench.run(plan)
        bench.granted(run_id)
        at_once(
            [lambda n=number, id=run_id: bench.store.commit(bench.commit_of(id, plan, value=n)) for number in (1, 2)]
        )
        assert bench.addresses(run_id) == ["1.t"]
        assert bench.store.run(run_id).done == 0b01


def test_a_commit_that_is_repeated_answers_as_winner(bench: Bench) -> None:
    """After a lost reply the same commit is asked for again: it is there, and it is this attempt's."""
    plan = line(2)
    run_id = bench.run(plan)
    bench.granted(run_id)
    commit = bench.commit_of(run_id, plan)

    assert bench.store.commit(commit) == bench.store.commit(commit)
    assert bench.addresses(run_id) == ["1.t"]


def test_of_racing_siblings_exactly_one_sees_that_it_was_the_last(bench: Bench) -> None:
    """The lock on the run's row makes its history serial, so each address is released by exactly one commit."""
    plan = fan(RACERS)
    siblings = [step.address for step in plan.steps[:-1]]
    for _ in range(RACES):
        run_id, worker = bench.run(plan), bench.worker()
        for address in siblings:
            bench.granted(run_id, address, worker=worker)
        answers = at_once([partial(bench.store.commit, bench.commit_of(run_id, plan, address)) for address in siblings])
        masks = [answer.done for answer in answers if isinstance(answer, Committed)]
        released = [plan.released(mask, address) for mask, address in zip(masks, siblings, strict=True)]
        assert sorted(mask.bit_count() for mask in masks) == list(range(1, RACERS + 1))
        assert [addresses for addresses in released if addresses] == [(plan.steps[-1].address,)]


# --- dynamic shape --------------------------------------------------------------------------------------------


def sub_plan(plan: Plan) -> tuple[str, str, int]:
    return plan.text, plan.digest, len(plan.steps)


def test_a_splice_grows_the_run_and_its_plan(bench: Bench) -> None:
    """The sub-plan is stored with the checkpoint; its steps get the next positions."""
    plan, sub = line(2), line(3, task="sub")
    run_id = bench.run(plan)
    bench.granted(run_id)

    answer = bench.store.commit(bench.commit_of(run_id, plan, splice=sub_plan(sub)))

    assert isinstance(answer, Committed)
    assert (answer.done, answer.size, answer.splices) == (0b1, 5, 1)
    effective = bench.store.effective_plan(run_id, plan.digest, 1)
    assert [step.address for step in effective.steps] == ["1.t", "2.t", "1.t/1.sub", "1.t/2.sub", "1.t/3.sub"]
    assert effective.ready(answer.done) == ("1.t/1.sub",)


def test_a_spliced_step_is_claimed_and_committed_as_any_other(bench: Bench) -> None:
    """A position beyond the plan the run began with has its bit, too."""
    plan, sub = line(1), line(12, task="sub")
    run_id = bench.run(plan)
    bench.granted(run_id)
    bench.store.commit(bench.commit_of(run_id, plan, splice=sub_plan(sub)))
    effective = bench.store.effective_plan(run_id, plan.digest, 1)
    granted = bench.granted(run_id, "1.t/12.sub")

    answer = bench.store.commit(bench.commit_of(run_id, effective, "1.t/12.sub", granted.attempt))

    assert isinstance(answer, Committed)
    assert answer.done == 0b1_0000_0000_0001


def test_racing_splices_get_places_of_their_own(bench: Bench) -> None:
    """Siblings that are replaced at the same moment: every worker builds the same plan from what is stored."""
    plan = fan(6)
    siblings = [step.address for step in plan.steps[:-1]]
    for _ in range(RACES):
        run_id, worker = bench.run(plan), bench.worker()
        for address in siblings:
            bench.granted(run_id, address, worker=worker)
        commits = [
            bench.commit_of(run_id, plan, address, splice=sub_plan(line(number, task="sub")))
            for number, address in enumerate(siblings, 1)
        ]
        at_once([partial(bench.store.commit, commit) for commit in commits])
        run = bench.store.run(run_id)
        effective = CheckpointStore(bench.engine).effective_plan(run_id, plan.digest, run.splices)
        assert (run.size, run.splices) == (len(effective.steps), 6)
        assert len({step.address for step in effective.steps}) == 7 + 1 + 2 + 3 + 4 + 5 + 6
        assert len(effective.ready(run.done)) == 6


def test_a_superseded_splice_leaves_no_trace(bench: Bench) -> None:
    """Neither the run's size nor its plan changes."""
    plan, sub = line(1), line(3, task="sub")
    run_id = bench.run(plan)
    bench.take_over(run_id)

    assert bench.store.commit(bench.commit_of(run_id, plan, splice=sub_plan(sub))) == Superseded()
    run = bench.store.run(run_id)
    assert (run.size, run.splices) == (1, 0)


# --- the step's own rows --------------------------------------------------------------------------------------


def test_a_steps_own_rows_commit_with_its_checkpoint(bench: Bench, own_key: int) -> None:
    """One transaction: before it neither is there, after it both are."""
    plan = line(1)
    run_id = bench.run(plan)
    bench.granted(run_id)
    before = own_count(bench)
    session = bench.store.open_session()
    session.execute(insert(own_rows).values(n=own_key))

    answer = bench.store.commit_with(session, bench.commit_of(run_id, plan))

    assert isinstance(answer, Committed)
    assert own_count(bench) == before + 1
    assert bench.addresses(run_id) == ["1.t"]


def test_a_superseded_steps_own_rows_are_rolled_back(bench: Bench, own_key: int) -> None:
    """A late worker's rows vanish with its attempt."""
    plan = line(1)
    run_id = bench.run(plan)
    bench.take_over(run_id)
    before = own_count(bench)
    session = bench.store.open_session()
    session.execute(insert(own_rows).values(n=own_key))

    assert bench.store.commit_with(session, bench.commit_of(run_id, plan, attempt=1)) == Superseded()
    assert own_count(bench) == before
    assert bench.addresses(run_id) == []


def test_own_rows_that_the_database_refuses_take_the_checkpoint_with_them(bench: Bench, own_key: int) -> None:
    """A constraint that is violated is a StoreError; the attempt still holds its step."""
    plan = line(1)
    run_id = bench.run(plan)
    bench.granted(run_id)
    with bench.engine.begin() as connection:
        connection.execute(insert(own_rows).values(n=own_key))

    class Own:
        pass

    registry().map_imperatively(Own, own_rows)
    session = bench.store.open_session()
    double = Own()
    double.n = own_key  # type: ignore[attr-defined]
    session.add(double)

    with pytest.raises(StoreError):
        bench.store.commit_with(session, bench.commit_of(run_id, plan))

    assert bench.addresses(run_id) == []
    assert bench.states(run_id) == ["running"]


def test_a_step_must_not_commit_its_session(bench: Bench) -> None:
    """Its rows would be there without the checkpoint."""
    session = bench.store.open_session()
    with pytest.raises(BadOption, match="must not commit"):
        session.commit()
    session.close()


# --- add ------------------------------------------------------------------------------------------------------


def test_runs_are_stored_all_or_none(bench: Bench) -> None:
    """One run that the database refuses takes the others with it."""
    good = bench.new_run(line(1))
    double = bench.run(line(1))
    before = bench.row_counts()["runs"]

    with pytest.raises(StoreError):
        bench.store.add([good, bench.new_run(line(1), id=double)])

    assert bench.row_counts()["runs"] == before
    with pytest.raises(RunNotFound):
        bench.store.run(good.id)


def test_the_plan_of_many_runs_is_stored_once(bench: Bench) -> None:
    """A run references its plan by digest."""
    plan = line(3, task=f"t{new_token()}")
    before = bench.row_counts()["plans"]
    for _ in range(3):
        bench.run(plan)
    bench.store.add([bench.new_run(plan) for _ in range(3)])

    assert bench.row_counts()["plans"] == before + 1
    assert CheckpointStore(bench.engine).plan(plan.digest) == plan


def test_a_run_with_an_empty_plan_has_succeeded_at_once(bench: Bench) -> None:
    """There is nothing to wait for, and the hash is there."""
    run_id = bench.run(line(0), workflow_hash="abc")

    run = bench.store.run(run_id)

    assert (run.status, run.workflow_hash, run.size) == (RunStatus.SUCCEEDED, "abc", 0)
    assert run.finished_at is not None


def test_the_same_idempotency_key_gives_the_same_run(bench: Bench) -> None:
    """A request that is repeated starts nothing new, in another process neither."""
    key = new_token()
    first = bench.run(line(2), idempotency_key=key)
    again = bench.run(line(2), idempotency_key=key)
    elsewhere = Bench(CheckpointStore(bench.engine)).run(line(2), idempotency_key=key)

    assert first == again == elsewhere


def test_a_key_belongs_to_one_workflow(bench: Bench) -> None:
    """Two workflows may use the same key."""
    key = new_token()
    assert bench.run(line(1), idempotency_key=key) != bench.run(line(1), idempotency_key=key, workflow="other")


@pytest.mark.parametrize(
    ("differs", "plan", "changes"),
    [
        ("plan_digest", line(2), {}),
        ("inputs_digest", line(1), {"inputs": {"x": 2}}),
        ("seed", line(1), {"seed": 8}),
    ],
    ids=["plan", "inputs", "seed"],
)
def test_a_key_with_another_request_is_a_conflict(
    bench: Bench, differs: str, plan: Plan, changes: dict[str, Any]
) -> None:
    """The error names the run that has the key and what differs; nothing is written."""
    key = new_token()
    known = bench.run(line(1), idempotency_key=key)
    before = bench.row_counts()["runs"]

    with pytest.raises(IdempotencyConflict) as conflict:
        bench.run(plan, idempotency_key=key, **changes)

    assert conflict.value.evidence == {"run_id": known, "differs": differs}
    assert bench.row_counts()["runs"] == before


def test_of_racing_requests_with_one_key_one_run_comes(bench: Bench) -> None:
    """All get the same id."""
    for _ in range(RACES):
        key, before = new_token(), bench.row_counts()["runs"]
        ids = at_once([partial(bench.run, line(2), idempotency_key=key)] * RACERS)
        assert len(set(ids)) == 1
        assert bench.row_counts()["runs"] == before + 1


def test_a_run_in_the_callers_transaction_vanishes_with_it(bench: Bench) -> None:
    """And so does its plan: whoever stores the next run of that plan stores it."""
    plan = line(2, task=f"t{new_token()}")
    with bench.engine.connect() as connection:
        (run_id,) = bench.store.add([bench.new_run(plan)], connection=connection)
        connection.rollback()
    with pytest.raises(RunNotFound):
        bench.store.run(run_id)

    again = bench.run(plan)

    assert CheckpointStore(bench.engine).plan(plan.digest) == plan
    assert bench.store.status(again) is RunStatus.ENQUEUED


def test_a_run_in_the_callers_transaction_comes_with_it(bench: Bench, own_key: int) -> None:
    """The caller's rows and the run are there together."""
    with bench.engine.begin() as connection:
        connection.execute(insert(own_rows).values(n=own_key))
        (run_id,) = bench.store.add([bench.new_run(line(1))], connection=connection)

    assert bench.store.status(run_id) is RunStatus.ENQUEUED


# --- failure, end and new life of a run -----------------------------------------------------------------------


def test_a_final_failure_fails_the_run_and_is_kept(bench: Bench) -> None:
    """Type, message, traceback and address, with the attempt and with the run."""
    run_id = bench.run(line(2))
    bench.granted(run_id)

    answer = bench.failed(run_id)

    assert answer is not None
    run = bench.store.run(run_id)
    assert (run.status, run.error) == (RunStatus.FAILED, failure())
    assert run.finished_at is not None
    assert bench.states(run_id) == ["failed"]


def test_a_failure_with_handlers_leaves_the_run_failing(bench: Bench) -> None:
    """It has not ended before its handlers have."""
    run_id = bench.run(guarded())
    bench.granted(run_id)
    bench.failed(run_id, failure(handlers=("1.on_error.h", "2.on_error.h")))

    run = bench.store.run(run_id)

    assert (run.status, run.finished_at) == (RunStatus.FAILING, None)


def test_the_first_failure_decides(bench: Bench) -> None:
    """A sibling's later failure changes neither status nor error."""
    run_id = bench.run(fan(2))
    for address in ("1.part", "2.part"):
        bench.granted(run_id, address)
    bench.failed(run_id, address="1.part")

    assert bench.failed(run_id, address="2.part") is None
    error = bench.store.run(run_id).error
    assert error is not None
    assert error.address == "1.part"
    assert bench.states(run_id) == ["failed", "failed"]


def test_of_racing_failures_exactly_one_decides(bench: Bench) -> None:
    """So handlers are published once."""
    plan = fan(6)
    siblings = [step.address for step in plan.steps[:-1]]
    for _ in range(RACES):
        run_id, worker = bench.run(plan), bench.worker()
        for address in siblings:
            bench.granted(run_id, address, worker=worker)
        answers = at_once([partial(bench.failed, run_id, address=address) for address in siblings])
        assert sum(answer is not None for answer in answers) == 1


def test_a_poisoned_step_fails_its_run_though_its_attempt_is_lost(bench: Bench) -> None:
    """The attempt that killed the worker holds nothing any more; its reason still ends the run."""
    run_id = bench.run(line(1))
    bench.granted(run_id, worker="w-forgotten")
    claim = bench.claim(run_id, most_losses=1)
    assert isinstance(claim, Poisoned)

    assert bench.failed(run_id, attempt=claim.attempt, poisoned=True) is not None
    assert bench.store.status(run_id) is RunStatus.FAILED


def test_a_poisoned_handler_counts_as_ended(bench: Bench) -> None:
    """Else a handler that kills its worker would leave its run failing for ever."""
    plan = guarded()
    run_id = bench.run(plan)
    bench.granted(run_id)
    bench.failed(run_id, failure(handlers=("1.on_error.h",)))
    bench.granted(run_id, "1.on_error.h", is_handler=True, worker="w-forgotten")
    claim = bench.claim(run_id, "1.on_error.h", is_handler=True, most_losses=1)
    assert isinstance(claim, Poisoned)

    bench.failed(run_id, failure("1.on_error.h"), address="1.on_error.h", attempt=claim.attempt, poisoned=True)

    assert bench.store.ended(run_id, ["1.on_error.h"])


def test_a_run_is_finished_only_from_the_status_that_was_expected(bench: Bench) -> None:
    """Of two that would end a run, one does."""
    run_id = bench.run(line(1))
    bench.granted(run_id)

    assert not bench.store.finish(run_id, expected=RunStatus.FAILING, status=RunStatus.FAILED)
    assert bench.store.status(run_id) is RunStatus.RUNNING
    assert bench.store.finish(run_id, expected=RunStatus.RUNNING, status=RunStatus.SUCCEEDED, workflow_hash="abc")
    assert not bench.store.finish(run_id, expected=RunStatus.RUNNING, status=RunStatus.SUCCEEDED)
    assert bench.store.run(run_id).workflow_hash == "abc"


@pytest.mark.parametrize("status", ["enqueued", "running", "failing"])
def test_a_live_run_can_be_cancelled(bench: Bench, status: str) -> None:
    """From then on nothing of it is granted."""
    run_id = bench.run(line(1))
    bench.change_run(run_id, status=status)

    assert bench.store.cancel(run_id).status is RunStatus.CANCELLED
    assert bench.claim(run_id) == NotLive(status=RunStatus.CANCELLED)


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_run_that_has_ended_stays_as_it_ended(bench: Bench, status: str) -> None:
    """Cancelling it changes nothing."""
    run_id = bench.run(line(1))
    bench.change_run(run_id, status=status)
    before = bench.store.run(run_id)

    assert bench.store.cancel(run_id) == before


def test_a_revived_run_goes_on_from_its_checkpoints_and_counts_anew(bench: Bench) -> None:
    """What was committed stays; what was lost or retried is forgotten; the epoch is a new one."""
    plan = line(2)
    run_id = bench.run(plan)
    bench.granted(run_id, "1.t")
    bench.store.commit(bench.commit_of(run_id, plan, "1.t"))
    bench.granted(run_id, "2.t", worker="w-forgotten")
    bench.granted(run_id, "2.t")
    bench.settled(run_id, AttemptState.RETRY, address="2.t", attempt=2)
    bench.granted(run_id, "2.t")
    bench.failed(run_id, address="2.t", attempt=3)

    run = bench.store.revive(run_id)

    assert (run.status, run.epoch, run.error, run.finished_at, run.done) == (RunStatus.RUNNING, 2, None, None, 0b01)
    granted = bench.granted(run_id, "2.t", most_losses=1)
    assert (granted.attempt, granted.retries) == (4, 0)


def test_a_run_that_was_cancelled_before_it_began_is_revived_as_running(bench: Bench) -> None:
    """It has a beginning from then on, and its first step is granted."""
    run_id = bench.run(line(1))
    bench.store.cancel(run_id)

    run = bench.store.revive(run_id)

    assert run.status is RunStatus.RUNNING
    assert run.started_at is not None
    assert bench.granted(run_id).attempt == 1


@pytest.mark.parametrize("status", ["running", "succeeded"])
def test_a_run_that_is_live_or_succeeded_is_not_revived(bench: Bench, status: str) -> None:
    """Its status and epoch stay."""
    run_id = bench.run(line(1))
    bench.change_run(run_id, status=status)

    run = bench.store.revive(run_id)

    assert (run.status.value, run.epoch) == (status, 1)


@pytest.mark.parametrize("verb", ["run", "status", "cancel", "revive", "watch"])
def test_an_unknown_run_is_an_error_that_says_so(bench: Bench, verb: str) -> None:
    """RunNotFound with the id."""
    with pytest.raises(RunNotFound) as problem:
        getattr(bench.store, verb)("nobody")
    assert problem.value.evidence == {"run_id": "nobody"}


def test_unclaimed_names_the_steps_nobody_ever_tried(bench: Bench) -> None:
    """Whoever finds a step committed knows by it whether anybody was told of the next."""
    run_id = bench.run(fan(3))
    bench.granted(run_id, "2.part")

    assert bench.store.unclaimed(run_id, ("1.part", "2.part", "3.part")) == ("1.part", "3.part")
    assert bench.store.unclaimed(run_id, ()) == ()


# --- the schema -----------------------------------------------------------------------------------------------


@pytest.fixture
def blank(member: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CheckpointStore]:
    """A store over a database without any table."""
    if member == "postgresql":
        engine = open_database(request.getfixturevalue("servers").database())
        metadata.drop_all(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {VERSION_TABLE}")
    else:
        engine = open_database(f"sqlite:///{tmp_path / 'blank.db'}")
    yield CheckpointStore(engine)
    engine.dispose()


def test_a_database_without_a_schema_is_refused_with_the_command_that_makes_it(blank: CheckpointStore) -> None:
    """Not a driver's error about a table: what to run."""
    with pytest.raises(SchemaMismatch, match="aos db upgrade"):
        blank.check_schema()
    for ask in (lambda: blank.run("r"), lambda: Bench(blank).claim("r", worker="w")):
        with pytest.raises(SchemaMismatch, match="aos db upgrade"):
            ask()


@pytest.mark.parametrize(("revision", "fix"), [("0000", "aos db upgrade"), ("9999", "deploy the newer code")])
def test_a_schema_of_another_version_is_refused_with_what_to_do(
    blank: CheckpointStore, revision: str, fix: str
) -> None:
    """Older: upgrade the database. Newer: this code is too old for it."""
    with blank.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {VERSION_TABLE} (version_num text)")
        connection.exec_driver_sql(f"INSERT INTO {VERSION_TABLE} VALUES ('{revision}')")

    with pytest.raises(SchemaMismatch, match=revision) as mismatch:
        blank.check_schema()

    assert fix in str(mismatch.value)


def test_the_schema_this_code_speaks_is_accepted(blank: CheckpointStore) -> None:
    """No error, whatever else the table says."""
    with blank.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {VERSION_TABLE} (version_num text)")
        connection.exec_driver_sql(f"INSERT INTO {VERSION_TABLE} VALUES ('{REVISION}')")

    blank.check_schema()


# --- connections that are short or die ------------------------------------------------------------------------


def test_a_pool_without_a_free_connection_is_a_store_that_is_unavailable(member: str, database_url: str) -> None:
    """A typed error that programs may retry, not the driver's."""
    engine = create_engine(normalised_url(database_url), pool_size=1, max_overflow=0, pool_timeout=0.01)
    bench = Bench(CheckpointStore(engine))
    with engine.connect():
        for ask in (lambda: bench.claim("r", worker="w"), lambda: bench.store.status("r"), lambda: bench.run(line(1))):
            with pytest.raises(StoreUnavailable, match="in use"):
                ask()
    engine.dispose()


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[LossyProxy]:
    with LossyProxy(postgres_url) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: LossyProxy) -> Iterator[Bench]:
    """A store on PostgreSQL behind a proxy that loses replies."""
    with opened_bench(proxy.url.render_as_string(hide_password=False)) as far:
        own_rows.metadata.create_all(far.engine)
        yield far


CLAIM, COMMIT_STEP, SETTLE, FAIL = b"-- Claim one", b"-- Commit one", b"-- An attempt ended", b"-- A step failed"
answered = pytest.mark.parametrize("answered", [True, False], ids=["reply-lost", "request-lost"])
needs_postgres = pytest.mark.services


@needs_postgres
@answered
@pytest.mark.parametrize("keyed", [True, False])
def test_a_run_whose_commit_lost_its_reply_is_stored_once(
    far: Bench, proxy: LossyProxy, answered: bool, keyed: bool
) -> None:
    """The caller has its id, and there is one run."""
    plan, key = line(1, task=f"t{new_token()}"), new_token() if keyed else None
    news = [far.new_run(plan, idempotency_key=key)] if keyed else [far.new_run(plan) for _ in range(3)]
    before = far.row_counts()["runs"]
    proxy.lose(b"COMMIT", answered=answered)

    assert far.store.add(news) == [new.id for new in news]
    assert proxy.losses == 1
    assert far.row_counts()["runs"] == before + len(news)
    assert CheckpointStore(far.engine).plan(plan.digest) == plan


@needs_postgres
@answered
def test_a_claim_whose_reply_is_lost_is_one_attempt(far: Bench, proxy: LossyProxy, answered: bool) -> None:
    """The token recognises the claim that went through."""
    run_id, worker = far.run(line(1)), far.worker()
    proxy.lose(CLAIM, answered=answered)

    assert far.granted(run_id, worker=worker).attempt == 1
    assert proxy.losses == 1
    assert far.states(run_id) == ["running"]


@needs_postgres
@answered
def test_a_commit_whose_reply_is_lost_is_one_checkpoint_and_goes_on(
    far: Bench, proxy: LossyProxy, answered: bool
) -> None:
    """An error at COMMIT means unknown: it is looked up, and the worker goes on as the winner it is."""
    plan = line(2)
    run_id = far.run(plan)
    far.granted(run_id)
    proxy.lose(COMMIT_STEP, answered=answered)

    answer = far.store.commit(far.commit_of(run_id, plan))

    assert isinstance(answer, Committed)
    assert (proxy.losses, answer.done) == (1, 0b01)
    assert far.addresses(run_id) == ["1.t"]


@needs_postgres
@answered
def test_a_commit_is_still_the_winners_when_the_database_is_away_for_a_while(
    far: Bench, proxy: LossyProxy, answered: bool
) -> None:
    """Tried again later, the same commit finds its own checkpoint."""
    plan = line(2)
    run_id = far.run(plan)
    far.granted(run_id)
    commit = far.commit_of(run_id, plan)
    proxy.lose(COMMIT_STEP, answered=answered, refusals=1)
    with pytest.raises(StoreUnavailable):
        far.store.commit(commit)

    answer = far.store.commit(commit)

    assert isinstance(answer, Committed)
    assert far.addresses(run_id) == ["1.t"]


@needs_postgres
def test_own_rows_whose_commit_lost_its_reply_exist_once(far: Bench, proxy: LossyProxy) -> None:
    """The transaction went through: rows and checkpoint are there, and the answer is the winner's."""
    plan, before = line(2), own_count(far)
    run_id = far.run(plan)
    far.granted(run_id)
    session = far.store.open_session()
    session.execute(insert(own_rows).values(n=1000 + before))
    proxy.lose(b"COMMIT")

    answer = far.store.commit_with(session, far.commit_of(run_id, plan))

    assert isinstance(answer, Committed)
    assert (proxy.losses, answer.done) == (1, 0b01)
    assert own_count(far) == before + 1
    assert far.addresses(run_id) == ["1.t"]


@needs_postgres
def test_own_rows_whose_commit_did_not_arrive_are_gone_and_say_so(far: Bench, proxy: LossyProxy) -> None:
    """Nothing was written and the rows cannot be written again: the step must be performed anew."""
    plan, before = line(2), own_count(far)
    run_id = far.run(plan)
    far.granted(run_id)
    session = far.store.open_session()
    session.execute(insert(own_rows).values(n=1000 + before))
    proxy.lose(b"COMMIT", answered=False)

    with pytest.raises(StoreUnavailable):
        far.store.commit_with(session, far.commit_of(run_id, plan))

    assert own_count(far) == before
    assert far.addresses(run_id) == []
    assert far.states(run_id) == ["running"]


@needs_postgres
def test_a_backend_that_is_terminated_under_a_session_takes_its_rows_along(far: Bench) -> None:
    """As when PostgreSQL restarts between the step's writes and its commit."""
    plan, before = line(2), own_count(far)
    run_id = far.run(plan)
    far.granted(run_id)
    session = far.store.open_session()
    session.execute(insert(own_rows).values(n=1000 + before))
    backend = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with far.engine.connect() as connection:
        connection.execute(select(func.pg_terminate_backend(backend, 5000)))

    with pytest.raises(StoreUnavailable):
        far.store.commit_with(session, far.commit_of(run_id, plan))

    assert own_count(far) == before
    assert far.addresses(run_id) == []


@needs_postgres
@answered
def test_a_retry_whose_reply_is_lost_is_due_all_the_same(far: Bench, proxy: LossyProxy, answered: bool) -> None:
    """The attempt has ended, whether or not its worker was told."""
    run_id = far.run(line(1))
    far.granted(run_id)
    proxy.lose(SETTLE, answered=answered)

    far.settled(run_id, AttemptState.RETRY)

    assert far.states(run_id) == ["retry"]


@needs_postgres
@answered
def test_a_failure_whose_reply_is_lost_has_failed_the_run(far: Bench, proxy: LossyProxy, answered: bool) -> None:
    """And its reason is kept."""
    run_id = far.run(line(1))
    far.granted(run_id)
    proxy.lose(FAIL, answered=answered)

    far.failed(run_id)

    assert far.store.run(run_id).error == failure()


@needs_postgres
def test_every_connection_of_the_pool_may_be_dead_at_once(far: Bench) -> None:
    """After a restart of PostgreSQL the next claim is granted, and no error is seen."""
    run_id, worker = far.run(line(1)), far.worker()
    with far.engine.connect() as first, far.engine.connect() as second:
        pids = [one.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for one in (first, second)]
    with far.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as killer:
        mine = killer.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        for pid in pids:
            if pid != mine:
                killer.execute(select(func.pg_terminate_backend(pid, 5000)))
        killer.invalidate()

    assert far.granted(run_id, worker=worker).attempt == 1
