"""perform(step): what a body did becomes an outcome, and the body can do nothing else."""

# Celery ships no types: its decorators are untyped to mypy.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from celery import Celery, Task, _state
from celery.canvas import chain, group, signature

from aos_workflow.canonical import encode
from aos_workflow.canvas import compile_canvas
from aos_workflow.context import StepContext, current
from aos_workflow.errors import CheckpointMissing, StepTimeout, StoreUnavailable
from aos_workflow.journal import EffectJournal
from aos_workflow.options import StepOptions
from aos_workflow.perform import Again, Done, GaveUp, Outcome, RetryRequested, arguments, failure_of, perform
from aos_workflow.plan import FAILURE, INPUT, Plan, Step
from aos_workflow.records import Failure, Granted, Run, RunStatus
from aos_workflow.task import CeleryTasks, WorkflowTask

app = Celery("unit_perform", task_cls=WorkflowTask, set_as_current=False)
TASKS = CeleryTasks(app)
STEP = Step(address="2.score", task="p.echo", on_error=("1.on_error.tell",))
HANDLER = Step(address="1.on_error.tell", task="p.echo", feed=FAILURE)
LIMIT_BYTES = 10_000


@app.task(name="p.echo")
def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


@app.task(name="p.retrying", bind=True, max_retries=2)
def retrying(self: Task, countdown: float | None = None) -> NoReturn:
    raise self.retry(countdown=countdown, exc=ConnectionError("away"))


@app.task(name="p.auto", autoretry_for=(ConnectionError,), retry_backoff=4, max_retries=5)
def auto() -> NoReturn:
    raise ConnectionError("away")


@app.task(name="p.becoming", bind=True)
def becoming(self: Task) -> None:
    self.replace(echo.s("instead"))


@app.task(name="p.asking", bind=True)
def asking(self: Task) -> Any:
    return [self.request.id, self.request.retries, self.request.called_directly]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Celery's current app is, after each test, what it was before."""
    before = _state._tls.current_app
    yield
    _state._set_current_app(before)


class Slow(Exception):
    """An error that says when to come back."""

    def __init__(self, retry_after_s: Any) -> None:
        super().__init__("slow down")
        self.retry_after_s = retry_after_s


class Mute(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def run_of(**changes: Any) -> Run:
    facts: dict[str, Any] = {
        "id": "run-1", "workflow": "w", "status": RunStatus.RUNNING, "plan_digest": "d", "inputs_digest": "i",
        "seed": 42, "logical_time": 0.0, "idempotency_key": None, "epoch": 1, "size": 1, "done": 0, "splices": 0,
        "inline": False, "created_at": 0.0, "updated_at": 0.0, "started_at": 0.0, "finished_at": None,
        "workflow_hash": None, "error": None,
    }  # fmt: skip
    return Run(**{**facts, **changes})


def granted_of(outputs: dict[str, str] | None = None, *, step: Step = STEP, retries: int = 0, **run: Any) -> Granted:
    return Granted(
        run=run_of(**run),
        address=step.address,
        attempt=retries + 1,
        retries=retries,
        outputs=outputs or {},
        started_at=0.0,
    )


def context_of(granted: Granted, journal: EffectJournal | None = None) -> StepContext:
    return StepContext(
        run_id=granted.run.id,
        workflow=granted.run.workflow,
        address=granted.address,
        attempt=granted.attempt,
        seed=granted.run.seed,
        logical_time=granted.run.logical_time,
        journal=journal or EffectJournal(),
    )


def outcome(
    body: Callable[..., Any],
    *,
    step: Step = STEP,
    plan: Plan | None = None,
    granted: Granted | None = None,
    journal: EffectJournal | None = None,
    volatile: tuple[str, ...] = (),
    limit_bytes: int = LIMIT_BYTES,
    **options: Any,
) -> Outcome:
    """Perform one step whose function is ``body``."""
    granted = granted or granted_of(step=step)
    return perform(
        step,
        plan=plan or Plan(steps=(STEP,), handlers=(HANDLER,), outgoing=STEP.address),
        granted=granted,
        options=StepOptions(**options),
        body=lambda args, kwargs: body(*args, **kwargs),
        context=context_of(granted, journal),
        limit_bytes=limit_bytes,
        volatile=volatile,
        app=app,
    )


def task_outcome(task: Any, *args: Any, granted: Granted | None = None, **options: Any) -> Outcome:
    """Perform a step that is a real Celery task, called as a worker calls it."""
    step = replace(STEP, task=task.name, args=args)
    granted = granted or granted_of(step=step)
    return perform(
        step,
        plan=Plan(steps=(step,)),
        granted=granted,
        options=StepOptions(**options),
        body=TASKS.body(step, granted),
        context=context_of(granted),
        limit_bytes=LIMIT_BYTES,
        app=app,
    )


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def body(*_: Any) -> NoReturn:
        raise error

    return body


def done(outcome: Outcome) -> Done:
    assert isinstance(outcome, Done), outcome
    return outcome


def again(outcome: Outcome) -> Again:
    assert isinstance(outcome, Again), outcome
    return outcome


def gave_up(outcome: Outcome) -> GaveUp:
    assert isinstance(outcome, GaveUp), outcome
    return outcome


# --- done -----------------------------------------------------------------------------------


def test_a_value_becomes_canonical_text_and_digest() -> None:
    """A body that returns is done: its value as canonical text, with the text's digest."""
    text = '{"a": [1.5, null], "b": "\\u00e9"}'
    digest = hashlib.sha256(text.encode()).hexdigest()
    expected = Done(output=text, digest=digest, stable_digest=digest)
    assert expected == outcome(lambda: {"b": "é", "a": [1.5, None]})


def test_nothing_is_a_value() -> None:
    """A body that returns nothing is done with null."""
    assert done(outcome(lambda: None)).output == "null"


def test_volatile_fields_are_left_out_of_the_stable_digest() -> None:
    """Two outputs that differ in a volatile field only have one stable digest and two digests."""
    first, second = (done(outcome(lambda ms=ms: {"x": 1, "ms": ms}, volatile=("ms",))) for ms in (1, 2))
    assert first.stable_digest == second.stable_digest
    assert first.digest != second.digest


def test_effects_travel_with_the_output() -> None:
    """What the body recorded is part of its outcome, as canonical text."""

    def body() -> Any:
        context = current.get()
        assert context is not None
        return context.effect("get", lambda: "answer")

    assert done(outcome(body)).effects == encode({"effects": {"get": "answer"}})
    assert done(outcome(lambda: 1)).effects is None


def test_known_effects_are_served() -> None:
    """With a recording the body receives the recorded value and the world is not asked."""

    def body() -> Any:
        context = current.get()
        assert context is not None
        return context.effect("get", raising(AssertionError("touched")))

    assert (
        done(outcome(body, journal=EffectJournal('{"effects": {"get": "recorded"}}', is_replay=True))).output
        == '"recorded"'
    )


def test_two_attempts_draw_the_same() -> None:
    """A body that draws, asks for ids and for the time returns the same in every attempt."""

    def body() -> Any:
        context = current.get()
        assert context is not None
        return [context.random.random(), str(context.uuid()), context.now]

    first, later = outcome(body), outcome(body, granted=granted_of(retries=3))
    assert first == later


# --- arguments ------------------------------------------------------------------------------


def plan_of_two() -> Plan:
    return Plan(
        steps=(
            Step(address="1.a", task="t"),
            Step(address="2.b", task="t"),
            Step(address="3.c", task="t", args=("own",), kwargs={"k": 1}, feed=["1.a", ["2.b"]], after=("1.a", "2.b")),
        )
    )


def test_a_body_receives_what_flows_in_before_its_own_arguments() -> None:
    """The value of the feed comes first, in the feed's shape, then the step's own arguments."""
    plan, outputs = plan_of_two(), {"1.a": "[1]", "2.b": '{"x": null}'}
    assert arguments(plan.step("3.c"), plan, outputs) == (([[1], [{"x": None}]], "own"), {"k": 1})


def test_arguments_are_values_and_not_their_encoding() -> None:
    """Stored arguments and outputs come back as the types they were."""
    step = Step(address="2.b", task="t", args=({"$tuple": [1]},), kwargs={"d": {"$decimal": "1.50"}}, feed="1.a")
    plan = Plan(steps=(Step(address="1.a", task="t"), step))
    args, kwargs = arguments(step, plan, {"1.a": '{"$set": [1, 2]}'})
    assert ([{1, 2}, (1,)], "1.50") == (list(args), str(kwargs["d"]))


def test_the_run_s_inputs_are_an_argument() -> None:
    """A step that is fed the run's inputs receives them, alone and in a list."""
    step = Step(address="1.a", task="t", feed=INPUT)
    assert arguments(step, Plan(steps=(step,)), {INPUT: '{"n": 1}'}) == (({"n": 1},), {})
    joined = replace(step, feed=[INPUT])
    assert arguments(joined, Plan(steps=(joined,)), {INPUT: '{"n": 1}'}) == (([{"n": 1}],), {})


def test_a_step_without_a_feed_has_its_own_arguments_only() -> None:
    """Neither a step without a feed nor a failure handler receives an output."""
    for step in (Step(address="1.a", task="t", args=(1,)), replace(HANDLER, args=(1,))):
        assert arguments(step, Plan(steps=(step,)), {"1.a": "9", INPUT: "8"}) == ((1,), {})


def test_an_empty_list_is_fed_as_one() -> None:
    """The body of an empty group receives an empty list, and not no argument."""
    step = Step(address="1.a", task="t", feed=[])
    assert arguments(step, Plan(steps=(step,)), {}) == (([],), {})


def test_a_missing_checkpoint_is_named() -> None:
    """An input that is not in the database is an error that names its address, before the body runs."""
    plan = plan_of_two()
    with pytest.raises(CheckpointMissing, match=r"no checkpoint for 2\.b") as missing:
        outcome(raising(AssertionError("ran")), step=plan.step("3.c"), plan=plan, granted=granted_of({"1.a": "1"}))
    assert missing.value.evidence == {"address": "2.b"}


def test_inputs_of_a_replaced_step_come_from_its_sub_plan() -> None:
    """A step after a replaced one receives the sub-plan's value."""
    plan = plan_of_two().spliced("2.b", Plan(steps=(Step(address="1.x", task="t"),), outgoing="1.x"))
    args, _ = arguments(plan.step("3.c"), plan, {"1.a": "1", "2.b": "0", "2.b/1.x": "2"})
    assert args[0] == [1, [2]]


# --- gave up --------------------------------------------------------------------------------


def test_an_error_is_final_without_max_attempts() -> None:
    """A body that raises is given up at once: type, message, traceback, address and handlers are kept."""
    failure = gave_up(outcome(raising(ValueError("no such thing")))).failure
    assert (
        failure.code, failure.type, failure.message, failure.address, failure.handlers,
    ) == ("STEP_FAILED", "ValueError", "no such thing", "2.score", ("1.on_error.tell",))  # fmt: skip
    assert "ValueError: no such thing" in failure.traceback
    assert "in body" in failure.traceback


@pytest.mark.parametrize(
    ("value", "why"),
    [(object(), "object"), (float("nan"), "nan"), ({"a": [lambda: 1]}, "/a/0"), ([{1: 2}], "/0")],
    ids=["object", "nan", "function", "key"],
)
def test_an_output_without_canonical_form_is_not_tried_again(value: Any, why: str) -> None:
    """An output that cannot be stored is given up at once, however many attempts there may be."""
    failure = gave_up(outcome(lambda: value, max_attempts=5)).failure
    assert failure.code == "VALUE_NOT_CANONICAL"
    assert why in failure.message


def test_an_output_that_is_too_large_is_not_tried_again() -> None:
    """An output over the limit is given up at once, naming both sizes."""
    failure = gave_up(outcome(lambda: "x" * 50, limit_bytes=20, max_attempts=5)).failure
    assert failure.code == "PAYLOAD_TOO_LARGE"
    assert "52 bytes" in failure.message
    assert "20 bytes" in failure.message


def test_a_coroutine_is_no_output() -> None:
    """An async function is refused as a step instead of never being awaited in silence."""

    async def body() -> int:
        return 1

    coroutine = body()
    assert gave_up(outcome(lambda: coroutine)).failure.code == "VALUE_NOT_CANONICAL"
    coroutine.close()


def test_an_error_without_words_is_still_an_outcome() -> None:
    """An exception whose own text cannot be had does not break the engine."""
    failure = gave_up(outcome(raising(Mute()))).failure
    assert "RuntimeError" in failure.message
    assert failure.type.endswith("Mute")


def test_long_messages_and_tracebacks_are_cut() -> None:
    """What is stored of an error is bounded: the start of its message, the end of its traceback."""

    def deep(levels: int) -> NoReturn:
        if levels:
            deep(levels - 1)
        raise ValueError("x" * 100_000)

    failure = gave_up(outcome(lambda: deep(3))).failure
    assert (len(failure.message), len(failure.traceback)) == (4_000, 16_000)


def test_a_recursion_error_is_an_outcome() -> None:
    """A body that recurses without end has failed like any other."""

    def endless() -> Any:
        return endless()

    assert gave_up(outcome(endless)).failure.type == "RecursionError"


def test_a_failure_names_the_module_of_its_type() -> None:
    """Built-in errors are named alone, others with their module."""
    assert failure_of(KeyError("k"), "1.a").type == "KeyError"
    assert failure_of(Slow(1), "1.a").type == f"{__name__}.Slow"


def test_an_error_of_ours_keeps_its_code() -> None:
    """An AosError that a body raises is stored under its own code."""
    assert failure_of(StepTimeout("late"), "1.a").code == "STEP_TIMEOUT"


# --- again ----------------------------------------------------------------------------------


def test_an_error_is_tried_again_up_to_max_attempts() -> None:
    """With ``max_attempts=3`` the first two failures are tried again and the third is final."""
    outcomes = [
        outcome(raising(ValueError("no")), granted=granted_of(retries=retries), max_attempts=3) for retries in range(3)
    ]
    assert [Again, Again, GaveUp] == [type(one) for one in outcomes]


def test_an_attempt_that_will_be_repeated_calls_no_handlers() -> None:
    """A failure that is tried again tells no handler yet."""
    assert again(outcome(raising(ValueError("no")), max_attempts=2)).failure.handlers == ()


def pauses(**granted: Any) -> list[float]:
    lives = [granted_of(retries=retries, **granted) for retries in range(8)]
    return [again(outcome(raising(ValueError("no")), granted=life, max_attempts=99)).delay_s for life in lives]


def test_pauses_are_the_same_in_every_life_of_the_run() -> None:
    """The series of pauses depends on run seed, address and retry only: a restarted run waits as long."""
    assert pauses() == pauses(id="run-2", epoch=9, updated_at=5.0)


def test_pauses_differ_between_runs() -> None:
    """Two runs that fail together do not come back together."""
    assert pauses() != pauses(seed=43)


def test_pauses_double() -> None:
    """The n-th pause is between half of 2**n seconds and all of it."""
    assert all(2**retries / 2 <= pause_s <= 2**retries for retries, pause_s in enumerate(pauses()))


@pytest.mark.parametrize(("asked", "expected"), [(5, 5.0), (0.25, 0.25), ("7", 7.0), (0, 0.0), (-3, 0.0)])
def test_an_error_may_say_when_to_come_back(asked: Any, expected: float) -> None:
    """``retry_after_s`` on the exception is honoured, and never points to the past."""
    assert again(outcome(raising(Slow(asked)), max_attempts=2)).delay_s == expected


@pytest.mark.parametrize(
    "asked", [None, "Wed, 21 Oct 2026 07:28:00 GMT", float("nan"), float("inf"), [1], 10**400], ids=range(6)
)
def test_an_unreadable_wish_is_the_usual_pause(asked: Any) -> None:
    """A ``retry_after_s`` that is no number of seconds is ignored instead of breaking the engine."""
    assert again(outcome(raising(Slow(asked)), max_attempts=2)).delay_s == pauses()[0]


def test_a_retryable_error_of_ours_is_tried_again() -> None:
    """An AosError that says it is retryable is tried again; another one is final at once."""
    assert again(outcome(raising(StoreUnavailable("away")), max_attempts=2)).failure.code == "STORE_UNAVAILABLE"
    assert gave_up(outcome(raising(CheckpointMissing("gone")), max_attempts=2)).failure.code == "CHECKPOINT_MISSING"


def test_a_body_may_ask_to_be_tried_again() -> None:
    """``self.retry`` is another attempt after its countdown, for the reason it gave."""
    asked = again(task_outcome(retrying, 12.5))
    assert (asked.delay_s, asked.failure.type, asked.failure.message) == (12.5, "ConnectionError", "away")


def test_celery_s_limit_of_retries_holds() -> None:
    """After ``max_retries`` of Celery the body's own error is final."""
    last = gave_up(task_outcome(retrying, 1, granted=granted_of(retries=2)))
    assert (last.failure.type, last.failure.message) == ("ConnectionError", "away")


def test_max_attempts_bounds_what_a_body_asks_for() -> None:
    """``max_attempts`` is tries in all: a body that asks for more is given up, with its reason and its handlers."""
    last = gave_up(task_outcome(retrying, 1, granted=granted_of(retries=1), max_attempts=2))
    assert (last.failure.type, last.failure.handlers) == ("ConnectionError", ("1.on_error.tell",))


def test_autoretry_draws_the_engine_s_pause() -> None:
    """``autoretry_for`` with jitter waits for the seeded pause and not for Celery's unseeded one."""
    first, second = (again(task_outcome(auto)).delay_s for _ in range(2))
    assert first == second == pauses()[0]


@pytest.mark.parametrize("asked", [float("inf"), float("nan")])
def test_an_endless_countdown_is_the_usual_pause(asked: float) -> None:
    """A wish for a pause without end does not put the run to sleep for ever."""
    wish = RetryRequested()
    wish.delay_s, wish.cause = asked, None
    assert again(outcome(raising(wish))).delay_s == pauses()[0]


def test_a_bare_wish_is_its_own_reason() -> None:
    """A body that asks for another attempt without a cause is its own reason, after the usual pause."""
    wish = RetryRequested("not yet")
    wish.delay_s, wish.cause = None, None
    asked = again(outcome(raising(wish)))
    assert (pauses()[0], "not yet") == (asked.delay_s, asked.failure.message)


# --- deadlines ------------------------------------------------------------------------------


def sleeping() -> None:
    time.sleep(60)


def test_a_body_is_over_at_its_timeout() -> None:
    """A body that sleeps past ``timeout_s`` failed with STEP_TIMEOUT, and the traceback says where it slept."""
    failure = gave_up(outcome(sleeping, timeout_s=0.05)).failure
    assert failure.code == "STEP_TIMEOUT"
    assert "in sleeping" in failure.traceback


def test_a_timeout_may_be_tried_again() -> None:
    """A timeout counts as an attempt like any other error."""
    assert again(outcome(sleeping, timeout_s=0.05, max_attempts=2)).failure.code == "STEP_TIMEOUT"


def test_a_body_in_a_thread_is_over_at_its_timeout_too() -> None:
    """In a thread pool the body's deadline holds as well."""
    late = asyncio.run(asyncio.to_thread(outcome, sleeping, timeout_s=0.05))
    assert gave_up(late).failure.code == "STEP_TIMEOUT"


def test_a_timed_body_in_a_thread_has_its_context() -> None:
    """A body that runs in a thread of its own sees its step's context."""

    def body() -> str:
        context = current.get()
        assert context is not None
        return context.address

    assert done(asyncio.run(asyncio.to_thread(outcome, body, timeout_s=60))).output == '"2.score"'


# --- replace --------------------------------------------------------------------------------


def test_a_replacement_is_a_sub_plan() -> None:
    """A body that returns ``ctx.replace(canvas)`` is done with the canvas's plan; its output names the plan."""
    canvas = chain(echo.s(1), group(echo.s(), echo.s()))
    replaced = done(outcome(lambda: context_of(granted_of()).replace(canvas)))
    assert compile_canvas(canvas, app=app) == replaced.sub
    assert replaced.sub is not None
    assert encode({"replaced_by": replaced.sub.digest}) == replaced.output


def test_self_replace_is_a_sub_plan_too() -> None:
    """Celery's ``self.replace`` does the same."""
    replaced = done(task_outcome(becoming))
    assert replaced.sub is not None
    assert [(step.address, step.args) for step in replaced.sub.steps] == [("1.echo", ("instead",))]


def test_effects_before_a_replacement_are_kept() -> None:
    """What a body recorded before it was replaced travels with its checkpoint."""

    def body() -> Any:
        context = current.get()
        assert context is not None
        context.effect("get", lambda: 1)
        return context.replace(echo.s())

    assert done(outcome(body)).effects == encode({"effects": {"get": 1}})


@pytest.mark.parametrize(
    ("canvas", "code"),
    [
        (None, "CANVAS_UNSUPPORTED"),
        ("echo", "CANVAS_UNSUPPORTED"),
        (signature("p.nowhere", app=app), "TASK_UNKNOWN"),
        (echo.s(object()), "VALUE_NOT_CANONICAL"),
    ],
    ids=["nothing", "text", "unknown task", "argument"],
)
def test_a_replacement_that_cannot_be_performed_is_given_up(canvas: Any, code: str) -> None:
    """A canvas that does not compile fails the step for good, naming why; nothing is stored in its place."""
    assert gave_up(outcome(lambda: context_of(granted_of()).replace(canvas), max_attempts=3)).failure.code == code


def test_a_replacement_inside_a_value_is_given_up() -> None:
    """A replacement must be the whole answer: inside a list it is refused, not stored."""
    hidden = outcome(lambda: [context_of(granted_of()).replace(echo.s())])
    assert gave_up(hidden).failure.code == "VALUE_NOT_CANONICAL"


def test_a_handler_cannot_be_replaced() -> None:
    """A failure handler has no place in the flow that a canvas could take."""
    replaced = outcome(lambda *_: context_of(granted_of()).replace(echo.s()), step=HANDLER)
    assert gave_up(replaced).failure.code == "CANVAS_UNSUPPORTED"


# --- surroundings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [lambda: 1, raising(ValueError("no")), lambda: object(), sleeping],
    ids=["value", "error", "refused", "timeout"],
)
def test_the_context_is_gone_afterwards(body: Callable[[], Any]) -> None:
    """Whatever the body did, the context variable is as it was before."""
    outcome(body, timeout_s=0.05)
    assert current.get() is None


def test_a_step_inside_a_step_restores_the_outer_one() -> None:
    """Performing a step in the middle of another gives the outer one its context back."""
    seen: list[StepContext | None] = []

    def body() -> None:
        seen.append(current.get())
        outcome(lambda: None)
        seen.append(current.get())

    outcome(body)
    assert seen[0] is seen[1] is not None


@pytest.mark.parametrize("stop", [SystemExit, KeyboardInterrupt])
def test_stopping_the_process_is_no_outcome(stop: type[BaseException]) -> None:
    """A process that is being stopped in the middle of a body is not the body's failure."""
    with pytest.raises(stop):
        outcome(raising(stop()))
    assert current.get() is None


def test_a_task_sees_a_request_of_its_own() -> None:
    """``self.request`` says run and address, the number of retries, and that this is no plain call."""
    asked = done(task_outcome(asking, granted=granted_of(retries=2)))
    assert asked.output == '["run-1:2.score", 2, false]'


def test_an_outcome_is_a_value() -> None:
    """Equal bodies have equal outcomes."""
    assert outcome(lambda: [1]) == outcome(lambda: [1])
    assert Failure(code="a", type="b", message="c") == Failure(code="a", type="b", message="c")
