"""Migrations on real databases: what they end in, that they queue up, and what they refuse."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Table, Text, insert, text
from sqlalchemy.exc import IntegrityError

from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.database import open_database
from aos_workflow.errors import BadOption, SchemaMismatch, StoreError, StoreUnavailable
from aos_workflow.schema import REVISION, VERSION_TABLE, Key, attempts, metadata, plans, runs, workers
from aos_workflow.upgrade import LOCK_KEY, check, configuration, current, offline_sql, upgrade
from tests.stack import Servers

#: A process that upgrades each database it is told of, at once.
UPGRADE = """
import sys
import alembic.command
from aos_workflow.upgrade import upgrade
print("ready", flush=True)
for url in sys.stdin:
    print(upgrade(url.strip()), flush=True)
"""
#: What PostgreSQL knows about our tables, one line per fact.
CATALOGUE = """
SELECT format('%s %s %s null=%s default=%s collation=%s', attrelid::regclass, attname,
              format_type(atttypid, atttypmod), NOT attnotnull, pg_get_expr(adbin, adrelid),
              nullif(attcollation, 0)::regcollation)
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid IN (SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace)
  AND attnum > 0
UNION ALL
SELECT format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT format('%s %s %s', relname, reloptions, obj_description(oid, 'pg_class'))
FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
ORDER BY 1
"""

Row = dict[str, object]

MOMENTS: Row = {"wake_at": 1.0, "created_at": 1.0, "updated_at": 1.0, "logical_time": 1.0}
INPUTS: Row = {"plan_digest": "p", "inputs": "{}", "inputs_digest": "i", "seed": 1, "size": 1, "done": b"\0"}
RUN: Row = {"id": "r", "workflow": "w", "status": "enqueued", "inline": False, "watched": False, "format": 1}
ATTEMPT: Row = {"run_id": "r", "address": "1.a", "attempt": 1, "state": "running", "token": "t", "worker_id": "w"}
WORKER: Row = {"id": "w", "kind": "worker", "host": "h", "pid": 1, "started_at": 1.0, "heartbeat_at": 1.0}
#: A table, a row it takes, and changes by which it does not.
ROWS: list[tuple[Table, Row, list[Row]]] = [
    (runs, RUN | INPUTS | MOMENTS, [{"id": ""}, {"workflow": ""}, {"status": "done"}]),
    (attempts, ATTEMPT | {"pid": 1, "started_at": 1.0}, [{"run_id": ""}, {"address": ""}, {"state": "busy"}]),
    (workers, WORKER, [{"id": ""}]),
]


@pytest.fixture
def postgres(servers: Servers) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, which goes with the test."""
    server = servers.postgres()
    name = f"aos_test_{secrets.token_hex(6)}"
    administer(server, f"CREATE DATABASE {name}")
    yield f"{server.rpartition('/')[0]}/{name}"
    administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'aos.db'}"


@pytest.fixture(params=[pytest.param("postgres", marks=pytest.mark.services), "sqlite"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An empty database, on PostgreSQL and on SQLite."""
    engine = open_database(request.getfixturevalue(request.param))
    yield engine
    engine.dispose()


def administer(server: str, statement: str) -> None:
    engine = open_database(server)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def facts(connection: Connection) -> list[str]:
    """All the database says about the tables in it, except about the one with its version."""
    query = CATALOGUE if connection.dialect.name == "postgresql" else "SELECT sql FROM sqlite_master ORDER BY name"
    return [regular(row) for row in connection.execute(text(query)).scalars() if row and VERSION_TABLE not in row]


def regular(statement: str) -> str:
    """A statement of SQLite's with the clauses of a table in order: a column that was added later stands last."""
    if not statement.startswith("CREATE TABLE"):
        return statement
    head, _, body = statement.partition("(")
    clauses, depth = [""], 0
    for letter in body.rstrip()[:-1]:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            clauses.append("")
        else:
            clauses[-1] += letter
    return f"{head}({', '.join(sorted(clause.strip() for clause in clauses))})"


def line(process: subprocess.Popen[str]) -> str:
    """The next line the process writes; empty if it ended."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def pretend(engine: Engine, revision: str) -> None:
    """Let an upgraded database say that it is at another revision."""
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '{revision}'")


def test_an_upgrade_ends_in_the_declared_tables(engine: Engine) -> None:
    """Alembic finds nothing to change between an upgraded database and the declared schema."""
    upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def test_an_upgrade_equals_creation_in_every_detail(engine: Engine) -> None:
    """Columns, collations, constraints, indexes, storage options and comments are those that create_all makes."""
    upgrade(engine)
    with engine.begin() as connection:
        upgraded = facts(connection)
        metadata.drop_all(connection)
        metadata.create_all(connection)
        created = facts(connection)
    assert upgraded == created
    assert any("ck_runs_status" in fact for fact in upgraded)


@pytest.mark.services
def test_upgrades_at_once_all_succeed(postgres: str, sqlite: str) -> None:
    """Four processes that upgrade one empty database at the same time all end well, at the same revision."""
    pipe = subprocess.PIPE
    with ExitStack() as ended:
        processes = [
            ended.enter_context(subprocess.Popen([sys.executable, "-c", UPGRADE], stdin=pipe, stdout=pipe, text=True))
            for _ in range(4)
        ]
        assert [line(process) for process in processes] == ["ready"] * 4
        for url in (postgres, sqlite):
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(f"{url}\n")
                process.stdin.flush()
            assert [line(process) for process in processes] == [REVISION] * 4
            assert current(url) == REVISION


def test_a_second_upgrade_changes_nothing(engine: Engine) -> None:
    """Upgrading a current database leaves what is in it, and needs no Alembic."""
    assert upgrade(engine) == REVISION
    with engine.begin() as connection:
        connection.execute(insert(plans).values(digest="d", body="{}"))
        before = facts(connection)
    code = "import sys; from aos_workflow.upgrade import upgrade; upgrade(sys.argv[1]); print('alembic' in sys.modules)"
    shown = engine.url.render_as_string(hide_password=False)
    again = subprocess.run([sys.executable, "-c", code, shown], capture_output=True, text=True, check=True)
    assert again.stdout == "False\n"
    with engine.connect() as connection:
        assert facts(connection) == before
        assert connection.execute(plans.select()).all() == [("d", "{}")]


def test_a_newer_database_is_left_alone(engine: Engine) -> None:
    """Upgrade, check and the store refuse a database of newer code, name both revisions and the way out."""
    upgrade(engine)
    pretend(engine, "0999")
    for refuse in (upgrade, check):
        with pytest.raises(SchemaMismatch, match=f"at 0999, this code speaks {REVISION}; deploy the newer code"):
            refuse(engine)
    with pytest.raises(SchemaMismatch):
        CheckpointStore(engine).check_schema()
    assert current(engine) == "0999"


def test_an_unknown_revision_is_left_alone(engine: Engine) -> None:
    """A revision that is older than all we know of has no way up, and says so."""
    upgrade(engine)
    pretend(engine, "0000")
    with pytest.raises(SchemaMismatch, match="'0000'"):
        upgrade(engine)
    assert current(engine) == "0000"


def test_an_empty_database_is_told_what_to_run(engine: Engine) -> None:
    """Without a schema, check and the store raise SchemaMismatch with the command, and make nothing."""
    assert current(engine) is None
    for ask in (lambda: check(engine), CheckpointStore(engine).check_schema):
        with pytest.raises(SchemaMismatch, match=r"at nothing, this code speaks .*; run: aos db upgrade"):
            ask()
    with engine.connect() as connection:
        assert facts(connection) == []


def test_tables_of_someone_else_are_not_touched(engine: Engine) -> None:
    """A database with a table of ours that no migration made is refused before anything is made."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE runs (marathon integer)")
        before = facts(connection)
    with pytest.raises(SchemaMismatch, match=r"tables named runs .* of its own"):
        upgrade(engine)
    with engine.connect() as connection:
        assert facts(connection) == before


def test_a_migration_that_breaks_leaves_nothing(engine: Engine) -> None:
    """A migration is all or nothing: a table it cannot make takes those before it along."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW ticks AS SELECT 1 AS name")
        before = facts(connection)
    with pytest.raises(StoreError, match=r"ticks.* already exists"):
        upgrade(engine)
    with engine.connect() as connection:
        assert facts(connection) == before
    assert current(engine) is None


@pytest.mark.services
def test_an_upgrade_does_not_wait_forever(postgres: str) -> None:
    """An upgrade whose turn does not come in time gives up, retryably; afterwards the next one gets it."""
    holder = open_database(postgres)
    with holder.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({LOCK_KEY})")
        with pytest.raises(StoreUnavailable, match="another upgrade"):
            upgrade(postgres, wait_s=0)
        assert current(postgres) is None
    holder.dispose()
    assert upgrade(postgres) == REVISION


@pytest.mark.services
def test_an_upgrade_lends_a_connection_and_returns_it_as_it_was(postgres: str) -> None:
    """After an upgrade through a caller's engine neither the lock nor a timeout stays in its pool."""
    engine = open_database(postgres, pool_size=1, overflow=0)
    upgrade(engine)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "0"
        assert connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").scalar_one() == 0
    engine.dispose()


def test_the_database_refuses_rows_that_nobody_could_finish(engine: Engine) -> None:
    """Empty ids and unknown words are refused by the database itself, whoever writes them."""
    upgrade(engine)
    for table, right, wrongs in ROWS:
        for wrong in ({}, *wrongs):
            with engine.connect() as connection:
                if not wrong:
                    connection.execute(insert(table), right)  # and rolled back
                    continue
                with pytest.raises(IntegrityError, match=f"ck_{table.name}"):
                    connection.execute(insert(table), {**right, **wrong})


def test_every_lookup_is_in_byte_order() -> None:
    """Each text column of a key or index is a Key, so no change of the system's locale data breaks an index."""
    indexed = [
        column
        for table in metadata.tables.values()
        for group in [table.primary_key.columns, *(index.columns for index in table.indexes)]
        for column in group
        if isinstance(column.type, Text)
    ]
    assert [str(column) for column in indexed if column.type is not Key] == []


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_the_sql_can_be_read_before_it_runs(dialect: str) -> None:
    """Offline SQL makes every table and records the revision, without a database."""
    script = offline_sql(dialect)
    assert all(f"CREATE TABLE {name} (" in script for name in [*metadata.tables, VERSION_TABLE])
    assert f"version_num='{REVISION}'" in script
    assert ("fillfactor" in script) == (dialect == "postgresql")


def test_revisions_are_counted_up_to_the_one_this_code_speaks() -> None:
    """Revisions are one line of four-digit numbers that ends in schema.REVISION."""
    script = ScriptDirectory.from_config(configuration())
    revisions = [entry.revision for entry in script.walk_revisions()]
    assert script.get_heads() == [REVISION]
    assert revisions == [f"{number:04}" for number in range(len(revisions), 0, -1)]


def test_an_unknown_target_is_refused(sqlite: str) -> None:
    """Asking for a revision or a dialect that does not exist names those that do."""
    with pytest.raises(BadOption, match="no migration '0998'; there are: 0001, 0002"):
        upgrade(sqlite, revision="0998")
    with pytest.raises(BadOption, match="'mysql'; choose one of: postgresql, sqlite"):
        offline_sql("mysql")
