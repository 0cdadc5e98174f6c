"""Plans: frozen programs that say what may run, what flows where, and what took a step's place."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from random import Random
from typing import Any

import pytest

from aos_workflow.errors import VersionMismatch
from aos_workflow.plan import (
    FAILURE,
    FORMAT,
    INPUT,
    LONGEST_PREFIX,
    Feed,
    Plan,
    Step,
    fed,
    plan_order,
    prefix_of,
    ready,
    references,
)


def line(*addresses: str) -> Plan:
    """A chain of steps."""
    steps = [
        Step(address=address, task="t", feed=before, after=(before,) if before else ())
        for before, address in zip((None, *addresses), addresses, strict=False)
    ]
    return Plan(steps=tuple(steps), outgoing=addresses[-1])


def diamond() -> Plan:
    """One step, two that follow it, one that joins them; a handler for the second and third."""
    return Plan(
        steps=(
            Step(address="1.a", task="t.a", args=(1, {"k": [None]}), feed=INPUT, options={"queue": "q"}),
            Step(address="2.b", task="t.b", feed="1.a", after=("1.a",), on_error=("1.on_error.h",)),
            Step(address="3.c", task="t.c", kwargs={"x": "é"}, after=("1.a",), on_error=("1.on_error.h",)),
            Step(address="4.d", task="t.d", feed=["2.b", "3.c"], after=("2.b", "3.c")),
        ),
        handlers=(Step(address="1.on_error.h", task="t.h", feed=FAILURE),),
        outgoing="4.d",
    )


# --- ready ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("committed", "expected"),
    [
        ([], ("1.a",)),
        (["1.a"], ("2.b", "3.c")),
        (["1.a", "3.c"], ("2.b",)),
        (["1.a", "2.b", "3.c"], ("4.d",)),
        (["1.a", "2.b", "3.c", "4.d"], ()),
    ],
    ids=str,
)
def test_ready_is_what_follows_the_committed(committed: list[str], expected: tuple[str, ...]) -> None:
    """A step may run when everything it comes after is committed and it is not."""
    assert expected == ready(diamond(), committed)


def test_ready_is_total() -> None:
    """Checkpoints of handlers, addresses given twice and addresses of other plans change nothing."""
    assert ready(diamond(), ["1.a", "1.a", "1.on_error.h", "9.unknown"]) == ("2.b", "3.c")


def test_ready_is_pure() -> None:
    """Asking what is ready does not change the plan, and asking again gives the same answer."""
    plan = diamond()
    before = plan.text
    assert ready(plan, ["1.a"]) == ready(plan, ["1.a"])
    assert before == Plan.from_text(plan.text).text


def test_ready_tolerates_a_hole() -> None:
    """``ready`` looks at a step's own predecessors only: a hole in the middle does not hold up what is after it."""
    assert ready(line("1.a", "2.b", "3.c", "4.d", "5.e"), ["1.a", "4.d"]) == ("2.b", "5.e")


def test_a_commit_releases_what_it_made_ready() -> None:
    """``released`` gives the successors that wait for nothing else any more."""
    plan = diamond()
    assert plan.released(plan.mask(["1.a"]), "1.a") == ("2.b", "3.c")
    assert plan.released(plan.mask(["1.a", "3.c"]), "3.c") == ()
    assert plan.released(plan.mask(["1.a", "3.c", "2.b"]), "2.b") == ("4.d",)


@pytest.mark.parametrize(
    ("address", "committed", "expected"),
    [
        ("1.a", [], True),
        ("1.a", ["1.a"], True),
        ("2.b", [], False),
        ("2.b", ["1.a"], True),
        ("4.d", ["1.a", "2.b"], False),
        ("4.d", ["2.b", "3.c"], True),
        ("1.on_error.h", [], True),
        ("9.x", ["1.a"], False),
    ],
)
def test_a_step_is_open_when_its_predecessors_are_committed(address: str, committed: list[str], expected: bool) -> None:
    """A handler may always run, a step when everything it comes after is committed, an unknown address never."""
    plan = diamond()
    assert plan.is_open(address, plan.mask(committed)) is expected


def test_an_empty_plan_is_complete() -> None:
    """A plan without steps has nothing ready and everything committed."""
    plan = Plan(steps=(), outgoing=[])
    assert (plan.ready(0), plan.everything) == ((), 0)


def test_everything_is_every_step() -> None:
    """The mask of a finished run has one bit per step; handlers have none."""
    assert diamond().everything == 0b1111
    assert diamond().mask(["2.b", "4.d"]) == 0b1010


def test_a_very_long_chain_fits_in_memory() -> None:
    """What is kept about a step's predecessors does not grow with the step's position."""
    plan = line(*(f"{ordinal}.x" for ordinal in range(1, 10_001)))
    tracemalloc.start()
    assert plan.ready(0) == ("1.x",)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 5 * 1024 * 1024


# --- looking up -----------------------------------------------------------------------------


def test_steps_are_found_by_address() -> None:
    """Steps and handlers are found under their addresses; what is not there is a KeyError."""
    plan = diamond()
    assert (plan.step("3.c").task, plan.step("1.on_error.h").task) == ("t.c", "t.h")
    assert ("2.b" in plan, "1.on_error.h" in plan, "9.x" in plan) == (True, True, False)
    with pytest.raises(KeyError):
        plan.step("9.x")


def test_handlers_are_no_steps() -> None:
    """A handler has no position, a step is no handler, and an unknown address is neither."""
    plan = diamond()
    assert plan.positions == {"1.a": 0, "2.b": 1, "3.c": 2, "4.d": 3}
    assert [plan.is_handler(address) for address in ("1.a", "1.on_error.h", "9.x")] == [False, True, False]


def test_successors_come_after() -> None:
    """The successors of a step are those that name it among their predecessors, in plan order."""
    plan = diamond()
    assert [[step.address for step in plan.successors(address)] for address in ("1.a", "2.b", "4.d")] == [
        ["2.b", "3.c"],
        ["4.d"],
        [],
    ]


# --- text and digest ------------------------------------------------------------------------


def test_a_plan_survives_its_text() -> None:
    """A stored plan comes back equal, with the same text and digest."""
    plan = diamond()
    again = Plan.from_text(plan.text)
    assert (plan, plan.text, plan.digest) == (again, again.text, again.digest)


def test_the_text_is_canonical_json() -> None:
    """A plan's text is sorted ASCII JSON that says its format and leaves out what is empty."""
    plan = line("1.a")
    expected = '{"format": 1, "handlers": [], "outgoing": "1.a", "steps": [{"address": "1.a", "task": "t"}]}'
    assert expected == plan.text
    assert diamond().text.isascii()
    assert diamond().text == json.dumps(json.loads(diamond().text), sort_keys=True)


def test_the_digest_is_of_the_text() -> None:
    """A plan's digest is the SHA-256 of its text."""
    assert hashlib.sha256(diamond().text.encode()).hexdigest() == diamond().digest


@pytest.mark.parametrize("found", [FORMAT + 1, 0, "1", None])
def test_another_format_is_refused(found: Any) -> None:
    """A plan stored in a format this code does not know is refused, never guessed at."""
    document = {**json.loads(diamond().text), "format": found}
    with pytest.raises(VersionMismatch, match="let a worker of the version that wrote it") as refused:
        Plan.from_text(json.dumps(document))
    assert {"stored": found, "readable": FORMAT} == refused.value.evidence


def test_a_text_without_a_format_is_refused() -> None:
    """A document that does not say its format is refused as one of another version."""
    with pytest.raises(VersionMismatch):
        Plan.from_text("{}")


# --- feeds ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feed", "expected"),
    [
        (None, []),
        (INPUT, []),
        (FAILURE, []),
        ("1.a", ["1.a"]),
        ([], []),
        (["1.a", ["2.b", [INPUT, "3.c"]], "1.a"], ["1.a", "2.b", "3.c", "1.a"]),
    ],
    ids=str,
)
def test_references_are_the_addresses_of_a_feed(feed: Feed | None, expected: list[str]) -> None:
    """A feed refers to its addresses, depth first, left to right; inputs and failures are none."""
    assert expected == list(references(feed))


def test_a_feed_s_value_has_its_shape() -> None:
    """The value of a feed is the feed with each address exchanged for its value."""
    values = {"1.a": 1, "2.b": [2], INPUT: {"in": 0}}
    assert fed(["1.a", ["2.b", INPUT], []], values) == [1, [[2], {"in": 0}], []]


def test_a_step_says_what_it_receives() -> None:
    """A step's inputs are the addresses of its feed, each once; the run's inputs are asked for apart."""
    step = Step(address="3.c", task="t", feed=["1.a", ["2.b", INPUT], "1.a"], after=("1.a", "2.b"))
    plan = Plan(steps=(step,))
    assert (plan.inputs_of(step), plan.wants_input(step)) == (("1.a", "2.b"), True)
    assert (plan.inputs_of(diamond().step("3.c")), plan.wants_input(diamond().step("3.c"))) == ((), False)


# --- order of addresses ---------------------------------------------------------------------


def test_plan_order_is_the_order_of_a_plan() -> None:
    """Addresses sort by ordinal and not by text, sub-plans right after their parent."""
    ordered = ["1.a", "2.b", "2.b/1.x", "2.b/1.x/3.q", "2.b/10.y", "3.c", "10.d", "10.d/1.z"]
    assert ordered == sorted(Random(1).sample(ordered, len(ordered)), key=plan_order)


def test_plan_order_is_total() -> None:
    """Handlers, shortened prefixes and names with dots all have a place."""
    ordered = ["~0123/1.x", "~0123/2.y", "1.a", "1.on_error.h", "2."]
    assert ordered == sorted(Random(1).sample(ordered, len(ordered)), key=plan_order)


# --- splices --------------------------------------------------------------------------------


def sub() -> Plan:
    """A sub-plan of two steps, with a handler of its own."""
    return Plan(
        steps=(
            Step(address="1.x", task="t.x", on_error=("1.on_error.s",)),
            Step(address="2.y", task="t.y", feed="1.x", after=("1.x",)),
        ),
        handlers=(Step(address="1.on_error.s", task="t.s", feed=FAILURE),),
        outgoing="2.y",
    )


def test_a_sub_plan_lives_under_its_parent() -> None:
    """The sub-plan's steps and handlers get the parent's address as a prefix."""
    plan = diamond().spliced("2.b", sub())
    assert [step.address for step in plan.steps] == ["1.a", "2.b", "3.c", "4.d", "2.b/1.x", "2.b/2.y"]
    assert [step.address for step in plan.handlers] == ["1.on_error.h", "2.b/1.on_error.s"]


def test_positions_stay_where_they_were() -> None:
    """A splice appends: masks made before it stay valid."""
    before = diamond()
    after = before.spliced("2.b", sub()).spliced("3.c", sub()).spliced("2.b/2.y", sub())
    assert dict(before.positions).items() <= dict(after.positions).items()


def test_a_sub_plan_starts_after_its_parent() -> None:
    """The first steps of a sub-plan come after the step that returned it, the others after each other."""
    plan = diamond().spliced("2.b", sub())
    assert (plan.step("2.b/1.x").after, plan.step("2.b/2.y").after) == (("2.b",), ("2.b/1.x",))
    assert plan.released(plan.mask(["1.a", "2.b"]), "2.b") == ("2.b/1.x",)


def test_what_came_after_the_parent_waits_for_the_sub_plan() -> None:
    """The successors of a replaced step run when the sub-plan's value is there, and not before."""
    plan = diamond().spliced("2.b", sub())
    assert ready(plan, ["1.a", "2.b", "3.c", "2.b/1.x"]) == ("2.b/2.y",)
    assert ready(plan, ["1.a", "2.b", "3.c", "2.b/1.x", "2.b/2.y"]) == ("4.d",)


def test_the_value_of_a_replaced_step_is_the_sub_plan_s() -> None:
    """Whoever received the replaced step's value receives the sub-plan's instead."""
    plan = diamond().spliced("2.b", sub())
    assert plan.inputs_of(plan.step("4.d")) == ("2.b/2.y", "3.c")
    assert plan.value_feed(plan.step("4.d").feed) == ["2.b/2.y", "3.c"]


def test_the_last_step_can_be_replaced() -> None:
    """The run's output follows the last step to the sub-plan in its place."""
    plan = diamond().spliced("4.d", sub())
    assert plan.value_feed(plan.outgoing) == "4.d/2.y"


def test_a_sub_plan_of_a_sub_plan() -> None:
    """A step of a sub-plan can be replaced in its turn, and the value is followed all the way."""
    plan = diamond().spliced("2.b", sub()).spliced("2.b/2.y", sub())
    assert plan.inputs_of(plan.step("4.d")) == ("2.b/2.y/2.y", "3.c")
    done = ["1.a", "2.b", "3.c", "2.b/1.x", "2.b/2.y", "2.b/2.y/1.x"]
    assert ready(plan, done) == ("2.b/2.y/2.y",)


def test_a_group_in_the_place_of_a_step_is_a_list() -> None:
    """A sub-plan whose value is a list puts that list where the step's value went."""
    group = Plan(steps=(Step(address="1.x", task="t"), Step(address="2.y", task="t")), outgoing=["1.x", ["2.y"]])
    plan = diamond().spliced("2.b", group)
    assert plan.value_feed(plan.step("4.d").feed) == [["2.b/1.x", ["2.b/2.y"]], "3.c"]
    assert plan.step("4.d").after == ("2.b", "3.c", "2.b/1.x", "2.b/2.y")


def test_an_empty_list_in_the_place_of_a_step_releases_at_once() -> None:
    """A sub-plan without steps is a value that is there with its parent's checkpoint."""
    plan = diamond().spliced("2.b", Plan(steps=(), outgoing=[]))
    assert plan.value_feed(plan.step("4.d").feed) == [[], "3.c"]
    assert ready(plan, ["1.a", "2.b", "3.c"]) == ("4.d",)


def test_a_sub_plan_fails_like_its_parent() -> None:
    """The parent's failure handlers hold for the steps in its place, after their own."""
    plan = diamond().spliced("2.b", sub())
    assert plan.step("2.b/1.x").on_error == ("2.b/1.on_error.s", "1.on_error.h")
    assert plan.step("2.b/2.y").on_error == ("1.on_error.h",)


def test_a_splice_leaves_the_plan_it_came_from_alone() -> None:
    """Plans are frozen: splicing returns a new one."""
    plan = diamond()
    plan.spliced("2.b", sub())
    assert diamond() == plan


def test_a_loop_of_a_thousand_turns() -> None:
    """A step that replaces itself a thousand times over keeps short, distinct addresses and one value."""
    turn = Plan(
        steps=(Step(address="1.tool", task="t"), Step(address="2.turn", task="t", feed="1.tool", after=("1.tool",))),
        outgoing="2.turn",
    )
    plan, at = line("1.turn", "2.end"), "1.turn"
    for _ in range(1_000):
        plan = plan.spliced(at, turn)
        at = plan.steps[-1].address
    addresses = [step.address for step in plan.steps]
    assert len(addresses) == len(set(addresses)) == 2_002
    assert max(map(len, addresses)) <= LONGEST_PREFIX + len("/2.turn")
    assert (at,) == plan.inputs_of(plan.step("2.end"))
    assert addresses == sorted(addresses, key=plan.positions.__getitem__)
    assert plan.released(plan.everything & ~plan.mask(["2.end"]), at) == ("2.end",)


@pytest.mark.parametrize("length", [1, LONGEST_PREFIX])
def test_a_short_prefix_is_the_address_itself(length: int) -> None:
    """Addresses of up to 160 characters are prefixes as they are."""
    assert "x" * length == prefix_of("x" * length)


def test_a_long_prefix_is_a_digest() -> None:
    """Longer addresses are shortened to 25 characters that depend on every one of theirs."""
    long, other = "x" * (LONGEST_PREFIX + 1), "x" * LONGEST_PREFIX + "y"
    assert (len(prefix_of(long)), prefix_of(long)[0]) == (25, "~")
    assert prefix_of(long) != prefix_of(other)


def test_a_wide_fan_in_waits_for_the_last() -> None:
    """A join of thousands of members is released by whichever of them commits last, and by no other."""
    members = tuple(Step(address=f"{ordinal}.x", task="t") for ordinal in range(1, 3_001))
    join = Step(address="3001.j", task="t", after=tuple(step.address for step in members))
    plan = Plan(steps=(*members, join), outgoing="10001.j")
    all_members = plan.everything >> 1
    assert plan.released(all_members & ~plan.mask(["9.x"]), "7.x") == ()
    assert plan.released(all_members, "7.x") == ("3001.j",)
