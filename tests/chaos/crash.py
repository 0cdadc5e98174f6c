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
from aos_workflow.records import RunResult
from tests.chaos import history, steps
from tests.stack import AppEngine, Stack, WorkerProcess, driver_url, wait_until

APP = "tests.chaos.steps"
#: The promise is 15 s from the new worker's start; the bound allows for a machine that is busy with other tests.
RECOVERY_S = 30.0


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
        with psycopg2.connect(driver_url(stack.database_url)) as connection, connection.cursor() as cursor:
            cursor.execute(steps.LEDGER.replace("TABLE", "TABLE IF NOT EXISTS"))

    def enqueue(self, name: str, canvas: Any, *, seed: int) -> RunHandle:
        """Perform the run in peace, in this process, then hand it to the workers."""
        flow = durable(canvas, name=name)
        twin = self.engine.run_here(flow, seed=seed)
        self.undisturbed.append(twin.run_id)
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
                for pid in worker.children():
                    os.kill(pid, signal.SIGUSR2)  # see steps.py
                raise

    def wrong(self) -> list[str]:
        """What the history checker has to say, and which runs did not succeed."""
        found = [str(violation) for violation in history.check(self.stack.database_url, self.rule())]
        for id in self.accepted:
            run = self.engine.store.run(id)
            if run.status != "succeeded":
                found.append(f"{run.workflow} ({id}) is {run.status}: {run.error}")
        return found


def settle_all(handles: Sequence[RunHandle], *, within_s: float) -> list[RunResult]:
    """The results of runs that all have to end within so many seconds from now."""
    deadline_s = time.monotonic() + within_s
    return [handle.wait(timeout_s=max(0.1, deadline_s - time.monotonic())) for handle in handles]
