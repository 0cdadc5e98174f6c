"""A row of a database that somebody updated."""

import sqlite3
from contextlib import closing

from celery import Celery, shared_task

from aos_workflow import Workflow, WorkflowTask
from tests.corpus.case import Case, World

app = Celery(__name__, task_cls=WorkflowTask)


@shared_task(name="external_database.balance")
def balance(path: str) -> int:
    with closing(sqlite3.connect(path)) as connection:  # <- fault
        return connection.execute("SELECT sum(cents) FROM entries").fetchone()[0]  # <- fault


def entered(world: World, cents: int) -> None:
    with closing(sqlite3.connect(world.folder / "books.db")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS entries (cents INT)")
        connection.execute("INSERT INTO entries VALUES (?)", (cents,))
        connection.commit()


def at_recording(world: World) -> None:
    entered(world, 100)


def before_replay(world: World) -> None:
    entered(world, 50)


flow = Workflow("external_database", balance.s())
CASE = Case(
    cause="external_call",
    also=("filesystem",),
    inputs="{folder}/books.db",
    prepare=at_recording,
    before_replay=before_replay,
)
