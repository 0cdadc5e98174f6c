"""The value each shape must have: what plain Celery returns for it, asked of a process that runs nothing else.

Truth is Celery's eager value (`canvas.apply()`), in depth-first, left-to-right order, as JSON. Where eager Celery
raises, or a real worker disagrees with it, `tests.conformance.documented` states the value and says why; what a
worker answers is measured by `python -m tests.conformance.plain measure`.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.conformance.documented import DOCUMENTED

ROOT = Path(__file__).parents[2]


class CeleryRaised(Exception):
    """Plain Celery raised instead of giving a value; the text is "Type: message"."""


def expected(name: str) -> Any:
    """The value the shape must have, here and in every transport."""
    return DOCUMENTED[name].value if name in DOCUMENTED else eager(name)


@cache
def eager(name: str) -> Any:
    """Eager Celery's value of a shape of the catalogue; raises CeleryRaised."""
    return _oracle().ask({"shape": name})


def reference(sketch: list[Any]) -> Any:
    """Eager Celery's value of the canvas that a sketch of `tests.conformance.random_canvas` describes."""
    return _oracle().ask({"sketch": sketch})


def text(value: Any) -> str:
    """A JSON value as text, for comparing: 1, 1.0 and True differ, tuples are lists, order of keys is no matter."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


class Oracle:
    """A child process that runs plain Celery eagerly; it ends with its stdin, so it cannot outlive this one."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.conformance.plain", "eager"]
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdin is not None
        assert child.stdout is not None
        self._child, self._questions, self._answers = child, child.stdin, child.stdout

    def ask(self, question: dict[str, Any]) -> Any:
        """The value; raises CeleryRaised."""
        self._questions.write(json.dumps(question) + "\n")
        self._questions.flush()
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"plain Celery ended with exit code {self._child.wait()} at {question!r}")
        outcome = json.loads(line)
        if "raised" in outcome:
            raise CeleryRaised(outcome["raised"])
        return outcome["value"]

    def close(self) -> None:
        """Let it end and wait for it."""
        self._questions.close()
        self._child.wait()
        self._answers.close()


@cache
def _oracle() -> Oracle:
    oracle = Oracle()
    atexit.register(oracle.close)
    return oracle
