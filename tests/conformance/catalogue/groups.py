"""Shapes that fan out and do not join again, or join because a chain goes on behind them."""

from __future__ import annotations

from collections.abc import Callable

from celery.canvas import Signature, chain, group

from tests.conformance.tasks import (
    add,
    const,
    ident,
    join,
    note,
    nothing,
    pack,
    scale,
    size,
    spread,
    start,
    sub,
    tag,
    total,
    twice,
    whoami,
)


def members(n: int) -> Signature:
    """A group of n members that carry their own position."""
    return group(scale.s(i) for i in range(n))


def pyramid() -> Signature:
    """Fan-outs of three, two and one with a join between each."""
    return (
        start.s("a")
        | group(tag.s("b1"), tag.s("b2"), tag.s("b3"))
        | note.s("j")
        | group(tag.s("c1"), tag.s("c2"))
        | note.s("k")
        | group(tag.s("d1"))
        | note.s("l")
    )


GROUPS: dict[str, Callable[[], Signature]] = {
    # by width
    "group-0": lambda: group([]),
    "group-1": lambda: group([start.s("a")]),
    "group-2": lambda: group(start.s("a"), start.s("b")),
    "group-7": lambda: members(7),
    "group-50": lambda: members(50),
    # by how it is written
    "group-by-list": lambda: group([start.s("a"), start.s("b")]),
    "group-by-tuple": lambda: group((start.s("a"), start.s("b"))),
    "group-by-generator": lambda: group(start.s(f"g{i}") for i in range(3)),
    "group-of-group": lambda: group(group(start.s("a"), start.s("b"))),
    "group-of-one-chain": lambda: group(start.s("a") | tag.s("b")),
    "group-same-signature-twice": lambda: (lambda step: group(step, step))(start.s("a")),
    "group-with-options": lambda: group([start.s("a"), start.s("b")], priority=4),
    "group-mixed-members": lambda: group(const.s(), whoami.s(1), join.s("a"), nothing.s(), pack.si(a=1)),
    # nested groups are one flat list, left to right
    "group-in-group": lambda: group(group(start.s("a"), start.s("b")), start.s("c")),
    "group-in-group-last": lambda: group(start.s("a"), group(start.s("b"), start.s("c"))),
    "group-in-group-three-deep": lambda: group(
        start.s("a"), group(start.s("b"), group(start.s("c"), start.s("d"))), start.s("e")
    ),
    "group-in-group-then-task": lambda: group(group(start.s("a"), start.s("b")), start.s("c")) | note.s(),
    "group-with-empty-group": lambda: group(start.s("a"), group([]), start.s("b")),
    "group-of-empty-groups": lambda: group(group([]), group([])),
    "group-only-of-an-empty-chain": lambda: group([chain()]),
    "task-then-group-with-empty-chain": lambda: start.s("a") | group(chain(), tag.s("b"), chain()),
    "task-then-group-of-empty-groups": lambda: start.s("a") | group(group([]), group([])),
    "task-then-group-of-empty-groups-task": lambda: start.s("a") | group(group([]), group([])) | pack.s(),
    "group-with-empty-chain": lambda: group(start.s("a"), chain(), start.s("b")),
    # behind a task
    "task-then-group": lambda: start.s("a") | group(tag.s("b"), tag.s("c")),
    "task-then-group-immutable-member": lambda: start.s("a") | group(tag.s("b"), start.si("c"), tag.s("d")),
    "task-then-group-all-immutable": lambda: start.s("a") | group(start.si("b"), start.si("c")),
    "task-then-group-keywords": lambda: start.s("a") | group(pack.s(k=1), pack.s(2, k=3)),
    "task-then-group-in-group": lambda: start.s("a") | group(group(tag.s("b"), tag.s("c")), tag.s("d")),
    "list-value-then-group": lambda: spread.s(3) | group(total.s(), size.s(), pack.s()),
    "none-then-group": lambda: nothing.s() | group(pack.s(), ident.s()),
    "group-set-immutable": lambda: start.s("a") | _frozen_members(),
    # chains inside
    "group-of-chains": lambda: group(start.s("a") | tag.s("b"), start.s("c") | tag.s("d") | tag.s("e")),
    "group-of-chains-then-task": lambda: group(start.s("a") | tag.s("b"), start.s("c") | tag.s("d")) | note.s(),
    "group-of-unequal-chains": lambda: (
        start.s("a") | group(tag.s("b"), tag.s("c") | tag.s("d") | tag.s("e") | tag.s("f")) | note.s()
    ),
    "member-chain-immutable-first-link": lambda: start.s("a") | group(start.si("b") | tag.s("c"), tag.s("d")),
    # a member that ends in a group stays a list of its own
    "member-ends-in-group": lambda: group(start.s("a") | group(tag.s("b"), tag.s("c")), start.s("d")),
    "member-ends-in-group-then-task": lambda: (
        group(start.s("a") | group(tag.s("b"), tag.s("c")), start.s("d")) | note.s()
    ),
    "every-member-ends-in-group": lambda: group(
        start.s("a") | group(tag.s("b"), tag.s("c")), start.s("d") | group(tag.s("e"), tag.s("f"))
    ),
    "every-member-ends-in-group-then-task": lambda: (
        group(start.s("a") | group(tag.s("b"), tag.s("c")), start.s("d") | group(tag.s("e"), tag.s("f"))) | note.s()
    ),
    "only-member-ends-in-group": lambda: group(start.s("a") | group(tag.s("b"), tag.s("c"))),
    "nested-lists-three-deep": lambda: group(
        start.s("a") | group(tag.s("b") | group(tag.s("c"), tag.s("d")), tag.s("e")), start.s("f")
    ),
    # a chain that goes on behind a group joins it
    "group-then-task": lambda: group(start.s("a"), start.s("b")) | note.s(),
    "group-then-partial": lambda: group(const.s(), const.s()) | pack.s("own", k=1),
    "group-then-immutable": lambda: group(start.s("a"), start.s("b")) | const.si(),
    "group-then-chain": lambda: group(const.s(), const.s()) | (total.s() | add.s(1) | sub.s(2)),
    "group-task-group": lambda: group(start.s("a"), start.s("b")) | note.s() | group(tag.s("c"), tag.s("d")),
    "group-task-group-task": lambda: (
        group(start.s("a"), start.s("b")) | note.s("j") | group(tag.s("c"), tag.s("d")) | note.s("k")
    ),
    "group-task-task-group-task-task": lambda: (
        group(const.s(), const.s()) | total.s() | add.s(1) | group(add.s(1), add.s(2)) | total.s() | add.s(3)
    ),
    "diamond": lambda: start.s("a") | group(tag.s("b"), tag.s("c")) | note.s("d"),
    "diamond-of-diamonds": lambda: (
        start.s("a")
        | group(tag.s("b") | group(tag.s("c"), tag.s("d")) | note.s(), tag.s("e") | group(tag.s("f")) | note.s())
        | note.s("end")
    ),
    "pyramid": pyramid,
    "wide-join": lambda: members(50) | total.s(),
    # group after group: every member of the second receives the whole list
    "group-pipe-group": lambda: group(const.s(), const.s()) | group(total.s(), size.s()),
    "three-groups-in-a-row": lambda: (
        group(start.s("a"), start.s("b")) | group(note.s("c"), note.s("d")) | group(note.s("e"), note.s("f"))
    ),
    "three-groups-in-a-row-then-task": lambda: (
        group(const.s(), const.s()) | group(total.s(), size.s()) | group(total.s(), size.s()) | total.s()
    ),
    "task-three-groups-task": lambda: (
        start.s("a")
        | group(tag.s("b"), tag.s("c"))
        | group(note.s("d"), note.s("e"))
        | group(note.s("f"), note.s("g"))
        | note.s("end")
    ),
    "group-pipe-group-then-task": lambda: group(const.s(), const.s()) | group(total.s(), size.s()) | note.s(),
    "task-group-group-task": lambda: const.s() | group(add.s(1), add.s(2)) | group(total.s(), twice.s()) | note.s(),
    "group-pipe-group-immutable": lambda: group(const.s(), const.s()) | group(start.si("a"), total.s()),
    # one-member groups: unrolled where Celery unrolls, a list where it does not
    "one-member-then-task": lambda: group([start.s("a")]) | pack.s(),
    "task-one-member": lambda: start.s("a") | group([tag.s("b")]),
    "task-one-member-task": lambda: start.s("a") | group([tag.s("b")]) | pack.s(),
    "task-one-member-group": lambda: start.s("a") | group([tag.s("b")]) | group(pack.s(), ident.s()),
    "chain-call-one-member-first": lambda: chain(group([start.s("a")]), pack.s()),
    "one-member-by-generator-then-task": lambda: group(start.s("a") for _ in range(1)) | pack.s(),
    "task-one-member-by-generator-task": lambda: start.s("a") | group(tag.s("b") for _ in range(1)) | pack.s(),
    "one-member-nested": lambda: start.s("a") | group([group([tag.s("b")])]) | pack.s(),
    "one-member-then-group": lambda: group([start.s("a")]) | group(pack.s(), size.s()),
    "one-member-of-one-member": lambda: group([group([group([start.s("a")])])]),
    "one-member-at-the-end-of-unfolded-chain": lambda: chain(start.s("a"), group([tag.s("b")]), priority=3),
    "one-member-in-unfolded-chain": lambda: chain(start.s("a"), group([tag.s("b")]), pack.s(), priority=3),
    # empty groups
    "empty-group-first": lambda: group([]) | pack.s(),
    "empty-group-first-in-chain-call": lambda: chain(group([]), start.s("a"), tag.s("b")),
    "empty-group-middle": lambda: start.s("a") | group([]) | tag.s("b"),
    "empty-group-middle-of-chain-call": lambda: chain(start.s("a"), group([]), tag.s("b")),
    "empty-group-last": lambda: start.s("a") | group([]),
    "empty-group-last-of-chain-call": lambda: chain(start.s("a"), tag.s("b"), group([])),
    "empty-group-by-generator-middle": lambda: chain(start.s("a"), group(iter(())), tag.s("b")),
    "empty-group-after-group": lambda: group(start.s("a"), start.s("b")) | group([]),
    "empty-groups-everywhere": lambda: chain(group([]), start.s("a"), group([]), group([]), tag.s("b"), group([])),
    "unfolded-chain-of-empty-groups": lambda: chain(group([]), group([]), priority=3),
    "unfolded-chain-of-empty-groups-as-member": lambda: (
        start.s("a") | group(chain(group([]), group([]), priority=3), tag.s("b"))
    ),
    "unfolded-chain-of-empty-groups-as-step": lambda: chain(
        start.s("a"), chain(group([]), priority=3), tag.s("b"), priority=3
    ),
    "empty-group-as-chord-body-of-a-member": lambda: group(group(start.s("a"), start.s("b")) | group([]), start.s("c")),
    "empty-group-in-unfolded-chain": lambda: chain(start.s("a"), group([]), tag.s("b"), group([]), priority=3),
}


def _frozen_members() -> Signature:
    """A group whose members were made immutable after it was built."""
    canvas = group(start.s("b"), start.s("c"))
    canvas.set_immutable(True)
    return canvas
