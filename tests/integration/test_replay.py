"""Replay: a recorded run is performed again, sealed, and compared with what was recorded.

Each test performs a canvas in this process and replays the run; ``world`` is what the steps would touch.
"""

# Celery ships no types: its decorators are untyped to mypy.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import json
import multiprocessing
import os
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import psycopg2
import pytest
from celery import Celery, Task, _state, chain, chord, group
from sqlalchemy import create_engine, text

from aos_workflow import StepContext, Workflow, WorkflowTask, canonical, step
from aos_workflow.determinism.order import shuffled
from aos_workflow.divergence import ABSENT, Cause, Verdict
from aos_workflow.errors import GoldenInvalid, GoldenUnreadable
from aos_workflow.recording import Recording
from aos_workflow.records import RunResult, RunStatus
from aos_workflow.replay import replay
from aos_workflow.replay.replayer import Replayed, replay_recording
from aos_workflow.task import CeleryTasks
from aos_workflow.testing import InlineEngine

app = Celery("unit_replay", task_cls=WorkflowTask, broker="memory://", set_as_current=False)
app.conf.broker_transport_options = {"polling_interval": 0.01}
HERE = Path(__file__).name


class World:
    """What steps find outside of themselves; a test changes it between run and replay."""

    def __init__(self) -> None:
        self.is_replay = False
        self.value: Any = 1
        self.calls: list[str] = []
        self.folder = Path()
        self.port = 0
        self.connection: Any = None
        self.engine: Any = None


world = World()


@dataclass
class Order:
    number: int
    lines: tuple[Decimal, ...]


@dataclass(frozen=True)
class Shipped:
    at: datetime


# --- steps ------------------------------------------------------------------------------------


@app.task
def add(x: int, y: int = 1) -> int:
    return x + y


@step(joins=True)
def total(xs: list[int]) -> int:
    return sum(xs)


@app.task
def add_up(xs: list[int]) -> int:
    return sum(xs)


@step
def draw(ctx: StepContext, x: Any = None) -> dict[str, Any]:
    return {
        "x": x, "random": [ctx.random.random(), ctx.random.randrange(100)], "ids": [ctx.uuid(), ctx.uuid()],
        "now": ctx.now, "numpy": ctx.numpy_random.random(3), "key": ctx.idempotency_key,
        "rate": ctx.effect("rate", lambda: world.value), "again": ctx.effect("rate", lambda: world.value),
    }  # fmt: skip


@step
def ambient(x: Any = None) -> list[Any]:
    return [random.random(), time.time(), datetime.now(UTC), uuid.uuid4(), os.urandom(4)]


@step
def call(ctx: StepContext, x: Any = None, name: str = "call") -> Any:
    """What the world says: the divergence of a step that looks outside."""
    world.calls.append(name)
    return world.value


@step(effect=True)
def pay(x: Any = None) -> Any:
    world.calls.append("pay")
    return {"paid": world.value}


@step
def keep_row(ctx: StepContext, x: Any = None) -> int:
    world.calls.append("keep_row")
    ctx.session.execute(text("CREATE TABLE IF NOT EXISTS kept (x INTEGER)"))
    ctx.session.execute(text("INSERT INTO kept VALUES (1)"))
    return int(ctx.session.execute(text("SELECT count(*) FROM kept")).scalar_one())


@app.task(bind=True, max_retries=3)
def third_time(self: Task) -> list[int]:
    if self.request.retries < 2:
        raise self.retry(countdown=1, exc=ConnectionError("away"))
    return [self.request.retries]


@step(max_attempts=3)
def second_attempt(ctx: StepContext) -> list[int]:
    if ctx.attempt < 2:
        raise ConnectionError("away")
    return [ctx.attempt]


@step
def typed(ctx: StepContext, x: Any = None) -> dict[str, Any]:
    return {
        "order": Order(number=1, lines=(Decimal("1.50"), Decimal("2"))), "at": datetime(2026, 1, 2, tzinfo=UTC),
        "tuple": (1, (2,)), "set": {3, 1}, "bytes": b"\x00a", "array": numpy.array([[1.0, 2.0]]), "none": None,
        "shipped": frozenset({Shipped(at=datetime(2026, 1, 2, tzinfo=UTC))}), "$key": [{"$uuid": 1}],
        "uuid": uuid.UUID(int=5),
    }  # fmt: skip


@step
def received(value: Any, *args: Any, **kwargs: Any) -> str:
    """How what it was given looks: the same text live and in replay, or they received different things."""
    seen = {key: (type(item).__qualname__, repr(item)) for key, item in value.items()}
    assert isinstance(value["order"], Order)
    return json.dumps([sorted(seen.items()), repr(args), repr(sorted(kwargs.items()))])


@step
def loop(ctx: StepContext, n: int) -> Any:
    return ctx.replace(loop.s(n - 1)) if n > 0 else {"left": n, "drawn": ctx.random.random()}


@step
def fan_out(ctx: StepContext, n: int) -> Any:
    return ctx.replace(group(add.s(i) for i in range(n)) | add_up.s())


@app.task(bind=True)
def become(self: Task, x: int) -> Any:
    return self.replace(chain(add.s(x), add.s(10)))


@step
def fails_later(x: Any = None) -> int:
    if world.is_replay:
        raise LookupError("no [such] thing")
    return 1


@step
def shows_raised(x: Any = None) -> Any:
    """Passes over what is refused: its output is the same."""
    if world.is_replay:
        try:
            socket.create_connection(("127.0.0.1", world.port), 5)
        except Exception as error:
            world.calls.append(type(error).__name__)
    return "the same"


def connects() -> None:
    socket.create_connection(("127.0.0.1", world.port), 5).close()


def sends_a_datagram() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", world.port))


def starts_a_process() -> None:
    subprocess.run(["touch", str(world.folder / "touched")], check=True)


def starts_a_shell() -> None:
    os.system(f"touch {world.folder}/touched")


def writes_a_file() -> None:
    (world.folder / "written").write_text("x")


def appends_to_a_file() -> None:
    with (world.folder / "there").open("a") as file:
        file.write("x")


def removes_a_file() -> None:
    (world.folder / "there").unlink()


def renames_a_file() -> None:
    (world.folder / "there").rename(world.folder / "gone")


def makes_a_folder() -> None:
    (world.folder / "made").mkdir()


def links_a_file() -> None:
    (world.folder / "link").symlink_to(world.folder / "there")


def writes_to_sqlite() -> None:
    with sqlite3.connect(world.folder / "own.db") as connection:
        connection.execute("INSERT INTO t VALUES (1)")


def connects_to_postgresql() -> None:
    psycopg2.connect(host="127.0.0.1", port=world.port, connect_timeout=5).close()


def sends_a_task() -> None:
    add.delay(1)


def sends_a_canvas() -> None:
    group(add.s(1), add.s(2)).apply_async()


def sends_by_name() -> None:
    app.send_task(add.name, (1,))


def sends_over_an_open_connection() -> None:
    world.connection.sendall(b"x")


def writes_through_a_pool() -> None:
    with world.engine.begin() as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))


def enqueues_a_run() -> None:
    Workflow("unit_replay.other", add.s(1), app=app, register=False).enqueue()


def spawns_a_process() -> None:
    multiprocessing.get_context("spawn").Process(target=writes_a_file).start()


def connects_from_a_thread() -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            connects()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


OUTSIDE = {
    act.__name__: act
    for act in (
        connects, sends_a_datagram, starts_a_process, starts_a_shell, writes_a_file, appends_to_a_file, removes_a_file,
        renames_a_file, makes_a_folder, links_a_file, writes_to_sqlite, connects_to_postgresql, sends_a_task,
        sends_a_canvas, sends_by_name, connects_from_a_thread, sends_over_an_open_connection, writes_through_a_pool,
        enqueues_a_run, spawns_a_process,
    )
}  # fmt: skip


@step
def acts(name: str) -> str:
    """Harmless live; in replay it does what ``name`` says."""
    if world.is_replay:
        OUTSIDE[name]()
    return "done"


@step
def unrecorded_effect(ctx: StepContext, x: Any = None) -> Any:
    if world.is_replay:
        return ctx.effect("new", connects)
    return 1


# --- the tests' own -------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def as_before(tmp_path: Path) -> Iterator[None]:
    """A world of its own for each test, and Celery's current app as it was before."""
    world.__init__()  # type: ignore[misc]
    world.folder = tmp_path / "world"
    world.folder.mkdir()
    before = _state._tls.current_app
    app.set_current()
    yield
    _state._set_current_app(before)


def performed(engine: InlineEngine, canvas: Any, inputs: Any = None, **options: Any) -> RunResult:
    result = engine.run_canvas(canvas, inputs, seed=options.pop("seed", 7), **options)
    assert result.status is RunStatus.SUCCEEDED, result.error
    return result


def again(engine: InlineEngine, result: RunResult) -> Replayed:
    """Replay it in a world that has changed."""
    world.is_replay, world.value = True, 2
    return engine.replay(result)


def recording(engine: InlineEngine, result: RunResult) -> Recording:
    found: Recording = engine._parts.recorder.recording(result.run_id)
    return found


def rows(engine: InlineEngine) -> dict[str, int]:
    with engine.store.engine.connect() as connection:
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
        count = connection.exec_driver_sql
        return {table: count(f"SELECT count(*) FROM {table}").scalar_one() for table in tables}


def assert_matched(replayed: Replayed) -> None:
    assert (replayed.verdict, replayed.divergences, replayed.undeclared) == (Verdict.MATCHED, (), ()), replayed
    assert replayed.workflow_hash == replayed.recorded_hash


# --- what matches ------------------------------------------------------------------------------------


CANVASES = {
    "one step": lambda: add.s(1, 2),
    "a chain": lambda: add.s(1) | add.s(2) | add.s(3),
    "a group": lambda: group(add.s(i) for i in range(4)),
    "a group of one that is joined": lambda: group([add.s(1)]) | total.s(),
    "a chord": lambda: chord([add.s(1), add.s(2)], add_up.s()),
    "nested groups": lambda: group(add.s(1), group(add.s(2), add.s(3)) | add_up.s()) | total.s(),
    "chords in a chord": lambda: chord([chord([add.s(1), add.s(2)], add_up.s()), add.s(5)], add_up.s()),
    "chunks": lambda: add.chunks([(1, 2), (3, 4), (5, 6)], 2),
    "map": lambda: add_up.map([[1, 2], [3]]),
    "starmap": lambda: add.starmap([(1, 2), (3, 4)]),
    "immutable": lambda: add.s(1) | add.si(5, 6),
    "everything of ctx": lambda: draw.s() | draw.s(),
    "captured chance and time": lambda: ambient.s() | ambient.s(),
    "siblings that draw": lambda: group(draw.s(1), draw.s(2), ambient.s(3)),
    "typed values": lambda: typed.s() | received.s(Decimal("1"), at=datetime(2026, 1, 1, tzinfo=UTC), of=(1, {2})),
    "self.retry": lambda: third_time.s(),
    "max_attempts": lambda: second_attempt.s(),
    "a loop": lambda: loop.s(4) | draw.s(),
    "a fan-out at run time": lambda: fan_out.s(3) | add.s(1),
    "self.replace": lambda: become.s(1) | add.s(2),
    "nested sub-plans": lambda: group(fan_out.s(2), loop.s(2), become.s(3)),
    "effect steps": lambda: add.s(1) | pay.s() | draw.s(),
    "rows of its own": lambda: keep_row.s() | keep_row.s(),
}


@pytest.mark.parametrize("shape", CANVASES)
def test_a_deterministic_run_matches(shape: str, aos_engine: InlineEngine) -> None:
    """Whatever the shape, a run whose steps are deterministic gives every recorded output and its hash again."""
    result = performed(aos_engine, CANVASES[shape]())
    replayed = again(aos_engine, result)
    assert_matched(replayed)
    assert replayed.workflow_hash == result.workflow_hash
    assert replayed.performed + replayed.served == len(recording(aos_engine, result).steps)


@pytest.mark.parametrize("shape", ["nested groups", "siblings that draw", "nested sub-plans", "typed values"])
def test_the_order_of_siblings_does_not_matter(shape: str, aos_engine: InlineEngine) -> None:
    """Performed in any order, the answer is the same."""
    result = performed(aos_engine, CANVASES[shape]())
    whole = recording(aos_engine, result)
    world.is_replay, world.value = True, 2
    seen = set()
    for seed in range(3):

        def order(addresses: tuple[str, ...], seed: int = seed) -> tuple[str, ...]:
            mixed = shuffled(addresses, seed)
            assert sorted(mixed) == sorted(addresses)
            seen.add(mixed)
            return mixed

        replayed = replay_recording(whole, CeleryTasks(app), order=order)
        assert_matched(replayed)
    assert len(seen) > 1 or len(whole.steps) < 3


def test_inputs_and_pieces_of_a_workflow(aos_engine: InlineEngine) -> None:
    """The run's inputs, and the outputs of steps before, are what each step received."""
    result = performed(aos_engine, add.s(2) | group(add.s(1), add.s(2)) | total.s(), 5)
    assert result.output == 17
    assert_matched(again(aos_engine, result))


def test_a_failed_attempt_is_not_performed_again(aos_engine: InlineEngine) -> None:
    """Retries that came before success are not repeated: the attempt that committed is."""
    result = performed(aos_engine, group(third_time.s(), second_attempt.s()))
    assert result.output == [[2], [2]]
    steps = recording(aos_engine, result).steps
    assert [(step.attempt, step.retries) for step in steps] == [(3, 2), (2, 1)]
    assert_matched(again(aos_engine, result))


# --- effects are served ------------------------------------------------------------------------------------


def test_effects_are_served_and_not_called(aos_engine: InlineEngine) -> None:
    """ctx.effect gives the recorded value; a step that is an effect or wrote rows gives its recorded output."""
    result = performed(aos_engine, draw.s() | pay.s() | keep_row.s())
    calls = list(world.calls)
    replayed = again(aos_engine, result)
    assert_matched(replayed)
    assert (replayed.performed, replayed.served) == (1, 2)
    assert world.calls == calls


def test_an_effect_stays_one_when_its_declaration_goes(aos_engine: InlineEngine) -> None:
    """A step recorded as an effect is not called because today's code forgot to say so."""
    result = performed(aos_engine, pay.s())
    whole = recording(aos_engine, result)
    plain = Celery("unit_replay_plain", task_cls=WorkflowTask, set_as_current=False)
    plain.tasks.pop(pay.name)

    @plain.task(name=pay.name, shared=False)
    def pay_again(x: Any = None) -> None:
        world.calls.append("called")

    assert_matched(replay_recording(whole, CeleryTasks(plain)))
    assert "called" not in world.calls


def test_nothing_is_written_to_the_store(aos_engine: InlineEngine) -> None:
    """A replay adds no row to any table, and no file beside the database."""
    result = performed(aos_engine, draw.s() | pay.s() | keep_row.s() | fan_out.si(2))
    before, files = rows(aos_engine), sorted(os.listdir(aos_engine._parts.settings.home))
    again(aos_engine, result)
    assert rows(aos_engine) == before
    assert sorted(os.listdir(aos_engine._parts.settings.home)) == files


# --- what diverges -----------------------------------------------------------------------------------------


def test_the_first_step_that_differs_is_named(aos_engine: InlineEngine) -> None:
    """Each step is judged by itself: it received what was recorded, so only those that differ are named."""
    result = performed(aos_engine, add.s(1, 1) | call.s() | add.s(1) | call.s() | add.s(5))
    replayed = again(aos_engine, result)
    assert replayed.verdict is Verdict.DIVERGED
    assert [found.address for found in replayed.divergences] == ["2.call", "4.call"]
    found = replayed.divergence
    assert found is not None
    assert (found.path, found.recorded, found.observed, found.cause) == ("", 1, 2, None)
    assert replayed.workflow_hash not in (None, result.workflow_hash)


def test_the_field_that_differs_is_named(aos_engine: InlineEngine) -> None:
    """A pointer leads into the output, with both values."""
    world.value = {"a": [1, {"b": 2}]}
    result = performed(aos_engine, call.s())
    world.is_replay, world.value = True, {"a": [1, {"b": 3, "c": 4}]}
    replayed = aos_engine.replay(result)
    found = [(one.path, one.recorded, one.observed) for one in replayed.divergences]
    assert found == [("/a/1/b", 2, 3)]
    world.value = {"a": [1, {"b": 2, "c": 4}]}
    assert aos_engine.replay(result).divergences[0].recorded == ABSENT


def test_a_step_that_raises_is_diverged(aos_engine: InlineEngine) -> None:
    """The error is shown where the output was, and there is no hash."""
    result = performed(aos_engine, add.s(1) | fails_later.s())
    replayed = again(aos_engine, result)
    assert (replayed.verdict, replayed.workflow_hash) == (Verdict.DIVERGED, None)
    found = replayed.divergence
    assert found is not None
    assert (found.address, found.path, found.recorded) == ("2.fails_later", "", 1)
    assert found.observed == {"raised": "LookupError", "message": "no [such] thing"}


def test_a_step_that_asks_for_a_retry_is_diverged(aos_engine: InlineEngine) -> None:
    """Where an attempt had committed, another one that asks to be tried again is another answer."""
    result = performed(aos_engine, third_time.s())
    whole = recording(aos_engine, result)
    early = replace(whole, steps=tuple(replace(step, retries=0) for step in whole.steps))
    replayed = replay_recording(early, CeleryTasks(app))
    assert replayed.divergence is not None
    assert replayed.divergence.observed == {"raised": "ConnectionError", "message": "away"}


def test_another_sub_plan_is_diverged(aos_engine: InlineEngine) -> None:
    """A step that is now replaced by another canvas gave another answer."""
    world.value = 2

    @app.task(name="unit_replay.branching", bind=True)
    def branching(self: Task) -> Any:
        self.replace(add.s(world.value))

    result = performed(aos_engine, branching.s())
    assert_matched(again(aos_engine, result))
    world.value = 3
    replayed = aos_engine.replay(result)
    assert replayed.divergence is not None
    assert (replayed.divergence.address, replayed.divergence.path) == ("1.branching", "/replaced_by")


def test_an_output_that_cannot_be_stored_is_diverged(aos_engine: InlineEngine) -> None:
    """An output without canonical form is an error of the step, named like any other."""
    result = performed(aos_engine, call.s())
    world.value = object()
    replayed = aos_engine.replay(result)
    assert replayed.divergence is not None
    assert replayed.divergence.observed["raised"].endswith("NotCanonical")


# --- the seal -----------------------------------------------------------------------------------------------


@pytest.fixture
def listening() -> Iterator[list[Any]]:
    """A real server on ``world.port``, TCP and UDP, and what it saw."""
    seen: list[Any] = []
    tcp = socket.create_server(("127.0.0.1", 0))
    world.port = tcp.getsockname()[1]
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", world.port))
    world.connection = socket.create_connection(("127.0.0.1", world.port))
    opened, _ = tcp.accept()
    yield seen
    world.connection.close()
    if received_bytes := opened.recv(10):
        seen.append(received_bytes)
    opened.close()
    for server in (tcp, udp):  # what loopback delivers is there at once
        server.setblocking(False)
    with suppress(BlockingIOError):
        seen.append(tcp.accept())
    with suppress(BlockingIOError):
        seen.append(udp.recv(10))
    tcp.close()
    udp.close()
    assert seen == []


def tree() -> dict[str, Any]:
    """Every file below the world's folder with its content."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in world.folder.rglob("*")}


def waiting() -> int:
    """How many messages are in the queue."""
    with app.connection_for_read() as connection:
        return int(connection.default_channel.queue_declare("celery", passive=False).message_count)


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_reaches_outside_is_refused(name: str, listening: list[Any], aos_engine: InlineEngine) -> None:
    """It is not done, the step is diverged for it, and the line of the user's code that tried is named."""
    (world.folder / "there").write_text("there")
    with sqlite3.connect(world.folder / "own.db") as connection:
        connection.execute("CREATE TABLE t (x INTEGER)")
    connection.close()
    world.engine = create_engine(f"sqlite:///{world.folder / 'own.db'}")
    world.engine.connect().close()  # stays open in its pool
    result = performed(aos_engine, acts.s(name))
    before, queued, stored = tree(), waiting(), rows(aos_engine)
    replayed = again(aos_engine, result)
    assert (tree(), waiting(), rows(aos_engine)) == (before, queued, stored)
    world.engine.dispose()
    found = replayed.divergence
    assert found is not None, replayed
    assert found.cause in (Cause.EXTERNAL_CALL, Cause.FILESYSTEM)
    assert found.observed["raised"] == "aos_workflow.errors.UndeclaredEffect"
    assert found.location is not None
    file, _, line = found.location.rpartition(":")
    assert Path(file).name == HERE
    code = OUTSIDE[connects.__name__ if name == "connects_from_a_thread" else name].__code__
    assert code.co_firstlineno < int(line) <= max(number for _, _, number in code.co_lines() if number)
    assert found.fix is not None
    assert "ctx.effect" in found.fix


def test_an_effect_that_was_not_recorded_is_not_called(listening: list[Any], aos_engine: InlineEngine) -> None:
    """A new ctx.effect is no reason to go outside in a replay: it is told where it is called."""
    replayed = again(aos_engine, performed(aos_engine, unrecorded_effect.s()))
    found = replayed.divergence
    assert found is not None
    assert (found.cause, Path(str(found.location)).name.partition(":")[0]) == (Cause.EXTERNAL_CALL, HERE)
    assert "effect 'new'" in found.observed["message"]


def test_what_is_refused_and_passed_over_is_told(listening: list[Any], aos_engine: InlineEngine) -> None:
    """A step that catches the refusal and returns the same matches; that it tried is reported."""
    replayed = again(aos_engine, performed(aos_engine, shows_raised.s()))
    assert world.calls == ["UndeclaredEffect"]
    assert (replayed.verdict, replayed.divergences) == (Verdict.MATCHED, ())
    (breach,) = replayed.undeclared
    assert breach.cause == "external_call"
    assert breach.what == "socket.getaddrinfo 127.0.0.1"
    assert str(breach.location).partition(":")[0].endswith(HERE)


def test_other_threads_go_on_outside(aos_engine: InlineEngine, tmp_path: Path) -> None:
    """While one thread replays, another of the same process publishes, writes and connects as ever."""
    began, done = threading.Event(), threading.Event()

    @app.task(name="unit_replay.slow")
    def slow() -> int:
        if world.is_replay:
            began.set()
            assert done.wait(10)
        return 1

    result = performed(aos_engine, slow.s())
    failed: list[BaseException] = []
    queued = waiting()

    def work() -> None:
        try:
            app.set_current()
            began.wait(10)
            add.delay(1)
            (tmp_path / "written").write_text("x")
        except BaseException as error:
            failed.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=work)
    thread.start()
    replayed = again(aos_engine, result)
    thread.join()
    assert failed == []
    assert (tmp_path / "written").exists()
    assert waiting() == queued + 1
    assert_matched(replayed)


def test_two_replays_at_once_leave_the_app_as_it_was(aos_engine: InlineEngine) -> None:
    """Replays in several threads do not undo each other's seal, and afterwards messages go out again."""
    result = performed(aos_engine, group(add.s(i) for i in range(10)))
    whole = recording(aos_engine, result)
    verdicts: list[Verdict] = []

    def work() -> None:
        verdicts.extend(replay_recording(whole, CeleryTasks(app)).verdict for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queued = waiting()
    add.delay(1)
    assert waiting() == queued + 1
    assert verdicts == [Verdict.MATCHED] * 15


# --- what cannot be told ------------------------------------------------------------------------------------


def test_a_task_that_is_gone_is_an_error(aos_engine: InlineEngine) -> None:
    """The verdict is "error" and names the task: nothing is said about the steps."""
    result = performed(aos_engine, add.s(1) | call.s())
    whole = recording(aos_engine, result)
    fewer = Celery("unit_replay_fewer", task_cls=WorkflowTask, set_as_current=False)
    fewer.tasks.pop(add.name)
    replayed = replay_recording(whole, CeleryTasks(fewer), golden="g.json")
    assert (replayed.verdict, replayed.divergence, replayed.golden) == (Verdict.ERROR, None, "g.json")
    assert replayed.error is not None
    assert replayed.error["code"] == "GOLDEN_UNREADABLE"
    assert add.name in replayed.error["message"]


def test_a_journal_of_another_version_is_an_error(aos_engine: InlineEngine) -> None:
    """A journal with parts this code does not know is not half served."""
    whole = recording(aos_engine, performed(aos_engine, add.s(1)))
    newer = replace(whole, steps=tuple(replace(step, effects='{"newer": 1}') for step in whole.steps))
    replayed = replay_recording(newer, CeleryTasks(app))
    assert replayed.verdict is Verdict.ERROR
    assert replayed.error is not None
    assert replayed.error["code"] == "VERSION_MISMATCH"


def test_a_class_that_is_gone_is_an_error(aos_engine: InlineEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input of a class that today's code does not have cannot be handed to the step."""
    whole = recording(aos_engine, performed(aos_engine, typed.s() | received.s()))
    gone = [replace(step, output=step.output.replace(":Shipped", ":Lost")) for step in whole.steps]
    replayed = replay_recording(replace(whole, steps=tuple(gone)), CeleryTasks(app))
    assert replayed.verdict is Verdict.ERROR
    assert replayed.error is not None
    assert replayed.error["code"] == "VERSION_MISMATCH"


def test_an_empty_plan_matches(aos_engine: InlineEngine) -> None:
    """A run without steps has nothing to differ in."""
    assert_matched(aos_engine.replay(performed(aos_engine, group([]))))


# --- volatile fields ------------------------------------------------------------------------------------------


@app.task
def timed(x: Any = None) -> dict[str, Any]:
    return {"answer": 42, "ms": world.value}


@step(volatile=("ms",))
def timed_itself(x: Any = None) -> dict[str, Any]:
    return {"answer": 42, "ms": world.value}


@pytest.mark.parametrize("place", ["module", "setting", "workflow", "step"])
def test_a_volatile_field_is_ignored_everywhere(
    place: str, aos_engine: InlineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is declared: live the workflow hash is the same, and in replay the difference is "ignored"."""
    parts, options, canvas = aos_engine._parts, {}, timed.s()
    if place == "module":
        monkeypatch.setattr(canonical, "VOLATILE_FIELDS", canonical.VOLATILE_FIELDS)
        canonical.VOLATILE_FIELDS.append("/ms")
    elif place == "setting":
        parts.settings = replace(parts.settings, volatile=("ms",))
        parts.__dict__.pop("executor", None)
        parts.__dict__.pop("recorder", None)
    elif place == "workflow":
        options = {"volatile": ("/ms",)}
    else:
        canvas = timed_itself.s()
    try:
        first = performed(aos_engine, canvas, **options)
        world.value = 5
        second = performed(aos_engine, canvas, **options)
        assert first.workflow_hash == second.workflow_hash
        replayed = again(aos_engine, first)
        assert (replayed.verdict, replayed.divergence) == (Verdict.IGNORED, None)
        assert replayed.workflow_hash == first.workflow_hash
    finally:
        canonical.VOLATILE_FIELDS.clear()


def test_a_field_that_is_volatile_since_today(aos_engine: InlineEngine) -> None:
    """Declared after the run was recorded, it is ignored in replay as well."""
    result = performed(aos_engine, timed.s())
    whole = recording(aos_engine, result)
    world.value = 9
    assert replay_recording(whole, CeleryTasks(app)).verdict is Verdict.DIVERGED
    replayed = replay_recording(whole, CeleryTasks(app), volatile=("/ms",))
    assert replayed.verdict is Verdict.IGNORED


def test_one_that_is_not_volatile_any_more_is_still_ignored(
    aos_engine: InlineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the recording left out of its hash stays left out."""
    monkeypatch.setattr(canonical, "VOLATILE_FIELDS", [])
    result = performed(aos_engine, timed.s(), volatile=("ms",))
    whole = recording(aos_engine, result)
    assert whole.steps[0].volatile == ("ms",)
    world.value = 9
    replayed = replay_recording(replace(whole, plan=replace(whole.plan)), CeleryTasks(app))
    assert replayed.verdict is Verdict.IGNORED
    assert replayed.workflow_hash == result.workflow_hash


# --- goldens --------------------------------------------------------------------------------------------------


def test_a_golden_is_replayed_from_its_file(aos_engine: InlineEngine) -> None:
    """``replay`` takes the path of a golden, and says whose it is."""
    result = performed(aos_engine, typed.s() | received.s() | draw.si())
    path = aos_engine.record(result)
    world.value = 2
    for named in (path, str(path)):
        replayed = replay(named)
        assert_matched(replayed)
        assert (replayed.golden, replayed.run_id) == (str(path), result.run_id)
    assert_matched(replay(recording(aos_engine, result)))


def test_a_golden_that_was_changed_is_not_replayed(aos_engine: InlineEngine) -> None:
    """What is not what was signed is not believed."""
    path = aos_engine.record(performed(aos_engine, add.s(1)))
    path.write_text(path.read_text().replace('"seed": 7', '"seed": 8'))
    with pytest.raises(GoldenInvalid, match="aos golden verify"):
        replay(path)
    with pytest.raises(GoldenUnreadable):
        replay(path.with_name("missing.json"))


def test_the_answer_as_json(aos_engine: InlineEngine) -> None:
    """Everything that is told is JSON, with the names that are documented."""
    replayed = again(aos_engine, performed(aos_engine, call.s() | acts.si("connects")))
    document = json.loads(json.dumps(replayed.as_json()))
    assert {"workflow", "run_id", "golden", "verdict", "divergence"} <= set(document)
    assert set(document["divergence"]) == {"address", "path", "recorded", "observed", "cause", "location", "fix"}
    assert document["verdict"] == "diverged"
    assert [found["address"] for found in document["divergences"]] == ["1.call", "2.acts"]


def test_a_run_that_did_not_succeed_has_no_recording(aos_engine: InlineEngine) -> None:
    """Only what succeeded can be performed again."""
    world.is_replay = True
    result = aos_engine.run_canvas(fails_later.s())
    with pytest.raises(Exception, match="goldens are of runs that succeeded"):
        aos_engine.replay(result)


def test_a_workflow_by_name(aos_engine: InlineEngine) -> None:
    """A workflow that is a function of its inputs is recorded as the plan it came to."""
    flow = Workflow("unit_replay.flow", lambda n: group(add.s(i) for i in range(n)), app=app, register=False)
    result = aos_engine.run_here(flow, {"n": 3}, seed=1)
    assert_matched(again(aos_engine, result))


if sys.platform != "linux":  # pragma: no cover
    pytest.skip("what is refused is shown on Linux", allow_module_level=True)


# --- what an independent review found -------------------------------------------------------------------------


@step(effect=True)
def fetch_secret(ctx: StepContext) -> dict[str, Any]:
    return {"answer": 42, "drawn": len(os.urandom(8)), "at": time.time() > 0}


def test_an_effect_step_records_nothing_but_its_output(aos_engine: InlineEngine) -> None:
    """Its output is served, so what it asked on the way is not kept."""
    result = aos_engine.run_canvas(fetch_secret.s())
    assert [step.effects for step in recording(aos_engine, result).steps] == [None]


@step
def ask_often(ctx: StepContext, count: int) -> int:
    return len({time.time() for _ in range(count)}) and count


def test_a_journal_that_is_full_is_dropped_and_its_step_served(aos_engine: InlineEngine) -> None:
    """A step that asks the clock half a million times stores no megabytes, and its replay serves its output."""
    result = aos_engine.run_canvas(ask_often.s(450_000))
    (recorded,) = recording(aos_engine, result).steps
    assert recorded.effects == '{"full": true}'
    replayed = aos_engine.replay(result)
    assert (replayed.verdict, replayed.served) == (Verdict.MATCHED, 1)


@step
def make_folder(ctx: StepContext, folder: str) -> bool:
    os.makedirs(folder, exist_ok=True)
    with suppress(FileNotFoundError):
        os.remove(f"{folder}/nothing")
    return os.path.isdir(folder)


def test_what_the_system_would_refuse_anyway_is_let_through(aos_engine: InlineEngine, tmp_path: Path) -> None:
    """To make a folder that is there, or to remove what is not, changes nothing: it is no outside effect."""
    result = aos_engine.run_canvas(make_folder.s(str(tmp_path / "there")))
    replayed = aos_engine.replay(result)
    assert (replayed.verdict, replayed.undeclared) == (Verdict.MATCHED, ())


sender = threading.Event()


@step
def start_a_sender(ctx: StepContext) -> bool:
    if world.is_replay:
        threading.Thread(target=lambda: world.calls.append(str(_connects())) if sender.wait(20) else None).start()
    return True


def _connects() -> bool:
    with socket.create_connection(("127.0.0.1", world.port), timeout=5):
        return True


def test_a_thread_that_outlives_a_replay_is_free_again(aos_engine: InlineEngine) -> None:
    """A library's own thread, started while a step was sealed, works when the replay is over."""
    world.is_replay, world.calls = False, []
    result = aos_engine.run_canvas(start_a_sender.s())
    with socket.create_server(("127.0.0.1", 0)) as server:
        world.port, world.is_replay = server.getsockname()[1], True
        sender.clear()
        assert aos_engine.replay(result).verdict is Verdict.MATCHED
        sender.set()
        server.accept()[0].close()
    deadline = time.monotonic() + 20
    while not world.calls and time.monotonic() < deadline:
        time.sleep(0.01)
    assert world.calls == ["True"]
    world.is_replay = False
