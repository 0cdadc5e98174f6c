"""Where Celery disagrees with itself: what each shape must give here, what eager and a worker give, and why.

A shape that is not listed gives the same eagerly (`canvas.apply()`), on a real worker, and here. The rule for
those listed: depth first and left to right, every group a list of its members, as eager Celery has it; a hand
decides only where eager Celery raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

AGREES: Final = "agrees with `value`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Raises:
    """Plain Celery raises this error instead of giving a value."""

    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NoValue:
    """Plain Celery gives nothing that could be compared: it never answers, or answers with ids of results."""

    why: str
    hangs: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Documented:
    """One shape on which eager Celery, a worker and this project do not all agree; all values are JSON."""

    value: Any
    eager: Any = AGREES
    worker: Any = AGREES
    why: str


REVERSED = "A worker flattens a nested group from the right: `group._freeze_unroll` extends its stack with extendleft."
UNROLLED = "A worker unrolls a one-member group inside a chain (`prepare_steps`); eager Celery keeps its list."
LONE = "A worker takes the list off a group whose only member ends in a group (`group.apply_async`)."
PER_MEMBER = "On a worker, what follows a chord with a group as its body runs once per member of that group."
LAZY = "A worker does not flatten the groups inside a group that a generator made (`_freeze_group_tasks`)."
UNEXPANDED = "`chunks` in a chain or group is one step on a worker and returns ids of results; here it is its group."
OWN_ARGUMENTS = "Eager Celery ignores a composite's own arguments; a worker gives them to its first tasks."

DOCUMENTED: dict[str, Documented] = {
    # order and nesting
    "group-in-group-then-task": Documented(value="<[a,b,c]>", worker="<[b,a,c]>", why=REVERSED),
    "task-then-group-in-group": Documented(
        value=["b(a)", "c(a)", "d(a)"], worker=["c(a)", "b(a)", "d(a)"], why=REVERSED
    ),
    "chord-nested-group-header": Documented(value="<[a,b,c]>", worker="<[b,a,c]>", why=REVERSED),
    "chord-header-of-groups": Documented(value="<[a,b,c,d]>", worker="<[b,a,d,c]>", why=REVERSED),
    "chord-body-nested-group": Documented(
        value=[14, 2, {"args": [[7, 7]], "kwargs": {}}], worker=[2, 14, {"args": [[7, 7]], "kwargs": {}}], why=REVERSED
    ),
    "wire-nested-groups": Documented(value="<[a,b,c]>", worker="<[b,a,c]>", why=REVERSED),
    "lazy-group-holding-groups-then-task": Documented(
        value="<[b(a),bb(a),c(a),cc(a)],end>", worker="<[bb(a),b(a),cc(a),c(a)],end>", why=REVERSED
    ),
    "lazy-group-holding-groups-behind-task": Documented(
        value=["b(a)", "bb(a)", "c(a)", "cc(a)"], worker=[["b(a)", "bb(a)"], ["c(a)", "cc(a)"]], why=LAZY
    ),
    "only-member-ends-in-group": Documented(value=[["b(a)", "c(a)"]], worker=["b(a)", "c(a)"], why=LONE),
    "one-member-in-unfolded-chain": Documented(
        value={"args": [["b(a)"]], "kwargs": {}}, worker={"args": ["b(a)"], "kwargs": {}}, why=UNROLLED
    ),
    "one-member-at-the-end-of-unfolded-chain": Documented(value=["b(a)"], worker="b(a)", why=UNROLLED),
    "chord-body-one-member-group-then-chain": Documented(
        value={"args": [[14]], "kwargs": {}}, worker={"args": [14], "kwargs": {}}, why=UNROLLED
    ),
    "chord-header-member-ends-in-one-member-group": Documented(value="<[[b(a)],c]>", worker="<[b(a),c]>", why=UNROLLED),
    "three-groups-in-a-row": Documented(
        value=["<[<[a,b],c>,<[a,b],d>],e>", "<[<[a,b],c>,<[a,b],d>],f>"],
        worker=["<<[a,b],c>,e>", "<<[a,b],c>,f>"],
        why=PER_MEMBER,
    ),
    # emptiness
    "unfolded-chain-of-empty-groups-as-step": Documented(
        value="b([])",
        worker="b(a)",
        why="A chain that holds only an empty group is [] eagerly; a worker splices the chain and skips the group.",
    ),
    "chord-body-empty-group-in-unfolded-chain": Documented(
        value={"args": [[]], "kwargs": {}},
        worker=NoValue(why="no member of the empty body is there to call the next step", hangs=True),
        why="An empty group as a chord's body is []: what follows receives [] and must still wait for the header.",
    ),
    "unfolded-empty-chain-middle": Documented(
        value="b(a)",
        eager=Raises(error="AttributeError"),
        why="An empty chain inside a chain is nothing on a worker; eager Celery trips over its missing result.",
    ),
    # chunks as one step
    "chunks-then-task": Documented(
        value={"args": [[[0, 2], [4, 6], [8]]], "kwargs": {}}, worker=Raises(error="EncodeError"), why=UNEXPANDED
    ),
    "task-then-chunks": Documented(value=[[0, 2], [4, 6], [8]], worker=NoValue(why="ids of results"), why=UNEXPANDED),
    "chunks-unexpanded-in-group": Documented(
        value=[[[2, 4], [6]], 7], worker=NoValue(why="ids of results"), why=UNEXPANDED
    ),
    # arguments and values
    "arguments-set-on-a-chain": Documented(value="b(a(given))", eager=Raises(error="TypeError"), why=OWN_ARGUMENTS),
    "arguments-to-a-chord": Documented(
        value="<[a(given),b(given)]>", eager=Raises(error="TypeError"), why=OWN_ARGUMENTS
    ),
    "tuple-value": Documented(
        value={"value": [1, 2], "kind": "tuple"},
        worker={"value": [1, 2], "kind": "list"},
        why="Plain Celery's JSON makes a list of a tuple between two steps; canonical text keeps it.",
    ),
    "options-ignore-result-at-the-end": Documented(
        value="b(a)",
        worker=NoValue(why="nothing stores the value", hangs=True),
        why="`ignore_result` is about Celery's result backend; a run's value comes from its checkpoints.",
    ),
}
