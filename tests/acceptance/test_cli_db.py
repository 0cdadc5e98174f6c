"""``aos db`` on SQLite files: what it prints, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aos_workflow.cli.db import db
from aos_workflow.database import open_database
from aos_workflow.errors import SettingsError, StoreUnavailable
from aos_workflow.schema import REVISION, VERSION_TABLE
from aos_workflow.upgrade import current, upgrade


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'aos.db'}"


def aos_db(*words: str, url: str = "") -> Result:
    return CliRunner().invoke(db, words, env={"AOS_DATABASE_URL": url})


def test_upgrade_says_what_it_did(url: str) -> None:
    """The first upgrade names the new revision, the second says that nothing was to do."""
    first, second = aos_db("upgrade", url=url), aos_db("upgrade", url=url)
    assert (first.exit_code, first.stdout) == (0, f"the schema is at {REVISION} now, before it was at nothing\n")
    assert (second.exit_code, second.stdout) == (0, f"the schema is at {REVISION} already\n")


def test_upgrade_answers_programs(url: str) -> None:
    """With --json stdout is one document with the revision before and after."""
    assert json.loads(aos_db("upgrade", "--json", url=url).stdout) == {
        "before": None,
        "changed": True,
        "revision": REVISION,
    }


def test_the_option_goes_before_the_environment(url: str) -> None:
    """--database-url names the database, whatever AOS_DATABASE_URL says."""
    assert aos_db("upgrade", "--database-url", url, url="sqlite:////nowhere/aos.db").exit_code == 0
    assert current(url) == REVISION


def test_check_is_content_with_the_current_schema(url: str) -> None:
    """A database at our revision: exit code 0 and nothing on stderr."""
    upgrade(url)
    plain, document = aos_db("check", url=url), aos_db("check", "--json", url=url)
    assert (plain.exit_code, plain.stderr) == (0, "")
    assert json.loads(document.stdout) == {"current": True, "revision": REVISION, "wanted": REVISION}


@pytest.mark.parametrize(("revision", "says"), [(None, "run: aos db upgrade"), ("0999", "deploy the newer code")])
def test_check_tells_older_from_newer(revision: str | None, says: str, url: str) -> None:
    """Another schema: exit code 3, one line on stderr with the way out, and the facts as JSON if asked for."""
    if revision:
        upgrade(url)
        engine = open_database(url)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '{revision}'")
        engine.dispose()
    plain, document = aos_db("check", url=url), aos_db("check", "--json", url=url)
    assert (plain.exit_code, plain.stdout, plain.stderr.count("\n")) == (3, "", 1)
    assert says in plain.stderr
    assert document.exit_code == 3
    assert json.loads(document.stdout) == {"current": False, "revision": revision, "wanted": REVISION}


@pytest.mark.parametrize("url", ["", "postgresql://u:secret@nowhere/x", "sqlite:////nowhere/x.db"])
def test_sql_is_printed_without_a_database(url: str) -> None:
    """upgrade --sql connects to nothing and speaks the configured dialect, PostgreSQL's if there is none."""
    plain, document = aos_db("upgrade", "--sql", url=url), aos_db("upgrade", "--sql", "--json", url=url)
    assert plain.exit_code == 0
    assert "CREATE TABLE checkpoints (" in plain.stdout
    assert "secret" not in plain.output
    assert json.loads(document.stdout) == {
        "dialect": "sqlite" if url.startswith("sqlite") else "postgresql",
        "revision": REVISION,
        "sql": plain.stdout,
    }


@pytest.mark.parametrize(
    ("url", "error"),
    [("", SettingsError), ("mysql://u:secret@nowhere/x", SettingsError), ("sqlite:////nowhere/x.db", StoreUnavailable)],
)
@pytest.mark.parametrize("command", ["check", "upgrade"])
def test_no_database_is_an_error_of_ours(command: str, url: str, error: type[Exception]) -> None:
    """A database that is not named, not supported or not there raises an AosError, for the command line to print."""
    result = aos_db(command, url=url)
    assert type(result.exception) is error
    assert "secret" not in str(result.exception)
