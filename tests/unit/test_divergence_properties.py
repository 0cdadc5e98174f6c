"""What holds of comparing for every two values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aos_workflow.canonical import encode, parse, render, without_volatile
from aos_workflow.divergence import ABSENT, Verdict, compare, differences

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
KEYS = st.sampled_from(["", "a", "b", "ms", "0", "a/b", "c~d", "$a", "$$a", "$tuple", "$absent"]) | TEXT
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, -0.0, 1.0, 1.5])
    | st.decimals(min_value=0, max_value=2, places=1)
    | TEXT
)
#: Small and alike, so that two of them often share most of their parts.
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.tuples(inner, inner)
        | st.sets(SCALARS, max_size=3)
    ),
    max_leaves=5,
)
POINTERS = st.lists(st.sampled_from(["ms", "/a", "/a/ms", "/*/ms", "/*", "/0", "/a~1b", "/$a"]), max_size=2)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=3)
PAIRS = st.tuples(VALUES, VALUES) | st.tuples(OBJECTS, OBJECTS)


def at(value: Any, pointer: str) -> Any:
    """What a pointer names in a JSON value of canonical form, tags of containers looked through."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        value = inside(value)
        if isinstance(value, list):
            value = value[int(key)] if int(key) < len(value) else ABSENT
        else:
            value = value.get(key, ABSENT)
    return value


def inside(value: Any) -> Any:
    """The list or object that a tagged container holds; a lone ``$$x`` is the key ``$x``."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((key, body),) = value.items()
        if key in ("$tuple", "$set"):
            return body
        if key[:2] == "$$":
            return {key[1:]: body}
    return value


@settings(max_examples=40)
@given(VALUES)
def test_a_value_does_not_differ_from_itself(value: Any) -> None:
    """No difference is found between a value and its copy, and the verdict is matched."""
    text = encode(value)
    assert list(differences(parse(text), parse(text))) == []
    assert compare("1.a", text, text, ("/a",)) == (Verdict.MATCHED, None)


@settings(max_examples=60)
@given(PAIRS)
def test_two_texts_differ_exactly_when_their_values_do(pair: tuple[Any, Any]) -> None:
    """Another canonical text means at least one difference, the same text means none."""
    left, right = (encode(value) for value in pair)
    assert (list(differences(parse(left), parse(right))) != []) is (left != right)


@settings(max_examples=60)
@given(PAIRS)
def test_each_pointer_resolves_to_the_two_values(pair: tuple[Any, Any]) -> None:
    """Every difference names a place of its own, and there are the two values it says, in the order of the value."""
    left, right = (parse(encode(value)) for value in pair)
    found = list(differences(left, right))
    for path, was, now in found:
        assert (render(at(left, path)), render(at(right, path))) == (render(was), render(now))
        assert render(was) != render(now)
    assert len({path for path, _, _ in found}) == len(found)


@settings(max_examples=60)
@given(PAIRS, POINTERS)
def test_ignored_means_that_only_volatile_fields_differ(pair: tuple[Any, Any], volatile: list[str]) -> None:
    """A verdict says what the texts say: equal, equal without the volatile fields, or neither."""
    left, right = (encode(value) for value in pair)
    stripped = [render(without_volatile(parse(text), volatile)) for text in (left, right)]
    verdict, found = compare("1.a", left, right, volatile)
    if left == right:
        assert verdict is Verdict.MATCHED
    elif stripped[0] == stripped[1]:
        assert verdict is Verdict.IGNORED
    else:
        assert verdict is Verdict.DIVERGED
    assert (found is not None) is (verdict is Verdict.DIVERGED)


@settings(max_examples=40)
@given(PAIRS)
def test_differences_are_the_same_seen_from_the_other_side(pair: tuple[Any, Any]) -> None:
    """Swapping the two values swaps the two values of each difference and nothing else."""
    left, right = (parse(encode(value)) for value in pair)
    assert list(differences(right, left)) == [(path, now, was) for path, was, now in differences(left, right)]
