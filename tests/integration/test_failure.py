"""Failure with real workers: retries, deadlines, limits, poison, and the handlers of failures."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import group

from aos_workflow import durable, reading
from aos_workflow.engine import RunHandle
from aos_workflow.records import Attempt, RunResult, RunStatus
from tests.integration import tasks
from tests.stack import AppEngine, wait_until

pytestmark = [pytest.mark.services, pytest.mark.worker, pytest.mark.usefixtures("prefork", "threads", "solo")]

#: Pool -> the queue its worker serves.
POOLS = {"prefork": "celery", "threads": "threads", "solo": "solo"}
WAIT_S = 60


def attempts(engine: AppEngine, run: RunHandle, address: str = "") -> list[Attempt]:
    """The attempts of a run, or of one of its steps."""
    with engine.store.engine.connect() as connection:
        found = reading.attempts_of(connection, run.id)
    return [attempt for attempt in found if address in ("", attempt.address)]


def states(engine: AppEngine, run: RunHandle, address: str = "") -> list[str]:
    return [attempt.state.value for attempt in attempts(engine, run, address)]


def failed(run: RunHandle) -> RunResult:
    """How a run ended, which must be failed, with a reason."""
    result = run.wait(timeout_s=WAIT_S)
    assert result.status is RunStatus.FAILED, result
    assert result.error is not None
    return result


# --- what is kept of an error ---------------------------------------------------------------------------------


def test_an_error_is_kept_with_type_message_traceback_and_address(engine: AppEngine) -> None:
    """The traceback names file and line and the cause the error came from."""
    run = engine.enqueue(durable(tasks.add.s(1, 1) | tasks.fail_unlucky.si() | tasks.add.s(1)))

    error = failed(run).error

    assert error is not None
    assert (error.code, error.type, error.message) == ("STEP_FAILED", "tests.integration.tasks.Unlucky", "outer")
    assert error.address == "2.fail_unlucky"
    for part in ("tests/integration/tasks.py", "raise Unlucky", "KeyError: 'inner'", "direct cause"):
        assert part in error.traceback
    assert attempts(engine, run, "2.fail_unlucky")[0].error == error


def test_without_retries_an_error_is_final_and_nothing_after_it_runs(engine: AppEngine) -> None:
    """The step before it keeps its checkpoint; the step after it has no attempt."""
    run = engine.enqueue(durable(tasks.add.s(1, 1) | tasks.fail.si(message="stop") | tasks.add.s(1)))

    failed(run)

    assert states(engine, run) == ["committed", "failed"]
    assert engine.store.outputs(run.id, ["1.add"]) == {"1.add": "2"}


@pytest.mark.parametrize("kind", ["object", "nan", "deep"])
def test_an_output_without_a_canonical_form_fails_the_step_and_names_the_place(engine: AppEngine, kind: str) -> None:
    """No row with a value nobody could read again."""
    run = engine.enqueue(durable(tasks.emit_thing.s(kind)))

    error = failed(run).error

    assert error is not None
    assert error.code == "VALUE_NOT_CANONICAL"
    assert "output" in error.message
    assert kind != "deep" or "a" in error.message
    assert states(engine, run) == ["failed"]


def test_an_output_over_the_limit_fails_the_step(engine: AppEngine) -> None:
    """With both sizes in the message."""
    error = failed(engine.enqueue(durable(tasks.emit_letters.s(5 * 1024 * 1024)))).error

    assert error is not None
    assert error.code == "PAYLOAD_TOO_LARGE"
    assert str(4 * 1024 * 1024) in error.message


# --- retries --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", POOLS)
def test_self_retry_tries_again_and_counts(engine: AppEngine, stage: tasks.Stage, key: str, pool: str) -> None:
    """``self.request.retries`` is 0, 1, 2, as in Celery, in every pool."""
    run = engine.enqueue(durable(tasks.third_time.s(key).set(queue=POOLS[pool]) | tasks.emit.s()))

    assert run.wait(timeout_s=WAIT_S).output == {"retries": 2}
    assert stage.marks(key) == ["0", "1", "2"]
    assert states(engine, run, "1.third_time") == ["retry", "retry", "committed"]


def test_self_retry_gives_up_after_max_retries(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """The first try and ``max_retries`` more; then Celery's own error is the run's."""
    error = failed(engine.enqueue(durable(tasks.retry_for_ever.s(key)))).error

    assert error is not None
    assert error.type.endswith("MaxRetriesExceededError")
    assert stage.marks(key) == ["0", "1", "2"]


def test_autoretry_for_gives_up_with_the_error_itself(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """As in Celery: the last error, not the fact that it was the last."""
    run = engine.enqueue(durable(tasks.retry_unlucky.s(key)))

    error = failed(run).error

    assert error is not None
    assert (error.type, error.message) == ("tests.integration.tasks.Unlucky", "still")
    assert stage.marks(key) == ["tried"] * 3
    assert states(engine, run) == ["retry", "retry", "failed"]


@pytest.mark.parametrize("pool", POOLS)
def test_a_step_has_max_attempts_tries(engine: AppEngine, stage: tasks.Stage, key: str, pool: str) -> None:
    """The third one succeeds; an error may say when it wants to be tried again."""
    run = engine.enqueue(durable(tasks.at_third_attempt.s(key).set(queue=POOLS[pool])))

    assert run.wait(timeout_s=WAIT_S).output == 3
    assert stage.marks(key) == ["1", "2", "3"]


def test_a_step_that_used_up_its_attempts_fails_its_run(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """Not one more."""
    run = engine.enqueue(durable(tasks.never.s(key)))

    failed(run)

    assert stage.marks(key) == ["tried"] * 2
    assert states(engine, run) == ["retry", "failed"]


def test_a_long_delay_is_kept_in_the_database_and_never_in_the_broker(
    engine: AppEngine, stage: tasks.Stage, key: str
) -> None:
    """``due_at`` is an hour away; the broker holds no message of the run, and no message has an ETA."""
    run = engine.enqueue(durable(tasks.much_later.s(key)))
    wait_until(lambda: states(engine, run) == ["retry"], what="the step was put off")
    (attempt,) = attempts(engine, run)

    wait_until(lambda: run.id not in json.dumps(messages(stage)), what="the broker has let go of the run")

    assert attempt.due_at is not None
    assert attempt.finished_at is not None
    assert attempt.due_at - attempt.finished_at == pytest.approx(3600, abs=0.01)
    assert [message for message in messages(stage) if message["headers"].get("eta")] == []
    assert stage.marks(key) == ["tried"]
    run.cancel()


def messages(stage: tasks.Stage) -> list[dict[str, Any]]:
    """All messages in the broker, waiting or handed out."""
    found = []
    for name in stage.redis.scan_iter():
        kind = stage.redis.type(name)
        if kind == "list" and not name.startswith(("marks:", "open:")):
            found += [json.loads(text) for text in stage.redis.lrange(name, 0, -1)]
        if kind == "hash":
            found += [json.loads(text)[0] for text in stage.redis.hvals(name)]
    return found


def test_the_pause_before_a_retry_comes_from_the_seed(engine: AppEngine) -> None:
    """1 s less up to half of it, the same for the same seed and step, whenever and wherever it is drawn."""
    handles = [engine.enqueue(durable(tasks.with_usual_pause.s()), seed=seed) for seed in (7, 7, 8)]
    for run in handles:
        failed(run)

    pauses = []
    for run in handles:
        first = attempts(engine, run)[0]
        assert first.due_at is not None
        assert first.finished_at is not None
        pauses.append(first.due_at - first.finished_at)

    assert pauses[0] == pytest.approx(pauses[1], abs=1e-5)
    assert pauses[0] != pytest.approx(pauses[2], abs=1e-5)
    assert all(0.5 <= pause <= 1.0 + 1e-5 for pause in pauses)


# --- deadlines and limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("task", [tasks.too_slow, tasks.too_slow_and_stubborn], ids=["plain", "stubborn"])
def test_a_body_is_cut_off_at_its_deadline_in_every_pool(engine: AppEngine, pool: str, task: Any) -> None:
    """Also one that swallows every Exception; the worker goes on."""
    run = engine.enqueue(durable(task.s().set(queue=POOLS[pool])))
    after = engine.enqueue(durable(tasks.add.s(1, 1).set(queue=POOLS[pool])))

    error = failed(run).error

    assert error is not None
    assert error.code == "STEP_TIMEOUT"
    assert "0.3" in error.message
    assert after.wait(timeout_s=WAIT_S).output == 2


def test_a_step_that_runs_into_celerys_hard_limit_fails_its_run(engine: AppEngine) -> None:
    """Celery kills the process; the engine counts that as a lost worker and gives up after ``max_attempts``."""
    run = engine.enqueue(durable(tasks.over_the_limit.s()))
    fine = engine.enqueue(durable(tasks.add.s(1, 1)))

    error = failed(run).error

    assert error is not None
    assert error.code == "STEP_POISONED"
    assert "1 times" in error.message
    assert fine.wait(timeout_s=WAIT_S).output == 2


def test_a_soft_limit_is_the_tasks_own_business(engine: AppEngine) -> None:
    """It may catch SoftTimeLimitExceeded and return what it has."""
    run = engine.enqueue(durable(tasks.over_the_soft_limit.s()))

    assert run.wait(timeout_s=WAIT_S).output == "saved what there was"


# --- steps that end their worker process ----------------------------------------------------------------------


def test_a_step_that_kills_its_worker_ends_after_max_attempts_while_others_go_on(
    engine: AppEngine, stage: tasks.Stage, key: str
) -> None:
    """Poison: the run is failed with the reason and what to do; no other run is lost."""
    poison = engine.enqueue(durable(tasks.suicide.s(key) | tasks.emit.s()))
    others = engine.enqueue_many("integration.ten", list(range(20)), seeds=range(20))

    error = failed(poison).error

    assert error is not None
    assert (error.code, error.address) == ("STEP_POISONED", "1.suicide")
    assert "2 times" in error.message
    assert f"aos runs retry {poison.id}" in error.message
    assert stage.marks(key) == ["tried"] * 2
    assert {run.wait(timeout_s=WAIT_S).status for run in others} == {RunStatus.SUCCEEDED}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_step_that_quits_its_process_ends_its_run(engine: AppEngine, pool: str) -> None:
    """``sys.exit()`` in a body is no way to keep a run going for ever."""
    run = engine.enqueue(durable(tasks.quit_process.s().set(queue=POOLS[pool])))

    failed(run)

    assert engine.enqueue(durable(tasks.add.s(1, 1).set(queue=POOLS[pool]))).wait(timeout_s=WAIT_S).output == 2


# --- one member of a group ------------------------------------------------------------------------------------


def test_the_failure_of_one_member_fails_the_run_and_keeps_what_the_others_did(
    engine: AppEngine, stage: tasks.Stage, key: str
) -> None:
    """A sibling that is under way ends and keeps its checkpoint; the join never starts."""
    run = engine.enqueue(
        durable(
            group(
                tasks.hold.s(1, key),
                tasks.hold.s(2, key),
                tasks.hold.s(3, f"{key}-third") | tasks.fail.si(message="third"),
            )
            | tasks.total.s()
        )
    )
    stage.wait_for_arrivals(key, 2)
    stage.open(f"{key}-third")

    error = failed(run).error
    stage.open(key, times=2)
    wait_until(lambda: "running" not in states(engine, run), what="the siblings have ended")

    assert error is not None
    assert (error.address, error.message) == ("4.fail", "third")
    assert states(engine, run) == ["committed", "committed", "committed", "failed"]


# --- handlers of failures -------------------------------------------------------------------------------------


def test_a_link_error_receives_request_error_and_traceback(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """As Celery's new-style error callbacks; the run has failed when they are done."""
    canvas = tasks.add.s(1, 1) | tasks.fail.si(message="mine").on_error(tasks.tell_of_failure.s(key))
    run = engine.enqueue(durable(canvas))

    assert failed(run).error.message == "mine"  # type: ignore[union-attr]
    assert stage.marks(key) == [f"{run.id}:2.fail|mine|True"]


def test_an_old_style_callback_receives_the_id_alone(engine: AppEngine, stage: tasks.Stage) -> None:
    """One parameter: the id of the task that failed."""
    run = engine.enqueue(durable(tasks.fail.si().on_error(tasks.tell_of_id.s())))

    failed(run)

    assert stage.marks(f"{run.id}:1.fail") == ["told"]


def test_an_immutable_callback_receives_nothing(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """Its own arguments only."""
    failed(engine.enqueue(durable(tasks.fail.si().on_error(tasks.visit.si(None, key, "cleanup")))))

    assert stage.marks(key) == ["cleanup"]


@pytest.mark.filterwarnings("ignore::celery.exceptions.CPendingDeprecationWarning")
@pytest.mark.parametrize("where", ["chain", "group", "chord"])
def test_the_handler_of_a_canvas_runs_once_whichever_of_its_steps_fails(
    engine: AppEngine, stage: tasks.Stage, key: str, where: str
) -> None:
    """``on_error`` on a chain, a group or a chord."""
    canvas = {
        "chain": lambda: tasks.add.s(1, 1) | tasks.fail.si() | tasks.add.s(1),
        "group": lambda: group(tasks.fail.si(), tasks.fail.si(), tasks.add.s(1, 1)),
        "chord": lambda: group(tasks.fail.si(), tasks.add.s(1, 1)) | tasks.total.s(),
    }[where]()
    run = engine.enqueue(durable(canvas.on_error(tasks.visit.si(None, key, "handled"))))

    failed(run)

    assert stage.marks(key) == ["handled"]


def test_a_run_is_failing_while_its_handlers_run(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """It has not ended before they have."""
    run = engine.enqueue(durable(tasks.fail.si(message="first").on_error(tasks.hold_failure.s(key))))
    stage.wait_for_arrivals(key)

    assert run.status is RunStatus.FAILING
    stage.open(key)
    assert failed(run).error.message == "first"  # type: ignore[union-attr]


def test_a_handler_that_fails_changes_nothing_about_the_reason(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """The run's error is the step's; the handler's own is kept with its attempt."""
    run = engine.enqueue(durable(tasks.fail.si(message="first").on_error(tasks.fail_to_handle.s(key))))

    error = failed(run).error

    assert error is not None
    assert (error.message, error.address) == ("first", "1.fail")
    assert stage.marks(key) == ["failed to handle"]
    assert [attempt.error.message for attempt in attempts(engine, run) if attempt.error] == [
        "first",
        "the handler, too",
    ]


def test_a_handler_that_failed_is_not_tried_again_while_another_one_runs(
    engine: AppEngine, stage: tasks.Stage, key: str
) -> None:
    """A sweep in between leaves it alone."""
    run = engine.enqueue(
        durable(tasks.fail.si().on_error(tasks.fail_to_handle.s(key)).on_error(tasks.hold_failure.s(key)))
    )
    stage.wait_for_arrivals(key)
    stage.wait_for_marks(key, 1)
    wait_until(lambda: "failed" in states(engine, run, "1.on_error.fail_to_handle"), what="the first has failed")
    with engine.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE runs SET wake_at = 0 WHERE id = %s", (run.id,))
    engine.sweep()
    stage.open(key)

    failed(run)

    assert stage.marks(key) == ["failed to handle"]


def test_a_handler_that_kills_its_worker_does_not_keep_the_run_failing_for_ever(
    engine: AppEngine, stage: tasks.Stage, key: str
) -> None:
    """Poison is poison in a handler, too."""
    run = engine.enqueue(durable(tasks.fail.si(message="first").on_error(tasks.die_handling.s(key))))

    assert failed(run).error.message == "first"  # type: ignore[union-attr]
    assert stage.marks(key) == ["died"]


def test_a_handler_of_a_poisoned_step_runs(engine: AppEngine, stage: tasks.Stage, key: str) -> None:
    """A step that kills its worker has failed as any other."""
    run = engine.enqueue(durable(tasks.suicide.s(f"{key}-dies").on_error(tasks.visit.si(None, key, "handled"))))

    assert failed(run).error.code == "STEP_POISONED"  # type: ignore[union-attr]
    assert stage.marks(key) == ["handled"]
