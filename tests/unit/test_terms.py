"""Terms: under which a workflow's runs are performed, as they were asked for, stored, and drawn."""

# Celery ships no types: its decorators are untyped to mypy.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from aos_workflow import Workflow, WorkflowTask, step
from aos_workflow.errors import AosError, BadOption
from aos_workflow.plan import Plan
from aos_workflow.terms import Terms, golden_share, terms_of, volatile_fields

app = Celery("unit_terms", task_cls=WorkflowTask, set_as_current=False)


@step(name="unit_terms.a")
def a() -> None: ...


def asked(**changes: Any) -> Terms:
    """The terms of a definition that asks for nothing but these."""
    return terms_of(**{"capture": "all", "volatile": (), "golden": None, "of": "workflow 'w'", **changes})


@pytest.mark.parametrize(
    ("capture", "ambient", "http"),
    [("none", False, False), ("ambient", True, False), ("http", False, True), ("all", True, True)],
)
def test_capture_is_a_choice_of_four(capture: str, ambient: bool, http: bool) -> None:
    """Each word says which calls of untouched code are captured."""
    terms = asked(capture=capture)
    assert (terms.captures_ambient, terms.captures_http) == (ambient, http)


@pytest.mark.parametrize("capture", ["", "everything", "AMBIENT", None, 1])
def test_another_word_is_refused(capture: Any) -> None:
    """What is no choice is refused at definition, naming workflow and choices."""
    with pytest.raises(BadOption, match=r"workflow 'w': capture=.* give one of none, ambient, http, all"):
        asked(capture=capture)


@pytest.mark.parametrize(
    ("given", "kept"),
    [((), ()), ("ms", ("ms",)), (["/a", "ms"], ("/a", "ms")), ({"b", "/a"}, ("/a", "b")), (("/a/*/b",), ("/a/*/b",))],
)
def test_volatile_fields_as_people_write_them(given: Any, kept: tuple[str, ...]) -> None:
    """One field, a list, a tuple or a set; a set's order is made the same in every process."""
    assert volatile_fields(given, of="@step") == kept


@pytest.mark.parametrize("given", [None, 1, [""], [1], ["/"], ["/a~2"], {"a": 1}, b"a"])
def test_what_is_no_list_of_pointers_is_refused(given: Any) -> None:
    """A malformed pointer is refused when it is written, not when a run ends."""
    with pytest.raises(BadOption):
        volatile_fields(given, of="@step")


@pytest.mark.parametrize(
    ("written", "share"),
    [("always", 1.0), ("never", 0.0), (1, 1.0), (0, 0.0), (0.25, 0.25), ("0.25", 0.25), (" 1 ", 1.0)],
)
def test_a_share_of_runs(written: Any, share: float) -> None:
    """Always, never, or a number between 0 and 1, also as text."""
    assert golden_share(written, of="AOS_GOLDEN") == share


@pytest.mark.parametrize("written", ["", "often", -0.1, 1.1, "nan", "inf", None, True, False, [], "yes"])
def test_what_is_no_share_is_refused(written: Any) -> None:
    """Anything else is refused, naming what asked for it."""
    with pytest.raises(BadOption, match="AOS_GOLDEN: golden="):
        golden_share(written, of="AOS_GOLDEN")


@pytest.mark.parametrize(
    "terms",
    [Terms(), Terms(capture="none"), Terms(volatile=("/a", "b")), Terms(golden=0.0), Terms(golden=1.0, capture="http")],
)
def test_terms_come_back_from_a_plan(terms: Terms) -> None:
    """A stored plan gives back its terms; the default ones leave no trace in its text, so old digests stay."""
    plan = Plan(steps=(), terms=terms)
    assert Plan.from_text(plan.text).terms == terms
    assert ("terms" in plan.text) is (terms != Terms())
    assert Terms.from_json(terms.as_json()) == terms


def test_a_workflow_s_terms_are_part_of_its_plan() -> None:
    """What a workflow asks for is in the plan of its runs: a deploy changes nothing for those that began before."""
    flow = Workflow("terms", a.s(), app=app, register=False, capture="ambient", volatile={"b", "/a"}, golden="never")
    plan, _ = flow.compile()
    assert plan.terms == Terms(capture="ambient", volatile=("/a", "b"), golden=0.0)


def test_a_definition_that_makes_no_sense_names_its_workflow() -> None:
    """The error says which workflow is wrong."""
    wrong: dict[str, Any]
    for wrong in ({"capture": "some"}, {"volatile": "/"}, {"golden": 2}):
        with pytest.raises(AosError) as refused:
            Workflow("sales", a.s(), app=app, register=False, **wrong)
        assert "sales" in str(refused.value) or "volatile" in str(refused.value)


def test_everybody_draws_the_same_golden_for_a_run() -> None:
    """Whether a run leaves a golden depends on its id and the share alone; the workflow's share goes first."""
    ids = [f"run-{number}" for number in range(2000)]
    kept = [run for run in ids if Terms().leaves_golden(run, 0.25)]
    assert 400 < len(kept) < 600
    assert kept == [run for run in ids if Terms(golden=0.25).leaves_golden(run, 1.0)]
    assert set(kept) <= {run for run in ids if Terms(golden=0.5).leaves_golden(run, 0.0)}
    assert not any(Terms(golden=0.0).leaves_golden(run, 1.0) for run in ids)
    assert all(Terms(golden=1.0).leaves_golden(run, 0.0) for run in ids)
