"""The reference itself: what this suite says about plain Celery is what plain Celery does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conformance.documented import AGREES, DOCUMENTED, NoValue, Raises
from tests.conformance.oracle import ROOT, CeleryRaised, eager, expected, text
from tests.conformance.shapes import SHAPES

HANGING = [name for name, entry in DOCUMENTED.items() if isinstance(entry.worker, NoValue) and entry.worker.hangs]


def test_the_catalogue_is_large_and_names_no_ghosts() -> None:
    """At least the 60 shapes that issue 2 asks for, and no documented shape that does not exist."""
    assert len(SHAPES) >= 60
    assert set(DOCUMENTED) <= set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_eager_celery_gives_what_is_documented(name: str) -> None:
    """Eager Celery runs every shape, except those documented to raise, and gives what the entry says."""
    entry = DOCUMENTED.get(name)
    if entry is not None and isinstance(entry.eager, Raises):
        with pytest.raises(CeleryRaised, match=entry.eager.error):
            eager(name)
    elif entry is not None:
        assert text(eager(name)) == text(entry.value if entry.eager is AGREES else entry.eager)
    else:
        eager(name)


@pytest.fixture(scope="session")
def outcomes() -> dict[str, dict[str, Any]]:
    """What a real Celery worker with a real result backend makes of every shape that it can finish."""
    names = [name for name in SHAPES if name not in HANGING]
    command = [sys.executable, "-m", "tests.conformance.plain", "measure", *names]
    answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    measured: dict[str, dict[str, Any]] = json.loads(answer.stdout)
    return measured


@pytest.mark.worker
@pytest.mark.services
@pytest.mark.timeout(240)
@pytest.mark.xdist_group("plain-celery-worker")
@pytest.mark.parametrize("name", [name for name in SHAPES if name not in HANGING])
def test_a_plain_celery_worker_agrees_unless_documented(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    """A worker's value is the expected one, or the other one that the entry states."""
    outcome = outcomes[name]
    stated = DOCUMENTED[name].worker if name in DOCUMENTED else AGREES
    if isinstance(stated, Raises):
        assert outcome.get("raised", "no error").startswith(stated.error)
    elif isinstance(stated, NoValue):
        assert text(outcome.get("value")) != text(expected(name))
    else:
        assert "value" in outcome, outcome
        assert text(outcome["value"]) == text(expected(name) if stated is AGREES else stated)
