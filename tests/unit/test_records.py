"""The nouns of a run: frozen, and proven by one hash."""

from __future__ import annotations

import hashlib
import inspect
import json
import random
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import pytest

from aos_workflow import messages, plan, records
from aos_workflow.records import LIVE, AttemptState, Failure, RunStatus, workflow_hash

NOUNS = [
    noun
    for room in (records, messages, plan)
    for _, noun in inspect.getmembers(room, inspect.isclass)
    if is_dataclass(noun) and noun.__module__ == room.__name__
]
FACTS: dict[str, Any] = {"workflow": "triage", "inputs_digest": "ab" * 32, "seed": 7}


def proof(**changes: Any) -> str:
    return workflow_hash(**{**FACTS, "digests": {"1.a": "d1", "2.b": "d2"}, **changes})


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_nouns_are_frozen_and_take_keywords_only(noun: type) -> None:
    """Every noun is a frozen dataclass whose fields are given by name."""
    assert noun.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.kw_only for field in fields(noun))


def test_a_noun_cannot_be_changed() -> None:
    """What the store handed out stays as it was."""
    failure = Failure(code="STEP_FAILED", type="ValueError", message="no")
    with pytest.raises(FrozenInstanceError):
        failure.message = "yes"  # type: ignore[misc]


def test_the_words_of_a_run() -> None:
    """A run stands at one of six words, as the database spells them."""
    assert list(RunStatus) == ["enqueued", "running", "failing", "succeeded", "failed", "cancelled"]


def test_the_words_of_an_attempt() -> None:
    """An attempt stands at one of six words, as the database spells them."""
    assert list(AttemptState) == ["running", "committed", "failed", "retry", "deferred", "lost"]


def test_a_run_is_live_or_has_ended() -> None:
    """The first three words are live, the others terminal, none is both."""
    assert [status.is_live for status in RunStatus] == [True, True, True, False, False, False]
    assert all(status.is_live is not status.is_terminal for status in RunStatus)
    assert set(LIVE) == {status for status in RunStatus if status.is_live}


def test_a_failure_survives_json() -> None:
    """A failure comes back from its JSON as it was."""
    failure = Failure(
        code="STEP_FAILED",
        type="pkg.Broken",
        message="it \x00 broke ☃",
        traceback="Traceback ...",
        address="3.score/1.child",
        handlers=("1.on_error.tell",),
    )
    assert failure == Failure.from_json(json.loads(json.dumps(failure.as_json())))


def test_a_failure_of_few_words_survives_json() -> None:
    """A stored failure without handlers reads as one that has none."""
    document = {"code": "X", "type": "T", "message": "m"}
    assert Failure(code="X", type="T", message="m") == Failure.from_json(document)


def test_the_hash_is_the_documented_one() -> None:
    """The workflow hash is SHA-256 of the canonical JSON that its docstring spells out."""
    document = {
        "workflow": "triage",
        "inputs": "ab" * 32,
        "seed": 7,
        "steps": [["1.a", "d1"], ["2.b", "d2"]],
    }
    assert hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest() == proof()


def test_the_hash_does_not_depend_on_the_order_of_commits() -> None:
    """The same digests in any order give the same hash."""
    addresses = ["1.a", "2.b", "2.b/1.c", "10.d", "3.e", "3.e/2.f", "3.e/10.g", "~abc/1.h"]
    shuffled = list(addresses)
    random.Random(1).shuffle(shuffled)
    assert proof(digests={name: name for name in addresses}) == proof(digests={name: name for name in shuffled})


def test_the_hash_orders_steps_as_the_plan_does() -> None:
    """Steps are hashed in plan order: 2 before 10, a sub-plan right after its parent."""
    ordered = ["1.a", "2.b", "2.b/1.c", "2.b/10.d", "10.e"]
    document = {"workflow": "triage", "inputs": "ab" * 32, "seed": 7, "steps": [[name, "x"] for name in ordered]}
    expected = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    assert expected == proof(digests=dict.fromkeys(reversed(ordered), "x"))


@pytest.mark.parametrize(
    "change",
    [
        {"workflow": "other"},
        {"inputs_digest": "cd" * 32},
        {"seed": 8},
        {"digests": {"1.a": "d1", "2.b": "d3"}},
        {"digests": {"1.a": "d1", "3.b": "d2"}},
        {"digests": {"1.a": "d1"}},
        {"digests": {}},
    ],
    ids=str,
)
def test_the_hash_notices(change: dict[str, Any]) -> None:
    """Another workflow, input, seed, address or output is another hash."""
    assert proof() != proof(**change)


def test_a_run_result_of_a_failure_has_no_output() -> None:
    """A result says only what there is: output and hash are None unless given."""
    result = records.RunResult(run_id="r", workflow="w", status=RunStatus.FAILED)
    assert (result.output, result.workflow_hash, result.error) == (None, None, None)
