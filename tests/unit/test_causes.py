"""Causes: what was observed decides, from the certain to the probable."""

from __future__ import annotations

from typing import Any

import pytest

from aos_workflow.divergence import Cause, Divergence
from aos_workflow.journal import Breach
from aos_workflow.replay.causes import Clue, Observations, decide, is_permutation, tells_about_performance


def clue(cause: Cause, line: int = 1, **facts: Any) -> Clue:
    defaults = {"name": "", "family": "value", "order": line, "influence": "path"}
    return Clue(**{**defaults, "location": f"shop.py:{line}", "cause": cause, **facts})


def seen(**facts: Any) -> Observations:
    divergence = Divergence(address="1.price", path="/total", recorded=1, observed=2)
    return Observations(
        **{"divergence": divergence, "recorded": {"total": 1, "n": 5}, "observed": {"total": 2, "n": 5}, **facts}
    )


def test_what_was_refused_is_the_cause() -> None:
    """A breach of the seal explains a difference, with its own location."""
    refusal = Breach(cause="external_call", what="socket.connect", location="shop.py:7")
    assert decide(seen(refusals=(refusal,))) == (Cause.EXTERNAL_CALL, "shop.py:7")


def test_asking_more_often_than_recorded_is_an_effect_and_no_cause() -> None:
    """The journal's note that more was asked than recorded does not hide what made it ask."""
    note = Breach(cause="code_change", what="more calls of time.time", location="shop.py:7")
    found = seen(refusals=(note,), varies=True, clues=(clue(Cause.SET_ORDER, 3, family="order", moves=True),))
    assert decide(found) == (Cause.SET_ORDER, "shop.py:3")


def test_a_refused_log_file_is_not_the_cause_of_what_moves() -> None:
    """Where a source that moves changes the value, what was refused is beside the point."""
    refusal = Breach(cause="filesystem", what="to write a.log", location="shop.py:7")
    found = seen(refusals=(refusal,), varies=True, clues=(clue(Cause.UUID, 3, moves=True),))
    assert decide(found) == (Cause.UUID, "shop.py:3")


@pytest.mark.parametrize(
    ("clues", "cause", "line"),
    [
        ([clue(Cause.WALL_CLOCK, 2, moves=True, influence=""), clue(Cause.UUID, 3, moves=True)], Cause.UUID, 3),
        ([clue(Cause.ENVIRONMENT, 2), clue(Cause.OS_ENTROPY, 3, moves=True)], Cause.OS_ENTROPY, 3),
        (
            [clue(Cause.WALL_CLOCK, 2, moves=True), clue(Cause.SEED_MISMATCH, 3, family="seed", moves=True)],
            Cause.SEED_MISMATCH,
            3,
        ),
    ],
)
def test_of_what_moves_that_counts_which_changes_the_value(clues: list[Clue], cause: Cause, line: int) -> None:
    """Innocent calls beside it are not named; a seed is named before the clock that gave it."""
    assert decide(seen(varies=True, clues=tuple(clues))) == (cause, f"shop.py:{line}")


def test_a_change_of_code_is_named_when_the_step_is_steady() -> None:
    """Code that changed and gives the same each time is the cause."""
    changes = (("shop.price", "shop.py:4"),)
    assert decide(seen(changes=changes)) == (Cause.CODE_CHANGE, "shop.py:4")


def test_a_change_of_code_does_not_hide_what_moves() -> None:
    """Code that changed is innocent of a value that is another one each time."""
    found = seen(changes=(("shop.price", "shop.py:4"),), varies=True, clues=(clue(Cause.UUID, 9, moves=True),))
    assert decide(found) == (Cause.UUID, "shop.py:9")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (("shop.price", "shop.py:3"), Cause.SEED_MISMATCH),
        (("shop.SALT", "shop.py:1"), Cause.SEED_MISMATCH),
        (("shop.price", "shop.py:8"), Cause.CODE_CHANGE),
    ],
)
def test_a_changed_seed_is_a_seed_mismatch(change: tuple[str, str], cause: Cause) -> None:
    """A change in the line that seeds, or of a name in it, is one of the seed; any other is one of the code."""
    seed = clue(Cause.SEED_MISMATCH, 3, family="seed", mentions=frozenset({"random", "Random", "SALT"}))
    assert decide(seen(changes=(change,), clues=(seed,)))[0] is cause


def test_a_seed_that_follows_the_runs_is_no_mismatch() -> None:
    """Seeding a generator from ctx.seed each time is as it should be; the state beside it is what differs."""
    seed = clue(Cause.SEED_MISMATCH, 3, family="seed", is_runs=True)
    found = seen(clues=(seed,), state_matters=True, state_location="shop.py:5")
    assert decide(found) == (Cause.PROCESS_STATE, "shop.py:5")


def test_a_file_that_is_newer_than_the_recording_goes_before_the_environment() -> None:
    """Of two things that were there, the one that is known to have changed is named."""
    clues = (clue(Cause.ENVIRONMENT, 2), clue(Cause.FILESYSTEM, 3, is_newer=True))
    assert decide(seen(clues=clues)) == (Cause.FILESYSTEM, "shop.py:3")
    assert decide(seen(clues=(clues[0], clue(Cause.FILESYSTEM, 3)))) == (Cause.ENVIRONMENT, "shop.py:2")


def test_threads_are_blamed_when_frozen_sources_do_not_explain_it() -> None:
    """What still varies in a frozen world with threads is a race, at the place where the first one counts."""
    gathered = clue(Cause.THREAD_RACE, 6, family="thread", name="concurrent.futures.as_completed", influence="")
    draws = clue(Cause.UNSEEDED_RANDOM, 2, moves=True, influence="output")
    found = seen(varies=True, is_explained=False, uses_threads=True, clues=(draws, gathered))
    assert decide(found) == (Cause.THREAD_RACE, "shop.py:6")


def test_only_telling_fields_beside_an_equal_answer_are_volatile() -> None:
    """A duration is a volatile field where the rest is equal, and a matter of the clock where it is not."""
    clock = (clue(Cause.WALL_CLOCK, 4, moves=True),)
    beside = seen(recorded={"n": 1, "took_ms": 3}, observed={"n": 1, "took_ms": 4}, varies=True, clues=clock)
    assert decide(beside) == (Cause.VOLATILE_FIELD, "shop.py:4")
    alone = seen(recorded={"took_ms": 3}, observed={"took_ms": 4}, varies=True, clues=clock)
    assert decide(alone) == (Cause.WALL_CLOCK, "shop.py:4")
    with_more = seen(recorded={"n": 1, "took_ms": 3}, observed={"n": 2, "took_ms": 4}, varies=True, clues=clock)
    assert decide(with_more) == (Cause.WALL_CLOCK, "shop.py:4")


@pytest.mark.parametrize("field", ["duration_ms", "elapsed", "startedAt", "request_id", "hostname", "total_runtime_s"])
def test_names_that_tell_about_the_performance(field: str) -> None:
    """Such fields say how, when and where an answer was made."""
    assert tells_about_performance(field)


@pytest.mark.parametrize("field", ["total", "number", "due_at", "id", "expires_at", "started_by", "cost_s", "host_key"])
def test_names_that_do_not_tell_about_the_performance(field: str) -> None:
    """Such fields are part of an answer."""
    assert not tells_about_performance(field)


def test_values_speak_when_nothing_else_does() -> None:
    """Two different UUIDs are UUIDs, even when no call was seen."""
    ids = ["0190163d-8694-739b-aea5-966c26f8ad91", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"]
    divergence = Divergence(address="1.a", path="", recorded=ids[0], observed=ids[1])
    found = seen(divergence=divergence, recorded=ids[0], observed=ids[1], parting="shop.py:2")
    assert decide(found) == (Cause.UUID, "shop.py:2")


def test_nothing_known_is_unknown() -> None:
    """Without any evidence the cause is unknown."""
    assert decide(seen()) == (Cause.UNKNOWN, None)


def test_permutations_are_seen_in_lists_texts_and_below() -> None:
    """The same members in another order, at any depth."""
    assert is_permutation(["a", "b"], ["b", "a"])
    assert is_permutation("a, b", "b, a")
    assert is_permutation({"x": ["a", "b"], "n": 1}, {"x": ["b", "a"], "n": 1})
    assert not is_permutation(["a"], ["b"])
    assert not is_permutation({"n": 1}, {"n": 1})
