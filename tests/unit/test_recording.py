"""Recording: what a finished run leaves is what performing it again needs, and it comes back from its JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos_workflow.canonical import digest, encode, stable_digest
from aos_workflow.errors import GoldenUnreadable, VersionMismatch
from aos_workflow.plan import INPUT, Plan, Step
from aos_workflow.recording import RecordedStep, Recording, recording_of
from aos_workflow.records import Attempt, AttemptState, Checkpoint, Run, RunStatus, workflow_hash

A = Step(address="1.a", task="t.a", feed=INPUT, on_error=("1.on_error.h",))
B = Step(address="2.b", task="t.b", feed="1.a", after=("1.a",))
TENTH = Step(address="10.c", task="t.c", after=("2.b",))
HANDLER = Step(address="1.on_error.h", task="t.h")
PLAN = Plan(steps=(A, B, TENTH), handlers=(HANDLER,), outgoing="2.b")
SUB = Plan(steps=(Step(address="1.x", task="t.x"), Step(address="2.y", task="t.y", feed="1.x")), outgoing="2.y")
INPUTS = encode({"n": 1})


def checkpoint(address: str, value: Any, *, position: int, **changes: Any) -> Checkpoint:
    text = encode(value)
    facts: dict[str, Any] = {
        "run_id": "r", "address": address, "position": position, "output": text, "digest": digest(text),
        "stable_digest": digest(text), "attempt": 1, "effects": None, "worker_id": "w", "started_at": 0.0,
        "committed_at": 0.0,
    }  # fmt: skip
    return Checkpoint(**{**facts, **changes})


def run_of(**changes: Any) -> Run:
    facts: dict[str, Any] = {
        "id": "r", "workflow": "w", "status": RunStatus.SUCCEEDED, "plan_digest": PLAN.digest,
        "inputs_digest": digest(INPUTS), "seed": 7, "logical_time": 12.5, "idempotency_key": None, "epoch": 1,
        "size": 3, "done": 7, "splices": 0, "inline": True, "created_at": 0.0, "updated_at": 0.0, "started_at": 0.0,
        "finished_at": 1.0, "workflow_hash": "h", "error": None,
    }  # fmt: skip
    return Run(**{**facts, **changes})


CHECKPOINTS = [
    checkpoint("10.c", 3, position=2),
    checkpoint("1.a", {"x": 1}, position=0, effects='{"effects": {"rate": 2}}', attempt=3),
    checkpoint("2.b", [1], position=1),
]


def recorded(**changes: Any) -> Recording:
    """The recording of a run of ``PLAN``."""
    given: dict[str, Any] = {
        "inputs": INPUTS, "plan": PLAN, "splices": (), "checkpoints": CHECKPOINTS, "attempts": (), "facts": {},
    }  # fmt: skip
    return recording_of(run_of(), **{**given, **changes})


def attempt(address: str, number: int, state: AttemptState) -> Attempt:
    return Attempt(
        run_id="r", address=address, attempt=number, state=state, worker_id="w", pid=1, started_at=0.0,
        finished_at=None, due_at=None, error=None,
    )  # fmt: skip


def test_steps_are_in_plan_order_whatever_order_they_were_read_in() -> None:
    """The tenth step comes after the second, though "10" sorts before "2"."""
    assert [step.address for step in recorded().steps] == ["1.a", "2.b", "10.c"]
    assert recorded(checkpoints=CHECKPOINTS[::-1]) == recorded()


def test_a_step_knows_its_task_effects_and_attempts() -> None:
    """Of each step there is its task, its output with digests, its journal, and how often it was tried."""
    states = [AttemptState.RETRY, AttemptState.RETRY, AttemptState.COMMITTED]
    attempts = [attempt("1.a", number, state) for number, state in enumerate(states, 1)]
    step = recorded(attempts=attempts, facts={"t.a": {"effect": True, "volatile": ["/ms"]}}).step("1.a")
    assert (step.task, step.effects, step.attempt, step.retries) == ("t.a", '{"effects": {"rate": 2}}', 3, 2)
    assert (step.effect, step.volatile) == (True, ("/ms",))
    assert recorded(attempts=attempts).step("2.b").retries == 0


def test_only_retries_count_as_retries() -> None:
    """An attempt whose worker was lost was a new attempt, but nothing had been raised."""
    lost = [state for state in AttemptState if state not in (AttemptState.RETRY, AttemptState.COMMITTED)]
    attempts = [attempt("1.a", number, state) for number, state in enumerate(lost, 1)]
    assert recorded(attempts=attempts).step("1.a").retries == 0


def test_the_handler_of_a_failure_that_was_resumed_is_no_step() -> None:
    """What a handler returned is in the database and neither in the recording nor in the hash."""
    handled = [*CHECKPOINTS, checkpoint("1.on_error.h", "told", position=-1)]
    assert recorded(checkpoints=handled) == recorded()


def test_sub_plans_are_in_their_place() -> None:
    """Steps that a step brought are recorded after it, and the whole plan has them."""
    splices = [("2.b", SUB), ("2.b/2.y", SUB)]
    brought = [
        checkpoint(address, 1, position=3 + number)
        for number, address in enumerate(["2.b/1.x", "2.b/2.y", "2.b/2.y/1.x", "2.b/2.y/2.y"])
    ]
    recording = recorded(splices=splices, checkpoints=[*reversed(brought), *CHECKPOINTS])
    assert [step.address for step in recording.steps] == [
        "1.a", "2.b", "2.b/1.x", "2.b/2.y", "2.b/2.y/1.x", "2.b/2.y/2.y", "10.c",
    ]  # fmt: skip
    assert [step.address for step in recording.whole_plan.steps][3:] == [step.address for step in brought]
    assert recording.step("2.b/2.y/1.x").task == "t.x"
    assert set(recording.outputs) == {INPUT, *(step.address for step in recording.steps)}


def test_the_hash_is_the_run_s() -> None:
    """With the recorded digests the recording's hash is the workflow hash as the run committed it."""
    digests = {step.address: step.stable_digest for step in recorded().steps}
    expected = workflow_hash(workflow="w", inputs_digest=digest(INPUTS), seed=7, digests=digests)
    assert recorded().hash_of(digests) == expected
    assert recorded().hash_of({**digests, "1.a": digest("2")}) != expected


def test_code_of_the_tasks_that_have_some() -> None:
    """Where the code of a task was is kept by its name."""
    code = {"file": "shop.py", "line": 3}
    assert recorded(facts={"t.b": {"code": code}, "t.a": {"code": {}}}).code == {"t.b": code}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=40)
@given(VALUES, VALUES, st.sampled_from([(), ("/ms",), ("a", "/b/*")]))
def test_a_recording_comes_back_from_json(value: Any, effect: Any, volatile: tuple[str, ...]) -> None:
    """Through a JSON file and back it is the same recording, to the last character of each text."""
    text = encode(value)
    journal = encode({"effects": {"e": effect}})
    step = RecordedStep(
        address="1.a", task="t.a", output=text, digest=digest(text), stable_digest=stable_digest(text, volatile),
        effects=journal, attempt=2, retries=1, volatile=volatile, effect=True,
    )  # fmt: skip
    recording = replace(recorded(splices=[("2.b", SUB)]), steps=(step,), inputs=text)
    again = Recording.from_json(json.loads(json.dumps(recording.as_json(), indent=2)))
    assert again == recording
    assert again.whole_plan == recording.whole_plan


@pytest.mark.parametrize("gone", ["run_id", "workflow", "seed", "logical_time", "inputs", "plan", "splices", "steps"])
def test_what_is_no_recording_is_unreadable(gone: str) -> None:
    """A document without one of its parts is told to be of another version, not a crash."""
    document = recorded().as_json()
    del document[gone]
    with pytest.raises(GoldenUnreadable, match="another version"):
        Recording.from_json(document)


@pytest.mark.parametrize(
    "broken",
    [
        {"steps": [{"address": "1.a"}]},
        {"steps": [None]},
        {"steps": 5},
        {"splices": [{}]},
        {"splices": [{"address": "9.gone", "plan": json.loads(SUB.text)}]},
        {"plan": []},
        {"plan": None},
        {"plan": {"format": 1}},
        {"steps": [{**recorded().steps[0].as_json(), "address": "9.gone"}]},
    ],
)
def test_what_is_no_part_of_a_recording_is_unreadable(broken: dict[str, Any]) -> None:
    """Nor is a part that is something else a crash."""
    with pytest.raises((GoldenUnreadable, VersionMismatch)):
        Recording.from_json({**recorded().as_json(), **broken})


@pytest.mark.parametrize("member", ["newer"])
def test_a_step_with_parts_this_code_does_not_know_is_unreadable(member: str) -> None:
    """A newer version's recording is not half understood."""
    document = recorded().as_json()
    document["steps"][0][member] = 1
    with pytest.raises(GoldenUnreadable):
        Recording.from_json(document)


def test_a_plan_of_another_format_is_named() -> None:
    """A plan that this code does not read says which format it has."""
    document = recorded().as_json()
    document["plan"]["format"] = 2
    with pytest.raises(VersionMismatch, match="has format 2"):
        Recording.from_json(document)
