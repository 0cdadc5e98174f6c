"""The process that replays recordings for others: ``python -m aos_workflow.replay.worker APP``.

request    {"document": {...}, "golden": path or null, "volatile": [...], "shuffle": seed or null}
answer     {"replayed": Replayed.as_json()}, with {"seal": ..., "pid": ...}
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aos_workflow.determinism.order import shuffled
from aos_workflow.divergence import Verdict
from aos_workflow.errors import AosError
from aos_workflow.recording import Recording
from aos_workflow.registry import load_app
from aos_workflow.replay.child import cut_off_network, own_line, serve
from aos_workflow.replay.imports import harmless
from aos_workflow.replay.replayer import Order, Replayed, replay_recording
from aos_workflow.task import CeleryTasks


def main(app_name: str) -> None:
    """Serve until the parent closes the line."""
    line = own_line()
    sealed_by = cut_off_network()
    tasks: CeleryTasks | None = None
    broken: AosError | None = None
    with harmless() as imported:
        try:
            tasks = CeleryTasks(load_app(app_name))
        except AosError as error:
            broken = error

    def answer(request: dict[str, Any]) -> Mapping[str, Any]:
        replayed = _replay(request, tasks) if tasks else _unread(request, broken)
        replayed = replace(replayed, undeclared=(*replayed.undeclared, *imported.written()))
        return {"replayed": replayed.as_json(), "seal": sealed_by, "pid": os.getpid()}

    serve(answer, line)


def _replay(request: Mapping[str, Any], tasks: CeleryTasks) -> Replayed:
    try:
        recording = Recording.from_json(request["document"])
    except AosError as error:
        return _unread(request, error)
    return replay_recording(
        recording,
        tasks,
        golden=request["golden"],
        volatile=tuple(request["volatile"]),
        order=_shuffled(request["shuffle"]) if request["shuffle"] is not None else None,
        all_threads=True,
    )


def _unread(request: Mapping[str, Any], error: AosError | None) -> Replayed:
    document = request["document"]
    return Replayed(
        workflow=str(document.get("workflow", "")),
        run_id=str(document.get("run_id", "")),
        golden=request["golden"],
        verdict=Verdict.ERROR,
        error=error.as_json() if error else None,
    )


def _shuffled(seed: int) -> Order:
    return lambda addresses: shuffled(addresses, seed)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
