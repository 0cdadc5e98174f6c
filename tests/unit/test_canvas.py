"""Canvas -> Plan: what each shape becomes, what it keeps, and what is refused by name."""

# Celery ships no types: its decorators are untyped to mypy.
# mypy: disable-error-code="untyped-decorator,no-untyped-call"

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task, _state
from celery.canvas import Signature, chain, chord, group, signature, xmap
from kombu.entity import Queue

from aos_workflow import canvas as room
from aos_workflow.canvas import DEEPEST, app_of, compile_canvas, serves_workflows
from aos_workflow.errors import (
    AosError,
    BadArguments,
    BadOption,
    NotCanonical,
    PayloadTooLarge,
    UnknownTask,
    UnsupportedCanvas,
)
from aos_workflow.options import StepOptions
from aos_workflow.plan import FAILURE, INPUT, Plan
from aos_workflow.registry import Workflow
from aos_workflow.task import WorkflowTask

ROOT = Path(__file__).resolve().parents[2]
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

app = Celery("unit_canvas", task_cls=WorkflowTask, set_as_current=False)
other = Celery("unit_canvas_other", task_cls=WorkflowTask, set_as_current=False)
plain = Celery("unit_canvas_plain", set_as_current=False)


@app.task(name="t.a")
def a(*args: Any, **kwargs: Any) -> None: ...


@app.task(name="t.b")
def b(*args: Any, **kwargs: Any) -> None: ...


@app.task(name="t.one")
def one(x: Any) -> None: ...


@app.task(name="t.two", bind=True)
def two(self: Task, x: Any, y: Any, *, z: Any = None) -> None: ...


@app.task(name="t.loose", typing=False)
def loose(x: Any) -> None: ...


@app.task(name="t.join", step_options=StepOptions(joins=True))
def join(items: list[Any]) -> None: ...


@app.task(name="t.late", expires=60)
def late() -> None: ...


@app.task(name="t.tell")
def tell(*args: Any, **kwargs: Any) -> None: ...


@app.task(name="deep/name.with/slash")
def slashed() -> None: ...


@other.task(name="o.a")
def theirs(*args: Any) -> None: ...


@plain.task(name="p.a")
def untouched(*args: Any) -> None: ...


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Celery's current app is, after each test, what it was before."""
    before = _state._tls.current_app
    yield
    _state._set_current_app(before)


def plan_of(canvas: Any, **how: Any) -> Plan:
    return compile_canvas(canvas, app=app, **how)


def flow(plan: Plan) -> list[tuple[str, Any, tuple[str, ...]]]:
    """Each step's address, feed and predecessors."""
    return [(step.address, step.feed, step.after) for step in plan.steps]


def options(canvas: Any) -> list[dict[str, Any]]:
    return [dict(step.options) for step in plan_of(canvas).steps]


def on_wire(canvas: Any) -> dict[str, Any]:
    """The canvas after a JSON round trip: plain dicts."""
    document: dict[str, Any] = json.loads(json.dumps(canvas))
    return document


# --- shapes ---------------------------------------------------------------------------------


def test_a_task_is_a_step() -> None:
    """A task is one step that waits for nothing; its value is the plan's."""
    plan = plan_of(a.s(1, k=2))
    assert flow(plan) == [("1.a", None, ())]
    assert (
        plan.steps[0].task, plan.steps[0].args, plan.steps[0].kwargs, plan.outgoing,
    ) == ("t.a", (1,), {"k": 2}, "1.a")  # fmt: skip


def test_a_chain_is_a_fold() -> None:
    """Each member of a chain receives the value of the one before."""
    assert flow(plan_of(a.s() | b.s() | a.s())) == [
        ("1.a", None, ()),
        ("2.b", "1.a", ("1.a",)),
        ("3.a", "2.b", ("2.b",)),
    ]


def test_an_immutable_member_waits_but_does_not_receive() -> None:
    """``si`` comes after the one before it and is given nothing."""
    assert flow(plan_of(a.s() | b.si())) == [("1.a", None, ()), ("2.b", None, ("1.a",))]


def test_a_group_is_a_list() -> None:
    """Every member of a group receives what flows in; their values flow out as a list."""
    plan = plan_of(chain(a.s(), group(a.s(), b.s())))
    assert flow(plan) == [("1.a", None, ()), ("2.a", "1.a", ("1.a",)), ("3.b", "1.a", ("1.a",))]
    assert plan.outgoing == ["2.a", "3.b"]


def test_a_group_in_a_group_flattens() -> None:
    """A group inside a group is part of its list, as Celery unrolls it."""
    assert plan_of(group(a.s(), group(b.s(), a.s()))).outgoing == ["1.a", "2.b", "3.a"]


def test_a_chain_that_ends_in_a_group_stays_a_list() -> None:
    """A chain that ends in a group is one member, whose value is a list."""
    plan = plan_of(group(chain(a.s(), group(a.s(), b.s())), b.s()))
    assert plan.outgoing == [["2.a", "3.b"], "4.b"]


def test_a_chord_feeds_its_list_to_its_body() -> None:
    """A chord's body receives the header's values as a list and comes after all of them."""
    plan = plan_of(chord([a.s(), b.s()], one.s()))
    assert flow(plan)[-1] == ("3.one", ["1.a", "2.b"], ("1.a", "2.b"))
    assert plan.outgoing == "3.one"


def test_an_empty_header_feeds_an_empty_list() -> None:
    """The body of a chord without members receives ``[]``."""
    assert flow(plan_of(chord([], one.s()))) == [("1.one", [], ())]


def test_an_empty_group_is_an_empty_list() -> None:
    """A group without members compiles to a plan without steps, whose value is ``[]``."""
    plan = plan_of(group([]))
    assert (plan.steps, plan.outgoing) == ((), [])


def test_an_empty_chain_is_refused() -> None:
    """A canvas without any task has no value and is refused."""
    with pytest.raises(UnsupportedCanvas, match="no task"):
        plan_of(chain())


def test_map_and_starmap_are_one_step() -> None:
    """map and starmap are one step over many items; they receive nothing from before."""
    plan = plan_of(a.s() | one.map([1, 2]))
    assert flow(plan)[-1] == ("2.map", None, ("1.a",))
    assert plan.steps[-1].kwargs["it"] == [1, 2]
    assert plan_of(two.starmap([(1, 2)])).outgoing == "1.starmap"


def test_chunks_are_a_group_of_starmaps() -> None:
    """chunks becomes a starmap per chunk, and its value a list."""
    plan = plan_of(one.chunks([(1,), (2,), (3,)], 2))
    assert plan.outgoing == ["1.starmap", "2.starmap"]


def test_the_order_is_depth_first() -> None:
    """Steps are numbered depth first, left to right, whatever the nesting."""
    plan = plan_of(group(chain(a.s(), b.s()), group(a.s(), chord([b.s()], a.s()))))
    assert [step.address for step in plan.steps] == ["1.a", "2.b", "3.a", "4.b", "5.a"]


def test_an_address_s_name_is_the_task_s_last_part() -> None:
    """A slash in a task's name does not look like a sub-plan's."""
    assert plan_of(slashed.s()).outgoing == "1.with_slash"


def test_inputs_go_to_the_first_steps() -> None:
    """With ``takes_input`` the first steps receive the run's inputs as their first argument."""
    plan = plan_of(chain(group(one.s(), b.si()), one.s()), takes_input=True)
    assert [step.feed for step in plan.steps] == [INPUT, None, ["1.one", "2.b"]]


def test_arguments_of_a_chain_go_to_its_first_task() -> None:
    """Arguments given to a chain as a whole are its first task's leading ones."""
    canvas = chain(a.s("mine"), b.s())
    canvas["args"] = ("given",)
    plan = plan_of(canvas)
    assert [step.args for step in plan.steps] == [("given", "mine"), ()]


def test_a_canvas_compiles_twice_to_the_same() -> None:
    """Compiling changes nothing in the canvas, a generator in it included."""
    canvas = chain(group(a.s(n) for n in range(3)), join.s())
    assert plan_of(canvas) == plan_of(canvas)
    assert len(plan_of(canvas).steps) == 4


# --- dict canvases --------------------------------------------------------------------------

SHAPES: dict[str, Callable[[], Any]] = {
    "task": lambda: a.s(1, k=[2]),
    "chain": lambda: a.s() | b.si() | one.s(),
    "group": lambda: group(a.s(), chain(b.s(), a.s())),
    "chord": lambda: chord([a.s(), b.s()], one.s()),
    "map": lambda: one.map([1, 2]),
    "starmap": lambda: two.starmap([[1, 2], [3, 4]]),
    "chunks": lambda: one.chunks([[1], [2], [3]], 2),
    "nested": lambda: chain(a.s(), group(b.s(), chord([a.s()], b.s())), one.s()),
    "options": lambda: chain(a.s().set(queue="q"), group(b.s(), b.s()).set(priority=3), link_error=tell.s()),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_canvas_from_the_wire_is_the_same_canvas(shape: str) -> None:
    """A canvas that was JSON in between compiles to the same plan."""
    assert plan_of(SHAPES[shape]()).text == plan_of(on_wire(SHAPES[shape]())).text


@pytest.mark.parametrize(
    "node",
    [
        {}, {"foo": 1}, {"task": None}, {"task": 5, "args": [], "kwargs": {}, "options": {}}, {"task": "t.a"},
        {"task": "t.a", "args": 5, "kwargs": {}, "options": {}},
        {"task": "t.a", "args": [], "kwargs": [1], "options": {}},
        {"task": "t.a", "args": [], "kwargs": {}, "options": None},
        {"task": "t.a", "subtask_type": "spiral"},
        {"task": "celery.map", "args": [], "kwargs": {}, "options": {}},
        {"task": "celery.chunks", "args": [], "kwargs": {}, "options": {}},
        {"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": 5}, "options": {}},
        {"task": "celery.group", "subtask_type": "group", "kwargs": {}, "options": {}},
        {"task": "celery.chord", "subtask_type": "chord", "kwargs": {}},
    ],
    ids=str,
)  # fmt: skip
def test_a_dict_that_is_no_signature_is_refused(node: dict[str, Any]) -> None:
    """A dict that no signature can be made of is refused as such, never with a KeyError."""
    with pytest.raises(UnsupportedCanvas, match="is not a canvas node"):
        plan_of(node)


@pytest.mark.parametrize("node", [None, 5, "t.a", ["t.a"], object(), a, lambda: a.s()], ids=range(7))
def test_what_is_no_signature_is_refused(node: Any) -> None:
    """Anything but a signature is refused, alone and as a member, naming what it is."""
    name = type(node).__name__
    with pytest.raises(UnsupportedCanvas, match=f"{name} is not a canvas node"):
        plan_of(node)
    broken = group([a.s(), b.s()])
    broken.tasks.append(node)
    with pytest.raises(UnsupportedCanvas, match=f"{name} is not a canvas node"):
        plan_of(broken)


# --- options --------------------------------------------------------------------------------


def test_a_step_keeps_its_delivery_options() -> None:
    """Queue, routing, priority and time limits of a signature are its step's."""
    given = {"queue": "q", "exchange": "e", "routing_key": "k", "priority": 4, "time_limit": 9, "soft_time_limit": 8}
    assert [given] == options(a.s().set(**given))


def test_leftovers_of_celery_are_dropped() -> None:
    """Ids, parents and stamps that Celery wrote into a signature are no part of the plan."""
    frozen = (a.s() | b.s()).clone()
    frozen.freeze("an-id")
    stamped = a.s()
    stamped.stamp(tenant="t1")
    assert plan_of(a.s() | b.s()) == plan_of(frozen)
    assert options(stamped) == [{}]


def test_a_queue_is_a_name() -> None:
    """A kombu Queue counts as its name."""
    assert options(a.s().set(queue=Queue("slow"))) == [{"queue": "slow"}]


@pytest.mark.parametrize("eta", [NOON, NOON.replace(tzinfo=None), NOON.isoformat(), NOON.timestamp()], ids=repr)
def test_an_eta_is_kept_as_seconds(eta: Any) -> None:
    """An eta is stored as seconds since the epoch, in whichever form it was given."""
    assert [{"eta": NOON.timestamp()}] == options(a.s().set(eta=eta))


def test_a_countdown_is_kept() -> None:
    """A countdown is the step's, in seconds."""
    assert options(a.s() | b.s().set(countdown=30)) == [{}, {"countdown": 30}]


def test_a_group_s_options_are_its_members_unless_they_say_otherwise() -> None:
    """What is set on a group holds for every member that does not set it itself."""
    canvas = group(a.s(), b.s().set(priority=9), chain(a.s(), b.s())).set(queue="q", priority=1)
    expected = [{"queue": "q", "priority": 1}, {"queue": "q", "priority": 9}, {"queue": "q", "priority": 1}, {}]
    assert expected == options(canvas)


def test_a_chain_s_options_are_its_first_member_s() -> None:
    """What is set on a chain holds for its first member only."""
    assert options(chain(a.s(), b.s()).set(queue="q")) == [{"queue": "q"}, {}]


def test_a_chord_s_options_are_its_header_s() -> None:
    """What is set on a chord holds for its header and not for its body."""
    assert options(chord([a.s(), b.s()], one.s()).set(queue="q")) == [{"queue": "q"}, {"queue": "q"}, {}]


def test_options_of_chunks_hold_for_every_chunk() -> None:
    """What is set on chunks holds for each of the starmaps."""
    assert options(one.chunks([(1,), (2,)], 1).set(queue="q")) == [{"queue": "q"}] * 2


@pytest.mark.parametrize(
    "canvas",
    [
        lambda: a.s().set(expires=60),
        lambda: a.s() | b.s().set(expires=NOON),
        lambda: group(a.s(), b.s()).set(expires=60),
        lambda: chain(a.s(), b.s()).set(expires=60),
        lambda: chord([a.s()], b.s()).set(expires=60),
        lambda: one.chunks([(1,)], 1).set(expires=60),
        lambda: a.s().on_error(tell.s().set(expires=60)),
        lambda: late.s(),
    ],
    ids=["task", "member", "group", "chain", "chord", "chunks", "handler", "task of its own"],
)
def test_a_step_may_not_expire(canvas: Callable[[], Any]) -> None:
    """``expires`` is refused wherever it is set: a step may not silently not run."""
    with pytest.raises(UnsupportedCanvas, match="carries the option 'expires'") as refused:
        plan_of(canvas())
    assert refused.value.fix == "remove it"


@pytest.mark.parametrize(
    "option", [{"countdown": "5"}, {"eta": "tomorrow"}, {"queue": 5}, {"priority": "high"}], ids=str
)
def test_an_option_that_cannot_be_delivered_is_refused(option: dict[str, Any]) -> None:
    """An option that no message could carry is refused at definition, naming task and option."""
    with pytest.raises(BadOption, match=f"t.a carries the option {next(iter(option))}="):
        plan_of(group(a.s(), b.s()) | a.s().set(**option))


# --- joins ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "feed"), [(0, []), (1, ["1.a"]), (2, ["1.a", "2.a"])], ids=["none", "one", "two"])
def test_a_join_always_receives_a_list(members: int, feed: list[str]) -> None:
    """With ``joins=True`` a step receives a list from a group of none, of one and of two."""
    assert feed == plan_of(group([a.s()] * members) | join.s()).steps[-1].feed


@pytest.mark.parametrize(("members", "feed"), [(1, ["2.a"]), (2, ["2.a", "3.a"])])
def test_a_join_in_the_middle_receives_a_list_too(members: int, feed: list[str]) -> None:
    """After another step, where Celery unrolls a group of one, a join receives a list all the same."""
    assert feed == plan_of(b.s() | group([a.s()] * members) | join.s()).steps[-1].feed


def test_without_joins_celery_unrolls_a_group_of_one() -> None:
    """Without ``joins`` a group of one in the middle of a chain is its member, as Celery has it."""
    assert plan_of(b.s() | group([a.s()]) | one.s()).steps[-1].feed == "2.a"


def test_a_join_receives_a_list_of_the_inputs_too() -> None:
    """A join that is the first step receives a list of the run's one input, also after a single task."""
    assert plan_of(join.s(), takes_input=True).steps[0].feed == [INPUT]
    assert plan_of(a.s() | join.s()).steps[1].feed == ["1.a"]


def test_an_immutable_join_receives_nothing() -> None:
    """A join that is immutable has its own arguments only."""
    assert plan_of(group([a.s()]) | join.si([1])).steps[-1].feed is None


# --- callbacks and handlers -----------------------------------------------------------------


def test_a_success_callback_is_a_side_branch() -> None:
    """``link`` adds a step that receives the value and changes nothing of what flows on."""
    linked: Signature = a.s()
    linked.link(tell.s())
    assert flow(plan_of(linked | b.s())) == [
        ("1.a", None, ()), ("2.tell", "1.a", ("1.a",)), ("3.b", "1.a", ("1.a",)),
    ]  # fmt: skip


def test_a_callback_of_a_chord_follows_its_body() -> None:
    """A chord's ``link`` receives the value of its body."""
    canvas = chord([a.s()], b.s())
    canvas.link(tell.s())
    assert ("3.tell", "2.b", ("2.b",)) in flow(plan_of(canvas))


def test_a_failure_handler_is_no_step() -> None:
    """``link_error`` becomes a handler of its step, which is told what went wrong and is not in the flow."""
    plan = plan_of(a.s().on_error(tell.s("who")) | b.s())
    assert [step.on_error for step in plan.steps] == [("1.on_error.tell",), ()]
    (handler,) = plan.handlers
    assert (handler.task, handler.args, handler.feed, handler.after) == ("t.tell", ("who",), FAILURE, ())


def test_an_immutable_handler_is_told_nothing() -> None:
    """An immutable handler receives its own arguments only."""
    assert plan_of(a.s().on_error(tell.si("x"))).handlers[0].feed is None


def test_a_handler_of_a_whole_canvas_is_every_step_s() -> None:
    """A handler set around steps is the handler of each of them, after their own, and kept once."""
    inner = chain(a.s().on_error(tell.s("own")), b.s())
    plan = plan_of(group(inner, a.s()).set(link_error=[tell.s("all")]))
    own, whole = "1.on_error.tell", "2.on_error.tell"
    assert [(own, whole), (whole,), (whole,)] == [step.on_error for step in plan.steps]
    assert len(plan.handlers) == 2


@pytest.mark.parametrize("allow", [True, False])
@pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header")
def test_a_chord_s_handler_holds_for_header_and_body(allow: bool) -> None:
    """A handler set on a chord is told of failures in its header and its body, whatever Celery's setting."""
    app.conf.task_allow_error_cb_on_chord_header = allow
    try:
        canvas = chord([a.s(), b.s()], one.s(), app=app)
        canvas.link_error(tell.s())
    finally:
        app.conf.task_allow_error_cb_on_chord_header = False
    assert [step.on_error for step in plan_of(canvas).steps] == [("1.on_error.tell",)] * 3


def test_a_handler_keeps_its_own_queue() -> None:
    """A handler is delivered as its signature says."""
    assert plan_of(a.s().on_error(tell.s().set(queue="alarms"))).handlers[0].options == {"queue": "alarms"}


def test_a_handler_that_is_unknown_is_refused() -> None:
    """A handler must be a task of the app, like any step."""
    with pytest.raises(UnknownTask, match=r"'t\.nowhere'"):
        plan_of(a.s().on_error(signature("t.nowhere", app=app)))


# --- refused --------------------------------------------------------------------------------


def test_an_unknown_task_is_refused_by_name() -> None:
    """A signature of a task that the app does not have names task and app."""
    with pytest.raises(UnknownTask, match=r"'t\.nowhere' is registered in app 'unit_canvas'") as refused:
        plan_of(a.s() | signature("t.nowhere", app=app))
    assert refused.value.evidence == {"task": "t.nowhere"}


def test_a_task_inside_a_map_must_be_known() -> None:
    """The task of a map is looked up as any other."""
    with pytest.raises(UnknownTask, match=r"'t\.nowhere'"):
        plan_of(xmap(signature("t.nowhere", app=app), [1], app=app))


def test_an_app_without_workflow_task_is_refused() -> None:
    """A task of an app without ``task_cls=WorkflowTask`` cannot be a step; the error says the one line to write."""
    with pytest.raises(UnsupportedCanvas, match="is not a WorkflowTask") as refused:
        compile_canvas(untouched.s(), app=plain)
    assert "task_cls" in refused.value.fix


@pytest.mark.parametrize(
    ("canvas", "why"),
    [
        (lambda: one.s(), "missing"),
        (lambda: one.s(1, 2), "2 were given"),
        (lambda: one.s(1, x=2), "multiple values"),
        (lambda: one.s(y=1), "unexpected keyword"),
        (lambda: a.s() | one.s(1), "2 were given"),
        (lambda: a.s() | one.si(), "missing"),
        (lambda: group(a.s(), b.s()) | two.s(), "missing"),
        (lambda: chord([two.s(1)], one.s()), "missing"),
        (lambda: chain(group([]), join.s()), "missing"),
    ],
    ids=range(9),
)
def test_wrong_arguments_are_refused(canvas: Callable[[], Any], why: str) -> None:
    """Arguments that do not fit the function are refused at definition, naming the task and what is wrong."""
    with pytest.raises(BadArguments, match=rf"the arguments of t\.\w+ do not fit: .*{why}"):
        plan_of(canvas())


@pytest.mark.parametrize(
    "canvas", [lambda: a.s() | one.s(), lambda: two.s(1, 2, z=3), lambda: a.s() | two.s(2), lambda: loose.s(1, 2, 3)]
)
def test_fitting_arguments_pass(canvas: Callable[[], Any]) -> None:
    """What flows in counts as the first argument, ``self`` as none, and ``typing=False`` asks no questions."""
    assert plan_of(canvas()).steps


@pytest.mark.parametrize(
    ("canvas", "path"),
    [
        (lambda: a.s({"x": [1, float("nan")]}), "/0/x/1"),
        (lambda: a.s(k=[float("inf")]), "/k/0"),
        (lambda: a.s(0, {"deep": [object()]}), "/1/deep/0"),
        (lambda: a.s({1: "number as key"}), "/0"),
        (lambda: one.map([1, {"x": object()}]), "/it/1/x"),
        (lambda: a.s() | a.s().on_error(tell.s(object())), "/0"),
    ],
    ids=["nan", "infinity", "object", "key", "map", "handler"],
)
def test_an_argument_without_canonical_form_is_refused(canvas: Callable[[], Any], path: str) -> None:
    """An argument that cannot be stored is refused, naming the task and the path to the value."""
    with pytest.raises(NotCanonical, match=rf"an argument of [\w.]+ has no canonical form: .* at {path}\b") as refused:
        plan_of(canvas())
    assert "task" in refused.value.evidence


def test_an_argument_that_contains_itself_is_refused() -> None:
    """A list that contains itself is refused with its path, not with a RecursionError."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotCanonical, match="it contains itself"):
        plan_of(a.s(loop))


def test_rich_arguments_are_kept() -> None:
    """Values beyond JSON that have a canonical form are arguments like any other."""
    assert plan_of(a.s(Decimal("1.50"), (1,))).steps[0].args == ({"$decimal": "1.50"}, {"$tuple": [1]})


def containing_itself(how: str) -> Any:
    signed, looped = a.s(), chain(a.s(), b.s())
    match how:
        case "chain":
            looped.tasks.append(looped)
        case "group":
            looped = group([a.s(), b.s()])
            looped.tasks.append(looped)
        case "only itself":
            looped = group([a.s()])
            looped.tasks[:] = [looped, looped]
        case "header":
            looped = chord([a.s()], b.s())
            looped.tasks.append(looped)
        case "body":
            looped = chord([a.s()], b.s())
            looped.body = looped
        case "link":
            signed.options["link"] = [signed]
            return signed
        case "between":
            inner = group([a.s(), looped])
            looped.tasks.append(inner)
    return looped


@pytest.mark.parametrize("how", ["chain", "group", "only itself", "header", "body", "link", "between"])
def test_a_canvas_that_contains_itself_is_refused(how: str) -> None:
    """A canvas that contains itself is refused with the likely cause, not with a RecursionError."""
    with pytest.raises(UnsupportedCanvas, match=r"nested deeper than 200 .*contains itself"):
        plan_of(containing_itself(how))


def test_a_handler_that_handles_itself_is_one_handler() -> None:
    """A signature whose ``link_error`` is itself compiles: the handlers of handlers are nobody's."""
    signed = a.s()
    signed.options["link_error"] = [signed]
    assert len(plan_of(signed).handlers) == 1


def nested(levels: int) -> Any:
    canvas: Any = a.s()
    for _ in range(levels):
        canvas = group([canvas, b.s()])
    return canvas


def test_deep_nesting_has_a_limit() -> None:
    """Nesting of 200 levels compiles, one more is refused."""
    assert len(plan_of(nested(DEEPEST)).steps) == DEEPEST + 1
    with pytest.raises(UnsupportedCanvas, match="nested deeper than 200"):
        plan_of(nested(DEEPEST + 1))


def test_too_many_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A canvas of more steps than a plan may have is refused, naming the limit; one of exactly as many is not."""
    monkeypatch.setattr(room, "MOST_STEPS", 5)
    assert len(plan_of(group(a.s() for _ in range(5))).steps) == 5
    with pytest.raises(PayloadTooLarge, match="more than 5 steps") as refused:
        plan_of(group(a.s() for _ in range(6)))
    assert refused.value.evidence == {"limit": 5}


def test_what_is_refused_says_what_to_do() -> None:
    """Every refusal of a canvas carries a fix."""
    refused = []
    for canvas in (chain(), 5, one.s(), a.s(object()), signature("t.nowhere", app=app), a.s().set(expires=1)):
        with pytest.raises(AosError) as error:
            plan_of(canvas)
        refused.append(error.value)
    assert all(error.fix for error in refused)


# --- workflows inside canvases --------------------------------------------------------------


def inner() -> Workflow:
    return Workflow("unit-canvas-inner", a.s(1) | b.s(), register=False)


COMPOSED: dict[str, Callable[[], Any]] = {
    "task | workflow": lambda: one.s(0) | inner(),
    "chain | workflow": lambda: one.s(0) | one.s() | inner(),
    "group | workflow": lambda: group(a.s(), b.s()) | inner(),
    "chord | workflow": lambda: chord([a.s()], b.s()) | inner(),
    "workflow | task": lambda: inner() | one.s(),
    "workflow | workflow": lambda: inner() | inner(),
    "group of workflows": lambda: group(inner(), inner()),
    "chain of workflows": lambda: chain(inner(), inner()),
}


@pytest.mark.parametrize("shape", COMPOSED)
def test_a_workflow_is_a_part_of_a_canvas(shape: str) -> None:
    """A Workflow stands for its canvas wherever a signature may stand."""
    as_signatures: dict[str, Callable[[], Any]] = {
        "task | workflow": lambda: one.s(0) | inner().s(),
        "chain | workflow": lambda: one.s(0) | one.s() | inner().s(),
        "group | workflow": lambda: group(a.s(), b.s()) | inner().s(),
        "chord | workflow": lambda: chord([a.s()], b.s()) | inner().s(),
        "workflow | task": lambda: inner().s() | one.s(),
        "workflow | workflow": lambda: inner().s() | inner().s(),
        "group of workflows": lambda: group(inner().s(), inner().s()),
        "chain of workflows": lambda: chain(inner().s(), inner().s()),
    }
    assert flow(plan_of(as_signatures[shape]())) == flow(plan_of(COMPOSED[shape]()))


def test_a_part_is_a_copy() -> None:
    """Using a workflow as a part does not change the workflow."""
    flow_ = inner()
    before = plan_of(flow_.definition)
    (flow_.s() | one.s()).tasks[0].set(queue="q")
    assert before == plan_of(flow_.definition)


# --- whose app ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "canvas",
    [
        lambda: theirs.s(),
        lambda: theirs.s() | theirs.s(),
        lambda: chain(theirs.s(), theirs.s()),
        lambda: group(theirs.s(), theirs.s()),
        lambda: group(theirs.s() for _ in range(2)),
        lambda: chord([theirs.s()], theirs.s()),
        lambda: chain(group(theirs.s(), theirs.s()), group(theirs.s(), theirs.s())),
        lambda: theirs.map([1]),
        lambda: theirs.chunks([(1,)], 1),
    ],
    ids=range(9),
)
def test_a_canvas_belongs_to_the_app_of_its_tasks(canvas: Callable[[], Any]) -> None:
    """With several apps in one process a canvas is its tasks' app's, whichever app is current."""
    app.set_current()
    assert app_of(canvas()) is other
    assert compile_canvas(canvas()).steps


def test_only_apps_of_workflow_tasks_serve_workflows() -> None:
    """An app serves workflows if it was made with ``task_cls=WorkflowTask``."""
    assert [serves_workflows(one) for one in (app, other, plain)] == [True, True, False]


THREADS = """
import asyncio
from celery import Celery, group, shared_task
from aos_workflow import Workflow, WorkflowTask
from aos_workflow.canvas import compile_canvas, workflow_app

plain = Celery("plain")
app = Celery("served", task_cls=WorkflowTask)
late = Celery("late")  # current in the main thread, and no app for workflows

@shared_task
def a(x=None): ...

flow = Workflow("w", lambda: group(a.s(1), a.s(2)) | a.s())

def compiled():
    plan, found = flow.compile()
    return found.main, len(plan.steps), workflow_app().main

print(compiled(), asyncio.run(asyncio.to_thread(compiled)))
"""


def test_any_thread_finds_the_app_that_serves_workflows() -> None:
    """A thread whose current app is another one, or none, compiles for the only app that serves workflows."""
    child = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, text=True, check=True, cwd=ROOT, env=dict(os.environ)
    )
    assert child.stdout.strip() == "('served', 3, 'served') ('served', 3, 'served')"
