"""What goes wrong during a random run: a seeded choice of kills, losses and duplicates."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg2
import redis

from tests.chaos.crash import Scene
from tests.stack import WorkerProcess, driver_url, wait_until


class Nemesis:
    """Two workers, and somebody who means them ill. The same seed chooses the same deeds in the same order."""

    WORKERS = 2

    def __init__(self, scene: Scene, chance: random.Random, *, step_s: float) -> None:
        self._scene = scene
        self._chance = chance
        self._step_s = step_s
        self.done: Counter[str] = Counter()
        self._redis = redis.Redis.from_url(scene.stack.redis_url)
        self._orphans: list[WorkerProcess] = []
        self._workers = [self._start() for _ in range(self.WORKERS)]
        self._deeds: list[tuple[int, Callable[[], bool]]] = [
            (4, self.kill_a_child),
            (4, self.kill_a_worker),
            (1, self.kill_a_parent),
            (2, self.flush_the_queue),
            (4, self.duplicate_messages),
            (2, self.cut_database_connections),
        ]

    def act(self) -> None:
        """One deed; another choice if there was nothing to do it to."""
        weights = [weight for weight, _ in self._deeds]
        (deed,) = self._chance.choices([deed for _, deed in self._deeds], weights)
        if deed():
            self.done[deed.__name__] += 1
        elif self.kill_a_child():
            self.done["kill_a_child"] += 1

    def rest(self) -> None:
        """Make good: two workers that take messages."""
        self._workers = [worker if not worker.has_ended else self._start() for worker in self._workers]
        for worker in self._workers:
            worker.wait_until_ready()

    def close(self) -> None:
        for worker in (*self._workers, *self._orphans):
            worker.kill()
        self._redis.close()

    @property
    def kills(self) -> int:
        return sum(count for deed, count in self.done.items() if deed.startswith("kill"))

    # --- deeds ------------------------------------------------------------------------------

    def kill_a_child(self) -> bool:
        """SIGKILL one process of a pool, as the kernel does when memory runs out; one that performs a step, if any."""
        pids = [pid for worker in self._workers if worker.is_ready for pid in worker.children()]
        busy = self._query("SELECT pid FROM attempts WHERE state = 'running'")
        return bool(pids) and _kill(self._chance.choice([pid for pid in pids if pid in busy] or pids))

    def kill_a_worker(self) -> bool:
        """SIGKILL a worker with all its children, and start another in its place."""
        place = self._victim()
        self._workers[place].kill()
        self._workers[place] = self._start()
        return True

    def kill_a_parent(self) -> bool:
        """SIGKILL a worker's main process alone; its children are orphans. Start another in its place."""
        place = self._victim()
        self._workers[place].signal(signal.SIGKILL)
        self._workers[place].wait_until_ended()
        self._orphans.append(self._workers[place])
        self._workers[place] = self._start()
        return True

    def flush_the_queue(self) -> bool:
        """Everything in the broker is gone: messages that wait, and those in flight."""
        self._redis.flushall()
        return True

    def duplicate_messages(self) -> bool:
        """Some messages that wait come two or three times more, in any order."""
        waiting = self._redis.lrange("celery", 0, -1)
        for message in self._chance.sample(waiting, min(len(waiting), 10)):
            for _ in range(self._chance.randint(1, 3)):
                copy = json.loads(message)
                copy["properties"]["delivery_tag"] = str(uuid.UUID(int=self._chance.getrandbits(128)))
                self._chance.choice([self._redis.lpush, self._redis.rpush])("celery", json.dumps(copy))
        return bool(waiting)

    def cut_database_connections(self) -> bool:
        """End every connection of the workers to the database, whatever it is in the middle of."""
        return bool(
            self._query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name LIKE 'aos worker%'"
            )
        )

    def _query(self, statement: str) -> list[Any]:
        """The first column of the answer."""
        url = driver_url(self._scene.stack.database_url)
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return [row[0] for row in cursor]

    def _victim(self) -> int:
        """The worker to kill: one that works, while there is one, or there would be nothing to interrupt."""
        wait_until(lambda: any(worker.is_ready for worker in self._workers), what="a worker is ready")
        ready = [place for place, worker in enumerate(self._workers) if worker.is_ready]
        running = self._query("SELECT pid FROM attempts WHERE state = 'running'")
        busy = [place for place in ready if not set(running).isdisjoint(self._workers[place].children())]
        return self._chance.choice(busy or ready)

    def _start(self) -> WorkerProcess:
        return self._scene.worker(env={"CHAOS_STEP_S": str(self._step_s)})


def _kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
