"""Fingerprints: what code a task consists of, and where it is no longer what it was."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aos_workflow.determinism.fingerprint import changed, fingerprint

Imported = Callable[..., ModuleType]
_numbers = itertools.count()


@pytest.fixture
def imported(tmp_path: Path) -> Iterator[Imported]:
    """Imports source as a new module: each source is another version of a user's code."""
    made = []

    def imported(source: str, name: str = "shop") -> ModuleType:
        path = tmp_path / f"version{next(_numbers)}" / f"{name}.py"
        path.parent.mkdir()
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        made.append(name)
        spec.loader.exec_module(module)
        return module

    yield imported
    for name in made:
        sys.modules.pop(name, None)


def lines(found: list[tuple[str, str]]) -> list[int]:
    return [int(location.rpartition(":")[2]) for _, location in found]


SOURCE = '''\
RATE = 2
UNUSED = 5


def helper(cents, factor=1):
    return cents * factor


class Basket:
    def total(self, cents):
        """What it costs."""
        return cents + 1


def price(cents):
    return helper(cents) * RATE + Basket().total(cents)
'''


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("helper(cents) * RATE", "helper(cents) + RATE", 16),
        ("cents * factor", "cents / factor", 6),
        ("factor=1", "factor=2", 5),
        ("RATE = 2", "RATE = 3", 1),
        ("cents + 1", "cents + 2", 12),
        ("    return helper", "    cents += 1\n    return helper", 16),
    ],
)
def test_a_change_of_what_a_task_uses_is_found_with_its_line(imported: Imported, old: str, new: str, line: int) -> None:
    """Body, helper, default argument, constant, method and added line each show as file and line of today's code."""
    before = fingerprint(imported(SOURCE).price)
    module = imported(SOURCE.replace(old, new))
    found = changed(before, fingerprint(module.price))
    assert [location for _, location in found] == [f"{module.__file__}:{line}"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("UNUSED = 5", "UNUSED = 6"),
        ("RATE = 2", "\n# the rate\nRATE = 2  # per cent"),
        ('"""What it costs."""', '"""What it costs today."""'),
    ],
)
def test_what_a_task_does_not_notice_is_no_change(imported: Imported, old: str, new: str) -> None:
    """Unused names, comments, blank lines and docstrings do not count."""
    before = fingerprint(imported(SOURCE).price)
    assert changed(before, fingerprint(imported(SOURCE.replace(old, new)).price)) == []


def test_indentation_counts(imported: Imported) -> None:
    """A line that is moved out of a loop is another program."""
    source = "def total(rows):\n    n = 0\n    for row in rows:\n        n += 1\n        n *= 2\n    return n\n"
    before = fingerprint(imported(source).total)
    after = fingerprint(imported(source.replace("        n *= 2", "    n *= 2")).total)
    assert lines(changed(before, after)) == [5]


def test_other_modules_of_the_user_are_followed(imported: Imported) -> None:
    """A function reached through a module and a name imported from one are part of the fingerprint."""
    shop = "import tax\nfrom rates import RATE as rate\n\n\ndef price(cents):\n    return tax.added(cents) * rate\n"

    def version(tax: str, rates: str) -> dict[str, Any]:
        imported(tax, "tax")
        imported(rates, "rates")
        return fingerprint(imported(shop).price)

    tax, rates = "def added(cents):\n    return cents + 19\n", "RATE = 3\n"
    before = version(tax, rates)
    assert lines(changed(before, version(tax.replace("19", "21"), rates))) == [2]
    assert lines(changed(before, version(tax, "\n\nRATE = 4\n"))) == [3]


def test_equal_code_of_two_files_is_kept_apart(imported: Imported) -> None:
    """Python holds equal code objects of two files for equal; their fingerprints name their own files."""
    source = "def same(value):\n    return value + 1\n"
    one, other = imported(source, "one"), imported(source, "other")
    assert fingerprint(one.same)["file"] == one.__file__
    assert fingerprint(other.same)["file"] == other.__file__


@pytest.mark.parametrize("odd", [len, str, functools.partial(len), None, 5, object(), sys, [].append, print])
def test_odd_callables_have_an_empty_fingerprint(odd: Any) -> None:
    """What has no source of the user's gives nothing and raises nothing."""
    assert fingerprint(odd) == {}


def test_wrapped_functions_are_those_of_the_user(imported: Imported) -> None:
    """Decorators and partials around a function do not hide it."""
    module = imported(SOURCE)

    @functools.wraps(module.price)
    def wrapped(*args: Any) -> Any:
        return module.price(*args)

    assert fingerprint(wrapped) == fingerprint(functools.partial(module.price)) == fingerprint(module.price) != {}


def test_nothing_is_said_without_a_recorded_fingerprint(imported: Imported) -> None:
    """A recording that holds none tells nothing about changes."""
    assert changed({}, fingerprint(imported(SOURCE).price)) == []
