"""Dispatch: which steps travel in one message, and what a message says."""

# Celery ships no types: its decorators are untyped to mypy.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, _state
from celery.canvas import Signature, _chain, chain, group
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aos_workflow.canvas import compile_canvas
from aos_workflow.dispatch import CeleryDispatch, stretch
from aos_workflow.messages import Message, Progress
from aos_workflow.options import StepOptions
from aos_workflow.plan import Plan, Step
from aos_workflow.task import HEADER, CeleryTasks, WorkflowTask, message_of

app = Celery("unit_dispatch", task_cls=WorkflowTask, set_as_current=False)
TASKS = CeleryTasks(app)
LOCAL = StepOptions(local=True)


@app.task(name="d.a")
def a(*args: Any) -> None: ...


@app.task(name="d.here", step_options=LOCAL)
def here(*args: Any) -> None: ...


@app.task(name="d.tell")
def tell(*args: Any) -> None: ...


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Celery's current app is, after each test, what it was before."""
    before = _state._tls.current_app
    yield
    _state._set_current_app(before)


def plan_of(canvas: Any) -> Plan:
    return compile_canvas(canvas, app=app)


def line(*tasks: Any) -> Plan:
    return plan_of(chain(*(task.s() for task in tasks)))


def addresses(plan: Plan, address: str, longest: int = 8) -> list[str]:
    return [step.address for step in stretch(plan, address, TASKS, longest)]


def progress(plan: Plan, *released: str, epoch: int = 3) -> Progress:
    return Progress(run_id="run-1", plan=plan, plan_digest=plan.digest, epoch=epoch, released=released)


def links(message: Any) -> list[Signature]:
    """The signatures of one message, first to last."""
    return list(message.tasks) if isinstance(message, _chain) else [message]


def headers(message: Any) -> list[dict[str, Any]]:
    return [link.options["headers"][HEADER] for link in links(message)]


# --- stretch --------------------------------------------------------------------------------


def test_a_line_is_one_stretch() -> None:
    """Steps that each have one successor travel together."""
    assert addresses(line(a, a, a), "1.a") == ["1.a", "2.a", "3.a"]


def test_a_stretch_starts_where_it_is_told() -> None:
    """The stretch from the middle of a line is the rest of it."""
    assert addresses(line(a, a, a), "2.a") == ["2.a", "3.a"]


@pytest.mark.parametrize(("longest", "expected"), [(1, 1), (2, 2), (4, 4), (9, 5)])
def test_a_stretch_is_no_longer_than_its_window(longest: int, expected: int) -> None:
    """A message has at most ``longest`` links, however long the line is."""
    assert len(addresses(line(a, a, a, a, a), "1.a", longest)) == expected


def test_a_stretch_ends_at_a_fan_out() -> None:
    """Behind a step with several successors the commit decides what is sent."""
    plan = plan_of(chain(a.s(), a.s(), group(a.s(), a.s())))
    assert addresses(plan, "1.a") == ["1.a", "2.a"]


def test_a_stretch_ends_before_a_fan_in() -> None:
    """A step that waits for others travels only when the last of them has committed."""
    plan = plan_of(chain(group(chain(a.s(), a.s()), a.s()), a.s()))
    assert addresses(plan, "1.a") == ["1.a", "2.a"]


def test_a_side_branch_ends_a_stretch() -> None:
    """A success callback is a second successor."""
    linked: Signature = a.s()
    linked.link(tell.s())
    assert addresses(plan_of(linked | a.s()), "1.a") == ["1.a"]


def test_a_splice_ends_a_stretch() -> None:
    """What followed a replaced step waits for the sub-plan, so the sub-plan travels alone."""
    plan = line(a, a, a).spliced("1.a", line(a, a))
    assert addresses(plan, "1.a/1.a") == ["1.a/1.a", "1.a/2.a"]
    assert addresses(plan, "2.a") == ["2.a", "3.a"]


def test_a_handler_travels_alone() -> None:
    """A failure handler is a message of its own."""
    plan = plan_of(a.s().on_error(tell.s()) | a.s())
    assert addresses(plan, "1.on_error.tell") == ["1.on_error.tell"]


def test_a_local_step_needs_no_link() -> None:
    """A local step runs in the process of the one before, so the message passes over it."""
    assert addresses(line(a, here, a), "1.a") == ["1.a", "3.a"]
    assert addresses(line(a, here, here), "1.a") == ["1.a"]


def test_a_released_local_step_is_a_message() -> None:
    """A local step that is released by itself is sent like any other."""
    assert addresses(line(a, here, a), "2.here") == ["2.here", "3.a"]


def test_passed_over_steps_do_not_fill_the_window() -> None:
    """The window counts links, and a local step is none."""
    assert addresses(line(a, here, a, here, a, a), "1.a", 3) == ["1.a", "3.a", "5.a"]


def test_a_local_step_of_another_queue_is_a_link() -> None:
    """A step that is local but of another queue goes through the broker."""
    plan = plan_of(a.s() | here.s().set(queue="elsewhere") | a.s())
    assert addresses(plan, "1.a") == ["1.a", "2.here", "3.a"]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from([a, here]), min_size=1, max_size=12), st.integers(1, 9))
def test_windows_cover_a_line(tasks: list[Any], longest: int) -> None:
    """Sent window by window, every step of a line is either a link or runs in place, each once and in order."""
    plan = line(*tasks)
    seen: list[str] = []
    ready = plan.ready(0)
    while ready:
        (start,) = ready
        for link in addresses(plan, start, longest):
            seen.append(link)
            while (after := plan.successors(seen[-1])) and TASKS.runs_here(after[0], plan.step(seen[-1])):
                seen.append(after[0].address)
        ready = plan.ready(plan.mask(seen))
    assert list(plan.positions) == seen


# --- messages -------------------------------------------------------------------------------


def test_a_message_names_run_and_address_and_carries_no_value() -> None:
    """Every link says run, address, epoch and plan in its header, and has no arguments."""
    plan = plan_of(a.s("secret") | a.s(["value"]))
    message = CeleryDispatch(app).canvas(progress(plan, "1.a"))
    assert headers(message) == [
        {"run": "run-1", "address": address, "epoch": 3, "plan": plan.digest} for address in ("1.a", "2.a")
    ]
    assert all((link.args, link.kwargs, link.immutable) == ((), {}, True) for link in links(message))
    assert not {"secret", "value"} & set(json.dumps(message).replace('"', " ").split())


def test_a_message_s_header_is_read_back() -> None:
    """What a worker reads from a request is what was sent."""
    message = CeleryDispatch(app).canvas(progress(line(a), "1.a", epoch=7))
    header = message.options["headers"]
    request = type("Request", (), {"headers": header})()
    assert Message(run_id="run-1", address="1.a", epoch=7, plan=line(a).digest) == message_of(request)


def test_flower_is_shown_run_and_address() -> None:
    """The arguments that monitoring shows are run and address; the task keeps its own name."""
    message = CeleryDispatch(app).canvas(progress(line(a), "1.a"))
    assert (message.task, message.options["argsrepr"]) == ("d.a", "run-1 / 1.a")
    assert message.options["task_id"] == "run-1:1.a"


def test_a_line_travels_as_a_chain() -> None:
    """A linear stretch is a real Celery chain, one step alone a plain signature."""
    dispatch = CeleryDispatch(app)
    assert isinstance(dispatch.canvas(progress(line(a, a), "1.a")), _chain)
    assert type(dispatch.canvas(progress(line(a), "1.a"))) is Signature


def test_a_fan_out_travels_as_a_group() -> None:
    """Several released steps are a real Celery group, each with the stretch that follows it."""
    plan = plan_of(group(chain(a.s(), a.s()), a.s()))
    message = CeleryDispatch(app).canvas(progress(plan, "1.a", "3.a"))
    assert isinstance(message, group)
    assert [[header["address"] for header in headers(member)] for member in message.tasks] == [["1.a", "2.a"], ["3.a"]]


def test_nothing_released_is_no_message() -> None:
    """Without anything to do there is nothing to send, and no broker is needed to say so."""
    dispatch = CeleryDispatch(app)
    assert dispatch.canvas(progress(line(a))) is None
    assert dispatch.publish(progress(line(a))) is True


def test_a_step_s_own_delivery_options_are_used() -> None:
    """Queue, routing, priority and time limits travel with the message; a delay stays in the database."""
    given = {"queue": "q", "priority": 4, "time_limit": 9, "soft_time_limit": 8, "routing_key": "k", "exchange": "e"}
    plan = plan_of(a.s().set(countdown=60, eta=None, **given) | a.s().set(countdown=5))
    first, second = links(CeleryDispatch(app).canvas(progress(plan, "1.a")))
    assert given.items() <= first.options.items()
    assert {"countdown", "eta", "expires"} & {*first.options, *second.options} == set()


def test_a_message_does_not_grow_with_the_workflow() -> None:
    """The message of a workflow of a thousand steps is as long as that of one that fills the window."""

    def size(steps: int) -> int:
        plan = Plan(
            steps=tuple(
                Step(address=f"{ordinal:04}.a", task="d.a", after=(f"{ordinal - 1:04}.a",) if ordinal > 1 else ())
                for ordinal in range(1, steps + 1)
            )
        )
        return len(json.dumps(CeleryDispatch(app, window=8).canvas(progress(plan, "0001.a"))))

    assert size(8) == size(1_000)


def test_a_broker_that_is_away_is_no_error() -> None:
    """Publishing without a broker says so by its answer: the sweep sends it again."""
    away = Celery("unit_dispatch_away", task_cls=WorkflowTask, set_as_current=False, broker="redis://127.0.0.1:1/0")
    dispatch = CeleryDispatch(away)
    assert dispatch.publish(progress(line(a), "1.a")) is False
    assert dispatch.broker_is_empty() is False
