"""Laboratory: the processes in which steps are performed for the sake of looking at them, one per hash seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from aos_workflow.errors import ReplayProcessLost
from aos_workflow.replay.child import Child
from aos_workflow.replay.controls import Control

#: How long one performance may take, seconds.
TIMEOUT_S = 60.0
#: Processes that are started for one list of recordings, at most.
MOST_PROCESSES = 12
#: What ``observing`` answers: {"performed", "sites", ...}, {"error"} or {"lost"}; {} when nothing was asked.
Answer: TypeAlias = Mapping[str, Any]


class Laboratory:
    """Starts a process when its hash seed is first needed, and hands it what is to be performed."""

    def __init__(self, app: str, environment: Mapping[str, str], volatile: tuple[str, ...] = ()) -> None:
        self._app, self._environment, self._volatile = app, environment, volatile
        self._children: dict[int | None, Child] = {}
        self.started = 0
        self.performances = 0

    def perform(self, documents: Sequence[Any], control: Control, *, timeout_s: float = TIMEOUT_S) -> Answer:
        """The answer of ``observing`` to one request; {"lost": how} if there is none."""
        self.performances += 1
        if control.hash_seed not in self._children and self.started >= MOST_PROCESSES:
            return {"lost": "too many processes were lost"}
        child = self._child(control.hash_seed)
        request = {
            "documents": list(documents),
            "volatile": list(self._volatile),
            "control": control.as_json(),
            "timeout_s": timeout_s,
        }
        try:
            return child.ask(request, timeout_s=timeout_s + 30)
        except ReplayProcessLost as lost:
            self._children.pop(control.hash_seed, None)
            return {"lost": str(lost)}

    def perform_all(
        self, documents: Sequence[Any], wanted: Sequence[Control], *, timeout_s: float = TIMEOUT_S
    ) -> list[Answer]:
        """Several controls, each process doing its own one after the other, the processes side by side."""
        by_seed: dict[int | None, list[int]] = {}
        for index, control in enumerate(wanted):
            by_seed.setdefault(control.hash_seed, []).append(index)
        answers: list[Answer] = [{}] * len(wanted)

        def one_process(indices: list[int]) -> None:
            for index in indices:
                answers[index] = self.perform(documents, wanted[index], timeout_s=timeout_s)

        with ThreadPoolExecutor(max_workers=len(by_seed)) as pool:
            list(pool.map(one_process, by_seed.values()))
        return answers

    def _child(self, hash_seed: int | None) -> Child:
        if hash_seed not in self._children:
            self.started += 1
            written = "random" if hash_seed is None else str(hash_seed)
            self._children[hash_seed] = Child(
                "aos_workflow.replay.observing",
                self._app,
                environment=self._environment,
                changes={"PYTHONHASHSEED": written},
                cwd=Path.cwd(),
            )
        return self._children[hash_seed]

    def close(self) -> None:
        for child in self._children.values():
            child.close()
        self._children.clear()
