"""Shapes about what travels: falsy and odd values, `map`, `starmap` and `chunks`, lazy generators."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from celery.canvas import Signature, chain, chord, group

from tests.conformance.tasks import (
    add,
    const,
    couple,
    ident,
    note,
    nothing,
    pack,
    record,
    scale,
    size,
    spread,
    start,
    tag,
    total,
    twice,
    whoami,
)

NESTED = {"a": [1, [2, [3, {"b": None}]]], "": "empty key", "list": [[], [[]], {}]}
ODD_TEXT = 'quote " backslash \\ newline \n nul-free é ü 漢字 🙂 \u2028 </script>'


def numbered() -> Iterator[Signature]:
    """A generator Celery may consume only once."""
    for position in range(4):
        yield scale.s(position)


def _deep(levels: int) -> list[object]:
    """A list in a list in a list ..."""
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


VALUES: dict[str, Callable[[], Signature]] = {
    # falsy values are values
    "falsy-zero": lambda: ident.s(0) | record.s(),
    "falsy-false": lambda: ident.s(False) | record.s(),
    "falsy-empty-text": lambda: ident.s("") | record.s(),
    "falsy-empty-list": lambda: ident.s([]) | record.s(),
    "falsy-empty-dict": lambda: ident.s({}) | record.s(),
    "falsy-members-joined": lambda: (
        group(nothing.s(), ident.s(0), ident.s(False), ident.s(""), ident.s([]), ident.s({})) | pack.s()
    ),
    "none-into-chord": lambda: chord([nothing.s(), nothing.s()], pack.s()),
    "none-out-of-chord": lambda: chord([const.s(), const.s()], nothing.s()) | pack.s(),
    # odd values arrive as they left
    "nested-value": lambda: ident.s(NESTED) | ident.s() | pack.s(),
    "odd-text": lambda: ident.s(ODD_TEXT) | ident.s(),
    "text-with-nul": lambda: ident.s("a\0b") | ident.s(),
    "keys-of-every-kind": lambda: ident.s({"b": 1, "a": 2, "": 3, "é": 4, "$ref": 5, "__type__": 6}) | ident.s(),
    "deep-value": lambda: ident.s(_deep(100)) | ident.s(),
    "large-value": lambda: spread.s(5000) | ident.s() | size.s(),
    "big-integer": lambda: ident.s(2**80 + 1) | add.s(1),
    "float-value": lambda: ident.s(0.1) | add.s(0.2),
    "float-with-whole-value": lambda: ident.s(1.0) | record.s(),
    "negative-zero": lambda: ident.s(-0.0) | record.s(),
    "value-that-looks-like-a-signature": lambda: ident.s(dict(add.s(1, 2))) | size.s(),
    "value-that-looks-like-a-reference": lambda: ident.s({"$ref": "1.ident", "step": 1}) | ident.s(),
    "value-that-looks-like-a-tag": lambda: (
        ident.s([{"$tuple": [1, 2]}, {"$set": [1]}, {"$$x": 1}, {"$tuple": [3], "more": 4}]) | ident.s() | pack.s()
    ),
    "argument-that-looks-like-a-signature": lambda: pack.s(dict(add.s(1, 2)), also={"task": "no.such.task"}),
    "tuple-argument": lambda: pack.s((1, (2, 3)), k=(4,)),
    "keyword-named-like-an-option": lambda: pack.s(queue="q", task_id="t", link="l", args=[1], kwargs={"a": 1}),
    "list-of-lists-joined": lambda: group(spread.s(2), spread.s(0), twice.s("a")) | pack.s(),
    "list-member-is-not-spliced": lambda: group(spread.s(2), group(spread.s(3), const.s())) | size.s(),
    # map, starmap, chunks
    "map": lambda: scale.map([1, 2, 3]),
    "map-empty": lambda: scale.map([]),
    "map-by-generator": lambda: scale.map(i for i in range(3)),
    "map-bound": lambda: whoami.map(["a", "b"]),
    "map-over-lists": lambda: total.map([[1, 2], [3], []]),
    "starmap": lambda: add.starmap([(1, 2), (3, 4)]),
    "starmap-empty": lambda: add.starmap([]),
    "map-then-task": lambda: scale.map([1, 2, 3]) | total.s() | add.s(1),
    "task-then-map": lambda: start.s("lost") | scale.map([1, 2]) | total.s(),
    "map-in-group": lambda: group(scale.map([1, 2]), add.starmap([(1, 2)]), const.s()),
    "map-in-chord-header": lambda: chord([scale.map([1, 2]), add.starmap([(1, 2), (3, 4)])], pack.s()),
    "map-in-group-behind-task": lambda: const.s() | group(scale.map([1, 2]), add.s(1)) | note.s(),
    "chunks": lambda: add.chunks([(i, i) for i in range(7)], 3),
    "chunks-group": lambda: add.chunks([(i, i) for i in range(7)], 3).group(),
    "chunks-exact": lambda: add.chunks([(i, 1) for i in range(4)], 2).group(),
    "chunks-of-one-chunk": lambda: add.chunks([(1, 2)], 5).group(),
    "chunks-group-then-task": lambda: add.chunks([(i, i) for i in range(5)], 2).group() | pack.s(),
    "chunks-one-chunk-then-task": lambda: add.chunks([(1, 2)], 5).group() | pack.s(),
    "chunks-group-skewed": lambda: add.chunks(((i, i) for i in range(4)), 3).group() | size.s(),
    "chunks-then-task": lambda: add.chunks([(i, i) for i in range(5)], 2) | pack.s(),
    "task-then-chunks": lambda: start.s("lost") | add.chunks([(i, i) for i in range(5)], 2),
    "task-then-chunks-group": lambda: start.s("lost") | add.chunks([(i, i) for i in range(5)], 2).group() | pack.s(),
    "chunks-unexpanded-in-group": lambda: group(add.chunks([(1, 1), (2, 2), (3, 3)], 2), const.s()),
    "chunks-in-group": lambda: group(add.chunks([(1, 1), (2, 2), (3, 3)], 2).group(), const.s()),
    # lazy generators
    "lazy-group": lambda: group(numbered()),
    "lazy-group-then-task": lambda: group(numbered()) | total.s(),
    "lazy-chord": lambda: chord(numbered(), total.s()),
    "lazy-chain": lambda: chain(start.si(name) if name == "a" else tag.s(name) for name in "abc"),
    "lazy-group-of-lazy-chains": lambda: group(chain(start.s(n), tag.s("x")) for n in "ab") | note.s(),
    "lazy-group-holding-groups": lambda: group(group(start.s(n), start.s(n * 2)) for n in "ab"),
    "lazy-group-holding-groups-behind-task": lambda: start.s("a") | group(group(tag.s(n), tag.s(n * 2)) for n in "bc"),
    "lazy-group-holding-groups-then-task": lambda: (
        start.s("a") | group(group(tag.s(n), tag.s(n * 2)) for n in "bc") | note.s("end")
    ),
    "lazy-group-behind-task": lambda: const.s() | group(add.s(i) for i in range(3)) | couple.s("end"),
}
