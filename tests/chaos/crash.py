"""What the crash tests share: twins left in peace, workers armed with faults, and the proof at the end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import psycopg2
import redis

from aos_workflow import durable
from aos_workflow.engine import RunHandle
from aos_workflow.errors import WaitTimeout
from aos_workflow.records import RunResult
from tests.chaos import history, steps
from tests.stack import AppEngine, Stack, WorkerProcess, driver_url, wait_until

APP = "tests.chaos.steps"
#: The promise is 15 s from the new worker's start; the bound allows for a machine that is busy with other tests.
RECOVERY_S = 30.0

STUCK = """
SELECT r.id, r.workflow, r.status, 'epoch ' || r.epoch, 'nudges ' || r.nudges,
       'looked at in ' || round((r.wake_at - extract(epoch FROM now()))::numeric, 1) || ' s',
       'silent for ' || round((extract(epoch FROM now()) - r.updated_at)::numeric, 1) || ' s',
       coalesce(string_agg(a.address || ' #' || a.attempt || ' ' || a.state
           || CASE WHEN w.stopped_at IS NULL THEN ' alive' ELSE ' dead' END, ', '), 'no open attempt')
FROM runs r
LEFT JOIN attempts a ON a.run_id = r.id AND a.state <> 'committed'
LEFT JOIN workers w ON w.id = a.worker_id
WHERE r.status IN ('enqueued', 'running', 'failing')
GROUP BY r.id ORDER BY r.id LIMIT 40
"""


class Scene:
    """One stack, its runs, and what is known about them from outside."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.engine: AppEngine = stack.engine(APP)
        self.fault_log = folder / "faults.jsonl"
        self.journal = folder / "journal.jsonl"
        self.accepted: list[str] = []
        self.undisturbed: list[str] = []
        self._twins: set[tuple[str, int]] = set()
        with psycopg2.connect(driver_url(stack.database_url)) as connection, connection.cursor() as cursor:
            cursor.execute(steps.LEDGER.replace("TABLE", "TABLE IF NOT EXISTS"))

    def enqueue(self, name: str, canvas: Any, *, seed: int) -> RunHandle:
        """Hand a run to the workers, after its twin has been performed in peace, in this process."""
        flow = durable(canvas, name=name)
        if (name, seed) not in self._twins:
            self._twins.add((name, seed))
            self.undisturbed.append(self.engine.run_here(flow, seed=seed).run_id)
        handle = self.engine.enqueue(flow, seed=seed)
        self.accepted.append(handle.id)
        return handle

    def rule(self) -> history.Rule:
        return history.Rule(
            accepted=self.accepted,
            undisturbed=self.undisturbed,
            writes=steps.writes,
            performed=self.performed() if self.journal.exists() else None,
        )

    def performed(self) -> set[tuple[str, str, int]]:
        """(run, address, attempt) of every body that began in a worker."""
        lines = map(json.loads, self.journal.read_text().splitlines())
        return {(line["run"], line["address"], line["attempt"]) for line in lines}

    def worker(
        self, faults: Iterable[str] = (), *, concurrency: int = 2, env: dict[str, str] | None = None
    ) -> WorkerProcess:
        """Start a worker in which each rule fires once in all, however often workers are started anew."""
        rules = []
        for number, rule in enumerate(faults):
            rules.append(f"{rule},once={self.folder / f'fired-{number}'}")
        variables = {"CHAOS_JOURNAL": str(self.journal), **(env or {})}
        if rules:
            variables |= {"AOS_FAULTS": ";".join(rules), "AOS_TESTING": "1", "AOS_FAULT_LOG": str(self.fault_log)}
        return self.stack.start_worker(APP, concurrency=concurrency, env=variables)

    def fired(self) -> list[tuple[str, str]]:
        """(point, step name) of every fault that fired, in order."""
        lines = self.fault_log.read_text().splitlines() if self.fault_log.exists() else []
        return [(fault["point"], fault["address"].rpartition(".")[2]) for fault in map(json.loads, lines)]

    def wait_until_idle(self, worker: WorkerProcess) -> None:
        """Wait until the worker holds no message any more; what its processes do, if it never lets go."""
        with redis.Redis.from_url(self.stack.redis_url) as client:
            try:
                wait_until(lambda: not client.hlen("unacked"), what="every message is acknowledged", timeout_s=30)
            except AssertionError:
                _ask_where(worker)
                raise

    def settle_all(self, handles: Sequence[RunHandle], *, within_s: float) -> list[RunResult]:
        """The results of runs that all have to end within so many seconds from now."""
        deadline_s = time.monotonic() + within_s
        try:
            return [handle.wait(timeout_s=max(0.1, deadline_s - time.monotonic())) for handle in handles]
        except WaitTimeout as late:
            for worker in WorkerProcess.alive:
                _ask_where(worker)
            raise AssertionError(f"not all runs ended within {within_s:g} s:\n{self.stuck()}") from late

    def stuck(self) -> str:
        """The runs that have not ended: when they are looked at next, and how their open steps stand."""
        with psycopg2.connect(driver_url(self.stack.database_url)) as connection, connection.cursor() as cursor:
            cursor.execute(STUCK)
            return "\n".join(" ".join(map(str, row)) for row in cursor)

    def wrong(self) -> list[str]:
        """What the history checker has to say, and which runs did not succeed."""
        found = [str(violation) for violation in history.check(self.stack.database_url, self.rule())]
        for id in self.accepted:
            run = self.engine.store.run(id)
            if run.status != "succeeded":
                found.append(f"{run.workflow} ({id}) is {run.status}: {run.error}")
        return found


def _ask_where(worker: WorkerProcess) -> None:
    """Have each process of a worker that hangs write the stacks of its threads to the log (see steps.py)."""
    for pid in worker.children():
        size = len(worker.log)
        os.kill(pid, signal.SIGUSR2)
        wait_until(lambda size=size: len(worker.log) > size, what=f"{pid} has written its stacks")  # type: ignore[misc]
