"""Shapes about the canvas as an object: JSON round trips, clones, options, callbacks, stamps, partial composites."""

from __future__ import annotations

import json
from collections.abc import Callable

from celery.canvas import Signature, StampingVisitor, chain, chord, group, signature

from tests.conformance.tasks import (
    add,
    app,
    const,
    ident,
    note,
    pack,
    scale,
    start,
    sub,
    tag,
    total,
    whoami,
)


def by_wire(canvas: Signature) -> Signature:
    """The canvas after a trip through JSON, as it comes out of a message or a database."""
    return signature(json.loads(json.dumps(canvas)), app=app)


def linked(canvas: Signature, *callbacks: Signature) -> Signature:
    """The canvas with success callbacks, which run beside it and change nothing in its value."""
    for callback in callbacks:
        canvas.link(callback)
    return canvas


def stamped(canvas: Signature, visitor: StampingVisitor | None = None) -> Signature:
    """The canvas with a stamp, which travels in its options and changes nothing in its value."""
    canvas.stamp(visitor, tenant="conformance")
    return canvas


def with_arguments(canvas: Signature, *args: object) -> Signature:
    """The canvas with positional arguments of its own, which its first tasks receive."""
    canvas.args = args
    return canvas


class Numbering(StampingVisitor):  # type: ignore[misc]
    """Stamps each task with its place in the order of visiting."""

    def __init__(self) -> None:
        self.count = 0

    def on_signature(self, sig: Signature, **headers: object) -> dict[str, object]:
        self.count += 1
        return {"place": self.count}


def frozen(canvas: Signature) -> Signature:
    """The canvas after Celery's freeze, whose leftovers (ids, groups, chords) are no part of its meaning."""
    canvas.freeze()
    return canvas


def built_in_a_function(words: list[str]) -> Signature:
    """A canvas that a function builds from data."""
    branches = [start.s(word) | tag.s("seen") for word in words]
    return group(branches) | note.s(count=len(words))


def nested_function(depth: int) -> Signature:
    """A canvas built by recursion: a binary tree of joins."""
    if depth == 0:
        return const.s()
    return chord([nested_function(depth - 1), nested_function(depth - 1)], total.s())


def diamond() -> Signature:
    return start.s("a") | group(tag.s("b"), tag.s("c") | tag.s("d")) | note.s("end")


WIRE: dict[str, Callable[[], Signature]] = {
    # JSON round trips
    "wire-task": lambda: by_wire(pack.s(1, k=2)),
    "wire-immutable": lambda: by_wire(start.s("lost") | pack.si(1)),
    "wire-chain": lambda: by_wire(start.s("a") | tag.s("b") | tag.s("c")),
    "wire-group": lambda: by_wire(group(start.s("a"), start.s("b"))),
    "wire-lazy-group": lambda: by_wire(group(scale.s(i) for i in range(3))),
    "wire-empty-group": lambda: by_wire(group([])),
    "wire-chord": lambda: by_wire(chord([start.s("a"), start.s("b")], note.s())),
    "wire-chord-empty-header": lambda: by_wire(chord([], pack.s())),
    "wire-chord-group-header": lambda: by_wire(chord(group(start.s("a"), start.s("b")), note.s())),
    "wire-diamond": lambda: by_wire(diamond()),
    "wire-twice": lambda: by_wire(by_wire(diamond())),
    "wire-nested-groups": lambda: by_wire(group(group(start.s("a"), start.s("b")), start.s("c")) | note.s()),
    "wire-chord-of-chords": lambda: by_wire(nested_function(2)),
    "wire-map": lambda: by_wire(scale.map([1, 2, 3])),
    "wire-starmap": lambda: by_wire(add.starmap([(1, 2), (3, 4)])),
    "wire-chunks-group": lambda: by_wire(add.chunks([(i, i) for i in range(5)], 2).group()),
    "wire-map-in-chain": lambda: by_wire(start.s("lost") | scale.map([1, 2]) | total.s()),
    "wire-map-in-group": lambda: by_wire(group(scale.map([1, 2]), const.s()) | note.s()),
    "wire-one-member-group": lambda: by_wire(start.s("a") | group([tag.s("b")]) | pack.s()),
    "wire-nested-chain": lambda: by_wire(chain(start.s("a"), chain(tag.s("b"), chain(tag.s("c"))))),
    "wire-part-of-a-canvas": lambda: start.s("a") | by_wire(tag.s("b") | tag.s("c")) | tag.s("d"),
    "wire-members": lambda: group([by_wire(start.s("a")), by_wire(start.s("b") | tag.s("c"))]) | note.s(),
    "wire-dict-members": lambda: group([dict(start.s("a")), dict(start.s("b") | tag.s("c"))], app=app),
    # functions that build canvases
    "function": lambda: built_in_a_function(["a", "b", "c"]),
    "function-one-word": lambda: built_in_a_function(["a"]),
    "function-no-words": lambda: built_in_a_function([]),
    "function-recursive": lambda: nested_function(3),
    # clones and options
    "clone-of-chain": lambda: (start.s("a") | tag.s("b")).clone(),
    "clone-of-group": lambda: group(start.s("a"), start.s("b")).clone(),
    "clone-of-chord": lambda: chord([start.s("a"), start.s("b")], note.s()).clone(),
    "clone-of-diamond": lambda: diamond().clone().clone(),
    "signature-of-signature": lambda: signature(diamond()),
    "signature-by-name": lambda: signature("tests.conformance.tasks.add", args=(1, 2), app=app),
    "signature-by-name-in-chain": lambda: const.s() | signature("tests.conformance.tasks.add", args=(2,), app=app),
    "options-on-a-step": lambda: start.s("a") | tag.s("b").set(queue="celery", priority=9) | tag.s("c"),
    "options-on-a-chain": lambda: (start.s("a") | tag.s("b")).set(priority=2),
    "options-on-a-group": lambda: start.s("a") | group(tag.s("b"), tag.s("c")).set(priority=2) | note.s(),
    "options-on-a-chord": lambda: chord([start.s("a"), start.s("b")], note.s()).set(priority=2),
    "options-time-limits": lambda: add.s(1, 2).set(time_limit=60, soft_time_limit=50),
    "options-custom-header": lambda: add.s(1, 2).set(headers={"x-own": "1"}),
    "options-task-id": lambda: add.s(1, 2).set(task_id="a-fixed-id") | add.s(3),
    "options-countdown": lambda: start.s("a") | tag.s("b").set(countdown=0.01) | tag.s("c"),
    "options-ignore-result-on-the-way": lambda: start.s("a") | tag.s("b").set(ignore_result=True) | tag.s("c"),
    "options-ignore-result-at-the-end": lambda: start.s("a") | tag.s("b").set(ignore_result=True),
    "options-ignore-result-in-a-group": lambda: group(start.s("a").set(ignore_result=True), start.s("b")) | note.s(),
    "stamped": lambda: stamped(start.s("a") | tag.s("b")),
    "stamped-diamond": lambda: stamped(diamond()),
    "stamped-by-visitor": lambda: stamped(start.s("a") | tag.s("b"), Numbering()),
    "wire-stamped": lambda: by_wire(stamped(start.s("a") | group(tag.s("b"), tag.s("c")))),
    "frozen-task": lambda: frozen(add.s(1, 2)),
    "frozen-chain": lambda: frozen(start.s("a") | tag.s("b") | tag.s("c")),
    "frozen-group": lambda: frozen(group(start.s("a"), start.s("b"))),
    "frozen-group-in-group": lambda: frozen(group(group(start.s("a"), start.s("b")), start.s("c"))),
    "replaced-arguments": lambda: const.s() | sub.s(1).replace(args=(3,), kwargs={}),
    # callbacks beside the value
    "link-on-a-task": lambda: linked(const.s(), add.s(1)),
    "link-on-a-step": lambda: start.s("a") | linked(tag.s("b"), tag.s("beside")) | tag.s("c"),
    "link-two-callbacks": lambda: linked(const.s(), add.s(1), add.s(2)) | add.s(3),
    "link-of-a-link": lambda: linked(const.s(), linked(add.s(1), add.s(2))) | add.s(3),
    "link-immutable": lambda: linked(const.s(), start.si("beside")) | add.s(3),
    "link-a-chain": lambda: linked(const.s(), add.s(1) | add.s(2)) | add.s(3),
    "link-a-group": lambda: linked(const.s(), group(add.s(1), add.s(2))) | add.s(3),
    "link-a-chord": lambda: linked(const.s(), chord([add.s(1), add.s(2)], total.s())) | add.s(3),
    "link-on-a-chain": lambda: linked(start.s("a") | tag.s("b"), tag.s("beside")),
    "link-on-a-chord": lambda: linked(chord([start.s("a"), start.s("b")], note.s()), tag.s("beside")),
    "link-on-a-group-member": lambda: group(linked(start.s("a"), tag.s("beside")), start.s("b")) | note.s(),
    "link-on-a-group": lambda: linked(group(start.s("a"), start.s("b")), note.s("beside")),
    "link-on-a-chain-in-a-group": lambda: group(linked(start.s("a") | tag.s("b"), tag.s("x")), start.s("c")) | note.s(),
    "link-error-unused": lambda: (start.s("a") | tag.s("b").on_error(note.s("never"))) | tag.s("c"),
    "link-error-on-a-chain-unused": lambda: (start.s("a") | tag.s("b")).on_error(note.s("never")),
    "link-error-on-a-group-unused": lambda: group(start.s("a"), start.s("b")).on_error(note.s("never")) | note.s(),
    "link-error-on-a-chord-unused": lambda: chord([start.s("a"), start.s("b")], note.s()).on_error(note.s("never")),
    # arguments given to a composite
    "arguments-set-on-a-chain": lambda: with_arguments(tag.s("a") | tag.s("b"), "given"),
    "arguments-to-a-chord": lambda: chord([tag.s("a"), tag.s("b")], note.s()).clone(args=("given",)),
    "immutable-chain-as-member": lambda: start.s("a") | group((whoami.s() | ident.s()).set(immutable=True), tag.s("b")),
    "immutable-chain-as-only-step": lambda: start.s("a") | (whoami.s() | ident.s()).set(immutable=True),
    "immutable-chord-as-step": lambda: start.s("a") | _immutable_chord(),
    "unfolded-empty-chain-middle": lambda: chain(start.s("a"), chain(), tag.s("b"), priority=3),
}


def _immutable_chord() -> Signature:
    """A chord whose header was made immutable: its body still receives the list."""
    canvas = chord([whoami.s("b"), whoami.s("c")], pack.s())
    canvas.set_immutable(True)
    return canvas
