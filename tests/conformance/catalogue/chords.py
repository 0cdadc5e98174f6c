"""Shapes that join by name: chord headers and bodies of every kind, inside and behind everything else."""

from __future__ import annotations

from collections.abc import Callable

from celery.canvas import Signature, chain, chord, group

from tests.conformance.tasks import (
    add,
    const,
    ident,
    note,
    pack,
    scale,
    size,
    start,
    tag,
    total,
    twice,
)


def mapped(n: int) -> Signature:
    """A chord over n members that carry their own position."""
    return chord([scale.s(i) for i in range(n)], total.s())


def called_with_body() -> Signature:
    """`chord(header)(body)` would run it; the canvas is the header with its body put in later."""
    canvas = chord([start.s("a"), start.s("b")])
    canvas.body = note.s()
    return canvas


CHORDS: dict[str, Callable[[], Signature]] = {
    # headers
    "chord-list-header": lambda: chord([start.s("a"), start.s("b")], note.s()),
    "chord-tuple-header": lambda: chord((start.s("a"), start.s("b")), note.s()),
    "chord-group-header": lambda: chord(group(start.s("a"), start.s("b")), note.s()),
    "chord-generator-header": lambda: chord((start.s(f"g{i}") for i in range(3)), note.s()),
    "chord-one-member": lambda: chord([start.s("a")], pack.s()),
    "chord-empty-header": lambda: chord([], pack.s()),
    "chord-task-as-header": lambda: chord(start.s("a"), pack.s()),
    "chord-chain-as-header": lambda: chord(chain(start.s("a"), start.si("b")), pack.s()),
    "chord-wide": lambda: mapped(50),
    "chord-nested-group-header": lambda: chord(group(group(start.s("a"), start.s("b")), start.s("c")), note.s()),
    "chord-header-of-groups": lambda: chord(
        [group(start.s("a"), start.s("b")), group(start.s("c"), start.s("d"))], note.s()
    ),
    "chord-header-of-chains": lambda: chord([start.s("a") | tag.s("b"), start.s("c") | tag.s("d")], note.s()),
    "chord-header-member-ends-in-group": lambda: chord(
        [start.s("a") | group(tag.s("b"), tag.s("c")), start.s("d")], note.s()
    ),
    "chord-header-with-empty-group": lambda: chord([start.s("a"), group([]), start.s("b")], note.s()),
    "chord-header-only-empty-group": lambda: chord([group([])], pack.s()),
    # bodies
    "chord-body-later": called_with_body,
    "chord-body-immutable": lambda: chord([start.s("a"), start.s("b")], const.si()),
    "chord-body-partial": lambda: chord([start.s("a"), start.s("b")], pack.s("own", k=1)),
    "chord-body-chain": lambda: chord([const.s(), const.s()], total.s() | add.s(1) | add.s(2)),
    "chord-body-group": lambda: chord([const.s(), const.s()], group(total.s(), size.s())),
    "chord-body-chain-ends-in-group": lambda: chord([const.s(), const.s()], total.s() | group(add.s(1), add.s(2))),
    "chord-body-group-then-task": lambda: chord([const.s(), const.s()], group(total.s(), size.s()) | note.s()),
    "chord-body-chord": lambda: chord([const.s(), const.s()], chord([total.s(), size.s()], pack.s())),
    "chord-body-nested-group": lambda: chord([const.s(), const.s()], group(group(total.s(), size.s()), pack.s())),
    "chord-body-empty-group": lambda: chord([const.s(), const.s()], group([])),
    "chord-body-empty-group-then-task": lambda: chord([const.s(), const.s()], group([])) | pack.s(),
    "chord-body-empty-group-in-unfolded-chain": lambda: chain(
        start.s("a"), chord([tag.s("b"), tag.s("c")], group([])), pack.s(), priority=3
    ),
    "chord-body-empty-group-behind-task-then-tasks": lambda: (
        start.s("a") | chord([tag.s("b"), tag.s("c")], group([])) | pack.s() | ident.s()
    ),
    "chord-body-one-member-group": lambda: chord([const.s(), const.s()], group([total.s()])),
    "chord-body-one-member-group-then-task": lambda: chord([const.s(), const.s()], group([total.s()])) | pack.s(),
    "chord-body-one-member-group-then-chain": lambda: (
        chord([const.s(), const.s()], group([total.s()])) | (pack.s() | ident.s())
    ),
    "chord-body-map": lambda: chord([const.s(), const.s()], scale.map([1, 2])),
    "chord-header-member-ends-in-one-member-group": lambda: chord(
        [chain(start.s("a"), group([tag.s("b")]), priority=3), start.s("c")], note.s()
    ),
    # in a chain
    "task-then-chord": lambda: start.s("a") | chord([tag.s("b"), tag.s("c")], note.s()),
    "task-then-chord-immutable-member": lambda: start.s("a") | chord([tag.s("b"), start.si("c")], note.s()),
    "task-then-chord-empty-header": lambda: start.s("a") | chord([], pack.s()),
    "task-chord-empty-header-task": lambda: start.s("a") | chord([], pack.s()) | note.s("end"),
    "chord-then-task": lambda: chord([const.s(), const.s()], total.s()) | add.s(1),
    "chord-then-chain": lambda: chord([const.s(), const.s()], total.s()) | (add.s(1) | add.s(2)),
    "chord-then-group": lambda: chord([const.s(), const.s()], total.s()) | group(add.s(1), add.s(2)),
    "chord-then-one-member-group": lambda: chord([const.s(), const.s()], total.s()) | group([add.s(1)]),
    "chord-then-group-then-task": lambda: (
        chord([const.s(), const.s()], total.s()) | group(add.s(1), add.s(2)) | note.s("end")
    ),
    "chord-then-chord": lambda: chord([const.s(), const.s()], total.s()) | chord([add.s(1), add.s(2)], total.s()),
    "three-chords-in-a-row": lambda: chain(
        chord([const.s(), const.s()], total.s()),
        chord([add.s(1), add.s(2)], total.s()),
        chord([add.s(3), add.s(4), add.s(5)], note.s()),
    ),
    "group-then-chord": lambda: group(const.s(), const.s()) | chord([total.s(), size.s()], note.s()),
    "chord-group-body-then-task": lambda: chord([const.s(), const.s()], group(total.s(), size.s())) | note.s("end"),
    "task-chord-task-chord-task": lambda: (
        const.s()
        | chord([add.s(1), add.s(2)], total.s())
        | add.s(1)
        | chord([add.s(1), add.s(2)], total.s())
        | note.s("end")
    ),
    # inside groups and chords
    "group-of-chords": lambda: group(mapped(2), mapped(3), start.s("a")),
    "group-of-chords-then-task": lambda: group(mapped(2), mapped(3)) | total.s(),
    "chord-of-chords": lambda: chord([mapped(2), mapped(3)], total.s()),
    "chord-of-chords-of-chords": lambda: chord(
        [chord([mapped(2), const.s()], total.s()), mapped(3) | add.s(1)], note.s("end")
    ),
    "chord-member-with-group-body": lambda: chord(
        [chord([const.s(), const.s()], group(total.s(), size.s())), start.s("a")], note.s()
    ),
    "group-member-with-group-body": lambda: group(
        chord([const.s(), const.s()], group(total.s(), size.s())), start.s("a")
    ),
    "group-member-chord-behind-task": lambda: (
        const.s() | group(add.s(1) | chord([add.s(1), add.s(2)], total.s()), twice.s()) | note.s("end")
    ),
    "group-task-in-group-in-chain": lambda: (
        start.s("a") | group(group(tag.s("b"), tag.s("c")) | note.s("d"), tag.s("e") | ident.s()) | note.s("end")
    ),
    "group-upgraded-inside-group": lambda: group(group(start.s("a"), start.s("b")) | note.s("c"), start.s("d")),
    "empty-chord-inside-group": lambda: start.s("a") | group(chord([], pack.s()), tag.s("b")) | note.s("end"),
    "chord-header-all-immutable-in-chain": lambda: (
        start.s("lost") | chord([start.si("b"), start.si("c")], note.s()) | note.s("end")
    ),
}
