"""What a user's modules opened when they were imported: a replay writes nothing through it, and says what was tried."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from aos_workflow.replay.imports import harmless
from aos_workflow.testing import TEST_SECRET
from tests.aos_command import Done, aos

MODULE = """
import logging, sqlite3
from celery import Celery
from aos_workflow import Workflow, WorkflowTask, step

app = Celery("kiosk", task_cls=WorkflowTask)
sales = sqlite3.connect({folder!r} + "/sales.db", isolation_level=None)
sales.execute("CREATE TABLE IF NOT EXISTS sold (cents)")
book = open({folder!r} + "/book.txt", "a", buffering=1)
log = logging.getLogger("kiosk")
log.addHandler(logging.FileHandler({folder!r} + "/kiosk.log"))

@step
def note(cents):
    log.warning("noted")
    book.write(f"{{cents}}\\n")
    return cents

@step
def sell(cents):
    sales.execute("INSERT INTO sold VALUES (?)", (cents,))
    return cents

noting = Workflow("noting", note.s(5))
selling = Workflow("selling", sell.s(5))
"""


@pytest.fixture
def kiosk(tmp_path: Path) -> Path:
    """A folder with the module, in which each of its workflows was run once and has left a golden."""
    (tmp_path / "kiosk.py").write_text(MODULE.format(folder=str(tmp_path)), encoding="utf-8")
    for name in ("noting", "selling"):
        done = command(tmp_path, "run", name, "--here", "--json")
        assert done.status == 0, done.err
    return tmp_path


def command(folder: Path, *words: str) -> Done:
    return aos(
        *words, folder=folder, AOS_APP="kiosk", GOLDEN_HMAC_SECRET=TEST_SECRET, AOS_GOLDEN_DIR=str(folder / "golden")
    )


def results(folder: Path, verb: str) -> dict[str, Any]:
    done = command(folder, verb, str(folder / "golden"), "--json")
    return {result["workflow"]: result for result in json.loads(done.out)["results"]}


def world(folder: Path) -> tuple[int, str, str]:
    with sqlite3.connect(folder / "sales.db") as connection:
        ((rows,),) = connection.execute("SELECT count(*) FROM sold")
    return rows, (folder / "book.txt").read_text(), (folder / "kiosk.log").read_text()


def test_a_replay_writes_nothing_through_what_was_open_already(kiosk: Path) -> None:
    """Files and databases that the modules hold stay as they are, and what was tried is reported; a log line is not."""
    before = world(kiosk)
    replayed = results(kiosk, "replay")
    assert world(kiosk) == before
    assert replayed["noting"]["verdict"] == "matched"
    assert ["book.txt" in breach["what"] for breach in replayed["noting"]["undeclared"]] == [True]
    assert replayed["selling"]["verdict"] == "diverged"
    assert "readonly" in replayed["selling"]["divergence"]["observed"]["message"]


def test_an_explanation_writes_nothing_through_what_was_open_already(kiosk: Path) -> None:
    """However often a step is performed to be looked at, nothing of it is left behind."""
    before = world(kiosk)
    assert set(results(kiosk, "explain")) == {"noting", "selling"}
    assert world(kiosk) == before


def test_a_file_that_is_read_too_keeps_its_content(tmp_path: Path) -> None:
    """A file that a module opened to read and write is exchanged for a copy at the same place."""
    path = tmp_path / "state.txt"
    path.write_text("abcdef", encoding="utf-8")
    with harmless() as imported:
        file = path.open("r+", encoding="utf-8", buffering=1)
        assert file.read(2) == "ab"
        file.seek(2)
    file.write("XX\n")
    assert path.read_text(encoding="utf-8") == "abcdef"
    assert file.seek(0) == 0
    assert file.read() == "abXX\nf"
    assert [str(path) in breach.what for breach in imported.written()] == []  # of the same size
    file.write("more\n")
    assert [str(path) in breach.what for breach in imported.written()] == [True]
    assert imported.written() == ()
    file.close()
