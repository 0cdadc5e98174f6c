"""Plan: what a canvas or a planner compiles to. Pure; no I/O.

A plan is a list of steps. A step says which task, with which arguments, what it
comes after and what flows into it. Values flow as *feeds*:

    "3.score"            the output of that step
    "$input"             the inputs of the run
    "$failure"           what went wrong (for the handlers of failures)
    ["1.a", ["2.b"]]     a list of feeds, nested to any depth

``ready`` decides what may run; ``spliced`` puts the sub-plan that a step returned in
its place. Both are total functions of their arguments.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

from aos_workflow.errors import VersionMismatch
from aos_workflow.terms import DEFAULT_TERMS, Terms

FORMAT = 1
INPUT = "$input"
FAILURE = "$failure"
LONGEST_PREFIX = 160

Feed: TypeAlias = "str | list[Feed]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One line of a plan.

    ``args`` and ``kwargs`` are JSON values in canonical form; the value of ``feed`` (if any)
    is put before ``args``. ``after`` are the addresses that must be committed first.
    ``options`` are Celery's delivery options (queue, priority ...). ``on_error`` are the
    addresses of the handlers that run if this step fails for good.
    """

    address: str
    task: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    feed: Feed | None = None
    after: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    on_error: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"address": self.address, "task": self.task}
        if self.args:
            document["args"] = list(self.args)
        if self.kwargs:
            document["kwargs"] = dict(self.kwargs)
        if self.feed is not None:
            document["feed"] = self.feed
        if self.after:
            document["after"] = list(self.after)
        if self.options:
            document["options"] = dict(self.options)
        if self.on_error:
            document["on_error"] = list(self.on_error)
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Step:
        return cls(
            address=document["address"],
            task=document["task"],
            args=tuple(document.get("args", ())),
            kwargs=document.get("kwargs", {}),
            feed=document.get("feed"),
            after=tuple(document.get("after", ())),
            options=document.get("options", {}),
            on_error=tuple(document.get("on_error", ())),
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A frozen list of steps, the handlers of their failures, and the feed that is the run's output.

    ``replaced`` maps a step that returned a canvas to the feed of the sub-plan in its place.
    A step's *position* is its index in ``steps``; sets of committed steps travel as bit masks
    over positions.
    """

    steps: tuple[Step, ...]
    outgoing: Feed | None = None
    handlers: tuple[Step, ...] = ()
    replaced: Mapping[str, Feed | None] = field(default_factory=dict)
    terms: Terms = DEFAULT_TERMS

    @cached_property
    def text(self) -> str:
        """The plan as canonical JSON text, the form that is stored and hashed."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "steps": [step.as_json() for step in self.steps],
            "handlers": [step.as_json() for step in self.handlers],
            "outgoing": self.outgoing,
        }
        if self.terms != DEFAULT_TERMS:
            document["terms"] = self.terms.as_json()
        return json.dumps(document, sort_keys=True, allow_nan=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ``text``, 64 hex characters."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @classmethod
    def from_text(cls, text: str) -> Plan:
        """Read a stored plan. Raises VersionMismatch for a format this code does not know."""
        document = json.loads(text)
        if document.get("format") != FORMAT:
            raise VersionMismatch(
                f"the stored plan has format {document.get('format')!r}, this code reads {FORMAT}",
                fix="let a worker of the version that wrote it finish the run",
                stored=document.get("format"),
                readable=FORMAT,
            )
        return cls(
            steps=tuple(map(Step.from_json, document["steps"])),
            handlers=tuple(map(Step.from_json, document["handlers"])),
            outgoing=document["outgoing"],
            terms=Terms.from_json(document.get("terms", {})),
        )

    @cached_property
    def positions(self) -> Mapping[str, int]:
        return {step.address: position for position, step in enumerate(self.steps)}

    @cached_property
    def _by_address(self) -> Mapping[str, Step]:
        return {step.address: step for step in (*self.steps, *self.handlers)}

    def __contains__(self, address: str) -> bool:
        return address in self._by_address

    def step(self, address: str) -> Step:
        """The step or handler at ``address``; KeyError if the plan has none."""
        return self._by_address[address]

    def is_handler(self, address: str) -> bool:
        return address not in self.positions and address in self._by_address

    @cached_property
    def everything(self) -> int:
        """The mask of a run that has committed every step."""
        return (1 << len(self.steps)) - 1

    def mask(self, addresses: Collection[str]) -> int:
        return sum(1 << self.positions[address] for address in set(addresses))

    @cached_property
    def _needs(self) -> tuple[tuple[int, int], ...]:
        """What each step comes after: the lowest position, and the mask from there on (short also in long chains)."""
        return tuple(_shifted([self.positions[address] for address in step.after]) for step in self.steps)

    @cached_property
    def _successors(self) -> tuple[tuple[int, ...], ...]:
        successors: list[list[int]] = [[] for _ in self.steps]
        for position, step in enumerate(self.steps):
            for address in step.after:
                successors[self.positions[address]].append(position)
        return tuple(map(tuple, successors))

    def successors(self, address: str) -> tuple[Step, ...]:
        """The steps that name ``address`` among those they come after."""
        return tuple(self.steps[position] for position in self._successors[self.positions[address]])

    def ready(self, done: int) -> tuple[str, ...]:
        """Addresses not in ``done`` whose predecessors all are, in plan order."""
        return tuple(step.address for position, step in enumerate(self.steps) if self._may_run(done, position))

    def _may_run(self, done: int, position: int) -> bool:
        lowest, mask = self._needs[position]
        return not done >> position & 1 and done >> lowest & mask == mask

    def is_open(self, address: str, done: int) -> bool:
        """May ``address`` run: is it a handler, or a step whose predecessors are all in ``done``?"""
        position = self.positions.get(address)
        if position is None:
            return address in self
        lowest, mask = self._needs[position]
        return done >> lowest & mask == mask

    def released(self, done: int, address: str) -> tuple[str, ...]:
        """What committing ``address`` made ready: ``ready(done)`` less ``ready(done without it)``.

        With commits in serial order each address is released by exactly one of them.
        """
        following = self._successors[self.positions[address]]
        return tuple(self.steps[position].address for position in following if self._may_run(done, position))

    def value_feed(self, feed: Feed | None) -> Feed | None:
        """``feed`` with every replaced step's reference exchanged for the sub-plan's own feed."""
        while isinstance(feed, str) and feed in self.replaced:  # a loop's turns replace each other a thousand times
            feed = self.replaced[feed]
        if isinstance(feed, list):
            resolved = (self.value_feed(member) for member in feed)
            return [member for member in resolved if member is not None]
        return feed

    def inputs_of(self, step: Step) -> tuple[str, ...]:
        """The addresses whose outputs ``step`` receives, replaced steps followed to their sub-plans."""
        return tuple(dict.fromkeys(references(self.value_feed(step.feed))))

    def wants_input(self, step: Step) -> bool:
        """Does ``step`` receive the run's inputs?"""
        return INPUT in _leaves(self.value_feed(step.feed))

    def spliced(self, address: str, sub: Plan) -> Plan:
        """This plan with ``sub`` in the place of the value of ``address``.

        The sub-plan's steps live under ``address`` ("3.turn/1.tool") and come after it;
        whatever came after ``address`` now also comes after what the sub-plan's value is made of.
        """
        below = _relocated(sub, address, inherited=self.step(address).on_error)
        ends = tuple(references(below.outgoing))
        waiting = [
            replace(step, after=step.after + tuple(end for end in ends if end not in step.after))
            if address in step.after
            else step
            for step in self.steps
        ]
        return Plan(
            steps=(*waiting, *below.steps),
            handlers=(*self.handlers, *below.handlers),
            outgoing=self.outgoing,
            replaced={**self.replaced, address: below.outgoing},
            terms=self.terms,
        )


def same_shape(one: Plan, other: Plan) -> bool:
    """Do these plans perform the same steps, under whatever terms?"""
    return replace(one, terms=DEFAULT_TERMS).digest == replace(other, terms=DEFAULT_TERMS).digest


def ready(plan: Plan, committed: Collection[str]) -> tuple[str, ...]:
    """The addresses that may run now: not committed, everything they come after committed."""
    return plan.ready(plan.mask([address for address in committed if address in plan.positions]))


def _shifted(positions: list[int]) -> tuple[int, int]:
    lowest = min(positions, default=0)
    return lowest, sum(1 << position - lowest for position in set(positions))


def references(feed: Feed | None) -> Iterator[str]:
    """The addresses a feed is made of, depth first, left to right; ``$input`` is none."""
    return (leaf for leaf in _leaves(feed) if not leaf.startswith("$"))


def _leaves(feed: Feed | None) -> Iterator[str]:
    if isinstance(feed, list):
        for member in feed:
            yield from _leaves(member)
    elif feed is not None:
        yield feed


def fed(feed: Feed, values: Mapping[str, Any]) -> Any:
    """The value of a feed, given the value of each address (and of ``$input``)."""
    return [fed(member, values) for member in feed] if isinstance(feed, list) else values[feed]


def plan_order(address: str) -> tuple[tuple[int, str], ...]:
    """Sort key: the order of addresses in a plan, sub-plans right after their parent."""
    parts = []
    for part in address.split("/"):
        ordinal, _, name = part.partition(".")
        parts.append((int(ordinal), name) if ordinal.isdigit() else (0, part))
    return tuple(parts)


def prefix_of(address: str) -> str:
    """Where the sub-plan of ``address`` lives.

    Long prefixes are shortened to a digest, so that a loop of a thousand turns,
    each inside the last, does not grow addresses without bound.
    """
    if len(address) <= LONGEST_PREFIX:
        return address
    return "~" + hashlib.sha256(address.encode()).hexdigest()[:24]


def _relocated(sub: Plan, parent: str, *, inherited: tuple[str, ...]) -> Plan:
    prefix = prefix_of(parent) + "/"

    def moved(feed: Feed | None) -> Feed | None:
        if isinstance(feed, list):
            return [member for member in map(moved, feed) if member is not None]
        return feed if feed is None or feed.startswith("$") else prefix + feed

    def move(step: Step, *, is_head: bool) -> Step:
        return replace(
            step,
            address=prefix + step.address,
            feed=moved(step.feed),
            after=(parent,) if is_head else tuple(prefix + address for address in step.after),
            on_error=(*(prefix + address for address in step.on_error), *inherited),
        )

    return Plan(
        steps=tuple(move(step, is_head=not step.after) for step in sub.steps),
        handlers=tuple(move(step, is_head=False) for step in sub.handlers),
        outgoing=moved(sub.outgoing),
    )
