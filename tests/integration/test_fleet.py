"""The fleet: who is alive, who is buried, whose turn it is; and a process as its member."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial

import pytest
from sqlalchemy import select, update

from aos_workflow import durable
from aos_workflow.fleet import Fleet, this_host
from aos_workflow.ids import new_worker_id
from aos_workflow.membership import Membership, is_running
from aos_workflow.records import Busy, RunStatus, WorkerProcess
from aos_workflow.schema import runs, ticks, workers
from tests.conformance.store_cases import Bench, at_once, line
from tests.integration import tasks
from tests.integration.conftest import APP
from tests.stack import AppEngine, Stack, wait_until
from tests.stack import WorkerProcess as RealWorker

pytestmark = pytest.mark.services
FAR_AWAY = "another/machine"


def joined(bench: Bench, *, host: str = FAR_AWAY, pid: int = 1) -> WorkerProcess:
    """A process that has just joined."""
    worker = WorkerProcess(id=new_worker_id(), kind="worker", host=host, pid=pid)
    bench.fleet.join(worker)
    return worker


def alive(bench: Bench) -> set[str]:
    return {row["id"] for row in bench.fleet.alive()}


def wake_at(bench: Bench, run_id: str) -> float:
    with bench.engine.connect() as connection:
        return connection.execute(select(runs.c.wake_at).where(runs.c.id == run_id)).scalar_one()


def far_future(bench: Bench, run_id: str) -> None:
    """The sweep would not look at the run for a long time."""
    bench.change_run(run_id, wake_at=9e9)


def nobody_runs(_pid: int) -> bool:
    return False


def everybody_runs(_pid: int) -> bool:
    return True


# --- the table ------------------------------------------------------------------------------------------------


def test_who_joined_is_alive_until_it_leaves(bench: Bench) -> None:
    """With its kind, host and pid."""
    worker = joined(bench, pid=77)
    (row,) = [row for row in bench.fleet.alive() if row["id"] == worker.id]
    bench.fleet.leave(worker.id)

    assert (row["kind"], row["host"], row["pid"], row["stopped_at"]) == ("worker", FAR_AWAY, 77, None)
    assert worker.id not in alive(bench)


def test_who_is_silent_is_not_alive_and_who_beats_is_again(bench: Bench) -> None:
    """A process that was stopped for a while comes back with its next heartbeat."""
    worker = joined(bench)
    bench.fall_silent(worker.id)
    silent = alive(bench)

    bench.fleet.beat(worker)

    assert worker.id not in silent
    assert worker.id in alive(bench)


def test_a_heartbeat_after_the_burial_brings_the_process_back(bench: Bench) -> None:
    """It was declared dead too early; what was taken over meanwhile is protected by the fence."""
    worker = joined(bench)
    bench.fall_silent(worker.id)
    bench.fleet.bury(this_host(), everybody_runs)

    bench.fleet.beat(worker)

    assert worker.id in alive(bench)


def test_a_heartbeat_of_a_process_whose_row_is_gone_registers_it(bench: Bench) -> None:
    """Rows of the dead are deleted a day later; this one was not dead."""
    worker = joined(bench)
    with bench.engine.begin() as connection:
        connection.execute(workers.delete().where(workers.c.id == worker.id))

    bench.fleet.beat(worker)

    assert worker.id in alive(bench)


def test_neighbours_that_are_gone_are_buried_and_strangers_are_not(bench: Bench) -> None:
    """A pid says something on its own machine only."""
    gone, stranger = joined(bench, host=this_host(), pid=5), joined(bench, host=FAR_AWAY, pid=5)
    here = joined(bench, host=this_host(), pid=6)

    buried = bench.fleet.bury(this_host(), lambda pid: pid == 6)

    assert gone.id in buried
    assert {stranger.id, here.id} <= alive(bench)


def test_the_silent_are_buried_wherever_they_are(bench: Bench) -> None:
    """No heartbeat for the time to live."""
    silent, talking = joined(bench), joined(bench)
    bench.fall_silent(silent.id)

    buried = bench.fleet.bury(this_host(), everybody_runs)

    assert silent.id in buried
    assert talking.id in alive(bench)
    assert silent.id not in bench.fleet.bury(this_host(), everybody_runs)


def test_the_runs_of_the_dead_are_due_at_once_and_no_others(bench: Bench) -> None:
    """Whoever was busy with a run when it died; the sweep finds it in the same moment."""
    dead, living = joined(bench, host=this_host(), pid=5), joined(bench)
    busy, done, others = (bench.run(line(2)) for _ in range(3))
    bench.granted(busy, worker=dead.id)
    bench.granted(done, worker=dead.id)
    bench.store.commit(bench.commit_of(done, line(2)))
    bench.granted(others, worker=living.id)
    for run_id in (busy, done, others):
        far_future(bench, run_id)

    bench.fleet.bury(this_host(), nobody_runs)

    assert wake_at(bench, busy) <= bench.store.time()
    assert [wake_at(bench, run_id) for run_id in (done, others)] == [9e9, 9e9]


def test_the_runs_of_who_leaves_are_due_at_once(bench: Bench) -> None:
    """Saying goodbye in the middle of a step hands it on."""
    leaver, run_id = joined(bench), bench.run(line(1))
    bench.granted(run_id, worker=leaver.id)
    far_future(bench, run_id)

    bench.fleet.leave(leaver.id)

    assert wake_at(bench, run_id) <= bench.store.time()


def test_the_dead_are_forgotten_after_a_day(bench: Bench) -> None:
    """The table does not grow with every restart."""
    old, fresh = joined(bench), joined(bench)
    for worker in (old, fresh):
        bench.fleet.leave(worker.id)
    with bench.engine.begin() as connection:
        connection.execute(update(workers).where(workers.c.id == old.id).values(stopped_at=1.0))

    bench.fleet.bury(this_host(), everybody_runs)

    with bench.engine.connect() as connection:
        kept = set(connection.execute(select(workers.c.id)).scalars())
    assert old.id not in kept
    assert fresh.id in kept


def test_burials_at_the_same_moment_bury_each_process_once(bench: Bench) -> None:
    """However many caretakers notice it."""
    dead = {joined(bench, host=this_host(), pid=5).id for _ in range(5)}

    buried = at_once([partial(bench.fleet.bury, this_host(), nobody_runs)] * 4)

    assert not dead & alive(bench)
    assert set().union(*buried) >= dead


def test_of_ten_that_ask_at_once_one_has_the_turn(bench: Bench, key: str) -> None:
    """Also the very first time, and again when the interval is over."""
    first = at_once([partial(bench.fleet.take_turn, key, 3600.0)] * 10)
    too_early = at_once([partial(bench.fleet.take_turn, key, 3600.0)] * 10)
    with bench.engine.begin() as connection:
        connection.execute(update(ticks).where(ticks.c.name == key).values(last_at=0.0))
    again = at_once([partial(bench.fleet.take_turn, key, 3600.0)] * 10)

    assert [sum(turns) for turns in (first, too_early, again)] == [1, 0, 1]


def test_turns_of_different_names_do_not_wait_for_each_other(bench: Bench, key: str) -> None:
    """Each job has its own interval."""
    assert [bench.fleet.take_turn(f"{key}{n}", 3600.0) for n in range(3)] == [True] * 3


# --- a process as its member ----------------------------------------------------------------------------------


def membership(bench: Bench, *, beat_every_s: float = 3600.0) -> Membership:
    return Membership(bench.fleet, kind="test", beat_every_s=beat_every_s)


def test_a_process_joins_when_it_first_needs_an_identity(bench: Bench) -> None:
    """Once, however many threads ask."""
    me, before = membership(bench), len(alive(bench))

    ids = set(at_once([me.id] * 8))

    assert len(ids) == 1
    assert ids <= alive(bench)
    assert len(alive(bench)) == before + 1
    me.leave()
    assert not ids & alive(bench)


def test_a_member_goes_on_beating(bench: Bench) -> None:
    """Its silence is ended by its next heartbeat, without anybody asking it to."""
    me = membership(bench, beat_every_s=0.02)
    bench.fall_silent(me.id())

    wait_until(lambda: me.id() in alive(bench), what="the heartbeat came")
    me.leave()


def test_a_new_life_has_a_new_id_and_the_old_one_is_dead(bench: Bench) -> None:
    """Every claim made under the old id is free."""
    me, run_id = membership(bench), bench.run(line(1))
    former = me.id()
    bench.granted(run_id, worker=former)

    me.start_new_life()

    assert me.id() != former
    wait_until(lambda: former not in alive(bench), what="the former life is buried")
    assert bench.granted(run_id, worker=me.id()).attempt == 2
    me.leave()


def test_only_a_neighbour_whose_process_is_gone_is_reported_dead(bench: Bench) -> None:
    """A claim of a stranger or of a living process is left to its heartbeat."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    me = membership(bench)
    gone = joined(bench, host=this_host(), pid=child.pid)

    reports = [
        me.report_dead(Busy(worker_id=worker_id, host=host, pid=pid))
        for worker_id, host, pid in [
            (gone.id, this_host(), child.pid),
            ("w-x", FAR_AWAY, child.pid),
            ("w-x", this_host(), os.getpid()),
            ("w-x", this_host(), 0),
        ]
    ]

    assert reports == [True, False, False, False]
    assert gone.id not in alive(bench)


def test_a_zombie_does_not_run() -> None:
    """It has ended; only its parent has not asked how."""
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    assert is_running(child.pid)
    child.kill()
    wait_until(lambda: not is_running(child.pid), what="the child is a zombie")
    child.wait()
    assert not is_running(child.pid)
    child.stdin.close()  # type: ignore[union-attr]


# --- real workers ---------------------------------------------------------------------------------------------


@pytest.mark.worker
def test_a_child_that_is_killed_is_buried_and_its_step_performed_by_another(
    engine: AppEngine, prefork: RealWorker, stage: tasks.Stage, key: str
) -> None:
    """The worker's main process notices; no time to live is waited for."""
    fleet = Fleet(engine.store.engine, ttl_s=3600.0)
    run = engine.enqueue(durable(tasks.hold.s("v", key)))
    stage.wait_for_arrivals(key)
    (pid,) = stage.arrivals(key)
    victim = {row["id"] for row in fleet.alive() if row["pid"] == pid}

    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not victim & {row["id"] for row in fleet.alive()}, what="the child is buried")
    stage.wait_for_arrivals(key, 2)
    stage.open(key)
    result = run.wait(timeout_s=60)

    assert len(victim) == 1
    assert (result.status, result.output) == (RunStatus.SUCCEEDED, "v")
    assert prefork.pid in {row["pid"] for row in fleet.alive()} or not prefork.has_ended


@pytest.mark.worker
def test_a_worker_that_is_shut_down_leaves_the_fleet(shared: Stack, engine: AppEngine) -> None:
    """Main process and children say goodbye; nobody waits for their silence."""
    worker = shared.worker(APP, concurrency=1, options=("-Q", "leaving"))
    engine.enqueue(durable(tasks.add.s(1, 1).set(queue="leaving"))).wait(timeout_s=60)
    pids = {worker.pid, *worker.children()}
    fleet = Fleet(engine.store.engine, ttl_s=3600.0)
    members = pids & {row["pid"] for row in fleet.alive()}

    assert worker.terminate() == 0

    assert members
    assert not pids & {row["pid"] for row in fleet.alive()}
