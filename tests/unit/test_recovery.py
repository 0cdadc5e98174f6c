"""Recovery's decision: what to publish of an overdue run, and when to look again."""

from __future__ import annotations

from typing import Any

import pytest

from aos_workflow.plan import Plan, Step
from aos_workflow.records import AttemptState, Failure, Run, RunStatus
from aos_workflow.recovery import (
    BUSY_GRACE_S,
    LONGEST_GRACE_S,
    QUIET_GRACE_S,
    Holder,
    Wake,
    decide,
    open_addresses,
)
from aos_workflow.rows import GRACE_S

NOW = 1_000_000.0
HANDLERS = ("1.on_error.x", "2.on_error.y")
PLAN = Plan(
    steps=(
        Step(address="1.a", task="t", on_error=HANDLERS),
        Step(address="2.b", task="t"),
        Step(address="3.c", task="t", after=("1.a", "2.b")),
    ),
    handlers=tuple(Step(address=address, task="t") for address in HANDLERS),
)


def run_of(**changes: Any) -> Run:
    facts: dict[str, Any] = {
        "id": "run-1", "workflow": "w", "status": RunStatus.RUNNING, "plan_digest": "d", "inputs_digest": "i",
        "seed": 42, "logical_time": 0.0, "idempotency_key": None, "epoch": 1, "size": 3, "done": 0, "splices": 0,
        "inline": False, "created_at": 0.0, "updated_at": NOW, "started_at": 0.0, "finished_at": None,
        "workflow_hash": None, "error": None,
    }  # fmt: skip
    return Run(**{**facts, **changes})


def failing(*handlers: str) -> Run:
    error = Failure(code="STEP_FAILED", type="ValueError", message="no", address="1.a", handlers=handlers)
    return run_of(status=RunStatus.FAILING, error=error)


def holder(state: AttemptState, *, is_alive: bool = True, due_at: float | None = None) -> Holder:
    return Holder(state=state, due_at=due_at, is_alive=is_alive)


def decided(
    run: Run, holders: dict[str, Holder] | None = None, *, nudges: int = 0, broker_is_empty: bool = False
) -> Wake:
    return decide(run, PLAN, holders or {}, nudges=nudges, now=NOW, broker_is_empty=broker_is_empty)


def quiet(age_s: float, **changes: Any) -> Run:
    """A run whose last news is ``age_s`` seconds old."""
    return run_of(updated_at=NOW - age_s, **changes)


# --- whom to publish ------------------------------------------------------------------------

RUNNING, RETRY, DEFERRED, LOST = AttemptState.RUNNING, AttemptState.RETRY, AttemptState.DEFERRED, AttemptState.LOST


@pytest.mark.parametrize(
    ("held", "is_published"),
    [
        (holder(RUNNING, is_alive=True), False),
        (holder(RUNNING, is_alive=False), True),
        (holder(RETRY, due_at=NOW + 0.001), False),
        (holder(RETRY, due_at=NOW), True),
        (holder(RETRY, due_at=NOW - 5, is_alive=False), True),
        (holder(DEFERRED, due_at=NOW + 100, is_alive=False), False),
        (holder(DEFERRED, due_at=NOW - 0.001), True),
        (holder(LOST), True),
        (holder(LOST, is_alive=False), True),
        (holder(AttemptState.FAILED), True),
    ],
    ids=[
        "alive", "dead", "retry not due", "retry due now", "retry overdue", "deferred not due", "deferred due",
        "lost", "lost with its worker", "failed and revived",
    ],
)  # fmt: skip
def test_a_step_is_published_when_nobody_is_on_it(held: Holder, is_published: bool) -> None:
    """A step whose worker lives or whose time has not come is left alone; any other attempt that ended is repeated."""
    wake = decided(run_of(), {"1.a": held, "2.b": holder(RUNNING)})
    assert wake.addresses == (("1.a",) if is_published else ())


@pytest.mark.parametrize("broker_is_empty", [True, False])
def test_a_dead_worker_s_step_does_not_wait_for_silence(broker_is_empty: bool) -> None:
    """A step of a dead worker is published at once, also when the run had news a moment ago."""
    held = {"1.a": holder(RUNNING, is_alive=False), "2.b": holder(RUNNING)}
    assert decided(quiet(0), held, broker_is_empty=broker_is_empty).addresses == ("1.a",)


@pytest.mark.parametrize(
    ("age_s", "nudges", "broker_is_empty", "is_published"),
    [
        (QUIET_GRACE_S, 0, True, True),
        (QUIET_GRACE_S - 0.001, 0, True, False),
        (QUIET_GRACE_S, 9, True, True),
        (BUSY_GRACE_S, 0, False, True),
        (BUSY_GRACE_S - 0.001, 0, False, False),
        (BUSY_GRACE_S, 1, False, False),
        (BUSY_GRACE_S * 2, 1, False, True),
        (LONGEST_GRACE_S - 0.001, 9, False, False),
        (LONGEST_GRACE_S, 9, False, True),
    ],
)
def test_a_step_nobody_claimed_is_published_after_the_grace(
    age_s: float, nudges: int, broker_is_empty: bool, is_published: bool
) -> None:
    """A message counts as lost after the grace: short while the broker is empty, else doubling with every nudge."""
    wake = decided(quiet(age_s), nudges=nudges, broker_is_empty=broker_is_empty)
    assert wake.addresses == (("1.a", "2.b") if is_published else ())


@pytest.mark.parametrize("nudges", [32, 1_024, 10**9])
def test_days_without_a_worker_do_not_break_the_sweep(nudges: int) -> None:
    """A run that was nudged for days, because its queue has no worker, is decided like any other."""
    wake = decided(quiet(LONGEST_GRACE_S), nudges=nudges)
    assert (wake.addresses, wake.wake_at) == (("1.a", "2.b"), NOW + LONGEST_GRACE_S)


def test_only_what_is_ready_is_published() -> None:
    """A committed step and one that waits for others are nobody's business."""
    assert decided(quiet(99, done=PLAN.mask(["1.a"]))).addresses == ("2.b",)
    assert decided(quiet(99, done=PLAN.mask(["1.a", "2.b"]))).addresses == ("3.c",)


def test_a_run_that_was_never_published_is() -> None:
    """An enqueued run whose message was lost is published from its first steps."""
    wake = decided(quiet(1, status=RunStatus.ENQUEUED, started_at=None), broker_is_empty=True)
    assert wake.addresses == ("1.a", "2.b")


def test_steps_are_published_in_plan_order() -> None:
    """What is published comes in the plan's order, whatever the order of the holders."""
    held = {"2.b": holder(LOST), "1.a": holder(LOST)}
    assert decided(run_of(), held).addresses == ("1.a", "2.b")


# --- when to look again ---------------------------------------------------------------------


@pytest.mark.parametrize(("nudges", "pause_s"), [(0, 6), (1, 12), (2, 24), (3, 48), (4, 60), (40, 60)])
def test_looks_grow_apart(nudges: int, pause_s: float) -> None:
    """A run that is being worked on is looked at again after 6, 12, 24, 48 and then every 60 seconds."""
    held = {"1.a": holder(RUNNING), "2.b": holder(RUNNING)}
    assert decided(quiet(0), held, nudges=nudges).wake_at == NOW + pause_s
    assert GRACE_S * 2 == 6


def test_a_delayed_step_is_looked_at_when_it_is_due() -> None:
    """The next look is when the first delayed step is due, if that is sooner."""
    held = {"1.a": holder(RETRY, due_at=NOW + 2.5), "2.b": holder(DEFERRED, due_at=NOW + 4)}
    assert decided(run_of(), held).wake_at == NOW + 2.5


def test_a_step_due_in_an_hour_is_looked_at_before() -> None:
    """A step that is due far in the future does not keep the run from being looked at."""
    held = {"1.a": holder(DEFERRED, due_at=NOW + 3_600), "2.b": holder(RUNNING)}
    assert decided(run_of(), held).wake_at == NOW + 6


def test_a_silent_run_is_looked_at_when_its_grace_is_over() -> None:
    """A step that nobody claimed yet is looked at again when its message counts as lost."""
    assert decided(quiet(0.4), broker_is_empty=True).wake_at == NOW + 0.6


def test_a_look_is_never_at_once() -> None:
    """Between two looks lie at least 0.2 seconds, so that a sweep comes to its end."""
    held = {"1.a": holder(RETRY, due_at=NOW + 0.001), "2.b": holder(RUNNING)}
    assert decided(run_of(), held).wake_at == NOW + 0.2


@pytest.mark.parametrize("run", [run_of(), quiet(99), quiet(99, done=PLAN.everything), failing(*HANDLERS), failing()])
def test_every_decision_looks_ahead(run: Run) -> None:
    """Whatever is decided, the run is looked at again, later than now and within a minute."""
    assert NOW < decided(run).wake_at <= NOW + LONGEST_GRACE_S


# --- runs at their end ----------------------------------------------------------------------


def test_a_run_without_an_end_is_complete() -> None:
    """A running run whose every step is committed only lacks its end; there is nothing to publish."""
    wake = decided(quiet(99, done=PLAN.everything))
    assert (wake.is_complete, wake.addresses) == (True, ())


@pytest.mark.parametrize(
    "run",
    [quiet(99), quiet(99, done=PLAN.mask(["1.a", "2.b"])), failing(*HANDLERS)],
    ids=["begun", "almost", "failing"],
)
def test_a_run_with_work_left_is_not_complete(run: Run) -> None:
    """A run with open steps, or one that is failing, is not complete."""
    assert not decided(run).is_complete


def test_a_failing_run_s_handlers_are_open() -> None:
    """In a failing run nothing but the handlers of its failure may run."""
    assert open_addresses(failing(*HANDLERS), PLAN) == HANDLERS
    assert open_addresses(failing(), PLAN) == ()
    assert open_addresses(run_of(status=RunStatus.FAILING), PLAN) == ()


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({}, HANDLERS),
        ({"1.on_error.x": holder(RUNNING)}, ("2.on_error.y",)),
        ({"1.on_error.x": holder(AttemptState.COMMITTED)}, ("2.on_error.y",)),
        ({"1.on_error.x": holder(AttemptState.FAILED)}, ("2.on_error.y",)),
        ({"1.on_error.x": holder(RUNNING, is_alive=False)}, HANDLERS),
        ({"1.on_error.x": holder(RETRY, due_at=NOW - 1)}, HANDLERS),
        ({address: holder(AttemptState.COMMITTED) for address in HANDLERS}, ()),
    ],
    ids=["none begun", "one at work", "one committed", "one failed", "one dead", "one due", "all done"],
)
def test_a_handler_that_is_over_is_not_published_again(held: dict[str, Holder], expected: tuple[str, ...]) -> None:
    """Handlers are published like steps, but one that committed or failed is over."""
    run = failing(*HANDLERS)
    assert decide(run, PLAN, held, nudges=0, now=NOW + 99, broker_is_empty=False).addresses == expected


def test_a_decision_names_its_run_and_plan() -> None:
    """A wake carries the run and the plan that it was decided from."""
    wake = decided(run_of())
    assert (wake.run, wake.plan) == (run_of(), PLAN)
