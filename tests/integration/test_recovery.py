"""Recovery: what the sweep finds, that any number of sweeps may run at once, and what a fleet survives by it."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError

from aos_workflow import durable, executor, reading, recovery
from aos_workflow.assembly import Runtime
from aos_workflow.canvas import compile_canvas
from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.embedded import start_postgres
from aos_workflow.engine import RunHandle
from aos_workflow.errors import StoreUnavailable, VersionMismatch
from aos_workflow.fleet import Fleet
from aos_workflow.messages import Message
from aos_workflow.records import Attempt, AttemptState, Committed, RunResult, RunStatus, workflow_hash
from aos_workflow.schema import VERSION_TABLE, checkpoints, plans, runs
from aos_workflow.settings import Settings
from aos_workflow.settlement import Settlement
from aos_workflow.task import CeleryTasks
from aos_workflow.upgrade import upgrade
from tests.conformance.store_cases import Bench, LossyProxy, at_once, failure, fan, guarded, line, sqlite_url
from tests.integration import tasks
from tests.integration.conftest import APP
from tests.stack import AppEngine, Servers, Stack, WorkerProcess, wait_until

pytestmark = pytest.mark.services
WAIT_S = 60


class Sweeper:
    """Sweeps one store and remembers what it would publish: run id -> addresses, once per sweep that says so."""

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self.published: list[tuple[str, tuple[str, ...]]] = []
        self._settlement = Settlement(store, worker_id=lambda: "w-sweeper")

    def act(self, wake: recovery.Wake) -> None:
        if wake.is_complete or wake.run.status is RunStatus.FAILING:
            self._settlement.complete(wake.run, wake.plan)
        if wake.addresses:
            self.published.append((wake.run.id, wake.addresses))

    def sweep(self, *, broker_is_empty: bool = True) -> int:
        return recovery.sweep(self.store, self.act, broker_is_empty=lambda: broker_is_empty)

    def of(self, run_id: str) -> list[tuple[str, ...]]:
        """What was published of a run, sweep by sweep."""
        return [addresses for id, addresses in self.published if id == run_id]


@pytest.fixture
def sweeper(bench: Bench) -> Sweeper:
    """A sweeper that knows nothing of the plans: another process than the one that enqueued."""
    return Sweeper(CheckpointStore(bench.engine))


def overdue(bench: Bench, run_id: str) -> None:
    """Nothing was heard of the run for long, and the sweep is to look at it."""
    bench.change_run(run_id, wake_at=0.0, updated_at=0.0)


# --- what the sweep finds -------------------------------------------------------------------------------------


def test_a_run_that_was_never_published_is(bench: Bench, sweeper: Sweeper) -> None:
    """Its first steps, in a new epoch; then it is left alone for a while."""
    run_id = bench.run(fan(3))
    overdue(bench, run_id)

    sweeper.sweep()
    sweeper.sweep()

    assert sweeper.of(run_id) == [("1.part", "2.part", "3.part")]
    assert bench.store.run(run_id).epoch == 2


def test_a_fresh_run_is_given_time(bench: Bench, sweeper: Sweeper) -> None:
    """Its message is on its way."""
    run_id = bench.run(line(1))

    sweeper.sweep()

    assert sweeper.of(run_id) == []
    assert bench.store.run(run_id).epoch == 1


def test_the_step_of_a_dead_worker_is_published_at_once_and_that_of_a_living_one_is_not(
    bench: Bench, sweeper: Sweeper
) -> None:
    """However long a living worker takes."""
    run_id, living = bench.run(fan(3)), bench.worker()
    bench.granted(run_id, "1.part", worker=living)
    bench.granted(run_id, "2.part", worker="w-forgotten")
    overdue(bench, run_id)
    bench.change_run(run_id, updated_at=bench.store.time())

    sweeper.sweep()

    assert sweeper.of(run_id) == [("2.part",)]


def test_a_join_nobody_woke_is_published(bench: Bench, sweeper: Sweeper) -> None:
    """The worker of the last sibling died between its commit and its publish."""
    plan = fan(2)
    run_id = bench.run(plan)
    for address in ("1.part", "2.part"):
        bench.granted(run_id, address)
        bench.store.commit(bench.commit_of(run_id, plan, address))
    overdue(bench, run_id)

    sweeper.sweep()

    assert sweeper.of(run_id) == [("3.join",)]


@pytest.mark.parametrize("state", [AttemptState.RETRY, AttemptState.DEFERRED, AttemptState.LOST])
def test_a_step_that_was_put_off_is_published_when_it_is_due(
    bench: Bench, sweeper: Sweeper, state: AttemptState
) -> None:
    """Not before; and the run is looked at again at that very time."""
    later, now = bench.run(line(1)), bench.run(line(1))
    for run_id, delay_s in ((later, 3600), (now, 0)):
        bench.granted(run_id)
        bench.settled(run_id, state, delay_s=delay_s)
        bench.change_run(run_id, wake_at=0.0)

    sweeper.sweep()

    assert (sweeper.of(later), sweeper.of(now)) == ([], [("1.t",)])


def test_a_retry_is_looked_at_when_it_is_due_though_the_run_was_to_be_left_alone_longer(
    bench: Bench, sweeper: Sweeper
) -> None:
    """Settling an attempt brings the run's next look forward."""
    run_id = bench.run(line(1))
    bench.granted(run_id)
    bench.change_run(run_id, wake_at=9e9)
    bench.settled(run_id, AttemptState.RETRY)

    sweeper.sweep()

    assert sweeper.of(run_id) == [("1.t",)]


def test_a_run_whose_last_commit_is_there_but_not_its_end_is_ended(bench: Bench, sweeper: Sweeper) -> None:
    """Siblings that committed at once, and the one that was to end the run died: the hash is the usual one."""
    plan = line(2)
    run_id = bench.run(plan)
    digests = {}
    for address in ("1.t", "2.t"):
        bench.granted(run_id, address)
        commit = bench.commit_of(run_id, plan, address)
        digests[address] = commit.stable_digest
        assert isinstance(bench.store.commit(commit), Committed)
    overdue(bench, run_id)
    before = bench.store.run(run_id)

    sweeper.sweep()

    run = bench.store.run(run_id)
    assert (before.status, run.status) == (RunStatus.RUNNING, RunStatus.SUCCEEDED)
    assert run.workflow_hash == workflow_hash(
        workflow="w", inputs_digest=run.inputs_digest, seed=run.seed, digests=digests
    )


def test_a_failing_run_whose_handlers_have_ended_is_ended(bench: Bench, sweeper: Sweeper) -> None:
    """The worker of the last handler died between its commit and the run's end."""
    plan = guarded()
    run_id, names = bench.run(plan), ("1.on_error.h", "2.on_error.h")
    bench.granted(run_id)
    bench.failed(run_id, failure(handlers=names))
    for address in names:
        bench.granted(run_id, address, is_handler=True)
    bench.store.commit(bench.commit_of(run_id, plan, names[0]))
    overdue(bench, run_id)
    sweeper.sweep()
    half_way = bench.store.status(run_id)
    bench.failed(run_id, address=names[1])
    overdue(bench, run_id)

    sweeper.sweep()

    assert (half_way, bench.store.status(run_id)) == (RunStatus.FAILING, RunStatus.FAILED)
    assert sweeper.of(run_id) == []


def test_the_handlers_of_a_failing_run_are_published(bench: Bench, sweeper: Sweeper) -> None:
    """Those that nobody began, and not its other steps."""
    plan = guarded()
    run_id = bench.run(plan)
    bench.granted(run_id)
    bench.failed(run_id, failure(handlers=("1.on_error.h", "2.on_error.h")))
    bench.granted(run_id, "1.on_error.h", is_handler=True)
    overdue(bench, run_id)

    sweeper.sweep()

    assert sweeper.of(run_id) == [("2.on_error.h",)]


def test_a_spliced_run_is_swept_by_its_effective_plan(bench: Bench, sweeper: Sweeper) -> None:
    """The sub-plan's first step is what is missing."""
    plan, sub = line(2), line(2, task="sub")
    run_id = bench.run(plan)
    bench.granted(run_id)
    bench.store.commit(bench.commit_of(run_id, plan, splice=(sub.text, sub.digest, 2)))
    overdue(bench, run_id)

    sweeper.sweep()

    assert sweeper.of(run_id) == [("1.t/1.sub",)]


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_run_that_has_ended_is_left_alone(bench: Bench, sweeper: Sweeper, status: str) -> None:
    """However overdue it looks."""
    run_id = bench.run(line(1))
    overdue(bench, run_id)
    bench.change_run(run_id, status=status)

    sweeper.sweep()

    assert sweeper.of(run_id) == []


def test_a_run_that_a_process_performs_for_itself_is_left_alone(bench: Bench, sweeper: Sweeper) -> None:
    """``engine.run`` asks no worker."""
    run_id = bench.run(line(1), inline=True)
    overdue(bench, run_id)

    sweeper.sweep()

    assert sweeper.of(run_id) == []


@pytest.mark.parametrize("trouble", ["plan is gone", "plan of another format", "run of another format"])
def test_a_run_that_cannot_be_read_does_not_keep_the_sweep_from_the_others(
    bench: Bench, sweeper: Sweeper, trouble: str
) -> None:
    """One row of another version must not stop the recovery of a whole fleet."""
    unreadable, fine = bench.run(line(1, task=f"t{trouble.replace(' ', '')}")), bench.run(line(1))
    digest = bench.store.run(unreadable).plan_digest
    with bench.engine.begin() as connection:
        if trouble == "plan is gone":
            connection.execute(plans.delete().where(plans.c.digest == digest))
        elif trouble == "plan of another format":
            connection.execute(update(plans).where(plans.c.digest == digest).values(body='{"format": 99}'))
        else:
            connection.execute(update(runs).where(runs.c.id == unreadable).values(format=99))
    overdue(bench, unreadable)
    overdue(bench, fine)

    sweeper.sweep()
    sweeper.sweep()

    assert (sweeper.of(unreadable), sweeper.of(fine)) == ([], [("1.t",)])
    bench.store.cancel(unreadable)


def test_the_pause_between_fruitless_nudges_grows_while_the_broker_is_busy(bench: Bench, sweeper: Sweeper) -> None:
    """A backlog is not made worse by doubling its messages; an empty broker has none to double."""
    run_id = bench.run(line(1))
    bench.change_run(run_id, wake_at=0.0, updated_at=bench.store.time() - 5, nudges=3)
    sweeper.sweep(broker_is_empty=False)
    busy = sweeper.of(run_id)
    bench.change_run(run_id, wake_at=0.0)

    sweeper.sweep(broker_is_empty=True)

    assert (busy, sweeper.of(run_id)) == ([], [("1.t",)])


# --- many sweeps at once --------------------------------------------------------------------------------------


def test_four_sweeps_at_once_publish_each_lost_step_once(bench: Bench) -> None:
    """Rows are locked and passed over; what one has taken the others do not see."""
    plan = fan(3)
    run_ids = [bench.run(plan) for _ in range(60)]
    with bench.engine.begin() as connection:
        connection.execute(update(runs).where(runs.c.id.in_(run_ids)).values(wake_at=0.0, updated_at=0.0))
    sweepers = [Sweeper(CheckpointStore(bench.engine)) for _ in range(4)]

    at_once([sweeper.sweep for sweeper in sweepers])

    published = [addresses for sweeper in sweepers for id in run_ids for addresses in sweeper.of(id)]
    assert len(published) == len(run_ids)
    assert set(published) == {("1.part", "2.part", "3.part")}
    assert {bench.store.run(id).epoch for id in run_ids} == {2}


def test_four_sweeps_at_once_end_a_run_once(bench: Bench) -> None:
    """The status is changed from what was expected, or not at all."""
    plan = line(1)
    run_ids = [bench.run(plan) for _ in range(20)]
    for run_id in run_ids:
        bench.granted(run_id)
        bench.store.commit(bench.commit_of(run_id, plan))
        overdue(bench, run_id)
    sweepers = [Sweeper(CheckpointStore(bench.engine)) for _ in range(4)]

    at_once([sweeper.sweep for sweeper in sweepers])

    assert {bench.store.status(run_id) for run_id in run_ids} == {RunStatus.SUCCEEDED}


def test_more_overdue_runs_than_one_batch_holds_are_all_swept(
    bench: Bench, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sweep, batch by batch."""
    monkeypatch.setattr(recovery, "BATCH", 4)
    run_ids = bench.store.add([bench.new_run(line(1)) for _ in range(11)])
    for run_id in run_ids:
        overdue(bench, run_id)

    sweeper.sweep()

    assert [sweeper.of(run_id) for run_id in run_ids] == [[("1.t",)]] * 11


# --- replies that are lost ------------------------------------------------------------------------------------


@pytest.mark.parametrize("marker", [b"-- Claim one", b"-- Commit one"], ids=["claim", "commit"])
@pytest.mark.parametrize("answered", [True, False], ids=["reply-lost", "request-lost"])
def test_a_worker_goes_on_after_the_database_was_away_under_its_claim_or_commit(
    postgres_url: str, marker: bytes, answered: bool
) -> None:
    """It asks again until it is answered, knows its own claim and its own commit, and repeats no body."""
    with LossyProxy(postgres_url) as proxy:
        url = proxy.url.render_as_string(hide_password=False)
        parts = Runtime(Settings(database_url=url, app=APP))
        parts.engine.run_here("integration.ten", 1)
        proxy.lose(marker, answered=answered, refusals=3)

        result = parts.engine.run_here(durable(tasks.add.s(1, 1) | tasks.draw.s()), seed=5)

        assert proxy.losses == 1
        assert result.status is RunStatus.SUCCEEDED
        with parts.store.engine.connect() as connection:
            states = [attempt.state.value for attempt in reading.attempts_of(connection, result.run_id)]
        assert states == ["committed", "committed"]
        parts.close()


def test_a_claim_that_stays_unanswered_is_given_up_with_its_identity(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been granted: only a new identity frees the step for others."""
    monkeypatch.setattr(executor, "CLAIM_PATIENCE_S", 0.0)
    with LossyProxy(postgres_url) as proxy:
        url = proxy.url.render_as_string(hide_password=False)
        parts = Runtime(Settings(database_url=url, app=APP, heartbeat_every_s=3600))
        parts.engine.run_here("integration.ten", 1)
        former = parts.membership.id()
        proxy.lose(b"-- Claim one", refusals=1)

        with pytest.raises(StoreUnavailable):
            parts.engine.run_here(durable(tasks.add.s(1, 1)))

        assert proxy.losses == 1
        assert parts.membership.id() != former
        fleet = Fleet(parts.store.engine, ttl_s=3600)
        wait_until(lambda: former not in {row["id"] for row in fleet.alive()}, what="the former life is buried")
        parts.close()


def test_a_run_of_another_format_costs_a_worker_nothing(tmp_path: Path) -> None:
    """The refusal is an answer: its other claims, in other threads, stay its own."""
    parts = Runtime(Settings(database_url=sqlite_url(tmp_path), app=APP))
    me = parts.membership.id()
    plan = compile_canvas(tasks.add.s(1, 1), app=tasks.app)
    bench = Bench(parts.store)
    run_id = bench.run(plan)
    bench.change_run(run_id, format=99)

    message = Message(run_id=run_id, address="1.add", epoch=1, plan=plan.digest)

    with pytest.raises(VersionMismatch):
        parts.executor.execute(message, CeleryTasks(tasks.app))

    assert parts.membership.id() == me
    assert bench.states(run_id) == []
    parts.close()


# --- a fleet --------------------------------------------------------------------------------------------------


def attempts(engine: AppEngine, run: RunHandle) -> list[Attempt]:
    with engine.store.engine.connect() as connection:
        return reading.attempts_of(connection, run.id)


@pytest.mark.worker
def test_runs_go_on_when_the_broker_has_forgotten_everything(
    engine: AppEngine, prefork: WorkerProcess, stage: tasks.Stage, key: str
) -> None:
    """The queue is deleted with messages in it; the sweep sends them again."""
    for _ in range(2):
        engine.enqueue(durable(tasks.hold.s(0, key)))
    stage.wait_for_arrivals(key, 2)
    handles = engine.enqueue_many("integration.sum", [{"numbers": [n, 1]} for n in range(10)])
    waiting = stage.redis.llen("celery")
    stage.redis.delete("celery")
    stage.open(key, times=2)

    results = [run.wait(timeout_s=WAIT_S) for run in handles]

    assert waiting > 0
    assert [result.output for result in results] == [n + 1 for n in range(10)]


@pytest.mark.worker
def test_each_message_may_come_a_hundred_times(
    engine: AppEngine, prefork: WorkerProcess, stage: tasks.Stage, key: str
) -> None:
    """Before, while and after the step is performed: one body, one checkpoint."""
    run = engine.enqueue(durable(tasks.hold.s(1, key) | tasks.visit.s(key, "after")))
    header = {"run": run.id, "address": "1.hold", "epoch": 1, "plan": engine.store.run(run.id).plan_digest}
    double = partial(
        tasks.app.send_task, "tests.integration.tasks.hold", headers={"aos": header}, argsrepr="", kwargsrepr=""
    )
    for _ in range(50):
        double()
    stage.wait_for_arrivals(key)
    stage.open(key)
    result = run.wait(timeout_s=WAIT_S)
    for _ in range(50):
        double()
    engine.enqueue(durable(tasks.add.s(1, 1))).wait(timeout_s=WAIT_S)

    assert result.output == "after"
    assert (len(stage.arrivals(key)), stage.marks(key)) == (1, ["after"])
    assert [attempt.state.value for attempt in attempts(engine, run)] == ["committed", "committed"]


@pytest.mark.worker
@pytest.mark.chaos
def test_runs_go_on_after_postgresql_was_restarted_under_them(
    servers: Servers, inline_engine: AppEngine, app_module: str
) -> None:
    """Immediate shutdown, twice, with runs under way: what was acknowledged is there, and every hash is the usual."""
    folder = servers.folder("pg")
    server = start_postgres(folder, durable=True)
    upgrade(server.url)
    stack = Stack(servers, database_url=server.url)
    engine, seeds = stack.engine(app_module), range(12)
    worker = stack.worker(app_module, concurrency=2)
    handles = engine.enqueue_many("integration.ten", [1] * len(seeds), seeds=seeds)
    for share in (15, 50):
        wait_until(partial(has_checkpoints, engine, share), what=f"{share} steps are committed")
        os.kill(server.pid, signal.SIGQUIT)
        server.process.done.wait(WAIT_S)
        server = start_postgres(folder, durable=True, port=server.port)

    results = [patient_result(run) for run in handles]
    usual = [inline_engine.run_here("integration.ten", 1, seed=seed).workflow_hash for seed in seeds]

    assert {result.status for result in results} == {RunStatus.SUCCEEDED}
    assert [result.workflow_hash for result in results] == usual
    assert not worker.has_ended
    stack.close()
    server.stop()


def has_checkpoints(engine: AppEngine, count: int) -> bool:
    """Are so many steps committed? A database that is away has none."""
    try:
        with engine.store.engine.connect() as connection:
            return bool(connection.execute(select(func.count()).select_from(checkpoints)).scalar_one() >= count)
    except DBAPIError:
        return False


def patient_result(run: RunHandle) -> RunResult:
    """How a run ended; a waiter whose connection died waits again."""
    for _ in range(20):
        try:
            return run.wait(timeout_s=WAIT_S)
        except StoreUnavailable:
            continue
    raise AssertionError("the database stayed away")


@pytest.mark.worker
@pytest.mark.parametrize(("revision", "fix"), [("0000", "aos db upgrade"), ("9999", "deploy the newer code")])
def test_a_worker_does_not_start_on_a_schema_of_another_version(
    servers: Servers, app_module: str, revision: str, fix: str
) -> None:
    """It ends with a message that says what to do, before it takes a message from the broker."""
    stack = Stack(servers)
    with stack.engine(app_module).store.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '{revision}'")

    worker = stack.start_worker(app_module, pool="solo")
    worker.wait_until_ended()

    assert worker.returncode not in (0, None)
    assert revision in worker.log
    assert fix in worker.log
    assert "Traceback" not in worker.log
    stack.close()


@pytest.mark.worker
@pytest.mark.chaos
def test_a_worker_that_was_stopped_is_taken_over_and_its_late_commit_is_void(
    shared: Stack, engine: AppEngine, stage: tasks.Stage, key: str
) -> None:
    """SIGSTOP past its time to live: another worker performs the step, and the sleeper wakes up to nothing."""
    options = ("-Q", "nap")
    pair = [shared.start_worker(APP, pool="solo", concurrency=1, options=options) for _ in range(2)]
    run = engine.enqueue(durable(tasks.write_and_hold.s(key).set(queue="nap")))
    stage.wait_for_arrivals(key)
    (sleeper,) = [worker for worker in pair if worker.pid in stage.arrivals(key)]
    sleeper.signal(signal.SIGSTOP)
    stage.wait_for_arrivals(key, 2)

    # The sleeper came first to the gate, so the first word is its; the second lets the successor pass.
    stage.open(key, times=2)
    result = run.wait(timeout_s=WAIT_S)
    sleeper.signal(signal.SIGCONT)
    wait_until(lambda: "step.superseded" in sleeper.log, what="the sleeper found itself superseded")

    assert (result.status, result.output) == (RunStatus.SUCCEEDED, 2)
    assert [attempt.state.value for attempt in attempts(engine, run)] == ["lost", "committed"]
    with engine.store.engine.connect() as connection:
        rows = connection.execute(text("SELECT attempt FROM own_rows WHERE key = :key"), {"key": key}).scalars().all()
    assert rows == [2]
    assert not sleeper.has_ended
    for worker in pair:
        worker.kill()
