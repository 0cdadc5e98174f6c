"""The canonical form: what it writes, what it gives back, what it refuses, what it leaves out."""

from __future__ import annotations

import enum
import hmac
import inspect
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter, OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal, localcontext
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any, Generic, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pydantic
import pytest

from aos_workflow import canonical_types
from aos_workflow.canonical import (
    VOLATILE_FIELDS,
    decode,
    digest,
    encode,
    normalise,
    parse,
    register,
    render,
    revive,
    stable_digest,
    without_volatile,
)
from aos_workflow.errors import BadOption, NotCanonical, PayloadTooLarge, VersionMismatch

ROOT = Path(__file__).resolve().parents[2]
BERLIN = ZoneInfo("Europe/Berlin")
HERE = __name__


class Color(enum.Enum):
    RED = 1
    GREEN = object()
    CRIMSON = RED


class Size(enum.IntEnum):
    SMALL = 1


class Word(enum.StrEnum):
    YES = "yes"


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Outer:
    class Inner(enum.Enum):
        ONE = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    x: int
    y: float = 0.0


@dataclass
class Line:
    points: tuple[Point, ...]
    tags: set[str] = field(default_factory=set)
    length: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.length += 1
        self.scratch = "made by __post_init__"


@dataclass
class NeedsMore:
    x: int
    seed: InitVar[int]


@dataclass
class Loop:
    me: Any = None


class Person(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    name: str = pydantic.Field(alias="fullName", validation_alias=pydantic.AliasChoices("fullName", "n"))
    born: date | None = None
    tags: list[str] = []
    secret: str = pydantic.Field(default="", exclude=True)
    _cache: dict[str, int] = pydantic.PrivateAttr(default_factory=dict)

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def initial(self) -> str:
        return self.name[0]

    @pydantic.field_validator("tags", mode="before")
    @classmethod
    def split(cls, value: Any) -> list[str]:
        return value.split(",")  # type: ignore[no-any-return]


class Employee(Person):
    boss: Person | None = None


class Names(pydantic.RootModel[list[str]]):
    pass


T = TypeVar("T")


class Box(pydantic.BaseModel, Generic[T]):
    content: T


IntBox = Box[int]


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


Pair = namedtuple("Pair", "left right")


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "LOUD"


class Nowhere(tzinfo):
    def utcoffset(self, when: datetime | None) -> None:
        return None

    dst = utcoffset

    def tzname(self, when: datetime | None) -> str:
        return "nowhere"


def named(kind: type) -> str:
    return f"{HERE}:{kind.__qualname__}"


def refusal(value: Any) -> NotCanonical:
    with pytest.raises(NotCanonical) as caught:
        encode(value)
    return caught.value


def child(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- the text --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (-0.0, "-0.0"),
        (1e16, "1e+16"),
        (2**70, "1180591620717411303424"),
        ("é😀\x00", r'"\u00e9\ud83d\ude00\u0000"'),
        ({"b": [1, 2.5], "a": {}}, '{"a": {}, "b": [1, 2.5]}'),
    ],
)
def test_plain_json_is_what_json_dumps_writes(value: Any, text: str) -> None:
    """Plain JSON is written with sorted keys, default separators and ASCII escapes."""
    assert encode(value) == text == json.dumps(value, sort_keys=True, allow_nan=False)
    assert repr(decode(text)) == repr(dict(sorted(value.items())) if isinstance(value, dict) else value)


def test_the_runbook_loop_leaves_the_signature_valid() -> None:
    """Reading, indenting, reading again and dumping with sorted keys gives the signed bytes back."""
    document = parse(encode({"when": datetime(2026, 3, 1, tzinfo=UTC), "n": {"10": 1, "9": 2}, "f": 1e-7}))
    signed = hmac.digest(b"key", render(document).encode(), "sha256")
    rewritten = json.loads(json.dumps(document, indent=2))
    assert hmac.digest(b"key", json.dumps(rewritten, sort_keys=True).encode(), "sha256") == signed


def test_the_text_does_not_depend_on_the_hash_seed() -> None:
    """Sets have one order under every hash seed."""
    code = (
        "from aos_workflow.canonical import encode\n"
        "print(encode({'s': {'a', 'b', 'c', 'd', (1, 'e'), frozenset('xyz')}}))"
    )
    assert len({child(code, PYTHONHASHSEED=seed) for seed in "123"}) == 1


def test_numpy_and_pydantic_are_not_imported_for_others() -> None:
    """Values that are not theirs are written and read without importing numpy or pydantic."""
    code = (
        "import sys, decimal\n"
        "from aos_workflow.canonical import decode, encode\n"
        "decode(encode([decimal.Decimal(1), {1, 2}]))\n"
        "try: encode(object())\n"
        "except Exception: pass\n"
        "print(sorted({'numpy', 'pydantic', 'msgspec'} & sys.modules.keys()))"
    )
    assert child(code) == "[]"


def test_what_is_named_is_in_the_error() -> None:
    """The caller's name for the value begins the message."""
    with pytest.raises(NotCanonical, match=r"^output of 3\.score has no canonical form at /a: "):
        encode({"a": object()}, what="output of 3.score")


def test_a_limit_is_inclusive_and_names_both_sizes() -> None:
    """Text of exactly the limit passes, one byte more is refused with both sizes."""
    assert encode("x" * 8, limit_bytes=10)
    with pytest.raises(PayloadTooLarge, match=r"inputs is 11 bytes .* limit is 10 bytes") as caught:
        encode("x" * 9, limit_bytes=10, what="inputs")
    assert caught.value.evidence == {"size_bytes": 11, "limit_bytes": 10}


# -- types beyond JSON -----------------------------------------------------------------------

ROUND_TRIPS: list[tuple[Any, Any]] = [
    ((1, (2,), []), {"$tuple": [1, {"$tuple": [2]}, []]}),
    ({"b", "a"}, {"$set": ["a", "b"]}),
    (frozenset({2, 10}), {"$frozenset": [10, 2]}),
    (set(), {"$set": []}),
    (datetime.fromisoformat("2026-03-01T12:00:00.000005"), {"$datetime": "2026-03-01T12:00:00.000005"}),
    (datetime(2026, 3, 1, tzinfo=UTC), {"$datetime": "2026-03-01T00:00:00+00:00"}),
    (
        datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=-3, seconds=7))),
        {"$datetime": "2026-03-01T00:00:00-02:59:53"},
    ),
    (datetime(2026, 7, 1, tzinfo=BERLIN), {"$datetime": "2026-07-01T00:00:00+02:00[Europe/Berlin]"}),
    (date(2026, 3, 1), {"$date": "2026-03-01"}),
    (time(12, 30, tzinfo=UTC), {"$time": "12:30:00+00:00"}),
    (time(12, 30, tzinfo=BERLIN), {"$time": "12:30:00[Europe/Berlin]"}),
    (timedelta(days=-1, microseconds=1), {"$timedelta_us": -86_399_999_999}),
    (timedelta.max, {"$timedelta_us": 86_399_999_999_999_999_999}),
    (Decimal("1.50"), {"$decimal": "1.50"}),
    (Decimal("-0E+5"), {"$decimal": "-0E+5"}),
    (UUID(int=5), {"$uuid": "00000000-0000-0000-0000-000000000005"}),
    (b"\xff\x00", {"$bytes": "/wA="}),
    (Path("a/b"), {"$path": "a/b"}),
    (PurePosixPath("a/b"), {"$pure_posix_path": "a/b"}),
    (PureWindowsPath("C:\\a"), {"$pure_windows_path": "C:/a"}),
    (Color.RED, {"$enum": [named(Color), "RED"]}),
    (Color.CRIMSON, {"$enum": [named(Color), "RED"]}),
    (Color.GREEN, {"$enum": [named(Color), "GREEN"]}),
    (Size.SMALL, {"$enum": [named(Size), "SMALL"]}),
    (Word.YES, {"$enum": [named(Word), "YES"]}),
    (Outer.Inner.ONE, {"$enum": [f"{HERE}:Outer.Inner", "ONE"]}),
    (Mode.READ | Mode.WRITE, {"$enum": [named(Mode), 3]}),
    (Mode(0), {"$enum": [named(Mode), 0]}),
    (Point(x=1), {"$dataclass": {"type": named(Point), "fields": {"x": 1, "y": 0.0}}}),
    (Names(["a"]), {"$model": {"type": named(Names), "fields": {"root": ["a"]}}}),
    (IntBox(content=1), {"$model": {"type": f"{HERE}:Box[int]", "fields": {"content": 1}}}),
    ({"$uuid": "x"}, {"$$uuid": "x"}),
    ({"$$uuid": "x"}, {"$$$uuid": "x"}),
    ({"$": 1}, {"$$": 1}),
    ({"$uuid": "x", "other": 1}, {"$uuid": "x", "other": 1}),
]


@pytest.mark.parametrize(("value", "json_value"), ROUND_TRIPS)
def test_every_type_has_one_encoding_and_comes_back(value: Any, json_value: Any) -> None:
    """The JSON of each type is the documented one and stands for an equal value of the same type."""
    assert normalise(value) == json_value
    assert render(json_value) == encode(value)
    for back in (revive(json_value), decode(encode(value))):
        assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (OrderedDict(b=1, a=2), {"a": 2, "b": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (UserDict(a=1), {"a": 1}),
        (MappingProxyType({"a": (1,)}), {"a": (1,)}),
        (Pair(1, 2), (1, 2)),
        (Loud("quiet"), "quiet"),
        ({Loud("quiet"): 1}, {"quiet": 1}),
        ({Word.YES: 1}, {"yes": 1}),
        (np.float32(0.1), 0.10000000149011612),
        (np.float64(0.1), 0.1),
        (np.int64(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.bytes_(b"a"), b"a"),
    ],
)
def test_relatives_of_a_type_become_the_plain_type(value: Any, plain: Any) -> None:
    """Subclasses, other mappings and numpy scalars come back as the plain Python type."""
    back = decode(encode(value))
    assert (type(back), back) == (type(plain), plain)


@pytest.mark.parametrize("fold", [0, 1])
def test_both_wall_times_of_a_clock_change_are_told_apart(fold: int) -> None:
    """The hour that happens twice comes back as the one of the two it was."""
    value = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=fold)
    back = decode(encode(value))
    assert (back.fold, back.utcoffset(), back.tzinfo) == (fold, value.utcoffset(), BERLIN)


def test_an_instant_survives_new_rules_of_its_zone() -> None:
    """Where today's rules contradict the stored offset, the instant is kept and the zone stays."""
    back = decode('{"$datetime": "2026-07-01T00:00:00+05:00[Europe/Berlin]"}')
    assert back == datetime(2026, 6, 30, 19, tzinfo=UTC)
    assert back.tzinfo is BERLIN


def test_the_decimal_context_of_the_thread_changes_nothing() -> None:
    """Decimals are exact and spelt alike under any context."""
    with localcontext() as context:
        context.capitals, context.prec = 0, 2
        text = encode(Decimal("1.23456E+30"))
        assert decode(text) == Decimal("1.23456E+30")
    assert text == '{"$decimal": "1.23456E+30"}'


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1.0, math.nan], [-0.0, math.inf]]),
        np.array([1, 2], dtype=">i2"),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(10)[::3],
        np.array([], dtype="c16").reshape(0, 3),
        np.array(7, dtype="u1"),
        np.array([True, False]),
        np.array(["a", "é"]),
        np.array([b"a"]),
        np.array(["2026-03-01", "NaT"], dtype="M8[ns]"),
        np.array([1.5], dtype="f2"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_come_back_bit_for_bit(array: Any) -> None:
    """An array keeps dtype, shape and every bit whatever its layout was, and can be written to."""
    back = decode(encode(array))
    assert (back.dtype, back.shape) == (array.dtype.newbyteorder("<"), array.shape)
    assert back.tobytes() == array.astype(back.dtype).tobytes()
    assert back.flags.writeable


def test_layout_and_byte_order_of_an_array_do_not_change_the_text() -> None:
    """Equal arrays have equal texts."""
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    assert encode(array) == encode(np.asfortranarray(array)) == encode(array.astype(">i4"))


# -- the user's classes ----------------------------------------------------------------------


def test_a_dataclass_comes_back_as_it_was_after_its_post_init() -> None:
    """``__init__`` builds it, so non-fields are there, and then every field is what it was."""
    line = Line(points=(Point(x=1),), tags={"a"})
    back = decode(encode(line))
    assert back == line
    assert (back.length, back.scratch) == (1.0, line.scratch)


def test_new_fields_of_a_dataclass_take_their_default() -> None:
    """A stored dataclass without a field that has a default is read with the default."""
    assert revive({"$dataclass": {"type": named(Point), "fields": {"x": 1}}}) == Point(x=1)


@pytest.mark.parametrize("fields", [{"y": 1.0}, {"x": 1, "z": 2}])
def test_a_dataclass_that_changed_too_much_is_refused(fields: dict[str, Any]) -> None:
    """A stored field that is gone, or a new one without default, is a version mismatch that names it."""
    with pytest.raises(VersionMismatch, match=r"Point.* changed .* (gone \['z'\]|missing \['x'\])"):
        revive({"$dataclass": {"type": named(Point), "fields": fields}})


def test_a_model_comes_back_without_being_validated_again() -> None:
    """Aliases, extra fields, unset fields and one-way validators do not stand in the way."""
    person = Person.model_validate(
        {"fullName": "Ada", "born": date(1815, 12, 10), "tags": "a,b", "pet": ("cat",), "$odd": 1}
    )
    back = decode(encode(person))
    assert back == person
    assert (back.tags, back.model_extra) == (["a", "b"], {"pet": ("cat",), "$odd": 1})
    assert back.model_fields_set == person.model_fields_set
    assert back._cache == {}


def test_excluded_fields_of_a_model_are_kept_and_computed_ones_are_not() -> None:
    """A model is its fields, whatever its serialisation settings say."""
    fields = normalise(Person(fullName="Ada", secret="s"))["$model"]["fields"]
    assert fields == {"name": "Ada", "born": None, "tags": [], "secret": "s"}


def test_a_model_within_a_model_keeps_its_own_class() -> None:
    """A subclass where the annotation names the base comes back as the subclass."""
    boss = Employee(fullName="Grace", boss=Person(fullName="Howard"))
    back = decode(encode(Employee(fullName="Ada", boss=boss)))
    assert type(back.boss) is Employee
    assert back.boss == boss


def test_a_registered_class_goes_through_its_own_functions() -> None:
    """``to_json`` may return any encodable value, ``from_json`` receives it revived."""
    register(Money, name="money", to_json=lambda m: (m.cents,), from_json=lambda pair: Money(*pair))
    assert encode(Money(5)) == '{"$custom": {"type": "money", "value": {"$tuple": [5]}}}'
    assert decode(encode([Money(5)]))[0].cents == 5


def test_a_registered_local_class_is_found_by_its_name() -> None:
    """A dataclass made inside a function is refused until it is registered."""

    @dataclass
    class Local:
        x: int

    assert "stands under no name" in str(refusal([Local(1)]))
    register(Local, name="test.local")
    assert encode(Local(1)) == '{"$dataclass": {"fields": {"x": 1}, "type": "test.local"}}'
    assert decode(encode(Local(1))) == Local(1)


def test_a_name_is_registered_for_one_class() -> None:
    """A second class under a registered name is refused; the same class, or a reloaded one, is not."""
    first, reloaded, second = (type(name, (), {}) for name in ("First", "First", "Second"))
    register(first, name="test.first")
    register(reloaded, name="test.first")
    with pytest.raises(BadOption, match=r"'test\.first' is registered"):
        register(second, name="test.first")


def test_a_registration_of_one_direction_only_is_refused() -> None:
    """``to_json`` needs its ``from_json``."""
    with pytest.raises(BadOption, match="only one of"):
        register(Loud, to_json=str)


def test_reading_never_imports_a_module(tmp_path: Path) -> None:
    """A class of a module that is not loaded is a version mismatch, and the module stays unloaded."""
    (tmp_path / "aos_trap.py").write_text("raise SystemExit('imported')")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from aos_workflow.canonical import decode\n"
        'try: decode(\'{"$enum": ["aos_trap:Color", "RED"]}\')\n'
        "except Exception as error: print(type(error).__name__, error)"
    )
    assert child(code, str(tmp_path)).startswith("VersionMismatch the class 'aos_trap:Color'")


@pytest.mark.parametrize(
    ("tag", "payload"),
    [
        ("$enum", ["subprocess:Popen", "ls"]),
        ("$dataclass", {"type": "subprocess:Popen", "fields": {"args": "ls"}}),
        ("$model", {"type": "subprocess:Popen", "fields": {"args": "ls"}}),
        ("$dataclass", {"type": f"{HERE}:Color", "fields": {}}),
    ],
)
def test_only_classes_of_the_tags_kind_are_built(tag: str, payload: Any) -> None:
    """A name that leads to another kind of class is refused and the class is not called."""
    with pytest.raises(NotCanonical, match="is no "):
        revive({tag: payload})


def test_a_member_that_is_gone_is_a_version_mismatch() -> None:
    """A stored enum member that the class no longer has is named."""
    with pytest.raises(VersionMismatch, match="no member 'BLUE'"):
        revive({"$enum": [named(Color), "BLUE"]})


def test_a_class_of_a_script_is_found_by_the_worker_that_imports_it(tmp_path: Path) -> None:
    """A class of ``__main__`` is named after the script's file, as its workers import it."""
    (tmp_path / "triage.py").write_text(
        "import enum\nfrom aos_workflow.canonical import decode, encode\n"
        "class Color(enum.Enum):\n    RED = 1\n"
        "if __name__ == '__main__':\n"
        "    text = encode(Color.RED)\n    assert decode(text) is Color.RED\n    print(text)\n"
    )
    done = subprocess.run(
        [sys.executable, "triage.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"$enum": ["triage:Color", "RED"]}
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import triage\n"
        "print(triage.decode(sys.argv[2]) is triage.Color.RED)"
    )
    assert child(code, str(tmp_path), done.stdout) == "True"


# -- refused ---------------------------------------------------------------------------------


def cycle(container: Any) -> Any:
    container[0:0] = [container]
    return container


@pytest.mark.parametrize(
    ("value", "path", "kind", "reason"),
    [
        (math.nan, "", "float", "the float nan"),
        ({"a": [1, {"b/c~": -math.inf}]}, "/a/1/b~1c~0", "float", "the float -inf"),
        ({"a": {1: 2}}, "/a/1", "int", "the key 1 is of type int"),
        ({None: 1}, "/None", "NoneType", "the key None"),
        ({True: 1}, "/True", "bool", "the key True"),
        ({Size.SMALL: 1}, "/1", f"{HERE}.Size", "the key <Size.SMALL: 1>"),
        ([10**4300], "/0", "int", "more than 4300 digits"),
        ([np.uint8(1), "\ud800"], "/1", "str", "lone surrogate"),
        (["\ud83d\ude00"], "/0", "str", "lone surrogate"),
        ({"\udfff": 1}, "/\udfff", "str", "lone surrogate"),
        (({1, (2, math.inf)},), "/0/*/1", "float", "the float inf"),
        ([object()], "/0", "object", "object has no encoding"),
        ([Color], "/0", "enum.EnumType", "has no encoding"),
        ([1j], "/0", "complex", "complex has no encoding"),
        ([bytearray(b"a")], "/0", "bytearray", "bytearray has no encoding"),
        ([range(2)], "/0", "range", "range has no encoding"),
        ([Decimal("NaN")], "/0", "decimal.Decimal", "the Decimal NaN"),
        ([Decimal("sNaN")], "/0", "decimal.Decimal", "the Decimal sNaN"),
        ([time(1, tzinfo=Nowhere())], "/0", "datetime.time", "neither name nor offset"),
        ([np.float32("nan")], "/0", "float", "the float nan"),
        ([np.longdouble(1)], "/0", "numpy.longdouble", "no plain Python number"),
        ([np.datetime64("2026-03-01")], "/0", "numpy.datetime64", "no plain Python number"),
        ([np.array([object()])], "/0", "numpy.ndarray", "an array of object"),
        ([np.zeros(1, dtype="i4,f8")], "/0", "numpy.ndarray", "an array of"),
        ([np.ma.masked_array([1], [True])], "/0", "numpy.ma.MaskedArray", "has no encoding"),
        ({"p": Person.model_validate({"n": "A", "pet": object()})}, "/p/pet", "object", "has no encoding"),
        ({"p": Loop(1j)}, "/p/me", "complex", "has no encoding"),
        ([NeedsMore(1, seed=2)], "/0", f"{HERE}.NeedsMore", "differ in ['seed']"),
        (cycle([]), "/0", "list", "it contains itself"),
        ({"a": [1, cycle([2])]}, "/a/1/0", "list", "it contains itself"),
    ],
)
def test_what_has_no_form_is_refused_with_path_and_type(value: Any, path: str, kind: str, reason: str) -> None:
    """The error names the JSON pointer of the offending value, its type and why."""
    error = refusal(value)
    assert reason in error.message
    assert error.evidence == {"path": path, "type": kind}


def test_a_cycle_through_an_object_is_named() -> None:
    """A dataclass that holds itself is refused as such."""
    loop = Loop()
    loop.me = {"again": loop}
    assert refusal([loop]).message.endswith("at /0/me/again: it contains itself")


def test_two_keys_that_read_alike_are_refused() -> None:
    """A mapping with one key twice would lose a value."""

    class Twice(UserDict[str, int]):
        def items(self) -> Any:
            return [("a", 1), (Loud("a"), 2)]

    assert "there twice" in refusal(Twice()).message


@pytest.mark.parametrize("leaf", [1, (1,)])
def test_nesting_has_a_limit_that_reading_back_allows(leaf: Any) -> None:
    """200 levels of JSON pass in both directions, one more is refused by name."""
    levels = 200 if leaf == 1 else 198
    value = leaf
    for _ in range(levels):
        value = [value]
    assert decode(encode(value)) == value
    assert "nested deeper than 200 levels" in refusal([value]).message


def test_endless_nesting_is_an_error_of_ours() -> None:
    """Neither a deep value nor a deep text ends in a RecursionError."""
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    assert "nested deeper" in refusal(value).message
    for read in (decode, parse):
        with pytest.raises(NotCanonical, match="nested deeper"):
            read("[" * 100_000)


@pytest.mark.parametrize(("limit", "digits"), [("0", 5000), ("640", 1000)])
def test_the_longest_int_does_not_depend_on_the_process(limit: str, digits: int) -> None:
    """A process that converts longer ints refuses them too; one that cannot convert says so."""
    code = (
        "import sys\n"
        "from aos_workflow.canonical import encode, render\n"
        "from aos_workflow.errors import NotCanonical\n"
        "assert render(['x' * 5000]) == encode(['x' * 5000])\n"
        "for write in (encode, render):\n"
        "    try: write([10 ** int(sys.argv[1])])\n"
        "    except NotCanonical as refused: print('refused')\n"
    )
    assert child(code, str(digits), PYTHONINTMAXSTRDIGITS=limit).split() == ["refused", "refused"]


def test_a_full_stack_is_an_error_of_ours() -> None:
    """Where the caller left too little stack for the value it is refused, without a RecursionError."""
    value: Any = (1,)
    for _ in range(190):
        value = [value]

    def with_frames_left(frames: int, used: int) -> Any:
        if used < sys.getrecursionlimit() - frames:
            return with_frames_left(frames, used + 1)
        try:
            return encode(value)
        except NotCanonical as refused:
            return refused.message

    used = len(inspect.stack(0))
    assert with_frames_left(500, used) == encode(value)
    assert "deeper than this call's stack allows" in with_frames_left(100, used)


def test_a_failing_to_json_is_named() -> None:
    """What a registered ``to_json`` raises is in the message, and is the cause."""
    kind = type("Broken", (), {})
    register(kind, name="test.broken", to_json=lambda value: 1 // 0, from_json=lambda value: value)
    error = refusal({"a": kind()})
    assert "at /a: its registered to_json raised ZeroDivisionError" in error.message
    assert isinstance(error.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 1}', "duplicate keys ['a']"),
        ("[NaN]", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("[1e999]", "1e999 is larger"),
        ("[1,]", "not strict JSON"),
        ("", "not strict JSON"),
        (r'["\ud800"]', "lone surrogate"),
        (r'["\uDFFF"]', "lone surrogate"),
        ('["\ud800"]', "lone surrogate"),
        pytest.param("1" * 5000, "not strict JSON", id="huge int"),
    ],
)
def test_text_that_is_not_strict_json_is_refused(text: str, reason: str) -> None:
    """Duplicate keys, non-numbers, overflowing numbers, lone surrogates and broken syntax are refused."""
    for read in (decode, parse):
        with pytest.raises(NotCanonical) as caught:
            read(text)
        assert reason in str(caught.value)


def test_an_unknown_tag_is_a_version_mismatch() -> None:
    """A tag of a later version is not taken for a dict."""
    with pytest.raises(VersionMismatch, match=r"'\$quaternion'"):
        decode('{"$quaternion": [1, 2, 3, 4]}')


@pytest.mark.parametrize(
    "text",
    [
        '{"$uuid": 5}',
        '{"$datetime": "soon"}',
        '{"$bytes": "*"}',
        '{"$set": [[]]}',
        '{"$enum": ["x"]}',
        '{"$dataclass": 1}',
        '{"$ndarray": ["|O8", [1], "AAAAAAAAAAA="]}',
        '{"$ndarray": ["<f8", [2], "AAAAAAAAAAA="]}',
    ],
)
def test_a_tag_with_the_wrong_content_is_refused(text: str) -> None:
    """What stands under a tag and cannot be its type is an error of ours that names the tag."""
    with pytest.raises(NotCanonical, match=r"\$|dtype"):
        decode(text)


def test_an_unknown_time_zone_is_a_version_mismatch() -> None:
    """A zone that this machine does not know is named."""
    with pytest.raises(VersionMismatch, match="no time zone 'Mars/Olympus'"):
        decode('{"$datetime": "2026-03-01T00:00:00+00:00[Mars/Olympus]"}')


# -- JSON values as they stand ---------------------------------------------------------------


def test_render_leaves_tags_alone_where_encode_escapes_them() -> None:
    """A JSON value that holds tags is rendered; encoded, it stands for a dict that looks like one."""
    tagged = {"$uuid": "00000000-0000-0000-0000-000000000005"}
    assert parse(render(tagged)) == tagged
    assert decode(encode(tagged)) == tagged
    assert decode(render(tagged)) == UUID(int=5)


@pytest.mark.parametrize("value", [(1,), {1: 1}, [math.nan], {"a": Color.RED}, "\ud800"])
def test_render_takes_json_values_only(value: Any) -> None:
    """What is not a JSON value must be normalised first."""
    with pytest.raises(NotCanonical):
        render(value)


# -- digests and volatile fields -------------------------------------------------------------


def test_the_digest_is_sha256_of_the_text() -> None:
    """The digest is the SHA-256 of the UTF-8 text in hex."""
    assert digest("null") == "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"


def test_nothing_is_volatile_unasked() -> None:
    """The list of volatile fields is empty until somebody adds to it."""
    assert VOLATILE_FIELDS == []


OUTPUT = {"ms": 5, "usage": {"ms": 6, "n": 1}, "items": [{"id": 1, "v": 2}, {"id": 3, "v": 4}], "a/b~c": 0}


@pytest.mark.parametrize(
    ("fields", "gone"),
    [
        (["ms"], [("ms",)]),
        (["/usage/ms"], [("usage", "ms")]),
        (["/*/ms"], [("usage", "ms")]),
        (["/items/0/id"], [("items", 0, "id")]),
        (["/items/*/id"], [("items", 0, "id"), ("items", 1, "id")]),
        (["/items/1", "/items/0"], [("items", 1), ("items", 0)]),
        (["/a~1b~0c"], [("a/b~c",)]),
        (["a/b~c"], [("a/b~c",)]),
        (["missing", "/usage/ms/deeper", "/items/7", "*"], []),
    ],
)
def test_volatile_fields_are_removed_where_they_point(fields: list[str], gone: list[Any]) -> None:
    """A bare name is a top-level key and nothing deeper; a pointer is one place, or many with ``*``."""
    expected = json.loads(json.dumps(OUTPUT))
    for *parents, last in gone:
        node = expected
        for key in parents:
            node = node[key]
        del node[last]
    before = json.dumps(OUTPUT)
    assert without_volatile(OUTPUT, fields) == expected
    assert json.dumps(OUTPUT) == before


@pytest.mark.parametrize(
    ("value", "fields", "left"),
    [
        (Point(x=1, y=2.0), ["y"], {"x": 1}),
        ({"p": (Point(x=1, y=2.0), 3)}, ["/p/0/y", "/p/1"], None),
        (Person.model_validate({"n": "Ada", "pet": 1}), ["pet"], None),
    ],
)
def test_pointers_speak_of_the_value_and_not_of_its_tags(value: Any, fields: list[str], left: Any) -> None:
    """Fields of dataclasses and models and members of tuples are addressed as the step's author sees them."""
    text = encode(without_volatile(normalise(value), fields))
    assert all(f'"{name}"' not in text for name in ("y", "pet"))
    if left is not None:
        assert without_volatile(normalise(value), fields)["$dataclass"]["fields"] == left


def test_a_removed_field_is_no_unset_field_either() -> None:
    """Two models that differ in whether a volatile field was set have one stable digest."""
    texts = [encode(Person(fullName="Ada")), encode(Person(fullName="Ada", secret="s"))]
    assert len({stable_digest(text, ["secret"]) for text in texts}) == 1


def test_a_dict_that_looks_like_a_tag_stays_a_dict_when_stripped() -> None:
    """What is left of a dict after removal is never mistaken for a tag, and its keys are the author's."""
    assert revive(without_volatile(normalise({"$uuid": 1, "ms": 2}), ["ms"])) == {"$uuid": 1}
    assert without_volatile(normalise({"$ms": 1}), ["$ms"]) == {}


@pytest.mark.parametrize("field", ["", "/", "/a~", "/a~2"])
def test_a_malformed_pointer_is_refused(field: str) -> None:
    """A field that can point nowhere is an error, not silence."""
    with pytest.raises(BadOption, match="is no volatile field"):
        without_volatile({}, [field])


def test_the_stable_digest_ignores_volatile_fields_only() -> None:
    """Outputs that differ in a volatile field have one stable digest, other differences show."""
    one, two, three = (encode({"ms": ms, "v": v}) for ms, v in ((1, 1), (2, 1), (1, 2)))
    assert stable_digest(one, ["ms"]) == stable_digest(two, ["ms"]) == digest('{"v": 1}')
    assert stable_digest(one, ["ms"]) != stable_digest(three, ["ms"])
    assert stable_digest(one, []) == stable_digest(one, ["absent"]) == digest(one)


def test_every_documented_tag_is_read() -> None:
    """The table of types and the readers name the same tags."""
    table = set(re.findall(r'\{"(\$[a-z_]+)"', canonical_types.__doc__ or ""))
    assert table == set(canonical_types._READERS)


def test_a_field_that_was_never_set_is_refused() -> None:
    """A dataclass without one of its fields is refused rather than written without it."""
    line = Line(points=())
    del line.points
    assert "a field was never set" in refusal(line).message
