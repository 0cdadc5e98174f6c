"""Divergence: two outputs of one step are compared, and the first place where they part is named."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy
import pydantic
import pytest

from aos_workflow.canonical import encode, normalise
from aos_workflow.divergence import ABSENT, Cause, Divergence, Verdict, compare, differences


@dataclass
class Invoice:
    total: Any
    lines: Any = ()


@dataclass
class Receipt:
    total: Any
    lines: Any = ()


class Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    count: int = 1
    note: str = ""


def places(left: Any, right: Any) -> list[tuple[str, Any, Any]]:
    """Where two Python values differ."""
    return list(differences(normalise(left), normalise(right)))


def verdict(left: Any, right: Any, *volatile: str) -> Verdict:
    return compare("1.a", encode(left), encode(right), volatile)[0]


@pytest.mark.parametrize(
    ("left", "right", "where"),
    [
        (1, 2, ""),
        (None, 0, ""),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "/a/b/1"),
        ({"a/b": {"c~d": 1}}, {"a/b": {"c~d": 2}}, "/a~1b/c~0d"),
        ({"": {"": 1}}, {"": {"": 2}}, "//"),
        ((1, (2, 3)), (1, (2, 4)), "/1/1"),
        ({"s": {1, 2}}, {"s": {1, 3}}, "/s/1"),
        (Invoice(total=1), Invoice(total=2), "/total"),
        (Invoice(total=1, lines=[{"x": 1}]), Invoice(total=1, lines=[{"x": 2}]), "/lines/0/x"),
        (Order(count=1, note="a"), Order(count=2, note="a"), "/count"),
        (Order.model_validate({"more": [1]}), Order.model_validate({"more": [2]}), "/more/0"),
        ({"$uuid": 1}, {"$uuid": 2}, "/$uuid"),
        ({"$$a": 1}, {"$$a": 2}, "/$$a"),
    ],
)
def test_the_place_is_a_pointer_into_what_the_step_returned(left: Any, right: Any, where: str) -> None:
    """A pointer speaks of the value, not of the tags that stand for its types."""
    assert [path for path, _, _ in places(left, right)] == [where]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (0.0, -0.0),
        ([1], (1,)),
        ({1}, frozenset({1})),
        ("2026-01-01T00:00:00+00:00", datetime(2026, 1, 1, tzinfo=UTC)),
        (Decimal("1.5"), Decimal("1.50")),
        (b"a", "a"),
        ([], {}),
        (Invoice(total=1), Receipt(total=1)),
        (Invoice(total=1), {"total": 1}),
        (numpy.array([1.0, 2.0]), numpy.array([1.0, 2.5])),
        (numpy.array([1], dtype="i4"), numpy.array([1], dtype="i8")),
    ],
)
def test_another_type_or_scalar_is_another_value(left: Any, right: Any) -> None:
    """What Python calls equal but writes differently differs here too, as a whole, and is never "ignored"."""
    assert places(left, right) == [("", normalise(left), normalise(right))]
    assert verdict(left, right) is Verdict.DIVERGED
    assert verdict(left, right, "/other") is Verdict.DIVERGED


@pytest.mark.parametrize("value", [0, None, {}, [], {"x": 1}, (1,), "$absent"])
def test_what_is_there_on_one_side_only(value: Any) -> None:
    """A key or member that only one side has is one difference at that place, whatever its value."""
    as_json = normalise(value)
    assert places({"k": value, "l": 1}, {"l": 1}) == [("/k", as_json, ABSENT)]
    assert places({"l": 1}, {"k": value, "l": 1}) == [("/k", ABSENT, as_json)]
    assert places([1, value], [1]) == [("/1", as_json, ABSENT)]


def test_an_escaped_key_is_the_key_it_stands_for() -> None:
    """``{"$a": 1}`` is stored with one dollar more while it is the only key; beside another key it is not."""
    assert places({"$a": 1}, {"$a": 1, "b": 2}) == [("/b", ABSENT, 2)]
    assert places({"$a": 1, "b": 2}, {"$a": 1}) == [("/b", 2, ABSENT)]
    assert places({"$a": 1}, {"$b": 1}) == [("/$a", 1, ABSENT), ("/$b", ABSENT, 1)]


def test_a_model_differs_by_what_was_set() -> None:
    """Two models with equal fields of which one was left at its default are two different outputs."""
    left, right = Order(note="x"), Order(count=1, note="x")
    assert places(left, right) == [("", normalise(left), normalise(right))]
    assert verdict(left, right) is Verdict.DIVERGED
    assert verdict(left, right, "/count") is Verdict.IGNORED


def test_the_first_difference_is_told() -> None:
    """Of several differences the first in the order of keys and members is named, with both values."""
    found = compare("3.score", encode({"b": 1, "a": [1, 2, 3]}), encode({"b": 2, "a": [1, 5, 6]}), ())
    assert found == (Verdict.DIVERGED, Divergence(address="3.score", path="/a/1", recorded=2, observed=5))


@pytest.mark.parametrize(
    ("left", "right", "volatile", "expected"),
    [
        ({"a": 1, "ms": 5}, {"a": 1, "ms": 5}, ("ms",), Verdict.MATCHED),
        ({"a": 1, "ms": 5}, {"a": 1, "ms": 6}, ("ms",), Verdict.IGNORED),
        ({"a": 1, "ms": 5}, {"a": 1, "ms": 6}, (), Verdict.DIVERGED),
        ({"a": 1, "ms": 5}, {"a": 2, "ms": 6}, ("ms",), Verdict.DIVERGED),
        ({"a": {"ms": 5}}, {"a": {"ms": 6}}, ("ms",), Verdict.DIVERGED),
        ({"a": {"ms": 5}}, {"a": {"ms": 6}}, ("/a/ms",), Verdict.IGNORED),
        ([{"ms": 5}, {"ms": 1}], [{"ms": 6}, {"ms": 2}], ("/*/ms",), Verdict.IGNORED),
        ({"a": 1, "ms": 5}, {"a": 1}, ("ms",), Verdict.IGNORED),
        (Invoice(total=1), Invoice(total=2), ("/total",), Verdict.IGNORED),
        (Invoice(total=1), Receipt(total=1), ("/total",), Verdict.DIVERGED),
        ({"a": 0.0, "ms": 5}, {"a": -0.0, "ms": 6}, ("ms",), Verdict.DIVERGED),
    ],
)
def test_volatile_fields_are_left_out(left: Any, right: Any, volatile: tuple[str, ...], expected: Verdict) -> None:
    """Only differences in volatile fields are "ignored"; anything else is "diverged"."""
    assert verdict(left, right, *volatile) is expected


def test_a_path_counts_members_as_they_were_recorded() -> None:
    """A volatile member that is left out does not renumber the members after it."""
    _, found = compare("1.a", encode([1, 2, 3]), encode([9, 2, 4]), ("/0",))
    assert found is not None
    assert (found.path, found.recorded, found.observed) == ("/2", 3, 4)


def test_every_cause_says_what_to_do() -> None:
    """Each cause has a fix; a divergence that is given a cause takes it over, unless it is told a better one."""
    place = Divergence(address="1.a", path="/x", recorded=1, observed=2)
    assert place.as_json()["cause"] is None
    for cause in Cause:
        assert cause.fix
        told = place.because(cause, "shop.py:3")
        assert told.as_json() == {
            "address": "1.a", "path": "/x", "recorded": 1, "observed": 2, "cause": cause.value,
            "location": "shop.py:3", "fix": cause.fix,
        }  # fmt: skip
    assert place.because(Cause.UUID, None, "mine").fix == "mine"


def test_good_verdicts() -> None:
    """A run that gave its answer again is matched or ignored, and nothing else."""
    assert [verdict for verdict in Verdict if verdict.is_good] == [Verdict.MATCHED, Verdict.IGNORED]
