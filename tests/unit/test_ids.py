"""Ids: fresh, sortable by age, and of one form."""

from __future__ import annotations

import re
import uuid

import pytest

from aos_workflow import ids
from aos_workflow.clock import ManualClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock(1_700_000_000.123)
    monkeypatch.setattr(ids, "_clock", clock)
    return clock


def test_a_run_id_is_a_uuid_of_version_seven() -> None:
    """A run's id is the text of a UUID version 7 of the RFC's variant."""
    parsed = [uuid.UUID(ids.new_run_id()) for _ in range(50)]
    assert {(7, uuid.RFC_4122)} == {(one.version, one.variant) for one in parsed}


def test_a_run_id_has_its_usual_form() -> None:
    """A run's id is 36 characters, lower case."""
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", ids.new_run_id())


def test_a_run_id_starts_with_its_time(clock: ManualClock) -> None:
    """The first 48 bits of a run's id are the milliseconds since the epoch."""
    assert uuid.UUID(ids.new_run_id()).int >> 80 == 1_700_000_000_123


def test_run_ids_sort_by_age(clock: ManualClock) -> None:
    """A run made milliseconds later has a greater id, as text too."""
    made = []
    for _ in range(200):
        made.append(ids.new_run_id())
        clock.move(0.002)
    assert sorted(made) == made


def test_run_ids_of_one_moment_differ(clock: ManualClock) -> None:
    """Runs of the same millisecond have different ids."""
    assert len({ids.new_run_id() for _ in range(1_000)}) == 1_000


def test_a_time_beyond_48_bits_still_makes_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is far off cannot make an id that is none."""
    monkeypatch.setattr(ids, "_clock", ManualClock(1e15))
    assert uuid.UUID(ids.new_run_id()).version == 7


def test_worker_ids_and_tokens_are_fresh() -> None:
    """No two worker processes and no two claims share an id."""
    made = [*(ids.new_worker_id() for _ in range(200)), *(ids.new_token() for _ in range(200))]
    assert len(set(made)) == 400


def test_a_worker_id_says_what_it_is() -> None:
    """A worker process's id starts with ``w-``, a token is bare hex."""
    assert re.fullmatch(r"w-[0-9a-f]{16}", ids.new_worker_id())
    assert re.fullmatch(r"[0-9a-f]{16}", ids.new_token())


def test_a_seed_fits_a_bigint() -> None:
    """A fresh seed is never negative and fits the 63 bits of the database's column."""
    seeds = [ids.new_seed() for _ in range(500)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len(set(seeds)) == 500
