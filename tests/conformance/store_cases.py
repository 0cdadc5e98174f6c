"""What the store's conformance suite is made of: plans, a bench around one store, racing threads, a lossy proxy."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Engine, func, select, update
from sqlalchemy.engine import URL, make_url

from aos_workflow import reading
from aos_workflow.canonical import digest, encode
from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.database import open_database
from aos_workflow.fleet import Fleet
from aos_workflow.ids import new_run_id, new_token, new_worker_id
from aos_workflow.plan import Plan, Step
from aos_workflow.records import Claim, Commit, Failure, Granted, NewRun, WorkerProcess
from aos_workflow.schema import metadata, runs, workers

T = TypeVar("T")
#: How long anything here may take on a busy machine, seconds. A bound, not an expectation.
PATIENCE_S = 60.0
#: The host of the workers of this suite: one no real process is on.
HOST = "somewhere/else"


def line(size: int, *, task: str = "t") -> Plan:
    """A chain of ``size`` steps: 1.t, 2.t ..."""
    addresses = [f"{number}.{task}" for number in range(1, size + 1)]
    steps = tuple(
        Step(address=address, task=task, after=(before,) if before else (), feed=before)
        for before, address in zip([None, *addresses], addresses, strict=False)
    )
    return Plan(steps=steps, outgoing=addresses[-1] if addresses else None)


def fan(width: int) -> Plan:
    """``width`` siblings and the join that comes after all of them."""
    siblings = [f"{number}.part" for number in range(1, width + 1)]
    join = Step(address=f"{width + 1}.join", task="join", after=tuple(siblings), feed=list(siblings))
    return Plan(steps=(*(Step(address=address, task="part") for address in siblings), join), outgoing=join.address)


def guarded() -> Plan:
    """One step with two handlers of its failure."""
    handlers = tuple(Step(address=f"{number}.on_error.h", task="h", feed="$failure") for number in (1, 2))
    step = Step(address="1.t", task="t", on_error=tuple(handler.address for handler in handlers))
    return Plan(steps=(step,), handlers=handlers, outgoing="1.t")


def failure(address: str = "1.t", *, handlers: tuple[str, ...] = ()) -> Failure:
    """Why a step failed."""
    return Failure(
        code="STEP_FAILED", type="ValueError", message="no", traceback="line 1", address=address, handlers=handlers
    )


@dataclass
class Bench:
    """One store with its fleet, and short words for what a worker does with it."""

    store: CheckpointStore
    fleet: Fleet = field(init=False)

    def __post_init__(self) -> None:
        self.fleet = Fleet(self.store.engine, clock=self.store.clock, ttl_s=self.store.worker_ttl_s)

    @property
    def engine(self) -> Engine:
        return self.store.engine

    def new_run(self, plan: Plan, **changes: Any) -> NewRun:
        """A run of ``plan`` that is not stored yet."""
        text = encode(changes.pop("inputs", None))
        given = {
            "id": new_run_id(),
            "workflow": "w",
            "plan_digest": plan.digest,
            "plan_text": plan.text,
            "size": len(plan.steps),
            "inputs": text,
            "inputs_digest": digest(text),
            "seed": 7,
            "logical_time": 1_700_000_000.0,
        }
        return NewRun(**{**given, **changes})

    def run(self, plan: Plan, **changes: Any) -> str:
        """The id of a run of ``plan`` that was just stored."""
        return self.store.add([self.new_run(plan, **changes)])[0]

    def worker(self) -> str:
        """The id of a new worker process, alive."""
        worker_id = new_worker_id()
        self.fleet.join(WorkerProcess(id=worker_id, kind="worker", host=HOST, pid=1))
        return worker_id

    def fall_silent(self, worker_id: str) -> None:
        """Its last heartbeat was long ago."""
        with self.engine.begin() as connection:
            connection.execute(update(workers).where(workers.c.id == worker_id).values(heartbeat_at=0.0))

    def claim(self, run_id: str, address: str = "1.t", *, worker: str | None = None, **changes: Any) -> Claim:
        """What the store says to a claim."""
        given = {
            "inputs": (),
            "token": new_token(),
            "worker_id": worker or self.worker(),
            "pid": 1,
            "most_losses": 5,
        }
        return self.store.claim(run_id=run_id, address=address, **{**given, **changes})

    def granted(self, run_id: str, address: str = "1.t", **changes: Any) -> Granted:
        """The claim, which must be granted."""
        claim = self.claim(run_id, address, **changes)
        assert isinstance(claim, Granted), claim
        return claim

    def commit_of(self, run_id: str, plan: Plan, address: str = "1.t", attempt: int = 1, **changes: Any) -> Commit:
        """A commit of the value ``address`` as the output of ``address``."""
        text = encode(changes.pop("value", address))
        given = {
            "position": plan.positions.get(address, -1),
            "output": text,
            "digest": digest(text),
            "stable_digest": digest(text),
            "worker_id": "w-1",
            "started_at": 1.0,
        }
        return Commit(run_id=run_id, address=address, attempt=attempt, **{**given, **changes})

    def take_over(self, run_id: str, address: str = "1.t") -> tuple[Granted, Granted]:
        """The claims of a worker that fell silent and of the one that took its step over."""
        sleeper = self.worker()
        first = self.granted(run_id, address, worker=sleeper)
        self.fall_silent(sleeper)
        return first, self.granted(run_id, address)

    def settled(self, run_id: str, state: Any, *, attempt: int = 1, address: str = "1.t", delay_s: float = 0) -> Any:
        """When an attempt that ended without a checkpoint is due again."""
        return self.store.settle(
            run_id=run_id, address=address, attempt=attempt, state=state, delay_s=delay_s, error=None
        )

    def failed(
        self, run_id: str, why: Failure | None = None, *, attempt: int = 1, address: str = "1.t", poisoned: bool = False
    ) -> Any:
        """What the store says to a final failure."""
        return self.store.fail(
            run_id=run_id, address=address, attempt=attempt, failure=why or failure(address), poisoned=poisoned
        )

    def states(self, run_id: str) -> list[str]:
        """The states of all attempts of a run, by address and number."""
        with self.engine.connect() as connection:
            return [attempt.state.value for attempt in reading.attempts_of(connection, run_id)]

    def addresses(self, run_id: str) -> list[str]:
        """The addresses that have a checkpoint, in the order of their commits."""
        with self.engine.connect() as connection:
            return [checkpoint.address for checkpoint in reading.checkpoints_of(connection, run_id)]

    def change_run(self, run_id: str, **values: Any) -> None:
        """Write to a run's row what no verb of the store would."""
        with self.engine.begin() as connection:
            connection.execute(update(runs).where(runs.c.id == run_id).values(**values))

    def row_counts(self) -> dict[str, int]:
        """Table -> number of rows."""
        with self.engine.connect() as connection:
            return {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in metadata.sorted_tables
            }


@cache
def empty_database() -> bytes:
    """A SQLite file with our tables; writing it costs less than making them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        engine = open_database(f"sqlite:///{path}")
        metadata.create_all(engine)
        engine.dispose()
        return path.read_bytes()


def sqlite_url(folder: Path) -> str:
    """URL of a new SQLite database with our tables."""
    path = folder / "runs.db"
    path.write_bytes(empty_database())
    return f"sqlite:///{path}"


@contextmanager
def opened_bench(url: str, **options: Any) -> Iterator[Bench]:
    """A bench over the tables at ``url``, with a connection for every racer."""
    engine = open_database(url, pool_size=24)
    yield Bench(CheckpointStore(engine, **options))
    engine.dispose()


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make all calls at the same moment, each in a thread of its own; their answers in order."""
    barrier = threading.Barrier(len(calls))
    answers: list[T | None] = [None] * len(calls)
    errors: list[BaseException] = []

    def call(number: int) -> None:
        barrier.wait(PATIENCE_S)
        try:
            answers[number] = calls[number]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "a racing thread did not come back"
    if errors:
        raise errors[0]
    return answers  # type: ignore[return-value]


class LossyProxy:
    """A TCP proxy in front of PostgreSQL that can lose one reply.

    ``lose(marker)`` arms it: of the next request that contains ``marker`` the reply is lost (``answered=True``:
    the server has answered, so it has done it) or the request itself is, and the connection is closed. From then on
    the next ``refusals`` connections are refused.
    """

    def __init__(self, url: str) -> None:
        self._server_url = make_url(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._marker = b""
        self._answered = True
        self._refusals = itertools.repeat(False)
        self._armed_refusals = 0
        self.losses = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result(PATIENCE_S)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    @property
    def url(self) -> URL:
        """The database's URL by way of this proxy; without TLS, so that requests can be read."""
        return self._server_url.set(host="127.0.0.1", port=self.port).update_query_dict({"sslmode": "disable"})

    def lose(self, marker: bytes, *, answered: bool = True, refusals: int = 0) -> None:
        """Arm it for the next request that contains ``marker``."""
        self._marker, self._answered, self._armed_refusals = marker, answered, refusals

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if next(self._refusals, False):
            to_client.close()
            return
        server, to_server = await asyncio.open_connection(self._server_url.host, self._server_url.port)
        lost = asyncio.Event()

        async def up() -> None:
            while data := await client.read(1 << 16):
                if self._marker and self._marker in data:
                    self._marker = b""
                    lost.set()
                    self.losses += 1
                    self._refusals = iter([True] * self._armed_refusals)
                    if not self._answered:
                        return
                to_server.write(data)

        async def down() -> None:
            while (data := await server.read(1 << 16)) and not lost.is_set():
                to_client.write(data)

        await asyncio.wait([asyncio.create_task(up()), asyncio.create_task(down())], return_when="FIRST_COMPLETED")
        to_client.close()
        to_server.close()
