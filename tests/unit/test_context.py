"""StepContext: whatever a step asks for is the same in every attempt, and different for every step."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any, NoReturn

import pytest

from aos_workflow.canonical import encode, parse
from aos_workflow.context import Replacement, StepContext, current, derive_seed, detached_context
from aos_workflow.errors import BadOption, NotCanonical, UndeclaredEffect, VersionMismatch
from aos_workflow.journal import EffectJournal


def context(**changes: Any) -> StepContext:
    facts: dict[str, Any] = {
        "run_id": "run-1",
        "workflow": "triage",
        "address": "3.score",
        "attempt": 1,
        "seed": 42,
        "logical_time": 1_700_000_000.5,
    }
    return StepContext(**{**facts, **changes})


# --- chance and time ------------------------------------------------------------------------


def test_the_seed_of_a_step_is_the_documented_one() -> None:
    """A step's seed is the first eight bytes of SHA-256 of "seed:address", big-endian."""
    expected = int.from_bytes(hashlib.sha256(b"42:3.score").digest()[:8], "big")
    assert expected == derive_seed(42, "3.score")


def test_chance_is_the_step_s_own_seed() -> None:
    """``ctx.random`` is Python's Random with the step's seed."""
    assert Random(derive_seed(42, "3.score")).random() == context().random.random()


def test_chance_is_the_same_in_every_life_of_the_run() -> None:
    """Neither attempt nor run id nor workflow nor time changes what a step draws."""
    drawn = [context(**change).random.random() for change in
             ({}, {"attempt": 9}, {"run_id": "run-2"}, {"workflow": "x"}, {"logical_time": 0.0})]  # fmt: skip
    assert [drawn[0]] * 5 == drawn


@pytest.mark.parametrize("change", [{"seed": 43}, {"address": "4.score"}, {"address": "3.score/1.score"}], ids=str)
def test_chance_differs_between_steps_and_seeds(change: dict[str, Any]) -> None:
    """Another run seed or another address draws something else."""
    assert context().random.random() != context(**change).random.random()


def test_draws_go_on() -> None:
    """``ctx.random`` is one generator per attempt, not a fresh one per access."""
    ctx = context()
    assert ctx.random.random() != ctx.random.random()


def test_uuids_are_seeded() -> None:
    """The n-th uuid of a step is the same in every attempt, a version 4, and unlike the others."""
    series = [context(attempt=2).uuid(), *([ctx.uuid(), ctx.uuid()] if (ctx := context()) else [])]
    assert series[0] == series[1]
    assert series[1] != series[2]
    assert {(4, uuid.RFC_4122)} == {(one.version, one.variant) for one in series}


def test_uuids_and_draws_do_not_disturb_each_other() -> None:
    """A step that asks for an id draws the same numbers as one that does not."""
    asking, plain = context(), context()
    asking.uuid()
    assert plain.random.random() == asking.random.random()


def test_an_id_tells_nothing_of_the_draws() -> None:
    """Ids come from a seed of their own: whoever sees one cannot tell what the step draws."""
    of_the_draws = Random(derive_seed(42, "3.score")).getrandbits(128)
    assert uuid.UUID(int=of_the_draws, version=4) != context().uuid()


def test_now_is_the_run_s_logical_time() -> None:
    """``ctx.now`` is the moment of the run's start in UTC, whatever the attempt and the clock."""
    assert datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC) == context(attempt=5).now


# --- effects --------------------------------------------------------------------------------


def test_an_effect_s_value_is_recorded() -> None:
    """An effect is called with its arguments, and its value is in the journal as canonical JSON."""
    ctx = context()
    assert ctx.effect("add", lambda a, b=0: {"sum": a + b}, 3, b=4) == {"sum": 7}
    assert ctx.journal.effects == {"add": {"sum": 7}}
    assert encode({"effects": {"add": {"sum": 7}}}) == ctx.journal.text()


def test_no_effects_leave_no_text() -> None:
    """A journal without effects has nothing to store."""
    assert EffectJournal().text() is None


def test_a_name_used_again_is_the_next_effect() -> None:
    """The n-th effect of a name is recorded as name#n."""
    ctx = context()
    assert [ctx.effect("get", lambda value=value: value) for value in "abc"] == ["a", "b", "c"]
    assert ctx.journal.effects == {"get": "a", "get#2": "b", "get#3": "c"}


def test_a_known_effect_is_served_back() -> None:
    """With a recording, every effect gives its recorded value and its function is not called."""
    journal = EffectJournal('{"effects": {"get": "a", "get#2": "b"}}', is_replay=True)
    ctx = context(journal=journal)

    def touch() -> NoReturn:
        raise AssertionError("the world was touched")

    assert [ctx.effect("get", touch), ctx.effect("get", touch)] == ["a", "b"]


@pytest.mark.parametrize("names", [["a#2", "a", "a"], ["a", "a", "a#2"], ["a#2#1", "a#2", "a", "a"], ["#1", "", ""]])
def test_no_two_effects_share_a_record(names: list[str]) -> None:
    """A name that looks like a numbered one is not mistaken for it."""
    ctx = context()
    values = [ctx.effect(name, lambda value=value: value) for value, name in enumerate(names)]
    assert list(range(len(names))) == values
    assert len(names) == len(ctx.journal.effects)


def test_a_url_with_a_fragment_is_a_good_name() -> None:
    """Only a number after the sign is special: other names are recorded as they are."""
    ctx = context()
    ctx.effect("https://example.org/#top", int)
    assert list(ctx.journal.effects) == ["https://example.org/#top"]


def test_a_replay_refuses_an_effect_that_was_not_recorded() -> None:
    """What the recording does not hold is not fetched from outside: the step is told, and the breach is noted."""
    journal = EffectJournal('{"effects": {"get": 1}}', is_replay=True)
    with pytest.raises(UndeclaredEffect, match="effect 'other'"):
        context(journal=journal).effect("other", raising_touch)
    assert [(breach.cause, breach.what) for breach in journal.breaches] == [("external_call", "effect 'other'")]


def test_a_journal_of_another_version_is_refused() -> None:
    """A recorded part that this code does not know is an error of version, not ignored."""
    with pytest.raises(VersionMismatch, match="dreams"):
        EffectJournal('{"dreams": []}')


def test_a_journal_s_text_makes_the_same_journal() -> None:
    """Recorded, written, read: effects, captured values and exchanges come back."""
    journal = EffectJournal()
    journal.perform("get", dict, (), {"a": 1})
    journal.draw("time.time@app", lambda: 1.5, lambda: 0.0)
    journal.keep_exchange({"key": "GET http://a", "status": 200})
    again = EffectJournal(journal.text(), is_replay=True)
    assert journal.text() == again.text()
    assert again.draw("time.time@app", raising_touch, lambda: 0.0) == 1.5
    assert again.recorded_exchange("GET http://a")["status"] == 200


def test_what_is_served_whole_keeps_nothing_of_what_was_captured() -> None:
    """A step that used ctx.session, or captured more than a journal takes, stores its effects and that mark only."""
    for mark in ("session", "full"):
        journal = EffectJournal()
        journal.perform("get", dict, (), {"a": 1})
        journal.draw("time.time@app", lambda: 1.5, lambda: 0.0)
        journal.used_session, journal.is_full = mark == "session", mark == "full"
        assert parse(journal.text() or "") == {"effects": {"get": {"a": 1}}, mark: True}


def test_a_journal_has_a_limit() -> None:
    """Beyond it nothing more is recorded, live values go on, and the same breach is remembered once."""
    journal = EffectJournal()
    drawn = [journal.draw("os.urandom@app", lambda: "x" * 1_000_000, str) for _ in range(20)]
    assert len(drawn) == 20
    assert journal.is_full
    assert sum(map(len, journal.ambient["os.urandom@app"])) < 9_000_000
    assert journal.keep_exchange({"key": "GET http://a", "body": "x"}) is False
    replay = EffectJournal(is_replay=True)
    for _ in range(1000):
        replay.draw("time.time@app", raising_touch, lambda: 0.0)
    assert len(replay.breaches) == 1


def test_a_drawn_series_is_served_in_order_and_then_from_beyond() -> None:
    """The n-th draw of a series gets its n-th recorded value; one more is noted and gets a stand-in."""
    journal = EffectJournal('{"ambient": {"time.time@app": [1.0, 2.0]}}', is_replay=True)
    drawn = [journal.draw("time.time@app", raising_touch, lambda: 9.0) for _ in range(3)]
    assert drawn == [1.0, 2.0, 9.0]
    assert [breach.cause for breach in journal.breaches] == ["code_change"]


def raising_touch() -> NoReturn:
    raise AssertionError("the world was touched")


def test_what_the_step_does_with_a_value_is_not_recorded() -> None:
    """Changing an effect's value afterwards does not change the record."""
    ctx = context()
    ctx.effect("items", list).append(1)
    assert ctx.journal.effects["items"] == []


def test_live_and_replay_hand_out_the_same_value() -> None:
    """An effect's value is what the record gives back, also where that is not the very same object."""
    ctx = context()
    live = ctx.effect("point", lambda: {"at": (1, 2), "tags": {"b", "a"}})
    served = context(journal=EffectJournal(ctx.journal.text(), is_replay=True)).effect("point", dict)
    assert {"at": (1, 2), "tags": {"a", "b"}} == live == served


@pytest.mark.parametrize("value", [object(), float("nan"), [lambda: None]], ids=["object", "nan", "function"])
def test_an_effect_that_cannot_be_recorded_is_refused(value: Any) -> None:
    """A value without canonical form is refused, naming the effect, and leaves no record."""
    ctx = context()
    with pytest.raises(NotCanonical, match="the value of effect 'get'"):
        ctx.effect("get", lambda: value)
    assert ctx.journal.effects == {}


def test_a_failing_effect_is_not_recorded() -> None:
    """An effect that raises raises in the step, and the journal knows nothing of it."""
    ctx = context()
    with pytest.raises(ZeroDivisionError):
        ctx.effect("divide", lambda: 1 / 0)
    assert ctx.journal.text() is None


def test_the_journal_s_text_is_strict_json() -> None:
    """The stored effects parse as one JSON object of values."""
    ctx = context()
    ctx.effect("b", lambda: "☃")
    ctx.effect("a", lambda: None)
    text = ctx.journal.text()
    assert text is not None
    assert parse(text) == {"effects": {"a": None, "b": "☃"}}


# --- identity, session, log, replace -------------------------------------------------------


def test_the_idempotency_key_names_run_and_step() -> None:
    """The key is the same for every attempt of a step of a run, and for nothing else."""
    keys = {
        context(**change).idempotency_key
        for change in ({}, {"attempt": 7}, {"seed": 1}, {"run_id": "run-2"}, {"address": "4.b"})
    }
    assert {"run-1:3.score", "run-2:3.score", "run-1:4.b"} == keys


def test_a_session_needs_the_engine() -> None:
    """Outside the engine there is no database: asking for a session says what to do."""
    with pytest.raises(BadOption, match="run the step as part of a workflow"):
        _ = context().session


def test_a_session_is_opened_once_and_only_when_asked_for() -> None:
    """``ctx.session`` opens one session at first use; ``has_session`` says whether that has happened."""
    opened: list[object] = []

    def open_session() -> Any:
        opened.append(object())
        return opened[-1]

    ctx = context(open_session=open_session)
    assert not ctx.has_session
    assert [ctx.session, ctx.session] == opened * 2
    assert ctx.has_session


def test_a_refused_session_was_not_asked_for() -> None:
    """After a refusal there is no session that somebody would have to close."""
    ctx = context()
    with pytest.raises(BadOption):
        _ = ctx.session
    assert not ctx.has_session


def test_log_lines_know_their_step(caplog: pytest.LogCaptureFixture) -> None:
    """Every line of ``ctx.log`` carries run, workflow, address and attempt."""
    with caplog.at_level(logging.INFO, logger="aos_workflow.step"):
        context(attempt=2).log.info("scored %d", 5)
    (record,) = caplog.records
    assert (
        record.getMessage(), record.run, record.workflow, record.address, record.attempt,  # type: ignore[attr-defined]
    ) == ("scored 5", "run-1", "triage", "3.score", 2)  # fmt: skip


def test_a_replacement_carries_its_canvas() -> None:
    """``ctx.replace`` wraps the canvas for the step to return."""
    replacement = context().replace("a canvas")
    assert (Replacement, "a canvas") == (type(replacement), replacement.canvas)


@pytest.mark.parametrize("wrap", [lambda it: [it], lambda it: {"next": it}], ids=["list", "dict"])
def test_a_replacement_inside_a_value_is_refused(wrap: Callable[[Any], Any]) -> None:
    """A replacement is the whole answer of a step or none: inside of a value it cannot be stored."""
    with pytest.raises(NotCanonical, match="Replacement"):
        encode(wrap(context().replace("a canvas")))


def test_nobody_performs_a_step_here() -> None:
    """Outside a step there is no current context."""
    assert current.get() is None


def test_a_detached_step_has_a_life_of_its_own() -> None:
    """A step called as a plain function has an id, chance and time that are real and its own."""
    first, second = detached_context("pkg.module.score"), detached_context("pkg.module.score")
    assert (first.address, first.workflow, first.attempt) == ("1.score", "detached", 1)
    assert first.run_id.startswith("detached-")
    assert (first.run_id, first.random.random()) != (second.run_id, second.random.random())
    assert abs((datetime.now(UTC) - first.now).total_seconds()) < 3_600
