"""What holds of every plan, in every order of commits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from celery.canvas import chain, chord, group
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aos_workflow.canvas import compile_canvas
from aos_workflow.plan import INPUT, Feed, Plan, Step, fed, plan_order, prefix_of, ready, references
from tests.conformance.tasks import app, note, scale

ROOT = Path(__file__).resolve().parents[2]
always = settings(suppress_health_check=[HealthCheck.too_slow])


# --- random plans ---------------------------------------------------------------------------
# Hypothesis draws few large numbers and a seed instead of many small ones: that is ten times as fast.


def graph(masks: list[int], *, most_steps: int = 9) -> Plan:
    """A graph with a step per number: its bits say what the step comes after, and in what shape it receives that."""
    steps: list[Step] = []
    for ordinal, mask in enumerate(masks[:most_steps], 1):
        after = tuple(step.address for bit, step in enumerate(steps) if mask >> bit & 1)
        shape = mask >> 12 & 7
        steps.append(
            Step(
                address=f"{ordinal}.{'abc'[mask % 3]}",
                task="t",
                args=(shape,) if shape else (),
                feed=_shaped([*after, INPUT] if shape & 4 else [*after], shape) if shape else None,
                after=after,
                on_error=("1.on_error.h",) if mask % 2 else (),
            )
        )
    ends = [step.address for step in steps if masks[0] >> len(step.address) & 1] if masks else []
    handlers = (Step(address="1.on_error.h", task="h"),)
    return Plan(steps=tuple(steps), handlers=handlers, outgoing=_shaped(ends, len(ends)))


def _shaped(addresses: list[str], shape: int) -> Feed:
    if len(addresses) == 1 and shape % 2:
        return addresses[0]
    if len(addresses) > 1 and shape % 2:
        return [addresses[0], list(addresses[1:])]
    return list(addresses)


def dags(*, most_steps: int = 9, least_steps: int = 0) -> st.SearchStrategy[Plan]:
    """Any directed acyclic graph: steps may come after anything before them, and receive any of it."""
    return st.lists(st.integers(0, 2**15 - 1), min_size=least_steps, max_size=most_steps).map(graph)


def canvas(chance: Random, depth: int = 3) -> Any:
    """A random canvas, at most ``depth`` levels deep."""
    kind = chance.choice(["task", "chain", "group", "chord", "map"]) if depth else "task"
    members = [canvas(chance, depth - 1) for _ in range(chance.randint(1, 3))] if depth else []
    match kind:
        case "chain":
            return chain(*members)
        case "group":
            return group(members)
        case "chord":
            return chord(members, note.s("body"))
        case "map":
            return scale.map([1, 2])
    return chance.choice([note.s, note.si])(chance.randint(0, 9), k=[None, {"b": 1, "a": 2}])


def compiled(seed: int) -> Plan:
    return compile_canvas(canvas(Random(seed)), app=app)


def plans() -> st.SearchStrategy[Plan]:
    """Random graphs, and what random canvases compile to."""
    return st.one_of(dags(), seeds.map(compiled))


seeds = st.integers(0, 2**32)
chances = st.randoms(use_true_random=True)
subs = st.lists(plans(), min_size=1, max_size=4)


# --- performing one -------------------------------------------------------------------------


@dataclass
class Run:
    """A run whose steps are committed one after the other; ``released`` counts what each commit would publish."""

    plan: Plan
    done: int = 0
    committed: list[str] = field(default_factory=list)
    released: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.released.update(self.plan.ready(0))

    def commit(self, address: str, sub: Plan | None = None) -> None:
        if sub is not None:
            self.plan = self.plan.spliced(address, sub)
        before = self.plan.ready(self.done)
        self.done |= self.plan.mask([address])
        self.committed.append(address)
        now = self.plan.released(self.done, address)
        assert set(now) == set(self.plan.ready(self.done)) - set(before)
        self.released.update(now)


def performed(plan: Plan, chance: Random, splices: list[Plan] | None = None) -> Run:
    """The plan, committed to its end in any order, with the sub-plans spliced in at any commits."""
    run, waiting = Run(plan), list(splices or [])
    while open_now := run.plan.ready(run.done):
        is_splice = waiting and chance.random() < 0.4
        run.commit(chance.choice(open_now), waiting.pop() if is_splice else None)
    return run


# --- rules ----------------------------------------------------------------------------------


@always
@given(plans(), chances)
def test_every_address_is_released_exactly_once(plan: Plan, chance: Random) -> None:
    """In any order of commits each step is published once, and the run comes to its end."""
    run = performed(plan, chance)
    assert dict.fromkeys(plan.positions, 1) == dict(run.released)
    assert run.done == plan.everything


@always
@given(plans(), subs, chances)
def test_spliced_runs_release_everything_once_too(plan: Plan, splices: list[Plan], chance: Random) -> None:
    """With sub-plans spliced in at any commits, also into each other, each step is published once and the run ends."""
    run = performed(plan, chance, splices)
    assert dict.fromkeys(run.plan.positions, 1) == dict(run.released)
    assert run.done == run.plan.everything


@always
@given(plans(), subs, chances)
def test_nothing_runs_before_what_it_comes_after(plan: Plan, splices: list[Plan], chance: Random) -> None:
    """Every step is committed after its predecessors and after every step whose value it receives."""
    run = performed(plan, chance, splices)
    place = {address: order for order, address in enumerate(run.committed)}
    for step in run.plan.steps:
        needed = (*step.after, *run.plan.inputs_of(step))
        assert all(place[address] < place[step.address] for address in needed)


@always
@given(plans(), subs, chances)
def test_positions_are_for_ever(plan: Plan, splices: list[Plan], chance: Random) -> None:
    """A step keeps its position whatever is spliced in later, so old masks stay true."""
    run = performed(plan, chance, splices)
    assert dict(plan.positions).items() <= dict(run.plan.positions).items()
    assert len(run.plan.positions) == len(run.plan.steps)


@always
@given(dags(least_steps=2), plans(), plans(), chances)
def test_the_order_of_splices_does_not_matter(plan: Plan, first: Plan, second: Plan, chance: Random) -> None:
    """Two workers that saw the sub-plans of two steps in another order agree on what may run and what flows."""
    one, other = chance.sample([step.address for step in plan.steps], 2)
    here = plan.spliced(one, first).spliced(other, second)
    there = plan.spliced(other, second).spliced(one, first)
    committed = [step.address for step in here.steps if chance.random() < 0.5]
    assert set(ready(here, committed)) == set(ready(there, committed))
    assert here.value_feed(here.outgoing) == there.value_feed(there.outgoing)


@always
@given(plans(), chances)
def test_ready_is_pure_and_total(plan: Plan, chance: Random) -> None:
    """For any set of committed addresses, possible or not, ``ready`` answers, twice the same, and nothing committed."""
    known = [*plan.positions, "1.on_error.h", "99.unknown"]
    committed = chance.choices(known, k=chance.randint(0, len(known)))
    answer = ready(plan, committed)
    assert answer == ready(plan, list(reversed(committed)))
    assert not set(answer) & set(committed)
    assert list(answer) == sorted(answer, key=plan.positions.__getitem__)


@always
@given(plans())
def test_a_plan_survives_its_text(plan: Plan) -> None:
    """Stored and read again a plan is equal, and has the same text and digest."""
    again = Plan.from_text(plan.text)
    assert (plan, plan.text, plan.digest) == (again, again.text, again.digest)


@always
@given(seeds)
def test_the_same_canvas_is_the_same_plan(seed: int) -> None:
    """A canvas built again compiles to the same digest."""
    assert compiled(seed).digest == compiled(seed).digest


@always
@given(seeds)
def test_compiled_plans_are_in_order(seed: int) -> None:
    """A compiled plan lists its steps in plan order, and each comes after earlier ones only."""
    plan = compiled(seed)
    addresses = [step.address for step in plan.steps]
    assert addresses == sorted(addresses, key=plan_order)
    assert [str(ordinal) for ordinal in range(1, len(addresses) + 1)] == [name.split(".")[0] for name in addresses]
    for position, step in enumerate(plan.steps):
        assert set(step.after) <= set(addresses[:position])
        assert set(references(step.feed)) <= set(step.after)


@always
@given(st.lists(st.text("ab/.1~$", max_size=90), min_size=2, max_size=2, unique=True))
def test_prefixes_of_different_addresses_differ(addresses: list[str]) -> None:
    """No two sub-plans live under the same prefix, however long their parents' addresses are."""
    long = [address * 3 for address in addresses]
    assert len({prefix_of(address) for address in {*addresses, *long}}) == len({*addresses, *long})


@always
@given(dags(least_steps=1), plans(), chances)
def test_a_spliced_value_has_its_sub_plan_s_shape(plan: Plan, sub: Plan, chance: Random) -> None:
    """The value of a replaced step is, wherever it flows, exactly the value its sub-plan has on its own."""
    address = chance.choice(plan.steps).address
    whole = plan.spliced(address, sub)
    alone: dict[str, Any] = {step.address: f"in {address}: {step.address}" for step in sub.steps} | {INPUT: "inputs"}
    under = {f"{address}/{name}": value for name, value in alone.items() if name != INPUT}
    values = {**{step.address: step.address for step in plan.steps}, **under, INPUT: "inputs"}
    value = fed(sub.outgoing, alone) if sub.outgoing is not None else None
    expected = fed(plan.outgoing, {**values, address: value}) if plan.outgoing is not None else None
    found = whole.value_feed(whole.outgoing)
    assert expected == (fed(found, values) if found is not None else None)


PROGRAM = """
from tests.unit.test_plan_properties import compiled
print(*(compiled(seed).digest for seed in range(40)))
"""


def test_digests_do_not_depend_on_the_process() -> None:
    """Another process with another hash seed compiles the same canvases to the same digests."""
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert [compiled(seed).digest for seed in range(40)] == child.stdout.split()
