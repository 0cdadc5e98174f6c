"""Celery stays Celery: names, requests, routing, priorities, plain calls; and what the engine adds to its tasks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from celery import Celery, chord, group
from sqlalchemy import func, select, text

from aos_workflow import durable, reading
from aos_workflow.assembly import Runtime
from aos_workflow.engine import RunHandle, WorkflowEngine
from aos_workflow.errors import UnknownWorkflow
from aos_workflow.records import Checkpoint, RunStatus
from aos_workflow.schema import checkpoints
from aos_workflow.settings import Settings
from tests.integration import tasks
from tests.integration.conftest import APP
from tests.stack import AppEngine, Stack, WorkerProcess

pytestmark = pytest.mark.services
WAIT_S = 60


@pytest.fixture
def workers(engine: AppEngine, prefork: WorkerProcess, threads: WorkerProcess) -> dict[str, WorkerProcess]:
    """Queue -> its worker."""
    return {"celery": prefork, "side": threads}


@pytest.fixture(scope="module")
def client(shared: Stack) -> Celery:
    """Somebody who calls tasks the plain way and reads their results."""
    return Celery("client", broker=shared.redis_url, backend=shared.redis_url, set_as_current=False)


def output(run: RunHandle) -> Any:
    """The output of a run, which must succeed."""
    run.wait(timeout_s=WAIT_S)
    return run.output()


def kept(engine: AppEngine, run: RunHandle) -> list[Checkpoint]:
    with engine.store.engine.connect() as connection:
        return reading.checkpoints_of(connection, run.id)


def states(engine: AppEngine, run: RunHandle) -> list[str]:
    with engine.store.engine.connect() as connection:
        return [attempt.state.value for attempt in reading.attempts_of(connection, run.id)]


# --- what a step finds in self --------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["celery", "side"])
def test_a_bound_step_finds_itself_and_its_request(
    engine: AppEngine, workers: dict[str, WorkerProcess], queue: str
) -> None:
    """Its own task name, an id that names run and address, its real arguments, its queue and its worker."""
    run = engine.enqueue(durable(tasks.add.s(1, 1) | tasks.about.s("more", flag=True).set(queue=queue)))

    found = output(run)

    assert found["name"] == found["task"] == "tests.integration.tasks.about"
    assert (found["id"], found["root_id"], found["retries"]) == (f"{run.id}:2.about", run.id, 0)
    assert (found["args"], found["kwargs"]) == ([2, "more"], {"flag": True})
    assert (found["queue"], found["hostname"]) == (queue, workers[queue].name)
    assert found["called_directly"] is False


def test_a_step_goes_where_its_tasks_route_says(engine: AppEngine, workers: dict[str, WorkerProcess]) -> None:
    """``task_routes``, and the queue of the signature above it."""
    routed = engine.enqueue(durable(tasks.add.s(1, 1) | tasks.about_side.si()))
    moved = engine.enqueue(durable(tasks.about_side.si().set(queue="celery")))

    assert (output(routed), output(moved)) == ("side", "celery")


def test_a_priority_travels_with_the_message(
    engine: AppEngine, workers: dict[str, WorkerProcess], stage: tasks.Stage, key: str
) -> None:
    """The broker sees it, and so does the step."""
    first = engine.enqueue(durable(tasks.about.s().set(priority=6)))
    second = engine.enqueue(durable(tasks.add.s(1, 1) | tasks.about.s().set(priority=3)))
    alone = engine.enqueue(durable(tasks.emit.s(1).set(queue="nobody", priority=9)))
    ((priority, headers),) = [
        (message["properties"]["priority"], message["headers"])
        for name in stage.redis.scan_iter("nobody*")
        for message in map(json.loads, stage.redis.lrange(name, 0, -1))
    ]

    assert (output(first)["priority"], output(second)["priority"]) == (6, 3)
    assert (priority, headers["aos"]["run"]) == (9, alone.id)
    alone.cancel()


def test_a_step_shows_its_own_name_and_run_and_address_to_monitors(
    engine: AppEngine, workers: dict[str, WorkerProcess], stage: tasks.Stage
) -> None:
    """What Flower reads: the task's name and ``argsrepr``."""
    run = engine.enqueue(durable(tasks.emit.s("value").set(queue="unserved")))

    (message,) = map(json.loads, stage.redis.lrange("unserved", 0, -1))

    assert message["headers"]["task"] == "tests.integration.tasks.emit"
    assert message["headers"]["argsrepr"] == f"{run.id} / 1.emit"
    run.cancel()


# --- without the engine's header a task is a plain task -------------------------------------------------------


def test_a_plain_delay_is_a_plain_celery_task(
    engine: AppEngine, workers: dict[str, WorkerProcess], client: Celery
) -> None:
    """Arguments in the message, result in the backend, ``self.request`` Celery's own, and no run in the database."""
    with engine.store.engine.connect() as connection:
        before = connection.execute(select(func.count()).select_from(checkpoints)).scalar_one()
    sent = tasks.about.delay(1, flag=True)

    found = client.AsyncResult(sent.id).get(timeout=WAIT_S)

    assert (found["id"], found["args"], found["kwargs"]) == (sent.id, [1], {"flag": True})
    assert found["hostname"] == workers["celery"].name
    with engine.store.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(checkpoints)).scalar_one() == before


def test_plain_canvases_of_the_same_tasks_work(workers: dict[str, WorkerProcess], client: Celery) -> None:
    """Chain, group and chord with Celery's own machinery and a result backend."""
    names = {name: f"{APP}.{name}" for name in ("add", "total")}
    add = client.signature(names["add"], args=(1, 1))
    more = client.signature(names["add"], args=(10,))
    total = client.signature(names["total"])

    chained = (add | more).delay()
    together = group([add, add], app=client).delay()
    joined = chord([add, add], total, app=client).delay()

    assert chained.get(timeout=WAIT_S) == 12
    assert together.get(timeout=WAIT_S) == [2, 2]
    assert joined.get(timeout=WAIT_S) == 4


def test_a_plain_retry_is_celerys_retry(
    workers: dict[str, WorkerProcess], client: Celery, stage: tasks.Stage, key: str
) -> None:
    """``self.retry`` of a task that is no step goes by way of the broker."""
    sent = tasks.third_time.delay(key)

    assert client.AsyncResult(sent.id).get(timeout=WAIT_S) == {"retries": 2}
    assert stage.marks(key) == ["0", "1", "2"]


def test_a_step_with_a_context_can_be_called_plainly(workers: dict[str, WorkerProcess], client: Celery) -> None:
    """By ``delay`` and as a function; its chance is real then."""
    draws = [client.AsyncResult(tasks.draw.delay().id).get(timeout=WAIT_S) for _ in range(2)]

    assert draws[0] != draws[1]
    assert tasks.draw() != tasks.draw()
    assert tasks.add(1, 2) == 3


def test_steps_leave_nothing_in_the_result_backend(
    engine: AppEngine, workers: dict[str, WorkerProcess], stage: tasks.Stage
) -> None:
    """Their values are in the database, and only there."""
    run = engine.enqueue(durable(tasks.emit.s("value") | tasks.emit.s()))
    output(run)

    assert list(stage.redis.scan_iter(f"celery-task-meta-{run.id}*")) == []


def test_a_step_may_call_steps_send_plain_tasks_and_enqueue_runs(
    engine: AppEngine, workers: dict[str, WorkerProcess], stage: tasks.Stage, key: str
) -> None:
    """Each is what it would be elsewhere: a function call, a plain task, a run of its own."""
    added, run_id = output(engine.enqueue(durable(tasks.start_others.s(key))))

    assert added == 3
    assert output(engine.handle(run_id)) == 7
    stage.wait_for_marks(key, 1)
    assert stage.marks(key) == ["plain"]


# --- ctx.session ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["celery", "side"])
def test_rows_of_a_step_that_is_retried_exist_exactly_once(
    engine: AppEngine, workers: dict[str, WorkerProcess], key: str, queue: str
) -> None:
    """What the failed attempt wrote is gone; what the good one wrote came with its checkpoint."""
    run = engine.enqueue(durable(tasks.write_row.s(key).set(queue=queue)))

    assert output(run) == 2
    with engine.store.engine.connect() as connection:
        rows = connection.execute(text("SELECT attempt FROM own_rows WHERE key = :key"), {"key": key}).scalars().all()
    assert rows == [2]


@pytest.mark.parametrize("queue", ["celery", "side"])
def test_rows_of_a_step_that_runs_out_of_time_are_gone(
    engine: AppEngine, workers: dict[str, WorkerProcess], key: str, queue: str
) -> None:
    """Also when it is the database it waits for."""
    result = engine.enqueue(durable(tasks.write_slowly.s(key).set(queue=queue))).wait(timeout_s=WAIT_S)

    assert result.error is not None
    assert result.error.code == "STEP_TIMEOUT"
    with engine.store.engine.connect() as connection:
        rows = connection.execute(text("SELECT attempt FROM own_rows WHERE key = :key"), {"key": key}).all()
    assert rows == []


def test_a_statement_that_was_refused_and_swallowed_fails_the_step(
    engine: AppEngine, workers: dict[str, WorkerProcess]
) -> None:
    """The transaction is broken, so there is no checkpoint in it."""
    run = engine.enqueue(durable(tasks.write_badly.s()))

    result = run.wait(timeout_s=WAIT_S)

    assert result.status is RunStatus.FAILED
    assert kept(engine, run) == []
    assert output(engine.enqueue(durable(tasks.add.s(1, 1)))) == 2


def test_a_step_that_commits_its_session_fails_with_what_to_do(
    engine: AppEngine, workers: dict[str, WorkerProcess]
) -> None:
    """Its rows would be there without its checkpoint."""
    result = engine.enqueue(durable(tasks.commit_itself.s())).wait(timeout_s=WAIT_S)

    assert result.error is not None
    assert result.error.code == "OPTION_INVALID"
    assert "remove the commit()" in result.error.message


# --- shapes known only at run time ----------------------------------------------------------------------------

DYNAMIC: dict[str, tuple[Any, Any]] = {
    "loop": (lambda: tasks.loop.s(12, []) | tasks.emit.s(), list(range(12, 0, -1))),
    "branch": (lambda: group(tasks.branch.s(2), tasks.branch.s(3)), [102, 1004]),
    "map over a list": (lambda: tasks.count_up.s(5) | tasks.map_over.s() | tasks.add.s(), 61),
    "group over a list": (lambda: tasks.count_up.s(3) | tasks.spread_over.s(), [10, 11, 12]),
    "group over a list, joined": (lambda: tasks.count_up.s(3) | tasks.spread_over.s() | tasks.add_up.s(), 33),
    "map over nothing": (lambda: tasks.count_up.s(0) | tasks.map_over.s() | tasks.add.s(), 1),
    "group over nothing": (lambda: tasks.count_up.s(0) | tasks.spread_over.s() | tasks.add_up.s(), 0),
    "self.replace": (lambda: tasks.become.s(1) | tasks.add.s(10), 14),
    "replaced in a group": (lambda: group(tasks.become.s(n) for n in range(4)) | tasks.total.s(), 18),
    "loop in a group": (lambda: group(tasks.loop.s(n, []) for n in range(4)), [[], [1], [2, 1], [3, 2, 1]]),
    "workflow in a chain": (lambda: tasks.add.s(1, 1) | tasks.plus_two | tasks.add.s(10), 14),
    "workflow in a group": (lambda: tasks.emit.s(1) | group(tasks.plus_two.s(), tasks.add.s()) | tasks.total.s(), 5),
    "function workflow": (lambda: tasks.sum_of.s(numbers=[1, 2, 3]) | tasks.add.s(), 7),
}


def test_dynamic_shapes_give_the_value_their_canvas_would_on_every_transport(
    engine: AppEngine, workers: dict[str, WorkerProcess], inline_engine: AppEngine
) -> None:
    """Loops, branches, maps over lists known only at run time, workflows inside a canvas; and the same hash here."""
    handles = {name: engine.enqueue(durable(make()), seed=7) for name, (make, _) in DYNAMIC.items()}
    here = {name: inline_engine.run_canvas(make(), seed=7) for name, (make, _) in DYNAMIC.items()}

    for name, run in handles.items():
        result, expected = run.wait(timeout_s=WAIT_S), DYNAMIC[name][1]
        assert (name, result.output, here[name].output) == (name, expected, expected)
        assert (name, result.workflow_hash) == (name, here[name].workflow_hash)


def test_a_replacement_that_is_no_canvas_fails_the_step(engine: AppEngine, workers: dict[str, WorkerProcess]) -> None:
    """With the error a definition would have had."""
    result = engine.enqueue(durable(tasks.replaced_by_nonsense.s())).wait(timeout_s=WAIT_S)

    assert result.error is not None
    assert (result.error.code, result.error.address) == ("CANVAS_UNSUPPORTED", "1.replaced_by_nonsense")


# --- delivery options the engine keeps itself -----------------------------------------------------------------


def test_a_countdown_is_kept_in_the_database(
    engine: AppEngine, workers: dict[str, WorkerProcess], stage: tasks.Stage
) -> None:
    """The first claim puts the step off; the second begins it, not before its time."""
    run = engine.enqueue(durable(tasks.add.s(1, 1).set(countdown=0.5) | tasks.add.s(1)))

    assert output(run) == 3
    with engine.store.engine.connect() as connection:
        deferred, performed = reading.attempts_of(connection, run.id)[:2]
    assert (deferred.state, performed.state) == ("deferred", "committed")
    assert deferred.due_at is not None
    assert deferred.due_at <= performed.started_at


def test_an_eta_in_the_past_starts_at_once(engine: AppEngine, workers: dict[str, WorkerProcess]) -> None:
    """No attempt is spent on waiting."""
    run = engine.enqueue(durable(tasks.add.s(1, 1).set(eta="2020-01-01T00:00:00+00:00")))

    assert output(run) == 2
    assert states(engine, run) == ["committed"]


def test_local_steps_follow_in_the_process_of_the_step_before(
    engine: AppEngine, workers: dict[str, WorkerProcess]
) -> None:
    """No hop between them, and a checkpoint after each all the same."""
    here = tasks.in_place.s()
    run = engine.enqueue(durable(tasks.pid_after.si() | here | here | here | tasks.pid_after.s()))

    pids = output(run)

    assert len(set(pids[:4])) == 1
    assert [checkpoint.address for checkpoint in kept(engine, run)] == [
        "1.pid_after",
        "2.in_place",
        "3.in_place",
        "4.in_place",
        "5.pid_after",
    ]


def test_a_local_step_of_another_queue_goes_there(engine: AppEngine, workers: dict[str, WorkerProcess]) -> None:
    """Its queue is a promise about the machine it runs on."""
    run = engine.enqueue(durable(tasks.pid_after.si() | tasks.in_place.s().set(queue="side")))

    pids = output(run)

    assert pids[1] == workers["side"].pid
    assert pids[0] != pids[1]


def test_success_callbacks_receive_the_value_and_change_nothing(
    engine: AppEngine, workers: dict[str, WorkerProcess], stage: tasks.Stage, key: str
) -> None:
    """``link``: a side branch; the run ends when it has, too."""
    linked = tasks.add.s(1, 1)
    linked.link(tasks.visit.s(key, "told"))
    run = engine.enqueue(durable(linked | tasks.add.s(1)))

    assert output(run) == 3
    assert stage.marks(key) == ["told"]


# --- messages nobody asked for --------------------------------------------------------------------------------


def test_messages_that_make_no_sense_are_dropped_and_the_worker_lives(
    engine: AppEngine, workers: dict[str, WorkerProcess], stage: tasks.Stage, key: str
) -> None:
    """Unknown runs, plans and addresses, forged epochs, malformed headers, doubles of what is done."""
    run = engine.enqueue(durable(tasks.visit.s(None, key, "once") | tasks.emit.s()))
    output(run)
    other = engine.enqueue(durable(tasks.add.s(1, 1) | tasks.add.s(1) | tasks.add.s(1)))
    output(other)
    plan = engine.store.run(run.id).plan_digest
    good = {"run": run.id, "address": "1.visit", "epoch": 1, "plan": plan}
    forged: list[Any] = [
        *[good] * 20,
        {**good, "epoch": 99},
        {**good, "epoch": "one"},
        {**good, "address": "9.nothing"},
        {**good, "address": "2.emit/1.nothing"},
        {**good, "plan": "0" * 64},
        {**good, "plan": ""},
        {**good, "plan": engine.store.run(other.id).plan_digest},
        {**good, "plan": engine.store.run(other.id).plan_digest, "address": "3.add"},
        {**good, "run": "nobody"},
        {**good, "run": "nobody", "plan": ""},
        {**good, "run": "a\0b"},
        {**good, "run": 7},
        {"run": run.id},
        {},
        {**good, "address": ["1.visit"]},
    ]
    for header in forged:
        tasks.app.send_task(f"{APP}.visit", headers={"aos": header}, argsrepr="", kwargsrepr="")

    afterwards = engine.enqueue_many("integration.sum", [{"numbers": [n, 1]} for n in range(8)])

    assert [output(one) for one in afterwards] == [n + 1 for n in range(8)]
    assert stage.marks(key) == ["once"]
    assert states(engine, run) == ["committed", "committed"]
    assert not workers["celery"].has_ended


def test_a_message_for_a_step_whose_time_has_not_come_starts_nothing(
    engine: AppEngine, workers: dict[str, WorkerProcess], stage: tasks.Stage, key: str
) -> None:
    """Reordered or forged: what comes before it is not committed yet, so neither is it performed nor the run failed."""
    join = group(tasks.hold.s(1, key), tasks.add.s(1, 1)) | tasks.visit.s(key, "joined") | tasks.emit.s()
    run = engine.enqueue(durable(join))
    stage.wait_for_arrivals(key)
    plan = engine.store.run(run.id).plan_digest
    for address in ("3.visit", "4.emit"):
        header = {"run": run.id, "address": address, "epoch": 1, "plan": plan}
        tasks.app.send_task(f"{APP}.visit", headers={"aos": header}, argsrepr="", kwargsrepr="")
    engine.enqueue(durable(tasks.add.s(1, 1))).wait(timeout_s=WAIT_S)
    early = stage.marks(key)
    stage.open(key)

    assert output(run) == "joined"
    assert (early, stage.marks(key)) == ([], ["joined"])
    assert [checkpoint.address for checkpoint in kept(engine, run)][-2:] == ["3.visit", "4.emit"]


# --- in this process ------------------------------------------------------------------------------------------


def test_the_runbooks_snippet_runs_ten_times_in_this_process() -> None:
    """``await engine.run(workflow_type=..., seed=12345 + i)``: a hash per seed, the same for the same seed."""
    engine = WorkflowEngine(Runtime(Settings(app=APP)))

    async def ten_runs() -> list[str | None]:
        results = [await engine.run(workflow_type="integration.ten", seed=12345 + i, inputs=1) for i in range(10)]
        assert {result.status for result in results} == {RunStatus.SUCCEEDED}
        return [result.workflow_hash for result in results]

    first, second = asyncio.run(ten_runs()), asyncio.run(ten_runs())

    assert first == second
    assert len(set(first)) == 10


def test_runs_in_this_process_may_be_awaited_together() -> None:
    """They do not block the loop, nor each other's result."""
    engine = WorkflowEngine(Runtime(Settings(app=APP)))

    async def together() -> list[Any]:
        runs = [engine.run(workflow_type="integration.sum", inputs={"numbers": [n, 1]}) for n in range(5)]
        return [result.output for result in await asyncio.gather(*runs)]

    assert asyncio.run(together()) == [1, 2, 3, 4, 5]


def test_an_unknown_workflow_is_an_error_that_lists_those_there_are() -> None:
    """And says how to make others known."""
    engine = WorkflowEngine(Runtime(Settings(app=APP)))

    with pytest.raises(UnknownWorkflow, match=r"integration\.plus_two, integration\.sum, integration\.ten") as unknown:
        asyncio.run(engine.run(workflow_type="nobody", seed=1))

    assert "AOS_APP" in unknown.value.fix


def test_a_run_in_this_process_has_the_hash_it_has_on_workers(
    engine: AppEngine, workers: dict[str, WorkerProcess], inline_engine: AppEngine
) -> None:
    """Neither transport nor pool is in the proof."""
    handles = engine.enqueue_many("integration.ten", [1, 2, 3], seeds=[12345, 12346, 12347])
    here = [inline_engine.run_here("integration.ten", n, seed=12344 + n) for n in (1, 2, 3)]

    results = [run.wait(timeout_s=WAIT_S) for run in handles]

    assert [result.workflow_hash for result in results] == [result.workflow_hash for result in here]
    assert [result.output for result in results] == [result.output for result in here]
