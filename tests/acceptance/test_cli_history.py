"""What ``aos runs`` says about steps, decided from a plan and its attempts."""

from __future__ import annotations

import pytest

from aos_workflow.cli.history import run_duration_s, step_lines
from aos_workflow.cli.output import duration, short_id, shortened
from aos_workflow.plan import Plan, Step
from aos_workflow.records import Attempt, AttemptState, Failure, Run, RunStatus

PLAN = Plan(
    steps=(
        Step(address="1.fetch", task="shop.fetch"),
        Step(address="2.turn", task="shop.turn", after=("1.fetch",)),
        Step(address="10.end", task="shop.end", after=("2.turn",)),
        Step(address="2.turn/1.tool", task="shop.tool", after=("2.turn",)),
    ),
    handlers=(Step(address="11.alarm", task="shop.alarm"), Step(address="12.page", task="shop.page")),
)


def run(status: RunStatus, *, done: int, error: Failure | None = None) -> Run:
    return Run(
        id="r",
        workflow="w",
        status=status,
        plan_digest="",
        inputs_digest="",
        seed=0,
        logical_time=0.0,
        idempotency_key=None,
        epoch=1,
        size=4,
        done=done,
        splices=0,
        inline=False,
        created_at=100.0,
        updated_at=100.0,
        started_at=101.0,
        finished_at=None,
        workflow_hash=None,
        error=error,
    )


def attempt(address: str, number: int, state: AttemptState, *, finished_at: float | None) -> Attempt:
    return Attempt(
        run_id="r",
        address=address,
        attempt=number,
        state=state,
        worker_id=f"w-{number}",
        pid=number,
        started_at=100.0 + number,
        finished_at=finished_at,
        due_at=None,
        error=None,
    )


def test_steps_are_in_plan_order_with_sub_plans_below_their_step() -> None:
    """10 comes after 2, and what a step returned comes right after it."""
    lines = step_lines(run(RunStatus.RUNNING, done=0), PLAN, [], at=0)
    assert [line.address for line in lines] == ["1.fetch", "2.turn", "2.turn/1.tool", "10.end"]


def test_an_untried_step_is_ready_waiting_or_not_run() -> None:
    """Ready is what may start now; once the run has ended nothing is."""
    live = step_lines(run(RunStatus.RUNNING, done=0b0001), PLAN, [], at=0)
    assert {line.address: line.status for line in live if line.address != "1.fetch"} == {
        "2.turn": "ready",
        "2.turn/1.tool": "waiting",
        "10.end": "waiting",
    }
    assert {line.status for line in step_lines(run(RunStatus.CANCELLED, done=0), PLAN, [], at=0)} == {"not run"}


def test_the_committed_attempt_speaks_for_its_step() -> None:
    """A step that a lost worker tried first shows both attempts and the worker whose checkpoint it is."""
    attempts = [
        attempt("1.fetch", 1, AttemptState.LOST, finished_at=105.0),
        attempt("1.fetch", 2, AttemptState.COMMITTED, finished_at=104.5),
    ]
    line = step_lines(run(RunStatus.RUNNING, done=0b0001), PLAN, attempts, at=200.0)[0]
    assert (line.status, line.attempts, line.duration_s, line.worker_id, line.pid) == ("committed", 2, 2.5, "w-2", 2)


def test_a_running_step_has_lasted_until_now() -> None:
    """The duration of what is under way is measured to the moment of looking."""
    attempts = [attempt("1.fetch", 1, AttemptState.RUNNING, finished_at=None)]
    running = run(RunStatus.RUNNING, done=0)
    assert step_lines(running, PLAN, attempts, at=111.0)[0].duration_s == 10.0
    assert run_duration_s(running, 111.0) == 10.0


def test_only_handlers_that_are_concerned_are_shown() -> None:
    """A handler is listed when the failure called it or it was tried."""
    failure = Failure(code="STEP_FAILED", type="ValueError", message="no", address="1.fetch", handlers=("11.alarm",))
    lines = step_lines(run(RunStatus.FAILING, done=0, error=failure), PLAN, [], at=0)
    assert [line.address for line in lines][-1] == "11.alarm"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0, "0 ms"),
        (0.0123, "12 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (125.2, "2 min 05 s"),
        (11_520.0, "3 h 12 min"),
    ],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    """A duration is shown in the unit that fits it."""
    assert duration(seconds) == text


def test_values_and_ids_are_shortened() -> None:
    """A long value says how long it is; an id is shown by its end, where ids of one minute differ."""
    assert shortened({"a": 1}) == '{"a": 1}'
    assert shortened("x" * 1000).endswith("… (1002 characters)")
    assert short_id("01a209e3-951c-79ed-9b80-61aeadd03e2e") == "61aeadd03e2e"
