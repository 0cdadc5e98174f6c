"""Canvases that cannot become a plan: each must give a typed error before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.canvas import Signature, chain, chord, group, signature

from tests.conformance.tasks import add, app, const, ident, join, note, pack, scale, start, tag


def cyclic() -> Signature:
    """A group that is a member of itself."""
    canvas = group([start.s("a"), start.s("b")])
    canvas.tasks.append(canvas)
    return canvas


def doubly_cyclic() -> Signature:
    """A group that holds nothing but itself, twice: following it never ends and never meets a task."""
    canvas = group([start.s("a"), start.s("b")])
    canvas.tasks[:] = [canvas, canvas]
    return canvas


def chord_of_itself() -> Signature:
    """A chord whose body is the chord."""
    canvas = chord([note.s("a"), note.s("b")], ident.s())
    canvas.body = canvas
    return canvas


def holding(*members: Any) -> Signature:
    """A group that holds what Celery would not have let in."""
    canvas = group([start.s("a"), start.s("b")])
    canvas.tasks.extend(members)
    return canvas


REFUSED: dict[str, Callable[[], Signature]] = {
    # tasks nobody has
    "unknown-task": lambda: signature("no.such.task", app=app),
    "unknown-task-in-a-group": lambda: group(start.s("a"), signature("no.such.task", app=app)),
    "unknown-task-in-a-callback": lambda: start.s("a").set(link=[signature("no.such.task", app=app)]),
    "unknown-task-in-an-error-handler": lambda: start.s("a").on_error(signature("no.such.task", app=app)),
    "unknown-task-in-a-map": lambda: (
        start.s("a")
        | signature({**scale.map([1]), "kwargs": {"task": signature("no.such.task", app=app), "it": [1]}}, app=app)
    ),
    # arguments that do not fit
    "missing-argument": lambda: add.s(1),
    "missing-argument-behind-a-step": lambda: const.s() | tag.s(),
    "too-many-arguments": lambda: start.s("a", "b"),
    "too-many-arguments-behind-a-step": lambda: start.s("a") | const.s(),
    "too-many-arguments-in-a-chord-body": lambda: chord([const.s(), const.s()], const.s()),
    "unknown-keyword": lambda: add.s(1, 2, c=3),
    "keyword-twice": lambda: add.s(1, 2, a=3),
    "positional-for-keyword-only": lambda: join.s("a", "+"),
    "arguments-a-clone-of-a-group-drops": lambda: group(tag.s("a"), tag.s("b")).clone(args=("given",)),
    "arguments-a-clone-of-a-chain-drops": lambda: (tag.s("a") | tag.s("b")).clone(args=("given",)),
    # values without a form
    "nan": lambda: pack.s(float("nan")),
    "infinity-in-a-keyword": lambda: pack.s(k=[{"deep": float("-inf")}]),
    "object": lambda: pack.s(object()),
    "function": lambda: pack.s(spare=len),
    "lone-surrogate": lambda: pack.s("a\ud800b"),
    "object-in-a-map": lambda: ident.map([1, object()]),
    "cyclic-value": lambda: pack.s(_cyclic_value()),
    # canvases without a meaning
    "empty-chain": lambda: chain(),
    "chain-of-empty-groups-only": lambda: chain(group([]), group([])),
    "chord-without-body": lambda: chord([start.s("a"), start.s("b")]),
    "chord-with-an-empty-chain-as-body": lambda: chord([start.s("a"), start.s("b")], chain()),
    "cyclic-group": cyclic,
    "cyclic-group-without-a-task": doubly_cyclic,
    "cyclic-chord": chord_of_itself,
    "number-among-members": lambda: holding(3),
    "text-among-members": lambda: holding("tests.conformance.tasks.const"),
    "dict-that-is-no-signature": lambda: holding({"no": "task"}),
    # options that would break the promise
    "expires": lambda: start.s("a") | tag.s("b").set(expires=3600),
}


def _cyclic_value() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value
