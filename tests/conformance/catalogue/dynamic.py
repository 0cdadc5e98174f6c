"""Shapes known only at run time (`self.replace`) and steps that succeed after a retry."""

from __future__ import annotations

from collections.abc import Callable

from celery.canvas import Signature, chord, group

from tests.conformance.tasks import (
    add,
    become_chain,
    become_chord,
    become_group,
    become_task,
    const,
    countdown,
    eventually,
    note,
    pack,
    start,
    tag,
    third_time,
)

DYNAMIC: dict[str, Callable[[], Signature]] = {
    "replace-by-task": lambda: become_task.s("a"),
    "replace-by-chain": lambda: become_chain.s("a"),
    "replace-by-group": lambda: become_group.s(3),
    "replace-by-empty-group": lambda: become_group.s(0),
    "replace-by-one-member-group": lambda: become_group.s(1),
    "replace-by-chord": lambda: become_chord.s(3),
    "replace-then-task": lambda: become_chain.s("a") | tag.s("after"),
    "replace-by-group-then-task": lambda: become_group.s(3) | pack.s("own"),
    "replace-in-the-middle": lambda: const.s() | become_task.s() | tag.s("after"),
    "replace-in-a-group": lambda: group(become_chain.s("a"), become_group.s(2), start.s("b")),
    "replace-in-a-chord": lambda: chord([become_chain.s("a"), become_chord.s(3), start.s("b")], note.s()),
    "replace-loop": lambda: countdown.s(4, []) | pack.s(),
    "retry": lambda: third_time.s("a"),
    "retry-in-a-chain": lambda: start.s("a") | third_time.s() | pack.s(),
    "retry-in-a-group": lambda: group(third_time.s("a"), start.s("b")) | note.s(),
    "retry-automatic": lambda: eventually.s(3) | add.s(1),
}
