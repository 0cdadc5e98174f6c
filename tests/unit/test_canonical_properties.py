"""What holds of the canonical form for every value."""

from __future__ import annotations

import contextlib
import enum
import json
import random
import zoneinfo
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, time
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aos_workflow.canonical import (
    decode,
    digest,
    encode,
    normalise,
    parse,
    render,
    revive,
    stable_digest,
    without_volatile,
)
from aos_workflow.errors import AosError


class Suit(enum.Enum):
    HEARTS = "h"
    SPADES = ("s", 1)


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Card:
    suit: Any
    rank: Any = None


FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
KEYS = TEXT | st.sampled_from(["$", "$$", "$uuid", "$$uuid", "$tuple", "$set", "$dataclass", "a/b~*", "0"])
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
ZONES = st.none() | st.timezones() | st.just(zoneinfo.ZoneInfo("Europe/Berlin"))
SINGLES = (
    st.none()
    | st.booleans()
    | st.integers()
    | FINITE
    | TEXT
    | st.binary(max_size=8)
    | st.datetimes(timezones=ZONES)
    | st.dates()
    | st.times(timezones=ZONES)
    | st.timedeltas()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.uuids()
    | TEXT.map(PurePosixPath)
    | st.sampled_from([PureWindowsPath("C:/a b"), *Suit, *Access, Access.READ | Access.WRITE])
)
HASHABLE = st.recursive(
    SINGLES,
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3) | st.builds(Card, suit=inner, rank=inner),
    max_leaves=6,
)
VALUES = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.tuples(inner, inner)
        | st.builds(Card, suit=inner, rank=inner)
    ),
    max_leaves=15,
)
SEGMENTS = KEYS.filter(bool).map(lambda key: key.replace("~", "~0").replace("/", "~1"))
POINTERS = st.lists(SEGMENTS | st.sampled_from(["*", "0", "1"]), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)


always = settings(suppress_health_check=[HealthCheck.too_slow])


def exact(value: Any) -> Any:
    """The value with every type spelt out, so that 1, True and 1.0 differ and sets have no order."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, sorted(((key, exact(item)) for key, item in value.items()), key=lambda pair: pair[0])
    if isinstance(value, (list, tuple)):
        return kind, [exact(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return kind, sorted((exact(item) for item in value), key=repr)
    if isinstance(value, (datetime, time)):
        return kind, value.isoformat(), repr(value.tzinfo)
    if is_dataclass(value):
        return kind, [exact(getattr(value, field.name)) for field in fields(value)]
    return kind, repr(value)


@always
@given(VALUES)
def test_a_value_comes_back_with_all_its_types(value: Any) -> None:
    """Decoding the encoded value gives an equal value of exactly the same types."""
    assert repr(exact(decode(encode(value)))) == repr(exact(value))


@always
@given(VALUES)
def test_what_came_back_has_the_same_text(value: Any) -> None:
    """Encoding is stable: a value that went through text once has that text for ever."""
    text = encode(value)
    assert encode(decode(text)) == text


@always
@given(VALUES)
def test_json_itself_keeps_the_text(value: Any) -> None:
    """Reading and dumping with the standard library alone, indented in between, changes no byte."""
    text = encode(value)
    assert text.isascii()
    assert json.dumps(json.loads(text), sort_keys=True) == text
    assert json.dumps(json.loads(json.dumps(json.loads(text), indent=2)), sort_keys=True) == text


@always
@given(VALUES)
def test_text_and_json_value_are_two_forms_of_one_thing(value: Any) -> None:
    """encode is render after normalise, decode is revive after parse."""
    text = encode(value)
    assert render(normalise(value)) == text
    assert parse(text) == normalise(value)
    assert repr(exact(revive(parse(text)))) == repr(exact(decode(text)))


@always
@given(PLAIN)
def test_a_dict_that_looks_like_a_tag_comes_back_as_a_dict(value: Any) -> None:
    """No JSON value is taken for a tagged one, however often it was normalised before."""
    once = normalise(value)
    assert repr(exact(revive(once))) == repr(exact(value))
    assert repr(exact(revive(revive(normalise(once))))) == repr(exact(value))


@always
@given(PLAIN.filter(lambda value: '"$' not in json.dumps(value)))
def test_plain_json_without_dollars_stands_for_itself(value: Any) -> None:
    """The text of plain JSON is that of the standard library."""
    assert encode(value) == json.dumps(value, sort_keys=True)


@always
@given(st.dictionaries(KEYS, VALUES, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_a_dict_does_not_matter(value: dict[str, Any], chance: random.Random) -> None:
    """Dicts that are equal have one text whatever the order of their keys."""
    items = list(value.items())
    chance.shuffle(items)
    assert encode(dict(items)) == encode(value)


@always
@given(VALUES, VALUES)
def test_different_values_have_different_texts(one: Any, other: Any) -> None:
    """Two values share a text only if they are equal with all their types."""
    assert (encode(one) == encode(other)) == (repr(exact(one)) == repr(exact(other)))


@always
@given(
    st.text(max_size=20)
    | st.recursive(
        st.none() | st.integers() | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2),
    ).map(json.dumps)
)
def test_any_text_is_read_or_refused_by_an_error_of_ours(text: str) -> None:
    """Whatever stands in a stored text, reading it ends in a value or in an AosError."""
    with contextlib.suppress(AosError):
        decode(text)


@always
@given(VALUES, st.lists(POINTERS, max_size=3))
def test_what_is_left_without_volatile_fields_can_be_read(value: Any, pointers: list[str]) -> None:
    """Removing fields removes nothing else, leaves its argument alone and is done after one time."""
    json_value = parse(encode(value))
    left = without_volatile(json_value, pointers)
    assert render(json_value) == encode(value)
    assert len(render(left)) <= len(render(json_value)) + 1  # a lone "$x" gets one more dollar
    assert stable_digest(encode(value), pointers) == digest(render(left))


@always
@given(st.dictionaries(KEYS, VALUES, max_size=4), KEYS.filter(lambda key: key[:1] not in ("", "/")), VALUES)
def test_a_volatile_field_makes_no_difference(value: dict[str, Any], name: str, content: Any) -> None:
    """A top-level field that is volatile may have any content, or none."""
    without = {key: item for key, item in value.items() if key != name}
    digests = {stable_digest(encode(output), [name]) for output in (without, without | {name: content})}
    assert digests == {digest(encode(without))}
