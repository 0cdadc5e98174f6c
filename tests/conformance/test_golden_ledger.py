"""The golden ledger's promises, once for SQLite and once for PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from aos_workflow.errors import StoreError
from aos_workflow.faults import InjectedFault, install
from aos_workflow.goldens.ledger import GENESIS, LedgerEntry, view_of
from aos_workflow.schema import LedgerOp
from tests.conformance.store_cases import at_once, line
from tests.golden_cases import Home, golden, opened_home

RACERS, APPENDS = 8, 5


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind ("" is SQLite): a chain begins with its first entry."""
    if request.param == "sqlite":
        return ""
    return str(request.getfixturevalue("servers").database())


@pytest.fixture
def home(url: str, tmp_path: Path) -> Iterator[Home]:
    with opened_home(tmp_path, url=url) as home:
        yield home


def entry(name: str = "w-1.json") -> LedgerEntry:
    return LedgerEntry(op=LedgerOp.ADD, name=name, run_id="r", content_sha256="c", key_id="k")


def force(home: Home, statement: str) -> None:
    """Change the ledger behind its trigger, as a superuser can."""
    with home.bench.engine.begin() as connection:
        if home.bench.store.is_postgres:
            connection.execute(text("ALTER TABLE golden_ledger DISABLE TRIGGER ALL"))
        else:
            connection.execute(text("DROP TRIGGER IF EXISTS golden_ledger_no_update"))
            connection.execute(text("DROP TRIGGER IF EXISTS golden_ledger_no_delete"))
        connection.execute(text(statement))


def test_entries_form_a_chain(home: Home) -> None:
    """Each holds the hash of the one before, and what was read back hashes to what was written."""
    for number in range(3):
        home.ledger.append([entry(f"w-{number}.json"), entry(f"v-{number}.json")])
    entries = home.ledger.entries()
    assert [one.seq for one in entries] == [1, 2, 3, 4, 5, 6]
    assert [one.prev for one in entries] == [GENESIS, *(one.hash for one in entries[:-1])]
    assert all(one.hash == one.computed_hash() for one in entries)
    assert home.ledger.view().broken == ()


def test_appends_at_once_queue_up(home: Home) -> None:
    """Racing appenders leave one unbroken chain with everything in it."""
    calls = [
        lambda racer=racer: [home.ledger.append([entry(f"w-{racer}-{n}.json")]) for n in range(APPENDS)]
        for racer in range(RACERS)
    ]
    at_once(calls)
    assert len(home.ledger.entries()) == RACERS * APPENDS
    assert home.ledger.view().broken == ()


@pytest.mark.parametrize("statement", ["UPDATE golden_ledger SET name = 'x'", "DELETE FROM golden_ledger"])
def test_the_database_refuses_changes(home: Home, statement: str) -> None:
    """Neither UPDATE nor DELETE is let through, whoever asks."""
    home.ledger.append([entry()])
    with home.bench.engine.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
        connection.execute(text(statement))
    assert len(home.ledger.entries()) == 1


def test_the_database_refuses_truncation(home: Home) -> None:
    """Nor TRUNCATE, where there is one."""
    if not home.bench.store.is_postgres:
        pytest.skip("SQLite has no TRUNCATE")
    home.ledger.append([entry()])
    with home.bench.engine.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
        connection.execute(text("TRUNCATE golden_ledger"))


def test_an_unknown_word_is_refused(home: Home) -> None:
    """Only the known operations can be entered; nothing of a refused batch stays."""
    with home.bench.engine.connect() as connection, pytest.raises(DBAPIError):
        connection.execute(
            text("INSERT INTO golden_ledger (seq, at, op, name, prev, hash) VALUES (1, 0, 'forget', 'x', 'p', 'h')")
        )
    with pytest.raises(StoreError):
        home.ledger.append([entry(), entry("")])
    assert home.ledger.entries() == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE golden_ledger SET content_sha256 = 'x' WHERE seq = 2", "entry 2 was changed"),
        ("UPDATE golden_ledger SET at = at + 1 WHERE seq = 3", "entry 3 was changed"),
        ("DELETE FROM golden_ledger WHERE seq = 2", "entry 2 is missing before 3"),
        ("DELETE FROM golden_ledger WHERE seq = 1", "entry 1 is missing before 2"),
        ("UPDATE golden_ledger SET hash = 'x' WHERE seq = 2", "entry 3 does not follow"),
    ],
)
def test_a_change_behind_the_trigger_shows(home: Home, statement: str, said: str) -> None:
    """Each kind of change breaks the chain at a place that is named."""
    home.recorded(4)
    force(home, statement)
    broken = home.ledger.view().broken
    assert said in "; ".join(broken)


def test_an_end_that_was_cut_off_shows(home: Home) -> None:
    """Entries removed from the end leave recorded runs without any."""
    paths = home.recorded(3)
    force(home, "DELETE FROM golden_ledger WHERE seq = 3")
    (broken,) = home.ledger.view().broken
    assert paths[2].stem[2:] in broken


def test_a_rehashed_entry_breaks_the_next_link() -> None:
    """Who changes an entry and its hash has to change all that follow."""
    one = entry().after(None, 1.0)
    two = entry().after(one, 2.0)
    forged = replace(one, content_sha256="x")
    forged = replace(forged, hash=forged.computed_hash())
    assert view_of([one, two], at=3.0).broken == ()
    assert view_of([forged, two], at=3.0).broken == ("entry 2 does not follow the one before it: that one was changed",)


def test_adding_marks_the_run_in_the_same_transaction(home: Home) -> None:
    """Entry and mark are both there or both not."""
    run_id = home.run()
    install("golden_placed:raise")
    try:
        with pytest.raises(InjectedFault):
            home.recorder.record(run_id)
    finally:
        install("")
    assert home.ops() == []
    assert home.bench.store.golden_wanted(10) == [run_id]
    home.recorder.record(run_id)
    assert home.ops() == ["add"]
    assert home.bench.store.golden_wanted(10) == []


def test_racing_additions_of_one_golden_make_one_entry(home: Home) -> None:
    """Recorders at once enter a golden once."""
    one = golden()
    at_once([lambda: home.ledger.add(one)] * RACERS)
    assert home.ops() == ["add"]


def test_the_last_entry_decides_where_a_golden_stands(home: Home) -> None:
    """Added, pruned and added again: it is expected again, with the new content and time."""
    one, other = golden(), golden()
    home.ledger.add(one)
    home.ledger.append([LedgerEntry.of(LedgerOp.PRUNE, one)])
    assert not home.ledger.view().standings[one.name].is_live
    home.ledger.add(one)
    home.ledger.add(other)
    home.ledger.append([LedgerEntry.of(LedgerOp.RESIGN, one), LedgerEntry(op=LedgerOp.ARCHIVE, name="a.tgz")])
    view = home.ledger.view()
    assert set(view.standings) == {one.name, other.name}
    assert view.standings[one.name].is_live
    assert view.standings[one.name].added_at < view.standings[one.name].last.at or view.at
    last = home.ledger.last_of(one.name)
    assert last is not None
    assert last.op is LedgerOp.RESIGN
    assert home.ledger.last_of("nothing") is None


def test_wanted_goldens_are_found_by_their_index(home: Home) -> None:
    """Runs that have succeeded are found, oldest first and so many; live ones and unwanted ones are not."""
    runs = [home.run() for _ in range(3)]
    home.run(golden=False)
    home.bench.run(line(1), golden=True)
    assert home.bench.store.golden_wanted(10) == runs
    assert home.bench.store.golden_wanted(2) == runs[:2]
