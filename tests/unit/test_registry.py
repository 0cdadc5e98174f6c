"""How users say what a step and a workflow are, and what they are told when they say it wrong."""

# Celery ships no types: its decorators are untyped to mypy.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import functools
import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import Celery, Task, _state, group, shared_task
from celery.canvas import chain

import aos_workflow
from aos_workflow import StepContext, Workflow, WorkflowTask, durable, registry, step, workflow
from aos_workflow.context import current
from aos_workflow.errors import (
    BadArguments,
    BadOption,
    SettingsError,
    UnknownWorkflow,
    UnsupportedCanvas,
)
from aos_workflow.options import OPTION_NAMES, StepOptions
from aos_workflow.plan import INPUT

ROOT = Path(__file__).resolve().parents[2]
app = Celery("unit_registry", task_cls=WorkflowTask, set_as_current=False)


@shared_task(name="r.untouched")
def untouched(x: int = 0) -> int:
    return x + 1


@step(name="r.plain")
def plain(x: int) -> int:
    return x + 1


@step(name="r.score", cost=2, max_attempts=3, timeout_s=5, effect=True, acks_late=True)
def score(ctx: StepContext, document: dict[str, Any], *, weight: int = 1) -> list[Any]:
    """Score a document."""
    return [ctx.address, document, weight]


@step(name="r.rank", joins=True)
def rank(documents: list[Any]) -> list[Any]:
    return documents


@step(name="r.bound", bind=True)
def bound(self: Task, x: int) -> list[Any]:
    return [self.name, x]


@pytest.fixture(autouse=True)
def current_app() -> Iterator[None]:
    """This module's app is current during each test, the one of before after it."""
    before = _state._tls.current_app
    app.set_current()
    yield
    _state._set_current_app(before)


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch) -> dict[str, Workflow]:
    """An empty register of workflows."""
    monkeypatch.setattr(registry, "_workflows", {})
    return registry._workflows


def context(address: str = "3.score") -> StepContext:
    return StepContext(run_id="r", workflow="w", address=address, attempt=1, seed=1, logical_time=0.0)


# --- @step ----------------------------------------------------------------------------------


def test_a_step_is_a_celery_task() -> None:
    """``@step`` makes a Celery task under its own name, with Celery's options and the engine's."""
    assert (score.name, score.acks_late, score.__doc__) == ("r.score", True, "Score a document.")
    assert isinstance(app.tasks["r.score"], WorkflowTask)
    assert StepOptions(cost=2, max_attempts=3, timeout_s=5, effect=True) == score.step_options


def test_an_untouched_task_has_the_default_options() -> None:
    """A task without ``@step`` is a step with the default options."""
    assert StepOptions() == app.tasks["r.untouched"].step_options


def test_a_step_without_options_needs_no_parentheses() -> None:
    """``@step`` and ``@step()`` declare the same."""

    def twice(x: int) -> int:
        return 2 * x

    assert [step(twice)(2), step()(twice)(2)] == [4, 4]


def test_ctx_is_not_part_of_the_signature() -> None:
    """Celery sees the function without its context: ``score.s(document)`` fits."""
    assert list(inspect.signature(score.run).parameters) == ["document", "weight"]
    plan, _ = durable(score.s({"id": 1}, weight=2)).compile()
    assert (plan.steps[0].args, plan.steps[0].kwargs) == (({"id": 1},), {"weight": 2})


def test_ctx_does_not_count_as_an_argument() -> None:
    """A missing argument is missed although the context takes a place in the function."""
    with pytest.raises(BadArguments, match="missing 1 required positional argument: 'document'"):
        durable(score.s()).compile()


def test_the_engine_s_context_reaches_the_body() -> None:
    """Inside a step the function receives the step's context."""
    token = current.set(context("7.score"))
    try:
        assert score.run({}) == ["7.score", {}, 1]
    finally:
        current.reset(token)


@pytest.mark.parametrize(
    "call",
    [
        lambda ctx: score(ctx, {"id": 1}, weight=2),
        lambda ctx: score(ctx=ctx, document={"id": 1}, weight=2),
    ],
    ids=["by position", "by name"],
)
def test_a_step_can_be_called_with_a_context(call: Callable[[StepContext], Any]) -> None:
    """A test may call a step as the plain function it is, with a context of its own."""
    assert call(context()) == ["3.score", {"id": 1}, 2]


def test_a_plain_call_is_detached() -> None:
    """A step called as a plain function, without any context, gets a life of its own."""
    assert score({"id": 1})[1:] == [{"id": 1}, 1]
    assert score({})[0].startswith("1.")


def test_a_task_applied_in_place_is_detached_too() -> None:
    """A step that Celery applies without the engine is a plain Celery task."""
    assert score.apply(({"id": 1},)).get()[1:] == [{"id": 1}, 1]


def test_bind_gives_the_task() -> None:
    """``bind=True`` works as in Celery for a step without a context."""
    assert bound.apply((1,)).get() == ["r.bound", 1]


def test_bind_and_ctx_exclude_each_other() -> None:
    """A step that takes ctx and is bound is refused at definition."""
    with pytest.raises(BadOption, match="takes ctx and is bound") as refused:
        step(bind=True)(lambda ctx, x: x)
    assert "drop bind=True" in refused.value.fix


def test_only_a_first_parameter_named_ctx_is_the_context() -> None:
    """A parameter of that name in another place is an ordinary one."""

    def second(x: int, ctx: Any) -> list[Any]:
        return [x, ctx]

    assert step(name="r.second")(second)(1, "mine") == [1, "mine"]


@pytest.mark.parametrize("option", ["costs", "retries_max", "effects", "timeout", "max_attempt"])
def test_an_unknown_option_is_refused_with_a_hint(option: str) -> None:
    """An option that neither the engine nor Celery has is refused by name, with the engine's own listed."""
    with pytest.raises(BadOption, match=rf"@step\({option}=\.\.\.\).*neither the engine nor Celery") as refused:
        step(None, **{option: 1})(lambda: None)
    assert all(name in refused.value.fix for name in OPTION_NAMES)


@pytest.mark.parametrize(
    "options",
    [
        {"time_limit": 5}, {"soft_time_limit": 5}, {"acks_late": True},
        {"autoretry_for": (ValueError,), "retry_backoff": True, "retry_kwargs": {"max_retries": 2}},
        {"rate_limit": "5/m"}, {"ignore_result": True}, {"typing": False}, {"default_retry_delay": 3},
    ],
    ids=str,
)  # fmt: skip
def test_celery_s_options_go_to_celery(options: dict[str, Any]) -> None:
    """Celery's own options are passed on as they are."""

    def named() -> None: ...

    task = step(name=f"r.options.{next(iter(options))}", **options)(named)
    name, value = next(iter(options.items()))
    assert getattr(task, name) == value


@pytest.mark.parametrize(
    ("option", "value"), [("cost", -1), ("max_attempts", 0), ("timeout_s", float("inf")), ("joins", "yes")]
)
def test_a_senseless_option_is_refused_at_definition(option: str, value: Any) -> None:
    """An option out of range is refused when the step is declared, not when it runs."""
    with pytest.raises(BadOption, match=rf"@step\({option}="):
        step(None, **{option: value})(lambda: None)


# --- Workflow -------------------------------------------------------------------------------


def test_a_canvas_is_a_workflow() -> None:
    """A workflow of a canvas compiles to the canvas's plan, for the app its tasks belong to."""
    plan, found = Workflow("triage", plain.s(1) | plain.s()).compile()
    assert (["1.plain", "2.plain"], app) == ([step.address for step in plan.steps], found)


def test_a_function_is_a_workflow() -> None:
    """A workflow of a function has the shape that the function gives for the inputs."""

    @workflow("triage")
    def triage(sources: list[int]) -> Any:
        return group(plain.s(source) for source in sources) | rank.s()

    plan, _ = triage.compile({"sources": [1, 2, 3]})
    assert ([step.args for step in plan.steps], plan.outgoing) == ([(1,), (2,), (3,), ()], "4.rank")
    assert registry.find("triage") is triage


def test_inputs_of_a_canvas_go_to_its_first_steps() -> None:
    """A canvas receives the run's inputs as the first argument of its first steps; without inputs it does not."""
    flow = durable(chain(rank.s()))
    assert flow.compile({"a": 1})[0].steps[0].feed == [INPUT]
    assert durable(plain.s(1)).compile()[0].steps[0].feed is None


def test_inputs_of_a_function_are_its_arguments() -> None:
    """A function's inputs do not flow into its steps unless it passes them on."""
    plan, _ = durable(lambda n: plain.s(n)).compile({"n": 5})
    assert (plan.steps[0].args, plan.steps[0].feed) == ((5,), None)


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        (None, "missing a required argument: 'sources'"),
        ({}, "missing a required argument: 'sources'"),
        ({"sources": [], "depth": 1}, "unexpected keyword argument 'depth'"),
        ({1: []}, "keywords must be strings"),
        ([1], "takes its inputs by name, not list"),
        ("abc", "takes its inputs by name, not str"),
    ],
    ids=str,
)
def test_inputs_that_do_not_fit_are_refused(inputs: Any, why: str) -> None:
    """Inputs that the function does not take are refused, saying what is wrong and what it takes."""

    def triage(sources: list[int]) -> Any:
        raise AssertionError("called")

    with pytest.raises(BadArguments, match=why) as refused:
        Workflow("triage", triage).compile(inputs)
    assert refused.value.fix
    assert refused.value.evidence == {"workflow": "triage"}


def test_an_error_of_the_function_is_its_own() -> None:
    """What a workflow's function raises is not dressed up as wrong inputs."""

    def broken() -> Any:
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        Workflow("broken", broken).compile()


def test_a_function_that_returns_no_canvas_is_refused() -> None:
    """A workflow whose function returns something else is refused, naming what it returned."""
    with pytest.raises(UnsupportedCanvas, match="int is not a canvas node: 5"):
        durable(lambda: 5).compile()


def test_a_workflow_that_contains_itself_is_refused() -> None:
    """A workflow whose function uses the workflow is refused with a way out, not with a RecursionError."""
    flow = Workflow("loop", lambda: plain.s(1) | registry.find("loop"))
    with pytest.raises(UnsupportedCanvas, match="'loop' does not come to an end") as refused:
        flow.compile()
    assert "ctx.replace" in refused.value.fix


@pytest.mark.parametrize("name", ["", None, 5, "x" * 201], ids=["empty", "nothing", "number", "long"])
def test_a_workflow_needs_a_name(name: Any) -> None:
    """A name is 1 to 200 characters."""
    with pytest.raises(BadOption, match="workflow name"):
        Workflow(name, plain.s(1))


def test_a_name_of_two_hundred_characters_will_do() -> None:
    """The longest name is registered as it is."""
    Workflow("x" * 200, plain.s(1))
    assert registry.registered() == ("x" * 200,)


@pytest.mark.parametrize(
    "definition",
    [42, None, "triage", [untouched], untouched, plain],
    ids=["number", "nothing", "text", "list", "shared task", "step"],
)
def test_a_workflow_is_a_canvas_or_a_function(definition: Any) -> None:
    """Anything else, a bare task included, is refused at definition: a task would be called on the spot."""
    with pytest.raises(BadOption, match="neither a canvas nor a function") as refused:
        Workflow("triage", definition)
    assert "task.s(...)" in refused.value.fix


def test_a_bound_app_s_task_is_no_workflow() -> None:
    """A task object itself, not only its proxy, is refused."""
    with pytest.raises(BadOption, match="neither a canvas nor a function"):
        Workflow("triage", app.tasks["r.plain"])


def test_a_canvas_from_json_is_a_workflow() -> None:
    """A canvas that comes from JSON is a definition like any other."""
    canvas = json.loads(json.dumps(plain.s(1) | plain.s()))
    assert len(Workflow("from-json", canvas).compile()[0].steps) == 2


# --- a workflow as a part -------------------------------------------------------------------


def test_a_part_with_inputs() -> None:
    """``triage.s(n=3)`` is the canvas for these inputs, to be joined with others."""
    flow = Workflow("inner", lambda n: group(plain.s(i) for i in range(n)))
    plan, _ = durable(flow.s(n=3) | rank.s()).compile()
    assert plan.steps[-1].feed == ["1.plain", "2.plain", "3.plain"]


def test_a_canvas_takes_no_inputs_by_name() -> None:
    """Inputs for a part that is a plain canvas are refused instead of being forgotten."""
    with pytest.raises(BadArguments, match="takes no inputs by name") as refused:
        Workflow("inner", plain.s(1)).s(n=3)
    assert refused.value.fix == "pipe its input in: before.s() | workflow"


def test_workflows_are_joined_like_signatures() -> None:
    """``|`` works from both sides and between workflows."""
    flow = Workflow("inner", plain.s())
    for canvas in (plain.s(1) | flow, durable(plain.s(1)) | plain.s(), durable(plain.s(1)) | flow):
        assert [step.feed for step in durable(canvas).compile()[0].steps] == [None, "1.plain"]


def test_a_part_does_not_change_the_whole() -> None:
    """Changing the canvas that ``s`` returned leaves the workflow as it was."""
    flow = Workflow("inner", plain.s(1) | plain.s())
    flow.s().tasks[0].set(queue="elsewhere")
    assert flow.compile()[0].steps[0].options == {}


# --- the register ---------------------------------------------------------------------------


def test_find_returns_what_was_registered() -> None:
    """A workflow is found under its name; a durable canvas is nobody's name."""
    flow = Workflow("triage", plain.s(1))
    durable(plain.s(2), name="quiet")
    assert registry.find("triage") is flow
    assert registry.registered() == ("triage",)


def test_find_lists_the_names_there_are() -> None:
    """An unknown name is answered with those that are known, sorted."""
    for name in ("b", "a", "c"):
        Workflow(name, plain.s(1))
    with pytest.raises(UnknownWorkflow, match="no workflow 'd'; registered: a, b, c") as refused:
        registry.find("d")
    assert refused.value.evidence == {"workflow": "d", "registered": ["a", "b", "c"]}


def test_find_among_none() -> None:
    """With nothing registered the error says so."""
    with pytest.raises(UnknownWorkflow, match="registered: none"):
        registry.find("d")


def one_definition() -> Any: ...


def another_definition() -> Any: ...


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (one_definition, another_definition),
        (one_definition, lambda: plain.s(1)),
        (functools.partial(one_definition), functools.partial(another_definition)),
    ],
    ids=["functions", "function and lambda", "partials"],
)
def test_two_definitions_of_one_name_are_refused(first: Any, second: Any) -> None:
    """A second definition under the same name is refused, and the first one stays."""
    flow = Workflow("triage", first)
    with pytest.raises(BadOption, match="'triage' is defined twice"):
        Workflow("triage", second)
    assert registry.find("triage") is flow


def test_two_canvases_of_one_name_are_refused() -> None:
    """Two canvases that differ do not share a name; the error shows both."""
    Workflow("triage", plain.s(1))
    with pytest.raises(BadOption, match=r"r\.plain\(1\) and r\.plain\(2\)"):
        Workflow("triage", plain.s(2))


@pytest.mark.parametrize(
    "definition",
    [lambda: one_definition, lambda: plain.s(1) | plain.s(), lambda: functools.partial(one_definition)],
    ids=["function", "canvas", "partial"],
)
def test_a_module_may_be_imported_twice(definition: Callable[[], Any]) -> None:
    """The same definition again replaces the first: modules are reloaded."""
    Workflow("triage", definition())
    again = Workflow("triage", definition())
    assert registry.find("triage") is again


# --- load_app -------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Write a module that can be imported during the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    written: list[str] = []

    def write(name: str, source: str) -> str:
        (tmp_path / f"{name}.py").write_text(source)
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


APP = """
from celery import Celery
app = Celery("found", set_as_current=False)
other = Celery("other", set_as_current=False)
"""


@pytest.mark.parametrize(("name", "main"), [("", "found"), (":other", "other"), (".other", "other")])
def test_an_app_is_found_by_its_module(name: str, main: str, module: Callable[[str, str], str]) -> None:
    """An app is named by its module, or by module and attribute."""
    found = registry.load_app(module(f"unit_app_{len(name)}{main}", APP) + name)
    assert found.main == main


def test_no_name_means_the_current_app() -> None:
    """An empty name is the app that serves workflows in this process."""
    assert registry.load_app("") is app


@pytest.mark.parametrize(
    "name",
    ["no_such_module_here", "no.such.module", "os", "os:path", "os.path:join", "json:nothing", ".", ":", "..up", "a b"],
)
def test_what_is_no_app_is_a_settings_error(name: str) -> None:
    """A name without an app behind it names AOS_APP and what was wrong with it."""
    with pytest.raises(SettingsError, match="AOS_APP=") as refused:
        registry.load_app(name)
    assert "PYTHONPATH" in refused.value.fix


@pytest.mark.parametrize(
    ("source", "kind"),
    [("x = = 1", "SyntaxError"), ("raise ValueError('odd')", "ValueError"), ("1 / 0", "ZeroDivisionError")],
)
def test_a_module_that_breaks_is_a_settings_error(source: str, kind: str, module: Callable[[str, str], str]) -> None:
    """Whatever a module raises while it is imported is told as its own error, with its cause."""
    with pytest.raises(SettingsError, match=f"cannot be used: {kind}") as refused:
        registry.load_app(module(f"unit_broken_{kind}", source))
    assert type(refused.value.__cause__).__name__ == kind


# --- the front door -------------------------------------------------------------------------


def test_importing_the_package_is_cheap() -> None:
    """``import aos_workflow`` loads neither the database's nor the queue's libraries."""
    program = "import aos_workflow, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(child.stdout.split())
    assert loaded & {"sqlalchemy", "celery", "kombu", "alembic", "redis", "click", "rich", "psycopg2"} == set()
    assert "aos_workflow" in loaded


def test_every_public_name_leads_into_a_room() -> None:
    """What the package exports can be had from it, and comes from the room that defines it."""
    found = {name: getattr(aos_workflow, name) for name in aos_workflow.__all__}
    assert set(dir(aos_workflow)) >= set(found)
    named = [thing for thing in found.values() if not isinstance(thing, list)]  # VOLATILE_FIELDS is a list
    assert all(thing.__module__.startswith("aos_workflow.") for thing in named)
    assert not any(isinstance(thing, ModuleType) for thing in found.values())


def test_other_names_are_attribute_errors() -> None:
    """A name that the package does not export is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="no attribute 'Wrokflow'"):
        _ = aos_workflow.Wrokflow
