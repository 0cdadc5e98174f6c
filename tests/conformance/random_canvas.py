"""Random canvases for property tests: chains, groups, chords, maps and wire trips nested in each other.

A *sketch* is the plain JSON description of a canvas: it shrinks and prints well, and `build` makes a fresh canvas
of it as often as one is needed (Celery changes canvases in place when it runs them). Every leaf takes any
arguments and carries its own number, so a value shows the order and the arguments of everything that ran.
"""

from __future__ import annotations

import itertools
import json
import operator
from collections.abc import Iterator
from functools import reduce
from typing import Any

from celery.canvas import Signature, chain, chord, group, signature
from hypothesis import strategies as st

from tests.conformance.oracle import CeleryRaised, reference
from tests.conformance.tasks import app, note, nothing, pack, scale, whoami

Sketch = list[Any]
"""["task", how, args, kwargs] | ["map", items] | ["wire", sketch] | ["chain" or "group", how, members] |
["chord", header members, body]"""

LEAVES = {"note": note, "pack": pack, "whoami": whoami, "nothing": nothing}

# First in each tuple is what hypothesis shrinks to; the repetitions are weights.
LEAF_KINDS = ("note.s",) * 6 + ("note.si", "note.si", "pack.s", "pack.si", "whoami.s", "nothing.s", "map")
BRANCH_KINDS = ("chain",) * 5 + ("group",) * 4 + ("chord",) * 3 + ("wire",)
WIDTHS = (2, 2, 2, 3, 3, 4, 1, 0)
CHAINED_HOW = ("pipe", "call", "list", "options")
GROUPED_HOW = ("list", "call", "lazy")
ARGUMENTS: tuple[list[Any], ...] = ([], [], [], ["x"], [None], [[1, ["é"]]], [{"a": [{}], "b": False}], [0, -1.5])
KEYWORDS: tuple[dict[str, Any], ...] = ({}, {}, {}, {"k": 1}, {"k": None, "l": [[]]})


@st.composite
def _leaf(draw: st.DrawFn) -> Sketch:
    kind = draw(st.sampled_from(LEAF_KINDS))
    if kind == "map":
        return ["map", draw(st.lists(st.integers(0, 5), max_size=3))]
    takes_keywords = kind.startswith(("note", "pack"))
    keywords = draw(st.sampled_from(KEYWORDS)) if takes_keywords else {}
    return ["task", kind, draw(st.sampled_from(ARGUMENTS)), keywords]


@st.composite
def _branch(draw: st.DrawFn, levels: int) -> Sketch:
    def inner() -> Sketch:
        is_branch = levels > 1 and draw(st.booleans())
        return draw(_branch(levels - 1) if is_branch else _leaf())

    def some(width: int) -> list[Sketch]:
        return [inner() for _ in range(width)]

    width = draw(st.sampled_from(WIDTHS))
    match draw(st.sampled_from(BRANCH_KINDS)):
        case "chain":
            return ["chain", draw(st.sampled_from(CHAINED_HOW)), some(max(width, 1))]
        case "group":
            return ["group", draw(st.sampled_from(GROUPED_HOW)), some(width)]
        case "chord":
            return ["chord", some(width), inner()]
    return ["wire", inner()]


def sketches(levels: int = 3) -> st.SearchStrategy[Sketch]:
    """Descriptions of canvases that eager Celery can run, at most `levels` of nesting around the tasks."""
    return st.one_of(_leaf(), *[_branch(levels)] * 9).filter(runs_eagerly)


def canvases(levels: int = 3) -> st.SearchStrategy[Signature]:
    """Fresh random canvases; use `sketches` and `build` where one canvas is needed more than once."""
    return sketches(levels).map(build)


def build(sketch: Sketch) -> Signature:
    """The canvas a sketch describes; its leaves are numbered depth-first from 1."""
    return _build(sketch, itertools.count(1))


def runs_eagerly(sketch: Sketch) -> bool:
    """Whether Celery can build the canvas and run it eagerly; where it raises there is no value to compare with."""
    try:
        reference(sketch)
    except CeleryRaised:
        return False
    return True


def _build(sketch: Sketch, numbers: Iterator[int]) -> Signature:
    match sketch:
        case ["task", how, args, kwargs]:
            name, method = how.split(".")
            signed: Signature = getattr(LEAVES[name], method)(f"#{next(numbers)}", *args, **kwargs)
            return signed
        case ["map", items]:
            return scale.map(items)
        case ["wire", inner]:
            return signature(json.loads(json.dumps(_build(inner, numbers))), app=app)
        case ["chain", how, members]:
            return _chained(how, [_build(member, numbers) for member in members])
        case ["group", "list", members]:
            return group([_build(member, numbers) for member in members])
        case ["group", "call", members]:
            return group(*(_build(member, numbers) for member in members))
        case ["group", "lazy", members]:
            built = [_build(member, numbers) for member in members]
            return group(member for member in built)
        case ["chord", header, body]:
            built = [_build(member, numbers) for member in header]
            return chord(built, _build(body, numbers))
    raise ValueError(f"not a sketch: {sketch!r}")


def _chained(how: str, members: list[Signature]) -> Signature:
    match how:
        case "pipe":
            return reduce(operator.or_, members)
        case "call":
            return chain(*members)
        case "list":
            return chain(members)
        case "options":  # with an option, Celery keeps the members as they are instead of folding them
            return chain(*members, priority=3)
    raise ValueError(f"not a way to build a chain: {how!r}")
