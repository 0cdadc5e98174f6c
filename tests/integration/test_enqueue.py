"""Enqueue: one transaction, then a publish that may fail; in the caller's transaction if wanted; typed refusals."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from celery import chain, group
from sqlalchemy import func, make_url, select, text, update
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from aos_workflow import durable
from aos_workflow.assembly import runtime_as
from aos_workflow.database import open_database
from aos_workflow.errors import (
    AosError,
    BadArguments,
    BadOption,
    DefinitionError,
    IdempotencyConflict,
    NotCanonical,
    PayloadTooLarge,
    RunNotFound,
    SchemaMismatch,
    SettingsError,
    UnknownTask,
    UnknownWorkflow,
    UnsupportedCanvas,
)
from aos_workflow.records import RunStatus
from aos_workflow.schema import metadata, runs
from tests.conformance.store_cases import at_once
from tests.integration import tasks
from tests.integration.conftest import APP
from tests.stack import AppEngine, Servers, Stack, WorkerProcess, inline_engine

pytestmark = pytest.mark.services

NOWHERE = "redis://127.0.0.1:9/0"


@pytest.fixture
def quiet(stack: Stack) -> Stack:
    """A stack without a worker: what is published stays in its broker."""
    return stack


@pytest.fixture
def quiet_engine(quiet: Stack) -> AppEngine:
    return quiet.engine(APP)


@pytest.fixture
def broker(quiet: Stack) -> Broker:
    return Broker(tasks.Stage(quiet.redis_url))


class Broker:
    """What waits in a Redis broker."""

    def __init__(self, stage: tasks.Stage) -> None:
        self._redis = stage.redis

    def messages(self) -> list[dict[str, Any]]:
        """All messages of all queues, as kombu wrote them."""
        queues = [name for name in self._redis.scan_iter() if self._redis.type(name) == "list"]
        return [json.loads(message) for queue in queues for message in self._redis.lrange(queue, 0, -1)]

    def of(self, run_id: str) -> list[dict[str, Any]]:
        """The messages that name a run."""
        return [message for message in self.messages() if message["headers"].get("aos", {}).get("run") == run_id]


def row_counts(engine: AppEngine) -> dict[str, int]:
    with engine.store.engine.connect() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        }


# --- enqueue, plainly -----------------------------------------------------------------------------------------


def test_what_is_enqueued_is_stored_and_published(quiet_engine: AppEngine, broker: Broker) -> None:
    """One row, one message; the message names run and address and carries no value."""
    run = quiet_engine.enqueue(durable(tasks.emit.s("a-secret-value")))

    assert run.status is RunStatus.ENQUEUED
    (message,) = broker.of(run.id)
    assert message["headers"]["aos"].items() >= {"run": run.id, "address": "1.emit"}.items()
    assert "a-secret-value" not in json.dumps(message)


def test_the_public_names_enqueue_on_this_process_s_runtime(quiet_engine: AppEngine) -> None:
    """``Workflow.enqueue``, ``enqueue_many`` and ``durable(...).enqueue`` need no engine in the caller's hand."""
    with runtime_as(quiet_engine.parts):
        handles = [
            tasks.ten_steps.enqueue(1),
            tasks.sum_of.enqueue({"numbers": [1, 2]}),
            durable(tasks.add.s(1)).enqueue(),
            *tasks.ten_steps.enqueue_many([1, 2]),
        ]
    names = [quiet_engine.store.run(handle.id).workflow for handle in handles]
    assert names == ["integration.ten", "integration.sum", "durable", "integration.ten", "integration.ten"]


def test_many_runs_are_stored_in_order_with_their_seeds(quiet_engine: AppEngine, broker: Broker) -> None:
    """One transaction, one handle and one message per input."""
    handles = quiet_engine.enqueue_many("integration.ten", [10, 20, 30], seeds=[3, 2, 1])

    stored = [quiet_engine.store.run(handle.id) for handle in handles]

    assert [run.seed for run in stored] == [3, 2, 1]
    assert [quiet_engine.store.outputs(run.id, ["$input"])["$input"] for run in stored] == ["10", "20", "30"]
    assert [len(broker.of(handle.id)) for handle in handles] == [1, 1, 1]
    assert quiet_engine.enqueue_many("integration.ten", []) == []


def test_without_a_seed_each_run_gets_its_own_and_with_a_key_the_same_one(quiet_engine: AppEngine, key: str) -> None:
    """A repeated request must not conflict with itself over a seed nobody chose."""
    first, second = (quiet_engine.enqueue("integration.ten", 1) for _ in range(2))
    keyed = [quiet_engine.enqueue("integration.ten", 1, idempotency_key=key) for _ in range(2)]

    assert quiet_engine.store.run(first.id).seed != quiet_engine.store.run(second.id).seed
    assert keyed[0].id == keyed[1].id


def test_a_repeated_request_is_not_published_again(quiet_engine: AppEngine, broker: Broker, key: str) -> None:
    """The run is under way already."""
    for _ in range(3):
        run = quiet_engine.enqueue("integration.ten", 1, idempotency_key=key)

    assert len(broker.of(run.id)) == 1


def test_a_key_with_another_request_is_a_conflict(quiet_engine: AppEngine, key: str) -> None:
    """The error names the run; nothing is written."""
    known = quiet_engine.enqueue("integration.ten", 1, idempotency_key=key)
    before = row_counts(quiet_engine)

    with pytest.raises(IdempotencyConflict, match=known.id):
        quiet_engine.enqueue("integration.ten", 2, idempotency_key=key)

    assert row_counts(quiet_engine) == before


def test_a_key_outlives_a_change_of_terms(quiet_engine: AppEngine, key: str) -> None:
    """A request that is repeated after its workflow was given another share of goldens is the same request."""
    first, second = (durable(tasks.ten_steps.definition, name="terms", golden=share) for share in ("never", 0.5))
    run = quiet_engine.enqueue(first, 1, idempotency_key=key)

    assert quiet_engine.enqueue(second, 1, idempotency_key=key).id == run.id


def test_of_twenty_racing_requests_with_one_key_one_run_comes(quiet_engine: AppEngine, key: str) -> None:
    """All callers hold the same run."""
    before = row_counts(quiet_engine)["runs"]

    handles = at_once([partial(quiet_engine.enqueue, tasks.ten_steps, 1, idempotency_key=key)] * 20)

    assert len({handle.id for handle in handles}) == 1
    assert row_counts(quiet_engine)["runs"] == before + 1


# --- the broker is down ---------------------------------------------------------------------------------------


def test_a_run_is_enqueued_while_the_broker_is_away_and_performed_once_it_is_swept(
    servers: Servers, shared: Stack, engine: AppEngine, prefork: WorkerProcess
) -> None:
    """The caller has its id, the row is the truth, and the fleet's sweep publishes it."""
    offline = Stack(servers, database_url=shared.database_url, redis_url=NOWHERE)
    cut_off = offline.engine(APP)
    handles = [cut_off.enqueue("integration.sum", {"numbers": [1, 2, n]}) for n in range(5)]
    handles += cut_off.enqueue_many("integration.sum", [{"numbers": [n]} for n in range(5)])
    offline.close()
    shared.engine(APP)

    outputs = [engine.handle(handle.id).wait(timeout_s=60).output for handle in handles]

    assert outputs == [3, 4, 5, 6, 7, 0, 1, 2, 3, 4]


# --- in the caller's transaction ------------------------------------------------------------------------------


def test_a_run_enqueued_in_a_session_is_published_after_its_commit(quiet_engine: AppEngine, broker: Broker) -> None:
    """Before the commit there is no message, and nobody else sees the run."""
    with Session(quiet_engine.store.engine) as session:
        run = quiet_engine.enqueue("integration.ten", 1, session=session)
        before = broker.of(run.id)
        with pytest.raises(RunNotFound):
            quiet_engine.store.run(run.id)
        session.commit()

    assert (before, len(broker.of(run.id))) == ([], 1)
    assert run.status is RunStatus.ENQUEUED


def test_a_run_enqueued_in_a_session_vanishes_with_its_rollback(quiet_engine: AppEngine, broker: Broker) -> None:
    """No row and no message, also when the session commits something else later."""
    before = row_counts(quiet_engine)
    with Session(quiet_engine.store.engine) as session:
        run = quiet_engine.enqueue(durable(tasks.emit.s("rolled back")), session=session)
        session.rollback()
        session.execute(text("SELECT 1"))
        session.commit()

    assert row_counts(quiet_engine) == before
    assert broker.of(run.id) == []


def test_the_release_of_a_savepoint_is_no_commit(quiet_engine: AppEngine, broker: Broker) -> None:
    """Only the outermost commit publishes; SQLAlchemy announces savepoints as commits, too."""
    with Session(quiet_engine.store.engine) as session:
        with session.begin_nested():
            run = quiet_engine.enqueue("integration.ten", 1, session=session)
            with session.begin_nested():
                session.execute(text("SELECT 1"))
        session.flush()
        before = broker.of(run.id)
        session.commit()

    assert (before, len(broker.of(run.id))) == ([], 1)


def test_the_rollback_of_a_savepoint_takes_its_run_and_leaves_the_others(
    quiet_engine: AppEngine, broker: Broker
) -> None:
    """What was enqueued inside it is neither stored nor published; what was enqueued around it is both."""
    with Session(quiet_engine.store.engine) as session:
        kept = quiet_engine.enqueue("integration.ten", 1, session=session)
        savepoint = session.begin_nested()
        dropped = quiet_engine.enqueue("integration.ten", 2, session=session)
        savepoint.rollback()
        session.commit()

    assert (len(broker.of(kept.id)), len(broker.of(dropped.id))) == (1, 0)
    with pytest.raises(RunNotFound):
        quiet_engine.store.run(dropped.id)


def test_a_session_that_is_closed_without_a_commit_publishes_nothing(quiet_engine: AppEngine, broker: Broker) -> None:
    """Neither then nor after the next commit of the same session."""
    session = Session(quiet_engine.store.engine)
    dropped = quiet_engine.enqueue("integration.ten", 1, session=session)
    session.close()
    kept = quiet_engine.enqueue("integration.ten", 2, session=session)
    session.commit()
    session.close()

    assert (len(broker.of(dropped.id)), len(broker.of(kept.id))) == (0, 1)


def test_a_scoped_session_is_the_session_it_stands_for(quiet_engine: AppEngine, broker: Broker) -> None:
    """What web frameworks hand out is a proxy."""
    session = scoped_session(sessionmaker(quiet_engine.store.engine))
    run = quiet_engine.enqueue("integration.ten", 1, session=session)
    before = broker.of(run.id)
    session.commit()
    session.remove()

    assert (before, len(broker.of(run.id))) == ([], 1)


def test_a_session_on_a_database_without_our_tables_says_what_to_run(quiet_engine: AppEngine) -> None:
    """The application's own database, where ``aos db upgrade`` was never run."""
    url = make_url(quiet_engine.parts.settings.database_url).set(database="postgres")
    elsewhere = open_database(url.render_as_string(hide_password=False))
    with Session(elsewhere) as session, pytest.raises(SchemaMismatch, match="aos db upgrade"):
        quiet_engine.enqueue(durable(tasks.emit.s("elsewhere")), session=session)
    elsewhere.dispose()


def test_several_runs_of_one_session_are_all_published(quiet_engine: AppEngine, broker: Broker) -> None:
    """Single ones and many at once, in one transaction and in the next."""
    with Session(quiet_engine.store.engine) as session:
        handles = [quiet_engine.enqueue("integration.ten", n, session=session) for n in range(2)]
        handles += quiet_engine.enqueue_many("integration.ten", [3, 4], session=session)
        session.commit()
        handles.append(quiet_engine.enqueue("integration.ten", 5, session=session))
        session.commit()

    assert [len(broker.of(handle.id)) for handle in handles] == [1] * 5


def test_a_session_whose_broker_is_away_still_commits(servers: Servers, quiet: Stack) -> None:
    """A publish that fails after the commit is no error of the caller's transaction."""
    offline = Stack(servers, database_url=quiet.database_url, redis_url=NOWHERE)
    cut_off = offline.engine(APP)
    with Session(cut_off.store.engine) as session:
        run = cut_off.enqueue("integration.ten", 1, session=session)
        session.commit()

    assert run.status is RunStatus.ENQUEUED
    offline.close()


def test_a_key_is_found_inside_the_callers_transaction(quiet_engine: AppEngine, key: str) -> None:
    """Twice in one transaction, and once more after it."""
    with Session(quiet_engine.store.engine) as session:
        first = quiet_engine.enqueue("integration.ten", 1, session=session, idempotency_key=key)
        second = quiet_engine.enqueue("integration.ten", 1, session=session, idempotency_key=key)
        session.commit()

    assert first.id == second.id == quiet_engine.enqueue("integration.ten", 1, idempotency_key=key).id


def test_a_run_enqueued_on_a_connection_comes_with_its_commit_and_the_sweep_publishes_it(
    quiet_engine: AppEngine, broker: Broker
) -> None:
    """A Core connection does not say when it is committed, so the sweep is what tells the workers."""
    with quiet_engine.store.engine.connect() as connection:
        run = quiet_engine.enqueue("integration.ten", 1, session=connection)
        dropped = quiet_engine.enqueue("integration.ten", 2, session=connection)
        connection.rollback()
        run = quiet_engine.enqueue("integration.ten", 1, session=connection)
        connection.commit()
    before = broker.of(run.id)
    with quiet_engine.store.engine.begin() as connection:
        connection.execute(update(runs).where(runs.c.id == run.id).values(wake_at=0, updated_at=0))

    quiet_engine.sweep()

    assert (before, len(broker.of(run.id))) == ([], 1)
    with pytest.raises(RunNotFound):
        quiet_engine.store.run(dropped.id)


def test_runs_enqueued_in_transactions_are_performed(
    engine: AppEngine, prefork: WorkerProcess, stage: tasks.Stage
) -> None:
    """By a real worker, whichever way they were enqueued."""
    with Session(engine.store.engine) as session:
        handles = [engine.enqueue("integration.sum", {"numbers": [1, 1]}, session=session)]
        session.commit()
    with engine.store.engine.begin() as connection:
        handles.append(engine.enqueue("integration.sum", {"numbers": [2, 2]}, session=connection))
    handles += engine.enqueue_many("integration.sum", [{"numbers": [n]} for n in range(30)])

    outputs = [handle.wait(timeout_s=60).output for handle in handles]

    assert outputs == [2, 4, *range(30)]


# --- refused before anything is written -----------------------------------------------------------------------


def circular() -> Any:
    """A chain that contains itself."""
    endless = chain(tasks.add.s(1), tasks.add.s(1))
    endless.tasks[1].options["link"] = [endless]
    return endless


REFUSED: dict[str, tuple[type[AosError], Any]] = {
    "input with an object": (NotCanonical, lambda: ("integration.ten", {"a": [object()]}, {})),
    "input NaN": (NotCanonical, lambda: ("integration.ten", float("nan"), {})),
    "input infinite": (NotCanonical, lambda: ("integration.ten", [float("inf")], {})),
    "input over the limit": (PayloadTooLarge, lambda: ("integration.ten", "x" * 2_000_000, {})),
    "argument with an object": (NotCanonical, lambda: (durable(tasks.emit.s(object())), None, {})),
    "argument NaN": (NotCanonical, lambda: (durable(tasks.emit.s(float("nan"))), None, {})),
    "unknown workflow": (UnknownWorkflow, lambda: ("nobody", None, {})),
    "unknown task": (UnknownTask, lambda: (durable(tasks.app.signature("no.such.task")), None, {})),
    "no canvas": (UnsupportedCanvas, lambda: (durable({"not": "a signature"}), None, {})),
    "canvas inside itself": (UnsupportedCanvas, lambda: (durable(circular()), None, {})),
    "expiring step": (UnsupportedCanvas, lambda: (durable(tasks.add.s(1).set(expires=5)), None, {})),
    "too few arguments": (BadArguments, lambda: (durable(tasks.add.s()), None, {})),
    "too many arguments": (BadArguments, lambda: (durable(tasks.add.s(1, 2, 3)), None, {})),
    "unknown keyword": (BadArguments, lambda: (durable(tasks.add.s(1, z=2)), None, {})),
    "wrong inputs of a function": (BadArguments, lambda: ("integration.sum", {"number": 1}, {})),
    "inputs of a function not by name": (BadArguments, lambda: ("integration.sum", [1, 2], {})),
    "seed of text": (BadOption, lambda: ("integration.ten", 1, {"seed": "seven"})),
    "seed too large": (BadOption, lambda: ("integration.ten", 1, {"seed": 2**63})),
    "seed too small": (BadOption, lambda: ("integration.ten", 1, {"seed": -(2**63) - 1})),
    "seed of truth": (BadOption, lambda: ("integration.ten", 1, {"seed": True})),
    "empty key": (BadOption, lambda: ("integration.ten", 1, {"idempotency_key": ""})),
    "key of a number": (BadOption, lambda: ("integration.ten", 1, {"idempotency_key": 7})),
    "key with a null": (BadOption, lambda: ("integration.ten", 1, {"idempotency_key": "a\0b"})),
    "endless key": (BadOption, lambda: ("integration.ten", 1, {"idempotency_key": "k" * 10_000})),
    "session of another kind": (BadOption, lambda: ("integration.ten", 1, {"session": object()})),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_with_a_typed_error_before_anything_is_written(
    quiet_engine: AppEngine, broker: Broker, what: str
) -> None:
    """No row in any table, no message, and the error says what to do."""
    expected, make = REFUSED[what]
    rows, messages = row_counts(quiet_engine), len(broker.messages())

    flow, inputs, options = make()
    with pytest.raises(expected) as refusal:
        quiet_engine.enqueue(flow, inputs, **options)

    assert isinstance(refusal.value, DefinitionError)
    assert refusal.value.fix
    assert (row_counts(quiet_engine), len(broker.messages())) == (rows, messages)


@pytest.mark.parametrize(
    ("inputs", "seeds"),
    [([1, object(), 3], None), ([1, 2], [1]), ([1, 2], [1, 2, 3]), ([1, 2], [1, "two"])],
    ids=["one bad input", "too few seeds", "too many seeds", "one bad seed"],
)
def test_many_runs_are_refused_together(quiet_engine: AppEngine, inputs: Any, seeds: Any) -> None:
    """One that cannot be stored keeps the others out, too."""
    rows = row_counts(quiet_engine)

    with pytest.raises(DefinitionError):
        quiet_engine.enqueue_many("integration.ten", inputs, seeds=seeds)

    assert row_counts(quiet_engine) == rows


def test_a_plan_over_its_limit_is_refused(servers: Servers, quiet: Stack) -> None:
    """The error names both sizes and the setting."""
    small = Stack(servers, database_url=quiet.database_url, redis_url=quiet.redis_url)
    engine = small.engine(APP, plan_limit_bytes=2_000, input_limit_bytes=10)
    rows = row_counts(engine)

    with pytest.raises(PayloadTooLarge, match="2000") as refusal:
        engine.enqueue(durable(group(tasks.add.s(n) for n in range(100))))
    with pytest.raises(PayloadTooLarge, match="10"):
        engine.enqueue("integration.ten", "x" * 10)

    assert refusal.value.evidence["limit_bytes"] == 2_000
    assert row_counts(engine) == rows
    small.close()


def test_enqueueing_without_a_database_says_which_variable_to_set() -> None:
    """A run that only this process could see would never be performed."""
    with pytest.raises(SettingsError, match="AOS_DATABASE_URL"):
        inline_engine(APP).enqueue("integration.ten", 1)


# --- limits and empty shapes, performed -----------------------------------------------------------------------


def test_a_run_without_any_step_has_succeeded_when_it_is_enqueued(quiet_engine: AppEngine, broker: Broker) -> None:
    """An empty group: nothing to wait for, nothing to publish."""
    run = quiet_engine.enqueue(durable(group([], app=tasks.app)))

    result = run.wait(timeout_s=5)

    assert (result.status, result.output) == (RunStatus.SUCCEEDED, [])
    assert result.workflow_hash
    assert broker.of(run.id) == []
