"""InlineTransport: a run performed in this process, one step after the other.

The same executor, claims and commits as in a worker; only the messages stay here.
"""

from __future__ import annotations

import heapq
from typing import Any

from aos_workflow.checkpoint import CheckpointStore
from aos_workflow.executor import StepExecutor
from aos_workflow.messages import Idle, Message, Progress
from aos_workflow.plan import Plan
from aos_workflow.records import NewRun
from aos_workflow.task import CeleryTasks


class InlineTransport:
    """Performs whole runs. Siblings run left to right; a retry is waited for on the store's clock."""

    def __init__(self, executor: StepExecutor, store: CheckpointStore, app: Any) -> None:
        self._executor = executor
        self._store = store
        self._tasks = CeleryTasks(app)

    def perform(self, run: NewRun, plan: Plan) -> None:
        """Perform every step of a run that is stored and not published."""
        waiting = list(reversed(plan.ready(0)))
        later: list[tuple[float, str]] = []
        while waiting or later:
            if not waiting:
                due_at, address = heapq.heappop(later)
                self._store.clock.sleep(max(0.0, due_at - self._store.time()))
                waiting.append(address)
            address = waiting.pop()
            message = Message(run_id=run.id, address=address, epoch=1, plan=run.plan_digest)
            match self._executor.execute(message, self._tasks):
                case Progress(released=released):
                    waiting.extend(reversed(released))
                case Idle(due_at=float(due_at)):
                    heapq.heappush(later, (due_at, address))
                case Idle():
                    continue
