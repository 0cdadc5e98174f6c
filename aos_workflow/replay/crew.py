"""Many recordings replayed in parallel, each in a process that does nothing else."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aos_workflow.divergence import Verdict
from aos_workflow.errors import ReplayProcessLost
from aos_workflow.replay.child import Child
from aos_workflow.replay.replayer import Replayed
from aos_workflow.replay.targets import Target

#: How long one golden may take, seconds, the start of its process included.
TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Crew:
    """How goldens are replayed.

    app           the module with the Celery app (AOS_APP)
    environment   this process's environment; secrets are left out of it
    processes     how many at once; 0: as many as there are cores
    volatile      the setting's volatile fields
    shuffle       a seed: the steps of a run are performed in another order than they are listed
    changes, cwd  what the processes find different: hash seed, time zone, working folder ...
    """

    app: str
    environment: Mapping[str, str]
    processes: int = 0
    volatile: tuple[str, ...] = ()
    timeout_s: float = TIMEOUT_S
    shuffle: int | None = None
    changes: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None

    def replay(self, targets: Sequence[Target]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (index of the target, ``Replayed`` as JSON) as they are done, in any order."""
        waiting: queue.SimpleQueue[tuple[int, Target]] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
        for index, target in enumerate(targets):
            waiting.put((index, target))
        count = min(len(targets), self.processes or os.cpu_count() or 1)
        threads = [threading.Thread(target=self._work, args=(waiting, done), daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            for _ in targets:
                yield done.get()
        finally:
            while not waiting.empty():  # whoever asked has stopped listening
                try:
                    waiting.get_nowait()
                except queue.Empty:
                    break
            for thread in threads:
                thread.join()

    def _work(self, waiting: queue.SimpleQueue[Any], done: queue.SimpleQueue[Any]) -> None:
        with Lane(self) as lane:
            while True:
                try:
                    index, target = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((index, lane.replay(target)))
                except Exception as error:  # whoever waits for this answer must not wait for ever
                    done.put((index, unreadable(target, {"code": "AOS_ERROR", "message": repr(error), "fix": ""})))


class Lane:
    """One process that replays, one target after the other; a new one takes the place of one that died."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._child: Child | None = None

    def replay(self, target: Target) -> dict[str, Any]:
        """``Replayed`` as JSON; the verdict is "error" for a target that could not be read and a process that died."""
        if target.document is None:
            return unreadable(target)
        crew = self._crew
        self._child = self._child or Child(
            "aos_workflow.replay.worker", crew.app, environment=crew.environment, changes=crew.changes, cwd=crew.cwd
        )
        request = {
            "document": target.document,
            "golden": target.golden,
            "volatile": list(crew.volatile),
            "shuffle": crew.shuffle,
        }
        try:
            answer: dict[str, Any] = self._child.ask(request, timeout_s=crew.timeout_s)["replayed"]
        except ReplayProcessLost as lost:
            self._child = None
            return unreadable(target, lost.as_json())
        return answer

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> Lane:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def unreadable(target: Target, error: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The answer for what could not be replayed."""
    document = target.document or {}
    return Replayed(
        workflow=str(document.get("workflow", "")),
        run_id=str(document.get("run_id", "" if target.golden else target.name)),
        golden=target.golden,
        verdict=Verdict.ERROR,
        error=error or (target.error.as_json() if target.error else None),
    ).as_json()
