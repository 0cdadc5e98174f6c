"""Shapes that are one line: single tasks, chains, and every way to hand an argument to a task."""

from __future__ import annotations

from collections.abc import Callable

from celery.canvas import Signature, chain

from tests.conformance.tasks import (
    add,
    const,
    couple,
    ident,
    join,
    note,
    nothing,
    pack,
    record,
    scale,
    spread,
    start,
    sub,
    tag,
    total,
    whoami,
)


def chain_of(links: int) -> Signature:
    """`start` and then `links - 1` additions, so the value counts the links."""
    return chain([const.s(), *(add.s(1) for _ in range(links - 1))])


def grown_by_loop() -> Signature:
    """A chain built the way application code does: one `|=` per line."""
    canvas: Signature = start.s("a")
    for name in ("b", "c", "d"):
        canvas |= tag.s(name)
    return canvas


def shared_prefix() -> Signature:
    """Two canvases grown from one prefix: building the second must not have changed the first."""
    prefix = start.s("a") | tag.s("b")
    kept = prefix | tag.s("kept")
    _other = prefix | tag.s("other")
    return kept


CHAINS: dict[str, Callable[[], Signature]] = {
    # single tasks
    "task": lambda: const.s(),
    "task-with-argument": lambda: start.s("x"),
    "task-with-default-used": lambda: scale.s(4),
    "task-with-default-overridden": lambda: scale.s(4, factor=3),
    "task-keyword-only-parameters": lambda: join.s("a", sep="+", times=3),
    "task-keyword-only-defaults": lambda: join.s("a"),
    "task-positional-and-keyword": lambda: pack.s(1, 2, a=3, b=[4, {"c": 5}]),
    "task-bound": lambda: whoami.s(1, 2),
    "task-immutable": lambda: add.si(1, 2),
    "task-from-signature-method": lambda: add.signature((1, 2), immutable=True),
    "task-subtask-with-options": lambda: add.subtask(args=(1,), kwargs={"b": 2}, queue="celery", priority=3),
    # chains by length
    "chain-2": lambda: chain_of(2),
    "chain-3": lambda: chain_of(3),
    "chain-10": lambda: chain_of(10),
    "chain-40": lambda: chain_of(40),
    # chains by how they are written
    "chain-of-one": lambda: chain(start.s("a")),
    "chain-by-pipe": lambda: start.s("a") | tag.s("b") | tag.s("c"),
    "chain-by-call": lambda: chain(start.s("a"), tag.s("b"), tag.s("c")),
    "chain-by-list": lambda: chain([start.s("a"), tag.s("b"), tag.s("c")]),
    "chain-by-generator": lambda: chain(start.si("a") if i == 0 else tag.s(f"t{i}") for i in range(4)),
    "chain-by-loop": grown_by_loop,
    "chain-keeps-its-prefix": shared_prefix,
    "chain-in-chain-first": lambda: chain(chain(start.s("a"), tag.s("b")), tag.s("c")),
    "chain-in-chain-last": lambda: chain(start.s("a"), chain(tag.s("b"), tag.s("c"))),
    "chain-in-chain-deep": lambda: chain(chain(chain(start.s("a")), chain(tag.s("b"))), chain(chain(tag.s("c")))),
    "chain-pipe-chain": lambda: (start.s("a") | tag.s("b")) | (tag.s("c") | tag.s("d")),
    "chain-same-signature-twice": lambda: (lambda step: start.s("a") | step | step)(tag.s("b")),
    "chain-with-options": lambda: chain(start.s("a"), tag.s("b"), priority=5),
    # what each link receives
    "previous-value-comes-first": lambda: const.s() | sub.s(2),
    "partial-keyword": lambda: const.s() | add.s(b=5),
    "partial-keyword-only": lambda: start.s("a") | join.s(sep="/", times=3),
    "partial-positional-and-keyword": lambda: const.s() | pack.s(1, 2, x=3),
    "partial-default-stays": lambda: const.s() | scale.s(),
    "partial-bound": lambda: const.s() | whoami.s("own"),
    "partial-of-partial": lambda: const.s() | add.s().clone(args=(1,)).replace(args=(3,)),
    "clone-prepends-arguments": lambda: pack.s("own", key="own").clone(args=("new",), kwargs={"key": "new"}),
    "clone-merges-keywords": lambda: const.s() | pack.s(a=1, b=2).clone(kwargs={"b": 3, "c": 4}),
    "clone-of-immutable-keeps-arguments": lambda: const.s() | pack.si("own").clone(args=("new",)),
    "call-on-partial": lambda: start.s("a") | tag.s(name="named"),
    # immutable links
    "immutable-last": lambda: start.s("lost") | const.si(),
    "immutable-middle": lambda: start.s("lost") | const.si() | add.s(1),
    "immutable-every-link": lambda: const.si() | add.si(1, 2) | pack.si("own"),
    "immutable-by-set": lambda: start.s("lost") | add.s(1, 2).set(immutable=True) | add.s(4),
    "immutable-by-method": lambda: start.s("lost") | pack.signature(("own",), immutable=True) | ident.s(),
    "immutable-with-keywords": lambda: start.s("lost") | pack.si(a=1),
    # a step's list is one value, not a group
    "list-value-stays-one-argument": lambda: spread.s(4) | pack.s("own"),
    "list-value-to-total": lambda: spread.s(5) | total.s() | add.s(1),
    "tuple-value": lambda: couple.s(1, 2) | record.s(),
    # None is a value like any other
    "none-is-passed-on": lambda: nothing.s() | pack.s(),
    "none-through-a-chain": lambda: nothing.s(1) | ident.s() | record.s(),
    "none-at-the-end": lambda: start.s("a") | nothing.s(),
    "none-before-immutable": lambda: nothing.s() | const.si() | note.s("x"),
}
