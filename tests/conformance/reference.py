"""The value each shape must have: what plain Celery returns for it.

Truth is Celery's eager value (`canvas.apply()`), in depth-first, left-to-right order, as JSON. Where eager Celery
raises, or a real worker disagrees with it, `tests.conformance.documented` states the value and says why; what a
worker answers is measured by `tests.conformance.plain_celery`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.canvas import Signature
from celery.result import GroupResult, ResultBase, allow_join_result

from tests.conformance.documented import DOCUMENTED
from tests.conformance.shapes import SHAPES
from tests.conformance.tasks import app


def expected(name: str) -> Any:
    """The value the shape must have, here and in every transport."""
    if name in DOCUMENTED:
        return DOCUMENTED[name].value
    return reference(SHAPES[name]())


def text(value: Any) -> str:
    """A JSON value as text, for comparing: 1, 1.0 and True differ, the order of keys does not matter."""
    return json.dumps(value, sort_keys=True)


def as_json(value: Any) -> Any:
    """The value after a trip through JSON: tuples are lists, and results inside it are what they resolve to."""
    return json.loads(json.dumps(_resolved(value), allow_nan=False))


def reference(canvas: Signature) -> Any:
    """What eager Celery returns for the canvas, groups as lists; raises what eager Celery raises."""
    with _eager():
        return as_json(canvas.apply())


@contextmanager
def _eager() -> Iterator[None]:
    """Callbacks and `chunks` publish even under `apply()` unless the app itself is eager."""
    before = app.conf.task_always_eager
    app.conf.task_always_eager = True
    try:
        with allow_join_result():
            yield
    finally:
        app.conf.task_always_eager = before


def _resolved(value: Any) -> Any:
    if isinstance(value, GroupResult):
        return [_resolved(member) for member in value.results]
    if isinstance(value, ResultBase):
        return _resolved(value.get())
    if isinstance(value, list | tuple):
        return [_resolved(item) for item in value]
    if isinstance(value, dict):
        return {key: _resolved(item) for key, item in value.items()}
    return value
