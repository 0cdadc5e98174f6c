"""Cancel at step boundaries; resume from the last checkpoints; both as often as one likes."""

from __future__ import annotations

from functools import partial

import pytest
from celery import group
from sqlalchemy import update

from aos_workflow import durable, reading
from aos_workflow.engine import RunHandle
from aos_workflow.errors import RunNotFound
from aos_workflow.records import RunStatus
from aos_workflow.schema import runs
from tests.conformance.store_cases import at_once
from tests.integration import tasks
from tests.integration.conftest import APP
from tests.stack import AppEngine, Servers, Stack, wait_until

pytestmark = [pytest.mark.services, pytest.mark.worker, pytest.mark.usefixtures("prefork")]
WAIT_S = 60


@pytest.fixture
def idle(stack: Stack) -> AppEngine:
    """An engine whose runs nobody performs."""
    return stack.engine(APP)


def states(engine: AppEngine, run: RunHandle, address: str = "") -> list[str]:
    """The states of a run's attempts."""
    with engine.store.engine.connect() as connection:
        found = reading.attempts_of(connection, run.id)
    return [attempt.state.value for attempt in found if address in ("", attempt.address)]


def undisturbed_hash(engine: AppEngine, canvas: object, seed: int) -> str | None:
    """The workflow hash of the same run when nothing happens to it."""
    result = engine.enqueue(durable(canvas), seed=seed).wait(timeout_s=WAIT_S)
    assert result.status is RunStatus.SUCCEEDED
    return result.workflow_hash


# --- cancel ---------------------------------------------------------------------------------------------------


def test_a_run_is_cancelled_at_the_next_step_boundary_and_resumes_behind_it(
    engine: AppEngine, stage: tasks.Stage, key: str
) -> None:
    """The step under way ends and keeps its checkpoint; nothing after it starts until the run is resumed."""
    run = engine.enqueue(durable(tasks.hold.s(5, key) | tasks.visit.s(key, "after") | tasks.draw.s()), seed=3)
    stage.wait_for_arrivals(key)
    assert run.cancel() is RunStatus.CANCELLED
    stage.open(key)
    wait_until(lambda: states(engine, run) == ["committed"], what="the step under way has its checkpoint")
    result = run.wait(timeout_s=WAIT_S)
    seen_while_cancelled = stage.marks(key)

    assert run.resume() is RunStatus.RUNNING
    resumed = run.wait(timeout_s=WAIT_S)

    assert (result.status, result.output, seen_while_cancelled) == (RunStatus.CANCELLED, None, [])
    assert resumed.status is RunStatus.SUCCEEDED
    assert stage.marks(key) == ["after"]
    assert len(stage.arrivals(key)) == 1
    assert states(engine, run) == ["committed"] * 3
    twin = f"{key}-twin"
    stage.open(twin)
    canvas = tasks.hold.s(5, twin) | tasks.visit.s(twin, "after") | tasks.draw.s()
    assert resumed.workflow_hash == undisturbed_hash(engine, canvas, 3)


def test_siblings_under_way_end_and_the_join_does_not_start(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """A fan-out that is cancelled keeps what its members did; resumed, only the join is left."""
    run = engine.enqueue(durable(group(tasks.hold.s(n, key) for n in range(2)) | tasks.total.s()))
    stage.wait_for_arrivals(key, 2)
    run.cancel()
    stage.open(key, times=2)
    wait_until(lambda: states(engine, run) == ["committed"] * 2, what="both siblings have their checkpoints")

    run.resume()

    assert run.wait(timeout_s=WAIT_S).output == 1
    assert states(engine, run) == ["committed"] * 3


def test_a_run_that_nobody_began_is_cancelled_and_resumed_as_new(idle: AppEngine) -> None:
    """No attempt is made while it is cancelled; resumed, it is live again."""
    run = idle.enqueue(durable(tasks.add.s(1, 1)))

    assert run.cancel() is RunStatus.CANCELLED
    assert states(idle, run) == []
    assert run.resume() is RunStatus.RUNNING


def test_cancelling_again_or_too_late_changes_nothing(engine: AppEngine) -> None:
    """A run that has ended stays as it ended."""
    done = engine.enqueue(durable(tasks.add.s(1, 1)))
    done.wait(timeout_s=WAIT_S)
    dropped = engine.enqueue(durable(tasks.add.s(1, 1).set(queue="shelf")))
    dropped.cancel()
    before = engine.store.run(dropped.id)

    assert done.cancel() is RunStatus.SUCCEEDED
    assert dropped.cancel() is RunStatus.CANCELLED
    assert engine.store.run(dropped.id) == before


def test_a_step_that_waits_for_its_retry_is_not_tried_while_cancelled_and_at_once_when_resumed(
    engine: AppEngine, stage: tasks.Stage, key: str
) -> None:
    """A resumed run counts anew: no pause, and all its attempts."""
    run = engine.enqueue(durable(tasks.much_later.s(key)))
    wait_until(lambda: states(engine, run) == ["retry"], what="the step was put off")
    run.cancel()

    run.resume()
    stage.wait_for_marks(key, 2)
    wait_until(lambda: states(engine, run) == ["failed", "retry"], what="the step was put off again")
    run.cancel()

    assert stage.marks(key) == ["tried"] * 2


def test_a_run_whose_last_step_committed_while_it_was_cancelled_succeeds_when_resumed(
    engine: AppEngine, stage: tasks.Stage, key: str
) -> None:
    """There is nothing left to perform; its hash is that of an undisturbed run."""
    run = engine.enqueue(durable(tasks.hold.s(1, key)), seed=9)
    stage.wait_for_arrivals(key)
    run.cancel()
    stage.open(key)
    wait_until(lambda: states(engine, run) == ["committed"], what="its only step has its checkpoint")
    assert run.status is RunStatus.CANCELLED

    run.resume()
    result = run.wait(timeout_s=WAIT_S)

    assert (result.status, result.output) == (RunStatus.SUCCEEDED, 1)
    stage.open(f"{key}-twin")
    assert result.workflow_hash == undisturbed_hash(engine, tasks.hold.s(1, f"{key}-twin"), 9)


def test_a_run_that_is_failing_can_be_cancelled(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """Its handler ends, and the run stays cancelled."""
    run = engine.enqueue(durable(tasks.fail.si().on_error(tasks.hold_failure.s(key))))
    stage.wait_for_arrivals(key)

    assert run.cancel() is RunStatus.CANCELLED
    stage.open(key)
    wait_until(lambda: "running" not in states(engine, run), what="the handler has ended")

    assert run.status is RunStatus.CANCELLED


# --- resume ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["resume", "retry"])
def test_a_failed_run_goes_on_from_its_last_checkpoint(
    engine: AppEngine, stage: tasks.Stage, key: str, word: str
) -> None:
    """Once the cause is gone: committed steps are not repeated, the hash is that of an undisturbed run."""

    def canvas(key: str) -> object:
        return tasks.visit.s(None, key, "first") | tasks.fail_while.s(key) | tasks.visit.s(key, "last")

    stage.set(key, "fail")
    run = engine.enqueue(durable(canvas(key)), seed=4)
    failed = run.wait(timeout_s=WAIT_S)
    stage.set(key, "pass")

    assert getattr(run, word)() is RunStatus.RUNNING
    result = run.wait(timeout_s=WAIT_S)

    assert failed.status is RunStatus.FAILED
    assert (result.status, result.output, result.error) == (RunStatus.SUCCEEDED, "last", None)
    assert stage.marks(key) == ["first", "tried", "tried", "last"]
    assert states(engine, run, "2.fail_while") == ["failed", "committed"]
    assert result.workflow_hash == undisturbed_hash(engine, canvas(f"{key}-twin"), 4)


def test_a_failed_member_of_a_group_is_the_only_one_tried_again(
    engine: AppEngine, stage: tasks.Stage, key: str
) -> None:
    """Its siblings have their checkpoints."""
    stage.set(key, "fail")
    members = [tasks.visit.s(None, f"{key}-{n}", "sibling") for n in range(3)]
    run = engine.enqueue(durable(group(*members, tasks.fail_while.s(None, key)) | tasks.emit.s()))
    run.wait(timeout_s=WAIT_S)
    wait_until(lambda: "running" not in states(engine, run), what="nothing is under way")
    stage.set(key, "pass")

    run.resume()

    assert run.wait(timeout_s=WAIT_S).output == ["sibling"] * 3 + ["passed"]
    assert [stage.marks(f"{key}-{n}") for n in range(3)] == [["sibling"]] * 3


def test_a_run_that_fails_inside_a_sub_plan_resumes_there(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """The step that was replaced is not asked again what to be replaced by."""
    stage.set(key, "fail")
    run = engine.enqueue(durable(tasks.replaced_by_failure.s(key) | tasks.emit.s()))
    failed = run.wait(timeout_s=WAIT_S)
    stage.set(key, "pass")

    run.resume()
    result = run.wait(timeout_s=WAIT_S)

    assert failed.error is not None
    assert failed.error.address == "1.replaced_by_failure/2.fail_while"
    assert result.output == "end"
    assert stage.marks(key) == ["sub", "tried", "tried", "end"]
    assert states(engine, run, "1.replaced_by_failure") == ["committed"]


def test_a_poisoned_run_may_be_tried_again(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """With as many workers to lose as before."""
    run = engine.enqueue(durable(tasks.suicide.s(key)))
    run.wait(timeout_s=WAIT_S)

    run.retry()
    result = run.wait(timeout_s=WAIT_S)

    assert result.error is not None
    assert result.error.code == "STEP_POISONED"
    assert stage.marks(key) == ["tried"] * 4


def test_a_resumed_run_that_fails_again_has_failed_again(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """And its handlers are told again."""
    stage.set(key, "fail")
    run = engine.enqueue(durable(tasks.fail_while.s(None, key).on_error(tasks.visit.si(None, key, "handled"))))
    run.wait(timeout_s=WAIT_S)

    run.resume()
    result = run.wait(timeout_s=WAIT_S)

    assert result.status is RunStatus.FAILED
    assert stage.marks(key) == ["tried", "handled"] * 2


def test_a_run_that_is_live_or_succeeded_is_left_alone(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """Resuming it publishes nothing and changes nothing."""
    going, done = engine.enqueue(durable(tasks.hold.s(1, key))), engine.enqueue(durable(tasks.add.s(1, 1)))
    stage.wait_for_arrivals(key)
    done.wait(timeout_s=WAIT_S)

    assert (going.resume(), done.resume()) == (RunStatus.RUNNING, RunStatus.SUCCEEDED)
    assert (engine.store.run(going.id).epoch, engine.store.run(done.id).epoch) == (1, 1)
    stage.open(key)
    going.wait(timeout_s=WAIT_S)


def test_resuming_many_times_at_once_resumes_once(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """Ten people press the button: the step runs once more."""
    stage.set(key, "fail")
    run = engine.enqueue(durable(tasks.fail_while.s(None, key)))
    run.wait(timeout_s=WAIT_S)
    stage.set(key, "pass")

    at_once([partial(engine.resume, run.id)] * 10)

    assert run.wait(timeout_s=WAIT_S).output == "passed"
    assert stage.marks(key) == ["tried"] * 2
    assert engine.store.run(run.id).epoch == 2


def test_a_run_resumed_while_the_broker_is_away_is_swept_up(
    servers: Servers, shared: Stack, engine: AppEngine, stage: tasks.Stage, key: str
) -> None:
    """As a run that was enqueued then."""
    stage.set(key, "fail")
    run = engine.enqueue(durable(tasks.fail_while.s(None, key)))
    run.wait(timeout_s=WAIT_S)
    stage.set(key, "pass")
    offline = Stack(servers, database_url=shared.database_url, redis_url="redis://127.0.0.1:9/0")

    assert offline.engine(APP).resume(run.id).status is RunStatus.RUNNING
    offline.close()
    shared.engine(APP)

    assert run.wait(timeout_s=WAIT_S).output == "passed"


def test_unknown_runs_cannot_be_cancelled_or_resumed(engine: AppEngine) -> None:
    """RunNotFound."""
    for act in (engine.cancel, engine.resume):
        with pytest.raises(RunNotFound):
            act("nobody")


def test_a_cancelled_run_is_not_swept(idle: AppEngine) -> None:
    """However long overdue it is."""
    run = idle.enqueue(durable(tasks.add.s(1, 1)))
    run.cancel()
    with idle.store.engine.begin() as connection:
        connection.execute(update(runs).where(runs.c.id == run.id).values(wake_at=0, updated_at=0))

    idle.sweep()

    assert idle.store.run(run.id).epoch == 1
    assert states(idle, run) == []
